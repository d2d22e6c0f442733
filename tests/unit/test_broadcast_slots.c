/* The file of progress: what was written last is read, whatever becomes of the write that follows it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../cmd/broadcast/slots.h"
#include "base/file.h"
#include "base/memory.h"

static char directory[64], path[96];

static int setup(void **state) {
    snprintf(directory, sizeof directory, "/tmp/slotsXXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/progress", directory);
    return 0;
}

static int teardown(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static slots_t *open_slots(void) {
    slots_t *slots = NULL;
    err_t err = {{0}};
    if (slots_open(&slots, path, &err))
        fail_msg("%s", err.text);
    return slots;
}

static void put(slots_t *slots, slot_kind_t kind, const char *text) {
    err_t err = {{0}};
    if (slots_write(slots, kind, text_of(text), &err))
        fail_msg("%s", err.text);
}

static void assert_holds(const slots_t *slots, slot_kind_t kind, const char *expected) {
    buf_t text = {0};
    bool found = slots_read(slots, kind, &text);
    assert_int_equal(found, expected != NULL);
    if (expected)
        assert_string_equal(buf_text(&text), expected);
    buf_fini(&text);
}

static void the_newest_of_each_kind_is_read(void **state) {
    slots_t *slots = open_slots();
    assert_holds(slots, SLOT_LIVE, NULL);
    put(slots, SLOT_LIVE, "one");
    put(slots, SLOT_SYNCED, "safe");
    for (int i = 0; i < 5; i++)
        put(slots, SLOT_LIVE, i % 2 ? "odd" : "even, and longer");
    assert_holds(slots, SLOT_LIVE, "even, and longer");
    slots_close(slots);
    slots = open_slots();
    assert_holds(slots, SLOT_LIVE, "even, and longer");
    assert_holds(slots, SLOT_SYNCED, "safe");
    put(slots, SLOT_LIVE, "six");
    slots_close(slots);
    slots = open_slots();
    assert_holds(slots, SLOT_LIVE, "six");
    slots_close(slots);
}

/* Every prefix of a write: either the text before it is read or the new one. */
static void a_write_cut_off_at_any_byte_leaves_the_one_before(void **state) {
    slots_t *slots = open_slots();
    put(slots, SLOT_LIVE, "first");
    put(slots, SLOT_SYNCED, "safe");
    put(slots, SLOT_LIVE, "second");
    buf_t before = {0}, after = {0};
    assert_int_equal(file_read(path, 1 << 20, &before, NULL), 0);
    put(slots, SLOT_LIVE, "the third one");
    assert_int_equal(file_read(path, 1 << 20, &after, NULL), 0);
    slots_close(slots);
    assert_int_equal(before.size, after.size);
    size_t from = 0, to = after.size, olds = 0, news = 0;
    while (before.data[from] == after.data[from])
        from++;
    while (before.data[to - 1] == after.data[to - 1])
        to--;
    assert_true(to - from > 20);
    for (size_t cut = from; cut <= to; cut++) {
        memcpy(before.data, after.data, cut);
        assert_int_equal(file_write_atomic(path, before.data, before.size, 0600, NULL), 0);
        slots = open_slots();
        buf_t text = {0};
        assert_true(slots_read(slots, SLOT_LIVE, &text));
        bool is_new = strcmp(buf_text(&text), "the third one") == 0;
        assert_true(is_new || strcmp(buf_text(&text), "second") == 0);
        news += is_new;
        olds += !is_new;
        assert_holds(slots, SLOT_SYNCED, "safe");
        put(slots, SLOT_LIVE, "and it goes on");
        assert_holds(slots, SLOT_LIVE, "and it goes on");
        slots_close(slots);
        buf_fini(&text);
    }
    assert_int_equal(news, 1);
    assert_true(olds > 20);
    buf_fini(&before);
    buf_fini(&after);
}

static void a_flipped_bit_is_found(void **state) {
    slots_t *slots = open_slots();
    put(slots, SLOT_LIVE, "first");
    put(slots, SLOT_LIVE, "second");
    slots_close(slots);
    buf_t bytes = {0};
    assert_int_equal(file_read(path, 1 << 20, &bytes, NULL), 0);
    uint8_t *at = memmem(bytes.data, bytes.size, "second", 6);
    assert_non_null(at);
    at[3] ^= 4;
    assert_int_equal(file_write_atomic(path, bytes.data, bytes.size, 0600, NULL), 0);
    slots = open_slots();
    assert_holds(slots, SLOT_LIVE, "first");
    slots_close(slots);
    bytes.data[9] ^= 1; /* the header */
    assert_int_equal(file_write_atomic(path, bytes.data, bytes.size, 0600, NULL), 0);
    err_t err = {{0}};
    assert_int_equal(slots_open(&slots, path, &err), -1);
    assert_non_null(strstr(err.text, "--reset"));
    buf_fini(&bytes);
}

static void it_grows_with_its_texts(void **state) {
    slots_t *slots = open_slots();
    put(slots, SLOT_SYNCED, "safe");
    put(slots, SLOT_LIVE, "small");
    size_t size = 300000;
    char *big = mem_zero(size + 1);
    memset(big, 'x', size);
    put(slots, SLOT_LIVE, big);
    assert_holds(slots, SLOT_LIVE, big);
    assert_holds(slots, SLOT_SYNCED, "safe");
    slots_close(slots);
    slots = open_slots();
    assert_holds(slots, SLOT_LIVE, big);
    assert_holds(slots, SLOT_SYNCED, "safe");
    put(slots, SLOT_LIVE, "small again");
    put(slots, SLOT_SYNCED, "safer");
    slots_close(slots);
    slots = open_slots();
    assert_holds(slots, SLOT_LIVE, "small again");
    assert_holds(slots, SLOT_SYNCED, "safer");
    slots_close(slots);
    mem_free(big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_of_each_kind_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_write_cut_off_at_any_byte_leaves_the_one_before, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(it_grows_with_its_texts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
