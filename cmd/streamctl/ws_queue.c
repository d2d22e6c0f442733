/* The bounded queue of one WebSocket client, where a slow client's messages are conflated. */
#include "ws_queue.h"

#include "base/memory.h"

static ws_message_t **slot(const ws_queue_t *queue, unsigned index) {
    return &queue->waiting[(queue->head + index) % WS_QUEUE_MESSAGES];
}

static size_t size_of(const ws_message_t *message) {
    return message->text.size - LWS_PRE;
}

static void replace(ws_queue_t *queue, unsigned index, ws_message_t *message) {
    ws_message_t **at = slot(queue, index);
    queue->bytes -= size_of(*at);
    queue->bytes += size_of(message);
    ws_message_unref(*at);
    *at = ws_message_ref(message);
}

/* The last that waits of this kind and stream, or -1. */
static int find_last(const ws_queue_t *queue, const ws_message_t *like) {
    for (unsigned i = queue->count; i-- > 0;) {
        const ws_message_t *message = *slot(queue, i);
        if (message->kind == like->kind && message->stream == like->stream)
            return (int) i;
    }
    return -1;
}

static void remove_at(ws_queue_t *queue, unsigned index) {
    ws_message_t *message = *slot(queue, index);
    queue->bytes -= size_of(message);
    queue->lost++;
    queue->alerts_lost += message->kind == WS_ALERT;
    ws_message_unref(message);
    for (unsigned i = index; i + 1 < queue->count; i++)
        *slot(queue, i) = *slot(queue, i + 1);
    queue->count--;
}

static bool remove_oldest(ws_queue_t *queue, ws_kind_t kind) {
    for (unsigned i = 0; i < queue->count; i++)
        if ((*slot(queue, i))->kind == kind) {
            remove_at(queue, i);
            return true;
        }
    return false;
}

static bool full(const ws_queue_t *queue, const ws_message_t *message) {
    return queue->count == WS_QUEUE_MESSAGES || (queue->count && queue->bytes + size_of(message) > WS_QUEUE_BYTES);
}

bool ws_queue_put(ws_queue_t *queue, ws_message_t *message) {
    if (!queue->waiting)
        queue->waiting = mem_zero(WS_QUEUE_MESSAGES * sizeof *queue->waiting);
    bool newest_only = message->kind == WS_STATUS || message->kind == WS_METRICS;
    bool conflate = newest_only || (message->kind == WS_DATA && full(queue, message));
    int last = conflate ? find_last(queue, message) : -1;
    if (last >= 0) {
        queue->lost += !newest_only;
        replace(queue, (unsigned) last, message);
        /* A larger text in the old one's place may pass the bound: give up older data for it. */
        while (queue->bytes > WS_QUEUE_BYTES && queue->count > 1 && (*slot(queue, 0))->kind == WS_DATA && *slot(queue, 0) != message)
            remove_at(queue, 0);
        return true;
    }
    while (full(queue, message))
        if (!remove_oldest(queue, WS_DATA) && !remove_oldest(queue, WS_ALERT))
            return false;
    *slot(queue, queue->count++) = ws_message_ref(message);
    queue->bytes += size_of(message);
    return true;
}

ws_message_t *ws_queue_take(ws_queue_t *queue) {
    if (!queue->count)
        return NULL;
    ws_message_t *message = *slot(queue, 0);
    queue->head = (queue->head + 1) % WS_QUEUE_MESSAGES;
    queue->count--;
    queue->bytes -= size_of(message);
    return message;
}

void ws_queue_fini(ws_queue_t *queue) {
    ws_message_t *message;
    while ((message = ws_queue_take(queue)))
        ws_message_unref(message);
    mem_free(queue->waiting);
    *queue = (ws_queue_t){0};
}
