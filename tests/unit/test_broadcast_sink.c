/* Sinks' queues: order, answers, dropping, retrying, acknowledging, with a driver that answers as it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../cmd/broadcast/sink.h"
#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"
#include "run/stage_private.h"

/* A sink list is made from URLs; then its class is replaced by this one. */
static char given[256];            /* topics in the order of giving */
static size_t opened;

static void told_write(sink_t *sink, frame_t *frame) {
    strcat(given, frame->topic);
}

static int told_open(sink_t *sink, err_t *err) {
    opened++;
    return 0;
}

static const sink_class_t told = {.name = "told", .open = told_open, .write = told_write};

typedef struct world {
    stage_t stage;
    stage_private_t private;
    sink_list_t list;
    deliveries_t *deliveries;
    unsigned changes;
} world_t;

static world_t *world;

static void changed(stage_t *stage) {
    world->changes++;
}

static sink_t *make_sink(const char *url) {
    err_t err = {{0}};
    if (sink_add_url(&world->list, url, &err))
        fail_msg("%s", err.text);
    sink_t *sink = world->list.items[world->list.count - 1];
    sink->class = &told;
    assert_int_equal(sink_open(sink, &world->stage, world->deliveries, 8 << 20, changed, &err), 0);
    return sink;
}

static int setup(void **state) {
    world = mem_zero(sizeof *world);
    world->stage.loop = loop_new();
    world->stage.private = &world->private;
    world->private.dead_fd = -1;
    world->stage.name = "test";
    world->deliveries = deliveries_new(&world->stage, 8);
    given[0] = 0;
    return metrics_open(NULL, "broadcast", "test", NULL);
}

static int teardown(void **state) {
    for (size_t i = 0; i < world->list.count; i++)
        sink_close(world->list.items[i]);
    deliveries_free(world->deliveries);
    sink_list_free(&world->list);
    loop_free(world->stage.loop);
    buf_fini(&world->private.dead_line);
    metrics_close();
    mem_free(world);
    return 0;
}

/* One frame with one event of `size` bytes, from no input, so that nobody is to be told. */
static frame_t *make_frame(const char *topic, size_t size) {
    frame_builder_t builder = {0};
    builder_begin(&builder);
    pack_map(&builder.body, 1);
    pack_text(&builder.body, "x");
    char *text = mem_zero(size + 1);
    memset(text, 'x', size);
    pack_string(&builder.body, text, size);
    mem_free(text);
    builder_commit(&builder, 1, clock_now());
    frame_t *frame = builder_take(&builder, topic);
    builder_fini(&builder);
    return frame;
}

/* As main.c does. Input 0 stays open at its first delivery, so that nothing is acknowledged: that needs links. */
static delivery_t *offer(const char *topic, size_t size) {
    frame_t *frame = make_frame(topic, size);
    delivery_t *delivery = delivery_begin(world->deliveries, 0, frame);
    frame_unref(frame);
    for (size_t i = 0; i < world->list.count; i++)
        if (sink_wants(world->list.items[i], topic))
            sink_offer(world->list.items[i], delivery);
    return delivery;
}

static void gives_in_order_and_takes_answers(void **state) {
    sink_t *sink = make_sink("null:");
    offer("a", 10);
    offer("b", 10);
    offer("c", 10);
    assert_string_equal(given, "abc");
    assert_false(sink_idle(sink));
    sink_answer(sink, SINK_OK, 2, NULL);
    assert_false(sink_idle(sink));
    sink_answer(sink, SINK_OK, 1, NULL);
    assert_true(sink_idle(sink));
    assert_int_equal(world->changes, 2);
}

static void a_full_driver_is_given_no_more(void **state) {
    sink_t *sink = make_sink("null:");
    offer("a", 10);
    sink->full = true;
    offer("b", 10);
    offer("c", 10);
    assert_string_equal(given, "a");
    sink_more(sink);
    assert_string_equal(given, "abc");
}

static void stop_loop(void *loop) {
    loop_stop(loop);
}

static void after_retry_all_unanswered_are_given_again(void **state) {
    sink_t *sink = make_sink("null:");
    offer("a", 10);
    offer("b", 10);
    sink_answer(sink, SINK_OK, 1, NULL);
    sink_answer(sink, SINK_RETRY, 0, "away");
    offer("c", 10);
    assert_string_equal(given, "ab");
    loop_timer(world->stage.loop, 150 * NS_PER_MS, 0, stop_loop, world->stage.loop);
    loop_run(world->stage.loop);
    assert_string_equal(given, "abbc");
    assert_int_equal(world->stage.errors, 1);
}

static void streams_are_chosen_by_pattern(void **state) {
    sink_t *sink = make_sink("null:?from=temp*&from=x");
    assert_true(sink_wants(sink, "temperature"));
    assert_true(sink_wants(sink, "x"));
    assert_false(sink_wants(sink, "xy"));
    assert_true(sink_wants(make_sink("null:?name=other"), "anything"));
}

static void a_blocking_queue_is_over_until_half_empty(void **state) {
    sink_t *sink = make_sink("null:?queue=64KiB");
    for (int i = 0; i < 4; i++) {
        assert_false(sink_over(sink));
        offer("a", 20000);
    }
    assert_true(sink_over(sink));
    sink_answer(sink, SINK_OK, 1, NULL);
    assert_true(sink_over(sink));
    sink_answer(sink, SINK_OK, 2, NULL);
    assert_false(sink_over(sink));
}

static void drop_newest_keeps_the_old(void **state) {
    sink_t *sink = make_sink("null:?queue=64KiB&on-full=drop_newest");
    sink->full = true;
    offer("a", 30000);
    offer("b", 30000);
    delivery_t *dropped = offer("c", 30000);
    assert_int_equal(dropped->outcome, OUTCOME_DROPPED);
    assert_int_equal(dropped->waiting, 1);
    assert_false(sink_over(sink));
    sink_more(sink);
    assert_string_equal(given, "ab");
}

static void drop_oldest_spares_what_the_driver_has(void **state) {
    sink_t *sink = make_sink("null:?queue=64KiB&on-full=drop_oldest");
    delivery_t *first = offer("a", 30000);
    sink->full = true;
    delivery_t *second = offer("b", 30000);
    offer("c", 30000);
    assert_int_equal(first->outcome, OUTCOME_FILTERED);        /* nothing has become of it yet */
    assert_int_equal(second->outcome, OUTCOME_DROPPED);
    sink_more(sink);
    assert_string_equal(given, "ac");
    sink_answer(sink, SINK_OK, 2, NULL);
    assert_true(sink_idle(sink));
}

/* A frame as a sender with a durable log numbers it. */
static delivery_t *take(uint64_t epoch, uint64_t number, uint64_t stable) {
    frame_t *frame = make_frame("a", 10);
    strcpy(frame->origin, "sender");
    frame->epoch = epoch;
    frame->sequence = number;
    frame->has_stable = true;
    frame->stable = stable;
    delivery_t *delivery = delivery_begin(world->deliveries, 0, frame);
    frame_unref(frame);
    return delivery;
}

static sink_begun_t pairs_begun(sink_t *sink, const frame_t *frame, const char *input) {
    return strchr("ab", frame->topic[0]) ? SINK_BEGUN : SINK_NEW;
}

static bool pairs_dropped(sink_t *sink, const frame_t *frame, const char *input) {
    return frame->topic[0] == 'a';
}

static const sink_class_t pairs = {.name = "pairs", .open = told_open, .write = told_write, .begun = pairs_begun, .dropped = pairs_dropped};

static void what_goes_together_is_dropped_together(void **state) {
    sink_t *sink = make_sink("null:?queue=64KiB&on-full=drop_oldest");
    sink->class = &pairs;
    sink->full = true;
    delivery_t *a = offer("a", 30000), *b = offer("b", 10), *c = offer("c", 30000);
    offer("d", 30000);
    assert_int_equal(a->outcome, OUTCOME_DROPPED);
    assert_int_equal(b->outcome, OUTCOME_DROPPED);
    assert_int_equal(c->outcome, OUTCOME_FILTERED);
    sink_more(sink);
    assert_string_equal(given, "cd");
}

static void what_was_begun_is_not_refused_a_place(void **state) {
    sink_t *sink = make_sink("null:?queue=64KiB&on-full=drop_newest");
    sink->class = &pairs;
    sink->full = true;
    offer("c", 60000);
    offer("d", 30000);
    offer("a", 30000);
    sink_more(sink);
    assert_string_equal(given, "ca");
}

static unsigned entries_of(const origin_t *origin) {
    unsigned count = 0;
    for (const delivery_t *delivery = origin->first; delivery; delivery = delivery->next)
        count++;
    return count;
}

static void frames_behind_one_that_waits_are_kept_as_numbers_alone(void **state) {
    world->deliveries->by_progress = true; /* nobody is told */
    origin_t *origin = deliveries_origin(world->deliveries, 0, "link", "sender");
    delivery_t *all[9];
    for (uint64_t i = 0; i < 9; i++)
        all[i] = take(7, i + 1, FRAME_STABLE_ALL);
    delivery_done(world->deliveries, all[4], OUTCOME_OUT);
    delivery_done(world->deliveries, all[2], OUTCOME_OUT);
    delivery_done(world->deliveries, all[3], OUTCOME_OUT);
    delivery_done(world->deliveries, all[8], OUTCOME_DROPPED);
    delivery_done(world->deliveries, all[5], OUTCOME_OUT);
    assert_int_equal(entries_of(origin), 6);           /* 1, 2, 3 to 6, 7, 8, 9 */
    assert_int_equal(origin->odd, 1);
    delivery_done(world->deliveries, all[7], OUTCOME_DROPPED);
    assert_int_equal(entries_of(origin), 5);
    assert_int_equal(origin->odd, 1);
    assert_int_equal(world->stage.ledger.held, 9);
    delivery_done(world->deliveries, all[1], OUTCOME_OUT);
    delivery_done(world->deliveries, all[0], OUTCOME_OUT);
    assert_int_equal(origin->done.number, 6);
    assert_int_equal(entries_of(origin), 2);           /* 7, 8 and 9 */
    delivery_done(world->deliveries, all[6], OUTCOME_OUT);
    assert_int_equal(origin->done.number, 9);
    assert_null(origin->first);
    assert_int_equal(origin->odd, 0);
    assert_int_equal(world->stage.ledger.held, 0);
    assert_int_equal(world->stage.ledger.out, 7);
    assert_int_equal(world->stage.ledger.dropped, 2);
}

static void a_refused_frame_is_dead_once(void **state) {
    sink_t *one = make_sink("null:?name=one"), *two = make_sink("null:?name=two");
    delivery_t *delivery = offer("a", 10);
    sink_answer(one, SINK_ERROR, 1, "wrong");
    sink_answer(two, SINK_ERROR, 1, "wrong too");
    assert_int_equal(delivery->dead, 1);
    assert_int_equal(delivery->waiting, 1);
    assert_int_equal(world->stage.ledger.dead, 0); /* it is held until the frame is done; then once */
    assert_int_equal(world->stage.ledger.held, 1);
}

static void answers_may_come_out_of_turn(void **state) {
    sink_t *sink = make_sink("null:");
    delivery_t *a = offer("a", 10), *b = offer("b", 10), *c = offer("c", 10);
    sink_answer_one(sink, b->frame, SINK_OK, NULL);
    assert_int_equal(b->waiting, 1);
    assert_int_equal(a->waiting, 2);
    sink_answer_one(sink, c->frame, SINK_OK, NULL);
    assert_false(sink_idle(sink));
    sink_retry(sink, "away", 0); /* only the first is given again */
    loop_timer(world->stage.loop, 150 * NS_PER_MS, 0, stop_loop, world->stage.loop);
    loop_run(world->stage.loop);
    assert_string_equal(given, "abca");
    sink_answer(sink, SINK_OK, 1, NULL);
    assert_true(sink_idle(sink));
}

static void what_came_out_of_turn_is_no_more_given_to_be_dropped(void **state) {
    sink_t *sink = make_sink("null:?queue=64KiB&on-full=drop_oldest");
    offer("a", 30000);
    delivery_t *b = offer("b", 30000);
    sink_answer_one(sink, b->frame, SINK_OK, NULL);
    sink_retry(sink, "away", 0);
    delivery_t *c = offer("c", 30000);
    offer("d", 30000);
    assert_int_equal(b->outcome, OUTCOME_OUT);
    assert_int_equal(c->outcome, OUTCOME_FILTERED);
    loop_timer(world->stage.loop, 150 * NS_PER_MS, 0, stop_loop, world->stage.loop);
    loop_run(world->stage.loop);
    assert_string_equal(given, "abcd");
}

static void what_can_be_taken_back_waits(void **state) {
    world->private.input_count = 0; /* nobody is told: no sender's frames get done here */
    world->deliveries->by_progress = true;
    origin_t *origin = deliveries_origin(world->deliveries, 0, "link", "sender");
    delivery_t *first = take(7, 1, 1), *second = take(7, 2, 1), *third = take(7, 3, 1);
    assert_true(first->stable);
    assert_false(second->stable);
    assert_null(origin_next_stable(world->deliveries, origin));
    origin_stable(origin, 7, 2);
    assert_ptr_equal(origin_next_stable(world->deliveries, origin), second);
    assert_null(origin_next_stable(world->deliveries, origin));
    /* The sender has lost power and goes on in a new epoch: its numbers go on too. */
    origin_stable(origin, 9, 3);
    assert_ptr_equal(origin_next_stable(world->deliveries, origin), third);
    delivery_t *fourth = take(9, 4, 3);
    assert_false(fourth->stable);
    origin_stable(origin, 9, FRAME_STABLE_ALL);
    assert_ptr_equal(origin_next_stable(world->deliveries, origin), fourth);
}

/* All are as large as that one, and there is room for ten. */
static bool has_room(const delivery_t *one, const char *sender) {
    frame_t frame = {.epoch = 7, .has_stable = true, .body_size = one->size};
    strcpy(frame.origin, sender);
    return deliveries_room(world->deliveries, 0, &frame, 10 * one->size);
}

static void what_can_be_taken_back_has_its_room(void **state) {
    world->private.input_count = 0;
    world->deliveries->by_progress = true;
    origin_t *origin = deliveries_origin(world->deliveries, 0, "link", "sender");
    const delivery_t *one = take(7, 1, 0);
    uint64_t number = 1, limit = 10 * one->size;
    while (has_room(one, "sender"))
        take(7, ++number, 0);
    assert_int_equal(number, 10);
    assert_false(deliveries_wanted(world->deliveries, origin, limit));
    origin_stable(origin, 7, 4);
    while (origin_next_stable(world->deliveries, origin))
        ;
    assert_int_equal(origin->unstable_bytes, 6 * one->size);
    assert_false(deliveries_wanted(world->deliveries, origin, limit));     /* for one frame nobody is asked */
    origin_stable(origin, 7, 5);
    assert_non_null(origin_next_stable(world->deliveries, origin));
    assert_true(deliveries_wanted(world->deliveries, origin, limit));
    assert_false(deliveries_wanted(world->deliveries, origin, limit));
    assert_true(has_room(one, "sender"));
    assert_true(has_room(one, "another"));         /* whatever the one does */
    origin_stable(origin, 7, 10);
    while (origin_next_stable(world->deliveries, origin))
        ;
    assert_int_equal(world->deliveries->unstable, 0);
}

static void what_a_sink_has_is_known_over_epochs(void **state) {
    frame_t frame = {.epoch = 9, .sequence = 5, .past_count = 1, .past = {{7, 6}}};
    assert_true(reached_covers((reached_t){9, 5}, &frame));
    assert_false(reached_covers((reached_t){9, 4}, &frame));
    assert_true(reached_covers((reached_t){7, 5}, &frame));
    assert_false(reached_covers((reached_t){7, 4}, &frame));
    assert_false(reached_covers((reached_t){3, 50}, &frame)); /* another life of the sender: its numbers say nothing */
    frame.sequence = 7;
    assert_false(reached_covers((reached_t){7, 50}, &frame)); /* the sender has taken back what was there in epoch 7 behind 6 */
    frame.epoch = 99;                                         /* more power cuts than are named */
    frame.past_count = FRAME_PAST_MAX;
    for (unsigned i = 0; i < FRAME_PAST_MAX; i++)
        frame.past[i] = (frame_past_t){98 - i, 50 - i};
    assert_true(reached_covers((reached_t){7, 50}, &frame));
    assert_false(reached_covers((reached_t){7, 6}, &frame));
    assert_false(reached_covers((reached_t){100, 50}, &frame));
    frame.sequence = 50 - FRAME_PAST_MAX + 2;
    assert_false(reached_covers((reached_t){7, 50}, &frame)); /* behind what the oldest of them counts */
}

static void a_name_that_no_sender_can_have_is_not_restored(void **state) {
    sink_t *sink = make_sink("file:x");
    char *link = "@ipc://run/link", name[FRAME_ORIGIN_MAX + 2];
    world->stage.settings.from = (option_list_t){&link, 1};
    memset(name, 'n', sizeof name);
    name[FRAME_ORIGIN_MAX + 1] = 0;
    event_t event = {0};
    sink_reached(sink, "link", name, 1, 5);
    sink_recall_refused(sink, "link", name, 1, 6, &event, "no");
    assert_int_equal(world->deliveries->count, 0);
    sink_reached(sink, "link", name + 1, 1, 5);
    assert_int_equal(world->deliveries->count, 1);
    assert_int_equal(world->deliveries->origins[0]->sinks[sink->index].number, 5);
}

static void urls_and_settings_say_what_is_wrong(void **state) {
    err_t err = {{0}};
    sink_list_t list = {0};
    assert_int_equal(sink_add_url(&list, "flie:x", &err), -1);
    assert_non_null(strstr(err.text, "did you mean file?"));
    assert_int_equal(sink_add_url(&list, "file:x?kep=1", &err), -1);
    assert_non_null(strstr(err.text, "keep"));
    json_t *settings = json_pack("{s:s}", "type", "fille");
    assert_int_equal(sink_add_json(&list, settings, &err), -1);
    assert_non_null(strstr(err.text, "did you mean file?"));
    json_decref(settings);
    settings = json_pack("{s:s, s:s, s:s}", "type", "file", "path", "x", "kep", "1");
    assert_int_equal(sink_add_json(&list, settings, &err), -1);
    assert_non_null(strstr(err.text, "keep"));
    json_decref(settings);
    assert_int_equal(list.count, 0);
    sink_list_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gives_in_order_and_takes_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_driver_is_given_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(after_retry_all_unanswered_are_given_again, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_are_chosen_by_pattern, setup, teardown),
        cmocka_unit_test_setup_teardown(a_blocking_queue_is_over_until_half_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(drop_newest_keeps_the_old, setup, teardown),
        cmocka_unit_test_setup_teardown(drop_oldest_spares_what_the_driver_has, setup, teardown),
        cmocka_unit_test_setup_teardown(what_goes_together_is_dropped_together, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_begun_is_not_refused_a_place, setup, teardown),
        cmocka_unit_test_setup_teardown(frames_behind_one_that_waits_are_kept_as_numbers_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_frame_is_dead_once, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_may_come_out_of_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(what_came_out_of_turn_is_no_more_given_to_be_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(what_can_be_taken_back_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(what_can_be_taken_back_has_its_room, setup, teardown),
        cmocka_unit_test(what_a_sink_has_is_known_over_epochs),
        cmocka_unit_test_setup_teardown(a_name_that_no_sender_can_have_is_not_restored, setup, teardown),
        cmocka_unit_test(urls_and_settings_say_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
