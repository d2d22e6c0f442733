/* Where a tail stands, and how that place is found again when files were renamed, copied, truncated and made anew meanwhile. What is
 * older and newer is told by the times of the last changes, and files that were read before by their marks. */
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/format.h"
#include "tail_private.h"
#include "unpack.h"

#define CANDIDATES_MAX 256
#define TRIES 20                       /* while the directory is being changed */

/* "-20261124", ".1", "_2026-11-24T10:00" */
static bool is_stamp(const char *text, size_t size) {
    if (size < 2 || !strchr(".-_", *text))
        return false;
    bool digit = false;
    for (size_t i = 0; i < size; i++) {
        if (!strchr("0123456789.-_:TZ", text[i]))
            return false;
        digit |= text[i] >= '0' && text[i] <= '9';
    }
    return digit;
}

static bool has_rotated_form(const char *base, const char *name) {
    const char *ending = strrchr(base, '.');
    size_t packed = format_packed(name), size = strlen(name) - packed, base_size = strlen(base);
    if (packed && size == base_size && memcmp(name, base, base_size) == 0)
        return true;
    if (size > base_size && memcmp(name, base, base_size) == 0 && is_stamp(name + base_size, size - base_size))
        return true;
    if (!ending || ending == base)
        return false;
    size_t stem = (size_t) (ending - base), tail_size = strlen(ending);
    return size > base_size && memcmp(name, base, stem) == 0 && memcmp(name + size - tail_size, ending, tail_size) == 0 &&
           is_stamp(name + stem, size - stem - tail_size);
}

bool tail_rotated_name(const tail_t *tail, const char *name) {
    return has_rotated_form(tail->base, name) && !(tail->setup.foreign && tail->setup.foreign(tail->setup.argument, name));
}

bool tail_position(const tail_t *tail, tail_position_t *position) {
    const tail_file_t *file = tail->files;
    *position = (tail_position_t){.modified = file ? file->modified : tail->modified};
    for (unsigned i = TAIL_KEPT - TAIL_FINISHED; i < TAIL_KEPT; i++) {
        const filemark_t *done = &tail->finished[(tail->finished_next + i) % TAIL_KEPT];
        if (done->inode)
            position->finished[position->finished_count++] = *done;
    }
    if (file)
        filemark_make(&position->mark, &file->trace, file->device, file->inode, file->offset - feed_size(&tail->feed));
    return file != NULL;
}

static const filemark_t *find_finished(const tail_t *tail, dev_t device, ino_t inode) {
    for (unsigned i = TAIL_KEPT; i--;) { /* the latest first */
        const filemark_t *done = &tail->finished[(tail->finished_next + i) % TAIL_KEPT];
        if (done->inode == inode && done->device == device)
            return done;
    }
    return NULL;
}

void tail_pass_over_finished(tail_t *tail, tail_file_t *file) {
    const filemark_t *done = find_finished(tail, file->device, file->inode);
    if (done && filemark_fits(done, file->fd)) {
        file->offset = done->offset;
        filetrace_load(&file->trace, file->fd, file->offset);
    }
}

typedef struct candidate {
    char *name;
    dev_t device;
    ino_t inode;
    uint64_t size;
    int64_t modified;
} candidate_t;

/* app.log.3 is older than app.log.2, but app.log-20261123 older than app.log-20261124. Counts only between equal times. */
static int compare_names(const char *a, const char *b) {
    const char *ends[2], *starts[2];
    for (int i = 0; i < 2; i++) {
        const char *name = i ? b : a, *at = ends[i] = name + strlen(name) - format_packed(name);
        while (at > name && at[-1] >= '0' && at[-1] <= '9')
            at--;
        starts[i] = at;
    }
    ptrdiff_t x = ends[0] - starts[0], y = ends[1] - starts[1];
    if (x && x < 4 && y && y < 4)
        return atoi(starts[1]) - atoi(starts[0]);
    return strcmp(a, b);
}

static int older_first(const void *left, const void *right) {
    const candidate_t *a = left, *b = right;
    if (a->modified != b->modified)
        return a->modified < b->modified ? -1 : 1;
    return compare_names(a->name, b->name);
}

/* The rotated files of the directory, oldest first; returns how many. */
static size_t list_rotated(const tail_t *tail, candidate_t *candidates) {
    const char *ending = strrchr(tail->base, '.');
    size_t count = 0, names, stem = ending && ending != tail->base ? (size_t) (ending - tail->base) : strlen(tail->base);
    const listing_entry_t *entries = listing_find(tail->listing, tail->base, stem, &names);
    for (size_t i = 0; i < names && count < CANDIDATES_MAX; i++) {
        struct stat status;
        if (!tail_rotated_name(tail, entries[i].name))
            continue;
        char *path = mem_format("%s/%s", tail->directory, entries[i].name);
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
            candidates[count++] = (candidate_t){
                .name = mem_text(entries[i].name),
                .device = status.st_dev,
                .inode = status.st_ino,
                .size = (uint64_t) status.st_size,
                .modified = status.st_mtim.tv_sec * NS_PER_S + status.st_mtim.tv_nsec,
            };
        mem_free(path);
    }
    if (count)
        qsort(candidates, count, sizeof *candidates, older_first);
    return count;
}

static void free_candidates(candidate_t *candidates, size_t count) {
    for (size_t i = 0; i < count; i++)
        mem_free(candidates[i].name);
}

static void prepend(tail_t *tail, tail_file_t *file) {
    file->next = tail->files;
    tail->files = file;
    tail->count++;
}

/* The file goes on at an offset; nobody writes to it under our name any more. */
static void set_rotated(tail_t *tail, tail_file_t *file, uint64_t offset) {
    file->rotated = true;
    file->closed = file->packed || file->modified < clock_now() - tail->setup.rotate_wait;
    file->offset = offset;
    filetrace_load(&file->trace, file->fd, offset);
}

static bool is_finished(const tail_t *tail, const candidate_t *candidate) {
    const filemark_t *done = find_finished(tail, candidate->device, candidate->inode);
    return done && done->offset == candidate->size && !format_packed(candidate->name); /* that says nothing of what one holds */
}

/* A compressed one: what it holds is read from here on, and its size is that of the candidate. */
static tail_file_t *expand(tail_t *tail, tail_file_t *file, candidate_t *candidate) {
    struct stat status;
    const unpack_job_t *job = tail_unpack(tail, file->fd, candidate->name, true, NULL);
    int fd = job ? unpack_job_file(job) : -1;
    if (fd < 0 || fstat(fd, &status)) {
        if (fd >= 0)
            close(fd);
        tail_close_file(tail, file);
        return NULL;
    }
    close(file->fd);
    file->fd = fd;
    file->packed = true;
    candidate->size = (uint64_t) status.st_size;
    return file;
}

/* Without opening it as a file of ours. */
static int open_plainly(const tail_t *tail, const candidate_t *candidate) {
    char *path = mem_format("%s/%s", tail->directory, candidate->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    mem_free(path);
    return fd;
}

/* Without opening it: a compressed file that begins in another way need not be expanded. */
static bool may_fit(const tail_t *tail, const filemark_t *mark, const candidate_t *candidate) {
    if (!format_packed(candidate->name))
        return candidate->size >= mark->offset;
    uint8_t head[FILEMARK_HEAD];
    int fd = open_plainly(tail, candidate);
    bool fits = fd >= 0 && filemark_begins(mark, head, unpack_head(fd, head));
    if (fd >= 0)
        close(fd);
    return fits;
}

/* Names change while we look: what is opened has to be what was listed. */
static tail_file_t *open_candidate(tail_t *tail, candidate_t *candidate) {
    tail_file_t *file;
    char *path = mem_format("%s/%s", tail->directory, candidate->name);
    tail_opened_t opened = tail_open_file(tail, path, &file);
    mem_free(path);
    if (opened == OPENED_NOT)
        tail->stirred = true;
    if (opened != OPENED_NEW)
        return NULL;
    if (file->inode == candidate->inode && file->device == candidate->device)
        return format_packed(candidate->name) ? expand(tail, file, candidate) : file;
    tail->stirred = true;
    tail_close_file(tail, file);
    return NULL;
}

/* Opens the first of them that holds what was read. */
static tail_file_t *open_fitting(tail_t *tail, const filemark_t *mark, candidate_t *candidates, size_t count) {
    for (size_t i = 0; i < count && !tail->unpacking; i++) {
        tail_file_t *file;
        if (is_finished(tail, &candidates[i]) || !may_fit(tail, mark, &candidates[i]))
            continue;
        if (!(file = open_candidate(tail, &candidates[i])))
            continue;
        if (filemark_fits(mark, file->fd))
            return file;
        tail_close_file(tail, file);
    }
    return NULL;
}

bool tail_use_copy(tail_t *tail, tail_file_t *file) {
    candidate_t *candidates = mem_alloc(CANDIDATES_MAX * sizeof *candidates);
    tail_position_t position;
    tail_file_t *copy = NULL;
    tail_position(tail, &position);
    for (int i = 0; i < TRIES && !copy && position.mark.head_size; i++) {
        tail->stirred = false;
        size_t count = list_rotated(tail, candidates);
        copy = open_fitting(tail, &position.mark, candidates, count);
        free_candidates(candidates, count);
        tail_read_events(tail);
        if (!tail->stirred || tail->unpacking)
            break;
    }
    mem_free(candidates);
    struct stat status;
    if (tail->unpacking)
        return false;
    tail_unpacked(tail);
    if (!copy)
        return false;
    if (fstat(copy->fd, &status) || (uint64_t) status.st_size <= file->offset) { /* all of it was read */
        tail_remember_finished(tail, copy, file->offset);
        tail_close_file(tail, copy);
        return false;
    }
    set_rotated(tail, copy, file->offset);
    copy->closed = true;
    copy->trace.before_size = file->trace.before_size; /* what is read but not used yet stays in the feed */
    memcpy(copy->trace.before, file->trace.before, file->trace.before_size);
    prepend(tail, copy);
    file->offset = 0;
    file->trace = (filetrace_t){0};
    return true;
}

/* What it holds is gone through before anything is read. */
static void disown_packed(tail_t *tail, const candidate_t *candidate) {
    int fd = open_plainly(tail, candidate);
    if (fd < 0)
        return;
    tail_unpack(tail, fd, candidate->name, false, NULL);
    tail->unpacking = false; /* tail_disown_packed waits for all of them */
    tail->disowning = true;
    close(fd);
}

void tail_disown_older(tail_t *tail) {
    candidate_t *candidates = mem_alloc(CANDIDATES_MAX * sizeof *candidates);
    size_t count = list_rotated(tail, candidates);
    int64_t since = tail->files ? tail->files->modified : count ? candidates[count - 1].modified : 0;
    tail->modified = since;
    for (size_t i = 0; i < count; i++) {
        tail_file_t *file;
        if (candidates[i].modified < since)
            continue;
        if (format_packed(candidates[i].name)) {
            disown_packed(tail, &candidates[i]);
        } else if ((file = open_candidate(tail, &candidates[i]))) {
            tail_remember_finished(tail, file, candidates[i].size);
            tail_close_file(tail, file);
        }
    }
    free_candidates(candidates, count);
    mem_free(candidates);
}

static int64_t modified_of(const tail_file_t *file) {
    struct stat status;
    return fstat(file->fd, &status) ? file->modified : status.st_mtim.tv_sec * NS_PER_S + status.st_mtim.tv_nsec;
}

/* By age; but the file that is being read stays first, and that of our name last. */
static void insert(tail_t *tail, tail_file_t *file) {
    tail_file_t **link = &tail->files;
    while (*link && (*link)->rotated && ((*link)->offset || modified_of(*link) <= file->modified))
        link = &(*link)->next;
    file->next = *link;
    *link = file;
    tail->count++;
}

/* It holds what was read already, of the file that is being read or of one that was read to its end; or what is still to be read, when a file is
 * being copied to be truncated then. */
static bool is_copy(const tail_t *tail, const filemark_t *read, uint64_t size, int fd) {
    filetrace_t trace;
    filemark_t whole;
    if (read && read->head_size && filemark_fits(read, fd))
        return true;
    filetrace_load(&trace, fd, size);
    filemark_make(&whole, &trace, 0, 0, size);
    for (const tail_file_t *file = tail->files; file && size; file = file->next) {
        if (file->fd != fd && filemark_fits(&whole, file->fd))
            return true;
    }
    for (unsigned i = 0; i < TAIL_KEPT; i++) {
        const filemark_t *done = &tail->finished[i];
        if (done->offset && done->offset == size && filemark_fits(done, fd))
            return true;
    }
    return false;
}

bool tail_drop_copy(tail_t *tail) {
    tail_file_t *file = tail->files;
    struct stat status;
    if (!file->rotated || file->offset || fstat(file->fd, &status) || !is_copy(tail, NULL, (uint64_t) status.st_size, file->fd))
        return false;
    tail->files = file->next;
    tail->count--;
    tail_close_file(tail, file);
    return true;
}

/* All that it holds was read before. */
static bool is_packed_finished(const tail_t *tail, const uint8_t *head, size_t head_size, const unpack_job_t *job) {
    uint64_t size;
    const filetrace_t *trace = unpack_job_whole(job, &size);
    for (unsigned i = 0; trace && i < TAIL_KEPT; i++) {
        const filemark_t *done = &tail->finished[i];
        if (done->offset && done->offset == size && filetrace_same_place(trace, done) && filemark_begins(done, head, head_size))
            return true;
    }
    return false;
}

/* The same of a compressed file, before it is expanded: all that it holds was read already, or will be. */
static bool is_packed_copy(tail_t *tail, const filemark_t *read, const candidate_t *candidate) {
    uint8_t head[FILEMARK_HEAD];
    bool copy = false, asks = false;
    int fd = format_packed(candidate->name) ? open_plainly(tail, candidate) : -1;
    if (fd < 0)
        return false;
    size_t head_size = unpack_head(fd, head);
    if (read && !(read->head_size && filemark_begins(read, head, head_size)))
        read = NULL;
    for (unsigned i = 0; !read && !asks && i < TAIL_KEPT; i++)
        asks = tail->finished[i].offset && filemark_begins(&tail->finished[i], head, head_size);
    const unpack_job_t *job = read || asks ? tail_unpack(tail, fd, candidate->name, false, read) : NULL;
    if (job)
        copy = unpack_job_fits(job) || is_packed_finished(tail, head, head_size, job);
    close(fd);
    return copy;
}

/* Puts the rotated files that were written to since then into the queue. `read`: the place that was come to, or NULL. */
static void queue_newer(tail_t *tail, int64_t since, const filemark_t *read, candidate_t *candidates, size_t count) {
    for (size_t i = 0; i < count && !tail->unpacking; i++) {
        tail_file_t *file;
        if (candidates[i].modified < since || is_finished(tail, &candidates[i]) || is_packed_copy(tail, read, &candidates[i]) || tail->unpacking)
            continue;
        if (!(file = open_candidate(tail, &candidates[i])))
            continue;
        if (is_copy(tail, read, candidates[i].size, file->fd)) {
            tail_close_file(tail, file);
            continue;
        }
        set_rotated(tail, file, 0);
        tail_pass_over_finished(tail, file);
        insert(tail, file);
    }
}

bool tail_find_missed(tail_t *tail) {
    candidate_t *candidates = mem_alloc(CANDIDATES_MAX * sizeof *candidates);
    tail_file_t *first = tail->files;
    for (int i = 0; i < TRIES; i++) {
        tail->stirred = false;
        size_t count = list_rotated(tail, candidates);
        queue_newer(tail, tail->modified, NULL, candidates, count);
        free_candidates(candidates, count);
        tail_read_events(tail);
        if (!tail->stirred || tail->unpacking)
            break;
    }
    mem_free(candidates);
    if (!tail->unpacking)
        tail_unpacked(tail);
    return tail->files != first;
}

/* The file that was read, under whatever name; at the head of the queue. */
static tail_file_t *find_read(tail_t *tail, const filemark_t *mark, candidate_t *candidates, size_t count) {
    tail_file_t *named = tail->files, *file = NULL;
    if (!mark->inode)
        return NULL;
    bool fits = named && filemark_fits(mark, named->fd);
    if (fits && named->device == mark->device && named->inode == mark->inode)
        return named;
    int fd = filemark_find(mark, tail->listing);
    if (fd >= 0) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd); /* this very file, whatever its name is by now */
        if (tail_open_file(tail, link, &file) != OPENED_NEW)
            file = NULL;
        close(fd);
    }
    if (!file && fits && mark->head_size)
        return named; /* the same text in another file: it was brought back, or written anew */
    if (!file && mark->head_size)
        file = open_fitting(tail, mark, candidates, count);
    if (file) {
        set_rotated(tail, file, 0);
        prepend(tail, file);
    }
    return file;
}

/* Nothing has happened but that more was written: no other file needs to be looked at. */
static bool reads_on(const tail_t *tail, const filemark_t *mark) {
    const tail_file_t *named = tail->files;
    return named && mark->head_size && named->device == mark->device && named->inode == mark->inode && filemark_fits(mark, named->fd);
}

static bool restore_once(tail_t *tail, const tail_position_t *position, candidate_t *candidates) {
    const filemark_t *mark = &position->mark;
    tail_forget(tail);
    tail_look(tail);
    tail->stirred = false;
    size_t count = reads_on(tail, mark) ? 0 : list_rotated(tail, candidates);
    tail_file_t *named = tail->files, *file = find_read(tail, mark, candidates, count);
    if (file) {
        file->offset = mark->offset;
        filetrace_load(&file->trace, file->fd, file->offset);
    }
    if (!tail->unpacking && (!file || file != named || !mark->head_size))
        queue_newer(tail, position->modified, mark, candidates, count);
    free_candidates(candidates, count);
    return file != NULL;
}

tail_found_t tail_restore_again(tail_t *tail) {
    candidate_t *candidates = mem_alloc(CANDIDATES_MAX * sizeof *candidates);
    const tail_position_t *position = tail->restoring;
    bool found = false;
    memset(tail->finished, 0, sizeof tail->finished);
    memcpy(tail->finished, position->finished, position->finished_count * sizeof *tail->finished);
    tail->finished_next = position->finished_count;
    tail->modified = position->modified;
    for (int i = 0; i < TRIES; i++) {
        found = restore_once(tail, position, candidates);
        tail_read_events(tail);
        if (!tail->stirred || tail->unpacking)
            break;
    }
    mem_free(candidates);
    if (tail->unpacking)
        return TAIL_LATER;
    tail_unpacked(tail);
    mem_free(tail->restoring);
    tail->restoring = NULL;
    return found ? TAIL_FOUND : TAIL_GONE;
}

tail_found_t tail_restore(tail_t *tail, const tail_position_t *position) {
    tail_unpacked(tail);
    tail->disowning = false;
    mem_free(tail->restoring);
    tail->restoring = mem_copy(position, sizeof *position);
    return tail_restore_again(tail);
}

size_t tail_beginning(const tail_t *tail, void *out, size_t size) {
    ssize_t got = tail->files ? pread(tail->files->fd, out, size, 0) : 0;
    return got > 0 ? (size_t) got : 0;
}
