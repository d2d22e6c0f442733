/* The insertion-ordered hash map: an array of entries, and an open-addressing index into it (linear probing). */
#include "base/map.h"

#include <xxhash.h>

#include "base/err.h"
#include "base/memory.h"

typedef struct entry {
    char *key; /* NULL: removed */
    size_t size;
    uint64_t hash;
    void *value;
} entry_t;

struct map {
    entry_t *entries;
    size_t used, capacity, live; /* entries in use (removed ones included), room, those not removed */
    uint32_t *index;             /* slot → entry + 1, 0 empty; slots is a power of two, at most half full */
    size_t slots;
};

map_t *map_new(void) {
    return mem_zero(sizeof(map_t));
}

void map_free(map_t *map) {
    if (!map)
        return;
    for (size_t i = 0; i < map->used; i++)
        mem_free(map->entries[i].key);
    mem_free(map->entries);
    mem_free(map->index);
    mem_free(map);
}

static entry_t *find(const map_t *map, text_t key, uint64_t hash) {
    if (!map->slots)
        return NULL;
    for (size_t slot = hash & (map->slots - 1);; slot = (slot + 1) & (map->slots - 1)) {
        uint32_t number = map->index[slot];
        if (!number)
            return NULL;
        entry_t *entry = &map->entries[number - 1];
        if (entry->key && entry->hash == hash && text_equal(text_make(entry->key, entry->size), key))
            return entry;
    }
}

/* Drops removed entries and rebuilds the index with room for more. */
static void rebuild(map_t *map) {
    size_t kept = 0;
    for (size_t i = 0; i < map->used; i++)
        if (map->entries[i].key)
            map->entries[kept++] = map->entries[i];
    map->used = kept;
    map->capacity = kept < 8 ? 16 : kept * 2;
    ASSERT(map->capacity < UINT32_MAX);
    map->entries = mem_resize(map->entries, map->capacity * sizeof *map->entries);
    mem_free(map->index);
    map->slots = 16;
    while (map->slots < map->capacity * 2)
        map->slots *= 2;
    map->index = mem_zero(map->slots * sizeof *map->index);
    for (size_t i = 0; i < map->used; i++) {
        size_t slot = map->entries[i].hash & (map->slots - 1);
        while (map->index[slot])
            slot = (slot + 1) & (map->slots - 1);
        map->index[slot] = (uint32_t) i + 1;
    }
}

void *map_get(const map_t *map, text_t key) {
    entry_t *entry = find(map, key, XXH3_64bits(key.data, key.size));
    return entry ? entry->value : NULL;
}

void *map_put(map_t *map, text_t key, void *value) {
    ASSERT(value);
    uint64_t hash = XXH3_64bits(key.data, key.size);
    entry_t *entry = find(map, key, hash);
    if (entry) {
        void *old = entry->value;
        entry->value = value;
        return old;
    }
    if (map->used == map->capacity)
        rebuild(map);
    map->entries[map->used] = (entry_t){mem_text_n(key.data, key.size), key.size, hash, value};
    size_t slot = hash & (map->slots - 1);
    while (map->index[slot])
        slot = (slot + 1) & (map->slots - 1);
    map->index[slot] = (uint32_t) ++map->used;
    map->live++;
    return NULL;
}

void *map_remove(map_t *map, text_t key) {
    entry_t *entry = find(map, key, XXH3_64bits(key.data, key.size));
    if (!entry)
        return NULL;
    mem_free(entry->key);
    entry->key = NULL; /* the slot keeps pointing here, so that probing goes on past it */
    map->live--;
    return entry->value;
}

size_t map_count(const map_t *map) {
    return map->live;
}

bool map_next(const map_t *map, size_t *position, text_t *key, void **value) {
    while (*position < map->used) {
        const entry_t *entry = &map->entries[(*position)++];
        if (!entry->key)
            continue;
        if (key)
            *key = text_make(entry->key, entry->size);
        if (value)
            *value = entry->value;
        return true;
    }
    return false;
}
