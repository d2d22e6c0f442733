/* Options that mean nothing without another one: what their tables say of that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/memory.h"
#include "data/option.h"

typedef struct settings {
    bool follow, safe;
    char *group, *format, *file;
    int mode;
    int64_t size, wait;
    option_list_t tables;
} settings_t;

#define AT(field) offsetof(settings_t, field)
static const option_t table[] = {
    {"follow", OPTION_BOOL, AT(follow), "no", NULL, "h", .needs = "mode=poll|push"},
    {"safe", OPTION_BOOL, AT(safe), "yes", NULL, "h", .needs = "mode=poll"},
    {"group", OPTION_TEXT, AT(group), NULL, "NAME", "h", .needs = "!follow"},
    {"mode", OPTION_CHOICE, AT(mode), "poll", "poll|push|cdc", "h"},
    {"size", OPTION_INT, AT(size), "0", "N", "h", .needs = "group or tables or @tls:a wss:// or mqtts:// address"},
    {"wait", OPTION_DURATION, AT(wait), "5s", "DURATION", "h", .needs = "format=csv|tsv, follow"},
    {"file", OPTION_TEXT, AT(file), NULL, "FILE", "h", .readable = true},
    {"tables", OPTION_LIST, AT(tables), NULL, "NAME", "h", .needs = "size"},
    {0},
};
static const option_t others[] = {
    {"format", OPTION_TEXT, AT(format), NULL, "FORMAT", "h"},
    {0},
};

static settings_t settings;
static option_given_t given;
static int tls;

static int set_up(void **state) {
    option_defaults(table, &settings);
    tls = 0;
    return 0;
}

static int tear_down(void **state) {
    option_fini(table, &settings);
    option_fini(others, &settings);
    option_given_fini(&given);
    return 0;
}

static int holds(const void *argument, text_t name, text_t value) {
    assert_ptr_equal(argument, &tls);
    return text_is(name, "tls") ? tls : -1;
}

static void give(const char *name, const char *value) {
    const option_t *option = option_find(table, text_of(name));
    if (!option)
        option = option_find(others, text_of(name));
    err_t err;
    assert_non_null(option);
    assert_int_equal(option_set(option, &settings, text_of(value), &err), 0);
    option_note(&given, option);
}

/* NULL: all that was given is of use. */
static void expect(const char *error) {
    const option_scope_t scope = {.tables = {table, others}, .settings = {&settings, &settings}, .holds = holds, .argument = &tls};
    err_t err = {{0}};
    int result = option_check_needs(&given, &scope, &err);
    assert_string_equal(err.text, error ? error : "");
    assert_int_equal(result, error ? -1 : 0);
}

static void a_file_must_be_there(void **state) {
    const option_scope_t scope = {.tables = {others, table}, .settings = {&settings, &settings}};
    err_t err = {{0}};
    assert_int_equal(option_check_files(&given, &scope, &err), 0);
    give("file", "/dev/null");
    assert_int_equal(option_check_files(&given, &scope, &err), 0);
    give("file", "/no/such/file");
    assert_int_equal(option_check_files(&given, &scope, &err), -1);
    assert_string_equal(err.text, "--file /no/such/file: No such file or directory");
    give("file", "/");
    assert_int_equal(option_check_files(&given, &scope, &err), -1);
    assert_string_equal(err.text, "--file /: is a directory, not a file");
}

static void nothing_given(void **state) {
    settings.mode = 2;
    expect(NULL);                      /* defaults are nobody's wish */
}

static void a_value_of_another(void **state) {
    give("follow", "yes");
    expect(NULL);
    give("mode", "cdc");
    expect("--follow needs --mode poll or push");
    give("mode", "push");
    expect(NULL);
}

static void a_switch_that_says_its_default(void **state) {
    give("mode", "cdc");
    give("follow", "no");
    give("safe", "yes");
    expect(NULL);
    give("safe", "no");
    expect("--safe needs --mode poll");
}

static void the_default_said_aloud_is_a_wish_all_the_same(void **state) {
    give("wait", "5s");
    expect("--wait needs --format csv or tsv");
}

static void all_conditions_count(void **state) {
    give("format", "tsv");
    give("wait", "1s");
    expect("--wait needs --follow");
    give("follow", "yes");
    expect(NULL);
    give("format", "lines");
    expect("--wait needs --format csv or tsv");
}

static void not_together(void **state) {
    give("group", "g");
    expect(NULL);
    give("follow", "yes");
    expect("--group goes without --follow");
}

static void one_of_several_and_facts(void **state) {
    give("size", "5");
    expect("--size needs --group or --tables or a wss:// or mqtts:// address");
    tls = 1;
    expect(NULL);
    tls = 0;
    give("tables", "t");
    expect(NULL);
}

static void zero_is_as_if_not_given(void **state) {
    give("tables", "t");
    give("size", "0");
    expect("--tables needs --size");
}

static void of_a_query(void **state) {
    char *rest = NULL;
    err_t err;
    assert_int_equal(option_from_query(table, &settings, "x?mode=cdc&follow", &rest, &given, &err), 0);
    assert_int_equal(given.count, 2);
    expect("--follow needs --mode poll or push");
    mem_free(rest);
}

static bool cdc(const void *argument, text_t name, text_t value) {
    return text_is(name, "mode") && text_is(value, "cdc");
}

static void in_json_keys_are_named(void **state) {
    static const option_t option = {"sync-interval", OPTION_DURATION, 0, NULL, "D", "h", .needs = "mode=cdc, state-dir"};
    err_t err = {{0}};
    assert_int_equal(option_check_needs_json(&option, cdc, NULL, &err), -1);
    assert_string_equal(err.text, "\"sync_interval\" needs \"state_dir\"");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(nothing_given), TEST(a_value_of_another), TEST(a_switch_that_says_its_default), TEST(the_default_said_aloud_is_a_wish_all_the_same),
        TEST(all_conditions_count), TEST(not_together), TEST(one_of_several_and_facts), TEST(zero_is_as_if_not_given), TEST(of_a_query),
        TEST(a_file_must_be_there),
        TEST(in_json_keys_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
