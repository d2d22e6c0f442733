#ifndef PROCESS_SUMMARY_H
#define PROCESS_SUMMARY_H

#include "aggregate.h"

/* The aggregates of a window: reading them, and the block of states that each group has for them. */
typedef struct summary {
    node_t **arguments;       /* the distinct ones */
    unsigned argument_count;
    accumulator_t *accumulators;          /* the distinct ones: aggregates share them */
    unsigned accumulator_count;
    aggregate_t *aggregates;
    text_t *names;            /* of theirs */
    const token_t **places;   /* where a name was given, while reading */
    unsigned aggregate_count;
    size_t size;              /* of a block */
    unsigned elements;        /* that summary_save writes */
    arena_t arena;            /* of results: summary_forget */
    buf_t scratch;
    size_t owned;             /* bytes of windows, beside those of states */
    bool timed;               /* the first state is of the events' times: argument number argument_count */
    int64_t earliest, latest; /* timed: event times of the results made last */
} summary_t;

/* What the window is like. */
#define SUMMARY_REMOVES 1     /* it takes values out again */
#define SUMMARY_TIMED 2       /* its times are those of its events: behind the arguments' values stands the event's, an int */
#define SUMMARY_ARRIVAL 4     /* events come in the order of arrival, and that is their order */

/* "AGGREGATE, ..." behind the colon. -1 after reporting. */
int summary_parse(summary_t *summary, parser_t *parser, unsigned how);
void summary_fini(summary_t *summary);

/* Adds an event to a block. values: the arguments'. */
static inline void summary_add(summary_t *summary, void *block, const value_t *values, const row_t *row);
void summary_refuse(const summary_t *summary, const accumulator_t *accumulator, value_t value, const row_t *row);
void summary_merge(summary_t *summary, void *into, const void *from);     /* what `from` holds comes after */
void summary_results(summary_t *summary, const void *block, int64_t span, value_t *out);      /* borrowed from the block, or until summary_forget */
void summary_keep(summary_t *summary, value_t *out);  /* results until summary_forget, whatever becomes of the block */
/* The same in two steps, where events are added later on: what cannot be taken is reported at once. */
void summary_check(const summary_t *summary, const value_t *values, const row_t *row);
void summary_put(summary_t *summary, void *block, const value_t *values, int64_t time);
static inline void summary_forget(summary_t *summary) {
    arena_reset(&summary->arena);
}
void summary_save(const summary_t *summary, const void *block, buf_t *out);
bool summary_load(summary_t *summary, void *block, pack_cursor_t *cursor);        /* into a zeroed block; it is to be dropped even after false */
void summary_drop(summary_t *summary, void *block);
size_t summary_memory(const summary_t *summary);      /* bytes that all states have beside their blocks */

/* Whether the aggregate can take the value; its argument may be null. */
static inline bool summary_takes(const accumulator_t *accumulator, value_t value) {
    return (!accumulator->takes || (accumulator->takes & TYPE(value.type))) && !(value.type == VALUE_DOUBLE && value.number != value.number);
}

static inline int64_t summary_time(const accumulator_t *accumulator, int64_t time) {
    return accumulator->arrival ? 0 : time;
}

static inline value_t summary_value(const accumulator_t *accumulator, const value_t *values) {
    return accumulator->argument == NO_ARGUMENT ? value_bool(true) : values[accumulator->argument];
}

static inline void summary_add(summary_t *summary, void *block, const value_t *values, const row_t *row) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        value_t value = summary_value(accumulator, values);
        if (value.type == VALUE_NULL)
            continue;
        if (summary_takes(accumulator, value))
            accumulator->class->add(accumulator, (char *) block + accumulator->offset, value, row->event.time);
        else
            summary_refuse(summary, accumulator, value, row);
    }
}

#endif
