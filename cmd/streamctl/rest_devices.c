/* The devices behind the sources: each source with --device shows its table in a file beside its metrics, which is read when somebody asks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "rest_handlers.h"
#include "run/device_file.h"

#include "facade_app.h"
#include "facade_control.h"

#define DEVICES_DEFAULT 100
#define DEVICES_MOST 1000
#define OFFSET_MOST 10000000
#define QUERY_MAX 200

typedef struct row {
    const char *source;              /* borrowed from the status */
    device_view_t view;
} row_t;

typedef struct listing {
    char source[QUERY_MAX], status[QUERY_MAX], search[QUERY_MAX];    /* "": all */
    row_t *rows;
    size_t count, room;
    uint64_t counts[3], forgotten;   /* counts: by status, whichever is asked for */
} listing_t;

static void query_text(rest_request_t *request, const char *name, char out[static QUERY_MAX]) {
    char argument[64];
    snprintf(argument, sizeof argument, "%s=", name);
    const char *text = lws_get_urlarg_by_name(request->wsi, argument, out, QUERY_MAX);
    if (!text)
        *out = 0;
    else if (text != out)
        memmove(out, text, strlen(text) + 1);
}

static bool status_wanted(const listing_t *listing, device_state_t state) {
    return !*listing->status || strcmp(listing->status, device_state_names[state]) == 0;
}

static void take(listing_t *listing, const char *source, const device_view_t *view) {
    if (*listing->search && !strcasestr(view->name, listing->search))
        return;
    listing->counts[view->state]++;
    if (!status_wanted(listing, view->state))
        return;
    if (listing->count == listing->room) {
        listing->room = listing->room ? 2 * listing->room : 64;
        listing->rows = mem_resize(listing->rows, listing->room * sizeof *listing->rows);
    }
    listing->rows[listing->count++] = (row_t){.source = source, .view = *view};
}

/* One that cannot be read has no devices to show: its stage has none, or has never run. */
static void take_source(listing_t *listing, const json_t *stage) {
    const char *name = json_string_value(json_object_get(stage, "name")), *role = json_string_value(json_object_get(stage, "role"));
    const char *metrics = json_string_value(json_object_get(stage, "metrics"));
    device_view_t *views;
    uint32_t count;
    uint64_t forgotten;
    if (!name || !role || !metrics || strcmp(role, "source") != 0 || (*listing->source && strcmp(listing->source, name) != 0))
        return;
    char *path = mem_format("%s.devices", metrics);
    err_t err;
    if (device_file_read(path, &views, &count, &forgotten, &err) == 0) {
        listing->forgotten += forgotten;
        for (uint32_t i = 0; i < count; i++)
            take(listing, name, &views[i]);
        mem_free(views);
    }
    mem_free(path);
}

static int by_source_and_name(const void *a, const void *b) {
    const row_t *one = a, *other = b;
    int order = strcmp(one->source, other->source);
    return order ? order : strcmp(one->view.name, other->view.name);
}

static json_t *time_json(int64_t time) {
    char text[CLOCK_TEXT_MAX];
    return time ? json_stringn(text, clock_print(text, time)) : json_null();
}

static json_t *row_json(const row_t *row, int64_t now) {
    const device_view_t *view = &row->view;
    return json_pack("{sssssssssososososIso}", "device", view->name, "source", row->source, "status", device_state_names[view->state], "reason",
                     device_reason_names[view->reason], "since", time_json(view->since), "first_seen", time_json(view->first), "last_seen",
                     time_json(view->last), "interval",
                     view->interval ? json_real(round((double) view->interval / NS_PER_MS) / 1000) : json_null(), "messages", (json_int_t) view->messages,
                     "rate", json_real(round(device_rate(view, now) * 1000) / 1000));
}

static bool check_status(rest_request_t *request, const listing_t *listing) {
    for (int i = 0; i < 3; i++)
        if (!*listing->status || strcmp(listing->status, device_state_names[i]) == 0)
            return true;
    rest_reply_error(request, 400, "bad_query", json_string("status"), "status is online, late or offline");
    return false;
}

void rest_get_devices(rest_request_t *request) {
    listing_t listing = {0};
    int64_t limit = DEVICES_DEFAULT, offset = 0, now = clock_now();
    const json_t *status = control_status(request->facade->control), *stage;
    size_t i;
    query_text(request, "source", listing.source);
    query_text(request, "status", listing.status);
    query_text(request, "search", listing.search);
    if (!status) {
        rest_reply_error(request, 503, "supervisor_unavailable", NULL, "the supervisor does not answer at the moment; try again");
        return;
    }
    if (!check_status(request, &listing) || !rest_query_int(request, "limit", 0, DEVICES_MOST, &limit) ||
        !rest_query_int(request, "offset", 0, OFFSET_MOST, &offset))
        return;
    json_array_foreach(json_object_get(status, "stages"), i, stage)
        take_source(&listing, stage);
    if (listing.count)
        qsort(listing.rows, listing.count, sizeof *listing.rows, by_source_and_name);
    json_t *devices = json_array();
    size_t from = (size_t) offset < listing.count ? (size_t) offset : listing.count;
    size_t end = listing.count - from > (size_t) limit ? from + (size_t) limit : listing.count;
    for (size_t at = from; at < end; at++)
        json_array_append_new(devices, row_json(&listing.rows[at], now));
    rest_reply_json(request, 200, json_pack("{sosIsos{sIsIsI}sI}", "devices", devices, "total", (json_int_t) listing.count, "next",
                                            end < listing.count ? json_integer((json_int_t) end) : json_null(), "counts", "online",
                                            (json_int_t) listing.counts[DEVICE_ONLINE], "late", (json_int_t) listing.counts[DEVICE_LATE], "offline",
                                            (json_int_t) listing.counts[DEVICE_OFFLINE], "forgotten", (json_int_t) listing.forgotten));
    mem_free(listing.rows);
}
