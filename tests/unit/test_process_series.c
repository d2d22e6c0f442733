/* Windows that move, trends and sequences: the window against sums made afresh, with many late events and through snapshots; and state that is
 * damaged, which is refused or runs on, and never does harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "../../cmd/process/program.h"
#include "../../cmd/process/rolling.h"
#include "base/clock.h"
#include "data/lang/expression.h"
#include "data/pack.h"

#define ROUNDS 40
#define EVENTS 700

static unsigned random_below(unsigned limit) {
    return (unsigned) random() % limit;
}

/* The window. */

typedef struct plain {        /* what is in it, as it came */
    int64_t times[EVENTS];
    int64_t values[EVENTS];
    unsigned count;
} plain_t;

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;
    return (x > y) - (x < y);
}

static void check_results(const rolling_t *rolling, const plain_t *plain, int64_t span, unsigned most) {
    int64_t newest = INT64_MIN, inside[EVENTS], sum = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < plain->count; i++)
        newest = plain->times[i] > newest ? plain->times[i] : newest;
    for (unsigned i = 0; i < plain->count; i++)
        if (span ? plain->times[i] > newest - span : i + most >= plain->count)
            inside[count++] = plain->values[i];
    for (unsigned i = 0; i < count; i++)
        sum += inside[i];
    qsort(inside, count, sizeof *inside, by_value);
    double middle = count % 2 ? (double) inside[count / 2] : (double) (inside[count / 2 - 1] + inside[count / 2]) / 2;
    assert_true(value_equal(rolling_result(rolling, 0), value_uint(count)));
    assert_true(value_equal(rolling_result(rolling, 1), value_int(sum)));
    assert_true(value_equal(rolling_result(rolling, 2), value_int(inside[0])));
    assert_true(value_equal(rolling_result(rolling, 3), value_int(inside[count - 1])));
    assert_true(rolling_result(rolling, 4).number == middle);
}

static rolling_t *through_snapshot(rolling_t *rolling, const rolling_plan_t *plan) {
    buf_t bytes = {0}, again = {0};
    rolling_save(rolling, &bytes);
    rolling_fini(rolling);
    mem_free(rolling);
    rolling_t *fresh = mem_zero(rolling_size(plan));
    pack_cursor_t cursor = pack_cursor(bytes.data, bytes.size);
    assert_true(rolling_load(fresh, plan, &cursor) && cursor.at == cursor.end);
    rolling_save(fresh, &again);
    assert_int_equal(bytes.size, again.size);
    assert_memory_equal(bytes.data, again.data, bytes.size);
    buf_fini(&bytes);
    buf_fini(&again);
    return fresh;
}

static void windows_have_what_came_and_is_young_enough(void **state) {
    static const rolling_function_t functions[] = {ROLLING_COUNT, ROLLING_SUM, ROLLING_MIN, ROLLING_MAX, ROLLING_MEDIAN};
    for (unsigned round = 0; round < ROUNDS; round++) {
        srandom(round);
        rolling_plan_t plan = {.span = round % 2 ? 1 + random_below(300) : 0, .most = round % 2 ? ROLLING_MOST : 1 + random_below(90)};
        for (unsigned i = 0; i < 5; i++)
            rolling_plan_add(&plan, (rolling_use_t){.function = functions[i], .column = 0});
        rolling_plan_finish(&plan);
        rolling_t *rolling = mem_zero(rolling_size(&plan));
        rolling_init(rolling, &plan);
        plain_t plain = {0};
        int64_t now = 0;
        unsigned late = random_below(3) * 40;
        for (; plain.count < EVENTS; plain.count++) {
            now += (int64_t) random_below(random_below(50) ? 6 : 400);
            int64_t time = random_below(100) < late ? now - (int64_t) random_below(200) : now;
            value_t value = value_int((int64_t) random_below(2000) - 1000);
            plain.times[plain.count] = time;
            plain.values[plain.count] = value.integer;
            assert_true(rolling_add(rolling, time, &value));
            plain.count++;
            check_results(rolling, &plain, plan.span, plan.most);
            plain.count--;
            if (random_below(20) == 0)
                rolling = through_snapshot(rolling, &plan);
        }
        rolling_fini(rolling);
        mem_free(rolling);
        rolling_plan_fini(&plan);
    }
}

/* Damaged state. */

static frame_t *random_frame(int64_t *now) {
    static const char *const words[] = {"a text", "x", "another text, which is longer than the others"};
    frame_builder_t builder = {0};
    for (unsigned i = 0; i < 40; i++) {
        *now += (int64_t) random_below(800) * NS_PER_MS;
        builder_begin(&builder);
        pack_map(&builder.body, 3);
        pack_text(&builder.body, "k");
        pack_int(&builder.body, (int64_t) random_below(4));
        pack_text(&builder.body, "v");
        if (random_below(8))
            pack_double(&builder.body, (double) random_below(1000) / 7 - 50);
        else
            pack_int(&builder.body, (int64_t) random_below(100));
        pack_text(&builder.body, "s");
        pack_text(&builder.body, words[random_below(3)]);
        builder_commit(&builder, *now - (int64_t) (random_below(4) ? 0 : random_below(3000)) * NS_PER_MS, *now);
    }
    frame_t *frame = builder_take(&builder, "input");
    builder_fini(&builder);
    return frame;
}

static void take_frame(void *argument, frame_t *frame) {
    frame_unref(frame);
}

static void take_dead(void *argument, const event_t *event, const char *place, const char *reason) {
}

static program_t *new_program(const char *text) {
    diagnostics_t diagnostics = {.name = "program", .source = text_of(text)};
    program_setup_t setup = {.stream = "process", .inputs = 1, .batch_events = 100, .batch_bytes = 1 << 16, .frame = take_frame, .dead = take_dead};
    program_t *program = program_new(&setup, &diagnostics);
    assert_non_null(program);
    return program;
}

static void run_frames(program_t *program, int64_t now, unsigned count) {
    while (count--) {
        frame_t *frame = random_frame(&now);
        program_frame(program, 0, frame);
        frame_unref(frame);
    }
}

#define CHECKSUM 10           /* bytes of it, behind the state */

/* Changes the operator's state, and makes the checksum right again. */
static void mutate(buf_t *bytes) {
    size_t size = bytes->size - CHECKSUM;
    for (unsigned changes = 1 + random_below(3); changes; changes--) {
        size_t at = size / 16 + (size_t) random() % (size - size / 16);
        switch (random_below(4)) {
        case 0: bytes->data[at] ^= (uint8_t) (1u << random_below(8)); break;
        case 1: bytes->data[at] = (uint8_t) random(); break;
        case 2: bytes->data[at]++; break;
        default: memmove(bytes->data + at, bytes->data + at + 1, size - at - 1);
        }
    }
    uint64_t sum = XXH3_64bits(bytes->data, size);
    memcpy(bytes->data + bytes->size - sizeof sum, &sum, sizeof sum);
}

static void damaged_state_does_no_harm(void **state) {
    static const char *const programs[] = {
        "moving avg(v), min(v), max(v), stddev(v), median(v), count(s) as c, ewma(v, 5s) over 8s by k", "moving sum(v), median(v), ewma(v, 0.5) over 9 by k",
        "delta v, v * 2 as w by k | rate v by k counter", "trend v over 30s by k", "trend v over 12 by k",
        "sequence s by k: A when v > 0 times 2 to 4 within 8s then B when v > A.v within 5s",
        "sequence s by k: A when v > 0 then not X when v > 80 then B when s == \"x\" then not C when v > B.v within 9s"};
    unsigned refused = 0, taken = 0;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        program_t *program = new_program(programs[i]);
        srandom((unsigned) i);
        run_frames(program, 0, 3);
        buf_t saved = {0};
        program_save(program, &saved, NULL, NULL);
        program_free(program);
        for (unsigned round = 0; round < 250; round++) {
            buf_t bytes = {0};
            buf_put(&bytes, saved.data, saved.size);
            mutate(&bytes);
            program = new_program(programs[i]);
            err_t err;
            if (program_load(program, bytes.data, bytes.size, &err) < 0) {
                refused++;
            } else {
                taken++;
                run_frames(program, 60 * NS_PER_S, 2);
                assert_true(program_memory(program) < 1 << 24);
                program_end(program);
            }
            program_free(program);
            buf_fini(&bytes);
        }
        buf_fini(&saved);
    }
    assert_true(refused > 100 && taken > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_have_what_came_and_is_young_enough),
        cmocka_unit_test(damaged_state_does_no_harm),
    };
    return cmocka_run_group_tests_name("process_series", tests, NULL, NULL);
}
