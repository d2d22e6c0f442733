/* Which message was taken already, and when the server is told. */
#include "mqtt_acks.h"

#include "base/memory.h"
#include "data/pack.h"

#define IDS 65536

enum { MARK_NONE, MARK_TAKEN, MARK_HELD, MARK_RELEASED };

static mqtt_mark_t *mark_of(mqtt_acks_t *acks, uint16_t id) {
    if (!acks->marks)
        acks->marks = mem_zero(IDS * sizeof *acks->marks);
    return &acks->marks[id];
}

void acks_fini(mqtt_acks_t *acks) {
    mem_free(acks->marks);
    mem_free(acks->held);
    mem_free(acks->pending);
}

static void hold(mqtt_acks_t *acks, uint16_t id) {
    if (!acks->held)
        acks->held = mem_zero(IDS * sizeof *acks->held);
    acks->held[acks->held_count++] = id;
}

static void let_go(mqtt_acks_t *acks, uint16_t id) {
    for (size_t i = 0; i < acks->held_count; i++) { /* the oldest is first as a rule */
        if (acks->held[i] == id) {
            memmove(acks->held + i, acks->held + i + 1, (acks->held_count - i - 1) * sizeof *acks->held);
            acks->held_count--;
            return;
        }
    }
}

static void push(mqtt_acks_t *acks, mqtt_type_t type, uint16_t id, uint64_t step) {
    if (acks->count == acks->capacity) {
        size_t capacity = acks->capacity ? acks->capacity * 2 : 64;
        mqtt_pending_t *ring = mem_zero(capacity * sizeof *ring);
        for (size_t i = 0; i < acks->count; i++)
            ring[i] = acks->pending[(acks->first + i) % acks->capacity];
        mem_free(acks->pending);
        acks->pending = ring;
        acks->first = 0;
        acks->capacity = capacity;
    }
    acks->pending[(acks->first + acks->count++) % acks->capacity] = (mqtt_pending_t){.step = step, .id = id, .type = (uint8_t) type};
}

void acks_begin(mqtt_acks_t *acks, bool session) {
    acks->first = acks->count = 0;
    if (session || !acks->marks)
        return;
    memset(acks->marks, 0, IDS * sizeof *acks->marks);
    acks->held_count = 0;
}

/* As long as PUBCOMP was not sent, an identifier is that of the same message, whatever a server has forgotten meanwhile. */
bool acks_known(mqtt_acks_t *acks, const mqtt_packet_t *packet) {
    if (!packet->qos)
        return false;
    const mqtt_mark_t *mark = mark_of(acks, packet->id);
    bool known = packet->qos == 2 ? mark->state == MARK_HELD || mark->state == MARK_RELEASED : mark->state == MARK_TAKEN && packet->again;
    if (known)
        push(acks, packet->qos == 2 ? MQTT_PUBREC : MQTT_PUBACK, packet->id, mark->step);
    return known;
}

void acks_taken(mqtt_acks_t *acks, const mqtt_packet_t *packet) {
    acks->step++;
    if (!packet->qos)
        return;
    mqtt_mark_t *mark = mark_of(acks, packet->id);
    if (mark->state == MARK_HELD)
        let_go(acks, packet->id);
    mark->step = acks->step;
    mark->state = packet->qos == 2 ? MARK_HELD : MARK_TAKEN;
    if (packet->qos == 2)
        hold(acks, packet->id);
    push(acks, packet->qos == 2 ? MQTT_PUBREC : MQTT_PUBACK, packet->id, acks->step);
}

void acks_released(mqtt_acks_t *acks, uint16_t id) {
    mqtt_mark_t *mark = mark_of(acks, id);
    if (mark->state == MARK_HELD) {
        let_go(acks, id);
        mark->step = ++acks->step;
        mark->state = MARK_RELEASED;
    }
    push(acks, MQTT_PUBCOMP, id, mark->state == MARK_RELEASED ? mark->step : 0);
}

void acks_put(mqtt_acks_t *acks, buf_t *out) {
    while (acks->count && acks->pending[acks->first].step <= acks->durable) {
        mqtt_pending_t pending = acks->pending[acks->first];
        mqtt_mark_t *mark = mark_of(acks, pending.id);
        acks->first = (acks->first + 1) % acks->capacity;
        acks->count--;
        mqtt_put_ack(out, (mqtt_type_t) pending.type, pending.id);
        if (pending.type != MQTT_PUBREC && mark->step <= pending.step)
            mark->state = MARK_NONE;
    }
}

void acks_pack_held(const mqtt_acks_t *acks, buf_t *out) {
    buf_t bytes = {0};
    for (size_t i = 0; i < acks->held_count; i++) {
        buf_put_byte(&bytes, (uint8_t) (acks->held[i] >> 8));
        buf_put_byte(&bytes, (uint8_t) acks->held[i]);
    }
    pack_binary(out, bytes.data, bytes.size);
    buf_fini(&bytes);
}

int acks_restore(mqtt_acks_t *acks, uint64_t step, text_t held, err_t *err) {
    const uint8_t *bytes = (const uint8_t *) held.data;
    if (held.size % 2 || held.size / 2 >= IDS || step >= UINT64_C(1) << 55)
        return err_set(err, "the stored position is damaged");
    acks->step = step;
    for (size_t i = 0; i < held.size; i += 2) {
        uint16_t id = (uint16_t) (bytes[i] << 8 | bytes[i + 1]);
        mqtt_mark_t *mark = mark_of(acks, id);
        if (mark->state == MARK_HELD)
            continue;
        *mark = (mqtt_mark_t){.step = step, .state = MARK_HELD};
        hold(acks, id);
    }
    return 0;
}
