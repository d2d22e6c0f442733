/* Standard error for the log: a pipe that is full, a terminal that was stopped or a socket whose peer is busy must not hold up the stream.
 * O_NONBLOCK belongs to the open file description, which is shared with whoever gave it to us (the shell and its other programs would get
 * EAGAIN), so pipes and terminals are opened once more for a description of our own, and sockets are asked call by call. What cannot be
 * opened (it belongs to another user, there is no /proc) is asked for room before each write: up to PIPE_BUF bytes fit then, unless another
 * writer comes between. */
#include "base/log_output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
    int fd;                            /* the description of our own; -1: none could be had */
    dev_t device;
    ino_t inode;                       /* of what; 0: of nothing yet */
    char rest[PIPE_BUF];               /* of a line that was taken in part */
    size_t rest_size;
} own = {.fd = -1};

/* Standard error may be turned to something else while we run (a log that is begun anew). */
static void open_own(const struct stat *status) {
    if (own.inode == status->st_ino && own.device == status->st_dev)
        return;
    if (own.fd >= 0)
        close(own.fd);
    own.fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    own.device = status->st_dev;
    own.inode = status->st_ino;
    own.rest_size = 0;
}

static ssize_t write_now(const char *bytes, size_t size) {
    struct stat status;
    if (fstat(STDERR_FILENO, &status))
        return -1;
    if (S_ISSOCK(status.st_mode))
        return send(STDERR_FILENO, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (!S_ISFIFO(status.st_mode) && !isatty(STDERR_FILENO))
        return write(STDERR_FILENO, bytes, size);
    open_own(&status);
    if (own.fd >= 0)
        return write(own.fd, bytes, size);
    struct pollfd room = {STDERR_FILENO, POLLOUT, 0};
    if (poll(&room, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(STDERR_FILENO, bytes, size);
}

/* How much was taken, all of it where it is of no use to try again; -1: no room. */
static ssize_t put(const char *bytes, size_t size) {
    ssize_t n;
    do
        n = write_now(bytes, size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == ENOSPC || errno == EDQUOT ? -1 : (ssize_t) size;
    return n;
}

static bool put_rest(void) {
    if (!own.rest_size)
        return true;
    ssize_t n = put(own.rest, own.rest_size);
    if (n > 0 && (size_t) n <= own.rest_size) {
        own.rest_size -= (size_t) n;
        memmove(own.rest, own.rest + n, own.rest_size);
    }
    return !own.rest_size;
}

bool log_output_write(const char *line, size_t size) {
    if (!put_rest())
        return false;
    ssize_t n = put(line, size);
    if (n < 0)
        return false;
    own.rest_size = size - (size_t) n;
    if (own.rest_size > sizeof own.rest)
        own.rest_size = sizeof own.rest;
    memcpy(own.rest, line + n, own.rest_size);
    return true;
}

void log_output_pause(void) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000000 / LOG_OUTPUT_TRIES}, NULL);
}

void log_output_last_words(const char *line, size_t size) {
    for (int i = 0; i < LOG_OUTPUT_TRIES && !log_output_write(line, size); i++)
        log_output_pause();
}
