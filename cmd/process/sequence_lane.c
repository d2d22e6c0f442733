/* The automaton of a sequence: what an event does to the partial matches of its key. See sequence.h. */
#include "sequence.h"

#define SPARE_RECORDS 4096    /* bytes of events that a spare keeps room for */

typedef enum fate { KEPT, ENDED, MATCHED } fate_t;

static size_t partial_size(const sequence_t *sequence) {
    return sizeof(partial_t) + sequence->step_count * sizeof((partial_t *) NULL)->taken[0];
}

partial_t *partial_new(sequence_t *sequence) {
    if (!sequence->spare_count)
        return mem_zero(partial_size(sequence));
    partial_t *partial = sequence->spares[--sequence->spare_count];
    buf_t records = partial->records;
    memset(partial, 0, partial_size(sequence));
    partial->records = records;
    buf_clear(&partial->records);
    return partial;
}

void partial_free(sequence_t *sequence, partial_t *partial) {
    if (sequence->spare_count < SEQUENCE_OPEN && partial->records.capacity <= SPARE_RECORDS) {
        sequence->spares[sequence->spare_count++] = partial;
        return;
    }
    buf_fini(&partial->records);
    mem_free(partial);
}

void sequence_free_spares(sequence_t *sequence) {
    for (unsigned i = 0; i < sequence->spare_count; i++) {
        buf_fini(&sequence->spares[i]->records);
        mem_free(sequence->spares[i]);
    }
}

lane_t *lane_new(sequence_t *sequence) {
    lane_t *lane = mem_zero(sizeof *lane);
    lane->sequence = sequence;
    return lane;
}

void lane_free(lane_t *lane) {
    lane_unschedule(lane);
    for (uint32_t i = 0; i < lane->count; i++)
        partial_free(lane->sequence, lane->partials[i]);
    mem_free(lane->partials);
    buf_fini(&lane->key);
    mem_free(lane);
}

/* Whether more than `limit` ns are between the two, the later one first. */
static bool is_beyond(int64_t later, int64_t earlier, int64_t limit) {
    int64_t apart;
    return limit && (__builtin_sub_overflow(later, earlier, &apart) || apart > limit);
}

/* Conditions. */

text_t sequence_record(const partial_t *partial, unsigned step) {
    uint32_t start = step ? partial->taken[step - 1].end : 0;
    return text_make((const char *) partial->records.data + start, partial->taken[step].end - start);
}

/* Conditions see what the partial match took; NULL: nothing. */
static void expose(sequence_t *sequence, const partial_t *partial, row_t *row) {
    for (unsigned i = 0; i < sequence->step_count; i++) {
        value_t value = value_null();
        if (partial && partial->taken[i].count) {
            text_t record = sequence_record(partial, i);
            value = (value_t){.type = VALUE_MAP, .size = (uint32_t) record.size, .packed = (const uint8_t *) record.data};
        }
        row->values[sequence->steps[i].value] = value;
    }
}

static bool holds(sequence_t *sequence, const condition_t *condition, const partial_t *partial, row_t *row) {
    if (condition->refers) {
        expose(sequence, partial, row);
        return evaluate_test(condition->node, row);
    }
    uint8_t *known = &sequence->known[condition->index];
    if (!*known)
        *known = evaluate_test(condition->node, row) ? 2 : 1;
    return *known == 2;
}

static bool is_forbidden(sequence_t *sequence, const sequence_step_t *step, const partial_t *partial, row_t *row) {
    for (unsigned i = 0; i < step->guard_count; i++)
        if (holds(sequence, &step->guards[i], partial, row))
            return true;
    return false;
}

void sequence_expect(sequence_t *sequence) {
    sequence->number++;
    memset(sequence->known, 0, sequence->condition_count);
    buf_clear(&sequence->record);
}

bool sequence_begins(sequence_t *sequence, row_t *row) {
    return holds(sequence, &sequence->steps[0].condition, NULL, row);
}

/* Taking events. */

/* {"@timestamp": ..., the event's fields} */
static const buf_t *record_of(sequence_t *sequence, const row_t *row) {
    buf_t *record = &sequence->record, *fields = &sequence->scratch;
    if (record->size)
        return record;
    uint32_t count = 0;
    buf_clear(fields);
    bool whole = plan_put(sequence->plan, row, fields);
    pack_cursor_t cursor = pack_cursor(fields->data, whole ? fields->size : 0);
    if (!pack_read_map(&cursor, &count))
        cursor.at = cursor.end; /* a malformed record is told where it is written */
    pack_map(record, count + 1);
    pack_text(record, "@timestamp");
    pack_time(record, row->event.time);
    buf_put(record, cursor.at, (size_t) (cursor.end - cursor.at));
    return record;
}

/* The partial match takes the event at its step. */
static fate_t take(sequence_t *sequence, partial_t *partial, const row_t *row) {
    unsigned at = partial->step;
    const sequence_step_t *step = &sequence->steps[at];
    const buf_t *record = record_of(sequence, row);
    partial->records.size = at ? partial->taken[at - 1].end : 0;
    buf_put(&partial->records, record->data, record->size);
    partial->taken[at].end = (uint32_t) partial->records.size;
    partial->taken[at].count++;
    partial->last = row->event.time;
    partial->last_number = sequence->number;
    bool last = at + 1 == sequence->step_count;
    if (partial->taken[at].count < (last ? step->least : step->most))
        return KEPT;
    if (last && !sequence->absent.node)
        return MATCHED;
    partial->step++;
    partial->since = partial->last;
    if (last && __builtin_add_overflow(partial->last, sequence->absent_within, &partial->due))
        partial->due = INT64_MAX;
    return KEPT;
}

/* It has all that the step asks for, and more of it or the step behind may come. */
static fate_t follow_open(sequence_t *sequence, partial_t *partial, row_t *row) {
    const sequence_step_t *step = &sequence->steps[partial->step], *behind = step + 1;
    if (is_beyond(row->event.time, partial->last, behind->within) || is_forbidden(sequence, behind, partial, row))
        return ENDED;
    if (holds(sequence, &behind->condition, partial, row)) {
        partial->step++;
        partial->since = partial->last;
        return take(sequence, partial, row);
    }
    if (!is_beyond(row->event.time, partial->since, step->within) && holds(sequence, &step->condition, partial, row))
        return take(sequence, partial, row);
    if (behind->next)
        return ENDED;
    if (step->in_a_row) { /* the row is over */
        partial->step++;
        partial->since = partial->last;
    }
    return KEPT;
}

static fate_t follow(sequence_t *sequence, partial_t *partial, row_t *row) {
    if (partial->step == sequence->step_count)
        return holds(sequence, &sequence->absent, partial, row) ? ENDED : KEPT;
    if (is_beyond(row->event.time, partial->start, sequence->within))
        return ENDED;
    const sequence_step_t *step = &sequence->steps[partial->step];
    uint32_t count = partial->taken[partial->step].count;
    if (count >= step->least)
        return follow_open(sequence, partial, row);
    if (is_beyond(row->event.time, partial->since, step->within) || is_forbidden(sequence, step, partial, row))
        return ENDED;
    if (holds(sequence, &step->condition, partial, row))
        return take(sequence, partial, row);
    return (count ? step->in_a_row : step->next) ? ENDED : KEPT;
}

/* A match ends all that began up to its last event. */
static void end_until(lane_t *lane, uint64_t number) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < lane->count; i++) {
        if (lane->partials[i]->number > number)
            lane->partials[kept++] = lane->partials[i];
        else
            partial_free(lane->sequence, lane->partials[i]);
    }
    lane->count = kept;
}

static void begin(lane_t *lane, const row_t *row) {
    sequence_t *sequence = lane->sequence;
    partial_t *partial = partial_new(sequence);
    partial->number = sequence->number;
    partial->start = partial->since = row->event.time;
    if (take(sequence, partial, row) == MATCHED) {
        sequence_match(sequence, lane, partial, row->event.time, row);
        end_until(lane, partial->last_number);
        partial_free(sequence, partial);
        return;
    }
    if (lane->count == lane->capacity) {
        lane->capacity = lane->capacity ? lane->capacity * 2 : 2;
        lane->partials = mem_resize(lane->partials, lane->capacity * sizeof *lane->partials);
    }
    lane->partials[lane->count++] = partial;
}

/* Bounds. */

static unsigned place_of(const sequence_t *sequence, const partial_t *partial) {
    if (partial->step == sequence->step_count)
        return sequence->places - 1;
    const sequence_step_t *step = &sequence->steps[partial->step];
    uint32_t count = partial->taken[partial->step].count;
    return step->place + (count < step->places ? count : step->places - 1);
}

/* Of many that stand at the same place the oldest stay, and the newest: it is the last one whose time is up, so that no match is missed where
 * conditions do not look back. */
static void bound(lane_t *lane, const row_t *row) {
    sequence_t *sequence = lane->sequence;
    uint32_t *counts = sequence->counts, *ranks = counts + sequence->places, kept = 0;
    if (lane->count <= SEQUENCE_OPEN)
        return;
    memset(counts, 0, 2 * sequence->places * sizeof *counts);
    for (uint32_t i = 0; i < lane->count; i++)
        counts[place_of(sequence, lane->partials[i])]++;
    for (uint32_t i = 0; i < lane->count; i++) {
        unsigned place = place_of(sequence, lane->partials[i]);
        uint32_t rank = ++ranks[place];
        if (rank < SEQUENCE_OPEN || rank == counts[place]) {
            lane->partials[kept++] = lane->partials[i];
            continue;
        }
        if (sequence->refers)
            evaluation_failed(sequence->steps[0].condition.node, row, "more than %d partial matches of a key at the same step: one is given up", SEQUENCE_OPEN);
        partial_free(sequence, lane->partials[i]);
    }
    lane->count = kept;
}

static size_t bytes_of(const lane_t *lane) {
    size_t bytes = sizeof *lane + lane->key.capacity + lane->capacity * sizeof *lane->partials;
    for (uint32_t i = 0; i < lane->count; i++)
        bytes += sizeof(partial_t) + lane->partials[i]->records.capacity;
    return bytes;
}

/* Events and time. */

void lane_take(lane_t *lane, row_t *row) {
    sequence_t *sequence = lane->sequence;
    lane_fire(lane, row->event.time);
    bool matched = false;
    for (uint32_t i = 0; i < lane->count && !matched;) {
        partial_t *partial = lane->partials[i];
        fate_t fate = follow(sequence, partial, row);
        if (fate == MATCHED) {
            matched = true;
            sequence_match(sequence, lane, partial, row->event.time, row);
            end_until(lane, partial->last_number);
        } else if (fate == ENDED) {
            partial_free(sequence, partial);
            lane->count--;
            memmove(lane->partials + i, lane->partials + i + 1, (lane->count - i) * sizeof *lane->partials);
        } else {
            i++;
        }
    }
    if (!matched && sequence_begins(sequence, row))
        begin(lane, row);
    bound(lane, row);
    lane_schedule(lane);
    lane->bytes = bytes_of(lane);
}

void lane_fire(lane_t *lane, int64_t time) {
    sequence_t *sequence = lane->sequence;
    while (lane->timer && lane->due < time) {
        uint32_t at = 0;
        while (lane->partials[at]->number != lane->due_number)
            at++;
        partial_t *partial = lane->partials[at];
        sequence_match(sequence, lane, partial, partial->due, NULL);
        uint64_t last = partial->last_number;
        end_until(lane, last);
        lane_schedule(lane);
        if (program_must_stop(sequence->op.program, &sequence->op))
            return;
    }
}
