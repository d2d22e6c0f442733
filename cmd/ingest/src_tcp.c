/* Source "tcp:": listens, and takes text of any format from all who connect. */
#include "base/clock.h"
#include "base/memory.h"
#include "text_server.h"

#define AT(field) offsetof(text_server_settings_t, field)
static const option_t options[] = {
    {"connections", OPTION_INT, AT(connections), "1000", "N", TEXT_SERVER_CONNECTIONS},
    {"idle", OPTION_DURATION, AT(idle), "0", "DURATION", TEXT_SERVER_IDLE},
    TLS_FILES_OPTIONS(text_server_settings_t, tls),
    {0},
};

typedef struct tcp_source {
    source_t source;
    source_setup_t setup;
    text_server_t *server;
} tcp_source_t;

static int tcp_start(source_t *source, err_t *err) {
    tcp_source_t *self = (tcp_source_t *) source;
    self->server = text_server_at(&self->setup, self->setup.settings, err);
    return self->server ? 0 : -1;
}

static void tcp_pause(source_t *source) {
    text_server_pause(((tcp_source_t *) source)->server);
}

static void tcp_resume(source_t *source) {
    text_server_resume(((tcp_source_t *) source)->server);
}

static void tcp_free(source_t *source) {
    tcp_source_t *self = (tcp_source_t *) source;
    text_server_free(self->server);
    mem_free(self);
}

static const source_class_t class = {.start = tcp_start, .pause = tcp_pause, .resume = tcp_resume, .free = tcp_free};

static int tcp_check(const source_setup_t *setup, err_t *err) {
    address_t address;
    const text_server_settings_t *settings = setup->settings;
    if (address_check(&address, setup->url, setup->rest, 0, false, err) || tls_files_check(&settings->tls, err))
        return -1;
    decoder_t *decoder;
    if (text_server_decoder(&decoder, setup, err))
        return -1;
    decoder_free(decoder);
    return 0;
}

static int tcp_open(source_t **source, const source_setup_t *setup, err_t *err) {
    tcp_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    *source = &self->source;
    return 0;
}

const source_driver_t source_tcp = {
    .name = "tcp",
    .schemes = {"tcp"},
    .types = {{"tcp"}},
    .usage = "tcp://HOST:PORT",
    .help = "listens for connections that bring NDJSON, lines or any other format",
    .options = options,
    .settings_size = sizeof(text_server_settings_t),
    .query = true,
    .check = tcp_check,
    .open = tcp_open,
};
