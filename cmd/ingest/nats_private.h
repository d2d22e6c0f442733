#ifndef INGEST_NATS_PRIVATE_H
#define INGEST_NATS_PRIVATE_H

#include <pthread.h>

#include "nats_reader.h"
#include "nats_silent.h"
#include "net/backoff.h"

/* What nats_reader.c and nats_session.c share. */
#define NATS_QUEUE_BYTES (8u * 1024 * 1024)           /* received and not taken: no more is asked for */
#define NATS_MESSAGE_OVERHEAD 256                     /* of a message in memory */
#define NATS_BRIEF (10 * NS_PER_S)                    /* a connection that was of use lives longer */

typedef struct nats_queue {
    natsMsg **messages;
    size_t at, count, capacity;
    size_t bytes;
} nats_queue_t;

typedef struct nats_ack {
    uint64_t ordinal, sequence;
    int64_t touched;               /* monotonic ns: the server's patience began then */
    char *reply;                   /* the subject that acknowledges it */
} nats_ack_t;

typedef struct nats_acks {         /* a ring, in the order in which messages came */
    nats_ack_t *ring;
    size_t first, count, capacity;
} nats_acks_t;

struct nats_reader {
    nats_reader_setup_t setup;
    loop_watch_t *watch;
    int event;
    pthread_t thread;
    bool started;
    backoff_t backoff;

    /* shared by the loop, the thread and libnats */
    pthread_mutex_t mutex;
    pthread_cond_t condition;      /* for the thread */
    bool stop, go, hold, want_floor;
    bool connecting;               /* the thread is within the library's call that connects */
    bool cut;                      /* which was ended, as the server had fallen silent */
    nats_place_t place;
    nats_queue_t in;
    uint64_t ordinal;              /* of the last message that came */
    nats_acks_t acks;
    uint64_t durable, durable_floor;
    bool lost;                     /* the session is over */
    char lost_reason[512];

    /* news for the loop */
    bool told, is_trying, is_up, is_down;
    nats_stream_t found;
    char reason[512];
    uint64_t dropped, acknowledged;

    loop_watch_t *looks;           /* the loop's: for silent servers */
    nats_silent_t silent;
    /* the loop's; bytes under the mutex */
    nats_queue_t hand;
    uint64_t hand_ordinal;
};

/* nats_session.c: a connection from beginning to end. 0: it was of use. The error says why it ended; it is empty when we are to stop. */
int session_run(nats_reader_t *reader, const nats_place_t *place, err_t *err);

/* All with the mutex held. */
bool reader_put(nats_reader_t *reader, natsMsg *message, const char *reply, uint64_t sequence);   /* false: no room; the message stays the caller's */
bool reader_has_room(const nats_reader_t *reader);
void reader_lost(nats_reader_t *reader, const char *reason);
void reader_tell_up(nats_reader_t *reader, const nats_stream_t *found);
void reader_tell_floor(nats_reader_t *reader, uint64_t floor);
void reader_tell_dropped(nats_reader_t *reader, uint64_t messages);
bool reader_has_acks(const nats_reader_t *reader);    /* that may go out */
void reader_wait(nats_reader_t *reader, int64_t until);

#endif
