#ifndef PROCESS_AGGREGATE_H
#define PROCESS_AGGREGATE_H

#include <stdio.h>

#include "op.h"

/* Aggregates. What has been seen of a window's values is a state, a block of fixed size that begins zeroed; what an aggregate is comes out of a
 * state. Several aggregates may go by one state: avg(x) and sum(x), all quantiles of x. A line each in aggregate_table. */
#define NO_ARGUMENT UINT32_MAX

typedef struct state_class state_class_t;

/* A state's kind in a program: one for all its groups. */
typedef struct accumulator {
    const state_class_t *class;
    const char *name;         /* of the aggregate that asked for it, for reports */
    types_t takes;
    unsigned argument;        /* number among the window's arguments; NO_ARGUMENT: it counts events */
    uint32_t limit;           /* how many values states keep, where the class has such a bound */
    bool removes;             /* the window takes values out again */
    bool arrival;             /* values come in the order of arrival: to the state all are of one time */
    size_t offset;            /* of the state in a group's block */
    size_t owned;             /* bytes that all its states have beside their blocks */
    buf_t scratch;
} accumulator_t;

struct state_class {
    size_t size;              /* a multiple of 8 */
    unsigned elements;        /* that save writes */
    void (*add)(accumulator_t *self, void *state, value_t value, int64_t time);   /* never null, never of a type outside takes, never NaN */
    /* Into `into` what `from` holds, all of which comes after it: by event time, then as it arrived. */
    void (*merge)(accumulator_t *self, void *into, const void *from);
    /* Takes out a value that was added, always the first one of those that are still in. NULL: it can't be taken out. */
    void (*remove)(accumulator_t *self, void *state, value_t value, int64_t time);
    void (*save)(const void *state, buf_t *out);
    bool (*load)(accumulator_t *self, void *state, pack_cursor_t *cursor);        /* into a zeroed state; false: damaged */
    void (*drop)(accumulator_t *self, void *state);   /* frees what the state owns. NULL: nothing */
};

/* What results may need beside the state. */
typedef struct finish {
    int64_t span;             /* ns that the window lasted; 0: unknown */
    arena_t *arena;           /* where arrays are made */
    buf_t *scratch;
} finish_t;

typedef struct aggregate aggregate_t;
typedef struct aggregate_class {
    const char *name;
    const char *signature;    /* "avg(x)" */
    const char *help;
    types_t takes;            /* 0: no argument is needed */
    types_t gives;
    const state_class_t *state;
    value_t (*result)(const aggregate_t *self, const void *state, const finish_t *finish);        /* borrowed from the state or the arena */
    const struct aggregate_class *bare;     /* what it is without an argument; NULL: the same, or there must be one */
    const struct aggregate_class *sliding;  /* in windows that take values out again; NULL: the same */
    const char *parameter;    /* a constant behind the argument: what it is, for messages; NULL: none */
    bool optional;            /* the parameter */
    double least, most, usual;              /* that it may be, and is when it isn't given */
    uint32_t limit;           /* of the state, for each unit of the parameter; 0: the parameter is the result's own */
} aggregate_class_t;

struct aggregate {
    const aggregate_class_t *class;
    unsigned accumulator;     /* number among the window's */
    double parameter;
};

extern const aggregate_class_t aggregate_table[];     /* ends with a NULL name */
/* The aggregate of this name; p50, p99.9 are found too, and then *parameter is set. NULL: there is none. */
const aggregate_class_t *aggregate_find(text_t name, double *parameter);
void aggregate_list(FILE *out);
const char *aggregate_suggest(text_t name, char *buffer, size_t size);

/* For the files of aggregates. */
extern const state_class_t counting_state, summing_state, spreading_state, extent_state, trend_state;     /* aggregate_number.c */
extern const state_class_t least_state, greatest_state, first_state, last_state;  /* aggregate_keep.c */
extern const state_class_t quantile_state;            /* aggregate_quantile.c */
extern const state_class_t distinct_state;            /* aggregate_distinct.c */
extern const state_class_t occurrence_state;          /* aggregate_top.c */
extern const state_class_t collect_state;             /* aggregate_collect.c */
typedef value_t aggregate_result_t(const aggregate_t *self, const void *state, const finish_t *finish);
aggregate_result_t count_result, count_rate_result, sum_result, sum_rate_result, avg_result, var_result, stddev_result, range_result, slope_result,
    keep_result, quantile_result, distinct_result, distinct_exact_result, top_result, collect_result;

void extent_times(const void *extent, int64_t *earliest, int64_t *latest);        /* of an extent_state of ints */

/* Values of any types in an order: numbers come before texts, texts before times. */
int aggregate_order(value_t a, value_t b);
uint64_t aggregate_hash(accumulator_t *self, value_t value);  /* equal values have equal ones; never 0 */

static inline value_t finite_or_null(double number) {
    return number - number == 0 ? value_double(number) : value_null();
}

static inline bool read_double(pack_cursor_t *cursor, double *number) {
    value_t value;
    if (!pack_read_value(cursor, &value) || value.type != VALUE_DOUBLE)
        return false;
    *number = value.number;
    return true;
}

static inline bool read_bool(pack_cursor_t *cursor, bool *truth) {
    value_t value;
    if (!pack_read_value(cursor, &value) || value.type != VALUE_BOOL)
        return false;
    *truth = value.boolean;
    return true;
}

#endif
