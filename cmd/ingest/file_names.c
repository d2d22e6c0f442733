/* The names of a set of files: those of the directory that match the pattern, each an entry. A file that gets another matching name keeps its
 * place; one that is new begins at its beginning, at its end, or where it was read to as a rotated one. */
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/format.h"
#include "file_set.h"

bool file_set_matches(void *argument, const char *name) {
    const file_set_t *set = argument;
    return fnmatch(set->pattern, name, FNM_PERIOD) == 0 && !(set->settings->follow && format_packed(name)); /* such a file is finished, and is no log that grows */
}

file_entry_t *file_set_add(file_set_t *set, const char *name) {
    file_entry_t *entry = mem_zero(sizeof *entry);
    entry->set = set;
    entry->name = mem_text(name);
    map_put(set->entries, text_of(name), entry);
    return entry;
}

/* ---- which files they are ---- */

typedef struct file_key {
    uint64_t device, inode;
} file_key_t;

static text_t key_text(const file_key_t *key) {
    return text_make((const char *) key, sizeof *key);
}

static void unmark(file_entry_t *entry) {
    map_t *files = entry->set->files;
    file_key_t key = {entry->mark.device, entry->mark.inode};
    file_entry_t *first = map_get(files, key_text(&key)), **link = &first;
    while (*link && *link != entry)
        link = &(*link)->twin;
    if (!*link)
        return;
    *link = entry->twin;
    entry->twin = NULL;
    if (first)
        map_put(files, key_text(&key), first);
    else
        map_remove(files, key_text(&key));
}

void file_set_mark(file_entry_t *entry, const filemark_t *mark) {
    map_t *files = entry->set->files;
    file_key_t key = {mark->device, mark->inode};
    bool same = entry->mark.device == mark->device && entry->mark.inode == mark->inode;
    if (!same)
        unmark(entry);
    entry->mark = *mark;
    if (!same && mark->inode)
        entry->twin = map_put(files, key_text(&key), entry);
}

int file_past_compare(const void *left, const void *right) {
    const file_past_t *a = left, *b = right;
    if (a->mark.inode != b->mark.inode)
        return a->mark.inode < b->mark.inode ? -1 : 1;
    if (a->mark.device != b->mark.device)
        return a->mark.device < b->mark.device ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* Where those of the file end. */
static size_t past_end(const file_set_t *set, const struct stat *status) {
    const file_past_t wanted = {.mark = {.device = status->st_dev, .inode = status->st_ino}, .number = SIZE_MAX};
    size_t from = 0, to = set->past_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (file_past_compare(&set->past[middle], &wanted) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

void file_set_forget(file_entry_t *entry) {
    file_set_unqueue(entry);
    unmark(entry);
    if (entry->input)
        file_set_close(entry);
    map_remove(entry->set->entries, text_of(entry->name));
    file_set_removed(entry->set, entry->name);
    file_set_unchanged(entry);
    buf_fini(&entry->position);
    mem_free(entry->name);
    mem_free(entry);
}

char *file_set_full_path(const file_set_t *set, const char *name) {
    return mem_format("%s/%s", set->full_directory, name);
}

/* ---- names that appear ---- */

/* A place in the file: its beginning, its end, or a given one. */
static void place_at(file_entry_t *entry, int fd, const struct stat *status, const filemark_t *known, bool at_end) {
    filetrace_t trace = {0};
    char *path = file_set_full_path(entry->set, entry->name);
    if (at_end)
        filetrace_load(&trace, fd, (uint64_t) status->st_size);
    filemark_t mark;
    filemark_make(&mark, &trace, status->st_dev, status->st_ino, at_end ? (uint64_t) status->st_size : 0);
    file_set_mark(entry, known ? known : &mark);
    int64_t modified = status->st_mtim.tv_sec * NS_PER_S + status->st_mtim.tv_nsec;
    file_input_place(path, &entry->mark, entry->set->since ? entry->set->since : modified, &entry->position);
    file_set_changed(entry);
    mem_free(path);
}

static bool same_file(const filemark_t *mark, const struct stat *status) {
    return mark->inode == status->st_ino && mark->device == status->st_dev;
}

/* The entry that this file was, under another name. */
static file_entry_t *find_same(file_set_t *set, int fd, const struct stat *status) {
    const file_key_t key = {status->st_dev, status->st_ino};
    for (unsigned i = 0; i < set->open_count; i++)
        file_set_note(set->open[i]);
    file_entry_t *entry = map_get(set->files, key_text(&key));
    while (entry && !filemark_fits(&entry->mark, fd))
        entry = entry->twin;
    return entry;
}

/* The mark of a file that was read to its end as a rotated one. */
static bool find_past(file_set_t *set, int fd, const struct stat *status, filemark_t *mark) {
    for (unsigned i = 0; i < set->open_count; i++)
        if (file_input_finished(&set->open[i]->position, status->st_dev, status->st_ino, mark) && filemark_fits(mark, fd))
            return true;
    for (size_t i = past_end(set, status); i-- && same_file(&set->past[i].mark, status);) {
        *mark = set->past[i].mark;
        if (filemark_fits(mark, fd))
            return true;
    }
    return false;
}

static bool still_there(const file_set_t *set, const file_entry_t *entry, const struct stat *status) {
    struct stat now;
    char *path = file_set_full_path(set, entry->name);
    bool same = stat(path, &now) == 0 && now.st_dev == status->st_dev && now.st_ino == status->st_ino;
    mem_free(path);
    return same;
}

/* The entry goes on under its new name; the old one may have another file by now. */
static void move(file_entry_t *entry, const char *name) {
    file_set_t *set = entry->set;
    buf_t moved = {0};
    char *path = file_set_full_path(set, name), *old = entry->name;
    if (entry->input)
        file_set_close(entry);
    file_input_rename(&entry->position, path, &moved);
    buf_fini(&entry->position);
    entry->position = moved;
    map_remove(set->entries, text_of(old));
    file_set_removed(set, old);
    file_set_changed(entry);
    entry->name = mem_text(name);
    map_put(set->entries, text_of(name), entry);
    source_moved(set->setup.host);
    file_set_wake(entry);
    mem_free(path);
    file_set_see(set, old, false);
    mem_free(old);
}

static bool is_full(file_set_t *set) {
    bool full = map_count(set->entries) - set->gone >= set->most;
    if (full && !set->full_told)
        source_unhealthy(set->setup.host, "%s: there are more than %zu files; those beyond are not read (--files-max)", set->shown, set->most);
    set->full_told |= full;
    return full;
}

static void add(file_set_t *set, const char *name, int fd, const struct stat *status, bool at_end) {
    filemark_t mark;
    file_entry_t *same = find_same(set, fd, status);
    if (same && still_there(set, same, status))
        return;                        /* one file with two names is read once */
    if (same) {
        move(same, name);
        return;
    }
    bool past = find_past(set, fd, status, &mark);
    if (is_full(set))
        return;
    file_entry_t *entry = file_set_add(set, name);
    place_at(entry, fd, status, past ? &mark : NULL, at_end);
    source_moved(set->setup.host);
    file_set_wake(entry);
}

void file_set_see(file_set_t *set, const char *name, bool at_end) {
    file_entry_t *entry = map_get(set->entries, text_of(name));
    if (entry) {
        entry->seen = true;
        file_set_wake(entry);
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

const char *file_set_none(const file_set_t *set) {
    return set->whole ? "there is no file in this directory" : "no file has such a name";
}

void file_set_scan(file_set_t *set, bool at_end) {
    size_t listed, count = 0;
    const listing_entry_t *found = listing_find(set->listing, "", 0, &listed);
    char **names = mem_alloc((listed + 1) * sizeof *names);
    text_t key;
    void *value;
    for (size_t i = 0; i < listed; i++)
        if (file_set_matches(set, found[i].name))
            names[count++] = mem_text(found[i].name);
    for (size_t at = 0; map_next(set->entries, &at, &key, &value);)
        ((file_entry_t *) value)->seen = false;
    for (size_t i = 0; i < count; i++) {
        file_set_see(set, names[i], at_end);
        mem_free(names[i]);
    }
    mem_free(names);
    for (size_t at = 0; map_next(set->entries, &at, &key, &value);) {
        file_entry_t *entry = value;
        if (!entry->seen && !entry->gone && set->settings->follow)
            file_set_wake(entry);               /* rotated away meanwhile, perhaps: its rest is looked for */
    }
    if (!map_count(set->entries) && set->settings->follow)
        source_unhealthy(set->setup.host, "%s: %s yet; waiting for one", set->shown, file_set_none(set));
}

