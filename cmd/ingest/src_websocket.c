/* Source "ws:", "wss:": messages of a WebSocket server. Here are the options, what becomes of a message, and the position, which is all that was received
 * and not yet passed on whole; a server sends nothing twice. The connection is in websocket.c. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/url.h"
#include "data/json.h"
#include "data/pack.h"
#include "payload.h"
#include "websocket.h"
#include "websocket_handshake.h"

#define HEADERS_MAX 64
#define GREETINGS_MAX 1000
#define PLACE_MAX 600
#define KEPT_MAX (256u * 1024)          /* bytes of a message that stand in the position while it is passed on: with each frame, so not of a huge one */

typedef struct websocket_settings {
    char *records;
    option_list_t subscribe, headers, protocols;
    char *user, *password, *token;
    char *api_key, *api_key_name;
    int api_key_in;                    /* 0: header, 1: query */
    bool once, compression;
    uint64_t limit;
    int64_t ping_interval, ping_timeout, connect_timeout, retry_min, retry_max;
    int64_t redirects;
    char *proxy;
    char *tls_ca, *tls_cert, *tls_key;
} websocket_settings_t;

#define AT(field) offsetof(websocket_settings_t, field)
static const option_t options[] = {
    {"records", OPTION_TEXT, AT(records), NULL, "PATH", "where in a message the events are, such as data.items; default: the message itself"},
    {"subscribe", OPTION_LIST, AT(subscribe), NULL, "TEXT", "a message to send as soon as there is a connection"},
    {"subprotocol", OPTION_LIST, AT(protocols), NULL, "NAME", "a sub-protocol to ask for, the dearest first"},
    {"header", OPTION_LIST, AT(headers), NULL, "TEXT", "a request header, \"Name: value\""},
    {"user", OPTION_TEXT, AT(user), NULL, "NAME", "user name (Basic authentication), instead of the URL's"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line", .needs = "user or @login:a user in the URL"},
    {"token", OPTION_SECRET, AT(token), NULL, "SECRET", "bearer token; better in --settings than on the command line"},
    {"api-key", OPTION_SECRET, AT(api_key), NULL, "SECRET", "API key; better in --settings than on the command line"},
    {"api-key-name", OPTION_TEXT, AT(api_key_name), NULL, "NAME", "its header or parameter; default: X-API-Key, or api_key in the query", .needs = "api-key"},
    {"api-key-in", OPTION_CHOICE, AT(api_key_in), "header", "header|query", "where the API key goes", .needs = "api-key"},
    {"once", OPTION_BOOL, AT(once), "no", NULL, "end when the server closes the connection and says that it is done (code 1000)"},
    {"compression", OPTION_BOOL, AT(compression), "yes", NULL, "let the server compress messages (permessage-deflate)"},
    {"message-limit", OPTION_SIZE, AT(limit), "1MiB", "SIZE", "largest message accepted, after decompression", 1024, 64 << 20},
    {"ping-interval", OPTION_DURATION, AT(ping_interval), "20s", "DURATION", "longest silence before the server is sent a ping; 0: never", 0, 86400 * NS_PER_S},
    {"ping-timeout", OPTION_DURATION, AT(ping_timeout), "20s", "DURATION", "how long the answer to a ping may take", NS_PER_MS, 86400 * NS_PER_S, .needs = "ping-interval"},
    {"connect-timeout", OPTION_DURATION, AT(connect_timeout), "10s", "DURATION", "for name look-up, connection and TLS, and then for the handshake", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts, unless the server asks for more", NS_PER_MS, 86400 * NS_PER_S},
    {"redirects", OPTION_INT, AT(redirects), "5", "N", "redirects followed at most", 0, 50},
    {"proxy", OPTION_SECRET, AT(proxy), NULL, "URL", "proxy to go through, which may hold a password; default: what http_proxy and the like say"},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's", .needs = "@tls:wss://", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one", .needs = "@tls:wss://", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "@tls:wss://, tls-cert", .readable = true},
    {0},
};

typedef struct websocket_source {
    source_t source;
    source_setup_t setup;
    const websocket_settings_t *settings;
    ws_place_t server;
    char *place;                   /* the URL for people */
    secrets_t secrets;
    websocket_t *websocket;
    payload_t text, packed;        /* what a message is decoded by; packed: msgpack that was recognised */
    payload_t *under_way;          /* NULL: no message is */
    text_t message;                /* that one: the connection's bytes, or `stored` */
    buf_t stored;                  /* one that an earlier run did not pass on whole */
    bool stored_packed;
    uint64_t stored_records;
    uint64_t count;                /* messages in all runs */
    char message_place[PLACE_MAX];
    size_t place_size;             /* of it, without the number */
    bool paused, started, was_down;
} websocket_source_t;

/* ---- messages ---- */

static void name_place(websocket_source_t *self) {
    size_t size = json_print_uint(self->message_place + self->place_size, self->count);
    self->message_place[self->place_size + size] = 0;
}

/* Maps and entries are msgpack's records: an array of such is taken apart, and --records leads into a map. */
static int find_elements(websocket_source_t *self, text_t message, text_t *records, err_t *err) {
    pack_cursor_t cursor = pack_cursor(message.data, message.size);
    value_t value, first;
    uint32_t count;
    *records = message;
    if (!pack_read_value(&cursor, &value) || (value.type != VALUE_ARRAY && !self->settings->records))
        return 0;
    if (self->settings->records && !pack_follow(text_of(self->settings->records), &value))
        return err_set(err, "the message has no %s (--records)", self->settings->records);
    if (value.type != VALUE_ARRAY && value.type != VALUE_MAP) {
        records->size = 0;
        return value.type == VALUE_NULL ? 0 : err_set(err, "what stands at %s (--records) is neither a map nor an array", self->settings->records);
    }
    text_t whole = text_make((const char *) value.packed, value.size);
    pack_cursor_t inside = pack_cursor(value.packed, value.size);
    bool array = value.type == VALUE_ARRAY && pack_read_array(&inside, &count);
    bool entry = array && count == 2 && pack_read_value(&inside, &first) && first.type != VALUE_MAP && first.type != VALUE_ARRAY;
    if (!array || entry) {
        *records = self->settings->records ? whole : message;
        return 0;
    }
    inside = pack_cursor(value.packed, value.size);
    pack_read_array(&inside, &count);
    const char *rest = self->settings->records ? (const char *) inside.end : message.data + message.size;
    *records = text_make((const char *) inside.at, (size_t) (rest - (const char *) inside.at));
    return 0;
}

/* JSON begins with no byte that a map or an array of msgpack begins with. */
static bool is_packed(const websocket_source_t *self, text_t message, bool binary) {
    bool asked = self->setup.format && strcmp(self->setup.format->name, "msgpack") == 0;
    return asked || (binary && !self->setup.format && message.size && (message.data[0] & 0x80));
}

static void begin(websocket_source_t *self, text_t message, bool packed, uint64_t skip) {
    text_t records = message;
    err_t err;
    name_place(self);
    if (packed && find_elements(self, message, &records, &err)) {
        source_bad(self->setup.host, message, self->message_place, err.text);
        return;
    }
    self->under_way = packed ? &self->packed : &self->text;
    self->message = message;
    payload_begin(self->under_way, records, NULL, self->message_place, skip);
}

static bool go_on(websocket_source_t *self) {
    if (self->under_way && !payload_go_on(self->under_way))
        return false;
    self->under_way = NULL;
    return true;
}

static void arrived(websocket_source_t *self) {
    self->count++;
    self->was_down = false;
    source_healthy(self->setup.host);
    source_moved(self->setup.host);
}

static bool on_message(void *argument, text_t message, bool binary) {
    websocket_source_t *self = argument;
    if (!self->under_way) {
        arrived(self);
        begin(self, message, is_packed(self, message, binary), 0);
    }
    return go_on(self);
}

static void on_unusable(void *argument, text_t beginning, const char *reason) {
    websocket_source_t *self = argument;
    arrived(self);
    name_place(self);
    source_bad(self->setup.host, beginning, self->message_place, reason);
}

static void on_up(void *argument) {
    websocket_source_t *self = argument;
    log_info("connected to %s", self->place);
    if (self->was_down)
        source_unhealthy(self->setup.host, "%s: connected again; no message has come since", self->place);
}

static void on_down(void *argument, const char *reason) {
    websocket_source_t *self = argument;
    self->was_down = true;
    source_unhealthy(self->setup.host, "%s: %s; trying again", self->place, reason);
}

static bool on_closed(void *argument, unsigned code) {
    websocket_source_t *self = argument;
    if (!self->settings->once || code != 1000)
        return false;
    source_ended(self->setup.host);
    return true;
}

/* ---- the source ---- */

/* What an earlier run had of a message goes first. */
static void on_stored(void *argument) {
    websocket_source_t *self = argument;
    if (self->paused || self->started || !go_on(self))
        return;
    self->started = true;
    buf_fini(&self->stored);
    websocket_start(self->websocket);
}

static int websocket_source_start(source_t *source, err_t *err) {
    websocket_source_t *self = (websocket_source_t *) source;
    source_moved(self->setup.host);
    if (self->stored.size)
        begin(self, text_make((const char *) self->stored.data, self->stored.size), self->stored_packed, self->stored_records);
    loop_defer(self->setup.loop, on_stored, self);
    return 0;
}

static void websocket_source_pause(source_t *source) {
    websocket_source_t *self = (websocket_source_t *) source;
    self->paused = true;
    websocket_pause(self->websocket);
}

static void websocket_source_resume(source_t *source) {
    websocket_source_t *self = (websocket_source_t *) source;
    self->paused = false;
    if (!self->started)
        loop_defer(self->setup.loop, on_stored, self);
    websocket_resume(self->websocket);
}

static bool is_kept(const websocket_source_t *self) {
    return self->under_way && self->message.size <= KEPT_MAX;
}

static void websocket_source_position(const source_t *source, buf_t *out) {
    const websocket_source_t *self = (const websocket_source_t *) source;
    bool kept = is_kept(self);
    pack_map(out, 5);
    pack_text(out, "server");
    pack_text(out, self->place);
    pack_text(out, "messages");
    pack_uint(out, self->count);
    pack_text(out, "packed");
    pack_bool(out, self->under_way == &self->packed);
    pack_text(out, "records");
    pack_uint(out, kept ? payload_records(self->under_way) : 0);
    pack_text(out, "message");
    pack_binary(out, kept ? self->message.data : "", kept ? self->message.size : 0);
}

static int websocket_source_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    websocket_source_t *self = (websocket_source_t *) source;
    value_t server, messages, packed, records, message;
    if (!pack_map_get(position, size, text_of("server"), &server) || server.type != VALUE_STRING ||
        !pack_map_get(position, size, text_of("messages"), &messages) || messages.type != VALUE_INT || messages.integer < 0 ||
        !pack_map_get(position, size, text_of("packed"), &packed) || packed.type != VALUE_BOOL ||
        !pack_map_get(position, size, text_of("records"), &records) || records.type != VALUE_INT || records.integer < 0 ||
        !pack_map_get(position, size, text_of("message"), &message) || message.type != VALUE_BINARY)
        return err_set(err, "the stored position is none of a WebSocket");
    if (!text_is(text_make(server.text, server.size), self->place))
        return err_set(err, "it was made for %.*s", (int) (server.size < 200 ? server.size : 200), server.text);
    self->count = messages.unsigned_integer;
    self->stored_packed = packed.boolean;
    self->stored_records = records.unsigned_integer;
    buf_reserve(&self->stored, message.size + 64); /* decoders may look so far past the end */
    buf_put(&self->stored, message.text, message.size);
    return 0;
}

static void websocket_source_free(source_t *source) {
    websocket_source_t *self = (websocket_source_t *) source;
    if (self->under_way && !(is_kept(self) && source_keeps_position(self->setup.host)))
        log_warning("%s was cut off in the middle: its other records are lost", self->message_place);
    loop_undefer(self->setup.loop, on_stored, self);
    websocket_free(self->websocket);
    payload_fini(&self->text);
    payload_fini(&self->packed);
    secrets_fini(&self->secrets);
    ws_place_fini(&self->server);
    buf_fini(&self->stored);
    mem_free(self->place);
    mem_free(self);
}

static const source_class_t class = {
    .start = websocket_source_start,
    .pause = websocket_source_pause,
    .resume = websocket_source_resume,
    .position = websocket_source_position,
    .restore = websocket_source_restore,
    .free = websocket_source_free,
};

/* A word as HTTP's headers have it (RFC 9110, 5.6.2), or several of its characters. */
static bool is_token(const char *text) {
    for (const char *c = text; *c; c++) {
        if (!isalnum((unsigned char) *c) && !strchr("!#$%&'*+-.^_`|~", *c))
            return false;
    }
    return *text;
}

static int check_headers(const websocket_settings_t *settings, err_t *err) {
    if (settings->headers.count > HEADERS_MAX || settings->protocols.count > HEADERS_MAX)
        return err_set(err, "--header and --subprotocol: at most %d", HEADERS_MAX);
    for (size_t i = 0; i < settings->headers.count; i++) {
        const char *header = settings->headers.items[i];
        if (!strchr(header, ':') || *header == ':' || strpbrk(header, "\r\n"))
            return err_set(err, "--header: takes \"Name: value\" on one line");
        if (ws_own_header(header))
            return err_set(err, "--header %.*s: this one is made here%s", (int) strcspn(header, ":"), header,
                           strncasecmp(header, "Sec-WebSocket-Protocol", 22) == 0 ? "; see --subprotocol" : "");
    }
    for (size_t i = 0; i < settings->protocols.count; i++) {
        if (!is_token(settings->protocols.items[i]))
            return err_set(err, "--subprotocol: takes a name of letters, digits and - . _");
    }
    const char *secrets[] = {settings->token, settings->api_key, settings->user, settings->password};
    static const char *const names[] = {"token", "api-key", "user", "password"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (secrets[i] && strpbrk(secrets[i], "\r\n"))
            return err_set(err, "--%s: takes one line; is there a line end at the end of its file?", names[i]);
    }
    if (settings->api_key_name && !is_token(settings->api_key_name))
        return err_set(err, "--api-key-name: takes the name alone");
    if (settings->user && strchr(settings->user, ':'))
        return err_set(err, "--user: Basic authentication has no place for a colon in it");
    return 0;
}

static int websocket_check(const source_setup_t *setup, err_t *err) {
    const websocket_settings_t *settings = setup->settings;
    ws_place_t server = {0};
    if (ws_place_read(&server, setup->url, err))
        return -1;
    bool login = settings->user || server.user;
    ws_place_fini(&server);
    if (check_headers(settings, err))
        return -1;
    if (settings->token && login)
        return err_set(err, "--token goes with no user: there is one header for both");
    if (settings->retry_max < settings->retry_min)
        return err_set(err, "--retry-max is below --retry-min");
    if (settings->subscribe.count > GREETINGS_MAX)
        return err_set(err, "--subscribe: at most %d", GREETINGS_MAX);
    for (size_t i = 0; i < settings->subscribe.count; i++) {
        size_t size = strlen(settings->subscribe.items[i]);
        if (text_utf8_valid(settings->subscribe.items[i], size) < size)
            return err_set(err, "--subscribe: text messages are UTF-8");
    }
    bool pathless = setup->format && strcmp(setup->format->name, "json") != 0 && strcmp(setup->format->name, "msgpack") != 0;
    if (settings->records && pathless)
        return err_set(err, "--records is for JSON and msgpack, not for --format %s", setup->format->name);
    return 0;
}

/* The key in the query, encoded; the URL that people see is without it. */
static char *put_key(const char *target, const char *name, const char *key) {
    static const char digits[] = "0123456789ABCDEF";
    buf_t out = {0};
    buf_format(&out, "%s%s%s=", target, !strchr(target, '?') ? "?" : text_ends(target, "?") || text_ends(target, "&") ? "" : "&", name);
    for (const char *c = key; *c; c++) {
        if (isalnum((unsigned char) *c) || strchr("-._~", *c)) {
            buf_put_byte(&out, (uint8_t) *c);
        } else {
            buf_put_byte(&out, '%');
            buf_put_byte(&out, (uint8_t) digits[(unsigned char) *c >> 4]);
            buf_put_byte(&out, (uint8_t) digits[*c & 15]);
        }
    }
    char *made = mem_text(buf_text(&out));
    buf_fini(&out);
    return made;
}

static void add_login(websocket_source_t *self, websocket_setup_t *setup) {
    const websocket_settings_t *settings = self->settings;
    setup->user = settings->user ? settings->user : self->server.user;
    setup->password = settings->password ? settings->password : self->server.password;
    setup->bearer = settings->token;
    if (settings->api_key && settings->api_key_in == 0) {
        setup->api_key = settings->api_key;
        setup->api_key_name = settings->api_key_name ? settings->api_key_name : "X-API-Key";
    } else if (settings->api_key) {
        char *target = put_key(self->server.target, settings->api_key_name ? settings->api_key_name : "api_key", settings->api_key);
        mem_free(self->server.target);
        self->server.target = target;
    }
    secrets_add_url(&self->secrets, text_of(self->setup.url));
    secrets_add(&self->secrets, text_of(settings->token));
    secrets_add(&self->secrets, text_of(settings->api_key));
    secrets_add_login(&self->secrets, text_of(setup->user), text_of(setup->password));
    for (size_t i = 0; i < settings->headers.count; i++)
        secrets_add_header(&self->secrets, settings->headers.items[i]);
}

static void make_connection(websocket_source_t *self) {
    const websocket_settings_t *settings = self->settings;
    websocket_setup_t setup = {
        .loop = self->setup.loop,
        .place = &self->server,
        .headers = &settings->headers,
        .protocols = &settings->protocols,
        .greetings = &settings->subscribe,
        .secrets = &self->secrets,
        .compression = settings->compression,
        .redirects = (unsigned) settings->redirects,
        .limit = settings->limit,
        .ping_interval = settings->ping_interval,
        .ping_timeout = settings->ping_timeout,
        .retry_min = settings->retry_min,
        .retry_max = settings->retry_max,
        .proxy = settings->proxy,
        .peer = {NULL, 0, false, settings->tls_ca, settings->tls_cert, settings->tls_key, settings->connect_timeout},
        .message = on_message,
        .unusable = on_unusable,
        .up = on_up,
        .down = on_down,
        .closed = on_closed,
        .argument = self,
    };
    add_login(self, &setup);
    self->websocket = websocket_new(&setup);
}

static int websocket_open(source_t **source, const source_setup_t *setup, err_t *err) {
    source_setup_t packed = *setup;
    websocket_source_t *self = mem_zero(sizeof *self);
    buf_t place = {0};
    self->source.class = &class;
    self->setup = *setup;
    self->settings = setup->settings;
    packed.format = format_find("msgpack");
    if (ws_place_read(&self->server, setup->url, err) || payload_init(&self->text, setup, err) || payload_init(&self->packed, &packed, err)) {
        payload_fini(&self->text);
        ws_place_fini(&self->server);
        mem_free(self);
        return -1;
    }
    self->text.records = self->settings->records;
    url_put_redacted(&place, text_of(setup->url));
    self->place = mem_text(buf_text(&place));
    buf_fini(&place);
    snprintf(self->message_place, PLACE_MAX - JSON_INT_MAX - 16, "%s", self->place);
    text_make_valid(self->message_place);
    self->place_size = strlen(self->message_place);
    self->place_size += (size_t) snprintf(self->message_place + self->place_size, 16, " message ");
    make_connection(self);
    *source = &self->source;
    return 0;
}

/* The host's name. */
static const char *websocket_stream(const source_setup_t *setup, buf_t *space) {
    ws_place_t server = {0};
    err_t err;
    bool good = ws_place_read(&server, setup->url, &err) == 0 && !strchr(server.host, ':');
    buf_put_text(space, good ? server.host : "websocket");
    ws_place_fini(&server);
    return buf_text(space);
}

static int websocket_holds(const source_setup_t *setup, text_t name, text_t value) {
    return text_is(name, "tls") ? strncasecmp(setup->url, "wss:", 4) == 0 : -1;
}

const source_driver_t source_websocket = {
    .name = "websocket",
    .schemes = {"ws", "wss"},
    .types = {{"websocket"}, {"ws"}, {"wss"}},
    .usage = "ws://..., wss://...",
    .help = "messages of a WebSocket server: JSON, msgpack, or as --format says",
    .options = options,
    .settings_size = sizeof(websocket_settings_t),
    .formats = "json|msgpack",
    .holds = websocket_holds,
    .stream = websocket_stream,
    .check = websocket_check,
    .open = websocket_open,
};
