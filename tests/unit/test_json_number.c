/* Numbers as text: reading is held against the C library's strtod, printing against reading back and against printf's
 * search for the fewest digits. Deterministic random numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/json.h"
#include "data/json_powers.h"
#include "data/pack.h"

static uint64_t random_state = 88172645463325252u;

static uint64_t random_bits(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545F4914F6CDD1D);
}

static double random_double(void) {
    for (;;) {
        uint64_t bits = random_bits();
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value))
            return value;
    }
}

static bool same(double a, double b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

/* The same number inside of JSON, where there are faster ways for the usual ones. */
static void check_inside(const char *text, double expected) {
    static buf_t packed, array;
    buf_clear(&packed);
    buf_clear(&array);
    buf_format(&array, "[%s,%s]", text, text);
    if (json_read_value(text_make((const char *) array.data, array.size), &packed, NULL) != (ssize_t) array.size) {
        if (!isinf(expected))
            fail_msg("%s was not read", buf_text(&array));
        return;
    }
    pack_cursor_t cursor = pack_cursor(packed.data, packed.size);
    uint32_t count;
    assert_true(pack_read_array(&cursor, &count) && count == 2);
    for (int i = 0; i < 2; i++) {
        value_t value;
        assert_true(pack_read_value(&cursor, &value));
        double number = value.type == VALUE_INT ? (double) value.integer : value.type == VALUE_UINT ? (double) value.unsigned_integer : value.number;
        if (!same(number, expected))
            fail_msg("%s: read as %.17g, not %.17g", text, number, expected);
    }
}

/* Holds our reading of a text against strtod's. */
static void check_read(const char *text) {
    double expected = strtod(text, NULL), value = -1;
    bool read = json_parse_double(text, strlen(text), &value);
    check_inside(text, expected);
    if (isinf(expected)) {
        if (read)
            fail_msg("%s: is out of range but read as %.17g", text, value);
    } else if (!read || !same(value, expected)) {
        fail_msg("%s: read as %.17g, not %.17g", text, value, expected);
    }
}

static void check_print(double value) {
    char out[JSON_DOUBLE_MAX + 1];
    size_t size = json_print_double(out, value);
    assert_true(size < JSON_DOUBLE_MAX);
    out[size] = 0;
    double back = strtod(out, NULL), ours;
    if (!same(back, value))
        fail_msg("%.17g printed as %s", value, out);
    if (!json_parse_double(out, size, &ours) || !same(ours, value))
        fail_msg("%.17g printed as %s, read as %.17g", value, out, ours);
    if (!strpbrk(out, ".e"))
        fail_msg("%.17g printed as %s, which would read as an integer", value, out);
    /* digits: as few as printf needs */
    unsigned count = 0, zeros = 0;
    bool significant = false;
    for (const char *p = out; *p && *p != 'e'; p++) {
        if (*p < '0' || *p > '9')
            continue;
        significant |= *p != '0';
        zeros = *p == '0' ? zeros + 1 : 0;
        count += significant;
    }
    count -= count ? zeros : 0;
    if (value == 0)
        return;
    char other[64];
    if (count > 1 && (value >= 9007199254740992.0 || value != floor(value))) {
        snprintf(other, sizeof other, "%.*e", (int) count - 2, value);
        if (same(strtod(other, NULL), value))
            fail_msg("%.17g printed as %s, but %s is shorter", value, out, other);
    }
    /* of the shortest the nearest: printf rounds the exact value */
    snprintf(other, sizeof other, "%.*e", (int) count - 1, value);
    if (same(strtod(other, NULL), value) && !same(strtod(out, NULL), strtod(other, NULL)))
        fail_msg("%.17g printed as %s, but %s is nearer", value, out, other);
}

static void test_read_edges(void **state) {
    const char *const texts[] = {"0", "-0", "0.0", "-0.0", "1", "-1", "0e5", "0e-999999999999", "1e308", "1.7976931348623157e308",
        "1.7976931348623158e308", "1.7976931348623159e308", "1e309", "-1e309", "1e999999999999999999999", "4.9e-324", "5e-324",
        "2.4703282292062327e-324", "2.4703282292062328e-324", "2.47e-324", "1e-400", "2.2250738585072011e-308",
        "2.2250738585072012e-308", "2.2250738585072014e-308", "9007199254740993", "9007199254740993.0", "9007199254740992.9999999999",
        "9007199254740993.00000000000000000000000000000000000000000000000001", "18446744073709551615", "18446744073709551616",
        "9223372036854775808", "-9223372036854775809", "0.1", "0.3", "1e22", "1e23", "8.5e22", "123456789012345678901234567890",
        "0.000000000000000000000000000000000000000000000000000001", "7.2057594037927933e16", "1e0", "1E+5", "1.5e-05",
        "3.518437208883201171875e13", "62.5364939768271845828", "8.10109172351e-10", "1.50000000000000011102230246251565",
        "0.999999999999999944488848768742172978818416595458984375", "0.99999999999999994448884876874217297881841659545898437500001"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_read(texts[i]);
    double value;
    assert_true(json_parse_double("-0", 2, &value) && signbit(value));
}

static void test_read_refuses(void **state) {
    const char *const texts[] = {"", "-", "+1", "01", "-01", "00", ".5", "1.", "1.e5", "1e", "1e+", "e5", "1x", " 1", "1 ", "0x10",
        "NaN", "Infinity", "1e5.5", "1.2.3", "--1", "1,5", "1_000"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        double value = 7;
        if (json_parse_double(texts[i], strlen(texts[i]), &value))
            fail_msg("\"%s\" was read as %g", texts[i], value);
        assert_true(value == 7);
    }
}

static void test_read_random(void **state) {
    char text[1200];
    for (unsigned i = 0; i < 200000; i++) {
        double value = random_double();
        snprintf(text, sizeof text, "%.*e", (int) (random_bits() % 21), value);
        check_read(text);
        int digits = 1 + (int) (random_bits() % 25), at = 0;
        for (int k = 0; k < digits; k++) {
            text[at++] = (char) (k == 0 ? '1' + random_bits() % 9 : '0' + random_bits() % 10);
            if (k == 0 && digits > 1)
                text[at++] = '.';
        }
        snprintf(text + at, sizeof text - (size_t) at, "e%d", (int) (random_bits() % 680) - 345);
        check_read(text);
        snprintf(text, sizeof text, "%s%llu.%0*llu", i & 1 ? "-" : "", (unsigned long long) (random_bits() >> (4 + random_bits() % 60)),
                 1 + (int) (random_bits() % 18), (unsigned long long) (random_bits() >> (4 + random_bits() % 60)));
        check_read(text);
    }
}

/* The hardest there are: the exact middle between two doubles, and a little to either side of it. */
static void test_read_midpoints(void **state) {
    char text[1300];
    for (unsigned i = 0; i < 4000; i++) {
        double value = fabs(random_double());
        if (i % 4 == 0) { /* subnormal */
            uint64_t bits = random_bits() >> 12 >> random_bits() % 52;
            memcpy(&value, &bits, sizeof value);
        }
        double next = nextafter(value, INFINITY);
        if (!isfinite(next))
            continue;
        long double middle = ((long double) value + (long double) next) / 2; /* exact: 64 bits of mantissa, wide exponent */
        snprintf(text, sizeof text, "%.1100Le", middle);
        char *e = strchr(text, 'e');
        assert_non_null(e);
        check_read(text);
        char last = e[-1];
        e[-1] = '1';
        check_read(text);
        e[-1] = last;
        for (char *p = e; p-- > text;) /* the last digit that is not 0, one less */
            if (*p > '0' && *p <= '9') {
                --*p;
                break;
            }
        check_read(text);
    }
}

static void test_read_powers(void **state) {
    for (int q = JSON_POWER_MIN - 2; q <= JSON_POWER_MAX; q++)
        for (unsigned i = 0; i < 40; i++) {
            char text[64];
            snprintf(text, sizeof text, "%llue%d", (unsigned long long) (random_bits() >> random_bits() % 60), q);
            check_read(text);
        }
}

static void test_long_numbers(void **state) {
    char *text = malloc(300100);
    memset(text, '0', 300100);
    text[0] = '1';
    strcpy(text + 300001, "e-300000"); /* 1 and 300000 zeros */
    double value;
    assert_true(json_parse_double(text, strlen(text), &value) && value == 1.0);
    memset(text, '0', 300100);
    text[1] = '.';
    strcpy(text + 300001, "25e300000"); /* 0.(299999 zeros)25 */
    assert_true(json_parse_double(text, strlen(text), &value) && value == 2.5);
    free(text);
}

static void test_print_values(void **state) {
    static const struct { double value; const char *text; } cases[] = {
        {0.0, "0.0"}, {-0.0, "-0.0"}, {1.0, "1.0"}, {-30.0, "-30.0"}, {23.4567, "23.4567"}, {0.1, "0.1"}, {1013.2, "1013.2"},
        {0.0001, "0.0001"}, {0.00012345, "0.00012345"}, {0.00001, "1e-5"}, {1.5e-7, "1.5e-7"}, {1e15, "1000000000000000.0"}, {1e16, "1e+16"},
        {9007199254740991.0, "9007199254740991.0"}, {9007199254740992.0, "9007199254740992.0"}, {9007199254740994.0, "9007199254740994.0"},
        {123456789012345680.0, "1.2345678901234568e+17"}, {1e300, "1e+300"}, {1.7976931348623157e308, "1.7976931348623157e+308"},
        {5e-324, "5e-324"}, {2.2250738585072014e-308, "2.2250738585072014e-308"}, {0.3, "0.3"}, {0.1 + 0.2, "0.30000000000000004"},
        {1e23, "1e+23"}, {9.5367431640625e-07, "9.5367431640625e-7"}, {4.35, "4.35"}, {100.5, "100.5"}, {NAN, "null"}, {-INFINITY, "null"},
        {299792458.125, "299792458.125"}, {123456.7890625, "123456.7890625"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[JSON_DOUBLE_MAX + 1];
        out[json_print_double(out, cases[i].value)] = 0;
        assert_string_equal(out, cases[i].text);
    }
}

static void test_print_random(void **state) {
    for (unsigned i = 0; i < 200000; i++) {
        check_print(random_double());
        check_print((double) (int64_t) random_bits() / 1e6);
        check_print((double) (random_bits() % 10000000) / json_print_int((char[JSON_INT_MAX]){0}, (int64_t) (random_bits() % 100000)));
        check_print(round((double) (random_bits() % 100000000)) / 1e4);
    }
    for (int exponent = -1074; exponent < 1024; exponent++) { /* uneven intervals */
        check_print(ldexp(1, exponent));
        check_print(nextafter(ldexp(1, exponent), INFINITY));
        check_print(nextafter(ldexp(1, exponent), 0));
    }
    for (int q = -323; q <= 308; q++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", q);
        check_print(strtod(text, NULL));
    }
}

static void test_print_integers(void **state) {
    char out[JSON_INT_MAX + 1], expected[32];
    for (unsigned i = 0; i < 200000; i++) {
        int64_t value = (int64_t) (random_bits() >> random_bits() % 64);
        if (i & 1)
            value = -value;
        if (i < 64)
            value = (int64_t) (UINT64_C(1) << i);
        out[json_print_int(out, value)] = 0;
        snprintf(expected, sizeof expected, "%lld", (long long) value);
        assert_string_equal(out, expected);
        out[json_print_uint(out, (uint64_t) value)] = 0;
        snprintf(expected, sizeof expected, "%llu", (unsigned long long) value);
        assert_string_equal(out, expected);
    }
    for (uint32_t i = 0; i < 100000000; i = i < 20000 ? i + 1 : i + 997) { /* each pair of halves of the eight-digit step */
        out[json_print_int(out, i)] = 0;
        assert_int_equal(strtoul(out, NULL, 10), i);
    }
    uint64_t power = 1;
    for (int i = 0; i < 20; i++, power *= 10)
        for (int d = -1; d <= 1; d++) {
            out[json_print_uint(out, power + (uint64_t) d)] = 0;
            snprintf(expected, sizeof expected, "%llu", (unsigned long long) (power + (uint64_t) d));
            assert_string_equal(out, expected);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_edges), cmocka_unit_test(test_read_refuses), cmocka_unit_test(test_read_random),
        cmocka_unit_test(test_read_midpoints), cmocka_unit_test(test_read_powers), cmocka_unit_test(test_long_numbers),
        cmocka_unit_test(test_print_values), cmocka_unit_test(test_print_random), cmocka_unit_test(test_print_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
