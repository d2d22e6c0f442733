#ifndef PROCESS_GROUP_H
#define PROCESS_GROUP_H

#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/buffer.h"
#include "data/lang/expression.h"

/* Keyed state: a table from keys (bytes) to fixed-size blocks. Open addressing; it grows a little with each insertion, so that no event waits for
 * a rehash of everything. Iteration is in order of insertion, so nothing depends on hash order. */
#define GROUP_FIRST_CHUNK 16  /* groups in the first chunk; each further one holds twice as many */
#define GROUP_CHUNKS 28
#define GROUP_LINE 64         /* bytes of a cache line: groups begin on one when their size allows */
#define GROUP_KEY_INLINE 16   /* bytes of a key inside its group: a common group then fits one cache line */

typedef struct group {
    uint32_t key_size;
    uint32_t mark;            /* the operator's own */
    union {
        uint8_t bytes[GROUP_KEY_INLINE];      /* keys up to here, padded with zeros */
        uint64_t words[2];
        uint8_t *pointer;     /* longer ones */
    } key;
    uint8_t state[];
} group_t;

static inline const uint8_t *group_key(const group_t *group) {
    return group->key_size <= GROUP_KEY_INLINE ? group->key.bytes : group->key.pointer;
}

/* Open for the functions that every event calls: they are inline. */
typedef struct group_slot {
    uint32_t hash;
    uint32_t number;        /* of the group, from 1; 0: free */
} group_slot_t;

typedef struct group_slots {
    group_slot_t *slots;
    uint64_t mask;
} group_slots_t;

typedef struct groups {
    size_t size;            /* of a group */
    uint32_t count;
    group_slots_t now, old; /* old: still moving over, from `moved` on */
    uint64_t moved;
    uint32_t long_keys;     /* in memory of their own */
    size_t bytes, long_bytes;             /* of chunks; of long keys */
    uint8_t *chunks[GROUP_CHUNKS];
    void *memory[GROUP_CHUNKS]; /* of the chunks, before alignment */
} groups_t;

groups_t *groups_new(size_t state_size);              /* states begin zeroed */
void groups_free(groups_t *groups);                   /* what states own is the caller's to free before; NULL is legal */
void groups_clear(groups_t *groups);                  /* empty again, memory kept */
size_t groups_memory(const groups_t *groups);         /* bytes that it takes */
group_t *groups_add(groups_t *groups, const void *key, size_t size, uint64_t hash);       /* one that is not there */

static inline uint32_t groups_count(const groups_t *groups) {
    return groups->count;
}

/* In order of insertion. Chunk k begins at number 16 × (2^k − 1). */
static inline group_t *groups_at(const groups_t *groups, uint32_t index) {
    uint64_t shifted = (uint64_t) index + GROUP_FIRST_CHUNK;
    unsigned chunk = 63u - (unsigned) __builtin_clzll(shifted) - 4;
    return (group_t *) (void *) (groups->chunks[chunk] + (shifted - ((uint64_t) GROUP_FIRST_CHUNK << chunk)) * groups->size);
}

/* A key must be followed by GROUP_KEY_INLINE zero bytes: key_end puts them there. */
static inline uint64_t groups_hash(const void *key, size_t size) {
    if (size > GROUP_KEY_INLINE)
        return XXH3_64bits(key, size);
    uint64_t words[2]; /* padded with zeros; mixed by one wide multiplication, as in wyhash */
    memcpy(words, key, sizeof words);
    __extension__ typedef unsigned __int128 wide_t;
    wide_t product = (wide_t) (words[0] ^ UINT64_C(0x9E3779B97F4A7C15)) * (words[1] ^ UINT64_C(0xD6E8FEB86659FD93) ^ size);
    return (uint64_t) product ^ (uint64_t) (product >> 64);
}

static inline bool group_has_key(const group_t *group, const void *key, size_t size) {
    if (group->key_size != size)
        return false;
    if (size > GROUP_KEY_INLINE)
        return memcmp(group->key.pointer, key, size) == 0;
    uint64_t words[2];
    memcpy(words, key, sizeof words);
    return words[0] == group->key.words[0] && words[1] == group->key.words[1];
}

static inline group_t *groups_probe(const groups_t *groups, const group_slots_t *table, const void *key, size_t size, uint32_t hash) {
    for (uint64_t i = hash & table->mask;; i = (i + 1) & table->mask) {
        group_slot_t slot = table->slots[i];
        if (!slot.number)
            return NULL;
        if (slot.hash == hash) {
            group_t *group = groups_at(groups, slot.number - 1);
            if (group_has_key(group, key, size))
                return group;
        }
    }
}

/* NULL when there is none. */
static inline group_t *groups_find(groups_t *groups, const void *key, size_t size, uint64_t hash) {
    group_t *group = groups_probe(groups, &groups->now, key, size, (uint32_t) hash);
    if (!group && groups->old.slots)
        group = groups_probe(groups, &groups->old, key, size, (uint32_t) hash);
    return group;
}

/* A new one when there is none. */
static inline group_t *groups_get(groups_t *groups, const void *key, size_t size, uint64_t hash) {
    group_t *group = groups_find(groups, key, size, hash);
    return group ? group : groups_add(groups, key, size, hash);
}

/* Always inline: a function that only prefetches is pure to gcc 12, and a call of it left out. */
static inline __attribute__((always_inline)) void groups_prefetch_slot(const groups_t *groups, uint64_t hash) {
    __builtin_prefetch(&groups->now.slots[(uint32_t) hash & groups->now.mask]);
    if (groups->old.slots)
        __builtin_prefetch(&groups->old.slots[(uint32_t) hash & groups->old.mask]);
}

static inline __attribute__((always_inline)) void groups_prefetch_group(const groups_t *groups, uint64_t hash) {
    group_slot_t slot = groups->now.slots[(uint32_t) hash & groups->now.mask];
    if (!slot.number && groups->old.slots)
        slot = groups->old.slots[(uint32_t) hash & groups->old.mask];
    if (slot.number) {
        const uint8_t *group = (const uint8_t *) groups_at(groups, slot.number - 1);
        __builtin_prefetch(group);
        if (groups->size > GROUP_LINE)
            __builtin_prefetch(group + GROUP_LINE);
    }
}

/* Keys: values in a form in which equal values (1 and 1.0 too) have equal bytes; and back. */
void key_put(buf_t *out, value_t value);
static inline void key_end(buf_t *out) {              /* behind the last value; does not count */
    memset(buf_reserve(out, GROUP_KEY_INLINE), 0, GROUP_KEY_INLINE);
}
value_t key_read(const uint8_t **at, const uint8_t *end);                 /* borrowed from the key */

#endif
