#ifndef TESTS_UNIT_STAGE_TOOL_H
#define TESTS_UNIT_STAGE_TOOL_H

/* For tests of the skeleton: small tools of its kind, and a way to run them. A test program is its own tool: started as
 * "PROGRAM --tool NAME ARGUMENT..." it is that tool and nothing else. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"
#include "run/stage.h"

#define PATIENCE_MS 60000                 /* for a child that hangs: the test fails then */

/* ---- the tools ---- */

typedef struct probe {
    int64_t copies, size, events;
    bool dump, later, fail_check, fail_start, fail_later, never_finish, odd, manual, hold, spread, pass, watermarks;
    char *dead_field, *given, *setting;
    option_list_t arguments;
    /* source */
    uint64_t made;
    uint64_t resumed;
    char *fill;
} probe_t;

#define PROBE(field) offsetof(probe_t, field)

static const option_t probe_options[] = {
    {"copies", OPTION_INT, PROBE(copies), "1", "N", "how often each event is passed on", 0, 1000000, 'c'},
    {"size", OPTION_INT, PROBE(size), "100", "N", "bytes of an event that a source makes, about", 1, 10000000},
    {"events", OPTION_INT, PROBE(events), "10", "N", "events that a source makes", 0, 100000000},
    {"dump", OPTION_BOOL, PROBE(dump), "false", NULL, "print the settings", .letter = 'd'},
    {"later", OPTION_BOOL, PROBE(later), "false", NULL, "ready with the first frame only"},
    {"fail-check", OPTION_BOOL, PROBE(fail_check), "false", NULL, "check fails"},
    {"fail-start", OPTION_BOOL, PROBE(fail_start), "false", NULL, "start fails"},
    {"fail-later", OPTION_BOOL, PROBE(fail_later), "false", NULL, "start calls stage_fail"},
    {"never-finish", OPTION_BOOL, PROBE(never_finish), "false", NULL, "finish does not come to its end"},
    {"odd", OPTION_BOOL, PROBE(odd), "false", NULL, "every other event goes to the stream \"odd\""},
    {"spread", OPTION_BOOL, PROBE(spread), "false", NULL, "each event goes to a stream of its own, named after its time"},
    {"pass", OPTION_BOOL, PROBE(pass), "false", NULL, "frames go on unchanged, behind the events"},
    {"watermarks", OPTION_BOOL, PROBE(watermarks), "false", NULL, "frames' watermarks are passed on"},
    {"manual", OPTION_BOOL, PROBE(manual), "false", NULL, "frames are acknowledged by hand, when their successor comes"},
    {"hold", OPTION_BOOL, PROBE(hold), "false", NULL, "a source that does not end by itself"},
    {"dead-field", OPTION_TEXT, PROBE(dead_field), NULL, "NAME", "events with this field are dead letters"},
    {0},
};

static int probe_argument(stage_t *stage, const char *argument, err_t *err) {
    probe_t *probe = stage->own;
    if (probe->arguments.count == 3)
        return err_set(err, "more than three arguments: %s", argument);
    probe->arguments.items = mem_resize(probe->arguments.items, (probe->arguments.count + 1) * sizeof(char *));
    probe->arguments.items[probe->arguments.count++] = mem_text(argument);
    return 0;
}

/* Two options of a "driver": --driver-value V and --driver-flag. */
static int probe_option(stage_t *stage, text_t name, const char *value, bool *used, err_t *err) {
    probe_t *probe = stage->own;
    if (text_is(name, "driver-flag")) {
        *used = false;
        return 0;
    }
    if (!text_is(name, "driver-value"))
        return 1;
    if (!value)
        return err_set(err, "--driver-value needs a value");
    mem_free(probe->given);
    probe->given = mem_text(value);
    return 0;
}

static int probe_setting(stage_t *stage, const char *key, const json_t *value, err_t *err) {
    probe_t *probe = stage->own;
    if (strcmp(key, "driver") != 0)
        return 1;
    if (!json_is_object(value))
        return err_set(err, "driver takes an object");
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    mem_free(probe->setting);
    probe->setting = mem_text(text);
    free(text);
    return 0;
}

static void probe_dump(stage_t *stage) {
    const probe_t *probe = stage->own;
    const stage_settings_t *settings = &stage->settings;
    printf("name=%s copies=%lld batch_size=%lld batch_bytes=%llu flush=%lld on_full=%d window=%llu stay=%d later=%d level=%d\n",
           settings->name ? settings->name : "(null)", (long long) probe->copies, (long long) settings->batch_size,
           (unsigned long long) settings->batch_bytes, (long long) settings->flush, settings->on_full,
           (unsigned long long) settings->window, settings->stay, probe->later, settings->log_level);
    for (size_t i = 0; i < settings->from.count; i++)
        printf("from=%s\n", settings->from.items[i]);
    for (size_t i = 0; i < settings->to.count; i++)
        printf("to=%s\n", settings->to.items[i]);
    for (size_t i = 0; i < probe->arguments.count; i++)
        printf("argument=%s\n", probe->arguments.items[i]);
    printf("given=%s setting=%s\n", probe->given ? probe->given : "", probe->setting ? probe->setting : "");
    fflush(stdout);
}

static int probe_check(stage_t *stage, err_t *err) {
    const probe_t *probe = stage->own;
    if (probe->dump)
        probe_dump(stage);
    return probe->fail_check ? err_set(err, "the check failed") : 0;
}

static int probe_start(stage_t *stage, err_t *err) {
    const probe_t *probe = stage->own;
    stage->ready_later = probe->later;
    if (probe->manual)
        stage_manual_durable(stage);
    if (probe->fail_start)
        return err_set(err, "the start failed");
    if (probe->fail_later)
        stage_fail(stage, "failed while starting");
    return 0;
}

static void relay_frame(stage_t *stage, unsigned input, frame_t *frame) {
    probe_t *probe = stage->own;
    stage_ready(stage);
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1) {
        value_t value;
        if (probe->dead_field && pack_map_get(event.record, event.record_size, text_of(probe->dead_field), &value)) {
            stage_dead_event(stage, &event, "field x", "it has the field");
            continue;
        }
        if (!probe->copies)
            stage->ledger.filtered++;
        for (int64_t i = 0; i < probe->copies; i++) {
            char own[32];
            snprintf(own, sizeof own, "t%lld", (long long) (event.time / NS_PER_S));
            const char *topic = probe->spread ? own : probe->odd && walk.index % 2 == 0 ? "odd" : stage->name;
            builder_add(stage_builder(stage, topic), &event, frame->ingest_time);
            stage_emitted(stage, topic);
        }
    }
    if (probe->watermarks)
        stage_flush_watermark(stage, stage->name, frame->watermark);
    if (probe->pass)
        stage_send(stage, frame);
}

static void sink_frame(stage_t *stage, unsigned input, frame_t *frame) {
    static frame_t *last;
    if (!((probe_t *) stage->own)->manual)
        return;
    if (last) {
        stage_durable(stage, input, last);
        frame_unref(last);
    }
    last = frame->end ? NULL : frame_ref(frame);
    if (frame->end)
        stage_durable(stage, input, frame);
}

static void source_work(void *argument) {
    stage_t *stage = argument;
    probe_t *probe = stage->own;
    for (int i = 0; i < 100 && (int64_t) probe->made < probe->events && !stage->finishing; i++) {
        if (!stage_room(stage))
            return;
        frame_builder_t *builder = stage_builder(stage, stage->name);
        builder_begin(builder);
        pack_map(&builder->body, 2);
        pack_text(&builder->body, "n");
        pack_int(&builder->body, (int64_t) ++probe->made);
        pack_text(&builder->body, "fill");
        pack_string(&builder->body, probe->fill, (size_t) probe->size);
        builder_commit(builder, (int64_t) probe->made * NS_PER_MS, clock_now());
        stage->ledger.in++;
        stage_emitted(stage, stage->name);
    }
    if ((int64_t) probe->made < probe->events)
        loop_defer(stage->loop, source_work, stage);
    else if (!probe->hold)
        stage_finished(stage);
}

static void source_resume(stage_t *stage) {
    probe_t *probe = stage->own;
    probe->resumed++;
    loop_defer(stage->loop, source_work, stage);
}

static int source_start(stage_t *stage, err_t *err) {
    probe_t *probe = stage->own;
    probe->fill = mem_alloc((size_t) probe->size);
    memset(probe->fill, 'x', (size_t) probe->size);
    stage_batch(stage);
    stage_on_room(stage, source_resume);
    loop_defer(stage->loop, source_work, stage);
    return probe_start(stage, err);
}

static void probe_finish(stage_t *stage) {
    if (!((probe_t *) stage->own)->never_finish)
        stage_finished(stage);
}

static void probe_stop(stage_t *stage) {
    probe_t *probe = stage->own;
    if (stage->loop)
        loop_undefer(stage->loop, source_work, stage);
    for (size_t i = 0; i < probe->arguments.count; i++)
        mem_free(probe->arguments.items[i]);
    mem_free(probe->arguments.items);
    mem_free(probe->given);
    mem_free(probe->setting);
    mem_free(probe->fill);
}

static void probe_help(stage_t *stage, FILE *out) {
    fputs("drivers: one\n", out);
}

static const tool_t probe_tools[] = {
    {.name = "relay", .summary = "Passes events on.", .usage = "[ARGUMENT]... [OPTION]...", .has_inputs = true, .has_outputs = true,
     .default_output = "-", .options = probe_options, .state_size = sizeof(probe_t), .argument = probe_argument,
     .option = probe_option, .setting = probe_setting, .help = probe_help, .check = probe_check, .start = probe_start,
     .frame = relay_frame, .finish = probe_finish, .stop = probe_stop},
    {.name = "source", .summary = "Makes events.", .usage = "[OPTION]...", .has_outputs = true, .default_output = "-",
     .options = probe_options, .state_size = sizeof(probe_t), .check = probe_check, .start = source_start,
     .finish = probe_finish, .stop = probe_stop},
    {.name = "sink", .summary = "Takes events.", .usage = "[OPTION]...", .has_inputs = true, .options = probe_options,
     .state_size = sizeof(probe_t), .check = probe_check, .start = probe_start, .frame = sink_frame, .finish = probe_finish,
     .stop = probe_stop},
    /* Nothing but what it must have. */
    {.name = "bare", .summary = "Takes events, has no options.", .usage = "", .has_inputs = true, .start = probe_start,
     .state_size = sizeof(probe_t), .frame = sink_frame},
};

/* When the program was started as a tool: its exit status; else -1. */
static inline int tool_main(int argc, char **argv) {
    if (argc < 3 || strcmp(argv[1], "--tool") != 0)
        return -1;
    for (size_t i = 0; i < sizeof probe_tools / sizeof *probe_tools; i++)
        if (strcmp(argv[2], probe_tools[i].name) == 0)
            return stage_main(&probe_tools[i], argc - 2, argv + 2);
    return 99;
}

/* ---- running them ---- */

typedef struct tool_run {
    pid_t pid;
    int in, out, error;                   /* our ends; -1: closed */
    int status;                           /* exit status, or -signal */
    buf_t text, errors;                   /* what it wrote */
} tool_run_t;

/* Closed by tool_run_fini, whatever the test did. */
static inline void tool_start(tool_run_t *run, const char *const *arguments) {
    int in[2], out[2], error[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(error, O_CLOEXEC))
        abort();
    const char *line[64] = {"/proc/self/exe", "--tool"};
    for (size_t i = 0; arguments[i]; i++)
        line[i + 2] = arguments[i];
    *run = (tool_run_t){.in = in[1], .out = out[0], .error = error[0]};
    run->pid = fork();
    if (run->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(error[1], 2);
        execv(line[0], (char **) line);
        _exit(98);
    }
    close(in[0]);
    close(out[1]);
    close(error[1]);
}
#define TOOL_START(run, ...) tool_start(run, (const char *const[]){__VA_ARGS__, NULL})

static inline void tool_close_input(tool_run_t *run) {
    if (run->in >= 0)
        close(run->in);
    run->in = -1;
}

/* Takes what it wrote, waiting for at most `wait` ms; false: there is nothing more to come. */
static inline bool tool_read(tool_run_t *run, int wait) {
    struct pollfd fds[2] = {{run->out, POLLIN}, {run->error, POLLIN}};
    int *ends[2] = {&run->out, &run->error};
    buf_t *texts[2] = {&run->text, &run->errors};
    if (poll(fds, 2, wait) <= 0)
        return run->out >= 0 || run->error >= 0;
    for (int i = 0; i < 2; i++) {
        if (!fds[i].revents)
            continue;
        ssize_t n = read(*ends[i], buf_reserve(texts[i], 65536), 65536);
        if (n > 0) {
            texts[i]->size += (size_t) n;
        } else {
            close(*ends[i]);
            *ends[i] = -1;
        }
    }
    return run->out >= 0 || run->error >= 0;
}

static inline int64_t now_ms(void) {
    return clock_monotonic() / NS_PER_MS;
}

/* Waits for its end. */
static inline void tool_wait(tool_run_t *run) {
    int64_t limit = now_ms() + PATIENCE_MS;
    while (tool_read(run, 100) && now_ms() < limit)
        ;
    int status, done = 0;
    while (!(done = waitpid(run->pid, &status, WNOHANG)) && now_ms() < limit)
        nanosleep(&(struct timespec){.tv_nsec = 5 * NS_PER_MS}, NULL);
    if (!done) {
        kill(run->pid, SIGKILL);
        waitpid(run->pid, &status, 0);
        fprintf(stderr, "the tool hung: %s\n", buf_text(&run->errors));
    }
    run->pid = 0;
    run->status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    buf_text(&run->text);
    buf_text(&run->errors);
}

static inline void tool_run_fini(tool_run_t *run) {
    if (run->pid > 0) {
        kill(run->pid, SIGKILL);
        waitpid(run->pid, NULL, 0);
    }
    tool_close_input(run);
    if (run->out > 0)
        close(run->out);
    if (run->error > 0)
        close(run->error);
    buf_fini(&run->text);
    buf_fini(&run->errors);
    *run = (tool_run_t){.in = -1, .out = -1, .error = -1};
}

/* All at once: arguments, standard input, wait. The input must fit into a pipe. */
static inline void tool_whole(tool_run_t *run, const char *input, const char *const *arguments) {
    tool_start(run, arguments);
    if (input && file_write_all(run->in, input, strlen(input), NULL))
        abort();
    tool_close_input(run);
    tool_wait(run);
}
#define TOOL_RUN(run, input, ...) tool_whole(run, input, (const char *const[]){__VA_ARGS__, NULL})

static inline const char *tool_text(tool_run_t *run) {
    return buf_text(&run->text);
}

static inline const char *tool_errors(tool_run_t *run) {
    return buf_text(&run->errors);
}

static inline bool tool_says(tool_run_t *run, const char *part) {
    return strstr(tool_errors(run), part) != NULL;
}

#endif
