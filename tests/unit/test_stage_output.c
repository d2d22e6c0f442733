/* The skeleton's output: batches, watermarks, back-pressure and drop policies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stage_peer.h"

/* ---- batches ---- */

static void expect_batches(size_t count, const uint32_t *sizes) {
    size_t at = 0;
    for (size_t i = 0; i < out.frames; i++) {
        if (out.frame[i]->end)
            continue;
        assert_true(at < count);
        assert_int_equal(out.frame[i]->events, sizes[at++]);
    }
    assert_int_equal(at, count);
}

static void batches_by_count(void **state) {
    start("source", NULL, out_path, "--events", "10", "--batch-size", "3", "--flush", "1h", NULL);
    open_receiver(&out, out_path);
    expect_status(0);
    expect_batches(4, (uint32_t[]){3, 3, 3, 1});
    assert_int_equal(out.ends, 1);
    assert_true(out.frame[0]->watermark == 3 * NS_PER_MS && out.frame[3]->watermark == 10 * NS_PER_MS);
    assert_true(metric("stream_events_out_total") == 10);
    assert_true(metric("stream_link_events_total") == 10);
}

static void batches_by_bytes(void **state) {
    start("source", NULL, out_path, "--events", "20", "--size", "1000", "--batch-bytes", "5000", "--flush", "1h", NULL);
    open_receiver(&out, out_path);
    expect_status(0);
    expect_batches(4, (uint32_t[]){5, 5, 5, 5});
    for (size_t i = 0; i < 4; i++)
        assert_in_range(out.frame[i]->body_size, 5000, 6200);
}

/* A source that is not full and says nothing more: its batch leaves all the same. */
static void batches_by_time(void **state) {
    start("source", NULL, out_path, "--events", "1", "--hold", "--flush", "10ms", NULL);
    open_receiver(&out, out_path);
    UNTIL(out_has_one);
    assert_int_equal(out.ends, 0);
    kill(run.pid, SIGTERM);
    expect_status(0);
    assert_int_equal(out.ends, 1);
}

static void nothing_at_all_is_an_end_too(void **state) {
    start("source", NULL, out_path, "--events", "0", NULL);
    open_receiver(&out, out_path);
    expect_status(0);
    assert_int_equal(out.events, 0);
    assert_int_equal(out.ends, 1);
}

/* Two streams through one link: no frame's watermark is above an event that is still to come. */
static void watermarks_pass_no_waiting_event(void **state) {
    open_sender(&in, in_path);
    start("relay", in_path, out_path, "--odd", "--batch-size", "3", NULL);
    open_receiver(&out, out_path);
    for (unsigned i = 0; i < 20; i++)
        send_events(&in, 1000 + i * 10, 10, FRAME_NO_WATERMARK);
    link_sender_finish(in.sender, "test", nothing, NULL);
    expect_status(0);
    int64_t watermark = FRAME_NO_WATERMARK;
    size_t odd = 0;
    for (size_t i = 0; i < out.frames; i++) {
        frame_walk_t walk = {0};
        event_t event;
        odd += strcmp(out.frame[i]->topic, "odd") == 0;
        while (frame_next(out.frame[i], &walk, &event) == 1)
            if (event.time <= watermark)
                fail_msg("frame %zu (%s): an event of %lld after a watermark of %lld", i, out.frame[i]->topic,
                         (long long) event.time, (long long) watermark);
        if (out.frame[i]->watermark > watermark)
            watermark = out.frame[i]->watermark;
    }
    assert_true(watermark == 1199 * NS_PER_S);
    assert_true(odd >= 20);
    assert_int_equal(out.events, 200);
}

/* Watermarks alone go on too, when they have moved; whatever a peer sends. */
static void watermarks_go_on_without_events(void **state) {
    static const int64_t marks[] = {INT64_MIN + 1, -5, 0, NS_PER_S, NS_PER_S, NS_PER_S + NS_PER_MS, 2 * NS_PER_S, NS_PER_S, INT64_MAX};
    open_sender(&in, in_path);
    start("relay", in_path, out_path, "--copies", "0", "--watermarks", NULL);
    open_receiver(&out, out_path);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        send_events(&in, 1, 1, marks[i]);
    link_sender_finish(in.sender, "test", nothing, NULL);
    expect_status(0);
    static const int64_t expected[] = {INT64_MIN + 1, -5, NS_PER_S, 2 * NS_PER_S, INT64_MAX};
    size_t n = 0;
    for (size_t i = 0; i < out.frames && !out.frame[i]->end; i++) {
        assert_int_equal(out.frame[i]->events, 0);
        assert_true(n < 5 && out.frame[i]->watermark == expected[n++]);
    }
    assert_int_equal(n, 5);
    assert_int_equal(out.ends, 1);
}

/* More streams in one batch than are kept: none of their events is lost. */
static void very_many_streams(void **state) {
    open_sender(&in, in_path);
    start("relay", in_path, out_path, "--spread", NULL);
    open_receiver(&out, out_path);
    send_events(&in, 0, 1500, FRAME_NO_WATERMARK);
    send_events(&in, 700, 1500, FRAME_NO_WATERMARK);
    link_sender_finish(in.sender, "test", nothing, NULL);
    expect_status(0);
    assert_int_equal(out.events, 3000);
    assert_int_equal(out.frames, 3001);
    for (size_t i = 0; i < out.frames - 1; i++) {
        char topic[32];
        frame_walk_t walk = {0};
        event_t event;
        assert_int_equal(frame_next(out.frame[i], &walk, &event), 1);
        snprintf(topic, sizeof topic, "t%lld", (long long) (event.time / NS_PER_S));
        assert_string_equal(out.frame[i]->topic, topic);
    }
    UNTIL(in_is_durable);
}

static void whole_frames_pass_behind_open_events(void **state) {
    open_sender(&in, in_path);
    start("relay", in_path, out_path, "--pass", NULL);
    open_receiver(&out, out_path);
    send_events(&in, 5, 4, 77 * NS_PER_S);
    link_sender_finish(in.sender, "test", nothing, NULL);
    expect_status(0);
    assert_true(out.frames >= 3);
    assert_string_equal(out.frame[0]->topic, "relay");
    assert_string_equal(out.frame[1]->topic, "test");
    assert_int_equal(out.frame[1]->events, 4);
    assert_true(out.frame[1]->watermark == 77 * NS_PER_S);
    assert_int_equal(out.frame[0]->body_size, out.frame[1]->body_size);
    assert_memory_equal(out.frame[0]->body, out.frame[1]->body, out.frame[0]->body_size);
    assert_true(metric("stream_events_out_total") == 8);
}

static void metrics_that_cannot_be_kept_are_a_failure(void **state) {
    char missing[200];
    snprintf(missing, sizeof missing, "%s/none/metrics", directory);
    start("relay", NULL, NULL, "--metrics", missing, NULL);
    expect_status(EXIT_FAILURE);
    assert_true(tool_says(&run, "/none/metrics: No such file"));
}

/* ---- back-pressure ---- */

static bool outstanding_is_full(void) { return metric("stream_link_outstanding_bytes") >= 65536; }

static void a_source_waits_for_room(void **state) {
    start("source", NULL, out_path, "--events", "3000", "--size", "1000", "--window", "64KiB", "--batch-bytes", "4096", NULL);
    UNTIL(outstanding_is_full);
    wait_a_while();
    double made = metric("stream_events_in_total"); /* nobody receives: no more than the window holds */
    assert_in_range((size_t) made, 50, 90);
    open_receiver(&out, out_path);
    expect_status(0);
    assert_int_equal(out.events, 3000);
    assert_true(metric("stream_events_dropped_total") == 0);
    assert_true(metric("stream_events_out_total") == 3000);
}

static bool in_is_full(void) { return !link_sender_room(in.sender); }

/* Nobody takes the output: the tool takes no more input than its windows hold, and the sender before it fills up. */
static void a_full_output_pauses_inputs(void **state) {
    open_sender(&in, in_path);
    start("relay", in_path, out_path, "--window", "64KiB", NULL);
    uint64_t sent = 0;
    for (int i = 0; i < 100000 && !in_is_full(); i++) {
        send_events(&in, (unsigned) i * 100, 100, FRAME_NO_WATERMARK);
        sent += 100;
        if (i % 50 == 0)
            turn(in_is_full, 4);
    }
    assert_true(in_is_full());
    wait_a_while();
    double taken = metric("stream_events_in_total");
    assert_true(taken > 0 && taken < (double) sent / 2);
    assert_true(metric("stream_link_outstanding_bytes") < 65536 + 300000);
    open_receiver(&out, out_path);
    link_sender_finish(in.sender, "test", nothing, NULL);
    expect_status(0);
    assert_true(out.events == sent);
    assert_true(metric("stream_events_out_total") == (double) sent);
}

/* The same with text: a reader of standard output that does not read. */
static void a_full_pipe_pauses_standard_input(void **state) {
    start("relay", NULL, NULL, "--window", "64KiB", NULL);
    assert_int_equal(fcntl(run.in, F_SETFL, O_NONBLOCK), 0);
    char line[200];
    memset(line, 'x', sizeof line);
    memcpy(line, "{\"a\":\"", 6);
    memcpy(line + sizeof line - 3, "\"}\n", 3);
    size_t sent = 0, quiet = 0;
    while (quiet < 100 && sent < 100000000) { /* full for 100 looks in a row, with time in between */
        ssize_t n = write(run.in, line + sent % sizeof line, sizeof line - sent % sizeof line);
        quiet = n > 0 ? 0 : quiet + 1;
        sent += n > 0 ? (size_t) n : 0;
        if (n <= 0)
            nanosleep(&(struct timespec){.tv_nsec = 5 * NS_PER_MS}, NULL);
    }
    assert_true(sent < 10000000);
    assert_int_equal(fcntl(run.in, F_SETFL, 0), 0);
    while (sent % sizeof line) { /* the rest of the line, while the output is taken again */
        tool_read(&run, 0);
        struct pollfd writable = {run.in, POLLOUT};
        if (poll(&writable, 1, 1) == 1 && write(run.in, line + sent % sizeof line, 1) == 1)
            sent++;
    }
    tool_close_input(&run);
    expect_status(0);
    assert_int_equal(run.text.size, sent);
    for (size_t i = 0; i < sent; i += sizeof line)
        assert_memory_equal(run.text.data + i, line, sizeof line);
}

/* ---- drop policies ---- */

static bool source_is_done(void) { return metric("stream_events_in_total") >= 3000; }

static void drops(const char *policy) {
    start("source", NULL, out_path, "--events", "3000", "--size", "1000", "--window", "64KiB", "--batch-bytes", "4096",
          "--on-full", policy, NULL);
    UNTIL(source_is_done); /* it does not wait, although nobody receives */
    open_receiver(&out, out_path);
    expect_status(0);
    double dropped = metric("stream_events_dropped_total");
    assert_true(dropped > 0);
    assert_true((double) out.events + dropped == 3000);
    assert_true(metric("stream_events_out_total") == (double) out.events);
    assert_true(metric("stream_link_dropped_events_total") == dropped);
    assert_true(out.events >= 40 && out.events <= 200);
    assert_true(tool_says(&run, "dropped "));
    assert_int_equal(out.ends, 1);
}

static int64_t first_number(const frame_t *frame) {
    frame_walk_t walk = {0};
    event_t event;
    value_t value;
    if (frame_next(frame, &walk, &event) != 1 || !pack_map_get(event.record, event.record_size, text_of("n"), &value))
        return -1;
    return value.integer;
}

static void drop_newest_keeps_the_first(void **state) {
    drops("drop_newest");
    assert_int_equal(first_number(out.frame[0]), 1);
    assert_true(first_number(out.frame[out.frames - 2]) < 2000);
}

static void drop_oldest_keeps_the_last(void **state) {
    drops("drop_oldest");
    assert_true(first_number(out.frame[out.frames - 2]) > 2900);
}

int main(int argc, char **argv) {
    int status = tool_main(argc, argv);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        STAGE_TEST(batches_by_count),
        STAGE_TEST(batches_by_bytes),
        STAGE_TEST(batches_by_time),
        STAGE_TEST(nothing_at_all_is_an_end_too),
        STAGE_TEST(watermarks_pass_no_waiting_event),
        STAGE_TEST(watermarks_go_on_without_events),
        STAGE_TEST(very_many_streams),
        STAGE_TEST(whole_frames_pass_behind_open_events),
        STAGE_TEST(metrics_that_cannot_be_kept_are_a_failure),
        STAGE_TEST(a_source_waits_for_room),
        STAGE_TEST(a_full_output_pauses_inputs),
        STAGE_TEST(a_full_pipe_pauses_standard_input),
        STAGE_TEST(drop_newest_keeps_the_first),
        STAGE_TEST(drop_oldest_keeps_the_last),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    link_shutdown();
    return failed;
}
