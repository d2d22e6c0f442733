#ifndef PROCESS_TREND_H
#define PROCESS_TREND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "data/pack.h"

/* The last points of a series, and whether they rise. Over a time they are the means of the slices that the window is cut into, so that there are at
 * most TREND_SLICES of them and one or two more; over a number each event is a point. Points stand in the order of their times. */
#define TREND_SLICES 120
#define TREND_MOST 1000       /* points over a number of events */

typedef struct trend_window {
    int64_t span;             /* ns; 0: by number */
    int64_t slice;            /* ns: span / TREND_SLICES */
    uint32_t most;            /* points */
} trend_window_t;

typedef struct trend {        /* of a key; begins zeroed */
    int64_t newest;           /* event time so far */
    int64_t score;            /* Mann and Kendall's S: over all pairs of points, how many rise less how many fall */
    int64_t ties;             /* sum of t (t - 1) (2 t + 5) over the groups of t equal values */
    uint32_t count, capacity;
    int64_t *starts;          /* of the points' slices, or their times */
    double *values;           /* sums / sizes */
    double *sums, *sizes, *ages;          /* of the values in a slice; how many; the sum of their times since the start. By number unused */
} trend_t;
void trend_init(trend_t *trend);
void trend_fini(trend_t *trend);

/* A time passes without a value; and an event with one. Work and memory are linear in the number of points. */
void trend_pass(trend_t *trend, const trend_window_t *window, int64_t time);
void trend_add(trend_t *trend, const trend_window_t *window, int64_t time, double value);

/* Least squares through the points, per second; false when there are no two times. */
bool trend_slope(const trend_t *trend, double *slope);
/* The two-sided p-value of Mann and Kendall's test against "no trend": with normal approximation, correction for continuity and for ties (R. O. Gilbert,
 * "Statistical Methods for Environmental Pollution Monitoring", 16.4.2). False for less than three points. */
bool trend_significance(const trend_t *trend, double *p);

size_t trend_memory(const trend_t *trend);
void trend_save(const trend_t *trend, const trend_window_t *window, buf_t *out);   /* one packed element */
bool trend_restore(trend_t *trend, const trend_window_t *window, pack_cursor_t *cursor);   /* into a zeroed one; false: damaged */

#endif
