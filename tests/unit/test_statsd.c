/* statsd: what it makes of good and bad lines, in pieces of every size. */
#include "format_harness.h"

#define REST(rate) ",\"rate\":" rate ",\"tags\":{}}\n"

static void every_type_is_read(void **state) {
    harness_check("statsd", NULL, "a.b:1|c\na:2|ms\na:3|h\na:4|d\na:5|m\na:x y|s\na:6|g\n",
                  "{\"metric\":\"a.b\",\"type\":\"counter\",\"value\":1" REST("1") "{\"metric\":\"a\",\"type\":\"timer\",\"value\":2" REST("1")
                  "{\"metric\":\"a\",\"type\":\"histogram\",\"value\":3" REST("1") "{\"metric\":\"a\",\"type\":\"distribution\",\"value\":4" REST("1")
                  "{\"metric\":\"a\",\"type\":\"meter\",\"value\":5" REST("1") "{\"metric\":\"a\",\"type\":\"set\",\"value\":\"x y\"" REST("1")
                  "{\"metric\":\"a\",\"type\":\"gauge\",\"value\":6,\"delta\":false" REST("1"));
}

static void numbers_are_read_as_they_are_written(void **state) {
    static const struct { const char *text, *value; } numbers[] = {
        {"0", "0"},     {"-0", "0"},        {"007", "7"},      {"+.5", "0.5"},           {"-.5", "-0.5"},
        {"1e3", "1000.0"}, {"00.25", "0.25"}, {"1.0", "1.0"}, {"9223372036854775807", "9223372036854775807"}, {"-9223372036854775809", "-9.223372036854776e+18"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char text[64], expected[256];
        snprintf(text, sizeof text, "a:%s|c\n", numbers[i].text);
        snprintf(expected, sizeof expected, "{\"metric\":\"a\",\"type\":\"counter\",\"value\":%s" REST("1"), numbers[i].value);
        harness_check("statsd", NULL, text, expected);
    }
}

static void what_is_no_number_is_bad(void **state) {
    static const char *const texts[] = {"x", "1x", "--1", "+-1", "1.", ".", "-", "1e", "0x10", "nan", "inf", "1e999", " 1", "1,5"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[64];
        snprintf(text, sizeof text, "a:%s|c\nb:1|c\n", texts[i]);
        harness_check("statsd", NULL, text, "bad 1: the value is no number\n{\"metric\":\"b\",\"type\":\"counter\",\"value\":1" REST("1"));
    }
}

static void signs_make_deltas_of_gauges_alone(void **state) {
    harness_check("statsd", NULL, "a:+1|g\na:-1|g\na:-1|c\n",
                  "{\"metric\":\"a\",\"type\":\"gauge\",\"value\":1,\"delta\":true" REST("1") "{\"metric\":\"a\",\"type\":\"gauge\",\"value\":-1,\"delta\":true" REST("1")
                  "{\"metric\":\"a\",\"type\":\"counter\",\"value\":-1" REST("1"));
}

static void sections_are_read_in_any_order(void **state) {
    static const char expected[] = "{\"@timestamp\":\"1970-01-01T00:00:05Z\",\"metric\":\"a\",\"type\":\"counter\",\"value\":1,\"rate\":0.5,"
                                   "\"tags\":{\"x\":\"1\",\"y\":true,\"z\":\"\"},\"container\":\"in-7\"}\n";
    harness_check("statsd", NULL, "a:1|c|@0.5|#x:1,y,z:|c:in-7|T5|e:it-false\n", expected);
    harness_check("statsd", NULL, "a:1|c||T5|c:in-7|card:low|#x:1,,y,z:|@0.5", expected);
}

static void each_of_several_values_is_an_event(void **state) {
    harness_check("statsd", NULL, "a:1:-2:3|g|#t:u\n",
                  "{\"metric\":\"a\",\"type\":\"gauge\",\"value\":1,\"delta\":false,\"rate\":1,\"tags\":{\"t\":\"u\"}}\n"
                  "{\"metric\":\"a\",\"type\":\"gauge\",\"value\":-2,\"delta\":true,\"rate\":1,\"tags\":{\"t\":\"u\"}}\n"
                  "{\"metric\":\"a\",\"type\":\"gauge\",\"value\":3,\"delta\":false,\"rate\":1,\"tags\":{\"t\":\"u\"}}\n");
    harness_check("statsd", NULL, "a:1:x:3|ms\n", "bad 1: the value is no number\n");
}

static void bad_lines_cost_only_themselves(void **state) {
    harness_check("statsd", NULL, "x\n\n \na|c\n:1|c\na:|c\na:1|q\na:1|\na:1|c|@0\na:1|c|@2\na:1|c|@x\na:1|c|what\na:1|c|#:x\na:1|c|Tx\na:\xff|s\n_e{1,1}:a|b\n_sc|a|0\nb:1|c\n",
                  "bad 1: expected NAME:VALUE|TYPE\nbad 4: expected NAME:VALUE|TYPE\nbad 5: the name is empty\nbad 6: there is no value\n"
                  "bad 7: the type is none of c, g, ms, h, d, s, m\nbad 8: the type is none of c, g, ms, h, d, s, m\n"
                  "bad 9: the sample rate behind @ is no number above 0 and up to 1\nbad 10: the sample rate behind @ is no number above 0 and up to 1\n"
                  "bad 11: the sample rate behind @ is no number above 0 and up to 1\nbad 12: a section that is none of @rate, #tags, Ttime or name:text\n"
                  "bad 13: a tag without a name\nbad 14: the time behind T is no number of seconds since 1970\nbad 15: invalid UTF-8 or a NUL byte\n"
                  "bad 16: an event or service check of DogStatsD: only metrics are read\nbad 17: an event or service check of DogStatsD: only metrics are read\n"
                  "{\"metric\":\"b\",\"type\":\"counter\",\"value\":1" REST("1"));
    harness_check("statsd", "max-record=16", "abc:01234567890123456789|s\nb:1|c\n",
                  "bad 1: longer than 16 bytes (--max-record)\n{\"metric\":\"b\",\"type\":\"counter\",\"value\":1" REST("1"));
}

static void a_time_field_is_refused(void **state) {
    format_settings_t settings;
    decoder_t *decoder;
    err_t err;
    harness_defaults(&settings);
    harness_set(&settings, "time", "ts");
    assert_int_equal(format_find("statsd")->decoder_open(&decoder, &settings, &err), -1);
    option_fini(format_options, &settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(numbers_are_read_as_they_are_written),
        cmocka_unit_test(what_is_no_number_is_bad),
        cmocka_unit_test(signs_make_deltas_of_gauges_alone),
        cmocka_unit_test(sections_are_read_in_any_order),
        cmocka_unit_test(each_of_several_values_is_an_event),
        cmocka_unit_test(bad_lines_cost_only_themselves),
        cmocka_unit_test(a_time_field_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
