#ifndef NET_SPOOL_H
#define NET_SPOOL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/text.h"
#include "data/frame.h"
#include "net/loop.h"

/* The durable log of a stage that has --state: records of a frame, or of a note, or of both, in segments on disk. Frames are numbered
 * from 1 without a gap, and keep their numbers over restarts; notes are the owner's (a source's position, the order of inputs) and opaque here.
 * Records that belong together are written as a group: after a crash it is there whole or not at all. streamctl(1), "spool", draws the format.
 *
 * One process owns a directory at a time. What is written has been given to the operating system: it outlives the death of the
 * process. What is synced outlives the loss of power. */
typedef struct spool spool_t;

#define SPOOL_NOTE_MAX (64u * 1024 * 1024)

typedef enum spool_sync { SPOOL_ALWAYS, SPOOL_INTERVAL, SPOOL_NONE } spool_sync_t;
typedef enum spool_full { SPOOL_BLOCK, SPOOL_DROP_OLDEST, SPOOL_DROP_NEWEST } spool_full_t;

typedef struct spool_setup {
    loop_t *loop;
    const char *directory;             /* made when missing (its parent exists) */
    const char *name;                  /* the stage's: part of the origin of a new spool */
    spool_sync_t sync;
    int64_t sync_interval;             /* ns: with SPOOL_INTERVAL unsynced records are synced after so long, or sooner when there is much */
    uint64_t limit;                    /* bytes on disk at most */
    spool_full_t full;                 /* what becomes of more */
    bool renewed;                      /* notes are stated anew by those to come, so that they alone never make it full */
    size_t frame_max;                  /* 0: FRAME_MAX_DEFAULT */
    /* From the loop; may be NULL, except written. */
    void (*written)(void *argument);   /* spool_written advanced after it could not at once (disk full, SPOOL_ALWAYS), or can be read at last */
    void (*synced)(void *argument);    /* spool_synced advanced */
    void (*room)(void *argument);      /* spool_room became true */
    void (*dropped)(void *argument, uint64_t events, const char *reason);    /* by SPOOL_DROP_*, whole groups or segments */
    /* Before anything is written: the path of something else that has to be written first and cannot be now (*error: errno); NULL: nothing has to. Groups
     * wait for it as for the log's own disk. */
    const char *(*blocked)(void *argument, int *error);
    void (*trouble)(void *argument, const char *reason);   /* it cannot write at present (disk full, ...): tried again until it works; NULL: it works again */
    void *argument;
} spool_setup_t;

/* Who this spool is as a sender on links. A sender that may have lost records which it had sent (power cut) goes on in a new epoch, and
 * says which epochs that continues, up to which number. */
typedef struct spool_identity {
    char origin[FRAME_ORIGIN_MAX + 1];
    uint64_t epoch;
    frame_past_t past[FRAME_PAST_MAX]; /* latest first */
    unsigned past_count;
} spool_identity_t;

/* Opens or makes. A torn tail and an unfinished group are cut off. When the machine was started anew since (unless SPOOL_ALWAYS), a new
 * epoch is begun that continues the last. Fast however much is in it: earlier segments are looked at when they are read. */
int spool_open(spool_t **spool, const spool_setup_t *setup, err_t *err);
const spool_identity_t *spool_identity(const spool_t *spool);
/* Up to which number that epoch of ours has the frames that the present one has; 0: not one of ours. */
uint64_t spool_common(const spool_t *spool, uint64_t epoch);

/* Writing. Records between begin and commit are one group; spool_add returns the record's index (from 1; grows with each record), its
 * frame's number goes to *number (0: no frame). With SPOOL_DROP_NEWEST and no room a group with a frame is dropped whole, its notes too: spool_add
 * then returns 0 for it and what follows. Commit writes; what cannot be written now is kept in memory and tried again. Notes up to SPOOL_NOTE_MAX. */
void spool_begin(spool_t *spool);
uint64_t spool_add(spool_t *spool, text_t note, frame_t *frame, uint64_t *number);    /* frame: may be NULL; takes its own reference */
void spool_commit(spool_t *spool);
void spool_flush(spool_t *spool);                      /* writes what waits, as far as it can; asks `blocked` first */
void spool_ended(spool_t *spool);                      /* little more will come: files kept for it are removed, while receivers are busy with the rest */
bool spool_room(const spool_t *spool);                 /* false: over the limit (SPOOL_BLOCK), or something could not be written */

uint64_t spool_index(const spool_t *spool);            /* of the last record, 0: none ever */
uint64_t spool_number(const spool_t *spool);           /* of the last frame added */
uint64_t spool_written(const spool_t *spool);          /* number of the last frame that may be sent (SPOOL_ALWAYS: that is synced) */
uint64_t spool_synced(const spool_t *spool);           /* index of the last record that is synced; SPOOL_NONE: that is written */
uint64_t spool_lowest(const spool_t *spool);           /* number of the oldest frame that is still there, or number + 1 */
uint64_t spool_bytes(const spool_t *spool);            /* on disk */
uint64_t spool_limit(const spool_t *spool);            /* bytes on disk at most */
uint64_t spool_damages(const spool_t *spool);          /* met by its cursors */
void spool_sync_start(spool_t *spool);                 /* all that is written, soon: synced() tells. Nothing while that is under way */
void spool_sync(spool_t *spool);                       /* all that is written, now and waiting: at the end */

/* Records up to this index and frames up to this number are of no more use: segments that hold nothing else are removed. */
void spool_release(spool_t *spool, uint64_t index, uint64_t number);
/* Restores: forgets all records after `index`. When frames were among them a new epoch is begun. Only before the first spool_begin. */
int spool_truncate(spool_t *spool, uint64_t index, err_t *err);

/* Reading. A cursor stays valid over writing and releasing (it then goes on with the oldest that is there). */
typedef struct spool_record {
    uint64_t index, number;            /* number 0: no frame */
    text_t note;                       /* valid until the next call with this cursor */
    frame_t *frame;                    /* the caller's reference; NULL: none. Its epoch, origin and sequence are not set; sequence is its number */
} spool_record_t;
typedef struct spool_cursor spool_cursor_t;
spool_cursor_t *spool_cursor_new(spool_t *spool);
void spool_cursor_free(spool_cursor_t *cursor);        /* before the spool; NULL is legal */
void spool_seek_index(spool_cursor_t *cursor, uint64_t index);        /* the next record is the first with at least this index */
void spool_seek_number(spool_cursor_t *cursor, uint64_t number);      /* the next record with a frame is the first with at least this number */
/* The next record that is written, and can be read. 1; 0: none yet; -1: damaged (counted; *err names segment and offset). */
int spool_next(spool_cursor_t *cursor, spool_record_t *record, err_t *err);
int spool_last(spool_t *spool, spool_record_t *record, err_t *err);   /* the last record of all, its note valid until the next call; 0 when empty */

void spool_close(spool_t *spool);                      /* syncs first unless SPOOL_NONE; NULL is legal */

/* The origin of the spool in this directory, whose owner is known not to run. False: there is none that can be read. */
bool spool_origin(const char *directory, char origin[FRAME_ORIGIN_MAX + 1]);

/* For streamctl spool: looks at a directory that may be in use, or repairs one that is not. Prints to `out`; returns the number of damages, -1 with *err. */
int spool_list(const char *directory, FILE *out, err_t *err);
int spool_check(const char *directory, FILE *out, err_t *err);
/* Events as NDJSON, "@stream" on those of other streams than the spool's own; or, with notes, a line for each record: index, number, topic, note. *err
 * tells of the last damage. */
int spool_print(const char *directory, bool notes, FILE *out, err_t *err);
/* What is in it, read whole. 0; 1: it is damaged (*err says where, `number` is the last frame before that); -1 with *err. */
typedef struct spool_content {
    bool used;                         /* by a process now: nothing else is said */
    uint64_t lowest, number;           /* of the first frame that is there, and of the last; lowest above number: none is */
} spool_content_t;
int spool_content(const char *directory, spool_content_t *content, err_t *err);
int spool_repair(const char *directory, FILE *out, err_t *err);       /* cuts off from the first damage; what is cut off is kept beside, as .damaged */

#endif
