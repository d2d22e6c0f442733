/* logs: what the stages said, in the order of time; the last lines, or on and on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/map.h"
#include "base/memory.h"
#include "base/text.h"
#include "client.h"
#include "command.h"
#include "rundir.h"

#define FILE_MAX_BYTES (256u * 1024 * 1024)

typedef struct lines {
    text_t *items;                    /* borrowed from the files' buffers */
    size_t count, capacity;
} lines_t;

static void add_line(lines_t *lines, text_t line) {
    if (lines->count == lines->capacity) {
        lines->capacity = lines->capacity ? lines->capacity * 2 : 256;
        lines->items = mem_resize(lines->items, lines->capacity * sizeof *lines->items);
    }
    lines->items[lines->count++] = line;
}

static bool has_time(text_t line) {
    return line.size > 24 && line.data[4] == '-' && line.data[10] == 'T' && line.data[23] == 'Z';
}

/* A record begins with its time; lines without one (a program's own output) stay with the record before them. */
static void add_records(lines_t *lines, const buf_t *text) {
    text_t rest = text_make((const char *) text->data, text->size), line, record = {0};
    while (rest.size && text_split(&rest, '\n', &line)) {
        if (record.data && !has_time(line)) {
            record.size = (size_t) (line.data + line.size - record.data);
            continue;
        }
        if (record.data)
            add_line(lines, record);
        record = line;
    }
    if (record.data)
        add_line(lines, record);
}

static size_t time_size(text_t record) {
    return has_time(record) ? 24 : 0;
}

/* Merges two sorted runs by time; equal ones keep their order. */
static void merge(lines_t *into, const lines_t *a, const lines_t *b) {
    size_t i = 0, j = 0;
    while (i < a->count || j < b->count) {
        bool second = i == a->count;
        if (i < a->count && j < b->count) {
            size_t size = time_size(a->items[i]) < time_size(b->items[j]) ? time_size(a->items[i]) : time_size(b->items[j]);
            second = memcmp(b->items[j].data, a->items[i].data, size) < 0;
        }
        add_line(into, second ? b->items[j++] : a->items[i++]);
    }
}

/* How far each file was shown, for -f. */
typedef struct followed {
    ino_t inode;
    off_t offset;
} followed_t;

typedef struct viewer {
    const char *run_dir, *stage;
    map_t *files;                     /* name to followed_t */
} viewer_t;

static bool wanted(const viewer_t *viewer, const char *name) {
    if (!text_ends(name, ".log"))
        return false;
    size_t size = strlen(name) - 4;
    if (!viewer->stage)
        return true;
    size_t n = strlen(viewer->stage); /* NAME, or a worker NAME.0 */
    return strncmp(name, viewer->stage, n) == 0 && (size == n || (name[n] == '.' && strspn(name + n + 1, "0123456789") == size - n - 1));
}

static followed_t *follow(viewer_t *viewer, const char *name) {
    followed_t *file = map_get(viewer->files, text_of(name));
    if (!file) {
        file = mem_zero(sizeof *file);
        map_put(viewer->files, text_of(name), file);
    }
    return file;
}

static void read_whole(viewer_t *viewer, const char *name, buf_t *text) {
    char *old = mem_format("%s/%s.1", viewer->run_dir, name), *path = mem_format("%s/%s", viewer->run_dir, name);
    struct stat status;
    followed_t *file = follow(viewer, name);
    file_read(old, FILE_MAX_BYTES, text, NULL);
    size_t before = text->size;
    if (stat(path, &status) == 0 && file_read(path, FILE_MAX_BYTES, text, NULL) == 0) {
        file->inode = status.st_ino;
        file->offset = (off_t) (text->size - before);
    }
    mem_free(old);
    mem_free(path);
}

/* What is called so has no log: the names that have one. */
static int no_log(viewer_t *viewer) {
    const char *stage = viewer->stage;
    buf_t known = {0};
    DIR *directory = opendir(viewer->run_dir);
    viewer->stage = NULL;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (wanted(viewer, entry->d_name))
            buf_format(&known, "%s%.*s", known.size ? ", " : "", (int) (strlen(entry->d_name) - strlen(".log")), entry->d_name);
    viewer->stage = stage;
    if (directory)
        closedir(directory);
    int status = command_failed("there is no log of %s in %s; there are those of: %s", stage, viewer->run_dir, known.size ? buf_text(&known) : "nobody");
    buf_fini(&known);
    return status;
}

/* The last `count` records of all files, merged. */
static int show_last(viewer_t *viewer, size_t count) {
    DIR *directory = opendir(viewer->run_dir);
    if (!directory)
        return command_failed("there are no logs in %s", viewer->run_dir);
    lines_t all = {0};
    buf_t *texts = NULL;
    size_t files = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!wanted(viewer, entry->d_name))
            continue;
        texts = mem_resize(texts, (files + 1) * sizeof *texts);
        texts[files] = (buf_t){0};
        read_whole(viewer, entry->d_name, &texts[files]);
        lines_t one = {0}, merged = {0};
        add_records(&one, &texts[files++]);
        merge(&merged, &all, &one);
        mem_free(all.items);
        mem_free(one.items);
        all = merged;
    }
    closedir(directory);
    for (size_t i = all.count > count ? all.count - count : 0; i < all.count; i++)
        printf("%.*s\n", (int) all.items[i].size, all.items[i].data);
    fflush(stdout);
    mem_free(all.items);
    for (size_t i = 0; i < files; i++)
        buf_fini(&texts[i]);
    mem_free(texts);
    if (!files && viewer->stage)
        return no_log(viewer);
    return 0;
}

/* What was added to one file since it was last looked at. */
static void show_new(viewer_t *viewer, const char *name) {
    char *path = mem_format("%s/%s", viewer->run_dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    mem_free(path);
    struct stat status;
    if (fd < 0 || fstat(fd, &status)) {
        if (fd >= 0)
            close(fd);
        return;
    }
    followed_t *file = follow(viewer, name);
    if (file->inode != status.st_ino || status.st_size < file->offset)
        *file = (followed_t){status.st_ino, 0};
    char bytes[65536];
    for (ssize_t n; (n = pread(fd, bytes, sizeof bytes, file->offset)) > 0;) {
        ssize_t whole = n; /* whole lines, so that those of several files do not mix */
        while (whole && bytes[whole - 1] != '\n')
            whole--;
        if (!whole && n < (ssize_t) sizeof bytes)
            break;
        whole = whole ? whole : n;
        fwrite(bytes, 1, (size_t) whole, stdout);
        file->offset += whole;
    }
    fflush(stdout);
    close(fd);
}

static int show_on(viewer_t *viewer) {
    int notify = inotify_init1(IN_CLOEXEC);
    if (notify < 0 || inotify_add_watch(notify, viewer->run_dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
        return command_failed("watch %s: %s", viewer->run_dir, strerror(errno));
    DIR *directory = opendir(viewer->run_dir); /* what came between the first look and the watch */
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (wanted(viewer, entry->d_name))
            show_new(viewer, entry->d_name);
    if (directory)
        closedir(directory);
    char events[16384] __attribute__((aligned(8)));
    for (ssize_t n; (n = read(notify, events, sizeof events)) > 0 || errno == EINTR;) {
        for (char *at = events; n > 0 && at < events + n;) {
            const struct inotify_event *event = (const struct inotify_event *) at;
            if (event->len && wanted(viewer, event->name))
                show_new(viewer, event->name);
            at += sizeof *event + event->len;
        }
        if (ferror(stdout))
            break;
    }
    close(notify);
    return 0;
}

int command_logs(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    uint64_t count = 50;
    int missing;
    char *run_dir;
    bool on = command_flag(&argc, argv, "-f", "--follow");
    const char *lines = command_option(&argc, argv, "-n", "--lines", &missing);
    if (missing || (lines && text_to_uint(text_of(lines), &count, &err)))
        return command_usage("logs", "-n takes a number of lines");
    if (target_parse(&target, argc, argv, &err))
        return command_usage("logs", "%s", err.text);
    if (target_run_dir(&target, &run_dir, &err))
        return command_failed("%s", err.text);
    viewer_t viewer = {run_dir, target.stage, map_new()};
    int status = show_last(&viewer, (size_t) count);
    if (on && status == 0)
        status = show_on(&viewer);
    size_t position = 0;
    void *file;
    for (text_t key; map_next(viewer.files, &position, &key, &file);)
        mem_free(file);
    map_free(viewer.files);
    mem_free(run_dir);
    return status;
}
