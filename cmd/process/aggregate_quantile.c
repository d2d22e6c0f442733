/* Quantiles. Up to EXACT values are kept as they are, in order. More are counted in buckets of a relative width: 64 to each power of two, so that
 * the middle of a bucket is within 1/128 = 0.8 % of every value in it. That is the log-linear form of DDSketch (Masson, Rim, Lee: "DDSketch", VLDB
 * 2019, with the mapping that HdrHistogram has); the bucket's number is the upper bits of the double, so there is no logarithm to compute.
 * Each sign has at most BUCKETS_MAX of them: values more than 2^128 below the greatest count as that. Sketches are put together without any loss. */
#include "aggregate.h"

#include <float.h>
#include <math.h>

#define EXACT 32
#define SHIFT 46            /* bits of a double below those that number its bucket */
#define OCTAVE 64           /* buckets of a power of two */
#define BUCKETS_MAX 8192
#define BUCKETS_ALL (2048 * OCTAVE)                   /* there can be */

typedef struct side {       /* of zero */
    uint64_t *counts;
    uint32_t low, size;     /* buckets from low on, whole octaves */
    uint64_t total;
} side_t;

enum { NEGATIVE, POSITIVE };

typedef struct sketch {
    side_t sides[2];
    uint64_t zeros, infinite[2];
    double least, greatest; /* unless values are taken out again */
} sketch_t;

typedef struct quantiles {
    double *values;         /* sorted; NULL when there is a sketch */
    sketch_t *sketch;
    uint32_t count, capacity;
} quantiles_t;

static uint32_t bucket_of(double magnitude) {
    uint64_t bits;
    memcpy(&bits, &magnitude, sizeof bits);
    return (uint32_t) (bits >> SHIFT);
}

static double bucket_start(uint32_t bucket) {
    uint64_t bits = (uint64_t) bucket << SHIFT;
    double start;
    memcpy(&start, &bits, sizeof start);
    return start;
}

static double bucket_middle(uint32_t bucket) {
    double start = bucket_start(bucket), width = bucket_start(bucket + 1) - start;
    return isfinite(width) ? start + width / 2 : start;
}

/* Makes room for the bucket. Past the bound the lowest ones become one. */
static void side_grow(accumulator_t *self, side_t *side, uint32_t bucket) {
    uint32_t low = bucket / OCTAVE * OCTAVE, end = low + OCTAVE, fold = 0;
    if (side->size) {
        low = side->low < low ? side->low : low;
        end = side->low + side->size > end ? side->low + side->size : end;
    }
    if (end - low > BUCKETS_MAX)
        low = end - BUCKETS_MAX;
    if (side->size && low == side->low && end == side->low + side->size)
        return;
    uint64_t *counts = mem_zero((end - low) * sizeof *counts);
    for (uint32_t i = 0; i < side->size; i++) {
        fold = side->low + i < low ? 0 : side->low + i - low;
        counts[fold] += side->counts[i];
    }
    self->owned += ((size_t) (end - low) - side->size) * sizeof *counts;
    mem_free(side->counts);
    side->counts = counts;
    side->low = low;
    side->size = end - low;
}

static uint64_t *side_count(accumulator_t *self, side_t *side, uint32_t bucket) {
    if (bucket - side->low >= side->size) {
        side_grow(self, side, bucket);
        if (bucket < side->low)
            bucket = side->low;
    }
    return &side->counts[bucket - side->low];
}

static void sketch_count(accumulator_t *self, sketch_t *sketch, double x, int step) {
    unsigned sign = x < 0 ? NEGATIVE : POSITIVE;
    if (x == 0) {
        sketch->zeros += (uint64_t) (int64_t) step;
    } else if (isinf(x)) {
        sketch->infinite[sign] += (uint64_t) (int64_t) step;
    } else {
        side_t *side = &sketch->sides[sign];
        *side_count(self, side, bucket_of(fabs(x))) += (uint64_t) (int64_t) step;
        side->total += (uint64_t) (int64_t) step;
    }
}

static void sketch_add(accumulator_t *self, sketch_t *sketch, double x) {
    sketch_count(self, sketch, x, 1);
    if (self->removes)
        return;
    sketch->least = x < sketch->least ? x : sketch->least;
    sketch->greatest = x > sketch->greatest ? x : sketch->greatest;
}

static sketch_t *sketch_new(accumulator_t *self) {
    sketch_t *sketch = mem_zero(sizeof *sketch);
    sketch->least = INFINITY;
    sketch->greatest = -INFINITY;
    self->owned += sizeof *sketch;
    return sketch;
}

static sketch_t *to_sketch(accumulator_t *self, quantiles_t *state) {
    if (!state->sketch) {
        state->sketch = sketch_new(self);
        for (uint32_t i = 0; i < state->count; i++)
            sketch_add(self, state->sketch, state->values[i]);
        self->owned -= state->capacity * sizeof *state->values;
        mem_free(state->values);
        state->values = NULL;
        state->count = state->capacity = 0;
    }
    return state->sketch;
}

static uint32_t place_of(const quantiles_t *state, double x) {
    uint32_t low = 0, high = state->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (state->values[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void put(accumulator_t *self, quantiles_t *state, double x) {
    if (state->sketch || state->count == EXACT) {
        sketch_add(self, to_sketch(self, state), x);
        return;
    }
    if (state->count == state->capacity) {
        uint32_t more = state->capacity ? state->capacity : 4;
        state->capacity += more;
        state->values = mem_resize(state->values, state->capacity * sizeof *state->values);
        self->owned += more * sizeof *state->values;
    }
    uint32_t at = place_of(state, x);
    memmove(state->values + at + 1, state->values + at, (state->count++ - at) * sizeof *state->values);
    state->values[at] = x;
}

static void quantile_add(accumulator_t *self, void *state, value_t value, int64_t time) {
    put(self, state, value_to_double(value));
}

static void quantile_remove(accumulator_t *self, void *memory, value_t value, int64_t time) {
    quantiles_t *state = memory;
    double x = value_to_double(value);
    if (state->sketch) {
        sketch_count(self, state->sketch, x, -1);
        return;
    }
    uint32_t at = place_of(state, x);
    if (at < state->count)
        memmove(state->values + at, state->values + at + 1, (--state->count - at) * sizeof *state->values);
}

static void quantile_merge(accumulator_t *self, void *memory, const void *more) {
    quantiles_t *into = memory;
    const quantiles_t *from = more;
    for (uint32_t i = 0; i < from->count; i++)
        put(self, into, from->values[i]);
    if (!from->sketch)
        return;
    sketch_t *sketch = to_sketch(self, into);
    const sketch_t *other = from->sketch;
    for (unsigned sign = 0; sign < 2; sign++) {
        const side_t *side = &other->sides[sign];
        for (uint32_t i = side->size; i-- > 0;) /* from the top: so that it grows once */
            if (side->counts[i])
                *side_count(self, &sketch->sides[sign], side->low + i) += side->counts[i];
        sketch->sides[sign].total += side->total;
        sketch->infinite[sign] += other->infinite[sign];
    }
    sketch->zeros += other->zeros;
    sketch->least = other->least < sketch->least ? other->least : sketch->least;
    sketch->greatest = other->greatest > sketch->greatest ? other->greatest : sketch->greatest;
}

/* The magnitude with `rank` lower ones on its side; looked for from the nearer end. */
static double side_value(const side_t *side, uint64_t rank) {
    uint32_t i;
    if (rank < side->total / 2) {
        for (i = 0; i + 1 < side->size && rank >= side->counts[i]; i++)
            rank -= side->counts[i];
    } else {
        rank = side->total - 1 - rank;
        for (i = side->size - 1; i > 0 && rank >= side->counts[i]; i--)
            rank -= side->counts[i];
    }
    return bucket_middle(side->low + i);
}

static uint64_t sketch_total(const sketch_t *sketch) {
    return sketch->sides[0].total + sketch->sides[1].total + sketch->zeros + sketch->infinite[0] + sketch->infinite[1];
}

static double sketch_value(const sketch_t *sketch, uint64_t rank) {
    const side_t *negative = &sketch->sides[NEGATIVE], *positive = &sketch->sides[POSITIVE];
    if (rank < sketch->infinite[NEGATIVE])
        return -INFINITY;
    rank -= sketch->infinite[NEGATIVE];
    if (rank < negative->total)
        return -side_value(negative, negative->total - 1 - rank);
    rank -= negative->total;
    if (rank < sketch->zeros)
        return 0;
    rank -= sketch->zeros;
    return rank < positive->total ? side_value(positive, rank) : INFINITY;
}

static double value_at(const aggregate_t *self, const quantiles_t *state, uint64_t rank, uint64_t n) {
    const sketch_t *sketch = state->sketch;
    if (!sketch)
        return state->values[rank];
    bool bounded = sketch->least <= sketch->greatest;
    if (bounded && (rank == 0 || rank == n - 1))
        return rank ? sketch->greatest : sketch->least;
    double x = sketch_value(sketch, rank);
    return !bounded || (x >= sketch->least && x <= sketch->greatest) ? x : x < sketch->least ? sketch->least : sketch->greatest;
}

/* In proportion between the two values nearest to the place p (n - 1), counted from 0: definition 7 of Hyndman and Fan ("Sample quantiles in
 * statistical packages", 1996), which SQL calls PERCENTILE_CONT. */
value_t quantile_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const quantiles_t *state = memory;
    uint64_t n = state->sketch ? sketch_total(state->sketch) : state->count;
    if (!n)
        return value_null();
    double place = self->parameter / 100 * (double) (n - 1);
    uint64_t rank = (uint64_t) place;
    if (rank >= n - 1)
        return finite_or_null(value_at(self, state, n - 1, n));
    double below = value_at(self, state, rank, n), share = place - (double) rank;
    if (share <= 0)
        return finite_or_null(below);
    double above = value_at(self, state, rank + 1, n);
    double x = below + (above - below) * share;
    return isfinite(x) || isinf(below) || isinf(above) ? finite_or_null(x) : value_double(below * (1 - share) + above * share);
}

/* [values...], or {sketch: [least, greatest, zeros, infinite, infinite, [low, size, at, count, at, count...] of each side]} as array in an array. */

static void side_save(const side_t *side, buf_t *out) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < side->size; i++)
        used += side->counts[i] != 0;
    pack_array(out, 2 + 2 * used);
    pack_uint(out, side->low);
    pack_uint(out, side->size);
    for (uint32_t i = 0; i < side->size; i++) {
        if (side->counts[i]) {
            pack_uint(out, i);
            pack_uint(out, side->counts[i]);
        }
    }
}

static void quantile_save(const void *memory, buf_t *out) {
    const quantiles_t *state = memory;
    const sketch_t *sketch = state->sketch;
    pack_bool(out, sketch != NULL);
    if (!sketch) {
        pack_array(out, state->count);
        for (uint32_t i = 0; i < state->count; i++)
            pack_double(out, state->values[i]);
        return;
    }
    pack_array(out, 7);
    pack_double(out, sketch->least);
    pack_double(out, sketch->greatest);
    pack_uint(out, sketch->zeros);
    for (unsigned sign = 0; sign < 2; sign++) {
        pack_uint(out, sketch->infinite[sign]);
        side_save(&sketch->sides[sign], out);
    }
}

static bool side_load(accumulator_t *self, side_t *side, pack_cursor_t *cursor) {
    uint32_t elements;
    uint64_t low, size, at, count;
    if (!pack_read_array(cursor, &elements) || elements < 2 || elements % 2 || !pack_read_uint(cursor, &low) || !pack_read_uint(cursor, &size) ||
        size > BUCKETS_MAX || size % OCTAVE || low % OCTAVE || low > BUCKETS_ALL - size)
        return false;
    side->counts = size ? mem_zero(size * sizeof *side->counts) : NULL;
    side->low = (uint32_t) low;
    side->size = (uint32_t) size;
    self->owned += size * sizeof *side->counts;
    for (uint32_t i = 2; i < elements; i += 2) {
        if (!pack_read_uint(cursor, &at) || !pack_read_uint(cursor, &count) || at >= size)
            return false;
        side->counts[at] = count;
        side->total += count;
    }
    return true;
}

static bool quantile_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    quantiles_t *state = memory;
    uint32_t count;
    bool sketched;
    double x;
    if (!read_bool(cursor, &sketched) || !pack_read_array(cursor, &count))
        return false;
    if (!sketched) {
        if (count > EXACT)
            return false;
        for (uint32_t i = 0; i < count; i++) {
            if (!read_double(cursor, &x) || x != x)
                return false;
            put(self, state, x);
        }
        return true;
    }
    sketch_t *sketch = state->sketch = sketch_new(self);
    if (count != 7 || !read_double(cursor, &sketch->least) || !read_double(cursor, &sketch->greatest) || !pack_read_uint(cursor, &sketch->zeros))
        return false;
    for (unsigned sign = 0; sign < 2; sign++)
        if (!pack_read_uint(cursor, &sketch->infinite[sign]) || !side_load(self, &sketch->sides[sign], cursor))
            return false;
    return true;
}

static void quantile_drop(accumulator_t *self, void *memory) {
    quantiles_t *state = memory;
    self->owned -= state->capacity * sizeof *state->values;
    mem_free(state->values);
    if (!state->sketch)
        return;
    for (unsigned sign = 0; sign < 2; sign++) {
        self->owned -= state->sketch->sides[sign].size * sizeof(uint64_t);
        mem_free(state->sketch->sides[sign].counts);
    }
    self->owned -= sizeof *state->sketch;
    mem_free(state->sketch);
}

const state_class_t quantile_state = {sizeof(quantiles_t), 2, quantile_add, quantile_merge, quantile_remove, quantile_save, quantile_load, quantile_drop};
