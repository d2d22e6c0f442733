/* Source "unix:": a socket in the file system, for programs of this machine: text of any format. */
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "text_server.h"

typedef struct unix_settings {
    text_server_settings_t server;
    char *mode;
} unix_settings_t;

#define AT(field) offsetof(unix_settings_t, field)
static const option_t options[] = {
    {"connections", OPTION_INT, AT(server.connections), "1000", "N", TEXT_SERVER_CONNECTIONS},
    {"idle", OPTION_DURATION, AT(server.idle), "0", "DURATION", TEXT_SERVER_IDLE},
    {"mode", OPTION_TEXT, AT(mode), "600", "OCTAL", "who may connect, as the permissions of the socket: 660 lets the group in"},
    {0},
};

typedef struct unix_source {
    source_t source;
    source_setup_t setup;
    unix_place_t place;
    text_server_t *server;
} unix_source_t;

static bool read_mode(const char *text, unsigned *mode) {
    *mode = 0;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '7' || c - text > 3)
            return false;
        *mode = *mode * 8 + (unsigned) (*c - '0');
    }
    return *text && *mode <= 0777;
}

static int unix_start(source_t *source, err_t *err) {
    unix_source_t *self = (unix_source_t *) source;
    const unix_settings_t *settings = self->setup.settings;
    unsigned mode;
    if (!read_mode(settings->mode, &mode))
        return err_set(err, "--mode %s: takes octal digits such as 660", settings->mode);
    int fd = unix_listen(&self->place, self->setup.rest, mode, err);
    if (fd < 0)
        return -1;
    log_info("listening on unix:%s", self->setup.rest);
    self->server = text_server_new(&self->setup, &settings->server, "unix", fd);
    text_server_resume(self->server);
    return 0;
}

static void unix_pause(source_t *source) {
    text_server_pause(((unix_source_t *) source)->server);
}

static void unix_resume(source_t *source) {
    text_server_resume(((unix_source_t *) source)->server);
}

static void unix_free(source_t *source) {
    unix_source_t *self = (unix_source_t *) source;
    text_server_free(self->server);
    unix_leave(&self->place);
    mem_free(self);
}

static const source_class_t class = {.start = unix_start, .pause = unix_pause, .resume = unix_resume, .free = unix_free};

static int unix_check(const source_setup_t *setup, err_t *err) {
    const unix_settings_t *settings = setup->settings;
    unsigned mode;
    if (!*setup->rest)
        return err_set(err, "unix: needs the path of the socket: unix:/run/events.sock");
    if (!read_mode(settings->mode, &mode))
        return err_set(err, "--mode %s: takes octal digits such as 660", settings->mode);
    decoder_t *decoder;
    if (text_server_decoder(&decoder, setup, err))
        return -1;
    decoder_free(decoder);
    return 0;
}

static int unix_open(source_t **source, const source_setup_t *setup, err_t *err) {
    unix_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    *source = &self->source;
    return 0;
}

/* The file's name without its ending. */
static const char *unix_stream(const source_setup_t *setup, buf_t *space) {
    const char *slash = strrchr(setup->rest, '/'), *name = slash ? slash + 1 : setup->rest, *dot = strrchr(name, '.');
    buf_put(space, name, dot && dot > name ? (size_t) (dot - name) : strlen(name));
    return buf_text(space);
}

const source_driver_t source_unix = {
    .name = "unix",
    .schemes = {"unix"},
    .types = {{"unix"}},
    .usage = "unix:PATH",
    .help = "a socket in the file system that programs of this machine write NDJSON, lines or any other format to",
    .options = options,
    .settings_size = sizeof(unix_settings_t),
    .query = true,
    .stream = unix_stream,
    .check = unix_check,
    .open = unix_open,
};
