#ifndef DATA_FRAME_H
#define DATA_FRAME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"

/* Events and frames: stream-frame(5) draws the format. A frame is immutable once made and shared by
 * reference; its bytes are decoded in place. */
#define FRAME_TOPIC_MAX 128
#define FRAME_ORIGIN_MAX 192
#define FRAME_MAX_DEFAULT (16u * 1024 * 1024)          /* bytes of a body */
#define FRAME_NO_WATERMARK INT64_MIN
#define EVENT_HEAD 11                                  /* 92 D7 00 + 8 bytes of EventTime, before the record */
#define EVENT_TIME_MAX (INT64_C(4294967296) * 1000000000 - 1)  /* ns: EventTime has 32-bit seconds */

typedef void frame_release_fn(void *memory);

/* An epoch that a sender continues: its frames up to `number` are the present epoch's, those after it are void. */
typedef struct frame_past {
    uint64_t epoch, number;
} frame_past_t;
#define FRAME_PAST_MAX 16
#define FRAME_STABLE_ALL UINT64_MAX

/* Up to which number a log that continues these epochs, latest first, has the frames that it had in `epoch`, one before the present: the least number of
 * the pairs up to it, or of all. *known: it is one of them, or was before there were so many that it is not named any more. */
uint64_t frame_common(const frame_past_t *past, unsigned count, uint64_t epoch, bool *known);

/* Origins that are no more: the sender is what was made of them with --reset. In a packed array of at most so many. */
#define FRAME_REPLACES_MAX 8

typedef struct frame {
    atomic_uint references;
    uint32_t events;                   /* n */
    char topic[FRAME_TOPIC_MAX + 1];
    char origin[FRAME_ORIGIN_MAX + 1]; /* "" before a link has sent it */
    uint64_t epoch, sequence, lowest;  /* as received; a sender numbers for itself */
    uint64_t receiver, attempt, refused, bye;   /* r, g, refused, bye: between the two ends of a link (stream-link(7)); 0: absent */
    bool has_stable;                   /* s is there: the sender has a durable log */
    uint64_t stable;                   /* s: frames up to this number will never be taken back */
    bool hurry;                        /* h: the sender's log is half full: make frames durable soon */
    frame_past_t past[FRAME_PAST_MAX]; /* c: epochs that this one continues, latest first */
    uint8_t past_count;
    text_t replaces;                   /* for frame_replaces; empty: nobody. Borrowed from the header */
    int64_t ingest_time;               /* t: ns since 1970, oldest event */
    int64_t watermark;                 /* w: ns, or FRAME_NO_WATERMARK */
    bool end;                          /* the last frame of a stream; it may hold no events */
    bool data_time;                    /* d: event times were taken from the data: text carries @timestamp */
    const uint8_t *lengths;            /* x: events × u32 LE, or NULL. May be unaligned: frame_length */
    const uint8_t *body;
    size_t body_size;
    /* owners of the memory above */
    void *memory[2];
    frame_release_fn *release[2];
} frame_t;

frame_t *frame_ref(frame_t *frame);
void frame_unref(frame_t *frame);                      /* any thread; NULL is legal */

/* True for [A-Za-z0-9_.-]{1,128}. */
bool frame_topic_valid(const char *topic, size_t size);

/* The header part for a frame with this link's identity and numbers. */
typedef struct frame_number {
    const char *origin;
    uint64_t epoch, sequence, lowest;
    uint64_t receiver, attempt, refused, bye;   /* 0: left out */
    bool has_stable;
    uint64_t stable;
    bool hurry;
    const frame_past_t *past;
    unsigned past_count;
    text_t replaces;                   /* an array of origins, packed; empty: left out */
} frame_number_t;
void frame_put_header(buf_t *out, const frame_t *frame, const frame_number_t *number);

/* Decodes topic and header parts into *frame and sets its body; every field is checked and the body's size is held to `max`.
 * The lengths, if any, add up to the body. frame_verify walks the body too: n entries, each well formed and a string-keyed map. Without
 * it, callers walk with frame_next, which checks as it goes. *frame must be zeroed; memory is borrowed (set memory/release to hand it over).
 * Fails with a reason for the log; frame->sequence is then 0 unless the header itself was sound, so that its number can be accounted for. */
int frame_decode(frame_t *frame, const void *topic, size_t topic_size, const void *header, size_t header_size,
                 const void *body, size_t body_size, size_t max, err_t *err);
int frame_verify(const frame_t *frame, err_t *err);
/* The origins that the frame's sender replaces, one after the other: begin with frame->replaces. False: no more. */
bool frame_replaces(text_t *rest, text_t *origin);

/* One event, in place. */
typedef struct event {
    int64_t time;                      /* ns since 1970 UTC */
    const uint8_t *bytes;              /* the whole entry: [EventTime, record] */
    uint32_t size;
    const uint8_t *record;             /* the packed map */
    uint32_t record_size;
} event_t;

/* Walks the events: zero *at and *index first. Returns 1 with an event, 0 at the end, -1 when the body is malformed
 * (a length that does not fit, a head that is none). The record's map header is checked to be a map; its inside is not walked when
 * lengths are present: readers of fields check as they go. */
typedef struct frame_walk {
    uint32_t index;
    size_t at;
} frame_walk_t;
int frame_next(const frame_t *frame, frame_walk_t *walk, event_t *event);

static inline uint32_t frame_length(const frame_t *frame, uint32_t index) {
    const uint8_t *p = frame->lengths + 4 * (size_t) index;
    return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

/* Collects events into a frame. The caller's storage: zero-initialise; builder_fini. */
typedef struct frame_builder {
    buf_t body, lengths;
    uint32_t events;
    size_t start;                      /* of the event being written */
    int64_t ingest_time;               /* of the oldest event */
    int64_t greatest;                  /* greatest event time, meaningless while empty */
    bool data_time;
    size_t expected;                   /* size of the last body: what the next is given from the start */
} frame_builder_t;

/* begin writes the entry's head; the caller then appends the record (one packed map) to builder->body, and ends
 * with commit (which patches the time in) or abort (which takes it all back). */
void builder_begin(frame_builder_t *builder);
void builder_commit(frame_builder_t *builder, int64_t event_time, int64_t ingest_time);
void builder_abort(frame_builder_t *builder);
void builder_add(frame_builder_t *builder, const event_t *event, int64_t ingest_time);    /* a copy of a whole entry */
/* Makes a frame of what was committed; the builder is empty again. The reference is the caller's. */
frame_t *builder_take(frame_builder_t *builder, const char *topic);
void builder_fini(frame_builder_t *builder);

/* A frame with no events and the end mark. */
frame_t *frame_new_end(const char *topic);

#endif
