/* logfmt: what it makes of good and bad lines, in pieces of every size; and what is written reads back as the same. */
#include "format_harness.h"

#include "data/logfmt.h"

static void values_are_read(void **state) {
    harness_check("logfmt", NULL, "a=1 b=1.5 c=true d=text e= f=\"\" g h=\"5\" i=007 j=-2e3 k=1e400\n",
                  "{\"a\":1,\"b\":1.5,\"c\":true,\"d\":\"text\",\"e\":null,\"f\":\"\",\"g\":true,\"h\":\"5\",\"i\":\"007\",\"j\":\"-2e3\",\"k\":\"1e400\"}\n");
    harness_check("logfmt", "csv-strings=true", "a=1 b=true e= g\n", "{\"a\":\"1\",\"b\":\"true\",\"e\":null,\"g\":true}\n");
}

static void quotes_hold_anything(void **state) {
    harness_check("logfmt", NULL, "m=\"a b=c \\\"d\\\" \\u00e4 \\n \\\\\" x=1\n", "{\"m\":\"a b=c \\\"d\\\" \xc3\xa4 \\n \\\\\",\"x\":1}\n");
    harness_check("logfmt", NULL, "m=\"a=b\"\r\n\n  \t\n \xef\xbb\xbf=1 n=2\nlast=1", "{\"m\":\"a=b\"}\n{\"\xef\xbb\xbf\":1,\"n\":2}\n{\"last\":1}\n");
    harness_check("logfmt", NULL, "m=a\"b\"c n=x=y\n", "{\"m\":\"a\\\"b\\\"c\",\"n\":\"x=y\"}\n");
}

static void the_last_of_a_key_counts(void **state) {
    harness_check("logfmt", NULL, "a=1 b=2 a=3\n", "{\"a\":3,\"b\":2}\n");
}

static void bad_lines_cost_only_themselves(void **state) {
    harness_check("logfmt", NULL, "a=1\nhello world\na=\"x\n=1\n\"a\"=1\na=\"x\"y\na=\"\\q\" b=1\nb=2\n",
                  "{\"a\":1}\nbad 2: no key=value in it\nbad 3: a: a quote that is never closed\nbad 4: byte 1: expected a key\n"
                  "bad 5: byte 1: expected a key\nbad 6: a: text behind a closing quote\n"
                  "bad 7: a: a text in quotes: byte 3: unknown escape in a string\n{\"b\":2}\n");
    harness_check("logfmt", NULL, "a=1\na=\xff\nb=2\n", "{\"a\":1}\nbad 2: invalid UTF-8 or a NUL byte\n{\"b\":2}\n");
    harness_check("logfmt", "max-record=16", "a=1\nabc=0123456789012345\nb=2\n", "{\"a\":1}\nbad 2: longer than 16 bytes (--max-record)\n{\"b\":2}\n");
}

static void times_and_streams_are_taken(void **state) {
    harness_check("logfmt", NULL, "@timestamp=1970-01-01T00:00:01Z @stream=s a=1\na=2\n@timestamp= a=3\n",
                  "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"@stream\":\"s\",\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
    harness_check("logfmt", "time=ts", "ts=1970-01-01T00:00:01Z a=1\na=2\nts=never\nts=2\n",
                  "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"ts\":\"1970-01-01T00:00:01Z\",\"a\":1}\nbad 2: no field \"ts\" to take the event's time from (--time)\n"
                  "bad 3: field \"ts\" holds no time (ISO 8601, or epoch seconds, ms, us or ns, from 1970 to 2106)\n"
                  "{\"@timestamp\":\"1970-01-01T00:00:02Z\",\"ts\":2}\n");
}

static void what_is_written_reads_back(void **state) {
    static const char json[] = "{\"@timestamp\":\"1970-01-01T00:00:01.5Z\",\"@stream\":\"s\",\"a\":1,\"b\":\"x y\",\"c\":\"5\",\"d\":null,\"e\":\"\",\"f\":1.5,"
                               "\"g\":true,\"h\":\"true\",\"i\":\"a=b\",\"j\":\"\\\"q\\\"\\\\\",\"k\":\"line\\nend\",\"l\":\"\xc3\xa4\"}\n";
    static const char text[] = "@timestamp=1970-01-01T00:00:01.5Z @stream=s a=1 b=\"x y\" c=\"5\" d= e=\"\" f=1.5 g=true h=\"true\" i=\"a=b\" "
                               "j=\"\\\"q\\\"\\\\\" k=\"line\\nend\" l=\xc3\xa4\n";
    format_settings_t settings;
    harness_defaults(&settings);
    json_reader_t *reader = json_reader_new("@timestamp", true, true);
    frame_builder_t builder = {0};
    json_found_t found;
    builder_begin(&builder);
    assert_int_equal(json_read_event(reader, text_of(json), &builder.body, &found, NULL), 0);
    builder_commit(&builder, found.time, 0);
    builder.data_time = true;
    frame_t *frame = builder_take(&builder, "t");
    encoder_t *encoder;
    assert_int_equal(format_find("logfmt")->encoder_open(&encoder, &settings, NULL), 0);
    buf_t out = {0};
    assert_int_equal(encoder->class->frame(encoder, frame, "s", &out), 0);
    assert_string_equal(buf_text(&out), text);
    harness_check_settings("logfmt", &settings, (const char *) out.data, out.size, json);
    frame_unref(frame);
    buf_fini(&out);
    encoder_free(encoder);
    builder_fini(&builder);
    json_reader_free(reader);
    option_fini(format_options, &settings);
}

static void what_has_no_form_is_shown(void **state) {
    frame_builder_t builder = {0};
    builder_begin(&builder);
    assert_true(json_read_value(text_of("{\"a b\":[1,\"x\"],\"c=\":{\"d\":1},\"\":1}"), &builder.body, NULL) > 0);
    builder_commit(&builder, 0, 0);
    frame_t *frame = builder_take(&builder, "t");
    format_settings_t settings;
    harness_defaults(&settings);
    encoder_t *encoder;
    assert_int_equal(format_find("logfmt")->encoder_open(&encoder, &settings, NULL), 0);
    buf_t out = {0};
    assert_int_equal(encoder->class->frame(encoder, frame, NULL, &out), 0);
    assert_string_equal(buf_text(&out), "a_b=\"[1,\\\"x\\\"]\" c_=\"{\\\"d\\\":1}\" _=1\n");
    buf_fini(&out);
    frame_unref(frame);
    encoder_free(encoder);
    builder_fini(&builder);
    option_fini(format_options, &settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read), cmocka_unit_test(quotes_hold_anything), cmocka_unit_test(the_last_of_a_key_counts),
        cmocka_unit_test(bad_lines_cost_only_themselves), cmocka_unit_test(times_and_streams_are_taken),
        cmocka_unit_test(what_is_written_reads_back), cmocka_unit_test(what_has_no_form_is_shown),
    };
    return cmocka_run_group_tests_name("logfmt", tests, NULL, NULL);
}
