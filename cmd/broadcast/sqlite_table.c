/* Events as rows of a SQLite table. Column names are compared as SQLite does, without regard to the case of A to Z. */
#include "sqlite_table.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"

#define NAME_MAX_BYTES 255
#define GUESSES 256
#define NO_COLUMN UINT32_MAX
#define PRUNE_EVERY (10 * NS_PER_S)

enum { COLUMN_TIME, COLUMN_STREAM, COLUMN_FIRST };

struct sqlite_table {
    sqlite3 *database;
    sqlite_table_setup_t setup;
    char **columns;                    /* that are written: "ts", "stream", then fields as they came */
    uint32_t count, base;              /* base: those that were there when the sink was opened */
    map_t *present;                    /* lower case name → anything: every column that the table has */
    map_t *index;                      /* lower case name → number of its column + 1 */
    sqlite3_stmt *insert;
    uint32_t guesses[GUESSES];         /* of the event before: its n-th field's column */
    buf_t space, extra, lower;
    bool said_full;
    int64_t pruned;
};

int sqlite_fail(sqlite3 *database, const char *what, err_t *err) {
    int code = sqlite3_extended_errcode(database);
    err_set(err, "%s: %s", what, sqlite3_errmsg(database));
    return code == SQLITE_OK ? SQLITE_ERROR : code;
}

int sqlite_run(sqlite3 *database, const char *sql, err_t *err) {
    if (sqlite3_exec(database, sql, NULL, NULL, NULL) == SQLITE_OK)
        return SQLITE_OK;
    char what[80];
    snprintf(what, sizeof what, "%.60s", sql);
    return sqlite_fail(database, what, err);
}

void sqlite_put_name(buf_t *out, const char *name) {
    buf_put_byte(out, '"');
    for (; *name; name++) {
        if (*name == '"')
            buf_put_byte(out, '"');
        buf_put_byte(out, (uint8_t) *name);
    }
    buf_put_byte(out, '"');
}

static text_t lower(sqlite_table_t *table, text_t name) {
    buf_clear(&table->lower);
    for (size_t i = 0; i < name.size; i++)
        buf_put_byte(&table->lower, (uint8_t) (name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] + 32 : name.data[i]));
    return text_make((const char *) table->lower.data, table->lower.size);
}

static void finalize(sqlite_table_t *table) {
    sqlite3_finalize(table->insert);
    table->insert = NULL;
}

/* The columns that the table has now. */
static int look(sqlite_table_t *table, err_t *err) {
    buf_t sql = {0};
    sqlite3_stmt *statement = NULL;
    map_free(table->present);
    table->present = map_new();
    buf_put_text(&sql, "PRAGMA table_info(");
    sqlite_put_name(&sql, table->setup.name);
    buf_put_text(&sql, ")");
    int code = sqlite3_prepare_v2(table->database, buf_text(&sql), -1, &statement, NULL);
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(statement);
        if (code == SQLITE_ROW)
            map_put(table->present, lower(table, text_of((const char *) sqlite3_column_text(statement, 1))), table);
    }
    if (code != SQLITE_DONE)
        code = sqlite_fail(table->database, "look at the table", err);
    sqlite3_finalize(statement);
    buf_fini(&sql);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int add_to_table(sqlite_table_t *table, const char *name, const char *type, err_t *err) {
    buf_t sql = {0};
    buf_put_text(&sql, "ALTER TABLE ");
    sqlite_put_name(&sql, table->setup.name);
    buf_put_text(&sql, " ADD COLUMN ");
    sqlite_put_name(&sql, name);
    buf_format(&sql, " %s", type);
    int code = sqlite_run(table->database, buf_text(&sql), err);
    buf_fini(&sql);
    if (code == SQLITE_OK)
        map_put(table->present, lower(table, text_of(name)), table);
    return code;
}

/* Makes the column one that is written; adds it to the table when that does not have it. */
static int use_column(sqlite_table_t *table, text_t name, const char *type, uint32_t *column, err_t *err) {
    char *copy = mem_text_n(name.data, name.size);
    int code = map_get(table->present, lower(table, name)) ? SQLITE_OK : add_to_table(table, copy, type, err);
    if (code) {
        mem_free(copy);
        return code;
    }
    *column = table->count;
    table->columns = mem_resize(table->columns, (table->count + 1) * sizeof *table->columns);
    table->columns[table->count++] = copy;
    map_put(table->index, lower(table, name), (void *) (uintptr_t) table->count);
    finalize(table);
    return SQLITE_OK;
}

static int prepare(sqlite_table_t *table, err_t *err) {
    buf_t sql = {0};
    buf_put_text(&sql, "INSERT INTO ");
    sqlite_put_name(&sql, table->setup.name);
    buf_put_text(&sql, " (");
    for (uint32_t i = 0; i < table->count; i++) {
        buf_put_text(&sql, i ? ", " : "");
        sqlite_put_name(&sql, table->columns[i]);
    }
    buf_put_text(&sql, ") VALUES (");
    for (uint32_t i = 0; i < table->count; i++)
        buf_put_text(&sql, i ? ", ?" : "?");
    buf_put_text(&sql, ")");
    int code = sqlite3_prepare_v3(table->database, buf_text(&sql), -1, SQLITE_PREPARE_PERSISTENT, &table->insert, NULL);
    if (code)
        code = sqlite_fail(table->database, "prepare the insertion", err);
    buf_fini(&sql);
    return code;
}

/* A time of fixed width, so that text sorts as time does. */
static void bind_time(sqlite_table_t *table, int column, int64_t ns) {
    char text[CLOCK_TEXT_MAX + 16];
    if (table->setup.time == TABLE_TIME_NS) {
        sqlite3_bind_int64(table->insert, column, ns);
        return;
    }
    int64_t fraction = ns % NS_PER_S;
    if (fraction < 0)
        fraction += NS_PER_S;
    size_t size = clock_print(text, ns - fraction);
    size += (size_t) snprintf(text + size - 1, sizeof text - size, ".%09lldZ", (long long) fraction) - 1;
    sqlite3_bind_text(table->insert, column, text, (int) size, SQLITE_TRANSIENT);
}

static const char *type_of(const value_t *value) {
    switch ((value_type_t) value->type) {
        case VALUE_BOOL: case VALUE_INT: return "INTEGER";
        case VALUE_DOUBLE: return "REAL";
        case VALUE_BINARY: return "BLOB";
        case VALUE_NULL: case VALUE_UINT: case VALUE_STRING: case VALUE_ARRAY: case VALUE_MAP: case VALUE_TIME: break;
    }
    return "TEXT";
}

static void bind_value(sqlite_table_t *table, int column, value_t value) {
    sqlite3_stmt *insert = table->insert;
    switch ((value_type_t) value.type) {
        case VALUE_NULL: sqlite3_bind_null(insert, column); break;
        case VALUE_BOOL: sqlite3_bind_int(insert, column, value.boolean); break;
        case VALUE_INT: sqlite3_bind_int64(insert, column, value.integer); break;
        case VALUE_DOUBLE: sqlite3_bind_double(insert, column, value.number); break;
        case VALUE_STRING: sqlite3_bind_text(insert, column, value.text, (int) value.size, SQLITE_STATIC); break;
        case VALUE_BINARY: sqlite3_bind_blob(insert, column, value.packed, (int) value.size, SQLITE_STATIC); break;
        case VALUE_TIME: bind_time(table, column, value.time); break;
        case VALUE_UINT: case VALUE_ARRAY: case VALUE_MAP:
            buf_clear(&table->space);
            json_put_value(&table->space, value);
            sqlite3_bind_text(insert, column, (const char *) table->space.data, (int) table->space.size, SQLITE_TRANSIENT);
            break;
    }
}

/* A field's own "ts" and "stream" stand beside ours. */
static text_t column_name(text_t name) {
    if (name.size == 2 && strncasecmp(name.data, "ts", 2) == 0)
        return text_of("ts_");
    if (name.size == 6 && strncasecmp(name.data, "stream", 6) == 0)
        return text_of("stream_");
    return name;
}

static uint32_t column_of(sqlite_table_t *table, text_t name) {
    uintptr_t known = (uintptr_t) map_get(table->index, lower(table, column_name(name)));
    return known ? (uint32_t) known - 1 : NO_COLUMN;
}

/* Of a field that is not null; NO_COLUMN: there is none, and shall be none. */
static int find_column(sqlite_table_t *table, text_t name, const value_t *value, uint32_t *column, err_t *err) {
    *column = column_of(table, name);
    if (*column != NO_COLUMN || table->setup.columns->count || !name.size || name.size > NAME_MAX_BYTES || memchr(name.data, 0, name.size))
        return SQLITE_OK;
    if (table->count < table->setup.columns_max)
        return use_column(table, column_name(name), type_of(value), column, err);
    if (!table->said_full)
        log_warning("table %s has %u columns: further fields go to its column \"extra\" as JSON (columns-max)", table->setup.name, table->count);
    table->said_full = true;
    return SQLITE_OK;
}

/* All fields have columns, and the statement has them all, before the first is bound. */
static int make_columns(sqlite_table_t *table, const event_t *event, bool *extra, err_t *err) {
    pack_cursor_t cursor = pack_cursor(event->record, event->record_size);
    uint32_t fields;
    if (!pack_read_map(&cursor, &fields)) {
        err_set(err, "the event is malformed");
        return SQLITE_MISMATCH;
    }
    for (uint32_t i = 0; i < fields; i++) {
        text_t name;
        value_t value;
        if (!pack_read_string(&cursor, &name) || !pack_read_value(&cursor, &value)) {
            err_set(err, "the event is malformed");
            return SQLITE_MISMATCH;
        }
        uint32_t column = i < GUESSES ? table->guesses[i] : NO_COLUMN;
        if (column >= COLUMN_FIRST && column < table->count && text_is(name, table->columns[column]))
            continue;
        column = NO_COLUMN;
        if (value.type != VALUE_NULL) {
            int code = find_column(table, name, &value, &column, err);
            if (code)
                return code;
            *extra |= column == NO_COLUMN && !table->setup.columns->count;
        }
        if (i < GUESSES)
            table->guesses[i] = column;
    }
    return SQLITE_OK;
}

static int bind_fields(sqlite_table_t *table, const event_t *event, bool extra, err_t *err) {
    pack_cursor_t cursor = pack_cursor(event->record, event->record_size);
    uint32_t fields, extra_column = NO_COLUMN;
    if (extra && (extra_column = column_of(table, text_of("extra"))) == NO_COLUMN) {
        int code = use_column(table, text_of("extra"), "TEXT", &extra_column, err);
        if (code)
            return code;
    }
    if (!table->insert && prepare(table, err))
        return SQLITE_ERROR;
    sqlite3_clear_bindings(table->insert);
    buf_clear(&table->extra);
    ASSERT(pack_read_map(&cursor, &fields)); /* make_columns has walked it */
    for (uint32_t i = 0; i < fields; i++) {
        text_t name;
        value_t value;
        ASSERT(pack_read_string(&cursor, &name) && pack_read_value(&cursor, &value));
        uint32_t column = i < GUESSES ? table->guesses[i] : column_of(table, name);
        if (column != NO_COLUMN) {
            bind_value(table, (int) column + 1, value);
        } else if (extra && value.type != VALUE_NULL) {
            buf_put_byte(&table->extra, table->extra.size ? ',' : '{');
            text_put_json(&table->extra, name);
            buf_put_byte(&table->extra, ':');
            json_put_value(&table->extra, value);
        }
    }
    if (extra) {
        buf_put_byte(&table->extra, '}');
        sqlite3_bind_text(table->insert, (int) extra_column + 1, (const char *) table->extra.data, (int) table->extra.size, SQLITE_STATIC);
    }
    return SQLITE_OK;
}

static int bind_json(sqlite_table_t *table, const event_t *event, err_t *err) {
    buf_clear(&table->space);
    if (!json_put_event(&table->space, event, false, NULL)) {
        err_set(err, "the event is malformed");
        return SQLITE_MISMATCH;
    }
    if (!table->insert && prepare(table, err))
        return SQLITE_ERROR;
    sqlite3_bind_text(table->insert, COLUMN_FIRST + 1, (const char *) table->space.data, (int) table->space.size, SQLITE_STATIC);
    return SQLITE_OK;
}

int sqlite_table_insert(sqlite_table_t *table, const event_t *event, const char *stream, err_t *err) {
    bool extra = false;
    int code = table->setup.mode == TABLE_JSON ? bind_json(table, event, err) : make_columns(table, event, &extra, err);
    if (code == SQLITE_OK && table->setup.mode == TABLE_COLUMNS)
        code = bind_fields(table, event, extra, err);
    if (code)
        return code;
    bind_time(table, COLUMN_TIME + 1, event->time);
    sqlite3_bind_text(table->insert, COLUMN_STREAM + 1, stream, -1, SQLITE_STATIC);
    code = sqlite3_step(table->insert);
    if (code != SQLITE_DONE)
        code = sqlite_fail(table->database, "insert", err);
    sqlite3_reset(table->insert);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

int sqlite_table_prune(sqlite_table_t *table, err_t *err) {
    const sqlite_table_setup_t *setup = &table->setup;
    int64_t now = clock_monotonic();
    if ((!setup->keep_rows && !setup->keep_for) || now - table->pruned < PRUNE_EVERY)
        return SQLITE_OK;
    table->pruned = now;
    buf_t sql = {0};
    if (setup->keep_rows) {
        buf_put_text(&sql, "DELETE FROM ");
        sqlite_put_name(&sql, setup->name);
        buf_put_text(&sql, " WHERE rowid <= (SELECT max(rowid) FROM ");
        sqlite_put_name(&sql, setup->name);
        buf_format(&sql, ") - %lld;", (long long) setup->keep_rows);
    }
    if (setup->keep_for) {
        char text[CLOCK_TEXT_MAX + 1];
        int64_t before = clock_now() - setup->keep_for;
        text[clock_print(text, before - before % NS_PER_S)] = 0;
        text[strlen(text) - 1] = 0; /* without the Z, so that it sorts before its fractions */
        buf_put_text(&sql, "DELETE FROM ");
        sqlite_put_name(&sql, setup->name);
        if (setup->time == TABLE_TIME_NS)
            buf_format(&sql, " WHERE ts < %lld", (long long) before);
        else
            buf_format(&sql, " WHERE ts < '%s'", text);
    }
    int code = sqlite_run(table->database, buf_text(&sql), err);
    buf_fini(&sql);
    return code;
}

void sqlite_table_rolled_back(sqlite_table_t *table) {
    finalize(table);
    while (table->count > table->base)
        mem_free(table->columns[--table->count]);
    map_free(table->index);
    table->index = map_new();
    for (uint32_t i = 0; i < table->count; i++)
        map_put(table->index, lower(table, text_of(table->columns[i])), (void *) (uintptr_t) (i + 1));
    memset(table->guesses, 0xff, sizeof table->guesses);
    look(table, NULL);
}

/* "NAME:TYPE" */
static int use_given(sqlite_table_t *table, const char *given, err_t *err) {
    static const char *const types[] = {"INTEGER", "REAL", "TEXT", "BLOB"};
    const char *colon = strrchr(given, ':'), *type = "";
    for (unsigned i = 0; colon && i < 4; i++)
        if (strcasecmp(colon + 1, types[i]) == 0)
            type = types[i];
    text_t name = text_make(given, *type ? (size_t) (colon - given) : strlen(given));
    uint32_t column;
    if (map_get(table->index, lower(table, name)))
        return SQLITE_OK;
    return use_column(table, name, type, &column, err);
}

static int make_table(sqlite_table_t *table, err_t *err) {
    const sqlite_table_setup_t *setup = &table->setup;
    buf_t sql = {0};
    uint32_t column;
    buf_put_text(&sql, "CREATE TABLE IF NOT EXISTS ");
    sqlite_put_name(&sql, setup->name);
    buf_format(&sql, " (ts %s, stream TEXT)", setup->time == TABLE_TIME_NS ? "INTEGER" : "TEXT");
    int code = sqlite_run(table->database, buf_text(&sql), err);
    buf_clear(&sql);
    if (code == SQLITE_OK)
        code = look(table, err);
    if (code == SQLITE_OK)
        code = use_column(table, text_of("ts"), setup->time == TABLE_TIME_NS ? "INTEGER" : "TEXT", &column, err);
    if (code == SQLITE_OK)
        code = use_column(table, text_of("stream"), "TEXT", &column, err);
    if (code == SQLITE_OK && setup->mode == TABLE_JSON)
        code = use_column(table, text_of("event"), "TEXT", &column, err);
    for (size_t i = 0; code == SQLITE_OK && setup->mode == TABLE_COLUMNS && i < setup->columns->count; i++)
        code = use_given(table, setup->columns->items[i], err);
    if (code == SQLITE_OK && setup->keep_for) {
        char *name = mem_format("%s_ts", setup->name);
        buf_put_text(&sql, "CREATE INDEX IF NOT EXISTS ");
        sqlite_put_name(&sql, name);
        buf_put_text(&sql, " ON ");
        sqlite_put_name(&sql, setup->name);
        buf_put_text(&sql, " (ts)");
        code = sqlite_run(table->database, buf_text(&sql), err);
        mem_free(name);
    }
    buf_fini(&sql);
    return code;
}

int sqlite_table_open(sqlite_table_t **made, sqlite3 *database, const sqlite_table_setup_t *setup, err_t *err) {
    sqlite_table_t *table = mem_zero(sizeof *table);
    table->database = database;
    table->setup = *setup;
    table->index = map_new();
    memset(table->guesses, 0xff, sizeof table->guesses);
    if (make_table(table, err)) {
        sqlite_table_close(table);
        return -1;
    }
    table->base = table->count;
    *made = table;
    return 0;
}

void sqlite_table_close(sqlite_table_t *table) {
    if (!table)
        return;
    finalize(table);
    for (uint32_t i = 0; i < table->count; i++)
        mem_free(table->columns[i]);
    mem_free(table->columns);
    map_free(table->present);
    map_free(table->index);
    buf_fini(&table->space);
    buf_fini(&table->extra);
    buf_fini(&table->lower);
    mem_free(table);
}
