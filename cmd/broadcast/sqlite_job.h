#ifndef BROADCAST_SQLITE_JOB_H
#define BROADCAST_SQLITE_JOB_H

#include <sqlite3.h>
#include <stdbool.h>

#include "base/err.h"
#include "data/frame.h"
#include "sqlite_table.h"

/* One transaction: rows, how far each sender has come, events refused. Everything here is the worker's while it runs. */
typedef struct sqlite_reached {
    const char *key;                   /* of the input; borrowed */
    const frame_t *frame;              /* the last one of its origin */
} sqlite_reached_t;

typedef struct sqlite_refused {
    uint32_t frame;                    /* index in the job */
    uint32_t index;                    /* of the event in the frame */
    bool poison;                       /* it made SQLite take the whole transaction back */
    event_t event;
    char *reason;
} sqlite_refused_t;

typedef struct sqlite_job {
    /* to do */
    frame_t **frames;                  /* borrowed; the sink's queue holds them */
    const char **keys;                 /* of their inputs; borrowed */
    uint32_t count, room;
    sqlite_reached_t *reached;
    uint32_t reached_count, reached_room;
    int64_t forget;                    /* refused events up to this row have become dead letters for good */
    bool keep_refused;                 /* in the table, until they have become dead letters */
    /* done */
    sqlite_refused_t *refused;
    uint32_t refused_count;
    int64_t last_refused;              /* row */
    bool begun_anew;                   /* the file was not there any more */
    bool failed;
    err_t err;
} sqlite_job_t;

typedef struct sqlite_store {
    sqlite3 *database;
    sqlite_table_t *table;
    const char *sink;                  /* its name, which its rows of _stream_progress bear */
    const char *path;                  /* as opened; borrowed, and so is what setup points to */
    bool full_sync, stale;             /* stale: something else has changed tables: to be opened anew */
    sqlite_table_setup_t setup;
    sqlite3_stmt *progress, *refuse, *forget;
} sqlite_store_t;

/* On failure it is to be closed as well. */
int sqlite_store_open(sqlite_store_t *store, const char *path, bool full_sync, const sqlite_table_setup_t *setup, err_t *err);
void sqlite_job_run(sqlite_store_t *store, sqlite_job_t *job);
void sqlite_job_clear(sqlite_job_t *job);             /* empty again, to be used for the next */
void sqlite_job_fini(sqlite_job_t *job);
/* What an earlier run has committed. */
int sqlite_store_reached(sqlite_store_t *store, void (*found)(void *argument, const char *key, const char *origin, uint64_t epoch, uint64_t number),
                         void *argument, err_t *err);
int sqlite_store_refused(sqlite_store_t *store,
                         void (*found)(void *argument, int64_t row, const char *key, const char *origin, uint64_t epoch, uint64_t number,
                                       const event_t *event, const char *reason),
                         void *argument, err_t *err);
void sqlite_store_close(sqlite_store_t *store);       /* may be opened again */

#endif
