/* A source stopped after any event and restored from its position gives exactly the rest. ingest runs here as a whole, in this process;
 * only its driver is wrapped, to stop after so many events, to keep the position and to restore it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../cmd/ingest/ingest.h"
#include "base/file.h"
#include "base/memory.h"

static char directory[64];

static struct {
    const source_driver_t *driver;
    source_driver_t wrapped;
    tool_t tool;
    int64_t stop_after;                /* events; 0: at the end */
    buf_t position;                    /* restored from when not empty; kept at the end, or where it stopped */
    bool inside;                       /* kept inside the source's own call, right after the last event: as when a frame is cut there */
    const source_class_t *class;
    source_class_t wrapped_class;
    unsigned restored;                 /* how often, in all */
} run;

static void keep_position(source_t *source) {
    buf_clear(&run.position);
    run.class->position(source, &run.position);
}

static void wrapped_pause(source_t *source) {
    run.class->pause(source);
    if (run.inside && run.stop_after)
        keep_position(source);
}

static int wrapped_open(source_t **source, const source_setup_t *setup, err_t *err) {
    if (run.driver->open(source, setup, err))
        return -1;
    setup->host->wanted = run.stop_after;
    run.class = (*source)->class;
    run.wrapped_class = *run.class;
    run.wrapped_class.pause = wrapped_pause;
    (*source)->class = &run.wrapped_class;
    run.restored += run.position.size > 0;
    if (run.position.size)
        assert_int_equal((*source)->class->restore(*source, run.position.data, run.position.size, err), 0);
    return 0;
}

static int wrapped_start(stage_t *stage, err_t *err) {
    ingest_t *ingest = stage->own;
    run.driver = ingest->host.driver;
    run.wrapped = *run.driver;
    run.wrapped.open = wrapped_open;
    ingest->host.driver = &run.wrapped;
    return ingest_tool.start(stage, err);
}

static void wrapped_stop(stage_t *stage) {
    if (!run.inside || !run.stop_after)
        keep_position(((ingest_t *) stage->own)->host.source);
    ingest_tool.stop(stage);
}

/* Runs ingest with its standard output in a file, and returns what it wrote (appended). */
static void ingest(buf_t *out, int64_t stop_after, char **argv) {
    char path[96];
    int argc = 0;
    while (argv[argc])
        argc++;
    snprintf(path, sizeof path, "%s/out", directory);
    int saved = dup(STDOUT_FILENO), fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(saved >= 0 && fd >= 0);
    fflush(stdout);
    dup2(fd, STDOUT_FILENO);
    run.tool = ingest_tool;
    run.tool.start = wrapped_start;
    run.tool.stop = wrapped_stop;
    run.stop_after = stop_after;
    int status = stage_main(&run.tool, argc, argv);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(fd);
    assert_int_equal(status, 0);
    assert_int_equal(file_read(path, 64 << 20, out, NULL), 0);
}

static size_t count_lines(const buf_t *text) {
    size_t lines = 0;
    for (size_t i = 0; i < text->size; i++)
        lines += text->data[i] == '\n';
    return lines;
}

/* Stops after `step` events, again and again until nothing comes, and compares the pieces with one run. */
static void compare_pieces(int64_t step, char **argv, bool inside) {
    buf_t whole = {0}, pieces = {0};
    run.inside = inside;
    buf_clear(&run.position);
    ingest(&whole, 0, argv);
    buf_clear(&run.position);
    run.restored = 0;
    for (size_t before = SIZE_MAX; pieces.size != before && pieces.size <= whole.size;) {
        before = pieces.size;
        if (count_lines(&whole) - count_lines(&pieces) < (size_t) step)
            ingest(&pieces, 0, argv); /* the rest comes to its own end */
        else
            ingest(&pieces, step, argv);
    }
    assert_int_equal(pieces.size, whole.size);
    assert_memory_equal(pieces.data, whole.data, whole.size);
    assert_true(run.restored >= count_lines(&whole) / (size_t) step);
    buf_fini(&whole);
    buf_fini(&pieces);
}

static void in_pieces(int64_t step, char **argv) {
    compare_pieces(step, argv, false);
    compare_pieces(step, argv, true);
}

static char *write_file(const char *name, const buf_t *text) {
    static char path[96];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(file_write_atomic(path, text->data, text->size, 0600, NULL), 0);
    return path;
}

static void file_of_lines_with_bad_ones_between(void **state) {
    buf_t text = {0};
    for (int i = 0; i < 20000; i++)
        buf_format(&text, i % 7 == 3 ? "bad line %d\n" : "{\"n\":%d,\"text\":\"some text to make it longer\"}\n", i);
    buf_put_text(&text, "{\"n\":20000}");
    char *path = write_file("data.ndjson", &text);
    int64_t steps[] = {1999, 2000, 2001, 7777};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        in_pieces(steps[i], (char *[]){"ingest", path, "--log-level", "error", NULL});
    buf_fini(&text);
}

static void every_single_event_of_a_small_file(void **state) {
    buf_t text = {0};
    buf_put_text(&text, "{\"n\":1}\n\nbad\n{\"n\":2}\n{\"n\":3}\nbad\nbad\n{\"n\":4}\n{\"n\":5}");
    char *path = write_file("small.ndjson", &text);
    in_pieces(1, (char *[]){"ingest", path, "--log-level", "error", NULL});
    buf_fini(&text);
}

static void table_keeps_its_columns_names(void **state) {
    buf_t text = {0};
    buf_put_text(&text, "id,\"a name\nover two lines\",v\n");
    for (int i = 0; i < 30000; i++)
        buf_format(&text, "%d,\"x, %d\",%d.5\n", i, i, i);
    char *path = write_file("data.csv", &text);
    in_pieces(7001, (char *[]){"ingest", path, "--log-level", "error", NULL});
    in_pieces(7001, (char *[]){"ingest", path, "--log-level", "error", "--csv-no-header", NULL});
    buf_fini(&text);
}

static void document_goes_on_inside_an_array(void **state) {
    buf_t text = {0};
    buf_put_text(&text, "[");
    for (int i = 0; i < 30000; i++)
        buf_format(&text, "%s{\"n\":%d,\"list\":[1,2,{\"a\":\"]\"}]}%s", i ? "," : "", i, i % 11 == 0 ? ",17" : "");
    buf_put_text(&text, "]\n{\"n\":30000} [{\"n\":30001}]");
    char *path = write_file("data.json", &text);
    in_pieces(7001, (char *[]){"ingest", path, "--log-level", "error", NULL});
    buf_fini(&text);
}

static void place_inside_a_line_too_long(void **state) {
    buf_t text = {0};
    for (int i = 0; i < 3000; i++) {
        buf_format(&text, "{\"n\":%d}\n", i);
        for (int j = 0; i % 500 == 250 && j < 400000; j++)
            buf_put_byte(&text, 'x');
    }
    char *path = write_file("long.ndjson", &text);
    in_pieces(100, (char *[]){"ingest", path, "--log-level", "error", "--max-record", "1KiB", NULL});
    buf_fini(&text);
}

static void generator_goes_on_where_it_was(void **state) {
    char *argv[] = {"ingest", "generator:users?rate=0&count=5000&seed=3&start=2026-01-01T00:00:00Z", NULL};
    in_pieces(1234, argv);
    argv[1] = "generator:sensors?rate=0&count=5000&seed=3&start=2026-01-01T00:00:00Z";
    in_pieces(999, argv);
}

static void file_replaced_meanwhile_is_read_from_its_beginning(void **state) {
    buf_t text = {0}, out = {0};
    buf_put_text(&text, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    char *path = write_file("data.ndjson", &text);
    char *argv[] = {"ingest", path, "--log-level", "error", NULL};
    buf_clear(&run.position);
    run.inside = false;
    ingest(&out, 2, argv);
    buf_clear(&text);
    buf_put_text(&text, "{\"m\":1}\n{\"m\":2}\n{\"m\":3}\n{\"m\":4}\n");
    write_file("data.ndjson", &text);
    ingest(&out, 0, argv);
    assert_string_equal(buf_text(&out), "{\"n\":1}\n{\"n\":2}\n{\"m\":1}\n{\"m\":2}\n{\"m\":3}\n{\"m\":4}\n");
    buf_fini(&text);
    buf_fini(&out);
}

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "/tmp/positionXXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    buf_fini(&run.position);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_of_lines_with_bad_ones_between),
        cmocka_unit_test(every_single_event_of_a_small_file),
        cmocka_unit_test(table_keeps_its_columns_names),
        cmocka_unit_test(document_goes_on_inside_an_array),
        cmocka_unit_test(place_inside_a_line_too_long),
        cmocka_unit_test(generator_goes_on_where_it_was),
        cmocka_unit_test(file_replaced_meanwhile_is_read_from_its_beginning),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
