/* One file of a file sink: opening for appending, whole records only, rotation by renaming. */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

static int make_parents(const char *path, err_t *err) {
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return 0;
    char *directory = mem_text_n(path, (size_t) (slash - path));
    struct stat status;
    int result = stat(directory, &status) == 0 ? 0 : file_make_directory(directory, 0777, err);
    mem_free(directory);
    return result;
}

int64_t output_birth(int fd, int64_t unknown) {
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &status) == 0 && status.stx_mask & STATX_BTIME)
        return (int64_t) status.stx_btime.tv_sec * NS_PER_S + status.stx_btime.tv_nsec;
    return unknown;
}

/* Only when something outside has cut the file in the middle of a record. */
static void end_torn_line(output_t *output) {
    char last = '\n';
    int fd = open(output->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, &last, 1, (off_t) output->size - 1) != 1)
        last = '\n';
    if (fd >= 0)
        close(fd);
    if (last == '\n')
        return;
    log_warning("%s ends in the middle of a line: a new line is begun", output->path);
    buf_put_byte(&output->text, '\n');
}

/* Shows the encoder what the file begins with. */
static int resume(output_t *output, err_t *err) {
    if (!output->encoder->class->resume)
        return 0;
    char *beginning = mem_alloc(ENCODER_BEGINNING);
    int fd = open(output->path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : pread(fd, beginning, ENCODER_BEGINNING, 0);
    int result;
    if (size < 0)
        result = err_errno(err, "read %s", output->path);
    else if ((result = output->encoder->class->resume(output->encoder, text_make(beginning, (size_t) size), err)))
        err_wrap(err, "append to %s", output->path);
    if (fd >= 0)
        close(fd);
    mem_free(beginning);
    return result;
}

int output_open(output_t **made, const char *path, const format_t *format, const format_settings_t *settings, int mode, err_t *err) {
    struct stat status;
    if (make_parents(path, err))
        return -1;
    output_t *output = mem_zero(sizeof *output);
    output->path = mem_text(path);
    output->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode);
    if (output->fd < 0 || fstat(output->fd, &status)) {
        err_errno(err, "open %s", path);
        goto failed;
    }
    output->regular = S_ISREG(status.st_mode);
    if (!output->regular && !S_ISCHR(status.st_mode)) {
        err_set(err, "%s is not a file", path);
        goto failed;
    }
    if (output->regular && flock(output->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) { /* not every file system has locks */
        err_set(err, "%s is written to by another sink, or another broadcast: each needs a file of its own", path);
        goto failed;
    }
    if (format->encoder_open(&output->encoder, settings, err))
        goto failed;
    output->size = output->kept = output->regular ? (uint64_t) status.st_size : 0;
    output->identity = output_birth(output->fd, 0);
    output->born = output->identity ? output->identity : clock_now();
    output->inode = status.st_ino;
    output->fresh = true;
    if (output->size) {
        end_torn_line(output);
        if (resume(output, err))
            goto failed;
    } else if (output->encoder->class->header) {
        output->encoder->class->header(output->encoder, &output->text);
    }
    *made = output;
    return 0;
failed:
    output_free(output);
    return -1;
}

bool output_sound(output_t *output) {
    struct stat status;
    if (!output->regular || output->text.size || fstat(output->fd, &status))
        return true;
    if (!status.st_nlink) {
        log_error("%s: something else has deleted it: it is begun anew", output->path);
        return false;
    }
    uint64_t size = (uint64_t) status.st_size;
    if (size == output->size)
        return true;
    log_error("%s: it has %llu bytes, and had %llu: something else %s", output->path, (unsigned long long) size, (unsigned long long) output->size,
              size < output->size ? "has cut it" : "writes to it");
    output->size = output->kept = size;
    if (size)
        end_torn_line(output);
    else if (output->encoder->class->header)
        output->encoder->class->header(output->encoder, &output->text);
    return true;
}

int output_write(output_t *output, err_t *err) {
    if (!output->text.size)
        return 0;
    if (file_write_all(output->fd, output->text.data, output->text.size, err))
        return err_wrap(err, "write %s", output->path);
    output->size += output->text.size;
    output->dirty = true;
    buf_clear(&output->text);
    return 0;
}

int output_sync(output_t *output, err_t *err) {
    if (output->dirty && output->regular && fdatasync(output->fd))
        return err_errno(err, "sync %s", output->path);
    output->dirty = false;
    return 0;
}

void output_keep(output_t *output) {
    output->kept = output->size;
}

void output_undo(output_t *output) {
    buf_clear(&output->text);
    if (output->regular && ftruncate(output->fd, (off_t) output->kept))
        log_error("%s: truncate to %llu: %s; its last record may be incomplete or doubled", output->path,
                  (unsigned long long) output->kept, strerror(errno));
    output->size = output->kept;
}

/* The least i from 1 such that PATH.i does not exist; `keep` when all do. */
static int64_t first_missing(const char *path, int64_t keep) {
    for (int64_t i = 1; i < keep; i++) {
        char *old = mem_format("%s.%lld", path, (long long) i);
        bool missing = access(old, F_OK) != 0;
        mem_free(old);
        if (missing)
            return i;
    }
    return keep;
}

int output_rotate(const output_t *output, int64_t keep, err_t *err) {
    if (keep <= 0)
        return unlink(output->path) ? err_errno(err, "remove %s", output->path) : 0;
    for (int64_t i = first_missing(output->path, keep) - 1; i >= 0; i--) {
        char *old = i ? mem_format("%s.%lld", output->path, (long long) i) : mem_text(output->path);
        char *new = mem_format("%s.%lld", output->path, (long long) i + 1);
        int failed = rename(old, new) && errno != ENOENT ? err_errno(err, "rename %s to %s", old, new) : 0;
        mem_free(old);
        mem_free(new);
        if (failed)
            return -1;
    }
    return 0;
}

/* For those that a copy of the descriptor outlives. */
void output_unlock(output_t *output) {
    if (output->fd >= 0 && output->regular)
        flock(output->fd, LOCK_UN);
}

void output_free(output_t *output) {
    if (!output)
        return;
    if (output->fd >= 0)
        close(output->fd);
    encoder_free(output->encoder);
    buf_fini(&output->text);
    mem_free(output->path);
    mem_free(output);
}
