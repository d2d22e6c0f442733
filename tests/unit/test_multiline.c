/* Records of several lines: which lines belong together, where records end that have no end, and that a restart ends them at the same line. */
#include "format_harness.h"

static void check(const char *options, const char *text, const char *expected) {
    harness_check("lines", options, text, expected);
}

static void test_indent(void **state) {
    check("multiline=indent", "one\n two\n\tthree\nfour\n\nfive\n  six", "{\"message\":\"one\\n two\\n\\tthree\"}\n{\"message\":\"four\"}\n{\"message\":\"five\\n  six\"}\n");
    check("multiline=indent", "  first\n second\r\n", "{\"message\":\"  first\\n second\"}\n");
}

static void test_java(void **state) {
    check("multiline=java",
          "ERROR it failed\njava.io.IOException: disk\n\tat a.B.c(B.java:1)\n\t... 2 more\nCaused by: x.Y: z\n\tat a.B.d(B.java:2)\nINFO next\n"
          "java.lang.Error\n\tat m.N.o(N.java:3)\njava.lang.Error: again\n\tat m.N.p(N.java:4)\n",
          "{\"message\":\"ERROR it failed\\njava.io.IOException: disk\\n\\tat a.B.c(B.java:1)\\n\\t... 2 more\\nCaused by: x.Y: z\\n\\tat a.B.d(B.java:2)\"}\n"
          "{\"message\":\"INFO next\\njava.lang.Error\\n\\tat m.N.o(N.java:3)\"}\n{\"message\":\"java.lang.Error: again\\n\\tat m.N.p(N.java:4)\"}\n");
}

static void test_python(void **state) {
    check("multiline=python",
          "INFO a\nERROR it failed\nTraceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f()\nValueError: bad\n\n"
          "During handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"a.py\", line 3\nx.Other\nINFO b\n",
          "{\"message\":\"INFO a\"}\n{\"message\":\"ERROR it failed\\nTraceback (most recent call last):\\n  File \\\"a.py\\\", line 1, in <module>\\n    f()\\nValueError: bad\\n\\n"
          "During handling of the above exception, another exception occurred:\\n\\nTraceback (most recent call last):\\n  File \\\"a.py\\\", line 3\\nx.Other\"}\n"
          "{\"message\":\"INFO b\"}\n");
    check("multiline=python", "Traceback (most recent call last):\n  f\nKeyError\nTraceback (most recent call last):\n  g\nKeyError: 1\n",
          "{\"message\":\"Traceback (most recent call last):\\n  f\\nKeyError\"}\n{\"message\":\"Traceback (most recent call last):\\n  g\\nKeyError: 1\"}\n");
}

static void test_go(void **state) {
    check("multiline=go",
          "starting\npanic: oh no\n\ngoroutine 1 [running]:\nmain.(*T).f(0xc000, {0x1, 0x2})\n\t/a/b.go:7 +0x1d\ncreated by main.main\n\t/a/b.go:3\nexit status 2\nstarting again\n",
          "{\"message\":\"starting\"}\n{\"message\":\"panic: oh no\\n\\ngoroutine 1 [running]:\\nmain.(*T).f(0xc000, {0x1, 0x2})\\n\\t/a/b.go:7 +0x1d\\ncreated by main.main\\n"
          "\\t/a/b.go:3\\nexit status 2\"}\n{\"message\":\"starting again\"}\n");
}

static void test_patterns(void **state) {
    check("multiline-start=^\\d+", "before\n1 a\nb\n2 c\n3\nd\ne", "{\"message\":\"before\"}\n{\"message\":\"1 a\\nb\"}\n{\"message\":\"2 c\"}\n{\"message\":\"3\\nd\\ne\"}\n");
    check("multiline-continue=^\\+", "a\n+b\n+c\nd\n+", "{\"message\":\"a\\n+b\\n+c\"}\n{\"message\":\"d\\n+\"}\n");
    harness_check("regex", "multiline=indent pattern=(?s)^(?<head>\\w+)(?<rest>.*)$", "a\n b\n c\nd\n",
                  "{\"head\":\"a\",\"rest\":\"\\n b\\n c\"}\n{\"head\":\"d\",\"rest\":null}\n");
}

static void test_limits(void **state) {
    check("multiline=indent multiline-lines=2", "a\n b\n c\n d\n e\nf", "{\"message\":\"a\\n b\"}\n{\"message\":\" c\\n d\"}\n{\"message\":\" e\"}\n{\"message\":\"f\"}\n");
    check("multiline=indent max-record=16", "1234567\n 123456\n 8\n this line alone is too long\n 9\n",
          "{\"message\":\"1234567\\n 123456\"}\n{\"message\":\" 8\"}\nbad 3: longer than 16 bytes (--max-record)\n{\"message\":\" 9\"}\n");
}

/* The last record is cut for want of more; a decoder that begins there again, with more behind it by then, gives the same records. */
static void test_cut(void **state) {
    const char *text = "a\n b\n c\nd\n", *first = "a\n b\n";
    format_settings_t settings;
    harness_t harness = {0};
    err_t err;
    harness_defaults(&settings);
    harness_set(&settings, "multiline", "indent");
    harness.target = (decode_target_t){.builder = &harness.builder, .ingest_time = HARNESS_INGEST, .committed = harness_committed, .bad = harness_bad, .argument = &harness};
    decoder_t *decoder, *again;
    assert_int_equal(format_find("lines")->decoder_open(&decoder, &settings, &err), 0);
    assert_int_equal(format_find("lines")->decoder_open(&again, &settings, &err), 0);
    assert_false(decoder_waits(decoder));
    assert_int_equal(decoder_feed(decoder, first, 6, false, &harness.target), 0);
    assert_true(decoder_waits(decoder));
    decoder->class->cut(decoder);
    uint64_t saved = decoder_state(decoder);
    assert_int_equal(decoder_feed(decoder, first, 6, false, &harness.target), 5);
    assert_int_equal(decoder_state(decoder), 0);
    assert_true(decoder_waits(decoder) == false);
    decoder_restore(again, saved, 0);
    assert_int_equal(decoder_feed(again, text, 10, true, &harness.target), 10);
    assert_string_equal(buf_text(&harness.out), "{\"message\":\"a\\n b\"}\n{\"message\":\"a\\n b\"}\n{\"message\":\" c\"}\n{\"message\":\"d\"}\n");
    decoder_free(decoder);
    decoder_free(again);
    builder_fini(&harness.builder);
    buf_fini(&harness.out);
    option_fini(format_options, &settings);
}

static void refused(const char *name, const char *value, const char *other, const char *words) {
    format_settings_t settings;
    decoder_t *decoder;
    err_t err;
    harness_defaults(&settings);
    harness_set(&settings, name, value);
    if (other)
        harness_set(&settings, other, "x");
    assert_int_equal(format_find("lines")->decoder_open(&decoder, &settings, &err), -1);
    assert_non_null(strstr(err.text, words));
    option_fini(format_options, &settings);
}

static void test_what_cannot_be_is_told(void **state) {
    refused("multiline", "jawa", NULL, "did you mean java?");
    refused("multiline", "java", "multiline-start", "not several");
    refused("multiline-start", "(x", NULL, "--multiline-start, byte 3");
    refused("multiline-continue", "[", NULL, "--multiline-continue, byte");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_indent), cmocka_unit_test(test_java), cmocka_unit_test(test_python), cmocka_unit_test(test_go), cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_cut), cmocka_unit_test(test_what_cannot_be_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
