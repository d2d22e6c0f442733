/* MariaDB by change data capture: we are a replica that gets the binary log from a place on, and make events of the rows in it. The library logs in
 * and asks for the log; its events are taken as they come over the connection and read by binlog_event.c, as the library's own reading of rows
 * trusts their lengths. */
#include <mysql.h>

#include <mariadb_rpl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/memory.h"
#include "binlog_place.h"
#include "data/pack.h"
#include "mysql_source.h"

#define HEARTBEAT_S 10
#define SILENCE_S (4 * HEARTBEAT_S)
#define TABLES_MAX 10000               /* descriptions that are kept */
#define VERSION_LEAST 100500           /* the first that tells columns' names in its log */
#define CAPABILITY 4                   /* of a replica that knows GTIDs */
#define ERROR_OF_LOG 1236
#define NO_SUCH_DATABASE 1049          /* the server's errors (mysqld_error.h) */
#define NO_SUCH_TABLE 1146

typedef struct capture {
    mysql_link_t stream, catalog;      /* the catalog's lives for one question */
    const mysql_settings_t *settings;
    char *database;
    MARIADB_RPL *replica;
    map_t *tables;                     /* descriptions by their numbers */
    bool checksums;
    char *begin;                       /* where the first run begins, while a table is waited for; NULL: that is not known yet */
    bool looked;                       /* whether the tables are there */
    bool wished;                       /* the place is that of --gtid, and nothing has been passed on yet */

    binlog_place_t place;
    binlog_gtid_t gtid;                /* of the transaction under way */
    bool inside, single;               /* one is; it is a statement alone */
    uint64_t number, skip;             /* of its present change; so many were passed on before */
    int64_t time;
    buf_t cursor;                      /* "PLACE GTID+": the number of the change follows */
    size_t cursor_size;
    buf_t old, new, space;
} capture_t;

int mysql_capture_check(const mysql_settings_t *settings, err_t *err) {
    binlog_place_t place = {0};
    int bad = settings->gtid ? binlog_place_read(&place, text_of(settings->gtid), err) : 0;
    bool under_way = place.changes;
    binlog_place_fini(&place);
    if (bad)
        return err_wrap(err, "--gtid");
    return under_way ? err_set(err, "--gtid: takes a position between transactions, such as 0-1-100") : 0;
}

static void forget_tables(capture_t *self) {
    size_t position = 0;
    text_t key;
    void *table;
    while (map_next(self->tables, &position, &key, &table))
        binlog_table_free(table);
    map_free(self->tables);
    self->tables = map_new();
}

/* Asking. */

/* The first row of the answer, its values copied; mem_free each. */
static int ask_row(mysql_link_t *link, const char *sql, char **values, unsigned count, err_t *err) {
    MYSQL_RES *result = mysql_query(link->connection, sql) ? NULL : mysql_store_result(link->connection);
    if (!result)
        return mysql_link_fail(link, err);
    MYSQL_ROW row = mysql_num_fields(result) == count ? mysql_fetch_row(result) : NULL;
    for (unsigned i = 0; row && i < count; i++)
        values[i] = mem_text(row[i] ? row[i] : "");
    mysql_free_result(result);
    return row ? 0 : err_set(err, "the server gives no answer to %s", sql);
}

/* A column of MariaDB's type JSON is a text with a check. */
static void take_check(binlog_table_t *table, const char *clause) {
    for (unsigned i = 0; i < table->count; i++) {
        char *json = mem_format("json_valid(`%s`)", table->columns[i].name);
        table->columns[i].json |= strcmp(json, clause) == 0;
        mem_free(json);
    }
}

static void put_literal(mysql_link_t *link, buf_t *out, const char *text) {
    size_t size = strlen(text);
    buf_put_byte(out, '\'');
    char *to = (char *) buf_reserve(out, 2 * size + 1);
    out->size += mysql_real_escape_string(link->connection, to, text, size);
    buf_put_byte(out, '\'');
}

static int learn_json(capture_t *self, binlog_table_t *table, err_t *err) {
    buf_t sql = {0};
    int result = mysql_link_open(&self->catalog, err);
    if (!result) {
        buf_put_text(&sql, "SELECT check_clause FROM information_schema.check_constraints WHERE constraint_schema = ");
        put_literal(&self->catalog, &sql, table->schema);
        buf_put_text(&sql, " AND table_name = ");
        put_literal(&self->catalog, &sql, table->name);
        MYSQL_RES *rows = mysql_query(self->catalog.connection, buf_text(&sql)) ? NULL : mysql_store_result(self->catalog.connection);
        MYSQL_ROW row;
        if (!rows)
            result = mysql_link_fail(&self->catalog, err);
        while (rows && (row = mysql_fetch_row(rows)))
            take_check(table, row[0] ? row[0] : "");
        if (rows)
            mysql_free_result(rows);
    }
    mysql_link_close(&self->catalog);
    buf_fini(&sql);
    return result;
}

/* What would not work, in words. The present end of the log is given. */
static int inspect(capture_t *self, char **end, err_t *err) {
    MYSQL *connection = self->stream.connection;
    char *values[4] = {0};
    int result = -1;
    if (!mariadb_connection(connection) || mysql_get_server_version(connection) < VERSION_LEAST)
        return err_set(err, "--mode cdc reads the binary log of MariaDB 10.5 or later, and this is %.100s: --mode poll reads its tables",
                       mysql_get_server_info(connection));
    if (ask_row(&self->stream, "SELECT @@log_bin, @@GLOBAL.binlog_format, @@GLOBAL.binlog_row_metadata, @@GLOBAL.gtid_binlog_pos", values, 4, err))
        return -1;
    if (strcmp(values[0], "1") != 0)
        err_set(err, "the server keeps no binary log: log_bin in its configuration, then a restart; --mode poll needs nothing of the kind");
    else if (strcasecmp(values[1], "ROW") != 0)
        err_set(err, "binlog_format is %.20s: changes can be read when it is ROW (SET GLOBAL binlog_format = ROW, and in its configuration)", values[1]);
    else if (strcasecmp(values[2], "FULL") != 0)
        err_set(err, "binlog_row_metadata is %.20s: the log tells columns' names when it is FULL (SET GLOBAL binlog_row_metadata = FULL, and in its "
                     "configuration)", values[2]);
    else
        result = 0;
    if (!result) {
        *end = values[3];
        values[3] = NULL;
    }
    for (unsigned i = 0; i < 4; i++)
        mem_free(values[i]);
    return result;
}

static void put_identifier(buf_t *out, text_t name) {
    buf_put_byte(out, '`');
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '`')
            buf_put_byte(out, '`');
        buf_put_byte(out, (uint8_t) name.data[i]);
    }
    buf_put_byte(out, '`');
}

/* Whether a table of --table is not there, as far as we are allowed to know. */
static bool is_missing(capture_t *self, const char *wanted) {
    const char *dot = strchr(wanted, '.');
    MYSQL *connection = self->stream.connection;
    buf_t sql = {0};
    bool anywhere = !dot && !*self->database;
    if (anywhere) {
        buf_put_text(&sql, "SELECT 1 FROM information_schema.tables WHERE table_name = ");
        put_literal(&self->stream, &sql, wanted);
        buf_put_text(&sql, " LIMIT 1");
    } else {
        buf_put_text(&sql, "SELECT 1 FROM ");
        put_identifier(&sql, dot ? text_make(wanted, (size_t) (dot - wanted)) : text_of(self->database));
        buf_put_byte(&sql, '.');
        put_identifier(&sql, text_of(dot ? dot + 1 : wanted));
        buf_put_text(&sql, " LIMIT 0");
    }
    bool failed = mysql_query(connection, buf_text(&sql));
    unsigned code = failed ? mysql_errno(connection) : 0;
    MYSQL_RES *rows = failed ? NULL : mysql_store_result(connection);
    bool empty = anywhere && rows && !mysql_num_rows(rows);
    mysql_free_result(rows);
    buf_fini(&sql);
    return code == NO_SUCH_TABLE || code == NO_SUCH_DATABASE || empty;
}

/* A first run that begins now begins when all its tables are there; what was changed in the meantime is not missed. Later, or with --gtid, the log may
 * tell of tables that are not there any more: that is said once. */
static int look_for_tables(capture_t *self, bool now, err_t *err) {
    const option_list_t *tables = &self->settings->tables;
    for (size_t i = 0; i < tables->count && !self->looked; i++) {
        if (!is_missing(self, tables->items[i]))
            continue;
        bool sure = strchr(tables->items[i], '.') || *self->database; /* else it may be one that we may not see */
        if (now && sure)
            return err_set(err, "there is no table %.200s (--table)", tables->items[i]);
        log_warning("there is no table %.200s (--table): nothing comes of it until it is made", tables->items[i]);
    }
    self->looked = true;
    return 0;
}

static int replicate(capture_t *self, err_t *err) {
    buf_t sql = {0};
    MYSQL *connection = self->stream.connection;
    uint32_t id = (uint32_t) self->settings->server_id;
    while (!id && getrandom(&id, sizeof id, 0) == sizeof id)
        id |= UINT32_C(1) << 31;
    buf_put_text(&sql, "SET @slave_connect_state = '");
    binlog_place_put(&self->place, &sql);
    buf_format(&sql, "', @mariadb_slave_capability = %d, @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0, @master_binlog_checksum = "
                     "@@GLOBAL.binlog_checksum, @master_heartbeat_period = %lld, net_write_timeout = 31536000", CAPABILITY, HEARTBEAT_S * (long long) NS_PER_S);
    int failed = mysql_query(connection, buf_text(&sql));
    buf_fini(&sql);
    if (failed)
        return mysql_link_fail(&self->stream, err);
    self->replica = mariadb_rpl_init(connection);
    ASSERT(self->replica);
    mariadb_rpl_optionsv(self->replica, MARIADB_RPL_SERVER_ID, id);
    mariadb_rpl_optionsv(self->replica, MARIADB_RPL_FILENAME, "", (size_t) 0);
    mariadb_rpl_optionsv(self->replica, MARIADB_RPL_START, 4ul);
    mariadb_rpl_optionsv(self->replica, MARIADB_RPL_FLAGS, 0u);
    return mariadb_rpl_open(self->replica) ? mysql_link_fail(&self->stream, err) : 0;
}

/* Events. */

static value_t cursor_of(capture_t *self) {
    self->cursor.size = self->cursor_size;
    buf_format(&self->cursor, "%llu", (unsigned long long) self->number);
    return value_text((const char *) self->cursor.data, self->cursor.size);
}

/* Counts the present transaction's change. True: it was passed on before. */
static bool count_change(capture_t *self) {
    return ++self->number <= self->skip;
}

static void put_event(const capture_t *self, buf_t *out, const char *op, text_t schema, text_t table) {
    buf_t gtid = {0};
    pack_map(out, 6u + (self->new.size > 0) + (self->old.size > 0));
    pack_text(out, "op");
    pack_text(out, op);
    pack_text(out, "schema");
    mysql_put_text(out, schema);
    pack_text(out, "table");
    mysql_put_text(out, table);
    if (self->new.size) {
        pack_text(out, "new");
        buf_put(out, self->new.data, self->new.size);
    }
    if (self->old.size) {
        pack_text(out, "old");
        buf_put(out, self->old.data, self->old.size);
    }
    binlog_gtid_put(&gtid, &self->gtid);
    pack_text(out, "gtid");
    pack_string(out, (const char *) gtid.data, gtid.size);
    pack_text(out, "committed");
    pack_time(out, self->time);
    pack_text(out, "change");
    pack_uint(out, self->number);
    buf_fini(&gtid);
}

static bool emit(capture_t *self, rows_out_t *out, const char *op, text_t schema, text_t table) {
    put_event(self, rows_begin(out), op, schema, table);
    return rows_end(out, cursor_of(self), self->settings->commit_time ? self->time : ROWS_NO_TIME);
}

/* What cannot be used costs itself, and is counted as one change. */
static bool bad(capture_t *self, rows_out_t *out, const char *reason) {
    buf_t words = {0};
    if (count_change(self))
        return true;
    buf_put_text(&words, "transaction ");
    binlog_gtid_put(&words, &self->gtid);
    buf_format(&words, ": %s", reason);
    rows_begin(out);
    bool more = rows_bad(out, cursor_of(self), buf_text(&words));
    buf_fini(&words);
    return more;
}

static bool more_at_hand(const capture_t *self) {
    struct pollfd fd = {.fd = mysql_get_socket(self->stream.connection), .events = POLLIN};
    return poll(&fd, 1, 0) > 0;
}

static int mark(capture_t *self, rows_out_t *out) {
    self->cursor.size = 0;
    binlog_place_put(&self->place, &self->cursor);
    return rows_mark(out, value_text((const char *) self->cursor.data, self->cursor.size)) && (more_at_hand(self) || rows_flush(out)) ? 1 : 0;
}

/* 1: go on; 0: the stage leaves; -1: an error. So do those that follow. */
static int end_transaction(capture_t *self, rows_out_t *out, err_t *err) {
    if (!self->inside)
        return 1;
    self->inside = false;
    if (binlog_place_done(&self->place, &self->gtid, err))
        return -1;
    return mark(self, out);
}

static int take_gtid(capture_t *self, const binlog_event_t *event, rows_out_t *out, err_t *err) {
    int result = end_transaction(self, out, err);
    if (result != 1)
        return result;
    if (binlog_gtid_read(&self->gtid, &self->single, event, err))
        return -1;
    const binlog_gtid_t *known = &self->place.under_way, *gtid = &self->gtid;
    bool again = self->place.changes && known->domain == gtid->domain && known->server == gtid->server && known->sequence == gtid->sequence;
    self->inside = true;
    self->wished = false;
    self->number = 0;
    self->skip = again ? self->place.changes : 0;
    self->time = event->time * NS_PER_S;
    self->cursor.size = 0;
    binlog_place_put(&self->place, &self->cursor);
    binlog_place_put_under_way(&self->cursor, gtid);
    self->cursor_size = self->cursor.size;
    return 1;
}

/* "table" is one of the address's database, if that names one. */
static bool is_table(const capture_t *self, const char *wanted, text_t schema, text_t table) {
    const char *dot = strchr(wanted, '.');
    if (dot)
        return text_equal(schema, text_make(wanted, (size_t) (dot - wanted))) && text_is(table, dot + 1);
    return text_is(table, wanted) && (!*self->database || text_is(schema, self->database));
}

static bool is_wanted(const capture_t *self, text_t schema, text_t table) {
    const option_list_t *tables = &self->settings->tables;
    for (size_t i = 0; i < tables->count; i++) {
        if (is_table(self, tables->items[i], schema, table))
            return true;
    }
    return !tables->count && (!*self->database || text_is(schema, self->database));
}

/* Each statement's rows have their table's description before them: mostly the same again. */
static int take_table(capture_t *self, const binlog_event_t *event, err_t *err) {
    uint64_t id = binlog_table_id(event);
    text_t key = text_make((const char *) &id, sizeof id);
    binlog_table_t *known = map_get(self->tables, key);
    if (known && known->raw.size == event->size && memcmp(known->raw.data, event->body, event->size) == 0)
        return 1;
    binlog_table_t *table = binlog_table_read(event, err);
    if (!table)
        return -1;
    table->wanted = is_wanted(self, text_of(table->schema), text_of(table->name));
    if (table->wanted && table->named && learn_json(self, table, err)) {
        binlog_table_free(table);
        return -1;
    }
    if (map_count(self->tables) >= TABLES_MAX)
        forget_tables(self);
    binlog_table_free(map_put(self->tables, key, table));
    return 1;
}

static int take_rows(capture_t *self, const binlog_event_t *event, rows_out_t *out, err_t *err) {
    uint64_t id = binlog_table_id(event);
    const binlog_table_t *table = map_get(self->tables, text_make((const char *) &id, sizeof id));
    binlog_rows_t rows;
    err_t reason = {{0}};
    if (!table || !self->inside)
        return err_set(err, "the server sent rows of a table that it had not described, or outside of a transaction");
    if (!table->wanted)
        return 1;
    if (!table->named) {
        rows_hopeless(out);
        return err_set(err, "changes of %s.%s were logged without the names of its columns, as binlog_row_metadata was not FULL: --reset begins anew",
                       table->schema, table->name);
    }
    int result = binlog_rows_begin(&rows, event, table, &self->space, &reason);
    if (result)
        return bad(self, out, reason.text);
    const char *op = rows.kind == 'I' ? "insert" : rows.kind == 'U' ? "update" : "delete";
    do {
        buf_clear(&self->old);
        buf_clear(&self->new);
        result = binlog_rows_next(&rows, &self->old, &self->new, &reason);
        if (result == -1 && !bad(self, out, reason.text))
            return 0;
        if (result == 1 && !count_change(self) && !emit(self, out, op, text_of(table->schema), text_of(table->name)))
            return 0;
    } while (result == 1);
    return 1;
}

static int take_truncate(capture_t *self, const binlog_query_t *query, const char *database, const char *table, rows_out_t *out) {
    text_t schema = *database ? text_of(database) : query->database;
    buf_clear(&self->old);
    buf_clear(&self->new);
    if (!is_wanted(self, schema, text_of(table)) || count_change(self))
        return 1;
    return emit(self, out, "truncate", schema, text_of(table));
}

/* Changes that a session logged as statements (its own binlog_format) are not there as rows. */
static bool changes_rows(text_t statement) {
    static const char *const words[] = {"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD DATA", "LOAD XML"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (binlog_begins(statement, words[i]))
            return true;
    }
    return false;
}

static bool ends_transaction(text_t statement) {
    return binlog_begins(statement, "COMMIT") || (binlog_begins(statement, "ROLLBACK") && !binlog_begins(statement, "ROLLBACK TO")) ||
           binlog_begins(statement, "XA COMMIT") || binlog_begins(statement, "XA ROLLBACK");
}

static int take_query(capture_t *self, const binlog_event_t *event, rows_out_t *out, err_t *err) {
    binlog_query_t query;
    buf_t database = {0}, table = {0};
    int result = 1;
    if (binlog_query_read(&query, event, &self->space, err))
        return -1;
    if (!self->inside)
        return 1;
    if (binlog_truncates(query.statement, &database, &table))
        result = take_truncate(self, &query, (const char *) database.data, (const char *) table.data, out);
    else if (changes_rows(query.statement))
        result = bad(self, out, "a change was logged as a statement, not as rows: a session has a binlog_format of its own");
    if (result == 1 && (self->single || ends_transaction(query.statement)))
        result = end_transaction(self, out, err);
    buf_fini(&database);
    buf_fini(&table);
    return result;
}

static int take_event(capture_t *self, const uint8_t *bytes, size_t size, rows_out_t *out, err_t *err) {
    binlog_event_t event;
    if (binlog_event_read(&event, bytes, size, &self->checksums, err))
        return -1;
    if (binlog_is_rows(event.type))
        return take_rows(self, &event, out, err);
    switch (event.type) {
    case BINLOG_GTID: return take_gtid(self, &event, out, err);
    case BINLOG_TABLE: return take_table(self, &event, err);
    case BINLOG_QUERY:
    case BINLOG_QUERY_COMPRESSED: return take_query(self, &event, out, err);
    case BINLOG_LOAD_QUERY: return bad(self, out, "a LOAD DATA was logged as a statement, not as rows: a session has a binlog_format of its own");
    case BINLOG_XID:
    case BINLOG_XA_PREPARE: return end_transaction(self, out, err);
    case BINLOG_FORMAT: forget_tables(self); return 1;
    default: return 1;
    }
}

static int gone(const capture_t *self, rows_out_t *out, const char *why, err_t *err) {
    buf_t place = {0};
    binlog_place_put(&self->place, &place);
    rows_hopeless(out);
    if (self->wished)
        err_set(err, "--gtid: the server's log does not have what follows %.200s (%.500s); SELECT @@gtid_binlog_pos tells where it is now", buf_text(&place), why);
    else
        err_set(err, "the server's log does not have what follows our position %.200s (%.500s): changes are lost; --reset begins anew, from now on",
                buf_text(&place), why);
    buf_fini(&place);
    return -1;
}

/* The server's log does not begin at our place, or never had it. */
static int stream_failed(const capture_t *self, rows_out_t *out, err_t *err) {
    mysql_link_fail(&self->stream, err);
    if (mysql_errno(self->stream.connection) != ERROR_OF_LOG || !(strstr(err->text, "GTID") || strstr(err->text, "purged")))
        return -1;
    return gone(self, out, err->text, err);
}

/* A log that was made anew: the server itself would wait until it has come so far once more. */
static int check_domains(const capture_t *self, const char *end, rows_out_t *out, err_t *err) {
    binlog_place_t known = {0};
    size_t i = 0;
    int result = binlog_place_read(&known, text_of(end), err);
    while (!result && i < self->place.count && binlog_place_has(&known, self->place.done[i].domain))
        i++;
    if (!result && i < self->place.count)
        result = gone(self, out, "its binary log was made anew, or is another's", err);
    binlog_place_fini(&known);
    return result;
}

static int read_log(capture_t *self, rows_out_t *out, err_t *err) {
    int result = 1;
    while (result == 1) {
        unsigned long size = mysql_net_read_packet(self->stream.connection);
        const uint8_t *bytes = self->stream.connection->net.read_pos;
        if (size == packet_error)
            return stream_failed(self, out, err);
        if (size < 1 || bytes[0] != 0)
            return err_set(err, "the server has ended the stream of changes");
        result = take_event(self, bytes + 1, size - 1, out, err);
    }
    return result;
}

static int read_changes(void *argument, value_t after, rows_out_t *out, err_t *err) {
    capture_t *self = argument;
    char *end = NULL;
    if (inspect(self, &end, err))
        return -1;
    bool now = after.type != VALUE_STRING && !self->settings->gtid;
    if (now && !self->begin)
        self->begin = mem_text(end);
    if (look_for_tables(self, now, err)) {
        mem_free(end);
        return -1;
    }
    const char *first = self->settings->gtid ? self->settings->gtid : self->begin;
    self->wished = self->settings->gtid && after.type != VALUE_STRING;
    int result = binlog_place_read(&self->place, after.type == VALUE_STRING ? text_make(after.text, after.size) : text_of(first), err);
    if (!result)
        result = check_domains(self, end, out, err);
    mem_free(end);
    self->inside = self->checksums = false;
    forget_tables(self);
    if (result || replicate(self, err))
        return -1;
    if (after.type != VALUE_STRING && mark(self, out) == 0)
        return 0;
    return read_log(self, out, err);
}

static int capture_open(void *argument, err_t *err) {
    return mysql_link_open(&((capture_t *) argument)->stream, err);
}

static void capture_close(void *argument) {
    capture_t *self = argument;
    if (self->replica)
        mariadb_rpl_close(self->replica);
    self->replica = NULL;
    mysql_link_close(&self->stream);
}

static void capture_interrupt(void *argument) {
    capture_t *self = argument;
    mysql_link_interrupt(&self->stream);
    mysql_link_interrupt(&self->catalog);
}

static void capture_free(void *argument) {
    capture_t *self = argument;
    mysql_link_fini(&self->stream);
    mysql_link_fini(&self->catalog);
    forget_tables(self);
    map_free(self->tables);
    binlog_place_fini(&self->place);
    mem_free(self->begin);
    buf_t *buffers[] = {&self->cursor, &self->old, &self->new, &self->space};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buf_fini(buffers[i]);
    mem_free(self);
}

static const rows_driver_t driver = {
    .open = capture_open,
    .close = capture_close,
    .read = read_changes,
    .interrupt = capture_interrupt,
    .free = capture_free,
};

void mysql_capture_new(rows_setup_t *rows, const source_setup_t *setup) {
    capture_t *self = mem_zero(sizeof *self);
    self->settings = setup->settings;
    mysql_link_init(&self->stream, setup);
    mysql_link_init(&self->catalog, setup);
    self->stream.silence = SILENCE_S;
    self->database = self->stream.address.database;
    self->tables = map_new();
    rows->driver = &driver;
    rows->self = self;
    rows->identity = mem_format("changes of the database %s", self->database);
    rows->column = "gtid";
    rows->endless = true;
    rows->committed = self->settings->commit_time;
}
