/* Source "statsd:": listens for metrics of programs, in datagrams and over connections. Each line is an event; adding them up is left to process. */
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "text_datagrams.h"
#include "text_server.h"

#define PORT 8125

typedef enum transport { TRANSPORT_BOTH, TRANSPORT_UDP, TRANSPORT_TCP } transport_t;

typedef struct statsd_settings {
    int transport;
    text_server_settings_t server;
    uint64_t buffer;
} statsd_settings_t;

#define AT(field) offsetof(statsd_settings_t, field)
static const option_t options[] = {
    {"transport", OPTION_CHOICE, AT(transport), "both", "both|udp|tcp", "what is listened on"},
    {"connections", OPTION_INT, AT(server.connections), "1000", "N", TEXT_SERVER_CONNECTIONS, .needs = "transport=both|tcp"},
    {"idle", OPTION_DURATION, AT(server.idle), "0", "DURATION", TEXT_SERVER_IDLE, .needs = "transport=both|tcp"},
    {"buffer", OPTION_SIZE, AT(buffer), "4MiB", "SIZE", DATAGRAM_BUFFER, .needs = "transport=both|udp"},
    {0},
};

typedef struct statsd_source {
    source_t source;
    source_setup_t setup;
    text_datagrams_t *texts;
    text_server_t *server;
} statsd_source_t;

static int listen_on(const address_t *address, int type, const char *scheme, err_t *err) {
    char text[ADDRESS_TEXT];
    int fd = address_listen(address, type, err);
    if (fd >= 0) {
        address_of(fd, text);
        log_info("listening on %s://%s", scheme, text);
    }
    return fd;
}

static int statsd_start(source_t *source, err_t *err) {
    statsd_source_t *self = (statsd_source_t *) source;
    const statsd_settings_t *settings = self->setup.settings;
    address_t address;
    int fd;
    if (address_read(&address, self->setup.rest, PORT, err))
        return -1;
    if (settings->transport != TRANSPORT_TCP) {
        if ((fd = listen_on(&address, SOCK_DGRAM, "udp", err)) < 0)
            return -1;
        self->texts = text_datagrams_new(&self->setup, fd, settings->buffer);
    }
    if (settings->transport != TRANSPORT_UDP) {
        if ((fd = listen_on(&address, SOCK_STREAM, "tcp", err)) < 0)
            return -1;
        self->server = text_server_new(&self->setup, &settings->server, "tcp", fd);
        text_server_resume(self->server);
    }
    return 0;
}

static void statsd_pause(source_t *source) {
    statsd_source_t *self = (statsd_source_t *) source;
    if (self->texts)
        text_datagrams_pause(self->texts);
    if (self->server)
        text_server_pause(self->server);
}

static void statsd_resume(source_t *source) {
    statsd_source_t *self = (statsd_source_t *) source;
    if (self->texts)
        text_datagrams_resume(self->texts);
    if (self->server)
        text_server_resume(self->server);
}

static void statsd_free(source_t *source) {
    statsd_source_t *self = (statsd_source_t *) source;
    text_datagrams_free(self->texts);
    text_server_free(self->server);
    mem_free(self);
}

static const source_class_t class = {.start = statsd_start, .pause = statsd_pause, .resume = statsd_resume, .free = statsd_free};

static int statsd_check(const source_setup_t *setup, err_t *err) {
    address_t address;
    if (setup->format && strcmp(setup->format->name, "statsd") != 0)
        return err_set(err, "--format is of no use with statsd: its lines have a form of their own; for other texts there are tcp:// and udp://");
    if (setup->format_settings->time_field)
        return err_set(err, "--time is of no use with statsd: a line's time stands behind |T");
    return address_check(&address, setup->url, setup->rest, PORT, false, err);
}

static int statsd_open(source_t **source, const source_setup_t *setup, err_t *err) {
    statsd_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    self->setup.format = format_find("statsd");
    *source = &self->source;
    return 0;
}

const source_driver_t source_statsd = {
    .name = "statsd",
    .schemes = {"statsd"},
    .types = {{"statsd"}},
    .usage = "statsd://HOST:PORT",
    .help = "listens for metrics of statsd's and DogStatsD's clients, by UDP and TCP",
    .options = options,
    .settings_size = sizeof(statsd_settings_t),
    .query = true,
    .check = statsd_check,
    .formats = "statsd",
    .open = statsd_open,
};
