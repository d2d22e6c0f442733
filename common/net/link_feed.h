#ifndef NET_LINK_FEED_H
#define NET_LINK_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "net/link_queue.h"
#include "net/spool.h"

/* The frames of a spool one after the other, for a sender. The caller's storage. */
typedef struct link_feed {
    spool_t *spool;
    uint64_t keep;                        /* bytes of frames that are kept in memory for their turn */
    link_queue_t kept;                    /* frames without a gap from `next` on, as they were written: need not be read back */
    spool_cursor_t *cursor;               /* made when it is needed */
    uint64_t at;                          /* the number that the cursor stands before; 0: it stands elsewhere */
    uint64_t next;                        /* number of the frame to give next */
    uint64_t bound;                       /* frames up to this one may be given */
    uint64_t floor;                       /* what is below and was not given yet cannot be read any more */
} link_feed_t;

/* keep: frames of so many bytes are kept in memory until they are taken; at least the last one is. */
void link_feed_init(link_feed_t *feed, spool_t *spool, uint64_t next, uint64_t keep);
void link_feed_fini(link_feed_t *feed);   /* of a zeroed one: nothing */
/* What link_sender_written was told. */
void link_feed_written(link_feed_t *feed, frame_t *frame, uint64_t number);
void link_feed_seek(link_feed_t *feed, uint64_t number);
/* More waits than is kept, so what is written now would have to be read back. Once `behind` it is so until half of what is kept is free. */
bool link_feed_behind(const link_feed_t *feed, bool behind);

/* The next frame, the caller's reference. *direct: it is the one that was passed. Numbers that are missing are damaged, or were
 * given up; unless `gaps`, the feed then stays before them. */
typedef enum link_feed_result { LINK_FEED_NONE, LINK_FEED_FRAME, LINK_FEED_GAP } link_feed_result_t;
link_feed_result_t link_feed_take(link_feed_t *feed, bool gaps, frame_t **frame, uint64_t *number, bool *direct);

#endif
