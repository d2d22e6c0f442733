/* The answers in JSON that REST and the WebSocket share: status, sources, streams, metrics, health. */
#include "facade_stages.h"

#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"

#include "facade_app.h"
#include "facade_control.h"
#include "facade_live.h"
#include "ws.h"

static const char *member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static json_t *time_json(int64_t ns) {
    char text[CLOCK_TEXT_MAX];
    return ns ? json_stringn(text, clock_print(text, ns)) : json_null();
}

/* The supervisor's uptimes were true when it wrote them. */
static void age_uptime(json_t *object, double age) {
    json_t *uptime = json_object_get(object, "uptime_seconds");
    if (json_is_number(uptime))
        json_object_set_new(object, "uptime_seconds", json_real(round((json_number_value(uptime) + age) * 10) / 10));
}

static void put_health(const facade_t *facade, json_t *stage) {
    bool healthy = true;
    const char *reason = "", *state = member(stage, "state");
    bool runs = strcmp(state, "running") == 0;
    if (!runs)
        healthy = strcmp(state, "failed") != 0 && strcmp(state, "backoff") != 0;
    else if (!stages_health(facade->stages, member(stage, "name"), &healthy, &reason))
        reason = "no numbers yet";
    json_object_set_new(stage, "healthy", json_boolean(healthy));
    json_object_set_new(stage, "health", json_string(*reason ? reason : runs ? "" : member(stage, "message")));
}

/* A stage as the supervisor tells it, with its health and numbers; paths of this machine stay here. */
static json_t *stage_json(const facade_t *facade, const json_t *told) {
    json_t *stage = json_copy((json_t *) told);
    json_object_del(stage, "metrics");
    json_object_del(stage, "log");
    json_object_del(stage, "state_dir");
    json_object_del(stage, "dead_letter");
    if (json_integer_value(json_object_get(stage, "pid")) > 0)
        age_uptime(stage, control_status_age(facade->control));
    put_health(facade, stage);
    json_object_set_new(stage, "numbers", stages_numbers(facade->stages, member(stage, "name")));
    return stage;
}

json_t *status_json(facade_t *facade) {
    const json_t *status = control_status(facade->control), *told;
    if (!status)
        return json_pack("{sssssbs[]}", "name", facade->settings.name, "state", "unknown", "supervisor", 0, "stages");
    json_t *answer = json_copy((json_t *) status), *stages = json_array();
    static const char *const ours[] = {"ok", "run_dir", "config", "address"};
    for (size_t key = 0; key < sizeof ours / sizeof *ours; key++)
        json_object_del(answer, ours[key]);
    age_uptime(answer, control_status_age(facade->control));
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, told)
        json_array_append_new(stages, stage_json(facade, told));
    json_object_set_new(answer, "stages", stages);
    json_object_set_new(answer, "supervisor", json_true());
    return answer;
}

json_t *sources_json(facade_t *facade) {
    const json_t *told;
    json_t *sources = json_array();
    size_t i;
    json_array_foreach(json_object_get(control_status(facade->control), "stages"), i, told)
        if (strcmp(member(told, "role"), "source") == 0)
            json_array_append_new(sources, stage_json(facade, told));
    return json_pack("{so}", "sources", sources);
}

/* The fields of the stream's newest event and their types, so that a chart can offer the numeric ones. */
static json_t *fields_json(const live_stream_t *stream) {
    json_t *fields = json_array();
    uint32_t newest = ring_count(stream->ring), count;
    if (!newest)
        return fields;
    ring_event_t event = ring_at(stream->ring, newest - 1, NULL);
    pack_cursor_t cursor = pack_cursor(event.record, event.size);
    text_t key;
    value_t value;
    if (pack_read_map(&cursor, &count))
        for (; count && pack_read_string(&cursor, &key) && pack_read_value(&cursor, &value); count--)
            json_array_append_new(fields, json_pack("{ss%ss}", "name", key.data, key.size, "type", value_type_names[value.type]));
    return fields;
}

static json_t *stream_json(const live_stream_t *stream) {
    return json_pack("{sssIsosososisb}", "name", stream->name, "events", (json_int_t) ring_serial(stream->ring), "rate",
                     json_real(round(stream->rate * 1000) / 1000), "last", time_json(stream->arrived), "fields", fields_json(stream),
                     "recent", (int) ring_count(stream->ring), "ended", stream->ended);
}

/* The stream that a stage makes: its name, or the pipeline's when the stage is one of its workers ("averages.0"). */
static void stream_name(const json_t *stages, const json_t *stage, char *out, size_t size) {
    const char *name = member(stage, "name"), *dot = strrchr(name, '.');
    const json_t *other;
    char first[200];
    size_t i;
    snprintf(out, size, "%s", name);
    if (!dot || strcmp(member(stage, "role"), "pipeline") != 0 || dot[1] == 0 || dot[1 + strspn(dot + 1, "0123456789")])
        return;
    snprintf(first, sizeof first, "%.*s.0", (int) (dot - name), name);
    json_array_foreach(stages, i, other)
        if (strcmp(member(other, "name"), first) == 0 && (size_t) (dot - name) < size)
            out[dot - name] = 0;
}

static bool stream_listed(const json_t *streams, const char *name) {
    const json_t *stream;
    size_t i;
    json_array_foreach(streams, i, stream)
        if (strcmp(member(stream, "name"), name) == 0)
            return true;
    return false;
}

json_t *streams_json(facade_t *facade) {
    json_t *streams = json_array();
    const json_t *told;
    size_t i;
    for (unsigned at = 0; at < live_count(facade->live); at++)
        json_array_append_new(streams, stream_json(live_at(facade->live, at)));
    /* What is configured and has not flowed yet. */
    json_array_foreach(json_object_get(control_status(facade->control), "stages"), i, told) {
        const char *role = member(told, "role");
        bool makes = strcmp(role, "source") == 0 || strcmp(role, "pipeline") == 0;
        char name[200];
        stream_name(json_object_get(control_status(facade->control), "stages"), told, name, sizeof name);
        if (makes && !stream_listed(streams, name))
            json_array_append_new(streams, json_pack("{sssisisns[]sisb}", "name", name, "events", 0, "rate", 0, "last", "fields",
                                                     "recent", 0, "ended", 0));
    }
    return json_pack("{so}", "streams", streams);
}

static void add_numbers(const json_t *numbers, const char *key, double *sum) {
    const json_t *value = json_object_get(numbers, key);
    if (json_is_number(value))
        *sum += json_number_value(value);
}

/* Totals count each event where it came in (the sources), and its latency where it leaves (broadcast). */
json_t *metrics_json(facade_t *facade) {
    const json_t *status = control_status(facade->control), *told;
    json_t *stages = json_array(), *latency = json_null(), *streams = json_array();
    double rate = 0, cpu = 0, memory = 0, outstanding = 0, events = 0;
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, told) {
        json_t *numbers = stages_numbers(facade->stages, member(told, "name"));
        add_numbers(numbers, "cpu_percent", &cpu);
        add_numbers(numbers, "memory_bytes", &memory);
        add_numbers(numbers, "outstanding_bytes", &outstanding);
        if (strcmp(member(told, "role"), "source") == 0) {
            add_numbers(numbers, "rate_out", &rate);
            add_numbers(json_object_get(numbers, "events"), "out", &events);
        }
        if (strcmp(member(told, "role"), "broadcast") == 0 && json_is_object(json_object_get(numbers, "latency_ms"))) {
            json_decref(latency);
            latency = json_incref(json_object_get(numbers, "latency_ms"));
        }
        json_object_set_new(numbers, "name", json_string(member(told, "name")));
        json_object_set_new(numbers, "tool", json_string(member(told, "tool")));
        json_object_set_new(numbers, "role", json_string(member(told, "role")));
        json_object_set_new(numbers, "state", json_string(member(told, "state")));
        json_array_append_new(stages, numbers);
    }
    for (unsigned at = 0; at < live_count(facade->live); at++) {
        const live_stream_t *stream = live_at(facade->live, at);
        json_array_append_new(streams, json_pack("{sssIsf}", "name", stream->name, "events", (json_int_t) ring_serial(stream->ring),
                                                 "rate", round(stream->rate * 1000) / 1000));
    }
    json_t *totals = json_pack("{sfsIsfsIsIsosi}", "rate", round(rate * 1000) / 1000, "events", (json_int_t) events, "cpu_percent",
                               round(cpu * 100) / 100, "memory_bytes", (json_int_t) memory, "outstanding_bytes",
                               (json_int_t) outstanding, "latency_ms", latency, "clients", (int) hub_clients(facade->hub));
    return json_pack("{sososo}", "totals", totals, "stages", stages, "streams", streams);
}

json_t *health_json(facade_t *facade, bool *ready) {
    const json_t *status = control_status(facade->control), *told;
    const char *state = status ? member(status, "state") : "unreachable";
    json_t *problems = json_array();
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, told) {
        json_t *stage = stage_json(facade, told);
        if (!json_is_true(json_object_get(stage, "healthy")))
            json_array_append_new(problems, json_pack("{ssssss}", "stage", member(stage, "name"), "state", member(stage, "state"),
                                                      "reason", member(stage, "health")));
        json_decref(stage);
    }
    if (!status)
        json_array_append_new(problems, json_pack("{ssssss}", "stage", "supervisor", "state", "unreachable", "reason",
                                                  "its control socket does not answer"));
    *ready = status && strcmp(state, "starting") != 0 && strcmp(state, "stopping") != 0 && live_stands(facade->live);
    bool fine = *ready && json_array_size(problems) == 0;
    return json_pack("{sssssbso}", "status", fine ? "ok" : *ready ? "degraded" : "unavailable", "state", state, "ready", *ready,
                     "problems", problems);
}
