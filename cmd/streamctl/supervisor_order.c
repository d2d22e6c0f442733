/* What others may ask of the supervisor: orders to start and stop, and its status. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "run/metrics.h"
#include "supervisor_private.h"

#define INTERVAL_MAX 86400.0

bool child_is_ending(const child_t *child) {
    metrics_snapshot_t snapshot;
    if (metrics_read(child->stage->metrics, &snapshot, NULL))
        return false;
    bool ending = snapshot.pid == (int) child->pid && (snapshot.state == STAGE_DRAINING || snapshot.state == STAGE_FINISHED);
    metrics_snapshot_fini(&snapshot);
    return ending;
}

static bool matches(const child_t *child, const char *what) {
    const topology_stage_t *stage = child->stage;
    if (!what)
        return stage->role == ROLE_SOURCE;
    return strcmp(stage->name, what) == 0 || strcmp(stage->group, what) == 0;
}

static bool type_matches(const child_t *child, const char *what) {
    return child->stage->role == ROLE_SOURCE && child->stage->type && strcmp(child->stage->type, what) == 0;
}

/* The children that are meant: by name, else by type of source. */
static size_t select_children(supervisor_t *supervisor, const char *what, child_t **selected) {
    size_t n = 0;
    for (size_t i = 0; i < supervisor->count; i++)
        if (matches(&supervisor->children[i], what))
            selected[n++] = &supervisor->children[i];
    for (size_t i = 0; what && n == 0 && i < supervisor->count; i++)
        if (type_matches(&supervisor->children[i], what)) {
            for (; i < supervisor->count; i++)
                if (type_matches(&supervisor->children[i], what))
                    selected[n++] = &supervisor->children[i];
        }
    return n;
}

static int unknown(const supervisor_t *supervisor, const char *what, err_t *err) {
    const char *names[256];
    size_t n = 0;
    buf_t sources = {0}, stages = {0};
    for (size_t i = 0; i < supervisor->count && n < 256; i++) {
        const topology_stage_t *stage = supervisor->children[i].stage;
        buf_t *known = stage->role == ROLE_SOURCE ? &sources : &stages;
        names[n++] = stage->name;
        buf_format(known, "%s%s", known->size ? ", " : "", stage->name);
    }
    buf_t quoted = {0};
    text_put_quoted(&quoted, text_of(what), 80);
    const char *nearest = text_nearest(what, names, n);
    err_set(err, "there is no source or stage %s%s%s%s; sources: %s; stages: %s", buf_text(&quoted), nearest ? "; did you mean \"" : "",
            nearest ? nearest : "", nearest ? "\"?" : "", buf_text(&sources), buf_text(&stages));
    buf_fini(&quoted);
    buf_fini(&sources);
    buf_fini(&stages);
    return -1;
}

static int check_interval(child_t *const *selected, size_t n, double interval, const char *what, const char **code, err_t *err) {
    *code = "bad_interval";
    if (!isfinite(interval) || interval < 0 || interval > INTERVAL_MAX)
        return err_set(err, "interval is a number of seconds above 0 and up to %.0f", INTERVAL_MAX);
    if (interval == 0 || !what) /* for all sources: for those that have one */
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!selected[i]->stage->takes_interval)
            return err_set(err, "\"%s\" has no interval", selected[i]->stage->name);
    return 0;
}

static void restart(child_t *child) {
    if (machine_alive(child->state))
        child_event(child, EVENT_STOP);
    child_event(child, EVENT_START);
}

static void order_start(child_t *child, double interval) {
    bool other = interval > 0 && child->stage->takes_interval && child->interval != interval;
    if (other) {
        const json_t *configured = json_object_get(child->stage->settings, "interval");
        other = child->interval > 0 || !json_is_number(configured) || json_number_value(configured) != interval;
        child->interval = interval;
    }
    if (other && (child->state == MACHINE_STARTING || child->state == MACHINE_RUNNING))
        restart(child);
    else
        child_event(child, EVENT_START);
}

int supervisor_order(supervisor_t *supervisor, supervisor_order_t order, const char *what, double interval, const char **code, err_t *err) {
    if (supervisor->stopping) {
        *code = "stopping";
        return err_set(err, "everything is being stopped");
    }
    child_t **selected = mem_zero((supervisor->count + 1) * sizeof *selected);
    size_t n = select_children(supervisor, what, selected);
    int result = 0;
    *code = "unknown_source";
    if (n == 0)
        result = what ? unknown(supervisor, what, err) : err_set(err, "there is no source");
    else
        result = check_interval(selected, n, interval, what, code, err);
    for (size_t i = 0; result == 0 && i < n; i++) {
        if (order == ORDER_START)
            order_start(selected[i], interval);
        else if (order == ORDER_STOP)
            child_event(selected[i], EVENT_STOP);
        else
            restart(selected[i]);
    }
    mem_free(selected);
    return result;
}

/* ---- status ---- */

static const char *state_of_all(const supervisor_t *supervisor) {
    unsigned in[MACHINE_STATES] = {0}, sources_up = 0;
    for (size_t i = 0; i < supervisor->count; i++) {
        const child_t *child = &supervisor->children[i];
        if (child->stage->role == ROLE_SERVER && child->state == MACHINE_RUNNING)
            continue; /* it always runs: it says nothing of the work */
        in[child->state]++;
        sources_up += child->stage->role == ROLE_SOURCE && (child->state == MACHINE_RUNNING || child->state == MACHINE_STARTING);
    }
    if (supervisor->stopping)
        return "stopping";
    if (in[MACHINE_FAILED] || in[MACHINE_BACKOFF])
        return "degraded";
    if (in[MACHINE_STARTING])
        return "starting";
    if (sources_up)
        return "running";
    if (in[MACHINE_DRAINING])
        return "stopping";
    if (in[MACHINE_STOPPED])
        return "stopped"; /* no source runs, and someone stopped at least one */
    return in[MACHINE_RUNNING] ? "running" : "finished"; /* what the sources sent is still on its way */
}

static json_t *names_of(const supervisor_t *supervisor, const size_t *indices, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(supervisor->children[indices[i]].stage->name));
    return list;
}

/* Paths and a stage's own words may hold anything; JSON takes UTF-8 only. */
static json_t *any_text(const char *text) {
    json_t *result = json_string(text);
    return result ? result : json_string("(not UTF-8)");
}

/* Null without a process, never 0: `kill -9 0` would kill everything in the group of the one who asked. */
static json_t *pid_of(const child_t *child) {
    return child->pid ? json_integer(child->pid) : json_null();
}

static json_t *describe(const child_t *child) {
    const topology_stage_t *stage = child->stage;
    double uptime = child->pid ? (double) (clock_monotonic() - child->spawned) / 1e9 : 0;
    json_t *item = json_pack("{s:s, s:s, s:s, s:s?, s:s, s:o, s:I, s:f, s:s?, s:o, s:o, s:o, s:o, s:o}", "name", stage->name, "tool",
                             topology_tool_names[stage->role], "role", topology_role_names[stage->role], "type", stage->type, "state",
                             machine_state_names[child->state], "pid", pid_of(child), "restarts", (json_int_t) child->restarts,
                             "uptime_seconds", uptime, "last_exit", child->last_exit[0] ? child->last_exit : NULL, "message",
                             any_text(child->message), "inputs",
                             names_of(child->supervisor, stage->inputs, stage->input_count), "outputs",
                             names_of(child->supervisor, stage->outputs, stage->output_count), "metrics",
                             any_text(stage->metrics), "log", any_text(stage->log));
    ASSERT(item);
    json_object_set_new(item, "stream", json_string(stage->group));
    json_object_set_new(item, "starts", json_integer((json_int_t) child->starts));
    if (stage->state)
        json_object_set_new(item, "state_dir", any_text(stage->state));
    if (stage->dead_letter)
        json_object_set_new(item, "dead_letter", any_text(stage->dead_letter));
    if (child->interval > 0)
        json_object_set_new(item, "interval", json_real(child->interval));
    return item;
}

json_t *supervisor_sources(const supervisor_t *supervisor) {
    json_t *sources = json_array();
    for (size_t i = 0; i < supervisor->count; i++) {
        const child_t *child = &supervisor->children[i];
        if (child->stage->role == ROLE_SOURCE)
            json_array_append_new(sources, json_pack("{s:s, s:s}", "name", child->stage->name, "state", machine_state_names[child->state]));
    }
    return sources;
}

json_t *supervisor_status(supervisor_t *supervisor) {
    json_t *stages = json_array();
    for (size_t i = 0; i < supervisor->count; i++)
        json_array_append_new(stages, describe(&supervisor->children[i]));
    double uptime = (double) (clock_monotonic() - supervisor->started) / 1e9;
    const supervisor_setup_t *setup = &supervisor->setup;
    json_t *status = json_pack("{s:b, s:s, s:s, s:f, s:i, s:o, s:o, s:o, s:o}", "ok", 1, "name", setup->config->name, "state",
                               state_of_all(supervisor), "uptime_seconds", uptime, "pid", (int) getpid(), "config",
                               any_text(setup->config->path), "run_dir", any_text(setup->topology->run_dir), "address",
                               any_text(supervisor->address), "stages", stages);
    ASSERT(status);
    json_object_set_new(status, "replay", replay_status(supervisor));
    return status;
}
