#ifndef PROCESS_WAITING_H
#define PROCESS_WAITING_H

#include "group.h"

#include "data/pack.h"

/* Events that wait until those before them have come: key and values, in order of event time, and of several at a time as they arrived. */
typedef struct held {
    int64_t time, ingest_time;
    uint64_t number, hash;
    uint32_t key_size;
    buf_t bytes;              /* the key, as key_end leaves it, then the packed values */
    size_t values;            /* where these begin */
} held_t;

typedef struct waiting waiting_t;

waiting_t *waiting_new(void);
void waiting_free(waiting_t *waiting);                      /* NULL is legal */
/* One more, to be filled: bytes is empty, time and number are set. */
held_t *waiting_add(waiting_t *waiting, int64_t time);
const held_t *waiting_first(const waiting_t *waiting);      /* NULL: there is none */
void waiting_take(waiting_t *waiting);                      /* the first one is gone; its memory is kept for the next */
size_t waiting_memory(const waiting_t *waiting);
void waiting_save(const waiting_t *waiting, buf_t *out, void (*saved)(void *argument, buf_t *out), void *argument);
bool waiting_load(waiting_t *waiting, unsigned values, pack_cursor_t *cursor);  /* each with so many values */

#endif
