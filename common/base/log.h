#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One line per message on stderr: "2026-01-02T03:04:05.678Z warning ingest[sensors] text". The text says
 * what, on what, why and the remedy; secrets never go in. File-level state: one log per process. */
typedef enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG } log_level_t;

extern const char *const log_level_names[4];          /* error warning info debug */

/* `tool` and `name` are copied. name may be NULL. */
void log_open(const char *tool, const char *name, log_level_t level);
void log_set_level(log_level_t level);
bool log_enabled(log_level_t level);

void log_at(log_level_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* Nobody waits for who reads stderr: lines that find no room there are counted and lost, all but the last error. log_catch_up says how many
 * they were and gives that error once there is room; true: nothing is left to be said. The loop calls it each LOG_BEHIND_NS, every new line does. */
#define LOG_BEHIND_NS INT64_C(1000000000)
bool log_behind(void);
bool log_catch_up(void);
/* Before the process leaves: gives what is left to be said up to a second to find room. */
void log_close(void);

/* A line of somebody else's log with its end, of at most PIPE_BUF bytes: it goes to stderr as it is, or is lost as above. */
void log_relay(const char *line, size_t size);

/* Called with every warning and error that is written, for the metrics' notices. One listener. */
typedef void log_listener_fn(log_level_t level, const char *text);
void log_listen(log_listener_fn *listener);

/* For bad input: lets one message a second through and says how many it held back before it.
 *     static log_limit_t limit;  if (log_limited (&limit)) log_warning ("..."); */
typedef struct log_limit {
    int64_t window;       /* monotonic ns of the present second */
    uint64_t held;        /* since the last one let through */
    uint64_t reported;    /* how many were held before this one: for the text */
} log_limit_t;
bool log_limited(log_limit_t *limit);

#endif
