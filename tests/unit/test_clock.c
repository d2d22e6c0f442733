/* Times: ISO 8601 in all its usual spellings, epoch numbers, and RFC 3339 out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

static void reads(const char *text, int64_t expected) {
    int64_t ns = -1;
    if (!clock_parse(text_of(text), &ns))
        fail_msg("\"%s\" was not read", text);
    if (ns != expected)
        fail_msg("\"%s\" gave %lld instead of %lld", text, (long long) ns, (long long) expected);
}

static void refuses(const char *text) {
    int64_t ns = 42;
    if (clock_parse(text_of(text), &ns))
        fail_msg("\"%s\" was read as %lld", text, (long long) ns);
    assert_int_equal(ns, 42);
}

static void test_parse(void **state) {
    reads("1970-01-01T00:00:00Z", 0);
    reads("1970-01-01", 0);
    reads("2014-07-01 00:00:00", INT64_C(1404172800) * NS_PER_S);
    reads("2014-07-01T00:00Z", INT64_C(1404172800) * NS_PER_S);
    reads("2014-07-01T02:00:00+02:00", INT64_C(1404172800) * NS_PER_S);
    reads("2014-07-01t02:00:00+0200", INT64_C(1404172800) * NS_PER_S);
    reads("2014-07-01 02:00:00 +0200", INT64_C(1404172800) * NS_PER_S);
    reads("2014-06-30T19:30:00-04:30", INT64_C(1404172800) * NS_PER_S);
    reads("2024-02-29T23:59:60z", INT64_C(1709251200) * NS_PER_S);
    reads("2024-11-22T18:26:40.123456789Z", INT64_C(1732300000123456789));
    reads("2024-11-22T18:26:40,5", INT64_C(1732300000500000000));
    reads("2024-11-22T18:26:40.1234567899999Z", INT64_C(1732300000123456789));
    reads("1969-12-31T23:59:59.9Z", -100000000);
}

static void test_parse_refuses(void **state) {
    const char *const bad[] = {"", "2014", "2014-07", "2014-13-01", "2014-00-01", "2014-07-32", "2023-02-29", "1900-02-29",
        "2014-07-01T", "2014-07-01T24:00", "2014-07-01T00:60", "2014-07-01T00:00:61", "2014-07-01T00:00:00.", "2014-07-01T00:00:00Zx",
        "2014-07-01T00:00:00+", "2014-07-01T00:00:00+2", "2014-07-01T00:00:00+24:00", "2014-07-01 ", "2014-7-1", " 2014-07-01",
        "2014-07-01x00:00", "0001-01-01", "9999-12-31", "2014-07-01T00:00:00+02:", "14-07-01"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuses(bad[i]);
}

static void test_print(void **state) {
    static const struct { int64_t ns; const char *text; } cases[] = {
        {0, "1970-01-01T00:00:00Z"},
        {INT64_C(1732300000123456789), "2024-11-22T18:26:40.123456789Z"},
        {INT64_C(1732300000250000000), "2024-11-22T18:26:40.25Z"},
        {-1, "1969-12-31T23:59:59.999999999Z"},
        {INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
        {INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[CLOCK_TEXT_MAX];
        size_t size = clock_print(out, cases[i].ns);
        assert_int_equal(size, strlen(cases[i].text));
        assert_memory_equal(out, cases[i].text, size);
        int64_t back;
        assert_true(clock_parse(text_make(out, size), &back));
        assert_int_equal(back, cases[i].ns);
    }
}

/* Every day of five centuries, against counting. */
static void test_calendar(void **state) {
    static const unsigned lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t days = clock_days(1700, 1, 1);
    assert_int_equal(days, -98615);
    for (int64_t year = 1700; year < 2200; year++)
        for (unsigned month = 1; month <= 12; month++) {
            bool leap = year % 4 == 0 && (year % 100 || year % 400 == 0);
            for (unsigned day = 1; day <= lengths[month - 1] + (month == 2 && leap); day++, days++) {
                assert_int_equal(clock_days(year, month, day), days);
                int64_t y;
                unsigned m, d;
                clock_date(days, &y, &m, &d);
                assert_true(y == year && m == month && d == day);
            }
        }
}

static void test_epoch_numbers(void **state) {
    const int64_t expected = INT64_C(1732300000) * NS_PER_S;
    assert_int_equal(clock_from_integer(1732300000), expected);
    assert_int_equal(clock_from_integer(INT64_C(1732300000000)), expected);
    assert_int_equal(clock_from_integer(INT64_C(1732300000000000)), expected);
    assert_int_equal(clock_from_integer(INT64_C(1732300000000000000)), expected);
    assert_int_equal(clock_from_integer(-5), -5 * NS_PER_S);
    assert_int_equal(clock_from_integer(INT64_C(99999999999)), INT64_MAX);
    assert_int_equal(clock_from_integer(INT64_MIN), INT64_MIN);
    int64_t ns;
    assert_true(clock_from_double(1732300000.123, &ns));
    assert_int_equal(ns, INT64_C(1732300000123000000));
    assert_true(clock_from_double(1732300000123.25, &ns));
    assert_int_equal(ns, INT64_C(1732300000123250000));
    assert_true(clock_from_double(1.7323e18, &ns));
    assert_int_equal(ns, expected);
    assert_true(clock_from_double(1e300, &ns));
    assert_int_equal(ns, INT64_MAX);
    assert_true(clock_from_double(-1e300, &ns));
    assert_int_equal(ns, INT64_MIN);
    assert_false(clock_from_double(NAN, &ns));
    assert_false(clock_from_double(INFINITY, &ns));
}

static void test_clocks_advance(void **state) {
    int64_t before = clock_monotonic();
    assert_true(clock_monotonic() >= before);
    assert_true(clock_now() > INT64_C(1700000000) * NS_PER_S);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse), cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_print),
        cmocka_unit_test(test_calendar), cmocka_unit_test(test_epoch_numbers), cmocka_unit_test(test_clocks_advance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
