/* Sequences: the timers of what must not happen, and snapshots. */
#include "sequence.h"

/* Timers: a heap of lanes, the one that is due first on top. Event numbers tell lanes that are due at the same time apart, so the order is always the
 * same. */

static bool is_before(const lane_t *a, const lane_t *b) {
    return a->due != b->due ? a->due < b->due : a->due_number < b->due_number;
}

static void put(sequence_t *sequence, uint32_t at, lane_t *lane) {
    sequence->timers[at] = lane;
    lane->timer = at + 1;
}

static void rise(sequence_t *sequence, uint32_t at, lane_t *lane) {
    for (; at > 0 && is_before(lane, sequence->timers[(at - 1) / 2]); at = (at - 1) / 2)
        put(sequence, at, sequence->timers[(at - 1) / 2]);
    put(sequence, at, lane);
}

static void sink(sequence_t *sequence, uint32_t at, lane_t *lane) {
    for (uint32_t child = 2 * at + 1; child < sequence->timer_count; child = 2 * at + 1) {
        if (child + 1 < sequence->timer_count && is_before(sequence->timers[child + 1], sequence->timers[child]))
            child++;
        if (!is_before(sequence->timers[child], lane))
            break;
        put(sequence, at, sequence->timers[child]);
        at = child;
    }
    put(sequence, at, lane);
}

static void settle(sequence_t *sequence, uint32_t at, lane_t *lane) {
    if (at > 0 && is_before(lane, sequence->timers[(at - 1) / 2]))
        rise(sequence, at, lane);
    else
        sink(sequence, at, lane);
}

void lane_unschedule(lane_t *lane) {
    sequence_t *sequence = lane->sequence;
    if (!lane->timer)
        return;
    uint32_t at = lane->timer - 1;
    lane_t *last = sequence->timers[--sequence->timer_count];
    lane->timer = 0;
    if (last != lane)
        settle(sequence, at, last);
}

void lane_schedule(lane_t *lane) {
    sequence_t *sequence = lane->sequence;
    const partial_t *first = NULL;
    for (uint32_t i = 0; sequence->absent.node && i < lane->count; i++) {
        const partial_t *partial = lane->partials[i];
        if (partial->step == sequence->step_count && (!first || partial->due < first->due))
            first = partial;
    }
    if (!first) {
        lane_unschedule(lane);
        return;
    }
    if (lane->timer && lane->due == first->due && lane->due_number == first->number)
        return;
    lane->due = first->due;
    lane->due_number = first->number;
    if (lane->timer) {
        settle(sequence, lane->timer - 1, lane);
        return;
    }
    if (sequence->timer_count == sequence->timer_capacity) {
        sequence->timer_capacity = sequence->timer_capacity ? sequence->timer_capacity * 2 : 16;
        sequence->timers = mem_resize(sequence->timers, sequence->timer_capacity * sizeof *sequence->timers);
    }
    rise(sequence, sequence->timer_count++, lane);
}

/* Snapshots of a key: [newest, keys, [[number, last number, start, last, since, step, due, [count...], records]...]]. */

#define PARTIAL_ELEMENTS 9

static void save_partial(const sequence_t *sequence, const partial_t *partial, buf_t *out) {
    pack_array(out, PARTIAL_ELEMENTS);
    pack_uint(out, partial->number);
    pack_uint(out, partial->last_number);
    pack_int(out, partial->start);
    pack_int(out, partial->last);
    pack_int(out, partial->since);
    pack_uint(out, partial->step);
    pack_int(out, partial->due);
    pack_array(out, sequence->step_count);
    for (unsigned i = 0; i < sequence->step_count; i++)
        pack_uint(out, partial->taken[i].count);
    pack_binary(out, partial->records.data, partial->records.size);
}

void block_save(const void *state, buf_t *out) {
    const sequence_block_t *block = state;
    const lane_t *lane = block->lane && block->lane->count ? block->lane : NULL;
    pack_array(out, 3);
    pack_int(out, block->newest);
    pack_binary(out, lane ? lane->key.data : NULL, lane ? lane->key.size : 0);
    pack_array(out, lane ? lane->count : 0);
    for (uint32_t i = 0; lane && i < lane->count; i++)
        save_partial(lane->sequence, lane->partials[i], out);
}

/* The records' ends, one behind the other: each step that was taken has one, and no other. */
static bool find_records(const sequence_t *sequence, partial_t *partial, text_t records) {
    pack_cursor_t cursor = pack_cursor(records.data, records.size);
    if (records.size > UINT32_MAX || !partial->taken[0].count)
        return false;
    for (unsigned i = 0; i < sequence->step_count; i++) {
        pack_cursor_t map = cursor;
        uint32_t entries, count = partial->taken[i].count;
        const sequence_step_t *step = &sequence->steps[i];
        uint32_t full = i + 1 == sequence->step_count ? step->least : step->most;
        if (i < partial->step ? count < step->least || count > step->most : i > partial->step ? count > 0 : count >= full)
            return false;
        if (count && (!pack_read_map(&map, &entries) || !pack_skip(&cursor)))
            return false;
        partial->taken[i].end = (uint32_t) (cursor.at - (const uint8_t *) records.data);
    }
    return cursor.at == cursor.end;
}

static bool restore_partial(sequence_t *sequence, partial_t *partial, pack_cursor_t *cursor) {
    uint32_t elements, steps;
    uint64_t step;
    text_t records;
    if (!pack_read_array(cursor, &elements) || elements != PARTIAL_ELEMENTS || !pack_read_uint(cursor, &partial->number) ||
        !pack_read_uint(cursor, &partial->last_number) || !pack_read_int(cursor, &partial->start) || !pack_read_int(cursor, &partial->last) ||
        !pack_read_int(cursor, &partial->since) || !pack_read_uint(cursor, &step) || !pack_read_int(cursor, &partial->due) ||
        !pack_read_array(cursor, &steps) || steps != sequence->step_count || step > sequence->step_count - !sequence->absent.node)
        return false;
    partial->step = (uint32_t) step;
    for (unsigned i = 0; i < steps; i++) {
        uint64_t count;
        if (!pack_read_uint(cursor, &count) || count > UINT32_MAX)
            return false;
        partial->taken[i].count = (uint32_t) count;
    }
    if (!pack_read_binary(cursor, &records) || !find_records(sequence, partial, records))
        return false;
    buf_put(&partial->records, records.data, records.size);
    return partial->number <= partial->last_number && partial->last_number <= sequence->number;
}

bool block_load(void *context, void *state, pack_cursor_t *cursor) {
    sequence_t *sequence = context;
    sequence_block_t *block = state;
    uint32_t three, count;
    text_t key;
    if (!pack_read_array(cursor, &three) || three != 3 || !pack_read_int(cursor, &block->newest) || !pack_read_binary(cursor, &key) ||
        !pack_read_array(cursor, &count) || count > (size_t) (cursor->end - cursor->at))
        return false;
    if (!count)
        return true;
    lane_t *lane = block->lane = lane_new(sequence);
    buf_put(&lane->key, key.data, key.size);
    lane->capacity = count;
    lane->partials = mem_zero(count * sizeof *lane->partials);
    for (uint64_t last = 0; lane->count < count; last = lane->partials[lane->count - 1]->number) {
        partial_t *partial = lane->partials[lane->count++] = partial_new(sequence);
        if (!restore_partial(sequence, partial, cursor) || partial->number <= last)
            return false;
    }
    lane_schedule(lane);
    return true;
}
