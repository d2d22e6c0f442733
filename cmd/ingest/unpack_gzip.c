/* Files that gzip compressed, by zlib. */
#include <zlib.h>

#include "base/err.h"
#include "base/memory.h"
#include "unpack.h"

#define WINDOW (15 + 16)               /* the largest, with gzip's head and trailer */

static bool gzip_begins(const uint8_t magic[UNPACK_MAGIC]) {
    return magic[0] == 0x1f && magic[1] == 0x8b && magic[2] == Z_DEFLATED;
}

static void *gzip_open(void) {
    z_stream *stream = mem_zero(sizeof *stream);
    ASSERT(inflateInit2(stream, WINDOW) == Z_OK);
    return stream;
}

static void gzip_reset(void *state) {
    ASSERT(inflateReset(state) == Z_OK);
}

static unpack_step_t gzip_step(void *state, unpack_input_t *in, unpack_output_t *out, const char **error) {
    z_stream *stream = state;
    stream->next_in = (Bytef *) in->data;
    stream->avail_in = in->size < UINT32_MAX ? (uInt) in->size : UINT32_MAX;
    stream->next_out = out->data;
    stream->avail_out = out->size < UINT32_MAX ? (uInt) out->size : UINT32_MAX;
    int result = inflate(stream, Z_NO_FLUSH);
    in->size -= (size_t) (stream->next_in - in->data);
    in->data = stream->next_in;
    out->size -= (size_t) (stream->next_out - out->data);
    out->data = stream->next_out;
    if (result == Z_STREAM_END)
        return UNPACK_END;
    if (result == Z_OK || result == Z_BUF_ERROR)
        return UNPACK_MORE;
    *error = "the compressed data is damaged";
    return UNPACK_BAD;
}

static void gzip_close(void *state) {
    inflateEnd(state);
    mem_free(state);
}

const unpack_codec_t unpack_gzip = {.begins = gzip_begins, .open = gzip_open, .reset = gzip_reset, .step = gzip_step, .close = gzip_close};
