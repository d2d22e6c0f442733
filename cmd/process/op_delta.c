/* delta and rate: how much a field differs from what it was in the event of its key before, and how much that is in a second. */
#include <math.h>

#include "series.h"

typedef struct change_field {
    node_t *node;
    unsigned result;          /* the computed value's number */
} change_field_t;

typedef struct change {
    op_t op;
    bool per_second;          /* rate */
    bool counter;             /* what falls began anew from 0 */
    change_field_t *fields;
    unsigned count;
    names_t names;
    keyed_class_t class;
    series_options_t options;
} change_t;

typedef struct previous {     /* the last value that was not null; null: none so far */
    value_t value;
    int64_t time;
} previous_t;

typedef struct memory {       /* of a key */
    unsigned count;
    int64_t newest;           /* event time so far */
    previous_t previous[];
} memory_t;

extern const op_class_t op_delta, op_rate;

/* State: [newest, [value, time]...] of each key. */

static void memory_save(const void *state, buf_t *out) {
    const memory_t *memory = state;
    pack_array(out, 1 + 2 * memory->count);
    pack_int(out, memory->newest);
    for (unsigned i = 0; i < memory->count; i++) {
        pack_value(out, memory->previous[i].value);
        pack_int(out, memory->previous[i].time);
    }
}

static bool memory_load(void *context, void *state, pack_cursor_t *cursor) {
    memory_t *memory = state;
    uint32_t elements, count = ((const change_t *) context)->count;
    if (!pack_read_array(cursor, &elements) || elements != 1 + 2 * count || !pack_read_int(cursor, &memory->newest))
        return false;
    memory->count = count;
    for (unsigned i = 0; i < count; i++) {
        previous_t *previous = &memory->previous[i];
        if (!pack_read_value(cursor, &previous->value) || !pack_read_int(cursor, &previous->time))
            return false;
        if (previous->value.type != VALUE_NULL && previous->value.type != VALUE_TIME && !value_is_number(previous->value))
            return false;
    }
    return true;
}

static void change_save(const op_t *op, buf_t *out) {
    keyed_save(((const change_t *) op)->options.keyed, out);
}

static int change_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    return keyed_load(((change_t *) op)->options.keyed, cursor, err);
}

static size_t change_memory(const op_t *op) {
    return keyed_memory(((const change_t *) op)->options.keyed);
}

static void change_free(op_t *op) {
    change_t *change = (change_t *) op;
    keyed_free(change->options.keyed);
    mem_free(change->fields);
}

/* Reading. */

static int parse_field(change_t *change, parser_t *parser, const char *name_of_op) {
    const token_t *place = parser_token(parser);
    text_t name, field;
    node_t *node = parse_expression(parser);
    if (!node)
        return -1;
    if (!(node->types & (TYPES_NUMBER | TYPE(VALUE_TIME)))) {
        buf_t types = {0};
        types_put(&types, node->types);
        parser_error_at(parser, node, NULL, "%s takes no %s", name_of_op, buf_text(&types));
        buf_fini(&types);
    }
    if (parser_accept_word(parser, "as")) {
        place = parser_token(parser);
        if (parse_name(parser, "a name after as", &name) < 0)
            return -1;
    } else if (parser_default_name(node, &field)) {
        name = joined_name(parser, text_of(name_of_op), field);
    } else {
        return parser_error_at(parser, node, "write EXPRESSION as NAME", "what is computed needs a name");
    }
    if (names_add(&change->names, parser, place, name) < 0)
        return -1;
    change->fields = mem_resize(change->fields, (change->count + 1) * sizeof *change->fields);
    change->fields[change->count++] = (change_field_t){.node = node};
    return 0;
}

static int parse_change(change_t *change, program_t *program, parser_t *parser, const char *name) {
    const token_t *place = parser_token(parser);
    do {
        if (parse_field(change, parser, name) < 0)
            return -1;
    } while (parser_accept(parser, TOKEN_COMMA));
    change->class = (keyed_class_t){.size = sizeof(memory_t) + change->count * sizeof(previous_t), .elements = 1, .save = memory_save, .load = memory_load};
    change->options.keyed = keyed_new(program, &change->class, change);
    for (bool more = true; more;) {
        if (parser_accept_word(parser, "counter"))
            change->counter = true;
        else if (parse_series_option(&change->options, parser, &more) < 0)
            return -1;
    }
    if (parser_is_word(parser, "over"))
        return parser_expected(parser, "by, counter, expire or |", "differences are to the event before; over some time: moving, trend");
    return keyed_window_keys(change->options.keyed, parser, place);
}

static op_t *change_parse(program_t *program, parser_t *parser, const op_class_t *class, bool per_second) {
    change_t *change = op_new(program, class, sizeof *change);
    change->per_second = per_second;
    if (parse_change(change, program, parser, class->name) < 0) {
        change_free(&change->op);
        mem_free(change);
        return NULL;
    }
    for (unsigned i = 0; i < change->count; i++)
        change->fields[i].result = bind_value(parser, change->names.names[i], per_second ? TYPE(VALUE_DOUBLE) : TYPES_NUMBER);
    return &change->op;
}

static op_t *delta_parse(program_t *program, parser_t *parser) { return change_parse(program, parser, &op_delta, false); }
static op_t *rate_parse(program_t *program, parser_t *parser) { return change_parse(program, parser, &op_rate, true); }

/* Running. */

__extension__ typedef __int128 wide_t;

static wide_t wide(value_t value) {
    return value.type == VALUE_UINT ? (wide_t) value.unsigned_integer : (wide_t) value.integer;
}

static value_t whole(wide_t number) {
    if (number < INT64_MIN || number > UINT64_MAX)
        return value_double((double) number);
    return number < 0 ? value_int((int64_t) number) : value_uint((uint64_t) number);
}

/* now - before; null after counting an error. */
static value_t difference(const change_t *change, const node_t *node, const row_t *row, value_t now, value_t before) {
    if ((now.type == VALUE_TIME) != (before.type == VALUE_TIME))
        return evaluation_failed(node, row, "%s of %s behind %s", change->op.class->name, value_type_names[now.type], value_type_names[before.type]);
    if (now.type == VALUE_TIME) {
        int64_t ns;
        if (__builtin_sub_overflow(now.time, before.time, &ns))
            return evaluation_failed(node, row, "times too far apart");
        return ns_to_seconds(ns);
    }
    if (change->counter && value_order(now, before) < 0)
        return now;
    if (now.type != VALUE_DOUBLE && before.type != VALUE_DOUBLE)
        return whole(wide(now) - wide(before));
    double apart = value_to_double(now) - value_to_double(before);
    return isfinite(apart) ? value_double(apart) : evaluation_failed(node, row, "a difference beyond the greatest double");
}

static value_t per_second(const node_t *node, const row_t *row, value_t apart, int64_t time, int64_t before) {
    int64_t ns;
    if (apart.type == VALUE_NULL || time == before)
        return value_null();
    double seconds = __builtin_sub_overflow(time, before, &ns) ? ((double) time - (double) before) / 1e9 : (double) ns / 1e9;
    double rate = value_to_double(apart) / seconds;
    return isfinite(rate) ? value_double(rate) : evaluation_failed(node, row, "a rate beyond the greatest double");
}

static void change_row(const change_t *change, memory_t *memory, row_t *row) {
    int64_t time = row->event.time;
    bool late = time < memory->newest;
    if (!late)
        memory->newest = time;
    for (unsigned i = 0; i < change->count; i++) {
        const change_field_t *field = &change->fields[i];
        previous_t *previous = &memory->previous[i];
        value_t now = late ? value_null() : finite_number(field->node, row, change->op.class->name, true), result = value_null();
        if (now.type != VALUE_NULL) {
            if (previous->value.type != VALUE_NULL)
                result = difference(change, field->node, row, now, previous->value);
            if (change->per_second)
                result = per_second(field->node, row, result, time, previous->time);
            *previous = (previous_t){now, time};
        }
        row->values[field->result] = result;
    }
}

static void change_event(op_t *op, row_t **rows, unsigned count) {
    change_t *change = (change_t *) op;
    keyed_t *keyed = change->options.keyed;
    keyed_prepare(keyed, rows, count);
    for (unsigned i = 0; i < count; i++) {
        memory_t *memory = keyed_get(keyed, i, rows[i]);
        if (keyed_is_new(keyed)) {
            memory->count = change->count;
            memory->newest = INT64_MIN;
        }
        change_row(change, memory, rows[i]);
    }
    op_pass(op, rows, count);
}

const op_class_t op_delta = {
    .name = "delta",
    .syntax = "delta EXPRESSION [as NAME], ... [by KEY, ...] [counter] [expire D]",
    .help = "Adds to each event how much more each value is than in the event of its key before: delta_NAME, null at first. counter: where it fell it began anew from 0.",
    .parse = delta_parse,
    .event = change_event,
    .save = change_save,
    .load = change_load,
    .memory = change_memory,
    .free = change_free,
};

const op_class_t op_rate = {
    .name = "rate",
    .syntax = "rate EXPRESSION [as NAME], ... [by KEY, ...] [counter] [expire D]",
    .help = "Adds to each event how much more each value is than in the event of its key before, per second of event time: rate_NAME, null at first. "
            "counter: where it fell it began anew from 0.",
    .parse = rate_parse,
    .event = change_event,
    .save = change_save,
    .load = change_load,
    .memory = change_memory,
    .free = change_free,
};
