#ifndef STREAMCTL_ORPHANS_H
#define STREAMCTL_ORPHANS_H

#include <sys/types.h>

#include "base/err.h"

/* Processes that a supervisor which was killed left behind. The kernel kills its stages with it, but what a stage has started itself
 * may go on, and hold the stage's state or links. Every process is noted in RUN/STAGE.pid together with the time of its start, so that a
 * number that meanwhile means another process is never touched. */

void orphan_note(const char *run_dir, const char *stage, pid_t pid);
void orphan_forget(const char *run_dir, const char *stage);

/* Kills what is noted there and still lives, with its session, and waits until it is gone. Only with the run directory's lock held. */
int orphans_end(const char *run_dir, err_t *err);

#endif
