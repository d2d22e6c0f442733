#ifndef INGEST_WIRE_H
#define INGEST_WIRE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/err.h"
#include "net/loop.h"

/* A connection of bytes to a server, plain or with TLS, within the loop: looking up its name, connecting and the TLS handshake are libcurl's and
 * do not block. The server's certificate and host are always verified. Callbacks may pause or free it. */
typedef struct wire wire_t;

/* A server, and how it is connected to. Strings are borrowed for as long as whoever takes it says. */
typedef struct wire_peer {
    const char *host;              /* an IPv6 address without brackets */
    unsigned port;
    bool tls;
    const char *tls_ca;            /* NULL: the system's certificates */
    const char *tls_cert, *tls_key;
    int64_t timeout;               /* ns, for connecting */
} wire_peer_t;

typedef struct wire_setup {
    loop_t *loop;
    wire_peer_t peer;
    bool proxied;                  /* a proxy may stand in between */
    const char *proxy;             /* with proxied: its URL; NULL: what the environment says (http_proxy, https_proxy, no_proxy) */
    const char *plain, *secure;    /* literals: the schemes without TLS and with it ("mqtt://"), for errors */
    bool last_bytes;               /* what came before the server went away is read, even when that is noticed first: the server will not send it again */
    void (*up)(void *argument);
    void (*ready)(void *argument); /* wire_read may have something */
    void (*down)(void *argument, const char *reason); /* could not be made, or was lost; the last call */
    void *argument;
} wire_setup_t;

wire_t *wire_new(const wire_setup_t *setup);          /* connecting; strings are borrowed for the call */
void wire_free(wire_t *wire);                         /* NULL is legal */

/* Bytes that have come: how many; 0: none now; -1: the connection has ended, and down will tell. A server that leaves 1 MiB of ours untaken is not read
 * until it takes some. */
ssize_t wire_read(wire_t *wire, void *space, size_t size);
/* Sends the bytes, or keeps them until they can be sent. */
void wire_write(wire_t *wire, const void *bytes, size_t size);

/* For the words of `down`: what a plain connection that ended before a byte came may mean ("; if it speaks TLS there, take mqtts://"), else "". */
const char *wire_hint(const wire_t *wire);

int wire_fd(const wire_t *wire);                      /* the socket, for waiting at the end of a run; -1: none is up */
void wire_pause(wire_t *wire);                        /* reads no more; sending goes on; NULL is legal */
void wire_resume(wire_t *wire);

#endif
