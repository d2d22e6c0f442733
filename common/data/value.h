#ifndef DATA_VALUE_H
#define DATA_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"

/* One value, decoded from msgpack or computed. 16 bytes, passed by value. Strings, binaries, arrays and maps
 * are borrowed: they point into a frame or an arena. */
typedef enum value_type {
    VALUE_NULL,
    VALUE_BOOL,
    VALUE_INT,        /* int64_t */
    VALUE_UINT,       /* uint64_t above INT64_MAX; smaller ones are VALUE_INT */
    VALUE_DOUBLE,
    VALUE_STRING,     /* UTF-8 */
    VALUE_BINARY,
    VALUE_ARRAY,      /* packed: the msgpack bytes, header included */
    VALUE_MAP,
    VALUE_TIME,       /* ns since 1970 UTC; msgpack ext type -1 */
} value_type_t;

typedef struct value {
    uint8_t type;     /* value_type_t */
    uint32_t size;    /* bytes, of STRING, BINARY, ARRAY and MAP */
    union {
        bool boolean;
        int64_t integer;
        uint64_t unsigned_integer;
        double number;
        const char *text;
        const uint8_t *packed;
        int64_t time;
    };
} value_t;

extern const char *const value_type_names[10];        /* null bool int uint double string binary array map time */

static inline value_t value_null(void) { return (value_t){.type = VALUE_NULL}; }
static inline value_t value_bool(bool b) { return (value_t){.type = VALUE_BOOL, .boolean = b}; }
static inline value_t value_int(int64_t i) { return (value_t){.type = VALUE_INT, .integer = i}; }
static inline value_t value_uint(uint64_t u) {
    return u <= INT64_MAX ? value_int((int64_t) u) : (value_t){.type = VALUE_UINT, .unsigned_integer = u};
}
static inline value_t value_double(double d) { return (value_t){.type = VALUE_DOUBLE, .number = d}; }
/* The integer while 64 bits hold it, else the nearest double. */
static inline value_t value_whole(__int128 exact) {
    if (exact >= INT64_MIN && exact <= UINT64_MAX)
        return exact < 0 ? value_int((int64_t) exact) : value_uint((uint64_t) exact);
    return value_double((double) exact);
}
static inline value_t value_time(int64_t ns) { return (value_t){.type = VALUE_TIME, .time = ns}; }
static inline value_t value_text(const char *text, size_t size) {
    return (value_t){.type = VALUE_STRING, .size = (uint32_t) size, .text = text};
}

/* The moment that a value stands for: a time, a number as epoch time (clock.h tells its unit), a string with either
 * an ISO 8601 time or such a number. False: none of these. */
bool value_to_time(value_t value, int64_t *ns);

#endif
