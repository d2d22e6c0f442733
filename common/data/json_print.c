/* Numbers → shortest text. Doubles by R. Giulietti's Schubfach ("The Schubfach way to render doubles", 2022): of the decimals that
 * read back as the same double, one with the fewest digits, and of those the nearest; three 64 × 128-bit products, no loop. */
#include <string.h>

#include "data/json.h"
#include "data/json_powers.h"

#define ASCII_ZEROS UINT64_C(0x3030303030303030)

/* The eight decimal digits of a number below 10^8, one a byte, the first in the lowest byte: pairs of halves, all at once. */
static inline uint64_t eight_digits(uint32_t number) {
    uint64_t fours = number / 10000 | (uint64_t) (number % 10000) << 32;
    uint64_t hundreds = fours * 10486 >> 20 & UINT64_C(0x0000007f0000007f);
    uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    uint64_t tens = twos * 103 >> 10 & UINT64_C(0x000f000f000f000f);
    return tens | (twos - 10 * tens) << 8;
}

static inline void store_digits(char *out, uint64_t digits) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    digits = __builtin_bswap64(digits);
#endif
    memcpy(out, &digits, sizeof digits);
}

/* Writes a number below 10^8 without leading zeros; up to 8 bytes are touched. */
static inline __attribute__((always_inline)) size_t print_short(char *out, uint32_t number) {
    uint64_t digits = eight_digits(number);
    unsigned zeros = (unsigned) __builtin_ctzll(digits | UINT64_C(1) << 56) / 8;
    store_digits(out, (digits | ASCII_ZEROS) >> 8 * zeros);
    return 8 - zeros;
}

static inline void print_eight(char *out, uint32_t number) {
    store_digits(out, eight_digits(number) | ASCII_ZEROS);
}

static __attribute__((noinline)) size_t print_long(char *out, uint64_t number) {
    uint64_t upper = number / 100000000;
    uint32_t lower = (uint32_t) (number % 100000000);
    size_t size;
    if (upper < 100000000) {
        size = print_short(out, (uint32_t) upper);
    } else {
        size = print_short(out, (uint32_t) (upper / 100000000));
        print_eight(out + size, (uint32_t) (upper % 100000000));
        size += 8;
    }
    print_eight(out + size, lower);
    return size + 8;
}

/* 20 bytes at most are written, 24 may be touched. */
static inline size_t print_natural(char *out, uint64_t number) {
    return number < 100000000 ? print_short(out, (uint32_t) number) : print_long(out, number);
}

size_t json_print_uint(char *out, uint64_t value) {
    return print_natural(out, value);
}

size_t json_print_int(char *out, int64_t value) {
    if (value >= 0)
        return print_natural(out, (uint64_t) value);
    *out = '-';
    return 1 + print_natural(out + 1, -(uint64_t) value);
}

/* floor (power * factor / 2^128), with the lowest bit set when that is not exact. The paper shows that a rest is never so small
 * as the power's own error: hence "> 1". */
static inline uint64_t multiply_to_odd(json_power_t power, uint64_t factor) {
    uint64_t low = (uint64_t) ((unsigned __int128) power.low * factor >> 64);
    unsigned __int128 high = (unsigned __int128) power.high * factor + low;
    return (uint64_t) (high >> 64) | ((uint64_t) high > 1);
}

typedef struct decimal {
    uint64_t digits;          /* below 10^17 */
    int exponent;             /* of ten */
} decimal_t;

static inline decimal_t shortest(uint64_t bits) {
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    int biased = (int) (bits >> 52 & 2047);
    uint64_t mantissa = biased ? fraction | UINT64_C(1) << 52 : fraction;
    int two = (biased ? biased : 1) - 1075;
    bool open = mantissa & 1;                      /* ends of the interval round away from an odd mantissa */
    bool uneven = fraction == 0 && biased > 1;     /* the next lower double is nearer than the next higher */
    /* floor (log10 (2^two)), or of 3/4 of it */
    int ten = (two * 1262611 - (uneven ? 524031 : 0)) >> 22;
    int shift = two + json_power_exponent(-ten) + 128;
    json_power_t power = json_powers[-ten - JSON_POWER_MIN];
    power.low += -ten > 55;                        /* the table rounds down there; here it must be up */
    uint64_t quarter = mantissa * 4;
    uint64_t value = multiply_to_odd(power, quarter << shift);
    uint64_t lower = multiply_to_odd(power, (quarter - 2 + uneven) << shift) + open;
    uint64_t upper = multiply_to_odd(power, (quarter + 2) << shift) - open;
    uint64_t floor = value / 4;
    if (floor >= 10) {
        uint64_t tenth = floor / 10;
        bool below_fits = lower <= 40 * tenth, above_fits = 40 * tenth + 40 <= upper;
        if (below_fits != above_fits)
            return (decimal_t){tenth + above_fits, ten + 1};
    }
    bool below_fits = lower <= 4 * floor, above_fits = 4 * floor + 4 <= upper;
    if (below_fits != above_fits)
        return (decimal_t){floor + above_fits, ten};
    uint64_t middle = 4 * floor + 2;
    return (decimal_t){floor + (value > middle || (value == middle && (floor & 1))), ten};
}

static size_t print_exponent(char *out, int exponent) {
    char *at = out;
    *at++ = 'e';
    *at++ = exponent < 0 ? '-' : '+';
    if (exponent < 0)
        exponent = -exponent;
    if (exponent >= 100)
        *at++ = (char) ('0' + exponent / 100);
    if (exponent >= 10)
        *at++ = (char) ('0' + exponent / 10 % 10);
    *at++ = (char) ('0' + exponent % 10);
    return (size_t) (at - out);
}

/* Numbers of up to four decimals, which measured values mostly are: when value * 10^4 is a whole number of at most 15 digits and divided again
 * gives the value, its digits are the answer, for no two decimals of up to 15 digits are the same double. Returns 0 when it is not such. */
static inline size_t print_four_decimals(char *out, double value) {
    if (!(value < 1e11))
        return 0;
    uint64_t scaled = (uint64_t) (value * 1e4 + 0.5);
    if ((double) (int64_t) scaled / 1e4 != value)
        return 0;
    size_t size = print_natural(out, scaled / 10000);
    /* the four decimals and a point in front of them; those that are 0 behind the last other one are not counted, but one stays */
    uint64_t digits = eight_digits((uint32_t) (scaled % 10000)) >> 32;
    unsigned count = digits ? 4 - (unsigned) __builtin_clz((uint32_t) digits) / 8 : 1;
    store_digits(out + size, (digits | 0x30303030) << 8 | '.');
    return size + 1 + count;
}

size_t json_print_double(char *out, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits >> 52 & 2047) == 2047) {
        memcpy(out, "null", 4);
        return 4;
    }
    char *at = out;
    *at = '-';
    at += bits >> 63;
    bits &= ~(UINT64_C(1) << 63);
    double size;
    memcpy(&size, &bits, sizeof size);
    size_t printed = print_four_decimals(at, size);
    if (printed)
        return (size_t) (at - out) + printed;
    if (size < 9007199254740992.0) { /* whole numbers keep their ".0": they read back as doubles */
        uint64_t whole = (uint64_t) size;
        if ((double) whole == size) {
            at += print_natural(at, whole);
            memcpy(at, ".0", 2);
            return (size_t) (at + 2 - out);
        }
    }
    decimal_t decimal = shortest(bits);
    char digits[48]; /* 17 of them at digits + 7, with room to be read in blocks */
    uint64_t upper = decimal.digits / 100000000;
    print_eight(digits + 16, (uint32_t) (decimal.digits % 100000000));
    print_eight(digits + 8, (uint32_t) (upper % 100000000));
    digits[7] = (char) ('0' + upper / 100000000);
    char *first = digits + 7, *last = digits + 24;
    while (*first == '0')
        first++;
    int point = (int) (last - first) + decimal.exponent; /* digits before the decimal point */
    while (last[-1] == '0')
        last--;
    int count = (int) (last - first);
    if (point > -4 && point <= 0) {
        memcpy(at, "0.000", 5);
        at += 2 - point;
        memcpy(at, first, 17);
        return (size_t) (at + count - out);
    }
    if (point > 0 && point <= 16) {
        memcpy(at, first, 17);
        if (count <= point) {
            memset(at + count, '0', (size_t) (point - count));
            memcpy(at + point, ".0", 2);
            return (size_t) (at + point + 2 - out);
        }
        at[point] = '.';
        memcpy(at + point + 1, first + point, 16);
        return (size_t) (at + count + 1 - out);
    }
    *at++ = *first;
    if (count > 1) {
        *at++ = '.';
        memcpy(at, first + 1, 16);
        at += count - 1;
    }
    return (size_t) (at + print_exponent(at, point - 1) - out);
}
