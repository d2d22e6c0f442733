#ifndef STREAMCTL_MACHINE_H
#define STREAMCTL_MACHINE_H

/* The life of one supervised process, as a table: what happens next for each state and event, and what is to be done then. The table
 * knows nothing of processes; supervisor.c does what its actions say. */
typedef enum machine_state {
    MACHINE_STOPPED,      /* not running, nobody asked for it */
    MACHINE_STARTING,     /* runs, not ready yet */
    MACHINE_RUNNING,
    MACHINE_BACKOFF,      /* died; comes back when the timer ends */
    MACHINE_DRAINING,     /* asked to end */
    MACHINE_FINISHED,     /* ended by itself with status 0: its work is done */
    MACHINE_FAILED,       /* given up until someone starts it */
    MACHINE_STATES
} machine_state_t;

typedef enum machine_event {
    EVENT_START,          /* someone wants it up */
    EVENT_STOP,           /* someone wants it down */
    EVENT_READY,          /* it said so */
    EVENT_FINISHED,       /* exit status 0 */
    EVENT_REFUSED,        /* exit status 64, or it never came up: another try would not help */
    EVENT_DIED,           /* any other end */
    EVENT_TIMEOUT,        /* the state's timer; of a finished one: an input runs again */
    EVENT_GIVE_UP,        /* it died too often */
    MACHINE_EVENTS
} machine_event_t;

typedef enum machine_action {
    ACTION_NONE,
    ACTION_SPAWN,         /* start the process; timer: until it must be ready */
    ACTION_UP,            /* it is ready; timer: until its failures are forgotten */
    ACTION_HEALTHY,       /* forget its failures */
    ACTION_RETRY,         /* count the failure; timer: the back-off; too many: EVENT_GIVE_UP */
    ACTION_TERM,          /* ask it to drain; timer: until it is killed */
    ACTION_KILL,
    ACTION_WANT_UP,       /* while it drains: start it again afterwards */
    ACTION_WANT_DOWN,
    ACTION_LEFT,          /* it has drained: start it again if that is wanted */
    ACTION_DOWN,          /* nothing runs, no timer */
    MACHINE_ACTIONS
} machine_action_t;

typedef struct machine_step {
    machine_state_t next;
    machine_action_t action;
} machine_step_t;

extern const machine_step_t machine_table[MACHINE_STATES][MACHINE_EVENTS];
extern const char *const machine_state_names[MACHINE_STATES];

/* Whether a process exists in this state. */
int machine_alive(machine_state_t state);

/* Exponential back-off, in seconds between two starts: 1 after the first failure, doubled up to 60. */
int machine_backoff(unsigned failures);

#endif
