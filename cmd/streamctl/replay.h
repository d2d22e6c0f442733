#ifndef STREAMCTL_REPLAY_H
#define STREAMCTL_REPLAY_H

#include <stdint.h>

#include "topology.h"

/* Dead letters sent again, each exactly once. The stage hands its file over (when nothing in it can be taken back any more); its letters
 * become input of an ingest with state of its own, which sends them into the side input of who is to have them; when all is durable there, the
 * file goes. Each step can be interrupted, and the next replay goes on with it. */

typedef struct replay {
    const config_t *config;
    const topology_t *topology;
    bool resume;                      /* only what an earlier replay has begun to send */
} replay_t;

typedef struct replay_result {
    uint64_t letters, sent;           /* taken; events that came of them */
    uint64_t again, unusable;         /* could not be read this time either; hold nothing that could be sent */
} replay_result_t;

/* All of one stage's letters, as they are now. It must run, and so must those that get them. */
int replay_stage(const replay_t *replay, const topology_stage_t *stage, replay_result_t *result, err_t *err);

/* At most one replay at a time: the lock's descriptor, or -1. */
int replay_lock(const replay_t *replay, err_t *err);

/* Of state_dir/replayed: how many events were sent again into a group, those of unfinished replays included. */
uint64_t replay_total(const json_t *totals, const char *group);
/* Some of them are those of an unfinished replay, which may not have been sent. */
bool replay_is_open(const json_t *totals, const char *group);
/* The stage of a replay that has begun to send and has not come to its end, or NULL. The caller frees. */
char *replay_unfinished(const char *state_dir);
json_t *replay_totals(const char *state_dir);         /* never NULL; the reference is the caller's */

#endif
