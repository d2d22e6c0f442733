#ifndef INGEST_HTTP_SSE_H
#define INGEST_HTTP_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Server-Sent Events (WHATWG HTML, 9.2.6 "Interpreting an event stream"). Zero-initialise with a limit; sse_fini frees. */
typedef struct sse {
    size_t limit;             /* bytes of an event's data at most */
    buf_t data, name, id;     /* of the event that is complete: its lines joined by \n; `name` is empty when it was not given; `id` is the last one */
    bool too_large;           /* the data was longer and is cut */
    int64_t retry;            /* ms; the server's last word on how soon to connect again; -1 after sse_begin */
    buf_t line;
    bool complete, after_cr, begun, skipping;
} sse_t;

void sse_begin(sse_t *sse);   /* a new connection: what was incomplete is forgotten, the last id stays */
/* Takes bytes up to the end of an event, and returns how many; *event tells whether one is complete. One without data is complete too, for the
 * id that it may give. */
size_t sse_feed(sse_t *sse, const char *bytes, size_t size, bool *event);
void sse_fini(sse_t *sse);

#endif
