#ifndef TESTS_FUZZ_DECODE_H
#define TESTS_FUZZ_DECODE_H

/* For the fuzz targets of text formats: decodes a text whole and in pieces, and checks that both give the same, in sound frames. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/format.h"
#include "data/json.h"

#define CHECK(condition, ...) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr); \
            abort(); \
        } \
    } while (0)

typedef struct fuzz_decode {
    frame_builder_t builder;
    decode_target_t target;
    buf_t out;
} fuzz_decode_t;

static bool fuzz_committed(void *argument) {
    fuzz_decode_t *decode = argument;
    bool has_time = decode->builder.data_time;
    frame_t *frame = builder_take(&decode->builder, "fuzz");
    err_t err;
    CHECK(frame_verify(frame, &err) == 0, "%s", err.text);
    frame_walk_t walk = {0};
    event_t event;
    CHECK(frame_next(frame, &walk, &event) == 1, "no event in the frame");
    CHECK(json_put_event(&decode->out, &event, has_time, decode->target.topic), "the event cannot be printed");
    buf_put_byte(&decode->out, '\n');
    frame_unref(frame);
    return decode->out.size % 3 == 0; /* now and then the caller wants no more at once */
}

static void fuzz_bad(void *argument, text_t record, uint64_t number, const char *reason) {
    fuzz_decode_t *decode = argument;
    buf_format(&decode->out, "bad %llu: %s: ", (unsigned long long) number, reason);
    text_put_json(&decode->out, record);
    buf_put_byte(&decode->out, '\n');
}

/* The text that all events and errors give; the caller's. */
static char *fuzz_decode(const char *format, const format_settings_t *settings, const uint8_t *data, size_t size, size_t piece) {
    fuzz_decode_t decode = {0};
    decode.target = (decode_target_t){.builder = &decode.builder, .committed = fuzz_committed, .bad = fuzz_bad, .argument = &decode};
    decoder_t *decoder;
    err_t err;
    CHECK(format_find(format)->decoder_open(&decoder, settings, &err) == 0, "%s", err.text);
    size_t start = 0, end = 0;
    while (end < size || start < size) {
        end = size - end < piece ? size : end + piece;
        bool at_end = end == size;
        for (size_t before = SIZE_MAX; before != start && (start < end || at_end);) {
            uint8_t *exact = mem_copy(data + start, end - start);
            before = start;
            start += decoder_feed(decoder, (const char *) exact, end - start, at_end, &decode.target);
            mem_free(exact);
            CHECK(start <= end, "more was used than there is");
        }
        CHECK(!at_end || start == size, "not all was used");
    }
    decoder_free(decoder);
    builder_fini(&decode.builder);
    buf_text(&decode.out);
    return (char *) buf_take(&decode.out);
}

static inline void fuzz_decode_pieces(const char *format, const format_settings_t *settings, const uint8_t *data, size_t size, size_t piece) {
    if (size > 4096) /* byte by byte that takes its square */
        size = 4096;
    format_settings_t defaults = {0};
    option_defaults(format_options, &defaults);
    char *whole = fuzz_decode(format, settings ? settings : &defaults, data, size, size + 1);
    char *pieces = fuzz_decode(format, settings ? settings : &defaults, data, size, piece);
    CHECK(strcmp(whole, pieces) == 0, "whole:\n%s\nin pieces of %zu:\n%s", whole, piece, pieces);
    mem_free(whole);
    mem_free(pieces);
    option_fini(format_options, &defaults);
}

#endif
