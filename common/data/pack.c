/* msgpack, written into buffers and read in place. This file is the one place that knows the format's type bytes; the
 * JSON codec and the frame have their own fast paths for the few forms that they meet most. */
#include "data/pack.h"

#include <string.h>

#define NS_PER_SECOND INT64_C(1000000000)

static inline void store16(uint8_t *at, uint16_t value) {
    value = __builtin_bswap16(value);
    memcpy(at, &value, sizeof value);
}

static inline void store32(uint8_t *at, uint32_t value) {
    value = __builtin_bswap32(value);
    memcpy(at, &value, sizeof value);
}

static inline void store64(uint8_t *at, uint64_t value) {
    value = __builtin_bswap64(value);
    memcpy(at, &value, sizeof value);
}

static inline uint16_t load16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap16(value);
}

static inline uint32_t load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap32(value);
}

static inline uint64_t load64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap64(value);
}

void pack_nil(buf_t *out) {
    buf_put_byte(out, 0xc0);
}

void pack_bool(buf_t *out, bool value) {
    buf_put_byte(out, value ? 0xc3 : 0xc2);
}

static void pack_type8(buf_t *out, uint8_t type, uint8_t value) {
    uint8_t *at = buf_reserve(out, 2);
    at[0] = type;
    at[1] = value;
    out->size += 2;
}

static void pack_type16(buf_t *out, uint8_t type, uint16_t value) {
    uint8_t *at = buf_reserve(out, 3);
    at[0] = type;
    store16(at + 1, value);
    out->size += 3;
}

static void pack_type32(buf_t *out, uint8_t type, uint32_t value) {
    uint8_t *at = buf_reserve(out, 5);
    at[0] = type;
    store32(at + 1, value);
    out->size += 5;
}

static void pack_type64(buf_t *out, uint8_t type, uint64_t value) {
    uint8_t *at = buf_reserve(out, 9);
    at[0] = type;
    store64(at + 1, value);
    out->size += 9;
}

void pack_uint(buf_t *out, uint64_t value) {
    if (value < 0x80)
        buf_put_byte(out, (uint8_t) value);
    else if (value <= UINT8_MAX)
        pack_type8(out, 0xcc, (uint8_t) value);
    else if (value <= UINT16_MAX)
        pack_type16(out, 0xcd, (uint16_t) value);
    else if (value <= UINT32_MAX)
        pack_type32(out, 0xce, (uint32_t) value);
    else
        pack_type64(out, 0xcf, value);
}

void pack_int(buf_t *out, int64_t value) {
    if (value >= 0)
        pack_uint(out, (uint64_t) value);
    else if (value >= -32)
        buf_put_byte(out, (uint8_t) value);
    else if (value >= INT8_MIN)
        pack_type8(out, 0xd0, (uint8_t) value);
    else if (value >= INT16_MIN)
        pack_type16(out, 0xd1, (uint16_t) value);
    else if (value >= INT32_MIN)
        pack_type32(out, 0xd2, (uint32_t) value);
    else
        pack_type64(out, 0xd3, (uint64_t) value);
}

void pack_double(buf_t *out, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    pack_type64(out, 0xcb, bits);
}

void pack_string(buf_t *out, const char *text, size_t size) {
    if (size < 32)
        buf_put_byte(out, (uint8_t) (0xa0 | size));
    else if (size <= UINT8_MAX)
        pack_type8(out, 0xd9, (uint8_t) size);
    else if (size <= UINT16_MAX)
        pack_type16(out, 0xda, (uint16_t) size);
    else
        pack_type32(out, 0xdb, (uint32_t) size);
    buf_put(out, text, size);
}

void pack_text(buf_t *out, const char *text) {
    pack_string(out, text, strlen(text));
}

void pack_binary(buf_t *out, const void *bytes, size_t size) {
    if (size <= UINT8_MAX)
        pack_type8(out, 0xc4, (uint8_t) size);
    else if (size <= UINT16_MAX)
        pack_type16(out, 0xc5, (uint16_t) size);
    else
        pack_type32(out, 0xc6, (uint32_t) size);
    buf_put(out, bytes, size);
}

void pack_array(buf_t *out, uint32_t count) {
    if (count < 16)
        buf_put_byte(out, (uint8_t) (0x90 | count));
    else if (count <= UINT16_MAX)
        pack_type16(out, 0xdc, (uint16_t) count);
    else
        pack_type32(out, 0xdd, count);
}

void pack_map(buf_t *out, uint32_t count) {
    if (count < 16)
        buf_put_byte(out, (uint8_t) (0x80 | count));
    else if (count <= UINT16_MAX)
        pack_type16(out, 0xde, (uint16_t) count);
    else
        pack_type32(out, 0xdf, count);
}

void pack_time(buf_t *out, int64_t ns) {
    int64_t seconds = ns / NS_PER_SECOND, fraction = ns % NS_PER_SECOND;
    if (fraction < 0) {
        fraction += NS_PER_SECOND;
        seconds--;
    }
    uint8_t *at = buf_reserve(out, 15);
    if (seconds >= 0 && seconds <= UINT32_MAX && fraction == 0) {
        at[0] = 0xd6;
        at[1] = 0xff;
        store32(at + 2, (uint32_t) seconds);
        out->size += 6;
    } else if (seconds >= 0 && seconds >> 34 == 0) {
        at[0] = 0xd7;
        at[1] = 0xff;
        store64(at + 2, (uint64_t) fraction << 34 | (uint64_t) seconds);
        out->size += 10;
    } else {
        at[0] = 0xc7;
        at[1] = 12;
        at[2] = 0xff;
        store32(at + 3, (uint32_t) fraction);
        store64(at + 7, (uint64_t) seconds);
        out->size += 15;
    }
}

void pack_value(buf_t *out, value_t value) {
    switch (value.type) {
    case VALUE_BOOL:
        pack_bool(out, value.boolean);
        break;
    case VALUE_INT:
        pack_int(out, value.integer);
        break;
    case VALUE_UINT:
        pack_uint(out, value.unsigned_integer);
        break;
    case VALUE_DOUBLE:
        pack_double(out, value.number);
        break;
    case VALUE_STRING:
        pack_string(out, value.text, value.size);
        break;
    case VALUE_BINARY:
        pack_binary(out, value.text, value.size);
        break;
    case VALUE_ARRAY:
    case VALUE_MAP:
        buf_put(out, value.packed, value.size);
        break;
    case VALUE_TIME:
        pack_time(out, value.time);
        break;
    default:
        pack_nil(out);
    }
}

/* What a type byte announces: head bytes that follow it, bytes of content, and elements inside. */
typedef struct shape {
    value_type_t type;
    uint32_t head;        /* bytes up to the content, the type byte included */
    uint64_t content;     /* bytes after the head */
    uint64_t elements;    /* packed elements after the head: array and map */
} shape_t;

/* Reads the head of the element at the cursor, checked against the bytes that remain. Ext types are VALUE_TIME here;
 * read_ext tells which are. False: no complete head, content that does not fit, or the unused byte 0xc1. */
/* 1; 0: not all of the head is there; -1: it is none. */
static inline int read_head(const pack_cursor_t *cursor, shape_t *shape) {
    const uint8_t *at = cursor->at;
    size_t room = (size_t) (cursor->end - at);
    if (room == 0)
        return 0;
    uint8_t byte = at[0];
    *shape = (shape_t){.type = VALUE_INT, .head = 1};
    if (byte < 0x80 || byte >= 0xe0)
        return 1;
    if (byte >= 0xa0 && byte < 0xc0) {
        shape->type = VALUE_STRING;
        shape->content = byte & 31;
    } else if (byte < 0x90) {
        shape->type = VALUE_MAP;
        shape->elements = 2 * (uint64_t) (byte & 15);
    } else if (byte < 0xa0) {
        shape->type = VALUE_ARRAY;
        shape->elements = byte & 15;
    } else {
        static const uint8_t length_bytes[32] = {
            0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 0, 0, 0, 0, 0, 0, /* c0: nil, -, false, true, bin, ext, float */
            0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4, /* d0: int, fixext, str, array, map */
        };
        unsigned size = length_bytes[byte - 0xc0];
        if (room < 1 + (size_t) size)
            return 0;
        uint64_t length = size == 1 ? at[1] : size == 2 ? load16(at + 1) : size == 4 ? load32(at + 1) : 0;
        shape->head = 1 + size;
        switch (byte) {
        case 0xc0:
            shape->type = VALUE_NULL;
            break;
        case 0xc1:
            return -1;
        case 0xc2: case 0xc3:
            shape->type = VALUE_BOOL;
            break;
        case 0xc4: case 0xc5: case 0xc6:
            shape->type = VALUE_BINARY;
            shape->content = length;
            break;
        case 0xc7: case 0xc8: case 0xc9:
            shape->type = VALUE_TIME;
            shape->content = length + 1;
            break;
        case 0xca: case 0xcb:
            shape->type = VALUE_DOUBLE;
            shape->content = byte == 0xca ? 4 : 8;
            break;
        case 0xcc: case 0xcd: case 0xce: case 0xcf:
            shape->content = UINT64_C(1) << (byte - 0xcc);
            break;
        case 0xd0: case 0xd1: case 0xd2: case 0xd3:
            shape->content = UINT64_C(1) << (byte - 0xd0);
            break;
        case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8:
            shape->type = VALUE_TIME;
            shape->content = (UINT64_C(1) << (byte - 0xd4)) + 1;
            break;
        case 0xd9: case 0xda: case 0xdb:
            shape->type = VALUE_STRING;
            shape->content = length;
            break;
        case 0xdc: case 0xdd:
            shape->type = VALUE_ARRAY;
            shape->elements = length;
            break;
        default:
            shape->type = VALUE_MAP;
            shape->elements = 2 * length;
        }
    }
    return 1;
}

static bool read_shape(const pack_cursor_t *cursor, shape_t *shape) {
    if (read_head(cursor, shape) != 1)
        return false;
    size_t room = (size_t) (cursor->end - cursor->at) - shape->head;
    return shape->content <= room && shape->elements <= room; /* each element takes at least one byte */
}

/* Of what has its size in its first byte, and nothing inside, all bytes; 0: look closer. */
static const uint8_t scalar_size[256] = {
    [0x00 ... 0x7f] = 1, [0xe0 ... 0xff] = 1, [0xc0] = 1, [0xc2 ... 0xc3] = 1, [0xcc] = 2, [0xcd] = 3, [0xce] = 5, [0xcf] = 9,
    [0xd0] = 2, [0xd1] = 3, [0xd2] = 5, [0xd3] = 9, [0xca] = 5, [0xcb] = 9,
    [0xa0] = 1, [0xa1] = 2, [0xa2] = 3, [0xa3] = 4, [0xa4] = 5, [0xa5] = 6, [0xa6] = 7, [0xa7] = 8, [0xa8] = 9, [0xa9] = 10, [0xaa] = 11,
    [0xab] = 12, [0xac] = 13, [0xad] = 14, [0xae] = 15, [0xaf] = 16, [0xb0] = 17, [0xb1] = 18, [0xb2] = 19, [0xb3] = 20, [0xb4] = 21,
    [0xb5] = 22, [0xb6] = 23, [0xb7] = 24, [0xb8] = 25, [0xb9] = 26, [0xba] = 27, [0xbb] = 28, [0xbc] = 29, [0xbd] = 30, [0xbe] = 31, [0xbf] = 32,
};

/* Passes over scalars at hand, `left` at most; returns how many remain. */
static inline uint64_t skip_scalars(pack_cursor_t *walk, uint64_t left) {
    while (left && walk->at < walk->end) {
        size_t size = scalar_size[*walk->at];
        if (!size || size > (size_t) (walk->end - walk->at))
            break;
        walk->at += size;
        left--;
    }
    return left;
}

/* plain: no key is an array or a map. */
static inline bool skip_within(pack_cursor_t *cursor, unsigned levels, bool plain) {
    uint64_t left[PACK_DEPTH + 1]; /* elements still to come, per level */
    bool map[PACK_DEPTH + 1] = {false};
    unsigned depth = 0;
    pack_cursor_t walk = *cursor;
    left[0] = 1;
    for (;;) {
        while ((left[depth] = skip_scalars(&walk, left[depth])) == 0) {
            if (depth == 0) {
                *cursor = walk;
                return true;
            }
            depth--;
        }
        bool is_key = plain && map[depth] && left[depth] % 2 == 0;
        left[depth]--;
        shape_t shape;
        if (!read_shape(&walk, &shape))
            return false;
        walk.at += shape.head + shape.content;
        if (shape.type == VALUE_ARRAY || shape.type == VALUE_MAP) {
            if (depth == levels || is_key)
                return false;
            left[++depth] = shape.elements;
            map[depth] = shape.type == VALUE_MAP;
        }
    }
}

bool pack_skip(pack_cursor_t *cursor) {
    return skip_within(cursor, PACK_DEPTH, false);
}

bool pack_skip_plain(pack_cursor_t *cursor) {
    return skip_within(cursor, PACK_DEPTH, true);
}

int pack_pass(pack_pass_t *pass, pack_cursor_t *cursor) {
    while (pass->elements || pass->bytes) {
        uint64_t room = (uint64_t) (cursor->end - cursor->at), some = pass->bytes < room ? pass->bytes : room;
        cursor->at += some;
        pass->bytes -= some;
        if (pass->bytes)
            return 0;
        if (!pass->elements)
            break;
        shape_t shape;
        int head = read_head(cursor, &shape);
        if (head == 1 && (pass->elements + shape.elements > INT32_MAX || shape.content > UINT32_MAX))
            head = -1;
        if (head != 1)
            return head;
        cursor->at += shape.head;
        pass->elements += shape.elements - 1;
        pass->bytes = shape.content;
    }
    return 1;
}

bool pack_within(pack_cursor_t cursor, unsigned levels) {
    return skip_within(&cursor, levels < PACK_DEPTH ? levels : PACK_DEPTH, false);
}

/* msgpack's timestamp (type -1; 4, 8 or 12 bytes) and Forward's EventTime (type 0, 8 bytes). What is neither, or does not
 * fit in ns, is null. */
static value_t read_ext(int8_t type, const uint8_t *content, uint64_t size) {
    int64_t seconds;
    uint64_t fraction = 0;
    if (type == -1 && size == 4) {
        seconds = load32(content);
    } else if (type == -1 && size == 8) {
        uint64_t both = load64(content);
        fraction = both >> 34;
        seconds = (int64_t) (both & ((UINT64_C(1) << 34) - 1));
    } else if (type == -1 && size == 12) {
        fraction = load32(content);
        seconds = (int64_t) load64(content + 4);
    } else if (type == 0 && size == 8) {
        seconds = load32(content);
        fraction = load32(content + 4);
    } else {
        return value_null();
    }
    __int128 ns = (__int128) seconds * NS_PER_SECOND + (int64_t) fraction;
    if (fraction >= (uint64_t) NS_PER_SECOND || ns < INT64_MIN || ns > INT64_MAX)
        return value_null();
    return value_time((int64_t) ns);
}

static value_t read_integer(const uint8_t *at) {
    switch (at[0]) {
    case 0xcc:
        return value_int(at[1]);
    case 0xcd:
        return value_int(load16(at + 1));
    case 0xce:
        return value_int(load32(at + 1));
    case 0xcf:
        return value_uint(load64(at + 1));
    case 0xd0:
        return value_int((int8_t) at[1]);
    case 0xd1:
        return value_int((int16_t) load16(at + 1));
    case 0xd2:
        return value_int((int32_t) load32(at + 1));
    case 0xd3:
        return value_int((int64_t) load64(at + 1));
    default:
        return value_int((int8_t) at[0]);
    }
}

static value_t read_float(const uint8_t *at) {
    if (at[0] == 0xca) {
        uint32_t bits = load32(at + 1);
        float number;
        memcpy(&number, &bits, sizeof number);
        return value_double((double) number);
    }
    uint64_t bits = load64(at + 1);
    double number;
    memcpy(&number, &bits, sizeof number);
    return value_double(number);
}

bool pack_read_value(pack_cursor_t *cursor, value_t *value) {
    shape_t shape;
    if (!read_shape(cursor, &shape))
        return false;
    const uint8_t *at = cursor->at, *content = at + shape.head;
    switch (shape.type) {
    case VALUE_NULL:
        *value = value_null();
        break;
    case VALUE_BOOL:
        *value = value_bool(at[0] == 0xc3);
        break;
    case VALUE_INT:
        *value = read_integer(at);
        break;
    case VALUE_DOUBLE:
        *value = read_float(at);
        break;
    case VALUE_STRING:
        *value = value_text((const char *) content, shape.content);
        break;
    case VALUE_BINARY:
        *value = (value_t){.type = VALUE_BINARY, .size = (uint32_t) shape.content, .text = (const char *) content};
        break;
    case VALUE_TIME:
        *value = read_ext((int8_t) content[0], content + 1, shape.content - 1);
        break;
    default: {
        pack_cursor_t walk = *cursor;
        if (!pack_skip(&walk) || (size_t) (walk.at - at) > UINT32_MAX)
            return false;
        *value = (value_t){.type = (uint8_t) shape.type, .size = (uint32_t) (walk.at - at), .packed = at};
        *cursor = walk;
        return true;
    }
    }
    cursor->at = content + shape.content;
    return true;
}

bool pack_read_map(pack_cursor_t *cursor, uint32_t *count) {
    shape_t shape;
    if (!read_shape(cursor, &shape) || shape.type != VALUE_MAP)
        return false;
    *count = (uint32_t) (shape.elements / 2);
    cursor->at += shape.head;
    return true;
}

bool pack_read_array(pack_cursor_t *cursor, uint32_t *count) {
    shape_t shape;
    if (!read_shape(cursor, &shape) || shape.type != VALUE_ARRAY)
        return false;
    *count = (uint32_t) shape.elements;
    cursor->at += shape.head;
    return true;
}

bool pack_read_string(pack_cursor_t *cursor, text_t *text) {
    shape_t shape;
    if (!read_shape(cursor, &shape) || shape.type != VALUE_STRING)
        return false;
    *text = text_make((const char *) cursor->at + shape.head, shape.content);
    cursor->at += shape.head + shape.content;
    return true;
}

bool pack_read_int(pack_cursor_t *cursor, int64_t *value) {
    shape_t shape;
    if (!read_shape(cursor, &shape) || shape.type != VALUE_INT)
        return false;
    value_t read = read_integer(cursor->at);
    if (read.type != VALUE_INT)
        return false;
    *value = read.integer;
    cursor->at += shape.head + shape.content;
    return true;
}

bool pack_read_uint(pack_cursor_t *cursor, uint64_t *value) {
    shape_t shape;
    if (!read_shape(cursor, &shape) || shape.type != VALUE_INT)
        return false;
    value_t read = read_integer(cursor->at);
    if (read.type == VALUE_INT && read.integer < 0)
        return false;
    *value = read.unsigned_integer;
    cursor->at += shape.head + shape.content;
    return true;
}

bool pack_read_binary(pack_cursor_t *cursor, text_t *bytes) {
    shape_t shape;
    if (!read_shape(cursor, &shape) || shape.type != VALUE_BINARY)
        return false;
    *bytes = text_make((const char *) cursor->at + shape.head, shape.content);
    cursor->at += shape.head + shape.content;
    return true;
}

bool pack_map_get(const uint8_t *packed, size_t size, text_t key, value_t *value) {
    pack_cursor_t cursor = pack_cursor(packed, size);
    uint32_t count;
    if (!pack_read_map(&cursor, &count))
        return false;
    pack_cursor_t found = {0};
    for (; count; count--) {
        value_t name;
        if (!pack_read_value(&cursor, &name))
            return false;
        if (name.type == VALUE_STRING && text_equal(text_make(name.text, name.size), key))
            found = cursor;
        if (!pack_skip(&cursor))
            return false;
    }
    return found.at && pack_read_value(&found, value);
}

bool pack_follow(text_t path, value_t *value) {
    text_t key;
    value_t whole;
    while (path.size) {
        if (value->type != VALUE_MAP)
            return false;
        if (pack_map_get(value->packed, value->size, path, &whole)) {
            *value = whole;
            return true;
        }
        text_split(&path, '.', &key);
        if (!pack_map_get(value->packed, value->size, key, value))
            return false;
    }
    return true;
}
