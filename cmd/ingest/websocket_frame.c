/* Frames of WebSocket: taking them apart, putting messages together, and writing our own. */
#include "websocket_frame.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

#define FINAL 0x80
#define COMPRESSED 0x40
#define RESERVED 0x30
#define MASKED 0x80
#define CONTROL 0x08
#define FRAME_MAX (UINT64_C(1) << 30)  /* bytes; what claims more is no message that anybody means to send */
#define WAIT_MAX (64u * 1024)          /* a frame up to this size is waited for, and then not copied */
#define SLACK 64                       /* decoders may look so far past the end */

enum { OP_CONTINUATION = 0 };

enum { CODE_PROTOCOL = 1002, CODE_NO_STATUS = 1005, CODE_DATA = 1007, CODE_TOO_LARGE = 1009 };

typedef struct head {
    size_t size;
    uint8_t opcode;
    bool final, compressed;
    uint64_t length;
} head_t;

void ws_reader_begin(ws_reader_t *reader, bool deflate, bool reset) {
    uint64_t limit = reader->limit;
    buf_t message = reader->message;
    ws_inflate_fini(&reader->inflate);
    buf_clear(&message);
    *reader = (ws_reader_t){.limit = limit, .deflate = deflate, .reset = reset, .message = message};
}

void ws_reader_fini(ws_reader_t *reader) {
    ws_inflate_fini(&reader->inflate);
    buf_fini(&reader->message);
}

static void broken(ws_event_t *event, unsigned code, const char *reason) {
    *event = (ws_event_t){.type = WS_BROKEN, .code = code, .reason = reason};
}

/* False: not all of it is here, or it is broken. */
static bool read_head(const ws_reader_t *reader, const uint8_t *data, size_t size, head_t *head, ws_event_t *event) {
    if (size < 2)
        return false;
    unsigned extra = (data[1] & 127) == 126 ? 2 : (data[1] & 127) == 127 ? 8 : 0;
    *head = (head_t){.size = 2 + extra, .opcode = data[0] & 15, .final = data[0] & FINAL, .compressed = data[0] & COMPRESSED, .length = data[1] & 127};
    bool control = head->opcode & CONTROL, begins = !control && head->opcode != OP_CONTINUATION;
    if (data[1] & MASKED)
        broken(event, CODE_PROTOCOL, "it sends masked frames, as only clients do");
    else if ((data[0] & RESERVED) || (head->compressed && !(reader->deflate && begins)))
        broken(event, CODE_PROTOCOL, "it sets a bit that nothing was agreed on for");
    else if (control ? head->opcode > WS_OP_PONG : head->opcode > WS_OP_BINARY)
        broken(event, CODE_PROTOCOL, "it sends a frame of an unknown kind");
    else if (control && (!head->final || extra))
        broken(event, CODE_PROTOCOL, "it sends a control frame that is too long or in pieces");
    else if (!control && begins == reader->open)
        broken(event, CODE_PROTOCOL, reader->open ? "it begins a message inside another one" : "it continues a message that it has not begun");
    if (event->type || size < head->size)
        return false;
    if (extra)
        head->length = 0;
    for (unsigned i = 0; i < extra; i++)
        head->length = head->length << 8 | data[2 + i];
    if (head->length > FRAME_MAX)
        broken(event, CODE_TOO_LARGE, "it announces a frame of more than 1 GiB");
    return !event->type;
}

static void read_control(const head_t *head, const char *payload, ws_event_t *event) {
    text_t data = text_make(payload, (size_t) head->length);
    if (head->opcode != WS_OP_CLOSE) {
        *event = (ws_event_t){.type = head->opcode == WS_OP_PING ? WS_PING : WS_PONG, .data = data};
        return;
    }
    *event = (ws_event_t){.type = WS_CLOSE, .code = CODE_NO_STATUS};
    if (data.size >= 2) {
        event->code = (unsigned) (uint8_t) data.data[0] << 8 | (uint8_t) data.data[1];
        event->data = text_make(data.data + 2, data.size - 2);
    }
}

/* A part of the data frame under way. False: its compression is broken. */
static bool put(ws_reader_t *reader, const char *data, size_t size) {
    if (reader->compressed)
        return ws_inflate_put(&reader->inflate, text_make(data, size), &reader->message, reader->limit, &reader->too_large);
    size_t room = reader->limit - reader->message.size;
    reader->too_large |= size > room;
    buf_put(&reader->message, data, size < room ? size : room);
    return true;
}

static void spoilt(const ws_reader_t *reader, ws_event_t *event) {
    broken(event, CODE_DATA, "its compression is broken");
    event->spoilt = true;
    event->data = text_make((const char *) reader->message.data, reader->message.size < WS_SAMPLE ? reader->message.size : WS_SAMPLE);
}

static void end_message(ws_reader_t *reader, ws_event_t *event) {
    bool sound = !reader->compressed || ws_inflate_end(&reader->inflate, &reader->message, reader->limit, &reader->too_large);
    reader->open = false;
    reader->done = true;
    buf_reserve(&reader->message, SLACK);
    text_t data = text_make((const char *) reader->message.data, reader->message.size);
    if (reader->too_large && data.size > WS_SAMPLE)
        data.size = WS_SAMPLE;
    *event = (ws_event_t){.type = reader->too_large ? WS_TOO_LARGE : WS_MESSAGE, .data = data, .binary = reader->binary};
    if (!sound)
        spoilt(reader, event);
}

static void begin_frame(ws_reader_t *reader, const head_t *head) {
    if (!reader->open) {
        reader->binary = head->opcode == WS_OP_BINARY;
        reader->compressed = head->compressed;
        reader->too_large = false;
        if (reader->compressed)
            ws_inflate_message(&reader->inflate, reader->reset);
    }
    reader->open = reader->in_frame = true;
    reader->final = head->final;
    reader->left = head->length;
}

/* What is there of the data frame under way. True: it is an event. */
static bool read_payload(ws_reader_t *reader, const char *data, size_t size, size_t *used, ws_event_t *event) {
    size_t part = size - *used < reader->left ? size - *used : (size_t) reader->left;
    if (!put(reader, data + *used, part)) {
        spoilt(reader, event);
        return true;
    }
    *used += part;
    reader->left -= part;
    if (reader->left)
        return false;
    reader->in_frame = false;
    if (reader->final)
        end_message(reader, event);
    return reader->final;
}

size_t ws_read(ws_reader_t *reader, const char *data, size_t size, ws_event_t *event) {
    size_t used = 0;
    head_t head;
    *event = (ws_event_t){0};
    if (reader->done)
        buf_clear(&reader->message);
    reader->done = false;
    while (reader->in_frame || used < size) {
        if (reader->in_frame) {
            if (read_payload(reader, data, size, &used, event) || reader->in_frame)
                break;
            continue;
        }
        const char *at = data + used;
        if (!read_head(reader, (const uint8_t *) at, size - used, &head, event))
            break;
        bool here = size - used - head.size >= head.length;
        if (head.opcode & CONTROL) {
            if (here) {
                read_control(&head, at + head.size, event);
                used += head.size + (size_t) head.length;
            }
            break;
        }
        bool alone = head.final && !reader->open && !head.compressed && head.length <= reader->limit;
        if (alone && !here && head.length <= WAIT_MAX)
            break;
        if (alone && here) {
            *event = (ws_event_t){.type = WS_MESSAGE, .data = text_make(at + head.size, (size_t) head.length), .binary = head.opcode == WS_OP_BINARY};
            used += head.size + (size_t) head.length;
            break;
        }
        begin_frame(reader, &head);
        used += head.size;
    }
    return used;
}

void ws_put_frame(buf_t *out, ws_opcode_t opcode, text_t payload) {
    uint8_t mask[4];
    if (getentropy(mask, sizeof mask)) /* it keeps proxies from being misled by what we say, which is not up to a server here */
        memset(mask, 0x5A, sizeof mask);
    buf_put_byte(out, (uint8_t) (FINAL | opcode));
    unsigned extra = payload.size > UINT16_MAX ? 8 : payload.size > WS_CONTROL_MAX ? 2 : 0;
    buf_put_byte(out, (uint8_t) (MASKED | (extra == 8 ? 127 : extra == 2 ? 126 : payload.size)));
    for (unsigned i = extra; i-- > 0;)
        buf_put_byte(out, (uint8_t) (payload.size >> 8 * i));
    buf_put(out, mask, sizeof mask);
    uint8_t *to = buf_reserve(out, payload.size);
    for (size_t i = 0; i < payload.size; i++)
        to[i] = (uint8_t) payload.data[i] ^ mask[i & 3];
    out->size += payload.size;
}

void ws_put_close(buf_t *out, unsigned code) {
    const char bytes[] = {(char) (code >> 8), (char) code};
    ws_put_frame(out, WS_OP_CLOSE, text_make(bytes, code == CODE_NO_STATUS ? 0 : sizeof bytes));
}
