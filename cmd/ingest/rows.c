/* Rows from a thread: see rows.h. One job at a time goes to the thread (read behind a cursor, forget up to one); its rows come back in batches,
 * of which two may wait. */
#include "rows.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"
#include "net/backoff.h"
#include "poll_seen.h"
#include "run/metrics.h"

#define BATCH_SIZE (128u * 1024)
#define ROW_MAX (FRAME_MAX_DEFAULT - 64 * 1024)
#define LOOKS_AFTER_CHANGE 3
#define WAKE_DELAY (5 * NS_PER_MS)     /* changes of a file come in swarms */
#define FORGET_INTERVAL (500 * NS_PER_MS)

/* Before each row in a batch. */
typedef struct row_head {
    uint32_t size, cursor_size;
    int64_t time;
    enum { ROW_GOOD, ROW_BAD, ROW_MARK } kind;
} row_head_t;

struct rows_out {
    struct rows_source *source;
    buf_t batch;
    size_t row_at;                     /* of the head of the row under way */
    bool hopeless, stopped;
};

typedef struct rows_source {
    source_t source;
    source_setup_t setup;
    rows_setup_t rows;
    loop_watch_t *watch, *inotify_watch, *timer;
    metric_t *lag;                     /* or NULL */
    int event, inotify;
    unsigned looks;                    /* still to come for the last change of the file */
    backoff_t backoff;
    int64_t asked;
    bool paused, reading, wake;

    /* shared with the thread */
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    buf_t after, forget;               /* jobs: packed values */
    bool read_wanted, forget_wanted, stop;
    bool full, done, failed, hopeless; /* a batch is there; the job is done, or failed; for good */
    buf_t batch;
    char reason[512];

    /* the batch in hand */
    buf_t hand;
    size_t at;

    /* the position: as in pg_poll.c */
    buf_t cursor, group;               /* packed values; group is empty when there is none */
    poll_seen_t seen;
    int64_t forgotten;                 /* when the thread was last asked to forget, monotonic ns */
    buf_t safe;                        /* rows up to it may be forgotten; empty: none new */
} rows_source_t;

static void ask(void *argument);

/* The thread. */

static void tell(rows_source_t *self) {
    uint64_t one = 1;
    if (write(self->event, &one, sizeof one) < 0)
        return; /* the counter is full: it will be read */
}

/* Hands the batch over, and waits while the one before is not taken. */
static bool hand_over(rows_out_t *out) {
    rows_source_t *self = out->source;
    pthread_mutex_lock(&self->mutex);
    while (self->full && !self->stop)
        pthread_cond_wait(&self->condition, &self->mutex);
    out->stopped = self->stop;
    if (!out->stopped) {
        buf_t empty = self->batch;
        self->batch = out->batch;
        out->batch = empty;
        buf_clear(&out->batch);
        self->full = true;
        tell(self);
    }
    pthread_mutex_unlock(&self->mutex);
    return !out->stopped;
}

buf_t *rows_begin(rows_out_t *out) {
    out->row_at = out->batch.size;
    memset(buf_reserve(&out->batch, sizeof(row_head_t)), 0, sizeof(row_head_t));
    out->batch.size += sizeof(row_head_t);
    return &out->batch;
}

static bool end_row(rows_out_t *out, value_t cursor, int64_t time, int kind) {
    row_head_t head = {.time = time, .kind = kind};
    head.size = (uint32_t) (out->batch.size - out->row_at - sizeof head);
    pack_value(&out->batch, cursor);
    head.cursor_size = (uint32_t) (out->batch.size - out->row_at - sizeof head) - head.size;
    memcpy(out->batch.data + out->row_at, &head, sizeof head);
    return out->batch.size < BATCH_SIZE || hand_over(out);
}

bool rows_end(rows_out_t *out, value_t cursor, int64_t time) {
    if (out->batch.size - out->row_at - sizeof(row_head_t) <= ROW_MAX)
        return end_row(out, cursor, time, ROW_GOOD);
    return rows_bad(out, cursor, "the row is larger than an event may be (16 MiB)");
}

bool rows_bad(rows_out_t *out, value_t cursor, const char *reason) {
    out->batch.size = out->row_at + sizeof(row_head_t);
    buf_put_text(&out->batch, reason);
    return end_row(out, cursor, ROWS_NO_TIME, ROW_BAD);
}

bool rows_mark(rows_out_t *out, value_t cursor) {
    rows_begin(out);
    return end_row(out, cursor, ROWS_NO_TIME, ROW_MARK);
}

bool rows_flush(rows_out_t *out) {
    return !out->batch.size || hand_over(out);
}

void rows_hopeless(rows_out_t *out) {
    out->hopeless = true;
}

static value_t value_of(const buf_t *packed) {
    value_t value = value_null();
    pack_cursor_t cursor = pack_cursor(packed->data, packed->size);
    if (packed->size && !pack_read_value(&cursor, &value))
        value = value_null();
    return value;
}

static void finish_job(rows_source_t *self, rows_out_t *out, int result, const err_t *err) {
    pthread_mutex_lock(&self->mutex);
    self->done = true;
    self->failed = result != 0;
    self->hopeless = out->hopeless;
    snprintf(self->reason, sizeof self->reason, "%s", result ? err->text : "");
    tell(self);
    pthread_mutex_unlock(&self->mutex);
}

static void work(rows_source_t *self, rows_out_t *out, const buf_t *after, const buf_t *forget, bool read, bool *open) {
    const rows_driver_t *driver = self->rows.driver;
    err_t err = {{0}};
    int result = 0;
    out->hopeless = false;
    buf_clear(&out->batch);
    if (!*open)
        result = driver->open(self->rows.self, &err);
    *open = result == 0;
    if (!result && forget)
        result = driver->forget(self->rows.self, value_of(forget), &err);
    if (!result && read && !self->rows.ends)
        result = driver->read(self->rows.self, value_of(after), out, &err);
    if (!result && out->batch.size && !hand_over(out))
        return;
    if (result) {
        driver->close(self->rows.self);
        *open = false;
    }
    if (read)
        finish_job(self, out, result, &err);
}

static void *run(void *argument) {
    rows_source_t *self = argument;
    rows_out_t out = {.source = self};
    buf_t after = {0}, forget = {0};
    bool open = false;
    pthread_mutex_lock(&self->mutex);
    while (!self->stop) {
        if (!self->read_wanted && !self->forget_wanted) {
            pthread_cond_wait(&self->condition, &self->mutex);
            continue;
        }
        bool read = self->read_wanted, forgets = self->forget_wanted;
        self->read_wanted = self->forget_wanted = false;
        buf_clear(&after);
        buf_put(&after, self->after.data, self->after.size);
        buf_clear(&forget);
        buf_put(&forget, self->forget.data, self->forget.size);
        pthread_mutex_unlock(&self->mutex);
        work(self, &out, &after, forgets ? &forget : NULL, read, &open);
        pthread_mutex_lock(&self->mutex);
    }
    bool forgets = self->forget_wanted && open;
    pthread_mutex_unlock(&self->mutex);
    if (forgets)
        self->rows.driver->forget(self->rows.self, value_of(&self->forget), NULL);
    self->rows.driver->close(self->rows.self);
    buf_fini(&after);
    buf_fini(&forget);
    buf_fini(&out.batch);
    return NULL;
}

/* The loop's side. */

static void set(buf_t *to, const void *bytes, size_t size) {
    buf_clear(to);
    buf_put(to, bytes, size);
}

static void ask_in(rows_source_t *self, int64_t delay) {
    loop_remove(self->timer);
    self->timer = loop_timer(self->setup.loop, delay < 0 ? 0 : delay, 0, ask, self);
}

/* With the lock. */
static void forget_safe(rows_source_t *self) {
    if (!self->safe.size)
        return;
    set(&self->forget, self->safe.data, self->safe.size);
    buf_clear(&self->safe);
    self->forget_wanted = true;
}

static void ask_to_forget(rows_source_t *self) {
    pthread_mutex_lock(&self->mutex);
    forget_safe(self);
    pthread_cond_broadcast(&self->condition);
    pthread_mutex_unlock(&self->mutex);
}

static void ask(void *argument) {
    rows_source_t *self = argument;
    self->timer = NULL;
    if (self->reading)
        return;
    self->reading = true;
    self->wake = false;
    self->asked = clock_monotonic();
    pthread_mutex_lock(&self->mutex);
    set(&self->after, self->cursor.data, self->cursor.size);
    self->read_wanted = true;
    forget_safe(self);
    pthread_cond_broadcast(&self->condition);
    pthread_mutex_unlock(&self->mutex);
}

/* Rows of the group under way that were passed on are known; it is read again. */
static void begin_again(rows_source_t *self) {
    poll_seen_begin_again(&self->seen);
    buf_clear(&self->group);
}

/* A change shows in the file before it counts: SQLite writes its log, syncs it, and only then the index, which is memory and gives no sign. So there are some
 * more looks, later and later, behind the one that found what was there at once. */
static int64_t next_look(rows_source_t *self) {
    static const int64_t later[LOOKS_AFTER_CHANGE] = {100 * NS_PER_MS, NS_PER_S, 10 * NS_PER_S};
    int64_t left = self->asked + self->rows.interval - clock_monotonic();
    if (self->looks == 0)
        return left;
    int64_t look = later[LOOKS_AFTER_CHANGE - self->looks--];
    return look < left ? look : left;
}

static void answer_ended(rows_source_t *self, bool failed, bool hopeless, const char *reason) {
    source_host_t *host = self->setup.host;
    self->reading = false;
    if (failed && (hopeless || self->rows.ends)) {
        source_failed(host, "%s: %s", self->rows.place, reason);
        return;
    }
    if (failed) {
        begin_again(self);
        source_unhealthy(host, "%s: %s; trying again", self->rows.place, reason);
        ask_in(self, backoff_next(&self->backoff));
        return;
    }
    if (self->group.size) {
        set(&self->cursor, self->group.data, self->group.size);
        buf_clear(&self->group);
        source_moved(host);
    }
    poll_seen_clear(&self->seen);
    if (self->rows.driver->forget && !source_keeps_position(host)) {
        set(&self->safe, self->cursor.data, self->cursor.size);
        ask_to_forget(self);
    }
    backoff_reset(&self->backoff);
    source_healthy(host);
    if (self->rows.once || self->rows.ends)
        source_ended(host);
    else
        ask_in(self, self->wake ? WAKE_DELAY : next_look(self));
}

/* Keeps account of the cursor. False: this row was passed on before. */
static bool count_row(rows_source_t *self, const uint8_t *record, const row_head_t *head) {
    const uint8_t *cursor = record + head->size;
    if (self->group.size && (self->group.size != head->cursor_size || memcmp(self->group.data, cursor, head->cursor_size) != 0)) {
        set(&self->cursor, self->group.data, self->group.size);
        poll_seen_clear(&self->seen);
    }
    set(&self->group, cursor, head->cursor_size);
    return poll_seen_add(&self->seen, XXH3_64bits(record, head->size));
}

static void commit(rows_source_t *self, const uint8_t *record, const row_head_t *head) {
    const char *field = self->setup.format_settings->time_field;
    value_t value;
    int64_t time = head->time;
    if (time == ROWS_NO_TIME && field && (!pack_map_get(record, head->size, text_of(field), &value) || !value_to_time(value, &time)))
        time = ROWS_NO_TIME;
    if (self->lag && head->time != ROWS_NO_TIME)
        metric_set(self->lag, (double) (clock_now() - head->time) / NS_PER_S);
    buf_put(&source_begin(self->setup.host)->body, record, head->size);
    if (time >= 0 && time <= EVENT_TIME_MAX)
        source_commit_at(self->setup.host, time);
    else
        source_commit(self->setup.host);
}

static void take_row(rows_source_t *self) {
    row_head_t head;
    memcpy(&head, self->hand.data + self->at, sizeof head);
    const uint8_t *record = self->hand.data + self->at + sizeof head;
    self->at += sizeof head + head.size + head.cursor_size;
    if (self->rows.endless)
        set(&self->cursor, record + head.size, head.cursor_size);
    else if (*self->rows.column && !count_row(self, record, &head))
        return;
    if (head.kind == ROW_MARK) {
        source_moved(self->setup.host);
    } else if (head.kind == ROW_BAD) {
        char *reason = mem_text_n((const char *) record, head.size);
        source_bad(self->setup.host, text_of(""), self->rows.place, reason);
        mem_free(reason);
    } else {
        commit(self, record, &head);
    }
}

/* Takes a batch, or learns that there are no more. False: nothing is there. */
static bool next_batch(rows_source_t *self) {
    bool failed = false, hopeless = false, done = false;
    char reason[sizeof self->reason];
    pthread_mutex_lock(&self->mutex);
    bool full = self->full;
    if (full) {
        buf_t used = self->hand;
        self->hand = self->batch;
        self->batch = used;
        self->full = false;
        pthread_cond_broadcast(&self->condition);
    } else if (self->done) {
        done = true;
        self->done = false;
        failed = self->failed;
        hopeless = self->hopeless;
        memcpy(reason, self->reason, sizeof reason);
    }
    pthread_mutex_unlock(&self->mutex);
    self->at = 0;
    if (!full)
        buf_clear(&self->hand);
    if (done)
        answer_ended(self, failed, hopeless, reason);
    if (full && self->rows.endless) {
        backoff_reset(&self->backoff);
        source_healthy(self->setup.host);
    }
    return full;
}

/* A batch at a time, so that others get their turn. */
static void take(void *argument) {
    rows_source_t *self = argument;
    while (!self->paused && self->at < self->hand.size)
        take_row(self);
    if (!self->paused && next_batch(self))
        loop_defer(self->setup.loop, take, self);
}

static void on_told(void *argument, uint32_t events) {
    rows_source_t *self = argument;
    uint64_t count;
    if (read(self->event, &count, sizeof count) < 0)
        return;
    take(self);
}

/* The file was changed: a look is worth it, now or when the one under way is over. */
static void on_changed(void *argument, uint32_t events) {
    rows_source_t *self = argument;
    char bytes[4096] __attribute__((aligned(8)));
    const char *slash = strrchr(self->rows.watch, '/'), *base = slash ? slash + 1 : self->rows.watch;
    size_t size = strlen(base);
    bool ours = false;
    ssize_t n = read(self->inotify, bytes, sizeof bytes);
    for (char *at = bytes; n > 0 && at < bytes + n;) {
        const struct inotify_event *event = (const struct inotify_event *) at;
        ours |= (event->mask & IN_Q_OVERFLOW) || (event->len && strncmp(event->name, base, size) == 0 &&
                                                  (!event->name[size] || strcmp(event->name + size, "-wal") == 0));
        at += sizeof *event + event->len;
    }
    if (!ours || self->wake)
        return;
    self->wake = true;
    self->looks = LOOKS_AFTER_CHANGE;
    if (!self->reading && !self->backoff.failures)
        ask_in(self, WAKE_DELAY);
}

static void watch_file(rows_source_t *self) {
    const char *slash = strrchr(self->rows.watch, '/');
    char *directory = slash ? mem_text_n(self->rows.watch, slash == self->rows.watch ? 1 : (size_t) (slash - self->rows.watch)) : mem_text(".");
    self->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (self->inotify >= 0 && inotify_add_watch(self->inotify, directory, IN_MODIFY | IN_CREATE | IN_MOVED_TO) >= 0)
        self->inotify_watch = loop_fd(self->setup.loop, self->inotify, EPOLLIN, on_changed, self);
    mem_free(directory);
}

static int rows_start(source_t *source, err_t *err) {
    rows_source_t *self = (rows_source_t *) source;
    sigset_t all, before;
    source_patient(self->setup.host);
    self->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->event < 0)
        return err_errno(err, "make an eventfd");
    self->watch = loop_fd(self->setup.loop, self->event, EPOLLIN, on_told, self);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&self->thread, NULL, run, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure)
        return err_set(err, "start a thread: %s", strerror(failure));
    self->started = true;
    if (self->rows.watch)
        watch_file(self);
    ask_in(self, 0);
    return 0;
}

static void rows_pause(source_t *source) {
    ((rows_source_t *) source)->paused = true;
}

static void rows_resume(source_t *source) {
    rows_source_t *self = (rows_source_t *) source;
    self->paused = false;
    loop_defer(self->setup.loop, take, self);
}

static void rows_position(const source_t *source, buf_t *out) {
    const rows_source_t *self = (const rows_source_t *) source;
    pack_map(out, 4);
    pack_text(out, "of");
    pack_text(out, self->rows.identity);
    pack_text(out, "column");
    pack_text(out, self->rows.column);
    pack_text(out, "cursor");
    if (self->cursor.size)
        buf_put(out, self->cursor.data, self->cursor.size);
    else
        pack_nil(out);
    pack_text(out, "seen");
    poll_seen_put(&self->seen, out);
}

static int rows_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    rows_source_t *self = (rows_source_t *) source;
    value_t of, column, cursor, seen;
    if (!pack_map_get(position, size, text_of("of"), &of) || !pack_map_get(position, size, text_of("column"), &column) ||
        !pack_map_get(position, size, text_of("cursor"), &cursor) || !pack_map_get(position, size, text_of("seen"), &seen) || of.type != VALUE_STRING ||
        column.type != VALUE_STRING)
        return err_set(err, "the stored position cannot be read");
    if (!poll_seen_read(&self->seen, &seen))
        return err_set(err, "the stored position cannot be read");
    if (!text_is(text_make(of.text, of.size), self->rows.identity))
        return err_set(err, "it was made for %.*s", (int) (of.size < 200 ? of.size : 200), of.text);
    if (!text_is(text_make(column.text, column.size), self->rows.column))
        return err_set(err, "it was made with --cursor %.*s", (int) (column.size < 100 ? column.size : 100), column.text);
    if (*self->rows.column) {
        buf_clear(&self->cursor);
        pack_value(&self->cursor, cursor);
    }
    return 0;
}

/* The thread is asked to forget now and then, not with each frame. */
static void rows_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    rows_source_t *self = (rows_source_t *) source;
    value_t cursor;
    int64_t now = clock_monotonic();
    if (!self->rows.driver->forget || !pack_map_get(position, size, text_of("cursor"), &cursor) || cursor.type != VALUE_INT)
        return;
    buf_clear(&self->safe);
    pack_value(&self->safe, cursor);
    if (self->forgotten && now - self->forgotten < FORGET_INTERVAL)
        return;
    self->forgotten = now;
    ask_to_forget(self);
}

/* A library that does not come back is left to the end of the process, with what it uses. */
static bool end_thread(rows_source_t *self) {
    struct timespec limit;
    pthread_mutex_lock(&self->mutex);
    self->stop = true;
    pthread_cond_broadcast(&self->condition);
    pthread_mutex_unlock(&self->mutex);
    if (self->rows.driver->interrupt)
        self->rows.driver->interrupt(self->rows.self);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 2;
    return pthread_timedjoin_np(self->thread, NULL, &limit) == 0;
}

static void rows_free(source_t *source) {
    rows_source_t *self = (rows_source_t *) source;
    loop_remove(self->timer);
    loop_remove(self->watch);
    loop_remove(self->inotify_watch);
    loop_undefer(self->setup.loop, take, self);
    if (self->started && !end_thread(self))
        return;
    if (self->event >= 0)
        close(self->event);
    if (self->inotify >= 0)
        close(self->inotify);
    self->rows.driver->free(self->rows.self);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->condition);
    buf_t *buffers[] = {&self->after, &self->forget, &self->batch, &self->hand, &self->cursor, &self->group, &self->safe};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buf_fini(buffers[i]);
    mem_free(self->rows.place);
    mem_free(self->rows.identity);
    mem_free(self);
}

static const source_class_t class = {
    .start = rows_start,
    .pause = rows_pause,
    .resume = rows_resume,
    .position = rows_position,
    .restore = rows_restore,
    .acknowledge = rows_acknowledge,
    .free = rows_free,
};

source_t *rows_source_new(const source_setup_t *setup, const rows_setup_t *rows) {
    rows_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    self->rows = *rows;
    self->cursor = rows->initial;
    if (rows->committed)
        self->lag = metrics_add(METRIC_GAUGE, "stream_source_lag_seconds", "", "Age of the last change when it was taken, since its commit");
    self->event = self->inotify = -1;
    self->backoff = (backoff_t){.minimum = rows->retry_min, .maximum = rows->retry_max, .state = (uint64_t) clock_now()};
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->condition, NULL);
    return &self->source;
}

void rows_put_initial(buf_t *out, const char *text) {
    int64_t integer;
    double number;
    if (text_to_int(text_of(text), &integer, NULL) == 0)
        pack_int(out, integer);
    else if (json_parse_double(text, strlen(text), &number))
        pack_double(out, number);
    else
        pack_text(out, text);
}
