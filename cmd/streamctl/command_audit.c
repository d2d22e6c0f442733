/* audit: the ledger of all stages as a table; whether it balances is the exit status. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "base/clock.h"
#include "base/memory.h"
#include "client.h"
#include "command.h"
#include "rundir.h"
#include "state.h"
#include "tools.h"

#define PATIENCE (4 * NS_PER_S)       /* for numbers that move to show one consistent moment */
#define PAUSE_US 100000

static const char *text_member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* ---- readings ---- */

/* Several, until one proves that all balances, or for as long as it is worth waiting. */
static int read_running(audit_t *audit, const char *run_dir, err_t *err) {
    int64_t until = clock_monotonic() + PATIENCE;
    do {
        json_t *status = client_ask(run_dir, json_pack("{s:s}", "command", "status"), false, err);
        if (!status)
            return -1;
        audit_read(audit, status);
        json_decref(status);
        if (audit_conclude(audit, NULL) == AUDIT_BALANCED)
            return 0;
        usleep(PAUSE_US);
    } while (clock_monotonic() < until);
    return 0;
}

/* What a supervisor that was killed left: the stages' metrics are still where the configuration says. */
static bool read_remains(audit_t *audit, const topology_t *topology) {
    json_t *stages = json_array();
    bool any = false;
    for (size_t i = 0; i < topology->count; i++) {
        const topology_stage_t *stage = &topology->stages[i];
        json_t *inputs = json_array();
        for (size_t n = 0; n < stage->input_count; n++)
            json_array_append_new(inputs, json_string(topology->stages[stage->inputs[n]].name));
        json_array_append_new(stages, json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:s?}", "name", stage->name, "stream", stage->group, "tool",
                                                topology_tool_names[stage->role], "role", topology_role_names[stage->role], "inputs", inputs,
                                                "metrics", stage->metrics, "state_dir", stage->state));
        any |= access(stage->metrics, R_OK) == 0;
    }
    json_t *status = json_pack("{s:o}", "stages", stages);
    if (any)
        audit_read(audit, status);
    json_decref(status);
    return any;
}

/* What it wrote when it was stopped. */
static int read_saved(audit_t *audit, const config_t *config) {
    err_t err = {{0}};
    if (!config->state_dir)
        return command_failed("%s does not run, and without a state_dir nothing is left of its numbers", config->path);
    json_t *saved = state_ledger_read(config->state_dir, &err);
    int status = 0;
    if (!saved)
        status = command_failed("%s does not run, and %s", config->path, err.text);
    else if (!audit_load(audit, saved))
        status = command_failed("%s does not run, and its ledger in %s is none that this version reads", config->path, config->state_dir);
    json_decref(saved);
    return status;
}

static int check_disk(audit_t *audit, const topology_t *topology) {
    int status = 0;
    for (size_t i = 0; i < topology->count; i++) {
        const topology_stage_t *stage = &topology->stages[i];
        if (stage->state && !audit_check_disk(audit, stage->name, stage->state))
            status = command_failed("not balanced: %s has counts in %s, and the ledger in state_dir knows nothing of it", stage->name, stage->state);
    }
    return status;
}

static int read_stopped(audit_t *audit, const char *path, const char *run_dir) {
    config_t *config = NULL;
    topology_t *topology = NULL;
    config_errors_t errors = {0};
    err_t err = {{0}};
    int status = 0;
    if (tools_load_config(&config, path, &errors, NULL)) {
        config_errors_print(&errors, path, stderr);
        status = EXIT_FAILURE;
    } else if (topology_new(&topology, config, run_dir, &err))
        status = command_failed("%s", err.text);
    else if (!read_remains(audit, topology))
        status = read_saved(audit, config);
    if (status == 0)
        status = check_disk(audit, topology);
    topology_free(topology);
    config_free(config);
    config_errors_fini(&errors);
    return status;
}

/* ---- the table ---- */

static void print_stage(const json_t *stage) {
    static const char *const keys[] = {"in", "created", "out", "filtered", "late", "dead", "dropped", "held"};
    printf("%-20s %-10s", text_member(stage, "name"), text_member(stage, "tool"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        printf(" %11lld", (long long) json_integer_value(json_object_get(stage, keys[i])));
    bool known = json_is_true(json_object_get(stage, "known"));
    const char *verdict = text_member(stage, "verdict");
    bool wrong = strcmp(verdict, "wrong") == 0, open = strcmp(verdict, "unknown") == 0;
    printf("  %s%s\n", wrong ? "WRONG: " : open ? "cannot be told: " : known ? "balanced" : "never ran", text_member(stage, "text"));
}

static void print_link(const json_t *link) {
    const json_t *from;
    size_t i;
    long long way = (long long) json_integer_value(json_object_get(link, "under_way"));
    const char *verdict = text_member(link, "verdict"), *text = text_member(link, "text");
    json_array_foreach(json_object_get(link, "from"), i, from)
        printf("%s%s", i ? ", " : "", json_string_value(from));
    printf(" -> %s: %lld sent, %lld received", text_member(link, "to"), (long long) json_integer_value(json_object_get(link, "sent")),
           (long long) json_integer_value(json_object_get(link, "received")));
    if (strcmp(verdict, "moving") == 0)
        printf(", %lld under way (%s)\n", way, text);
    else
        printf("%s%s%s\n", strcmp(verdict, "wrong") == 0 ? ", WRONG: " : strcmp(verdict, "unknown") == 0 ? ", cannot be told: " : ", balanced",
               "", text);
}

static void print_report(const json_t *report) {
    const json_t *item;
    size_t i;
    printf("%-20s %-10s %11s %11s %11s %11s %11s %11s %11s %11s  %s\n", "STAGE", "TOOL", "IN", "CREATED", "OUT", "FILTERED", "LATE", "DEAD",
           "DROPPED", "HELD", "IN + CREATED = ALL OTHERS");
    json_array_foreach(json_object_get(report, "stages"), i, item)
        print_stage(item);
    putchar('\n');
    json_array_foreach(json_object_get(report, "links"), i, item)
        print_link(item);
}

/* The hop at which it goes wrong first, from the sources on. */
static void print_verdict(const json_t *report, audit_verdict_t verdict) {
    static const char *const lists[] = {"stages", "links"};
    const json_t *item;
    size_t i;
    if (verdict == AUDIT_BALANCED)
        puts("\nEvery event is accounted for.");
    if (verdict == AUDIT_MOVING)
        puts("\nEvery event is accounted for; some are under way.");
    for (size_t list = 0; list < 2 && verdict >= AUDIT_UNKNOWN; list++)
        json_array_foreach(json_object_get(report, lists[list]), i, item)
            if (strcmp(text_member(item, "verdict"), audit_verdict_names[verdict]) == 0)
                command_failed("%s %s: %s", verdict == AUDIT_WRONG ? "not balanced:" : "cannot be balanced:",
                               text_member(item, list ? "to" : "name"), text_member(item, "text"));
}

int command_audit(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    char *run_dir = NULL;
    bool json = command_flag(&argc, argv, NULL, "--json");
    if (target_parse(&target, argc, argv, &err))
        return command_usage("audit", "%s", err.text);
    if (target.stage)
        return command_usage("audit", "%s is not a configuration", target.stage);
    bool file = target.config || access("config.json", F_OK) == 0;
    if (target_run_dir(&target, &run_dir, &err) && !file)
        return command_failed("%s", err.text);
    if (!run_dir)
        run_dir = rundir_path(target_config(&target));
    audit_t *audit = audit_new();
    int status = 0;
    if (!rundir_holder(run_dir))
        status = read_stopped(audit, target_config(&target), run_dir);
    else if (read_running(audit, run_dir, &err))
        status = command_failed("%s", err.text);
    if (status == 0) {
        json_t *report;
        audit_verdict_t verdict = audit_conclude(audit, &report);
        if (json) {
            json_dumpf(report, stdout, JSON_INDENT(2));
            putchar('\n');
        } else {
            print_report(report);
            fflush(stdout);
            print_verdict(report, verdict);
        }
        status = verdict >= AUDIT_UNKNOWN ? EXIT_FAILURE : 0;
        json_decref(report);
    }
    audit_free(audit);
    mem_free(run_dir);
    return status;
}
