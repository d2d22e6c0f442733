/* One case of streamctl test: a program run in memory by a script. See case.h. */
#include "case.h"

#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/memory.h"
#include "data/json.h"
#include "program.h"

#define CLOCK_START (INT64_C(946684800) * NS_PER_S)   /* 2000-01-01: for events that have no time before any that has */
#define TICKS_MAX 1000000                             /* of one step: a longer one ticks less often */

typedef struct out_stream {
    char name[FRAME_TOPIC_MAX + 1];
    buf_t events;             /* JSON texts, joined by commas */
} out_stream_t;

typedef struct case_run {
    const json_t *script;
    program_t *program;
    loop_t *loop;             /* for programs that operators ask */
    const char *name;         /* of the main stream */
    int64_t clock;
    json_reader_t *reader;
    frame_builder_t builder;
    out_stream_t *streams;    /* 0: the main one */
    size_t stream_count;
    buf_t dead, reports, record, scratch;
} case_run_t;

static void put_item(buf_t *out, text_t text) {
    if (out->size)
        buf_put_byte(out, ',');
    text_put_json(out, text);
}

static out_stream_t *stream_called(case_run_t *run, const char *name) {
    for (size_t i = 0; i < run->stream_count; i++)
        if (strcmp(run->streams[i].name, name) == 0)
            return &run->streams[i];
    run->streams = mem_resize(run->streams, (run->stream_count + 1) * sizeof *run->streams);
    out_stream_t *stream = &run->streams[run->stream_count++];
    *stream = (out_stream_t){0};
    snprintf(stream->name, sizeof stream->name, "%s", name);
    return stream;
}

static void take_frame(void *argument, frame_t *frame) {
    case_run_t *run = argument;
    out_stream_t *stream = stream_called(run, frame->topic);
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1) {
        buf_clear(&run->scratch);
        if (json_put_event(&run->scratch, &event, frame->data_time, NULL))
            put_item(&stream->events, text_make((char *) run->scratch.data, run->scratch.size));
    }
    frame_unref(frame);
}

static void take_dead(void *argument, const event_t *event, const char *place, const char *reason) {
    case_run_t *run = argument;
    buf_t letter = {0};
    buf_put_text(&letter, "{\"reason\":");
    text_put_json(&letter, text_of(reason));
    if (place) {
        buf_put_text(&letter, ",\"place\":");
        text_put_json(&letter, text_of(place));
    }
    buf_clear(&run->scratch);
    if (event && json_put_event(&run->scratch, event, false, NULL)) {
        buf_put_text(&letter, ",\"event\":");
        buf_put(&letter, run->scratch.data, run->scratch.size);
    }
    buf_put_byte(&letter, '}');
    put_item(&run->dead, text_make((char *) letter.data, letter.size));
    buf_fini(&letter);
}

static void take_trouble(void *argument, const char *text) {
    log_error("%s", text);
}

static void take_report(void *argument, const char *text) {
    put_item(&((case_run_t *) argument)->reports, text_of(text));
}

/* Steps. */

static void send(case_run_t *run, unsigned input, const char *topic) {
    if (!run->builder.events)
        return;
    frame_t *frame = builder_take(&run->builder, topic);
    program_frame(run->program, input, frame);
    program_settle(run->program, run->loop);
    frame_unref(frame);
}

static int add_event(case_run_t *run, const json_t *text, char *topic, const char *stream, unsigned input, err_t *err) {
    json_found_t found = {0};
    buf_clear(&run->record);
    if (json_read_event(run->reader, text_make(json_string_value(text), json_string_length(text)), &run->record, &found, err) < 0)
        return -1;
    if (found.bad_time)
        return err_set(err, "its @timestamp is no time");
    char own[FRAME_TOPIC_MAX + 1];
    snprintf(own, sizeof own, "%.*s", found.stream.size ? (int) found.stream.size : FRAME_TOPIC_MAX, found.stream.size ? found.stream.data : stream);
    if (strcmp(own, topic) != 0)
        send(run, input, topic);
    memcpy(topic, own, sizeof own);
    if (found.has_time && (found.time > run->clock || run->clock == CLOCK_START))
        run->clock = found.time;
    builder_begin(&run->builder);
    buf_put(&run->builder.body, run->record.data, run->record.size);
    run->builder.data_time |= found.has_time;
    builder_commit(&run->builder, found.has_time ? found.time : run->clock, run->clock);
    return 0;
}

/* *event is the number of the one that cannot be read. */
static int run_events(case_run_t *run, const json_t *step, size_t *event, err_t *err) {
    unsigned input = (unsigned) json_integer_value(json_object_get(step, "input"));
    const char *stream = json_string_value(json_object_get(step, "stream"));
    const json_t *events = json_object_get(step, "events");
    char topic[FRAME_TOPIC_MAX + 1] = "";
    for (*event = 0; *event < json_array_size(events); ++*event)
        if (add_event(run, json_array_get(events, *event), topic, stream ? stream : "input", input, err) < 0)
            return -1;
    send(run, input, topic);
    return 0;
}

static void run_clock(case_run_t *run, int64_t duration) {
    int64_t interval = program_tick_interval(run->program), end = run->clock + duration;
    if (interval && duration / interval > TICKS_MAX)
        interval = duration / TICKS_MAX;
    for (int64_t now = run->clock + interval; interval && now <= end; now += interval)
        program_tick(run->program, now);
    run->clock = end;
}

static void put_answer(case_run_t *run, buf_t *out) {
    buf_put_text(out, "{\"streams\":[");
    for (size_t i = 0; i < run->stream_count; i++) {
        buf_put_text(out, i ? ",{\"name\":" : "{\"name\":");
        text_put_json(out, text_of(run->streams[i].name));
        buf_put_text(out, ",\"events\":[");
        buf_put(out, run->streams[i].events.data, run->streams[i].events.size);
        buf_put_text(out, "]}");
    }
    buf_put_text(out, "],\"dead\":[");
    buf_put(out, run->dead.data, run->dead.size);
    buf_format(out, "],\"errors\":%" PRIu64 ",\"reports\":[", program_errors(run->program));
    buf_put(out, run->reports.data, run->reports.size);
    buf_put_text(out, "]}");
}

static void run_steps(case_run_t *run, buf_t *out) {
    const json_t *step;
    size_t i, event = 0;
    err_t err;
    json_array_foreach(json_object_get(run->script, "steps"), i, step) {
        const json_t *after = json_object_get(step, "after");
        if (after) {
            run_clock(run, json_integer_value(after));
        } else if (run_events(run, step, &event, &err) < 0) {
            buf_format(out, "{\"step\":%zu,\"event\":%zu,\"reason\":", i, event);
            text_put_json(out, text_of(err.text));
            buf_put_byte(out, '}');
            return;
        }
    }
    program_end(run->program);
    program_settle(run->program, run->loop);
    put_answer(run, out);
}

static void put_faults(const diagnostics_t *diagnostics, buf_t *out) {
    buf_put_text(out, "{\"faults\":[");
    for (size_t i = 0; i < diagnostics->count; i++) {
        const diagnostic_t *item = &diagnostics->items[i];
        buf_format(out, "%s{\"line\":%u,\"column\":%u,\"message\":", i ? "," : "", item->line, item->column);
        text_put_json(out, text_of(item->message));
        buf_put_text(out, ",\"hint\":");
        text_put_json(out, text_of(item->hint ? item->hint : ""));
        buf_put_byte(out, '}');
    }
    buf_put_text(out, "]}");
}

static int64_t number(const json_t *script, const char *key, int64_t fallback) {
    const json_t *value = json_object_get(script, key);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

static void run_script(const json_t *script, buf_t *out) {
    const json_t *text = json_object_get(script, "program");
    case_run_t run = {.script = script, .clock = CLOCK_START, .loop = loop_new()};
    run.name = json_string_value(json_object_get(script, "name"));
    run.name = run.name ? run.name : "process";
    diagnostics_t diagnostics = {.name = "program", .source = text_make(json_string_value(text), json_string_length(text))};
    program_setup_t setup = {
        .stream = run.name,
        .inputs = (unsigned) number(script, "inputs", 1),
        .idle = number(script, "idle", 30 * NS_PER_S),
        .others = (others_t) number(script, "others", OTHERS_PASS),
        .batch_events = (uint64_t) number(script, "batch_size", 2000),
        .batch_bytes = (uint64_t) number(script, "batch_bytes", 192 * 1024),
        .frame = take_frame,
        .dead = take_dead,
        .report = take_report,
        .trouble = take_trouble,
        .argument = &run,
    };
    stream_called(&run, run.name);
    run.program = program_new(&setup, &diagnostics);
    err_t err;
    if (run.program && program_live(run.program, run.loop, &err) < 0) {
        buf_put_text(out, "{\"failure\":");
        text_put_json(out, text_of(err.text));
        buf_put_byte(out, '}');
    } else if (run.program) {
        run.reader = json_reader_new("@timestamp", true, true);
        run_steps(&run, out);
    } else {
        put_faults(&diagnostics, out);
    }
    diagnostics_fini(&diagnostics);
    program_free(run.program);
    loop_free(run.loop);
    json_reader_free(run.reader);
    builder_fini(&run.builder);
    for (size_t i = 0; i < run.stream_count; i++)
        buf_fini(&run.streams[i].events);
    mem_free(run.streams);
    buf_fini(&run.dead);
    buf_fini(&run.reports);
    buf_fini(&run.record);
    buf_fini(&run.scratch);
}

int case_main(int fd) {
    log_open("process", NULL, LOG_WARNING);
    signal(SIGPIPE, SIG_IGN);
    json_error_t error;
    json_t *script = json_loadfd(fd, JSON_ALLOW_NUL, &error);
    if (!script || !json_is_string(json_object_get(script, "program"))) {
        fprintf(stderr, "process: --case: %s\n", script ? "no program" : error.text);
        json_decref(script);
        return EX_USAGE;
    }
    buf_t out = {0};
    run_script(script, &out);
    size_t put = fwrite(out.data, 1, out.size, stdout);
    int status = put == out.size && fflush(stdout) == 0 ? 0 : 1;
    buf_fini(&out);
    json_decref(script);
    return status;
}
