/* The detector that needs no settings. A value is an anomaly when, in one of several measures, the series departs further from what is expected than it did
 * in the time that is remembered, by a margin: how far is usual is learnt by each measure for itself, whatever the unit and distribution. The
 * measures are the value's distance from the expectation (level, day and week), that distance averaged over 4, 16 and 64 values (shifts and drifts that
 * no single value shows), the distance from the level alone, upwards and downwards, the mean step from value to value (unrest), and the distance from the
 * expectation as a part of what it is at this time of day (quiet hours that are not quiet). */
#include "anomaly.h"
#include "anomaly_cycle.h"

#include <math.h>

#define LEVEL_MEMORY 500.0    /* values, as all memories: what the level is */
#define SPREAD_MEMORY 200.0   /* how far values are from expectation */
#define STEP_MEMORY 10.0      /* the mean step */
#define SPREADS 48            /* parts of the day, or of the period, that have a spread of their own */
#define SPREAD_WEIGHT 0.05    /* of a new value in it */
#define SPREAD_FLOOR 0.03     /* of the spread at all times: that much is added to it */
#define REACH 10.0            /* a value further off than that many spreads counts as that far where cycles are learnt, three times as far for the level */
#define FADE 0.0002           /* each value takes that much of the distance of a measure's greatest departure from its mean, */
#define SLOW_FADE 0.00002     /* of the one that is remembered for long this, */
#define EARLY_FADE 0.3        /* and of both this much over the number of values: what was learnt at the beginning counts less */
#define SLOW_SHARE 0.3        /* of the one that is remembered for long in what is compared */
#define FEW 10                /* values before measures are compared */
#define CAUTION 20.0          /* the margin is greater by the part of so many values in those so far, */
#define EARLY_CAUTION 120.0   /* and by the third power of this part: of little that was seen much is new */
#define FLAT 1e-7             /* of the level: closer is no departure */

enum { NOW, OVER_4, OVER_16, OVER_64, ABOVE, BELOW, STEPS, FOR_THE_TIME, MEASURES };

typedef struct measure {      /* of departures */
    double mean;
    double greatest, slow;    /* both fade towards the mean */
} measure_t;

typedef struct detector {     /* see anomaly_method_t on what it is made of */
    double level, last, spread, step;
    double least, most;       /* of the values so far */
    double shifts[3];         /* distances from the expectation, averaged */
    measure_t measures[MEASURES];
    cycle_t day, week;
    float day_phases[48], week_phases[CYCLE_PHASES], spreads[SPREADS];
} detector_t;

static void detector_size(const anomaly_plan_t *plan, size_t *doubles, size_t *floats) {
    *doubles = offsetof(detector_t, day_phases) / sizeof(double);
    *floats = (sizeof(detector_t) - offsetof(detector_t, day_phases)) / sizeof(float);
}

static double usual(const measure_t *measure) {
    return measure->greatest + SLOW_SHARE * (measure->slow - measure->greatest);
}

static double remembered(double greatest, double fade, const measure_t *measure, double departure) {
    return departure > greatest ? departure : greatest - fade * (greatest - measure->mean);
}

/* This departure as a part of what is usual and a margin; remembers it. */
static double measure_step(measure_t *measure, uint64_t count, double margin, double departure) {
    double beyond = count > FEW ? anomaly_ratio(departure, margin * usual(measure)) : 0, early = EARLY_FADE / ((double) count + 1);
    measure->greatest = remembered(measure->greatest, FADE + early, measure, departure);
    measure->slow = remembered(measure->slow, SLOW_FADE + early, measure, departure);
    measure->mean += anomaly_weight(LEVEL_MEMORY, count) * (departure - measure->mean);
    return beyond;
}

/* What is left of the distance from the level when the time of day and week explain their part. */
static double unexplained(const anomaly_plan_t *plan, detector_t *detector, uint64_t count, int64_t time, double distance) {
    double reach = count > 2 * FEW ? REACH * detector->spread : 0;
    if (plan->period) {
        cycle_plan_t own = {plan->period, CYCLE_PHASES, cycle_week.weight};
        return distance - cycle_step(&own, &detector->week, detector->week_phases, time, distance, reach);
    }
    distance -= cycle_step(&cycle_day, &detector->day, detector->day_phases, time, distance, reach);
    return distance - cycle_step(&cycle_week, &detector->week, detector->week_phases, time, distance, reach);
}

/* The distance as a part of what it is at this time of day; learns that. 0 while nothing is known. */
static double for_the_time(const anomaly_plan_t *plan, detector_t *detector, uint64_t count, int64_t time, double distance) {
    float *spread = &detector->spreads[cycle_phase(plan->period ? plan->period : cycle_day.period, SPREADS, time)];
    double known = *spread, learnt = count > 2 * FEW ? fmin(distance, REACH * detector->spread) : distance;
    *spread = (float) (known > 0 ? known + SPREAD_WEIGHT * (learnt - known) : learnt);
    return known > 0 ? distance / (known + SPREAD_FLOOR * detector->spread) : 0;
}

static double caution(double values) {
    double early = EARLY_CAUTION / values;
    return 1 + CAUTION / values + early * early * early;
}

static void tell_band(const detector_t *detector, double margin, double flat, double expected, anomaly_result_t *result) {
    const measure_t *measures = detector->measures;
    double either = fmax(flat, margin * usual(&measures[NOW]));
    result->expected = anomaly_clamp(expected, detector->least, detector->most);
    result->low = fmin(result->expected, fmax(expected - either, detector->level - fmax(flat, margin * usual(&measures[BELOW]))));
    result->high = fmax(result->expected, fmin(expected + either, detector->level + fmax(flat, margin * usual(&measures[ABOVE]))));
}

static void detector_step(const anomaly_plan_t *plan, void *state, uint64_t count, int64_t time, double value, anomaly_result_t *result) {
    detector_t *detector = state;
    if (!count)
        detector->level = detector->last = detector->least = detector->most = value;
    double flat = FLAT * fabs(detector->level), distance = value - detector->level;
    double rest = unexplained(plan, detector, count, time, distance);
    double margin = plan->threshold * caution((double) count + 1);
    tell_band(detector, margin, flat, value - rest, result);
    result->departure = 0;

    static const double spans[] = {4, 16, 64};
    double departures[MEASURES] = {[NOW] = fabs(rest), [ABOVE] = distance, [BELOW] = -distance};
    for (int i = 0; i < 3; i++) {
        detector->shifts[i] += anomaly_weight(spans[i], count) * (rest - detector->shifts[i]);
        departures[OVER_4 + i] = fabs(detector->shifts[i]);
    }
    detector->step += anomaly_weight(STEP_MEMORY, count) * (fabs(value - detector->last) - detector->step);
    departures[STEPS] = detector->step;
    bool is_flat = departures[NOW] <= flat;
    for (int i = 0; i < FOR_THE_TIME; i++)
        departures[i] = departures[i] > flat ? departures[i] : 0;
    departures[FOR_THE_TIME] = is_flat ? 0 : for_the_time(plan, detector, count, time, departures[NOW]);
    for (int i = 0; i < MEASURES; i++)
        result->departure = fmax(result->departure, measure_step(&detector->measures[i], count, margin, departures[i]));

    double far = count > 2 * FEW ? 3 * REACH * detector->spread : INFINITY;
    detector->spread += anomaly_weight(SPREAD_MEMORY, count) * (fabs(rest) - detector->spread);
    detector->level += anomaly_weight(LEVEL_MEMORY, count) * anomaly_clamp(distance, -far, far);
    detector->last = value;
    detector->least = fmin(detector->least, value);
    detector->most = fmax(detector->most, value);
}

const anomaly_method_t anomaly_auto = {
    .name = "auto", .threshold = 1.2, .warmup = 50, .least = FEW + 1, .rest = 50, .cycles = true, .size = detector_size, .step = detector_step};
