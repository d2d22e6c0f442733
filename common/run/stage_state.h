#ifndef RUN_STAGE_STATE_H
#define RUN_STAGE_STATE_H

#include "net/spool.h"
#include "run/stage_private.h"

/* What a stage with --state has besides: its directory; for tools with outputs the spool; for deterministic ones (tool->save) the order in which
 * inputs were taken, and snapshots. Shared by stage_state.c, stage_order.c and stage_snapshot.c. */

/* One sender on one input, as far as its frames have been dealt with. */
typedef struct stage_origin {
    unsigned input;
    char *name;
    uint64_t epoch, number;
    bool ended;
    bool has_stable;                   /* it has a durable log: frames up to `stable` will never be taken back */
    uint64_t stable;
    frame_t **held;                    /* while replaying: came before its turn; a ring */
    size_t held_first, held_count, held_room;
} stage_origin_t;

/* One input whose output is not stable yet: a frame, a tick, the end; or a source's group of frames. */
typedef struct stage_step {
    stage_origin_t *origin;            /* NULL: there is nobody who could take it back */
    uint64_t taken;                    /* the frame's number at its origin */
    uint64_t index;                    /* of the spool's record that tells of it, or the last one that it made; 0: not added yet */
    uint64_t number;                   /* of the last output frame up to this step's end */
    uint64_t dead;                     /* dead letters up to its end */
    uint8_t *position;                 /* a source's, when the tool wants to hear of it */
    size_t position_size;
} stage_step_t;

typedef enum stage_entry_kind { ENTRY_FRAME, ENTRY_TICK, ENTRY_END, ENTRY_OUTSIDE } stage_entry_kind_t;

/* What came from outside: the bytes, or the number of the file that holds them. */
typedef struct stage_told {
    unsigned channel;
    uint64_t number;                   /* 0: the bytes are here */
    text_t bytes;
} stage_told_t;

typedef struct stage_kept {            /* the file that a channel's state refers to */
    unsigned channel;
    uint64_t number;
} stage_kept_t;

/* One entry of the order, to be repeated. */
typedef struct stage_entry {
    stage_entry_kind_t kind;
    stage_origin_t *origin;
    uint64_t epoch, number;            /* of the frame; number: the clock of a tick */
    uint64_t before;                   /* index of the last record before the group that tells of it */
    stage_told_t *told;                /* OUTSIDE: while replaying in memory of its own, the bytes behind it */
} stage_entry_t;

typedef struct stage_mark {            /* where the inputs stood */
    stage_origin_t *origin;
    uint64_t number;
} stage_mark_t;

struct stage_store {
    char *directory;
    int lock;
    spool_t *spool;                    /* NULL: the tool keeps its own */
    buf_t replaces;                    /* origins that the directory had before it was reset, for the links */
    bool trouble;                      /* the disk cannot be written at present */
    bool begun;                        /* the counts are this run's */

    /* the group of records under construction */
    bool open;
    struct stage_grouped {
        frame_t *frame;
        uint64_t number;
    } *group;
    size_t group_count, group_room, group_bytes;
    buf_t note, position;
    bool dead_dirty;                   /* dead letters were written since they were synced */

    /* steps that are not stable yet: a ring */
    stage_step_t *steps;
    size_t step_first, step_count, step_room;
    size_t steps_noted;                /* so many of them, from the first, are in records */
    uint64_t stable;                   /* told to the links */
    uint64_t released_index, released_number;

    buf_t stored;                      /* a source: the position found at the start, and the changes to it: packed binaries */
    uint64_t whole_index;              /* of the record with the whole position that changes go by from now on; 0: the next one has to be whole */
    uint64_t whole_safe;               /* the last of those that are known to be synced */
    uint64_t whole_unsafe;             /* the first one behind it, if it is above it */
    uint64_t whole_size, since_whole;  /* bytes of that position; of what was added behind it */
    uint64_t stored_dead;
    uint64_t noted_out;                /* events passed on, as the last note has it */
    bool ended;                        /* the spool's last frame is the end of the stream */
    uint64_t kept_index;               /* of the first record of what tool->keep gave last; 0: never */
    uint64_t held_index;               /* records from here on stay: the last one of these that is synced */
    uint64_t kept_end;                 /* index of its last record; 0: that is synced */
    uint64_t kept_since, kept_size;    /* bytes of frames since; its own */
    bool leaving;                      /* TERM: without an end; the rest is done by the next run */

    /* the order of inputs */
    buf_t order;                       /* entries that are in no record yet, packed; */
    uint32_t order_entries;            /* how many */
    stage_origin_t **origins;
    unsigned origin_count;
    bool stepping;                     /* the last of the steps is being taken */
    bool ending;                       /* the tool's finish was called, in order; it may wait for answers from outside yet */
    uint64_t step_serial;              /* steps ever taken in this run: has anything changed? */
    int64_t tick_interval;

    /* what came from outside */
    uint64_t outside_number;           /* of the last file */
    uint64_t outside_bytes;            /* written down since the last snapshot was begun */
    stage_kept_t *kept, *kept_marked;  /* now; as the snapshot has it that was begun last */
    unsigned kept_count, marked_count;
    uint64_t marked_number;

    /* replay */
    stage_entry_t *entries;
    size_t entry_count, entry_next, entry_room;
    bool replaying, refused, pumping, comparing;
    uint64_t replayed;                 /* number of the last output frame that was made again */
    spool_cursor_t *cursor;
    size_t held_bytes;
    uint64_t replayed_frames;
    loop_watch_t *replay_timer;

    /* snapshots */
    loop_watch_t *snapshot_timer;
    loop_watch_t *child_watch;
    int child_fd;                      /* pidfd; -1: none runs */
    int child;
    int64_t snapshot_began, snapshot_next;       /* monotonic ns */
    int64_t snapshot_soon;             /* as snapshot_next, when somebody is held up */
    bool snapshot_written;             /* and waits until it is stable */
    bool snapshot_wanted;
    bool snapshot_failed;              /* the last one did: another is due whether anything has changed or not */
    uint64_t snapshot_serial;          /* step_serial of the last one begun */
    uint64_t unlogged;                 /* bytes taken since then from senders that keep them in memory */
    uint64_t pending_index, pending_dead;
    stage_mark_t *marks;
    unsigned mark_count;
    uint64_t confirmed_index;
    buf_t loaded;                      /* the tool's state, from the file, until it was given to the tool */
    size_t loaded_at;
    void (*final)(stage_t *stage);     /* called when the snapshot that was asked for at the end is confirmed */

    metric_t *m_bytes, *m_limit, *m_frames, *m_trouble, *m_snapshots, *m_snapshot_time, *m_snapshot_bytes, *m_snapshot_age, *m_replayed, *m_replaying;
    int64_t snapshot_time;             /* of the last confirmed one, ns since 1970 */
    uint64_t snapshots;
};

static inline struct stage_store *state_of(const stage_t *stage) { return stage->private->state; }
/* The order of inputs is kept: the tool is deterministic. */
static inline bool has_order(const stage_t *stage) { return stage->private->state && stage->tool->save; }

/* stage_state.c */
int state_open(stage_t *stage, err_t *err);            /* directory, lock, spool, what the last run left; before the links */
void state_begun(stage_t *stage);                      /* all is open: what the last run counted in the end holds no more */
void state_metrics(stage_t *stage);
void state_publish(stage_t *stage);
void state_close(stage_t *stage);
void state_add(stage_t *stage, frame_t *frame);        /* to the open group, or a new one */
void state_commit(stage_t *stage);
void state_note(stage_t *stage);                       /* a record without a frame: order entries that wait, or a source's position */
void state_settle(stage_t *stage);                     /* something was synced, or became stable or durable */
void state_release(stage_t *stage);
void state_push_step(stage_t *stage, stage_step_t step);
void state_end(stage_t *stage);                        /* the end of stream as a record */
void state_leave(stage_t *stage);                      /* TERM */
void state_leave_ended(stage_t *stage);                /* TERM when the end is on its way already */

/* stage_reset.c */
int reset_directory(const char *directory, err_t *err);       /* deletes what a stage keeps there, but who it was */
void reset_read(const char *directory, const char *origin, buf_t *replaces);    /* who it was before it was this one: a packed array, or nothing */

/* stage_note.c: where a source stands, as a note in the log */
enum { NOTE_SOURCE = 1, NOTE_ORDER = 2, NOTE_CHANGES = 3, NOTE_KEPT = 4 };
int note_resume(stage_t *stage, err_t *err);           /* what its last run left */
text_t note_put(stage_t *stage);                       /* valid until the next */
void note_added(stage_t *stage, bool has_note, uint64_t index, uint64_t body_size);   /* a record, with or without it; index 0: it was dropped */
uint64_t note_released(const stage_t *stage);          /* records up to there tell nothing that a restart needs */

/* stage_keep.c */
void keep_due(stage_t *stage);                         /* a group was committed: is it time? */
void keep_settle(stage_t *stage);                      /* something was synced */
bool keep_is_piece(text_t note);                       /* a piece of what was kept, no position */
void state_add_note(stage_t *stage, text_t note);      /* in stage_state.c: to the group; its first record has the position besides */

/* stage_order.c */
stage_origin_t *order_origin(stage_t *stage, unsigned input, const char *name);
int order_open(stage_t *stage, err_t *err);            /* reads what is behind the snapshot */
void order_begin(stage_t *stage);                      /* links are open: restores them, and replays what needs no frame */
bool order_take(stage_t *stage, unsigned input, const frame_t *frame);
void order_frame(stage_t *stage, unsigned input, frame_t *frame);
void order_stable(stage_t *stage, unsigned input, const char *origin, uint64_t epoch, uint64_t number);
void order_end(stage_t *stage);                        /* all inputs have ended: recorded, then tool->finish */
void order_ending(stage_t *stage);                     /* they had, says the snapshot */
bool order_compare(stage_t *stage, frame_t *frame);    /* an output frame while replaying; true: it is in the spool already */
void order_tick(stage_t *stage, int64_t now);
void order_outside(stage_t *stage, const stage_told_t *told);
void order_free(stage_t *stage);

/* stage_taken.c */
int taken_write(const stage_t *stage, err_t *err);     /* which outputs have ended */
void taken_read(const stage_t *stage);                 /* and had, in an earlier run; the outputs are open */
void taken_watch(stage_t *stage);                      /* says it when nobody comes for what is left */

/* stage_outside.c */
int outside_open(stage_t *stage, err_t *err);
void outside_give(stage_t *stage, const stage_told_t *told);         /* to the tool; its file is read when its bytes are not there */
void outside_mark(stage_t *stage);                     /* a snapshot is begun */
void outside_settle(stage_t *stage);                   /* and is confirmed: what it does not refer to can go */
void outside_close(stage_t *stage);

/* stage_snapshot.c */
int snapshot_load(stage_t *stage, err_t *err);
int snapshot_load_tool(stage_t *stage, err_t *err);
void snapshot_begin(stage_t *stage);                   /* the timer */
void snapshot_hurry(stage_t *stage);
void snapshot_confirm(stage_t *stage);                 /* if it can be now */
void snapshot_last(stage_t *stage, void (*done)(stage_t *stage));    /* one more, of now; done when it is confirmed */
void snapshot_close(stage_t *stage);

/* stage_input.c, for the above */
void stage_take(stage_t *stage, unsigned input, frame_t *frame);     /* counts it and gives it to the tool */
unsigned stage_input_total(const stage_t *stage);      /* --from and --side; known before they are open */
void stage_resume_end(stage_t *stage);                 /* in stage.c: the stream had ended in an earlier run */
void stage_again(stage_t *stage, const char *why);     /* starts over from the state on disk */
int stage_go_live(stage_t *stage, err_t *err);         /* in stage_outside.c */

#endif
