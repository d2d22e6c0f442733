#ifndef INGEST_SERVER_URL_H
#define INGEST_SERVER_URL_H

#include <stdbool.h>

#include "base/err.h"

/* The parts of SCHEME://USER:PASSWORD@HOST:PORT/PATH, decoded; zero-initialise; server_url_fini. */
typedef struct server_url {
    bool tls;
    char *user, *password;         /* NULL: not there; a user may be "" */
    char *host;                    /* an IPv6 address without brackets; of a list ("h1:9092,[::1]:9092,h3") all but the last port, as it is */
    unsigned port;
    char *path;                    /* behind the slash (a # may stand in its place); "" when there is none */
} server_url_t;

/* rest: what stands behind the scheme's colon. url->tls is set by the caller; port: when the URL has none; like: how such an address looks, for errors
 * ("an address of MQTT looks like mqtt://host:1883/topic/#"). The error repeats nothing of the address: it may hold secrets. */
int server_url_read(server_url_t *url, const char *rest, unsigned port, const char *like, err_t *err);
void server_url_fini(server_url_t *url);

/* "scheme://host:port" as it is written and shown, an IPv6 address in brackets; without a scheme (NULL) "host:port". The caller's. */
char *server_url_place(const char *scheme, const char *host, unsigned port);

#endif
