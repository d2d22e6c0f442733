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
    harness_check("statsd", NULL, "x\n\n \na|c\n:1|c\na:|c\na:1|q\na:1|\na:1|c|@0\na:1|c|@2\na:1|c|@x\na:1|c|what\na:1|c|#:x\na:1|c|Tx\na:\xff|s\n_e{1,2}:a|b\n_sc|a|4\nb:1|c\n",
                  "bad 1: expected NAME:VALUE|TYPE\nbad 4: expected NAME:VALUE|TYPE\nbad 5: the name is empty\nbad 6: there is no value\n"
                  "bad 7: the type is none of c, g, ms, h, d, s, m\nbad 8: the type is none of c, g, ms, h, d, s, m\n"
                  "bad 9: the sample rate behind @ is no number above 0 and up to 1\nbad 10: the sample rate behind @ is no number above 0 and up to 1\n"
                  "bad 11: the sample rate behind @ is no number above 0 and up to 1\nbad 12: a section that is none of @rate, #tags, Ttime or name:text\n"
                  "bad 13: a tag without a name\nbad 14: the time behind T is no number of seconds since 1970\nbad 15: invalid UTF-8 or a NUL byte\n"
                  "bad 16: the lengths in _e{...} do not fit title and text\n"
                  "bad 17: the status of a service check is none of 0 (ok), 1 (warning), 2 (critical), 3 (unknown)\n"
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

static void events_of_dogstatsd_are_read(void **state) {
    harness_check("statsd", NULL, "_e{5,4}:title|text\n  _e{3,10}:a|b|one\\ntwo|x|p:low|t:error|h:web1|k:key|s:src|#x:1,y|d:5|c:in-7|card:low|e:it-1\r\n",
                  "{\"type\":\"event\",\"title\":\"title\",\"text\":\"text\",\"alert_type\":\"info\",\"priority\":\"normal\",\"tags\":{}}\n"
                  "{\"@timestamp\":\"1970-01-01T00:00:05Z\",\"type\":\"event\",\"title\":\"a|b\",\"text\":\"one\\ntwo|x\",\"alert_type\":\"error\","
                  "\"priority\":\"low\",\"aggregation_key\":\"key\",\"source_type_name\":\"src\",\"hostname\":\"web1\",\"container\":\"in-7\","
                  "\"tags\":{\"x\":\"1\",\"y\":true}}\n");
    harness_check("statsd", NULL, "_e{1,0}:a|\n_e{1,3}:a|b  |h:",
                  "{\"type\":\"event\",\"title\":\"a\",\"text\":\"\",\"alert_type\":\"info\",\"priority\":\"normal\",\"tags\":{}}\n"
                  "{\"type\":\"event\",\"title\":\"a\",\"text\":\"b  \",\"alert_type\":\"info\",\"priority\":\"normal\",\"hostname\":\"\",\"tags\":{}}\n");
}

static void bad_events_of_dogstatsd_are_told_apart(void **state) {
    static const char *const bad[][2] = {
        {"_e{", "expected _e{TITLE_LENGTH,TEXT_LENGTH}:TITLE|TEXT"},
        {"_e{1}:a|b", "expected _e{TITLE_LENGTH,TEXT_LENGTH}:TITLE|TEXT"},
        {"_e{1,x}:a|b", "expected _e{TITLE_LENGTH,TEXT_LENGTH}:TITLE|TEXT"},
        {"_e{1,1}a|b", "expected _e{TITLE_LENGTH,TEXT_LENGTH}:TITLE|TEXT"},
        {"_e{1,1}:", "the lengths in _e{...} do not fit title and text"},
        {"_e{1,1}", "expected _e{TITLE_LENGTH,TEXT_LENGTH}:TITLE|TEXT"},
        {"_e{2,1}:a|b", "the lengths in _e{...} do not fit title and text"},
        {"_e{1,2}:a|b", "the lengths in _e{...} do not fit title and text"},
        {"_e{1,1}:a|bc", "the lengths in _e{...} do not fit title and text"},
        {"_e{1,9223372036854775807}:a|b", "the lengths in _e{...} do not fit title and text"},
        {"_e{-1,1}:a|b", "the lengths in _e{...} do not fit title and text"},
        {"_e{0,1}:|b", "the title is empty"},
        {"_e{1,1}:a|b|d:x", "the time behind d: is no number of seconds since 1970"},
        {"_e{1,1}:a|b|t:bad", "the alert type is none of info, success, warning, error"},
        {"_e{1,1}:a|b|p:", "the priority is neither normal nor low"},
        {"_e{1,1}:a|b|zzz", "a section that is neither #tags nor name:text"},
        {"_e{1,1}:a|b|#:x", "a tag without a name"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[200], expected[400];
        snprintf(text, sizeof text, "%s\na:1|c", bad[i][0]);
        snprintf(expected, sizeof expected, "bad 1: %s\n{\"metric\":\"a\",\"type\":\"counter\",\"value\":1" REST("1"), bad[i][1]);
        harness_check("statsd", NULL, text, expected);
    }
}

static void service_checks_of_dogstatsd_are_read(void **state) {
    harness_check("statsd", NULL, "_sc|db.up|0\n_sc|db up|2|d:5|h:web1|#x:1|m:it\\nis m\\: down\\a|c:in-7|t:odd\n_sc||0\n_sc|a|4\n_sc|a\n_sc|a|1|zzz\n_sc|a|10\n",
                  "{\"type\":\"service_check\",\"check\":\"db.up\",\"status\":0,\"state\":\"ok\",\"tags\":{}}\n"
                  "{\"@timestamp\":\"1970-01-01T00:00:05Z\",\"type\":\"service_check\",\"check\":\"db up\",\"status\":2,\"state\":\"critical\",\"hostname\":\"web1\","
                  "\"message\":\"it\\nis m: down\\\\a\",\"container\":\"in-7\",\"tags\":{\"x\":\"1\"}}\n"
                  "bad 3: the service check has no name\n"
                  "bad 4: the status of a service check is none of 0 (ok), 1 (warning), 2 (critical), 3 (unknown)\n"
                  "bad 5: the status of a service check is none of 0 (ok), 1 (warning), 2 (critical), 3 (unknown)\n"
                  "bad 6: a section that is neither #tags nor name:text\n"
                  "bad 7: the status of a service check is none of 0 (ok), 1 (warning), 2 (critical), 3 (unknown)\n");
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
        cmocka_unit_test(events_of_dogstatsd_are_read),
        cmocka_unit_test(bad_events_of_dogstatsd_are_told_apart),
        cmocka_unit_test(service_checks_of_dogstatsd_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
