#ifndef STREAMCTL_INSTANCE_H
#define STREAMCTL_INSTANCE_H

#include "stage_log.h"
#include "topology.h"

/* Starts an instance of a configuration in the background and waits until it is ready, or says why not. The exit status.
 * reset: its state is deleted first, after a question unless `yes`. */
int start_background(const char *config_path, bool reset, bool yes);

/* The same in place of the one that has `run_dir`: that is ended by `stop`, which returns an exit status, when the file was found good and
 * what it means would take the state that is there. So the file is read and checked once. */
int replace_background(const char *config_path, const char *run_dir, int (*stop)(const char *run_dir));

/* Shows what a check has found of a configuration without errors. Whether each stage would take the state that it has. */
bool check_report(const char *path, const config_t *config, const topology_t *topology, const config_errors_t *warnings);

#endif
