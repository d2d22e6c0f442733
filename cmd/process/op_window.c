/* window: aggregates of events by key over windows of event time. This file reads the operator; window.h says where each kind runs. */
#include <strings.h>

#include "window.h"

#include "base/clock.h"

#define LONGEST (INT64_C(36525) * 24 * 3600 * NS_PER_S)       /* 100 years: so that all times fit into 64 bits */
#define HOPS_MAX 10000                                        /* windows that an event may belong to */
#define COUNT_MAX 1000000
#define EXPIRE (INT64_C(24) * 3600 * NS_PER_S)                /* of a key's count, unless the program says otherwise */

static void note_name(window_t *window, parser_t *parser, const token_t *token, text_t name) {
    for (unsigned i = 0; i < window->names_count; i++) {
        if (text_equal(window->names[i], name) && !text_is(name, "?"))
            parser_error(parser, token, "give one of them another name: as NAME", "two results are named %.*s", (int) name.size, name.data);
    }
    window->names = mem_resize(window->names, (window->names_count + 1) * sizeof *window->names);
    window->names[window->names_count++] = name;
}

static int parse_keys(window_t *window, parser_t *parser) {
    do {
        const token_t *token = parser_token(parser);
        text_t name;
        node_t *node = parse_named(parser, "a key", &name);
        if (!node)
            return -1;
        window->keys = mem_resize(window->keys, (window->key_count + 1) * sizeof *window->keys);
        window->keys[window->key_count++] = node;
        note_name(window, parser, token, name);
    } while (parser_accept(parser, TOKEN_COMMA));
    return 0;
}

/* Kinds of windows, and the parts of each beside by and wait. */
typedef struct kind {
    const char *name, *example;
    const char *words[3];
    const char *after;        /* what may stand behind the first size, for messages */
} kind_t;

static const kind_t kinds[] = {
    [TUMBLING] = {"tumbling", "window tumbling 10s by KEY: count(), avg(x)", {"late", "early"}, "by, wait, late, early"},
    [HOPPING] = {"hopping", "window hopping 1m every 10s by KEY: count(), avg(x)", {"late", "every"}, "every, by, wait, late"},
    [SESSION] = {"session", "window session 30m by KEY: count(), avg(x)", {"late", "max"}, "by, wait, late, max"},
    [SLIDING] = {"sliding", "window sliding 1m by KEY: count(), avg(x)", {NULL}, "by, wait"},
    [COUNT] = {"count", "window count 100 by KEY: avg(x)", {"every", "expire"}, "every, by, wait, expire"},
};
#define KINDS (sizeof kinds / sizeof *kinds)

/* Windows and their parts as they are called elsewhere. */
static const char *foreign_kind(text_t word) {
    static const char *const words[][2] = {
        {"tumble", "tumbling"}, {"fixed", "tumbling"}, {"resample", "tumbling"}, {"hop", "hopping"}, {"cumulate", "tumbling 1h early every 10s"},
        {"cumulating", "tumbling 1h early every 10s"}, {"rolling", "sliding"}, {"slide", "sliding"}, {"over", "sliding"}, {"moving", "sliding"},
        {"session", "session"}, {"sessions", "session"}, {"sessionize", "session"}, {"rows", "count"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i][0]) == word.size && strncasecmp(word.data, words[i][0], word.size) == 0)
            return words[i][1];
    return NULL;
}

static int expected_kind(parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t word = text_make(parser->diagnostics->source.data + token->at, token->size);
    const char *foreign = token->type == TOKEN_NAME ? foreign_kind(word) : NULL;
    char hint[100], what[100] = "";
    for (size_t i = 0; i < KINDS; i++)
        snprintf(what + strlen(what), sizeof what - strlen(what), "%s%s", !i ? "" : i + 1 < KINDS ? ", " : " or ", kinds[i].name);
    if (foreign)
        snprintf(hint, sizeof hint, "here it is window %s", foreign);
    return parser_expected(parser, what, foreign ? hint : kinds[TUMBLING].example);
}

static int parse_number(parser_t *parser, const char *hint, uint64_t *number) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_NUMBER || token->value.type != VALUE_INT)
        return parser_expected(parser, "a number of events", hint);
    if (token->value.integer < 1 || token->value.integer > COUNT_MAX)
        return parser_error(parser, token, hint, "the number of events must be 1 to %d", COUNT_MAX);
    *number = parser_take(parser)->value.unsigned_integer;
    return 0;
}

static int parse_size(window_t *window, parser_t *parser) {
    const token_t *token = parser_token(parser);
    if (window->kind == COUNT)
        return parse_number(parser, kinds[COUNT].example, &window->number);
    if (parse_duration(parser, "a duration", &window->length) < 0)
        return -1;
    return window->length <= LONGEST ? 0 : parser_error(parser, token, NULL, "a window lasts 100 years at most");
}

static bool has_part(const kind_t *kind, const char *word) {
    for (unsigned i = 0; i < 3 && kind->words[i]; i++)
        if (strcmp(kind->words[i], word) == 0)
            return true;
    return false;
}

static int parse_early(window_t *window, parser_t *parser) {
    const token_t *token = parser_token(parser);
    if (!parser_accept_word(parser, "every"))
        return parser_expected(parser, "every and a duration", "early every 10s");
    if (parse_duration(parser, "a duration after every", &window->early) < 0)
        return -1;
    if (window->early >= window->length)
        return parser_error(parser, token + 1, "window tumbling 1h early every 10s", "early results must come more often than the window ends");
    return 0;
}

/* A part of another kind of window than this one. */
static int wrong_part(parser_t *parser, const kind_t *kind) {
    const token_t *token = parser_token(parser);
    if (parser_is_word(parser, "every") && kind == &kinds[TUMBLING])
        return parser_error(parser, token, "windows that overlap: window hopping 1m every 10s; results before the end: early every 10s",
                            "a tumbling window has no every");
    if (parser_is_word(parser, "early"))
        return parser_error(parser, token, "window tumbling 1h early every 10s", "only tumbling windows give early results");
    if (parser_is_word(parser, "late"))
        return parser_error(parser, token, "wait D takes events in order of time that come up to D too late",
                            "%s windows have no late: an event in the past would change all results since", kind->name);
    if (parser_is_word(parser, "every") && kind == &kinds[SLIDING])
        return parser_error(parser, token, "window hopping 1m every 10s gives a result every 10 seconds", "a sliding window has no every: each event gives a result");
    if (parser_is_word(parser, "group") || parser_is_word(parser, "GROUP"))
        return parser_error(parser, token, kind->example, "keys stand behind by alone");
    char what[100], colon[160];
    snprintf(colon, sizeof colon, "a colon stands before the aggregates: %s", kind->example);
    snprintf(what, sizeof what, "%s, or : and the aggregates", kind->after);
    bool aggregates = token->type == TOKEN_END || token[1].type == TOKEN_OPEN;
    return parser_expected(parser, what, aggregates ? colon : NULL);
}

static int parse_part(window_t *window, parser_t *parser, const char *word) {
    char what[40];
    snprintf(what, sizeof what, "a duration after %s", word);
    if (strcmp(word, "early") == 0)
        return parse_early(window, parser);
    if (strcmp(word, "every") == 0 && window->kind == COUNT)
        return parse_number(parser, "window count 100 every 10 by KEY: avg(x)", &window->step);
    int64_t *into = strcmp(word, "late") == 0     ? &window->late
                    : strcmp(word, "max") == 0    ? &window->most
                    : strcmp(word, "expire") == 0 ? &window->expire
                                                  : &window->every;
    return parse_duration(parser, what, into);
}

static int parse_parts(window_t *window, parser_t *parser) {
    static const char *const words[] = {"late", "early", "every", "max", "expire", "wait"};
    const kind_t *kind = &kinds[window->kind];
    unsigned given = 0;
    while (!parser_accept(parser, TOKEN_COLON)) {
        const char *found = NULL;
        for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
            if (!parser_is_word(parser, words[i]))
                continue;
            if (given & 1u << i)
                return parser_error(parser, parser_token(parser), NULL, "%s stands twice", words[i]);
            given |= 1u << i;
            if (has_part(kind, words[i]))
                found = words[i];
        }
        if (parser_accept_word(parser, "by")) {
            if (window->key_count)
                return parser_error(parser, parser_token(parser), "by A, B", "by stands twice");
            if (parse_keys(window, parser) < 0)
                return -1;
        } else if (parser_accept_word(parser, "wait")) {
            if (parse_duration(parser, "a duration after wait", &window->wait) < 0)
                return -1;
        } else if (found) {
            parser_take(parser);
            if (parse_part(window, parser, found) < 0)
                return -1;
        } else {
            return wrong_part(parser, kind);
        }
    }
    return 0;
}

static int check_hopping(window_t *window, parser_t *parser, const token_t *size) {
    if (!window->every)
        return parser_error(parser, size, kinds[HOPPING].example, "a hopping window needs every and a duration");
    if (window->every > window->length)
        return parser_error(parser, size, kinds[HOPPING].example, "a hopping window must not begin less often than it is long: events would be left out");
    if (window->length / window->every > HOPS_MAX)
        return parser_error(parser, size, NULL, "an event would belong to more than %d windows", HOPS_MAX);
    return 0;
}

/* What the parts say together, and what they are when they say nothing. */
static int check_parts(window_t *window, parser_t *parser, const token_t *size) {
    if (window->kind == HOPPING)
        return check_hopping(window, parser, size);
    if (window->kind == TUMBLING)
        window->every = window->length;
    if (window->kind == SESSION && window->most && window->late)
        return parser_error(parser, size, "wait D takes events in order of time that come up to D too late", "a session with max has no late: an event in the past would change all results since");
    if (window->kind == SESSION && window->most && window->most < window->length)
        return parser_error(parser, size, "window session 30m max 12h by KEY: count()", "the longest session must not be shorter than the gap");
    if (!window->most)
        window->most = INT64_MAX;
    if (!window->step)
        window->step = window->number;
    if (window->step > window->number)
        return parser_error(parser, size, "window count 100 every 10 by KEY: avg(x)", "results must not come less often than the window has events");
    if (!window->expire)
        window->expire = EXPIRE;
    return 0;
}

/* The operator's text up to the aggregates' end. */
static int parse_text(window_t *window, parser_t *parser) {
    unsigned kind = 0;
    while (kind < KINDS && !parser_accept_word(parser, kinds[kind].name))
        kind++;
    if (kind == KINDS)
        return expected_kind(parser);
    window->kind = (window_kind_t) kind;
    const token_t *size = parser_token(parser);
    if (parse_size(window, parser) < 0 || parse_parts(window, parser) < 0 || check_parts(window, parser, size) < 0)
        return -1;
    unsigned how = kind == SLIDING || (kind == COUNT && window->step < window->number) ? SUMMARY_REMOVES : 0;
    if (kind == COUNT)
        how |= SUMMARY_TIMED | (window->wait ? 0 : SUMMARY_ARRIVAL);
    if (summary_parse(&window->summary, parser, how) < 0)
        return -1;
    token_type_t type = parser_token(parser)->type;
    if (type >= TOKEN_PLUS && type <= TOKEN_PERCENT)
        return parser_expected(parser, ", or |", "compute with results behind the window: | set x = a / b");
    if (parser_is_word(parser, "wait") || parser_is_word(parser, "late") || parser_is_word(parser, "by"))
        return parser_expected(parser, ", or |", "by, wait and late stand before the colon");
    return 0;
}

static int parse_window(window_t *window, parser_t *parser) {
    const token_t *token = parser_token(parser);
    const summary_t *summary = &window->summary;
    if (parse_text(window, parser) < 0)
        return -1;
    note_name(window, parser, token, text_of("window_start"));
    note_name(window, parser, token, text_of("window_end"));
    for (unsigned i = 0; i < summary->aggregate_count; i++)
        note_name(window, parser, summary->places[i], summary->names[i]);
    if (window->late || window->early)
        note_name(window, parser, token, text_of("revision"));
    if (window->early)
        note_name(window, parser, token, text_of("final"));
    return 0;
}

/* Behind a window exist its keys, its times and its aggregates, in this order. */
static void rebind(window_t *window, scope_t *scope, unsigned line) {
    types_t types[window->names_count + 1];
    unsigned count = 0;
    for (unsigned i = 0; i < window->key_count; i++)
        types[count++] = window->keys[i]->types;
    types[count++] = TYPE(VALUE_TIME);
    types[count++] = TYPE(VALUE_TIME);
    for (unsigned i = 0; i < window->summary.aggregate_count; i++)
        types[count++] = (types_t) (window->summary.aggregates[i].class->gives | TYPE(VALUE_NULL));
    if (window->late || window->early)
        types[count++] = TYPES_INTEGER;
    if (window->early)
        types[count++] = TYPE(VALUE_BOOL);
    scope->count = 0;
    scope->layout = NULL;
    scope->closed = true;
    scope->values = 0;
    snprintf(scope->closed_by, sizeof scope->closed_by, "window in line %u", line);
    for (unsigned i = 0; i < window->names_count; i++)
        scope_bind(scope, window->names[i], SOURCE_VALUE, scope_new_value(scope), types[i]);
}

static op_t *window_parse(program_t *program, parser_t *parser) {
    window_t *window = op_new(program, &op_window, sizeof *window);
    unsigned line, column;
    diagnostics_place(parser->diagnostics->source, parser_token(parser)->at, &line, &column);
    if (parse_window(window, parser) < 0) {
        window_free(&window->op);
        mem_free(window);
        return NULL;
    }
    unsigned arguments = window->summary.argument_count;
    window->next = INT64_MAX;
    window->announced = window->reached = FRAME_NO_WATERMARK;
    window->values = mem_zero(BATCH * (arguments + 1) * sizeof *window->values);
    for (unsigned i = 0; i < BATCH; i++)
        window->pending[i].values = window->values + i * (arguments + 1);
    window->op.class = window->kind < SESSION ? &window_panes : &window_cells;
    if (window->kind >= SESSION)
        window_cells_begin(window);
    window->plan = plan_new(program, parser->scope);
    char name[FRAME_TOPIC_MAX + 8];
    snprintf(name, sizeof name, "%.*s.late", FRAME_TOPIC_MAX - 5, program_stream_name(program));
    window->late_stream = program_stream(program, name);
    program_has_side(program);
    rebind(window, parser->scope, line);
    program_set_keys(program, window->names, window->key_count);
    return &window->op;
}

const op_class_t op_window = {
    .name = "window",
    .syntax = "window KIND [by KEY, ...] [wait D] [late D]: AGGREGATE, ...",
    .help = "Sums up the events of each window and each combination of the keys into one event. KIND is tumbling D [early every D], hopping D every D, sliding D, session D [max D] or count N [every N] [expire D].",
    .parse = window_parse,
};
