/* State on disk: the directory and its lock, the spool as the place that every output frame goes to before it leaves, and what is known of
 * it: written, synced, stable, durable at the receivers. */
#include "run/stage_state.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"

#define GROUP_BYTES (1u << 20)         /* a deterministic stage's group is written when it has grown to this */
#define QUIET_POLL (20 * NS_PER_MS)

bool stage_stateful(const stage_t *stage) {
    return stage->private->state != NULL;
}

char *stage_state_path(const stage_t *stage, const char *name) {
    ASSERT(stage->private->state);
    return mem_format("%s/%s", stage->private->state->directory, name);
}

/* ---- directory ---- */

/* A directory belongs to one kind of stage. */
static int check_tool(stage_t *stage, const char *directory, err_t *err) {
    char *path = mem_format("%s/tool", directory);
    buf_t text = {0};
    int result = 0;
    if (access(path, F_OK) == 0) {
        if (file_read(path, 256, &text, err))
            result = -1;
        text_t owner = text_trim(text_make((char *) text.data, text.size));
        if (result == 0 && !text_is(owner, stage->tool->name))
            result = err_set(err, "--state %s holds the state of another tool (%.*s); give each stage a directory of its own", directory,
                             (int) (owner.size > 32 ? 32 : owner.size), owner.size ? owner.data : "");
    } else {
        char *line = mem_format("%s\n", stage->tool->name);
        result = file_write_atomic(path, line, strlen(line), 0600, err);
        mem_free(line);
    }
    buf_fini(&text);
    mem_free(path);
    return result;
}

static int open_directory(stage_t *stage, err_t *err) {
    struct stage_store *state = stage->private->state;
    const char *directory = stage->settings.state;
    if (file_make_directory(directory, 0700, err))
        return err_wrap(err, "--state %s", directory);
    char *absolute = realpath(directory, NULL);
    if (!absolute)
        return err_errno(err, "--state %s", directory);
    state->directory = mem_text(absolute);
    free(absolute);
    char *path = mem_format("%s/lock", state->directory);
    pid_t holder;
    state->lock = file_lock(path, &holder, err);
    mem_free(path);
    if (state->lock < 0)
        return holder ? err_set(err, "--state %s is in use by process %d; each stage needs a directory of its own", directory, (int) holder)
                      : err_wrap(err, "--state %s", directory);
    if (stage->settings.reset && reset_directory(state->directory, err))
        return err_wrap(err, "--reset");
    return check_tool(stage, state->directory, err);
}

/* ---- what the spool says ---- */

static void each_link(stage_t *stage, frame_t *frame, uint64_t number) {
    stage_private_t *private = stage->private;
    for (unsigned i = 0; i < private->output_count; i++)
        link_sender_written(private->outputs[i].link, frame, number);
}

static void on_written(void *argument) {
    each_link(argument, NULL, 0);
    state_settle(argument);
}

static void on_synced(void *argument) {
    state_settle(argument);
}

static void on_room(void *argument) {
    stage_output_changed(argument);
}

/* What tells of a dead letter is written behind it. */
static const char *on_blocked(void *argument, int *error) {
    return stage_dead_blocked(argument, error);
}

#define FILE_SYSTEM_SHARE 10             /* of its size a log has at most by default */
#define SPOOL_LIMIT_LEAST (UINT64_C(1) << 20)

static void on_trouble(void *argument, const char *reason) {
    stage_t *stage = argument;
    stage->private->state->trouble = reason != NULL;
    if (reason)
        log_error("%s", reason);
    else
        log_info("state can be written again");
    metrics_health(!reason, reason ? reason : "");
    stage_output_changed(stage);
}

/* The logs of all stages of a pipeline often share a file system; where one filled it, those behind it could not write, and so never let it go. Who names
 * another limit than the default one has thought of that. */
static void fit_into_file_system(stage_t *stage) {
    struct statvfs space;
    if (stage->settings.spool_limit != STAGE_SPOOL_LIMIT || statvfs(stage->private->state->directory, &space) != 0 || !space.f_blocks)
        return;
    uint64_t most = (uint64_t) space.f_blocks * space.f_frsize / FILE_SYSTEM_SHARE;
    if (most < SPOOL_LIMIT_LEAST)
        most = SPOOL_LIMIT_LEAST;
    if (stage->settings.spool_limit <= most)
        return;
    log_info("--state %s: the log is held to %llu MiB, for its file system is small; --spool-limit sets another limit", stage->settings.state,
             (unsigned long long) (most >> 20));
    stage->settings.spool_limit = most;
}

static int open_spool(stage_t *stage, err_t *err) {
    fit_into_file_system(stage);
    struct stage_store *state = stage->private->state;
    const stage_settings_t *settings = &stage->settings;
    static const spool_full_t full[] = {[LINK_BLOCK] = SPOOL_BLOCK, [LINK_DROP_OLDEST] = SPOOL_DROP_OLDEST, [LINK_DROP_NEWEST] = SPOOL_DROP_NEWEST};
    char *path = stage_state_path(stage, "spool");
    spool_setup_t setup = {
        .loop = stage->loop,
        .directory = path,
        .name = stage->name,
        .sync = (spool_sync_t) settings->sync,
        .sync_interval = settings->sync_interval,
        .limit = settings->spool_limit,
        .full = stage->tool->save ? SPOOL_BLOCK : full[settings->on_full],
        .renewed = stage->tool->position != NULL,
        .written = on_written,
        .synced = on_synced,
        .room = on_room,
        .dropped = stage_dropped,
        .blocked = on_blocked,
        .trouble = on_trouble,
        .argument = stage,
    };
    int result = spool_open(&state->spool, &setup, err);
    mem_free(path);
    if (result)
        return err_wrap(err, "--state %s", stage->settings.state);
    const spool_identity_t *identity = spool_identity(state->spool);
    snprintf(stage->origin, sizeof stage->origin, "%s", identity->origin);
    stage->epoch = identity->epoch;
    reset_read(state->directory, stage->origin, &state->replaces);
    state->stable = 0;
    return 0;
}

/* ---- opening and closing ---- */

int state_open(stage_t *stage, err_t *err) {
    if (!stage->settings.state)
        return 0;
    struct stage_store *state = stage->private->state = mem_zero(sizeof *state);
    state->lock = state->child_fd = -1;
    if (open_directory(stage, err))
        return -1;
    stage_dead_begin(stage);              /* what is found below says more, where there is a former run's state */
    if (stage->tool->keeps_state)
        return 0;
    if (open_spool(stage, err))
        return -1;
    if (!stage->tool->save) {
        bool fresh = spool_index(state->spool) == 0;
        if (note_resume(stage, err))
            return -1;
        if (!stage->follows)
            state->kept_index = state->held_index = 0; /* of a run with other options */
        if (!fresh)
            stage_dead_restore(stage, state->stored_dead);
        state->stable = spool_number(state->spool);    /* what is there at the opening is synced */
        return 0;
    }
    if (outside_open(stage, err) || snapshot_load(stage, err) || order_open(stage, err))
        return -1;
    state->stable = state->replayed;      /* a snapshot was confirmed when all that it covers was stable */
    return 0;
}

void state_begun(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state)
        return;
    char *path = stage_state_path(stage, "ledger");
    state->begun = true;
    unlink(path);
    mem_free(path);
}

/* The last counters, for streamctl audit of a stopped stage. It is there only behind an orderly end. */
static void write_ledger(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    const struct stage_ledger *l = &stage->ledger;
    uint64_t frames = state->spool ? spool_number(state->spool) : 0, gone = state->spool ? spool_lowest(state->spool) - 1 : 0;
    buf_t text = {0};
    if (gone < state->released_number)
        gone = state->released_number;
    buf_format(&text,
               "{\"in\":%llu,\"out\":%llu,\"filtered\":%llu,\"late\":%llu,\"dead\":%llu,\"dropped\":%llu,\"held\":%llu,\"created\":%llu,"
               "\"frames\":%llu,\"spooled\":%llu}\n",
               (unsigned long long) l->in, (unsigned long long) l->out, (unsigned long long) l->filtered, (unsigned long long) l->late,
               (unsigned long long) l->dead, (unsigned long long) l->dropped, (unsigned long long) l->held, (unsigned long long) l->created,
               (unsigned long long) frames, (unsigned long long) (frames - gone));
    char *path = stage_state_path(stage, "ledger");
    err_t err;
    if (file_write_atomic(path, text.data, text.size, 0600, &err))
        log_warning("%s", err.text);
    mem_free(path);
    buf_fini(&text);
}

void state_close(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state)
        return;
    if (state->begun)
        write_ledger(stage);
    snapshot_close(stage);
    order_free(stage);
    outside_close(stage);
    for (size_t i = 0; i < state->group_count; i++)
        frame_unref(state->group[i].frame);
    for (size_t i = 0; i < state->step_count; i++)
        mem_free(state->steps[(state->step_first + i) % state->step_room].position);
    spool_close(state->spool);
    if (state->lock >= 0)
        close(state->lock);
    mem_free(state->group);
    mem_free(state->steps);
    buf_fini(&state->note);
    buf_fini(&state->position);
    buf_fini(&state->stored);
    buf_fini(&state->replaces);
    mem_free(state->directory);
    mem_free(state);
    stage->private->state = NULL;
}

/* ---- groups ---- */

static void begin_group(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (state->open)
        return;
    state->open = true;
    spool_begin(state->spool);
}

/* The note that goes with the next record: a source's position, or the order of inputs so far. Steps that it tells of get its index. */
static text_t take_note(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!stage->tool->save)
        return note_put(stage);
    if (!state->order_entries)
        return (text_t){0};
    buf_clear(&state->note);
    pack_array(&state->note, 1 + state->order_entries);
    pack_uint(&state->note, NOTE_ORDER);
    buf_put(&state->note, state->order.data, state->order.size);
    buf_clear(&state->order);
    state->order_entries = 0;
    return text_make((const char *) state->note.data, state->note.size);
}

static void steps_noted(struct stage_store *state, uint64_t index) {
    while (state->steps_noted < state->step_count)
        state->steps[(state->step_first + state->steps_noted++) % state->step_room].index = index;
}

void state_add(stage_t *stage, frame_t *frame) {
    struct stage_store *state = stage->private->state;
    if (state->comparing && order_compare(stage, frame))
        return;
    bool first = !state->open;
    begin_group(stage);
    text_t note = first || stage->tool->save ? take_note(stage) : (text_t){0};
    uint64_t number = 0;
    uint64_t index = spool_add(state->spool, note, frame, &number);
    if (!stage->tool->save)
        note_added(stage, note.size != 0, index, frame->body_size);
    else if (note.size)
        steps_noted(state, index);
    if (state->group_count == state->group_room) {
        state->group_room = state->group_room ? 2 * state->group_room : 8;
        state->group = mem_resize(state->group, state->group_room * sizeof *state->group);
    }
    state->group[state->group_count++] = (struct stage_grouped){frame_ref(frame), number};
    state->group_bytes += frame->body_size;
    state->kept_since += frame->body_size;
    if (stage->tool->save && state->group_bytes >= GROUP_BYTES)
        state_commit(stage);
}

void state_push_step(stage_t *stage, stage_step_t step) {
    struct stage_store *state = stage->private->state;
    if (state->step_count == state->step_room) {
        size_t room = state->step_room ? 2 * state->step_room : 256;
        stage_step_t *steps = mem_alloc(room * sizeof *steps);
        for (size_t i = 0; i < state->step_count; i++)
            steps[i] = state->steps[(state->step_first + i) % state->step_room];
        mem_free(state->steps);
        state->steps = steps;
        state->step_room = room;
        state->step_first = 0;
    }
    state->steps[(state->step_first + state->step_count++) % state->step_room] = step;
}

static void push_source_step(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    stage_step_t step = {.index = spool_index(state->spool), .number = spool_number(state->spool), .dead = stage->private->dead_serial};
    if (stage->tool->acknowledge && state->position.size) {
        step.position = mem_copy(state->position.data, state->position.size);
        step.position_size = state->position.size;
    }
    state_push_step(stage, step);
    state->steps_noted = state->step_count;
}

/* What the tool made of the group's frames came behind its note: its counts are told once more. */
static void note_followers(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    uint64_t number;
    if (stage->follows && state->noted_out != stage->ledger.out)
        note_added(stage, true, spool_add(state->spool, note_put(stage), NULL, &number), 0);
}

void state_commit(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state->open)
        return;
    note_followers(stage);
    if (state->dead_dirty && stage->settings.sync != SPOOL_NONE && stage_dead_sync(stage) == 0)
        state->dead_dirty = false;
    state->open = false;
    spool_commit(state->spool);
    if (!stage->tool->save)
        push_source_step(stage);
    uint64_t written = spool_written(state->spool);
    for (size_t i = 0; i < state->group_count; i++) {
        if (state->group[i].number && state->group[i].number <= written)
            each_link(stage, state->group[i].frame, state->group[i].number);
        frame_unref(state->group[i].frame);
    }
    state->group_count = state->group_bytes = 0;
    state_settle(stage);
    keep_due(stage);
}

void state_note(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (state->open)
        return;
    if (stage->tool->save && !state->order_entries)
        return;
    begin_group(stage);
    uint64_t number;
    uint64_t index = spool_add(state->spool, take_note(stage), NULL, &number);
    if (stage->tool->save)
        steps_noted(state, index);
    else
        note_added(stage, true, index, 0);
    state_commit(stage);
}

void state_add_note(stage_t *stage, text_t note) {
    struct stage_store *state = stage->private->state;
    uint64_t number;
    if (!state->open) {
        begin_group(stage);
        uint64_t index = spool_add(state->spool, take_note(stage), NULL, &number);
        note_added(stage, true, index, 0);
    }
    uint64_t index = spool_add(state->spool, note, NULL, &number);
    note_added(stage, false, index, note.size);
}

void stage_note(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state || !state->spool || stage->tool->save)
        return;
    stage_flush(stage); /* what is open goes with its position */
    state_note(stage);
}

/* ---- stable, durable, released ---- */

static bool step_stable(const struct stage_store *state, const stage_step_t *step) {
    return step->index && step->index <= spool_synced(state->spool) &&
           (!step->origin || !step->origin->has_stable || step->origin->stable >= step->taken);
}

void state_settle(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    stage_private_t *private = stage->private;
    if (!state || !state->spool)
        return;
    uint64_t stable = state->stable;
    while (state->step_count > state->stepping && step_stable(state, &state->steps[state->step_first])) {
        stage_step_t *step = &state->steps[state->step_first];
        stable = step->number;
        if (!stage->tool->save)
            stage_dead_settled(stage, step->dead);
        if (step->position) {
            stage->tool->acknowledge(stage, text_make((const char *) step->position, step->position_size));
            mem_free(step->position);
        }
        state->step_first = (state->step_first + 1) % state->step_room;
        state->step_count--;
        state->steps_noted -= state->steps_noted > 0;
    }
    if (stable > state->stable) {
        state->stable = stable;
        for (unsigned i = 0; i < private->output_count; i++)
            link_sender_stable(private->outputs[i].link, stable);
    }
    snapshot_confirm(stage);
    keep_settle(stage);
    state_release(stage);
}

void state_release(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    stage_private_t *private = stage->private;
    uint64_t number = spool_number(state->spool);
    for (unsigned i = 0; i < private->output_count; i++) {
        uint64_t durable = link_sender_durable(private->outputs[i].link);
        if (durable < number)
            number = durable;
    }
    uint64_t last = spool_index(state->spool);
    uint64_t index = stage->tool->save ? state->confirmed_index : note_released(stage);
    if (state->held_index && index >= state->held_index)
        index = state->held_index - 1;
    if (stage->tool->save && index < last && spool_bytes(state->spool) > stage->settings.spool_limit / 2)
        snapshot_hurry(stage); /* before it stands in the way */
    if (index == state->released_index && number == state->released_number)
        return;
    state->released_index = index;
    state->released_number = number;
    spool_release(state->spool, index, number);
}

/* ---- the end ---- */

void state_end(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state->ended) {
        frame_t *end = frame_new_end(stage->name);
        state_add(stage, end);
        frame_unref(end);
        state->ended = true;
    }
    state_commit(stage);
    spool_ended(state->spool);
}

static void leave_now(void *argument) {
    stage_t *stage = argument;
    if (!stage->private->failed)
        metrics_state(STAGE_FINISHED, NULL);
    loop_stop(stage->loop);
}

static bool all_quiet(const stage_t *stage) {
    const stage_private_t *private = stage->private;
    for (unsigned i = 0; i < private->output_count; i++)
        if (!link_sender_quiet(private->outputs[i].link))
            return false;
    return true;
}

/* A source's peer has been told of all that came from it, so that it does not send it again; unless the disk does not take it at present. */
static bool all_acknowledged(const stage_t *stage) {
    const struct stage_store *state = stage->private->state;
    return !stage->tool->acknowledge || !state->step_count || state->trouble;
}

static void check_quiet(void *argument) {
    stage_t *stage = argument;
    if (all_quiet(stage) && all_acknowledged(stage))
        loop_defer(stage->loop, leave_now, stage);
}

static void wait_quiet(stage_t *stage) {
    if (!all_acknowledged(stage))
        spool_sync_start(stage->private->state->spool);
    check_quiet(stage);
    loop_timer(stage->loop, QUIET_POLL, QUIET_POLL, check_quiet, stage);
}

void state_leave_ended(stage_t *stage) {
    stage->private->state->leaving = true;
    wait_quiet(stage);
}

void state_leave(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!has_order(stage)) {
        wait_quiet(stage);
    } else if (state->replaying) {
        loop_defer(stage->loop, leave_now, stage);
    } else {
        state_note(stage);
        snapshot_last(stage, wait_quiet);
    }
}

/* ---- metrics ---- */

void state_metrics(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state || !state->spool)
        return;
    state->m_bytes = metrics_add(METRIC_GAUGE, "stream_spool_bytes", "", "Bytes of the durable log on disk");
    state->m_limit = metrics_add(METRIC_GAUGE, "stream_spool_limit_bytes", "", "Bytes that the durable log may take");
    state->m_frames = metrics_add(METRIC_GAUGE, "stream_spool_frames", "", "Frames in the durable log that are not durable at every receiver");
    state->m_trouble = metrics_add(METRIC_GAUGE, "stream_spool_trouble", "", "1 while the durable log cannot be written");
    if (!stage->tool->save)
        return;
    state->m_snapshots = metrics_add(METRIC_COUNTER, "stream_snapshots_total", "", "Snapshots that were confirmed");
    state->m_snapshot_time = metrics_add(METRIC_HISTOGRAM, "stream_snapshot_seconds", "", "Time from a snapshot's beginning until it was on disk");
    state->m_snapshot_bytes = metrics_add(METRIC_GAUGE, "stream_snapshot_bytes", "", "Size of the last snapshot");
    state->m_snapshot_age = metrics_add(METRIC_GAUGE, "stream_snapshot_age_seconds", "", "Time since the last confirmed snapshot was begun");
    state->m_replayed = metrics_add(METRIC_COUNTER, "stream_replayed_frames_total", "", "Input frames that were processed again after a restart");
    state->m_replaying = metrics_add(METRIC_GAUGE, "stream_replaying", "", "1 while input from before a restart is processed again: counts are catching up");
}

void state_publish(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state || !state->m_bytes)
        return;
    metric_set(state->m_bytes, (double) spool_bytes(state->spool));
    metric_set(state->m_limit, (double) stage->settings.spool_limit);
    metric_set(state->m_frames, (double) (spool_number(state->spool) - state->released_number));
    metric_set(state->m_trouble, state->trouble);
    if (!state->m_snapshots)
        return;
    metric_set_counter(state->m_snapshots, state->snapshots);
    metric_set(state->m_snapshot_age, state->snapshot_time ? (double) (clock_now() - state->snapshot_time) / 1e9 : 0);
    metric_set_counter(state->m_replayed, state->replayed_frames);
    metric_set(state->m_replaying, state->replaying);
}
