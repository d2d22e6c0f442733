/* validate: sorts out events that break rules, and names all of them. */
#include "otherwise.h"
#include "rule.h"
#include "template.h"

typedef struct item {
    node_t *field;            /* NULL: a condition, or a schema for the whole event */
    text_t name;              /* of the field, as it stands in the program */
    rule_t *rules;
    unsigned count;
    bool required;
    node_t *condition;        /* must hold */
    text_t condition_text;
    template_t *message;
    const schema_t *schema;
} item_t;

typedef struct validate {
    op_t op;
    item_t *items;
    unsigned count;
    otherwise_t otherwise;
    unsigned index;           /* tag: of the computed value */
    char place[64];
    buf_t text;
    violations_t violations;
} validate_t;

extern const op_class_t op_validate;

/* Reading. */

static void validate_free(op_t *op) {
    validate_t *validate = (validate_t *) op;
    for (unsigned i = 0; i < validate->count; i++)
        mem_free(validate->items[i].rules);
    mem_free(validate->items);
    buf_fini(&validate->text);
}

static text_t source_of(const parser_t *parser, const token_t *first) {
    const token_t *last = parser_token(parser) - 1;
    size_t size = last->at + last->size - first->at;
    return text_make(arena_copy(&parser->unit->arena, parser->diagnostics->source.data + first->at, size), size);
}

/* check CONDITION [message "TEXT"] */
static int parse_check(parser_t *parser, item_t *item) {
    const token_t *first = parser_token(parser);
    if (!(item->condition = parse_condition(parser)))
        return -1;
    item->condition_text = source_of(parser, first);
    if (parser_accept_word(parser, "message") && !(item->message = template_parse(parser, "a message")))
        return -1;
    return 0;
}

/* FIELD RULE ... */
static int parse_field(program_t *program, parser_t *parser, item_t *item) {
    static const char hint[] = "validate FIELD required is number between 0 and 100, FIELD in (\"a\", \"b\"), check CONDITION message \"TEXT\"";
    const token_t *first = parser_token(parser);
    size_t start = parser->at;
    step_t *steps;
    unsigned count;
    if (parse_target(parser, &item->name, &steps, &count) < 0)
        return -1;
    size_t end = parser->at;
    parser->at = start;
    item->field = node_name(parser, item->name, first->at, first->size);
    if (count) { /* once more, to be read: up to where the rules begin */
        node_t *path = arena_alloc(&parser->unit->arena, sizeof *path);
        parser->at = end;
        *path = *node_new(parser, NODE_PATH, first->at);
        path->arguments = arena_copy(&parser->unit->arena, &item->field, sizeof item->field);
        path->count = 1;
        path->height = 1;
        path->steps = steps;
        path->steps_count = (uint16_t) count;
        node_bind(path);
        item->field = path;
    }
    parser->at = end;
    item->name = source_of(parser, first);
    rule_t rule;
    int status;
    while ((status = rule_parse(program, parser, &rule)) == 1) {
        item->rules = mem_resize(item->rules, (item->count + 1) * sizeof *item->rules);
        item->rules[item->count++] = rule;
        item->required |= rule.kind == RULE_REQUIRED;
    }
    if (status < 0)
        return -1;
    return item->count ? 0 : parser_expected(parser, "a rule", hint);
}

static int parse_item(validate_t *validate, program_t *program, parser_t *parser) {
    validate->items = mem_resize(validate->items, (validate->count + 1) * sizeof *validate->items);
    item_t *item = &validate->items[validate->count++];
    *item = (item_t){0};
    if (parser_is_word(parser, "schema") && parser_token(parser)[1].type == TOKEN_STRING) {
        parser_take(parser);
        return (item->schema = rule_schema(program, parser)) ? 0 : -1;
    }
    return parser_accept_word(parser, "check") ? parse_check(parser, item) : parse_field(program, parser, item);
}

static op_t *validate_parse(program_t *program, parser_t *parser) {
    validate_t *validate = op_new(program, &op_validate, sizeof *validate);
    unsigned line, column;
    diagnostics_place(parser->diagnostics->source, parser->tokens[parser->at - 1].at, &line, &column);
    snprintf(validate->place, sizeof validate->place, "validate (line %u, column %u)", line, column);
    otherwise_init(&validate->otherwise, program, parser, OTHERWISE_DEAD);
    int status = 0;
    do {
        status = parser_is_word(parser, "else") && validate->count ? 0 : parse_item(validate, program, parser);
    } while (status == 0 && parser_accept(parser, TOKEN_COMMA));
    if (status == 0)
        status = otherwise_parse(&validate->otherwise, program, parser, OTHERWISE(DROP) | OTHERWISE(DEAD) | OTHERWISE(TAG));
    if (status < 0) {
        validate_free(&validate->op);
        mem_free(validate);
        return NULL;
    }
    if (validate->otherwise.kind == OTHERWISE_TAG) {
        validate->index = scope_new_value(parser->scope);
        scope_bind(parser->scope, validate->otherwise.tag, SOURCE_VALUE, validate->index, (types_t) (TYPE(VALUE_ARRAY) | TYPE(VALUE_NULL)));
    }
    return &validate->op;
}

/* Running. */

static void check_field(violations_t *violations, const item_t *item, const row_t *row) {
    value_t value = evaluate(item->field, row);
    if (value.type == VALUE_NULL) {
        if (item->required)
            violations_add(violations, item->name, text_of("required"), value_absent());
        return;
    }
    for (unsigned i = 0; i < item->count; i++) {
        const rule_t *rule = &item->rules[i];
        if (rule->kind == RULE_SCHEMA)
            schema_check(rule->schema, value, item->name, row, violations);
        else if (!rule_holds(rule, value, row))
            violations_add(violations, item->name, rule->text, value);
        else
            continue;
        if (rule->kind == RULE_TYPE)
            return; /* what else is wrong follows from that */
    }
}

static void check_condition(validate_t *validate, const item_t *item, const row_t *row) {
    if (evaluate_test(item->condition, row))
        return;
    text_t rule = item->condition_text;
    if (item->message) {
        buf_clear(&validate->text);
        template_put(item->message, row, &validate->text);
        rule = text_make(arena_copy(&row->context->arena, validate->text.data, validate->text.size), validate->text.size);
    }
    violations_add(&validate->violations, (text_t){0}, rule, value_absent());
}

/* True: the row is to be passed on. */
static bool validate_row(validate_t *validate, row_t *row) {
    violations_t *violations = &validate->violations;
    violations->count = violations->more = 0;
    for (unsigned i = 0; i < validate->count; i++) {
        const item_t *item = &validate->items[i];
        if (item->field)
            check_field(violations, item, row);
        else if (item->condition)
            check_condition(validate, item, row);
        else
            schema_check(item->schema, plan_record(validate->otherwise.plan, row), (text_t){0}, row, violations);
    }
    if (validate->otherwise.kind == OTHERWISE_TAG) {
        row->values[validate->index] = violations->count ? violations_value(violations, row) : value_absent();
        return true;
    }
    if (!violations->count)
        return true;
    buf_clear(&validate->text);
    if (validate->otherwise.kind == OTHERWISE_DEAD)
        violations_put(violations, &validate->text);
    return !otherwise_ends(&validate->otherwise, validate->op.program, row, validate->place, buf_text(&validate->text));
}

static void validate_event(op_t *op, row_t **rows, unsigned count) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        rows[kept] = rows[i];
        kept += validate_row((validate_t *) op, rows[i]);
    }
    op_pass(op, rows, kept);
}

const op_class_t op_validate = {
    .name = "validate",
    .syntax = "validate FIELD RULE ..., check CONDITION [message \"TEXT\"], schema \"FILE\", ... [else dead|drop|tag NAME|STREAM]",
    .help = "Sorts out events that break a rule, and names all rules they break. Rules: required, is TYPE [or TYPE], between A and B, a comparison as >= 0, [not] in (A, ...), "
            "~ or !~ \"PATTERN\", length N [to M], schema \"FILE\" (JSON Schema). A field that is absent or null breaks required alone. They become dead letters "
            "whose reason has field, rule and value; else says otherwise: tag passes all on, with the violations in an array NAME.",
    .parse = validate_parse,
    .event = validate_event,
    .free = validate_free,
};
