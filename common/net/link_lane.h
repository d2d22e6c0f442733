#ifndef NET_LINK_LANE_H
#define NET_LINK_LANE_H

#include "net/link_ack.h"
#include "net/link_feed.h"
#include "net/link_presence.h"
#include "net/link_queue.h"
#include "net/link_zmq.h"

/* What of a frame of the spool belongs to a lane: the caller's reference. */
typedef frame_t *link_part_fn(void *argument, size_t index, frame_t *frame, uint64_t number);

/* One partition of an acknowledged sender: its sockets, its log of frames, its go-back-N state. With a spool the queue holds just what
 * is under way, numbers without a gap but for what is damaged; everything else is fetched when its turn comes. */
typedef struct link_lane {
    link_sender_t *sender;                /* whose stats and setup are used */
    bool plain;                           /* ?ack=none: a frame is done with when ZeroMQ has it */
    bool bind;
    zlink_lock_t lock;
    void *data, *acks;                    /* PUSH, SUB */
    zlink_monitor_t monitor;              /* of data */
    zlink_monitor_t ack_monitor;          /* where they connect */
    link_presence_t presence;             /* of a receiver that speaks */
    loop_watch_t *data_watch, *ack_watch;
    bool blocked;                         /* ZeroMQ takes no more now: POLLOUT is awaited */

    link_queue_t queue;
    size_t cursor;                        /* index of the next to send */
    uint64_t sent;                        /* number of the last frame that was sent for the first time; with a spool, or was known at the receiver */
    uint64_t received;                    /* by the present receiver */
    uint64_t receiver;                    /* 0: none yet */
    uint64_t attempt;                     /* grows with each rewind */
    int64_t heard;                        /* when the present receiver last spoke, monotonic ns */
    int64_t lost;                         /* when a connection last ended */
    uint64_t suspect;                     /* another receiver that wants in */
    int64_t suspect_since;
    uint64_t idle_received;               /* received, when the receiver last said that it is idle */
    unsigned idle_reports, idle_needed;   /* such reports without progress, and how many of them make a rewind */
    uint64_t broken_at;                   /* received, when the connection last broke with more under way, */
    unsigned broken;                      /* and how often in a row */
    void (*progress)(void *argument);     /* the queue became shorter, more is durable */
    void *argument;
    /* with a spool */
    link_feed_t feed;
    size_t index;
    uint64_t window;                      /* bytes under way */
    uint64_t durable;
    uint64_t told;                        /* the stable number that was last sent */
    bool parted;                          /* what is acknowledged will not be asked for again */
    bool warned;                          /* of a receiver that has what we never had */
    bool told_hurry, news;                /* news: they are sent without waiting for a frame */
    bool introduce;                       /* and before all frames: whom this sender replaces */
    link_part_fn *part;                   /* NULL: frames go whole */
} link_lane_t;

/* The caller's storage; must not move. */
int link_lane_open(link_lane_t *lane, link_sender_t *sender, const link_endpoint_t *endpoint, size_t index, link_part_fn *part,
                   void (*progress)(void *argument), void *argument, err_t *err);
void link_lane_send(link_lane_t *lane, frame_t *frame, uint64_t ticket);
/* With a spool. frame: the lane's part of the frame with this number, or NULL (link_sender_written). */
void link_lane_written(link_lane_t *lane, frame_t *frame, uint64_t number);
void link_lane_news(link_lane_t *lane);               /* tells what is stable, if it was not told with a frame */
/* With a spool: a receiver is there and takes less than is written, which must be read back for it (link_feed_behind). */
bool link_lane_behind(const link_lane_t *lane, bool behind);
/* Nothing is on its way to a receiver that is there. */
bool link_lane_quiet(const link_lane_t *lane);
/* Drops the oldest frame that was not sent yet and returns its events; -1 when all were. */
int64_t link_lane_drop_oldest(link_lane_t *lane);
/* Tells the receiver that its acknowledgement of the end has come for good, so that it need not repeat it any more. */
void link_lane_part(link_lane_t *lane);
/* With a spool, at the beginning: all that is in it is durable at the receiver. */
void link_lane_taken(link_lane_t *lane);
void link_lane_close(link_lane_t *lane);

#endif
