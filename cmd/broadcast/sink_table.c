/* The table of sinks, and making them from URLs and from config.json: their options come from the drivers' tables. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/url.h"
#include "sink.h"

extern const sink_class_t sink_stdout, sink_file, sink_sqlite, sink_http, sink_null;

const sink_class_t *const sink_table[] = {&sink_file, &sink_stdout, &sink_sqlite, &sink_http, &sink_null, NULL};

#define AT(field) offsetof(sink_settings_t, field)
static const option_t every_sink[] = {
    {"name", OPTION_TEXT, AT(name), NULL, "NAME", "what the log and the metrics call it; default its URL"},
    {"from", OPTION_LIST, AT(from), NULL, "STREAM", "streams it takes, names or patterns like temp*; default all"},
    {"queue", OPTION_SIZE, AT(queue), NULL, "SIZE", "bytes that may wait for it; default 8 MiB, less when there are many sinks or little --memory", 65536, INT64_C(1) << 40},
    {"on-full", OPTION_CHOICE, AT(on_full), "block", "block|drop_oldest|drop_newest",
     "what to do when its queue is full: hold back all that comes in, or lose events (counted)"},
    {"tag", OPTION_CHOICE, AT(tag), "auto", "auto|yes|no",
     "give each event its stream's name as @stream; auto: when it takes several streams"},
    {"replay", OPTION_TEXT, AT(replay), NULL, "LINK", "the --side input whose events go to this sink only, and are not published"},
    {0},
};
#undef AT

static size_t table_size(const option_t *table) {
    size_t n = 0;
    while (table && table[n].name)
        n++;
    return n;
}

static sink_t *sink_new(const sink_class_t *class) {
    sink_t *sink = mem_zero(sizeof *sink);
    sink->class = class;
    size_t common = table_size(every_sink), own = table_size(class->options);
    sink->options = mem_zero((common + own + 1) * sizeof *sink->options);
    memcpy(sink->options, every_sink, common * sizeof *every_sink);
    for (size_t i = 0; i < own; i++) {
        sink->options[common + i] = class->options[i];
        sink->options[common + i].offset += sizeof(sink_settings_t);
    }
    sink->settings = mem_zero(sizeof(sink_settings_t) + class->size);
    sink->own = sink->settings + 1;
    option_defaults(sink->options, sink->settings);
    return sink;
}

static void sink_free(sink_t *sink) {
    option_fini(sink->options, sink->settings);
    mem_free(sink->settings);
    mem_free(sink->options);
    option_given_fini(&sink->given);
    mem_free(sink->scheme);
    mem_free(sink->target);
    mem_free(sink->name);
    buf_fini(&sink->restored);
    mem_free(sink);
}

void sink_list_free(sink_list_t *list) {
    for (size_t i = 0; i < list->count; i++)
        sink_free(list->items[i]);
    for (size_t i = 0; i < list->defaults.count; i++)
        mem_free(list->defaults.items[i]);
    mem_free(list->defaults.items);
    mem_free(list->default_used);
    mem_free(list->items);
    *list = (sink_list_t){0};
}

static void list_add(sink_list_t *list, sink_t *sink) {
    sink->index = (unsigned) list->count;
    list->items = mem_resize(list->items, (list->count + 1) * sizeof(sink_t *));
    list->items[list->count++] = sink;
}

static bool word_in(const char *const *words, text_t word) {
    for (; words && *words; words++)
        if (text_is(word, *words))
            return true;
    return false;
}

static const sink_class_t *find_class(text_t word, bool by_type) {
    for (size_t i = 0; sink_table[i]; i++)
        if (word_in(by_type ? sink_table[i]->types : sink_table[i]->schemes, word))
            return sink_table[i];
    return NULL;
}

static int unknown_sink(text_t word, bool by_type, err_t *err) {
    buf_t known = {0};
    const char *names[32];
    size_t n = 0;
    for (size_t i = 0; sink_table[i]; i++)
        for (const char *const *w = by_type ? sink_table[i]->types : sink_table[i]->schemes; *w && n < 32; w++) {
            buf_format(&known, "%s%s", n ? ", " : "", *w);
            names[n++] = *w;
        }
    char *name = mem_text_n(word.data, word.size);
    const char *near = text_nearest(name, names, n);
    err_set(err, "no sink is called %s (known: %s)%s%s%s", name, buf_text(&known), near ? "; did you mean " : "",
            near ? near : "", near ? "?" : "");
    mem_free(name);
    buf_fini(&known);
    return -1;
}

/* "file" of "file:PATH"; empty when the URL has no scheme and so is a path. */
static text_t scheme_of(const char *url) {
    size_t size = strspn(url, "abcdefghijklmnopqrstuvwxyz0123456789+-");
    return text_make(url, url[size] == ':' ? size : 0);
}

int sink_list_option(sink_list_t *list, const char *name, const char *value, err_t *err) {
    if (list->count) {
        sink_t *sink = list->items[list->count - 1];
        const option_t *option = option_find(sink->options, text_of(name));
        if (!option)
            return err_set(err, "sink %s has no option --%s", sink->name, name);
        option_note(&sink->given, option);
        return option_set(option, sink->settings, text_of(value), err);
    }
    option_list_t *defaults = &list->defaults;
    list->default_used = mem_resize(list->default_used, defaults->count + 2);
    list->default_used[defaults->count] = false;
    defaults->items = mem_resize(defaults->items, (defaults->count + 2) * sizeof(char *));
    defaults->items[defaults->count++] = mem_text(name);
    defaults->items[defaults->count++] = mem_text(value);
    return 0;
}

static int apply_defaults(sink_list_t *list, sink_t *sink, err_t *err) {
    for (size_t i = 0; i + 1 < list->defaults.count; i += 2) {
        const option_t *option = option_find(sink->options, text_of(list->defaults.items[i]));
        if (!option)
            continue;
        list->default_used[i] = true;
        option_note(&sink->given, option);
        if (option_set(option, sink->settings, text_of(list->defaults.items[i + 1]), err))
            return -1;
    }
    return 0;
}

/* Splits the options off. A web address keeps its query; there they stand behind '#', which no server ever sees. */
static int take_target(sink_t *sink, const char *target, err_t *err) {
    if (!sink->class->whole_url)
        return option_from_query(sink->options, sink->settings, target, &sink->target, &sink->given, err);
    size_t size = strcspn(target, "#");
    sink->target = mem_text_n(target, size);
    if (!target[size])
        return 0;
    char *query = mem_format("?%s", target + size + 1), *rest = NULL;
    int result = option_from_query(sink->options, sink->settings, query, &rest, &sink->given, err);
    mem_free(query);
    mem_free(rest);
    return result;
}

/* The URL without options and secrets. */
static void name_after_url(sink_t *sink, const char *url) {
    buf_t name = {0};
    if (sink->class->whole_url)
        url_put_redacted(&name, text_of(url));
    else
        buf_put(&name, url, strcspn(url, "?"));
    sink->name = mem_text_n((const char *) name.data, name.size);
    buf_fini(&name);
}

int sink_add_url(sink_list_t *list, const char *url, err_t *err) {
    text_t scheme = scheme_of(url);
    bool dash = url[0] == '-' && (!url[1] || url[1] == '?');
    const sink_class_t *class = dash ? &sink_stdout : scheme.size ? find_class(scheme, false) : &sink_file;
    if (!class)
        return unknown_sink(scheme, false, err);
    sink_t *sink = sink_new(class);
    const char *target = url + (scheme.size ? scheme.size + 1 : dash ? 1 : 0);
    sink->scheme = mem_text_n(scheme.data, scheme.size);
    if (apply_defaults(list, sink, err) || take_target(sink, target, err)) {
        buf_t shown = {0};
        url_put_redacted(&shown, text_of(url));
        err_wrap(err, "sink %s", buf_text(&shown));
        buf_fini(&shown);
        sink_free(sink);
        return -1;
    }
    name_after_url(sink, url);
    list_add(list, sink);
    return 0;
}

static int set_json(sink_t *sink, const char *key, const json_t *value, err_t *err) {
    if (strcmp(key, "type") == 0)
        return 0;
    if (strcmp(key, "path") == 0 || strcmp(key, "url") == 0) {
        if (!json_is_string(value))
            return err_set(err, "%s takes a string", key);
        const char *text = json_string_value(value);
        text_t scheme = scheme_of(text);
        bool own_scheme = strcmp(key, "url") == 0 && word_in(sink->class->schemes, scheme);
        mem_free(sink->target);
        mem_free(sink->scheme);
        sink->scheme = own_scheme ? mem_text_n(scheme.data, scheme.size) : NULL;
        sink->target = mem_text(own_scheme ? text + scheme.size + 1 : text);
        return 0;
    }
    const option_t *option = option_find(sink->options, text_of(key));
    if (option) {
        option_note(&sink->given, option);
        return option_set_json(option, sink->settings, value, err);
    }
    const option_t *tables[] = {sink->options, NULL};
    return option_unknown(tables, text_of(key), err);
}

int sink_add_json(sink_list_t *list, const json_t *settings, err_t *err) {
    const char *name = json_string_value(json_object_get(settings, "name"));
    const char *type = json_string_value(json_object_get(settings, "type"));
    const char *url = json_string_value(json_object_get(settings, "url"));
    if (!json_is_object(settings))
        return err_set(err, "a sink is an object like {\"type\": \"file\", \"path\": \"out.ndjson\"}");
    text_t word = type ? text_of(type) : url ? scheme_of(url) : (text_t){0};
    if (!word.size)
        return err_set(err, "sink %s has no \"type\"", name ? name : "without a name");
    const sink_class_t *class = find_class(word, type != NULL);
    if (!class)
        return unknown_sink(word, type != NULL, err);
    sink_t *sink = sink_new(class);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *) settings, key, value) {
        if (set_json(sink, key, value, err)) {
            sink_free(sink);
            return err_wrap(err, "sink %s", name ? name : class->name);
        }
    }
    if (!sink->target)
        sink->target = mem_text("");
    char *whole = mem_format("%s:%s", sink->scheme ? sink->scheme : class->schemes[0], sink->target);
    name_after_url(sink, whole);
    mem_free(whole);
    list_add(list, sink);
    return 0;
}

const option_t *sink_find_option(text_t name) {
    const option_t *option = option_find(every_sink, name);
    for (size_t i = 0; sink_table[i] && !option; i++)
        if (sink_table[i]->options)
            option = option_find(sink_table[i]->options, name);
    return option;
}

void sink_list_help(FILE *out) {
    fputs("every sink has, as --NAME VALUE after it or as ?NAME=VALUE in its URL:\n", out);
    option_help(every_sink, out);
    for (size_t i = 0; sink_table[i]; i++) {
        fprintf(out, "\n%s:  %s\n", sink_table[i]->schemes[0], sink_table[i]->help);
        if (sink_table[i]->options)
            option_help(sink_table[i]->options, out);
    }
}

static json_t *words(const char *const *list) {
    json_t *array = json_array();
    for (; *list; list++)
        json_array_append_new(array, json_string(*list));
    return array;
}

json_t *sink_list_describe(void) {
    json_t *drivers = json_array();
    for (size_t i = 0; sink_table[i]; i++) {
        const sink_class_t *class = sink_table[i];
        json_t *options = option_describe(every_sink);
        json_t *own = class->options ? option_describe(class->options) : json_array();
        json_array_extend(options, own);
        json_decref(own);
        json_array_append_new(drivers, json_pack("{s:s, s:o, s:o, s:s, s:o}", "name", class->name, "schemes", words(class->schemes),
                                                 "types", words(class->types), "help", class->help, "options", options));
    }
    return drivers;
}

void sink_tables(const stage_t *stage, const option_t **tables, size_t most) {
    size_t n = 0;
    if (n < most)
        tables[n++] = every_sink;
    for (size_t i = 0; sink_table[i] && n < most; i++)
        if (sink_table[i]->options)
            tables[n++] = sink_table[i]->options;
}

static int holds(const void *argument, text_t name, text_t value) {
    const sink_t *sink = argument;
    return text_is(name, "login") ? url_has_login(sink->target) : -1;
}

static int check_sink(sink_t *sink, err_t *err) {
    const option_scope_t scope = {.tables = {sink->options}, .settings = {sink->settings}, .holds = holds, .argument = sink};
    bool good = option_check_needs(&sink->given, &scope, err) == 0 && (!sink->class->check || sink->class->check(sink, err) == 0) &&
                option_check_files(&sink->given, &scope, err) == 0;
    return good ? 0 : err_wrap(err, "sink %s", sink->name);
}

int sink_list_check(sink_list_t *list, stage_t *stage, err_t *err) {
    for (size_t i = 0; i < list->defaults.count; i += 2)
        if (!list->default_used[i])
            return err_set(err, "--%s: none of the sinks behind it has such an option", list->defaults.items[i]);
    for (size_t i = 0; i < list->count; i++) {
        sink_t *sink = list->items[i];
        sink->stage = stage;
        if (sink->settings->name) {
            mem_free(sink->name);
            sink->name = mem_text(sink->settings->name);
        }
        for (size_t k = 0; k < i; k++)
            if (strcmp(list->items[k]->name, sink->name) == 0)
                return err_set(err, "two sinks are called %s: give one another name", sink->name);
        if (check_sink(sink, err))
            return -1;
    }
    return 0;
}
