/* msgpack: what is written reads back, in the shortest form; nothing malformed or cut short is read. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "data/pack.h"

static value_t read_all(const buf_t *buf) {
    pack_cursor_t cursor = pack_cursor(buf->data, buf->size);
    value_t value;
    assert_true(pack_read_value(&cursor, &value));
    assert_ptr_equal(cursor.at, cursor.end);
    /* every prefix is refused and leaves the cursor where it was */
    for (size_t cut = 0; cut < buf->size && cut < 300; cut++) {
        uint8_t *exact = mem_copy(buf->data, cut); /* so that a sanitizer sees a read beyond */
        pack_cursor_t shorter = pack_cursor(exact, cut);
        value_t none;
        assert_false(pack_read_value(&shorter, &none));
        assert_false(pack_skip(&shorter));
        assert_ptr_equal(shorter.at, exact);
        mem_free(exact);
    }
    pack_cursor_t skip = pack_cursor(buf->data, buf->size);
    assert_true(pack_skip(&skip));
    assert_ptr_equal(skip.at, skip.end);
    return value;
}

static void test_integers(void **state) {
    static const struct { int64_t value; size_t size; } cases[] = {
        {0, 1}, {127, 1}, {128, 2}, {255, 2}, {256, 3}, {65535, 3}, {65536, 5}, {UINT32_MAX, 5}, {INT64_C(4294967296), 9},
        {INT64_MAX, 9}, {-1, 1}, {-32, 1}, {-33, 2}, {-128, 2}, {-129, 3}, {-32768, 3}, {-32769, 5}, {INT32_MIN, 5},
        {(int64_t) INT32_MIN - 1, 9}, {INT64_MIN, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_t out = {0};
        pack_int(&out, cases[i].value);
        assert_int_equal(out.size, cases[i].size);
        value_t value = read_all(&out);
        assert_int_equal(value.type, VALUE_INT);
        assert_int_equal(value.integer, cases[i].value);
        pack_cursor_t cursor = pack_cursor(out.data, out.size);
        int64_t number;
        assert_true(pack_read_int(&cursor, &number));
        assert_int_equal(number, cases[i].value);
        cursor = pack_cursor(out.data, out.size);
        uint64_t natural;
        assert_true(pack_read_uint(&cursor, &natural) == (cases[i].value >= 0));
        buf_fini(&out);
    }
    buf_t out = {0};
    pack_uint(&out, UINT64_MAX);
    value_t value = read_all(&out);
    assert_int_equal(value.type, VALUE_UINT);
    assert_true(value.unsigned_integer == UINT64_MAX);
    pack_cursor_t cursor = pack_cursor(out.data, out.size);
    int64_t number;
    assert_false(pack_read_int(&cursor, &number));
    uint64_t natural;
    assert_true(pack_read_uint(&cursor, &natural) && natural == UINT64_MAX);
    buf_fini(&out);
}

static void test_scalars(void **state) {
    buf_t out = {0};
    pack_nil(&out);
    assert_int_equal(read_all(&out).type, VALUE_NULL);
    buf_clear(&out);
    pack_bool(&out, true);
    assert_true(read_all(&out).boolean);
    buf_clear(&out);
    pack_bool(&out, false);
    assert_false(read_all(&out).boolean);
    const double numbers[] = {0.0, -0.0, 1.5, 1e308, 5e-324, INFINITY};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        buf_clear(&out);
        pack_double(&out, numbers[i]);
        value_t value = read_all(&out);
        assert_int_equal(value.type, VALUE_DOUBLE);
        assert_memory_equal(&value.number, &numbers[i], sizeof(double));
    }
    buf_clear(&out);
    buf_put(&out, "\xca\x3f\xc0\x00\x00", 5); /* float32, as other writers send it */
    assert_true(read_all(&out).number == 1.5);
    buf_fini(&out);
}

static void test_strings_and_binaries(void **state) {
    const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 100000};
    const size_t heads[] = {1, 1, 1, 2, 2, 3, 3, 5, 5};
    char *text = mem_zero(100000);
    memset(text, 'x', 100000);
    buf_t out = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        buf_clear(&out);
        pack_string(&out, text, sizes[i]);
        assert_int_equal(out.size, sizes[i] + heads[i]);
        value_t value = read_all(&out);
        assert_int_equal(value.type, VALUE_STRING);
        assert_int_equal(value.size, sizes[i]);
        assert_memory_equal(value.text, text, sizes[i]);
        buf_clear(&out);
        pack_binary(&out, text, sizes[i]);
        value = read_all(&out);
        assert_int_equal(value.type, VALUE_BINARY);
        assert_int_equal(value.size, sizes[i]);
        pack_cursor_t cursor = pack_cursor(out.data, out.size);
        text_t bytes;
        assert_false(pack_read_string(&cursor, &bytes));
        assert_true(pack_read_binary(&cursor, &bytes));
        assert_int_equal(bytes.size, sizes[i]);
    }
    mem_free(text);
    buf_fini(&out);
}

static void test_times(void **state) {
    const int64_t times[] = {0, 1, -1, INT64_C(1732300000) * 1000000000, INT64_C(1732300000123456789), INT64_C(4294967296) * 1000000000,
        INT64_MIN, INT64_MAX};
    const size_t sizes[] = {6, 10, 15, 6, 10, 10, 15, 10};
    buf_t out = {0};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        buf_clear(&out);
        pack_time(&out, times[i]);
        assert_int_equal(out.size, sizes[i]);
        value_t value = read_all(&out);
        assert_int_equal(value.type, VALUE_TIME);
        assert_int_equal(value.time, times[i]);
    }
    buf_clear(&out);
    buf_put(&out, "\xd7\x00\x67\x40\xce\xa0\x00\x00\x00\x07", 10); /* EventTime */
    value_t value = read_all(&out);
    assert_int_equal(value.type, VALUE_TIME);
    assert_int_equal(value.time, INT64_C(0x6740cea0) * 1000000000 + 7);
    static const char *const nulls[] = {"\xd7\x00\x67\x40\xce\xa0\xff\xff\xff\xff", /* EventTime with too many ns */
        "\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\xd7\x05\x01\x02\x03\x04\x05\x06\x07\x08"};
    for (size_t i = 0; i < 3; i++) {
        buf_clear(&out);
        buf_put(&out, nulls[i], 10);
        assert_int_equal(read_all(&out).type, VALUE_NULL);
    }
    buf_clear(&out);
    buf_put(&out, "\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", 15); /* seconds beyond int64 ns */
    assert_int_equal(read_all(&out).type, VALUE_NULL);
    buf_clear(&out);
    buf_put(&out, "\xc7\x00\x07", 3); /* ext without content */
    assert_int_equal(read_all(&out).type, VALUE_NULL);
    buf_fini(&out);
}

static void test_containers(void **state) {
    const uint32_t counts[] = {0, 1, 15, 16, 65535, 65536};
    buf_t out = {0};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        buf_clear(&out);
        pack_array(&out, counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++)
            pack_int(&out, 1);
        value_t value = read_all(&out);
        assert_int_equal(value.type, VALUE_ARRAY);
        assert_int_equal(value.size, out.size);
        buf_clear(&out);
        pack_map(&out, counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++) {
            pack_int(&out, 1);
            pack_nil(&out);
        }
        value = read_all(&out);
        assert_int_equal(value.type, VALUE_MAP);
        pack_cursor_t cursor = pack_cursor(out.data, out.size);
        uint32_t count;
        assert_false(pack_read_array(&cursor, &count));
        assert_true(pack_read_map(&cursor, &count));
        assert_int_equal(count, counts[i]);
        buf_t copy = {0};
        pack_value(&copy, value);
        assert_int_equal(copy.size, out.size);
        assert_memory_equal(copy.data, out.data, out.size);
        buf_fini(&copy);
    }
    buf_fini(&out);
}

static void test_hostile_counts(void **state) {
    static const char *const bad[] = {"\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff",
        "\xc9\xff\xff\xff\xff", "\xdf\x80\x00\x00\x00"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pack_cursor_t cursor = pack_cursor(bad[i], 5);
        value_t value;
        uint32_t count;
        assert_false(pack_read_value(&cursor, &value));
        assert_false(pack_read_array(&cursor, &count));
        assert_false(pack_read_map(&cursor, &count));
        assert_false(pack_skip(&cursor));
    }
    pack_cursor_t cursor = pack_cursor("\xc1", 1);
    assert_false(pack_skip(&cursor));
}

static void test_depth(void **state) {
    buf_t out = {0};
    for (unsigned depth = 1; depth <= PACK_DEPTH + 1; depth++) {
        buf_clear(&out);
        for (unsigned i = 0; i < depth; i++)
            pack_array(&out, 1);
        pack_nil(&out);
        pack_cursor_t cursor = pack_cursor(out.data, out.size);
        value_t value;
        assert_true(pack_within(cursor, depth) == (depth <= PACK_DEPTH));
        assert_false(pack_within(cursor, depth - 1));
        assert_true(pack_read_value(&cursor, &value) == (depth <= PACK_DEPTH));
    }
    buf_fini(&out);
}

static void test_map_get(void **state) {
    buf_t out = {0};
    pack_map(&out, 4);
    pack_text(&out, "a");
    pack_int(&out, 1);
    pack_int(&out, 7); /* a key that is no string is passed over */
    pack_array(&out, 1);
    pack_nil(&out);
    pack_text(&out, "b");
    pack_text(&out, "two");
    pack_text(&out, "a");
    pack_int(&out, 3);
    value_t value = value_bool(true);
    assert_true(pack_map_get(out.data, out.size, text_of("a"), &value));
    assert_int_equal(value.integer, 3);
    assert_true(pack_map_get(out.data, out.size, text_of("b"), &value));
    assert_int_equal(value.size, 3);
    assert_false(pack_map_get(out.data, out.size, text_of("c"), &value));
    assert_false(pack_map_get(out.data, out.size - 1, text_of("b"), &value));
    assert_false(pack_map_get((const uint8_t *) "\x01", 1, text_of("a"), &value));
    buf_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers), cmocka_unit_test(test_scalars), cmocka_unit_test(test_strings_and_binaries),
        cmocka_unit_test(test_times), cmocka_unit_test(test_containers), cmocka_unit_test(test_hostile_counts),
        cmocka_unit_test(test_depth), cmocka_unit_test(test_map_get),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
