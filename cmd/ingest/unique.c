/* Hashes of events, the latest ones: a table of fixed size, and a chain from the oldest to the newest. */
#include "unique.h"

#include <string.h>
#include <xxhash.h>

#include "base/memory.h"
#include "data/pack.h"

typedef struct entry {
    uint64_t hash;
    uint32_t older, newer;         /* 0: none; entries count from 1 */
} entry_t;

struct unique {
    const option_list_t *fields;
    entry_t *entries;
    uint32_t *slots;               /* by hash: an entry's number; 0: free */
    uint32_t limit, mask, count;
    uint32_t oldest, newest;
};

int unique_check(const option_list_t *fields, err_t *err) {
    for (size_t i = 0; i < fields->count; i++) {
        if (!*fields->items[i] || (strcmp(fields->items[i], "*") == 0 && fields->count > 1))
            return err_set(err, "--unique takes fields, or * alone for the whole event");
    }
    return 0;
}

unique_t *unique_new(const option_list_t *fields, uint32_t limit) {
    unique_t *unique = mem_zero(sizeof *unique);
    uint32_t slots = 16;
    while (slots < 2 * limit)
        slots *= 2;
    unique->fields = fields;
    unique->limit = limit;
    unique->mask = slots - 1;
    unique->entries = mem_zero((limit + 1) * sizeof *unique->entries);
    unique->slots = mem_zero(slots * sizeof *unique->slots);
    return unique;
}

void unique_free(unique_t *unique) {
    if (!unique)
        return;
    mem_free(unique->entries);
    mem_free(unique->slots);
    mem_free(unique);
}

/* ---- the chain ---- */

static void unlink_entry(unique_t *unique, uint32_t number) {
    entry_t *entry = &unique->entries[number];
    if (entry->older)
        unique->entries[entry->older].newer = entry->newer;
    else
        unique->oldest = entry->newer;
    if (entry->newer)
        unique->entries[entry->newer].older = entry->older;
    else
        unique->newest = entry->older;
}

static void append(unique_t *unique, uint32_t number) {
    entry_t *entry = &unique->entries[number];
    entry->older = unique->newest;
    entry->newer = 0;
    if (unique->newest)
        unique->entries[unique->newest].newer = number;
    else
        unique->oldest = number;
    unique->newest = number;
}

/* ---- the table ---- */

static uint32_t slot_of(const unique_t *unique, uint64_t hash) {
    uint32_t at = (uint32_t) hash & unique->mask;
    while (unique->slots[at] && unique->entries[unique->slots[at]].hash != hash)
        at = (at + 1) & unique->mask;
    return at;
}

/* Those behind it move up, so that none is cut off from its place. */
static void free_slot(unique_t *unique, uint32_t at) {
    uint32_t hole = at;
    unique->slots[hole] = 0;
    for (at = (at + 1) & unique->mask; unique->slots[at]; at = (at + 1) & unique->mask) {
        uint32_t home = (uint32_t) unique->entries[unique->slots[at]].hash & unique->mask;
        if (((at - home) & unique->mask) < ((at - hole) & unique->mask))
            continue;
        unique->slots[hole] = unique->slots[at];
        unique->slots[at] = 0;
        hole = at;
    }
}

static bool take_hash(unique_t *unique, uint64_t hash) {
    uint32_t at = slot_of(unique, hash), number = unique->slots[at];
    if (number) {
        unlink_entry(unique, number);
        append(unique, number);
        return false;
    }
    if (unique->count < unique->limit) {
        number = ++unique->count;
    } else {
        number = unique->oldest;
        free_slot(unique, slot_of(unique, unique->entries[number].hash));
        unlink_entry(unique, number);
        at = slot_of(unique, hash);
    }
    unique->entries[number].hash = hash;
    unique->slots[at] = number;
    append(unique, number);
    return true;
}

/* ---- events ---- */

/* The packed value at a path; false: there is none. A name that holds dots itself is found as such. */
static bool find(const uint8_t *record, size_t size, text_t path, value_t *value) {
    text_t name;
    if (pack_map_get(record, size, path, value))
        return value->type != VALUE_NULL;
    *value = (value_t){.type = VALUE_MAP, .size = (uint32_t) size, .packed = record};
    while (text_split(&path, '.', &name)) {
        if (value->type != VALUE_MAP || !pack_map_get(value->packed, value->size, name, value))
            return false;
    }
    return value->type != VALUE_NULL;
}

bool unique_take(unique_t *unique, const uint8_t *record, size_t size) {
    const option_list_t *fields = unique->fields;
    if (fields->count == 1 && strcmp(fields->items[0], "*") == 0)
        return take_hash(unique, XXH3_64bits(record, size));
    buf_t space = {0};
    uint64_t hash = 0;
    bool some = false;
    for (size_t i = 0; i < fields->count; i++) {
        value_t value;
        buf_clear(&space);
        bool found = find(record, size, text_of(fields->items[i]), &value);
        pack_value(&space, found ? value : value_null());
        hash = XXH3_64bits_withSeed(space.data, space.size, hash);
        some |= found;
    }
    buf_fini(&space);
    return !some || take_hash(unique, hash);
}

/* Little-endian, from the oldest on. */
void unique_put(const unique_t *unique, buf_t *out) {
    buf_t bytes = {0};
    buf_reserve(&bytes, 8 * (size_t) unique->count + 8);
    for (uint32_t number = unique->oldest; number; number = unique->entries[number].newer) {
        for (int i = 0; i < 8; i++)
            buf_put_byte(&bytes, (uint8_t) (unique->entries[number].hash >> 8 * i));
    }
    pack_binary(out, bytes.data, bytes.size);
    buf_fini(&bytes);
}

void unique_load(unique_t *unique, const void *bytes, size_t size) {
    const uint8_t *byte = bytes;
    for (size_t at = 0; at + 8 <= size; at += 8) {
        uint64_t hash = 0;
        for (int i = 0; i < 8; i++)
            hash |= (uint64_t) byte[at + (size_t) i] << 8 * i;
        take_hash(unique, hash);
    }
}
