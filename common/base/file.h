#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/err.h"

/* Reads a whole file of at most `limit` bytes into *out (appended). */
int file_read(const char *path, size_t limit, buf_t *out, err_t *err);

/* Replaces a file so that readers and a crash see the old or the new content, never part of one: temporary
 * file, fsync, rename, fsync of the directory. */
int file_write_atomic(const char *path, const void *bytes, size_t size, mode_t mode, err_t *err);

/* As file_write_atomic, for a small file that must be replaceable on a full disk: the version before stays beside it as PATH.twin, whose room
 * the next one takes. */
int file_write_twin(const char *path, const void *bytes, size_t size, mode_t mode, err_t *err);

/* Creates the directory and its missing parents. */
int file_make_directory(const char *path, mode_t mode, err_t *err);

/* Writes all bytes, going on after short writes and EINTR. */
int file_write_all(int fd, const void *bytes, size_t size, err_t *err);

/* At the end of a tool that may have printed on standard output: its exit status, `status` unless that is 0 and what was printed could not be
 * written, which is said on standard error. */
int file_end_output(const char *tool, int status);

/* Takes an exclusive advisory lock on `path` (created with our pid inside, 0644) and returns its fd; the lock goes with the
 * process; a holder that is dead, whose child still has the lock for a moment, is waited for. When another process has it: -1, and *holder (may be NULL) is its pid; on any other failure, and when it is unknown, 0. */
int file_lock(const char *path, pid_t *holder, err_t *err);

#endif
