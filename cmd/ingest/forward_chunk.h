#ifndef INGEST_FORWARD_CHUNK_H
#define INGEST_FORWARD_CHUNK_H

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"

/* The entries of a chunk that gzip has compressed, one at a time, however many bytes they take in all: a piece of them, of 256 KiB or as large as
 * one entry, is there at a time. The bytes are gone through twice, so that a chunk is known to be whole and within its limit before an entry of it is
 * given; but for a small one, which is kept. */
typedef struct forward_chunk forward_chunk_t;

/* limit: of bytes when decompressed; entry_limit: of those of one entry. */
forward_chunk_t *forward_chunk_new(size_t limit, size_t entry_limit);
void forward_chunk_free(forward_chunk_t *chunk);      /* NULL is legal */
void forward_chunk_begin(forward_chunk_t *chunk);     /* another one */

typedef enum forward_found {
    FORWARD_END,                   /* there are no more */
    FORWARD_ENTRY,                 /* a whole one */
    FORWARD_LONG,                  /* of one that is too long, the beginning; what follows is the next one */
    FORWARD_LOST,                  /* malformed or cut short, the beginning of what is left; what follows is the end */
    FORWARD_MORE,                  /* nothing yet, but enough work for one turn: call again */
    FORWARD_REFUSED,               /* the chunk cannot be decompressed within its limit; comes before everything else */
} forward_found_t;
/* packed: the compressed bytes, the same each time; they may lie elsewhere. *entry is borrowed until the next call. */
forward_found_t forward_chunk_next(forward_chunk_t *chunk, text_t packed, text_t *entry, err_t *err);

#endif
