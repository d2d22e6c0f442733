/* Input from beside the links. With --state it goes into the order of inputs like all else; what is large and stays in use (a table) goes into a file
 * of its own in the state directory, and the order tells its number. Files go when no snapshot and no replay can want them any more. */
#include "run/stage_state.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#define FILE_MAX ((size_t) 1 << 34)
#define CHECKSUM 8                     /* bytes behind the content: its XXH3-64, little-endian */

static char *file_path(const stage_t *stage, uint64_t number) {
    return mem_format("%s/outside/%" PRIu64, stage->private->state->directory, number);
}

/* ---- files ---- */

static void put_checksum(uint8_t *out, uint64_t hash) {
    for (int i = 0; i < CHECKSUM; i++)
        out[i] = (uint8_t) (hash >> 8 * i);
}

static int write_file(stage_t *stage, uint64_t number, text_t bytes, err_t *err) {
    uint8_t sum[CHECKSUM];
    put_checksum(sum, XXH3_64bits(bytes.data, bytes.size));
    buf_t content = {0};
    buf_reserve(&content, bytes.size + CHECKSUM);
    buf_put(&content, bytes.data, bytes.size);
    buf_put(&content, sum, sizeof sum);
    char *directory = mem_format("%s/outside", stage->private->state->directory), *path = file_path(stage, number);
    int result = file_make_directory(directory, 0700, err) || file_write_atomic(path, content.data, content.size, 0600, err) ? -1 : 0;
    mem_free(directory);
    mem_free(path);
    buf_fini(&content);
    return result;
}

static void keep(struct stage_store *state, unsigned channel, uint64_t number) {
    for (unsigned i = 0; i < state->kept_count; i++) {
        if (state->kept[i].channel == channel) {
            state->kept[i].number = number;
            return;
        }
    }
    state->kept = mem_resize(state->kept, (state->kept_count + 1) * sizeof *state->kept);
    state->kept[state->kept_count++] = (stage_kept_t){channel, number};
}

int stage_recall(stage_t *stage, unsigned channel, uint64_t number, buf_t *out, err_t *err) {
    struct stage_store *state = stage->private->state;
    ASSERT(state && number);
    char *path = file_path(stage, number);
    size_t before = out->size;
    int result = file_read(path, FILE_MAX, out, err);
    size_t size = out->size - before;
    uint8_t sum[CHECKSUM] = {0};
    if (!result && size >= CHECKSUM)
        put_checksum(sum, XXH3_64bits(out->data + before, size - CHECKSUM));
    if (!result && (size < CHECKSUM || memcmp(sum, out->data + out->size - CHECKSUM, CHECKSUM) != 0))
        result = err_set(err, "%s is damaged; --reset starts anew", path);
    if (result)
        out->size = before;
    else
        out->size -= CHECKSUM;
    if (!result)
        keep(state, channel, number);
    mem_free(path);
    return result;
}

/* Calls visit with the number of each file. With `tidy` those go that were not written to their end. */
static void each_file(stage_t *stage, bool tidy, void (*visit)(stage_t *stage, uint64_t number)) {
    char *path = mem_format("%s/outside", stage->private->state->directory);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char *end;
        uint64_t number = strtoull(entry->d_name, &end, 10);
        if (number && !*end)
            visit(stage, number);
        else if (number && tidy)
            unlinkat(dirfd(directory), entry->d_name, 0);
    }
    if (directory)
        closedir(directory);
    mem_free(path);
}

static void note_number(stage_t *stage, uint64_t number) {
    struct stage_store *state = stage->private->state;
    if (number > state->outside_number)
        state->outside_number = number;
}

int outside_open(stage_t *stage, err_t *err) {
    each_file(stage, true, note_number);
    return 0;
}

void outside_close(stage_t *stage) {
    mem_free(stage->private->state->kept);
    mem_free(stage->private->state->kept_marked);
}

/* ---- snapshots ---- */

void outside_mark(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    mem_free(state->kept_marked);
    state->kept_marked = state->kept_count ? mem_copy(state->kept, state->kept_count * sizeof *state->kept) : NULL;
    state->marked_count = state->kept_count;
    state->marked_number = state->outside_number;
}

static void remove_old(stage_t *stage, uint64_t number) {
    const struct stage_store *state = stage->private->state;
    if (number > state->marked_number)
        return;
    for (unsigned i = 0; i < state->marked_count; i++)
        if (state->kept_marked[i].number == number)
            return;
    char *path = file_path(stage, number);
    if (unlink(path))
        log_warning("%s: %s", path, strerror(errno));
    mem_free(path);
}

void outside_settle(stage_t *stage) {
    if (stage->private->state->marked_number)
        each_file(stage, false, remove_old);
}

/* ---- taking it ---- */

void outside_give(stage_t *stage, const stage_told_t *told) {
    buf_t content = {0};
    err_t err;
    text_t bytes = told->bytes;
    if (told->number && !bytes.data) {
        if (stage_recall(stage, told->channel, told->number, &content, &err)) {
            stage_fail(stage, "what was read from outside before the restart is gone: %s", err.text);
            return;
        }
        bytes = text_make((const char *) content.data, content.size);
    } else if (told->number) {
        keep(stage->private->state, told->channel, told->number);
    }
    stage->tool->outside(stage, told->channel, told->number, bytes);
    stage_flush(stage);
    buf_fini(&content);
}

int stage_outside(stage_t *stage, unsigned channel, text_t bytes, bool keep_it, err_t *err) {
    struct stage_store *state = stage->private->state;
    stage_told_t told = {.channel = channel, .bytes = bytes};
    if (stage->private->failed || stage->private->again || (state && (state->leaving || state->replaying)))
        return err_set(err, "the stage is leaving");
    if (stage->private->finished_called) /* nothing can come of it any more */
        return 0;
    if (!has_order(stage)) {
        stage->tool->outside(stage, channel, 0, bytes);
        stage_flush(stage);
        return 0;
    }
    ASSERT(keep_it || bytes.size <= STAGE_OUTSIDE_MAX);
    if (keep_it) {
        if (write_file(stage, state->outside_number + 1, bytes, err))
            return -1;
        told.number = ++state->outside_number;
    }
    order_outside(stage, &told);
    stage_publish_sometimes(stage);
    return 0;
}

int stage_go_live(stage_t *stage, err_t *err) {
    return stage->tool->live ? stage->tool->live(stage, err) : 0;
}
