/* The routes about what became of events: the ledger, and dead letters. */
#include "rest_handlers.h"

#include "audit.h"
#include "base/memory.h"
#include "dead.h"

#include "facade_app.h"
#include "facade_control.h"
#include "facade_stages.h"

#define LETTERS_DEFAULT 5
#define LETTERS_MOST 50
#define ANSWER_WITHIN 5                  /* seconds for the supervisor */

static bool supervisor_known(rest_request_t *request) {
    if (control_status(request->facade->control))
        return true;
    rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor does not answer at the moment; try again");
    return false;
}

void rest_get_audit(rest_request_t *request) {
    if (supervisor_known(request))
        rest_reply_json(request, 200, stages_audit(request->facade));
}

static const char *member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

void rest_get_letters(rest_request_t *request) {
    int64_t limit = LETTERS_DEFAULT;
    if (!supervisor_known(request) || !rest_query_int(request, "limit", 0, LETTERS_MOST, &limit))
        return;
    const json_t *status = control_status(request->facade->control), *stage;
    json_t *stages = json_array(), *replay = json_object_get(status, "replay");
    uint64_t total = 0;
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, stage) {
        const char *path = member(stage, "dead_letter");
        if (!*path)
            continue;
        dead_count_t count = dead_count(path);
        total += count.letters;
        json_array_append_new(stages, json_pack("{sssIsIsIsbso}", "stage", member(stage, "name"), "letters", (json_int_t) count.letters, "bytes",
                                                (json_int_t) count.bytes, "handed_over", (json_int_t) count.handed_over, "replayable",
                                                json_object_get(stage, "state_dir") != NULL, "newest", dead_newest(path, (size_t) limit)));
    }
    rest_reply_json(request, 200, json_pack("{sIsosO}", "total", (json_int_t) total, "stages", stages, "replay", replay ? replay : json_null()));
}

static void replay_replied(void *argument, const json_t *reply, const char *failure) {
    rest_request_t *request = argument;
    request->ticket = 0;
    if (!reply) {
        rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor did not do it: %s", failure);
    } else if (json_is_true(json_object_get(reply, "ok"))) {
        rest_reply_json(request, 202, json_pack("{sbss}", "ok", 1, "stage", request->parameter));
    } else {
        const char *code = member(reply, "code");
        int status = strcmp(code, "unknown_source") == 0 ? 404 : strcmp(code, "stopping") == 0 ? 503 : 409;
        rest_reply_error(request, status, *code ? code : "failed", NULL, "%s", member(reply, "message"));
    }
}

/* It may take as long as it takes: GET /api/dead-letters tells how it goes. */
void rest_replay_letters(rest_request_t *request) {
    err_t err;
    json_t *body = rest_body(request);
    if (!body)
        return;
    json_decref(body);
    json_t *command = json_pack("{ssss}", "command", "replay", "source", request->parameter);
    if (!command) {
        rest_reply_error(request, 404, "unknown_source", NULL, "there is no such stage");
        return;
    }
    request->ticket = control_request(request->facade->control, command, ANSWER_WITHIN, replay_replied, request, &err);
    if (!request->ticket)
        rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor cannot be asked: %s", err.text);
}
