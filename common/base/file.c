/* Files: whole reads, atomic replacement, locks. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"

int file_read(const char *path, size_t limit, buf_t *out, err_t *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s", path);
    size_t start = out->size;
    int result = 0;
    for (;;) {
        size_t room = 64 * 1024;
        uint8_t *to = buf_reserve(out, room);
        ssize_t n = read(fd, to, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            result = err_errno(err, "%s", path);
            break;
        }
        if (n == 0)
            break;
        out->size += (size_t) n;
        if (out->size - start > limit) {
            result = err_set(err, "%s is larger than %zu bytes", path, limit);
            break;
        }
    }
    close(fd);
    if (result)
        out->size = start;
    return result;
}

int file_write_all(int fd, const void *bytes, size_t size, err_t *err) {
    const uint8_t *at = bytes;
    while (size) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "write");
        at += n;
        size -= (size_t) n;
    }
    return 0;
}

static int sync_directory_of(const char *path, err_t *err) {
    char *copy = mem_text(path);
    char *slash = strrchr(copy, '/');
    if (slash)
        slash[slash == copy] = 0;
    int fd = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 || fsync(fd) ? err_errno(err, "sync the directory of %s", path) : 0;
    if (fd >= 0)
        close(fd);
    mem_free(copy);
    return result;
}

int file_write_atomic(const char *path, const void *bytes, size_t size, mode_t mode, err_t *err) {
    char *temporary = mem_format("%s.tmp.%d", path, (int) getpid());
    int result = -1;
    unlink(temporary); /* left by a process of the same number; its mode, or a link, must not become ours */
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        err_errno(err, "create %s", temporary);
        goto out;
    }
    if (file_write_all(fd, bytes, size, err)) {
        err_wrap(err, "%s", temporary);
        goto remove;
    }
    if (fsync(fd)) {
        err_errno(err, "sync %s", temporary);
        goto remove;
    }
    if (rename(temporary, path)) {
        err_errno(err, "rename %s to %s", temporary, path);
        goto remove;
    }
    close(fd);
    result = sync_directory_of(path, err);
    goto out;
remove:
    close(fd);
    unlink(temporary);
out:
    mem_free(temporary);
    return result;
}

#define TWIN_ROOM 8192

/* The twin that takes the next version, with its room; what cannot be had now is tried again then. */
static void make_twin(const char *twin, mode_t mode) {
    int fd = open(twin, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return;
    (void) !fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, TWIN_ROOM);
    close(fd);
}

static int take_place(const char *twin, const char *path, mode_t mode, err_t *err) {
    if (renameat2(AT_FDCWD, twin, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
        return 0;
    if (rename(twin, path)) /* the first one, or a file system that cannot exchange */
        return err_errno(err, "rename %s to %s", twin, path);
    make_twin(twin, mode);
    return 0;
}

int file_write_twin(const char *path, const void *bytes, size_t size, mode_t mode, err_t *err) {
    char *twin = mem_format("%s.twin", path);
    int result = -1, fd = open(twin, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        err_errno(err, "open %s", twin);
    } else if (file_write_all(fd, bytes, size, err)) {
        err_wrap(err, "%s", twin);
    } else if (ftruncate(fd, (off_t) size) || fsync(fd)) {
        err_errno(err, "sync %s", twin);
    } else {
        result = take_place(twin, path, mode, err) || sync_directory_of(path, err) ? -1 : 0;
    }
    if (fd >= 0)
        close(fd);
    mem_free(twin);
    return result;
}

int file_make_directory(const char *path, mode_t mode, err_t *err) {
    if (!*path)
        return err_set(err, "create a directory: its name is empty");
    char *copy = mem_text(path);
    int result = 0;
    for (char *slash = copy + 1;; slash++) {
        if (*slash != '/' && *slash)
            continue;
        char was = *slash;
        *slash = 0;
        if (mkdir(copy, mode) && errno != EEXIST) {
            result = err_errno(err, "create the directory %s", copy);
            break;
        }
        *slash = was;
        if (!was)
            break;
    }
    struct stat status;
    if (!result && (stat(path, &status) || !S_ISDIR(status.st_mode)))
        result = err_set(err, "%s is not a directory", path);
    mem_free(copy);
    return result;
}

/* The process number in a lock file, or 0: the file may hold anything, and nobody must send a signal to "-1". */
static pid_t read_holder(int fd) {
    char text[32];
    ssize_t n = pread(fd, text, sizeof text, 0);
    int64_t pid;
    if (n <= 0 || text_to_int(text_trim(text_make(text, (size_t) n)), &pid, NULL) || pid <= 0 || pid > INT_MAX)
        return 0;
    return (pid_t) pid;
}

static int lock_taken(const char *path, int fd, pid_t *holder, err_t *err) {
    if (errno != EWOULDBLOCK)
        return err_errno(err, "lock %s", path);
    pid_t pid = read_holder(fd);
    if (holder)
        *holder = pid;
    return pid ? err_set(err, "%s is locked by process %d", path, (int) pid)
               : err_set(err, "%s is locked by another process", path);
}

/* A child that the dead holder has forked a moment ago may have its lock until it has closed what it inherited. */
#define LEFTOVER_WAIT INT64_C(5000000000)  /* ns at most */
#define LEFTOVER_STEP 5000000L

static bool is_dead(pid_t holder) {
    return holder > 0 && kill(holder, 0) < 0 && errno == ESRCH;
}

int file_end_output(const char *tool, int status) {
    if ((fflush(stdout) == 0 && !ferror(stdout)) || status)
        return status;
    fprintf(stderr, "%s: write to standard output: %s\n", tool, errno ? strerror(errno) : "it failed");
    return EXIT_FAILURE;
}

int file_lock(const char *path, pid_t *holder, err_t *err) {
    int64_t waited = 0;
    if (holder)
        *holder = 0;
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
            return err_errno(err, "open the lock file %s", path);
        if (flock(fd, LOCK_EX | LOCK_NB)) {
            int error = errno;
            bool leftover = error == EWOULDBLOCK && is_dead(read_holder(fd)) && waited < LEFTOVER_WAIT;
            errno = error;
            if (!leftover)
                lock_taken(path, fd, holder, err);
            close(fd);
            if (!leftover)
                return -1;
            nanosleep(&(struct timespec){.tv_nsec = LEFTOVER_STEP}, NULL);
            waited += LEFTOVER_STEP;
            continue;
        }
        struct stat ours, there;
        if (fstat(fd, &ours) || stat(path, &there) || ours.st_ino != there.st_ino || ours.st_dev != there.st_dev) {
            close(fd); /* removed between open and lock: take the new one */
            continue;
        }
        char text[32]; /* written over the last holder's, so that it needs no room; and without any it holds, and does not say for whom */
        int n = snprintf(text, sizeof text, "%d\n", (int) getpid());
        if ((pwrite(fd, text, (size_t) n, 0) != n && errno != ENOSPC && errno != EDQUOT) || ftruncate(fd, n)) {
            err_errno(err, "write the lock file %s", path);
            close(fd);
            return -1;
        }
        return fd;
    }
}
