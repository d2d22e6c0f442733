/* The median of a window, by two heaps. See middle.h. */
#include "middle.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

/* A heap from one end of the array. */
typedef struct half {
    const middle_t *middle;
    uint32_t *count;
    bool upper;
} half_t;

static half_t lower_of(const middle_t *middle) { return (half_t){middle, middle->lower, false}; }
static half_t upper_of(const middle_t *middle) { return (half_t){middle, middle->upper, true}; }

static inline uint32_t place_of(const half_t *half, uint32_t index) {
    return half->upper ? half->middle->capacity - 1 - index : index;
}

static inline middle_entry_t entry_at(const half_t *half, uint32_t index) {
    return half->middle->heap[place_of(half, index)];
}

static inline void put(const half_t *half, uint32_t index, middle_entry_t entry) {
    uint32_t place = place_of(half, index);
    half->middle->heap[place] = entry;
    half->middle->places[entry.slot] = place;
}

static inline bool above(const half_t *half, middle_entry_t a, middle_entry_t b) {
    return half->upper ? a.number < b.number : a.number > b.number;
}

static void rise(const half_t *half, uint32_t index, middle_entry_t entry) {
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        middle_entry_t other = entry_at(half, parent);
        if (!above(half, entry, other))
            break;
        put(half, index, other);
        index = parent;
    }
    put(half, index, entry);
}

static void sink(const half_t *half, uint32_t index, middle_entry_t entry) {
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= *half->count)
            break;
        if (child + 1 < *half->count && above(half, entry_at(half, child + 1), entry_at(half, child)))
            child++;
        middle_entry_t other = entry_at(half, child);
        if (!above(half, other, entry))
            break;
        put(half, index, other);
        index = child;
    }
    put(half, index, entry);
}

static void push(const half_t *half, middle_entry_t entry) {
    rise(half, (*half->count)++, entry);
}

static void take(const half_t *half, uint32_t index) {
    middle_entry_t last = entry_at(half, --*half->count);
    if (index == *half->count)
        return;
    if (index > 0 && above(half, last, entry_at(half, (index - 1) / 2)))
        rise(half, index, last);
    else
        sink(half, index, last);
}

/* The lower half has as many as the upper one, or one more. */
static void balance(const middle_t *middle) {
    half_t lower = lower_of(middle), upper = upper_of(middle);
    const half_t *from = *lower.count > *upper.count + 1 ? &lower : *upper.count > *lower.count ? &upper : NULL;
    if (!from)
        return;
    middle_entry_t entry = entry_at(from, 0);
    take(from, 0);
    push(from == &lower ? &upper : &lower, entry);
}

void middle_add(const middle_t *middle, uint32_t slot, double number) {
    half_t lower = lower_of(middle), upper = upper_of(middle);
    bool low = *lower.count == 0 || number <= entry_at(&lower, 0).number;
    push(low ? &lower : &upper, (middle_entry_t){number, slot});
    balance(middle);
}

void middle_remove(const middle_t *middle, uint32_t slot) {
    uint32_t place = middle->places[slot];
    half_t lower = lower_of(middle), upper = upper_of(middle);
    if (place < *lower.count)
        take(&lower, place);
    else
        take(&upper, middle->capacity - 1 - place);
    balance(middle);
}

void middle_moved(const middle_t *middle, uint32_t from, uint32_t to) {
    middle->places[to] = middle->places[from];
    middle->heap[middle->places[to]].slot = to;
}

double middle_result(const middle_t *middle) {
    half_t lower = lower_of(middle), upper = upper_of(middle);
    double low = entry_at(&lower, 0).number;
    if (*lower.count > *upper.count)
        return low;
    double high = entry_at(&upper, 0).number, sum = low + high;
    return isfinite(sum) ? sum / 2 : low / 2 + high / 2;
}
