/* The newest alerts, wherever they come from. */
#include "facade_alerts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/json.h"

#include "facade_app.h"
#include "ws.h"

#define KEPT 200
#define FIRING_MOST 1000             /* that are kept as on */

struct alerts {
    facade_t *facade;
    json_t *kept;                        /* newest last */
    json_t *firing;                      /* the alerts that are on, by stream, name and keys; in the order in which they began */
    uint64_t total;
};

alerts_t *alerts_new(facade_t *facade) {
    alerts_t *alerts = mem_zero(sizeof *alerts);
    alerts->facade = facade;
    alerts->kept = json_array();
    alerts->firing = json_object();
    return alerts;
}

void alerts_free(alerts_t *alerts) {
    if (!alerts)
        return;
    json_decref(alerts->kept);
    json_decref(alerts->firing);
    mem_free(alerts);
}

/* `alert` is taken; it gets its number and time. */
static void add(alerts_t *alerts, int64_t time, const char *stage, json_t *alert) {
    char text[CLOCK_TEXT_MAX];
    json_object_set_new(alert, "id", json_integer((json_int_t) ++alerts->total));
    json_object_set_new(alert, "ts", json_stringn(text, clock_print(text, time)));
    json_object_set_new(alert, "stage", stage ? json_string(stage) : json_null());
    if (json_array_size(alerts->kept) == KEPT)
        json_array_remove(alerts->kept, 0);
    json_array_append(alerts->kept, alert);
    if (hub_wants(alerts->facade->hub, WS_ALERT))
        hub_send(alerts->facade->hub, ws_message_event(WS_ALERT, stage, json_incref(alert)));
    json_decref(alert);
}

static const char *first_text(const json_t *record, const char *const *keys) {
    for (; *keys; keys++) {
        const char *text = json_string_value(json_object_get(record, *keys));
        if (text)
            return text;
    }
    return NULL;
}

/* An alert that fires is on until it is cleared; one that fires again takes its own place. */
static void note_firing(alerts_t *alerts, const json_t *record, json_t *alert) {
    const json_t *name = json_object_get(record, "alert"), *state = json_object_get(record, "state");
    json_t *identity = json_pack("[O?O?O?]", json_object_get(record, "stream"), name, json_object_get(record, "key"));
    char *text = identity ? json_dumps(identity, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    bool on = json_is_string(state) && strcmp(json_string_value(state), "firing") == 0;
    if (text && json_is_string(name) && on && (json_object_size(alerts->firing) < FIRING_MOST || json_object_get(alerts->firing, text)))
        json_object_set(alerts->firing, text, alert);
    else if (text && !on)
        json_object_del(alerts->firing, text);
    free(text);
    json_decref(identity);
}

void alerts_event(alerts_t *alerts, int64_t time, const uint8_t *packed, uint32_t size) {
    static const char *const names[] = {"alert", "name", "rule", NULL};
    static const char *const messages[] = {"message", "text", "msg", NULL};
    static const char *const severities[] = {"severity", "level", NULL};
    static const char *const states[] = {"state", "status", NULL};
    buf_t text = {0};
    if (!json_put_packed(&text, packed, size) || text.size > 64 * 1024) {
        buf_fini(&text);
        return;
    }
    json_t *record = json_loadb((const char *) text.data, text.size, 0, NULL);
    const char *name = first_text(record, names), *message = first_text(record, messages);
    const char *severity = first_text(record, severities), *state = first_text(record, states);
    if (!record)                         /* a number beyond 64 bits, say: the alert counts all the same */
        record = json_object();
    json_t *alert = json_pack("{sssssssssO}", "kind", "alert", "severity", severity ? severity : "warning", "message",
                              message ? message : name ? name : "an event of the stream alerts", "state", state ? state : "firing", "event", record);
    note_firing(alerts, record, alert);
    add(alerts, time, NULL, alert);
    json_decref(record);
    buf_fini(&text);
}

void alerts_notice(alerts_t *alerts, const char *stage, const metrics_notice_t *notice) {
    add(alerts, notice->time, stage, json_pack("{ssssss}", "kind", "notice", "severity",
                                               notice->level == LOG_ERROR ? "error" : "warning", "message", notice->text));
}

void alerts_trouble(alerts_t *alerts, const char *stage, bool trouble) {
    char text[300];
    snprintf(text, sizeof text, trouble ? "%s cannot write its state: is the disk full? It waits and tries again" : "%s can write its state again", stage);
    add(alerts, clock_now(), stage, json_pack("{ssssssss}", "kind", "state", "severity", trouble ? "error" : "info", "message", text, "state",
                                              trouble ? "firing" : "cleared"));
}

static const json_t *stage_of(const json_t *status, const char *name) {
    const json_t *stage;
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, stage) {
        const char *other = json_string_value(json_object_get(stage, "name"));
        if (other && strcmp(other, name) == 0)
            return stage;
    }
    return NULL;
}

static const char *member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void compare_stage(alerts_t *alerts, const json_t *before, const json_t *now) {
    const char *name = member(now, "name"), *state = member(now, "state"), *old = member(before, "state");
    if (strcmp(state, old) == 0)
        return;
    bool failed = strcmp(state, "failed") == 0, died = strcmp(state, "backoff") == 0;
    bool again = strcmp(state, "running") == 0 && (strcmp(old, "failed") == 0 || strcmp(old, "backoff") == 0);
    if (!failed && !died && !again)
        return;
    char text[400];
    const char *why = member(now, *member(now, "message") ? "message" : "last_exit");
    snprintf(text, sizeof text, "%s %s%s%s", name, failed ? "has failed" : died ? "died and is started again" : "runs again",
             *why && !again ? ": " : "", again ? "" : why);
    add(alerts, clock_now(), name, json_pack("{ssssssss}", "kind", "stage", "severity", failed ? "error" : died ? "warning" : "info",
                                             "message", text, "state", again ? "cleared" : "firing"));
}

void alerts_compare_status(alerts_t *alerts, const json_t *before, const json_t *now) {
    const json_t *stage;
    size_t i;
    json_array_foreach(json_object_get(now, "stages"), i, stage)
        compare_stage(alerts, stage_of(before, member(stage, "name")), stage);
}

json_t *alerts_json(const alerts_t *alerts, size_t limit) {
    size_t count = json_array_size(alerts->kept), from = count > limit ? count - limit : 0;
    json_t *newest = json_array();
    for (size_t i = from; i < count; i++)
        json_array_append(newest, json_array_get(alerts->kept, i));
    json_t *firing = json_array(), *alert;
    const char *key;
    json_object_foreach(alerts->firing, key, alert)
        json_array_append(firing, alert);
    return json_pack("{sososI}", "alerts", newest, "firing", firing, "total", (json_int_t) alerts->total);
}
