/* The detectors of anomaly, called directly. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../cmd/process/anomaly.h"
#include "base/clock.h"
#include "base/memory.h"

static const anomaly_method_t *const methods[] = {&anomaly_auto, &anomaly_zscore, &anomaly_mad, &anomaly_ewma, &anomaly_seasonal};
#define METHODS (sizeof methods / sizeof *methods)
#define MINUTE (60 * NS_PER_S)

static uint64_t random_state;

static double uniform(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (double) (random_state >> 11) / 9007199254740992.0;
}

static double normal(void) {
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += uniform();
    return sum - 6;
}

typedef struct detector {
    anomaly_plan_t plan;
    void *state;
    size_t doubles, floats;
    uint64_t count;
} detector_t;

static detector_t detector_with(const anomaly_method_t *method, uint32_t over, int64_t period) {
    detector_t detector = {.plan = {.method = method, .threshold = method->threshold, .over = over ? over : method->over, .warmup = method->warmup,
                                    .rest = method->rest, .period = period}};
    method->size(&detector.plan, &detector.doubles, &detector.floats);
    detector.state = mem_zero(detector.doubles * sizeof(double) + detector.floats * sizeof(float));
    return detector;
}

static anomaly_result_t next(detector_t *detector, double value) {
    anomaly_result_t result = {0};
    detector->plan.method->step(&detector->plan, detector->state, detector->count, (int64_t) detector->count * MINUTE, value, &result);
    detector->count++;
    return result;
}

static double series_value(int kind, int i) {
    switch (kind) {
    case 0: return normal();
    case 1: return 1e6 + 3e5 * sin(i / 50.0) + 1e4 * normal();
    case 2: return floor(uniform() * 4);
    case 3: return exp(2 * normal());
    default: return i * 7.0;
    }
}

static void a_constant_series_departs_from_nothing(void **state) {
    static const double constants[] = {0, 1, -273.15, 1e-300, 1e30, 18446744073709551615.0};
    for (size_t m = 0; m < METHODS; m++)
        for (size_t c = 0; c < sizeof constants / sizeof *constants; c++) {
            detector_t detector = detector_with(methods[m], 0, 0);
            for (int i = 0; i < 3000; i++) {
                anomaly_result_t result = next(&detector, constants[c]);
                assert_true(result.departure < 1e-6);
                if (i)
                    assert_true(fabs(result.expected - constants[c]) <= 1e-12 * fabs(constants[c]));
            }
            mem_free(detector.state);
        }
}

static void a_value_outside_the_band_is_an_anomaly(void **state) {
    for (size_t m = 0; m < METHODS; m++)
        for (int kind = 0; kind < 5; kind++) {
            random_state = 1 + m;
            detector_t detector = detector_with(methods[m], 0, 0);
            unsigned outside = 0;
            for (int i = 0; i < 4000; i++) {
                double value = series_value(kind, i) * (i % 500 == 499 ? 40 : 1);
                anomaly_result_t result = next(&detector, value);
                assert_true(isfinite(result.departure) && isfinite(result.low) && isfinite(result.high) && isfinite(result.expected));
                assert_true(result.departure >= 0 && result.departure <= ANOMALY_MOST);
                assert_true(result.low <= result.expected && result.expected <= result.high);
                double rounding = 1e-9 * (fabs(value) + fabs(result.expected));
                if (i > 20 && (value < result.low - rounding || value > result.high + rounding)) {
                    assert_true(result.departure >= 1);
                    outside++;
                }
            }
            assert_true(outside > 0 || kind == 4);
            mem_free(detector.state);
        }
}

static void the_unit_of_a_series_does_not_matter(void **state) {
    for (size_t m = 0; m < METHODS; m++)
        for (int exponent = -60; exponent <= 60; exponent += 40) {
            random_state = 5;
            detector_t one = detector_with(methods[m], 0, 0), other = detector_with(methods[m], 0, 0);
            for (int i = 0; i < 3000; i++) {
                double value = 20 + normal() + (i == 1500 ? 9 : 0);
                double departure = next(&one, value).departure, scaled = next(&other, ldexp(value, exponent)).departure;
                assert_true(fabs(departure - scaled) <= 1e-9 * (1 + departure));
            }
            mem_free(one.state);
            mem_free(other.state);
        }
}

static void any_value_is_borne(void **state) {
    static const double values[] = {0, -0.0, 1e30, -1e30, 5e-324, 1e-30, 1, -1, 1e15, -1e-15};
    for (size_t m = 0; m < METHODS; m++) {
        random_state = 9;
        detector_t detector = detector_with(methods[m], 0, 0);
        for (int i = 0; i < 20000; i++) {
            anomaly_result_t result = next(&detector, values[(int) (uniform() * 10)]);
            assert_true(isfinite(result.departure) && isfinite(result.low) && isfinite(result.high) && isfinite(result.expected));
        }
        mem_free(detector.state);
    }
}

/* How far a departure is does not end where the score does. */
static void departures_are_told_apart_however_great(void **state) {
    for (size_t m = 0; m < METHODS; m++) {
        double last = 0;
        for (int power = 2; power <= 20; power += 3) {
            random_state = 6;
            detector_t detector = detector_with(methods[m], 0, 0);
            for (int i = 0; i < 500; i++)
                next(&detector, 20 + normal());
            double departure = next(&detector, pow(10, power)).departure;
            assert_true(departure > last * 10 && departure < ANOMALY_MOST);
            last = departure;
            mem_free(detector.state);
        }
    }
}

/* A spike is no rhythm: nobody expects the next one, and nothing that never was. */
static void what_is_expected_after_a_spike_was_there_before(void **state) {
    for (size_t m = 0; m < METHODS; m++)
        for (int at = 120; at < 400; at += 7) {
            detector_t detector = detector_with(methods[m], 0, 0);
            for (int i = 0; i < 600; i++) {
                anomaly_result_t result = next(&detector, i == at ? 100 : 5);
                assert_true(result.expected >= 5 - 1e-9 && result.expected < 30);
                assert_true(result.low <= 5 + 1e-6 && result.high >= 5 - 1e-6);
            }
            mem_free(detector.state);
        }
}

/* What a damaged snapshot may hold: the detectors neither crash nor run on for ever. */
static void any_state_is_borne(void **state) {
    static const double numbers[] = {0, -1, 1e308, -1e308, 0.5, 3, 1e18, 5e-324};
    for (size_t m = 0; m < METHODS; m++)
        for (int round = 0; round < 200; round++) {
            random_state = (uint64_t) round;
            detector_t detector = detector_with(methods[m], 0, 0);
            for (size_t i = 0; i < detector.doubles; i++)
                ((double *) detector.state)[i] = numbers[(int) (uniform() * 8)];
            float *floats = (float *) ((double *) detector.state + detector.doubles);
            for (size_t i = 0; i < detector.floats; i++)
                floats[i] = (float) (numbers[(int) (uniform() * 8)] / 1e300);
            detector.count = (uint64_t) (uniform() * 1000);
            for (int i = 0; i < 300; i++)
                next(&detector, normal());
            mem_free(detector.state);
        }
}

static int compare(const void *a, const void *b) {
    double first = *(const double *) a, second = *(const double *) b;
    return first < second ? -1 : first > second;
}

static double median_of(double *values, size_t n) {
    qsort(values, n, sizeof *values, compare);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void mad_is_the_median_and_the_median_deviation(void **state) {
    static const uint32_t overs[] = {2, 3, 10, 51};
    double values[1000], copy[64];
    for (int kind = 0; kind < 4; kind++)
        for (size_t o = 0; o < 4; o++) {
            random_state = 100 + o;
            detector_t detector = detector_with(&anomaly_mad, overs[o], 0);
            for (int i = 0; i < 1000; i++) {
                values[i] = series_value(kind, i);
                anomaly_result_t result = next(&detector, values[i]);
                size_t n = (size_t) i < overs[o] ? (size_t) i : overs[o];
                if (!n)
                    continue;
                for (size_t j = 0; j < n; j++)
                    copy[j] = values[(size_t) i - n + j];
                double center = median_of(copy, n);
                assert_true(fabs(result.expected - center) <= 1e-12 * fabs(center));
                for (size_t j = 0; j < n; j++)
                    copy[j] = fabs(values[(size_t) i - n + j] - center);
                double reach = 3.5 * 1.4826022185056018 * median_of(copy, n);
                if (reach > 1e-6 * fabs(center))
                    assert_true(fabs(result.high - center - reach) <= 1e-9 * (reach + fabs(center)));
            }
            mem_free(detector.state);
        }
}

static void zscore_at_first_is_mean_and_deviation(void **state) {
    detector_t detector = detector_with(&anomaly_zscore, 1000, 0);
    double sum = 0, squares = 0;
    random_state = 3;
    for (int i = 0; i < 1000; i++) {
        double value = 50 + normal();
        anomaly_result_t result = next(&detector, value);
        if (i > 1) {
            double mean = sum / i, variance = squares / i - mean * mean;
            assert_true(fabs(result.expected - mean) < 1e-9);
            assert_true(fabs(result.high - mean - 3 * sqrt(variance)) < 1e-6);
        }
        sum += value;
        squares += value * value;
    }
    mem_free(detector.state);
}

static void a_period_is_learnt(void **state) {
    static const int64_t periods[] = {0, 30 * MINUTE};
    const anomaly_method_t *const cyclic[] = {&anomaly_auto, &anomaly_seasonal};
    for (int m = 0; m < 2; m++)
        for (int p = 0; p < 2; p++) {
            int length = p ? 30 : 24 * 60;
            detector_t detector = detector_with(cyclic[m], 0, periods[p]);
            double worst = 0;
            for (int i = 0; i < 12 * length; i++) {
                double value = 100 + 50 * sin(2 * 3.14159265358979 * i / length);
                anomaly_result_t result = next(&detector, value);
                if (i >= 11 * length)
                    worst = fmax(worst, fabs(result.expected - value));
            }
            assert_true(worst < 25); /* the level alone is off by 50 */
            mem_free(detector.state);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_constant_series_departs_from_nothing),
        cmocka_unit_test(a_value_outside_the_band_is_an_anomaly),
        cmocka_unit_test(the_unit_of_a_series_does_not_matter),
        cmocka_unit_test(any_value_is_borne),
        cmocka_unit_test(departures_are_told_apart_however_great),
        cmocka_unit_test(what_is_expected_after_a_spike_was_there_before),
        cmocka_unit_test(any_state_is_borne),
        cmocka_unit_test(mad_is_the_median_and_the_median_deviation),
        cmocka_unit_test(zscore_at_first_is_mean_and_deviation),
        cmocka_unit_test(a_period_is_learnt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
