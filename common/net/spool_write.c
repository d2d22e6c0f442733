/* Writing: groups go to the end of the last segment whole, with one gathered write that copies no body. What cannot be written stays in memory in
 * its order and is tried again; a part that was written is taken back. A segment's file is a removed one's, when there is a spare: overwriting
 * pages and blocks that are there costs half of getting new ones, and its sync needs no journal. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/spool_private.h"

#define PIECES 256                       /* of one gathered write */
#define RETRY_FIRST (100 * INT64_C(1000000))
#define RETRY_LAST (5000 * INT64_C(1000000))
#define ALLOCATE_FIRST (1024u * 1024)
#define ALLOCATE_LAST (16u * 1024 * 1024)

/* ---- trouble ---- */

static const char *remedy(int error) {
    switch (error) {
    case ENOSPC: return "make room on that file system";
    case EDQUOT: return "raise the user's quota there or make room";
    case EFBIG: return "raise the limit on file sizes (ulimit -f)";
    case EROFS: return "mount it writable again";
    case EIO: return "look into the kernel's log: the disk may be failing";
    case ENOENT: return "has the directory been deleted?";
    default: return "see to it";
    }
}

static void retry(void *argument) {
    spool_t *spool = argument;
    spool->retry_timer = NULL;
    if (spool->trouble)
        spool_flush(spool);
}

void spool_retry_soon(spool_t *spool) {
    loop_remove(spool->retry_timer);
    spool->retry_timer = loop_timer(spool->setup.loop, 0, 0, retry, spool);
}

/* The text stands for as long as the trouble is the same: its owner need not hear it with every try. */
void spool_complain(spool_t *spool, const char *path, const char *what, int error) {
    err_t before = spool->reason;
    err_set(&spool->reason, "%s: %s: %s; %s: it is tried again until it works, and input waits meanwhile", path, what, strerror(error), remedy(error));
    if (!spool->trouble || strcmp(before.text, spool->reason.text) != 0) {
        spool->trouble = spool->tell_trouble = true;
        spool_tell(spool);
    }
    if (!spool->retry_delay)
        spool->retry_delay = RETRY_FIRST;
    loop_remove(spool->retry_timer);
    spool->retry_timer = loop_timer(spool->setup.loop, spool->retry_delay, 0, retry, spool);
    spool->retry_delay = spool->retry_delay * 2 < RETRY_LAST ? spool->retry_delay * 2 : RETRY_LAST;
}

static void recovered(spool_t *spool) {
    spool->trouble = false;
    spool->retry_delay = 0;
    spool->told_written = 0;           /* readers may have waited for what was said to be written, too */
    spool->tell_trouble = spool->tell_written = spool->tell_room = true;
    if (spool->setup.sync == SPOOL_NONE)
        spool->tell_synced = true;
    spool_tell(spool);
}

/* ---- segments ---- */

/* The file of a new segment: the spare one under its new name, or a fresh one. */
static int segment_file(spool_t *spool, const char *path, uint64_t *allocated) {
    *allocated = 0;
    if (spool->spares) {
        char *spare = spool_spare_path(spool, --spool->spares);
        if (spool->spares_least > spool->spares)
            spool->spares_least = spool->spares;
        int fd = open(spare, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && rename(spare, path) != 0) {
            close(fd);
            fd = -1;
        }
        if (fd < 0)
            unlink(spare);
        mem_free(spare);
        struct stat status;
        if (fd >= 0 && fstat(fd, &status) == 0)
            *allocated = (uint64_t) status.st_size;
        if (fd >= 0)
            return fd;
    }
    return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
}

/* No longer the one that is written: its file gets its true size, and is closed once it is synced. */
static void retire(spool_t *spool, segment_t *segment) {
    if (ftruncate(segment->fd, (off_t) segment->size) != 0)
        log_debug("%s: spare room of a segment could not be given back", spool->directory);
    if (!segment->dirty && !segment->syncing) {
        close(segment->fd);
        segment->fd = -1;
    }
}

/* 0, or errno. */
static int begin_segment(spool_t *spool) {
    segment_head_t head = {spool->meta.id, spool->written_index + 1, spool->written_number + 1, spool->synced_index, {0}};
    memcpy(head.boot, spool->meta.boot, BOOT_MAX);
    uint8_t bytes[SEGMENT_HEAD];
    segment_put_head(bytes, &head);
    char *path = spool_segment_path(spool, head.first_index);
    uint64_t allocated;
    int fd = segment_file(spool, path, &allocated), error = fd < 0 ? errno : 0;
    if (fd >= 0) {
        ssize_t n = pwrite(fd, bytes, sizeof bytes, 0);
        if (n != (ssize_t) sizeof bytes) {
            error = n < 0 ? errno : ENOSPC;
            close(fd);
            unlink(path);
        }
    }
    mem_free(path);
    if (error)
        return error;
    segment_t *before = spool_current(spool);
    if (before)
        retire(spool, before);
    spool_direct_segment(spool);
    segment_t *segment = spool_add_segment(spool, &head);
    segment->fd = fd;
    segment->size = SEGMENT_HEAD;
    segment->allocated = segment->file_size = allocated;
    spool->bytes += SEGMENT_HEAD;
    segment->dirty = spool->setup.sync != SPOOL_NONE;
    spool->directory_dirty = true;
    return 0;
}

/* Blocks for what comes are reserved ahead, in growing steps: one piece on disk, and less to do for each write. */
void spool_reserve(segment_t *segment, uint64_t size) {
    if (segment->size + size <= segment->allocated)
        return;
    uint64_t step = segment->size < ALLOCATE_FIRST ? ALLOCATE_FIRST : segment->size > ALLOCATE_LAST ? ALLOCATE_LAST : segment->size;
    segment->allocated = segment->size + size + step;
    if (fallocate(segment->fd, FALLOC_FL_KEEP_SIZE, (off_t) segment->size, (off_t) (size + step)) != 0)
        segment->allocated = UINT64_MAX;           /* not there, or little room: the write will tell */
}

/* ---- groups ---- */

/* Entries of the first group that waits, and their bytes. */
static size_t group_extent(const spool_t *spool, uint64_t *size) {
    size_t count = 0;
    *size = 0;
    for (;;) {
        const entry_t *entry = &spool->entries[spool->entry_first + count++];
        *size += SPOOL_ALIGN(entry->head.size);
        if (!(entry->head.flags & RECORD_CONTINUES))
            return count;
    }
}

void spool_seal(spool_t *spool, entry_t *entry, uint32_t seed) {
    uint8_t *bytes = spool->bytes_waiting.data + entry->start;
    record_put_head(bytes, &entry->head);
    uint32_t crc = crc32c(seed, bytes + 4, entry->size - 4);
    if (entry->frame)
        crc = crc32c(crc32c(crc, spool_zeros, entry->head.gap), entry->frame->body, entry->frame->body_size);
    entry->head.crc = crc;
    record_put_head(bytes, &entry->head);
}

/* Writes all pieces at `at`. The pieces are used up. */
int spool_write_pieces(int fd, struct iovec *pieces, int count, uint64_t at) {
    while (count) {
        ssize_t n = pwritev(fd, pieces, count, (off_t) at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0) {
            errno = ENOSPC;
            return -1;
        }
        at += (uint64_t) n;
        while (count && (size_t) n >= pieces->iov_len) {
            n -= (ssize_t) pieces->iov_len;
            pieces++;
            count--;
        }
        if (count) {
            pieces->iov_base = (char *) pieces->iov_base + n;
            pieces->iov_len -= (size_t) n;
        }
    }
    return 0;
}

static int write_entries(spool_t *spool, segment_t *segment, size_t count) {
    uint32_t seed = record_seed(segment->head.id, segment->head.first_index);
    struct iovec pieces[PIECES + 3];
    int used = 0;
    uint64_t at = segment->size, end = at;
    for (size_t i = 0; i < count; i++) {
        entry_t *entry = &spool->entries[spool->entry_first + i];
        spool_seal(spool, entry, seed);
        uint64_t padding = SPOOL_ALIGN(entry->head.size) - entry->head.size;
        pieces[used++] = (struct iovec){spool->bytes_waiting.data + entry->start, entry->size + (entry->frame ? 0 : padding)};
        if (entry->frame) {
            pieces[used++] = (struct iovec){(void *) entry->frame->body, entry->frame->body_size};
            if (padding)
                pieces[used++] = (struct iovec){(void *) spool_zeros, padding};
        }
        end += SPOOL_ALIGN(entry->head.size);
        if (used >= PIECES || i + 1 == count) {
            if (spool_write_pieces(segment->fd, pieces, used, at) != 0)
                return -1;
            at = end;
            used = 0;
        }
    }
    return 0;
}

/* The group is on its way to the disk: it is no longer ours to keep. */
static void forget(spool_t *spool, size_t count) {
    for (size_t i = 0; i < count; i++) {
        entry_t *entry = &spool->entries[spool->entry_first++];
        if (entry->frame)
            spool->waiting_bodies -= entry->frame->body_size;
        frame_unref(entry->frame);
    }
    if (spool->entry_first == spool->entry_count && !spool->in_group) {
        spool->entry_first = spool->entry_count = 0;
        buf_clear(&spool->bytes_waiting);
    }
}

static bool empty(const segment_t *segment) {
    return segment->last_index < segment->head.first_index;
}

/* 0, or errno. */
static int write_group(spool_t *spool, size_t count, uint64_t size) {
    segment_t *segment = spool_current(spool);
    int error;
    if (!segment || (segment->size >= spool->segment_size && !empty(segment))) {
        if ((error = begin_segment(spool)))
            return error;
        segment = spool_current(spool);
    }
    uint64_t end = spool_direct(spool, segment, count, size) ? spool_launch(spool, segment, count) : 0;
    if (end)
        size = end - segment->size;
    else if ((error = spool_indirect(spool, segment)))
        return error;
    else
        spool_reserve(segment, size);
    while (!end && write_entries(spool, segment, count) != 0) {
        error = errno;
        if (ftruncate(segment->fd, (off_t) segment->size) != 0)
            log_debug("%s: a part of a record could not be taken back", spool->directory);
        segment->file_size = segment->size;
        segment->allocated = UINT64_MAX;
        if (error != EFBIG || empty(segment))
            return error;
        if ((error = begin_segment(spool)))            /* a new file may hold what this one may not */
            return error;
        segment = spool_current(spool);
    }
    const record_head_t *last = &spool->entries[spool->entry_first + count - 1].head;
    for (size_t i = 0; i < count; i++)
        if (spool->entries[spool->entry_first + i].head.number)
            spool->written_number = spool->entries[spool->entry_first + i].head.number;
    spool->written_index = last->index;
    segment->last_index = spool->written_index;
    segment->last_number = spool->written_number;
    segment->size += size;
    spool->bytes += size;
    forget(spool, count);
    spool_wrote(spool, size);
    return 0;
}

/* Up to where whole groups wait. */
static size_t whole_entries(const spool_t *spool) {
    return spool->in_group ? spool->group_entries : spool->entry_count;
}

void spool_flush(spool_t *spool) {
    int blocked = 0;
    const char *before = spool->setup.blocked ? spool->setup.blocked(spool->setup.argument, &blocked) : NULL;
    if (before) {
        spool_complain(spool, before, "write", blocked);
        spool_update_room(spool);
        return;
    }
    if (spool->rewrite) {
        if (spool_rewrite(spool) == 0)
            spool_sync_start(spool);   /* the trouble is over when that has worked */
        return;
    }
    if (spool->trouble && spool_land(spool) != 0) {    /* what was taken for written stands before what waits */
        spool_update_room(spool);
        return;
    }
    while (spool->entry_first < whole_entries(spool)) {
        uint64_t size;
        size_t count = group_extent(spool, &size);
        while (spool->setup.full == SPOOL_DROP_OLDEST && spool->bytes + size > spool->setup.limit && spool_drop_oldest(spool))
            ;
        int error = write_group(spool, count, size);
        if ((error == ENOSPC || error == EDQUOT) && (spool_drop_spare(spool) || (spool->setup.full == SPOOL_DROP_OLDEST && spool_drop_oldest(spool))))
            continue;
        if (error) {
            char *path = spool_segment_path(spool, spool_current(spool) ? spool_current(spool)->head.first_index : 1);
            spool_complain(spool, path, "write", error);
            mem_free(path);
            break;
        }
    }
    if (spool->trouble && spool->entry_first >= whole_entries(spool))
        recovered(spool);
    spool_update_room(spool);
}
