/* The file follower against real files: growth, rotation of every kind, truncation, partial lines, restoring a position. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../cmd/ingest/tail.h"
#include "base/clock.h"
#include "base/memory.h"

#define PATIENCE (20 * NS_PER_S)

typedef struct fixture {
    char directory[64], path[96];
    loop_t *loop;
    tail_t *tail;
    buf_t lines;                       /* complete lines, as taken */
    size_t wanted;                     /* bytes of lines to wait for */
    unsigned begun, missing;
    bool expired, refuse;
} fixture_t;

/* Takes whole lines, as a decoder does. */
static size_t on_data(void *argument, const char *data, size_t size, bool at_end) {
    fixture_t *f = argument;
    if (f->refuse) {
        tail_pause(f->tail);
        return 0;
    }
    const char *end = at_end ? data + size : memrchr(data, '\n', size);
    if (!end)
        return 0;
    size_t used = at_end ? size : (size_t) (end - data) + 1;
    buf_put(&f->lines, data, used);
    if (f->lines.size >= f->wanted)
        loop_stop(f->loop);
    return used;
}

static void on_begin(void *argument) {
    ((fixture_t *) argument)->begun++;
}

static void on_missing(void *argument, const char *reason) {
    ((fixture_t *) argument)->missing++;
}

static void on_expired(void *argument) {
    fixture_t *f = argument;
    f->expired = true;
    loop_stop(f->loop);
}

static void open_tail(fixture_t *f, bool from_end) {
    tail_setup_t setup = {.loop = f->loop, .path = f->path, .from_end = from_end, .rotate_wait = 30 * NS_PER_MS, .data = on_data,
                          .begin = on_begin, .missing = on_missing, .argument = f};
    err_t err;
    f->tail = tail_new(&setup, &err);
    assert_non_null(f->tail);
}

static int set_up(void **state) {
    fixture_t *f = mem_zero(sizeof *f);
    snprintf(f->directory, sizeof f->directory, "/tmp/tailXXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->path, sizeof f->path, "%s/app.log", f->directory);
    f->loop = loop_new();
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture_t *f = *state;
    tail_free(f->tail);
    loop_free(f->loop);
    buf_fini(&f->lines);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", f->directory);
    int status = system(command);
    mem_free(f);
    return status;
}

static void write_to(const char *path, const char *text, int flags) {
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void add(fixture_t *f, const char *text) {
    write_to(f->path, text, O_APPEND);
}

static void rename_to(fixture_t *f, const char *from, const char *to) {
    char a[128], b[128];
    snprintf(a, sizeof a, "%s/%s", f->directory, from);
    snprintf(b, sizeof b, "%s/%s", f->directory, to);
    assert_int_equal(rename(a, b), 0);
}

/* Runs until everything expected has come, and nothing else. */
static void expect(fixture_t *f, const char *lines) {
    f->wanted = strlen(lines);
    f->expired = false;
    if (f->lines.size < f->wanted) {
        loop_watch_t *limit = loop_timer(f->loop, PATIENCE, 0, on_expired, f);
        loop_run(f->loop);
        if (!f->expired)
            loop_remove(limit);
    }
    assert_string_equal(buf_text(&f->lines), lines);
}

static void growing_file_gives_whole_lines_only(void **state) {
    fixture_t *f = *state;
    add(f, "one\ntwo\npart");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "one\ntwo\n");
    add(f, "ial\n");
    expect(f, "one\ntwo\npartial\n");
    assert_int_equal(f->begun, 0);
}

static void missing_file_is_waited_for(void **state) {
    fixture_t *f = *state;
    open_tail(f, false);
    tail_resume(f->tail);
    assert_int_equal(f->missing, 1);
    add(f, "late\n");
    expect(f, "late\n");
}

static void beginning_at_the_end_passes_over_what_is_there(void **state) {
    fixture_t *f = *state;
    add(f, "old\n");
    open_tail(f, true);
    tail_resume(f->tail);
    add(f, "new\n");
    expect(f, "new\n");
}

static void renamed_file_is_read_to_its_end_before_the_new_one(void **state) {
    fixture_t *f = *state;
    add(f, "a1\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\n");
    int writer = open(f->path, O_WRONLY | O_APPEND);
    rename_to(f, "app.log", "app.log.1");
    add(f, "b1\n");
    assert_int_equal(write(writer, "a2\n", 3), 3); /* the writer has not noticed yet */
    close(writer);
    expect(f, "a1\na2\nb1\n");
    assert_int_equal(f->begun, 1);
}

static void last_line_of_a_renamed_file_needs_no_line_end(void **state) {
    fixture_t *f = *state;
    add(f, "a1\na2");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\n");
    rename_to(f, "app.log", "app.log.1");
    add(f, "b1\n");
    expect(f, "a1\na2b1\n");
}

static void writer_that_never_closes_is_given_up_after_the_wait(void **state) {
    fixture_t *f = *state;
    add(f, "a1\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\n");
    int writer = open(f->path, O_WRONLY | O_APPEND);
    rename_to(f, "app.log", "app.log.1");
    add(f, "b1\n");
    expect(f, "a1\nb1\n");
    close(writer);
}

static void files_that_come_and_go_while_nobody_looks_are_found_by_their_renames(void **state) {
    fixture_t *f = *state;
    add(f, "a\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a\n");
    for (int i = 0; i < 4; i++) { /* all before the loop runs again */
        char text[8];
        for (int old = i; old >= 1; old--) {
            char from[32], to[32];
            snprintf(from, sizeof from, "app.log.%d", old);
            snprintf(to, sizeof to, "app.log.%d", old + 1);
            rename_to(f, from, to);
        }
        rename_to(f, "app.log", "app.log.1");
        snprintf(text, sizeof text, "%c\n", 'b' + i);
        add(f, text);
    }
    expect(f, "a\nb\nc\nd\ne\n");
}

static void copy_and_truncate_begins_anew(void **state) {
    fixture_t *f = *state;
    add(f, "a1\na2\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\na2\n");
    assert_int_equal(truncate(f->path, 0), 0);
    add(f, "b1\n");
    expect(f, "a1\na2\nb1\n");
    assert_int_equal(f->begun, 1);
}

static void truncation_is_seen_even_when_the_file_has_grown_longer_since(void **state) {
    fixture_t *f = *state;
    add(f, "a1\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\n");
    assert_int_equal(truncate(f->path, 0), 0);
    add(f, "b1\nb2\nb3\n");
    expect(f, "a1\nb1\nb2\nb3\n");
}

static void deleted_file_may_come_back(void **state) {
    fixture_t *f = *state;
    add(f, "a1\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\n");
    unlink(f->path);
    add(f, "b1\n");
    expect(f, "a1\nb1\n");
    unlink(f->path);
    add(f, "c1\n");
    expect(f, "a1\nb1\nc1\n");
}

static void nothing_is_lost_over_a_pause_with_rotation(void **state) {
    fixture_t *f = *state;
    add(f, "a1\n");
    open_tail(f, false);
    f->refuse = true;
    tail_resume(f->tail);
    loop_timer(f->loop, 20 * NS_PER_MS, 0, on_expired, f);
    loop_run(f->loop);
    add(f, "a2\n");
    rename_to(f, "app.log", "app.log.1");
    add(f, "b1\n");
    f->refuse = false;
    tail_resume(f->tail);
    expect(f, "a1\na2\nb1\n");
}

static void position_leads_back_to_the_same_byte(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "a1\na2\npart");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\na2\n");
    assert_true(tail_position(f->tail, &position));
    assert_int_equal(position.mark.offset, 6); /* the partial line is not behind us */
    tail_free(f->tail);
    add(f, "ial\n");
    open_tail(f, false);
    assert_int_equal(tail_restore(f->tail, &position), TAIL_FOUND);
    tail_resume(f->tail);
    expect(f, "a1\na2\npartial\n");
}

static void position_is_found_again_in_a_renamed_file(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "a1\na2\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\na2\n");
    assert_true(tail_position(f->tail, &position));
    tail_free(f->tail);
    add(f, "a3\n");
    rename_to(f, "app.log", "app.log.1");
    add(f, "b1\n");
    open_tail(f, false);
    assert_int_equal(tail_restore(f->tail, &position), TAIL_FOUND);
    tail_resume(f->tail);
    expect(f, "a1\na2\na3\nb1\n");
}

static void position_of_another_file_is_refused(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "a1\na2\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\na2\n");
    assert_true(tail_position(f->tail, &position));
    tail_free(f->tail);
    assert_int_equal(truncate(f->path, 0), 0);
    add(f, "x1\nx2\nx3\n"); /* the same inode, longer, other content */
    open_tail(f, false);
    assert_int_equal(tail_restore(f->tail, &position), TAIL_GONE);
    tail_resume(f->tail);
    expect(f, "a1\na2\nx1\nx2\nx3\n");
}

static void copy_to(fixture_t *f, const char *name) {
    char command[256];
    snprintf(command, sizeof command, "cp %s %s/%s", f->path, f->directory, name);
    assert_int_equal(system(command), 0);
}

static void copy_and_truncate(fixture_t *f, const char *name) {
    copy_to(f, name);
    assert_int_equal(truncate(f->path, 0), 0);
}

/* Reads what there is, notes the place and dies. */
static void read_and_leave(fixture_t *f, const char *lines, tail_position_t *position) {
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, lines);
    assert_true(tail_position(f->tail, position));
    tail_free(f->tail);
    f->tail = NULL;
}

static void return_to(fixture_t *f, const tail_position_t *position, bool found) {
    open_tail(f, false);
    assert_int_equal(tail_restore(f->tail, position), found ? TAIL_FOUND : TAIL_GONE);
    tail_resume(f->tail);
}

static void several_rotations_meanwhile_are_read_in_order(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "0\n");
    rename_to(f, "app.log", "app.log.9"); /* rotated before we came: not ours */
    add(f, "a1\na2\n");
    read_and_leave(f, "a1\na2\n", &position);
    add(f, "a3\n");
    for (int i = 0; i < 3; i++) {
        char line[16];
        rename_to(f, "app.log", i == 0 ? "app.log.3" : i == 1 ? "app.log.2" : "app.log.1");
        snprintf(line, sizeof line, "%c1\n", 'b' + i);
        add(f, line);
    }
    return_to(f, &position, true);
    expect(f, "a1\na2\na3\nb1\nc1\nd1\n");
    assert_int_equal(f->begun, 3);
}

static void place_in_a_copy_is_found_when_the_file_was_truncated_meanwhile(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "a1\na2\n");
    read_and_leave(f, "a1\na2\n", &position);
    add(f, "a3\n");
    copy_and_truncate(f, "app.log.2");
    add(f, "b1\n");
    copy_and_truncate(f, "app.log.1");
    add(f, "c1\n");
    return_to(f, &position, true);
    expect(f, "a1\na2\na3\nb1\nc1\n");
    assert_true(tail_position(f->tail, &position)); /* and from here it is not read again */
    tail_free(f->tail);
    return_to(f, &position, true);
    add(f, "c2\n");
    expect(f, "a1\na2\na3\nb1\nc1\nc2\n");
}

/* A position may be the beginning of a file of which records were taken: the source counts them. */
static void beginning_of_a_file_is_found_again_by_what_stands_there(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "a1\na2\n");
    open_tail(f, false);
    f->refuse = true;
    tail_resume(f->tail);
    loop_watch_t *tick = loop_timer(f->loop, NS_PER_MS, NS_PER_MS, on_expired, f);
    while (tail_position(f->tail, &position) && !position.mark.head_size)
        loop_run(f->loop);
    loop_remove(tick);
    assert_int_equal(position.mark.offset, 0);
    tail_free(f->tail);
    f->refuse = false;
    rename_to(f, "app.log", "app.log.1");
    add(f, "b1\n");
    return_to(f, &position, true);
    expect(f, "a1\na2\nb1\n");
}

static void copies_of_what_was_read_are_not_read_again(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "a1\na2\n");
    read_and_leave(f, "a1\na2\n", &position);
    copy_to(f, "app.log.20261124");
    rename_to(f, "app.log", "app.log.1");
    add(f, "b1\n");
    return_to(f, &position, true);
    expect(f, "a1\na2\nb1\n");
}

static void rest_of_a_file_truncated_behind_our_back_is_read_in_its_copy(void **state) {
    fixture_t *f = *state;
    add(f, "a1\na2\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\na2\n");
    tail_pause(f->tail);
    add(f, "a3\n");
    copy_and_truncate(f, "app.log.1");
    add(f, "b1\n");
    tail_resume(f->tail);
    expect(f, "a1\na2\na3\nb1\n");
}

static void on_idle(void *argument) {
    loop_stop(((fixture_t *) argument)->loop);
}

static void fill_copy(void *argument) {
    fixture_t *f = argument;
    char path[128];
    snprintf(path, sizeof path, "%s/app.log.1", f->directory);
    write_to(path, "one\ntwo\n", O_APPEND);
}

/* It is seen for the first time with its file, while the one has begun to be made and the other is not truncated yet. */
static void copy_that_is_still_empty_is_a_copy(void **state) {
    fixture_t *f = *state;
    tail_setup_t setup = {.loop = f->loop, .path = f->path, .rotate_wait = PATIENCE, .data = on_data, .begin = on_begin, .missing = on_missing,
                          .idle = on_idle, .argument = f};
    err_t err;
    f->tail = tail_new(&setup, &err);
    assert_non_null(f->tail);
    tail_resume(f->tail);
    char path[128];
    snprintf(path, sizeof path, "%s/app.log.1", f->directory);
    int copying = open(path, O_WRONLY | O_CREAT, 0644);
    add(f, "one\ntwo\n");
    loop_timer(f->loop, 20 * NS_PER_MS, 0, fill_copy, f);
    expect(f, "one\ntwo\n");
    close(copying);
    loop_run(f->loop);             /* until the file of the name has been read */
    expect(f, "one\ntwo\n");
    assert_int_equal(truncate(f->path, 0), 0);
    add(f, "three\n");
    expect(f, "one\ntwo\nthree\n");
}

static void finished_file_with_a_later_time_is_not_read_again(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "a1\n");
    open_tail(f, false);
    tail_resume(f->tail);
    expect(f, "a1\n");
    rename_to(f, "app.log", "app.log.1");
    add(f, "b1\n");
    expect(f, "a1\nb1\n");
    assert_true(tail_position(f->tail, &position));
    tail_free(f->tail);
    char path[128];
    snprintf(path, sizeof path, "%s/app.log.1", f->directory);
    assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
    rename_to(f, "app.log.1", "app.log.2");
    rename_to(f, "app.log", "app.log.1");
    write_to(path, "b2\n", O_APPEND);
    add(f, "c1\n");
    return_to(f, &position, true);
    expect(f, "a1\nb1\nb2\nc1\n");
}

static void files_after_one_that_is_gone_are_read(void **state) {
    fixture_t *f = *state;
    tail_position_t position;
    add(f, "a1\n");
    read_and_leave(f, "a1\n", &position);
    assert_int_equal(unlink(f->path), 0);
    add(f, "b1\n");
    rename_to(f, "app.log", "app-20261124.log");
    add(f, "c1\n");
    return_to(f, &position, false);
    expect(f, "a1\nb1\nc1\n");
}

static void directory_that_does_not_exist_is_waited_for(void **state) {
    fixture_t *f = *state;
    char directory[80];
    snprintf(directory, sizeof directory, "%s/later", f->directory);
    snprintf(f->path, sizeof f->path, "%s/later/app.log", f->directory);
    open_tail(f, false);
    assert_int_equal(f->missing, 1);
    tail_resume(f->tail);
    assert_int_equal(mkdir(directory, 0755), 0);
    add(f, "a1\n");
    expect(f, "a1\n");
}

static void directory_that_is_none_is_an_error(void **state) {
    fixture_t *f = *state;
    add(f, "a1\n");
    char *path = mem_format("%s/x", f->path);
    tail_setup_t setup = {.loop = f->loop, .path = path, .data = on_data, .begin = on_begin, .missing = on_missing, .argument = f};
    err_t err;
    assert_null(tail_new(&setup, &err));
    assert_non_null(strstr(err.text, f->path));
    mem_free(path);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(growing_file_gives_whole_lines_only),
        TEST(missing_file_is_waited_for),
        TEST(beginning_at_the_end_passes_over_what_is_there),
        TEST(renamed_file_is_read_to_its_end_before_the_new_one),
        TEST(last_line_of_a_renamed_file_needs_no_line_end),
        TEST(writer_that_never_closes_is_given_up_after_the_wait),
        TEST(files_that_come_and_go_while_nobody_looks_are_found_by_their_renames),
        TEST(copy_and_truncate_begins_anew),
        TEST(truncation_is_seen_even_when_the_file_has_grown_longer_since),
        TEST(deleted_file_may_come_back),
        TEST(nothing_is_lost_over_a_pause_with_rotation),
        TEST(position_leads_back_to_the_same_byte),
        TEST(position_is_found_again_in_a_renamed_file),
        TEST(position_of_another_file_is_refused),
        TEST(several_rotations_meanwhile_are_read_in_order),
        TEST(place_in_a_copy_is_found_when_the_file_was_truncated_meanwhile),
        TEST(beginning_of_a_file_is_found_again_by_what_stands_there),
        TEST(copies_of_what_was_read_are_not_read_again),
        TEST(rest_of_a_file_truncated_behind_our_back_is_read_in_its_copy),
        TEST(copy_that_is_still_empty_is_a_copy),
        TEST(finished_file_with_a_later_time_is_not_read_again),
        TEST(files_after_one_that_is_gone_are_read),
        TEST(directory_that_does_not_exist_is_waited_for), TEST(directory_that_is_none_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
