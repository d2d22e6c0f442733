#ifndef DATA_JSON_PARSE_H
#define DATA_JSON_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "base/err.h"
#include "data/json_number.h"
#include "data/pack.h"

/* Internal to the JSON codec: one pass over text, writing msgpack as it goes. The fast paths read blocks of 16 bytes without
 * asking where the text ends. So behind `end` JSON_SLACK bytes must be readable, and either the text ends there with a byte that ends every
 * token (a line end or NUL), or what follows is more of the same text and a result that ends beyond `end` is thrown away. */
#define JSON_SLACK 192

#if defined __SSE2__ && !defined JSON_SCALAR
#include <emmintrin.h>
#define JSON_SSE2 1
#endif

typedef struct json_entry {
    uint32_t key, value;               /* where in the output, from `base` */
    uint32_t text, text_end;           /* where the value is in the text */
} json_entry_t;

typedef struct json_parser {
    const char *start, *end;
    uint8_t *base, *out;               /* output of this text; room for JSON_OUT_MAX (size) is the caller's business */
    buf_t entries;                     /* json_entry_t: those of all objects that are open */
    bool alike;                        /* keys of the object just read may come twice */
    buf_t table;                       /* for finding duplicate keys in big objects */
    uint64_t seed;                     /* for that table: nobody can prepare keys that collide */
    const char *reason, *at;           /* of a failure */
} json_parser_t;

/* "-0," is the worst: three bytes that give nine. Blocks may touch some more. */
#define JSON_OUT_MAX(size) (3 * (size) + 96)
#define JSON_TEXT_MAX (UINT32_C(1) << 30)

void json_parser_fini(json_parser_t *parser);

/* One value at p, which may have white space before it. Returns where it ends, or NULL with reason and at. */
const char *json_parse_value(json_parser_t *parser, const char *p, unsigned depth);
/* The entries of an object, p behind its brace: written to the output without a head and pushed to `entries`. */
const char *json_parse_entries(json_parser_t *parser, const char *p, unsigned depth);
/* Of the entries from `first` on, which must be those of the object just read: marks (value 0) those whose key comes again later, and tells whether there were any. */
bool json_mark_duplicates(json_parser_t *parser, size_t first);
/* Takes the marked ones out of the output; returns how many are left. */
uint32_t json_drop_marked(json_parser_t *parser, size_t first);
/* Writes the head of a map whose entries stand behind one byte left free at `head`; moves them when it needs more. */
void json_finish_map(json_parser_t *parser, uint8_t *head, uint32_t count);
/* The string behind its opening quote, in any form: parser->out moves on. */
const char *json_parse_string(json_parser_t *parser, const char *p);
const char *json_parse_number(json_parser_t *parser, const char *p);
/* Numbers without exponent of up to 31 bytes and 19 digits, p behind the sign; else NULL. */
const char *json_long_number(const char *p, bool negative, uint8_t **out);
/* "byte N: REASON" */
int json_parse_error(const json_parser_t *parser, err_t *err);

static inline const char *json_fail(json_parser_t *parser, const char *at, const char *reason) {
    parser->at = at;
    parser->reason = at >= parser->end ? "unexpected end" : reason;
    return NULL;
}

static inline json_entry_t *json_entries(const json_parser_t *parser) {
    return (json_entry_t *) (void *) parser->entries.data;
}

static inline const char *json_skip_space(const json_parser_t *parser, const char *p) {
    if (__builtin_expect((unsigned char) *p > ' ', 1))
        return p;
    while (p < parser->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

static inline uint8_t *json_put16(uint8_t *out, uint8_t type, uint16_t value) {
    out[0] = type;
    value = __builtin_bswap16(value);
    memcpy(out + 1, &value, sizeof value);
    return out + 3;
}

static inline uint8_t *json_put32(uint8_t *out, uint8_t type, uint32_t value) {
    out[0] = type;
    value = __builtin_bswap32(value);
    memcpy(out + 1, &value, sizeof value);
    return out + 5;
}

static inline uint8_t *json_put64(uint8_t *out, uint8_t type, uint64_t value) {
    out[0] = type;
    value = __builtin_bswap64(value);
    memcpy(out + 1, &value, sizeof value);
    return out + 9;
}

static inline uint8_t *json_put_double(uint8_t *out, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return json_put64(out, 0xcb, bits);
}

/* Shortest form. magnitude is at most 2^63 when negative. */
static inline uint8_t *json_put_integer(uint8_t *out, uint64_t magnitude, bool negative) {
    if (!negative) {
        if (magnitude < 0x80) {
            *out = (uint8_t) magnitude;
            return out + 1;
        }
        if (magnitude <= UINT8_MAX) {
            out[0] = 0xcc;
            out[1] = (uint8_t) magnitude;
            return out + 2;
        }
        if (magnitude <= UINT16_MAX)
            return json_put16(out, 0xcd, (uint16_t) magnitude);
        if (magnitude <= UINT32_MAX)
            return json_put32(out, 0xce, (uint32_t) magnitude);
        return json_put64(out, 0xcf, magnitude);
    }
    if (magnitude <= 32) {
        *out = (uint8_t) -magnitude;
        return out + 1;
    }
    if (magnitude <= 128) {
        out[0] = 0xd0;
        out[1] = (uint8_t) -magnitude;
        return out + 2;
    }
    if (magnitude <= 32768)
        return json_put16(out, 0xd1, (uint16_t) -magnitude);
    if (magnitude <= UINT64_C(1) << 31)
        return json_put32(out, 0xd2, (uint32_t) -magnitude);
    return json_put64(out, 0xd3, -magnitude);
}

#ifdef JSON_SSE2
/* A bit for each of 16 bytes that ends a plain run of a string: quote, backslash, control characters, non-ASCII. */
static inline unsigned json_special(__m128i block) {
    __m128i quote = _mm_cmpeq_epi8(block, _mm_set1_epi8('"'));
    __m128i backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8('\\'));
    __m128i other = _mm_cmplt_epi8(block, _mm_set1_epi8(0x20)); /* signed: 0x80 and above are negative */
    return (unsigned) _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), other));
}

static inline uint64_t json_load8(const char *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* The decimal value of the first n ASCII digits of a word, n from 1 to 8. Three steps: pairs, fours, eight. */
static inline uint64_t json_digits8(uint64_t word, unsigned n) {
    word = (word - UINT64_C(0x3030303030303030)) << (64 - 8 * n);
    word = word * 10 + (word >> 8);
    return ((word & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
            (word >> 16 & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >> 32;
}

/* Of n digits at p, n from 1 to 16. */
static inline uint64_t json_digits16(const char *p, unsigned n) {
    if (__builtin_expect(n <= 8, 1))
        return json_digits8(json_load8(p), n);
    return json_digits8(json_load8(p), n - 8) * 100000000 + json_digits8(json_load8(p + n - 8), 8);
}

/* Strings of up to 31 plain bytes, which most are; p behind the quote. Returns NULL when it is not one: nothing has happened. */
static inline __attribute__((always_inline)) const char *json_fast_string(const char *p, uint8_t **out) {
    uint8_t *o = *out;
    __m128i block = _mm_loadu_si128((const __m128i *) (const void *) p);
    unsigned special = json_special(block);
    _mm_storeu_si128((__m128i *) (void *) (o + 1), block);
    unsigned size;
    if (__builtin_expect(special != 0, 1)) {
        size = (unsigned) __builtin_ctz(special);
    } else {
        block = _mm_loadu_si128((const __m128i *) (const void *) (p + 16));
        special = json_special(block);
        if (!special)
            return NULL;
        _mm_storeu_si128((__m128i *) (void *) (o + 17), block);
        size = 16 + (unsigned) __builtin_ctz(special);
    }
    if (__builtin_expect(p[size] != '"', 0))
        return NULL;
    *o = (uint8_t) (0xa0 | size);
    *out = o + 1 + size;
    return p + size + 1;
}

/* A bit for each of 16 bytes that is no digit. */
static inline unsigned json_no_digits(const char *p) {
    __m128i block = _mm_sub_epi8(_mm_loadu_si128((const __m128i *) (const void *) p), _mm_set1_epi8('0'));
    __m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(9)), block);
    return (unsigned) _mm_movemask_epi8(is_digit) ^ 0xffff;
}

/* Numbers without exponent, as long as they fit in a block or a little more. Returns NULL when it is not one (or is none at all): nothing has
 * happened then. */
static inline __attribute__((always_inline)) const char *json_fast_number(const char *p, uint8_t **out) {
    bool negative = *p == '-';
    p += negative;
    unsigned others = json_no_digits(p);
    if (__builtin_expect(!others, 0))
        return json_long_number(p, negative, out);
    unsigned whole = (unsigned) __builtin_ctz(others);
    if (__builtin_expect(whole == 0 || (*p == '0' && whole > 1), 0))
        return NULL;
    char next = p[whole];
    if (next == '.') {
        others = others >> 1 >> whole;
        if (__builtin_expect(!others, 0))
            return json_long_number(p, negative, out);
        unsigned decimals = (unsigned) __builtin_ctz(others);
        const char *end = p + whole + 1 + decimals;
        if (decimals == 0 || (*end | 0x20) == 'e')
            return NULL;
        /* at most 15 digits: below 2^53, and one correctly rounded division gives the nearest double */
        uint64_t digits;
        if (whole + decimals < 8) { /* with the point they fit in a word: close the gap, convert once */
            uint64_t word = json_load8(p), above = UINT64_MAX << 8 * whole;
            word = (word & ~above) | (word >> 8 & above);
            digits = json_digits8(word, whole + decimals);
        } else {
            digits = json_digits16(p, whole) * json_integer_powers[decimals] + json_digits16(p + whole + 1, decimals);
        }
        double value = (double) (int64_t) digits / json_exact_powers[decimals];
        *out = json_put_double(*out, negative ? -value : value);
        return end;
    }
    if ((next | 0x20) == 'e')
        return NULL;
    uint64_t magnitude = json_digits16(p, whole);
    if (negative && magnitude == 0)
        *out = json_put_double(*out, -0.0);
    else
        *out = json_put_integer(*out, magnitude, negative);
    return p + whole;
}
#else
static inline const char *json_fast_string(const char *p, uint8_t **out) {
    uint8_t *o = *out;
    for (unsigned size = 0; size < 32; size++) {
        unsigned char c = (unsigned char) p[size];
        if (c == '"') {
            *o = (uint8_t) (0xa0 | size);
            *out = o + 1 + size;
            return p + size + 1;
        }
        if (c < 0x20 || c >= 0x80 || c == '\\')
            return NULL;
        o[1 + size] = c;
    }
    return NULL;
}

static inline const char *json_fast_number(const char *p, uint8_t **out) {
    return NULL;
}
#endif

#endif
