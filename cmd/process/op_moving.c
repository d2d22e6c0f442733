/* moving: adds to each event what is computed over the last events of its key, this one included. The windows are in rolling.c. */
#include "rolling.h"
#include "series.h"

typedef struct moving_function {
    const char *name;
    rolling_function_t function;
    types_t takes, gives;
} moving_function_t;

#define TIMES ((types_t) (TYPES_NUMBER | TYPE(VALUE_TIME)))

static const moving_function_t functions[] = {
    {"count", ROLLING_COUNT, TYPES_ANY, TYPES_INTEGER},
    {"sum", ROLLING_SUM, TYPES_NUMBER, TYPES_NUMBER},
    {"avg", ROLLING_AVG, TYPES_NUMBER, TYPE(VALUE_DOUBLE)},
    {"min", ROLLING_MIN, TIMES, TIMES},
    {"max", ROLLING_MAX, TIMES, TIMES},
    {"stddev", ROLLING_STDDEV, TYPES_NUMBER, TYPE(VALUE_DOUBLE)},
    {"var", ROLLING_VAR, TYPES_NUMBER, TYPE(VALUE_DOUBLE)},
    {"median", ROLLING_MEDIAN, TYPES_NUMBER, TYPE(VALUE_DOUBLE)},
    {"ewma", ROLLING_EWMA, TYPES_NUMBER, TYPE(VALUE_DOUBLE)},
    {NULL},
};

typedef struct argument {     /* a column of the window */
    node_t *node;
    const char *function;     /* that complains of it */
    bool counts;              /* any value will do */
    bool times;               /* a time will do */
} argument_t;

typedef struct moving {
    op_t op;
    rolling_plan_t plan;
    argument_t *arguments;
    const moving_function_t **wanted;         /* of each use */
    unsigned *results;        /* of each use: the computed value's number */
    names_t names;
    keyed_class_t class;
    series_options_t options;
    value_t *values;          /* of one event */
    node_t *place;            /* the operator itself, for reports */
} moving_t;

extern const op_class_t op_moving;

/* State. */

static void state_save(const void *state, buf_t *out) { rolling_save(state, out); }
static bool state_load(void *context, void *state, pack_cursor_t *cursor) {
    return rolling_load(state, &((const moving_t *) context)->plan, cursor);
}
static void state_drop(void *state) { rolling_fini(state); }
static size_t state_memory(const void *state) { return rolling_memory(state); }

static void moving_free(op_t *op) {
    moving_t *moving = (moving_t *) op;
    keyed_free(moving->options.keyed);
    rolling_plan_fini(&moving->plan);
    mem_free(moving->arguments);
    mem_free(moving->wanted);
    mem_free(moving->results);
    mem_free(moving->values);
}

/* Reading. */

static const moving_function_t *find_function(parser_t *parser, text_t word, const token_t *token) {
    const char *names[16];
    size_t count = 0;
    for (const moving_function_t *function = functions; function->name; function++) {
        if (text_is(word, function->name))
            return function;
        names[count++] = function->name;
    }
    static const char *const foreign[][2] = {{"mean", "avg"}, {"average", "avg"}, {"std", "stddev"}, {"stdev", "stddev"}, {"variance", "var"}, {"total", "sum"},
                                             {"ema", "ewma"}, {"ewm", "ewma"}, {"minimum", "min"}, {"maximum", "max"}};
    char *wanted = mem_text_n(word.data, word.size), hint[120] = "functions of moving are count sum avg min max stddev var median ewma";
    const char *near = text_nearest(wanted, names, count);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (strcmp(wanted, foreign[i][0]) == 0)
            near = foreign[i][1];
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    parser_error(parser, token, hint, "moving knows no function %s", wanted);
    mem_free(wanted);
    return NULL;
}

/* The column among those that there are: an expression that stands twice is evaluated once. What is only counted may be of any type, and stands
 * apart. */
static uint32_t argument_of(moving_t *moving, parser_t *parser, node_t *node, const moving_function_t *function) {
    const char *source = parser->diagnostics->source.data;
    unsigned count = moving->plan.column_count, at = 0;
    bool counts = function->function == ROLLING_COUNT, times = function->takes == TIMES;
    for (; at < count; at++) {
        const argument_t *argument = &moving->arguments[at];
        if (argument->counts == counts && argument->node->size == node->size && memcmp(source + argument->node->at, source + node->at, node->size) == 0)
            break;
    }
    if (at == count) {
        moving->arguments = mem_resize(moving->arguments, (count + 1) * sizeof *moving->arguments);
        moving->arguments[at] = (argument_t){node, function->name, counts, times};
    }
    moving->arguments[at].times &= times;
    return at;
}

/* ", 0.2" or ", 30s" */
static int parse_smoothing(parser_t *parser, rolling_use_t *use) {
    static const char hint[] = "ewma(x, 0.2): the weight of a new value; ewma(x, 30s): the time in which weights halve";
    if (!parser_accept(parser, TOKEN_COMMA))
        return parser_expected(parser, ", and how fast ewma forgets", hint);
    const token_t *token = parser_token(parser);
    if (token->type == TOKEN_DURATION)
        return parse_duration(parser, "a half-life", &use->half_life);
    if (token->type != TOKEN_NUMBER)
        return parser_expected(parser, "a number or a duration", hint);
    use->alpha = value_to_double(token->value);
    if (use->alpha <= 0 || use->alpha > 1)
        return parser_error(parser, token, hint, "the weight of a new value is above 0 and at most 1");
    parser_take(parser);
    return 0;
}

static int parse_argument(moving_t *moving, parser_t *parser, const moving_function_t *function, rolling_use_t *use, text_t *name) {
    bool count = function->function == ROLLING_COUNT;
    if (count && (parser_accept(parser, TOKEN_STAR) || parser_token(parser)->type == TOKEN_CLOSE))
        return parser_expect(parser, TOKEN_CLOSE, ")");
    if (parser_token(parser)->type == TOKEN_CLOSE)
        return parser_expected(parser, "a value", NULL);
    node_t *node = parse_expression(parser);
    if (!node)
        return -1;
    if (!(node->types & function->takes)) {
        buf_t types = {0};
        types_put(&types, node->types);
        parser_error_at(parser, node, NULL, "%s takes no %s", function->name, buf_text(&types));
        buf_fini(&types);
    }
    text_t field;
    *name = parser_default_name(node, &field) ? joined_name(parser, text_of(function->name), field) : (text_t){0};
    use->column = argument_of(moving, parser, node, function);
    if (function->function == ROLLING_EWMA && parse_smoothing(parser, use) < 0)
        return -1;
    return parser_expect(parser, TOKEN_CLOSE, ")");
}

/* avg(x) as NAME */
static int parse_use(moving_t *moving, parser_t *parser) {
    const token_t *token = parser_token(parser), *named = token;
    if (token->type != TOKEN_NAME)
        return parser_expected(parser, "a function, as in avg(x)", NULL);
    text_t word = text_make(parser->diagnostics->source.data + token->at, token->size), name = word;
    const moving_function_t *function = find_function(parser, word, token);
    if (!function)
        return -1;
    parser_take(parser);
    if (!parser_accept(parser, TOKEN_OPEN))
        return parser_expected(parser, "( after the function's name", "moving avg(x) over 1m by KEY");
    rolling_use_t use = {.function = function->function, .column = ROLLING_NO_COLUMN};
    if (parse_argument(moving, parser, function, &use, &name) < 0)
        return -1;
    if (parser_accept_word(parser, "as")) {
        named = parser_token(parser);
        if (parse_name(parser, "a name after as", &name) < 0)
            return -1;
    } else if (!name.data) {
        return parser_error(parser, token, "write FUNCTION(EXPRESSION) as NAME", "what is computed of an expression needs a name");
    }
    if (names_add(&moving->names, parser, named, name) < 0)
        return -1;
    unsigned at = moving->plan.use_count;
    rolling_plan_add(&moving->plan, use);
    moving->wanted = mem_resize(moving->wanted, (at + 1) * sizeof *moving->wanted);
    moving->wanted[at] = function;
    return 0;
}

static int parse_options(moving_t *moving, parser_t *parser, const token_t *place) {
    for (bool more = true; more;) {
        if (parser_accept_word(parser, "over")) {
            if (parse_over(parser, &moving->plan.span, &moving->plan.most, ROLLING_MOST) < 0)
                return -1;
        } else if (parse_series_option(&moving->options, parser, &more) < 0) {
            return -1;
        }
    }
    bool windowed = false;
    for (unsigned i = 0; i < moving->plan.use_count; i++)
        windowed |= moving->plan.uses[i].function != ROLLING_EWMA;
    bool over = moving->plan.span || moving->plan.most;
    if (windowed && !over)
        return parser_expected(parser, "over and a duration or a number of events", "moving avg(x) over 1m by KEY");
    if (!windowed && over)
        return parser_error(parser, place, "leave over out: ewma forgets by itself", "ewma takes all events");
    return keyed_window_keys(moving->options.keyed, parser, place);
}

static int parse_moving(moving_t *moving, program_t *program, parser_t *parser) {
    const token_t *place = parser_token(parser);
    moving->place = node_constant(parser, value_null(), place->at);
    do {
        if (parse_use(moving, parser) < 0)
            return -1;
    } while (parser_accept(parser, TOKEN_COMMA));
    rolling_plan_finish(&moving->plan);
    moving->class = (keyed_class_t){.size = (rolling_size(&moving->plan) + 7) & ~(size_t) 7, .elements = 1, .save = state_save, .load = state_load,
                                    .drop = state_drop, .memory = state_memory};
    moving->options.keyed = keyed_new(program, &moving->class, moving);
    if (parse_options(moving, parser, place) < 0)
        return -1;
    if (moving->plan.span) {
        moving->plan.most = ROLLING_MOST;
        if (!moving->options.expires && moving->plan.span > KEYED_EXPIRE)
            keyed_set_expire(moving->options.keyed, moving->plan.span);
    }
    return 0;
}

static op_t *moving_parse(program_t *program, parser_t *parser) {
    moving_t *moving = op_new(program, &op_moving, sizeof *moving);
    if (parse_moving(moving, program, parser) < 0) {
        moving_free(&moving->op);
        mem_free(moving);
        return NULL;
    }
    moving->values = mem_zero((moving->plan.column_count + 1) * sizeof *moving->values);
    moving->results = mem_zero(moving->plan.use_count * sizeof *moving->results);
    for (unsigned i = 0; i < moving->plan.use_count; i++)
        moving->results[i] = bind_value(parser, moving->names.names[i], moving->wanted[i]->gives);
    return &moving->op;
}

/* Running. */

static void moving_row(moving_t *moving, rolling_t *rolling, row_t *row) {
    for (unsigned i = 0; i < moving->plan.column_count; i++) {
        const argument_t *argument = &moving->arguments[i];
        if (!argument->counts)
            moving->values[i] = finite_number(argument->node, row, argument->function, argument->times);
        else /* which value it is is not kept */
            moving->values[i] = evaluate(argument->node, row).type == VALUE_NULL ? value_null() : value_int(0);
    }
    if (!rolling_add(rolling, row->event.time, moving->values))
        evaluation_failed(moving->place, row, "more than %d events in the window of a key: the oldest left", ROLLING_MOST);
    for (unsigned i = 0; i < moving->plan.use_count; i++)
        row->values[moving->results[i]] = rolling_result(rolling, i);
}

static void moving_event(op_t *op, row_t **rows, unsigned count) {
    moving_t *moving = (moving_t *) op;
    keyed_t *keyed = moving->options.keyed;
    keyed_prepare(keyed, rows, count);
    for (unsigned i = 0; i < count; i++) {
        rolling_t *rolling = keyed_get(keyed, i, rows[i]);
        if (keyed_is_new(keyed))
            rolling_init(rolling, &moving->plan);
        moving_row(moving, rolling, rows[i]);
    }
    op_pass(op, rows, count);
}

static void moving_save(const op_t *op, buf_t *out) {
    keyed_save(((const moving_t *) op)->options.keyed, out);
}

static int moving_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    return keyed_load(((moving_t *) op)->options.keyed, cursor, err);
}

static size_t moving_memory(const op_t *op) {
    return keyed_memory(((const moving_t *) op)->options.keyed);
}

const op_class_t op_moving = {
    .name = "moving",
    .syntax = "moving FUNCTION(EXPRESSION) [as NAME], ... over DURATION|NUMBER [by KEY, ...] [expire D]",
    .help = "Adds to each event what is computed over the events of its key in the last DURATION of event time, or over its last NUMBER events, this one included. "
            "Functions: count sum avg min max stddev var median; and ewma(x, 0.2), where each new value has this weight, or ewma(x, 30s), where weights halve in this time: "
            "it needs no over.",
    .parse = moving_parse,
    .event = moving_event,
    .save = moving_save,
    .load = moving_load,
    .memory = moving_memory,
    .free = moving_free,
};
