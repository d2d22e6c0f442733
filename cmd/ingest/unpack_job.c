/* Going through compressed files from the loop. A job reads what its file holds, compares, and writes it down if that is wanted; whose turn it is does
 * a piece in each round. */
#include "unpack_job.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#define PIECE (64u * 1024)
#define TURN (4 * PIECE)               /* a millisecond's work */

struct unpack_job {
    unpack_queue_t *queue;
    unpack_job_t *next;
    unpack_task_t task;
    char *path;
    filemark_t mark;
    bool compares;                     /* there is a mark, and the file begins as it says */
    unpack_t *unpack;                  /* NULL: its turn has not come, or it is over */
    int out;
    uint64_t at;
    filetrace_t trace;
    bool begun, done, fits, whole;
};

struct unpack_queue {
    loop_t *loop;
    unpack_job_t *first;
    uint8_t piece[PIECE];
};

static void on_turn(void *argument);

unpack_queue_t *unpack_queue_new(loop_t *loop) {
    unpack_queue_t *queue = mem_zero(sizeof *queue);
    queue->loop = loop;
    return queue;
}

void unpack_queue_free(unpack_queue_t *queue) {
    if (!queue)
        return;
    ASSERT(!queue->first);
    loop_undefer(queue->loop, on_turn, queue);
    mem_free(queue);
}

unpack_job_t *unpack_job_new(unpack_queue_t *queue, const unpack_task_t *task) {
    unpack_job_t *job = mem_zero(sizeof *job), **link = &queue->first;
    job->queue = queue;
    job->task = *task;
    job->path = mem_text(task->path);
    job->out = -1;
    if (task->mark)
        job->mark = *task->mark;
    while (*link)
        link = &(*link)->next;
    *link = job;
    loop_defer(queue->loop, on_turn, queue);
    return job;
}

static void unqueue(unpack_job_t *job) {
    for (unpack_job_t **link = &job->queue->first; *link; link = &(*link)->next) {
        if (*link != job)
            continue;
        *link = job->next;
        break;
    }
}

static void close_out(unpack_job_t *job) {
    if (job->out >= 0)
        close(job->out);
    job->out = -1;
}

void unpack_job_free(unpack_job_t *job) {
    if (!job)
        return;
    unqueue(job);
    unpack_free(job->unpack);
    close_out(job);
    mem_free(job->path);
    mem_free(job);
}

/* ---- the work ---- */

static const char *directory(void) {
    const char *given = getenv("TMPDIR");
    return given && *given ? given : "/var/tmp";
}

static void tell_unwritten(const unpack_job_t *job, const err_t *err) {
    log_error("%s: it cannot be expanded in %s, so that it is not read: %s", job->path, directory(), err->text);
}

/* False: there is nothing to be done. */
static bool begin(unpack_job_t *job) {
    err_t err;
    uint8_t head[FILEMARK_HEAD];
    job->begun = true;
    job->unpack = unpack_new(job->task.fd);
    job->compares = job->task.mark && filemark_begins(&job->mark, head, unpack_head(job->task.fd, head));
    if (!job->unpack || (job->task.only_mark && !job->compares))
        return false;
    if (!job->task.expand)
        return true;
    job->out = open(directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (job->out < 0) {
        err_errno(&err, "make a file");
        tell_unwritten(job, &err);
        return false;
    }
    log_info("%s: what it holds is written to a file in %s, to be read there", job->path, directory());
    return true;
}

/* The place may have been come to. True: that is the end of the job. */
static bool compare(unpack_job_t *job) {
    if (!job->compares || job->at < job->mark.offset)
        return false;
    job->compares = false;
    job->fits = filetrace_same_place(&job->trace, &job->mark);
    return job->fits || job->task.only_mark;
}

/* The end of the file, or an error. */
static void end(unpack_job_t *job, const char *error) {
    struct stat status;
    job->whole = !error;
    if (error && job->task.expand) /* it may be about to be written, beside the file that it is made from */
        log_warning("%s: %s; it is not read", job->path, error);
    if (error)
        close_out(job);
    if (job->out >= 0 && fstat(job->task.fd, &status) == 0)
        futimens(job->out, (struct timespec[]){status.st_atim, status.st_mtim});
}

static bool keep(unpack_job_t *job, const uint8_t *bytes, size_t size) {
    err_t err;
    filetrace_read(&job->trace, job->at, bytes, size);
    filetrace_used(&job->trace, bytes, size);
    job->at += size;
    if (job->out < 0 || file_write_all(job->out, bytes, size, &err) == 0)
        return true;
    tell_unwritten(job, &err);
    close_out(job);
    return false;
}

/* False: it is done. */
static bool work(unpack_job_t *job) {
    for (size_t done = 0; done < TURN;) {
        const char *error = NULL;
        if (compare(job))
            return false;
        uint64_t left = job->compares ? job->mark.offset - job->at : PIECE;
        ssize_t got = unpack_read(job->unpack, job->queue->piece, left < PIECE ? (size_t) left : PIECE, &error);
        if (got == UNPACK_AGAIN)
            return true;
        if (got <= 0) {
            end(job, error);
            return false;
        }
        if (!keep(job, job->queue->piece, (size_t) got))
            return false;
        done += (size_t) got;
    }
    return true;
}

static void on_turn(void *argument) {
    unpack_queue_t *queue = argument;
    unpack_job_t *job = queue->first;
    if (!job)
        return;
    loop_defer(queue->loop, on_turn, queue);
    if ((job->begun || begin(job)) && work(job))
        return;
    unqueue(job);
    job->done = true;
    if (!job->fits) {
        unpack_free(job->unpack);
        job->unpack = NULL;
    }
    job->task.done(job->task.argument);
}

/* ---- what came of it ---- */

bool unpack_job_done(const unpack_job_t *job) {
    return job->done;
}

bool unpack_job_fits(const unpack_job_t *job) {
    return job->fits;
}

const filetrace_t *unpack_job_whole(const unpack_job_t *job, uint64_t *size) {
    *size = job->at;
    return job->whole ? &job->trace : NULL;
}

int unpack_job_file(const unpack_job_t *job) {
    return job->whole && job->out >= 0 ? fcntl(job->out, F_DUPFD_CLOEXEC, 0) : -1;
}

unpack_t *unpack_job_take(unpack_job_t *job, filetrace_t *trace) {
    unpack_t *unpack = job->unpack;
    ASSERT(job->fits && unpack);
    job->unpack = NULL;
    *trace = job->trace;
    return unpack;
}
