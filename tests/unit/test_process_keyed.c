/* State by key: against a plain list that remembers when each key was heard, over random keys, silences and watermarks, saved and loaded
 * on the way; nothing that blocks own is lost or freed twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cmd/process/keyed.h"

typedef struct block {
    uint64_t number;
    char *text;               /* owned */
} block_t;

static unsigned owned;        /* texts that live */

static void block_save(const void *state, buf_t *out) {
    const block_t *block = state;
    pack_uint(out, block->number);
    pack_text(out, block->text ? block->text : "");
}

static bool block_load(void *context, void *state, pack_cursor_t *cursor) {
    block_t *block = state;
    text_t text;
    assert_non_null(context);
    if (!pack_read_uint(cursor, &block->number) || !pack_read_string(cursor, &text))
        return false;
    block->text = mem_text_n(text.data, text.size);
    owned++;
    return true;
}

static void block_drop(void *state) {
    block_t *block = state;
    owned -= block->text != NULL;
    mem_free(block->text);
}

static size_t block_memory(const void *state) {
    const block_t *block = state;
    return block->text ? strlen(block->text) + 1 : 0;
}

static const keyed_class_t class = {sizeof(block_t), 2, block_save, block_load, block_drop, block_memory};

static void ignore(void *argument, frame_t *frame) { frame_unref(frame); }

/* A program to belong to, and a state "by k expire 100ns" whose key is the row's first value. */
typedef struct world {
    program_t *program;
    unit_t unit;
    scope_t scope;
    diagnostics_t program_diagnostics, diagnostics;
    keyed_t *keyed;
} world_t;

static keyed_t *new_keyed(world_t *world, const char *text) {
    keyed_t *keyed = keyed_new(world->program, &class, world);
    world->diagnostics = (diagnostics_t){.name = "test", .source = text_of(text)};
    size_t count;
    token_t *tokens = lexer_read(&world->diagnostics, &count);
    parser_t parser = {.diagnostics = &world->diagnostics, .tokens = tokens, .unit = &world->unit, .scope = &world->scope, .owner = "test"};
    int status = 0;
    while (status == 0 && keyed_parse(keyed, &parser, &status)) {
    }
    assert_int_equal(status, 0);
    mem_free(tokens);
    diagnostics_fini(&world->diagnostics);
    return keyed;
}

static void set_up(world_t *world) {
    *world = (world_t){.program_diagnostics = {.name = "program", .source = text_of("")}};
    program_setup_t setup = {.stream = "s", .inputs = 1, .batch_events = 1, .batch_bytes = 1, .frame = ignore};
    world->program = program_new(&setup, &world->program_diagnostics);
    scope_bind(&world->scope, text_of("k"), SOURCE_VALUE, scope_new_value(&world->scope), TYPES_ANY);
    world->keyed = new_keyed(world, "by k expire 100ns");
}

static void tear_down(world_t *world) {
    keyed_free(world->keyed);
    assert_int_equal(owned, 0);
    scope_fini(&world->scope);
    unit_fini(&world->unit);
    program_free(world->program);
    diagnostics_fini(&world->program_diagnostics);
}

/* The state goes through bytes. */
static void restart(world_t *world) {
    buf_t bytes = {0}, again = {0};
    keyed_save(world->keyed, &bytes);
    keyed_free(world->keyed);
    assert_int_equal(owned, 0);
    world->keyed = new_keyed(world, "by k expire 100ns");
    pack_cursor_t cursor = pack_cursor(bytes.data, bytes.size);
    err_t err;
    assert_int_equal(keyed_load(world->keyed, &cursor, &err), 0);
    assert_ptr_equal(cursor.at, cursor.end);
    keyed_save(world->keyed, &again);
    assert_int_equal(again.size, bytes.size);
    assert_memory_equal(again.data, bytes.data, bytes.size);
    buf_fini(&bytes);
    buf_fini(&again);
}

#define KEYS 40

typedef struct model {
    uint64_t number;          /* 0: not there */
    int64_t heard;
} model_t;

static uint64_t random_state;

static uint32_t below(uint32_t limit) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t) ((random_state >> 33) % limit);
}

typedef struct seen {
    uint64_t numbers[KEYS];
    unsigned count;
    size_t bytes;
    bool drop_odd;
} seen_t;

static keyed_answer_t visit(void *argument, void *state, const uint8_t *key, size_t key_size) {
    seen_t *seen = argument;
    value_t value = key_read(&key, key + key_size);
    block_t *block = state;
    assert_true(seen->count < KEYS);
    seen->numbers[seen->count++] = block->number * 1000 + value.unsigned_integer;
    seen->bytes += block_memory(block);
    return seen->drop_odd && value.unsigned_integer % 2 ? KEYED_DROP : KEYED_KEEP;
}

static int by_number(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *) a, right = *(const uint64_t *) b;
    return left < right ? -1 : left > right;
}

static void look_at_all(world_t *world, model_t *model, int64_t watermark, bool drop_odd) {
    seen_t seen = {.drop_odd = drop_odd};
    keyed_each(world->keyed, watermark, visit, &seen);
    uint64_t expected[KEYS];
    unsigned count = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        if (!model[i].number || watermark > model[i].heard + 100)
            continue;
        expected[count++] = model[i].number * 1000 + i;
        if (drop_odd && i % 2)
            model[i].number = 0;
    }
    qsort(seen.numbers, seen.count, sizeof *seen.numbers, by_number);
    qsort(expected, count, sizeof *expected, by_number);
    assert_int_equal(seen.count, count);
    assert_memory_equal(seen.numbers, expected, count * sizeof *expected);
}

static void run(world_t *world, uint64_t seed, bool restarts) {
    model_t model[KEYS] = {0};
    random_state = seed;
    int64_t watermark = seed % 3 ? 1000 : -5000;
    for (unsigned step = 0; step < 20000;) {
        row_t rows[BATCH] = {0}, *pointers[BATCH];
        value_t values[BATCH];
        unsigned count = 1 + below(BATCH);
        for (unsigned i = 0; i < count; i++) {
            watermark += below(40) ? below(4) : below(300);
            values[i] = value_int(below(8) ? below(6) : below(KEYS));
            int64_t time = watermark - below(20) + (below(10) ? 0 : below(250));
            rows[i] = (row_t){.values = &values[i], .event.time = time, .watermark = watermark};
            pointers[i] = &rows[i];
        }
        keyed_prepare(world->keyed, pointers, count);
        for (unsigned i = 0; i < count; i++, step++) {
            model_t *expected = &model[values[i].integer];
            if (expected->number && rows[i].watermark > expected->heard + 100)
                expected->number = 0;
            bool look = below(4) == 0;
            block_t *block = look ? keyed_find(world->keyed, i, &rows[i]) : keyed_get(world->keyed, i, &rows[i]);
            if (look && !expected->number) {
                assert_null(block);
                continue;
            }
            assert_non_null(block);
            if (!look)
                assert_int_equal(keyed_is_new(world->keyed), expected->number == 0);
            assert_int_equal(block->number, expected->number);
            if (!block->text) {
                block->text = mem_format("%*s", 1 + (int) below(60), "x");
                owned++;
                expected->heard = INT64_MIN;
            }
            int64_t heard = rows[i].event.time > rows[i].watermark ? rows[i].event.time : rows[i].watermark;
            expected->heard = heard > expected->heard ? heard : expected->heard;
            block->number = expected->number = step + 1;
        }
        if (below(50) == 0)
            look_at_all(world, model, watermark, below(4) == 0);
        if (restarts && below(30) == 0)
            restart(world);
    }
    look_at_all(world, model, watermark, false);
    seen_t seen = {0};
    keyed_each(world->keyed, INT64_MIN + 1, visit, &seen);
    assert_true(keyed_memory(world->keyed) >= seen.bytes);
}

static void remembers_as_long_as_it_says(void **state) {
    for (uint64_t seed = 1; seed <= 12; seed++) {
        world_t world;
        set_up(&world);
        run(&world, seed, seed % 2);
        tear_down(&world);
    }
}

static void order_is_the_same_however_it_is_saved(void **state) {
    for (uint64_t seed = 1; seed <= 6; seed++) {
        buf_t states[2] = {{0}, {0}};
        for (unsigned i = 0; i < 2; i++) {
            world_t world;
            set_up(&world);
            random_state = seed;
            int64_t watermark = 0;
            for (unsigned step = 0; step < 3000; step++) {
                value_t value = value_int(below(30));
                row_t row = {.values = &value, .event.time = watermark, .watermark = watermark}, *pointer = &row;
                watermark += below(9);
                keyed_prepare(world.keyed, &pointer, 1);
                block_t *block = keyed_get(world.keyed, 0, &row);
                block->number = step;
                bool looks = below(100) == 0, restarts = below(20) == 0;
                seen_t seen = {.drop_odd = true};
                if (looks)
                    keyed_each(world.keyed, watermark, visit, &seen);
                if (i && restarts)
                    restart(&world);
            }
            keyed_save(world.keyed, &states[i]);
            keyed_free(world.keyed);
            world.keyed = NULL;
            owned = 0;
            tear_down(&world);
        }
        /* Texts are empty where they went through bytes, and absent otherwise: both are saved as empty. */
        assert_int_equal(states[0].size, states[1].size);
        assert_memory_equal(states[0].data, states[1].data, states[0].size);
        buf_fini(&states[0]);
        buf_fini(&states[1]);
    }
}

static void damaged_state_is_refused(void **state) {
    world_t world;
    set_up(&world);
    run(&world, 5, false);
    buf_t bytes = {0};
    keyed_save(world.keyed, &bytes);
    err_t err;
    for (size_t size = 0; size < bytes.size; size++) {
        keyed_t *keyed = new_keyed(&world, "by k expire 100ns");
        pack_cursor_t cursor = pack_cursor(bytes.data, size);
        assert_int_equal(keyed_load(keyed, &cursor, &err), -1);
        keyed_free(keyed);
    }
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t *damaged = mem_copy(bytes.data, bytes.size);
        damaged[below((uint32_t) bytes.size)] = (uint8_t) below(256);
        keyed_t *keyed = new_keyed(&world, "by k expire 100ns");
        pack_cursor_t cursor = pack_cursor(damaged, bytes.size);
        keyed_load(keyed, &cursor, &err);
        keyed_free(keyed);
        mem_free(damaged);
    }
    buf_fini(&bytes);
    tear_down(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembers_as_long_as_it_says),
        cmocka_unit_test(order_is_the_same_however_it_is_saved),
        cmocka_unit_test(damaged_state_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
