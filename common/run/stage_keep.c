/* What a source keeps besides its position (tool->keep), in the durable log itself: now and then all of it, in pieces, as a group of records
 * without frames, of which each later position names the first. After a restart it is read from there, and then what the frames behind it say. The
 * log's segments stay that long. */
#include <string.h>

#include "base/memory.h"
#include "data/pack.h"
#include "run/stage_state.h"

#define PIECE (256u * 1024)
#define SINCE_LEAST (256u * 1024)      /* bytes of frames until it is kept anew: */
#define SINCE_MOST (16u * 1024 * 1024)
#define SINCE_SIZES 4                  /* and so many times its own size at least */

/* [NOTE_KEPT, more pieces follow, bytes] */
static bool read_piece(text_t note, bool *more, text_t *bytes) {
    pack_cursor_t cursor = pack_cursor(note.data, note.size);
    uint32_t elements;
    uint64_t kind, flag;
    if (!pack_read_array(&cursor, &elements) || elements != 3 || !pack_read_uint(&cursor, &kind) || kind != NOTE_KEPT ||
        !pack_read_uint(&cursor, &flag) || !pack_read_binary(&cursor, bytes))
        return false;
    *more = flag;
    return true;
}

bool keep_is_piece(text_t note) {
    bool more;
    text_t bytes;
    return read_piece(note, &more, &bytes);
}

void stage_keep(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (!state || !state->spool)
        return;
    buf_t whole = {0}, note = {0};
    stage_flush(stage);
    stage->tool->keep(stage, &whole);
    state->kept_since = 0;
    state->kept_size = whole.size;
    state->kept_index = spool_index(state->spool) + 1; /* the group's own position names it already */
    size_t at = 0;
    do {
        size_t size = whole.size - at < PIECE ? whole.size - at : PIECE;
        buf_clear(&note);
        pack_array(&note, 3);
        pack_uint(&note, NOTE_KEPT);
        pack_uint(&note, at + size < whole.size);
        pack_binary(&note, whole.data + at, size);
        state_add_note(stage, text_make((const char *) note.data, note.size));
        at += size;
    } while (at < whole.size);
    state->kept_end = spool_index(state->spool);
    buf_fini(&whole);
    buf_fini(&note);
    state_commit(stage);
}

void keep_due(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    uint64_t due = stage->settings.spool_limit / 8;
    if (!stage->follows || stage->tool->save)
        return;
    due = due < SINCE_LEAST ? SINCE_LEAST : due > SINCE_MOST ? SINCE_MOST : due;
    if (due < SINCE_SIZES * state->kept_size)
        due = SINCE_SIZES * state->kept_size;
    if (state->kept_since >= due && !state->ended)
        stage_keep(stage);
}

void keep_settle(stage_t *stage) {
    struct stage_store *state = stage->private->state;
    if (state->kept_end && spool_synced(state->spool) >= state->kept_end) {
        state->held_index = state->kept_index;
        state->kept_end = 0;
    }
}

/* From the first record of what was kept on. */
static int recall(stage_t *stage, spool_cursor_t *cursor, err_t *err) {
    spool_record_t record;
    buf_t whole = {0};
    bool have = false, more;
    text_t piece;
    int result = 0, next = 0;
    spool_seek_index(cursor, stage->private->state->kept_index);
    while (result == 0 && (next = spool_next(cursor, &record, err)) > 0) {
        if (record.frame && record.frame->events) {
            stage->tool->emitted(stage, record.frame, true);
        } else if (!have && record.note.size && read_piece(record.note, &more, &piece)) {
            buf_put(&whole, piece.data, piece.size);
            if (!more)
                result = stage->tool->kept(stage, text_make((const char *) whole.data, whole.size), err);
            have = !more;
        }
        frame_unref(record.frame);
    }
    buf_fini(&whole);
    return next < 0 ? -1 : result;
}

int stage_recall_kept(stage_t *stage, err_t *err) {
    struct stage_store *state = stage->private->state;
    if (!state || !state->spool)
        return 0;
    int result = 0;
    if (state->kept_index) {
        spool_cursor_t *cursor = spool_cursor_new(state->spool);
        result = recall(stage, cursor, err);
        spool_cursor_free(cursor);
    }
    if (result)
        return err_wrap(err, "--state %s (--reset forgets it and begins anew)", stage->settings.state);
    return 0;
}
