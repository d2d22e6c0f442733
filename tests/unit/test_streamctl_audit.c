/* The audit's conclusions, over ledgers as a stopped pipeline leaves them and over metrics files that change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "../../cmd/streamctl/audit.h"

#define STAGE(name, tool, role, inputs, ledger, ends) \
    "{\"name\":\"" name "\",\"stream\":\"" name "\",\"tool\":\"" tool "\",\"role\":\"" role "\",\"known\":true,\"starts\":1,\"inputs\":[" inputs \
    "],\"stateful\":%s,\"spooled\":%d,\"ledger\":{" ledger "},\"ends\":[" ends "]}"
#define PATH(path, sends, events, dropped) \
    "{\"path\":\"" path "\",\"sends\":" sends ",\"events\":" #events ",\"dropped\":" #dropped ",\"outstanding\":0.0}"

/* a -> b, a and b -> broadcast; `in` events arrive at b. */
static json_t *pipeline(int out, int in, int arrived, bool stateful, int spooled) {
    char text[4096];
    const char *state = stateful ? "true" : "false";
    snprintf(text, sizeof text,
             "{\"version\":1,\"stages\":[" STAGE("a", "ingest", "source", "", "\"in\":%d,\"out\":%d", PATH("/l/a-b", "true", 0, 0)) ","
             STAGE("b", "process", "pipeline", "\"a\"", "\"in\":%d,\"created\":5,\"out\":45,\"filtered\":%d,\"held\":7", PATH("/l/a-b", "false", 0, 0)) ","
             STAGE("broadcast", "broadcast", "broadcast", "\"a\",\"b\"", "\"in\":%d,\"out\":%d", "") "]}",
             state, spooled, 100, out, state, 0, in, in + 5 - 45 - 7, state, 0, arrived, arrived);
    json_t *saved = json_loads(text, 0, NULL);
    assert_non_null(saved);
    return saved;
}

static audit_verdict_t conclude(json_t *saved, json_t **report) {
    audit_t *audit = audit_new();
    assert_true(audit_load(audit, saved));
    audit_verdict_t verdict = audit_conclude(audit, report);
    json_t *again = audit_save(audit);
    audit_t *copy = audit_new();
    assert_true(audit_load(copy, again)); /* what is saved says the same */
    assert_int_equal(audit_conclude(copy, NULL), verdict);
    audit_free(copy);
    audit_free(audit);
    json_decref(again);
    json_decref(saved);
    return verdict;
}

static const char *text_of_link(const json_t *report, size_t index, const char *key) {
    return json_string_value(json_object_get(json_array_get(json_object_get(report, "links"), index), key));
}

static void test_all_balances(void **state) {
    json_t *report;
    assert_int_equal(conclude(pipeline(100, 100, 145, false, 0), &report), AUDIT_BALANCED);
    assert_int_equal(json_array_size(json_object_get(report, "stages")), 3);
    assert_int_equal(json_array_size(json_object_get(report, "links")), 2);
    json_decref(report);
}

static void test_a_stage_that_loses_is_named(void **state) {
    json_t *report;
    assert_int_equal(conclude(pipeline(97, 97, 142, false, 0), &report), AUDIT_WRONG);
    const json_t *first = json_array_get(json_object_get(report, "stages"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "verdict")), "wrong");
    assert_int_equal(json_integer_value(json_object_get(first, "difference")), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(report, "stages"), 1), "verdict")), "balanced");
    json_decref(report);
}

static void test_a_link_that_loses_is_named(void **state) {
    json_t *report;
    assert_int_equal(conclude(pipeline(100, 90, 145, false, 0), &report), AUDIT_WRONG);
    assert_string_equal(text_of_link(report, 0, "to"), "b");
    assert_string_equal(text_of_link(report, 0, "verdict"), "wrong");
    assert_non_null(strstr(text_of_link(report, 0, "text"), "10 that were sent did not arrive"));
    assert_string_equal(text_of_link(report, 1, "verdict"), "balanced");
    json_decref(report);
}

static void test_what_waits_in_a_log_is_not_lost(void **state) {
    json_t *report;
    assert_int_equal(conclude(pipeline(100, 90, 145, true, 3), &report), AUDIT_MOVING);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(report, "links"), 0), "under_way")), 10);
    json_decref(report);
}

static void test_doubled_events_are_wrong_whatever_waits(void **state) {
    json_t *report;
    assert_int_equal(conclude(pipeline(100, 101, 145, true, 3), &report), AUDIT_WRONG);
    assert_non_null(strstr(text_of_link(report, 0, "text"), "1 more were received"));
    json_decref(report);
}

static void test_a_stage_that_began_anew_without_state_leaves_it_open(void **state) {
    json_t *saved = pipeline(100, 90, 135, false, 0), *report;
    json_object_set_new(json_array_get(json_object_get(saved, "stages"), 1), "starts", json_integer(2));
    assert_int_equal(conclude(saved, &report), AUDIT_UNKNOWN); /* b is one of the two that broadcast's numbers depend on, too */
    assert_string_equal(text_of_link(report, 1, "verdict"), "unknown");
    json_decref(report);
    saved = pipeline(100, 90, 145, false, 0);
    json_object_set_new(json_array_get(json_object_get(saved, "stages"), 1), "starts", json_integer(2));
    assert_int_equal(conclude(saved, &report), AUDIT_UNKNOWN);
    assert_non_null(strstr(text_of_link(report, 0, "text"), "b was started anew"));
    json_decref(report);
}

/* What an unfinished replay counts is what it sends at most. */
static void test_a_replay_that_is_not_finished_leaves_its_letters_under_way(void **state) {
    for (int replaying = 0; replaying < 2; replaying++) {
        json_t *saved = pipeline(100, 100, 145, true, 0), *report;
        json_t *b = json_array_get(json_object_get(saved, "stages"), 1);
        json_object_set_new(b, "replayed", json_integer(20));
        json_object_set_new(b, "replaying", json_boolean(replaying));
        assert_int_equal(conclude(saved, &report), replaying ? AUDIT_MOVING : AUDIT_WRONG);
        assert_non_null(strstr(text_of_link(report, 0, "text"), replaying ? "a replay is under way" : "20 that were sent did not arrive"));
        json_decref(report);
    }
}

static void test_what_one_link_dropped_was_sent_on_the_others(void **state) {
    json_t *saved = pipeline(95, 95, 145, false, 0), *report;
    json_t *first = json_array_get(json_object_get(saved, "stages"), 0);
    json_object_set_new(json_object_get(first, "ledger"), "dropped", json_integer(5));
    json_object_set_new(json_array_get(json_object_get(first, "ends"), 0), "dropped", json_integer(5));
    assert_int_equal(conclude(saved, &report), AUDIT_BALANCED);
    json_decref(report);
}

static void test_nonsense_is_no_ledger(void **state) {
    static const char *const texts[] = {"{}", "{\"version\":2,\"stages\":[]}", "{\"version\":1,\"stages\":{}}", "[]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *saved = json_loads(texts[i], 0, NULL);
        audit_t *audit = audit_new();
        assert_false(audit_load(audit, saved));
        audit_free(audit);
        json_decref(saved);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_balances),
        cmocka_unit_test(test_a_stage_that_loses_is_named),
        cmocka_unit_test(test_a_link_that_loses_is_named),
        cmocka_unit_test(test_what_waits_in_a_log_is_not_lost),
        cmocka_unit_test(test_doubled_events_are_wrong_whatever_waits),
        cmocka_unit_test(test_a_stage_that_began_anew_without_state_leaves_it_open),
        cmocka_unit_test(test_a_replay_that_is_not_finished_leaves_its_letters_under_way),
        cmocka_unit_test(test_what_one_link_dropped_was_sent_on_the_others),
        cmocka_unit_test(test_nonsense_is_no_ledger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
