/* The supervisor: gives each event of a process to the state machine and does what its table says. Around that, what concerns several
 * processes: a stage whose inputs are over must end, one whose input comes back must run, and shutting down goes from the sources on. */
#include "supervisor.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "orphans.h"
#include "state.h"
#include "supervisor_private.h"
#include "tools.h"

#define QUICK (10 * NS_PER_S)         /* a stage that dies sooner than this after its start has failed quickly */
#define HEALTHY (60 * NS_PER_S)       /* after this its failures are forgotten */

static const config_limits_t *limits_of(const child_t *child) {
    return &child->supervisor->setup.config->limits;
}

static child_t *input_of(const child_t *child, size_t index) {
    return &child->supervisor->children[child->stage->inputs[index]];
}

/* ---- timers ---- */

static void on_timer(void *argument);

static void set_timer(child_t *child, int64_t delay) {
    loop_remove(child->timer);
    child->timer = delay < 0 ? NULL : loop_timer(child->supervisor->setup.loop, delay > NS_PER_MS ? delay : NS_PER_MS, 0, on_timer, child);
}

/* ---- one child: the actions ---- */

static void put_duration(char *out, size_t size, int64_t ns) {
    buf_t text = {0};
    text_put_duration(&text, ns);
    snprintf(out, size, "%s", buf_text(&text));
    buf_fini(&text);
}

static void act_spawn(child_t *child) {
    supervisor_t *supervisor = child->supervisor;
    err_t err = {{0}};
    child->wanted = child->ending = child->asked = child->was_ready = false;
    child->message[0] = 0;
    child->spawned = clock_monotonic();
    child->patience = limits_of(child)->drain + limits_of(child)->kill;
    if (child_spawn(child, &err)) {
        log_error("%s", err.text);
        snprintf(child->message, sizeof child->message, "%s", err.text);
        snprintf(child->last_exit, sizeof child->last_exit, "not started");
        child->left = child->died = clock_monotonic();
        child_event(child, EVENT_DIED);
        return;
    }
    child->starts++;
    set_timer(child, limits_of(child)->ready);
    for (size_t i = 0; i < child->stage->output_count; i++) {
        child_t *output = &supervisor->children[child->stage->outputs[i]];
        if (output->state == MACHINE_FINISHED)
            child_event(output, EVENT_START);
    }
}

/* The façade leaves its address in RUN/url before it says that it is ready: the port may have been its own choice. */
static void read_address(supervisor_t *supervisor) {
    char *path = mem_format("%s/url", supervisor->setup.topology->run_dir);
    buf_t text = {0};
    if (file_read(path, sizeof supervisor->address, &text, NULL) == 0)
        snprintf(supervisor->address, sizeof supervisor->address, "%.*s", (int) strcspn(buf_text(&text), "\n"), buf_text(&text));
    buf_fini(&text);
    mem_free(path);
}

static void act_up(child_t *child) {
    child->was_ready = true;
    state_note(child->stage);
    set_timer(child, HEALTHY);
    if (child->stage->role == ROLE_SERVER)
        read_address(child->supervisor);
}

static void progress(const child_t *child, const char *what) {
    const supervisor_t *supervisor = child->supervisor;
    char text[700];
    snprintf(text, sizeof text, "%s: %s", child->stage->name, what);
    if (!supervisor->settled && supervisor->setup.progress)
        supervisor->setup.progress(supervisor->setup.argument, text);
}

/* Why it ended, for our log: in the foreground its own words, which stand there already, are not said again. */
static const char *why(const child_t *child) {
    bool said = child->supervisor->setup.foreground && strcmp(child->message, stage_log_words(child->log)) == 0;
    return said ? "" : child->message;
}

/* The process died and should come back: when, or not any more. */
static void act_retry(child_t *child) {
    int64_t now = clock_monotonic();
    child->failures++;
    child->quick = child->left - child->spawned < QUICK ? child->quick + 1 : 0;
    int64_t most = limits_of(child)->restarts;
    char what[600];
    if (most && child->quick >= (unsigned) most) {
        snprintf(what, sizeof what, "failed %u times in a row, given up: %s%s%.300s", child->quick, child->last_exit,
                 child->message[0] ? ": " : "", child->message);
        snprintf(child->message, sizeof child->message, "%s", what);
        child_event(child, EVENT_GIVE_UP);
        return;
    }
    int64_t at = child->spawned + machine_backoff(child->failures) * NS_PER_S;
    int64_t delay = at > now ? at - now : 0;
    char when[40];
    int64_t unit = delay > NS_PER_S ? NS_PER_S : NS_PER_S / 10;
    put_duration(when, sizeof when, (delay + unit / 2) / unit * unit);
    if (delay)
        snprintf(what, sizeof what, "%s%s%.300s; trying again in %s", child->last_exit, *why(child) ? ": " : "", why(child), when);
    else
        snprintf(what, sizeof what, "%s%s%.300s; starting it again", child->last_exit, *why(child) ? ": " : "", why(child));
    log_warning("%s: %s", child->stage->name, what);
    progress(child, what);
    set_timer(child, delay);
}

static void act_kill(child_t *child) {
    bool draining = child->state == MACHINE_DRAINING || child->ending;
    char limit[40];
    put_duration(limit, sizeof limit, draining ? child->patience : limits_of(child)->ready);
    snprintf(child->message, sizeof child->message, draining ? "did not leave within %s, killed" : "was not ready within %s, killed", limit);
    log_warning("%s: %s", child->stage->name, child->message);
    child->supervisor->failed |= draining;
    child_signal(child, SIGKILL);
    set_timer(child, limits_of(child)->kill);
}

static void act(child_t *child, machine_action_t action) {
    switch (action) {
    case ACTION_SPAWN:
        act_spawn(child);
        break;
    case ACTION_UP:
        act_up(child);
        break;
    case ACTION_HEALTHY:
        child->failures = child->quick = 0;
        set_timer(child, -1);
        break;
    case ACTION_RETRY:
        act_retry(child);
        break;
    case ACTION_TERM:
        child->asked = true;
        child_signal(child, SIGTERM);
        child_signal(child, SIGCONT); /* a stopped one could not obey */
        set_timer(child, child->patience);
        break;
    case ACTION_KILL:
        act_kill(child);
        break;
    case ACTION_WANT_UP:
        child->wanted = true;
        break;
    case ACTION_WANT_DOWN:
        child->wanted = false;
        break;
    case ACTION_LEFT:
        set_timer(child, -1);
        if (child->wanted && !child->supervisor->stopping)
            child_event(child, EVENT_START);
        break;
    case ACTION_DOWN:
        set_timer(child, -1);
        break;
    case ACTION_NONE:
    case MACHINE_ACTIONS:
        break;
    }
}

void child_event(child_t *child, machine_event_t event) {
    machine_state_t before = child->state;
    machine_step_t step = machine_table[before][event];
    if (step.action == ACTION_SPAWN && event == EVENT_START)
        child->failures = child->quick = 0; /* someone wants it: its past does not count */
    if (step.action == ACTION_SPAWN && event == EVENT_TIMEOUT && before == MACHINE_BACKOFF)
        child->restarts++;
    child->state = step.next;
    if (before != step.next)
        log_debug("%s: %s -> %s", child->stage->name, machine_state_names[before], machine_state_names[step.next]);
    if (step.next == MACHINE_FAILED && before != MACHINE_FAILED) {
        log_error("%s: %s%s%s", child->stage->name, child->last_exit, *why(child) ? ": " : "", why(child));
        child->supervisor->failed = true;
    }
    act(child, step.action);
    supervisor_changed(child->supervisor);
}

/* ---- several children ---- */

/* Whether more can come from this input without anyone's doing. */
static bool input_goes_on(const child_t *input) {
    return machine_alive(input->state) || input->state == MACHINE_BACKOFF || (input->state == MACHINE_FINISHED && input->timer);
}

/* A stage ends by itself once all its inputs have sent their end. One that was restarted meanwhile never saw some of them, one whose
 * input was killed waits for an end that never comes, and an input with state that was asked to leave sends none; when no input can send any
 * more it is asked to end. Nothing is lost by that: an input leaves with status 0 only after all is acknowledged or waits in its state. */
static void check_inputs_over(child_t *child) {
    const supervisor_t *supervisor = child->supervisor;
    bool leaving = supervisor->stopping || supervisor->setup.leave_when_finished;
    if (!child->stage->input_count || child->ending || !machine_alive(child->state) || child->state == MACHINE_DRAINING)
        return;
    bool sees_all_ends = true;
    for (size_t i = 0; i < child->stage->input_count; i++) {
        const child_t *input = input_of(child, i);
        if (input_goes_on(input) || (input->state != MACHINE_FINISHED && !leaving))
            return;
        sees_all_ends = sees_all_ends && input->left >= child->spawned && input->died < child->spawned && !(input->asked && input->stage->state);
    }
    if (sees_all_ends)
        return;
    if (child->state == MACHINE_STARTING) {
        if (supervisor->stopping)
            child_event(child, EVENT_STOP);
        return; /* else it is looked at again when it is ready */
    }
    child->ending = child->asked = true;
    child_signal(child, SIGTERM);
    set_timer(child, child->patience);
}

/* A stage that finished although one of its inputs runs (that input was restarted, and the end came from its former life) runs again. */
static bool input_needs(const child_t *child) {
    if (child->supervisor->stopping)
        return false;
    for (size_t i = 0; i < child->stage->input_count; i++) {
        const child_t *input = input_of(child, i);
        if (input->state == MACHINE_BACKOFF || input->state == MACHINE_STARTING ||
            (input->state == MACHINE_RUNNING && !child_is_ending(input)))
            return true;
    }
    return false;
}

static void on_timer(void *argument) {
    child_t *child = argument;
    child->timer = NULL;
    if (child->state == MACHINE_FINISHED && !input_needs(child))
        supervisor_changed(child->supervisor);
    else if (child->state == MACHINE_RUNNING && child->ending)
        act_kill(child);
    else
        child_event(child, EVENT_TIMEOUT);
}

/* While everything ends: who comes next. */
static void shutdown_step(supervisor_t *supervisor) {
    bool work = false, any = false;
    for (size_t i = 0; i < supervisor->count; i++) {
        child_t *child = &supervisor->children[i];
        if (child->stage->role == ROLE_SERVER)
            continue;
        bool inputs = false;
        for (size_t n = 0; n < child->stage->input_count; n++)
            inputs |= input_goes_on(input_of(child, n));
        if (child->state == MACHINE_BACKOFF && (!inputs || supervisor->killed))
            child_event(child, EVENT_STOP); /* while an input drains into it, it is still needed */
        else
            check_inputs_over(child);
        work |= machine_alive(child->state) || child->state == MACHINE_BACKOFF;
    }
    for (size_t i = 0; i < supervisor->count; i++) {
        child_t *child = &supervisor->children[i];
        if (child->stage->role == ROLE_SERVER && !work && child->state != MACHINE_DRAINING) {
            child->patience = limits_of(child)->kill;
            child_event(child, EVENT_STOP);
        }
        any |= machine_alive(child->state) || child->state == MACHINE_BACKOFF;
    }
    if (!any && supervisor->setup.gone) {
        void (*gone)(void *) = supervisor->setup.gone;
        supervisor->setup.gone = NULL;
        gone(supervisor->setup.argument);
    }
}

static void settle(supervisor_t *supervisor, const char *failed, const char *reason) {
    supervisor->settled = true;
    if (supervisor->setup.settled)
        supervisor->setup.settled(supervisor->setup.argument, failed, reason);
}

static void check_settled(supervisor_t *supervisor) {
    bool waiting = false;
    for (size_t i = 0; i < supervisor->count && !supervisor->settled; i++) {
        const child_t *child = &supervisor->children[i];
        if (child->state == MACHINE_FAILED) {
            char reason[700];
            snprintf(reason, sizeof reason, "%s: %s%s%s", child->stage->name, child->last_exit, child->message[0] ? ": " : "",
                     child->message);
            settle(supervisor, child->stage->name, reason);
        }
        waiting |= child->state == MACHINE_STARTING || child->state == MACHINE_BACKOFF || child->state == MACHINE_DRAINING;
    }
    if (!waiting && !supervisor->settled)
        settle(supervisor, NULL, NULL);
}

static bool all_finished(const supervisor_t *supervisor) {
    bool any = false;
    for (size_t i = 0; i < supervisor->count; i++) {
        const child_t *child = &supervisor->children[i];
        if (child->stage->role != ROLE_SERVER && input_goes_on(child))
            return false;
        any |= child->spawned != 0;
    }
    return any;
}

/* A stage on the way that is given up blocks all that flows into it, and so, in time, everything. */
static bool is_blocked(const supervisor_t *supervisor) {
    for (size_t i = 0; i < supervisor->count; i++) {
        const child_t *child = &supervisor->children[i];
        if (child->state == MACHINE_FAILED && child->stage->input_count)
            return true;
    }
    return false;
}

static void leave_when_finished(supervisor_t *supervisor) {
    if (all_finished(supervisor)) {
        supervisor_shutdown(supervisor);
    } else if (is_blocked(supervisor)) {
        log_error("a stage was given up, and nobody can be expected to start it again: leaving");
        supervisor_abandon(supervisor);
    }
}

/* Runs once after the round in which something changed. */
static void tell(void *argument) {
    supervisor_t *supervisor = argument;
    supervisor->telling = false;
    if (supervisor->stopping)
        shutdown_step(supervisor);
    else
        check_settled(supervisor);
    if (supervisor->settled && !supervisor->stopping && supervisor->setup.leave_when_finished)
        leave_when_finished(supervisor);
    if (supervisor->changed)
        supervisor->changed(supervisor->changed_argument);
}

void supervisor_changed(supervisor_t *supervisor) {
    if (!supervisor->telling)
        loop_defer(supervisor->setup.loop, tell, supervisor);
    supervisor->telling = true;
}

/* ---- the end of a process ---- */

static machine_event_t event_of(const child_t *child, int status) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return child->stage->role == ROLE_SERVER ? EVENT_DIED : EVENT_FINISHED;
    bool exited = WIFEXITED(status);
    bool first = !child->supervisor->settled && !child->was_ready && !child->restarts; /* the operator is there and sees it */
    return exited && (WEXITSTATUS(status) == 64 || first) ? EVENT_REFUSED : EVENT_DIED;
}

static void child_left(child_t *child, int status) {
    bool killed_by_us = child->message[0] && strstr(child->message, ", killed");
    child->pid = 0;
    orphan_forget(child->supervisor->setup.topology->run_dir, child->stage->name);
    child->left = clock_monotonic();
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!clean)
        child->died = child->left;
    child_close_ready(child);
    stage_log_end(child->log);
    if (WIFEXITED(status))
        snprintf(child->last_exit, sizeof child->last_exit, "exit status %d", WEXITSTATUS(status));
    else
        snprintf(child->last_exit, sizeof child->last_exit, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (!clean && !killed_by_us) /* a signal from outside left no words of its own */
        snprintf(child->message, sizeof child->message, "%s", WIFEXITED(status) ? stage_log_words(child->log) : "");
    if (child->state == MACHINE_DRAINING && !clean)
        child->supervisor->failed = true;
    child_event(child, event_of(child, status));
    if (child->state == MACHINE_FINISHED && child->stage->input_count && input_needs(child)) {
        int64_t next = child->spawned + NS_PER_S - clock_monotonic();
        set_timer(child, next > 0 ? next : 0);
        child->ending = false;
    }
}

static child_t *child_of(supervisor_t *supervisor, pid_t pid) {
    for (size_t i = 0; i < supervisor->count; i++)
        if (supervisor->children[i].pid == pid)
            return &supervisor->children[i];
    return NULL;
}

static void on_child_signal(void *argument, int signal) {
    supervisor_t *supervisor = argument;
    int status;
    for (siginfo_t ended = {0}; waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid; ended.si_pid = 0) {
        child_t *child = child_of(supervisor, ended.si_pid);
        bool trial = trial_is(supervisor, ended.si_pid);
        if (trial || (child && (ended.si_code != CLD_EXITED || ended.si_status != 0)))
            kill(-ended.si_pid, SIGKILL); /* what it had started: until the wait its number cannot become another's */
        bool taken = waitpid(ended.si_pid, &status, 0) == ended.si_pid;
        if (taken && child)
            child_left(child, status);
        else if (taken && ended.si_pid == supervisor->replay.pid)
            replay_left(supervisor, status);
        else if (taken && trial)
            trial_left(supervisor, ended.si_pid, status);
    }
    for (size_t i = 0; i < supervisor->count; i++)
        check_inputs_over(&supervisor->children[i]);
}

/* ---- the whole ---- */

supervisor_t *supervisor_new(const supervisor_setup_t *setup) {
    supervisor_t *supervisor = mem_zero(sizeof *supervisor);
    supervisor->setup = *setup;
    supervisor->started = clock_monotonic();
    supervisor->own_path = tools_own_path();
    supervisor->count = setup->topology->count;
    supervisor->children = mem_zero(supervisor->count * sizeof *supervisor->children);
    for (size_t i = 0; i < supervisor->count; i++) {
        child_t *child = &supervisor->children[i];
        child->supervisor = supervisor;
        child->stage = &setup->topology->stages[i];
        child->ready_fd = -1;
        child->log = stage_log_new(setup->loop, child->stage->log, setup->config->limits.log_size, setup->foreground);
    }
    supervisor->signals = loop_signal(setup->loop, SIGCHLD, on_child_signal, supervisor);
    return supervisor;
}

void supervisor_free(supervisor_t *supervisor) {
    if (!supervisor)
        return;
    for (size_t i = 0; i < supervisor->count; i++) {
        child_t *child = &supervisor->children[i];
        loop_remove(child->timer);
        child_close_ready(child);
        stage_log_free(child->log);
    }
    replay_fini(supervisor);
    trials_fini(supervisor);
    loop_remove(supervisor->deadline);
    loop_remove(supervisor->signals);
    mem_free(supervisor->own_path);
    mem_free(supervisor->children);
    mem_free(supervisor);
}

void supervisor_start(supervisor_t *supervisor) {
    for (size_t i = 0; i < supervisor->count; i++)
        if (supervisor->children[i].stage->autostart)
            child_event(&supervisor->children[i], EVENT_START);
    replay_watch(supervisor);
}

/* The sources had their time, and so had the ends on their way down: whoever still runs is asked to leave, and has less time for it. */
static void on_deadline(void *argument) {
    supervisor_t *supervisor = argument;
    supervisor->deadline = NULL;
    for (size_t i = 0; i < supervisor->count; i++) {
        child_t *child = &supervisor->children[i];
        if (child->stage->role == ROLE_SERVER || child->state == MACHINE_DRAINING || !input_goes_on(child))
            continue;
        log_warning("%s: has not ended by itself; terminating it", child->stage->name);
        child->patience = limits_of(child)->kill;
        child_event(child, EVENT_STOP);
    }
}

/* Whether what the stage holds can no longer be delivered: nobody brings a failed or stopped receiver further down back any more. */
static bool outputs_gone(const child_t *child) {
    for (size_t i = 0; i < child->stage->output_count; i++) {
        const child_t *output = &child->supervisor->children[child->stage->outputs[i]];
        if (output->state == MACHINE_FAILED || output->state == MACHINE_STOPPED || outputs_gone(output))
            return true;
    }
    return false;
}

void supervisor_shutdown(supervisor_t *supervisor) {
    if (supervisor->stopping)
        return;
    supervisor->stopping = true;
    supervisor->settled = true;
    for (size_t i = 0; i < supervisor->count; i++) {
        child_t *child = &supervisor->children[i];
        child->wanted = false;
        if (outputs_gone(child))
            child->patience = limits_of(child)->kill;
        if (child->stage->role == ROLE_SOURCE)
            child_event(child, EVENT_STOP);
        else if ((child->state == MACHINE_FINISHED || child->state == MACHINE_BACKOFF) && child->timer)
            child_event(child, EVENT_TIMEOUT); /* it would come back in a moment, and what drains into it waits */
    }
    supervisor->deadline = loop_timer(supervisor->setup.loop, supervisor->setup.config->limits.drain, 0, on_deadline, supervisor);
    supervisor_changed(supervisor);
}

void supervisor_abandon(supervisor_t *supervisor) {
    supervisor_shutdown(supervisor);
    for (size_t i = 0; i < supervisor->count; i++) {
        child_t *child = &supervisor->children[i];
        if (!outputs_gone(child))
            continue;
        child->patience = NS_PER_S / 2;
        if (child->state == MACHINE_DRAINING)
            set_timer(child, child->patience);
        else
            child_event(child, EVENT_STOP);
    }
}

void supervisor_kill(supervisor_t *supervisor) {
    supervisor_shutdown(supervisor);
    supervisor->killed = true;
    supervisor->failed = true;
    for (size_t i = 0; i < supervisor->count; i++) {
        child_t *child = &supervisor->children[i];
        child_event(child, EVENT_STOP); /* no more restarts */
        child_signal(child, SIGKILL);
    }
}

bool supervisor_failed(const supervisor_t *supervisor) {
    return supervisor->failed;
}

const char *supervisor_address(const supervisor_t *supervisor) {
    return supervisor->address;
}

void supervisor_listen(supervisor_t *supervisor, void (*changed)(void *argument), void *argument) {
    supervisor->changed = changed;
    supervisor->changed_argument = argument;
}
