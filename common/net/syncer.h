#ifndef NET_SYNCER_H
#define NET_SYNCER_H

#include "net/loop.h"

/* A thread that waits for the disk so that the loop does not: each order is an fdatasync of some descriptors, one after the other. */
typedef struct syncer syncer_t;
typedef void syncer_fn(void *argument, int error);    /* 0, or errno of the first descriptor that could not be synced */

/* The thread begins with the first order. */
syncer_t *syncer_new(loop_t *loop);

/* Orders are carried out in order; the callback comes from the loop, or from syncer_wait. The descriptors (a directory's too) stay open until then. */
void syncer_sync(syncer_t *syncer, const int *fds, unsigned count, syncer_fn *callback, void *argument);

/* Blocks until nothing is under way, what callbacks order meanwhile included; calls their callbacks. */
void syncer_wait(syncer_t *syncer);

/* Waits for the order under way; no callbacks are called any more. NULL is legal. */
void syncer_free(syncer_t *syncer);

#endif
