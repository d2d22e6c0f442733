#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"
#include "net/loop.h"

/* An asynchronous HTTP(S) client inside the event loop (libcurl's multi-socket interface). Connections are kept and used again.
 * TLS certificates are always verified. Secrets reach neither the log nor error texts: name a URL there by url_put_redacted (base/url.h). */
typedef struct http http_t;
typedef struct http_transfer http_transfer_t;

#define HTTP_BODY_LIMIT (16u * 1024 * 1024)

typedef struct http_response {
    int status;               /* 0: there was no complete answer, and `error` says why */
    const char *error;        /* in words; NULL with a status */
    text_t body;              /* decompressed; empty after an error */
    int64_t retry_after;      /* ns; 0: the server did not say */
    const char *url;          /* the last one asked, after redirects; may hold secrets */
    const buf_t *headers;     /* raw; see http_header */
} http_response_t;

/* What becomes of a piece of a body: taken; held back, to be given again after http_resume; or it ends the transfer. */
typedef enum http_chunk { HTTP_CHUNK_TAKEN, HTTP_CHUNK_HOLD, HTTP_CHUNK_STOP } http_chunk_t;

/* Strings are borrowed for the call of http_start only. */
typedef struct http_request {
    const char *url;                 /* http:// or https:// */
    const char *method;              /* NULL: GET, or POST when there is a body */
    const char *const *headers;      /* "Name: value" */
    size_t header_count;
    const char *user, *password;     /* Basic authentication; NULL: what the URL holds */
    const char *bearer;              /* token for "Authorization: Bearer" */
    const void *body;                /* NULL: none */
    size_t body_size;
    int64_t connect_timeout;         /* ns; 0: 10 s */
    int64_t timeout;                 /* ns, for the whole answer; 0: no limit */
    int64_t stall_timeout;           /* ns without a byte, rounded up to seconds; 0: no limit */
    size_t body_limit;               /* bytes after decompression; 0: HTTP_BODY_LIMIT */
    const char *limit_option;        /* a literal: what raises it ("--body-limit"), for the error; NULL: nothing does */
    unsigned redirects;              /* followed at most. To another host neither headers nor credentials go along; from https to http none is followed */
    const char *proxy;               /* NULL: what the environment says (http_proxy, https_proxy, no_proxy) */
    const char *ca_file;             /* NULL: the system's certificates */
    const char *certificate, *key;   /* the client's own, for mutual TLS; may be NULL */
    /* Called once, unless cancelled: never from inside http_start. The response is borrowed for the call, the transfer is over. */
    void (*done)(void *argument, const http_response_t *response);
    /* The body of a status 200 to 299 goes here as it comes, with no limit, instead of into the response; `head` is that without a body.
     * Nothing may be cancelled or resumed in it. NULL: not wanted. */
    http_chunk_t (*chunk)(void *argument, const http_response_t *head, text_t data);
    void *argument;
} http_request_t;

http_t *http_new(loop_t *loop);
void http_free(http_t *http);                         /* cancels what is under way; not from inside done; NULL is legal */

/* NULL when the URL is none of http or https. The transfer is the client's; it ends by itself or by http_cancel. */
http_transfer_t *http_start(http_t *http, const http_request_t *request, err_t *err);
void http_cancel(http_transfer_t *transfer);          /* done is not called; NULL is legal */

void http_resume(http_transfer_t *transfer);          /* chunk may be called from inside */

/* Whether the server has answered, in words, that TLS is spoken at this port, and http:// was asked for. */
bool http_wants_tls(const http_response_t *response);

/* Value of the (last) header of that name, any case; size 0 when absent. Borrowed from the response. */
text_t http_header(const http_response_t *response, const char *name);

/* What libcurl says of a failure: its CURLcode, and what stands in its error buffer. Without the address of a proxy that it may repeat there, which can
 * hold a password. Borrowed from `error`, or for ever. */
const char *http_failure_words(int code, const char *error);

int http_url_check(const char *url, err_t *err);      /* whether its host and port can be read; the error does not show the URL */
bool http_same_origin(const char *a, const char *b);  /* the same scheme, host and port; false when one is no URL */
char *http_resolve(const char *base, const char *reference);          /* the URL that a link means (RFC 3986, 5.2); NULL when it is none; owned */

#endif
