/* The durable log's large groups, which go around the page cache: what is written is read again, whatever the sizes and places of records; groups that
 * the disk refuses are written through the cache; what was said to be written outlives the process; logs without such groups are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/crc32c.h"
#include "spool_harness.h"

static long refusals;                  /* so many of the next writes around the page cache fail */
static int write_error;                /* errno of all writes through it */
static atomic_bool faults;             /* any of all these may fail, and syncs, and what goes around it may be written in part */

static bool strikes(int often) {
    return faults && rand() % often == 0;
}

long syscall(long number, ...) {
    static long (*real)(long number, ...);
    if (!real)
        real = (long (*)(long, ...)) dlsym(RTLD_NEXT, "syscall");
    va_list list;
    va_start(list, number);
    long argument[6];
    for (int i = 0; i < 6; i++)
        argument[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_io_submit && strikes(4))
        ((struct iocb **) argument[2])[0]->aio_nbytes = 1;
    long result = real(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
    if (number == SYS_io_getevents)
        for (long i = 0; i < result && refusals > 0; i++, refusals--)
            ((struct io_event *) argument[3])[i].res = -EIO;
    return result;
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    if (write_error || strikes(3)) {
        errno = write_error ? write_error : EIO;
        return -1;
    }
    return syscall(SYS_pwritev, fd, pieces, count, (long) at, 0L);
}

int fdatasync(int fd) {
    if (strikes(9)) {
        errno = EIO;
        return -1;
    }
    return (int) syscall(SYS_fdatasync, fd);
}

static int set_up_direct(void **state) {
    refusals = write_error = 0;
    faults = false;
    return set_up(state);
}

/* Other file systems and kernels do not offer it, and then there is nothing to be tested here. */
static void expect_direct(void) {
    if (spool->flights.off && !refusals)
        skip();
    assert_true(spool->flights.context != 0);
}

static void expect_no_damage(void) {
    FILE *out = fopen("/dev/null", "w");
    assert_int_equal(spool_check(directory, out, &err), 0);
    fclose(out);
}

static void large_frames_are_read_again(void **state) {
    open_spool();
    add_many(20, 200000);
    expect_direct();
    assert_int_equal(spool_written(spool), 20);
    expect_records(1, 20);             /* waits for what is under way */
    assert_null(spool->flights.first);
    run_until(all_synced);
    reopen();
    expect_records(1, 20);
    expect_no_damage();
    close_spool();
    expect_no_damage();
    open_spool();
}

/* Whatever comes, and wherever it is read meanwhile and the log is opened anew. */
static void all_sizes_in_any_order(void **state) {
    static const size_t sizes[] = {10, 100, 3000, 16000, 16500, 40000, 65000, 66000, 130000, 300000, 1100000};
    setup.limit = 256 * MIB;
    for (unsigned seed = 1; seed <= 6; seed++) {
        srandom(seed);
        if (spool)
            reopen();
        else
            open_spool();
        spool_cursor_t *cursor = spool_cursor_new(spool);
        spool_record_t record;
        uint64_t read = spool_index(spool);
        spool_seek_index(cursor, read + 1);
        for (int i = 0; i < 150; i++) {
            spool_begin(spool);
            for (long k = random() % 4; k >= 0; k--) {
                frame_t *frame = random() % 4 ? make_frame(spool_number(spool) + 1, sizes[random() % 11] + (size_t) random() % 700, 1 + random() % 3) : NULL;
                spool_add(spool, note_of(spool_index(spool) + 1), frame, NULL);
                frame_unref(frame);
            }
            spool_commit(spool);
            if (random() % 5 == 0)
                while (spool_next(cursor, &record, &err) == 1) {
                    assert_int_equal(record.index, ++read);
                    expect_record(&record);
                    frame_unref(record.frame);
                }
            if (random() % 20 == 0)
                turn();
        }
        while (spool_next(cursor, &record, &err) == 1) {
            assert_int_equal(record.index, ++read);
            frame_unref(record.frame);
        }
        assert_int_equal(read, spool_index(spool));
        spool_cursor_free(cursor);
        expect_direct();
        reopen();
        uint64_t *first;
        assert_true(segments(&first) > 0);
        expect_records(first[0], spool_index(spool));
        mem_free(first);
        expect_no_damage();
        spool_release(spool, spool_index(spool), spool_number(spool));
    }
}

/* Files are used again, and what they held does not come back. */
static void files_are_used_again(void **state) {
    setup.limit = 16 * MIB;
    open_spool();
    for (int i = 0; i < 300; i++) {
        add(100000 + (size_t) i * 100);
        if (i % 10 == 9) {
            run_until(all_synced);
            spool_release(spool, spool_index(spool) - 5, spool_number(spool) - 5);
        }
    }
    expect_direct();
    expect_records(spool_index(spool) - 4, spool_index(spool));
    uint64_t last = spool_index(spool);
    reopen();
    assert_int_equal(spool_index(spool), last);
    expect_records(last - 4, last);
}

static void what_the_disk_refuses_goes_through_the_page_cache(void **state) {
    open_spool();
    add_many(3, 100000);
    expect_direct();
    expect_records(1, 3);
    refusals = 1;
    add_many(5, 100000);
    expect_records(1, 8);
    assert_int_equal(refusals, 0);
    assert_true(spool->flights.off);
    assert_int_equal(told_trouble, 0);
    add_many(3, 100000);
    run_until(all_synced);
    reopen();
    expect_records(1, 11);
}

static bool in_trouble(void) {
    return told_trouble > 0;
}

static bool works_again(void) {
    return told_works > 0 && spool_room(spool);
}

/* It was said to be written: it is kept until it is, and all that follows waits. */
static void what_is_refused_altogether_waits_in_memory(void **state) {
    open_spool();
    add_many(2, 100000);
    expect_direct();
    expect_records(1, 2);
    run_until(all_synced);
    refusals = 1;
    write_error = EIO;
    add(100000);
    assert_int_equal(spool_written(spool), 3);
    run_until(in_trouble);
    assert_non_null(strstr(trouble, "Input/output error"));
    assert_int_equal(spool_synced(spool), 2);
    add(10);
    assert_int_equal(spool_written(spool), 3);
    assert_false(spool_room(spool));
    write_error = 0;
    run_until(works_again);
    assert_int_equal(spool_written(spool), 4);
    run_until(all_synced);
    expect_records(1, 4);
    reopen();
    expect_records(1, 4);
}

/* A limit on file sizes, as a full disk, is no reason to go through the page cache for ever. */
static void room_that_was_short_is_used_again(void **state) {
    struct rlimit before, limit;
    open_spool();
    add_many(3, 100000);
    expect_direct();
    expect_records(1, 3);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = (struct rlimit){MIB, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    reopen();
    add_many(20, 100000);
    assert_int_equal(told_trouble, 0);
    assert_false(spool_current(spool)->direct);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    for (size_t segments = spool->count; spool->count == segments;)
        add(100000);
    add(100000);
    assert_true(spool_current(spool)->direct);
    assert_int_equal(spool_written(spool), spool_number(spool));
    run_until(all_synced);
    expect_records(1, spool_index(spool));
}

static void blank(uint64_t from, uint64_t to) {
    char *path = mem_format("%s/%016x.seg", directory, 1);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    mem_free(path);
    for (uint64_t at = from; at < to; at += SPOOL_PAGE)
        assert_int_equal(pwrite(fd, spool_zeros, SPOOL_PAGE, (off_t) at), SPOOL_PAGE);
    close(fd);
}

/* A reader that is behind waits as well: it neither leaves records out nor takes them for damaged, and is told when they can be read. */
static void what_is_refused_altogether_is_read_once_it_is_written(void **state) {
    open_spool();
    add_many(2, 100000);
    expect_direct();
    expect_records(1, 2);
    run_until(all_synced);
    uint64_t from = SPOOL_PAGE_ALIGN(spool_bytes(spool));
    refusals = 1;
    write_error = EIO;
    add(100000);
    run_until(in_trouble);
    blank(from, spool_bytes(spool));   /* where the disk took nothing */
    spool_cursor_t *cursor = spool_cursor_new(spool);
    spool_record_t record;
    spool_seek_number(cursor, 3);
    assert_int_equal(spool_next(cursor, &record, &err), 0);
    assert_int_equal(spool_damages(spool), 0);
    unsigned told = told_written;
    write_error = 0;
    run_until(works_again);
    assert_true(told_written > told);
    assert_int_equal(spool_next(cursor, &record, &err), 1);
    assert_int_equal(record.number, 3);
    frame_unref(record.frame);
    spool_cursor_free(cursor);
    run_until(all_synced);
    reopen();
    expect_records(1, 3);
}

static bool settled(void) {
    return all_synced() && !spool->trouble && !spool->rewrite;
}

static uint64_t read_on(spool_cursor_t *cursor, uint64_t read) {
    spool_record_t record;
    int more;
    while ((more = spool_next(cursor, &record, &err)) == 1) {
        assert_int_equal(record.index, ++read);
        expect_record(&record);
        frame_unref(record.frame);
    }
    if (more < 0)
        fail_msg("%s", err.text);
    return read;
}

/* Whatever the disk refuses, and when: nothing is left out, out of order, or forgotten once it works again. */
static void faults_at_any_moment(void **state) {
    static const size_t sizes[] = {10, 3000, 16500, 66000, 130000, 300000};
    for (unsigned seed = 1; seed <= 5; seed++) {
        srandom(seed);
        srand(seed);
        open_spool();
        spool_cursor_t *cursor = spool_cursor_new(spool);
        uint64_t read = spool_index(spool);
        spool_seek_index(cursor, read + 1);
        for (int i = 0; i < 120; i++) {
            faults = i % 60 >= 20;
            if (i % 7 == 0 && spool->flights.context)
                spool->flights.off = false;        /* as if it had never been refused */
            spool_begin(spool);
            for (long k = random() % 3; k >= 0; k--) {
                frame_t *frame = random() % 4 ? make_frame(spool_number(spool) + 1, sizes[random() % 6] + (size_t) random() % 700, 1) : NULL;
                spool_add(spool, note_of(spool_index(spool) + 1), frame, NULL);
                frame_unref(frame);
            }
            spool_commit(spool);
            if (random() % 3 == 0)
                read = read_on(cursor, read);
            if (random() % 3 == 0)
                turn();
        }
        faults = false;
        run_until(settled);
        assert_int_equal(read_on(cursor, read), spool_index(spool));
        spool_cursor_free(cursor);
        assert_int_equal(spool_damages(spool), 0);
        spool_release(spool, spool_index(spool), spool_number(spool));
        close_spool();
        expect_no_damage();
    }
}

static void child(int out) {
    setup.loop = loop_new();
    setup.sync_interval = 20000000;
    if (spool_open(&spool, &setup, &err) != 0)
        _exit(3);
    for (;;) {
        spool_begin(spool);
        for (long k = random() % 3; k >= 0; k--) {
            frame_t *frame = make_frame(spool_number(spool) + 1, 1000 + (size_t) random() % 200000, 1);
            spool_add(spool, note_of(spool_index(spool) + 1), frame, NULL);
            frame_unref(frame);
        }
        spool_commit(spool);
        uint64_t number = spool_written(spool);
        if (write(out, &number, sizeof number) != sizeof number)
            _exit(4);
        if (random() % 8 == 0)
            turn();
    }
}

/* At any moment: what was said to be written before is there. */
static void what_is_under_way_outlives_the_process(void **state) {
    setup.limit = 128 * MIB;
    for (int round = 0; round < 30; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        srandom((unsigned) round);
        pid_t pid = fork();
        if (pid == 0) {
            close(ends[0]);
            child(ends[1]);
        }
        close(ends[1]);
        uint64_t said = 0, number;
        for (int wait = round * 3; wait >= 0 && read(ends[0], &number, sizeof number) == sizeof number; wait--)
            said = number;
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        while (read(ends[0], &number, sizeof number) == sizeof number)
            said = number;
        close(ends[0]);
        setup.loop = loop;
        open_spool();
        assert_int_equal(spool_identity(spool)->epoch, 1);
        assert_true(spool_number(spool) >= said);
        uint64_t *first;
        assert_true(segments(&first) > 0);
        expect_records(first[0], spool_index(spool));
        mem_free(first);
        spool_release(spool, spool_index(spool), spool_number(spool));
        close_spool();
        expect_no_damage();
    }
}

/* A page of a record that the disk never got, with sound records behind it: the log ends before it, and what follows is kept aside. */
static void a_page_that_is_missing_is_a_damage(void **state) {
    open_spool();
    add_many(4, 100000);
    expect_direct();
    run_until(all_synced);
    expect_records(1, 4);
    uint64_t size = spool->segments[0]->size;
    close_spool();
    static const uint8_t page[SPOOL_PAGE];
    int fd = open(segment_path(1), O_WRONLY);
    assert_int_equal(pwrite(fd, page, sizeof page, (off_t) (size / 2 / SPOOL_PAGE * SPOOL_PAGE)), sizeof page);
    close(fd);
    FILE *out = fopen("/dev/null", "w");
    assert_int_equal(spool_check(directory, out, &err), 1);
    fclose(out);
    open_spool();
    assert_true(spool_index(spool) >= 1 && spool_index(spool) < 4);
    assert_int_equal(spool_identity(spool)->epoch, 2);
    assert_true(exists(path_of("0000000000000001.seg.damaged")));
    expect_records(1, spool_index(spool));
    add(100000);
    expect_records(1, spool_index(spool));
}

/* Segments of format 1, which had neither gaps nor filled pages. */
static void the_format_before_is_read(void **state) {
    open_spool();
    add_many(5, 3000);
    close_spool();
    uint8_t head[SEGMENT_HEAD];
    int fd = open(segment_path(1), O_RDWR);
    assert_int_equal(pread(fd, head, sizeof head, 0), sizeof head);
    assert_int_equal(head[12], 2);
    head[12] = 1;
    uint32_t crc = crc32c(0, head + 12, SEGMENT_HEAD - 12);
    memcpy(head + 8, &crc, sizeof crc);
    assert_int_equal(pwrite(fd, head, sizeof head, 0), sizeof head);
    close(fd);
    open_spool();
    expect_records(1, 5);
    close_spool();
    fd = open(segment_path(1), O_RDWR);
    head[12] = 3;
    crc = crc32c(0, head + 12, SEGMENT_HEAD - 12);
    memcpy(head + 8, &crc, sizeof crc);
    assert_int_equal(pwrite(fd, head, sizeof head, 0), sizeof head);
    close(fd);
    FILE *out = fopen("/dev/null", "w");
    assert_int_equal(spool_check(directory, out, &err), 1);
    fclose(out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_direct, tear_down)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(large_frames_are_read_again),
        TEST(all_sizes_in_any_order),
        TEST(files_are_used_again),
        TEST(what_the_disk_refuses_goes_through_the_page_cache),
        TEST(room_that_was_short_is_used_again),
        TEST(what_is_refused_altogether_waits_in_memory),
        TEST(what_is_refused_altogether_is_read_once_it_is_written),
        TEST(faults_at_any_moment),
        TEST(what_is_under_way_outlives_the_process),
        TEST(a_page_that_is_missing_is_a_damage),
        TEST(the_format_before_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
