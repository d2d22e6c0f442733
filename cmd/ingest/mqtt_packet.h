#ifndef INGEST_MQTT_PACKET_H
#define INGEST_MQTT_PACKET_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"

/* Packets of MQTT 3.1.1 and 5.0 (OASIS standards of these names): what a receiver of messages sends and gets. Readers trust no length. */
typedef enum mqtt_type {
    MQTT_CONNECT = 1, MQTT_CONNACK, MQTT_PUBLISH, MQTT_PUBACK, MQTT_PUBREC, MQTT_PUBREL, MQTT_PUBCOMP, MQTT_SUBSCRIBE, MQTT_SUBACK,
    MQTT_UNSUBSCRIBE, MQTT_UNSUBACK, MQTT_PINGREQ, MQTT_PINGRESP, MQTT_DISCONNECT, MQTT_AUTH,
} mqtt_type_t;

typedef enum mqtt_version { MQTT_3_1_1 = 4, MQTT_5_0 = 5 } mqtt_version_t;   /* as in CONNECT */

#define MQTT_HEAD_MAX (5 + 2 + 65535 + 2)             /* of a PUBLISH packet up to its packet identifier */

/* What was read; texts are borrowed from the packet. */
typedef struct mqtt_packet {
    mqtt_type_t type;
    unsigned qos;                  /* PUBLISH */
    bool again, retained;          /* PUBLISH: DUP and RETAIN */
    bool session;                  /* CONNACK: the server knows our session */
    uint16_t id;                   /* 0: none */
    unsigned reason;               /* CONNACK's return code; 5.0: any reason code */
    text_t why;                    /* 5.0: the reason string */
    text_t topic, payload;         /* PUBLISH; the rest is payload */
    text_t codes;                  /* SUBACK: a byte for each filter */
    uint16_t keepalive;            /* 5.0, CONNACK: seconds that the server wants; 0: ours */
} mqtt_packet_t;

/* Size of the packet that the data begins with. 0: not enough there to tell; -1: no packet begins so. */
ssize_t mqtt_packet_size(const uint8_t *data, size_t size);
/* Reads one whole packet. */
int mqtt_packet_read(mqtt_packet_t *packet, mqtt_version_t version, const uint8_t *data, size_t size, err_t *err);
/* Reads the head of a PUBLISH packet, of which there are only the first `size` bytes, at least MQTT_HEAD_MAX; its payload is what is there. */
int mqtt_publish_head(mqtt_packet_t *packet, mqtt_version_t version, const uint8_t *data, size_t size, err_t *err);

typedef struct mqtt_connect {
    mqtt_version_t version;
    const char *client;
    const char *user, *password;   /* or NULL */
    bool clean;
    uint16_t keepalive;            /* seconds */
    uint32_t expiry;               /* 5.0: seconds that the server keeps the session */
    uint16_t receive_max;          /* 5.0: messages not yet acknowledged at most */
    uint32_t packet_max;           /* 5.0: bytes */
} mqtt_connect_t;

void mqtt_put_connect(buf_t *out, const mqtt_connect_t *connect);
/* options: a byte for each filter (QoS, and for 5.0 the others). */
void mqtt_put_subscribe(buf_t *out, mqtt_version_t version, uint16_t id, const char *const *filters, const uint8_t *options, size_t count);
void mqtt_put_unsubscribe(buf_t *out, mqtt_version_t version, uint16_t id, const char *const *filters, size_t count);
void mqtt_put_ack(buf_t *out, mqtt_type_t type, uint16_t id);         /* PUBACK, PUBREC, PUBCOMP: all is well */
void mqtt_put_empty(buf_t *out, mqtt_type_t type);                    /* PINGREQ, DISCONNECT */

/* A topic filter as the standard has it ("a/+/#", "$share/group/a"); the error says what is wrong with it. */
int mqtt_check_filter(const char *filter, err_t *err);
/* The reason code of a CONNACK, SUBACK or DISCONNECT in words, with the remedy where there is one. */
const char *mqtt_reason(mqtt_version_t version, mqtt_type_t type, unsigned reason);

#endif
