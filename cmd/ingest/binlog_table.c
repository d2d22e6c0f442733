/* Tables, as the binary log describes them before their rows: types, and with binlog_row_metadata=FULL names, signs, character sets and words. */
#include <mysql.h>

#include "base/memory.h"
#include "binlog_event.h"

enum { SIGNS = 1, DEFAULT_CHARSET, CHARSETS, NAMES, SET_WORDS, ENUM_WORDS, WORDS_DEFAULT_CHARSET = 10, WORDS_CHARSETS };

static void free_words(binlog_column_t *column) {
    for (unsigned i = 0; i < column->word_count; i++)
        mem_free((char *) column->words[i].data);
    mem_free(column->words);
    column->words = NULL;
    column->word_count = 0;
}

void binlog_table_free(binlog_table_t *table) {
    if (!table)
        return;
    for (unsigned i = 0; i < table->count; i++) {
        free_words(&table->columns[i]);
        mem_free(table->columns[i].name);
    }
    mem_free(table->columns);
    mem_free(table->schema);
    mem_free(table->name);
    buf_fini(&table->raw);
    mem_free(table);
}

/* What a column's type has behind it in the description. */
static unsigned meta_size(uint8_t type) {
    switch (type) {
    case MYSQL_TYPE_FLOAT:
    case MYSQL_TYPE_DOUBLE:
    case MYSQL_TYPE_BLOB:
    case MYSQL_TYPE_GEOMETRY:
    case MYSQL_TYPE_JSON:
    case BINLOG_BLOB_COMPRESSED:
    case MYSQL_TYPE_TIMESTAMP2:
    case MYSQL_TYPE_DATETIME2:
    case MYSQL_TYPE_TIME2: return 1;
    case MYSQL_TYPE_VARCHAR:
    case BINLOG_VARCHAR_COMPRESSED:
    case MYSQL_TYPE_VAR_STRING:
    case MYSQL_TYPE_STRING:
    case MYSQL_TYPE_ENUM:
    case MYSQL_TYPE_SET:
    case MYSQL_TYPE_BIT:
    case MYSQL_TYPE_NEWDECIMAL: return 2;
    default: return 0;
    }
}

static bool is_number(const binlog_column_t *column) {
    switch (column->type) {
    case MYSQL_TYPE_TINY:
    case MYSQL_TYPE_SHORT:
    case MYSQL_TYPE_INT24:
    case MYSQL_TYPE_LONG:
    case MYSQL_TYPE_LONGLONG:
    case MYSQL_TYPE_FLOAT:
    case MYSQL_TYPE_DOUBLE:
    case MYSQL_TYPE_YEAR:
    case MYSQL_TYPE_NEWDECIMAL: return true;
    default: return false;
    }
}

static bool is_words(const binlog_column_t *column, uint8_t which) {
    unsigned length;
    uint8_t type = binlog_real_type(column, &length);
    return which ? type == which : type == MYSQL_TYPE_ENUM || type == MYSQL_TYPE_SET;
}

static bool is_text(const binlog_column_t *column) {
    switch (column->type) {
    case MYSQL_TYPE_STRING: return !is_words(column, 0);
    case MYSQL_TYPE_VARCHAR:
    case MYSQL_TYPE_VAR_STRING:
    case MYSQL_TYPE_BLOB:
    case MYSQL_TYPE_GEOMETRY:
    case BINLOG_BLOB_COMPRESSED:
    case BINLOG_VARCHAR_COMPRESSED: return true;
    default: return false;
    }
}

static void read_signs(binlog_table_t *table, bytes_t *reader) {
    unsigned n = 0;
    const uint8_t *bits = reader->at;
    for (unsigned i = 0; i < table->count; i++) {
        if (!is_number(&table->columns[i]))
            continue;
        if (n / 8 >= bytes_left(reader))
            return;
        table->columns[i].is_unsigned = bits[n / 8] >> (7 - n % 8) & 1;
        n++;
    }
}

/* Of all texts (or of all ENUM and SET): one number for each; or one that most have, then the others with their places among them. */
static void read_charsets(binlog_table_t *table, bytes_t *reader, bool words, bool common) {
    unsigned usual = common ? (unsigned) binlog_packed(reader) : 0, n = 0;
    uint64_t next = common && bytes_left(reader) ? binlog_packed(reader) : UINT64_MAX;
    for (unsigned i = 0; i < table->count && !reader->bad; i++) {
        binlog_column_t *column = &table->columns[i];
        if (words ? !is_words(column, 0) : !is_text(column))
            continue;
        column->collation = usual;
        if (!common) {
            column->collation = (unsigned) binlog_packed(reader);
        } else if (n == next) {
            column->collation = (unsigned) binlog_packed(reader);
            next = bytes_left(reader) ? binlog_packed(reader) : UINT64_MAX;
        }
        n++;
    }
}

static void read_names(binlog_table_t *table, bytes_t *reader) {
    for (unsigned i = 0; i < table->count && !reader->bad; i++) {
        size_t size = binlog_packed(reader);
        const uint8_t *bytes = bytes_take(reader, size);
        if (!bytes)
            return;
        mem_free(table->columns[i].name);
        table->columns[i].name = mem_text_n((const char *) bytes, size);
        text_make_valid(table->columns[i].name);
    }
    table->named = !reader->bad;
}

static void read_words(binlog_table_t *table, bytes_t *reader, uint8_t which) {
    for (unsigned i = 0; i < table->count && !reader->bad; i++) {
        binlog_column_t *column = &table->columns[i];
        if (!is_words(column, which))
            continue;
        uint64_t count = binlog_packed(reader);
        if (count > BINLOG_WORDS_MAX || count > bytes_left(reader)) {
            reader->bad = true;
            return;
        }
        free_words(column);
        column->words = mem_zero((count + 1) * sizeof *column->words);
        while (column->word_count < count && !reader->bad) {
            size_t size = binlog_packed(reader);
            const uint8_t *bytes = bytes_take(reader, size);
            if (bytes)
                column->words[column->word_count++] = text_make(mem_text_n((const char *) bytes, size), size);
        }
    }
}

/* Fields of a type that is not known are passed over. */
static void read_metadata(binlog_table_t *table, bytes_t *reader) {
    while (bytes_left(reader)) {
        unsigned type = (unsigned) bytes_little(reader, 1);
        size_t size = binlog_packed(reader);
        const uint8_t *bytes = bytes_take(reader, size);
        if (!bytes)
            return;
        bytes_t field = {bytes, bytes + size, false};
        switch (type) {
        case SIGNS: read_signs(table, &field); break;
        case DEFAULT_CHARSET: read_charsets(table, &field, false, true); break;
        case CHARSETS: read_charsets(table, &field, false, false); break;
        case NAMES: read_names(table, &field); break;
        case SET_WORDS: read_words(table, &field, MYSQL_TYPE_SET); break;
        case ENUM_WORDS: read_words(table, &field, MYSQL_TYPE_ENUM); break;
        case WORDS_DEFAULT_CHARSET: read_charsets(table, &field, true, true); break;
        case WORDS_CHARSETS: read_charsets(table, &field, true, false); break;
        default: break;
        }
        reader->bad |= field.bad;
    }
}

static void read_columns(binlog_table_t *table, bytes_t *reader, const uint8_t *types) {
    size_t size = binlog_packed(reader);
    const uint8_t *bytes = bytes_take(reader, size);
    bytes_t meta = {bytes, bytes ? bytes + size : NULL, !bytes};
    for (unsigned i = 0; i < table->count && !meta.bad; i++) {
        table->columns[i].type = types[i];
        table->columns[i].meta = (uint16_t) bytes_little(&meta, meta_size(types[i]));
        table->columns[i].collation = BINLOG_BINARY;
    }
    reader->bad |= meta.bad;
}

binlog_table_t *binlog_table_read(const binlog_event_t *event, err_t *err) {
    bytes_t reader = {event->body, event->body + event->size, false};
    bytes_take(&reader, 8);
    size_t schema_size = bytes_little(&reader, 1);
    const char *schema = (const char *) bytes_take(&reader, schema_size);
    bytes_take(&reader, 1);
    size_t name_size = bytes_little(&reader, 1);
    const char *name = (const char *) bytes_take(&reader, name_size);
    bytes_take(&reader, 1);
    uint64_t count = binlog_packed(&reader);
    const uint8_t *types = count && count <= BINLOG_COLUMNS_MAX ? bytes_take(&reader, count) : NULL;
    if (reader.bad || !types) {
        err_set(err, "the server sent a table's description that is malformed (%zu bytes)", event->size);
        return NULL;
    }
    binlog_table_t *table = mem_zero(sizeof *table);
    table->schema = mem_text_n(schema, schema_size);
    table->name = mem_text_n(name, name_size);
    text_make_valid(table->schema);
    text_make_valid(table->name);
    table->count = (unsigned) count;
    table->columns = mem_zero(count * sizeof *table->columns);
    read_columns(table, &reader, types);
    bytes_take(&reader, (count + 7) / 8);
    read_metadata(table, &reader);
    if (reader.bad) {
        err_set(err, "the server sent a description of the table %s.%s that is malformed (%zu bytes)", table->schema, table->name, event->size);
        binlog_table_free(table);
        return NULL;
    }
    buf_put(&table->raw, event->body, event->size);
    return table;
}
