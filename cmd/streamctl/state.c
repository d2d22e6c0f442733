/* state_dir: making it, locking it, deleting what is in it, and remembering what it was made by. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

#define NOTE "made-by"                /* in a stage's directory */
#define WAS_RESET "was-reset"
#define WALK_DESCRIPTORS 16
#define LEDGER_MAX (16u * 1024 * 1024)

static int make_private(const char *path, err_t *err) {
    struct stat status;
    if (file_make_directory(path, 0700, err))
        return -1;
    if (stat(path, &status))
        return err_errno(err, "%s", path);
    if (status.st_uid != geteuid())
        return err_set(err, "%s belongs to another user: state is kept in a directory of our own", path);
    if ((status.st_mode & 077) && chmod(path, 0700))
        return err_errno(err, "make %s private", path);
    return 0;
}

int state_take(const topology_t *topology, const char *state_dir, int *lock, err_t *err) {
    pid_t holder = 0;
    *lock = -1;
    if (!state_dir)
        return 0;
    if (make_private(state_dir, err))
        return err_wrap(err, "state_dir");
    char *path = mem_format("%s/lock", state_dir);
    *lock = file_lock(path, &holder, err);
    mem_free(path);
    if (*lock < 0 && holder)
        return err_set(err, "state_dir %s is used by another instance (process %d)", state_dir, (int) holder);
    if (*lock < 0)
        return -1;
    for (size_t i = 0; i < topology->count; i++)
        if (topology->stages[i].state && make_private(topology->stages[i].state, err))
            return err_wrap(err, "state_dir");
    return 0;
}

/* nftw has no argument; there is one walk at a time. */
static uint64_t walked_bytes;
static bool walked_any;

static int measure(const char *path, const struct stat *status, int type, struct FTW *place) {
    walked_any |= place->level > 0;
    if (type == FTW_F)
        walked_bytes += (uint64_t) status->st_size;
    return 0;
}

/* Dead letters, and replays of them that were interrupted, are no state: most resets follow a repair, and they wait for it. */
static bool is_letter(const char *path, const struct FTW *place) {
    const char *name = place->level == 1 ? path + place->base : "";
    return text_starts(name, "dead.ndjson") || strstr(path, "/replay/") || strcmp(name, "replay") == 0;
}

static int delete(const char *path, const struct stat *status, int type, struct FTW *place) {
    return place->level == 0 || is_letter(path, place) ? 0 : remove(path);
}

static bool meant(const topology_stage_t *stage, const char *only) {
    return stage->state && (!only || strcmp(stage->name, only) == 0 || strcmp(stage->group, only) == 0);
}

bool state_exists(const topology_t *topology, const char *only, uint64_t *bytes) {
    walked_bytes = 0;
    walked_any = false;
    for (size_t i = 0; i < topology->count; i++)
        if (meant(&topology->stages[i], only))
            nftw(topology->stages[i].state, measure, WALK_DESCRIPTORS, FTW_PHYS);
    if (bytes)
        *bytes = walked_bytes;
    return walked_any;
}

static int note_reset(const char *directory, err_t *err) {
    char *path = mem_format("%s/" WAS_RESET, directory);
    int result = file_write_atomic(path, "", 0, 0600, err);
    mem_free(path);
    return result;
}

bool state_was_reset(const char *stage_directory) {
    char *path = mem_format("%s/" WAS_RESET, stage_directory);
    bool was = access(path, F_OK) == 0;
    mem_free(path);
    return was;
}

int state_reset(const topology_t *topology, const char *state_dir, const char *only, err_t *err) {
    for (size_t i = 0; i < topology->count; i++) {
        const char *path = topology->stages[i].state;
        if (!meant(&topology->stages[i], only) || access(path, F_OK))
            continue;
        if (nftw(path, delete, WALK_DESCRIPTORS, FTW_DEPTH | FTW_PHYS))
            return err_errno(err, "delete what is in %s", path);
        if (only && note_reset(path, err))
            return -1;
    }
    static const char *const files[] = {"ledger", "replayed"};
    int result = 0;
    for (size_t i = 0; i < 2 && !only && result == 0; i++) {
        char *file = mem_format("%s/%s", state_dir, files[i]);
        result = unlink(file) && errno != ENOENT ? err_errno(err, "delete %s", file) : 0;
        mem_free(file);
    }
    return result;
}

/* What the state depends on: a pipeline's program, and which data a source reads. The hash tells nothing of secrets in a URL. */
static const char *made_by(const topology_stage_t *stage, char hash[static 17]) {
    static const char *const source[] = {"type", "url", "path", NULL}, *const pipeline[] = {"program", NULL};
    const char *const *keys = stage->role == ROLE_SOURCE ? source : stage->role == ROLE_PIPELINE ? pipeline : NULL;
    if (!keys || !stage->state)
        return NULL;
    const char *what = stage->role == ROLE_SOURCE ? "source" : "program";
    buf_t text = {0};
    for (; *keys; keys++) {
        const char *value = json_string_value(json_object_get(stage->settings, *keys));
        buf_put_text(&text, value ? value : "");
        buf_put_byte(&text, 0);
    }
    snprintf(hash, 17, "%016llx", (unsigned long long) XXH3_64bits(text.data, text.size));
    explicit_bzero(text.data, text.size);
    buf_fini(&text);
    return what;
}

void state_note(const topology_stage_t *stage) {
    char hash[17];
    err_t err;
    if (!made_by(stage, hash))
        return;
    char *path = mem_format("%s/" NOTE, stage->state);
    if (file_write_atomic(path, hash, strlen(hash), 0600, &err))
        log_warning("%s", err.text);
    mem_free(path);
}

bool state_fits(const topology_stage_t *stage, const char **what) {
    char hash[17];
    *what = made_by(stage, hash);
    if (!*what)
        return true;
    char *path = mem_format("%s/" NOTE, stage->state);
    buf_t text = {0};
    bool other = file_read(path, 64, &text, NULL) == 0 && strcmp(buf_text(&text), hash) != 0;
    buf_fini(&text);
    mem_free(path);
    return !other;
}

int state_ledger_write(const char *state_dir, json_t *ledger, err_t *err) {
    char *path = mem_format("%s/ledger", state_dir), *text = json_dumps(ledger, JSON_COMPACT);
    int result = file_write_atomic(path, text, strlen(text), 0600, err);
    json_decref(ledger);
    free(text);
    mem_free(path);
    return result;
}

json_t *state_ledger_read(const char *state_dir, err_t *err) {
    char *path = mem_format("%s/ledger", state_dir);
    buf_t text = {0};
    json_error_t error;
    json_t *ledger = NULL;
    if (access(path, F_OK))
        err_set(err, "has left no ledger: it has not run yet, or was killed, and then its stages know their counts when they are started again");
    else if (file_read(path, LEDGER_MAX, &text, err) == 0 && !(ledger = json_loadb((const char *) text.data, text.size, 0, &error)))
        err_set(err, "its ledger %s is damaged in line %d: %s", path, error.line, error.text);
    buf_fini(&text);
    mem_free(path);
    return ledger;
}

void state_ledger_remove(const char *state_dir) {
    char *path = mem_format("%s/ledger", state_dir);
    unlink(path);
    mem_free(path);
}
