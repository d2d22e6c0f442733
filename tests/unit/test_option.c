/* Option tables: every type from text, JSON and URL queries, at its edges; help, description, suggestions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/option.h"

typedef struct settings {
    char *text, *secret, *path;
    bool flag;
    int64_t count, wait, any;
    double factor;
    uint64_t size;
    int choice;
    option_list_t list;
} settings_t;

#define AT(field) offsetof(settings_t, field)

static const option_t table[] = {
    {"text", OPTION_TEXT, AT(text), "default", "TEXT", "a text", .letter = 't'},
    {"secret", OPTION_SECRET, AT(secret), NULL, NULL, "a secret"},
    {"some-path", OPTION_TEXT, AT(path), NULL, "FILE", "a path"},
    {"flag", OPTION_BOOL, AT(flag), "false", NULL, "a flag"},
    {"count", OPTION_INT, AT(count), "5", "N", "a count", -10, 10},
    {"any", OPTION_INT, AT(any), NULL, "N", "any number"},
    {"wait", OPTION_DURATION, AT(wait), "1s", "DURATION", "a time", 1000000, 60000000000},
    {"factor", OPTION_NUMBER, AT(factor), "1.5", NULL, "a factor"},
    {"size", OPTION_SIZE, AT(size), "64KiB", NULL, "a size", 1024, 1 << 30},
    {"choice", OPTION_CHOICE, AT(choice), "two", "one|two|three", "a choice"},
    {"list", OPTION_LIST, AT(list), NULL, "ITEM", "a list"},
    {0},
};

static settings_t settings;
static err_t err;

static int set_up(void **state) {
    memset(&settings, 0, sizeof settings);
    memset(&err, 0, sizeof err);
    option_defaults(table, &settings);
    return 0;
}

static int tear_down(void **state) {
    option_fini(table, &settings);
    option_fini(table, &settings); /* again: nothing */
    return 0;
}

static int set(const char *name, const char *value) {
    const option_t *option = option_find(table, text_of(name));
    assert_non_null(option);
    return option_set(option, &settings, text_of(value), &err);
}

static int set_bytes(const char *name, const char *value, size_t size) {
    return option_set(option_find(table, text_of(name)), &settings, text_make(value, size), &err);
}

static int set_json(const char *name, const char *json) {
    json_t *value = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(value);
    int result = option_set_json(option_find(table, text_of(name)), &settings, value, &err);
    json_decref(value);
    return result;
}

static void expect_error(int result, const char *name, const char *part) {
    assert_int_equal(result, -1);
    if (strncmp(err.text, name, strlen(name)) != 0 || !strstr(err.text, part))
        fail_msg("error text: %s", err.text);
}

static void defaults(void **state) {
    assert_string_equal(settings.text, "default");
    assert_null(settings.secret);
    assert_false(settings.flag);
    assert_int_equal(settings.count, 5);
    assert_int_equal(settings.wait, 1000000000);
    assert_true(settings.factor == 1.5);
    assert_int_equal(settings.size, 65536);
    assert_int_equal(settings.choice, 1);
    assert_int_equal(settings.list.count, 0);
}

static void names(void **state) {
    assert_ptr_equal(option_find(table, text_of("some-path")), &table[2]);
    assert_ptr_equal(option_find(table, text_of("some_path")), &table[2]);
    assert_null(option_find(table, text_of("some")));
    assert_null(option_find(table, text_of("some-path-x")));
    assert_null(option_find(table, text_of("")));
    assert_null(option_find(table, (text_t){0}));
    assert_null(option_find(table, text_make("text\0", 5)));
    assert_null(option_find(NULL, text_of("text")));
}

static void texts(void **state) {
    assert_int_equal(set("text", "x"), 0);
    assert_string_equal(settings.text, "x");
    assert_int_equal(set("text", ""), 0);
    assert_string_equal(settings.text, "");
    expect_error(set_bytes("text", "a\0b", 3), "text", "NUL");
    expect_error(set_bytes("secret", "a\0b", 3), "secret", "NUL");
    expect_error(set_bytes("list", "a\0b", 3), "list", "NUL");
    expect_error(set_json("list", "[\"x\", \"a\\u0000b\"]"), "list", "NUL");
    expect_error(set_json("text", "\"a\\u0000b\""), "text", "NUL");
    assert_string_equal(settings.text, "");
    assert_int_equal(settings.list.count, 0);
    assert_int_equal(set_bytes("text", NULL, 0), 0);
    expect_error(set_json("text", "5"), "text", "a string");
    expect_error(set_json("secret", "null"), "secret", "a string");
    char *large = mem_alloc(1000000);
    memset(large, 'x', 1000000);
    assert_int_equal(set_bytes("text", large, 1000000), 0);
    assert_int_equal(strlen(settings.text), 1000000);
    mem_free(large);
}

static void flags(void **state) {
    assert_int_equal(set("flag", "yes"), 0);
    assert_true(settings.flag);
    expect_error(set("flag", "perhaps"), "flag", "true or false");
    expect_error(set_json("flag", "1"), "flag", "true or false");
    assert_true(settings.flag);
    assert_int_equal(set_json("flag", "false"), 0);
    assert_false(settings.flag);
    assert_int_equal(set_json("flag", "\"on\""), 0);
    assert_true(settings.flag);
}

static void integers(void **state) {
    assert_int_equal(set("count", "-10"), 0);
    assert_int_equal(set("count", "10"), 0);
    expect_error(set("count", "11"), "count", "between -10 and 10");
    expect_error(set("count", "-11"), "count", "between");
    expect_error(set("count", "9223372036854775808"), "count", "whole number");
    expect_error(set("count", "1.5"), "count", "whole number");
    expect_error(set("count", ""), "count", "whole number");
    expect_error(set_json("count", "1.0"), "count", "whole number");
    expect_error(set_json("count", "11"), "count", "between");
    expect_error(set_json("count", "true"), "count", "whole number");
    assert_int_equal(settings.count, 10);
    assert_int_equal(set_json("count", "-3"), 0);
    assert_int_equal(settings.count, -3);
    assert_int_equal(set_json("count", "\"7\""), 0);
    assert_int_equal(settings.count, 7);
    assert_int_equal(set("any", "-9223372036854775808"), 0);
    assert_true(settings.any == INT64_MIN);
    assert_int_equal(set_json("any", "9223372036854775807"), 0);
    assert_true(settings.any == INT64_MAX);
}

static void durations(void **state) {
    assert_int_equal(set("wait", "1m"), 0);
    assert_int_equal(settings.wait, 60000000000);
    expect_error(set("wait", "61s"), "wait", "between 1ms and 1m");
    expect_error(set("wait", "0"), "wait", "between");
    expect_error(set("wait", "5"), "wait", "duration"); /* 5 of what? */
    assert_int_equal(set_json("wait", "5"), 0);
    assert_int_equal(settings.wait, 5000000000);
    assert_int_equal(set_json("wait", "0.25"), 0);
    assert_int_equal(settings.wait, 250000000);
    expect_error(set_json("wait", "-1"), "wait", "duration");
    expect_error(set_json("wait", "1e300"), "wait", "duration");
    expect_error(set_json("wait", "9223372036854775807"), "wait", "duration");
    expect_error(set_json("wait", "[]"), "wait", "duration");
    assert_int_equal(settings.wait, 250000000);
}

static void numbers(void **state) {
    static const char *const good[] = {"0", "-1.5", "2e3", "1E-3", "+4", "-0", "1e308"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(set("factor", good[i]), 0);
        assert_true(settings.factor == strtod(good[i], NULL));
    }
    settings.factor = 3;
    static const char *const bad[] = {"", " 1", "1 ", "nan", "inf", "-inf", "infinity", "0x10", "1e999", "-1e999", "1,5", "1.5x", "nan(1)", "e"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!set("factor", bad[i]))
            fail_msg("%s was taken", bad[i]);
        expect_error(-1, "factor", "number");
    }
    expect_error(set_bytes("factor", "1\0x", 3), "factor", "number");
    expect_error(set_json("factor", "true"), "factor", "number");
    assert_true(settings.factor == 3);
    assert_int_equal(set_json("factor", "7"), 0);
    assert_true(settings.factor == 7);
}

static void sizes(void **state) {
    assert_int_equal(set("size", "1KiB"), 0);
    assert_int_equal(settings.size, 1024);
    expect_error(set("size", "1023"), "size", "between");
    expect_error(set("size", "2GiB"), "size", "between");
    expect_error(set("size", "-1"), "size", "size in bytes");
    expect_error(set_json("size", "-1"), "size", "a size");
    expect_error(set_json("size", "1.5"), "size", "a size");
    expect_error(set_json("size", "1"), "size", "between");
    assert_int_equal(settings.size, 1024);
    assert_int_equal(set_json("size", "2048"), 0);
    assert_int_equal(settings.size, 2048);
    assert_int_equal(set_json("size", "\"1MB\""), 0);
    assert_int_equal(settings.size, 1000000);
}

static void choices(void **state) {
    assert_int_equal(set("choice", "three"), 0);
    assert_int_equal(settings.choice, 2);
    expect_error(set("choice", "four"), "choice", "one of one|two|three, not \"four\"");
    expect_error(set("choice", ""), "choice", "one of");
    expect_error(set("choice", "one|two"), "choice", "one of");
    expect_error(set("choice", "o"), "choice", "one of");
    expect_error(set("choice", "x\n2026 forged line"), "choice", "x\\n2026");
    expect_error(set_json("choice", "1"), "choice", "a string");
    assert_int_equal(settings.choice, 2);
}

static void lists(void **state) {
    assert_int_equal(set("list", "a"), 0);
    assert_int_equal(set_json("list", "\"b\""), 0);
    assert_int_equal(set_json("list", "[\"c\", \"\"]"), 0);
    expect_error(set_json("list", "[\"d\", 5]"), "list", "array of strings");
    expect_error(set_json("list", "{}"), "list", "array of strings");
    assert_int_equal(set_json("list", "[]"), 0);
    assert_int_equal(settings.list.count, 4); /* nothing of what failed */
    assert_string_equal(settings.list.items[0], "a");
    assert_string_equal(settings.list.items[1], "b");
    assert_string_equal(settings.list.items[2], "c");
    assert_string_equal(settings.list.items[3], "");
}

static void secrets_stay_out_of_messages(void **state) {
    assert_int_equal(set("secret", "hunter2"), 0);
    expect_error(set_bytes("secret", "hunter2\0", 8), "secret", "NUL");
    assert_null(strstr(err.text, "hunter2"));
    char *rest = NULL;
    assert_int_equal(option_from_query(table, &settings, "mqtt://me:hunter2@host/t?txet=1", &rest, NULL, &err), -1);
    assert_null(strstr(err.text, "hunter2"));
    assert_non_null(strstr(err.text, "host/t"));
    assert_non_null(strstr(err.text, "did you mean text?"));
    assert_int_equal(option_from_query(table, &settings, "mqtt://me:hunt@er2@host/t?count=x", &rest, NULL, &err), -1);
    assert_null(strstr(err.text, "er2"));
    assert_int_equal(option_from_query(table, &settings, "x:hunter2@y?count=x", &rest, NULL, &err), -1); /* no URL: all of it is shown */
    assert_non_null(strstr(err.text, "x:hunter2@y"));
    assert_null(rest);
}

static void queries(void **state) {
    char *rest = NULL;
    assert_int_equal(option_from_query(table, &settings, "file.csv", &rest, NULL, &err), 0);
    assert_string_equal(rest, "file.csv");
    mem_free(rest);
    assert_int_equal(option_from_query(table, &settings, "?", &rest, NULL, &err), 0);
    assert_string_equal(rest, "");
    mem_free(rest);
    assert_int_equal(option_from_query(table, &settings,
                                       "ipc:///x?text=a%20b%26c%3d%C3%A4&&count=-2&flag&list=1&list=2=3&some_path=&wait=2s&", &rest, NULL,
                                       &err), 0);
    assert_string_equal(rest, "ipc:///x");
    mem_free(rest);
    assert_string_equal(settings.text, "a b&c=\xC3\xA4");
    assert_int_equal(settings.count, -2);
    assert_true(settings.flag);
    assert_int_equal(settings.list.count, 2);
    assert_string_equal(settings.list.items[1], "2=3");
    assert_string_equal(settings.path, "");
    assert_int_equal(settings.wait, 2000000000);
    static const struct {
        const char *query, *text;
    } escapes[] = {{"?text=%", "%"}, {"?text=%4", "%4"}, {"?text=%41", "A"}, {"?text=%4g", "%4g"}, {"?text=%g1", "%g1"},
                   {"?text=%%41", "%A"}, {"?text=a?b", "a?b"}, {"?text=%2541", "%41"}, {"?text=+", "+"}, {"?text=%FF", "\xFF"}};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        assert_int_equal(option_from_query(table, &settings, escapes[i].query, &rest, NULL, &err), 0);
        assert_string_equal(settings.text, escapes[i].text);
        mem_free(rest);
    }
    rest = NULL;
    assert_int_equal(option_from_query(table, &settings, "u?text=%00", &rest, NULL, &err), -1);
    assert_int_equal(option_from_query(table, &settings, "u?count", &rest, NULL, &err), -1);
    assert_int_equal(option_from_query(table, &settings, "u?=5", &rest, NULL, &err), -1);
    assert_int_equal(option_from_query(table, &settings, "u?count=11", &rest, NULL, &err), -1);
    assert_string_equal(err.text, "u: count takes a value between -10 and 10");
    assert_int_equal(option_from_query(NULL, &settings, "u?a=1", &rest, NULL, &err), -1); /* no options at all */
    assert_non_null(strstr(err.text, "unknown option a"));
    assert_null(rest);
}

static void unknown_names(void **state) {
    static const option_t second[] = {{"batch-size", OPTION_INT, 0, NULL, NULL, "x"}, {0}};
    const option_t *const tables[] = {table, second, NULL}, *const none[] = {NULL};
    assert_int_equal(option_unknown(tables, text_of("batch_siz"), &err), -1);
    assert_string_equal(err.text, "unknown option batch_siz; did you mean batch-size?");
    assert_int_equal(option_unknown(tables, text_of("qqqqqq"), &err), -1);
    assert_string_equal(err.text, "unknown option qqqqqq");
    option_unknown(none, text_of("x"), &err);
    assert_string_equal(err.text, "unknown option x");
    option_unknown(tables, text_make("text\nforged\0 line", 17), &err);
    assert_null(strchr(err.text, '\n'));
    option_unknown(tables, text_of(""), &err);
    assert_string_equal(err.text, "unknown option \"\"");
}

static void help(void **state) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    option_help(table, out);
    fclose(out);
    assert_non_null(strstr(text, "  -t, --text TEXT                 a text (default default)\n"));
    assert_non_null(strstr(text, "      --flag                      a flag\n"));
    assert_non_null(strstr(text, "      --choice one|two|three      a choice (default two)\n"));
    assert_non_null(strstr(text, "      --list ITEM                 a list (may be repeated)\n"));
    assert_non_null(strstr(text, "      --factor NUMBER             a factor (default 1.5)\n"));
    free(text);
    static const option_t long_table[] = {
        {"a-name-that-is-longer-than-the-column", OPTION_TEXT, 0, NULL, "A-LONG-VALUE", "help"}, {0}};
    out = open_memstream(&text, &size);
    option_help(long_table, out);
    option_help(NULL, out);
    fclose(out);
    assert_string_equal(text, "      --a-name-that-is-longer-than-the-column A-LONG-VALUE\n                                  help\n");
    free(text);
}

static void description(void **state) {
    json_t *list = option_describe(table);
    assert_int_equal(json_array_size(list), sizeof table / sizeof *table - 1);
    json_t *count = json_array_get(list, 4);
    assert_string_equal(json_string_value(json_object_get(count, "name")), "count");
    assert_string_equal(json_string_value(json_object_get(count, "type")), "int");
    assert_string_equal(json_string_value(json_object_get(count, "default")), "5");
    assert_int_equal(json_integer_value(json_object_get(count, "minimum")), -10);
    assert_int_equal(json_integer_value(json_object_get(count, "maximum")), 10);
    assert_null(json_object_get(json_array_get(list, 5), "minimum"));
    assert_null(json_object_get(json_array_get(list, 1), "default"));
    static const char *const types[] = {"text", "secret", "text", "bool", "int", "int", "duration", "number", "size", "choice", "list"};
    for (size_t i = 0; i < json_array_size(list); i++)
        assert_string_equal(json_string_value(json_object_get(json_array_get(list, i), "type")), types[i]);
    json_decref(list);
    list = option_describe(NULL);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
}

#define OPTION_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        OPTION_TEST(defaults), OPTION_TEST(names), OPTION_TEST(texts), OPTION_TEST(flags), OPTION_TEST(integers),
        OPTION_TEST(durations), OPTION_TEST(numbers), OPTION_TEST(sizes), OPTION_TEST(choices), OPTION_TEST(lists),
        OPTION_TEST(secrets_stay_out_of_messages), OPTION_TEST(queries), OPTION_TEST(unknown_names), OPTION_TEST(help),
        OPTION_TEST(description),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
