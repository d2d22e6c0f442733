#ifndef PROCESS_CELL_H
#define PROCESS_CELL_H

#include "group.h"

/* State by key with a time at which something is due: a table of cells, and a queue of them by that time. Nothing here depends on hash order: cells
 * are gone through in the order in which they were made, and what is due at the same time too. */
typedef struct cell {
    uint64_t hash, number;
    int64_t due;              /* the watermark at which something is to be done: cells_due */
    int64_t queued;           /* where it stands in the queue: at due, or before */
    uint32_t place;           /* in the queue */
    uint32_t key_size;
    struct cell *before, *after;          /* in the order in which they were made */
    const uint8_t *key;       /* behind the body */
    _Alignas(8) uint8_t body[];
} cell_t;

typedef struct cell_slot {
    uint64_t hash;
    cell_t *cell;             /* NULL: free */
} cell_slot_t;

typedef struct cells {
    size_t size;              /* of a body */
    uint32_t count, capacity; /* of the queue */
    uint64_t mask;
    cell_slot_t *slots;       /* open addressing, at most half full */
    cell_t **queue;           /* a heap */
    cell_t *first, *last;
    uint64_t number;
    size_t bytes;             /* of cells */
} cells_t;

cells_t *cells_new(size_t size);                      /* bodies begin zeroed */
void cells_free(cells_t *cells);                      /* with the cells; what bodies own is the caller's to free before */
cell_t *cells_find(const cells_t *cells, const void *key, size_t size, uint64_t hash);    /* NULL: there is none */
cell_t *cells_add(cells_t *cells, const void *key, size_t size, uint64_t hash);           /* one that is not there; nothing is due */
void cells_remove(cells_t *cells, cell_t *cell);
void cells_due(cells_t *cells, cell_t *cell, int64_t due);
int64_t cells_next(const cells_t *cells);             /* no cell is due before; INT64_MAX: none ever */
cell_t *cells_first(cells_t *cells, int64_t watermark);       /* that is due first; NULL: none is */
size_t cells_memory(const cells_t *cells);

static inline __attribute__((always_inline)) void cells_prefetch(const cells_t *cells, uint64_t hash) {
    __builtin_prefetch(&cells->slots[hash & cells->mask]);
}

#endif
