/* How values compare, and seconds as numbers: what operators on values, functions, aggregates and group keys share. */
#include <math.h>

#include "base/clock.h"
#include "data/lang/expression.h"

double value_to_double(value_t number) {
    switch (number.type) {
    case VALUE_INT: return (double) number.integer;
    case VALUE_UINT: return (double) number.unsigned_integer;
    case VALUE_DOUBLE: return number.number;
    default: return 0;
    }
}

static int order_int_double(int64_t integer, double number) {
    if (number >= 9223372036854775808.0)
        return -1;
    if (number < -9223372036854775808.0)
        return 1;
    int64_t whole = (int64_t) number;
    if (integer != whole)
        return integer < whole ? -1 : 1;
    double rest = number - (double) whole;
    return rest > 0 ? -1 : rest < 0;
}

static int order_uint_double(uint64_t integer, double number) {
    if (number >= 18446744073709551616.0)
        return -1;
    if (number < 9223372036854775808.0) /* a VALUE_UINT is above INT64_MAX */
        return 1;
    uint64_t whole = (uint64_t) number; /* doubles of this size have no fraction */
    return integer < whole ? -1 : integer > whole;
}

static int order_numbers(value_t a, value_t b) {
    if (a.type == VALUE_DOUBLE && b.type == VALUE_DOUBLE)
        return a.number < b.number ? -1 : a.number > b.number ? 1 : a.number == b.number ? 0 : ORDER_NONE;
    if (a.type == VALUE_INT && b.type == VALUE_INT)
        return a.integer < b.integer ? -1 : a.integer > b.integer;
    if (a.type == VALUE_UINT && b.type == VALUE_UINT)
        return a.unsigned_integer < b.unsigned_integer ? -1 : a.unsigned_integer > b.unsigned_integer;
    if (b.type == VALUE_DOUBLE) {
        if (isnan(b.number))
            return ORDER_NONE;
        return a.type == VALUE_INT ? order_int_double(a.integer, b.number) : order_uint_double(a.unsigned_integer, b.number);
    }
    if (a.type == VALUE_DOUBLE) {
        int order = order_numbers(b, a);
        return order == ORDER_NONE ? ORDER_NONE : -order;
    }
    return a.type == VALUE_UINT ? 1 : -1;
}

static int order_bytes(value_t a, value_t b) {
    uint32_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.text, b.text, size) : 0;
    if (order)
        return order < 0 ? -1 : 1;
    return a.size < b.size ? -1 : a.size > b.size;
}

int value_order(value_t a, value_t b) {
    if (a.type == VALUE_NULL || b.type == VALUE_NULL)
        return ORDER_NONE;
    if (value_is_number(a) && value_is_number(b))
        return order_numbers(a, b);
    if (a.type == b.type) {
        switch (a.type) {
        case VALUE_STRING:
        case VALUE_BINARY: return order_bytes(a, b);
        case VALUE_TIME: return a.time < b.time ? -1 : a.time > b.time;
        case VALUE_BOOL: return (int) a.boolean - (int) b.boolean;
        default: return ORDER_MISMATCH;
        }
    }
    int64_t time;
    if (a.type == VALUE_TIME && b.type == VALUE_STRING && clock_parse(text_make(b.text, b.size), &time))
        return a.time < time ? -1 : a.time > time;
    if (a.type == VALUE_STRING && b.type == VALUE_TIME && clock_parse(text_make(a.text, a.size), &time))
        return time < b.time ? -1 : time > b.time;
    return ORDER_MISMATCH;
}

bool value_equal(value_t a, value_t b) {
    if ((a.type == VALUE_ARRAY || a.type == VALUE_MAP) && a.type == b.type)
        return a.size == b.size && memcmp(a.packed, b.packed, a.size) == 0;
    return value_order(a, b) == 0;
}

bool seconds_to_ns(value_t seconds, int64_t *ns) {
    if (seconds.type == VALUE_INT)
        return !__builtin_mul_overflow(seconds.integer, NS_PER_S, ns);
    double exact = value_to_double(seconds) * 1e9;
    if (!(fabs(exact) < 9.2e18))
        return false;
    *ns = llround(exact);
    return true;
}

value_t ns_to_seconds(int64_t ns) {
    if (ns % NS_PER_S == 0)
        return value_int(ns / NS_PER_S);
    if (ns > -(INT64_C(1) << 53) && ns < INT64_C(1) << 53)
        return value_double((double) ns / 1e9); /* rounded once */
    int64_t whole = ns / NS_PER_S;
    return value_double((double) whole + (double) (ns % NS_PER_S) / 1e9);
}
