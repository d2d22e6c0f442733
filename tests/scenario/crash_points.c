/* Loaded into a tool (LD_PRELOAD): kills it at a chosen call that changes files, so that a test can try every such point. Environment:
 *   CRASH_KIND  steps (create, rename, unlink, truncate, sync) or writes
 *   CRASH_AT    the n-th call of that kind
 *   CRASH_HOW   before, after, half (of a write)
 *   CRASH_COUNT a file that gets the number of calls of both kinds at an orderly exit
 * Standard descriptors do not count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_long steps, writes;

static void die(void) {
    raise(SIGKILL);
}

static int is(const char *name, const char *value) {
    const char *found = getenv(name);
    return found && strcmp(found, value) == 0;
}

static int chosen(const char *kind, atomic_long *counter) {
    long n = atomic_fetch_add(counter, 1) + 1;
    const char *at = getenv("CRASH_AT");
    return is("CRASH_KIND", kind) && at && atol(at) == n;
}

static int counts(int fd) {
    struct stat status;
    return fd > 2 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)
#define STEP(call)                                 \
    do {                                           \
        int here = chosen("steps", &steps);        \
        if (here && is("CRASH_HOW", "before"))     \
            die();                                 \
        result = (call);                           \
        if (here)                                  \
            die();                                 \
    } while (0)

#define WRITE(fd, size, whole, half)               \
    do {                                           \
        if (!counts(fd))                           \
            return (whole);                        \
        int here = chosen("writes", &writes);      \
        if (here && is("CRASH_HOW", "before"))     \
            die();                                 \
        result = here && is("CRASH_HOW", "half") && (size) > 1 ? (half) : (whole); \
        if (here)                                  \
            die();                                 \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t size) {
    REAL(write);
    ssize_t result;
    WRITE(fd, size, real(fd, bytes, size), real(fd, bytes, size / 2));
    return result;
}

#define PWRITE(name)                                                             \
    ssize_t name(int fd, const void *bytes, size_t size, off_t at) {             \
        REAL(name);              \
        ssize_t result;                                                          \
        WRITE(fd, size, real(fd, bytes, size, at), real(fd, bytes, size / 2, at)); \
        return result;                                                           \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

int rename(const char *from, const char *to) {
    REAL(rename);
    int result;
    STEP(real(from, to));
    return result;
}

int unlink(const char *path) {
    REAL(unlink);
    int result;
    STEP(real(path));
    return result;
}

#define ON_FD(name)                           \
    int name(int fd) {                        \
        REAL(name);            \
        int result;                           \
        STEP(real(fd));                       \
        return result;                        \
    }
ON_FD(fsync)
ON_FD(fdatasync)

#define TRUNCATE(name)                        \
    int name(int fd, off_t size) {            \
        REAL(name);     \
        int result;                           \
        STEP(real(fd, size));                 \
        return result;                        \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define OPEN(name)                                                   \
    int name(const char *path, int flags, ...) {                     \
        REAL(name);                \
        va_list arguments;                                           \
        va_start(arguments, flags);                                  \
        int mode = flags & O_CREAT ? va_arg(arguments, int) : 0;     \
        va_end(arguments);                                           \
        int result;                                                  \
        if (!(flags & O_CREAT))                                      \
            return real(path, flags, mode);                          \
        STEP(real(path, flags, mode));                               \
        return result;                                               \
    }
OPEN(open)
OPEN(open64)

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("CRASH_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld %ld\n", atomic_load(&steps), atomic_load(&writes));
        fclose(file);
    }
}
