/* However a text is cut on its way, its events, its errors and what is told of bad records are the same: also at the limit of a record's length, where
 * decoders must decide before they have seen all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../fuzz/fuzz_decode.h"

static void check_pieces(const char *format, const char *multiline, const void *data, size_t size, int64_t limit, size_t most, const char *expected) {
    format_settings_t settings = {0};
    option_defaults(format_options, &settings);
    settings.record_limit = limit;
    settings.multiline = mem_text(multiline);
    char *whole = fuzz_decode(format, &settings, data, size, size + 1);
    if (expected)
        assert_string_equal(whole, expected);
    for (size_t piece = 1; piece < size && piece <= most; piece++) {
        char *pieces = fuzz_decode(format, &settings, data, size, piece);
        if (strcmp(whole, pieces) != 0) {
            buf_t text = {0};
            text_put_json(&text, text_make(data, size));
            fail_msg("%s of at most %lld bytes, %s\nwhole:\n%s\nin pieces of %zu:\n%s", format, (long long) limit, buf_text(&text), whole, piece, pieces);
        }
        mem_free(pieces);
    }
    mem_free(whole);
    option_fini(format_options, &settings);
}

static uint32_t next_random(uint64_t *state, uint32_t below) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t) (*state >> 33) % below;
}

/* Pieces of all formats in a row. */
static size_t make_text(uint64_t *random, char *data, size_t room) {
    static const char *const words[] = {
        "{\"a\":1}", "{\"n\":-5,\"s\":\"xyz\"}\n", "\n", "\r\n", "\r", ",", "[", "]", "{", "}", "\"", "\\", "a=1 b=\"c d\"", "a,b,c\n", "1,2,3\n",
        "\"q\nr\",5\n", "\xef\xbb\xbf", " ", "x", "abcdefghij", "\x81\xa1" "a\x01", "\x92\x01\x81\xa1" "a\x02", "\xc1", "\xda\x01\x20", "\x81\xa1s\xd9\x20",
        "{\"s\":\"0123456789012345678901234567890123456789\"}\n", "c:1|c\n", "g.x:2|g|#a:b\n", "{\"@timestamp\":\"2026-01-01T00:00:00Z\",\"a\":null}\n", "7",
        "\"text\"", "{\"@timestamp\":\"x\"}", "\t", "\tat x\n", "  in y\n", "\x1e", "true", "1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 23\n"};
    size_t size = 0;
    for (uint32_t count = 1 + next_random(random, 14); count && size + 128 < room; count--) {
        const char *word = words[next_random(random, sizeof words / sizeof *words)];
        size_t length = strlen(word), filling = next_random(random, 8) == 0 ? next_random(random, 40) : 0;
        memcpy(data + size, word, length);
        memset(data + size + length, 'a', filling);
        size += length + filling;
    }
    return size;
}

static void test_texts_of_all_kinds_in_pieces_of_all_sizes(void **state) {
    static const char *const formats[] = {"ndjson", "json", "csv", "tsv", "lines", "logfmt", "common", "combined", "syslog", "msgpack", "statsd"};
    static const char *const joins[] = {NULL, "indent", "java"};
    static const int64_t limits[] = {1, 5, 8, 16, 30, 64, 1000000};
    uint64_t random = 1;
    char data[1024];
    for (int round = 0; round < 3000; round++) {
        size_t size = make_text(&random, data, sizeof data);
        const char *format = formats[next_random(&random, sizeof formats / sizeof *formats)];
        const char *multiline = strcmp(format, "lines") == 0 ? joins[next_random(&random, sizeof joins / sizeof *joins)] : NULL;
        check_pieces(format, multiline, data, size, limits[next_random(&random, sizeof limits / sizeof *limits)], 12, NULL);
    }
}

static void test_a_bad_element_is_shown_whole_or_by_its_first_bytes(void **state) {
    const char text[] = "[7, \"a text\", {\"a\":1}, {\"@timestamp\":\"none\"}, {\"long\":\"0123456789012345678901234567890123456789\"}, {\"a\":2}] rest";
    check_pieces("json", NULL, text, strlen(text), 30, 200,
                 "bad 1: expected an object: \"7\"\nbad 2: expected an object: \"\\\"a text\\\"\"\n{\"a\":1}\n"
                 "bad 4: field \"@timestamp\" holds no time (ISO 8601, or epoch seconds, ms, us or ns, from 1970 to 2106): \"{\\\"@timestamp\\\":\\\"none\\\"}\"\n"
                 "bad 5: longer than 30 bytes (--max-record): \"{\\\"long\\\":\\\"012345678901234567890\"\n{\"a\":2}\n"
                 "bad 7: expected an object or an array of objects: \"rest\"\n");
}

static void test_a_long_line_is_shown_by_its_first_bytes(void **state) {
    const char text[] = "{\"a\":1}\n{\"long\":\"0123456789012345678901234567890123456789\"}\n{\"a\":2}\n";
    check_pieces("ndjson", NULL, text, strlen(text), 20, 200,
                 "{\"a\":1}\nbad 2: longer than 20 bytes (--max-record): \"{\\\"long\\\":\\\"01234567890\"\n{\"a\":2}\n");
}

/* Also one that comes in many reads: what follows is no stranger. */
static void test_a_long_element_of_msgpack_is_passed_over(void **state) {
    char data[2000], *at = data;
    memcpy(at, "\x81\xa1" "a\x01" "\x82\xa1" "b\xda\x04\x00", 10);
    memset(at += 10, 'x', 1024);
    memcpy(at += 1024, "\xa1" "c\x93\x01\x02\xc4\x03xyz" "\x81\xa1" "a\x02", 14);
    buf_t expected = {0};
    buf_put_text(&expected, "{\"a\":1}\nbad 2: longer than --max-record: ");
    text_put_json(&expected, text_make(data + 4, 100));
    buf_put_text(&expected, "\n{\"a\":2}\n");
    check_pieces("msgpack", NULL, data, (size_t) (at + 14 - data), 100, 2000, buf_text(&expected));
    buf_fini(&expected);
}

static void test_what_is_malformed_in_msgpack_ends_it(void **state) {
    check_pieces("msgpack", NULL, "\x81\xa1" "a\x01" "\x92\xc1zzzz\x81\xa1" "a\x02", 14, 100, 20,
                 "{\"a\":1}\nbad 2: malformed msgpack: what follows cannot be read: \"\xef\xbf\xbd\xef\xbf\xbd\"\n");
    check_pieces("msgpack", NULL, "\x81\xa1" "a\x01" "\x92\xa5zz", 8, 100, 20, "{\"a\":1}\nbad 2: cut short: \"\xef\xbf\xbd\xef\xbf\xbdzz\"\n");
}

static bool on_committed(void *argument) {
    ++*(unsigned *) argument;
    return false;
}

static void on_bad(void *argument, text_t record, uint64_t number, const char *reason) {
    fail_msg("%s", reason);
}

/* A record of 8 MB that comes in 130,000 pieces: were it read from its beginning with each of them, this would take as long as 500 GB do. */
static void test_a_long_record_is_not_read_again_with_each_piece(void **state) {
    static const char *const heads[] = {"{\"a\":[", "\x81\xa1" "a\xdd\x00\x3d\x09\x00"}, *const formats[] = {"json", "msgpack"};
    static const char *const elements[] = {"1,", "\xa1x"}, *const ends[] = {"1]}", ""};
    for (size_t i = 0; i < 2; i++) {
        buf_t text = {0};
        unsigned events = 0;
        frame_builder_t builder = {0};
        decode_target_t target = {.builder = &builder, .committed = on_committed, .bad = on_bad, .argument = &events};
        format_settings_t settings = {0};
        decoder_t *decoder;
        err_t err;
        option_defaults(format_options, &settings);
        settings.record_limit = 10 << 20;
        assert_int_equal(format_find(formats[i])->decoder_open(&decoder, &settings, &err), 0);
        buf_put(&text, heads[i], i ? 8 : 6);
        for (size_t n = 0; n < 4000000; n++)
            buf_put(&text, elements[i], 2);
        buf_put_text(&text, ends[i]);
        memset(buf_reserve(&text, 64), 0, 64);
        for (size_t size = 61; size < text.size; size += 61)
            assert_int_equal(decoder_feed(decoder, (const char *) text.data, size, false, &target), 0);
        assert_int_equal(decoder_feed(decoder, (const char *) text.data, text.size, false, &target), text.size);
        assert_int_equal(events, 1);
        decoder_free(decoder);
        builder_fini(&builder);
        option_fini(format_options, &settings);
        buf_fini(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_of_all_kinds_in_pieces_of_all_sizes),
        cmocka_unit_test(test_a_bad_element_is_shown_whole_or_by_its_first_bytes),
        cmocka_unit_test(test_a_long_line_is_shown_by_its_first_bytes),
        cmocka_unit_test(test_a_long_element_of_msgpack_is_passed_over),
        cmocka_unit_test(test_what_is_malformed_in_msgpack_ends_it),
        cmocka_unit_test(test_a_long_record_is_not_read_again_with_each_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
