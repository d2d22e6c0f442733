/* anomaly: adds to each event how unusual a number is for its key. The detectors are in anomaly_*.c. */
#include <float.h>
#include <math.h>

#include "anomaly.h"
#include "series.h"

static const anomaly_method_t *const methods[] = {&anomaly_auto, &anomaly_zscore, &anomaly_mad, &anomaly_ewma, &anomaly_seasonal};
#define METHODS (sizeof methods / sizeof *methods)
#define METHOD_NAMES "methods are auto zscore mad ewma seasonal"
#define EXPIRE (7 * KEYED_EXPIRE)             /* patterns of a week take that long to be learnt */
#define SCORED 10.0           /* departures beyond get the score of this one */
#define FURTHER 2.0           /* so many times the distance of what was told is another incident */

enum { SCORE, FLAG, EXPECTED, LOW, HIGH, RESULTS };

typedef struct anomaly {
    op_t op;
    node_t *node;
    text_t names[RESULTS];
    unsigned results[RESULTS];                /* the computed values' numbers */
    anomaly_plan_t plan;
    size_t doubles, floats;   /* of a detector's state */
    series_options_t options;
} anomaly_t;

typedef struct memory {       /* of a key */
    double *state;            /* doubles, then floats; NULL until the first value */
    uint32_t doubles, floats;
    uint64_t count;           /* values so far */
    uint64_t told_at;         /* which of them was an anomaly last, from 1; 0: none */
    double told, told_distance;   /* the greatest departure, and distance from what was expected, of the incident it belongs to */
} memory_t;

extern const op_class_t op_anomaly;

static float *floats_of(const memory_t *memory) { return (float *) (void *) (memory->state + memory->doubles); }

#define HEAD 4                /* elements of the state before the detector's */

/* State: [count, told_at, told, told_distance, number, ...] of each key. */

static void memory_save(const void *state, buf_t *out) {
    const memory_t *memory = state;
    pack_array(out, HEAD + memory->doubles + memory->floats);
    pack_uint(out, memory->count);
    pack_uint(out, memory->told_at);
    pack_double(out, memory->told);
    pack_double(out, memory->told_distance);
    for (uint32_t i = 0; i < memory->doubles; i++)
        pack_double(out, memory->state[i]);
    for (uint32_t i = 0; i < memory->floats; i++)
        pack_double(out, (double) floats_of(memory)[i]);
}

static void memory_drop(void *state) {
    memory_t *memory = state;
    mem_free(memory->state);
}

static size_t state_size(const memory_t *memory) {
    return memory->doubles * sizeof(double) + memory->floats * sizeof(float);
}

static size_t memory_of(const void *state) {
    return state_size(state);
}

static void memory_begin(const anomaly_t *anomaly, memory_t *memory) {
    memory->doubles = (uint32_t) anomaly->doubles;
    memory->floats = (uint32_t) anomaly->floats;
    memory->state = mem_zero(state_size(memory));
}

static bool read_number(pack_cursor_t *cursor, double *number) {
    value_t value;
    if (!pack_read_value(cursor, &value) || value.type != VALUE_DOUBLE || !isfinite(value.number))
        return false;
    *number = value.number;
    return true;
}

static bool memory_load(void *context, void *state, pack_cursor_t *cursor) {
    const anomaly_t *anomaly = context;
    memory_t *memory = state;
    uint32_t elements;
    if (!pack_read_array(cursor, &elements) || (elements != HEAD && elements != HEAD + anomaly->doubles + anomaly->floats) ||
        !pack_read_uint(cursor, &memory->count) || !pack_read_uint(cursor, &memory->told_at) || memory->told_at > memory->count ||
        !read_number(cursor, &memory->told) || !read_number(cursor, &memory->told_distance) || (elements == HEAD) != (memory->count == 0))
        return false;
    if (elements == HEAD)
        return true;
    memory_begin(anomaly, memory);
    for (uint32_t i = 0; i < memory->doubles; i++)
        if (!read_number(cursor, &memory->state[i]))
            return false;
    for (uint32_t i = 0; i < memory->floats; i++) {
        double number;
        if (!read_number(cursor, &number) || fabs(number) > (double) FLT_MAX)
            return false;
        floats_of(memory)[i] = (float) number;
    }
    return true;
}

static const keyed_class_t memory_class = {.size = sizeof(memory_t), .elements = 1, .save = memory_save, .load = memory_load, .drop = memory_drop,
                                           .memory = memory_of};

static void anomaly_save(const op_t *op, buf_t *out) {
    keyed_save(((const anomaly_t *) op)->options.keyed, out);
}

static int anomaly_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    return keyed_load(((anomaly_t *) op)->options.keyed, cursor, err);
}

static size_t anomaly_memory(const op_t *op) {
    return keyed_memory(((const anomaly_t *) op)->options.keyed);
}

static void anomaly_free(op_t *op) {
    keyed_free(((anomaly_t *) op)->options.keyed);
}

/* Reading. */

static int parse_method(anomaly_t *anomaly, parser_t *parser, const token_t *word) {
    const token_t *token = parser_token(parser);
    text_t name;
    if (anomaly->plan.method)
        return parser_error(parser, word, NULL, "method stands twice");
    if (parse_name(parser, "a method", &name) < 0)
        return -1;
    const char *names[METHODS];
    for (size_t i = 0; i < METHODS; i++) {
        names[i] = methods[i]->name;
        if (text_is(name, names[i]))
            anomaly->plan.method = methods[i];
    }
    if (anomaly->plan.method)
        return 0;
    static const char *const foreign[][2] = {{"z", "zscore"}, {"z_score", "zscore"}, {"sigma", "zscore"}, {"gaussian", "zscore"}, {"robust", "mad"},
                                             {"median", "mad"}, {"hampel", "mad"}, {"stl", "seasonal"}, {"holt_winters", "seasonal"}};
    char *wanted = mem_text_n(name.data, name.size), hint[100] = METHOD_NAMES;
    const char *near = text_nearest(wanted, names, METHODS);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (strcmp(wanted, foreign[i][0]) == 0)
            near = foreign[i][1];
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    parser_error(parser, token, hint, "anomaly knows no method %s", wanted);
    mem_free(wanted);
    return -1;
}

/* A whole number of values behind `word`; *count is UINT32_MAX until it was given. */
static int parse_count(parser_t *parser, const token_t *word, const char *name, int64_t least, uint32_t *count) {
    const token_t *token = parser_token(parser);
    if (*count != UINT32_MAX)
        return parser_error(parser, word, NULL, "%s stands twice", name);
    if (token->type == TOKEN_DURATION)
        return parser_error(parser, token, "such as 100", "%s counts values, not time", name);
    if (token->type != TOKEN_NUMBER)
        return parser_expected(parser, "a number of values", NULL);
    if (token->value.type != VALUE_INT || token->value.integer < least || token->value.integer > 1000000)
        return parser_error(parser, token, NULL, "%s is a whole number from %d to 1000000", name, (int) least);
    *count = (uint32_t) parser_take(parser)->value.integer;
    return 0;
}

static int parse_threshold(anomaly_plan_t *plan, parser_t *parser, const token_t *word) {
    const token_t *token = parser_token(parser);
    if (plan->threshold > 0)
        return parser_error(parser, word, NULL, "threshold stands twice");
    if (token->type != TOKEN_NUMBER)
        return parser_expected(parser, "a number after threshold", "what it counts depends on the method: deviations, as in method zscore threshold 4");
    double threshold = value_to_double(token->value);
    if (!(threshold > 0 && threshold <= 1000))
        return parser_error(parser, token, NULL, "threshold is above 0 and at most 1000");
    plan->threshold = threshold;
    parser_take(parser);
    return 0;
}

typedef struct places {       /* of options that not every method has */
    const token_t *over, *period;
} places_t;

static int parse_option(anomaly_t *anomaly, parser_t *parser, places_t *places, bool *more) {
    anomaly_plan_t *plan = &anomaly->plan;
    const token_t *word = parser_token(parser);
    *more = true;
    if (parser_accept_word(parser, "method"))
        return parse_method(anomaly, parser, word);
    if (parser_accept_word(parser, "threshold"))
        return parse_threshold(plan, parser, word);
    if (parser_accept_word(parser, "warmup"))
        return parse_count(parser, word, "warmup", 1, &plan->warmup);
    if (parser_accept_word(parser, "rest"))
        return parse_count(parser, word, "rest", 0, &plan->rest);
    if (parser_accept_word(parser, "over")) {
        places->over = word;
        return parse_count(parser, word, "over", 2, &plan->over);
    }
    if (parser_accept_word(parser, "period")) {
        places->period = word;
        return plan->period ? parser_error(parser, word, NULL, "period stands twice") : parse_duration(parser, "a duration after period", &plan->period);
    }
    if (parser_is_word(parser, "sensitivity"))
        return parser_error(parser, word, "threshold X: the less, the more anomalies", "anomaly has no sensitivity");
    return parse_series_option(&anomaly->options, parser, more);
}

/* What the program left open; and what the method does not have. */
static int complete(anomaly_plan_t *plan, parser_t *parser, const places_t *places) {
    if (!plan->method)
        plan->method = methods[0];
    const anomaly_method_t *method = plan->method;
    if (places->over && !method->over_max)
        return parser_error(parser, places->over, "leave it out", "method %s sees for itself how many values count", method->name);
    if (places->over && plan->over > method->over_max)
        return parser_error(parser, places->over, NULL, "method %s goes over at most %u values", method->name, method->over_max);
    if (places->period && !method->cycles)
        return parser_error(parser, places->period, "method seasonal, or auto", "method %s knows no period", method->name);
    plan->threshold = plan->threshold > 0 ? plan->threshold : method->threshold;
    plan->over = places->over ? plan->over : method->over;
    plan->warmup = plan->warmup == UINT32_MAX ? method->warmup : plan->warmup < method->least ? method->least : plan->warmup;
    plan->rest = plan->rest == UINT32_MAX ? method->rest : plan->rest;
    return 0;
}

/* What the expression reads, or another operator has given, is not to be overwritten in silence. */
static bool reads(const node_t *node, text_t name) {
    text_t own;
    if ((node->kind == NODE_FIELD || node->kind == NODE_VALUE) && parser_default_name(node, &own) && text_equal(own, name))
        return true;
    for (unsigned i = 0; i < node->count; i++)
        if (reads(node->arguments[i], name))
            return true;
    return false;
}

static int check_name(const anomaly_t *anomaly, parser_t *parser, const token_t *place, text_t name) {
    const binding_t *binding = scope_find(parser->scope, name);
    if (!reads(anomaly->node, name) && (!binding || binding->source == SOURCE_ABSENT))
        return 0;
    return parser_error(parser, place, "give the results another name: as NAME", "the result would overwrite %.*s", (int) name.size, name.data);
}

static int parse_names(anomaly_t *anomaly, parser_t *parser) {
    const token_t *place = parser_token(parser);
    text_t prefix = text_of("anomaly");
    if (parser_accept_word(parser, "as")) {
        place = parser_token(parser);
        if (parse_name(parser, "a name after as", &prefix) < 0)
            return -1;
    }
    static const char *const parts[RESULTS] = {[SCORE] = "score", [EXPECTED] = "expected", [LOW] = "low", [HIGH] = "high"};
    names_t *names = mem_zero(sizeof *names);
    int status = 0;
    for (int i = 0; i < RESULTS && status == 0; i++) {
        anomaly->names[i] = parts[i] ? joined_name(parser, prefix, text_of(parts[i])) : prefix;
        status = names_add(names, parser, place, anomaly->names[i]) < 0 ? -1 : check_name(anomaly, parser, place, anomaly->names[i]);
    }
    mem_free(names);
    return status;
}

static int parse_anomaly(anomaly_t *anomaly, program_t *program, parser_t *parser) {
    const token_t *place = parser_token(parser);
    anomaly->node = parse_expression(parser);
    if (!anomaly->node)
        return -1;
    if (!(anomaly->node->types & TYPES_NUMBER)) {
        buf_t types = {0};
        types_put(&types, anomaly->node->types);
        parser_error_at(parser, anomaly->node, NULL, "anomaly takes no %s", buf_text(&types));
        buf_fini(&types);
    }
    if (parse_names(anomaly, parser) < 0)
        return -1;
    anomaly->plan.over = anomaly->plan.warmup = anomaly->plan.rest = UINT32_MAX;
    anomaly->options.keyed = keyed_new(program, &memory_class, anomaly);
    keyed_set_expire(anomaly->options.keyed, EXPIRE);
    places_t places = {0};
    for (bool more = true; more;)
        if (parse_option(anomaly, parser, &places, &more) < 0)
            return -1;
    if (complete(&anomaly->plan, parser, &places) < 0)
        return -1;
    anomaly->plan.method->size(&anomaly->plan, &anomaly->doubles, &anomaly->floats);
    return keyed_window_keys(anomaly->options.keyed, parser, place);
}

static op_t *anomaly_parse(program_t *program, parser_t *parser) {
    anomaly_t *anomaly = op_new(program, &op_anomaly, sizeof *anomaly);
    if (parse_anomaly(anomaly, program, parser) < 0) {
        anomaly_free(&anomaly->op);
        mem_free(anomaly);
        return NULL;
    }
    for (int i = 0; i < RESULTS; i++)
        anomaly->results[i] = bind_value(parser, anomaly->names[i], TYPE(i == FLAG ? VALUE_BOOL : VALUE_DOUBLE));
    return &anomaly->op;
}

/* Running. */

/* One incident is told once: again only when it gets worse. What it did has changed what is usual, and with that the measure of departures: so that a small
 * one hides no great one, the distance counts as well. */
static bool is_repeated(const anomaly_plan_t *plan, memory_t *memory, double departure, double distance) {
    bool resting = memory->told_at && memory->count - memory->told_at < plan->rest;
    if (resting && departure <= memory->told && distance <= FURTHER * memory->told_distance)
        return true;
    memory->told_at = memory->count;
    memory->told = resting ? fmax(memory->told, departure) : departure;
    memory->told_distance = resting ? fmax(memory->told_distance, distance) : distance;
    return false;
}

static value_t number_or_null(double number, bool known) {
    return known && isfinite(number) ? value_double(number) : value_null();
}

static void anomaly_value(const anomaly_t *anomaly, memory_t *memory, row_t *row, double value) {
    const anomaly_plan_t *plan = &anomaly->plan;
    anomaly_result_t result = {0};
    if (!memory->state)
        memory_begin(anomaly, memory);
    bool warm = memory->count >= plan->warmup;
    value = anomaly_clamp(value, -ANOMALY_LIMIT, ANOMALY_LIMIT);
    plan->method->step(plan, memory->state, memory->count, row->event.time, value, &result);
    memory->count++;
    double distance = fmin(fabs(value - result.expected), DBL_MAX), scored = fmin(result.departure, SCORED);
    bool far = warm && result.departure >= 1, repeated = far && is_repeated(plan, memory, result.departure, distance);
    double score = warm ? scored / (1 + scored) : 0;
    row->values[anomaly->results[SCORE]] = number_or_null(repeated ? score / 2 : score, true);
    row->values[anomaly->results[FLAG]] = value_bool(far && !repeated);
    row->values[anomaly->results[EXPECTED]] = number_or_null(result.expected, memory->count > 1);
    row->values[anomaly->results[LOW]] = number_or_null(result.low, warm && result.low > -ANOMALY_LIMIT);
    row->values[anomaly->results[HIGH]] = number_or_null(result.high, warm && result.high < ANOMALY_LIMIT);
}

static void anomaly_event(op_t *op, row_t **rows, unsigned count) {
    const anomaly_t *anomaly = (const anomaly_t *) op;
    keyed_t *keyed = anomaly->options.keyed;
    keyed_prepare(keyed, rows, count);
    for (unsigned i = 0; i < count; i++) {
        memory_t *memory = keyed_get(keyed, i, rows[i]);
        value_t value = finite_number(anomaly->node, rows[i], "anomaly", false);
        if (value.type != VALUE_NULL)
            anomaly_value(anomaly, memory, rows[i], value_to_double(value));
        else
            for (int j = 0; j < RESULTS; j++)
                rows[i]->values[anomaly->results[j]] = value_null();
    }
    op_pass(op, rows, count);
}

const op_class_t op_anomaly = {
    .name = "anomaly",
    .syntax = "anomaly EXPRESSION [as NAME] [by KEY, ...] [method M] [threshold X] [over N] [period D] [warmup N] [rest N] [expire D]",
    .help = "Adds to each event how unusual the number is for its key: anomaly (true or false), anomaly_score from 0 to 1, anomaly_expected, anomaly_low and anomaly_high. "
            "Methods: auto, which needs no settings; zscore, mad, ewma, seasonal.",
    .parse = anomaly_parse,
    .event = anomaly_event,
    .save = anomaly_save,
    .load = anomaly_load,
    .memory = anomaly_memory,
    .free = anomaly_free,
};
