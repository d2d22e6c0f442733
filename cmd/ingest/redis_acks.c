/* Entries of consumer groups on their way from "taken" over "durable" and "told the server" to "confirmed", in order. */
#include "redis_acks.h"

#include "base/memory.h"

#define BATCH_MAX 500

void redis_acks_fini(redis_acks_t *acks) {
    mem_free(acks->ring);
}

redis_ack_t *redis_acks_at(const redis_acks_t *acks, size_t number) {
    return &acks->ring[(acks->first + number) % acks->capacity];
}

void redis_acks_add(redis_acks_t *acks, uint32_t stream, redis_id_t id, bool claimed, uint64_t step) {
    if (acks->count == acks->capacity) {
        size_t capacity = acks->capacity ? 2 * acks->capacity : 256;
        redis_ack_t *ring = mem_alloc(capacity * sizeof *ring);
        for (size_t i = 0; i < acks->count; i++)
            ring[i] = *redis_acks_at(acks, i);
        mem_free(acks->ring);
        acks->ring = ring;
        acks->capacity = capacity;
        acks->first = 0;
    }
    acks->count++;
    acks->claimed += claimed;
    *redis_acks_at(acks, acks->count - 1) = (redis_ack_t){.step = step, .id = id, .stream = stream, .claimed = claimed};
}

bool redis_acks_batch(redis_acks_t *acks, size_t *from, size_t *count) {
    size_t n = 0;
    uint32_t stream = 0;
    while (acks->sent + n < acks->count && n < BATCH_MAX) {
        const redis_ack_t *ack = redis_acks_at(acks, acks->sent + n);
        if (ack->step > acks->durable || (n && ack->stream != stream))
            break;
        stream = ack->stream;
        n++;
    }
    if (!n)
        return false;
    *from = acks->sent;
    *count = n;
    acks->sent += n;
    redis_acks_at(acks, acks->sent - 1)->last = true;
    return true;
}

void redis_acks_confirmed(redis_acks_t *acks) {
    bool last = false;
    while (acks->sent && !last) {
        const redis_ack_t *ack = redis_acks_at(acks, 0);
        last = ack->last;
        acks->claimed -= ack->claimed;
        acks->first = (acks->first + 1) % acks->capacity;
        acks->count--;
        acks->sent--;
    }
}

void redis_acks_unsent(redis_acks_t *acks) {
    for (size_t i = 0; i < acks->sent; i++)
        redis_acks_at(acks, i)->last = false;
    acks->sent = 0;
}

bool redis_acks_has_claimed(const redis_acks_t *acks, uint32_t stream, redis_id_t id) {
    for (size_t i = 0; acks->claimed && i < acks->count; i++) {
        const redis_ack_t *ack = redis_acks_at(acks, i);
        if (ack->claimed && ack->stream == stream && redis_id_compare(ack->id, id) == 0)
            return true;
    }
    return false;
}
