#ifndef STREAMCTL_FACADE_ACCESS_H
#define STREAMCTL_FACADE_ACCESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/text.h"
#include "data/option.h"

/* Who may ask for what: the rules against other web pages in the same browser, against DNS rebinding, and the token. */
typedef struct access {
    const char *listen;              /* as configured */
    bool loopback;                   /* every address listened on is a loopback one */
    const char *token;               /* NULL: none is set */
    const option_list_t *origins;    /* allowed beside our own: "https://host[:port]" */
} access_t;

bool access_is_loopback(const struct sockaddr *address);

/* A Host header that may name this server. On loopback only loopback names, the configured address and the hosts of
 * the allowed origins are taken: a foreign name that was made to resolve to 127.0.0.1 is not. */
bool access_host_allowed(const access_t *access, text_t host);

/* An Origin header, "" when there was none (not a browser, or a same-origin GET): ours by its Host header, or a configured one. */
bool access_origin_allowed(const access_t *access, text_t origin, text_t host);
bool access_origin_configured(const access_t *access, text_t origin);

/* The Authorization header against the token; takes the same time wherever they differ. */
bool access_authorized(const access_t *access, text_t authorization);

#endif
