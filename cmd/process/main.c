/* process: runs a program of the stream language over frames. It knows nothing of sources and sinks. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "aggregate.h"
#include "alone.h"
#include "arrival.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "case.h"
#include "data/lang/function.h"
#include "options.h"
#include "outline.h"
#include "program.h"
#include "run/stage.h"

#define PROGRAM_FILE_MAX (1u << 20)
#define FRAMES_PER_LOOK 64

typedef struct news {
    struct news *next;
    unsigned op;
    size_t size;
    char bytes[];
} news_t;

typedef struct process {
    char *file;               /* -f */
    int64_t idle;
    int others, about;
    int64_t trace;            /* follow one event in so many; 0: none */
    char *text;               /* PROGRAM, or the setting "program" */
    bool given;
    program_setup_t setup;
    program_t *program;
    metric_t *state_bytes;
    bool large;               /* more than --memory: said */
    unsigned frames;          /* since the state's size was looked at */
    bool waiting;             /* for room: the inputs are paused */
    bool holding;             /* operators hold enough: the inputs are paused */
    bool ending, ended;       /* the end is to be told to the program; it was */
    news_t *news, **news_end; /* from outside, that came while it waited */
    metric_t *troubles;
    uint64_t errors_before;   /* evaluation errors of earlier runs */
    bool looked_for_times;
} process_t;

#define AT(field) offsetof(process_t, field)
static const option_t options[] = {
    {"file", OPTION_TEXT, AT(file), NULL, "FILE", "read the program from a file", .letter = 'f'},
    {"idle", OPTION_DURATION, AT(idle), "30s", "DURATION",
     "an input silent for so long no longer holds windows up; 0: it does for ever"},
    {"others", OPTION_CHOICE, AT(others), "pass", "pass|drop|process",
     "what becomes of alerts, *.late and *.devices that come in: passed on as they are, dropped, or processed like all events"},
    {"about", OPTION_CHOICE, AT(about), "data", "data|devices", "devices: the program gets the streams *.devices, and the rest is what --others says"},
    {"trace", OPTION_INT, AT(trace), NULL, "[=N]", "show on standard error what becomes of every event, or of one in N", 0, INT64_C(1) << 60},
    {NULL},
};

static int take_text(process_t *process, char *text, err_t *err) {
    if (process->given) {
        mem_free(text);
        return err_set(err, "a second program; operators are joined with | in one argument, in quotes");
    }
    process->given = true;
    process->text = text;
    return 0;
}

static int argument(stage_t *stage, const char *text, err_t *err) {
    return take_text(stage->own, mem_text(text), err);
}

/* "program": a string, or an array of lines. */
static int setting(stage_t *stage, const char *key, const json_t *value, err_t *err) {
    if (strcmp(key, "program") != 0)
        return 1;
    if (json_is_string(value))
        return take_text(stage->own, mem_text_n(json_string_value(value), json_string_length(value)), err);
    if (!json_is_array(value))
        return err_set(err, "program is a string or an array of lines");
    buf_t text = {0};
    size_t i;
    json_t *line;
    json_array_foreach((json_t *) value, i, line) {
        if (!json_is_string(line)) {
            buf_fini(&text);
            return err_set(err, "program: line %zu is no string", i + 1);
        }
        buf_put(&text, json_string_value(line), json_string_length(line));
        buf_put_byte(&text, '\n');
    }
    buf_text(&text);
    return take_text(stage->own, text.size ? (char *) buf_take(&text) : mem_text(""), err);
}

static void out_frame(void *argument, frame_t *frame) {
    stage_send(argument, frame);
    frame_unref(frame);
}

static bool room(void *argument) {
    return stage_room(argument);
}

static void dead(void *argument, const event_t *event, const char *place, const char *reason) {
    if (event)
        stage_dead_event(argument, event, place, reason);
    else
        stage_dead_text(argument, (text_t){0}, place, reason);
}

static void put_trace(text_t lines) {
    fwrite(lines.data, 1, lines.size, stderr);
}

static void report(void *argument, const char *text) {
    log_warning("%s", text);
}

static int outside(void *argument, unsigned op, text_t bytes, bool keep, err_t *err) {
    return stage_outside(argument, op, bytes, keep, err);
}

static int recall(void *argument, unsigned op, uint64_t number, buf_t *out, err_t *err) {
    return stage_recall(argument, op, number, out, err);
}

static void hold(void *argument, bool hold) {
    stage_t *stage = argument;
    process_t *process = stage->own;
    process->holding = hold;
    stage_pause_inputs(stage, process->waiting || hold);
}

static void trouble(void *argument, const char *text) {
    process_t *process = ((stage_t *) argument)->own;
    metric_add(process->troubles, 1);
    log_error("%s", text);
}

static void warn(void *argument, const char *text) {
    fprintf(stderr, "process: warning: %s\n", text);
}

static int check(stage_t *stage, err_t *err) {
    process_t *process = stage->own;
    if (stage_check_needs(stage, NULL, err))
        return -1;
    if (process->file && process->given)
        return err_set(err, "a program and -f %s: give one of them", process->file);
    if (process->file && alone_read_file(process->file, &process->text, err) < 0)
        return -1;
    if (!process->text)
        return err_set(err, "no program: give it as an argument in quotes, or -f FILE; '' passes everything on");
    diagnostics_t diagnostics = {.name = process->file ? process->file : "program", .source = text_of(process->text)};
    process->setup = (program_setup_t){
        .stream = stage->settings.name ? stage->settings.name : "process",
        .inputs = stage->settings.from.count ? (unsigned) stage->settings.from.count : 1,
        .idle = process->idle,
        .others = (others_t) process->others,
        .devices = process->about,
        .batch_events = (uint64_t) stage->settings.batch_size,
        .batch_bytes = stage->settings.batch_bytes,
        .frame = out_frame,
        .outline = process->trace > 0,
        .room = stage->settings.state ? NULL : room, /* the log on disk takes it all */
        .dead = dead,
        .report = report,
        .outside = outside,
        .recall = recall,
        .hold = hold,
        .trouble = trouble,
        .argument = stage,
    };
    if (stage->settings.name && !frame_topic_valid(stage->settings.name, strlen(stage->settings.name)))
        return 0; /* the skeleton says so */
    process->program = program_new(&process->setup, &diagnostics);
    if (process->program && process->trace)
        trace_install(process->program, (uint64_t) process->trace, put_trace);
    int rc = 0;
    if (!process->program) {
        buf_t text = {0};
        diagnostics_print(&diagnostics, &text);
        fputs(buf_text(&text), stderr);
        buf_fini(&text);
        rc = err_set(err, "%zu error%s in the program; nothing was started", diagnostics.count, diagnostics.count == 1 ? "" : "s");
    }
    diagnostics_fini(&diagnostics);
    if (process->program && stage->settings.check)
        program_look(process->program, warn, NULL);
    return rc;
}

static void count(stage_t *stage) {
    process_t *process = stage->own;
    program_counts_t counts = program_counts(process->program);
    stage->ledger.filtered = counts.filtered;
    stage->ledger.late = counts.late;
    stage->ledger.held = counts.held;
    stage->ledger.created = counts.created;
    stage->errors = program_errors(process->program);
}

/* Keyed state is as large as the data makes it: it is never thrown away, but said when it outgrows its bound. */
static void look_at_memory(stage_t *stage) {
    process_t *process = stage->own;
    uint64_t size = program_memory(process->program), limit = stage->settings.memory;
    metric_set(process->state_bytes, (double) size);
    bool large = limit && size > (process->large ? limit - limit / 8 : limit);
    if (large == process->large)
        return;
    process->large = large;
    if (!large) {
        metrics_health(true, "");
        return;
    }
    buf_t text = {0};
    buf_format(&text, "what the program keeps (windows, joins, tables, ...) takes %" PRIu64 " MiB, more than --memory: too many keys, or too large a table, for it", size >> 20);
    log_warning("%s", buf_text(&text));
    metrics_health(false, buf_text(&text));
    buf_fini(&text);
}

static void end(stage_t *stage) {
    process_t *process = stage->own;
    process->ending = false;
    process->ended = true;
    program_end(process->program);
}

/* After each call of the program: it may have more to write than there is room for. Then nothing else happens until it has. */
static void called(stage_t *stage) {
    process_t *process = stage->own;
    if (process->ending && !program_waits(process->program))
        end(stage);
    count(stage);
    bool waits = program_waits(process->program);
    if (waits != process->waiting) {
        process->waiting = waits;
        stage_pause_inputs(stage, waits || process->holding);
    }
    if (process->ended && !waits && !program_busy(process->program))
        stage_finished(stage);
}

static void take_outside(stage_t *stage, unsigned op, uint64_t number, text_t bytes) {
    process_t *process = stage->own;
    if (!process->waiting) {
        program_outside(process->program, op, number, bytes);
        called(stage);
        return;
    }
    news_t *news = mem_alloc(sizeof *news + bytes.size); /* in its turn; never with --state, where there is always room */
    *news = (news_t){.op = op, .size = bytes.size};
    memcpy(news->bytes, bytes.data, bytes.size);
    if (!process->news)
        process->news_end = &process->news;
    *process->news_end = news;
    process->news_end = &news->next;
}

static void take_news(stage_t *stage) {
    process_t *process = stage->own;
    while (process->news && !process->waiting) {
        news_t *news = process->news;
        process->news = news->next;
        take_outside(stage, news->op, 0, text_make(news->bytes, news->size));
        mem_free(news);
    }
}

static void resume(stage_t *stage) {
    process_t *process = stage->own;
    if (!process->waiting || !program_waits(process->program))
        return;
    program_continue(process->program);
    called(stage);
    take_news(stage);
}

static void tick(stage_t *stage, int64_t now) {
    process_t *process = stage->own;
    if (stage->finishing || process->waiting)
        return;
    program_tick(process->program, now);
    called(stage);
    look_at_memory(stage);
}

static int start(stage_t *stage, err_t *err) {
    process_t *process = stage->own;
    if (stage_stateful(stage) && options_check(stage, &process->setup, err))
        return -1;
    process->troubles = metrics_add(METRIC_COUNTER, "stream_outside_troubles_total", "",
                                    "Times that a table could not be read or a program failed that operators ask");
    process->state_bytes = metrics_add(METRIC_GAUGE, "stream_state_bytes", "", "Memory that windows, joins, tables and the like take");
    int64_t interval = program_tick_interval(process->program);
    if (interval)
        stage_tick_every(stage, interval);
    stage_on_room(stage, resume);
    stage_patient(stage);
    count(stage);
    process->errors_before = stage->errors;
    return 0;
}

static void look_for_times(process_t *process, const frame_t *in) {
    process->looked_for_times = true;
    text_t field = program_goes_by_time(process->program) ? arrival_field(in) : (text_t){0};
    if (field.size)
        log_info("events have no time of their own, so windows go by their arrival; the field %.*s reads as one: --time %.*s where it is read (\"time\" of a source)",
                 (int) field.size, field.data, (int) field.size, field.data);
}

static void frame(stage_t *stage, unsigned input, frame_t *in) {
    process_t *process = stage->own;
    if (!process->looked_for_times && in->events)
        look_for_times(process, in);
    program_frame(process->program, input, in);
    called(stage);
    if (++process->frames >= FRAMES_PER_LOOK) {
        process->frames = 0;
        look_at_memory(stage);
    }
}

static void save_piece(void *argument, buf_t *out) {
    stage_save_flush(argument, out);
}

static void save(stage_t *stage, buf_t *out) {
    process_t *process = stage->own;
    program_save(process->program, out, save_piece, stage);
}

static int load(stage_t *stage, text_t state, err_t *err) {
    process_t *process = stage->own;
    process->ended = stage->finishing;
    return program_load(process->program, state.data, state.size, err);
}

static void finish(stage_t *stage) {
    process_t *process = stage->own;
    process->ending = true;
    called(stage);
}

/* The samples in the log are one a second at most. */
static void report_errors(const stage_t *stage) {
    uint64_t errors = stage->errors - ((process_t *) stage->own)->errors_before;
    if (errors > 1)
        log_warning("%" PRIu64 " times an expression could not be computed and gave null", errors);
}

static void stop(stage_t *stage) {
    process_t *process = stage->own;
    report_errors(stage);
    program_free(process->program);
    for (news_t *news = process->news, *next; news; news = next) {
        next = news->next;
        mem_free(news);
    }
    mem_free(process->text);
}

static int live(stage_t *stage, err_t *err) {
    process_t *process = stage->own;
    return program_live(process->program, stage->loop, err);
}

static void help(stage_t *stage, FILE *out) {
    fputs("      --check=json                check the program alone; its errors as JSON on standard output\n"
          "      --explain                   show what the program does, operator by operator, and what each field comes from\n"
          "      --operators                 list the operators\n"
          "      --functions                 list the functions\n"
          "\nexamples:\n"
          "  ingest data.csv | process 'where temperature > 30 | keep device, temperature'\n"
          "  process 'window tumbling 10s by device: avg(temperature), count()' --from ipc://in --to ipc://out\n",
          out);
}

static const tool_t tool = {
    .name = "process",
    .summary = "Runs a program of the stream language over events: see stream-language(7).",
    .usage = "PROGRAM|-f FILE [--from LINK]... [--to LINK]... [OPTION]...",
    .has_inputs = true,
    .has_outputs = true,
    .default_output = "-",
    .options = options,
    .state_size = sizeof(process_t),
    .argument = argument,
    .setting = setting,
    .help = help,
    .check = check,
    .start = start,
    .frame = frame,
    .finish = finish,
    .stop = stop,
    .save = save,
    .load = load,
    .tick = tick,
    .outside = take_outside,
    .live = live,
};

static int run(int argc, char **argv) {
    static char trace_all[] = "--trace=1";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--check=json") == 0 || strcmp(argv[i], "--explain") == 0)
            return alone_main(argc, argv, argv[i]);
        if (strcmp(argv[i], "--trace") == 0)
            argv[i] = trace_all;
        if (strncmp(argv[i], "--case=fd:", 10) == 0) /* from streamctl test only */
            return case_main(atoi(argv[i] + 10));
        if (strcmp(argv[i], "--functions") == 0) {
            function_list(stdout);
            return 0;
        }
        if (strcmp(argv[i], "--operators") == 0) {
            operator_list(stdout);
            aggregate_list(stdout);
            return 0;
        }
    }
    return stage_main(&tool, argc, argv);
}

int main(int argc, char **argv) {
    return file_end_output("process", run(argc, argv));
}
