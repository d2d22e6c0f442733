/* Source "exec:": a command whose standard output is the stream. It is started again when it ends; what it says on standard error goes to the log. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/backoff.h"
#include "reader.h"
#include "source.h"
#include "text_server.h"

#define SAID_MAX 300                   /* of a line on standard error, in the log */
#define PATIENCE (1 * NS_PER_S)        /* to end, for a command that has closed its output */

typedef struct exec_settings {
    bool once;
    int64_t retry_min, retry_max;
    option_list_t env;
} exec_settings_t;

#define AT(field) offsetof(exec_settings_t, field)
static const option_t options[] = {
    {"once", OPTION_BOOL, AT(once), "no", NULL, "end when the command ends, with its success or failure"},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait before it is started again; doubled with each further failure", NS_PER_MS,
     86400 * NS_PER_S, .needs = "!once"},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait before it is started again", NS_PER_MS, 86400 * NS_PER_S, .needs = "!once"},
    {"env", OPTION_LIST, AT(env), NULL, "NAME", "a variable of our environment that the command gets, beside PATH, HOME and the language"},
    {0},
};

typedef struct exec_source {
    source_t source;
    source_setup_t setup;
    const exec_settings_t *settings;
    decoder_t *decoder;
    child_t program;               /* pid 0: does not run */
    reader_t *reader;
    loop_watch_t *err_watch, *end_watch, *mute, *timer;
    buf_t said;
    backoff_t backoff;
    log_limit_t limit;
    int status;
    bool paused;
    bool read;                     /* its output has come to its end */
    bool brought;                  /* it has brought data */
} exec_source_t;

static void start(void *argument);

/* ---- what it says on standard error ---- */

static void say(exec_source_t *self, text_t line) {
    if (!line.size || !log_limited(&self->limit))
        return;
    buf_t text = {0};
    text_put_visible(&text, line, SAID_MAX);
    if (self->limit.reported)
        buf_format(&text, " (and %llu lines more)", (unsigned long long) self->limit.reported);
    log_warning("the command says: %s", buf_text(&text));
    buf_fini(&text);
}

static void say_lines(exec_source_t *self, bool all) {
    const uint8_t *end;
    while (self->said.size && (end = memchr(self->said.data, '\n', self->said.size))) {
        size_t size = (size_t) (end - self->said.data);
        say(self, text_make((const char *) self->said.data, size));
        buf_consume(&self->said, size + 1);
    }
    if (self->said.size > SAID_MAX || all) { /* a line without end */
        say(self, text_make((const char *) self->said.data, self->said.size));
        buf_clear(&self->said);
    }
}

static void on_err(void *argument, uint32_t events) {
    exec_source_t *self = argument;
    ssize_t got = read(self->program.err, buf_reserve(&self->said, 4096), 4096);
    if (got > 0)
        self->said.size += (size_t) got;
    say_lines(self, false);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        loop_remove(self->err_watch);
        self->err_watch = NULL;
    }
}

static void read_last_words(exec_source_t *self) {
    for (int i = 0; i < 32 && self->err_watch; i++)
        on_err(self, 0);
    say_lines(self, true);
}

/* ---- its end ---- */

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void forget(exec_source_t *self) {
    loop_remove(self->err_watch);
    loop_remove(self->end_watch);
    loop_remove(self->mute);
    self->err_watch = self->end_watch = self->mute = NULL;
    reader_free(self->reader);
    self->reader = NULL;
    close_fd(&self->program.out);
    close_fd(&self->program.err);
    close_fd(&self->program.ended);
}

static void describe(int status, char *text, size_t size) {
    if (WIFSIGNALED(status))
        snprintf(text, size, "the command was ended by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127)
        snprintf(text, size, "the command could not be run (status %d)", WEXITSTATUS(status));
    else
        snprintf(text, size, "the command ended with status %d", WEXITSTATUS(status));
}

/* Both have happened: it has ended, and its output has been read. */
static void on_over(void *argument) {
    exec_source_t *self = argument;
    char how[80];
    forget(self);
    describe(self->status, how, sizeof how);
    if (self->settings->once) {
        if (self->status)
            source_ended_badly(self->setup.host, how);
        else
            source_ended(self->setup.host);
        return;
    }
    if (self->status)
        source_unhealthy(self->setup.host, "%s; it is started again", how);
    else if (!self->brought)
        source_unhealthy(self->setup.host, "the command ended without any output; it is started again");
    if (self->status == 0 && self->brought)
        backoff_reset(&self->backoff);
    self->timer = loop_timer(self->setup.loop, backoff_next(&self->backoff), 0, start, self);
}

static void look(exec_source_t *self) {
    if (!self->program.pid && self->read)
        loop_defer(self->setup.loop, on_over, self); /* not within the reader's call */
}

static void on_end(void *argument, uint32_t events) {
    exec_source_t *self = argument;
    self->status = child_reap(self->program.pid);
    self->program.pid = 0;
    loop_remove(self->end_watch);
    loop_remove(self->mute);
    self->end_watch = self->mute = NULL;
    read_last_words(self);
    look(self);
}

static void on_mute(void *argument) {
    exec_source_t *self = argument;
    self->mute = NULL;
    log_warning("the command has closed its output and goes on: it is ended");
    kill(-self->program.pid, SIGKILL);
}

/* ---- its output ---- */

static size_t on_data(void *argument, const char *data, size_t size, bool at_end) {
    exec_source_t *self = argument;
    if (size) {
        self->brought = true;
        source_healthy(self->setup.host);
    }
    return source_decode(self->setup.host, self->decoder, data, size, at_end, "exec");
}

static void on_read(void *argument, const char *error) {
    exec_source_t *self = argument;
    self->read = true;
    if (error)
        log_warning("the command's output: %s", error);
    if (self->program.pid)
        self->mute = loop_timer(self->setup.loop, PATIENCE, 0, on_mute, self);
    look(self);
}

static void start(void *argument) {
    exec_source_t *self = argument;
    err_t err;
    const option_list_t *env = &self->settings->env;
    self->timer = NULL;
    self->read = self->brought = false;
    if (child_start(&self->program, self->setup.rest, false, (const char *const *) env->items, env->count, &err)) {
        source_unhealthy(self->setup.host, "%s", err.text);
        self->timer = loop_timer(self->setup.loop, backoff_next(&self->backoff), 0, start, self);
        return;
    }
    decoder_reset(self->decoder);
    self->decoder->records = 0;
    self->end_watch = loop_fd(self->setup.loop, self->program.ended, EPOLLIN, on_end, self);
    self->err_watch = loop_fd(self->setup.loop, self->program.err, EPOLLIN, on_err, self);
    reader_setup_t setup = {.loop = self->setup.loop, .fd = self->program.out, .data = on_data, .ended = on_read, .argument = self};
    self->reader = reader_new(&setup, &err);
    ASSERT(self->reader); /* a pipe can be read */
    if (!self->paused)
        reader_resume(self->reader);
}

/* ---- the source ---- */

static int exec_start(source_t *source, err_t *err) {
    start(source);
    return 0;
}

static void exec_pause(source_t *source) {
    exec_source_t *self = (exec_source_t *) source;
    self->paused = true;
    if (self->reader)
        reader_pause(self->reader);
}

static void exec_resume(source_t *source) {
    exec_source_t *self = (exec_source_t *) source;
    self->paused = false;
    if (self->reader)
        reader_resume(self->reader);
}

static void exec_free(source_t *source) {
    exec_source_t *self = (exec_source_t *) source;
    loop_remove(self->timer);
    loop_undefer(self->setup.loop, on_over, self);
    if (self->program.pid)
        child_end(self->program.pid);
    forget(self);
    decoder_free(self->decoder);
    buf_fini(&self->said);
    mem_free(self);
}

static const source_class_t class = {.start = exec_start, .pause = exec_pause, .resume = exec_resume, .free = exec_free};

static int exec_check(const source_setup_t *setup, err_t *err) {
    const exec_settings_t *settings = setup->settings;
    if (!text_trim(text_of(setup->rest)).size)
        return err_set(err, "exec: needs a command: exec:vmstat -n 1");
    if (settings->retry_max < settings->retry_min)
        return err_set(err, "--retry-max is below --retry-min");
    return 0;
}

static int exec_open(source_t **source, const source_setup_t *setup, err_t *err) {
    exec_source_t *self = mem_zero(sizeof *self);
    const exec_settings_t *settings = setup->settings;
    self->source.class = &class;
    self->setup = *setup;
    self->settings = settings;
    self->program = (child_t){.in = -1, .out = -1, .err = -1, .ended = -1};
    self->backoff = (backoff_t){.minimum = settings->retry_min, .maximum = settings->retry_max, .state = (uint64_t) clock_now()};
    if (text_server_decoder(&self->decoder, setup, err)) {
        mem_free(self);
        return -1;
    }
    *source = &self->source;
    return 0;
}

/* The command's first word, without its directory: what follows may be secret. */
static const char *exec_stream(const source_setup_t *setup, buf_t *space) {
    text_t command = text_trim(text_of(setup->rest));
    size_t size = 0;
    while (size < command.size && !strchr(" \t\n;|&<>()", command.data[size]))
        size++;
    const char *slash = memrchr(command.data, '/', size), *name = slash ? slash + 1 : command.data;
    buf_put(space, name, (size_t) (command.data + size - name));
    return buf_text(space);
}

const source_driver_t source_exec = {
    .name = "exec",
    .schemes = {"exec"},
    .types = {{"exec"}},
    .usage = "exec:COMMAND",
    .help = "a command whose output is the stream; started again when it ends",
    .options = options,
    .settings_size = sizeof(exec_settings_t),
    .stream = exec_stream,
    .check = exec_check,
    .open = exec_open,
};
