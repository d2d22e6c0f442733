#ifndef PROCESS_ANOMALY_H
#define PROCESS_ANOMALY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Detectors of anomalies in a series of numbers: one pass, a state of fixed size, no look ahead. A detector says, of each value, how far it departs
 * from what was expected, as a part of what would just be an anomaly (1), and which values would have been none. */
typedef struct anomaly_plan anomaly_plan_t;

typedef struct anomaly_result {
    double departure;         /* from 0 to ANOMALY_MOST; from 1 on it is an anomaly */
    double expected;          /* told before the value was looked at */
    double low, high;         /* outside of them a value would have been an anomaly whatever else happens; low <= expected <= high */
} anomaly_result_t;

typedef struct anomaly_method {
    const char *name;
    double threshold;         /* unless the program says otherwise, as are those below */
    uint32_t over, warmup, rest;
    uint32_t over_max;        /* 0: over means nothing to it */
    uint32_t least;           /* of warmup: before so many values it compares nothing */
    bool cycles;              /* the period means something to it */
    /* A state is that many doubles, then that many floats, and nothing else: so it is saved and loaded without knowing more. It begins zeroed. Any finite
     * numbers in it do no harm. */
    void (*size)(const anomaly_plan_t *plan, size_t *doubles, size_t *floats);
    /* The next value, within +-ANOMALY_LIMIT, at a time in ns since 1970. `count` values came before. */
    void (*step)(const anomaly_plan_t *plan, void *state, uint64_t count, int64_t time, double value, anomaly_result_t *result);
} anomaly_method_t;

struct anomaly_plan {
    const anomaly_method_t *method;
    double threshold;
    uint32_t over;            /* how many values count, about or exactly */
    uint32_t warmup;          /* so many values are learnt from and never anomalies */
    uint32_t rest;            /* so many values after an anomaly are told only when they depart as much; 0: each is told */
    int64_t period;           /* ns; 0: none given */
};

#define ANOMALY_LIMIT 1e30    /* values beyond are taken for this: squares and sums of them stay finite */
#define ANOMALY_MOST 1e300    /* no departure is greater */

extern const anomaly_method_t anomaly_auto, anomaly_zscore, anomaly_mad, anomaly_ewma, anomaly_seasonal;

/* The weight of a new value in a mean that forgets: the plain mean at first, then 1 / over. */
static inline double anomaly_weight(double over, uint64_t count) {
    return (double) count + 1 < over ? 1 / ((double) count + 1) : 1 / over;
}

static inline double anomaly_clamp(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

/* part / whole, bounded against overflow; of nothing, nothing. */
static inline double anomaly_ratio(double part, double whole) {
    return part <= 0 ? 0 : part < whole * ANOMALY_MOST ? part / whole : ANOMALY_MOST;
}

#endif
