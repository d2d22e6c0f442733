#ifndef PROCESS_HELD_H
#define PROCESS_HELD_H

#include "op.h"

/* Events that an operator keeps for later: copies of their records, and what else a row has to have when it goes on. */

/* The streams that events came on: what a row's frame says of it. */
typedef struct held_sources {
    frame_t **frames;         /* without events: topic and data_time alone */
    uint32_t count, recent;
} held_sources_t;

uint32_t held_source(held_sources_t *sources, const frame_t *frame);      /* its number; frame NULL: of events made here */
const frame_t *held_frame(const held_sources_t *sources, uint32_t source);
void held_sources_save(const held_sources_t *sources, buf_t *out);        /* one packed element */
bool held_sources_load(held_sources_t *sources, pack_cursor_t *cursor);
void held_sources_fini(held_sources_t *sources);

#endif
