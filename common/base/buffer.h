#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"

/* A growable byte buffer; the caller's storage. Zero-initialise; buf_fini frees. */
typedef struct buf {
    uint8_t *data;
    size_t size;      /* bytes in use */
    size_t capacity;
} buf_t;

void buf_fini(buf_t *buf);
void buf_grow(buf_t *buf, size_t room);               /* slow path of buf_reserve */
void buf_format(buf_t *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(buf_t *buf, size_t size);            /* drops bytes at the front */
const char *buf_text(buf_t *buf);                     /* NUL-terminated view; borrowed until the next change */

/* Makes room for `room` more bytes and returns where they go. Advance buf->size after writing. */
static inline uint8_t *buf_reserve(buf_t *buf, size_t room) {
    if (__builtin_expect(buf->capacity - buf->size < room, 0))
        buf_grow(buf, room);
    return buf->data + buf->size;
}

static inline void buf_put(buf_t *buf, const void *bytes, size_t size) {
    if (size) {
        memcpy(buf_reserve(buf, size), bytes, size);
        buf->size += size;
    }
}

static inline void buf_put_byte(buf_t *buf, uint8_t byte) {
    *buf_reserve(buf, 1) = byte;
    buf->size++;
}

static inline void buf_put_text(buf_t *buf, const char *text) {
    buf_put(buf, text, strlen(text));
}

static inline void buf_clear(buf_t *buf) {
    buf->size = 0;
}

/* Gives the bytes away: the caller owns the memory (mem_free), the buffer is empty again. */
static inline uint8_t *buf_take(buf_t *buf) {
    uint8_t *data = buf->data;
    *buf = (buf_t){0};
    return data;
}

#endif
