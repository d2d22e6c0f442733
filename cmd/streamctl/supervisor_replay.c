/* Dead letters from the supervisor's side: only it may signal its stages, and it starts the replays that the server is asked for. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "replay.h"
#include "supervisor_private.h"

#define LOOK_FIRST NS_PER_S
#define LOOK_LAST (60 * NS_PER_S)

static child_t *child_named(supervisor_t *supervisor, const char *name, const char **code, err_t *err) {
    for (size_t i = 0; i < supervisor->count; i++)
        if (strcmp(supervisor->children[i].stage->name, name) == 0)
            return &supervisor->children[i];
    *code = "unknown_source";
    err_set(err, "there is no stage \"%s\"", name);
    return NULL;
}

int supervisor_hand_over(supervisor_t *supervisor, const char *stage, const char **code, err_t *err) {
    const child_t *child = child_named(supervisor, stage, code, err);
    if (!child)
        return -1;
    *code = "not_possible";
    if (!child->stage->dead_letter || !child->stage->state)
        return err_set(err, "%s keeps no dead letters, or has no state", stage);
    if (child->state != MACHINE_RUNNING)
        return err_set(err, "%s is %s%s: it hands its dead letters over while it runs, so start it first", stage,
                       child->state == MACHINE_BACKOFF ? "in " : "", machine_state_names[child->state]);
    child_signal(child, SIGUSR1);
    return 0;
}

static _Noreturn void become(const supervisor_t *supervisor, const char *stage, bool resume, int messages, pid_t parent) {
    char *arguments[] = {supervisor->own_path, "replay", supervisor->setup.config->path, (char *) stage, resume ? "--resume" : NULL, NULL};
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (getppid() != parent || null < 0 || dup2(null, 0) < 0 || dup2(messages, 1) < 0 || dup2(messages, 2) < 0 || close_range(3, ~0u, 0) != 0)
        _exit(1);
    execv(arguments[0], arguments);
    _exit(1);
}

static int start_replay(supervisor_t *supervisor, const char *stage, bool resume, const char **code, err_t *err) {
    struct replay_run *run = &supervisor->replay;
    const child_t *child = child_named(supervisor, stage, code, err);
    if (!child)
        return -1;
    *code = "not_possible";
    if (!child->stage->state || !child->stage->dead_letter)
        return err_set(err, "%s has no state: dead letters are sent again exactly once only with a state_dir", stage);
    if (run->pid) {
        *code = "busy";
        return err_set(err, "a replay of %s is under way", run->stage);
    }
    if (supervisor->stopping) {
        *code = "stopping";
        return err_set(err, "everything is being stopped");
    }
    if (!run->log) {
        char *path = mem_format("%s/replay.log", supervisor->setup.topology->run_dir);
        run->log = stage_log_new(supervisor->setup.loop, path, supervisor->setup.config->limits.log_size, supervisor->setup.foreground);
        mem_free(path);
    }
    int messages = stage_log_begin(run->log, err);
    if (messages < 0)
        return -1;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(supervisor, stage, resume, messages, parent);
    close(messages);
    if (pid < 0)
        return err_errno(err, "start a replay");
    run->pid = pid;
    run->failed = false;
    run->message[0] = 0;
    snprintf(run->stage, sizeof run->stage, "%s", stage);
    supervisor_changed(supervisor);
    return 0;
}

int supervisor_replay(supervisor_t *supervisor, const char *stage, const char **code, err_t *err) {
    return start_replay(supervisor, stage, false, code, err);
}

/* Another process may be at it. */
static bool is_locked(const char *state_dir) {
    err_t err;
    pid_t holder;
    char *path = mem_format("%s/replay.lock", state_dir);
    int lock = file_lock(path, &holder, &err);
    mem_free(path);
    if (lock >= 0)
        close(lock);
    return lock < 0;
}

/* What an interrupted replay has sent may be needed by stages that were killed since: they take their inputs in the order of before, and wait for it. */
static void look(void *argument) {
    supervisor_t *supervisor = argument;
    struct replay_run *run = &supervisor->replay;
    const char *state_dir = supervisor->setup.config->state_dir, *code;
    char *stage = run->pid || supervisor->stopping ? NULL : replay_unfinished(state_dir);
    err_t err;
    if (stage && !is_locked(state_dir)) {
        log_info("the replay of %s was interrupted: it is taken up again", stage);
        if (start_replay(supervisor, stage, true, &code, &err))
            log_warning("%s", err.text);
        run->pause = 2 * run->pause < LOOK_LAST ? 2 * run->pause : LOOK_LAST;
    } else if (!stage && !run->pid) {
        run->pause = LOOK_FIRST;
    }
    mem_free(stage);
    run->timer = loop_timer(supervisor->setup.loop, run->pause, 0, look, supervisor);
}

void replay_watch(supervisor_t *supervisor) {
    struct replay_run *run = &supervisor->replay;
    if (!supervisor->setup.config->state_dir || run->timer)
        return;
    run->pause = LOOK_FIRST;
    run->timer = loop_timer(supervisor->setup.loop, run->pause, 0, look, supervisor);
}

void replay_left(supervisor_t *supervisor, int status) {
    struct replay_run *run = &supervisor->replay;
    stage_log_end(run->log);
    run->pid = 0;
    run->failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    snprintf(run->message, sizeof run->message, "%s", stage_log_words(run->log));
    if (!*run->message && run->failed)
        snprintf(run->message, sizeof run->message, "it was interrupted; the next one goes on there");
    log_info("replay of %s: %s", run->stage, run->message);
    supervisor_changed(supervisor);
}

json_t *replay_status(const supervisor_t *supervisor) {
    const struct replay_run *run = &supervisor->replay;
    if (!run->stage[0])
        return json_null();
    json_t *message = json_string(run->message);
    return json_pack("{s:s, s:s, s:o}", "stage", run->stage, "state", run->pid ? "running" : run->failed ? "failed" : "done", "message",
                     message ? message : json_string(""));
}

/* Whoever is under way is killed by the kernel with us, and taken up again by the next. */
void replay_fini(supervisor_t *supervisor) {
    struct replay_run *run = &supervisor->replay;
    if (run->pid) {
        kill(-run->pid, SIGKILL);
        kill(run->pid, SIGKILL);
        waitpid(run->pid, NULL, 0);
    }
    loop_remove(run->timer);
    stage_log_free(run->log);
}
