/* Random programs over random events, cut into frames, saved and loaded at random: what comes out depends on the events and their order alone. Seeds are
 * counted from 1, so that a failure comes again; CUTS_SEEDS=FROM-TO in the environment runs others. */
#include <inttypes.h>

#include "process_harness.h"

#define SEEDS 400
#define CUTS 6                /* of each program, beside one frame for all and a frame for each */

/* Programs. Each operator keeps fields k (a key) and v (a number), so that any may follow. */

static const char *const first_operators[] = {
    "join other on k within %d wait %d as o",
    "join other on k within %d left as o",
    "where v != %u",
    "where k != \"b\"",
    "unnest v as v",
    NULL,
};

static const char *const operators[] = {
    "where v != %u",
    "where v < %u",
    "set v = (v ?? 1) * 2 %% 11",
    "fill v = previous by k expire %d",
    "dedupe by k, v within %d",
    "limit %n per %d by k",
    "limit %n by k expire %d else surplus",
    "sample 2 in 3",
    "moving sum(v) as m over %d by k expire %d | set v = m %% 13",
    "delta v as d by k expire %d | set v = abs(d ?? 1)",
    "window tumbling %d by k: sum(v) as v, count() as n",
    "window tumbling %d by k wait %d late %d: sum(v) as v, count() as n",
    "window tumbling 8s early every 3s by k wait %d: sum(v) as v, rate() as r",
    "window tumbling 12s early every 2s by k late %d: sum(v) as v",
    "window hopping 6s every 2s by k wait %d: max(v) as v",
    "window hopping 5s every 2s late %d: sum(v) as v, last(k) as k",
    "window session %d by k late %d: sum(v) as v",
    "window session %d max 7s by k wait %d: sum(v) as v",
    "window sliding %d by k: sum(v) as v",
    "window sliding %d wait %d: sum(v) as v, last(k) as k",
    "window count %n by k expire %d: sum(v) as v",
    "window count %n: max(v) as v, last(k) as k",
    "window count 3 every 2 by k wait %d: sum(v) as v",
    "window count 5 every %n by k expire %d: min(v) as v",
    "sequence s%i by k: a when v > %u then b when v < %u within %d | set v = b.v",
    "sequence s%i by k within 9s: a when v > %u then not b when v < %u within %d | set v = a.v",
    "alert high%i when v > %u for %d clear when v < %u by k expire 1m",
    "alert again%i when v > %u repeat every %d by k expire 1m",
    "alert silent%i when no data for %d by k repeat every %d expire 40s",
    "split odd when v %% 2 == 1",
};

/* %d: a duration, %u: a small number, %n: a number from 1 to 4, %i: its place in the chain, %%: a percent sign. */
static void put_operator(const char *form, unsigned place, uint64_t *dice, buf_t *out) {
    for (; *form; form++) {
        if (*form != '%') {
            buf_put_byte(out, (uint8_t) *form);
            continue;
        }
        form++;
        if (*form == 'd')
            buf_format(out, "%ums", 500 * (1 + harness_throw(dice, 12)));
        else if (*form == 'u')
            buf_format(out, "%u", harness_throw(dice, 10));
        else if (*form == 'i')
            buf_format(out, "%u", place);
        else if (*form == 'n')
            buf_format(out, "%u", 1 + harness_throw(dice, 4));
        else
            buf_put_byte(out, '%');
    }
}

static void make_program(uint64_t *dice, buf_t *out) {
    unsigned count = 1 + harness_throw(dice, 4);
    const char *first = first_operators[harness_throw(dice, sizeof first_operators / sizeof *first_operators)];
    if (first) {
        put_operator(first, 0, dice, out);
        buf_put_text(out, " | ");
    }
    for (unsigned i = 0; i < count; i++) {
        put_operator(operators[harness_throw(dice, sizeof operators / sizeof *operators)], i + 1, dice, out);
        buf_put_text(out, i + 1 < count ? " | " : "");
    }
}

/* Events: times that go on, stand still, leap and fall back; of one input or two; some of a second stream; the clock ticks now and then. */
static void make_events(uint64_t *dice, buf_t *out) {
    unsigned count = 10 + harness_throw(dice, 60), inputs = 1 + (harness_throw(dice, 4) == 0), input = 0;
    bool streams = harness_throw(dice, 2);
    int64_t now = INT64_C(100000);
    if (inputs > 1)
        buf_put_text(out, "-- in one\n");
    for (unsigned i = 0; i < count; i++) {
        unsigned pace = harness_throw(dice, 20);
        now += pace == 0 ? 4000 + harness_throw(dice, 30000) : pace < 12 ? harness_throw(dice, 900) : 0;
        int64_t time = now - (harness_throw(dice, 4) ? 0 : harness_throw(dice, 6000));
        if (inputs > 1 && harness_throw(dice, 8) == 0) {
            input = !input;
            buf_format(out, "-- in %s\n", input ? "two" : "one");
        }
        if (harness_throw(dice, 40) == 0)
            buf_format(out, "-- after %us\n", 1 + harness_throw(dice, 50));
        time -= input * 1500; /* the second one is behind */
        buf_format(out, "{\"@timestamp\":\"1970-01-01T00:%02u:%02u.%03uZ\"", (unsigned) (time / 60000), (unsigned) (time / 1000 % 60), (unsigned) (time % 1000));
        if (streams && harness_throw(dice, 3) == 0)
            buf_put_text(out, ",\"@stream\":\"other\"");
        buf_format(out, ",\"k\":\"%c\"", 'a' + harness_throw(dice, 3));
        if (harness_throw(dice, 12))
            buf_format(out, ",\"v\":%u", harness_throw(dice, 10));
        buf_put_text(out, "}\n");
    }
}

/* Comparing. */

/* All streams in the order of their names. */
static char *shown(const outcome_t *outcome) {
    buf_t out = {0};
    char last[FRAME_TOPIC_MAX + 1] = "";
    for (unsigned i = 0; i < outcome->count; i++) {
        int next = -1;
        for (unsigned j = 0; j < outcome->count; j++)
            if (strcmp(outcome->names[j], last) > 0 && (next < 0 || strcmp(outcome->names[j], outcome->names[next]) < 0))
                next = (int) j;
        snprintf(last, sizeof last, "%s", outcome->names[next]);
        buf_put(&out, outcome->streams[next].data, outcome->streams[next].size);
    }
    buf_format(&out, "errors %" PRIu64 ", late %" PRIu64 ", filtered %" PRIu64 ", created %" PRIu64 ", held %" PRIu64 "\n", outcome->errors,
               outcome->counts.late, outcome->counts.filtered, outcome->counts.created, outcome->counts.held);
    buf_text(&out);
    return (char *) out.data;
}

static char *run(const buf_t *program, const buf_t *events, const cut_t *cut) {
    outcome_t outcome;
    harness_run((const char *) program->data, program->size, (const char *) events->data, events->size, cut, &outcome);
    assert_int_equal(outcome.counts.held, 0);
    assert_int_equal(outcome.in + outcome.counts.created, outcome.out + outcome.counts.filtered + outcome.counts.late + outcome.dead);
    char *text = shown(&outcome);
    outcome_fini(&outcome);
    return text;
}

static void check(unsigned seed) {
    uint64_t dice = seed * UINT64_C(0x9E3779B97F4A7C15);
    buf_t program = {0}, events = {0};
    make_program(&dice, &program);
    make_events(&dice, &events);
    buf_text(&program);
    buf_text(&events);
    char *expected = run(&program, &events, &(cut_t){0});
    for (unsigned i = 0; i <= CUTS; i++) {
        cut_t cut = {.events = 1, .dice = i ? &dice : NULL};
        char *found = run(&program, &events, &cut);
        if (strcmp(found, expected) != 0) {
            fprintf(stderr, "== seed %u, cut %u\n%s\n-- in\n%s-- out\n%s-- out, cut otherwise\n%s", seed, i, (char *) program.data, (char *) events.data,
                    expected, found);
            fail_msg("seed %u", seed);
        }
        mem_free(found);
    }
    mem_free(expected);
    buf_fini(&program);
    buf_fini(&events);
}

static void cuts_and_restarts_change_nothing(void **state) {
    unsigned from = 1, to = SEEDS;
    const char *given = getenv("CUTS_SEEDS");
    if (given)
        sscanf(given, "%u-%u", &from, &to);
    for (unsigned seed = from; seed <= to; seed++)
        check(seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cuts_and_restarts_change_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
