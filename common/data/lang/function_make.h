#ifndef DATA_LANG_FUNCTION_MAKE_H
#define DATA_LANG_FUNCTION_MAKE_H

#include "base/zone.h"
#include "data/lang/function.h"

/* What the implementations of functions share: names for their tables' columns, and how results are made. What a function makes lives in the
 * row's arena; nothing is allocated per event. */
#define NUMBER TYPES_NUMBER
#define INTEGER TYPES_INTEGER
#define TEXT TYPES_TEXT
#define BOOL TYPE(VALUE_BOOL)
#define INT TYPE(VALUE_INT)
#define DOUBLE TYPE(VALUE_DOUBLE)
#define TIME TYPE(VALUE_TIME)
#define ARRAY TYPE(VALUE_ARRAY)
#define MAP TYPE(VALUE_MAP)
#define BYTES ((types_t) (TEXT | TYPE(VALUE_BINARY)))
#define ANY TYPES_ANY
#define MANY FUNCTION_ARGUMENTS
#define ALL(type) {type, type, type}

#define FUNCTION(name) static value_t name(const node_t *node, const row_t *row, const value_t *arguments, unsigned count)

#define RESULT_MAX (1u << 20)     /* bytes of a text, array or map that a function makes */
#define ITEMS_MAX (1u << 16)      /* items of an array that is sorted or compared item by item */

value_t function_too_long(const node_t *node, const row_t *row);      /* an error: a result above RESULT_MAX */
value_t function_number(const node_t *node, const row_t *row, double number);   /* NaN and infinity: an error, null */
value_t function_text(const row_t *row, const char *data, size_t size);         /* a copy */

/* An empty buffer to put a result together in. It is the context's: no argument may be evaluated between this and what takes the result. */
buf_t *function_buffer(const row_t *row);
/* What is in the buffer: a text; an array of so many packed items; a map of so many packed keys and values. An error above RESULT_MAX. */
value_t function_made_text(const node_t *node, const row_t *row, const buf_t *text);
value_t function_made_array(const node_t *node, const row_t *row, const buf_t *items, uint32_t count);
value_t function_made_map(const node_t *node, const row_t *row, const buf_t *entries, uint32_t count);

/* What is in a packed array or map, one after the other. */
typedef struct items {
    pack_cursor_t cursor;
    uint32_t count;           /* items, or entries; 0 when malformed */
} items_t;
typedef struct item {
    value_t value;            /* the item, or the entry's key */
    const uint8_t *at;        /* its bytes, with those of an entry's value */
    uint32_t size, index;
    unsigned source;          /* the container that it came from */
} item_t;
typedef struct item_list {
    item_t *items;            /* in the row's arena */
    uint32_t count;
} item_list_t;
items_t items_of(value_t container);
bool items_next(items_t *items, item_t *item);                /* false: malformed */
bool items_next_entry(items_t *items, item_t *item);
/* All that is in some containers of one kind. False after an error: above ITEMS_MAX. */
bool items_read(const node_t *node, const row_t *row, const value_t *containers, unsigned count, item_list_t *list);
/* By value_rank; equal ones stay in order. */
void items_sort(item_list_t *list);
/* A total order: null, false, true, numbers (NaN first), texts, times, binaries, arrays, maps (those by their bytes). Below, above or 0. */
int value_rank(value_t a, value_t b);

void function_put_text(buf_t *out, value_t value);    /* texts as they are, nulls as nothing, all else as JSON without quotes */

/* For messages: "%.*s" of at most 40 bytes. */
#define SHOWN(value) ((value).size > 40 ? 40 : (int) (value).size), (value).text

/* Characters (code points) of texts. */
static inline bool utf8_inner(char byte) {            /* not a character's first byte */
    return ((unsigned char) byte & 0xC0) == 0x80;
}
uint32_t text_characters(const char *text, size_t size);
uint32_t text_place(value_t text, uint64_t index);    /* the byte where character number `index` begins; the size when there are fewer */

/* start and length, the second and third argument, as positions in 0..total. */
void function_bounds(const value_t *arguments, unsigned count, uint32_t total, uint32_t *start, uint32_t *end);

value_t function_hex(const row_t *row, const uint8_t *bytes, size_t size);     /* in hexadecimal digits */
int hex_digit(char c);                                /* -1: none */
/* Percent escapes resolved, and + to a blank; out has room for all of the text. Returns the size. */
size_t url_unescape(char *out, text_t text, bool plus);
bool number_of_text(value_t text, value_t *number);   /* an integer where it is one, else a double */

/* The zone that the last of the arguments that a function may have names: read at once where it is constant, else when an event asks for it. UTC
 * when it is not given; NULL after an error. */
int prepare_zone(parser_t *parser, node_t *node);
const zone_t *function_zone(const node_t *node, const row_t *row, const value_t *arguments, unsigned count);

/* What texts and arrays have in common, for arrays. */
int64_t array_index(value_t array, value_t item);     /* of the first equal one; -1: none */
value_t array_reversed(const node_t *node, const row_t *row, value_t array);

#endif
