/* file: events appended to files as text, with rotation. The path may hold {stream} and times like %Y-%m-%d (UTC), and then
 * stands for several files. A full disk is waited for; a frame is answered when all its text is in the file, and on the disk
 * where --fsync asks for that.
 *
 * With --state it is exact. The progress holds each file's length up to the last frame answered, and after a crash files are cut back to
 * that (record.c). So a file is known to the progress before anything is written to it, and until everything in it is. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "output.h"
#include "record.h"
#include "sink.h"

#define PIECE (128u * 1024)        /* text written at once under load */
#define OPEN_MAX 64                /* files open at once */
#define RETIRED_MAX 64             /* closed ones that wait for a sync */

typedef enum fsync_policy { FSYNC_NEVER, FSYNC_INTERVAL, FSYNC_ALWAYS } fsync_policy_t;

typedef struct file_sink {
    char *format_name;
    uint64_t rotate_size;
    int64_t rotate_every;
    int64_t keep;
    int fsync;
    int64_t fsync_interval;
    const format_t *format;
    output_t *outputs[OPEN_MAX];
    size_t count;
    uint64_t clock;
    uint32_t collected;            /* frames whose text is not written yet */
    uint32_t written;              /* frames that wait for a sync */
    size_t text;                   /* bytes collected */
    loop_watch_t *sync_timer;
    /* with --state */
    records_t records;
    fd_list_t retired;             /* closed, and not synced yet */
} file_sink_t;

#define TIMES "YmdHMSjF"

static bool is_template(const char *path) {
    return strchr(path, '%') || strstr(path, "{stream}");
}

/* What would stand in the files' names as it is, and was meant as something else. */
static int check_template(const char *path, err_t *err) {
    for (const char *p = path; *p; p++) {
        if (*p == '%' && p[1] == '%') {
            p++;
        } else if (*p == '%' && (!p[1] || !strchr(TIMES, p[1]))) {
            text_t character = text_make(p, 1);
            while (p[1] && (character.size < 2 || (p[character.size] & 0xC0) == 0x80))
                character.size++;
            return err_set(err, "file:%s: there is no %.*s in a path; known are %%Y %%m %%d %%H %%M %%S %%j %%F and {stream}; a percent sign is %%%%", path,
                           (int) character.size, character.data);
        } else if (*p == '{' && strncmp(p, "{stream}", 8) != 0) {
            size_t word = strspn(p + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@-");
            if (word && p[word + 1] == '}')
                return err_set(err, "file:%s: there is no %.*s in a path; known are {stream} and %%Y %%m %%d %%H %%M %%S %%j %%F", path, (int) word + 2, p);
        }
    }
    return 0;
}

static int file_check(sink_t *sink, err_t *err) {
    file_sink_t *file = sink->own;
    if (!sink->target[0])
        return err_set(err, "file: needs a path, as in file:out.ndjson");
    if (check_template(sink->target, err))
        return -1;
    return sink_format(sink, file->format_name, sink->target, &file->format, err);
}

/* The path for a stream at a time. A stream's name holds no slash (and "." and ".." are made harmless by what must surround
 * them: refused). */
static int expand(const char *template, const char *stream, int64_t now, buf_t *path, err_t *err) {
    time_t seconds = (time_t) (now / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    for (const char *p = template; *p; p++) {
        if (strncmp(p, "{stream}", 8) == 0) {
            if (strspn(stream, ".") == strlen(stream))
                return err_set(err, "stream %s cannot be part of a file name", stream);
            buf_put_text(path, stream);
            p += 7;
        } else if (*p == '%' && p[1] == '%') {
            buf_put_byte(path, *p++);
        } else if (*p == '%' && p[1] && strchr(TIMES, p[1])) {
            char format[3] = {'%', *++p, 0}, text[32];
            buf_put(path, text, strftime(text, sizeof text, format, &tm));
        } else {
            buf_put_byte(path, (uint8_t) *p);
        }
    }
    return 0;
}

static void answer(sink_t *sink, uint32_t frames) {
    file_sink_t *file = sink->own;
    for (size_t i = 0; i < file->count; i++)
        output_keep(file->outputs[i]);
    sink_answer(sink, SINK_OK, frames, NULL);
}

static void fail(sink_t *sink, const err_t *err) {
    file_sink_t *file = sink->own;
    for (size_t i = 0; i < file->count; i++)
        output_undo(file->outputs[i]);
    file->collected = file->written = 0;
    file->text = 0;
    sink_answer(sink, SINK_RETRY, 0, err->text);
}

static int sync_all(sink_t *sink, err_t *err) {
    file_sink_t *file = sink->own;
    for (size_t i = 0; i < file->count; i++)
        if (output_sync(file->outputs[i], err))
            return -1;
    return 0;
}

static void sync_due(void *argument) {
    sink_t *sink = argument;
    file_sink_t *file = sink->own;
    file->sync_timer = NULL;
    err_t err;
    if (!file->written)
        return;
    if (sync_all(sink, &err)) {
        fail(sink, &err);
        return;
    }
    uint32_t frames = file->written;
    file->written = 0;
    answer(sink, frames);
}

/* Writes out everything collected. settle: also syncs (where that is the policy) and answers at once. */
static int write_out(sink_t *sink, bool settle, err_t *err) {
    file_sink_t *file = sink->own;
    for (size_t i = 0; i < file->count; i++)
        if (output_write(file->outputs[i], err))
            return -1;
    file->text = 0;
    file->written += file->collected;
    file->collected = 0;
    bool by_progress = sink->progress != NULL; /* which syncs, and holds back the acknowledgement until then */
    if (file->fsync == FSYNC_INTERVAL && !by_progress && !settle && !sink->stage->finishing) {
        if (file->written && !file->sync_timer)
            file->sync_timer = loop_timer(sink->stage->loop, file->fsync_interval, 0, sync_due, sink);
        return 0;
    }
    if (file->fsync != FSYNC_NEVER && !by_progress && sync_all(sink, err))
        return -1;
    uint32_t frames = file->written;
    file->written = 0;
    if (frames)
        answer(sink, frames);
    return 0;
}

/* Its descriptor stays open until what it has written is synced. */
static void retire(sink_t *sink, output_t *output) {
    file_sink_t *file = sink->own;
    if (!sink->progress || !output->dirty || !output->regular || sink->stage->settings.sync == SPOOL_NONE)
        return;
    if (file->retired.count < RETIRED_MAX) {
        fd_list_take(&file->retired, output->fd);
        output->fd = -1;
    } else if (fdatasync(output->fd)) {
        log_error("sync %s: %s", output->path, strerror(errno));
    }
}

static void drop_output(sink_t *sink, size_t index) {
    file_sink_t *file = sink->own;
    output_t *output = file->outputs[index];
    output_unlock(output);
    retire(sink, output);
    record_closed(&file->records, output);
    output_free(output);
    file->outputs[index] = file->outputs[--file->count];
}

static bool due_for_rotation(const file_sink_t *file, const output_t *output, int64_t now) {
    uint64_t size = output->size + output->text.size;
    return output->regular && size &&
           ((file->rotate_size && size >= file->rotate_size) || (file->rotate_every && now - output->born >= file->rotate_every));
}

static int make_room(sink_t *sink, err_t *err) {
    file_sink_t *file = sink->own;
    if (file->count < OPEN_MAX)
        return 0;
    if (write_out(sink, true, err))
        return -1;
    size_t oldest = 0;
    for (size_t i = 1; i < file->count; i++)
        if (file->outputs[i]->used < file->outputs[oldest]->used)
            oldest = i;
    drop_output(sink, oldest);
    return 0;
}

/* Nothing goes into a file that the progress does not know. */
static int make_known(sink_t *sink, output_t *output, err_t *err) {
    file_sink_t *file = sink->own;
    if (!sink->progress || !output->regular || output->known)
        return 0;
    if (record_open(&file->records, output)->stored) {
        output->known = true;
        return 0;
    }
    if (sink_commit(sink, true, err))
        return -1;
    records_all_stored(&file->records);
    output->known = true;
    return 0;
}

/* The file is renamed only after all its text is in it. Until the progress knows the next one it remembers this one, by inode: so a crash
 * between any two steps finds it, whatever it is called by then. */
static int rotate(sink_t *sink, size_t index, err_t *err) {
    file_sink_t *file = sink->own;
    output_t *output = file->outputs[index];
    if (write_out(sink, true, err) || output_rotate(output, file->keep, err))
        return -1;
    record_drop(&file->records, output);
    drop_output(sink, index);
    return 0;
}

/* Something else has deleted it: what is answered is lost, the next one is begun. */
static void let_go(sink_t *sink, size_t index) {
    file_sink_t *file = sink->own;
    record_drop(&file->records, file->outputs[index]);
    drop_output(sink, index);
}

/* The open file for the path, rotated when its time has come. NULL on failure. */
static output_t *output_for(sink_t *sink, const char *path, err_t *err) {
    file_sink_t *file = sink->own;
    for (size_t i = 0; i < file->count; i++) {
        output_t *output = file->outputs[i];
        if (strcmp(output->path, path) != 0)
            continue;
        if (!output_sound(output)) {
            let_go(sink, i);
            break;
        }
        if (!due_for_rotation(file, output, clock_now()))
            return make_known(sink, output, err) ? NULL : output;
        if (rotate(sink, i, err))
            return NULL;
        break;
    }
    output_t *output;
    if (make_room(sink, err) || output_open(&output, path, file->format, &sink->stage->settings.format, 0666, err))
        return NULL;
    file->outputs[file->count++] = output;
    return make_known(sink, output, err) ? NULL : output;
}

static int collect(sink_t *sink, frame_t *frame, err_t *err) {
    file_sink_t *file = sink->own;
    buf_t path = {0};
    output_t *output = NULL;
    if (!is_template(sink->target))
        output = output_for(sink, sink->target, err);
    else if (expand(sink->target, frame->topic, clock_now(), &path, err) == 0)
        output = output_for(sink, buf_text(&path), err);
    buf_fini(&path);
    if (!output)
        return -1;
    output->used = ++file->clock;
    size_t before = output->text.size;
    sink_malformed(sink, output->encoder->class->frame(output->encoder, frame, sink_tag(sink, frame), &output->text));
    file->text += output->text.size - before;
    file->collected++;
    return file->text >= PIECE ? write_out(sink, false, err) : 0;
}

static void file_write(sink_t *sink, frame_t *frame) {
    err_t err;
    if (collect(sink, frame, &err))
        fail(sink, &err);
}

static void file_flush(sink_t *sink) {
    err_t err;
    if (write_out(sink, sink->stage->finishing, &err))
        fail(sink, &err);
}

/* A wrong path is said at the start, not with the first event. */
static int file_open(sink_t *sink, err_t *err) {
    file_sink_t *file = sink->own;
    if (sink->progress && records_restore(&file->records, text_make((const char *) sink->restored.data, sink->restored.size), err))
        return -1;
    if (is_template(sink->target))
        return 0;
    return output_for(sink, sink->target, err) ? 0 : -1;
}

static void file_reopen(sink_t *sink) {
    file_sink_t *file = sink->own;
    err_t err;
    if (write_out(sink, true, &err)) {
        fail(sink, &err);
        return;
    }
    while (file->count)
        drop_output(sink, 0);
    log_info("sink %s: files are opened anew", sink->name);
}

static void file_close(sink_t *sink) {
    file_sink_t *file = sink->own;
    loop_remove(file->sync_timer);
    while (file->count)
        drop_output(sink, 0);
    for (unsigned i = 0; i < file->retired.count; i++)
        close(file->retired.fds[i]);
    mem_free(file->retired.fds);
    records_fini(&file->records);
}

static void file_position(sink_t *sink, buf_t *out) {
    const file_sink_t *file = sink->own;
    records_put(&file->records, out);
}

/* The directories that lead to a new file: any of them may be new too. */
static void sync_directories(const char *path, fd_list_t *fds) {
    char *directory = mem_text(path);
    for (unsigned depth = 0; depth < 16; depth++) {
        char *slash = strrchr(directory, '/');
        if (slash)
            slash[slash == directory] = 0;
        int fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            fd_list_take(fds, fd);
        if (!slash || slash == directory)
            break;
    }
    mem_free(directory);
}

static void file_sync(sink_t *sink, fd_list_t *fds) {
    file_sink_t *file = sink->own;
    for (unsigned i = 0; i < file->retired.count; i++)
        fd_list_take(fds, file->retired.fds[i]);
    file->retired.count = 0;
    for (size_t i = 0; i < file->count; i++) {
        output_t *output = file->outputs[i];
        if (output->regular && output->fresh)
            sync_directories(output->path, fds);
        output->fresh = false;
        if (!output->dirty || !output->regular)
            continue;
        int fd = fcntl(output->fd, F_DUPFD_CLOEXEC, 3);
        if (fd >= 0)
            fd_list_take(fds, fd);
        else if (fdatasync(output->fd)) /* no descriptor to be had: the loop waits itself */
            log_error("sync %s: %s", output->path, strerror(errno));
        output->dirty = false;
    }
}

#define AT(field) offsetof(file_sink_t, field)
static const option_t options[] = {
    {"format", OPTION_TEXT, AT(format_name), NULL, "FORMAT", "text format; default by the path's ending, else ndjson"},
    {"rotate-size", OPTION_SIZE, AT(rotate_size), NULL, "SIZE", "begin a new file when this one has grown to SIZE"},
    {"rotate-every", OPTION_DURATION, AT(rotate_every), NULL, "DURATION", "begin a new file when this one is so old", 0, INT64_MAX / 2},
    {"keep", OPTION_INT, AT(keep), "10", "N", "old files to keep, as PATH.1 (newest) to PATH.N", 0, 10000, .needs = "rotate-size or rotate-every"},
    {"fsync", OPTION_CHOICE, AT(fsync), "never", "never|interval|always",
     "wait for the disk before a frame counts as delivered"},
    {"fsync-interval", OPTION_DURATION, AT(fsync_interval), "1s", "DURATION", "with --fsync interval: how often", NS_PER_MS, INT64_MAX / 2, .needs = "fsync=interval"},
    {0},
};

static const char *const words[] = {"file", NULL};

const sink_class_t sink_file = {
    .name = "file",
    .schemes = words,
    .types = words,
    .help = "text appended to a file; the path may hold {stream} and %Y %m %d %H %M %S %j (UTC)",
    .options = options,
    .size = sizeof(file_sink_t),
    .check = file_check,
    .open = file_open,
    .write = file_write,
    .flush = file_flush,
    .reopen = file_reopen,
    .close = file_close,
    .exact = true,
    .position = file_position,
    .sync = file_sync,
};
