#ifndef INGEST_BINLOG_PLACE_H
#define INGEST_BINLOG_PLACE_H

#include "binlog_event.h"

/* A place in the binary log of MariaDB that holds on every server of a replication, over restarts and other names of files: of each domain the last
 * transaction that was passed on whole ("0-1-99,1-2-5"), and of the one behind it, if it was begun, how many changes were ("0-1-99 0-1-100+17"). */
#define BINLOG_DOMAINS_MAX 1000

typedef struct binlog_place {
    binlog_gtid_t *done;               /* by domain, in the order they came */
    size_t count;
    binlog_gtid_t under_way;
    uint64_t changes;                  /* of it; 0: none is under way */
} binlog_place_t;

/* The caller's storage; zero-initialise. Read leaves the place as it was when the text is none. */
int binlog_place_read(binlog_place_t *place, text_t text, err_t *err);
void binlog_place_put(const binlog_place_t *place, buf_t *out);       /* the transactions that are done */
void binlog_place_put_under_way(buf_t *out, const binlog_gtid_t *gtid);
void binlog_gtid_put(buf_t *out, const binlog_gtid_t *gtid);
int binlog_place_done(binlog_place_t *place, const binlog_gtid_t *gtid, err_t *err);      /* -1: there are too many domains */
bool binlog_place_has(const binlog_place_t *place, uint32_t domain);
void binlog_place_fini(binlog_place_t *place);

#endif
