/* PostgreSQL by a query, asked at an interval. With a cursor each row is taken once: the query's $1 is the cursor's value that all before has
 * been passed on up to.
 *
 * Rows that commit out of order: a transaction may have drawn a lower number than one whose row can be seen already. So a poll notes the
 * greatest value it sees, and which transactions have begun (the snapshot's xmax); rows up to that value are taken when all of these
 * have ended (a later snapshot's xmin says so), and then no row below it can appear any more. */
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "poll_seen.h"
#include "postgres.h"

#define PENDING_INTERVAL (200 * NS_PER_MS)

typedef struct pg_poll {
    postgres_base_t base;
    pg_t *pg;
    loop_watch_t *timer;
    int64_t asked;
    bool ready, due, succeeded;        /* the connection is; a poll waits for that, or for room; one has worked */
    buf_t sql_look, sql_take;
    /* Columns of the present answer. */
    int columns, cursor_column, time_column;
    char *fault;                       /* why the answer cannot be used */
    /* The position: all rows up to `cursor` have been passed on, and those whose hashes are in `seen` of the ones with the value `group` behind it. */
    char *cursor, *group;
    poll_seen_t seen;
    /* What is waited for before rows up to `until` are taken. */
    char *until;
    uint64_t horizon;
    int64_t found;
} pg_poll_t;

static void poll_now(void *argument);
static void look(pg_poll_t *self);
static void reconnect(void *argument);

static void set(char **text, const char *value) {
    char *copy = mem_text(value);
    mem_free(*text);
    *text = copy;
}

static void poll_in(pg_poll_t *self, int64_t delay) {
    loop_remove(self->timer);
    self->timer = loop_timer(self->base.setup.loop, delay < 0 ? 0 : delay, 0, poll_now, self);
}

static void poll_again(pg_poll_t *self) {
    int64_t interval = self->base.settings->interval;
    if (self->until && interval > PENDING_INTERVAL)
        interval = PENDING_INTERVAL;
    poll_in(self, self->asked + interval - clock_monotonic());
}

static void fail(pg_poll_t *self, const char *reason) {
    loop_remove(self->timer);
    self->timer = NULL;
    pg_free(self->pg);
    self->pg = NULL;
    self->ready = false;
    postgres_retry(&self->base, reason, reconnect);
}

/* Statements that no waiting will make good, when they have never worked. */
static bool hopeless(const char *state) {
    static const char *const states[] = {"42601", "42703", "42883", "42P18", "42P02", "42804", "22P02"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        if (strcmp(states[i], state) == 0)
            return true;
    }
    return false;
}

static bool failed(pg_poll_t *self, const char *error, const char *state) {
    if (!error && !self->fault)
        return false;
    if (self->fault)
        source_failed(self->base.setup.host, "%s: %s", self->base.place, self->fault);
    else if (!self->succeeded && hopeless(state))
        source_failed(self->base.setup.host, "%s: --query: %s", self->base.place, error);
    else
        fail(self, error);
    return true;
}

/* One answer is used up. */
static void taken(pg_poll_t *self) {
    if (self->until || self->group) {
        if (self->until)
            set(&self->cursor, self->until);
        else
            set(&self->cursor, self->group);
        source_moved(self->base.setup.host);
    }
    mem_free(self->until);
    mem_free(self->group);
    self->until = self->group = NULL;
    poll_seen_clear(&self->seen);
    backoff_reset(&self->base.backoff);
    self->succeeded = true;
    source_healthy(self->base.setup.host);
    if (self->base.settings->once)
        source_ended(self->base.setup.host);
    else
        poll_again(self);
}

static void on_taken(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_poll_t *self = argument;
    if (!failed(self, error, state))
        taken(self);
}

/* Learns the columns from a first row. */
static void learn_columns(pg_poll_t *self, const PGresult *row) {
    const postgres_settings_t *settings = self->base.settings;
    const char *time_field = self->base.setup.format_settings->time_field;
    self->columns = PQnfields(row);
    self->cursor_column = self->time_column = -1;
    for (int i = 0; i < self->columns; i++) {
        for (int j = 0; j < i && !self->fault; j++) {
            if (strcmp(PQfname(row, i), PQfname(row, j)) == 0)
                self->fault = mem_format("--query: two columns are named %s: give one of them another name with AS", PQfname(row, i));
        }
        if (settings->cursor && strcmp(PQfname(row, i), settings->cursor) == 0)
            self->cursor_column = i;
        if (time_field && strcmp(PQfname(row, i), time_field) == 0)
            self->time_column = i;
    }
}

static text_t text_at(const PGresult *row, int column) {
    return text_make(PQgetvalue(row, 0, column), (size_t) PQgetlength(row, 0, column));
}

static uint64_t hash_row(const PGresult *row, int columns) {
    uint64_t hash = 0;
    for (int i = 0; i < columns; i++) {
        size_t size = (size_t) PQgetlength(row, 0, i);
        hash = XXH3_64bits_withSeed(PQgetvalue(row, 0, i), size, hash + size + (PQgetisnull(row, 0, i) ? UINT64_C(1) << 63 : 0));
    }
    return hash;
}

/* Keeps account of the cursor. False: this row was passed on before a restart. */
static bool count_row(pg_poll_t *self, const PGresult *row) {
    const char *value = PQgetvalue(row, 0, self->cursor_column);
    if (self->group && strcmp(self->group, value) != 0) {
        set(&self->cursor, self->group);
        poll_seen_clear(&self->seen);
    }
    if (!self->group || strcmp(self->group, value) != 0)
        set(&self->group, value);
    return poll_seen_add(&self->seen, hash_row(row, self->columns));
}

static void commit(pg_poll_t *self, const PGresult *row, const frame_builder_t *builder, size_t time_at) {
    value_t value;
    int64_t time;
    pack_cursor_t cursor = pack_cursor(builder->body.data + time_at, time_at ? builder->body.size - time_at : 0);
    if (time_at && pack_read_value(&cursor, &value) && value_to_time(value, &time) && time >= 0 && time <= EVENT_TIME_MAX)
        source_commit_at(self->base.setup.host, time);
    else
        source_commit(self->base.setup.host);
}

static void on_row(void *argument, const PGresult *row) {
    pg_poll_t *self = argument;
    if (self->columns < 0)
        learn_columns(self, row);
    if (self->fault || (self->cursor_column >= 0 && !count_row(self, row)))
        return;
    frame_builder_t *builder = source_begin(self->base.setup.host);
    size_t time_at = 0;
    pack_map(&builder->body, (uint32_t) self->columns);
    for (int i = 0; i < self->columns; i++) {
        pack_text(&builder->body, PQfname(row, i));
        if (i == self->time_column)
            time_at = builder->body.size;
        if (PQgetisnull(row, 0, i))
            pack_nil(&builder->body);
        else
            pg_put_value(&self->base.types, &builder->body, PQftype(row, i), text_at(row, i));
    }
    if (postgres_fits(&self->base, builder, self->base.place))
        commit(self, row, builder, time_at);
}

static void take(pg_poll_t *self) {
    const char *parameters[2] = {self->cursor, self->until};
    int count = !self->base.settings->cursor ? 0 : self->until ? 2 : 1;
    self->columns = -1;
    pg_ask(self->pg, buf_text(&self->sql_take), count, parameters, on_row, on_taken);
}

/* xmin, xmax, and the greatest value that can be seen. */
static void on_looked(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_poll_t *self = argument;
    if (failed(self, error, state))
        return;
    uint64_t xmin = strtoull(PQgetvalue(result, 0, 0), NULL, 10), xmax = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
    if (!self->until) {
        if (PQgetisnull(result, 0, 2)) {
            taken(self);
            return;
        }
        self->until = mem_text(PQgetvalue(result, 0, 2));
        self->horizon = xmax;
        self->found = self->asked;
    }
    self->succeeded = true;
    source_healthy(self->base.setup.host);
    if (xmin >= self->horizon && self->asked - self->found >= self->base.settings->hold)
        take(self);
    else
        poll_again(self);
}

static void look(pg_poll_t *self) {
    const char *parameters[] = {self->cursor};
    pg_ask(self->pg, buf_text(&self->sql_look), 1, parameters, NULL, on_looked);
}

static void poll_now(void *argument) {
    pg_poll_t *self = argument;
    self->timer = NULL;
    self->due = self->base.paused || !self->ready;
    if (self->due)
        return;
    self->asked = clock_monotonic();
    if (self->base.settings->cursor && self->base.settings->safe)
        look(self);
    else
        take(self);
}

static void on_types(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_poll_t *self = argument;
    if (error) {
        fail(self, error);
        return;
    }
    pg_types_load(&self->base.types, result);
    self->ready = true;
    poll_now(self);
}

/* Only rows that were passed on of the group under way are known: what was read of it begins again. */
static void begin_again(pg_poll_t *self) {
    poll_seen_begin_again(&self->seen);
    mem_free(self->group);
    mem_free(self->until);
    self->group = self->until = NULL;
}

static void on_up(void *argument) {
    pg_poll_t *self = argument;
    if (self->seen.passed_count)
        begin_again(self);
    mem_free(self->until); /* what was seen on another connection may have been another server's */
    self->until = NULL;
    pg_ask(self->pg, pg_types_query, 0, NULL, NULL, on_types);
}

static void on_down(void *argument, const char *reason) {
    fail(argument, reason);
}

static void reconnect(void *argument) {
    pg_poll_t *self = argument;
    self->pg = postgres_connect(&self->base, false, on_up, on_down);
    if (self->base.paused)
        pg_pause(self->pg);
}

static int poll_start(source_t *source, err_t *err) {
    source_patient(((pg_poll_t *) source)->base.setup.host);
    reconnect(source);
    return 0;
}

static void poll_pause(source_t *source) {
    pg_poll_t *self = (pg_poll_t *) source;
    self->base.paused = true;
    pg_pause(self->pg);
}

static void poll_resume(source_t *source) {
    pg_poll_t *self = (pg_poll_t *) source;
    self->base.paused = false;
    pg_resume(self->pg);
    if (self->due && self->ready)
        poll_in(self, 0);
}

static void poll_position(const source_t *source, buf_t *out) {
    const pg_poll_t *self = (const pg_poll_t *) source;
    pack_map(out, 5);
    pack_text(out, "mode");
    pack_text(out, "poll");
    pack_text(out, "database");
    pack_text(out, self->base.database);
    pack_text(out, "column");
    pack_text(out, self->base.settings->cursor ? self->base.settings->cursor : "");
    pack_text(out, "cursor");
    pack_text(out, self->cursor ? self->cursor : "");
    pack_text(out, "seen");
    poll_seen_put(&self->seen, out);
}

static int poll_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    pg_poll_t *self = (pg_poll_t *) source;
    const postgres_settings_t *settings = self->base.settings;
    text_t mode, database, column, cursor;
    value_t seen;
    if (!postgres_position_text(position, size, "mode", &mode) || !postgres_position_text(position, size, "database", &database) || !text_is(mode, "poll"))
        return err_set(err, "the stored position is none of --mode poll");
    if (!postgres_position_text(position, size, "column", &column) || !postgres_position_text(position, size, "cursor", &cursor) ||
        !pack_map_get(position, size, text_of("seen"), &seen) || !poll_seen_read(&self->seen, &seen))
        return err_set(err, "the stored position cannot be read");
    if (!text_is(database, self->base.database))
        return err_set(err, "it was made for the database %.*s", (int) database.size, database.data);
    if (!text_is(column, settings->cursor ? settings->cursor : ""))
        return err_set(err, "it was made with --cursor %.*s", (int) column.size, column.data);
    if (settings->cursor) {
        mem_free(self->cursor);
        self->cursor = mem_text_n(cursor.data, cursor.size);
    }
    return 0;
}

static void poll_free(source_t *source) {
    pg_poll_t *self = (pg_poll_t *) source;
    loop_remove(self->timer);
    pg_free(self->pg);
    buf_fini(&self->sql_look);
    buf_fini(&self->sql_take);
    mem_free(self->cursor);
    mem_free(self->group);
    mem_free(self->until);
    mem_free(self->fault);
    postgres_base_fini(&self->base);
    mem_free(self);
}

static const source_class_t class = {
    .start = poll_start,
    .pause = poll_pause,
    .resume = poll_resume,
    .position = poll_position,
    .restore = poll_restore,
    .free = poll_free,
};

/* The query within others, so that it need not be ordered. A semicolon at its end goes, a comment there does no harm. */
static void make_statements(pg_poll_t *self) {
    const postgres_settings_t *settings = self->base.settings;
    text_t query = text_trim(text_of(settings->query));
    if (query.size && query.data[query.size - 1] == ';')
        query = text_trim(text_make(query.data, query.size - 1));
    buf_t from = {0}, column = {0};
    buf_put_text(&from, " FROM (");
    buf_put(&from, query.data, query.size);
    buf_put_text(&from, "\n) AS polled");
    if (!settings->cursor) {
        buf_put(&self->sql_take, query.data, query.size);
    } else {
        buf_put_text(&column, "polled.");
        pg_put_identifier(&column, text_of(settings->cursor));
        const char *name = buf_text(&column), *query_text = buf_text(&from);
        buf_format(&self->sql_look,
                   "SELECT txid_snapshot_xmin(s.s), txid_snapshot_xmax(s.s), (SELECT %s::text%s WHERE %s IS NOT NULL ORDER BY %s DESC LIMIT 1) "
                   "FROM (SELECT txid_current_snapshot() AS s) AS s",
                   name, query_text, name, name);
        buf_format(&self->sql_take, "SELECT *%s WHERE %s%s ORDER BY %s", query_text, name, settings->safe ? " <= $2" : " IS NOT NULL", name);
    }
    buf_fini(&from);
    buf_fini(&column);
}

int pg_poll_open(source_t **source, const source_setup_t *setup, err_t *err) {
    pg_poll_t *self = mem_zero(sizeof *self);
    postgres_base_init(&self->base, setup, &class);
    self->cursor = mem_text(self->base.settings->initial);
    make_statements(self);
    *source = &self->base.source;
    return 0;
}
