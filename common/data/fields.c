/* The fields of a record that is being put together, each name once. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "data/fields.h"

#include "base/memory.h"
#include "data/pack.h"

#define FEW 24                /* fields that are searched one by one */
#define SLOTS_FIRST 128

void fields_clear(fields_t *fields) {
    fields->count = 0;
    fields->slots_size = 0;
}

static void add_slot(fields_t *fields, uint32_t number) {
    uint32_t mask = fields->slots_size - 1, at = fields->items[number].hash & mask;
    while (fields->slots[at])
        at = (at + 1) & mask;
    fields->slots[at] = number + 1;
}

/* Makes room for one more; a table once there are many. */
static void grow(fields_t *fields) {
    if (fields->count == fields->capacity) {
        fields->capacity = fields->capacity ? 2 * fields->capacity : 32;
        fields->items = mem_resize(fields->items, fields->capacity * sizeof *fields->items);
    }
    if (fields->count < FEW || fields->count < fields->slots_size / 2)
        return;
    fields->slots_size = fields->slots_size ? 2 * fields->slots_size : SLOTS_FIRST;
    if (fields->slots_size > fields->slots_room) {
        fields->slots_room = fields->slots_size;
        fields->slots = mem_resize(fields->slots, fields->slots_room * sizeof *fields->slots);
    }
    memset(fields->slots, 0, fields->slots_size * sizeof *fields->slots);
    for (uint32_t i = 0; i < fields->count; i++)
        add_slot(fields, i);
}

static field_t *find(const fields_t *fields, text_t name, uint32_t hash) {
    if (!fields->slots_size) {
        for (uint32_t i = 0; i < fields->count; i++)
            if (fields->items[i].hash == hash && text_equal(fields->items[i].name, name))
                return &fields->items[i];
        return NULL;
    }
    uint32_t mask = fields->slots_size - 1;
    for (uint32_t at = hash & mask; fields->slots[at]; at = (at + 1) & mask) {
        field_t *field = &fields->items[fields->slots[at] - 1];
        if (field->hash == hash && text_equal(field->name, name))
            return field;
    }
    return NULL;
}

void fields_put(fields_t *fields, text_t name, const uint8_t *value, uint32_t size) {
    uint32_t hash = (uint32_t) XXH3_64bits(name.data ? name.data : "", name.size);
    field_t *field = find(fields, name, hash);
    if (field) {
        field->value = value;
        field->size = size;
        return;
    }
    grow(fields);
    fields->items[fields->count++] = (field_t){name, value, size, hash};
    if (fields->slots_size)
        add_slot(fields, fields->count - 1);
}

bool fields_put_map(fields_t *fields, value_t map) {
    pack_cursor_t cursor = pack_cursor(map.packed, map.size);
    uint32_t entries;
    if (map.type != VALUE_MAP || !pack_read_map(&cursor, &entries))
        return false;
    for (uint32_t i = 0; i < entries; i++) {
        text_t name;
        if (!pack_read_string(&cursor, &name))
            return false;
        const uint8_t *value = cursor.at;
        if (!pack_skip(&cursor))
            return false;
        fields_put(fields, name, value, (uint32_t) (cursor.at - value));
    }
    return true;
}

void fields_pack(const fields_t *fields, buf_t *out) {
    pack_map(out, fields->count);
    for (uint32_t i = 0; i < fields->count; i++) {
        const field_t *field = &fields->items[i];
        pack_string(out, field->name.data, field->name.size);
        buf_put(out, field->value, field->size);
    }
}

void fields_fini(fields_t *fields) {
    mem_free(fields->items);
    mem_free(fields->slots);
    *fields = (fields_t){0};
}
