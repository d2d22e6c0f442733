/* SQLite by triggers: each wanted table gets three, which note changes in a table of ours, in the transaction that makes them. Rows are noted as
 * JSON; what JSON cannot hold exactly (blobs, doubles) is a pair of a text and a letter there, which no column's value can be mistaken for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"
#include "sqlite.h"

#define COLUMNS_MAX 400                /* SQLite's limit of an expression's depth allows no more */
#define ROWS_AT_ONCE "10000"           /* so that no transaction of ours stays open for long */

static const char make_table[] =
    "CREATE TABLE IF NOT EXISTS ingest_changes (id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, name TEXT NOT NULL, op TEXT NOT NULL, "
    "new TEXT, old TEXT)";

static int run(sqlite_reader_t *self, const char *sql, err_t *err) {
    return sqlite3_exec(self->database, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sqlite_fail(self, "set up or remove triggers", err);
}

static void put_literal(buf_t *out, text_t text) {
    buf_put_byte(out, '\'');
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '\'')
            buf_put_byte(out, '\'');
        buf_put_byte(out, (uint8_t) text.data[i]);
    }
    buf_put_byte(out, '\'');
}

/* '{"a":' || ... || ',"b":' || ... || '}' */
static int put_row(sqlite_reader_t *self, buf_t *out, const char *table, const char *which, err_t *err) {
    sqlite3_stmt *columns;
    if (sqlite3_prepare_v2(self->database, "SELECT name FROM pragma_table_info(?1)", -1, &columns, NULL) != SQLITE_OK)
        return sqlite_fail(self, table, err);
    sqlite3_bind_text(columns, 1, table, -1, SQLITE_STATIC);
    int count = 0;
    while (sqlite3_step(columns) == SQLITE_ROW) {
        text_t name = text_of((const char *) sqlite3_column_text(columns, 0));
        buf_t key = {0}, value = {0};
        buf_put_text(&key, count++ ? "," : "{");
        text_put_json(&key, name);
        buf_put_byte(&key, ':');
        put_literal(out, text_make((const char *) key.data, key.size));
        buf_format(&value, "%s.", which);
        sqlite_put_identifier(&value, name);
        const char *v = buf_text(&value);
        buf_format(out, " || CASE typeof(%s) WHEN 'blob' THEN '[\"' || hex(%s) || '\",\"x\"]' WHEN 'real' THEN '[\"' || printf('%%!.17g', %s) || '\",\"r\"]' "
                        "ELSE json_quote(%s) END || ", v, v, v, v);
        buf_fini(&key);
        buf_fini(&value);
    }
    sqlite3_finalize(columns);
    buf_put_text(out, "'}'");
    if (!count)
        return err_set(err, "there is no table %s (--table)", table);
    return count <= COLUMNS_MAX ? 0 : err_set(err, "the table %s has %d columns: triggers can note %d at most", table, count, COLUMNS_MAX);
}

static int put_trigger(sqlite_reader_t *self, buf_t *out, const char *table, const char *op, err_t *err) {
    char *name = mem_format("ingest_%s_%s", op, table);
    bool new = strcmp(op, "delete") != 0, old = strcmp(op, "insert") != 0;
    int result = 0;
    buf_put_text(out, "CREATE TRIGGER ");
    sqlite_put_identifier(out, text_of(name));
    buf_format(out, " AFTER %s ON ", op);
    sqlite_put_identifier(out, text_of(table));
    buf_put_text(out, " BEGIN INSERT INTO ingest_changes (time, name, op, new, old) VALUES (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), ");
    put_literal(out, text_of(table));
    buf_format(out, ", '%s', ", op);
    if (new)
        result = put_row(self, out, table, "NEW", err);
    buf_put_text(out, new ? ", " : "NULL, ");
    if (old && !result)
        result = put_row(self, out, table, "OLD", err);
    buf_put_text(out, old ? "); END" : "NULL); END");
    mem_free(name);
    return result;
}

/* Makes one anew when it is not there as it must be: a table may have other columns now. */
static int install_trigger(sqlite_reader_t *self, const char *table, const char *op, err_t *err) {
    buf_t sql = {0}, drop = {0};
    sqlite3_stmt *find = NULL;
    char *name = mem_format("ingest_%s_%s", op, table);
    int result = put_trigger(self, &sql, table, op, err);
    bool same = false;
    if (!result && sqlite3_prepare_v2(self->database, "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?1", -1, &find, NULL) != SQLITE_OK)
        result = sqlite_fail(self, table, err);
    if (!result) {
        sqlite3_bind_text(find, 1, name, -1, SQLITE_STATIC);
        same = sqlite3_step(find) == SQLITE_ROW && strcmp((const char *) sqlite3_column_text(find, 0), buf_text(&sql)) == 0;
    }
    sqlite3_finalize(find);
    if (!result && !same) {
        buf_put_text(&drop, "DROP TRIGGER IF EXISTS ");
        sqlite_put_identifier(&drop, text_of(name));
        result = run(self, buf_text(&drop), err) || run(self, buf_text(&sql), err) ? -1 : 0;
    }
    buf_fini(&sql);
    buf_fini(&drop);
    mem_free(name);
    return result;
}

static int install_table(sqlite_reader_t *self, const char *table, err_t *err) {
    return install_trigger(self, table, "insert", err) || install_trigger(self, table, "update", err) || install_trigger(self, table, "delete", err) ? -1 : 0;
}

/* Calls `each` with the names that a statement gives. They are gathered first: what is done changes what the statement reads. */
static int each_name(sqlite_reader_t *self, const char *sql, int (*each)(sqlite_reader_t *self, const char *name, err_t *err), err_t *err) {
    sqlite3_stmt *statement;
    buf_t names = {0};
    int result = 0;
    if (sqlite3_prepare_v2(self->database, sql, -1, &statement, NULL) != SQLITE_OK)
        return sqlite_fail(self, "read its tables", err);
    while (sqlite3_step(statement) == SQLITE_ROW)
        buf_put(&names, sqlite3_column_text(statement, 0), (size_t) sqlite3_column_bytes(statement, 0) + 1);
    sqlite3_finalize(statement);
    for (size_t at = 0; at < names.size && !result; at += strlen((const char *) names.data + at) + 1)
        result = each(self, (const char *) names.data + at, err);
    buf_fini(&names);
    return result;
}

static int install(sqlite_reader_t *self, err_t *err) {
    const option_list_t *tables = &self->settings->tables;
    if (run(self, make_table, err))
        return -1;
    for (size_t i = 0; i < tables->count; i++) {
        if (install_table(self, tables->items[i], err))
            return -1;
    }
    return tables->count ? 0 : each_name(self, "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' "
                                               "ESCAPE '\\' AND name <> 'ingest_changes'", install_table, err);
}

static int drop_trigger(sqlite_reader_t *self, const char *name, err_t *err) {
    buf_t sql = {0};
    buf_put_text(&sql, "DROP TRIGGER ");
    sqlite_put_identifier(&sql, text_of(name));
    int result = run(self, buf_text(&sql), err);
    buf_fini(&sql);
    return result;
}

static int drop(sqlite_reader_t *self, err_t *err) {
    if (each_name(self, "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'ingest\\_%' ESCAPE '\\' AND sql LIKE '%INTO ingest_changes%'",
                  drop_trigger, err))
        return -1;
    return run(self, "DROP TABLE IF EXISTS ingest_changes", err);
}

static int trigger_open(void *argument, err_t *err) {
    sqlite_reader_t *self = argument;
    if (sqlite_open(self, SQLITE_OPEN_READWRITE, err) || run(self, "BEGIN IMMEDIATE", err))
        return -1;
    if ((self->settings->drop ? drop(self, err) : install(self, err)) == 0 && run(self, "COMMIT", err) == 0)
        return 0;
    sqlite3_exec(self->database, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

static unsigned nibble(char c) {
    return c >= 'A' ? (unsigned) (c - 'A' + 10) & 15 : (unsigned) (c - '0') & 15;
}

static void put_blob(buf_t *out, text_t hex) {
    buf_t bytes = {0};
    for (size_t i = 0; i + 1 < hex.size; i += 2)
        buf_put_byte(&bytes, (uint8_t) (nibble(hex.data[i]) << 4 | nibble(hex.data[i + 1])));
    pack_binary(out, bytes.data ? bytes.data : (const uint8_t *) "", bytes.size);
    buf_fini(&bytes);
}

static void put_double(buf_t *out, text_t text) {
    double number = text_is(text, "-Inf") ? -INFINITY : INFINITY;
    json_parse_double(text.data, text.size, &number);
    pack_double(out, number);
}

/* A pair: see above. */
static bool put_pair(buf_t *out, value_t pair) {
    pack_cursor_t cursor = pack_cursor(pair.packed, pair.size);
    uint32_t count;
    text_t text, letter;
    if (!pack_read_array(&cursor, &count) || count != 2 || !pack_read_string(&cursor, &text) || !pack_read_string(&cursor, &letter))
        return false;
    if (text_is(letter, "x"))
        put_blob(out, text);
    else
        put_double(out, text);
    return true;
}

static bool put_noted(buf_t *out, const char *json, size_t size) {
    buf_t packed = {0};
    uint32_t count = 0;
    bool good = json_read_value(text_make(json, size), &packed, NULL) == (ssize_t) size;
    pack_cursor_t cursor = pack_cursor(packed.data, packed.size);
    good = good && pack_read_map(&cursor, &count);
    if (good)
        pack_map(out, count);
    for (uint32_t i = 0; i < count && good; i++) {
        text_t name;
        value_t value;
        good = pack_read_string(&cursor, &name) && pack_read_value(&cursor, &value);
        if (good)
            pack_string(out, name.data, name.size);
        if (good && value.type == VALUE_ARRAY)
            good = put_pair(out, value);
        else if (good)
            pack_value(out, value);
    }
    buf_fini(&packed);
    return good;
}

/* id, time, name, op, new, old */
static bool put_change(buf_t *out, sqlite3_stmt *row) {
    static const char *const maps[] = {"new", "old"};
    bool there[2] = {sqlite3_column_type(row, 4) == SQLITE_TEXT, sqlite3_column_type(row, 5) == SQLITE_TEXT};
    pack_map(out, 3u + there[0] + there[1]);
    pack_text(out, "op");
    pack_text(out, (const char *) sqlite3_column_text(row, 3));
    pack_text(out, "table");
    pack_text(out, (const char *) sqlite3_column_text(row, 2));
    pack_text(out, "change");
    pack_int(out, sqlite3_column_int64(row, 0));
    for (int i = 0; i < 2; i++) {
        if (!there[i])
            continue;
        pack_text(out, maps[i]);
        const char *text = (const char *) sqlite3_column_text(row, 4 + i);
        if (!put_noted(out, text, (size_t) sqlite3_column_bytes(row, 4 + i)))
            return false;
    }
    return true;
}

static int read_some(sqlite_reader_t *self, int64_t *after, bool *more, rows_out_t *out, err_t *err) {
    sqlite3_stmt *statement;
    int result;
    *more = false;
    if (sqlite3_prepare_v2(self->database, "SELECT id, time, name, op, new, old FROM ingest_changes WHERE id > ?1 ORDER BY id LIMIT " ROWS_AT_ONCE, -1,
                           &statement, NULL) != SQLITE_OK)
        return sqlite_fail(self, "read ingest_changes", err);
    sqlite3_bind_int64(statement, 1, *after);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        value_t id = value_int(sqlite3_column_int64(statement, 0));
        buf_t *record = rows_begin(out);
        bool going = put_change(record, statement) ? rows_end(out, id, sqlite3_column_int64(statement, 1) * NS_PER_MS)
                                                   : rows_bad(out, id, "a row that the triggers noted is no JSON");
        *after = id.integer;
        *more = true;
        if (!going) {
            *more = false;
            result = SQLITE_DONE;
            break;
        }
    }
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? 0 : sqlite_fail(self, "read ingest_changes", err);
}

/* The number of the last change that was ever noted; -1 on failure. */
static int64_t last_change(sqlite_reader_t *self, err_t *err) {
    sqlite3_stmt *statement;
    int64_t last = 0;
    if (sqlite3_prepare_v2(self->database, "SELECT seq FROM sqlite_sequence WHERE name = 'ingest_changes'", -1, &statement, NULL) != SQLITE_OK)
        return sqlite_fail(self, "read ingest_changes", err);
    if (sqlite3_step(statement) == SQLITE_ROW)
        last = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return last;
}

static int trigger_read(void *argument, value_t after, rows_out_t *out, err_t *err) {
    int64_t id = after.type == VALUE_INT ? after.integer : 0, last = last_change(argument, err);
    bool more = true;
    if (last < 0)
        return -1;
    if (last < id) {
        rows_hopeless(out);
        return err_set(err, "its changes are counted anew (--drop, or another file under this name): the position of --state is none of it; --reset begins anew");
    }
    while (more) {
        if (read_some(argument, &id, &more, out, err))
            return -1;
    }
    return 0;
}

/* A writer that holds the database is not waited for longer than it takes to read: what stays goes the next time. */
static int trigger_forget(void *argument, value_t upto, err_t *err) {
    sqlite_reader_t *self = argument;
    char *sql = mem_format("DELETE FROM ingest_changes WHERE id <= %lld", (long long) (upto.type == VALUE_INT ? upto.integer : 0));
    int code = self->settings->keep ? SQLITE_OK : sqlite3_exec(self->database, sql, NULL, NULL, NULL);
    mem_free(sql);
    return code == SQLITE_OK || (code & 0xFF) == SQLITE_BUSY ? 0 : sqlite_fail(self, "delete what is taken from ingest_changes", err);
}

const rows_driver_t sqlite_trigger_driver = {
    .open = trigger_open,
    .close = sqlite_close,
    .read = trigger_read,
    .forget = trigger_forget,
    .interrupt = sqlite_interrupt,
    .free = sqlite_reader_free,
};
