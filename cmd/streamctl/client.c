/* Finding the instance that a command means, and talking to its supervisor. */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "rundir.h"

#define REPLY_MAX (16u * 1024 * 1024)
#define REPLY_WITHIN 10               /* seconds; a supervisor that runs never blocks, one that is stopped would be waited for without end */

int target_parse(target_t *target, int argc, char **argv, err_t *err) {
    for (int i = 0; i < argc; i++) {
        struct stat status;
        const char *word = argv[i];
        bool file = strchr(word, '/') || text_ends(word, ".json") || (stat(word, &status) == 0 && S_ISREG(status.st_mode));
        const char **place = file ? &target->config : &target->stage;
        if (word[0] == '-' && word[1])
            return err_set(err, "unknown option %s", word);
        if (*place)
            return err_set(err, "one %s is enough: %s, %s", file ? "configuration" : "stage", *place, word);
        *place = word;
    }
    return 0;
}

const char *target_config(const target_t *target) {
    return target->config ? target->config : "config.json";
}

int target_run_dir(const target_t *target, char **run_dir, err_t *err) {
    if (target->config || access("config.json", F_OK) == 0) {
        char *path = rundir_path(target_config(target));
        if (target->config || rundir_holder(path)) {
            *run_dir = path;
            return 0;
        }
        mem_free(path);
    }
    option_list_t running = {0};
    rundir_running(&running);
    int result = -1;
    if (running.count == 1) {
        *run_dir = mem_text(running.items[0]);
        result = 0;
    } else if (running.count == 0) {
        err_set(err, "nothing is running");
    } else {
        buf_t list = {0};
        for (size_t i = 0; i < running.count; i++) {
            char *config = rundir_config(running.items[i]);
            buf_format(&list, "\n  %s", config ? config : running.items[i]);
            mem_free(config);
        }
        err_set(err, "several are running; say which:%s", buf_text(&list));
        buf_fini(&list);
    }
    rundir_list_fini(&running);
    return result;
}

static int connect_to(const char *run_dir, err_t *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/control.sock", run_dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int tries = 0; fd >= 0; tries++) {
        if (connect(fd, (struct sockaddr *) &address, sizeof address) == 0)
            return fd;
        if (tries == 100 || !rundir_holder(run_dir)) /* it holds the lock before it listens */
            break;
        usleep(20000);
    }
    if (fd >= 0)
        close(fd);
    char *config = rundir_config(run_dir);
    if (rundir_holder(run_dir))
        err_set(err, "the supervisor (process %d) does not answer", (int) rundir_holder(run_dir));
    else
        err_set(err, "%s%snot running", config ? config : "", config ? " is " : "");
    mem_free(config);
    return -1;
}

/* Sets how long recv waits at most; 0: as long as it takes. */
static void set_patience(int fd, time_t seconds) {
    struct timeval limit = {.tv_sec = seconds};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

/* One line, or what there is at the end. */
static int read_line(int fd, const char *run_dir, buf_t *line, err_t *err) {
    set_patience(fd, REPLY_WITHIN);
    while (!line->size || line->data[line->size - 1] != '\n') {
        ssize_t n = recv(fd, buf_reserve(line, 16384), 16384, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return err_set(err, "the supervisor (process %d) has not answered for %d s; when it is stopped, kill -CONT lets it go on, "
                           "and kill -KILL ends it with all its stages", (int) rundir_holder(run_dir), REPLY_WITHIN);
        if (n < 0)
            return err_errno(err, "control socket");
        if (n == 0 || line->size > REPLY_MAX)
            return err_set(err, "the supervisor left without a reply");
        line->size += (size_t) n;
    }
    return 0;
}

json_t *client_ask(const char *run_dir, json_t *request, bool wait_end, err_t *err) {
    json_t *reply = NULL;
    buf_t line = {0};
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    int fd = connect_to(run_dir, err);
    if (fd < 0)
        goto out;
    if (file_write_all(fd, text, strlen(text), err) || file_write_all(fd, "\n", 1, err) || read_line(fd, run_dir, &line, err))
        goto out;
    json_error_t error;
    reply = json_loadb((const char *) line.data, line.size, 0, &error);
    if (!reply)
        err_set(err, "the supervisor's reply cannot be read: %s", error.text);
    char rest[256];
    set_patience(fd, 0);              /* draining may take its time */
    while (reply && wait_end && json_is_true(json_object_get(reply, "ok"))) {
        ssize_t n = recv(fd, rest, sizeof rest, 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
    }
out:
    if (fd >= 0)
        close(fd);
    free(text);
    buf_fini(&line);
    return reply;
}
