/* parse: the text in a field becomes fields. */
#include "otherwise.h"
#include "parse_format.h"
#include "remake.h"

typedef struct parse {
    op_t op;
    node_t *node;             /* the text */
    const parse_format_t *format;
    reading_t reading;
    text_t into;              /* data NULL: fields of the event itself */
    unsigned index;           /* into: of the computed value */
    otherwise_t otherwise;
    remake_t *remake;         /* not into */
    fields_t fields;
    buf_t out;
} parse_t;

extern const op_class_t op_parse;

/* Reading. */

static void parse_free(op_t *op) {
    parse_t *parse = (parse_t *) op;
    remake_free(parse->remake);
    reading_fini(&parse->reading);
    fields_fini(&parse->fields);
    buf_fini(&parse->out);
}

static int parse_the_format(parse_t *parse, parser_t *parser) {
    static const char hint[] = "the formats are json, csv (A, B), logfmt, syslog and regex \"PATTERN\"";
    if (!parser_accept_word(parser, "as"))
        return parser_expected(parser, "as and a format", hint);
    for (const parse_format_t *format = parse_formats; format->name; format++)
        if (parser_accept_word(parser, format->name))
            parse->format = format;
    if (!parse->format)
        return parser_expected(parser, "a format", hint);
    return parse->format->options ? parse->format->options(&parse->reading, parser) : 0;
}

static int parse_the_rest(parse_t *parse, program_t *program, parser_t *parser) {
    for (;;) {
        const token_t *token = parser_token(parser);
        if (parser_accept_word(parser, "strings")) {
            if (!parse->format->typed)
                return parser_error(parser, token, NULL, "strings means nothing to %s", parse->format->name);
            parse->reading.strings = true;
        } else if (parser_accept_word(parser, "into")) {
            if (parse_name(parser, "a name after into", &parse->into) < 0)
                return -1;
        } else if (parser_is_word(parser, "else")) {
            if (otherwise_parse(&parse->otherwise, program, parser, OTHERWISE(PASS) | OTHERWISE(DROP) | OTHERWISE(DEAD)) < 0)
                return -1;
        } else {
            return 0;
        }
    }
}

static int parse_text(parse_t *parse, parser_t *parser) {
    parse->node = parse_expression(parser);
    if (!parse->node)
        return -1;
    if (!(parse->node->types & TYPES_TEXT))
        parser_error_at(parser, parse->node, NULL, "parse takes a text");
    return 0;
}

static op_t *parse_parse(program_t *program, parser_t *parser) {
    parse_t *parse = op_new(program, &op_parse, sizeof *parse);
    otherwise_init(&parse->otherwise, program, parser, OTHERWISE_PASS);
    if (parse_text(parse, parser) < 0 || parse_the_format(parse, parser) < 0 || parse_the_rest(parse, program, parser) < 0) {
        parse_free(&parse->op);
        mem_free(parse);
        return NULL;
    }
    if (parse->into.data) {
        parse->index = scope_new_value(parser->scope);
        scope_bind(parser->scope, parse->into, SOURCE_VALUE, parse->index, TYPES_ANY);
    } else {
        parse->remake = remake_new(program, parser->scope);
    }
    return &parse->op;
}

/* Running. */

/* True: the row is to be passed on as it is; it is an error, or what `else` says. */
static bool refused(const parse_t *parse, const row_t *row, const char *why) {
    char reason[400];
    snprintf(reason, sizeof reason, "%s: %s", parse->format->name, why);
    text_make_valid(reason);
    if (otherwise_ends(&parse->otherwise, parse->op.program, row, "parse", reason))
        return false;
    evaluation_failed(parse->node, row, "%s", reason);
    return true;
}

/* What was read as one value, in the row's arena. False: it is nested deeper than a value in a record may be. */
static bool whole(parse_t *parse, const row_t *row, value_t *value) {
    buf_clear(&parse->out);
    pack_array(&parse->out, 1);
    if (parse->reading.whole.type == VALUE_MAP)
        fields_pack(&parse->reading.fields, &parse->out);
    else
        pack_value(&parse->out, parse->reading.whole);
    const uint8_t *copy = arena_copy(&row->context->arena, parse->out.data, parse->out.size);
    pack_cursor_t cursor = pack_cursor(copy, parse->out.size);
    if (!pack_skip(&cursor))
        return false;
    *value = record_value(copy + 1, copy + parse->out.size);
    return true;
}

/* The event with what was read; its own fields are replaced by those of the same name. Its time and stream stay its own. */
static value_t merged(parse_t *parse, value_t record) {
    const fields_t *read = &parse->reading.fields;
    fields_clear(&parse->fields);
    if (!fields_put_map(&parse->fields, record))
        return value_null();
    for (uint32_t i = 0; i < read->count; i++)
        if (!name_is_beside(read->items[i].name))
            fields_put(&parse->fields, read->items[i].name, read->items[i].value, read->items[i].size);
    buf_clear(&parse->out);
    fields_pack(&parse->fields, &parse->out);
    return record_value(parse->out.data, parse->out.data + parse->out.size);
}

/* Deeper than a record may be with one more level around it, or larger than a frame. */
static bool fits(value_t value) {
    pack_cursor_t cursor = pack_cursor(value.packed, value.size);
    return value.size <= RECORD_MAX && pack_skip(&cursor);
}

static bool parse_row(parse_t *parse, row_t *row, unsigned index) {
    value_t text = evaluate(parse->node, row), record = value_null();
    if (parse->into.data)
        row->values[parse->index] = value_absent();
    else if ((record = remake_record(parse->remake, row)).type != VALUE_MAP)
        return remake_failed(parse->remake, row);
    err_t err;
    const char *wrong = NULL;
    if (text.type == VALUE_NULL)
        return parse->into.data || remake_row(parse->remake, row, index, record);
    parse->reading.row = row;
    if (text.type != VALUE_STRING) {
        err_set(&err, "of %s, not of a text", value_type_names[text.type]);
        wrong = err.text;
    } else if (parse->format->read(&parse->reading, text_make(text.text, text.size), &err)) {
        wrong = err.text;
    } else if (parse->into.data) {
        if (!whole(parse, row, &row->values[parse->index]))
            wrong = "nested too deep";
    } else if (parse->reading.whole.type != VALUE_MAP) {
        wrong = "no object, so it has no fields; into NAME takes any value";
    } else {
        value_t more = merged(parse, record);
        if (more.type == VALUE_MAP && fits(more))
            return remake_row(parse->remake, row, index, more);
        wrong = "nested too deep, or too large together";
    }
    if (wrong && !refused(parse, row, wrong))
        return false;
    return parse->into.data || remake_row(parse->remake, row, index, record);
}

static void parse_event(op_t *op, row_t **rows, unsigned count) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        rows[kept] = rows[i];
        kept += parse_row((parse_t *) op, rows[i], kept);
    }
    op_pass(op, rows, kept);
}

const op_class_t op_parse = {
    .name = "parse",
    .syntax = "parse TEXT as json|csv (A, ...) [separator \"S\"]|logfmt|syslog|regex \"PATTERN\" [strings] [into NAME] [else pass|drop|dead|STREAM]",
    .help = "Reads the text, a field or an expression, and adds what it holds to the event's fields, or as a map under NAME. Values of csv, logfmt and regex are numbers, "
            "true, false or null where they look so, in the same way as in CSV files; with strings they stay texts. A text that cannot be read leaves the event as it "
            "is and counts as an error (pass), unless else says what becomes of the event. A null text changes nothing.",
    .parse = parse_parse,
    .event = parse_event,
    .free = parse_free,
};
