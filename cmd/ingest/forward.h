#ifndef INGEST_FORWARD_H
#define INGEST_FORWARD_H

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"

/* Fluentd's Forward protocol, version 1 (https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1): messages, and the handshake. */

/* A message, as the bytes of its entries: [time, record] in a row. */
typedef struct forward_message {
    text_t tag;                    /* borrowed from the message */
    text_t chunk;                  /* what its sender wants to have acknowledged; size 0: nothing */
} forward_message_t;

/* How many bytes the first message of the data takes. 0: not all of it is here, -1: this is no message of the protocol. */
int64_t forward_size(const char *data, size_t size);

/* Reads a whole message; its entries are appended, unless that is NULL. limit: of bytes after decompression. */
int forward_read(forward_message_t *message, const char *data, size_t size, size_t limit, buf_t *entries, err_t *err);

/* An entry of the data at *at. */
typedef struct forward_entry {
    int64_t time;                  /* ns */
    text_t record;                 /* a packed map with string keys */
} forward_entry_t;
/* 1; or 0: an entry that is none, which *reason tells, has been passed over; or -1: nobody can tell where the next one begins. */
int forward_next(text_t entries, size_t *at, forward_entry_t *entry, const char **reason);

void forward_put_ack(buf_t *out, text_t chunk);

/* The handshake with a shared key. */
#define FORWARD_NONCE 16
void forward_put_hello(buf_t *out, const uint8_t nonce[FORWARD_NONCE]);
/* Of the client's answer, [PING ...]. -1: refused; either way what it is told in turn is appended. */
int forward_read_ping(const char *data, size_t size, const uint8_t nonce[FORWARD_NONCE], const char *key, const char *hostname, buf_t *pong, err_t *err);

#endif
