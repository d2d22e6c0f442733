/* MySQL and MariaDB by a query with a cursor: rows are fetched as they come, not gathered. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"
#include "mysql_source.h"
#include "poll_query.h"

#define CHARSET_BINARY 63

typedef struct mysql_poll {
    mysql_link_t link;
    const mysql_settings_t *settings;
    char *sql;                         /* with $1 where the cursor's value goes */
    bool worked;
} mysql_poll_t;

static bool put_double(buf_t *out, text_t text) {
    double number;
    bool good = json_parse_double(text.data, text.size, &number);
    if (good)
        pack_double(out, number);
    return good;
}

/* MariaDB's JSON is a text of which it says so. */
static bool is_json(const MYSQL_FIELD *field) {
    MARIADB_CONST_STRING name;
    return mariadb_field_attr(&name, field, MARIADB_FIELD_ATTR_FORMAT_NAME) == 0 && name.length == 4 && memcmp(name.str, "json", 4) == 0;
}

static void put_value(buf_t *out, const MYSQL_FIELD *field, text_t text) {
    bool done = false, binary = false;
    switch (field->type) {
    case MYSQL_TYPE_TINY:
    case MYSQL_TYPE_SHORT:
    case MYSQL_TYPE_INT24:
    case MYSQL_TYPE_LONG:
    case MYSQL_TYPE_LONGLONG:
    case MYSQL_TYPE_YEAR:
    case MYSQL_TYPE_DECIMAL:
    case MYSQL_TYPE_NEWDECIMAL: done = mysql_put_number(out, text); break;
    case MYSQL_TYPE_FLOAT:
    case MYSQL_TYPE_DOUBLE: done = put_double(out, text); break;
    case MYSQL_TYPE_BIT: mysql_put_bits(out, text); return;
    case MYSQL_TYPE_DATETIME:
    case MYSQL_TYPE_TIMESTAMP: done = mysql_put_time(out, text); break;
    case MYSQL_TYPE_DATE:
    case MYSQL_TYPE_TIME:
    case MYSQL_TYPE_NEWDATE: break;
    case MYSQL_TYPE_JSON: done = mysql_put_json(out, text); break;
    default:
        binary = field->charsetnr == CHARSET_BINARY;
        done = !binary && is_json(field) && mysql_put_json(out, text);
    }
    if (done)
        return;
    if (binary)
        pack_binary(out, text.data, text.size);
    else
        mysql_put_text(out, text);
}

/* The statement with the cursor's value in place of $1, outside of quotes. Numbers stand as they are. */
static void put_statement(mysql_poll_t *self, buf_t *out, value_t after) {
    char quote = 0;
    for (const char *at = self->sql; *at; at++) {
        if (quote ? *at == quote : *at == '\'' || *at == '"' || *at == '`')
            quote = quote ? 0 : *at;
        if (quote || at[0] != '$' || at[1] != '1' || isdigit((unsigned char) at[2])) {
            buf_put_byte(out, (uint8_t) *at);
            if (quote && quote != '`' && *at == '\\' && at[1])
                buf_put_byte(out, (uint8_t) *++at);
            continue;
        }
        at++;
        if (after.type != VALUE_STRING) {
            json_put_value(out, after);
            continue;
        }
        buf_put_byte(out, '\'');
        uint8_t *to = buf_reserve(out, 2 * (size_t) after.size + 1);
        out->size += mysql_real_escape_string(self->link.connection, (char *) to, after.text, after.size);
        buf_put_byte(out, '\'');
    }
}

/* The cursor's column, -1 for none; -2: the answer cannot be used. */
static int learn_columns(const mysql_poll_t *self, const MYSQL_FIELD *fields, unsigned columns, err_t *err) {
    int cursor = -1;
    for (unsigned i = 0; i < columns; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(fields[i].name, fields[j].name) == 0) {
                err_set(err, "--query: two columns are named %s: give one of them another name with AS", fields[i].name);
                return -2;
            }
        }
        if (self->settings->cursor && strcasecmp(fields[i].name, self->settings->cursor) == 0)
            cursor = (int) i;
    }
    return cursor;
}

/* As the server shows it: a number that is whole, or text. */
static value_t cursor_value(const char *text, unsigned long size) {
    int64_t integer;
    uint64_t big;
    if (text_to_int(text_make(text, size), &integer, NULL) == 0)
        return value_int(integer);
    return text_to_uint(text_make(text, size), &big, NULL) == 0 ? value_uint(big) : value_text(text, size);
}

static int take_rows(mysql_poll_t *self, MYSQL_RES *result, rows_out_t *out, err_t *err) {
    unsigned columns = mysql_num_fields(result);
    const MYSQL_FIELD *fields = mysql_fetch_fields(result);
    int cursor = learn_columns(self, fields, columns, err);
    MYSQL_ROW row;
    if (cursor == -2) {
        rows_hopeless(out);
        return -1;
    }
    while ((row = mysql_fetch_row(result))) {
        const unsigned long *sizes = mysql_fetch_lengths(result);
        buf_t *record = rows_begin(out);
        pack_map(record, columns);
        for (unsigned i = 0; i < columns; i++) {
            pack_text(record, fields[i].name);
            if (row[i])
                put_value(record, &fields[i], text_make(row[i], sizes[i]));
            else
                pack_nil(record);
        }
        if (!rows_end(out, cursor < 0 ? value_null() : cursor_value(row[cursor], sizes[cursor]), ROWS_NO_TIME))
            return 0;
    }
    self->worked |= !mysql_errno(self->link.connection);
    return mysql_errno(self->link.connection) ? mysql_link_fail(&self->link, err) : 0;
}

/* Statements that no waiting will make good: syntax, unknown columns and functions. */
static bool hopeless(unsigned code) {
    return code == 1064 || code == 1054 || code == 1305 || code == 1060 || code == 1052;
}

static int read_rows(void *argument, value_t after, rows_out_t *out, err_t *err) {
    mysql_poll_t *self = argument;
    buf_t sql = {0};
    put_statement(self, &sql, after);
    int failed = mysql_real_query(self->link.connection, (const char *) sql.data, sql.size);
    buf_fini(&sql);
    if (failed) {
        if (!self->worked && hopeless(mysql_errno(self->link.connection)))
            rows_hopeless(out);
        return mysql_link_fail(&self->link, err);
    }
    MYSQL_RES *result = mysql_use_result(self->link.connection);
    if (!result) {
        rows_hopeless(out);
        return mysql_errno(self->link.connection) ? mysql_link_fail(&self->link, err) : err_set(err, "--query: it gives no rows, as a SELECT does");
    }
    failed = take_rows(self, result, out, err);
    if (failed)
        mysql_link_interrupt(&self->link); /* what of the answer is left need not be read */
    mysql_free_result(result);
    return failed;
}

static int poll_open(void *argument, err_t *err) {
    return mysql_link_open(&((mysql_poll_t *) argument)->link, err);
}

static void poll_close(void *argument) {
    mysql_link_close(&((mysql_poll_t *) argument)->link);
}

static void poll_interrupt(void *argument) {
    mysql_link_interrupt(&((mysql_poll_t *) argument)->link);
}

static void poll_free(void *argument) {
    mysql_poll_t *self = argument;
    mysql_link_fini(&self->link);
    mem_free(self->sql);
    mem_free(self);
}

static const rows_driver_t driver = {
    .open = poll_open,
    .close = poll_close,
    .read = read_rows,
    .interrupt = poll_interrupt,
    .free = poll_free,
};

static char *make_statement(const mysql_settings_t *settings) {
    buf_t column = {0};
    buf_put_byte(&column, '`');
    for (const char *c = settings->cursor; c && *c; c++) {
        if (*c == '`')
            buf_put_byte(&column, '`');
        buf_put_byte(&column, (uint8_t) *c);
    }
    buf_put_byte(&column, '`');
    char *sql = poll_query_statement(settings->query, settings->cursor ? buf_text(&column) : NULL);
    buf_fini(&column);
    return sql;
}

void mysql_poll_new(rows_setup_t *rows, const source_setup_t *setup) {
    mysql_poll_t *self = mem_zero(sizeof *self);
    self->settings = setup->settings;
    mysql_link_init(&self->link, setup);
    self->sql = make_statement(self->settings);
    rows->driver = &driver;
    rows->self = self;
    rows->identity = mem_format("the database %s", self->link.address.database);
    rows->column = self->settings->cursor ? self->settings->cursor : "";
    if (self->settings->initial)
        rows_put_initial(&rows->initial, self->settings->initial);
}
