#ifndef INGEST_KAFKA_H
#define INGEST_KAFKA_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/secret.h"
#include "net/loop.h"
#include "payload.h"
#include "server_url.h"
#include "source.h"

/* What the files of source "kafka" share: src_kafka.c has options and position, kafka_client.c the consumer and its group, kafka_ask.c questions that
 * take their time, kafka_message.c makes events of messages. The library has threads of its own; all of ours but the questions' happens in the loop,
 * which its queues wake. */

typedef struct kafka_settings {
    option_list_t topics, set;
    char *group, *consumer;
    int begin;                     /* KAFKA_FIRST, KAFKA_NEW */
    char *key_field, *topic_field, *partition_field, *offset_field, *headers_field;
    bool message_time;
    char *user, *password;
    bool tls;
    char *tls_ca, *tls_cert, *tls_key;
    int64_t connect_timeout, retry_min, retry_max;
} kafka_settings_t;

enum { KAFKA_FIRST, KAFKA_NEW };

typedef struct kafka_part {
    char *topic;
    int32_t number;
    bool begun;                    /* next is known */
    bool ours;                     /* assigned to us */
    int64_t next;                  /* the offset behind what was taken */
    int64_t durable, committed;    /* the same for what is safe, and for what the group has been told; -1: nothing */
} kafka_part_t;

/* A question to the brokers, answered in a thread of its own: how far partitions reach, and what the group has committed. */
typedef struct kafka_range {
    int64_t low, high;
} kafka_range_t;

typedef struct kafka_question {
    rd_kafka_t *rk;
    rd_kafka_topic_partition_list_t *parts;           /* their offsets: what was committed */
    kafka_range_t *ranges;         /* one for each */
    const option_list_t *topics;   /* find the parts of these first; NULL: parts are given */
    bool committed;                /* ask the group */
    bool probe;                    /* nothing else: are there brokers? */
    int64_t timeout;               /* of each step */
    int fd;                        /* is woken at the end */
    rd_kafka_resp_err_t err;
    atomic_bool stop, done;
    pthread_t thread;
} kafka_question_t;

#define KAFKA_EARLY_MAX 64

typedef struct kafka_source {
    source_t source;
    source_setup_t setup;
    const kafka_settings_t *settings;
    server_url_t url;
    char *servers, *place;         /* "host:port,..."; "kafka://host:port,..." */
    option_list_t topics;          /* owned */
    char *consumer;                /* our name in the group, or NULL */
    char *cluster;                 /* its identifier, once known; of a restored position from the start */
    bool cluster_known;            /* by this run */
    bool grouped, restored, waiting, failed;
    secrets_t secrets;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue, *side;                   /* messages; results of commits */
    int fd;                        /* eventfd that both wake */
    loop_watch_t *watch, *tick, *commit_timer, *revoke_timer;
    /* partitions */
    kafka_part_t *parts;
    size_t part_count, part_last;  /* part_last: where the last message's was */
    uint64_t step, durable;
    kafka_question_t *question;
    rd_kafka_topic_partition_list_t *assigning;       /* to be assigned when the question is answered */
    rd_kafka_topic_partition_list_t *revoking;        /* to be let go when all of them is safe and committed */
    uint64_t revoke_step;
    bool committing, commit_wanted, closing, troubled;
    bool long_pause;               /* the library was told not to fetch */
    int64_t paused_at;
    unsigned ticks;
    /* the message under way */
    rd_kafka_message_t *held;
    rd_kafka_message_t *early[KAFKA_EARLY_MAX];       /* behind it, when they came in a long pause all the same */
    size_t early_count;
    kafka_part_t *held_part;
    bool delivering;
    payload_t payload;
    tag_t tag;
    buf_t where;
    /* One that was begun by an earlier run, or before its partition left: topic NULL: none */
    char *partial_topic;
    int32_t partial_number;
    int64_t partial_offset;
    uint64_t partial_records;
} kafka_source_t;

/* src_kafka.c */
kafka_part_t *kafka_part(kafka_source_t *self, const char *topic, int32_t number);    /* found, or made */

/* kafka_conf.c */
int kafka_configure(kafka_source_t *self, rd_kafka_conf_t **conf, err_t *err);

/* kafka_client.c */
int kafka_client_open(kafka_source_t *self, err_t *err);
void kafka_client_start(kafka_source_t *self);
void kafka_client_wake(kafka_source_t *self);         /* after a pause */
void kafka_client_durable(kafka_source_t *self);      /* parts' durable offsets, or durable, have moved */
void kafka_client_close(kafka_source_t *self);

/* kafka_ask.c: one question at a time. */
void kafka_ask(kafka_source_t *self, const rd_kafka_topic_partition_list_t *parts, bool probe);
kafka_question_t *kafka_answer(kafka_source_t *self);     /* the caller's, or NULL: none is there */
void kafka_question_free(kafka_question_t *question);     /* waits for its thread, which has to end soon; NULL is legal */

/* kafka_message.c: takes the held message. False: no room. */
bool kafka_message_take(kafka_source_t *self);
void kafka_message_leave(kafka_source_t *self);       /* it is let go in the middle */

#endif
