/* Sending dead letters again: hand-over, one batch after the other, and the account of what was sent, each step so that it can be taken up again. */
#include "replay.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "client.h"
#include "dead.h"
#include "replay_private.h"
#include "run/metrics.h"
#include "tools.h"

#define HAND_OVER_WITHIN (10 * NS_PER_S)
#define POLL_US 20000
#define TOTALS_MAX (1024u * 1024)
#define DONE_KEPT 256                 /* batches whose end is remembered */

int replay_lock(const replay_t *replay, err_t *err) {
    pid_t holder = 0;
    if (!replay->config->state_dir)
        return err_set(err, "%s has no state_dir: dead letters are sent again exactly once only with one", replay->config->path);
    char *path = mem_format("%s/replay.lock", replay->config->state_dir);
    int lock = file_lock(path, &holder, err);
    mem_free(path);
    return lock < 0 && holder ? err_set(err, "another replay is under way (process %d)", (int) holder) : lock;
}

/* ---- the account: {"total": {GROUP: N}, "open": {BATCH: {GROUP: N}}, "done": [BATCH, ...]} ---- */

json_t *replay_totals(const char *state_dir) {
    char *path = mem_format("%s/replayed", state_dir);
    buf_t text = {0};
    json_t *totals = file_read(path, TOTALS_MAX, &text, NULL) ? NULL : json_loadb((const char *) text.data, text.size, 0, NULL);
    buf_fini(&text);
    mem_free(path);
    return json_is_object(totals) ? totals : json_object();
}

uint64_t replay_total(const json_t *totals, const char *group) {
    json_int_t sum = json_integer_value(json_object_get(json_object_get(totals, "total"), group));
    const char *batch;
    json_t *counts;
    json_object_foreach(json_object_get(totals, "open"), batch, counts)
        sum += json_integer_value(json_object_get(counts, group));
    return (uint64_t) sum;
}

bool replay_is_open(const json_t *totals, const char *group) {
    const char *batch;
    json_t *counts;
    json_object_foreach(json_object_get(totals, "open"), batch, counts)
        if (json_integer_value(json_object_get(counts, group)))
            return true;
    return false;
}

char *replay_unfinished(const char *state_dir) {
    json_t *totals = replay_totals(state_dir), *counts;
    const char *batch;
    char *stage = NULL;
    json_object_foreach(json_object_get(totals, "open"), batch, counts) {
        const char *slash = strrchr(batch, '/');
        if (!stage && slash)
            stage = mem_text_n(batch, (size_t) (slash - batch));
    }
    json_decref(totals);
    return stage;
}

static json_t *member_of(json_t *object, const char *key, json_t *fresh) {
    json_t *value = json_object_get(object, key);
    if (!value)
        json_object_set(object, key, value = fresh);
    json_decref(fresh);
    return json_object_get(object, key);
}

static bool is_done(json_t *totals, const char *batch) {
    const json_t *name;
    size_t i;
    json_array_foreach(json_object_get(totals, "done"), i, name)
        if (json_is_string(name) && strcmp(json_string_value(name), batch) == 0)
            return true;
    return false;
}

/* counts: what the batch sends at most, or, at its end, has sent; taken. */
static int account(const char *state_dir, const char *batch, json_t *counts, bool end, err_t *err) {
    json_t *totals = replay_totals(state_dir), *sum = member_of(totals, "total", json_object());
    json_t *open = member_of(totals, "open", json_object()), *done = member_of(totals, "done", json_array());
    bool counted = is_done(totals, batch);
    const char *group;
    json_t *count;
    if (end && !counted) {
        json_object_foreach(counts, group, count)
            json_object_set_new(sum, group, json_integer(json_integer_value(json_object_get(sum, group)) + json_integer_value(count)));
        json_array_append_new(done, json_string(batch));
        if (json_array_size(done) > DONE_KEPT)
            json_array_remove(done, 0);
    }
    if (end || counted)
        json_object_del(open, batch);
    else
        json_object_set(open, batch, counts);
    char *text = json_dumps(totals, JSON_COMPACT), *path = mem_format("%s/replayed", state_dir);
    int result = file_write_atomic(path, text, strlen(text), 0600, err);
    json_decref(counts);
    json_decref(totals);
    mem_free(path);
    free(text);
    return result;
}

/* ---- the hand-over ---- */

static bool is_empty(const char *path) {
    struct stat status;
    return stat(path, &status) || status.st_size == 0;
}

/* FILE and FILE.1, as they were when their hand-over was asked for: new ones may take their places at once. */
typedef struct letters {
    const char *paths[2];
    ino_t inodes[2];                  /* 0: it was not there, or empty */
} letters_t;

static void find_letters(letters_t *letters) {
    struct stat status;
    for (size_t i = 0; i < 2; i++)
        letters->inodes[i] = stat(letters->paths[i], &status) == 0 && status.st_size ? status.st_ino : 0;
}

static bool are_there(const letters_t *letters) {
    letters_t now = *letters;
    find_letters(&now);
    for (size_t i = 0; i < 2; i++)
        if (now.inodes[i] && (now.inodes[i] == letters->inodes[0] || now.inodes[i] == letters->inodes[1]))
            return true;
    return false;
}

static int wait_for_hand_over(const replay_t *replay, const topology_stage_t *stage, letters_t *letters, err_t *err) {
    find_letters(letters);
    if (!are_there(letters))
        return 0;
    json_t *reply = client_ask(replay->topology->run_dir, json_pack("{s:s, s:s}", "command", "hand-over", "source", stage->name), false, err);
    if (!reply)
        return -1;
    bool asked = json_is_true(json_object_get(reply, "ok"));
    if (!asked)
        err_set(err, "%s", json_string_value(json_object_get(reply, "message")));
    json_decref(reply);
    int64_t until = clock_monotonic() + HAND_OVER_WITHIN;
    while (asked && are_there(letters)) {
        if (clock_monotonic() > until)
            return err_set(err, "%s has not handed its dead letters over within 10 s: it cannot make them safe (%s)", stage->name,
                           "disk full, or what it depends on is not durable");
        usleep(POLL_US);
    }
    return asked ? 0 : -1;
}

static int hand_over(const replay_t *replay, const topology_stage_t *stage, err_t *err) {
    char *old = mem_format("%s.1", stage->dead_letter);
    letters_t letters = {.paths = {stage->dead_letter, old}};
    int result = wait_for_hand_over(replay, stage, &letters, err);
    mem_free(old);
    return result;
}

/* ---- one part: an ingest, to its end ---- */

static _Noreturn void become(const replay_t *replay, char *path, int settings, pid_t parent) {
    char *arguments[] = {path, "--settings", "fd:3", NULL};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(settings, 3) < 0 || chdir(replay->config->directory))
        _exit(1);
    execvp(path, arguments);
    _exit(127);
}

static int run_ingest(const replay_t *replay, const json_t *settings, err_t *err) {
    char *path = tools_path("ingest"), *text = json_dumps(settings, JSON_COMPACT);
    int memory = memfd_create("settings", MFD_CLOEXEC), status = 0, result = -1;
    if (memory < 0 || file_write_all(memory, text, strlen(text), err) || lseek(memory, 0, SEEK_SET) != 0) {
        err_errno(err, "make a memory file");
        goto out;
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(replay, path, memory, parent);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0)
        err_errno(err, "run %s", path);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        result = 0;
    else
        err_set(err, "ingest ended with %s %d before everything was delivered; the next replay goes on there",
                WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
out:
    if (memory >= 0)
        close(memory);
    free(text);
    mem_free(path);
    return result;
}

/* ---- one batch ---- */

typedef struct batch {
    const replay_t *replay;
    const topology_stage_t *stage;
    const char *file;                 /* DEAD.replay-12 */
    const char *name;                 /* replay-12 */
    char *directory;                  /* STATE/replay/replay-12 */
    char *id;                         /* STAGE/replay-12 */
    replay_parts_t parts;
} batch_t;

static uint64_t sent_by(const batch_t *batch, const replay_part_t *part) {
    char *path = mem_format("%s/%s.metrics", batch->directory, part->name);
    metrics_snapshot_t snapshot;
    uint64_t sent = part->letters;
    if (metrics_read(path, &snapshot, NULL) == 0) {
        sent = (uint64_t) metrics_sum(&snapshot, "stream_events_out_total");
        metrics_snapshot_fini(&snapshot);
    }
    mem_free(path);
    return sent;
}

static json_t *counts_of(const batch_t *batch, bool end, uint64_t *sum) {
    json_t *counts = json_object();
    for (size_t i = 0; i < batch->parts.count; i++) {
        const replay_part_t *part = &batch->parts.items[i];
        uint64_t sent = end ? sent_by(batch, part) : part->letters;
        const char **groups = replay_part_groups(batch->replay, batch->stage, part);
        for (size_t g = 0; groups[g]; g++)
            json_object_set_new(counts, groups[g],
                                json_integer(json_integer_value(json_object_get(counts, groups[g])) + (json_int_t) sent));
        mem_free(groups);
        if (sum)
            *sum += sent;
    }
    return counts;
}

static int delete_one(const char *path, const struct stat *status, int type, struct FTW *place) {
    return remove(path);
}

static void delete_tree(const char *path) {
    nftw(path, delete_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What could not be read this time either is a dead letter again, under a name of its own. */
static int keep(const batch_t *batch, const char *from, const char *kind, uint64_t *count, err_t *err) {
    char *source = mem_format("%s/%s", batch->directory, from);
    char *target = mem_format("%s.%s-%lld", batch->stage->dead_letter, kind, (long long) clock_now());
    int result = 0;
    if (!is_empty(source)) {
        *count += dead_count_file(source);
        result = rename(source, target) ? err_errno(err, "rename %s to %s", source, target) : 0;
    }
    mem_free(source);
    mem_free(target);
    return result;
}

/* A crash between here and there leaves the text's letters as they were, or with their places. */
static int keep_unread(const batch_t *batch, const replay_part_t *part, uint64_t *count, err_t *err) {
    char *dead = mem_format("%s.dead", part->name), *path = mem_format("%s/%s", batch->directory, dead);
    int result = strcmp(part->name, "text") == 0 && !is_empty(path) ? replay_places_restore(path, batch->file, err) : 0;
    if (result == 0)
        result = keep(batch, dead, "again", count, err);
    mem_free(dead);
    mem_free(path);
    return result;
}

static int finish_batch(batch_t *batch, replay_result_t *result, err_t *err) {
    json_t *counts = counts_of(batch, true, &result->sent);
    if (account(batch->replay->config->state_dir, batch->id, counts, true, err))
        return -1;
    for (size_t i = 0; i < batch->parts.count; i++) {
        const replay_part_t *part = &batch->parts.items[i];
        result->letters += part->letters;
        if (keep_unread(batch, part, &result->again, err))
            return -1;
    }
    result->letters += batch->parts.unusable;
    if (keep(batch, "unusable", "unusable", &result->unusable, err))
        return -1;
    if (unlink(batch->file) && errno != ENOENT) /* from here on it is done */
        return err_errno(err, "delete %s", batch->file);
    delete_tree(batch->directory);
    return 0;
}

static int run_batch(batch_t *batch, replay_result_t *result, err_t *err) {
    if (replay_parts_open(&batch->parts, batch->replay, batch->stage, batch->file, batch->directory, err))
        return -1;
    if (account(batch->replay->config->state_dir, batch->id, counts_of(batch, false, NULL), false, err))
        return -1;
    for (size_t i = 0; i < batch->parts.count; i++) {
        json_t *settings = replay_part_settings(batch->replay, batch->stage, &batch->parts.items[i], batch->directory, err);
        int sent = settings ? run_ingest(batch->replay, settings, err) : -1;
        json_decref(settings);
        if (sent)
            return -1;
    }
    return finish_batch(batch, result, err);
}

/* Directories of batches whose file has gone: an earlier replay was interrupted in its last step. */
static void clean_up(const topology_stage_t *stage, const char *directory) {
    DIR *batches = opendir(directory);
    for (struct dirent *entry; batches && (entry = readdir(batches));) {
        char *file = mem_format("%s.%s", stage->dead_letter, entry->d_name), *path = mem_format("%s/%s", directory, entry->d_name);
        if (entry->d_name[0] != '.' && access(file, F_OK) && errno == ENOENT)
            delete_tree(path);
        mem_free(file);
        mem_free(path);
    }
    if (batches)
        closedir(batches);
}

int replay_stage(const replay_t *replay, const topology_stage_t *stage, replay_result_t *result, err_t *err) {
    if (!stage->dead_letter || !stage->state)
        return err_set(err, "%s keeps no dead letters", stage->name);
    if (!replay->resume && hand_over(replay, stage, err))
        return -1;
    size_t count;
    char *directory = mem_format("%s/replay", stage->state), **files = dead_files(stage->dead_letter, &count);
    clean_up(stage, directory);
    int status = 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        batch_t batch = {.replay = replay, .stage = stage, .file = files[i], .name = files[i] + strlen(stage->dead_letter) + 1};
        batch.directory = mem_format("%s/%s", directory, batch.name);
        batch.id = mem_format("%s/%s", stage->name, batch.name);
        if (!replay->resume || access(batch.directory, F_OK) == 0)
            status = run_batch(&batch, result, err);
        replay_parts_fini(&batch.parts);
        mem_free(batch.directory);
        mem_free(batch.id);
    }
    dead_files_free(files);
    mem_free(directory);
    return status;
}
