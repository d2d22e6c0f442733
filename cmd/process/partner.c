/* What a join keeps: a table per side, and a heap by time over both. See partner.h. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdlib.h>

#include "partner.h"

#define FIRST_SLOTS 64

/* Earlier, or as early and here before. */
static inline bool is_earlier(const partner_due_t *a, const partner_due_t *b) {
    return a->time != b->time ? a->time < b->time : a->serial < b->serial;
}

/* ---- by key ---- */

static void append(partner_slot_t *slot, partner_t *partner) {
    partner->before = slot->last;
    partner->after = NULL;
    if (slot->last)
        slot->last->after = partner;
    else
        slot->first = partner;
    slot->last = partner;
}

/* All of a slot go to two, each in the order that they have. */
static void grow(partners_t *partners, unsigned side) {
    partner_slot_t *old = partners->slots[side];
    uint64_t count = old ? partners->mask[side] + 1 : 0, room = count ? 2 * count : FIRST_SLOTS;
    partners->slots[side] = mem_zero(room * sizeof *partners->slots[side]);
    partners->mask[side] = room - 1;
    partners->bytes += (room - count) * sizeof *old;
    for (uint64_t i = 0; i < count; i++) {
        for (partner_t *partner = old[i].first, *next; partner; partner = next) {
            next = partner->after;
            append(&partners->slots[side][partner->hash & partners->mask[side]], partner);
        }
    }
    mem_free(old);
}

static void unlink_partner(partners_t *partners, partner_t *partner) {
    partner_slot_t *slot = &partners->slots[partner->side][partner->hash & partners->mask[partner->side]];
    if (partner->before)
        partner->before->after = partner->after;
    else
        slot->first = partner->after;
    if (partner->after)
        partner->after->before = partner->before;
    else
        slot->last = partner->before;
    partners->count[partner->side]--;
}

static partner_t *first_with(partner_t *partner, uint32_t hash, const void *key, size_t size) {
    while (partner && (partner->hash != hash || partner->key_size != size || memcmp(partner->bytes, key, size) != 0))
        partner = partner->after;
    return partner;
}

partner_t *partners_find(const partners_t *partners, unsigned side, text_t key) {
    uint32_t hash = (uint32_t) XXH3_64bits(key.data, key.size);
    return partners->count[side] ? first_with(partners->slots[side][hash & partners->mask[side]].first, hash, key.data, key.size) : NULL;
}

partner_t *partners_next(const partner_t *partner) {
    return first_with(partner->after, partner->hash, partner->bytes, partner->key_size);
}

/* ---- by time ---- */

static void push(partners_t *partners, partner_t *partner) {
    if (partners->heap_count == partners->heap_room) {
        partners->heap_room = partners->heap_room ? 2 * partners->heap_room : 64;
        partners->heap = mem_resize(partners->heap, partners->heap_room * sizeof *partners->heap);
    }
    partner_due_t due = {partner->time, partner->serial, partner}, *heap = partners->heap;
    uint32_t at = partners->heap_count++;
    for (; at && is_earlier(&due, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = due;
}

static void pop(partners_t *partners) {
    partner_due_t *heap = partners->heap, last = heap[--partners->heap_count];
    uint32_t at = 0, count = partners->heap_count;
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && is_earlier(&heap[child + 1], &heap[child]);
        if (!is_earlier(&heap[child], &last))
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
}

partner_t *partners_earliest(const partners_t *partners) {
    return partners->heap_count ? partners->heap[0].partner : NULL;
}

/* ---- both ---- */

static size_t size_of(const partner_t *partner) {
    return sizeof *partner + partner->key_size + partner->record_size;
}

partner_t *partners_add(partners_t *partners, const partner_t *what, text_t key, text_t record) {
    partner_t *partner = mem_alloc(sizeof *partner + key.size + record.size);
    *partner = *what;
    partner->serial = partners->serial++;
    partner->hash = (uint32_t) XXH3_64bits(key.data, key.size);
    partner->key_size = (uint32_t) key.size;
    partner->record_size = (uint32_t) record.size;
    memcpy(partner->bytes, key.data, key.size);
    memcpy(partner->bytes + key.size, record.data, record.size);
    unsigned side = partner->side;
    if (!partners->slots[side] || partners->count[side] > partners->mask[side])
        grow(partners, side);
    append(&partners->slots[side][partner->hash & partners->mask[side]], partner);
    partners->count[side]++;
    partners->bytes += size_of(partner) + sizeof(partner_due_t);
    push(partners, partner);
    return partner;
}

void partners_remove_earliest(partners_t *partners) {
    partner_t *partner = partners->heap[0].partner;
    pop(partners);
    unlink_partner(partners, partner);
    partners->bytes -= size_of(partner) + sizeof(partner_due_t);
    mem_free(partner);
}

void partners_fini(partners_t *partners) {
    for (uint32_t i = 0; i < partners->heap_count; i++)
        mem_free(partners->heap[i].partner);
    mem_free(partners->heap);
    mem_free(partners->slots[0]);
    mem_free(partners->slots[1]);
    *partners = (partners_t){0};
}

/* ---- snapshots: in the order in which they came ---- */

static int by_serial(const void *a, const void *b) {
    uint64_t x = ((const partner_due_t *) a)->serial, y = ((const partner_due_t *) b)->serial;
    return (x > y) - (x < y);
}

void partners_save(const partners_t *partners, program_t *program, buf_t *out) {
    size_t size = partners->heap_count * sizeof *partners->heap;
    partner_due_t *order = size ? mem_copy(partners->heap, size) : NULL;
    if (size)
        qsort(order, partners->heap_count, sizeof *order, by_serial);
    pack_array(out, partners->heap_count);
    for (uint32_t i = 0; i < partners->heap_count; i++) {
        const partner_t *partner = order[i].partner;
        pack_array(out, 7);
        pack_uint(out, partner->side);
        pack_int(out, partner->time);
        pack_int(out, partner->ingest_time);
        pack_uint(out, partner->source);
        pack_bool(out, partner->matched);
        pack_binary(out, partner->bytes, partner->key_size);
        pack_binary(out, partner_record(partner), partner->record_size);
        program_saved(program, out);
    }
    mem_free(order);
}

bool partners_load(partners_t *partners, pack_cursor_t *cursor) {
    uint32_t count, seven;
    if (!pack_read_array(cursor, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        partner_t what = {0};
        uint64_t side, source;
        value_t matched;
        text_t key, record;
        if (!pack_read_array(cursor, &seven) || seven != 7 || !pack_read_uint(cursor, &side) || side > 1 || !pack_read_int(cursor, &what.time) ||
            !pack_read_int(cursor, &what.ingest_time) || !pack_read_uint(cursor, &source) || source > UINT32_MAX ||
            !pack_read_value(cursor, &matched) || matched.type != VALUE_BOOL || !pack_read_binary(cursor, &key) || !pack_read_binary(cursor, &record))
            return false;
        what.side = (uint8_t) side;
        what.source = (uint32_t) source;
        what.matched = matched.boolean;
        partners_add(partners, &what, key, record);
    }
    return true;
}
