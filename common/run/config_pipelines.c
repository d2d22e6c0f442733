/* pipelines: what each reads, that nothing goes round in circles, and that every stream has a reader. */
#include <fnmatch.h>
#include <string.h>

#include "base/memory.h"
#include "run/config_private.h"

typedef struct entry {
    char *name, *key;
    option_list_t from;
    int64_t workers;
    bool publish;
} entry_t;

#define AT(field) offsetof(entry_t, field)
static const option_t pipeline_options[] = {
    {"name", OPTION_TEXT, AT(name), NULL, "NAME", "name of the pipeline and of its stream"},
    {"from", OPTION_LIST, AT(from), NULL, "STREAM", "sources and pipelines that it reads; default: all sources"},
    {"workers", OPTION_INT, AT(workers), "1", "N", "processes that share the work", 1, 64},
    {"key", OPTION_TEXT, AT(key), NULL, "FIELD", "events with the same value go to the same worker"},
    {"publish", OPTION_BOOL, AT(publish), "true", NULL, "goes to the sinks and subscribers"},
    {0},
};

/* The program: a string, an array of lines, or {"file": PATH}. What stands in it is the language's: no ${NAME} there. */
static char *read_program(checker_t *checker, const json_t *value, const char *pointer) {
    if (json_is_string(value))
        return mem_text(json_string_value(value));
    if (json_is_array(value)) {
        buf_t text = {0};
        bool good = true;
        for (size_t i = 0; good && i < json_array_size(value); i++) {
            const char *line = json_string_value(json_array_get(value, i));
            if (!line)
                checker_error(checker, checker_element(checker, pointer, i), "a line of the program is text");
            good = line != NULL;
            buf_format(&text, "%s%s", i ? "\n" : "", good ? line : "");
        }
        char *program = good ? mem_text(buf_text(&text)) : NULL;
        buf_fini(&text);
        return program;
    }
    if (json_is_object(value) && json_object_get(value, "file")) {
        json_t *filled = config_fill_in(checker, value, pointer);
        char *program = filled && json_is_string(filled) ? mem_text(json_string_value(filled)) : NULL;
        if (filled && !program)
            checker_error(checker, pointer, "the program is {\"file\": PATH} and nothing beside it");
        json_decref(filled);
        return program;
    }
    checker_error(checker, pointer, "the program is a string, an array of lines, or {\"file\": PATH}");
    return NULL;
}

/* Members that are neither the pipeline's own nor comments: options of the stage. */
static void read_stage_options(checker_t *checker, const json_t *object, const char *pointer, const char *name, json_t *settings) {
    static const char *const words[] = {"program", NULL};
    char where[200];
    snprintf(where, sizeof where, "pipeline \"%.100s\"", name ? name : "");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *) object, key, value) {
        if (checker_is_comment(key) || strcmp(key, "program") == 0 || option_find(pipeline_options, text_of(key)))
            continue;
        const char *at = checker_member(checker, pointer, key);
        const option_t *option = option_find(config_delivery_options, text_of(key));
        if (!option) {
            const option_t *const tables[] = {pipeline_options, config_delivery_options, NULL};
            checker_unknown(checker, at, key, name ? where : "this pipeline", tables, words);
            continue;
        }
        if (!checker_needs(checker, option, object, at))
            continue;
        union {
            char bytes[sizeof(option_list_t)];
            int64_t integer;
            void *pointer;
        } scratch;
        memset(&scratch, 0, sizeof scratch);
        option_t one[2] = {*option, {0}};
        if (checker_option(checker, option, &scratch, value, at, key))
            json_object_set_new(settings, key, config_fill_in(checker, value, at));
        option_fini(one, &scratch);
    }
}

static void read_pipeline(checker_t *checker, const json_t *object, const char *pointer, option_list_t *from) {
    config_t *config = checker->config;
    entry_t entry = {0};
    option_defaults(pipeline_options, &entry);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *) object, key, value) {
        const option_t *option = option_find(pipeline_options, text_of(key));
        if (option)
            checker_option(checker, option, &entry, value, checker_member(checker, pointer, key), key);
    }
    bool named = false;
    if (!entry.name)
        checker_error(checker, pointer, "a pipeline needs a \"name\": the name of the stream it makes");
    else
        named = checker_new_name(checker, entry.name, checker_member(checker, pointer, "name"));
    if (entry.key && entry.workers < 2)
        checker_error_key(checker, checker_member(checker, pointer, "key"), "\"key\" says how work is split: it needs \"workers\" above 1");
    config_pipeline_t *pipeline = &config->pipelines[config->pipeline_count++];
    *pipeline = (config_pipeline_t){.publish = entry.publish, .workers = entry.workers, .settings = json_object()};
    pipeline->name = named ? mem_text(entry.name) : NULL; /* nobody can mean it */
    pipeline->key = mem_text(entry.key);
    pipeline->pointer = mem_text(checker_member(checker, pointer, "program"));
    read_stage_options(checker, object, pointer, entry.name, pipeline->settings);
    const json_t *program = json_object_get(object, "program");
    if (program)
        pipeline->program = read_program(checker, program, pipeline->pointer);
    else
        checker_error(checker, pointer, "a pipeline needs a \"program\", such as \"where temperature > 30\"");
    *from = entry.from;
    entry.from = (option_list_t){0};
    option_fini(pipeline_options, &entry);
}

static bool has(const option_list_t *list, const char *item) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], item) == 0)
            return true;
    return false;
}

/* All stages whose name matches, in the order of the file; a pattern does not match the pipeline itself. */
static bool add_matches(const config_t *config, config_pipeline_t *pipeline, const char *pattern) {
    bool glob = strpbrk(pattern, "*?[") != NULL, found = false;
    for (size_t i = 0; i < config->source_count + config->pipeline_count; i++) {
        bool source = i < config->source_count;
        const char *name = source ? config->sources[i].name : config->pipelines[i - config->source_count].name;
        if (!name || (glob ? name == pipeline->name || fnmatch(pattern, name, 0) != 0 : strcmp(pattern, name) != 0))
            continue;
        found = true;
        if (!has(&pipeline->from, name))
            config_option_list_add(&pipeline->from, name);
    }
    return found;
}

/* "NAME.devices" of sources: their news of devices. */
static bool add_devices(const config_t *config, config_pipeline_t *pipeline, const char *name) {
    size_t size = strlen(name);
    if (!text_ends(name, ".devices") || strpbrk(name, "*?["))
        return false;
    char *source = mem_text_n(name, size - strlen(".devices"));
    bool found = false;
    for (size_t i = 0; i < config->source_count && !found; i++)
        found = config->sources[i].name && strcmp(config->sources[i].name, source) == 0;
    if (found && !has(&pipeline->from, source))
        config_option_list_add(&pipeline->from, source);
    mem_free(source);
    return found;
}

void checker_resolve_from(checker_t *checker, config_pipeline_t *pipeline, const option_list_t *from, const json_t *value,
                          const char *pointer) {
    const config_t *config = checker->config;
    if (!value) {
        for (size_t i = 0; i < config->source_count; i++)
            if (config->sources[i].name)
                config_option_list_add(&pipeline->from, config->sources[i].name);
        return;
    }
    if (json_is_array(value) && !json_array_size(value))
        checker_error(checker, pointer, "\"from\" names at least one source or pipeline");
    size_t of_devices = 0;
    for (size_t i = 0; i < from->count; i++) {
        if (add_matches(config, pipeline, from->items[i]) || checker_name_refused(checker, from->items[i]))
            continue;
        if (add_devices(config, pipeline, from->items[i])) {
            of_devices++;
            continue;
        }
        const char *names[256];
        size_t n = 0;
        for (size_t s = 0; s < config->source_count && n < 256; s++)
            if (config->sources[s].name)
                names[n++] = config->sources[s].name;
        for (size_t p = 0; p < config->pipeline_count && n < 256; p++)
            if (config->pipelines[p].name)
                names[n++] = config->pipelines[p].name;
        const char *nearest = text_nearest(from->items[i], names, n);
        buf_t quoted = {0};
        text_put_quoted(&quoted, text_of(from->items[i]), 60);
        checker_error(checker, json_is_array(value) ? checker_element(checker, pointer, i) : pointer,
                      "no source or pipeline is called %s%s%s%s", buf_text(&quoted), nearest ? "; did you mean \"" : "",
                      nearest ? nearest : "", nearest ? "\"?" : "");
        buf_fini(&quoted);
    }
    if (of_devices && of_devices < from->count)
        checker_error(checker, pointer, "\"from\" names streams NAME.devices or others, not both");
    else if (of_devices)
        json_object_set_new(pipeline->settings, "about", json_string("devices"));
}

static const config_pipeline_t *pipeline_called(const config_t *config, const char *name) {
    for (size_t i = 0; i < config->pipeline_count; i++)
        if (config->pipelines[i].name && strcmp(config->pipelines[i].name, name) == 0)
            return &config->pipelines[i];
    return NULL;
}

/* Takes away, again and again, the pipelines whose inputs are all done; what remains goes round in a circle or reads one. */
static void check_circles(checker_t *checker) {
    const config_t *config = checker->config;
    bool *done = mem_zero(config->pipeline_count + 1);
    for (bool progress = true; progress;) {
        progress = false;
        for (size_t i = 0; i < config->pipeline_count; i++) {
            bool ready = !done[i];
            for (size_t f = 0; ready && f < config->pipelines[i].from.count; f++) {
                const config_pipeline_t *input = pipeline_called(config, config->pipelines[i].from.items[f]);
                ready = !input || done[input - config->pipelines];
            }
            done[i] |= ready;
            progress |= ready;
        }
    }
    for (size_t i = 0; i < config->pipeline_count; i++)
        if (!done[i] && config->pipelines[i].name)
            checker_error(checker, checker_member(checker, checker_element(checker, "/pipelines", i), "from"),
                          "\"%s\" reads what it makes itself, directly or through other pipelines", config->pipelines[i].name);
    mem_free(done);
}

/* A stream that is neither published nor read would fill its link and stop. */
void checker_readers(checker_t *checker) {
    const config_t *config = checker->config;
    if (checker->errors->count) /* then indices may differ from the file's */
        return;
    for (size_t i = 0; i < config->source_count + config->pipeline_count; i++) {
        bool source = i < config->source_count;
        size_t index = source ? i : i - config->source_count;
        const char *name = source ? config->sources[index].name : config->pipelines[index].name;
        bool read = source ? config->sources[index].publish : config->pipelines[index].publish;
        for (size_t p = 0; name && p < config->pipeline_count; p++)
            read |= has(&config->pipelines[p].from, name);
        if (!read && name)
            checker_error(checker,
                          checker_member(checker, checker_element(checker, source ? "/data_sources" : "/pipelines", index), "publish"),
                          "\"%s\" is not published, and no pipeline reads it", name);
    }
}

void checker_pipelines(checker_t *checker, const json_t *list) {
    config_t *config = checker->config;
    size_t count = json_array_size(list);
    if (list && !json_is_array(list)) {
        checker_error(checker, "/pipelines", "pipelines is an array of objects: [{...}, ...]");
        return;
    }
    config->pipelines = mem_zero((count + 1) * sizeof *config->pipelines);
    option_list_t *from = mem_zero((count + 1) * sizeof *from);
    size_t *index = mem_zero((count + 1) * sizeof *index); /* of each pipeline in the file */
    for (size_t i = 0; i < count; i++) {
        const char *pointer = checker_element(checker, "/pipelines", i);
        if (json_is_object(json_array_get(list, i))) {
            index[config->pipeline_count] = i;
            read_pipeline(checker, json_array_get(list, i), pointer, &from[config->pipeline_count]);
        } else {
            checker_error(checker, pointer, "an object is expected: {\"name\": ..., \"from\": ..., \"program\": ...}");
        }
    }
    for (size_t i = 0; i < config->pipeline_count; i++) { /* now that all names are known */
        const char *pointer = checker_element(checker, "/pipelines", index[i]);
        checker_resolve_from(checker, &config->pipelines[i], &from[i], json_object_get(json_array_get(list, index[i]), "from"),
                     checker_member(checker, pointer, "from"));
        config_option_list_fini(&from[i]);
    }
    if (config->pipeline_count == count) /* else the indices differ, and there are errors already */
        check_circles(checker);
    mem_free(from);
    mem_free(index);
}
