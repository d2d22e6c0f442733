#ifndef STREAMCTL_WS_H
#define STREAMCTL_WS_H

#include <jansson.h>
#include <libwebsockets.h>
#include <stdint.h>

#include "base/buffer.h"

struct facade;
struct live_stream;

/* WebSocket clients. A message is made once, shared by all clients, and freed when the last has it; a slow client holds a
 * bounded number of them and then only the newest of each kind. */
typedef struct hub hub_t;

typedef enum ws_kind { WS_DATA, WS_STATUS, WS_ALERT, WS_METRICS, WS_REPLY, WS_KINDS } ws_kind_t;
extern const char *const ws_kind_names[WS_KINDS];     /* "data_update", ... */

typedef struct ws_message {
    unsigned references;
    ws_kind_t kind;
    int stream;                      /* index; -1: none */
    uint64_t before, first, last;    /* data: serials of the message before, and of this one's events */
    uint64_t held;                   /* data: events inside */
    size_t tail;                     /* where `,"missed":N}` or `}` begins */
    buf_t text;                      /* ws_message_new leaves room for the library's header in front: use text.data as it is */
} ws_message_t;

/* The text is appended to message->text without its closing brace; ws_message_finish adds that. */
ws_message_t *ws_message_new(ws_kind_t kind);
void ws_message_finish(ws_message_t *message, uint64_t missed);
ws_message_t *ws_message_ref(ws_message_t *message);
void ws_message_unref(ws_message_t *message);         /* NULL is legal */
/* A client that did not get all that came before has its own count of what it missed. */
void ws_message_with_missed(const ws_message_t *message, uint64_t missed, buf_t *out);

hub_t *hub_new(struct facade *facade);
void hub_free(hub_t *hub);
void hub_send(hub_t *hub, ws_message_t *message);     /* taken */
void hub_stream_added(hub_t *hub, struct live_stream *stream);
void hub_status_changed(hub_t *hub);
void hub_live_stands(hub_t *hub);                     /* whoever has subscribed meanwhile may know */
bool hub_wants(const hub_t *hub, ws_kind_t kind);     /* does any client? */
unsigned hub_clients(const hub_t *hub);

/* {"event", "stream", "ts", "data"}; data is taken. */
ws_message_t *ws_message_event(ws_kind_t kind, const char *stream, json_t *data);

int ws_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size);

#endif
