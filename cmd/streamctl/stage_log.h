#ifndef STREAMCTL_STAGE_LOG_H
#define STREAMCTL_STAGE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "net/loop.h"

/* What a stage writes to stderr: kept in a file that is renamed to FILE.1 when it has grown to a limit, shown on our stderr when
 * `echo` (lines longer than PIPE_BUF cut, and lost while there is no room: log.h), and its last words remembered for the status. */
typedef struct stage_log stage_log_t;

stage_log_t *stage_log_new(loop_t *loop, const char *path, uint64_t limit, bool echo);
void stage_log_free(stage_log_t *log);                /* NULL is legal */

/* A new process begins: returns the descriptor for its stderr (the caller closes it after fork), or -1. Last words are forgotten. */
int stage_log_begin(stage_log_t *log, err_t *err);
/* The process has ended: takes what is still in the pipe. */
void stage_log_end(stage_log_t *log);

/* Its last error, else its last line, without time and name; "" when there is none. Borrowed until the next line. */
const char *stage_log_words(const stage_log_t *log);

/* Renames a log that our own stderr goes to when it has grown too large, and begins a new one. */
void stage_log_rotate_own(const char *path, uint64_t limit);

#endif
