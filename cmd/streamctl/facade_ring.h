#ifndef STREAMCTL_FACADE_RING_H
#define STREAMCTL_FACADE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The newest events of one stream, copied: bounded in count and in bytes, the oldest give way. Serial numbers count every
 * event that was ever added, from 1. */
typedef struct event_ring event_ring_t;

typedef struct ring_event {
    int64_t time;                    /* ns since 1970 */
    const uint8_t *record;           /* packed map; borrowed until the next ring_add */
    uint32_t size;
} ring_event_t;

event_ring_t *ring_new(uint32_t count, uint32_t bytes);
void ring_free(event_ring_t *ring);
/* Counts the event; one that is larger than a quarter of the ring is counted but not kept. */
void ring_add(event_ring_t *ring, int64_t time, const uint8_t *record, uint32_t size);
/* Counts events that were not looked at. */
void ring_skip(event_ring_t *ring, uint64_t events);
uint64_t ring_serial(const event_ring_t *ring);                /* of the newest event; 0: none yet */
/* Index of the oldest event that is kept and has a serial of at least this; ring_count when there is none. */
uint32_t ring_from(const event_ring_t *ring, uint64_t serial);
uint32_t ring_count(const event_ring_t *ring);
ring_event_t ring_at(const event_ring_t *ring, uint32_t index, uint64_t *serial);    /* 0 is the oldest */

#endif
