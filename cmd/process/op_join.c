/* join: each event of the stream with each one of another that has the same key and a time at most so far away. Both come in by the same chain; an event
 * is kept until no partner can come any more. */
#include "group.h"
#include "partner.h"
#include "remake.h"

#define KEYS_MAX 16

typedef struct join {
    op_t op;
    text_t stream;            /* the other one */
    node_t *keys[2][KEYS_MAX];            /* over events of the main stream; of the other one */
    unsigned key_count;
    int64_t within, wait;
    bool left;                /* events without a partner are passed on */
    unsigned value;           /* number of the partner's record among a row's values */
    plan_t *plan;             /* how late events are written */
    unsigned late_stream;
    remake_t *remake;
    rows_t *made;

    partners_t partners;
    held_sources_t sources;
    int64_t announced;        /* watermark passed on */
    int64_t passed;           /* what event time behind has come to for the rows that are made: of what causes them, so that it is no matter when watermarks
                               * come between */

    /* where it stands */
    row_t **rows;             /* the batch at hand; NULL: it is a watermark */
    unsigned count, done;
    int64_t watermark;
    bool open;                /* rows[done] is being matched: */
    partner_t *here, *with;   /* it, as it is kept, and the next one to look at */
    unsigned pending;         /* rows made and not passed on */
    arena_mark_t mark;
    buf_t key;
} join_t;

extern const op_class_t op_join;

/* Reading. */

static int parse_keys(join_t *join, parser_t *parser) {
    do {
        if (join->key_count == KEYS_MAX)
            return parser_error(parser, parser_token(parser), NULL, "more than %d keys", KEYS_MAX);
        node_t *other = parse_expression(parser);
        if (!other)
            return -1;
        node_t *main = parser_accept(parser, TOKEN_ASSIGN) ? parse_expression(parser) : other;
        if (!main)
            return -1;
        if (other->kind == NODE_COMPARE)
            return parser_error_at(parser, other, "on THEIR_KEY = OUR_KEY", "a comparison is no key");
        join->keys[0][join->key_count] = main;
        join->keys[1][join->key_count++] = other;
    } while (parser_accept(parser, TOKEN_COMMA));
    return 0;
}

static int parse_parts(join_t *join, parser_t *parser, text_t *name) {
    static const char hint[] = "join STREAM on KEY within 10s";
    bool kind = false;
    if (!parser_accept_word(parser, "on"))
        return parser_expected(parser, "on and the key", hint);
    if (parse_keys(join, parser) < 0)
        return -1;
    if (!parser_accept_word(parser, "within"))
        return parser_expected(parser, "within and a duration", hint);
    if (parse_duration(parser, "a duration after within", &join->within) < 0)
        return -1;
    for (;;) {
        if (!join->wait && parser_accept_word(parser, "wait")) {
            if (parse_duration(parser, "a duration after wait", &join->wait) < 0)
                return -1;
        } else if (!kind && (parser_is_word(parser, "left") || parser_is_word(parser, "inner"))) {
            join->left = parser_is_word(parser, "left");
            kind = true;
            parser_take(parser);
        } else if (!name->data && parser_accept_word(parser, "as")) {
            if (parse_name(parser, "a name after as", name) < 0)
                return -1;
        } else {
            return 0;
        }
    }
}

static int parse_join(join_t *join, program_t *program, parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t name = {0};
    if (parse_word_raw(parser, "the name of a stream", &join->stream) < 0)
        return -1;
    if (!frame_topic_valid(join->stream.data, join->stream.size))
        return parser_error(parser, token, "letters, digits, _ . and -, at most 128 of them", "this can't be the name of a stream");
    if (!parser->scope->layout)
        return parser_error(parser, token, "join stands before window: join a on k within 10s | window ...", "behind a window all events are its results");
    if (parse_parts(join, parser, &name) < 0)
        return -1;
    join->plan = plan_new(program, parser->scope);
    join->remake = remake_new(program, parser->scope);
    join->value = scope_new_value(parser->scope);
    scope_bind(parser->scope, name.data ? name : join->stream, SOURCE_VALUE, join->value, (types_t) (TYPE(VALUE_MAP) | TYPE(VALUE_NULL)));
    char late[FRAME_TOPIC_MAX + 8];
    snprintf(late, sizeof late, "%.*s.late", FRAME_TOPIC_MAX - 5, program_stream_name(program));
    join->late_stream = program_stream(program, late);
    program_has_side(program);
    return 0;
}

static void join_free(op_t *op) {
    join_t *join = (join_t *) op;
    partners_fini(&join->partners);
    held_sources_fini(&join->sources);
    remake_free(join->remake);
    rows_free(join->made);
    buf_fini(&join->key);
}

static op_t *join_parse(program_t *program, parser_t *parser) {
    join_t *join = op_new(program, &op_join, sizeof *join);
    if (parse_join(join, program, parser) < 0) {
        join_free(&join->op);
        mem_free(join);
        return NULL;
    }
    join->announced = FRAME_NO_WATERMARK;
    return &join->op;
}

/* Writing. */

static int64_t subtract(int64_t time, int64_t span) {
    return time == INT64_MAX || time < FRAME_NO_WATERMARK + span ? time : time - span;
}

/* What event time has come to behind, when it has come to `watermark` in front: nothing is made that is older. */
static int64_t come_to(const join_t *join, int64_t watermark) {
    return subtract(watermark, join->left ? join->wait + join->within : join->wait);
}

/* False: an operator behind has stopped, and this one is to. */
static bool pass(join_t *join) {
    unsigned count = join->pending;
    join->pending = 0;
    if (!count)
        return true;
    for (unsigned i = 0; i < count; i++)
        join->made->pointers[i] = &join->made->row[i];
    op_pass(&join->op, join->made->pointers, count);
    if (program_must_stop(join->op.program, &join->op))
        return false;
    arena_release(&join->made->row[0].context->arena, join->mark);
    return true;
}

static bool is_full(const join_t *join) {
    return join->pending >= program_batch(join->op.program);
}

/* An event of the main stream, with its partner or without. There is room for one more row. */
static void make(join_t *join, const partner_t *main, const partner_t *other) {
    row_t *row = &join->made->row[join->pending];
    row->event = (event_t){.time = other && other->time > main->time ? other->time : main->time};
    row->ingest_time = other && other->ingest_time < main->ingest_time ? other->ingest_time : main->ingest_time;
    row->frame = held_frame(&join->sources, main->source);
    row->watermark = join->passed;
    row->original = NULL;
    const uint8_t *record = partner_record(main);
    if (!remake_row(join->remake, row, join->pending, record_value(record, record + main->record_size)))
        return;
    record = other ? partner_record(other) : NULL;
    row->values[join->value] = other ? record_value(record, record + other->record_size) : value_null();
    join->pending++;
}

/* No room, or somebody behind has none: this one is to stop. */
static bool must_stop(join_t *join) {
    return is_full(join) && (!pass(join) || program_must_wait(join->op.program, &join->op));
}

/* Lets go of those that no partner can come for any more. False: stop, and come again. */
static bool advance(join_t *join, int64_t watermark) {
    program_counts_t *ledger = program_ledger(join->op.program);
    int64_t bound = subtract(subtract(watermark, join->wait), join->within);
    for (partner_t *partner; (partner = partners_earliest(&join->partners)) && (partner->time < bound || watermark == INT64_MAX);) {
        if (must_stop(join) || (partner->side == 1 && !pass(join))) /* rows may hold its record */
            return false;
        ledger->held--;
        if (join->left && partner->side == 0 && !partner->matched) {
            join->passed = partner->time;
            make(join, partner, NULL);
        } else {
            ledger->filtered++;
        }
        partners_remove_earliest(&join->partners);
    }
    return true;
}

/* Rows. */

static bool put_key(join_t *join, const row_t *row, unsigned side) {
    buf_clear(&join->key);
    for (unsigned i = 0; i < join->key_count; i++) {
        value_t value = evaluate(join->keys[side][i], row);
        if (value.type == VALUE_NULL)
            return false;
        key_put(&join->key, value);
    }
    return true;
}

static void late_row(join_t *join, const row_t *row) {
    program_counts_t *ledger = program_ledger(join->op.program);
    ledger->late++;
    ledger->created++; /* the copy in the side stream */
    plan_emit(join->plan, join->op.program, join->late_stream, row);
}

/* Events of a stream that a join further down the chain is about pass this one by. */
static bool is_for_another(const join_t *join, const row_t *row) {
    for (const op_t *op = join->op.next; op && row->frame; op = op->next)
        if (op->class == &op_join && text_is(((const join_t *) op)->stream, row->frame->topic))
            return true;
    return false;
}

static void pass_by(join_t *join, const row_t *source) {
    row_t *row = &join->made->row[join->pending];
    value_t *values = row->values, record = remake_record(join->remake, source);
    *row = *source;
    row->watermark = join->passed;
    row->values = values;
    values[join->value] = value_absent();
    join->pending += remake_row(join->remake, row, join->pending, record);
}

/* Takes up the next row: it is kept, and what it goes with is looked for. False: there is nothing to be looked for. */
static bool open_row(join_t *join) {
    const row_t *row = join->rows[join->done];
    join->passed = come_to(join, row->watermark);
    program_counts_t *ledger = program_ledger(join->op.program);
    bool other = row->frame && text_is(join->stream, row->frame->topic);
    if (!other && is_for_another(join, row)) {
        pass_by(join, row);
        return false;
    }
    if (row->watermark != FRAME_NO_WATERMARK && row->event.time < subtract(row->watermark, join->wait)) {
        late_row(join, row);
        return false;
    }
    bool has_key = put_key(join, row, other);
    if (!has_key && (other || !join->left)) {
        ledger->filtered++;
        return false;
    }
    value_t record = remake_record(join->remake, row);
    if (record.type != VALUE_MAP)
        return remake_failed(join->remake, row);
    partner_t what = {.time = row->event.time, .ingest_time = row->ingest_time, .side = other, .source = held_source(&join->sources, row->frame)};
    text_t key = has_key ? text_make((char *) join->key.data, join->key.size) : text_of("");
    join->here = partners_add(&join->partners, &what, key, text_make((const char *) record.packed, record.size));
    join->with = has_key ? partners_find(&join->partners, !other, key) : NULL;
    ledger->held++;
    return true;
}

/* The pairs of the row that was taken up. False: stop, and come again. */
static bool match(join_t *join) {
    while (join->with) {
        partner_t *with = join->with, *main = join->here->side ? with : join->here, *other = join->here->side ? join->here : with;
        join->with = partners_next(with);
        if (is_full(join)) {
            join->with = with;
            if (must_stop(join))
                return false;
            join->with = partners_next(with);
        }
        int64_t apart;
        if (__builtin_sub_overflow(main->time, other->time, &apart) || apart > join->within || apart < -join->within)
            continue;
        main->matched = other->matched = true;
        program_ledger(join->op.program)->created++;
        make(join, main, other);
    }
    return true;
}

static void take_rows(join_t *join) {
    for (; join->done < join->count; join->done++, join->open = false) {
        if (!join->open) {
            if (must_stop(join) || !advance(join, join->rows[join->done]->watermark) || must_stop(join))
                return;
            if (!open_row(join))
                continue;
            join->open = true;
        }
        if (!match(join))
            return;
    }
    pass(join);
}

static void begin(join_t *join, row_t **rows, unsigned count) {
    if (!join->made)
        join->made = rows_new(join->op.program);
    join->rows = rows;
    join->count = count;
    join->done = 0;
    join->mark = arena_mark(&join->made->row[0].context->arena);
}

static void join_event(op_t *op, row_t **rows, unsigned count) {
    join_t *join = (join_t *) op;
    begin(join, rows, count);
    take_rows(join);
}

/* What may still come out is at most so old. */
static void take_watermark(join_t *join) {
    if (!advance(join, join->watermark) || !pass(join))
        return;
    int64_t passed = come_to(join, join->watermark);
    if (passed > join->announced) {
        join->announced = passed;
        op_pass_watermark(&join->op, passed);
    }
}

static void join_watermark(op_t *op, int64_t watermark) {
    join_t *join = (join_t *) op;
    begin(join, NULL, 0);
    join->watermark = watermark;
    take_watermark(join);
}

static void join_resume(op_t *op) {
    join_t *join = (join_t *) op;
    if (join->rows)
        take_rows(join);
    else
        take_watermark(join);
}

/* Snapshots: [announced, the streams, the events]. */

static void join_save(const op_t *op, buf_t *out) {
    const join_t *join = (const join_t *) op;
    pack_array(out, 3);
    pack_int(out, join->announced);
    held_sources_save(&join->sources, out);
    partners_save(&join->partners, op->program, out);
}

static int join_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    join_t *join = (join_t *) op;
    uint32_t three;
    if (!pack_read_array(cursor, &three) || three != 3 || !pack_read_int(cursor, &join->announced) || !held_sources_load(&join->sources, cursor) ||
        !partners_load(&join->partners, cursor))
        return err_set(err, "the join's state is damaged");
    return 0;
}

static size_t join_memory(const op_t *op) {
    return ((const join_t *) op)->partners.bytes;
}

const op_class_t op_join = {
    .name = "join",
    .syntax = "join STREAM on THEIR_KEY [= OUR_KEY], ... within D [wait D] [inner|left] [as NAME]",
    .help = "Each event with each one of STREAM that has the same key and a time at most D away. The event of STREAM goes into the field NAME as a map, by default called as "
            "STREAM is. Events of STREAM end here. With left an event without a partner passes, too, when none can come any more; the field is null. wait lets "
            "events in that come so late.",
    .keeps = "the events of both streams, as long as partners may come",
    .parse = join_parse,
    .event = join_event,
    .watermark = join_watermark,
    .resume = join_resume,
    .save = join_save,
    .load = join_load,
    .memory = join_memory,
    .free = join_free,
};
