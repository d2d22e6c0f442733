#ifndef INGEST_NATS_STREAM_H
#define INGEST_NATS_STREAM_H

#include <nats/nats.h>
#include <stdbool.h>

#include "base/err.h"

/* The stream and the consumer that messages come from: found, checked, made or made anew. Calls block. */
typedef struct nats_stream_setup {
    const char *stream;            /* NULL: no JetStream */
    const char *domain;            /* or NULL */
    const char *consumer;          /* its name */
    bool own;                      /* the consumer is ours alone: it may be removed and made again at another place */
    bool passing;                  /* it goes with us: to be removed at the end, and the server forgets it when we do not come to that */
    bool trial;                    /* nothing is acknowledged */
    const char *subject;           /* only these; NULL: all */
    int start;                     /* jsDeliverPolicy, for a consumer that is made at first */
    uint64_t start_sequence;
    int64_t start_time;            /* ns since 1970 */
    int64_t ack_wait;              /* ns */
    int64_t unacknowledged;        /* messages under way at most */
    int64_t timeout;               /* ns, for the server's answers */
} nats_stream_setup_t;

/* What was found. */
typedef struct nats_stream {
    int64_t created;               /* when the stream was made, ns since 1970 */
    uint64_t floor;                /* messages up to there are not wanted, or will not come */
    err_t note;                    /* what the user should know, or empty */
    bool moved;                    /* the floor was moved back: the stream was made anew or has lost its end */
    bool alone;                    /* every message of this consumer comes to us */
    bool ack_all;                  /* an acknowledgement is one for all before it as well */
    uint64_t delivered, consumer_delivered;    /* the last message it gave, by both sequences */
    int64_t ack_wait;
    int64_t batch_max, bytes_max, expires_max; /* what may be asked for at once; 0: no limit */
} nats_stream_t;

/* floor, tail, created: as nats_place_t. */
int nats_stream_open(nats_stream_t *found, jsCtx *js, const nats_stream_setup_t *setup, uint64_t floor, uint64_t tail, int64_t created, err_t *err);
/* Up to which message of the stream all are acknowledged. */
int nats_stream_acknowledged(jsCtx *js, const nats_stream_setup_t *setup, uint64_t *floor, err_t *err);
void nats_stream_close(jsCtx *js, const nats_stream_setup_t *setup);  /* removes a consumer that was to pass */

/* Why a call of libnats failed, with what can be done about it. */
int nats_failure(err_t *err, natsStatus status, const char *what);

#endif
