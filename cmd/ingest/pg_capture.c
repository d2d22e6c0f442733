/* PostgreSQL by change data capture: connections, publication and slot. Two connections: one for statements (the catalog, the snapshot, how far
 * the server is) and one for replication. Whatever goes wrong closes both, and after a wait all begins again from the position. */
#include "pg_capture.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#define STATUS_INTERVAL (10 * NS_PER_S)
#define SILENCE (60 * NS_PER_S)

static void connect_catalog(void *argument);

static void disconnect(capture_t *self) {
    loop_remove(self->tick);
    self->tick = NULL;
    pg_free(self->stream);
    pg_free(self->catalog);
    self->stream = self->catalog = NULL;
    self->streaming = self->catalog_ready = self->types_wanted = self->temporary = false;
}

void capture_lost(capture_t *self, const char *reason) {
    disconnect(self);
    if (self->base.settings->drop)
        source_failed(self->base.setup.host, "%s: %s", self->base.place, reason);
    else
        postgres_retry(&self->base, reason, connect_catalog);
}

static void fail(capture_t *self, const char *reason) {
    disconnect(self);
    source_failed(self->base.setup.host, "%s: %s", self->base.place, reason);
}

static void on_down(void *argument, const char *reason) {
    capture_lost(argument, reason);
}

/* The server's end, and how far behind it we are; also what keeps the server from taking us for dead, paused or not. */
static void on_end(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    uint64_t end;
    if (error) {
        capture_lost(self, error);
        return;
    }
    self->catalog_ready = true;
    if (stream_read_lsn(PQgetvalue(result, 0, 0), &end))
        metric_set(self->lag, end > self->durable ? (double) (end - self->durable) : 0);
}

static void on_tick(void *argument) {
    capture_t *self = argument;
    stream_status(self, true);
    if (!self->base.paused && !self->types_wanted && clock_monotonic() - pg_heard(self->stream) > self->silence) {
        capture_lost(self, "the server has been silent for too long");
        return;
    }
    if (self->catalog_ready) {
        self->catalog_ready = false;
        pg_ask(self->catalog, "SELECT pg_current_wal_lsn()", 0, NULL, NULL, on_end);
    }
}

static void begin_stream(capture_t *self) {
    self->known = true;
    source_moved(self->base.setup.host);
    stream_begin(self);
    self->tick = loop_timer(self->base.setup.loop, 0, self->status_interval, on_tick, self);
}

static void on_dropped_temporary(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error)
        capture_lost(self, error);
    else
        begin_stream(self);
}

void capture_stream(capture_t *self) {
    if (source_trial(self->base.setup.host))
        return; /* there is no more to show without leaving something in the database */
    if (!self->temporary) {
        begin_stream(self);
        return;
    }
    char *sql = mem_format("DROP_REPLICATION_SLOT \"%s_snapshot\"", self->slot);
    self->temporary = false;
    pg_ask(self->stream, sql, 0, NULL, NULL, on_dropped_temporary);
    mem_free(sql);
}

/* slot_name, consistent_point, snapshot_name, output_plugin */
static void on_slot(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    uint64_t lsn;
    if (error) {
        capture_lost(self, error);
        return;
    }
    if (!stream_read_lsn(PQgetvalue(result, 0, 1), &lsn)) {
        capture_lost(self, "the server's answer to CREATE_REPLICATION_SLOT is none");
        return;
    }
    if (!self->temporary)
        log_info("%s: made the replication slot %s: the server keeps all changes for it until they are taken; --drop removes it", self->base.place,
                 self->slot);
    self->slot_exists = true;
    if (self->snapshot_done)
        begin_stream(self);
    else
        snapshot_read(self, PQgetvalue(result, 0, 2), lsn);
}

static void make_slot(capture_t *self) {
    self->temporary = self->slot_exists;
    char *sql = mem_format("CREATE_REPLICATION_SLOT \"%s%s\"%s LOGICAL pgoutput %s", self->slot, self->temporary ? "_snapshot" : "",
                           self->temporary ? " TEMPORARY" : "", self->snapshot_done ? "NOEXPORT_SNAPSHOT" : "EXPORT_SNAPSHOT");
    pg_ask(self->stream, sql, 0, NULL, NULL, on_slot);
    mem_free(sql);
}

static void on_system(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        capture_lost(self, error);
        return;
    }
    const char *system = PQgetvalue(result, 0, 0);
    if (*self->system && strcmp(self->system, system) != 0) {
        fail(self, "this is another server, or its data were made anew: the position of --state is none of it; --reset begins anew");
        return;
    }
    mem_free(self->system);
    self->system = mem_text(system);
    if (self->snapshot_done && self->slot_exists)
        begin_stream(self);
    else
        make_slot(self);
}

static void on_stream_up(void *argument) {
    capture_t *self = argument;
    pg_ask(self->stream, "IDENTIFY_SYSTEM", 0, NULL, NULL, on_system);
}

static void connect_stream(capture_t *self) {
    self->stream = postgres_connect(&self->base, true, on_stream_up, on_down);
    if (self->base.paused)
        pg_pause(self->stream);
}

void snapshot_listed(capture_t *self) {
    if (source_trial(self->base.setup.host))
        snapshot_read(self, NULL, 0);
    else
        connect_stream(self);
}

static void on_types(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        capture_lost(self, error);
        return;
    }
    self->catalog_ready = true;
    pg_types_load(&self->base.types, result);
    if (!self->snapshot_done)
        snapshot_list(self);
    else
        connect_stream(self);
}

static void ask_types(capture_t *self) {
    self->catalog_ready = false;
    pg_ask(self->catalog, pg_types_query, 0, NULL, NULL, on_types);
}

static void on_identities(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        capture_lost(self, error);
        return;
    }
    if (!PQgetisnull(result, 0, 0))
        log_warning("%s: the server refuses every UPDATE and DELETE of %s: the publication %s has them, and they have no primary key. ALTER TABLE ... REPLICA "
                    "IDENTITY FULL lets them work; --table and --schema leave tables out of a publication that is made, which --drop removes",
                    self->base.place, PQgetvalue(result, 0, 0), self->publication);
    self->identities_told = true;
    ask_types(self);
}

/* Tables whose rows cannot be told apart can only be added to once they are published: their users have to hear of that from us. */
static void check_identities(capture_t *self) {
    buf_t sql = {0};
    if (self->identities_told) {
        ask_types(self);
        return;
    }
    buf_put_text(&sql, "SELECT string_agg(name, ', ') FROM (SELECT CASE WHEN row_number() OVER (ORDER BY name) > 10 THEN '...' ELSE name END FROM (SELECT "
                       "format('%I.%I', p.schemaname, p.tablename) AS name FROM pg_catalog.pg_publication_tables p JOIN pg_catalog.pg_publication USING "
                       "(pubname) JOIN pg_catalog.pg_class c ON c.oid = to_regclass(format('%I.%I', p.schemaname, p.tablename)) WHERE (pubupdate OR "
                       "pubdelete) AND (relreplident = 'n' OR relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = c.oid AND "
                       "indisprimary)) AND pubname = ");
    pg_put_literal(&sql, text_of(self->publication));
    buf_put_text(&sql, ") AS all_of_them LIMIT 11) AS listed (name)");
    pg_ask(self->catalog, buf_text(&sql), 0, NULL, NULL, on_identities);
    buf_fini(&sql);
}

static void on_publication(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        char *missing = postgres_missing(error, state), *reason = missing ? missing : mem_format("the publication %s cannot be made: %s", self->publication, error);
        capture_lost(self, reason);
        mem_free(reason);
        return;
    }
    log_info("%s: made the publication %s", self->base.place, self->publication);
    check_identities(self);
}

static void make_publication(capture_t *self) {
    const postgres_settings_t *settings = self->base.settings;
    buf_t sql = {0};
    buf_put_text(&sql, "CREATE PUBLICATION ");
    pg_put_identifier(&sql, text_of(self->publication));
    if (!settings->tables.count && !settings->schemas.count)
        buf_put_text(&sql, " FOR ALL TABLES");
    for (size_t i = 0; i < settings->tables.count; i++) {
        buf_put_text(&sql, i ? ", " : " FOR TABLE ");
        postgres_put_table(&sql, settings->tables.items[i]);
    }
    for (size_t i = 0; i < settings->schemas.count; i++) {
        buf_put_text(&sql, i ? ", " : settings->tables.count ? ", TABLES IN SCHEMA " : " FOR TABLES IN SCHEMA ");
        pg_put_identifier(&sql, text_of(settings->schemas.items[i]));
    }
    pg_ask(self->catalog, buf_text(&sql), 0, NULL, NULL, on_publication);
    buf_fini(&sql);
}

/* Tables that were asked for and are not in the publication. */
static void on_missing(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        capture_lost(self, error);
    } else if (PQntuples(result) && !PQgetisnull(result, 0, 1)) {
        char *reason = mem_format("there is no table %s (--table)", PQgetvalue(result, 0, 1));
        capture_lost(self, reason);
        mem_free(reason);
    } else if (PQntuples(result) && !PQgetisnull(result, 0, 0)) {
        char *reason = mem_format("the publication %s is there, and without %s: ALTER PUBLICATION adds tables, --drop removes it, --publication names another",
                                  self->publication, PQgetvalue(result, 0, 0));
        fail(self, reason);
        mem_free(reason);
    } else {
        check_identities(self);
    }
}

static void check_publication(capture_t *self) {
    const option_list_t *tables = &self->base.settings->tables;
    buf_t sql = {0};
    if (!tables->count) {
        check_identities(self);
        return;
    }
    buf_put_text(&sql, "SELECT string_agg(t, ', '), string_agg(replace(t, '\"', ''), ', ') FILTER (WHERE to_regclass(t) IS NULL) FROM unnest(ARRAY[");
    for (size_t i = 0; i < tables->count; i++) {
        buf_t name = {0};
        postgres_put_table(&name, tables->items[i]);
        buf_put_text(&sql, i ? ", " : "");
        pg_put_literal(&sql, text_of(buf_text(&name)));
        buf_fini(&name);
    }
    buf_put_text(&sql, "]) AS t WHERE to_regclass(t) IS NULL OR NOT EXISTS (SELECT FROM pg_catalog.pg_publication_tables p WHERE (to_regclass(t) = "
                       "to_regclass(quote_ident(p.schemaname) || '.' || quote_ident(p.tablename)) OR to_regclass(quote_ident(p.schemaname) || '.' || "
                       "quote_ident(p.tablename)) IN (SELECT relid FROM pg_partition_tree(to_regclass(t)))) AND p.pubname = ");
    pg_put_literal(&sql, text_of(self->publication));
    buf_put_text(&sql, ")");
    pg_ask(self->catalog, buf_text(&sql), 0, NULL, NULL, on_missing);
    buf_fini(&sql);
}

enum { WAL_LEVEL, IN_RECOVERY, TIMEOUT, ENCODING, PUBLICATION, SLOT, PLUGIN, DATABASE, ACTIVE, LOST };

/* What would not work, in words; *final: no waiting helps. */
static char *obstacle(const capture_t *self, const PGresult *row, bool *final) {
    const char *value = PQgetvalue(row, 0, WAL_LEVEL);
    *final = false;
    if (strcmp(value, "logical") != 0)
        return mem_format("wal_level is %s: changes can be read when it is logical (postgresql.conf, then a restart of the server); --mode poll and "
                          "--mode trigger need nothing of the kind", value);
    if (*PQgetvalue(row, 0, IN_RECOVERY) == 't')
        return mem_text("the server is a standby: take the primary");
    *final = true;
    bool slot = *PQgetvalue(row, 0, SLOT) == 't';
    if (!slot && self->known)
        return mem_format("the replication slot %s is gone, and with it the changes since this position; --reset begins anew", self->slot);
    if (slot && *PQgetvalue(row, 0, LOST) == 't')
        return mem_format("the server has thrown away changes that the slot %s had not taken (max_slot_wal_keep_size): remove it by --drop, and "
                          "begin anew by --reset", self->slot);
    if (slot && strcmp(PQgetvalue(row, 0, PLUGIN), "pgoutput") != 0)
        return mem_format("the replication slot %s is one of the plugin %s: give another --slot", self->slot, PQgetvalue(row, 0, PLUGIN));
    if (slot && *PQgetvalue(row, 0, DATABASE) != 't')
        return mem_format("the replication slot %s belongs to another database: give another --slot", self->slot);
    *final = false;
    if (slot && !PQgetisnull(row, 0, ACTIVE))
        return mem_format("the replication slot %s is in use by the server's process %s: another ingest has it (--slot gives this one its own), or one that "
                          "is gone and not yet missed", self->slot, PQgetvalue(row, 0, ACTIVE));
    return NULL;
}

static void on_inspected(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    bool final = false;
    if (error) {
        capture_lost(self, error);
        return;
    }
    char *reason = obstacle(self, result, &final);
    if (reason) {
        final ? fail(self, reason) : capture_lost(self, reason);
        mem_free(reason);
        return;
    }
    int64_t timeout = strtoll(PQgetvalue(result, 0, TIMEOUT), NULL, 10) * NS_PER_MS;
    self->status_interval = timeout > 0 && timeout / 3 < STATUS_INTERVAL ? timeout / 3 : STATUS_INTERVAL;
    self->silence = SILENCE;
    self->utf8 = strcmp(PQgetvalue(result, 0, ENCODING), "UTF8") == 0;
    self->slot_exists = *PQgetvalue(result, 0, SLOT) == 't';
    if (self->base.settings->snapshot == 1)
        self->snapshot_done = true;
    if (*PQgetvalue(result, 0, PUBLICATION) == 't')
        check_publication(self);
    else
        make_publication(self);
}

static void inspect(capture_t *self) {
    buf_t sql = {0};
    buf_put_text(&sql, "SELECT current_setting('wal_level'), pg_is_in_recovery(), (SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'), "
                       "current_setting('server_encoding'), EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = ");
    pg_put_literal(&sql, text_of(self->publication));
    buf_put_text(&sql, "), s.slot_name IS NOT NULL, s.plugin, s.database = current_database(), s.active_pid, ");
    buf_put_text(&sql, PQserverVersion(pg_connection(self->catalog)) >= 130000 ? "s.wal_status = 'lost'" : "false");
    buf_put_text(&sql, " FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = ");
    pg_put_literal(&sql, text_of(self->slot));
    pg_ask(self->catalog, buf_text(&sql), 0, NULL, NULL, on_inspected);
    buf_fini(&sql);
}

static void on_dropped(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        fail(self, error);
        return;
    }
    log_info("%s: the replication slot %s and the publication %s are removed", self->base.place, self->slot, self->publication);
    source_ended(self->base.setup.host);
}

static void drop(capture_t *self) {
    buf_t sql = {0};
    buf_put_text(&sql, "SELECT pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = ");
    pg_put_literal(&sql, text_of(self->slot));
    buf_put_text(&sql, "; DROP PUBLICATION IF EXISTS ");
    pg_put_identifier(&sql, text_of(self->publication));
    pg_ask(self->catalog, buf_text(&sql), 0, NULL, NULL, on_dropped);
    buf_fini(&sql);
}

static void on_catalog_up(void *argument) {
    capture_t *self = argument;
    if (self->base.settings->drop)
        drop(self);
    else if (source_trial(self->base.setup.host))
        ask_types(self);
    else
        inspect(self);
}

static void connect_catalog(void *argument) {
    capture_t *self = argument;
    self->catalog = postgres_connect(&self->base, false, on_catalog_up, on_down);
    if (self->base.paused)
        pg_pause(self->catalog);
}

static int capture_start(source_t *source, err_t *err) {
    connect_catalog(source);
    return 0;
}

static void capture_pause(source_t *source) {
    capture_t *self = (capture_t *) source;
    self->base.paused = true;
    pg_pause(self->stream);
    if (!self->streaming)
        pg_pause(self->catalog);
}

static void capture_resume(source_t *source) {
    capture_t *self = (capture_t *) source;
    self->base.paused = false;
    pg_resume(self->catalog);
    if (!self->types_wanted)
        pg_resume(self->stream);
}

static void capture_free(source_t *source) {
    capture_t *self = (capture_t *) source;
    if (self->streaming)
        stream_status(self, false);
    disconnect(self);
    snapshot_tables_free(self);
    snapshot_forget(self);
    mem_free(self->segments);
    output_decoder_fini(&self->decoder);
    mem_free(self->slot);
    mem_free(self->publication);
    mem_free(self->system);
    postgres_base_fini(&self->base);
    mem_free(self);
}

static const source_class_t class = {
    .start = capture_start,
    .pause = capture_pause,
    .resume = capture_resume,
    .position = capture_position,
    .restore = capture_restore,
    .acknowledge = capture_acknowledge,
    .free = capture_free,
};

/* "ingest_" and the database's name, in letters that a slot's name may have. */
static char *default_slot(const char *database) {
    char *name = mem_format("ingest_%.40s", database);
    for (char *c = name; *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            *c = (char) (*c - 'A' + 'a');
        else if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9')))
            *c = '_';
    }
    return name;
}

int pg_capture_open(source_t **source, const source_setup_t *setup, err_t *err) {
    capture_t *self = mem_zero(sizeof *self);
    postgres_base_init(&self->base, setup, &class);
    const postgres_settings_t *settings = self->base.settings;
    self->slot = settings->slot ? mem_text(settings->slot) : default_slot(self->base.database);
    self->publication = mem_text(settings->publication ? settings->publication : self->slot);
    self->system = mem_text("");
    self->segments = mem_zero(SEGMENTS_MAX * sizeof *self->segments);
    output_decoder_init(&self->decoder);
    self->lag = metrics_add(METRIC_GAUGE, "stream_source_lag_bytes", "", "Bytes of the server's log behind what is taken and safe");
    *source = &self->base.source;
    return 0;
}
