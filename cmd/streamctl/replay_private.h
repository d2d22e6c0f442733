#ifndef STREAMCTL_REPLAY_PRIVATE_H
#define STREAMCTL_REPLAY_PRIVATE_H

#include "replay.h"

/* What becomes of one file of dead letters: parts that are sent each by an ingest of its own. Prepared once, and then the same whatever happens. */
typedef struct replay_part {
    char *name;                       /* "events", "text", "sink-NAME" */
    char *file;                       /* DIRECTORY/NAME.ndjson; for text: NAME with the ending of the source's file */
    uint64_t letters;
} replay_part_t;

typedef struct replay_parts {
    replay_part_t *items;
    size_t count;
    uint64_t unusable;                /* letters, in DIRECTORY/unusable */
} replay_parts_t;

/* Splits the letters in `file` into `directory`, or reads what an earlier call made of them there. */
int replay_parts_open(replay_parts_t *parts, const replay_t *replay, const topology_stage_t *stage, const char *file, const char *directory,
                      err_t *err);
void replay_parts_fini(replay_parts_t *parts);

/* What the part's ingest is told, without secrets of the source's. NULL: its receiver does not exist any more. The reference is the caller's. */
json_t *replay_part_settings(const replay_t *replay, const topology_stage_t *stage, const replay_part_t *part, const char *directory, err_t *err);
/* The groups that get it; NULL-terminated, borrowed names, mem_free the list. */
const char **replay_part_groups(const replay_t *replay, const topology_stage_t *stage, const replay_part_t *part);

/* Gives the letters in `dead`, of text that an ingest could not read, the places of the letters in `file` that the text came from; those of text
 * that is cut in another way now have none. Calling it again changes nothing. */
int replay_places_restore(const char *dead, const char *file, err_t *err);

#endif
