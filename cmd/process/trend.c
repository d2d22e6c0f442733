/* The points of a series and the tests on them. See trend.h. */
#include "trend.h"

#include <math.h>

#include "base/memory.h"

#define FIRST_CAPACITY 8

void trend_init(trend_t *trend) {
    *trend = (trend_t){.newest = INT64_MIN};
}

void trend_fini(trend_t *trend) {
    mem_free(trend->starts);
    mem_free(trend->values);
    mem_free(trend->sums);
    mem_free(trend->sizes);
    mem_free(trend->ages);
}

size_t trend_memory(const trend_t *trend) {
    return trend->capacity * (trend->sums ? 5 : 2) * sizeof(double);
}

static void reserve(trend_t *trend, const trend_window_t *window, uint32_t capacity) {
    trend->capacity = capacity;
    trend->starts = mem_resize(trend->starts, capacity * sizeof *trend->starts);
    trend->values = mem_resize(trend->values, capacity * sizeof *trend->values);
    if (!window->span)
        return;
    trend->sums = mem_resize(trend->sums, capacity * sizeof *trend->sums);
    trend->sizes = mem_resize(trend->sizes, capacity * sizeof *trend->sizes);
    trend->ages = mem_resize(trend->ages, capacity * sizeof *trend->ages);
}

/* The score. */

static int64_t tied(int64_t size) {
    return size * (size - 1) * (2 * size + 5);
}

/* Adds (sign 1) or takes away (-1) what the point has to do with all others. */
static void relate(trend_t *trend, uint32_t at, int sign) {
    const double *values = trend->values, value = values[at];
    int64_t rising = 0, equal = 0;
    for (uint32_t i = 0; i < at; i++) {
        rising += (value > values[i]) - (value < values[i]);
        equal += value == values[i];
    }
    for (uint32_t i = at + 1; i < trend->count; i++) {
        rising += (values[i] > value) - (values[i] < value);
        equal += value == values[i];
    }
    trend->score += sign * rising;
    trend->ties += sign * (tied(equal + 1) - tied(equal));
}

/* Points come and go. */

static void move(void *array, uint32_t to, uint32_t from, uint32_t count) {
    if (array)
        memmove((double *) array + to, (double *) array + from, count * sizeof(double));
}

static void move_points(trend_t *trend, uint32_t to, uint32_t from, uint32_t count) {
    move(trend->starts, to, from, count);
    move(trend->values, to, from, count);
    move(trend->sums, to, from, count);
    move(trend->sizes, to, from, count);
    move(trend->ages, to, from, count);
}

static void drop_oldest(trend_t *trend, uint32_t count) {
    if (count == trend->count) {
        trend->count = 0;
        trend->score = trend->ties = 0;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        relate(trend, 0, -1);
        trend->count--;
        move_points(trend, 0, 1, trend->count);
    }
}

static void insert(trend_t *trend, const trend_window_t *window, uint32_t at, int64_t start) {
    if (trend->count == trend->capacity)
        reserve(trend, window, trend->capacity ? trend->capacity * 2 : FIRST_CAPACITY);
    move_points(trend, at + 1, at, trend->count - at);
    trend->starts[at] = start;
    if (window->span)
        trend->sums[at] = trend->sizes[at] = trend->ages[at] = 0;
    trend->count++;
}

static bool is_outside(const trend_t *trend, const trend_window_t *window, int64_t start) {
    int64_t bound;
    return window->span && !__builtin_sub_overflow(trend->newest, window->span, &bound) && start <= bound;
}

void trend_pass(trend_t *trend, const trend_window_t *window, int64_t time) {
    if (time <= trend->newest)
        return;
    trend->newest = time;
    uint32_t leaving = 0;
    while (leaving < trend->count && is_outside(trend, window, trend->starts[leaving]))
        leaving++;
    if (leaving)
        drop_oldest(trend, leaving);
}

/* Behind those that begin at or before `start`. */
static uint32_t place_of(const trend_t *trend, int64_t start) {
    uint32_t at = trend->count;
    while (at > 0 && trend->starts[at - 1] > start)
        at--;
    return at;
}

static void add_to_slice(trend_t *trend, const trend_window_t *window, int64_t time, double value) {
    int64_t part = time % window->slice, start = time - part - (part < 0 ? window->slice : 0);
    if (is_outside(trend, window, start))
        return;
    uint32_t at = place_of(trend, start);
    if (at > 0 && trend->starts[at - 1] == start)
        relate(trend, --at, -1);
    else
        insert(trend, window, at, start);
    trend->sums[at] += value;
    trend->sizes[at] += 1;
    trend->ages[at] += (double) (time - start);
    trend->values[at] = trend->sums[at] / trend->sizes[at];
    relate(trend, at, 1);
}

void trend_add(trend_t *trend, const trend_window_t *window, int64_t time, double value) {
    trend_pass(trend, window, time);
    if (window->span) {
        add_to_slice(trend, window, time, value);
        return;
    }
    if (trend->count == window->most) {
        if (time < trend->starts[0])
            return;
        drop_oldest(trend, 1);
    }
    uint32_t at = place_of(trend, time);
    insert(trend, window, at, time);
    trend->values[at] = value;
    relate(trend, at, 1);
}

/* Results. */

/* Seconds since the first point's start. */
static double seconds_at(const trend_t *trend, uint32_t at) {
    int64_t ns;
    double since = __builtin_sub_overflow(trend->starts[at], trend->starts[0], &ns) ? (double) trend->starts[at] - (double) trend->starts[0] : (double) ns;
    if (trend->sums)
        since += trend->sizes[at] == 1 ? trend->ages[at] : trend->ages[at] / trend->sizes[at];
    return since / 1e9;
}

bool trend_slope(const trend_t *trend, double *slope) {
    double seconds[trend->count + 1], middle = 0, value = 0, across = 0, along = 0;
    if (trend->count < 2)
        return false;
    for (uint32_t i = 0; i < trend->count; i++) {
        middle += seconds[i] = seconds_at(trend, i);
        value += trend->values[i] - trend->values[0];
    }
    middle /= trend->count;
    value /= trend->count;
    for (uint32_t i = 0; i < trend->count; i++) {
        double apart = seconds[i] - middle;
        along += apart * apart;
        across += apart * (trend->values[i] - trend->values[0] - value);
    }
    *slope = across / along;
    return along > 0;
}

bool trend_significance(const trend_t *trend, double *p) {
    if (trend->count < 3)
        return false;
    int64_t n = trend->count;
    double variance = (double) (tied(n) - trend->ties) / 18, score = (double) trend->score;
    score -= score > 0 ? 1 : score < 0 ? -1 : 0;
    *p = variance > 0 ? erfc(fabs(score) / sqrt(2 * variance)) : 1;
    return true;
}

/* Snapshots: [newest, score, ties, [start, size, sum, age]...], by number [start, value]. */

void trend_save(const trend_t *trend, const trend_window_t *window, buf_t *out) {
    pack_array(out, 3 + trend->count * (window->span ? 4 : 2));
    pack_int(out, trend->newest);
    pack_int(out, trend->score);
    pack_int(out, trend->ties);
    for (uint32_t i = 0; i < trend->count; i++) {
        pack_int(out, trend->starts[i]);
        if (window->span) {
            pack_double(out, trend->sizes[i]);
            pack_double(out, trend->sums[i]);
            pack_double(out, trend->ages[i]);
        } else {
            pack_double(out, trend->values[i]);
        }
    }
}

static bool read_double(pack_cursor_t *cursor, double *number) {
    value_t value;
    if (!pack_read_value(cursor, &value) || value.type != VALUE_DOUBLE)
        return false;
    *number = value.number;
    return true;
}

static bool restore_point(trend_t *trend, const trend_window_t *window, uint32_t at, pack_cursor_t *cursor) {
    if (!pack_read_int(cursor, &trend->starts[at]) || (at && trend->starts[at] < trend->starts[at - 1]) || trend->starts[at] > trend->newest ||
        is_outside(trend, window, trend->starts[at]))
        return false;
    if (!window->span)
        return read_double(cursor, &trend->values[at]);
    if (!read_double(cursor, &trend->sizes[at]) || !(trend->sizes[at] >= 1) || !read_double(cursor, &trend->sums[at]) || !read_double(cursor, &trend->ages[at]))
        return false;
    trend->values[at] = trend->sums[at] / trend->sizes[at];
    return trend->starts[at] % window->slice == 0;
}

bool trend_restore(trend_t *trend, const trend_window_t *window, pack_cursor_t *cursor) {
    uint32_t elements, each = window->span ? 4 : 2;
    if (!pack_read_array(cursor, &elements) || elements < 3 || (elements - 3) % each || (elements - 3) / each > window->most ||
        elements > (size_t) (cursor->end - cursor->at) || !pack_read_int(cursor, &trend->newest) || !pack_read_int(cursor, &trend->score) ||
        !pack_read_int(cursor, &trend->ties))
        return false;
    uint32_t count = (elements - 3) / each, capacity = FIRST_CAPACITY;
    while (capacity < count)
        capacity *= 2;
    if (count)
        reserve(trend, window, capacity);
    for (; trend->count < count; trend->count++)
        if (!restore_point(trend, window, trend->count, cursor))
            return false;
    return true;
}
