/* start, stop and restart of what runs already; and of whole instances. */
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "client.h"
#include "command.h"
#include "instance.h"
#include "rundir.h"

#define LAST_STEPS 10000               /* ms for what a supervisor does when its stages have gone */

/* Says the reply's failure, if it is one. */
static int result_of(const json_t *reply, const err_t *err) {
    if (!reply)
        return command_failed("%s", err->text);
    if (!json_is_true(json_object_get(reply, "ok")))
        return command_failed("%s", json_string_value(json_object_get(reply, "message")));
    return 0;
}

static int order(const target_t *target, const char *command, double interval) {
    err_t err = {{0}};
    char *run_dir;
    if (target_run_dir(target, &run_dir, &err))
        return command_failed("%s", err.text);
    json_t *request = json_pack("{s:s, s:s}", "command", command, "source", target->stage);
    if (!request)
        request = json_pack("{s:s, s:s}", "command", command, "source", "?");
    if (interval > 0)
        json_object_set_new(request, "interval", json_real(interval));
    json_t *reply = client_ask(run_dir, request, false, &err);
    int status = result_of(reply, &err);
    json_decref(reply);
    mem_free(run_dir);
    return status;
}

int command_start(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    int missing;
    double interval = 0;
    const char *text = command_option(&argc, argv, NULL, "--interval", &missing);
    int64_t ns = 0;
    bool reset = command_flag(&argc, argv, NULL, "--reset"), yes = command_flag(&argc, argv, "-y", "--yes");
    if (missing || (text && (text_to_duration(text_of(text), 1000000000, &ns, &err) || ns == 0)))
        return command_usage("start", "--interval takes a number of seconds, or a duration like 500ms");
    interval = (double) ns / 1e9;
    if (target_parse(&target, argc, argv, &err))
        return command_usage("start", "%s", err.text);
    if (target.stage && reset)
        return command_usage("start", "--reset is for everything; 'streamctl reset STAGE' is for one");
    if (target.stage)
        return order(&target, "start", interval);
    if (text)
        return command_usage("start", "--interval is for one source: name it");
    return start_background(target_config(&target), reset, yes);
}

/* The whole instance; the exit status. Its lock is given back before its process has quite gone: whoever looks for that afterwards shall find nothing. */
static int shut_down(const char *run_dir) {
    err_t err = {{0}};
    pid_t supervisor = rundir_holder(run_dir);
    int process = supervisor ? pidfd_open(supervisor, 0) : -1;
    json_t *reply = client_ask(run_dir, json_pack("{s:s}", "command", "shutdown"), true, &err);
    int status = result_of(reply, &err);
    json_decref(reply);
    for (int tries = 0; status == 0 && tries < LAST_STEPS / 10 && rundir_holder(run_dir); tries++)
        usleep(10000);
    if (process >= 0) {
        poll(&(struct pollfd){.fd = process, .events = POLLIN}, 1, status == 0 ? LAST_STEPS : 0);
        close(process);
    }
    return status;
}

int command_stop(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    char *run_dir;
    if (target_parse(&target, argc, argv, &err))
        return command_usage("stop", "%s", err.text);
    if (target.stage)
        return order(&target, "stop", 0);
    if (target_run_dir(&target, &run_dir, &err))
        return command_failed("%s", err.text);
    char *config = rundir_config(run_dir);
    int status = shut_down(run_dir);
    if (status == 0)
        printf("%s: stopped\n", config ? config : run_dir);
    mem_free(config);
    mem_free(run_dir);
    return status;
}

/* The file is read anew: what runs is stopped only after the new one was found good. */
int command_restart(int argc, char **argv) {
    target_t target = {0};
    err_t err = {{0}};
    char *run_dir;
    if (target_parse(&target, argc, argv, &err))
        return command_usage("restart", "%s", err.text);
    if (target.stage)
        return order(&target, "restart", 0);
    if (target_run_dir(&target, &run_dir, &err))
        return command_failed("%s", err.text);
    char *config = rundir_config(run_dir);
    const char *path = target.config ? target.config : config ? config : "config.json";
    int status = rundir_holder(run_dir) ? replace_background(path, run_dir, shut_down) : start_background(path, false, false);
    mem_free(config);
    mem_free(run_dir);
    return status;
}
