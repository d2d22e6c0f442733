#ifndef INGEST_FORWARD_H
#define INGEST_FORWARD_H

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"
#include "data/pack.h"

/* Fluentd's Forward protocol, version 1 (https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1): messages, and the handshake. */

/* A message that is passed over as its bytes come; begins with {0}. */
typedef struct forward_pass {
    size_t size;                   /* of it, so far */
    pack_pass_t rest;
} forward_pass_t;
/* The data begins with the message, of which there may be more than the last time. 1: it is whole, 0: not all of it is here, -1: this is no message
 * of the protocol. */
int forward_pass(forward_pass_t *pass, const char *data, size_t size);

/* Bytes of a message: it may lie elsewhere when it is looked at again. */
typedef struct forward_part {
    size_t at, size;
} forward_part_t;
text_t forward_text(const char *data, forward_part_t part);

typedef struct forward_message {
    forward_part_t tag;
    forward_part_t chunk;          /* what its sender wants to have acknowledged; size 0: nothing */
    forward_part_t entries;        /* [time, record] in a row */
    bool bare;                     /* time and record of a single one */
    bool compressed;               /* as forward_chunk.h has it */
} forward_message_t;

/* Reads a whole message. */
int forward_read(forward_message_t *message, const char *data, size_t size, err_t *err);

/* An entry of the data at *at. */
typedef struct forward_entry {
    int64_t time;                  /* ns */
    text_t record;                 /* a packed map with string keys */
} forward_entry_t;
/* 1; or 0: an entry that is none, which *reason tells, has been passed over; or -1: nobody can tell where the next one begins. */
int forward_next(text_t entries, bool bare, size_t *at, forward_entry_t *entry, const char **reason);

void forward_put_ack(buf_t *out, text_t chunk);

/* The handshake with a shared key. */
#define FORWARD_NONCE 16
void forward_put_hello(buf_t *out, const uint8_t nonce[FORWARD_NONCE]);
/* Of the client's answer, [PING ...]. -1: refused; either way what it is told in turn is appended. */
int forward_read_ping(const char *data, size_t size, const uint8_t nonce[FORWARD_NONCE], const char *key, const char *hostname, buf_t *pong, err_t *err);

#endif
