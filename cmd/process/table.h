#ifndef PROCESS_TABLE_H
#define PROCESS_TABLE_H

#include "base/err.h"
#include "data/value.h"

/* Tables that events are looked up in. What a file holds is first made into an image: the rows one behind another, with nothing but the key and the
 * wanted columns; then indexed, at 8 bytes a slot. An image says all there is to know of a table: it can be stored, and read back anywhere. */
typedef struct table_shape {
    text_t *keys;             /* columns that tell rows apart */
    unsigned key_count;
    text_t *columns, *names;  /* what else of a row is wanted, and what it is called then */
    unsigned column_count;    /* 0: everything but the keys */
    bool flat;                /* a row is an array of just these; else a map */
} table_shape_t;

/* Whether texts are looked up as what they read as: in CSV all is text that stands for something. */
bool table_infers(const char *source);
/* Whether the source can be read at all, by its name: -1 with the remedy. *name: what it is called; size 0 when that is no name. */
int table_check(const char *source, text_t *name, err_t *err);

/* Which content of the file was there: equal when nothing has changed. */
typedef struct table_version {
    uint64_t device, inode, size, log_size;
    int64_t modified, changed, log_modified;          /* log: SQLite's, beside the file */
} table_version_t;
int table_look(const char *source, table_version_t *version, err_t *err);

/* The whole file as an image, appended. Any row that cannot be read fails it: half a table is worse than the one before. */
typedef struct table_counts {
    uint64_t rows, without_key;
} table_counts_t;
int table_read(const char *source, const table_shape_t *shape, buf_t *image, table_counts_t *counts, err_t *err);

typedef struct table table_t;
table_t *table_new(text_t image, err_t *err);         /* copies it. Of rows with the same key the last counts */
void table_free(table_t *table);                      /* NULL is legal */
size_t table_memory(const table_t *table);
uint64_t table_rows(const table_t *table);            /* that can be found */

/* The row under a key (key_put of each of its columns): one packed element, borrowed; NULL when there is none. */
uint64_t table_hash(const void *key, size_t size);
void table_prefetch_slot(const table_t *table, uint64_t hash);        /* for several keys at a time: first this for all, */
void table_prefetch_row(const table_t *table, uint64_t hash);         /* then this, then table_find */
const uint8_t *table_find(const table_t *table, const void *key, size_t size, uint64_t hash, const uint8_t **end);

#endif
