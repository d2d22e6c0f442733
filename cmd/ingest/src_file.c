/* Source "file:" and plain paths: a file read once to its end, or with --follow for as long as it lives and its successors too. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "file_input.h"
#include "file_path.h"
#include "src_file.h"

#define AT(field) offsetof(file_settings_t, field)
static const option_t options[] = {
    {"follow", OPTION_BOOL, AT(follow), "no", NULL, "wait for more at the end, and for the file itself; survives its rotation"},
    {"from-end", OPTION_BOOL, AT(from_end), "no", NULL, "with --follow: begin with what is written from now on", .needs = "follow"},
    {"from-beginning", OPTION_BOOL, AT(from_beginning), "no", NULL, "begin with what is there already: the default, said aloud"},
    {"path-field", OPTION_TEXT, AT(path_field), NULL, "FIELD", "add a field with the path of the file that the event comes from"},
    {"path-fields", OPTION_TEXT, AT(path_fields), NULL, "NAME,...", "fields that get the levels of the file's path, from the first on; - for none"},
    {"path-pattern", OPTION_TEXT, AT(path_pattern), NULL, "REGEX", "a regular expression: what its named groups find in the file's path are fields"},
    {"rotate-wait", OPTION_DURATION, AT(rotate_wait), "5s", "DURATION",
     "with --follow: how long a renamed file that its writer keeps open is watched after its last change", 0, 3600 * NS_PER_S, .needs = "follow"},
    {"files-max", OPTION_INT, AT(files_max), "4096", "N", "with a pattern: so many files at a time; more are not read, and reported", 1, 65536, .needs = "@many:a pattern or a directory"},
    {0},
};

typedef struct file_source {
    source_t source;
    source_setup_t setup;
    char *path;
    pattern_t *path_pattern;
    file_input_t *input;
} file_source_t;

/* The path out of file:PATH, file://PATH (percent-decoded) or a plain path. */
static char *path_of(const source_setup_t *setup) {
    const char *rest = setup->rest;
    if (strncasecmp(setup->url, "file:", 5) != 0 || access(setup->url, F_OK) == 0)
        return mem_text(rest);
    if (strncmp(rest, "//localhost/", 12) == 0)
        rest += 11;
    else if (strncmp(rest, "///", 3) == 0)
        rest += 2;
    char *path = mem_text(rest), *out = path;
    for (const char *in = rest; *in; in++) {
        unsigned byte;
        if (*in == '%' && sscanf(in + 1, "%2x", &byte) == 1 && strspn(in + 1, "0123456789abcdefABCDEF") >= 2 && byte) {
            *out++ = (char) byte;
            in += 2;
        } else {
            *out++ = *in;
        }
    }
    *out = 0;
    return path;
}

static char *full_path_of(const char *path) {
    char directory[4096];
    if (*path == '/' || !getcwd(directory, sizeof directory))
        return mem_text(path);
    return mem_format("%s/%s", directory, path);
}

static void on_ended(void *argument, const char *error) {
    file_source_t *self = argument;
    if (error)
        source_failed(self->setup.host, "%s: %s", self->path, error);
    else
        source_ended(self->setup.host);
}

static void on_missing(void *argument, const char *reason) {
    file_source_t *self = argument;
    source_unhealthy(self->setup.host, "%s: %s; waiting for the file", self->path, reason);
}

static void file_pause(source_t *source) {
    file_input_pause(((file_source_t *) source)->input);
}

static void file_resume(source_t *source) {
    file_input_resume(((file_source_t *) source)->input);
}

static int file_start(source_t *source, err_t *err) {
    file_source_t *self = (file_source_t *) source;
    const file_settings_t *settings = self->setup.settings;
    if (!settings->follow)             /* one that is followed may be rotated away */
        source_patient(self->setup.host);
    file_resume(source);
    return 0;
}

static void file_position(const source_t *source, buf_t *out) {
    file_input_position(((const file_source_t *) source)->input, out);
}

static int file_restore(source_t *source, const uint8_t *bytes, size_t size, err_t *err) {
    return file_input_restore(((file_source_t *) source)->input, bytes, size, err);
}

static void file_free(source_t *source) {
    file_source_t *self = (file_source_t *) source;
    file_input_free(self->input);
    pattern_free(self->path_pattern);
    mem_free(self->path);
    mem_free(self);
}

static const source_class_t class = {
    .start = file_start,
    .pause = file_pause,
    .resume = file_resume,
    .position = file_position,
    .restore = file_restore,
    .free = file_free,
};

static int file_check(const source_setup_t *setup, err_t *err) {
    const file_settings_t *settings = setup->settings;
    if (!*setup->rest)
        return err_set(err, "%s: the path is missing", setup->url);
    if (settings->from_end && settings->from_beginning)
        return err_set(err, "--from-beginning and --from-end: only one of them can be");
    if (file_path_check(settings, err))
        return -1;
    char *path = path_of(setup);
    int result = file_set_means(path) ? file_set_check(path, err) : 0;
    mem_free(path);
    return result;
}

static int open_one(source_t **source, const source_setup_t *setup, const char *path, const char *full_path, err_t *err) {
    file_source_t *self = mem_zero(sizeof *self);
    const file_settings_t *settings = setup->settings;
    self->source.class = &class;
    self->setup = *setup;
    self->path = mem_text(path);
    self->path_pattern = file_path_pattern(settings);
    file_input_setup_t input = {
        .source = &self->setup,
        .path = path,
        .full_path = full_path,
        .path_pattern = self->path_pattern,
        .follow = settings->follow,
        .from_end = settings->from_end,
        .rotate_wait = settings->rotate_wait,
        .missing = on_missing,
        .ended = on_ended,
        .argument = self,
    };
    self->input = file_input_new(&input, err);
    if (!self->input) {
        file_free(&self->source);
        return -1;
    }
    *source = &self->source;
    return 0;
}

static int file_open(source_t **source, const source_setup_t *setup, err_t *err) {
    char *path = path_of(setup), *full_path = full_path_of(path);
    int result = file_set_means(path) ? file_set_open(source, setup, path, full_path, err) : open_one(source, setup, path, full_path, err);
    mem_free(path);
    mem_free(full_path);
    return result;
}

static text_t take_last_part(text_t *path) {
    while (path->size && path->data[path->size - 1] == '/')
        path->size--;
    size_t size = path->size;
    while (path->size && path->data[path->size - 1] != '/')
        path->size--;
    return text_make(path->data + path->size, size - path->size);
}

/* "sensors" of /data/sensors.csv, "log" of /var/log/ and of /var/log/ with a pattern behind */
static const char *file_stream(const source_setup_t *setup, buf_t *space) {
    text_t rest = text_of(setup->rest), base = take_last_part(&rest);
    if (access(setup->rest, F_OK) != 0 && strpbrk(setup->rest, "*?["))
        base = take_last_part(&rest);
    const char *dot = base.size ? memchr(base.data, '.', base.size) : NULL;
    buf_put(space, base.data, dot && dot > base.data ? (size_t) (dot - base.data) : base.size);
    return buf_text(space);
}

static int file_holds(const source_setup_t *setup, text_t name, text_t value) {
    bool of_format = text_is(name, "format");
    if (!of_format && !text_is(name, "many"))
        return -1;
    char *path = path_of(setup);
    bool many = file_set_means(path);
    const format_t *format = format_for_path(path);
    mem_free(path);
    if (!of_format)
        return many;
    if (many) /* each by its ending: all of these */
        return !text_is(value, "regex") && !text_is(value, "common") && !text_is(value, "combined") && !text_is(value, "syslog") && !text_is(value, "statsd");
    return text_is(value, format ? format->name : "ndjson");
}

const source_driver_t source_file = {
    .name = "file",
    .schemes = {"file"},
    .types = {{"file"}, {"csv", NULL, "format=csv"}, {"tsv", NULL, "format=tsv"}, {"json", NULL, "format=json"},
              {"ndjson", NULL, "format=ndjson"}, {"text", NULL, "format=lines"}, {"log", NULL, "format=lines&follow=yes"}},
    .usage = "PATH, file:PATH, PATTERN",
    .help = "a file, or those that a pattern or a directory names, read once to their ends or followed as they grow and rotate",
    .options = options,
    .settings_size = sizeof(file_settings_t),
    .query = true,
    .holds = file_holds,
    .stream = file_stream,
    .check = file_check,
    .open = file_open,
};
