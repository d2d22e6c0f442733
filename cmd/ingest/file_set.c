/* Many files: those of a directory whose names match a pattern. Each has a place of its own. A few are open at a time, as file_input has it; the
 * others are known by their places, and the directory's inotify tells which of them is worth opening again. A file that gets another matching name
 * keeps its place; under a name that does not match it is read to its end as a rotated one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/memory.h"
#include "data/pack.h"
#include "file_input.h"
#include "src_file.h"

#define OPEN_MAX 16                    /* followed at a time: each takes an inotify instance, of which a user has 128 */
#define GONE_MAX 256                   /* files that are away, and might come back */
#define RETRY NS_PER_S
#define EVENTS (IN_CREATE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

typedef struct file_set file_set_t;
typedef struct entry entry_t;
struct entry {
    file_set_t *set;
    char *name;                        /* in the directory */
    buf_t position;                    /* while it is not open */
    filemark_t mark;                   /* of position */
    file_input_t *input;               /* NULL: not open */
    int inotify;                       /* that it uses then */
    entry_t *next;                     /* in the line of those that are to be opened */
    bool waiting, gone, seen, ended;
    uint64_t used;                     /* when it had something to read; in turns */
};

struct file_set {
    source_t source;
    source_setup_t setup;
    const file_settings_t *settings;
    char *shown, *directory, *full_directory, *pattern;
    int inotify, directory_watch;
    loop_watch_t *watch, *retry;
    map_t *entries;                    /* by name */
    entry_t *first, **last;            /* that wait to be opened */
    entry_t *open[OPEN_MAX];
    unsigned open_count, open_most;
    int lent[OPEN_MAX];                /* inotify instances for those that are opened */
    unsigned lent_count;
    size_t gone;
    filemark_t *past;                  /* read to their ends by an earlier run */
    size_t past_count;
    int64_t since;                     /* ns since 1970: all names that were there since are known. New ones' rotated files are unread */
    uint64_t turns;
    bool paused, restored, started, full_told;
};

static void on_turn(void *argument);

static void schedule(file_set_t *set) {
    if (!set->paused && set->started)
        loop_defer(set->setup.loop, on_turn, set);
}

static bool matches(void *argument, const char *name) {
    return fnmatch(((const file_set_t *) argument)->pattern, name, FNM_PERIOD) == 0;
}

/* ---- entries ---- */

static entry_t *entry_new(file_set_t *set, const char *name) {
    entry_t *entry = mem_zero(sizeof *entry);
    entry->set = set;
    entry->name = mem_text(name);
    map_put(set->entries, text_of(name), entry);
    return entry;
}

static void unqueue(entry_t *entry) {
    file_set_t *set = entry->set;
    for (entry_t **link = &set->first; entry->waiting && *link; link = &(*link)->next) {
        if (*link != entry)
            continue;
        *link = entry->next;
        if (!entry->next)
            set->last = link;
        entry->waiting = false;
        break;
    }
    entry->next = NULL;
}

static void close_input(entry_t *entry) {
    file_set_t *set = entry->set;
    for (unsigned i = 0; i < set->open_count; i++)
        if (set->open[i] == entry)
            set->open[i] = set->open[--set->open_count];
    file_input_free(entry->input);
    entry->input = NULL;
    if (set->settings->follow)
        set->lent[set->lent_count++] = entry->inotify;
}

static void entry_free(entry_t *entry) {
    unqueue(entry);
    if (entry->input)
        close_input(entry);
    map_remove(entry->set->entries, text_of(entry->name));
    buf_fini(&entry->position);
    mem_free(entry->name);
    mem_free(entry);
}

static void wake(entry_t *entry) {
    file_set_t *set = entry->set;
    entry->used = set->turns;
    if (entry->input || entry->waiting || (entry->ended && !set->settings->follow))
        return;
    entry->waiting = true;
    *set->last = entry;
    set->last = &entry->next;
    schedule(set);
}

/* What is known of an open one becomes its position. */
static void note_position(entry_t *entry) {
    text_t path;
    if (!entry->input)
        return;
    buf_clear(&entry->position);
    file_input_position(entry->input, &entry->position);
    file_input_read(entry->position.data, entry->position.size, &path, &entry->mark);
}

static char *full_path(const file_set_t *set, const char *name) {
    return mem_format("%s/%s", set->full_directory, name);
}

/* ---- names that appear ---- */

/* A place in the file: its beginning, its end, or a given one. */
static void place_at(entry_t *entry, int fd, const struct stat *status, const filemark_t *known, bool at_end) {
    filetrace_t trace = {0};
    char *path = full_path(entry->set, entry->name);
    if (at_end)
        filetrace_load(&trace, fd, (uint64_t) status->st_size);
    filemark_make(&entry->mark, &trace, status->st_dev, status->st_ino, at_end ? (uint64_t) status->st_size : 0);
    if (known)
        entry->mark = *known;
    int64_t modified = status->st_mtim.tv_sec * NS_PER_S + status->st_mtim.tv_nsec;
    file_input_place(path, &entry->mark, entry->set->since ? entry->set->since : modified, &entry->position);
    mem_free(path);
}

static bool same_file(const filemark_t *mark, const struct stat *status) {
    return mark->inode == status->st_ino && mark->device == status->st_dev;
}

/* The entry that this file was, under another name. */
static entry_t *find_same(file_set_t *set, int fd, const struct stat *status) {
    text_t name;
    void *value;
    for (unsigned i = 0; i < set->open_count; i++)
        note_position(set->open[i]);
    for (size_t at = 0; map_next(set->entries, &at, &name, &value);) {
        entry_t *entry = value;
        if (same_file(&entry->mark, status) && filemark_fits(&entry->mark, fd))
            return entry;
    }
    return NULL;
}

/* The mark of a file that was read to its end as a rotated one. */
static bool find_past(file_set_t *set, int fd, const struct stat *status, filemark_t *mark) {
    for (unsigned i = 0; i < set->open_count; i++)
        if (file_input_finished(&set->open[i]->position, status->st_dev, status->st_ino, mark) && filemark_fits(mark, fd))
            return true;
    for (size_t i = set->past_count; i--;) {
        *mark = set->past[i];
        if (same_file(mark, status) && filemark_fits(mark, fd))
            return true;
    }
    return false;
}

static bool still_there(const file_set_t *set, const entry_t *entry, const struct stat *status) {
    struct stat now;
    char *path = full_path(set, entry->name);
    bool same = stat(path, &now) == 0 && now.st_dev == status->st_dev && now.st_ino == status->st_ino;
    mem_free(path);
    return same;
}

static void see(file_set_t *set, const char *name, bool at_end);

/* The entry goes on under its new name; the old one may have another file by now. */
static void move(entry_t *entry, const char *name) {
    file_set_t *set = entry->set;
    buf_t moved = {0};
    char *path = full_path(set, name), *old = entry->name;
    if (entry->input)
        close_input(entry);
    file_input_rename(&entry->position, path, &moved);
    buf_fini(&entry->position);
    entry->position = moved;
    map_remove(set->entries, text_of(old));
    entry->name = mem_text(name);
    map_put(set->entries, text_of(name), entry);
    source_moved(set->setup.host);
    wake(entry);
    mem_free(path);
    see(set, old, false);
    mem_free(old);
}

static bool is_full(file_set_t *set) {
    bool full = map_count(set->entries) - set->gone >= (size_t) set->settings->files_max;
    if (full && !set->full_told)
        source_unhealthy(set->setup.host, "%s: there are more than %lld files; those beyond are not read (--files-max)", set->shown,
                         (long long) set->settings->files_max);
    set->full_told |= full;
    return full;
}

static void add(file_set_t *set, const char *name, int fd, const struct stat *status, bool at_end) {
    filemark_t mark;
    entry_t *same = find_same(set, fd, status);
    if (same && still_there(set, same, status))
        return;                        /* one file with two names is read once */
    if (same) {
        move(same, name);
        return;
    }
    bool past = find_past(set, fd, status, &mark);
    if (is_full(set))
        return;
    entry_t *entry = entry_new(set, name);
    place_at(entry, fd, status, past ? &mark : NULL, at_end);
    source_moved(set->setup.host);
    wake(entry);
}

/* Something is with the file of this name. */
static void see(file_set_t *set, const char *name, bool at_end) {
    entry_t *entry = map_get(set->entries, text_of(name));
    if (entry) {
        entry->seen = true;
        wake(entry);
        return;
    }
    char *path = mem_format("%s/%s", set->directory, name);
    struct stat status;
    int fd = stat(path, &status) == 0 && S_ISREG(status.st_mode) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        add(set, name, fd, &status, at_end);
    if (fd >= 0)
        close(fd);
    mem_free(path);
    entry = map_get(set->entries, text_of(name));
    if (entry)
        entry->seen = true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static void scan(file_set_t *set, bool at_end) {
    DIR *directory = opendir(set->directory);
    char **names = NULL;
    size_t count = 0, room = 0;
    text_t key;
    void *value;
    for (struct dirent *found; directory && (found = readdir(directory));) {
        if (!matches(set, found->d_name))
            continue;
        if (count == room)
            names = mem_resize(names, (room = room * 2 + 64) * sizeof *names);
        names[count++] = mem_text(found->d_name);
    }
    if (directory)
        closedir(directory);
    if (count)
        qsort(names, count, sizeof *names, by_name);
    for (size_t at = 0; map_next(set->entries, &at, &key, &value);)
        ((entry_t *) value)->seen = false;
    for (size_t i = 0; i < count; i++) {
        see(set, names[i], at_end);
        mem_free(names[i]);
    }
    mem_free(names);
    for (size_t at = 0; map_next(set->entries, &at, &key, &value);) {
        entry_t *entry = value;
        if (!entry->seen && !entry->gone && set->settings->follow)
            wake(entry);               /* rotated away meanwhile, perhaps: its rest is looked for */
    }
    if (!map_count(set->entries))
        source_unhealthy(set->setup.host, "%s: there is no such file yet; waiting for one", set->shown);
}

/* ---- the directory ---- */

static void on_retry(void *argument);

static void retry_later(file_set_t *set) {
    if (!set->retry)
        set->retry = loop_timer(set->setup.loop, RETRY, 0, on_retry, set);
}

static bool watch_directory(file_set_t *set) {
    set->directory_watch = inotify_add_watch(set->inotify, set->directory, EVENTS);
    if (set->directory_watch >= 0)
        return true;
    source_unhealthy(set->setup.host, "%s: %s; waiting for the directory", set->directory, strerror(errno));
    retry_later(set);
    return false;
}

static void on_retry(void *argument) {
    file_set_t *set = argument;
    set->retry = NULL;
    if (set->directory_watch < 0 && watch_directory(set))
        scan(set, false);
    schedule(set);
}

static void read_events(file_set_t *set) {
    _Alignas(struct inotify_event) char buffer[16384];
    bool lost = false;
    for (ssize_t size; set->inotify >= 0 && (size = read(set->inotify, buffer, sizeof buffer)) > 0;) {
        for (char *at = buffer; at < buffer + size;) {
            const struct inotify_event *event = (const struct inotify_event *) (void *) at;
            at += sizeof *event + event->len;
            lost |= (event->mask & (IN_Q_OVERFLOW | IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) != 0;
            if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) {
                inotify_rm_watch(set->inotify, event->wd);
                set->directory_watch = -1;
            } else if (event->len && matches(set, event->name)) {
                see(set, event->name, false);
            }
        }
    }
    if (lost && (set->directory_watch >= 0 || watch_directory(set)))
        scan(set, false);
}

static void on_inotify(void *argument, uint32_t events) {
    read_events(argument);
}

/* ---- opening and closing ---- */

static void on_idle(void *argument) {
    entry_t *entry = argument;
    if (entry->set->first)
        schedule(entry->set);
}

static void on_missing(void *argument, const char *reason) {
    entry_t *entry = argument;
    if (!entry->gone)
        entry->set->gone++;
    entry->gone = true;
    schedule(entry->set);
}

static void on_ended(void *argument, const char *error) {
    entry_t *entry = argument;
    if (error)
        source_failed(entry->set->setup.host, "%s/%s: %s", entry->set->directory, entry->name, error);
    entry->ended = true;
    source_moved(entry->set->setup.host);
    schedule(entry->set);
}

static int open_input(entry_t *entry, err_t *err) {
    file_set_t *set = entry->set;
    char *path = mem_format("%s/%s", set->directory, entry->name), *full = full_path(set, entry->name);
    file_input_setup_t setup = {
        .source = &set->setup,
        .path = path,
        .full_path = full,
        .follow = set->settings->follow,
        .rotate_wait = set->settings->rotate_wait,
        .lent = true,
        .inotify = set->lent_count ? set->lent[set->lent_count - 1] : -1,
        .foreign = matches,
        .foreign_argument = set,
        .idle = on_idle,
        .missing = on_missing,
        .ended = on_ended,
        .argument = entry,
    };
    entry->input = file_input_new(&setup, err);
    mem_free(path);
    mem_free(full);
    if (!entry->input)
        return -1;
    if (entry->gone)
        set->gone--;
    entry->gone = false;
    if (set->settings->follow)
        entry->inotify = set->lent[--set->lent_count];
    set->open[set->open_count++] = entry;
    err_t why;
    if (entry->position.size && file_input_restore(entry->input, entry->position.data, entry->position.size, &why))
        log_warning("%s/%s: %s", set->directory, entry->name, why.text);
    file_input_resume(entry->input);
    return 0;
}

/* Takes out what needs not be open: what is away or at its end, and one more when others wait. */
static void close_some(file_set_t *set) {
    entry_t *idlest = NULL;
    for (unsigned i = set->open_count; i--;) {
        entry_t *entry = set->open[i];
        bool over = entry->ended || (entry->gone && file_input_quiet(entry->input));
        if (over) {
            note_position(entry);
            close_input(entry);
        } else if ((!idlest || entry->used < idlest->used) && file_input_quiet(entry->input)) {
            idlest = entry;
        }
    }
    if (idlest && set->first && set->open_count == set->open_most) {
        note_position(idlest);
        close_input(idlest);
    }
}

/* Forgets those that have been away the longest. */
static void forget_gone(file_set_t *set) {
    text_t name;
    void *value;
    for (size_t at = 0; set->gone > GONE_MAX && map_next(set->entries, &at, &name, &value);) {
        entry_t *entry = value;
        if (!entry->gone || entry->input || entry->waiting)
            continue;
        set->gone--;
        entry_free(entry);
        set->since = clock_now();
    }
}

static void on_turn(void *argument) {
    file_set_t *set = argument;
    if (set->paused)
        return;
    set->turns++;
    read_events(set);                  /* before what has been read to its end is closed: it may have another name */
    close_some(set);
    forget_gone(set);
    if (set->full_told && map_count(set->entries) - set->gone < (size_t) set->settings->files_max) {
        set->full_told = false;
        scan(set, false);
    }
    while (set->first && set->open_count < set->open_most) {
        entry_t *entry = set->first;
        err_t err;
        unqueue(entry);
        if (open_input(entry, &err) == 0)
            continue;
        if (!set->settings->follow) {
            log_warning("%s", err.text);
            entry->ended = true;
            continue;
        }
        source_unhealthy(set->setup.host, "%s", err.text);
        wake(entry);
        loop_undefer(set->setup.loop, on_turn, set);
        retry_later(set);
        return;
    }
    if (!set->settings->follow && !set->first && !set->open_count)
        source_ended(set->setup.host);
    else if (set->first && set->open_count)
        close_some(set);
    if (set->first && set->open_count < set->open_most)
        schedule(set);
}

/* ---- the source ---- */

static int set_start(source_t *source, err_t *err) {
    file_set_t *set = (file_set_t *) source;
    set->started = true;
    set->paused = false;
    scan(set, set->settings->from_end && !set->restored);
    if (!set->since)
        set->since = clock_now();
    if (!set->settings->follow && !map_count(set->entries))
        return err_set(err, "%s: there is no such file; --follow waits for one", set->shown);
    schedule(set);
    return 0;
}

static void set_pause(source_t *source) {
    file_set_t *set = (file_set_t *) source;
    set->paused = true;
    for (unsigned i = 0; i < set->open_count; i++)
        file_input_pause(set->open[i]->input);
}

static void set_resume(source_t *source) {
    file_set_t *set = (file_set_t *) source;
    set->paused = false;
    for (unsigned i = 0; i < set->open_count; i++)
        file_input_resume(set->open[i]->input);
    schedule(set);
}

static void set_position(const source_t *source, buf_t *out) {
    const file_set_t *set = (const file_set_t *) source;
    text_t name;
    void *value;
    pack_map(out, 3);
    pack_text(out, "pattern");
    pack_text(out, set->pattern);
    pack_text(out, "since");
    pack_int(out, set->since);
    pack_text(out, "files");
    pack_array(out, (uint32_t) map_count(set->entries));
    for (size_t at = 0; map_next(set->entries, &at, &name, &value);) {
        const entry_t *entry = value;
        if (entry->input)
            file_input_position(entry->input, out);
        else
            buf_put(out, entry->position.data, entry->position.size);
    }
}

/* One file's place. */
static bool restore_entry(file_set_t *set, const uint8_t *bytes, size_t size) {
    text_t path;
    filemark_t mark;
    if (!file_input_read(bytes, size, &path, &mark))
        return false;
    set->past = mem_resize(set->past, (set->past_count + FILE_INPUT_FINISHED) * sizeof *set->past);
    set->past_count += file_input_all_finished(bytes, size, set->past + set->past_count);
    size_t directory = path.size;
    while (directory && path.data[directory - 1] != '/')
        directory--;
    char *name = mem_text_n(path.data + directory, path.size - directory);
    if (matches(set, name) && !map_get(set->entries, text_of(name))) {
        entry_t *entry = entry_new(set, name);
        buf_put(&entry->position, bytes, size);
        entry->mark = mark;
    }
    mem_free(name);
    return true;
}

static int set_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    file_set_t *set = (file_set_t *) source;
    pack_cursor_t cursor = pack_cursor(position, size);
    uint32_t members, count;
    text_t key, pattern;
    if (!pack_read_map(&cursor, &members) || members != 3 || !pack_read_string(&cursor, &key) || !text_is(key, "pattern") ||
        !pack_read_string(&cursor, &pattern) ||
        !pack_read_string(&cursor, &key) || !text_is(key, "since") || !pack_read_int(&cursor, &set->since) || !pack_read_string(&cursor, &key) || !text_is(key, "files") || !pack_read_array(&cursor, &count))
        return err_set(err, "the stored position is none of a pattern of files");
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *begin = cursor.at;
        if (!pack_skip(&cursor) || !restore_entry(set, begin, (size_t) (cursor.at - begin)))
            return err_set(err, "the stored position is damaged");
    }
    set->restored = true;
    return 0;
}

static void set_free(source_t *source) {
    file_set_t *set = (file_set_t *) source;
    text_t name;
    void *value;
    for (size_t at = 0; map_next(set->entries, &at, &name, &value);)
        entry_free(value);
    map_free(set->entries);
    loop_undefer(set->setup.loop, on_turn, set);
    loop_remove(set->watch);
    loop_remove(set->retry);
    while (set->lent_count)
        close(set->lent[--set->lent_count]);
    if (set->inotify >= 0)
        close(set->inotify);
    mem_free(set->past);
    mem_free(set->shown);
    mem_free(set->directory);
    mem_free(set->full_directory);
    mem_free(set->pattern);
    mem_free(set);
}

static const source_class_t class = {
    .start = set_start,
    .pause = set_pause,
    .resume = set_resume,
    .position = set_position,
    .restore = set_restore,
    .free = set_free,
};

static bool is_directory(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? S_ISDIR(status.st_mode) : *path && path[strlen(path) - 1] == '/';
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool file_set_means(const char *path) {
    return is_directory(path) || (access(path, F_OK) != 0 && strpbrk(path, "*?["));
}

int file_set_check(const char *path, err_t *err) {
    size_t before = is_directory(path) ? 0 : (size_t) (last_part(path) - path);
    if (strcspn(path, "*?[") < before)
        return err_set(err, "%s: only the last part of a path may be a pattern", path);
    return 0;
}

/* "/var/log" of "/var/log/x"; "." of "x". */
static char *directory_of(const char *path) {
    size_t size = (size_t) (last_part(path) - path);
    return size > 1 ? mem_text_n(path, size - 1) : mem_text(size ? "/" : ".");
}

int file_set_open(source_t **source, const source_setup_t *setup, const char *path, const char *full_path, err_t *err) {
    file_set_t *set = mem_zero(sizeof *set);
    bool whole = is_directory(path);
    set->source.class = &class;
    set->setup = *setup;
    set->settings = setup->settings;
    set->shown = mem_text(path);
    set->directory = whole ? mem_text(path) : directory_of(path);
    set->full_directory = whole ? mem_text(full_path) : directory_of(full_path);
    set->pattern = mem_text(whole ? "*" : last_part(path));
    set->entries = map_new();
    set->last = &set->first;
    set->paused = true;
    set->open_most = 1;
    set->inotify = set->directory_watch = -1;
    *source = &set->source;
    if (!set->settings->follow)
        return 0;
    set->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    for (int fd; set->lent_count < OPEN_MAX && (fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0;)
        set->lent[set->lent_count++] = fd;
    set->open_most = set->lent_count;
    if (!set->lent_count || set->inotify < 0) {
        err_errno(err, "inotify (see fs.inotify.max_user_instances)");
        set_free(&set->source);
        return -1;
    }
    set->watch = loop_fd(setup->loop, set->inotify, EPOLLIN, on_inotify, set);
    ASSERT(set->watch);
    watch_directory(set);
    return 0;
}
