/* WebSocket clients: what each has subscribed to, and sending without ever waiting for a slow one. */
#include "ws.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/memory.h"

#include "facade_app.h"
#include "facade_live.h"
#include "facade_stages.h"
#include "rest.h"
#include "ws_queue.h"

#define REQUEST_MAX (64u * 1024)
#define NAMES_MAX 256u
#define WRITES_PER_TURN 16
#define ALL_EVENTS ((1u << WS_KINDS) - 1)

typedef struct ws_client {
    struct ws_client *next, **link;
    hub_t *hub;
    struct lws *wsi;
    bool all;                            /* "*" */
    map_t *names;                        /* subscribed; values mean nothing */
    unsigned kinds;                      /* bit set of ws_kind_t */
    unsigned due;                        /* answers, held back until live data stands */
    uint64_t *seen;                      /* per stream: the serial it has, NOT_SUBSCRIBED otherwise */
    unsigned streams;
    ws_queue_t queue;
    buf_t in;
} ws_client_t;
#define NOT_SUBSCRIBED UINT64_MAX

struct hub {
    facade_t *facade;
    ws_client_t *clients;
    unsigned count;
    unsigned wanted[WS_KINDS];
    buf_t own;                           /* a private copy, while it is written */
};

hub_t *hub_new(facade_t *facade) {
    hub_t *hub = mem_zero(sizeof *hub);
    hub->facade = facade;
    return hub;
}

void hub_free(hub_t *hub) {
    if (!hub)
        return;
    buf_fini(&hub->own);
    mem_free(hub);
}

unsigned hub_clients(const hub_t *hub) {
    return hub->count;
}

bool hub_wants(const hub_t *hub, ws_kind_t kind) {
    return hub->wanted[kind] > 0;
}

static bool client_has(const ws_client_t *client, int stream) {
    return (unsigned) stream < client->streams && client->seen[stream] != NOT_SUBSCRIBED;
}

/* Holds the subscription to one stream against what the client asked for. */
static void client_match(ws_client_t *client, live_stream_t *stream) {
    bool wanted = (client->kinds & 1u << WS_DATA) && (client->all || map_get(client->names, text_of(stream->name)));
    bool has = client_has(client, (int) stream->index);
    if (wanted && !has) {
        while (client->streams <= stream->index) {
            unsigned grown = client->streams ? client->streams * 2 : 8;
            client->seen = mem_resize(client->seen, grown * sizeof *client->seen);
            for (unsigned i = client->streams; i < grown; i++)
                client->seen[i] = NOT_SUBSCRIBED;
            client->streams = grown;
        }
        if (!stream->subscribers++)
            stream->sent = ring_serial(stream->ring);
        client->seen[stream->index] = stream->sent;
    } else if (!wanted && has) {
        client->seen[stream->index] = NOT_SUBSCRIBED;
        stream->subscribers--;
    }
}

static void client_match_all(ws_client_t *client) {
    const live_t *live = client->hub->facade->live;
    for (unsigned i = 0; live && i < live_count(live); i++)
        client_match(client, live_at(live, i));
}

void hub_stream_added(hub_t *hub, live_stream_t *stream) {
    for (ws_client_t *client = hub->clients; client; client = client->next)
        client_match(client, stream);
}

static void client_send(ws_client_t *client, ws_message_t *message) {
    if (!ws_queue_put(&client->queue, message)) {
        lws_close_reason(client->wsi, LWS_CLOSE_STATUS_POLICY_VIOLATION, (unsigned char *) "answers are not read", 20);
        lws_set_timeout(client->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
        return;
    }
    lws_callback_on_writable(client->wsi);
}

void hub_send(hub_t *hub, ws_message_t *message) {
    for (ws_client_t *client = hub->clients; client; client = client->next)
        if (message->kind == WS_DATA ? client_has(client, message->stream) : (client->kinds & 1u << message->kind) != 0)
            client_send(client, message);
    ws_message_unref(message);
}

static void put_json(ws_message_t *message, json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
    buf_put_text(&message->text, text ? text : "null");
    free(text);
    json_decref(value);
}

ws_message_t *ws_message_event(ws_kind_t kind, const char *stream, json_t *data) {
    ws_message_t *message = ws_message_new(kind);
    buf_format(&message->text, "{\"event\":\"%s\",\"stream\":", ws_kind_names[kind]);
    if (stream)
        text_put_json(&message->text, text_of(stream));
    else
        buf_put_text(&message->text, "null");
    buf_put_text(&message->text, ",\"ts\":\"");
    message->text.size += clock_print((char *) buf_reserve(&message->text, CLOCK_TEXT_MAX), clock_now());
    buf_put_text(&message->text, "\",\"data\":");
    put_json(message, data);
    ws_message_finish(message, 0);
    return message;
}

void hub_status_changed(hub_t *hub) {
    if (hub && hub_wants(hub, WS_STATUS))
        hub_send(hub, ws_message_event(WS_STATUS, NULL, status_json(hub->facade)));
}

static void client_reply(ws_client_t *client, json_t *reply) {
    ws_message_t *message = ws_message_new(WS_REPLY);
    put_json(message, reply);
    message->tail = message->text.size;
    client_send(client, message);
    ws_message_unref(message);
}

static void client_error(ws_client_t *client, const char *text, const char *detail) {
    client_reply(client, json_pack("{s{sssssO}}", "error", "code", "bad_message", "message", text, "detail",
                                   detail ? json_string(detail) : json_null()));
}

static bool names_valid(const json_t *names) {
    if (!json_is_array(names) || json_array_size(names) > NAMES_MAX)
        return false;
    size_t i;
    const json_t *name;
    json_array_foreach(names, i, name)
        if (!json_is_string(name) || json_string_length(name) == 0 || json_string_length(name) > 128)
            return false;
    return true;
}

static bool kinds_of(const json_t *events, unsigned *kinds) {
    unsigned found = 1u << WS_REPLY;
    size_t i;
    const json_t *name;
    if (!json_is_array(events))
        return false;
    json_array_foreach(events, i, name) {
        unsigned kind = 0;
        while (kind < WS_REPLY && strcmp(ws_kind_names[kind], json_is_string(name) ? json_string_value(name) : "") != 0)
            kind++;
        if (kind == WS_REPLY)
            return false;
        found |= 1u << kind;
    }
    *kinds = found;
    return true;
}

static void client_want(ws_client_t *client, unsigned kinds) {
    for (unsigned kind = 0; kind < WS_KINDS; kind++) {
        unsigned bit = 1u << kind;
        client->hub->wanted[kind] += (kinds & bit) != 0;
        client->hub->wanted[kind] -= (client->kinds & bit) != 0;
    }
    client->kinds = kinds;
    stages_watch(client->hub->facade->stages);
}

static void client_names(ws_client_t *client, const json_t *names, bool add) {
    size_t i;
    const json_t *name;
    json_array_foreach(names, i, name) {
        text_t text = text_make(json_string_value(name), json_string_length(name));
        if (text_is(text, "*"))
            client->all = add;
        else if (!add)
            map_remove(client->names, text);
        else if (map_count(client->names) < NAMES_MAX)
            map_put(client->names, text, client);
    }
}

static void client_answer(ws_client_t *client) {
    json_t *names = json_array();
    text_t name;
    void *entry;
    if (client->all)
        json_array_append_new(names, json_string("*"));
    for (size_t position = 0; map_next(client->names, &position, &name, &entry);)
        json_array_append_new(names, json_stringn(name.data, name.size));
    client_reply(client, json_pack("{so}", "subscribed", names));
}

void hub_live_stands(hub_t *hub) {
    for (ws_client_t *client = hub->clients; client; client = client->next)
        for (; client->due; client->due--)
            client_answer(client);
}

/* {"subscribe": [...], "unsubscribe": [...], "events": [...]}: any of them. Answered with what is subscribed now, as soon as it holds. */
static void client_request(ws_client_t *client, const char *text, size_t size) {
    json_error_t where;
    json_t *request = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    const json_t *value;
    const char *key;
    unsigned kinds = client->kinds;
    char detail[256];
    if (!json_is_object(request)) {
        snprintf(detail, sizeof detail, "position %d: %s", where.position, request ? "an object is expected" : where.text);
        client_error(client, "a message is a JSON object like {\"subscribe\": [\"STREAM\"]}", detail);
        json_decref(request);
        return;
    }
    json_object_foreach((json_t *) request, key, value) {
        bool names = strcmp(key, "subscribe") == 0 || strcmp(key, "unsubscribe") == 0;
        bool events = strcmp(key, "events") == 0;
        if (names && names_valid(value))
            continue;
        if (events && kinds_of(value, &kinds))
            continue;
        client_error(client, names ? "a list of at most 256 stream names is expected, \"*\" stands for all"
                             : events ? "a list out of data_update, stream_status, error_alert, metrics_update is expected"
                                      : "known are subscribe, unsubscribe and events", key);
        json_decref(request);
        return;
    }
    client_names(client, json_object_get(request, "subscribe"), true);
    client_names(client, json_object_get(request, "unsubscribe"), false);
    client_want(client, kinds);
    client_match_all(client);
    json_decref(request);
    client->due++;
    if (live_stands(client->hub->facade->live))
        hub_live_stands(client->hub);
}

static void client_open(facade_t *facade, connection_t *connection, struct lws *wsi) {
    hub_t *hub = facade->hub;
    ws_client_t *client = mem_zero(sizeof *client);
    client->hub = hub;
    client->wsi = wsi;
    client->names = map_new();
    client->next = hub->clients;
    client->link = &hub->clients;
    if (client->next)
        client->next->link = &client->next;
    hub->clients = client;
    hub->count++;
    connection->client = client;
    client_want(client, ALL_EVENTS);
    metric_set(facade->metrics.clients, hub->count);
    ws_message_t *message = ws_message_event(WS_STATUS, NULL, status_json(facade));
    client_send(client, message);
    ws_message_unref(message);
}

static void client_close(connection_t *connection) {
    ws_client_t *client = connection->client;
    hub_t *hub = client->hub;
    client->all = false;
    map_free(client->names);
    client->names = map_new();
    client_match_all(client);
    map_free(client->names);
    client_want(client, 0);
    *client->link = client->next;
    if (client->next)
        client->next->link = client->link;
    hub->count--;
    metric_set(hub->facade->metrics.clients, hub->count);
    ws_queue_fini(&client->queue);
    buf_fini(&client->in);
    mem_free(client->seen);
    mem_free(client);
    connection->client = NULL;
}

static int client_receive(ws_client_t *client, const void *bytes, size_t size) {
    if (lws_frame_is_binary(client->wsi)) {
        lws_close_reason(client->wsi, LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE, (unsigned char *) "JSON text is expected", 21);
        return -1;
    }
    if (client->in.size + size > REQUEST_MAX) {
        lws_close_reason(client->wsi, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, (unsigned char *) "at most 64 KiB", 14);
        return -1;
    }
    buf_put(&client->in, bytes, size);
    if (!lws_is_final_fragment(client->wsi) || lws_remaining_packet_payload(client->wsi))
        return 0;
    client_request(client, (const char *) client->in.data, client->in.size);
    buf_fini(&client->in);
    return 0;
}

/* What of this message's stream the client did not get since the last one it got. */
static uint64_t client_missed(ws_client_t *client, const ws_message_t *message, bool *own) {
    if (message->kind == WS_ALERT) {
        uint64_t missed = client->queue.alerts_lost;
        client->queue.alerts_lost = 0;
        *own = missed > 0;
        return missed;
    }
    if (message->kind != WS_DATA || !client_has(client, message->stream))
        return 0;
    uint64_t seen = client->seen[message->stream];
    client->seen[message->stream] = message->last;
    uint64_t missed = message->last - seen - message->held;
    *own = seen != message->before;
    return seen <= message->before ? missed : 0;
}

static int client_write(ws_client_t *client) {
    hub_t *hub = client->hub;
    for (int i = 0; i < WRITES_PER_TURN && !lws_send_pipe_choked(client->wsi); i++) {
        ws_message_t *message = ws_queue_take(&client->queue);
        if (!message)
            return 0;
        bool own = false;
        uint64_t missed = client_missed(client, message, &own);
        buf_t *text = &message->text;
        if (own) {
            ws_message_with_missed(message, missed, &hub->own);
            text = &hub->own;
        }
        metric_add(hub->facade->metrics.messages, 1);
        metric_add(hub->facade->metrics.missed, missed);
        int written = lws_write(client->wsi, text->data + LWS_PRE, text->size - LWS_PRE, LWS_WRITE_TEXT);
        ws_message_unref(message);
        if (written < 0)
            return -1;
    }
    if (client->queue.count)
        lws_callback_on_writable(client->wsi);
    return 0;
}

int ws_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    connection_t *connection = user;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        client_open(facade_of(wsi), connection, wsi);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return connection->client ? client_receive(connection->client, in, size) : -1;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return connection->client ? client_write(connection->client) : -1;
    case LWS_CALLBACK_CLOSED:
        if (connection->client)
            client_close(connection);
        return 0;
    default:
        return 0;
    }
}
