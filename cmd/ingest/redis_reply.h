#ifndef INGEST_REDIS_REPLY_H
#define INGEST_REDIS_REPLY_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/text.h"

/* The protocol of Redis, RESP2 (https://redis.io/docs/reference/protocol-spec): commands, and replies as they stand in a buffer. */

/* One element of a reply; of an array its head only. */
typedef enum redis_type {
    REDIS_STATUS,                  /* text */
    REDIS_ERROR,                   /* text */
    REDIS_INTEGER,                 /* number */
    REDIS_STRING,                  /* text */
    REDIS_NULL,                    /* a string or an array that is not there */
    REDIS_ARRAY,                   /* number: of elements that follow */
} redis_type_t;

typedef struct redis_item {
    redis_type_t type;
    text_t text;                   /* borrowed from the data */
    int64_t number;
} redis_item_t;

/* Reads the element in front. Returns its bytes (of an array: of its head); 0: it is not whole yet; -1: this is no RESP2. */
ssize_t redis_read(redis_item_t *item, const char *data, size_t size);

/* A walk over a whole element with all that it has inside, which may come bit by bit. Begin with {.left = 1}. */
typedef struct redis_scan {
    uint64_t left;                 /* elements still to come */
    uint64_t skip;                 /* bytes of a string still to come */
    size_t at;                     /* bytes of the data looked at */
} redis_scan_t;
/* Looks at the data behind `at`. 1: the element ends at `at`; 0: it goes on; -1: this is no RESP2. Data in front of `at` may be dropped in
 * between: set `at` to 0 then. */
int redis_scan(redis_scan_t *scan, const char *data, size_t size);

/* Walking a whole element, which redis_scan has found to be one. */
typedef struct redis_cursor {
    const char *at, *end;
} redis_cursor_t;
bool redis_next(redis_cursor_t *cursor, redis_item_t *item);       /* false: there is none */
bool redis_next_text(redis_cursor_t *cursor, text_t *text);        /* false: it is no string */
bool redis_skip(redis_cursor_t *cursor);                           /* a whole element */

/* Commands: the number of words, then each. */
void redis_put_command(buf_t *out, size_t words);
void redis_put_word(buf_t *out, text_t word);
void redis_put_number(buf_t *out, int64_t number);

/* Identifiers of stream entries: milliseconds and a number. */
typedef struct redis_id {
    uint64_t ms, number;
} redis_id_t;
bool redis_id_read(redis_id_t *id, text_t text);      /* "1526919030474-55", "1526919030474" */
#define REDIS_ID_TEXT 44
size_t redis_id_print(char text[REDIS_ID_TEXT], redis_id_t id);    /* NUL-terminated; the length */
static inline int redis_id_compare(redis_id_t a, redis_id_t b) {
    return a.ms != b.ms ? (a.ms < b.ms ? -1 : 1) : (a.number > b.number) - (a.number < b.number);
}

#endif
