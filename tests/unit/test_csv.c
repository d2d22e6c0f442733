/* CSV: RFC 4180 and what is found beyond it; inference that never harms an identifier; reading back what was written. */
#include "format_harness.h"

#include "data/csv.h"
#include "data/pack.h"

static void test_rows(void **state) {
    harness_check("csv", NULL, "a,b\n1,x\n2,y\n", "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}\n");
    harness_check("csv", NULL, "a,b\r\n1,x\r\n2,y", "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}\n");
    harness_check("csv", NULL, "\xef\xbb\xbf" "a,b\n1,2\n", "{\"a\":1,\"b\":2}\n");
    harness_check("csv", NULL, "a\n\n1\r\n\r\n2\n\n", "{\"a\":1}\n{\"a\":2}\n");
    harness_check("csv", NULL, "a,b\n,\n", "{\"a\":null,\"b\":null}\n");
    harness_check("csv", NULL, "a,b\n", "");
    harness_check("csv", NULL, "", "");
    harness_check("csv", NULL, "a,b\n1,\r\n", "{\"a\":1,\"b\":null}\n");
}

static void test_quotes(void **state) {
    harness_check("csv", NULL, "a,b\n\"x,y\",\"say \"\"hi\"\"\"\n\"two\nlines\",\"two\r\nlines\"\r\n\"\",\"\"\"\"\n",
                  "{\"a\":\"x,y\",\"b\":\"say \\\"hi\\\"\"}\n{\"a\":\"two\\nlines\",\"b\":\"two\\r\\nlines\"}\n{\"a\":\"\",\"b\":\"\\\"\"}\n");
    harness_check("csv", NULL, "\"a b\",\"c\"\"d\"\n1,2\n", "{\"a b\":1,\"c\\\"d\":2}\n");
    harness_check("csv", NULL, "a\nit's 5\" long\n", "{\"a\":\"it's 5\\\" long\"}\n"); /* a quote inside is a quote */
    harness_check("csv", NULL, "a,b\n\"1\",\"true\"\n", "{\"a\":\"1\",\"b\":\"true\"}\n"); /* in quotes it is text */
    harness_check("csv", NULL, "a,b\n\"x\"y,1\n2,3\n", "bad 2: field 1: text behind a closing quote\n{\"a\":2,\"b\":3}\n");
    harness_check("csv", NULL, "a,b\n1,\"open\n2,3\n", "bad 2: field 2: its quote is never closed\n");
    harness_check("csv", NULL, "a,b\n1,\"end\"", "{\"a\":1,\"b\":\"end\"}\n");
}

static void test_field_counts(void **state) {
    harness_check("csv", NULL, "a,b\n1\n1,2,3\n1,2\n", "bad 2: expected 2 fields, found 1\nbad 3: expected 2 fields, found 3\n{\"a\":1,\"b\":2}\n");
    /* that is what is wrong, whatever else follows from it */
    harness_check("csv", "time=when csv-type=b=int", "when,b\nhello\nx,y,z\n", "bad 2: expected 2 fields, found 1\nbad 3: expected 2 fields, found 3\n");
}

static void test_headers(void **state) {
    harness_check("csv", NULL, "a,,a,column_2,a_2\n1,2,3,4,5\n", "{\"a\":1,\"column_2\":2,\"a_2\":3,\"column_2_2\":4,\"a_2_2\":5}\n");
    harness_check("csv", "csv-no-header=yes", "1,x\n2,y\n", "{\"column_1\":1,\"column_2\":\"x\"}\n{\"column_1\":2,\"column_2\":\"y\"}\n");
    harness_check("csv", NULL, "a,b\r1,2\r3,4\r", "bad 1: a carriage return alone ends no row; make it a line feed (tr '\\r' '\\n')\n");
    harness_check("csv", NULL, "a,\"b\rc\"\r\n1,2\r\n", "{\"a\":1,\"b\\rc\":2}\n");
    harness_check("csv", "csv-no-header=yes csv-columns=a,b", "1,x\n", "{\"a\":1,\"b\":\"x\"}\n");
    harness_check("csv", "csv-columns=a,b", "old,names\n1,x\n", "{\"a\":1,\"b\":\"x\"}\n");
    harness_check("csv", NULL, "n\xff" "me\n1\n", "{\"n\xef\xbf\xbdme\":1}\n");
}

static void test_separators(void **state) {
    harness_check("csv", "csv-separator=;", "a;b\n1,5;2\n", "{\"a\":\"1,5\",\"b\":2}\n");
    harness_check("csv", "csv-separator=tab", "a\tb\n1\t\"x\ty\"\n", "{\"a\":1,\"b\":\"x\\ty\"}\n");
    harness_check("csv", "csv-separator=|", "a|b\n1|2\n", "{\"a\":1,\"b\":2}\n");
    harness_check("tsv", NULL, "a\tb\n1,0\t2\n", "{\"a\":\"1,0\",\"b\":2}\n");
    static const char *const bad[] = {"", "ab", "\"", "\n", "\xc2\xa7"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        format_settings_t settings;
        harness_defaults(&settings);
        mem_free(settings.separator);
        settings.separator = mem_text(bad[i]);
        decoder_t *decoder;
        encoder_t *encoder;
        assert_int_equal(format_find("csv")->decoder_open(&decoder, &settings, NULL), -1);
        assert_int_equal(format_find("csv")->encoder_open(&encoder, &settings, NULL), -1);
        option_fini(format_options, &settings);
    }
}

#define ONE_COLUMN "remark 1: the first row is one column, "

static void test_other_separators(void **state) {
    harness_check("csv", NULL, "a;b\n1;2\n", ONE_COLUMN "\"a;b\"; where \";\" separates columns, say --csv-separator ';'\n{\"a;b\":\"1;2\"}\n");
    harness_check("csv", NULL, "a;b\n1,5;2\n", ONE_COLUMN "\"a;b\"; where \";\" separates columns, say --csv-separator ';'\n"
                                             "bad 2: expected 1 field, found 2\n");
    harness_check("csv", NULL, "a\tb\n", ONE_COLUMN "\"a\\tb\"; where tabs separate columns, say --csv-separator tab\n");
    harness_check("csv", "csv-separator=;", "a,b\n", ONE_COLUMN "\"a,b\"; where \",\" separates columns, say --csv-separator ','\n");
    harness_check("tsv", NULL, "a|b\n", ONE_COLUMN "\"a|b\"; where \"|\" separates columns, say --format csv --csv-separator '|'\n");
    harness_check("csv", "csv-no-header=yes csv-columns=a,b", "1;2\n3,4\n",
                  ONE_COLUMN "\"1;2\"; where \";\" separates columns, say --csv-separator ';'\nbad 1: expected 2 fields, found 1\n{\"a\":3,\"b\":4}\n");
    harness_check("csv", "csv-no-header=yes", "1;2\n", ONE_COLUMN "\"1;2\"; where \";\" separates columns, say --csv-separator ';'\n"
                                                      "{\"column_1\":\"1;2\"}\n");
    /* only where it is likely */
    harness_check("csv", NULL, "a;b,c\n1,2\n", "{\"a;b\":1,\"c\":2}\n");
    harness_check("csv", NULL, "\"a;b\"\n1;2\n", "{\"a;b\":\"1;2\"}\n");
    harness_check("csv", NULL, "name\n1;2\n", "{\"name\":\"1;2\"}\n");
}

#define LATIN "text is read as UTF-8; where it is Latin-1, iconv -f LATIN1 -t UTF-8 makes it so\n"

static void test_other_data(void **state) {
    harness_check("csv", NULL, "a\nM\xfcller\n", "bad 2: field \"a\": invalid UTF-8 or a NUL byte\nremark 2: " LATIN);
    harness_check("csv", NULL, "\xff\xfe" "a\n", "remark 1: this is UTF-16, as it seems: iconv -f UTF-16 -t UTF-8 makes it readable\n");
    harness_check("ndjson", NULL, "{\"a\":1}\n{\"a\":\"M\xfcller\"}\n", "{\"a\":1}\nbad 2: byte 8: invalid UTF-8 in a string\nremark 2: " LATIN);
    harness_check("ndjson", NULL, "[1]\n[2]\n", "bad 1: byte 1: expected an object\nremark 1: this is a JSON array, as it seems: ingest --format json reads it\n"
                                             "bad 2: byte 1: expected an object\n");
    harness_check("ndjson", NULL, "a,b\n", "bad 1: byte 1: expected an object\nremark 1: lines of JSON objects are expected here; other formats are read by "
                                          "ingest --format csv, json, lines, logfmt, ...\n");
    harness_check("lines", NULL, "\xfc\n", "bad 1: byte 1: invalid UTF-8\nremark 1: " LATIN);
    harness_check("json", NULL, "PK\x03\x04", "bad 1: expected an object or an array of objects\n"
                                            "remark 1: this is a ZIP archive, or a spreadsheet, as it seems: unpack it, or save it as CSV in UTF-8\n");
}

static void infers(const char *text, const char *json) {
    value_t value;
    if (!csv_infer(text_of(text), &value)) {
        if (json)
            fail_msg("%s stayed text", text);
        return;
    }
    buf_t out = {0};
    json_put_value(&out, value);
    if (!json || strcmp(buf_text(&out), json) != 0)
        fail_msg("%s became %s", text, buf_text(&out));
    buf_fini(&out);
}

static void test_inference(void **state) {
    infers("", "null");
    infers("0", "0");
    infers("-1", "-1");
    infers("42", "42");
    infers("23.4567", "23.4567");
    infers("-0.5", "-0.5");
    infers("-0", "-0.0");
    infers("1e-05", "1e-5");
    infers("1.5e3", "1500.0");
    infers("2E+3", "2000.0");
    infers("true", "true");
    infers("false", "false");
    infers("12345678901234567", "12345678901234567");
    infers("1732300000123", "1732300000123");
    infers("0.12345678901234567", "0.12345678901234566");
    infers("0.123456789012345678", NULL);
    infers("1.2345678901234567", "1.2345678901234567");
    static const char *const text[] = {"007", "00", "-01", "+49301234567", "+1", "030 1234", "1e5", "12E4567", "1_000", "1,000", "0x1f", ".5", "5.", "True", "TRUE", "yes",
        "null", "NaN", "inf", "Infinity", "-", "--1", "1-2", "2024-01-02", "192.168.0.1", "1.2.3", " 1", "1 ", "123456789012345678", "9999999999999999999999",
        "1e999", "1.0e999", "e5", "12abc", "\xd9\xa1"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        infers(text[i], NULL);
    harness_check("csv", "csv-strings=yes", "a,b,c\n1,true,\n", "{\"a\":\"1\",\"b\":\"true\",\"c\":\"\"}\n");
}

static void test_types(void **state) {
    harness_check("csv", "csv-type=a=string csv-type=b=int csv-type=c=double csv-type=d=bool csv-type=e=time",
                  "a,b,c,d,e\n1,2,3,1,1970-01-02\n007,\"5\",+1.5,no,86400\n,,,,\n",
                  "{\"a\":\"1\",\"b\":2,\"c\":3.0,\"d\":true,\"e\":\"1970-01-02T00:00:00Z\"}\n"
                  "{\"a\":\"007\",\"b\":5,\"c\":1.5,\"d\":false,\"e\":\"1970-01-02T00:00:00Z\"}\n"
                  "{\"a\":\"\",\"b\":null,\"c\":null,\"d\":null,\"e\":null}\n");
    harness_check("csv", "csv-type=b=int", "a,b\n1,x\n2,3\n", "bad 2: field \"b\": \"x\" is not of type int (--csv-type)\n{\"a\":2,\"b\":3}\n");
    harness_check("csv", "csv-strings=yes csv-type=b=int", "a,b\n1,2\n", "{\"a\":\"1\",\"b\":2}\n");
    static const char *const bad[] = {"a", "a=", "a=integer", "=int"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        format_settings_t settings;
        harness_defaults(&settings);
        harness_set(&settings, "csv-type", bad[i]);
        decoder_t *decoder;
        assert_int_equal(format_find("csv")->decoder_open(&decoder, &settings, NULL), -1);
        option_fini(format_options, &settings);
    }
}

static void test_times(void **state) {
    harness_check("csv", "time=t", "t,a\n1970-01-01 00:00:01,1\n2,2\n,3\nx,4\n",
                  "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"t\":\"1970-01-01 00:00:01\",\"a\":1}\n{\"@timestamp\":\"1970-01-01T00:00:02Z\",\"t\":2,\"a\":2}\n"
                  "bad 4: no field \"t\" to take the event's time from (--time)\n"
                  "bad 5: field \"t\" holds no time (ISO 8601, or epoch seconds, ms, us or ns, from 1970 to 2106)\n");
    harness_check("csv", NULL, "@timestamp,@stream,a\n1970-01-01T00:00:01Z,s,1\n,,2\n",
                  "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"@stream\":\"s\",\"a\":1}\n{\"a\":2}\n");
    harness_check("csv", "time=t", "a\n1\n", "bad 2: no field \"t\" to take the event's time from (--time)\n");
}

static void test_bad_bytes(void **state) {
    format_settings_t settings;
    harness_defaults(&settings);
    harness_check_settings("csv", &settings, "a,b\n1,x\0y\n2,\xff\n3,z\n", 18,
                           "bad 2: field \"b\": invalid UTF-8 or a NUL byte\nbad 3: field \"b\": invalid UTF-8 or a NUL byte\n{\"a\":3,\"b\":\"z\"}\n");
    harness_check_settings("csv", &settings, "a\0b,a\0c,a\0b\n1,2,3\n", 18, "{\"a\xef\xbf\xbd" "b\":1,\"a\xef\xbf\xbd" "c\":2,\"a\xef\xbf\xbd" "b_2\":3}\n");
    option_fini(format_options, &settings);
}

static void test_limit(void **state) {
    harness_check("csv", "max-record=20", "a,b\n1,0123456789012345678901234567890\n2,3\n4,\"01234567890123456789\n5,6\n",
                  "bad 2: longer than 20 bytes (--max-record)\n{\"a\":2,\"b\":3}\nbad 4: longer than 20 bytes (--max-record)\n{\"a\":5,\"b\":6}\n");
}

static void test_wide(void **state) { /* heads of more than one byte, and a field that leaves the record */
    buf_t text = {0}, expected = {0};
    buf_put_text(&text, "@timestamp");
    for (int i = 0; i < 15; i++)
        buf_format(&text, ",c%d", i);
    buf_put_text(&text, "\n5");
    buf_put_text(&expected, "{\"@timestamp\":\"1970-01-01T00:00:05Z\"");
    for (int i = 0; i < 15; i++) {
        buf_format(&text, ",%d", i);
        buf_format(&expected, ",\"c%d\":%d", i, i);
    }
    buf_put_text(&expected, "}\n");
    harness_check("csv", NULL, buf_text(&text), buf_text(&expected));
    buf_fini(&text);
    buf_fini(&expected);
}

/* Encodes events given as NDJSON. */
static char *encode(const char *format, const char *option, const char *value, const char *ndjson, bool with_header) {
    format_settings_t settings;
    harness_defaults(&settings);
    frame_builder_t builder = {0};
    decode_target_t target = {.builder = &builder, .committed = harness_committed, .bad = harness_bad};
    json_reader_t *reader = json_reader_new("@timestamp", true, false);
    text_t rest = text_of(ndjson), line;
    while (text_split(&rest, '\n', &line)) {
        if (line.size == 0)
            continue;
        json_found_t found;
        builder_begin(&builder);
        assert_int_equal(json_read_event(reader, line, &builder.body, &found, NULL), 0);
        builder.data_time |= found.has_time;
        builder_commit(&builder, found.has_time ? found.time : 0, target.ingest_time);
    }
    json_reader_free(reader);
    if (option)
        harness_set(&settings, option, value);
    encoder_t *encoder;
    assert_int_equal(format_find(format)->encoder_open(&encoder, &settings, NULL), 0);
    buf_t out = {0};
    frame_t *frame = builder_take(&builder, "t");
    if (with_header)
        encoder->class->header(encoder, &out);
    assert_int_equal(encoder->class->frame(encoder, frame, NULL, &out), 0);
    frame_unref(frame);
    builder_fini(&builder);
    encoder_free(encoder);
    option_fini(format_options, &settings);
    buf_text(&out);
    return (char *) buf_take(&out);
}

static void check_encoded(const char *format, const char *option, const char *value, const char *ndjson, const char *expected) {
    char *got = encode(format, option, value, ndjson, true);
    assert_string_equal(got, expected);
    mem_free(got);
}

static void test_encode(void **state) {
    check_encoded("csv", NULL, NULL, "{\"a\":1,\"b\":\"x\"}\n{\"b\":\"y\",\"a\":2.5}\n{\"a\":null}", "a,b\n1,x\n2.5,y\n,\n");
    check_encoded("csv", NULL, NULL, "{\"@timestamp\":1,\"a\":true}", "@timestamp,a\n1970-01-01T00:00:01Z,true\n");
    check_encoded("csv", NULL, NULL, "{\"a,b\":\"x,y\",\"q\":\"say \\\"hi\\\"\",\"n\":\"two\\nlines\",\"l\":[1,{\"k\":\"v\"}],\"d\":1e300}",
                  "\"a,b\",q,n,l,d\n\"x,y\",\"say \"\"hi\"\"\",\"two\nlines\",\"[1,{\"\"k\"\":\"\"v\"\"}]\",1e+300\n");
    check_encoded("csv", NULL, NULL, "{\"a\":\"1\",\"b\":\"\",\"c\":\"true\",\"d\":\"007\",\"e\":\"2024-01-01\"}", "a,b,c,d,e\n\"1\",\"\",\"true\",007,2024-01-01\n");
    check_encoded("csv", "csv-columns", "b,@timestamp,c", "{\"@timestamp\":1,\"a\":1,\"b\":2}", "b,@timestamp,c\n2,1970-01-01T00:00:01Z,\n");
    check_encoded("csv", "csv-columns", "a,b", "{\"b\":2,\"x\":3,\"a\":1}", "a,b\n1,2\n");
    check_encoded("csv", "csv-no-header", "yes", "{\"a\":1}", "1\n");
    check_encoded("csv", "csv-separator", ";", "{\"a\":\"x;y\",\"b\":\"1,2\"}", "a;b\n\"x;y\";1,2\n");
    check_encoded("csv", NULL, NULL, "{\"a\":null}", "a\n\"\"\n");
    check_encoded("tsv", NULL, NULL, "{\"a\":1,\"b\":\"x\\ty\"}", "a\tb\n1\t\"x\ty\"\n");
    char *headless = encode("csv", NULL, NULL, "{\"a\":1}", false); /* appended to a file that has its header */
    assert_string_equal(headless, "1\n");
    mem_free(headless);
}

/* A file that is there already decides the columns. */
static void test_resume(void **state) {
    static const struct { const char *columns, *beginning, *text; } cases[] = {
        {NULL, "b,a\n1,2\n", "2,1\n"}, {NULL, "\"b\"\"x\",a\r\n", ",1\n"}, {"b,a", "b,a\n", "2,1\n"}, {"a,b", "b,a\n", NULL}, {"a", "a,b\n", NULL}, {NULL, "no line end", NULL}, {NULL, "\"a", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        format_settings_t settings;
        harness_defaults(&settings);
        if (cases[i].columns)
            harness_set(&settings, "csv-columns", cases[i].columns);
        encoder_t *encoder;
        assert_int_equal(format_find("csv")->encoder_open(&encoder, &settings, NULL), 0);
        err_t err = {""};
        int result = encoder->class->resume(encoder, text_of(cases[i].beginning), &err);
        assert_int_equal(result, cases[i].text ? 0 : -1);
        if (cases[i].text) {
            frame_builder_t builder = {0};
            builder_begin(&builder);
            assert_true(json_read_value(text_of("{\"a\":1,\"b\":2}"), &builder.body, NULL) > 0);
            builder_commit(&builder, 0, 0);
            frame_t *frame = builder_take(&builder, "t");
            buf_t out = {0};
            encoder->class->frame(encoder, frame, NULL, &out);
            assert_string_equal(buf_text(&out), cases[i].text);
            buf_fini(&out);
            frame_unref(frame);
            builder_fini(&builder);
        } else {
            assert_true(err.text[0]);
        }
        encoder_free(encoder);
        option_fini(format_options, &settings);
    }
}

/* What is written reads back as the same values. */
static void test_round_trip(void **state) {
    const char *ndjson = "{\"a\":1,\"b\":\"1\",\"c\":null,\"d\":\"\",\"e\":\"x\\\"y\",\"f\":\"\\r\\n\",\"g\":true,\"h\":\"true\",\"i\":-0.5,\"j\":\"-0.5\",\"k\":\" pad \",\"l\":1e-7,\"m\":\"\xc3\xa4\"}\n"
                         "{\"a\":12345678901234567,\"b\":\"007\",\"c\":\",\",\"d\":\"e\",\"e\":\"\\\"\",\"f\":\"\\n\",\"g\":false,\"h\":\"null\",\"i\":30.0,\"j\":\"1e5\",\"k\":\"\\\"\\\"\",\"l\":-3,\"m\":\"\"}\n";
    char *csv = encode("csv", NULL, NULL, ndjson, true);
    harness_check("csv", NULL, csv, ndjson);
    mem_free(csv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows), cmocka_unit_test(test_quotes), cmocka_unit_test(test_field_counts), cmocka_unit_test(test_headers),
        cmocka_unit_test(test_separators), cmocka_unit_test(test_other_separators), cmocka_unit_test(test_other_data),
        cmocka_unit_test(test_inference), cmocka_unit_test(test_types), cmocka_unit_test(test_times), cmocka_unit_test(test_bad_bytes), cmocka_unit_test(test_limit), cmocka_unit_test(test_wide), cmocka_unit_test(test_encode),
        cmocka_unit_test(test_resume), cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
