/* Starts and ends commands. */
#include "base/child.h"

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

static char **environment(const char *const *pass, size_t pass_count) {
    static const char *const passed[] = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"};
    size_t known = sizeof passed / sizeof *passed, count = 0;
    char **list = mem_zero((known + pass_count + 2) * sizeof *list);
    list[count++] = mem_text("PYTHONUNBUFFERED=1");
    for (size_t i = 0; i < known + pass_count; i++) {
        const char *name = i < known ? passed[i] : pass[i - known], *value = getenv(name);
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
        dup2(fds[i], i);               /* none of fds is one of these three: child_start */
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

/* A descriptor above those that the command is to have. */
static int raised(int fd) {
    int high = fd < 0 || fd > STDERR_FILENO ? fd : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd >= 0 && high != fd)
        close(fd);
    return high;
}

enum { THEIR_IN, OUR_IN, OUR_OUT, THEIR_OUT, OUR_ERR, THEIR_ERR, ENDS };

static int open_ends(int *fds, bool input, err_t *err) {
    for (int i = 0; i < ENDS; i++)
        fds[i] = -1;
    if (!input)
        fds[THEIR_IN] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool good = input ? !pipe2(fds + THEIR_IN, O_CLOEXEC) : fds[THEIR_IN] >= 0;
    good = good && !pipe2(fds + OUR_OUT, O_CLOEXEC) && !pipe2(fds + OUR_ERR, O_CLOEXEC);
    for (int i = 0; good && i < ENDS; i++) {
        bool is_open = fds[i] >= 0;
        fds[i] = raised(fds[i]);
        good = !is_open || fds[i] >= 0;
    }
    if (good)
        return 0;
    err_errno(err, "cannot start the command");
    close_all(fds, ENDS);
    return -1;
}

static pid_t fork_command(const char *command, const int *fds, const char *const *pass, size_t count) {
    char **list = environment(pass, count);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        run(command, list, (int[]){fds[THEIR_IN], fds[THEIR_OUT], fds[THEIR_ERR]}, parent);
    for (char **entry = list; *entry; entry++)
        mem_free(*entry);
    mem_free(list);
    return pid;
}

int child_start(child_t *child, const char *command, bool input, const char *const *pass, size_t count, err_t *err) {
    int fds[ENDS];
    if (open_ends(fds, input, err))
        return -1;
    pid_t pid = fork_command(command, fds, pass, count);
    int ended = pid < 0 ? -1 : (int) syscall(SYS_pidfd_open, pid, 0);
    if (ended < 0) {
        err_errno(err, "cannot start the command");
        if (pid > 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        close_all(fds, ENDS);
        return -1;
    }
    setpgid(pid, pid); /* whoever of the two comes first */
    close_all((int[]){fds[THEIR_IN], fds[THEIR_OUT], fds[THEIR_ERR]}, 3);
    for (int i = 0; i < 3; i++) {
        int ours = fds[(int[]){OUR_IN, OUR_OUT, OUR_ERR}[i]];
        if (ours >= 0)
            fcntl(ours, F_SETFL, O_NONBLOCK);
    }
    *child = (child_t){.pid = pid, .in = fds[OUR_IN], .out = fds[OUR_OUT], .err = fds[OUR_ERR], .ended = ended};
    return 0;
}

/* Its number is not free for others before it has been waited for. */
static int wait_for(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

int child_reap(pid_t pid) {
    siginfo_t info;
    while (waitid(P_PID, (id_t) pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    kill(-pid, SIGKILL);
    return wait_for(pid);
}

void child_kill(pid_t pid) {
    kill(-pid, SIGKILL);
    wait_for(pid);
}

void child_end(pid_t pid) {
    int ended = (int) syscall(SYS_pidfd_open, pid, 0);
    struct pollfd wait = {.fd = ended, .events = POLLIN};
    kill(-pid, SIGTERM);
    if (ended >= 0) {
        poll(&wait, 1, PATIENCE_MS);
        close(ended);
    }
    child_kill(pid);
}
