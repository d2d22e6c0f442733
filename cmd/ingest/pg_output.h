#ifndef INGEST_PG_OUTPUT_H
#define INGEST_PG_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "base/text.h"

/* The messages of PostgreSQL's logical replication, plugin pgoutput, protocol version 1
 * (https://www.postgresql.org/docs/15/protocol-logicalrep-message-formats.html). Every length is checked. */
#define OUTPUT_COLUMNS_MAX 1700        /* a table has at most 1600 */

typedef struct output_field {
    char kind;                         /* t: text; n: null; u: unchanged, and not sent, as it is stored apart (TOAST) */
    text_t text;                       /* borrowed from the message */
} output_field_t;

typedef struct output_row {
    unsigned count;                    /* 0: there is none */
    output_field_t fields[OUTPUT_COLUMNS_MAX];
} output_row_t;

typedef struct output_column {
    char *name;
    uint32_t type;
    bool key;                          /* part of the replica identity */
} output_column_t;

typedef struct output_relation {
    char *schema, *table;
    bool wanted;                       /* the caller's */
    unsigned count;
    output_column_t *columns;
} output_relation_t;

/* One message. kind is its letter: B begin, C commit, R relation (now known), I insert, U update, D delete, T truncate; O origin, Y type and
 * M message are checked and otherwise left alone. */
typedef struct output {
    char kind;
    uint64_t lsn;                      /* B, C: of the commit record */
    uint64_t end;                      /* C: of what comes behind the transaction */
    int64_t time;                      /* B, C: of the commit, ns since 1970 */
    uint32_t xid;                      /* B */
    output_relation_t *relation;       /* R, I, U, D */
    char old_kind;                     /* U, D: K, the key alone; O, all columns; 0, none */
    output_row_t old, new;
    unsigned truncated;                /* T: so many relations */
    output_relation_t **truncations;   /* T: borrowed until the next message */
} output_t;

typedef struct output_decoder {
    map_t *relations;
    output_relation_t **truncations;
    output_t message;
} output_decoder_t;

void output_decoder_init(output_decoder_t *decoder);
void output_decoder_fini(output_decoder_t *decoder);
void output_forget(output_decoder_t *decoder);        /* the relations: each connection tells them anew */
/* Decodes one message into decoder->message. */
int output_decode(output_decoder_t *decoder, const uint8_t *bytes, size_t size, err_t *err);

#endif
