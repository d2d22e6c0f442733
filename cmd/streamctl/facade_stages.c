/* The stages' numbers, sampled from their metrics files and /proc: rates and recent latency come from comparing samples. */
#include "facade_stages.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "audit.h"
#include "base/memory.h"

#include "facade_alerts.h"
#include "facade_app.h"
#include "facade_control.h"
#include "facade_live.h"
#include "facade_process.h"
#include "ws.h"

#define FIRST_SAMPLE (NS_PER_S / 4)      /* after a start, or a client's coming */
#define PACE_QUIET (10 * NS_PER_S)
#define EARLY_SAMPLES 5                  /* so that there are rates soon after the start */
#define LATENCY_WINDOW (10 * NS_PER_S)   /* percentiles are over the last 10 to 20 seconds */
#define LINKS_MAX 32

static const char *const counter_names[] = {
    "stream_events_in_total", "stream_events_out_total", "stream_events_filtered_total", "stream_events_late_total",
    "stream_events_dead_total", "stream_events_dropped_total", "stream_errors_total"};
static const char *const counter_keys[] = {"in", "out", "filtered", "late", "dead", "dropped", "errors"};
#define COUNTERS 7
enum { IN, OUT };

/* Rates are over the last few seconds, so that a window that speaks every five has one. */
#define RATE_SAMPLES 6
#define RATE_WINDOW (5 * NS_PER_S + NS_PER_S / 2)
typedef struct rate_view {
    double value[RATE_SAMPLES];
    int64_t time[RATE_SAMPLES];          /* monotonic ns */
    unsigned count, newest;
} rate_view_t;

typedef struct link_view {
    char name[160];                      /* the last part of its endpoint */
    bool sender;
    double rate, outstanding;
    rate_view_t events;
} link_view_t;

typedef struct stage_view {
    struct stage_view *next;
    char name[160];
    bool present;                        /* in the newest status */
    bool read, rated;                    /* the metrics file could be read; there were two samples of one process */
    int pid;
    int64_t started, taken;              /* ns: of the process, wall clock; of the sample, monotonic */
    double counters[COUNTERS], rates[2], held, outstanding;
    rate_view_t flows[2];                /* IN, OUT */
    link_view_t links[LINKS_MAX];
    unsigned link_count;
    bool healthy;
    char health[256], detail[256];
    uint64_t notices;                    /* serial of the last one passed on */
    /* Latency: the buckets at the window's beginning, and of the one that will be next. */
    uint64_t base[METRIC_BUCKETS], next_base[METRIC_BUCKETS];
    int64_t next_since;
    double p50, p99, p999;               /* ns, of the window; NAN: nothing in it */
    bool stateful, trouble;              /* it keeps state; it cannot write it at present */
    double spool_bytes, spool_limit, spool_frames, snapshots, snapshot_age, snapshot_bytes, snapshot_time;      /* seconds; ns */
    bool has_process;
    process_usage_t usage;
    double cpu;                          /* share of one core, 0..; NAN: unknown */
} stage_view_t;

struct stages {
    facade_t *facade;
    audit_t *audit;
    stage_view_t *views;
    facade_timer_t timer;
    bool watched;
    unsigned early;                      /* samples taken in the beginning's quicker pace */
    int64_t sampled;
};

static stage_view_t *view_find(const stages_t *stages, const char *name) {
    for (stage_view_t *view = stages->views; view; view = view->next)
        if (strcmp(view->name, name) == 0)
            return view;
    return NULL;
}

/* Takes a counter's value and returns its rate per second, 0 with the first one. */
static double rate_take(rate_view_t *rate, double value, int64_t now) {
    unsigned oldest = rate->newest;
    for (unsigned back = 1; back < rate->count; back++) {
        unsigned at = (rate->newest + RATE_SAMPLES - back) % RATE_SAMPLES;
        if (now - rate->time[at] > RATE_WINDOW)
            break;
        oldest = at;
    }
    double seconds = rate->count ? (double) (now - rate->time[oldest]) / NS_PER_S : 0;
    double per_second = seconds > 0 ? (value - rate->value[oldest]) / seconds : 0;
    rate->newest = (rate->newest + 1) % RATE_SAMPLES;
    rate->value[rate->newest] = value;
    rate->time[rate->newest] = now;
    rate->count += rate->count < RATE_SAMPLES;
    return per_second;
}

static double percentile(const uint64_t *buckets, const uint64_t *base, double share) {
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < METRIC_BUCKETS; i++)
        total += buckets[i] - base[i];
    if (!total)
        return NAN;
    for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
        seen += buckets[i] - base[i];
        if ((double) seen < share * (double) total)
            continue;
        double high = metric_bucket_limit(i);
        return isfinite(high) ? high : metric_bucket_limit(METRIC_BUCKETS - 2);
    }
    return NAN;
}

static void take_latency(stage_view_t *view, const metrics_snapshot_t *snapshot, int64_t now) {
    const metrics_sample_t *latency = metrics_find(snapshot, "stream_latency_seconds");
    view->p50 = view->p99 = view->p999 = NAN;
    if (!latency || !latency->buckets)
        return;
    if (now - view->next_since >= LATENCY_WINDOW) {
        memcpy(view->base, view->next_base, sizeof view->base);
        memcpy(view->next_base, latency->buckets, sizeof view->next_base);
        view->next_since = now;
    }
    view->p50 = percentile(latency->buckets, view->base, 0.50);
    view->p99 = percentile(latency->buckets, view->base, 0.99);
    view->p999 = percentile(latency->buckets, view->base, 0.999);
}

/* The value of a label as the link's short name: the last part of its endpoint, without options. */
static void link_name(const char *label, char *out, size_t size) {
    const char *start = strstr(label, "link=\"");
    start = start ? start + 6 : label;
    size_t length = strcspn(start, "?\"");
    for (size_t i = length; i > 0; i--)
        if (start[i - 1] == '/') {
            start += i;
            length -= i;
            break;
        }
    snprintf(out, size, "%.*s", (int) length, start);
}

static link_view_t *link_of(stage_view_t *view, const char *label) {
    char name[160];
    bool sender = strstr(label, "side=\"to\"") != NULL;
    link_name(label, name, sizeof name);
    for (unsigned i = 0; i < view->link_count; i++)
        if (view->links[i].sender == sender && strcmp(view->links[i].name, name) == 0)
            return &view->links[i];
    if (view->link_count == LINKS_MAX)
        return NULL;
    link_view_t *link = &view->links[view->link_count++];
    *link = (link_view_t){.sender = sender};
    memcpy(link->name, name, sizeof name);
    return link;
}

static void take_links(stage_view_t *view, const metrics_snapshot_t *snapshot, int64_t now) {
    view->outstanding = 0;
    for (size_t i = 0; i < snapshot->count; i++) {
        const metrics_sample_t *sample = &snapshot->samples[i];
        bool events = strcmp(sample->name, "stream_link_events_total") == 0;
        bool outstanding = strcmp(sample->name, "stream_link_outstanding_bytes") == 0;
        link_view_t *link = events || outstanding ? link_of(view, sample->label) : NULL;
        if (outstanding)
            view->outstanding += sample->value;
        if (!link)
            continue;
        if (outstanding)
            link->outstanding = sample->value;
        else
            link->rate = rate_take(&link->events, sample->value, now);
    }
}

static void take_state(stages_t *stages, stage_view_t *view, const metrics_snapshot_t *snapshot) {
    const metrics_sample_t *time = metrics_find(snapshot, "stream_snapshot_seconds");
    bool trouble = metrics_sum(snapshot, "stream_spool_trouble") > 0;
    view->stateful = metrics_find(snapshot, "stream_spool_bytes") != NULL;
    view->spool_bytes = metrics_sum(snapshot, "stream_spool_bytes");
    view->spool_limit = metrics_sum(snapshot, "stream_spool_limit_bytes");
    view->spool_frames = metrics_sum(snapshot, "stream_spool_frames");
    view->snapshots = metrics_sum(snapshot, "stream_snapshots_total");
    view->snapshot_age = metrics_find(snapshot, "stream_snapshot_age_seconds") ? metrics_sum(snapshot, "stream_snapshot_age_seconds") : NAN;
    view->snapshot_bytes = metrics_sum(snapshot, "stream_snapshot_bytes");
    view->snapshot_time = time && time->count ? time->p99 : NAN;
    if (trouble != view->trouble)
        alerts_trouble(stages->facade->alerts, view->name, trouble);
    view->trouble = trouble;
}

static void take_process(stage_view_t *view, int pid, double seconds) {
    process_usage_t usage;
    bool found = process_usage(pid, &usage);
    view->cpu = found && view->has_process && seconds > 0 ? (usage.cpu_seconds - view->usage.cpu_seconds) / seconds : NAN;
    view->has_process = found;
    if (found)
        view->usage = usage;
}

static void take_snapshot(stages_t *stages, stage_view_t *view, const metrics_snapshot_t *snapshot, int64_t now) {
    bool same = view->read && view->pid == snapshot->pid && view->started == snapshot->started;
    if (!same) {                         /* another process: its counters begin anew */
        view->link_count = 0;
        memset(view->flows, 0, sizeof view->flows);
        view->notices = 0;
        view->has_process = false;
        view->next_since = now;
        memset(view->base, 0, sizeof view->base);
        memset(view->next_base, 0, sizeof view->next_base);
    }
    double seconds = same ? (double) (now - view->taken) / NS_PER_S : 0;
    for (unsigned i = 0; i < COUNTERS; i++) {
        double value = metrics_sum(snapshot, counter_names[i]);
        if (i <= OUT)
            view->rates[i] = rate_take(&view->flows[i], value, now);
        view->counters[i] = value;
    }
    view->held = metrics_sum(snapshot, "stream_events_held");
    take_links(view, snapshot, now);
    take_state(stages, view, snapshot);
    take_latency(view, snapshot, now);
    take_process(view, snapshot->pid, seconds);
    view->rated = same;
    view->read = true;
    view->pid = snapshot->pid;
    view->started = snapshot->started;
    view->taken = now;
    view->healthy = snapshot->healthy;
    memcpy(view->health, snapshot->health, sizeof view->health);
    memcpy(view->detail, snapshot->detail, sizeof view->detail);
    for (unsigned i = 0; i < METRICS_NOTICES; i++) {
        const metrics_notice_t *notice = &snapshot->notices[i];
        if (notice->serial <= view->notices)
            continue;
        view->notices = notice->serial;
        alerts_notice(stages->facade->alerts, view->name, notice);
    }
}

static void sample_stage(stages_t *stages, const json_t *stage, int64_t now) {
    const char *name = json_string_value(json_object_get(stage, "name"));
    const char *path = json_string_value(json_object_get(stage, "metrics"));
    if (!name || strlen(name) >= sizeof ((stage_view_t *) 0)->name)
        return;
    stage_view_t *view = view_find(stages, name);
    if (!view) {
        view = mem_zero(sizeof *view);
        memcpy(view->name, name, strlen(name) + 1);
        view->p50 = view->p99 = view->p999 = view->cpu = NAN;
        view->next = stages->views;
        stages->views = view;
    }
    view->present = true;
    metrics_snapshot_t snapshot;
    if (path && metrics_read(path, &snapshot, NULL) == 0) {
        take_snapshot(stages, view, &snapshot, now);
        metrics_snapshot_fini(&snapshot);
    } else {
        view->read = view->rated = view->has_process = false;
    }
    if (json_integer_value(json_object_get(stage, "pid")) <= 0) {    /* it does not run: what is left are its last totals */
        view->has_process = false;
        view->rates[IN] = view->rates[OUT] = view->cpu = view->p50 = view->p99 = view->p999 = NAN;
        for (unsigned i = 0; i < view->link_count; i++)
            view->links[i].rate = 0;
    }
}

static void sample(stages_t *stages) {
    const json_t *status = control_status(stages->facade->control), *stage;
    size_t i;
    int64_t now = clock_monotonic();
    for (stage_view_t *view = stages->views; view; view = view->next)
        view->present = false;
    json_array_foreach(json_object_get(status, "stages"), i, stage)
        sample_stage(stages, stage, now);
    for (stage_view_t **link = &stages->views; *link;) {
        stage_view_t *view = *link;
        if (view->present || !status) {
            link = &view->next;
            continue;
        }
        *link = view->next;
        mem_free(view);
    }
    if (status)
        audit_read(stages->audit, status);
    if (stages->sampled && now > stages->sampled)
        live_measure(stages->facade->live, (double) (now - stages->sampled) / NS_PER_S);
    stages->sampled = now;
}

static void sample_again(void *argument) {
    stages_t *stages = argument;
    facade_t *facade = stages->facade;
    sample(stages);
    if (hub_wants(facade->hub, WS_METRICS))
        hub_send(facade->hub, ws_message_event(WS_METRICS, NULL, metrics_json(facade)));
    bool quick = stages->watched || stages->early++ < EARLY_SAMPLES;
    facade_timer_set(facade, &stages->timer, quick ? facade->settings.interval : PACE_QUIET, sample_again, stages);
}

stages_t *stages_new(facade_t *facade) {
    stages_t *stages = mem_zero(sizeof *stages);
    stages->facade = facade;
    stages->audit = audit_new();
    facade_timer_set(facade, &stages->timer, FIRST_SAMPLE, sample_again, stages);
    return stages;
}

void stages_watch(stages_t *stages) {
    bool watched = stages && (hub_wants(stages->facade->hub, WS_METRICS) || hub_wants(stages->facade->hub, WS_ALERT));
    if (!stages || watched == stages->watched)
        return;
    stages->watched = watched;
    /* Not at once: a client that comes in the middle of a round would make a rate over a moment. */
    if (watched)
        facade_timer_set(stages->facade, &stages->timer, FIRST_SAMPLE, sample_again, stages);
}

void stages_free(stages_t *stages) {
    if (!stages)
        return;
    facade_timer_cancel(&stages->timer);
    audit_free(stages->audit);
    while (stages->views) {
        stage_view_t *next = stages->views->next;
        mem_free(stages->views);
        stages->views = next;
    }
    mem_free(stages);
}

json_t *stages_audit(facade_t *facade) {
    json_t *report;
    audit_read(facade->stages->audit, control_status(facade->control));
    audit_conclude(facade->stages->audit, &report);
    return report;
}

static json_t *number(double value, double scale) {
    return isfinite(value) ? json_real(round(value * scale * 1000) / 1000) : json_null();
}

static json_t *state_json(const stage_view_t *view) {
    if (!view->stateful)
        return json_null();
    bool snapshots = isfinite(view->snapshot_age);
    return json_pack("{sIsIsIsbsososo}", "log_bytes", (json_int_t) view->spool_bytes, "log_limit_bytes", (json_int_t) view->spool_limit,
                     "log_frames", (json_int_t) view->spool_frames, "trouble", view->trouble, "snapshot_age_seconds",
                     number(view->snapshots > 0 ? view->snapshot_age : NAN, 1), "snapshot_ms", number(view->snapshot_time, 1e-6),
                     "snapshot_bytes", snapshots ? json_integer((json_int_t) view->snapshot_bytes) : json_null());
}

json_t *stages_numbers(const stages_t *stages, const char *name) {
    const stage_view_t *view = view_find(stages, name);
    if (!view || !view->read)
        return json_pack("{snsnsnsnsnsnsnsnsnso}", "rate_in", "rate_out", "latency_ms", "held", "outstanding_bytes", "cpu_percent",
                         "memory_bytes", "events", "disk", "links", json_array());
    json_t *events = json_object(), *links = json_array();
    for (unsigned i = 0; i < COUNTERS; i++)
        json_object_set_new(events, counter_keys[i], json_integer((json_int_t) view->counters[i]));
    for (unsigned i = 0; i < view->link_count; i++) {
        const link_view_t *link = &view->links[i];
        json_array_append_new(links, json_pack("{sssssosI}", "name", link->name, "side", link->sender ? "to" : "from", "rate",
                                               view->rated ? number(link->rate, 1) : json_null(), "outstanding_bytes",
                                               (json_int_t) link->outstanding));
    }
    json_t *latency = json_pack("{sososo}", "p50", number(view->p50, 1e-6), "p99", number(view->p99, 1e-6), "p999",
                                number(view->p999, 1e-6));
    return json_pack("{sososososIsIsosososo}", "rate_in", view->rated ? number(view->rates[IN], 1) : json_null(), "rate_out",
                     view->rated ? number(view->rates[OUT], 1) : json_null(), "latency_ms", latency, "events", events, "held",
                     (json_int_t) view->held, "outstanding_bytes", (json_int_t) view->outstanding, "cpu_percent",
                     number(view->cpu, 100), "memory_bytes",
                     view->has_process ? json_integer((json_int_t) view->usage.resident_bytes) : json_null(), "disk", state_json(view), "links",
                     links);
}

bool stages_health(const stages_t *stages, const char *name, bool *healthy, const char **reason) {
    const stage_view_t *view = view_find(stages, name);
    if (!view || !view->read)
        return false;
    *healthy = view->healthy;
    *reason = view->health;
    return true;
}
