#ifndef RUN_METRICS_H
#define RUN_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The metrics registry lives in a file mapped into memory (--metrics PATH), so that streamctl and the façade read a stage's
 * numbers at any moment without disturbing it, and the last ones survive its death. Without a path the memory is anonymous.
 * One writer (the stage, one thread), any number of readers. Metrics are declared as data, with their documentation. */
typedef enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } metric_type_t;

typedef struct metric metric_t;                       /* a handle into the mapping; lives as long as the registry */

/* Writer. name as Prometheus wants it ("stream_events_in_total"); label is "" or `link="ipc://x"` (one or more pairs, already
 * escaped, at most 150 bytes). help and name: static text. A full registry gives a handle that is never shown. */
int metrics_open(const char *path, const char *tool, const char *name, err_t *err);
void metrics_close(void);
metric_t *metrics_add(metric_type_t type, const char *name, const char *label, const char *help);
void metric_add(metric_t *metric, uint64_t amount);   /* counter */
void metric_set(metric_t *metric, double value);      /* gauge; for counters kept elsewhere: metric_set_counter */
void metric_set_counter(metric_t *metric, uint64_t value);
/* Histogram of durations in ns: log-linear buckets, 8 per power of two from 1 µs to 68 s: error of a quantile at most 6.25 %.
 * `weight` observations at once. */
void metric_observe(metric_t *metric, int64_t ns, uint64_t weight);

/* The stage's state, for status tables. */
typedef enum stage_state {
    STAGE_STARTING, STAGE_READY, STAGE_DRAINING, STAGE_FINISHED, STAGE_FAILED
} stage_state_t;
extern const char *const stage_state_names[5];
void metrics_state(stage_state_t state, const char *detail);
/* Health of what the stage is for (a source: is data arriving?): "" or a reason in words. */
void metrics_health(bool healthy, const char *reason);

/* Readers: a snapshot of another process's file. */
#define METRICS_NOTICES 32
typedef struct metrics_notice {
    uint64_t serial;                  /* from 1; grows */
    int64_t time;                     /* ns since 1970 */
    int level;                        /* log_level_t: LOG_ERROR or LOG_WARNING */
    char text[240];
} metrics_notice_t;

typedef struct metrics_sample {
    metric_type_t type;
    char name[64], label[160], help[160];
    double value;                     /* counter, gauge */
    uint64_t count;                   /* histogram */
    double sum;                       /* ns */
    double p50, p99, p999, maximum;   /* ns */
    const uint64_t *buckets;          /* METRIC_BUCKETS counts, borrowed from the snapshot */
} metrics_sample_t;
#define METRIC_BUCKETS 210
double metric_bucket_limit(unsigned index);           /* upper bound of a bucket, ns */

typedef struct metrics_snapshot {
    char tool[32], name[64];
    int pid;
    int64_t started;                  /* ns since 1970 */
    stage_state_t state;
    char detail[256];
    bool healthy;
    char health[256];
    size_t count;
    metrics_sample_t *samples;
    metrics_notice_t notices[METRICS_NOTICES];        /* oldest first; serial 0: empty */
    void *memory;
} metrics_snapshot_t;
int metrics_read(const char *path, metrics_snapshot_t *snapshot, err_t *err);
void metrics_snapshot_fini(metrics_snapshot_t *snapshot);
const metrics_sample_t *metrics_find(const metrics_snapshot_t *snapshot, const char *name);   /* the first of that name, or NULL */
double metrics_sum(const metrics_snapshot_t *snapshot, const char *name);    /* over all labels */

#endif
