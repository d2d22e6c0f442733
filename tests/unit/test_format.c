/* NDJSON, JSON documents, raw lines and msgpack as text formats: what they make of good and bad records, in pieces of every size. */
#include "format_harness.h"

#include "data/pack.h"

static void test_ndjson(void **state) {
    harness_check("ndjson", NULL, "{\"a\":1}\n{\"a\":2}\r\n\n  \n{\"a\":3}", "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
    harness_check("ndjson", NULL, "\xef\xbb\xbf{\"a\":1}\n", "{\"a\":1}\n");
    harness_check("ndjson", NULL, "{\"a\":1}\nx\n[1]\n{\"a\":}\n{\"a\":2}{}\n{\"a\":3}\n",
                  "{\"a\":1}\nbad 2: byte 1: expected an object\nbad 3: byte 1: expected an object\nbad 4: byte 6: expected a JSON value\n"
                  "bad 5: byte 8: expected nothing more behind the object\n{\"a\":3}\n");
    harness_check("ndjson", NULL, "{\"a\":1,\n\"b\":2}\n", "bad 1: byte 8: unexpected end\nbad 2: byte 1: expected an object\n");
    harness_check("ndjson", NULL, "", "");
    harness_check("ndjson", NULL, "\n\n", "");
}

static void test_ndjson_times(void **state) {
    harness_check("ndjson", NULL, "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"@stream\":\"s\",\"a\":1}\n{\"a\":2}\n{\"@timestamp\":null,\"a\":3}\n",
                  "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"@stream\":\"s\",\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
    harness_check("ndjson", NULL, "{\"@timestamp\":\"now\"}\n",
                  "bad 1: field \"@timestamp\" holds no time (ISO 8601, or epoch seconds, ms, us or ns, from 1970 to 2106)\n");
    harness_check("ndjson", "time=t", "{\"t\":1}\n{\"a\":1}\n{\"t\":\"x\"}\n{\"@timestamp\":5,\"t\":2000000000000}\n",
                  "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"t\":1}\nbad 2: no field \"t\" to take the event's time from (--time)\n"
                  "bad 3: field \"t\" holds no time (ISO 8601, or epoch seconds, ms, us or ns, from 1970 to 2106)\n"
                  "{\"@timestamp\":\"2033-05-18T03:33:20Z\",\"t\":2000000000000}\n");
    harness_check("ndjson", "time=a.t", "{\"a\":{\"t\":1}}\n", "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"a\":{\"t\":1}}\n");
}

static void test_ndjson_limit(void **state) {
    harness_check("ndjson", "max-record=20", "{\"a\":1}\n{\"a\":\"0123456789012345678901234567890123456789\"}\n{\"a\":2}\n{\"a\":\"01234567890123456789012\"}",
                  "{\"a\":1}\nbad 2: longer than 20 bytes (--max-record)\n{\"a\":2}\nbad 4: longer than 20 bytes (--max-record)\n");
    harness_check("ndjson", "max-record=20", "{\"a\":\"012345678901\"}\n", "{\"a\":\"012345678901\"}\n"); /* 20 exactly */
}

/* A record within its limit whose event no frame could hold. */
static void test_too_large(void **state) {
    buf_t text = {0};
    buf_put_text(&text, "{\"a\":[-0");
    while (text.size < 7 * 1024 * 1024)
        buf_put_text(&text, ",-0");
    buf_put_text(&text, "]}\n{\"a\":1}\n");
    format_settings_t settings;
    harness_defaults(&settings);
    harness_set(&settings, "max-record", "14MiB");
    for (int i = 0; i < 2; i++) {
        char *got = harness_decode(i ? "json" : "ndjson", &settings, text_make((const char *) text.data, text.size), SIZE_MAX, false, false);
        assert_string_equal(got, "bad 1: larger than 15 MiB as an event\n{\"a\":1}\n");
        mem_free(got);
    }
    option_fini(format_options, &settings);
    buf_fini(&text);
}

static void test_documents(void **state) {
    harness_check("json", NULL, "{\"a\":1}", "{\"a\":1}\n");
    harness_check("json", NULL, " \n[\n  {\"a\" : 1},\n  {\"a\":2}\n]\n", "{\"a\":1}\n{\"a\":2}\n");
    harness_check("json", NULL, "\xef\xbb\xbf[]", "");
    harness_check("json", NULL, "{\"a\":1}{\"a\":2}\n[{\"a\":3}][] {\"a\":{\"b\":[1,{}]}}", "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":{\"b\":[1,{}]}}\n");
    harness_check("json", NULL, "\x1e{\"a\":1}\n\x1e{\"a\":2}\n", "{\"a\":1}\n{\"a\":2}\n");
    harness_check("json", "time=t", "[{\"t\":1},{\"t\":{}}]", "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"t\":1}\n"
                  "bad 2: field \"t\" holds no time (ISO 8601, or epoch seconds, ms, us or ns, from 1970 to 2106)\n");
    /* long elements cross the pieces and the windows */
    buf_t text = {0}, expected = {0};
    buf_put_byte(&text, '[');
    for (int i = 0; i < 6; i++) {
        buf_format(&text, "%s{\"n\":%d,\"s\":\"", i ? ", " : "", i);
        buf_format(&expected, "{\"n\":%d,\"s\":\"", i);
        for (int k = 0; k < i * i * 3000; k += 10) {
            buf_put_text(&text, "\\u00e4 {]\\\" ");
            buf_put_text(&expected, "\xc3\xa4 {]\\\" ");
        }
        buf_put_text(&text, "\"}");
        buf_put_text(&expected, "\"}\n");
    }
    buf_put_byte(&text, ']');
    format_settings_t settings;
    harness_defaults(&settings);
    const size_t pieces[] = {1000, 4096, 65536, 1000000};
    for (size_t i = 0; i < 4; i++) {
        char *got = harness_decode("json", &settings, text_make((const char *) text.data, text.size), pieces[i], false, i > 0);
        assert_string_equal(got, buf_text(&expected));
        mem_free(got);
    }
    option_fini(format_options, &settings);
    buf_fini(&text);
    buf_fini(&expected);
}

static void test_documents_bad(void **state) {
    harness_check("json", NULL, "[1,{\"a\":1},\"x,]\\\"\",[{\"b\":1}],{\"a\":2}]",
                  "bad 1: expected an object\n{\"a\":1}\nbad 3: expected an object\nbad 4: expected an object\n{\"a\":2}\n");
    harness_check("json", NULL, "17 {\"a\":1} true {\"a\":2}", "bad 1: expected an object or an array of objects\n{\"a\":1}\n"
                  "bad 3: expected an object or an array of objects\n{\"a\":2}\n");
    harness_check("json", NULL, "[{\"a\":01},{\"a\":[}]},{\"a\":2}]", "bad 1: byte 6: a number may not begin with 0\nbad 2: byte 7: expected a JSON value\n"
                  "bad 3: expected ',' or ']' behind an element\nbad 4: expected an object\n{\"a\":2}\n");
    harness_check("json", NULL, "[{\"a\":1} {\"a\":2}]", "{\"a\":1}\nbad 2: expected ',' or ']' behind an element\n{\"a\":2}\n");
    harness_check("json", NULL, "[{\"a\":1},", "{\"a\":1}\nbad 2: the text ends inside an array\n");
    harness_check("json", NULL, "[{\"a\":1},{\"a", "{\"a\":1}\nbad 2: byte 4: unexpected end\nbad 3: the text ends inside an array\n");
    harness_check("json", "max-record=20", "[{\"a\":1},{\"a\":\"0123456789012345678901234567890123456789\"},{\"a\":2}]",
                  "{\"a\":1}\nbad 2: longer than 20 bytes (--max-record)\n{\"a\":2}\n");
}

static void test_lines(void **state) {
    harness_check("lines", NULL, "one\r\n\ntwo \"x\"\nthree", "{\"message\":\"one\"}\n{\"message\":\"two \\\"x\\\"\"}\n{\"message\":\"three\"}\n");
    harness_check("lines", "line-field=l", "a\n", "{\"l\":\"a\"}\n");
    harness_check("lines", "max-record=16", "0123456789012345\n01234567890123456\nx\n",
                  "{\"message\":\"0123456789012345\"}\nbad 2: longer than 16 bytes (--max-record)\n{\"message\":\"x\"}\n");
    harness_check("lines", NULL, "ok\na\xff\nok\n", "{\"message\":\"ok\"}\nbad 2: byte 2: invalid UTF-8\n{\"message\":\"ok\"}\n");
    format_settings_t settings;
    harness_defaults(&settings);
    harness_check_settings("lines", &settings, "a\0b\nc", 5, "bad 1: byte 2: a NUL byte\n{\"message\":\"c\"}\n");
    harness_set(&settings, "time", "t");
    decoder_t *decoder = NULL;
    assert_int_equal(format_find("lines")->decoder_open(&decoder, &settings, NULL), -1);
    assert_null(decoder);
    option_fini(format_options, &settings);
}

static void test_msgpack(void **state) {
    buf_t text = {0};
    pack_map(&text, 1);
    pack_text(&text, "a");
    pack_int(&text, 1);
    buf_put(&text, "\x92\xd7\x00\x00\x00\x00\x05\x00\x00\x00\x00", EVENT_HEAD);
    pack_map(&text, 1);
    pack_text(&text, "a");
    pack_int(&text, 2);
    pack_int(&text, 3);
    pack_array(&text, 1);
    pack_nil(&text);
    pack_map(&text, 1);
    pack_int(&text, 5);
    pack_nil(&text);
    buf_put(&text, "\x81\xa1k\x82\x05\x05\x90\x05", 8);     /* {"k": {5: 5, []: 5}}: no JSON has an array as a key */
    buf_put(&text, "\x81\xa1k\x92\x81\x05\x90\x90", 8);     /* {"k": [{5: []}, []]} */
    buf_put(&text, "\xc1", 1);
    pack_map(&text, 0);
    format_settings_t settings;
    harness_defaults(&settings);
    harness_check_settings("msgpack", &settings, (const char *) text.data, text.size,
                           "{\"a\":1}\n{\"@timestamp\":\"1970-01-01T00:00:05Z\",\"a\":2}\nbad 3: expected a map, or an array [time, map]\n"
                           "bad 4: expected a map, or an array [time, map]\nbad 5: a key of the map is no string\n"
                           "bad 6: a key of a map in it is an array or a map\n{\"k\":[{\"5\":[]},[]]}\n"
                           "bad 8: malformed msgpack: what follows cannot be read\n");
    option_fini(format_options, &settings);
    buf_fini(&text);
}

static frame_t *make_frame(bool data_time) {
    frame_builder_t builder = {0};
    for (int i = 0; i < 2; i++) {
        builder_begin(&builder);
        pack_map(&builder.body, 2);
        pack_text(&builder.body, "message");
        pack_text(&builder.body, i ? "two" : "one");
        pack_text(&builder.body, "n");
        pack_int(&builder.body, i);
        builder_commit(&builder, INT64_C(1000000000) * i + 500000000, 0);
    }
    builder.data_time = data_time;
    frame_t *frame = builder_take(&builder, "t");
    builder_fini(&builder);
    return frame;
}

static void check_encoded(const char *format, bool data_time, const char *stream, const char *expected) {
    format_settings_t settings;
    harness_defaults(&settings);
    encoder_t *encoder;
    assert_int_equal(format_find(format)->encoder_open(&encoder, &settings, NULL), 0);
    frame_t *frame = make_frame(data_time);
    buf_t out = {0};
    assert_int_equal(encoder->class->frame(encoder, frame, stream, &out), 0);
    assert_string_equal(buf_text(&out), expected);
    buf_fini(&out);
    frame_unref(frame);
    encoder_free(encoder);
    option_fini(format_options, &settings);
}

static void test_encoders(void **state) {
    check_encoded("ndjson", false, NULL, "{\"message\":\"one\",\"n\":0}\n{\"message\":\"two\",\"n\":1}\n");
    check_encoded("json", true, "s", "{\"@timestamp\":\"1970-01-01T00:00:00.5Z\",\"@stream\":\"s\",\"message\":\"one\",\"n\":0}\n"
                  "{\"@timestamp\":\"1970-01-01T00:00:01.5Z\",\"@stream\":\"s\",\"message\":\"two\",\"n\":1}\n");
    check_encoded("lines", true, NULL, "one\ntwo\n");
}

/* A frame whose second event is malformed inside: the first is written, the second counted. */
static void test_encode_malformed(void **state) {
    static const char *const names[] = {"ndjson", "csv", "lines", "logfmt"};
    frame_t *frame = make_frame(false);
    uint8_t *body = mem_copy(frame->body, frame->body_size);
    uint32_t first = frame_length(frame, 0);
    body[first + EVENT_HEAD + 1] = 0xc1; /* the first key */
    frame_t broken = *frame;
    broken.body = body;
    for (size_t i = 0; i < 4; i++) {
        format_settings_t settings;
        harness_defaults(&settings);
        encoder_t *encoder;
        assert_int_equal(format_find(names[i])->encoder_open(&encoder, &settings, NULL), 0);
        buf_t out = {0};
        assert_int_equal(encoder->class->frame(encoder, &broken, NULL, &out), 1);
        buf_text(&out);
        assert_non_null(strstr((char *) out.data, "one"));
        buf_fini(&out);
        encoder_free(encoder);
        option_fini(format_options, &settings);
    }
    mem_free(body);
    frame_unref(frame);
}

static void test_names(void **state) {
    assert_string_equal(format_for_path("/a/b.ndjson")->name, "ndjson");
    assert_string_equal(format_for_path("b.jsonl.gz")->name, "ndjson");
    assert_string_equal(format_for_path("b.csv.zst")->name, "csv");
    assert_string_equal(format_for_path("b.json")->name, "json");
    assert_string_equal(format_for_path("b.csv")->name, "csv");
    assert_string_equal(format_for_path("x.tsv")->name, "tsv");
    assert_string_equal(format_for_path("x.log")->name, "lines");
    assert_string_equal(format_for_path("x.logfmt")->name, "logfmt");
    assert_null(format_for_path("x"));
    assert_null(format_for_path(".gz"));
    assert_int_equal(format_packed("a/b.gz"), 3);
    assert_int_equal(format_packed("b.log.1.zst"), 4);
    assert_int_equal(format_packed("zst"), 0);
    assert_null(format_find("xml2"));
    err_t err;
    assert_int_equal(format_unknown("ndjsn", &err), -1);
    assert_non_null(strstr(err.text, "did you mean \"ndjson\""));
    assert_non_null(strstr(err.text, "csv, tsv, lines"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ndjson), cmocka_unit_test(test_ndjson_times), cmocka_unit_test(test_ndjson_limit), cmocka_unit_test(test_too_large), cmocka_unit_test(test_documents),
        cmocka_unit_test(test_documents_bad), cmocka_unit_test(test_lines), cmocka_unit_test(test_msgpack), cmocka_unit_test(test_encoders),
        cmocka_unit_test(test_encode_malformed), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
