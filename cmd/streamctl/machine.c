/* The table of the supervisor's state machine. */
#include "machine.h"

const char *const machine_state_names[MACHINE_STATES] = {"stopped",  "starting", "running", "backoff",
                                                         "draining", "finished", "failed"};

#define TO(state, action) {MACHINE_##state, ACTION_##action}
#define STAY(state) {MACHINE_##state, ACTION_NONE}

const machine_step_t machine_table[MACHINE_STATES][MACHINE_EVENTS] = {
    [MACHINE_STOPPED] = {
        [EVENT_START] = TO(STARTING, SPAWN),
        [EVENT_STOP] = STAY(STOPPED),
        [EVENT_READY] = STAY(STOPPED),
        [EVENT_FINISHED] = STAY(STOPPED),
        [EVENT_REFUSED] = STAY(STOPPED),
        [EVENT_DIED] = STAY(STOPPED),
        [EVENT_TIMEOUT] = STAY(STOPPED),
        [EVENT_GIVE_UP] = STAY(STOPPED),
    },
    [MACHINE_STARTING] = {
        [EVENT_START] = STAY(STARTING),
        [EVENT_STOP] = TO(DRAINING, TERM),
        [EVENT_READY] = TO(RUNNING, UP),
        [EVENT_FINISHED] = TO(FINISHED, DOWN),
        [EVENT_REFUSED] = TO(FAILED, DOWN),
        [EVENT_DIED] = TO(BACKOFF, RETRY),
        [EVENT_TIMEOUT] = TO(STARTING, KILL),
        [EVENT_GIVE_UP] = STAY(STARTING),
    },
    [MACHINE_RUNNING] = {
        [EVENT_START] = STAY(RUNNING),
        [EVENT_STOP] = TO(DRAINING, TERM),
        [EVENT_READY] = STAY(RUNNING),
        [EVENT_FINISHED] = TO(FINISHED, DOWN),
        [EVENT_REFUSED] = TO(FAILED, DOWN),
        [EVENT_DIED] = TO(BACKOFF, RETRY),
        [EVENT_TIMEOUT] = TO(RUNNING, HEALTHY),
        [EVENT_GIVE_UP] = STAY(RUNNING),
    },
    [MACHINE_BACKOFF] = {
        [EVENT_START] = TO(STARTING, SPAWN),
        [EVENT_STOP] = TO(STOPPED, DOWN),
        [EVENT_READY] = STAY(BACKOFF),
        [EVENT_FINISHED] = STAY(BACKOFF),
        [EVENT_REFUSED] = STAY(BACKOFF),
        [EVENT_DIED] = STAY(BACKOFF),
        [EVENT_TIMEOUT] = TO(STARTING, SPAWN),
        [EVENT_GIVE_UP] = TO(FAILED, DOWN),
    },
    [MACHINE_DRAINING] = {
        [EVENT_START] = TO(DRAINING, WANT_UP),
        [EVENT_STOP] = TO(DRAINING, WANT_DOWN),
        [EVENT_READY] = STAY(DRAINING),
        [EVENT_FINISHED] = TO(STOPPED, LEFT),
        [EVENT_REFUSED] = TO(STOPPED, LEFT),
        [EVENT_DIED] = TO(STOPPED, LEFT),
        [EVENT_TIMEOUT] = TO(DRAINING, KILL),
        [EVENT_GIVE_UP] = STAY(DRAINING),
    },
    [MACHINE_FINISHED] = {
        [EVENT_START] = TO(STARTING, SPAWN),
        [EVENT_STOP] = STAY(FINISHED),
        [EVENT_READY] = STAY(FINISHED),
        [EVENT_FINISHED] = STAY(FINISHED),
        [EVENT_REFUSED] = STAY(FINISHED),
        [EVENT_DIED] = STAY(FINISHED),
        [EVENT_TIMEOUT] = TO(STARTING, SPAWN),
        [EVENT_GIVE_UP] = STAY(FINISHED),
    },
    [MACHINE_FAILED] = {
        [EVENT_START] = TO(STARTING, SPAWN),
        [EVENT_STOP] = TO(STOPPED, DOWN),
        [EVENT_READY] = STAY(FAILED),
        [EVENT_FINISHED] = STAY(FAILED),
        [EVENT_REFUSED] = STAY(FAILED),
        [EVENT_DIED] = STAY(FAILED),
        [EVENT_TIMEOUT] = STAY(FAILED),
        [EVENT_GIVE_UP] = STAY(FAILED),
    },
};

int machine_alive(machine_state_t state) {
    return state == MACHINE_STARTING || state == MACHINE_RUNNING || state == MACHINE_DRAINING;
}

int machine_backoff(unsigned failures) {
    return failures == 0 ? 0 : failures > 6 ? 60 : 1 << (failures - 1);
}
