/* Source "-": standard input, whatever is behind it. A terminal comes line by line, as it gives its lines. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "reader.h"
#include "source.h"

typedef struct stdin_source {
    source_t source;
    source_setup_t setup;
    decoder_t *decoder;
    reader_t *reader;
} stdin_source_t;

static size_t on_data(void *argument, const char *data, size_t size, bool at_end) {
    stdin_source_t *self = argument;
    source_healthy(self->setup.host);
    return source_decode(self->setup.host, self->decoder, data, size, at_end, "stdin");
}

static void on_ended(void *argument, const char *error) {
    stdin_source_t *self = argument;
    if (error)
        source_failed(self->setup.host, "standard input: %s", error);
    else
        source_ended(self->setup.host);
}

static int stdin_start(source_t *source, err_t *err) {
    stdin_source_t *self = (stdin_source_t *) source;
    struct stat status;
    if (source_keeps_position(self->setup.host) && fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode))
        return err_set(err, "with --state a file is given by its name, not as standard input: a restart would read it from its beginning again");
    reader_setup_t setup = {.loop = self->setup.loop, .fd = STDIN_FILENO, .data = on_data, .ended = on_ended, .argument = self};
    self->reader = reader_new(&setup, err);
    if (!self->reader)
        return err_wrap(err, "standard input");
    reader_resume(self->reader);
    return 0;
}

static void stdin_pause(source_t *source) {
    reader_pause(((stdin_source_t *) source)->reader);
}

static void stdin_resume(source_t *source) {
    reader_resume(((stdin_source_t *) source)->reader);
}

static void stdin_free(source_t *source) {
    stdin_source_t *self = (stdin_source_t *) source;
    reader_free(self->reader);
    decoder_free(self->decoder);
    mem_free(self);
}

static const source_class_t class = {.start = stdin_start, .pause = stdin_pause, .resume = stdin_resume, .free = stdin_free};

static int stdin_open(source_t **source, const source_setup_t *setup, err_t *err) {
    stdin_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    const format_t *format = setup->format ? setup->format : format_find("ndjson");
    if (format->decoder_open(&self->decoder, setup->format_settings, err)) {
        mem_free(self);
        return -1;
    }
    *source = &self->source;
    return 0;
}

static const char *stdin_stream(const source_setup_t *setup, buf_t *space) {
    return "stdin";
}

const source_driver_t source_stdin = {
    .name = "stdin",
    .schemes = {NULL},
    .types = {{"stdin", "-"}},
    .usage = "-",
    .help = "standard input, to its end",
    .stream = stdin_stream,
    .open = stdin_open,
};
