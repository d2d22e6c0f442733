/* Events of the binary log: heads, transactions, statements and rows; binlog_table.c has the tables. */
#include "binlog_event.h"

#include <ctype.h>
#include <string.h>
#include <zlib.h>

#include "base/memory.h"
#include "data/pack.h"

#define HEAD_SIZE 19
#define CHECKSUM_SIZE 4
#define INFLATED_MAX (1u << 30)        /* what the server's limits allow */
#define GTID_SINGLE 1                  /* flag: no commit follows */
enum { WRITE_1 = 23, UPDATE_1, DELETE_1, WRITE_2 = 30, UPDATE_2, DELETE_2, WRITE_1_COMPRESSED = 166, DELETE_2_COMPRESSED = 171 };

static int malformed(err_t *err, const binlog_event_t *event, const char *what) {
    return err_set(err, "the server sent %s that is malformed (event type %u, %zu bytes)", what, event->type, event->size);
}

/* The event that describes the log ends with whether the others have a checksum, and has one itself in any case. */
int binlog_event_read(binlog_event_t *event, const uint8_t *bytes, size_t size, bool *checksums, err_t *err) {
    bytes_t reader = {bytes, bytes + size, false};
    uint32_t time = (uint32_t) bytes_little(&reader, 4);
    uint8_t type = (uint8_t) bytes_little(&reader, 1);
    uint32_t server = (uint32_t) bytes_little(&reader, 4), length = (uint32_t) bytes_little(&reader, 4);
    bytes_take(&reader, 6);
    if (reader.bad || length != size)
        return err_set(err, "the server sent an event that is malformed (%zu bytes)", size);
    bool summed = *checksums;
    if (type == BINLOG_FORMAT) {
        if (size < HEAD_SIZE + CHECKSUM_SIZE + 1 || bytes[size - CHECKSUM_SIZE - 1] > 1)
            return err_set(err, "the server's log has checksums of an unknown kind");
        summed = true;
    }
    size_t tail = summed ? CHECKSUM_SIZE : 0;
    if (size < HEAD_SIZE + tail)
        return err_set(err, "the server sent an event that is malformed (%zu bytes)", size);
    if (type == BINLOG_FORMAT)
        *checksums = bytes[size - CHECKSUM_SIZE - 1] == 1;
    if (*checksums) {
        bytes_t sum = {bytes + size - CHECKSUM_SIZE, bytes + size, false};
        if (crc32(0, bytes, (uInt) (size - CHECKSUM_SIZE)) != bytes_little(&sum, CHECKSUM_SIZE))
            return err_set(err, "an event of the server's log does not have its checksum: it is damaged there, or was on its way");
    }
    *event = (binlog_event_t){type, time, server, bytes + HEAD_SIZE, size - HEAD_SIZE - tail};
    return 0;
}

static bytes_t reader_of(const binlog_event_t *event) {
    return (bytes_t){event->body, event->body + event->size, false};
}

int binlog_gtid_read(binlog_gtid_t *gtid, bool *single, const binlog_event_t *event, err_t *err) {
    bytes_t reader = reader_of(event);
    uint64_t sequence = bytes_little(&reader, 8);
    uint32_t domain = (uint32_t) bytes_little(&reader, 4);
    unsigned flags = (unsigned) bytes_little(&reader, 1);
    if (reader.bad)
        return malformed(err, event, "a transaction's number");
    *gtid = (binlog_gtid_t){domain, event->server, sequence};
    *single = flags & GTID_SINGLE;
    return 0;
}

int binlog_query_read(binlog_query_t *query, const binlog_event_t *event, buf_t *space, err_t *err) {
    bytes_t reader = reader_of(event);
    bytes_take(&reader, 8);
    size_t database_size = bytes_little(&reader, 1);
    bytes_take(&reader, 2);
    size_t status_size = bytes_little(&reader, 2);
    bytes_take(&reader, status_size);
    const char *database = (const char *) bytes_take(&reader, database_size);
    bytes_take(&reader, 1);
    if (reader.bad)
        return malformed(err, event, "a statement");
    query->database = text_make(database, database_size);
    query->statement = text_make((const char *) reader.at, bytes_left(&reader));
    if (event->type == BINLOG_QUERY_COMPRESSED) {
        buf_clear(space);
        if (!binlog_inflate(space, reader.at, bytes_left(&reader), INFLATED_MAX))
            return malformed(err, event, "a compressed statement");
        query->statement = text_make((const char *) space->data, space->size);
    }
    return 0;
}

/* Behind blanks and comments. */
static text_t skip_blank(text_t text) {
    for (;;) {
        size_t before = text.size;
        while (text.size && isspace((unsigned char) *text.data))
            text = text_make(text.data + 1, text.size - 1);
        if (text.size >= 4 && memcmp(text.data, "/*", 2) == 0 && text.data[2] != '!' && text.data[2] != 'M') {
            const char *end = memmem(text.data + 2, text.size - 2, "*/", 2);
            text = end ? text_make(end + 2, text.size - (size_t) (end + 2 - text.data)) : text_make("", 0);
        } else if (text.size && (*text.data == '#' || (text.size > 2 && memcmp(text.data, "-- ", 3) == 0))) {
            const char *end = memchr(text.data, '\n', text.size);
            text = end ? text_make(end + 1, text.size - (size_t) (end + 1 - text.data)) : text_make("", 0);
        }
        if (text.size == before)
            return text;
    }
}

/* Takes the word, which is in upper case, from the front. */
static bool take_word(text_t *text, text_t word) {
    text_t rest = skip_blank(*text);
    if (rest.size < word.size || strncasecmp(rest.data, word.data, word.size) != 0)
        return false;
    if (rest.size > word.size && (isalnum((unsigned char) rest.data[word.size]) || rest.data[word.size] == '_'))
        return false;
    *text = text_make(rest.data + word.size, rest.size - word.size);
    return true;
}

bool binlog_begins(text_t statement, const char *words) {
    text_t rest = text_of(words), word;
    while (text_split(&rest, ' ', &word)) {
        if (!take_word(&statement, word))
            return false;
    }
    return true;
}

/* `a name` or name. */
static bool take_name(text_t *text, buf_t *name) {
    text_t rest = skip_blank(*text);
    size_t at = 0;
    if (rest.size && (*rest.data == '`' || *rest.data == '"')) {
        char quote = *rest.data;
        for (at = 1; at < rest.size; at++) {
            if (rest.data[at] == quote && (at + 1 == rest.size || rest.data[++at] != quote))
                break;
            buf_put_byte(name, (uint8_t) rest.data[at]);
        }
        at += at + 1 == rest.size && rest.data[at] == quote;
    } else {
        while (at < rest.size && !isspace((unsigned char) rest.data[at]) && !strchr(".;/#", rest.data[at]))
            buf_put_byte(name, (uint8_t) rest.data[at++]);
    }
    *text = text_make(rest.data + at, rest.size - at);
    return name->size > 0;
}

bool binlog_truncates(text_t statement, buf_t *database, buf_t *table) {
    if (!take_word(&statement, text_of("TRUNCATE")))
        return false;
    take_word(&statement, text_of("TABLE"));
    if (!take_name(&statement, table))
        return false;
    statement = skip_blank(statement);
    if (statement.size && *statement.data == '.') {
        buf_t first = *table;
        *table = *database;
        *database = first;
        statement = text_make(statement.data + 1, statement.size - 1);
        if (!take_name(&statement, table))
            return false;
    }
    buf_put_byte(database, 0);
    buf_put_byte(table, 0);
    return true;
}

/* Rows. */

bool binlog_is_rows(uint8_t type) {
    return (type >= WRITE_1 && type <= DELETE_1) || (type >= WRITE_2 && type <= DELETE_2) || (type >= WRITE_1_COMPRESSED && type <= DELETE_2_COMPRESSED);
}

uint64_t binlog_table_id(const binlog_event_t *event) {
    bytes_t reader = reader_of(event);
    uint64_t id = bytes_little(&reader, 6);
    return reader.bad ? UINT64_MAX : id;
}

int binlog_rows_begin(binlog_rows_t *rows, const binlog_event_t *event, const binlog_table_t *table, buf_t *space, err_t *err) {
    static const char kinds[] = "IUD";
    bool compressed = event->type >= WRITE_1_COMPRESSED;
    unsigned number = event->type - (compressed ? WRITE_1_COMPRESSED : event->type >= WRITE_2 ? WRITE_2 : WRITE_1);
    bool second = compressed ? number >= 3 : event->type >= WRITE_2;
    *rows = (binlog_rows_t){.kind = kinds[number % 3], .table = table, .reader = reader_of(event), .space = space};
    bytes_t *reader = &rows->reader;
    bytes_take(reader, 8);
    if (second) {
        size_t more = bytes_little(reader, 2);
        bytes_take(reader, more >= 2 ? more - 2 : SIZE_MAX);
    }
    if (!table->named)
        return err_set(err, "rows of the table %s.%s were logged without the names of its columns", table->schema, table->name);
    if (binlog_packed(reader) != table->count || reader->bad)
        return err_set(err, "rows of the table %s.%s do not have its columns", table->schema, table->name);
    size_t bits = (table->count + 7) / 8;
    rows->before = bytes_take(reader, bits);
    rows->after = rows->kind == 'U' ? bytes_take(reader, bits) : rows->before;
    if (reader->bad)
        return malformed(err, event, "rows");
    if (!compressed)
        return 0;
    buf_clear(space);
    if (!binlog_inflate(space, reader->at, bytes_left(reader), INFLATED_MAX))
        return malformed(err, event, "compressed rows");
    *reader = (bytes_t){space->data, space->data + space->size, false};
    return 0;
}

static bool bit(const uint8_t *bits, unsigned i) {
    return bits[i / 8] >> i % 8 & 1;
}

/* One image of a row: a bit for each column that is there, set for NULL, then the values of the others. */
static int put_image(binlog_rows_t *rows, const uint8_t *there, buf_t *out, err_t *err) {
    const binlog_table_t *table = rows->table;
    unsigned count = 0, n = 0;
    for (unsigned i = 0; i < table->count; i++)
        count += bit(there, i);
    const uint8_t *nulls = bytes_take(&rows->reader, (count + 7) / 8);
    if (!nulls && count)
        return err_set(err, "a row of the table %s.%s is cut off", table->schema, table->name);
    pack_map(out, count);
    for (unsigned i = 0; i < table->count; i++) {
        const binlog_column_t *column = &table->columns[i];
        if (!bit(there, i))
            continue;
        pack_text(out, column->name);
        if (bit(nulls, n++))
            pack_nil(out);
        else if (binlog_value_put(out, column, &rows->reader))
            return err_set(err, "the column %s of %s.%s is of a type that cannot be read (%u), or is cut off", column->name, table->schema, table->name,
                           column->type);
    }
    return 0;
}

int binlog_rows_next(binlog_rows_t *rows, buf_t *old, buf_t *new, err_t *err) {
    if (!bytes_left(&rows->reader))
        return 0;
    const uint8_t *before = rows->reader.at;
    int failed = put_image(rows, rows->before, rows->kind == 'I' ? new : old, err);
    if (!failed && rows->kind == 'U')
        failed = put_image(rows, rows->after, new, err);
    if (!failed && rows->reader.at == before)
        failed = err_set(err, "a row of the table %s.%s has no columns", rows->table->schema, rows->table->name);
    return failed ? -1 : 1;
}
