/* A spool as senders see it: frames by number. A sender that keeps up gets each frame from the hand that wrote it, or from the few that are
 * kept in memory behind it; one that is further behind reads them back with a cursor of its own. */
#include "net/link_feed.h"

#include "base/log.h"

void link_feed_init(link_feed_t *feed, spool_t *spool, uint64_t next, uint64_t keep) {
    *feed = (link_feed_t){.spool = spool, .next = next, .bound = spool_written(spool), .keep = keep};
}

void link_feed_fini(link_feed_t *feed) {
    spool_cursor_free(feed->cursor);
    link_queue_fini(&feed->kept);
    *feed = (link_feed_t){0};
}

void link_feed_written(link_feed_t *feed, frame_t *frame, uint64_t number) {
    uint64_t written = spool_written(feed->spool), bound = frame && number < written ? number : written;
    if (bound > feed->bound)
        feed->bound = bound;
    uint64_t expected = feed->kept.count ? link_queue_at(&feed->kept, feed->kept.count - 1)->ticket + 1 : feed->next;
    if (frame && number == expected && (!feed->kept.count || feed->kept.bytes < feed->keep))
        link_queue_push(&feed->kept, frame, number);
}

static uint64_t kept_first(const link_feed_t *feed) {
    return link_queue_at(&feed->kept, 0)->ticket;
}

void link_feed_seek(link_feed_t *feed, uint64_t number) {
    feed->next = number ? number : 1;
    while (feed->kept.count && kept_first(feed) != feed->next)
        link_queue_pop(&feed->kept);      /* those before it; all, when it goes back */
}

bool link_feed_behind(const link_feed_t *feed, bool behind) {
    return feed->next <= feed->bound && (!feed->kept.count || feed->kept.bytes >= (behind ? feed->keep / 2 : feed->keep));
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

/* The first of the kept that the spool has not given up. */
static bool take_kept(link_feed_t *feed, spool_record_t *record) {
    while (feed->kept.count && kept_first(feed) < spool_lowest(feed->spool))
        link_queue_pop(&feed->kept);
    if (!feed->kept.count)
        return false;
    record->number = kept_first(feed);
    record->frame = frame_ref(link_queue_at(&feed->kept, 0)->frame);
    return true;
}

link_feed_result_t link_feed_take(link_feed_t *feed, bool gaps, frame_t **frame, uint64_t *number, bool *direct) {
    if (feed->next > feed->bound)
        return LINK_FEED_NONE;
    spool_record_t record = {.number = feed->next};
    *direct = take_kept(feed, &record);
    if (!*direct && !read_next(feed, &record))
        return LINK_FEED_NONE;
    if (record.number > feed->bound || (record.number > feed->next && !gaps)) {
        link_feed_result_t result = record.number > feed->bound ? LINK_FEED_NONE : LINK_FEED_GAP;
        frame_unref(record.frame);
        feed->at = 0;                     /* it was read in vain */
        return result;
    }
    if (record.number > feed->next)
        feed->floor = record.number;
    if (*direct)
        link_queue_pop(&feed->kept);
    else
        feed->at = record.number + 1;
    feed->next = record.number + 1;
    *frame = record.frame;
    *number = record.number;
    return LINK_FEED_FRAME;
}
