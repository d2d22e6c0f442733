/* The Forward protocol's bytes: its four ways to send entries, told apart by what stands behind the tag, and its handshake. */
#include "forward.h"

#include "base/digest.h"
#include "base/memory.h"
#include "data/frame.h"
#include "data/pack.h"

#define ELEMENTS_MAX 6                 /* PING has six */
#define CHUNK_MAX 256
#define DIGEST_HEX (2 * 64)

int forward_pass(forward_pass_t *pass, const char *data, size_t size) {
    unsigned char first = size ? (unsigned char) *data : 0x92;
    if (first < 0x92 || (first > 0x90 + ELEMENTS_MAX && first != 0xdc && first != 0xdd))
        return -1;
    if (!pass->size)
        pass->rest = (pack_pass_t){1, 0};
    pack_cursor_t cursor = pack_cursor(data + pass->size, size - pass->size);
    int whole = size > pass->size ? pack_pass(&pass->rest, &cursor) : 0;
    if (size > pass->size)
        pass->size = (size_t) ((const char *) cursor.at - data);
    return whole;
}

/* The bytes of each element. Returns how many there are, or 0: it is no such array. */
static uint32_t split(const char *data, size_t size, text_t *elements) {
    pack_cursor_t cursor = pack_cursor(data, size);
    uint32_t count;
    if (!pack_read_array(&cursor, &count) || count < 2 || count > ELEMENTS_MAX)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *start = cursor.at;
        if (!pack_skip(&cursor))
            return 0;
        elements[i] = text_make((const char *) start, (size_t) (cursor.at - start));
    }
    return count;
}

static bool value_of(text_t element, value_t *value) {
    pack_cursor_t cursor = pack_cursor(element.data, element.size);
    return pack_read_value(&cursor, value);
}

static bool text_value(text_t element, text_t *text) {
    value_t value;
    if (!value_of(element, &value) || (value.type != VALUE_STRING && value.type != VALUE_BINARY))
        return false;
    *text = text_make(value.text, value.size);
    return true;
}

static forward_part_t part_of(const char *data, text_t text) {
    return (forward_part_t){(size_t) (text.data - data), text.size};
}

static int read_option(forward_message_t *message, const char *data, text_t option, err_t *err) {
    value_t map, value;
    if (!value_of(option, &map) || (map.type != VALUE_MAP && map.type != VALUE_NULL))
        return err_set(err, "the option of a message is no map");
    if (map.type == VALUE_NULL)
        return 0;
    if (pack_map_get(map.packed, map.size, text_of("chunk"), &value) && value.type != VALUE_NULL) {
        if ((value.type != VALUE_STRING && value.type != VALUE_BINARY) || value.size > CHUNK_MAX)
            return err_set(err, "the chunk of a message is no text of at most %d bytes", CHUNK_MAX);
        message->chunk = part_of(data, text_make(value.text, value.size));
    }
    if (pack_map_get(map.packed, map.size, text_of("compressed"), &value) && value.type == VALUE_STRING) {
        text_t kind = text_make(value.text, value.size);
        message->compressed = text_is(kind, "gzip");
        if (!message->compressed && !text_is(kind, "text"))
            return err_set(err, "entries compressed as %.*s; gzip is understood", (int) (kind.size < 20 ? kind.size : 20), kind.data);
    }
    return 0;
}

int forward_read(forward_message_t *message, const char *data, size_t size, err_t *err) {
    text_t elements[ELEMENTS_MAX], tag, entries;
    uint32_t count = split(data, size, elements), inside;
    value_t second;
    *message = (forward_message_t){0};
    if (!count || !text_value(elements[0], &tag))
        return err_set(err, "a message that is no array of a tag and its entries");
    if (text_utf8_valid(tag.data, tag.size) < tag.size)
        return err_set(err, "a tag that is no UTF-8");
    message->tag = part_of(data, tag);
    message->bare = !value_of(elements[1], &second) || (second.type != VALUE_ARRAY && second.type != VALUE_STRING && second.type != VALUE_BINARY);
    if (message->bare && count < 3)
        return err_set(err, "a message without its record");
    uint32_t option = message->bare ? 3 : 2;
    if (count > option + 1 || (count > option && read_option(message, data, elements[option], err)))
        return count > option + 1 ? err_set(err, "a message with too many elements") : -1;
    if (message->bare) {
        entries = text_make(elements[1].data, elements[1].size + elements[2].size); /* they stand side by side */
    } else if (second.type == VALUE_ARRAY) {
        pack_cursor_t cursor = pack_cursor(elements[1].data, elements[1].size);
        pack_read_array(&cursor, &inside);
        entries = text_make((const char *) cursor.at, (size_t) (cursor.end - cursor.at));
    } else {
        text_value(elements[1], &entries);
    }
    message->compressed &= !message->bare && second.type != VALUE_ARRAY;
    message->entries = part_of(data, entries);
    return 0;
}

text_t forward_text(const char *data, forward_part_t part) {
    return text_make(data + part.at, part.size);
}

/* A time, or seconds, or [time, metadata]. */
static bool read_time(pack_cursor_t *cursor, int64_t *time) {
    value_t value;
    uint32_t count;
    pack_cursor_t inner = *cursor;
    bool with_more = pack_read_array(&inner, &count) && count >= 1;
    if (with_more && !pack_skip(cursor))
        return false;
    if (!pack_read_value(with_more ? &inner : cursor, &value))
        return false;
    if (value.type == VALUE_INT && value.integer >= 0 && value.integer <= EVENT_TIME_MAX / 1000000000)
        *time = value.integer * 1000000000; /* seconds, however few */
    else if (!value_to_time(value, time))
        return false;
    return *time >= 0 && *time <= EVENT_TIME_MAX;
}

int forward_next(text_t entries, bool bare, size_t *at, forward_entry_t *entry, const char **reason) {
    pack_cursor_t whole = pack_cursor(entries.data + *at, entries.size - *at), cursor, keys;
    uint32_t count;
    value_t key;
    const uint8_t *start = whole.at;
    *reason = "malformed msgpack, or cut short";
    if (!pack_skip(&whole) || (bare && !pack_skip(&whole)))
        return -1;
    *at += (size_t) (whole.at - start);
    cursor = pack_cursor(start, (size_t) (whole.at - start));
    *reason = "an entry that is no [time, record]";
    if (!bare && (!pack_read_array(&cursor, &count) || count != 2))
        return 0;
    *reason = "the time of an entry is none between 1970 and 2106";
    if (!read_time(&cursor, &entry->time))
        return 0;
    *reason = "the record of an entry is no map with strings as keys";
    keys = cursor;
    if (!pack_read_map(&keys, &count))
        return 0;
    for (; count; count--)
        if (!pack_read_value(&keys, &key) || key.type != VALUE_STRING || !pack_skip_plain(&keys))
            return 0;
    entry->record = text_make((const char *) cursor.at, (size_t) (cursor.end - cursor.at));
    return 1;
}

void forward_put_ack(buf_t *out, text_t chunk) {
    pack_map(out, 1);
    pack_text(out, "ack");
    pack_string(out, chunk.data, chunk.size);
}

/* ---- the handshake ---- */

void forward_put_hello(buf_t *out, const uint8_t nonce[FORWARD_NONCE]) {
    pack_array(out, 2);
    pack_text(out, "HELO");
    pack_map(out, 3);
    pack_text(out, "nonce");
    pack_binary(out, nonce, FORWARD_NONCE);
    pack_text(out, "auth");
    pack_text(out, "");
    pack_text(out, "keepalive");
    pack_bool(out, true);
}

static void put_proof(char hex[DIGEST_HEX + 1], text_t salt, text_t hostname, const uint8_t *nonce, const char *key) {
    digest_t digest;
    uint8_t bytes[DIGEST_MAX];
    digest_begin(&digest, DIGEST_SHA512);
    digest_put(&digest, salt.data, salt.size);
    digest_put(&digest, hostname.data, hostname.size);
    digest_put(&digest, nonce, FORWARD_NONCE);
    digest_put(&digest, key, strlen(key));
    size_t size = digest_end(&digest, bytes);
    for (size_t i = 0; i < size; i++) {
        hex[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    hex[2 * size] = 0;
}

/* How long it takes does not tell where they differ. */
static bool same_proof(text_t given, const char *right) {
    unsigned difference = given.size != DIGEST_HEX;
    for (size_t i = 0; i < given.size && i < DIGEST_HEX; i++)
        difference |= (unsigned char) given.data[i] ^ (unsigned char) right[i];
    return !difference;
}

int forward_read_ping(const char *data, size_t size, const uint8_t nonce[FORWARD_NONCE], const char *key, const char *hostname, buf_t *pong, err_t *err) {
    text_t elements[ELEMENTS_MAX], word, host, salt, proof;
    char right[DIGEST_HEX + 1];
    if (split(data, size, elements) < 4 || !text_value(elements[0], &word) || !text_is(word, "PING") || !text_value(elements[1], &host) ||
        !text_value(elements[2], &salt) || !text_value(elements[3], &proof))
        return err_set(err, "the peer does not prove that it knows the shared key");
    put_proof(right, salt, host, nonce, key);
    bool good = same_proof(proof, right);
    put_proof(right, salt, text_of(hostname), nonce, key);
    pack_array(pong, 5);
    pack_text(pong, "PONG");
    pack_bool(pong, good);
    pack_text(pong, good ? "" : "shared_key mismatch");
    pack_text(pong, good ? hostname : "");
    pack_text(pong, good ? right : "");
    return good ? 0 : err_set(err, "the peer knows another shared key");
}
