/* Trials of sources: what does this one give now? `ingest --sample` runs beside the source itself, with its settings, for a few events and a few
 * seconds. The supervisor starts it, as only it knows the settings with their secrets. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "supervisor_private.h"
#include "tools.h"

#define TRIALS_MAX 4                      /* at a time */
#define WAIT "10s"                        /* for the events */
#define LIMIT (15 * NS_PER_S)             /* for the process */
#define OUTPUT_MAX (256u * 1024)          /* twice this, escaped, fits into a line of the control socket */
#define SETTINGS_FD 3

typedef struct trial trial_t;
struct trial {
    trial_t *next;
    supervisor_t *supervisor;
    pid_t pid;                            /* 0: it has left */
    int output;                           /* -1: at its end */
    loop_watch_t *watch, *limit;
    buf_t events;
    bool cut, late;
    int64_t wanted;
    stage_log_t *log;
    supervisor_tried_fn *tried;           /* NULL: forgotten */
    void *argument;
};

static void close_output(trial_t *trial) {
    loop_remove(trial->watch);
    trial->watch = NULL;
    if (trial->output >= 0)
        close(trial->output);
    trial->output = -1;
}

static void end_process(const trial_t *trial) {
    if (!trial->pid)
        return;
    kill(-trial->pid, SIGKILL);
    kill(trial->pid, SIGKILL);
}

/* Keeps whole lines up to the bound. */
static void cut(trial_t *trial) {
    size_t size = OUTPUT_MAX;
    while (size && trial->events.data[size - 1] != '\n')
        size--;
    trial->events.size = size;
    trial->cut = true;
    close_output(trial);
    end_process(trial);
}

static void on_output(void *argument, uint32_t events) {
    trial_t *trial = argument;
    ssize_t n = read(trial->output, buf_reserve(&trial->events, 65536), 65536);
    if (n > 0)
        trial->events.size += (size_t) n;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_output(trial);
    else if (trial->events.size > OUTPUT_MAX)
        cut(trial);
}

static void on_limit(void *argument) {
    trial_t *trial = argument;
    trial->limit = NULL;
    trial->late = true;
    end_process(trial);
}

static void trial_free(trial_t *trial) {
    for (trial_t **link = &trial->supervisor->trials; *link; link = &(*link)->next) {
        if (*link == trial) {
            *link = trial->next;
            break;
        }
    }
    close_output(trial);
    loop_remove(trial->limit);
    stage_log_free(trial->log);
    buf_fini(&trial->events);
    mem_free(trial);
}

static trial_t *trial_of(const supervisor_t *supervisor, pid_t pid) {
    trial_t *trial = supervisor->trials;
    while (trial && trial->pid != pid)
        trial = trial->next;
    return trial;
}

bool trial_is(const supervisor_t *supervisor, pid_t pid) {
    return trial_of(supervisor, pid) != NULL;
}

static const char *message_of(const trial_t *trial, int64_t count, bool good) {
    if (trial->late)
        return "it took longer than 15 s and was ended";
    if (trial->cut)
        return count ? "there is more than 256 KiB of it" : "the first event is larger than 256 KiB";
    const char *words = stage_log_words(trial->log);
    if (!good)
        return *words ? words : "it failed without a word";
    return count < trial->wanted ? "that is all it has: it has ended" : "";
}

static json_t *reply_of(trial_t *trial, bool good) {
    int64_t count = 0;
    for (size_t i = 0; i < trial->events.size; i++)
        count += trial->events.data[i] == '\n';
    json_t *message = json_string(message_of(trial, count, good));
    if (!message)
        message = json_string("it failed with a message that is no text");
    if (!count && (!good || trial->cut))
        return json_pack("{s:b, s:s, s:o}", "ok", 0, "code", "no_events", "message", message);
    json_t *events = json_stringn((const char *) trial->events.data, trial->events.size);
    if (!events) {
        json_decref(message);
        return json_pack("{s:b, s:s, s:s}", "ok", 0, "code", "no_events", "message", "its events hold text that is no UTF-8");
    }
    return json_pack("{s:b, s:b, s:o, s:o}", "ok", 1, "complete", count >= trial->wanted, "message", message, "events", events);
}

void trial_left(supervisor_t *supervisor, pid_t pid, int status) {
    trial_t *trial = trial_of(supervisor, pid);
    trial->pid = 0;
    while (trial->output >= 0) {
        size_t before = trial->events.size;
        on_output(trial, 0);
        if (trial->events.size == before)
            close_output(trial);
    }
    stage_log_end(trial->log);
    supervisor_tried_fn *tried = trial->tried;
    void *argument = trial->argument;
    json_t *reply = tried ? reply_of(trial, WIFEXITED(status) && WEXITSTATUS(status) == 0) : NULL;
    trial_free(trial);
    if (tried)
        tried(argument, reply);
}

/* In the new process, between fork and exec. */
static _Noreturn void become(const supervisor_t *supervisor, char *const *arguments, const int *fds, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (getppid() != parent || null < 0 || dup2(null, 0) < 0 || dup2(fds[1], 1) < 0 || dup2(fds[2], 2) < 0 ||
        dup2(fds[0], SETTINGS_FD) < 0 || close_range(SETTINGS_FD + 1, ~0u, 0) != 0)
        _exit(1);
    if (chdir(supervisor->setup.config->directory) != 0)
        dprintf(2, "cannot change to %s: %s\n", supervisor->setup.config->directory, strerror(errno));
    else
        execvp(arguments[0], arguments);
    dprintf(2, "cannot run %s: %s\n", arguments[0], strerror(errno));
    _exit(1);
}

/* Above the numbers that dup2 in the new process gives. */
static int lifted(int fd) {
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 10);
    close(fd);
    return high;
}

static int run(trial_t *trial, const topology_stage_t *stage, err_t *err) {
    int fds[3] = {-1, -1, -1}, output[2], result = -1;  /* settings, output, messages */
    char count[24], *path = tools_path(topology_tool_names[ROLE_SOURCE]);
    snprintf(count, sizeof count, "%lld", (long long) trial->wanted);
    char *arguments[] = {path, "--name", stage->group, "--settings", "fd:3", "--sample", count, "--sample-wait", WAIT, NULL};
    if (spawn_settings(json_copy(stage->settings), &fds[0], err))
        goto out;
    if (pipe2(output, O_CLOEXEC)) {
        err_errno(err, "make a pipe");
        goto out;
    }
    trial->output = output[0];
    fcntl(trial->output, F_SETFL, O_NONBLOCK);
    fds[1] = output[1];
    if ((fds[2] = stage_log_begin(trial->log, err)) < 0)
        goto out;
    for (int i = 0; i < 3; i++)
        fds[i] = lifted(fds[i]);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(trial->supervisor, arguments, fds, parent);
    if (pid < 0) {
        err_errno(err, "start a test");
        goto out;
    }
    trial->pid = pid;
    result = 0;
out:
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    mem_free(path);
    return result;
}

static const topology_stage_t *source_named(const supervisor_t *supervisor, const char *name) {
    for (size_t i = 0; i < supervisor->count; i++) {
        const topology_stage_t *stage = supervisor->children[i].stage;
        if (stage->role == ROLE_SOURCE && strcmp(stage->name, name) == 0)
            return stage;
    }
    return NULL;
}

int supervisor_try(supervisor_t *supervisor, const char *source, int64_t events, supervisor_tried_fn *tried, void *argument, const char **code, err_t *err) {
    const topology_stage_t *stage = source_named(supervisor, source);
    unsigned under_way = 0;
    for (const trial_t *trial = supervisor->trials; trial; trial = trial->next)
        under_way++;
    *code = "unknown_source";
    if (!stage)
        return err_set(err, "there is no source \"%s\"", source);
    *code = "stopping";
    if (supervisor->stopping)
        return err_set(err, "everything is being stopped");
    *code = "busy";
    if (under_way >= TRIALS_MAX)
        return err_set(err, "%d tests are under way already; try again in a moment", TRIALS_MAX);
    *code = "not_possible";
    loop_t *loop = supervisor->setup.loop;
    trial_t *trial = mem_zero(sizeof *trial);
    char *path = mem_format("%s/test.log", supervisor->setup.topology->run_dir);
    trial->supervisor = supervisor;
    trial->wanted = events;
    trial->output = -1;
    trial->log = stage_log_new(loop, path, supervisor->setup.config->limits.log_size, false);
    mem_free(path);
    if (run(trial, stage, err)) {
        trial_free(trial);
        return -1;
    }
    trial->tried = tried;
    trial->argument = argument;
    trial->next = supervisor->trials;
    supervisor->trials = trial;
    trial->watch = loop_fd(loop, trial->output, EPOLLIN, on_output, trial);
    trial->limit = loop_timer(loop, LIMIT, 0, on_limit, trial);
    return 0;
}

void supervisor_try_forget(supervisor_t *supervisor, const void *argument) {
    for (trial_t *trial = supervisor->trials; trial; trial = trial->next) {
        if (trial->argument != argument || !trial->tried)
            continue;
        trial->tried = NULL;
        end_process(trial);
    }
}

void trials_fini(supervisor_t *supervisor) {
    while (supervisor->trials) {
        trial_t *trial = supervisor->trials;
        end_process(trial);
        waitpid(trial->pid, NULL, 0);
        trial_free(trial);
    }
}
