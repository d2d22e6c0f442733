/* Source "sqlite:": a SQLite database, by a query with a cursor or by triggers (sqlite_trigger.c). Writers of SQLite take turns, so rows are
 * committed in the order of their numbers, and what is behind the last one is all that is new. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"
#include "poll_query.h"
#include "sqlite.h"

#define AT(field) offsetof(sqlite_settings_t, field)
static const option_t options[] = {
    {"mode", OPTION_CHOICE, AT(mode), "poll", "poll|trigger", "rows of --query, or changes that triggers note"},
    POLL_QUERY_OPTIONS(sqlite_settings_t),
    {"table", OPTION_LIST, AT(tables), NULL, "TABLE", "trigger: a table whose changes are wanted; default: all", .needs = "mode=trigger"},
    {"keep", OPTION_BOOL, AT(keep), "no", NULL, "trigger: leave changes in the table ingest_changes when they are safe", .needs = "mode=trigger"},
    {"drop", OPTION_BOOL, AT(drop), "no", NULL, "trigger: remove the triggers and the table ingest_changes from the database, and end", .needs = "mode=trigger"},
    {"interval", OPTION_DURATION, AT(interval), "5s", "DURATION", "time from one look to the next; a change of the file is seen at once", NS_PER_MS, 86400 * NS_PER_S,
     .needs = "!once"},
    {"once", OPTION_BOOL, AT(once), "no", NULL, "end after one answer"},
    {"busy-timeout", OPTION_DURATION, AT(busy_timeout), "1s", "DURATION", "how long a lock of another program is waited for, before a new attempt", 0, 60 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts", NS_PER_MS, 86400 * NS_PER_S},
    {0},
};

int sqlite_fail(const sqlite_reader_t *self, const char *what, err_t *err) {
    return err_set(err, "%s: %s", what, self->database ? sqlite3_errmsg(self->database) : "out of memory");
}

int sqlite_open(sqlite_reader_t *self, int flags, err_t *err) {
    sqlite3 *database;
    int code = sqlite3_open_v2(self->path, &database, flags, NULL);
    pthread_mutex_lock(&self->lock);
    self->database = database;
    pthread_mutex_unlock(&self->lock);
    if (code != SQLITE_OK)
        return sqlite_fail(self, "open it", err);
    sqlite3_extended_result_codes(self->database, 1);
    sqlite3_busy_timeout(self->database, (int) (self->settings->busy_timeout / NS_PER_MS));
    return 0;
}

void sqlite_close(void *argument) {
    sqlite_reader_t *self = argument;
    pthread_mutex_lock(&self->lock);
    sqlite3 *database = self->database;
    self->database = NULL;
    pthread_mutex_unlock(&self->lock);
    sqlite3_close_v2(database);
}

void sqlite_interrupt(void *argument) {
    sqlite_reader_t *self = argument;
    pthread_mutex_lock(&self->lock);
    if (self->database)
        sqlite3_interrupt(self->database);
    pthread_mutex_unlock(&self->lock);
}

void sqlite_reader_free(void *argument) {
    sqlite_reader_t *self = argument;
    mem_free(self->path);
    mem_free(self->sql);
    pthread_mutex_destroy(&self->lock);
    mem_free(self);
}

void sqlite_put_identifier(buf_t *out, text_t name) {
    buf_put_byte(out, '"');
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '"')
            buf_put_byte(out, '"');
        buf_put_byte(out, (uint8_t) name.data[i]);
    }
    buf_put_byte(out, '"');
}

static int poll_open(void *argument, err_t *err) {
    sqlite_reader_t *self = argument;
    if (sqlite_open(self, SQLITE_OPEN_READWRITE, err))
        return -1;
    return sqlite3_exec(self->database, "PRAGMA query_only = 1", NULL, NULL, NULL) == SQLITE_OK ? 0 : sqlite_fail(self, "open it", err);
}

static void bind(sqlite3_stmt *statement, value_t value) {
    int index = sqlite3_bind_parameter_index(statement, "$1");
    if (value.type == VALUE_INT)
        sqlite3_bind_int64(statement, index, value.integer);
    else if (value.type == VALUE_DOUBLE)
        sqlite3_bind_double(statement, index, value.number);
    else if (value.type == VALUE_STRING)
        sqlite3_bind_text(statement, index, value.text, (int) value.size, SQLITE_TRANSIENT);
    else if (value.type == VALUE_BINARY)
        sqlite3_bind_blob(statement, index, value.packed, (int) value.size, SQLITE_TRANSIENT);
}

/* Texts that are no UTF-8 are binary. */
static value_t value_at(sqlite3_stmt *statement, int column) {
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: return value_int(sqlite3_column_int64(statement, column));
    case SQLITE_FLOAT: return value_double(sqlite3_column_double(statement, column));
    case SQLITE_NULL: return value_null();
    case SQLITE_TEXT: break;
    default: {
        const void *bytes = sqlite3_column_blob(statement, column);
        return (value_t){.type = VALUE_BINARY, .size = (uint32_t) sqlite3_column_bytes(statement, column), .packed = bytes ? bytes : (const uint8_t *) ""};
    }
    }
    const char *text = (const char *) sqlite3_column_text(statement, column);
    size_t size = (size_t) sqlite3_column_bytes(statement, column);
    value_t value = value_text(text ? text : "", text ? size : 0);
    if (text_utf8_valid(value.text, value.size) != value.size)
        value.type = VALUE_BINARY;
    return value;
}

/* The cursor's column, or -1 for none; -2: the answer cannot be used. */
static int learn_columns(const sqlite_reader_t *self, sqlite3_stmt *statement, int columns, err_t *err) {
    int cursor = -1;
    for (int i = 0; i < columns; i++) {
        const char *name = sqlite3_column_name(statement, i);
        for (int j = 0; j < i; j++) {
            if (strcmp(name, sqlite3_column_name(statement, j)) == 0) {
                err_set(err, "--query: two columns are named %s: give one of them another name with AS", name);
                return -2;
            }
        }
        if (self->settings->cursor && strcasecmp(name, self->settings->cursor) == 0)
            cursor = i;
    }
    if (columns == 0) {
        err_set(err, "--query: it gives no rows, as a SELECT does");
        return -2;
    }
    return cursor;
}

static int step_rows(sqlite_reader_t *self, sqlite3_stmt *statement, int cursor, rows_out_t *out, err_t *err) {
    int columns = sqlite3_column_count(statement), result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        buf_t *record = rows_begin(out);
        pack_map(record, (uint32_t) columns);
        for (int i = 0; i < columns; i++) {
            pack_text(record, sqlite3_column_name(statement, i));
            pack_value(record, value_at(statement, i));
        }
        if (!rows_end(out, cursor < 0 ? value_null() : value_at(statement, cursor), ROWS_NO_TIME))
            return 0;
    }
    self->worked |= result == SQLITE_DONE;
    return result == SQLITE_DONE ? 0 : sqlite_fail(self, "--query", err);
}

/* Nothing stands behind a statement but blanks and comments. */
static bool is_end(sqlite_reader_t *self, const char *rest) {
    sqlite3_stmt *more = NULL;
    bool end = sqlite3_prepare_v2(self->database, rest, -1, &more, NULL) == SQLITE_OK && !more;
    sqlite3_finalize(more);
    return end;
}

static int poll_read(void *argument, value_t after, rows_out_t *out, err_t *err) {
    sqlite_reader_t *self = argument;
    sqlite3_stmt *statement;
    const char *rest;
    int code = sqlite3_prepare_v2(self->database, self->sql, -1, &statement, &rest);
    if (code != SQLITE_OK) {
        if (code == SQLITE_ERROR && !self->worked && strncmp(sqlite3_errmsg(self->database), "no such table", 13) != 0)
            rows_hopeless(out);
        return sqlite_fail(self, "--query", err);
    }
    if (!is_end(self, rest)) {
        sqlite3_finalize(statement);
        rows_hopeless(out);
        return err_set(err, "--query: it is more than one statement");
    }
    int cursor = learn_columns(self, statement, sqlite3_column_count(statement), err), result = -1;
    if (cursor == -2) {
        rows_hopeless(out);
    } else {
        bind(statement, after);
        result = step_rows(self, statement, cursor, out, err);
    }
    sqlite3_finalize(statement);
    return result;
}

static const rows_driver_t poll_driver = {
    .open = poll_open,
    .close = sqlite_close,
    .read = poll_read,
    .interrupt = sqlite_interrupt,
    .free = sqlite_reader_free,
};

static char *make_statement(const sqlite_settings_t *settings) {
    buf_t column = {0};
    if (settings->cursor)
        sqlite_put_identifier(&column, text_of(settings->cursor));
    char *sql = poll_query_statement(settings->query, settings->cursor ? buf_text(&column) : NULL);
    buf_fini(&column);
    return sql;
}

/* "sqlite:///a/b" and "sqlite:a/b"; what follows the two slashes of a URL is its path. */
static const char *path_of(const source_setup_t *setup) {
    return strncmp(setup->rest, "//", 2) == 0 ? setup->rest + 2 : setup->rest;
}

static int sqlite_check(const source_setup_t *setup, err_t *err) {
    const sqlite_settings_t *settings = setup->settings;
    if (!*path_of(setup))
        return err_set(err, "sqlite: takes the database's file: sqlite:PATH");
    if (settings->retry_max < settings->retry_min)
        return err_set(err, "--retry-max is below --retry-min");
    if (setup->format)
        return err_set(err, "--format is not for databases: rows come as they are");
    if (settings->mode == 1)
        return 0;
    if (!settings->query)
        return err_set(err, "--query is missing, such as 'SELECT * FROM orders WHERE id > $1' with --cursor id --initial 0; or take --mode trigger");
    return poll_query_check(settings->query, settings->cursor, settings->initial, err);
}

static int sqlite_open_source(source_t **source, const source_setup_t *setup, err_t *err) {
    const sqlite_settings_t *settings = setup->settings;
    bool trigger = settings->mode == 1;
    if (trigger && source_trial(setup->host))
        return err_set(err, "--sample: --mode trigger would leave triggers in the database; --mode poll leaves nothing");
    sqlite_reader_t *self = mem_zero(sizeof *self);
    pthread_mutex_init(&self->lock, NULL);
    self->settings = settings;
    self->path = mem_text(path_of(setup));
    self->sql = trigger ? NULL : make_statement(settings);
    rows_setup_t rows = {
        .driver = trigger ? &sqlite_trigger_driver : &poll_driver,
        .self = self,
        .place = mem_text(self->path),
        .identity = mem_format("%s %s", trigger ? "trigger" : "poll", self->path),
        .column = trigger ? "id" : settings->cursor ? settings->cursor : "",
        .interval = settings->interval,
        .retry_min = settings->retry_min,
        .retry_max = settings->retry_max,
        .once = settings->once,
        .ends = settings->drop,
        .watch = self->path,
    };
    if (trigger)
        pack_int(&rows.initial, 0);
    else if (settings->initial)
        rows_put_initial(&rows.initial, settings->initial);
    *source = rows_source_new(setup, &rows);
    return 0;
}

/* The file's name without its ending. */
static const char *sqlite_stream(const source_setup_t *setup, buf_t *space) {
    const char *path = path_of(setup), *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strchr(base, '.');
    buf_put(space, base, dot && dot != base ? (size_t) (dot - base) : strlen(base));
    return buf_text(space);
}

static int sqlite_holds(const source_setup_t *setup, text_t name, text_t value) {
    const sqlite_settings_t *settings = setup->settings;
    return text_is(name, "time") ? settings->mode == 0 : -1;
}

const source_driver_t source_sqlite = {
    .name = "sqlite",
    .schemes = {"sqlite"},
    .types = {{"sqlite"}},
    .usage = "sqlite:PATH",
    .help = "a SQLite database: the rows of a query, or changes of tables by triggers",
    .options = options,
    .settings_size = sizeof(sqlite_settings_t),
    .query = true,
    .formats = "",
    .holds = sqlite_holds,
    .stream = sqlite_stream,
    .check = sqlite_check,
    .open = sqlite_open_source,
};
