/* Growable byte buffers. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"

void buf_fini(buf_t *buf) {
    mem_free(buf->data);
    *buf = (buf_t){0};
}

void buf_grow(buf_t *buf, size_t room) {
    ASSERT(room <= SIZE_MAX / 4 && buf->size <= SIZE_MAX / 4);
    size_t capacity = buf->capacity ? buf->capacity : 64;
    while (capacity - buf->size < room)
        capacity += capacity;
    buf->data = mem_resize(buf->data, capacity);
    buf->capacity = capacity;
}

void buf_format(buf_t *buf, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    ASSERT(size >= 0);
    vsnprintf((char *) buf_reserve(buf, (size_t) size + 1), (size_t) size + 1, format, again);
    va_end(again);
    buf->size += (size_t) size;
}

void buf_consume(buf_t *buf, size_t size) {
    ASSERT(size <= buf->size);
    buf->size -= size;
    if (size && buf->size)
        memmove(buf->data, buf->data + size, buf->size);
}

const char *buf_text(buf_t *buf) {
    *buf_reserve(buf, 1) = 0;
    return (const char *) buf->data;
}
