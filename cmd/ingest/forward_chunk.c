/* Compressed chunks of the Forward protocol, by zlib. First all is decompressed to see that it can be; then once more for its entries. */
#include "forward_chunk.h"

#include <zlib.h>

#include "base/memory.h"
#include "data/pack.h"

#define PIECE (256u * 1024)            /* decompressed, or gone through, in one turn */
#define KEPT (1024u * 1024)            /* room that stays for the next chunk */

struct forward_chunk {
    size_t limit, entry_limit;
    z_stream stream;
    bool inside;                       /* of a gzip member */
    size_t used;                       /* of the compressed bytes */
    size_t expanded;                   /* bytes that they have become so far */
    bool checked;
    buf_t window;                      /* what is at hand of those */
    size_t at;                         /* where in it the next entry begins */
    pack_pass_t pass;                  /* what is still to come of that */
    size_t passed;                     /* and how much of it was looked at */
    bool passing;                      /* it is too long */
};

forward_chunk_t *forward_chunk_new(size_t limit, size_t entry_limit) {
    forward_chunk_t *chunk = mem_zero(sizeof *chunk);
    chunk->limit = limit;
    chunk->entry_limit = entry_limit;
    ASSERT(inflateInit2(&chunk->stream, 15 + 32) == Z_OK);
    return chunk;
}

void forward_chunk_free(forward_chunk_t *chunk) {
    if (!chunk)
        return;
    inflateEnd(&chunk->stream);
    buf_fini(&chunk->window);
    mem_free(chunk);
}

static void rewind_bytes(forward_chunk_t *chunk) {
    chunk->used = chunk->expanded = 0;
    chunk->inside = false;
    buf_clear(&chunk->window);
}

void forward_chunk_begin(forward_chunk_t *chunk) {
    rewind_bytes(chunk);
    if (chunk->window.capacity > KEPT)
        buf_fini(&chunk->window);
    chunk->checked = chunk->passing = false;
    chunk->at = chunk->passed = 0;
    chunk->pass = (pack_pass_t){1, 0};
}

static bool is_over(const forward_chunk_t *chunk, text_t packed) {
    return chunk->used == packed.size && !chunk->inside;
}

/* Appends to the window, a piece at most, and takes no more than a piece for it. Members may stand one behind the other. */
static int expand(forward_chunk_t *chunk, text_t packed, err_t *err) {
    z_stream *stream = &chunk->stream;
    size_t left = packed.size - chunk->used;
    stream->next_in = (Bytef *) (uintptr_t) packed.data + chunk->used;
    stream->avail_in = (uInt) (left < PIECE ? left : PIECE);
    stream->next_out = buf_reserve(&chunk->window, PIECE);
    stream->avail_out = PIECE;
    int rc = Z_OK;
    while (rc == Z_OK && stream->avail_out && (stream->avail_in || chunk->inside)) {
        if (!chunk->inside)
            ASSERT(inflateReset(stream) == Z_OK);
        rc = inflate(stream, Z_NO_FLUSH);
        chunk->inside = rc != Z_STREAM_END;
        if (rc == Z_STREAM_END)
            rc = Z_OK;
    }
    size_t some = PIECE - stream->avail_out;
    chunk->window.size += some;
    chunk->expanded += some;
    chunk->used = (size_t) ((const char *) stream->next_in - packed.data);
    if (chunk->expanded > chunk->limit)
        return err_set(err, "a chunk of more than %zu bytes when it is decompressed (--chunk-limit)", chunk->limit);
    bool cut = rc == Z_BUF_ERROR && chunk->used == packed.size;
    return (rc == Z_OK || rc == Z_BUF_ERROR) && !cut ? 0 : err_set(err, "compressed entries that cannot be decompressed");
}

/* A turn of the first time. ENTRY: it was all, and is at hand. */
static forward_found_t check(forward_chunk_t *chunk, text_t packed, err_t *err) {
    bool small = !chunk->used;
    if (!packed.size) {
        err_set(err, "compressed entries that cannot be decompressed");
        return FORWARD_REFUSED;
    }
    buf_clear(&chunk->window);
    if (expand(chunk, packed, err))
        return FORWARD_REFUSED;
    chunk->checked = is_over(chunk, packed);
    if (chunk->checked && small)
        return FORWARD_ENTRY;
    if (chunk->checked)
        rewind_bytes(chunk);
    return FORWARD_MORE;
}

/* The next entry is left behind. */
static void leave(forward_chunk_t *chunk) {
    chunk->at += chunk->passed;
    chunk->passed = 0;
    chunk->pass = (pack_pass_t){1, 0};
}

/* Nothing more can be told apart. */
static void lose_rest(forward_chunk_t *chunk, text_t packed) {
    chunk->at = chunk->window.size;
    chunk->passed = 0;
    chunk->used = packed.size;
    chunk->inside = false;
}

forward_found_t forward_chunk_next(forward_chunk_t *chunk, text_t packed, text_t *entry, err_t *err) {
    forward_found_t found = chunk->checked ? FORWARD_ENTRY : check(chunk, packed, err);
    if (found != FORWARD_ENTRY)
        return found;
    const char *start = (const char *) chunk->window.data + chunk->at;
    size_t left = chunk->window.size - chunk->at;
    bool over = is_over(chunk, packed);
    if (!left && over)
        return FORWARD_END;
    pack_cursor_t cursor = pack_cursor(start + chunk->passed, left - chunk->passed);
    int whole = left ? pack_pass(&chunk->pass, &cursor) : 0;
    chunk->passed = left ? (size_t) ((const char *) cursor.at - start) : 0;
    *entry = text_make(start, chunk->passed);
    if (whole < 0 || (!whole && over)) {
        *entry = text_make(start, left);
        bool told = chunk->passing;
        lose_rest(chunk, packed);
        return told && over ? FORWARD_END : FORWARD_LOST;
    }
    if (whole) {
        bool told = chunk->passing;
        leave(chunk);
        chunk->passing = false;
        return told ? FORWARD_MORE : FORWARD_ENTRY;
    }
    if (chunk->passing || chunk->passed > chunk->entry_limit) { /* its bytes are not kept; its first ones are told once */
        bool told = chunk->passing;
        chunk->passing = true;
        chunk->at += chunk->passed;
        chunk->passed = 0;
        if (!told)
            return FORWARD_LONG;
    }
    buf_consume(&chunk->window, chunk->at);
    chunk->at = 0;
    ASSERT(expand(chunk, packed, err) == 0); /* it was checked */
    return FORWARD_MORE;
}
