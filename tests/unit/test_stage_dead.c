/* Dead letters: what the file holds of what cannot be used, whatever it is; rotation; a place that cannot be written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "stage_tool.h"

static tool_run_t run;
static char directory[64], path[128], old[160], metrics[128];

static int set_up(void **state) {
    strcpy(directory, "/tmp/test_stage_dead.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/dead", directory);
    snprintf(old, sizeof old, "%s.1", path);
    snprintf(metrics, sizeof metrics, "%s/metrics", directory);
    run = (tool_run_t){.in = -1};
    return 0;
}

static int tear_down(void **state) {
    tool_run_fini(&run);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static double metric(const char *name) {
    metrics_snapshot_t snapshot;
    assert_int_equal(metrics_read(metrics, &snapshot, NULL), 0);
    double value = metrics_sum(&snapshot, name);
    metrics_snapshot_fini(&snapshot);
    return value;
}

/* Writes the input from a process of its own: it may be more than a pipe holds. */
static void feed(const void *bytes, size_t size) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(file_write_all(run.in, bytes, size, NULL) ? 1 : 0);
    tool_close_input(&run);
    tool_wait(&run);
    waitpid(pid, NULL, 0);
}

/* The lines of a file as an array; blank ones are left out. */
static json_t *read_lines(const char *from) {
    buf_t text = {0};
    json_t *lines = json_array();
    assert_int_equal(file_read(from, 100000000, &text, NULL), 0);
    text_t rest = text_make((char *) text.data, text.size), line;
    while (text_split(&rest, '\n', &line)) {
        if (!line.size)
            continue;
        json_error_t error;
        json_t *object = json_loadb(line.data, line.size, JSON_ALLOW_NUL, &error);
        if (!object)
            fail_msg("%s: %.*s", error.text, (int) line.size, line.data);
        json_array_append_new(lines, object);
    }
    buf_fini(&text);
    return lines;
}

static const char *member(json_t *lines, size_t i, const char *key) {
    return json_string_value(json_object_get(json_array_get(lines, i), key));
}

/* A decoder of its own, after RFC 4648. */
static size_t from_base64(const char *text, uint8_t *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = 0;
    assert_int_equal(strlen(text) % 4, 0);
    for (; *text; text += 4) {
        uint32_t bits = 0;
        int padding = 0;
        for (int i = 0; i < 4; i++) {
            const char *found = strchr(letters, text[i]);
            padding += text[i] == '=';
            assert_true(found || text[i] == '=');
            bits = bits << 6 | (found ? (uint32_t) (found - letters) : 0);
        }
        for (int i = 0; i < 3 - padding; i++)
            out[size++] = (uint8_t) (bits >> (16 - 8 * i));
    }
    return size;
}

static void text_that_cannot_be_read(void **state) {
    static const char input[] = "{\"a\":1}\n"
                                "not json \"quoted\"\n"
                                "{\"a\":\"\xFF\xFE\"}\n"
                                "\xFF\n"
                                "ab\xFF\n"
                                "{\"nul\":\"\0\"}\n"
                                "\x1b[31m\r\n"
                                "{\"a\":2}\n";
    static const struct {
        const char *bytes;
        size_t size;
    } invalid[] = {{"{\"a\":\"\xFF\xFE\"}", 10}, {"\xFF", 1}, {"ab\xFF", 3}};
    TOOL_START(&run, "relay", "--dead-letter", path, "--name", "sensors", "--metrics", metrics);
    feed(input, sizeof input - 1);
    assert_int_equal(run.status, 0);
    assert_string_equal(tool_text(&run), "{\"a\":1}\n{\"a\":2}\n");
    json_t *lines = read_lines(path);
    assert_int_equal(json_array_size(lines), 6);
    for (size_t i = 0; i < 6; i++) {
        int64_t time;
        assert_true(clock_parse(text_of(member(lines, i, "time")), &time));
        assert_true(llabs(time - clock_now()) < 3600 * NS_PER_S);
        assert_string_equal(member(lines, i, "stage"), "sensors");
        assert_true(strlen(member(lines, i, "reason")) > 0);
        char place[64];
        snprintf(place, sizeof place, "standard input:%zu", i + 2);
        assert_string_equal(member(lines, i, "place"), place);
    }
    assert_string_equal(member(lines, 0, "text"), "not json \"quoted\"");
    assert_null(member(lines, 0, "base64"));
    for (size_t i = 0; i < 3; i++) { /* all of the bytes can be had back */
        uint8_t bytes[100];
        assert_int_equal(from_base64(member(lines, i + 1, "base64"), bytes), invalid[i].size);
        assert_memory_equal(bytes, invalid[i].bytes, invalid[i].size);
    }
    assert_int_equal(json_string_length(json_object_get(json_array_get(lines, 4), "text")), 11);
    assert_null(member(lines, 4, "base64"));
    json_decref(lines);
    assert_true(metric("stream_events_in_total") == 8);
    assert_true(metric("stream_events_dead_total") == 6);
    assert_true(metric("stream_events_out_total") == 2);
    for (const char *c = tool_errors(&run); *c; c++) /* nothing of it went to the terminal as it was */
        assert_true((*c >= 0x20 && *c < 0x7F) || *c == '\n');
    assert_true(tool_says(&run, "standard input:2: "));
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0007, 0);
}

static void events_that_cannot_be_used(void **state) {
    static const char input[] = "{\"x\":1,\"text\":\"h\xC3\xA4 \\u0000\\n\"}\n{\"y\":1}\n{\"@timestamp\":\"2026-01-02T03:04:05Z\",\"x\":null}\n";
    TOOL_START(&run, "relay", "--dead-field", "x", "--dead-letter", path, "--metrics", metrics);
    feed(input, sizeof input - 1);
    assert_int_equal(run.status, 0);
    json_t *lines = read_lines(path);
    assert_int_equal(json_array_size(lines), 2);
    assert_string_equal(member(lines, 0, "reason"), "it has the field");
    assert_string_equal(member(lines, 0, "place"), "field x");
    json_t *event = json_object_get(json_array_get(lines, 0), "event");
    assert_int_equal(json_integer_value(json_object_get(event, "x")), 1);
    assert_int_equal(json_string_length(json_object_get(event, "text")), 6);
    event = json_object_get(json_array_get(lines, 1), "event");
    assert_string_equal(json_string_value(json_object_get(event, "@timestamp")), "2026-01-02T03:04:05Z");
    assert_true(json_is_null(json_object_get(event, "x")));
    json_decref(lines);
    assert_true(metric("stream_events_dead_total") == 2);
    assert_true(metric("stream_events_out_total") == 1);
}

static buf_t bad_lines(unsigned count) {
    buf_t input = {0};
    for (unsigned i = 0; i < count; i++)
        buf_format(&input, "bad line number %u, which is no JSON at all\n", i);
    return input;
}

static void without_a_file_they_are_counted(void **state) {
    buf_t input = bad_lines(1000);
    TOOL_START(&run, "relay", "--metrics", metrics);
    feed(input.data, input.size);
    buf_fini(&input);
    assert_int_equal(run.status, 0);
    assert_true(metric("stream_events_dead_total") == 1000);
    size_t lines = 0;
    for (const char *c = tool_errors(&run); *c; c++)
        lines += *c == '\n';
    assert_true(lines >= 1 && lines < 60); /* a sample once a second, not each */
}

/* At most two files, each about as large as the limit; the newest letters are in them, each once. */
static void the_file_is_rotated_once(void **state) {
    enum { LINES = 2000 };
    buf_t input = bad_lines(LINES);
    TOOL_START(&run, "relay", "--dead-letter", path, "--dead-letter-limit", "64KiB");
    feed(input.data, input.size);
    buf_fini(&input);
    assert_int_equal(run.status, 0);
    struct stat first, second;
    assert_int_equal(stat(path, &first), 0);
    assert_int_equal(stat(old, &second), 0);
    assert_true(second.st_size >= 65536 && second.st_size < 66000);
    assert_true(first.st_size > 0 && first.st_size < 66000);
    json_t *before = read_lines(old), *lines = read_lines(path);
    json_array_extend(before, lines);
    size_t n = json_array_size(before);
    for (size_t i = 0; i < n; i++) {
        char expected[64];
        snprintf(expected, sizeof expected, "standard input:%zu", LINES - n + i + 1);
        assert_string_equal(member(before, i, "place"), expected);
    }
    json_decref(before);
    json_decref(lines);
}

/* A file from the run before is appended to, and its size counts. */
static void the_next_run_goes_on_with_the_file(void **state) {
    tool_whole(&run, "bad 1\n", (const char *const[]){"relay", "--dead-letter", path, NULL});
    tool_run_fini(&run);
    tool_whole(&run, "bad 2\n", (const char *const[]){"relay", "--dead-letter", path, NULL});
    json_t *lines = read_lines(path);
    assert_int_equal(json_array_size(lines), 2);
    assert_string_equal(member(lines, 1, "text"), "bad 2");
    json_decref(lines);
    assert_int_equal(truncate(path, 5000), 0);
    tool_run_fini(&run);
    tool_whole(&run, "bad 3\nbad 4\n", (const char *const[]){"relay", "--dead-letter", path, "--dead-letter-limit", "4096", NULL});
    struct stat status;
    assert_int_equal(stat(old, &status), 0);
    lines = read_lines(path);
    assert_true(json_array_size(lines) >= 1);
    json_decref(lines);
}

static size_t times(const char *text, const char *part) {
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, part)); at++)
        n++;
    return n;
}

static void a_place_that_cannot_be_written_is_said_once(void **state) {
    buf_t input = bad_lines(500);
    char missing[200];
    snprintf(missing, sizeof missing, "%s/none/dead", directory);
    TOOL_START(&run, "relay", "--dead-letter", missing, "--metrics", metrics);
    feed(input.data, input.size);
    assert_int_equal(run.status, 0);
    assert_int_equal(times(tool_errors(&run), "dead letters cannot be written to"), 1);
    assert_true(metric("stream_events_dead_total") == 500);
    tool_run_fini(&run);
    assert_int_equal(mkdir(old, 0700), 0); /* so that the file cannot be renamed */
    TOOL_START(&run, "relay", "--dead-letter", path, "--dead-letter-limit", "4096");
    feed(input.data, input.size);
    buf_fini(&input);
    assert_int_equal(run.status, 0);
    json_t *lines = read_lines(path);
    assert_int_equal(json_array_size(lines), 500); /* nothing is lost by that */
    json_decref(lines);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_in_range(times(tool_errors(&run), "the file grows on"), 1, (size_t) status.st_size / 4096);
}

/* The disk is full in the middle of a line, and later it is not: each letter is a line, also the one that was cut. */
static void a_full_disk_costs_no_letter(void **state) {
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = (struct rlimit){1000, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN); /* inherited */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    TOOL_START(&run, "relay", "--dead-letter", path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    buf_t input = {0};
    buf_format(&input, "bad 1\nbad 2%2000s\n", "");
    assert_int_equal(file_write_all(run.in, input.data, input.size, NULL), 0);
    int64_t limit = now_ms() + PATIENCE_MS;
    while (!strstr(tool_errors(&run), "File too large") && now_ms() < limit)
        tool_read(&run, 100);
    assert_true(tool_says(&run, "File too large"));
    assert_int_equal(prlimit(run.pid, RLIMIT_FSIZE, &before, NULL), 0);
    buf_clear(&input);
    buf_put_text(&input, "bad and last\n");
    feed(input.data, input.size);
    buf_fini(&input);
    assert_int_equal(run.status, 0);
    assert_int_equal(times(tool_errors(&run), "File too large"), 1);
    buf_t text = {0};
    assert_int_equal(file_read(path, 100000, &text, NULL), 0);
    text_t rest = text_of(buf_text(&text)), line;
    size_t whole = 0, cut = 0;
    bool last = false;
    while (text_split(&rest, '\n', &line)) {
        json_t *object = line.size ? json_loadb(line.data, line.size, 0, NULL) : NULL;
        whole += object != NULL;
        cut += line.size && !object;
        last = last || (object && strcmp(json_string_value(json_object_get(object, "text")), "bad and last") == 0);
        json_decref(object);
    }
    buf_fini(&text);
    assert_true(last);
    assert_int_equal(whole, 3);
    assert_int_equal(cut, 0);
}

#define DEAD_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv) {
    int status = tool_main(argc, argv);
    if (status >= 0)
        return status;
    const struct CMUnitTest tests[] = {
        DEAD_TEST(text_that_cannot_be_read),
        DEAD_TEST(events_that_cannot_be_used),
        DEAD_TEST(without_a_file_they_are_counted),
        DEAD_TEST(the_file_is_rotated_once),
        DEAD_TEST(the_next_run_goes_on_with_the_file),
        DEAD_TEST(a_place_that_cannot_be_written_is_said_once),
        DEAD_TEST(a_full_disk_costs_no_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
