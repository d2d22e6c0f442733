#ifndef PROCESS_SCHEMA_PRIVATE_H
#define PROCESS_SCHEMA_PRIVATE_H

#include "data/lang/pattern.h"
#include "schema.h"

/* What reading schemas and checking values share. */
#define SCHEMA_DEPTH 64       /* of schemas within schemas */
#define TYPE_WHOLE ((types_t) (1u << 15))           /* beside the types of values: a whole number, be it a double */

typedef struct property {
    text_t name;
    struct schema *schema;    /* NULL: none of its own */
    bool required;
} property_t;

typedef enum combination { ALL_OF, ANY_OF, ONE_OF, NOT } combination_t;
typedef struct combined {
    combination_t kind;
    struct schema **schemas;
    unsigned count;
} combined_t;

typedef bool format_fn(text_t text);

struct schema {
    arena_t *arena;           /* of the whole; owned by the outermost */
    bool outermost, never;    /* never: the schema false */
    types_t types;            /* 0: any */
    text_t types_text;        /* "type string or null" */
    value_t *values;          /* enum and const */
    unsigned value_count;
    bool constant;
    property_t *properties;
    unsigned property_count;
    bool closed;              /* additionalProperties: false */
    struct schema *additional, *items;
    value_t minimum, maximum; /* null: none */
    bool above, below;        /* they themselves are too small, too great */
    int64_t counts[6];        /* by the keywords below; -1: none */
    pattern_t *pattern;
    text_t pattern_text;
    format_fn *format;
    text_t format_name;
    combined_t *combined;
    unsigned combined_count;
};

enum { MIN_LENGTH, MAX_LENGTH, MIN_ITEMS, MAX_ITEMS, MIN_PROPERTIES, MAX_PROPERTIES };
extern const char *const schema_counts[6];            /* the keywords */
format_fn *schema_format(text_t name);                /* NULL: unknown */
extern const char schema_formats[];                   /* for hints */

#endif
