/* The table of REST: method, path, handler, what it is for. */
#include <stdio.h>

#include "rest.h"

#include "rest_handlers.h"

const rest_route_t rest_routes[] = {
    {"POST", "/api/stream/start", rest_start_stream, true, "start all sources, or {\"source\": NAME or type, \"interval\": seconds}"},
    {"POST", "/api/stream/stop", rest_stop_stream, true, "stop all sources, or {\"source\": NAME or type}"},
    {"GET", "/api/stream/status", rest_get_status, false, "state, uptime, health, rates and latency of every stage"},
    {"GET", "/api/sources", rest_get_sources, false, "the sources with state, health and rates"},
    {"POST", "/api/sources/{name}/test", rest_test_source, true, "what the source gives now: {\"events\": 1..100}; nothing is started or changed"},
    {"GET", "/api/streams", rest_get_streams, false, "what flows: the streams, their rates and fields"},
    {"GET", "/api/streams/{name}/events", rest_get_events, false, "the newest events of a stream: ?limit=1..500"},
    {"GET", "/api/metrics", rest_get_metrics, false, "the stages' numbers"},
    {"GET", "/metrics", rest_get_prometheus, false, "all metrics in Prometheus' text format"},
    {"GET", "/api/alerts", rest_get_alerts, false, "the newest alerts: ?limit=1..200"},
    {"GET", "/api/devices", rest_get_devices, false, "the devices behind the sources: ?source=&status=online|late|offline&search=&limit=0..1000&offset="},
    {"GET", "/api/audit", rest_get_audit, false, "the ledger of every stage, and whether each event is accounted for"},
    {"GET", "/api/dead-letters", rest_get_letters, false, "what could not be used, by stage, with the newest: ?limit=0..50"},
    {"POST", "/api/dead-letters/{stage}/replay", rest_replay_letters, true, "send a stage's dead letters again"},
    {"GET", "/api/config", rest_get_config, false, "the configuration, without its secrets"},
    {"GET", "/api/health", rest_get_health, false, "ok, degraded or unavailable, and why"},
    {"GET", "/healthz", rest_get_alive, false, "200 while this server runs", .probe = true},
    {"GET", "/readyz", rest_get_ready, false, "200 while the pipeline runs, else 503", .probe = true},
    {"GET", "/api", rest_get_routes, false, "this list"},
    {NULL},
};

/* "/api/streams/{name}/events" against a path; {name} takes one part of it. */
static bool path_matches(const char *pattern, const char *path, char parameter[static 129]) {
    const char *brace = strchr(pattern, '{');
    if (!brace)
        return strcmp(pattern, path) == 0;
    size_t before = (size_t) (brace - pattern);
    if (strncmp(pattern, path, before) != 0)
        return false;
    const char *after = strchr(brace, '}') + 1;
    size_t size = strcspn(path + before, "/");
    if (!size || size > 128 || strcmp(path + before + size, after) != 0)
        return false;
    memcpy(parameter, path + before, size);
    parameter[size] = 0;
    return true;
}

const rest_route_t *rest_find(const char *method, const char *path, char parameter[static 129], char *allow, size_t allow_size) {
    *allow = 0;
    for (const rest_route_t *route = rest_routes; route->method; route++) {
        if (!path_matches(route->path, path, parameter))
            continue;
        if (strcmp(route->method, method) == 0)
            return route;
        size_t used = strlen(allow);
        snprintf(allow + used, allow_size - used, "%s%s", used ? ", " : "",
                 strcmp(route->method, "GET") == 0 ? "GET, HEAD" : route->method);
    }
    return NULL;
}
