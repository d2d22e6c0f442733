#ifndef INGEST_WEBSOCKET_HANDSHAKE_H
#define INGEST_WEBSOCKET_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"
#include "data/option.h"

/* How a WebSocket begins (RFC 6455, section 4): a request of HTTP, and an answer that agrees. */

#define WS_KEY_SIZE 24                 /* characters: 16 bytes in base64 */
#define WS_HEAD_MAX (64u * 1024)       /* bytes of an answer's head */

typedef struct ws_request {
    const char *authority, *target;    /* Host, path with query */
    char key[WS_KEY_SIZE + 1];
    const option_list_t *headers;      /* "Name: value"; NULL: none */
    const option_list_t *protocols;    /* sub-protocols, the dearest first */
    const char *user, *password;       /* Basic; user NULL: none */
    const char *bearer;                /* NULL: none */
    const char *api_key, *api_key_name;      /* a header; NULL: none */
    bool deflate;                      /* offer permessage-deflate */
} ws_request_t;

void ws_make_key(char key[WS_KEY_SIZE + 1]);
void ws_put_request(buf_t *out, const ws_request_t *request);
/* Whether a header is one that the handshake makes itself. */
bool ws_own_header(const char *header);

typedef struct ws_answer {
    int status;
    size_t size;                       /* bytes of the head; frames follow */
    text_t location;                   /* of a redirect; borrowed */
    int64_t retry_after;               /* seconds; 0: not said */
    bool deflate, reset;               /* permessage-deflate was agreed on; each message begins with an empty window */
} ws_answer_t;

/* 0: more bytes are needed, 1: read, -1: it is none that could be used. With status 101 it agrees with the request in all. */
int ws_read_answer(ws_answer_t *answer, const ws_request_t *request, text_t data, err_t *err);

#endif
