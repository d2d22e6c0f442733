#ifndef PROCESS_ANOMALY_CYCLE_H
#define PROCESS_ANOMALY_CYCLE_H

#include <stdint.h>

/* What a series does in the course of a day, a week or another period: the expected value of each phase, learnt as it passes. How much of it is believed
 * follows from how well it foretold what came: the coefficient of the regression of the values on what was foretold, held between 0 and 1. So a
 * period that the series does not have does next to no harm. */
typedef struct cycle {        /* beside the phases, that are floats elsewhere */
    double phase, visits;     /* the present phase plus 1, and values in it since it was entered */
    double fresh;             /* 1: nothing was known of this phase when it was entered */
    double products, squares; /* of values and what was foretold */
} cycle_t;

typedef struct cycle_plan {
    int64_t period;           /* ns */
    uint32_t phases;
    double weight;            /* of a phase's first value in its expectation; the nth value since it was entered has 1 / sqrt(n) of it */
} cycle_plan_t;

#define CYCLE_PHASES 168      /* at most */

uint32_t cycle_phase(int64_t period, uint32_t phases, int64_t time);

extern const cycle_plan_t cycle_day, cycle_week;

/* The departure of the value at `time` that the cycle makes us expect; learns from what it is: `value`, where it is further than `reach` from what is
 * expected, counts as that far. 0: as it is. In a phase that was unknown when it was entered a value may be nearer to nothing than that: what was first
 * there may have been a spike. */
double cycle_step(const cycle_plan_t *plan, cycle_t *cycle, float *phases, int64_t time, double value, double reach);

#endif
