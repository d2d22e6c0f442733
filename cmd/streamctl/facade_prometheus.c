/* /metrics: Prometheus' text exposition format, version 0.0.4. A family's samples must stand together, whichever stage they come
 * from, so every stage's file is read first and then written out name by name. */
#include "facade_stages.h"

#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/json.h"

#include "facade_app.h"
#include "facade_control.h"
#include "facade_process.h"

#define BUCKETS_TOGETHER 8               /* one limit per power of two out of eight */

typedef struct scraped {
    const json_t *told;                  /* the stage's status */
    bool read;
    metrics_snapshot_t snapshot;
    bool runs;
    process_usage_t usage;
    char *labels;                        /* stage="a",tool="ingest" */
} scraped_t;

static void put_number(buf_t *out, double value) {
    if (isinf(value)) {
        buf_put_text(out, value > 0 ? "+Inf" : "-Inf");
        return;
    }
    if (isnan(value)) {
        buf_put_text(out, "NaN");
        return;
    }
    if (value == floor(value) && fabs(value) < 1e15) {
        buf_format(out, "%.0f", value);
        return;
    }
    out->size += json_print_double((char *) buf_reserve(out, JSON_DOUBLE_MAX), value);
}

static void put_head(buf_t *out, const char *name, const char *type, const char *help) {
    buf_format(out, "# HELP %s ", name);
    for (; *help; help++) {
        if (*help == '\\')
            buf_put_text(out, "\\\\");
        else if (*help == '\n')
            buf_put_text(out, "\\n");
        else
            buf_put_byte(out, (uint8_t) *help);
    }
    buf_format(out, "\n# TYPE %s %s\n", name, type);
}

static void put_sample(buf_t *out, const char *name, const char *labels, const char *more, double value) {
    buf_format(out, "%s{%s%s%s} ", name, labels, *more ? "," : "", more);
    put_number(out, value);
    buf_put_byte(out, '\n');
}

static void put_histogram(buf_t *out, const char *labels, const metrics_sample_t *sample) {
    const char *comma = *sample->label ? "," : "";
    uint64_t sum = 0;
    for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
        sum += sample->buckets ? sample->buckets[i] : 0;
        double limit = metric_bucket_limit(i);
        if (i % BUCKETS_TOGETHER || !isfinite(limit))
            continue;
        buf_format(out, "%s_bucket{%s%s%s,le=\"", sample->name, labels, comma, sample->label);
        put_number(out, limit / 1e9);
        buf_format(out, "\"} %llu\n", (unsigned long long) sum);
    }
    /* The buckets may have been counted a moment after the total: the format wants them alike. */
    buf_format(out, "%s_bucket{%s%s%s,le=\"+Inf\"} %llu\n", sample->name, labels, comma, sample->label, (unsigned long long) sum);
    buf_format(out, "%s_sum{%s%s%s} ", sample->name, labels, comma, sample->label);
    put_number(out, sample->sum / 1e9);
    buf_format(out, "\n%s_count{%s%s%s} %llu\n", sample->name, labels, comma, sample->label, (unsigned long long) sum);
}

/* True when an earlier sample has this name: its family is written already. */
static bool seen_before(const scraped_t *stages, size_t stage, size_t at) {
    const char *name = stages[stage].snapshot.samples[at].name;
    for (size_t s = 0; s <= stage; s++) {
        const metrics_snapshot_t *snapshot = &stages[s].snapshot;
        for (size_t i = 0; stages[s].read && i < snapshot->count && !(s == stage && i == at); i++)
            if (strcmp(snapshot->samples[i].name, name) == 0)
                return true;
    }
    return false;
}

static void put_family(buf_t *out, const scraped_t *stages, size_t count, const metrics_sample_t *first) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    put_head(out, first->name, types[first->type], first->help);
    for (size_t s = 0; s < count; s++)
        for (size_t i = 0; stages[s].read && i < stages[s].snapshot.count; i++) {
            const metrics_sample_t *sample = &stages[s].snapshot.samples[i];
            if (strcmp(sample->name, first->name) != 0 || sample->type != first->type)
                continue;
            if (sample->type == METRIC_HISTOGRAM)
                put_histogram(out, stages[s].labels, sample);
            else
                put_sample(out, sample->name, stages[s].labels, sample->label, sample->value);
        }
}

static double is_up(const scraped_t *stage) {
    return stage->runs;
}
static double is_healthy(const scraped_t *stage) {
    return stage->read && stage->runs && stage->snapshot.healthy;
}
static double restarts(const scraped_t *stage) {
    return json_number_value(json_object_get(stage->told, "restarts"));
}
static double cpu_seconds(const scraped_t *stage) {
    return stage->usage.cpu_seconds;
}
static double resident_bytes(const scraped_t *stage) {
    return (double) stage->usage.resident_bytes;
}
static double thread_count(const scraped_t *stage) {
    return (double) stage->usage.threads;
}

static void put_stages(buf_t *out, const scraped_t *stages, size_t count) {
    static const struct {
        const char *name, *type, *help;
        double (*value)(const scraped_t *stage);
        bool of_process;
    } families[] = {
        {"stream_stage_up", "gauge", "Whether the stage's process runs", is_up},
        {"stream_stage_healthy", "gauge", "Whether the stage runs and does what it is for", is_healthy},
        {"stream_stage_restarts_total", "counter", "Times the supervisor started the stage again", restarts},
        {"stream_process_cpu_seconds_total", "counter", "CPU time of the stage's process, user and system", cpu_seconds, true},
        {"stream_process_resident_memory_bytes", "gauge", "Resident memory of the stage's process", resident_bytes, true},
        {"stream_process_threads", "gauge", "Threads of the stage's process", thread_count, true},
    };
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        put_head(out, families[f].name, families[f].type, families[f].help);
        for (size_t s = 0; s < count; s++)
            if (stages[s].runs || !families[f].of_process)
                put_sample(out, families[f].name, stages[s].labels, "", families[f].value(&stages[s]));
    }
}

static void scrape(scraped_t *stage, const json_t *told) {
    const char *path = json_string_value(json_object_get(told, "metrics"));
    const char *name = json_string_value(json_object_get(told, "name")), *tool = json_string_value(json_object_get(told, "tool"));
    stage->told = told;
    stage->read = path && metrics_read(path, &stage->snapshot, NULL) == 0;
    stage->runs = process_usage((int) json_integer_value(json_object_get(told, "pid")), &stage->usage);
    buf_t labels = {0};
    buf_put_text(&labels, "stage=");
    text_put_json(&labels, text_of(name ? name : ""));
    buf_put_text(&labels, ",tool=");
    text_put_json(&labels, text_of(tool ? tool : ""));
    stage->labels = mem_text(buf_text(&labels));
    buf_fini(&labels);
}

void prometheus_put(facade_t *facade, buf_t *out) {
    const json_t *all = json_object_get(control_status(facade->control), "stages"), *told;
    size_t count = json_array_size(all), i;
    scraped_t *stages = mem_zero((count + 1) * sizeof *stages);
    json_array_foreach(all, i, told)
        scrape(&stages[i], told);
    put_head(out, "stream_build_info", "gauge", "Always 1; the version is its label");
    buf_format(out, "stream_build_info{version=\"%s\"} 1\n", VERSION);
    put_head(out, "stream_supervisor_up", "gauge", "Whether the supervisor answers");
    buf_format(out, "stream_supervisor_up %d\n", all != NULL);
    if (count)
        put_stages(out, stages, count);
    for (size_t s = 0; s < count; s++)
        for (size_t at = 0; stages[s].read && at < stages[s].snapshot.count; at++)
            if (!seen_before(stages, s, at))
                put_family(out, stages, count, &stages[s].snapshot.samples[at]);
    for (size_t s = 0; s < count; s++) {
        if (stages[s].read)
            metrics_snapshot_fini(&stages[s].snapshot);
        mem_free(stages[s].labels);
    }
    mem_free(stages);
}
