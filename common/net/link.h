#ifndef NET_LINK_H
#define NET_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "data/format.h"
#include "data/frame.h"
#include "net/loop.h"
#include "net/spool.h"

/* Links: ordered, acknowledged paths for frames, one sender to one receiver; stream-link(7) owns endpoints and protocol.
 * The endpoint picks the engine: "-" (text or frames on stdin/stdout), [@|>]ipc:// and [@|>]tcp:// (ZeroMQ PUSH/PULL with
 * acknowledgements), pub+ / sub+ forms of them (best effort), null: (sender only: discards and counts). One engine is one file and one line in link_table.c. */
/* A link may be freed from inside its own failed() and done(), from none of its other callbacks. */
typedef struct link_sender link_sender_t;
typedef struct link_receiver link_receiver_t;

typedef enum link_full { LINK_BLOCK, LINK_DROP_OLDEST, LINK_DROP_NEWEST } link_full_t;

/* Counts since the start. Read at any time; the skeleton publishes them as metrics. */
typedef struct link_stats {
    uint64_t frames, events, bytes;       /* sent once / applied */
    uint64_t resent;                      /* sender: frames sent again */
    uint64_t repeats;                     /* receiver: frames dropped as repeats */
    uint64_t gaps;                        /* receiver: times a frame was asked for again; sub+: frames missed */
    uint64_t malformed;                   /* receiver: frames dropped */
    uint64_t dropped_frames, dropped_events;   /* sender: by policy when full; pub: nobody subscribed is not a drop */
    uint64_t outstanding_frames, outstanding_bytes;   /* sender: not yet acknowledged as durable */
    uint64_t window;                      /* sender: bytes */
    uint32_t peers;                       /* connected now */
} link_stats_t;

typedef struct link_sender_setup {
    const char *name;             /* main stream: text links mark other topics with @stream */
    const char *origin;           /* instance id, stable while the process lives (with --state: across restarts) */
    uint64_t epoch;
    uint64_t window;              /* bytes outstanding at most; 0: LINK_WINDOW_DEFAULT */
    link_full_t full;
    size_t frame_max;             /* 0: FRAME_MAX_DEFAULT */
    const format_settings_t *format;   /* for text; may be NULL */
    /* The owner's durable log, or NULL: then frames are kept in memory until they are durable. With it: origin and epoch are the spool's;
     * tickets are the spool's frame numbers; the window bounds what is under way (sent and not yet received), all else waits in the
     * spool: as much again in memory, the rest is read from there; `full` does not apply. */
    spool_t *spool;
    text_t replaces;              /* with it: a packed array of the origins that the owner had before it was begun anew; borrowed, outlives the link */
    void (*room)(void *argument);                     /* link_sender_room became true */
    void (*durable)(void *argument);                  /* link_sender_durable advanced */
    void (*dropped)(void *argument, uint64_t events, const char *reason);     /* by policy; may be NULL */
    void (*failed)(void *argument, const char *reason);   /* for good: the stage ends with status 1 */
    void (*left)(void *argument, const char *reason);     /* as failed, but only because the reader of standard output has had enough; NULL: failed */
    void *argument;
} link_sender_setup_t;
#define LINK_WINDOW_DEFAULT (2u * 1024 * 1024)

int link_sender_open(link_sender_t **sender, loop_t *loop, const char *endpoint, const link_sender_setup_t *setup, err_t *err);
/* False: full; the caller waits for room() (policy block), or may send all the same (the drop policies). With a spool: a receiver is there and is
 * behind by more than is kept in memory, so that what is written now would have to be read back for it; a caller who can wait does better to. */
bool link_sender_room(const link_sender_t *sender);
/* Takes its own reference. Returns the frame's ticket: tickets count from 1, one per call. */
uint64_t link_sender_send(link_sender_t *sender, frame_t *frame);
uint64_t link_sender_sent(const link_sender_t *sender);       /* the last ticket given, 0 before the first */
/* Every ticket up to this is durable at the receiver (text links: written; null and pub: sent). */
uint64_t link_sender_durable(const link_sender_t *sender);
/* With a spool, instead of link_sender_send. Frames of the spool up to `number` may be sent: what the link has no room for now it fetches itself
 * later. `frame`: the one with this number, to save reading it again; NULL: all up to spool_written. The end of stream is a frame of the spool like any other. */
void link_sender_written(link_sender_t *sender, frame_t *frame, uint64_t number);
/* With a spool. Frames up to this number will never be taken back, whatever fails; receivers are told. FRAME_STABLE_ALL is never given. */
void link_sender_stable(link_sender_t *sender, uint64_t number);
/* With a spool: the stage leaves before its end (TERM), everything else waits in the spool. True when nothing that was written is still
 * on its way to a receiver that is there: all is durable, or nobody is connected. */
bool link_sender_quiet(const link_sender_t *sender);

/* Sends the end of stream `topic`, waits until all is acknowledged, then calls done once. With a spool nothing is sent: the end was written there;
 * done when all that is in the spool is durable. */
void link_sender_finish(link_sender_t *sender, const char *topic, void (*done)(void *argument), void *argument);
/* After done: the owner will not ask for these acknowledgements again, so the receiver may leave. Without a spool it is told before done. */
void link_sender_part(link_sender_t *sender);
/* With a spool, before the loop runs: an earlier run was told that all up to this frame of this epoch, its last, is durable at the receiver, which may
 * have left since. False: the spool ends elsewhere now. */
bool link_sender_taken(link_sender_t *sender, uint64_t epoch, uint64_t number);
const link_stats_t *link_sender_stats(const link_sender_t *sender);
const char *link_sender_endpoint(const link_sender_t *sender);
void link_sender_free(link_sender_t *sender);         /* what is not acknowledged is given up; NULL is legal */

typedef struct link_receiver_setup {
    const char *name;             /* stream name for text without @stream */
    size_t frame_max;
    const format_settings_t *format;
    uint32_t batch_events;        /* text: events per frame at most; 0: 1000 */
    /* A frame, in order, once; borrowed: frame_ref to keep it. frame->end: its origin has ended. */
    void (*frame)(void *argument, link_receiver_t *receiver, frame_t *frame);
    /* Asked before `frame`, may be NULL: false: not now. The frame counts as not received; link_receiver_want asks for it again. */
    bool (*take)(void *argument, link_receiver_t *receiver, const frame_t *frame);
    /* Frames of this origin and epoch up to number will never be taken back (FRAME_STABLE_ALL: none ever will). Called when it has advanced; also while
     * paused. May be NULL. */
    void (*stable)(void *argument, link_receiver_t *receiver, const char *origin, uint64_t epoch, uint64_t number);
    /* The sender has started anew (power cut) and never had, as far as it knows, frames that we have from it. The receiver takes nothing more
     * from it: the owner goes back to its own durable state, which holds nothing that was not stable. NULL: logged, and what the sender sends now may repeat. */
    void (*taken_back)(void *argument, link_receiver_t *receiver, const char *origin);
    /* A sender whose end was taken, maybe in an earlier life of ours, has said goodbye: there is nothing more. May be NULL. */
    void (*over)(void *argument, link_receiver_t *receiver);
    /* The sender's log is half full: what can be made durable should be. May be NULL. */
    void (*hurry)(void *argument, link_receiver_t *receiver);
    void (*bad)(void *argument, text_t record, uint64_t number, const char *reason);    /* text that can't be read */
    bool rare;                    /* senders come now and then: nobody is missed */
    void (*failed)(void *argument, const char *reason);   /* for good: refused as second receiver, ... */
    void *argument;
} link_receiver_setup_t;

int link_receiver_open(link_receiver_t **receiver, loop_t *loop, const char *endpoint, const link_receiver_setup_t *setup, err_t *err);
/* Everything of this origin and epoch up to the frame's sequence is durable: the sender may forget it. Text links ignore it. */
void link_receiver_durable(link_receiver_t *receiver, const frame_t *frame);
/* Before the loop runs: frames of this origin up to (epoch, sequence) are ours and durable; it goes on behind. ended: its end was among them. */
void link_receiver_restore(link_receiver_t *receiver, const char *origin, uint64_t epoch, uint64_t sequence, bool ended);
void link_receiver_want(link_receiver_t *receiver);   /* frames that take() has refused: the senders are asked for them again */
void link_receiver_pause(link_receiver_t *receiver);  /* takes no more frames; the sender's window fills */
void link_receiver_resume(link_receiver_t *receiver);
/* True when every origin seen has sent its end, and there was at least one (text: end of input). */
bool link_receiver_ended(const link_receiver_t *receiver);
/* This origin went without its end, and another has taken its place: its end will never come. */
bool link_receiver_replaced(const link_receiver_t *receiver, const char *origin);
/* As link_receiver_ended, and each was heard of since this receiver was opened. */
bool link_receiver_over(const link_receiver_t *receiver);
/* Before leaving: repeats its acknowledgements until every sender that has ended knows that all of it is durable, and has left
 * (or its connection has been gone for some seconds); then calls parted once. No more frames are taken. */
void link_receiver_part(link_receiver_t *receiver, void (*parted)(void *argument), void *argument);
/* While it parts, or before: somebody waits for that. A sender that may have to be started again first is not waited for. */
void link_receiver_part_soon(link_receiver_t *receiver);
const link_stats_t *link_receiver_stats(const link_receiver_t *receiver);
const char *link_receiver_endpoint(const link_receiver_t *receiver);
void link_receiver_free(link_receiver_t *receiver);   /* sends a last acknowledgement first; NULL is legal */

/* Checks an endpoint without opening it. */
int link_check(const char *endpoint, bool sender, err_t *err);

/* The process's one ZeroMQ context, made on first use; link_shutdown ends it after all links are closed. */
void *link_context(void);
void link_shutdown(void);

#endif
