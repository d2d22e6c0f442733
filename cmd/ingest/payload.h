#ifndef INGEST_PAYLOAD_H
#define INGEST_PAYLOAD_H

#include "source.h"

/* The records of messages, one message at a time, as brokers bring them. A payload is JSON of any layout, one value or one on each line: an object is an
 * event, an array one event for each element, and what is neither is the field `value`; or a document of the format that --format names. It may have
 * more records than there is room for: then it is gone on with later, and how many were dealt with is part of the source's position. The caller's
 * storage; payload_init, payload_fini. */
typedef struct payload {
    source_host_t *host;
    decoder_t *decoder;
    bool json;
    const char *records;           /* where in a JSON value the events are, keys with dots between; borrowed, may be set after payload_init; NULL: the value itself */
    bool under_way;
    const char *place;
    text_t text;                   /* what is decoded: the message's, or `lines` */
    size_t at;
    uint64_t first;                /* source_records before it */
    buf_t lines, packed;
} payload_t;

int payload_init(payload_t *payload, const source_setup_t *setup, err_t *err);
void payload_fini(payload_t *payload);

/* Begins a message; all is borrowed until it is done with. place names it for people; tag: fields that its records get as well; skip: so many records were
 * dealt with in an earlier run. An empty payload is an event of the tag's fields with JSON, else nothing. What cannot be read is a dead letter. */
void payload_begin(payload_t *payload, text_t text, const tag_t *tag, const char *place, uint64_t skip);
/* Hands over what there is room for. True: all of it; false: to be called again after resume. */
bool payload_go_on(payload_t *payload);
/* Lets the message go, done with or not. */
void payload_end(payload_t *payload);
/* Records dealt with of the message under way; 0 when there is none. */
uint64_t payload_records(const payload_t *payload);

#endif
