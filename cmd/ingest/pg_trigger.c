/* PostgreSQL by triggers: each wanted table gets one that notes changes in the table ingest.changes, in the transaction that makes them, and a
 * notification, which is no more than a reason to look.
 *
 * Transactions commit in another order than they note. What is taken are the changes of all transactions below a bound that have ended (a
 * snapshot's xmin), in the order of their numbers: two changes of one row have numbers in the order in which they happened, as the second has waited
 * for the first one's transaction; and no transaction below the bound can note anything any more. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"
#include "postgres.h"

#define WAKE_DELAY (5 * NS_PER_MS)         /* notifications come in swarms */
#define PENDING_INTERVAL (200 * NS_PER_MS)

typedef struct pg_trigger {
    postgres_base_t base;
    pg_t *pg;
    loop_watch_t *timer;
    int64_t looked;                    /* monotonic ns */
    bool ready, busy, due, woken;      /* the connection is; something is asked; a look waits for room, or for what is asked */
    bool pending;                      /* changes are noted whose transactions are not all over */
    /* The position: all transactions below `horizon` are passed on, and of those below `bound` all changes up to the number `id`. */
    char *system;                      /* identifier of the server's data: transactions are numbered there */
    uint64_t horizon, bound, id;
    uint64_t safe, forgotten;          /* transactions below are safe, and deleted */
} pg_trigger_t;

static const char note_function[] =
    "CREATE OR REPLACE FUNCTION ingest.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $note$ BEGIN "
    "INSERT INTO ingest.changes (schema, name, op, new, old) VALUES (TG_TABLE_SCHEMA, TG_TABLE_NAME, lower(TG_OP), CASE WHEN TG_OP IN ('INSERT', "
    "'UPDATE') THEN to_json(NEW) END, CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN to_json(OLD) END); NOTIFY ingest_changes; RETURN NULL; END $note$";

static const char make_table[] =
    "CREATE SCHEMA IF NOT EXISTS ingest; CREATE TABLE IF NOT EXISTS ingest.changes (id bigserial PRIMARY KEY, xid bigint NOT NULL DEFAULT txid_current(), "
    "time timestamptz NOT NULL DEFAULT clock_timestamp(), schema text NOT NULL, name text NOT NULL, op text NOT NULL, new json, old json); "
    "CREATE INDEX IF NOT EXISTS changes_xid ON ingest.changes (xid); ";

static const char remove_all[] =
    "DO $do$ BEGIN DROP FUNCTION IF EXISTS ingest.note() CASCADE; DROP TABLE IF EXISTS ingest.changes; BEGIN DROP SCHEMA IF EXISTS ingest; EXCEPTION WHEN "
    "dependent_objects_still_exist THEN NULL; END; END $do$";

static void look(void *argument);
static void reconnect(void *argument);

static void look_in(pg_trigger_t *self, int64_t delay) {
    loop_remove(self->timer);
    self->timer = loop_timer(self->base.setup.loop, delay < 0 ? 0 : delay, 0, look, self);
}

static void fail(pg_trigger_t *self, const char *reason) {
    loop_remove(self->timer);
    self->timer = NULL;
    pg_free(self->pg);
    self->pg = NULL;
    self->ready = self->busy = false;
    if (self->base.settings->drop)
        source_failed(self->base.setup.host, "%s: %s", self->base.place, reason);
    else
        postgres_retry(&self->base, reason, reconnect);
}

static void ask(pg_trigger_t *self, const char *sql, int count, const char *const *parameters, pg_row_fn *row, pg_done_fn *done) {
    self->busy = true;
    pg_ask(self->pg, sql, count, parameters, row, done);
}

/* The answer is in: false when it is a failure. */
static bool answered(pg_trigger_t *self, const char *error) {
    self->busy = false;
    if (error)
        fail(self, error);
    return !error;
}

static void look_again(pg_trigger_t *self) {
    int64_t interval = self->pending && self->base.settings->interval > PENDING_INTERVAL ? PENDING_INTERVAL : self->base.settings->interval;
    if (self->woken || self->due)
        look_in(self, WAKE_DELAY);
    else
        look_in(self, self->looked + interval - clock_monotonic());
}

static void on_forgotten(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_trigger_t *self = argument;
    if (answered(self, error))
        look_again(self);
}

/* What is safe goes from the table. */
static void forget(pg_trigger_t *self) {
    char number[32];
    const char *parameters[] = {number};
    if (!source_keeps_position(self->base.setup.host))
        self->safe = self->horizon;
    if (self->safe <= self->forgotten) {
        look_again(self);
        return;
    }
    self->forgotten = self->safe;
    snprintf(number, sizeof number, "%llu", (unsigned long long) self->safe);
    ask(self, "DELETE FROM ingest.changes WHERE xid < $1", 1, parameters, NULL, on_forgotten);
}

static void on_taken(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_trigger_t *self = argument;
    if (!answered(self, error))
        return;
    if (self->bound > self->horizon) {
        self->horizon = self->bound;
        source_moved(self->base.setup.host);
    }
    self->id = 0;
    backoff_reset(&self->base.backoff);
    source_healthy(self->base.setup.host);
    forget(self);
}

enum { ID, XID, TIME, SCHEMA, NAME, OP, NEW, OLD };

static text_t text_at(const PGresult *row, int column) {
    return text_make(PQgetvalue(row, 0, column), (size_t) PQgetlength(row, 0, column));
}

static void put_text(buf_t *out, const char *name, const PGresult *row, int column) {
    pack_text(out, name);
    pg_put_text(out, text_at(row, column));
}

static void on_row(void *argument, const PGresult *row) {
    pg_trigger_t *self = argument;
    source_host_t *host = self->base.setup.host;
    bool new = !PQgetisnull(row, 0, NEW), old = !PQgetisnull(row, 0, OLD);
    frame_builder_t *builder = source_begin(host);
    buf_t *out = &builder->body;
    pack_map(out, 5u + new + old);
    put_text(out, "op", row, OP);
    put_text(out, "schema", row, SCHEMA);
    put_text(out, "table", row, NAME);
    pack_text(out, "xid");
    pack_uint(out, strtoull(PQgetvalue(row, 0, XID), NULL, 10));
    self->id = strtoull(PQgetvalue(row, 0, ID), NULL, 10);
    pack_text(out, "change");
    pack_uint(out, self->id);
    for (int column = NEW; column <= OLD; column++) {
        if (PQgetisnull(row, 0, column))
            continue;
        pack_text(out, column == NEW ? "new" : "old");
        pg_put_value(&self->base.types, out, 114, text_at(row, column)); /* json */
    }
    if (!postgres_fits(&self->base, builder, PQgetvalue(row, 0, NAME)))
        return;
    int64_t time = strtoll(PQgetvalue(row, 0, TIME), NULL, 10);
    if (time >= 0 && time <= EVENT_TIME_MAX / NS_PER_US)
        source_commit_at(host, time * NS_PER_US);
    else
        source_commit(host);
}

static void take(pg_trigger_t *self) {
    char horizon[32], bound[32], id[32];
    const char *parameters[] = {horizon, bound, id};
    snprintf(horizon, sizeof horizon, "%llu", (unsigned long long) self->horizon);
    snprintf(bound, sizeof bound, "%llu", (unsigned long long) self->bound);
    snprintf(id, sizeof id, "%llu", (unsigned long long) self->id);
    ask(self, "SELECT id, xid, (extract(epoch FROM time) * 1000000)::bigint, schema, name, op, new, old FROM ingest.changes WHERE xid >= $1 AND xid < $2 "
              "AND id > $3 ORDER BY id", 3, parameters, on_row, on_taken);
}

/* The next bound, whether anything was noted below it, and whether there is more behind it. */
static void on_looked(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_trigger_t *self = argument;
    if (!answered(self, error))
        return;
    self->pending = *PQgetvalue(result, 0, 1) == 't';
    uint64_t bound = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
    if (bound > self->bound)
        self->bound = bound;
    take(self);
}

static void look(void *argument) {
    pg_trigger_t *self = argument;
    self->timer = NULL;
    self->due = self->base.paused || !self->ready || self->busy;
    if (self->due)
        return;
    self->looked = clock_monotonic();
    self->woken = false;
    if (self->id) { /* a batch was begun: it is finished with its own bound */
        take(self);
        return;
    }
    ask(self, "SELECT s.xmin, EXISTS (SELECT FROM ingest.changes WHERE xid >= s.xmin) FROM (SELECT txid_snapshot_xmin(txid_current_snapshot()) AS xmin) "
              "AS s", 0, NULL, NULL, on_looked);
}

static void on_notified(void *argument, const char *channel) {
    pg_trigger_t *self = argument;
    if (!self->ready || self->woken)
        return;
    self->woken = true;
    if (!self->busy && !self->base.paused)
        look_in(self, WAKE_DELAY);
}

static void on_listening(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_trigger_t *self = argument;
    if (!answered(self, error))
        return;
    const char *system = PQgetvalue(result, 0, 0);
    if (*self->system && strcmp(self->system, system) != 0) {
        source_failed(self->base.setup.host, "%s: this is another server, or its data were made anew: the position of --state is none of it; --reset begins "
                      "anew", self->base.place);
        return;
    }
    mem_free(self->system);
    self->system = mem_text(system);
    self->ready = true;
    look(self);
}

static void on_installed(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_trigger_t *self = argument;
    char *missing = error ? postgres_missing(error, state) : NULL;
    if (answered(self, missing ? missing : error))
        ask(self, "LISTEN ingest_changes; SELECT system_identifier FROM pg_control_system()", 0, NULL, NULL, on_listening);
    mem_free(missing);
}

static void on_removed(void *argument, const PGresult *result, const char *error, const char *state) {
    pg_trigger_t *self = argument;
    if (!answered(self, error))
        return;
    log_info("%s: the triggers and ingest.changes are removed", self->base.place);
    source_ended(self->base.setup.host);
}

/* Nothing is locked where all is there already. */
static void put_install(buf_t *sql, const option_list_t *tables) {
    buf_put_text(sql, make_table);
    buf_put_text(sql, note_function);
    for (size_t i = 0; i < tables->count; i++) {
        buf_t name = {0};
        postgres_put_table(&name, tables->items[i]);
        buf_put_text(sql, "; DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgname = 'ingest_note' AND tgrelid = ");
        pg_put_literal(sql, text_of(buf_text(&name)));
        buf_format(sql, "::regclass) THEN CREATE TRIGGER ingest_note AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE PROCEDURE ingest.note(); "
                        "CREATE TRIGGER ingest_note_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE PROCEDURE ingest.note(); END IF; END $do$",
                   buf_text(&name), buf_text(&name));
        buf_fini(&name);
    }
}

static void on_up(void *argument) {
    pg_trigger_t *self = argument;
    buf_t sql = {0};
    if (self->base.settings->drop) {
        ask(self, remove_all, 0, NULL, NULL, on_removed);
        return;
    }
    pg_on_notify(self->pg, on_notified);
    put_install(&sql, &self->base.settings->tables);
    ask(self, buf_text(&sql), 0, NULL, NULL, on_installed);
    buf_fini(&sql);
}

static void on_down(void *argument, const char *reason) {
    fail(argument, reason);
}

static void reconnect(void *argument) {
    pg_trigger_t *self = argument;
    self->pg = postgres_connect(&self->base, false, on_up, on_down);
    if (self->base.paused)
        pg_pause(self->pg);
}

static int trigger_start(source_t *source, err_t *err) {
    source_patient(((pg_trigger_t *) source)->base.setup.host);
    reconnect(source);
    return 0;
}

static void trigger_pause(source_t *source) {
    pg_trigger_t *self = (pg_trigger_t *) source;
    self->base.paused = true;
    pg_pause(self->pg);
}

static void trigger_resume(source_t *source) {
    pg_trigger_t *self = (pg_trigger_t *) source;
    self->base.paused = false;
    pg_resume(self->pg);
    if (self->ready && !self->busy)
        look_in(self, 0);
}

static void trigger_position(const source_t *source, buf_t *out) {
    const pg_trigger_t *self = (const pg_trigger_t *) source;
    pack_map(out, 6);
    pack_text(out, "mode");
    pack_text(out, "trigger");
    pack_text(out, "database");
    pack_text(out, self->base.database);
    pack_text(out, "system");
    pack_text(out, self->system);
    pack_text(out, "horizon");
    pack_uint(out, self->horizon);
    pack_text(out, "bound");
    pack_uint(out, self->bound);
    pack_text(out, "id");
    pack_uint(out, self->id);
}

static int trigger_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    pg_trigger_t *self = (pg_trigger_t *) source;
    text_t mode, database, system;
    if (!postgres_position_text(position, size, "mode", &mode) || !text_is(mode, "trigger"))
        return err_set(err, "the stored position is none of --mode trigger");
    if (!postgres_position_text(position, size, "database", &database) || !postgres_position_text(position, size, "system", &system) ||
        !postgres_position_uint(position, size, "horizon", &self->horizon) || !postgres_position_uint(position, size, "bound", &self->bound) ||
        !postgres_position_uint(position, size, "id", &self->id))
        return err_set(err, "the stored position cannot be read");
    if (!text_is(database, self->base.database))
        return err_set(err, "it was made for the database %.*s", (int) database.size, database.data);
    mem_free(self->system);
    self->system = mem_text_n(system.data, system.size);
    source_moved(self->base.setup.host);
    return 0;
}

static void trigger_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    pg_trigger_t *self = (pg_trigger_t *) source;
    uint64_t horizon;
    if (postgres_position_uint(position, size, "horizon", &horizon) && horizon > self->safe)
        self->safe = horizon;
}

static void trigger_free(source_t *source) {
    pg_trigger_t *self = (pg_trigger_t *) source;
    loop_remove(self->timer);
    pg_free(self->pg);
    mem_free(self->system);
    postgres_base_fini(&self->base);
    mem_free(self);
}

static const source_class_t class = {
    .start = trigger_start,
    .pause = trigger_pause,
    .resume = trigger_resume,
    .position = trigger_position,
    .restore = trigger_restore,
    .acknowledge = trigger_acknowledge,
    .free = trigger_free,
};

int pg_trigger_open(source_t **source, const source_setup_t *setup, err_t *err) {
    if (source_trial(setup->host))
        return err_set(err, "--sample: --mode trigger would leave triggers in the database; --mode cdc and --mode poll leave nothing");
    pg_trigger_t *self = mem_zero(sizeof *self);
    postgres_base_init(&self->base, setup, &class);
    self->system = mem_text("");
    *source = &self->base.source;
    return 0;
}
