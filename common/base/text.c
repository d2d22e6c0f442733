/* Text as users write it: numbers, durations, sizes, suggestions, and quoting for messages. */
#include "base/text.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

bool text_starts(const char *string, const char *prefix) {
    return strncmp(string, prefix, strlen(prefix)) == 0;
}

bool text_ends(const char *string, const char *suffix) {
    size_t a = strlen(string), b = strlen(suffix);
    return a >= b && memcmp(string + a - b, suffix, b) == 0;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

text_t text_trim(text_t text) {
    while (text.size && is_space(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size && is_space(text.data[text.size - 1]))
        text.size--;
    return text;
}

bool text_split(text_t *rest, char separator, text_t *part) {
    if (!rest->data)
        return false;
    const char *found = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
    if (!found) {
        *part = *rest;
        *rest = (text_t){0};
        return true;
    }
    size_t size = (size_t) (found - rest->data);
    *part = text_make(rest->data, size);
    *rest = text_make(found + 1, rest->size - size - 1);
    return true;
}

/* How many bytes the sequence at p takes, or 0 when it is malformed (Unicode 15, table 3-7). */
static size_t utf8_sequence(const uint8_t *p, size_t left) {
    uint8_t c = p[0];
    if (c < 0x80)
        return 1;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    size_t length = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (left < length)
        return 0;
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

size_t text_utf8_valid(const char *data, size_t size) {
    const uint8_t *p = (const uint8_t *) data;
    size_t at = 0;
    while (at < size) {
        uint64_t eight;
        if (size - at >= 8 && (memcpy(&eight, p + at, 8), (eight & UINT64_C(0x8080808080808080)) == 0)) {
            at += 8;
            continue;
        }
        size_t length = utf8_sequence(p + at, size - at);
        if (!length)
            break;
        at += length;
    }
    return at;
}

/* Damerau-Levenshtein distance (adjacent transpositions), case-blind, '-' and '_' alike. */
static char fold(char c) {
    return c == '_' ? '-' : (char) (c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static size_t distance(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    if (na > 63 || nb > 63)
        return SIZE_MAX;
    size_t rows[3][64];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= nb; j++)
        last[j] = j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t cost = fold(a[i - 1]) != fold(b[j - 1]);
            size_t best = last[j - 1] + cost;
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        size_t *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[nb];
}

const char *text_nearest(const char *name, const char *const *names, size_t n) {
    const char *nearest = NULL;
    size_t best = (strlen(name) + 2) / 3;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(name, names[i]);
        if (d <= best && (!nearest || d < best)) {
            best = d;
            nearest = names[i];
        }
    }
    if (nearest)
        return nearest;
    for (size_t i = 0; i < n; i++) /* "temp" for "temperature" */
        if (strlen(name) >= 3 && strncasecmp(name, names[i], strlen(name)) == 0)
            return names[i];
    return NULL;
}

static int bad(err_t *err, text_t text, const char *what) {
    buf_t quoted = {0};
    text_put_quoted(&quoted, text, 80);
    err_set(err, "%s is not %s", buf_text(&quoted), what);
    buf_fini(&quoted);
    return -1;
}

static bool digits_to_uint(text_t text, uint64_t *value) {
    if (!text.size)
        return false;
    uint64_t result = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = (unsigned) (uint8_t) text.data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(result, 10u, &result) || __builtin_add_overflow(result, digit, &result))
            return false;
    }
    *value = result;
    return true;
}

int text_to_uint(text_t text, uint64_t *value, err_t *err) {
    return digits_to_uint(text, value) ? 0 : bad(err, text, "a whole number (0 to 18446744073709551615)");
}

int text_to_int(text_t text, int64_t *value, err_t *err) {
    bool negative = text.size && text.data[0] == '-';
    text_t digits = text;
    if (text.size && (text.data[0] == '-' || text.data[0] == '+'))
        digits = text_make(text.data + 1, text.size - 1);
    uint64_t magnitude;
    if (!digits_to_uint(digits, &magnitude) || magnitude > (uint64_t) INT64_MAX + negative)
        return bad(err, text, "a whole number");
    *value = negative ? (int64_t) (0 - magnitude) : (int64_t) magnitude;
    return 0;
}

int text_to_bool(text_t text, bool *value, err_t *err) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < 8; i++) {
        if (text.size == strlen(words[i]) && strncasecmp(text.data, words[i], text.size) == 0) {
            *value = i % 2;
            return 0;
        }
    }
    return bad(err, text, "true or false (yes, no, on, off, 1, 0)");
}

/* A decimal number in front of a unit: its value and what is left. Locale does not matter: digits and one point. */
static bool leading_number(text_t *rest, long double *number) {
    size_t i = 0;
    long double value = 0, scale = 1;
    bool any = false;
    for (; i < rest->size && rest->data[i] >= '0' && rest->data[i] <= '9'; i++, any = true)
        value = value * 10 + (rest->data[i] - '0');
    if (any && i < rest->size && rest->data[i] == '.') {
        size_t point = i++;
        for (; i < rest->size && rest->data[i] >= '0' && rest->data[i] <= '9'; i++) {
            scale /= 10;
            value += scale * (rest->data[i] - '0');
        }
        if (i == point + 1)
            return false;
    }
    *number = value;
    *rest = text_make(rest->data + i, rest->size - i);
    return any;
}

typedef struct unit {
    const char *name;
    int64_t factor;
} unit_t;

/* Reads the letters in front of *rest as a unit. */
static const unit_t *leading_unit(text_t *rest, const unit_t *units, size_t n) {
    size_t size = 0;
    while (size < rest->size && !(rest->data[size] >= '0' && rest->data[size] <= '9'))
        size++;
    text_t name = text_trim(text_make(rest->data, size));
    for (size_t i = 0; i < n; i++) {
        if (name.size == strlen(units[i].name) && strncasecmp(name.data, units[i].name, name.size) == 0) {
            *rest = text_make(rest->data + size, rest->size - size);
            return &units[i];
        }
    }
    return NULL;
}

static const unit_t time_units[] = {
    {"d", INT64_C(86400000000000)}, {"h", INT64_C(3600000000000)}, {"m", INT64_C(60000000000)},
    {"s", 1000000000}, {"ms", 1000000}, {"us", 1000}, {"ns", 1}, {"min", INT64_C(60000000000)}, {"µs", 1000},
};

#define DURATION_MAX ((long double) INT64_MAX / 2)

static int sum_duration(text_t text, int64_t bare_unit, long double *sum, err_t *err) {
    static const char what[] = "a duration (examples: 250ms, 10s, 5m, 1h30m, 1d)";
    text_t rest = text_trim(text);
    if (!rest.size)
        return bad(err, text, what);
    long double total = 0;
    for (bool first = true; rest.size; first = false) {
        long double number;
        if (!leading_number(&rest, &number))
            return bad(err, text, what);
        if (!rest.size) {
            if (!first || (!bare_unit && number != 0))
                return bad(err, text, what);
            total = number * (long double) bare_unit;
            break;
        }
        const unit_t *unit = leading_unit(&rest, time_units, sizeof time_units / sizeof *time_units);
        if (!unit)
            return bad(err, text, what);
        total += number * (long double) unit->factor;
    }
    *sum = total;
    return 0;
}

int text_to_duration(text_t text, int64_t bare_unit, int64_t *ns, err_t *err) {
    long double sum;
    if (sum_duration(text, bare_unit, &sum, err) < 0)
        return -1;
    if (sum > DURATION_MAX)
        return bad(err, text, "a duration of less than 146 years");
    *ns = (int64_t) (sum + 0.5L);
    return 0;
}

bool text_is_endless(text_t text) {
    long double sum;
    return sum_duration(text, 0, &sum, NULL) == 0 && sum > DURATION_MAX;
}

void text_put_duration(buf_t *out, int64_t ns) {
    if (ns <= 0) {
        buf_put_text(out, "0s");
        return;
    }
    for (size_t i = 0; i < 7 && ns; i++) {
        int64_t count = ns / time_units[i].factor;
        if (!count)
            continue;
        buf_format(out, "%lld%s", (long long) count, time_units[i].name);
        ns -= count * time_units[i].factor;
    }
}

int text_to_size(text_t text, uint64_t *bytes, err_t *err) {
    static const unit_t units[] = {
        {"", 1}, {"b", 1}, {"k", 1024}, {"kib", 1024}, {"kb", 1000}, {"m", 1 << 20}, {"mib", 1 << 20}, {"mb", 1000000},
        {"g", 1 << 30}, {"gib", 1 << 30}, {"gb", 1000000000}, {"t", INT64_C(1) << 40}, {"tib", INT64_C(1) << 40},
        {"tb", INT64_C(1000000000000)},
    };
    static const char what[] = "a size in bytes (examples: 512, 64KiB, 1MB, 2GiB)";
    text_t rest = text_trim(text);
    long double number;
    if (!leading_number(&rest, &number))
        return bad(err, text, what);
    const unit_t *unit = leading_unit(&rest, units, sizeof units / sizeof *units);
    if (!unit || rest.size)
        return bad(err, text, what);
    long double value = number * (long double) unit->factor;
    if (value > (long double) INT64_MAX)
        return bad(err, text, what);
    *bytes = (uint64_t) (value + 0.5L);
    return 0;
}

/* The text with what a terminal or a reader of lines must not get escaped; quotes and backslashes too when `quoted`. */
static void put_escaped(buf_t *out, text_t text, size_t limit, bool quoted) {
    size_t at = 0, start = out->size;
    while (at < text.size) {
        if (out->size - start >= limit) {
            buf_put_text(out, "...");
            break;
        }
        uint8_t c = (uint8_t) text.data[at];
        size_t length = utf8_sequence((const uint8_t *) text.data + at, text.size - at);
        if (quoted && (c == '"' || c == '\\'))
            buf_format(out, "\\%c", c);
        else if (c == '\n')
            buf_put_text(out, "\\n");
        else if (c == '\t')
            buf_put_text(out, "\\t");
        else if (!length || c < 0x20 || c == 0x7F)
            buf_format(out, "\\x%02x", c), length = 1;
        else if (c == 0xC2 && (uint8_t) text.data[at + 1] < 0xA0) /* the other control characters, U+0080 to U+009F */
            buf_format(out, "\\xc2\\x%02x", (uint8_t) text.data[at + 1]);
        else
            buf_put(out, text.data + at, length);
        at += length;
    }
}

void text_put_quoted(buf_t *out, text_t text, size_t limit) {
    buf_put_byte(out, '"');
    put_escaped(out, text, limit, true);
    buf_put_byte(out, '"');
}

void text_put_visible(buf_t *out, text_t text, size_t limit) {
    put_escaped(out, text, limit, false);
}

void text_make_valid(char *text) {
    size_t size = strlen(text);
    for (size_t at = text_utf8_valid(text, size); at < size; at += text_utf8_valid(text + at, size - at))
        text[at++] = '?';
}

void text_put_json(buf_t *out, text_t text) {
    buf_put_byte(out, '"');
    for (size_t at = 0; at < text.size;) {
        uint8_t c = (uint8_t) text.data[at];
        size_t length = utf8_sequence((const uint8_t *) text.data + at, text.size - at);
        if (!length) {
            buf_put_text(out, "\xEF\xBF\xBD");
            length = 1;
        } else if (c == '"' || c == '\\') {
            buf_format(out, "\\%c", c);
        } else if (c == '\n') {
            buf_put_text(out, "\\n");
        } else if (c < 0x20) {
            buf_format(out, "\\u%04x", c);
        } else {
            buf_put(out, text.data + at, length);
        }
        at += length;
    }
    buf_put_byte(out, '"');
}

void text_put_base64(buf_t *out, text_t text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < text.size; i += 3) {
        size_t have = text.size - i < 3 ? text.size - i : 3;
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (k < have ? (unsigned char) text.data[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            buf_put_byte(out, k <= have ? (uint8_t) digits[bits >> (18 - 6 * k) & 63] : '=');
    }
}
