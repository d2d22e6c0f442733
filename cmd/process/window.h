#ifndef PROCESS_WINDOW_H
#define PROCESS_WINDOW_H

#include "group.h"
#include "cell.h"
#include "op.h"
#include "waiting.h"
#include "slide.h"

/* What windows of all kinds share. op_window.c reads them; window.c has what they do alike; pane.c is windows whose bounds are multiples of a
 * duration (tumbling, hopping), window_cell.c those that each key has of its own (session.c, sliding and count). */
typedef enum window_kind { TUMBLING, HOPPING, SESSION, SLIDING, COUNT } window_kind_t;

/* A group's block holds the aggregates' states; its mark counts how often it was written out. */

/* A part of event time, [start, end), that belongs to the same windows: to one that tumbles, to several that hop. */
typedef struct pane {
    int64_t start, end;
    int64_t next;             /* end of the first of its windows that has not fired; INT64_MAX: kept for late events */
    int64_t last;             /* end of the last one */
    int64_t early;            /* watermark of the next early result; INT64_MAX: none */
    uint64_t events;          /* held: since it was last written out */
    groups_t *groups;
} pane_t;

/* A hopping window that has fired, while late events may change it: how often each of its groups was written out. */
typedef struct fired {
    int64_t end;
    groups_t *groups;
} fired_t;

typedef struct pending {      /* a row on its way in */
    buf_t key;
    uint64_t hash;
    pane_t *pane;             /* NULL: too late */
    value_t *values;          /* of the arguments */
} pending_t;

/* What is being written out: where it stopped, when there was no room for all results. */
typedef struct firing {
    int64_t watermark;
    uint32_t group;           /* the next one */
    bool begun;
} firing_t;

typedef struct window {
    op_t op;
    window_kind_t kind;
    int64_t length;           /* ns; of a session the gap that ends it */
    int64_t every;            /* hopping: from one to the next; tumbling: the length */
    int64_t early;            /* between early results; 0: none */
    int64_t most;             /* length of a session; INT64_MAX: any */
    uint64_t number, step;    /* count */
    int64_t wait, late, expire;
    node_t **keys;
    unsigned key_count;
    summary_t summary;
    text_t *names;            /* of the results, in order */
    unsigned names_count;
    plan_t *plan;             /* how late events are written */
    unsigned late_stream;

    int64_t next;             /* the watermark at which something is due; INT64_MAX: never */
    int64_t announced;        /* watermark passed on */
    int64_t reached;          /* the greatest watermark of a row, or told, before the end */
    int64_t instant;          /* the watermark at which the results were due that are being written: window_put */
    int64_t ingest_time;      /* of the newest row, for what is made of them */
    pending_t pending[BATCH];
    value_t *values;          /* the memory of theirs */
    rows_t *results;
    unsigned result_count;
    firing_t firing;
    row_t **waiting;          /* rows that wait until everything is written out */
    unsigned waiting_count;

    pane_t **panes;           /* by start */
    unsigned pane_count;
    pane_t *recent;           /* where the last row went */
    pane_t *spare;            /* memory for the next one */
    groups_t *merged;         /* hopping: the groups of the window that fires */
    fired_t *fired;           /* hopping with late: by end */
    unsigned fired_count;

    cells_t *cells;           /* the other kinds */
    waiting_t *held;           /* events that wait; NULL: none does */
    buf_t packed;             /* a row's values */
    value_t *taken;           /* a waiting event's values */
    unsigned row;             /* of the waiting ones: the next one */
    bool full;                /* results were passed on: it is time to look whether there is room */
} window_t;

/* An event that windows of cells take. */
typedef struct arrival {
    int64_t time;
    const uint8_t *key;
    size_t key_size;
    uint64_t hash;
    const value_t *values;    /* of the arguments, and the time */
    const uint8_t *packed;    /* the arguments */
    size_t packed_size;
    int64_t watermark;
} arrival_t;

/* A result to be written. */
typedef struct result {
    const uint8_t *key;
    size_t key_size;
    int64_t start, end, time, span;       /* of count windows they come from the values */
    const void *block;
    slide_t *slide;           /* instead of the block */
    uint32_t revision;
    bool final;
} result_t;

extern const op_class_t op_window, window_panes, window_cells;

static inline int64_t time_floor(int64_t time, int64_t unit) {
    int64_t rest = time % unit;
    return time - rest - (rest < 0 ? unit : 0);
}

static inline int64_t time_add(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? (b > 0 ? INT64_MAX : INT64_MIN) : sum;
}

/* The event goes, as it came, to the side stream. */
void window_late(window_t *window, const row_t *row);
/* Encodes the row's key. */
static inline void window_key(window_t *window, pending_t *pending, const row_t *row) {
    buf_clear(&pending->key);
    for (unsigned i = 0; i < window->key_count; i++)
        key_put(&pending->key, evaluate(window->keys[i], row));
    key_end(&pending->key);
    pending->hash = groups_hash(pending->key.data, pending->key.size);
}
/* A key out of a snapshot, padded as group.h and cell.h want it; valid until the next. */
const uint8_t *window_stored_key(window_t *window, text_t key);
/* Adds a result; true when a batch of them was passed on. What it borrows must stay until then.
 *
 * Its row's watermark is what event time behind the window has come to at window->instant: just before the moment at which the result fell due, or as
 * of the row that caused it. It is no matter whether a row, a watermark between two frames or the end came first to make it due, or how far event time
 * has gone on meanwhile. So rows behind have watermarks that never fall, that do not depend on how events are cut into frames, and that are not
 * below one told before: as those in front. */
bool window_put(window_t *window, const result_t *result);
void window_pass(window_t *window);                   /* passes on what there is */
void window_settle(window_t *window, uint64_t events);        /* that were held are dealt with */
/* Tells those behind how far results have come: no result is before that. */
void window_pass_watermark(window_t *window, int64_t watermark);
/* A window's results have its last millisecond, or nanosecond, as their time: inside it, so that a wider window behind this one counts them where they
 * belong. This is how far that is from its end. */
int64_t window_before_end(const window_t *window);
void window_free(op_t *op);                           /* what is common */

void window_cells_begin(window_t *window);            /* window_cell.c: after reading */

/* session.c: sessions of a cell. */
typedef struct sessions {
    struct session *first;    /* by start */
} sessions_t;
bool session_add(window_t *window, const arrival_t *arrival);             /* false: it is too late */
void session_fire(window_t *window, cell_t *cell, int64_t watermark);     /* does what is due first; the cell may be gone then */
void sessions_drop(window_t *window, sessions_t *sessions);
void sessions_save(const window_t *window, const sessions_t *sessions, buf_t *out);       /* one element */
bool sessions_load(window_t *window, cell_t *cell, pack_cursor_t *cursor);

#endif
