/* The buffer between a descriptor and a decoder: it is reused for the whole input, and only a partial record is ever moved. */
#include "feed.h"

#include "base/err.h"

#define PADDING 64    /* decoders may look so far past the end */

void feed_fini(feed_t *feed) {
    buf_fini(&feed->buffer);
    feed->at = 0;
}

void *feed_space(feed_t *feed) {
    if (feed->at) {
        buf_consume(&feed->buffer, feed->at);
        feed->at = 0;
    }
    return buf_reserve(&feed->buffer, FEED_CHUNK + PADDING);
}

void feed_added(feed_t *feed, size_t size) {
    feed->buffer.size += size;
}

void feed_used(feed_t *feed, size_t size) {
    ASSERT(size <= feed_size(feed));
    feed->at += size;
    if (feed->at == feed->buffer.size)
        feed_clear(feed);
}

void feed_clear(feed_t *feed) {
    buf_clear(&feed->buffer);
    feed->at = 0;
}
