/* Programs as stages run them: watermarks over several inputs and origins, idle inputs, ticks, by-products of other stages, frames cut
 * at their bounds, snapshots that do not fit, random events against a plain computation. */
#include "process_harness.h"

#include <malloc.h>

#include "base/clock.h"
#include "data/pack.h"

#define T0 INT64_C(1700000000)

static program_t *start(const char *text, unsigned inputs, outcome_t *outcome) {
    *outcome = (outcome_t){.watermark = FRAME_NO_WATERMARK};
    outcome_stream(outcome, "process");
    diagnostics_t diagnostics = {.name = "program", .source = text_of(text)};
    program_setup_t setup = {.stream = "process", .inputs = inputs, .idle = 10 * NS_PER_S, .batch_events = 100, .batch_bytes = 1 << 20,
                             .frame = outcome_frame, .dead = outcome_dead, .argument = outcome};
    program_t *program = program_new(&setup, &diagnostics);
    assert_non_null(program);
    return program;
}

/* A frame with one event {"v": v} at T0 + seconds. */
static frame_t *one(const char *topic, const char *origin, int64_t seconds, int64_t v) {
    frame_builder_t builder = {0};
    builder_begin(&builder);
    pack_map(&builder.body, 1);
    pack_text(&builder.body, "v");
    pack_int(&builder.body, v);
    builder_commit(&builder, (T0 + seconds) * NS_PER_S, T0 * NS_PER_S);
    frame_t *frame = builder_take(&builder, topic);
    snprintf(frame->origin, sizeof frame->origin, "%s", origin);
    builder_fini(&builder);
    return frame;
}

static void send(program_t *program, unsigned input, frame_t *frame) {
    program_frame(program, input, frame);
    frame_unref(frame);
}

static void send_end(program_t *program, unsigned input, const char *origin) {
    frame_t *frame = frame_new_end("input");
    snprintf(frame->origin, sizeof frame->origin, "%s", origin);
    send(program, input, frame);
}

static void stop(program_t *program, outcome_t *outcome) {
    program_free(program);
    outcome_fini(outcome);
}

/* Ticks as a stage makes them: every quarter of the idle time. */
static void tick(program_t *program, int64_t from, int64_t to) {
    for (int64_t now = from * NS_PER_S; now <= to * NS_PER_S; now += 10 * NS_PER_S / 4)
        program_tick(program, now);
}

#define WINDOW "window tumbling 10s: count() as n, sum(v) as s | keep n, s"

static void the_slowest_origin_decides(void **state) {
    outcome_t outcome;
    program_t *program = start(WINDOW, 1, &outcome);
    send(program, 0, one("input", "a", 0, 1));
    send(program, 0, one("input", "b", 1, 2));
    send(program, 0, one("input", "a", 30, 1));
    assert_int_equal(outcome.out, 0); /* b is still at 1 */
    assert_int_equal(program_counts(program).held, 3);
    send(program, 0, one("input", "b", 5, 3));
    assert_int_equal(outcome.out, 0);
    send(program, 0, one("input", "b", 10, 4));
    assert_int_equal(outcome.out, 1);
    assert_string_equal(buf_text(&outcome.streams[0]), "{\"@timestamp\":\"2023-11-14T22:13:29.999Z\",\"n\":3,\"s\":6}\n");
    send_end(program, 0, "b"); /* b no longer counts: 30 */
    assert_int_equal(outcome.out, 2);
    assert_int_equal(program_watermark(program), (T0 + 30) * NS_PER_S);
    program_end(program);
    assert_int_equal(outcome.out, 3);
    assert_int_equal(program_counts(program).held, 0);
    stop(program, &outcome);
}

static void an_input_not_heard_from_holds_windows_up_until_idle(void **state) {
    outcome_t outcome;
    program_t *program = start(WINDOW, 2, &outcome);
    send(program, 0, one("input", "a", 0, 1));
    send(program, 0, one("input", "a", 30, 1));
    assert_int_equal(outcome.out, 0);
    tick(program, 1000, 1008);
    assert_int_equal(outcome.out, 0);
    tick(program, 1010, 1012);
    assert_int_equal(outcome.out, 1);
    send(program, 1, one("input", "b", 2, 9)); /* too late: a was taken for alone */
    assert_int_equal(program_counts(program).late, 1);
    stop(program, &outcome);
}

static void a_stage_that_was_stopped_takes_nobody_for_idle(void **state) {
    outcome_t outcome;
    program_t *program = start(WINDOW, 1, &outcome);
    send(program, 0, one("input", "a", 0, 1));
    send(program, 0, one("input", "b", 40, 1));
    tick(program, 1000, 1000);
    for (int i = 0; i < 5; i++)
        program_tick(program, 5000 * NS_PER_S + i); /* timers that are made up for, all at once */
    assert_int_equal(program_watermark(program), T0 * NS_PER_S);
    send(program, 0, one("input", "a", 5, 1));
    assert_int_equal(program_counts(program).late, 0);
    stop(program, &outcome);
}

static void an_idle_origin_lets_go(void **state) {
    outcome_t outcome;
    program_t *program = start(WINDOW, 1, &outcome);
    send(program, 0, one("input", "a", 0, 1));
    send(program, 0, one("input", "b", 0, 1));
    tick(program, 1000, 1006);
    send(program, 0, one("input", "b", 40, 1));
    tick(program, 1008, 1009);
    assert_int_equal(outcome.out, 0);
    send(program, 0, one("input", "b", 41, 1));
    tick(program, 1010, 1012);
    assert_int_equal(outcome.out, 1);
    stop(program, &outcome);
}

static void an_input_aside_does_not_move_time(void **state) {
    outcome_t outcome;
    program_t *program = start(WINDOW, 1, &outcome);
    send(program, 0, one("input", "a", 5, 1));
    send(program, 1, one("input", "letters", 60, 1)); /* far ahead: nothing fires */
    send(program, 1, one("input", "letters", 2, 3));
    assert_int_equal(outcome.out, 0);
    assert_int_equal(program_watermark(program), (T0 + 5) * NS_PER_S);
    send_end(program, 1, "letters");
    tick(program, 1000, 1020);
    assert_int_equal(program_watermark(program), (T0 + 5) * NS_PER_S);
    send(program, 0, one("input", "a", 10, 1));
    assert_string_equal(buf_text(&outcome.streams[0]), "{\"@timestamp\":\"2023-11-14T22:13:29.999Z\",\"n\":2,\"s\":4}\n");
    program_end(program);
    assert_int_equal(outcome.out, 3);
    stop(program, &outcome);
}

static void origins_that_never_come_back_are_forgotten(void **state) {
    outcome_t outcome;
    program_t *program = start(WINDOW, 1, &outcome);
    for (int i = 0; i < 500; i++) {
        char name[32];
        snprintf(name, sizeof name, "origin-%d", i);
        send(program, 0, one("input", name, i, 1));
    }
    buf_t many = {0}, few = {0};
    program_save(program, &many, NULL, NULL);
    tick(program, 2000, 2000 + 110 * 10); /* 110 times the idle time */
    program_save(program, &few, NULL, NULL);
    assert_true(few.size < many.size / 20);
    assert_int_equal(program_watermark(program), (T0 + 499) * NS_PER_S);
    send(program, 0, one("input", "origin-7", 3, 1)); /* one does after all */
    assert_int_equal(program_counts(program).late, 1);
    assert_int_equal(program_watermark(program), (T0 + 499) * NS_PER_S);
    buf_fini(&many);
    buf_fini(&few);
    stop(program, &outcome);
}

static void time_never_goes_back(void **state) {
    outcome_t outcome;
    program_t *program = start(WINDOW, 1, &outcome);
    send(program, 0, one("input", "a", 100, 1));
    send(program, 0, one("input", "new", 3, 1));
    assert_int_equal(program_counts(program).late, 1);
    assert_int_equal(program_watermark(program), (T0 + 100) * NS_PER_S);
    stop(program, &outcome);
}

static void others_pass_or_go(void **state) {
    for (int policy = OTHERS_PASS; policy <= OTHERS_PROCESS; policy++) {
        outcome_t outcome = {.watermark = FRAME_NO_WATERMARK};
        outcome_stream(&outcome, "process");
        diagnostics_t diagnostics = {.name = "program", .source = text_of("where v > 1")};
        program_setup_t setup = {.stream = "process", .inputs = 1, .others = (others_t) policy, .batch_events = 100, .batch_bytes = 1 << 20,
                                 .frame = outcome_frame, .dead = outcome_dead, .argument = &outcome};
        program_t *program = program_new(&setup, &diagnostics);
        assert_non_null(program);
        send(program, 0, one("alerts", "a", 0, 0));
        send(program, 0, one("x.late", "a", 0, 0));
        send(program, 0, one("input", "a", 0, 2));
        assert_int_equal(outcome.out, policy == OTHERS_PASS ? 3 : 1);
        assert_int_equal(program_counts(program).filtered, policy == OTHERS_PASS ? 0 : 2);
        assert_int_equal(outcome.count, policy == OTHERS_PASS ? 3 : 1);
        stop(program, &outcome);
    }
}

static void the_empty_program_shares_the_frame(void **state) {
    outcome_t outcome;
    program_t *program = start("# nothing", 1, &outcome);
    assert_true(program_verbatim(program));
    send(program, 0, one("input", "a", 7, 1));
    assert_int_equal(outcome.out, 1);
    assert_int_equal(outcome.watermark, (T0 + 7) * NS_PER_S);
    stop(program, &outcome);
}

static void filtered_streams_still_tell_the_time(void **state) {
    outcome_t outcome;
    program_t *program = start("where v > 100", 1, &outcome);
    send(program, 0, one("input", "a", 7, 1));
    assert_int_equal(outcome.out, 0);
    assert_int_equal(outcome.watermark, (T0 + 7) * NS_PER_S);
    stop(program, &outcome);
}

static void a_frame_that_is_broken_costs_only_its_rest(void **state) {
    outcome_t outcome;
    program_t *program = start("where v >= 0", 1, &outcome);
    frame_builder_t builder = {0};
    for (int i = 0; i < 5; i++) {
        builder_begin(&builder);
        pack_map(&builder.body, 1);
        pack_text(&builder.body, "v");
        pack_int(&builder.body, i);
        builder_commit(&builder, T0 * NS_PER_S, T0 * NS_PER_S);
    }
    frame_t *frame = builder_take(&builder, "input");
    uint8_t *body = (uint8_t *) frame->body;
    size_t each = frame->body_size / 5;
    body[2 * each + EVENT_HEAD + 1] = 0xC1; /* in the third event: a byte that msgpack never uses, in place of a key */
    body[3 * each] = 0xC1;                  /* the fourth is no entry: nothing can be known of what follows */
    send(program, 0, frame);
    assert_int_equal(outcome.out, 2);
    assert_int_equal(outcome.dead, 3);
    builder_fini(&builder);
    stop(program, &outcome);
}

static void snapshots_of_another_program_are_refused(void **state) {
    outcome_t outcome, other;
    program_t *program = start(WINDOW, 1, &outcome), *second = start("where v > 1", 1, &other);
    send(program, 0, one("input", "a", 7, 1));
    buf_t state_bytes = {0};
    program_save(program, &state_bytes, NULL, NULL);
    err_t err;
    assert_int_equal(program_load(second, state_bytes.data, state_bytes.size, &err), -1);
    assert_non_null(strstr(err.text, "another program"));
    assert_non_null(strstr(err.text, "window tumbling 10s:"));
    assert_non_null(strstr(err.text, "--reset"));
    for (size_t size = 0; size < state_bytes.size; size++) { /* cut off anywhere */
        outcome_t third_outcome;
        program_t *third = start(WINDOW, 1, &third_outcome);
        uint8_t *cut = mem_copy(state_bytes.data, size);
        assert_int_equal(program_load(third, cut, size, &err), -1);
        mem_free(cut);
        stop(third, &third_outcome);
    }
    buf_fini(&state_bytes);
    stop(program, &outcome);
    stop(second, &other);
}

static program_t *start_as(const char *text, unsigned inputs, uint64_t batch_events, outcome_t *outcome) {
    diagnostics_t diagnostics = {.name = "program", .source = text_of(text)};
    program_setup_t setup = {.stream = "process", .inputs = inputs, .idle = 10 * NS_PER_S, .batch_events = batch_events, .batch_bytes = 1 << 20,
                             .frame = outcome_frame, .dead = outcome_dead, .argument = outcome};
    program_t *program = program_new(&setup, &diagnostics);
    assert_non_null(program);
    return program;
}

/* Comments and white space are no other program; what changes the output is. */
static void snapshots_go_by_what_a_program_means(void **state) {
    outcome_t outcome;
    program_t *program = start(WINDOW, 2, &outcome);
    send(program, 0, one("input", "a", 7, 1));
    buf_t saved = {0};
    program_save(program, &saved, NULL, NULL);
    static const struct {
        const char *text;
        unsigned inputs;
        uint64_t batch;
        const char *fault;
    } others[] = {
        {WINDOW, 2, 100, NULL},
        {"# every ten seconds\n| window  tumbling\t10s :count( ) as n,sum(v) as s\n| keep n ,s # done", 2, 100, NULL},
        {"window tumbling 20s: count() as n, sum(v) as s | keep n, s", 2, 100, "another program"},
        {WINDOW, 3, 100, "2 inputs (--from), not 3"},
        {WINDOW, 2, 99, NULL},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        program_t *other = start_as(others[i].text, others[i].inputs, others[i].batch, &outcome);
        err_t err;
        int rc = program_load(other, saved.data, saved.size, &err);
        assert_int_equal(rc, others[i].fault ? -1 : 0);
        if (rc && (!strstr(err.text, others[i].fault) || !strstr(err.text, "--reset")))
            fail_msg("%s", err.text);
        program_free(other);
    }
    for (size_t at = 0; at < saved.size; at++) { /* any byte of another value */
        program_t *other = start_as(WINDOW, 2, 100, &outcome);
        err_t err;
        saved.data[at] ^= 4;
        assert_int_equal(program_load(other, saved.data, saved.size, &err), -1);
        saved.data[at] ^= 4;
        program_free(other);
    }
    buf_fini(&saved);
    stop(program, &outcome);
}

static void add_piece(void *argument, buf_t *out) {
    buf_t *all = argument;
    assert_true(out->size < 300 << 10);
    buf_put(all, out->data, out->size);
    buf_clear(out);
}

static void large_state_is_written_in_pieces(void **state) {
    outcome_t outcome, other;
    static const char text[] = "window tumbling 10s by v: count() as n | alert many when n > 0 | keep n";
    program_t *program = start(text, 1, &outcome), *second = start(text, 1, &other);
    size_t before = program_memory(program);
    for (int i = 0; i < 20000; i++)
        send(program, 0, one("input", "a", 7, i));
    assert_true(program_memory(program) > before + 20000 * 32);
    buf_t whole = {0}, piece = {0}, all = {0};
    program_save(program, &whole, NULL, NULL);
    buf_put_text(&piece, "head");
    program_save(program, &piece, add_piece, &all);
    assert_true(all.size > 256 << 10);
    assert_memory_equal(all.data, "head", 4);
    buf_consume(&all, 4);
    assert_true(piece.size < 256 << 10);
    buf_put(&all, piece.data, piece.size);
    assert_int_equal(all.size, whole.size);
    assert_memory_equal(all.data, whole.data, all.size);
    err_t err;
    if (program_load(second, all.data, all.size, &err) < 0)
        fail_msg("%s", err.text);
    program_end(program);
    program_end(second);
    assert_int_equal(outcome.out, 40000);
    assert_int_equal(outcome.streams[0].size, other.streams[0].size);
    assert_memory_equal(outcome.streams[0].data, other.streams[0].data, other.streams[0].size);
    buf_fini(&whole);
    buf_fini(&piece);
    buf_fini(&all);
    stop(program, &outcome);
    stop(second, &other);
}

/* Random events out of order, in windows of 10 s with wait: counts and sums as a plain computation gives them. */
static void windows_add_up(void **state) {
    enum { EVENTS = 4000, KEYS = 7, WINDOWS = 110 };
    static int64_t counts[WINDOWS][KEYS], sums[WINDOWS][KEYS];
    memset(counts, 0, sizeof counts);
    memset(sums, 0, sizeof sums);
    srandom(5);
    int64_t late = 0, seen = INT64_MIN;
    buf_t input = {0};
    for (int i = 0; i < EVENTS; i++) {
        int64_t time = i / 4 + random() % 20, key = random() % KEYS, v = random() % 1000 - 500;
        if (random() % 50 == 0)
            time = time > 60 ? time - 60 : 0;
        buf_format(&input, "{\"@timestamp\":%lld,\"k\":\"key %lld\",\"v\":%lld}\n", (long long) (T0 + time), (long long) key, (long long) v);
        seen = time > seen ? time : seen;
        if (seen >= (time / 10 + 1) * 10 + 15) {
            late++;
        } else {
            counts[time / 10][key]++;
            sums[time / 10][key] += v;
        }
    }
    const char *text = "window tumbling 10s by k wait 15s: count() as n, sum(v) as s | set w = epoch(window_start) | keep w, k, n, s";
    static const cut_t cuts[] = {{0}, {1}, {97}, {UINT32_MAX}, {500, true}};
    for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
        outcome_t outcome;
        harness_run(text, strlen(text), (char *) input.data, input.size, &cuts[c], &outcome);
        assert_int_equal(outcome.counts.late, late);
        assert_true(late > 10);
        text_t rest = text_make((char *) outcome.streams[0].data, outcome.streams[0].size), line;
        int64_t total = 0;
        while (text_split(&rest, '\n', &line) && line.size) {
            long long w, key, n, s;
            const char *at = strstr(line.data, "\"w\":");
            assert_int_equal(sscanf(at, "\"w\":%lld,\"k\":\"key %lld\",\"n\":%lld,\"s\":%lld}", &w, &key, &n, &s), 4);
            assert_int_equal(counts[(w - T0) / 10][key], n);
            assert_int_equal(sums[(w - T0) / 10][key], s);
            total += n;
        }
        assert_int_equal(total + late, EVENTS);
        outcome_fini(&outcome);
    }
    buf_fini(&input);
}

/* What is laid out for a program must not go with the square of its names. */
static void as_many_names_as_may_be_take_little_memory(void **state) {
    buf_t text = {0};
    for (unsigned i = 0; i < 10000; i++)
        buf_format(&text, "%sf%u = %u", i ? ", " : "set ", i, i);
    outcome_t outcome;
    struct mallinfo2 before = mallinfo2();
    program_t *program = start(buf_text(&text), 1, &outcome);
    struct mallinfo2 after = mallinfo2();
    size_t taken = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
    assert_true(taken < 200u << 20); /* 3 GB when each name had room for all; sanitizers say 0 */
    program_end(program);
    program_free(program);
    outcome_fini(&outcome);
    buf_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_slowest_origin_decides),
        cmocka_unit_test(an_input_not_heard_from_holds_windows_up_until_idle),
        cmocka_unit_test(a_stage_that_was_stopped_takes_nobody_for_idle),
        cmocka_unit_test(an_idle_origin_lets_go),
        cmocka_unit_test(an_input_aside_does_not_move_time),
        cmocka_unit_test(origins_that_never_come_back_are_forgotten),
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(others_pass_or_go),
        cmocka_unit_test(the_empty_program_shares_the_frame),
        cmocka_unit_test(filtered_streams_still_tell_the_time),
        cmocka_unit_test(a_frame_that_is_broken_costs_only_its_rest),
        cmocka_unit_test(snapshots_of_another_program_are_refused),
        cmocka_unit_test(snapshots_go_by_what_a_program_means),
        cmocka_unit_test(large_state_is_written_in_pieces),
        cmocka_unit_test(as_many_names_as_may_be_take_little_memory),
        cmocka_unit_test(windows_add_up),
    };
    return cmocka_run_group_tests_name("process_program", tests, NULL, NULL);
}
