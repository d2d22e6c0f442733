#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>

#include "base/text.h"

/* A hash map from byte strings (copied) to pointers (the caller's). Open addressing; insertion order is
 * kept for iteration, so that nothing depends on hash order. For set-up and bookkeeping; per-event keyed state
 * has its own table in the operators. */
typedef struct map map_t;

map_t *map_new(void);
void map_free(map_t *map);                            /* values are not touched */
void *map_get(const map_t *map, text_t key);          /* NULL when absent */
void *map_put(map_t *map, text_t key, void *value);   /* returns the value that was there, or NULL; value is not NULL */
void *map_remove(map_t *map, text_t key);             /* returns the value, or NULL */
size_t map_count(const map_t *map);

/* Iteration in insertion order: start with *position = 0; false at the end. Removing the entry just
 * returned is legal, any other change is not. The key is borrowed until it is removed. */
bool map_next(const map_t *map, size_t *position, text_t *key, void **value);

#endif
