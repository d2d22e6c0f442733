#ifndef PROCESS_CHAIN_H
#define PROCESS_CHAIN_H

#include "op.h"
#include "outline.h"
#include "program.h"

/* What program.c (reading programs), run.c (running them) and snapshot.c share. */
typedef struct stream {
    char name[FRAME_TOPIC_MAX + 1];
    frame_builder_t builder;
} stream_t;

typedef struct origin {
    unsigned input;
    char name[FRAME_ORIGIN_MAX + 1];
    int64_t watermark;        /* greatest event time seen from it, or what its frames said */
    bool heard;               /* since the last tick */
    bool idle;                /* silent for so long that it holds nothing up */
    int64_t silent;           /* ticks since it was last heard */
} origin_t;

typedef struct input {
    bool known;               /* a frame has come from it, or it was given up */
    int64_t silent;           /* ticks without one */
} input_t;

/* The call that is being dealt with. It may stop where an operator waits for room, and go on from there. */
typedef enum task { TASK_READ, TASK_TELL, TASK_TICK, TASK_OUTSIDE, TASK_FLUSH } task_t;
typedef struct work {
    task_t next;
    frame_t *frame;           /* NULL: a tick, or the end */
    origin_t *origin;
    int64_t others;           /* the least watermark of the other origins */
    int64_t limit;            /* that this frame's events may raise the watermark to */
    frame_walk_t walk;
    bool read;                /* to its end */
    bool tick;
    int64_t now;              /* of the tick */
    op_t *told;               /* the operator that has news from outside, and goes on with them */
} work_t;

#define EXCERPT_MAX 160

typedef struct saver saver_t;                          /* in snapshot.c */

struct program {
    program_setup_t setup;
    uint64_t identity;        /* hash of the tokens: white space and comments do not count; and of files that belong to it */
    char excerpt[EXCERPT_MAX + 1];        /* the tokens' beginning, for people */
    unit_t unit;
    scope_t scope;            /* while reading */
    layout_t *layout;
    outline_t *outline;       /* NULL unless the setup asks for it */
    op_t *first;              /* the chain; the last one writes the output */
    unsigned values;          /* computed values of a row, at most */
    bool verbatim;            /* no operator at all */
    int64_t tick_interval;    /* that operators ask for; 0: none does */
    unsigned sides;           /* operators that write to side streams */
    unsigned batch;           /* rows per call: 1 when the order on a shared side stream depends on it */

    stream_t *streams;        /* 0: the main one */
    unsigned stream_count;
    char stream[FRAME_TOPIC_MAX + 1];     /* the main stream's name so far */
    unsigned named_at;        /* one more than the streams that there were when "to" named it last; 0: it did not */
    const text_t *keys;       /* of the last window */
    unsigned key_count;

    work_t work;
    bool pressed;             /* nobody waits for room at present */
    op_t *waiting;            /* the last operator of the chain that has stopped; NULL: none */
    bool live;
    unsigned holds;           /* operators that hold enough */
    context_t context;
    rows_t *rows;
    place_t *places;          /* BATCH × slots, for records of no known shape */
    program_counts_t ledger;

    origin_t *origins;
    unsigned origin_count;
    origin_t aside;           /* of inputs that do not move event time */
    input_t *inputs;
    int64_t ticked;           /* clock of the last tick that counted */
    int64_t ended;            /* greatest watermark of origins that have ended */
    int64_t watermark;        /* of the program's input */
    int64_t announced;        /* to the chain */
    int64_t out_watermark;    /* of its output: what reached the chain's end */
    int64_t sent_watermark;   /* that the last frame of the main stream carried */
    saver_t *saver;           /* while the state is being saved */
};

typedef struct output {       /* the chain's end */
    op_t op;
    plan_t *plan;
} output_t;
extern const op_class_t output_class;

#define IDLE_TICKS 4                                  /* an origin is idle when so many were silent */
#define FORGET_TICKS (100 * IDLE_TICKS)               /* and is forgotten after so many */
#define PROGRAM_MAX (1u << 20)                        /* bytes of text */
void program_prepare(program_t *program);             /* after reading: memory of the run */

#endif
