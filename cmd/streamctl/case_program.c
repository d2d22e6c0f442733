/* Programs that a file of test cases names: a file, or a pipeline of a config.json, so that what is tested is what runs. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/unicode.h"
#include "case_file.h"

#define PROGRAM_FILE_MAX (1u << 20)

char *case_directory(const char *path) {
    const char *slash = strrchr(path, '/');
    return !slash ? mem_text(".") : slash == path ? mem_text("/") : mem_text_n(path, (size_t) (slash - path));
}

/* A path as the test file means it: relative to itself. */
static char *beside(const char *test_path, const char *name, size_t size) {
    if (size && name[0] == '/')
        return mem_text_n(name, size);
    char *directory = case_directory(test_path), *path = mem_format("%s/%.*s", directory, (int) size, name);
    mem_free(directory);
    return path;
}

int case_program_file(test_case_t *test, const char *test_path, text_t name, err_t *err) {
    char *path = beside(test_path, name.data, name.size);
    buf_t text = {0};
    int rc = file_read(path, PROGRAM_FILE_MAX, &text, err);
    if (rc == 0) {
        buf_text(&text);
        test->program = mem_text(text.data ? (const char *) text.data + unicode_mark((const char *) text.data, text.size) : "");
        test->origin = mem_text(path);
    }
    buf_fini(&text);
    mem_free(path);
    return rc;
}

static const config_pipeline_t *pipeline_called(const config_t *config, text_t name) {
    for (size_t i = 0; config && i < config->pipeline_count; i++)
        if (config->pipelines[i].name && config->pipelines[i].program && text_is(name, config->pipelines[i].name))
            return &config->pipelines[i];
    return NULL;
}

static int no_such_pipeline(const config_t *config, const config_errors_t *errors, const char *path, text_t name, err_t *err) {
    if (errors->count) /* perhaps why it is not there */
        return err_set(err, "%s: %s", path, errors->items[0].text);
    const char *names[256];
    size_t count = 0;
    for (size_t i = 0; i < config->pipeline_count && count < 256; i++)
        if (config->pipelines[i].name)
            names[count++] = config->pipelines[i].name;
    char *wanted = mem_text_n(name.data, name.size);
    const char *near = text_nearest(wanted, names, count);
    err_set(err, "%s has no pipeline \"%s\"%s%s%s", path, wanted, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    mem_free(wanted);
    return -1;
}

/* Other things in the configuration may be amiss, such as a secret that is not set here: that is streamctl check's matter. */
int case_program_pipeline(test_case_t *test, const char *test_path, text_t name, err_t *err) {
    const char *given = test->options.config;
    char *path = given ? beside(test_path, given, strlen(given)) : beside(test_path, "config.json", 11);
    config_t *config = NULL;
    config_errors_t errors = {0};
    config_tools_t tools = {0};
    config_load(&config, path, &tools, &errors);
    const config_pipeline_t *pipeline = pipeline_called(config, name);
    int rc = 0;
    if (pipeline) {
        test->program = mem_text(pipeline->program);
        test->origin = mem_format("%s, pipeline \"%s\"", path, pipeline->name);
        mem_free(test->directory);
        test->directory = case_directory(path);
        if (!test->options.name)
            test->options.name = mem_text(pipeline->name);
    } else {
        rc = no_such_pipeline(config, &errors, path, name, err);
    }
    config_free(config);
    config_errors_fini(&errors);
    mem_free(path);
    return rc;
}
