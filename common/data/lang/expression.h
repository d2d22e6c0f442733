#ifndef DATA_LANG_EXPRESSION_H
#define DATA_LANG_EXPRESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/frame.h"
#include "data/lang/record.h"
#include "data/value.h"

/* Expressions, checked and bound, as trees of nodes with direct functions: evaluation allocates nothing (texts that are made live in the
 * context's arena) and reads fields in place. stream-language(7) owns the semantics. */
typedef struct node node_t;

/* What evaluations share. */
typedef struct context {
    arena_t arena;            /* temporaries: reset when no row is in use */
    buf_t buffer;             /* where functions put a result together: function_buffer */
    uint64_t errors;          /* type errors, overflows, ...: each gave null */
    /* A sample of them, already limited to one a second: where (operator's node) and what. May be NULL. */
    void (*report)(void *argument, const node_t *node, const char *text);
    void *argument;
    log_limit_t limit;
} context_t;
void context_fini(context_t *context);

/* One event on its way. */
typedef struct row {
    const place_t *places;    /* of the layout's slots in event.record; NULL without a record */
    value_t *values;          /* what operators computed */
    event_t event;            /* bytes NULL: computed whole (a window's result) */
    context_t *context;
    const frame_t *frame;     /* that it came with */
    const event_t *original;  /* the event as it came in, where an operator has written it anew; NULL: `event` is it */
    int64_t watermark;        /* as of this event */
    int64_t ingest_time;
} row_t;

typedef uint16_t types_t;     /* 1 << value_type_t, several */
#define TYPE(t) ((types_t) (1u << (t)))
#define TYPES_INTEGER ((types_t) (TYPE(VALUE_INT) | TYPE(VALUE_UINT)))
#define TYPES_NUMBER ((types_t) (TYPES_INTEGER | TYPE(VALUE_DOUBLE)))
#define TYPES_TEXT TYPE(VALUE_STRING)
#define TYPES_ANY ((types_t) 0x3FF)

typedef enum node_kind {
    NODE_CONSTANT, NODE_FIELD, NODE_VALUE, NODE_PATH, NODE_EVENT_TIME, NODE_META, NODE_NEGATE, NODE_NOT, NODE_AND, NODE_OR, NODE_COMPARE,
    NODE_ARITHMETIC, NODE_IN, NODE_MATCH, NODE_IS_NULL, NODE_COALESCE, NODE_IF, NODE_CALL, NODE_ARRAY, NODE_MAP,
} node_kind_t;

typedef enum comparison { COMPARE_EQ, COMPARE_NE, COMPARE_LT, COMPARE_LE, COMPARE_GT, COMPARE_GE } comparison_t;
typedef enum arithmetic { ADD, SUBTRACT, MULTIPLY, DIVIDE, REMAINDER } arithmetic_t;

/* A step into a container: a name, or an index when name.data is NULL. */
typedef struct step {
    text_t name;
    int64_t index;
} step_t;

#define CONTAINER_MAX 256     /* items of an array literal, entries of a map literal */

struct function;

struct node {
    value_t (*eval)(const node_t *node, const row_t *row);
    bool (*test)(const node_t *node, const row_t *row);   /* as a condition: null is false; no boolean is an error and false */
    uint8_t kind, operation;
    bool negated;             /* IN, MATCH, IS_NULL */
    types_t types;            /* that it may give; without null when it never does */
    uint16_t count;           /* of arguments */
    uint16_t steps_count;
    uint16_t height;          /* of the tree below: bounded, so that evaluation's stack is too */
    uint32_t at, size;        /* in the program's text */
    uint32_t index;           /* FIELD: slot; VALUE: number */
    unsigned line, column;
    node_t **arguments;
    value_t constant;
    step_t *steps;            /* PATH */
    const struct function *function;
    void *data;               /* MATCH and some functions: the compiled pattern, ... */
    const char *owner;        /* the operator it belongs to, for reports */
};

static inline value_t evaluate(const node_t *node, const row_t *row) {
    return node->eval(node, row);
}

static inline bool evaluate_test(const node_t *node, const row_t *row) {
    return node->test(node, row);
}

static inline value_t row_field(const row_t *row, unsigned slot) {
    uint32_t at = row->places[slot].value;
    return at ? record_value(row->event.record + at, row->event.record + row->event.record_size) : value_null();
}

/* Sets eval and test of a checked node by its kind and arguments, choosing special forms for common cases. */
void node_bind(node_t *node);

/* Counts an error of this node, and gives null. */
value_t evaluation_failed(const node_t *node, const row_t *row, const char *format, ...) __attribute__((format(printf, 3, 4), cold));

/* The value packed for a place so many levels below what an event's bytes may have, its record being the first. What is nested too deeply for that no
 * reader would take: it is written as null, and counted as an error. */
void row_put_value(const row_t *row, value_t value, unsigned levels, buf_t *out);

/* Order of two values: -1, 0, 1. Numbers exactly whatever their types, strings bytewise, false before true, times; a time with a
 * text that is a time. */
#define ORDER_NONE 2          /* null or NaN takes part */
#define ORDER_MISMATCH 3      /* types that cannot be ordered */
int value_order(value_t a, value_t b);
bool value_equal(value_t a, value_t b);               /* different types are not equal, numbers excepted; null equals nothing */
double value_to_double(value_t number);               /* INT, UINT, DOUBLE */
static inline bool value_is_number(value_t value) {
    return (TYPES_NUMBER >> value.type) & 1;
}

/* Seconds as ns, rounded; false when out of range or NaN. */
bool seconds_to_ns(value_t seconds, int64_t *ns);
value_t ns_to_seconds(int64_t ns);                    /* an int when whole, else a double */

#endif
