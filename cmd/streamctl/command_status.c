/* status: a table for people, or the supervisor's own words as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client.h"
#include "command.h"
#include "run/metrics.h"

static void print_duration(char *out, size_t size, double seconds) {
    long long s = (long long) seconds;
    if (s < 60)
        snprintf(out, size, "%llds", s);
    else if (s < 3600)
        snprintf(out, size, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, size, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, size, "%lldd%02lldh", s / 86400, s / 3600 % 24);
}

typedef struct counts {
    bool known;
    double in, out, dead;
    bool healthy;
    char health[256];
} counts_t;

static counts_t counts_of(const char *path) {
    counts_t counts = {.healthy = true};
    metrics_snapshot_t snapshot;
    if (!path || metrics_read(path, &snapshot, NULL))
        return counts;
    counts.known = metrics_find(&snapshot, "stream_events_in_total") || metrics_find(&snapshot, "stream_events_out_total");
    counts.in = metrics_sum(&snapshot, "stream_events_in_total");
    counts.out = metrics_sum(&snapshot, "stream_events_out_total");
    counts.dead = metrics_sum(&snapshot, "stream_events_dead_total");
    counts.healthy = snapshot.healthy;
    snprintf(counts.health, sizeof counts.health, "%s", snapshot.health);
    metrics_snapshot_fini(&snapshot);
    return counts;
}

static const char *text_member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_stage(const json_t *stage) {
    counts_t counts = counts_of(text_member(stage, "metrics"));
    char uptime[32] = "-", in[32] = "-", out[32] = "-", pid[16] = "-";
    long long number = json_integer_value(json_object_get(stage, "pid"));
    if (number) {
        snprintf(pid, sizeof pid, "%lld", number);
        print_duration(uptime, sizeof uptime, json_number_value(json_object_get(stage, "uptime_seconds")));
    }
    if (counts.known) {
        snprintf(in, sizeof in, "%.0f", counts.in);
        snprintf(out, sizeof out, "%.0f", counts.out);
    }
    const char *message = text_member(stage, "message"), *last = text_member(stage, "last_exit");
    const char *state = text_member(stage, "state");
    bool down = strcmp(state, "failed") == 0 || strcmp(state, "backoff") == 0;
    printf("%-20s %-10s %-9s %8s %8lld %9s %12s %12s  ", text_member(stage, "name"), text_member(stage, "tool"), state, pid,
           (long long) json_integer_value(json_object_get(stage, "restarts")), uptime, in, out);
    if (down && !strstr(message, last))     /* why it was given up holds the last exit already */
        printf("%s%s%s", last, *message && *last ? ": " : "", message);
    else if (*message)
        printf("%s", message);
    else if (!counts.healthy && number)
        printf("%s", counts.health);
    if (counts.dead > 0)
        printf("%s%.0f event%s dead", *message || down ? "; " : "", counts.dead, counts.dead == 1 ? "" : "s");
    putchar('\n');
}

static void print_table(const json_t *status) {
    char uptime[32];
    const char *address = text_member(status, "address");
    print_duration(uptime, sizeof uptime, json_number_value(json_object_get(status, "uptime_seconds")));
    printf("%s: %s for %s, process %lld, %s\n", text_member(status, "name"), text_member(status, "state"), uptime,
           (long long) json_integer_value(json_object_get(status, "pid")), text_member(status, "config"));
    if (*address)
        printf("dashboard: %s\n", address);
    printf("\n%-20s %-10s %-9s %8s %8s %9s %12s %12s\n", "STAGE", "TOOL", "STATE", "PID", "RESTARTS", "UPTIME", "IN", "OUT");
    size_t i;
    json_t *stage;
    json_array_foreach(json_object_get(status, "stages"), i, stage)
        print_stage(stage);
}

int command_status(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    char *run_dir;
    bool json = command_flag(&argc, argv, NULL, "--json");
    if (target_parse(&target, argc, argv, &err))
        return command_usage("status", "%s", err.text);
    if (target.stage)
        return command_usage("status", "%s is not a configuration", target.stage);
    if (target_run_dir(&target, &run_dir, &err))
        return command_failed("%s", err.text);
    json_t *reply = client_ask(run_dir, json_pack("{s:s}", "command", "status"), false, &err);
    int status = 0;
    if (!reply) {
        status = command_failed("%s", err.text);
    } else if (json) {
        json_dumpf(reply, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_table(reply);
    }
    json_decref(reply);
    mem_free(run_dir);
    return status;
}
