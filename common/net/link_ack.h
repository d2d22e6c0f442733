#ifndef NET_LINK_ACK_H
#define NET_LINK_ACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"
#include "data/frame.h"

/* What a receiver says to its senders: stream-link(7) draws it. */
typedef struct link_ack {
    uint64_t receiver;                    /* r: this receiver, for as long as it lives */
    text_t origin;                        /* o; empty: a hello, for every sender; borrowed */
    uint64_t epoch;                       /* e */
    uint64_t received, durable;           /* every frame up to this number */
    uint64_t attempt;                     /* g: the greatest one seen in a frame of this stream */
    bool again;                           /* a gap was seen in that attempt: send from received + 1 */
    bool paused;                          /* it takes no frames at present */
    bool idle;                            /* there was nothing to take for a while */
} link_ack_t;

void link_ack_put(buf_t *out, const link_ack_t *ack);
int link_ack_read(link_ack_t *ack, text_t payload, err_t *err);

#endif
