/* The cycle of a series: expectations by phase of a period. See anomaly_cycle.h. */
#include "anomaly_cycle.h"

#include <math.h>

#include "anomaly.h"
#include "base/clock.h"

#define TRUST_MEMORY 300.0    /* values that the trust in a cycle rests on */

const cycle_plan_t cycle_day = {24 * 3600 * NS_PER_S, 48, 0.6};
const cycle_plan_t cycle_week = {7 * 24 * 3600 * NS_PER_S, 168, 0.7};

uint32_t cycle_phase(int64_t period, uint32_t phases, int64_t time) {
    int64_t into = time % period;
    if (into < 0)
        into += period;
    return (uint32_t) ((double) into / (double) period * phases) % phases;
}

double cycle_step(const cycle_plan_t *plan, cycle_t *cycle, float *phases, int64_t time, double value, double reach) {
    uint32_t phase = cycle_phase(plan->period, plan->phases, time);
    if (cycle->phase != phase + 1) {
        cycle->phase = phase + 1;
        cycle->visits = 0;
        cycle->fresh = phases[phase] == 0;
    }
    double expected = phases[phase], trust = cycle->squares > 0 ? anomaly_clamp(cycle->products / cycle->squares, 0, 1) : 0, learnt = value;
    double weight = plan->weight / sqrt(++cycle->visits);
    if (expected == 0) /* nothing known yet */
        weight = 1;
    else if (reach > 0 && cycle->fresh > 0)
        learnt = anomaly_clamp(value, -fabs(expected) - reach, fabs(expected) + reach);
    else if (reach > 0)
        learnt = anomaly_clamp(value, expected - reach, expected + reach);
    cycle->products += learnt * expected - cycle->products / TRUST_MEMORY;
    cycle->squares += expected * expected - cycle->squares / TRUST_MEMORY;
    phases[phase] = (float) (expected + weight * (learnt - expected));
    return trust * expected;
}
