/* alert: one event when a condition begins to hold or a key falls silent, one when that is over, written to the stream "alerts"; the events themselves
 * pass on. This file reads the operator, alert_run.c runs it. */
#include "alert.h"
#include "keyed.h"

extern const op_class_t op_alert;

/* Reading. */

static void add_key(alert_t *alert, node_t *node, text_t name) {
    alert->keys = mem_resize(alert->keys, (alert->key_count + 1) * sizeof *alert->keys);
    alert->key_names = mem_resize(alert->key_names, (alert->key_count + 1) * sizeof *alert->key_names);
    alert->keys[alert->key_count] = node;
    alert->key_names[alert->key_count++] = name;
}

static int parse_keys(alert_t *alert, parser_t *parser) {
    do {
        text_t name;
        node_t *node = parse_named(parser, "a key", &name);
        if (!node)
            return -1;
        add_key(alert, node, name);
    } while (parser_accept(parser, TOKEN_COMMA));
    return 0;
}

/* Behind a window, its keys tell the alerts apart. */
static void take_window_keys(alert_t *alert, program_t *program, parser_t *parser, const token_t *place) {
    unsigned count;
    const text_t *names = program_keys(program, &count);
    for (unsigned i = 0; i < count; i++) {
        const binding_t *binding = scope_find(parser->scope, names[i]);
        if (!binding || binding->source == SOURCE_ABSENT) {
            parser_error(parser, place, "add by and the keys that tell alerts apart", "the window's key %.*s is gone here", (int) names[i].size,
                         names[i].data);
            return;
        }
        add_key(alert, node_name(parser, names[i], place->at, place->size), names[i]);
    }
}

/* The fields that an expression looks at. */
static void collect(alert_t *alert, node_t *node) {
    text_t name;
    bool field = node->kind == NODE_FIELD || node->kind == NODE_VALUE || node->kind == NODE_PATH;
    if (field && parser_default_name(node, &name)) {
        for (unsigned i = 0; i < alert->seen_count; i++)
            if (text_equal(alert->seen_names[i], name))
                return;
        if (alert->seen_count < ALERT_SEEN) {
            alert->seen_names[alert->seen_count] = name;
            alert->seen[alert->seen_count++] = node;
        }
        return;
    }
    for (unsigned i = 0; i < node->count; i++)
        collect(alert, node->arguments[i]);
}

static int parse_severity(alert_t *alert, parser_t *parser) {
    static const char *const known[] = {"info", "warning", "critical"};
    const token_t *word = parser_token(parser);
    if (parse_word_raw(parser, "info, warning or critical", &alert->severity) < 0)
        return -1;
    for (unsigned i = 0; i < 3; i++)
        if (text_is(alert->severity, known[i]))
            return 0;
    return parser_error(parser, word, "severities are info, warning and critical", "an unknown severity");
}

/* clear [when CONDITION] [for D] */
static int parse_clear(alert_t *alert, parser_t *parser) {
    const token_t *token = parser_token(parser) - 1;
    if (alert->silence)
        return parser_error(parser, token, "it is over when an event comes", "no data has no clear");
    bool when = parser_accept_word(parser, "when");
    if (when && !(alert->clear = parse_condition(parser)))
        return -1;
    if (parser_accept_word(parser, "for"))
        return parse_duration(parser, "a duration after for", &alert->rest);
    return when ? 0 : parser_expected(parser, "when or for after clear", NULL);
}

/* For silence the message is read when the keys are known: there is no event whose fields it could have. */
static int parse_message(alert_t *alert, parser_t *parser) {
    if (!alert->silence)
        return (alert->message = template_parse(parser, "a message")) ? 0 : -1;
    alert->message_at = (uint32_t) parser->at;
    if (parser_token(parser)->type != TOKEN_STRING)
        return parser_expected(parser, "a message", "it stands in quotes, with {keys} in braces");
    parser_take(parser);
    return 0;
}

/* Each part once. */
static int note_part(parser_t *parser, unsigned *given) {
    static const char *const parts[] = {"for", "clear", "severity", "message", "repeat", "expire"};
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parser_is_word(parser, parts[i]))
            continue;
        if (*given & 1u << i)
            return parser_error(parser, parser_token(parser), NULL, "%s stands twice", parts[i]);
        *given |= 1u << i;
    }
    return 0;
}

static int parse_part(alert_t *alert, parser_t *parser, unsigned *given, bool *more) {
    const token_t *token = parser_token(parser);
    *more = true;
    if (note_part(parser, given) < 0)
        return -1;
    if (parser_accept_word(parser, "for")) {
        if (alert->silence)
            return parser_error(parser, token, NULL, "no data for says how long already");
        return parse_duration(parser, "a duration after for", &alert->hold);
    } else if (parser_accept_word(parser, "clear")) {
        return parse_clear(alert, parser);
    } else if (parser_accept_word(parser, "severity")) {
        return parse_severity(alert, parser);
    } else if (parser_accept_word(parser, "message")) {
        return parse_message(alert, parser);
    } else if (parser_accept_word(parser, "repeat")) {
        if (!parser_accept_word(parser, "every"))
            return parser_expected(parser, "every and a duration after repeat", "repeat every 1h");
        return parse_duration(parser, "a duration after every", &alert->repeat);
    } else if (parser_accept_word(parser, "expire")) {
        return parse_duration(parser, "a duration after expire", &alert->expire);
    } else if (parser_accept_word(parser, "by")) {
        return alert->key_count ? parser_error(parser, token, "by A, B", "by stands twice") : parse_keys(alert, parser);
    }
    *more = false;
    return 0;
}

/* Whether "no data for" is next: two words, which no condition begins with. */
static bool is_silence(const parser_t *parser) {
    const token_t *next = parser_token(parser) + 1;
    return parser_is_word(parser, "no") && next->type == TOKEN_NAME &&
           text_is(text_make(parser->diagnostics->source.data + next->at, next->size), "data");
}

static int parse_silence(alert_t *alert, parser_t *parser) {
    const token_t *first = parser_take(parser);
    parser_take(parser);
    if (!parser_accept_word(parser, "for"))
        return parser_expected(parser, "for and a duration after no data", "no data for 5m");
    if (parse_duration(parser, "a duration after for", &alert->silence) < 0)
        return -1;
    const token_t *last = parser_token(parser) - 1;
    alert->condition_text = text_make(parser->diagnostics->source.data + first->at, last->at + last->size - first->at);
    return 0;
}

static int parse_when(alert_t *alert, parser_t *parser) {
    if (!parser_accept_word(parser, "when"))
        return parser_expected(parser, "when and a condition", "alert NAME when CONDITION");
    if (is_silence(parser)) {
        if (parse_silence(alert, parser) < 0)
            return -1;
    } else {
        if (!(alert->condition = parse_condition(parser)))
            return -1;
        alert->condition_text = text_make(parser->diagnostics->source.data + alert->condition->at, alert->condition->size);
        collect(alert, alert->condition);
    }
    alert->condition_text.data = arena_copy(&parser->unit->arena, alert->condition_text.data, alert->condition_text.size);
    return 0;
}

/* The message of a silence sees the keys, and nothing else. */
static int parse_late_message(alert_t *alert, parser_t *parser) {
    scope_t keys = {.closed = true, .lenient = parser->scope->lenient}, *scope = parser->scope;
    snprintf(keys.closed_by, sizeof keys.closed_by, "beginning of a silence: only keys are known");
    for (unsigned i = 0; i < alert->key_count; i++)
        scope_bind(&keys, alert->key_names[i], SOURCE_VALUE, scope_new_value(&keys), TYPES_ANY);
    size_t at = parser->at;
    parser->at = alert->message_at;
    parser->scope = &keys;
    alert->message = template_parse(parser, "a message");
    parser->scope = scope;
    parser->at = at;
    scope_fini(&keys);
    return alert->message ? 0 : -1;
}

static int check_times(alert_t *alert, parser_t *parser, const token_t *place) {
    int64_t longest = alert->silence > alert->hold ? alert->silence : alert->hold;
    if (alert->rest > longest)
        longest = alert->rest;
    if (alert->expire <= longest)
        return parser_error(parser, place, "add expire and a longer time: a key that is silent for so long is forgotten",
                            "the times of this alert are longer than its memory");
    return 0;
}

/* A name says which alert it is: in the stream, and to those that are told of it. */
static int check_name(const alert_t *alert, program_t *program, parser_t *parser, const token_t *place) {
    for (const op_t *op = program_first(program); op; op = op->next)
        if (op->class == &op_alert && text_equal(((const alert_t *) (const void *) op)->name, alert->name))
            return parser_error(parser, place, "give one of them another name", "two alerts are named %.*s", (int) alert->name.size, alert->name.data);
    return 0;
}

static int parse_alert(alert_t *alert, program_t *program, parser_t *parser) {
    const token_t *place = parser_token(parser);
    unsigned given = 0;
    if (parse_word_raw(parser, "the alert's name", &alert->name) < 0 || check_name(alert, program, parser, place) < 0 || parse_when(alert, parser) < 0)
        return -1;
    for (bool more = true; more;)
        if (parse_part(alert, parser, &given, &more) < 0)
            return -1;
    if (!alert->key_count)
        take_window_keys(alert, program, parser, place);
    program_has_keys(program, alert->key_names, alert->key_count);
    if (alert->message_at && parse_late_message(alert, parser) < 0)
        return -1;
    return check_times(alert, parser, place);
}

static void alert_free(op_t *op) {
    alert_t *alert = (alert_t *) op;
    alarms_free(alert->alarms);
    mem_free(alert->again);
    mem_free(alert->keys);
    mem_free(alert->key_names);
    mem_free(alert->key_values);
    buf_fini(&alert->key);
    buf_fini(&alert->text);
}

static op_t *alert_parse(program_t *program, parser_t *parser) {
    alert_t *alert = op_new(program, &op_alert, sizeof *alert);
    alert->severity = text_of("warning");
    alert->expire = KEYED_EXPIRE;
    if (parse_alert(alert, program, parser) < 0) {
        alert_free(&alert->op);
        mem_free(alert);
        return NULL;
    }
    alert->stream = program_stream(program, "alerts");
    alert->alarms = alarms_new();
    alert->watermark = alert->tick_watermark = FRAME_NO_WATERMARK;
    alert->key_values = mem_zero((alert->key_count + 1) * sizeof *alert->key_values);
    if (alert->silence)
        program_wants_ticks(program, alert->silence / 8);
    program_has_side(program);
    return &alert->op;
}

static size_t alert_memory(const op_t *op) {
    return alarms_memory(((const alert_t *) op)->alarms);
}

const op_class_t op_alert = {
    .name = "alert",
    .syntax = "alert NAME when CONDITION|no data for D [for D] [clear [when CONDITION] [for D]] [repeat every D] [severity S] [by KEY, ...] [expire D] "
              "[message \"TEXT\"]",
    .help = "Writes an event to the stream alerts when the condition begins to hold, and one when it is over; the events themselves pass on. for D: it must hold in "
            "all events of that long. clear when: it stays on until this holds (without, until the first condition does not); for: until that long. no data for D: a key "
            "that had events has none for that long. repeat every D: says so again while it lasts. severity: info, warning (the default) or "
            "critical. by: one alert for each combination of the keys; behind a window its keys are taken. expire D: keys without events for that long (24h) are forgotten. "
            "The message may hold {EXPRESSION}s.",
    .parse = alert_parse,
    .event = alert_event,
    .watermark = alert_watermark,
    .tick = alert_tick,
    .save = alert_save,
    .load = alert_load,
    .memory = alert_memory,
    .free = alert_free,
};
