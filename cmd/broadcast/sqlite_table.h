#ifndef BROADCAST_SQLITE_TABLE_H
#define BROADCAST_SQLITE_TABLE_H

#include <sqlite3.h>
#include <stdbool.h>

#include "base/err.h"
#include "data/frame.h"
#include "data/option.h"

/* A table of events in SQLite: "ts" and "stream" and a column per field, which are added as fields come; or one column with the whole event as
 * JSON. Used by one thread at a time. */
typedef struct sqlite_table sqlite_table_t;

typedef enum table_mode { TABLE_COLUMNS, TABLE_JSON } table_mode_t;
typedef enum table_time { TABLE_TIME_TEXT, TABLE_TIME_NS } table_time_t;

typedef struct sqlite_table_setup {
    const char *name;
    int mode, time;
    const option_list_t *columns;      /* NAME or NAME:TYPE; none: whatever comes */
    unsigned columns_max;              /* what comes beyond goes to the column "extra" as JSON */
    int64_t keep_rows, keep_for;       /* 0: all; keep_for in ns, by event time */
} sqlite_table_setup_t;

int sqlite_table_open(sqlite_table_t **table, sqlite3 *database, const sqlite_table_setup_t *setup, err_t *err);    /* made when missing */
/* Inserts one event, inside the caller's transaction. SQLITE_OK, or the code of the failure with *err; columns that were missing are added. */
int sqlite_table_insert(sqlite_table_t *table, const event_t *event, const char *stream, err_t *err);
int sqlite_table_prune(sqlite_table_t *table, err_t *err);            /* what is not to be kept */
void sqlite_table_rolled_back(sqlite_table_t *table);                 /* columns added since may be gone: looked at again */
void sqlite_table_close(sqlite_table_t *table);                       /* NULL is legal */

/* "NAME" with its quotes doubled. */
void sqlite_put_name(buf_t *out, const char *name);
int sqlite_run(sqlite3 *database, const char *sql, err_t *err);        /* returns SQLite's code */
int sqlite_fail(sqlite3 *database, const char *what, err_t *err);     /* fills *err; returns the extended code */

#endif
