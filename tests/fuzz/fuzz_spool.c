/* A hostile segment: the bytes are put into a log's directory as its one segment or as the one before the last. The checksums that they should have are filled
 * in first (unless a byte says otherwise), so that what stands behind them is reached. The log is checked, printed, opened, read, written to, and
 * opened again. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "net/spool_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[64];
static loop_t *loop;

static void nothing(void *argument) {
}

static void remove_directory(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    if (system(command))
        abort();
}

static void write_file(const char *name, const void *bytes, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t) size)
        abort();
    close(fd);
}

static void begin(void) {
    if (!loop) {
        log_open("fuzz", NULL, LOG_ERROR);
        log_set_level(LOG_ERROR);
        strcpy(directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz_spool.XXXXXX" : "/tmp/fuzz_spool.XXXXXX");
        if (!mkdtemp(directory))
            abort();
        atexit(remove_directory);
        loop = loop_new();
        setenv("STREAM_BOOT_ID", "boot", 1);
    }
    static const char meta[] = "spool 1\nid 77\nname fuzz\norigin fuzz.77\nepoch 1\nboot boot\nsync none\n";
    write_file("meta", meta, sizeof meta - 1);
    static const char *const left[] = {"synced", "0000000000000001.seg", "0000000000000001.seg.damaged", "0000000000000009.seg", "0000000000000009.seg.damaged"};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", directory, left[i]);
        unlink(path);
    }
}

/* A head before the bytes, and right checksums wherever a record's size can be believed. */
static void make_segment(const uint8_t *data, size_t size, bool seal, uint64_t first) {
    segment_head_t head = {77, first, first, 0, "boot"};
    uint8_t *bytes = malloc(SEGMENT_HEAD + size);
    segment_put_head(bytes, &head);
    if (size)
        memcpy(bytes + SEGMENT_HEAD, data, size);
    uint64_t end = SEGMENT_HEAD + size;
    for (uint64_t at = SEGMENT_HEAD; seal && at + RECORD_HEAD <= end;) {
        record_head_t record;
        if (!record_get_head(&record, bytes + at, end - at))
            break;
        uint32_t crc = htole32(crc32c(record_seed(77, first), bytes + at + 4, record.size - 4));
        memcpy(bytes + at, &crc, sizeof crc);
        at += SPOOL_ALIGN(record.size);
    }
    char name[32];
    segment_name(name, first);
    write_file(name, bytes, SEGMENT_HEAD + size);
    free(bytes);
}

static uint64_t read_all(spool_t *spool) {
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    err_t err;
    uint64_t index = 0, count = 0;
    int more;
    while ((more = spool_next(cursor, &record, &err)) != 0) {
        if (more < 0)
            continue;
        ASSERT(record.index > index && record.index <= spool_index(spool));
        ASSERT(record.note.size <= SPOOL_NOTE_MAX);
        index = record.index;
        count++;
        if (record.frame)
            frame_verify(record.frame, &err);
        frame_unref(record.frame);
    }
    for (uint64_t number = 0; number < 4; number++) {
        spool_seek_number(cursor, number);
        if (spool_next(cursor, &record, &err) == 1) {
            ASSERT(record.number >= number);
            frame_unref(record.frame);
        }
    }
    spool_cursor_free(cursor);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    begin();
    bool earlier = data[0] & 1;
    make_segment(data + 1, size - 1, !(data[0] & 2), 1);
    if (earlier)
        make_segment(NULL, 0, false, 9);
    err_t err;
    static FILE *out;
    if (!out)
        out = fopen("/dev/null", "w");
    spool_check(directory, out, &err);
    spool_list(directory, out, &err);
    spool_print(directory, false, out, &err);
    spool_print(directory, true, out, &err);
    spool_t *spool;
    spool_setup_t setup = {.loop = loop, .directory = directory, .name = "fuzz", .sync = SPOOL_NONE, .limit = 1024 * 1024, .written = nothing};
    ASSERT(spool_open(&spool, &setup, &err) == 0);
    uint64_t before = read_all(spool), number, index = spool_index(spool);
    spool_begin(spool);
    ASSERT(spool_add(spool, text_of("note"), NULL, &number) == index + 1);
    spool_commit(spool);
    ASSERT(read_all(spool) == before + 1);
    spool_close(spool);
    ASSERT(spool_open(&spool, &setup, &err) == 0);
    ASSERT(spool_index(spool) == index + 1 && read_all(spool) == before + 1);
    spool_record_t record;
    ASSERT(spool_last(spool, &record, &err) == 1 && record.index == index + 1);
    spool_close(spool);
    return 0;
}
