/* Change data capture: the rows that are there before the first change, read as of the moment where the stream of changes begins.
 *
 * A snapshot that is interrupted is read on from the place where it stood, as of a later moment (an exported snapshot again, of a slot that lives
 * only for that). Changes between the two moments come with the stream, which begins at the first: those of rows that were read later are in what
 * was read, and are left out, so that nothing is given twice (segment_t). */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "pg_capture.h"

void snapshot_forget(capture_t *self) {
    for (size_t i = 0; i < self->segment_count; i++)
        place_fini(&self->segments[i].upto);
    self->segment_count = 0;
}

void snapshot_tables_free(capture_t *self) {
    for (size_t i = 0; i < self->table_count; i++) {
        snapshot_table_t *table = &self->tables[i];
        mem_free(table->schema);
        mem_free(table->table);
        mem_free(table->columns);
        mem_free(table->filter);
        place_fini(&table->key);
    }
    mem_free(self->tables);
    self->tables = NULL;
    self->table_count = 0;
}

/* Before, within, or behind. */
static int compare_table(const char *schema, const char *table, const place_t *upto) {
    int order = strcmp(schema, upto->schema);
    return order ? order : strcmp(table, upto->table);
}

static int compare_value(char kind, text_t a, text_t b) {
    int64_t x, y;
    if (kind == 'i' && text_to_int(a, &x, NULL) == 0 && text_to_int(b, &y, NULL) == 0)
        return (x > y) - (x < y);
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* Whether the row is among the first up to the place. What cannot be told is not. */
static bool key_within(const output_relation_t *relation, const output_row_t *row, const place_t *upto) {
    for (unsigned k = 0; k < upto->count; k++) {
        unsigned i = 0;
        while (i < row->count && strcmp(relation->columns[i].name, upto->names[k]) != 0)
            i++;
        if (i == row->count || row->fields[i].kind != 't')
            return false;
        int order = compare_value(upto->kinds[k], row->fields[i].text, text_of(upto->values[k]));
        if (order)
            return order < 0;
    }
    return true;
}

bool snapshot_covers(const capture_t *self, const output_relation_t *relation, const output_row_t *row) {
    for (size_t i = 0; i < self->segment_count; i++) {
        const segment_t *segment = &self->segments[i];
        bool within = segment->all;
        if (!within && segment->upto.schema) {
            int order = compare_table(relation->schema, relation->table, &segment->upto);
            within = order < 0 || (order == 0 && key_within(relation, row, &segment->upto));
        }
        if (within)
            return self->tx_lsn < segment->lsn;
    }
    return false;
}

static segment_t *present(capture_t *self) {
    return &self->segments[self->segment_count - 1];
}

static void put_list(buf_t *out, const option_list_t *list, bool tables) {
    for (size_t i = 0; i < list->count; i++) {
        buf_t name = {0};
        if (tables)
            postgres_put_table(&name, list->items[i]);
        else
            buf_put_text(&name, list->items[i]);
        buf_put_text(out, i ? ", " : "");
        pg_put_literal(out, text_of(buf_text(&name)));
        buf_fini(&name);
    }
}

/* A trial reads tables and leaves nothing in the database: what a publication would hold. */
static void put_wanted(buf_t *out, const postgres_settings_t *settings) {
    buf_put_text(out, "SELECT n.nspname AS schemaname, c.relname AS tablename, NULL::text AS rowfilter, NULL::name[] AS attnames FROM pg_catalog.pg_class c "
                      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', "
                      "'information_schema') AND (");
    if (settings->tables.count) {
        buf_put_text(out, "c.oid IN (SELECT t::regclass FROM unnest(ARRAY[");
        put_list(out, &settings->tables, true);
        buf_put_text(out, "]) AS t)");
    }
    if (settings->schemas.count) {
        buf_put_text(out, settings->tables.count ? " OR n.nspname IN (" : "n.nspname IN (");
        put_list(out, &settings->schemas, false);
        buf_put_text(out, ")");
    }
    buf_put_text(out, settings->tables.count || settings->schemas.count ? ")" : "true)");
}

static bool keys_of(capture_t *self, place_t *key, text_t names, text_t types) {
    text_t name, type;
    while (text_split(&names, '\1', &name) && text_split(&types, ' ', &type)) {
        char kind = 0;
        if (key->count == KEY_MAX)
            return false;
        if (text_is(type, "20") || text_is(type, "21") || text_is(type, "23") || text_is(type, "26"))
            kind = 'i';
        else if (text_is(type, "2950"))
            kind = 'b';
        else if ((text_is(type, "25") || text_is(type, "1043")) && self->utf8)
            kind = 'c';
        if (!kind)
            return false;
        key->names[key->count] = mem_text_n(name.data, name.size);
        key->kinds[key->count++] = kind;
    }
    return key->count > 0;
}

static void on_tables(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        capture_lost(self, error);
        return;
    }
    self->catalog_ready = true;
    snapshot_tables_free(self);
    int count = PQntuples(result);
    self->tables = mem_zero(((size_t) count + 1) * sizeof *self->tables);
    for (int i = 0; i < count; i++) {
        snapshot_table_t *table = &self->tables[self->table_count++];
        table->schema = mem_text(PQgetvalue(result, i, 0));
        table->table = mem_text(PQgetvalue(result, i, 1));
        table->columns = mem_text(PQgetvalue(result, i, 2));
        table->filter = PQgetisnull(result, i, 3) ? NULL : mem_text(PQgetvalue(result, i, 3));
        table->partitioned = *PQgetvalue(result, i, 4) == 'p';
        if (!keys_of(self, &table->key, text_of(PQgetvalue(result, i, 5)), text_of(PQgetvalue(result, i, 6))))
            place_fini(&table->key);
    }
    snapshot_listed(self);
}

void snapshot_list(capture_t *self) {
    int version = PQserverVersion(pg_connection(self->catalog));
    buf_t sql = {0};
    buf_put_text(&sql, "SELECT p.schemaname::text COLLATE \"C\", p.tablename::text COLLATE \"C\", (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY "
                       "a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped");
    if (version >= 120000)
        buf_put_text(&sql, " AND a.attgenerated = ''");
    if (version >= 150000)
        buf_put_text(&sql, " AND (p.attnames IS NULL OR a.attname = ANY (p.attnames))");
    buf_put_text(&sql, version >= 150000 ? "), p.rowfilter" : "), NULL");
    buf_put_text(&sql, ", c.relkind, k.names, k.types FROM (");
    if (source_trial(self->base.setup.host)) {
        put_wanted(&sql, self->base.settings);
    } else {
        buf_put_text(&sql, "SELECT * FROM pg_catalog.pg_publication_tables WHERE pubname = ");
        pg_put_literal(&sql, text_of(self->publication));
    }
    buf_put_text(&sql, ") p JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND "
                       "c.relname = p.tablename LEFT JOIN LATERAL (SELECT string_agg(a.attname, chr(1) ORDER BY u.at) AS names, "
                       "string_agg(a.atttypid::text, ' ' ORDER BY u.at) AS types FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY "
                       "AS u (attnum, at) JOIN pg_catalog.pg_attribute a ON a.attnum = u.attnum WHERE i.indrelid = c.oid AND i.indisprimary AND "
                       "a.attrelid = c.oid) k ON true ORDER BY 1, 2");
    self->catalog_ready = false;
    pg_ask(self->catalog, buf_text(&sql), 0, NULL, NULL, on_tables);
    buf_fini(&sql);
}

static text_t text_at(const PGresult *row, int column) {
    return text_make(PQgetvalue(row, 0, column), (size_t) PQgetlength(row, 0, column));
}

static void begin_table(capture_t *self, const PGresult *row, const snapshot_table_t *table) {
    self->table_begun = true;
    for (unsigned k = 0; k < table->key.count; k++) {
        self->key_columns[k] = -1;
        for (int i = 0; i < PQnfields(row); i++) {
            if (strcmp(PQfname(row, i), table->key.names[k]) == 0)
                self->key_columns[k] = i;
        }
    }
}

/* The place moves to this row, when it has one that can be found again. */
static void move_place(capture_t *self, const PGresult *row, const snapshot_table_t *table) {
    place_t *upto = &present(self)->upto;
    for (unsigned k = 0; k < table->key.count; k++) {
        if (self->key_columns[k] < 0)
            return;
    }
    if (!table->key.count)
        return;
    if (!upto->schema || upto->count == 0 || compare_table(table->schema, table->table, upto) != 0) {
        place_copy(upto, &table->key);
        upto->schema = mem_text(table->schema);
        upto->table = mem_text(table->table);
    }
    for (unsigned k = 0; k < table->key.count; k++) {
        mem_free(upto->values[k]);
        text_t value = text_at(row, self->key_columns[k]);
        upto->values[k] = mem_text_n(value.data, value.size);
    }
}

static void put_read(capture_t *self, buf_t *out, const PGresult *row, const snapshot_table_t *table) {
    int columns = PQnfields(row);
    buf_t lsn = {0};
    pack_map(out, 5);
    pack_text(out, "op");
    pack_text(out, "read");
    pack_text(out, "schema");
    pack_text(out, table->schema);
    pack_text(out, "table");
    pack_text(out, table->table);
    pack_text(out, "new");
    pack_map(out, (uint32_t) columns);
    for (int i = 0; i < columns; i++) {
        pack_text(out, PQfname(row, i));
        if (PQgetisnull(row, 0, i))
            pack_nil(out);
        else
            pg_put_value(&self->base.types, out, PQftype(row, i), text_at(row, i));
    }
    stream_put_lsn(&lsn, present(self)->lsn);
    pack_text(out, "lsn");
    pack_string(out, (const char *) lsn.data, lsn.size);
    buf_fini(&lsn);
}

static void on_row(void *argument, const PGresult *row) {
    capture_t *self = argument;
    const snapshot_table_t *table = &self->tables[self->table];
    if (!self->table_begun)
        begin_table(self, row, table);
    frame_builder_t *builder = source_begin(self->base.setup.host);
    put_read(self, &builder->body, row, table);
    move_place(self, row, table);
    if (postgres_fits(&self->base, builder, table->table))
        source_commit(self->base.setup.host);
}

static void read_table(capture_t *self);

static void on_table_read(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        capture_lost(self, error);
        return;
    }
    const snapshot_table_t *table = &self->tables[self->table];
    place_t *upto = &present(self)->upto;
    place_fini(upto);
    upto->schema = mem_text(table->schema);
    upto->table = mem_text(table->table);
    source_moved(self->base.setup.host);
    self->table++;
    read_table(self);
}

static void on_closed(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        capture_lost(self, error);
        return;
    }
    self->catalog_ready = true;
    present(self)->all = true;
    place_fini(&present(self)->upto);
    self->snapshot_done = true;
    source_moved(self->base.setup.host);
    log_info("%s: the snapshot of %zu table%s is read; changes come next", self->base.place, self->table_count, self->table_count == 1 ? "" : "s");
    capture_stream(self);
}

/* (a, b) in the order that compare_value knows. */
static void put_key(buf_t *out, const place_t *key) {
    for (unsigned k = 0; k < key->count; k++) {
        buf_put_text(out, k ? ", " : "");
        pg_put_identifier(out, text_of(key->names[k]));
        if (key->kinds[k] == 'c')
            buf_put_text(out, " COLLATE \"C\"");
    }
}

/* Where the segment before ended within this table; NULL: not in it. */
static const place_t *begun_before(const capture_t *self, const snapshot_table_t *table) {
    for (size_t i = self->segment_count; i-- > 0;) {
        const place_t *upto = &self->segments[i].upto;
        if (upto->schema)
            return upto->count && compare_table(table->schema, table->table, upto) == 0 ? upto : NULL;
    }
    return NULL;
}

static bool read_before(const capture_t *self, const snapshot_table_t *table) {
    for (size_t i = self->segment_count; i-- > 0;) {
        const place_t *upto = &self->segments[i].upto;
        if (upto->schema) {
            int order = compare_table(table->schema, table->table, upto);
            return order < 0 || (order == 0 && upto->count == 0);
        }
    }
    return false;
}

static void read_table(capture_t *self) {
    while (self->table < self->table_count && read_before(self, &self->tables[self->table]))
        self->table++;
    self->table_begun = false;
    if (self->table == self->table_count) {
        pg_ask(self->catalog, "COMMIT", 0, NULL, NULL, on_closed);
        return;
    }
    const snapshot_table_t *table = &self->tables[self->table];
    const place_t *from = begun_before(self, table);
    const char *values[KEY_MAX];
    buf_t sql = {0}, key = {0};
    put_key(&key, from ? from : &table->key);
    buf_format(&sql, "SELECT %s FROM %s", table->columns, table->partitioned ? "" : "ONLY ");
    pg_put_identifier(&sql, text_of(table->schema));
    buf_put_text(&sql, ".");
    pg_put_identifier(&sql, text_of(table->table));
    if (table->filter)
        buf_format(&sql, " WHERE (%s)", table->filter);
    if (from) {
        buf_format(&sql, " %s (%s) > (", table->filter ? "AND" : "WHERE", buf_text(&key));
        for (unsigned k = 0; k < from->count; k++) {
            buf_format(&sql, "%s$%u", k ? ", " : "", k + 1);
            values[k] = from->values[k];
        }
        buf_put_text(&sql, ")");
    }
    if (table->key.count)
        buf_format(&sql, " ORDER BY %s", buf_text(&key));
    source_healthy(self->base.setup.host);
    /* With a parameter in any case: a row that is too long for a simple statement's buffers is none here. */
    pg_ask(self->catalog, buf_text(&sql), from ? (int) from->count : 0, values, on_row, on_table_read);
    buf_fini(&sql);
    buf_fini(&key);
}

static void on_opened(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error)
        capture_lost(self, error);
    else
        read_table(self);
}

/* A segment in which nothing was read is used again, with another moment. */
void snapshot_read(capture_t *self, const char *name, uint64_t lsn) {
    if (!self->segment_count || present(self)->upto.schema) {
        if (self->segment_count == SEGMENTS_MAX) {
            source_failed(self->base.setup.host, "%s: the snapshot was interrupted %d times; --reset begins anew", self->base.place, SEGMENTS_MAX);
            return;
        }
        self->segments[self->segment_count++] = (segment_t){0};
    }
    present(self)->lsn = lsn;
    self->known = true;
    self->table = 0;
    source_moved(self->base.setup.host);
    buf_t sql = {0};
    buf_put_text(&sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    if (name) {
        buf_put_text(&sql, "; SET TRANSACTION SNAPSHOT ");
        pg_put_literal(&sql, text_of(name));
    }
    self->catalog_ready = false;
    pg_ask(self->catalog, buf_text(&sql), 0, NULL, NULL, on_opened);
    buf_fini(&sql);
}
