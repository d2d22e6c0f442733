/* Source "udp:": each datagram is a text of one or more records. */
#include "base/log.h"
#include "base/memory.h"
#include "text_datagrams.h"
#include "text_server.h"

typedef struct udp_settings {
    uint64_t buffer;
} udp_settings_t;

#define AT(field) offsetof(udp_settings_t, field)
static const option_t options[] = {
    {"buffer", OPTION_SIZE, AT(buffer), "4MiB", "SIZE", DATAGRAM_BUFFER},
    {0},
};

typedef struct udp_source {
    source_t source;
    source_setup_t setup;
    text_datagrams_t *texts;
} udp_source_t;

static int udp_start(source_t *source, err_t *err) {
    udp_source_t *self = (udp_source_t *) source;
    const udp_settings_t *settings = self->setup.settings;
    address_t address;
    char text[ADDRESS_TEXT];
    int fd = address_read(&address, self->setup.rest, 0, err) ? -1 : address_listen(&address, SOCK_DGRAM, err);
    if (fd < 0)
        return -1;
    address_of(fd, text);
    log_info("listening on udp://%s", text);
    self->texts = text_datagrams_new(&self->setup, fd, settings->buffer);
    return 0;
}

static void udp_pause(source_t *source) {
    text_datagrams_pause(((udp_source_t *) source)->texts);
}

static void udp_resume(source_t *source) {
    text_datagrams_resume(((udp_source_t *) source)->texts);
}

static void udp_free(source_t *source) {
    udp_source_t *self = (udp_source_t *) source;
    text_datagrams_free(self->texts);
    mem_free(self);
}

static const source_class_t class = {.start = udp_start, .pause = udp_pause, .resume = udp_resume, .free = udp_free};

static int udp_check(const source_setup_t *setup, err_t *err) {
    address_t address;
    if (address_check(&address, setup->url, setup->rest, 0, false, err))
        return -1;
    return 0;
}

static int udp_open(source_t **source, const source_setup_t *setup, err_t *err) {
    decoder_t *decoder;
    if (text_server_decoder(&decoder, setup, err))
        return -1;
    decoder_free(decoder);
    udp_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    *source = &self->source;
    return 0;
}

const source_driver_t source_udp = {
    .name = "udp",
    .schemes = {"udp"},
    .types = {{"udp"}},
    .usage = "udp://HOST:PORT",
    .help = "listens for datagrams, each a text of one or more records",
    .options = options,
    .settings_size = sizeof(udp_settings_t),
    .query = true,
    .check = udp_check,
    .open = udp_open,
};
