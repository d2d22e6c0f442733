/* The log of one stage: from its stderr to a bounded file. A pipe lies between, so that the file can be changed under a running stage. */
#include "stage_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

#define LINE_MAX_BYTES (PIPE_BUF - 1) /* and its end */

struct stage_log {
    loop_t *loop;
    char *path;
    uint64_t limit, size;
    bool echo;
    int file, pipe;                   /* -1: not open */
    loop_watch_t *watch;
    char line[LINE_MAX_BYTES];        /* the one under way */
    size_t line_size;
    char last[300], error[300];
};

stage_log_t *stage_log_new(loop_t *loop, const char *path, uint64_t limit, bool echo) {
    stage_log_t *log = mem_zero(sizeof *log);
    log->loop = loop;
    log->path = mem_text(path);
    log->limit = limit;
    log->echo = echo;
    log->file = log->pipe = -1;
    return log;
}

static void close_pipe(stage_log_t *log) {
    loop_remove(log->watch);
    log->watch = NULL;
    if (log->pipe >= 0)
        close(log->pipe);
    log->pipe = -1;
}

void stage_log_free(stage_log_t *log) {
    if (!log)
        return;
    close_pipe(log);
    if (log->file >= 0)
        close(log->file);
    mem_free(log->path);
    mem_free(log);
}

static void open_file(stage_log_t *log) {
    log->file = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct stat status;
    log->size = log->file >= 0 && fstat(log->file, &status) == 0 ? (uint64_t) status.st_size : 0;
    if (log->file < 0)
        log_warning("%s: %s; the stage's messages are not kept", log->path, strerror(errno));
}

static void rename_away(const char *path) {
    char *old = mem_format("%s.1", path);
    if (rename(path, old) && errno != ENOENT)
        log_warning("rename %s: %s", path, strerror(errno));
    mem_free(old);
}

static void write_file(stage_log_t *log, const char *bytes, size_t size) {
    if (log->file < 0)
        return;
    if (log->size && log->size + size > log->limit) {
        close(log->file);
        rename_away(log->path);
        open_file(log);
        if (log->file < 0)
            return;
    }
    err_t err;
    if (file_write_all(log->file, bytes, size, &err) == 0)
        log->size += size;
    else
        log->size = log->limit; /* disk full: the next message begins a new file and frees the old one before */
}

/* "2026-01-02T03:04:05.678Z error ingest[sensors] text": the text, and whether it is an error. */
static const char *words_of(const char *line, bool *error) {
    *error = false;
    const char *level = strchr(line, ' ');
    if (!level || line[0] < '0' || line[0] > '9')
        return line;
    *error = text_starts(level, " error ");
    const char *tool = strchr(level + 1, ' ');
    const char *text = tool ? strchr(tool + 1, ' ') : NULL;
    return text ? text + 1 : line;
}

static void end_line(stage_log_t *log) {
    char line[LINE_MAX_BYTES + 1];
    memcpy(line, log->line, log->line_size);
    if (log->echo) {
        line[log->line_size] = '\n';
        log_relay(line, log->line_size + 1);
    }
    line[log->line_size] = 0;
    log->line_size = 0;
    bool error;
    const char *words = words_of(line, &error);
    if (!*words || text_starts(line, "Try '"))
        return;
    snprintf(log->last, sizeof log->last, "%s", words);
    if (error)
        snprintf(log->error, sizeof log->error, "%s", words);
}

static void take(stage_log_t *log, const char *bytes, size_t size) {
    write_file(log, bytes, size);
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '\n')
            end_line(log);
        else if (log->line_size < LINE_MAX_BYTES)
            log->line[log->line_size++] = bytes[i];
    }
}

/* What is there now, up to a bound per call so that a chatty stage does not keep others waiting. False: no more will come. */
static bool drain(stage_log_t *log, size_t bound) {
    char bytes[16384];
    while (bound) {
        ssize_t n = read(log->pipe, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        take(log, bytes, (size_t) n);
        bound -= (size_t) n < bound ? (size_t) n : bound;
    }
    return true;
}

static void on_readable(void *argument, uint32_t events) {
    stage_log_t *log = argument;
    if (!drain(log, 65536))
        close_pipe(log);
}

int stage_log_begin(stage_log_t *log, err_t *err) {
    int ends[2];
    close_pipe(log);
    log->line_size = 0;
    log->last[0] = log->error[0] = 0;
    if (pipe2(ends, O_CLOEXEC)) {
        err_errno(err, "make a pipe for %s", log->path);
        return -1;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    if (log->file < 0)
        open_file(log);
    log->pipe = ends[0];
    log->watch = loop_fd(log->loop, log->pipe, EPOLLIN, on_readable, log);
    return ends[1];
}

void stage_log_end(stage_log_t *log) {
    if (log->pipe >= 0)
        drain(log, 1024 * 1024);
    if (log->line_size)
        end_line(log);
    close_pipe(log);
}

const char *stage_log_words(const stage_log_t *log) {
    return log->error[0] ? log->error : log->last;
}

void stage_log_rotate_own(const char *path, uint64_t limit) {
    struct stat ours, there;
    if (fstat(STDERR_FILENO, &ours) || stat(path, &there) || ours.st_ino != there.st_ino || (uint64_t) ours.st_size < limit)
        return;
    rename_away(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        dup2(fd, STDERR_FILENO);
        close(fd);
    }
}
