#ifndef NET_LINK_ENGINE_H
#define NET_LINK_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "data/option.h"
#include "net/link.h"

/* What the engines of links share among themselves: net/link.h is for everyone else. */

/* An endpoint taken apart: [@|>] ADDRESS [?QUERY]. */
typedef struct link_endpoint {
    const char *text;                  /* whole, as given; borrowed */
    char side;                         /* '@' bind, '>' connect, 0: by role */
    char *address;                     /* "-", "ipc:///run/x", "tcp://host:5555", "pub+tcp://..." */
    /* from the query; each engine's tables name the ones that it takes */
    int format;                        /* link_text_t */
    int64_t partitions, partition;     /* partition: -1 when not given */
    char *key;
    int ack;                           /* link_ack_mode_t */
    option_list_t topics;
} link_endpoint_t;

typedef enum link_text { LINK_TEXT_NDJSON, LINK_TEXT_MSGPACK } link_text_t;
typedef enum link_ack_mode { LINK_ACK_DURABLE, LINK_ACK_NONE } link_ack_mode_t;

typedef struct link_sender_class {
    bool (*room)(const link_sender_t *sender);
    void (*send)(link_sender_t *sender, frame_t *frame, uint64_t ticket);
    uint64_t (*durable)(const link_sender_t *sender);
    void (*finish)(link_sender_t *sender, frame_t *end, uint64_t ticket);   /* calls link_sender_finished when all is acknowledged */
    void (*free)(link_sender_t *sender);
    /* with a spool: finish gets no end then */
    void (*written)(link_sender_t *sender, frame_t *frame, uint64_t number);
    void (*news)(link_sender_t *sender);               /* sender->stable has advanced; NULL: nobody asks */
    bool (*quiet)(const link_sender_t *sender);        /* NULL: when all is durable */
    void (*part)(link_sender_t *sender);               /* NULL: nobody waits for it */
    void (*taken)(link_sender_t *sender);              /* all that is in the spool; NULL: it sends anew */
} link_sender_class_t;

/* First member of every sender. */
struct link_sender {
    const link_sender_class_t *class;
    loop_t *loop;
    char *endpoint;
    link_sender_setup_t setup;         /* name and origin are copies */
    link_stats_t stats;
    uint64_t ticket;                   /* the last one given; with a spool: the last number that may be sent */
    uint64_t stable;                   /* with a spool: the number that link_sender_stable gave */
    void (*done)(void *argument);      /* of finish; NULL before and after */
    void *done_argument;
};

typedef struct link_receiver_class {
    void (*durable)(link_receiver_t *receiver, const frame_t *frame);   /* NULL: not needed */
    void (*pause)(link_receiver_t *receiver, bool paused);              /* called on changes only */
    bool (*ended)(const link_receiver_t *receiver);
    void (*part)(link_receiver_t *receiver);           /* calls link_receiver_parted when the senders have left; NULL: at once */
    void (*free)(link_receiver_t *receiver);
    void (*restore)(link_receiver_t *receiver, const char *origin, uint64_t epoch, uint64_t sequence, bool ended);   /* NULL: not kept */
    void (*want)(link_receiver_t *receiver);           /* NULL: take() is not asked */
    bool (*over)(const link_receiver_t *receiver);     /* NULL: as ended */
    bool (*replaced)(const link_receiver_t *receiver, const char *origin);   /* NULL: never */
} link_receiver_class_t;

struct link_receiver {
    const link_receiver_class_t *class;
    loop_t *loop;
    char *endpoint;
    link_receiver_setup_t setup;       /* name is a copy */
    link_stats_t stats;
    bool paused, failed;
    bool part_soon;
    void (*parted)(void *argument);    /* of part; NULL before and after */
    void *parted_argument;
};

/* One engine: one line of the table in link.c. */
typedef struct link_engine {
    const char *prefix;                /* what the address starts with; "-" and "null:" are the whole */
    bool whole;
    const option_t *sender_options, *receiver_options;   /* offsets into link_endpoint_t */
    int (*check)(const link_endpoint_t *endpoint, bool sender, err_t *err);      /* NULL: nothing more to check */
    int (*sender_open)(link_sender_t **sender, loop_t *loop, const link_endpoint_t *endpoint, const link_sender_setup_t *setup, err_t *err);
    int (*receiver_open)(link_receiver_t **receiver, loop_t *loop, const link_endpoint_t *endpoint, const link_receiver_setup_t *setup,
                         err_t *err);
} link_engine_t;

extern const link_engine_t link_text_engine, link_null_engine;
extern const link_engine_t link_ipc_engine, link_tcp_engine;
extern const link_engine_t link_pub_ipc_engine, link_pub_tcp_engine, link_sub_ipc_engine, link_sub_tcp_engine;
int link_stdout_open(link_sender_t **sender, loop_t *loop, const link_endpoint_t *endpoint, const link_sender_setup_t *setup, err_t *err);
int link_stdin_open(link_receiver_t **receiver, loop_t *loop, const link_endpoint_t *endpoint, const link_receiver_setup_t *setup, err_t *err);
int link_push_open(link_sender_t **sender, loop_t *loop, const link_endpoint_t *endpoint, const link_sender_setup_t *setup, err_t *err);
int link_pull_open(link_receiver_t **receiver, loop_t *loop, const link_endpoint_t *endpoint, const link_receiver_setup_t *setup, err_t *err);

/* For the engines: the common part of a new object, and its end. */
void link_sender_init(link_sender_t *sender, const link_sender_class_t *class, loop_t *loop, const link_endpoint_t *endpoint,
                      const link_sender_setup_t *setup);
void link_sender_fini(link_sender_t *sender);
void link_sender_finished(link_sender_t *sender);      /* calls done, once; the sender may be gone afterwards */
void link_receiver_init(link_receiver_t *receiver, const link_receiver_class_t *class, loop_t *loop, const link_endpoint_t *endpoint,
                        const link_receiver_setup_t *setup);
void link_receiver_fini(link_receiver_t *receiver);
void link_receiver_parted(link_receiver_t *receiver);  /* calls parted, once; the receiver may be gone afterwards */
/* Reports a failure for good, once. The receiver may be gone afterwards. */
void link_receiver_fail(link_receiver_t *receiver, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Counts and logs (at most once a second) a frame or record that is dropped. */
void link_receiver_malformed(link_receiver_t *receiver, const char *reason);

#endif
