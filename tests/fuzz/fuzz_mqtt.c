/* MQTT: what a server may send, as a run of packets or as the head of a packet that is too large. What was read lies within the packet, and
 * acknowledgements of it stay in bounds and are never sent before what they confirm is durable. */
#include <stdint.h>

#include "../../cmd/ingest/mqtt_acks.h"
#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(text_t text, const uint8_t *data, size_t size) {
    const uint8_t *at = (const uint8_t *) text.data;
    ASSERT(!text.size || (at >= data && at + text.size <= data + size));
}

static void check_packet(const mqtt_packet_t *packet, const uint8_t *data, size_t size) {
    const text_t texts[] = {packet->why, packet->topic, packet->payload, packet->codes};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_text(texts[i], data, size);
    if (packet->type == MQTT_PUBLISH) {
        ASSERT(packet->topic.size && packet->qos <= 2 && (packet->qos > 0) == (packet->id > 0));
        ASSERT(text_utf8_valid(packet->topic.data, packet->topic.size) == packet->topic.size);
    }
}

static void take(mqtt_acks_t *acks, const mqtt_packet_t *packet) {
    if (packet->type == MQTT_CONNACK)
        acks_begin(acks, packet->session);
    else if (packet->type == MQTT_PUBREL)
        acks_released(acks, packet->id);
    else if (packet->type == MQTT_PUBLISH && !acks_known(acks, packet))
        acks_taken(acks, packet);
}

/* Each packet in memory of its own and of its exact size, for the sanitizers. */
static void packets(mqtt_version_t version, const uint8_t *data, size_t size) {
    mqtt_acks_t acks = {0};
    buf_t out = {0}, held = {0};
    ssize_t next;
    while ((next = mqtt_packet_size(data, size)) > 0 && (size_t) next <= size) {
        uint8_t *copy = mem_copy(data, (size_t) next);
        mqtt_packet_t packet;
        err_t err;
        if (mqtt_packet_read(&packet, version, copy, (size_t) next, &err) == 0) {
            check_packet(&packet, copy, (size_t) next);
            take(&acks, &packet);
        }
        mem_free(copy);
        data += next;
        size -= (size_t) next;
        buf_clear(&out);
        acks_put(&acks, &out);
        for (size_t at = 0; at < out.size; at += 4) /* nothing is durable: only what was never held can be confirmed as released */
            ASSERT(out.data[at] >> 4 == MQTT_PUBCOMP);
    }
    acks.durable = acks.step;
    acks_put(&acks, &out);
    ASSERT(!acks.count && acks.held_count <= 65535);
    acks_pack_held(&acks, &held);
    acks_fini(&acks);
    buf_fini(&out);
    buf_fini(&held);
}

/* The head of a packet says what the whole says. */
static void head(mqtt_version_t version, const uint8_t *data, size_t size) {
    mqtt_packet_t packet, whole;
    err_t err;
    if (mqtt_publish_head(&packet, version, data, size, &err))
        return;
    check_packet(&packet, data, size);
    if (mqtt_packet_read(&whole, version, data, size, &err) == 0)
        ASSERT(whole.id == packet.id && whole.qos == packet.qos && text_equal(whole.topic, packet.topic));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    mqtt_version_t version = data[0] & 1 ? MQTT_5_0 : MQTT_3_1_1;
    if (data[0] & 2)
        head(version, data + 1, size - 1);
    else
        packets(version, data + 1, size - 1);
    return 0;
}
