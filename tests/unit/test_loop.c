/* The reactor: descriptors, ZeroMQ sockets, timers, signals, deferred and idle calls, removal from inside callbacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

#include "net/loop.h"

#define MS INT64_C(1000000)

typedef struct bench {
    loop_t *loop;
    char trace[256];
    int pipe[2];
    loop_watch_t *watch, *other;
    int count;
    void *context, *push, *pull;
} bench_t;

static void note(bench_t *bench, const char *what) {
    strncat(bench->trace, what, sizeof bench->trace - strlen(bench->trace) - 1);
}

static int set_up(void **state) {
    bench_t *bench = calloc(1, sizeof *bench);
    bench->loop = loop_new();
    assert_int_equal(pipe(bench->pipe), 0);
    *state = bench;
    return 0;
}

static int tear_down(void **state) {
    bench_t *bench = *state;
    loop_free(bench->loop);
    close(bench->pipe[0]);
    close(bench->pipe[1]);
    free(bench);
    return 0;
}

static void stop(void *argument) {
    bench_t *bench = argument;
    note(bench, "stop ");
    loop_stop(bench->loop);
}

static void a(void *argument) { note(argument, "a "); }
static void b(void *argument) { note(argument, "b "); }
static void c(void *argument) { note(argument, "c "); }

static void timers_run_in_order_of_time(void **state) {
    bench_t *bench = *state;
    loop_timer(bench->loop, 40 * MS, 0, stop, bench);
    loop_timer(bench->loop, 20 * MS, 0, b, bench);
    loop_timer(bench->loop, 30 * MS, 0, c, bench);
    loop_timer(bench->loop, 10 * MS, 0, a, bench);
    loop_run(bench->loop);
    assert_string_equal(bench->trace, "a b c stop ");
}

static void count_to_five(void *argument) {
    bench_t *bench = argument;
    if (++bench->count == 5) {
        loop_remove(bench->watch);
        loop_timer(bench->loop, 5 * MS, 0, stop, bench);
    }
}

static void repeated_timer_ends_when_removed_from_inside(void **state) {
    bench_t *bench = *state;
    bench->watch = loop_timer(bench->loop, MS / 2, MS / 2, count_to_five, bench);
    loop_run(bench->loop);
    assert_int_equal(bench->count, 5);
}

static void many_timers_removed_at_random_leave_the_heap_in_order(void **state) {
    bench_t *bench = *state;
    loop_watch_t *timers[200];
    srand(7);
    for (int i = 0; i < 200; i++)
        timers[i] = loop_timer(bench->loop, (i % 2 ? 3600 : 1 + rand() % 20) * (i % 2 ? 1000 * MS : MS), 0, count_to_five, bench);
    for (int i = 1; i < 200; i += 2)
        loop_remove(timers[i]);
    bench->count = -1000;   /* never reaches five */
    loop_timer(bench->loop, 25 * MS, 0, stop, bench);
    loop_run(bench->loop);
    assert_int_equal(bench->count, -900);
}

static void read_byte(void *argument, uint32_t events) {
    bench_t *bench = argument;
    char byte;
    assert_true(events & EPOLLIN);
    assert_int_equal(read(bench->pipe[0], &byte, 1), 1);
    note(bench, (char[]){byte, 0});
    if (byte == 'z')
        loop_stop(bench->loop);
}

static void resume(void *argument) {
    bench_t *bench = argument;
    note(bench, "resume ");
    loop_fd_events(bench->watch, EPOLLIN);
}

static void paused_descriptor_waits_until_resumed(void **state) {
    bench_t *bench = *state;
    bench->watch = loop_fd(bench->loop, bench->pipe[0], 0, read_byte, bench);
    assert_non_null(bench->watch);
    assert_int_equal(write(bench->pipe[1], "xz", 2), 2);
    loop_timer(bench->loop, 5 * MS, 0, resume, bench);
    loop_run(bench->loop);
    assert_string_equal(bench->trace, "resume xz");
}

static void regular_file_is_refused(void **state) {
    bench_t *bench = *state;
    FILE *file = tmpfile();
    errno = 0;
    assert_null(loop_fd(bench->loop, fileno(file), EPOLLIN, read_byte, bench));
    assert_int_equal(errno, EPERM);
    fclose(file);
}

static void remove_other(void *argument, uint32_t events) {
    bench_t *bench = argument;
    note(bench, "one ");
    loop_remove(bench->watch);
    loop_remove(bench->other);
    bench->watch = bench->other = NULL;
    loop_timer(bench->loop, 5 * MS, 0, stop, bench);
}

static void callback_may_remove_watches_of_the_same_round(void **state) {
    bench_t *bench = *state;
    int second[2];
    assert_int_equal(pipe(second), 0);
    assert_int_equal(write(bench->pipe[1], "x", 1), 1);
    assert_int_equal(write(second[1], "x", 1), 1);
    bench->watch = loop_fd(bench->loop, bench->pipe[0], EPOLLIN, remove_other, bench);
    bench->other = loop_fd(bench->loop, second[0], EPOLLIN, remove_other, bench);
    loop_run(bench->loop);
    assert_string_equal(bench->trace, "one stop ");
    close(second[0]);
    close(second[1]);
}

static void defer_again(void *argument) {
    bench_t *bench = argument;
    if (++bench->count < 1000)
        loop_defer(bench->loop, defer_again, bench);
    else
        stop(bench);
}

static void deferred_work_goes_on_without_any_descriptor(void **state) {
    bench_t *bench = *state;
    loop_idle(bench->loop, a, bench);   /* never: the loop is not about to sleep */
    loop_defer(bench->loop, defer_again, bench);
    loop_run(bench->loop);
    assert_int_equal(bench->count, 1000);
    assert_string_equal(bench->trace, "stop ");
}

static void deferring_twice_runs_once_and_can_be_taken_back(void **state) {
    bench_t *bench = *state;
    loop_defer(bench->loop, a, bench);
    loop_defer(bench->loop, b, bench);
    loop_defer(bench->loop, a, bench);
    loop_undefer(bench->loop, b, bench);
    loop_undefer(bench->loop, c, bench);
    loop_timer(bench->loop, 2 * MS, 0, stop, bench);
    loop_run(bench->loop);
    assert_string_equal(bench->trace, "a stop ");
}

static void idle_stop(void *argument) {
    bench_t *bench = argument;
    note(bench, "idle ");
    if (++bench->count == 2)
        loop_stop(bench->loop);
}

static void idle_runs_when_nothing_is_at_hand(void **state) {
    bench_t *bench = *state;
    loop_idle(bench->loop, idle_stop, bench);
    loop_fd(bench->loop, bench->pipe[0], EPOLLIN, read_byte, bench);
    assert_int_equal(write(bench->pipe[1], "xy", 2), 2);
    loop_timer(bench->loop, 50 * MS, 0, c, bench);
    loop_run(bench->loop);
    assert_string_equal(bench->trace, "xyidle c idle ");
}

static void on_signal(void *argument, int signal) {
    bench_t *bench = argument;
    assert_int_equal(signal, SIGUSR1);
    stop(bench);
}

static void send_signal(void *argument) {
    kill(getpid(), SIGUSR1);
}

static void signal_is_delivered_in_the_loop(void **state) {
    bench_t *bench = *state;
    loop_signal(bench->loop, SIGUSR1, on_signal, bench);
    loop_timer(bench->loop, MS, 0, send_signal, bench);
    loop_run(bench->loop);
    assert_string_equal(bench->trace, "stop ");
}

/* Takes one message a call: the rest must come without any new edge on ZMQ_FD. */
static void pull_one(void *argument) {
    bench_t *bench = argument;
    int number;
    assert_int_equal(zmq_recv(bench->pull, &number, sizeof number, ZMQ_DONTWAIT), sizeof number);
    assert_int_equal(number, bench->count);
    if (++bench->count == 1000)
        loop_stop(bench->loop);
}

static void resume_socket(void *argument) {
    bench_t *bench = argument;
    note(bench, "resume ");
    loop_socket_events(bench->watch, ZMQ_POLLIN);
}

static void socket_is_drained_though_its_descriptor_is_edge_triggered(void **state) {
    bench_t *bench = *state;
    bench->context = zmq_ctx_new();
    bench->push = zmq_socket(bench->context, ZMQ_PUSH);
    bench->pull = zmq_socket(bench->context, ZMQ_PULL);
    assert_int_equal(zmq_bind(bench->pull, "inproc://x"), 0);
    assert_int_equal(zmq_connect(bench->push, "inproc://x"), 0);
    bench->watch = loop_socket(bench->loop, bench->pull, 0, pull_one, bench);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zmq_send(bench->push, &i, sizeof i, 0), sizeof i);
    loop_timer(bench->loop, 5 * MS, 0, resume_socket, bench);
    loop_run(bench->loop);
    assert_int_equal(bench->count, 1000);
    assert_string_equal(bench->trace, "resume ");
    loop_remove(bench->watch);
    zmq_close(bench->push);
    zmq_close(bench->pull);
    zmq_ctx_term(bench->context);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(timers_run_in_order_of_time),
        CASE(repeated_timer_ends_when_removed_from_inside),
        CASE(many_timers_removed_at_random_leave_the_heap_in_order),
        CASE(paused_descriptor_waits_until_resumed),
        CASE(regular_file_is_refused),
        CASE(callback_may_remove_watches_of_the_same_round),
        CASE(deferred_work_goes_on_without_any_descriptor),
        CASE(deferring_twice_runs_once_and_can_be_taken_back),
        CASE(idle_runs_when_nothing_is_at_hand),
        CASE(signal_is_delivered_in_the_loop),
        CASE(socket_is_drained_though_its_descriptor_is_edge_triggered),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
