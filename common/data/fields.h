#ifndef DATA_FIELDS_H
#define DATA_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "data/value.h"

/* The fields of a record that is being put together: a name that comes again replaces the first one's value, at its place. Zero-initialise;
 * fields_fini. Names and values are borrowed until the record is packed. */
typedef struct field {
    text_t name;
    const uint8_t *value;     /* packed */
    uint32_t size, hash;
} field_t;

typedef struct fields {
    field_t *items;
    uint32_t count, capacity;
    uint32_t *slots;          /* of many items: number + 1 by hash */
    uint32_t slots_size;      /* a power of two; 0: there are few */
    uint32_t slots_room;      /* allocated */
} fields_t;

void fields_clear(fields_t *fields);
void fields_put(fields_t *fields, text_t name, const uint8_t *value, uint32_t size);
/* All entries of a packed map. False when it is malformed or has a key that is no string. */
bool fields_put_map(fields_t *fields, value_t map);
void fields_pack(const fields_t *fields, buf_t *out);        /* the record */
void fields_fini(fields_t *fields);

#endif
