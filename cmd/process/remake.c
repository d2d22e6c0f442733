/* Records that are written anew within the chain, with a layout of their own for the operators behind. */
#include "remake.h"

#include "chain.h"

#define SLACK 16              /* bytes behind a record that may be read */

struct remake {
    program_t *program;
    plan_t *plan;             /* the record up to here */
    layout_t *layout;         /* of the new one */
    place_t *places;          /* BATCH × slots, once they are known */
};

remake_t *remake_new(program_t *program, scope_t *scope) {
    remake_t *remake = mem_zero(sizeof *remake);
    remake->program = program;
    remake->plan = plan_new(program, scope);
    remake->layout = layout_new();
    mem_free(scope->bindings);
    scope->bindings = NULL;
    scope->count = 0;
    scope->closed = false;
    scope->layout = remake->layout;
    return remake;
}

void remake_free(remake_t *remake) {
    if (!remake)
        return;
    layout_free(remake->layout);
    mem_free(remake->places);
    mem_free(remake);
}

value_t remake_record(const remake_t *remake, const row_t *row) {
    return plan_record(remake->plan, row);
}

/* EventTime, as frame_builder writes it. */
static void put_head(uint8_t *at, int64_t time) {
    time = time < 0 ? 0 : time > EVENT_TIME_MAX ? EVENT_TIME_MAX : time;
    uint32_t words[2] = {__builtin_bswap32((uint32_t) (time / 1000000000)), __builtin_bswap32((uint32_t) (time % 1000000000))};
    memcpy(at, "\x92\xD7", 3);
    memcpy(at + 3, words, sizeof words);
}

bool remake_failed(remake_t *remake, const row_t *row) {
    program_dead(remake->program, row, remake->plan, NULL, "the event is malformed");
    return false;
}

bool remake_row(remake_t *remake, row_t *row, unsigned index, value_t record) {
    size_t size = record.size;
    if (record.type != VALUE_MAP)
        return remake_failed(remake, row);
    unsigned slots = layout_count(remake->layout);
    if (!remake->places)
        remake->places = mem_zero(BATCH * (slots + 1) * sizeof *remake->places);
    if (index == 0)
        layout_settle(remake->layout);
    if (record.packed == row->event.record) { /* nothing has changed */
        const place_t *same = layout_locate(remake->layout, record.packed, (uint32_t) size, record.packed + size, remake->places + index * slots);
        if (same)
            row->places = same;
        return same || remake_failed(remake, row);
    }
    uint8_t *bytes = arena_alloc(&row->context->arena, EVENT_HEAD + size + SLACK);
    put_head(bytes, row->event.time);
    memcpy(bytes + EVENT_HEAD, record.packed, size);
    memset(bytes + EVENT_HEAD + size, 0, SLACK);
    const uint8_t *start = bytes + EVENT_HEAD;
    const place_t *places = layout_locate(remake->layout, start, (uint32_t) size, start + size + SLACK, remake->places + index * slots);
    if (!places)
        return remake_failed(remake, row);
    if (!row->original && row->event.bytes)
        row->original = arena_copy(&row->context->arena, &row->event, sizeof row->event);
    row->event = (event_t){.time = row->event.time, .bytes = bytes, .size = (uint32_t) (EVENT_HEAD + size), .record = start, .record_size = (uint32_t) size};
    row->places = places;
    return true;
}
