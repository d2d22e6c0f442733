/* The JSON codec: what RFC 8259 allows is read exactly, all else is refused with its place; events keep their meaning whatever shape
 * was predicted; what is printed reads back. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/json.h"
#include "data/pack.h"

/* Reads a value and prints it again. */
static void check_value(const char *text, const char *expected) {
    buf_t packed = {0}, out = {0};
    err_t err;
    ssize_t size = json_read_value(text_of(text), &packed, &err);
    if (size < 0)
        fail_msg("%s: %s", text, err.text);
    assert_true(json_put_packed(&out, packed.data, packed.size));
    assert_string_equal(buf_text(&out), expected);
    buf_fini(&packed);
    buf_fini(&out);
}

static void test_values(void **state) {
    static const char *const same[] = {"null", "true", "false", "0", "-1", "127", "128", "255", "256", "65535", "65536", "4294967295",
        "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615", "-32", "-33", "-128", "-129", "-32768", "-32769",
        "-2147483648", "-2147483649", "-9223372036854775808", "1.5", "-0.0", "1e+300", "\"\"", "\"abc\"", "\"0123456789012345\"",
        "\"0123456789012345678901234567890\"", "\"01234567890123456789012345678901\"", "[]", "{}", "[1,[2,[]],{}]", "{\"a\":{\"b\":[null]}}",
        "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"", "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "\"a\\\"b\\\\c\\n\\u0001\"",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        check_value(same[i], same[i]);
    check_value(" [ 1 , 2 ] ", "[1,2]");
    check_value("\t{ \"a\" :\n1 ,\r\"b\": 2 }", "{\"a\":1,\"b\":2}");
    check_value("-0", "-0.0");
    check_value("0.0", "0.0");
    check_value("1E2", "100.0");
    check_value("18446744073709551616", "1.8446744073709552e+19");
    check_value("-9223372036854775809", "-9.223372036854776e+18");
    check_value("123456789012345678901234567890", "1.2345678901234568e+29");
    check_value("0.1234567890123456789", "0.12345678901234568");
    check_value("12345678901234.5678", "12345678901234.568");
    check_value("1e-400", "0.0");
    check_value("\"\\u0041\\u00e4\\u20ac\\ud83d\\ude00\\/\"", "\"A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80/\"");
    check_value("\"\\u0000\\b\\f\\n\\r\\t\\u007f\"", "\"\\u0000\\b\\f\\n\\r\\t\x7f\"");
}

static void test_values_in_a_row(void **state) {
    const char *text = "1 \"two\"[3]{\"a\":4}null";
    buf_t packed = {0}, out = {0};
    size_t at = 0;
    for (int i = 0; i < 5; i++) {
        ssize_t size = json_read_value(text_make(text + at, strlen(text) - at), &packed, NULL);
        assert_true(size > 0);
        at += (size_t) size;
    }
    assert_int_equal(at, strlen(text));
    pack_cursor_t cursor = pack_cursor(packed.data, packed.size);
    while (cursor.at < cursor.end) {
        value_t value;
        assert_true(pack_read_value(&cursor, &value));
        json_put_value(&out, value);
        buf_put_byte(&out, ';');
    }
    assert_string_equal(buf_text(&out), "1;\"two\";[3];{\"a\":4};null;");
    buf_fini(&packed);
    buf_fini(&out);
}

static void check_refused(const char *text, size_t size, const char *reason) {
    buf_t packed = {0};
    buf_put_text(&packed, "x");
    err_t err = {""};
    char *exact = mem_copy(text, size); /* a sanitizer sees a read beyond */
    if (json_read_value(text_make(exact, size), &packed, &err) >= 0)
        fail_msg("%s was read", text);
    if (reason && strcmp(err.text, reason) != 0)
        fail_msg("%s: \"%s\" instead of \"%s\"", text, err.text, reason);
    assert_int_equal(packed.size, 1);
    mem_free(exact);
    buf_fini(&packed);
}

static void test_refused(void **state) {
    static const struct { const char *text, *reason; } cases[] = {
        {"", "byte 1: unexpected end"}, {"   ", "byte 4: unexpected end"}, {"nul", "byte 4: unexpected end"}, {"nulx", "byte 1: expected a JSON value"},
        {"NaN", "byte 1: expected a JSON value"}, {"+1", "byte 1: expected a JSON value"}, {"01", "byte 1: a number may not begin with 0"},
        {"-", "byte 2: unexpected end"}, {"-x", "byte 2: expected a digit"}, {"1.", "byte 3: unexpected end"}, {"[1.]", "byte 4: expected a digit after the decimal point"},
        {"[1e]", "byte 4: expected a digit in the exponent"}, {"1e400", "byte 1: number out of range"}, {"[-1e400]", "byte 2: number out of range"},
        {"\"abc", "byte 5: unexpected end"}, {"\"a\nb\"", "byte 3: control character in a string (it must be escaped)"},
        {"\"a\\x\"", "byte 4: unknown escape in a string"}, {"\"\\u12g4\"", "byte 4: expected four hex digits after \\u"}, {"\"\\u12", "byte 6: unexpected end"},
        {"\"\\ud800\"", "byte 2: half of a surrogate pair in a string"}, {"\"\\udc00\\ud800\"", "byte 2: half of a surrogate pair in a string"},
        {"\"\\ud800\\u0041\"", "byte 2: half of a surrogate pair in a string"}, {"\"a\xff\"", "byte 3: invalid UTF-8 in a string"},
        {"\"\xc0\x80\"", "byte 2: invalid UTF-8 in a string"}, {"\"\xed\xa0\x80\"", "byte 2: invalid UTF-8 in a string"},
        {"\"\xf4\x90\x80\x80\"", "byte 2: invalid UTF-8 in a string"}, {"\"\xe2\x82\"", "byte 2: invalid UTF-8 in a string"}, {"\"\xe2\x82", "byte 4: unexpected end"},
        {"[1 2]", "byte 4: expected ',' or ']'"}, {"[1,]", "byte 4: expected a JSON value"}, {"[,1]", "byte 2: expected a JSON value"}, {"[1", "byte 3: unexpected end"},
        {"{a:1}", "byte 2: expected a key in double quotes"}, {"{\"a\" 1}", "byte 6: expected ':'"}, {"{\"a\":1,}", "byte 8: expected a key in double quotes"},
        {"{\"a\":1 \"b\":2}", "byte 8: expected ',' or '}'"}, {"{\"a\":}", "byte 6: expected a JSON value"}, {"{\"a\"", "byte 5: unexpected end"}, {"}", "byte 1: expected a JSON value"},
        {"'a'", "byte 1: expected a JSON value"}, {"//", "byte 1: expected a JSON value"}, {"[1,/**/2]", "byte 4: expected a JSON value"},
        {"\f1", "byte 1: expected a JSON value"}, {"True", "byte 1: expected a JSON value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i].text, strlen(cases[i].text), cases[i].reason);
    check_refused("\"a\0b\"", 5, "byte 3: control character in a string (it must be escaped)");
    check_refused("\0", 1, "byte 1: expected a JSON value");
    char deep[PACK_DEPTH + 2];
    memset(deep, '[', sizeof deep);
    check_refused(deep, PACK_DEPTH + 1, "byte 65: nested too deeply (64 levels at most)");
    buf_t objects = {0};
    for (int i = 0; i < PACK_DEPTH + 1; i++)
        buf_put_text(&objects, "{\"a\":");
    check_refused((const char *) objects.data, objects.size, "byte 321: nested too deeply (64 levels at most)");
    buf_fini(&objects);
}

/* Each prefix of a text is refused, and as a text that merely ends too early. */
static void test_prefixes(void **state) {
    const char *text = "{\"a\":[1.5,-2,true,null,\"\\ud83d\\ude00\xf0\x9f\x98\x80 long enough for several blocks of sixteen bytes\"],\"b\":{\"c\":false}}";
    for (size_t size = 1; size < strlen(text); size++) {
        char reason[64];
        snprintf(reason, sizeof reason, "byte %zu: unexpected end", size + 1);
        check_refused(text, size, reason);
    }
    check_value(text, "{\"a\":[1.5,-2,true,null,\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80 long enough for several blocks of sixteen bytes\"],\"b\":{\"c\":false}}");
}

/* Strings of every length near the blocks' and heads' limits, with something special at every place. */
static void test_string_lengths(void **state) {
    static const char *const specials[] = {"", "\\\"", "\\u0001", "\xc3\xa9", "\\n", "\xf0\x9f\x98\x80"};
    for (size_t length = 0; length < 70; length++)
        for (size_t at = 0; at <= length; at += length < 40 ? 1 : 7)
            for (size_t s = 0; s < sizeof specials / sizeof *specials; s++) {
                buf_t text = {0};
                buf_put_byte(&text, '"');
                for (size_t i = 0; i < length; i++) {
                    if (i == at)
                        buf_put_text(&text, specials[s]);
                    buf_put_byte(&text, (uint8_t) ('a' + i % 26));
                }
                buf_put_byte(&text, '"');
                char *copy = mem_text(buf_text(&text));
                check_value(copy, copy);
                mem_free(copy);
                buf_fini(&text);
            }
    const size_t lengths[] = {255, 256, 65535, 65536, 1000000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char *text = mem_zero(lengths[i] + 3);
        memset(text, 'x', lengths[i] + 2);
        text[0] = text[lengths[i] + 1] = '"';
        check_value(text, text);
        text[lengths[i] / 2] = '\t';
        check_refused(text, lengths[i] + 2, NULL);
        mem_free(text);
    }
}

static void test_duplicates(void **state) {
    check_value("{\"a\":1,\"b\":2,\"a\":3}", "{\"b\":2,\"a\":3}");
    check_value("{\"a\":1,\"\\u0061\":2}", "{\"a\":2}");
    check_value("[{\"a\":1,\"a\":{\"b\":1,\"b\":2}},{\"a\":1}]", "[{\"a\":{\"b\":2}},{\"a\":1}]");
    check_value("{\"\":1,\"\":2}", "{\"\":2}");
    /* many: the table; each key twice, and 20 000 times the same one */
    buf_t text = {0}, expected = {0};
    buf_put_byte(&text, '{');
    buf_put_byte(&expected, '{');
    for (int i = 0; i < 2000; i++)
        buf_format(&text, "\"key_%d\":%d,", i % 1000, i);
    for (int i = 1000; i < 2000; i++)
        buf_format(&expected, "\"key_%d\":%d,", i - 1000, i);
    for (int i = 0; i < 20000; i++)
        buf_put_text(&text, "\"same\":0,");
    buf_put_text(&text, "\"same\":1}");
    buf_put_text(&expected, "\"same\":1}");
    check_value(buf_text(&text), buf_text(&expected));
    buf_fini(&text);
    buf_fini(&expected);
}

/* Reads an event and checks it, @timestamp and stream as text. */
static void check_event(json_reader_t *reader, const char *text, const char *expected, int64_t time, const char *stream) {
    buf_t packed = {0}, out = {0};
    json_found_t found = {0};
    err_t err;
    char *exact = mem_copy(text, strlen(text));
    if (json_read_event(reader, text_make(exact, strlen(text)), &packed, &found, &err))
        fail_msg("%s: %s", text, err.text);
    mem_free(exact);
    assert_true(json_put_packed(&out, packed.data, packed.size));
    assert_string_equal(buf_text(&out), expected);
    assert_int_equal(found.has_time, time >= 0);
    if (time >= 0)
        assert_int_equal(found.time, time);
    assert_int_equal(found.bad_time, time == -2);
    assert_int_equal(found.stream.size, stream ? strlen(stream) : 0);
    if (stream)
        assert_memory_equal(found.stream.data, stream, found.stream.size);
    buf_fini(&packed);
    buf_fini(&out);
}

static void check_plain(json_reader_t *reader, const char *text) {
    check_event(reader, text, text, -1, NULL);
}

static void test_shapes(void **state) {
    json_reader_t *reader = json_reader_new(NULL, false, false);
    for (int i = 0; i < 3; i++) { /* learned, then predicted */
        check_plain(reader, "{\"a\":1,\"b\":\"x\",\"c\":1.5}");
        check_plain(reader, "{\"a\":\"other type\",\"b\":{\"deep\":[1]},\"c\":null}");
        check_plain(reader, "{\"a\":1,\"c\":2}");               /* one absent */
        check_plain(reader, "{\"a\":1}");                       /* the rest absent */
        check_plain(reader, "{\"b\":1,\"c\":2}");               /* the first absent */
        check_plain(reader, "{\"a\":1,\"b\":2,\"c\":3,\"d\":4}"); /* one more */
        check_plain(reader, "{\"c\":1,\"b\":2,\"a\":3}");       /* another order */
        check_plain(reader, "{}");
        check_plain(reader, "{\"a\":\"0123456789012345678901234567890123456789\",\"b\":\"\\u0000\",\"c\":-1.0}");
        check_event(reader, "{ \"a\": 1, \"b\" :2 }", "{\"a\":1,\"b\":2}", -1, NULL);
        check_event(reader, "  {\"a\":1,\"b\":2,\"c\":3}  ", "{\"a\":1,\"b\":2,\"c\":3}", -1, NULL);
        check_event(reader, "{\"a\":1,\"b\":2,\"c\":3,\"a\":9}", "{\"b\":2,\"c\":3,\"a\":9}", -1, NULL);
        check_event(reader, "{\"a\":1,\"b\":2,\"b\":3,\"c\":3}", "{\"a\":1,\"b\":3,\"c\":3}", -1, NULL);
        check_event(reader, "{\"\\u0061\":1,\"b\":2}", "{\"a\":1,\"b\":2}", -1, NULL);
    }
    static const char *const bad[] = {"{\"a\":1,\"b\":\"x\",\"c\":1.5", "{\"a\":1,\"b\":\"x\",\"c\":1.5}x", "{\"a\":1,\"b\":\"x,\"c\":1.5}", "{\"a\":01,\"b\":2,\"c\":3}",
        "{\"a\":1,\"b\":2,\"c\":}", "{\"a\":1,\"b\":2,\"c\":3,}", "{\"a\":1,\"b\":2 \"c\":3}", "[1]", "1", "", "null", "}", ",\"b\":1}", "\"b\":1}", "{\"a\":1}{\"a\":1}", "{\"a\":1,\"b\":\"\xff\",\"c\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_t packed = {0};
        json_found_t found;
        err_t err;
        char *exact = mem_copy(bad[i], strlen(bad[i]));
        assert_int_equal(json_read_event(reader, text_make(exact, strlen(bad[i])), &packed, &found, &err), -1);
        assert_int_equal(packed.size, 0);
        if (bad[i][0] == '[')
            assert_string_equal(err.text, "byte 1: expected an object");
        if (i == 1)
            assert_string_equal(err.text, "byte 24: expected nothing more behind the object");
        mem_free(exact);
        buf_fini(&packed);
        check_plain(reader, "{\"a\":1,\"b\":\"x\",\"c\":1.5}");
    }
    json_reader_free(reader);
}

/* Shapes of many fields, long keys, and more shapes than are remembered. */
static void test_many_shapes(void **state) {
    json_reader_t *reader = json_reader_new(NULL, false, false);
    for (int round = 0; round < 3; round++)
        for (int fields = 1; fields < 150; fields += 1 + fields / 8) {
            buf_t text = {0}, fewer = {0};
            for (int i = 0; i < fields; i++) {
                buf_format(&text, "%s\"field_%0*d\":%d", i ? "," : "{", 1 + fields % 50, i, i * 1000);
                if (i == 0 || i % 20 == 5)
                    buf_format(&fewer, "%s\"field_%0*d\":%d", i ? "," : "{", 1 + fields % 50, i, i * 1000);
            }
            buf_put_byte(&text, '}');
            buf_put_byte(&fewer, '}');
            check_plain(reader, buf_text(&text));
            check_plain(reader, buf_text(&fewer));
            check_plain(reader, buf_text(&text));
            buf_fini(&text);
            buf_fini(&fewer);
        }
    json_reader_free(reader);
}

static void test_times(void **state) {
    const int64_t time = INT64_C(1732300000123000000);
    for (int round = 0; round < 2; round++) {
        json_reader_t *reader = json_reader_new("ts", false, false);
        for (int i = 0; i < 2; i++) { /* the general way, then predicted */
            check_event(reader, "{\"a\":1,\"ts\":1732300000123}", "{\"a\":1,\"ts\":1732300000123}", time, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"2024-11-22T18:26:40.123Z\"}", "{\"a\":1,\"ts\":\"2024-11-22T18:26:40.123Z\"}", time, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"1732300000123\"}", "{\"a\":1,\"ts\":\"1732300000123\"}", time, NULL);
            check_event(reader, "{\"a\":1,\"ts\":1732300000.123}", "{\"a\":1,\"ts\":1732300000.123}", time, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"1732300000.123\"}", "{\"a\":1,\"ts\":\"1732300000.123\"}", time, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"2024-11-22T18:26:40Z\"}", "{\"a\":1,\"ts\":\"2024-11-22T18:26:40Z\"}", time - 123000000, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"2024-11-22T18:26:40.12300000099Z\"}", "{\"a\":1,\"ts\":\"2024-11-22T18:26:40.12300000099Z\"}", time, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"2024-11-22T19:26:40.123+01:00\"}", "{\"a\":1,\"ts\":\"2024-11-22T19:26:40.123+01:00\"}", time, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"2024-11-22T18:26:40.Z\"}", "{\"a\":1,\"ts\":\"2024-11-22T18:26:40.Z\"}", -2, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"2024-11-22T18:26:60.5Z\"}", "{\"a\":1,\"ts\":\"2024-11-22T18:26:60.5Z\"}", time + INT64_C(20377000000), NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"1969-12-31T23:59:59.5Z\"}", "{\"a\":1,\"ts\":\"1969-12-31T23:59:59.5Z\"}", -2, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"2024-13-22T18:26:40.5Z\"}", "{\"a\":1,\"ts\":\"2024-13-22T18:26:40.5Z\"}", -2, NULL);
            check_event(reader, "{\"a\":1,\"ts\":null}", "{\"a\":1,\"ts\":null}", -1, NULL);
            check_event(reader, "{\"a\":1}", "{\"a\":1}", -1, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"noon\"}", "{\"a\":1,\"ts\":\"noon\"}", -2, NULL);
            check_event(reader, "{\"a\":1,\"ts\":-5}", "{\"a\":1,\"ts\":-5}", -2, NULL);
            check_event(reader, "{\"a\":1,\"ts\":[1]}", "{\"a\":1,\"ts\":[1]}", -2, NULL);
            check_event(reader, "{\"a\":1,\"ts\":\"2107-01-01\"}", "{\"a\":1,\"ts\":\"2107-01-01\"}", -2, NULL);
            check_event(reader, "{\"ts\":5,\"ts\":1732300000123}", "{\"ts\":1732300000123}", time, NULL);
        }
        json_reader_free(reader);
        reader = json_reader_new("a.b.c", false, false);
        for (int i = 0; i < 2; i++) {
            check_event(reader, "{\"a\":{\"b\":{\"c\":1732300000123}}}", "{\"a\":{\"b\":{\"c\":1732300000123}}}", time, NULL);
            check_event(reader, "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}", -1, NULL);
            check_event(reader, "{\"a\":{\"b\":{\"c\":\"x\"}}}", "{\"a\":{\"b\":{\"c\":\"x\"}}}", -2, NULL);
            check_event(reader, "{\"a.b.c\":1732300000123}", "{\"a.b.c\":1732300000123}", time, NULL);
        }
        json_reader_free(reader);
    }
}

static void test_taken_fields(void **state) {
    json_reader_t *reader = json_reader_new("@timestamp", true, true);
    for (int i = 0; i < 3; i++) {
        check_event(reader, "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"a\":1}", "{\"a\":1}", 1000000000, NULL);
        check_event(reader, "{\"a\":1,\"@timestamp\":1,\"@stream\":\"s.1\"}", "{\"a\":1}", 1000000000, "s.1");
        check_event(reader, "{\"@stream\":\"not valid!\",\"a\":1}", "{\"@stream\":\"not valid!\",\"a\":1}", -1, NULL);
        check_event(reader, "{\"@stream\":7,\"a\":1}", "{\"@stream\":7,\"a\":1}", -1, NULL);
        check_event(reader, "{\"@stream\":\"s\",\"a\":1}", "{\"a\":1}", -1, "s");
        check_event(reader, "{\"@timestamp\":1,\"@stream\":\"s\"}", "{}", 1000000000, "s");
        check_event(reader, "{\"@timestamp\":\"x\",\"a\":1}", "{\"@timestamp\":\"x\",\"a\":1}", -2, NULL);
        check_event(reader, "{\"@timestamp\":1,\"a\":2,\"@timestamp\":2}", "{\"a\":2}", 2000000000, NULL);
        check_event(reader, "{\"x\":{\"@timestamp\":1}}", "{\"x\":{\"@timestamp\":1}}", -1, NULL);
        buf_t text = {0}, expected = {0}; /* 16 fields, 15 of which stay: the head shrinks */
        for (int k = 0; k < 15; k++)
            buf_format(&expected, "%s\"f%d\":%d", k ? "," : "{", k, k);
        buf_put(&text, expected.data, expected.size);
        buf_put_text(&text, ",\"@timestamp\":1}");
        buf_put_text(&expected, "}");
        check_event(reader, buf_text(&text), buf_text(&expected), 1000000000, NULL);
        buf_fini(&text);
        buf_fini(&expected);
    }
    json_reader_free(reader);
}

static event_t event_of(buf_t *record) {
    return (event_t){.time = 1500000000, .record = record->data, .record_size = (uint32_t) record->size};
}

static void test_print_events(void **state) {
    buf_t record = {0}, out = {0};
    pack_map(&record, 8);
    pack_text(&record, "@timestamp");
    pack_int(&record, 1);
    pack_text(&record, "nan");
    pack_double(&record, NAN);
    pack_text(&record, "time");
    pack_time(&record, 0);
    pack_text(&record, "binary");
    pack_binary(&record, "\x00\xff\x10\x80", 4);
    pack_text(&record, "broken");
    pack_string(&record, "a\xffz", 3);
    pack_int(&record, 7);
    pack_bool(&record, true);
    pack_time(&record, 0);
    pack_nil(&record);
    pack_text(&record, "last");
    pack_uint(&record, UINT64_MAX);
    event_t event = event_of(&record);
    const char *rest = "\"nan\":null,\"time\":\"1970-01-01T00:00:00Z\",\"binary\":\"AP8QgA==\",\"broken\":\"a\xef\xbf\xbdz\",\"7\":true,"
                       "\"1970-01-01T00:00:00Z\":null,\"last\":18446744073709551615}";
    assert_true(json_put_event(&out, &event, false, NULL));
    char expected[512];
    snprintf(expected, sizeof expected, "{\"@timestamp\":1,%s", rest);
    assert_string_equal(buf_text(&out), expected);
    buf_clear(&out);
    assert_true(json_put_event(&out, &event, true, "s"));
    snprintf(expected, sizeof expected, "{\"@timestamp\":\"1970-01-01T00:00:01.5Z\",\"@stream\":\"s\",%s", rest);
    assert_string_equal(buf_text(&out), expected);
    for (size_t cut = 0; cut < record.size; cut++) { /* every malformed record takes back what it wrote */
        uint8_t *exact = mem_copy(record.data, cut);
        event_t shorter = {.record = exact, .record_size = (uint32_t) cut};
        buf_clear(&out);
        buf_put_text(&out, "before");
        assert_false(json_put_event(&out, &shorter, true, NULL));
        assert_false(json_put_packed(&out, exact, cut));
        assert_string_equal(buf_text(&out), "before");
        mem_free(exact);
    }
    buf_clear(&record);
    buf_clear(&out);
    pack_map(&record, 0);
    event = event_of(&record);
    assert_true(json_put_event(&out, &event, true, NULL));
    assert_true(json_put_event(&out, &event, false, "x"));
    assert_true(json_put_event(&out, &event, false, NULL));
    assert_string_equal(buf_text(&out), "{\"@timestamp\":\"1970-01-01T00:00:01.5Z\"}{\"@stream\":\"x\"}{}");
    buf_clear(&record);
    pack_map(&record, 1);
    pack_array(&record, 0); /* an array cannot be a key */
    pack_nil(&record);
    event = event_of(&record);
    assert_false(json_put_event(&out, &event, false, NULL));
    buf_fini(&record);
    buf_fini(&out);
}

/* Base64 of every length. */
static void test_print_binary(void **state) {
    static const char *const expected[] = {"\"\"", "\"Zg==\"", "\"Zm8=\"", "\"Zm9v\"", "\"Zm9vYg==\"", "\"Zm9vYmE=\"", "\"Zm9vYmFy\""};
    for (size_t size = 0; size <= 6; size++) {
        buf_t out = {0};
        json_put_value(&out, (value_t){.type = VALUE_BINARY, .size = (uint32_t) size, .text = "foobar"});
        assert_string_equal(buf_text(&out), expected[size]);
        buf_fini(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_values_in_a_row), cmocka_unit_test(test_refused), cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_string_lengths), cmocka_unit_test(test_duplicates), cmocka_unit_test(test_shapes), cmocka_unit_test(test_many_shapes),
        cmocka_unit_test(test_times), cmocka_unit_test(test_taken_fields), cmocka_unit_test(test_print_events), cmocka_unit_test(test_print_binary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
