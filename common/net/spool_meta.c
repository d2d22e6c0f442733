/* The small files of a spool's directory: `meta`, who the spool is (replaced as a whole and synced, for it must never be wrong), and `synced`,
 * how far the disk is known to have it (written in place and never synced: a hint). Both are lines of text, "NAME VALUE". */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "net/spool_private.h"

const char *const spool_sync_names[3] = {"always", "interval", "none"};

#define FIRST_LINE "spool 1"

typedef unsigned long long ull_t;

/* The environment's STREAM_BOOT_ID is for tests of power cuts: another value looks like another boot of the machine. */
void meta_boot(char out[BOOT_MAX]) {
    buf_t text = {0};
    const char *given = getenv("STREAM_BOOT_ID");
    memset(out, 0, BOOT_MAX);
    if (given)
        buf_put_text(&text, given);
    else if (file_read("/proc/sys/kernel/random/boot_id", 1024, &text, NULL) != 0)
        buf_put_text(&text, "unknown");
    size_t size = strcspn(buf_text(&text), " \n");
    memcpy(out, text.data, size < BOOT_MAX - 1 ? size : BOOT_MAX - 1);
    buf_fini(&text);
}

void meta_continue(spool_meta_t *meta, uint64_t number) {
    spool_identity_t *identity = &meta->identity;
    if (identity->past_count == FRAME_PAST_MAX)
        identity->past_count--;
    memmove(identity->past + 1, identity->past, identity->past_count * sizeof *identity->past);
    identity->past[0] = (frame_past_t){identity->epoch, number};
    identity->past_count++;
    for (unsigned i = 1; i < identity->past_count; i++)    /* what was cut off by now is not continued either */
        if (identity->past[i].number > number)
            identity->past[i].number = number;
    identity->epoch++;
}

static bool read_number(text_t *rest, uint64_t *number) {
    text_t word;
    return text_split(rest, ' ', &word) && text_to_uint(word, number, NULL) == 0;
}

static bool copy_text(char *out, size_t size, text_t text) {
    if (text.size >= size)
        return false;
    memcpy(out, text.data, text.size);
    out[text.size] = 0;
    return true;
}

static bool read_sync(text_t value, spool_sync_t *sync) {
    for (int i = 0; i < 3; i++)
        if (text_is(value, spool_sync_names[i])) {
            *sync = (spool_sync_t) i;
            return true;
        }
    return false;
}

static bool read_line(spool_meta_t *meta, text_t line) {
    text_t name;
    if (!text_split(&line, ' ', &name))
        return false;
    spool_identity_t *identity = &meta->identity;
    if (text_is(name, "id"))
        return read_number(&line, &meta->id);
    if (text_is(name, "name"))
        return copy_text(meta->name, sizeof meta->name, line);
    if (text_is(name, "origin"))
        return copy_text(identity->origin, sizeof identity->origin, line);
    if (text_is(name, "epoch"))
        return read_number(&line, &identity->epoch);
    if (text_is(name, "boot"))
        return copy_text(meta->boot, sizeof meta->boot, line);
    if (text_is(name, "sync"))
        return read_sync(line, &meta->sync);
    if (text_is(name, "past")) {
        if (identity->past_count == FRAME_PAST_MAX)
            return false;
        frame_past_t *past = &identity->past[identity->past_count++];
        return read_number(&line, &past->epoch) && read_number(&line, &past->number);
    }
    return true;                       /* of a later version */
}

int meta_read(spool_meta_t *meta, const char *directory, err_t *err) {
    char *path = mem_format("%s/meta", directory);
    buf_t bytes = {0};
    int result = 1;
    spool_meta_t read = {0};
    errno = 0;
    if (file_read(path, 64 * 1024, &bytes, err) != 0)
        result = errno == ENOENT ? 0 : -1;
    else {
        text_t rest = text_make((const char *) bytes.data, bytes.size), line;
        unsigned number = 0;
        bool sound = bytes.size && bytes.data[bytes.size - 1] == '\n';
        while (sound && rest.size && text_split(&rest, '\n', &line))
            sound = number++ ? read_line(&read, line) : text_is(line, FIRST_LINE);
        if (!sound || !read.id || !read.identity.epoch || !read.identity.origin[0])
            result = err_set(err, "%s, line %u: damaged; what the log holds cannot be told from foreign data without it: start with --reset", path,
                             number ? number : 1);
        else
            *meta = read;
    }
    buf_fini(&bytes);
    mem_free(path);
    return result;
}

bool spool_origin(const char *directory, char origin[FRAME_ORIGIN_MAX + 1]) {
    spool_meta_t meta;
    if (meta_read(&meta, directory, NULL) != 1)
        return false;
    memcpy(origin, meta.identity.origin, sizeof meta.identity.origin);
    return true;
}

int meta_write(const spool_meta_t *meta, const char *directory, err_t *err) {
    const spool_identity_t *identity = &meta->identity;
    buf_t out = {0};
    buf_format(&out, FIRST_LINE "\nid %llu\nname %s\norigin %s\nepoch %llu\n", (ull_t) meta->id, meta->name, identity->origin, (ull_t) identity->epoch);
    for (unsigned i = 0; i < identity->past_count; i++)
        buf_format(&out, "past %llu %llu\n", (ull_t) identity->past[i].epoch, (ull_t) identity->past[i].number);
    buf_format(&out, "boot %s\nsync %s\n", meta->boot, spool_sync_names[meta->sync]);
    char *path = mem_format("%s/meta", directory);
    int result = file_write_twin(path, out.data, out.size, 0644, err);
    mem_free(path);
    buf_fini(&out);
    return result;
}

/* ---- synced ---- */

/* Of one size, so that writing over it is never seen half done by a reader of the page cache. */
void mark_put(char out[256], const spool_mark_t *mark) {
    char name[32] = "-";
    if (mark->segment)
        segment_name(name, mark->segment);
    int n = snprintf(out, 256, "segment %s\nlength %llu\nindex %llu\nnumber %llu\nreleased %llu %llu\n", name, (ull_t) mark->length,
                     (ull_t) mark->index, (ull_t) mark->number, (ull_t) mark->released_index, (ull_t) mark->released_number);
    memset(out + n, '\n', MARK_SIZE - (size_t) n);
}

bool mark_read(spool_mark_t *mark, const char *directory) {
    char *path = mem_format("%s/synced", directory);
    buf_t bytes = {0};
    spool_mark_t read = {0};
    bool sound = file_read(path, 4096, &bytes, NULL) == 0 && bytes.size == MARK_SIZE;
    text_t rest = text_make((const char *) bytes.data, bytes.size), line, name;
    unsigned fields = 0;
    while (sound && rest.size && text_split(&rest, '\n', &line) && line.size) {
        text_split(&line, ' ', &name);
        char segment[32];
        if (text_is(name, "segment"))
            sound = text_is(line, "-") || (copy_text(segment, sizeof segment, line) && segment_name_read(segment, &read.segment));
        else if (text_is(name, "length"))
            sound = read_number(&line, &read.length);
        else if (text_is(name, "index"))
            sound = read_number(&line, &read.index);
        else if (text_is(name, "number"))
            sound = read_number(&line, &read.number);
        else if (text_is(name, "released"))
            sound = read_number(&line, &read.released_index) && read_number(&line, &read.released_number);
        fields += sound;
    }
    sound = sound && fields >= 5;
    if (sound)
        *mark = read;
    buf_fini(&bytes);
    mem_free(path);
    return sound;
}

/* ---- segments ---- */

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return (x > y) - (x < y);
}

ssize_t segments_list(uint64_t **first, const char *directory, err_t *err) {
    DIR *list = opendir(directory);
    if (!list)
        return err_errno(err, "%s", directory);
    uint64_t *found = NULL, index;
    size_t count = 0, capacity = 0;
    for (struct dirent *entry; (entry = readdir(list));) {
        if (!segment_name_read(entry->d_name, &index))
            continue;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            found = mem_resize(found, capacity * sizeof *found);
        }
        found[count++] = index;
    }
    closedir(list);
    if (count)
        qsort(found, count, sizeof *found, compare);
    *first = found;
    return (ssize_t) count;
}
