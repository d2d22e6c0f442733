/* How functions make their results: texts, arrays and maps in the row's arena, each bounded. */
#include "data/lang/function_make.h"

#include <math.h>

#include "base/clock.h"
#include "data/json.h"

#define BUFFER_KEEP (4u << 20)    /* a buffer larger than that is not kept */

value_t function_too_long(const node_t *node, const row_t *row) {
    return evaluation_failed(node, row, "%s: a result above %u bytes", node->function ? node->function->name : "made", RESULT_MAX);
}

value_t function_number(const node_t *node, const row_t *row, double number) {
    if (number - number != 0)
        return evaluation_failed(node, row, "the result is %s", isnan(number) ? "not a number" : "beyond the greatest double");
    return value_double(number);
}

value_t function_text(const row_t *row, const char *data, size_t size) {
    return value_text(arena_copy(&row->context->arena, data, size), size);
}

buf_t *function_buffer(const row_t *row) {
    buf_t *buffer = &row->context->buffer;
    if (buffer->capacity > BUFFER_KEEP)
        buf_fini(buffer);
    buf_clear(buffer);
    return buffer;
}

value_t function_made_text(const node_t *node, const row_t *row, const buf_t *text) {
    return text->size > RESULT_MAX ? function_too_long(node, row) : function_text(row, (const char *) text->data, text->size);
}

/* The head of an array (0x90, 0xDC) or a map (0x80, 0xDE) and what is in it. */
static value_t container(const node_t *node, const row_t *row, value_type_t type, const buf_t *inner, uint32_t count) {
    bool map = type == VALUE_MAP;
    size_t head = count < 16 ? 1 : count < 65536 ? 3 : 5;
    if (inner->size > RESULT_MAX)
        return function_too_long(node, row);
    uint8_t *bytes = arena_alloc(&row->context->arena, head + inner->size);
    bytes[0] = (uint8_t) (head == 1 ? (map ? 0x80u : 0x90u) | count : (map ? 0xDEu : 0xDCu) + (head == 5));
    for (size_t i = 1; i < head; i++)
        bytes[i] = (uint8_t) (count >> 8 * (head - 1 - i));
    if (inner->size)
        memcpy(bytes + head, inner->data, inner->size);
    if (!pack_within(pack_cursor(bytes, head + inner->size), PACK_DEPTH - 1)) /* so that an event can have it */
        return evaluation_failed(node, row, "a result nested more than %d deep", PACK_DEPTH - 1);
    return (value_t){.type = (uint8_t) type, .size = (uint32_t) (head + inner->size), .packed = bytes};
}

value_t function_made_array(const node_t *node, const row_t *row, const buf_t *items, uint32_t count) {
    return container(node, row, VALUE_ARRAY, items, count);
}

value_t function_made_map(const node_t *node, const row_t *row, const buf_t *entries, uint32_t count) {
    return container(node, row, VALUE_MAP, entries, count);
}

void function_put_text(buf_t *out, value_t value) {
    if (value.type == VALUE_NULL)
        return;
    if (value.type == VALUE_STRING) {
        buf_put(out, value.text, value.size);
    } else if (value.type == VALUE_TIME) {
        char text[CLOCK_TEXT_MAX];
        buf_put(out, text, clock_print(text, value.time));
    } else {
        size_t start = out->size;
        json_put_value(out, value);
        if (value.type == VALUE_BINARY) { /* base 64, without the quotes */
            memmove(out->data + start, out->data + start + 1, out->size - start - 2);
            out->size -= 2;
        }
    }
}

uint32_t text_characters(const char *text, size_t size) {
    uint32_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += !utf8_inner(text[i]);
    return count;
}

uint32_t text_place(value_t text, uint64_t index) {
    uint32_t at = 0;
    while (at < text.size && (index || utf8_inner(text.text[at]))) {
        if (!utf8_inner(text.text[at]))
            index--;
        at++;
        while (at < text.size && utf8_inner(text.text[at]))
            at++;
    }
    return at;
}

void function_bounds(const value_t *arguments, unsigned count, uint32_t total, uint32_t *start, uint32_t *end) {
    int64_t from = arguments[1].integer, length = count > 2 ? arguments[2].integer : total;
    if (from < 0)
        from = from + total < 0 ? 0 : from + total;
    if (from > total)
        from = total;
    if (length < 0)
        length = 0;
    *start = (uint32_t) from;
    *end = length > total - from ? total : (uint32_t) (from + length);
}
