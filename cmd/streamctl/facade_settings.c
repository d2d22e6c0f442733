/* The façade's settings: one JSON object from an inherited descriptor (secrets never stand in argv) or a file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "facade_app.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/log.h"

#define SETTINGS_LIMIT (4u * 1024 * 1024)
#define FIELD(name) offsetof(facade_settings_t, name)

static const option_t settings_table[] = {
    {"name", OPTION_TEXT, FIELD(name), "streamctl", "NAME", "the pipeline's name"},
    {"run-dir", OPTION_TEXT, FIELD(run_dir), NULL, "DIR", "the run directory"},
    {"control", OPTION_TEXT, FIELD(control), NULL, "PATH", "the supervisor's control socket"},
    {"pub", OPTION_TEXT, FIELD(pub), NULL, "ENDPOINT", "where broadcast publishes"},
    {"metrics", OPTION_TEXT, FIELD(metrics), NULL, "PATH", "file of our own metrics"},
    {"listen", OPTION_TEXT, FIELD(listen), "127.0.0.1", "ADDRESS", "address to listen on"},
    {"port", OPTION_INT, FIELD(port), "5000", "N", "port to listen on; 0: any free one", 0, 65535},
    {"token", OPTION_SECRET, FIELD(token), NULL, "TOKEN", "what state-changing calls must bring"},
    {"origins", OPTION_LIST, FIELD(origins), NULL, "ORIGIN", "web origins allowed beside our own"},
    {"max-connections", OPTION_INT, FIELD(max_connections), "50", "N", "WebSocket clients at most", 1, 100000},
    {"interval", OPTION_DURATION, FIELD(interval), "1s", "DURATION", "time from one metrics update to the next", 100000000, INT64_C(3600000000000)},
    {"ready-fd", OPTION_INT, FIELD(ready_fd), "-1", "N", "a newline is written there when ready", -1, 65535},
    {"log-level", OPTION_CHOICE, FIELD(log_level), "info", "error|warning|info|debug", "what is logged"},
    {NULL},
};

static int read_source(const char *source, buf_t *text, err_t *err) {
    if (!text_starts(source, "fd:"))
        return file_read(source, SETTINGS_LIMIT, text, err);
    char path[64];
    int64_t fd;
    if (text_to_int(text_of(source + 3), &fd, err) || fd < 0 || fd > 65535)
        return err_set(err, "--settings %s: not a descriptor", source);
    /* A memfd's offset is shared with who wrote it: read from its start. */
    if (lseek((int) fd, 0, SEEK_SET) == 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", (int) fd);
        int status = file_read(path, SETTINGS_LIMIT, text, err);
        close((int) fd);
        return status;
    }
    for (;;) {
        ssize_t n = read((int) fd, buf_reserve(text, 4096), 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_errno(err, "reading settings from descriptor %d", (int) fd);
            close((int) fd);
            return -1;
        }
        if (n == 0)
            break;
        text->size += (size_t) n;
        if (text->size > SETTINGS_LIMIT) {
            close((int) fd);
            return err_set(err, "settings from descriptor %d are larger than 4 MiB", (int) fd);
        }
    }
    close((int) fd);
    return 0;
}

static int take_members(facade_settings_t *settings, json_t *object, err_t *err) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (json_is_null(value))
            continue;
        if (strcmp(key, "config") == 0) {
            settings->config = json_incref(value);
            continue;
        }
        const option_t *option = option_find(settings_table, text_of(key));
        const option_t *const tables[] = {settings_table, NULL};
        if (!option)
            return option_unknown(tables, text_of(key), err);
        if (option_set_json(option, settings, value, err))
            return -1;
    }
    if (!settings->run_dir || !settings->control || !settings->pub)
        return err_set(err, "settings need run_dir, control and pub");
    return 0;
}

int facade_settings_read(facade_settings_t *settings, const char *source, err_t *err) {
    *settings = (facade_settings_t){0};
    option_defaults(settings_table, settings);
    buf_t text = {0};
    json_error_t where;
    json_t *object = NULL;
    int status = -1;
    if (read_source(source, &text, err))
        goto out;
    object = json_loadb((const char *) text.data, text.size, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(object)) {
        err_set(err, "settings: line %d column %d: %s", where.line, where.column, object ? "an object is expected" : where.text);
        goto out;
    }
    status = take_members(settings, object, err);
out:
    json_decref(object);
    buf_fini(&text);
    return status;
}

void facade_settings_fini(facade_settings_t *settings) {
    option_fini(settings_table, settings);
    json_decref(settings->config);
    settings->config = NULL;
}
