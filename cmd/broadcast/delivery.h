#ifndef BROADCAST_DELIVERY_H
#define BROADCAST_DELIVERY_H

#include "run/stage.h"

/* What became of a frame, the worst that any of its sinks did to it. Events that were refused are counted beside it. */
typedef enum outcome { OUTCOME_FILTERED, OUTCOME_OUT, OUTCOME_DROPPED } outcome_t;

/* How far something has come in the frames of one origin. */
typedef struct reached {
    uint64_t epoch, number;
} reached_t;

/* Is the frame among those? Its epoch may be one that continues theirs. */
bool reached_covers(reached_t reached, const frame_t *frame);

/* What is known from before a restart of frames that some sinks had answered for and others had not: how they stand in the ledger. */
typedef struct odd_run {
    uint64_t first, last;
    uint32_t dead;
    uint8_t outcome;
} odd_run_t;

/* One sender on one input. */
typedef struct delivery delivery_t;
typedef struct origin {
    unsigned input;            /* ORIGIN_AWAY: this run has no such input */
    char *key, *name;          /* stage_input_key of the input; what frames call themselves, "" for text */
    reached_t done;            /* all its sinks are done with these */
    reached_t told;            /* and the sender knows that it need not keep them */
    reached_t noted;           /* in the progress that is being synced */
    reached_t published;       /* on PUB */
    reached_t stable;          /* never taken back */
    reached_t *sinks;          /* each sink's own, by its index */
    bool ended, seen;          /* its end is among those done; it has sent something in this run */
    delivery_t *first, *last;  /* not done, oldest first */
    delivery_t *unstable;      /* the first of them that might be taken back */
    uint64_t unstable_bytes;   /* of all that might be */
    bool refused;              /* the next one had no room */
    uint32_t odd;              /* how many of them are dropped or dead in part */
    odd_run_t *runs;           /* those of before the restart */
    size_t run_count;
    uint64_t used;             /* a clock of its own: which one was heard of last */
} origin_t;
#define ORIGIN_AWAY UINT32_MAX
#define ORIGINS_MAX 4096       /* beyond that the one not heard of for longest is forgotten */

/* One frame from an input, on its way to its sinks; or several that are through, behind one that is not: of these only the numbers are kept. */
struct delivery {
    frame_t *frame;            /* NULL: it is through */
    origin_t *origin;
    uint64_t first;            /* the numbers of its frames: from here */
    reached_t last;            /* to here */
    uint64_t events, size;     /* of their bodies, bytes */
    bool end;                  /* the end of the stream is among them */
    uint32_t waiting;          /* sinks that have not answered, plus the one who began it */
    uint32_t dead;             /* events that were refused, by the sink that refused most */
    uint8_t outcome;
    bool stable;               /* exact sinks have it */
    bool odd;                  /* counted in its origin */
    delivery_t *next, *previous; /* of the same origin */
};

typedef struct deliveries {
    stage_t *stage;
    unsigned sinks;
    origin_t **origins;
    unsigned count, room;
    origin_t *last;            /* found last */
    uint64_t clock;
    delivery_t *spare;         /* used again, so that the steady state allocates nothing */
    bool by_progress;          /* senders are told by progress.c rather than at once */
    uint64_t bytes;            /* of the frames done that progress has not begun to sync */
    bool moved;                /* something that progress holds has changed */
    unsigned unstable;         /* origins with frames that might be taken back */
} deliveries_t;

deliveries_t *deliveries_new(stage_t *stage, unsigned sinks);
void deliveries_free(deliveries_t *all);          /* what is under way is let go */
origin_t *deliveries_origin(deliveries_t *all, unsigned input, const char *key, const char *name);   /* made when it is new */

delivery_t *delivery_begin(deliveries_t *all, unsigned input, frame_t *frame);   /* takes its own reference of the frame */
void delivery_hold(delivery_t *delivery);
void delivery_done(deliveries_t *all, delivery_t *delivery, outcome_t outcome);  /* one hold ends; may free it */
bool delivery_had(const delivery_t *delivery, unsigned sink);                    /* the sink answered for it before a restart */
/* The sink has answered for it, and for all before it of the same origin. dead: how many of its events it refused. */
void delivery_answered(deliveries_t *all, delivery_t *delivery, unsigned sink, uint32_t dead);

/* Frames up to there will never be taken back. Returns the first delivery that this sets free, with those that follow while ->stable; each
 * has one hold for that, to be ended by delivery_done. */
void origin_stable(origin_t *origin, uint64_t epoch, uint64_t number);
delivery_t *origin_next_stable(deliveries_t *all, origin_t *origin);         /* marks and returns one; NULL: no more */

/* Frames that might be taken back wait here: is there room for one more, when all of them may take `limit` bytes, and each sender its share? A sender
 * of which none waits always has room for one. False: it is to be asked for when deliveries_wanted says so. */
bool deliveries_room(deliveries_t *all, unsigned input, const frame_t *frame, uint64_t limit);
bool deliveries_wanted(const deliveries_t *all, origin_t *origin, uint64_t limit);        /* true once, when half of its share is free */

/* At the start: one more event of this frame, which will come again, is dead already. */
void origin_recall_dead(origin_t *origin, uint64_t number);

/* Every sender that was heard of has come to its end, or another has taken its place, and there was one. */
bool deliveries_ended(const deliveries_t *all);

#endif
