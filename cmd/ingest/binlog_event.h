#ifndef INGEST_BINLOG_EVENT_H
#define INGEST_BINLOG_EVENT_H

#include "base/err.h"
#include "binlog_value.h"

/* Events of the binary log of MariaDB as a replica gets them (https://mariadb.com/kb/en/replication-protocol/). Nothing here trusts a length, and
 * nothing keeps a pointer into an event but binlog_event_t, binlog_query_t and binlog_rows_t. */
#define BINLOG_COLUMNS_MAX 4096        /* what a table can have */
#define BINLOG_WORDS_MAX 65536         /* the same of an ENUM */

typedef enum binlog_type {
    BINLOG_QUERY = 2, BINLOG_FORMAT = 15, BINLOG_XID = 16, BINLOG_LOAD_QUERY = 18, BINLOG_TABLE = 19, BINLOG_XA_PREPARE = 38, BINLOG_GTID = 162,
    BINLOG_QUERY_COMPRESSED = 165,
} binlog_type_t;

typedef struct binlog_event {
    uint8_t type;                      /* binlog_type_t, one of binlog_is_rows, or anything else */
    uint32_t time, server;             /* s since 1970; of the server that wrote it first */
    const uint8_t *body;
    size_t size;
} binlog_event_t;

/* *checksums: whether events end with one; kept from event to event, as the log says. */
int binlog_event_read(binlog_event_t *event, const uint8_t *bytes, size_t size, bool *checksums, err_t *err);

typedef struct binlog_gtid {
    uint32_t domain, server;
    uint64_t sequence;
} binlog_gtid_t;

/* *single: one statement follows, and nothing that ends a transaction. */
int binlog_gtid_read(binlog_gtid_t *gtid, bool *single, const binlog_event_t *event, err_t *err);

typedef struct binlog_query {
    text_t database, statement;        /* the statement is borrowed from the event or from `space` */
} binlog_query_t;
int binlog_query_read(binlog_query_t *query, const binlog_event_t *event, buf_t *space, err_t *err);
/* TRUNCATE [TABLE] [DATABASE.]TABLE. False: it is another statement. The names are appended, each with a NUL; the first may be "". */
bool binlog_truncates(text_t statement, buf_t *database, buf_t *table);
bool binlog_begins(text_t statement, const char *words);              /* in upper case; comments and blanks before them do not count */

/* A table, from the event that describes it. */
typedef struct binlog_table {
    char *schema, *name;
    unsigned count;
    binlog_column_t *columns;
    bool named;                        /* the log tells the columns' names (binlog_row_metadata=FULL) */
    bool wanted;                       /* the caller's */
    buf_t raw;                         /* the event */
} binlog_table_t;
uint64_t binlog_table_id(const binlog_event_t *event);                /* of a table's or rows' event; UINT64_MAX: it is cut off */
binlog_table_t *binlog_table_read(const binlog_event_t *event, err_t *err);   /* NULL and an error */
void binlog_table_free(binlog_table_t *table);

/* Rows: begin, then next until it is not 1. */
typedef struct binlog_rows {
    char kind;                         /* I, U, D */
    const binlog_table_t *table;
    bytes_t reader;
    const uint8_t *before, *after;     /* bits: which columns there are */
    buf_t *space;
} binlog_rows_t;
bool binlog_is_rows(uint8_t type);
int binlog_rows_begin(binlog_rows_t *rows, const binlog_event_t *event, const binlog_table_t *table, buf_t *space, err_t *err);
/* 1: a row; its old and new values are appended as packed maps, as far as the kind has them. 0: the end. -1: the rest cannot be read. */
int binlog_rows_next(binlog_rows_t *rows, buf_t *old, buf_t *new, err_t *err);

#endif
