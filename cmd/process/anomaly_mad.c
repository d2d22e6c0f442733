/* The robust detector: a value's distance from the median of the last values, in median absolute deviations, as B. Iglewicz and D. Hoaglin have it (How
 * to Detect and Handle Outliers, 1993). Outliers among the last values, up to half of them, do not move what is usual. Both are exact. */
#include "anomaly.h"

#include <math.h>
#include <string.h>

#define FLAT 1e-9
#define NORMAL_MEDIAN 1.4826022185056018      /* a normal distribution's standard deviation over its median absolute deviation */
#define NORMAL_MEAN 1.2533141373155001        /* and over its mean absolute deviation */

/* The state: the last `over` values, oldest overwritten first, then the same in order. */

static void mad_size(const anomaly_plan_t *plan, size_t *doubles, size_t *floats) {
    *doubles = 2 * (size_t) plan->over;
    *floats = 0;
}

static double median(const double *sorted, size_t n) {
    return n % 2 ? sorted[n / 2] : sorted[n / 2 - 1] / 2 + sorted[n / 2] / 2;
}

/* The median of the distances from `center`: they grow outwards on both sides, so the least are taken until half of them are. */
static double median_distance(const double *sorted, size_t n, double center) {
    size_t right = 0, most = n;
    while (right < most) { /* the first that is not below the center */
        size_t middle = right + (most - right) / 2;
        if (sorted[middle] < center)
            right = middle + 1;
        else
            most = middle;
    }
    size_t left = right;
    double before = 0, now = 0;
    for (size_t taken = 0; taken <= n / 2; taken++) {
        before = now;
        if (left > 0 && (right == n || center - sorted[left - 1] < sorted[right] - center))
            now = center - sorted[--left];
        else
            now = sorted[right++] - center;
    }
    return n % 2 ? now : before / 2 + now / 2;
}

static double mean_distance(const double *sorted, size_t n, double center) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += fabs(sorted[i] - center);
    return sum / (double) n;
}

/* Takes the place of `old` in order; NULL: there is one more. */
static void replace(double *sorted, size_t n, const double *old, double value) {
    size_t at = n;
    if (old)
        for (at = 0; at + 1 < n && sorted[at] != *old;)
            at++;
    for (; at > 0 && sorted[at - 1] > value; at--)
        sorted[at] = sorted[at - 1];
    for (; old && at + 1 < n && sorted[at + 1] < value; at++)
        sorted[at] = sorted[at + 1];
    sorted[at] = value;
}

static void mad_step(const anomaly_plan_t *plan, void *state, uint64_t count, int64_t time, double value, anomaly_result_t *result) {
    double *values = state, *sorted = values + plan->over;
    size_t n = count < plan->over ? (size_t) count : plan->over;
    double center = n ? median(sorted, n) : value, spread = 0;
    if (n) {
        spread = NORMAL_MEDIAN * median_distance(sorted, n, center);
        if (spread <= FLAT * fabs(center)) /* more than half of them are alike */
            spread = fmax(NORMAL_MEAN * mean_distance(sorted, n, center), FLAT * fabs(center));
    }
    double reach = plan->threshold * spread;
    *result = (anomaly_result_t){
        .departure = anomaly_ratio(fabs(value - center), reach), .expected = center, .low = center - reach, .high = center + reach};
    double *oldest = &values[count % plan->over];
    replace(sorted, n, n == plan->over ? oldest : NULL, value);
    *oldest = value;
}

const anomaly_method_t anomaly_mad = {
    .name = "mad", .threshold = 3.5, .over = 100, .over_max = 1000, .warmup = 30, .size = mad_size, .step = mad_step};
