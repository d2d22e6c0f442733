#ifndef INGEST_MQTT_H
#define INGEST_MQTT_H

#include "mqtt_acks.h"
#include "net/backoff.h"
#include "net/loop.h"
#include "wire.h"

/* A session with an MQTT server that receives messages: it connects, and again after each loss, subscribes where the server does not know that
 * yet, and acknowledges what is durable. */
typedef struct mqtt mqtt_t;

typedef struct mqtt_setup {
    loop_t *loop;
    wire_peer_t peer;              /* its timeout is also that for the server's answers */
    int64_t retry_min, retry_max;
    mqtt_connect_t connect;
    const char *const *filters;
    size_t filter_count;
    size_t kept_from;              /* what the server kept for filters from this one on is wanted in any case */
    unsigned qos;
    bool retained;                 /* messages that the server kept from before are wanted; it may send them all the same */
    /* A message that is new. False: no more room; it is given again after mqtt_resume. */
    bool (*message)(void *argument, const mqtt_packet_t *packet);
    void (*unusable)(void *argument, const mqtt_packet_t *packet, const char *reason);
    void (*moved)(void *argument); /* what mqtt_pack_state gives has changed, with or without a message */
    void (*up)(void *argument);    /* subscribed */
    void (*down)(void *argument, const char *reason); /* it will be tried again */
    void (*forgotten)(void *argument);                /* the server has lost the session */
    void *argument;
} mqtt_setup_t;

mqtt_t *mqtt_new(const mqtt_setup_t *setup);          /* all is borrowed for its life */
void mqtt_start(mqtt_t *mqtt);
void mqtt_free(mqtt_t *mqtt);                         /* says good-bye; NULL is legal */
void mqtt_pause(mqtt_t *mqtt);
void mqtt_resume(mqtt_t *mqtt);

/* What outlives a restart, as three entries of a map: "step", "held", "subscribed". */
#define MQTT_STATE_ENTRIES 3
void mqtt_pack_state(const mqtt_t *mqtt, buf_t *out);
int mqtt_restore(mqtt_t *mqtt, const uint8_t *position, size_t size, err_t *err);
/* All up to this step is durable; UINT64_MAX: whatever comes is, at once. */
void mqtt_durable(mqtt_t *mqtt, uint64_t step);

#endif
