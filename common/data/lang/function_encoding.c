/* Functions that write bytes and values in other ways, and read them back. */
#include "data/json.h"
#include "data/lang/function_make.h"

value_t function_hex(const row_t *row, const uint8_t *bytes, size_t size) {
    static const char digits[] = "0123456789abcdef";
    char *out = arena_alloc(&row->context->arena, 2 * size);
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    return value_text(out, 2 * size);
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char) (c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes as a text where they are UTF-8, else as a binary. */
static value_t bytes_of(const char *bytes, size_t size) {
    value_t value = value_text(bytes, size);
    if (text_utf8_valid(bytes, size) < size)
        value.type = VALUE_BINARY;
    return value;
}

FUNCTION(fn_hex) {
    value_t x = arguments[0];
    if (x.type == VALUE_STRING || x.type == VALUE_BINARY)
        return x.size > RESULT_MAX / 2 ? function_too_long(node, row) : function_hex(row, (const uint8_t *) x.text, x.size);
    char text[24];
    int size = snprintf(text, sizeof text, "%llx", (unsigned long long) x.unsigned_integer);
    return function_text(row, text, (size_t) size);
}

FUNCTION(fn_unhex) {
    value_t text = arguments[0];
    char *out = arena_alloc(&row->context->arena, text.size / 2);
    if (text.size % 2)
        return evaluation_failed(node, row, "unhex: an odd number of digits");
    for (uint32_t i = 0; i < text.size; i += 2) {
        int high = hex_digit(text.text[i]), low = hex_digit(text.text[i + 1]);
        if (high < 0 || low < 0)
            return evaluation_failed(node, row, "unhex: byte %u is no hexadecimal digit", i + 1 + (high >= 0));
        out[i / 2] = (char) (high << 4 | low);
    }
    return bytes_of(out, text.size / 2);
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static value_t base64_of(const node_t *node, const row_t *row, value_t x, bool url) {
    if (x.size > RESULT_MAX / 4 * 3)
        return function_too_long(node, row);
    const uint8_t *bytes = x.packed;
    size_t size = x.size, at = 0;
    char *out = arena_alloc(&row->context->arena, (size + 2) / 3 * 4);
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t three = (uint32_t) bytes[i] << 16 | (left > 1 ? (uint32_t) bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        for (unsigned k = 0; k < 4 && (k <= left || !url); k++) {
            char digit = k <= left ? base64_digits[three >> (18 - 6 * k) & 63] : '=';
            out[at++] = !url ? digit : digit == '+' ? '-' : digit == '/' ? '_' : digit;
        }
    }
    return value_text(out, at);
}

FUNCTION(fn_base64) {
    return base64_of(node, row, arguments[0], false);
}

FUNCTION(fn_base64_url) {
    return base64_of(node, row, arguments[0], true);
}

FUNCTION(fn_unbase64) {
    value_t text = arguments[0];
    char *out = arena_alloc(&row->context->arena, text.size);
    size_t size = 0;
    uint32_t bits = 0, held = 0, end = text.size;
    while (end && text.text[end - 1] == '=' && text.size - end < 2)
        end--;
    for (uint32_t i = 0; i < end; i++) {
        char c = text.text[i] == '-' ? '+' : text.text[i] == '_' ? '/' : text.text[i];
        const char *digit = c ? strchr(base64_digits, c) : NULL;
        if (!digit)
            return evaluation_failed(node, row, "unbase64: byte %u is no base 64 digit", i + 1);
        bits = bits << 6 | (uint32_t) (digit - base64_digits);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[size++] = (char) (bits >> held);
        }
    }
    if (end % 4 == 1)
        return evaluation_failed(node, row, "unbase64: the text is cut off");
    return bytes_of(out, size);
}

size_t url_unescape(char *out, text_t text, bool plus) {
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (c == '%' && text.size - i > 2 && hex_digit(text.data[i + 1]) >= 0 && hex_digit(text.data[i + 2]) >= 0) {
            c = (char) (hex_digit(text.data[i + 1]) << 4 | hex_digit(text.data[i + 2]));
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        out[size++] = c;
    }
    return size;
}

FUNCTION(fn_url_decode) {
    value_t text = arguments[0];
    char *out = arena_alloc(&row->context->arena, text.size);
    size_t size = url_unescape(out, text_make(text.text, text.size), true);
    if (text_utf8_valid(out, size) < size)
        return evaluation_failed(node, row, "url_decode: the result is not UTF-8");
    return value_text(out, size);
}

/* RFC 3986, section 2.3: what needs no escape anywhere. */
static bool unreserved(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

FUNCTION(fn_url_encode) {
    value_t text = arguments[0];
    static const char digits[] = "0123456789ABCDEF";
    buf_t *out = function_buffer(row);
    for (uint32_t i = 0; i < text.size && out->size <= RESULT_MAX; i++) {
        unsigned char c = (unsigned char) text.text[i];
        buf_put_byte(out, unreserved((char) c) ? c : '%');
        if (unreserved((char) c))
            continue;
        buf_put_byte(out, (uint8_t) digits[c >> 4]);
        buf_put_byte(out, (uint8_t) digits[c & 15]);
    }
    return function_made_text(node, row, out);
}

FUNCTION(fn_to_json) {
    buf_t *text = function_buffer(row);
    json_put_value(text, arguments[0]);
    return function_made_text(node, row, text);
}

FUNCTION(fn_parse_json) {
    buf_t *packed = function_buffer(row);
    text_t text = text_trim(text_make(arguments[0].text, arguments[0].size));
    err_t err;
    ssize_t used = json_read_value(text, packed, &err);
    if (used < 0 || text_trim(text_make(text.data + used, text.size - (size_t) used)).size)
        return evaluation_failed(node, row, "parse_json: %s", used < 0 ? err.text : "more text behind the value");
    if (!pack_within(pack_cursor(packed->data, packed->size), PACK_DEPTH - 1))
        return evaluation_failed(node, row, "parse_json: a value nested more than %d deep", PACK_DEPTH - 1);
    const uint8_t *bytes = arena_copy(&row->context->arena, packed->data, packed->size);
    return record_value(bytes, bytes + packed->size);
}

const function_t functions_encodings[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"base64", "Encodings", "base64(x)", "The bytes of a text or binary in base 64.", "base64(\"hi\") = \"aGk=\"", 1, 1, ALL(BYTES), TEXT, false, fn_base64},
    {"base64_url", "Encodings", "base64_url(x)", "The same with - and _ for + and /, and without = at the end.", "base64_url(\"~~?\") = \"fn4_\"", 1, 1, ALL(BYTES), TEXT, false, fn_base64_url},
    {"hex", "Encodings", "hex(x)", "The bytes of a text or binary, or an integer, in hexadecimal digits.", "hex(255) = \"ff\"", 1, 1, ALL(BYTES | INTEGER), TEXT, false, fn_hex},
    {"parse_json", "Encodings", "parse_json(text)", "The value that the JSON text describes; an error when it is none.", "parse_json(\"[1,2]\") = [1, 2]", 1, 1, ALL(TEXT), ANY, false, fn_parse_json},
    {"to_json", "Encodings", "to_json(x)", "Any value as JSON text.", "to_json([1, \"a\"]) = \"[1,\\\"a\\\"]\"", 1, 1, ALL(ANY), TEXT, true, fn_to_json},
    {"unbase64", "Encodings", "unbase64(text)", "The text behind base 64, of either kind (a binary when it is not UTF-8); an error when it is none.", "unbase64(\"aGk=\") = \"hi\"", 1, 1, ALL(TEXT), BYTES, false, fn_unbase64},
    {"unhex", "Encodings", "unhex(text)", "The text whose bytes the hexadecimal digits tell (a binary when it is not UTF-8); an error when they are none. parse_int(text, 16) gives a number.", "unhex(\"6869\") = \"hi\"", 1, 1, ALL(TEXT), BYTES, false, fn_unhex},
    {"url_decode", "Encodings", "url_decode(text)", "Percent escapes and + resolved.", "url_decode(\"a%20b\") = \"a b\"", 1, 1, ALL(TEXT), TEXT, false, fn_url_decode},
    {"url_encode", "Encodings", "url_encode(text)", "All but letters and digits of ASCII, - . _ and ~ as percent escapes.", "url_encode(\"a b&c\") = \"a%20b%26c\"", 1, 1, ALL(TEXT), TEXT, false, fn_url_encode},
    {NULL},
};
