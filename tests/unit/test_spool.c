/* The durable log: what is written is there after reopening, whole groups only, whatever the end of the file looks like; numbers and epochs; cursors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/wait.h>

#include "spool_harness.h"

static void is_empty_at_first(void **state) {
    open_spool();
    spool_record_t record;
    assert_int_equal(spool_index(spool), 0);
    assert_int_equal(spool_number(spool), 0);
    assert_int_equal(spool_written(spool), 0);
    assert_int_equal(spool_lowest(spool), 1);
    assert_int_equal(spool_last(spool, &record, &err), 0);
    assert_true(spool_room(spool));
    assert_int_equal(spool_identity(spool)->epoch, 1);
    assert_int_equal(strncmp(spool_identity(spool)->origin, "test.", 5), 0);
    char origin[FRAME_ORIGIN_MAX + 1];
    strcpy(origin, spool_identity(spool)->origin);
    reopen();
    assert_string_equal(spool_identity(spool)->origin, origin);
    assert_int_equal(spool_identity(spool)->epoch, 1);
    assert_int_equal(spool_index(spool), 0);
}

static void keeps_records_over_reopening(void **state) {
    open_spool();
    for (int i = 0; i < 20; i++) {
        add(i * 700);
        add_note();
    }
    assert_int_equal(spool_index(spool), 40);
    assert_int_equal(spool_number(spool), 20);
    assert_int_equal(spool_written(spool), 20);
    expect_records(1, 40);
    reopen();
    assert_int_equal(spool_index(spool), 40);
    assert_int_equal(spool_number(spool), 20);
    assert_int_equal(spool_written(spool), 20);
    assert_int_equal(spool_synced(spool), 40);
    expect_records(1, 40);
    add(100);
    spool_record_t record;
    assert_int_equal(spool_last(spool, &record, &err), 1);
    assert_int_equal(record.index, 41);
    assert_int_equal(record.number, 21);
    expect_record(&record);
    frame_unref(record.frame);
}

static void numbers_frames_of_a_group(void **state) {
    open_spool();
    frame_t *frame = make_frame(1, 50, 3), *end = frame_new_end("stream.test");
    uint64_t number;
    spool_begin(spool);
    assert_int_equal(spool_add(spool, text_of("a"), frame, &number), 1);
    assert_int_equal(number, 1);
    assert_int_equal(spool_add(spool, text_of("b"), NULL, &number), 2);
    assert_int_equal(number, 0);
    assert_int_equal(spool_add(spool, (text_t){0}, end, &number), 3);
    assert_int_equal(number, 2);
    assert_int_equal(spool_written(spool), 0);
    spool_commit(spool);
    assert_int_equal(spool_written(spool), 2);
    frame_unref(frame);
    frame_unref(end);
    spool_begin(spool);            /* nothing in it: nothing happens */
    spool_commit(spool);
    assert_int_equal(spool_index(spool), 3);
    spool_record_t record;
    assert_int_equal(spool_last(spool, &record, &err), 1);
    assert_true(record.frame->end);
    assert_int_equal(record.frame->events, 0);
    assert_int_equal(record.note.size, 0);
    frame_unref(record.frame);
}

static void refuses_a_second_process(void **state) {
    open_spool();
    spool_t *second;
    assert_int_equal(spool_open(&second, &setup, &err), -1);
    char pid[32];
    snprintf(pid, sizeof pid, "process %d", (int) getpid());
    assert_non_null(strstr(err.text, pid));
    assert_non_null(strstr(err.text, directory));
}

static void refuses_what_is_not_its_own(void **state) {
    open_spool();
    add(10);
    close_spool();
    unlink(path_of("meta"));
    assert_int_equal(spool_open(&spool, &setup, &err), -1);
    assert_non_null(strstr(err.text, "--reset"));
    FILE *file = fopen(path_of("meta"), "w");
    fputs("spool 1\nid 5\nrubbish", file);
    fclose(file);
    assert_int_equal(spool_open(&spool, &setup, &err), -1);
    assert_non_null(strstr(err.text, "meta"));
    spool = NULL;
}

/* The last record may be cut anywhere: those before it are there, and it goes on. */
static void cuts_a_torn_tail_at_every_byte(void **state) {
    open_spool();
    add(300);
    add(3000);
    uint64_t before = spool_current(spool)->size;
    add(2500);
    uint64_t whole = spool_current(spool)->size, record = before + SPOOL_ALIGN(RECORD_HEAD);
    assert_true(record < whole);
    close_spool();
    char copy[96], original[64];
    snprintf(copy, sizeof copy, "%s.copy", directory);
    strcpy(original, directory);
    copy_directory(original, copy);
    setup.directory = copy;
    setup.sync = SPOOL_NONE;       /* no waiting for the disk */
    char path[160], from[160];
    snprintf(path, sizeof path, "%s/0000000000000001.seg", copy);
    snprintf(from, sizeof from, "%s/0000000000000001.seg", original);
    buf_t content = {0};
    assert_int_equal(file_read(from, 100000, &content, NULL), 0);
    unsigned kept = 0;
    char mark[160];
    snprintf(mark, sizeof mark, "%s/synced", copy);
    for (uint64_t size = whole; size-- > before;) {
        unlink(mark);
        int fd = open(path, O_WRONLY | O_TRUNC);
        assert_int_equal(write(fd, content.data, size), (ssize_t) size);
        close(fd);
        open_spool();
        kept += spool_index(spool) == 3;           /* only its padding was cut */
        uint64_t last = spool_index(spool);
        assert_true(last == 2 || (last == 3 && whole - size < 8));
        assert_int_equal(spool_number(spool), last);
        assert_int_equal(spool_identity(spool)->epoch, 1);
        if (size % 64 == 0 || size - before < 64) {
            expect_records(1, last);
            add(40);
            expect_records(1, last + 1);
            reopen();
            expect_records(1, last + 1);
        }
        close_spool();
    }
    assert_true(kept < 8);
    buf_fini(&content);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", copy);
    assert_int_equal(system(command), 0);
}

static void cuts_off_unfinished_groups(void **state) {
    open_spool();
    add(100);
    uint64_t ends[4];
    frame_t *frame = make_frame(2, 200, 1);
    ends[0] = spool_current(spool)->size;
    uint64_t number;
    spool_begin(spool);
    for (int i = 0; i < 3; i++)
        spool_add(spool, note_of(spool_index(spool) + 1), frame, &number);
    spool_commit(spool);
    frame_unref(frame);
    uint64_t each = (spool_current(spool)->size - ends[0]) / 3;
    close_spool();
    unlink(path_of("synced"));
    assert_int_equal(truncate(segment_path(1), (off_t) (ends[0] + 2 * each)), 0);      /* two of three are whole */
    open_spool();
    assert_int_equal(spool_index(spool), 1);
    assert_int_equal(spool_number(spool), 1);
    assert_int_equal(file_size(segment_path(1)), ends[0]);
    add(100);
    reopen();
    expect_records(1, 2);
}

/* A record that is overwritten by one of the same size must not bring those behind it back. */
static void nothing_cut_off_comes_back(void **state) {
    open_spool();
    add_many(2, 100);
    uint64_t end = spool_current(spool)->size;
    add_many(3, 100);
    uint64_t each = (spool_current(spool)->size - end) / 3;
    close_spool();
    flip(segment_path(1), end + RECORD_HEAD + 3);
    open_spool();
    assert_int_equal(spool_index(spool), 2);
    assert_true(exists(strcat(segment_path(1), ".damaged")));
    assert_int_equal(spool_identity(spool)->epoch, 2);     /* 3 to 5 had been sent */
    assert_int_equal(spool_identity(spool)->past_count, 1);
    assert_int_equal(spool_identity(spool)->past[0].epoch, 1);
    assert_int_equal(spool_identity(spool)->past[0].number, 2);
    add(100);
    assert_int_equal(spool_current(spool)->size, end + each);
    reopen();
    assert_int_equal(spool_index(spool), 3);
    assert_int_equal(spool_identity(spool)->epoch, 2);
    expect_records(1, 3);
}

static void every_flipped_byte_is_noticed(void **state) {
    open_spool();
    add(60);
    uint64_t start = spool_current(spool)->size;
    add(60);
    uint64_t end = start + RECORD_HEAD;
    spool_record_t record;
    assert_int_equal(spool_last(spool, &record, &err), 1);
    frame_unref(record.frame);
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_seek_index(cursor, 2);
    assert_int_equal(spool_next(cursor, &record, &err), 1);
    const uint8_t *bytes = (const uint8_t *) record.note.data - RECORD_HEAD;
    record_head_t head;
    assert_true(record_get_head(&head, bytes, 10000));
    end = start + head.size;
    frame_unref(record.frame);
    uint64_t damages = 0;
    for (uint64_t at = start; at < end; at++) {
        flip(segment_path(1), at);
        spool_seek_index(cursor, 1);
        assert_int_equal(spool_next(cursor, &record, &err), 1);
        frame_unref(record.frame);
        assert_int_equal(spool_next(cursor, &record, &err), -1);
        assert_non_null(strstr(err.text, "0000000000000001.seg"));
        assert_int_equal(spool_damages(spool), ++damages);
        assert_int_equal(spool_next(cursor, &record, &err), 0);
        flip(segment_path(1), at);
    }
    spool_seek_index(cursor, 2);
    assert_int_equal(spool_next(cursor, &record, &err), 1);
    expect_record(&record);
    frame_unref(record.frame);
    spool_cursor_free(cursor);
}

/* ---- epochs ---- */

static void another_boot_begins_an_epoch(void **state) {
    open_spool();
    add_many(3, 10);
    close_spool();
    for (int boot = 2; boot <= FRAME_PAST_MAX + 4; boot++) {
        char name[16];
        snprintf(name, sizeof name, "boot-%d", boot);
        setenv("STREAM_BOOT_ID", name, 1);
        open_spool();
        const spool_identity_t *identity = spool_identity(spool);
        assert_int_equal(identity->epoch, boot);
        assert_int_equal(identity->past_count, boot - 1 < FRAME_PAST_MAX ? boot - 1 : FRAME_PAST_MAX);
        for (unsigned i = 0; i < identity->past_count; i++) {
            assert_int_equal(identity->past[i].epoch, boot - 1 - i);
            assert_int_equal(identity->past[i].number, 3 + boot - 2 - i);
        }
        assert_int_equal(spool_common(spool, boot), 3 + boot - 2);
        assert_int_equal(spool_common(spool, 1), boot - 1 <= FRAME_PAST_MAX ? 3 : identity->past[FRAME_PAST_MAX - 1].number);
        assert_int_equal(spool_common(spool, boot + 1), 0);
        add(10);
        reopen();
        assert_int_equal(spool_identity(spool)->epoch, boot);      /* the same boot */
        assert_int_equal(spool_identity(spool)->past_count, boot - 1 < FRAME_PAST_MAX ? boot - 1 : FRAME_PAST_MAX);
        close_spool();
    }
}

static void synced_always_needs_no_epoch(void **state) {
    setup.sync = SPOOL_ALWAYS;
    open_spool();
    add(10);
    close_spool();
    setenv("STREAM_BOOT_ID", "boot-2", 1);
    open_spool();
    assert_int_equal(spool_identity(spool)->epoch, 1);
    setup.sync = SPOOL_NONE;
    reopen();
    close_spool();
    setenv("STREAM_BOOT_ID", "boot-3", 1);
    setup.sync = SPOOL_ALWAYS;     /* what counts is how the last run did it */
    open_spool();
    assert_int_equal(spool_identity(spool)->epoch, 2);
}

/* As a power cut: only what was synced is left, of all segments. */
static void goes_on_from_what_was_synced_after_a_power_cut(void **state) {
    setup.limit = 2 * MIB;
    setup.sync_interval = INT64_C(3600) * 1000000000;
    open_spool();
    add_many(10, 20000);
    spool_sync(spool);
    spool_mark_t mark;
    assert_true(mark_read(&mark, directory));
    assert_int_equal(mark.index, 10);
    assert_int_equal(mark.length, file_size(segment_path(mark.segment)));
    add_many(60, 20000);                           /* several segments further */
    assert_true(segment_count() > 2);
    char copy[96];
    snprintf(copy, sizeof copy, "%s.copy", directory);
    copy_directory(directory, copy);
    close_spool();
    char path[160];
    snprintf(path, sizeof path, "%s/%016llx.seg", copy, (unsigned long long) mark.segment);
    assert_int_equal(truncate(path, (off_t) mark.length + 70), 0);         /* and something of the next record; later segments are whole */
    setup.directory = copy;
    setenv("STREAM_BOOT_ID", "boot-2", 1);
    open_spool();
    assert_int_equal(spool_index(spool), 10);
    assert_int_equal(spool_number(spool), 10);
    assert_int_equal(spool_identity(spool)->epoch, 2);
    assert_int_equal(spool_identity(spool)->past[0].number, 10);
    expect_records(1, 10);
    add(100);
    reopen();
    expect_records(1, 11);
    close_spool();
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", copy);
    assert_int_equal(system(command), 0);
}

/* ---- truncate ---- */

static void goes_back_to_a_record(void **state) {
    setup.limit = 2 * MIB;
    open_spool();
    add_many(70, 20000);
    assert_true(segment_count() > 2);
    close_spool();
    open_spool();
    assert_int_equal(spool_truncate(spool, 100, &err), 0);
    assert_int_equal(spool_index(spool), 70);
    assert_int_equal(spool_identity(spool)->epoch, 1);
    assert_int_equal(spool_truncate(spool, 5, &err), 0);
    assert_int_equal(spool_index(spool), 5);
    assert_int_equal(spool_number(spool), 5);
    assert_int_equal(spool_synced(spool), 5);
    assert_int_equal(spool_identity(spool)->epoch, 2);
    assert_int_equal(spool_identity(spool)->past[0].number, 5);
    assert_int_equal(segment_count(), 1);
    add_many(2, 30);
    expect_records(1, 7);
    add_note();
    reopen();
    assert_int_equal(spool_truncate(spool, 7, &err), 0);
    assert_int_equal(spool_identity(spool)->epoch, 2);     /* only a note was forgotten */
    assert_int_equal(spool_index(spool), 7);
    assert_int_equal(spool_truncate(spool, 0, &err), 0);
    assert_int_equal(spool_index(spool), 0);
    assert_int_equal(spool_number(spool), 0);
    assert_int_equal(spool_identity(spool)->epoch, 3);
    assert_int_equal(spool_identity(spool)->past[0].number, 0);
    assert_int_equal(spool_identity(spool)->past[1].number, 0);    /* the frames of epoch 1 are gone too */
    add(10);
    reopen();
    expect_records(1, 1);
    assert_int_equal(spool_identity(spool)->epoch, 3);
}

/* ---- cursors ---- */

static void cursors_follow_the_writer(void **state) {
    setup.limit = 4 * MIB;
    open_spool();
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    uint64_t expected = 1;
    for (int round = 0; round < 300; round++) {
        assert_int_equal(spool_next(cursor, &record, &err), 0);
        add(round * 150);
        if (round % 3 == 0)
            add_note();
        while (expected <= spool_index(spool)) {
            assert_int_equal(spool_next(cursor, &record, &err), 1);
            assert_int_equal(record.index, expected++);
            expect_record(&record);
            frame_unref(record.frame);
        }
    }
    assert_true(segment_count() > 2);
    spool_cursor_free(cursor);
}

static void cursors_seek_by_number_and_index(void **state) {
    setup.limit = 2 * MIB;
    open_spool();
    for (int i = 0; i < 100; i++) {
        add(15000);
        add_note();
    }
    assert_true(segment_count() > 2);
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    for (uint64_t number = 1; number < 100; number += number % 2 ? 40 : 1)
        for (uint64_t to = 1; to <= 100; to += 13) {
            spool_seek_number(cursor, number);
            assert_int_equal(spool_next(cursor, &record, &err), 1);
            assert_int_equal(record.number, number);
            frame_unref(record.frame);
            assert_int_equal(spool_next(cursor, &record, &err), 1);        /* notes are passed over */
            assert_int_equal(record.number, number + 1);
            frame_unref(record.frame);
            spool_seek_index(cursor, to);
            assert_int_equal(spool_next(cursor, &record, &err), 1);
            assert_int_equal(record.index, to);
            frame_unref(record.frame);
        }
    spool_seek_number(cursor, 101);
    assert_int_equal(spool_next(cursor, &record, &err), 0);
    add_note();
    assert_int_equal(spool_next(cursor, &record, &err), 0);
    add(10);
    assert_int_equal(spool_next(cursor, &record, &err), 1);
    assert_int_equal(record.number, 101);
    frame_unref(record.frame);
    spool_cursor_free(cursor);
}

/* Frames outlive their cursor, their segment's file and the spool. */
static void frames_outlive_everything(void **state) {
    setup.limit = 1 * MIB;
    open_spool();
    add_many(6, 100000);
    spool_record_t records[6];
    spool_cursor_t *cursor = spool_cursor_new(spool);
    for (int i = 0; i < 6; i++)
        assert_int_equal(spool_next(cursor, &records[i], &err), 1);
    spool_sync(spool);
    spool_release(spool, 6, 6);
    add_many(6, 100000);
    spool_sync(spool);
    spool_release(spool, 12, 12);
    assert_false(exists(segment_path(1)));
    spool_cursor_free(cursor);
    close_spool();
    for (int i = 0; i < 6; i++) {
        assert_int_equal(frame_verify(records[i].frame, &err), 0);
        assert_int_equal(records[i].frame->sequence, i + 1);
        frame_unref(records[i].frame);
    }
}

static void cursors_go_on_with_the_oldest(void **state) {
    setup.limit = 1 * MIB;
    open_spool();
    add_many(4, 100000);
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    assert_int_equal(spool_next(cursor, &record, &err), 1);
    frame_unref(record.frame);
    add_many(4, 100000);
    spool_sync(spool);
    spool_release(spool, 7, 7);
    uint64_t *first;
    assert_true(segments(&first) >= 1);
    assert_true(first[0] > 2);
    assert_int_equal(spool_next(cursor, &record, &err), 1);
    assert_int_equal(record.index, first[0]);
    frame_unref(record.frame);
    mem_free(first);
    spool_cursor_free(cursor);
}

/* A damage in the middle costs what it hit. */
static void a_damage_in_an_earlier_segment_is_reported(void **state) {
    setup.limit = 2 * MIB;
    open_spool();
    add_many(70, 20000);
    uint64_t *first;
    size_t count = segments(&first);
    assert_true(count > 2);
    close_spool();
    flip(segment_path(first[0]), 50000);           /* inside a body: the next record is found */
    flip(segment_path(first[1]), SEGMENT_HEAD + 5);        /* a record's size: the rest of the segment is lost */
    open_spool();
    assert_int_equal(spool_index(spool), 70);
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    uint64_t got = 0;
    int more, damages = 0;
    while ((more = spool_next(cursor, &record, &err)) != 0)
        if (more == 1) {
            expect_record(&record);
            frame_unref(record.frame);
            got++;
        } else
            damages++;
    assert_int_equal(damages, 2);
    assert_int_equal(spool_damages(spool), 2);
    assert_int_equal(got, 70 - 1 - (first[2] - first[1]));
    spool_cursor_free(cursor);
    mem_free(first);
}

static void a_missing_segment_is_reported(void **state) {
    setup.limit = 2 * MIB;
    open_spool();
    add_many(70, 20000);
    uint64_t *first;
    size_t count = segments(&first);
    assert_true(count > 2);
    close_spool();
    unlink(segment_path(first[1]));
    open_spool();
    assert_int_equal(spool_index(spool), 70);
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    int more, damages = 0;
    uint64_t got = 0;
    while ((more = spool_next(cursor, &record, &err)) != 0) {
        damages += more < 0;
        got += more > 0;
        if (more > 0)
            frame_unref(record.frame);
    }
    assert_int_equal(damages, 1);
    assert_int_equal(got, 70 - (first[2] - first[1]));
    spool_cursor_free(cursor);
    mem_free(first);
}

/* Its file was to be used again when the power went: the new name never got to the disk. */
static void a_leftover_under_an_old_name_is_no_damage(void **state) {
    open_spool();
    add_many(5, 100);
    spool_sync(spool);
    char command[300];
    close_spool();
    char *older = segment_path(1), *newer = segment_path(6);
    snprintf(command, sizeof command, "cp '%s' '%s'", older, newer);
    assert_int_equal(system(command), 0);
    open_spool();
    assert_int_equal(spool_index(spool), 5);
    assert_false(exists(newer));
    add(100);
    spool_sync(spool);
    close_spool();
    segment_head_t head;
    uint8_t bytes[SEGMENT_HEAD];
    int fd = open(older, O_RDWR);
    assert_int_equal(pread(fd, bytes, sizeof bytes, 0), SEGMENT_HEAD);
    assert_int_equal(segment_get_head(&head, bytes, &err), 0);
    head.first_index = head.first_number = 7;      /* overwritten, while the next one stands where it should */
    segment_put_head(bytes, &head);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), SEGMENT_HEAD);
    close(fd);
    fd = open(newer, O_WRONLY | O_CREAT, 0644);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), SEGMENT_HEAD);
    close(fd);
    assert_int_equal(rename(newer, segment_path(7)), 0);
    open_spool();
    assert_int_equal(spool_index(spool), 6);
    assert_int_equal(spool_identity(spool)->epoch, 1);
    assert_int_equal(segment_count(), 1);
    expect_records(7, 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    log_open("test", NULL, LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(is_empty_at_first),
        TEST(keeps_records_over_reopening),
        TEST(numbers_frames_of_a_group),
        TEST(refuses_a_second_process),
        TEST(refuses_what_is_not_its_own),
        TEST(cuts_a_torn_tail_at_every_byte),
        TEST(cuts_off_unfinished_groups),
        TEST(nothing_cut_off_comes_back),
        TEST(every_flipped_byte_is_noticed),
        TEST(another_boot_begins_an_epoch),
        TEST(synced_always_needs_no_epoch),
        TEST(goes_on_from_what_was_synced_after_a_power_cut),
        TEST(goes_back_to_a_record),
        TEST(cursors_follow_the_writer),
        TEST(cursors_seek_by_number_and_index),
        TEST(frames_outlive_everything),
        TEST(cursors_go_on_with_the_oldest),
        TEST(a_damage_in_an_earlier_segment_is_reported),
        TEST(a_missing_segment_is_reported),
        TEST(a_leftover_under_an_old_name_is_no_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
