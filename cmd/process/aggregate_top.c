/* How often each value occurs: the most frequent ones, by Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k
 * elements in data streams", 2005): with m counters a count is at most n / m too high, and every value more frequent than that is there. Put
 * together as in Agarwal and others, "Mergeable summaries", 2012. Where the window takes values out again there are as many counters
 * as values, and all is exact. Counters stand by falling count; one that counts changes places with the first of its equals, so it needs no list. */
#include "aggregate.h"

#include <stdlib.h>

#define COUNTERS_LEAST 128

typedef struct counter {
    uint64_t hash, count;
    value_t value;            /* texts and the like in memory of their own */
} counter_t;

typedef struct occurrences {
    counter_t *counters;
    uint32_t *slots;          /* numbers of counters, from 1, by hash; open addressing, at most half full */
    uint32_t count, capacity; /* slots are twice the capacity */
} occurrences_t;

static bool owns(value_t value) {
    return value.type >= VALUE_STRING && value.type <= VALUE_MAP;
}

static uint32_t bound(const accumulator_t *self) {
    return self->removes ? UINT32_MAX / 4 : self->limit < COUNTERS_LEAST ? COUNTERS_LEAST : self->limit;
}

static value_t value_copy(accumulator_t *self, value_t value) {
    if (owns(value)) {
        value.text = mem_copy(value.text, value.size);
        self->owned += value.size;
    }
    return value;
}

static void value_free(accumulator_t *self, value_t value) {
    if (owns(value)) {
        self->owned -= value.size;
        mem_free((void *) (uintptr_t) value.text);
    }
}

static uint32_t mask_of(const occurrences_t *state) {
    return 2 * state->capacity - 1;
}

/* The slot of the hash, or the free one where it belongs. */
static uint32_t *slot_of(const occurrences_t *state, uint64_t hash) {
    uint32_t mask = mask_of(state), i = (uint32_t) hash & mask;
    while (state->slots[i] && state->counters[state->slots[i] - 1].hash != hash)
        i = (i + 1) & mask;
    return &state->slots[i];
}

/* Closes the gap, so that all chains still lead to their ends. */
static void free_slot(occurrences_t *state, uint32_t *slot) {
    uint32_t mask = mask_of(state), gap = (uint32_t) (slot - state->slots), i = gap;
    for (;;) {
        i = (i + 1) & mask;
        if (!state->slots[i])
            break;
        uint32_t home = (uint32_t) state->counters[state->slots[i] - 1].hash & mask;
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            state->slots[gap] = state->slots[i];
            gap = i;
        }
    }
    state->slots[gap] = 0;
}

static void exchange(occurrences_t *state, uint32_t a, uint32_t b) {
    if (a == b)
        return;
    uint32_t *slot_a = slot_of(state, state->counters[a].hash), *slot_b = slot_of(state, state->counters[b].hash);
    counter_t counter = state->counters[a];
    state->counters[a] = state->counters[b];
    state->counters[b] = counter;
    *slot_a = b + 1;
    *slot_b = a + 1;
}

static void resize(accumulator_t *self, occurrences_t *state, uint32_t capacity) {
    self->owned += (capacity - state->capacity) * (sizeof *state->counters + 2 * sizeof *state->slots);
    state->capacity = capacity;
    state->counters = mem_resize(state->counters, capacity * sizeof *state->counters);
    mem_free(state->slots);
    state->slots = mem_zero(2 * (size_t) capacity * sizeof *state->slots);
    for (uint32_t i = 0; i < state->count; i++)
        *slot_of(state, state->counters[i].hash) = i + 1;
}

/* The first of the counters that count as much as the one at `at`. */
static uint32_t first_equal(const occurrences_t *state, uint32_t at) {
    uint32_t low = 0, high = at;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (state->counters[middle].count > state->counters[at].count)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t last_equal(const occurrences_t *state, uint32_t at) {
    uint32_t low = at, high = state->count - 1;
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        if (state->counters[middle].count < state->counters[at].count)
            high = middle - 1;
        else
            low = middle;
    }
    return low;
}

static void append(accumulator_t *self, occurrences_t *state, counter_t counter) {
    if (state->count == state->capacity)
        resize(self, state, state->capacity ? 2 * state->capacity : 8);
    *slot_of(state, counter.hash) = ++state->count;
    counter.value = value_copy(self, counter.value);
    state->counters[state->count - 1] = counter;
}

static void occurrence_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    occurrences_t *state = memory;
    uint64_t hash = aggregate_hash(self, value);
    uint32_t at = state->capacity ? *slot_of(state, hash) : 0;
    if (!at && state->count < bound(self)) {
        append(self, state, (counter_t){hash, 1, value});
        return;
    }
    if (!at) { /* in place of the rarest */
        counter_t *last = &state->counters[state->count - 1];
        free_slot(state, slot_of(state, last->hash));
        value_free(self, last->value);
        uint32_t *slot = slot_of(state, hash);
        last->hash = hash;
        last->value = value_copy(self, value);
        *slot = at = state->count;
    }
    uint32_t first = first_equal(state, at - 1);
    exchange(state, first, at - 1);
    state->counters[first].count++;
}

static void occurrence_remove(accumulator_t *self, void *memory, value_t value, int64_t time) {
    occurrences_t *state = memory;
    uint32_t at = state->capacity ? *slot_of(state, aggregate_hash(self, value)) : 0;
    if (!at)
        return;
    uint32_t last = last_equal(state, at - 1);
    exchange(state, last, at - 1);
    if (--state->counters[last].count)
        return;
    free_slot(state, slot_of(state, state->counters[last].hash));
    value_free(self, state->counters[last].value);
    state->count--; /* it was the last of all */
    if (state->capacity > 64 && state->count < state->capacity / 8)
        resize(self, state, state->capacity / 2);
}

static int by_count(const void *a, const void *b) {
    const counter_t *left = a, *right = b;
    if (left->count != right->count)
        return left->count < right->count ? 1 : -1;
    int order = aggregate_order(left->value, right->value);
    return order ? order : left->hash < right->hash ? -1 : left->hash > right->hash;
}

/* How much a value that has no counter may have occurred. */
static uint64_t unseen(const accumulator_t *self, const occurrences_t *state) {
    return state->count < bound(self) ? 0 : state->counters[state->count - 1].count;
}

static void occurrence_merge(accumulator_t *self, void *memory, const void *more) {
    occurrences_t *into = memory;
    const occurrences_t *from = more;
    if (!from->count)
        return;
    uint64_t before = unseen(self, into), other = unseen(self, from);
    uint32_t old = into->count;
    for (uint32_t i = 0; i < old; i++)
        if (!*slot_of(from, into->counters[i].hash))
            into->counters[i].count += other;
    for (uint32_t i = 0; i < from->count; i++) {
        const counter_t *counter = &from->counters[i];
        uint32_t at = into->capacity ? *slot_of(into, counter->hash) : 0;
        if (at)
            into->counters[at - 1].count += counter->count;
        else
            append(self, into, (counter_t){counter->hash, counter->count + before, counter->value});
    }
    qsort(into->counters, into->count, sizeof *into->counters, by_count);
    for (uint32_t most = bound(self); into->count > most;)
        value_free(self, into->counters[--into->count].value);
    resize(self, into, into->capacity);
}

value_t distinct_exact_result(const aggregate_t *self, const void *state, const finish_t *finish) {
    return value_uint(((const occurrences_t *) state)->count);
}

/* Equals in order of their values; where the window takes values out again, only among those that are shown. */
value_t top_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const occurrences_t *state = memory;
    uint32_t wanted = (uint32_t) self->parameter, count = state->count < wanted ? state->count : wanted, sorted = count;
    if (!count)
        return value_null();
    while (sorted < state->count && sorted < self->class->limit * wanted + COUNTERS_LEAST &&
           state->counters[sorted].count == state->counters[count - 1].count)
        sorted++;
    counter_t *counters = arena_copy(finish->arena, state->counters, sorted * sizeof *counters);
    qsort(counters, sorted, sizeof *counters, by_count);
    buf_clear(finish->scratch);
    pack_array(finish->scratch, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_map(finish->scratch, 2);
        pack_text(finish->scratch, "value");
        pack_value(finish->scratch, counters[i].value);
        pack_text(finish->scratch, "count");
        pack_uint(finish->scratch, counters[i].count);
    }
    uint8_t *packed = arena_copy(finish->arena, finish->scratch->data, finish->scratch->size);
    return (value_t){.type = VALUE_ARRAY, .size = (uint32_t) finish->scratch->size, .packed = packed};
}

/* [capacity, [count, value, ...]] */
static void occurrence_save(const void *memory, buf_t *out) {
    const occurrences_t *state = memory;
    pack_uint(out, state->capacity);
    pack_array(out, 2 * state->count);
    for (uint32_t i = 0; i < state->count; i++) {
        pack_uint(out, state->counters[i].count);
        pack_value(out, state->counters[i].value);
    }
}

static bool occurrence_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    occurrences_t *state = memory;
    uint64_t capacity;
    uint32_t elements;
    counter_t counter;
    if (!pack_read_uint(cursor, &capacity) || !pack_read_array(cursor, &elements) || elements / 2 > bound(self))
        return false;
    for (uint32_t i = 0; i < elements / 2; i++) {
        if (!pack_read_uint(cursor, &counter.count) || !pack_read_value(cursor, &counter.value))
            return false;
        counter.hash = aggregate_hash(self, counter.value);
        if (!counter.count || (i && (counter.count > state->counters[i - 1].count || *slot_of(state, counter.hash))))
            return false;
        append(self, state, counter);
    }
    /* A table that has shrunk grows again at another time than one that never was larger: only its size shows. */
    if (capacity != state->capacity && capacity >= 8 && !(capacity & (capacity - 1)) && capacity > state->count && capacity <= 64 + 16 * (uint64_t) state->count)
        resize(self, state, (uint32_t) capacity);
    return capacity == state->capacity;
}

static void occurrence_drop(accumulator_t *self, void *memory) {
    occurrences_t *state = memory;
    for (uint32_t i = 0; i < state->count; i++)
        value_free(self, state->counters[i].value);
    self->owned -= state->capacity * (sizeof *state->counters + 2 * sizeof *state->slots);
    mem_free(state->counters);
    mem_free(state->slots);
}

const state_class_t occurrence_state = {sizeof(occurrences_t), 2, occurrence_add, occurrence_merge, occurrence_remove, occurrence_save, occurrence_load,
                                        occurrence_drop};
