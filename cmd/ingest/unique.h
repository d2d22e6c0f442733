#ifndef INGEST_UNIQUE_H
#define INGEST_UNIQUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "data/option.h"

/* The events that have come, to recognise one that comes again: 64-bit hashes of the latest `limit` different ones. One that comes again counts as late
 * as that, so it is recognised as long as fewer than `limit` others have come since. */
typedef struct unique unique_t;

#define UNIQUE_MAX 100000

/* fields: paths (a.b) that together tell an event from others, or "*" for all of it; borrowed for its life. */
unique_t *unique_new(const option_list_t *fields, uint32_t limit);
void unique_free(unique_t *unique);                   /* NULL is legal */
int unique_check(const option_list_t *fields, err_t *err);

/* Of a packed record: whether it has not come before, and remembers it. One with none of the fields cannot be told from others: true. */
bool unique_take(unique_t *unique, const uint8_t *record, size_t size);

void unique_put(const unique_t *unique, buf_t *out);  /* as a msgpack binary */
void unique_load(unique_t *unique, const void *bytes, size_t size);

#endif
