/* Looking at a log from outside: listing, checking, printing while it is used, and repairing it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spool_harness.h"

static char *text;

static int run(int (*function)(const char *, FILE *, err_t *)) {
    size_t size;
    free(text);
    FILE *out = open_memstream(&text, &size);
    err.text[0] = 0;
    int result = function(directory, out, &err);
    fclose(out);
    return result;
}

static int print_events(const char *where, FILE *out, err_t *e) {
    return spool_print(where, false, out, e);
}

static int print_notes(const char *where, FILE *out, err_t *e) {
    return spool_print(where, true, out, e);
}

static int release_text(void **state) {
    free(text);
    text = NULL;
    return tear_down(state);
}

static unsigned lines(void) {
    unsigned n = 0;
    for (const char *p = text; *p; p++)
        n += *p == '\n';
    return n;
}

static void fill(void) {
    setup.limit = 2 * MIB;
    open_spool();
    add_many(70, 20000);
    add_note();
    assert_true(segment_count() > 2);
}

static void a_sound_log_has_no_damage(void **state) {
    fill();
    assert_int_equal(run(spool_check), 0);         /* while it is in use */
    char pid[64];
    snprintf(pid, sizeof pid, "in use by process %d", (int) getpid());
    assert_non_null(strstr(text, pid));
    assert_non_null(strstr(text, "no damage"));
    assert_int_equal(run(spool_list), 0);
    assert_non_null(strstr(text, "up to record 71 and frame 70"));
    close_spool();
    assert_int_equal(run(spool_check), 0);
    assert_null(strstr(text, "in use"));
    assert_int_equal(run(spool_repair), 0);
    assert_non_null(strstr(text, "nothing to repair"));
}

static void prints_events_and_notes(void **state) {
    fill();
    assert_int_equal(run(print_events), 0);
    assert_int_equal(lines(), 70);
    assert_int_equal(strncmp(text, "{\"@timestamp\":\"1970-01-01T00:00:00.000001Z\",\"@stream\":\"stream.test\",\"n\":1,", 74), 0);
    assert_int_equal(run(print_notes), 0);
    assert_int_equal(lines(), 71);
    assert_non_null(strstr(text, "{\"index\":1,\"number\":1,\"topic\":\"stream.test\",\"events\":1,\"note\":\"note 1\"}\n"));
    assert_non_null(strstr(text, "{\"index\":71,\"note\":\"note 71\"}\n"));
    buf_t packed = {0};
    uint64_t number;
    pack_array(&packed, 2);
    pack_uint(&packed, 7);
    pack_text(&packed, "x");
    spool_begin(spool);
    spool_add(spool, text_make((const char *) packed.data, packed.size), NULL, &number);
    spool_add(spool, text_make("\xff\x01", 2), NULL, &number);
    spool_commit(spool);
    buf_fini(&packed);
    assert_int_equal(run(print_notes), 0);
    assert_non_null(strstr(text, "{\"index\":72,\"note\":[7,\"x\"],\"continues\":true}\n{\"index\":73,\"note\":\"ff01\"}\n"));
}

static void a_torn_tail_is_no_damage(void **state) {
    fill();
    uint64_t *first, size;
    size_t count = segments(&first);
    close_spool();
    size = file_size(segment_path(first[count - 1]));
    assert_int_equal(truncate(segment_path(first[count - 1]), (off_t) size - 20), 0);
    assert_int_equal(run(spool_check), 0);
    assert_non_null(strstr(text, "unfinished"));
    assert_int_equal(run(spool_list), 0);
    assert_non_null(strstr(text, "up to record 70 and frame 70"));
    mem_free(first);
}

static void repairs_by_cutting_off(void **state) {
    fill();
    uint64_t *first;
    size_t count = segments(&first);
    assert_int_equal(run(spool_repair), -1);       /* in use */
    assert_non_null(strstr(err.text, "in use by process"));
    close_spool();
    flip(segment_path(first[1]), 50000);
    assert_int_equal(run(spool_check), 1);
    assert_non_null(strstr(text, "DAMAGED at byte"));
    assert_int_equal(run(print_events), 1);
    assert_non_null(strstr(err.text, "checksum"));
    assert_int_equal(run(spool_repair), 1);
    assert_true(exists(strcat(segment_path(first[1]), ".damaged")));
    for (size_t i = 2; i < count; i++) {
        assert_false(exists(segment_path(first[i])));
        assert_true(exists(strcat(segment_path(first[i]), ".damaged")));
    }
    assert_int_equal(run(spool_check), 0);
    open_spool();
    uint64_t last = spool_index(spool);
    assert_int_equal(last, first[1] + 1);          /* two whole records are before byte 50000 */
    assert_int_equal(spool_identity(spool)->epoch, 2);
    assert_int_equal(spool_identity(spool)->past[0].number, last);
    expect_records(1, last);
    mem_free(first);
}

static void repairs_a_segment_without_a_head(void **state) {
    fill();
    uint64_t *first;
    segments(&first);
    close_spool();
    flip(segment_path(first[1]), 20);
    assert_int_equal(run(spool_check), 1);
    assert_int_equal(run(spool_repair), 1);
    open_spool();
    assert_int_equal(spool_index(spool), first[1] - 1);
    assert_int_equal(spool_identity(spool)->epoch, 2);
    close_spool();
    flip(segment_path(1), 20);                     /* nothing is left: numbers go on */
    assert_int_equal(run(spool_repair), 1);
    open_spool();
    assert_int_equal(segment_count(), 0);
    assert_int_equal(spool_index(spool), first[1] - 1);
    assert_true(spool_identity(spool)->epoch >= 3);
    assert_int_equal(add(10), first[1]);
    mem_free(first);
}

static void says_what_is_no_log(void **state) {
    assert_int_equal(run(spool_check), -1);
    assert_non_null(strstr(err.text, "meta"));
    assert_int_equal(run(print_notes), -1);
    assert_int_equal(run(spool_repair), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, release_text)

int main(void) {
    log_open("test", NULL, LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(a_sound_log_has_no_damage),
        TEST(prints_events_and_notes),
        TEST(a_torn_tail_is_no_damage),
        TEST(repairs_by_cutting_off),
        TEST(repairs_a_segment_without_a_head),
        TEST(says_what_is_no_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
