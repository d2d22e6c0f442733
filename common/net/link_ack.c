/* Acknowledgements as msgpack. */
#include "net/link_ack.h"

#include "data/pack.h"

static void put_flag(buf_t *out, const char *key, bool flag) {
    if (flag) {
        pack_text(out, key);
        pack_bool(out, true);
    }
}

static void put_number(buf_t *out, const char *key, uint64_t number) {
    pack_text(out, key);
    pack_uint(out, number);
}

void link_ack_put(buf_t *out, const link_ack_t *ack) {
    bool hello = ack->origin.size == 0;
    pack_map(out, (hello ? 2 : 7) + ack->again + ack->paused + ack->idle);
    put_number(out, "v", 1);
    put_number(out, "r", ack->receiver);
    if (!hello) {
        pack_text(out, "o");
        pack_string(out, ack->origin.data, ack->origin.size);
        put_number(out, "e", ack->epoch);
        put_number(out, "received", ack->received);
        put_number(out, "durable", ack->durable);
        put_number(out, "g", ack->attempt);
    }
    put_flag(out, "again", ack->again);
    put_flag(out, "paused", ack->paused);
    put_flag(out, "idle", ack->idle);
}

static bool read_flag(pack_cursor_t *cursor, bool *flag) {
    value_t value;
    if (!pack_read_value(cursor, &value) || value.type != VALUE_BOOL)
        return false;
    *flag = value.boolean;
    return true;
}

static bool read_field(link_ack_t *ack, uint64_t *version, text_t key, pack_cursor_t *cursor) {
    if (text_is(key, "v"))
        return pack_read_uint(cursor, version);
    if (text_is(key, "r"))
        return pack_read_uint(cursor, &ack->receiver);
    if (text_is(key, "o"))
        return pack_read_string(cursor, &ack->origin);
    if (text_is(key, "e"))
        return pack_read_uint(cursor, &ack->epoch);
    if (text_is(key, "received"))
        return pack_read_uint(cursor, &ack->received);
    if (text_is(key, "durable"))
        return pack_read_uint(cursor, &ack->durable);
    if (text_is(key, "g"))
        return pack_read_uint(cursor, &ack->attempt);
    if (text_is(key, "again"))
        return read_flag(cursor, &ack->again);
    if (text_is(key, "paused"))
        return read_flag(cursor, &ack->paused);
    if (text_is(key, "idle"))
        return read_flag(cursor, &ack->idle);
    return pack_skip(cursor);
}

int link_ack_read(link_ack_t *ack, text_t payload, err_t *err) {
    *ack = (link_ack_t){0};
    uint64_t version = 0;
    uint32_t fields;
    pack_cursor_t cursor = pack_cursor(payload.data, payload.size);
    if (!pack_read_map(&cursor, &fields))
        return err_set(err, "an acknowledgement is not a msgpack map");
    for (uint32_t i = 0; i < fields; i++) {
        text_t key;
        if (!pack_read_string(&cursor, &key) || !read_field(ack, &version, key, &cursor))
            return err_set(err, "field %u of an acknowledgement is malformed", i + 1);
    }
    if (version != 1 || ack->receiver == 0)
        return err_set(err, "an acknowledgement without version 1 or without its receiver's number");
    if (ack->durable > ack->received)
        return err_set(err, "an acknowledgement says that more is durable than was received");
    return 0;
}
