/* Change data capture: its position, stored and restored. */
#include "base/memory.h"
#include "data/pack.h"
#include "pg_capture.h"

void place_fini(place_t *place) {
    mem_free(place->schema);
    mem_free(place->table);
    for (unsigned i = 0; i < KEY_MAX; i++) {
        mem_free(place->names[i]);
        mem_free(place->values[i]);
    }
    *place = (place_t){0};
}

void place_copy(place_t *to, const place_t *from) {
    place_fini(to);
    *to = *from;
    to->schema = mem_text(from->schema);
    to->table = mem_text(from->table);
    for (unsigned i = 0; i < KEY_MAX; i++) {
        to->names[i] = mem_text(from->names[i]);
        to->values[i] = mem_text(from->values[i]);
    }
}

static void put_texts(buf_t *out, char *const *texts, unsigned count) {
    pack_array(out, count);
    for (unsigned i = 0; i < count; i++)
        pack_text(out, texts[i]);
}

static void put_segment(buf_t *out, const segment_t *segment) {
    const place_t *upto = &segment->upto;
    pack_map(out, 7);
    pack_text(out, "lsn");
    pack_uint(out, segment->lsn);
    pack_text(out, "all");
    pack_bool(out, segment->all);
    pack_text(out, "schema");
    pack_text(out, upto->schema ? upto->schema : "");
    pack_text(out, "table");
    pack_text(out, upto->table ? upto->table : "");
    pack_text(out, "kinds");
    pack_text(out, upto->kinds);
    pack_text(out, "names");
    put_texts(out, upto->names, upto->count);
    pack_text(out, "values");
    put_texts(out, upto->values, upto->count);
}

void capture_position(const source_t *source, buf_t *out) {
    const capture_t *self = (const capture_t *) source;
    pack_map(out, 11);
    pack_text(out, "mode");
    pack_text(out, "cdc");
    pack_text(out, "database");
    pack_text(out, self->base.database);
    pack_text(out, "slot");
    pack_text(out, self->slot);
    pack_text(out, "system");
    pack_text(out, self->system);
    pack_text(out, "begun");
    pack_bool(out, self->known);
    pack_text(out, "snapshot_done");
    pack_bool(out, self->snapshot_done);
    pack_text(out, "commit");
    pack_uint(out, self->commit);
    pack_text(out, "changes");
    pack_uint(out, self->changes);
    pack_text(out, "complete");
    pack_bool(out, self->complete);
    pack_text(out, "passed");
    pack_uint(out, self->passed);
    pack_text(out, "segments");
    pack_array(out, (uint32_t) self->segment_count);
    for (size_t i = 0; i < self->segment_count; i++)
        put_segment(out, &self->segments[i]);
}

static bool read_bool(const uint8_t *position, size_t size, const char *key, bool *out) {
    value_t value;
    if (!pack_map_get(position, size, text_of(key), &value) || value.type != VALUE_BOOL)
        return false;
    *out = value.boolean;
    return true;
}

/* An array of texts; all copies are the place's as soon as they are made. */
static bool read_texts(value_t map, const char *key, char **texts, unsigned *count) {
    value_t array;
    uint32_t size;
    text_t text;
    if (!pack_map_get(map.packed, map.size, text_of(key), &array) || array.type != VALUE_ARRAY)
        return false;
    pack_cursor_t cursor = pack_cursor(array.packed, array.size);
    if (!pack_read_array(&cursor, &size) || size > KEY_MAX)
        return false;
    for (uint32_t i = 0; i < size; i++) {
        if (!pack_read_string(&cursor, &text))
            return false;
        mem_free(texts[i]);
        texts[i] = mem_text_n(text.data, text.size);
    }
    *count = size;
    return true;
}

static bool read_segment(value_t map, segment_t *segment) {
    text_t schema, table, kinds;
    unsigned values;
    place_t *upto = &segment->upto;
    if (map.type != VALUE_MAP || !postgres_position_uint(map.packed, map.size, "lsn", &segment->lsn) ||
        !read_bool(map.packed, map.size, "all", &segment->all) || !postgres_position_text(map.packed, map.size, "schema", &schema) ||
        !postgres_position_text(map.packed, map.size, "table", &table) || !postgres_position_text(map.packed, map.size, "kinds", &kinds))
        return false;
    if (table.size) {
        upto->schema = mem_text_n(schema.data, schema.size);
        upto->table = mem_text_n(table.data, table.size);
    }
    if (!read_texts(map, "names", upto->names, &upto->count) || !read_texts(map, "values", upto->values, &values) || values != upto->count ||
        kinds.size < upto->count || kinds.size > KEY_MAX)
        return false;
    memcpy(upto->kinds, kinds.data, kinds.size);
    return true;
}

static bool read_segments(capture_t *self, const uint8_t *position, size_t size) {
    value_t array, item;
    uint32_t count;
    if (!pack_map_get(position, size, text_of("segments"), &array) || array.type != VALUE_ARRAY)
        return false;
    pack_cursor_t cursor = pack_cursor(array.packed, array.size);
    if (!pack_read_array(&cursor, &count) || count > SEGMENTS_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!pack_read_value(&cursor, &item) || !read_segment(item, &self->segments[self->segment_count++]))
            return false;
    }
    return true;
}

int capture_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    capture_t *self = (capture_t *) source;
    text_t mode, database, slot, system;
    if (!postgres_position_text(position, size, "mode", &mode) || !text_is(mode, "cdc"))
        return err_set(err, "the stored position is none of --mode cdc");
    if (!postgres_position_text(position, size, "database", &database) || !postgres_position_text(position, size, "slot", &slot) ||
        !postgres_position_text(position, size, "system", &system) || !read_bool(position, size, "begun", &self->known) ||
        !read_bool(position, size, "snapshot_done", &self->snapshot_done) || !postgres_position_uint(position, size, "commit", &self->commit) ||
        !postgres_position_uint(position, size, "changes", &self->changes) || !read_bool(position, size, "complete", &self->complete) ||
        !postgres_position_uint(position, size, "passed", &self->passed) || !read_segments(self, position, size))
        return err_set(err, "the stored position cannot be read");
    if (!text_is(database, self->base.database))
        return err_set(err, "it was made for the database %.*s", (int) database.size, database.data);
    if (!text_is(slot, self->slot))
        return err_set(err, "it was made with --slot %.*s", (int) slot.size, slot.data);
    mem_free(self->system);
    self->system = mem_text_n(system.data, system.size);
    self->durable = self->passed;
    source_moved(self->base.setup.host); /* stored again, it is known when it is safe */
    return 0;
}

void capture_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    capture_t *self = (capture_t *) source;
    uint64_t passed, commit, changes;
    bool complete;
    if (!postgres_position_uint(position, size, "passed", &passed) || !postgres_position_uint(position, size, "commit", &commit) ||
        !postgres_position_uint(position, size, "changes", &changes) || !read_bool(position, size, "complete", &complete))
        return;
    self->all_durable = commit == self->commit && changes == self->changes && complete == self->complete;
    if (passed > self->durable) {
        self->durable = passed;
        stream_status(self, false);
    }
}
