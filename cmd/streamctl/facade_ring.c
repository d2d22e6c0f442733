/* The newest events of one stream in two circular arrays: their bytes, and where each begins. */
#include "facade_ring.h"

#include <string.h>

#include "base/err.h"
#include "base/memory.h"

#define BYTES_FIRST 8192u

typedef struct ring_entry {
    uint64_t serial;
    int64_t time;
    uint32_t start, size;
} ring_entry_t;

struct event_ring {
    uint64_t serial;
    uint32_t limit, bytes_limit;         /* bounds */
    uint32_t capacity, bytes_capacity;   /* allocated so far: a quiet stream stays small */
    uint32_t head, count;                /* entries; head: the oldest */
    uint32_t write, used;                /* bytes: where the next go, how many are kept */
    ring_entry_t *entries;
    uint8_t *bytes;
};

event_ring_t *ring_new(uint32_t count, uint32_t bytes) {
    ASSERT(count > 0 && bytes > 0);
    event_ring_t *ring = mem_zero(sizeof *ring);
    ring->limit = count;
    ring->bytes_limit = bytes;
    return ring;
}

void ring_free(event_ring_t *ring) {
    if (!ring)
        return;
    mem_free(ring->entries);
    mem_free(ring->bytes);
    mem_free(ring);
}

static ring_entry_t *entry_at(const event_ring_t *ring, uint32_t index) {
    return &ring->entries[(ring->head + index) % ring->capacity];
}

static void drop_oldest(event_ring_t *ring) {
    ring->used -= entry_at(ring, 0)->size;
    ring->head = (ring->head + 1) % ring->capacity;
    ring->count--;
    if (!ring->count)
        ring->write = 0;
}

/* Doubles both arrays while they are below their bounds, laying the entries out from the start again. */
static void grow(event_ring_t *ring, uint32_t entries, uint32_t bytes) {
    uint32_t capacity = ring->capacity ? ring->capacity : 16, size = ring->bytes_capacity ? ring->bytes_capacity : BYTES_FIRST;
    while (capacity < entries)
        capacity *= 2;
    while (size < bytes)
        size *= 2;
    capacity = capacity < ring->limit ? capacity : ring->limit;
    size = size < ring->bytes_limit ? size : ring->bytes_limit;
    if (capacity == ring->capacity && size == ring->bytes_capacity)
        return;
    ring_entry_t *moved = mem_alloc(capacity * sizeof *moved);
    uint8_t *memory = mem_alloc(size);
    uint32_t at = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        moved[i] = *entry_at(ring, i);
        memcpy(memory + at, ring->bytes + moved[i].start, moved[i].size);
        moved[i].start = at;
        at += moved[i].size;
    }
    mem_free(ring->entries);
    mem_free(ring->bytes);
    ring->entries = moved;
    ring->bytes = memory;
    ring->capacity = capacity;
    ring->bytes_capacity = size;
    ring->head = 0;
    ring->write = at;
}

void ring_add(event_ring_t *ring, int64_t time, const uint8_t *record, uint32_t size) {
    ring->serial++;
    if (size > ring->bytes_limit / 4)
        return;
    bool entries_full = ring->count == ring->capacity && ring->capacity < ring->limit;
    if (entries_full || ring->used + size > ring->bytes_capacity)
        grow(ring, ring->count + 1, ring->used + size);
    if (ring->count == ring->capacity)
        drop_oldest(ring);
    /* The bytes must be in one piece: at the end, or else from the start. What stands in their way is given up, oldest first:
     * the oldest is always the first that the writer meets. */
    uint32_t start = ring->write;
    if (start + size > ring->bytes_capacity) {
        while (ring->count && entry_at(ring, 0)->start >= start)
            drop_oldest(ring);
        start = 0;
    }
    while (ring->count) {
        const ring_entry_t *oldest = entry_at(ring, 0);
        if (oldest->start >= start + size || oldest->start + oldest->size <= start)
            break;
        drop_oldest(ring);
    }
    memcpy(ring->bytes + start, record, size);
    *entry_at(ring, ring->count++) = (ring_entry_t){ring->serial, time, start, size};
    ring->write = start + size;
    ring->used += size;
}

void ring_skip(event_ring_t *ring, uint64_t events) {
    ring->serial += events;
}

uint64_t ring_serial(const event_ring_t *ring) {
    return ring->serial;
}

uint32_t ring_count(const event_ring_t *ring) {
    return ring->count;
}

uint32_t ring_from(const event_ring_t *ring, uint64_t serial) {
    uint32_t low = 0, high = ring->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (entry_at(ring, middle)->serial < serial)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

ring_event_t ring_at(const event_ring_t *ring, uint32_t index, uint64_t *serial) {
    ASSERT(index < ring->count);
    const ring_entry_t *entry = entry_at(ring, index);
    if (serial)
        *serial = entry->serial;
    return (ring_event_t){entry->time, ring->bytes + entry->start, entry->size};
}
