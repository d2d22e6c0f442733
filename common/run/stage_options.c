/* The skeleton's command line and settings: its own option tables, the tool's, and the drivers' through the tool. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/unicode.h"
#include "run/stage_private.h"

#define MAX_TABLES 64
#define SETTINGS_MAX (16u * 1024 * 1024)
#define AT(field) offsetof(stage_settings_t, field)

static const option_t common_options[] = {
    {"name", OPTION_TEXT, AT(name), NULL, "NAME", "name of this stage and of the stream it makes"},
    {"dead-letter", OPTION_TEXT, AT(dead_letter), NULL, "FILE", "write what cannot be used there, as NDJSON with the reason"},
    {"dead-letter-limit", OPTION_SIZE, AT(dead_letter_limit), "64MiB", "SIZE",
     "when the file has grown to this it is renamed to FILE.1", 4096, INT64_MAX, .needs = "dead-letter"},
    {"metrics", OPTION_TEXT, AT(metrics), NULL, "FILE", "keep the metrics in this file, for streamctl to read"},
    {"log-level", OPTION_CHOICE, AT(log_level), "info", "error|warning|info|debug", "how much to log to standard error"},
    {"ready-fd", OPTION_INT, AT(ready_fd), "-1", "N", "write a newline to this descriptor when ready", -1, 1 << 20},
    {"check", OPTION_BOOL, AT(check), "false", NULL, "check options and settings and start nothing: exit status 0 or 64"},
    {"memory", OPTION_SIZE, AT(memory), "64MiB", "SIZE", "what this stage may take for windows, queues and buffers", 8 << 20, INT64_MAX / 2},
    {"drain-limit", OPTION_DURATION, AT(drain_limit), "30s", "DURATION",
     "how long to wait for acknowledgements after a signal", 1, INT64_MAX / 2},
    {0},
};

static const option_t input_options[] = {
    {"from", OPTION_LIST, AT(from), NULL, "LINK", "where frames come from; default - (standard input)"},
    {"stay", OPTION_BOOL, AT(stay), "false", NULL, "do not exit when all inputs have ended"},
    {0},
};

static const option_t output_options[] = {
    {"to", OPTION_LIST, AT(to), NULL, "LINK", "where frames go; default - (standard output)"},
    {"batch-size", OPTION_INT, AT(batch_size), "2000", "N", "events in a frame at most", 1, 10000000},
    {"batch-bytes", OPTION_SIZE, AT(batch_bytes), "256KiB", "SIZE", "bytes in a frame at most", 1024, 1 << 30},
    {"flush", OPTION_DURATION, AT(flush), "1ms", "DURATION", "a frame leaves at the latest this long after its first event",
     0, INT64_C(3600000000000)},
    {"on-full", OPTION_CHOICE, AT(on_full), "block", "block|drop_oldest|drop_newest", "what to do when an output is full"},
    {"window", OPTION_SIZE, AT(window), "2MiB", "SIZE", "bytes sent and not yet acknowledged at most, per link", 65536,
     INT64_C(1) << 40},
    {0},
};

static const option_t state_options[] = {
    {"state", OPTION_TEXT, AT(state), NULL, "DIR", "keep log, positions and state there: this stage goes on after a crash as if nothing had been"},
    {"sync", OPTION_CHOICE, AT(sync), "interval", "always|interval|none",
     "when state counts as safe from loss of power: before it leaves, soon after, or never waited for", .needs = "state"},
    {"sync-interval", OPTION_DURATION, AT(sync_interval), "100ms", "DURATION", "with --sync interval: how soon", NS_PER_MS,
     60 * NS_PER_S, .needs = "state, sync=interval"},
    {"reset", OPTION_BOOL, AT(reset), "false", NULL, "delete what is in --state first, and start anew", .needs = "state"},
    {0},
};

static const option_t spool_options[] = {
    {"spool-limit", OPTION_SIZE, AT(spool_limit), "1GiB", "SIZE", "bytes of the log in --state at most; then --on-full applies", 1 << 20,
     INT64_MAX / 2, .needs = "state"},
    {0},
};

static const option_t snapshot_options[] = {
    {"snapshot", OPTION_DURATION, AT(snapshot), "1s", "DURATION", "how often state is written to --state", 10 * NS_PER_MS,
     INT64_C(86400) * NS_PER_S, .needs = "state"},
    {0},
};

static const option_t side_options[] = {
    {"side", OPTION_LIST, AT(side), NULL, "LINK", "an input whose end ends nothing: for dead letters that are sent again"},
    {0},
};

/* The tables that this tool has, ended by NULL, with where their values go. */
typedef struct tables {
    const option_t *table[10];
    void *settings[10];
} tables_t;

static tables_t tables_of(const tool_t *tool, stage_t *stage) {
    tables_t tables = {0};
    size_t n = 0;
    stage_settings_t *settings = stage ? &stage->settings : NULL;
#define TABLE(which, where) (tables.table[n] = (which), tables.settings[n++] = (where))
    if (tool->options)
        TABLE(tool->options, stage ? stage->own : NULL);
    if (tool->has_inputs)
        TABLE(input_options, settings);
    if (tool->has_outputs)
        TABLE(output_options, settings);
    if (tool->position || tool->save || tool->keeps_state)
        TABLE(state_options, settings);
    if (tool->position || tool->save)
        TABLE(spool_options, settings);
    if (tool->save)
        TABLE(snapshot_options, settings);
    if (tool->save || tool->keeps_state)
        TABLE(side_options, settings);
    TABLE(common_options, settings);
    TABLE(tool->formats ? tool->formats : format_text_options, stage ? &settings->format : NULL);
    return tables;
#undef TABLE
}

static const option_t *find_option(const tables_t *tables, text_t name, void **settings) {
    for (size_t i = 0; tables->table[i]; i++) {
        const option_t *option = option_find(tables->table[i], name);
        if (option) {
            *settings = tables->settings[i];
            return option;
        }
    }
    return NULL;
}

json_t *stage_describe_options(const tool_t *tool) {
    tables_t tables = tables_of(tool, NULL);
    json_t *all = json_array();
    for (size_t i = 0; tables.table[i]; i++) {
        json_t *some = option_describe(tables.table[i]);
        json_array_extend(all, some);
        json_decref(some);
    }
    return all;
}

static void print_help(stage_t *stage, FILE *out) {
    const tool_t *tool = stage->tool;
    fprintf(out, "usage: %s %s\n\n%s\n", tool->name, tool->usage, tool->summary);
    tables_t tables = tables_of(tool, stage);
    fputs("\noptions:\n", out);
    for (size_t i = 0; tables.table[i]; i++) {
        if (tables.settings[i] == &stage->settings.format)
            fputs("\ntext formats:\n", out);
        option_help(tables.table[i], out);
    }
    fputs("\n      --settings FILE|fd:N        take options from a JSON object\n"
          "  -h, --help                      show this\n"
          "      --version                   show the version\n", out);
    if (tool->help) {
        fputc('\n', out);
        tool->help(stage, out);
    }
    fprintf(out, "\nSee %s(1).\n", tool->name);
}

/* An option of nobody's: with the name that is nearest among the tool's own and those of its drivers. */
static int unknown(stage_t *stage, const tables_t *tables, text_t name, const char *dashes, err_t *err) {
    const option_t *all[MAX_TABLES] = {NULL};
    size_t n = 0;
    for (; tables->table[n]; n++)
        all[n] = tables->table[n];
    if (stage->tool->driver_tables)
        stage->tool->driver_tables(stage, all + n, MAX_TABLES - 1 - n);
    const char *nearest = option_nearest(all, name), *no = "";
    if (!nearest && name.size > 3 && memcmp(name.data, "no-", 3) == 0) {
        no = "no-";
        nearest = option_nearest(all, text_make(name.data + 3, name.size - 3));
    }
    buf_t shown = {0};
    buf_put_text(&shown, name.size ? dashes : "");
    text_put_visible(&shown, name.size ? name : text_of("\"\""), 80);
    if (nearest)
        buf_format(&shown, "; did you mean %s%s%s?", dashes, no, nearest);
    err_set(err, "unknown option %s", buf_text(&shown));
    buf_fini(&shown);
    return -1;
}

/* One member of the settings object. */
static int apply_setting(stage_t *stage, const tables_t *tables, const char *key, const json_t *value, err_t *err) {
    void *settings;
    const option_t *option = find_option(tables, text_of(key), &settings);
    if (option) {
        option_note(&stage->private->given, option);
        return option_set_json(option, settings, value, err);
    }
    int result = stage->tool->setting ? stage->tool->setting(stage, key, value, err) : 1;
    if (result <= 0)
        return result;
    return unknown(stage, tables, text_of(key), "", err);
}

static int read_settings(stage_t *stage, const tables_t *tables, const char *where, err_t *err) {
    buf_t text = {0};
    char path[64];
    int64_t fd = -1;
    bool from_fd = text_starts(where, "fd:");
    if (from_fd) {
        if (text_to_int(text_of(where + 3), &fd, err) || fd < 0 || fd > 1 << 20)
            return err_set(err, "--settings %s: fd: takes the number of an open descriptor", where);
        snprintf(path, sizeof path, "/proc/self/fd/%d", (int) fd);
    }
    int result = file_read(from_fd ? path : where, SETTINGS_MAX, &text, err);
    if (from_fd && fd > STDERR_FILENO) { /* a standard one's number must not go to the next file that is opened */
        stage->private->settings_fd = (int) fd;
        fcntl((int) fd, F_SETFD, FD_CLOEXEC);
    }
    if (result) {
        err_wrap(err, "--settings %s", where);
        goto out;
    }
    buf_consume(&text, unicode_mark((const char *) text.data, text.size));
    json_error_t error;
    json_t *object = json_loadb((const char *) text.data, text.size, JSON_REJECT_DUPLICATES, &error);
    if (!object || !json_is_object(object)) {
        result = object ? err_set(err, "--settings %s: not a JSON object", where)
                        : err_set(err, "--settings %s:%d:%d: %s", where, error.line, error.column, error.text);
        json_decref(object);
        goto out;
    }
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (apply_setting(stage, tables, key, value, err)) {
            result = err_wrap(err, "--settings %s", where);
            break;
        }
    }
    json_decref(object);
out:
    if (text.data)
        explicit_bzero(text.data, text.capacity); /* it may hold secrets */
    buf_fini(&text);
    return result;
}

typedef struct command_line {
    char **arguments;
    int count, at;
} command_line_t;

static const char *next_argument(command_line_t *line) {
    return line->at < line->count ? line->arguments[line->at++] : NULL;
}

static int set_boolean(stage_t *stage, const option_t *option, void *settings, text_t value, bool negated, err_t *err) {
    option_note(&stage->private->given, option);
    if (negated && value.data)
        return err_set(err, "--no-%s takes no value", option->name);
    return option_set(option, settings, value.data ? value : text_of(negated ? "no" : "yes"), err);
}

/* One "--name[=value]", without its dashes. */
static int long_option(stage_t *stage, const tables_t *tables, command_line_t *line, const char *word, err_t *err) {
    text_t value = text_of(word), name;
    text_split(&value, '=', &name);
    void *settings;
    const option_t *option = find_option(tables, name, &settings);
    if (!option && name.size > 3 && memcmp(name.data, "no-", 3) == 0) {
        option = find_option(tables, text_make(name.data + 3, name.size - 3), &settings);
        if (option && option->type == OPTION_BOOL)
            return set_boolean(stage, option, settings, value, true, err);
        option = NULL;
    }
    if (text_is(name, "settings")) {
        const char *where = value.data ? value.data : next_argument(line);
        return where ? read_settings(stage, tables, where, err) : err_set(err, "--settings needs a value: FILE or fd:N");
    }
    if (option && option->type == OPTION_BOOL)
        return set_boolean(stage, option, settings, value, false, err) ? err_set(err, "--%s", err->text) : 0;
    const char *following = value.data ? value.data : line->at < line->count ? line->arguments[line->at] : NULL;
    if (option) {
        if (!following)
            return err_set(err, "--%s needs a value: %s", option->name, option->value ? option->value : "TEXT");
        line->at += !value.data;
        option_note(&stage->private->given, option);
        return option_set(option, settings, text_of(following), err) ? err_set(err, "--%s", err->text) : 0;
    }
    bool used = following != NULL;
    int result = stage->tool->option ? stage->tool->option(stage, name, following, &used, err) : 1;
    if (result == 0 && used && !value.data)
        line->at++;
    if (result <= 0)
        return result;
    return unknown(stage, tables, name, "--", err);
}

static int short_option(stage_t *stage, const tables_t *tables, command_line_t *line, const char *word, err_t *err) {
    for (size_t i = 0; tables->table[i]; i++) {
        for (const option_t *option = tables->table[i]; option->name; option++) {
            if (!option->letter || option->letter != word[1])
                continue;
            option_note(&stage->private->given, option);
            if (option->type == OPTION_BOOL && !word[2])
                return option_set(option, tables->settings[i], text_of("yes"), err);
            const char *value = word[2] ? word + 2 : next_argument(line);
            if (!value)
                return err_set(err, "-%c needs a value", option->letter);
            return option_set(option, tables->settings[i], text_of(value), err) ? err_wrap(err, "-%c", option->letter) : 0;
        }
    }
    return err_set(err, "unknown option %s", word);
}

int stage_parse(stage_t *stage, int argc, char **argv, bool *done, err_t *err) {
    tables_t tables = tables_of(stage->tool, stage);
    for (size_t i = 0; tables.table[i]; i++)
        option_defaults(tables.table[i], tables.settings[i]);
    command_line_t line = {argv, argc, 1};
    bool positional = false;
    for (const char *word; (word = next_argument(&line));) {
        int result;
        if (positional || word[0] != '-' || !word[1]) {
            result = stage->tool->argument ? stage->tool->argument(stage, word, err)
                                           : err_set(err, "unexpected argument %s", word);
        } else if (strcmp(word, "--") == 0) {
            positional = true;
            continue;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(stage, stdout);
            *done = true;
            return 0;
        } else if (strcmp(word, "--version") == 0) {
            printf("%s %s\n", stage->tool->name, VERSION);
            *done = true;
            return 0;
        } else {
            result = word[1] == '-' ? long_option(stage, &tables, &line, word + 2, err)
                                    : short_option(stage, &tables, &line, word, err);
        }
        if (result)
            return -1;
    }
    if (!stage->settings.state && stage->private->settings_fd >= 0) { /* it is needed again only by a stage that starts over */
        close(stage->private->settings_fd);
        stage->private->settings_fd = -1;
    }
    return 0;
}

/* What a tool that reads frames can read as text is what comes by standard input. */
static bool reads_text(const stage_t *stage) {
    const option_list_t *from = &stage->settings.from;
    for (size_t i = 0; i < from->count; i++)
        if (*from->items[i] == '-')
            return true;
    return !from->count;
}

typedef struct needs {
    const stage_t *stage;
    const stage_scope_t *scope;
} needs_t;

static int holds(const void *argument, text_t name, text_t value) {
    const needs_t *needs = argument;
    int known = needs->scope && needs->scope->holds ? needs->scope->holds(needs->scope->argument, name, value) : -1;
    bool of_text = text_is(name, "text") || text_is(name, "time");
    return known < 0 && of_text && needs->stage->tool->has_inputs ? reads_text(needs->stage) : known;
}

int stage_check_needs(stage_t *stage, const stage_scope_t *scope, err_t *err) {
    tables_t tables = tables_of(stage->tool, stage);
    needs_t needs = {stage, scope};
    option_scope_t all = {.holds = holds, .argument = &needs};
    size_t n = 0;
    if (scope && scope->table) {
        all.tables[n] = scope->table;
        all.settings[n++] = scope->settings;
    }
    for (size_t i = 0; tables.table[i]; i++) {
        ASSERT(n < OPTION_SCOPE_TABLES - 1);
        all.tables[n] = tables.table[i];
        all.settings[n++] = tables.settings[i];
    }
    return (scope && scope->given && option_check_needs(scope->given, &all, err)) || option_check_needs(&stage->private->given, &all, err) ? -1 : 0;
}

void stage_options_fini(stage_t *stage) {
    tables_t tables = tables_of(stage->tool, stage);
    option_given_fini(&stage->private->given);
    for (size_t i = 0; tables.table[i]; i++)
        option_fini(tables.table[i], tables.settings[i]);
}
