/* Source "udp:": each datagram is a text of one or more records. */
#include "base/log.h"
#include "base/memory.h"
#include "datagram.h"
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
    decoder_t *decoder;
    datagrams_t *datagrams;
    size_t used;                   /* of the datagram that is being taken */
} udp_source_t;

static bool on_datagram(void *argument, const char *data, size_t size, const char *place) {
    udp_source_t *self = argument;
    source_healthy(self->setup.host);
    if (!self->used) {
        decoder_reset(self->decoder);
        self->decoder->records = 0;
    }
    /* until all is used, or nothing of it: with at_end that is the end */
    while (source_room(self->setup.host)) {
        size_t used = source_decode(self->setup.host, self->decoder, data + self->used, size - self->used, true, place);
        self->used += used;
        if (used == 0 || self->used == size) {
            self->used = 0;
            return true;
        }
    }
    return false;
}

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
    self->datagrams = datagrams_new(&(datagram_setup_t){
        .host = self->setup.host, .loop = self->setup.loop, .fd = fd, .scheme = "udp", .buffer = settings->buffer, .data = on_datagram, .argument = self});
    datagrams_resume(self->datagrams);
    return 0;
}

static void udp_pause(source_t *source) {
    datagrams_pause(((udp_source_t *) source)->datagrams);
}

static void udp_resume(source_t *source) {
    datagrams_resume(((udp_source_t *) source)->datagrams);
}

static void udp_free(source_t *source) {
    udp_source_t *self = (udp_source_t *) source;
    datagrams_free(self->datagrams);
    decoder_free(self->decoder);
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
    udp_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    if (text_server_decoder(&self->decoder, setup, err)) {
        mem_free(self);
        return -1;
    }
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
