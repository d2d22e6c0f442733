#ifndef STREAMCTL_SUPERVISOR_H
#define STREAMCTL_SUPERVISOR_H

#include <jansson.h>
#include <stdbool.h>

#include "net/loop.h"
#include "run/config.h"
#include "topology.h"

/* Runs the processes of a topology: starts them, restarts them when they die, drains and ends them. One supervisor per process; it
 * owns SIGCHLD. Nothing here knows what a stage does. */
typedef struct supervisor supervisor_t;

typedef struct supervisor_setup {
    loop_t *loop;
    const config_t *config;
    const topology_t *topology;
    bool foreground;                  /* stages' messages also go to stderr, broadcast's stdout is ours */
    bool leave_when_finished;         /* all work done, or blocked for good: leave instead of waiting for new orders */
    /* Once: every stage is ready (or has finished already: failed is NULL), or one failed for good, which our log has told, and why. May be NULL. */
    void (*settled)(void *argument, const char *failed, const char *reason);
    void (*gone)(void *argument);     /* all processes have ended */
    void (*progress)(void *argument, const char *text);  /* before it is settled: what goes wrong meanwhile; may be NULL */
    void *argument;
} supervisor_setup_t;

supervisor_t *supervisor_new(const supervisor_setup_t *setup);
void supervisor_free(supervisor_t *supervisor);       /* after gone */

void supervisor_start(supervisor_t *supervisor);      /* everything that starts by itself */
void supervisor_shutdown(supervisor_t *supervisor);   /* drains from the sources on; gone follows. Again: no change */
void supervisor_abandon(supervisor_t *supervisor);    /* a shutdown that does not wait for what cannot be delivered any more */
void supervisor_kill(supervisor_t *supervisor);       /* at once; gone follows */
bool supervisor_failed(const supervisor_t *supervisor);   /* a stage has failed for good, or had to be killed while draining */
const char *supervisor_address(const supervisor_t *supervisor);   /* of the dashboard, "" while unknown; borrowed */

/* Orders, as they come over the control socket. `what` names a stage, a pipeline, or a type of source; NULL: all sources. interval 0:
 * as configured. The error's code is static text. */
typedef enum supervisor_order { ORDER_START, ORDER_STOP, ORDER_RESTART } supervisor_order_t;
int supervisor_order(supervisor_t *supervisor, supervisor_order_t order, const char *what, double interval, const char **code, err_t *err);

/* Dead letters. hand_over: the stage is told to give its file away as soon as nothing in it can be taken back. replay: `streamctl replay` is
 * started for the stage; one at a time, and the status tells how it goes. */
int supervisor_hand_over(supervisor_t *supervisor, const char *stage, const char **code, err_t *err);
int supervisor_replay(supervisor_t *supervisor, const char *stage, const char **code, err_t *err);

/* A trial of a source: `ingest --sample` with its settings, beside whatever runs, which it changes nothing of. The answer comes once, as the reply to
 * "test" (taken), within half a minute, unless it is forgotten before. */
#define SUPERVISOR_TRIAL_EVENTS 100
typedef void supervisor_tried_fn(void *argument, json_t *reply);
int supervisor_try(supervisor_t *supervisor, const char *source, int64_t events, supervisor_tried_fn *tried, void *argument, const char **code, err_t *err);
void supervisor_try_forget(supervisor_t *supervisor, const void *argument);

json_t *supervisor_status(supervisor_t *supervisor);  /* the reply to "status" */
json_t *supervisor_sources(const supervisor_t *supervisor); /* [{"name", "state"}] of all sources */

/* Called after every change of a stage's state. One listener. */
void supervisor_listen(supervisor_t *supervisor, void (*changed)(void *argument), void *argument);

#endif
