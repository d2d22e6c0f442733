/* Links inside one process: endpoints, tickets and windows, the queue behind senders, acknowledgements, frames on a byte stream. What
 * happens between processes is in tests/scenario/test_link*.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "data/pack.h"
#include "net/link.h"
#include "net/link_ack.h"
#include "net/link_queue.h"
#include "net/link_stream.h"

#define MS INT64_C(1000000)

static frame_t *make_frame(int64_t number, size_t padding) {
    frame_builder_t builder = {0};
    builder_begin(&builder);
    pack_map(&builder.body, 2);
    pack_text(&builder.body, "n");
    pack_int(&builder.body, number);
    pack_text(&builder.body, "p");
    char *text = mem_zero(padding + 1);
    pack_string(&builder.body, text, padding);
    mem_free(text);
    builder_commit(&builder, 1000, 1000);
    frame_t *frame = builder_take(&builder, "numbers");
    builder_fini(&builder);
    return frame;
}

/* ---- endpoints ---- */

static void endpoints_are_checked_by_form_and_direction(void **state) {
    static const struct {
        const char *endpoint;
        bool sender, receiver;
    } cases[] = {
        {"-", true, true},
        {"-?format=msgpack", true, true},
        {"-?format=xml", false, false},
        {"@-", false, false},
        {"--", false, false},
        {"", false, false},
        {"null:", true, false},
        {"null:x", false, false},
        {"ipc:///tmp/x", true, true},
        {"@ipc:///tmp/x", true, true},
        {">ipc://x", true, true},
        {"@@ipc://x", false, false},
        {"ipc://", false, false},
        {"ipc:///tmp/x?partitions=4", true, false},
        {"ipc:///tmp/x?partitions=4&key=device", true, false},
        {"ipc:///tmp/x?partitions=65", false, false},
        {"ipc:///tmp/x?partitions=0", false, false},
        {"ipc:///tmp/x?key=device", false, false},
        {"ipc:///tmp/x?partition=3", false, true},
        {"ipc:///tmp/x?ack=none", true, true},
        {"ipc:///tmp/x?ack=some", false, false},
        {"tcp://127.0.0.1:5555", true, true},
        {"@tcp://*:5555", true, true},
        {"tcp://[::1]:5555", true, true},
        {"tcp://host", false, false},
        {"tcp://:5555", false, false},
        {"tcp://host:0", false, false},
        {"tcp://host:65534", true, true},
        {"tcp://host:65535", false, false},
        {"tcp://host:65533?partition=1", false, false},
        {"tcp://host:x", false, false},
        {"pub+tcp://*:5555", true, false},
        {"sub+tcp://host:5555?topic=a&topic=b", false, true},
        {"sub+ipc:///tmp/x", false, true},
        {"pub+ipc:///tmp/x?topic=a", false, false},
        {"http://host/", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int sender = 0; sender < 2; sender++) {
            err_t err = {""};
            int result = link_check(cases[i].endpoint, sender, &err);
            if ((result == 0) != (sender ? cases[i].sender : cases[i].receiver))
                fail_msg("%s as %s: %d %s", cases[i].endpoint, sender ? "sender" : "receiver", result, err.text);
            if (result != 0 && !*err.text)
                fail_msg("%s is refused without a reason", cases[i].endpoint);
        }
}

/* ---- a sender and a receiver in one loop ---- */

typedef struct pair {
    loop_t *loop;
    link_sender_t *sender;
    link_receiver_t *receiver;
    char directory[64], endpoint[96];
    int64_t next;                         /* number that is expected */
    bool hold;                            /* acknowledge nothing */
    bool ended, done, room;
    int durable_calls;
    uint64_t dropped;
    frame_t *last;
} pair_t;

static void on_frame(void *argument, link_receiver_t *receiver, frame_t *frame) {
    pair_t *pair = argument;
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1) {
        value_t number;
        assert_true(pack_map_get(event.record, event.record_size, text_of("n"), &number));
        assert_true(number.integer >= pair->next);
        pair->next = number.integer + 1;
    }
    pair->ended = frame->end;
    frame_unref(pair->last);
    pair->last = frame_ref(frame);
    if (!pair->hold)
        link_receiver_durable(receiver, frame);
}

static void on_failed(void *argument, const char *reason) {
    fail_msg("the link failed: %s", reason);
}

static void on_room(void *argument) {
    ((pair_t *) argument)->room = true;
}

static void on_durable(void *argument) {
    ((pair_t *) argument)->durable_calls++;
}

static void on_dropped(void *argument, uint64_t events, const char *reason) {
    ((pair_t *) argument)->dropped += events;
}

static void on_done(void *argument) {
    ((pair_t *) argument)->done = true;
}

static void open_pair(pair_t *pair, uint64_t window, link_full_t full) {
    memset(pair, 0, sizeof *pair);
    pair->loop = loop_new();
    strcpy(pair->directory, "/tmp/linkXXXXXX");
    assert_non_null(mkdtemp(pair->directory));
    snprintf(pair->endpoint, sizeof pair->endpoint, "ipc://%s/x", pair->directory);
    err_t err;
    link_sender_setup_t setup = {.name = "numbers", .origin = "unit", .epoch = 1, .window = window, .full = full, .room = on_room,
                                 .durable = on_durable, .dropped = on_dropped, .failed = on_failed, .argument = pair};
    if (link_sender_open(&pair->sender, pair->loop, pair->endpoint, &setup, &err) != 0)
        fail_msg("%s", err.text);
}

static void open_receiver(pair_t *pair) {
    err_t err;
    link_receiver_setup_t setup = {.name = "numbers", .frame = on_frame, .failed = on_failed, .argument = pair};
    if (link_receiver_open(&pair->receiver, pair->loop, pair->endpoint, &setup, &err) != 0)
        fail_msg("%s", err.text);
}

static void close_pair(pair_t *pair) {
    link_sender_free(pair->sender);
    link_receiver_free(pair->receiver);
    frame_unref(pair->last);
    loop_free(pair->loop);
    link_shutdown();
    assert_int_equal(rmdir(pair->directory), 0);   /* nothing was left in it */
}

typedef struct wait {
    pair_t *pair;
    bool (*condition)(const pair_t *pair);
    int left;
} wait_t;

static void check(void *argument) {
    wait_t *wait = argument;
    if (wait->condition(wait->pair) || --wait->left == 0)
        loop_stop(wait->pair->loop);
}

/* Runs the loop until the condition holds, at most 20 s. */
static void run_until(pair_t *pair, bool (*condition)(const pair_t *pair)) {
    wait_t wait = {pair, condition, 20000};
    loop_watch_t *timer = loop_timer(pair->loop, 0, MS, check, &wait);
    loop_run(pair->loop);
    loop_remove(timer);
    assert_true(condition(pair));
}

static void send(pair_t *pair, int64_t number, size_t padding) {
    frame_t *frame = make_frame(number, padding);
    link_sender_send(pair->sender, frame);
    frame_unref(frame);
}

static void stop(void *argument) {
    loop_stop(((pair_t *) argument)->loop);
}

static bool is_done(const pair_t *pair) { return pair->done; }
static bool has_room(const pair_t *pair) { return pair->room; }
static bool nine_are_durable(const pair_t *pair) { return link_sender_durable(pair->sender) == 9 && pair->durable_calls; }
static bool ten_have_come(const pair_t *pair) { return pair->next == 10; }
static bool hundred_have_come(const pair_t *pair) { return pair->next == 100; }

static void tickets_become_durable_as_frames_are_acknowledged(void **state) {
    pair_t pair;
    open_pair(&pair, 0, LINK_BLOCK);
    open_receiver(&pair);
    pair.hold = true;
    for (int i = 0; i < 10; i++)
        send(&pair, i, 3000);
    assert_int_equal(link_sender_sent(pair.sender), 10);
    assert_int_equal(link_sender_durable(pair.sender), 0);
    run_until(&pair, ten_have_come);
    assert_int_equal(link_sender_durable(pair.sender), 0);
    assert_int_equal(link_sender_stats(pair.sender)->outstanding_frames, 10);
    frame_t earlier = {.epoch = 1, .sequence = 9};
    strcpy(earlier.origin, "unit");
    link_receiver_durable(pair.receiver, &earlier);
    run_until(&pair, nine_are_durable);
    assert_int_equal(pair.durable_calls, 1);
    link_receiver_durable(pair.receiver, pair.last);
    pair.hold = false;
    link_sender_finish(pair.sender, "numbers", on_done, &pair);
    run_until(&pair, is_done);
    assert_true(pair.ended);
    assert_true(link_receiver_ended(pair.receiver));
    assert_int_equal(link_sender_stats(pair.sender)->outstanding_bytes, 0);
    close_pair(&pair);
}

static void a_full_window_is_told_and_room_again(void **state) {
    pair_t pair;
    open_pair(&pair, 100000, LINK_BLOCK);
    int sent = 0;
    while (link_sender_room(pair.sender)) {
        send(&pair, sent++, 9000);
        assert_in_range(sent, 1, 11);
    }
    assert_int_equal(sent, 11);
    assert_true(link_sender_stats(pair.sender)->outstanding_bytes >= 100000);
    assert_false(pair.room);
    open_receiver(&pair);
    run_until(&pair, has_room);
    assert_true(link_sender_room(pair.sender));
    assert_int_equal(pair.dropped, 0);
    close_pair(&pair);
}

static void drop_policies_keep_the_newest_or_the_oldest(void **state) {
    for (int policy = LINK_DROP_OLDEST; policy <= LINK_DROP_NEWEST; policy++) {
        pair_t pair;
        open_pair(&pair, 100000, policy);
        for (int i = 0; i < 100; i++)
            send(&pair, i, 9000);
        assert_int_equal(link_sender_stats(pair.sender)->dropped_frames, 89);
        assert_int_equal(pair.dropped, 89);
        assert_int_equal(link_sender_sent(pair.sender), 100);
        open_receiver(&pair);
        link_sender_finish(pair.sender, "numbers", on_done, &pair);
        run_until(&pair, is_done);
        assert_int_equal(pair.next, policy == LINK_DROP_OLDEST ? 100 : 11);
        assert_int_equal(link_sender_durable(pair.sender), 101);
        assert_int_equal(link_receiver_stats(pair.receiver)->frames, 12);
        close_pair(&pair);
    }
}

static void a_paused_receiver_takes_nothing_until_it_resumes(void **state) {
    pair_t pair;
    open_pair(&pair, 0, LINK_BLOCK);
    open_receiver(&pair);
    for (int i = 0; i < 10; i++)
        send(&pair, i, 10);
    run_until(&pair, ten_have_come);
    link_receiver_pause(pair.receiver);
    for (int i = 10; i < 100; i++)
        send(&pair, i, 10);
    loop_timer(pair.loop, 50 * MS, 0, stop, &pair);
    loop_run(pair.loop);
    assert_int_equal(pair.next, 10);
    link_receiver_resume(pair.receiver);
    run_until(&pair, hundred_have_come);
    assert_int_equal(link_sender_stats(pair.sender)->resent, 0);
    close_pair(&pair);
}

static void a_frame_above_the_limit_is_dropped_and_counted(void **state) {
    pair_t pair;
    open_pair(&pair, 0, LINK_BLOCK);
    open_receiver(&pair);
    for (int i = 0; i < 9; i++)
        send(&pair, i, 10);
    send(&pair, 1000, FRAME_MAX_DEFAULT);
    assert_int_equal(pair.dropped, 1);
    send(&pair, 9, 10);
    run_until(&pair, ten_have_come);
    close_pair(&pair);
}

static void what_is_sent_to_null_is_durable(void **state) {
    pair_t pair = {.loop = loop_new()};
    link_sender_setup_t setup = {.origin = "unit", .durable = on_durable, .argument = &pair};
    assert_int_equal(link_sender_open(&pair.sender, pair.loop, "null:", &setup, NULL), 0);
    send(&pair, 0, 10);
    send(&pair, 1, 10);
    assert_int_equal(link_sender_durable(pair.sender), 2);
    link_sender_finish(pair.sender, "numbers", on_done, &pair);
    run_until(&pair, is_done);
    assert_int_equal(pair.durable_calls, 1);
    assert_int_equal(link_sender_stats(pair.sender)->events, 2);
    link_sender_free(pair.sender);
    loop_free(pair.loop);
}

/* ---- parts ---- */

static void the_queue_keeps_order_through_growth_and_removal(void **state) {
    link_queue_t queue = {0};
    uint64_t pushed = 0, popped = 0;
    srand(3);
    for (int turn = 0; turn < 2000; turn++) {
        for (int i = rand() % 8; i > 0; i--) {
            frame_t *frame = frame_new_end("t");
            link_queue_push(&queue, frame, ++pushed);
            frame_unref(frame);
        }
        for (int i = rand() % 8; i > 0 && queue.count; i--) {
            assert_int_equal(link_queue_at(&queue, 0)->ticket, ++popped);
            link_queue_pop(&queue);
        }
    }
    assert_int_equal(queue.count, pushed - popped);
    assert_int_equal(queue.bytes, queue.count * LINK_FRAME_COST);
    while (queue.count > 3)
        link_queue_pop(&queue);
    for (int i = 0; queue.count < 6; i++) {
        frame_t *frame = frame_new_end("t");
        link_queue_push(&queue, frame, 1000000 + (uint64_t) i);
        frame_unref(frame);
    }
    link_queue_remove(&queue, 4);
    link_queue_remove(&queue, 0);
    assert_int_equal(link_queue_at(&queue, 2)->ticket, 1000000);
    assert_int_equal(link_queue_at(&queue, 3)->ticket, 1000002);
    link_queue_fini(&queue);
}

static void acknowledgements_pass_and_false_ones_do_not(void **state) {
    link_ack_t ack = {.receiver = 7, .origin = text_of("host/x"), .epoch = 9, .received = 5, .durable = 4, .attempt = 2, .again = true}, read;
    err_t err;
    buf_t out = {0};
    link_ack_put(&out, &ack);
    assert_int_equal(link_ack_read(&read, text_make((char *) out.data, out.size), &err), 0);
    assert_true(read.receiver == 7 && read.epoch == 9 && read.received == 5 && read.durable == 4 && read.attempt == 2);
    assert_true(read.again && !read.paused && !read.idle && text_is(read.origin, "host/x"));
    for (size_t size = 0; size < out.size; size++)
        assert_int_equal(link_ack_read(&read, text_make((char *) out.data, size), &err), -1);
    buf_clear(&out);
    link_ack_put(&out, &(link_ack_t){.receiver = 3, .paused = true});
    assert_int_equal(link_ack_read(&read, text_make((char *) out.data, out.size), &err), 0);
    assert_true(read.receiver == 3 && read.origin.size == 0 && read.paused);
    ack.durable = 6;
    buf_clear(&out);
    link_ack_put(&out, &ack);
    assert_int_equal(link_ack_read(&read, text_make((char *) out.data, out.size), &err), -1);
    buf_clear(&out);
    link_ack_put(&out, &(link_ack_t){.receiver = 0});
    assert_int_equal(link_ack_read(&read, text_make((char *) out.data, out.size), &err), -1);
    buf_fini(&out);
}

static void put_stream_frame(buf_t *out, int64_t number) {
    frame_t *frame = make_frame(number, 300);
    frame_number_t head = {.origin = "o", .epoch = 1, .sequence = (uint64_t) number, .lowest = 1};
    pack_array(out, 3);
    pack_text(out, frame->topic);
    frame_put_header(out, frame, &head);
    pack_binary(out, frame->body, frame->body_size);
    frame_unref(frame);
}

static void a_byte_stream_is_cut_into_frames_wherever_it_is_torn(void **state) {
    buf_t stream = {0};
    for (int i = 1; i <= 3; i++)
        put_stream_frame(&stream, i);
    size_t at = 0, known = 0;
    uint64_t found = 0;
    while (at < stream.size) {
        frame_t *frame;
        err_t err;
        known += known < stream.size;
        ssize_t size = link_stream_read(stream.data + at, known - at, 1000, &frame, &err);
        assert_true(size >= 0);
        if (!size)
            continue;
        assert_non_null(frame);
        assert_int_equal(frame->sequence, ++found);
        assert_int_equal(frame_verify(frame, &err), 0);
        frame_unref(frame);
        at += (size_t) size;
        assert_int_equal(at, known);      /* it was whole with its last byte, not before */
    }
    assert_int_equal(found, 3);
    buf_fini(&stream);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoints_are_checked_by_form_and_direction),
        cmocka_unit_test(tickets_become_durable_as_frames_are_acknowledged),
        cmocka_unit_test(a_full_window_is_told_and_room_again),
        cmocka_unit_test(drop_policies_keep_the_newest_or_the_oldest),
        cmocka_unit_test(a_paused_receiver_takes_nothing_until_it_resumes),
        cmocka_unit_test(a_frame_above_the_limit_is_dropped_and_counted),
        cmocka_unit_test(what_is_sent_to_null_is_durable),
        cmocka_unit_test(the_queue_keeps_order_through_growth_and_removal),
        cmocka_unit_test(acknowledgements_pass_and_false_ones_do_not),
        cmocka_unit_test(a_byte_stream_is_cut_into_frames_wherever_it_is_torn),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
