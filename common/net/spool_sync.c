/* Syncing: which records the disk has. One order to the thread covers all that was written before it, in all segments that have anything new
 * and in the directory; what comes meanwhile goes with the next. After a failed sync the kernel may take the pages for clean, so that a second
 * try would succeed without writing them: therefore the records that are not synced are read back, checked, and written into a new
 * segment that begins with the first of them. It takes the place of what the others hold from there on, and is synced instead. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/spool_private.h"

#define UNSYNCED_MUCH (4u * 1024 * 1024)
#define COPY_BUFFER (1024u * 1024)
#define COPY_RECORD_MAX (256u * 1024 * 1024)

static void on_timer(void *argument) {
    spool_t *spool = argument;
    spool->sync_timer = NULL;
    spool_sync_start(spool);
}

/* By the policy: now, later, never. */
static void plan(spool_t *spool) {
    if (spool->setup.sync == SPOOL_NONE || !spool->unsynced || spool->syncing || spool->rewrite)
        return;
    if (spool->setup.sync == SPOOL_ALWAYS || spool->unsynced > UNSYNCED_MUCH)
        spool_sync_start(spool);
    else if (!spool->sync_timer)
        spool->sync_timer = loop_timer(spool->setup.loop, spool->setup.sync_interval, 0, on_timer, spool);
}

void spool_wrote(spool_t *spool, uint64_t bytes) {
    if (spool->setup.sync == SPOOL_NONE)
        return;
    spool_current(spool)->dirty = true;
    spool->unsynced += bytes;
    plan(spool);
}

static void close_retired(spool_t *spool) {
    for (size_t i = 0; i + 1 < spool->count; i++) {
        segment_t *segment = spool->segments[i];
        if (segment->fd >= 0 && !segment->dirty && !segment->syncing) {
            close(segment->fd);
            segment->fd = -1;
        }
    }
}

static void on_synced(void *argument, int error) {
    spool_t *spool = argument;
    spool->syncing = false;
    for (size_t i = 0; i < spool->count; i++)
        spool->segments[i]->syncing = false;
    if (error) {
        spool->rewrite = true;
        spool_complain(spool, spool->directory, "sync to disk", error);
        return;
    }
    spool->synced_index = spool->target_index;
    spool->synced_number = spool->target_number;
    spool->synced_segment = spool->target_segment;
    spool->synced_length = spool->target_length;
    close_retired(spool);
    spool_mark(spool);
    spool_remove_released(spool);
    spool->tell_synced = true;
    spool->tell_written = spool->setup.sync == SPOOL_ALWAYS;
    spool_tell(spool);
    if (spool->trouble)
        spool_flush(spool);            /* a rewritten segment is synced: on with what waits */
    plan(spool);
    spool_update_room(spool);
}

void spool_sync_start(spool_t *spool) {
    if (spool->syncing || spool->rewrite || spool->setup.sync == SPOOL_NONE)
        return;
    loop_remove(spool->sync_timer);
    spool->sync_timer = NULL;
    spool_mark_t landed;
    int *fds = mem_alloc((spool->count + 1) * sizeof *fds);
    unsigned count = 0;
    for (size_t i = 0; i < spool->count; i++) {
        segment_t *segment = spool->segments[i];
        if (!segment->dirty)
            continue;
        fds[count++] = segment->fd;
        segment->dirty = false;
        segment->syncing = true;
    }
    if (spool->directory_dirty)
        fds[count++] = spool->directory_fd;
    spool->directory_dirty = false;
    spool->unsynced = spool_landed(spool, &landed);
    if (count) {
        spool->syncing = true;
        spool->target_index = landed.index;
        spool->target_number = landed.number;
        spool->target_segment = landed.segment;
        spool->target_length = landed.length;
        syncer_sync(spool->syncer, fds, count, on_synced, spool);
    }
    mem_free(fds);
}

void spool_sync(spool_t *spool) {
    if (spool->setup.sync == SPOOL_NONE)
        return;
    syncer_wait(spool->syncer);
    if (spool->trouble)
        spool_flush(spool);
    spool_land(spool);
    spool_sync_start(spool);
    syncer_wait(spool->syncer);
}

/* ---- a new segment for what could not be synced ---- */

typedef struct copy {
    int fd;
    uint32_t seed;
    buf_t buffer;
    uint64_t size, last_index, last_number;
} copy_t;

static int copy_flush(copy_t *copy, err_t *err) {
    int result = file_write_all(copy->fd, copy->buffer.data, copy->buffer.size, err);
    buf_clear(&copy->buffer);
    return result;
}

static int copy_record(copy_t *copy, record_head_t *head, const uint8_t *record, err_t *err) {
    static const uint8_t zeros[8];
    size_t start = copy->buffer.size;
    buf_put(&copy->buffer, record, head->size);
    buf_put(&copy->buffer, zeros, SPOOL_ALIGN(head->size) - head->size);
    head->crc = crc32c(copy->seed, record + 4, head->size - 4);
    record_put_head(copy->buffer.data + start, head);
    copy->size += SPOOL_ALIGN(head->size);
    copy->last_index = head->index;
    if (head->number)
        copy->last_number = head->number;
    return copy->buffer.size > COPY_BUFFER ? copy_flush(copy, err) : 0;
}

/* The records of one segment from `first` on. */
static int copy_segment(spool_t *spool, copy_t *copy, const segment_t *segment, uint64_t first, err_t *err) {
    char *path = spool_segment_path(spool, segment->head.first_index);
    int fd = open(path, O_RDONLY | O_CLOEXEC), result = fd < 0 ? err_errno(err, "%s", path) : 0;
    scan_t scan;
    record_head_t head;
    scan_init(&scan, fd, &segment->head, segment->size);
    while (result == 0 && scan.expected <= segment->last_index) {
        const uint8_t *record = NULL;
        if (scan_next(&scan, &head, err) == 1 && (head.index < first || (record = scan_record(&scan, &head, COPY_RECORD_MAX)))) {
            if (head.index >= first)
                result = copy_record(copy, &head, record, err);
        } else {
            result = -1;
            err_wrap(err, "%s, byte %llu", path, (unsigned long long) scan.at);
        }
    }
    scan_fini(&scan);
    if (fd >= 0)
        close(fd);
    mem_free(path);
    return result;
}

/* Where the first record that is not synced stands, or count: there is none. */
static size_t first_unsynced(const spool_t *spool) {
    size_t i = 0;
    while (i < spool->count && spool->segments[i]->last_index <= spool->synced_index)
        i++;
    return i;
}

/* The new segment takes over: older ones end before it, those that began behind its beginning are gone. */
static void replace(spool_t *spool, const segment_head_t *head, const copy_t *copy) {
    while (spool->count) {
        segment_t *segment = spool_current(spool);
        if (segment->fd >= 0)
            close(segment->fd);
        segment->fd = -1;
        segment->dirty = false;
        if (segment->head.first_index < head->first_index) {
            segment->last_index = head->first_index - 1;
            segment->last_number = head->first_number - 1;
            break;
        }
        if (segment->head.first_index > head->first_index) {
            char *path = spool_segment_path(spool, segment->head.first_index);
            unlink(path);
            mem_free(path);
        }
        spool->bytes -= segment->size;
        segment->removed = true;
        segment_unref(segment);
        spool->count--;
    }
    segment_t *segment = spool_add_segment(spool, head);
    segment->fd = copy->fd;
    segment->size = copy->size;
    segment->last_index = copy->last_index;
    segment->last_number = copy->last_number;
    segment->dirty = spool->directory_dirty = true;
    spool->bytes += segment->size;
}

int spool_rewrite(spool_t *spool) {
    if (spool_land(spool) != 0)
        return -1;
    segment_head_t head = {spool->meta.id, spool->synced_index + 1, spool->synced_number + 1, spool->synced_index, {0}};
    memcpy(head.boot, spool->meta.boot, BOOT_MAX);
    char *temporary = spool_path(spool, "rewrite"), *path = spool_segment_path(spool, head.first_index);
    copy_t copy = {.fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), .seed = record_seed(head.id, head.first_index),
                   .size = SEGMENT_HEAD, .last_index = spool->synced_index, .last_number = spool->synced_number};
    uint8_t bytes[SEGMENT_HEAD];
    segment_put_head(bytes, &head);
    buf_put(&copy.buffer, bytes, sizeof bytes);
    err_t err = {{0}};
    int result = copy.fd < 0 ? -1 : 0;
    errno = copy.fd < 0 ? errno : 0;
    for (size_t i = first_unsynced(spool); result == 0 && i < spool->count; i++)
        result = copy_segment(spool, &copy, spool->segments[i], head.first_index, &err);
    if (result == 0)
        result = copy_flush(&copy, &err);
    if (result == 0)
        result = rename(temporary, path);
    if (result == 0) {
        spool->rewrite = false;
        replace(spool, &head, &copy);
    } else {
        spool_complain(spool, spool->directory, err.text[0] ? err.text : "write the records anew that could not be synced", errno ? errno : EIO);
        if (copy.fd >= 0)
            close(copy.fd);
        unlink(temporary);
    }
    buf_fini(&copy.buffer);
    mem_free(temporary);
    mem_free(path);
    return result;
}
