#ifndef INGEST_LISTEN_PRIVATE_H
#define INGEST_LISTEN_PRIVATE_H

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "listen.h"

/* What listen.c (the listening socket, new connections, time) and listen_connection.c (a connection's bytes) share. */

#define READ_BYTES (64u * 1024)
#define SLACK 64                       /* decoders may look so far past the end */
#define LITTLE (4u * 1024)             /* left over: not worth a big buffer, nor that others wait for it */

struct connection {
    listener_t *listener;
    connection_t *next, **link;
    int fd;
    loop_watch_t *watch;
    tls_t *tls;                    /* NULL: plain */
    void *own;                     /* NULL: not opened yet */
    buf_t in, out;                 /* left over; unsent */
    size_t keeps;                  /* that its protocol has of what is unfinished */
    size_t counted;                /* of both, in the listener's sum */
    char place[ADDRESS_TEXT + 8];
    int64_t heard;                 /* monotonic ns of the last byte */
    int64_t deadline;              /* 0: none */
    bool shaking;                  /* TLS's handshake is not done */
    bool heard_text;               /* something has come, and it was no TLS */
    bool held;                     /* connection_pause */
    int64_t crowded_since;         /* 0: its last try to read found room */
    bool crowded;                  /* waits until there is room for what it would leave over */
    bool at_end;                   /* the peer has said all */
    bool unseen;                   /* data was not offered all there is, or only while paused */
    bool ending;                   /* connection_end */
    bool lingering;                /* all is said: what still comes is thrown away until the peer leaves */
    bool gone;                     /* to be freed */
};

struct listener {
    listener_setup_t setup;
    loop_watch_t *watch, *sweep, *pause_accept;
    connection_t *first;
    uint64_t kept;                 /* bytes left over, of all */
    connection_t *favoured;        /* goes on though they are too many */
    int64_t favoured_since;        /* others have waited for it, or it has brought READ_BYTES */
    size_t favoured_bytes;         /* that it has brought since then */
    unsigned count, shaking;       /* connections; those whose handshake is not done */
    int64_t paused_at;
    bool paused, reap, full;
    log_limit_t limit;
    uint8_t *space;
};

/* listen.c */
void listener_accept_more(listener_t *listener);               /* as many as there is room for */

/* listen_connection.c */
void connection_ready(void *argument, uint32_t events);
void connection_watch(connection_t *connection);               /* waits for what is of use now */
void connection_turn(connection_t *connection);                /* it was we who let it wait: what it has is offered again */
void connection_drop(connection_t *connection);                /* freed later: callers are still at work with it */
void connection_free(connection_t *connection);
void connections_reap(void *argument);                         /* frees those that were dropped; of a listener */

#endif
