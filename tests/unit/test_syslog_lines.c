/* The format of syslog's files: what daemons write and send, and lines that are none. */
#include "format_harness.h"

static void test_files_have_no_priority(void **state) {
    harness_check("syslog", NULL, "2026-11-27T05:00:00.25Z h cron[7]: (root) CMD\r\n\n \n2026-11-27T05:00:01+01:00 h kernel: x: y\n",
                  "{\"@timestamp\":\"2026-11-27T05:00:00.25Z\",\"timestamp\":\"2026-11-27T05:00:00.25Z\",\"hostname\":\"h\",\"appname\":\"cron\",\"procid\":\"7\","
                  "\"message\":\"(root) CMD\"}\n"
                  "{\"@timestamp\":\"2026-11-27T04:00:01Z\",\"timestamp\":\"2026-11-27T04:00:01Z\",\"hostname\":\"h\",\"appname\":\"kernel\",\"message\":\"x: y\"}\n");
}

static void test_a_message_need_not_have_a_time(void **state) {
    harness_check("syslog", "time=timestamp", "<34>1 2003-10-11T22:14:15.003Z h su - ID47 - failed\n<34>1 - h su - - - failed",
                  "{\"@timestamp\":\"2003-10-11T22:14:15.003Z\",\"facility\":\"auth\",\"severity\":\"critical\",\"timestamp\":\"2003-10-11T22:14:15.003Z\","
                  "\"hostname\":\"h\",\"appname\":\"su\",\"msgid\":\"ID47\",\"message\":\"failed\"}\n"
                  "{\"facility\":\"auth\",\"severity\":\"critical\",\"hostname\":\"h\",\"appname\":\"su\",\"message\":\"failed\"}\n");
}

static void test_bad_lines_cost_only_themselves(void **state) {
    harness_check("syslog", NULL, "<999>Oct 11 22:14:15 h su: x\nnothing\n2026-11-27T05:00:00Z h a: \xff\n2026-11-27T05:00:00Z h a: b\n",
                  "bad 1: a priority that cannot be read\nbad 2: a timestamp that cannot be read\nbad 3: invalid UTF-8 or a NUL byte\n"
                  "{\"@timestamp\":\"2026-11-27T05:00:00Z\",\"timestamp\":\"2026-11-27T05:00:00Z\",\"hostname\":\"h\",\"appname\":\"a\",\"message\":\"b\"}\n");
    harness_check("syslog", "max-record=16", "a line that is too long\n", "bad 1: longer than 16 bytes (--max-record)\n");
}

static void test_another_time_is_refused(void **state) {
    format_settings_t settings;
    decoder_t *decoder;
    err_t err;
    harness_defaults(&settings);
    harness_set(&settings, "time", "when");
    assert_int_equal(format_find("syslog")->decoder_open(&decoder, &settings, &err), -1);
    assert_string_equal(err.text, "--time when: a line of the format \"syslog\" has its time in the field timestamp");
    option_fini(format_options, &settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_have_no_priority),
        cmocka_unit_test(test_a_message_need_not_have_a_time),
        cmocka_unit_test(test_bad_lines_cost_only_themselves),
        cmocka_unit_test(test_another_time_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
