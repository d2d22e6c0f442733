/* config.json as a whole: the file, its syntax, its sections. Lists of entries are checked by config_entries.c and
 * config_pipelines.c. Checking goes on after an error, so that the user sees all of them at once. */
#include "run/config.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/unicode.h"
#include "data/frame.h"
#include "run/config_private.h"

#define SECONDS(n) (INT64_C(1000000000) * (n))

static const option_t stream_options[] = {
    {"buffer-size", OPTION_INT, offsetof(config_stream_t, buffer_size), NULL, "N", "events held per link before backpressure", 1,
     1000000000},
    {"batch-size", OPTION_INT, offsetof(config_stream_t, batch_size), NULL, "N", "events in a frame at most", 1, 10000000},
    {"processing-interval", OPTION_DURATION, offsetof(config_stream_t, processing_interval), NULL, "SECONDS",
     "how often metrics are sent to watchers", SECONDS(1) / 10, SECONDS(3600)},
    {"max-connections", OPTION_INT, offsetof(config_stream_t, max_connections), NULL, "N", "WebSocket clients at most", 1, 100000},
    {0},
};

static const option_t server_options[] = {
    {"enabled", OPTION_BOOL, offsetof(config_server_t, enabled), "true", NULL, "REST, WebSocket and dashboard"},
    {"listen", OPTION_TEXT, offsetof(config_server_t, listen), "127.0.0.1", "ADDRESS", "address to listen on"},
    {"port", OPTION_INT, offsetof(config_server_t, port), "5000", "N", "port; 0: any free one", 0, 65535},
    {"token", OPTION_SECRET, offsetof(config_server_t, token), NULL, "TOKEN", "what state-changing calls must bring"},
    {"token-file", OPTION_TEXT, offsetof(config_server_t, token_file), NULL, "PATH", "file that holds the token"},
    {"origins", OPTION_LIST, offsetof(config_server_t, origins), NULL, "ORIGIN", "web origins allowed beside our own"},
    {0},
};

static const option_t limit_options[] = {
    {"ready", OPTION_DURATION, offsetof(config_limits_t, ready), "30s", "DURATION", "for a stage to become ready", SECONDS(1) / 10,
     SECONDS(3600)},
    {"drain", OPTION_DURATION, offsetof(config_limits_t, drain), "10s", "DURATION", "for a stage to drain, then it is terminated",
     SECONDS(1) / 10, SECONDS(3600)},
    {"kill", OPTION_DURATION, offsetof(config_limits_t, kill), "5s", "DURATION", "for a terminated stage to leave, then it is killed",
     SECONDS(1) / 10, SECONDS(3600)},
    {"restarts", OPTION_INT, offsetof(config_limits_t, restarts), "5", "N", "quick failures in a row until it gives up; 0: never", 0,
     1000000},
    {"log-size", OPTION_SIZE, offsetof(config_limits_t, log_size), "4MiB", "SIZE", "a stage's log file, then it is renamed to .1", 4096,
     INT64_C(1) << 40},
    {"memory", OPTION_SIZE, offsetof(config_limits_t, memory), NULL, "SIZE", "what a stage may take for windows, queues and buffers", 8 << 20,
     INT64_MAX / 2},
    {0},
};

const option_t config_delivery_options[] = {
    {"batch-size", OPTION_INT, 0, NULL, "N", "events in a frame at most", 1, 10000000},
    {"batch-bytes", OPTION_SIZE, 0, NULL, "SIZE", "bytes in a frame at most", 1024, 1 << 30},
    {"flush", OPTION_DURATION, 0, NULL, "DURATION", "a frame leaves at the latest this long after its first event", 0, SECONDS(3600)},
    {"on-full", OPTION_CHOICE, 0, NULL, "block|drop_oldest|drop_newest", "what to do when a link is full"},
    {"window", OPTION_SIZE, 0, NULL, "SIZE", "bytes sent and not yet acknowledged at most, per link", 65536, INT64_C(1) << 40},
    {"dead-letter", OPTION_TEXT, 0, NULL, "PATH", "where events go that cannot be used"},
    {"dead-letter-limit", OPTION_SIZE, 0, NULL, "SIZE", "size of a dead-letter file", 4096, INT64_MAX, .needs = "dead-letter or state-dir"},
    {"sync", OPTION_CHOICE, 0, NULL, "always|interval|none", "when what is in state_dir counts as safe from loss of power", .needs = "state-dir"},
    {"sync-interval", OPTION_DURATION, 0, NULL, "DURATION", "how soon, with sync interval", SECONDS(1) / 1000, SECONDS(60), .needs = "state-dir, sync=interval"},
    {"spool-limit", OPTION_SIZE, 0, NULL, "SIZE", "bytes of a stage's log at most; then on_full applies", 1 << 20, INT64_MAX / 2, .needs = "state-dir"},
    {"snapshot", OPTION_DURATION, 0, NULL, "DURATION", "how often a pipeline's state is written", SECONDS(1) / 100, SECONDS(86400), .needs = "state-dir"},
    {0},
};

typedef struct top {
    char *name, *state_dir;
    int log_level;
} top_t;
static const option_t top_options[] = {
    {"name", OPTION_TEXT, offsetof(top_t, name), NULL, "NAME", "name of the whole; default: the file's name"},
    {"log-level", OPTION_CHOICE, offsetof(top_t, log_level), "info", "error|warning|info|debug", "how much is logged"},
    {"state-dir", OPTION_TEXT, offsetof(top_t, state_dir), NULL, "PATH", "where stages keep their state"},
    {0},
};

const char *checker_member(checker_t *checker, const char *base, const char *key) {
    size_t size = strlen(base) + strlen(key) + 2;
    char *pointer = arena_alloc(&checker->arena, size);
    snprintf(pointer, size, "%s/%s", base, key);
    return pointer;
}

const char *checker_element(checker_t *checker, const char *base, size_t index) {
    char number[24];
    snprintf(number, sizeof number, "%zu", index);
    return checker_member(checker, base, number);
}

static void report(checker_t *checker, const char *pointer, bool key, const char *format, va_list arguments) {
    char text[1024];
    vsnprintf(text, sizeof text, format, arguments);
    config_errors_add(checker->errors, config_locate(checker->text, pointer, key), "%s", text);
}

void checker_error(checker_t *checker, const char *pointer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    report(checker, pointer, false, format, arguments);
    va_end(arguments);
}

void checker_error_key(checker_t *checker, const char *pointer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    report(checker, pointer, true, format, arguments);
    va_end(arguments);
}

/* Keys that hold remarks: JSON has no other place for them. */
bool checker_is_comment(const char *key) {
    return strcmp(key, "comment") == 0 || strcmp(key, "$schema") == 0 || text_starts(key, "//");
}

void checker_unknown(checker_t *checker, const char *pointer, const char *key, const char *where, const option_t *const *tables,
                     const char *const *words) {
    const char *names[256];
    size_t n = 0;
    for (; *tables; tables++)
        for (const option_t *option = *tables; option->name && n < 256; option++)
            names[n++] = option->name;
    for (; words && *words && n < 256; words++)
        names[n++] = *words;
    const char *nearest = text_nearest(key, names, n);
    buf_t text = {0};
    buf_put_text(&text, "unknown key ");
    text_put_quoted(&text, text_of(key), 60);
    buf_format(&text, " in %s", where);
    if (nearest) {
        buf_put_text(&text, "; did you mean \"");
        for (const char *c = nearest; *c; c++)
            buf_put_byte(&text, (uint8_t) (*c == '-' ? '_' : *c));
        buf_put_text(&text, "\"?");
    }
    checker_error_key(checker, pointer, "%s", buf_text(&text));
    buf_fini(&text);
}

bool checker_option(checker_t *checker, const option_t *option, void *settings, const json_t *value, const char *pointer,
                    const char *key) {
    err_t err = {{0}};
    bool filled_in = config_has_reference(value);
    json_t *filled = config_fill_in(checker, value, pointer);
    if (!filled)
        return false;
    bool good = option_set_json(option, settings, filled, &err) == 0;
    json_decref(filled);
    if (good)
        return true;
    const char *reason = err.text; /* begins with the option's own name */
    if (text_starts(reason, option->name))
        reason += strlen(option->name);
    if (filled_in || option->type == OPTION_SECRET) /* the reason may quote the value */
        reason = ": the value that is filled in does not suit";
    checker_error(checker, pointer, "\"%s\"%s%s", key, *reason == ':' ? "" : " ", *reason == ' ' ? reason + 1 : reason);
    return false;
}

void checker_section(checker_t *checker, const json_t *object, const char *pointer, const option_t *table, void *settings,
                     const char *const *ignored) {
    const char *where = *pointer ? pointer + 1 : "the file";
    if (!json_is_object(object)) {
        checker_error(checker, pointer, "%s is an object: {...}", where);
        return;
    }
    const option_t *const tables[] = {table, NULL};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *) object, key, value) {
        bool known = checker_is_comment(key);
        for (size_t i = 0; ignored && ignored[i]; i++)
            known |= strcmp(ignored[i], key) == 0;
        if (known)
            continue;
        const char *at = checker_member(checker, pointer, key);
        const option_t *option = option_find(table, text_of(key));
        if (option)
            checker_option(checker, option, settings, value, at, key);
        else
            checker_unknown(checker, at, key, where, tables, ignored);
    }
}

static bool loopback(const char *address) {
    return text_starts(address, "127.") || strcmp(address, "::1") == 0 || strcmp(address, "localhost") == 0;
}

static void check_server(checker_t *checker, const json_t *object) {
    config_server_t *server = &checker->config->server;
    option_defaults(server_options, server);
    if (object)
        checker_section(checker, object, "/server", server_options, server, NULL);
    if (server->token && server->token_file)
        checker_error_key(checker, "/server/token_file", "\"token\" and \"token_file\" exclude each other");
    if (server->token_file && !server->token) {
        json_t *reference = json_pack("{s:s}", "file", server->token_file);
        json_t *filled = config_fill_in(checker, reference, "/server/token_file");
        if (filled)
            server->token = mem_text(json_string_value(filled));
        json_decref(filled);
        json_decref(reference);
        if (server->token && !*server->token)
            checker_error(checker, "/server/token_file", "the token file is empty");
    }
    if (server->enabled && server->listen && !loopback(server->listen) && !(server->token && *server->token))
        checker_error(checker, "/server/listen",
                      "listening on %s, beyond this machine, needs a \"token\" or \"token_file\"", server->listen);
}

/* Under the one spelling that the settings of stages have. */
static void set_delivery(json_t *delivery, const char *name, json_t *value) {
    char key[32];
    snprintf(key, sizeof key, "%s", name);
    for (char *c = key; *c; c++)
        *c = (char) (*c == '-' ? '_' : *c);
    json_object_set_new(delivery, key, value);
}

typedef struct needs {
    const config_t *config;
    const json_t *entry;
} needs_t;

/* What an entry says of delivery's options, or else delivery itself. */
static bool holds(const void *argument, text_t name, text_t value) {
    const needs_t *needs = argument;
    if (text_is(name, "state-dir"))
        return needs->config->state_dir != NULL;
    char *key = mem_text_n(name.data, name.size);
    const json_t *said = json_object_get(needs->entry, key);
    for (char *c = key; *c; c++)
        *c = (char) (*c == '-' ? '_' : *c);
    if (!said)
        said = json_object_get(needs->entry, key);
    if (!said)
        said = json_object_get(needs->config->delivery, key);
    mem_free(key);
    if (!value.data)
        return said != NULL;
    return !said || (json_is_string(said) && text_is(value, json_string_value(said))); /* sync is interval unless it is said otherwise */
}

/* What says how state is kept means nothing without a place for it, and the like. */
bool checker_needs(checker_t *checker, const option_t *option, const json_t *entry, const char *pointer) {
    const option_t *declared = option_find(config_delivery_options, text_of(option->name));
    needs_t needs = {checker->config, entry};
    err_t err = {{0}};
    if (!declared || option_check_needs_json(declared, holds, &needs, &err) == 0)
        return true;
    bool state = strstr(err.text, "state_dir") != NULL;
    checker_error_key(checker, pointer, "%s%s", err.text, state && !strstr(err.text, " or ") ? ": without one everything is kept in memory" : "");
    return false;
}

static void check_delivery(checker_t *checker, const json_t *object) {
    if (!object)
        return;
    union {
        char bytes[16];
        int64_t integer;
        void *pointer;
    } scratch;
    const char *key;
    json_t *value;
    const option_t *const tables[] = {config_delivery_options, NULL};
    if (!json_is_object(object)) {
        checker_error(checker, "/delivery", "delivery is an object: {...}");
        return;
    }
    json_object_foreach((json_t *) object, key, value) {
        if (checker_is_comment(key))
            continue;
        const char *pointer = checker_member(checker, "/delivery", key);
        const option_t *option = option_find(config_delivery_options, text_of(key));
        if (!option) {
            checker_unknown(checker, pointer, key, "delivery", tables, NULL);
            continue;
        }
        if (!checker_needs(checker, option, object, pointer))
            continue;
        memset(&scratch, 0, sizeof scratch);
        option_t one[2] = {*option, {0}};
        if (checker_option(checker, option, &scratch, value, pointer, key))
            set_delivery(checker->config->delivery, option->name, config_fill_in(checker, value, pointer));
        option_fini(one, &scratch);
    }
}

/* Absolute, so that it means the same wherever it is read. */
static void set_state_dir(checker_t *checker, char *path) {
    config_t *config = checker->config;
    if (path && !*path)
        checker_error(checker, "/state_dir", "\"state_dir\" is a path");
    else if (path)
        config->state_dir = *path == '/' ? mem_text(path) : mem_format("%s/%s", config->directory, path);
    mem_free(path);
}

static void check_top(checker_t *checker, const json_t *root) {
    static const char *const sections[] = {"stream_config", "data_sources", "pipelines", "sinks", "server", "delivery", "limits", "alerts", NULL};
    config_t *config = checker->config;
    top_t top = {0};
    option_defaults(top_options, &top);
    checker_section(checker, root, "", top_options, &top, sections);
    config->log_level = top.log_level;
    set_state_dir(checker, top.state_dir);
    if (top.name) {
        err_t err = {{0}};
        if (config_name_valid(top.name, &err)) {
            mem_free(config->name);
            config->name = top.name;
        } else {
            checker_error(checker, "/name", "%s", err.text);
            mem_free(top.name);
        }
    }
    const json_t *section = json_object_get(root, "stream_config");
    if (section)
        checker_section(checker, section, "/stream_config", stream_options, &config->stream, NULL);
    option_defaults(limit_options, &config->limits);
    if ((section = json_object_get(root, "limits")))
        checker_section(checker, section, "/limits", limit_options, &config->limits, NULL);
    check_delivery(checker, json_object_get(root, "delivery"));
    check_server(checker, json_object_get(root, "server"));
    checker_sources(checker, json_object_get(root, "data_sources"));
    checker_pipelines(checker, json_object_get(root, "pipelines"));
    checker_alerts(checker, json_object_get(root, "alerts"));
    checker_readers(checker);
    checker_sinks(checker, json_object_get(root, "sinks"));
}

/* What people write who do not write JSON every day. */
static const char *syntax_hint(text_t text, size_t at) {
    while (at && strchr(" \t\r\n", text.data[at - 1]))
        at--;
    if (at && (text.data[at - 1] == ',' || (at > 1 && strchr("]}", text.data[at - 1]) && text.data[at - 2] == ',')))
        return " (no comma after the last member)";
    return "";
}

static void syntax_error(checker_t *checker, const json_error_t *error) {
    size_t at = error->position > 0 ? (size_t) error->position : 0;
    if (at > checker->text.size)
        at = checker->text.size;
    const char *near = strstr(error->text, " near '");
    size_t token = near ? strlen(near + 7) - 1 : 0;
    const char *hint = "";
    if (near && (near[7] == '}' || near[7] == ']'))
        hint = syntax_hint(checker->text, at - (token <= at ? token : 0));
    else if (near && near[7] == '\'')
        hint = " (texts stand in double quotes)";
    else if (near && near[7] == '/')
        hint = " (JSON has no comments: use a member \"comment\")";
    unsigned column = error->column > 0 ? (unsigned) error->column : 1;
    if (token && token <= column) /* jansson points behind the token */
        column = column - (unsigned) token + 1;
    config_errors_add(checker->errors, (config_place_t){(unsigned) (error->line > 0 ? error->line : 1), column}, "%s%s", error->text,
                      hint);
}

/* DIRECTORY/config.json is called after its directory, any other after itself. */
static char *name_of(const char *path) {
    char *copy = mem_text(path);
    char *slash = strrchr(copy, '/');
    char *base = slash ? slash + 1 : copy;
    if (strcmp(base, "config.json") == 0 && slash && slash != copy) {
        *slash = 0;
        slash = strrchr(copy, '/');
        base = slash ? slash + 1 : copy;
    }
    char *dot = strrchr(base, '.');
    if (dot && dot != base)
        *dot = 0;
    char *name = mem_alloc(CONFIG_NAME_MAX + 1);
    size_t n = 0;
    for (; base[n] && n < 40; n++)
        name[n] = (char) (frame_topic_valid(&base[n], 1) && !(n == 0 && strchr(".-", base[n])) ? base[n] : '_');
    name[n] = 0;
    if (!n)
        strcpy(name, "stream");
    mem_free(copy);
    return name;
}

static void set_path(config_t *config, const char *path) {
    char *real = realpath(path, NULL);
    config->path = real ? real : mem_text(path);
    config->directory = mem_text(config->path);
    char *slash = strrchr(config->directory, '/');
    if (!slash)
        strcpy(config->directory, *config->directory ? "." : "");
    else
        slash[slash == config->directory] = 0;
    config->name = name_of(config->path);
}

int config_parse(config_t **config, const char *path, text_t text, const config_tools_t *tools, config_errors_t *errors) {
    static const config_tools_t no_tools;
    config_t *new = mem_zero(sizeof *new);
    checker_t checker = {.config = new, .text = text, .tools = tools ? tools : &no_tools, .errors = errors};
    set_path(new, path);
    new->delivery = json_object();
    size_t before = errors->count;
    json_error_t error;
    json_t *root = json_loadb(text.data ? text.data : "", text.size, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        syntax_error(&checker, &error);
    } else if (!json_is_object(root)) {
        config_errors_add(errors, (config_place_t){1, 1}, "the file holds one object: {...}");
    } else {
        check_top(&checker, root);
        new->redacted = config_redact(root);
    }
    buf_put(&new->text, text.data, text.size);
    json_decref(root);
    arena_fini(&checker.arena);
    config_option_list_fini(&checker.refused);
    config_errors_sort(errors);
    *config = new;
    return errors->count > before ? -1 : 0;
}

int config_load(config_t **config, const char *path, const config_tools_t *tools, config_errors_t *errors) {
    buf_t text = {0};
    err_t err = {{0}};
    int result = -1;
    *config = NULL;
    if (file_read(path, CONFIG_MAX, &text, &err)) {
        const char *reason = text_starts(err.text, path) ? err.text + strlen(path) : err.text; /* the path is printed before it */
        config_errors_add(errors, (config_place_t){0, 0}, "%s", reason + strspn(reason, ": "));
    } else {
        buf_consume(&text, unicode_mark((const char *) text.data, text.size));
        result = config_parse(config, path, text_make((const char *) text.data, text.size), tools, errors);
    }
    buf_fini(&text);
    return result;
}

void config_option_list_add(option_list_t *list, const char *item) {
    list->items = mem_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = mem_text(item);
}

void config_option_list_fini(option_list_t *list) {
    for (size_t i = 0; i < list->count; i++)
        mem_free(list->items[i]);
    mem_free(list->items);
    *list = (option_list_t){0};
}

void config_free(config_t *config) {
    if (!config)
        return;
    for (size_t i = 0; i < config->source_count; i++) {
        mem_free(config->sources[i].name);
        mem_free(config->sources[i].type);
        mem_free(config->sources[i].pointer);
        json_decref(config->sources[i].settings);
    }
    for (size_t i = 0; i < config->pipeline_count; i++) {
        config_pipeline_t *pipeline = &config->pipelines[i];
        config_option_list_fini(&pipeline->from);
        mem_free(pipeline->name);
        mem_free(pipeline->program);
        mem_free(pipeline->key);
        mem_free(pipeline->pointer);
        json_decref(pipeline->settings);
    }
    for (size_t i = 0; i < config->sink_count; i++) {
        mem_free(config->sinks[i].name);
        mem_free(config->sinks[i].pointer);
        json_decref(config->sinks[i].settings);
    }
    mem_free(config->sources);
    mem_free(config->pipelines);
    mem_free(config->sinks);
    option_fini(server_options, &config->server);
    mem_free(config->state_dir);
    json_decref(config->delivery);
    json_decref(config->redacted);
    buf_fini(&config->text);
    mem_free(config->path);
    mem_free(config->directory);
    mem_free(config->name);
    mem_free(config);
}
