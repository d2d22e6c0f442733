#ifndef TESTS_FORMAT_HARNESS_H
#define TESTS_FORMAT_HARNESS_H

/* For the tests of text formats: feeds a text in pieces of every size, as sources do, and puts what comes out into one text: a line per
 * event (as JSON, with @timestamp when it has a time of its own, @stream when the text said so), "bad N: REASON" for the others, and
 * "remark N: TEXT" where such is expected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "data/format.h"
#include "data/json.h"

#define HARNESS_INGEST INT64_C(7000000000)

typedef struct harness {
    frame_builder_t builder;
    decode_target_t target;
    buf_t out;
    bool stop_each;           /* after each event */
} harness_t;

static bool harness_committed(void *argument) {
    harness_t *harness = argument;
    bool has_time = harness->builder.data_time;
    frame_t *frame = builder_take(&harness->builder, "test");
    err_t err;
    if (frame_verify(frame, &err))
        fail_msg("%s", err.text);
    assert_int_equal(frame->events, 1);
    frame_walk_t walk = {0};
    event_t event;
    assert_int_equal(frame_next(frame, &walk, &event), 1);
    if (!has_time)
        assert_int_equal(event.time, HARNESS_INGEST);
    assert_true(json_put_event(&harness->out, &event, has_time, harness->target.topic));
    buf_put_byte(&harness->out, '\n');
    frame_unref(frame);
    return harness->stop_each;
}

static void harness_bad(void *argument, text_t record, uint64_t number, const char *reason) {
    harness_t *harness = argument;
    buf_format(&harness->out, "bad %llu: %s\n", (unsigned long long) number, reason);
}

static void harness_remark(void *argument, uint64_t number, const char *text) {
    harness_t *harness = argument;
    buf_format(&harness->out, "remark %llu: %s\n", (unsigned long long) number, text);
}

static bool harness_primed(void *argument) {
    return true;
}

static void harness_ignore(void *argument, text_t record, uint64_t number, const char *reason) {
}

/* Another decoder in the place of this one, as after a restart: it has seen the first rows of a table, and is told the state. */
static decoder_t *harness_renew(const char *format_name, const format_settings_t *settings, decoder_t *old, text_t before) {
    frame_builder_t builder = {0};
    decode_target_t target = {.builder = &builder, .committed = harness_primed, .bad = harness_ignore};
    decoder_t *fresh;
    err_t err;
    if (format_find(format_name)->decoder_open(&fresh, settings, &err))
        fail_msg("%s", err.text);
    if (strcmp(format_name, "csv") == 0 || strcmp(format_name, "tsv") == 0)
        decoder_feed(fresh, before.data, before.size, false, &target);
    decoder_restore(fresh, decoder_state(old), old->records);
    builder_fini(&builder);
    decoder_free(old);
    return fresh;
}

static bool harness_remarks;               /* they are looked at */

/* What the text gives when it comes in pieces of `piece` bytes; renew: with another decoder for each piece. */
static char *harness_decode(const char *format_name, const format_settings_t *settings, text_t text, size_t piece, bool stop_each, bool renew) {
    harness_t harness = {.stop_each = stop_each};
    harness.target = (decode_target_t){.builder = &harness.builder, .ingest_time = HARNESS_INGEST, .committed = harness_committed,
                                       .bad = harness_bad, .remark = harness_remarks ? harness_remark : NULL, .argument = &harness};
    decoder_t *decoder;
    err_t err;
    if (format_find(format_name)->decoder_open(&decoder, settings, &err))
        fail_msg("%s", err.text);
    size_t start = 0, end = 0;
    for (;;) {
        end = text.size - end < piece ? text.size : end + piece;
        bool at_end = end == text.size;
        for (size_t before = SIZE_MAX; before != start && (start < end || at_end);) { /* a stop asks for another call */
            char *exact = mem_copy(text.data + start, end - start);
            before = start;
            if (renew)
                decoder = harness_renew(format_name, settings, decoder, text_make(text.data, start));
            start += decoder_feed(decoder, exact, end - start, at_end, &harness.target);
            mem_free(exact);
            assert_true(start <= end);
            if (!stop_each)
                break;
        }
        if (at_end)
            break;
    }
    assert_int_equal(start, text.size);
    decoder_free(decoder);
    builder_fini(&harness.builder);
    buf_text(&harness.out);
    return (char *) buf_take(&harness.out);
}

static void harness_check_settings(const char *format, const format_settings_t *settings, const char *bytes, size_t size, const char *expected) {
    text_t text = {bytes, size};
    harness_remarks = strstr(expected, "remark ") != NULL;
    for (int how = 0; how < 3; how++)
        for (size_t piece = 1; piece <= text.size + 1; piece += 1 + piece / 40 * 7) {
            bool stop = how == 1, renew = how == 2;
            size_t used = stop ? text.size + 2 - piece : piece;
            char *got = harness_decode(format, settings, text, used, stop, renew);
            if (strcmp(got, expected) != 0)
                fail_msg("in pieces of %zu%s:\n%s\ninstead of\n%s", used, renew ? ", restored before each" : "", got, expected);
            mem_free(got);
        }
}

static void harness_defaults(format_settings_t *settings) {
    *settings = (format_settings_t){0};
    option_defaults(format_options, settings);
}

static void harness_set(format_settings_t *settings, const char *name, const char *value) {
    err_t err;
    if (option_set(option_find(format_options, text_of(name)), settings, text_of(value), &err))
        fail_msg("%s", err.text);
}

/* `options`: "name=value name=value" or NULL. */
static void harness_check(const char *format, const char *options, const char *text, const char *expected) {
    format_settings_t settings;
    harness_defaults(&settings);
    text_t rest = text_of(options), pair;
    while (options && text_split(&rest, ' ', &pair)) {
        char *copy = mem_text_n(pair.data, pair.size), *value = strchr(copy, '=');
        *value++ = 0;
        harness_set(&settings, copy, value);
        mem_free(copy);
    }
    harness_check_settings(format, &settings, text, strlen(text), expected);
    option_fini(format_options, &settings);
}

#endif
