#ifndef INGEST_PG_H
#define INGEST_PG_H

#include <libpq-fe.h>
#include <sys/epoll.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"
#include "net/loop.h"

/* One connection to a PostgreSQL server, within the loop: nothing blocks but the look-up of a host's name, which is libpq's. Callbacks may
 * free the connection, pause it, or ask again. Texts are UTF-8, times ISO and in UTC. */
typedef struct pg pg_t;

typedef struct pg_setup {
    loop_t *loop;
    const char *url;
    const char *password;          /* instead of the URL's; or NULL */
    const char *tls_ca, *tls_cert, *tls_key;
    bool replication;              /* for logical replication: simple statements only, and copying both ways */
    int64_t timeout;               /* for connecting, ns */
    void (*up)(void *argument);
    /* It could not be made, or was lost; the last call. The reason has the remedy where there is one, and no secret. */
    void (*down)(void *argument, const char *reason);
    void *argument;
} pg_setup_t;

pg_t *pg_new(const pg_setup_t *setup);                /* connecting; what comes of it is told later */
void pg_free(pg_t *pg);                               /* NULL is legal */

/* One row, its number is 0. */
typedef void pg_row_fn(void *argument, const PGresult *row);
/* The answer: error is NULL, or what the server said, and state its SQLSTATE ("" when there is none). */
typedef void pg_done_fn(void *argument, const PGresult *result, const char *error, const char *state);

/* One statement at a time. With parameters ($1...; NULL is null; in text, their types the server's to tell), or, when count is 0, one or more simple
 * statements. `row`, when not NULL, gets the rows one by one as they arrive, and done none of them. */
void pg_ask(pg_t *pg, const char *sql, int count, const char *const *parameters, pg_row_fn *row, pg_done_fn *done);

/* START_REPLICATION: from then on `data` gets the messages. An end is told as down. */
void pg_copy(pg_t *pg, const char *sql, void (*data)(void *argument, const char *bytes, size_t size));
void pg_send(pg_t *pg, const void *bytes, size_t size);               /* a message the other way */

/* LISTEN was asked: told for each notification. */
void pg_on_notify(pg_t *pg, void (*notified)(void *argument, const char *channel));

void pg_pause(pg_t *pg);                              /* reads no more; sending goes on */
void pg_resume(pg_t *pg);
int64_t pg_heard(const pg_t *pg);                     /* monotonic ns: when the server was last heard of */
PGconn *pg_connection(const pg_t *pg);                /* for what it knows: version, parameters, escapes */

/* What can be told wrong with an address. Its text is not repeated: it may hold secrets. */
int pg_check_url(const char *url, err_t *err);
/* A parameter of the URL ("dbname", "host"), or NULL; mem_free. */
char *pg_url_part(const char *url, const char *name);

/* "name", quoted as an identifier; 'text', as a literal. */
void pg_put_identifier(buf_t *out, text_t name);
void pg_put_literal(buf_t *out, text_t text);

#endif
