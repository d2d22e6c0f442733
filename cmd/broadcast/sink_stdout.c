/* stdout: text on standard output. A pipe is written without blocking, so that a slow reader holds back this sink only. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "sink.h"

#define PIECE (64u * 1024)         /* written at once under load */
#define FULL (512u * 1024)         /* text waiting for the reader at most, before a frame is added */

typedef struct output {
    char *format_name;
    encoder_t *encoder;
    const format_t *format;
    int fd;
    bool own_fd;
    buf_t text;
    size_t written;
    uint32_t unanswered;
    loop_watch_t *watch;           /* waits for the reader */
} output_t;

static void try_write(sink_t *sink);

static int stdout_check(sink_t *sink, err_t *err) {
    output_t *output = sink->own;
    if (sink->target[0])
        return err_set(err, "stdout: takes nothing after the colon, found %s", sink->target);
    return sink_format(sink, output->format_name, NULL, &output->format, err);
}

/* A description of our own for the pipe or terminal, because O_NONBLOCK belongs to the description and others share fd 1. */
static int stdout_open(sink_t *sink, err_t *err) {
    output_t *output = sink->own;
    struct stat status;
    output->fd = STDOUT_FILENO;
    if (fstat(STDOUT_FILENO, &status))
        return err_errno(err, "standard output");
    if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
        int fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0) {
            output->fd = fd;
            output->own_fd = true;
        }
    }
    if (output->format->encoder_open(&output->encoder, &sink->stage->settings.format, err))
        return -1;
    if (output->encoder->class->header)
        output->encoder->class->header(output->encoder, &output->text);
    return 0;
}

static void writable(void *argument, uint32_t events) {
    sink_t *sink = argument;
    try_write(sink);
}

static void wait_for_reader(sink_t *sink) {
    output_t *output = sink->own;
    if (!output->watch)
        output->watch = loop_fd(sink->stage->loop, output->fd, EPOLLOUT, writable, sink);
    if (output->text.size - output->written >= FULL)
        sink->full = true; /* until all is written */
}

static void all_written(sink_t *sink) {
    output_t *output = sink->own;
    buf_clear(&output->text);
    output->written = 0;
    loop_remove(output->watch);
    output->watch = NULL;
    uint32_t count = output->unanswered;
    output->unanswered = 0;
    sink_answer(sink, SINK_OK, count, NULL);
    if (sink->full)
        sink_more(sink);
}

static void try_write(sink_t *sink) {
    output_t *output = sink->own;
    while (output->written < output->text.size) {
        ssize_t n = write(output->fd, output->text.data + output->written, output->text.size - output->written);
        if (n >= 0) {
            output->written += (size_t) n;
        } else if (errno == EAGAIN) {
            wait_for_reader(sink);
            return;
        } else if (errno != EINTR) {
            output->unanswered = 0;
            buf_clear(&output->text);
            output->written = 0;
            if (errno == EPIPE || errno == ECONNRESET)
                stage_leave_off(sink->stage, "standard output was closed");
            else
                stage_fail(sink->stage, "write to standard output: %s", strerror(errno));
            return;
        }
    }
    all_written(sink);
}

static void stdout_write(sink_t *sink, frame_t *frame) {
    output_t *output = sink->own;
    sink_malformed(sink, output->encoder->class->frame(output->encoder, frame, sink_tag(sink, frame), &output->text));
    output->unanswered++;
    if (output->watch)
        wait_for_reader(sink);
    else if (output->text.size >= PIECE)
        try_write(sink);
}

static void stdout_flush(sink_t *sink) {
    output_t *output = sink->own;
    if (!output->watch)
        try_write(sink);
}

static void stdout_close(sink_t *sink) {
    output_t *output = sink->own;
    loop_remove(output->watch);
    encoder_free(output->encoder);
    buf_fini(&output->text);
    if (output->own_fd)
        close(output->fd);
}

static const option_t options[] = {
    {"format", OPTION_TEXT, offsetof(output_t, format_name), NULL, "FORMAT", "text format; default ndjson"},
    {0},
};

static const char *const words[] = {"stdout", NULL};

const sink_class_t sink_stdout = {
    .name = "stdout",
    .schemes = words,
    .types = words,
    .help = "text on standard output",
    .options = options,
    .size = sizeof(output_t),
    .check = stdout_check,
    .open = stdout_open,
    .write = stdout_write,
    .flush = stdout_flush,
    .close = stdout_close,
};
