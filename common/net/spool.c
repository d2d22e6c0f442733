/* The durable log: opening and closing it, groups of records on their way in, and what its owner is told. Records are given their numbers when
 * they are added, and are written with the commit of their group (spool_write.c), synced by the policy (spool_sync.c), read through mappings of
 * the files (spool_read.c), and go by whole segments once they are released (spool_room.c). All of it runs in the loop but the waiting for the
 * disk, which a thread does (syncer.c). Callbacks are called from the loop only, never from inside a function of this interface. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/spool_private.h"

#define SEGMENT_LARGEST (64u * 1024 * 1024)
#define SEGMENT_SMALLEST (1024u * 1024)
#define BODY_COPIED 2048                 /* smaller bodies are copied: cheaper than a piece of their own in the write */
#define DROP_WAITING (1024u * 1024)      /* SPOOL_DROP_NEWEST with a full disk: so much is kept in memory before groups are dropped */

char *spool_path(const spool_t *spool, const char *name) {
    return mem_format("%s/%s", spool->directory, name);
}

char *spool_spare_path(const spool_t *spool, unsigned i) {
    return mem_format("%s/spare%u", spool->directory, i);
}

char *spool_segment_path(const spool_t *spool, uint64_t first_index) {
    char name[32];
    segment_name(name, first_index);
    return spool_path(spool, name);
}

segment_t *segment_ref(segment_t *segment) {
    atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    return segment;
}

void segment_unref(segment_t *segment) {
    if (segment && atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) == 1)
        mem_free(segment);
}

segment_t *spool_add_segment(spool_t *spool, const segment_head_t *head) {
    if (spool->count == spool->capacity) {
        spool->capacity = spool->capacity ? spool->capacity * 2 : 32;
        spool->segments = mem_resize(spool->segments, spool->capacity * sizeof(segment_t *));
    }
    segment_t *segment = mem_zero(sizeof *segment);
    atomic_init(&segment->references, 1);
    segment->head = *head;
    segment->last_index = head->first_index - 1;
    segment->last_number = head->first_number - 1;
    segment->fd = -1;
    spool->segments[spool->count++] = segment;
    return segment;
}

/* ---- what the owner is told ---- */

static void tell(void *argument) {
    spool_t *spool = argument;
    spool_setup_t *setup = &spool->setup;
    if (spool->dropped_events && setup->dropped) {
        uint64_t events = spool->dropped_events;
        spool->dropped_events = 0;
        setup->dropped(setup->argument, events, spool->dropped_reason);
    }
    if (spool->tell_trouble && setup->trouble && (spool->trouble || spool->told_trouble)) {
        spool->told_trouble = spool->trouble;
        setup->trouble(setup->argument, spool->trouble ? spool->reason.text : NULL);
    }
    spool->tell_trouble = false;
    if (spool->tell_synced && spool_synced(spool) != spool->told_synced && setup->synced) {
        spool->told_synced = spool_synced(spool);
        setup->synced(setup->argument);
    }
    spool->tell_synced = false;
    if (spool->tell_written && spool_written(spool) != spool->told_written && setup->written) {
        spool->told_written = spool_written(spool);
        setup->written(setup->argument);
    }
    spool->tell_written = false;
    if (spool->tell_room && spool_room(spool) && setup->room) {
        spool->tell_room = false;
        setup->room(setup->argument);
    }
    spool->tell_room = false;
}

void spool_tell(spool_t *spool) {
    loop_defer(spool->setup.loop, tell, spool);
}

void spool_mark(spool_t *spool) {
    char text[256];
    spool_mark_t mark = {spool->synced_segment, spool->synced_length, spool->synced_index, spool->synced_number,
                         spool->released_index, spool->released_number};
    mark_put(text, &mark);
    if (pwrite(spool->mark_fd, text, MARK_SIZE, 0) != MARK_SIZE)
        log_debug("%s/synced could not be written", spool->directory);      /* a hint */
}

/* ---- opening ---- */

static uint64_t segment_size(uint64_t limit) {
    uint64_t size = limit / 16, smallest = limit / 4 < SEGMENT_SMALLEST ? limit / 4 : SEGMENT_SMALLEST;
    if (size < smallest)
        size = smallest;
    return size > SEGMENT_LARGEST ? SEGMENT_LARGEST : size;
}

static int make_identity(spool_t *spool, err_t *err) {
    spool_meta_t *meta = &spool->meta;
    if (getrandom(&meta->id, sizeof meta->id, 0) != sizeof meta->id)
        return err_errno(err, "random numbers");
    meta->id |= 1;                     /* not 0 */
    const char *name = spool->setup.name ? spool->setup.name : "spool";
    snprintf(meta->name, sizeof meta->name, "%.*s", FRAME_ORIGIN_MAX - 17, name);
    snprintf(meta->identity.origin, sizeof meta->identity.origin, "%.*s.%016llx", FRAME_ORIGIN_MAX - 17, name, (unsigned long long) meta->id);
    meta->identity.epoch = 1;
    meta_boot(meta->boot);
    meta->sync = spool->setup.sync;
    return meta_write(meta, spool->directory, err);
}

static int open_directory(spool_t *spool, err_t *err) {
    if (mkdir(spool->directory, 0755) != 0 && errno != EEXIST)
        return err_errno(err, "create the directory %s", spool->directory);
    spool->directory_fd = open(spool->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->directory_fd < 0)
        return err_errno(err, "%s", spool->directory);
    char *path = spool_path(spool, "lock");
    pid_t holder;
    spool->lock = file_lock(path, &holder, err);
    mem_free(path);
    if (spool->lock < 0)
        return holder ? err_set(err, "the durable log %s is in use by process %d: one process has it at a time", spool->directory, (int) holder) : -1;
    path = spool_path(spool, "synced");
    spool->mark_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    int result = spool->mark_fd < 0 ? err_errno(err, "%s", path) : 0;
    mem_free(path);
    return result;
}

static void spool_free(spool_t *spool) {
    spool_cursor_free(spool->last);
    syncer_free(spool->syncer);
    spool_direct_end(spool);
    loop_undefer(spool->setup.loop, tell, spool);
    loop_remove(spool->sync_timer);
    loop_remove(spool->retry_timer);
    loop_remove(spool->spare_timer);
    for (size_t i = 0; i < spool->count; i++) {
        if (spool->segments[i]->fd >= 0)
            close(spool->segments[i]->fd);
        segment_unref(spool->segments[i]);
    }
    for (size_t i = spool->entry_first; i < spool->entry_count; i++)
        frame_unref(spool->entries[i].frame);
    for (int *fd = (int[]){spool->mark_fd, spool->directory_fd, spool->lock, -2}; *fd != -2; fd++)
        if (*fd >= 0)
            close(*fd);
    mem_free(spool->segments);
    mem_free(spool->entries);
    buf_fini(&spool->bytes_waiting);
    mem_free(spool->directory);
    mem_free(spool);
}

int spool_open(spool_t **out, const spool_setup_t *setup, err_t *err) {
    signal(SIGXFSZ, SIG_IGN);          /* a limit on file sizes is an error like another */
    spool_t *spool = mem_zero(sizeof *spool);
    spool->setup = *setup;
    if (!spool->setup.limit)
        spool->setup.limit = UINT64_MAX;
    spool->directory = mem_text(setup->directory);
    spool->lock = spool->directory_fd = spool->mark_fd = -1;
    spool->segment_size = segment_size(spool->setup.limit);
    if (open_directory(spool, err) != 0)
        goto fail;
    int known = meta_read(&spool->meta, spool->directory, err);
    if (known < 0 || spool_recover(spool, !known, err) != 0 || (!known && make_identity(spool, err) != 0))
        goto fail;
    spool->syncer = syncer_new(spool->setup.loop);
    spool->last = spool_cursor_new(spool);
    spool->told_written = spool_written(spool);
    spool->told_synced = spool_synced(spool);
    spool_mark(spool);
    spool_remove_released(spool);
    spool_update_room(spool);
    *out = spool;
    return 0;
fail:
    spool_free(spool);
    return -1;
}

void spool_close(spool_t *spool) {
    if (!spool)
        return;
    ASSERT(!spool->in_group);
    spool_flush(spool);
    if (spool->setup.sync != SPOOL_NONE)
        spool_sync(spool);
    size_t lost = spool->entry_count - spool->entry_first;
    if (lost || spool->flights.first)
        log_error("%zu records could not be written and are lost: %s", lost + (spool->flights.first ? 1 : 0), spool->reason.text);
    segment_t *current = spool_current(spool);
    if (current && current->fd >= 0 && ftruncate(current->fd, (off_t) current->size) != 0)
        log_debug("%s: its spare room could not be given back", spool->directory);
    spool_mark(spool);
    spool_ended(spool);
    if (spool->dropped_events && spool->setup.dropped)
        spool->setup.dropped(spool->setup.argument, spool->dropped_events, spool->dropped_reason);
    spool_free(spool);
}

/* ---- groups ---- */

void spool_begin(spool_t *spool) {
    ASSERT(!spool->in_group);
    spool->in_group = true;
    spool->group_has_frame = false;
    spool->group_index = spool->index;
    spool->group_number = spool->number;
    spool->group_entries = spool->entry_count;
    spool->group_bytes = spool->bytes_waiting.size;
    spool->dropping = spool->setup.full == SPOOL_DROP_NEWEST &&
                      (spool->full || (spool->trouble && spool->waiting_bodies + spool->bytes_waiting.size > DROP_WAITING));
}

static entry_t *new_entry(spool_t *spool) {
    if (spool->entry_count == spool->entry_capacity) {
        spool->entry_capacity = spool->entry_capacity ? spool->entry_capacity * 2 : 64;
        spool->entries = mem_resize(spool->entries, spool->entry_capacity * sizeof *spool->entries);
    }
    entry_t *entry = &spool->entries[spool->entry_count++];
    *entry = (entry_t){.start = spool->bytes_waiting.size};
    return entry;
}

/* A frame that finds no room takes its group with it, as if none of it had been added. */
static void drop_group(spool_t *spool, const frame_t *frame) {
    spool->dropped_events += frame->events;
    spool->dropped_reason = spool->trouble ? "the durable log cannot be written" : "the durable log is full";
    spool_tell(spool);
    for (size_t i = spool->group_entries; i < spool->entry_count; i++)
        frame_unref(spool->entries[i].frame);
    spool->entry_count = spool->group_entries;
    spool->bytes_waiting.size = spool->group_bytes;
    spool->index = spool->group_index;
    spool->number = spool->group_number;
    spool->group_has_frame = true;
}

static void add_frame(spool_t *spool, entry_t *entry, frame_t *frame) {
    static const frame_number_t nobody = {.origin = ""};
    buf_t *out = &spool->bytes_waiting;
    record_head_t *head = &entry->head;
    head->topic_size = (uint8_t) strlen(frame->topic);
    buf_put(out, frame->topic, head->topic_size);
    size_t start = out->size;
    frame_put_header(out, frame, &nobody);
    head->header_size = (uint32_t) (out->size - start);
    head->events = frame->events;
    head->number = ++spool->number;
    if (frame->body_size <= BODY_COPIED)
        buf_put(out, frame->body, frame->body_size);
    else {
        entry->frame = frame_ref(frame);
        spool->waiting_bodies += frame->body_size;
    }
}

uint64_t spool_add(spool_t *spool, text_t note, frame_t *frame, uint64_t *number) {
    ASSERT(spool->in_group && note.size <= SPOOL_NOTE_MAX && (frame || note.data));
    if (spool->dropping && (frame || spool->group_has_frame)) {
        if (frame)
            drop_group(spool, frame);
        if (number)
            *number = 0;
        return 0;
    }
    entry_t *entry = new_entry(spool);
    buf_t *out = &spool->bytes_waiting;
    buf_reserve(out, RECORD_HEAD);
    out->size += RECORD_HEAD;
    buf_put(out, note.data, note.size);
    entry->head.note_size = (uint32_t) note.size;
    entry->head.index = ++spool->index;
    entry->head.flags = RECORD_CONTINUES;
    if (frame)
        add_frame(spool, entry, frame);
    entry->size = out->size - entry->start;
    size_t body = entry->frame ? entry->frame->body_size : 0;
    ASSERT(entry->size + body <= UINT32_MAX - 8);
    entry->head.size = (uint32_t) (entry->size + body);
    static const uint8_t zeros[8];
    if (!entry->frame)
        buf_put(out, zeros, SPOOL_ALIGN(entry->size) - entry->size);
    if (number)
        *number = entry->head.number;
    return spool->index;
}

void spool_commit(spool_t *spool) {
    ASSERT(spool->in_group);
    spool->in_group = false;
    if (spool->entry_count == spool->group_entries)
        return;
    spool->entries[spool->entry_count - 1].head.flags &= (uint8_t) ~RECORD_CONTINUES;
    if (spool->trouble)                /* in order, behind what waits already */
        return;
    spool_flush(spool);
    if (!spool->trouble) {
        spool->told_written = spool_written(spool);
        if (spool->setup.sync == SPOOL_NONE)
            spool->told_synced = spool_synced(spool);
    }
}

/* ---- questions ---- */

const spool_identity_t *spool_identity(const spool_t *spool) {
    return &spool->meta.identity;
}

uint64_t spool_common(const spool_t *spool, uint64_t epoch) {
    const spool_identity_t *identity = spool_identity(spool);
    uint64_t present = spool_number(spool);
    if (epoch == identity->epoch)
        return present;
    bool known;
    uint64_t number = frame_common(identity->past, identity->past_count, epoch, &known);
    return !known ? 0 : number < present ? number : present;
}

bool spool_room(const spool_t *spool) {
    return !spool->trouble && !(spool->full && spool->setup.full == SPOOL_BLOCK);
}

uint64_t spool_index(const spool_t *spool) {
    return spool->index;
}

uint64_t spool_number(const spool_t *spool) {
    return spool->number;
}

uint64_t spool_written(const spool_t *spool) {
    return spool->setup.sync == SPOOL_ALWAYS ? spool->synced_number : spool->written_number;
}

uint64_t spool_synced(const spool_t *spool) {
    return spool->setup.sync == SPOOL_NONE ? spool->written_index : spool->synced_index;
}

uint64_t spool_lowest(const spool_t *spool) {
    uint64_t lowest = spool->count ? spool->segments[0]->head.first_number : spool->number + 1;
    if (lowest <= spool->released_number)
        lowest = spool->released_number + 1;
    return lowest > spool->number + 1 ? spool->number + 1 : lowest;
}

uint64_t spool_limit(const spool_t *spool) {
    return spool->setup.limit;
}

uint64_t spool_bytes(const spool_t *spool) {
    return spool->bytes;
}

uint64_t spool_damages(const spool_t *spool) {
    return spool->damages;
}
