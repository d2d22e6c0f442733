/* What broadcast remembers of its own: when the file of progress is written and synced, and when senders are told. What stands in it
 * is progress_text.c's. */
#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/syncer.h"
#include "progress_text.h"
#include "slots.h"

#define RETRY (200 * NS_PER_MS)
#define SYNC_SOONER (512u * 1024)      /* bytes: senders without a log of their own keep no more than their window, 2 MiB */

struct progress {
    progress_text_t text;              /* what it is made of */
    slots_t *slots;
    syncer_t *syncer;
    buf_t live, synced;
    fd_list_t fds;                     /* being synced, or to be synced with the next order */
    loop_watch_t *timer;               /* the next sync, or the next try */
    uint64_t dead_synced;              /* dead letters up to this offset are synced */
    uint64_t dead_live, dead_noted;    /* and up to these in the text that was written last, and in what was noted */
    bool begun, touched, unsynced, syncing;
    bool hurried;                      /* something waits for the next sync */
    char trouble[240];
};

static void try_again(void *argument);
static void sync_begin(void *argument);

void fd_list_take(fd_list_t *list, int fd) {
    list->fds = mem_resize(list->fds, (list->count + 1) * sizeof *list->fds);
    list->fds[list->count++] = fd;
}

static void close_fds(fd_list_t *list) {
    for (unsigned i = 0; i < list->count; i++)
        close(list->fds[i]);
    list->count = 0;
}

static const char *boot_id(char *out, size_t size) {
    const char *given = getenv("STREAM_BOOT_ID");
    buf_t text = {0};
    if (!given && file_read("/proc/sys/kernel/random/boot_id", 256, &text, NULL) == 0)
        given = buf_text(&text);
    snprintf(out, size, "%.*s", (int) strcspn(given ? given : "", "\n"), given ? given : "");
    buf_fini(&text);
    return out;
}

/* Live when the machine has been up all the while, or when nothing is ever waited for; else synced. */
static int read_text(progress_t *progress, err_t *err) {
    buf_t text = {0};
    int result = 0;
    if (!slots_read(progress->slots, SLOT_LIVE, &text)) {
        if (!slots_read(progress->slots, SLOT_SYNCED, &text))
            goto out; /* the first start */
    } else if (!progress_text_is_of_boot(text_make((const char *) text.data, text.size), progress->text.boot)) {
        log_info("the machine has been started anew: going on from what was on the disk for certain");
        buf_t synced = {0};
        if (slots_read(progress->slots, SLOT_SYNCED, &synced) && progress->text.stage->settings.sync != SPOOL_NONE) {
            buf_fini(&text);
            text = synced;
        } else {
            buf_fini(&synced);
        }
    }
    result = progress_text_read(&progress->text, text_make((const char *) text.data, text.size), err);
out:
    buf_fini(&text);
    return result;
}

int progress_open(progress_t **made, stage_t *stage, deliveries_t *deliveries, sink_t **sinks, size_t sink_count, err_t *err) {
    progress_t *progress = mem_zero(sizeof *progress);
    progress->text = (progress_text_t){.stage = stage, .deliveries = deliveries, .sinks = sinks, .sink_count = sink_count};
    boot_id(progress->text.boot, sizeof progress->text.boot);
    progress->syncer = syncer_new(stage->loop);
    char *path = stage_state_path(stage, "progress");
    int result = slots_open(&progress->slots, path, err);
    if (result == 0 && (result = read_text(progress, err)))
        err_wrap(err, "%s", path);
    mem_free(path);
    if (result) {
        progress_close(progress);
        return -1;
    }
    deliveries->by_progress = true;
    progress->dead_synced = stage_dead_offset(stage);
    *made = progress;
    return 0;
}

int progress_begin(progress_t *progress, err_t *err) {
    stage_t *stage = progress->text.stage;
    const deliveries_t *deliveries = progress->text.deliveries;
    bool over = progress->text.over, restored = false;
    progress->begun = true;
    progress->text.over = false;
    if (progress_commit(progress, true, err))
        return -1;
    for (unsigned i = 0; i < deliveries->count; i++) {
        origin_t *origin = deliveries->origins[i];
        if (origin->input == ORIGIN_AWAY)
            continue;
        stage_restore_input(stage, origin->key, origin->name, origin->done.epoch, origin->done.number, origin->ended);
        origin->told = origin->done;
        restored = true;
    }
    if (restored && !over)
        stage_check_end(stage);
    return 0;
}

void progress_over(progress_t *progress) {
    progress->text.over = true;
}

static void note(progress_t *progress) {
    const deliveries_t *deliveries = progress->text.deliveries;
    for (unsigned i = 0; i < deliveries->count; i++)
        deliveries->origins[i]->noted = deliveries->origins[i]->done;
    progress->dead_noted = stage_dead_offset(progress->text.stage);
    progress->hurried = false;
    for (size_t i = 0; i < progress->text.sink_count; i++) {
        sink_t *sink = progress->text.sinks[i];
        if (sink->class->noted && sink->queue)
            sink->class->noted(sink);
    }
}

/* What was noted is safe: the senders may forget it, and dead letters up to there may be taken away: neither a kill, after which the text
 * written last counts, nor a power cut has them written again. */
static void tell(const progress_t *progress) {
    const deliveries_t *deliveries = progress->text.deliveries;
    for (unsigned i = 0; i < deliveries->count; i++) {
        origin_t *origin = deliveries->origins[i];
        reached_t noted = origin->noted;
        if (origin->input == ORIGIN_AWAY || (noted.epoch == origin->told.epoch && noted.number == origin->told.number))
            continue;
        frame_t frame = {.epoch = noted.epoch, .sequence = noted.number};
        snprintf(frame.origin, sizeof frame.origin, "%s", origin->name);
        origin->told = noted;
        stage_durable(progress->text.stage, origin->input, &frame);
    }
    stage_dead_durable(progress->text.stage, progress->dead_live < progress->dead_noted ? progress->dead_live : progress->dead_noted);
    for (size_t i = 0; i < progress->text.sink_count; i++) {
        sink_t *sink = progress->text.sinks[i];
        if (sink->class->safe && sink->queue)
            sink->class->safe(sink);
    }
}

static void failed(progress_t *progress, const char *reason) {
    if (!progress->trouble[0])
        log_error("progress: %s; trying again until it works", reason);
    snprintf(progress->trouble, sizeof progress->trouble, "progress: %s", reason);
    progress->text.stage->errors++;
    if (progress->timer)
        loop_remove(progress->timer);
    progress->timer = loop_timer(progress->text.stage->loop, RETRY, 0, try_again, progress);
}

static void worked(progress_t *progress) {
    if (progress->trouble[0])
        log_info("progress: works again");
    progress->trouble[0] = 0;
}

const char *progress_trouble(const progress_t *progress) {
    return progress->trouble[0] ? progress->trouble : NULL;
}

static text_t text_in(const buf_t *buf) {
    return text_make((const char *) buf->data, buf->size);
}

static int write_live_now(progress_t *progress, err_t *err) {
    if (stage_dead_waiting(progress->text.stage))
        return err_set(err, "dead letters that it would tell of cannot be written");
    buf_clear(&progress->live);
    progress_text_put(&progress->text, &progress->live);
    if (slots_write(progress->slots, SLOT_LIVE, text_in(&progress->live), err))
        return -1;
    progress->touched = false;
    progress->unsynced = true;
    progress->dead_live = stage_dead_offset(progress->text.stage);
    return 0;
}

static void schedule(progress_t *progress) {
    const stage_settings_t *settings = &progress->text.stage->settings;
    if (settings->sync == SPOOL_NONE) {
        note(progress);
        tell(progress);
        progress->unsynced = false;
        worked(progress);
    } else if (progress->unsynced && !progress->syncing && !progress->touched) { /* touched: it will be written first */
        if (settings->sync == SPOOL_ALWAYS || progress->hurried || progress->text.deliveries->bytes >= SYNC_SOONER) {
            loop_remove(progress->timer);
            progress->timer = NULL;
            sync_begin(progress);
        } else if (!progress->timer)
            progress->timer = loop_timer(progress->text.stage->loop, settings->sync_interval, 0, sync_begin, progress);
    }
}

static void write_live(void *argument) {
    progress_t *progress = argument;
    err_t err;
    if (write_live_now(progress, &err))
        failed(progress, err.text);
    else
        schedule(progress);
}

static void try_again(void *argument) {
    progress_t *progress = argument;
    progress->timer = NULL;
    write_live(progress);
}

void progress_touch(progress_t *progress) {
    if (progress->touched || !progress->begun)
        return;
    progress->touched = true;
    if (!progress->trouble[0])
        loop_defer(progress->text.stage->loop, write_live, progress);
}

void progress_hurry(progress_t *progress) {
    progress->hurried = true;
    progress_touch(progress);
}

/* The file of dead letters is the skeleton's: a descriptor of our own syncs it as well. */
static void add_dead_letters(progress_t *progress) {
    const stage_settings_t *settings = &progress->text.stage->settings;
    uint64_t offset = stage_dead_offset(progress->text.stage);
    if (!settings->dead_letter || offset == progress->dead_synced)
        return;
    char *old = mem_format("%s.1", settings->dead_letter);
    const char *paths[] = {settings->dead_letter, old};
    for (unsigned i = 0; i < 2; i++) {
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            fd_list_take(&progress->fds, fd);
    }
    mem_free(old);
    progress->dead_synced = offset;
}

static void gather(progress_t *progress) {
    buf_clear(&progress->synced);
    progress_text_put(&progress->text, &progress->synced);
    progress->unsynced = false;
    progress->text.deliveries->bytes = 0;
    note(progress);
    for (size_t i = 0; i < progress->text.sink_count; i++) {
        sink_t *sink = progress->text.sinks[i];
        if (sink->class->sync && sink->queue)
            sink->class->sync(sink, &progress->fds);
    }
    add_dead_letters(progress);
}

/* Each file once: the descriptors of one that could not be synced would be joined by new ones with every further try. */
static void keep_once(fd_list_t *list) {
    struct stat *status = mem_zero((list->count + 1) * sizeof *status);
    unsigned kept = 0;
    for (unsigned i = 0; i < list->count; i++) {
        bool twice = false, known = fstat(list->fds[i], &status[kept]) == 0;
        for (unsigned j = 0; j < kept && known && !twice; j++)
            twice = status[j].st_ino == status[kept].st_ino && status[j].st_dev == status[kept].st_dev;
        if (twice)
            close(list->fds[i]);
        else
            list->fds[kept++] = list->fds[i];
    }
    list->count = kept;
    mem_free(status);
}

static void sync_failed(progress_t *progress, const char *what, int error) {
    char reason[160];
    snprintf(reason, sizeof reason, "%s: %s", what, strerror(error));
    progress->syncing = false;
    progress->unsynced = true;
    keep_once(&progress->fds);
    failed(progress, reason); /* what could not be synced is in fds still, and goes with the next order */
}

static void slot_synced(void *argument, int error) {
    progress_t *progress = argument;
    close_fds(&progress->fds);
    if (error) {
        sync_failed(progress, "sync", error);
        return;
    }
    progress->syncing = false;
    worked(progress);
    tell(progress);
    schedule(progress);
}

static void data_synced(void *argument, int error) {
    progress_t *progress = argument;
    err_t err;
    if (error) {
        sync_failed(progress, "sync of what sinks have written", error);
        return;
    }
    close_fds(&progress->fds);
    int fd = -1;
    if (slots_write(progress->slots, SLOT_SYNCED, text_in(&progress->synced), &err) == 0 &&
        (fd = fcntl(slots_fd(progress->slots), F_DUPFD_CLOEXEC, 3)) < 0)
        err_errno(&err, "duplicate a descriptor");
    if (fd < 0) {
        progress->syncing = false;
        progress->unsynced = true;
        failed(progress, err.text);
        return;
    }
    fd_list_take(&progress->fds, fd);
    syncer_sync(progress->syncer, progress->fds.fds, progress->fds.count, slot_synced, progress);
}

static void sync_begin(void *argument) {
    progress_t *progress = argument;
    progress->timer = NULL;
    if (progress->syncing)
        return;
    /* What is synced is in the text that was written last, too: that one counts as long as the machine is up. */
    loop_undefer(progress->text.stage->loop, write_live, progress);
    err_t err;
    if (progress->touched && write_live_now(progress, &err)) {
        failed(progress, err.text);
        return;
    }
    progress->syncing = true;
    gather(progress);
    if (progress->fds.count)
        syncer_sync(progress->syncer, progress->fds.fds, progress->fds.count, data_synced, progress);
    else
        data_synced(progress, 0);
}

static int sync_now(progress_t *progress, err_t *err) {
    gather(progress);
    progress->unsynced = true;
    for (unsigned i = 0; i < progress->fds.count; i++)
        if (fdatasync(progress->fds.fds[i]))
            return err_errno(err, "sync of what sinks have written");
    close_fds(&progress->fds);
    if (slots_write(progress->slots, SLOT_SYNCED, text_in(&progress->synced), err) || slots_sync(progress->slots, err))
        return -1;
    progress->unsynced = false;
    worked(progress);
    tell(progress);
    return 0;
}

int progress_commit(progress_t *progress, bool durable, err_t *err) {
    if (!progress->begun)
        return 0; /* progress_begin does it for all */
    durable &= progress->text.stage->settings.sync != SPOOL_NONE;
    if (durable)
        syncer_wait(progress->syncer);
    loop_undefer(progress->text.stage->loop, write_live, progress);
    progress->touched = false;
    if (write_live_now(progress, err) || (durable && sync_now(progress, err))) {
        err_wrap(err, "progress");
        progress_touch(progress);
        return -1;
    }
    schedule(progress);
    return 0;
}

void progress_close(progress_t *progress) {
    if (!progress)
        return;
    syncer_free(progress->syncer);
    loop_undefer(progress->text.stage->loop, write_live, progress);
    loop_remove(progress->timer);
    close_fds(&progress->fds);
    mem_free(progress->fds.fds);
    slots_close(progress->slots);
    buf_fini(&progress->live);
    buf_fini(&progress->synced);
    mem_free(progress);
}
