#ifndef INGEST_WEBSOCKET_URL_H
#define INGEST_WEBSOCKET_URL_H

#include <stdbool.h>

#include "base/err.h"

/* Where a WebSocket server is. All owned; ws_place_fini. */
typedef struct ws_place {
    char *url;                         /* with http or https as its scheme, which ws and wss stand for, and without user and password */
    bool tls;
    char *host;                        /* an IPv6 address without brackets */
    unsigned port;
    char *authority;                   /* what the header Host says */
    char *target;                      /* path and query */
    char *user, *password;             /* decoded; NULL: the URL has none */
} ws_place_t;

/* From a URL of ws, wss, http or https. The error does not repeat it. */
int ws_place_read(ws_place_t *place, const char *url, err_t *err);
/* Where a redirect leads (RFC 9110, 10.2.2). A move from wss to ws is an error. same: it is the same scheme, host and port. */
int ws_place_move(ws_place_t *place, const ws_place_t *from, const char *location, bool *same, err_t *err);
void ws_place_fini(ws_place_t *place);

#endif
