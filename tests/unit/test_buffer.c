/* Growable buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "child.h"

static void grows_and_keeps_content(void **state) {
    buf_t buf = {0};
    for (unsigned i = 0; i < 100000; i++)
        buf_put_byte(&buf, (uint8_t) (i * 7));
    assert_int_equal(buf.size, 100000);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(buf.data[i], (uint8_t) (i * 7));
    buf_clear(&buf);
    assert_int_equal(buf.size, 0);
    assert_true(buf.capacity >= 100000);
    buf_fini(&buf);
    assert_null(buf.data);
    buf_fini(&buf);
}

static void room_is_exact_at_the_edge(void **state) {
    for (size_t first = 0; first < 130; first++) {
        for (size_t room = 0; room < 130; room++) {
            buf_t buf = {0};
            memset(buf_reserve(&buf, first + 1), 1, first);
            buf.size = first;
            uint8_t *to = buf_reserve(&buf, room);
            memset(to, 2, room);
            assert_true(buf.capacity - buf.size >= room);
            assert_ptr_equal(to, buf.data + first);
            buf_fini(&buf);
        }
    }
}

static void nothing_may_be_put(void **state) {
    buf_t buf = {0};
    buf_put(&buf, NULL, 0);
    buf_put_text(&buf, "");
    buf_consume(&buf, 0);
    assert_int_equal(buf.size, 0);
    assert_string_equal(buf_text(&buf), "");
    assert_int_equal(buf.size, 0);
    buf_fini(&buf);
}

static void format_appends(void **state) {
    buf_t buf = {0};
    char expected[3000] = "";
    for (int i = 0; i < 300; i++) {
        buf_format(&buf, "%d,", i);
        sprintf(expected + strlen(expected), "%d,", i);
        assert_string_equal(buf_text(&buf), expected);
    }
    buf_clear(&buf);
    buf_format(&buf, "%s", "");
    assert_int_equal(buf.size, 0);
    buf_format(&buf, "%100000d", 1);
    assert_int_equal(buf.size, 100000);
    assert_int_equal(buf.data[99999], '1');
    buf_format(&buf, "a%cb", 0);
    assert_int_equal(buf.size, 100003);
    assert_memory_equal(buf.data + 100000, "a\0b", 3);
    buf_fini(&buf);
}

static void the_text_follows_every_change(void **state) {
    buf_t buf = {0};
    buf_put(&buf, "0123456789012345678901234567890123456789012345678901234567890123", 64); /* exactly full */
    assert_int_equal(buf.capacity, 64);
    assert_int_equal(strlen(buf_text(&buf)), 64);
    buf_fini(&buf);
}

static void consuming_takes_from_the_front(void **state) {
    buf_t buf = {0};
    buf_put_text(&buf, "abcdef");
    buf_consume(&buf, 2);
    assert_string_equal(buf_text(&buf), "cdef");
    buf_consume(&buf, 0);
    assert_string_equal(buf_text(&buf), "cdef");
    buf_consume(&buf, 4);
    assert_int_equal(buf.size, 0);
    buf_fini(&buf);
}

static void consume_too_much(void *argument) {
    buf_t buf = {0};
    buf_put_text(&buf, "abc");
    buf_consume(&buf, 4);
}

static void reserve_too_much(void *argument) {
    buf_t buf = {0};
    buf_put_text(&buf, "abc");
    volatile size_t room = SIZE_MAX - 1;
    buf_reserve(&buf, room);
}

static void misuse_panics(void **state) {
    child_t child;
    child_run(&child, consume_too_much, NULL);
    assert_true(child_aborted(&child));
    child_run(&child, reserve_too_much, NULL);
    assert_true(child_aborted(&child));
}

static void taking_empties(void **state) {
    buf_t buf = {0};
    buf_put_text(&buf, "abc");
    uint8_t *data = buf_take(&buf);
    assert_memory_equal(data, "abc", 3);
    assert_null(buf.data);
    assert_int_equal(buf.capacity, 0);
    mem_free(data);
    assert_null(buf_take(&buf));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_keeps_content),
        cmocka_unit_test(room_is_exact_at_the_edge),
        cmocka_unit_test(nothing_may_be_put),
        cmocka_unit_test(format_appends),
        cmocka_unit_test(the_text_follows_every_change),
        cmocka_unit_test(consuming_takes_from_the_front),
        cmocka_unit_test(misuse_panics),
        cmocka_unit_test(taking_empties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
