/* Aggregates of numbers that are computed: sums of integers are exact as long as 64 bits hold them; sums of doubles are compensated (Knuth's exact
 * two-sum, the errors summed apart, as Kahan and Babuška do), so the order of events matters little. Deviations go by Welford's method and are put
 * together as Chan, Golub and LeVeque do ("Updating formulae and a pairwise algorithm for computing sample variances", 1979). */
#include "aggregate.h"

#include <math.h>

#include "base/clock.h"

typedef struct counting {
    uint64_t n;
} counting_t;

static void count_add(accumulator_t *self, void *state, value_t value, int64_t time) {
    ((counting_t *) state)->n++;
}

static void count_merge(accumulator_t *self, void *into, const void *from) {
    ((counting_t *) into)->n += ((const counting_t *) from)->n;
}

static void count_remove(accumulator_t *self, void *state, value_t value, int64_t time) {
    ((counting_t *) state)->n--;
}

value_t count_result(const aggregate_t *self, const void *state, const finish_t *finish) {
    return value_uint(((const counting_t *) state)->n);
}

static value_t per_second(double total, const finish_t *finish) {
    return finish->span > 0 ? finite_or_null(total / ((double) finish->span / (double) NS_PER_S)) : value_null();
}

value_t count_rate_result(const aggregate_t *self, const void *state, const finish_t *finish) {
    return per_second((double) ((const counting_t *) state)->n, finish);
}

static void count_save(const void *state, buf_t *out) {
    pack_uint(out, ((const counting_t *) state)->n);
}

static bool count_load(accumulator_t *self, void *state, pack_cursor_t *cursor) {
    return pack_read_uint(cursor, &((counting_t *) state)->n);
}

const state_class_t counting_state = {sizeof(counting_t), 1, count_add, count_merge, count_remove, count_save, count_load, NULL};

/* Sums. */

typedef struct summing {
    uint64_t n : 63;
    uint64_t real : 1;        /* something went into sum */
    int64_t whole;            /* of the integers, while it is exact */
    double sum, lost;         /* of the doubles, and of integers beyond int64 */
} summing_t;

static inline void add_double(summing_t *state, double x) {
    double sum = state->sum + x, part = sum - state->sum;
    state->lost += (state->sum - (sum - part)) + (x - part);
    state->sum = sum;
    state->real = true;
}

static inline void add_integer(summing_t *state, int64_t integer) {
    if (__builtin_add_overflow(state->whole, integer, &state->whole)) {
        /* It wrapped: what is there and what comes go over into doubles. */
        add_double(state, (double) (int64_t) ((uint64_t) state->whole - (uint64_t) integer));
        add_double(state, (double) integer);
        state->whole = 0;
    }
}

static void sum_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    summing_t *state = memory;
    state->n++;
    if (value.type == VALUE_DOUBLE)
        add_double(state, value.number);
    else if (value.type == VALUE_UINT)
        add_double(state, (double) value.unsigned_integer);
    else
        add_integer(state, value.integer);
}

static void sum_merge(accumulator_t *self, void *memory, const void *more) {
    summing_t *into = memory;
    const summing_t *from = more;
    into->n += from->n;
    add_integer(into, from->whole);
    if (from->real) {
        add_double(into, from->sum);
        into->lost += from->lost;
    }
}

static double total(const summing_t *state) {
    double sum = isfinite(state->lost) ? state->sum + state->lost : state->sum;
    return sum + (double) state->whole;
}

value_t sum_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const summing_t *state = memory;
    if (!state->n)
        return value_null();
    return state->real ? finite_or_null(total(state)) : value_int(state->whole);
}

value_t avg_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const summing_t *state = memory;
    return state->n ? finite_or_null(total(state) / (double) state->n) : value_null();
}

value_t sum_rate_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const summing_t *state = memory;
    return state->n ? per_second(total(state), finish) : value_null();
}

static void sum_save(const void *memory, buf_t *out) {
    const summing_t *state = memory;
    pack_uint(out, state->n);
    pack_int(out, state->whole);
    pack_double(out, state->sum);
    pack_double(out, state->lost);
    pack_bool(out, state->real);
}

static bool sum_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    summing_t *state = memory;
    uint64_t n;
    bool real;
    if (!pack_read_uint(cursor, &n) || !pack_read_int(cursor, &state->whole) || !read_double(cursor, &state->sum) ||
        !read_double(cursor, &state->lost) || !read_bool(cursor, &real))
        return false;
    state->n = n & INT64_MAX;
    state->real = real;
    return true;
}

const state_class_t summing_state = {sizeof(summing_t), 5, sum_add, sum_merge, NULL, sum_save, sum_load, NULL};

/* Deviations. */

typedef struct spreading {
    uint64_t n;
    double mean, squares;
} spreading_t;

static void spread_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    spreading_t *state = memory;
    double x = value_to_double(value), before = x - state->mean;
    state->n++;
    state->mean += before / (double) state->n;
    state->squares += before * (x - state->mean);
}

static void spread_merge(accumulator_t *self, void *memory, const void *more) {
    spreading_t *into = memory;
    const spreading_t *from = more;
    if (!into->n) {
        *into = *from;
    } else if (from->n) {
        double n = (double) (into->n + from->n), apart = from->mean - into->mean, share = (double) from->n / n;
        into->squares += from->squares + apart * apart * share * (double) into->n;
        into->mean += apart * share;
        into->n += from->n;
    }
}

value_t var_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const spreading_t *state = memory;
    return state->n > 1 ? finite_or_null(state->squares / (double) (state->n - 1)) : value_null();
}

value_t stddev_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    value_t variance = var_result(self, memory, finish);
    return variance.type == VALUE_NULL ? variance : value_double(sqrt(variance.number));
}

static void spread_save(const void *memory, buf_t *out) {
    const spreading_t *state = memory;
    pack_uint(out, state->n);
    pack_double(out, state->mean);
    pack_double(out, state->squares);
}

static bool spread_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    spreading_t *state = memory;
    return pack_read_uint(cursor, &state->n) && read_double(cursor, &state->mean) && read_double(cursor, &state->squares);
}

const state_class_t spreading_state = {sizeof(spreading_t), 3, spread_add, spread_merge, NULL, spread_save, spread_load, NULL};

/* The least and the greatest number; both null before the first. */
typedef struct extent {
    value_t least, greatest;
} extent_t;

static void extent_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    extent_t *state = memory;
    if (state->least.type == VALUE_NULL || value_order(value, state->least) < 0)
        state->least = value;
    if (state->greatest.type == VALUE_NULL || value_order(value, state->greatest) == 1)
        state->greatest = value;
}

static void extent_merge(accumulator_t *self, void *into, const void *more) {
    const extent_t *from = more;
    if (from->least.type != VALUE_NULL) {
        extent_add(self, into, from->least, 0);
        extent_add(self, into, from->greatest, 0);
    }
}

value_t range_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const extent_t *state = memory;
    int64_t whole;
    if (state->least.type == VALUE_NULL)
        return value_null();
    if (state->least.type == VALUE_INT && state->greatest.type == VALUE_INT &&
        !__builtin_sub_overflow(state->greatest.integer, state->least.integer, &whole))
        return value_int(whole);
    return finite_or_null(value_to_double(state->greatest) - value_to_double(state->least));
}

void extent_times(const void *extent, int64_t *earliest, int64_t *latest) {
    const extent_t *state = extent;
    *earliest = state->least.integer;
    *latest = state->greatest.integer;
}

static void extent_save(const void *memory, buf_t *out) {
    const extent_t *state = memory;
    pack_value(out, state->least);
    pack_value(out, state->greatest);
}

static bool extent_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    extent_t *state = memory;
    return pack_read_value(cursor, &state->least) && pack_read_value(cursor, &state->greatest) &&
           (value_is_number(state->least) ? value_is_number(state->greatest)
                                          : state->least.type == VALUE_NULL && state->greatest.type == VALUE_NULL);
}

const state_class_t extent_state = {sizeof(extent_t), 2, extent_add, extent_merge, NULL, extent_save, extent_load, NULL};

/* A line through values over time, by sums of products about the means (the same formulas as for variances). Times count in seconds from the
 * first one, so that doubles hold them. */
typedef struct trend {
    uint64_t n;
    int64_t origin;           /* ns: where time begins */
    double time, value;       /* means */
    double times, products;   /* sums of squares and of products */
} trend_t;

static void trend_put(trend_t *into, const trend_t *from) {
    if (!into->n) {
        *into = *from;
        return;
    }
    double n = (double) (into->n + from->n), share = (double) from->n / n, weight = share * (double) into->n;
    double origins = ((double) from->origin - (double) into->origin) / (double) NS_PER_S;
    int64_t exact;
    if (!__builtin_sub_overflow(from->origin, into->origin, &exact))
        origins = (double) exact / (double) NS_PER_S;
    double time = origins + from->time - into->time, value = from->value - into->value;
    into->times += from->times + time * time * weight;
    into->products += from->products + time * value * weight;
    into->time += time * share;
    into->value += value * share;
    into->n += from->n;
}

static void trend_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    trend_put(memory, &(trend_t){.n = 1, .origin = time, .value = value_to_double(value)});
}

static void trend_merge(accumulator_t *self, void *into, const void *from) {
    if (((const trend_t *) from)->n)
        trend_put(into, from);
}

value_t slope_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const trend_t *state = memory;
    return state->n > 1 && state->times > 0 ? finite_or_null(state->products / state->times) : value_null();
}

static void trend_save(const void *memory, buf_t *out) {
    const trend_t *state = memory;
    pack_uint(out, state->n);
    pack_int(out, state->origin);
    pack_double(out, state->time);
    pack_double(out, state->value);
    pack_double(out, state->times);
    pack_double(out, state->products);
}

static bool trend_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    trend_t *state = memory;
    return pack_read_uint(cursor, &state->n) && pack_read_int(cursor, &state->origin) && read_double(cursor, &state->time) &&
           read_double(cursor, &state->value) && read_double(cursor, &state->times) && read_double(cursor, &state->products);
}

const state_class_t trend_state = {sizeof(trend_t), 6, trend_add, trend_merge, NULL, trend_save, trend_load, NULL};
