/* Snapshots of moving windows: [newest, split, columns' younger parts, means of ewma, [time, values...]...]. What follows from the events is
 * computed again: sums over the older part come out the same, for they are made in one order. */
#include "rolling_state.h"

#include <math.h>

#include "base/memory.h"

#define RUNNING_ELEMENTS 8
#define EWMA_ELEMENTS 3

static uint32_t fixed_elements(const rolling_plan_t *plan) {
    return 2 + RUNNING_ELEMENTS * rolling_running_count(plan) + EWMA_ELEMENTS * plan->ewma_count;
}

void rolling_save(const rolling_t *rolling, buf_t *out) {
    const rolling_plan_t *plan = rolling->plan;
    pack_array(out, fixed_elements(plan) + rolling->count * (1 + plan->column_count));
    pack_int(out, rolling->newest);
    pack_uint(out, rolling->split);
    for (unsigned i = 0; i < rolling_running_count(plan); i++) {
        const rolling_running_t *running = &rolling_runnings(rolling)[i];
        pack_double(out, running->sum.high);
        pack_double(out, running->sum.low);
        pack_double(out, running->spread.n);
        pack_double(out, running->spread.mean);
        pack_double(out, running->spread.rest);
        pack_double(out, running->spread.squares);
        pack_value(out, running->least);
        pack_value(out, running->greatest);
    }
    for (unsigned i = 0; i < plan->ewma_count; i++) {
        const rolling_ewma_t *ewma = &rolling_ewmas(rolling)[i];
        pack_double(out, ewma->mean);
        pack_double(out, ewma->weight);
        pack_int(out, ewma->time);
    }
    for (uint32_t at = 0; at < rolling->count; at++) {
        uint32_t slot = rolling_slot(rolling, at);
        pack_int(out, rolling_times(rolling)[slot]);
        for (unsigned i = 0; i < plan->column_count; i++)
            pack_value(out, rolling_values(rolling, i)[slot]);
    }
}

static bool read_double(pack_cursor_t *cursor, double *number) {
    value_t value;
    if (!pack_read_value(cursor, &value) || value.type != VALUE_DOUBLE)
        return false;
    *number = value.number;
    return true;
}

static bool read_entry(pack_cursor_t *cursor, bool times, value_t *value) {
    if (!pack_read_value(cursor, value))
        return false;
    return value->type == VALUE_NULL || (value_is_number(*value) && !(value->type == VALUE_DOUBLE && isnan(value->number))) ||
           (times && value->type == VALUE_TIME);
}

static bool restore_running(rolling_running_t *running, pack_cursor_t *cursor) {
    return read_double(cursor, &running->sum.high) && read_double(cursor, &running->sum.low) && read_double(cursor, &running->spread.n) &&
           read_double(cursor, &running->spread.mean) && read_double(cursor, &running->spread.rest) &&
           read_double(cursor, &running->spread.squares) && read_entry(cursor, true, &running->least) &&
           read_entry(cursor, true, &running->greatest);
}

static bool restore_entry(rolling_t *rolling, uint32_t at, pack_cursor_t *cursor) {
    const rolling_plan_t *plan = rolling->plan;
    int64_t *times = rolling_times(rolling);
    if (!pack_read_int(cursor, &times[at]) || times[at] > rolling->newest || rolling_outside(rolling, times[at]))
        return false;
    if (plan->span && at && times[at] < times[at - 1])
        return false;
    for (unsigned i = 0; i < plan->column_count; i++) {
        value_t *value = &rolling_values(rolling, i)[at];
        if (!read_entry(cursor, !(plan->columns[i].needs & ~(NEEDS_LEAST | NEEDS_GREATEST)), value))
            return false;
        rolling_count_in(&rolling_runnings(rolling)[i], *value, 1);
    }
    rolling->count++;
    rolling_enter_middles(rolling, at);
    return true;
}

bool rolling_load(rolling_t *rolling, const rolling_plan_t *plan, pack_cursor_t *cursor) {
    *rolling = (rolling_t){.plan = plan};
    uint32_t elements, each = 1 + plan->column_count, fixed = fixed_elements(plan);
    uint64_t split;
    if (!pack_read_array(cursor, &elements) || elements < fixed || (elements - fixed) % each || (elements - fixed) / each > plan->most ||
        elements > (size_t) (cursor->end - cursor->at) || !pack_read_int(cursor, &rolling->newest) || !pack_read_uint(cursor, &split))
        return false;
    uint32_t count = (elements - fixed) / each, capacity = 4;
    if (split > count)
        return false;
    for (unsigned i = 0; i < rolling_running_count(plan); i++)
        if (!restore_running(&rolling_runnings(rolling)[i], cursor))
            return false;
    for (unsigned i = 0; i < plan->ewma_count; i++) {
        rolling_ewma_t *ewma = &rolling_ewmas(rolling)[i];
        if (!read_double(cursor, &ewma->mean) || !read_double(cursor, &ewma->weight) || !pack_read_int(cursor, &ewma->time))
            return false;
    }
    while (capacity < count)
        capacity *= 2;
    if (count)
        rolling_resize(rolling, capacity);
    for (uint32_t at = 0; at < count; at++)
        if (!restore_entry(rolling, at, cursor))
            return false;
    rolling->split = (uint32_t) split;
    rolling_sum_up(rolling, rolling->split);
    return true;
}
