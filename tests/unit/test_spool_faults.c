/* The durable log when things fail: full disks, limits, failing writes and syncs, and death at any moment. Failures of system calls are made
 * here by standing in their way: this program's pwritev and fdatasync are called instead of the C library's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "spool_harness.h"

static _Atomic int write_error, write_partly;          /* errno of all writes; bytes that are written before */
static _Atomic int sync_error, sync_failures;          /* errno of the next so many syncs */

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    if (write_error && write_partly) {
        size_t size = pieces[0].iov_len < (size_t) write_partly ? pieces[0].iov_len : (size_t) write_partly;
        write_partly -= (int) size;
        return pwrite(fd, pieces[0].iov_base, size, at);
    }
    if (write_error) {
        errno = write_error;
        return -1;
    }
    return syscall(SYS_pwritev, fd, pieces, count, (long) at, (long) 0);
}

int fdatasync(int fd) {
    if (sync_failures > 0) {
        sync_failures--;
        errno = sync_error;
        return -1;
    }
    return (int) syscall(SYS_fdatasync, fd);
}

static int set_up_faults(void **state) {
    write_error = write_partly = sync_error = sync_failures = 0;
    return set_up(state);
}

static bool in_trouble(void) {
    return told_trouble > 0;
}
static bool works_again(void) {
    return told_works > 0 && spool_room(spool);
}

static void waits_while_the_disk_is_full(void **state) {
    open_spool();
    add_many(3, 5000);
    run_until(all_synced);
    uint64_t size = file_size(segment_path(1));
    write_error = ENOSPC;
    write_partly = 4000;               /* part of it is written */
    assert_int_equal(add(5000), 4);
    assert_int_equal(spool_written(spool), 3);
    assert_false(spool_room(spool));
    assert_true(file_size(segment_path(1)) <= size);               /* and was taken back */
    assert_int_equal(add(10), 5);
    add_note();
    assert_int_equal(spool_written(spool), 3);
    assert_int_equal(told_trouble, 0);
    turn();
    assert_int_equal(told_trouble, 1);
    assert_non_null(strstr(trouble, directory));
    assert_non_null(strstr(trouble, "No space left"));
    assert_non_null(strstr(trouble, "make room"));
    expect_records(1, 3);
    unsigned written = told_written;
    write_error = 0;
    run_until(works_again);
    assert_int_equal(told_trouble, 1);
    assert_int_equal(told_works, 1);
    assert_int_equal(told_written, written + 1);
    assert_int_equal(told_room, 1);
    assert_int_equal(spool_written(spool), 5);
    expect_records(1, 6);
    reopen();
    expect_records(1, 6);
}

static void every_kind_of_failure_names_its_remedy(void **state) {
    static const struct {
        int error;
        const char *remedy;
    } kinds[] = {{ENOSPC, "make room"}, {EDQUOT, "quota"}, {EFBIG, "ulimit"}, {EIO, "kernel's log"}, {EROFS, "writable"}};
    open_spool();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        told_trouble = told_works = 0;
        write_error = kinds[i].error;
        add(10);
        run_until(in_trouble);
        assert_non_null(strstr(trouble, kinds[i].remedy));
        assert_non_null(strstr(trouble, strerror(kinds[i].error)));
        write_error = 0;
        run_until(works_again);
    }
    expect_records(1, 5);
}

/* What is released makes room at once, without waiting for the next try; spare files go too. */
static void a_release_is_a_reason_to_try(void **state) {
    setup.limit = 1 * MIB;
    open_spool();
    while (segment_count() < 3)
        add(30000);
    run_until(all_synced);
    write_error = ENOSPC;
    add(30000);
    run_until(in_trouble);
    write_error = 0;
    assert_false(spool_room(spool));
    spool_release(spool, spool_written(spool), spool_written(spool));
    assert_false(exists(path_of("spare0")));
    turn();
    turn();
    assert_true(spool_room(spool));
    assert_int_equal(spool_written(spool), spool_number(spool));
}

/* A file that may not grow: a new one may. */
static void a_limit_on_file_sizes_begins_a_segment(void **state) {
    open_spool();
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){200000, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    add_many(20, 30000);
    assert_true(spool_room(spool));
    assert_int_equal(spool_written(spool), 20);
    assert_true(segment_count() >= 3);
    add(300000);                       /* more than any file may hold */
    add(10);
    assert_false(spool_room(spool));
    assert_int_equal(spool_written(spool), 20);
    run_until(in_trouble);
    assert_non_null(strstr(trouble, "ulimit"));
    setrlimit(RLIMIT_FSIZE, &before);
    run_until(works_again);
    assert_int_equal(spool_written(spool), 22);
    expect_records(1, 22);
    reopen();
    expect_records(1, 22);
}

static void newest_are_dropped_while_the_disk_is_full(void **state) {
    setup.full = SPOOL_DROP_NEWEST;
    open_spool();
    add(10);
    write_error = ENOSPC;
    for (int i = 0; i < 200; i++)
        add(20000);
    uint64_t kept = spool_number(spool);
    assert_true(kept > 10 && kept < 100);
    turn();
    assert_int_equal(told_dropped, 201 - kept);
    write_error = 0;
    run_until(works_again);
    add(10);
    assert_int_equal(spool_written(spool), kept + 1);
    reopen();
    assert_int_equal(spool_number(spool), kept + 1);
}

/* After a failed sync a second one would succeed without having written anything: all of it must be written anew. */
static void what_could_not_be_synced_is_written_anew(void **state) {
    setup.limit = 2 * MIB;
    open_spool();
    add_many(3, 20000);
    add_note();
    run_until(all_synced);
    setup.sync_interval = INT64_C(3600) * 1000000000;
    reopen();
    add_many(60, 20000);               /* over several segments */
    assert_true(segment_count() > 2);
    sync_error = EIO;
    sync_failures = 2;                 /* the next try fails as well */
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t kept[10];
    for (int i = 0; i < 10; i++)
        assert_int_equal(spool_next(cursor, &kept[i], &err), 1);
    spool_sync_start(spool);
    run_until(in_trouble);
    assert_non_null(strstr(trouble, "sync"));
    assert_non_null(strstr(trouble, "Input/output error"));
    assert_false(spool_room(spool));
    assert_int_equal(spool_synced(spool), 4);
    add(100);                          /* waits */
    assert_int_equal(spool_written(spool), 63);
    run_until(works_again);
    assert_int_equal(sync_failures, 0);
    assert_true(spool_synced(spool) >= 64);
    assert_int_equal(spool_written(spool), 64);
    uint64_t *first;
    assert_int_equal(segments(&first), 3);            /* the last one holds what waited */
    assert_int_equal(first[0], 1);
    assert_int_equal(first[1], 5);     /* begins with the first that was not synced */
    mem_free(first);
    for (int i = 0; i < 10; i++) {     /* what was read before is untouched */
        assert_int_equal(kept[i].index, i + 1);
        if (kept[i].frame)
            assert_int_equal(frame_verify(kept[i].frame, &err), 0);
        frame_unref(kept[i].frame);
    }
    spool_record_t record;
    for (uint64_t i = 11; i <= spool_index(spool); i++) {          /* and the cursor goes on */
        assert_int_equal(spool_next(cursor, &record, &err), 1);
        assert_int_equal(record.index, i);
        expect_record(&record);
        frame_unref(record.frame);
    }
    spool_cursor_free(cursor);
    expect_records(1, 65);
    add(10);
    reopen();
    expect_records(1, 66);
    assert_int_equal(spool_identity(spool)->epoch, 1);
}

static void nothing_is_said_to_be_synced_that_is_not(void **state) {
    setup.sync = SPOOL_ALWAYS;
    open_spool();
    sync_error = EIO;
    sync_failures = 3;
    add(5000);
    add(10);
    run_until(in_trouble);
    assert_int_equal(spool_written(spool), 0);
    assert_int_equal(spool_synced(spool), 0);
    run_until(works_again);
    run_until(all_synced);
    assert_int_equal(spool_written(spool), 2);
    assert_int_equal(told_trouble, 1);
    expect_records(1, 2);
}

static void oldest_go_when_the_disk_is_full(void **state) {
    setup.full = SPOOL_DROP_OLDEST;
    setup.limit = 4 * MIB;
    open_spool();
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    while (segment_count() < 3)
        add(60000);
    run_until(all_synced);
    write_error = ENOSPC;
    add(60000);
    turn();
    assert_int_equal(segment_count(), 1);
    assert_true(told_dropped > 10);
    assert_false(spool_room(spool));
    write_error = 0;
    run_until(works_again);
    limit = before;
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* ---- death ---- */

/* Appends until it is killed; after each commit it says so. */
static void child(int out, spool_sync_t sync) {
    loop_t *own = loop_new();
    setup.loop = own;
    setup.sync = sync;
    if (spool_open(&spool, &setup, &err) != 0)
        _exit(1);
    for (unsigned i = 0;; i++) {
        uint64_t said[2], first = spool_index(spool) + 1, last = 0;
        size_t size = i % 7 == 0 ? 70000 : i % 3 ? 30 : 3000;
        spool_begin(spool);
        for (unsigned k = 0; k < 1 + i % 3; k++) {
            uint64_t number;
            frame_t *frame = k == 1 ? NULL : make_frame(spool_number(spool) + 1, size, 1);
            last = spool_add(spool, note_of(spool_index(spool) + 1), frame, &number);
            frame_unref(frame);
        }
        spool_commit(spool);
        said[0] = first;
        said[1] = last;
        if (write(out, said, sizeof said) != sizeof said)
            _exit(1);
        if (i % 16 == 0) {
            loop_timer(own, 0, 0, turn_end, NULL);
            loop = own;
            loop_run(own);
        }
        if (spool_index(spool) > 200)
            spool_release(spool, spool_index(spool) - 200, spool_number(spool));
    }
}

static void whole_groups_survive_kill(void **state) {
    setup.limit = 2 * MIB;
    srandom(7);
    uint64_t groups = 0, acknowledged = 0;
    for (int round = 0; round < 60; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(ends[0]);
            child(ends[1], round % 2 ? SPOOL_INTERVAL : SPOOL_NONE);
        }
        close(ends[1]);
        uint64_t said[2];
        /* Death comes after a number of acknowledgements and then some microseconds: anywhere. */
        for (long wait = random() % 60; wait >= 0 && read(ends[0], said, sizeof said) == sizeof said; wait--) {
            acknowledged = said[1];
            groups++;
        }
        usleep((useconds_t) (random() % 3000));
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        uint64_t last_first = 0;
        while (read(ends[0], said, sizeof said) == sizeof said) {
            acknowledged = said[1];
            last_first = said[0];
        }
        close(ends[0]);
        setup.loop = loop;
        setup.sync = SPOOL_NONE;
        open_spool();
        assert_int_equal(spool_identity(spool)->epoch, 1);
        assert_true(spool_index(spool) >= acknowledged);           /* nothing that was acknowledged is missing */
        assert_true(spool_index(spool) <= acknowledged + 3);       /* and no more than the group under way */
        assert_true(last_first <= acknowledged);
        uint64_t *first;
        size_t count = segments(&first);
        assert_true(count >= 1);
        expect_records(first[0], spool_index(spool));
        mem_free(first);
        acknowledged = spool_index(spool);
        close_spool();
    }
    assert_true(groups > 100);
}

/* A log of a GiB opens by looking at its last segment: how much is read is counted by the kernel. */
static uint64_t bytes_read(void) {
    buf_t text = {0};
    assert_int_equal(file_read("/proc/self/io", 4096, &text, &err), 0);
    const char *at = strstr(buf_text(&text), "rchar: ");
    uint64_t read = strtoull(at + 7, NULL, 10);
    buf_fini(&text);
    return read;
}

static void opens_a_gib_by_its_last_segment(void **state) {
    setup.limit = UINT64_C(2048) * MIB;
    setup.sync = SPOOL_NONE;
    open_spool();
    while (spool_bytes(spool) < 8 * MIB)
        add(1000000);
    close_spool();
    /* Segments of 64 MiB before it, of which only the heads are there. */
    for (uint64_t i = 0; i < 16; i++) {
        segment_head_t head = {0};
        uint8_t bytes[SEGMENT_HEAD];
        int fd = open(segment_path(1), O_RDONLY);
        assert_int_equal(pread(fd, bytes, sizeof bytes, 0), SEGMENT_HEAD);
        close(fd);
        assert_int_equal(segment_get_head(&head, bytes, &err), 0);
        head.first_index = head.first_number = 1000 + i * 1000;
        segment_put_head(bytes, &head);
        fd = open(segment_path(head.first_index), O_WRONLY | O_CREAT, 0644);
        assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), SEGMENT_HEAD);
        assert_int_equal(ftruncate(fd, i < 15 ? 64 * MIB : SEGMENT_HEAD), 0);
        close(fd);
    }
    uint64_t before = bytes_read();
    open_spool();
    assert_true(bytes_read() - before < 1 * MIB);
    assert_true(spool_bytes(spool) > 900u * MIB);
    assert_int_equal(spool_index(spool), 15999);
    assert_int_equal(spool_number(spool), 15999);
    assert_int_equal(add(10), 16000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_faults, tear_down)

int main(void) {
    log_open("test", NULL, LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(waits_while_the_disk_is_full),
        TEST(every_kind_of_failure_names_its_remedy),
        TEST(a_release_is_a_reason_to_try),
        TEST(a_limit_on_file_sizes_begins_a_segment),
        TEST(newest_are_dropped_while_the_disk_is_full),
        TEST(what_could_not_be_synced_is_written_anew),
        TEST(nothing_is_said_to_be_synced_that_is_not),
        TEST(oldest_go_when_the_disk_is_full),
        TEST(whole_groups_survive_kill),
        TEST(opens_a_gib_by_its_last_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
