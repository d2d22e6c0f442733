/* The durable log's room: what is released goes, what is over the limit waits or is dropped by the policy, and files are used again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spool_harness.h"

static void released_segments_go(void **state) {
    setup.limit = 4 * MIB;
    open_spool();
    add_many(100, 20000);
    size_t before = segment_count();
    assert_true(before >= 2);
    run_until(all_synced);
    uint64_t bytes = spool_bytes(spool);
    assert_true(bytes >= 100 * 20000);
    spool_release(spool, 100, 60);     /* both must be of no more use */
    uint64_t *first;
    size_t count = segments(&first);
    assert_true(count < before || first[0] == 1);
    assert_true(first[0] <= 61);
    mem_free(first);
    assert_int_equal(spool_lowest(spool), 61);
    expect_records(61, 100);
    spool_release(spool, 100, 100);
    assert_int_equal(segment_count(), 1);
    assert_true(spool_bytes(spool) < bytes);
    assert_int_equal(spool_lowest(spool), 101);
    spool_record_t record;
    assert_int_equal(spool_last(spool, &record, &err), 1);         /* the last one always stays */
    assert_int_equal(record.index, 100);
    frame_unref(record.frame);
    reopen();
    assert_int_equal(spool_index(spool), 100);
    assert_int_equal(spool_lowest(spool), 101);                    /* remembered */
    spool_release(spool, 5, 5);                                    /* going back changes nothing */
    assert_int_equal(spool_lowest(spool), 101);
}

/* What is not synced may not be all there is: a power cut would take it and the number with it. */
static void nothing_goes_before_what_follows_is_synced(void **state) {
    setup.limit = 1 * MIB;
    setup.sync_interval = INT64_C(3600) * 1000000000;
    open_spool();
    while (segment_count() < 2)
        add(40000);
    spool_release(spool, spool_index(spool), spool_number(spool));
    assert_int_equal(segment_count(), 2);
    spool_sync(spool);
    turn();
    assert_int_equal(segment_count(), 1);
}

static void files_are_used_again(void **state) {
    setup.limit = 4 * MIB;
    open_spool();
    for (int i = 0; i < 400; i++) {
        add(20000);
        if (i % 8 == 0)
            run_until(all_synced);
        spool_release(spool, spool_index(spool), spool_number(spool));
    }
    run_until(all_synced);
    assert_int_equal(spool_index(spool), 400);
    assert_true(exists(path_of("spare0")) || segment_count() <= 2);
    uint64_t *first;
    size_t count = segments(&first);
    uint64_t lowest = first[0];
    assert_true(count <= 2);
    /* What the file held before is behind what it holds now, and is nobody's. */
    assert_true(lowest > 50);
    mem_free(first);
    assert_true(spool_current(spool)->allocated > spool_current(spool)->size);
    char copy[96];
    snprintf(copy, sizeof copy, "%s.copy", directory);
    copy_directory(directory, copy);               /* as a kill would leave it */
    close_spool();
    setup.directory = copy;
    open_spool();
    assert_int_equal(spool_index(spool), 400);
    assert_int_equal(spool_identity(spool)->epoch, 1);
    expect_records(lowest, 400);
    assert_false(exists(strcat(strcpy((char[160]){0}, copy), "/spare0")));
    close_spool();
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", copy);
    assert_int_equal(system(command), 0);
}

static unsigned spares(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < SPARES_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "spare%u", i);
        count += exists(path_of(name));
    }
    return count;
}

/* Much that is released at once is what all the next segments are written over; with those in use it stays inside the limit. */
static void many_files_are_used_again(void **state) {
    setup.limit = 8 * MIB;
    open_spool();
    add_many(300, 20000);
    size_t full = segment_count();
    assert_true(full >= 5);
    run_until(all_synced);
    spool_release(spool, spool_index(spool), spool_number(spool));
    assert_int_equal(segment_count(), 1);
    assert_int_equal(spares(), full - 1);
    add_many(300, 20000);
    assert_int_equal(segment_count() + spares(), full + 1);        /* the first one was not quite full */
    assert_true(spool_bytes(spool) + spares() * spool->segment_size <= 8 * MIB);
    run_until(all_synced);
    expect_records(301, 600);
    spool_release(spool, spool_index(spool), spool_number(spool));
    assert_true(spares() > 1);
    close_spool();
    assert_int_equal(spares(), 0);
}

static void a_file_that_is_read_is_not_used_again(void **state) {
    setup.limit = 1 * MIB;
    open_spool();
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t kept, record;
    add(30000);
    assert_int_equal(spool_next(cursor, &kept, &err), 1);
    for (int i = 0; i < 100; i++) {
        add(30000);
        run_until(all_synced);
        spool_release(spool, spool_index(spool), spool_number(spool));
        assert_int_equal(spool_last(spool, &record, &err), 1);
        expect_record(&record);
        frame_unref(record.frame);
    }
    assert_false(exists(segment_path(1)));
    assert_int_equal(frame_verify(kept.frame, &err), 0);
    assert_int_equal(kept.frame->sequence, 1);
    frame_walk_t walk = {0};
    event_t event;
    assert_int_equal(frame_next(kept.frame, &walk, &event), 1);
    assert_int_equal(event.time, 1000);
    frame_unref(kept.frame);
    spool_cursor_free(cursor);
}

static void blocks_at_the_limit(void **state) {
    setup.limit = 1 * MIB;
    open_spool();
    while (spool_room(spool))
        add(30000);
    assert_true(spool_bytes(spool) >= setup.limit);
    uint64_t last = spool_index(spool);
    add(10);                           /* taken all the same */
    assert_int_equal(spool_index(spool), last + 1);
    run_until(all_synced);
    assert_false(spool_room(spool));
    for (uint64_t i = 1; i <= last && !spool_room(spool); i++)
        spool_release(spool, i, i);
    assert_true(spool_room(spool));
    assert_true(spool_bytes(spool) < setup.limit);
    assert_int_equal(told_room, 0);
    turn();
    assert_int_equal(told_room, 1);
    assert_int_equal(told_dropped, 0);
    spool_release(spool, last + 1, last + 1);
    expect_records(last, last + 1);    /* in the segment that is still there */
}

/* One record above the limit must not stop everything for ever. */
static void a_record_above_the_limit_goes_through(void **state) {
    setup.limit = 1 * MIB;
    open_spool();
    for (int i = 1; i <= 5; i++) {
        add(3 * MIB);
        assert_false(spool_room(spool));
        expect_records(i, i);
        spool_release(spool, i, i);
        assert_true(spool_room(spool));
        run_until(all_synced);
        assert_true(segment_count() <= 2);
    }
}

static void add_large_note(size_t size) {
    char *note = mem_zero(size);
    spool_begin(spool);
    spool_add(spool, text_make(note, size), NULL, NULL);
    spool_commit(spool);
    mem_free(note);
}

/* All frames are acknowledged; what stays is the last note, which goes when the next comes, and that must not wait for it. */
static void notes_that_are_renewed_do_not_make_it_full(void **state) {
    setup.limit = 1 * MIB;
    setup.renewed = true;
    open_spool();
    for (int i = 0; i < 5; i++) {
        add(1000);
        add_large_note(2 * MIB);
        assert_false(spool_room(spool));
        run_until(all_synced);
        spool_release(spool, spool_index(spool) - 1, spool_number(spool));
        assert_true(spool_room(spool));
        reopen();
        assert_true(spool_room(spool));
        assert_true(segment_count() <= 2);
    }
    setup.renewed = false;
    reopen();
    assert_false(spool_room(spool));
}

static void drops_the_newest(void **state) {
    setup.limit = 1 * MIB;
    setup.full = SPOOL_DROP_NEWEST;
    open_spool();
    while (spool_bytes(spool) < setup.limit)
        add(30000);
    assert_true(spool_room(spool));
    uint64_t index = spool_index(spool), number = spool_number(spool), got;
    frame_t *frame = make_frame(number + 1, 1000, 7);
    spool_begin(spool);
    assert_int_equal(spool_add(spool, text_of("first"), NULL, &got), index + 1);
    assert_int_equal(spool_add(spool, text_of("second"), frame, &got), 0);
    assert_int_equal(got, 0);
    assert_int_equal(spool_add(spool, text_of("third"), NULL, &got), 0);
    assert_int_equal(spool_add(spool, text_of("fourth"), frame, &got), 0);
    spool_commit(spool);
    assert_int_equal(spool_index(spool), index);
    assert_int_equal(spool_number(spool), number);
    turn();
    assert_int_equal(told_dropped, 14);
    assert_non_null(strstr(dropped_reason, "full"));
    add_note();                        /* a note alone is always taken */
    assert_int_equal(spool_index(spool), index + 1);
    run_until(all_synced);
    spool_release(spool, index, number);
    add(10);
    assert_int_equal(spool_number(spool), number + 1);
    assert_int_equal(spool_index(spool), index + 2);
    frame_unref(frame);
    reopen();
    expect_records(index, index + 2);
}

static void drops_the_oldest(void **state) {
    setup.limit = 1 * MIB;
    setup.full = SPOOL_DROP_OLDEST;
    open_spool();
    frame_t *frame = make_frame(1, 30000, 3);
    uint64_t events = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t number;
        spool_begin(spool);
        spool_add(spool, note_of(spool_index(spool) + 1), frame, &number);
        spool_commit(spool);
        events += 3;
        run_until(all_synced);
        assert_true(spool_room(spool));
        assert_true(spool_bytes(spool) <= setup.limit);
        if (i == 10)
            spool_release(spool, 5, 5);
    }
    frame_unref(frame);
    turn();
    uint64_t lowest = spool_lowest(spool);
    assert_true(lowest > 50);
    assert_int_equal(told_dropped, (lowest - 1 - 5) * 3);          /* five were released: not dropped */
    assert_int_equal(spool_number(spool), 100);
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    spool_seek_number(cursor, 1);
    assert_int_equal(spool_next(cursor, &record, &err), 1);        /* the oldest that is there */
    assert_int_equal(record.number, lowest);
    frame_unref(record.frame);
    spool_cursor_free(cursor);
}

static void tells_when_it_is_synced(void **state) {
    setup.sync = SPOOL_ALWAYS;
    open_spool();
    add(10);
    assert_int_equal(spool_written(spool), 0);
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    assert_int_equal(spool_next(cursor, &record, &err), 0);        /* nobody may see it yet */
    add(10);
    add(10);
    run_until(all_synced);
    assert_int_equal(spool_written(spool), 3);
    assert_true(told_written >= 1 && told_written <= 2);           /* those that came meanwhile went together */
    assert_true(told_synced >= 1 && told_synced <= 2);
    assert_int_equal(spool_next(cursor, &record, &err), 1);
    frame_unref(record.frame);
    spool_cursor_free(cursor);
}

static bool some_synced(void) {
    return spool_synced(spool) > 0;
}

static void syncs_after_the_interval_or_when_much_waits(void **state) {
    setup.sync_interval = INT64_C(3600) * 1000000000;
    open_spool();
    add(10);
    assert_int_equal(spool_written(spool), 1);
    turn();
    assert_int_equal(spool_synced(spool), 0);
    for (int i = 0; i < 80; i++)
        add(60000);
    run_until(some_synced);
    assert_true(spool_synced(spool) >= 4 * MIB / 60100);
}

static void never_syncs_when_told_so(void **state) {
    setup.sync = SPOOL_NONE;
    setup.limit = 1 * MIB;
    open_spool();
    for (int i = 1; i <= 60; i++) {
        add(30000);
        assert_int_equal(spool_synced(spool), i);
        assert_int_equal(spool_written(spool), i);
        spool_release(spool, i, i);
    }
    assert_true(segment_count() <= 2);
    reopen();
    assert_int_equal(spool_number(spool), 60);
    assert_int_equal(spool_lowest(spool), 61);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    log_open("test", NULL, LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(released_segments_go),
        TEST(nothing_goes_before_what_follows_is_synced),
        TEST(files_are_used_again),
        TEST(many_files_are_used_again),
        TEST(a_file_that_is_read_is_not_used_again),
        TEST(blocks_at_the_limit),
        TEST(a_record_above_the_limit_goes_through),
        TEST(notes_that_are_renewed_do_not_make_it_full),
        TEST(drops_the_newest),
        TEST(drops_the_oldest),
        TEST(tells_when_it_is_synced),
        TEST(syncs_after_the_interval_or_when_much_waits),
        TEST(never_syncs_when_told_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
