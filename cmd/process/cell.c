/* State by key with a time at which something is due. See cell.h. A cell whose time moves back is left where it stands in the queue, and put right
 * when it comes to the front: an event that prolongs its key's state costs nothing there. */
#include "cell.h"

#define FIRST_SLOTS 64

cells_t *cells_new(size_t size) {
    cells_t *cells = mem_zero(sizeof *cells);
    cells->size = size;
    cells->slots = mem_zero(FIRST_SLOTS * sizeof *cells->slots);
    cells->mask = FIRST_SLOTS - 1;
    return cells;
}

void cells_free(cells_t *cells) {
    if (!cells)
        return;
    for (cell_t *cell = cells->first, *next; cell; cell = next) {
        next = cell->after;
        mem_free(cell);
    }
    mem_free(cells->slots);
    mem_free(cells->queue);
    mem_free(cells);
}

size_t cells_memory(const cells_t *cells) {
    return sizeof *cells + cells->bytes + (cells->mask + 1) * sizeof *cells->slots + cells->capacity * sizeof *cells->queue;
}

/* The table. */

static cell_slot_t *slot_of(const cells_t *cells, const void *key, size_t size, uint64_t hash) {
    for (uint64_t i = hash & cells->mask;; i = (i + 1) & cells->mask) {
        cell_slot_t *slot = &cells->slots[i];
        if (!slot->cell || (slot->hash == hash && slot->cell->key_size == size && memcmp(slot->cell->key, key, size) == 0))
            return slot;
    }
}

cell_t *cells_find(const cells_t *cells, const void *key, size_t size, uint64_t hash) {
    return slot_of(cells, key, size, hash)->cell;
}

static void grow(cells_t *cells) {
    cell_slot_t *before = cells->slots;
    uint64_t count = cells->mask + 1;
    cells->mask = 2 * count - 1;
    cells->slots = mem_zero(2 * count * sizeof *before);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = before[i].hash & cells->mask;
        if (!before[i].cell)
            continue;
        while (cells->slots[at].cell)
            at = (at + 1) & cells->mask;
        cells->slots[at] = before[i];
    }
    mem_free(before);
}

/* Closes the gap, so that all chains still lead to their ends. */
static void free_slot(cells_t *cells, cell_slot_t *slot) {
    uint64_t gap = (uint64_t) (slot - cells->slots), i = gap, mask = cells->mask;
    for (;;) {
        i = (i + 1) & mask;
        if (!cells->slots[i].cell)
            break;
        if (((i - cells->slots[i].hash) & mask) >= ((i - gap) & mask)) {
            cells->slots[gap] = cells->slots[i];
            gap = i;
        }
    }
    cells->slots[gap] = (cell_slot_t){0};
}

/* The queue. */

static bool is_before(const cell_t *a, const cell_t *b) {
    return a->queued != b->queued ? a->queued < b->queued : a->number < b->number;
}

static void set_place(cells_t *cells, cell_t *cell, uint32_t place) {
    cells->queue[place] = cell;
    cell->place = place;
}

static void move_up(cells_t *cells, cell_t *cell) {
    uint32_t at = cell->place;
    while (at && is_before(cell, cells->queue[(at - 1) / 2])) {
        set_place(cells, cells->queue[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    set_place(cells, cell, at);
}

static void move_down(cells_t *cells, cell_t *cell) {
    uint64_t at = cell->place;
    for (uint64_t child; (child = 2 * at + 1) < cells->count; at = child) {
        if (child + 1 < cells->count && is_before(cells->queue[child + 1], cells->queue[child]))
            child++;
        if (!is_before(cells->queue[child], cell))
            break;
        set_place(cells, cells->queue[child], (uint32_t) at);
    }
    set_place(cells, cell, (uint32_t) at);
}

cell_t *cells_add(cells_t *cells, const void *key, size_t size, uint64_t hash) {
    ASSERT(cells->count < UINT32_MAX / 2);
    if (((uint64_t) cells->count + 1) * 2 > cells->mask + 1)
        grow(cells);
    if (cells->count == cells->capacity) {
        cells->capacity = cells->capacity ? 2 * cells->capacity : FIRST_SLOTS;
        cells->queue = mem_resize(cells->queue, cells->capacity * sizeof(cell_t *));
    }
    cell_t *cell = mem_zero(sizeof *cell + cells->size + size);
    cells->bytes += sizeof *cell + cells->size + size;
    memcpy(cell->body + cells->size, key, size);
    cell->key = cell->body + cells->size;
    cell->key_size = (uint32_t) size;
    cell->hash = hash;
    cell->number = ++cells->number;
    cell->due = cell->queued = INT64_MAX;
    cell->before = cells->last;
    *(cells->last ? &cells->last->after : &cells->first) = cell;
    cells->last = cell;
    *slot_of(cells, key, size, hash) = (cell_slot_t){hash, cell};
    set_place(cells, cell, cells->count++);
    move_up(cells, cell);
    return cell;
}

void cells_remove(cells_t *cells, cell_t *cell) {
    free_slot(cells, slot_of(cells, cell->key, cell->key_size, cell->hash));
    cell_t *last = cells->queue[--cells->count];
    if (last != cell) {
        set_place(cells, last, cell->place);
        move_up(cells, last);
        move_down(cells, last);
    }
    *(cell->before ? &cell->before->after : &cells->first) = cell->after;
    *(cell->after ? &cell->after->before : &cells->last) = cell->before;
    cells->bytes -= sizeof *cell + cells->size + cell->key_size;
    mem_free(cell);
}

void cells_due(cells_t *cells, cell_t *cell, int64_t due) {
    cell->due = due;
    if (due < cell->queued) {
        cell->queued = due;
        move_up(cells, cell);
    }
}

int64_t cells_next(const cells_t *cells) {
    return cells->count ? cells->queue[0]->queued : INT64_MAX;
}

cell_t *cells_first(cells_t *cells, int64_t watermark) {
    while (cells->count) {
        cell_t *cell = cells->queue[0];
        if (cell->queued == cell->due)
            return cell->due <= watermark ? cell : NULL;
        if (cell->queued > watermark)
            return NULL;
        cell->queued = cell->due;
        move_down(cells, cell);
    }
    return NULL;
}
