/* Opening: which segments there are, where the last record ends, what is cut off, and whether a new epoch must begin. After the death of a process
 * only the last segment can end in the middle of something. After a power cut anything that was not synced may be missing or
 * wrong, so that all segments are read from where the last one's head says that everything was synced. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "net/spool_private.h"

typedef unsigned long long ull_t;

/* A last segment whose beginning is not one: it was being made. Anything else than that is kept. */
static void discard_last(spool_t *spool, bool keep) {
    segment_t *segment = spool_current(spool);
    char *path = spool_segment_path(spool, segment->head.first_index);
    if (keep) {
        char *aside = mem_format("%s.damaged", path);
        log_warning("%s is cut off and kept as %s", path, aside);
        if (rename(path, aside) != 0)
            unlink(path);
        mem_free(aside);
    } else
        unlink(path);
    mem_free(path);
    if (segment->fd >= 0)
        close(segment->fd);
    spool->count--;
    spool->directory_dirty = true;
    segment_unref(segment);
}

/* True: its head is wrong, and it is neither one that was being made nor a file that was to be used again. */
static bool load_head(spool_t *spool, uint64_t first_index, err_t *err) {
    uint8_t bytes[SEGMENT_HEAD];
    segment_head_t head = {.first_index = first_index, .id = spool->meta.id};
    char *path = spool_segment_path(spool, first_index);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status = {0};
    ssize_t n = fd < 0 || fstat(fd, &status) != 0 ? -1 : pread(fd, bytes, sizeof bytes, 0);
    bool sound = n == (ssize_t) sizeof bytes && segment_get_head(&head, bytes, err) == 0;
    bool ours = sound && head.id == spool->meta.id;
    bool wrong = !ours || head.first_index != first_index;
    if (n != (ssize_t) sizeof bytes)
        err_set(err, "its head is missing");
    else if (sound && !ours)
        err_set(err, "it belongs to another log");
    else if (sound && wrong)
        err_set(err, "its name is not that of its first record");
    if (fd >= 0)
        close(fd);
    if (wrong)
        head = (segment_head_t){.first_index = first_index, .id = spool->meta.id, .first_number = !ours};     /* 0: a leftover */
    segment_t *segment = spool_add_segment(spool, &head);
    segment->size = (uint64_t) status.st_size;
    segment->damaged = wrong;
    mem_free(path);
    return wrong && !ours && status.st_size > SEGMENT_HEAD && n > 0 && bytes[0];
}

/* A removed segment's file under its old name, with the head of the one that it was to become: the power went before the new name was on disk. */
static bool is_leftover(const spool_t *spool, const segment_t *segment) {
    return segment->damaged && segment->head.id == spool->meta.id && segment->head.first_number == 0;
}

/* What a process had under way when it was killed is finished by the kernel before it lets go of the log's lock; unless somebody looked at the process's
 * memory in that moment. To cut a file off waits for it. */
static void await_writes(const spool_t *spool, uint64_t first_index) {
    char *path = spool_segment_path(spool, first_index);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && ftruncate(fd, status.st_size + 1) == 0 && ftruncate(fd, status.st_size) != 0)
        log_debug("%s could not be cut off again", path);
    if (fd >= 0)
        close(fd);
    mem_free(path);
}

static void load_heads(spool_t *spool, const uint64_t *first, size_t count, bool *lost) {
    bool keep = false;
    for (size_t i = count > 2 ? count - 2 : 0; i < count; i++)
        await_writes(spool, first[i]);
    for (size_t i = 0; i < count; i++) {
        err_t err = {{0}};
        keep = load_head(spool, first[i], &err);
        if (is_leftover(spool, spool_current(spool)))
            discard_last(spool, false);
        else if (spool_current(spool)->damaged && i + 1 < count)
            log_error("%s/%016llx.seg is damaged: %s; streamctl spool fsck tells more", spool->directory, (ull_t) first[i], err.text);
    }
    while (spool->count && spool_current(spool)->damaged) {
        *lost = *lost || keep;
        discard_last(spool, keep);
        keep = true;
    }
    for (size_t i = spool->count; i-- > 1;) {          /* each ends where the next begins */
        segment_t *segment = spool->segments[i - 1], *next = spool->segments[i];
        segment->last_index = next->head.first_index - 1;
        segment->last_number = next->head.first_number - 1;
        if (segment->damaged)
            segment->head.first_number = next->head.first_number;
    }
}

typedef struct end {
    uint64_t at, index, number;        /* behind the last whole group */
    bool damaged, more;
} end_t;

static int find_end(spool_t *spool, const segment_t *segment, end_t *end, err_t *err) {
    char *path = spool_segment_path(spool, segment->head.first_index);
    int fd = open(path, O_RDONLY | O_CLOEXEC), result = fd < 0 ? err_errno(err, "%s", path) : 0;
    *end = (end_t){SEGMENT_HEAD, segment->head.first_index - 1, segment->head.first_number - 1, false, false};
    scan_t scan;
    record_head_t head;
    err_t why = {{0}};
    int more = 0;
    scan_init(&scan, fd, &segment->head, segment->size);
    uint64_t number = end->number;
    while (result == 0 && (more = scan_next(&scan, &head, &why)) == 1) {
        if (head.number)
            number = head.number;
        if (!(head.flags & RECORD_CONTINUES))
            *end = (end_t){scan.at, head.index, number, false, false};
    }
    end->damaged = more < 0;
    end->more = more < 0 && scan_finds_more(&scan);
    if (end->more)
        log_error("%s is damaged at byte %llu (%s): it is cut off there and what follows is kept as %s.damaged", path, (ull_t) scan.at, why.text, path);
    if (end->more)
        segment_keep_aside(path, scan.at);
    scan_fini(&scan);
    if (fd >= 0)
        close(fd);
    mem_free(path);
    return result;
}

static int cut(spool_t *spool, segment_t *segment, const end_t *end, err_t *err) {
    char *path = spool_segment_path(spool, segment->head.first_index);
    segment->fd = open(path, O_RDWR | O_CLOEXEC);
    int result = segment->fd < 0 || ftruncate(segment->fd, (off_t) end->at) != 0 ? err_errno(err, "cut %s to its last whole record", path) : 0;
    mem_free(path);
    segment->size = end->at;
    segment->last_index = end->index;
    segment->last_number = end->number;
    return result;
}

/* Finds the end of the log and cuts off what is behind it. */
static int recover_end(spool_t *spool, bool power_cut, bool *lost, err_t *err) {
    end_t end = {0};
    size_t i = spool->count - 1;
    if (power_cut)
        while (i > 0 && spool->segments[i]->head.first_index > spool_current(spool)->head.synced + 1)
            i--;
    for (;; i++) {
        segment_t *segment = spool->segments[i];
        bool last = i + 1 == spool->count;
        if (segment->damaged)
            end = (end_t){0};
        else if (find_end(spool, segment, &end, err) != 0)
            return -1;
        if (last || end.index < segment->last_index)
            break;
    }
    while (spool->count > i + 1)
        discard_last(spool, true);
    while (spool->count && spool_current(spool)->damaged)
        discard_last(spool, true);
    *lost = *lost || end.more;
    if (!spool->count)
        return 0;
    if (!end.index && find_end(spool, spool_current(spool), &end, err) != 0)
        return -1;
    return cut(spool, spool_current(spool), &end, err);
}

static int sync_all(spool_t *spool, err_t *err) {
    const segment_t *current = spool_current(spool);
    if (spool->setup.sync == SPOOL_NONE)
        return 0;
    for (size_t i = 0; i < spool->count; i++) {
        const segment_t *segment = spool->segments[i];
        if (segment != current && segment->last_index <= current->head.synced)
            continue;
        char *path = spool_segment_path(spool, segment->head.first_index);
        int fd = segment->fd >= 0 ? segment->fd : open(path, O_RDONLY | O_CLOEXEC);
        int result = fd < 0 || fdatasync(fd) != 0 ? err_errno(err, "sync %s", path) : 0;
        if (fd >= 0 && fd != segment->fd)
            close(fd);
        mem_free(path);
        if (result)
            return -1;
    }
    if (fsync(spool->directory_fd) != 0)
        return err_errno(err, "sync %s", spool->directory);
    spool->synced_index = spool->index;
    spool->synced_number = spool->number;
    spool->synced_segment = current ? current->head.first_index : 0;
    spool->synced_length = current ? current->size : 0;
    spool->directory_dirty = false;
    return 0;
}

static int update_meta(spool_t *spool, bool lost, err_t *err) {
    spool_meta_t *meta = &spool->meta;
    char boot[BOOT_MAX];
    meta_boot(boot);
    bool cut_power = strcmp(boot, meta->boot) != 0, anew = lost || (cut_power && meta->sync != SPOOL_ALWAYS);
    if (!anew && !cut_power && meta->sync == spool->setup.sync)
        return 0;
    if (anew) {
        meta_continue(meta, spool->number);
        log_warning("%s: %s: what was sent after frame %llu may have been lost; epoch %llu continues from there", spool->directory,
                    lost ? "damaged" : "the machine was started anew", (ull_t) spool->number, (ull_t) meta->identity.epoch);
    }
    memcpy(meta->boot, boot, BOOT_MAX);
    meta->sync = spool->setup.sync;
    return meta_write(meta, spool->directory, err);
}

static void remove_leftovers(spool_t *spool) {
    for (unsigned i = 0; i <= SPARES_MAX; i++) {
        char *path = i < SPARES_MAX ? spool_spare_path(spool, i) : spool_path(spool, "rewrite");
        unlink(path);
        mem_free(path);
    }
}

static void set_end(spool_t *spool, const spool_mark_t *mark) {
    const segment_t *current = spool_current(spool);
    spool->index = spool->written_index = current ? current->last_index : mark->index;
    spool->number = spool->written_number = current ? current->last_number : mark->number;
    spool->released_index = mark->released_index < spool->index ? mark->released_index : spool->index;
    spool->released_number = mark->released_number < spool->number ? mark->released_number : spool->number;
    for (size_t i = 0; i < spool->count; i++)
        spool->bytes += spool->segments[i]->size;
}

int spool_recover(spool_t *spool, bool fresh, err_t *err) {
    uint64_t *first = NULL;
    ssize_t count = segments_list(&first, spool->directory, err);
    if (count < 0)
        return -1;
    if (fresh) {
        mem_free(first);
        return count ? err_set(err, "%s holds %zd segments and no file \"meta\": what they are cannot be told; start with --reset", spool->directory, count) : 0;
    }
    remove_leftovers(spool);
    char boot[BOOT_MAX];
    meta_boot(boot);
    spool_mark_t mark = {0};
    bool marked = mark_read(&mark, spool->directory), lost = false, power_cut = strcmp(boot, spool->meta.boot) != 0;
    load_heads(spool, first, (size_t) count, &lost);
    mem_free(first);
    if (spool->count && recover_end(spool, power_cut, &lost, err) != 0)
        return -1;
    set_end(spool, &mark);
    lost = lost || mark.index > spool->index || (!spool->count && (mark.index || !marked)); /* its numbers begin again: nobody may take them for repeats */
    return sync_all(spool, err) == 0 ? update_meta(spool, lost, err) : -1;
}

/* ---- going back ---- */

/* The end of record `index` in its segment. */
static int find_record_end(spool_t *spool, const segment_t *segment, uint64_t index, end_t *end, err_t *err) {
    char *path = spool_segment_path(spool, segment->head.first_index);
    int fd = open(path, O_RDONLY | O_CLOEXEC), result = fd < 0 ? err_errno(err, "%s", path) : 0;
    *end = (end_t){SEGMENT_HEAD, segment->head.first_index - 1, segment->head.first_number - 1, false, false};
    scan_t scan;
    record_head_t head = {0};
    err_t why = {{0}};
    scan_init(&scan, fd, &segment->head, segment->size);
    while (result == 0 && end->index < index) {
        if (scan_next(&scan, &head, &why) != 1)
            result = err_set(err, "%s is damaged at byte %llu (%s): start with --reset, or see streamctl spool", path, (ull_t) scan.at, why.text);
        else
            *end = (end_t){scan.at, head.index, head.number ? head.number : end->number, false, false};
    }
    if (result == 0 && head.flags & RECORD_CONTINUES)
        result = err_set(err, "%s: record %llu is inside a group", path, (ull_t) index);
    scan_fini(&scan);
    if (fd >= 0)
        close(fd);
    mem_free(path);
    return result;
}

int spool_truncate(spool_t *spool, uint64_t index, err_t *err) {
    ASSERT(!spool->in_group && spool->entry_count == 0);
    if (index >= spool->index)
        return 0;
    syncer_wait(spool->syncer);
    size_t keep = spool->count;
    while (keep && spool->segments[keep - 1]->head.first_index > index)
        keep--;
    end_t end = {.index = index, .number = spool->count ? spool->segments[0]->head.first_number - 1 : spool->number};
    if (keep && find_record_end(spool, spool->segments[keep - 1], index, &end, err) != 0)
        return -1;
    if (end.number < spool->number) {  /* first: should we die in between, the new epoch is no harm */
        meta_continue(&spool->meta, end.number);
        if (meta_write(&spool->meta, spool->directory, err) != 0)
            return -1;
    }
    spool_cursor_free(spool->last);
    spool->last = NULL;
    while (spool->count > keep)
        discard_last(spool, false);
    if (keep) {
        segment_t *segment = spool_current(spool);
        if (segment->fd >= 0)
            close(segment->fd);
        if (cut(spool, segment, &end, err) != 0)
            return -1;
        segment->allocated = 0;
    }
    spool->bytes = 0;
    spool_mark_t mark = {.index = end.index, .number = end.number, .released_index = spool->released_index, .released_number = spool->released_number};
    set_end(spool, &mark);
    spool->last = spool_cursor_new(spool);
    spool->unsynced = 0;
    if (sync_all(spool, err) != 0)
        return -1;
    spool_mark(spool);
    spool->told_written = spool_written(spool);
    spool->told_synced = spool_synced(spool);
    spool_update_room(spool);
    return 0;
}
