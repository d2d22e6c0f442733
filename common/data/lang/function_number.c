/* Functions of numbers. */
#include <math.h>

#include "data/lang/function_make.h"

static inline double first(const value_t *arguments) {
    return value_to_double(arguments[0]);
}

#define OF_DOUBLE(name, expression) \
    FUNCTION(name) { \
        double x = first(arguments); \
        return function_number(node, row, expression); \
    }

OF_DOUBLE(fn_sqrt, sqrt(x))
OF_DOUBLE(fn_cbrt, cbrt(x))
OF_DOUBLE(fn_exp, exp(x))
OF_DOUBLE(fn_ln, log(x))
OF_DOUBLE(fn_log10, log10(x))
OF_DOUBLE(fn_log2, log2(x))
OF_DOUBLE(fn_sin, sin(x))
OF_DOUBLE(fn_cos, cos(x))
OF_DOUBLE(fn_tan, tan(x))
OF_DOUBLE(fn_sinh, sinh(x))
OF_DOUBLE(fn_cosh, cosh(x))
OF_DOUBLE(fn_tanh, tanh(x))
OF_DOUBLE(fn_asin, asin(x))
OF_DOUBLE(fn_acos, acos(x))
OF_DOUBLE(fn_atan, atan(x))
OF_DOUBLE(fn_pow, pow(x, value_to_double(arguments[1])))
OF_DOUBLE(fn_atan2, atan2(x, value_to_double(arguments[1])))
OF_DOUBLE(fn_hypot, hypot(x, value_to_double(arguments[1])))
OF_DOUBLE(fn_degrees, x * (180.0 / M_PI))
OF_DOUBLE(fn_radians, x * (M_PI / 180.0))

FUNCTION(fn_log) {
    double x = first(arguments), base = value_to_double(arguments[1]);
    if (base <= 0 || base == 1)
        return evaluation_failed(node, row, "log to base %g", base);
    return function_number(node, row, base == 10 ? log10(x) : base == 2 ? log2(x) : log(x) / log(base));
}

FUNCTION(fn_pi) {
    return value_double(M_PI);
}

FUNCTION(fn_abs) {
    value_t x = arguments[0];
    if (x.type == VALUE_DOUBLE)
        return value_double(fabs(x.number));
    if (x.type == VALUE_INT && x.integer < 0)
        return value_uint(-(uint64_t) x.integer);
    return x;
}

/* A double without fraction: an integer where one holds it. */
static value_t whole(const node_t *node, const row_t *row, double x) {
    if (x >= -9223372036854775808.0 && x < 9223372036854775808.0)
        return value_int((int64_t) x);
    return function_number(node, row, x);
}

FUNCTION(fn_ceil) {
    return arguments[0].type == VALUE_DOUBLE ? whole(node, row, ceil(arguments[0].number)) : arguments[0];
}

FUNCTION(fn_floor) {
    return arguments[0].type == VALUE_DOUBLE ? whole(node, row, floor(arguments[0].number)) : arguments[0];
}

FUNCTION(fn_trunc) {
    return arguments[0].type == VALUE_DOUBLE ? whole(node, row, trunc(arguments[0].number)) : arguments[0];
}

/* An integer to the nearest multiple of a power of ten. */
static value_t round_integer(value_t x, int zeros) {
    if (zeros > 20)
        return value_int(0);
    __int128 power = 1, exact = x.type == VALUE_UINT ? (__int128) x.unsigned_integer : (__int128) x.integer;
    while (zeros-- > 0)
        power *= 10;
    return value_whole((exact + (exact < 0 ? -power : power) / 2) / power * power);
}

FUNCTION(fn_round) {
    double digits = count > 1 ? value_to_double(arguments[1]) : 0;
    if (!(digits >= -300 && digits <= 300))
        return evaluation_failed(node, row, "round to %g digits", digits);
    if (arguments[0].type != VALUE_DOUBLE)
        return digits < 0 ? round_integer(arguments[0], (int) -digits) : arguments[0];
    if (digits == 0)
        return whole(node, row, round(arguments[0].number));
    double x = first(arguments), scale = pow(10, trunc(fabs(digits)));
    double scaled = digits > 0 ? x * scale : x / scale;
    if (!isfinite(scaled))
        return arguments[0];
    double rounded = round(scaled);
    return function_number(node, row, digits > 0 ? rounded / scale : rounded * scale);
}

FUNCTION(fn_sign) {
    double x = first(arguments);
    return value_int((x > 0) - (x < 0));
}

FUNCTION(fn_clamp) {
    if (value_order(arguments[0], arguments[1]) == -1)
        return arguments[1];
    return value_order(arguments[0], arguments[2]) == 1 ? arguments[2] : arguments[0];
}

static value_t extreme(const node_t *node, const row_t *row, const value_t *arguments, unsigned count, int wanted) {
    value_t best = value_null();
    for (unsigned i = 0; i < count; i++) {
        if (arguments[i].type == VALUE_NULL)
            continue;
        int order = best.type == VALUE_NULL ? wanted : value_order(arguments[i], best);
        if (order == ORDER_MISMATCH)
            return evaluation_failed(node, row, "%s compared with %s", value_type_names[arguments[i].type], value_type_names[best.type]);
        if (order == wanted)
            best = arguments[i];
    }
    return best;
}

FUNCTION(fn_greatest) {
    return extreme(node, row, arguments, count, 1);
}

FUNCTION(fn_least) {
    return extreme(node, row, arguments, count, -1);
}

static uint64_t bits(value_t x) {
    return x.type == VALUE_UINT ? x.unsigned_integer : (uint64_t) x.integer;
}

/* Negative numbers are two's complement; the result is unsigned only where an argument is. */
static value_t of_bits(uint64_t result, const value_t *arguments) {
    return arguments[0].type == VALUE_UINT || arguments[1].type == VALUE_UINT ? value_uint(result) : value_int((int64_t) result);
}

static uint64_t magnitude(value_t x) {
    return x.type == VALUE_INT && x.integer < 0 ? -(uint64_t) x.integer : bits(x);
}

static bool negative(value_t x) {
    return x.type == VALUE_INT && x.integer < 0;
}

FUNCTION(fn_gcd) {
    uint64_t a = magnitude(arguments[0]), b = magnitude(arguments[1]);
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return value_uint(a);
}

FUNCTION(fn_div) {
    value_t a = arguments[0], b = arguments[1];
    if (value_to_double(b) == 0)
        return evaluation_failed(node, row, "division by zero");
    if (a.type == VALUE_DOUBLE || b.type == VALUE_DOUBLE)
        return whole(node, row, trunc(value_to_double(a) / value_to_double(b)));
    uint64_t quotient = magnitude(a) / magnitude(b);
    if (negative(a) == negative(b))
        return value_uint(quotient);
    return quotient > (uint64_t) 1 << 63 ? value_double(-(double) quotient) : value_int((int64_t) -quotient);
}

FUNCTION(fn_bit_not) {
    return arguments[0].type == VALUE_UINT ? value_uint(~bits(arguments[0])) : value_int(~arguments[0].integer);
}

/* Bits that leave the 64 are gone. A number that is not negative stays so. */
FUNCTION(fn_shift_left) {
    value_t x = arguments[0], n = arguments[1];
    if (negative(n))
        return evaluation_failed(node, row, "shift_left by %lld bits", (long long) n.integer);
    uint64_t result = bits(n) > 63 ? 0 : bits(x) << bits(n);
    return negative(x) ? value_int((int64_t) result) : value_uint(result);
}

FUNCTION(fn_shift_right) {
    value_t x = arguments[0], n = arguments[1];
    if (negative(n))
        return evaluation_failed(node, row, "shift_right by %lld bits", (long long) n.integer);
    uint64_t by = bits(n) > 63 ? 63 : bits(n);
    if (negative(x))
        return value_int(x.integer >> by);
    return value_uint(bits(n) > 63 ? 0 : bits(x) >> by);
}

FUNCTION(fn_bit_and) {
    return of_bits(bits(arguments[0]) & bits(arguments[1]), arguments);
}

FUNCTION(fn_bit_or) {
    return of_bits(bits(arguments[0]) | bits(arguments[1]), arguments);
}

FUNCTION(fn_bit_xor) {
    return of_bits(bits(arguments[0]) ^ bits(arguments[1]), arguments);
}

const function_t functions_numbers[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure */
    {"abs", "Numbers", "abs(x)", "The absolute value.", "abs(-5) = 5", 1, 1, ALL(NUMBER), NUMBER, false, fn_abs},
    {"acos", "Numbers", "acos(x)", "Arc cosine, in radians.", "acos(1.0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_acos},
    {"asin", "Numbers", "asin(x)", "Arc sine, in radians.", "asin(0.0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_asin},
    {"atan", "Numbers", "atan(x)", "Arc tangent, in radians.", "atan(0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_atan},
    {"atan2", "Numbers", "atan2(y, x)", "The angle of the point (x, y), in radians.", "atan2(0, 1) = 0.0", 2, 2, ALL(NUMBER), DOUBLE, false, fn_atan2},
    {"bit_and", "Numbers", "bit_and(a, b)", "Bitwise and of two integers.", "bit_and(12, 10) = 8", 2, 2, ALL(INTEGER), INTEGER, false, fn_bit_and},
    {"bit_not", "Numbers", "bit_not(x)", "The integer with all 64 bits turned over: -x - 1.", "bit_not(5) = -6", 1, 1, ALL(INTEGER), INTEGER, false, fn_bit_not},
    {"bit_or", "Numbers", "bit_or(a, b)", "Bitwise or of two integers.", "bit_or(12, 10) = 14", 2, 2, ALL(INTEGER), INTEGER, false, fn_bit_or},
    {"bit_xor", "Numbers", "bit_xor(a, b)", "Bitwise exclusive or of two integers.", "bit_xor(12, 10) = 6", 2, 2, ALL(INTEGER), INTEGER, false, fn_bit_xor},
    {"cbrt", "Numbers", "cbrt(x)", "Cube root.", "cbrt(8) = 2.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_cbrt},
    {"ceil", "Numbers", "ceil(x)", "The least whole number not below x, as an integer where 64 bits hold it.", "ceil(1.2) = 2", 1, 1, ALL(NUMBER), NUMBER, false, fn_ceil},
    {"clamp", "Numbers", "clamp(x, low, high)", "x, held between low and high.", "clamp(12, 0, 10) = 10", 3, 3, ALL(NUMBER), NUMBER, false, fn_clamp},
    {"cos", "Numbers", "cos(x)", "Cosine of radians.", "cos(0) = 1.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_cos},
    {"cosh", "Numbers", "cosh(x)", "Hyperbolic cosine.", "cosh(0) = 1.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_cosh},
    {"degrees", "Numbers", "degrees(x)", "Radians as degrees.", "degrees(0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_degrees},
    {"div", "Numbers", "div(a, b)", "The quotient without its fraction, exact for integers; a % b is the remainder.", "div(-7, 2) = -3", 2, 2, ALL(NUMBER), NUMBER, false, fn_div},
    {"exp", "Numbers", "exp(x)", "e to the power of x.", "exp(0) = 1.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_exp},
    {"floor", "Numbers", "floor(x)", "The greatest whole number not above x, as an integer where 64 bits hold it.", "floor(-1.2) = -2", 1, 1, ALL(NUMBER), NUMBER, false, fn_floor},
    {"gcd", "Numbers", "gcd(a, b)", "The greatest common divisor of two integers; never negative.", "gcd(12, -18) = 6", 2, 2, ALL(INTEGER), INTEGER, false, fn_gcd},
    {"greatest", "Numbers", "greatest(a, b, ...)", "The greatest of its arguments (numbers, texts or times); nulls are left out. Over events: the aggregate max.", "greatest(3, 7.5, 2) = 7.5", 1, MANY, ALL(ANY), ANY, true, fn_greatest},
    {"hypot", "Numbers", "hypot(x, y)", "The length of the vector (x, y).", "hypot(3, 4) = 5.0", 2, 2, ALL(NUMBER), DOUBLE, false, fn_hypot},
    {"least", "Numbers", "least(a, b, ...)", "The least of its arguments (numbers, texts or times); nulls are left out. Over events: the aggregate min.", "least(3, 7.5, 2) = 2", 1, MANY, ALL(ANY), ANY, true, fn_least},
    {"ln", "Numbers", "ln(x)", "Natural logarithm.", "ln(1) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_ln},
    {"log", "Numbers", "log(x, base)", "Logarithm to any base; ln, log2 and log10 are those to e, 2 and 10.", "log(1000, 10) = 3.0", 2, 2, ALL(NUMBER), DOUBLE, false, fn_log},
    {"log10", "Numbers", "log10(x)", "Logarithm to base 10.", "log10(1000) = 3.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_log10},
    {"log2", "Numbers", "log2(x)", "Logarithm to base 2.", "log2(8) = 3.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_log2},
    {"pi", "Numbers", "pi()", "The number pi.", "round(pi(), 4) = 3.1416", 0, 0, ALL(NUMBER), DOUBLE, false, fn_pi},
    {"pow", "Numbers", "pow(x, y)", "x to the power of y, as a double.", "pow(2, 10) = 1024.0", 2, 2, ALL(NUMBER), DOUBLE, false, fn_pow},
    {"radians", "Numbers", "radians(x)", "Degrees as radians.", "radians(0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_radians},
    {"round", "Numbers", "round(x, digits?)", "x rounded to so many decimals (0: to an integer), halves away from zero. An integer stays one, and -2 rounds to hundreds.", "round(2.345, 1) = 2.3", 1, 2, ALL(NUMBER), NUMBER, false, fn_round},
    {"shift_left", "Numbers", "shift_left(x, n)", "The 64 bits of an integer moved up by n, which fills with zeros; what leaves them is lost, so by 64 and more it is 0.", "shift_left(5, 2) = 20", 2, 2, ALL(INTEGER), INTEGER, false, fn_shift_left},
    {"shift_right", "Numbers", "shift_right(x, n)", "The 64 bits of an integer moved down by n, rounding down: the sign stays, so by 64 and more it is 0 or -1.", "shift_right(-5, 1) = -3", 2, 2, ALL(INTEGER), INTEGER, false, fn_shift_right},
    {"sign", "Numbers", "sign(x)", "-1, 0 or 1.", "sign(-2.5) = -1", 1, 1, ALL(NUMBER), INT, false, fn_sign},
    {"sin", "Numbers", "sin(x)", "Sine of radians.", "sin(0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_sin},
    {"sinh", "Numbers", "sinh(x)", "Hyperbolic sine.", "sinh(0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_sinh},
    {"sqrt", "Numbers", "sqrt(x)", "Square root; an error below zero.", "sqrt(16) = 4.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_sqrt},
    {"tan", "Numbers", "tan(x)", "Tangent of radians.", "tan(0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_tan},
    {"tanh", "Numbers", "tanh(x)", "Hyperbolic tangent.", "tanh(0) = 0.0", 1, 1, ALL(NUMBER), DOUBLE, false, fn_tanh},
    {"trunc", "Numbers", "trunc(x)", "x without its fraction, as an integer where 64 bits hold it.", "trunc(-1.8) = -1", 1, 1, ALL(NUMBER), NUMBER, false, fn_trunc},
    {NULL},
};
