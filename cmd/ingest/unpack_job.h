#ifndef INGEST_UNPACK_JOB_H
#define INGEST_UNPACK_JOB_H

#include "net/loop.h"
#include "unpack.h"

/* Work on what a compressed file holds, which may be much: done from the loop, a piece a turn. Of the jobs of one queue one is done at a time, in the
 * order in which they came, as what takes a file apart takes memory. */
typedef struct unpack_queue unpack_queue_t;
typedef struct unpack_job unpack_job_t;

unpack_queue_t *unpack_queue_new(loop_t *loop);
void unpack_queue_free(unpack_queue_t *queue);        /* its jobs are freed before; NULL is legal */

typedef struct unpack_task {
    int fd;                        /* of the compressed file; stays the caller's, until the job is freed and what it gave away with it */
    const char *path;              /* for messages; copied */
    bool expand;                   /* what it holds is written to a file without a name in $TMPDIR (/var/tmp), last written to at the same time */
    const filemark_t *mark;        /* copied. A place that the job ends at when it fits; NULL: it ends where the file does */
    bool only_mark;                /* it ends there in any case */
    void (*done)(void *argument);  /* from the loop. May free the job */
    void *argument;
} unpack_task_t;

unpack_job_t *unpack_job_new(unpack_queue_t *queue, const unpack_task_t *task);
void unpack_job_free(unpack_job_t *job);              /* at any time; NULL is legal */

/* What came of it. */
bool unpack_job_done(const unpack_job_t *job);        /* else none of the following means anything */
bool unpack_job_fits(const unpack_job_t *job);        /* it holds what the mark was made of, and came to the place */
/* All was gone through: how many bytes it holds, and those that a mark of all of it is made of. NULL: it is damaged, cut off or none at all, or the place
 * was come to before. */
const filetrace_t *unpack_job_whole(const unpack_job_t *job, uint64_t *size);
int unpack_job_file(const unpack_job_t *job);         /* another descriptor of the expanded file, the caller's. -1: there is none, which was told */
/* The reading of the file, at the mark that fits, and what is known of the bytes before: the caller's. */
unpack_t *unpack_job_take(unpack_job_t *job, filetrace_t *trace);

#endif
