/* The names in a directory: those of now, and read once while nothing changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../cmd/ingest/listing.h"
#include "base/memory.h"

static char directory[64];

static void make(const char *name) {
    char *path = mem_format("%s/%s", directory, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    mem_free(path);
}

static void take_away(const char *name) {
    char *path = mem_format("%s/%s", directory, name);
    assert_int_equal(unlink(path), 0);
    mem_free(path);
}

static size_t count_of(listing_t *listing, const char *prefix) {
    size_t count;
    listing_find(listing, prefix, strlen(prefix), &count);
    return count;
}

static int set_up(void **state) {
    strcpy(directory, "/tmp/listing-XXXXXX");
    assert_non_null(mkdtemp(directory));
    *state = listing_new(directory);
    return 0;
}

static int tear_down(void **state) {
    listing_free(*state);
    assert_int_equal(rmdir(directory), 0);
    return 0;
}

static void test_names_are_found_by_how_they_begin(void **state) {
    static const char *const names[] = {"app.log", "app.log.1", "app-2.log", "b", "apq"};
    size_t count;
    for (size_t i = 0; i < 5; i++)
        make(names[i]);
    const listing_entry_t *found = listing_find(*state, "app", 3, &count);
    assert_int_equal(count, 3);
    assert_string_equal(found[0].name, "app-2.log");
    assert_string_equal(found[1].name, "app.log");
    assert_string_equal(found[2].name, "app.log.1");
    assert_int_equal(count_of(*state, "app.log.1.gz"), 0);
    assert_int_equal(count_of(*state, "c"), 0);
    assert_int_equal(count_of(*state, ""), 7); /* . and .. */
    for (size_t i = 0; i < 5; i++)
        take_away(names[i]);
}

/* Also a change in the same tick of the kernel's clock as the one before. */
static void test_every_change_is_seen(void **state) {
    char name[16];
    for (size_t i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "x%zu", i);
        make(name);
        assert_int_equal(count_of(*state, "x"), i + 1);
    }
    for (size_t i = 300; i-- > 0;) {
        snprintf(name, sizeof name, "x%zu", i);
        take_away(name);
        assert_int_equal(count_of(*state, "x"), i);
    }
}

static void test_a_directory_that_does_not_change_is_read_once(void **state) {
    char name[16], *kept[20];
    size_t count;
    for (size_t i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "x%02zu", i);
        make(name);
    }
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    const listing_entry_t *found = listing_find(*state, "x", 1, &count);
    assert_int_equal(count, 20);
    for (size_t i = 0; i < 20; i++)
        kept[i] = found[i].name;
    char *between = mem_text("so that memory is not given out again as it was");
    for (int round = 0; round < 3; round++) {
        found = listing_find(*state, "x", 1, &count);
        for (size_t i = 0; i < 20; i++)
            assert_ptr_equal(found[i].name, kept[i]);
    }
    mem_free(between);
    for (size_t i = 0; i < 20; i++)
        take_away(found[i].name);
    assert_int_equal(count_of(*state, "x"), 0);
}

static void test_a_directory_may_be_away_and_come_back(void **state) {
    make("a");
    assert_int_equal(count_of(*state, "a"), 1);
    take_away("a");
    assert_int_equal(rmdir(directory), 0);
    assert_int_equal(count_of(*state, "a"), 0);
    assert_int_equal(mkdir(directory, 0700), 0);
    make("a");
    assert_int_equal(count_of(*state, "a"), 1);
    take_away("a");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names_are_found_by_how_they_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_change_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_directory_that_does_not_change_is_read_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_directory_may_be_away_and_come_back, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
