/* The skeleton's input: frames are acknowledged as durable when, and only when, all they caused is durable downstream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stage_peer.h"

static bool out_has_all(void) { return out.events >= 30; }
static bool in_is_at_one(void) { return link_sender_durable(in.sender) >= 1; }

static void inputs_are_durable_only_after_outputs(void **state) {
    out.hold = true;
    open_sender(&in, in_path);
    start("relay", in_path, out_path, NULL);
    open_receiver(&out, out_path);
    for (unsigned i = 0; i < 3; i++)
        send_events(&in, i * 10, 10, FRAME_NO_WATERMARK);
    UNTIL(out_has_all);
    wait_a_while();
    assert_int_equal(link_sender_durable(in.sender), 0);
    assert_int_equal(out.frames, 3); /* each input's output is a frame, not left in a batch */
    release(&out, 1);
    UNTIL(in_is_at_one);
    wait_a_while();
    assert_int_equal(link_sender_durable(in.sender), 1);
    release(&out, 3);
    UNTIL(in_is_durable);
    out.hold = false;
    link_sender_finish(in.sender, "test", nothing, NULL);
    expect_status(0);
    UNTIL(in_is_durable);
}

static bool outs_have_all(void) { return out.events >= 30 && out2.events >= 30; }

static void with_two_outputs_both_count(void **state) {
    out.hold = out2.hold = true;
    open_sender(&in, in_path);
    char *second = IPC(out2_path);
    start("relay", in_path, out_path, "--to", second, NULL);
    mem_free(second);
    open_receiver(&out, out_path);
    open_receiver(&out2, out2_path);
    for (unsigned i = 0; i < 3; i++)
        send_events(&in, i * 10, 10, FRAME_NO_WATERMARK);
    UNTIL(outs_have_all);
    release(&out, 3);
    wait_a_while();
    assert_int_equal(link_sender_durable(in.sender), 0);
    release(&out2, 1);
    UNTIL(in_is_at_one);
    assert_int_equal(link_sender_durable(in.sender), 1);
    release(&out2, 3);
    UNTIL(in_is_durable);
    out.hold = out2.hold = false;
    link_sender_finish(in.sender, "test", nothing, NULL);
    UNTIL(out2_ended);
    expect_status(0);
}

/* What makes no output is durable at once; but not before what came before it. */
static void filtered_inputs_wait_for_those_before(void **state) {
    out.hold = true;
    open_sender(&in, in_path);
    start("relay", in_path, out_path, "--dead-field", "n", NULL); /* all are dead letters */
    open_receiver(&out, out_path);
    for (unsigned i = 0; i < 200; i++)
        send_events(&in, i * 10, 10, FRAME_NO_WATERMARK);
    UNTIL(in_is_durable);
    assert_int_equal(out.events, 0);
    assert_true(metric("stream_events_dead_total") <= 2000);
    link_sender_finish(in.sender, "test", nothing, NULL);
    UNTIL(out_ended);
    release(&out, out.frames);
    expect_status(0);
    assert_true(metric("stream_events_dead_total") == 2000);
}

static void a_sink_acknowledges_by_hand(void **state) {
    open_sender(&in, in_path);
    start("sink", in_path, NULL, "--manual", NULL);
    send_events(&in, 0, 10, FRAME_NO_WATERMARK);
    send_events(&in, 10, 10, FRAME_NO_WATERMARK);
    UNTIL(in_is_at_one);
    wait_a_while();
    assert_int_equal(link_sender_durable(in.sender), 1); /* the second waits for its successor */
    link_sender_finish(in.sender, "test", nothing, NULL);
    UNTIL(in_is_durable);
    expect_status(0);
}

static void a_receiver_that_dies_costs_nothing(void **state) {
    out.hold = true;
    open_sender(&in, in_path);
    start("relay", in_path, out_path, NULL);
    open_receiver(&out, out_path);
    for (unsigned i = 0; i < 3; i++)
        send_events(&in, i * 10, 10, FRAME_NO_WATERMARK);
    UNTIL(out_has_all);
    link_receiver_free(out.receiver); /* with all of it, and nothing acknowledged as durable */
    out.receiver = NULL;
    out.events = 0;
    out.hold = false;
    open_receiver(&out, out_path);
    UNTIL(out_has_all);
    UNTIL(in_is_durable);
    link_sender_finish(in.sender, "test", nothing, NULL);
    expect_status(0);
    assert_int_equal(out.events, 30);
}

int main(int argc, char **argv) {
    int status = tool_main(argc, argv);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        STAGE_TEST(inputs_are_durable_only_after_outputs),
        STAGE_TEST(with_two_outputs_both_count),
        STAGE_TEST(filtered_inputs_wait_for_those_before),
        STAGE_TEST(a_sink_acknowledges_by_hand),
        STAGE_TEST(a_receiver_that_dies_costs_nothing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    link_shutdown();
    return failed;
}
