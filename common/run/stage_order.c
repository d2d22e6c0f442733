/* The order in which a deterministic stage takes its inputs. It is written down, together with the output that it led to and before that
 * leaves; after a crash the same inputs, which their senders still have, are taken in the same order, and lead to the same output under the same
 * numbers. Frames that come before their turn meanwhile are held, or asked for again when there are too many. */
#include "run/stage_state.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"

#define NOTE_ORDER 2
#define ORDER_BYTES (64u * 1024)       /* entries without output are written when there are so many */
#define HELD_BYTES (16u << 20)
#define UNLOGGED_BYTES (512u * 1024)   /* a sender without a log has a window of 2 MiB, and waits when it is full */
#define OUTSIDE_BYTES (16u << 20)      /* from outside; all of them since the last snapshot are in memory in a replay */
#define PATIENCE (10 * NS_PER_S)       /* then it is said whom we wait for */

/* ---- origins ---- */

static stage_origin_t *find_origin(const struct stage_store *state, unsigned input, const char *name) {
    for (unsigned i = 0; i < state->origin_count; i++)
        if (state->origins[i]->input == input && strcmp(state->origins[i]->name, name) == 0)
            return state->origins[i];
    return NULL;
}

stage_origin_t *order_origin(stage_t *stage, unsigned input, const char *name) {
    struct stage_store *state = stage->private->state;
    stage_origin_t *origin = find_origin(state, input, name);
    if (origin)
        return origin;
    origin = mem_zero(sizeof *origin);
    origin->input = input;
    origin->name = mem_text(name);
    state->origins = mem_resize(state->origins, (state->origin_count + 1) * sizeof *state->origins);
    state->origins[state->origin_count++] = origin;
    return origin;
}

static void hold(struct stage_store *state, stage_origin_t *origin, frame_t *frame) {
    if (origin->held_count == origin->held_room) {
        size_t room = origin->held_room ? 2 * origin->held_room : 16;
        frame_t **held = mem_alloc(room * sizeof *held);
        for (size_t i = 0; i < origin->held_count; i++)
            held[i] = origin->held[(origin->held_first + i) % origin->held_room];
        mem_free(origin->held);
        origin->held = held;
        origin->held_room = room;
        origin->held_first = 0;
    }
    origin->held[(origin->held_first + origin->held_count++) % origin->held_room] = frame_ref(frame);
    state->held_bytes += frame->body_size + sizeof *frame;
}

static frame_t *unhold(struct stage_store *state, stage_origin_t *origin) {
    frame_t *frame = origin->held[origin->held_first];
    origin->held_first = (origin->held_first + 1) % origin->held_room;
    origin->held_count--;
    state->held_bytes -= frame->body_size + sizeof *frame;
    return frame;
}

/* ---- writing it down ---- */

static void add_entry(struct stage_store *state, const stage_entry_t *entry, bool ended) {
    buf_t *out = &state->order;
    switch (entry->kind) {
        case ENTRY_FRAME:
            pack_array(out, 6);
            pack_uint(out, ENTRY_FRAME);
            pack_uint(out, entry->origin->input);
            pack_text(out, entry->origin->name);
            pack_uint(out, entry->epoch);
            pack_uint(out, entry->number);
            pack_bool(out, ended);
            break;
        case ENTRY_TICK:
            pack_array(out, 2);
            pack_uint(out, ENTRY_TICK);
            pack_uint(out, entry->number);
            break;
        case ENTRY_END:
            pack_array(out, 1);
            pack_uint(out, ENTRY_END);
            break;
        case ENTRY_OUTSIDE:
            pack_array(out, 4);
            pack_uint(out, ENTRY_OUTSIDE);
            pack_uint(out, entry->told->channel);
            pack_uint(out, entry->told->number);
            pack_binary(out, entry->told->bytes.data, entry->told->number ? 0 : entry->told->bytes.size);
            break;
    }
    state->order_entries++;
}

/* ---- steps ---- */

static uint64_t made(const stage_t *stage) {
    const struct stage_store *state = stage->private->state;
    return state->comparing ? state->replayed : spool_number(state->spool);
}

/* Before the tool sees an input. One that is replayed was written down: what it makes is stable once it is, and what it was made of. */
static void begin_step(stage_t *stage, const stage_entry_t *entry, bool ended) {
    struct stage_store *state = stage->private->state;
    state->step_serial++;
    state->stepping = true;
    if (!state->replaying) {
        add_entry(state, entry, ended);
        state_push_step(stage, (stage_step_t){.origin = entry->origin, .taken = entry->number});
    } else {
        const stage_entry_t *noted = &state->entries[state->entry_next - 1];
        state_push_step(stage, (stage_step_t){.origin = entry->origin, .taken = entry->number, .index = noted->before + 1});
        state->steps_noted = state->step_count;
    }
}

/* All that the step made is stable with its last record: a power cut could take those behind the first. */
static void end_step(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    stage_step_t *step = &state->steps[(state->step_first + state->step_count - 1) % state->step_room];
    step->number = made(stage);
    if (step->index && !state->comparing)
        step->index = spool_index(state->spool);
    state->stepping = false;
    if (state->open)
        state_commit(stage);
    else
        state_settle(stage);
    if (state->order.size >= ORDER_BYTES)
        state_note(stage);
}

static void step_frame(stage_t *stage, stage_origin_t *origin, frame_t *frame) {
    struct stage_store *state = stage->private->state;
    begin_step(stage, &(stage_entry_t){.kind = ENTRY_FRAME, .origin = origin, .epoch = frame->epoch, .number = frame->sequence}, frame->end);
    origin->epoch = frame->epoch;
    origin->number = frame->sequence;
    origin->ended = frame->end;
    origin->has_stable = frame->has_stable;
    if (frame->has_stable && frame->stable > origin->stable)
        origin->stable = frame->stable;
    stage_take(stage, origin->input, frame);
    end_step(stage);
    if (!frame->has_stable && (state->unlogged += frame->body_size) > UNLOGGED_BYTES)
        snapshot_hurry(stage);
}

static void step_tick(stage_t *stage, int64_t now) {
    begin_step(stage, &(stage_entry_t){.kind = ENTRY_TICK, .number = (uint64_t) now}, false);
    stage->tool->tick(stage, now);
    end_step(stage);
}

void order_tick(stage_t *stage, int64_t now) {
    if (!stage->private->state->replaying && !stage->finishing)
        step_tick(stage, now);
}

static void step_outside(stage_t *stage, stage_told_t *told) {
    struct stage_store *state = stage->private->state;
    begin_step(stage, &(stage_entry_t){.kind = ENTRY_OUTSIDE, .told = told}, false);
    outside_give(stage, told);
    end_step(stage);
    if (!told->number && (state->outside_bytes += told->bytes.size) > OUTSIDE_BYTES)
        snapshot_hurry(stage);
}

void order_outside(stage_t *stage, const stage_told_t *told) {
    stage_told_t copy = *told;
    step_outside(stage, &copy);
}

/* The tool writes out what is open, and calls stage_finished: the end of stream is part of this step. */
void order_end(stage_t *stage) {
    stage->private->state->ending = true;
    begin_step(stage, &(stage_entry_t){.kind = ENTRY_END}, false);
    stage->tool->finish(stage);
    end_step(stage);
}

void order_ending(stage_t *stage) {
    stage->private->state->ending = true;
    stage->private->finish_called = stage->finishing = stage->private->paused_by_end = true;
}

/* ---- replaying ---- */

bool stage_will_replay(const stage_t *stage) {
    return stage->private->state && stage->private->state->entry_count;
}

bool stage_replaying(const stage_t *stage) {
    return stage->private->state && stage->private->state->replaying;
}

/* The same frame as far as anybody downstream can tell. */
static bool same_output(const frame_t *a, const frame_t *b) {
    return a->events == b->events && a->end == b->end && a->watermark == b->watermark && a->data_time == b->data_time &&
           a->body_size == b->body_size && strcmp(a->topic, b->topic) == 0 &&
           (!a->body_size || memcmp(a->body, b->body, a->body_size) == 0);
}

bool order_compare(stage_t *stage, frame_t *frame) {
    struct stage_store *state = stage->private->state;
    if (state->replayed >= spool_number(state->spool)) {
        state->comparing = false; /* the crash came between two groups of one step: the rest is made now */
        return false;
    }
    spool_record_t record;
    err_t err;
    do {
        int found = spool_next(state->cursor, &record, &err);
        if (found <= 0) {
            stage_fail(stage, "the log in --state cannot be read: %s; streamctl spool fsck shows more, --reset starts anew",
                       found < 0 ? err.text : "it ends too early");
            return true;
        }
    } while (!record.frame);
    state->replayed++;
    bool same = record.number == state->replayed && same_output(record.frame, frame);
    frame_unref(record.frame);
    if (!same)
        stage_fail(stage, "after the restart the program gave another output (frame %llu) for the same input than before: it was changed, or this is a bug. "
                   "--reset starts anew", (unsigned long long) state->replayed);
    return true;
}

/* Was this frame the one that was taken? Its sender may call the epoch by another name since, which continues the one it had. */
static bool same_frame(const stage_entry_t *entry, const frame_t *frame) {
    if (entry->number != frame->sequence)
        return false;
    if (entry->epoch == frame->epoch)
        return true;
    bool known;
    uint64_t common = frame_common(frame->past, frame->past_count, entry->epoch, &known);
    return known && entry->number <= common;
}

/* An input that was taken is not to be had again: its sender lost it when the power went, and makes another in its place. What we made of
 * it and all that came after is taken back, too. */
static void forget_from(stage_t *stage, const stage_entry_t *entry) {
    struct stage_store *state = stage->private->state;
    err_t err;
    log_warning("%s has started anew since and has lost what followed frame %llu: what came of it is taken back", entry->origin->name,
                (unsigned long long) entry->number - 1);
    if (spool_truncate(state->spool, entry->before, &err))
        stage_fail(stage, "%s", err.text);
    else
        stage_again(stage, "the inputs that were taken last do not exist any more");
}

static void forget_entries(struct stage_store *state) {
    for (size_t i = 0; i < state->entry_count; i++)
        mem_free(state->entries[i].told);
    mem_free(state->entries);
    state->entries = NULL;
    state->entry_count = state->entry_next = state->entry_room = 0;
}

/* All that was taken has been taken again: what is held is next, unless the end was among it. */
static void end_replay(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (state->comparing && state->replayed < spool_number(state->spool)) {
        stage_fail(stage, "after the restart the program gave less output for the same input (%llu frames of %llu): it was changed, or this is a bug. "
                   "--reset starts anew", (unsigned long long) state->replayed, (unsigned long long) spool_number(state->spool));
        return;
    }
    state->replaying = state->comparing = false;
    spool_cursor_free(state->cursor);
    state->cursor = NULL;
    loop_remove(state->replay_timer);
    state->replay_timer = NULL;
    if (state->replayed_frames)
        log_info("went on where it was: %llu frames processed again", (unsigned long long) state->replayed_frames);
    forget_entries(state);
    metrics_health(true, "");
    snapshot_begin(stage);
    err_t err;
    if (stage_go_live(stage, &err)) {
        stage_fail(stage, "%s", err.text);
        return;
    }
    for (unsigned i = 0; i < state->origin_count; i++)
        while (state->origins[i]->held_count && !stage->private->failed && !stage->finishing) {
            frame_t *frame = unhold(state, state->origins[i]);
            step_frame(stage, state->origins[i], frame);
            frame_unref(frame);
        }
    if (state->refused)
        for (unsigned i = 0; i < stage->private->input_count; i++)
            link_receiver_want(stage->private->inputs[i]);
    state->refused = false;
    state_settle(stage); /* nobody else may have a reason to look at the steps again */
    stage_check_end(stage);
}

/* Takes what is next, as far as it is there. */
static void pump(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (state->pumping)
        return;
    state->pumping = true;
    while (state->entry_next < state->entry_count && !stage->private->failed && !stage->private->again) {
        const stage_entry_t *entry = &state->entries[state->entry_next];
        if (entry->kind == ENTRY_FRAME) {
            if (!entry->origin->held_count) {
                if (state->refused && stage->private->inputs)
                    link_receiver_want(stage->private->inputs[entry->origin->input]);
                break;
            }
            frame_t *frame = unhold(state, entry->origin);
            if (!same_frame(entry, frame)) {
                frame_unref(frame);
                forget_from(stage, entry);
                break;
            }
            state->entry_next++;
            state->replayed_frames++;
            step_frame(stage, entry->origin, frame);
            frame_unref(frame);
        } else {
            state->entry_next++;
            if (entry->kind == ENTRY_TICK)
                step_tick(stage, (int64_t) entry->number);
            else if (entry->kind == ENTRY_OUTSIDE)
                step_outside(stage, entry->told);
            else
                stage_begin_finish(stage);
        }
    }
    state->pumping = false;
    if (state->entry_next == state->entry_count && state->replaying && !stage->private->failed && !stage->private->again)
        end_replay(stage);
}

bool order_take(stage_t *stage, unsigned input, const frame_t *frame) {
    struct stage_store *state = stage->private->state;
    if (!state->replaying || state->held_bytes < HELD_BYTES || state->entry_next == state->entry_count)
        return true;
    const stage_entry_t *entry = &state->entries[state->entry_next];
    if (entry->kind == ENTRY_FRAME && entry->origin->input == input && strcmp(entry->origin->name, frame->origin) == 0)
        return true;
    state->refused = true;
    return false;
}

void order_frame(stage_t *stage, unsigned input, frame_t *frame) {
    struct stage_store *state = stage->private->state;
    stage_origin_t *origin = order_origin(stage, input, frame->origin);
    if (state->replaying) {
        hold(state, origin, frame);
        pump(stage);
    } else {
        step_frame(stage, origin, frame);
    }
}

void order_stable(stage_t *stage, unsigned input, const char *name, uint64_t epoch, uint64_t number) {
    stage_origin_t *origin = find_origin(stage->private->state, input, name);
    if (!origin || number <= origin->stable)
        return;
    origin->stable = number;
    state_settle(stage);
}

static void complain(void *argument) {
    stage_t *stage = argument;
    struct stage_store *state = stage->private->state;
    if (!state->replaying || state->entry_next == state->entry_count)
        return;
    const stage_entry_t *entry = &state->entries[state->entry_next];
    if (entry->kind != ENTRY_FRAME)
        return;
    char text[400];
    snprintf(text, sizeof text, "waits for %s to send frame %llu again, which was taken before the restart; --reset starts anew", entry->origin->name,
             (unsigned long long) entry->number);
    log_warning("%s", text);
    metrics_health(false, text);
}

/* ---- opening ---- */

static bool read_told(pack_cursor_t *cursor, stage_told_t **told) {
    uint64_t channel, number;
    text_t bytes;
    if (!pack_read_uint(cursor, &channel) || channel > UINT32_MAX || !pack_read_uint(cursor, &number) || !pack_read_binary(cursor, &bytes))
        return false;
    stage_told_t *copy = mem_alloc(sizeof *copy + bytes.size);
    memcpy(copy + 1, bytes.data, bytes.size);
    *copy = (stage_told_t){(unsigned) channel, number, {0}};
    if (!number)
        copy->bytes = text_make((const char *) (copy + 1), bytes.size);
    *told = copy;
    return true;
}

static bool read_entry(stage_t *stage, pack_cursor_t *cursor, uint64_t before) {
    struct stage_store *state = stage->private->state;
    uint32_t elements;
    uint64_t kind, input;
    stage_entry_t entry = {.before = before};
    if (!pack_read_array(cursor, &elements) || elements < 1 || !pack_read_uint(cursor, &kind))
        return false;
    entry.kind = (stage_entry_kind_t) kind;
    if (kind == ENTRY_FRAME && elements == 6) {
        text_t name;
        char text[FRAME_ORIGIN_MAX + 1];
        if (!pack_read_uint(cursor, &input) || input >= stage_input_total(stage) || !pack_read_string(cursor, &name) ||
            name.size > FRAME_ORIGIN_MAX || !pack_read_uint(cursor, &entry.epoch) || !pack_read_uint(cursor, &entry.number) || !pack_skip(cursor))
            return false;
        memcpy(text, name.data, name.size);
        text[name.size] = 0;
        entry.origin = order_origin(stage, (unsigned) input, text);
    } else if (kind == ENTRY_TICK && elements == 2) {
        if (!stage->tool->tick || !pack_read_uint(cursor, &entry.number))
            return false;
    } else if (kind == ENTRY_OUTSIDE && elements == 4) {
        if (!stage->tool->outside || !read_told(cursor, &entry.told))
            return false;
    } else if (kind != ENTRY_END || elements != 1) {
        return false;
    }
    if (state->entry_count == state->entry_room) {
        state->entry_room = state->entry_room ? 2 * state->entry_room : 1024;
        state->entries = mem_resize(state->entries, state->entry_room * sizeof *state->entries);
    }
    state->entries[state->entry_count++] = entry;
    return true;
}

static int read_note(stage_t *stage, text_t note, uint64_t before, err_t *err) {
    pack_cursor_t cursor = pack_cursor(note.data, note.size);
    uint32_t elements;
    uint64_t kind;
    bool good = pack_read_array(&cursor, &elements) && elements >= 1 && pack_read_uint(&cursor, &kind) && kind == NOTE_ORDER;
    for (uint32_t i = 1; good && i < elements; i++)
        good = read_entry(stage, &cursor, before);
    return good ? 0 : err_set(err, "--state %s: the order of inputs in its log cannot be read, or is of another number of inputs; --reset starts anew",
                              stage->settings.state);
}

int order_open(stage_t *stage, err_t *err) {
    struct stage_store *state = stage->private->state;
    spool_cursor_t *cursor = spool_cursor_new(state->spool);
    spool_seek_index(cursor, state->confirmed_index + 1);
    uint64_t before = state->confirmed_index; /* the last record without whose notes all is well */
    int more = 0, result = 0;
    spool_record_t record;
    while (result == 0 && (more = spool_next(cursor, &record, err)) > 0) {
        if (record.note.size) {
            before = record.index - 1;
            result = read_note(stage, record.note, before, err);
        }
        frame_unref(record.frame);
    }
    spool_cursor_free(cursor);
    if (result || more < 0 || spool_last(state->spool, &record, err) < 0)
        return -1;
    if (spool_index(state->spool)) {
        state->ended = record.frame && record.frame->end && record.number == state->replayed; /* and the snapshot covers it */
        frame_unref(record.frame);
    }
    return 0;
}

/* Restores the links: what the snapshot covers was taken. */
static void restore_inputs(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    for (unsigned i = 0; i < state->origin_count; i++) {
        const stage_origin_t *origin = state->origins[i];
        if (origin->epoch)
            link_receiver_restore(stage->private->inputs[origin->input], origin->name, origin->epoch, origin->number, origin->ended);
    }
}

void order_begin(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    restore_inputs(stage);
    if (state->ended) { /* long ago: what is left is to see it delivered */
        stage_resume_end(stage);
        return;
    }
    if (state->ending) {
        stage_inputs_update(stage);
        metrics_state(STAGE_DRAINING, NULL);
    }
    state->replaying = state->comparing = true;
    state->cursor = spool_cursor_new(state->spool);
    spool_seek_number(state->cursor, state->replayed + 1);
    state->replay_timer = loop_timer(stage->loop, PATIENCE, PATIENCE, complain, stage);
    pump(stage);
}

void order_free(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    for (unsigned i = 0; i < state->origin_count; i++) {
        stage_origin_t *origin = state->origins[i];
        while (origin->held_count)
            frame_unref(unhold(state, origin));
        mem_free(origin->held);
        mem_free(origin->name);
        mem_free(origin);
    }
    mem_free(state->origins);
    forget_entries(state);
    buf_fini(&state->order);
    spool_cursor_free(state->cursor);
}
