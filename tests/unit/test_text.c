/* Text as users write it, at its edges: numbers, durations, sizes, suggestions, quoting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define LITERAL(s) text_make("" s, sizeof(s) - 1)

static void ends_and_trimming(void **state) {
    assert_true(text_starts("abc", ""));
    assert_true(text_starts("abc", "abc"));
    assert_false(text_starts("ab", "abc"));
    assert_true(text_ends("abc", ""));
    assert_true(text_ends("abc", "abc"));
    assert_false(text_ends("bc", "abc"));
    assert_true(text_is(text_trim(LITERAL(" \t\r\n\v\fx y\f ")), "x y"));
    assert_true(text_is(text_trim(LITERAL("  \t ")), ""));
    assert_int_equal(text_trim((text_t){0}).size, 0);
    assert_true(text_equal((text_t){0}, LITERAL("")));
    assert_false(text_equal(LITERAL("a\0b"), LITERAL("a\0c")));
    assert_int_equal(text_of(NULL).size, 0);
}

static void expect_split(text_t rest, const char *parts) {
    char seen[200] = "";
    text_t part;
    while (text_split(&rest, ',', &part)) {
        strcat(seen, "<");
        strncat(seen, part.data, part.size);
        strcat(seen, ">");
    }
    assert_string_equal(seen, parts);
}

static void splitting(void **state) {
    expect_split(LITERAL("a,b"), "<a><b>");
    expect_split(LITERAL(""), "<>");
    expect_split(LITERAL(","), "<><>");
    expect_split(LITERAL("a,"), "<a><>");
    expect_split(LITERAL(",,a"), "<><><a>");
    expect_split((text_t){0}, "");
}

static size_t valid(const char *data, size_t size) {
    char *exact = calloc(1, size ? size : 1); /* so that a read beyond the end is seen */
    memcpy(exact, data, size);
    size_t n = text_utf8_valid(exact, size);
    free(exact);
    return n;
}
#define VALID(s) valid("" s, sizeof(s) - 1)

static void utf8_is_strict(void **state) {
    assert_int_equal(VALID(""), 0);
    assert_int_equal(VALID("abc\0d"), 5);
    assert_int_equal(VALID("\x7F"), 1);
    assert_int_equal(VALID("\xC2\x80"), 2);
    assert_int_equal(VALID("\xDF\xBF"), 2);
    assert_int_equal(VALID("\xE0\xA0\x80"), 3);
    assert_int_equal(VALID("\xED\x9F\xBF"), 3);
    assert_int_equal(VALID("\xEE\x80\x80"), 3);
    assert_int_equal(VALID("\xEF\xBF\xBF"), 3);
    assert_int_equal(VALID("\xF0\x90\x80\x80"), 4);
    assert_int_equal(VALID("\xF4\x8F\xBF\xBF"), 4);
    assert_int_equal(VALID("\x80"), 0);
    assert_int_equal(VALID("\xC0\x80"), 0);         /* overlong NUL */
    assert_int_equal(VALID("\xC1\xBF"), 0);
    assert_int_equal(VALID("\xE0\x9F\xBF"), 0);     /* overlong */
    assert_int_equal(VALID("\xED\xA0\x80"), 0);     /* surrogate */
    assert_int_equal(VALID("\xF0\x8F\xBF\xBF"), 0); /* overlong */
    assert_int_equal(VALID("\xF4\x90\x80\x80"), 0); /* above U+10FFFF */
    assert_int_equal(VALID("\xF5\x80\x80\x80"), 0);
    assert_int_equal(VALID("\xFF"), 0);
    assert_int_equal(VALID("a\xC3"), 1);            /* cut */
    assert_int_equal(VALID("ab\xE2\x82"), 2);
    assert_int_equal(VALID("abc\xF0\x9F\x98"), 3);
    assert_int_equal(VALID("\xE2\x28\xA1"), 0);
    assert_int_equal(VALID("\xE2\x82\x28"), 0);
    assert_int_equal(VALID("\xF0\x9F\x28\x80"), 0);
    assert_int_equal(VALID("12345678\xFF"), 8);     /* behind a block of eight */
    assert_int_equal(VALID("1234567\xC3\xA4""12345678"), 17);
}

/* Every code point, written by hand, is valid; every other two- and three-byte run is what the table says. */
static void utf8_agrees_with_an_encoder(void **state) {
    for (uint32_t code = 0x80; code <= 0x110000; code++) {
        uint8_t bytes[4];
        size_t size;
        if (code < 0x800) {
            size = 2;
            bytes[0] = (uint8_t) (0xC0 | code >> 6);
            bytes[1] = (uint8_t) (0x80 | (code & 63));
        } else if (code < 0x10000) {
            size = 3;
            bytes[0] = (uint8_t) (0xE0 | code >> 12);
            bytes[1] = (uint8_t) (0x80 | (code >> 6 & 63));
            bytes[2] = (uint8_t) (0x80 | (code & 63));
        } else {
            size = 4;
            bytes[0] = (uint8_t) (0xF0 | code >> 18);
            bytes[1] = (uint8_t) (0x80 | (code >> 12 & 63));
            bytes[2] = (uint8_t) (0x80 | (code >> 6 & 63));
            bytes[3] = (uint8_t) (0x80 | (code & 63));
        }
        bool good = code < 0x110000 && (code < 0xD800 || code > 0xDFFF);
        if (text_utf8_valid((char *) bytes, size) != (good ? size : 0))
            fail_msg("U+%04X", code);
    }
}

static void expect_valid(const char *text, const char *expected) {
    char copy[64];
    strcpy(copy, text);
    text_make_valid(copy);
    assert_string_equal(copy, expected);
}

static void making_text_valid(void **state) {
    expect_valid("", "");
    expect_valid("abc\xE2\x82\xAC", "abc\xE2\x82\xAC");
    expect_valid("a\xFFz", "a?z");
    expect_valid("a\xE2\x82", "a??");
    expect_valid("\xED\xA0\x80x", "???x");
    expect_valid("\xC3\xC3\xA4", "?\xC3\xA4");
}

static void near_names(void **state) {
    static const char *const names[] = {"batch-size", "batch-bytes", "flush", "temperature", "to", "on-full", "format"};
    enum { N = sizeof names / sizeof *names };
    assert_string_equal(text_nearest("batch-siez", names, N), "batch-size");
    assert_string_equal(text_nearest("BATCH_SIZE", names, N), "batch-size");
    assert_string_equal(text_nearest("bach-byte", names, N), "batch-bytes");
    assert_string_equal(text_nearest("temp", names, N), "temperature");
    assert_string_equal(text_nearest("fomrat", names, N), "format");
    assert_string_equal(text_nearest("flsh", names, N), "flush");
    assert_null(text_nearest("zzz", names, N));
    assert_null(text_nearest("foo", names, N)); /* two of its three letters differ from every name */
    assert_null(text_nearest("", names, N));
    assert_null(text_nearest("xyz", names, 0));
    assert_null(text_nearest("te", names, 0));
}

/* A name from outside may be of any length; what is longer than every name is near to none. */
static void very_long_names_are_near_to_none(void **state) {
    static const char *const names[] = {"flush", "to"};
    for (size_t size = 50; size < 1000; size++) {
        char *name = malloc(size + 1);
        memset(name, 'f', size);
        name[size] = 0;
        assert_null(text_nearest(name, names, 2));
        free(name);
    }
}

static void whole_numbers(void **state) {
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {
        {"0", 0}, {"-0", 0}, {"+5", 5}, {"007", 7}, {"9223372036854775807", INT64_MAX}, {"-9223372036854775808", INT64_MIN},
        {"-1", -1}, {"00000000000000000000000000000000001", 1},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t value = 99;
        assert_int_equal(text_to_int(text_of(good[i].text), &value, NULL), 0);
        assert_int_equal(value, good[i].value);
    }
    static const char *const bad[] = {"", "-", "+", "--1", "+-1", " 1", "1 ", "1.0", "0x10", "1e3", "9223372036854775808",
                                      "-9223372036854775809", "99999999999999999999999999", "1_000", "١"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t value = 99;
        err_t err = {{0}};
        assert_int_equal(text_to_int(text_of(bad[i]), &value, &err), -1);
        assert_int_equal(value, 99);
        assert_non_null(strstr(err.text, "is not a whole number"));
    }
    int64_t value = 99;
    assert_int_equal(text_to_int(LITERAL("1\0"), &value, NULL), -1);
    assert_int_equal(text_to_int((text_t){0}, &value, NULL), -1);
    assert_int_equal(value, 99);
    uint64_t big = 99;
    assert_int_equal(text_to_uint(LITERAL("18446744073709551615"), &big, NULL), 0);
    assert_true(big == UINT64_MAX);
    assert_int_equal(text_to_uint(LITERAL("18446744073709551616"), &big, NULL), -1);
    assert_int_equal(text_to_uint(LITERAL("-1"), &big, NULL), -1);
    assert_int_equal(text_to_uint(LITERAL("+1"), &big, NULL), -1);
    assert_true(big == UINT64_MAX);
}

static void truth(void **state) {
    bool value = false;
    assert_int_equal(text_to_bool(LITERAL("Yes"), &value, NULL), 0);
    assert_true(value);
    assert_int_equal(text_to_bool(LITERAL("off"), &value, NULL), 0);
    assert_false(value);
    value = true;
    static const char *const bad[] = {"", "y", "2", "truee", "tru", " true"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(text_to_bool(text_of(bad[i]), &value, NULL), -1);
    assert_true(value);
    assert_int_equal(text_to_bool((text_t){0}, &value, NULL), -1);
}

static void durations(void **state) {
    static const struct {
        const char *text;
        int64_t bare, ns;
    } good[] = {
        {"0", 0, 0}, {"0s", 0, 0}, {"250us", 0, 250000}, {"250µs", 0, 250000}, {"1.5s", 0, 1500000000}, {"10 s", 0, 10000000000},
        {"1h30m", 0, 5400000000000}, {"1h 30m", 0, 5400000000000}, {" 1d ", 0, 86400000000000}, {"5min", 0, 300000000000},
        {"5M", 0, 300000000000}, {"7MS", 0, 7000000}, {"3", 1000000000, 3000000000}, {"0.25", 1000000000, 250000000},
        {"0.000000001s", 0, 1}, {"1ns", 0, 1}, {"0.1s", 0, 100000000}, {"53375d", 0, 4611600000000000000},
        {"0.0000000000000000000000000000000000000000001d", 0, 0},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t ns = -5;
        err_t err = {{0}};
        if (text_to_duration(text_of(good[i].text), good[i].bare, &ns, &err))
            fail_msg("%s", err.text);
        assert_int_equal(ns, good[i].ns);
    }
    static const char *const bad[] = {
        "", " ", "s", "-1s", "+1s", "1", "1.s", ".5s", "1..5s", "1s1", "1x", "1 sec", "1h30", "1e3s", "0x1s", "54000d",
        "99999999999999999999999999999999999999999d", "1s;", "1,5s", "inf", "nan", "infs", "1s s", "0s30",
        "9223372036854775807ns", "50000d50000d",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t ns = -5;
        err_t err = {{0}};
        if (!text_to_duration(text_of(bad[i]), 0, &ns, &err))
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(ns, -5);
        assert_non_null(strstr(err.text, "a duration"));
    }
    int64_t ns = -5;
    assert_int_equal(text_to_duration(LITERAL("0s30"), 1000000000, &ns, NULL), -1); /* a bare number stands alone */
    assert_int_equal(text_to_duration(LITERAL("1s\0"), 0, &ns, NULL), -1);
    assert_int_equal(text_to_duration((text_t){0}, 1, &ns, NULL), -1);
    assert_int_equal(ns, -5);
    char digits[10001];
    memset(digits, '9', 10000);
    digits[10000] = 0;
    assert_int_equal(text_to_duration(text_of(digits), 1, &ns, NULL), -1);
    assert_int_equal(text_to_duration(text_of(digits), 0, &ns, NULL), -1);
}

static void durations_read_back(void **state) {
    static const int64_t edges[] = {1, 999, 1000, 1001, 999999999, 1000000000, 60000000000, 3599999999999, 86400000000000,
                                    INT64_MAX / 2 - 1000, 4611600000000000000, 90061001001001};
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        int64_t ns = i < 12 ? edges[i] : (int64_t) (random >> (2 + random % 60));
        buf_t text = {0};
        text_put_duration(&text, ns);
        int64_t back = -1;
        assert_int_equal(text_to_duration(text_make((char *) text.data, text.size), 0, &back, NULL), 0);
        assert_int_equal(back, ns);
        buf_fini(&text);
    }
    buf_t text = {0};
    text_put_duration(&text, 5400000000000);
    assert_string_equal(buf_text(&text), "1h30m");
    buf_clear(&text);
    text_put_duration(&text, 0);
    assert_string_equal(buf_text(&text), "0s");
    buf_clear(&text);
    text_put_duration(&text, INT64_MIN);
    assert_string_equal(buf_text(&text), "0s");
    buf_clear(&text);
    text_put_duration(&text, INT64_MAX);
    assert_true(text.size > 0);
    buf_fini(&text);
}

static void sizes(void **state) {
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0}, {"512", 512}, {"64KiB", 65536}, {"64K", 65536}, {"1MB", 1000000}, {"2 GiB", UINT64_C(2147483648)},
        {"1.5KiB", 1536}, {"7b", 7}, {"9223372036854775807", INT64_MAX}, {"1t", UINT64_C(1) << 40}, {" 3 ", 3},
        {"9007199254740993", UINT64_C(9007199254740993)},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t bytes = 99;
        assert_int_equal(text_to_size(text_of(good[i].text), &bytes, NULL), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {"", " ", "-1", "1x", "1k5", "KiB", "1.K", "9223372036854775808", "9999999999T", "1e5", "1 K B"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes = 99;
        err_t err = {{0}};
        if (!text_to_size(text_of(bad[i]), &bytes, &err))
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(bytes, 99);
        assert_non_null(strstr(err.text, "a size in bytes"));
    }
}

static void expect_quoted(text_t text, size_t limit, const char *expected) {
    buf_t out = {0};
    text_put_quoted(&out, text, limit);
    assert_string_equal(buf_text(&out), expected);
    buf_fini(&out);
}

static void quoting_for_messages(void **state) {
    expect_quoted(LITERAL(""), 10, "\"\"");
    expect_quoted((text_t){0}, 10, "\"\"");
    expect_quoted(LITERAL("a\"b\\c"), 80, "\"a\\\"b\\\\c\"");
    expect_quoted(LITERAL("a\nb\tc\r\x1b[31m\0z\x7f"), 80, "\"a\\nb\\tc\\x0d\\x1b[31m\\x00z\\x7f\"");
    expect_quoted(LITERAL("\xC2\x9B""2J\xC2\xA0\xFF\xE2\x82"), 80, "\"\\xc2\\x9b2J\xC2\xA0\\xff\\xe2\\x82\"");
    expect_quoted(LITERAL("h\xC3\xA4"), 80, "\"h\xC3\xA4\"");
    expect_quoted(LITERAL("abcdef"), 6, "\"abcdef\"");
    expect_quoted(LITERAL("abcdefg"), 6, "\"abcdef...\"");
    expect_quoted(LITERAL("a"), 0, "\"...\"");
}

static void visible_text(void **state) {
    buf_t out = {0};
    text_put_visible(&out, LITERAL("say \"x\\y\"\nnext\x1b[0m\xC2\x85\xFF"), 100);
    assert_string_equal(buf_text(&out), "say \"x\\y\"\\nnext\\x1b[0m\\xc2\\x85\\xff");
    buf_clear(&out);
    text_put_visible(&out, LITERAL("abcdefg"), 6);
    assert_string_equal(buf_text(&out), "abcdef...");
    buf_fini(&out);
}

/* Whatever the bytes: what comes out is a JSON string, and valid text comes back as it was. */
static void json_strings(void **state) {
    buf_t out = {0};
    text_put_json(&out, LITERAL("q\"\\/\n\r\t\b\f\x01\x1f\x7f\0\xC3\xA4\xF0\x9F\x98\x80"));
    json_t *back = json_loadb((char *) out.data, out.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(back);
    assert_int_equal(json_string_length(back), 19);
    assert_memory_equal(json_string_value(back), "q\"\\/\n\r\t\b\f\x01\x1f\x7f\0\xC3\xA4\xF0\x9F\x98\x80", 19);
    json_decref(back);
    buf_clear(&out);
    text_put_json(&out, LITERAL("a\xFF\xED\xA0\x80"));
    assert_string_equal(buf_text(&out), "\"a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    buf_clear(&out);
    text_put_json(&out, (text_t){0});
    assert_string_equal(buf_text(&out), "\"\"");
    uint32_t random = 1;
    for (int i = 0; i < 2000; i++) {
        char bytes[40];
        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (char) ((random = random * 1664525 + 1013904223) >> 24);
        buf_clear(&out);
        text_put_json(&out, text_make(bytes, random % sizeof bytes));
        back = json_loadb((char *) out.data, out.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(back);
        json_decref(back);
    }
    buf_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_and_trimming),
        cmocka_unit_test(splitting),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(utf8_agrees_with_an_encoder),
        cmocka_unit_test(making_text_valid),
        cmocka_unit_test(near_names),
        cmocka_unit_test(very_long_names_are_near_to_none),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(truth),
        cmocka_unit_test(durations),
        cmocka_unit_test(durations_read_back),
        cmocka_unit_test(sizes),
        cmocka_unit_test(quoting_for_messages),
        cmocka_unit_test(visible_text),
        cmocka_unit_test(json_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
