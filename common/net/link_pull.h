#ifndef NET_LINK_PULL_H
#define NET_LINK_PULL_H

#include "base/map.h"
#include "net/link_ack.h"
#include "net/link_presence.h"
#include "net/link_zmq.h"

/* What the receiver behind ipc:// and tcp:// is made of: link_pull.c reads the socket, link_pull_stream.c keeps each sender's stream,
 * link_pull_hold.c the frames that cannot be delivered yet, link_pull_say.c the acknowledgements. */

#define PULL_PAST_EPOCHS 4
#define PULL_FRAMES_PER_TURN 32

/* One sender's stream. held frames follow on `received` without a gap. */
typedef struct pull_stream {
    char origin[FRAME_ORIGIN_MAX + 1];
    uint64_t epoch;
    struct {
        uint64_t epoch;
        bool same;                        /* the present epoch continues it: what we had of it counts */
    } past[PULL_PAST_EPOCHS];
    uint64_t received, delivered, durable;
    uint64_t stable;                      /* what its sender said last; in this epoch */
    uint64_t held_last;                   /* number of the last frame that is held; meaningless while none is */
    uint32_t held;                        /* frames that are held */
    bool refused;                         /* take() has refused the next one: link_receiver_want */
    bool spilled;                         /* more came than can be held: it is to be asked for */
    bool taken_back;                      /* nothing more is taken from it */
    uint64_t attempt;
    uint64_t again_for, again_attempt;    /* what was complained about, */
    int64_t again_time;                   /* and when */
    bool ended, left;                     /* left: the sender knows that its end is durable */
    bool replaced;                        /* its sender went without an end, and another has taken its place */
    bool gone;                            /* that other one says so: it will not be heard of again, what is on its way yet is its last */
    bool silent;                          /* restored, and its sender has not been heard of since */
    bool due, again;                      /* due: say what we have; again: and that a gap was seen */
    unsigned reports;                     /* since it ended */
    uint64_t used;                        /* serial of its last frame: for making room */
} pull_stream_t;

typedef struct pull_held {
    frame_t *frame;
    pull_stream_t *stream;
    bool good;
} pull_held_t;

typedef struct pull_link {
    link_receiver_t base;
    bool plain, local;                    /* local: ipc */
    bool connects;                        /* to the one sender that has bound the address */
    uint64_t id;
    zlink_lock_t bind_lock, receiver_lock;
    void *data, *acks;                    /* PULL, XPUB */
    zlink_monitor_t data_monitor, ack_monitor;            /* where they connect */
    link_presence_t presence;             /* of senders; not where they come now and then only */
    loop_watch_t *data_watch, *ack_watch, *tick;
    map_t *streams;
    uint64_t serial;
    bool adopted;                         /* a frame for us has come */
    int64_t hurried;                      /* when the owner was last told to hurry */
    struct {
        pull_held_t *frames;              /* in the order of arrival */
        size_t count;
        uint64_t bytes;
        bool refused, spilled;            /* a stream is */
    } hold;
    bool reading;
    bool parting;                         /* link_receiver_part was called */
    int64_t parting_since, alone_since;   /* while parting: since when there is no connection, monotonic ns; 0: there is one */
    bool active;                          /* something has come since the last tick */
    bool any_due, hello_due;
    loop_watch_t *say_timer;
    int64_t said_time;                    /* when we last acknowledged, */
    uint64_t said_bytes;                  /* and how many bytes had come by then */
    int64_t tick_time;
} pull_link_t;

/* ---- link_pull_stream.c ---- */

/* The stream that a frame belongs to, made or carried over into a new epoch as it must be; NULL: the frame is not to be taken. */
pull_stream_t *pull_stream_of(pull_link_t *pull, const frame_t *frame);
void pull_stream_heard(pull_link_t *pull, pull_stream_t *stream);    /* something of it has come */
void pull_stream_gone(pull_link_t *pull, pull_stream_t *stream);     /* what it sent can't be taken back any more, and nobody waits to hear of its end */
/* Overwrites what is known of this origin. */
void pull_stream_restore(pull_link_t *pull, const char *origin, uint64_t epoch, uint64_t sequence, bool ended);
/* True when this epoch is the stream's present one, or one whose frames count for it. */
bool pull_stream_counts(const pull_stream_t *stream, uint64_t epoch);
void pull_streams_free(pull_link_t *pull);
/* What a frame of the stream tells of its sender's log. */
void pull_stream_news(pull_link_t *pull, pull_stream_t *stream, const frame_t *frame);

/* ---- link_pull_hold.c ---- */

/* Frames that came while the receiver was paused, or that take() refused, wait here: not received yet, so that the sender keeps them. */
bool pull_hold_full(const pull_link_t *pull);
void pull_hold(pull_link_t *pull, pull_stream_t *stream, frame_t *frame, bool good);
void pull_hold_release(pull_link_t *pull);            /* delivers what may be delivered now; soon, from the loop */
void pull_hold_want(pull_link_t *pull);               /* and what was refused */
void pull_hold_forget(pull_link_t *pull, pull_stream_t *stream);      /* what is held of it */
void pull_hold_free(pull_link_t *pull);

/* ---- link_pull_say.c ---- */

void pull_due(pull_link_t *pull, pull_stream_t *stream);      /* acknowledge soon; NULL: a hello */
/* Says that the next frame is missing, not too often. attempt: in which this was seen. */
void pull_complain(pull_link_t *pull, pull_stream_t *stream, uint64_t attempt);
void pull_say_start(pull_link_t *pull);
void pull_say_subscriptions(void *argument);          /* callback of the XPUB socket */
void pull_say_part(pull_link_t *pull);
void pull_check_parted(pull_link_t *pull);            /* the receiver may be gone afterwards */
bool pull_nobody_waits(const pull_link_t *pull);      /* all senders have left: nothing is worth waiting for at the close */
void pull_say_stop(pull_link_t *pull);

/* ---- link_pull.c ---- */

void pull_read_on(pull_link_t *pull);                 /* or not: by what it may take at present */
/* Delivers the next frame of its stream, unless take() refuses it. good: its body is, too; a bad one is passed over, else its sender
 * would repeat it for ever. */
bool pull_deliver(pull_link_t *pull, pull_stream_t *stream, frame_t *frame, bool good);

#endif
