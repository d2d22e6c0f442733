/* Asking the other tools: which drivers and options they have, and whether a program compiles. streamctl keeps no table of theirs. */
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "topology.h"

#define ANSWER_MAX (4u * 1024 * 1024)
#define PATIENCE (10 * NS_PER_S)

char *tools_own_path(void) {
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path);
    return n > 0 && (size_t) n < sizeof path ? mem_text_n(path, (size_t) n) : mem_text("streamctl");
}

char *tools_path(const char *name) {
    char *own = tools_own_path();
    char *slash = strrchr(own, '/');
    char *path = slash ? mem_format("%.*s/%s", (int) (slash - own), own, name) : mem_text(name);
    mem_free(own);
    if (access(path, X_OK) == 0)
        return path;
    mem_free(path);
    return mem_text(name);
}

static _Noreturn void become(char *const *arguments, const char *directory, int input, int output, bool merge) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 || (merge && dup2(output, 2) < 0))
        _exit(126);
    if (input == 3 ? fcntl(3, F_SETFD, 0) < 0 : dup2(input, 3) < 0)
        _exit(126);
    if (directory && chdir(directory) < 0)
        _exit(126);
    execvp(arguments[0], arguments);
    _exit(127);
}

/* Reads until the end, the bound or the time limit; false when it was cut short. */
static bool collect(int fd, size_t limit, buf_t *output) {
    int64_t end = clock_monotonic() + PATIENCE;
    for (;;) {
        int64_t left = end - clock_monotonic();
        struct pollfd poller = {fd, POLLIN, 0};
        int ready = left > 0 ? poll(&poller, 1, (int) (left / NS_PER_MS) + 1) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || output->size > limit)
            return false;
        ssize_t n = read(fd, buf_reserve(output, 65536), 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        output->size += (size_t) n;
    }
}

int tools_capture(char *const *arguments, const char *directory, text_t input, bool merge, size_t limit, buf_t *output, err_t *err) {
    int memory = memfd_create("input", MFD_CLOEXEC), ends[2] = {-1, -1}, result = -1;
    if (memory < 0 || (input.size && write(memory, input.data, input.size) != (ssize_t) input.size) ||
        lseek(memory, 0, SEEK_SET) != 0 || pipe2(ends, O_CLOEXEC)) {
        err_errno(err, "run %s", arguments[0]);
        goto out;
    }
    pid_t pid = fork();
    if (pid < 0) {
        err_errno(err, "run %s", arguments[0]);
        goto out;
    }
    if (pid == 0)
        become(arguments, directory, memory, ends[1], merge);
    close(ends[1]);
    ends[1] = -1;
    bool whole = collect(ends[0], limit, output);
    if (!whole)
        kill(pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!whole)
        err_set(err, "%s did not answer within 10 s", arguments[0]);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        err_set(err, "cannot run %s: it is neither beside streamctl nor in PATH", arguments[0]);
    else if (!WIFEXITED(status))
        err_set(err, "%s died of signal %d (%s)", arguments[0], WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        result = WEXITSTATUS(status);
out:
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    if (memory >= 0)
        close(memory);
    return result;
}

static int describe(config_tool_t **tool, const char *name, err_t *err) {
    char *path = tools_path(name);
    char *arguments[] = {path, "--list=json", NULL};
    buf_t output = {0};
    json_t *description = NULL;
    int result = -1;
    int status = tools_capture(arguments, NULL, (text_t){0}, false, ANSWER_MAX, &output, err);
    if (status == 0) {
        json_error_t error;
        description = json_loadb((const char *) output.data, output.size, 0, &error);
        result = description ? config_tool_new(tool, description, err) : err_set(err, "%s", error.text);
        if (result)
            err_wrap(err, "%s --list=json", path);
    } else if (status > 0) {
        err_set(err, "%s --list=json failed with status %d", path, status);
    }
    json_decref(description);
    buf_fini(&output);
    mem_free(path);
    return result;
}

/* Byte offset of a line and column (from 1) in a text. */
static size_t offset_of(const char *text, int64_t line, int64_t column) {
    const char *at = text;
    for (; line > 1 && (at = strchr(at, '\n')); line--)
        at++;
    if (!at)
        return strlen(text);
    size_t rest = strcspn(at, "\n"), before = column > 1 ? (size_t) column - 1 : 0;
    return (size_t) (at - text) + (before < rest ? before : rest);
}

static size_t inside(const config_pipeline_t *pipeline, size_t offset) {
    return offset > pipeline->skip ? offset - pipeline->skip : 0;
}

/* Where in config.json a place of the program stands: inside its string, or inside the line of its array. */
static config_place_t place_in_config(const config_t *config, const config_pipeline_t *pipeline, int64_t line, int64_t column) {
    text_t text = text_make((const char *) config->text.data, config->text.size);
    char *element = mem_format("%s/%lld", pipeline->pointer, (long long) line - 1);
    config_place_t whole = config_locate(text, pipeline->pointer, false), place = config_locate(text, element, false);
    if (place.line != whole.line || place.column != whole.column)     /* there is such an element */
        place = config_locate_inside(text, element, column > 1 ? (size_t) column - 1 : 0);
    else
        place = config_locate_inside(text, pipeline->pointer, inside(pipeline, offset_of(pipeline->program, line, column)));
    mem_free(element);
    return place;
}

static const char *name_of(const config_pipeline_t *pipeline) {
    return pipeline->name ? pipeline->name : "";
}

static void report_program(const config_t *config, const config_pipeline_t *pipeline, const json_t *answer, config_errors_t *errors) {
    const json_t *list = json_object_get(answer, "errors");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *message = json_string_value(json_object_get(item, "message"));
        const char *hint = json_string_value(json_object_get(item, "hint"));
        config_place_t place = place_in_config(config, pipeline, json_integer_value(json_object_get(item, "line")),
                                               json_integer_value(json_object_get(item, "column")));
        config_errors_add(errors, place, "pipeline \"%s\": %s%s%s", name_of(pipeline), message ? message : "the program is not valid",
                          hint && *hint ? "; " : "", hint ? hint : "");
    }
    if (!json_array_size(list))
        config_errors_add(errors, place_in_config(config, pipeline, 1, 1), "pipeline \"%s\": the program is not valid", name_of(pipeline));
}

static void note_warnings(const config_t *config, const config_pipeline_t *pipeline, const json_t *answer, config_errors_t *warnings) {
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(answer, "warnings"), i, item)
        config_errors_add(warnings, place_in_config(config, pipeline, 1, 1), "warning: pipeline \"%s\": %s", name_of(pipeline), json_string_value(item));
}

static bool has_key(const json_t *keys, const char *key) {
    const json_t *name;
    size_t i;
    json_array_foreach(keys, i, name) {
        const char *dot = strrchr(key, '.'); /* a path goes by its last part */
        if (strcmp(json_string_value(name), key) == 0 || (dot && strcmp(json_string_value(name), dot + 1) == 0))
            return true;
    }
    return false;
}

/* Workers that do not have all events of a key each make a part of its result: that would be seen in the numbers only, if at all. */
static void warn_of_workers(const config_t *config, const config_pipeline_t *pipeline, const json_t *answer, config_errors_t *warnings) {
    const json_t *op;
    size_t i;
    json_array_foreach(json_object_get(answer, "state"), i, op) {
        const json_t *keys = json_object_get(op, "keys");
        if (pipeline->workers < 2 || (pipeline->key && (json_is_true(json_object_get(op, "made")) || has_key(keys, pipeline->key))))
            continue;
        const char *name = json_string_value(json_object_get(op, "operator")), *first = json_string_value(json_array_get(keys, 0));
        int line = (int) json_integer_value(json_object_get(op, "line")), column = (int) json_integer_value(json_object_get(op, "column"));
        char *remedy = pipeline->key ? mem_format("they are shared by \"%s\", which is no key of it", pipeline->key)
                       : first       ? mem_format("give it \"key\": \"%s\"", first)
                                     : mem_text("it needs a field \"key\" and the same one behind \"by\", or one worker");
        config_errors_add(warnings, place_in_config(config, pipeline, line, column), "warning: pipeline \"%s\": each of its %d workers has only a part of the events, "
                          "and %s would give a result for each part: %s", name_of(pipeline), (int) pipeline->workers, name, remedy);
        mem_free(remedy);
        return;
    }
}

static void check_program(const config_t *config, const config_pipeline_t *pipeline, char *process, config_errors_t *errors,
                          config_errors_t *warnings) {
    char *arguments[] = {process, "--check=json", "-f", "/proc/self/fd/3", NULL};
    buf_t output = {0};
    err_t err = {{0}};
    int status = tools_capture(arguments, config->directory, text_of(pipeline->program), false, ANSWER_MAX, &output, &err);
    if (status < 0) {
        config_errors_add(errors, (config_place_t){0, 0}, "pipeline \"%s\": %s", name_of(pipeline), err.text);
    } else {
        json_error_t error;
        json_t *answer = json_loadb(output.data ? (const char *) output.data : "", output.size, 0, &error);
        if (status)
            report_program(config, pipeline, answer, errors);
        else if (warnings) {
            note_warnings(config, pipeline, answer, warnings);
            warn_of_workers(config, pipeline, answer, warnings);
        }
        json_decref(answer);
    }
    buf_fini(&output);
}

/* The member of the entry that an error is about, "--rotate-wait needs --follow": where its key stands; else where the entry begins. */
static config_place_t place_of_error(const config_t *config, const char *pointer, const json_t *settings, const char *said) {
    text_t text = text_make((const char *) config->text.data, config->text.size);
    size_t size = strncmp(said, "--", 2) == 0 ? strspn(said + 2, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *) settings, key, value) {
        bool same = size && strlen(key) == size;
        for (size_t i = 0; same && i < size; i++)
            same = said[2 + i] == (key[i] == '_' ? '-' : key[i]);
        if (!same)
            continue;
        char *member = mem_format("%s/%s", pointer, key);
        config_place_t place = config_locate(text, member, true);
        mem_free(member);
        return place;
    }
    return config_locate(text, pointer, false);
}

/* What only the tool itself can say of an entry: a URL that is missing, options that exclude each other. own: its members in the file. */
static void check_entry(const config_t *config, char *path, const json_t *settings, const json_t *own, const char *what, const char *name,
                        const char *pointer, config_errors_t *errors) {
    char *arguments[] = {path, "--check", "--settings", "fd:3", NULL};
    buf_t output = {0};
    err_t err = {{0}};
    char *text = json_dumps(settings, JSON_COMPACT);
    int status = tools_capture(arguments, config->directory, text_of(text), true, ANSWER_MAX, &output, &err);
    if (status) {
        const char *said = status < 0 ? err.text : buf_text(&output);
        const char *colon = strstr(said, ": "); /* behind the tool's name; its first line is the error, then comes a hint to --help */
        said = status > 0 && colon ? colon + 2 : said;
        char *again = mem_format("%s %s: ", what, name); /* broadcast says as well which one is meant */
        said += text_starts(said, again) ? strlen(again) : 0;
        mem_free(again);
        config_place_t place = place_of_error(config, pointer, own, said);
        config_errors_add(errors, place, "%s \"%s\": %.*s", what, name, (int) strcspn(said, "\n"), said);
    }
    explicit_bzero(text, strlen(text));
    free(text);
    buf_fini(&output);
}

static void check_entries(const config_t *config, config_errors_t *errors) {
    char *ingest = tools_path("ingest"), *broadcast = tools_path("broadcast");
    for (size_t i = 0; i < config->source_count; i++)
        if (config->sources[i].good) {
            const config_source_t *source = &config->sources[i];
            json_t *settings = topology_source_settings(config, source);
            check_entry(config, ingest, settings, source->settings, "source", source->name, source->pointer, errors);
            json_decref(settings);
        }
    for (size_t i = 0; i < config->sink_count; i++) {
        if (!config->sinks[i].good)
            continue;
        json_t *settings = json_pack("{s:[O]}", "sinks", config->sinks[i].settings);
        check_entry(config, broadcast, settings, config->sinks[i].settings, "sink", config->sinks[i].name, config->sinks[i].pointer, errors);
        json_decref(settings);
    }
    mem_free(ingest);
    mem_free(broadcast);
}

int tools_load_config(config_t **config, const char *path, config_errors_t *errors, config_errors_t *warnings) {
    config_tool_t *ingest = NULL, *broadcast = NULL;
    err_t err = {{0}};
    config_t *loaded = NULL;
    int result = -1;
    if (describe(&ingest, "ingest", &err) || describe(&broadcast, "broadcast", &err)) {
        config_errors_add(errors, (config_place_t){0, 0}, "cannot be checked: %s", err.text);
        goto out;
    }
    config_tools_t tools = {ingest, broadcast};
    config_load(&loaded, path, &tools, errors);
    char *process = tools_path("process");
    for (size_t i = 0; loaded && i < loaded->pipeline_count; i++)
        if (loaded->pipelines[i].program)
            check_program(loaded, &loaded->pipelines[i], process, errors, warnings);
    mem_free(process);
    if (loaded)
        check_entries(loaded, errors);
    config_errors_sort(errors);
    if (warnings)
        config_errors_sort(warnings);
    if (errors->count) {
        config_free(loaded);
        goto out;
    }
    *config = loaded;
    result = 0;
out:
    config_tool_free(ingest);
    config_tool_free(broadcast);
    return result;
}
