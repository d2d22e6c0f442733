/* Follows a file by its name. Opened files stand in a queue: the first is read, those behind it came into being under the same
 * name since. inotify tells of changes; what to do is then found out by looking, so that no order of events is relied upon, with one
 * exception: when files come and go faster than we are woken, the renames in between tell where the missed ones are now. */
#include "tail_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#define RETRY NS_PER_S                 /* where inotify cannot help: no directory, or a symbolic link */
#define FILE_EVENTS (IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF | IN_CLOSE_WRITE)
#define DIRECTORY_EVENTS (IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE)

static void on_turn(void *argument);

void tail_schedule(tail_t *tail) {
    if (!tail->paused)
        loop_defer(tail->setup.loop, on_turn, tail);
}

void tail_close_file(tail_t *tail, tail_file_t *file) {
    if (file->watch >= 0)
        inotify_rm_watch(tail->inotify, file->watch);
    close(file->fd);
    mem_free(file);
}

static tail_file_t *find_file(tail_t *tail, dev_t device, ino_t inode) {
    for (tail_file_t *file = tail->files; file; file = file->next) {
        if (file->device == device && file->inode == inode)
            return file;
    }
    return NULL;
}

tail_opened_t tail_open_file(tail_t *tail, const char *path, tail_file_t **file) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (fd < 0)
        return OPENED_NOT;
    if (fstat(fd, &status) || !S_ISREG(status.st_mode)) {
        close(fd);
        errno = EINVAL;
        return OPENED_NOT;
    }
    *file = find_file(tail, status.st_dev, status.st_ino);
    if (*file || tail->count >= TAIL_QUEUE_MAX) {
        close(fd);
        if (!*file && !tail->queue_full_told)
            log_error("%s: %d renamed files wait to be read already; newer ones may be missed", tail->path, TAIL_QUEUE_MAX);
        tail->queue_full_told |= !*file;
        return *file ? OPENED_KNOWN : OPENED_FULL;
    }
    *file = mem_zero(sizeof **file);
    (*file)->fd = fd;
    (*file)->device = status.st_dev;
    (*file)->inode = status.st_ino;
    (*file)->modified = status.st_mtim.tv_sec * NS_PER_S + status.st_mtim.tv_nsec;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd); /* this very file, whatever its name is by now */
    (*file)->watch = inotify_add_watch(tail->inotify, link, FILE_EVENTS);
    if ((*file)->watch < 0)
        log_warning("%s: cannot watch for changes: %s", path, strerror(errno));
    return OPENED_NEW;
}

static void append(tail_t *tail, tail_file_t *file) {
    tail_file_t **link = &tail->files;
    while (*link)
        link = &(*link)->next;
    *link = file;
    tail->count++;
}

/* A renamed file is older than the one that has the name now; but the one being read stays first. */
static void insert_older(tail_t *tail, tail_file_t *file) {
    tail_file_t **link = &tail->files;
    while (*link && ((*link)->rotated || (*link == tail->files && (*link)->offset)))
        link = &(*link)->next;
    file->next = *link;
    *link = file;
    tail->count++;
}

static void tell_missing(tail_t *tail, const char *reason) {
    if (!tail->missing_told)
        tail->setup.missing(tail->setup.argument, reason);
    tail->missing_told = true;
}

static void on_retry(void *argument) {
    tail_t *tail = argument;
    tail->retry_timer = NULL;
    tail->looked |= tail->lacking;
    tail_look(tail);
    tail_schedule(tail);
}

static void retry_later(tail_t *tail) {
    if (!tail->retry_timer)
        tail->retry_timer = loop_timer(tail->setup.loop, RETRY, 0, on_retry, tail);
}

static void drop_rename(tail_t *tail, unsigned index) {
    mem_free(tail->renames[index].name);
    tail->rename_count--;
    memmove(&tail->renames[index], &tail->renames[index + 1], (tail->rename_count - index) * sizeof *tail->renames);
}

static void note_rename(tail_t *tail, const struct inotify_event *event) {
    if (event->mask & IN_MOVED_TO) {
        for (unsigned i = 0; i < tail->rename_count; i++) {
            tail_rename_t *rename = &tail->renames[i];
            if (rename->cookie != event->cookie)
                continue;
            mem_free(rename->name);
            *rename = (tail_rename_t){.name = mem_text(event->name)};
        }
        return;
    }
    for (unsigned i = 0; i < tail->rename_count; i++) { /* one of ours moves on */
        if (tail->renames[i].name && strcmp(tail->renames[i].name, event->name) == 0)
            tail->renames[i].cookie = event->cookie;
    }
    if (strcmp(event->name, tail->base) == 0) {
        if (tail->rename_count == TAIL_RENAMES_MAX)
            drop_rename(tail, 0);
        tail->renames[tail->rename_count++] = (tail_rename_t){.cookie = event->cookie};
    }
}

void tail_remember(tail_t *tail, const filetrace_t *trace, dev_t device, ino_t inode, uint64_t offset) {
    filemark_make(&tail->finished[tail->finished_next++ % TAIL_KEPT], trace, device, inode, offset);
}

void tail_remember_finished(tail_t *tail, const tail_file_t *file, uint64_t offset) {
    filetrace_t trace;
    filetrace_load(&trace, file->fd, offset);
    tail_remember(tail, &trace, file->device, file->inode, offset);
}

/* Opens the files that were renamed before they were seen under our name. */
static void find_renamed_files(tail_t *tail) {
    for (unsigned i = 0; i < tail->rename_count;) {
        if (!tail->renames[i].name || tail->renames[i].cookie) {
            i++;
            continue;
        }
        char *path = mem_format("%s/%s", tail->directory, tail->renames[i].name);
        tail_file_t *file;
        tail_opened_t opened = tail_open_file(tail, path, &file);
        bool again = opened == OPENED_FULL || (opened == OPENED_NOT && errno == ENOENT); /* its next name will be told */
        mem_free(path);
        if (opened == OPENED_NEW) {
            file->rotated = true;
            tail_pass_over_finished(tail, file);
            insert_older(tail, file);
        } else if (opened == OPENED_KNOWN) {
            file->rotated = true;
        }
        if (again)
            i++;
        else
            drop_rename(tail, i);
    }
}

static void on_event(tail_t *tail, const struct inotify_event *event) {
    if (file_directory_take(&tail->place, event))
        return;
    if (event->wd == tail->place.watch) {
        if (event->len) {
            tail->stirred |= strcmp(event->name, tail->base) == 0 || tail_rotated_name(tail, event->name);
            if (event->mask & (IN_MOVED_FROM | IN_MOVED_TO))
                note_rename(tail, event);
        }
        return;
    }
    for (tail_file_t *file = tail->files; file; file = file->next) {
        if (file->watch != event->wd)
            continue;
        if (event->mask & IN_CLOSE_WRITE && file->rotated)
            file->closed = true;
        if (event->mask & IN_IGNORED)
            file->watch = -1;
    }
}

void tail_read_events(tail_t *tail) {
    _Alignas(struct inotify_event) char buffer[16384];
    ssize_t size;
    while ((size = read(tail->inotify, buffer, sizeof buffer)) > 0) {
        for (char *at = buffer; at < buffer + size;) {
            const struct inotify_event *event = (const struct inotify_event *) (void *) at;
            on_event(tail, event);
            at += sizeof *event + event->len;
        }
    }
    find_renamed_files(tail);
}

/* What is the file of that name now? */
void tail_look(tail_t *tail) {
    tail_file_t *named = NULL;
    tail_read_events(tail);
    if (file_directory_check(&tail->place) || tail->place.unsure)
        retry_later(tail);
    errno = 0;
    tail_opened_t opened = tail_open_file(tail, tail->path, &named);
    int why = errno;
    if (opened == OPENED_NEW)
        append(tail, named);
    for (tail_file_t *file = tail->files; file; file = file->next) {
        file->rotated = file != named;
        if (!file->rotated)
            file->closed = false;
    }
    tail->lacking = !named;
    if (named) {
        tail->missing_told = tail->looked = false;
    } else {
        if (!tail->files && tail->looked) /* between two files of a rotation is nothing to be told of */
            tell_missing(tail, why == EINVAL ? "is not a regular file" : why ? strerror(why) : "cannot be read");
        if (!tail->looked || why == EACCES || file_is_link(tail->path))
            retry_later(tail);
    }
}

static void on_inotify(void *argument, uint32_t events) {
    tail_t *tail = argument;
    tail_look(tail);
    tail_schedule(tail);
}

/* Nobody can write to it any more: a read lease is given only then. Only the file's owner may ask. */
static bool nobody_writes(int fd) {
    fcntl(fd, F_SETSIG, SIGURG); /* should somebody open it at this very moment: the usual SIGIO would end us */
    if (fcntl(fd, F_SETLEASE, F_RDLCK) != 0)
        return false;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return true;
}

static void on_waited(void *argument) {
    tail_t *tail = argument;
    tail->wait_timer = NULL;
    if (tail->files && tail->files->rotated)
        tail->files->closed = true;
    tail_schedule(tail);
}

static void stop_waiting(tail_t *tail) {
    loop_remove(tail->wait_timer);
    tail->wait_timer = NULL;
}

/* The file was cut, or cut and written anew. */
static bool truncated(tail_file_t *file) {
    struct stat status;
    if (fstat(file->fd, &status))
        return false;
    if ((uint64_t) status.st_size < file->offset || !filetrace_same_head(&file->trace, file->fd))
        return true;
    file->modified = status.st_mtim.tv_sec * NS_PER_S + status.st_mtim.tv_nsec;
    return false;
}

/* Offers what has been read. False: paused meanwhile. */
static bool offer(tail_t *tail) {
    tail_setup_t *setup = &tail->setup;
    bool at_end = tail->finish != FINISH_NOT;
    while (feed_size(&tail->feed) && !tail->paused) {
        size_t used = setup->data(setup->argument, feed_data(&tail->feed), feed_size(&tail->feed), at_end);
        filetrace_used(&tail->files->trace, feed_data(&tail->feed), used);
        feed_used(&tail->feed, used);
        if (!at_end || used == 0)
            break;
    }
    tail->unseen = tail->paused && feed_size(&tail->feed);
    return !tail->paused;
}

static void finish(tail_t *tail, tail_finish_t how) {
    tail->finish = how;
    if (!offer(tail))
        return;
    tail_file_t *file = tail->files;
    tail->finish = FINISH_NOT;
    feed_clear(&tail->feed);
    stop_waiting(tail);
    tail->modified = file->modified;
    if (how == FINISH_RESTART) {
        file->offset = 0;
        file->trace = (filetrace_t){0};
    } else {
        tail->files = file->next;
        tail->count--;
        tail_remember_finished(tail, file, file->offset);
        tail_close_file(tail, file);
    }
    tail->setup.begin(tail->setup.argument);
    tail_look(tail);
    tail_schedule(tail);
}

static void at_end_of_file(tail_t *tail, tail_file_t *file) {
    if (!file->rotated) {
        if (tail->setup.idle)
            tail->setup.idle(tail->setup.argument);
        return;
    }
    if (file->closed) {
        finish(tail, FINISH_NEXT);
    } else if (nobody_writes(file->fd)) {
        file->closed = true; /* but it may have been written to just before: one more look */
        tail_schedule(tail);
    } else if (!tail->wait_timer) {
        tail->wait_timer = loop_timer(tail->setup.loop, tail->setup.rotate_wait, 0, on_waited, tail);
    }
}

/* The file was cut: its copy is read on, if there is one, before it is begun anew. */
static void go_on_in_copy(tail_t *tail, tail_file_t *file) {
    file->cut = true; /* it may grow beyond the place meanwhile */
    bool copied = tail_use_copy(tail, file);
    if (tail->unpacking)
        return;
    file->cut = false;
    log_info("%s was truncated: reading on %s", tail->path, copied ? "in its copy, then from its beginning" : "from its beginning");
    if (!copied)
        finish(tail, FINISH_RESTART);
    else
        tail_schedule(tail);
}

/* False: paused, or other files have to be looked at first. */
static bool may_read(tail_t *tail) {
    if (tail->paused || tail->unpacking)
        return false;
    if (tail->restoring) {
        tail_found_t found = tail_restore_again(tail);
        if (found != TAIL_LATER) {
            tail_schedule(tail);
            tail->setup.restored(tail->setup.argument, found == TAIL_FOUND);
        }
        return false;
    }
    return !tail->disowning || tail_disown_packed(tail);
}

static void on_turn(void *argument) {
    tail_t *tail = argument;
    if (!may_read(tail))
        return;
    if (tail->finish != FINISH_NOT) {
        finish(tail, tail->finish);
        return;
    }
    tail_file_t *file = tail->files;
    if (!file || (tail->unseen && !offer(tail)))
        return;
    if (file->cut || truncated(file)) {
        go_on_in_copy(tail, file);
        return;
    }
    void *space = feed_space(&tail->feed);
    ssize_t size = pread(file->fd, space, FEED_CHUNK, (off_t) file->offset);
    if (size < 0) {
        log_error("%s: %s", tail->path, strerror(errno));
        return; /* until the next change */
    }
    if (size == 0) {
        at_end_of_file(tail, file);
        return;
    }
    stop_waiting(tail);
    if (file->offset == 0) {
        if (tail_drop_copy(tail)) {
            tail_schedule(tail);
            return;
        }
        bool others = tail_find_missed(tail);
        if (others && !tail->unpacking)
            tail_schedule(tail);
        if (others || tail->unpacking)
            return;
    }
    filetrace_read(&file->trace, file->offset, space, (size_t) size);
    file->offset += (uint64_t) size;
    feed_added(&tail->feed, (size_t) size);
    if (offer(tail))
        tail_schedule(tail);
}

tail_t *tail_new(const tail_setup_t *setup, err_t *err) {
    tail_t *tail = mem_zero(sizeof *tail);
    tail->setup = *setup;
    tail->path = mem_text(setup->path);
    char *slash = strrchr(tail->path, '/');
    tail->base = slash ? slash + 1 : tail->path;
    tail->directory = slash ? mem_text_n(tail->path, slash == tail->path ? 1 : (size_t) (slash - tail->path)) : mem_text(".");
    tail->listing = setup->listing ? setup->listing : listing_new(tail->directory);
    tail->unpack = setup->unpack ? setup->unpack : unpack_queue_new(setup->loop);
    tail->paused = true;
    tail->inotify = setup->lent ? setup->inotify : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (tail->inotify < 0) {
        err_errno(err, "inotify (see fs.inotify.max_user_instances)");
        goto failed;
    }
    file_directory_init(&tail->place, tail->inotify, tail->directory, DIRECTORY_EVENTS, setup->lent);
    if (file_directory_check(&tail->place) && errno != ENOENT) { /* that one is waited for, as the file is */
        err_errno(err, "the directory %s cannot be watched", tail->directory);
        goto failed;
    }
    tail->watch = loop_fd(setup->loop, tail->inotify, EPOLLIN, on_inotify, tail);
    ASSERT(tail->watch);
    tail->looked = true;
    tail_look(tail);
    if (tail->files && setup->from_end) {
        tail->files->offset = (uint64_t) lseek(tail->files->fd, 0, SEEK_END);
        filetrace_load(&tail->files->trace, tail->files->fd, tail->files->offset);
    }
    if (!setup->lent)
        tail_disown_older(tail);
    return tail;
failed:
    tail_free(tail);
    return NULL;
}

void tail_pause(tail_t *tail) {
    tail->paused = true;
}

void tail_resume(tail_t *tail) {
    tail->paused = false;
    tail_schedule(tail);
}

void tail_moved(tail_t *tail) {
    tail->place.moved = true;
    tail_look(tail);
    tail_schedule(tail);
}

void tail_again(tail_t *tail) {
    tail->unseen = true;
    tail_schedule(tail);
}

bool tail_quiet(const tail_t *tail) {
    const tail_file_t *file = tail->files;
    struct stat status, named;
    if (!file)
        return tail->missing_told && !tail->unpacking && !tail->restoring;
    if (tail->paused || tail->unpacking || tail->restoring || file->cut)
        return false;
    return !file->next && !file->rotated && tail->finish == FINISH_NOT && !tail->rename_count && fstat(file->fd, &status) == 0 &&
           (uint64_t) status.st_size == file->offset && filetrace_same_head(&file->trace, file->fd) && stat(tail->path, &named) == 0 &&
           named.st_dev == file->device && named.st_ino == file->inode;
}

void tail_forget(tail_t *tail) {
    while (tail->files) {
        tail_file_t *file = tail->files;
        tail->files = file->next;
        tail_close_file(tail, file);
    }
    tail->count = 0;
    while (tail->rename_count)
        drop_rename(tail, 0);
}

void tail_free(tail_t *tail) {
    if (!tail)
        return;
    loop_undefer(tail->setup.loop, on_turn, tail);
    loop_remove(tail->watch);
    loop_remove(tail->wait_timer);
    loop_remove(tail->retry_timer);
    tail_forget(tail);
    tail_unpacked(tail);
    mem_free(tail->restoring);
    if (!tail->setup.unpack)
        unpack_queue_free(tail->unpack);
    if (tail->setup.lent && tail->place.path)
        file_directory_drop(&tail->place); /* what is still told of it is passed over */
    if (tail->inotify >= 0 && !tail->setup.lent)
        close(tail->inotify);
    feed_fini(&tail->feed);
    if (!tail->setup.listing)
        listing_free(tail->listing);
    mem_free(tail->path);
    mem_free(tail->directory);
    mem_free(tail);
}
