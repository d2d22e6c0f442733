#ifndef INGEST_FEED_H
#define INGEST_FEED_H

#include "base/buffer.h"

/* Bytes on their way from a descriptor to a decoder: big reads go behind what the decoder has not used yet (a partial record, or
 * all of it while paused). The caller's storage; zero-initialise; feed_fini. */
#define FEED_CHUNK (128u * 1024)

typedef struct feed {
    buf_t buffer;
    size_t at;                     /* of the first unused byte */
} feed_t;

void feed_fini(feed_t *feed);

static inline size_t feed_size(const feed_t *feed) {
    return feed->buffer.size - feed->at;
}

static inline const char *feed_data(const feed_t *feed) {
    return (const char *) feed->buffer.data + feed->at;
}

/* Where the next FEED_CHUNK bytes go; feed_added tells how many came. */
void *feed_space(feed_t *feed);
void feed_added(feed_t *feed, size_t size);
void feed_used(feed_t *feed, size_t size);
void feed_clear(feed_t *feed);

#endif
