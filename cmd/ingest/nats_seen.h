#ifndef INGEST_NATS_SEEN_H
#define INGEST_NATS_SEEN_H

#include <stdbool.h>

#include "base/err.h"
#include "base/text.h"

/* Which messages of a stream were taken, by their sequence numbers: all up to a floor, and runs above it, for a server may give messages again
 * later than newer ones. The caller's storage; zero-initialise; seen_fini. */
typedef struct seen_run {
    uint64_t first, last;
} seen_run_t;

typedef struct seen {
    uint64_t floor;
    seen_run_t *runs;              /* ascending, with gaps between them and above the floor */
    size_t count, capacity;
} seen_t;

void seen_fini(seen_t *seen);
bool seen_has(const seen_t *seen, uint64_t sequence);
/* All of first..last were taken, or will never come. */
void seen_add(seen_t *seen, uint64_t first, uint64_t last);
/* All up to this one were. */
void seen_raise(seen_t *seen, uint64_t floor);
void seen_reset(seen_t *seen, uint64_t floor);

/* As a stored position has them: for each run the gap before it and its length, as LEB128 numbers, in one binary. */
void seen_pack_runs(const seen_t *seen, buf_t *out);
int seen_restore(seen_t *seen, uint64_t floor, text_t runs, err_t *err);

/* What JetStream's acknowledgement subject says of the message that it came with (NATS architecture decision record 15):
 * $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMER-SEQUENCE.TIME.PENDING, or with DOMAIN.ACCOUNT before the stream and more behind. */
typedef struct nats_meta {
    uint64_t delivered;            /* times, from 1 */
    uint64_t sequence;             /* in the stream */
    uint64_t consumer_sequence;
    int64_t time;                  /* ns, when the stream took it */
    uint64_t pending;              /* messages behind it */
} nats_meta_t;

bool nats_meta_read(nats_meta_t *meta, const char *reply);

#endif
