/* The file of two texts, each written in turn to two places: what was there before stays sound until the new one is whole. */
#include "slots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/memory.h"

#define MAGIC "STRMPRG1"
#define PAGE 4096u
#define PLACE_FIRST (16u * 1024)
#define PLACE_MAX (256u * 1024 * 1024)
#define HEAD 24u

struct slots {
    char *path;
    int fd;
    uint32_t place;
    uint64_t generation[2];            /* of the newest text of each kind */
    unsigned newest[2];                /* which of its two places that is in */
    bool any[2];
    buf_t space;
};

static void put32(uint8_t *p, uint32_t v) {
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t) (v >> 8 * i);
}

static void put64(uint8_t *p, uint64_t v) {
    put32(p, (uint32_t) v);
    put32(p + 4, (uint32_t) (v >> 32));
}

static uint32_t get32(const uint8_t *p) {
    return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static uint64_t get64(const uint8_t *p) {
    return get32(p) | (uint64_t) get32(p + 4) << 32;
}

static off_t place_at(const slots_t *slots, unsigned kind, unsigned which) {
    return (off_t) (PAGE + (uint64_t) slots->place * (2 * kind + which));
}

static bool read_at(int fd, void *out, size_t size, off_t at) {
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (uint8_t *) out + done, size - done, at + (off_t) done);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        done += n > 0 ? (size_t) n : 0;
    }
    return true;
}

static int write_at(const slots_t *slots, const void *bytes, size_t size, off_t at, err_t *err) {
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(slots->fd, (const uint8_t *) bytes + done, size - done, at + (off_t) done);
        if (n < 0 && errno != EINTR)
            return err_errno(err, "write %s", slots->path);
        done += n > 0 ? (size_t) n : 0;
    }
    return 0;
}

/* One place's text; false when it is empty, torn or of another kind. */
static bool read_place(const slots_t *slots, unsigned kind, unsigned which, uint64_t *generation, buf_t *text) {
    uint8_t head[HEAD];
    off_t at = place_at(slots, kind, which);
    if (!read_at(slots->fd, head, HEAD, at))
        return false;
    uint32_t size = get32(head + 16);
    if (size > slots->place - HEAD || get32(head + 20) != kind || get64(head + 8) == 0)
        return false;
    buf_t whole = {0};
    buf_put(&whole, head + 8, HEAD - 8);
    bool sound = read_at(slots->fd, buf_reserve(&whole, size), size, at + HEAD);
    whole.size += size;
    sound = sound && XXH3_64bits(whole.data, whole.size) == get64(head);
    if (sound) {
        *generation = get64(head + 8);
        if (text)
            buf_put(text, whole.data + HEAD - 8, size);
    }
    buf_fini(&whole);
    return sound;
}

static int write_header(const slots_t *slots, err_t *err) {
    uint8_t page[PAGE] = MAGIC;
    put32(page + 8, slots->place);
    put64(page + 16, XXH3_64bits(page, 16));
    return write_at(slots, page, PAGE, 0, err);
}

static bool read_header(slots_t *slots) {
    uint8_t head[HEAD];
    if (!read_at(slots->fd, head, HEAD, 0) || memcmp(head, MAGIC, 8) != 0 || XXH3_64bits(head, 16) != get64(head + 16))
        return false;
    slots->place = get32(head + 8);
    return slots->place >= PLACE_FIRST && slots->place <= PLACE_MAX;
}

static void find_newest(slots_t *slots) {
    for (unsigned kind = 0; kind < 2; kind++) {
        for (unsigned which = 0; which < 2; which++) {
            uint64_t generation;
            if (!read_place(slots, kind, which, &generation, NULL) || (slots->any[kind] && generation < slots->generation[kind]))
                continue;
            slots->any[kind] = true;
            slots->generation[kind] = generation;
            slots->newest[kind] = which;
        }
    }
}

static int sync_directory(const char *path, err_t *err) {
    const char *slash = strrchr(path, '/');
    char *directory = slash ? mem_text_n(path, (size_t) (slash - path) + (slash == path)) : mem_text(".");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 || fsync(fd) ? err_errno(err, "sync directory %s", directory) : 0;
    if (fd >= 0)
        close(fd);
    mem_free(directory);
    return result;
}

/* A new file in place of the present one, if any, with the newest texts of that. */
static int replace(slots_t *slots, uint32_t place, err_t *err) {
    slots_t made = {.path = mem_format("%s.new", slots->path), .place = place};
    made.fd = open(made.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int result = made.fd < 0 ? err_errno(err, "create %s", made.path) : write_header(&made, err);
    /* All its room from the start: a disk that is full later does not keep progress from being written. */
    int error = result ? 0 : posix_fallocate(made.fd, 0, (off_t) (PAGE + 4 * (uint64_t) place));
    if (error)
        result = err_set(err, "make room for %s: %s", made.path, strerror(error));
    for (unsigned kind = 0; kind < 2 && result == 0 && slots->fd >= 0; kind++) {
        buf_t text = {0};
        made.generation[kind] = slots->generation[kind]; /* its text is written as the next one */
        if (slots_read(slots, kind, &text))
            result = slots_write(&made, kind, text_make((const char *) text.data, text.size), err);
        buf_fini(&text);
    }
    if (result == 0 && (result = slots_sync(&made, err)) == 0) {
        result = rename(made.path, slots->path) ? err_errno(err, "rename %s to %s", made.path, slots->path) : sync_directory(slots->path, err);
        if (result == 0) {
            if (slots->fd >= 0)
                close(slots->fd);
            slots->fd = made.fd;
            slots->place = place;
            memcpy(slots->generation, made.generation, sizeof made.generation);
            memcpy(slots->newest, made.newest, sizeof made.newest);
            memcpy(slots->any, made.any, sizeof made.any);
            made.fd = -1;
        }
    }
    if (made.fd >= 0) {
        close(made.fd);
        unlink(made.path);
    }
    mem_free(made.path);
    buf_fini(&made.space);
    return result;
}

int slots_open(slots_t **made, const char *path, err_t *err) {
    slots_t *slots = mem_zero(sizeof *slots);
    slots->path = mem_text(path);
    slots->fd = open(path, O_RDWR | O_CLOEXEC);
    int result = 0;
    if (slots->fd < 0)
        result = errno == ENOENT ? replace(slots, PLACE_FIRST, err) : err_errno(err, "open %s", path);
    else if (!read_header(slots))
        result = err_set(err, "%s holds no progress that can be read: it is damaged or of another program; with --reset the stage begins anew", path);
    else
        find_newest(slots);
    if (result) {
        slots_close(slots);
        return -1;
    }
    *made = slots;
    return 0;
}

bool slots_read(const slots_t *slots, slot_kind_t kind, buf_t *text) {
    uint64_t generation;
    return slots->any[kind] && read_place(slots, kind, slots->newest[kind], &generation, text);
}

int slots_write(slots_t *slots, slot_kind_t kind, text_t text, err_t *err) {
    uint64_t place = slots->place;
    while (text.size > place - HEAD)
        place *= 2;
    if (place > PLACE_MAX)
        return err_set(err, "%s: %zu bytes of progress are too many", slots->path, text.size);
    if (place != slots->place && replace(slots, (uint32_t) place, err))
        return -1;
    unsigned which = slots->any[kind] ? !slots->newest[kind] : 0;
    buf_t *space = &slots->space;
    buf_clear(space);
    uint8_t *head = buf_reserve(space, HEAD);
    put64(head + 8, slots->generation[kind] + 1);
    put32(head + 16, (uint32_t) text.size);
    put32(head + 20, kind);
    space->size = HEAD;
    buf_put(space, text.data, text.size);
    put64(space->data, XXH3_64bits(space->data + 8, space->size - 8));
    if (write_at(slots, space->data, space->size, place_at(slots, kind, which), err))
        return -1;
    slots->generation[kind]++;
    slots->newest[kind] = which;
    slots->any[kind] = true;
    return 0;
}

int slots_sync(slots_t *slots, err_t *err) {
    return fdatasync(slots->fd) ? err_errno(err, "sync %s", slots->path) : 0;
}

int slots_fd(const slots_t *slots) {
    return slots->fd;
}

void slots_close(slots_t *slots) {
    if (!slots)
        return;
    if (slots->fd >= 0)
        close(slots->fd);
    buf_fini(&slots->space);
    mem_free(slots->path);
    mem_free(slots);
}
