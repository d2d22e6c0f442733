#ifndef PROCESS_SEQUENCE_H
#define PROCESS_SEQUENCE_H

#include "series.h"

/* sequence: patterns over the events of a key. A pattern is a chain of steps; a partial match stands at one of them, and each event takes it on, leaves
 * it where it is, or ends it: no partial match ever splits in two. A lane holds the partial matches of a key, the one that began first in front.
 * op_sequence.c reads the pattern and passes matches on, sequence_lane.c takes events, sequence_state.c has the timers and snapshots. */
#define SEQUENCE_STEPS 16
#define SEQUENCE_GUARDS 4     /* that stand before one step */
#define SEQUENCE_TIMES 100
#define SEQUENCE_OPEN 32      /* partial matches of a key that stand at one place */

typedef struct condition {
    node_t *node;             /* NULL: there is none */
    unsigned index;           /* into known */
    bool refers;              /* to events that were taken: it depends on the partial match */
} condition_t;

typedef struct sequence_step {
    text_t label;
    condition_t condition;
    condition_t guards[SEQUENCE_GUARDS];  /* what ends the partial match until the step is complete */
    unsigned guard_count;
    uint32_t least, most;     /* events that it takes; most UINT32_MAX: any number */
    bool next;                /* its first event follows that before it directly */
    bool in_a_row;            /* its events follow each other directly */
    int64_t within;           /* ns since the step before was complete; 0: any time */
    unsigned value;           /* where conditions read what it took */
    unsigned place, places;   /* of partial matches in it: numbers of the first, how many */
} sequence_step_t;

typedef struct partial {
    uint64_t number;          /* of the event it began with */
    uint64_t last_number;     /* of the last one it took */
    int64_t start, last;      /* their times */
    int64_t since;            /* the time at which it came to this step */
    uint32_t step;            /* the number of steps: it waits for nothing to happen until `due` */
    int64_t due;
    buf_t records;            /* the last event of each step, packed maps one behind the other */
    struct {
        uint32_t count, end;  /* events; end of its record */
    } taken[];                /* by step */
} partial_t;

typedef struct sequence sequence_t;

typedef struct lane {
    sequence_t *sequence;
    partial_t **partials;
    uint32_t count, capacity;
    uint32_t timer;           /* place among the timers, from 1; 0: it waits for no time */
    int64_t due;              /* the earliest of its partial matches', and the number of that one: no other has it */
    uint64_t due_number;
    buf_t key;                /* the keys' values, packed */
    size_t bytes;             /* memory that it takes, as of its last event */
} lane_t;

typedef struct sequence_block {           /* of a key */
    lane_t *lane;             /* NULL: no partial match */
    int64_t newest;           /* event time so far */
} sequence_block_t;

struct sequence {
    op_t op;
    text_t name;
    sequence_step_t steps[SEQUENCE_STEPS];
    unsigned step_count;
    condition_t absent;       /* what must not happen at the end, for so long */
    int64_t absent_within;
    int64_t within;           /* between the first event and the last; 0: any time */
    unsigned condition_count, places;
    bool refers;              /* some condition does */
    keyed_class_t class;
    series_options_t options;
    names_t names;
    plan_t *plan;             /* of the events as they come */
    unsigned late_stream;
    rows_t *results;

    uint64_t number;          /* of events so far */
    int64_t seen;             /* the watermark up to which timers have been looked at */
    int64_t ingest_time;
    partial_t *spares[SEQUENCE_OPEN];     /* partial matches that are over, with their memory */
    unsigned spare_count;
    lane_t **timers;          /* a heap by due and due_number */
    uint32_t timer_count, timer_capacity;
    uint8_t *known;           /* conditions of this event: 0 not looked at, 1 false, 2 true */
    uint32_t *counts;         /* by place, for counting */
    buf_t scratch, record;
    row_t **waiting;          /* rows that wait for room, and how many */
    unsigned waiting_count;
    int64_t target;           /* the watermark that is being dealt with */
};

/* In op_sequence.c: a match is complete at `end`, by the event `row` or, when NULL, by what did not happen. */
void sequence_match(sequence_t *sequence, const lane_t *lane, const partial_t *partial, int64_t end, const row_t *row);
text_t sequence_record(const partial_t *partial, unsigned step);          /* of a step that was taken */

/* In sequence_lane.c. */
lane_t *lane_new(sequence_t *sequence);
void lane_free(lane_t *lane);
void lane_take(lane_t *lane, row_t *row);             /* an event of the key, not older than those before it */
bool sequence_begins(sequence_t *sequence, row_t *row);                   /* whether the event begins a partial match */
void sequence_expect(sequence_t *sequence);           /* another event: nothing is known of it */
void lane_fire(lane_t *lane, int64_t time);           /* partial matches that are due before this time; fewer when an operator behind has stopped */
partial_t *partial_new(sequence_t *sequence);
void partial_free(sequence_t *sequence, partial_t *partial);
void sequence_free_spares(sequence_t *sequence);

/* In sequence_state.c. */
void lane_schedule(lane_t *lane);                     /* its partial matches have changed */
void lane_unschedule(lane_t *lane);
void block_save(const void *state, buf_t *out);
bool block_load(void *context, void *state, pack_cursor_t *cursor);

#endif
