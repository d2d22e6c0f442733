/* Going through compressed files from the loop: places in them, all of them, what is damaged, and how little is done in one turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>

#include "../../cmd/ingest/unpack_job.h"
#include "base/clock.h"
#include "base/file.h"

#define SIZE 3000000

static loop_t *loop;
static unpack_queue_t *queue;
static uint8_t *text;                  /* what the file holds */
static unsigned left, turns;           /* jobs that are not done; rounds of the loop */

static int set_up(void **state) {
    loop = loop_new();
    queue = unpack_queue_new(loop);
    text = mem_alloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        text[i] = (uint8_t) (i / 1000 ^ i % 251);
    return 0;
}

static int tear_down(void **state) {
    unpack_queue_free(queue);
    loop_free(loop);
    mem_free(text);
    return 0;
}

static void put_member(int fd, const void *bytes, size_t size) {
    buf_t packed = {0};
    err_t err;
    z_stream stream = {.next_in = (Bytef *) (uintptr_t) bytes, .avail_in = (uInt) size};
    assert_int_equal(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.avail_out = (uInt) deflateBound(&stream, size);
    stream.next_out = buf_reserve(&packed, stream.avail_out);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    assert_int_equal(file_write_all(fd, packed.data, stream.total_out, &err), 0);
    deflateEnd(&stream);
    buf_fini(&packed);
}

static int make_file(void) {
    char path[] = "/tmp/unpackXXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    put_member(fd, text, SIZE / 3);
    put_member(fd, text + SIZE / 3, SIZE - SIZE / 3);
    return fd;
}

static filemark_t mark_at(size_t offset) {
    filetrace_t trace = {0};
    filemark_t mark;
    filetrace_read(&trace, 0, text, offset);
    filetrace_used(&trace, text, offset);
    filemark_make(&mark, &trace, 1, 2, offset);
    return mark;
}

static void on_round(void *argument) {
    turns++;
    loop_defer(loop, on_round, argument);
}

static void on_done(void *argument) {
    unpack_job_t **job = argument;
    assert_true(unpack_job_done(*job));
    if (--left == 0)
        loop_stop(loop);
}

static void run(unsigned jobs) {
    left = jobs;
    turns = 0;
    on_round(NULL);
    loop_run(loop);
    loop_undefer(loop, on_round, NULL);
    assert_int_equal(left, 0);
}

static unpack_job_t *run_one(unpack_task_t task) {
    unpack_job_t *job;
    task.path = "it";
    task.done = on_done;
    task.argument = &job;
    job = unpack_job_new(queue, &task);
    assert_false(unpack_job_done(job));
    run(1);
    return job;
}

static void a_place_is_found_and_read_on_from(void **state) {
    int fd = make_file();
    static const size_t places[] = {1, 100, 256, 257, SIZE / 3, SIZE / 2, SIZE};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        filemark_t mark = mark_at(places[i]), again;
        unpack_job_t *job = run_one((unpack_task_t){.fd = fd, .mark = &mark, .only_mark = true});
        assert_true(unpack_job_fits(job));
        filetrace_t trace;
        unpack_t *unpack = unpack_job_take(job, &trace);
        unpack_job_free(job);
        filemark_make(&again, &trace, 1, 2, places[i]);
        assert_memory_equal(&again, &mark, sizeof mark);
        uint8_t next;
        const char *error;
        assert_int_equal(unpack_read(unpack, &next, 1, &error), places[i] < SIZE);
        assert_true(places[i] == SIZE || next == text[places[i]]);
        unpack_free(unpack);
    }
    close(fd);
}

static void another_place_is_none(void **state) {
    int fd = make_file();
    filemark_t mark = mark_at(SIZE / 2), beyond = mark, other = mark;
    uint64_t size;
    mark.before++;
    beyond.offset = SIZE + 1;
    other.head++;
    const filemark_t *const marks[] = {&mark, &beyond, &other};
    for (size_t i = 0; i < 3; i++) {
        unpack_job_t *job = run_one((unpack_task_t){.fd = fd, .mark = marks[i], .only_mark = true});
        assert_false(unpack_job_fits(job));
        unpack_job_free(job);
        job = run_one((unpack_task_t){.fd = fd, .mark = marks[i]}); /* on to the end, for what can be told of all of it */
        assert_false(unpack_job_fits(job));
        assert_non_null(unpack_job_whole(job, &size));
        assert_int_equal(size, SIZE);
        unpack_job_free(job);
    }
    close(fd);
}

static void it_is_expanded_in_turns(void **state) {
    int fd = make_file();
    futimens(fd, (struct timespec[]){{1000, 0}, {1000000, 0}});
    unpack_job_t *job = run_one((unpack_task_t){.fd = fd, .expand = true});
    assert_true(turns >= SIZE / (256 * 1024));
    uint64_t size;
    filemark_t whole, expected = mark_at(SIZE);
    filemark_make(&whole, unpack_job_whole(job, &size), 1, 2, SIZE);
    assert_int_equal(size, SIZE);
    assert_memory_equal(&whole, &expected, sizeof whole);
    int out = unpack_job_file(job), again = unpack_job_file(job);
    unpack_job_free(job);
    uint8_t *got = mem_alloc(SIZE);
    struct stat status;
    assert_int_equal(pread(out, got, SIZE, 0), SIZE);
    assert_memory_equal(got, text, SIZE);
    assert_true(fstat(again, &status) == 0 && status.st_size == SIZE && status.st_mtim.tv_sec == 1000000);
    mem_free(got);
    close(out);
    close(again);
    close(fd);
}

static void what_is_damaged_or_no_such_file_gives_nothing(void **state) {
    int fd = make_file(), plain = make_file();
    struct stat status;
    uint64_t size;
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(ftruncate(fd, status.st_size - 10), 0);
    assert_int_equal(pwrite(plain, "plain", 5, 0), 5);
    for (int i = 0; i < 2; i++) {
        unpack_job_t *job = run_one((unpack_task_t){.fd = i ? plain : fd, .expand = true});
        assert_int_equal(unpack_job_file(job), -1);
        assert_null(unpack_job_whole(job, &size));
        unpack_job_free(job);
    }
    setenv("TMPDIR", "/nowhere", 1);
    ftruncate(fd, 0);
    lseek(fd, 0, SEEK_SET);
    put_member(fd, text, SIZE);
    unpack_job_t *job = run_one((unpack_task_t){.fd = fd, .expand = true});
    unsetenv("TMPDIR");
    assert_int_equal(unpack_job_file(job), -1);
    unpack_job_free(job);
    close(fd);
    close(plain);
}

/* Files of which nothing comes for long: members that hold nothing, and the zeros of tapes. */
static void nothing_in_between_takes_turns_as_well(void **state) {
    int fd = make_file();
    uint8_t *zeros = mem_zero(5 << 20), member[64] = {0};
    err_t err;
    assert_int_equal(file_write_all(fd, zeros, 5 << 20, &err), 0);
    off_t before = lseek(fd, 0, SEEK_CUR);
    put_member(fd, "", 0);
    size_t one = (size_t) (lseek(fd, 0, SEEK_CUR) - before);
    assert_int_equal(pread(fd, member, one, before), one);
    for (size_t i = 0; i < (5u << 20) / one; i++)
        memcpy(zeros + i * one, member, one);
    assert_int_equal(file_write_all(fd, zeros, (5u << 20) / one * one, &err), 0);
    put_member(fd, "end", 3);
    unpack_job_t *job = run_one((unpack_task_t){.fd = fd});
    uint64_t size;
    assert_non_null(unpack_job_whole(job, &size));
    assert_int_equal(size, SIZE + 3);
    assert_true(turns >= SIZE / (256 * 1024) + 9);
    unpack_job_free(job);
    mem_free(zeros);
    close(fd);
}

static void one_after_the_other_and_some_are_given_up(void **state) {
    int fd = make_file();
    unpack_job_t *jobs[4];
    uint64_t size;
    for (int i = 0; i < 4; i++)
        jobs[i] = unpack_job_new(queue, &(unpack_task_t){.fd = fd, .path = "it", .expand = i & 1, .done = on_done, .argument = &jobs[i]});
    unpack_job_free(jobs[1]);
    run(1);
    assert_true(unpack_job_done(jobs[0]) && !unpack_job_done(jobs[2]) && !unpack_job_done(jobs[3]));
    unpack_job_free(jobs[2]); /* it may have begun */
    run(1);
    assert_non_null(unpack_job_whole(jobs[3], &size));
    unpack_job_free(jobs[0]);
    unpack_job_free(jobs[3]);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_place_is_found_and_read_on_from),
        cmocka_unit_test(another_place_is_none),
        cmocka_unit_test(it_is_expanded_in_turns),
        cmocka_unit_test(what_is_damaged_or_no_such_file_gives_nothing),
        cmocka_unit_test(nothing_in_between_takes_turns_as_well),
        cmocka_unit_test(one_after_the_other_and_some_are_given_up),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
