#ifndef INGEST_PG_CAPTURE_H
#define INGEST_PG_CAPTURE_H

#include "pg_output.h"
#include "postgres.h"
#include "run/metrics.h"

/* Change data capture, shared by its parts: pg_capture.c (connections and what is set up), pg_snapshot.c (the rows that were there before),
 * pg_stream.c (changes), pg_place.c (the position). */
#define KEY_MAX 8                      /* columns of a primary key by which a table can be read on */
#define SEGMENTS_MAX 1000

/* Tables are read in the order of schema and name, and each by its primary key: all up to here has been read. */
typedef struct place {
    char *schema, *table;              /* NULL: nothing */
    unsigned count;                    /* columns of the key; 0: the table is complete */
    char kinds[KEY_MAX + 1];           /* of each: i integer, b compared by bytes, c text, compared by bytes where the server is told so */
    char *names[KEY_MAX], *values[KEY_MAX];
} place_t;

/* What was read in one go, between the end of the segment before and `upto`, is as it was at `lsn`: changes of these rows that were committed
 * before that are in it. More than one: the snapshot was interrupted, and read on from a later one. */
typedef struct segment {
    uint64_t lsn;
    bool all;                          /* to the end */
    place_t upto;
} segment_t;

typedef struct snapshot_table {
    char *schema, *table, *columns, *filter;
    bool partitioned;
    place_t key;                       /* names and kinds of the primary key, values NULL; count 0: it cannot be read on */
} snapshot_table_t;

typedef struct capture {
    postgres_base_t base;
    char *slot, *publication;
    pg_t *catalog;                     /* for statements and the snapshot */
    pg_t *stream;                      /* for replication */
    loop_watch_t *tick;
    bool catalog_ready;                /* up, and nothing asked */
    bool streaming, heard;             /* changes come; the first message has */
    bool slot_exists, temporary;       /* the snapshot was exported by a second slot */
    bool identities_told;              /* of tables that cannot be updated while they are published, if there are any */
    int64_t status_interval, silence;  /* ns */
    bool utf8;
    bool types_wanted;                 /* the stream waits for types it has met */
    metric_t *lag;

    /* snapshot */
    snapshot_table_t *tables;
    size_t table_count, table;
    int key_columns[KEY_MAX];
    bool table_begun;

    /* position */
    bool known;                        /* restored, or made in this run */
    bool snapshot_done;
    char *system;                      /* identifier of the server's data; "" before it is known */
    segment_t *segments;
    size_t segment_count;
    uint64_t commit, changes;          /* the last transaction that was begun to be passed on: its commit's LSN, and how many of its changes */
    bool complete;                     /* it was passed on whole */
    uint64_t passed;                   /* LSN behind the last one that was */

    /* the transaction under way */
    output_decoder_t decoder;
    bool inside, skipped;
    uint64_t number, skip;             /* of its present change; so many were passed on before */
    uint64_t tx_lsn;
    int64_t tx_time;
    uint32_t tx_xid;

    /* what the server is told */
    uint64_t received, durable, told;
    bool all_durable;
} capture_t;

/* pg_capture.c */
void capture_lost(capture_t *self, const char *reason);               /* both connections are closed, and made again later */
void capture_stream(capture_t *self);                 /* the snapshot is read: changes come next */

/* pg_snapshot.c */
void snapshot_list(capture_t *self);                  /* asks for the tables, then snapshot_listed */
void snapshot_listed(capture_t *self);                /* pg_capture.c: goes on */
void snapshot_read(capture_t *self, const char *name, uint64_t lsn);  /* as of an exported snapshot; NULL: as of now */
void snapshot_tables_free(capture_t *self);
bool snapshot_covers(const capture_t *self, const output_relation_t *relation, const output_row_t *row);   /* the change is in what was read */
void snapshot_forget(capture_t *self);                /* the segments */

/* pg_stream.c */
void stream_begin(capture_t *self);
void stream_data(void *argument, const char *bytes, size_t size);
void stream_status(capture_t *self, bool reply);
void stream_put_lsn(buf_t *out, uint64_t lsn);        /* "0/16B3748" */
bool stream_read_lsn(const char *text, uint64_t *lsn);

/* pg_place.c */
void place_fini(place_t *place);
void place_copy(place_t *to, const place_t *from);
void capture_position(const source_t *source, buf_t *out);
int capture_restore(source_t *source, const uint8_t *position, size_t size, err_t *err);
void capture_acknowledge(source_t *source, const uint8_t *position, size_t size);

#endif
