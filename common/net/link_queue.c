/* The ring of frames behind senders: a frame stays in it until it is acknowledged, written, or dropped by policy. */
#include "net/link_queue.h"

#include "base/err.h"
#include "base/memory.h"

static void grow(link_queue_t *queue) {
    size_t capacity = queue->capacity ? 2 * queue->capacity : 64;
    link_entry_t *entries = mem_alloc(capacity * sizeof *entries);
    for (size_t i = 0; i < queue->count; i++)
        entries[i] = *link_queue_at(queue, i);
    mem_free(queue->entries);
    queue->entries = entries;
    queue->capacity = capacity;
    queue->first = 0;
}

void link_queue_push(link_queue_t *queue, frame_t *frame, uint64_t ticket) {
    if (queue->count == queue->capacity)
        grow(queue);
    uint64_t bytes = link_frame_bytes(frame);
    *link_queue_at(queue, queue->count++) = (link_entry_t){frame_ref(frame), ticket, 0, bytes};
    queue->bytes += bytes;
}

void link_queue_pop(link_queue_t *queue) {
    ASSERT(queue->count);
    link_entry_t *entry = link_queue_at(queue, 0);
    queue->bytes -= entry->bytes;
    frame_unref(entry->frame);
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    queue->count--;
}

void link_queue_remove(link_queue_t *queue, size_t index) {
    ASSERT(index < queue->count);
    link_entry_t gone = *link_queue_at(queue, index);
    for (; index > 0; index--)
        *link_queue_at(queue, index) = *link_queue_at(queue, index - 1);
    *link_queue_at(queue, 0) = gone;
    link_queue_pop(queue);
}

void link_queue_fini(link_queue_t *queue) {
    while (queue->count)
        link_queue_pop(queue);
    mem_free(queue->entries);
    *queue = (link_queue_t){0};
}
