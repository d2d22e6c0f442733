#ifndef INGEST_MQTT_URL_H
#define INGEST_MQTT_URL_H

#include <stdbool.h>

#include "base/err.h"

/* The parts of mqtt://USER:PASSWORD@HOST:PORT/TOPIC, decoded; zero-initialise; mqtt_url_fini. */
typedef struct mqtt_url {
    bool tls;
    char *user, *password;         /* NULL: not there */
    char *host;
    unsigned port;
    char *topic;                   /* "" when there is none */
} mqtt_url_t;

/* rest: what stands behind the scheme's colon. The error repeats nothing of it: it may hold secrets. */
int mqtt_url_read(mqtt_url_t *url, bool tls, const char *rest, err_t *err);
void mqtt_url_fini(mqtt_url_t *url);

#endif
