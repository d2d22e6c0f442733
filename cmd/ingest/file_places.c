/* The places of a set of files, as they are stored: all of them now and then, and between that those that have changed. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/pack.h"
#include "file_set.h"

/* ---- what has changed ---- */

void file_set_changed(file_entry_t *entry) {
    file_set_t *set = entry->set;
    if (entry->changed)
        return;
    if (set->changed_count == set->changed_room)
        set->changed = mem_resize(set->changed, (set->changed_room = set->changed_room * 2 + 64) * sizeof *set->changed);
    set->changed[set->changed_count++] = entry;
    entry->changed = set->changed_count;
}

void file_set_unchanged(file_entry_t *entry) {
    file_set_t *set = entry->set;
    if (!entry->changed)
        return;
    file_entry_t *last = set->changed[--set->changed_count];
    set->changed[entry->changed - 1] = last;
    last->changed = entry->changed;
    entry->changed = 0;
}

void file_set_removed(file_set_t *set, const char *name) {
    pack_text(&set->removed, name);
    set->removed_count++;
}

static void all_stored(file_set_t *set) {
    while (set->changed_count)
        file_set_unchanged(set->changed[set->changed_count - 1]);
    buf_clear(&set->removed);
    set->removed_count = 0;
}

void file_set_note(file_entry_t *entry) {
    buf_t *now = &entry->set->space, before = entry->position;
    text_t path;
    filemark_t mark;
    if (!entry->input)
        return;
    buf_clear(now);
    file_input_position(entry->input, now);
    if (now->size == before.size && memcmp(now->data, before.data, before.size) == 0)
        return;
    entry->position = *now;
    *now = before;
    if (file_input_read(entry->position.data, entry->position.size, &path, &mark))
        file_set_mark(entry, &mark);
    file_set_changed(entry);
}

static void note_open(file_set_t *set) {
    for (unsigned i = 0; i < set->open_count; i++)
        file_set_note(set->open[i]);
}

/* ---- stored ---- */

static void put_head(const file_set_t *set, uint32_t members, buf_t *out) {
    pack_map(out, members);
    pack_text(out, "pattern");
    pack_text(out, set->pattern);
    pack_text(out, "since");
    pack_int(out, set->since);
    pack_text(out, "files");
}

void file_set_position(const source_t *source, buf_t *out) {
    file_set_t *set = (file_set_t *) source; /* what is stored is noted */
    text_t name;
    void *value;
    note_open(set);
    all_stored(set);
    put_head(set, 3, out);
    pack_array(out, (uint32_t) map_count(set->entries));
    for (size_t at = 0; map_next(set->entries, &at, &name, &value);)
        buf_put(out, ((file_entry_t *) value)->position.data, ((file_entry_t *) value)->position.size);
}

void file_set_changes(source_t *source, buf_t *out) {
    file_set_t *set = (file_set_t *) source;
    note_open(set);
    put_head(set, 4, out);
    pack_array(out, (uint32_t) set->changed_count);
    for (size_t i = 0; i < set->changed_count; i++)
        buf_put(out, set->changed[i]->position.data, set->changed[i]->position.size);
    pack_text(out, "removed");
    pack_array(out, set->removed_count);
    buf_put(out, set->removed.data, set->removed.size);
    all_stored(set);
}

/* ---- restored ---- */

/* One file's place. */
static bool restore_entry(file_set_t *set, const uint8_t *bytes, size_t size) {
    text_t path;
    filemark_t mark;
    if (!file_input_read(bytes, size, &path, &mark))
        return false;
    size_t directory = path.size;
    while (directory && path.data[directory - 1] != '/')
        directory--;
    char *name = mem_text_n(path.data + directory, path.size - directory);
    if (file_set_matches(set, name)) {
        file_entry_t *entry = map_get(set->entries, text_of(name));
        if (!entry)
            entry = file_set_add(set, name);
        buf_clear(&entry->position);
        buf_put(&entry->position, bytes, size);
        file_set_mark(entry, &mark);
    }
    mem_free(name);
    return true;
}

/* A map of pattern, since and files, and of what else there is. The cursor is left behind the array's head. */
static bool read_head(file_set_t *set, pack_cursor_t *cursor, uint32_t members, uint32_t *count) {
    text_t key, pattern;
    uint32_t found;
    return pack_read_map(cursor, &found) && found == members && pack_read_string(cursor, &key) && text_is(key, "pattern") &&
           pack_read_string(cursor, &pattern) && pack_read_string(cursor, &key) && text_is(key, "since") && pack_read_int(cursor, &set->since) &&
           pack_read_string(cursor, &key) && text_is(key, "files") && pack_read_array(cursor, count);
}

static int restore_entries(file_set_t *set, pack_cursor_t *cursor, uint32_t count, err_t *err) {
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *begin = cursor->at;
        if (!pack_skip(cursor) || !restore_entry(set, begin, (size_t) (cursor->at - begin)))
            return err_set(err, "the stored position is damaged");
    }
    return 0;
}

int file_set_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    file_set_t *set = (file_set_t *) source;
    pack_cursor_t cursor = pack_cursor(position, size);
    uint32_t count;
    if (!read_head(set, &cursor, 3, &count))
        return err_set(err, "the stored position is none of a pattern of files");
    set->restored = true;
    return restore_entries(set, &cursor, count, err);
}

/* A name that was removed may be there again: so those go first. */
int file_set_restore_changes(source_t *source, const uint8_t *changes, size_t size, err_t *err) {
    file_set_t *set = (file_set_t *) source;
    pack_cursor_t cursor = pack_cursor(changes, size), files;
    uint32_t count, removed;
    text_t name;
    if (!read_head(set, &cursor, 4, &count))
        return err_set(err, "the stored changes are none of a pattern of files");
    files = cursor;
    for (uint32_t i = 0; i < count; i++)
        if (!pack_skip(&cursor))
            return err_set(err, "the stored position is damaged");
    if (!pack_read_string(&cursor, &name) || !text_is(name, "removed") || !pack_read_array(&cursor, &removed))
        return err_set(err, "the stored position is damaged");
    for (uint32_t i = 0; i < removed && pack_read_string(&cursor, &name); i++) {
        file_entry_t *entry = map_get(set->entries, name);
        if (entry)
            file_set_forget(entry);
    }
    return restore_entries(set, &files, count, err);
}

void file_set_restored(file_set_t *set) {
    text_t name;
    void *value;
    filemark_t finished[FILE_INPUT_FINISHED];
    set->past = mem_alloc((map_count(set->entries) * FILE_INPUT_FINISHED + 1) * sizeof *set->past);
    for (size_t at = 0; map_next(set->entries, &at, &name, &value);) {
        const file_entry_t *entry = value;
        size_t count = file_input_all_finished(entry->position.data, entry->position.size, finished);
        for (size_t i = 0; i < count; i++, set->past_count++)
            set->past[set->past_count] = (file_past_t){finished[i], set->past_count};
    }
    set->past = mem_resize(set->past, (set->past_count + 1) * sizeof *set->past);
    if (set->past_count)
        qsort(set->past, set->past_count, sizeof *set->past, file_past_compare);
    all_stored(set);
}
