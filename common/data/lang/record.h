#ifndef DATA_LANG_RECORD_H
#define DATA_LANG_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "data/frame.h"
#include "data/pack.h"
#include "data/value.h"

/* Reading fields of packed records in place. A layout holds the names that a program asks for, each in a slot, and finds all of
 * them in one step: it remembers the shapes of earlier records (the bytes of their keys and of the values' heads, with a mask over the
 * payloads) and compares a new record with them, 16 bytes at a time; equal bytes there mean equal offsets, for certain. Only a record of
 * another shape is walked. When a key stands twice in a record, the first one counts. */
typedef struct place {
    uint32_t key, value;      /* offsets from the start of the record; value 0: absent */
} place_t;

typedef struct layout layout_t;

layout_t *layout_new(void);
void layout_free(layout_t *layout);
unsigned layout_slot(layout_t *layout, text_t name);  /* the name's slot; a new one when unknown. Before the first locate only */
unsigned layout_count(const layout_t *layout);
text_t layout_name(const layout_t *layout, unsigned slot);

/* The places of all slots. `readable`: the end of memory that may be read (the frame's body). Either borrowed until layout_settle,
 * or written to own[layout_count]. NULL: the record is malformed. */
const place_t *layout_locate(layout_t *layout, const uint8_t *record, uint32_t size, const uint8_t *readable, place_t *own);

void layout_settle(layout_t *layout);                 /* no places are in use any more: before a batch */

/* The value at `at`; null when it does not fit before `end`. */
value_t record_value_slow(const uint8_t *at, const uint8_t *end);

static inline uint64_t record_u64(const uint8_t *at) {
    uint64_t bits;
    memcpy(&bits, at, 8);
    return __builtin_bswap64(bits);
}

static inline double record_double(const uint8_t *at) {
    uint64_t bits = record_u64(at);
    double number;
    memcpy(&number, &bits, 8);
    return number;
}

static inline value_t record_value(const uint8_t *at, const uint8_t *end) {
    uint8_t head = *at;
    if (head == 0xCB && end - at >= 9)
        return value_double(record_double(at + 1));
    if (head >= 0xA0 && head <= 0xBF && end - at > (head & 31))
        return value_text((const char *) at + 1, head & 31);
    if (head < 0x80)
        return value_int(head);
    return record_value_slow(at, end);
}

/* The end of the element at `at`, or NULL when it is malformed or does not fit. */
const uint8_t *record_skip(const uint8_t *at, const uint8_t *end);

/* What stands under `key` in a packed map, or at `index` (from the end when negative) of a packed array; null when absent. */
value_t record_member(value_t map, text_t key);
value_t record_item(value_t array, int64_t index);

#endif
