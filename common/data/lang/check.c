/* Checking nodes as they are made: which types can meet, what can never be true, constants computed at once; then binding. */
#include "data/lang/check.h"

#include <ctype.h>
#include <string.h>

#include "base/clock.h"
#include "data/lang/evaluate.h"
#include "data/lang/function.h"
#include "data/lang/pattern.h"

#define HEIGHT_MAX 1000
#define REASON_SIZE 256

void types_put(buf_t *out, types_t types) {
    types &= (types_t) ~TYPE(VALUE_NULL);
    if (types == (TYPES_ANY & (types_t) ~TYPE(VALUE_NULL))) {
        buf_put_text(out, "any value");
        return;
    }
    if ((types & TYPES_NUMBER) == TYPES_NUMBER) {
        buf_put_text(out, "number");
        types &= (types_t) ~TYPES_NUMBER;
        if (types)
            buf_put_text(out, " or ");
    }
    types &= (types_t) ~TYPE(VALUE_UINT);
    for (unsigned i = 0; i < 10; i++) {
        if (!(types & TYPE(i)))
            continue;
        types &= (types_t) ~TYPE(i);
        buf_format(out, "%s%s", value_type_names[i], types ? " or " : "");
    }
}

/* "a number", for messages; in a ring of buffers, so that one message can hold several. */
static const char *say(types_t types) {
    static _Thread_local char ring[4][96];
    static _Thread_local unsigned next;
    char *text = ring[next++ % 4];
    buf_t out = {0};
    types_put(&out, types);
    if (!out.size)
        buf_put_text(&out, "null");
    snprintf(text, sizeof ring[0], "%s", buf_text(&out));
    buf_fini(&out);
    return text;
}

static types_t solid(const node_t *node) {
    return node->types & (types_t) ~TYPE(VALUE_NULL);
}

static bool maybe(const node_t *node, types_t types) {
    return node->types & types;
}

static bool is_null_constant(const node_t *node) {
    return node->kind == NODE_CONSTANT && node->constant.type == VALUE_NULL;
}

/* Types that can stand on both sides of a comparison. */
static types_t family(types_t types) {
    types_t family = types & (types_t) ~TYPE(VALUE_NULL);
    if (types & TYPES_NUMBER)
        family |= TYPES_NUMBER;
    if (types & TYPE(VALUE_TIME))
        family |= TYPES_TEXT;
    return family;
}

static void check_condition(parser_t *parser, const node_t *node, const char *what) {
    if (!is_null_constant(node) && !maybe(node, TYPE(VALUE_BOOL)))
        parser_error_at(parser, node, "compare it with something, or test it: x is not null", "%s is true or false, but this is %s", what,
                        say(node->types));
}

/* The word itself, not what stands for a value that is not known. */
static bool says_null(const parser_t *parser, const node_t *node) {
    text_t source = parser->diagnostics->source;
    text_t rest = node->at < source.size ? text_make(source.data + node->at, source.size - node->at) : (text_t){0};
    return rest.size >= 4 && memcmp(rest.data, "null", 4) == 0 && (rest.size == 4 || !(isalnum((unsigned char) rest.data[4]) || strchr("_(", rest.data[4])));
}

static void check_compare(parser_t *parser, node_t *node) {
    const node_t *left = node->arguments[0], *right = node->arguments[1];
    const node_t *null = is_null_constant(right) ? right : is_null_constant(left) ? left : NULL;
    node->types = TYPE(VALUE_BOOL);
    if (null && node->kind == NODE_COMPARE && says_null(parser, null))
        parser_error_at(parser, node, node->operation == COMPARE_NE ? "write x is not null" : "write x is null",
                        "a comparison with null is never true");
    if (null)
        return;
    types_t common = (types_t) (family(left->types) & family(right->types));
    bool ordering = node->operation > COMPARE_NE;
    if (!common) {
        parser_error_at(parser, node, "convert one side: int(), double(), string(), time()", "%s is compared with %s", say(left->types),
                        say(right->types));
    } else if (ordering && !(common & (types_t) ~(TYPE(VALUE_ARRAY) | TYPE(VALUE_MAP)))) {
        parser_error_at(parser, node, NULL, "%s has no order", say(common));
    }
    /* A time against a text constant that is no time. */
    const node_t *text = right->kind == NODE_CONSTANT ? right : left, *other = text == right ? left : right;
    int64_t time;
    if (text->kind == NODE_CONSTANT && text->constant.type == VALUE_STRING && solid(other) == TYPE(VALUE_TIME) &&
        !clock_parse(text_make(text->constant.text, text->constant.size), &time))
        parser_error_at(parser, text, "times are written \"2026-01-02T03:04:05Z\"", "this text is no time");
    if (ordering)
        node->types |= TYPE(VALUE_NULL);
}

static void check_arithmetic(parser_t *parser, node_t *node) {
    const node_t *left = node->arguments[0], *right = node->arguments[1];
    types_t types = 0;
    if (maybe(left, TYPES_NUMBER) && maybe(right, TYPES_NUMBER)) {
        bool whole = !maybe(left, TYPE(VALUE_DOUBLE)) && !maybe(right, TYPE(VALUE_DOUBLE));
        types |= node->operation == DIVIDE ? TYPE(VALUE_DOUBLE) : node->operation == REMAINDER && whole ? TYPES_INTEGER : TYPES_NUMBER;
    }
    if (node->operation == ADD && maybe(left, TYPES_TEXT) && maybe(right, TYPES_TEXT))
        types |= TYPES_TEXT;
    if (node->operation <= SUBTRACT && maybe(left, TYPE(VALUE_TIME)) && maybe(right, TYPES_NUMBER))
        types |= TYPE(VALUE_TIME);
    if (node->operation == ADD && maybe(left, TYPES_NUMBER) && maybe(right, TYPE(VALUE_TIME)))
        types |= TYPE(VALUE_TIME);
    if (node->operation == SUBTRACT && maybe(left, TYPE(VALUE_TIME)) && maybe(right, TYPE(VALUE_TIME)))
        types |= TYPES_NUMBER;
    node->types = (types_t) (types | TYPE(VALUE_NULL));
    if (types || is_null_constant(left) || is_null_constant(right))
        return;
    static const char *const marks[] = {"+", "-", "*", "/", "%"};
    bool texts = maybe(left, TYPES_TEXT) || maybe(right, TYPES_TEXT), times = maybe(left, TYPE(VALUE_TIME)) || maybe(right, TYPE(VALUE_TIME));
    const char *hint = !texts || node->operation > SUBTRACT ? NULL
                       : times                              ? "time(x) makes a time of a text, and parse_duration(x) a number of seconds"
                       : node->operation == ADD             ? "texts are joined with texts: string(x) makes one"
                                                            : NULL;
    parser_error_at(parser, node, hint, "%s %s %s has no meaning",
                    say(left->types), marks[node->operation], say(right->types));
    node->types = TYPES_ANY;
}

static void check_types(parser_t *parser, node_t *node) {
    node_t **arguments = node->arguments;
    switch (node->kind) {
    case NODE_AND:
    case NODE_OR:
        check_condition(parser, arguments[0], node->kind == NODE_AND ? "each side of and" : "each side of or");
        check_condition(parser, arguments[1], node->kind == NODE_AND ? "each side of and" : "each side of or");
        node->types = TYPE(VALUE_BOOL);
        break;
    case NODE_NOT:
        check_condition(parser, arguments[0], "what follows not");
        node->types = TYPE(VALUE_BOOL);
        break;
    case NODE_COMPARE:
        check_compare(parser, node);
        break;
    case NODE_IN:
        node->types = TYPE(VALUE_BOOL);
        if (node->operation == IN_ARRAY) {
            if (!maybe(arguments[1], TYPE(VALUE_ARRAY)))
                parser_error_at(parser, arguments[1], "write x in (1, 2, 3); contains(text, part) looks into a text",
                                "in looks into a list or an array, not into %s", say(arguments[1]->types));
            break;
        }
        for (unsigned i = 1; i < node->count; i++)
            if (solid(arguments[0]) && solid(arguments[i]) && !(family(arguments[0]->types) & family(arguments[i]->types)))
                parser_error_at(parser, arguments[i], NULL, "%s is never in a list with %s", say(arguments[0]->types), say(arguments[i]->types));
        break;
    case NODE_MATCH:
        node->types = TYPE(VALUE_BOOL);
        if (solid(arguments[0]) && !maybe(arguments[0], TYPES_TEXT))
            parser_error_at(parser, arguments[0], "string(x) makes a text", "~ matches texts, not %s", say(arguments[0]->types));
        break;
    case NODE_IS_NULL:
        node->types = TYPE(VALUE_BOOL);
        break;
    case NODE_NEGATE:
        if (solid(arguments[0]) && !maybe(arguments[0], TYPES_NUMBER))
            parser_error_at(parser, node, NULL, "minus %s has no meaning", say(arguments[0]->types));
        node->types = (types_t) (TYPES_NUMBER | TYPE(VALUE_NULL));
        break;
    case NODE_ARITHMETIC:
        check_arithmetic(parser, node);
        break;
    case NODE_COALESCE:
        node->types = (types_t) (solid(arguments[0]) | arguments[1]->types);
        break;
    case NODE_PATH:
        if (solid(arguments[0]) && !maybe(arguments[0], TYPE(VALUE_ARRAY) | TYPE(VALUE_MAP)))
            parser_error_at(parser, node, NULL, "%s has no parts", say(arguments[0]->types));
        node->types = TYPES_ANY;
        break;
    case NODE_ARRAY: node->types = TYPE(VALUE_ARRAY); break;
    case NODE_MAP: node->types = TYPE(VALUE_MAP); break;
    default: break;
    }
}

/* A value that outlives the arena it was computed in. */
static value_t keep(parser_t *parser, value_t value) {
    if (value.type >= VALUE_STRING && value.type <= VALUE_MAP)
        value.text = arena_copy(&parser->unit->arena, value.text, value.size);
    return value;
}

static bool pure(const node_t *node) {
    if (node->kind == NODE_CONSTANT || node->kind == NODE_FIELD || node->kind == NODE_VALUE || node->kind == NODE_EVENT_TIME ||
        node->kind == NODE_META || (node->kind == NODE_CALL && node->function->impure))
        return false;
    for (unsigned i = 0; i < node->count; i++)
        if (node->arguments[i]->kind != NODE_CONSTANT)
            return false;
    return true;
}

/* Keeps the reason of the first error. */
static void note_reason(void *argument, const node_t *node, const char *text) {
    char *reason = argument;
    if (!*reason)
        snprintf(reason, REASON_SIZE, "%s", text);
}

static node_t *fold(parser_t *parser, node_t *node) {
    if (!pure(node) || (node->kind == NODE_MATCH && !node->data))
        return node;
    char reason[REASON_SIZE] = "";
    context_t context = {.report = note_reason, .argument = reason};
    row_t row = {.context = &context};
    value_t value = keep(parser, evaluate(node, &row));
    context_fini(&context);
    if (context.errors) {
        parser_error_at(parser, node, "such a value would be null in every event", "this can't be computed: %s", reason);
        return node;
    }
    node->kind = NODE_CONSTANT;
    node->constant = value;
    node->types = TYPE(value.type);
    node->count = 0;
    node_bind(node);
    return node;
}

static bool too_high(parser_t *parser, const node_t *node) {
    if (node->height <= HEIGHT_MAX)
        return false;
    parser_error_at(parser, node, "split it: set part = ..., whole = part + ...", "an expression of more than %d operators on top of each other",
                    HEIGHT_MAX);
    return true;
}

node_t *check_node(parser_t *parser, node_t *node) {
    if (too_high(parser, node))
        return NULL;
    size_t faults = parser->diagnostics->faults;
    check_types(parser, node);
    node_bind(node);
    return parser->diagnostics->faults == faults ? fold(parser, node) : node;
}

node_t *parse_condition(parser_t *parser) {
    node_t *node = parse_expression(parser);
    if (node)
        check_condition(parser, node, "a condition");
    return node;
}

struct pattern *check_pattern(parser_t *parser, text_t source, uint32_t at, uint32_t size) {
    size_t place = 0;
    err_t err;
    pattern_t *pattern = pattern_new(source, &place, &err);
    if (!pattern) {
        bool quoted = size >= source.size + 2; /* the place is exact when no quote was escaped */
        diagnostics_add(parser->diagnostics, at + (quoted ? 1 + (uint32_t) place : 0), 1, "patterns are written as in Perl (pcre2)",
                        "bad pattern: %s", err.text);
        return NULL;
    }
    unit_own(parser->unit, pattern, pattern_free);
    return pattern;
}

static void check_count(parser_t *parser, const node_t *node) {
    const function_t *function = node->function;
    char hint[160];
    snprintf(hint, sizeof hint, "%s", function->signature);
    if (node->count == 2 && node->arguments[0]->types == TYPE(VALUE_TIME) && (strcmp(function->name, "floor") == 0 || strcmp(function->name, "trunc") == 0))
        snprintf(hint, sizeof hint, "times are cut by time_floor(time, 1m) and time_trunc(time, \"month\")");
    if (node->count < function->least)
        parser_error_at(parser, node, hint, "%s takes %s%u argument%s, found %u", function->name,
                        function->most > function->least ? "at least " : "", function->least, function->least == 1 ? "" : "s", node->count);
    else if (node->count > function->most && function->most == 0)
        parser_error_at(parser, node, hint, "%s takes no arguments", function->name);
    else if (node->count > function->most)
        parser_error_at(parser, node, hint, "%s takes %s%u argument%s, found %u", function->name,
                        function->most > function->least ? "at most " : "", function->most, function->most == 1 ? "" : "s", node->count);
}

node_t *check_call(parser_t *parser, node_t *node) {
    const function_t *function = node->function;
    size_t faults = parser->diagnostics->faults;
    if (too_high(parser, node))
        return NULL;
    node->types = (types_t) (function->gives | TYPE(VALUE_NULL));
    check_count(parser, node);
    if (node->kind == NODE_IF) {
        if (node->count)
            check_condition(parser, node->arguments[0], "the condition of if");
        node->types = (types_t) ((node->count > 1 ? node->arguments[1]->types : 0) |
                                 (node->count > 2 ? node->arguments[2]->types : TYPE(VALUE_NULL)));
    }
    for (unsigned i = 0; i < node->count && node->kind == NODE_CALL; i++) {
        types_t takes = function->takes[i < 3 ? i : 2];
        if (solid(node->arguments[i]) && !maybe(node->arguments[i], takes))
            parser_error_at(parser, node->arguments[i], function->signature, "%s takes %s here, not %s", function->name, say(takes),
                            say(node->arguments[i]->types));
    }
    node_bind(node);
    if (parser->diagnostics->faults == faults && function->prepare && function->prepare(parser, node) < 0)
        return node;
    return parser->diagnostics->faults == faults ? fold(parser, node) : node;
}
