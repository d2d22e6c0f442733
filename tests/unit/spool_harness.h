#ifndef TESTS_UNIT_SPOOL_HARNESS_H
#define TESTS_UNIT_SPOOL_HARNESS_H

/* What the tests of the durable log share: a directory of their own, a spool in it whose callbacks are counted, records whose content follows
 * from their number, and files to look at and to damage. Include after cmocka. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "net/spool_private.h"

#define MIB (1024u * 1024)

static char directory[64];
static loop_t *loop;
static spool_t *spool;
static spool_setup_t setup;
static err_t err;
static unsigned told_written, told_synced, told_room, told_trouble, told_works;
static uint64_t told_dropped;
static char trouble[1024], dropped_reason[256];
static bool (*until)(void);

static inline void check_until(void) {
    if (until && until())
        loop_stop(loop);
}

static inline void on_written(void *argument) {
    told_written++;
    check_until();
}

static inline void on_synced(void *argument) {
    told_synced++;
    check_until();
}

static inline void on_room(void *argument) {
    told_room++;
    check_until();
}

static inline void on_dropped(void *argument, uint64_t events, const char *reason) {
    told_dropped += events;
    snprintf(dropped_reason, sizeof dropped_reason, "%s", reason);
    check_until();
}

static inline void on_trouble(void *argument, const char *reason) {
    if (reason) {
        told_trouble++;
        snprintf(trouble, sizeof trouble, "%s", reason);
    } else
        told_works++;
    check_until();
}

/* Runs the loop until the condition holds, which is looked at after every callback. A test that waits in vain ends by the runner's limit. */
static inline void run_until(bool (*condition)(void)) {
    if (condition())
        return;
    until = condition;
    loop_run(loop);
    until = NULL;
}

/* One turn of the loop: deferred calls and what is at hand. */
static inline void turn_end(void *argument) {
    loop_stop(loop);
}
static inline void turn(void) {
    loop_timer(loop, 0, 0, turn_end, NULL);
    loop_run(loop);
}

static inline bool all_synced(void) {
    return spool_synced(spool) == spool_index(spool);
}
static inline bool has_room(void) {
    return spool_room(spool);
}

static inline int set_up(void **state) {
    strcpy(directory, "/tmp/test_spool.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    loop = loop_new();
    spool = NULL;
    told_written = told_synced = told_room = told_trouble = told_works = 0;
    told_dropped = 0;
    trouble[0] = dropped_reason[0] = 0;
    setup = (spool_setup_t){.loop = loop, .directory = directory, .name = "test", .sync = SPOOL_INTERVAL, .sync_interval = 1000000, .limit = 64 * MIB,
                            .written = on_written, .synced = on_synced, .room = on_room, .dropped = on_dropped, .trouble = on_trouble};
    setenv("STREAM_BOOT_ID", "boot-1", 1);
    return 0;
}

static inline int tear_down(void **state) {
    spool_close(spool);
    spool = NULL;
    loop_free(loop);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static inline void open_spool(void) {
    err.text[0] = 0;
    if (spool_open(&spool, &setup, &err) != 0)
        fail_msg("%s", err.text);
}

static inline void close_spool(void) {
    spool_close(spool);
    spool = NULL;
}

static inline void reopen(void) {
    close_spool();
    open_spool();
}

/* ---- records ---- */

/* A frame whose body of about `size` bytes and whose times tell which one it is. */
static inline frame_t *make_frame(uint64_t number, size_t size, unsigned events) {
    frame_builder_t builder = {0};
    for (unsigned i = 0; i < events; i++) {
        size_t text_size = size / events > 32 ? size / events - 32 : 0;
        char *text = mem_alloc(text_size + 1);
        for (size_t k = 0; k < text_size; k++)
            text[k] = (char) ('a' + (number * 7 + i + k) % 26);
        builder_begin(&builder);
        pack_map(&builder.body, 2);
        pack_text(&builder.body, "n");
        pack_uint(&builder.body, number);
        pack_text(&builder.body, "t");
        pack_string(&builder.body, text, text_size);
        builder_commit(&builder, (int64_t) number * 1000, 5);
        mem_free(text);
    }
    builder.data_time = true;
    frame_t *frame = builder_take(&builder, "stream.test");
    builder_fini(&builder);
    return frame;
}

static inline text_t note_of(uint64_t index) {
    static char text[64];
    snprintf(text, sizeof text, "note %llu", (unsigned long long) index);
    return text_of(text);
}

/* A group of one record. */
static inline uint64_t add(size_t size) {
    uint64_t number;
    frame_t *frame = make_frame(spool_number(spool) + 1, size, 1);
    spool_begin(spool);
    uint64_t index = spool_add(spool, note_of(spool_index(spool) + 1), frame, &number);
    spool_commit(spool);
    frame_unref(frame);
    return index;
}

static inline void add_many(unsigned count, size_t size) {
    for (unsigned i = 0; i < count; i++)
        add(size);
}

static inline void add_note(void) {
    uint64_t number;
    spool_begin(spool);
    spool_add(spool, note_of(spool_index(spool) + 1), NULL, &number);
    assert_int_equal(number, 0);
    spool_commit(spool);
}

static inline void expect_record(const spool_record_t *record) {
    text_t note = note_of(record->index);
    assert_int_equal(record->note.size, note.size);
    assert_memory_equal(record->note.data, note.data, note.size);
    if (!record->number) {
        assert_null(record->frame);
        return;
    }
    frame_t *frame = record->frame;
    assert_string_equal(frame->topic, "stream.test");
    assert_int_equal(frame->sequence, record->number);
    assert_true(frame->data_time);
    assert_string_equal(frame->origin, "");
    assert_int_equal(frame_verify(frame, &err), 0);
    frame_walk_t walk = {0};
    event_t event;
    value_t value;
    while (frame_next(frame, &walk, &event) == 1) {
        assert_int_equal(event.time, record->number * 1000);
        assert_true(pack_map_get(event.record, event.record_size, text_of("n"), &value));
    }
    assert_int_equal(walk.index, frame->events);
}

/* Reads all from `first` on: contiguous up to `last`. */
static inline void expect_records(uint64_t first, uint64_t last) {
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_seek_index(cursor, first);
    spool_record_t record;
    uint64_t expected = first;
    int more;
    while ((more = spool_next(cursor, &record, &err)) == 1) {
        assert_int_equal(record.index, expected++);
        expect_record(&record);
        frame_unref(record.frame);
    }
    if (more < 0)
        fail_msg("%s", err.text);
    assert_int_equal(expected, last + 1);
    spool_cursor_free(cursor);
}

/* ---- files ---- */

static inline char *path_of(const char *name) {
    static char path[4][128];
    static unsigned next;
    char *out = path[next++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", directory, name);
    return out;
}

static inline char *segment_path(uint64_t first) {
    char name[32];
    segment_name(name, first);
    return path_of(name);
}

static inline uint64_t file_size(const char *path) {
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return (uint64_t) status.st_size;
}

static inline bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

static inline void copy_directory(const char *from, const char *to) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s' && rm -f '%s/lock'", to, from, to, to);
    assert_int_equal(system(command), 0);
}

static inline void flip(const char *path, uint64_t at) {
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, (off_t) at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t) at), 1);
    close(fd);
}

/* The first indices of the segments that there are. */
static inline size_t segments(uint64_t **first) {
    ssize_t count = segments_list(first, directory, &err);
    assert_true(count >= 0);
    return (size_t) count;
}

static inline size_t segment_count(void) {
    uint64_t *first;
    size_t count = segments(&first);
    mem_free(first);
    return count;
}

#endif
