#ifndef INGEST_HTTP_SERVER_H
#define INGEST_HTTP_SERVER_H

#include "base/text.h"
#include "listen.h"

/* A small, strict HTTP/1.1 server (RFC 9110, 9112; HTTP/1.0 too) for requests with bounded bodies. A connection's requests are answered one after
 * the other; whatever leaves room for two readings of a request (two lengths, a folded header, a bare line feed) is refused and the connection
 * closed. */
typedef struct http_server http_server_t;
typedef struct http_exchange http_exchange_t;         /* a connection, and its present request */

typedef struct http_server_setup {
    loop_t *loop;
    const char *rest;              /* where to listen: what stands behind the scheme of a URL; borrowed for the call */
    const tls_files_t *tls;        /* lives as long as the server */
    unsigned connections;
    int64_t idle;                  /* between requests, ns; 0: for ever */
    int64_t timeout;               /* for a request, from its first byte to its last, ns */
    uint64_t body_limit;
    uint64_t memory;               /* bytes for all requests that are not answered yet: beyond it one after the other is read, */
    int64_t patience;              /* and one that has waited for that for so long, ns, is refused */
    /* What the head alone tells to be wrong: a status, and in *text why; 0: go on. The body of a refused request is not read. */
    int (*refuse)(void *argument, http_exchange_t *exchange, const char **text);
    /* A whole request: to be answered now or later by http_answer. */
    void (*request)(void *argument, http_exchange_t *exchange);
    void (*closed)(void *argument, http_exchange_t *exchange);       /* the exchange ends, answered or not */
    void *argument;
} http_server_setup_t;

struct http_exchange {
    http_server_t *server;
    connection_t *connection;

    /* the present request: valid until it is answered */
    text_t method, path, query;    /* the path as it was sent; the query without its '?' */
    text_t authorization, content_type, content_encoding;            /* values of headers; empty: none */
    buf_t body;

    /* the user's */
    void *own;

    /* the server's */
    buf_t head;
    int phase;
    uint64_t remaining;
    size_t trailer;
    bool old, keep, chunked, waits;
};

http_server_t *http_server_new(const http_server_setup_t *setup, err_t *err);        /* NULL: there is nothing to listen on */
void http_server_free(http_server_t *server);         /* NULL is legal */

/* headers: further lines, each with its "\r\n", or NULL. The body is JSON. */
void http_answer(http_exchange_t *exchange, int status, const char *headers, text_t body);
/* The request's body is not needed any more, though it is not answered yet. */
void http_body_done(http_exchange_t *exchange);
/* {"error": text} */
void http_answer_error(http_exchange_t *exchange, int status, const char *headers, const char *text);

#endif
