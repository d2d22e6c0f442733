#ifndef INGEST_NATS_READER_H
#define INGEST_NATS_READER_H

#include <nats/nats.h>

#include "nats_stream.h"
#include "net/loop.h"

/* Messages of a NATS server, brought by libnats on threads of its own and handed over to the loop through a queue that is bounded in bytes. Whatever
 * may block is done in one more thread: connecting, asking for messages, acknowledging.
 *
 * A session is a connection with its subscriptions. It begins with nats_reader_go; after a loss `down` is called and nothing happens until the next
 * nats_reader_go, which tells from where on messages are wanted: so what was under way is not counted twice. */
typedef struct nats_reader nats_reader_t;

typedef struct nats_reader_setup {
    loop_t *loop;
    const char *const *servers;    /* "nats://host:port", without users and passwords */
    size_t server_count;
    bool tls;
    const char *tls_ca, *tls_cert, *tls_key;
    const char *user, *password, *token, *nkey, *creds;
    const char *name;              /* of the connection, for the server's lists */
    int64_t timeout;               /* ns, for connecting and for the server's answers */
    int64_t keepalive;             /* ns of silence before the connection is tested; 0: never */
    int64_t retry_min, retry_max;
    const char *const *subjects;   /* NATS without JetStream */
    size_t subject_count;
    const char *queue;             /* group, or NULL */
    nats_stream_setup_t stream;    /* with JetStream: its name is not NULL */

    /* From the loop. */
    void (*ready)(void *argument);                    /* nats_reader_next may have something */
    void (*up)(void *argument, const nats_stream_t *stream);        /* a session has begun; with JetStream: of what it consists */
    void (*down)(void *argument, const char *reason);
    void (*dropped)(void *argument, uint64_t messages);             /* without JetStream: there was no room for so many */
    void (*floor)(void *argument, uint64_t sequence);               /* all up to there is acknowledged on the server */
    void *argument;
} nats_reader_setup_t;

typedef struct nats_place {
    uint64_t ordinal;              /* of the last message taken; the next one gets the next */
    uint64_t floor;                /* messages of the stream up to there are not wanted */
    uint64_t tail;                 /* the last one taken: the stream has at least so many */
    int64_t created;               /* when the stream was made, as far as is known; or 0 */
} nats_place_t;

nats_reader_t *nats_reader_new(const nats_reader_setup_t *setup);     /* strings are borrowed for its life */
int nats_reader_start(nats_reader_t *reader, err_t *err);             /* the thread; nothing flows yet */
/* Waits a little for the thread. False: the library holds it up; it is left to the end of the process, with what it uses, the setup's strings too. */
bool nats_reader_free(nats_reader_t *reader);

void nats_reader_go(nats_reader_t *reader, nats_place_t place);
void nats_reader_lose(nats_reader_t *reader, const char *reason);     /* ends the session: `down` follows */

/* The next message, the caller's to destroy, and its ordinal; NULL: none now. */
natsMsg *nats_reader_next(nats_reader_t *reader, uint64_t *ordinal);
/* While held, no more is asked for, and without JetStream what comes beyond the queue's bound is dropped. */
void nats_reader_hold(nats_reader_t *reader, bool hold);

/* Messages up to this ordinal may be acknowledged; floor: all of the stream up to there may be. */
void nats_reader_durable(nats_reader_t *reader, uint64_t ordinal, uint64_t floor);
void nats_reader_want_floor(nats_reader_t *reader, bool want);        /* `floor` is to be called now and then */

#endif
