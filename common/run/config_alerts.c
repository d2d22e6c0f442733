/* alerts: rules that need no program of their own. Each becomes a pipeline of one `alert` operator; its events go to the stream "alerts", and
 * what it watches ends there. */
#include <ctype.h>
#include <string.h>

#include "base/memory.h"
#include "run/config_private.h"

typedef struct rule {
    char *name, *when, *clear, *severity, *message, *hold, *rest, *repeat, *expire;
    option_list_t from, by;
} rule_t;

#define AT(field) offsetof(rule_t, field)
static const option_t rule_options[] = {
    {"name", OPTION_TEXT, AT(name), NULL, "NAME", "name of the alert"},
    {"from", OPTION_LIST, AT(from), NULL, "STREAM", "sources and pipelines that it watches"},
    {"when", OPTION_TEXT, AT(when), NULL, "CONDITION|no data for DURATION", "fires when this holds"},
    {"for", OPTION_TEXT, AT(hold), NULL, "DURATION", "for so long"},
    {"clear-when", OPTION_TEXT, AT(clear), NULL, "CONDITION", "ends when this holds"},
    {"clear-for", OPTION_TEXT, AT(rest), NULL, "DURATION", "for so long"},
    {"repeat-every", OPTION_TEXT, AT(repeat), NULL, "DURATION", "says so again while it lasts"},
    {"expire", OPTION_TEXT, AT(expire), NULL, "DURATION", "keys without events for so long are forgotten"},
    {"by", OPTION_LIST, AT(by), NULL, "FIELD", "fields that tell alerts apart"},
    {"severity", OPTION_TEXT, AT(severity), NULL, "info|warning|critical", "how bad it is"},
    {"message", OPTION_TEXT, AT(message), NULL, "TEXT", "what it says; {field} is filled in"},
    {0},
};

/* A text of the language; an alert's message keeps its {fields}. */
static void put_literal(buf_t *out, const char *text) {
    buf_put_byte(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_put_byte(out, '\\');
        buf_put_byte(out, (uint8_t) ((unsigned char) *text < ' ' ? ' ' : *text));
    }
    buf_put_byte(out, '"');
}

/* The condition stands right behind *skip bytes, for the places of its errors; its lines become one. */
static char *program_of(const rule_t *rule, size_t *skip) {
    buf_t out = {0};
    buf_format(&out, "alert %s when ", rule->name);
    *skip = out.size;
    for (const char *c = rule->when; *c; c++)
        buf_put_byte(&out, (uint8_t) (*c == '\n' || *c == '\r' ? ' ' : *c));
    if (rule->hold)
        buf_format(&out, " for %s", rule->hold);
    if (rule->clear || rule->rest)
        buf_put_text(&out, " clear");
    if (rule->clear)
        buf_format(&out, " when %s", rule->clear);
    if (rule->rest)
        buf_format(&out, " for %s", rule->rest);
    if (rule->repeat)
        buf_format(&out, " repeat every %s", rule->repeat);
    if (rule->expire)
        buf_format(&out, " expire %s", rule->expire);
    for (size_t i = 0; i < rule->by.count; i++)
        buf_format(&out, "%s%s", i ? ", " : " by ", rule->by.items[i]);
    if (rule->severity)
        buf_format(&out, " severity %s", rule->severity);
    if (rule->message) {
        buf_put_text(&out, " message ");
        put_literal(&out, rule->message);
    }
    buf_put_text(&out, "\n| where false");
    char *program = mem_text(buf_text(&out));
    buf_fini(&out);
    return program;
}

static bool word_valid(const char *word) {
    for (const char *c = word; *c; c++)
        if (!isalnum((unsigned char) *c) && *c != '_')
            return false;
    return *word && !isdigit((unsigned char) *word) && strlen(word) < CONFIG_NAME_MAX - 6;
}

static void read_rule(checker_t *checker, const json_t *object, const char *pointer) {
    config_t *config = checker->config;
    rule_t rule = {0};
    size_t before = checker->errors->count;
    checker_section(checker, object, pointer, rule_options, &rule, NULL);
    if (!rule.name || !word_valid(rule.name))
        checker_error(checker, rule.name ? checker_member(checker, pointer, "name") : pointer,
                      "an alert needs a \"name\" of letters, digits and _, not beginning with a digit");
    if (!rule.when)
        checker_error(checker, pointer, "an alert needs a condition: \"when\": \"temperature > 80\"");
    if (!rule.from.count)
        checker_error(checker, pointer, "an alert needs \"from\": the sources and pipelines that it watches");
    if (checker->errors->count == before) {
        config_pipeline_t *pipeline = &config->pipelines[config->pipeline_count];
        *pipeline = (config_pipeline_t){.publish = true, .workers = 1, .settings = json_object()};
        char *name = mem_format("alert-%s", rule.name);
        bool named = checker_new_name(checker, name, checker_member(checker, pointer, "name"));
        config->pipeline_count++;
        pipeline->name = named ? name : NULL;
        if (!named)
            mem_free(name);
        pipeline->program = program_of(&rule, &pipeline->skip);
        pipeline->pointer = mem_text(checker_member(checker, pointer, "when"));
        checker_resolve_from(checker, pipeline, &rule.from, json_object_get(object, "from"), checker_member(checker, pointer, "from"));
    }
    option_fini(rule_options, &rule);
}

void checker_alerts(checker_t *checker, const json_t *list) {
    if (!list)
        return;
    if (!json_is_array(list)) {
        checker_error(checker, "/alerts", "alerts is an array of objects: [{\"name\": ..., \"from\": ..., \"when\": ...}, ...]");
        return;
    }
    config_t *config = checker->config;
    config->pipelines = mem_resize(config->pipelines, (config->pipeline_count + json_array_size(list) + 1) * sizeof *config->pipelines);
    for (size_t i = 0; i < json_array_size(list); i++)
        read_rule(checker, json_array_get(list, i), checker_element(checker, "/alerts", i));
}
