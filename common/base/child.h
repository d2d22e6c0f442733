#ifndef BASE_CHILD_H
#define BASE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* A command that runs under sh, in a process group of its own. It dies with us, and gets of our environment only what programs need to run, so
 * that it sees no secrets but those that are named. */
typedef struct child {
    pid_t pid;
    int in;                        /* its standard input, where it was wanted, else -1 (and it reads /dev/null); non-blocking as the others: */
    int out, err;                  /* its standard output and standard error; all three are the caller's to close */
    int ended;                     /* a descriptor that is readable when it has ended; the caller's to close */
} child_t;

/* pass: names of `count` more variables that it gets. */
int child_start(child_t *child, const char *command, bool input, const char *const *pass, size_t count, err_t *err);
/* Waits for it, which is at once when `ended` is readable, and ends what it has left behind. Returns waitpid's status. */
int child_reap(pid_t pid);
/* Ends it and all its processes at once. */
void child_kill(pid_t pid);
/* Asks it to end, gives it a moment, then ends it and all its processes. */
void child_end(pid_t pid);

#endif
