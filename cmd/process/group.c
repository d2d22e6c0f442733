/* Keyed state: the table of groups, and keys as bytes. See group.h. */
#include <sys/mman.h>

#include "group.h"

#include "data/pack.h"

#define FIRST_SLOTS 64
#define HUGE ((size_t) 2 << 20)
#define MOVES 8             /* slots of the old table that are moved with each insertion */

/* Asks for large pages for large blocks: random places in many small ones cost more than the memory itself. */
static void *large(void *memory, size_t size) {
    uintptr_t start = ((uintptr_t) memory + HUGE - 1) & ~(uintptr_t) (HUGE - 1), end = ((uintptr_t) memory + size) & ~(uintptr_t) (HUGE - 1);
    if (size >= 2 * HUGE && end > start)
        madvise((void *) start, end - start, MADV_HUGEPAGE);
    return memory;
}

groups_t *groups_new(size_t state_size) {
    groups_t *groups = mem_zero(sizeof *groups);
    groups->size = (sizeof(group_t) + state_size + 7) & ~(size_t) 7;
    groups->now = (group_slots_t){mem_zero(FIRST_SLOTS * sizeof(group_slot_t)), FIRST_SLOTS - 1};
    return groups;
}

size_t groups_memory(const groups_t *groups) {
    size_t slots = groups->now.mask + 1 + (groups->old.slots ? groups->old.mask + 1 : 0);
    return sizeof *groups + groups->bytes + groups->long_bytes + slots * sizeof(group_slot_t);
}

static void free_keys(groups_t *groups) {
    groups->long_bytes = 0;
    for (uint32_t i = 0; i < groups->count && groups->long_keys; i++) {
        group_t *group = groups_at(groups, i);
        if (group->key_size > GROUP_KEY_INLINE) {
            mem_free(group->key.pointer);
            groups->long_keys--;
        }
    }
}

void groups_clear(groups_t *groups) {
    free_keys(groups);
    mem_free(groups->old.slots);
    groups->old = (group_slots_t){0};
    memset(groups->now.slots, 0, (groups->now.mask + 1) * sizeof(group_slot_t));
    groups->count = 0;
}

void groups_free(groups_t *groups) {
    if (!groups)
        return;
    free_keys(groups);
    mem_free(groups->now.slots);
    mem_free(groups->old.slots);
    for (unsigned i = 0; i < GROUP_CHUNKS; i++)
        mem_free(groups->memory[i]);
    mem_free(groups);
}

static void place(group_slots_t *table, group_slot_t slot) {
    uint64_t i = slot.hash & table->mask;
    while (table->slots[i].number)
        i = (i + 1) & table->mask;
    table->slots[i] = slot;
}

/* The old table's slots stay where they are until all have been moved: its chains must not break. */
static void move_some(groups_t *groups) {
    uint64_t until = groups->moved + MOVES;
    for (; groups->moved < until && groups->moved <= groups->old.mask; groups->moved++)
        if (groups->old.slots[groups->moved].number)
            place(&groups->now, groups->old.slots[groups->moved]);
    if (groups->moved > groups->old.mask) {
        mem_free(groups->old.slots);
        groups->old = (group_slots_t){0};
    }
}

static group_slot_t *new_slots(uint64_t slots) {
    return large(mem_zero(slots * sizeof(group_slot_t)), slots * sizeof(group_slot_t));
}

static void new_chunk(groups_t *groups, unsigned chunk) {
    size_t size = ((size_t) GROUP_FIRST_CHUNK << chunk) * groups->size + GROUP_LINE;
    groups->memory[chunk] = large(mem_alloc(size), size);
    groups->bytes += size;
    groups->chunks[chunk] = (uint8_t *) (((uintptr_t) groups->memory[chunk] + GROUP_LINE - 1) & ~(uintptr_t) (GROUP_LINE - 1));
}

group_t *groups_add(groups_t *groups, const void *key, size_t size, uint64_t hash) {
    if (groups->old.slots)
        move_some(groups);
    else if (((uint64_t) groups->count + 1) * 2 > groups->now.mask + 1) { /* half full; all is moved long before the next time */
        uint64_t slots = (groups->now.mask + 1) * 2;
        groups->old = groups->now;
        groups->now = (group_slots_t){new_slots(slots), slots - 1};
        groups->moved = 0;
    }
    ASSERT(groups->count < UINT32_MAX - GROUP_FIRST_CHUNK);
    uint64_t shifted = (uint64_t) groups->count + GROUP_FIRST_CHUNK;
    unsigned chunk = 63u - (unsigned) __builtin_clzll(shifted) - 4;
    if (!groups->chunks[chunk])
        new_chunk(groups, chunk);
    group_t *group = groups_at(groups, groups->count++);
    memset(group, 0, groups->size);
    group->key_size = (uint32_t) size;
    if (size > GROUP_KEY_INLINE) {
        group->key.pointer = mem_copy(key, size);
        groups->long_keys++;
        groups->long_bytes += size;
    } else {
        memcpy(group->key.bytes, key, GROUP_KEY_INLINE);
    }
    place(&groups->now, (group_slot_t){(uint32_t) hash, groups->count});
    return group;
}

/* Keys: a type byte, then 8 bytes of numbers and times, or a size (one byte, or LONG and four) and bytes. Whole doubles are keyed as
 * integers. */
#define LONG 255

static value_t canonical(value_t value) {
    if (value.type != VALUE_DOUBLE)
        return value;
    double number = value.number;
    if (number >= -9223372036854775808.0 && number < 9223372036854775808.0 && (double) (int64_t) number == number)
        return value_int((int64_t) number);
    if (number >= 0 && number < 18446744073709551616.0 && (double) (uint64_t) number == number)
        return value_uint((uint64_t) number);
    if (number != number)
        return value_double(__builtin_nan(""));
    return value;
}

void key_put(buf_t *out, value_t value) {
    value = canonical(value);
    bool bytes = value.type >= VALUE_STRING && value.type <= VALUE_MAP;
    uint8_t *at = buf_reserve(out, 9 + (bytes ? value.size : 0));
    uint8_t *start = at;
    *at++ = value.type;
    if (bytes) {
        *at++ = value.size < LONG ? (uint8_t) value.size : LONG;
        if (value.size >= LONG) {
            memcpy(at, &value.size, 4);
            at += 4;
        }
        memcpy(at, value.text, value.size);
        at += value.size;
    } else if (value.type == VALUE_BOOL) {
        *at++ = value.boolean;
    } else if (value.type != VALUE_NULL) {
        memcpy(at, &value.integer, 8);
        at += 8;
    }
    out->size += (size_t) (at - start);
}

value_t key_read(const uint8_t **from, const uint8_t *end) {
    const uint8_t *at = *from;
    value_t value = {0};
    *from = end;
    if (at >= end)
        return value;
    unsigned type = *at++;
    size_t left = (size_t) (end - at), size = 8;
    switch (type) {
    case VALUE_NULL:
        size = 0;
        break;
    case VALUE_BOOL:
        size = 1;
        if (left >= 1)
            value.boolean = *at;
        break;
    case VALUE_STRING:
    case VALUE_BINARY:
    case VALUE_ARRAY:
    case VALUE_MAP:
        size = left && *at == LONG ? 5 : 1;
        if (left < size)
            return value;
        value.size = *at;
        if (size == 5)
            memcpy(&value.size, at + 1, 4);
        value.packed = at + size;
        size += value.size;
        break;
    default:
        if (left >= 8)
            memcpy(&value.integer, at, 8);
    }
    if (left < size)
        return value_null(); /* can't be: keys are made by key_put */
    value.type = (uint8_t) type;
    *from = at + size;
    return value;
}
