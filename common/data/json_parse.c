/* JSON text → msgpack, any value: the general way, which the prediction of shapes falls back on. RFC 8259 without extensions.
 * Output goes straight to its place; a container's head is one byte until it is known to need more. */
#include "data/json_parse.h"

#include <xxhash.h>

#include "base/err.h"
#include "base/text.h"

void json_parser_fini(json_parser_t *parser) {
    buf_fini(&parser->entries);
    buf_fini(&parser->table);
}

int json_parse_error(const json_parser_t *parser, err_t *err) {
    return err_set(err, "byte %zu: %s", (size_t) (parser->at - parser->start) + 1, parser->reason);
}

/* Writes the head of a string whose content stands at out + 5, and moves the content down to it. */
static void finish_string(json_parser_t *parser, size_t size) {
    uint8_t *out = parser->out, *content = out + 5;
    if (size < 32) {
        *out++ = (uint8_t) (0xa0 | size);
    } else if (size <= UINT8_MAX) {
        *out++ = 0xd9;
        *out++ = (uint8_t) size;
    } else if (size <= UINT16_MAX) {
        out = json_put16(out, 0xda, (uint16_t) size);
    } else {
        out = json_put32(out, 0xdb, (uint32_t) size);
    }
    memmove(out, content, size);
    parser->out = out + size;
}

/* The end of the run of plain ASCII at p: at a quote, backslash, control character or non-ASCII byte. */
static const char *plain_run(const json_parser_t *parser, const char *p) {
#ifdef JSON_SSE2
    while (p < parser->end) {
        unsigned special = json_special(_mm_loadu_si128((const __m128i *) (const void *) p));
        if (special)
            return p + __builtin_ctz(special);
        p += 16;
    }
    return p;
#else
    while (p < parser->end && (unsigned char) *p >= 0x20 && (unsigned char) *p < 0x80 && *p != '"' && *p != '\\')
        p++;
    return p;
#endif
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hex digits at p; -1 when there are not. */
static int32_t read_hex4(const json_parser_t *parser, const char *p) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = p + i < parser->end ? hex_digit(p[i]) : -1;
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static uint8_t *put_utf8(uint8_t *out, uint32_t c) {
    if (c < 0x80) {
        *out++ = (uint8_t) c;
    } else if (c < 0x800) {
        *out++ = (uint8_t) (0xc0 | c >> 6);
        *out++ = (uint8_t) (0x80 | (c & 63));
    } else if (c < 0x10000) {
        *out++ = (uint8_t) (0xe0 | c >> 12);
        *out++ = (uint8_t) (0x80 | (c >> 6 & 63));
        *out++ = (uint8_t) (0x80 | (c & 63));
    } else {
        *out++ = (uint8_t) (0xf0 | c >> 18);
        *out++ = (uint8_t) (0x80 | (c >> 12 & 63));
        *out++ = (uint8_t) (0x80 | (c >> 6 & 63));
        *out++ = (uint8_t) (0x80 | (c & 63));
    }
    return out;
}

/* The escape at p, which is the backslash. */
static const char *parse_escape(json_parser_t *parser, const char *p, uint8_t **out) {
    static const char plain[128] = {['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};
    char c = p[1];
    if (c > 0 && plain[(unsigned char) c]) {
        *(*out)++ = (uint8_t) plain[(unsigned char) c];
        return p + 2;
    }
    if (c != 'u')
        return json_fail(parser, p + 1, "unknown escape in a string");
    int32_t unit = read_hex4(parser, p + 2);
    if (unit < 0)
        return json_fail(parser, p + 2 + 4 > parser->end ? parser->end : p + 2, "expected four hex digits after \\u");
    uint32_t code = (uint32_t) unit;
    const char *next = p + 6;
    if (code >= 0xd800 && code < 0xe000) {
        int32_t low = -1;
        if (code < 0xdc00 && (next >= parser->end || *next == '\\')) {
            if (next + 6 > parser->end)
                return json_fail(parser, parser->end, "");
            if (next[1] == 'u')
                low = read_hex4(parser, next + 2);
        }
        if (low < 0xdc00 || low > 0xdfff)
            return json_fail(parser, p, "half of a surrogate pair in a string");
        code = 0x10000 + (code - 0xd800) * 0x400 + ((uint32_t) low - 0xdc00);
        next += 6;
    }
    *out = put_utf8(*out, code);
    return next;
}

/* The end of the run of non-ASCII bytes at p, which must be UTF-8. */
static const char *parse_utf8(json_parser_t *parser, const char *p) {
    const char *stop = p;
    while (stop < parser->end && (signed char) *stop < 0)
        stop++;
    size_t valid = text_utf8_valid(p, (size_t) (stop - p));
    if (p + valid == stop && stop < parser->end)
        return stop;
    /* a character that the end cuts is an unexpected end, what could never become one is not */
    if (p + valid == stop || (stop == parser->end && stop - (p + valid) < 4))
        return json_fail(parser, parser->end, "");
    return json_fail(parser, p + valid, "invalid UTF-8 in a string");
}

const char *json_parse_string(json_parser_t *parser, const char *p) {
    uint8_t *content = parser->out + 5, *out = content;
    for (;;) {
        const char *stop = plain_run(parser, p);
        if (stop >= parser->end)
            return json_fail(parser, parser->end, "");
        memcpy(out, p, (size_t) (stop - p));
        out += stop - p;
        p = stop;
        if (*p == '"') {
            finish_string(parser, (size_t) (out - content));
            return p + 1;
        }
        if (*p == '\\') {
            p = parse_escape(parser, p, &out);
            if (!p)
                return NULL;
        } else if ((signed char) *p < 0) {
            stop = parse_utf8(parser, p);
            if (!stop)
                return NULL;
            memcpy(out, p, (size_t) (stop - p));
            out += stop - p;
            p = stop;
        } else {
            return json_fail(parser, p, "control character in a string (it must be escaped)");
        }
    }
}

#ifdef JSON_SSE2
const char *json_long_number(const char *p, bool negative, uint8_t **out) {
    unsigned others = json_no_digits(p) | json_no_digits(p + 16) << 16;
    unsigned whole = others ? (unsigned) __builtin_ctz(others) : 32;
    if (whole == 0 || whole > 16 || (*p == '0' && whole > 1) || p[whole] != '.')
        return NULL;
    others = others >> 1 >> whole;
    unsigned decimals = others ? (unsigned) __builtin_ctz(others) : 32;
    const char *end = p + whole + 1 + decimals;
    /* leading zeros count here: 19 digits are below 10^19, which fits in 64 bits */
    if (decimals == 0 || decimals > 16 || whole + decimals > 19 || (*end | 0x20) == 'e')
        return NULL;
    uint64_t power = decimals < 16 ? json_integer_powers[decimals] : UINT64_C(10000000000000000);
    double value = json_scaled_double(p, end, json_digits16(p, whole) * power + json_digits16(p + whole + 1, decimals), (int) decimals);
    *out = json_put_double(*out, negative ? -value : value);
    return end;
}
#endif

const char *json_parse_number(json_parser_t *parser, const char *p) {
    json_number_t number;
    const char *reason, *at;
    const char *end = json_number_read(p, parser->end, &number, &reason, &at);
    if (!end)
        return json_fail(parser, at, reason);
    if (number.is_double)
        parser->out = json_put_double(parser->out, number.value);
    else
        parser->out = json_put_integer(parser->out, number.magnitude, number.negative);
    return end;
}

static const char *parse_literal(json_parser_t *parser, const char *p, const char *word, size_t size, uint8_t byte) {
    size_t left = (size_t) (parser->end - p), same = 0;
    while (same < size && same < left && p[same] == word[same])
        same++;
    if (same < size)
        return json_fail(parser, same == left ? parser->end : p, "expected a JSON value");
    *parser->out++ = byte;
    return p + size;
}

static const char *parse_array(json_parser_t *parser, const char *p, unsigned depth) {
    if (depth > PACK_DEPTH)
        return json_fail(parser, p - 1, "nested too deeply (64 levels at most)");
    uint8_t *head = parser->out++;
    uint32_t count = 0;
    p = json_skip_space(parser, p);
    if (p < parser->end && *p == ']') {
        *head = 0x90;
        return p + 1;
    }
    for (;;) {
        p = json_parse_value(parser, p, depth);
        if (!p)
            return NULL;
        count++;
        p = json_skip_space(parser, p);
        if (p < parser->end && *p == ',') {
            p++;
            continue;
        }
        if (p >= parser->end || *p != ']')
            return json_fail(parser, p, "expected ',' or ']'");
        break;
    }
    if (count < 16) {
        *head = (uint8_t) (0x90 | count);
        return p + 1;
    }
    size_t more = count <= UINT16_MAX ? 2 : 4;
    memmove(head + 1 + more, head + 1, (size_t) (parser->out - head - 1));
    if (more == 2)
        json_put16(head, 0xdc, (uint16_t) count);
    else
        json_put32(head, 0xdd, count);
    parser->out += more;
    return p + 1;
}

/* Two of 128 bits, by which most keys differ: a key of which not both were seen before is new. */
typedef struct key_bits {
    uint64_t low, high;
} key_bits_t;

static inline bool key_seen(key_bits_t *seen, const char *key, size_t size) {
    const uint8_t *first = (const uint8_t *) key, *last = first + size - 1; /* of "" that is its quote */
    uint32_t hash = (first[0] | (uint32_t) first[size / 2] << 8 | (uint32_t) last[0] << 16 | (uint32_t) size << 24) * UINT32_C(2654435769);
    uint64_t low = UINT64_C(1) << (hash >> 26), high = UINT64_C(1) << (hash >> 20 & 63);
    bool known = (seen->low & low) && (seen->high & high);
    seen->low |= low;
    seen->high |= high;
    return known;
}

const char *json_parse_entries(json_parser_t *parser, const char *p, unsigned depth) {
    if (depth > PACK_DEPTH)
        return json_fail(parser, p - 1, "nested too deeply (64 levels at most)");
    parser->alike = false;
    p = json_skip_space(parser, p);
    if (p < parser->end && *p == '}')
        return p + 1;
    key_bits_t seen = {0};
    bool alike = false;
    uint8_t *out = parser->out;
    const char *next;
    for (;;) {
        if (p >= parser->end || *p != '"')
            return json_fail(parser, p, "expected a key in double quotes");
        uint8_t *key = out;
        next = json_fast_string(p + 1, &out);
        if (__builtin_expect(!next, 0)) {
            parser->out = out;
            next = json_parse_string(parser, p + 1);
            if (!next)
                return NULL;
            out = parser->out;
            alike = true; /* escapes: other bytes may be the same key */
        } else {
            alike |= key_seen(&seen, p + 1, (size_t) (next - p) - 2);
        }
        p = json_skip_space(parser, next);
        if (p >= parser->end || *p != ':')
            return json_fail(parser, p, "expected ':'");
        p = json_skip_space(parser, p + 1);
        json_entry_t entry = {.key = (uint32_t) (key - parser->base), .value = (uint32_t) (out - parser->base),
                              .text = (uint32_t) (p - parser->start)};
        next = *p == '"' ? json_fast_string(p + 1, &out) : json_fast_number(p, &out);
        if (__builtin_expect(!next || p >= parser->end, 0)) {
            parser->out = parser->base + entry.value;
            next = json_parse_value(parser, p, depth);
            if (!next)
                return NULL;
            out = parser->out;
        }
        p = next;
        entry.text_end = (uint32_t) (p - parser->start);
        memcpy(buf_reserve(&parser->entries, sizeof entry), &entry, sizeof entry);
        parser->entries.size += sizeof entry;
        p = json_skip_space(parser, p);
        if (p < parser->end && *p == ',') {
            p = json_skip_space(parser, p + 1);
            continue;
        }
        if (p >= parser->end || *p != '}')
            return json_fail(parser, p, "expected ',' or '}'");
        parser->out = out;
        parser->alike = alike;
        return p + 1;
    }
}

static bool same_key(const json_parser_t *parser, const json_entry_t *a, const json_entry_t *b) {
    size_t size = a->value - a->key;
    return size == b->value - b->key && memcmp(parser->base + a->key, parser->base + b->key, size) == 0;
}

/* Finds earlier entries of the same key and marks them: value 0. Packed keys are equal exactly when their bytes are. */
static bool mark_few(json_parser_t *parser, json_entry_t *entries, size_t count) {
    bool found = false;
    for (size_t i = 1; i < count; i++)
        for (size_t k = 0; k < i; k++)
            if (entries[k].value && same_key(parser, &entries[k], &entries[i])) {
                entries[k].value = 0;
                found = true;
            }
    return found;
}

static bool mark_many(json_parser_t *parser, json_entry_t *entries, size_t count) {
    size_t slots = 64;
    while (slots < 2 * count)
        slots *= 2;
    buf_clear(&parser->table);
    uint32_t *table = (uint32_t *) (void *) buf_reserve(&parser->table, slots * sizeof *table);
    memset(table, 0, slots * sizeof *table);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        size_t slot = XXH3_64bits_withSeed(parser->base + entries[i].key, entries[i].value - entries[i].key, parser->seed) & (slots - 1);
        for (; table[slot]; slot = (slot + 1) & (slots - 1)) {
            json_entry_t *earlier = &entries[table[slot] - 1];
            if (same_key(parser, earlier, &entries[i])) {
                earlier->value = 0;
                found = true;
                break;
            }
        }
        table[slot] = (uint32_t) i + 1;
    }
    return found;
}

bool json_mark_duplicates(json_parser_t *parser, size_t first) {
    size_t count = parser->entries.size / sizeof(json_entry_t) - first;
    if (!parser->alike || count < 2)
        return false;
    if (count <= 16)
        return mark_few(parser, json_entries(parser) + first, count);
    return mark_many(parser, json_entries(parser) + first, count);
}

uint32_t json_drop_marked(json_parser_t *parser, size_t first) {
    size_t count = parser->entries.size / sizeof(json_entry_t) - first;
    if (!count)
        return 0;
    json_entry_t *entries = json_entries(parser) + first;
    uint8_t *to = parser->base + entries[0].key;
    uint32_t left = 0;
    for (size_t i = 0; i < count; i++) {
        if (!entries[i].value)
            continue;
        uint8_t *from = parser->base + entries[i].key;
        uint8_t *stop = i + 1 < count ? parser->base + entries[i + 1].key : parser->out;
        memmove(to, from, (size_t) (stop - from));
        to += stop - from;
        left++;
    }
    parser->out = to;
    return left;
}

void json_finish_map(json_parser_t *parser, uint8_t *head, uint32_t count) {
    if (count < 16) {
        *head = (uint8_t) (0x80 | count);
        return;
    }
    size_t more = count <= UINT16_MAX ? 2 : 4;
    memmove(head + 1 + more, head + 1, (size_t) (parser->out - head - 1));
    if (more == 2)
        json_put16(head, 0xde, (uint16_t) count);
    else
        json_put32(head, 0xdf, count);
    parser->out += more;
}

static const char *parse_object(json_parser_t *parser, const char *p, unsigned depth) {
    uint8_t *head = parser->out++;
    size_t size = parser->entries.size;
    p = json_parse_entries(parser, p, depth);
    if (!p)
        return NULL;
    size_t first = size / sizeof(json_entry_t);
    uint32_t count = (uint32_t) (parser->entries.size / sizeof(json_entry_t) - first);
    if (json_mark_duplicates(parser, first))
        count = json_drop_marked(parser, first);
    parser->entries.size = size;
    json_finish_map(parser, head, count);
    return p;
}

const char *json_parse_value(json_parser_t *parser, const char *p, unsigned depth) {
    p = json_skip_space(parser, p);
    if (p >= parser->end)
        return json_fail(parser, p, "");
    const char *next;
    switch (*p) {
    case '"':
        next = json_fast_string(p + 1, &parser->out);
        return next ? next : json_parse_string(parser, p + 1);
    case '-':
    case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
        next = json_fast_number(p, &parser->out);
        return next ? next : json_parse_number(parser, p);
    case '{':
        return parse_object(parser, p + 1, depth + 1);
    case '[':
        return parse_array(parser, p + 1, depth + 1);
    case 't':
        return parse_literal(parser, p, "true", 4, 0xc3);
    case 'f':
        return parse_literal(parser, p, "false", 5, 0xc2);
    case 'n':
        return parse_literal(parser, p, "null", 4, 0xc0);
    default:
        return json_fail(parser, p, "expected a JSON value");
    }
}
