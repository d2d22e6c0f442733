#ifndef INGEST_SQLITE_H
#define INGEST_SQLITE_H

#include <pthread.h>
#include <sqlite3.h>

#include "rows.h"

/* What reading a SQLite database by a query (src_sqlite.c) and by triggers (sqlite_trigger.c) share. */
typedef struct sqlite_settings {
    int mode;                          /* 0: poll, 1: trigger */
    char *query, *cursor, *initial;
    option_list_t tables;
    bool once, drop, keep;
    int64_t interval, busy_timeout, retry_min, retry_max;
} sqlite_settings_t;

typedef struct sqlite_reader {
    const sqlite_settings_t *settings;
    char *path;
    char *sql;
    sqlite3 *database;
    pthread_mutex_t lock;              /* of `database`, for sqlite_interrupt */
    bool worked;                       /* the query has, once */
} sqlite_reader_t;

int sqlite_open(sqlite_reader_t *self, int flags, err_t *err);
void sqlite_close(void *self);
void sqlite_interrupt(void *self);
void sqlite_reader_free(void *self);
int sqlite_fail(const sqlite_reader_t *self, const char *what, err_t *err);     /* -1, with SQLite's words */
void sqlite_put_identifier(buf_t *out, text_t name);

extern const rows_driver_t sqlite_trigger_driver;

#endif
