/* A file sink's memory of its files: after a crash they are found again by inode, for rotation may have renamed them since, and cut
 * back to the length that goes with the progress. */
#include "record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"

static record_t *find(const records_t *records, const char *path) {
    for (size_t i = 0; i < records->count; i++)
        if (strcmp(records->items[i].path, path) == 0)
            return &records->items[i];
    return NULL;
}

static void drop(records_t *records, size_t index) {
    mem_free(records->items[index].path);
    records->items[index] = records->items[--records->count];
}

static record_t *add(records_t *records, const char *path) {
    if (records->count >= RECORDS_MAX) {
        size_t oldest = records->count;
        for (size_t i = 0; i < records->count; i++)
            if (!records->items[i].output && (oldest == records->count || records->items[i].used < records->items[oldest].used))
                oldest = i;
        if (oldest < records->count)
            drop(records, oldest);
    }
    records->items = mem_resize(records->items, (records->count + 1) * sizeof *records->items);
    record_t *record = &records->items[records->count++];
    *record = (record_t){.path = mem_text(path)};
    return record;
}

record_t *record_open(records_t *records, output_t *output) {
    record_t *record = find(records, output->path);
    if (!record)
        record = add(records, output->path);
    if (record->inode != output->inode || record->born != output->identity || record->length != output->size)
        record->stored = false;
    record->inode = output->inode;
    record->born = output->identity;
    record->length = output->size;
    record->output = output;
    return record;
}

void record_closed(records_t *records, const output_t *output) {
    for (size_t i = 0; i < records->count; i++) {
        record_t *record = &records->items[i];
        if (record->output == output) {
            record->length = output->kept;
            record->used = output->used;
            record->output = NULL;
        }
    }
}

void record_drop(records_t *records, const output_t *output) {
    for (size_t i = 0; i < records->count; i++)
        if (records->items[i].output == output) {
            drop(records, i);
            return;
        }
}

void records_all_stored(records_t *records) {
    for (size_t i = 0; i < records->count; i++)
        records->items[i].stored = true;
}

void records_put(const records_t *records, buf_t *out) {
    pack_array(out, (uint32_t) records->count);
    for (size_t i = 0; i < records->count; i++) {
        const record_t *record = &records->items[i];
        pack_array(out, 4);
        pack_text(out, record->path);
        pack_uint(out, record->inode);
        pack_int(out, record->born);
        pack_uint(out, record->output ? record->output->kept : record->length);
    }
}

/* Opens it when it is the file of the record. */
static int open_same(int directory, const char *name, const record_t *record) {
    struct stat status;
    int fd = openat(directory, name, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
    if (fd < 0 && errno == ELOOP)
        fd = openat(directory, name, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_ino == record->inode && output_birth(fd, 0) == record->born)
        return fd;
    close(fd);
    return -1;
}

/* Under its name, or under another one in the same directory. *moved: the latter. */
static int find_file(const record_t *record, bool *moved) {
    *moved = false;
    int fd = open_same(AT_FDCWD, record->path, record);
    if (fd >= 0)
        return fd;
    *moved = true;
    const char *slash = strrchr(record->path, '/');
    char *path = slash ? mem_text_n(record->path, (size_t) (slash - record->path) + 1) : mem_text(".");
    DIR *directory = opendir(path);
    mem_free(path);
    if (!directory)
        return -1;
    for (struct dirent *entry; fd < 0 && (entry = readdir(directory));)
        if (entry->d_ino == record->inode)
            fd = open_same(dirfd(directory), entry->d_name, record);
    closedir(directory);
    return fd;
}

/* 1: it goes on there; 0: not; -1: failed. */
static int restore(const record_t *record, err_t *err) {
    struct stat status;
    bool moved;
    int fd = find_file(record, &moved);
    if (fd < 0) {
        if (record->length)
            log_warning("%s: the file that was written before is not there any more", record->path);
        return 0;
    }
    int result = moved ? 0 : 1;
    if (fstat(fd, &status)) {
        result = err_errno(err, "look at %s", record->path);
    } else if ((uint64_t) status.st_size > record->length) {
        log_info("%s: cut back from %llu to %llu bytes: what follows comes again", record->path, (unsigned long long) status.st_size,
                 (unsigned long long) record->length);
        if (ftruncate(fd, (off_t) record->length))
            result = err_errno(err, "truncate %s", record->path);
    } else if ((uint64_t) status.st_size < record->length) {
        log_error("%s: it has %llu bytes, and had %llu: something else has cut it, or the disk has lost them", record->path,
                  (unsigned long long) status.st_size, (unsigned long long) record->length);
    }
    close(fd);
    return result;
}

int records_restore(records_t *records, text_t packed, err_t *err) {
    pack_cursor_t cursor = pack_cursor(packed.data, packed.size);
    uint32_t count, four;
    if (!packed.size)
        return 0;
    if (!pack_read_array(&cursor, &count))
        return err_set(err, "its stored position is not one of files; --reset begins anew");
    while (count--) {
        text_t path;
        record_t found = {0};
        if (!pack_read_array(&cursor, &four) || four != 4 || !pack_read_string(&cursor, &path) || !pack_read_uint(&cursor, &found.inode) ||
            !pack_read_int(&cursor, &found.born) || !pack_read_uint(&cursor, &found.length))
            return err_set(err, "its stored position is not one of files; --reset begins anew");
        found.path = mem_text_n(path.data, path.size);
        int result = restore(&found, err);
        if (result == 1) {
            record_t *record = add(records, found.path);
            record->inode = found.inode;
            record->born = found.born;
            record->length = found.length;
            record->stored = true;
        }
        mem_free(found.path);
        if (result < 0)
            return -1;
    }
    return 0;
}

void records_fini(records_t *records) {
    while (records->count)
        drop(records, 0);
    mem_free(records->items);
    *records = (records_t){0};
}
