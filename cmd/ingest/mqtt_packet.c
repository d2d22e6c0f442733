/* The packets of MQTT: reading and writing. Section numbers are those of "MQTT Version 5.0", OASIS Standard, 7 March 2019. */
#include "mqtt_packet.h"

#include <string.h>

#include "base/bytes.h"

static text_t take_text(bytes_t *reader) {
    size_t size = bytes_big(reader, 2);
    const uint8_t *p = bytes_take(reader, size);
    return p ? text_make((const char *) p, size) : text_make("", 0);
}

/* 1.5.5: seven bits a byte, lowest first. */
static uint32_t take_varint(bytes_t *reader) {
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned byte = bytes_big(reader, 1);
        value |= (uint32_t) (byte & 127) << (7 * i);
        if (!(byte & 128))
            return value;
    }
    reader->bad = true;
    return 0;
}

/* 2.2.2.2: what a property's value is: byte, 2 or 4 bytes, variable, text or binary, pair of texts. */
static char property_kind(uint32_t id) {
    switch (id) {
    case 0x01: case 0x17: case 0x19: case 0x24: case 0x25: case 0x28: case 0x29: case 0x2A:
        return '1';
    case 0x13: case 0x21: case 0x22: case 0x23:
        return '2';
    case 0x02: case 0x11: case 0x18: case 0x27:
        return '4';
    case 0x0B:
        return 'v';
    case 0x03: case 0x08: case 0x09: case 0x12: case 0x15: case 0x16: case 0x1A: case 0x1C: case 0x1F:
        return 't';
    case 0x26:
        return 'p';
    default:
        return 0;
    }
}

static void take_properties(bytes_t *reader, mqtt_packet_t *packet) {
    uint32_t size = take_varint(reader);
    const uint8_t *from = bytes_take(reader, size);
    if (!from)
        return;
    bytes_t inside = {.at = from, .end = from + size};
    while (bytes_left(&inside) && !inside.bad) {
        uint32_t id = take_varint(&inside);
        switch (property_kind(id)) {
        case '1': bytes_big(&inside, 1); break;
        case '4': bytes_take(&inside, 4); break;
        case 'v': take_varint(&inside); break;
        case 'p': take_text(&inside); take_text(&inside); break;
        case '2': {
            uint16_t value = bytes_big(&inside, 2);
            if (id == 0x13)
                packet->keepalive = value;
            break;
        }
        case 't': {
            text_t value = take_text(&inside);
            if (id == 0x1F)
                packet->why = value;
            break;
        }
        default:
            inside.bad = true;
        }
    }
    reader->bad |= inside.bad;
}

ssize_t mqtt_packet_size(const uint8_t *data, size_t size) {
    size_t value = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (size < i + 2)
            return 0;
        value |= (size_t) (data[i + 1] & 127) << (7 * i);
        if (!(data[i + 1] & 128))
            return (ssize_t) (value + i + 2);
    }
    return -1;
}

static void read_publish(bytes_t *reader, mqtt_packet_t *packet, mqtt_version_t version, unsigned flags) {
    packet->qos = flags >> 1 & 3;
    packet->again = flags & 8;
    packet->retained = flags & 1;
    packet->topic = take_text(reader);
    if (packet->qos)
        packet->id = bytes_big(reader, 2);
    if (version == MQTT_5_0)
        take_properties(reader, packet);
    packet->payload = text_make((const char *) reader->at, bytes_left(reader));
    /* Topic aliases are not offered (3.1.2.11.5), so there is a topic; and nobody publishes to a wildcard (3.3.2-2). */
    reader->bad |= packet->qos == 3 || (packet->qos && !packet->id) || !packet->topic.size || memchr(packet->topic.data, '#', packet->topic.size) ||
                   memchr(packet->topic.data, '+', packet->topic.size) || memchr(packet->topic.data, 0, packet->topic.size) ||
                   text_utf8_valid(packet->topic.data, packet->topic.size) != packet->topic.size;
}

int mqtt_packet_read(mqtt_packet_t *packet, mqtt_version_t version, const uint8_t *data, size_t size, err_t *err) {
    bytes_t reader = {.at = data, .end = data + size};
    unsigned first = bytes_big(&reader, 1);
    bool five = version == MQTT_5_0;
    take_varint(&reader);
    *packet = (mqtt_packet_t){.type = (mqtt_type_t) (first >> 4)};
    switch (packet->type) {
    case MQTT_CONNACK:
        packet->session = bytes_big(&reader, 1) & 1;
        packet->reason = bytes_big(&reader, 1);
        if (five && bytes_left(&reader)) /* a server that does not know 5.0 answers as 3.1.1 does */
            take_properties(&reader, packet);
        break;
    case MQTT_PUBLISH:
        read_publish(&reader, packet, version, first & 15);
        break;
    case MQTT_PUBREL:
        packet->id = bytes_big(&reader, 2);
        reader.bad |= !packet->id;
        break;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        packet->id = bytes_big(&reader, 2);
        if (five)
            take_properties(&reader, packet);
        packet->codes = text_make((const char *) reader.at, bytes_left(&reader));
        break;
    case MQTT_PINGRESP:
        break;
    case MQTT_DISCONNECT:
        if (five && bytes_left(&reader))
            packet->reason = bytes_big(&reader, 1);
        if (five && bytes_left(&reader))
            take_properties(&reader, packet);
        break;
    default:
        return err_set(err, "the server sent a packet of type %u, which does not belong here", first >> 4);
    }
    return reader.bad ? err_set(err, "the server sent a packet of type %u that is malformed", first >> 4) : 0;
}

int mqtt_publish_head(mqtt_packet_t *packet, mqtt_version_t version, const uint8_t *data, size_t size, err_t *err) {
    bytes_t reader = {.at = data, .end = data + size};
    unsigned first = bytes_big(&reader, 1);
    take_varint(&reader);
    *packet = (mqtt_packet_t){.type = (mqtt_type_t) (first >> 4)};
    if (packet->type != MQTT_PUBLISH)
        return err_set(err, "the server sent a packet of type %u that is too large", first >> 4);
    read_publish(&reader, packet, MQTT_3_1_1, first & 15); /* properties may go on beyond what is there, and are not needed */
    return reader.bad ? err_set(err, "the server sent a message that is malformed") : 0;
}

/* Writing. */

static void put_u16(buf_t *out, unsigned value) {
    buf_put_byte(out, (uint8_t) (value >> 8));
    buf_put_byte(out, (uint8_t) value);
}

static void put_u32(buf_t *out, uint32_t value) {
    put_u16(out, value >> 16);
    put_u16(out, value & 0xFFFF);
}

static void put_text(buf_t *out, const char *text) {
    size_t size = strlen(text);
    put_u16(out, (unsigned) size);
    buf_put(out, text, size);
}

static void put_packet(buf_t *out, mqtt_type_t type, unsigned flags, const buf_t *body) {
    size_t size = body ? body->size : 0;
    buf_put_byte(out, (uint8_t) (type << 4 | flags));
    do {
        buf_put_byte(out, (uint8_t) ((size & 127) | (size > 127 ? 128 : 0)));
        size >>= 7;
    } while (size);
    if (body)
        buf_put(out, body->data, body->size);
}

void mqtt_put_connect(buf_t *out, const mqtt_connect_t *connect) {
    buf_t body = {0};
    put_text(&body, "MQTT");
    buf_put_byte(&body, (uint8_t) connect->version);
    buf_put_byte(&body, (uint8_t) ((connect->user ? 0x80 : 0) | (connect->password ? 0x40 : 0) | (connect->clean ? 0x02 : 0)));
    put_u16(&body, connect->keepalive);
    if (connect->version == MQTT_5_0) {
        buf_put_byte(&body, 5 + 3 + 5);
        buf_put_byte(&body, 0x11);
        put_u32(&body, connect->expiry);
        buf_put_byte(&body, 0x21);
        put_u16(&body, connect->receive_max);
        buf_put_byte(&body, 0x27);
        put_u32(&body, connect->packet_max);
    }
    put_text(&body, connect->client);
    if (connect->user)
        put_text(&body, connect->user);
    if (connect->password)
        put_text(&body, connect->password);
    put_packet(out, MQTT_CONNECT, 0, &body);
    buf_fini(&body);
}

static void put_filters(buf_t *out, mqtt_type_t type, mqtt_version_t version, uint16_t id, const char *const *filters, const uint8_t *options,
                        size_t count) {
    buf_t body = {0};
    put_u16(&body, id);
    if (version == MQTT_5_0)
        buf_put_byte(&body, 0);
    for (size_t i = 0; i < count; i++) {
        put_text(&body, filters[i]);
        if (options)
            buf_put_byte(&body, options[i]);
    }
    put_packet(out, type, 2, &body);
    buf_fini(&body);
}

void mqtt_put_subscribe(buf_t *out, mqtt_version_t version, uint16_t id, const char *const *filters, const uint8_t *options, size_t count) {
    put_filters(out, MQTT_SUBSCRIBE, version, id, filters, options, count);
}

void mqtt_put_unsubscribe(buf_t *out, mqtt_version_t version, uint16_t id, const char *const *filters, size_t count) {
    put_filters(out, MQTT_UNSUBSCRIBE, version, id, filters, NULL, count);
}

void mqtt_put_ack(buf_t *out, mqtt_type_t type, uint16_t id) {
    buf_put_byte(out, (uint8_t) (type << 4));
    buf_put_byte(out, 2);
    put_u16(out, id);
}

void mqtt_put_empty(buf_t *out, mqtt_type_t type) {
    put_packet(out, type, 0, NULL);
}

static int wrong_filter(err_t *err, const char *filter, const char *why) {
    buf_t shown = {0};
    text_put_quoted(&shown, text_of(filter), 80);
    err_set(err, "topic %s: %s", buf_text(&shown), why);
    buf_fini(&shown);
    return -1;
}

int mqtt_check_filter(const char *filter, err_t *err) {
    size_t size = strlen(filter);
    const char *at = filter;
    if (size > 65535 || text_utf8_valid(filter, size) != size)
        return wrong_filter(err, filter, "takes up to 65535 bytes of UTF-8");
    if (strncmp(filter, "$share/", 7) == 0) {
        const char *group = filter + 7, *slash = strchr(group, '/');
        if (!slash || slash == group || strcspn(group, "+#") < (size_t) (slash - group))
            return wrong_filter(err, filter, "a shared one is $share/GROUP/TOPIC");
        at = slash + 1;
    }
    if (!*at)
        return wrong_filter(err, filter, "is empty; # is all topics");
    for (const char *level = at; level; level = strchr(level, '/') ? strchr(level, '/') + 1 : NULL) {
        size_t length = strcspn(level, "/");
        if (memchr(level, '#', length) && (length > 1 || level[1]))
            return wrong_filter(err, filter, "# stands for all further levels: alone, and last");
        if (memchr(level, '+', length) && length > 1)
            return wrong_filter(err, filter, "+ stands for a whole level, alone");
    }
    return 0;
}

const char *mqtt_reason(mqtt_version_t version, mqtt_type_t type, unsigned reason) {
    static const struct { unsigned code; const char *words; } words[] = {
        {0x01, "the server does not know this version of MQTT (--protocol)"},
        {0x02, "the server refuses the client id (--client-id)"},
        {0x03, "the server is not available"},
        {0x04, "the server wants other credentials (--user, --password)"},
        {0x05, "the server does not allow it: other credentials (--user, --password, --tls-cert), or other access rules there"},
        {0x84, "the server does not know this version of MQTT (--protocol)"},
        {0x85, "the server refuses the client id (--client-id)"},
        {0x86, "the server wants other credentials (--user, --password)"},
        {0x87, "the server does not allow it: other credentials (--user, --password, --tls-cert), or other access rules there"},
        {0x88, "the server is not available"},
        {0x89, "the server is busy"},
        {0x8A, "the server has banned this client"},
        {0x8B, "the server is shutting down"},
        {0x8D, "the server has not heard from us for too long (--keepalive)"},
        {0x8E, "another client has taken the session over: each needs a client id of its own (--client-id)"},
        {0x8F, "the server refuses the topic"},
        {0x97, "the server's quota is used up"},
        {0x9E, "the server has no shared subscriptions"},
        {0xA2, "the server has no wildcard subscriptions"},
    };
    if (version == MQTT_3_1_1 && type == MQTT_SUBACK)
        return "the server's access rules do not allow it";
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (words[i].code == reason)
            return words[i].words;
    }
    return "the server refuses it";
}
