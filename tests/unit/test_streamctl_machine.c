/* The supervisor's state table: what must hold of every cell, and the paths that matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "../../cmd/streamctl/machine.h"

static machine_state_t state;

static machine_action_t give(machine_event_t event) {
    machine_step_t step = machine_table[state][event];
    state = step.next;
    return step.action;
}

static void every_state_has_a_name(void **unused) {
    for (int s = 0; s < MACHINE_STATES; s++)
        assert_true(machine_state_names[s] && *machine_state_names[s]);
}

static void a_process_exists_exactly_in_the_states_that_say_so(void **unused) {
    for (int s = 0; s < MACHINE_STATES; s++) {
        for (int e = 0; e < MACHINE_EVENTS; e++) {
            machine_step_t step = machine_table[s][e];
            int was = machine_alive((machine_state_t) s), is = machine_alive(step.next);
            int exit_event = e == EVENT_FINISHED || e == EVENT_REFUSED || e == EVENT_DIED;
            assert_true(step.next < MACHINE_STATES && step.action < MACHINE_ACTIONS);
            if (!was && is) /* only a spawn makes one */
                assert_int_equal(step.action, ACTION_SPAWN);
            if (was && !is) /* only its exit ends it */
                assert_true(exit_event);
            if (was && exit_event)
                assert_false(is);
            if (step.action == ACTION_SPAWN)
                assert_true(!was && step.next == MACHINE_STARTING);
            if (step.action == ACTION_TERM || step.action == ACTION_KILL)
                assert_true(was && is);
        }
    }
}

static void a_stop_never_leads_to_a_start(void **unused) {
    for (int s = 0; s < MACHINE_STATES; s++) {
        machine_step_t step = machine_table[s][EVENT_STOP];
        assert_true(step.next == MACHINE_STOPPED || step.next == MACHINE_DRAINING || step.next == MACHINE_FINISHED);
        assert_true(step.action != ACTION_SPAWN && step.action != ACTION_WANT_UP);
    }
}

static void a_start_brings_everything_up_that_is_down(void **unused) {
    for (int s = 0; s < MACHINE_STATES; s++) {
        machine_step_t step = machine_table[s][EVENT_START];
        if (machine_alive((machine_state_t) s))
            assert_true(step.next == (machine_state_t) s);
        else
            assert_int_equal(step.action, ACTION_SPAWN);
    }
}

static void the_usual_life(void **unused) {
    state = MACHINE_STOPPED;
    assert_int_equal(give(EVENT_START), ACTION_SPAWN);
    assert_int_equal(give(EVENT_READY), ACTION_UP);
    assert_int_equal(give(EVENT_TIMEOUT), ACTION_HEALTHY);
    assert_int_equal(state, MACHINE_RUNNING);
    assert_int_equal(give(EVENT_STOP), ACTION_TERM);
    assert_int_equal(give(EVENT_FINISHED), ACTION_LEFT);
    assert_int_equal(state, MACHINE_STOPPED);
}

static void one_that_dies_comes_back_until_it_is_given_up(void **unused) {
    state = MACHINE_RUNNING;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(give(EVENT_DIED), ACTION_RETRY);
        assert_int_equal(state, MACHINE_BACKOFF);
        assert_int_equal(give(EVENT_TIMEOUT), ACTION_SPAWN);
    }
    assert_int_equal(give(EVENT_DIED), ACTION_RETRY);
    assert_int_equal(give(EVENT_GIVE_UP), ACTION_DOWN);
    assert_int_equal(state, MACHINE_FAILED);
    assert_int_equal(give(EVENT_TIMEOUT), ACTION_NONE);
    assert_int_equal(give(EVENT_START), ACTION_SPAWN);
}

static void one_that_refuses_is_not_tried_again(void **unused) {
    state = MACHINE_STARTING;
    assert_int_equal(give(EVENT_REFUSED), ACTION_DOWN);
    assert_int_equal(state, MACHINE_FAILED);
}

static void one_that_is_not_ready_in_time_is_killed_and_tried_again(void **unused) {
    state = MACHINE_STARTING;
    assert_int_equal(give(EVENT_TIMEOUT), ACTION_KILL);
    assert_int_equal(state, MACHINE_STARTING);
    assert_int_equal(give(EVENT_DIED), ACTION_RETRY);
}

static void one_that_does_not_drain_is_killed(void **unused) {
    state = MACHINE_RUNNING;
    give(EVENT_STOP);
    assert_int_equal(give(EVENT_TIMEOUT), ACTION_KILL);
    assert_int_equal(give(EVENT_TIMEOUT), ACTION_KILL);
    assert_int_equal(give(EVENT_DIED), ACTION_LEFT);
    assert_int_equal(state, MACHINE_STOPPED);
}

static void a_restart_waits_for_the_drain(void **unused) {
    state = MACHINE_RUNNING;
    give(EVENT_STOP);
    assert_int_equal(give(EVENT_START), ACTION_WANT_UP);
    assert_int_equal(state, MACHINE_DRAINING);
    assert_int_equal(give(EVENT_STOP), ACTION_WANT_DOWN);
}

static void a_finished_one_comes_back_with_its_input(void **unused) {
    state = MACHINE_RUNNING;
    assert_int_equal(give(EVENT_FINISHED), ACTION_DOWN);
    assert_int_equal(state, MACHINE_FINISHED);
    assert_int_equal(give(EVENT_TIMEOUT), ACTION_SPAWN);
}

static void the_back_off_doubles_up_to_a_minute(void **unused) {
    static const int seconds[] = {0, 1, 2, 4, 8, 16, 32, 60, 60};
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(machine_backoff(i), seconds[i]);
    assert_int_equal(machine_backoff(4000000000u), 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_has_a_name),
        cmocka_unit_test(a_process_exists_exactly_in_the_states_that_say_so),
        cmocka_unit_test(a_stop_never_leads_to_a_start),
        cmocka_unit_test(a_start_brings_everything_up_that_is_down),
        cmocka_unit_test(the_usual_life),
        cmocka_unit_test(one_that_dies_comes_back_until_it_is_given_up),
        cmocka_unit_test(one_that_refuses_is_not_tried_again),
        cmocka_unit_test(one_that_is_not_ready_in_time_is_killed_and_tried_again),
        cmocka_unit_test(one_that_does_not_drain_is_killed),
        cmocka_unit_test(a_restart_waits_for_the_drain),
        cmocka_unit_test(a_finished_one_comes_back_with_its_input),
        cmocka_unit_test(the_back_off_doubles_up_to_a_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
