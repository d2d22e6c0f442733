/* The hash map against a plain list, with removals and rebuilds in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"
#include "child.h"

static int values[1000];

static void absent_and_replaced(void **state) {
    map_t *map = map_new();
    assert_null(map_get(map, text_of("a")));
    assert_null(map_remove(map, text_of("a")));
    assert_int_equal(map_count(map), 0);
    size_t position = 0;
    assert_false(map_next(map, &position, NULL, NULL));
    assert_null(map_put(map, text_of("a"), &values[1]));
    assert_ptr_equal(map_put(map, text_of("a"), &values[2]), &values[1]);
    assert_ptr_equal(map_get(map, text_of("a")), &values[2]);
    assert_int_equal(map_count(map), 1);
    assert_ptr_equal(map_remove(map, text_of("a")), &values[2]);
    assert_null(map_get(map, text_of("a")));
    assert_null(map_remove(map, text_of("a")));
    assert_int_equal(map_count(map), 0);
    map_free(map);
    map_free(NULL);
}

/* The empty key, keys with NUL bytes, prefixes of each other, and very long ones are all different. */
static void any_bytes_are_a_key(void **state) {
    map_t *map = map_new();
    char *large = mem_alloc(1000000);
    memset(large, 'x', 1000000);
    text_t keys[] = {text_make(NULL, 0), text_make("\0", 1), text_make("\0\0", 2), text_make("a", 1), text_make("a\0", 2),
                     text_make("a\0b", 3), text_make("a\0c", 3), text_make(large, 1000000), text_make(large, 999999)};
    for (int i = 0; i < 9; i++)
        assert_null(map_put(map, keys[i], &values[i]));
    assert_int_equal(map_count(map), 9);
    for (int i = 0; i < 9; i++)
        assert_ptr_equal(map_get(map, keys[i]), &values[i]);
    assert_ptr_equal(map_get(map, text_of("")), &values[0]);
    size_t position = 0;
    text_t key;
    void *value;
    for (int i = 0; i < 9; i++) {
        assert_true(map_next(map, &position, &key, &value));
        assert_true(text_equal(key, keys[i]));
        assert_ptr_equal(value, &values[i]);
    }
    assert_false(map_next(map, &position, &key, &value));
    mem_free(large);
    map_free(map);
}

static text_t name_of(char *out, unsigned number) {
    return text_make(out, (size_t) sprintf(out, "key-%u", number));
}

/* Random puts and removals; a list in insertion order says what the map must hold. */
static void agrees_with_a_list(void **state) {
    enum { KEYS = 400, STEPS = 100000 };
    static unsigned order[STEPS];
    static unsigned place[KEYS]; /* where a key stands in order + 1; 0: absent */
    map_t *map = map_new();
    size_t length = 0, live = 0;
    uint32_t random = 7;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525 + 1013904223;
        unsigned range = step / 10000 % 2 ? KEYS : 12; /* a few keys that churn, then many */
        unsigned number = (random >> 8) % range;
        char text[32];
        text_t key = name_of(text, number);
        void *expected = place[number] ? &values[number] : NULL;
        if (random >> 28 < 8) {
            assert_ptr_equal(map_put(map, key, &values[number]), expected);
            if (!expected) {
                order[length++] = number;
                place[number] = (unsigned) length;
                live++;
            }
        } else if (random >> 28 < 14) {
            assert_ptr_equal(map_remove(map, key), expected);
            live -= expected != NULL;
            place[number] = 0;
        } else {
            assert_ptr_equal(map_get(map, key), expected);
        }
        assert_int_equal(map_count(map), live);
        if (step % 1000)
            continue;
        size_t position = 0;
        void *value;
        for (size_t i = 0; i < length; i++) {
            if (place[order[i]] != i + 1)
                continue;
            assert_true(map_next(map, &position, &key, &value));
            assert_true(text_equal(key, name_of(text, order[i])));
            assert_ptr_equal(value, &values[order[i]]);
        }
        assert_false(map_next(map, &position, &key, &value));
    }
    map_free(map);
}

static void removal_while_walking(void **state) {
    map_t *map = map_new();
    char text[32];
    for (unsigned i = 0; i < 300; i++)
        map_put(map, name_of(text, i), &values[i]);
    size_t position = 0;
    unsigned seen = 0;
    text_t key;
    void *value;
    while (map_next(map, &position, &key, &value)) {
        assert_ptr_equal(value, &values[seen++]);
        if (seen % 3)
            assert_ptr_equal(map_remove(map, key), value);
    }
    assert_int_equal(seen, 300);
    assert_int_equal(map_count(map), 100);
    for (unsigned i = 300; i < 1000; i++) /* rebuilds around the holes */
        map_put(map, name_of(text, i), &values[i]);
    position = 0;
    for (unsigned i = 2; i < 1000; i += i < 299 ? 3 : 1) {
        assert_true(map_next(map, &position, NULL, &value));
        assert_ptr_equal(value, &values[i]);
    }
    assert_false(map_next(map, &position, NULL, &value));
    map_free(map);
}

static void put_null(void *argument) {
    map_put(map_new(), text_of("a"), NULL);
}

static void a_null_value_panics(void **state) {
    child_t child;
    child_run(&child, put_null, NULL);
    assert_true(child_aborted(&child));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_and_replaced),
        cmocka_unit_test(any_bytes_are_a_key),
        cmocka_unit_test(agrees_with_a_list),
        cmocka_unit_test(removal_while_walking),
        cmocka_unit_test(a_null_value_panics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
