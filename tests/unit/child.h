#ifndef TESTS_UNIT_CHILD_H
#define TESTS_UNIT_CHILD_H

/* For tests of what ends a process or writes to its standard error: runs a function in a child and says how that ended. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct child {
    int status;           /* as waitpid gives it; 0: the function returned */
    size_t size;
    char text[65536];     /* its standard error, cut, NUL-terminated */
} child_t;

static inline void child_run(child_t *child, void (*body)(void *argument), void *argument) {
    int ends[2];
    if (pipe(ends))
        abort();
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body(argument);
        _exit(0);
    }
    close(ends[1]);
    child->size = 0;
    ssize_t n;
    while ((n = read(ends[0], child->text + child->size, sizeof child->text - 1 - child->size)) > 0)
        child->size += (size_t) n;
    child->text[child->size] = 0;
    close(ends[0]);
    if (waitpid(pid, &child->status, 0) != pid)
        abort();
}

static inline int child_aborted(const child_t *child) {
    return WIFSIGNALED(child->status) && WTERMSIG(child->status) == SIGABRT;
}

static inline int child_exited(const child_t *child, int status) {
    return WIFEXITED(child->status) && WEXITSTATUS(child->status) == status;
}

#endif
