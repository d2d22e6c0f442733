#ifndef DATA_PACK_H
#define DATA_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "data/value.h"

/* msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md): writing into a buffer, and reading in
 * place. Readers never trust a length: each is checked against the bytes that remain before it is used,
 * nothing is allocated, and nesting is limited to PACK_DEPTH. Integers are written in their shortest form. */
#define PACK_DEPTH 64

void pack_nil(buf_t *out);
void pack_bool(buf_t *out, bool value);
void pack_int(buf_t *out, int64_t value);
void pack_uint(buf_t *out, uint64_t value);
void pack_double(buf_t *out, double value);
void pack_string(buf_t *out, const char *text, size_t size);
void pack_text(buf_t *out, const char *text);         /* a C string */
void pack_binary(buf_t *out, const void *bytes, size_t size);
void pack_array(buf_t *out, uint32_t count);
void pack_map(buf_t *out, uint32_t count);
void pack_time(buf_t *out, int64_t ns);               /* timestamp, ext type -1 */
void pack_value(buf_t *out, value_t value);

/* A cursor over bytes. `at` moves on; after a failure it stands where the bad element begins. */
typedef struct pack_cursor {
    const uint8_t *at, *end;
} pack_cursor_t;

static inline pack_cursor_t pack_cursor(const void *bytes, size_t size) {
    return (pack_cursor_t){bytes, bytes ? (const uint8_t *) bytes + size : NULL};   /* NULL, 0: nothing */
}

/* Each returns false when the next element is of another type or does not fit in the bytes that remain. */
/* Any element; skips over containers and validates their structure. EventTime (ext type 0) is a time too; other ext
 * types, and times beyond int64 ns, are null. */
bool pack_read_value(pack_cursor_t *cursor, value_t *value);
bool pack_read_map(pack_cursor_t *cursor, uint32_t *count);           /* the header; entries follow */
bool pack_read_array(pack_cursor_t *cursor, uint32_t *count);
bool pack_read_string(pack_cursor_t *cursor, text_t *text);
bool pack_read_int(pack_cursor_t *cursor, int64_t *value);
bool pack_read_uint(pack_cursor_t *cursor, uint64_t *value);
bool pack_read_binary(pack_cursor_t *cursor, text_t *bytes);
bool pack_skip(pack_cursor_t *cursor);                                /* one whole element, nested ones included */
bool pack_skip_plain(pack_cursor_t *cursor);                          /* the same, of which JSON can be made: no key of its maps is an array or a map */

/* An element of any size that is passed over as its bytes come: begins with {1, 0}. pack_pass goes as far as the data does, but for the first bytes of a
 * head that is not all there. Returns 1: it was passed; 0: there is more of it; -1: it is malformed, and the cursor is at the byte that shows it. */
typedef struct pack_pass {
    uint64_t elements, bytes;     /* still to come; below 2^31 and 2^32 */
} pack_pass_t;
int pack_pass(pack_pass_t *pass, pack_cursor_t *cursor);

/* Whether the element in front is whole and has at most so many levels of arrays and maps, PACK_DEPTH at most. */
bool pack_within(pack_cursor_t cursor, unsigned levels);

/* Looks up a key of a packed map (bytes as in VALUE_MAP). Last duplicate wins. */
bool pack_map_get(const uint8_t *packed, size_t size, text_t key, value_t *value);

/* Steps into a map by a path of keys with dots between; a key that holds dots itself is found when it is the last one. False when there is no
 * such thing, and *value is then somewhere on the way. */
bool pack_follow(text_t path, value_t *value);

#endif
