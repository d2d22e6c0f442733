/* A spool as senders see it: frames by number. A sender that keeps up gets each frame from the hand that wrote it; one that is behind reads
 * it back with a cursor of its own. */
#include "net/link_feed.h"

#include "base/log.h"

void link_feed_init(link_feed_t *feed, spool_t *spool, uint64_t next) {
    *feed = (link_feed_t){.spool = spool, .next = next, .bound = spool_written(spool)};
}

void link_feed_fini(link_feed_t *feed) {
    spool_cursor_free(feed->cursor);
    *feed = (link_feed_t){0};
}

void link_feed_written(link_feed_t *feed, frame_t *frame, uint64_t number) {
    uint64_t written = spool_written(feed->spool), bound = frame && number < written ? number : written;
    if (bound > feed->bound)
        feed->bound = bound;
    feed->direct = frame;
    feed->direct_number = number;
}

void link_feed_forget(link_feed_t *feed) {
    feed->direct = NULL;
}

void link_feed_seek(link_feed_t *feed, uint64_t number) {
    feed->next = number ? number : 1;
}

/* Reads the first frame that is not below `next`. False: there is none yet. */
static bool read_next(link_feed_t *feed, spool_record_t *record) {
    if (!feed->cursor)
        feed->cursor = spool_cursor_new(feed->spool);
    if (feed->at != feed->next)
        spool_seek_number(feed->cursor, feed->next);
    feed->at = feed->next;
    for (;;) {
        err_t err;
        int got = spool_next(feed->cursor, record, &err);
        if (got >= 0)
            return got == 1;
        static log_limit_t limit;
        if (log_limited(&limit))
            log_error("frames of the durable log cannot be read, and are left out: %s", err.text);
    }
}

link_feed_result_t link_feed_take(link_feed_t *feed, bool gaps, frame_t **frame, uint64_t *number, bool *direct) {
    if (feed->next > feed->bound)
        return LINK_FEED_NONE;
    *direct = feed->direct && feed->direct_number == feed->next;
    spool_record_t record = {.number = feed->next};
    if (*direct)
        record.frame = frame_ref(feed->direct);
    else if (!read_next(feed, &record))
        return LINK_FEED_NONE;
    if (record.number > feed->bound || (record.number > feed->next && !gaps)) {
        link_feed_result_t result = record.number > feed->bound ? LINK_FEED_NONE : LINK_FEED_GAP;
        frame_unref(record.frame);
        feed->at = 0;                     /* it was read in vain */
        return result;
    }
    if (record.number > feed->next)
        feed->floor = record.number;
    if (!*direct)
        feed->at = record.number + 1;
    feed->next = record.number + 1;
    *frame = record.frame;
    *number = record.number;
    return LINK_FEED_FRAME;
}
