/* Parts of windows: states of aggregates are put together, saved, loaded from damaged bytes and freed without a rest; cells come due in order; memory
 * of keys that are gone is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cmd/process/aggregate.h"
#include "../../cmd/process/cell.h"
#include "../../cmd/process/program.h"
#include "base/clock.h"
#include "data/pack.h"

static unsigned random_below(unsigned limit) {
    return (unsigned) random() % limit;
}

/* States. */

typedef struct probe {
    accumulator_t accumulator;
    aggregate_t aggregate;
    arena_t arena;
    buf_t scratch;
} probe_t;

static void probe_init(probe_t *probe, const aggregate_class_t *class, bool removes) {
    *probe = (probe_t){0};
    if (removes && class->sliding)
        class = class->sliding;
    probe->aggregate = (aggregate_t){.class = class, .parameter = class->parameter ? 3 : 50};
    probe->accumulator = (accumulator_t){.class = class->state, .name = class->name, .removes = removes, .limit = class->limit * 3};
}

static void probe_fini(probe_t *probe) {
    assert_int_equal(probe->accumulator.owned, 0);
    buf_fini(&probe->accumulator.scratch);
    arena_fini(&probe->arena);
    buf_fini(&probe->scratch);
}

static void *state_new(const probe_t *probe) {
    return mem_zero(probe->accumulator.class->size);
}

static void state_free(probe_t *probe, void *state) {
    if (probe->accumulator.class->drop)
        probe->accumulator.class->drop(&probe->accumulator, state);
    mem_free(state);
}

static value_t result(probe_t *probe, const void *state) {
    finish_t finish = {.span = NS_PER_S, .arena = &probe->arena, .scratch = &probe->scratch};
    return probe->aggregate.class->result(&probe->aggregate, state, &finish);
}

static void assert_same(value_t a, value_t b, const char *name) {
    if (a.type == VALUE_DOUBLE && b.type == VALUE_DOUBLE) {
        double apart = a.number - b.number, size = a.number < 0 ? -a.number : a.number;
        if (apart > 1e-9 * size + 1e-9 || apart < -1e-9 * size - 1e-9)
            fail_msg("%s: %.17g and %.17g", name, a.number, b.number);
        return;
    }
    if (a.type != b.type || (a.type != VALUE_NULL && (a.type >= VALUE_STRING && a.type <= VALUE_MAP
                                                          ? a.size != b.size || (a.size && memcmp(a.text, b.text, a.size) != 0)
                                                          : a.integer != b.integer)))
        fail_msg("%s: not the same", name);
}

static value_t random_value(const aggregate_class_t *class) {
    static const char *const texts[] = {"", "a", "a text that takes memory of its own", "b", "another"};
    bool texts_too = !class->takes || class->takes & TYPES_TEXT;
    if (texts_too && random_below(3) == 0) {
        const char *text = texts[random_below(5)];
        return value_text(text, strlen(text));
    }
    return random_below(2) ? value_int((int64_t) random_below(1000) - 300) : value_double((double) random_below(100000) / 7 - 2000);
}

static void add_random(probe_t *probe, const aggregate_class_t *class, void *first, void *second, unsigned count, int64_t *time) {
    for (unsigned i = 0; i < count; i++) {
        value_t value = random_value(class);
        *time += (int64_t) random_below(3) * NS_PER_S;
        probe->accumulator.class->add(&probe->accumulator, first, value, *time);
        if (second)
            probe->accumulator.class->add(&probe->accumulator, second, value, *time);
    }
}

static void states_put_together_are_the_state_of_all(void **state) {
    for (const aggregate_class_t *class = aggregate_table; class->name; class++) {
        for (unsigned round = 0; round < 60; round++) {
            probe_t probe;
            srandom(round);
            probe_init(&probe, class, false);
            void *whole = state_new(&probe), *front = state_new(&probe), *back = state_new(&probe);
            int64_t time = INT64_C(1700000000) * NS_PER_S;
            unsigned few = round < 50 ? 15 : 60; /* top is exact up to 128 values */
            add_random(&probe, class, whole, front, random_below(few), &time);
            time += NS_PER_S;
            add_random(&probe, class, whole, back, random_below(few), &time);
            probe.accumulator.class->merge(&probe.accumulator, front, back);
            assert_same(result(&probe, whole), result(&probe, front), class->name);
            state_free(&probe, whole);
            state_free(&probe, front);
            state_free(&probe, back);
            probe_fini(&probe);
        }
    }
}

static void what_is_taken_out_leaves_nothing(void **state) {
    for (const aggregate_class_t *class = aggregate_table; class->name; class++) {
        probe_t probe;
        probe_init(&probe, class, true);
        const state_class_t *kind = probe.accumulator.class;
        void *slid = state_new(&probe), *fresh = state_new(&probe);
        value_t values[500];
        for (unsigned i = 0; kind->remove && i < 500; i++) {
            values[i] = random_value(class);
            kind->add(&probe.accumulator, slid, values[i], i);
            if (i >= 20)
                kind->remove(&probe.accumulator, slid, values[i - 20], i - 20);
        }
        for (unsigned i = 480; kind->remove && i < 500; i++)
            kind->add(&probe.accumulator, fresh, values[i], i);
        if (kind->remove)
            assert_same(result(&probe, fresh), result(&probe, slid), class->name);
        state_free(&probe, slid);
        state_free(&probe, fresh);
        probe_fini(&probe);
    }
}

/* Bytes that were saved, a few of them changed: refused, or read as some state that works. */
static void damaged_states_do_no_harm(void **state) {
    srandom(1);
    for (const aggregate_class_t *class = aggregate_table; class->name; class++) {
        for (unsigned round = 0; round < 400; round++) {
            probe_t probe;
            probe_init(&probe, class, round % 2);
            const state_class_t *kind = probe.accumulator.class;
            void *right = state_new(&probe), *wrong = state_new(&probe);
            int64_t time = 0;
            add_random(&probe, class, right, NULL, random_below(round % 10 ? 50 : 1000), &time);
            buf_t bytes = {0}, again = {0};
            kind->save(right, &bytes);
            pack_cursor_t cursor = pack_cursor(bytes.data, bytes.size);
            assert_true(kind->load(&probe.accumulator, wrong, &cursor) && cursor.at == cursor.end);
            kind->save(wrong, &again);
            assert_int_equal(again.size, bytes.size);
            assert_memory_equal(again.data, bytes.data, bytes.size);
            state_free(&probe, wrong);
            wrong = state_new(&probe);
            for (unsigned i = 1 + random_below(4); i; i--)
                bytes.data[random_below((unsigned) bytes.size)] = (uint8_t) random();
            cursor = pack_cursor(bytes.data, random_below(2) ? bytes.size : random_below((unsigned) bytes.size));
            if (kind->load(&probe.accumulator, wrong, &cursor)) {
                result(&probe, wrong);
                kind->merge(&probe.accumulator, wrong, right);
                result(&probe, wrong);
            }
            state_free(&probe, wrong);
            state_free(&probe, right);
            buf_fini(&bytes);
            buf_fini(&again);
            probe_fini(&probe);
        }
    }
}

/* Cells. */

static void cells_come_due_in_order(void **state) {
    srandom(2);
    cells_t *cells = cells_new(8);
    int64_t dues[300];
    cell_t *alive[300] = {0};
    for (unsigned round = 0; round < 30000; round++) {
        unsigned i = random_below(300);
        char key[40];
        size_t size = (size_t) snprintf(key, sizeof key, i % 2 ? "key %u" : "a longer key %u", i);
        uint64_t hash = i % 100 * UINT64_C(0x9E3779B97F4A7C15); /* several have the same */
        assert_ptr_equal(cells_find(cells, key, size, hash), alive[i]);
        if (!alive[i]) {
            alive[i] = cells_add(cells, key, size, hash);
        } else if (random_below(20) == 0) {
            cells_remove(cells, alive[i]);
            alive[i] = NULL;
            continue;
        }
        dues[i] = random_below(1000);
        cells_due(cells, alive[i], dues[i]);
        if (random_below(50))
            continue;
        int64_t watermark = random_below(1000);
        cell_t *first = NULL;
        for (unsigned j = 0; j < 300; j++)
            if (alive[j] && dues[j] <= watermark &&
                (!first || dues[j] < first->due || (dues[j] == first->due && alive[j]->number < first->number)))
                first = alive[j];
        assert_ptr_equal(cells_first(cells, watermark), first);
    }
    uint64_t number = 0;
    for (const cell_t *cell = cells->first; cell; cell = cell->after) {
        assert_true(cell->number > number);
        number = cell->number;
    }
    cells_free(cells);
}

/* Memory. */

static void throw_away(void *argument, frame_t *frame) {
    *(uint64_t *) argument += frame->events;
    frame_unref(frame);
}

static void dead(void *argument, const event_t *event, const char *place, const char *reason) {
    fail_msg("%s", reason);
}

/* Keys that come for a second and never again: a hundred thousand of them. */
static void keys_that_are_gone_take_no_memory(void **state) {
    static const char *const programs[] = {
        "window session 1s by k: count() as n, max(s), p99(v), distinct(s), top(s, 3), collect(s)",
        "window sliding 1s by k wait 1s: sum(v), max(s), p99(v), distinct(s), top(s, 3), collect(s)",
        "window count 1000 by k expire 1s: count() as n, max(s), p99(v), distinct(s), top(s, 3), collect(s)",
        "window count 1000 every 10 by k expire 1s: count() as n, max(s), p99(v), distinct(s), top(s, 3), collect(s)",
        "window hopping 2s every 1s by k: max(s), p99(v), distinct(s), top(s, 3), collect(s)",
        "window tumbling 1s early every 100ms by k late 1s: max(s), p99(v), distinct(s), top(s, 3), collect(s)"};
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        uint64_t out = 0, in = 0;
        size_t most = 0, first = 0;
        diagnostics_t diagnostics = {.name = "program", .source = text_of(programs[i])};
        program_setup_t setup = {.stream = "out", .inputs = 1, .batch_events = 1000, .batch_bytes = 1 << 20, .frame = throw_away, .dead = dead,
                                 .argument = &out};
        program_t *program = program_new(&setup, &diagnostics);
        assert_non_null(program);
        for (unsigned second = 0; second < 200; second++) {
            frame_builder_t builder = {0};
            for (unsigned j = 0; j < 1000; j++, in++) {
                builder_begin(&builder);
                pack_map(&builder.body, 3);
                pack_text(&builder.body, "k");
                pack_int(&builder.body, (int64_t) (second * 500 + j / 2));
                pack_text(&builder.body, "v");
                pack_int(&builder.body, (int64_t) j);
                pack_text(&builder.body, "s");
                pack_text(&builder.body, j % 3 ? "a text of its own" : "another, longer text of its own");
                builder_commit(&builder, (int64_t) (1700000000 + second) * NS_PER_S + (int64_t) j * NS_PER_MS, 0);
            }
            frame_t *frame = builder_take(&builder, "in");
            builder_fini(&builder);
            program_frame(program, 0, frame);
            frame_unref(frame);
            size_t memory = program_memory(program);
            most = memory > most ? memory : most;
            if (second == 20)
                first = most;
        }
        assert_true(first > 10000);
        assert_true(most < 2 * first); /* as much at the end as at the beginning */
        program_end(program);
        program_counts_t counts = program_counts(program);
        assert_int_equal(counts.held, 0);
        assert_int_equal(in + counts.created, out + counts.filtered);
        program_free(program);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_put_together_are_the_state_of_all),
        cmocka_unit_test(what_is_taken_out_leaves_nothing),
        cmocka_unit_test(damaged_states_do_no_harm),
        cmocka_unit_test(cells_come_due_in_order),
        cmocka_unit_test(keys_that_are_gone_take_no_memory),
    };
    return cmocka_run_group_tests_name("process_windows", tests, NULL, NULL);
}
