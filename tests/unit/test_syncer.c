/* The thread that syncs: orders come back in order, from the loop or from waiting, with the error of the first descriptor that failed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/syncer.h"

static loop_t *loop;
static syncer_t *syncer;
static int fd, ends[2];
static unsigned called, last_error, expected;

static int set_up(void **state) {
    char path[] = "/tmp/test_syncer.XXXXXX";
    fd = mkstemp(path);
    unlink(path);
    loop = loop_new();
    syncer = syncer_new(loop);
    called = last_error = 0;
    return fd < 0 || pipe(ends);
}

static int tear_down(void **state) {
    syncer_free(syncer);
    loop_free(loop);
    close(ends[0]);
    close(ends[1]);
    return close(fd);
}

static void done(void *argument, int error) {
    assert_int_equal((uintptr_t) argument, ++called);
    last_error = (unsigned) error;
    if (called == expected)
        loop_stop(loop);
}

static void calls_back_from_the_loop_in_order(void **state) {
    expected = 50;
    for (uintptr_t i = 1; i <= 50; i++) {
        assert_int_equal(write(fd, "x", 1), 1);
        syncer_sync(syncer, (int[]){fd, fd}, 2, done, (void *) i);
    }
    assert_int_equal(called, 0);
    loop_run(loop);
    assert_int_equal(called, 50);
    assert_int_equal(last_error, 0);
}

static void says_which_error(void **state) {
    expected = 1;
    syncer_sync(syncer, (int[]){fd, ends[0], fd}, 3, done, (void *) 1);     /* a pipe cannot be synced */
    loop_run(loop);
    assert_int_equal(last_error, EINVAL);
}

static void again(void *argument, int error) {
    called++;
    if (called < 5)
        syncer_sync(syncer, &fd, 1, again, NULL);
}

static void waits_for_all_that_callbacks_order(void **state) {
    syncer_wait(syncer);
    syncer_sync(syncer, &fd, 1, again, NULL);
    syncer_wait(syncer);
    assert_int_equal(called, 5);
}

static void calls_nobody_after_it_is_gone(void **state) {
    for (int i = 0; i < 20; i++)
        syncer_sync(syncer, &fd, 1, done, NULL);
    syncer_free(syncer);
    syncer = NULL;
    assert_int_equal(called, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(calls_back_from_the_loop_in_order),
        TEST(says_which_error),
        TEST(waits_for_all_that_callbacks_order),
        TEST(calls_nobody_after_it_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
