/* The metrics registry: a file of fixed layout, mapped by its one writer and read by anyone. Numbers are written with plain
 * atomic stores; texts stand under a sequence lock (odd while being written). */
#include "run/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

#define MAGIC UINT64_C(0x315254454d525453) /* "STRMETR1" */
#define ENTRIES 256
#define HISTOGRAMS 16
#define NO_HISTOGRAM UINT32_MAX
#define FIRST_POWER 10 /* bucket 0 is below 2^10 ns */
#define LAST_POWER 36
#define READ_ATTEMPTS 100

const char *const stage_state_names[5] = {"starting", "ready", "draining", "finished", "failed"};

typedef struct notice_slot {
    uint64_t lock;
    metrics_notice_t notice;
} notice_slot_t;

typedef struct file_header {
    uint64_t magic;
    int64_t started;
    int64_t pid;
    uint32_t count, histograms;
    char tool[32], name[64];
    uint64_t lock; /* of the texts and states below */
    uint32_t state, healthy;
    char detail[256], health[256];
    uint64_t notices;
    notice_slot_t notice[METRICS_NOTICES];
} file_header_t;

struct metric {
    uint32_t type, histogram;
    union {
        uint64_t count;
        double number;
    };
    char name[64], label[160], help[160];
};

typedef struct file_histogram {
    uint64_t count, sum, maximum; /* ns */
    uint64_t buckets[METRIC_BUCKETS];
} file_histogram_t;

typedef struct file_layout {
    file_header_t header;
    metric_t entries[ENTRIES];
    file_histogram_t histograms[HISTOGRAMS];
} file_layout_t;

static file_layout_t *registry;
static metric_t spare = {.histogram = NO_HISTOGRAM}; /* what a full registry hands out */

#define STORE(place, value) __atomic_store_n(&(place), (value), __ATOMIC_RELAXED)
#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_RELAXED)

static void lock_text(uint64_t *lock) {
    __atomic_store_n(lock, *lock + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void unlock_text(uint64_t *lock) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(lock, *lock + 1, __ATOMIC_RELAXED);
}

static void add_notice(log_level_t level, const char *text) {
    if (!registry)
        return;
    uint64_t serial = registry->header.notices + 1;
    notice_slot_t *slot = &registry->header.notice[serial % METRICS_NOTICES];
    lock_text(&slot->lock);
    slot->notice.serial = serial;
    slot->notice.time = clock_now();
    slot->notice.level = (int) level;
    snprintf(slot->notice.text, sizeof slot->notice.text, "%s", text);
    unlock_text(&slot->lock);
    STORE(registry->header.notices, serial);
}

int metrics_open(const char *path, const char *tool, const char *name, err_t *err) {
    int fd = -1;
    if (path) {
        unlink(path); /* a reader that has the old file keeps it */
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
        if (fd < 0)
            return err_errno(err, "create the metrics file %s", path);
        errno = posix_fallocate(fd, 0, sizeof(file_layout_t)); /* a full disk fails here, not with SIGBUS on some later write */
        if (errno) {
            err_errno(err, "size the metrics file %s", path);
            close(fd);
            return -1;
        }
    }
    int flags = path ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *memory = mmap(NULL, sizeof(file_layout_t), PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED) {
        err_errno(err, "map the metrics file %s", path ? path : "(anonymous)");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (fd >= 0)
        close(fd);
    registry = memory;
    file_header_t *header = &registry->header;
    header->started = clock_now();
    header->pid = getpid();
    header->healthy = 1;
    snprintf(header->tool, sizeof header->tool, "%s", tool);
    snprintf(header->name, sizeof header->name, "%s", name);
    __atomic_store_n(&header->magic, MAGIC, __ATOMIC_RELEASE);
    log_listen(add_notice);
    return 0;
}

void metrics_close(void) {
    if (!registry)
        return;
    log_listen(NULL);
    munmap(registry, sizeof *registry);
    registry = NULL;
}

metric_t *metrics_add(metric_type_t type, const char *name, const char *label, const char *help) {
    if (!registry)
        return &spare;
    file_header_t *header = &registry->header;
    bool histogram = type == METRIC_HISTOGRAM;
    if (header->count == ENTRIES || (histogram && header->histograms == HISTOGRAMS) ||
        strlen(label) >= sizeof registry->entries->label)
        return &spare;
    metric_t *metric = &registry->entries[header->count];
    metric->type = type;
    metric->histogram = histogram ? header->histograms : NO_HISTOGRAM;
    snprintf(metric->name, sizeof metric->name, "%s", name);
    snprintf(metric->label, sizeof metric->label, "%s", label);
    snprintf(metric->help, sizeof metric->help, "%s", help);
    if (histogram)
        __atomic_store_n(&header->histograms, header->histograms + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&header->count, header->count + 1, __ATOMIC_RELEASE);
    return metric;
}

void metric_add(metric_t *metric, uint64_t amount) {
    STORE(metric->count, metric->count + amount);
}

void metric_set_counter(metric_t *metric, uint64_t value) {
    STORE(metric->count, value);
}

void metric_set(metric_t *metric, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    STORE(metric->count, bits);
}

static unsigned bucket_of(uint64_t ns) {
    if (ns < (UINT64_C(1) << FIRST_POWER))
        return 0;
    unsigned power = 63 - (unsigned) __builtin_clzll(ns);
    if (power >= LAST_POWER)
        return METRIC_BUCKETS - 1;
    return 1 + (power - FIRST_POWER) * 8 + (unsigned) (ns >> (power - 3) & 7);
}

double metric_bucket_limit(unsigned index) {
    if (index == 0)
        return (double) (UINT64_C(1) << FIRST_POWER);
    if (index >= METRIC_BUCKETS - 1)
        return INFINITY;
    unsigned power = FIRST_POWER + (index - 1) / 8, step = (index - 1) % 8;
    return (double) ((UINT64_C(8) + step + 1) << (power - 3));
}

void metric_observe(metric_t *metric, int64_t ns, uint64_t weight) {
    if (!registry || metric->histogram == NO_HISTOGRAM || !weight)
        return;
    uint64_t value = ns > 0 ? (uint64_t) ns : 0;
    file_histogram_t *histogram = &registry->histograms[metric->histogram];
    uint64_t *bucket = &histogram->buckets[bucket_of(value)];
    STORE(*bucket, *bucket + weight);
    STORE(histogram->count, histogram->count + weight);
    uint64_t sum; /* stays at its end when an ingest time was nonsense: to turn around would look like a restart */
    if (__builtin_mul_overflow(value, weight, &sum) || __builtin_add_overflow(histogram->sum, sum, &sum))
        sum = UINT64_MAX;
    STORE(histogram->sum, sum);
    if (value > histogram->maximum)
        STORE(histogram->maximum, value);
}

void metrics_state(stage_state_t state, const char *detail) {
    if (!registry)
        return;
    file_header_t *header = &registry->header;
    lock_text(&header->lock);
    header->state = state;
    snprintf(header->detail, sizeof header->detail, "%s", detail ? detail : "");
    unlock_text(&header->lock);
}

void metrics_health(bool healthy, const char *reason) {
    if (!registry)
        return;
    file_header_t *header = &registry->header;
    lock_text(&header->lock);
    header->healthy = healthy;
    snprintf(header->health, sizeof header->health, "%s", reason ? reason : "");
    unlock_text(&header->lock);
}

/* Reading: the header, then as many entries and histograms as it names. The file may be of another version, cut short, or
 * just being written: everything is checked. */

static int read_part(int fd, void *to, size_t size, off_t at, const char *path, err_t *err) {
    ssize_t n = pread(fd, to, size, at);
    if (n < 0)
        return err_errno(err, "read the metrics file %s", path);
    return (size_t) n == size ? 0 : err_set(err, "the metrics file %s is cut short", path);
}

static double quantile(const file_histogram_t *histogram, double q) {
    double wanted = q * (double) histogram->count, seen = 0;
    for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
        seen += (double) histogram->buckets[i];
        if (seen < wanted || !histogram->buckets[i])
            continue;
        double high = metric_bucket_limit(i), low = i ? metric_bucket_limit(i - 1) : 0;
        double middle = i == METRIC_BUCKETS - 1 ? (double) histogram->maximum : (low + high) / 2;
        return middle < (double) histogram->maximum ? middle : (double) histogram->maximum;
    }
    return (double) histogram->maximum;
}

/* A text of the file: it may be cut inside a character, or anything else. */
static void read_text(char *to, size_t size, const char *from) {
    snprintf(to, size, "%.*s", (int) size - 1, from);
    text_make_valid(to);
}

static int fill_sample(metrics_sample_t *sample, const metric_t *metric, const file_layout_t *file) {
    const file_histogram_t *histogram = NULL;
    if (metric->type == METRIC_HISTOGRAM && metric->histogram < file->header.histograms)
        histogram = &file->histograms[metric->histogram];
    else if (metric->type != METRIC_COUNTER && metric->type != METRIC_GAUGE)
        return -1;
    sample->type = (metric_type_t) metric->type;
    read_text(sample->name, sizeof sample->name, metric->name);
    read_text(sample->label, sizeof sample->label, metric->label);
    read_text(sample->help, sizeof sample->help, metric->help);
    if (!histogram) {
        sample->value = metric->type == METRIC_COUNTER ? (double) metric->count : metric->number;
        return 0;
    }
    sample->count = histogram->count;
    sample->sum = (double) histogram->sum;
    sample->p50 = quantile(histogram, 0.50);
    sample->p99 = quantile(histogram, 0.99);
    sample->p999 = quantile(histogram, 0.999);
    sample->maximum = (double) histogram->maximum;
    sample->buckets = histogram->buckets;
    return 0;
}

static void fill_notices(metrics_snapshot_t *snapshot, const file_header_t *header) {
    size_t n = 0;
    for (uint64_t i = 0; i < METRICS_NOTICES; i++) { /* oldest first: the slot after the newest one */
        const metrics_notice_t *notice = &header->notice[(header->notices + 1 + i) % METRICS_NOTICES].notice;
        if (!notice->serial || notice->serial > header->notices || notice->level < LOG_ERROR || notice->level > LOG_DEBUG)
            continue;
        snapshot->notices[n] = *notice;
        read_text(snapshot->notices[n++].text, sizeof notice->text, notice->text);
    }
}

static int fill_snapshot(metrics_snapshot_t *snapshot, const file_layout_t *file) {
    const file_header_t *header = &file->header;
    *snapshot = (metrics_snapshot_t){
        .pid = (int) header->pid,
        .started = header->started,
        .state = header->state <= STAGE_FAILED ? (stage_state_t) header->state : STAGE_FAILED,
        .healthy = header->healthy,
        .count = header->count,
        .samples = mem_zero(header->count * sizeof *snapshot->samples),
    };
    read_text(snapshot->tool, sizeof snapshot->tool, header->tool);
    read_text(snapshot->name, sizeof snapshot->name, header->name);
    read_text(snapshot->detail, sizeof snapshot->detail, header->detail);
    read_text(snapshot->health, sizeof snapshot->health, header->health);
    fill_notices(snapshot, header);
    for (uint32_t i = 0; i < header->count; i++)
        if (fill_sample(&snapshot->samples[i], &file->entries[i], file))
            return -1;
    return 0;
}

#define PLACE(field) offsetof(file_header_t, field)

/* The header up to its notices, once more until no text changed meanwhile: the lock is even, and the same before and after. A
 * writer that died in the middle leaves it odd for good: then its last texts are taken as they are. */
static int read_texts(int fd, file_header_t *header, const char *path, err_t *err) {
    for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
        uint64_t before, after;
        if (read_part(fd, &before, sizeof before, PLACE(lock), path, err) ||
            read_part(fd, header, PLACE(notice), 0, path, err) ||
            read_part(fd, &after, sizeof after, PLACE(lock), path, err))
            return -1;
        if (before % 2 == 0 && before == after)
            return 0;
        sched_yield();
    }
    if (kill((pid_t) header->pid, 0) == 0 || errno == EPERM) { /* it lives, and writes all the time: rather no text than half of one */
        memset(header->detail, 0, sizeof header->detail);
        memset(header->health, 0, sizeof header->health);
    }
    return 0;
}

/* Those that change right now are left out. */
static int read_notices(int fd, file_header_t *header, const char *path, err_t *err) {
    notice_slot_t *copy = mem_alloc(sizeof header->notice);
    uint64_t before[METRICS_NOTICES];
    int result = -1;
    if (read_part(fd, copy, sizeof header->notice, PLACE(notice), path, err))
        goto out;
    for (unsigned i = 0; i < METRICS_NOTICES; i++)
        before[i] = copy[i].lock;
    if (read_part(fd, header->notice, sizeof header->notice, PLACE(notice), path, err) ||
        read_part(fd, copy, sizeof header->notice, PLACE(notice), path, err))
        goto out;
    for (unsigned i = 0; i < METRICS_NOTICES; i++)
        if (before[i] % 2 || before[i] != copy[i].lock)
            header->notice[i].notice.serial = 0;
    result = 0;
out:
    mem_free(copy);
    return result;
}

int metrics_read(const char *path, metrics_snapshot_t *snapshot, err_t *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open the metrics file %s", path);
    int result = -1;
    metrics_snapshot_t made = {0};
    file_layout_t *copy = mem_alloc(sizeof *copy);
    file_header_t *header = &copy->header;
    if (read_texts(fd, header, path, err) || read_notices(fd, header, path, err))
        goto out;
    if (header->magic != MAGIC || header->count > ENTRIES || header->histograms > HISTOGRAMS) {
        err_set(err, "%s is not a metrics file of this version", path);
        goto out;
    }
    if (read_part(fd, copy->entries, header->count * sizeof *copy->entries, offsetof(file_layout_t, entries), path, err) ||
        read_part(fd, copy->histograms, header->histograms * sizeof *copy->histograms,
                  offsetof(file_layout_t, histograms), path, err))
        goto out;
    if (fill_snapshot(&made, copy)) {
        err_set(err, "%s is damaged: a metric of no known type", path);
        goto out;
    }
    made.memory = copy;
    *snapshot = made;
    made = (metrics_snapshot_t){0};
    copy = NULL;
    result = 0;
out:
    mem_free(made.samples);
    mem_free(copy);
    close(fd);
    return result;
}

void metrics_snapshot_fini(metrics_snapshot_t *snapshot) {
    mem_free(snapshot->samples);
    mem_free(snapshot->memory);
    *snapshot = (metrics_snapshot_t){0};
}

const metrics_sample_t *metrics_find(const metrics_snapshot_t *snapshot, const char *name) {
    for (size_t i = 0; i < snapshot->count; i++)
        if (strcmp(snapshot->samples[i].name, name) == 0)
            return &snapshot->samples[i];
    return NULL;
}

double metrics_sum(const metrics_snapshot_t *snapshot, const char *name) {
    double sum = 0;
    for (size_t i = 0; i < snapshot->count; i++)
        if (strcmp(snapshot->samples[i].name, name) == 0)
            sum += snapshot->samples[i].value;
    return sum;
}
