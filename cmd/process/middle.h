#ifndef PROCESS_MIDDLE_H
#define PROCESS_MIDDLE_H

#include <stdint.h>

/* The median of values that come and go: the lower half in a heap with its greatest on top, the upper half in one with its least on top. Both share
 * one array, one from each end. The values stand in slots elsewhere; `places` says where in the array a slot is, so that any value can leave
 * in O(log n). */
typedef struct middle_entry {
    double number;
    uint32_t slot;
} middle_entry_t;

typedef struct middle {
    middle_entry_t *heap;     /* room for `capacity` */
    uint32_t *places;         /* of each slot */
    uint32_t capacity;
    uint32_t *lower, *upper;  /* how many are in each */
} middle_t;

void middle_add(const middle_t *middle, uint32_t slot, double number);
void middle_remove(const middle_t *middle, uint32_t slot);
void middle_moved(const middle_t *middle, uint32_t from, uint32_t to);    /* the value of a slot has another slot now */
double middle_result(const middle_t *middle);         /* of at least one */

#endif
