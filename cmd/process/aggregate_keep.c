/* Aggregates that are one of the values: the least, the greatest, the first, the last. Texts and the like are kept in memory of the state's own. */
#include "aggregate.h"

typedef struct keeping {
    value_t value;
    int64_t time;
    char *bytes;
    uint32_t capacity;
    bool some;
} keeping_t;

static void keep_value(accumulator_t *self, keeping_t *state, value_t value, int64_t time) {
    if (value.type >= VALUE_STRING && value.type <= VALUE_MAP) {
        if (value.size > state->capacity) {
            self->owned += value.size - state->capacity;
            state->bytes = mem_resize(state->bytes, value.size);
            state->capacity = value.size;
        }
        if (value.size)
            memcpy(state->bytes, value.text, value.size);
        value.text = state->bytes;
    }
    state->value = value;
    state->time = time;
    state->some = true;
}

static void least_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    keeping_t *state = memory;
    if (!state->some || aggregate_order(value, state->value) < 0)
        keep_value(self, state, value, time);
}

static void greatest_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    keeping_t *state = memory;
    if (!state->some || aggregate_order(value, state->value) > 0)
        keep_value(self, state, value, time);
}

static void first_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    keeping_t *state = memory;
    if (!state->some || time < state->time)
        keep_value(self, state, value, time);
}

static void last_add(accumulator_t *self, void *memory, value_t value, int64_t time) {
    keeping_t *state = memory;
    if (!state->some || time >= state->time)
        keep_value(self, state, value, time);
}

static void keep_merge(accumulator_t *self, void *into, const void *more) {
    const keeping_t *from = more;
    if (from->some)
        self->class->add(self, into, from->value, from->time);
}

value_t keep_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const keeping_t *state = memory;
    return state->some ? state->value : value_null();
}

static void keep_save(const void *memory, buf_t *out) {
    const keeping_t *state = memory;
    pack_bool(out, state->some);
    pack_int(out, state->time);
    pack_value(out, state->some ? state->value : value_null());
}

static bool keep_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    bool some;
    value_t value;
    int64_t time;
    if (!read_bool(cursor, &some) || !pack_read_int(cursor, &time) || !pack_read_value(cursor, &value))
        return false;
    if (some)
        keep_value(self, memory, value, time);
    return true;
}

static void keep_drop(accumulator_t *self, void *memory) {
    keeping_t *state = memory;
    self->owned -= state->capacity;
    mem_free(state->bytes);
}

const state_class_t least_state = {sizeof(keeping_t), 3, least_add, keep_merge, NULL, keep_save, keep_load, keep_drop};
const state_class_t greatest_state = {sizeof(keeping_t), 3, greatest_add, keep_merge, NULL, keep_save, keep_load, keep_drop};
const state_class_t first_state = {sizeof(keeping_t), 3, first_add, keep_merge, NULL, keep_save, keep_load, keep_drop};
const state_class_t last_state = {sizeof(keeping_t), 3, last_add, keep_merge, NULL, keep_save, keep_load, keep_drop};
