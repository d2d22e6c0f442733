#ifndef STREAMCTL_WS_QUEUE_H
#define STREAMCTL_WS_QUEUE_H

#include "ws.h"

/* What waits for one client: bounded in messages and bytes. When it is full the newest message of a stream takes the place of
 * the last one that waits, and what was left out is counted. Zero-initialise; ws_queue_fini. */
#define WS_QUEUE_MESSAGES 64u
#define WS_QUEUE_BYTES (256u * 1024)

typedef struct ws_queue {
    ws_message_t **waiting;          /* a circular array of WS_QUEUE_MESSAGES, made with the first message */
    unsigned head, count;
    size_t bytes;
    uint64_t lost;                   /* messages given up */
    uint64_t alerts_lost;            /* of these, alerts; reset by who tells the client */
} ws_queue_t;

/* Takes its own reference. False: not even now is there room (only replies are waiting). */
bool ws_queue_put(ws_queue_t *queue, ws_message_t *message);
ws_message_t *ws_queue_take(ws_queue_t *queue);       /* the reference is the caller's; NULL when empty */
void ws_queue_fini(ws_queue_t *queue);

#endif
