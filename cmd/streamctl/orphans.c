/* Ending what a killed supervisor left: a note for each process that was started, and a look at /proc before new ones start. */
#include "orphans.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

#define PATIENCE (10 * NS_PER_S)

typedef struct seen {
    long long session;
    unsigned long long start;         /* clock ticks since the machine's start */
    char state;
} seen_t;

static bool look_at(pid_t pid, seen_t *seen) {
    char path[64];
    buf_t text = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", (int) pid);
    bool known = file_read(path, 8192, &text, NULL) == 0;
    const char *behind = known ? strrchr(buf_text(&text), ')') : NULL;     /* a program's name may hold anything */
    known = behind && sscanf(behind + 1, " %c %*d %*d %lld %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &seen->state,
                             &seen->session, &seen->start) == 3;
    buf_fini(&text);
    return known;
}

static char *note_path(const char *run_dir, const char *stage) {
    return mem_format("%s/%s.pid", run_dir, stage);
}

void orphan_note(const char *run_dir, const char *stage, pid_t pid) {
    seen_t seen;
    char *path = note_path(run_dir, stage);
    FILE *file = look_at(pid, &seen) ? fopen(path, "we") : NULL;
    if (file) { /* it is read only after our death: no need to sync */
        fprintf(file, "%d %llu\n", (int) pid, seen.start);
        fclose(file);
    } else {
        log_warning("%s cannot be written: %s", path, strerror(errno));
    }
    mem_free(path);
}

void orphan_forget(const char *run_dir, const char *stage) {
    char *path = note_path(run_dir, stage);
    unlink(path);
    mem_free(path);
}

/* Kills the process if it still is the one that was noted, and waits for its end. */
static int end_process(pid_t pid, unsigned long long start, int64_t until, err_t *err) {
    int fd = pidfd_open(pid, 0);
    seen_t seen;
    if (fd < 0)
        return errno == ESRCH ? 0 : err_errno(err, "watch process %d", (int) pid);
    int result = 0;
    if (look_at(pid, &seen) && seen.start == start && seen.state != 'Z') {
        pidfd_send_signal(fd, SIGKILL, NULL, 0);
        struct pollfd gone = {fd, POLLIN, 0};
        int64_t left = until - clock_monotonic();
        if (poll(&gone, 1, left > 0 ? (int) (left / NS_PER_MS) : 0) == 0)
            result = err_set(err, "process %d, left by a supervisor that was killed, does not end (state %c): it holds what new ones need",
                             (int) pid, seen.state);
    }
    close(fd);
    return result;
}

/* What the stage had started: a session keeps its number as long as it has members, and none that is younger than the note is ours. */
static int end_session(pid_t leader, unsigned long long start, int64_t until, err_t *err) {
    seen_t seen;
    if (look_at(leader, &seen) && seen.start != start)
        return 0;                     /* the number belongs to someone else by now, so nothing is left of that session */
    DIR *processes = opendir("/proc");
    int result = processes ? 0 : err_errno(err, "read /proc");
    for (struct dirent *entry; result == 0 && processes && (entry = readdir(processes));) {
        pid_t pid = (pid_t) strtol(entry->d_name, NULL, 10);
        if (pid > 1 && look_at(pid, &seen) && seen.session == leader && seen.start >= start)
            result = end_process(pid, seen.start, until, err);
    }
    if (processes)
        closedir(processes);
    return result;
}

int orphans_end(const char *run_dir, err_t *err) {
    DIR *directory = opendir(run_dir);
    int64_t until = clock_monotonic() + PATIENCE;
    int result = 0;
    for (struct dirent *entry; result == 0 && directory && (entry = readdir(directory));) {
        if (!text_ends(entry->d_name, ".pid"))
            continue;
        char *path = mem_format("%s/%s", run_dir, entry->d_name);
        buf_t text = {0};
        int pid = 0;
        unsigned long long start = 0;
        if (file_read(path, 64, &text, NULL) == 0 && sscanf(buf_text(&text), "%d %llu", &pid, &start) == 2 && pid > 1) {
            result = end_process(pid, start, until, err);
            if (result == 0)
                result = end_session(pid, start, until, err);
        }
        if (result == 0)
            unlink(path);
        buf_fini(&text);
        mem_free(path);
    }
    if (directory)
        closedir(directory);
    return result;
}
