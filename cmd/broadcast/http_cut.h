#ifndef BROADCAST_HTTP_CUT_H
#define BROADCAST_HTTP_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "data/frame.h"

typedef struct http_refused {
    uint32_t first, count;             /* events of the batch */
    char *reason;
} http_refused_t;

/* Which frames of one sender make a batch of the HTTP sink, so that it can be made again as it was. */
typedef struct http_cut {
    char *input, *origin;              /* stage_input_key of the input, and the sender's name for itself; "" for text, which has no numbers */
    uint64_t epoch, first, last;
    bool any_epoch;                    /* the sender never gives a number out twice: its epoch does not matter */
    uint32_t part;                     /* events: a frame with more goes in parts of so many */
    bool noted, safe;                  /* it is on its way to the disk; it is there */
    uint32_t from;                     /* events that are confirmed or refused, in parts: not stored, a restart begins with the first part again */
    http_refused_t *refused;
    uint32_t refused_count;
    bool dropped;                      /* what is still to come of it is dropped, too */
} http_cut_t;

void http_cut_fini(http_cut_t *cut);
bool http_cut_has(const http_cut_t *cut, const char *input, const frame_t *frame);
/* "ORIGIN-EPOCH-FIRST-LAST-HASH", without the epoch where it does not matter. The hash is of the sink and of the input: neither another sink nor
 * another part of a link that is split has the same key for other events. */
void http_cut_put_key(const http_cut_t *cut, const char *sink, buf_t *out);

/* Those of batches that were begun and have to be made again. */
typedef struct http_cuts {
    http_cut_t *items;
    uint32_t count;
} http_cuts_t;

void http_cuts_take(http_cuts_t *cuts, http_cut_t cut);        /* beyond 1024 the oldest is forgotten: its sender has not come back */
http_cut_t *http_cuts_find(const http_cuts_t *cuts, const char *input, const frame_t *frame);
http_cut_t http_cuts_remove(http_cuts_t *cuts, const http_cut_t *cut);                       /* the caller's now */
void http_cuts_fini(http_cuts_t *cuts);

/* As stored with the progress. */
void http_cut_put(const http_cut_t *cut, buf_t *out);
int http_cuts_read(http_cuts_t *cuts, const buf_t *position, err_t *err);

#endif
