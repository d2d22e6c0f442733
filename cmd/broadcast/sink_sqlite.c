/* sqlite: events as rows of a table. A thread of its own does the transactions, each of them rows and progress together, because a commit waits for
 * the disk. Progress is in the database itself, so that it is exact with --state, and recognises repeats without. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "sink.h"
#include "sqlite_job.h"

#define FRAMES_MOST 4096               /* in one transaction */
#define BYTES_MOST (4u * 1024 * 1024)

typedef struct sqlite_sink {
    char *table;
    int mode, time;
    option_list_t columns;
    int64_t columns_max, keep_rows, keep_for;
    char *path;
    bool opened;
    sqlite_store_t store;
    sqlite_job_t next;                 /* being collected */
    size_t next_bytes;
    int64_t refused, noted, forget;    /* rows of refused events: written as dead letters; and in the progress on its way to the disk; which is there */

    bool running;                      /* the thread has `job` */
    int event;
    loop_watch_t *watch;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool ordered, stop;                /* under the lock */
    sqlite_job_t job;
} sqlite_sink_t;

static int sqlite_check(sink_t *sink, err_t *err) {
    const sqlite_sink_t *self = sink->own;
    const char *path = sink->target;
    if (!path[0] || strcmp(path, "//") == 0)
        return err_set(err, "sqlite: needs a path, as in sqlite:events.db?table=readings");
    if (!self->table[0] || strncasecmp(self->table, "sqlite_", 7) == 0 || strncasecmp(self->table, "_stream_", 8) == 0)
        return err_set(err, "table %s: this name is not free", self->table);
    return 0;
}

static void *work(void *argument) {
    sqlite_sink_t *self = argument;
    pthread_mutex_lock(&self->lock);
    for (;;) {
        while (!self->ordered && !self->stop)
            pthread_cond_wait(&self->wake, &self->lock);
        if (self->stop)
            break;
        self->ordered = false;
        pthread_mutex_unlock(&self->lock);
        sqlite_job_run(&self->store, &self->job);
        eventfd_write(self->event, 1);
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static void take(sqlite_sink_t *self, sink_t *sink, frame_t *frame) {
    sqlite_job_t *next = &self->next;
    if (next->count == next->room) {
        next->room = next->room ? 2 * next->room : 64;
        next->frames = mem_resize(next->frames, next->room * sizeof *next->frames);
        next->keys = mem_resize(next->keys, next->room * sizeof *next->keys);
    }
    const char *key = sink_frame_key(sink, frame);
    next->keys[next->count] = key;
    next->frames[next->count++] = frame;
    self->next_bytes += frame->body_size;
    if (!frame->origin[0])
        return;
    for (uint32_t i = 0; i < next->reached_count; i++) {
        if (strcmp(next->reached[i].frame->origin, frame->origin) == 0 && strcmp(next->reached[i].key, key) == 0) {
            next->reached[i].frame = frame;
            return;
        }
    }
    if (next->reached_count == next->reached_room) {
        next->reached_room = next->reached_room ? 2 * next->reached_room : 8;
        next->reached = mem_resize(next->reached, next->reached_room * sizeof *next->reached);
    }
    next->reached[next->reached_count++] = (sqlite_reached_t){key, frame};
}

static void begin(sink_t *sink) {
    sqlite_sink_t *self = sink->own;
    if (self->running || !self->next.count)
        return;
    sqlite_job_t spare = self->job;
    self->job = self->next;
    self->next = spare;
    self->next_bytes = 0;
    self->job.keep_refused = sink->progress != NULL;
    self->job.forget = self->forget;
    self->forget = 0;
    self->running = true;
    pthread_mutex_lock(&self->lock);
    self->ordered = true;
    pthread_cond_signal(&self->wake);
    pthread_mutex_unlock(&self->lock);
}

static void forget_all(sqlite_sink_t *self) {
    sqlite_job_clear(&self->job);
    sqlite_job_clear(&self->next);
    self->next_bytes = 0;
}

static void finished(void *argument, uint32_t events) {
    sink_t *sink = argument;
    sqlite_sink_t *self = sink->own;
    sqlite_job_t *job = &self->job;
    eventfd_t count;
    eventfd_read(self->event, &count);
    self->running = false;
    if (job->failed) {
        err_t err = job->err;
        err_wrap(&err, "%s", self->path);
        self->forget = job->forget;
        forget_all(self);
        sink->full = false;
        sink_answer(sink, SINK_RETRY, 0, err.text);
        return;
    }
    if (job->begun_anew)
        log_error("sink %s: %s was moved or deleted by something else: it is begun anew", sink->name, self->path);
    for (uint32_t i = 0; i < job->refused_count; i++) {
        const sqlite_refused_t *refused = &job->refused[i];
        sink_refuse(sink, job->frames[refused->frame], &refused->event, refused->reason);
    }
    if (job->last_refused)
        self->refused = job->last_refused;
    uint32_t frames = job->count;
    sqlite_job_clear(job);
    sink_answer(sink, SINK_OK, frames, NULL);
    begin(sink);
    if (sink->full)
        sink_more(sink);
}

static void sqlite_write(sink_t *sink, frame_t *frame) {
    sqlite_sink_t *self = sink->own;
    take(self, sink, frame);
    if (self->next.count < FRAMES_MOST && self->next_bytes < BYTES_MOST)
        return;
    begin(sink);
    if (self->next.count)              /* the thread is busy */
        sink->full = true;
}

static void sqlite_flush(sink_t *sink) {
    begin(sink);
}

static void sqlite_noted(sink_t *sink) {
    sqlite_sink_t *self = sink->own;
    self->noted = self->refused;
}

/* What became dead letters is in the progress that counts after a loss of power, too: the table need not keep it for a restart. */
static void sqlite_safe(sink_t *sink) {
    sqlite_sink_t *self = sink->own;
    if (self->noted)
        self->forget = self->noted;
    if (self->noted == self->refused)
        self->refused = 0;
    self->noted = 0;
}

static void found_reached(void *argument, const char *key, const char *origin, uint64_t epoch, uint64_t number) {
    sink_reached(argument, key, origin, epoch, number);
}

/* Refused in a transaction that the progress does not know of: it becomes a dead letter now. */
static void found_refused(void *argument, int64_t row, const char *key, const char *origin, uint64_t epoch, uint64_t number,
                          const event_t *event, const char *reason) {
    sink_t *sink = argument;
    sqlite_sink_t *self = sink->own;
    sink_recall_refused(sink, key, origin, epoch, number, event, reason);
    self->refused = row;
}

static int sqlite_sink_open(sink_t *sink, err_t *err) {
    sqlite_sink_t *self = sink->own;
    const sqlite_table_setup_t setup = {
        .name = self->table,
        .mode = self->mode,
        .time = self->time,
        .columns = &self->columns,
        .columns_max = (unsigned) self->columns_max,
        .keep_rows = self->keep_rows,
        .keep_for = self->keep_for,
    };
    self->event = -1;
    self->path = mem_text(text_starts(sink->target, "///") ? sink->target + 2 : sink->target);
    self->store.sink = sink->name;
    if (sqlite_store_open(&self->store, self->path, sink->stage->settings.sync != SPOOL_NONE, &setup, err))
        return -1;
    if (sink->progress && sqlite_store_refused(&self->store, found_refused, sink, err))
        return -1;
    if (sqlite_store_reached(&self->store, found_reached, sink, err))
        return -1;
    self->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->event < 0)
        return err_errno(err, "eventfd");
    self->watch = loop_fd(sink->stage->loop, self->event, EPOLLIN, finished, sink);
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->wake, NULL);
    self->opened = true;
    sigset_t all, before;
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&self->thread, NULL, work, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return err_set(err, "start a thread: %s", strerror(error));
    self->started = true;
    return 0;
}

static void sqlite_close(sink_t *sink) {
    sqlite_sink_t *self = sink->own;
    if (self->started) {
        pthread_mutex_lock(&self->lock);
        self->stop = true;
        pthread_cond_signal(&self->wake);
        pthread_mutex_unlock(&self->lock);
        pthread_join(self->thread, NULL);
    }
    if (self->opened) {
        loop_remove(self->watch);
        close(self->event);
        pthread_mutex_destroy(&self->lock);
        pthread_cond_destroy(&self->wake);
    }
    sqlite_job_fini(&self->job);
    sqlite_job_fini(&self->next);
    sqlite_store_close(&self->store);
    mem_free(self->path);
}

#define AT(field) offsetof(sqlite_sink_t, field)
static const option_t options[] = {
    {"table", OPTION_TEXT, AT(table), "events", "NAME", "the table; made when it is missing"},
    {"mode", OPTION_CHOICE, AT(mode), "columns", "columns|json", "a column for each field, added as fields come, or one column with the event as JSON"},
    {"time", OPTION_CHOICE, AT(time), "text", "text|ns", "how the column ts holds event times: ISO 8601 UTC that sorts, or nanoseconds since 1970"},
    {"columns", OPTION_LIST, AT(columns), NULL, "NAME[:TYPE]", "the fields to store (INTEGER, REAL, TEXT, BLOB), and no others; default all", .needs = "mode=columns"},
    {"columns-max", OPTION_INT, AT(columns_max), "500", "N", "columns at most; what comes beyond goes to the column \"extra\" as JSON", 3, 1900, .needs = "mode=columns, !columns"},
    {"keep-rows", OPTION_INT, AT(keep_rows), "0", "N", "delete the oldest rows beyond so many; 0: keep all", 0, INT64_MAX / 2},
    {"keep-for", OPTION_DURATION, AT(keep_for), NULL, "DURATION", "delete rows whose event time is longer ago; default: keep all", 0, INT64_MAX / 2},
    {0},
};

static const char *const words[] = {"sqlite", NULL};

const sink_class_t sink_sqlite = {
    .name = "sqlite",
    .schemes = words,
    .types = words,
    .help = "rows of a table in a SQLite database, exactly once",
    .options = options,
    .size = sizeof(sqlite_sink_t),
    .check = sqlite_check,
    .open = sqlite_sink_open,
    .write = sqlite_write,
    .flush = sqlite_flush,
    .close = sqlite_close,
    .exact = true,
    .noted = sqlite_noted,
    .safe = sqlite_safe,
};
