/* One file of a file sink: whole records, going back, rotation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../cmd/broadcast/output.h"
#include "base/file.h"
#include "base/memory.h"

static char directory[64];
static format_settings_t settings;

static int make_directory(void **state) {
    snprintf(directory, sizeof directory, "/tmp/outputXXXXXX");
    option_defaults(format_options, &settings);
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    char command[128];
    option_fini(format_options, &settings);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static char *path_of(const char *name) {
    return mem_format("%s/%s", directory, name);
}

static output_t *open_output(const char *name) {
    char *path = path_of(name);
    output_t *output = NULL;
    err_t err = {{0}};
    if (output_open(&output, path, format_find("ndjson"), &settings, 0644, &err))
        fail_msg("%s", err.text);
    mem_free(path);
    return output;
}

static void assert_content(const char *name, const char *expected) {
    char *path = path_of(name);
    buf_t content = {0};
    assert_int_equal(file_read(path, 1 << 20, &content, NULL), 0);
    assert_string_equal(buf_text(&content), expected);
    buf_fini(&content);
    mem_free(path);
}

static void put(output_t *output, const char *text) {
    buf_put_text(&output->text, text);
    assert_int_equal(output_write(output, NULL), 0);
}

static void appends_to_what_is_there(void **state) {
    output_t *output = open_output("a");
    put(output, "one\n");
    output_free(output);
    output = open_output("a");
    assert_int_equal(output->size, 4);
    put(output, "two\n");
    output_free(output);
    assert_content("a", "one\ntwo\n");
}

static void goes_back_to_what_was_kept(void **state) {
    output_t *output = open_output("b");
    put(output, "kept\n");
    output_keep(output);
    put(output, "written and not kept\n");
    buf_put_text(&output->text, "collected only\n");
    output_undo(output);
    assert_int_equal(output->size, 5);
    assert_int_equal(output->text.size, 0);
    assert_content("b", "kept\n");
    put(output, "again\n");
    output_free(output);
    assert_content("b", "kept\nagain\n");
}

static void what_was_there_before_is_never_taken_back(void **state) {
    output_t *output = open_output("c");
    put(output, "before\n");
    output_free(output);
    output = open_output("c");
    put(output, "after\n");
    output_undo(output);
    output_free(output);
    assert_content("c", "before\n");
}

static void ends_a_torn_line(void **state) {
    output_t *output = open_output("d");
    put(output, "whole\nto");
    output_free(output);
    output = open_output("d");
    put(output, "next\n");
    output_free(output);
    assert_content("d", "whole\nto\nnext\n");
}

static void rotation_shifts_names_and_deletes_the_oldest(void **state) {
    for (int i = 1; i <= 5; i++) {
        output_t *output = open_output("e");
        char line[16];
        snprintf(line, sizeof line, "%d\n", i);
        put(output, line);
        assert_int_equal(output_rotate(output, 3, NULL), 0);
        output_free(output);
    }
    assert_content("e.1", "5\n");
    assert_content("e.2", "4\n");
    assert_content("e.3", "3\n");
    char *gone = path_of("e"), *oldest = path_of("e.4");
    assert_int_equal(access(gone, F_OK), -1);
    assert_int_equal(access(oldest, F_OK), -1);
    mem_free(gone);
    mem_free(oldest);
}

static void keeping_none_deletes(void **state) {
    output_t *output = open_output("f");
    put(output, "x\n");
    assert_int_equal(output_rotate(output, 0, NULL), 0);
    char *gone = path_of("f");
    assert_int_equal(access(gone, F_OK), -1);
    mem_free(gone);
    output_free(output);
}

static void a_failed_write_says_which_file(void **state) {
    output_t *output;
    err_t err = {{0}};
    assert_int_equal(output_open(&output, "/dev/full", format_find("ndjson"), &settings, 0644, &err), 0);
    buf_put_text(&output->text, "x\n");
    assert_int_equal(output_write(output, &err), -1);
    assert_non_null(strstr(err.text, "/dev/full"));
    assert_non_null(strstr(err.text, "No space left"));
    output_free(output);
}

static void a_directory_is_no_file(void **state) {
    output_t *output = NULL;
    err_t err = {{0}};
    assert_int_equal(output_open(&output, directory, format_find("ndjson"), &settings, 0644, &err), -1);
    assert_null(output);
    assert_non_null(strstr(err.text, directory));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_to_what_is_there),
        cmocka_unit_test(goes_back_to_what_was_kept),
        cmocka_unit_test(what_was_there_before_is_never_taken_back),
        cmocka_unit_test(ends_a_torn_line),
        cmocka_unit_test(rotation_shifts_names_and_deletes_the_oldest),
        cmocka_unit_test(keeping_none_deletes),
        cmocka_unit_test(a_failed_write_says_which_file),
        cmocka_unit_test(a_directory_is_no_file),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
