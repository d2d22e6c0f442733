/* --check=json and --explain: the program alone. */
#include "alone.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/unicode.h"
#include "outline.h"
#include "program.h"

#define PROGRAM_FILE_MAX (1u << 20)

int alone_read_file(const char *path, char **text, err_t *err) {
    buf_t bytes = {0};
    if (file_read(path, PROGRAM_FILE_MAX, &bytes, err) < 0) {
        buf_fini(&bytes);
        return err_wrap(err, "the program");
    }
    size_t size = bytes.size;
    buf_text(&bytes);
    if (memchr(bytes.data, 0, size)) {
        buf_fini(&bytes);
        return err_set(err, "the program %s: a NUL byte: not a text", path);
    }
    *text = mem_text((const char *) bytes.data + unicode_mark((const char *) bytes.data, size));
    buf_fini(&bytes);
    return 0;
}

static int usage(const char *option, const char *text) {
    fprintf(stderr, "process: %s%s\nTry 'process --help'.\n", option, text);
    return EX_USAGE;
}

static void ignore_frame(void *argument, frame_t *frame) {
    frame_unref(frame);
}

static void ignore_dead(void *argument, const event_t *event, const char *place, const char *reason) {
}

static void put_warning(void *argument, const char *text) {
    buf_t *out = argument;
    buf_put_text(out, out->size ? "," : ",\"warnings\":[");
    text_put_json(out, text_of(text));
}

/* {"ok":true,"errors":[]} and, when there are any, "warnings":["..."] and "state":[{...}]. */
static void put_check(const diagnostics_t *diagnostics, const program_t *program, buf_t *out) {
    buf_t warnings = {0}, state = {0};
    diagnostics_put_json(diagnostics, out);
    if (program) {
        program_look(program, put_warning, &warnings);
        explain_state(program, &state);
    }
    out->size -= strlen("}\n");
    if (warnings.size)
        buf_format(out, "%s]", buf_text(&warnings));
    if (state.size)
        buf_format(out, ",\"state\":[%s]", buf_text(&state));
    buf_put_text(out, "}\n");
    buf_fini(&warnings);
    buf_fini(&state);
}

static int look_at(const char *name, const char *text, bool explained) {
    diagnostics_t diagnostics = {.name = name, .source = text_of(text)};
    program_setup_t setup = {.stream = "process", .inputs = 1, .batch_events = 1, .batch_bytes = 1, .frame = ignore_frame, .dead = ignore_dead,
                             .outline = true};
    program_t *program = program_new(&setup, &diagnostics);
    buf_t out = {0};
    if (!explained)
        put_check(&diagnostics, program, &out);
    else if (program)
        explain(program, &out);
    else
        diagnostics_print(&diagnostics, &out);
    FILE *to = explained && !program ? stderr : stdout;
    fwrite(out.data, 1, out.size, to);
    int status = program ? 0 : EX_USAGE;
    program_free(program);
    buf_fini(&out);
    diagnostics_fini(&diagnostics);
    return status;
}

int alone_main(int argc, char **argv, const char *option) {
    const char *text = NULL, *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], option) == 0)
            continue;
        if (strcmp(argv[i], "-f") == 0 || strcmp(argv[i], "--file") == 0)
            path = ++i < argc ? argv[i] : NULL;
        else if (strncmp(argv[i], "--file=", 7) == 0)
            path = argv[i] + 7;
        else if (argv[i][0] == '-' && argv[i][1])
            return usage(option, " goes with a program or -f FILE alone");
        else if (text)
            return usage("", "a second program; operators are joined with | in one argument, in quotes");
        else
            text = argv[i];
    }
    if (!text == !path)
        return usage(option, " needs a program, or -f FILE");
    bool explained = strcmp(option, "--explain") == 0;
    if (text)
        return look_at("program", text, explained);
    char *content = NULL;
    err_t err;
    if (alone_read_file(path, &content, &err) < 0)
        return usage("", err.text);
    int status = look_at(path, content, explained);
    mem_free(content);
    return status;
}
