/* The log: one line per message on stderr, written with one write so that lines of several processes do not mix. Nobody waits for it: lines
 * that find no room are counted, and the next one that finds some says how many. The last error of them is kept and follows. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log_output.h"
#include "base/text.h"

#define TEXT_MAX 2048 /* bytes of a message before, */
#define SHOWN_MAX 3072 /* and after what cannot be shown is escaped: below PIPE_BUF with what stands in front */

const char *const log_level_names[4] = {"error", "warning", "info", "debug"};

static struct {
    char tool[32], name[130];
    log_level_t level;
    log_listener_fn *listener;
    bool busy; /* a listener that logs must not call itself */
    pthread_mutex_t lock; /* of what follows */
    uint64_t lost;
    char kept[PIPE_BUF]; /* the last error that found no room: why a process ended should be told */
    size_t kept_size;
} the_log = {.level = LOG_INFO, .lock = PTHREAD_MUTEX_INITIALIZER};

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

/* What stands in front of a message. */
static void put_head(buf_t *line, log_level_t level) {
    char stamp[32];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
    buf_format(line, "%s.%03ldZ %s %s%s%s%s ", stamp, now.tv_nsec / 1000000, log_level_names[level],
               the_log.tool[0] ? the_log.tool : "stream", the_log.name[0] ? "[" : "", the_log.name,
               the_log.name[0] ? "]" : "");
}

/* True: nothing is left to be said of what found no room. */
static bool catch_up(void) {
    bool done = true;
    if (the_log.lost) {
        buf_t line = {0};
        put_head(&line, LOG_WARNING);
        buf_format(&line, "%llu line%s of the log before this one found no room on standard error and are lost\n",
                   (unsigned long long) the_log.lost, the_log.lost == 1 ? "" : "s");
        done = log_output_write(buf_text(&line), line.size);
        buf_fini(&line);
    }
    if (done)
        the_log.lost = 0;
    if (done && the_log.kept_size)
        done = log_output_write(the_log.kept, the_log.kept_size);
    if (done)
        the_log.kept_size = 0;
    return done;
}

static void put_line(const char *line, size_t size, bool keep) {
    pthread_mutex_lock(&the_log.lock);
    if (!catch_up() || !log_output_write(line, size)) {
        the_log.lost += !keep || the_log.kept_size;
        if (keep && size <= sizeof the_log.kept) {
            memcpy(the_log.kept, line, size);
            the_log.kept_size = size;
        }
    }
    pthread_mutex_unlock(&the_log.lock);
}

bool log_behind(void) {
    pthread_mutex_lock(&the_log.lock);
    bool behind = the_log.lost || the_log.kept_size;
    pthread_mutex_unlock(&the_log.lock);
    return behind;
}

bool log_catch_up(void) {
    pthread_mutex_lock(&the_log.lock);
    bool done = catch_up();
    pthread_mutex_unlock(&the_log.lock);
    return done;
}

void log_close(void) {
    for (int i = 0; i < LOG_OUTPUT_TRIES && !log_catch_up(); i++)
        log_output_pause();
}

void log_relay(const char *line, size_t size) {
    put_line(line, size, false);
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
    buf_t line = {0};
    put_head(&line, level);
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
    put_line(buf_text(&line), line.size, level == LOG_ERROR);
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
