#ifndef INGEST_POLL_SEEN_H
#define INGEST_POLL_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "data/value.h"

#define POLL_SEEN_MAX 1000             /* rows with one cursor value that a position tells apart */

/* Rows with one value of the cursor, by their hashes: those that were passed on already are known when the rows with this value are read once more.
 * Equal rows count as often as they came. The caller's storage, no pointers; zero-initialise. */
typedef struct poll_seen {
    uint64_t passed[POLL_SEEN_MAX], known[POLL_SEEN_MAX];     /* in this reading; in those before it */
    size_t passed_count, known_count;
} poll_seen_t;

void poll_seen_clear(poll_seen_t *seen);              /* another value's rows begin */
void poll_seen_begin_again(poll_seen_t *seen);        /* the same rows are read once more */
bool poll_seen_add(poll_seen_t *seen, uint64_t hash); /* false: it was passed on in a reading before */
/* As part of a position. Read returns false when it is none. */
void poll_seen_put(const poll_seen_t *seen, buf_t *out);
bool poll_seen_read(poll_seen_t *seen, const value_t *value);

#endif
