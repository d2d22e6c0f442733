/* Finding fields of packed records: by comparing with remembered shapes, else by walking. See record.h. */
#include "data/lang/record.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define SHAPES 8
#define SIZES 64            /* records of one size are mostly of one shape: which it was last, by size */
#define SHAPE_MAX 2048     /* bytes of a record that a shape covers; records that need more are walked */
#define CREDIT 128         /* learning costs as much as walking some records: hits earn it */
#define LEARN_COST 16
#define LEARN_EVERY 64     /* without credit, one in so many misses is learned */
#define BUCKETS 64
#define SEARCH 64          /* so often the other shapes are tried in vain before they are tried rarely */
#define SEARCH_EVERY 16
#define SEQUENCE 32        /* entries of the record walked last that are remembered */

typedef struct shape {
    uint8_t *expected, *mask;   /* `covered` bytes, rounded up to 16; mask 0xFF where a byte counts */
    uint32_t covered;
    uint32_t least;             /* the record has at least so many bytes */
    uint32_t exact;             /* the record's size, when a field's absence is part of the shape; else 0 */
    place_t *places;
} shape_t;

typedef struct slot {
    char *name;
    uint32_t size;
    uint32_t next;              /* in the bucket, + 1 */
} slot_t;

/* A key of the record walked last, with its head, as two words; the next record likely has the same keys in the same order. */
typedef struct expected {
    uint64_t words[2], masks[2];
    uint8_t size;               /* with its head; 0: unknown, or above 16 */
    uint32_t slot;              /* + 1; 0: not asked for */
} expected_t;

struct layout {
    slot_t *slots;
    unsigned count;
    uint32_t buckets[BUCKETS];  /* slot + 1 */
    shape_t shapes[SHAPES];
    unsigned shapes_used, oldest;
    uint8_t by_size[SIZES];     /* shape */
    unsigned credit, search;
    uint64_t misses, searches;
    expected_t sequence[SEQUENCE];
    place_t **retired;          /* of shapes that were replaced: rows may still point there */
    unsigned retired_count;
};

layout_t *layout_new(void) {
    layout_t *layout = mem_zero(sizeof *layout);
    layout->credit = CREDIT;
    layout->search = SEARCH;
    return layout;
}

static void settle_slow(layout_t *layout) {
    for (unsigned i = 0; i < layout->retired_count; i++)
        mem_free(layout->retired[i]);
    layout->retired_count = 0;
}

void layout_settle(layout_t *layout) {
    if (layout->retired_count)
        settle_slow(layout);
}

static void shape_fini(shape_t *shape) {
    mem_free(shape->expected);
    mem_free(shape->mask);
    mem_free(shape->places);
    *shape = (shape_t){0};
}

void layout_free(layout_t *layout) {
    if (!layout)
        return;
    layout_settle(layout);
    mem_free(layout->retired);
    for (unsigned i = 0; i < SHAPES; i++)
        shape_fini(&layout->shapes[i]);
    for (unsigned i = 0; i < layout->count; i++)
        mem_free(layout->slots[i].name);
    mem_free(layout->slots);
    mem_free(layout);
}

static inline unsigned bucket_of(const char *name, size_t size) {
    return size ? ((unsigned) size * 7 + (unsigned char) name[0] * 3u + (unsigned char) name[size - 1]) % BUCKETS : 0;
}

static inline unsigned find_slot(const layout_t *layout, const char *name, size_t size) {
    unsigned slot = layout->buckets[bucket_of(name, size)];
    while (slot && (layout->slots[slot - 1].size != size || memcmp(layout->slots[slot - 1].name, name, size) != 0))
        slot = layout->slots[slot - 1].next;
    return slot;
}

unsigned layout_slot(layout_t *layout, text_t name) {
    unsigned found = find_slot(layout, name.data, name.size);
    if (found)
        return found - 1;
    ASSERT(layout->shapes_used == 0);
    layout->slots = mem_resize(layout->slots, (layout->count + 1) * sizeof *layout->slots);
    uint32_t *bucket = &layout->buckets[bucket_of(name.data, name.size)];
    layout->slots[layout->count] =
        (slot_t){.name = mem_text_n(name.data, name.size), .size = (uint32_t) name.size, .next = *bucket};
    *bucket = layout->count + 1;
    return layout->count++;
}

unsigned layout_count(const layout_t *layout) {
    return layout->count;
}

text_t layout_name(const layout_t *layout, unsigned slot) {
    return text_make(layout->slots[slot].name, layout->slots[slot].size);
}

/* Bytes of an element by its head, where the head alone tells; 0: it does not. */
static inline uint32_t fixed_size(uint8_t head) {
    static const uint8_t sizes[32] = {
        /* C0 */ 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 5, 9, 2, 3, 5, 9,
        /* D0 */ 2, 3, 5, 9, 3, 4, 6, 10, 18, 0, 0, 0, 0, 0, 0, 0};
    if (head < 0x80 || head >= 0xE0)
        return 1;
    if (head >= 0xC0)
        return sizes[head - 0xC0];
    return head >= 0xA0 ? 1 + (head & 31u) : 0;
}

static inline const uint8_t *skip(const uint8_t *at, const uint8_t *end) {
    if (at >= end)
        return NULL;
    uint32_t size = fixed_size(*at);
    if (size)
        return (size_t) (end - at) >= size ? at + size : NULL;
    pack_cursor_t cursor = {at, end};
    return pack_skip(&cursor) ? cursor.at : NULL;
}

const uint8_t *record_skip(const uint8_t *at, const uint8_t *end) {
    return skip(at, end);
}

value_t record_value_slow(const uint8_t *at, const uint8_t *end) {
    pack_cursor_t cursor = {at, end};
    value_t value;
    return pack_read_value(&cursor, &value) ? value : value_null();
}

/* The head of a map: how many entries, and where they begin; NULL when it is none. */
static const uint8_t *map_entries(const uint8_t *at, const uint8_t *end, uint32_t *count) {
    if (at < end && (*at & 0xF0) == 0x80) {
        *count = *at & 15u;
        return at + 1;
    }
    pack_cursor_t cursor = {at, end};
    return pack_read_map(&cursor, count) ? cursor.at : NULL;
}

/* The text of a key; returns where its value begins, NULL when it is no string. */
static inline const uint8_t *read_key(const uint8_t *at, const uint8_t *end, const char **name, uint32_t *size) {
    if (at < end && (*at & 0xE0) == 0xA0) {
        *size = *at & 31u;
        *name = (const char *) at + 1;
        return (size_t) (end - at) > *size ? at + 1 + *size : NULL;
    }
    pack_cursor_t cursor = {at, end};
    text_t text;
    if (!pack_read_string(&cursor, &text))
        return NULL;
    *name = text.data;
    *size = (uint32_t) text.size;
    return cursor.at;
}

static void expect(expected_t *expected, const uint8_t *at, const uint8_t *value, unsigned slot) {
    size_t size = (size_t) (value - at);
    *expected = (expected_t){.slot = slot};
    if (size > sizeof expected->words)
        return;
    expected->size = (uint8_t) size;
    memcpy(expected->words, at, size);
    memset(expected->masks, 0xFF, size);
}

static inline bool as_expected(const expected_t *expected, const uint8_t *at) {
    uint64_t words[2];
    memcpy(words, at, sizeof words);
    return (((words[0] & expected->masks[0]) ^ expected->words[0]) | ((words[1] & expected->masks[1]) ^ expected->words[1])) == 0;
}

/* Walks a record until all slots are found. Returns how many were, or -1. */
static int walk(layout_t *layout, const uint8_t *record, uint32_t size, place_t *places) {
    const uint8_t *end = record + size;
    memset(places, 0, layout->count * sizeof *places);
    uint32_t entries;
    const uint8_t *at = map_entries(record, end, &entries);
    if (!at)
        return -1;
    unsigned found = 0;
    for (uint32_t i = 0; i < entries && found < layout->count; i++) {
        expected_t *expected = &layout->sequence[i % SEQUENCE];
        const uint8_t *value;
        unsigned slot;
        if (expected->size && end - at > 16 && as_expected(expected, at)) {
            value = at + expected->size;
            slot = expected->slot;
        } else {
            const char *name;
            uint32_t name_size;
            value = read_key(at, end, &name, &name_size);
            if (!value || value >= end)
                return -1;
            slot = find_slot(layout, name, name_size);
            expect(expected, at, value, slot);
        }
        if (slot && !places[slot - 1].value) {
            places[slot - 1] = (place_t){(uint32_t) (at - record), (uint32_t) (value - record)};
            found++;
        }
        at = skip(value, end);
        if (!at)
            return -1;
    }
    return (int) found;
}

/* Marks the bytes of an element that decide where the next one begins. Returns its end. */
static const uint8_t *mark_element(const uint8_t *record, const uint8_t *at, const uint8_t *end, uint8_t *mask, unsigned depth) {
    const uint8_t *after = record_skip(at, end);
    if (!after || depth > PACK_DEPTH)
        return NULL;
    uint8_t head = *at;
    pack_cursor_t cursor = {at, end};
    uint32_t count, heads = 1;
    bool map = (head & 0xF0) == 0x80 || head == 0xDE || head == 0xDF;
    if (map || (head & 0xF0) == 0x90 || head == 0xDC || head == 0xDD) {
        if (!(map ? pack_read_map(&cursor, &count) : pack_read_array(&cursor, &count)))
            return NULL;
        memset(mask + (at - record), 0xFF, (size_t) (cursor.at - at));
        at = cursor.at;
        for (uint64_t i = 0, n = map ? 2 * (uint64_t) count : count; i < n; i++)
            if (!(at = mark_element(record, at, end, mask, depth + 1)))
                return NULL;
        return at;
    }
    if (head >= 0xC4 && head <= 0xC9) /* bin and ext with a length */
        heads = 1u << (head - 0xC4) % 3;
    if (head >= 0xD9 && head <= 0xDB)
        heads = 1u << (head - 0xD9);
    if ((head >= 0xC4 && head <= 0xC9) || (head >= 0xD9 && head <= 0xDB))
        heads++;
    memset(mask + (at - record), 0xFF, heads);
    return after;
}

/* Remembers the shape of a record that was walked. */
static void learn(layout_t *layout, const uint8_t *record, uint32_t size, const place_t *places, bool all) {
    uint32_t last = 1;
    for (unsigned i = 0; i < layout->count; i++)
        if (places[i].value > last)
            last = places[i].value;
    uint32_t covered = all ? last : size;
    if (covered > SHAPE_MAX)
        return;
    uint32_t rounded = (covered + 15) & ~15u;
    uint8_t *mask = mem_zero(rounded);
    const uint8_t *end = record + size;
    uint32_t entries;
    const uint8_t *at = map_entries(record, end, &entries);
    memset(mask, 0xFF, (size_t) (at - record));
    for (uint32_t i = 0; i < entries; i++) {
        const char *name;
        uint32_t name_size;
        const uint8_t *value = read_key(at, end, &name, &name_size);
        if (!value || value - record > covered) {
            mem_free(mask);
            return;
        }
        memset(mask + (at - record), 0xFF, (size_t) (value - at));
        if (all && value - record == last)
            break;
        at = mark_element(record, value, end, mask, 0);
        if (!at) {
            mem_free(mask);
            return;
        }
    }
    shape_t *shape = &layout->shapes[layout->oldest];
    layout->by_size[size % SIZES] = (uint8_t) layout->oldest;
    layout->oldest = (layout->oldest + 1) % SHAPES;
    if (layout->shapes_used < SHAPES)
        layout->shapes_used++;
    if (shape->places) {
        layout->retired = mem_resize(layout->retired, (layout->retired_count + 1) * sizeof *layout->retired);
        layout->retired[layout->retired_count++] = shape->places;
        shape->places = NULL;
    }
    shape_fini(shape);
    shape->mask = mask;
    shape->expected = mem_zero(rounded);
    for (uint32_t i = 0; i < covered; i++)
        shape->expected[i] = record[i] & mask[i];
    shape->covered = covered;
    shape->least = all ? covered + 1 : size;
    shape->exact = all ? 0 : size;
    shape->places = mem_copy(places, layout->count * sizeof *places);
}

static inline bool shape_matches(const shape_t *shape, const uint8_t *record, uint32_t size, const uint8_t *readable) {
    if (size < shape->least || (shape->exact && size != shape->exact) ||
        (size_t) (readable - record) < ((shape->covered + 15) & ~15u))
        return false;
#ifdef __SSE2__
    __m128i difference = _mm_setzero_si128();
    for (uint32_t i = 0; i < shape->covered; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *) (record + i));
        __m128i mask = _mm_loadu_si128((const __m128i *) (shape->mask + i));
        __m128i expected = _mm_loadu_si128((const __m128i *) (shape->expected + i));
        difference = _mm_or_si128(difference, _mm_xor_si128(_mm_and_si128(bytes, mask), expected));
    }
    return _mm_movemask_epi8(_mm_cmpeq_epi8(difference, _mm_setzero_si128())) == 0xFFFF;
#else
    uint64_t difference = 0;
    for (uint32_t i = 0; i < shape->covered; i += 8) {
        uint64_t bytes, mask, expected;
        memcpy(&bytes, record + i, 8);
        memcpy(&mask, shape->mask + i, 8);
        memcpy(&expected, shape->expected + i, 8);
        difference |= (bytes & mask) ^ expected;
    }
    return difference == 0;
#endif
}

const place_t *layout_locate(layout_t *layout, const uint8_t *record, uint32_t size, const uint8_t *readable, place_t *own) {
    if (layout->shapes_used) {
        unsigned likely = layout->by_size[size % SIZES]; /* loaded, not branched to: shapes that alternate cost no misprediction */
        if (__builtin_expect(shape_matches(&layout->shapes[likely], record, size, readable), 1)) {
            layout->credit += layout->credit < CREDIT;
            return layout->shapes[likely].places;
        }
        bool search = layout->search || ++layout->searches % SEARCH_EVERY == 0;
        for (unsigned i = 0; search && i < layout->shapes_used; i++) {
            if (i != likely && shape_matches(&layout->shapes[i], record, size, readable)) {
                layout->by_size[size % SIZES] = (uint8_t) i;
                layout->search = SEARCH;
                layout->credit += layout->credit < CREDIT;
                return layout->shapes[i].places;
            }
        }
    }
    layout->search -= layout->search > 0;
    int found = walk(layout, record, size, own);
    if (found < 0)
        return NULL;
    if (layout->count && (layout->credit >= LEARN_COST || ++layout->misses % LEARN_EVERY == 0)) {
        layout->credit -= layout->credit >= LEARN_COST ? LEARN_COST : 0;
        learn(layout, record, size, own, (unsigned) found == layout->count);
    }
    return own;
}

value_t record_member(value_t map, text_t key) {
    if (map.type != VALUE_MAP)
        return value_null();
    const uint8_t *end = map.packed + map.size;
    uint32_t entries;
    const uint8_t *at = map_entries(map.packed, end, &entries);
    for (uint32_t i = 0; at && i < entries; i++) {
        if (at >= end)
            return value_null();
        const char *name;
        uint32_t size;
        if ((*at & 0xE0) != 0xA0 && (*at < 0xD9 || *at > 0xDB)) { /* a key that is no string */
            at = record_skip(at, end);
            at = at ? record_skip(at, end) : NULL;
            continue;
        }
        const uint8_t *value = read_key(at, end, &name, &size);
        if (!value || value >= end)
            return value_null();
        if (size == key.size && memcmp(name, key.data, size) == 0)
            return record_value(value, end);
        at = record_skip(value, end);
    }
    return value_null();
}

value_t record_item(value_t array, int64_t index) {
    if (array.type != VALUE_ARRAY)
        return value_null();
    pack_cursor_t cursor = pack_cursor(array.packed, array.size);
    uint32_t count;
    if (!pack_read_array(&cursor, &count))
        return value_null();
    if (index < 0)
        index += count;
    if (index < 0 || index >= count)
        return value_null();
    const uint8_t *at = cursor.at;
    for (int64_t i = 0; at && i < index; i++)
        at = record_skip(at, cursor.end);
    return at && at < cursor.end ? record_value(at, cursor.end) : value_null();
}
