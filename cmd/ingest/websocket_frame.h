#ifndef INGEST_WEBSOCKET_FRAME_H
#define INGEST_WEBSOCKET_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"
#include "websocket_inflate.h"

/* The framing of WebSocket (RFC 6455, section 5) as a client sees it: bytes of a server, cut anywhere, become whole messages. No message takes more
 * memory than the limit, however it is cut into frames and whatever it inflates to. The caller's storage: zero-initialise. */

#define WS_CONTROL_MAX 125             /* bytes of a control frame's payload */
#define WS_SAMPLE 1024                 /* bytes that are shown of a message that is too large */

typedef enum ws_event_type {
    WS_NONE,                           /* all that came is used, or waits for its rest */
    WS_MESSAGE,
    WS_TOO_LARGE,                      /* a message that was read to its end and is above the limit; `data` is how it begins */
    WS_PING,
    WS_PONG,
    WS_CLOSE,
    WS_BROKEN,                         /* the server does not keep to the protocol: nothing behind this can be read */
} ws_event_type_t;

typedef struct ws_event {
    ws_event_type_t type;
    text_t data;
    bool binary;
    bool spoilt;                       /* of BROKEN: a message could not be inflated; `data` is what came out of it */
    unsigned code;                     /* of CLOSE: what the server said, 1005 when it said nothing; of BROKEN: what to tell it */
    const char *reason;                /* of BROKEN; static */
} ws_event_t;

typedef struct ws_reader {
    uint64_t limit;                    /* bytes of a message */
    bool deflate;                      /* permessage-deflate (RFC 7692) was agreed on */
    bool reset;                        /* and each message begins with an empty window */

    bool open, binary, compressed, too_large;      /* the message under way */
    bool done;                         /* `message` was handed out */
    buf_t message;
    ws_inflate_t inflate;
    bool in_frame, final;              /* the data frame under way */
    uint64_t left;
} ws_reader_t;

/* A connection begins: what was of an earlier one is forgotten. */
void ws_reader_begin(ws_reader_t *reader, bool deflate, bool reset);
void ws_reader_fini(ws_reader_t *reader);

/* Uses bytes from the front and returns how many; the next event is there when there is enough for one. The caller keeps the rest and calls again, with
 * more behind it after WS_NONE. What the event points to is valid until the next call, as long as `data` stays where it is. */
size_t ws_read(ws_reader_t *reader, const char *data, size_t size, ws_event_t *event);

/* Writes a frame of a client, masked. */
typedef enum ws_opcode { WS_OP_TEXT = 1, WS_OP_BINARY = 2, WS_OP_CLOSE = 8, WS_OP_PING = 9, WS_OP_PONG = 10 } ws_opcode_t;
void ws_put_frame(buf_t *out, ws_opcode_t opcode, text_t payload);
void ws_put_close(buf_t *out, unsigned code);         /* 1005: without a code */

#endif
