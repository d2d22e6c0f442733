#ifndef INGEST_ROWS_H
#define INGEST_ROWS_H

#include "base/err.h"
#include "data/value.h"
#include "source.h"

/* Sources that read rows by a library that blocks: it gets a thread of its own. The thread reads and packs rows into a bounded queue, and
 * everything else (position, batching, waiting) happens here, within the loop. */
typedef struct rows_out rows_out_t;

/* What a database does; all but `free` in the thread. The struct that `self` points to is the driver's. */
typedef struct rows_driver {
    int (*open)(void *self, err_t *err);
    void (*close)(void *self);                        /* legal after a failed open, and twice */
    /* Gives the rows whose cursor is behind `after` (null: there is no cursor), in its order. A failure closes the connection. */
    int (*read)(void *self, value_t after, rows_out_t *out, err_t *err);
    int (*forget)(void *self, value_t upto, err_t *err);    /* rows up to there are safe; may be NULL */
    void (*interrupt)(void *self);                    /* from another thread: what is under way may end */
    void (*free)(void *self);
} rows_driver_t;

/* Within read: begin gives where to append one packed map; end says that it is there. end is false when the stage is about to leave. */
buf_t *rows_begin(rows_out_t *out);
bool rows_end(rows_out_t *out, value_t cursor, int64_t time);   /* time: ROWS_NO_TIME, or of the event, ns */
bool rows_bad(rows_out_t *out, value_t cursor, const char *reason);   /* after begin, instead of end: the row cannot be used */
/* Where reading is endless, the cursor of each row is the place behind it. A mark is such a place without a row; flush hands over what there is, when no
 * more is at hand. False: the stage is about to leave. */
bool rows_mark(rows_out_t *out, value_t cursor);
bool rows_flush(rows_out_t *out);
void rows_hopeless(rows_out_t *out);                  /* the failure that follows will not go away by waiting */
#define ROWS_NO_TIME INT64_MIN

typedef struct rows_setup {
    const rows_driver_t *driver;
    void *self;
    char *place, *identity;        /* for people; for the position. Given away */
    const char *column;            /* of the cursor; "" for none */
    buf_t initial;                 /* packed value of the cursor before the first row; given away */
    int64_t interval, retry_min, retry_max;
    bool once;                     /* end after one answer */
    bool endless;                  /* `read` goes on until it fails */
    bool committed;                /* rows' times are those of their commits: how long ago that was is shown */
    bool ends;                     /* end when `open` has worked (it was asked to remove what it had made) */
    const char *watch;             /* a file whose changes (and those of its -wal) are worth a look; or NULL */
} rows_setup_t;

source_t *rows_source_new(const source_setup_t *setup, const rows_setup_t *rows);

/* "42" is an integer, "1.5" a number, all else text. */
void rows_put_initial(buf_t *out, const char *text);

#endif
