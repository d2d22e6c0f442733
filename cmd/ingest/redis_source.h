#ifndef INGEST_REDIS_SOURCE_H
#define INGEST_REDIS_SOURCE_H

#include "data/fields.h"
#include "net/backoff.h"
#include "payload.h"
#include "redis.h"
#include "redis_acks.h"
#include "server_url.h"
#include "source.h"

/* What the files of source "redis" share: src_redis.c has options and position, redis_stream.c reads streams, redis_entry.c makes events of entries. */

typedef struct redis_settings {
    option_list_t keys, channels, patterns;
    char *group, *consumer, *begin;
    int64_t claim, database;
    char *field, *id_field, *key_field, *channel_field;
    bool strings, id_time;
    char *user, *password;
    int64_t connect_timeout, retry_min, retry_max;
    char *tls_ca, *tls_cert, *tls_key;
} redis_settings_t;

typedef struct redis_stream {
    const char *key;
    bool begun;                    /* it is known from where on to read */
    redis_id_t last;               /* taken last, of what came in order */
    redis_id_t cursor;             /* our own pending entries have been seen up to here */
    bool counting;                 /* `added` is known */
    uint64_t added;                /* entries ever added to the stream up to `last` */
} redis_stream_t;

/* What the answer on its way is about. */
typedef enum redis_phase {
    REDIS_OWN,                     /* what we were given before and have not acknowledged */
    REDIS_OWN_CLAIMED,             /* the same of what we have claimed */
    REDIS_LIVE,
    REDIS_CLAIMING,
} redis_phase_t;

/* What XINFO says of one stream after the other. */
typedef struct redis_look {
    size_t stream;                 /* which one */
    unsigned field;                /* whose value comes next */
    bool value_next;
    bool told, missing;            /* numbers have come; there is no such stream */
    redis_id_t last, first;
    uint64_t added, length;
    bool alone;                    /* no other consumers in the group */
    int64_t at;                    /* monotonic ns of the last time; 0: never */
    bool told_back;                /* that something went back was said already */
} redis_look_t;

/* Taking over what others have left. */
typedef struct redis_claim {
    bool on;
    size_t stream;
    redis_id_t after;              /* pending entries up to here have been looked at */
    size_t seen, count;            /* in this answer: all, and those of others, */
    redis_id_t *ids;               /* which are these */
    int64_t at;
} redis_claim_t;
#define REDIS_CLAIM_MAX 100

/* An entry of several records of which some are handed over; stream NULL: none. */
typedef struct redis_partial {
    redis_stream_t *stream;
    redis_id_t id;
    uint64_t records;
} redis_partial_t;

typedef struct redis_source {
    source_t source;
    source_setup_t setup;
    const redis_settings_t *settings;
    server_url_t url;
    int64_t database;
    char *place;                   /* "redis://host:port/0" */
    redis_stream_t *streams;
    size_t stream_count;
    bool grouped;                  /* a consumer of a group; else we read alone */
    char *consumer, *claimant;     /* our names in the group: for what comes in order, and for what we have claimed */
    bool restored, waiting;        /* waiting: for our name to be durable, before the server hears it */
    redis_t *reader, *clerk;       /* the clerk acknowledges, while the reader waits for more */
    loop_watch_t *timer;           /* the next attempt */
    backoff_t backoff;
    redis_acks_t acks;
    /* reading */
    redis_phase_t phase;
    redis_stream_t *current;       /* whose entries are coming */
    size_t came, bytes;            /* entries of this answer */
    size_t created;                /* groups, in answers that have come */
    size_t batch;                  /* entries to ask for */
    bool missing;                  /* the answer: there is no such group */
    bool connected_before;
    redis_look_t look;
    redis_claim_t claim;
    /* the entry under way */
    bool delivering, is_claimed;
    redis_partial_t entry, partial;
    payload_t payload;
    fields_t fields;
    buf_t packed, where, command;
    tag_t tag;
} redis_source_t;

/* src_redis.c: sends what may be acknowledged by now. Not before all that we had been given has been seen: so an entry that is seen again is known. */
void redis_acks_tell(redis_source_t *self);

/* redis_stream.c */
void redis_stream_start(redis_source_t *self);        /* after a connection was made */
void redis_stream_next(redis_source_t *self);         /* sends the next command */
void redis_stream_lose(redis_source_t *self, const redis_item_t *item);   /* an answer that cannot be used */
bool redis_stream_take(redis_source_t *self, redis_stream_t *stream, const redis_item_t *item, text_t raw);   /* an entry; false: no room */

/* Commands of the reader: the words, then their sending. */
void redis_say(redis_source_t *self, size_t words, const char *word);
void redis_word(redis_source_t *self, const char *word);
void redis_word_id(redis_source_t *self, redis_id_t id);
void redis_ask(redis_source_t *self, unsigned whole, redis_piece_fn *piece, void (*done)(void *argument), int64_t patience);
bool redis_is_error(const redis_item_t *item, const char *code);

/* redis_look.c: how far the streams are, and whether something is missing. Ends with redis_stream_next. */
void redis_look(redis_source_t *self);
void redis_gap(redis_source_t *self, const redis_stream_t *stream, uint64_t entries);   /* so many are gone that we have not seen */

/* redis_claim.c: what other consumers have left unacknowledged. Ends with redis_stream_next. */
void redis_claim(redis_source_t *self);

/* redis_entry.c */
/* Takes one entry. 1: done with; 0: no room; -1: this is none. */
int redis_entry_take(redis_source_t *self, redis_stream_t *stream, text_t raw);
void redis_entry_too_large(redis_source_t *self, redis_stream_t *stream, text_t beginning);
/* The connection is gone in the middle of an entry. */
void redis_entry_leave(redis_source_t *self);
/* A message of a channel. */
int redis_message_take(redis_source_t *self, text_t raw);

#endif
