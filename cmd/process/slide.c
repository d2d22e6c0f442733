/* Aggregates of a window from which the oldest values are taken out again. Where a state can take a value out, it does. For the others the window is
 * two parts, as a queue made of two stacks: for the newer one there is one state, to which values are added; for the older one there is a
 * state for each event, of all events from it to the part's end, so that the oldest can go. When the older part is used up, the newer one
 * becomes it, going from its end to its start. So each event is added twice and put together twice, on the whole. (Tangwongsan, Hirzel, Schneider:
 * "In-order sliding-window aggregation in worst-case constant time", 2017, which explains both this and a variant without the occasional pause.) */
#include "slide.h"

typedef struct entry {        /* before an event's packed values */
    int64_t time;
    uint64_t size;            /* of entry and values */
} entry_t;

static bool can_remove(const accumulator_t *accumulator) {
    return accumulator->class->remove != NULL;
}

static void *state_of(const accumulator_t *accumulator, void *block) {
    return (char *) block + accumulator->offset;
}

static entry_t entry_at(const slide_t *slide, size_t at) {
    entry_t entry;
    memcpy(&entry, slide->bytes + at, sizeof entry);
    return entry;
}

static void read_values(const summary_t *summary, const slide_t *slide, size_t at, value_t *values) {
    entry_t entry = entry_at(slide, at);
    pack_cursor_t cursor = pack_cursor(slide->bytes + at + sizeof entry, entry.size - sizeof entry);
    for (unsigned i = 0; i < summary->argument_count; i++)
        if (!pack_read_value(&cursor, &values[i]))
            values[i] = value_null(); /* can't be: they were packed by us, or looked at when they were loaded */
    values[summary->argument_count] = value_int(entry.time);
}

/* Adds to those states of the block that can take values out again, or to the others. */
static void add_values(summary_t *summary, void *block, int64_t time, const value_t *values, bool removable) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        value_t value = summary_value(accumulator, values);
        if (can_remove(accumulator) == removable && value.type != VALUE_NULL && summary_takes(accumulator, value))
            accumulator->class->add(accumulator, state_of(accumulator, block), value, summary_time(accumulator, time));
    }
}

static void drop_states(summary_t *summary, void *block, bool removable) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        if (can_remove(accumulator) == removable && accumulator->class->drop)
            accumulator->class->drop(accumulator, state_of(accumulator, block));
        if (can_remove(accumulator) == removable)
            memset(state_of(accumulator, block), 0, accumulator->class->size);
    }
}

static bool any(const summary_t *summary, bool removable) {
    for (unsigned i = 0; i < summary->accumulator_count; i++)
        if (can_remove(&summary->accumulators[i]) == removable)
            return true;
    return false;
}

static void *front_state(const summary_t *summary, const slide_t *slide, uint32_t number) {
    return slide->states + (size_t) number * summary->size;
}

static void put_entry(summary_t *summary, slide_t *slide, int64_t time, const uint8_t *packed, size_t size) {
    entry_t entry = {time, sizeof entry + size};
    if (slide->first && slide->capacity - slide->end < entry.size && slide->first >= slide->capacity / 2) {
        memmove(slide->bytes, slide->bytes + slide->first, slide->end - slide->first);
        slide->end -= slide->first;
        slide->first = 0;
    }
    if (slide->capacity - slide->end < entry.size) {
        size_t capacity = slide->capacity ? slide->capacity * 2 : 128;
        while (capacity - slide->end < entry.size)
            capacity *= 2;
        slide->bytes = mem_resize(slide->bytes, capacity);
        summary->owned += capacity - slide->capacity;
        slide->capacity = capacity;
    }
    memcpy(slide->bytes + slide->end, &entry, sizeof entry);
    if (size)
        memcpy(slide->bytes + slide->end + sizeof entry, packed, size);
    slide->end += entry.size;
    slide->count++;
}

void slide_add(summary_t *summary, slide_t *slide, int64_t time, const value_t *values, const uint8_t *packed, size_t size) {
    put_entry(summary, slide, time, packed, size);
    add_values(summary, slide->block, time, values, true);
    add_values(summary, slide->block, time, values, false);
}

int64_t slide_oldest(const slide_t *slide) {
    return entry_at(slide, slide->first).time;
}

/* States of the first `count` events, each of all up to the last one of them: the older part. */
static void make_front(summary_t *summary, slide_t *slide, uint32_t count) {
    size_t *places = arena_alloc(&summary->arena, count * sizeof *places), at = slide->first;
    value_t values[summary->argument_count + 1];
    for (uint32_t i = 0; i < count; i++) {
        places[i] = at;
        at += entry_at(slide, at).size;
    }
    if (count > slide->room || count < slide->room / 8) {
        summary->owned += ((size_t) count - slide->room) * summary->size;
        mem_free(slide->states);
        slide->states = mem_alloc((size_t) count * summary->size);
        slide->room = count;
    }
    memset(slide->states, 0, (size_t) count * summary->size);
    slide->front = count;
    slide->taken = 0;
    for (uint32_t i = count; i-- > 0;) {
        read_values(summary, slide, places[i], values);
        void *block = front_state(summary, slide, i);
        add_values(summary, block, entry_at(slide, places[i]).time, values, false);
        for (unsigned j = 0; i + 1 < count && j < summary->accumulator_count; j++) {
            accumulator_t *accumulator = &summary->accumulators[j];
            if (!can_remove(accumulator))
                accumulator->class->merge(accumulator, state_of(accumulator, block), state_of(accumulator, front_state(summary, slide, i + 1)));
        }
    }
}

void slide_take(summary_t *summary, slide_t *slide) {
    value_t values[summary->argument_count + 1];
    if (any(summary, true)) {
        read_values(summary, slide, slide->first, values);
        for (unsigned i = 0; i < summary->accumulator_count; i++) {
            accumulator_t *accumulator = &summary->accumulators[i];
            value_t value = summary_value(accumulator, values);
            if (can_remove(accumulator) && value.type != VALUE_NULL && summary_takes(accumulator, value))
                accumulator->class->remove(accumulator, state_of(accumulator, slide->block), value, summary_time(accumulator, slide_oldest(slide)));
        }
    }
    if (any(summary, false)) {
        if (slide->taken == slide->front) {
            make_front(summary, slide, slide->count);
            drop_states(summary, slide->block, false);
        }
        drop_states(summary, front_state(summary, slide, slide->taken++), false);
    }
    slide->first += entry_at(slide, slide->first).size;
    if (--slide->count == 0)
        slide->first = slide->end = 0;
}

void slide_results(summary_t *summary, slide_t *slide, int64_t span, value_t *out) {
    if (slide->taken == slide->front) {
        summary_results(summary, slide->block, span, out);
        return;
    }
    /* A block of both parts; states that take values out are only lent to it. */
    void *block = arena_alloc(&summary->arena, summary->size), *front = front_state(summary, slide, slide->taken);
    memcpy(block, slide->block, summary->size);
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        if (can_remove(accumulator))
            continue;
        memset(state_of(accumulator, block), 0, accumulator->class->size);
        accumulator->class->merge(accumulator, state_of(accumulator, block), state_of(accumulator, front));
        accumulator->class->merge(accumulator, state_of(accumulator, block), state_of(accumulator, slide->block));
    }
    summary_results(summary, block, span, out);
    summary_keep(summary, out);
    drop_states(summary, block, false);
}

void slide_drop(summary_t *summary, slide_t *slide) {
    drop_states(summary, slide->block, true);
    drop_states(summary, slide->block, false);
    for (uint32_t i = slide->taken; i < slide->front; i++)
        drop_states(summary, front_state(summary, slide, i), false);
    summary->owned -= slide->capacity + (size_t) slide->room * summary->size;
    mem_free(slide->states);
    mem_free(slide->bytes);
}

/* [how many are of the older part, [time, values, ...], states that take values out...]: the others follow from the values. */
void slide_save(const summary_t *summary, const slide_t *slide, buf_t *out) {
    unsigned elements = 0;
    for (unsigned i = 0; i < summary->accumulator_count; i++)
        if (can_remove(&summary->accumulators[i]))
            elements += summary->accumulators[i].class->elements;
    pack_array(out, 2 + elements);
    pack_uint(out, slide->front - slide->taken);
    pack_array(out, 2 * slide->count);
    for (size_t at = slide->first; at < slide->end;) {
        entry_t entry = entry_at(slide, at);
        pack_int(out, entry.time);
        pack_binary(out, slide->bytes + at + sizeof entry, entry.size - sizeof entry);
        at += entry.size;
    }
    for (unsigned i = 0; i < summary->accumulator_count; i++)
        if (can_remove(&summary->accumulators[i]))
            summary->accumulators[i].class->save((const char *) slide->block + summary->accumulators[i].offset, out);
}

static bool load_entry(summary_t *summary, slide_t *slide, pack_cursor_t *cursor) {
    int64_t time;
    text_t packed;
    value_t value;
    if (!pack_read_int(cursor, &time) || !pack_read_binary(cursor, &packed))
        return false;
    pack_cursor_t values = pack_cursor(packed.data, packed.size);
    for (unsigned i = 0; i < summary->argument_count; i++)
        if (!pack_read_value(&values, &value))
            return false;
    if (values.at != values.end)
        return false;
    put_entry(summary, slide, time, (const uint8_t *) packed.data, packed.size);
    return true;
}

bool slide_load(summary_t *summary, slide_t *slide, pack_cursor_t *cursor) {
    uint32_t elements, entries;
    uint64_t front;
    value_t values[summary->argument_count + 1];
    if (!pack_read_array(cursor, &elements) || !pack_read_uint(cursor, &front) || !pack_read_array(cursor, &entries) || entries % 2 ||
        front > entries / 2)
        return false;
    for (uint32_t i = 0; i < entries / 2; i++)
        if (!load_entry(summary, slide, cursor))
            return false;
    if (front)
        make_front(summary, slide, (uint32_t) front);
    size_t at = slide->first;
    for (uint32_t i = 0; i < slide->count; i++, at += entry_at(slide, at).size) {
        read_values(summary, slide, at, values);
        if (i >= front)
            add_values(summary, slide->block, entry_at(slide, at).time, values, false);
    }
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        if (can_remove(accumulator) && !accumulator->class->load(accumulator, state_of(accumulator, slide->block), cursor))
            return false;
    }
    return true;
}
