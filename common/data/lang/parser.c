/* Expressions: tokens to nodes, by recursive descent. Binding strength, weakest first: or, and, not, comparisons (which do not chain),
 * ??, + and -, * / %, unary minus, paths. What is checked about types stands in check.c. */
#include "data/lang/parser.h"

#include <strings.h>

#include "data/lang/check.h"
#include "data/lang/evaluate.h"
#include "data/lang/function.h"
#include "data/lang/pattern.h"

#define DEPTH_MAX 100

node_t *node_new(parser_t *parser, node_kind_t kind, uint32_t at) {
    node_t *node = arena_alloc(&parser->unit->arena, sizeof *node);
    const token_t *last = parser->at ? &parser->tokens[parser->at - 1] : parser->tokens;
    uint32_t end = last->at + last->size;
    *node = (node_t){.kind = (uint8_t) kind, .at = at, .size = end > at ? end - at : 1, .types = TYPES_ANY, .owner = parser->owner};
    diagnostics_find_place(parser->diagnostics, at, &node->line, &node->column);
    return node;
}

node_t *node_constant(parser_t *parser, value_t value, uint32_t at) {
    node_t *node = node_new(parser, NODE_CONSTANT, at);
    node->constant = value;
    node->types = TYPE(value.type);
    node_bind(node);
    return node;
}

static node_t *node_with(parser_t *parser, node_kind_t kind, uint32_t at, node_t *const *arguments, unsigned count) {
    node_t *node = node_new(parser, kind, at);
    node->arguments = arena_copy(&parser->unit->arena, arguments, count * sizeof *arguments);
    node->count = (uint16_t) count;
    for (unsigned i = 0; i < count; i++)
        if (arguments[i]->height >= node->height)
            node->height = (uint16_t) (arguments[i]->height + 1);
    return node;
}

static node_t *node_two(parser_t *parser, node_kind_t kind, unsigned operation, node_t *left, node_t *right) {
    node_t *node = node_with(parser, kind, left->at, (node_t *[]){left, right}, 2);
    node->operation = (uint8_t) operation;
    return check_node(parser, node);
}

int parse_name(parser_t *parser, const char *what, text_t *name) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_NAME && token->type != TOKEN_QUOTED)
        return parser_expected(parser, what, token->type == TOKEN_STRING ? "names are written without quotes, or `in backticks`"
                                             : token->type == TOKEN_AT   ? "the event's time is read as @timestamp and cannot be set" : NULL);
    parser_take(parser);
    buf_t text = {0};
    lexer_name(parser->diagnostics->source, token, &text);
    *name = text_make(arena_copy(&parser->unit->arena, text.data, text.size), text.size);
    buf_fini(&text);
    return 0;
}

static int string_of(parser_t *parser, const token_t *token, bool pattern, text_t *text) {
    buf_t bytes = {0};
    int rc = lexer_string(parser->diagnostics, token, pattern, &bytes);
    if (rc == 0)
        *text = text_make(arena_copy(&parser->unit->arena, bytes.data, bytes.size), bytes.size);
    buf_fini(&bytes);
    return rc;
}

int parse_string(parser_t *parser, const char *what, text_t *text) {
    if (parser_token(parser)->type != TOKEN_STRING)
        return parser_expected(parser, what, NULL);
    return string_of(parser, parser_take(parser), false, text);
}

int parse_duration(parser_t *parser, const char *what, int64_t *ns) {
    const token_t *token = parser_token(parser);
    static const char hint[] = "durations are written 250ms 10s 5m 1h 1d, sums as 1h30m";
    if (token->type == TOKEN_NUMBER)
        return parser_error(parser, token, hint, "a duration needs a unit");
    if (token->type != TOKEN_DURATION)
        return parser_expected(parser, what, hint);
    if (token->value.integer <= 0)
        return parser_error(parser, token, NULL, "the duration must be above zero");
    *ns = parser_take(parser)->value.integer;
    return 0;
}

bool parser_default_name(const node_t *node, text_t *name) {
    if (node->kind == NODE_PATH) {
        for (unsigned i = node->steps_count; i-- > 0;) {
            if (node->steps[i].name.data) {
                *name = node->steps[i].name;
                return true;
            }
        }
        return parser_default_name(node->arguments[0], name);
    }
    if (node->kind == NODE_META) {
        *name = text_of(node->operation == META_STREAM ? "stream" : "ingest_time");
        return true;
    }
    if ((node->kind != NODE_FIELD && node->kind != NODE_VALUE) || node->constant.type != VALUE_STRING)
        return false;
    *name = text_make(node->constant.text, node->constant.size);
    return true;
}

/* The steps behind a primary: .name, [index], ["name"]. -1 after an error; else how many. */
static int parse_steps(parser_t *parser, step_t **out) {
    step_t steps[PACK_DEPTH];
    int count = 0;
    for (;;) {
        step_t step = {0};
        if (parser_accept(parser, TOKEN_DOT)) {
            if (parser_token(parser)->type == TOKEN_STRING)
                return parser_expected(parser, "a name after the dot", "texts are joined with +; an odd name stands in backticks: a.`odd name`");
            if (parse_name(parser, "a name after the dot", &step.name) < 0)
                return -1;
        } else if (parser_accept(parser, TOKEN_BRACKET)) {
            const token_t *token = parser_token(parser);
            if (token->type == TOKEN_STRING) {
                if (parse_string(parser, "a name", &step.name) < 0)
                    return -1;
                if (!step.name.data)
                    step.name.data = "";
            } else {
                bool minus = parser_accept(parser, TOKEN_MINUS);
                token = parser_token(parser);
                if (token->type != TOKEN_NUMBER || token->value.type != VALUE_INT)
                    return parser_expected(parser, "an index or a \"name\" in brackets", "indexes are constants: a[0], from the end a[-1]");
                parser_take(parser);
                step.index = minus ? -token->value.integer : token->value.integer;
            }
            if (parser_token(parser)->type == TOKEN_COLON)
                return parser_expected(parser, "]", "several items of an array are slice(array, start, length)");
            if (parser_expect(parser, TOKEN_BRACKET_END, "]") < 0)
                return -1;
        } else {
            break;
        }
        if (count == PACK_DEPTH)
            return parser_error(parser, parser_token(parser), NULL, "a path of more than %d steps", PACK_DEPTH);
        steps[count++] = step;
    }
    *out = count ? arena_copy(&parser->unit->arena, steps, (size_t) count * sizeof *steps) : NULL;
    return count;
}

int parse_target(parser_t *parser, text_t *name, step_t **steps, unsigned *count) {
    if (parser_token(parser)->type == TOKEN_DOT)
        return parser_expected(parser, "a field's name", "fields are written without a leading dot");
    if (parse_name(parser, "a field's name", name) < 0)
        return -1;
    int found = parse_steps(parser, steps);
    *count = found > 0 ? (unsigned) found : 0;
    return found < 0 ? -1 : 0;
}

static node_t *parse_or(parser_t *parser);

/* Passes over the arguments of a function that does not exist: other languages have words of their own there, as cast(x as int). */
static void skip_arguments(parser_t *parser) {
    unsigned open = 1;
    while (open && parser_token(parser)->type != TOKEN_END && parser_token(parser)->type != TOKEN_PIPE) {
        token_type_t type = parser_take(parser)->type;
        open += type == TOKEN_OPEN;
        open -= type == TOKEN_CLOSE;
    }
}

node_t *parse_call(parser_t *parser, const token_t *name) {
    const function_t *function = function_find(parser_text(parser, name));
    if (!function) {
        char suggestion[200];
        text_t text = parser_text(parser, name);
        parser_error(parser, name, function_suggest(text, suggestion, sizeof suggestion), "there is no function %.*s", (int) text.size, text.data);
    }
    parser_take(parser); /* ( */
    if (!function) {
        skip_arguments(parser);
        return node_constant(parser, value_null(), name->at); /* stands for anything: the error is known */
    }
    node_t *arguments[FUNCTION_ARGUMENTS];
    unsigned count = 0;
    while (parser_token(parser)->type != TOKEN_CLOSE) {
        if (count && parser_expect(parser, TOKEN_COMMA, ", or )") < 0)
            return NULL;
        if (count == FUNCTION_ARGUMENTS) {
            parser_error(parser, parser_token(parser), NULL, "more than %d arguments", FUNCTION_ARGUMENTS);
            return NULL;
        }
        const token_t *token = parser_token(parser);
        if (function->pattern && count == 1 && token->type == TOKEN_STRING) {
            text_t text;
            if (string_of(parser, parser_take(parser), true, &text) < 0)
                return NULL;
            arguments[count++] = node_constant(parser, value_text(text.data, text.size), token->at);
        } else if (!(arguments[count++] = parse_or(parser))) {
            return NULL;
        }
    }
    parser_take(parser);
    node_t *node = node_with(parser, function->call ? NODE_CALL : NODE_IF, name->at, arguments, count);
    node->function = function;
    return check_call(parser, node);
}

struct pattern *parser_pattern(parser_t *parser, const token_t *token) {
    text_t text;
    if (string_of(parser, token, true, &text) < 0)
        return NULL;
    return check_pattern(parser, text, token->at, token->size);
}

/* (a, b) after in: a list; anything else: an array. */
static node_t *parse_in(parser_t *parser, node_t *left, bool negated) {
    node_t *items[257] = {left};
    unsigned count = 1;
    bool list = parser_accept(parser, TOKEN_OPEN);
    if (list) {
        do {
            if (count == 257) {
                parser_error(parser, parser_token(parser), NULL, "more than 256 values in a list");
                return NULL;
            }
            if (!(items[count++] = parse_or(parser)))
                return NULL;
        } while (parser_accept(parser, TOKEN_COMMA));
        if (parser_expect(parser, TOKEN_CLOSE, ", or )") < 0)
            return NULL;
    } else if (!(items[count++] = parse_coalesce(parser))) {
        return NULL;
    }
    node_t *node = node_with(parser, NODE_IN, left->at, items, count);
    node->operation = list ? IN_LIST : IN_ARRAY;
    node->negated = negated;
    return check_node(parser, node);
}

static node_t *parse_match(parser_t *parser, node_t *left, bool negated) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_STRING) {
        parser_expected(parser, "a pattern in quotes", "a pattern is a constant: it is compiled once, before the program runs");
        return NULL;
    }
    parser_take(parser);
    node_t *node = node_with(parser, NODE_MATCH, left->at, &left, 1);
    node->negated = negated;
    node->data = parser_pattern(parser, token);
    node->constant = value_text(arena_copy(&parser->unit->arena, parser_text(parser, token).data, token->size), token->size); /* as it is written */
    return check_node(parser, node);
}

static int comparison_of(token_type_t type) {
    return type >= TOKEN_EQ && type <= TOKEN_GE ? (int) (type - TOKEN_EQ) : -1;
}

static node_t *parse_comparison(parser_t *parser) {
    node_t *left = parse_coalesce(parser);
    if (!left)
        return NULL;
    const token_t *token = parser_token(parser);
    int comparison = comparison_of(token->type);
    node_t *node = left;
    if (comparison >= 0) {
        parser_take(parser);
        node_t *right = parse_coalesce(parser);
        node = right ? node_two(parser, NODE_COMPARE, (unsigned) comparison, left, right) : NULL;
    } else if (token->type == TOKEN_MATCH || token->type == TOKEN_NOT_MATCH) {
        parser_take(parser);
        node = parse_match(parser, left, token->type == TOKEN_NOT_MATCH);
    } else if (parser_accept_word(parser, "in")) {
        node = parse_in(parser, left, false);
    } else if (parser_is_word(parser, "not") && parser->tokens[parser->at + 1].type == TOKEN_NAME &&
               text_is(parser_text(parser, &parser->tokens[parser->at + 1]), "in")) {
        parser->at += 2;
        node = parse_in(parser, left, true);
    } else if (parser_accept_word(parser, "is")) {
        bool negated = parser_accept_word(parser, "not");
        if (!parser_accept_word(parser, "null")) {
            parser_expected(parser, "null after is", "== compares; is null and is not null ask for absence");
            return NULL;
        }
        node = node_with(parser, NODE_IS_NULL, left->at, &left, 1);
        node->negated = negated;
        node = check_node(parser, node);
    } else {
        return left;
    }
    if (node && (comparison_of(parser_token(parser)->type) >= 0 || parser_token(parser)->type == TOKEN_MATCH)) {
        parser_error(parser, parser_token(parser), "write a < b and b < c", "comparisons do not chain");
        return NULL;
    }
    return node;
}

static node_t *parse_not(parser_t *parser) {
    const token_t *token = parser_token(parser);
    if (!parser_accept_word(parser, "not"))
        return parse_comparison(parser);
    if (++parser->depth > DEPTH_MAX) {
        parser_error(parser, token, NULL, "an expression nested more than %d deep", DEPTH_MAX);
        return NULL;
    }
    node_t *argument = parse_not(parser);
    parser->depth--;
    return argument ? check_node(parser, node_with(parser, NODE_NOT, token->at, &argument, 1)) : NULL;
}

static node_t *parse_and(parser_t *parser) {
    node_t *left = parse_not(parser);
    while (left && parser_accept_word(parser, "and")) {
        node_t *right = parse_not(parser);
        left = right ? node_two(parser, NODE_AND, 0, left, right) : NULL;
    }
    return left;
}

static node_t *parse_or(parser_t *parser) {
    if (++parser->depth > DEPTH_MAX) {
        parser_error(parser, parser_token(parser), NULL, "an expression nested more than %d deep", DEPTH_MAX);
        return NULL;
    }
    node_t *left = parse_and(parser);
    while (left && parser_accept_word(parser, "or")) {
        node_t *right = parse_and(parser);
        left = right ? node_two(parser, NODE_OR, 0, left, right) : NULL;
    }
    parser->depth--;
    return left;
}

static node_t *parse_unary(parser_t *parser);

static node_t *parse_product(parser_t *parser) {
    node_t *left = parse_unary(parser);
    for (;;) {
        token_type_t type = parser_token(parser)->type;
        if (!left || (type != TOKEN_STAR && type != TOKEN_SLASH && type != TOKEN_PERCENT))
            return left;
        parser_take(parser);
        node_t *right = parse_unary(parser);
        left = right ? node_two(parser, NODE_ARITHMETIC, type == TOKEN_STAR ? MULTIPLY : type == TOKEN_SLASH ? DIVIDE : REMAINDER, left, right)
                     : NULL;
    }
}

static node_t *parse_sum(parser_t *parser) {
    node_t *left = parse_product(parser);
    for (;;) {
        token_type_t type = parser_token(parser)->type;
        if (!left || (type != TOKEN_PLUS && type != TOKEN_MINUS))
            return left;
        parser_take(parser);
        node_t *right = parse_product(parser);
        left = right ? node_two(parser, NODE_ARITHMETIC, type == TOKEN_PLUS ? ADD : SUBTRACT, left, right) : NULL;
    }
}

node_t *parse_coalesce(parser_t *parser) {
    node_t *left = parse_sum(parser);
    while (left && parser_accept(parser, TOKEN_COALESCE)) {
        node_t *right = parse_sum(parser);
        left = right ? node_two(parser, NODE_COALESCE, 0, left, right) : NULL;
    }
    return left;
}

static node_t *parse_array(parser_t *parser, const token_t *start) {
    node_t *items[CONTAINER_MAX];
    unsigned count = 0;
    while (parser_token(parser)->type != TOKEN_BRACKET_END) {
        if (count && parser_expect(parser, TOKEN_COMMA, ", or ]") < 0)
            return NULL;
        if (count == CONTAINER_MAX) {
            parser_error(parser, parser_token(parser), NULL, "more than %d items in an array", CONTAINER_MAX);
            return NULL;
        }
        if (!(items[count++] = parse_or(parser)))
            return NULL;
    }
    parser_take(parser);
    return check_node(parser, node_with(parser, NODE_ARRAY, start->at, items, count));
}

static node_t *parse_map(parser_t *parser, const token_t *start) {
    node_t *items[CONTAINER_MAX];
    step_t names[CONTAINER_MAX] = {0};
    unsigned count = 0;
    while (parser_token(parser)->type != TOKEN_BRACE_END) {
        if (count && parser_expect(parser, TOKEN_COMMA, ", or }") < 0)
            return NULL;
        if (count == CONTAINER_MAX) {
            parser_error(parser, parser_token(parser), NULL, "more than %d entries in a map", CONTAINER_MAX);
            return NULL;
        }
        const token_t *token = parser_token(parser);
        bool text = token->type == TOKEN_STRING;
        if ((text ? parse_string(parser, "a name", &names[count].name) : parse_name(parser, "a name, as in {name: value}", &names[count].name)) < 0)
            return NULL;
        for (unsigned i = 0; i < count; i++)
            if (text_equal(names[i].name, names[count].name))
                parser_error(parser, token, "put(map, name, x) replaces an entry", "the map has two entries %.*s", (int) names[i].name.size, names[i].name.data);
        if (parser_expect(parser, TOKEN_COLON, ": and a value") < 0 || !(items[count++] = parse_or(parser)))
            return NULL;
    }
    parser_take(parser);
    node_t *node = node_with(parser, NODE_MAP, start->at, items, count);
    node->steps = arena_copy(&parser->unit->arena, names, count * sizeof *names);
    return check_node(parser, node);
}

static node_t *parse_meta(parser_t *parser, const token_t *start) {
    parser->at += 2;
    const token_t *token = parser_token(parser);
    unsigned operation = parser_is_word(parser, "stream") ? META_STREAM : META_INGEST_TIME;
    if (operation != META_STREAM && !parser_is_word(parser, "ingest_time")) {
        parser_error(parser, token, "there are meta.stream and meta.ingest_time; a field called meta is written `meta`",
                     "unknown property of the event");
        return NULL;
    }
    parser_take(parser);
    node_t *node = node_new(parser, NODE_META, start->at);
    node->operation = (uint8_t) operation;
    node->types = operation == META_STREAM ? TYPES_TEXT : TYPE(VALUE_TIME);
    node_bind(node);
    return node;
}

/* The constant of that name; or, in capitals, what is no field by mistake. */
static node_t *parse_constant(parser_t *parser, text_t text, bool *found) {
    static const char *const words[] = {"null", "false", "true"};
    const token_t *token = parser_token(parser);
    for (unsigned i = 0; i < 3; i++) {
        if (strlen(words[i]) != text.size || strncasecmp(text.data, words[i], text.size) != 0)
            continue;
        *found = true;
        if (!text_is(text, words[i])) {
            parser_error(parser, token, "a field of this name is written in backticks", "%.*s is written in small letters: %s", (int) text.size, text.data, words[i]);
            return NULL;
        }
        parser_take(parser);
        return node_constant(parser, i ? value_bool(i == 2) : value_null(), token->at);
    }
    return NULL;
}

static node_t *parse_word(parser_t *parser) {
    const token_t *token = parser_token(parser);
    const token_t *next = token + 1; /* TOKEN_END follows at the latest */
    text_t text = parser_text(parser, token);
    if (next->type == TOKEN_OPEN)
        return parse_call(parser, parser_take(parser));
    bool found = false;
    node_t *constant = parse_constant(parser, text, &found);
    if (found)
        return constant;
    if (text_is(text, "meta") && next->type == TOKEN_DOT)
        return parse_meta(parser, token);
    if (text_is(text, "and") || text_is(text, "or") || text_is(text, "in") || text_is(text, "is")) {
        parser_expected(parser, "a value", "a field of this name is written in backticks");
        return NULL;
    }
    parser_take(parser);
    return node_name(parser, text, token->at, token->size);
}

static node_t *parse_primary(parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t text;
    node_t *node;
    switch (token->type) {
    case TOKEN_NAME:
        return parse_word(parser);
    case TOKEN_QUOTED:
        if (parse_name(parser, "a name", &text) < 0)
            return NULL;
        return node_name(parser, text, token->at, token->size);
    case TOKEN_STRING:
        if (parse_string(parser, "a text", &text) < 0)
            return NULL;
        return node_constant(parser, value_text(text.data, text.size), token->at);
    case TOKEN_NUMBER:
        parser_take(parser);
        return node_constant(parser, token->value, token->at);
    case TOKEN_DURATION:
        parser_take(parser);
        return node_constant(parser, ns_to_seconds(token->value.integer), token->at);
    case TOKEN_AT:
        parser_take(parser);
        if (!parser_accept_word(parser, "timestamp")) {
            parser_expected(parser, "@timestamp, the event's time", NULL);
            return NULL;
        }
        node = node_new(parser, NODE_EVENT_TIME, token->at);
        node->types = TYPE(VALUE_TIME);
        node_bind(node);
        return node;
    case TOKEN_OPEN:
        parser_take(parser);
        node = parse_or(parser);
        return node && parser_expect(parser, TOKEN_CLOSE, ")") == 0 ? node : NULL;
    case TOKEN_BRACKET:
        return parse_array(parser, parser_take(parser));
    case TOKEN_BRACE:
        return parse_map(parser, parser_take(parser));
    default:
        parser_expected(parser, "a value", token->type == TOKEN_DOT ? "fields are written without a leading dot" : NULL);
        return NULL;
    }
}

static node_t *parse_unary(parser_t *parser) {
    const token_t *token = parser_token(parser);
    if (token->type == TOKEN_MINUS || token->type == TOKEN_PLUS) {
        parser_take(parser);
        if (++parser->depth > DEPTH_MAX) {
            parser_error(parser, token, NULL, "an expression nested more than %d deep", DEPTH_MAX);
            return NULL;
        }
        node_t *argument = parse_unary(parser);
        parser->depth--;
        if (!argument || token->type == TOKEN_PLUS)
            return argument;
        return check_node(parser, node_with(parser, NODE_NEGATE, token->at, &argument, 1));
    }
    node_t *node = parse_primary(parser);
    if (!node || (parser_token(parser)->type != TOKEN_DOT && parser_token(parser)->type != TOKEN_BRACKET))
        return node;
    step_t *steps;
    int count = parse_steps(parser, &steps);
    if (count < 0)
        return NULL;
    node_t *path = node_with(parser, NODE_PATH, node->at, &node, 1);
    path->steps = steps;
    path->steps_count = (uint16_t) count;
    return check_node(parser, path);
}

node_t *parse_expression(parser_t *parser) {
    parser->depth = 0;
    node_t *node = parse_or(parser);
    if (node && parser->noted)
        parser->noted(parser->noted_argument, node, true);
    return node;
}
