/* The routes that change something: starting and stopping, which the supervisor does. */
#include "rest_handlers.h"

#include "base/clock.h"

#include "facade_app.h"
#include "facade_control.h"
#include "facade_stages.h"

#define INTERVAL_MOST 86400.0
#define ANSWER_WITHIN 5                  /* seconds; a supervisor that runs never blocks */

static json_t *source_names(const facade_t *facade) {
    const json_t *stage;
    json_t *names = json_array();
    size_t i;
    json_array_foreach(json_object_get(control_status(facade->control), "stages"), i, stage) {
        const char *role = json_string_value(json_object_get(stage, "role"));
        if (role && strcmp(role, "source") == 0)
            json_array_append(names, json_object_get(stage, "name"));
    }
    return names;
}

/* The supervisor's word as HTTP. */
static void replied(void *argument, const json_t *reply, const char *failure) {
    rest_request_t *request = argument;
    request->ticket = 0;
    if (!reply) {
        rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor did not do it: %s", failure);
        return;
    }
    if (json_is_true(json_object_get(reply, "ok"))) {
        rest_reply_json(request, 200, json_copy((json_t *) reply));
        return;
    }
    const char *code = json_string_value(json_object_get(reply, "code"));
    const char *message = json_string_value(json_object_get(reply, "message"));
    code = code ? code : "failed";
    bool unknown = strcmp(code, "unknown_source") == 0;
    int status = unknown ? 404 : text_starts(code, "bad_") ? 400 : strcmp(code, "stopping") == 0 ? 503 : 409;
    rest_reply_error(request, status, code, unknown ? source_names(request->facade) : NULL, "%s",
                     message ? message : "the supervisor refused");
}

/* {"source": text, "interval": number}, both optional. Returns the command, or NULL after answering an error. */
static json_t *command_of(rest_request_t *request, const char *command, bool interval_allowed) {
    json_t *body = rest_body(request), *value;
    const char *key;
    if (!body)
        return NULL;
    json_object_foreach(body, key, value) {
        bool source = strcmp(key, "source") == 0, interval = interval_allowed && strcmp(key, "interval") == 0;
        double seconds = json_number_value(value);
        if (source && json_is_string(value) && json_string_length(value) > 0 && json_string_length(value) <= 128)
            continue;
        if (interval && json_is_number(value) && seconds > 0 && seconds <= INTERVAL_MOST)
            continue;
        rest_reply_error(request, 400, "bad_request", json_string(key), "%s",
                         source ? "source must be a source's name or type" :
                         interval ? "interval must be a number of seconds above 0, at most a day" :
                         interval_allowed ? "known members are source and interval" : "the known member is source");
        json_decref(body);
        return NULL;
    }
    json_object_set_new(body, "command", json_string(command));
    return body;
}

static void change(rest_request_t *request, const char *command, bool interval_allowed) {
    err_t err;
    json_t *body = command_of(request, command, interval_allowed);
    if (!body)
        return;
    request->ticket = control_request(request->facade->control, body, ANSWER_WITHIN, replied, request, &err);
    if (!request->ticket)
        rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor cannot be asked: %s", err.text);
}

void rest_start_stream(rest_request_t *request) {
    change(request, "start", true);
}

void rest_stop_stream(rest_request_t *request) {
    change(request, "stop", false);
}
