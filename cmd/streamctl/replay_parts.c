/* A file of dead letters becomes input for ingest: the events as NDJSON, a source's unreadable text as it was, what a sink refused for that sink. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/format.h"
#include "replay_private.h"

#define LINE_MAX_BYTES (64u * 1024 * 1024)
#define HEADER_MAX (1024u * 1024)
#define READY "ready"                 /* the parts are complete, and how many letters each has */

/* ---- the source's format ---- */

static const char *text_setting(const topology_stage_t *stage, const char *key) {
    return json_string_value(json_object_get(stage->settings, key));
}

/* The format by its name: as configured, else by the type's word, else by the file's ending. */
static const char *format_name(const topology_stage_t *stage) {
    const char *named = text_setting(stage, "format"), *type = stage->type, *path = text_setting(stage, "path");
    path = path ? path : text_setting(stage, "url");
    if (named)
        return named;
    if (type && format_find(type))
        return type;
    const format_t *found = path ? format_for_path(path) : NULL;
    return found ? found->name : "ndjson";
}

/* What an option of a format needs: the parts are files of that format, read once. */
static bool holds(const void *argument, text_t name, text_t value) {
    const topology_stage_t *stage = argument;
    if (text_is(name, "format"))
        return text_is(value, format_name(stage));
    if (text_is(name, "text") || text_is(name, "time"))
        return true;
    char *key = mem_text_n(name.data, name.size);
    for (char *c = key; *c; c++)
        *c = (char) (*c == '-' ? '_' : *c);
    bool given = !text_is(name, "follow") && !text_is(name, "stream") && json_object_get(stage->settings, key);
    mem_free(key);
    return given;
}

/* The source's settings that say how its text is read; those of the place it came from are of no use here. */
static void put_format(json_t *settings, const topology_stage_t *stage) {
    const char *key;
    json_t *value;
    err_t err;
    json_object_foreach(stage->settings, key, value) {
        const option_t *option = option_find(format_options, text_of(key));
        if (strcmp(key, "format") == 0 || (option && option_check_needs_json(option, holds, stage, &err) == 0))
            json_object_set(settings, key, value);
    }
}

/* The local file that the source reads, or NULL. The caller frees. */
static char *source_file(const replay_t *replay, const topology_stage_t *stage) {
    const char *path = text_setting(stage, "path"), *url = text_setting(stage, "url");
    if (!path && url && text_starts(url, "file:"))
        path = url + (text_starts(url, "file://") ? 7 : 5);
    if (!path)
        return NULL;
    return *path == '/' ? mem_text(path) : mem_format("%s/%s", replay->config->directory, path);
}

/* Records of CSV mean nothing without their header: it is the first line of the source's file, unless the columns are configured. */
static int put_header(FILE *out, const replay_t *replay, const topology_stage_t *stage, err_t *err) {
    const char *format = format_name(stage);
    const json_t *none = json_object_get(stage->settings, "csv_no_header");
    if ((strcmp(format, "csv") != 0 && strcmp(format, "tsv") != 0) || json_object_get(stage->settings, "csv_columns") || (none && !json_is_false(none)))
        return 0;
    char *path = source_file(replay, stage), *line = NULL;
    size_t room = 0;
    FILE *file = path ? fopen(path, "re") : NULL;
    ssize_t n = file ? getline(&line, &room, file) : -1;
    int result = 0;
    if (n <= 0 || (size_t) n > HEADER_MAX || line[n - 1] != '\n')
        result = err_set(err, "%s: the CSV header is not known any more (%s): give the source \"csv_columns\"", stage->name,
                         path ? path : "it has no local file");
    else
        fwrite(line, 1, (size_t) n, out);
    if (file)
        fclose(file);
    free(line);
    mem_free(path);
    return result;
}

/* ---- splitting ---- */

typedef struct splitter {
    replay_parts_t *parts;
    const replay_t *replay;
    const topology_stage_t *stage;
    const char *directory;
    FILE **files;                     /* of the parts */
    FILE *unusable;
} splitter_t;

static char *part_path(const char *directory, const topology_stage_t *stage, const char *name) {
    const char *ending = strcmp(name, "text") == 0 ? format_name(stage) : "ndjson";
    return mem_format("%s/%s.%s", directory, name, ending);
}

static void add_part(replay_parts_t *parts, const char *directory, const topology_stage_t *stage, const char *name, uint64_t letters) {
    parts->items = mem_resize(parts->items, (parts->count + 1) * sizeof *parts->items);
    parts->items[parts->count++] = (replay_part_t){mem_text(name), part_path(directory, stage, name), letters};
}

static int part_file(splitter_t *splitter, const char *name, size_t *index, err_t *err) {
    replay_parts_t *parts = splitter->parts;
    for (*index = 0; *index < parts->count; ++*index)
        if (strcmp(parts->items[*index].name, name) == 0)
            return 0;
    add_part(parts, splitter->directory, splitter->stage, name, 0);
    splitter->files = mem_resize(splitter->files, parts->count * sizeof *splitter->files);
    FILE *file = splitter->files[*index] = fopen(parts->items[*index].file, "we");
    if (!file)
        return err_errno(err, "write %s", parts->items[*index].file);
    return strcmp(name, "text") == 0 ? put_header(file, splitter->replay, splitter->stage, err) : 0;
}

static int base64_value(char c) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(letters, c) : NULL;
    return at ? (int) (at - letters) : -1;
}

static void put_base64(FILE *out, const char *text, size_t size) {
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < size; i++) {
        int value = base64_value(text[i]);
        if (value < 0)
            break; /* = */
        bits = bits << 6 | (uint32_t) value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            putc((int) (bits >> have & 255), out);
        }
    }
}

/* The event as it stands at the end of the line: numbers stay what they are, to the last digit. A quote inside a text is escaped, so
 * that the key cannot be found in one. */
static text_t raw_event(const char *line, size_t size) {
    static const char key[] = ",\"event\":";
    const char *at = memmem(line, size, key, sizeof key - 1);
    size_t from = at ? (size_t) (at - line) + sizeof key - 1 : size;
    return from + 2 < size && line[from] == '{' && line[size - 1] == '}' ? text_make(line + from, size - 1 - from) : (text_t){0};
}

static void put_event(FILE *out, text_t event, const char *stream) {
    buf_t quoted = {0};
    if (stream && !memmem(event.data, event.size, "\"@stream\":", 10)) {
        text_put_json(&quoted, text_of(stream));
        fprintf(out, "{\"@stream\":%s%s", buf_text(&quoted), event.size > 2 ? "," : "");
        fwrite(event.data + 1, 1, event.size - 1, out);
    } else {
        fwrite(event.data, 1, event.size, out);
    }
    putc('\n', out);
    buf_fini(&quoted);
}

static int put_unusable(splitter_t *splitter, const char *line, size_t size, err_t *err) {
    if (!splitter->unusable) {
        char *path = mem_format("%s/unusable", splitter->directory);
        splitter->unusable = fopen(path, "we");
        if (!splitter->unusable)
            err_errno(err, "write %s", path);
        mem_free(path);
    }
    if (!splitter->unusable)
        return -1;
    fwrite(line, 1, size, splitter->unusable);
    putc('\n', splitter->unusable);
    splitter->parts->unusable++;
    return 0;
}

/* The part that the letter belongs to; NULL: there is nothing in it to be sent. The caller frees. */
static char *part_name(const topology_stage_t *stage, const json_t *letter, text_t event) {
    const char *place = json_string_value(json_object_get(letter, "place"));
    if (stage->role == ROLE_BROADCAST)
        return event.size && place ? mem_format("sink-%s", place) : NULL;
    if (event.size)
        return mem_text("events");
    return stage->role == ROLE_SOURCE && json_is_string(json_object_get(letter, "text")) ? mem_text("text") : NULL;
}

/* The letter's own members; the event, which may hold numbers that the library has no room for, is left out. */
static json_t *letter_of(const char *line, size_t size, text_t event) {
    if (!event.size)
        return json_loadb(line, size, JSON_ALLOW_NUL, NULL);
    size_t before = (size_t) (event.data - line) - strlen(",\"event\":");
    char *head = mem_format("%.*s}", (int) before, line);
    json_t *letter = json_loads(head, JSON_ALLOW_NUL, NULL);
    mem_free(head);
    return letter;
}

static int split_line(splitter_t *splitter, const char *line, size_t size, err_t *err) {
    text_t event = raw_event(line, size);
    json_t *letter = letter_of(line, size, event);
    char *name = json_is_object(letter) ? part_name(splitter->stage, letter, event) : NULL;
    size_t index;
    int result = name ? part_file(splitter, name, &index, err) : put_unusable(splitter, line, size, err);
    if (name && result == 0) {
        FILE *out = splitter->files[index];
        const json_t *text = json_object_get(letter, "text"), *base64 = json_object_get(letter, "base64");
        if (strcmp(name, "text") != 0)
            put_event(out, event, json_string_value(json_object_get(letter, "stream")));
        else if (json_is_string(base64))
            put_base64(out, json_string_value(base64), json_string_length(base64));
        else
            fwrite(json_string_value(text), 1, json_string_length(text), out);
        if (strcmp(name, "text") == 0)
            putc('\n', out);
        splitter->parts->items[index].letters++;
    }
    json_decref(letter);
    mem_free(name);
    return result;
}

static int close_file(FILE *file, const char *what, err_t *err) {
    if (!file)
        return 0;
    bool bad = fflush(file) || ferror(file) || fsync(fileno(file));
    int number = errno;
    bad |= fclose(file) != 0;
    errno = number;
    return bad ? err_errno(err, "write %s", what) : 0;
}

static int split(splitter_t *splitter, const char *file, err_t *err) {
    char *line = NULL;
    size_t room = 0;
    FILE *letters = fopen(file, "re");
    int result = letters ? 0 : err_errno(err, "read %s", file);
    for (ssize_t n; result == 0 && (n = getline(&line, &room, letters)) > 0;) {
        size_t size = (size_t) n - (line[n - 1] == '\n');
        if (size && size <= LINE_MAX_BYTES)
            result = split_line(splitter, line, size, err);
    }
    if (letters && result == 0 && ferror(letters))
        result = err_errno(err, "read %s", file);
    for (size_t i = 0; i < splitter->parts->count; i++)
        if (close_file(splitter->files[i], splitter->parts->items[i].file, result ? NULL : err))
            result = -1;
    if (close_file(splitter->unusable, "unusable", result ? NULL : err))
        result = -1;
    if (letters)
        fclose(letters);
    free(line);
    mem_free(splitter->files);
    return result;
}

/* ---- what is ready ---- */

static int write_ready(const replay_parts_t *parts, const char *path, err_t *err) {
    json_t *counts = json_object(), *ready = json_pack("{s:o, s:I}", "parts", counts, "unusable", (json_int_t) parts->unusable);
    for (size_t i = 0; i < parts->count; i++)
        json_object_set_new(counts, parts->items[i].name, json_integer((json_int_t) parts->items[i].letters));
    char *text = json_dumps(ready, JSON_COMPACT);
    int result = file_write_atomic(path, text, strlen(text), 0600, err);
    json_decref(ready);
    free(text);
    return result;
}

static bool read_ready(replay_parts_t *parts, const topology_stage_t *stage, const char *directory, const char *path) {
    buf_t text = {0};
    json_t *ready = file_read(path, HEADER_MAX, &text, NULL) ? NULL : json_loadb((const char *) text.data, text.size, 0, NULL);
    const char *name;
    json_t *letters;
    json_object_foreach(json_object_get(ready, "parts"), name, letters)
        add_part(parts, directory, stage, name, (uint64_t) json_integer_value(letters));
    parts->unusable = (uint64_t) json_integer_value(json_object_get(ready, "unusable"));
    bool known = ready != NULL;
    json_decref(ready);
    buf_fini(&text);
    return known;
}

int replay_parts_open(replay_parts_t *parts, const replay_t *replay, const topology_stage_t *stage, const char *file, const char *directory,
                      err_t *err) {
    *parts = (replay_parts_t){0};
    if (file_make_directory(directory, 0700, err))
        return -1;
    char *path = mem_format("%s/" READY, directory);
    splitter_t splitter = {parts, replay, stage, directory, NULL, NULL};
    int result = 0;
    if (!read_ready(parts, stage, directory, path))
        result = split(&splitter, file, err) || write_ready(parts, path, err) ? -1 : 0;
    mem_free(path);
    if (result)
        replay_parts_fini(parts);
    return result;
}

void replay_parts_fini(replay_parts_t *parts) {
    for (size_t i = 0; i < parts->count; i++) {
        mem_free(parts->items[i].name);
        mem_free(parts->items[i].file);
    }
    mem_free(parts->items);
    *parts = (replay_parts_t){0};
}

/* ---- who gets it ---- */

static bool group_seen(const char *const *groups, size_t count, const char *group) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(groups[i], group) == 0)
            return true;
    return false;
}

const char **replay_part_groups(const replay_t *replay, const topology_stage_t *stage, const replay_part_t *part) {
    const topology_t *topology = replay->topology;
    const char **groups = mem_zero((stage->output_count + 2) * sizeof *groups);
    size_t n = 0;
    if (stage->role != ROLE_SOURCE)
        groups[n++] = stage->group;
    for (size_t i = 0; stage->role == ROLE_SOURCE && i < stage->output_count; i++)
        if (!group_seen(groups, n, topology->stages[stage->outputs[i]].group))
            groups[n++] = topology->stages[stage->outputs[i]].group;
    return groups;
}

static const topology_stage_t *stage_of_group(const topology_t *topology, const char *group) {
    for (size_t i = 0; i < topology->count; i++)
        if (strcmp(topology->stages[i].group, group) == 0)
            return &topology->stages[i];
    return NULL;
}

static json_t *links_of(const replay_t *replay, const topology_stage_t *stage, const replay_part_t *part, err_t *err) {
    json_t *links = json_array();
    if (text_starts(part->name, "sink-")) {
        for (size_t i = 0; i < replay->config->sink_count && stage->sink_sides; i++)
            if (strcmp(replay->config->sinks[i].name, part->name + 5) == 0) {
                char *link = topology_sink_side_link(stage->sink_sides[i]);
                json_array_append_new(links, json_string(link));
                mem_free(link);
            }
    } else {
        const char **groups = replay_part_groups(replay, stage, part);
        for (size_t i = 0; groups[i]; i++) {
            char *link = topology_side_link(stage_of_group(replay->topology, groups[i]));
            json_array_append_new(links, json_string(link));
            mem_free(link);
        }
        mem_free(groups);
    }
    if (json_array_size(links))
        return links;
    json_decref(links);
    err_set(err, "%s: nobody is there any more to get its letters (%s)", stage->name, part->name);
    return NULL;
}

/* The stream that the events belong to, where they do not say it themselves. */
static const char *stream_of(const replay_t *replay, const topology_stage_t *stage) {
    return stage->role == ROLE_SOURCE || !stage->input_count ? stage->group : replay->topology->stages[stage->inputs[0]].group;
}

json_t *replay_part_settings(const replay_t *replay, const topology_stage_t *stage, const replay_part_t *part, const char *directory, err_t *err) {
    json_t *links = links_of(replay, stage, part, err);
    if (!links)
        return NULL;
    char *state = mem_format("%s/%s.state", directory, part->name), *dead = mem_format("%s/%s.dead", directory, part->name);
    char *metrics = mem_format("%s/%s.metrics", directory, part->name);
    bool text = strcmp(part->name, "text") == 0;
    json_t *settings = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "name", stream_of(replay, stage), "path", part->file, "state", state,
                                 "dead_letter", dead, "metrics", metrics, "to", links);
    if (settings && text)
        put_format(settings, stage);
    if (settings && (!text || !json_object_get(settings, "format")))
        json_object_set_new(settings, "format", json_string(text ? format_name(stage) : "ndjson"));
    mem_free(state);
    mem_free(dead);
    mem_free(metrics);
    if (!settings)
        err_set(err, "%s: a path is not UTF-8", stage->name);
    return settings;
}
