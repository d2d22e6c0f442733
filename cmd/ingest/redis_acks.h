#ifndef INGEST_REDIS_ACKS_H
#define INGEST_REDIS_ACKS_H

#include "redis_reply.h"

/* What was taken of a consumer group and the server has not confirmed to be acknowledged (XACK): each entry taken is a step, counted over all runs, and
 * `durable` says up to which they are safe. Zero-initialise; redis_acks_fini. */
typedef struct redis_ack {
    uint64_t step;
    redis_id_t id;
    uint32_t stream;               /* number of its stream */
    bool claimed;                  /* it had been another consumer's */
    bool last;                     /* of what one command acknowledges */
} redis_ack_t;

typedef struct redis_acks {
    uint64_t step, durable;
    redis_ack_t *ring;
    size_t first, count, capacity;
    size_t sent;                   /* of those, from the first on */
    size_t claimed;                /* how many of them are */
} redis_acks_t;

void redis_acks_fini(redis_acks_t *acks);
void redis_acks_add(redis_acks_t *acks, uint32_t stream, redis_id_t id, bool claimed, uint64_t step);   /* step 0: it is safe already */
/* The next entries that may be acknowledged with one command: all of one stream, `*count` of them, the first at *from (redis_acks_at). False: none. */
bool redis_acks_batch(redis_acks_t *acks, size_t *from, size_t *count);
redis_ack_t *redis_acks_at(const redis_acks_t *acks, size_t number);      /* counted from the oldest */
void redis_acks_confirmed(redis_acks_t *acks);        /* the oldest command that was sent */
void redis_acks_unsent(redis_acks_t *acks);           /* the connection is lost: what was not confirmed will be sent again */
bool redis_acks_has_claimed(const redis_acks_t *acks, uint32_t stream, redis_id_t id);

#endif
