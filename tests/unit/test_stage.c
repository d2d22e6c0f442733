/* The skeleton from its start to its end: readiness, failures, orderly and abrupt ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "stage_peer.h"

/* ---- readiness ---- */

static char ready_argument[16];

static int open_ready(int ends[2]) {
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int given = fcntl(ends[1], F_DUPFD, 100); /* this one is inherited */
    close(ends[1]);
    snprintf(ready_argument, sizeof ready_argument, "%d", given);
    return given;
}

/* What comes through the descriptor until its end. */
static size_t ready_bytes(int ends[2], int given, char *text) {
    close(given);
    size_t size = 0;
    ssize_t n;
    while (size < 15 && (n = read(ends[0], text + size, 15 - size)) > 0)
        size += (size_t) n;
    text[size] = 0;
    close(ends[0]);
    return size;
}

static void a_newline_says_ready(void **state) {
    char text[16];
    int ends[2], given = open_ready(ends);
    start("relay", NULL, NULL, "--ready-fd", ready_argument, NULL);
    assert_int_equal(ready_bytes(ends, given, text), 1); /* and the descriptor is closed, though the tool runs */
    assert_string_equal(text, "\n");
    UNTIL(is_ready);
    tool_close_input(&run);
    expect_status(0);
    assert_int_equal(tool_state(), STAGE_FINISHED);
}

static void ready_when_the_tool_says_so(void **state) {
    char text[16];
    int ends[2], given = open_ready(ends);
    start("relay", NULL, NULL, "--later", "--ready-fd", ready_argument, NULL);
    close(given);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    wait_a_while();
    assert_int_equal(read(ends[0], text, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(tool_state(), STAGE_STARTING);
    assert_int_equal(write(run.in, "{\"a\":1}\n", 8), 8);
    UNTIL(is_ready);
    assert_int_equal(fcntl(ends[0], F_SETFL, 0), 0);
    assert_int_equal(read(ends[0], text, 2), 1);
    close(ends[0]);
    tool_close_input(&run);
    expect_status(0);
}

static void a_failed_start_is_not_ready(void **state) {
    static const char *const options[] = {"--fail-start", "--fail-later"};
    for (int i = 0; i < 2; i++) {
        char text[16];
        int ends[2], given = open_ready(ends);
        start("relay", NULL, NULL, options[i], "--ready-fd", ready_argument, NULL);
        assert_int_equal(ready_bytes(ends, given, text), 0);
        expect_status(EXIT_FAILURE);
        assert_int_equal(tool_state(), STAGE_FAILED);
        tool_run_fini(&run);
    }
}

static void a_bad_descriptor_for_ready_is_survived(void **state) {
    start("relay", NULL, NULL, "--ready-fd", "999", NULL);
    tool_close_input(&run);
    expect_status(0);
    assert_true(tool_says(&run, "--ready-fd 999: Bad file descriptor"));
}

/* ---- text through ---- */

static void text_goes_through_and_is_counted(void **state) {
    start("relay", NULL, NULL, "--copies", "2", "--name", "hot", NULL);
    const char input[] = "{\"a\":1}\n\n{\"a\":2}\nnonsense\n{\"a\":3}";
    assert_int_equal(write(run.in, input, sizeof input - 1), sizeof input - 1);
    tool_close_input(&run);
    expect_status(0);
    assert_string_equal(tool_text(&run), "{\"a\":1}\n{\"a\":1}\n{\"a\":2}\n{\"a\":2}\n{\"a\":3}\n{\"a\":3}\n");
    assert_true(metric("stream_events_in_total") == 4);
    assert_true(metric("stream_events_out_total") == 6);
    assert_true(metric("stream_events_dead_total") == 1);
    metrics_snapshot_t snapshot;
    assert_true(read_metrics(&snapshot));
    assert_string_equal(snapshot.tool, "relay");
    assert_string_equal(snapshot.name, "hot");
    assert_int_equal(metrics_find(&snapshot, "stream_latency_seconds")->count, 3);
    metrics_snapshot_fini(&snapshot);
}

static void a_closed_reader_is_a_failure(void **state) {
    start("relay", NULL, NULL, NULL);
    close(run.out);
    run.out = -1;
    if (write(run.in, "{\"a\":1}\n", 8) != 8)
        fail();
    expect_status(EXIT_FAILURE); /* although its input is still open */
    assert_true(tool_says(&run, "standard output was closed"));
    assert_false(tool_says(&run, " error ")); /* it may have had enough */
    assert_int_equal(tool_state(), STAGE_FAILED);
}

static void a_path_in_use_is_a_failure(void **state) {
    open_sender(&in, out_path);
    start("source", NULL, out_path, NULL);
    expect_status(EXIT_FAILURE);
    assert_true(tool_says(&run, out_path));
}

/* ---- ends ---- */

static bool has_all_lines(void) { return run.text.size >= 8 * 1000; }

static void term_drains_and_ends(void **state) {
    out.hold = true;
    start("relay", NULL, out_path, NULL);
    open_receiver(&out, out_path);
    assert_int_equal(file_write_all(run.in, "{\"a\":1}\n", 8, NULL), 0);
    UNTIL(out_has_one);
    kill(run.pid, SIGTERM); /* its input is still open */
    UNTIL(is_draining);
    UNTIL(out_ended);
    assert_int_equal(tool_state(), STAGE_DRAINING); /* until the end is acknowledged */
    release(&out, out.frames);
    expect_status(0);
    assert_int_equal(tool_state(), STAGE_FINISHED);
    assert_int_equal(out.events, 1);
    assert_string_equal(out.frame[out.frames - 1]->topic, "relay");
}

static void interrupts_are_taken_alike(void **state) {
    start("relay", NULL, NULL, NULL);
    buf_t lines = {0};
    for (int i = 0; i < 1000; i++)
        buf_put_text(&lines, "{\"a\":1}\n");
    assert_int_equal(file_write_all(run.in, lines.data, lines.size, NULL), 0);
    buf_fini(&lines);
    UNTIL(has_all_lines);
    kill(run.pid, SIGINT);
    expect_status(0);
    assert_int_equal(run.text.size, 8000);
}

static void a_second_term_leaves_at_once(void **state) {
    start("source", NULL, out_path, "--events", "100", NULL); /* nobody receives: without the second it stays for ever */
    UNTIL(is_draining);
    kill(run.pid, SIGTERM);
    wait_a_while();
    assert_true(tool_read(&run, 0)); /* still there */
    kill(run.pid, SIGTERM);
    expect_status(EXIT_FAILURE);
    assert_true(tool_says(&run, "second SIGTERM: leaving at once"));
}

static void a_tool_that_does_not_finish_is_left_too(void **state) {
    start("relay", NULL, NULL, "--never-finish", NULL);
    UNTIL(is_ready);
    kill(run.pid, SIGINT);
    UNTIL(is_draining);
    kill(run.pid, SIGINT);
    expect_status(EXIT_FAILURE);
    assert_true(tool_says(&run, "second SIGINT"));
}

static void draining_has_a_limit(void **state) {
    start("relay", NULL, out_path, "--drain-limit", "200ms", NULL);
    assert_int_equal(file_write_all(run.in, "{\"a\":1}\n", 8, NULL), 0);
    UNTIL(is_ready);
    kill(run.pid, SIGTERM);
    expect_status(EXIT_FAILURE);
    assert_true(tool_says(&run, "within --drain-limit 200ms"));
    assert_int_equal(tool_state(), STAGE_FAILED);
}

/* A source that is through waits for its receiver as long as that takes; a TERM sets the limit. */
static void waiting_at_the_own_end_has_no_limit_until_term(void **state) {
    start("source", NULL, out_path, "--events", "10", "--drain-limit", "50ms", NULL);
    UNTIL(is_draining);
    wait_a_while();
    assert_true(tool_read(&run, 0));
    kill(run.pid, SIGTERM);
    expect_status(EXIT_FAILURE);
    assert_true(tool_says(&run, "--drain-limit 50ms"));
}

static void stay_outlives_its_inputs(void **state) {
    start("relay", NULL, NULL, "--stay", NULL);
    assert_int_equal(file_write_all(run.in, "{\"a\":1}\n", 8, NULL), 0);
    tool_close_input(&run);
    UNTIL(is_ready);
    wait_a_while();
    assert_true(tool_read(&run, 0));
    assert_int_equal(tool_state(), STAGE_READY);
    kill(run.pid, SIGTERM);
    expect_status(0);
    assert_string_equal(tool_text(&run), "{\"a\":1}\n");
}

static void all_inputs_must_end(void **state) {
    open_sender(&in, in_path);
    start("relay", in_path, NULL, "--from", "-", NULL);
    send_events(&in, 1, 1, FRAME_NO_WATERMARK);
    assert_int_equal(file_write_all(run.in, "{\"n\":2}\n", 8, NULL), 0);
    tool_close_input(&run);
    wait_a_while();
    assert_true(tool_read(&run, 0));
    link_sender_finish(in.sender, "test", nothing, NULL);
    expect_status(0);
    assert_non_null(strstr(tool_text(&run), "\"n\":1"));
    assert_non_null(strstr(tool_text(&run), "\"n\":2"));
}

static void every_output_gets_the_end(void **state) {
    char *second = IPC(out2_path);
    start("source", NULL, out_path, "--to", second, "--to", "null:", "--events", "50", NULL);
    mem_free(second);
    open_receiver(&out, out_path);
    open_receiver(&out2, out2_path);
    expect_status(0);
    assert_int_equal(out.events, 50);
    assert_int_equal(out2.events, 50);
    assert_int_equal(out.ends + out2.ends, 2);
    assert_true(metric("stream_events_out_total") == 50);
}

int main(int argc, char **argv) {
    int status = tool_main(argc, argv);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        STAGE_TEST(a_newline_says_ready),
        STAGE_TEST(ready_when_the_tool_says_so),
        STAGE_TEST(a_failed_start_is_not_ready),
        STAGE_TEST(a_bad_descriptor_for_ready_is_survived),
        STAGE_TEST(text_goes_through_and_is_counted),
        STAGE_TEST(a_closed_reader_is_a_failure),
        STAGE_TEST(a_path_in_use_is_a_failure),
        STAGE_TEST(term_drains_and_ends),
        STAGE_TEST(interrupts_are_taken_alike),
        STAGE_TEST(a_second_term_leaves_at_once),
        STAGE_TEST(a_tool_that_does_not_finish_is_left_too),
        STAGE_TEST(draining_has_a_limit),
        STAGE_TEST(waiting_at_the_own_end_has_no_limit_until_term),
        STAGE_TEST(stay_outlives_its_inputs),
        STAGE_TEST(all_inputs_must_end),
        STAGE_TEST(every_output_gets_the_end),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    link_shutdown();
    return failed;
}
