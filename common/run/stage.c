/* The skeleton of ingest, process and broadcast: from the command line to the orderly end. */
#include "run/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/memory.h"
#include "run/stage_state.h"

void stage_ready(stage_t *stage) {
    stage_private_t *private = stage->private;
    if (private->ready || private->failed)
        return;
    private->ready = true;
    stage_publish(stage);              /* first: who sees that it is ready sees numbers */
    if (!private->finish_called)
        metrics_state(STAGE_READY, NULL);
    int fd = (int) stage->settings.ready_fd;
    if (fd < 0)
        return;
    if (write(fd, "\n", 1) != 1)
        log_warning("--ready-fd %d: %s", fd, strerror(errno));
    close(fd);
}

static void give_up(stage_t *stage, log_level_t level, const char *text) {
    log_at(level, "%s", text);
    metrics_state(STAGE_FAILED, text);
    stage->private->failed = true;
    stage->private->status = EXIT_FAILURE;
    loop_stop(stage->loop);
}

void stage_fail(stage_t *stage, const char *format, ...) {
    if (stage->private->failed)
        return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    give_up(stage, LOG_ERROR, text);
}

void stage_blame(stage_t *stage, const char *reason) {
    log_error("%s", reason);
    stage->private->status = EXIT_FAILURE;
}

void stage_leave_off(stage_t *stage, const char *reason) {
    if (!stage->private->failed)
        give_up(stage, LOG_INFO, reason);
}

static void leave(void *argument) {
    stage_t *stage = argument;
    if (!stage->private->failed)
        metrics_state(STAGE_FINISHED, NULL);
    loop_stop(stage->loop);
}

static void on_tick(void *argument) {
    stage_t *stage = argument;
    if (has_order(stage)) {
        order_tick(stage, clock_now());
    } else if (!stage->finishing) {
        stage->tool->tick(stage, clock_now());
        stage_flush(stage);
    }
}

static void drain_over(void *argument) {
    stage_t *stage = argument;
    stage->private->drain_timer = NULL;
    if (stage_stateful(stage) && stage->private->state->leaving) { /* nothing is given up: the next run delivers it */
        leave(stage);
        return;
    }
    buf_t limit = {0};
    text_put_duration(&limit, stage->settings.drain_limit);
    stage_fail(stage, "not everything was acknowledged within --drain-limit %s: what is outstanding is given up",
               buf_text(&limit));
    buf_fini(&limit);
}

void stage_begin_finish(stage_t *stage) {
    stage_private_t *private = stage->private;
    if (private->finish_called)
        return;
    private->finish_called = true;
    stage->finishing = true;
    private->paused_by_end = true;
    stage_inputs_update(stage);
    metrics_state(STAGE_DRAINING, NULL);
    if (private->signals && stage_stateful(stage))
        private->state->leaving = true; /* without an end of stream: the next run goes on */
    if (private->signals) /* asked to leave: within the limit. At the end of its input a stage waits as long as it takes */
        private->drain_timer = loop_timer(stage->loop, stage->settings.drain_limit, 0, drain_over, stage);
    if (has_order(stage) && private->state->leaving)
        stage_finished(stage);
    else if (has_order(stage))
        order_end(stage);
    else if (stage->tool->finish)
        stage->tool->finish(stage);
    else
        stage_finished(stage);
}

void stage_finished(stage_t *stage) {
    stage_private_t *private = stage->private;
    if (private->finished_called)
        return;
    private->finished_called = true;
    if (!private->finish_called) { /* a source that came to its end by itself */
        private->finish_called = true;
        stage->finishing = true;
        metrics_state(STAGE_DRAINING, NULL);
    }
    if (private->state && private->state->leaving && !stage->tool->keeps_state)
        state_leave(stage);
    else
        stage_outputs_end(stage);
}

void stage_resume_end(stage_t *stage) {
    log_info("the stream had ended before: what is left is delivered (--reset starts anew)");
    stage->private->finish_called = true;
    stage->finishing = true;
    stage->private->paused_by_end = true;
    stage_inputs_update(stage);
    stage_finished(stage);
}

static void part_inputs(stage_t *stage) {
    stage_output_changed(stage); /* the last inputs are durable now */
    if (stage->private->drain_timer)
        loop_remove(stage->private->drain_timer);
    stage->private->drain_timer = loop_timer(stage->loop, stage->settings.drain_limit, 0, leave, stage);
    stage_inputs_part(stage);
}

/* Senders may forget what they have sent only when we will not ask for it again. */
void stage_all_ended(stage_t *stage) {
    if (stage_stateful(stage) && stage->private->state->spool)
        state_settle(stage);
    if (has_order(stage))
        snapshot_last(stage, part_inputs);
    else
        part_inputs(stage);
}

void stage_again(stage_t *stage, const char *why) {
    if (stage->private->again || stage->private->failed)
        return;
    log_warning("%s: this stage starts over from its state on disk", why);
    stage->private->again = true;
    loop_stop(stage->loop);
}

void stage_tick_every(stage_t *stage, int64_t interval) {
    loop_timer(stage->loop, interval, interval, on_tick, stage);
}

void stage_all_parted(stage_t *stage) {
    loop_defer(stage->loop, leave, stage);
}

static void on_signal(void *argument, int signal) {
    stage_t *stage = argument;
    stage_private_t *private = stage->private;
    if (++private->signals > 1) {
        log_warning("second %s: leaving at once", signal == SIGINT ? "SIGINT" : "SIGTERM");
        private->status = EXIT_FAILURE;
        loop_stop(stage->loop);
        return;
    }
    stage_inputs_part_soon(stage); /* a sender that is not there asks us when we run again */
    if (private->finish_called && stage_stateful(stage) && private->state->spool && !private->state->leaving)
        state_leave_ended(stage);
    if (private->finish_called && !private->drain_timer) /* already ending, but without a limit: now there is one */
        private->drain_timer = loop_timer(stage->loop, stage->settings.drain_limit, 0, drain_over, stage);
    stage_begin_finish(stage);
}

static void on_hand_over(void *argument, int signal) {
    stage_dead_want(argument);
}

static void on_idle(void *argument) {
    stage_publish(argument);
}

static void make_identity(stage_t *stage) {
    uint8_t random[6];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        err_panic(__FILE__, __LINE__, "getrandom");
    snprintf(stage->origin, sizeof stage->origin, "%s.%02x%02x%02x%02x%02x%02x", stage->name, random[0], random[1], random[2],
             random[3], random[4], random[5]);
    stage->epoch = (uint64_t) clock_now();
}

static int check_name(stage_t *stage, err_t *err) {
    if (stage->settings.name) {
        mem_free(stage->name);
        stage->name = mem_text(stage->settings.name);
    } else if (!stage->name) {
        stage->name = mem_text(stage->tool->name);
    }
    if (frame_topic_valid(stage->name, strlen(stage->name)))
        return 0;
    return err_set(err, "--name %s: a name has 1 to %d of the characters A-Z a-z 0-9 _ . -", stage->name, FRAME_TOPIC_MAX);
}

/* What is taken in an order that is to be repeated must come from links that can repeat. */
static int check_repeatable(const option_list_t *from, err_t *err) {
    for (size_t i = 0; i < from->count; i++) {
        const char *link = from->items[i] + strspn(from->items[i], "@>");
        if ((!text_starts(link, "ipc://") && !text_starts(link, "tcp://")) || strstr(link, "ack=none"))
            return err_set(err, "--from %s cannot repeat what it has brought, as --state needs it; take an ipc:// or tcp:// link with acknowledgements",
                           from->items[i]);
    }
    return from->count ? 0 : err_set(err, "standard input cannot repeat what it has brought, as --state needs it; take --from ipc:// or tcp://");
}

static int check_links(stage_t *stage, err_t *err) {
    const option_list_t *from = &stage->settings.from, *to = &stage->settings.to, *side = &stage->settings.side;
    if (stage->settings.state && stage->tool->save && check_repeatable(from, err))
        return -1;
    if (stage->settings.state && stage->tool->save && stage->settings.on_full != LINK_BLOCK)
        return err_set(err, "--on-full must be block with --state: what was dropped once would come when it is made again; sources may drop");
    for (size_t i = 0; i < side->count; i++)
        if (link_check(side->items[i], false, err))
            return err_wrap(err, "--side %s", side->items[i]);
    for (size_t i = 0; i < from->count; i++)
        if (link_check(from->items[i], false, err))
            return err_wrap(err, "--from %s", from->items[i]);
    for (size_t i = 0; i < to->count; i++)
        if (link_check(to->items[i], true, err))
            return err_wrap(err, "--to %s", to->items[i]);
    return 0;
}

static int usage_error(stage_t *stage, const err_t *err) {
    fprintf(stderr, "%s: %s\n", stage->tool->name, err->text);
    fprintf(stderr, "Try '%s --help'.\n", stage->tool->name);
    return EX_USAGE;
}

/* Opens everything. The order matters: outputs first, so that the first input frame has where to go. */
static int open_stage(stage_t *stage, err_t *err) {
    if (metrics_open(stage->settings.metrics, stage->tool->name, stage->name, err) || state_open(stage, err) ||
        stage_outputs_open(stage, err) || stage_inputs_open(stage, err))
        return -1;
    stage_metrics_open(stage);
    state_metrics(stage);
    if (has_order(stage))
        return snapshot_load_tool(stage, err) || stage->tool->start(stage, err) ? -1 : (order_begin(stage), 0);
    if (stage_stateful(stage) && stage->private->state->ended) {
        if (stage->tool->ended && stage->tool->ended(stage, err))
            return -1;
        stage_resume_end(stage);
        return 0;
    }
    return stage->tool->start(stage, err) || stage_go_live(stage, err) ? -1 : 0;
}

static void close_stage(stage_t *stage) {
    if (stage->tool->stop)
        stage->tool->stop(stage);
    stage_dead_report(stage);
    stage_publish(stage);
    stage_inputs_free(stage); /* before the outputs: a last acknowledgement goes out */
    stage_outputs_free(stage);
    state_close(stage);
    stage_dead_close(stage);
    loop_free(stage->loop);
    link_shutdown();
    metrics_close();
    mem_free(stage->private->input_metrics);
    mem_free(stage->private->output_metrics);
}

static int run(stage_t *stage) {
    err_t err = {{0}};
    signal(SIGPIPE, SIG_IGN);
    stage->loop = loop_new();
    loop_signal(stage->loop, SIGTERM, on_signal, stage);
    loop_signal(stage->loop, SIGINT, on_signal, stage);
    loop_signal(stage->loop, SIGUSR1, on_hand_over, stage);
    if (stage->private->leave_again) /* it is blocked: it comes by the loop */
        raise(SIGTERM);
    make_identity(stage);
    if (open_stage(stage, &err)) {
        log_error("%s", err.text);
        metrics_state(STAGE_FAILED, err.text);
        close_stage(stage);
        return EXIT_FAILURE;
    }
    state_begun(stage);
    if (!stage->ready_later)
        stage_ready(stage);
    loop_idle(stage->loop, on_idle, stage);
    if (!stage->private->failed)
        loop_run(stage->loop);
    int status = stage->private->status;
    close_stage(stage);
    return status;
}

/* A standard descriptor that was closed (">&-") is taken by one that fails when it is used; else the next file or socket would
 * get its number, and the stream's text would go there. */
static void hold_descriptor(int fd, int flags) {
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
        (void) !open("/dev/null", flags); /* the lowest free number is this one */
}

#define AGAIN "STREAM_STAGE_AGAIN"
#define AGAIN_LEAVE "leave"

/* The same program with the same arguments in the same process: so whoever watches over it sees no death. Who had asked it to leave
 * does not ask twice. */
static int start_over(stage_t *stage, char **argv) {
    if (stage->private->settings_fd >= 0)
        fcntl(stage->private->settings_fd, F_SETFD, 0);
    setenv(AGAIN, stage->private->signals ? AGAIN_LEAVE : "1", 1);
    execv("/proc/self/exe", argv);
    log_error("cannot start over: %s", strerror(errno));
    return EXIT_FAILURE;
}

int stage_main(const tool_t *tool, int argc, char **argv) {
    hold_descriptor(STDIN_FILENO, O_WRONLY);
    hold_descriptor(STDOUT_FILENO, O_RDONLY);
    hold_descriptor(STDERR_FILENO, O_WRONLY);
    mem_tune();
    descriptors_raise();
    stage_t *stage = mem_zero(sizeof *stage);
    stage->tool = tool;
    stage->own = mem_zero(tool->state_size);
    stage->private = mem_zero(sizeof *stage->private);
    stage->private->dead_fd = stage->private->settings_fd = -1;
    err_t err = {{0}};
    bool done = false, ran = false;
    int status = 0;
    if (stage_parse(stage, argc, argv, &done, &err)) {
        status = usage_error(stage, &err);
    } else if (!done) {
        log_open(tool->name, NULL, (log_level_t) stage->settings.log_level);
        if ((tool->check && tool->check(stage, &err)) || check_name(stage, &err) || check_links(stage, &err)) {
            status = usage_error(stage, &err);
        } else if (!stage->settings.check) {
            log_open(tool->name, stage->name, (log_level_t) stage->settings.log_level);
            ran = true;
            const char *again = getenv(AGAIN);
            if (again) { /* the same process as before, which had become ready */
                stage->private->leave_again = strcmp(again, AGAIN_LEAVE) == 0;
                unsetenv(AGAIN);
                stage->settings.ready_fd = -1;
            }
            status = run(stage);
            log_close();
            if (stage->private->again)
                status = start_over(stage, argv);
        }
    }
    if (!ran && tool->stop)
        tool->stop(stage);
    stage_options_fini(stage);
    mem_free(stage->name);
    mem_free(stage->private);
    mem_free(stage->own);
    mem_free(stage);
    return status;
}
