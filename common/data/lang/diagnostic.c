/* The errors of a program: collected while it is read, shown with line, column, the source line, a caret and a hint. */
#include "data/lang/diagnostic.h"

#include <stdarg.h>
#include <stdlib.h>

#define LINE_SHOWN 160 /* bytes of a source line at most */

void diagnostics_fini(diagnostics_t *diagnostics) {
    for (size_t i = 0; i < diagnostics->count; i++) {
        mem_free(diagnostics->items[i].message);
        mem_free(diagnostics->items[i].hint);
    }
    mem_free(diagnostics->items);
    diagnostics->items = NULL;
    diagnostics->count = 0;
}

static bool continuation(char byte) {
    return ((unsigned char) byte & 0xC0) == 0x80;
}

static void advance(text_t source, uint32_t from, uint32_t to, unsigned *line, unsigned *column) {
    for (uint32_t i = from; i < to && i < source.size; i++) {
        if (source.data[i] == '\n') {
            (*line)++;
            *column = 1;
        } else if (!continuation(source.data[i])) {
            (*column)++;
        }
    }
}

void diagnostics_place(text_t source, uint32_t at, unsigned *line, unsigned *column) {
    *line = 1;
    *column = 1;
    advance(source, 0, at, line, column);
}

void diagnostics_find_place(diagnostics_t *diagnostics, uint32_t at, unsigned *line, unsigned *column) {
    if (!diagnostics->place_line || at < diagnostics->place_at) {
        diagnostics->place_at = 0;
        diagnostics->place_line = diagnostics->place_column = 1;
    }
    advance(diagnostics->source, diagnostics->place_at, at, &diagnostics->place_line, &diagnostics->place_column);
    diagnostics->place_at = at;
    *line = diagnostics->place_line;
    *column = diagnostics->place_column;
}

void diagnostics_add(diagnostics_t *diagnostics, uint32_t at, uint32_t size, const char *hint, const char *format, ...) {
    diagnostics->faults++;
    if (diagnostics->count >= DIAGNOSTICS_MAX)
        return;
    for (size_t i = 0; i < diagnostics->count; i++)
        if (diagnostics->items[i].at == at)
            return;
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    diagnostics->items = mem_resize(diagnostics->items, (diagnostics->count + 1) * sizeof *diagnostics->items);
    diagnostic_t *item = &diagnostics->items[diagnostics->count++];
    *item = (diagnostic_t){.at = at, .size = size, .message = mem_text(message), .hint = mem_text(hint)};
    diagnostics_place(diagnostics->source, at, &item->line, &item->column);
}

static int by_place(const void *a, const void *b) {
    const diagnostic_t *left = a, *right = b;
    return left->at < right->at ? -1 : left->at > right->at;
}

void diagnostics_sort(diagnostics_t *diagnostics) {
    if (diagnostics->count > 1)
        qsort(diagnostics->items, diagnostics->count, sizeof *diagnostics->items, by_place);
}

/* The line that holds `at`, and a line below it whose caret stands under `at`. */
static void print_line(text_t source, const diagnostic_t *item, buf_t *out) {
    size_t at = item->at < source.size ? item->at : source.size;
    size_t start = at, end = at;
    while (start > 0 && source.data[start - 1] != '\n')
        start--;
    while (end < source.size && source.data[end] != '\n')
        end++;
    if (at - start > LINE_SHOWN / 2) { /* a very long line: what stands around the place */
        start = at - LINE_SHOWN / 2;
        while (start < at && continuation(source.data[start]))
            start++;
    }
    if (end - start > LINE_SHOWN) {
        end = start + LINE_SHOWN;
        while (end > at && continuation(source.data[end]))
            end--;
    }
    buf_put_text(out, "    ");
    for (size_t i = start; i < end; i++) {
        unsigned char byte = (unsigned char) source.data[i];
        buf_put_byte(out, byte < ' ' && byte != '\t' ? ' ' : byte);
    }
    buf_put_text(out, "\n    ");
    for (size_t i = start; i < at; i++)
        if (!continuation(source.data[i]))
            buf_put_byte(out, source.data[i] == '\t' ? '\t' : ' ');
    buf_put_byte(out, '^');
    for (size_t i = at + 1; i < at + item->size && i < end; i++)
        if (!continuation(source.data[i]))
            buf_put_byte(out, '~');
    buf_put_byte(out, '\n');
}

void diagnostics_print(const diagnostics_t *diagnostics, buf_t *out) {
    for (size_t i = 0; i < diagnostics->count; i++) {
        const diagnostic_t *item = &diagnostics->items[i];
        buf_format(out, "%s:%u:%u: error: %s\n", diagnostics->name, item->line, item->column, item->message);
        print_line(diagnostics->source, item, out);
        if (item->hint)
            buf_format(out, "    hint: %s\n", item->hint);
    }
}

void diagnostics_put_json(const diagnostics_t *diagnostics, buf_t *out) {
    buf_format(out, "{\"ok\":%s,\"errors\":[", diagnostics->count ? "false" : "true");
    for (size_t i = 0; i < diagnostics->count; i++) {
        const diagnostic_t *item = &diagnostics->items[i];
        buf_format(out, "%s{\"line\":%u,\"column\":%u,\"message\":", i ? "," : "", item->line, item->column);
        text_put_json(out, text_of(item->message));
        buf_put_text(out, ",\"hint\":");
        text_put_json(out, text_of(item->hint ? item->hint : ""));
        buf_put_byte(out, '}');
    }
    buf_put_text(out, "]}\n");
}
