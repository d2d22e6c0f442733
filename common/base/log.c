/* The log: one line per message on stderr, written with one write so that lines of several processes do not mix. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

#define TEXT_MAX 2048 /* bytes of a message before, */
#define SHOWN_MAX 3072 /* and after what cannot be shown is escaped: below PIPE_BUF with what stands in front */

const char *const log_level_names[4] = {"error", "warning", "info", "debug"};

static struct {
    char tool[32], name[130];
    log_level_t level;
    log_listener_fn *listener;
    bool busy; /* a listener that logs must not call itself */
} the_log = {.level = LOG_INFO};

void log_open(const char *tool, const char *name, log_level_t level) {
    snprintf(the_log.tool, sizeof the_log.tool, "%s", tool);
    snprintf(the_log.name, sizeof the_log.name, "%s", name ? name : "");
    the_log.level = level;
}

void log_set_level(log_level_t level) {
    the_log.level = level;
}

bool log_enabled(log_level_t level) {
    return level <= the_log.level;
}

void log_listen(log_listener_fn *listener) {
    the_log.listener = listener;
}

void log_at(log_level_t level, const char *format, ...) {
    if (!log_enabled(level))
        return;
    int saved = errno;
    char text[TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    bool cut = vsnprintf(text, sizeof text, format, arguments) >= (int) sizeof text;
    va_end(arguments);
    size_t size = strlen(text);
    while (size && text[size - 1] == '\n')
        size--;
    char stamp[32];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
    buf_t line = {0};
    buf_format(&line, "%s.%03ldZ %s %s%s%s%s ", stamp, now.tv_nsec / 1000000, log_level_names[level],
               the_log.tool[0] ? the_log.tool : "stream", the_log.name[0] ? "[" : "", the_log.name,
               the_log.name[0] ? "]" : "");
    size_t start = line.size;
    text_put_visible(&line, text_make(text, size), SHOWN_MAX); /* what came in with the text cannot begin another line */
    if (cut)
        buf_put_text(&line, "...");
    if (level <= LOG_WARNING && the_log.listener && !the_log.busy) {
        the_log.busy = true;
        the_log.listener(level, buf_text(&line) + start);
        the_log.busy = false;
    }
    buf_put_byte(&line, '\n');
    ssize_t written;
    do
        written = write(STDERR_FILENO, line.data, line.size);
    while (written < 0 && errno == EINTR);
    buf_fini(&line);
    errno = saved;
}

bool log_limited(log_limit_t *limit) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = now.tv_sec * NS_PER_S + now.tv_nsec;
    if (limit->window && ns - limit->window < NS_PER_S) {
        limit->held++;
        return false;
    }
    limit->window = ns;
    limit->reported = limit->held;
    limit->held = 0;
    return true;
}
