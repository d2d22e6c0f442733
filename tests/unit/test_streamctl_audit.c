/* The audit's conclusions, over ledgers as a stopped pipeline leaves them and over metrics files that change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../cmd/streamctl/audit.h"
#include "base/file.h"
#include "run/metrics.h"

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

/* More was received than had been said to be sent, or less than was acknowledged, by the time that one of them was killed. */
static void test_last_numbers_of_one_that_was_killed_prove_nothing(void **state) {
    for (int killed = 0; killed < 2; killed++)
        for (int in = 90; in <= 110; in += 20) {
            json_t *saved = pipeline(100, in, 145, true, 0), *report;
            json_object_set_new(json_array_get(json_object_get(saved, "stages"), 0), "killed", json_boolean(killed));
            assert_int_equal(conclude(saved, &report), killed ? AUDIT_UNKNOWN : AUDIT_WRONG);
            if (killed)
                assert_non_null(strstr(text_of_link(report, 0, "text"), "a was killed"));
            json_decref(report);
        }
    json_t *saved = pipeline(97, 97, 142, true, 0), *report;     /* in the middle of writing its numbers */
    json_object_set_new(json_array_get(json_object_get(saved, "stages"), 0), "killed", json_true());
    assert_int_equal(conclude(saved, &report), AUDIT_UNKNOWN);
    json_decref(report);
    saved = pipeline(100, 90, 145, true, 5);
    json_object_set_new(json_array_get(json_object_get(saved, "stages"), 0), "killed", json_true());
    assert_int_equal(conclude(saved, &report), AUDIT_MOVING);
    json_decref(report);
}

/* a has its numbers in a metrics file, b had come to its end, with 110 taken, before it was last started. */
static audit_verdict_t read_stages(const char *directory, int pid, json_t **report) {
    json_t *status = json_pack("{s:[{s:s, s:s, s:s, s:s+, s:s, s:i}, {s:s, s:s, s:s, s:s+, s:s, s:[s]}]}", "stages",
                               "name", "a", "tool", "ingest", "role", "source", "metrics", directory, "/m", "state_dir", "/nowhere", "pid", pid,
                               "name", "b", "tool", "process", "role", "pipeline", "metrics", directory, "/none", "state_dir", directory, "inputs", "a");
    assert_non_null(status);
    audit_t *audit = audit_new();
    audit_read(audit, status);
    audit_verdict_t verdict = audit_conclude(audit, report);
    audit_free(audit);
    json_decref(status);
    return verdict;
}

static void test_numbers_of_stages_that_start_or_died_are_taken_for_what_they_are(void **state) {
    char directory[] = "/tmp/audit_XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/ledger", directory);
    const char *last = "{\"in\":110,\"created\":0,\"out\":110,\"filtered\":0,\"late\":0,\"dead\":0,\"dropped\":0,\"held\":0,\"frames\":1}";
    assert_int_equal(file_write_atomic(path, last, strlen(last), 0600, NULL), 0);
    snprintf(path, sizeof path, "%s/m", directory);
    json_t *report;
    assert_int_equal(read_stages(directory, 0, &report), AUDIT_WRONG);           /* a has never run */
    json_decref(report);
    assert_int_equal(metrics_open(path, "ingest", "a", NULL), 0);
    metric_t *in = metrics_add(METRIC_COUNTER, "stream_events_in_total", "", ""), *out = metrics_add(METRIC_COUNTER, "stream_events_out_total", "", "");
    assert_int_equal(read_stages(directory, getpid(), &report), AUDIT_MOVING);   /* it has not said its numbers yet */
    json_decref(report);
    metric_set_counter(in, 100);
    metric_set_counter(out, 100);
    metrics_state(STAGE_READY, NULL);
    assert_int_equal(read_stages(directory, 0, &report), AUDIT_UNKNOWN);
    assert_non_null(strstr(text_of_link(report, 0, "text"), "a was killed"));
    json_decref(report);
    metrics_state(STAGE_FINISHED, NULL);
    assert_int_equal(read_stages(directory, 0, &report), AUDIT_WRONG);
    assert_non_null(strstr(text_of_link(report, 0, "text"), "10 more were received"));
    json_decref(report);
    metric_set_counter(in, 110);
    metric_set_counter(out, 110);
    assert_int_equal(read_stages(directory, 0, &report), AUDIT_BALANCED);
    json_decref(report);
    metric_set_counter(in, 105);       /* it was killed, was started again, and has come so far again */
    metric_set_counter(out, 105);
    metrics_state(STAGE_READY, NULL);
    metric_t *replaying = metrics_add(METRIC_GAUGE, "stream_replaying", "", "");
    metric_set(replaying, 1);
    assert_int_equal(read_stages(directory, getpid(), &report), AUDIT_MOVING);
    assert_non_null(strstr(text_of_link(report, 0, "text"), "processes again"));
    json_decref(report);
    metrics_close();
    unlink(path);
    snprintf(path, sizeof path, "%s/ledger", directory);
    unlink(path);
    rmdir(directory);
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
        cmocka_unit_test(test_last_numbers_of_one_that_was_killed_prove_nothing),
        cmocka_unit_test(test_numbers_of_stages_that_start_or_died_are_taken_for_what_they_are),
        cmocka_unit_test(test_nonsense_is_no_ledger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
