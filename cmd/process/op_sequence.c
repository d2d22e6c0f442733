/* sequence: one event for each time that a pattern is found in the events of a key. This file reads the pattern and passes matches on; see
 * sequence.h. */
#include "sequence.h"

#define EXPIRE_LEAST (60 * NS_PER_S)

extern const op_class_t op_sequence;

static void sequence_free(op_t *op) {
    sequence_t *sequence = (sequence_t *) op;
    keyed_free(sequence->options.keyed);
    sequence_free_spares(sequence);
    rows_free(sequence->results);
    mem_free(sequence->timers);
    mem_free(sequence->known);
    mem_free(sequence->counts);
    buf_fini(&sequence->scratch);
    buf_fini(&sequence->record);
}

/* Reading. */

/* Whether the expression reads one of the steps. */
static bool refers(const sequence_t *sequence, const node_t *node) {
    for (unsigned i = 0; node->kind == NODE_VALUE && i < sequence->step_count; i++)
        if (node->index == sequence->steps[i].value)
            return true;
    for (unsigned i = 0; i < node->count; i++)
        if (refers(sequence, node->arguments[i]))
            return true;
    return false;
}

/* when CONDITION */
static int parse_when(sequence_t *sequence, parser_t *parser, condition_t *condition) {
    if (!parser_accept_word(parser, "when"))
        return parser_expected(parser, "when and a condition", "sequence NAME by KEY: A when CONDITION then B when CONDITION within 10s");
    if (!(condition->node = parse_condition(parser)))
        return -1;
    condition->index = sequence->condition_count++;
    condition->refers = refers(sequence, condition->node);
    sequence->refers |= condition->refers;
    return 0;
}

static int parse_count(parser_t *parser, uint32_t *count, uint32_t least) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_NUMBER)
        return parser_expected(parser, "a number of events", "times 3, times 2 to 5, times 2 or more");
    if (token->value.type != VALUE_INT || token->value.integer < least || token->value.integer > SEQUENCE_TIMES)
        return parser_error(parser, token, "to count more, use a window or moving count()", "a number of events here is %u to %d", least, SEQUENCE_TIMES);
    *count = (uint32_t) parser_take(parser)->value.integer;
    return 0;
}

/* times N, N to M, N or more; in a row */
static int parse_times(parser_t *parser, sequence_step_t *step) {
    if (parse_count(parser, &step->least, 1) < 0)
        return -1;
    step->most = step->least;
    if (parser_accept_word(parser, "to")) {
        if (parse_count(parser, &step->most, step->least) < 0)
            return -1;
    } else if (parser_accept_word(parser, "or")) {
        if (!parser_accept_word(parser, "more"))
            return parser_expected(parser, "more", "times 2 or more");
        step->most = UINT32_MAX;
    }
    if (!parser_accept_word(parser, "in"))
        return 0;
    step->in_a_row = true;
    return parser_accept_word(parser, "a") && parser_accept_word(parser, "row") ? 0 : parser_expected(parser, "in a row", NULL);
}

static int parse_step_options(parser_t *parser, sequence_step_t *step) {
    for (;;) {
        const token_t *token = parser_token(parser);
        if (parser_accept_word(parser, "times")) {
            if (step->most != 1 || step->least != 1)
                return parser_error(parser, token, NULL, "times stands twice");
            if (parse_times(parser, step) < 0)
                return -1;
        } else if (parser_accept_word(parser, "within")) {
            if (step->within)
                return parser_error(parser, token, NULL, "within stands twice");
            if (parse_duration(parser, "a duration after within", &step->within) < 0)
                return -1;
        } else {
            return 0;
        }
    }
}

static int parse_step(sequence_t *sequence, parser_t *parser, sequence_step_t *step) {
    const token_t *place = parser_token(parser);
    if (parser_accept_word(parser, "next")) {
        if (!sequence->step_count)
            return parser_error(parser, place, "it follows the event before it directly: A when ... then next B when ...", "next stands behind then");
        step->next = true;
        place = parser_token(parser);
    }
    if (parse_name(parser, "a step's name", &step->label) < 0 || names_add(&sequence->names, parser, place, step->label) < 0)
        return -1;
    step->least = step->most = 1;
    step->value = bind_value(parser, step->label, TYPE(VALUE_MAP));
    sequence->step_count++; /* its condition may look at its own events */
    if (parse_when(sequence, parser, &step->condition) < 0 || parse_step_options(parser, step) < 0)
        return -1;
    if (sequence->step_count == 1 && step->within && step->most == 1)
        return parser_error(parser, parser_token(parser) - 1, "it stands with the step that must come in time, or before the colon for the whole",
                            "the first step comes when it comes: it has no within");
    if (step->most > 1 && names_add(&sequence->names, parser, place, joined_name(parser, step->label, text_of("count"))) < 0)
        return -1;
    step->place = sequence->places;
    step->places = (step->most == UINT32_MAX ? step->least : step->most) + 1;
    sequence->places += step->places;
    return 0;
}

/* What must not happen: not NAME when CONDITION [within D] */
typedef struct absence {
    condition_t condition;
    int64_t within;
    const token_t *place;
} absence_t;

static int parse_absence(sequence_t *sequence, parser_t *parser, absence_t *absence) {
    text_t label;
    absence->place = parser_token(parser) - 1;
    if (parse_name(parser, "a name for what must not happen", &label) < 0 || parse_when(sequence, parser, &absence->condition) < 0)
        return -1;
    return parser_accept_word(parser, "within") ? parse_duration(parser, "a duration after within", &absence->within) : 0;
}

/* What must not happen before the step, or at the end. */
static int place_absences(sequence_t *sequence, parser_t *parser, absence_t *absences, unsigned count, sequence_step_t *step) {
    for (unsigned i = 0; i < count; i++) {
        if (step && absences[i].within)
            return parser_error(parser, absences[i].place, "between two steps it must not happen until the second one: within stands with that", "a not in the middle has no within");
        if (!step && (!absences[i].within || count > 1))
            return parser_error(parser, absences[i].place, "then not B when CONDITION within 1m", count > 1 ? "one not ends a sequence" : "a not at the end needs within");
        if (step)
            step->guards[step->guard_count++] = absences[i].condition;
    }
    if (!step && count) {
        sequence->absent = absences[0].condition;
        sequence->absent_within = absences[0].within;
    }
    return 0;
}

static int parse_steps(sequence_t *sequence, parser_t *parser) {
    absence_t absences[SEQUENCE_GUARDS] = {0};
    unsigned count = 0;
    do {
        const token_t *place = parser_token(parser);
        if (parser_accept_word(parser, "not")) {
            if (!sequence->step_count)
                return parser_error(parser, place, "A when CONDITION then not B when CONDITION within 1m", "a sequence begins with what happens");
            if (count == SEQUENCE_GUARDS)
                return parser_error(parser, place, "join conditions by or", "more than %d times not before a step", SEQUENCE_GUARDS);
            absences[count] = (absence_t){0};
            if (parse_absence(sequence, parser, &absences[count++]) < 0)
                return -1;
            continue;
        }
        if (sequence->step_count == SEQUENCE_STEPS)
            return parser_error(parser, place, NULL, "more than %d steps", SEQUENCE_STEPS);
        sequence_step_t *step = &sequence->steps[sequence->step_count];
        if (parse_step(sequence, parser, step) < 0 || place_absences(sequence, parser, absences, count, step) < 0)
            return -1;
        count = 0;
    } while (parser_accept_word(parser, "then"));
    if (parser_token(parser)->type == TOKEN_COMMA)
        return parser_expected(parser, "then, or |", "steps are joined by then");
    const sequence_step_t *last = &sequence->steps[sequence->step_count - 1];
    if (last->least != last->most)
        return parser_error(parser, parser_token(parser) - 1, "write times and one number: there it is complete at once", "nothing follows that could end this repetition");
    return place_absences(sequence, parser, absences, count, NULL);
}

/* How long a partial match can live in silence; INT64_MAX: for ever. */
static int64_t longest(const sequence_t *sequence) {
    int64_t total = 0;
    for (unsigned i = 0; i < sequence->step_count; i++) {
        const sequence_step_t *step = &sequence->steps[i];
        if (!step->within && (i > 0 || step->most > 1))
            total = INT64_MAX;
        else if (total < INT64_MAX && __builtin_add_overflow(total, step->within, &total))
            total = INT64_MAX;
    }
    if (sequence->within && sequence->within < total)
        total = sequence->within;
    return __builtin_add_overflow(total, sequence->absent_within, &total) ? INT64_MAX : total;
}

/* Keys are remembered as long as something can come of them. */
static int settle_expiry(sequence_t *sequence, parser_t *parser, const token_t *place) {
    int64_t needed = longest(sequence);
    bool forever = needed == INT64_MAX;
    if (forever)
        needed = sequence->absent_within;
    if (sequence->options.expires && keyed_expire(sequence->options.keyed) < needed)
        return parser_error(parser, place, "leave it out: a sequence remembers its keys as long as it must", "expire is shorter than the pattern may take");
    if (!sequence->options.expires)
        keyed_set_expire(sequence->options.keyed, forever ? (needed > KEYED_EXPIRE ? needed : KEYED_EXPIRE) : needed > EXPIRE_LEAST ? needed : EXPIRE_LEAST);
    return 0;
}

static size_t block_memory(const void *state) {
    const sequence_block_t *block = state;
    return block->lane ? block->lane->bytes : 0;
}

static void block_drop(void *state) {
    sequence_block_t *block = state;
    if (block->lane)
        lane_free(block->lane);
}

static int parse_head(sequence_t *sequence, program_t *program, parser_t *parser) {
    const token_t *place = parser_token(parser);
    if (parse_word_raw(parser, "the sequence's name", &sequence->name) < 0)
        return -1;
    sequence->class = (keyed_class_t){.size = sizeof(sequence_block_t), .elements = 1, .save = block_save, .load = block_load, .drop = block_drop,
                                      .memory = block_memory};
    sequence->options.keyed = keyed_new(program, &sequence->class, sequence);
    for (bool more = true; more;) {
        if (parser_accept_word(parser, "within")) {
            if (sequence->within)
                return parser_error(parser, parser_token(parser) - 1, NULL, "within stands twice");
            if (parse_duration(parser, "a duration after within", &sequence->within) < 0)
                return -1;
        } else if (parse_series_option(&sequence->options, parser, &more) < 0) {
            return -1;
        }
    }
    if (keyed_window_keys(sequence->options.keyed, parser, place) < 0)
        return -1;
    return parser_expect(parser, TOKEN_COLON, "by, within, expire, or : and the steps");
}

static int parse_sequence(sequence_t *sequence, program_t *program, parser_t *parser) {
    const token_t *place = parser_token(parser);
    if (parse_head(sequence, program, parser) < 0)
        return -1;
    keyed_t *keyed = sequence->options.keyed;
    sequence->names.hint = "the result has the keys, sequence, start, end and the steps: give the step another name";
    for (unsigned i = 0; i < keyed_count(keyed); i++)
        if (names_add(&sequence->names, parser, place, keyed_names(keyed)[i]) < 0)
            return -1;
    static const char *const own[] = {"sequence", "start", "end"};
    for (unsigned i = 0; i < 3; i++)
        if (names_add(&sequence->names, parser, place, text_of(own[i])) < 0)
            return -1;
    sequence->plan = plan_new(program, parser->scope);
    if (parse_steps(sequence, parser) < 0 || settle_expiry(sequence, parser, place) < 0)
        return -1;
    sequence->places++; /* where what must not happen is waited for */
    return 0;
}

/* Behind a sequence exist its keys, its name and times, and what the steps took. */
static void rebind(sequence_t *sequence, scope_t *scope, unsigned line) {
    keyed_t *keyed = sequence->options.keyed;
    const names_t *names = &sequence->names;
    types_t types[sizeof names->names / sizeof *names->names];
    unsigned count = 0;
    for (unsigned i = 0; i < keyed_count(keyed); i++)
        types[count++] = keyed_nodes(keyed)[i]->types;
    types[count++] = TYPES_TEXT;
    types[count++] = TYPE(VALUE_TIME);
    types[count++] = TYPE(VALUE_TIME);
    for (unsigned i = 0; i < sequence->step_count; i++) {
        types[count++] = TYPE(VALUE_MAP);
        if (sequence->steps[i].most > 1)
            types[count++] = TYPES_INTEGER;
    }
    scope->count = 0;
    scope->layout = NULL;
    scope->closed = true;
    snprintf(scope->closed_by, sizeof scope->closed_by, "sequence in line %u", line);
    unsigned taken = scope->values; /* results stand in front; rows have room for what conditions read, too */
    scope->values = 0;
    for (unsigned i = 0; i < count; i++)
        scope_bind(scope, names->names[i], SOURCE_VALUE, scope_new_value(scope), types[i]);
    if (scope->values < taken)
        scope->values = taken;
}

static op_t *sequence_parse(program_t *program, parser_t *parser) {
    sequence_t *sequence = op_new(program, &op_sequence, sizeof *sequence);
    unsigned line, column;
    diagnostics_place(parser->diagnostics->source, parser_token(parser)->at, &line, &column);
    if (parse_sequence(sequence, program, parser) < 0) {
        sequence_free(&sequence->op);
        mem_free(sequence);
        return NULL;
    }
    sequence->seen = FRAME_NO_WATERMARK;
    sequence->known = mem_zero(sequence->condition_count);
    sequence->counts = mem_zero(2 * sequence->places * sizeof *sequence->counts);
    char name[FRAME_TOPIC_MAX + 8];
    snprintf(name, sizeof name, "%.*s.late", FRAME_TOPIC_MAX - 5, program_stream_name(program));
    sequence->late_stream = program_stream(program, name);
    program_has_side(program);
    rebind(sequence, parser->scope, line);
    program_set_keys(program, sequence->names.names, keyed_count(sequence->options.keyed));
    return &sequence->op;
}

/* Running. */

static value_t map_of(text_t record) {
    return (value_t){.type = VALUE_MAP, .size = (uint32_t) record.size, .packed = (const uint8_t *) record.data};
}

void sequence_match(sequence_t *sequence, const lane_t *lane, const partial_t *partial, int64_t end, const row_t *row) {
    if (!sequence->results)
        sequence->results = rows_new(sequence->op.program);
    row_t *result = &sequence->results->row[0];
    value_t *value = result->values;
    pack_cursor_t keys = pack_cursor(lane->key.data, lane->key.size);
    for (unsigned i = 0; i < keyed_count(sequence->options.keyed); i++, value++)
        if (!pack_read_value(&keys, value))
            *value = value_null();
    *value++ = value_text(sequence->name.data, sequence->name.size);
    *value++ = value_time(partial->start);
    *value++ = value_time(end);
    for (unsigned i = 0; i < sequence->step_count; i++) {
        *value++ = map_of(sequence_record(partial, i));
        if (sequence->steps[i].most > 1)
            *value++ = value_uint(partial->taken[i].count);
    }
    result->event = (event_t){.time = end};
    result->watermark = row ? row->watermark : end > sequence->seen ? end : sequence->seen;
    result->ingest_time = row ? row->ingest_time : sequence->ingest_time;
    program_ledger(sequence->op.program)->created++;
    sequence->results->pointers[0] = result;
    op_pass(&sequence->op, sequence->results->pointers, 1);
}

/* Event time has come to `watermark`: what was waited for in vain has not happened. False: there is no room for more. */
static bool advance(sequence_t *sequence, int64_t watermark) {
    sequence->target = watermark;
    while (sequence->timer_count && sequence->timers[0]->due < watermark) {
        lane_t *lane = sequence->timers[0];
        lane_fire(lane, lane->due + 1);
        if (program_must_wait(sequence->op.program, &sequence->op))
            return false;
    }
    if (watermark > sequence->seen)
        sequence->seen = watermark;
    return true;
}

static void late_row(sequence_t *sequence, const row_t *row) {
    program_counts_t *ledger = program_ledger(sequence->op.program);
    ledger->late++;
    ledger->created++; /* the copy in the side stream */
    plan_emit(sequence->plan, sequence->op.program, sequence->late_stream, row);
}

static lane_t *new_lane(sequence_t *sequence, const row_t *row) {
    lane_t *lane = lane_new(sequence);
    for (unsigned i = 0; i < keyed_count(sequence->options.keyed); i++)
        pack_value(&lane->key, evaluate(keyed_nodes(sequence->options.keyed)[i], row));
    return lane;
}

/* False: an operator behind has stopped, and the row is to come again. */
static bool sequence_row(sequence_t *sequence, unsigned index, row_t *row) {
    sequence_expect(sequence);
    sequence->ingest_time = row->ingest_time;
    sequence_block_t *block = keyed_find(sequence->options.keyed, index, row);
    if (block && row->event.time < block->newest) {
        late_row(sequence, row);
        return true;
    }
    if (block && block->lane) {
        lane_fire(block->lane, row->event.time);
        if (program_must_stop(sequence->op.program, &sequence->op))
            return false;
    }
    program_ledger(sequence->op.program)->filtered++;
    bool idle = !block || !block->lane;
    if (block)
        block->newest = row->event.time;
    if (idle && !sequence_begins(sequence, row))
        return true;
    if (!block) {
        block = keyed_get(sequence->options.keyed, index, row);
        block->newest = row->event.time;
    }
    if (idle)
        block->lane = new_lane(sequence, row);
    lane_take(block->lane, row);
    if (!block->lane->count) {
        lane_free(block->lane);
        block->lane = NULL;
    }
    return true;
}

static void take_rows(sequence_t *sequence, row_t **rows, unsigned count) {
    keyed_prepare(sequence->options.keyed, rows, count);
    for (unsigned i = 0; i < count; i++) {
        if (!advance(sequence, rows[i]->watermark) || !sequence_row(sequence, i, rows[i])) {
            sequence->waiting = rows + i;
            sequence->waiting_count = count - i;
            return;
        }
        if (program_must_stop(sequence->op.program, &sequence->op)) {
            sequence->waiting = rows + i + 1;
            sequence->waiting_count = count - i - 1;
            return;
        }
    }
}

static void sequence_event(op_t *op, row_t **rows, unsigned count) {
    take_rows((sequence_t *) op, rows, count);
}

static void sequence_watermark(op_t *op, int64_t watermark) {
    if (advance((sequence_t *) op, watermark))
        op_pass_watermark(op, watermark);
}

/* It was rows for which it fired, or else a watermark. */
static void sequence_resume(op_t *op) {
    sequence_t *sequence = (sequence_t *) op;
    if (!advance(sequence, sequence->target))
        return;
    unsigned count = sequence->waiting_count;
    sequence->waiting_count = 0;
    if (count)
        take_rows(sequence, sequence->waiting, count);
    else
        op_pass_watermark(op, sequence->target);
}

/* State: [number, seen, ingest time, keys]. */

static void sequence_save(const op_t *op, buf_t *out) {
    const sequence_t *sequence = (const sequence_t *) op;
    pack_array(out, 4);
    pack_uint(out, sequence->number);
    pack_int(out, sequence->seen);
    pack_int(out, sequence->ingest_time);
    keyed_save(sequence->options.keyed, out);
}

static int sequence_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    sequence_t *sequence = (sequence_t *) op;
    uint32_t four;
    if (!pack_read_array(cursor, &four) || four != 4 || !pack_read_uint(cursor, &sequence->number) || !pack_read_int(cursor, &sequence->seen) ||
        !pack_read_int(cursor, &sequence->ingest_time))
        return err_set(err, "the state of sequence is damaged");
    return keyed_load(sequence->options.keyed, cursor, err);
}

static size_t sequence_memory(const op_t *op) {
    const sequence_t *sequence = (const sequence_t *) op;
    return keyed_memory(sequence->options.keyed) + sequence->timer_capacity * sizeof *sequence->timers;
}

const op_class_t op_sequence = {
    .name = "sequence",
    .syntax = "sequence NAME [by KEY, ...] [within D] [expire D]: STEP then STEP ...",
    .help = "Gives one event for each time that the pattern is found in the events of a key. A STEP is NAME when CONDITION [times N [to M] [in a row]] [within D], "
            "next NAME when ... for what follows directly, or not NAME when CONDITION [within D] for what must not happen. Conditions may look at events that were taken: "
            "B when t > A.t. The result has the keys, sequence, start, end, and each step's event.",
    .parse = sequence_parse,
    .event = sequence_event,
    .watermark = sequence_watermark,
    .resume = sequence_resume,
    .save = sequence_save,
    .load = sequence_load,
    .memory = sequence_memory,
    .free = sequence_free,
};
