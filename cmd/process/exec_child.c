/* The program behind exec: its process, pipes, pauses and time-outs. What it says goes on as it stands; nothing is kept here that a restart would
 * miss. See exec_child.h. */
#include "exec_child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "net/backoff.h"

#define READ_BYTES (64u * 1024)
#define WRITE_BYTES (64u * 1024)       /* more is not made before this is written */
#define LINE_MAX_BYTES (256u * 1024)   /* of an answer */
#define TOLD_BYTES (128u * 1024)       /* answers are passed on when there are so many */
#define SAID_MAX 300                   /* of a line on standard error, in the log */
#define PATIENCE (NS_PER_S)            /* for it to end by itself, when we do */
#define DEATHS 3                       /* with the same question next, before that one is given up */
#define GIVEN_UP 10                    /* questions in a row: then it is the program's fault, not theirs */
#define SILENCES 3                     /* questions in a row without an answer in time: at the end of the stream the others are not waited for */

struct exec_child {
    exec_setup_t setup;
    pid_t pid;                /* 0: does not run */
    int in, out, err, pidfd;  /* -1: closed */
    loop_watch_t *in_watch, *out_watch, *err_watch, *end_watch, *timer, *pause, *patience;
    buf_t to, from, said, told;
    unsigned told_count;
    uint64_t asked;           /* questions that are written to it */
    uint64_t closing;         /* questions that were answered, and are still on the list */
    backoff_t backoff;
    bool ever;                /* it has answered once */
    unsigned deaths, given_up, silences;
    int64_t unrunnable;       /* since when it could not be run, never having answered; monotonic. 0: it was not so */
    bool over;                /* nothing is asked any more */
    bool ending;              /* no more questions come */
    bool crowded;             /* so many are open that no new ones are taken */
    char how[80];             /* it ended last */
    log_limit_t limit, extra;
};

static void go_on(void *argument);
static void set_timer(exec_child_t *child);
static void be_patient(exec_child_t *child);
static void give_up_waiting(exec_child_t *child);

/* ---- telling ---- */

static void tell(exec_child_t *child) {
    if (!child->told_count)
        return;
    buf_t told = child->told;
    unsigned count = child->told_count;
    err_t err;
    child->told = (buf_t){0};
    child->told_count = 0;
    child->closing += count;
    if (child->setup.answers(child->setup.argument, text_make((const char *) told.data, told.size), count, &err))
        child->over = true; /* the stage leaves; the next run asks again */
    buf_fini(&told);
}

static void give_up(exec_child_t *child, const char *reason) {
    tell(child);
    pack_array(&child->told, 1);
    pack_text(&child->told, reason);
    child->told_count++;
    child->deaths = 0;
    tell(child);
    be_patient(child);
}

static void give_up_all(exec_child_t *child, const char *reason) {
    buf_t line = {0};
    tell(child);
    for (; child->setup.question(child->setup.argument, child->closing + child->told_count, &line); buf_clear(&line)) {
        pack_array(&child->told, 1);
        pack_text(&child->told, reason);
        child->told_count++;
    }
    buf_fini(&line);
    tell(child);
}

static void take_answer(exec_child_t *child, text_t line) {
    if (line.size && line.data[line.size - 1] == '\r')
        line.size--;
    if (!child->asked) {
        if (log_limited(&child->extra))
            child->setup.trouble(child->setup.argument, "the program writes lines that nobody asked for; it must answer each line with one");
        return;
    }
    child->asked--;
    child->ever = true;
    child->deaths = child->given_up = child->silences = 0;
    backoff_reset(&child->backoff);
    pack_string(&child->told, line.data, line.size);
    child->told_count++;
    if (child->told.size >= TOLD_BYTES)
        tell(child);
}

/* ---- its end ---- */

static void close_fd(int *fd, loop_watch_t **watch) {
    loop_remove(*watch);
    *watch = NULL;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void say(exec_child_t *child, text_t line) {
    if (!line.size || !log_limited(&child->limit))
        return;
    buf_t text = {0};
    text_put_visible(&text, line, SAID_MAX);
    if (child->limit.reported)
        buf_format(&text, " (and %llu lines more)", (unsigned long long) child->limit.reported);
    log_warning("exec: %s", buf_text(&text));
    buf_fini(&text);
}

static void forget(exec_child_t *child) {
    close_fd(&child->in, &child->in_watch);
    close_fd(&child->out, &child->out_watch);
    close_fd(&child->err, &child->err_watch);
    close_fd(&child->pidfd, &child->end_watch);
    loop_remove(child->timer);
    child->timer = NULL;
    buf_clear(&child->to);
    buf_clear(&child->from);
    buf_clear(&child->said);
    child->pid = 0;
    child->asked = 0;
}

static void on_pause(void *argument) {
    exec_child_t *child = argument;
    child->pause = NULL;
    go_on(child);
}

/* What waits for a program that is not there is told so when its time is up, not after a pause that goes beyond it. */
static int64_t pause_before_start(exec_child_t *child) {
    int64_t pause = backoff_next(&child->backoff);
    int64_t left = child->unrunnable ? child->unrunnable + child->setup.timeout - clock_monotonic() : INT64_MAX;
    return left > 0 && left < pause ? left : pause;
}

static void restart(exec_child_t *child) {
    forget(child);
    if (!child->pause && !child->over)
        child->pause = loop_timer(child->setup.loop, pause_before_start(child), 0, on_pause, child);
}

static void describe(int status, buf_t *out) {
    if (WIFSIGNALED(status))
        buf_format(out, "was ended by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127)
        buf_format(out, "could not be run (status %d)", WEXITSTATUS(status));
    else
        buf_format(out, "ended with status %d", WEXITSTATUS(status));
}

/* Is it the question that ends it? Only of a program that has shown that it can answer. */
static void count_death(exec_child_t *child, bool was_asked, const char *how) {
    if (!was_asked || !child->ever || child->given_up >= GIVEN_UP || ++child->deaths < DEATHS)
        return;
    char reason[200];
    snprintf(reason, sizeof reason, "the program %s, %d times with this event next", how, DEATHS);
    child->given_up++;
    give_up(child, reason);
}

/* A program that is not there, from its first start on: what waits for it is given up when it would have been too late. */
static void count_unrunnable(exec_child_t *child, const char *how) {
    int64_t now = clock_monotonic();
    if (!child->unrunnable)
        child->unrunnable = now;
    if (now - child->unrunnable < child->setup.timeout)
        return;
    char reason[200];
    snprintf(reason, sizeof reason, "the program %s", how);
    backoff_reset(&child->backoff);
    give_up_all(child, reason);
    be_patient(child);
}

static bool is_unrunnable(int status) {
    return WIFEXITED(status) && (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127);
}

static void read_out(exec_child_t *child);
static void read_err(exec_child_t *child);
static bool is_too_long(const exec_child_t *child);
static void refuse_long(exec_child_t *child);

static void on_end(void *argument, uint32_t events) {
    exec_child_t *child = argument;
    int status = child_reap(child->pid);
    read_err(child);
    if (child->said.size)
        say(child, text_make((const char *) child->said.data, child->said.size));
    read_out(child); /* what it had said before */
    if (is_too_long(child))
        refuse_long(child);
    bool was_asked = child->asked > 0;
    buf_t how = {0}, text = {0};
    describe(status, &how);
    snprintf(child->how, sizeof child->how, "%s", buf_text(&how));
    if (was_asked || status) {
        buf_format(&text, "the program %s; ", buf_text(&how));
        buf_format(&text, was_asked ? "%llu events are asked again" : "it is started again when it is needed", (unsigned long long) child->asked);
        child->setup.trouble(child->setup.argument, buf_text(&text));
    }
    if (was_asked && !child->ever && is_unrunnable(status)) {
        forget(child);
        count_unrunnable(child, buf_text(&how));
    }
    restart(child);
    count_death(child, was_asked, buf_text(&how));
    buf_fini(&how);
    buf_fini(&text);
}

static void end_it(exec_child_t *child) {
    if (child->pid)
        child_kill(child->pid);
}

static void on_timer(void *argument) {
    exec_child_t *child = argument;
    child->timer = NULL;
    buf_t text = {0};
    buf_put_text(&text, "no answer within ");
    text_put_duration(&text, child->setup.timeout);
    give_up(child, buf_text(&text));
    buf_put_text(&text, "; the program is started anew. Does it write each line at once? (jq --unbuffered, sed -u, mawk -W interactive)");
    child->setup.trouble(child->setup.argument, buf_text(&text));
    buf_fini(&text);
    end_it(child);
    restart(child);
    child->silences++;
    if (child->ending && child->silences >= SILENCES)
        give_up_waiting(child);
    else
        child->setup.silence(child->setup.argument);
}

/* Nothing has been answered for so long, however often it was started. */
static void on_patience(void *argument) {
    exec_child_t *child = argument;
    child->patience = NULL;
    if (child->timer) /* it runs, and has its own time for the question that is with it */
        be_patient(child);
    else if (child->ending)
        give_up_waiting(child);
    else
        child->setup.silence(child->setup.argument);
}

/* Waiting on would keep the stream from its end. */
static void give_up_waiting(exec_child_t *child) {
    buf_t text = {0};
    if (child->unrunnable) {
        buf_format(&text, "the program %s", child->how);
    } else {
        buf_put_text(&text, "no answer within ");
        text_put_duration(&text, child->setup.timeout);
        if (child->how[0])
            buf_format(&text, ": the program %s", child->how);
    }
    end_it(child);
    forget(child);
    give_up_all(child, buf_text(&text));
    buf_fini(&text);
}

static void be_patient(exec_child_t *child) {
    loop_remove(child->patience);
    child->patience = child->ending || child->crowded ? loop_timer(child->setup.loop, child->setup.timeout, 0, on_patience, child) : NULL;
}

static void set_timer(exec_child_t *child) {
    loop_remove(child->timer);
    child->timer = child->asked ? loop_timer(child->setup.loop, child->setup.timeout, 0, on_timer, child) : NULL;
}

/* ---- its words ---- */

static ssize_t read_some(int fd, buf_t *into) {
    ssize_t got;
    do
        got = read(fd, buf_reserve(into, READ_BYTES), READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        into->size += (size_t) got;
    return got;
}

/* Stops before a line of more than `longest` bytes, however it came in. */
static void take_lines(exec_child_t *child, buf_t *from, size_t longest, void (*take)(exec_child_t *child, text_t line)) {
    size_t start = 0;
    const uint8_t *end;
    while (from->size > start && (end = memchr(from->data + start, '\n', from->size - start))) {
        text_t line = text_make((const char *) from->data + start, (size_t) (end - from->data) - start);
        if (line.size > longest)
            break;
        start += line.size + 1;
        take(child, line);
    }
    buf_consume(from, start);
}

static void read_err(exec_child_t *child) {
    while (child->err >= 0) {
        ssize_t got = read_some(child->err, &child->said);
        take_lines(child, &child->said, SIZE_MAX, say);
        if (child->said.size > SAID_MAX) { /* a line without end */
            say(child, text_make((const char *) child->said.data, child->said.size));
            buf_clear(&child->said);
        }
        if (got == 0 || (got < 0 && errno != EAGAIN))
            close_fd(&child->err, &child->err_watch);
        if (got <= 0)
            return;
    }
}

static void on_err(void *argument, uint32_t events) {
    read_err(argument);
}

static void read_out(exec_child_t *child) {
    uint64_t before = child->asked;
    ssize_t got = 1;
    while (child->out >= 0 && got > 0) {
        got = read_some(child->out, &child->from);
        take_lines(child, &child->from, LINE_MAX_BYTES, take_answer);
        if (is_too_long(child))
            break;
        if (got == 0 || (got < 0 && errno != EAGAIN))
            close_fd(&child->out, &child->out_watch);
    }
    tell(child);
    if (child->asked != before)
        be_patient(child);
}

static bool is_too_long(const exec_child_t *child) {
    return child->from.size > LINE_MAX_BYTES;
}

static void refuse_long(exec_child_t *child) {
    char reason[80];
    snprintf(reason, sizeof reason, "an answer of more than %u KiB", LINE_MAX_BYTES / 1024);
    child->setup.trouble(child->setup.argument, reason);
    if (child->asked) {
        child->asked--;
        give_up(child, reason);
    }
}

/* It has closed its output, but has not ended. */
static void on_mute(void *argument) {
    exec_child_t *child = argument;
    child->timer = NULL;
    kill(-child->pid, SIGKILL);
}

static void on_out(void *argument, uint32_t events) {
    exec_child_t *child = argument;
    uint64_t before = child->asked;
    pid_t pid = child->pid;
    read_out(child);
    if (child->pid != pid)
        return;
    if (is_too_long(child)) {
        refuse_long(child);
        end_it(child);
        restart(child);
    } else if (child->out < 0) { /* it has nothing more to say; mostly it has ended */
        loop_remove(child->timer);
        child->timer = loop_timer(child->setup.loop, PATIENCE, 0, on_mute, child);
    } else {
        if (child->asked != before)
            set_timer(child);
        go_on(child);
    }
}

/* ---- its start ---- */

static int start(exec_child_t *child) {
    child_t program;
    err_t err;
    if (child_start(&program, child->setup.command, true, NULL, 0, &err)) {
        child->setup.trouble(child->setup.argument, err.text);
        restart(child);
        return -1;
    }
    child->pid = program.pid;
    child->pidfd = program.ended;
    child->in = program.in;
    child->out = program.out;
    child->err = program.err;
    return 0;
}

/* ---- asking ---- */

static void write_out(exec_child_t *child) {
    size_t done = 0;
    while (done < child->to.size) {
        ssize_t put = write(child->in, child->to.data + done, child->to.size - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno != EAGAIN) /* it does not read any more: its end says the rest */
            done = child->to.size;
        if (put < 0)
            break;
        done += (size_t) put;
    }
    buf_consume(&child->to, done);
}

static void on_in(void *argument, uint32_t events) {
    exec_child_t *child = argument;
    write_out(child);
    go_on(child);
}

/* Writes what may be asked, and starts the program where there is something to ask. */
static void go_on(void *argument) {
    exec_child_t *child = argument;
    buf_t line = {0};
    if (child->over || child->pause || (child->pid && child->out < 0))
        return;
    if (!child->pid) {
        bool wanted = child->setup.question(child->setup.argument, child->closing, &line);
        buf_fini(&line);
        if (!wanted || start(child))
            return;
        child->in_watch = loop_fd(child->setup.loop, child->in, EPOLLOUT, on_in, child);
        child->out_watch = loop_fd(child->setup.loop, child->out, EPOLLIN, on_out, child);
        child->err_watch = loop_fd(child->setup.loop, child->err, EPOLLIN, on_err, child);
        child->end_watch = loop_fd(child->setup.loop, child->pidfd, EPOLLIN, on_end, child);
    }
    bool idle = !child->asked;
    while (child->asked < child->setup.in_flight && child->to.size < WRITE_BYTES &&
           child->setup.question(child->setup.argument, child->closing + child->asked, &child->to))
        child->asked++;
    write_out(child);
    loop_fd_events(child->in_watch, child->to.size ? EPOLLOUT : 0);
    if (idle && child->asked)
        set_timer(child);
}

void exec_child_look(exec_child_t *child) {
    loop_defer(child->setup.loop, go_on, child); /* the call that brought them is done first */
}

void exec_child_ending(exec_child_t *child) {
    child->ending = true;
    be_patient(child);
}

void exec_child_crowded(exec_child_t *child, bool crowded) {
    if (child->crowded == crowded)
        return;
    child->crowded = crowded;
    be_patient(child);
}

void exec_child_closed(exec_child_t *child) {
    if (child->closing)
        child->closing--;
}

/* ---- life ---- */

exec_child_t *exec_child_new(const exec_setup_t *setup) {
    exec_child_t *child = mem_zero(sizeof *child);
    child->setup = *setup;
    child->in = child->out = child->err = child->pidfd = -1;
    child->backoff = (backoff_t){.minimum = 100 * NS_PER_MS, .maximum = 30 * NS_PER_S, .state = (uint64_t) clock_monotonic()};
    return child;
}

static void wait_end(exec_child_t *child) {
    struct pollfd wait = {.fd = child->pidfd, .events = POLLIN};
    if (poll(&wait, 1, PATIENCE / NS_PER_MS) == 1)
        child_reap(child->pid);
    else
        child_kill(child->pid);
}

void exec_child_free(exec_child_t *child) {
    if (!child)
        return;
    loop_undefer(child->setup.loop, go_on, child);
    if (child->pid) {
        close_fd(&child->in, &child->in_watch);
        wait_end(child);
    }
    forget(child);
    loop_remove(child->pause);
    loop_remove(child->patience);
    buf_fini(&child->to);
    buf_fini(&child->from);
    buf_fini(&child->said);
    buf_fini(&child->told);
    mem_free(child);
}
