/* Error texts: what they hold, what they survive, and the panic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "child.h"

static void set_and_wrap(void **state) {
    err_t err = {{0}};
    assert_int_equal(err_set(&err, "open %s: %d", "x", 7), -1);
    assert_string_equal(err.text, "open x: 7");
    assert_int_equal(err_wrap(&err, "--from %s", "-"), -1);
    assert_string_equal(err.text, "--from -: open x: 7");
}

static void null_is_legal(void **state) {
    errno = ENOENT;
    assert_int_equal(err_set(NULL, "a"), -1);
    assert_int_equal(err_wrap(NULL, "a"), -1);
    assert_int_equal(err_errno(NULL, "a"), -1);
    assert_int_equal(errno, ENOENT);
}

static void errno_is_named_and_kept(void **state) {
    err_t err = {{0}};
    errno = ENOENT;
    assert_int_equal(err_errno(&err, "open %s", "/x"), -1);
    assert_int_equal(errno, ENOENT);
    assert_string_equal(err.text, "open /x: No such file or directory");
    err_set(&err, "other");
    errno = EACCES;
    err_wrap(&err, "w");
    assert_int_equal(errno, EACCES);
}

static void arguments_may_be_the_text_itself(void **state) {
    err_t err = {{0}};
    err_set(&err, "inner");
    err_set(&err, "outer (%s)", err.text);
    assert_string_equal(err.text, "outer (inner)");
    errno = EIO;
    err_errno(&err, "again %s", err.text);
    assert_string_equal(err.text, "again outer (inner): Input/output error");
    err_wrap(&err, "%.5s", err.text);
    assert_string_equal(err.text, "again: again outer (inner): Input/output error");
}

/* A name of any length must not push out why it failed. */
static void long_names_leave_the_reason(void **state) {
    char name[5000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    err_t err = {{0}};
    errno = ENAMETOOLONG;
    err_errno(&err, "open %s", name);
    assert_non_null(strstr(err.text, ": File name too long"));
    assert_int_equal(strncmp(err.text, "open nnn", 8), 0);
    err_set(&err, "the reason");
    err_wrap(&err, "%s", name);
    assert_non_null(strstr(err.text, "...: the reason"));
    err_set(&err, "%s", name); /* both too long: something of each */
    memset(name, 'p', sizeof name - 1);
    err_wrap(&err, "%s", name);
    assert_int_equal(err.text[0], 'p');
    assert_non_null(strstr(err.text, ": nnn"));
    assert_true(strlen(err.text) < sizeof err.text);
}

/* Texts go into JSON answers: they stay UTF-8 even where they are cut, and where the user's bytes are not. */
static void texts_are_valid_utf8(void **state) {
    err_t err = {{0}};
    for (int shift = 0; shift < 3; shift++) {
        char name[3000] = "abc";
        name[shift] = 0;
        while (strlen(name) + 3 < sizeof name)
            strcat(name, "\xE2\x82\xAC");
        err_set(&err, "%s", name);
        assert_int_equal(text_utf8_valid(err.text, strlen(err.text)), strlen(err.text));
        errno = EIO;
        err_errno(&err, "%s", name);
        assert_int_equal(text_utf8_valid(err.text, strlen(err.text)), strlen(err.text));
        err_wrap(&err, "%s", name);
        assert_int_equal(text_utf8_valid(err.text, strlen(err.text)), strlen(err.text));
    }
    err_set(&err, "file a\xFF\xC3z");
    assert_string_equal(err.text, "file a??z");
}

static void broken(void *argument) {
    ASSERT(argument != NULL);
}

static void panic_names_the_place(void **state) {
    child_t child;
    child_run(&child, broken, NULL);
    assert_true(child_aborted(&child));
    assert_non_null(strstr(child.text, "panic: "));
    assert_non_null(strstr(child.text, "test_err.c:"));
    assert_non_null(strstr(child.text, "argument != NULL"));
    child_run(&child, broken, &child);
    assert_int_equal(child.status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_and_wrap),
        cmocka_unit_test(null_is_legal),
        cmocka_unit_test(errno_is_named_and_kept),
        cmocka_unit_test(arguments_may_be_the_text_itself),
        cmocka_unit_test(long_names_leave_the_reason),
        cmocka_unit_test(texts_are_valid_utf8),
        cmocka_unit_test(panic_names_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
