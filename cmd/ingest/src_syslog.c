/* Source "syslog:": listens for messages of RFC 5424 and RFC 3164, in datagrams (RFC 5426) and over connections (RFC 6587), plain or by TLS (RFC 5425):
 * each ended by a line feed, or with its size before it. A message that is of neither form is passed on as it stands. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "data/syslog.h"
#include "datagram.h"
#include "listen.h"
#include "source.h"
#include "text_server.h"

#define PORT 514
#define PORT_TLS 6514
#define SIZE_DIGITS 9
#define SHOWN_MAX 1024

typedef enum transport { TRANSPORT_BOTH, TRANSPORT_UDP, TRANSPORT_TCP, TRANSPORT_TLS } transport_t;

typedef struct syslog_settings {
    int transport;
    int64_t connections, idle;
    uint64_t buffer;
    tls_files_t tls;
} syslog_settings_t;

#define AT(field) offsetof(syslog_settings_t, field)
static const option_t options[] = {
    {"transport", OPTION_CHOICE, AT(transport), "both", "both|udp|tcp|tls", "what is listened on"},
    {"connections", OPTION_INT, AT(connections), "1000", "N", TEXT_SERVER_CONNECTIONS, .needs = "transport=both|tcp|tls"},
    {"idle", OPTION_DURATION, AT(idle), "0", "DURATION", TEXT_SERVER_IDLE, .needs = "transport=both|tcp|tls"},
    {"buffer", OPTION_SIZE, AT(buffer), "4MiB", "SIZE", DATAGRAM_BUFFER, .needs = "transport=both|udp"},
    TLS_FILES_OPTIONS(syslog_settings_t, tls),
    {0},
};

typedef struct syslog_source {
    source_t source;
    source_setup_t setup;
    const syslog_settings_t *settings;
    datagrams_t *datagrams;
    listener_t *listener;
    syslog_t message;
    buf_t valid;
} syslog_source_t;

typedef struct syslog_peer {
    syslog_source_t *self;
    connection_t *connection;
    uint64_t skip;                 /* bytes of a message that is too long; UINT64_MAX: up to the next line feed */
    uint64_t count;
} syslog_peer_t;

/* ---- messages ---- */

/* "tcp 10.0.0.1:5000" without kind and port. */
static text_t peer_of(const char *place) {
    const char *blank = strchr(place, ' '), *colon = strrchr(place, ':');
    if (!blank || !colon || colon < blank)
        return (text_t){0};
    text_t peer = text_make(blank + 1, (size_t) (colon - blank) - 1);
    return peer.size > 2 && *peer.data == '[' ? text_make(peer.data + 1, peer.size - 2) : peer;
}

static void pack_pair(buf_t *out, const char *name, text_t value) {
    pack_text(out, name);
    pack_string(out, value.data, value.size);
}

static void take_message(syslog_source_t *self, text_t message, const char *place) {
    source_host_t *host = self->setup.host;
    err_t err;
    while (message.size && strchr("\r\n", message.data[message.size - 1]))
        message.size--;
    source_healthy(host);
    if (!message.size)
        return;
    if (text_utf8_valid(message.data, message.size) < message.size) { /* older devices send other character sets */
        buf_clear(&self->valid);
        buf_put(&self->valid, message.data, message.size);
        for (size_t i = 0; i < message.size; i++)
            if (!self->valid.data[i])
                self->valid.data[i] = ' ';
        text_make_valid((char *) (uintptr_t) buf_text(&self->valid));
        message = text_make((const char *) self->valid.data, message.size);
    }
    text_t peer = peer_of(place);
    int64_t now = clock_now(), time = now;
    bool understood = syslog_read(&self->message, message, now, &err) == 0;
    frame_builder_t *builder = source_begin(host);
    buf_t *out = &builder->body;
    if (!understood) {
        pack_map(out, 2 + (peer.size > 0));
        pack_pair(out, "message", message);
        pack_pair(out, "error", text_of(err.text));
        if (peer.size)
            pack_pair(out, "peer", peer);
        source_commit(host);
        return;
    }
    buf_t value = {0};
    if (peer.size) {
        pack_string(&value, peer.data, peer.size);
        fields_put(&self->message.fields, text_of("peer"), value.data, (uint32_t) value.size);
    }
    fields_pack(&self->message.fields, out);
    buf_fini(&value);
    value_t stamp;
    bool timed = pack_map_get(out->data + builder->start + EVENT_HEAD, out->size - builder->start - EVENT_HEAD, text_of("timestamp"), &stamp) &&
                 value_to_time(stamp, &time) && time >= 0 && time <= EVENT_TIME_MAX;
    if (timed)
        source_commit_at(host, time);
    else
        source_commit(host);
}

static void too_long(const syslog_peer_t *peer, text_t message, uint64_t limit) {
    char reason[64], place[ADDRESS_TEXT + 40];
    snprintf(reason, sizeof reason, "longer than %llu bytes (--max-record)", (unsigned long long) limit);
    snprintf(place, sizeof place, "%s:%llu", connection_place(peer->connection), (unsigned long long) peer->count);
    source_bad(peer->self->setup.host, message, place, reason);
}

/* ---- connections ---- */

/* "123 <34>1 ...": the size, and in *used how much it and its blank take. 0: not so, or not all of it is here yet (*used 0). */
static uint64_t read_size(const char *data, size_t size, size_t *used) {
    uint64_t number = 0;
    size_t i = 0;
    *used = 1;
    for (; i < size && i <= SIZE_DIGITS && data[i] >= '0' && data[i] <= '9'; i++)
        number = number * 10 + (uint64_t) (data[i] - '0');
    if (i == size)
        *used = 0;
    if (i == 0 || i > SIZE_DIGITS || i == size || data[i] != ' ' || *data == '0')
        return 0;
    *used = i + 1;
    return number;
}

/* How much goes to the dead letters of a message above the limit, however it came in. */
static size_t shown_of_long(uint64_t limit) {
    return limit < SHOWN_MAX ? (size_t) limit : SHOWN_MAX;
}

/* One message, or a part of one that is too long. 0: not all of it is here. */
static size_t take_one(syslog_peer_t *peer, const char *data, size_t size, bool at_end) {
    uint64_t limit = peer->self->setup.format_settings->record_limit;
    const char *place = connection_place(peer->connection);
    if (peer->skip) {
        const char *feed = peer->skip == UINT64_MAX ? memchr(data, '\n', size) : NULL;
        size_t used = feed ? (size_t) (feed - data) + 1 : peer->skip < size ? (size_t) peer->skip : size;
        peer->skip = feed ? 0 : peer->skip == UINT64_MAX ? peer->skip : peer->skip - used;
        return used;
    }
    size_t head;
    uint64_t counted = *data >= '1' && *data <= '9' ? read_size(data, size, &head) : 0;
    if (*data >= '1' && *data <= '9' && !head && !at_end)
        return 0;
    if (counted) {
        if (counted > limit) {
            size_t shown = head + shown_of_long(limit);
            if (size < shown && !at_end)
                return 0;
            peer->count++;
            too_long(peer, text_make(data, size < shown ? size : shown), limit);
            peer->skip = counted + head;
            return take_one(peer, data, size, at_end);
        }
        if (size - head < counted && !at_end)
            return 0;
        size_t body = size - head < counted ? size - head : (size_t) counted;
        peer->count++;
        take_message(peer->self, text_make(data + head, body), place);
        return head + body;
    }
    const char *feed = memchr(data, '\n', size);
    size_t length = feed ? (size_t) (feed - data) : size;
    if (length > limit) {
        peer->count++;
        too_long(peer, text_make(data, shown_of_long(limit)), limit);
        peer->skip = UINT64_MAX;
        return take_one(peer, data, size, at_end);
    }
    if (!feed && !at_end)
        return 0;
    peer->count++;
    take_message(peer->self, text_make(data, length), place);
    return length + (feed != NULL);
}

static size_t on_data(void *own, const char *data, size_t size, bool at_end) {
    syslog_peer_t *peer = own;
    size_t used = 0, taken;
    do {
        if (used == size || !source_room(peer->self->setup.host))
            break;
        taken = take_one(peer, data + used, size - used, at_end);
        used += taken;
    } while (taken);
    return used;
}

static void *on_opened(void *argument, connection_t *connection) {
    syslog_peer_t *peer = mem_zero(sizeof *peer);
    peer->self = argument;
    peer->connection = connection;
    return peer;
}

static void on_closed(void *own) {
    mem_free(own);
}

static bool on_datagram(void *argument, const char *data, size_t size, const char *place) {
    take_message(argument, text_make(data, size), place);
    return true;
}

/* ---- the source ---- */

static int start_udp(syslog_source_t *self, err_t *err) {
    address_t address;
    char text[ADDRESS_TEXT];
    int fd = address_read(&address, self->setup.rest, PORT, err) ? -1 : address_listen(&address, SOCK_DGRAM, err);
    if (fd < 0)
        return -1;
    address_of(fd, text);
    log_info("listening on udp://%s", text);
    self->datagrams = datagrams_new(&(datagram_setup_t){
        .host = self->setup.host, .loop = self->setup.loop, .fd = fd, .scheme = "udp", .buffer = self->settings->buffer, .data = on_datagram, .argument = self});
    datagrams_resume(self->datagrams);
    return 0;
}

static uint16_t port_of(const syslog_settings_t *settings) {
    return settings->transport == TRANSPORT_TLS ? PORT_TLS : PORT;
}

static int start_tcp(syslog_source_t *self, err_t *err) {
    const listener_setup_t setup = {
        .loop = self->setup.loop,
        .scheme = "tcp",
        .connections = (unsigned) self->settings->connections,
        .idle = self->settings->idle,
        .memory = source_memory(self->setup.host) / 4,
        .tls_option = "--transport tls",
        .opened = on_opened,
        .data = on_data,
        .closed = on_closed,
        .argument = self,
    };
    self->listener = listener_at(&setup, self->setup.rest, port_of(self->settings), &self->settings->tls, err);
    return self->listener ? 0 : -1;
}

static int syslog_start(source_t *source, err_t *err) {
    syslog_source_t *self = (syslog_source_t *) source;
    if (self->settings->transport < TRANSPORT_TCP && start_udp(self, err))
        return -1;
    return self->settings->transport != TRANSPORT_UDP ? start_tcp(self, err) : 0;
}

static void syslog_pause(source_t *source) {
    syslog_source_t *self = (syslog_source_t *) source;
    if (self->datagrams)
        datagrams_pause(self->datagrams);
    if (self->listener)
        listener_pause(self->listener);
}

static void syslog_resume(source_t *source) {
    syslog_source_t *self = (syslog_source_t *) source;
    if (self->datagrams)
        datagrams_resume(self->datagrams);
    if (self->listener)
        listener_resume(self->listener);
}

static void syslog_free(source_t *source) {
    syslog_source_t *self = (syslog_source_t *) source;
    datagrams_free(self->datagrams);
    listener_free(self->listener);
    syslog_fini(&self->message);
    buf_fini(&self->valid);
    mem_free(self);
}

static const source_class_t class = {.start = syslog_start, .pause = syslog_pause, .resume = syslog_resume, .free = syslog_free};

static int syslog_check(const source_setup_t *setup, err_t *err) {
    const syslog_settings_t *settings = setup->settings;
    address_t address;
    if (setup->format)
        return err_set(err, "--format is of no use with syslog: its messages have a form of their own; for other texts there are tcp:// and udp://");
    if (setup->format_settings->time_field)
        return err_set(err, "--time is of no use with syslog: the event time is the message's timestamp");
    if (tls_files_check(&settings->tls, err))
        return -1;
    if (settings->transport == TRANSPORT_TLS && !settings->tls.certificate)
        return err_set(err, "--transport tls needs --tls-cert and --tls-key");
    if (settings->transport != TRANSPORT_TLS && settings->tls.certificate)
        return err_set(err, "--tls-cert: with syslog that goes with --transport tls");
    return address_check(&address, setup->url, setup->rest, port_of(settings), false, err);
}

static int syslog_open(source_t **source, const source_setup_t *setup, err_t *err) {
    syslog_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    self->settings = setup->settings;
    *source = &self->source;
    return 0;
}

static int syslog_holds(const source_setup_t *setup, text_t name, text_t value) {
    return text_is(name, "text") || text_is(name, "time") ? 1 : -1; /* of --time check knows more */
}

const source_driver_t source_syslog = {
    .name = "syslog",
    .schemes = {"syslog"},
    .types = {{"syslog"}},
    .usage = "syslog://HOST:PORT",
    .help = "listens for syslog messages of other machines and programs, by UDP, TCP and TLS",
    .options = options,
    .settings_size = sizeof(syslog_settings_t),
    .query = true,
    .check = syslog_check,
    .formats = "",
    .holds = syslog_holds,
    .open = syslog_open,
};
