#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A cursor over bytes from outside. What goes beyond the end makes it bad, and it gives nothing from then on: one look at `bad` after a whole
 * structure is enough. */
typedef struct bytes {
    const uint8_t *at, *end;
    bool bad;
} bytes_t;

static inline size_t bytes_left(const bytes_t *bytes) {
    return bytes->bad ? 0 : (size_t) (bytes->end - bytes->at);
}

/* The next `size` bytes, borrowed; NULL when there are less. */
static inline const uint8_t *bytes_take(bytes_t *bytes, size_t size) {
    if (bytes->bad || bytes_left(bytes) < size) {
        bytes->bad = true;
        return NULL;
    }
    bytes->at += size;
    return bytes->at - size;
}

/* A number of `size` bytes, 1 to 8, the highest first; 0 when there are less. */
static inline uint64_t bytes_big(bytes_t *bytes, size_t size) {
    const uint8_t *in = bytes_take(bytes, size);
    uint64_t number = 0;
    for (size_t i = 0; in && i < size; i++)
        number = number << 8 | in[i];
    return number;
}

/* The same, the lowest first. */
static inline uint64_t bytes_little(bytes_t *bytes, size_t size) {
    const uint8_t *in = bytes_take(bytes, size);
    uint64_t number = 0;
    for (size_t i = size; in && i-- > 0;)
        number = number << 8 | in[i];
    return number;
}

#endif
