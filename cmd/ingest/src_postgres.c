/* Source "postgres:", "postgresql:": a PostgreSQL database, by change data capture (pg_capture.c), by a query (pg_poll.c) or by triggers
 * (pg_trigger.c). Here are its options and what the three share. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/url.h"
#include "data/pack.h"
#include "poll_query.h"
#include "postgres.h"

#define EVENT_MAX (FRAME_MAX_DEFAULT - 64 * 1024)

#define AT(field) offsetof(postgres_settings_t, field)
static const option_t options[] = {
    {"mode", OPTION_CHOICE, AT(mode), "cdc", "cdc|poll|trigger", "changes by logical replication, rows of --query, or changes that triggers note"},
    {"table", OPTION_LIST, AT(tables), NULL, "[SCHEMA.]TABLE", "cdc, trigger: a table whose changes are wanted; cdc: all when neither table nor schema is given", .needs = "mode=cdc|trigger"},
    {"schema", OPTION_LIST, AT(schemas), NULL, "SCHEMA", "cdc: a schema, the changes of all of whose tables are wanted", .needs = "mode=cdc"},
    {"snapshot", OPTION_CHOICE, AT(snapshot), "initial", "initial|never", "cdc: whether the rows that are there already come first", .needs = "mode=cdc"},
    {"slot", OPTION_TEXT, AT(slot), NULL, "NAME", "cdc: replication slot, made when missing; default: ingest_ and the database's name", .needs = "mode=cdc"},
    {"publication", OPTION_TEXT, AT(publication), NULL, "NAME", "cdc: publication, made when missing; default: the slot's name", .needs = "mode=cdc"},
    {"commit-time", OPTION_BOOL, AT(commit_time), "yes", NULL, "cdc: event time is when the transaction was committed, not when it arrives", .needs = "mode=cdc"},
    {"drop", OPTION_BOOL, AT(drop), "no", NULL, "cdc, trigger: remove slot and publication, or triggers and their table, and end", .needs = "mode=cdc|trigger"},
    POLL_QUERY_OPTIONS(postgres_settings_t),
    {"interval", OPTION_DURATION, AT(interval), "5s", "DURATION", "poll, trigger: time from one look to the next; what triggers note is told at once", NS_PER_MS, 86400 * NS_PER_S, .needs = "mode=poll|trigger, !once"},
    {"once", OPTION_BOOL, AT(once), "no", NULL, "poll: end after one answer", .needs = "mode=poll"},
    {"safe", OPTION_BOOL, AT(safe), "yes", NULL, "poll: wait for open transactions, so that rows that commit out of order are not missed", .needs = "mode=poll, cursor"},
    {"hold", OPTION_DURATION, AT(hold), "0", "DURATION", "poll: take rows only so long after they were first seen", 0, 86400 * NS_PER_S, .needs = "mode=poll, cursor"},
    {"numeric", OPTION_CHOICE, AT(numeric), "exact", "exact|number|text", "numbers of the type numeric: as numbers where that is exact, always, or never", .needs = "mode=cdc|poll"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings or a password file than on the command line"},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust; the server's is then verified, its host too", .needs = "@tls:another sslmode than disable", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one", .needs = "@tls:another sslmode than disable", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "@tls:another sslmode than disable, tls-cert", .readable = true},
    {"connect-timeout", OPTION_DURATION, AT(connect_timeout), "10s", "DURATION", "for connection, TLS and log-in", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts", NS_PER_MS, 86400 * NS_PER_S},
    {0},
};

void postgres_base_init(postgres_base_t *base, const source_setup_t *setup, const source_class_t *class) {
    buf_t place = {0};
    base->source.class = class;
    base->setup = *setup;
    base->settings = setup->settings;
    url_put_redacted(&place, text_of(setup->url));
    base->place = mem_text(buf_text(&place));
    buf_fini(&place);
    base->database = pg_url_part(setup->url, "dbname");
    if (!base->database)
        base->database = mem_text("");
    base->types.numeric = (numeric_form_t) base->settings->numeric;
    base->backoff = (backoff_t){.minimum = base->settings->retry_min, .maximum = base->settings->retry_max, .state = (uint64_t) clock_now()};
}

void postgres_base_fini(postgres_base_t *base) {
    loop_remove(base->retry);
    pg_types_fini(&base->types);
    mem_free(base->place);
    mem_free(base->database);
}

pg_t *postgres_connect(postgres_base_t *base, bool replication, void (*up)(void *), void (*down)(void *, const char *)) {
    const postgres_settings_t *settings = base->settings;
    base->retry = NULL; /* that it is, was the timer's end */
    pg_setup_t setup = {
        .loop = base->setup.loop,
        .url = base->setup.url,
        .password = settings->password,
        .tls_ca = settings->tls_ca,
        .tls_cert = settings->tls_cert,
        .tls_key = settings->tls_key,
        .replication = replication,
        .timeout = settings->connect_timeout,
        .up = up,
        .down = down,
        .argument = base,
    };
    return pg_new(&setup);
}

void postgres_retry(postgres_base_t *base, const char *reason, loop_fn *again) {
    source_unhealthy(base->setup.host, "%s: %s; trying again", base->place, reason);
    loop_remove(base->retry);
    base->retry = loop_timer(base->setup.loop, backoff_next(&base->backoff), 0, again, base);
}

bool postgres_fits(const postgres_base_t *base, const frame_builder_t *builder, const char *place) {
    if (builder->body.size - builder->start <= EVENT_MAX)
        return true;
    source_abort(base->setup.host);
    source_bad(base->setup.host, text_of(""), place, "the row is larger than an event may be (16 MiB)");
    return false;
}

bool postgres_position_text(const uint8_t *position, size_t size, const char *key, text_t *text) {
    value_t value;
    if (!pack_map_get(position, size, text_of(key), &value) || value.type != VALUE_STRING)
        return false;
    *text = text_make(value.text, value.size);
    return true;
}

bool postgres_position_uint(const uint8_t *position, size_t size, const char *key, uint64_t *number) {
    value_t value;
    if (!pack_map_get(position, size, text_of(key), &value) || (value.type != VALUE_UINT && (value.type != VALUE_INT || value.integer < 0)))
        return false;
    *number = value.unsigned_integer;
    return true;
}

void postgres_put_table(buf_t *out, const char *name) {
    const char *dot = strchr(name, '.');
    if (dot) {
        pg_put_identifier(out, text_make(name, (size_t) (dot - name)));
        buf_put_byte(out, '.');
        name = dot + 1;
    }
    pg_put_identifier(out, text_of(name));
}

char *postgres_missing(const char *error, const char *state) {
    static const struct { const char *state, *what; } kinds[] = {{"42P01", "table"}, {"3F000", "schema"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!state || strcmp(state, kinds[i].state) != 0)
            continue;
        const char *name = strchr(error, '"'), *end = name ? strchr(name + 1, '"') : NULL; /* relation "orders" does not exist, in the server's language */
        return end ? mem_format("there is no %s %.*s (--table%s)", kinds[i].what, (int) (end - name - 1), name + 1, i ? ", --schema" : "")
                   : mem_format("%s (--table, --schema)", error);
    }
    return NULL;
}

static int check_poll(const postgres_settings_t *settings, err_t *err) {
    if (!settings->query)
        return err_set(err, "--mode poll needs --query, such as 'SELECT * FROM orders WHERE id > $1' with --cursor id --initial 0");
    return poll_query_check(settings->query, settings->cursor, settings->initial, err);
}

/* Names of slots as the server takes them. */
static int check_slot(const char *slot, err_t *err) {
    if (slot && (!*slot || strlen(slot) > 48 || slot[strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_")]))
        return err_set(err, "--slot %s: takes up to 48 of a-z, 0-9 and _", slot);
    return 0;
}

static int postgres_check(const source_setup_t *setup, err_t *err) {
    const postgres_settings_t *settings = setup->settings;
    if (pg_check_url(setup->url, err))
        return -1;
    if (settings->retry_max < settings->retry_min)
        return err_set(err, "--retry-max is below --retry-min");
    if (setup->format)
        return err_set(err, "--format is not for databases: rows come as they are");
    if (settings->mode == PG_MODE_POLL)
        return check_poll(settings, err);
    if (settings->mode == PG_MODE_TRIGGER && !settings->tables.count && !settings->drop)
        return err_set(err, "--mode trigger needs --table, once for each table whose changes are wanted");
    return check_slot(settings->slot, err);
}

static int postgres_open(source_t **source, const source_setup_t *setup, err_t *err) {
    const postgres_settings_t *settings = setup->settings;
    if (settings->mode == PG_MODE_POLL)
        return pg_poll_open(source, setup, err);
    if (settings->mode == PG_MODE_TRIGGER)
        return pg_trigger_open(source, setup, err);
    return pg_capture_open(source, setup, err);
}

/* The database's name. */
static const char *postgres_stream(const source_setup_t *setup, buf_t *space) {
    char *name = pg_url_part(setup->url, "dbname");
    buf_put_text(space, name ? name : "postgres");
    mem_free(name);
    return buf_text(space);
}

static int postgres_holds(const source_setup_t *setup, text_t name, text_t value) {
    const postgres_settings_t *settings = setup->settings;
    if (text_is(name, "time"))
        return settings->mode == PG_MODE_POLL;
    if (!text_is(name, "tls"))
        return -1;
    char *mode = pg_url_part(setup->url, "sslmode");
    bool possible = !mode || strcmp(mode, "disable") != 0;
    mem_free(mode);
    return possible;
}

const source_driver_t source_postgres = {
    .name = "postgres",
    .schemes = {"postgres", "postgresql"},
    .types = {{"database"}, {"postgres"}, {"postgresql"}},
    .usage = "postgres://USER@HOST/DATABASE",
    .help = "a PostgreSQL database: changes of tables as they are committed, or the rows of a query",
    .options = options,
    .settings_size = sizeof(postgres_settings_t),
    .formats = "",
    .holds = postgres_holds,
    .stream = postgres_stream,
    .check = postgres_check,
    .open = postgres_open,
};
