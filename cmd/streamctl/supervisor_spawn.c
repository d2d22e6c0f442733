/* Starting one process: settings in a memory file (secrets stand in no argument list and no file), readiness over a pipe, messages over
 * another, and death with its supervisor. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "orphans.h"
#include "supervisor_private.h"
#include "tools.h"

#define SETTINGS_FD 3
#define READY_FD 4

typedef struct plumbing {
    int settings, ready[2], messages;
} plumbing_t;

void child_close_ready(child_t *child) {
    loop_remove(child->ready_watch);
    child->ready_watch = NULL;
    if (child->ready_fd >= 0)
        close(child->ready_fd);
    child->ready_fd = -1;
}

/* A newline on the ready pipe. Its end without one: not ready, and it will exit or run into the time limit. */
static void on_ready(void *argument, uint32_t events) {
    child_t *child = argument;
    char bytes[64];
    ssize_t n = read(child->ready_fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    bool ready = n > 0 && memchr(bytes, '\n', (size_t) n);
    if (!ready && n > 0)
        return;
    child_close_ready(child);
    if (ready)
        child_event(child, EVENT_READY);
}

int spawn_settings(json_t *settings, int *fd, err_t *err) {
    char *text = json_dumps(settings, JSON_COMPACT);
    json_decref(settings);
    *fd = memfd_create("settings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int result = *fd < 0 ? err_errno(err, "make a memory file") : file_write_all(*fd, text, strlen(text), err);
    if (result == 0) {
        lseek(*fd, 0, SEEK_SET);
        fcntl(*fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    }
    explicit_bzero(text, strlen(text));
    free(text);
    return result;
}

static int write_settings(const child_t *child, int *fd, err_t *err) {
    json_t *settings = json_copy(child->stage->settings);
    json_object_set_new(settings, "ready_fd", json_integer(READY_FD));
    if (child->interval > 0)
        json_object_set_new(settings, "interval", json_real(child->interval));
    return spawn_settings(settings, fd, err);
}

/* Moves a descriptor out of the way of the fixed numbers. */
static int lift(int fd) {
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 10);
    close(fd);
    return high;
}

/* In the new process, between fork and exec. */
static _Noreturn void become(const child_t *child, char *const *arguments, const plumbing_t *plumbing, pid_t parent, bool keep_stdout) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died between fork and prctl */
        _exit(1);
    setsid(); /* Ctrl-C at the terminal is for the supervisor alone, which then drains in order */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool good = null >= 0 && dup2(null, 0) >= 0 && dup2(plumbing->messages, 2) >= 0 &&
                (keep_stdout || dup2(plumbing->messages, 1) >= 0) && dup2(plumbing->settings, SETTINGS_FD) >= 0 &&
                dup2(plumbing->ready[1], READY_FD) >= 0;
    if (!good || close_range(READY_FD + 1, ~0u, 0) != 0)
        _exit(1);
    if (chdir(child->supervisor->setup.config->directory) != 0)
        dprintf(2, "cannot change to %s: %s\n", child->supervisor->setup.config->directory, strerror(errno));
    else
        execvp(arguments[0], arguments);
    dprintf(2, "cannot run %s: %s\n", arguments[0], strerror(errno));
    _exit(errno == ENOENT || errno == EACCES ? 64 : 1);
}

static void close_plumbing(plumbing_t *plumbing) {
    int *fds[] = {&plumbing->settings, &plumbing->ready[0], &plumbing->ready[1], &plumbing->messages};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

static int open_plumbing(child_t *child, plumbing_t *plumbing, err_t *err) {
    *plumbing = (plumbing_t){-1, {-1, -1}, -1};
    if (write_settings(child, &plumbing->settings, err))
        return -1;
    if (pipe2(plumbing->ready, O_CLOEXEC | O_NONBLOCK))
        return err_errno(err, "make a pipe");
    fcntl(plumbing->ready[1], F_SETFL, 0);
    if ((plumbing->messages = stage_log_begin(child->log, err)) < 0)
        return -1;
    plumbing->settings = lift(plumbing->settings);
    plumbing->ready[1] = lift(plumbing->ready[1]);
    plumbing->messages = lift(plumbing->messages);
    if (plumbing->settings < 0 || plumbing->ready[1] < 0 || plumbing->messages < 0)
        return err_errno(err, "make descriptors");
    return 0;
}

int child_spawn(child_t *child, err_t *err) {
    const supervisor_t *supervisor = child->supervisor;
    const topology_stage_t *stage = child->stage;
    plumbing_t plumbing;
    bool server = stage->role == ROLE_SERVER;
    if (open_plumbing(child, &plumbing, err)) {
        close_plumbing(&plumbing);
        return -1;
    }
    char *path = server ? mem_text(supervisor->own_path) : tools_path(topology_tool_names[stage->role]);
    char *of_server[] = {path, "facade", "--settings", "fd:3", NULL};
    char *of_stage[] = {path, "--name", stage->group, "--settings", "fd:3", NULL};
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(child, server ? of_server : of_stage, &plumbing, parent,
               stage->role == ROLE_BROADCAST && supervisor->setup.foreground);
    mem_free(path);
    if (pid < 0) {
        err_errno(err, "start %s", stage->name);
        close_plumbing(&plumbing);
        return -1;
    }
    child->pid = pid;
    orphan_note(supervisor->setup.topology->run_dir, stage->name, pid);
    child->ready_fd = plumbing.ready[0];
    plumbing.ready[0] = -1;
    child->ready_watch = loop_fd(supervisor->setup.loop, child->ready_fd, EPOLLIN, on_ready, child);
    close_plumbing(&plumbing);
    return 0;
}

void child_signal(const child_t *child, int signal) {
    if (child->pid <= 0)
        return;
    kill(child->pid, signal);
    if (signal == SIGKILL)
        kill(-child->pid, SIGKILL); /* and what it has started: its session is its own */
}
