/* Where a value stands in the text of a JSON file. jansson forgets that once it has parsed; errors of meaning (an unknown key, a
 * program that does not compile) need it. The text is scanned again for each question: there are few, and files are small. */
#include "run/config.h"

#include <stdlib.h>
#include <string.h>

typedef struct scan {
    text_t json;
    size_t at;
} scan_t;

static bool more(const scan_t *scan) {
    return scan->at < scan->json.size;
}

static char peek(const scan_t *scan) {
    return more(scan) ? scan->json.data[scan->at] : 0;
}

static void skip_space(scan_t *scan) {
    while (more(scan) && strchr(" \t\r\n", peek(scan)))
        scan->at++;
}

/* From the opening quote to behind the closing one. */
static void skip_string(scan_t *scan) {
    for (scan->at++; more(scan) && peek(scan) != '"'; scan->at++)
        if (peek(scan) == '\\')
            scan->at++;
    if (more(scan))
        scan->at++;
}

/* Any value, however deep, without recursion: only the brackets are counted. */
static void skip_value(scan_t *scan) {
    size_t depth = 0;
    do {
        skip_space(scan);
        char c = peek(scan);
        if (c == '"') {
            skip_string(scan);
        } else if (c == '{' || c == '[') {
            depth++;
            scan->at++;
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
            scan->at++;
        } else if (c == ',' || c == ':') {
            scan->at++;
        } else {
            while (more(scan) && !strchr(",:]}[{\" \t\r\n", peek(scan)))
                scan->at++;
        }
    } while (depth && more(scan));
}

static unsigned hex4(const char *digits) {
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char c = digits[i];
        value = value << 4 | (unsigned) (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value & 0xFFFF;
}

/* One character of a string's text at `at`: how many bytes it takes there, and how many when decoded. */
static size_t string_unit(text_t json, size_t at, size_t *decoded) {
    if (json.data[at] != '\\') {
        *decoded = 1;
        return 1;
    }
    *decoded = 1;
    if (at + 1 >= json.size || json.data[at + 1] != 'u')
        return 2;
    if (at + 6 > json.size)
        return json.size - at;
    unsigned code = hex4(json.data + at + 2);
    if (code >= 0xD800 && code < 0xDC00 && at + 12 <= json.size) {
        *decoded = 4;
        return 12;
    }
    *decoded = code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
    return 6;
}

/* Whether the key that starts at scan->at is `wanted` (without escapes in either, which our keys never have). */
static bool key_is(const scan_t *scan, text_t wanted) {
    size_t start = scan->at + 1;
    return start + wanted.size < scan->json.size && memcmp(scan->json.data + start, wanted.data, wanted.size) == 0 &&
           scan->json.data[start + wanted.size] == '"';
}

/* Into the member `name` of the object at scan->at. *key is where its key stands. */
static bool enter_member(scan_t *scan, text_t name, size_t *key) {
    scan->at++;
    for (;;) {
        skip_space(scan);
        if (peek(scan) != '"')
            return false;
        bool found = key_is(scan, name);
        *key = scan->at;
        skip_string(scan);
        skip_space(scan);
        scan->at++; /* : */
        skip_space(scan);
        if (found)
            return true;
        skip_value(scan);
        skip_space(scan);
        if (peek(scan) != ',')
            return false;
        scan->at++;
    }
}

static bool enter_element(scan_t *scan, size_t index) {
    scan->at++;
    for (;; index--) {
        skip_space(scan);
        if (!more(scan) || peek(scan) == ']')
            return false;
        if (index == 0)
            return true;
        skip_value(scan);
        skip_space(scan);
        if (peek(scan) != ',')
            return false;
        scan->at++;
    }
}

/* Byte offsets of the value and of its key (the value itself in arrays). */
static size_t find(text_t json, const char *pointer, size_t *key) {
    scan_t scan = {json, 0};
    skip_space(&scan);
    size_t value = scan.at;
    *key = value;
    text_t rest = text_of(*pointer == '/' ? pointer + 1 : NULL), part;
    while (text_split(&rest, '/', &part)) {
        size_t at_key = scan.at;
        bool found = false;
        if (peek(&scan) == '{') {
            found = enter_member(&scan, part, &at_key);
        } else if (peek(&scan) == '[') {
            uint64_t index;
            found = text_to_uint(part, &index, NULL) == 0 && enter_element(&scan, index);
            at_key = scan.at;
        }
        if (!found)
            break;
        value = scan.at;
        *key = at_key;
    }
    return value;
}

static config_place_t place_of(text_t json, size_t offset) {
    config_place_t place = {1, 1};
    for (size_t i = 0; i < offset && i < json.size; i++) {
        if (json.data[i] == '\n') {
            place.line++;
            place.column = 1;
        } else if (((uint8_t) json.data[i] & 0xC0) != 0x80) {
            place.column++;
        }
    }
    return place;
}

config_place_t config_locate(text_t json, const char *pointer, bool key) {
    size_t at_key;
    size_t value = find(json, pointer, &at_key);
    return place_of(json, key ? at_key : value);
}

config_place_t config_locate_inside(text_t json, const char *pointer, size_t offset) {
    size_t key;
    size_t at = find(json, pointer, &key);
    if (at >= json.size || json.data[at] != '"')
        return place_of(json, at);
    at++;
    for (size_t seen = 0, decoded; seen < offset && at < json.size && json.data[at] != '"'; seen += decoded)
        at += string_unit(json, at, &decoded);
    return place_of(json, at);
}
