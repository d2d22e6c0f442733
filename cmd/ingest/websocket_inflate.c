/* Inflating what a WebSocket server has compressed. What is beyond the limit is inflated all the same, into nowhere: later messages may refer to it. */
#include "websocket_inflate.h"

#include "base/err.h"

#define STEP (64u * 1024)
#define SIZE_LIMIT (UINT64_C(1) << 30)

void ws_inflate_fini(ws_inflate_t *self) {
    if (self->begun)
        inflateEnd(&self->stream);
    *self = (ws_inflate_t){0};
}

void ws_inflate_message(ws_inflate_t *self, bool reset) {
    self->size = 0;
    if (!self->begun)
        ASSERT(inflateInit2(&self->stream, -MAX_WBITS) == Z_OK);
    else if (reset)
        ASSERT(inflateReset(&self->stream) == Z_OK);
    self->begun = true;
}

bool ws_inflate_put(ws_inflate_t *self, text_t bytes, buf_t *out, uint64_t limit, bool *too_large) {
    uint8_t nowhere[4096] = {0};
    z_stream *stream = &self->stream;
    stream->next_in = (Bytef *) (uintptr_t) bytes.data;
    stream->avail_in = (uInt) bytes.size;
    for (;;) {
        size_t room = out->size < limit ? limit - out->size : 0;
        if (room > STEP)
            room = STEP;
        size_t given = room ? room : sizeof nowhere;
        stream->next_out = room ? buf_reserve(out, room) : nowhere;
        stream->avail_out = (uInt) given;
        int result = self->size > SIZE_LIMIT ? Z_DATA_ERROR : inflate(stream, Z_SYNC_FLUSH);
        size_t made = given - stream->avail_out;
        self->size += made;
        if (room)
            out->size += made;
        else if (made)
            *too_large = true;
        if (result == Z_STREAM_END) /* a last block: what follows begins anew */
            result = inflateReset(stream);
        if (result != Z_OK && result != Z_BUF_ERROR)
            return false;
        if (!stream->avail_in && stream->avail_out)
            return true;
        if (result == Z_BUF_ERROR && !made)
            return !stream->avail_in;
    }
}

bool ws_inflate_end(ws_inflate_t *self, buf_t *out, uint64_t limit, bool *too_large) {
    return ws_inflate_put(self, text_make("\x00\x00\xff\xff", 4), out, limit, too_large);
}
