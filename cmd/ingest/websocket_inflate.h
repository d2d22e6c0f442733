#ifndef INGEST_WEBSOCKET_INFLATE_H
#define INGEST_WEBSOCKET_INFLATE_H

#include <stdbool.h>
#include <stdint.h>
#include <zlib.h>

#include "base/buffer.h"
#include "base/text.h"

/* The messages of permessage-deflate (RFC 7692, section 7.2.2), inflated as they come. The caller's storage: zero-initialise. */
typedef struct ws_inflate {
    z_stream stream;
    bool begun;
    uint64_t size;                     /* of the message so far, what was left out included */
} ws_inflate_t;

void ws_inflate_fini(ws_inflate_t *inflate);          /* forgets the window, too; legal at any time */
void ws_inflate_message(ws_inflate_t *inflate, bool reset);   /* a message begins; reset: with an empty window */
/* Appends what the bytes inflate to, until `out` has `limit` of them; what is beyond is left out, and *too_large is set. False: they are broken, or
 * inflate to gigabytes. */
bool ws_inflate_put(ws_inflate_t *inflate, text_t bytes, buf_t *out, uint64_t limit, bool *too_large);
bool ws_inflate_end(ws_inflate_t *inflate, buf_t *out, uint64_t limit, bool *too_large);

#endif
