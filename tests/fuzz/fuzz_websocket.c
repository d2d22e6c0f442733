/* WebSocket: what a server may send, as frames or as the answer to the handshake. However it is cut, the same messages come out of it, within the
 * limit. */
#include <stdio.h>
#include <stdlib.h>

#include "../../cmd/ingest/websocket_frame.h"
#include "../../cmd/ingest/websocket_handshake.h"
#include "base/memory.h"

#define LIMIT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All events as text. */
static char *read_all(const uint8_t *data, size_t size, size_t piece, uint8_t flags) {
    ws_reader_t reader = {.limit = LIMIT};
    buf_t out = {0};
    ws_event_t event = {0};
    size_t start = 0, end = 0;
    ws_reader_begin(&reader, flags & 2, flags & 4);
    while (event.type != WS_BROKEN && end < size) {
        end = size - end < piece ? size : end + piece;
        uint8_t *exact = mem_copy(data + start, end - start);
        size_t used = 0;
        do {
            size_t more = ws_read(&reader, (const char *) exact + used, end - start - used, &event);
            used += more;
            if (used > end - start || (event.type == WS_MESSAGE && event.data.size > LIMIT) || (event.type == WS_TOO_LARGE && event.data.size > WS_SAMPLE))
                abort();
            if (event.type && event.type != WS_BROKEN) {
                buf_format(&out, "%d %d %u %zu ", event.type, event.binary, event.code, event.data.size);
                buf_put(&out, event.data.data, event.data.size);
                buf_put_byte(&out, '\n');
            } else if (event.type) {
                buf_format(&out, "broken %u %s\n", event.code, event.reason);
            }
        } while (event.type && event.type != WS_BROKEN);
        start += used;
        mem_free(exact);
    }
    ws_reader_fini(&reader);
    buf_put_byte(&out, 0);
    buf_text(&out);
    size_t total = out.size;
    char *text = (char *) buf_take(&out);
    char *sized = mem_alloc(sizeof total + total);
    memcpy(sized, &total, sizeof total);
    memcpy(sized + sizeof total, text, total);
    mem_free(text);
    return sized;
}

static void frames(const uint8_t *data, size_t size, size_t piece, uint8_t flags) {
    if (size > 8192) /* byte by byte that takes its square */
        size = 8192;
    char *whole = read_all(data, size, size + 1, flags), *pieces = read_all(data, size, piece, flags);
    size_t total;
    memcpy(&total, whole, sizeof total);
    if (memcmp(whole, pieces, sizeof total + total) != 0) {
        fprintf(stderr, "whole:\n%s\nin pieces of %zu:\n%s\n", whole + sizeof total, piece, pieces + sizeof total);
        abort();
    }
    mem_free(whole);
    mem_free(pieces);
}

static void handshake(const uint8_t *data, size_t size) {
    char *protocol = (char[]){"a"};
    option_list_t protocols = {&protocol, 1};
    ws_request_t request = {.key = "dGhlIHNhbXBsZSBub25jZQ==", .protocols = &protocols, .deflate = true};
    ws_answer_t answer;
    err_t err;
    uint8_t *exact = mem_copy(data, size);
    if (ws_read_answer(&answer, &request, text_make((const char *) exact, size), &err) == 1 && answer.size > size)
        abort();
    mem_free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3)
        return 0;
    if (data[0] & 1)
        handshake(data + 1, size - 1);
    else
        frames(data + 2, size - 2, 1 + data[1], data[0]);
    return 0;
}
