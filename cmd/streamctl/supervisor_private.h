#ifndef STREAMCTL_SUPERVISOR_PRIVATE_H
#define STREAMCTL_SUPERVISOR_PRIVATE_H

#include <sys/types.h>

#include "machine.h"
#include "stage_log.h"
#include "supervisor.h"

/* One process under supervision. */
typedef struct child {
    supervisor_t *supervisor;
    const topology_stage_t *stage;
    machine_state_t state;
    pid_t pid;                        /* 0: none */
    int64_t spawned, left, died;      /* monotonic ns of the last start, end, and end with a status other than 0; 0: never */
    bool was_ready;                   /* since the last start */
    bool wanted;                      /* while draining: start it again */
    bool ending;                      /* TERM was sent because nothing more will come: an exit 0 means finished */
    bool asked;                       /* TERM was sent, for whatever reason: with state it goes without an end of stream */
    unsigned failures, quick;         /* since it was healthy; in a row, soon after their start */
    uint64_t restarts;                /* by itself */
    uint64_t starts;                  /* all of them */
    double interval;                  /* ordered; 0: as configured */
    int64_t patience;                 /* ns from TERM to KILL */
    loop_watch_t *timer;
    int ready_fd;                     /* -1: none */
    loop_watch_t *ready_watch;
    stage_log_t *log;
    char last_exit[96];
    char message[400];
} child_t;

struct supervisor {
    supervisor_setup_t setup;
    child_t *children;
    size_t count;
    loop_watch_t *signals, *deadline;
    int64_t started;
    bool settled, stopping, killed, failed;
    char address[256];
    void (*changed)(void *argument);
    void *changed_argument;
    bool telling;                     /* a deferred call of changed is under way */
    char *own_path;
    struct trial *trials;
    struct replay_run {
        pid_t pid;                    /* 0: none */
        stage_log_t *log;
        char stage[160];              /* the last one; "": none yet */
        char message[400];
        bool failed;
        loop_watch_t *timer;          /* looks for one that was interrupted */
        int64_t pause;                /* before the next look */
    } replay;
};

/* supervisor.c */
void child_event(child_t *child, machine_event_t event);
void supervisor_changed(supervisor_t *supervisor);

/* supervisor_spawn.c: starts the process; on failure there is none. */
int child_spawn(child_t *child, err_t *err);
void child_signal(const child_t *child, int signal);
void child_close_ready(child_t *child);

/* Settings, which are taken, as a sealed memory file that stands at its beginning. */
int spawn_settings(json_t *settings, int *fd, err_t *err);

/* supervisor_trial.c: whether the process is a source's trial, which may have ended. */
bool trial_is(const supervisor_t *supervisor, pid_t pid);
void trial_left(supervisor_t *supervisor, pid_t pid, int status);
void trials_fini(supervisor_t *supervisor);

/* supervisor_replay.c: one that ended, and how the last one went (a new reference, null: there was none). */
void replay_left(supervisor_t *supervisor, int status);
json_t *replay_status(const supervisor_t *supervisor);
void replay_watch(supervisor_t *supervisor);          /* from now on replays that were interrupted are taken up again */
void replay_fini(supervisor_t *supervisor);

/* supervisor_order.c: whether the stage's own metrics say that it is ending. */
bool child_is_ending(const child_t *child);

#endif
