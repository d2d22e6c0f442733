#ifndef BASE_LOG_OUTPUT_H
#define BASE_LOG_OUTPUT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Standard error, written without ever waiting for who reads it, and without a change to what other processes share of it. Not for two
 * threads at a time. */

/* One line with its end, of at most PIPE_BUF bytes. False: there is no room for it now. True: it is written, or it is lost on something
 * that will not take another one either (closed, no reader). */
bool log_output_write(const char *line, size_t size);

/* The same for the last words of a process, which may take up to a second. Allocates nothing. */
void log_output_last_words(const char *line, size_t size);

#define LOG_OUTPUT_TRIES 100           /* within that second */
void log_output_pause(void);           /* between two of them */

#endif
