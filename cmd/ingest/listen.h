#ifndef INGEST_LISTEN_H
#define INGEST_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "net/loop.h"
#include "net/tls.h"

/* A listening socket and its connections. Backpressure is not reading: the peer's sends wait.
 *
 * Handshakes of TLS are bounded in time (10 s) and number (64 at once, --connections at most): when there is no room for another connection, a
 * handshake that has taken more than a second gives way to it. */
typedef struct listener listener_t;
typedef struct connection connection_t;

typedef struct listener_setup {
    loop_t *loop;
    int fd;                        /* the listener's from now on; listener_at fills it in */
    const char *scheme;            /* "tcp", for places; static */
    unsigned connections;          /* open at once at most; others wait in the kernel's queue */
    int64_t idle;                  /* ns: a connection on which nothing comes for so long is ended; 0: never */
    /* Bytes that what all connections have left over, and what their protocol keeps of it (connection_keeps), may take; beyond it one of them goes on
     * alone until that is used, and the others wait. 0: unbounded.
     * When less than 64 KiB come on that one in 10 s, while others wait, it is ended as an idle one is. */
    uint64_t memory;
    int64_t patience;              /* ns that one waits for that before `crowded` is called and it is ended; 0: for ever */
    const char *tls_option;        /* how TLS is turned on, for the client that speaks it in vain; NULL: this protocol has none; static */
    bool answers;                  /* the protocol itself has an answer for what is none of it: such a client gets that */
    tls_server_t *tls;             /* the listener's from now on; NULL: plain. Connections exist for their protocol when their handshake is done */
    /* What a new connection is to its protocol. */
    void *(*opened)(void *argument, connection_t *connection);
    /* Uses bytes from the front and returns how many. What it leaves is kept, and it is called again when there is more behind it, after
     * listener_resume or connection_resume, or with at_end when no more will come (until it has used all, or uses nothing). It leaves
     * no more than a bounded number of bytes while it is not paused. */
    size_t (*data)(void *own, const char *data, size_t size, bool at_end);
    void (*expired)(void *own);    /* idle, or beyond connection_limit: may say so with connection_put. May be NULL */
    void (*crowded)(void *own);    /* there was no room for it: may say so with connection_put. May be NULL */
    /* Nothing is under way on it: after a second of that it gives way to a new connection when there is no room for both. NULL: none does. */
    bool (*spare)(void *own);
    void (*closed)(void *own);     /* the last call: frees own */
    void *argument;
} listener_setup_t;

listener_t *listener_new(const listener_setup_t *setup);             /* paused */
/* A socket where a source's URL says, and its listener, which is not paused: `rest` is what stands behind the URL's scheme, `port` what counts when
 * that names none (0: it must); `files` name a certificate when it is to speak TLS. Tells in the log where that is. NULL: there is nothing to listen
 * on, or the files are no good. */
listener_t *listener_at(const listener_setup_t *setup, const char *rest, uint16_t port, const tls_files_t *files, err_t *err);
void listener_pause(listener_t *listener);            /* legal inside data */
void listener_resume(listener_t *listener);
void listener_free(listener_t *listener);             /* ends all connections; NULL is legal */
unsigned listener_connections(const listener_t *listener);

/* "tcp 127.0.0.1:40000"; lives as long as the connection. */
const char *connection_place(const connection_t *connection);
void connection_pause(connection_t *connection);      /* this one alone is not read */
void connection_resume(connection_t *connection);
/* Sends, as fast as the peer takes it; while it takes nothing, it is not read either. */
void connection_put(connection_t *connection, const void *bytes, size_t size);
/* No more is read; when all that was put is sent, it is closed. Legal inside data. */
void connection_end(connection_t *connection);
/* So many bytes of what is unfinished are with its protocol now, and count as what is left over does. Legal inside data. */
void connection_keeps(connection_t *connection, size_t bytes);
/* However many bytes come meanwhile, the peer has so long until this is called again; 0: for ever. */
void connection_limit(connection_t *connection, int64_t ns);

#endif
