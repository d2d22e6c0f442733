#ifndef STREAMCTL_RUNDIR_H
#define STREAMCTL_RUNDIR_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "data/option.h"

/* The run directory of one configuration: RUN/lock, control.sock, STAGE.metrics, STAGE.log, l/ for links. Its name follows from the
 * configuration's real path alone, so that a second instance on the same file meets the first one's lock. */

/* Where all of a user's run directories are: $XDG_RUNTIME_DIR/streamctl, /run/streamctl for root, else /tmp/streamctl-UID. */
char *rundir_base(void);
/* Of a configuration file. The caller frees. The file need not exist any more. */
char *rundir_path(const char *config_path);

/* Makes it, 0700; a directory that belongs to someone else is refused. */
int rundir_make(const char *path, err_t *err);
/* Takes away what a former instance left: links, sockets, metrics. Logs stay. */
void rundir_clean(const char *path);

/* Remembers which configuration it belongs to, and reads that back (NULL when unknown; the caller frees). */
int rundir_note(const char *path, const char *config_path, err_t *err);
char *rundir_config(const char *path);

/* The pid of the supervisor that runs there, or 0. */
pid_t rundir_holder(const char *path);
/* All directories below the base in which a supervisor runs. */
void rundir_running(option_list_t *paths);
void rundir_list_fini(option_list_t *paths);

#endif
