/* Starts and ends commands. */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

#define PATIENCE_MS 1000

static char **environment(const option_list_t *pass) {
    static const char *const passed[] = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"};
    size_t known = sizeof passed / sizeof *passed, count = 0;
    char **list = mem_zero((known + pass->count + 2) * sizeof *list);
    list[count++] = mem_text("PYTHONUNBUFFERED=1");
    for (size_t i = 0; i < known + pass->count; i++) {
        const char *name = i < known ? passed[i] : pass->items[i - known], *value = getenv(name);
        if (value)
            list[count++] = mem_format("%s=%s", name, value);
    }
    return list;
}

static _Noreturn void run(const char *command, char **list, const int *fds, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setpgid(0, 0);
    for (int i = 0; i < 3; i++)
        dup2(fds[i], i);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    char *arguments[] = {(char *) "sh", (char *) "-c", (char *) (uintptr_t) command, NULL};
    execve("/bin/sh", arguments, list);
    _exit(127);
}

static void close_all(const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int program_start(program_t *program, const char *command, const option_list_t *pass, err_t *err) {
    int fds[5] = {-1, -1, -1, -1, -1}; /* /dev/null, output's two ends, standard error's */
    fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fds[0] < 0 || pipe2(fds + 1, O_CLOEXEC) || pipe2(fds + 3, O_CLOEXEC)) {
        err_errno(err, "cannot start the command");
        close_all(fds, 5);
        return -1;
    }
    char **list = environment(pass);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        run(command, list, (int[]){fds[0], fds[2], fds[4]}, parent);
    for (char **entry = list; *entry; entry++)
        mem_free(*entry);
    mem_free(list);
    int ended = pid < 0 ? -1 : (int) syscall(SYS_pidfd_open, pid, 0);
    if (ended < 0) {
        err_errno(err, "cannot start the command");
        if (pid > 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        close_all(fds, 5);
        return -1;
    }
    setpgid(pid, pid); /* whoever of the two comes first */
    close_all((int[]){fds[0], fds[2], fds[4]}, 3);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    fcntl(fds[3], F_SETFL, O_NONBLOCK);
    *program = (program_t){.pid = pid, .out = fds[1], .err = fds[3], .ended = ended};
    return 0;
}

int program_reap(pid_t pid) {
    int status = 0;
    kill(-pid, SIGKILL); /* before its number is free for others */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

void program_end(pid_t pid) {
    int ended = (int) syscall(SYS_pidfd_open, pid, 0);
    struct pollfd wait = {.fd = ended, .events = POLLIN};
    kill(-pid, SIGTERM);
    if (ended >= 0) {
        poll(&wait, 1, PATIENCE_MS);
        close(ended);
    }
    program_reap(pid);
}
