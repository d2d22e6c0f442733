/* run and start: one instance of a configuration, in the foreground or in the background. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/file.h"
#include "base/log.h"
#include "audit.h"
#include "base/memory.h"
#include "client.h"
#include "command.h"
#include "control.h"
#include "instance.h"
#include "orphans.h"
#include "rundir.h"
#include "state.h"
#include "supervisor.h"
#include "tools.h"

/* Everything that one instance consists of. */
typedef struct instance {
    config_t *config;
    topology_t *topology;
    config_errors_t warnings;         /* of the configuration */
    char *run_dir, *own_log;
    bool foreground;
    bool reset;                       /* delete the state first; the user has agreed */
    int report;                       /* start: the waiting parent's pipe; else -1 */
    int lock, state_lock;
    loop_t *loop;
    supervisor_t *supervisor;
    control_server_t *control;
    unsigned signals;
    bool never_ran;                   /* a stage failed before everything was ready */
} instance_t;

/* ---- what the supervisor tells ---- */

static void report(const instance_t *instance, char kind, const char *text) {
    if (instance->report >= 0)
        dprintf(instance->report, "%c%s\n", kind, text);
}

static void on_settled(void *argument, const char *failed, const char *reason) {
    instance_t *instance = argument;
    const char *address = supervisor_address(instance->supervisor);
    if (!failed) {
        log_info("everything is ready%s%s", *address ? "; dashboard: " : "", address);
        report(instance, '+', address);
    } else {
        log_error("cannot start: %s has failed", failed);
        report(instance, '-', reason);
        instance->never_ran = true;
        supervisor_abandon(instance->supervisor);
    }
    if (instance->report >= 0)
        close(instance->report);
    instance->report = -1;
}

static void on_progress(void *argument, const char *text) {
    report(argument, '.', text);
}

static void on_gone(void *argument) {
    instance_t *instance = argument;
    loop_stop(instance->loop);
}

static void on_shutdown(void *argument) {
    instance_t *instance = argument;
    log_info("stopping: draining from the sources on");
    supervisor_shutdown(instance->supervisor);
}

static void on_signal(void *argument, int signal) {
    instance_t *instance = argument;
    if (++instance->signals == 1) {
        on_shutdown(instance);
        return;
    }
    log_warning("second %s: stopping at once, without draining", signal == SIGINT ? "Ctrl-C" : "signal");
    supervisor_kill(instance->supervisor);
}

/* ---- the life of an instance ---- */

static int take_run_dir(instance_t *instance, err_t *err) {
    pid_t holder = 0;
    char *lock = mem_format("%s/lock", instance->run_dir);
    int result = rundir_make(instance->run_dir, err);
    if (result == 0) {
        instance->lock = file_lock(lock, &holder, err);
        result = instance->lock < 0 ? -1 : 0;
        if (holder)
            err_set(err, "%s is already running (process %d)", instance->config->path, (int) holder);
    }
    mem_free(lock);
    if (result)
        return -1;
    if (orphans_end(instance->run_dir, err))
        return -1;
    rundir_clean(instance->run_dir);
    return rundir_note(instance->run_dir, instance->config->path, err);
}

/* delivery's dead_letter: stages write files there, but make no directory. */
static int make_dead_letter_directory(const config_t *config, err_t *err) {
    const char *path = json_string_value(json_object_get(config->delivery, "dead_letter"));
    if (!path)
        return 0;
    char *full = *path == '/' ? mem_text(path) : mem_format("%s/%s", config->directory, path);
    int result = file_make_directory(full, 0755, err);
    mem_free(full);
    return result;
}

/* The state's directories, emptied before when that was ordered. */
static int take_state(instance_t *instance, err_t *err) {
    const char *directory = instance->config->state_dir;
    if (state_take(instance->topology, directory, &instance->state_lock, err))
        return -1;
    if (!instance->reset)
        return 0;
    log_info("deleting the state in %s", directory);
    return state_reset(instance->topology, directory, NULL, err);
}

/* Each process has a pipe for its messages, their file, and a pipe for its readiness. */
static int have_descriptors(const instance_t *instance, err_t *err) {
    size_t count = instance->topology->count;
    descriptors_raise();
    return descriptors_room((unsigned) (3 * count + 32), err) ? err_wrap(err, "%zu processes", count) : 0;
}

static int open_instance(instance_t *instance, err_t *err) {
    if (have_descriptors(instance, err) || take_run_dir(instance, err) || take_state(instance, err) || make_dead_letter_directory(instance->config, err))
        return -1;
    instance->loop = loop_new();
    supervisor_setup_t setup = {
        .loop = instance->loop,
        .config = instance->config,
        .topology = instance->topology,
        .foreground = instance->foreground,
        .leave_when_finished = instance->foreground && !instance->config->server.enabled,
        .settled = on_settled,
        .progress = on_progress,
        .gone = on_gone,
        .argument = instance,
    };
    instance->supervisor = supervisor_new(&setup);
    char *path = mem_format("%s/control.sock", instance->run_dir);
    control_setup_t control = {instance->loop, instance->supervisor, path, on_shutdown, instance};
    int result = control_server_new(&instance->control, &control, err);
    mem_free(path);
    return result;
}

/* The last numbers of all stages, for an audit of what does not run. */
static void ledger_keep(const instance_t *instance) {
    err_t err;
    audit_t *audit = audit_new();
    json_t *status = supervisor_status(instance->supervisor);
    audit_read(audit, status);
    if (state_ledger_write(instance->config->state_dir, audit_save(audit), &err))
        log_warning("%s", err.text);
    json_decref(status);
    audit_free(audit);
}

/* Runs until everything has ended; the exit status. */
static int live(instance_t *instance) {
    err_t err = {{0}};
    int status = EXIT_FAILURE;
    signal(SIGPIPE, SIG_IGN);
    if (open_instance(instance, &err)) {
        log_error("%s", err.text);
        report(instance, '-', err.text);
    } else {
        loop_signal(instance->loop, SIGINT, on_signal, instance);
        loop_signal(instance->loop, SIGTERM, on_signal, instance);
        if (instance->foreground)
            loop_signal(instance->loop, SIGHUP, on_signal, instance);
        if (instance->config->state_dir)
            state_ledger_remove(instance->config->state_dir);
        log_info("starting %zu stages of %s", instance->topology->count, instance->config->path);
        supervisor_start(instance->supervisor);
        loop_run(instance->loop);
        status = supervisor_failed(instance->supervisor) || instance->never_ran ? EXIT_FAILURE : 0;
        log_info("everything has ended%s", status ? ", not without failures" : "");
        if (instance->config->state_dir)
            ledger_keep(instance);
        rundir_clean(instance->run_dir);
    }
    control_server_free(instance->control);
    supervisor_free(instance->supervisor);
    loop_free(instance->loop);
    if (instance->state_lock >= 0)
        close(instance->state_lock);
    if (instance->lock >= 0)
        close(instance->lock);
    return status;
}

static void instance_fini(instance_t *instance) {
    topology_free(instance->topology);
    config_free(instance->config);
    config_errors_fini(&instance->warnings);
    mem_free(instance->run_dir);
    mem_free(instance->own_log);
}

/* Reads the configuration; the exit status when that fails, else 0. */
static int prepare(instance_t *instance, const char *path) {
    config_errors_t errors = {0};
    err_t err = {{0}};
    *instance = (instance_t){.report = -1, .lock = -1, .state_lock = -1};
    int status = 0;
    if (tools_load_config(&instance->config, path, &errors, &instance->warnings)) {
        config_errors_print(&errors, path, stderr);
        status = EX_USAGE;
    } else {
        instance->run_dir = rundir_path(instance->config->path);
        instance->own_log = mem_format("%s/supervisor.log", instance->run_dir);
        if (topology_new(&instance->topology, instance->config, instance->run_dir, &err))
            status = command_failed("%s", err.text);
        else
            log_open("streamctl", instance->config->name, (log_level_t) instance->config->log_level);
    }
    config_errors_fini(&errors);
    return status;
}

/* --reset and --yes. */
typedef struct reset_words {
    bool reset, yes;
} reset_words_t;

static reset_words_t take_reset_words(int *argc, char **argv) {
    reset_words_t words = {command_flag(argc, argv, NULL, "--reset"), false};
    words.yes = command_flag(argc, argv, "-y", "--yes");
    return words;
}

/* Whether the state (of `only`, or all) may be deleted: what nobody has got yet goes with it, so nothing happens by a slip. The exit
 * status; 0: go on. */
static int agree_to_reset(instance_t *instance, const char *command, const char *only, reset_words_t words) {
    uint64_t bytes;
    char answer[16] = "";
    if (!words.reset)
        return 0;
    if (!instance->config->state_dir)
        return command_usage(command, "--reset: %s has no state_dir", instance->config->path);
    if (rundir_holder(instance->run_dir))
        return command_failed("%s is running: stop it before its state is deleted", instance->config->path);
    instance->reset = true;
    if (words.yes || !state_exists(instance->topology, only, &bytes))
        return 0;
    if (!isatty(STDIN_FILENO))
        return command_usage(command, "this deletes %s%s%s%s: say --yes as well", only ? "the state of " : "what is in ", only ? only : "",
                             only ? " in " : "", instance->config->state_dir);
    printf("Delete the state %s%s%sin %s (%.1f MiB)?\nWhat has not been delivered yet is lost, positions in sources and windows are forgotten. [y/N] ",
           only ? "of " : "", only ? only : "", only ? " " : "", instance->config->state_dir, (double) bytes / 1048576);
    fflush(stdout);
    if (!fgets(answer, sizeof answer, stdin) || (answer[0] != 'y' && answer[0] != 'Y'))
        return command_failed("nothing was deleted, nothing was started");
    return 0;
}

int command_run(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    reset_words_t words = take_reset_words(&argc, argv);
    if (target_parse(&target, argc, argv, &err))
        return command_usage("run", "%s", err.text);
    if (target.stage)
        return command_usage("run", "%s is not a file; a single stage is started with 'start'", target.stage);
    instance_t instance;
    int status = prepare(&instance, target_config(&target));
    config_errors_print(&instance.warnings, target_config(&target), stderr);
    if (status == 0)
        status = agree_to_reset(&instance, "run", NULL, words);
    if (status == 0) {
        instance.foreground = true;
        status = live(&instance);
    }
    instance_fini(&instance);
    return status;
}

static bool has_stage(const topology_t *topology, const char *name) {
    for (size_t i = 0; i < topology->count; i++)
        if (topology->stages[i].state && (strcmp(topology->stages[i].name, name) == 0 || strcmp(topology->stages[i].group, name) == 0))
            return true;
    return false;
}

int command_reset(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    bool yes = command_flag(&argc, argv, "-y", "--yes");
    if (target_parse(&target, argc, argv, &err))
        return command_usage("reset", "%s", err.text);
    instance_t instance;
    int status = prepare(&instance, target_config(&target));
    if (status == 0 && instance.config->state_dir && target.stage && !has_stage(instance.topology, target.stage))
        status = command_failed("there is no stage \"%s\" with state", target.stage);
    if (status == 0)
        status = agree_to_reset(&instance, "reset", target.stage, (reset_words_t){true, yes});
    if (status == 0 && (state_take(instance.topology, instance.config->state_dir, &instance.state_lock, &err) ||
                        state_reset(instance.topology, instance.config->state_dir, target.stage, &err)))
        status = command_failed("%s", err.text);
    if (instance.state_lock >= 0)
        close(instance.state_lock);
    instance_fini(&instance);
    return status;
}

/* ---- start ---- */

static const instance_t *the_background; /* for the log's listener, which has no argument */

static void on_logged(log_level_t level, const char *text) {
    stage_log_rotate_own(the_background->own_log, the_background->config->limits.log_size);
}

/* In the background process: leaves the terminal behind. */
static int become_background(instance_t *instance, err_t *err) {
    if (rundir_make(instance->run_dir, err))
        return -1;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = open(instance->own_log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (null < 0 || log < 0)
        return err_errno(err, "open %s", null < 0 ? "/dev/null" : instance->own_log);
    if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0 || chdir("/"))
        return err_errno(err, "leave the terminal");
    close(null);
    close(log);
    signal(SIGHUP, SIG_IGN);
    the_background = instance;
    log_listen(on_logged);
    return 0;
}

/* Forks twice, so that the supervisor is nobody's child and can take no terminal. The parent gets the read end of the report pipe. */
static int go_background(instance_t *instance, int *status) {
    int ends[2];
    err_t err = {{0}};
    if (pipe2(ends, O_CLOEXEC)) {
        *status = command_failed("make a pipe: %s", strerror(errno));
        return -1;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid > 0) {
        close(ends[1]);
        waitpid(pid, NULL, 0);
        return ends[0];
    }
    if (pid < 0) {
        *status = command_failed("fork: %s", strerror(errno));
        return -1;
    }
    setsid();
    if (fork() != 0)
        _exit(0);
    close(ends[0]);
    instance->report = ends[1];
    if (become_background(instance, &err)) {
        report(instance, '-', err.text);
        _exit(EXIT_FAILURE);
    }
    int result = live(instance);
    instance_fini(instance);
    exit(result);
}

/* What the background process reports until it is settled: '.' on the way, '+' ready, '-' not. */
static int wait_until_settled(const instance_t *instance, int fd) {
    FILE *lines = fdopen(fd, "r");
    char line[1024];
    int status = -1;
    while (status < 0 && fgets(line, sizeof line, lines)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '.') {
            fprintf(stderr, "streamctl: %s\n", line + 1);
        } else if (line[0] == '-') {
            status = command_failed("%s", line + 1);
        } else {
            printf("%s: running%s%s\n", instance->config->name, line[1] ? "; dashboard: " : "", line + 1);
            status = 0;
        }
    }
    if (status < 0)
        status = command_failed("the supervisor died before everything was ready; see %s", instance->own_log);
    fclose(lines);
    return status;
}

/* The supervisor leaves in order after a failed start; wait for that, so that another start finds nothing of it. */
static void wait_until_gone(const char *run_dir) {
    for (int tries = 0; tries < 6000 && rundir_holder(run_dir); tries++)
        usleep(10000);
}

/* The exit status. */
static int start_prepared(instance_t *instance) {
    pid_t holder = rundir_holder(instance->run_dir);
    if (holder)
        return command_failed("%s is already running (process %d)", instance->config->path, (int) holder);
    int status = EXIT_FAILURE, fd = go_background(instance, &status);
    if (fd >= 0)
        status = wait_until_settled(instance, fd);
    if (fd >= 0 && status)
        wait_until_gone(instance->run_dir);
    return status;
}

int start_background(const char *config_path, bool reset, bool yes) {
    instance_t instance;
    int status = prepare(&instance, config_path);
    config_errors_print(&instance.warnings, config_path, stderr);
    if (status == 0)
        status = agree_to_reset(&instance, "start", NULL, (reset_words_t){reset, yes});
    if (status == 0)
        status = start_prepared(&instance);
    instance_fini(&instance);
    return status;
}

int replace_background(const char *config_path, const char *run_dir, int (*stop)(const char *run_dir)) {
    instance_t instance;
    int status = prepare(&instance, config_path);
    if (status == 0 && !check_report(config_path, instance.config, instance.topology, &instance.warnings))
        status = command_failed("what runs goes on: the changed stage would refuse its state. 'streamctl stop', 'streamctl reset STAGE' (what it "
                                "holds is lost) and 'streamctl start' begin it anew");
    if (status == 0)
        status = stop(run_dir);
    if (status == 0)
        status = start_prepared(&instance);
    instance_fini(&instance);
    return status;
}
