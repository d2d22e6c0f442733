#ifndef PROCESS_SLIDE_H
#define PROCESS_SLIDE_H

#include "summary.h"

/* The values of a window from which the oldest are taken out again, and its aggregates at any time. Each value costs O(1), on the whole: see
 * slide.c. Zero-initialise; summary.size bytes follow it in memory. */
typedef struct slide {
    uint8_t *bytes;           /* the events' times and values, from first to end */
    size_t first, end, capacity;
    uint32_t count;           /* of events */
    uint32_t front, taken;    /* events of the older part, those that are gone included; and of these, the gone ones */
    uint32_t room;            /* for so many are states */
    uint8_t *states;          /* of the older part: for each event, of all from it to the part's end */
    _Alignas(8) uint8_t block[];          /* of what came since; where values can be taken out, of all */
} slide_t;

/* Events come in order. values: the arguments'; packed: the same, packed. */
void slide_add(summary_t *summary, slide_t *slide, int64_t time, const value_t *values, const uint8_t *packed, size_t size);
int64_t slide_oldest(const slide_t *slide);           /* time of the oldest event; there must be one */
void slide_take(summary_t *summary, slide_t *slide);  /* the oldest event out */
/* As summary_results. */
void slide_results(summary_t *summary, slide_t *slide, int64_t span, value_t *out);
void slide_drop(summary_t *summary, slide_t *slide);
void slide_save(const summary_t *summary, const slide_t *slide, buf_t *out);      /* one element */
bool slide_load(summary_t *summary, slide_t *slide, pack_cursor_t *cursor);

#endif
