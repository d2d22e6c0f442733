/* --reset: what a stage keeps in its directory is deleted, but for who it was. Receivers to which many senders connect cannot know that one of them
 * was begun anew, and wait for it to say of its last frames that they will not be taken back; its successor names it to them. In the file "replaces": the
 * origins that the directory had, a line for each, the last one first. */
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "run/stage_state.h"

#define REPLACES_SIZE_MAX 4096

static const char *const kept[] = {"snapshot", "snapshot.new", "progress", "progress.synced", "ledger", "tool", "options", "taken", NULL};

static void remove_directory(const char *directory, const char *name) {
    char *path = mem_format("%s/%s", directory, name);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(path);
    mem_free(path);
}

static void remove_kept(const char *directory) {
    for (int i = 0; kept[i]; i++) {
        char *path = mem_format("%s/%s", directory, kept[i]);
        unlink(path);
        mem_free(path);
    }
    remove_directory(directory, "spool");
    remove_directory(directory, "outside");
}

/* The lines of the file, which may be missing. */
static void read_lines(const char *path, buf_t *lines) {
    err_t err;
    if (access(path, F_OK) == 0 && file_read(path, REPLACES_SIZE_MAX, lines, &err))
        log_warning("%s; receivers may wait for what was there before the reset", err.text);
}

/* With `origin` in front, and without it behind that. */
static void put_lines(const char *origin, const buf_t *lines, buf_t *out) {
    text_t rest = text_make((const char *) lines->data, lines->size), line;
    unsigned count = 1;
    buf_format(out, "%s\n", origin);
    while (count < FRAME_REPLACES_MAX && rest.size && text_split(&rest, '\n', &line))
        if (line.size && !text_is(line, origin)) {
            buf_format(out, "%.*s\n", (int) line.size, line.data);
            count++;
        }
}

int reset_directory(const char *directory, err_t *err) {
    char *path = mem_format("%s/replaces", directory), *spool = mem_format("%s/spool", directory), origin[FRAME_ORIGIN_MAX + 1];
    buf_t before = {0}, lines = {0};
    int result = 0;
    log_warning("--reset: what was kept in %s is deleted", directory);
    if (spool_origin(spool, origin)) {
        read_lines(path, &before);
        put_lines(origin, &before, &lines);
        result = file_write_atomic(path, lines.data, lines.size, 0600, err);
    }
    remove_kept(directory);
    if (result)                        /* on a full disk there is room now */
        result = file_write_atomic(path, lines.data, lines.size, 0600, err);
    buf_fini(&before);
    buf_fini(&lines);
    mem_free(path);
    mem_free(spool);
    return result;
}

void reset_read(const char *directory, const char *origin, buf_t *replaces) {
    char *path = mem_format("%s/replaces", directory);
    buf_t lines = {0};
    text_t names[FRAME_REPLACES_MAX], line;
    uint32_t count = 0;
    read_lines(path, &lines);
    text_t rest = text_make((const char *) lines.data, lines.size);
    while (count < FRAME_REPLACES_MAX && rest.size && text_split(&rest, '\n', &line))
        if (line.size && line.size <= FRAME_ORIGIN_MAX && !text_is(line, origin))
            names[count++] = line;
    if (count)
        pack_array(replaces, count);
    for (uint32_t i = 0; i < count; i++)
        pack_string(replaces, names[i].data, names[i].size);
    buf_fini(&lines);
    mem_free(path);
}
