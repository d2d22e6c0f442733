/* The route that tries a source out: the supervisor runs `ingest --sample`, what comes of it is the answer. */
#include "rest_handlers.h"

#include <stdlib.h>

#include "base/text.h"

#include "facade_app.h"
#include "facade_control.h"

#define EVENTS_DEFAULT 5
#define EVENTS_MOST 100
#define ANSWER_WITHIN 30                 /* seconds; a trial is ended before */

static const char *member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* The events' lines become members as they are: no number loses a digit on the way. */
static void put_events(buf_t *out, text_t lines) {
    text_t line;
    const char *separator = "";
    while (text_split(&lines, '\n', &line)) {
        if (!line.size)
            continue;
        buf_put_text(out, separator);
        buf_put(out, line.data, line.size);
        separator = ",";
    }
}

static void reply_events(rest_request_t *request, const json_t *reply) {
    const json_t *events = json_object_get(reply, "events");
    json_t *head = json_pack("{sbsssOsO}", "ok", 1, "source", request->parameter, "complete", json_object_get(reply, "complete"), "message",
                             json_object_get(reply, "message"));
    char *text = head ? json_dumps(head, JSON_COMPACT) : NULL;
    json_decref(head);
    if (!text) {
        rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor's answer is not understood");
        return;
    }
    buf_t answer = {0};
    buf_put(&answer, text, strlen(text) - 1);
    buf_put_text(&answer, ",\"events\":[");
    put_events(&answer, text_make(json_string_value(events) ? json_string_value(events) : "", json_string_length(events)));
    buf_put_text(&answer, "]}\n");
    free(text);
    rest_reply_text(request, 200, "application/json", &answer);
}

static void replied(void *argument, const json_t *reply, const char *failure) {
    rest_request_t *request = argument;
    request->ticket = 0;
    if (!reply) {
        rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor did not do it: %s", failure);
        return;
    }
    if (json_is_true(json_object_get(reply, "ok"))) {
        reply_events(request, reply);
        return;
    }
    const char *code = member(reply, "code");
    int status = strcmp(code, "unknown_source") == 0 ? 404 : strcmp(code, "no_events") == 0 ? 502 : strcmp(code, "stopping") == 0 ? 503 : 409;
    rest_reply_error(request, status, *code ? code : "failed", NULL, "%s", member(reply, "message"));
}

/* {"events": N}, optional. False: an error has been answered. */
static bool events_of(rest_request_t *request, json_int_t *events) {
    json_t *body = rest_body(request), *value;
    const char *key, *wrong = NULL;
    if (!body)
        return false;
    *events = EVENTS_DEFAULT;
    json_object_foreach(body, key, value) {
        *events = json_integer_value(value);
        bool known = strcmp(key, "events") == 0;
        if (known && json_is_integer(value) && *events >= 1 && *events <= EVENTS_MOST)
            continue;
        wrong = known ? "events must be a whole number from 1 to 100" : "the known member is events";
        rest_reply_error(request, 400, "bad_request", json_string(key), "%s", wrong);
        break;
    }
    json_decref(body);
    return !wrong;
}

void rest_test_source(rest_request_t *request) {
    err_t err;
    json_int_t events;
    if (!events_of(request, &events))
        return;
    json_t *command = json_pack("{sssssI}", "command", "test", "source", request->parameter, "events", events);
    if (!command) {                      /* a name that is no UTF-8 */
        rest_reply_error(request, 404, "unknown_source", NULL, "there is no such source");
        return;
    }
    lws_set_timeout(request->wsi, NO_PENDING_TIMEOUT, 0);    /* the library's own is shorter than a trial; rest.c bounds the whole */
    request->ticket = control_request(request->facade->control, command, ANSWER_WITHIN, replied, request, &err);
    if (!request->ticket)
        rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor cannot be asked: %s", err.text);
}
