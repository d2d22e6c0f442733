/* Values: what counts as a moment. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "data/value.h"

#define MOMENT INT64_C(1732300000123000000)

static void is_moment(value_t value, int64_t expected) {
    int64_t ns = 1;
    assert_true(value_to_time(value, &ns));
    assert_int_equal(ns, expected);
}

static value_t text(const char *string) {
    return value_text(string, strlen(string));
}

static void test_moments(void **state) {
    is_moment(value_time(5), 5);
    is_moment(value_int(1732300000), INT64_C(1732300000) * NS_PER_S);
    is_moment(value_int(1732300000123), MOMENT);
    is_moment(value_int(1732300000123000), MOMENT);
    is_moment(value_int(MOMENT), MOMENT);
    is_moment(value_double(1732300000.123), MOMENT);
    is_moment(text("1732300000123"), MOMENT);
    is_moment(text("1732300000.123"), MOMENT);
    is_moment(text("2024-11-22T18:26:40.123Z"), MOMENT);
    is_moment(text("2024-11-22 19:26:40.123 +01:00"), MOMENT);
}

static void test_others(void **state) {
    const value_t none[] = {value_null(), value_bool(true), value_double(NAN), value_double(INFINITY), value_uint(UINT64_MAX), text(""), text("noon"),
        text("2024"" -01"), text("12:00"), text("1e999"), {.type = VALUE_BINARY, .size = 1, .text = "1"}, {.type = VALUE_ARRAY, .size = 1, .text = "\x90"}};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        int64_t ns = 42;
        if (value_to_time(none[i], &ns))
            fail_msg("number %zu gave %lld", i, (long long) ns);
        assert_int_equal(ns, 42);
    }
}

static void test_names(void **state) {
    assert_string_equal(value_type_names[VALUE_NULL], "null");
    assert_string_equal(value_type_names[VALUE_TIME], "time");
    assert_int_equal(value_uint(7).type, VALUE_INT);
    assert_int_equal(value_uint(UINT64_MAX).type, VALUE_UINT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_moments), cmocka_unit_test(test_others), cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
