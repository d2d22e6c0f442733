/* What a killed supervisor left is ended, with what it had started; and nothing else is touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../cmd/streamctl/orphans.h"

static char directory[] = "/tmp/orphansXXXXXX";

static int make_directory(void **state) {
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}

/* A leader of a session with one more process in it; both do nothing. */
static pid_t start(pid_t *member) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t leader = fork();
    if (leader == 0) {
        setsid();
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* of the test */
        pid_t pid = fork();
        if (pid == 0)
            for (;;)
                pause();
        if (write(ends[1], &pid, sizeof pid) != sizeof pid)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ends[0], member, sizeof *member), sizeof *member);
    close(ends[0]);
    close(ends[1]);
    return leader;
}

static int alive(pid_t pid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int) pid);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%*d %*s %c", &state) != 1)
        state = 0;
    if (file)
        fclose(file);
    return state != 0 && state != 'Z';
}

static int noted(const char *stage) {
    char path[100];
    snprintf(path, sizeof path, "%s/%s.pid", directory, stage);
    return access(path, F_OK) == 0;
}

static void test_a_process_and_its_session_are_ended(void **state) {
    err_t err = {{0}};
    pid_t member, leader = start(&member);
    orphan_note(directory, "a", leader);
    assert_true(noted("a"));
    assert_int_equal(orphans_end(directory, &err), 0);
    assert_false(alive(leader));
    assert_false(alive(member));
    assert_false(noted("a"));
    waitpid(leader, NULL, 0);
}

static void test_what_a_dead_one_had_started_is_ended(void **state) {
    err_t err = {{0}};
    pid_t member, leader = start(&member);
    orphan_note(directory, "a", leader);
    kill(leader, SIGKILL);
    waitpid(leader, NULL, 0);
    assert_true(alive(member));
    assert_int_equal(orphans_end(directory, &err), 0);
    assert_false(alive(member));
}

static void test_a_stopped_process_is_ended(void **state) {
    err_t err = {{0}};
    pid_t member, leader = start(&member);
    orphan_note(directory, "a", leader);
    kill(-leader, SIGSTOP);
    assert_int_equal(orphans_end(directory, &err), 0);
    assert_false(alive(leader));
    assert_false(alive(member));
    waitpid(leader, NULL, 0);
}

static void test_another_process_with_the_number_is_left_alone(void **state) {
    err_t err = {{0}};
    char path[100];
    pid_t member, leader = start(&member);
    snprintf(path, sizeof path, "%s/a.pid", directory);
    FILE *file = fopen(path, "w");
    fprintf(file, "%d 1\n", (int) leader); /* started one tick after the machine */
    fclose(file);
    assert_int_equal(orphans_end(directory, &err), 0);
    assert_true(alive(leader));
    assert_true(alive(member));
    assert_false(noted("a"));
    kill(-leader, SIGKILL);
    waitpid(leader, NULL, 0);
}

static void test_notes_that_make_no_sense_are_dropped(void **state) {
    static const char *const notes[] = {"", "x", "0 0\n", "1 1\n", "-1 5\n", "99999999999 1\n"};
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        err_t err = {{0}};
        char path[100];
        snprintf(path, sizeof path, "%s/a.pid", directory);
        FILE *file = fopen(path, "w");
        fputs(notes[i], file);
        fclose(file);
        assert_int_equal(orphans_end(directory, &err), 0);
        assert_false(noted("a"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_process_and_its_session_are_ended),
        cmocka_unit_test(test_what_a_dead_one_had_started_is_ended),
        cmocka_unit_test(test_a_stopped_process_is_ended),
        cmocka_unit_test(test_another_process_with_the_number_is_left_alone),
        cmocka_unit_test(test_notes_that_make_no_sense_are_dropped),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
