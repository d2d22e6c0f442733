/* Source "mysql:", "mariadb:": a MySQL or MariaDB database, by a query with a cursor (mysql_poll.c) or by the changes in its binary log
 * (mysql_capture.c). The library blocks, so it has the thread of rows.c. Here are the options. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/url.h"
#include "mysql_source.h"
#include "poll_query.h"

#define AT(field) offsetof(mysql_settings_t, field)
static const option_t options[] = {
    {"mode", OPTION_CHOICE, AT(mode), "poll", "poll|cdc", "rows of --query, or changes from the binary log (MariaDB)"},
    {"table", OPTION_LIST, AT(tables), NULL, "[DATABASE.]TABLE", "cdc: a table whose changes are wanted; default: all of the address's database, or all", .needs = "mode=cdc"},
    {"gtid", OPTION_TEXT, AT(gtid), NULL, "POSITION", "cdc: where a first run begins, as the server shows it in gtid_binlog_pos; default: now", .needs = "mode=cdc"},
    {"server-id", OPTION_INT, AT(server_id), "0", "N", "cdc: our number among the server's replicas; 0: one at random", 0, UINT32_MAX, .needs = "mode=cdc"},
    {"commit-time", OPTION_BOOL, AT(commit_time), "yes", NULL, "cdc: event time is when the transaction was committed, not when it arrives", .needs = "mode=cdc"},
    POLL_QUERY_OPTIONS(mysql_settings_t),
    {"interval", OPTION_DURATION, AT(interval), "5s", "DURATION", "poll: time from one query to the next", NS_PER_MS, 86400 * NS_PER_S, .needs = "mode=poll, !once"},
    {"once", OPTION_BOOL, AT(once), "no", NULL, "poll: end after one answer", .needs = "mode=poll"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line"},
    {"socket", OPTION_TEXT, AT(socket), NULL, "PATH", "the server's socket on this machine", .needs = "@local:an address without a host"},
    {"tls", OPTION_BOOL, AT(tls), "no", NULL, "encrypt, and verify the server's certificate and host against the system's authorities"},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's; implies --tls", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one", .needs = "tls or tls-ca", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "tls or tls-ca, tls-cert", .readable = true},
    {"connect-timeout", OPTION_DURATION, AT(timeout), "10s", "DURATION", "for name look-up, connection, TLS and log-in", NS_PER_S, 3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts", NS_PER_MS, 86400 * NS_PER_S},
    {0},
};

static int check_poll(const mysql_settings_t *settings, err_t *err) {
    if (!settings->query)
        return err_set(err, "--query is missing, such as 'SELECT * FROM orders WHERE id > $1' with --cursor id --initial 0; or --mode cdc for changes");
    return poll_query_check(settings->query, settings->cursor, settings->initial, err);
}

static int mysql_check(const source_setup_t *setup, err_t *err) {
    const mysql_settings_t *settings = setup->settings;
    mysql_address_t address = {0};
    int bad = mysql_address_read(&address, setup->rest, err);
    mysql_address_fini(&address);
    if (bad)
        return -1;
    if (settings->retry_max < settings->retry_min)
        return err_set(err, "--retry-max is below --retry-min");
    if (setup->format)
        return err_set(err, "--format is not for databases: rows come as they are");
    return settings->mode == MYSQL_MODE_CDC ? mysql_capture_check(settings, err) : check_poll(settings, err);
}

static int mysql_open(source_t **source, const source_setup_t *setup, err_t *err) {
    const mysql_settings_t *settings = setup->settings;
    buf_t place = {0};
    url_put_redacted(&place, text_of(setup->url));
    rows_setup_t rows = {
        .place = mem_text(buf_text(&place)),
        .interval = settings->interval,
        .retry_min = settings->retry_min,
        .retry_max = settings->retry_max,
        .once = settings->once,
    };
    buf_fini(&place);
    if (settings->mode == MYSQL_MODE_CDC)
        mysql_capture_new(&rows, setup);
    else
        mysql_poll_new(&rows, setup);
    *source = rows_source_new(setup, &rows);
    return 0;
}

static const char *mysql_stream(const source_setup_t *setup, buf_t *space) {
    mysql_address_t address = {0};
    if (mysql_address_read(&address, setup->rest, NULL) == 0 && *address.database)
        buf_put_text(space, address.database);
    else
        buf_put_text(space, "mysql");
    mysql_address_fini(&address);
    return buf_text(space);
}

static int mysql_holds(const source_setup_t *setup, text_t name, text_t value) {
    const mysql_settings_t *settings = setup->settings;
    mysql_address_t address = {0};
    if (text_is(name, "time"))
        return settings->mode == MYSQL_MODE_POLL;
    if (!text_is(name, "local"))
        return -1;
    bool local = mysql_address_read(&address, setup->rest, NULL) || !*address.host || strcmp(address.host, "localhost") == 0; /* a bad one: check says so */
    mysql_address_fini(&address);
    return local;
}

const source_driver_t source_mysql = {
    .name = "mysql",
    .schemes = {"mysql", "mariadb"},
    .types = {{"mysql"}, {"mariadb"}},
    .usage = "mysql://USER@HOST/DATABASE",
    .help = "a MySQL or MariaDB database: the rows of a query, or changes of tables as they are committed",
    .options = options,
    .settings_size = sizeof(mysql_settings_t),
    .query = true,
    .formats = "",
    .holds = mysql_holds,
    .stream = mysql_stream,
    .check = mysql_check,
    .open = mysql_open,
};
