/* Run directories: where they are, making and cleaning them, and finding those in use. */
#include "rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

char *rundir_base(void) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime && *runtime == '/')
        return mem_format("%s/streamctl", runtime);
    if (geteuid() == 0)
        return mem_text("/run/streamctl");
    return mem_format("/tmp/streamctl-%u", (unsigned) geteuid());
}

/* FNV-1a, 32 bits. */
static unsigned hash_of(const char *text) {
    unsigned hash = 2166136261u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char) *text) * 16777619u;
    return hash;
}

/* A short readable part for the directory's name: sockets' paths hold 107 bytes only. */
static void short_name(char *out, size_t size, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t n = 0;
    for (; base[n] && n + 1 < size && n < 20; n++)
        out[n] = (char) (strchr("./ ", base[n]) || (unsigned char) base[n] < 33 || (unsigned char) base[n] > 126 ? '_' : base[n]);
    out[n] = 0;
    if (text_ends(out, "_json"))
        out[n - 5] = 0;
}

char *rundir_path(const char *config_path) {
    char *real = realpath(config_path, NULL);
    char *absolute = real ? NULL : *config_path == '/' ? mem_text(config_path) : NULL;
    if (!real && !absolute) {
        char here[PATH_MAX];
        absolute = mem_format("%s/%s", getcwd(here, sizeof here) ? here : "", config_path);
    }
    const char *path = real ? real : absolute;
    char name[32], *base = rundir_base();
    short_name(name, sizeof name, path);
    char *result = mem_format("%s/%s-%08x", base, name, hash_of(path));
    mem_free(base);
    mem_free(absolute);
    free(real);
    return result;
}

static int check_owner(const char *path, err_t *err) {
    struct stat status;
    if (lstat(path, &status))
        return err_errno(err, "%s", path);
    if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid())
        return err_set(err, "%s is not a directory of ours: remove it, or set XDG_RUNTIME_DIR", path);
    if ((status.st_mode & 077) && chmod(path, 0700))
        return err_errno(err, "make %s private", path);
    return 0;
}

int rundir_make(const char *path, err_t *err) {
    char *base = rundir_base();
    char *links = mem_format("%s/l", path);
    int result = file_make_directory(base, 0700, err);
    if (result)
        err_wrap(err, "the run directory (set XDG_RUNTIME_DIR to where it may be made)");
    else
        result = check_owner(base, err);
    if (result == 0)
        result = file_make_directory(path, 0700, err);
    if (result == 0)
        result = check_owner(path, err);
    if (result == 0)
        result = file_make_directory(links, 0700, err);
    mem_free(links);
    mem_free(base);
    return result;
}

static void remove_in(const char *path, bool all) {
    DIR *directory = opendir(path);
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory));) {
        const char *name = entry->d_name;
        bool keep = strcmp(name, "lock") == 0 || strcmp(name, "config") == 0 || text_ends(name, ".log") || text_ends(name, ".log.1");
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && (all || !keep))
            unlinkat(dirfd(directory), name, 0); /* a directory stays */
    }
    closedir(directory);
}

void rundir_clean(const char *path) {
    char *links = mem_format("%s/l", path);
    remove_in(links, true);
    remove_in(path, false);
    mem_free(links);
}

int rundir_note(const char *path, const char *config_path, err_t *err) {
    char *file = mem_format("%s/config", path);
    int result = file_write_atomic(file, config_path, strlen(config_path), 0600, err);
    mem_free(file);
    return result;
}

char *rundir_config(const char *path) {
    char *file = mem_format("%s/config", path);
    buf_t text = {0};
    char *result = file_read(file, PATH_MAX, &text, NULL) ? NULL : mem_text(buf_text(&text));
    buf_fini(&text);
    mem_free(file);
    return result;
}

pid_t rundir_holder(const char *path) {
    char *lock = mem_format("%s/lock", path);
    int fd = open(lock, O_RDONLY | O_CLOEXEC);
    mem_free(lock);
    if (fd < 0)
        return 0;
    pid_t holder = 0;
    if (flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK) {
        char text[32] = "";
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        holder = n > 0 ? (pid_t) strtol(text, NULL, 10) : 0;
    }
    close(fd);
    return holder;
}

void rundir_running(option_list_t *paths) {
    char *base = rundir_base();
    DIR *directory = opendir(base);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (entry->d_name[0] == '.')
            continue;
        char *path = mem_format("%s/%s", base, entry->d_name);
        if (rundir_holder(path)) {
            paths->items = mem_resize(paths->items, (paths->count + 1) * sizeof *paths->items);
            paths->items[paths->count++] = path;
        } else {
            mem_free(path);
        }
    }
    if (directory)
        closedir(directory);
    mem_free(base);
}

void rundir_list_fini(option_list_t *paths) {
    for (size_t i = 0; i < paths->count; i++)
        mem_free(paths->items[i]);
    mem_free(paths->items);
    *paths = (option_list_t){0};
}
