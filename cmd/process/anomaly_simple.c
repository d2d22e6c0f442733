/* The detectors of the textbooks that keep a few numbers: zscore (distance from the mean in standard deviations), ewma (the control chart of S. W.
 * Roberts, 1959: a moving mean against the limits of its own deviation) and seasonal (distance from what the phase of the period makes us expect). Each
 * value is compared with what was before it. Mean and deviation forget with the weight 1 / over, after being plain ones at first. */
#include "anomaly.h"
#include "anomaly_cycle.h"

#include <math.h>

#define FLAT 1e-9             /* of the mean: less deviation than that is rounding */
#define NORMAL_SPREAD 1.2533141373155001      /* sqrt(pi / 2): a normal distribution's standard deviation over its mean absolute deviation */
#define SMOOTHING 0.2         /* the weight of a new value in the chart's moving mean */
#define REACH 5.0

typedef struct moments {
    double mean, variance;
} moments_t;

static double deviation(const moments_t *moments) {
    return fmax(sqrt(moments->variance), FLAT * fabs(moments->mean));
}

/* West's update (Communications of the ACM 22, 1979) with a weight that stays. */
static void moments_add(moments_t *moments, double weight, double value) {
    double distance = value - moments->mean;
    moments->mean += weight * distance;
    moments->variance = (1 - weight) * (moments->variance + weight * distance * distance);
}

static void tell(anomaly_result_t *result, double expected, double reach, double distance) {
    *result = (anomaly_result_t){
        .departure = anomaly_ratio(fabs(distance), reach), .expected = expected, .low = expected - reach, .high = expected + reach};
}

/* zscore */

static void zscore_size(const anomaly_plan_t *plan, size_t *doubles, size_t *floats) {
    *doubles = sizeof(moments_t) / sizeof(double);
    *floats = 0;
}

static void zscore_step(const anomaly_plan_t *plan, void *state, uint64_t count, int64_t time, double value, anomaly_result_t *result) {
    moments_t *moments = state;
    if (!count)
        moments->mean = value;
    tell(result, moments->mean, plan->threshold * deviation(moments), value - moments->mean);
    moments_add(moments, anomaly_weight(plan->over, count), value);
}

const anomaly_method_t anomaly_zscore = {
    .name = "zscore", .threshold = 3, .over = 100, .over_max = 1000000, .warmup = 30, .size = zscore_size, .step = zscore_step};

/* ewma */

typedef struct chart {
    moments_t moments;
    double smooth;            /* the moving mean */
} chart_t;

static void ewma_size(const anomaly_plan_t *plan, size_t *doubles, size_t *floats) {
    *doubles = sizeof(chart_t) / sizeof(double);
    *floats = 0;
}

/* The limits stand about the moving mean that would be; those of the value are where it would put the mean on them. */
static void ewma_step(const anomaly_plan_t *plan, void *state, uint64_t count, int64_t time, double value, anomaly_result_t *result) {
    chart_t *chart = state;
    if (!count)
        chart->moments.mean = chart->smooth = value;
    double mean = chart->moments.mean, limit = plan->threshold * deviation(&chart->moments) * sqrt(SMOOTHING / (2 - SMOOTHING));
    double before = chart->smooth;
    chart->smooth += SMOOTHING * (value - chart->smooth);
    tell(result, mean, limit, chart->smooth - mean);
    result->low = fmin(mean, (mean - limit - (1 - SMOOTHING) * before) / SMOOTHING);
    result->high = fmax(mean, (mean + limit - (1 - SMOOTHING) * before) / SMOOTHING);
    moments_add(&chart->moments, anomaly_weight(plan->over, count), value);
}

const anomaly_method_t anomaly_ewma = {
    .name = "ewma", .threshold = 3, .over = 500, .over_max = 1000000, .warmup = 30, .size = ewma_size, .step = ewma_step};

/* seasonal */

typedef struct season {
    double level, spread;     /* mean absolute deviation from expectation */
    double least, most;       /* of the values so far */
    cycle_t day, week;
    float phases[];           /* of the day and the week, or of the period */
} season_t;

static void seasonal_size(const anomaly_plan_t *plan, size_t *doubles, size_t *floats) {
    *doubles = sizeof(season_t) / sizeof(double);
    *floats = plan->period ? CYCLE_PHASES : cycle_day.phases + cycle_week.phases;
}

static void seasonal_step(const anomaly_plan_t *plan, void *state, uint64_t count, int64_t time, double value, anomaly_result_t *result) {
    season_t *season = state;
    if (!count)
        season->level = season->least = season->most = value;
    double distance = value - season->level, reach = count > plan->warmup ? REACH * season->spread : 0, left = distance;
    if (plan->period) {
        cycle_plan_t own = {plan->period, CYCLE_PHASES, cycle_week.weight};
        left -= cycle_step(&own, &season->day, season->phases, time, left, reach);
    } else {
        left -= cycle_step(&cycle_day, &season->day, season->phases, time, left, reach);
        left -= cycle_step(&cycle_week, &season->week, season->phases + cycle_day.phases, time, left, reach);
    }
    double limit = plan->threshold * fmax(NORMAL_SPREAD * season->spread, FLAT * fabs(season->level));
    tell(result, value - left, limit, left);
    result->expected = anomaly_clamp(result->expected, season->least, season->most);
    result->low = fmin(result->low, result->expected);
    result->high = fmax(result->high, result->expected);
    season->least = fmin(season->least, value);
    season->most = fmax(season->most, value);
    double weight = anomaly_weight(plan->over, count), far = reach > 0 ? 3 * reach : INFINITY;
    season->spread += weight * (fmin(fabs(left), far) - season->spread);
    season->level += weight * anomaly_clamp(distance, -far, far);
}

const anomaly_method_t anomaly_seasonal = {.name = "seasonal", .threshold = 4, .over = 500, .over_max = 1000000, .warmup = 100, .cycles = true,
                                           .size = seasonal_size, .step = seasonal_step};
