/* Room: what is on disk against the limit, segments that hold nothing of use any more, and the oldest ones when the policy gives them up. The
 * segment with the last record always stays: it tells where numbers go on, and the owner's last note. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "net/spool_private.h"

#define SPARE_IDLE (10 * INT64_C(1000000000))

static bool released(const spool_t *spool, const segment_t *segment) {
    return segment->last_index <= spool->released_index && segment->last_number <= spool->released_number;
}

/* The first segment may only go when a record behind it is on disk: else a power cut could take both. */
static bool may_go(const spool_t *spool) {
    const segment_t *first = spool->segments[0];
    return spool->count > 1 && !first->dirty && !first->syncing && spool_synced(spool) >= spool->segments[1]->head.first_index &&
           spool->segments[1]->last_index >= spool->segments[1]->head.first_index;
}

bool spool_drop_spare(spool_t *spool) {
    if (!spool->spares)
        return false;
    char *spare = spool_spare_path(spool, --spool->spares);
    unlink(spare);
    mem_free(spare);
    if (spool->spares_least > spool->spares)
        spool->spares_least = spool->spares;
    return true;
}

void spool_ended(spool_t *spool) {
    spool->ended = true;
    while (spool_drop_spare(spool))
        ;
}

/* Those that a while at this pace did not need go one by one: a file's removal takes the disk's time. */
static void trim_spares(void *argument) {
    spool_t *spool = argument;
    spool->spare_timer = NULL;
    if (spool->spares_least)
        spool_drop_spare(spool);
    spool->spares_least = spool->spares;
    if (spool->spares)
        spool->spare_timer = loop_timer(spool->setup.loop, SPARE_IDLE, 0, trim_spares, spool);
}

/* A receiver that lets go of much at a time, as process does with each snapshot, leaves files for all that comes until the next time. With what is in use
 * they stay inside the limit. */
static bool keep_spare(spool_t *spool, const segment_t *segment, const char *path) {
    bool shared = atomic_load_explicit(&segment->references, memory_order_acquire) > 1;
    uint64_t used = spool->bytes - segment->size + (spool->spares + 1) * spool->segment_size;
    if (spool->spares == SPARES_MAX || used > spool->setup.limit || spool->trouble || spool->ended || shared || segment->damaged || segment->size < spool->segment_size / 2)
        return false;
    char *spare = spool_spare_path(spool, spool->spares);
    bool kept = rename(path, spare) == 0;
    mem_free(spare);
    spool->spares += kept;
    if (kept && !spool->spare_timer)
        spool->spare_timer = loop_timer(spool->setup.loop, SPARE_IDLE, 0, trim_spares, spool);
    return kept;
}

static void remove_first(spool_t *spool) {
    segment_t *segment = spool->segments[0];
    char *path = spool_segment_path(spool, segment->head.first_index);
    if (!keep_spare(spool, segment, path))
        unlink(path);
    mem_free(path);
    spool->bytes -= segment->size;
    if (segment->fd >= 0)
        close(segment->fd);
    segment->fd = -1;
    segment->removed = true;
    segment_unref(segment);
    memmove(spool->segments, spool->segments + 1, --spool->count * sizeof(segment_t *));
}

void spool_remove_released(spool_t *spool) {
    bool any = false;
    while (spool->count > 1 && released(spool, spool->segments[0]) && may_go(spool)) {
        remove_first(spool);
        any = true;
    }
    if (any && spool->setup.sync == SPOOL_NONE)
        spool_mark(spool);
    if (any && spool->trouble)
        spool_retry_soon(spool);
}

void spool_release(spool_t *spool, uint64_t index, uint64_t number) {
    if (index > spool->written_index)
        index = spool->written_index;
    if (number > spool->written_number)
        number = spool->written_number;
    if (index > spool->released_index)
        spool->released_index = index;
    if (number > spool->released_number)
        spool->released_number = number;
    spool_remove_released(spool);
    spool_update_room(spool);
}

/* Events of the frames in a segment that nobody has released, by the records' heads alone. */
static uint64_t count_events(const spool_t *spool, const segment_t *segment) {
    char *path = spool_segment_path(spool, segment->head.first_index);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    mem_free(path);
    uint64_t events = 0, at = SEGMENT_HEAD;
    uint8_t bytes[RECORD_HEAD];
    record_head_t head;
    for (uint64_t index = segment->head.first_index; fd >= 0 && index <= segment->last_index; index++) {
        if (pread(fd, bytes, 8, (off_t) at) == 8)
            at = record_place(at, bytes);
        if (at + RECORD_HEAD > segment->size || pread(fd, bytes, sizeof bytes, (off_t) at) != (ssize_t) sizeof bytes ||
            !record_get_head(&head, bytes, segment->size - at) || head.index != index)
            break;
        if (head.number > spool->released_number)
            events += head.events;
        at += SPOOL_ALIGN(head.size);
    }
    if (fd >= 0)
        close(fd);
    return events;
}

bool spool_drop_oldest(spool_t *spool) {
    if (spool->count < 2)
        return false;
    if (!may_go(spool)) {
        spool_sync_start(spool);       /* so that it may soon */
        return false;
    }
    const segment_t *first = spool->segments[0];
    spool->dropped_events += count_events(spool, first);
    spool->dropped_reason = "the durable log is full: the oldest were given up";
    if (first->last_index > spool->released_index)
        spool->released_index = first->last_index;
    if (first->last_number > spool->released_number)
        spool->released_number = first->last_number;
    remove_first(spool);
    spool_tell(spool);
    return true;
}

/* What is released stands on disk until its segment is full, and takes nobody's room. Where only notes are still of use, none of which goes before the next
 * is written, waiting would have no end. */
void spool_update_room(spool_t *spool) {
    bool just_notes = spool->setup.renewed && spool->released_number >= spool->written_number;
    uint64_t used = spool->bytes;
    for (size_t i = 0; i < spool->count && released(spool, spool->segments[i]); i++)
        used -= spool->segments[i]->size;
    uint64_t limit = spool->setup.limit;
    if (!spool->full)
        spool->full = used >= limit && !just_notes;
    else if (used < limit - limit / 4 || just_notes) {
        spool->full = false;
        spool->tell_room = true;
        spool_tell(spool);
    }
}
