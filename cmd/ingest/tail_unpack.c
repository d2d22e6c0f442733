/* Compressed files of a tail, which are gone through or expanded while the loop goes on. Whoever needs to know of one asks; as long as that is not known
 * tail->unpacking is set, and he asks again, from his beginning, when on_turn comes. Names may change meanwhile: a file is known by its number. */
#include <fcntl.h>
#include <unistd.h>

#include "base/memory.h"
#include "tail_private.h"

struct tail_job {
    tail_job_t *next;
    dev_t device;
    ino_t inode;
    bool expand;
    int fd;
    unpack_job_t *job;
};

static void on_done(void *argument) {
    tail_t *tail = argument;
    tail->unpacking = false;
    tail_schedule(tail);
}

static tail_job_t *find(const tail_t *tail, const struct stat *status, bool expand) {
    tail_job_t *job = tail->jobs;
    while (job && !(job->device == status->st_dev && job->inode == status->st_ino && job->expand == expand))
        job = job->next;
    return job;
}

unpack_job_t *tail_unpack(tail_t *tail, int fd, const char *name, bool expand, const filemark_t *mark) {
    struct stat status;
    if (fstat(fd, &status))
        return NULL;
    tail_job_t *job = find(tail, &status, expand);
    if (!job) {
        job = mem_zero(sizeof *job);
        job->device = status.st_dev;
        job->inode = status.st_ino;
        job->expand = expand;
        job->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        unpack_task_t task = {.fd = job->fd, .path = name, .expand = expand, .mark = mark, .done = on_done, .argument = tail};
        job->job = unpack_job_new(tail->unpack, &task);
        job->next = tail->jobs;
        tail->jobs = job;
    }
    if (unpack_job_done(job->job))
        return job->job;
    tail->unpacking = true;
    return NULL;
}

void tail_unpacked(tail_t *tail) {
    while (tail->jobs) {
        tail_job_t *job = tail->jobs;
        tail->jobs = job->next;
        unpack_job_free(job->job);
        if (job->fd >= 0)
            close(job->fd);
        mem_free(job);
    }
    tail->unpacking = false;
}

bool tail_disown_packed(tail_t *tail) {
    for (tail_job_t *job = tail->jobs; job; job = job->next) {
        if (!unpack_job_done(job->job)) {
            tail->unpacking = true;
            return false;
        }
    }
    for (tail_job_t *job = tail->jobs; job; job = job->next) {
        uint64_t size;
        const filetrace_t *trace = unpack_job_whole(job->job, &size);
        if (trace)
            tail_remember(tail, trace, job->device, job->inode, size);
    }
    tail_unpacked(tail);
    tail->disowning = false;
    return true;
}
