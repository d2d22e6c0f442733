/* Tables in memory: an image of the rows, and an index of where each key's row begins. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "table.h"

#include "base/memory.h"
#include "data/pack.h"

#define IMAGE_MAX (UINT32_MAX - 16u)

typedef struct slot {
    uint32_t hash;
    uint32_t at;              /* of the row in the image; 0: free (the image begins with a head) */
} slot_t;

struct table {
    uint8_t *image;
    size_t size;
    slot_t *slots;
    uint64_t mask;
    uint64_t rows;
};

uint64_t table_hash(const void *key, size_t size) {
    return XXH3_64bits(key, size);
}

/* A row's key; *at goes to the row behind it. */
static inline bool read_key(const uint8_t **at, const uint8_t *end, text_t *key) {
    const uint8_t *p = *at;
    if (end - p >= 2 && *p == 0xC4 && end - p - 2 >= p[1]) { /* bin 8, as nearly all are */
        *key = text_make((const char *) p + 2, p[1]);
        *at = p + 2 + p[1];
        return true;
    }
    pack_cursor_t cursor = {p, end};
    if (!pack_read_binary(&cursor, key))
        return false;
    *at = cursor.at;
    return true;
}

static slot_t *find_slot(const table_t *table, const void *key, size_t size, uint64_t hash, const uint8_t **row) {
    uint64_t i = hash & table->mask;
    for (;; i = (i + 1) & table->mask) {
        slot_t *slot = &table->slots[i];
        if (!slot->at)
            break;
        if (slot->hash != (uint32_t) (hash >> 32))
            continue;
        const uint8_t *at = table->image + slot->at;
        text_t found;
        if (read_key(&at, table->image + table->size, &found) && found.size == size && memcmp(found.data, key, size) == 0) {
            *row = at;
            return slot;
        }
    }
    *row = NULL;
    return &table->slots[i];
}

static int index_rows(table_t *table, pack_cursor_t *cursor, uint64_t count, err_t *err) {
    uint64_t slots = 16;
    while (slots < count + count / 2)
        slots *= 2;
    table->slots = mem_zero(slots * sizeof *table->slots);
    table->mask = slots - 1;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *start = cursor->at, *known;
        text_t key;
        if (!pack_read_binary(cursor, &key) || !pack_skip(cursor))
            return err_set(err, "the table's image is damaged at byte %zu", (size_t) (start - table->image));
        uint64_t hash = table_hash(key.data, key.size);
        slot_t *slot = find_slot(table, key.data, key.size, hash, &known);
        *slot = (slot_t){(uint32_t) (hash >> 32), (uint32_t) (start - table->image)};
        table->rows += known == NULL;
    }
    return cursor->at == cursor->end ? 0 : err_set(err, "the table's image is damaged: its size");
}

table_t *table_new(text_t image, err_t *err) {
    if (image.size > IMAGE_MAX) {
        err_set(err, "a table of more than 4 GiB");
        return NULL;
    }
    pack_cursor_t cursor = pack_cursor(image.data, image.size);
    uint64_t count;
    if (!pack_read_uint(&cursor, &count) || count > image.size / 2) {
        err_set(err, "the table's image is damaged: its head");
        return NULL;
    }
    table_t *table = mem_zero(sizeof *table);
    table->image = mem_copy(image.data, image.size);
    table->size = image.size;
    size_t head = (size_t) (cursor.at - (const uint8_t *) image.data);
    cursor = pack_cursor(table->image, table->size);
    cursor.at += head;
    if (index_rows(table, &cursor, count, err)) {
        table_free(table);
        return NULL;
    }
    return table;
}

void table_free(table_t *table) {
    if (!table)
        return;
    mem_free(table->image);
    mem_free(table->slots);
    mem_free(table);
}

size_t table_memory(const table_t *table) {
    return table ? sizeof *table + table->size + (table->mask + 1) * sizeof *table->slots : 0;
}

uint64_t table_rows(const table_t *table) {
    return table->rows;
}

void table_prefetch_slot(const table_t *table, uint64_t hash) {
    __builtin_prefetch(&table->slots[hash & table->mask]);
}

void table_prefetch_row(const table_t *table, uint64_t hash) {
    __builtin_prefetch(table->image + table->slots[hash & table->mask].at);
}

const uint8_t *table_find(const table_t *table, const void *key, size_t size, uint64_t hash, const uint8_t **end) {
    const uint8_t *row;
    find_slot(table, key, size, hash, &row);
    *end = table->image + table->size;
    return row;
}
