#ifndef BROADCAST_PROGRESS_H
#define BROADCAST_PROGRESS_H

#include "sink.h"

/* With --state: DIR/progress, which tells after a crash how far everything had come: each sender's frames, each sink, the sinks' own
 * positions (lengths of files), the ledger, the dead letters.
 *
 * "Live" is written whenever sinks have answered, after their data: what it says is true when this process is killed. "Synced" is written
 * after the data was synced, and only what it covers is acknowledged to senders: it counts when the machine has been started anew since. */
typedef struct progress progress_t;

/* Reads what the last run left, and gives it to ledger, dead letters, deliveries and sinks. Before the sinks are opened. */
int progress_open(progress_t **progress, stage_t *stage, deliveries_t *deliveries, sink_t **sinks, size_t sink_count, err_t *err);
/* The sinks are open: where they stand is made durable, and the inputs are told where to go on. Where all of them had ended and the last run
 * was killed before it had left, the stage ends as that one would have. */
int progress_begin(progress_t *progress, err_t *err);
void progress_touch(progress_t *progress);            /* something has moved: written at the end of the loop's round */
void progress_hurry(progress_t *progress);            /* likewise, and it is synced at once */
/* What is written from now on says that this run has done all that it had to: the next one is not to end where it ended. */
void progress_over(progress_t *progress);
/* Writes it now; durable: waits until data and progress are on the disk as well (not with --sync none). */
int progress_commit(progress_t *progress, bool durable, err_t *err);
const char *progress_trouble(const progress_t *progress);             /* why it cannot be written at present, or NULL */
void progress_close(progress_t *progress);            /* NULL is legal */

#endif
