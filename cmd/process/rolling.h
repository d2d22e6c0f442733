#ifndef PROCESS_ROLLING_H
#define PROCESS_ROLLING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "data/pack.h"
#include "data/value.h"

/* A window that moves with the events of one key, and what is computed over it. Its events stand in a ring, the oldest first. They are summed up as a queue of
 * two stacks: for each event of the older part the sum of it and all newer ones of that part is kept, for the younger part one sum. An event
 * that leaves is never subtracted, so no rounding error stays behind it; each event is summed up twice in its life.
 * (Tangwongsan, Hirzel, Schneider, "Low-latency sliding-window aggregation in worst-case constant time", section 2.2.) */
typedef enum rolling_function {
    ROLLING_COUNT, ROLLING_SUM, ROLLING_AVG, ROLLING_MIN, ROLLING_MAX, ROLLING_VAR, ROLLING_STDDEV, ROLLING_MEDIAN, ROLLING_EWMA,
} rolling_function_t;

#define ROLLING_NO_COLUMN UINT32_MAX
#define ROLLING_MOST 100000   /* events of a window */

typedef struct rolling_use {  /* one result */
    rolling_function_t function;
    uint32_t column;          /* of the values; ROLLING_NO_COLUMN: count of the events */
    double alpha;             /* EWMA: the weight of a new value; or */
    int64_t half_life;        /* the time in which weights halve, ns */
    unsigned ewma;            /* EWMA: its number among them; rolling_plan_add sets it */
} rolling_use_t;

typedef struct rolling_column {
    unsigned needs;           /* for the functions over it: rolling_plan_add sets it */
    uint32_t sums, spreads, least, greatest, places, heap;    /* where these stand, bytes times capacity */
} rolling_column_t;

typedef struct rolling_plan {
    int64_t span;             /* ns: events newer than the newest less this; 0: by number */
    uint32_t most;            /* events */
    rolling_column_t *columns;
    unsigned column_count;
    rolling_use_t *uses;
    unsigned use_count, ewma_count;
    uint32_t entry;           /* bytes of an event */
} rolling_plan_t;
void rolling_plan_add(rolling_plan_t *plan, rolling_use_t use);           /* its column may be the next new one */
void rolling_plan_finish(rolling_plan_t *plan);       /* all are added */
void rolling_plan_fini(rolling_plan_t *plan);

typedef struct rolling {      /* followed by what columns and uses keep: rolling_size bytes in all */
    const rolling_plan_t *plan;
    uint32_t head, count, capacity;
    uint32_t split;           /* so many are the older part */
    int64_t newest;           /* event time so far */
    uint8_t *memory;          /* the ring; without a plan: `count` bytes of a snapshot */
} rolling_t;
size_t rolling_size(const rolling_plan_t *plan);
void rolling_init(rolling_t *rolling, const rolling_plan_t *plan);        /* in zeroed memory */
void rolling_fini(rolling_t *rolling);

/* An event with a value for each column: a number, a time where only the least and the greatest are asked for, or null, which takes a place and counts
 * nowhere; no NaN. By number it is the newest whatever its time is. By time it stands where its time is, and when that is outside the
 * window it counts only in EWMA. False: the window was full, and its oldest event has left before its time. */
bool rolling_add(rolling_t *rolling, int64_t time, const value_t *values);
value_t rolling_result(const rolling_t *rolling, unsigned use);           /* null when there is no value */
size_t rolling_memory(const rolling_t *rolling);      /* bytes beside the block */

/* State as one packed element, and back into zeroed memory. False: damaged. */
void rolling_save(const rolling_t *rolling, buf_t *out);
bool rolling_load(rolling_t *rolling, const rolling_plan_t *plan, pack_cursor_t *cursor);

#endif
