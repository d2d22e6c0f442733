#ifndef TESTS_PROCESS_HARNESS_H
#define TESTS_PROCESS_HARNESS_H

/* For the tests of process: runs a program in memory over NDJSON text, cut into frames in any way, saved and loaded between frames, and puts
 * what comes out into one text: the main stream's lines, then those of each other stream with its @stream. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cmd/process/outline.h"
#include "../../cmd/process/program.h"
#include "data/json.h"

typedef struct cut {
    unsigned events;          /* per frame; 0: all in one; UINT_MAX: 1, 2, 3, 1, 2, ... */
    bool restart;             /* a new program from a snapshot after every frame */
    bool no_watermark;        /* frames do not say how far time has come */
    bool traced;              /* with --trace: nothing else may change */
    uint64_t *dice;           /* state of random numbers: frames of any size, restarts and watermarks now and then */
} cut_t;

static unsigned harness_throw(uint64_t *dice, unsigned sides) {
    *dice = *dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned) (*dice >> 33) % sides;
}

typedef struct outcome {
    loop_t *loop;
    buf_t text;
    buf_t streams[8];
    char names[8][FRAME_TOPIC_MAX + 1];
    unsigned count;
    buf_t dead_text;          /* why, a line each */
    uint64_t in, out, dead, errors;
    program_counts_t counts;
    int64_t watermark;        /* greatest of the main stream's frames */
    unsigned inputs;          /* 0: one */
    int64_t idle;
    bool traced;
} outcome_t;

static buf_t *outcome_stream(outcome_t *outcome, const char *name) {
    for (unsigned i = 0; i < outcome->count; i++)
        if (strcmp(outcome->names[i], name) == 0)
            return &outcome->streams[i];
    assert_true(outcome->count < 8);
    snprintf(outcome->names[outcome->count], sizeof outcome->names[0], "%s", name);
    return &outcome->streams[outcome->count++];
}

static void outcome_frame(void *argument, frame_t *frame) {
    outcome_t *outcome = argument;
    err_t err;
    if (frame_verify(frame, &err))
        fail_msg("output: %s", err.text);
    bool main = strcmp(frame->topic, "process") == 0;
    if (main && frame->watermark != FRAME_NO_WATERMARK) {
        assert_true(frame->watermark >= outcome->watermark);
        outcome->watermark = frame->watermark;
    }
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1) {
        buf_t *out = outcome_stream(outcome, frame->topic);
        assert_true(json_put_event(out, &event, frame->data_time, main ? NULL : frame->topic));
        buf_put_byte(out, '\n');
        outcome->out++;
    }
    frame_unref(frame);
}

static void outcome_dead(void *argument, const event_t *event, const char *place, const char *reason) {
    outcome_t *outcome = argument;
    buf_format(&outcome->dead_text, "%s\n", reason);
    outcome->dead++;
}

static size_t harness_lines;  /* that a trace has written */

static void harness_trace(text_t lines) {
    assert_int_equal(text_utf8_valid(lines.data, lines.size), lines.size);
    assert_true(lines.size > 3 && lines.data[0] == '#' && lines.data[lines.size - 1] == '\n');
    harness_lines++;
}

/* What --explain and --trace need; and explaining it changes nothing. */
static void harness_look(program_t *program) {
    buf_t text = {0};
    explain(program, &text);
    assert_int_equal(memcmp(buf_text(&text), "in:  reads ", 11), 0);
    assert_non_null(strstr(buf_text(&text), "\nout: the stream "));
    assert_int_equal(text_utf8_valid((char *) text.data, text.size), text.size);
    buf_fini(&text);
    trace_install(program, 1 + harness_lines % 2, harness_trace);
}

static program_t *harness_program(const char *text, size_t size, outcome_t *outcome, diagnostics_t *diagnostics) {
    *diagnostics = (diagnostics_t){.name = "program", .source = text_make(text, size)};
    program_setup_t setup = {.stream = "process", .inputs = outcome->inputs, .idle = outcome->idle, .batch_events = 7, .batch_bytes = 1 << 20, .frame = outcome_frame,
                             .dead = outcome_dead, .outline = outcome->traced, .argument = outcome};
    program_t *program = program_new(&setup, diagnostics);
    if (program && outcome->traced)
        harness_look(program);
    return program;
}

/* What stands in files is read now, and programs are asked. */
static void harness_live(program_t *program, outcome_t *outcome) {
    err_t err;
    if (program_live(program, outcome->loop, &err) < 0)
        fail_msg("%s", err.text);
}

/* Saves the program, and gives one that goes on from there. */
static program_t *harness_restart(program_t *program, const char *text, size_t size, outcome_t *outcome) {
    buf_t state = {0}, again = {0};
    program_save(program, &state, NULL, NULL);
    program_free(program);
    diagnostics_t diagnostics;
    program_t *fresh = harness_program(text, size, outcome, &diagnostics);
    err_t err;
    if (program_load(fresh, state.data, state.size, &err) < 0)
        fail_msg("%s", err.text);
    program_save(fresh, &again, NULL, NULL);
    assert_int_equal(again.size, state.size);
    assert_memory_equal(again.data, state.data, state.size);
    buf_fini(&state);
    buf_fini(&again);
    harness_live(fresh, outcome);
    return fresh;
}

static void harness_send(program_t **program, frame_builder_t *builder, unsigned input, const char *topic, const cut_t *cut, const char *text,
                         size_t size, outcome_t *outcome) {
    frame_t *frame = builder_take(builder, topic);
    if (cut->no_watermark || (cut->dice && harness_throw(cut->dice, 4) == 0))
        frame->watermark = FRAME_NO_WATERMARK;
    outcome->in += frame->events;
    program_frame(*program, input, frame);
    program_settle(*program, outcome->loop);
    frame_unref(frame);
    if (cut->restart || (cut->dice && harness_throw(cut->dice, 6) == 0))
        *program = harness_restart(*program, text, size, outcome);
}

/* The clock goes on by so much; with a restart it has stood still meanwhile. */
static void harness_clock(program_t **program, int64_t *clock, int64_t duration, const cut_t *cut, const char *text, size_t size,
                          outcome_t *outcome) {
    int64_t interval = program_tick_interval(*program), end = *clock + duration;
    for (*clock += interval; interval && *clock <= end; *clock += interval) {
        program_tick(*program, *clock);
        if (cut->restart)
            *program = harness_restart(*program, text, size, outcome);
    }
    *clock = end;
}

/* The inputs that lines "-- in NAME" name; and the number of one of them, 0 for what names none. */
static unsigned harness_inputs(text_t input, text_t wanted, unsigned *number) {
    text_t line, names[8];
    unsigned count = 0;
    *number = 0;
    while (text_split(&input, '\n', &line)) {
        if (line.size < 6 || memcmp(line.data, "-- in ", 6) != 0)
            continue;
        unsigned i = 0;
        while (i < count && !text_equal(names[i], line))
            i++;
        assert_true(i < 8);
        if (i == count)
            names[count++] = line;
        if (text_equal(line, wanted))
            *number = i;
    }
    return count ? count : 1;
}

/* Runs a program that is known to be right. The outcome is the caller's: outcome_fini. */
static void harness_run(const char *text, size_t size, const char *input, size_t input_size, const cut_t *cut, outcome_t *outcome) {
    unsigned number = 0;
    *outcome = (outcome_t){.watermark = FRAME_NO_WATERMARK, .idle = 30 * INT64_C(1000000000), .traced = cut->traced};
    outcome->loop = loop_new();
    signal(SIGPIPE, SIG_IGN);
    outcome->inputs = harness_inputs(text_make(input, input_size), (text_t){0}, &number);
    diagnostics_t diagnostics;
    outcome_stream(outcome, "process");
    program_t *program = harness_program(text, size, outcome, &diagnostics);
    if (!program) {
        buf_t report = {0};
        diagnostics_print(&diagnostics, &report);
        fail_msg("%s", buf_text(&report));
    }
    harness_live(program, outcome);
    json_reader_t *reader = json_reader_new("@timestamp", true, true);
    frame_builder_t builder = {0};
    buf_t record = {0};
    text_t rest = text_make(input, input_size), line;
    char topic[FRAME_TOPIC_MAX + 1] = "input";
    text_t stream_of_input = text_of("input");
    unsigned frames = 0;
    int64_t clock = INT64_C(7000000000);
    while (text_split(&rest, '\n', &line)) {
        if (!line.size)
            continue;
        bool named = line.size > 6 && memcmp(line.data, "-- in ", 6) == 0, after = line.size > 9 && memcmp(line.data, "-- after ", 9) == 0;
        if ((named || after) && builder.events)
            harness_send(&program, &builder, number, topic, cut, text, size, outcome);
        if (named) {
            harness_inputs(text_make(input, input_size), line, &number);
            stream_of_input = text_make(line.data + 6, line.size - 6);
            snprintf(topic, sizeof topic, "%.*s", (int) stream_of_input.size, stream_of_input.data);
        } else if (after) {
            int64_t duration;
            assert_int_equal(text_to_duration(text_make(line.data + 9, line.size - 9), 0, &duration, NULL), 0);
            harness_clock(&program, &clock, duration, cut, text, size, outcome);
        }
        if (named || after)
            continue;
        json_found_t found = {0};
        err_t err;
        buf_clear(&record);
        if (json_read_event(reader, line, &record, &found, &err) < 0)
            fail_msg("%.*s: %s", (int) line.size, line.data, err.text);
        text_t stream = found.stream.size ? found.stream : stream_of_input;
        if (found.has_time && found.time > clock)
            clock = found.time;
        unsigned most = cut->dice ? 1 + harness_throw(cut->dice, 8) : cut->events == UINT32_MAX ? 1 + frames % 3 : cut->events;
        if (builder.events && (!text_is(stream, topic) || (most && builder.events >= most))) {
            harness_send(&program, &builder, number, topic, cut, text, size, outcome);
            frames++;
        }
        snprintf(topic, sizeof topic, "%.*s", (int) stream.size, stream.data);
        builder_begin(&builder);
        buf_put(&builder.body, record.data, record.size);
        builder.data_time |= found.has_time;
        builder_commit(&builder, found.has_time ? found.time : INT64_C(7000000000), INT64_C(7000000000));
    }
    if (builder.events)
        harness_send(&program, &builder, number, topic, cut, text, size, outcome);
    program_end(program);
    program_settle(program, outcome->loop);
    outcome->errors = program_errors(program);
    outcome->counts = program_counts(program);
    for (unsigned i = 0; i < outcome->count; i++)
        buf_put(&outcome->text, outcome->streams[i].data, outcome->streams[i].size);
    buf_text(&outcome->text);
    program_free(program);
    loop_free(outcome->loop);
    builder_fini(&builder);
    buf_fini(&record);
    json_reader_free(reader);
}

static void outcome_fini(outcome_t *outcome) {
    for (unsigned i = 0; i < outcome->count; i++)
        buf_fini(&outcome->streams[i]);
    buf_fini(&outcome->text);
    buf_fini(&outcome->dead_text);
}

#endif
