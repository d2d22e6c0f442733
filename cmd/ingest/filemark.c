/* Places in files that are found again: fingerprints of the first bytes and of those before the place. */
#include "filemark.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/memory.h"

static size_t at_most(uint64_t offset, size_t limit) {
    return offset < limit ? (size_t) offset : limit;
}

void filetrace_read(filetrace_t *trace, uint64_t offset, const void *data, size_t size) {
    size_t known = trace->head_size, end = at_most(offset + size, FILEMARK_HEAD);
    if (offset > known || end <= known)
        return;
    memcpy(trace->head + known, (const uint8_t *) data + (known - offset), end - known);
    trace->head_size = end;
}

void filetrace_used(filetrace_t *trace, const void *data, size_t size) {
    const uint8_t *bytes = data;
    if (size < FILEMARK_BEFORE) {
        size_t keep = at_most(trace->before_size, FILEMARK_BEFORE - size);
        memmove(trace->before, trace->before + trace->before_size - keep, keep);
        memcpy(trace->before + keep, bytes, size);
        trace->before_size = keep + size;
    } else {
        memcpy(trace->before, bytes + size - FILEMARK_BEFORE, FILEMARK_BEFORE);
        trace->before_size = FILEMARK_BEFORE;
    }
}

static bool read_at(int fd, uint8_t *out, size_t size, uint64_t offset) {
    return pread(fd, out, size, (off_t) offset) == (ssize_t) size;
}

void filetrace_load(filetrace_t *trace, int fd, uint64_t offset) {
    trace->head_size = at_most(offset, FILEMARK_HEAD);
    trace->before_size = at_most(offset, FILEMARK_BEFORE);
    if (!read_at(fd, trace->head, trace->head_size, 0))
        trace->head_size = 0;
    if (!read_at(fd, trace->before, trace->before_size, offset - trace->before_size))
        trace->before_size = 0;
}

bool filetrace_same_head(const filetrace_t *trace, int fd) {
    uint8_t now[FILEMARK_HEAD];
    return read_at(fd, now, trace->head_size, 0) && memcmp(now, trace->head, trace->head_size) == 0;
}

bool filetrace_same_place(const filetrace_t *trace, const filemark_t *mark) {
    return XXH3_64bits(trace->before, trace->before_size) == mark->before;
}

void filemark_make(filemark_t *mark, const filetrace_t *trace, uint64_t device, uint64_t inode, uint64_t offset) {
    *mark = (filemark_t){.device = device, .inode = inode, .offset = offset, .head_size = trace->head_size};
    mark->head = XXH3_64bits(trace->head, trace->head_size);
    mark->before = XXH3_64bits(trace->before, trace->before_size);
}

bool filemark_begins(const filemark_t *mark, const uint8_t *head, size_t size) {
    return size >= mark->head_size && XXH3_64bits(head, mark->head_size) == mark->head;
}

bool filemark_fits(const filemark_t *mark, int fd) {
    struct stat status;
    uint8_t head[FILEMARK_HEAD], before[FILEMARK_BEFORE];
    size_t before_size = at_most(mark->offset, FILEMARK_BEFORE);
    if (fstat(fd, &status) || !S_ISREG(status.st_mode) || (uint64_t) status.st_size < mark->offset)
        return false;
    return read_at(fd, head, mark->head_size, 0) && XXH3_64bits(head, mark->head_size) == mark->head &&
           read_at(fd, before, before_size, mark->offset - before_size) && XXH3_64bits(before, before_size) == mark->before;
}

int filemark_find(const filemark_t *mark, listing_t *listing) {
    size_t count;
    const listing_entry_t *entries = mark->head_size ? listing_find(listing, "", 0, &count) : NULL;
    int found = -1;
    for (size_t i = 0; entries && found < 0 && i < count; i++) {
        struct stat status;
        if (entries[i].inode != mark->inode)
            continue;
        char *path = mem_format("%s/%s", listing_directory(listing), entries[i].name);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        mem_free(path);
        if (fd >= 0 && fstat(fd, &status) == 0 && status.st_dev == mark->device && status.st_ino == mark->inode && filemark_fits(mark, fd)) {
            found = fd;
        } else if (fd >= 0) {
            close(fd);
        }
    }
    return found;
}

void filemark_pack(const filemark_t *mark, buf_t *out) {
    pack_array(out, 6);
    pack_uint(out, mark->device);
    pack_uint(out, mark->inode);
    pack_uint(out, mark->offset);
    pack_uint(out, mark->head_size);
    pack_uint(out, mark->head);
    pack_uint(out, mark->before);
}

bool filemark_unpack(pack_cursor_t *cursor, filemark_t *mark) {
    uint32_t count;
    return pack_read_array(cursor, &count) && count == 6 && pack_read_uint(cursor, &mark->device) && pack_read_uint(cursor, &mark->inode) &&
           pack_read_uint(cursor, &mark->offset) && mark->offset <= INT64_MAX && pack_read_uint(cursor, &mark->head_size) && mark->head_size <= FILEMARK_HEAD &&
           pack_read_uint(cursor, &mark->head) && pack_read_uint(cursor, &mark->before);
}
