/* The skeleton's command line and settings, in a process of its own as a user starts it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/mman.h>
#include <sysexits.h>

#include "stage_tool.h"

static tool_run_t run;
static char path[64];

static int set_up(void **state) {
    strcpy(path, "/tmp/test_stage_options.XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    run = (tool_run_t){.in = -1};
    return 0;
}

static int tear_down(void **state) {
    tool_run_fini(&run);
    return unlink(path);
}

static int run_tool(const char *const *arguments) {
    tool_run_fini(&run);
    tool_whole(&run, "", arguments);
    return run.status;
}
#define RUN(...) run_tool((const char *const[]){__VA_ARGS__, NULL})

static void expect_usage_error(const char *part) {
    if (run.status != EX_USAGE || !tool_says(&run, part))
        fail_msg("status %d: %s", run.status, tool_errors(&run));
    assert_non_null(strstr(tool_errors(&run), "Try 'relay --help'.\n"));
    assert_int_equal(strncmp(tool_errors(&run), "relay: ", 7), 0);
}

/* --dump prints to standard output before the (empty) input is relayed. */
static void expect_dump(const char *part) {
    if (run.status != 0 || !strstr(tool_text(&run), part))
        fail_msg("status %d: %s%s", run.status, tool_text(&run), tool_errors(&run));
}

static void help_and_version(void **state) {
    assert_int_equal(RUN("relay", "--help"), 0);
    static const char *const parts[] = {"usage: relay [ARGUMENT]... [OPTION]...\n", "Passes events on.\n", "  -c, --copies N ", "--from LINK", "--to LINK",
                                        "--batch-size N", "--settings FILE|fd:N", "--time", "drivers: one\n", "See relay(1)."};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(tool_text(&run), parts[i]))
            fail_msg("%s is not in %s", parts[i], tool_text(&run));
    assert_string_equal(tool_errors(&run), "");
    assert_int_equal(RUN("relay", "-h"), 0);
    assert_non_null(strstr(tool_text(&run), "usage:"));
    assert_int_equal(RUN("relay", "--version"), 0);
    assert_string_equal(tool_text(&run), "relay " VERSION "\n");
    assert_int_equal(RUN("sink", "--help"), 0);
    assert_null(strstr(tool_text(&run), "--to LINK"));
    assert_int_equal(RUN("source", "--help"), 0);
    assert_null(strstr(tool_text(&run), "--from LINK"));
    assert_int_equal(RUN("bare", "--help"), 0);
}

static void the_forms_of_an_option(void **state) {
    RUN("relay", "-d", "--copies", "3", "--batch-size=7", "--flush=5ms", "--on_full", "drop_oldest", "--batch-bytes", "1MB");
    expect_dump("copies=3 batch_size=7 batch_bytes=1000000 flush=5000000 on_full=1 ");
    RUN("relay", "-d", "-c5", "--name=");
    expect_usage_error("--name : a name has 1 to");
    RUN("relay", "-dc5");
    expect_usage_error("relay: -d: dump: \"c5\" is not true or false");
    RUN("relay", "-d", "-c", "5", "-c6");
    expect_dump("copies=6");
    RUN("relay", "-d", "--later=yes", "--log-level", "debug");
    expect_dump("later=1 level=3");
    RUN("relay", "-d", "--later", "--no-later", "--log-level=error");
    expect_dump("later=0 level=0");
    RUN("relay", "-d", "--later=no");
    expect_dump("later=0");
    RUN("relay", "-d", "--to", "null:", "--to=-", "--from", "-");
    expect_dump("from=-\nto=null:\nto=-\n");
    RUN("relay", "-d", "--driver-value", "v=1", "--driver-flag", "--driver-value=--x", "--driver-flag");
    expect_dump("given=--x ");
    RUN("relay", "-d", "one", "--", "--copies", "-");
    expect_dump("argument=one\nargument=--copies\nargument=-\n");
    RUN("relay", "-", "-d", "--", "--");
    expect_dump("argument=-\nargument=--\n");
    RUN("relay", "--dump", "--name", "n.1_a-B");
    expect_dump("name=n.1_a-B ");
}

static void bad_command_lines_are_usage_errors(void **state) {
    RUN("relay", "--copis", "3");
    expect_usage_error("unknown option --copis; did you mean --copies?");
    RUN("relay", "--batchsize=3");
    expect_usage_error("did you mean --batch-size?");
    RUN("relay", "--no-copies");
    expect_usage_error("unknown option --no-copies");
    RUN("relay", "--no-later=yes");
    expect_usage_error("--no-later takes no value");
    RUN("relay", "--later=perhaps");
    expect_usage_error("relay: --later: \"perhaps\" is not true or false");
    RUN("relay", "--copies");
    expect_usage_error("--copies needs a value: N");
    RUN("relay", "--copies", "--dump");
    expect_usage_error("relay: --copies: \"--dump\" is not a whole number");
    RUN("relay", "--copies=");
    expect_usage_error("is not a whole number");
    RUN("relay", "--batch-size", "0");
    expect_usage_error("relay: --batch-size takes a value between 1 and 10000000");
    RUN("relay", "--on-full", "wait");
    expect_usage_error("on-full is one of block|drop_oldest|drop_newest, not \"wait\"");
    RUN("relay", "--=x");
    expect_usage_error("unknown option \"\"");
    RUN("relay", "--");
    assert_int_equal(run.status, 0);
    RUN("relay", "-c");
    expect_usage_error("-c needs a value");
    RUN("relay", "-x");
    expect_usage_error("unknown option -x");
    RUN("relay", "--driver-value");
    expect_usage_error("--driver-value needs a value");
    RUN("relay", "1", "2", "3", "4");
    expect_usage_error("more than three arguments: 4");
    RUN("relay", "--fail-check");
    expect_usage_error("the check failed");
    RUN("relay", "--name", "with blank");
    expect_usage_error("--name with blank: a name has 1 to 128 of the characters");
    RUN("relay", "--to", "ftp://x");
    expect_usage_error("--to ftp://x");
    RUN("relay", "--from", "null:");
    expect_usage_error("--from null:");
    RUN("relay", "--settings");
    expect_usage_error("--settings needs a value");
    RUN("relay", "--new\nline");
    expect_usage_error("unknown option --new\\nline");
    assert_int_equal(RUN("bare", "x"), EX_USAGE);
    assert_true(tool_says(&run, "unexpected argument x"));
    assert_int_equal(RUN("bare", "--to", "-"), EX_USAGE);
    assert_int_equal(RUN("relay", "--fail-start"), EXIT_FAILURE);
    assert_true(tool_says(&run, "the start failed"));
}

static void very_long_arguments(void **state) {
    char *large = mem_alloc(100001);
    memset(large, 'a', 100000);
    large[100000] = 0;
    RUN("relay", large, "-d");
    expect_dump(large);
    char *option = mem_format("--%s", large);
    RUN("relay", option);
    expect_usage_error("unknown option --aaa");
    RUN("relay", "--name", large);
    expect_usage_error("--name aaa");
    RUN("relay", "--copies", large);
    expect_usage_error("is not a whole number");
    mem_free(option);
    mem_free(large);
}

static void put_settings(const char *text) {
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
}

static int with_settings(const char *text) {
    put_settings(text);
    return RUN("relay", "-d", "--settings", path);
}

static void settings_from_a_file(void **state) {
    with_settings("{\"copies\": 4, \"batch_size\": 9, \"flush\": 0.25, \"later\": true, \"on-full\": \"drop_newest\","
                  " \"to\": [\"null:\", \"-\"], \"driver\": {\"b\": [1, null], \"a\": \"x\"}, \"window\": \"1MiB\"}");
    expect_dump("copies=4 batch_size=9 batch_bytes=262144 flush=250000000 on_full=2 window=1048576 stay=0 later=1");
    expect_dump("to=null:\nto=-\n");
    expect_dump("setting={\"a\":\"x\",\"b\":[1,null]}");
    put_settings("{\"copies\": 4}");
    RUN("relay", "-d", "--copies", "2", "--settings", path);
    expect_dump("copies=4"); /* what comes later wins */
    RUN("relay", "-d", "--settings", path, "--copies", "2");
    expect_dump("copies=2");
    RUN("relay", "-d", "--settings", path, "--settings", path);
    expect_dump("copies=4");
    with_settings("{}");
    expect_dump("copies=1");
}

static void bad_settings_are_usage_errors(void **state) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", ":1:"},
        {"{\"copies\": 4,\n  }", ":2:"},
        {"{\"copies\": 4} x", ":1:"},
        {"[1]", "not a JSON object"},
        {"5", ":1:"},
        {"{\"copies\": 1, \"copies\": 2}", "duplicate"},
        {"{\"copis\": 1}", "unknown option copis; did you mean copies?"},
        {"{\"copies\": \"x\"}", "copies: \"x\" is not a whole number"},
        {"{\"copies\": 1.5}", "copies takes a whole number"},
        {"{\"copies\": -1}", "copies takes a value between 0 and 1000000"},
        {"{\"driver\": 5}", "driver takes an object"},
        {"{\"a\\nb\": 5}", "unknown option a\\nb"},
        {"{\"to\": 5}", "to takes an array of strings"},
        {"{\"copies\": \"a\xFF\"}", ":1:"},
        {"{\"name\": \"a\\u0000b\"}", ":1:"},
        {"{\"settings\": \"x\"}", "unknown option settings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        with_settings(cases[i].text);
        expect_usage_error(cases[i].part);
        assert_true(tool_says(&run, "--settings"));
        assert_true(tool_says(&run, path));
    }
    RUN("relay", "--settings", "/nonexistent/settings");
    expect_usage_error("/nonexistent/settings: No such file");
    RUN("relay", "--settings=");
    expect_usage_error("--settings");
    RUN("relay", "--settings", "/tmp");
    expect_usage_error("directory");
    RUN("relay", "--settings", "/dev/zero");
    expect_usage_error("larger than");
    buf_t deep = {0};
    for (int i = 0; i < 100000; i++)
        buf_put_text(&deep, "{\"driver\":");
    with_settings(buf_text(&deep));
    expect_usage_error(":1:");
    buf_fini(&deep);
}

static int settings_descriptor(const char *text, char *argument, bool seek) {
    int fd = memfd_create("settings", 0);
    assert_true(fd >= 0);
    assert_int_equal(file_write_all(fd, text, strlen(text), NULL), 0);
    if (seek)
        lseek(fd, 0, SEEK_SET);
    sprintf(argument, "fd:%d", fd);
    return fd;
}

static void settings_from_a_descriptor(void **state) {
    char argument[32];
    for (int seek = 0; seek < 2; seek++) { /* wherever its position stands */
        int fd = settings_descriptor("{\"copies\": 8}", argument, seek);
        RUN("relay", "-d", "--settings", argument);
        expect_dump("copies=8");
        close(fd);
    }
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "{\"copies\": 6}", 13), 13);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    close(ends[1]);
    sprintf(argument, "fd:%d", ends[0]);
    RUN("relay", "-d", "--settings", argument);
    close(ends[0]);
    expect_dump("copies=6");
    static const char *const bad[] = {"fd:", "fd:x", "fd:-1", "fd:99999999999999999999", "fd:3x", "fd:2000000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        RUN("relay", "--settings", bad[i]);
        expect_usage_error("fd: takes the number of an open descriptor");
    }
    RUN("relay", "--settings", "fd:77");
    expect_usage_error("--settings fd:77");
}

/* Standard input as settings: it is at its end afterwards, and its number is not given to anything else. */
static void settings_from_standard_input(void **state) {
    tool_run_fini(&run);
    TOOL_RUN(&run, "{\"copies\": 5}", "relay", "-d", "--settings", "fd:0");
    expect_dump("copies=5");
}

static void what_list_json_is_made_of(void **state) {
    json_t *all = stage_describe_options(&probe_tools[0]);
    static const char *const names[] = {"copies", "from", "to", "dead-letter", "batch-size", "time"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        size_t found = 0;
        for (size_t i = 0; i < json_array_size(all); i++)
            found += strcmp(json_string_value(json_object_get(json_array_get(all, i), "name")), names[n]) == 0;
        assert_int_equal(found, 1);
    }
    json_decref(all);
    all = stage_describe_options(&probe_tools[2]);
    for (size_t i = 0; i < json_array_size(all); i++)
        assert_string_not_equal(json_string_value(json_object_get(json_array_get(all, i), "name")), "to");
    json_decref(all);
}

#define OPTIONS_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv) {
    int status = tool_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        OPTIONS_TEST(help_and_version),
        OPTIONS_TEST(the_forms_of_an_option),
        OPTIONS_TEST(bad_command_lines_are_usage_errors),
        OPTIONS_TEST(very_long_arguments),
        OPTIONS_TEST(settings_from_a_file),
        OPTIONS_TEST(bad_settings_are_usage_errors),
        OPTIONS_TEST(settings_from_a_descriptor),
        OPTIONS_TEST(settings_from_standard_input),
        OPTIONS_TEST(what_list_json_is_made_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
