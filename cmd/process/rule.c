/* The rules of validate: reading them, and whether they hold. */
#include "rule.h"

#include <sys/stat.h>

#include "base/file.h"
#include "data/lang/check.h"

#define SCHEMA_SIZE_MAX (4u << 20)
#define IN_MAX 256

/* Reading. */

static int add_node(parser_t *parser, rule_t *rule, node_t *node) {
    if (!node)
        return -1;
    node_t **nodes = arena_alloc(&parser->unit->arena, (rule->count + 1) * sizeof *nodes);
    if (rule->count)
        memcpy(nodes, rule->nodes, rule->count * sizeof *nodes);
    nodes[rule->count++] = node;
    rule->nodes = nodes;
    return 1;
}

/* is TYPE or TYPE ... */
static int parse_types(parser_t *parser, rule_t *rule) {
    static const struct {
        const char *name;
        types_t types;
        bool integer, time;
    } known[] = {{"null", TYPE(VALUE_NULL)}, {"bool", TYPE(VALUE_BOOL)}, {"int", TYPES_INTEGER}, {"integer", TYPES_INTEGER, .integer = true},
                 {"double", TYPE(VALUE_DOUBLE)}, {"number", TYPES_NUMBER}, {"string", TYPES_TEXT}, {"binary", TYPE(VALUE_BINARY)},
                 {"array", TYPE(VALUE_ARRAY)}, {"map", TYPE(VALUE_MAP)}, {"time", TYPE(VALUE_TIME), .time = true}};
    static const char hint[] = "types are number, int, integer (doubles such as 2.0 too), double, string, bool, array, map, time and binary";
    rule->kind = RULE_TYPE;
    do {
        size_t i = 0, count = sizeof known / sizeof *known;
        while (i < count && !parser_accept_word(parser, known[i].name))
            i++;
        if (i == count)
            return parser_expected(parser, "a type", hint);
        rule->types |= known[i].types;
        rule->integer |= known[i].integer;
        rule->time |= known[i].time;
    } while (parser_accept_word(parser, "or"));
    return 1;
}

static int parse_between(parser_t *parser, rule_t *rule) {
    rule->kind = RULE_BETWEEN;
    if (add_node(parser, rule, parse_coalesce(parser)) < 0)
        return -1;
    if (!parser_accept_word(parser, "and"))
        return parser_expected(parser, "the word and, and the upper bound", "between 0 and 100: both belong to it");
    return add_node(parser, rule, parse_coalesce(parser));
}

static int parse_in(parser_t *parser, rule_t *rule) {
    rule->kind = RULE_IN;
    if (parser_expect(parser, TOKEN_OPEN, "( and the values that are allowed") < 0)
        return -1;
    do {
        if (rule->count == IN_MAX)
            return parser_error(parser, parser_token(parser), NULL, "more than %d values in a list", IN_MAX);
        if (add_node(parser, rule, parse_expression(parser)) < 0)
            return -1;
    } while (parser_accept(parser, TOKEN_COMMA));
    return parser_expect(parser, TOKEN_CLOSE, ", or )") < 0 ? -1 : 1;
}

static int parse_count(parser_t *parser, int64_t *count) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_NUMBER || token->value.type != VALUE_INT)
        return parser_expected(parser, "a whole number", "length 1 to 64, or length 8");
    *count = parser_take(parser)->value.integer;
    return 0;
}

static int parse_length(parser_t *parser, rule_t *rule) {
    const token_t *token = parser_token(parser);
    rule->kind = RULE_LENGTH;
    if (parse_count(parser, &rule->least) < 0)
        return -1;
    rule->most = rule->least;
    if (parser_accept_word(parser, "to") && parse_count(parser, &rule->most) < 0)
        return -1;
    return rule->most < rule->least ? parser_error(parser, token, NULL, "no length is in this range") : 1;
}

static int parse_match(parser_t *parser, rule_t *rule) {
    const token_t *token = parser_token(parser);
    rule->kind = RULE_MATCH;
    if (token->type != TOKEN_STRING)
        return parser_expected(parser, "a pattern in quotes", NULL);
    parser_take(parser);
    return (rule->pattern = parser_pattern(parser, token)) ? 1 : -1;
}

const schema_t *rule_schema(program_t *program, parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t name;
    if (parse_string(parser, "the schema's file, in quotes", &name) < 0)
        return NULL;
    char *path = mem_text_n(name.data, name.size);
    buf_t bytes = {0};
    err_t err;
    struct stat status;
    schema_t *schema = NULL;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        parser_error(parser, token, NULL, "the schema %s: not a file", path);
    else if (file_read(path, SCHEMA_SIZE_MAX, &bytes, &err))
        parser_error(parser, token, NULL, "the schema %s", err.text);
    else if (!(schema = schema_new(text_make((const char *) bytes.data, bytes.size), &err)))
        parser_error(parser, token, "stream-language(7) says what is known of JSON Schema", "the schema %s: %s", path, err.text);
    if (schema) {
        unit_own(parser->unit, schema, schema_free);
        program_identify(program, bytes.data, bytes.size);
    }
    buf_fini(&bytes);
    mem_free(path);
    return schema;
}

static int parse_rule(program_t *program, parser_t *parser, rule_t *rule) {
    token_type_t type = parser_token(parser)->type;
    if (type >= TOKEN_EQ && type <= TOKEN_GE) {
        parser_take(parser);
        rule->kind = RULE_COMPARE;
        rule->comparison = (uint8_t) (type - TOKEN_EQ);
        return add_node(parser, rule, parse_coalesce(parser));
    }
    rule->negated = type == TOKEN_NOT_MATCH;
    if (parser_accept(parser, TOKEN_MATCH) || parser_accept(parser, TOKEN_NOT_MATCH))
        return parse_match(parser, rule);
    if (parser_accept_word(parser, "required"))
        return rule->kind = RULE_REQUIRED, 1;
    if (parser_accept_word(parser, "is"))
        return parse_types(parser, rule);
    if (parser_accept_word(parser, "between"))
        return parse_between(parser, rule);
    rule->negated = parser_accept_word(parser, "not");
    if (parser_accept_word(parser, "in"))
        return parse_in(parser, rule);
    if (rule->negated)
        return parser_expected(parser, "in after not", NULL);
    if (parser_accept_word(parser, "length"))
        return parse_length(parser, rule);
    if (!parser_accept_word(parser, "schema"))
        return 0;
    rule->kind = RULE_SCHEMA;
    return (rule->schema = rule_schema(program, parser)) ? 1 : -1;
}

int rule_parse(program_t *program, parser_t *parser, rule_t *rule) {
    const token_t *first = parser_token(parser);
    *rule = (rule_t){0};
    int status = parse_rule(program, parser, rule);
    if (status != 1)
        return status;
    const token_t *last = parser_token(parser) - 1;
    rule->text = text_make(parser->diagnostics->source.data + first->at, last->at + last->size - first->at);
    rule->text.data = arena_copy(&parser->unit->arena, rule->text.data, rule->text.size);
    return 1;
}

/* Running. */

static bool of_type(const rule_t *rule, value_t value) {
    int64_t time;
    if (rule->types & TYPE(value.type))
        return value.type != VALUE_DOUBLE || value.number - value.number == 0; /* NaN is not a number */
    if (rule->integer && value.type == VALUE_DOUBLE)
        return value.number - value.number == 0 && __builtin_trunc(value.number) == value.number;
    return rule->time && value.type == VALUE_STRING && value_to_time(value, &time);
}

static bool compares(comparison_t comparison, value_t value, value_t with) {
    if (with.type == VALUE_NULL)
        return true; /* nothing to compare with */
    if (comparison == COMPARE_EQ || comparison == COMPARE_NE)
        return value_equal(value, with) == (comparison == COMPARE_EQ);
    int order = value_order(value, with);
    if (order == ORDER_NONE || order == ORDER_MISMATCH)
        return false;
    switch (comparison) {
    case COMPARE_LT: return order < 0;
    case COMPARE_LE: return order <= 0;
    case COMPARE_GT: return order > 0;
    default: return order >= 0;
    }
}

static bool is_in(const rule_t *rule, value_t value, const row_t *row) {
    for (unsigned i = 0; i < rule->count; i++)
        if (value_equal(value, evaluate(rule->nodes[i], row)))
            return true;
    return false;
}

/* Characters of a text, bytes of a binary, items of an array, entries of a map; -1: it has no length. */
static int64_t length_of(value_t value) {
    pack_cursor_t cursor = pack_cursor(value.packed, value.size);
    uint32_t items;
    int64_t count = 0;
    switch (value.type) {
    case VALUE_STRING:
        for (uint32_t i = 0; i < value.size; i++)
            count += ((unsigned char) value.text[i] & 0xC0) != 0x80;
        return count;
    case VALUE_BINARY: return value.size;
    case VALUE_ARRAY: return pack_read_array(&cursor, &items) ? (int64_t) items : -1;
    case VALUE_MAP: return pack_read_map(&cursor, &items) ? (int64_t) items : -1;
    default: return -1;
    }
}

bool rule_holds(const rule_t *rule, value_t value, const row_t *row) {
    switch (rule->kind) {
    case RULE_TYPE: return of_type(rule, value);
    case RULE_COMPARE: return compares((comparison_t) rule->comparison, value, evaluate(rule->nodes[0], row));
    case RULE_BETWEEN: return compares(COMPARE_GE, value, evaluate(rule->nodes[0], row)) && compares(COMPARE_LE, value, evaluate(rule->nodes[1], row));
    case RULE_IN: return is_in(rule, value, row) != rule->negated;
    case RULE_MATCH: {
        int found = value.type == VALUE_STRING ? pattern_match(rule->pattern, text_make(value.text, value.size)) : -1;
        return found >= 0 && found == !rule->negated;
    }
    case RULE_LENGTH: {
        int64_t length = length_of(value);
        return length >= rule->least && length <= rule->most;
    }
    default: return true;
    }
}
