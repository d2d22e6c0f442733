/* Source "mysql:", "mariadb:": a MySQL or MariaDB database by a query with a cursor. The library blocks, so it has the thread of rows.c; rows are
 * fetched as they come, not gathered. */
#include <ctype.h>
#include <mysql.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/url.h"
#include "data/json.h"
#include "data/pack.h"
#include "poll_query.h"
#include "rows.h"

#define EXACT_DIGITS 15
#define CHARSET_BINARY 63

typedef struct mysql_settings {
    char *query, *cursor, *initial, *password, *socket, *tls_ca, *tls_cert, *tls_key;
    bool once, tls;
    int64_t interval, timeout, retry_min, retry_max;
} mysql_settings_t;

#define AT(field) offsetof(mysql_settings_t, field)
static const option_t options[] = {
    {"query", OPTION_TEXT, AT(query), NULL, "SQL", "what to ask; $1 in it is the cursor's last value"},
    {"cursor", OPTION_TEXT, AT(cursor), NULL, "COLUMN", "the column of the answer that grows from row to row"},
    {"initial", OPTION_TEXT, AT(initial), NULL, "VALUE", "the cursor's value before the first row"},
    {"interval", OPTION_DURATION, AT(interval), "5s", "DURATION", "time from one query to the next", NS_PER_MS, 86400 * NS_PER_S},
    {"once", OPTION_BOOL, AT(once), "no", NULL, "end after one answer"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line"},
    {"socket", OPTION_TEXT, AT(socket), NULL, "PATH", "the server's socket on this machine"},
    {"tls", OPTION_BOOL, AT(tls), "no", NULL, "encrypt, and verify the server's certificate and host against the system's authorities"},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's; implies --tls"},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one"},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key"},
    {"connect-timeout", OPTION_DURATION, AT(timeout), "10s", "DURATION", "for name look-up, connection, TLS and log-in", NS_PER_S, 3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts", NS_PER_MS, 86400 * NS_PER_S},
    {0},
};

typedef struct address {
    char *user, *password, *host, *database;
    unsigned port;
} address_t;

typedef struct mysql_reader {
    const mysql_settings_t *settings;
    address_t address;
    char *sql;                         /* with $1 where the cursor's value goes */
    MYSQL *connection;
    pthread_mutex_t lock;              /* of `connection`, for interrupt */
    bool worked;
} mysql_reader_t;

static void address_fini(address_t *address) {
    mem_free(address->user);
    mem_free(address->password);
    mem_free(address->host);
    mem_free(address->database);
}

/* %41 is A. */
static char *decode(text_t text) {
    buf_t out = {0};
    for (size_t i = 0; i < text.size; i++) {
        char digits[3] = {0};
        if (text.data[i] == '%' && i + 2 < text.size && isxdigit((unsigned char) text.data[i + 1]) && isxdigit((unsigned char) text.data[i + 2])) {
            memcpy(digits, text.data + i + 1, 2);
            buf_put_byte(&out, (uint8_t) strtoul(digits, NULL, 16));
            i += 2;
        } else {
            buf_put_byte(&out, (uint8_t) text.data[i]);
        }
    }
    buf_put_byte(&out, 0);
    return (char *) buf_take(&out);
}

/* //USER:PASSWORD@HOST:PORT/DATABASE */
static int parse_address(address_t *address, const char *rest, err_t *err) {
    int64_t port = 3306;
    if (strncmp(rest, "//", 2) != 0)
        return err_set(err, "an address of MySQL looks like mysql://user@host:3306/database");
    const char *host = rest + 2, *end = host + strcspn(host, "/"), *at = memrchr(host, '@', (size_t) (end - host));
    if (at) {
        const char *colon = memchr(host, ':', (size_t) (at - host));
        address->user = decode(text_make(host, (size_t) ((colon ? colon : at) - host)));
        if (colon)
            address->password = decode(text_make(colon + 1, (size_t) (at - colon - 1)));
        host = at + 1;
    }
    const char *close = *host == '[' ? memchr(host, ']', (size_t) (end - host)) : NULL, *from = close ? close : host;
    const char *colon = memchr(from, ':', (size_t) (end - from));
    if (colon && (text_to_int(text_make(colon + 1, (size_t) (end - colon - 1)), &port, NULL) || port < 1 || port > 65535))
        return err_set(err, "an address of MySQL looks like mysql://user@host:3306/database: the port is none");
    address->host = close ? mem_text_n(host + 1, (size_t) (close - host - 1)) : decode(text_make(host, (size_t) ((colon ? colon : end) - host)));
    address->port = (unsigned) port;
    address->database = decode(text_of(*end ? end + 1 : ""));
    return 0;
}

static int fail(const mysql_reader_t *self, err_t *err) {
    char words[400];
    snprintf(words, sizeof words, "%s", mysql_error(self->connection));
    text_make_valid(words);
    return err_set(err, "%s", *words ? words : "the connection was lost");
}

static void close_connection(void *argument) {
    mysql_reader_t *self = argument;
    pthread_mutex_lock(&self->lock);
    MYSQL *connection = self->connection;
    self->connection = NULL;
    pthread_mutex_unlock(&self->lock);
    if (connection)
        mysql_close(connection);
}

/* A read that waits for the server ends. */
static void interrupt(void *argument) {
    mysql_reader_t *self = argument;
    pthread_mutex_lock(&self->lock);
    if (self->connection && mysql_get_socket(self->connection) != (my_socket) -1)
        shutdown(mysql_get_socket(self->connection), SHUT_RDWR);
    pthread_mutex_unlock(&self->lock);
}

static void set_options(mysql_reader_t *self, MYSQL *connection) {
    const mysql_settings_t *settings = self->settings;
    unsigned timeout = (unsigned) (settings->timeout / NS_PER_S);
    my_bool yes = 1;
    mysql_options(connection, MYSQL_OPT_CONNECT_TIMEOUT, &timeout);
    mysql_options(connection, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options(connection, MYSQL_INIT_COMMAND, "SET time_zone = '+00:00'");
    if (settings->tls || settings->tls_ca) {
        mysql_ssl_set(connection, settings->tls_key, settings->tls_cert, settings->tls_ca, NULL, NULL);
        mysql_options(connection, MYSQL_OPT_SSL_ENFORCE, &yes);
        mysql_options(connection, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
    }
}

static int open_connection(void *argument, err_t *err) {
    mysql_reader_t *self = argument;
    const address_t *address = &self->address;
    MYSQL *connection = mysql_init(NULL);
    ASSERT(connection);
    set_options(self, connection);
    pthread_mutex_lock(&self->lock);
    self->connection = connection;
    pthread_mutex_unlock(&self->lock);
    bool local = self->settings->socket || !*address->host;
    if (!mysql_real_connect(connection, local ? NULL : address->host, address->user, self->settings->password ? self->settings->password : address->password,
                            *address->database ? address->database : NULL, address->port, self->settings->socket, 0))
        return fail(self, err);
    return 0;
}

/* Digits from the first that is not 0. */
static unsigned digits_of(text_t text) {
    unsigned digits = 0;
    for (size_t i = 0; i < text.size; i++)
        digits += isdigit((unsigned char) text.data[i]) && (digits || text.data[i] != '0');
    return digits;
}

static bool put_number(buf_t *out, text_t text) {
    int64_t integer;
    uint64_t big;
    double number;
    if (text_to_int(text, &integer, NULL) == 0)
        pack_int(out, integer);
    else if (text_to_uint(text, &big, NULL) == 0)
        pack_uint(out, big);
    else if (digits_of(text) <= EXACT_DIGITS && json_parse_double(text.data, text.size, &number))
        pack_double(out, number);
    else
        return false;
    return true;
}

static bool put_double(buf_t *out, text_t text) {
    double number;
    bool good = json_parse_double(text.data, text.size, &number);
    if (good)
        pack_double(out, number);
    return good;
}

static bool put_bits(buf_t *out, text_t bytes) {
    uint64_t bits = 0;
    for (size_t i = 0; i < bytes.size && i < 8; i++)
        bits = bits << 8 | (uint8_t) bytes.data[i];
    pack_uint(out, bits);
    return true;
}

/* "0000-00-00" and the like stay text. */
static bool put_time(buf_t *out, text_t text) {
    int64_t ns;
    bool good = clock_parse(text, &ns);
    if (good)
        pack_time(out, ns);
    return good;
}

static bool put_json(buf_t *out, text_t text) {
    size_t before = out->size;
    bool good = json_read_value(text, out, NULL) == (ssize_t) text.size;
    if (!good)
        out->size = before;
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
    case MYSQL_TYPE_NEWDECIMAL: done = put_number(out, text); break;
    case MYSQL_TYPE_FLOAT:
    case MYSQL_TYPE_DOUBLE: done = put_double(out, text); break;
    case MYSQL_TYPE_BIT: done = put_bits(out, text); break;
    case MYSQL_TYPE_DATETIME:
    case MYSQL_TYPE_TIMESTAMP: done = put_time(out, text); break;
    case MYSQL_TYPE_DATE:
    case MYSQL_TYPE_TIME:
    case MYSQL_TYPE_NEWDATE: break;
    case MYSQL_TYPE_JSON: done = put_json(out, text); break;
    default:
        binary = field->charsetnr == CHARSET_BINARY;
        done = !binary && is_json(field) && put_json(out, text);
    }
    if (done)
        return;
    if (binary || text_utf8_valid(text.data, text.size) != text.size)
        pack_binary(out, text.data, text.size);
    else
        pack_string(out, text.data, text.size);
}

/* The statement with the cursor's value in place of $1, outside of quotes. Numbers stand as they are. */
static void put_statement(mysql_reader_t *self, buf_t *out, value_t after) {
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
        out->size += mysql_real_escape_string(self->connection, (char *) to, after.text, after.size);
        buf_put_byte(out, '\'');
    }
}

/* The cursor's column, -1 for none; -2: the answer cannot be used. */
static int learn_columns(const mysql_reader_t *self, const MYSQL_FIELD *fields, unsigned columns, err_t *err) {
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

static int take_rows(mysql_reader_t *self, MYSQL_RES *result, rows_out_t *out, err_t *err) {
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
    self->worked |= !mysql_errno(self->connection);
    return mysql_errno(self->connection) ? fail(self, err) : 0;
}

/* Statements that no waiting will make good: syntax, unknown columns and functions. */
static bool hopeless(unsigned code) {
    return code == 1064 || code == 1054 || code == 1305 || code == 1060 || code == 1052;
}

static int read_rows(void *argument, value_t after, rows_out_t *out, err_t *err) {
    mysql_reader_t *self = argument;
    buf_t sql = {0};
    put_statement(self, &sql, after);
    int failed = mysql_real_query(self->connection, (const char *) sql.data, sql.size);
    buf_fini(&sql);
    if (failed) {
        if (!self->worked && hopeless(mysql_errno(self->connection)))
            rows_hopeless(out);
        return fail(self, err);
    }
    MYSQL_RES *result = mysql_use_result(self->connection);
    if (!result) {
        rows_hopeless(out);
        return mysql_errno(self->connection) ? fail(self, err) : err_set(err, "--query: it gives no rows, as a SELECT does");
    }
    failed = take_rows(self, result, out, err);
    if (failed)
        interrupt(self); /* what of the answer is left need not be read */
    mysql_free_result(result);
    return failed;
}

static void reader_free(void *argument) {
    mysql_reader_t *self = argument;
    address_fini(&self->address);
    mem_free(self->sql);
    pthread_mutex_destroy(&self->lock);
    mem_free(self);
}

static const rows_driver_t driver = {
    .open = open_connection,
    .close = close_connection,
    .read = read_rows,
    .interrupt = interrupt,
    .free = reader_free,
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

static int mysql_check(const source_setup_t *setup, err_t *err) {
    const mysql_settings_t *settings = setup->settings;
    address_t address = {0};
    int bad = parse_address(&address, setup->rest, err);
    address_fini(&address);
    if (bad)
        return -1;
    if (settings->retry_max < settings->retry_min)
        return err_set(err, "--retry-max is below --retry-min");
    if (setup->format)
        return err_set(err, "--format is not for databases: rows come as they are");
    if (!settings->query)
        return err_set(err, "--query is missing, such as 'SELECT * FROM orders WHERE id > $1' with --cursor id --initial 0");
    return poll_query_check(settings->query, settings->cursor, settings->initial, err);
}

static int mysql_open(source_t **source, const source_setup_t *setup, err_t *err) {
    const mysql_settings_t *settings = setup->settings;
    mysql_reader_t *self = mem_zero(sizeof *self);
    buf_t place = {0};
    mysql_library_init(0, NULL, NULL); /* before there are threads */
    self->settings = settings;
    pthread_mutex_init(&self->lock, NULL);
    parse_address(&self->address, setup->rest, NULL);
    self->sql = make_statement(settings);
    url_put_redacted(&place, text_of(setup->url));
    rows_setup_t rows = {
        .driver = &driver,
        .self = self,
        .place = mem_text(buf_text(&place)),
        .identity = mem_format("the database %s", self->address.database),
        .column = settings->cursor ? settings->cursor : "",
        .interval = settings->interval,
        .retry_min = settings->retry_min,
        .retry_max = settings->retry_max,
        .once = settings->once,
    };
    buf_fini(&place);
    if (settings->initial)
        rows_put_initial(&rows.initial, settings->initial);
    *source = rows_source_new(setup, &rows);
    return 0;
}

static const char *mysql_stream(const source_setup_t *setup, buf_t *space) {
    address_t address = {0};
    if (parse_address(&address, setup->rest, NULL) == 0 && *address.database)
        buf_put_text(space, address.database);
    else
        buf_put_text(space, "mysql");
    address_fini(&address);
    return buf_text(space);
}

const source_driver_t source_mysql = {
    .name = "mysql",
    .schemes = {"mysql", "mariadb"},
    .types = {{"mysql"}, {"mariadb"}},
    .usage = "mysql://USER@HOST/DATABASE",
    .help = "a MySQL or MariaDB database: the rows of a query",
    .options = options,
    .settings_size = sizeof(mysql_settings_t),
    .query = true,
    .stream = mysql_stream,
    .check = mysql_check,
    .open = mysql_open,
};
