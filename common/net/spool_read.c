/* Reading: a cursor maps the files piece by piece, and the frames that it gives point into the pieces, which live as long as one of them does. A
 * piece is as large as a MiB or as its one record, so that little is mapped at a time; the pages are the kernel's cache and are copied by
 * nobody. Checksums are compared when a record is read. Only the owner of the lock shortens files, and never where records were written. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "net/spool_private.h"

#define PIECE (1024u * 1024)

typedef struct piece {
    atomic_uint references;
    segment_t *segment;
    uint64_t start, end;               /* in the file */
    uint8_t *memory;
} piece_t;

struct spool_cursor {
    spool_t *spool;
    bool all;                          /* SPOOL_ALWAYS: also what is not synced yet */
    uint64_t want_index, want_number;  /* records below are passed over; want_number 0: those without a frame are wanted too */
    segment_t *segment;                /* NULL: to be looked for */
    uint64_t at, index, number;        /* the next record: its place, its index, the least number that it may have */
    piece_t *piece;
};

static void piece_unref(void *memory) {
    piece_t *piece = memory;
    if (!piece || atomic_fetch_sub_explicit(&piece->references, 1, memory_order_acq_rel) != 1)
        return;
    munmap(piece->memory, piece->end - piece->start);
    segment_unref(piece->segment);
    mem_free(piece);
}

spool_cursor_t *spool_cursor_new(spool_t *spool) {
    spool_cursor_t *cursor = mem_zero(sizeof *cursor);
    cursor->spool = spool;
    return cursor;
}

static void leave(spool_cursor_t *cursor) {
    segment_unref(cursor->segment);
    cursor->segment = NULL;
    piece_unref(cursor->piece);
    cursor->piece = NULL;
}

void spool_cursor_free(spool_cursor_t *cursor) {
    if (!cursor)
        return;
    leave(cursor);
    mem_free(cursor);
}

/* What lies ahead in the same segment is found from where the cursor stands. */
void spool_seek_index(spool_cursor_t *cursor, uint64_t index) {
    cursor->want_index = index;
    cursor->want_number = 0;
    if (cursor->segment && (index < cursor->index || index > cursor->segment->last_index))
        leave(cursor);
}

void spool_seek_number(spool_cursor_t *cursor, uint64_t number) {
    cursor->want_index = 0;
    cursor->want_number = number ? number : 1;
    if (cursor->segment && (number < cursor->number || number > cursor->segment->last_number))
        leave(cursor);
}

/* To the first segment that can hold what is wanted, or the last one. */
static void locate(spool_cursor_t *cursor) {
    const spool_t *spool = cursor->spool;
    size_t low = 0, high = spool->count - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const segment_t *segment = spool->segments[middle];
        if (segment->last_index < cursor->want_index || segment->last_number < cursor->want_number)
            low = middle + 1;
        else
            high = middle;
    }
    cursor->segment = segment_ref(spool->segments[low]);
    cursor->at = SEGMENT_HEAD;
    cursor->index = cursor->segment->head.first_index;
    cursor->number = cursor->segment->head.first_number;
}

/* Leaves the segment and wants what comes behind. */
static void leave_behind(spool_cursor_t *cursor) {
    if (cursor->want_index < cursor->index)
        cursor->want_index = cursor->index;
    leave(cursor);
}

/* Sees to it that so many bytes of the segment are mapped. 0, or -1 with the reason. */
static int map(spool_cursor_t *cursor, uint64_t at, uint64_t size, err_t *err) {
    segment_t *segment = cursor->segment;
    if (cursor->piece && at >= cursor->piece->start && at + size <= cursor->piece->end)
        return 0;
    piece_unref(cursor->piece);
    cursor->piece = NULL;
    uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE), start = at / page * page, end = start + PIECE;
    if (end < at + size)
        end = (at + size + page - 1) / page * page;
    char *path = segment->fd < 0 ? spool_segment_path(cursor->spool, segment->head.first_index) : NULL;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : segment->fd;
    mem_free(path);
    struct stat status;
    void *memory = MAP_FAILED;
    if (fd < 0 || fstat(fd, &status) != 0)
        err_errno(err, "open");
    else if ((uint64_t) status.st_size < at + size)    /* touching it would be the end of us */
        err_set(err, "the file ends at byte %lld", (long long) status.st_size);
    else if ((memory = mmap(NULL, end - start, PROT_READ, MAP_SHARED | (end <= segment->size ? MAP_POPULATE : 0), fd, (off_t) start)) == MAP_FAILED)
        err_errno(err, "map");
    if (fd >= 0 && fd != segment->fd)
        close(fd);
    if (memory == MAP_FAILED)
        return -1;
    cursor->piece = mem_alloc(sizeof *cursor->piece);
    *cursor->piece = (piece_t){.segment = segment_ref(segment), .start = start, .end = end, .memory = memory};
    atomic_init(&cursor->piece->references, 1);
    return 0;
}

static const uint8_t *mapped(const spool_cursor_t *cursor, uint64_t at) {
    return cursor->piece->memory + (at - cursor->piece->start);
}

static uint64_t room_at(const spool_cursor_t *cursor, uint64_t at) {
    return at < cursor->segment->size ? cursor->segment->size - at : 0;
}

/* The head of the record at *at, or at the next page when zeros lead there, when it is believable and the one with this index. */
static int map_head(spool_cursor_t *cursor, record_head_t *head, uint64_t *at, uint64_t index, err_t *err) {
    if (room_at(cursor, *at) >= 8) {
        if (map(cursor, *at, 8, err) != 0)
            return -1;
        *at = record_place(*at, mapped(cursor, *at));
    }
    uint64_t room = room_at(cursor, *at);
    if (room < RECORD_HEAD)
        return err_set(err, "the file ends before record %llu", (unsigned long long) index);
    if (map(cursor, *at, RECORD_HEAD, err) != 0)
        return -1;
    if (!record_get_head(head, mapped(cursor, *at), room) || head->index != index)
        return err_set(err, "record %llu is not there", (unsigned long long) index);
    return 0;
}

static void step(spool_cursor_t *cursor, const record_head_t *head) {
    cursor->at += SPOOL_ALIGN(head->size);
    cursor->index++;
    if (head->number >= cursor->number)
        cursor->number = head->number + 1;
}

/* Goes on behind the damaged record when the next one is where it should be, else behind all that the segment holds now. */
static int damaged(spool_cursor_t *cursor, const char *reason, err_t *err) {
    record_head_t head, next;
    segment_t *segment = cursor->segment;
    err_set(err, "%s/%016llx.seg, byte %llu: %s; streamctl spool fsck tells more", cursor->spool->directory,
            (unsigned long long) segment->head.first_index, (unsigned long long) cursor->at, reason);
    cursor->spool->damages++;
    if (!segment->damaged && cursor->index < segment->last_index && map_head(cursor, &head, &cursor->at, cursor->index, NULL) == 0) {
        uint64_t behind = cursor->at + SPOOL_ALIGN(head.size);
        if (map_head(cursor, &next, &behind, cursor->index + 1, NULL) == 0) {
            step(cursor, &head);
            return -1;
        }
    }
    cursor->at = segment->size;
    cursor->index = segment->last_index + 1;
    if (cursor->number <= segment->last_number)
        cursor->number = segment->last_number + 1;
    return -1;
}

static int take(spool_cursor_t *cursor, const record_head_t *head, spool_record_t *record, err_t *err) {
    err_t why = {{0}};
    if (map(cursor, cursor->at, head->size, &why) != 0)
        return damaged(cursor, why.text, err);
    const uint8_t *bytes = mapped(cursor, cursor->at);
    const segment_head_t *segment = &cursor->segment->head;
    if (crc32c(record_seed(segment->id, segment->first_index), bytes + 4, head->size - 4) != head->crc)
        return damaged(cursor, "the checksum is wrong", err);
    frame_t *frame = NULL;
    if (head->number) {
        frame = mem_zero(sizeof *frame);
        if (record_decode(frame, head, bytes, &why) != 0) {
            mem_free(frame);
            return damaged(cursor, why.text, err);
        }
        frame->memory[0] = cursor->piece;
        frame->release[0] = piece_unref;
        atomic_fetch_add_explicit(&cursor->piece->references, 1, memory_order_relaxed);
    }
    *record = (spool_record_t){head->index, head->number, record_note(head, bytes), frame};
    step(cursor, head);
    return 1;
}

int spool_next(spool_cursor_t *cursor, spool_record_t *record, err_t *err) {
    const spool_t *spool = cursor->spool;
    uint64_t bound = spool->setup.sync == SPOOL_ALWAYS && !cursor->all ? spool->synced_index : spool->written_index;
    for (;;) {
        if (cursor->segment && cursor->segment->removed)
            leave_behind(cursor);
        if (!spool->count)
            return 0;
        if (!cursor->segment)
            locate(cursor);
        if (cursor->index > bound)
            return 0;
        if (cursor->index > cursor->segment->last_index) {
            if (cursor->segment == spool_current(spool))
                return 0;
            leave_behind(cursor);
            continue;
        }
        if (cursor->segment->damaged)
            return damaged(cursor, "this is no segment of this log", err);
        err_t why = {{0}};
        record_head_t head;
        if (spool_flying(spool, cursor->index) && spool_land(cursor->spool) != 0)
            return 0;                  /* it is still in memory alone */
        if (map_head(cursor, &head, &cursor->at, cursor->index, &why) != 0)
            return damaged(cursor, why.text, err);
        if (head.index < cursor->want_index || head.number < cursor->want_number)
            step(cursor, &head);
        else
            return take(cursor, &head, record, err);
    }
}

int spool_last(spool_t *spool, spool_record_t *record, err_t *err) {
    if (!spool->written_index)
        return 0;
    spool->last->all = true;
    spool_seek_index(spool->last, spool->written_index);
    return spool_next(spool->last, record, err);
}
