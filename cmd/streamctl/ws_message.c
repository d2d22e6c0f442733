/* Messages to WebSocket clients: made once, shared by reference. */
#include "ws.h"

#include "base/memory.h"

const char *const ws_kind_names[WS_KINDS] = {"data_update", "stream_status", "error_alert", "metrics_update", "reply"};

ws_message_t *ws_message_new(ws_kind_t kind) {
    ws_message_t *message = mem_zero(sizeof *message);
    message->references = 1;
    message->kind = kind;
    message->stream = -1;
    buf_reserve(&message->text, LWS_PRE + 256);
    message->text.size = LWS_PRE;
    return message;
}

static void put_tail(buf_t *text, uint64_t missed) {
    if (missed)
        buf_format(text, ",\"missed\":%llu", (unsigned long long) missed);
    buf_put_byte(text, '}');
}

void ws_message_finish(ws_message_t *message, uint64_t missed) {
    message->tail = message->text.size;
    put_tail(&message->text, missed);
}

ws_message_t *ws_message_ref(ws_message_t *message) {
    message->references++;
    return message;
}

void ws_message_unref(ws_message_t *message) {
    if (!message || --message->references)
        return;
    buf_fini(&message->text);
    mem_free(message);
}

void ws_message_with_missed(const ws_message_t *message, uint64_t missed, buf_t *out) {
    buf_clear(out);
    buf_put(out, message->text.data, message->tail);
    put_tail(out, missed);
}
