#ifndef STREAMCTL_CLIENT_H
#define STREAMCTL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* The command line's side of the control socket, and which instance a command means. */

/* What the words of a command line name: a configuration (something that is or looks like a file) and a stage. */
typedef struct target {
    const char *config;               /* NULL: none was given */
    const char *stage;                /* NULL: none was given */
} target_t;
int target_parse(target_t *target, int argc, char **argv, err_t *err);

/* The run directory that is meant: of the given configuration; else of ./config.json; else of the only running instance. The caller frees. */
int target_run_dir(const target_t *target, char **run_dir, err_t *err);
const char *target_config(const target_t *target);    /* "config.json" when none was given */

/* Sends one request to the instance in run_dir and returns its reply, whether it is "ok" or not; NULL with the error when nothing runs there.
 * With wait_end: returns only when the supervisor has gone. The request is taken. */
json_t *client_ask(const char *run_dir, json_t *request, bool wait_end, err_t *err);

#endif
