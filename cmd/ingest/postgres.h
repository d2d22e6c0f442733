#ifndef INGEST_POSTGRES_H
#define INGEST_POSTGRES_H

#include "net/backoff.h"
#include "pg.h"
#include "pg_value.h"
#include "source.h"

/* What the ways to read a PostgreSQL database share. Each is a source of its own behind the same URL and options. */
typedef enum pg_mode { PG_MODE_CDC, PG_MODE_POLL, PG_MODE_TRIGGER } pg_mode_t;

typedef struct postgres_settings {
    int mode;                          /* pg_mode_t */
    option_list_t tables, schemas;
    /* poll */
    char *query, *cursor, *initial;
    int64_t interval, hold;
    bool once, safe;
    /* cdc */
    char *slot, *publication;
    int snapshot;                      /* 0: initial, 1: never */
    bool commit_time;
    /* cdc, trigger */
    bool drop;
    /* all */
    int numeric;                       /* numeric_form_t */
    char *password, *tls_ca, *tls_cert, *tls_key;
    int64_t connect_timeout, retry_min, retry_max;
} postgres_settings_t;

/* The part of each source that connects: embedded, after the source itself. */
typedef struct postgres_base {
    source_t source;
    source_setup_t setup;
    const postgres_settings_t *settings;
    char *place;                       /* the URL for people */
    char *database;
    backoff_t backoff;
    loop_watch_t *retry;
    pg_types_t types;
    bool paused;
} postgres_base_t;

void postgres_base_init(postgres_base_t *base, const source_setup_t *setup, const source_class_t *class);
void postgres_base_fini(postgres_base_t *base);
pg_t *postgres_connect(postgres_base_t *base, bool replication, void (*up)(void *), void (*down)(void *, const char *));
/* Says why, and calls `again` (with the source) after a wait that grows. */
void postgres_retry(postgres_base_t *base, const char *reason, loop_fn *again);
/* An event larger than a frame may be is a dead letter. The record is in the builder since `begin`. */
bool postgres_fits(const postgres_base_t *base, const frame_builder_t *builder, const char *place);
/* A string, or an unsigned number, of a stored position. */
bool postgres_position_text(const uint8_t *position, size_t size, const char *key, text_t *text);
bool postgres_position_uint(const uint8_t *position, size_t size, const char *key, uint64_t *number);
/* "schema.table" or "table" as an identifier. */
void postgres_put_table(buf_t *out, const char *name);
/* "there is no table orders (--table)" when that is what the server's error says; else NULL. mem_free it. state: its SQLSTATE, may be NULL. */
char *postgres_missing(const char *error, const char *state);

int pg_poll_open(source_t **source, const source_setup_t *setup, err_t *err);
int pg_capture_open(source_t **source, const source_setup_t *setup, err_t *err);
int pg_trigger_open(source_t **source, const source_setup_t *setup, err_t *err);

#endif
