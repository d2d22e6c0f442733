/* The table of devices as a file of fixed layout. Each place stands under a sequence lock (odd while it is written), as in metrics.c. */
#include "run/device_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"

#define MAGIC UINT64_C(0x3156454452525453) /* "STRRDEV1" */
#define PLACES_MAX (1u << 20)
#define READ_AT_ONCE 256
#define RATE_WINDOW (60.0)             /* seconds */

const char *const device_state_names[3] = {"online", "late", "offline"};
const char *const device_reason_names[4] = {"first message", "message", "silence", "presence"};

typedef struct file_head {
    uint64_t magic, places, used, forgotten;
} file_head_t;

typedef struct file_place {
    uint64_t lock;
    device_view_t view;
    uint64_t again;                    /* as lock: a reader that finds both alike and even has the whole of it */
} file_place_t;

struct device_file {
    file_head_t *head;
    file_place_t *places;
    size_t size;
};

/* An exponentially weighted count: each message adds 1/60 a second, which fades with a time constant of a minute. What a device that is younger than
 * that cannot have collected yet is made good. */
double device_rate(const device_view_t *view, int64_t now) {
    double age = (double) (now - view->first) / NS_PER_S, silence = (double) (now - view->last) / NS_PER_S;
    if (!view->messages || age < 1)
        return 0;
    double collected = 1 - exp(-age / RATE_WINDOW);
    return view->rate * exp(-(silence > 0 ? silence : 0) / RATE_WINDOW) / collected;
}

int device_file_open(device_file_t **file, const char *path, uint32_t places, err_t *err) {
    size_t size = sizeof(file_head_t) + places * sizeof(file_place_t);
    int fd = -1;
    if (path) {
        unlink(path); /* a reader that has the old file keeps it */
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
        if (fd < 0)
            return err_errno(err, "create the table of devices %s", path);
        errno = posix_fallocate(fd, 0, (off_t) size);
        if (errno) {
            err_errno(err, "size the table of devices %s", path);
            close(fd);
            return -1;
        }
    }
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, path ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
    if (fd >= 0)
        close(fd);
    if (memory == MAP_FAILED)
        return err_errno(err, "map the table of devices %s", path ? path : "(anonymous)");
    device_file_t *self = mem_zero(sizeof *self);
    self->head = memory;
    self->places = (file_place_t *) (self->head + 1);
    self->size = size;
    self->head->places = places;
    __atomic_store_n(&self->head->magic, MAGIC, __ATOMIC_RELEASE);
    *file = self;
    return 0;
}

void device_file_set(device_file_t *file, uint32_t place, const device_view_t *view) {
    file_place_t *to = &file->places[place];
    uint64_t lock = to->lock + 1;
    __atomic_store_n(&to->lock, lock, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    to->view = *view;
    __atomic_store_n(&to->again, lock + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&to->lock, lock + 1, __ATOMIC_RELEASE);
    if (place >= file->head->used)
        __atomic_store_n(&file->head->used, place + 1, __ATOMIC_RELEASE);
}

void device_file_forgotten(device_file_t *file, uint64_t devices) {
    __atomic_store_n(&file->head->forgotten, devices, __ATOMIC_RELAXED);
}

void device_file_close(device_file_t *file) {
    if (!file)
        return;
    munmap(file->head, file->size);
    mem_free(file);
}

static bool usable(const file_place_t *place, const file_place_t *second) {
    const device_view_t *view = &place->view;
    return place->lock % 2 == 0 && place->lock == place->again && place->lock == second->lock && view->name[0] &&
           memchr(view->name, 0, sizeof view->name) && view->state <= DEVICE_OFFLINE && view->reason <= DEVICE_PRESENCE;
}

/* Reads `count` places twice: one whose lock is the same both times was not written while it was read first. */
static int read_places(int fd, uint64_t from, size_t count, file_place_t *space, device_view_t *views, uint32_t *found) {
    size_t size = count * sizeof *space;
    off_t at = (off_t) (sizeof(file_head_t) + from * sizeof *space);
    for (int turn = 0; turn < 2; turn++)
        if (pread(fd, space + (size_t) turn * READ_AT_ONCE, size, at) != (ssize_t) size)
            return -1;
    for (size_t i = 0; i < count; i++) {
        if (!usable(&space[i], &space[READ_AT_ONCE + i]))
            continue;
        views[*found] = space[i].view;
        text_make_valid(views[(*found)++].name);
    }
    return 0;
}

int device_file_read(const char *path, device_view_t **views, uint32_t *count, uint64_t *forgotten, err_t *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open the table of devices %s", path);
    file_head_t head;
    file_place_t *space = NULL;
    device_view_t *made = NULL;
    uint32_t found = 0;
    int result = -1;
    if (pread(fd, &head, sizeof head, 0) != (ssize_t) sizeof head || head.magic != MAGIC || head.places > PLACES_MAX || head.used > head.places) {
        err_set(err, "%s is not a table of devices of this version", path);
        goto out;
    }
    space = mem_alloc(2 * READ_AT_ONCE * sizeof *space);
    made = mem_alloc((head.used + 1) * sizeof *made);
    for (uint64_t from = 0; from < head.used; from += READ_AT_ONCE) {
        size_t some = head.used - from < READ_AT_ONCE ? (size_t) (head.used - from) : READ_AT_ONCE;
        if (read_places(fd, from, some, space, made, &found)) {
            err_set(err, "the table of devices %s is cut short", path);
            goto out;
        }
    }
    *views = made;
    *count = found;
    *forgotten = head.forgotten;
    made = NULL;
    result = 0;
out:
    mem_free(space);
    mem_free(made);
    close(fd);
    return result;
}
