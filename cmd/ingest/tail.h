#ifndef INGEST_TAIL_H
#define INGEST_TAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "filemark.h"
#include "net/loop.h"
#include "unpack_job.h"

/* Follows a file by its name, as `tail -F` does, over everything that happens to log files: it grows, is renamed and begun
 * anew, is copied and truncated, is deleted and made again, or is not there yet. Woken by inotify, never by polling. The
 * renamed file is read to its end before the new one begins. */
typedef struct tail tail_t;

typedef struct tail_setup {
    loop_t *loop;
    const char *path;              /* copied */
    bool from_end;                 /* what is in the file at the start is passed over */
    int64_t rotate_wait;           /* ns without anything new before a renamed file that its writer still has open is given up */
    /* Uses bytes from the front and returns how many; called again when there are more, or after tail_resume. at_end: this file
     * is complete, what is left is its last record; called until all or nothing is used. */
    size_t (*data)(void *argument, const char *data, size_t size, bool at_end);
    void (*begin)(void *argument);                        /* another file, or this one from its beginning */
    void (*missing)(void *argument, const char *reason);  /* there is no file now; it is waited for */
    void (*idle)(void *argument);      /* nothing more is there for now; may be NULL */
    /* One of many, which come and go: it is restored in any case, and inotify is an instance of the caller's, for this tail alone until it is
     * freed, as closing one takes long. */
    bool lent;
    int inotify;
    listing_t *listing;                /* of the file's directory, which others look into as well; borrowed. NULL: one of its own */
    unpack_queue_t *unpack;        /* whose turn it is to expand compressed files; borrowed. NULL: one of its own */
    void (*restored)(void *argument, bool found);         /* what tail_restore was to tell later, before any data */
    bool (*foreign)(void *argument, const char *name);    /* this name in the directory is never one of a rotated file of ours; may be NULL */
    void *argument;
} tail_setup_t;

tail_t *tail_new(const tail_setup_t *setup, err_t *err);             /* paused. Fails when the directory is there and cannot be watched */
void tail_pause(tail_t *tail);                        /* legal inside data */
void tail_resume(tail_t *tail);

/* For one of many: the path of the directory may lead to another one now. */
void tail_moved(tail_t *tail);

void tail_again(tail_t *tail);                        /* offers what data left once more */

/* Where reading stands. During data: before that call. False: in no file; the rest counts all the same. */
#define TAIL_FINISHED 8
typedef struct tail_position {
    filemark_t mark;
    int64_t modified;              /* when that file was last written to: those changed later come after it */
    filemark_t finished[TAIL_FINISHED];    /* files read to their ends before, oldest first: they are not read again */
    unsigned finished_count;
} tail_position_t;
bool tail_position(const tail_t *tail, tail_position_t *position);
/* Before the first tail_resume: goes on there, in the file of that name or, when it was renamed or copied and truncated meanwhile, in whichever
 * file of the directory it is now; then come those that were rotated since, and the named one. GONE: then only these. LATER: compressed files have
 * to be gone through for that, from the loop; until then there is no position, and `restored` is called. */
typedef enum tail_found { TAIL_GONE, TAIL_FOUND, TAIL_LATER } tail_found_t;
tail_found_t tail_restore(tail_t *tail, const tail_position_t *position);

/* All is read, and nothing is waited for but changes: a tail that is made later, and restored, goes on as this one would. */
bool tail_quiet(const tail_t *tail);

/* Reads from the beginning of the current file; the number of bytes. */
size_t tail_beginning(const tail_t *tail, void *out, size_t size);

void tail_free(tail_t *tail);                         /* NULL is legal */

#endif
