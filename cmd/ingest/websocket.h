#ifndef INGEST_WEBSOCKET_H
#define INGEST_WEBSOCKET_H

#include "base/secret.h"
#include "data/option.h"
#include "net/loop.h"
#include "websocket_frame.h"
#include "websocket_url.h"
#include "wire.h"

/* A client of a WebSocket server that receives: it connects, and again after each loss, says what is to be said first, and answers pings. */
typedef struct websocket websocket_t;

typedef struct websocket_setup {
    loop_t *loop;
    const ws_place_t *place;
    /* What goes along to the server, and to where it redirects as long as that is the same scheme, host and port. */
    const option_list_t *headers;
    const char *user, *password;       /* NULL: none */
    const char *bearer;
    const char *api_key, *api_key_name;
    const option_list_t *protocols;
    const option_list_t *greetings;    /* text messages, sent as soon as there is a connection */
    const secrets_t *secrets;          /* what must not be shown, should the server repeat it */
    bool compression;
    unsigned redirects;
    uint64_t limit;                    /* bytes of a message */
    int64_t ping_interval, ping_timeout;     /* ns; interval 0: none is sent */
    int64_t retry_min, retry_max;
    const char *proxy;                 /* NULL: what the environment says */
    wire_peer_t peer;                  /* of it host, port and TLS are those of `place`, or of where that redirects; its timeout is also the handshake's */
    /* A message. False: no more room; it is given again, the same bytes in the same place, after websocket_resume. */
    bool (*message)(void *argument, text_t data, bool binary);
    void (*unusable)(void *argument, text_t beginning, const char *reason);   /* a message, or what had come of it */
    void (*up)(void *argument);
    void (*down)(void *argument, const char *reason); /* it will be tried again */
    bool (*closed)(void *argument, unsigned code);    /* the server has ended it in order. True: that was all, and it is not tried again */
    void *argument;
} websocket_setup_t;

websocket_t *websocket_new(const websocket_setup_t *setup);   /* all is borrowed for its life */
void websocket_start(websocket_t *websocket);
void websocket_free(websocket_t *websocket);          /* says good-bye; NULL is legal */
/* While paused nothing is read, so that the server's sends wait; what has come all the same is there after resume, even if the server is gone then. */
void websocket_pause(websocket_t *websocket);
void websocket_resume(websocket_t *websocket);

#endif
