/* Links with a durable log inside one process: what a sender keeps in memory, what it tells of the log, how a receiver holds, refuses and goes on
 * where it stood. Kills and power cuts are in tests/scenario/test_link_spool.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "net/link.h"
#include "net/link_feed.h"

#define MS INT64_C(1000000)
#define PADDING 1000

typedef struct pair {
    loop_t *loop;
    spool_t *spool;
    link_sender_t *sender;
    link_receiver_t *receiver;
    char directory[64], endpoint[96];
    uint64_t taken, refuse, stable, stable_epoch, goal;    /* taken: number of the last frame that came */
    unsigned frames, stables, hurries;
    bool hold, done, ended;                /* hold: acknowledge nothing as durable */
} pair_t;

static frame_t *make_frame(void) {
    static char padding[PADDING];
    frame_builder_t builder = {0};
    builder_begin(&builder);
    pack_map(&builder.body, 1);
    pack_text(&builder.body, "p");
    pack_string(&builder.body, padding, sizeof padding);
    builder_commit(&builder, 1000, 1000);
    frame_t *frame = builder_take(&builder, "t");
    builder_fini(&builder);
    return frame;
}

static void nothing(void *argument) {
}

static void open_spool(pair_t *pair, uint64_t limit) {
    char *path = mem_format("%s/spool", pair->directory);
    spool_setup_t setup = {.loop = pair->loop, .directory = path, .name = "unit", .sync = SPOOL_NONE, .limit = limit, .written = nothing};
    err_t err;
    if (spool_open(&pair->spool, &setup, &err) != 0)
        fail_msg("%s", err.text);
    mem_free(path);
}

/* Adds frames to the spool. tell: hands them to the sender one by one, as their owner does. */
static void add(pair_t *pair, int count, bool tell) {
    for (int i = 0; i < count; i++) {
        uint64_t number;
        frame_t *frame = make_frame();
        spool_begin(pair->spool);
        spool_add(pair->spool, (text_t){0}, frame, &number);
        spool_commit(pair->spool);
        if (tell)
            link_sender_written(pair->sender, frame, number);
        frame_unref(frame);
    }
}

static void add_end(pair_t *pair) {
    frame_t *end = frame_new_end("t");
    spool_begin(pair->spool);
    spool_add(pair->spool, (text_t){0}, end, NULL);
    spool_commit(pair->spool);
    link_sender_written(pair->sender, NULL, 0);
    frame_unref(end);
}

static void on_failed(void *argument, const char *reason) {
    fail_msg("the link failed: %s", reason);
}

static void open_sender(pair_t *pair, const char *endpoint, uint64_t window) {
    link_sender_setup_t setup = {.name = "t", .window = window, .spool = pair->spool, .failed = on_failed, .argument = pair};
    err_t err;
    if (link_sender_open(&pair->sender, pair->loop, endpoint ? endpoint : pair->endpoint, &setup, &err) != 0)
        fail_msg("%s", err.text);
}

static void on_frame(void *argument, link_receiver_t *receiver, frame_t *frame) {
    pair_t *pair = argument;
    assert_int_equal(frame->sequence, pair->taken + 1);
    assert_true(frame->end || (frame->events == 1 && frame->body_size > PADDING));
    pair->taken = frame->sequence;
    pair->frames++;
    pair->ended = frame->end;
    if (!pair->hold)
        link_receiver_durable(receiver, frame);
}

static bool on_take(void *argument, link_receiver_t *receiver, const frame_t *frame) {
    return frame->sequence != ((pair_t *) argument)->refuse;
}

static void on_stable(void *argument, link_receiver_t *receiver, const char *origin, uint64_t epoch, uint64_t number) {
    pair_t *pair = argument;
    assert_true(number > pair->stable);
    assert_string_equal(origin, spool_identity(pair->spool)->origin);
    pair->stable = number;
    pair->stable_epoch = epoch;
    pair->stables++;
}

static void on_hurry(void *argument, link_receiver_t *receiver) {
    ((pair_t *) argument)->hurries++;
}

static void on_done(void *argument) {
    ((pair_t *) argument)->done = true;
}

static void open_receiver(pair_t *pair) {
    link_receiver_setup_t setup = {.name = "t", .frame = on_frame, .take = on_take, .stable = on_stable, .hurry = on_hurry, .failed = on_failed,
                                   .argument = pair};
    err_t err;
    if (link_receiver_open(&pair->receiver, pair->loop, pair->endpoint, &setup, &err) != 0)
        fail_msg("%s", err.text);
}

static void begin(pair_t *pair, uint64_t limit) {
    memset(pair, 0, sizeof *pair);
    pair->loop = loop_new();
    strcpy(pair->directory, "/tmp/linkXXXXXX");
    assert_non_null(mkdtemp(pair->directory));
    snprintf(pair->endpoint, sizeof pair->endpoint, "ipc://%s/x", pair->directory);
    open_spool(pair, limit);
}

static void finish(pair_t *pair) {
    link_sender_free(pair->sender);
    link_receiver_free(pair->receiver);
    spool_close(pair->spool);
    loop_free(pair->loop);
    link_shutdown();
    char *command = mem_format("rm -r %s", pair->directory);
    assert_int_equal(system(command), 0);
    mem_free(command);
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

static void run_until(pair_t *pair, bool (*condition)(const pair_t *pair)) {
    wait_t wait = {pair, condition, 20000};
    loop_watch_t *timer = loop_timer(pair->loop, 0, MS, check, &wait);
    loop_run(pair->loop);
    loop_remove(timer);
    assert_true(condition(pair));
}

static void stop(void *argument) {
    loop_stop(argument);
}

static void run_for(pair_t *pair, int64_t time) {
    loop_timer(pair->loop, time, 0, stop, pair->loop);
    loop_run(pair->loop);
}

static bool goal_is_taken(const pair_t *pair) { return pair->taken == pair->goal; }
static bool goal_is_durable(const pair_t *pair) { return link_sender_durable(pair->sender) == pair->goal; }
static bool goal_is_stable(const pair_t *pair) { return pair->stable == pair->goal; }
static bool is_done(const pair_t *pair) { return pair->done; }
static bool is_hurried(const pair_t *pair) { return pair->hurries > 0; }

static void run_to(pair_t *pair, uint64_t goal, bool (*condition)(const pair_t *pair)) {
    pair->goal = goal;
    run_until(pair, condition);
}

/* ---- senders ---- */

static void only_what_is_under_way_is_in_memory(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    add(&pair, 300, false);               /* an earlier run's */
    open_sender(&pair, NULL, 20000);
    assert_true(link_sender_room(pair.sender));
    assert_int_equal(link_sender_sent(pair.sender), 300);
    add(&pair, 300, true);
    run_for(&pair, 5 * MS);
    assert_true(link_sender_stats(pair.sender)->outstanding_bytes < 20000 + 2 * PADDING);
    assert_true(link_sender_quiet(pair.sender));      /* nobody is there */
    open_receiver(&pair);
    pair.hold = true;
    run_to(&pair, 600, goal_is_taken);
    assert_false(link_sender_quiet(pair.sender));
    assert_int_equal(link_sender_durable(pair.sender), 0);
    link_receiver_durable(pair.receiver, &(frame_t){0});      /* of nobody: ignored */
    frame_t some = {.epoch = spool_identity(pair.spool)->epoch, .sequence = 555};
    strcpy(some.origin, spool_identity(pair.spool)->origin);
    link_receiver_durable(pair.receiver, &some);
    run_to(&pair, 555, goal_is_durable);
    run_for(&pair, 20 * MS);              /* counts follow at the end of a round */
    assert_int_equal(link_sender_stats(pair.sender)->outstanding_frames, 45);
    assert_int_equal(link_sender_stats(pair.sender)->outstanding_bytes, 0);      /* all was received */
    pair.hold = false;
    add_end(&pair);
    link_sender_finish(pair.sender, "t", on_done, &pair);
    run_until(&pair, is_done);
    assert_true(pair.ended && link_receiver_ended(pair.receiver));
    assert_true(link_sender_quiet(pair.sender));
    assert_int_equal(link_sender_durable(pair.sender), 601);
    assert_int_equal(link_sender_stats(pair.sender)->resent, 0);
    finish(&pair);
}

static void frames_of_a_group_go_as_they_are_told(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    open_sender(&pair, NULL, 0);
    open_receiver(&pair);
    frame_t *frames[4];
    uint64_t numbers[4];
    spool_begin(pair.spool);
    for (int i = 0; i < 4; i++)
        spool_add(pair.spool, (text_t){0}, frames[i] = make_frame(), &numbers[i]);
    spool_commit(pair.spool);
    run_for(&pair, 20 * MS);
    assert_int_equal(pair.taken, 0);      /* written, but not told yet */
    link_sender_written(pair.sender, frames[0], numbers[0]);
    link_sender_written(pair.sender, frames[1], numbers[1]);
    run_to(&pair, 2, goal_is_taken);
    link_sender_written(pair.sender, frames[2], 99);          /* a number that is not written: all that is */
    run_to(&pair, 4, goal_is_durable);
    for (int i = 0; i < 4; i++)
        frame_unref(frames[i]);
    finish(&pair);
}

static void a_sender_started_again_goes_on_where_the_receiver_is(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    open_sender(&pair, NULL, 0);
    open_receiver(&pair);
    pair.hold = true;
    add(&pair, 100, true);
    run_to(&pair, 100, goal_is_taken);
    link_sender_free(pair.sender);
    spool_close(pair.spool);
    open_spool(&pair, 1 << 30);
    open_sender(&pair, NULL, 0);
    pair.hold = false;
    add(&pair, 10, true);
    run_to(&pair, 110, goal_is_durable);
    assert_int_equal(pair.frames, 110);
    finish(&pair);
}

static void what_is_stable_is_told_with_frames_and_without(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    open_sender(&pair, NULL, 0);
    open_receiver(&pair);
    add(&pair, 10, true);
    run_to(&pair, 10, goal_is_taken);
    assert_int_equal(pair.stables, 0);
    link_sender_stable(pair.sender, 7);
    run_to(&pair, 7, goal_is_stable);     /* no frame was there to carry it */
    assert_true(pair.stable_epoch == spool_identity(pair.spool)->epoch);
    link_sender_stable(pair.sender, 6);   /* never back */
    link_receiver_pause(pair.receiver);
    link_sender_stable(pair.sender, 9);
    run_to(&pair, 9, goal_is_stable);     /* while paused, too */
    add(&pair, 5, true);
    link_sender_stable(pair.sender, 12);  /* behind what was taken */
    run_to(&pair, 12, goal_is_stable);
    assert_int_equal(pair.taken, 10);
    link_receiver_resume(pair.receiver);
    run_to(&pair, 15, goal_is_durable);
    finish(&pair);
}

static void a_log_half_full_is_told(void **state) {
    pair_t pair;
    begin(&pair, 4 << 20);
    open_sender(&pair, NULL, 0);
    open_receiver(&pair);
    pair.hold = true;
    while (spool_bytes(pair.spool) < 1 << 20)
        add(&pair, 1, true);
    run_to(&pair, spool_number(pair.spool), goal_is_taken);
    assert_int_equal(pair.hurries, 0);
    while (spool_bytes(pair.spool) <= 5 << 19)
        add(&pair, 1, true);
    run_until(&pair, is_hurried);
    finish(&pair);
}

static void frames_given_up_and_frames_damaged_are_passed_over(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    add(&pair, 50, false);
    char *path = mem_format("%s/spool/0000000000000001.seg", pair.directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    char noise[4] = {7, 7, 7, 7};
    assert_int_equal(pwrite(fd, noise, sizeof noise, 20 * PADDING), sizeof noise);
    close(fd);
    mem_free(path);
    spool_release(pair.spool, 5, 5);
    assert_int_equal(spool_lowest(pair.spool), 6);
    link_feed_t feed;
    link_feed_init(&feed, pair.spool, 1, 0);
    uint64_t number, last = 5, missing = 0;
    frame_t *frame;
    bool direct;
    link_feed_seek(&feed, 6);
    for (link_feed_result_t got; (got = link_feed_take(&feed, false, &frame, &number, &direct)) != LINK_FEED_NONE;) {
        if (got == LINK_FEED_GAP) {
            missing = last + 1;
            assert_int_equal(link_feed_take(&feed, true, &frame, &number, &direct), LINK_FEED_FRAME);
            assert_int_equal(number, missing + 1);
            assert_int_equal(feed.floor, number);
        } else
            assert_int_equal(number, last + 1);
        frame_unref(frame);
        last = number;
    }
    assert_int_equal(last, 50);
    assert_in_range(missing, 15, 25);
    link_feed_fini(&feed);
    finish(&pair);
}

static void feed_add(pair_t *pair, link_feed_t *feed, int count) {
    for (int i = 0; i < count; i++) {
        uint64_t number;
        frame_t *frame = make_frame();
        spool_begin(pair->spool);
        spool_add(pair->spool, (text_t){0}, frame, &number);
        spool_commit(pair->spool);
        link_feed_written(feed, frame, number);
        frame_unref(frame);
    }
}

/* Takes frames `first` to `last`, and says how many of them were in memory: those at the front. */
static unsigned feed_take(link_feed_t *feed, uint64_t first, uint64_t last) {
    unsigned kept = 0;
    for (uint64_t expected = first; expected <= last; expected++) {
        uint64_t number;
        frame_t *frame;
        bool direct;
        assert_int_equal(link_feed_take(feed, false, &frame, &number, &direct), LINK_FEED_FRAME);
        assert_int_equal(number, expected);
        assert_true(frame->events == 1 && frame->body_size > PADDING);
        assert_true(!direct || kept == expected - first);
        kept += direct;
        frame_unref(frame);
    }
    return kept;
}

static void some_frames_wait_in_memory_and_the_rest_is_read_back(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    link_feed_t feed;
    link_feed_init(&feed, pair.spool, 1, 8 * PADDING);
    assert_false(link_feed_behind(&feed, false));
    feed_add(&pair, &feed, 2);
    assert_false(link_feed_behind(&feed, false));
    feed_add(&pair, &feed, 28);
    assert_true(link_feed_behind(&feed, false));
    unsigned kept = feed_take(&feed, 1, 20);
    assert_in_range(kept, 3, 8);
    assert_true(link_feed_behind(&feed, true));           /* the next are on disk */
    feed_add(&pair, &feed, 1);
    assert_int_equal(feed_take(&feed, 21, 31), 0);        /* nor is kept what comes behind them */
    assert_false(link_feed_behind(&feed, true));
    feed_add(&pair, &feed, 3);
    assert_false(link_feed_behind(&feed, false));
    assert_int_equal(feed_take(&feed, 32, 34), 3);
    feed_add(&pair, &feed, 3);
    link_feed_seek(&feed, 36);
    assert_int_equal(feed_take(&feed, 36, 36), 1);
    link_feed_seek(&feed, 34);
    assert_int_equal(feed_take(&feed, 34, 37), 0);
    link_feed_fini(&feed);
    finish(&pair);
}

static void what_was_given_up_is_not_given_from_memory(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    link_feed_t feed;
    link_feed_init(&feed, pair.spool, 1, 1 << 20);
    feed_add(&pair, &feed, 5);
    spool_release(pair.spool, 3, 3);
    uint64_t number;
    frame_t *frame;
    bool direct;
    assert_int_equal(link_feed_take(&feed, false, &frame, &number, &direct), LINK_FEED_GAP);
    assert_int_equal(link_feed_take(&feed, true, &frame, &number, &direct), LINK_FEED_FRAME);
    assert_int_equal(number, 4);
    assert_int_equal(feed.floor, 4);
    frame_unref(frame);
    assert_int_equal(feed_take(&feed, 5, 5), 1);
    link_feed_fini(&feed);
    finish(&pair);
}

static bool has_room(const pair_t *pair) {
    return link_sender_room(pair->sender);
}

static void a_receiver_that_is_there_sets_the_pace(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    open_sender(&pair, NULL, 16 * PADDING);
    add(&pair, 100, true);
    assert_true(link_sender_room(pair.sender));           /* nobody is there */
    open_receiver(&pair);
    run_to(&pair, 100, goal_is_taken);
    link_receiver_pause(pair.receiver);
    add(&pair, 100, true);
    assert_false(link_sender_room(pair.sender));
    link_receiver_resume(pair.receiver);
    run_to(&pair, 200, goal_is_taken);
    run_until(&pair, has_room);
    link_receiver_pause(pair.receiver);
    add(&pair, 100, true);
    assert_false(link_sender_room(pair.sender));
    link_receiver_free(pair.receiver);
    pair.receiver = NULL;
    run_until(&pair, has_room);
    finish(&pair);
}

static void other_engines_take_from_the_log_too(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    add(&pair, 3, false);
    open_sender(&pair, "null:", 0);
    assert_int_equal(link_sender_durable(pair.sender), 3);
    add(&pair, 2, true);
    assert_int_equal(link_sender_durable(pair.sender), 5);
    assert_int_equal(link_sender_stats(pair.sender)->frames, 2);
    link_sender_finish(pair.sender, "t", on_done, &pair);
    run_until(&pair, is_done);
    link_sender_free(pair.sender);
    char *publisher = mem_format("pub+%s", pair.endpoint);
    open_sender(&pair, publisher, 0);
    add(&pair, 2, true);
    add(&pair, 2, false);
    link_sender_written(pair.sender, NULL, 0);
    assert_int_equal(link_sender_stats(pair.sender)->frames, 4);      /* those of before are no news */
    assert_int_equal(link_sender_durable(pair.sender), 9);
    assert_true(link_sender_quiet(pair.sender));
    mem_free(publisher);
    finish(&pair);
}

/* ---- receivers ---- */

static void a_paused_receiver_holds_and_delivers_in_order(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    open_sender(&pair, NULL, 0);
    open_receiver(&pair);
    add(&pair, 1, true);
    run_to(&pair, 1, goal_is_taken);
    link_receiver_pause(pair.receiver);
    add(&pair, 1000, true);               /* more than is held */
    run_for(&pair, 50 * MS);
    assert_int_equal(pair.taken, 1);
    link_receiver_resume(pair.receiver);
    link_receiver_pause(pair.receiver);   /* nothing came in between */
    run_for(&pair, 10 * MS);
    assert_int_equal(pair.taken, 1);
    link_receiver_resume(pair.receiver);
    run_to(&pair, 1001, goal_is_durable);
    assert_int_equal(link_sender_stats(pair.sender)->resent, 0);
    assert_int_equal(link_receiver_stats(pair.receiver)->gaps, 0);
    finish(&pair);
}

static void what_was_refused_comes_when_it_is_wanted(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    open_sender(&pair, NULL, 0);
    open_receiver(&pair);
    pair.refuse = 5;
    add(&pair, 700, true);                /* more than is held: the rest is asked for */
    run_to(&pair, 4, goal_is_taken);
    run_for(&pair, 300 * MS);             /* reports of the idle, too */
    assert_int_equal(pair.taken, 4);
    link_receiver_want(pair.receiver);    /* and refused once more */
    run_for(&pair, 20 * MS);
    assert_int_equal(pair.taken, 4);
    pair.refuse = 600;
    link_receiver_want(pair.receiver);
    run_to(&pair, 599, goal_is_taken);
    pair.refuse = 0;
    link_receiver_want(pair.receiver);
    run_to(&pair, 700, goal_is_durable);
    assert_int_equal(pair.frames, 700);
    finish(&pair);
}

static void what_was_restored_is_not_taken_again(void **state) {
    pair_t pair;
    begin(&pair, 1 << 30);
    add(&pair, 100, false);
    open_sender(&pair, NULL, 0);
    open_receiver(&pair);
    const spool_identity_t *identity = spool_identity(pair.spool);
    pair.taken = 60;
    link_receiver_restore(pair.receiver, identity->origin, identity->epoch, 60, false);
    assert_false(link_receiver_ended(pair.receiver));
    run_to(&pair, 100, goal_is_durable);
    assert_int_equal(pair.frames, 40);
    add_end(&pair);
    run_to(&pair, 101, goal_is_durable);
    assert_true(link_receiver_ended(pair.receiver));
    link_receiver_free(pair.receiver);
    open_receiver(&pair);
    assert_false(link_receiver_ended(pair.receiver));
    link_receiver_restore(pair.receiver, identity->origin, identity->epoch, 101, true);
    assert_true(link_receiver_ended(pair.receiver));
    link_receiver_restore(pair.receiver, "another", 1, 5, false);
    assert_false(link_receiver_ended(pair.receiver));         /* that one is waited for */
    link_receiver_restore(pair.receiver, "another", 1, 5, true);
    link_sender_finish(pair.sender, "t", on_done, &pair);
    link_receiver_part(pair.receiver, nothing, NULL);
    run_until(&pair, is_done);
    finish(&pair);
}

int main(void) {
    log_open("test_link_spool", NULL, LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_under_way_is_in_memory),
        cmocka_unit_test(frames_of_a_group_go_as_they_are_told),
        cmocka_unit_test(a_sender_started_again_goes_on_where_the_receiver_is),
        cmocka_unit_test(what_is_stable_is_told_with_frames_and_without),
        cmocka_unit_test(a_log_half_full_is_told),
        cmocka_unit_test(frames_given_up_and_frames_damaged_are_passed_over),
        cmocka_unit_test(some_frames_wait_in_memory_and_the_rest_is_read_back),
        cmocka_unit_test(what_was_given_up_is_not_given_from_memory),
        cmocka_unit_test(a_receiver_that_is_there_sets_the_pace),
        cmocka_unit_test(other_engines_take_from_the_log_too),
        cmocka_unit_test(a_paused_receiver_holds_and_delivers_in_order),
        cmocka_unit_test(what_was_refused_comes_when_it_is_wanted),
        cmocka_unit_test(what_was_restored_is_not_taken_again),
    };
    return cmocka_run_group_tests_name("link_spool", tests, NULL, NULL);
}
