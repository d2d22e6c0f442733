/* msgpack → JSON text. One walk over the packed bytes; each element makes sure of room for its longest form, so that the printers
 * below write without asking. Short plain strings, which most are, go by blocks of 16 bytes. */
#include "data/json_write.h"

#include "base/clock.h"
#include "data/json_parse.h"
#include "data/pack.h"

#define ROOM 64               /* of output per scalar: the longest are doubles, times and short strings */

typedef struct writer {
    buf_t *buf;
    uint8_t *out, *limit;     /* limit: end of the room that is reserved */
    const uint8_t *readable;  /* input may be read up to here */
} writer_t;

static void writer_begin(writer_t *writer, buf_t *buf, size_t room, const uint8_t *readable) {
    writer->buf = buf;
    writer->out = buf_reserve(buf, room);
    writer->limit = writer->out + room;
    writer->readable = readable;
}

static __attribute__((noinline)) void writer_grow(writer_t *writer, size_t room) {
    size_t used = (size_t) (writer->out - writer->buf->data) - writer->buf->size;
    room += used + 256;
    uint8_t *start = buf_reserve(writer->buf, room);
    writer->out = start + used;
    writer->limit = writer->buf->data + writer->buf->capacity;
}

static inline void ensure(writer_t *writer, size_t room) {
    if (__builtin_expect((size_t) (writer->limit - writer->out) < room, 0))
        writer_grow(writer, room);
}

static inline void put_plain(writer_t *writer, const char *text, size_t size) {
    memcpy(writer->out, text, size);
    writer->out += size;
}

static void put_escape(writer_t *writer, uint8_t c) {
    static const char letters[32] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    uint8_t *out = writer->out;
    *out++ = '\\';
    if (c >= 0x20) {
        *out++ = c;
    } else if (letters[c]) {
        *out++ = (uint8_t) letters[c];
    } else {
        static const char hex[16] = "0123456789abcdef";
        *out++ = 'u';
        *out++ = '0';
        *out++ = '0';
        *out++ = (uint8_t) hex[c >> 4];
        *out++ = (uint8_t) hex[c & 15];
    }
    writer->out = out;
}

/* Any string. Bytes that are not UTF-8 become U+FFFD. */
static __attribute__((noinline)) void put_string_any(writer_t *writer, const uint8_t *text, size_t size) {
    const uint8_t *end = text + size;
    ensure(writer, ROOM);
    *writer->out++ = '"';
    while (text < end) {
        const uint8_t *run = text;
        while (text < end && *text >= 0x20 && *text < 0x80 && *text != '"' && *text != '\\')
            text++;
        ensure(writer, (size_t) (text - run) + ROOM);
        put_plain(writer, (const char *) run, (size_t) (text - run));
        if (text == end)
            break;
        if (*text < 0x80) {
            put_escape(writer, *text++);
            continue;
        }
        run = text;
        while (text < end && *text >= 0x80)
            text++;
        size_t valid = text_utf8_valid((const char *) run, (size_t) (text - run));
        ensure(writer, valid + ROOM);
        put_plain(writer, (const char *) run, valid);
        if (run + valid < text) {
            text = run + valid + 1;
            put_plain(writer, "\xef\xbf\xbd", 3);
        }
    }
    ensure(writer, ROOM);
    *writer->out++ = '"';
}

static inline void put_string(writer_t *writer, const uint8_t *text, size_t size) {
#ifdef JSON_SSE2
    if (__builtin_expect(size <= 32 && (size_t) (writer->readable - text) >= 32, 1)) {
        ensure(writer, ROOM);
        uint8_t *out = writer->out;
        *out++ = '"';
        __m128i block = _mm_loadu_si128((const __m128i *) (const void *) text);
        unsigned special = json_special(block);
        _mm_storeu_si128((__m128i *) (void *) out, block);
        if (size > 16) {
            block = _mm_loadu_si128((const __m128i *) (const void *) (text + 16));
            special |= json_special(block) << 16;
            _mm_storeu_si128((__m128i *) (void *) (out + 16), block);
        }
        if (__builtin_expect(((uint64_t) special & ((UINT64_C(1) << size) - 1)) == 0, 1)) {
            out += size;
            *out++ = '"';
            writer->out = out;
            return;
        }
    }
#endif
    put_string_any(writer, text, size);
}

static void put_base64(writer_t *writer, const uint8_t *bytes, size_t size) {
    static const char letters[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    ensure(writer, size / 3 * 4 + ROOM);
    uint8_t *out = writer->out;
    *out++ = '"';
    for (; size >= 3; size -= 3, bytes += 3) {
        *out++ = (uint8_t) letters[bytes[0] >> 2];
        *out++ = (uint8_t) letters[(bytes[0] & 3) << 4 | bytes[1] >> 4];
        *out++ = (uint8_t) letters[(bytes[1] & 15) << 2 | bytes[2] >> 6];
        *out++ = (uint8_t) letters[bytes[2] & 63];
    }
    if (size) {
        uint8_t second = size == 2 ? bytes[1] : 0;
        *out++ = (uint8_t) letters[bytes[0] >> 2];
        *out++ = (uint8_t) letters[(bytes[0] & 3) << 4 | second >> 4];
        *out++ = size == 2 ? (uint8_t) letters[(second & 15) << 2] : '=';
        *out++ = '=';
    }
    *out++ = '"';
    writer->out = out;
}

static void put_time(writer_t *writer, int64_t ns) {
    ensure(writer, ROOM);
    *writer->out++ = '"';
    writer->out += clock_print((char *) writer->out, ns);
    *writer->out++ = '"';
}

static void put_scalar(writer_t *writer, value_t value) {
    ensure(writer, ROOM);
    switch (value.type) {
    case VALUE_BOOL:
        put_plain(writer, value.boolean ? "true" : "false", value.boolean ? 4 : 5);
        break;
    case VALUE_INT:
        writer->out += json_print_int((char *) writer->out, value.integer);
        break;
    case VALUE_UINT:
        writer->out += json_print_uint((char *) writer->out, value.unsigned_integer);
        break;
    case VALUE_DOUBLE:
        writer->out += json_print_double((char *) writer->out, value.number);
        break;
    case VALUE_STRING:
        put_string(writer, (const uint8_t *) value.text, value.size);
        break;
    case VALUE_BINARY:
        put_base64(writer, (const uint8_t *) value.text, value.size);
        break;
    case VALUE_TIME:
        put_time(writer, value.time);
        break;
    default:
        put_plain(writer, "null", 4);
    }
}

static bool put_element(writer_t *writer, pack_cursor_t *cursor, unsigned depth);

/* The key of a map's entry and the colon. JSON knows string keys only: other scalars are put into quotes. */
static bool put_key(writer_t *writer, pack_cursor_t *cursor) {
    uint8_t byte = cursor->at < cursor->end ? *cursor->at : 0xc1;
    size_t size = byte & 31;
    if (__builtin_expect(byte >= 0xa0 && byte < 0xc0 && (size_t) (cursor->end - cursor->at) > size, 1)) {
        put_string(writer, cursor->at + 1, size);
        cursor->at += 1 + size;
    } else {
        value_t key;
        if (!pack_read_value(cursor, &key) || key.type == VALUE_ARRAY || key.type == VALUE_MAP)
            return false;
        bool quoted = key.type == VALUE_STRING || key.type == VALUE_BINARY || key.type == VALUE_TIME;
        ensure(writer, ROOM);
        if (!quoted)
            *writer->out++ = '"';
        put_scalar(writer, key);
        if (!quoted)
            *writer->out++ = '"';
    }
    ensure(writer, ROOM);
    *writer->out++ = ':';
    return true;
}

static bool put_array(writer_t *writer, pack_cursor_t *cursor, unsigned depth) {
    uint32_t count;
    if (depth == PACK_DEPTH || !pack_read_array(cursor, &count))
        return false;
    ensure(writer, ROOM);
    *writer->out++ = '[';
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            *writer->out++ = ',';
        if (!put_element(writer, cursor, depth + 1))
            return false;
    }
    ensure(writer, ROOM);
    *writer->out++ = ']';
    return true;
}

static bool put_map(writer_t *writer, pack_cursor_t *cursor, unsigned depth) {
    uint32_t count;
    if (depth == PACK_DEPTH || !pack_read_map(cursor, &count))
        return false;
    ensure(writer, ROOM);
    *writer->out++ = '{';
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            *writer->out++ = ',';
        if (!put_key(writer, cursor) || !put_element(writer, cursor, depth + 1))
            return false;
    }
    ensure(writer, ROOM);
    *writer->out++ = '}';
    return true;
}

/* On return at least one byte of room is left: for a comma. */
static bool put_element(writer_t *writer, pack_cursor_t *cursor, unsigned depth) {
    const uint8_t *at = cursor->at;
    size_t left = (size_t) (cursor->end - at);
    if (left == 0)
        return false;
    uint8_t byte = *at;
    if (byte == 0xcb && left >= 9) {
        uint64_t bits;
        double number;
        memcpy(&bits, at + 1, sizeof bits);
        bits = __builtin_bswap64(bits);
        memcpy(&number, &bits, sizeof number);
        ensure(writer, ROOM);
        writer->out += json_print_double((char *) writer->out, number);
        cursor->at = at + 9;
        return true;
    }
    if (byte >= 0xa0 && byte < 0xc0 && left > (byte & 31u)) {
        put_string(writer, at + 1, byte & 31);
        cursor->at = at + 1 + (byte & 31);
        return true;
    }
    if (byte < 0x80 || (byte >= 0xcc && byte <= 0xcf && left >= 9)) {
        ensure(writer, ROOM);
        uint64_t number = byte;
        unsigned size = 0;
        if (byte >= 0xcc) { /* big-endian bytes behind the type: of the eight the upper ones count */
            size = 1u << (byte - 0xcc);
            memcpy(&number, at + 1, sizeof number);
            number = __builtin_bswap64(number) >> (64 - 8 * size);
        }
        writer->out += json_print_uint((char *) writer->out, number);
        cursor->at = at + 1 + size;
        return true;
    }
    if ((byte & 0xf0) == 0x80 || byte == 0xde || byte == 0xdf)
        return put_map(writer, cursor, depth);
    if ((byte & 0xf0) == 0x90 || byte == 0xdc || byte == 0xdd)
        return put_array(writer, cursor, depth);
    value_t value;
    if (!pack_read_value(cursor, &value))
        return false;
    put_scalar(writer, value);
    return true;
}

bool json_put_packed(buf_t *out, const uint8_t *packed, size_t size) {
    writer_t writer;
    writer_begin(&writer, out, size + ROOM, packed + size);
    pack_cursor_t cursor = pack_cursor(packed, size);
    if (!put_element(&writer, &cursor, 0) || cursor.at != cursor.end)
        return false;
    out->size = (size_t) (writer.out - out->data);
    return true;
}

void json_put_value(buf_t *out, value_t value) {
    if (value.type == VALUE_ARRAY || value.type == VALUE_MAP) {
        if (!json_put_packed(out, value.packed, value.size))
            buf_put_text(out, "null");
        return;
    }
    writer_t writer;
    const uint8_t *text = value.type == VALUE_STRING ? (const uint8_t *) value.text : NULL;
    writer_begin(&writer, out, ROOM, text ? text + value.size : NULL);
    put_scalar(&writer, value);
    out->size = (size_t) (writer.out - out->data);
}

/* ,"@timestamp":"..." */
static void put_timestamp(writer_t *writer, json_keys_t *keys, int64_t time) {
    ensure(writer, 2 * ROOM);
    put_plain(writer, ",\"@timestamp\":", 14);
    if (!keys || time <= 0) {
        put_time(writer, time);
        return;
    }
    int64_t second = time / NS_PER_S;
    if (second != keys->second || !keys->second_text[0]) {
        clock_print(keys->second_text, second * NS_PER_S);
        keys->second = second;
    }
    uint8_t *out = writer->out;
    *out++ = '"';
    memcpy(out, keys->second_text, 19);
    out += 19;
    out += clock_print_fraction((char *) out, (uint32_t) (time - second * NS_PER_S));
    *out++ = 'Z';
    *out++ = '"';
    writer->out = out;
}

/* True for a key that json_put_event has written itself. */
static bool is_written(const pack_cursor_t *cursor, bool data_time, bool stream) {
    size_t left = (size_t) (cursor->end - cursor->at);
    if (data_time && left >= 11 && memcmp(cursor->at, "\xaa@timestamp", 11) == 0)
        return true;
    return stream && left >= 8 && memcmp(cursor->at, "\xa7@stream", 8) == 0;
}

/* Remembers how the key at `at`, which has just been printed as `text` with a comma before it, looks packed and printed. */
static void remember_key(json_keys_t *keys, uint32_t index, const uint8_t *at, size_t size, const uint8_t *text, size_t text_size) {
    if (!keys || index >= JSON_KEYS || size > sizeof keys->keys->packed || text_size > sizeof keys->keys->text)
        return;
    json_key_t *key = &keys->keys[index];
    if (key->size && keys->events % 8) /* when no two events are alike, remembering is lost work */
        return;
    memset(key, 0, sizeof *key);
    memcpy(key->packed, at, size);
    memcpy(key->text, text, text_size);
    key->mask = size < 16 ? (uint16_t) ((1u << size) - 1) : UINT16_MAX;
    key->size = (uint8_t) size;
    key->text_size = (uint8_t) text_size;
}

#ifdef JSON_SSE2
/* Writes the fields from number `done` on whose keys are those of the event before, as long as their values are of the usual types. Both positions
 * stay in registers that way. Returns the number of the field that it stopped at. */
static uint32_t put_same_fields(writer_t *writer, pack_cursor_t *cursor, const json_keys_t *keys, uint32_t done, uint32_t count) {
    const uint8_t *at = cursor->at;
    uint8_t *out = writer->out;
    for (; done < count && done < JSON_KEYS; done++) {
        const json_key_t *key = &keys->keys[done];
        /* the key, and a value's first 32 bytes */
        if ((size_t) (writer->readable - at) < sizeof key->packed + 32 || (size_t) (writer->limit - out) < sizeof key->text + ROOM)
            break;
        __m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *) (const void *) at),
                                      _mm_loadu_si128((const __m128i *) (const void *) key->packed));
        if (!key->size || ((unsigned) _mm_movemask_epi8(same) & key->mask) != key->mask)
            break;
        if (key->size > 16 && memcmp(at + 16, key->packed + 16, key->size - 16u) != 0)
            break;
        const uint8_t *value = at + key->size;
        uint8_t *text = out + key->text_size, byte = *value;
        memcpy(out, key->text, 16);
        if (key->text_size > 16)
            memcpy(out + 16, key->text + 16, sizeof key->text - 16);
        if (byte == 0xcb) {
            uint64_t bits;
            double number;
            memcpy(&bits, value + 1, sizeof bits);
            bits = __builtin_bswap64(bits);
            memcpy(&number, &bits, sizeof number);
            out = text + json_print_double((char *) text, number);
            at = value + 9;
        } else if (byte >= 0xa0 && byte < 0xc0) {
            unsigned size = byte & 31;
            __m128i low = _mm_loadu_si128((const __m128i *) (const void *) (value + 1));
            __m128i high = _mm_loadu_si128((const __m128i *) (const void *) (value + 17));
            unsigned special = json_special(low) | json_special(high) << 16;
            if (special & ((1u << size) - 1))
                break;
            *text = '"';
            _mm_storeu_si128((__m128i *) (void *) (text + 1), low);
            _mm_storeu_si128((__m128i *) (void *) (text + 17), high);
            text[1 + size] = '"';
            out = text + size + 2;
            at = value + 1 + size;
        } else if (byte < 0x80) {
            out = text + json_print_uint((char *) text, byte);
            at = value + 1;
        } else if (byte >= 0xcc && byte <= 0xcf) { /* big-endian bytes behind the type: of eight the upper ones count */
            unsigned size = 1u << (byte - 0xcc);
            uint64_t number;
            memcpy(&number, value + 1, sizeof number);
            out = text + json_print_uint((char *) text, __builtin_bswap64(number) >> (64 - 8 * size));
            at = value + 1 + size;
        } else {
            break;
        }
        if (at > cursor->end) /* what was read lies behind the record: the careful way says what is wrong */
            break;
        cursor->at = at;
        writer->out = out;
    }
    return done;
}
#else
static uint32_t put_same_fields(writer_t *writer, pack_cursor_t *cursor, const json_keys_t *keys, uint32_t done, uint32_t count) {
    return done;
}
#endif

bool json_put_event_in(buf_t *out, const event_t *event, const uint8_t *readable, json_keys_t *keys, bool data_time, const char *stream) {
    writer_t writer;
    writer_begin(&writer, out, 2 * (size_t) event->record_size + 4 * ROOM, readable);
    pack_cursor_t cursor = pack_cursor(event->record, event->record_size);
    uint32_t count;
    if (!pack_read_map(&cursor, &count))
        return false;
    size_t start = out->size;
    if (keys)
        keys->events++;
    if (data_time)
        put_timestamp(&writer, keys, event->time);
    if (stream) {
        ensure(&writer, ROOM);
        put_plain(&writer, ",\"@stream\":", 11);
        put_string_any(&writer, (const uint8_t *) stream, strlen(stream));
    }
    for (uint32_t i = keys ? put_same_fields(&writer, &cursor, keys, 0, count) : 0; i < count; i++) {
        if ((data_time || stream) && is_written(&cursor, data_time, stream != NULL)) {
            if (!pack_skip(&cursor) || !pack_skip(&cursor))
                return false;
            continue;
        }
        ensure(&writer, ROOM);
        size_t text = (size_t) (writer.out - out->data);
        const uint8_t *key = cursor.at;
        *writer.out++ = ',';
        if (!put_key(&writer, &cursor))
            return false;
        remember_key(keys, i, key, (size_t) (cursor.at - key), out->data + text, (size_t) (writer.out - out->data) - text);
        if (!put_element(&writer, &cursor, 1))
            return false;
        if (keys) /* one field that was different need not slow down the rest */
            i = put_same_fields(&writer, &cursor, keys, i + 1, count) - 1;
    }
    if (cursor.at != cursor.end)
        return false;
    ensure(&writer, ROOM);
    if (writer.out == out->data + start)
        *writer.out++ = '{';
    out->data[start] = '{'; /* in the place of the first comma */
    *writer.out++ = '}';
    out->size = (size_t) (writer.out - out->data);
    return true;
}

bool json_put_event(buf_t *out, const event_t *event, bool data_time, const char *stream) {
    return json_put_event_in(out, event, event->record + event->record_size, NULL, data_time, stream);
}
