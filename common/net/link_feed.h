#ifndef NET_LINK_FEED_H
#define NET_LINK_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "net/spool.h"

/* The frames of a spool one after the other, for a sender. The caller's storage. */
typedef struct link_feed {
    spool_t *spool;
    spool_cursor_t *cursor;               /* made when it is needed */
    uint64_t at;                          /* the number that the cursor stands before; 0: it stands elsewhere */
    uint64_t next;                        /* number of the frame to give next */
    uint64_t bound;                       /* frames up to this one may be given */
    uint64_t floor;                       /* what is below and was not given yet cannot be read any more */
    frame_t *direct;                      /* the frame just written, while its owner passes it: need not be read */
    uint64_t direct_number;
} link_feed_t;

void link_feed_init(link_feed_t *feed, spool_t *spool, uint64_t next);
void link_feed_fini(link_feed_t *feed);   /* of a zeroed one: nothing */
/* What link_sender_written was told. Until the next call of any of these `frame`, borrowed, is given for its number. */
void link_feed_written(link_feed_t *feed, frame_t *frame, uint64_t number);
void link_feed_forget(link_feed_t *feed);             /* the borrowed frame */
void link_feed_seek(link_feed_t *feed, uint64_t number);

/* The next frame, the caller's reference. *direct: it is the one that was passed. Numbers that are missing are damaged, or were
 * given up; unless `gaps`, the feed then stays before them. */
typedef enum link_feed_result { LINK_FEED_NONE, LINK_FEED_FRAME, LINK_FEED_GAP } link_feed_result_t;
link_feed_result_t link_feed_take(link_feed_t *feed, bool gaps, frame_t **frame, uint64_t *number, bool *direct);

#endif
