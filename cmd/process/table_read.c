/* Reading a file into a table's image: CSV, NDJSON and JSON by the decoders that all text goes through, SQLite by a query. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/csv.h"
#include "data/format.h"
#include "data/pack.h"
#include "group.h"
#include "table.h"

#define READ_BYTES (1u << 20)
#define ROWS 1000             /* that are decoded at a time */
#define BUSY_MS 2000
#define COLUMNS_SHOWN 12

static const char sqlite_prefix[] = "sqlite:";

static bool is_sqlite(const char *source) {
    return text_starts(source, sqlite_prefix);
}

/* sqlite:FILE?table=NAME, sqlite:FILE?query=SELECT ...; what is behind the = is taken as it stands. */
typedef struct database {
    char *path;
    char *query;
    text_t table;             /* size 0: a query */
} database_t;

static void database_fini(database_t *database) {
    mem_free(database->path);
    mem_free(database->query);
}

static int database_parse(const char *source, database_t *database, err_t *err) {
    const char *path = source + sizeof sqlite_prefix - 1, *mark = strrchr(path, '?');
    const char *table = strstr(path, "?table="), *query = strstr(path, "?query=");
    mark = query ? query : table ? table : mark;
    *database = (database_t){0};
    if (!mark || mark == path || (!table && !query))
        return err_set(err, "which rows? Write sqlite:FILE?table=NAME or sqlite:FILE?query=SELECT ...");
    database->path = mem_text_n(path, (size_t) (mark - path));
    const char *value = mark + 7;
    if (query) {
        database->query = mem_text(value);
    } else {
        char *quoted = sqlite3_mprintf("SELECT * FROM \"%w\"", value);
        database->query = mem_text(quoted);
        sqlite3_free(quoted);
        database->table = text_of(value);
    }
    return 0;
}

static const format_t *format_of(const char *path) {
    const format_t *format = format_packed(path) ? NULL : format_for_path(path);
    static const char *const known[] = {"csv", "tsv", "ndjson", "json"};
    for (size_t i = 0; format && i < sizeof known / sizeof *known; i++)
        if (strcmp(format->name, known[i]) == 0)
            return format;
    return NULL;
}

static const option_t file_options[] = {
    {"csv-separator", OPTION_TEXT, offsetof(format_settings_t, separator), NULL, "CHARACTER", "what separates fields: one character, or tab"},
    {0},
};

/* FILE, FILE.csv?csv-separator=;  */
typedef struct text_file {
    char *path;
    const format_t *format;
    format_settings_t settings;
} text_file_t;

static void file_fini(text_file_t *file) {
    option_fini(file_options, &file->settings);
    mem_free(file->path);
}

static int file_parse(const char *source, text_file_t *file, err_t *err) {
    const char *mark = strchr(source, '?');
    char separator;
    *file = (text_file_t){0};
    char *before = mark && strchr(mark, '=') ? mem_text_n(source, (size_t) (mark - source)) : NULL;
    bool query = before && format_of(before); /* else it is part of a name */
    mem_free(before);
    err_t why = {{0}};
    if (query && option_from_query(file_options, &file->settings, source, &file->path, NULL, &why)) {
        err_set(err, "%s; a table takes csv-separator alone", why.text);
        goto failed;
    }
    if (!query)
        file->path = mem_text(source);
    file->format = format_of(file->path);
    if (!file->format) {
        err_set(err, "what is in it? A table's name ends in .csv .tsv .ndjson .jsonl or .json, or begins with sqlite:");
        goto failed;
    }
    if (file->settings.separator && strcmp(file->format->name, "csv") != 0) {
        err_set(err, "csv-separator is for tables whose name ends in .csv");
        goto failed;
    }
    if (csv_separator(&file->settings, &separator, err) == 0)
        return 0;
failed:
    file_fini(file);
    return -1;
}

bool table_infers(const char *source) {
    text_file_t file;
    if (is_sqlite(source) || file_parse(source, &file, NULL))
        return false;
    bool infers = text_ends(file.format->name, "sv");
    file_fini(&file);
    return infers;
}

static bool is_word(text_t name) {
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        if (!((c | 32) >= 'a' && (c | 32) <= 'z') && c != '_' && !(i && c >= '0' && c <= '9'))
            return false;
    }
    return name.size > 0;
}

int table_check(const char *source, text_t *name, err_t *err) {
    *name = (text_t){0};
    if (is_sqlite(source)) {
        database_t database;
        int result = database_parse(source, &database, err);
        if (result == 0 && is_word(database.table))
            *name = database.table; /* its bytes are the source's */
        database_fini(&database);
        return result;
    }
    text_file_t file;
    if (file_parse(source, &file, err))
        return -1;
    const char *slash = strrchr(file.path, '/'), *base = source + (slash ? slash + 1 - file.path : 0);
    text_t stem = text_make(base, strcspn(base, "."));
    if (is_word(stem))
        *name = stem;
    file_fini(&file);
    return 0;
}

/* Versions. */

static int64_t ns_of(struct timespec time) {
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

int table_look(const char *source, table_version_t *version, err_t *err) {
    database_t database = {0};
    text_file_t file = {0};
    if (is_sqlite(source) ? database_parse(source, &database, err) : file_parse(source, &file, err))
        return -1;
    const char *path = database.path ? database.path : file.path;
    struct stat status;
    *version = (table_version_t){0};
    int result = stat(path, &status) ? err_errno(err, "%s", path) : 0;
    if (result == 0 && !S_ISREG(status.st_mode))
        result = err_set(err, "%s is no regular file", path);
    if (result == 0)
        *version = (table_version_t){.device = status.st_dev, .inode = status.st_ino, .size = (uint64_t) status.st_size,
                                     .modified = ns_of(status.st_mtim), .changed = ns_of(status.st_ctim)};
    if (result == 0 && database.path) {
        char *log = mem_format("%s-wal", path);
        if (stat(log, &status) == 0) {
            version->log_size = (uint64_t) status.st_size;
            version->log_modified = ns_of(status.st_mtim);
        }
        mem_free(log);
    }
    database_fini(&database);
    file_fini(&file);
    return result;
}

/* Rows. */

typedef struct reading {
    const table_shape_t *shape;
    buf_t *image;
    buf_t key, row;
    table_counts_t counts;
    buf_t columns;            /* the first row's, for people */
    char separator;           /* of CSV; else 0 */
    char other;               /* CSV of one column whose name has this in it: most likely the separator; else 0 */
    frame_builder_t builder;
    bool *found;              /* wanted columns that a row has */
    bool rigid;               /* all rows have the same columns */
    char bad[400];            /* the first record that could not be read */
} reading_t;

static bool is_key(const table_shape_t *shape, text_t name) {
    for (unsigned i = 0; i < shape->key_count; i++)
        if (text_equal(shape->keys[i], name))
            return true;
    return false;
}

static void put_everything(reading_t *reading, const uint8_t *record, size_t size) {
    pack_cursor_t cursor = pack_cursor(record, size), from;
    uint32_t entries, kept = 0;
    text_t name;
    bool map = pack_read_map(&cursor, &entries);
    from = cursor;
    for (uint32_t i = 0; map && i < entries; i++) {
        kept += pack_read_string(&cursor, &name) && !is_key(reading->shape, name);
        pack_skip(&cursor);
    }
    pack_map(&reading->row, kept);
    for (uint32_t i = 0; map && i < entries; i++) {
        const uint8_t *start = from.at;
        bool wanted = pack_read_string(&from, &name) && !is_key(reading->shape, name);
        if (!pack_skip(&from))
            return;
        if (wanted)
            buf_put(&reading->row, start, (size_t) (from.at - start));
    }
}

static void put_columns(reading_t *reading, const uint8_t *record, size_t size) {
    const table_shape_t *shape = reading->shape;
    if (shape->flat)
        pack_array(&reading->row, shape->column_count);
    else
        pack_map(&reading->row, shape->column_count);
    for (unsigned i = 0; i < shape->column_count; i++) {
        value_t value = value_null();
        reading->found[i] |= pack_map_get(record, size, shape->columns[i], &value);
        if (!shape->flat)
            pack_string(&reading->row, shape->names[i].data, shape->names[i].size);
        pack_value(&reading->row, value);
    }
}

static char other_separator(text_t name, char separator) {
    static const char usual[] = ";\t|,";
    for (const char *other = usual; *other; other++)
        if (*other != separator && memchr(name.data, *other, name.size))
            return *other;
    return 0;
}

static void note_columns(reading_t *reading, const uint8_t *record, size_t size) {
    pack_cursor_t cursor = pack_cursor(record, size);
    uint32_t entries;
    text_t name;
    if (!pack_read_map(&cursor, &entries))
        return;
    for (uint32_t i = 0; i < entries && i < COLUMNS_SHOWN; i++) {
        if (!pack_read_string(&cursor, &name) || !pack_skip(&cursor))
            return;
        if (entries == 1 && reading->separator)
            reading->other = other_separator(name, reading->separator);
        buf_put_text(&reading->columns, i ? ", " : "");
        text_put_visible(&reading->columns, name, 40);
    }
}

static void add_row(reading_t *reading, const uint8_t *record, size_t size) {
    const table_shape_t *shape = reading->shape;
    if (!reading->counts.rows++)
        note_columns(reading, record, size);
    buf_clear(&reading->key);
    for (unsigned i = 0; i < shape->key_count; i++) {
        value_t value = value_null();
        pack_map_get(record, size, shape->keys[i], &value);
        if (value.type == VALUE_NULL) {
            reading->counts.without_key++;
            return;
        }
        key_put(&reading->key, value);
    }
    buf_clear(&reading->row);
    if (shape->column_count)
        put_columns(reading, record, size);
    else
        put_everything(reading, record, size);
    pack_binary(reading->image, reading->key.data, reading->key.size);
    buf_put(reading->image, reading->row.data, reading->row.size);
}

/* Text. */

static bool committed(void *argument) {
    return ((reading_t *) argument)->builder.events >= ROWS;
}

static void bad(void *argument, text_t record, uint64_t number, const char *reason) {
    reading_t *reading = argument;
    if (reading->bad[0])
        return;
    buf_t shown = {0};
    text_put_quoted(&shown, record, 60);
    snprintf(reading->bad, sizeof reading->bad, "record %" PRIu64 ": %s: %s", number, reason, buf_text(&shown));
    buf_fini(&shown);
}

static void take_rows(reading_t *reading) {
    if (!reading->builder.events)
        return;
    frame_t *frame = builder_take(&reading->builder, "table");
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1)
        add_row(reading, event.record, event.record_size);
    frame_unref(frame);
}

static int feed(reading_t *reading, decoder_t *decoder, int fd, const char *path, err_t *err) {
    decode_target_t target = {.builder = &reading->builder, .committed = committed, .bad = bad, .argument = reading};
    buf_t text = {0};
    bool at_end = false;
    int result = 0;
    while (!at_end && result == 0) {
        ssize_t got = read(fd, buf_reserve(&text, READ_BYTES), READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            result = err_errno(err, "%s", path);
            break;
        }
        text.size += (size_t) got;
        at_end = got == 0;
        size_t used = 0, more;
        do {
            more = decoder_feed(decoder, (const char *) text.data + used, text.size - used, at_end, &target);
            used += more;
            take_rows(reading);
        } while (more && !reading->bad[0]);
        buf_consume(&text, used);
        if (reading->bad[0])
            result = err_set(err, "%s: %s", path, reading->bad);
    }
    buf_fini(&text);
    return result;
}

static int read_text(reading_t *reading, const char *source, err_t *err) {
    text_file_t file;
    decoder_t *decoder = NULL;
    if (file_parse(source, &file, err))
        return -1;
    if (strcmp(file.format->name, "csv") == 0)
        csv_separator(&file.settings, &reading->separator, err);
    int result = file.format->decoder_open(&decoder, &file.settings, err), fd = -1;
    if (result == 0) {
        fd = open(file.path, O_RDONLY | O_CLOEXEC);
        result = fd < 0 ? err_errno(err, "%s", file.path) : feed(reading, decoder, fd, file.path, err);
        decoder_free(decoder);
    }
    if (fd >= 0)
        close(fd);
    file_fini(&file);
    return result;
}

/* SQLite. */

static void put_text(buf_t *out, const char *text, size_t size) {
    if (text_utf8_valid(text, size) == size)
        pack_string(out, text, size);
    else
        pack_binary(out, text, size);
}

static void put_column(buf_t *out, sqlite3_stmt *statement, int column) {
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: pack_int(out, sqlite3_column_int64(statement, column)); break;
    case SQLITE_FLOAT: pack_double(out, sqlite3_column_double(statement, column)); break;
    case SQLITE_TEXT: put_text(out, (const char *) sqlite3_column_text(statement, column), (size_t) sqlite3_column_bytes(statement, column)); break;
    case SQLITE_BLOB: pack_binary(out, sqlite3_column_blob(statement, column), (size_t) sqlite3_column_bytes(statement, column)); break;
    default: pack_nil(out);
    }
}

static int read_query(reading_t *reading, sqlite3 *handle, const database_t *database, err_t *err) {
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(handle, database->query, -1, &statement, NULL))
        return err_set(err, "%s: %s", database->path, sqlite3_errmsg(handle));
    buf_t record = {0};
    int step = SQLITE_MISUSE;
    if (statement && sqlite3_stmt_readonly(statement)) {
        int columns = sqlite3_column_count(statement);
        while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
            buf_clear(&record);
            pack_map(&record, (uint32_t) columns);
            for (int i = 0; i < columns; i++) {
                pack_text(&record, sqlite3_column_name(statement, i));
                put_column(&record, statement, i);
            }
            add_row(reading, record.data, record.size);
        }
    }
    int result = step == SQLITE_DONE     ? 0
                 : step == SQLITE_MISUSE ? err_set(err, "%s: the query must be one that reads", database->path)
                                         : err_set(err, "%s: %s", database->path, sqlite3_errmsg(handle));
    sqlite3_finalize(statement);
    buf_fini(&record);
    return result;
}

static int read_sqlite(reading_t *reading, const char *source, err_t *err) {
    database_t database;
    sqlite3 *handle = NULL;
    int result = database_parse(source, &database, err);
    if (result == 0 && sqlite3_open_v2(database.path, &handle, SQLITE_OPEN_READONLY, NULL))
        result = err_set(err, "%s: %s", database.path, handle ? sqlite3_errmsg(handle) : "out of memory");
    if (result == 0) {
        sqlite3_busy_timeout(handle, BUSY_MS);
        result = read_query(reading, handle, &database, err);
    }
    sqlite3_close(handle);
    database_fini(&database);
    return result;
}

static int check_columns(reading_t *reading, const char *source, err_t *err) {
    const table_shape_t *shape = reading->shape;
    if (!reading->counts.rows)
        return 0;
    if (reading->counts.without_key == reading->counts.rows && reading->other)
        return err_set(err, reading->other == '\t' ? "%s: its rows are one column, %s; where tabs separate columns, write ?csv-separator=tab behind the file's name"
                                                   : "%s: its rows are one column, %s; where \"%c\" separates columns, write ?csv-separator=%c behind the file's name",
                       source, buf_text(&reading->columns), reading->other, reading->other);
    if (reading->counts.without_key == reading->counts.rows)
        return err_set(err, "%s: no row has a key in the column %.*s; its columns are %s", source, (int) shape->keys[0].size, shape->keys[0].data,
                       buf_text(&reading->columns));
    for (unsigned i = 0; i < shape->column_count && reading->rigid; i++)
        if (!reading->found[i])
            return err_set(err, "%s has no column %.*s; its columns are %s", source, (int) shape->columns[i].size, shape->columns[i].data,
                           buf_text(&reading->columns));
    return 0;
}

int table_read(const char *source, const table_shape_t *shape, buf_t *image, table_counts_t *counts, err_t *err) {
    buf_t rows = {0};
    reading_t reading = {.shape = shape, .image = &rows, .rigid = is_sqlite(source) || table_infers(source)};
    reading.found = mem_zero(shape->column_count + 1);
    int result = is_sqlite(source) ? read_sqlite(&reading, source, err) : read_text(&reading, source, err);
    if (result == 0)
        result = check_columns(&reading, source, err);
    if (result == 0) {
        pack_uint(image, reading.counts.rows - reading.counts.without_key);
        buf_put(image, rows.data, rows.size);
        *counts = reading.counts;
    }
    builder_fini(&reading.builder);
    mem_free(reading.found);
    buf_fini(&rows);
    buf_fini(&reading.key);
    buf_fini(&reading.row);
    buf_fini(&reading.columns);
    return result;
}
