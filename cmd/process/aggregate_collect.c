/* Values as an array, in order of event time, and of several at a time as they arrived: the last `limit` of them, and no
 * more than BYTES_MAX but for a single one. */
#include "aggregate.h"

#define BYTES_MAX (1u << 20)

typedef struct item {
    int64_t time;
    uint64_t at;              /* of the packed value among the bytes */
    uint32_t size;
} item_t;

typedef struct collected {
    item_t *items;
    uint32_t first, end, capacity;        /* items in use: first to end */
    size_t garbage;           /* bytes of values that are gone */
    buf_t bytes;
    uint64_t in;              /* values that the window holds, beside those that were left out */
} collected_t;

/* Leaves out what is gone, once it is the greater part. */
static void tidy(accumulator_t *self, collected_t *state) {
    if (state->first > 16 && state->first >= state->end / 2) {
        memmove(state->items, state->items + state->first, (state->end - state->first) * sizeof *state->items);
        state->end -= state->first;
        state->first = 0;
    }
    if (state->garbage < 256 || state->garbage < state->bytes.size / 2)
        return;
    buf_t kept = {0};
    buf_reserve(&kept, state->bytes.size - state->garbage);
    for (uint32_t i = state->first; i < state->end; i++) {
        size_t at = kept.size;
        buf_put(&kept, state->bytes.data + state->items[i].at, state->items[i].size);
        state->items[i].at = at;
    }
    self->owned += kept.capacity;
    self->owned -= state->bytes.capacity;
    buf_fini(&state->bytes);
    state->bytes = kept;
    state->garbage = 0;
}

static void leave_out_first(accumulator_t *self, collected_t *state) {
    state->garbage += state->items[state->first++].size;
    tidy(self, state);
}

static uint32_t place_of(const collected_t *state, int64_t time) {
    uint32_t at = state->end;
    while (at > state->first && state->items[at - 1].time > time)
        at--;
    return at;
}

static void put(accumulator_t *self, collected_t *state, int64_t time, value_t value) {
    buf_clear(&self->scratch);
    pack_value(&self->scratch, value);
    size_t size = self->scratch.size, before = state->bytes.capacity;
    while (state->first < state->end &&
           (state->end - state->first == self->limit || state->bytes.size - state->garbage + size > BYTES_MAX)) {
        if (place_of(state, time) == state->first)
            return;
        leave_out_first(self, state);
        before = state->bytes.capacity;
    }
    if (state->end == state->capacity) {
        uint32_t more = state->capacity ? state->capacity : 4;
        state->capacity += more;
        state->items = mem_resize(state->items, state->capacity * sizeof *state->items);
        self->owned += more * sizeof *state->items;
    }
    uint32_t at = place_of(state, time);
    memmove(state->items + at + 1, state->items + at, (state->end++ - at) * sizeof *state->items);
    state->items[at] = (item_t){time, state->bytes.size, (uint32_t) size};
    buf_put(&state->bytes, self->scratch.data, size);
    self->owned += state->bytes.capacity - before;
}

static void collect_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    collected_t *state = memory;
    state->in++;
    put(self, state, time, value);
}

static void collect_merge(accumulator_t *self, void *memory, const void *more) {
    collected_t *into = memory;
    const collected_t *from = more;
    into->in += from->in;
    for (uint32_t i = from->first; i < from->end; i++) {
        pack_cursor_t cursor = pack_cursor(from->bytes.data + from->items[i].at, from->items[i].size);
        value_t value;
        if (pack_read_value(&cursor, &value))
            put(self, into, from->items[i].time, value);
    }
}

static void collect_remove(accumulator_t *self, void *memory, value_t value, int64_t time) {
    collected_t *state = memory;
    if (state->in-- == state->end - state->first)
        leave_out_first(self, state);
}

value_t collect_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const collected_t *state = memory;
    if (state->first == state->end)
        return value_null();
    buf_clear(finish->scratch);
    pack_array(finish->scratch, state->end - state->first);
    for (uint32_t i = state->first; i < state->end; i++)
        buf_put(finish->scratch, state->bytes.data + state->items[i].at, state->items[i].size);
    uint8_t *packed = arena_copy(finish->arena, finish->scratch->data, finish->scratch->size);
    return (value_t){.type = VALUE_ARRAY, .size = (uint32_t) finish->scratch->size, .packed = packed};
}

/* [values in the window, [time, value, ...]] */
static void collect_save(const void *memory, buf_t *out) {
    const collected_t *state = memory;
    pack_uint(out, state->in);
    pack_array(out, 2 * (state->end - state->first));
    for (uint32_t i = state->first; i < state->end; i++) {
        pack_int(out, state->items[i].time);
        buf_put(out, state->bytes.data + state->items[i].at, state->items[i].size);
    }
}

static bool collect_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    collected_t *state = memory;
    uint32_t elements;
    if (!pack_read_uint(cursor, &state->in) || !pack_read_array(cursor, &elements) || elements / 2 > self->limit)
        return false;
    for (uint32_t i = 0; i < elements / 2; i++) {
        int64_t time;
        value_t value;
        if (!pack_read_int(cursor, &time) || !pack_read_value(cursor, &value) || (i && time < state->items[i - 1].time))
            return false;
        put(self, state, time, value);
    }
    return state->in >= elements / 2;
}

static void collect_drop(accumulator_t *self, void *memory) {
    collected_t *state = memory;
    self->owned -= state->capacity * sizeof *state->items + state->bytes.capacity;
    mem_free(state->items);
    buf_fini(&state->bytes);
}

const state_class_t collect_state = {sizeof(collected_t), 2, collect_add, collect_merge, collect_remove, collect_save, collect_load, collect_drop};
