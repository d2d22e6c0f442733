#ifndef STREAMCTL_FACADE_LIVE_H
#define STREAMCTL_FACADE_LIVE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "facade_ring.h"

struct facade;

/* Live events: a subscription to everything that broadcast publishes, the newest events of each stream, and their coalesced
 * way to the WebSocket clients. */
typedef struct live live_t;

typedef struct live_stream {
    char name[129];
    unsigned index;                  /* from 0, for the clients' bit sets */
    event_ring_t *ring;
    uint64_t epoch, sequence;        /* of the last frame, to count gaps */
    uint64_t sent;                   /* serial up to which clients were told */
    unsigned subscribers;            /* kept by the hub */
    int64_t arrived;                 /* wall clock of the newest frame, ns; 0: never */
    double rate;                     /* events a second, by live_measure */
    uint64_t measured;
    bool ended;
} live_stream_t;

#define LIVE_STREAMS_MAX 1024

/* PUB drops what nobody has subscribed to. Whether what is published from now on arrives here; also true when there is nothing to wait for:
 * no broadcast runs, or it has not answered in time. hub_live_stands is called when this becomes true. */
bool live_stands(const live_t *live);                              /* NULL is legal, and true */
void live_follow(live_t *live, const json_t *status);              /* the supervisor's, whenever it changes; NULL live is legal */

live_t *live_new(struct facade *facade, err_t *err);
void live_free(live_t *live);
unsigned live_count(const live_t *live);
live_stream_t *live_at(const live_t *live, unsigned index);
live_stream_t *live_find(const live_t *live, const char *name);    /* NULL when nothing has come of that name */
void live_measure(live_t *live, double seconds);                   /* rates, over the time since the last call */

/* {"ts": ..., "data": {...}} of an event, as text. */
void live_put_event(buf_t *out, const ring_event_t *event);

#endif
