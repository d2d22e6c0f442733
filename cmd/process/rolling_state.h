#ifndef PROCESS_ROLLING_STATE_H
#define PROCESS_ROLLING_STATE_H

#include "data/lang/expression.h"
#include "middle.h"
#include "rolling.h"

/* What rolling.c (the window at work) and rolling_state.c (its snapshots) share. */
enum { NEEDS_SUM = 1, NEEDS_SPREAD = 2, NEEDS_LEAST = 4, NEEDS_GREATEST = 8, NEEDS_MIDDLE = 16 };

typedef struct sum {          /* of doubles; low: the rounding errors of high */
    double high, low;
} sum_t;

typedef struct spread {
    double n, mean, rest, squares;        /* the mean is mean + rest; squares: of the distances from it */
} spread_t;

__extension__ typedef __int128 whole_t;

typedef struct rolling_running {          /* of a column */
    uint32_t n, doubles;      /* values in the window; doubles among them */
    uint64_t whole[2];        /* sum of the others: no 100,000 of them are beyond 128 bits */
    uint32_t lower, upper;    /* of the median's heaps */
    sum_t sum;                /* of the younger part, as all that follows */
    spread_t spread;
    value_t least, greatest;
} rolling_running_t;

typedef struct rolling_ewma { /* of a use of EWMA */
    double mean, weight;
    int64_t time;
} rolling_ewma_t;

/* Where there is nothing but EWMA no event is kept. */
static inline unsigned rolling_running_count(const rolling_plan_t *plan) {
    return plan->ewma_count < plan->use_count ? plan->column_count : 0;
}

static inline rolling_running_t *rolling_runnings(const rolling_t *rolling) {
    return (rolling_running_t *) (void *) ((uint8_t *) rolling + sizeof *rolling);
}

static inline rolling_ewma_t *rolling_ewmas(const rolling_t *rolling) {
    return (rolling_ewma_t *) (void *) (rolling_runnings(rolling) + rolling_running_count(rolling->plan));
}

/* `at` counts from the oldest. */
static inline uint32_t rolling_slot(const rolling_t *rolling, uint32_t at) {
    return (rolling->head + at) & (rolling->capacity - 1);
}

static inline void *rolling_array(const rolling_t *rolling, uint32_t at) {
    return rolling->memory + (size_t) at * rolling->capacity;
}

static inline int64_t *rolling_times(const rolling_t *rolling) {
    return rolling_array(rolling, 0);
}

static inline value_t *rolling_values(const rolling_t *rolling, unsigned column) {
    return rolling_array(rolling, (uint32_t) (sizeof(int64_t) + column * sizeof(value_t)));
}

middle_t rolling_middle(const rolling_t *rolling, unsigned column);
void rolling_resize(rolling_t *rolling, uint32_t capacity);
void rolling_enter_middles(rolling_t *rolling, uint32_t slot);
void rolling_count_in(rolling_running_t *running, value_t value, int by);
void rolling_sum_up(rolling_t *rolling, uint32_t count);
bool rolling_outside(const rolling_t *rolling, int64_t time);

#endif
