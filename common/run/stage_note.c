/* Where a source stands, as notes in the log: with its counters, on the first record of each group. A position may be large, and little of it
 * changed from one group to the next; so a source that can say what has changed is asked for all of it only now and then, and what a restart
 * puts together again stays in the log. */
#include "data/pack.h"
#include "run/stage_state.h"

#define COUNTS 8

/* A whole position is written when so much has been added to the log since the last one: that is read at a restart, and cannot be released. */
static uint64_t whole_after(const stage_t *stage) {
    const struct stage_store *state = stage->private->state;
    uint64_t limit = stage->settings.spool_limit, least = limit / 32, most = limit / 8, wanted = 4 * state->whole_size;
    return wanted < least ? least : wanted > most ? most : wanted;
}

/* Where the log gives up its oldest records, those that are needed could be among them. */
static bool wants_whole(const stage_t *stage) {
    const struct stage_store *state = stage->private->state;
    return !state->whole_index || state->since_whole >= whole_after(stage) || stage->settings.on_full == LINK_DROP_OLDEST;
}

text_t note_put(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    const struct stage_ledger *ledger = &stage->ledger;
    const uint64_t counts[COUNTS] = {ledger->in, ledger->out, ledger->filtered, ledger->late, ledger->dead, ledger->dropped, ledger->created, stage->errors};
    bool whole = true;
    state->noted_out = ledger->out;
    buf_fini(&state->stored);          /* the source has it */
    buf_clear(&state->note);
    buf_clear(&state->position);
    if (stage->tool->position)
        whole = stage->tool->position(stage, wants_whole(stage), &state->position);
    pack_array(&state->note, (whole ? 4 : 5) + (state->kept_index > 0));
    pack_uint(&state->note, whole ? NOTE_SOURCE : NOTE_CHANGES);
    pack_array(&state->note, COUNTS);
    for (size_t i = 0; i < COUNTS; i++)
        pack_uint(&state->note, counts[i]);
    pack_uint(&state->note, stage->private->dead_serial);
    if (state->position.size)
        pack_binary(&state->note, state->position.data, state->position.size);
    else
        pack_nil(&state->note);
    if (whole) {
        state->whole_index = 0;        /* until it is added */
        state->whole_size = state->note.size;
    } else {
        pack_uint(&state->note, state->whole_index);
    }
    if (state->kept_index)
        pack_uint(&state->note, state->kept_index);
    return text_make((const char *) state->note.data, state->note.size);
}

void note_added(stage_t *stage, bool has_note, uint64_t index, uint64_t body_size) {
    struct stage_store *state = stage->private->state;
    bool whole = has_note && !state->whole_index;
    if (!index)
        state->whole_index = 0;        /* changes that are in no record */
    else if (whole) {
        state->whole_index = index;
        if (state->whole_unsafe <= state->whole_safe)
            state->whole_unsafe = index;
    }
    state->since_whole = whole ? 0 : state->since_whole + body_size + (has_note ? state->note.size : 0);
}

/* A whole position that is on disk, and all behind it. The last one may never be: where they come faster than the disk syncs, the first that is not known
 * to be there is waited for. */
uint64_t note_released(const stage_t *stage) {
    struct stage_store *state = stage->private->state;
    uint64_t synced = spool_synced(state->spool);
    if (state->whole_unsafe > state->whole_safe && state->whole_unsafe <= synced)
        state->whole_safe = state->whole_unsafe;
    if (state->whole_index > state->whole_safe) {
        if (state->whole_index <= synced)
            state->whole_safe = state->whole_index;
        else if (state->whole_unsafe <= state->whole_safe)
            state->whole_unsafe = state->whole_index;
    }
    return state->whole_safe ? state->whole_safe - 1 : 0;
}

/* One note: counters and dead letters are those of the last one, positions are collected. `whole`: the index of the record with the whole position; 0 for
 * that itself. */
static int read_note(stage_t *stage, text_t note, uint64_t *whole, err_t *err) {
    struct stage_store *state = stage->private->state;
    struct stage_ledger *ledger = &stage->ledger;
    uint64_t *counts[COUNTS] = {&ledger->in, &ledger->out, &ledger->filtered, &ledger->late, &ledger->dead, &ledger->dropped, &ledger->created, &stage->errors};
    pack_cursor_t cursor = pack_cursor(note.data, note.size);
    uint32_t elements, numbers;
    uint64_t kind;
    text_t position;
    if (!pack_read_array(&cursor, &elements) || !pack_read_uint(&cursor, &kind) || (kind != NOTE_SOURCE && kind != NOTE_CHANGES) ||
        elements < (kind == NOTE_SOURCE ? 4u : 5u) || elements > (kind == NOTE_SOURCE ? 5u : 6u) || !pack_read_array(&cursor, &numbers) || numbers != COUNTS)
        goto bad;
    for (size_t i = 0; i < COUNTS; i++)
        if (!pack_read_uint(&cursor, counts[i]))
            goto bad;
    if (!pack_read_uint(&cursor, &state->stored_dead))
        goto bad;
    if (pack_read_binary(&cursor, &position))
        pack_binary(&state->stored, position.data, position.size);
    else if (!pack_skip(&cursor))
        goto bad;
    *whole = 0;
    if (kind == NOTE_CHANGES && (!pack_read_uint(&cursor, whole) || !*whole))
        goto bad;
    state->kept_index = 0;
    if (elements > (kind == NOTE_SOURCE ? 4u : 5u) && (!pack_read_uint(&cursor, &state->kept_index) || !state->kept_index))
        goto bad;
    state->held_index = state->kept_index;
    return 0;
bad:
    return err_set(err, "--state %s: the position in its log cannot be read; --reset starts anew", stage->settings.state);
}

static int lost(const stage_t *stage, err_t *err) {
    return err_set(err, "--state %s: its log has lost its last position; --reset starts anew", stage->settings.state);
}

/* The whole position at `from`, and the changes up to the record `last`. */
static int read_changes(stage_t *stage, uint64_t from, uint64_t last, err_t *err) {
    struct stage_store *state = stage->private->state;
    spool_cursor_t *cursor = spool_cursor_new(state->spool);
    spool_record_t record;
    uint64_t whole = 0;
    int result = 0;
    buf_clear(&state->stored);
    spool_seek_index(cursor, from);
    for (uint64_t index = from; index <= last && result == 0; index++) {
        int more = spool_next(cursor, &record, err);
        if (more <= 0) {
            result = more < 0 ? -1 : lost(stage, err);
            break;
        }
        bool has = record.note.size && !keep_is_piece(record.note);
        if (has)
            result = read_note(stage, record.note, &whole, err);
        if (result == 0 && (record.index != index || (!has && index == from) || (has && whole != (index == from ? 0 : from))))
            result = lost(stage, err);
        frame_unref(record.frame);
    }
    spool_cursor_free(cursor);
    return result;
}

/* The note of the last group is on its first record, which is at `index` or before. */
static int find_note(stage_t *stage, uint64_t *index, uint64_t *whole, err_t *err) {
    struct stage_store *state = stage->private->state;
    spool_cursor_t *cursor = spool_cursor_new(state->spool);
    spool_record_t record;
    int result = 0;
    for (bool has = false; *index > 1 && !has && result == 0;) {
        spool_seek_index(cursor, --*index);
        int more = spool_next(cursor, &record, err);
        if (more <= 0 || record.index != *index) {
            result = more < 0 ? -1 : lost(stage, err);
            if (more > 0)
                frame_unref(record.frame);
            break;
        }
        has = record.note.size && !keep_is_piece(record.note);
        if (has)
            result = read_note(stage, record.note, whole, err);
        frame_unref(record.frame);
    }
    spool_cursor_free(cursor);
    return result;
}

int note_resume(stage_t *stage, err_t *err) {
    struct stage_store *state = stage->private->state;
    spool_record_t record;
    int found = spool_last(state->spool, &record, err);
    if (found <= 0)
        return found;
    uint64_t index = record.index, whole = 0;
    state->ended = record.frame && record.frame->end;
    bool has = record.note.size && !keep_is_piece(record.note);
    int result = has ? read_note(stage, record.note, &whole, err) : find_note(stage, &index, &whole, err);
    frame_unref(record.frame);
    if (result == 0 && whole)
        result = read_changes(stage, whole, index, err);
    state->whole_safe = whole ? whole : index;
    return result;
}

bool stage_position(const stage_t *stage, size_t *at, text_t *position) {
    const struct stage_store *state = stage->private->state;
    if (!state || *at >= state->stored.size)
        return false;
    pack_cursor_t cursor = pack_cursor(state->stored.data + *at, state->stored.size - *at);
    ASSERT(pack_read_binary(&cursor, position));
    *at = (size_t) (cursor.at - state->stored.data);
    return true;
}
