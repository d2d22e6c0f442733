/* Frames: built, numbered, decoded, walked; and every way in which one from outside can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "data/frame.h"
#include "data/pack.h"

#define SECOND INT64_C(1000000000)

static void put_event(frame_builder_t *builder, int64_t number, int64_t time, int64_t ingest_time) {
    builder_begin(builder);
    pack_map(&builder->body, 1);
    pack_text(&builder->body, "n");
    pack_int(&builder->body, number);
    builder_commit(builder, time, ingest_time);
}

static frame_t *make_frame(int events) {
    frame_builder_t builder = {0};
    for (int i = 0; i < events; i++)
        put_event(&builder, i, i * SECOND + 7, 1000 + i);
    frame_t *frame = builder_take(&builder, "numbers");
    builder_fini(&builder);
    return frame;
}

static const frame_number_t number = {.origin = "host/x", .epoch = 5, .sequence = 9, .lowest = 3, .receiver = 77, .attempt = 2};

/* Encodes and decodes again; the caller's storage holds the header. */
static int pass(const frame_t *frame, frame_t *decoded, buf_t *header, err_t *err) {
    frame_put_header(header, frame, &number);
    *decoded = (frame_t){0};
    return frame_decode(decoded, frame->topic, strlen(frame->topic), header->data, header->size, frame->body, frame->body_size,
                        FRAME_MAX_DEFAULT, err);
}

static void what_is_built_is_read_back(void **state) {
    frame_t *frame = make_frame(100), decoded;
    buf_t header = {0};
    err_t err;
    assert_int_equal(pass(frame, &decoded, &header, &err), 0);
    assert_int_equal(frame_verify(&decoded, &err), 0);
    assert_string_equal(decoded.topic, "numbers");
    assert_string_equal(decoded.origin, "host/x");
    assert_int_equal(decoded.epoch, 5);
    assert_int_equal(decoded.sequence, 9);
    assert_int_equal(decoded.lowest, 3);
    assert_int_equal(decoded.receiver, 77);
    assert_int_equal(decoded.attempt, 2);
    assert_int_equal(decoded.events, 100);
    assert_int_equal(decoded.ingest_time, 1000);
    assert_int_equal(decoded.watermark, 99 * SECOND + 7);
    assert_false(decoded.end);
    assert_false(decoded.data_time);
    frame_walk_t walk = {0};
    event_t event;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(frame_next(&decoded, &walk, &event), 1);
        assert_int_equal(event.time, i * SECOND + 7);
        value_t value;
        assert_true(pack_map_get(event.record, event.record_size, text_of("n"), &value));
        assert_int_equal(value.integer, i);
    }
    assert_int_equal(frame_next(&decoded, &walk, &event), 0);
    buf_fini(&header);
    frame_unref(frame);
}

static void without_lengths_the_walk_finds_the_same_events(void **state) {
    frame_t *frame = make_frame(50);
    frame->lengths = NULL;
    err_t err;
    assert_int_equal(frame_verify(frame, &err), 0);
    frame_walk_t walk = {0};
    event_t event;
    int events = 0;
    while (frame_next(frame, &walk, &event) == 1)
        events++;
    assert_int_equal(events, 50);
    frame_unref(frame);
}

static void watermark_and_marks_pass_when_they_are_set(void **state) {
    frame_t *end = frame_new_end("x"), decoded;
    buf_t header = {0};
    end->data_time = true;
    assert_int_equal(pass(end, &decoded, &header, NULL), 0);
    assert_true(decoded.end);
    assert_true(decoded.data_time);
    assert_true(decoded.watermark == FRAME_NO_WATERMARK);
    assert_int_equal(decoded.events, 0);
    buf_clear(&header);
    end->watermark = -5;
    assert_int_equal(pass(end, &decoded, &header, NULL), 0);
    assert_int_equal(decoded.watermark, -5);
    buf_fini(&header);
    frame_unref(end);
}

static void what_a_durable_log_says_passes(void **state) {
    frame_t *frame = make_frame(2), decoded = {0};
    frame_past_t past[FRAME_PAST_MAX];
    for (unsigned i = 0; i < FRAME_PAST_MAX; i++)
        past[i] = (frame_past_t){UINT64_MAX - i, 100 - i};
    frame_number_t durable = {.origin = "host/x", .epoch = 5, .sequence = 9, .lowest = 3, .has_stable = true, .hurry = true, .past = past,
                              .past_count = FRAME_PAST_MAX};
    buf_t header = {0}, replaces = {0};
    err_t err;
    pack_array(&replaces, 2);
    pack_text(&replaces, "host/w");
    pack_text(&replaces, "host/v");
    durable.replaces = text_make((const char *) replaces.data, replaces.size);
    frame_put_header(&header, frame, &durable);
    assert_int_equal(frame_decode(&decoded, "t", 1, header.data, header.size, frame->body, frame->body_size, 1000, &err), 0);
    assert_true(decoded.has_stable && decoded.stable == 0 && decoded.hurry);
    assert_int_equal(decoded.past_count, FRAME_PAST_MAX);
    for (unsigned i = 0; i < FRAME_PAST_MAX; i++)
        assert_true(decoded.past[i].epoch == past[i].epoch && decoded.past[i].number == past[i].number);
    text_t rest = decoded.replaces, origin;
    assert_true(frame_replaces(&rest, &origin) && text_is(origin, "host/w"));
    assert_true(frame_replaces(&rest, &origin) && text_is(origin, "host/v"));
    assert_false(frame_replaces(&rest, &origin));
    buf_clear(&header);
    assert_int_equal(pass(frame, &decoded, &header, &err), 0);
    assert_true(!decoded.has_stable && !decoded.hurry && decoded.past_count == 0 && !decoded.replaces.size);
    buf_fini(&replaces);
    buf_fini(&header);
    frame_unref(frame);
}

static void an_aborted_event_leaves_no_trace(void **state) {
    frame_builder_t builder = {0};
    put_event(&builder, 1, 10, 10);
    builder_begin(&builder);
    pack_map(&builder.body, 3);
    builder_abort(&builder);
    put_event(&builder, 2, 20, 5);
    frame_t *frame = builder_take(&builder, "t");
    assert_int_equal(frame->events, 2);
    assert_int_equal(frame->ingest_time, 5);
    assert_int_equal(frame->watermark, 20);
    assert_int_equal(frame_verify(frame, NULL), 0);
    frame_unref(frame);
    builder_begin(&builder);
    builder_abort(&builder);
    frame = builder_take(&builder, "t");
    assert_int_equal(frame->events, 0);
    assert_true(frame->watermark == FRAME_NO_WATERMARK);
    frame_unref(frame);
    builder_fini(&builder);
}

static void event_times_are_held_within_what_the_format_has(void **state) {
    const int64_t given[] = {-1, INT64_MIN, EVENT_TIME_MAX, EVENT_TIME_MAX + 1, INT64_MAX};
    const int64_t stored[] = {0, 0, EVENT_TIME_MAX, EVENT_TIME_MAX, EVENT_TIME_MAX};
    frame_builder_t builder = {0};
    for (int i = 0; i < 5; i++)
        put_event(&builder, i, given[i], 0);
    frame_t *frame = builder_take(&builder, "t");
    frame_walk_t walk = {0};
    event_t event;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(frame_next(frame, &walk, &event), 1);
        assert_int_equal(event.time, stored[i]);
    }
    frame_unref(frame);
    builder_fini(&builder);
}

static void whole_events_can_be_copied_between_builders(void **state) {
    frame_t *frame = make_frame(10);
    frame_builder_t builder = {0};
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1)
        builder_add(&builder, &event, 3);
    frame_t *copy = builder_take(&builder, "copy");
    assert_int_equal(copy->body_size, frame->body_size);
    assert_memory_equal(copy->body, frame->body, frame->body_size);
    assert_int_equal(copy->ingest_time, 3);
    assert_int_equal(copy->watermark, frame->watermark);
    frame_unref(copy);
    frame_unref(frame);
    builder_fini(&builder);
}

static int released;

static void count_release(void *memory) {
    released += *(int *) memory;
}

static void memory_is_released_with_the_last_reference(void **state) {
    static int one = 1, ten = 10;
    released = 0;
    frame_t *frame = frame_new_end("t");
    frame->memory[0] = &one;
    frame->memory[1] = &ten;
    frame->release[0] = frame->release[1] = count_release;
    frame_ref(frame);
    frame_unref(frame);
    assert_int_equal(released, 0);
    frame_unref(frame);
    assert_int_equal(released, 11);
    frame_unref(NULL);
}

static void topics_are_names(void **state) {
    char longest[FRAME_TOPIC_MAX + 1];
    memset(longest, 'x', sizeof longest);
    assert_true(frame_topic_valid("a.B_c-9", 7));
    assert_true(frame_topic_valid(longest, FRAME_TOPIC_MAX));
    assert_false(frame_topic_valid(longest, FRAME_TOPIC_MAX + 1));
    assert_false(frame_topic_valid("", 0));
    for (int c = 0; c < 256; c++) {
        char name = (char) c;
        bool legal = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '-';
        assert_int_equal(frame_topic_valid(&name, 1), legal);
    }
}

/* ---- what comes from outside ---- */

/* Decodes a header given as msgpack in `header` with a body of `body_size` bytes. */
static int decode(buf_t *header, const void *body, size_t body_size, frame_t *frame, err_t *err) {
    *frame = (frame_t){0};
    int result = frame_decode(frame, "t", 1, header->data, header->size, body, body_size, 1000, err);
    buf_fini(header);
    return result;
}

static void pack_pair(buf_t *out, const char *key, uint64_t value) {
    pack_text(out, key);
    pack_uint(out, value);
}

static void assert_says(const err_t *err, const char *words) {
    if (!strstr(err->text, words))
        fail_msg("\"%s\" does not say \"%s\"", err->text, words);
}

static void headers_that_are_wrong_are_refused(void **state) {
    frame_t frame;
    err_t err;
    buf_t h = {0};
    uint8_t body[24] = {0x92, 0xd7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x92, 0xd7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80};

    pack_array(&h, 0);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "not a msgpack map");

    buf_put(&h, "\xdf\xff\xff\xff\xff", 5);   /* a map of 2^32 - 1 fields, none there */
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);

    pack_map(&h, 1);
    pack_int(&h, 1);
    pack_int(&h, 1);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "key that is not a string");

    pack_map(&h, 1);
    pack_pair(&h, "v", 2);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "version is 2");

    pack_map(&h, 0);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "version is 0");

    pack_map(&h, 1);
    pack_pair(&h, "v", 1);
    pack_nil(&h);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "1 bytes follow the header");

    pack_map(&h, 3);
    pack_pair(&h, "v", 1);
    pack_pair(&h, "q", 4);
    pack_pair(&h, "l", 5);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "above the frame's own");
    assert_int_equal(frame.sequence, 0);

    pack_map(&h, 2);
    pack_pair(&h, "v", 1);
    pack_text(&h, "q");
    pack_int(&h, -1);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "\"q\" is malformed");

    pack_map(&h, 2);
    pack_pair(&h, "v", 1);
    pack_text(&h, "o");
    pack_text(&h, "two\nlines");
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "\"o\" is malformed");

    for (int numbers = 1; numbers <= 2 * FRAME_PAST_MAX + 2; numbers++) {   /* c is pairs, and not too many */
        pack_map(&h, 2);
        pack_pair(&h, "v", 1);
        pack_text(&h, "c");
        pack_array(&h, (uint32_t) numbers);
        for (int i = 0; i < numbers; i++)
            pack_int(&h, i);
        assert_int_equal(decode(&h, NULL, 0, &frame, &err), numbers % 2 || numbers > 2 * FRAME_PAST_MAX ? -1 : 0);
    }

    pack_map(&h, 2);
    pack_pair(&h, "v", 1);
    pack_text(&h, "c");
    buf_put(&h, "\xdd\xff\xff\xff\xfe", 5);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "\"c\" is malformed");

    pack_map(&h, 2);
    pack_pair(&h, "v", 1);
    pack_text(&h, "s");
    pack_int(&h, -1);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);
    assert_says(&err, "\"s\" is malformed");

    char origin[FRAME_ORIGIN_MAX + 2];
    memset(origin, 'o', sizeof origin);
    pack_map(&h, 2);
    pack_pair(&h, "v", 1);
    pack_text(&h, "o");
    pack_string(&h, origin, FRAME_ORIGIN_MAX + 1);
    assert_int_equal(decode(&h, NULL, 0, &frame, &err), -1);

    pack_map(&h, 2);
    pack_pair(&h, "v", 1);
    pack_pair(&h, "n", UINT64_MAX);
    assert_int_equal(decode(&h, body, sizeof body, &frame, &err), -1);
    assert_says(&err, "cannot be in 24 bytes");

    pack_map(&h, 1);
    pack_pair(&h, "v", 1);
    assert_int_equal(decode(&h, body, sizeof body, &frame, &err), -1);
    assert_says(&err, "without events");

    pack_map(&h, 2);
    pack_pair(&h, "v", 1);
    pack_pair(&h, "n", 2);
    assert_int_equal(decode(&h, body, 1001, &frame, &err), -1);
    assert_says(&err, "above the limit of 1000");

    pack_map(&h, 2);
    pack_pair(&h, "v", 1);
    pack_pair(&h, "n", 2);
    assert_int_equal(decode(&h, body, sizeof body, &frame, &err), 0);
    assert_int_equal(frame_verify(&frame, &err), 0);
}

/* A header of two events with these lengths. */
static int decode_lengths(const void *lengths, size_t size, const void *body, size_t body_size, frame_t *frame, err_t *err) {
    buf_t h = {0};
    pack_map(&h, 4);
    pack_pair(&h, "v", 1);
    pack_pair(&h, "q", 3);
    pack_pair(&h, "n", 2);
    pack_text(&h, "x");
    pack_binary(&h, lengths, size);
    return decode(&h, body, body_size, frame, err);
}

static void lengths_must_add_up(void **state) {
    uint8_t body[24] = {0x92, 0xd7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x92, 0xd7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80};
    frame_t frame;
    err_t err;
    const uint32_t good[] = {12, 12}, long_one[] = {12, 13}, short_one[] = {24, 0}, wraps[] = {0xffffffff, 25};
    assert_int_equal(decode_lengths(long_one, 8, body, 24, &frame, &err), -1);
    assert_says(&err, "add up to 25");
    assert_int_equal(frame.sequence, 3);      /* its number can be accounted for */
    assert_int_equal(decode_lengths(short_one, 8, body, 24, &frame, &err), -1);
    assert_says(&err, "event 2 of 2 has the impossible length 0");
    assert_int_equal(decode_lengths(wraps, 8, body, 24, &frame, &err), -1);
    assert_int_equal(decode_lengths(good, 7, body, 24, &frame, &err), -1);
    assert_says(&err, "7 bytes of lengths for 2 events");
    assert_int_equal(decode_lengths(good, 8, body, 24, &frame, &err), 0);
}

static void bodies_that_are_wrong_are_found_by_walking(void **state) {
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {
        {"\x92\xd7\x00\0\0\0\0\0\0\0\0\x90", 12},          /* an array, not a map */
        {"\x92\xd7\x01\0\0\0\0\0\0\0\0\x80", 12},          /* another ext type */
        {"\x93\xd7\x00\0\0\0\0\0\0\0\0\x80", 12},
        {"\x92\xd7\x00\0\0\0\0\xff\xff\xff\xff\x80", 12},  /* more than a second of nanoseconds */
        {"\x92\xd7\x00\0\0\0\0\0\0\0\0\x81", 12},          /* the field is missing */
        {"\x92\xd7\x00\0\0\0\0\0\0\0\0\x80\xc0", 13},      /* bytes too many */
        {"\x92\xd7\x00\0\0\0\0\0\0\0\0\x81\x01\x01", 14},  /* a key that is a number */
        {"\x92\xd7\x00\0\0\0\0\0\0\0\0\xdf\xff\xff\xff\xff", 16},
        {"\x92\xd7\x00\0\0\0\0\0\0\0\0\x81\xa1k\xdd\xff\xff\xff\xff", 19},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        frame_t frame = {.events = 1, .body = (const uint8_t *) bad[i].bytes, .body_size = bad[i].size};
        err_t err;
        if (frame_verify(&frame, &err) != -1)
            fail_msg("body %zu was taken for good", i);
    }
}

/* Every single byte changed in every way that matters: nothing may be read beyond the frame (the sanitizers watch), and the walk ends. */
static void damage_of_any_byte_does_no_harm(void **state) {
    frame_t *frame = make_frame(3), decoded;
    buf_t header = {0};
    frame_past_t past[2] = {{4, 8}, {3, 7}};
    frame_number_t all = {.origin = "host/x", .epoch = 5, .sequence = 9, .lowest = 3, .receiver = 77, .attempt = 2, .has_stable = true, .stable = 6,
                          .hurry = true, .past = past, .past_count = 2, .replaces = text_make("\x92\xa1x\xa2yz", 6)};
    frame_put_header(&header, frame, &all);
    static const uint8_t values[] = {0x00, 0x7f, 0x80, 0x8f, 0x9f, 0xbf, 0xc1, 0xc6, 0xc9, 0xcf, 0xdb, 0xdd, 0xdf, 0xff};
    for (int part = 0; part < 2; part++) {
        size_t size = part ? frame->body_size : header.size;
        for (size_t at = 0; at < size; at++)
            for (size_t v = 0; v < sizeof values; v++) {
                uint8_t *copies[2] = {mem_copy(header.data, header.size), mem_copy(frame->body, frame->body_size)};
                copies[part][at] = values[v];
                decoded = (frame_t){0};
                if (frame_decode(&decoded, "t", 1, copies[0], header.size, copies[1], frame->body_size, 1000, NULL) == 0)
                    frame_verify(&decoded, NULL);
                mem_free(copies[0]);
                mem_free(copies[1]);
            }
    }
    buf_fini(&header);
    frame_unref(frame);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_built_is_read_back),
        cmocka_unit_test(without_lengths_the_walk_finds_the_same_events),
        cmocka_unit_test(watermark_and_marks_pass_when_they_are_set),
        cmocka_unit_test(what_a_durable_log_says_passes),
        cmocka_unit_test(an_aborted_event_leaves_no_trace),
        cmocka_unit_test(event_times_are_held_within_what_the_format_has),
        cmocka_unit_test(whole_events_can_be_copied_between_builders),
        cmocka_unit_test(memory_is_released_with_the_last_reference),
        cmocka_unit_test(topics_are_names),
        cmocka_unit_test(headers_that_are_wrong_are_refused),
        cmocka_unit_test(lengths_must_add_up),
        cmocka_unit_test(bodies_that_are_wrong_are_found_by_walking),
        cmocka_unit_test(damage_of_any_byte_does_no_harm),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
