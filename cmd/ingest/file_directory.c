/* The directory of a followed file, or of many, as its name may come to lead to another one. */
#include "file_directory.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

void file_directory_init(file_directory_t *self, int inotify, const char *path, uint32_t events, bool alone) {
    *self = (file_directory_t){.inotify = inotify, .path = path, .events = events | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR, .alone = alone, .watch = -1};
}

void file_directory_drop(file_directory_t *self) {
    while (self->above_count)
        inotify_rm_watch(self->inotify, self->above[--self->above_count]);
    if (self->watch >= 0)
        inotify_rm_watch(self->inotify, self->watch);
    self->watch = -1;
}

bool file_is_link(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0 && S_ISLNK(status.st_mode);
}

/* One directory on the way, or the last. */
static void watch_above(file_directory_t *self, const char *path, bool last) {
    if (file_is_link(path))
        self->unsure = true;
    if (last)
        return;
    int watch = self->above_count < FILE_DIRECTORY_ABOVE ? inotify_add_watch(self->inotify, path, IN_MOVE_SELF | IN_ONLYDIR | IN_MASK_ADD) : -1;
    if (watch < 0)
        self->unsure = true;
    else
        self->above[self->above_count++] = watch;
}

static void watch_way(file_directory_t *self) {
    char *path = mem_text(self->path);
    for (char *slash = path; *slash && (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        watch_above(self, path, false);
        *slash = '/';
    }
    watch_above(self, path, true);
    mem_free(path);
}

static int watch(file_directory_t *self) {
    struct stat status;
    self->unsure = false;
    if (!self->alone)
        watch_way(self); /* first, so that no rename comes between */
    self->watch = inotify_add_watch(self->inotify, self->path, self->events | IN_MASK_ADD);
    if (self->watch >= 0 && stat(self->path, &status) == 0) {
        self->device = status.st_dev;
        self->inode = status.st_ino;
        return 0;
    }
    int why = errno;
    file_directory_drop(self);
    errno = why;
    return -1;
}

int file_directory_check(file_directory_t *self) {
    struct stat status;
    bool look = self->watch >= 0 && (self->moved || self->unsure);
    self->moved = false;
    if (look && (stat(self->path, &status) || status.st_dev != self->device || status.st_ino != self->inode))
        file_directory_drop(self);
    else if (look && !self->unsure && !self->alone) /* what is above now may be other directories */
        file_directory_drop(self);
    return self->watch >= 0 ? 0 : watch(self);
}

bool file_directory_take(file_directory_t *self, const struct inotify_event *event) {
    if (event->wd == self->watch && event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
        file_directory_drop(self);
        return true;
    }
    for (unsigned i = 0; i < self->above_count; i++) {
        if (event->wd == self->above[i] && event->wd != self->watch) {
            self->moved = true;
            return true;
        }
    }
    return false;
}
