#ifndef STREAMCTL_REST_H
#define STREAMCTL_REST_H

#include <jansson.h>
#include <libwebsockets.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"

struct facade;

/* One HTTP request, from its headers to the end of its answer. */
typedef struct rest_request {
    struct facade *facade;
    struct lws *wsi;
    const struct rest_route *route;
    int method;                      /* LWSHUMETH_... */
    char path[512];
    char parameter[129];             /* what stood for {name} */
    char host[300], origin[300], encoding[200], known[80];    /* Host, Origin, Accept-Encoding, If-None-Match */
    bool has_body, body_ended;
    bool chunked, bad_length;        /* where the body ends is not known: the connection ends with the answer */
    uint64_t length;                 /* Content-Length */
    buf_t body;
    bool started, answered;          /* headers are out; a handler that waits answers later */
    uint64_t ticket;                 /* of a request to the supervisor, or 0 */
    buf_t answer;                    /* LWS_PRE, then the bytes */
    const uint8_t *constant;         /* or an embedded file */
    size_t size, sent;
} rest_request_t;

/* Answers at once, or keeps the request and answers later. */
typedef void rest_handler_fn(rest_request_t *request);

typedef struct rest_route {
    const char *method, *path;       /* "GET", "/api/streams/{name}/events" */
    rest_handler_fn *handler;
    bool changes;                    /* state: the token is needed when one is set */
    const char *help;
    bool probe;                      /* answered on loopback also to who names no host */
} rest_route_t;
extern const rest_route_t rest_routes[];              /* ends with a NULL method */

/* Exactly one of these per request. */
void rest_reply_json(rest_request_t *request, int status, json_t *body);             /* taken */
void rest_reply_text(rest_request_t *request, int status, const char *type, buf_t *text);    /* its bytes are taken */
void rest_reply_error(rest_request_t *request, int status, const char *code, json_t *detail, const char *format, ...)
    __attribute__((format(printf, 5, 6)));                                            /* detail is taken; may be NULL */

/* The request's body as a JSON object, an empty one when there was none. NULL: an error has been answered. */
json_t *rest_body(rest_request_t *request);
/* An integer out of the query; false: an error has been answered. */
bool rest_query_int(rest_request_t *request, const char *name, int64_t least, int64_t most, int64_t *value);

/* Looks a route up. Returns NULL with *allow (comma-separated methods) "" when no route has the path. */
const rest_route_t *rest_find(const char *method, const char *path, char parameter[static 129], char *allow, size_t allow_size);

int rest_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size);
/* An upgrade: 0 to go on, else it has been answered. `protocol` is the library's, and is changed where the request is to be answered without upgrade. */
int rest_confirm_upgrade(struct lws *wsi, char *protocol);

/* Embedded files. */
typedef struct asset {
    const char *path, *type;
    const uint8_t *bytes, *packed;   /* plain, gzip */
    size_t size, packed_size;
    char tag[24];                    /* ETag, with quotes */
} asset_t;
const asset_t *asset_find(const char *path);
void rest_reply_asset(rest_request_t *request, const asset_t *asset);

/* What rest.c and the answering parts share. */
const char *rest_method_name(int method);
int rest_write(rest_request_t *request);
int rest_write_now(rest_request_t *request);          /* all of it, for an upgrade that is refused: 1, or -1 */
int rest_start(rest_request_t *request, int status, const char *type, const char *const *headers);

#endif
