#ifndef INGEST_TAIL_PRIVATE_H
#define INGEST_TAIL_PRIVATE_H

#include <sys/stat.h>

#include "feed.h"
#include "file_directory.h"
#include "tail.h"

/* What tail.c (following), tail_position.c (finding a place again) and tail_unpack.c (compressed files) share. */
#define TAIL_QUEUE_MAX 64
#define TAIL_RENAMES_MAX 64
#define TAIL_KEPT 64

typedef struct tail_file tail_file_t;
struct tail_file {
    tail_file_t *next;
    int fd, watch;
    dev_t device;
    ino_t inode;
    uint64_t offset;                   /* of the next read */
    int64_t modified;                  /* when it was last written to, as far as known; ns since 1970 */
    filetrace_t trace;
    bool rotated;                      /* no longer the file of that name */
    bool packed;                       /* what a compressed file held: nothing will be written to it */
    bool cut;                          /* it was truncated: whether there is a copy is still to be found out */
    bool closed;                       /* its writer has closed it since, or nothing came for rotate_wait */
};

/* A rename of a file of our name: between its two events, or since until the file is found. */
typedef struct tail_rename {
    uint32_t cookie;                   /* of the half that is still to come; 0: none */
    char *name;                        /* where it is now; NULL: not known yet */
} tail_rename_t;

typedef struct tail_job tail_job_t;

typedef enum tail_finish { FINISH_NOT, FINISH_RESTART, FINISH_NEXT } tail_finish_t;

struct tail {
    tail_setup_t setup;
    char *path, *directory;
    const char *base;                  /* in path */
    listing_t *listing;
    unpack_queue_t *unpack;
    tail_job_t *jobs;
    bool unpacking;                    /* one of them has to be done before it goes on */
    bool disowning;                    /* they are of files that were there before we came */
    tail_position_t *restoring;        /* the place that is still to be found; or NULL */
    int inotify;
    file_directory_t place;            /* the directory */
    loop_watch_t *watch, *wait_timer, *retry_timer;
    tail_file_t *files;                /* the first is read; older ones before newer ones */
    unsigned count;
    feed_t feed;
    tail_rename_t renames[TAIL_RENAMES_MAX];    /* oldest first */
    unsigned rename_count;
    filemark_t finished[TAIL_KEPT];/* files that were read to their ends; a ring */
    unsigned finished_next;
    int64_t modified;                  /* of the file that was read last */
    bool paused, unseen, missing_told, queue_full_told;
    bool lacking, looked;              /* there was no file when we last looked; and a while ago, too */
    bool stirred;                      /* names in the directory have changed */
    tail_finish_t finish;              /* the current file's text is complete: what then */
};

/* tail.c */
typedef enum tail_opened { OPENED_NOT, OPENED_NEW, OPENED_KNOWN, OPENED_FULL } tail_opened_t;
/* Opens a file that may be new to us. NEW: it is the caller's to put into the queue. KNOWN: it is there already. NOT: errno. */
tail_opened_t tail_open_file(tail_t *tail, const char *path, tail_file_t **file);
void tail_close_file(tail_t *tail, tail_file_t *file);
void tail_look(tail_t *tail);                         /* what is the file of that name now? */
void tail_read_events(tail_t *tail);
void tail_forget(tail_t *tail);                       /* all files and renames */
void tail_remember_finished(tail_t *tail, const tail_file_t *file, uint64_t offset);
void tail_remember(tail_t *tail, const filetrace_t *trace, dev_t device, ino_t inode, uint64_t offset);
void tail_schedule(tail_t *tail);

/* tail_position.c */
/* A name that a rotated file may have: our own with a number or a date behind, or before the ending. */
bool tail_rotated_name(const tail_t *tail, const char *name);
/* These three have to be called again when tail->unpacking is set afterwards: what they find is not all. */
/* A file is begun: were others copied or rotated since the last one whose names were never ours while we looked? True: then they come first. */
bool tail_find_missed(tail_t *tail);
/* The rotated file that is begun was still empty when it was found, and has turned out to be a copy of another in the queue, which will be truncated: it
 * is gone then. */
bool tail_drop_copy(tail_t *tail);
/* Rotated files that were there before we came are not ours, even when they were written to as late as the file of our name. */
void tail_disown_older(tail_t *tail);
/* A file of which everything was read up to some offset goes on from there. */
void tail_pass_over_finished(tail_t *tail, tail_file_t *file);
/* The file was truncated: was it copied before? Then the copy is in the queue before it, to be read on from where the file was read to. */
bool tail_use_copy(tail_t *tail, tail_file_t *file);
tail_found_t tail_restore_again(tail_t *tail);        /* of tail->restoring */

/* tail_unpack.c */
/* What came of going through the compressed file, or expanding it: the job stays the tail's. NULL: that is not known yet (tail->unpacking), or it
 * cannot be. mark: as unpack_task_t has it; the same each time. */
unpack_job_t *tail_unpack(tail_t *tail, int fd, const char *name, bool expand, const filemark_t *mark);
void tail_unpacked(tail_t *tail);                     /* all is known that was asked: forgets the jobs */
bool tail_disown_packed(tail_t *tail);                /* false: later */

#endif
