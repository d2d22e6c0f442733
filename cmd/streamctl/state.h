#ifndef STREAMCTL_STATE_H
#define STREAMCTL_STATE_H

#include "topology.h"

/* state_dir as streamctl sees it: a directory for each stage, whose content is the stage's own business; a lock, so that two
 * instances do not share it; and what each stage's state was made by, so that `check` can say that a change will not fit it. */

/* Makes the directories, 0700, and takes the lock (-1 in *lock without a state_dir). */
int state_take(const topology_t *topology, const char *state_dir, int *lock, err_t *err);

/* What the stages (one of them, or a pipeline's workers, when `only` is not NULL) have there; bytes may be NULL. */
bool state_exists(const topology_t *topology, const char *only, uint64_t *bytes);
/* Deletes it, but for dead letters. Only with the lock held. A single stage's numbers then begin at 0 while others' go on: that is noted. */
int state_reset(const topology_t *topology, const char *state_dir, const char *only, err_t *err);
bool state_was_reset(const char *stage_directory);

/* The stage runs: its state fits what it is configured to be. */
void state_note(const topology_stage_t *stage);
/* False: its state was made by something else; *what names it ("program", "source"). */
bool state_fits(const topology_stage_t *stage, const char **what);

/* The ledger that a stopped instance left (audit_save): written (the value is taken), and read back: NULL, with the reason. One that runs has none. */
int state_ledger_write(const char *state_dir, json_t *ledger, err_t *err);
json_t *state_ledger_read(const char *state_dir, err_t *err);
void state_ledger_remove(const char *state_dir);

#endif
