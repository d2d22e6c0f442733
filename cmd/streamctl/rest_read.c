/* The routes that only read. */
#include "rest_handlers.h"

#include "facade_alerts.h"
#include "facade_app.h"
#include "facade_control.h"
#include "facade_live.h"
#include "facade_stages.h"

#define EVENTS_DEFAULT 100
#define EVENTS_MOST 500
#define ALERTS_MOST 200
#define READY_WITHIN 3                   /* seconds for the supervisor's sign of life */

/* What the supervisor alone knows cannot be told without it. */
static bool supervisor_known(rest_request_t *request) {
    if (control_status(request->facade->control))
        return true;
    rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor does not answer at the moment; try again");
    return false;
}

void rest_get_status(rest_request_t *request) {
    if (supervisor_known(request))
        rest_reply_json(request, 200, status_json(request->facade));
}

void rest_get_sources(rest_request_t *request) {
    if (supervisor_known(request))
        rest_reply_json(request, 200, sources_json(request->facade));
}

void rest_get_streams(rest_request_t *request) {
    rest_reply_json(request, 200, streams_json(request->facade));
}

/* The names of all streams, for an error. */
static json_t *stream_names(facade_t *facade) {
    json_t *all = streams_json(facade), *names = json_array();
    const json_t *stream;
    size_t i;
    json_array_foreach(json_object_get(all, "streams"), i, stream)
        json_array_append(names, json_object_get(stream, "name"));
    json_decref(all);
    return names;
}

static bool name_listed(const json_t *names, const char *name) {
    size_t i;
    const json_t *entry;
    json_array_foreach(names, i, entry)
        if (strcmp(json_string_value(entry), name) == 0)
            return true;
    return false;
}

void rest_get_events(rest_request_t *request) {
    facade_t *facade = request->facade;
    const live_stream_t *stream = live_find(facade->live, request->parameter);
    int64_t limit = EVENTS_DEFAULT;
    if (!rest_query_int(request, "limit", 1, EVENTS_MOST, &limit))
        return;
    json_t *names = stream_names(facade);
    if (!stream && !name_listed(names, request->parameter)) {
        rest_reply_error(request, 404, "unknown_stream", names, "there is no stream named \"%s\"; detail lists the known ones",
                         request->parameter);
        return;
    }
    json_decref(names);
    buf_t text = {0};
    uint32_t count = stream ? ring_count(stream->ring) : 0, from = count > limit ? count - (uint32_t) limit : 0;
    buf_format(&text, "{\"stream\":\"%s\",\"seen\":%llu,\"events\":[", request->parameter,
               (unsigned long long) (stream ? ring_serial(stream->ring) : 0));
    for (uint32_t i = from; i < count; i++) {
        ring_event_t event = ring_at(stream->ring, i, NULL);
        if (i > from)
            buf_put_byte(&text, ',');
        live_put_event(&text, &event);
    }
    buf_put_text(&text, "]}\n");
    rest_reply_text(request, 200, "application/json", &text);
}

void rest_get_metrics(rest_request_t *request) {
    if (supervisor_known(request))
        rest_reply_json(request, 200, metrics_json(request->facade));
}

void rest_get_prometheus(rest_request_t *request) {
    buf_t text = {0};
    prometheus_put(request->facade, &text);
    rest_reply_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", &text);
}

void rest_get_alerts(rest_request_t *request) {
    int64_t limit = ALERTS_MOST;
    if (rest_query_int(request, "limit", 1, ALERTS_MOST, &limit))
        rest_reply_json(request, 200, alerts_json(request->facade->alerts, (size_t) limit));
}

void rest_get_config(rest_request_t *request) {
    json_t *config = request->facade->settings.config;
    rest_reply_json(request, 200, config ? json_incref(config) : json_object());
}

void rest_get_health(rest_request_t *request) {
    bool ready;
    json_t *health = health_json(request->facade, &ready);
    rest_reply_json(request, ready ? 200 : 503, health);
}

void rest_get_alive(rest_request_t *request) {
    rest_reply_json(request, 200, json_pack("{ss}", "status", "ok"));
}

static void reply_ready(rest_request_t *request, const char *failure) {
    bool ready;
    json_t *health = health_json(request->facade, &ready);
    json_object_del(health, "problems");
    if (failure) {
        ready = false;
        json_object_set_new(health, "status", json_string("unavailable"));
        json_object_set_new(health, "state", json_string("unreachable"));
        json_object_set_new(health, "ready", json_false());
    }
    rest_reply_json(request, ready ? 200 : 503, health);
}

static void ready_told(void *argument, const json_t *reply, const char *failure) {
    rest_request_t *request = argument;
    request->ticket = 0;
    reply_ready(request, failure);
}

/* The newest status may be that of a supervisor which has been stopped since: it is asked for a sign of life. */
void rest_get_ready(rest_request_t *request) {
    err_t err;
    request->ticket =
        control_request(request->facade->control, json_pack("{ss}", "command", "status"), READY_WITHIN, ready_told, request, &err);
    if (!request->ticket)
        reply_ready(request, err.text);
}

void rest_get_routes(rest_request_t *request) {
    json_t *routes = json_array();
    for (const rest_route_t *route = rest_routes; route->method; route++)
        json_array_append_new(routes, json_pack("{ssssss}", "method", route->method, "path", route->path, "help", route->help));
    rest_reply_json(request, 200, json_pack("{sososs}", "routes", routes, "token_needed",
                                            json_boolean(request->facade->access.token != NULL), "websocket", "/ws"));
}
