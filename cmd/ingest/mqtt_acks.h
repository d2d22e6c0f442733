#ifndef INGEST_MQTT_ACKS_H
#define INGEST_MQTT_ACKS_H

#include "base/err.h"
#include "mqtt_packet.h"

/* What is known of the messages that the server has not been told about finally, by packet identifier, and what it will be told once
 * that is durable. Each message taken and each release of one is a step; steps are counted over all runs, and `durable` says up to which they are
 * safe. The caller's storage; zero-initialise; acks_fini.
 *
 * QoS 1: PUBACK when the message is durable. Until it was sent, the same identifier with DUP is the same message: not taken again.
 * QoS 2: PUBREC when it is durable that the message was taken; until PUBREL the identifier is "held", and is not taken again; PUBCOMP when it
 * is durable that it is held no more, for then the server may give the identifier to another message (4.3.3). */
typedef struct mqtt_mark {
    uint64_t step : 56, state : 8;
} mqtt_mark_t;

typedef struct mqtt_pending {
    uint64_t step;
    uint16_t id;
    uint8_t type;                  /* MQTT_PUBACK, MQTT_PUBREC, MQTT_PUBCOMP */
} mqtt_pending_t;

typedef struct mqtt_acks {
    uint64_t step, durable;
    mqtt_mark_t *marks;            /* 65536, by identifier */
    uint16_t *held;                /* in no order */
    size_t held_count;
    mqtt_pending_t *pending;       /* a ring */
    size_t first, count, capacity;
} mqtt_acks_t;

void acks_fini(mqtt_acks_t *acks);
/* A new connection; session: the server still knows what it sent before. */
void acks_begin(mqtt_acks_t *acks, bool session);
/* True: the message was taken before; it will be acknowledged, and that is all. */
bool acks_known(mqtt_acks_t *acks, const mqtt_packet_t *packet);
void acks_taken(mqtt_acks_t *acks, const mqtt_packet_t *packet);      /* now it was */
void acks_released(mqtt_acks_t *acks, uint16_t id);                   /* PUBREL */
/* Appends the packets that may be sent now. */
void acks_put(mqtt_acks_t *acks, buf_t *out);

/* The held identifiers, as a stored position has them: binary, 2 bytes each. Between begin and the next message all of them wait for `durable`. */
void acks_pack_held(const mqtt_acks_t *acks, buf_t *out);
int acks_restore(mqtt_acks_t *acks, uint64_t step, text_t held, err_t *err);

#endif
