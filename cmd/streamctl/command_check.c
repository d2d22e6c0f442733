/* check: everything that is wrong with a configuration, or that nothing is. */
#include <stdio.h>
#include <sysexits.h>

#include "base/memory.h"
#include "client.h"
#include "command.h"
#include "instance.h"
#include "rundir.h"
#include "state.h"
#include "tools.h"
#include "topology.h"

static const char *plural(size_t n) {
    return n == 1 ? "" : "s";
}

/* The stage itself has the last word; it would say so only when everything else has been started. */
static bool warn_of_state(const config_t *config, const topology_t *topology) {
    const char *what;
    bool fits = true;
    for (size_t i = 0; i < topology->count; i++)
        if (!state_fits(&topology->stages[i], &what)) {
            fits = false;
            printf("%s: warning: %s: its %s has changed since its state in %s was made, and may be refused; 'streamctl reset' deletes it\n",
                   config->path, topology->stages[i].name, what, topology->stages[i].state);
        }
    return fits;
}

bool check_report(const char *path, const config_t *config, const topology_t *topology, const config_errors_t *warnings) {
    printf("%s: ok: %zu source%s, %zu pipeline%s, %zu sink%s, %zu processes\n", path, config->source_count, plural(config->source_count),
           config->pipeline_count, plural(config->pipeline_count), config->sink_count, plural(config->sink_count), topology->count);
    config_errors_print(warnings, path, stdout);
    return warn_of_state(config, topology);
}

static int check_config(const char *path) {
    err_t err = {{0}};
    config_t *config = NULL;
    topology_t *topology = NULL;
    config_errors_t errors = {0}, warnings = {0};
    int status = 0;
    if (tools_load_config(&config, path, &errors, &warnings)) {
        config_errors_print(&errors, path, stderr);
        status = EX_USAGE;
    } else {
        char *run_dir = rundir_path(config->path);
        if (topology_new(&topology, config, run_dir, &err))
            status = command_failed("%s", err.text);
        else
            check_report(path, config, topology, &warnings);
        mem_free(run_dir);
    }
    topology_free(topology);
    config_free(config);
    config_errors_fini(&errors);
    config_errors_fini(&warnings);
    return status;
}

int command_check(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    if (target_parse(&target, argc, argv, &err))
        return command_usage("check", "%s", err.text);
    if (target.stage) /* a file that does not exist and has no ".json" */
        target.config = target.stage;
    return check_config(target_config(&target));
}
