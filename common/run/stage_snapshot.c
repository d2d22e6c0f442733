/* Snapshots of a deterministic stage: a forked child, which has a consistent copy of everything, writes operators' state and how far the inputs
 * and the output have come; the stage goes on meanwhile. A snapshot counts (is confirmed) when it is on disk and nothing that it
 * covers can be taken back by those who sent it; then the inputs are acknowledged as durable, and the log before it is let go.
 *
 * The file: one packed array (the head, see put_head), the tool's state, and the XXH3-64 of both, 8 bytes, little-endian. */
#include "run/stage_state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"

#define SNAPSHOT_FORMAT 2
#define SNAPSHOT_MAX (INT64_C(1) << 36)
#define REST 10                        /* a snapshot that took T is followed by REST × T without one */
#define REST_LEAST (5 * NS_PER_MS)

/* ---- writing: in the child ---- */

static struct writer {
    int fd;
    XXH3_state_t *hash;
    bool failed;
} writer;

static void write_out(buf_t *out) {
    err_t err;
    XXH3_64bits_update(writer.hash, out->data, out->size);
    if (!writer.failed && file_write_all(writer.fd, out->data, out->size, &err))
        writer.failed = true;
    buf_clear(out);
}

void stage_save_flush(stage_t *stage, buf_t *out) {
    write_out(out);
}

static void put_head(stage_t *stage, buf_t *out) {
    const struct stage_store *state = stage->private->state;
    const stage_private_t *private = stage->private;
    const struct stage_ledger *ledger = &stage->ledger;
    const uint64_t counts[] = {ledger->in, ledger->out, ledger->filtered, ledger->late, ledger->dead, ledger->dropped, ledger->held, ledger->created,
                               stage->errors};
    pack_array(out, 9);
    pack_uint(out, SNAPSHOT_FORMAT);
    pack_int(out, clock_now());
    pack_uint(out, spool_index(state->spool));
    pack_uint(out, spool_number(state->spool));
    pack_uint(out, private->dead_serial);
    pack_bool(out, state->ending);
    pack_array(out, sizeof counts / sizeof *counts);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        pack_uint(out, counts[i]);
    pack_array(out, private->input_count);
    for (unsigned i = 0; i < private->input_count; i++)
        pack_text(out, stage_input_key(stage, i));
    pack_array(out, state->origin_count);
    for (unsigned i = 0; i < state->origin_count; i++) {
        const stage_origin_t *origin = state->origins[i];
        pack_array(out, 5);
        pack_uint(out, origin->input);
        pack_text(out, origin->name);
        pack_uint(out, origin->epoch);
        pack_uint(out, origin->number);
        pack_bool(out, origin->ended || stage_input_replaced(stage, origin->input, origin->name));
    }
}

/* Everything but the file itself is closed first: locks must not outlive the stage through us. */
static void child_main(stage_t *stage, int fd) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(fd, STDIN_FILENO);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    writer = (struct writer){.fd = STDIN_FILENO, .hash = XXH3_createState()};
    XXH3_64bits_reset(writer.hash);
    buf_t out = {0};
    put_head(stage, &out);
    stage->tool->save(stage, &out);
    write_out(&out);
    uint64_t hash = XXH3_64bits_digest(writer.hash);
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t) (hash >> 8 * i);
    err_t err;
    if (writer.failed || file_write_all(writer.fd, bytes, sizeof bytes, &err) || fsync(writer.fd))
        _exit(errno == ENOSPC || errno == EDQUOT ? 2 : 1);
    _exit(0);
}

/* ---- beginning one, and its end ---- */

static void on_timer(void *argument);
static void on_child(void *argument, uint32_t events);

static void later(stage_t *stage, int64_t delay) {
    struct stage_store *state = stage->private->state;
    int64_t rest = (state->snapshot_wanted ? state->snapshot_soon : state->snapshot_next) - clock_monotonic();
    loop_remove(state->snapshot_timer);
    state->snapshot_timer = loop_timer(stage->loop, delay > rest ? delay : rest, 0, on_timer, stage);
}

static void failed(stage_t *stage, const char *reason) {
    struct stage_store *state = stage->private->state;
    log_error("a snapshot could not be written to %s: %s; the log grows until one succeeds", state->directory, reason);
    metrics_health(false, "snapshots cannot be written");
    state->trouble = state->snapshot_failed = true;
    later(stage, NS_PER_S);
}

static void mark_inputs(struct stage_store *state) {
    state->marks = mem_resize(state->marks, (state->origin_count + 1) * sizeof *state->marks);
    state->mark_count = state->origin_count;
    for (unsigned i = 0; i < state->origin_count; i++)
        state->marks[i] = (stage_mark_t){state->origins[i], state->origins[i]->number};
}

static void begin(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    bool hurry = state->snapshot_wanted;
    state->snapshot_wanted = state->snapshot_failed = false;
    state_note(stage); /* what was taken and has led to no output yet */
    state->snapshot_serial = state->step_serial;
    state->unlogged = state->outside_bytes = 0;
    state->snapshot_began = clock_monotonic();
    state->pending_index = spool_index(state->spool);
    state->pending_dead = stage->private->dead_serial;
    mark_inputs(state);
    outside_mark(stage);
    if (hurry)
        spool_sync_start(state->spool);
    if (stage->settings.sync != SPOOL_NONE)
        stage_dead_sync(stage);
    char *path = stage_state_path(stage, "snapshot.new");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    state->child = fd < 0 ? -1 : fork();
    int error = errno;
    if (state->child == 0)
        child_main(stage, fd);
    if (fd >= 0)
        close(fd);
    if (state->child > 0) {
        state->child_fd = (int) syscall(SYS_pidfd_open, state->child, 0);
        state->child_watch = loop_fd(stage->loop, state->child_fd, EPOLLIN, on_child, stage);
    } else {
        char reason[160];
        snprintf(reason, sizeof reason, "%s: %s", fd < 0 ? "snapshot.new" : "fork", strerror(error));
        failed(stage, reason);
    }
    mem_free(path);
}

static bool under_way(const struct stage_store *state) {
    return state->child_fd >= 0 || state->snapshot_written;
}

static void on_timer(void *argument) {
    stage_t *stage = argument;
    struct stage_store *state = stage->private->state;
    state->snapshot_timer = NULL;
    if (under_way(state))
        return; /* its end sets the timer */
    if (stage_dead_waiting(stage))
        later(stage, NS_PER_S); /* it would tell of letters that are not there */
    else if (state->step_serial != state->snapshot_serial || state->final || state->snapshot_failed || !state->snapshots)
        begin(stage);
    else {
        state->snapshot_wanted = false;
        later(stage, stage->settings.snapshot);
    }
}

static void on_child(void *argument, uint32_t events) {
    stage_t *stage = argument;
    struct stage_store *state = stage->private->state;
    int status = 0;
    while (waitpid(state->child, &status, 0) < 0 && errno == EINTR)
        ;
    loop_remove(state->child_watch);
    close(state->child_fd);
    state->child_watch = NULL;
    state->child_fd = -1;
    int64_t took = clock_monotonic() - state->snapshot_began;
    state->snapshot_soon = clock_monotonic() + took;
    state->snapshot_next = clock_monotonic() + (REST * took > REST_LEAST ? REST * took : REST_LEAST);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        failed(stage, WIFEXITED(status) && WEXITSTATUS(status) == 2 ? "the disk is full" : "write error");
        return;
    }
    if (state->trouble) {
        state->trouble = false;
        metrics_health(true, "");
    }
    if (state->m_snapshot_time)
        metric_observe(state->m_snapshot_time, took, 1);
    state->snapshot_written = true;
    snapshot_confirm(stage);
}

/* ---- confirming ---- */

static bool is_stable(const stage_t *stage) {
    const struct stage_store *state = stage->private->state;
    for (unsigned i = 0; i < state->mark_count; i++) {
        const stage_origin_t *origin = state->marks[i].origin;
        if (origin->has_stable && origin->stable < state->marks[i].number)
            return false;
    }
    return spool_synced(state->spool) >= state->pending_index;
}

static int sync_directory(const char *directory) {
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0)
        close(fd);
    return result;
}

static int put_in_place(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    char *from = stage_state_path(stage, "snapshot.new"), *to = stage_state_path(stage, "snapshot");
    struct stat status;
    if (state->m_snapshot_bytes && stat(from, &status) == 0)
        metric_set(state->m_snapshot_bytes, (double) status.st_size);
    int result = rename(from, to) || (stage->settings.sync != SPOOL_NONE && sync_directory(state->directory)) ? -1 : 0;
    if (result) {
        char reason[160];
        snprintf(reason, sizeof reason, "rename snapshot.new: %s", strerror(errno));
        failed(stage, reason);
    }
    mem_free(from);
    mem_free(to);
    return result;
}

static void acknowledge(stage_t *stage) {
    const struct stage_store *state = stage->private->state;
    frame_t frame;
    for (unsigned i = 0; i < state->mark_count; i++) {
        const stage_origin_t *origin = state->marks[i].origin;
        if (!origin->epoch)
            continue;
        frame.epoch = origin->epoch;
        frame.sequence = state->marks[i].number;
        snprintf(frame.origin, sizeof frame.origin, "%s", origin->name);
        link_receiver_durable(stage->private->inputs[origin->input], &frame);
    }
}

void snapshot_confirm(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state->snapshot_written || !is_stable(stage))
        return;
    state->snapshot_written = false;
    if (put_in_place(stage))
        return;
    state->confirmed_index = state->pending_index;
    state->snapshots++;
    state->snapshot_time = clock_now();
    acknowledge(stage);
    outside_settle(stage);
    stage_dead_settled(stage, state->pending_dead);
    state_release(stage);
    if (state->final && state->snapshot_serial == state->step_serial) {
        void (*final)(stage_t *stage) = state->final;
        state->final = NULL;
        final(stage);
        return;
    }
    later(stage, state->snapshot_wanted || state->final ? 0 : stage->settings.snapshot);
}

void snapshot_begin(stage_t *stage) {
    if (!under_way(stage->private->state))
        later(stage, stage->private->state->snapshots ? stage->settings.snapshot : 0);
}

void snapshot_hurry(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (state->replaying || state->snapshot_wanted)
        return;
    if (under_way(state))
        state->snapshot_wanted = true;
    else {
        state->snapshot_wanted = true;
        later(stage, 0);
    }
}

void snapshot_last(stage_t *stage, void (*done)(stage_t *stage)) {
    struct stage_store *state = stage->private->state;
    state->final = done;
    state->snapshot_next = 0;
    if (!under_way(state))
        later(stage, 0);
}

void snapshot_close(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (state->child_fd >= 0) {
        kill(state->child, SIGKILL);
        while (waitpid(state->child, NULL, 0) < 0 && errno == EINTR)
            ;
        loop_remove(state->child_watch);
        close(state->child_fd);
    }
    mem_free(state->marks);
    buf_fini(&state->loaded);
}

/* ---- loading ---- */

static bool load_counts(stage_t *stage, pack_cursor_t *cursor) {
    struct stage_ledger *ledger = &stage->ledger;
    uint64_t *counts[] = {&ledger->in, &ledger->out, &ledger->filtered, &ledger->late, &ledger->dead, &ledger->dropped, &ledger->held, &ledger->created,
                          &stage->errors};
    uint32_t elements;
    if (!pack_read_array(cursor, &elements) || elements != sizeof counts / sizeof *counts)
        return false;
    for (size_t i = 0; i < elements; i++)
        if (!pack_read_uint(cursor, counts[i]))
            return false;
    return true;
}

static int load_inputs(stage_t *stage, pack_cursor_t *cursor, err_t *err) {
    uint32_t elements;
    bool same = pack_read_array(cursor, &elements) && elements == stage_input_total(stage);
    for (uint32_t i = 0; same && i < elements; i++) {
        text_t key;
        same = pack_read_string(cursor, &key) && text_is(key, stage_input_key(stage, i));
    }
    return same ? 0 : err_set(err, "--state %s was made with other inputs (--from); go back to those, or start anew with --reset", stage->settings.state);
}

static bool load_origins(stage_t *stage, pack_cursor_t *cursor) {
    uint32_t count, elements;
    if (!pack_read_array(cursor, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t input, epoch, number;
        text_t name;
        value_t ended;
        char text[FRAME_ORIGIN_MAX + 1];
        if (!pack_read_array(cursor, &elements) || elements != 5 || !pack_read_uint(cursor, &input) || input >= stage_input_total(stage) ||
            !pack_read_string(cursor, &name) || name.size > FRAME_ORIGIN_MAX || !pack_read_uint(cursor, &epoch) || !pack_read_uint(cursor, &number) ||
            !pack_read_value(cursor, &ended) || ended.type != VALUE_BOOL)
            return false;
        memcpy(text, name.data, name.size);
        text[name.size] = 0;
        stage_origin_t *origin = order_origin(stage, (unsigned) input, text);
        origin->epoch = epoch;
        origin->number = origin->stable = number;
        origin->ended = ended.boolean;
    }
    return true;
}

static int load_head(stage_t *stage, pack_cursor_t *cursor, err_t *err) {
    struct stage_store *state = stage->private->state;
    uint32_t elements;
    uint64_t format, dead;
    int64_t time;
    value_t ending;
    const char *damaged = "the snapshot in --state %s cannot be read; --reset starts anew";
    if (!pack_read_array(cursor, &elements) || elements < 1 || !pack_read_uint(cursor, &format))
        return err_set(err, damaged, stage->settings.state);
    if (format != SNAPSHOT_FORMAT)
        return err_set(err, "the snapshot in --state %s has format %llu, this version reads %d; go back to the version that wrote it, or start anew with --reset",
                       stage->settings.state, (unsigned long long) format, SNAPSHOT_FORMAT);
    if (elements != 9 || !pack_read_int(cursor, &time) || !pack_read_uint(cursor, &state->confirmed_index) ||
        !pack_read_uint(cursor, &state->replayed) || !pack_read_uint(cursor, &dead) || !pack_read_value(cursor, &ending) || ending.type != VALUE_BOOL ||
        !load_counts(stage, cursor))
        return err_set(err, damaged, stage->settings.state);
    if (load_inputs(stage, cursor, err))
        return -1;
    if (!load_origins(stage, cursor))
        return err_set(err, damaged, stage->settings.state);
    if (state->confirmed_index > spool_index(state->spool) || state->replayed > spool_number(state->spool))
        return err_set(err, "--state %s: its log is older than its snapshot; --reset starts anew", stage->settings.state);
    state->snapshot_time = time;
    state->snapshots = 1;
    if (ending.boolean)
        order_ending(stage);
    stage_dead_restore(stage, dead);
    return 0;
}

/* The file, checked against its hash; the tool's part stays in state->loaded. */
int snapshot_load(stage_t *stage, err_t *err) {
    struct stage_store *state = stage->private->state;
    char *path = stage_state_path(stage, "snapshot");
    int result = 0;
    if (access(path, F_OK) != 0) {
        if (spool_index(state->spool))
            log_info("no snapshot yet: the log is replayed from its beginning");
        goto out;
    }
    result = file_read(path, SNAPSHOT_MAX, &state->loaded, err);
    if (result)
        goto out;
    uint64_t hash = 0;
    size_t size = state->loaded.size;
    for (int i = 0; i < 8 && size >= 8; i++)
        hash |= (uint64_t) state->loaded.data[size - 8 + (size_t) i] << 8 * i;
    if (size < 8 || XXH3_64bits(state->loaded.data, size - 8) != hash) {
        result = err_set(err, "the snapshot %s is damaged; --reset starts anew", path);
        goto out;
    }
    pack_cursor_t cursor = pack_cursor(state->loaded.data, size - 8);
    result = load_head(stage, &cursor, err);
    state->loaded_at = (size_t) (cursor.at - state->loaded.data);
out:
    mem_free(path);
    return result;
}

int snapshot_load_tool(stage_t *stage, err_t *err) {
    struct stage_store *state = stage->private->state;
    if (!state->loaded.size)
        return 0;
    text_t tool = text_make((const char *) state->loaded.data + state->loaded_at, state->loaded.size - 8 - state->loaded_at);
    int result = stage->tool->load(stage, tool, err) ? err_wrap(err, "--state %s", stage->settings.state) : 0;
    buf_fini(&state->loaded);
    return result;
}
