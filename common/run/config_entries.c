/* data_sources and sinks: which driver each one means, and its options against the driver's own declaration. */
#include <fnmatch.h>
#include <string.h>

#include "base/memory.h"
#include "data/frame.h"
#include "run/config_private.h"

typedef struct entry {
    char *name, *type, *url, *path;
    bool publish, autostart;
    option_list_t from;
} entry_t;

#define AT(field) offsetof(entry_t, field)
static const option_t source_options[] = {
    {"name", OPTION_TEXT, AT(name), NULL, "NAME", "name of the source and of its stream"},
    {"type", OPTION_TEXT, AT(type), NULL, "TYPE", "what kind of source"},
    {"url", OPTION_TEXT, AT(url), NULL, "URL", "where it is"},
    {"path", OPTION_TEXT, AT(path), NULL, "PATH", "the same, for files"},
    {"publish", OPTION_BOOL, AT(publish), "true", NULL, "goes to the sinks and subscribers"},
    {"autostart", OPTION_BOOL, AT(autostart), "true", NULL, "started with the others"},
    {0},
};
static const option_t sink_options[] = {
    {"name", OPTION_TEXT, AT(name), NULL, "NAME", "name of the sink"},
    {"type", OPTION_TEXT, AT(type), NULL, "TYPE", "what kind of sink"},
    {"url", OPTION_TEXT, AT(url), NULL, "URL", "where it is"},
    {"path", OPTION_TEXT, AT(path), NULL, "PATH", "the same, for files"},
    {"from", OPTION_LIST, AT(from), NULL, "STREAM", "names of streams, or patterns; default: all"},
    {0},
};

/* Options of every stage that are streamctl's own business. */
static bool is_reserved(const char *name) {
    static const char *const names[] = {"from", "to", "metrics", "ready-fd", "stay", "drain-limit", "settings", "check", "sample", "sample-wait",
                                        "state", "reset", "side", "replay", NULL};
    for (size_t i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

bool config_name_valid(const char *name, err_t *err) {
    static const char *const taken[] = {"broadcast", "facade", "supervisor", NULL};
    size_t size = strlen(name);
    if (!size || size > CONFIG_NAME_MAX || !frame_topic_valid(name, size) || strchr(".-", *name)) {
        err_set(err, "a name has 1 to %d of the characters A-Z a-z 0-9 _ . - and does not start with . or -", CONFIG_NAME_MAX);
        return false;
    }
    for (size_t i = 0; taken[i]; i++) {
        if (strcmp(taken[i], name) == 0) {
            err_set(err, "the name \"%s\" is reserved", name);
            return false;
        }
    }
    return true;
}

bool checker_new_name(checker_t *checker, const char *name, const char *pointer) {
    const config_t *config = checker->config;
    err_t err = {{0}};
    if (!config_name_valid(name, &err)) {
        checker_error(checker, pointer, "%s", err.text);
        config_option_list_add(&checker->refused, name);
        return false;
    }
    bool taken = false;
    for (size_t i = 0; i < config->source_count; i++)
        taken |= config->sources[i].name && strcmp(config->sources[i].name, name) == 0;
    for (size_t i = 0; i < config->pipeline_count; i++)
        taken |= config->pipelines[i].name && strcmp(config->pipelines[i].name, name) == 0;
    if (taken)
        checker_error(checker, pointer, "the name \"%s\" is taken: sources and pipelines need different names", name);
    return !taken;
}

/* Where a driver's words begin: of all, or of the schemes alone. */
static size_t first_word(const config_driver_t *driver, bool schemes) {
    return schemes && driver->scheme_count <= driver->word_count ? driver->word_count - driver->scheme_count : 0;
}

/* "a, b, c" of a tool's drivers: the words for "type", or the schemes. */
static void put_known(buf_t *out, const config_tool_t *tool, bool schemes) {
    for (size_t i = 0; i < tool->driver_count; i++) {
        size_t first = first_word(&tool->drivers[i], schemes);
        for (size_t w = first; w < tool->drivers[i].word_count; w++) {
            bool seen = false;
            for (size_t v = first; v < w; v++)
                seen |= strcmp(tool->drivers[i].words[v], tool->drivers[i].words[w]) == 0;
            if (!seen)
                buf_format(out, "%s%s", out->size ? ", " : "", tool->drivers[i].words[w]);
        }
    }
}

static void unknown_word(checker_t *checker, const config_tool_t *tool, const char *pointer, bool scheme, const char *word) {
    const char *words[256];
    size_t n = 0;
    for (size_t i = 0; i < tool->driver_count; i++)
        for (size_t w = first_word(&tool->drivers[i], scheme); w < tool->drivers[i].word_count && n < 256; w++)
            words[n++] = tool->drivers[i].words[w];
    const char *nearest = text_nearest(word, words, n);
    buf_t known = {0}, quoted = {0};
    put_known(&known, tool, scheme);
    text_put_quoted(&quoted, text_of(word), 60);
    checker_error(checker, pointer, "unknown %s %s%s%s%s; known: %s", scheme ? "URL scheme" : "type", buf_text(&quoted), nearest ? "; did you mean \"" : "",
                  nearest ? nearest : "", nearest ? "\"?" : "", buf_text(&known));
    buf_fini(&known);
    buf_fini(&quoted);
}

/* The scheme of a URL, or "file" for a plain path. The caller frees. */
static char *scheme_of(const char *url) {
    size_t n = strspn(url, "abcdefghijklmnopqrstuvwxyz0123456789+.-");
    return n && url[n] == ':' ? mem_text_n(url, n) : mem_text("file");
}

/* The driver that an entry means; NULL with an error reported, or without a description of the tool. */
static const config_driver_t *driver_of(checker_t *checker, const config_tool_t *tool, const entry_t *entry, const char *pointer) {
    const char *where = entry->url ? entry->url : entry->path;
    if (!entry->type && !where) {
        checker_error(checker, pointer, "a \"type\" or a \"url\" is needed");
        return NULL;
    }
    if (entry->url && entry->path)
        checker_error_key(checker, checker_member(checker, pointer, "path"), "\"url\" and \"path\" mean the same: give one of them");
    if (!tool)
        return NULL;
    if (entry->type) {
        const config_driver_t *driver = config_driver_find(tool, entry->type);
        if (!driver)
            unknown_word(checker, tool, checker_member(checker, pointer, "type"), false, entry->type);
        return driver;
    }
    char *scheme = scheme_of(where);
    const config_driver_t *driver = config_driver_find(tool, scheme);
    if (!driver)
        unknown_word(checker, tool, checker_member(checker, pointer, entry->url ? "url" : "path"), true, scheme);
    mem_free(scheme);
    return driver;
}

/* One option of a driver or of its tool; the value stays in the settings as JSON, this only checks it. */
static void check_driver_option(checker_t *checker, const config_driver_t *driver, const config_tool_t *tool, const option_t *own,
                                const json_t *entry, const char *key, const json_t *value, const char *pointer, const char *where) {
    static const option_t none[] = {{0}};
    const option_t *option = option_find(driver->options, text_of(key));
    if (!option && tool)
        option = option_find(tool->options, text_of(key));
    if (!option) {
        const option_t *const tables[] = {own, driver->options, tool ? tool->options : none, NULL};
        checker_unknown(checker, pointer, key, where, tables, NULL);
        return;
    }
    if (is_reserved(option->name)) {
        checker_error_key(checker, pointer, "\"%s\" is set by streamctl itself", key);
        return;
    }
    if (!option_find(driver->options, text_of(key)) && !checker_needs(checker, option, entry, pointer))
        return;
    union {
        char bytes[sizeof(option_list_t)];
        int64_t integer;
        void *pointer;
    } scratch;
    memset(&scratch, 0, sizeof scratch);
    option_t one[2] = {*option, {0}};
    checker_option(checker, option, &scratch, value, pointer, key);
    option_fini(one, &scratch);
}

/* Without a driver: what is an option of none is misspelt, perhaps just the word that would have told the driver. */
static void check_orphan(checker_t *checker, const config_tool_t *tool, const option_t *own, const char *key, const char *pointer,
                         const char *where) {
    bool known = option_find(tool->options, text_of(key)) != NULL;
    for (size_t i = 0; i < tool->driver_count && !known; i++)
        known = option_find(tool->drivers[i].options, text_of(key)) != NULL;
    const option_t *const tables[] = {own, NULL};
    if (!known)
        checker_unknown(checker, pointer, key, where, tables, NULL);
}

/* What differs between the two kinds of entries. */
typedef struct kind {
    const char *word;
    const option_t *own;
    const config_tool_t *tool;
    bool tool_options;                /* the tool's options may be given per entry */
} kind_t;

/* One entry: its own members into *entry, all that the stage needs into the settings that are returned. */
static json_t *read_entry(checker_t *checker, const kind_t *kind, const json_t *object, const char *pointer, entry_t *entry,
                          const config_driver_t **driver) {
    char where[200];
    const char *name = json_string_value(json_object_get(object, "name"));
    snprintf(where, sizeof where, "%s \"%.100s\"", kind->word, name ? name : "");
    if (!name)
        snprintf(where, sizeof where, "this %s", kind->word);
    option_defaults(kind->own, entry);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *) object, key, value) {
        const option_t *option = option_find(kind->own, text_of(key));
        if (option)
            checker_option(checker, option, entry, value, checker_member(checker, pointer, key), key);
    }
    *driver = driver_of(checker, kind->tool, entry, pointer);
    json_t *settings = json_object();
    json_object_foreach((json_t *) object, key, value) {
        const char *at = checker_member(checker, pointer, key);
        bool own = option_find(kind->own, text_of(key)) != NULL;
        if (checker_is_comment(key) || (own && strcmp(key, "type") != 0 && strcmp(key, "url") != 0 && strcmp(key, "path") != 0))
            continue;
        size_t before = checker->errors->count;
        if (!own && *driver)
            check_driver_option(checker, *driver, kind->tool_options ? kind->tool : NULL, kind->own, object, key, value, at, where);
        else if (!own && kind->tool)
            check_orphan(checker, kind->tool, kind->own, key, at, where);
        if (checker->errors->count > before)
            continue;
        json_t *filled = config_fill_in(checker, value, at);
        if (filled)
            json_object_set_new(settings, key, filled);
    }
    return settings;
}

static bool is_list(checker_t *checker, const json_t *list, const char *pointer) {
    if (json_is_array(list))
        return true;
    checker_error(checker, pointer, "%s is an array of objects: [{...}, ...]", pointer + 1);
    return false;
}

static bool is_entry(checker_t *checker, const json_t *object, const char *pointer) {
    if (json_is_object(object))
        return true;
    checker_error(checker, pointer, "an object is expected: {\"name\": ..., ...}");
    return false;
}

static void read_source(checker_t *checker, const json_t *object, const char *pointer) {
    const config_tool_t *tool = checker->tools->ingest;
    kind_t kind = {"source", source_options, tool, true};
    config_t *config = checker->config;
    entry_t entry = {0};
    size_t before = checker->errors->count;
    const config_driver_t *driver;
    json_t *settings = read_entry(checker, &kind, object, pointer, &entry, &driver);
    bool named = false;
    if (!entry.name)
        checker_error(checker, pointer, "a source needs a \"name\"");
    else
        named = checker_new_name(checker, entry.name, checker_member(checker, pointer, "name"));
    config_source_t *source = &config->sources[config->source_count++];
    *source = (config_source_t){.publish = entry.publish, .autostart = entry.autostart, .settings = settings};
    source->type = entry.type ? mem_text(entry.type) : driver ? mem_text(driver->name) : NULL;
    source->takes_interval = driver && (option_find(driver->options, text_of("interval")) ||
                                        option_find(tool->options, text_of("interval")));
    if (named)
        source->name = mem_text(entry.name);
    source->pointer = mem_text(pointer);
    source->good = checker->errors->count == before;
    option_fini(source_options, &entry);
}

void checker_sources(checker_t *checker, const json_t *list) {
    if (!list) {
        checker_error(checker, "", "\"data_sources\" is missing: where does the data come from?");
        return;
    }
    if (!is_list(checker, list, "/data_sources"))
        return;
    if (!json_array_size(list))
        checker_error(checker, "/data_sources", "at least one source is needed");
    checker->config->sources = mem_zero((json_array_size(list) + 1) * sizeof *checker->config->sources);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *pointer = checker_element(checker, "/data_sources", i);
        if (is_entry(checker, json_array_get(list, i), pointer))
            read_source(checker, json_array_get(list, i), pointer);
    }
}

/* A stream that will exist, as far as that can be told: a stage, a side stream of one, or a name that a program mentions. */
static bool stream_known(const config_t *config, const char *name) {
    if (strpbrk(name, "*?["))
        return true;
    const char *dot = strchr(name, '.');
    for (size_t i = 0; i < config->source_count; i++)
        if (config->sources[i].name && (strcmp(config->sources[i].name, name) == 0 ||
                                        (dot && text_starts(name, config->sources[i].name) && text_ends(name, ".devices"))))
            return true;
    for (size_t i = 0; i < config->pipeline_count; i++) {
        const config_pipeline_t *pipeline = &config->pipelines[i];
        if (pipeline->name && (strcmp(pipeline->name, name) == 0 || (dot && text_starts(name, pipeline->name))))
            return true;
        if (pipeline->program && strstr(pipeline->program, name))
            return true;
    }
    return strcmp(name, "alerts") == 0;
}

bool checker_name_refused(const checker_t *checker, const char *name) {
    for (size_t i = 0; i < checker->refused.count; i++)
        if (strcmp(checker->refused.items[i], name) == 0)
            return true;
    return false;
}

static void check_sink_from(checker_t *checker, const option_list_t *from, const json_t *value, const char *pointer) {
    const config_t *config = checker->config;
    const char *names[256];
    size_t n = 0;
    for (size_t i = 0; i < config->source_count && n < 256; i++)
        if (config->sources[i].name)
            names[n++] = config->sources[i].name;
    for (size_t i = 0; i < config->pipeline_count && n < 256; i++)
        if (config->pipelines[i].name)
            names[n++] = config->pipelines[i].name;
    for (size_t i = 0; i < from->count; i++) {
        if (stream_known(config, from->items[i]) || checker_name_refused(checker, from->items[i]))
            continue;
        const char *at = json_is_array(value) ? checker_element(checker, pointer, i) : pointer;
        const char *nearest = text_nearest(from->items[i], names, n);
        buf_t quoted = {0};
        text_put_quoted(&quoted, text_of(from->items[i]), 60);
        checker_error(checker, at, "no stream is called %s%s%s%s", buf_text(&quoted), nearest ? "; did you mean \"" : "",
                      nearest ? nearest : "", nearest ? "\"?" : "");
        buf_fini(&quoted);
    }
}

static void read_sink(checker_t *checker, const json_t *object, const char *pointer) {
    kind_t kind = {"sink", sink_options, checker->tools->broadcast, false};
    config_t *config = checker->config;
    entry_t entry = {0};
    size_t before = checker->errors->count;
    const config_driver_t *driver;
    json_t *settings = read_entry(checker, &kind, object, pointer, &entry, &driver);
    config_sink_t *sink = &config->sinks[config->sink_count];
    sink->name = entry.name ? mem_text(entry.name)
                            : mem_format("%s-%zu", entry.type ? entry.type : driver ? driver->name : "sink", config->sink_count + 1);
    err_t err = {{0}};
    if (entry.name && !config_name_valid(entry.name, &err))
        checker_error(checker, checker_member(checker, pointer, "name"), "%s", err.text);
    for (size_t i = 0; i < config->sink_count; i++)
        if (strcmp(config->sinks[i].name, sink->name) == 0)
            checker_error(checker, checker_member(checker, pointer, "name"), "two sinks are called \"%s\"", sink->name);
    const json_t *from = json_object_get(object, "from");
    check_sink_from(checker, &entry.from, from, checker_member(checker, pointer, "from"));
    json_object_set_new(settings, "name", json_string(sink->name));
    if (entry.from.count) {
        json_t *streams = json_array();
        for (size_t i = 0; i < entry.from.count; i++)
            json_array_append_new(streams, json_string(entry.from.items[i]));
        json_object_set_new(settings, "from", streams);
    }
    sink->settings = settings;
    sink->pointer = mem_text(pointer);
    sink->good = checker->errors->count == before;
    config->sink_count++;
    option_fini(sink_options, &entry);
}

void checker_sinks(checker_t *checker, const json_t *list) {
    if (!list || !is_list(checker, list, "/sinks"))
        return;
    checker->config->sinks = mem_zero((json_array_size(list) + 1) * sizeof *checker->config->sinks);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *pointer = checker_element(checker, "/sinks", i);
        if (is_entry(checker, json_array_get(list, i), pointer))
            read_sink(checker, json_array_get(list, i), pointer);
    }
}
