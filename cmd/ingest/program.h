#ifndef INGEST_PROGRAM_H
#define INGEST_PROGRAM_H

#include <sys/types.h>

#include "data/option.h"

/* A command that runs under sh, in a process group of its own, without standard input. It dies with us, and gets of our environment only what
 * programs need to run, and the variables of `pass`. */
typedef struct program {
    pid_t pid;
    int out, err;                  /* its standard output and standard error, non-blocking: the caller's to close */
    int ended;                     /* a descriptor that is readable when it has ended; the caller's to close */
} program_t;

int program_start(program_t *program, const char *command, const option_list_t *pass, err_t *err);
/* Readable `ended`: reaps it, and ends what it has left behind. Returns waitpid's status. */
int program_reap(pid_t pid);
/* Asks it to end, gives it a moment, then ends it, and all its processes. */
void program_end(pid_t pid);

#endif
