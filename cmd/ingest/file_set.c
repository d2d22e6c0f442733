/* Many files: those of a directory whose names match a pattern. Each has a place of its own. A few are open at a time, as file_input has it; the
 * others are known by their places, and the directory's inotify tells which of them is worth opening again. A file that gets another matching name
 * keeps its place; under a name that does not match it is read to its end as a rotated one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "file_path.h"
#include "file_set.h"

#define GONE_MAX 256                   /* files that are away, and might come back */
#define PLACES_MAX (60u << 20)         /* bytes that the places of all may take in the log, */
#define PLACE_MAX 800                  /* that of one beside its directory being no larger */
#define RETRY NS_PER_S
#define EVENTS (IN_CREATE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE)

static void on_turn(void *argument);

void file_set_schedule(file_set_t *set) {
    if (!set->paused && set->started)
        loop_defer(set->setup.loop, on_turn, set);
}

/* ---- those that wait to be opened ---- */

void file_set_unqueue(file_entry_t *entry) {
    file_set_t *set = entry->set;
    for (file_entry_t **link = &set->first; entry->waiting && *link; link = &(*link)->next) {
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

void file_set_wake(file_entry_t *entry) {
    file_set_t *set = entry->set;
    entry->used = set->turns;
    if (entry->input || entry->waiting || (entry->ended && !set->settings->follow))
        return;
    entry->waiting = true;
    *set->last = entry;
    set->last = &entry->next;
    file_set_schedule(set);
}

void file_set_close(file_entry_t *entry) {
    file_set_t *set = entry->set;
    for (unsigned i = 0; i < set->open_count; i++)
        if (set->open[i] == entry)
            set->open[i] = set->open[--set->open_count];
    file_input_free(entry->input);
    entry->input = NULL;
    if (set->settings->follow)
        set->lent[set->lent_count++] = entry->inotify;
}

/* ---- the directory ---- */

static void on_retry(void *argument);

static void retry_later(file_set_t *set) {
    if (!set->retry)
        set->retry = loop_timer(set->setup.loop, RETRY, 0, on_retry, set);
}

static bool watch_directory(file_set_t *set) {
    bool there = file_directory_check(&set->place) == 0;
    if (!there)
        source_unhealthy(set->setup.host, "%s: %s; waiting for the directory", set->directory, strerror(errno));
    if (!there || set->place.unsure)
        retry_later(set);
    return there;
}

/* After something was missed, or the name leads to another directory: what is open of the old one is read to its end. */
static void look_again(file_set_t *set) {
    for (unsigned i = 0; i < set->open_count; i++)
        file_input_moved(set->open[i]->input);
    file_set_scan(set, false);
}

static void on_retry(void *argument) {
    file_set_t *set = argument;
    int before = set->place.watch;
    set->retry = NULL;
    if (watch_directory(set) && set->place.watch != before)
        look_again(set);
    file_set_schedule(set);
}

static void read_events(file_set_t *set) {
    _Alignas(struct inotify_event) char buffer[16384];
    bool lost = false;
    for (ssize_t size; set->inotify >= 0 && (size = read(set->inotify, buffer, sizeof buffer)) > 0;) {
        for (char *at = buffer; at < buffer + size;) {
            const struct inotify_event *event = (const struct inotify_event *) (void *) at;
            at += sizeof *event + event->len;
            if (file_directory_take(&set->place, event) || event->mask & IN_Q_OVERFLOW)
                lost = true;
            else if (event->wd == set->place.watch && event->len && file_set_matches(set, event->name))
                file_set_see(set, event->name, false);
        }
    }
    if (lost && watch_directory(set))
        look_again(set);
}

static void on_inotify(void *argument, uint32_t events) {
    read_events(argument);
}

/* ---- opening and closing ---- */

static void on_idle(void *argument) {
    file_entry_t *entry = argument;
    if (entry->set->first)
        file_set_schedule(entry->set);
}

static void on_missing(void *argument, const char *reason) {
    file_entry_t *entry = argument;
    if (!entry->gone)
        entry->set->gone++;
    entry->gone = true;
    file_set_schedule(entry->set);
}

static void on_ended(void *argument, const char *error) {
    file_entry_t *entry = argument;
    if (error)
        source_failed(entry->set->setup.host, "%s/%s: %s", entry->set->directory, entry->name, error);
    entry->ended = true;
    source_moved(entry->set->setup.host);
    file_set_schedule(entry->set);
}

static int open_input(file_entry_t *entry, err_t *err) {
    file_set_t *set = entry->set;
    char *path = mem_format("%s/%s", set->directory, entry->name), *full = file_set_full_path(set, entry->name);
    file_input_setup_t setup = {
        .source = &set->setup,
        .path = path,
        .full_path = full,
        .path_pattern = set->path_pattern,
        .follow = set->settings->follow,
        .rotate_wait = set->settings->rotate_wait,
        .lent = true,
        .inotify = set->lent_count ? set->lent[set->lent_count - 1] : -1,
        .listing = set->listing,
        .unpack = set->unpack,
        .foreign = file_set_matches,
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
    file_entry_t *idlest = NULL;
    for (unsigned i = set->open_count; i--;) {
        file_entry_t *entry = set->open[i];
        bool over = entry->ended || (entry->gone && file_input_quiet(entry->input));
        if (over) {
            file_set_note(entry);
            file_set_close(entry);
        } else if ((!idlest || entry->used < idlest->used) && file_input_quiet(entry->input)) {
            idlest = entry;
        }
    }
    if (idlest && set->first && set->open_count == set->open_most) {
        file_set_note(idlest);
        file_set_close(idlest);
    }
}

/* Forgets those that have been away the longest. */
static void forget_gone(file_set_t *set) {
    text_t name;
    void *value;
    for (size_t at = 0; set->gone > GONE_MAX && map_next(set->entries, &at, &name, &value);) {
        file_entry_t *entry = value;
        if (!entry->gone || entry->input || entry->waiting)
            continue;
        set->gone--;
        file_set_forget(entry);
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
    if (set->full_told && map_count(set->entries) - set->gone < set->most) {
        set->full_told = false;
        file_set_scan(set, false);
    }
    while (set->first && set->open_count < set->open_most) {
        file_entry_t *entry = set->first;
        err_t err;
        file_set_unqueue(entry);
        if (open_input(entry, &err) == 0)
            continue;
        if (!set->settings->follow) {
            log_warning("%s", err.text);
            entry->ended = true;
            continue;
        }
        source_unhealthy(set->setup.host, "%s", err.text);
        file_set_wake(entry);
        loop_undefer(set->setup.loop, on_turn, set);
        retry_later(set);
        return;
    }
    if (!set->settings->follow && !set->first && !set->open_count)
        source_ended(set->setup.host);
    else if (set->first && set->open_count)
        close_some(set);
    if (set->first && set->open_count < set->open_most)
        file_set_schedule(set);
}

/* ---- the source ---- */

static int set_start(source_t *source, err_t *err) {
    file_set_t *set = (file_set_t *) source;
    set->started = true;
    set->paused = false;
    file_set_restored(set);
    file_set_scan(set, set->settings->from_end && !set->restored);
    if (!set->since)
        set->since = clock_now();
    if (!set->settings->follow && !map_count(set->entries))
        return err_set(err, "%s: %s; --follow waits for one", set->shown, file_set_none(set));
    file_set_schedule(set);
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
    file_set_schedule(set);
}

static void set_free(source_t *source) {
    file_set_t *set = (file_set_t *) source;
    text_t name;
    void *value;
    for (size_t at = 0; map_next(set->entries, &at, &name, &value);)
        file_set_forget(value);
    map_free(set->entries);
    map_free(set->files);
    loop_undefer(set->setup.loop, on_turn, set);
    loop_remove(set->watch);
    loop_remove(set->retry);
    while (set->lent_count)
        close(set->lent[--set->lent_count]);
    if (set->inotify >= 0)
        close(set->inotify);
    mem_free(set->past);
    mem_free(set->changed);
    buf_fini(&set->removed);
    buf_fini(&set->space);
    listing_free(set->listing);
    unpack_queue_free(set->unpack);
    pattern_free(set->path_pattern);
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
    .position = file_set_position,
    .changes = file_set_changes,
    .restore = file_set_restore,
    .restore_changes = file_set_restore_changes,
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
    bool whole = set->whole = is_directory(path);
    set->source.class = &class;
    set->setup = *setup;
    set->settings = setup->settings;
    set->shown = mem_text(path);
    set->directory = whole ? mem_text(path) : directory_of(path);
    set->path_pattern = file_path_pattern(set->settings);
    set->listing = listing_new(set->directory);
    set->unpack = unpack_queue_new(setup->loop);
    set->full_directory = whole ? mem_text(full_path) : directory_of(full_path);
    set->pattern = mem_text(whole ? "*" : last_part(path));
    set->entries = map_new();
    set->files = map_new();
    set->last = &set->first;
    set->paused = true;
    set->open_most = 1;
    set->most = PLACES_MAX / (PLACE_MAX + strlen(set->full_directory));
    if (set->most > (size_t) set->settings->files_max)
        set->most = (size_t) set->settings->files_max;
    set->inotify = -1;
    *source = &set->source;
    if (!set->settings->follow)
        return 0;
    set->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    for (int fd; set->lent_count < FILE_SET_OPEN_MAX && (fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0;)
        set->lent[set->lent_count++] = fd;
    set->open_most = set->lent_count;
    if (!set->lent_count || set->inotify < 0) {
        err_errno(err, "inotify (see fs.inotify.max_user_instances)");
        set_free(&set->source);
        *source = NULL;
        return -1;
    }
    set->watch = loop_fd(setup->loop, set->inotify, EPOLLIN, on_inotify, set);
    ASSERT(set->watch);
    file_directory_init(&set->place, set->inotify, set->directory, EVENTS, false);
    watch_directory(set);
    return 0;
}
