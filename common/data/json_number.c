/* Decimal text → double, correctly rounded for every input, without the C library (its strtod follows the locale).
 * Three steps, each for what the one before leaves over: both parts exact in a double (W. D. Clinger, "How to read
 * floating point numbers accurately"); 64 digits' bits times a 128-bit power of ten, taken when both ends of the error
 * interval round alike (after D. Lemire, "Number parsing at a gigabyte per second"); big integers, compared exactly. */
#include "data/json_number.h"

#include <string.h>

#include "base/err.h"
#include "data/json.h"
#include "data/json_powers.h"

#define DIGITS_EXACT 800      /* the midpoint of two doubles has at most 767 digits: more cannot matter but by being there */
#define EXPONENT_CAP 100000000 /* written exponents saturate here: beyond any text's digits, and sums stay within int */

const double json_exact_powers[23] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

const uint64_t json_integer_powers[16] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000,
    1000000000000, 10000000000000, 100000000000000, 1000000000000000,
};

/* The digits as read: 0.d1d2d3... is not built; text is walked again by the exact step only. */
typedef struct decimal {
    const char *digits, *digits_end;   /* first significant digit up to the exponent, point included */
    uint64_t leading;                  /* the first 19 significant digits */
    int exponent;                      /* of ten, for `leading` */
    bool cut;                          /* digits other than 0 follow those in `leading` */
} decimal_t;

typedef struct big {
    unsigned count;
    uint32_t limbs[128];
} big_t;

static void big_multiply_add(big_t *big, uint32_t factor, uint32_t addend) {
    uint64_t carry = addend;
    for (unsigned i = 0; i < big->count; i++) {
        carry += (uint64_t) big->limbs[i] * factor;
        big->limbs[i] = (uint32_t) carry;
        carry >>= 32;
    }
    if (carry) {
        ASSERT(big->count < sizeof big->limbs / sizeof *big->limbs);
        big->limbs[big->count++] = (uint32_t) carry;
    }
}

static void big_multiply_power5(big_t *big, unsigned exponent) {
    for (; exponent >= 13; exponent -= 13)
        big_multiply_add(big, 1220703125, 0);
    for (; exponent; exponent--)
        big_multiply_add(big, 5, 0);
}

static void big_shift_left(big_t *big, unsigned bits) {
    unsigned words = bits / 32;
    if (bits % 32)
        big_multiply_add(big, UINT32_C(1) << bits % 32, 0);
    if (!words || !big->count)
        return;
    ASSERT(big->count + words <= sizeof big->limbs / sizeof *big->limbs);
    memmove(big->limbs + words, big->limbs, big->count * sizeof *big->limbs);
    memset(big->limbs, 0, words * sizeof *big->limbs);
    big->count += words;
}

static int big_compare(const big_t *a, const big_t *b) {
    if (a->count != b->count)
        return a->count < b->count ? -1 : 1;
    for (unsigned i = a->count; i--;)
        if (a->limbs[i] != b->limbs[i])
            return a->limbs[i] < b->limbs[i] ? -1 : 1;
    return 0;
}

/* The sign of (the decimal) - midpoint * 2^exponent, exactly. */
static int compare_exact(const decimal_t *decimal, uint64_t midpoint, int exponent) {
    big_t left = {0}, right = {0};
    unsigned count = 0, after_leading = 0;
    bool more = false;
    for (const char *p = decimal->digits; p < decimal->digits_end; p++) {
        if (*p == '.')
            continue;
        if (count == DIGITS_EXACT) {
            more |= *p != '0';
            continue;
        }
        big_multiply_add(&left, 10, (uint32_t) (*p - '0'));
        if (++count > 19)
            after_leading++;
    }
    int ten = decimal->exponent - (int) after_leading;
    big_multiply_add(&right, 1, (uint32_t) (midpoint >> 32));
    big_shift_left(&right, 32);
    big_multiply_add(&right, 1, (uint32_t) midpoint);
    if (right.count == 0)
        return 1;
    big_multiply_power5(ten >= 0 ? &left : &right, (unsigned) (ten >= 0 ? ten : -ten));
    int shift = ten - exponent;
    big_shift_left(shift >= 0 ? &left : &right, (unsigned) (shift >= 0 ? shift : -shift));
    int order = big_compare(&left, &right);
    return order ? order : more;
}

typedef struct rounded {
    uint64_t bits;            /* nearest, ties to even; at or above INFINITY_BITS: too large */
    uint64_t mantissa;        /* rounded down, */
    int scale;                /* times 2^scale */
    uint64_t down;            /* bits of the double just at or below */
} rounded_t;
#define INFINITY_BITS (UINT64_C(2047) << 52)

/* (value + something below 1) * 2^exponent as a double; value is at least 2^126. `rest_below`: the something is not 0. */
static rounded_t round_nearest(unsigned __int128 value, bool rest_below, int exponent) {
    bool small = !(value >> 127);
    uint64_t high = (uint64_t) (value >> (small ? 63 : 64));
    bool below = (uint64_t) (value << small) != 0 || rest_below;
    exponent += 64 - small;
    int biased = exponent + 63 + 1023;
    int shift = 11;
    if (biased < 1) {
        shift += 1 - biased;
        biased = 1;
    }
    if (shift > 64)
        return (rounded_t){.scale = exponent + shift};
    uint64_t mantissa = shift == 64 ? 0 : high >> shift;
    uint64_t rest = shift == 64 ? high : high & ((UINT64_C(1) << shift) - 1);
    uint64_t half = UINT64_C(1) << (shift - 1);
    bool up = rest > half || (rest == half && (below || (mantissa & 1)));
    rounded_t result = {.mantissa = mantissa, .scale = exponent + shift};
    result.down = ((uint64_t) (biased - 1) << 52) + mantissa; /* a hidden bit in the mantissa adds the missing 1 */
    result.bits = result.down + up;
    return result;
}

static bool from_bits(uint64_t bits, double *value) {
    if (bits >= INFINITY_BITS)
        return false;
    memcpy(value, &bits, sizeof bits);
    return true;
}

/* False: too large for a double. */
static bool decimal_to_double(const decimal_t *decimal, double *value) {
    uint64_t digits = decimal->leading;
    int ten = decimal->exponent;
    if (digits == 0 || ten < JSON_POWER_MIN) { /* below half of the least double, even with 20 digits */
        *value = 0;
        return true;
    }
    if (!decimal->cut && digits <= UINT64_C(1) << 53 && ten >= -22 && ten <= 22) {
        double exact = (double) digits;
        *value = ten < 0 ? exact / json_exact_powers[-ten] : exact * json_exact_powers[ten];
        return true;
    }
    if (ten > 308)
        return false;
    const json_power_t *power = &json_powers[ten - JSON_POWER_MIN];
    int shift = __builtin_clzll(digits);
    uint64_t factor = digits << shift;
    unsigned __int128 upper = (unsigned __int128) factor * power->high;
    unsigned __int128 lower = (unsigned __int128) factor * power->low;
    unsigned __int128 product = upper + (uint64_t) (lower >> 64); /* in units of 2^64 */
    bool rest = (uint64_t) lower != 0;
    int exponent = json_power_exponent(ten) - shift + 64;         /* of two, for product */
    /* the true value lies from `least` to `most` */
    bool exact = ten >= 0 && ten <= 55 && !decimal->cut;
    unsigned __int128 least = product, most = product;
    if (ten < 0)
        least -= 1;
    else if (ten > 55)
        most += 1;
    if (decimal->cut)
        most += (unsigned __int128) 2 << (64 + shift);
    rounded_t down = round_nearest(least, rest, exponent);
    if (exact)
        return from_bits(down.bits, value);
    rounded_t up = round_nearest(most, true, exponent);
    if (down.bits == up.bits && most >= product)
        return from_bits(down.bits, value);
    int order = compare_exact(decimal, 2 * down.mantissa + 1, down.scale - 1);
    return from_bits(down.down + (order > 0 || (order == 0 && (down.down & 1))), value);
}

double json_scaled_double(const char *p, const char *end, uint64_t digits, int decimals) {
    while (*p == '0' || *p == '.')
        p++;
    decimal_t decimal = {.digits = p, .digits_end = end, .leading = digits, .exponent = -decimals};
    double value = 0;
    decimal_to_double(&decimal, &value);
    return value;
}

static inline bool is_digit(char c) {
    return (unsigned) (unsigned char) c - '0' < 10;
}

const char *json_number_read(const char *p, const char *end, json_number_t *number, const char **reason, const char **at) {
    bool negative = p < end && *p == '-';
    p += negative;
    if (p == end || !is_digit(*p)) {
        *reason = "expected a digit";
        *at = p;
        return NULL;
    }
    if (*p == '0' && p + 1 < end && is_digit(p[1])) {
        *reason = "a number may not begin with 0";
        *at = p;
        return NULL;
    }
    decimal_t decimal = {.digits = p};
    const char *start = p;
    unsigned count = 0;   /* digits in decimal.leading */
    const char *point = NULL;
    for (;; p++) {
        if (p < end && is_digit(*p)) {
            if (count < 19) {
                decimal.leading = decimal.leading * 10 + (uint64_t) (*p - '0');
                if (count || *p != '0')
                    count++;
                else
                    decimal.digits = p + 1;
                decimal.exponent -= point != NULL;
            } else {
                decimal.cut |= *p != '0';
                decimal.exponent += point == NULL;
            }
        } else if (p < end && *p == '.' && !point) {
            point = p;
            if (p + 1 == end || !is_digit(p[1])) {
                *reason = "expected a digit after the decimal point";
                *at = p + 1;
                return NULL;
            }
        } else {
            break;
        }
    }
    decimal.digits_end = p;
    bool has_exponent = p < end && (*p == 'e' || *p == 'E');
    if (has_exponent) {
        p++;
        bool minus = p < end && *p == '-';
        p += minus || (p < end && *p == '+');
        if (p == end || !is_digit(*p)) {
            *reason = "expected a digit in the exponent";
            *at = p;
            return NULL;
        }
        int written = 0;
        for (; p < end && is_digit(*p); p++)
            if (written < EXPONENT_CAP)
                written = written * 10 + (*p - '0');
        decimal.exponent += minus ? -written : written;
    }
    if (!point && !has_exponent && !(negative && decimal.leading == 0)) {
        uint64_t magnitude = decimal.leading;
        bool fits = p - start <= 19;
        if (p - start == 20)
            fits = !__builtin_mul_overflow(decimal.leading, UINT64_C(10), &magnitude) &&
                   !__builtin_add_overflow(magnitude, (uint64_t) (p[-1] - '0'), &magnitude);
        if (fits && (!negative || magnitude <= UINT64_C(1) << 63)) {
            *number = (json_number_t){.negative = negative, .magnitude = magnitude};
            return p;
        }
    }
    double value;
    if (!decimal_to_double(&decimal, &value)) {
        *reason = "number out of range";
        *at = start - negative;
        return NULL;
    }
    *number = (json_number_t){.is_double = true, .value = negative ? -value : value};
    return p;
}

bool json_parse_double(const char *text, size_t size, double *value) {
    json_number_t number;
    const char *reason, *at;
    if (json_number_read(text, text + size, &number, &reason, &at) != text + size)
        return false;
    if (number.is_double)
        *value = number.value;
    else
        *value = number.negative ? -(double) number.magnitude : (double) number.magnitude;
    return true;
}
