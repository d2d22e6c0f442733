/* Connections to PostgreSQL: libpq's asynchronous calls, driven by the loop. */
#include "pg.h"

#include <openssl/ssl.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/memory.h"

/* What the rest of the program relies on, whatever the role or the database has set. */
#define SESSION                                                                                                                                    \
    "SET datestyle TO 'ISO, YMD'; SET intervalstyle TO 'iso_8601'; SET timezone TO 'UTC'; SET extra_float_digits TO 1; SET bytea_output TO 'hex'; " \
    "SET statement_timeout TO 0; SET lock_timeout TO 0; SET idle_in_transaction_session_timeout TO 0"

typedef enum phase { PHASE_CONNECTING, PHASE_READY, PHASE_ASKED, PHASE_COPY, PHASE_DOWN } phase_t;

struct pg {
    pg_setup_t setup;
    PGconn *connection;
    loop_watch_t *watch, *timer;
    int fd;
    phase_t phase;
    bool paused, busy, freed;
    bool starting;                 /* the session's own statements are under way */
    int64_t heard;
    pg_row_fn *row;
    pg_done_fn *done;
    void (*data)(void *argument, const char *bytes, size_t size);
    void (*notified)(void *argument, const char *channel);
    PGresult *answer;              /* the last one of the statements under way */
    char *error;                   /* of the first that failed */
    char state[6];
};

static void on_ready(void *argument, uint32_t events);
static void pump(void *argument);

static void dispose(pg_t *self) {
    loop_undefer(self->setup.loop, pump, self);
    loop_remove(self->watch);
    loop_remove(self->timer);
    PQclear(self->answer);
    PQfinish(self->connection);
    mem_free(self->error);
    mem_free(self);
}

void pg_free(pg_t *self) {
    if (!self)
        return;
    self->freed = true;
    if (!self->busy)
        dispose(self);
}

/* libpq's words on one line. */
static char *one_line(const char *text) {
    char *line = mem_text(text ? text : "");
    size_t size = strlen(line);
    while (size && strchr("\n ", line[size - 1]))
        line[--size] = 0;
    for (char *c = line; *c; c++) {
        if (*c == '\n' || *c == '\t')
            *c = ' ';
    }
    text_make_valid(line);
    return line;
}

static void down(pg_t *self, const char *reason) {
    if (self->phase == PHASE_DOWN || self->freed)
        return;
    self->phase = PHASE_DOWN;
    loop_remove(self->watch);
    loop_remove(self->timer);
    self->watch = self->timer = NULL;
    self->setup.down(self->setup.argument, reason);
}

/* Without what is the same in all of libpq's words, which the place says already; an attempt without TLS after one with it adds a line. */
static void put_line(buf_t *out, text_t line) {
    static const char failed[] = " failed: ";
    const char *mark = line.size ? memmem(line.data, line.size, failed, sizeof failed - 1) : NULL;
    if (mark && text_starts(line.data, "connection to server "))
        line = text_make(mark + sizeof failed - 1, line.size - (size_t) (mark + sizeof failed - 1 - line.data));
    if (line.size > 8 && memcmp(line.data, "FATAL:  ", 8) == 0)
        line = text_make(line.data + 8, line.size - 8);
    line = text_trim(line);
    if (!line.size || (out->size && memmem(out->data, out->size, line.data, line.size)))
        return;
    buf_put_text(out, out->size ? "; " : "");
    buf_put(out, line.data, line.size);
}

static void lost(pg_t *self) {
    buf_t words = {0};
    text_t rest = text_of(PQerrorMessage(self->connection)), line;
    while (text_split(&rest, '\n', &line))
        put_line(&words, line);
    if (strstr(buf_text(&words), "server does not support SSL"))
        buf_put_text(&words, ": leave --tls-ca and sslmode out, or turn ssl on there");
    char *reason = one_line(buf_text(&words));
    down(self, *reason ? reason : "the connection was lost");
    mem_free(reason);
    buf_fini(&words);
}

/* The socket may be another one after each step of connecting. */
static void watch(pg_t *self, uint32_t events) {
    int fd = PQsocket(self->connection);
    if (self->watch && fd == self->fd) {
        loop_fd_events(self->watch, events);
        return;
    }
    loop_remove(self->watch);
    self->fd = fd;
    self->watch = fd >= 0 ? loop_fd(self->setup.loop, fd, events, on_ready, self) : NULL;
}

static void flush(pg_t *self) {
    int left = PQflush(self->connection);
    if (left < 0)
        lost(self);
    else
        watch(self, (self->paused ? 0 : EPOLLIN) | (left ? EPOLLOUT : 0));
}

static void connected(pg_t *self) {
    loop_remove(self->timer);
    self->timer = NULL;
    self->phase = PHASE_READY;
    PQsetnonblocking(self->connection, 1);
    self->starting = true;
    pg_ask(self, SESSION, 0, NULL, NULL, NULL);
}

static void connecting(pg_t *self) {
    PostgresPollingStatusType status = PQconnectPoll(self->connection);
    if (status == PGRES_POLLING_OK) {
        watch(self, EPOLLIN);
        connected(self);
    } else if (status == PGRES_POLLING_FAILED) {
        lost(self);
    } else {
        /* libpq closes a socket and opens another, maybe under the same number: always watched anew. */
        loop_remove(self->watch);
        self->watch = NULL;
        watch(self, status == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT);
    }
}

static void note_error(pg_t *self, const PGresult *result) {
    if (self->error)
        return;
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY), *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    char *whole = text ? mem_format("%s%s%s", text, hint ? "; " : "", hint ? hint : "") : mem_text(PQerrorMessage(self->connection));
    snprintf(self->state, sizeof self->state, "%s", state ? state : "");
    self->error = one_line(whole);
    mem_free(whole);
}

static void finish(pg_t *self) {
    PGresult *answer = self->answer;
    char *error = self->error, state[6];
    memcpy(state, self->state, sizeof state);
    self->answer = NULL;
    self->error = NULL;
    self->phase = PHASE_READY;
    bool starting = self->starting;
    self->starting = false;
    if (error && (starting || PQstatus(self->connection) != CONNECTION_OK))
        down(self, error);
    else if (starting)
        self->setup.up(self->setup.argument);
    else
        self->done(self->setup.argument, answer, error, error ? state : "");
    PQclear(answer);
    mem_free(error);
}

static void take_result(pg_t *self, PGresult *result) {
    switch (PQresultStatus(result)) {
    case PGRES_SINGLE_TUPLE:
        self->row(self->setup.argument, result);
        PQclear(result);
        break;
    case PGRES_COPY_BOTH:
        PQclear(result);
        self->phase = PHASE_COPY;
        break;
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        PQclear(self->answer);
        self->answer = result;
        break;
    default:
        note_error(self, result);
        PQclear(result);
    }
}

/* An end of copying: the server has left, or failed. */
static void copy_ended(pg_t *self) {
    PGresult *result = PQgetResult(self->connection);
    if (result)
        note_error(self, result);
    PQclear(result);
    if (self->error)
        down(self, self->error);
    else
        lost(self);
}

static bool step_copy(pg_t *self) {
    char *bytes;
    int size = PQgetCopyData(self->connection, &bytes, 1);
    if (size == 0)
        return false;
    if (size < 0) {
        copy_ended(self);
        return false;
    }
    self->data(self->setup.argument, bytes, (size_t) size);
    PQfreemem(bytes);
    return true;
}

static bool step_answer(pg_t *self) {
    if (PQisBusy(self->connection))
        return false;
    PGresult *result = PQgetResult(self->connection);
    if (result)
        take_result(self, result);
    else
        finish(self);
    return true;
}

static void take_notifications(pg_t *self) {
    PGnotify *note;
    while (!self->freed && (note = PQnotifies(self->connection))) {
        if (self->notified)
            self->notified(self->setup.argument, note->relname);
        PQfreemem(note);
    }
}

static bool wanted(const pg_t *self) {
    return !self->freed && !self->paused && (self->phase == PHASE_ASKED || self->phase == PHASE_COPY);
}

/* What the TLS library has decrypted and libpq had no room for is announced by no descriptor. */
static bool hidden_input(const pg_t *self) {
    SSL *tls = PQgetssl(self->connection);
    return tls && SSL_pending(tls) > 0 && PQconsumeInput(self->connection);
}

/* Deals with what has been read, as far as it is wanted. */
static void take(pg_t *self) {
    do {
        bool more = true;
        while (more && wanted(self))
            more = self->phase == PHASE_COPY ? step_copy(self) : step_answer(self);
    } while (wanted(self) && hidden_input(self));
    if (!self->freed && self->phase != PHASE_DOWN && self->phase != PHASE_CONNECTING)
        take_notifications(self);
}

/* The end of each entry from the loop: callbacks may have freed us. */
static void leave(pg_t *self) {
    self->busy = false;
    if (self->freed)
        dispose(self);
}

static void pump(void *argument) {
    pg_t *self = argument;
    self->busy = true;
    take(self);
    leave(self);
}

static void on_ready(void *argument, uint32_t events) {
    pg_t *self = argument;
    self->busy = true;
    self->heard = clock_monotonic();
    if (self->phase == PHASE_CONNECTING) {
        connecting(self);
    } else {
        if (events & EPOLLOUT)
            flush(self);
        bool gone = self->phase != PHASE_DOWN && !self->freed && (events & ~(uint32_t) EPOLLOUT) && !PQconsumeInput(self->connection);
        take(self);
        if (gone)
            lost(self);
    }
    leave(self);
}

static void on_timeout(void *argument) {
    pg_t *self = argument;
    self->timer = NULL;
    self->busy = true;
    down(self, "the server does not answer in the time that --connect-timeout allows");
    leave(self);
}

static void on_started(void *argument) {
    pg_t *self = argument;
    self->busy = true;
    self->timer = NULL;
    if (PQstatus(self->connection) == CONNECTION_BAD) {
        lost(self);
    } else {
        self->timer = loop_timer(self->setup.loop, self->setup.timeout, 0, on_timeout, self);
        watch(self, EPOLLOUT);
    }
    leave(self);
}

pg_t *pg_new(const pg_setup_t *setup) {
    pg_t *self = mem_zero(sizeof *self);
    self->setup = *setup;
    self->fd = -1;
    self->heard = clock_monotonic();
    char *mode = setup->tls_ca ? pg_url_part(setup->url, "sslmode") : NULL;
    const char *names[24], *values[24];
    size_t n = 0;
#define PUT(name, value) (names[n] = (name), values[n++] = (value))
    PUT("keepalives_idle", "30"); /* what stands before dbname the URL may override */
    PUT("keepalives_interval", "10");
    PUT("keepalives_count", "3");
    PUT("tcp_user_timeout", "60000");
    PUT("fallback_application_name", "ingest");
    PUT("dbname", setup->url);
    PUT("client_encoding", "UTF8");
    if (setup->password)
        PUT("password", setup->password);
    if (setup->tls_ca) {
        PUT("sslrootcert", setup->tls_ca);
        PUT("sslmode", mode ? mode : "verify-full");
    }
    if (setup->tls_cert)
        PUT("sslcert", setup->tls_cert);
    if (setup->tls_key)
        PUT("sslkey", setup->tls_key);
    if (setup->replication)
        PUT("replication", "database");
    PUT(NULL, NULL);
#undef PUT
    self->connection = PQconnectStartParams(names, values, 1);
    ASSERT(self->connection);
    mem_free(mode);
    self->timer = loop_timer(setup->loop, 0, 0, on_started, self);
    return self;
}

static void asked(pg_t *self, int sent) {
    if (!sent)
        note_error(self, NULL);
    self->phase = PHASE_ASKED;
    flush(self);
}

void pg_ask(pg_t *self, const char *sql, int count, const char *const *parameters, pg_row_fn *row, pg_done_fn *done) {
    if (self->phase == PHASE_DOWN)
        return;
    ASSERT(self->phase == PHASE_READY);
    self->row = row;
    self->done = done;
    int sent = count ? PQsendQueryParams(self->connection, sql, count, NULL, parameters, NULL, NULL, 0) : PQsendQuery(self->connection, sql);
    if (sent && row)
        PQsetSingleRowMode(self->connection);
    asked(self, sent);
}

void pg_copy(pg_t *self, const char *sql, void (*data)(void *argument, const char *bytes, size_t size)) {
    self->data = data;
    asked(self, PQsendQuery(self->connection, sql));
}

void pg_send(pg_t *self, const void *bytes, size_t size) {
    if (self->phase != PHASE_COPY)
        return;
    if (PQputCopyData(self->connection, bytes, (int) size) < 0)
        return; /* reading will tell */
    if (PQflush(self->connection) > 0)
        watch(self, (self->paused ? 0 : EPOLLIN) | EPOLLOUT);
}

void pg_on_notify(pg_t *self, void (*notified)(void *argument, const char *channel)) {
    self->notified = notified;
}

void pg_pause(pg_t *self) {
    if (!self || self->paused)
        return;
    self->paused = true;
    if (self->phase != PHASE_DOWN && self->phase != PHASE_CONNECTING && self->watch)
        loop_fd_events(self->watch, PQflush(self->connection) > 0 ? EPOLLOUT : 0);
}

void pg_resume(pg_t *self) {
    if (!self || !self->paused)
        return;
    self->paused = false;
    self->heard = clock_monotonic(); /* nobody listened */
    if (self->phase == PHASE_DOWN || self->phase == PHASE_CONNECTING)
        return;
    if (self->watch)
        loop_fd_events(self->watch, EPOLLIN | (PQflush(self->connection) > 0 ? EPOLLOUT : 0));
    loop_defer(self->setup.loop, pump, self); /* what libpq has read already, no descriptor will announce */
}

int64_t pg_heard(const pg_t *self) {
    return self->heard;
}

PGconn *pg_connection(const pg_t *self) {
    return self->connection;
}

int pg_check_url(const char *url, err_t *err) {
    char *words = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &words);
    if (!options) {
        bool secrets = strchr(url, '@') || strcasestr(url, "password");
        char *why = one_line(words);
        err_set(err, "an address of PostgreSQL looks like postgres://user@host:5432/database?parameter=value%s%s", secrets ? "" : ": ", secrets ? "" : why);
        mem_free(why);
        PQfreemem(words);
        return -1;
    }
    PQconninfoFree(options);
    return 0;
}

char *pg_url_part(const char *url, const char *name) {
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    char *value = NULL;
    for (PQconninfoOption *option = options; option && option->keyword; option++) {
        if (strcmp(option->keyword, name) == 0 && option->val && *option->val)
            value = mem_text(option->val);
    }
    PQconninfoFree(options);
    return value;
}

static void put_doubled(buf_t *out, text_t text, char quote) {
    buf_put_byte(out, (uint8_t) quote);
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == quote)
            buf_put_byte(out, (uint8_t) quote);
        buf_put_byte(out, (uint8_t) text.data[i]);
    }
    buf_put_byte(out, (uint8_t) quote);
}

void pg_put_identifier(buf_t *out, text_t name) {
    put_doubled(out, name, '"');
}

void pg_put_literal(buf_t *out, text_t text) {
    if (text.size && memchr(text.data, '\\', text.size)) /* right whatever standard_conforming_strings says */
        buf_put_byte(out, 'E');
    for (size_t i = 0, from = 0; i <= text.size; i++) {
        if (i == 0)
            buf_put_byte(out, '\'');
        if (i == text.size || text.data[i] == '\'' || text.data[i] == '\\') {
            buf_put(out, text.data + from, i - from);
            if (i < text.size) {
                buf_put_byte(out, (uint8_t) text.data[i]);
                buf_put_byte(out, (uint8_t) text.data[i]);
            }
            from = i + 1;
        }
    }
    buf_put_byte(out, '\'');
}
