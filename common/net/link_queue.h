#ifndef NET_LINK_QUEUE_H
#define NET_LINK_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "data/frame.h"

/* A sender's log in memory: frames in order, each held by a reference. The caller's storage: zero-initialise. */
typedef struct link_entry {
    frame_t *frame;
    uint64_t ticket;
    uint64_t sequence;                 /* 0: not sent yet */
    uint64_t bytes;                    /* what it counts for in the window */
} link_entry_t;

typedef struct link_queue {
    link_entry_t *entries;             /* a ring */
    size_t first, count, capacity;     /* capacity is a power of two */
    uint64_t bytes;
} link_queue_t;

void link_queue_push(link_queue_t *queue, frame_t *frame, uint64_t ticket);   /* takes its own reference */
void link_queue_pop(link_queue_t *queue);             /* the front */
void link_queue_remove(link_queue_t *queue, size_t index);
void link_queue_fini(link_queue_t *queue);

static inline link_entry_t *link_queue_at(const link_queue_t *queue, size_t index) {
    return &queue->entries[(queue->first + index) & (queue->capacity - 1)];
}

/* A frame's cost in the window: its bytes, and what holding a frame takes besides. */
#define LINK_FRAME_COST 640
static inline uint64_t link_frame_bytes(const frame_t *frame) {
    return frame->body_size + 4 * (uint64_t) frame->events + LINK_FRAME_COST;
}

#endif
