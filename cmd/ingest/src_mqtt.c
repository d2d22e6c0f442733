/* Source "mqtt:", "mqtts:": messages of an MQTT server. Here are the options, the topic's fields, and the position; the session is in mqtt.c, what becomes of a payload in payload.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"
#include "mqtt.h"
#include "mqtt_presence.h"
#include "payload.h"
#include "server_url.h"
#include "source.h"


typedef struct mqtt_settings {
    option_list_t topics;
    int64_t qos;
    int protocol;
    char *client_id;
    char *topic_field, *topic_fields, *retained_field;
    option_list_t presence;
    char *presence_online, *presence_offline;
    bool retained;
    char *user, *password;
    int64_t keepalive, session_expiry, connect_timeout, retry_min, retry_max;
    char *tls_ca, *tls_cert, *tls_key;
} mqtt_settings_t;

#define AT(field) offsetof(mqtt_settings_t, field)
static const option_t options[] = {
    {"topic", OPTION_LIST, AT(topics), NULL, "FILTER", "a topic besides the URL's; + and # stand for one and all further levels"},
    {"qos", OPTION_INT, AT(qos), "1", "0|1|2", "quality of service asked for", 0, 2},
    {"protocol", OPTION_CHOICE, AT(protocol), "3.1.1", "3.1.1|5", "version of MQTT"},
    {"client-id", OPTION_TEXT, AT(client_id), NULL, "NAME", "the session's name on the server; default: made up, and kept with --state"},
    {"topic-field", OPTION_TEXT, AT(topic_field), NULL, "NAME", "the field that gets the message's topic"},
    {"topic-fields", OPTION_TEXT, AT(topic_fields), NULL, "NAME,...", "fields that get the topic's levels, from the first on; - for none"},
    {"retained", OPTION_BOOL, AT(retained), "yes", NULL, "take messages that the server kept from before the subscription"},
    {"retained-field", OPTION_TEXT, AT(retained_field), NULL, "NAME", "the field that tells whether the message was such a one"},
    {"presence", OPTION_LIST, AT(presence), NULL, "TOPIC", "where a device's last will or gateway says whether it is there, with {device} for its name (--device)", .needs = "device"},
    {"presence-online", OPTION_TEXT, AT(presence_online), "online,connected,ready,true,1", "WORD,...", "payloads there that mean: it is online", .needs = "presence"},
    {"presence-offline", OPTION_TEXT, AT(presence_offline), "offline,disconnected,lost,false,0", "WORD,...", "payloads there that mean: it is not", .needs = "presence"},
    {"user", OPTION_TEXT, AT(user), NULL, "NAME", "user name, instead of the URL's"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line"},
    {"keepalive", OPTION_DURATION, AT(keepalive), "60s", "DURATION", "longest silence before the connection is tested; 0: never", 0, 65535 * NS_PER_S},
    {"session-expiry", OPTION_DURATION, AT(session_expiry), "7d", "DURATION", "with --protocol 5: how long the server keeps the session of one who is away",
     NS_PER_S, INT64_C(36500) * 86400 * NS_PER_S, .needs = "protocol=5, client-id or state"},
    {"connect-timeout", OPTION_DURATION, AT(connect_timeout), "10s", "DURATION", "for name look-up, connection and TLS", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts", NS_PER_MS, 86400 * NS_PER_S},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's", .needs = "@tls:mqtts://", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one", .needs = "@tls:mqtts://", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "@tls:mqtts://, tls-cert", .readable = true},
    {0},
};

typedef struct mqtt_source {
    source_t source;
    source_setup_t setup;
    const mqtt_settings_t *settings;
    server_url_t url;
    char *place;                   /* "mqtt://host:port" */
    char *client;
    const char **filters;
    size_t filter_count;
    size_t data_filters;           /* so many, then those of presence */
    char **presence_filters;       /* ended by NULL */
    buf_t device;                  /* whose presence a message tells of */
    mqtt_t *mqtt;
    payload_t payload;
    bool restored, waiting;        /* waiting: for our name to be durable, before the server hears it */
    /* the message under way */
    bool delivering;
    uint16_t id;
    buf_t topic;
    tag_t tag;
    /* A message of which some records were handed over, and which the server will send again: it was never acknowledged. id 0: none. */
    uint16_t partial_id;
    uint64_t partial_records;
} mqtt_source_t;

/* The topic's parts and the flag as fields. */

static void make_tag(mqtt_source_t *self, const mqtt_packet_t *packet) {
    const mqtt_settings_t *settings = self->settings;
    tag_t *tag = &self->tag;
    tag_clear(tag);
    if (settings->topic_field)
        tag_put_text(tag, text_of(settings->topic_field), packet->topic);
    if (settings->topic_fields)
        tag_put_parts(tag, settings->topic_fields, packet->topic, '/');
    if (settings->retained_field) {
        pack_text(&tag->pairs, settings->retained_field);
        pack_bool(&tag->pairs, packet->retained);
        tag->count++;
    }
}

static void name_place(mqtt_source_t *self, const mqtt_packet_t *packet) {
    buf_clear(&self->topic);
    text_put_visible(&self->topic, packet->topic, 200);
}

/* Whether the message is a word about presence; then it is no event. */
static bool take_presence(mqtt_source_t *self, const mqtt_packet_t *packet) {
    const mqtt_settings_t *settings = self->settings;
    source_host_t *host = self->setup.host;
    size_t i = 0;
    if (!source_has_devices(host))
        return false;
    while (i < settings->presence.count && !presence_match(settings->presence.items[i], packet->topic, &self->device))
        i++;
    if (i == settings->presence.count)
        return false;
    bool online = presence_says(packet->payload, settings->presence_online);
    if (online || presence_says(packet->payload, settings->presence_offline)) {
        source_presence(host, text_make((const char *) self->device.data, self->device.size), online, packet->retained);
        source_healthy(host);
    } else if (packet->payload.size) { /* an empty one takes a kept message away, and says nothing */
        name_place(self, packet);
        source_bad(host, text_make(packet->payload.data, packet->payload.size < 1024 ? packet->payload.size : 1024), buf_text(&self->topic),
                   "neither of --presence-online nor of --presence-offline");
    }
    return true;
}

static bool on_message(void *argument, const mqtt_packet_t *packet) {
    mqtt_source_t *self = argument;
    if (!self->delivering) {
        if (take_presence(self, packet) || (packet->retained && !self->settings->retained))
            return true;
        source_kept(self->setup.host, packet->retained);
        name_place(self, packet);
        make_tag(self, packet);
        self->id = packet->id;
        self->delivering = true;
        bool again = packet->id && packet->id == self->partial_id;
        payload_begin(&self->payload, packet->payload, &self->tag, buf_text(&self->topic), again ? self->partial_records : 0);
        if (again)
            self->partial_id = 0;
    }
    if (!payload_go_on(&self->payload))
        return false;
    self->delivering = false;
    source_healthy(self->setup.host);
    return true;
}

static void on_unusable(void *argument, const mqtt_packet_t *packet, const char *reason) {
    mqtt_source_t *self = argument;
    name_place(self, packet);
    source_bad(self->setup.host, text_make(packet->payload.data, packet->payload.size < 1024 ? packet->payload.size : 1024), buf_text(&self->topic), reason);
}

static void on_moved(void *argument) {
    source_moved(((mqtt_source_t *) argument)->setup.host);
}

static void on_up(void *argument) {
    source_healthy(((mqtt_source_t *) argument)->setup.host);
}

/* What was begun will come again, when it has an identifier. */
static void on_down(void *argument, const char *reason) {
    mqtt_source_t *self = argument;
    if (self->delivering) {
        self->delivering = false;
        self->partial_id = self->id;
        self->partial_records = payload_records(&self->payload);
        payload_end(&self->payload);
    }
    source_unhealthy(self->setup.host, "%s: %s; trying again", self->place, reason);
}

static void on_forgotten(void *argument) {
    ((mqtt_source_t *) argument)->partial_id = 0;
}

/* The source. */

/* A new name is known to the server only when it is safe here: otherwise a session could be left behind there, and collect messages for nobody. */
static int mqtt_source_start(source_t *source, err_t *err) {
    mqtt_source_t *self = (mqtt_source_t *) source;
    bool keeps = source_keeps_position(self->setup.host);
    if (!keeps)
        mqtt_durable(self->mqtt, UINT64_MAX);
    source_moved(self->setup.host);
    self->waiting = keeps && !self->restored;
    if (!self->waiting)
        mqtt_start(self->mqtt);
    return 0;
}

static void mqtt_source_pause(source_t *source) {
    mqtt_pause(((mqtt_source_t *) source)->mqtt);
}

static void mqtt_source_resume(source_t *source) {
    mqtt_resume(((mqtt_source_t *) source)->mqtt);
}

static void mqtt_source_position(const source_t *source, buf_t *out) {
    const mqtt_source_t *self = (const mqtt_source_t *) source;
    bool delivering = self->delivering && self->id;
    pack_map(out, MQTT_STATE_ENTRIES + 4);
    pack_text(out, "server");
    pack_text(out, self->place);
    pack_text(out, "client");
    pack_text(out, self->client);
    mqtt_pack_state(self->mqtt, out);
    pack_text(out, "id");
    pack_uint(out, delivering ? self->id : self->partial_id);
    pack_text(out, "records");
    pack_uint(out, delivering ? payload_records(&self->payload) : self->partial_records);
}

static bool stored_text(const uint8_t *position, size_t size, const char *name, text_t *text) {
    value_t value;
    if (!pack_map_get(position, size, text_of(name), &value) || value.type != VALUE_STRING)
        return false;
    *text = text_make(value.text, value.size);
    return true;
}

static int mqtt_source_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    mqtt_source_t *self = (mqtt_source_t *) source;
    text_t server, client;
    value_t id, records;
    if (!stored_text(position, size, "server", &server) || !stored_text(position, size, "client", &client) || !client.size || client.size > 65535 ||
        !pack_map_get(position, size, text_of("id"), &id) || !pack_map_get(position, size, text_of("records"), &records) ||
        id.type != VALUE_INT || id.integer < 0 || id.integer > 65535 || records.type != VALUE_INT || records.integer < 0)
        return err_set(err, "the stored position is none of an MQTT server");
    if (!text_is(server, self->place))
        return err_set(err, "it was made for %.*s", (int) (server.size < 200 ? server.size : 200), server.data);
    if (self->settings->client_id && !text_is(client, self->settings->client_id))
        return err_set(err, "it was made for the client id %.*s", (int) (client.size < 200 ? client.size : 200), client.data);
    if (mqtt_restore(self->mqtt, position, size, err))
        return -1;
    size_t room = strlen(self->client);
    if (!self->settings->client_id && client.size != room)
        return err_set(err, "the stored position has another kind of client id: give it by --client-id");
    memcpy(self->client, client.data, client.size); /* in place: the session has it already */
    self->partial_id = (uint16_t) id.integer;
    self->partial_records = records.unsigned_integer;
    self->restored = true;
    return 0;
}

static void mqtt_source_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    mqtt_source_t *self = (mqtt_source_t *) source;
    value_t step;
    if (pack_map_get(position, size, text_of("step"), &step) && step.type == VALUE_INT)
        mqtt_durable(self->mqtt, step.unsigned_integer);
    if (self->waiting) {
        self->waiting = false;
        mqtt_start(self->mqtt);
    }
}

static void mqtt_source_free(source_t *source) {
    mqtt_source_t *self = (mqtt_source_t *) source;
    mqtt_free(self->mqtt);
    payload_fini(&self->payload);
    buf_fini(&self->topic);
    buf_fini(&self->device);
    for (size_t i = 0; self->presence_filters[i]; i++)
        mem_free(self->presence_filters[i]);
    mem_free(self->presence_filters);
    buf_fini(&self->tag.pairs);
    server_url_fini(&self->url);
    mem_free(self->filters);
    mem_free(self->client);
    mem_free(self->place);
    mem_free(self);
}

static const source_class_t class = {
    .start = mqtt_source_start,
    .pause = mqtt_source_pause,
    .resume = mqtt_source_resume,
    .position = mqtt_source_position,
    .restore = mqtt_source_restore,
    .acknowledge = mqtt_source_acknowledge,
    .free = mqtt_source_free,
};

static bool is_tls(const source_setup_t *setup) {
    return strncasecmp(setup->url, "mqtts:", 6) == 0;
}

static int read_url(server_url_t *url, const source_setup_t *setup, err_t *err) {
    url->tls = is_tls(setup);
    return server_url_read(url, setup->rest, url->tls ? 8883 : 1883, "an address of MQTT looks like mqtt://host:1883/topic/#", err);
}

static int check_fields(const mqtt_settings_t *settings, err_t *err) {
    buf_t seen = {0};
    int result = tag_check_parts(settings->topic_fields, "topic-fields", &seen, err) || tag_check_name(settings->topic_field, "topic-field", &seen, err) ||
                 tag_check_name(settings->retained_field, "retained-field", &seen, err) ? -1 : 0;
    buf_fini(&seen);
    return result;
}

static int check_login(const mqtt_settings_t *settings, const server_url_t *url, err_t *err) {
    const char *user = settings->user ? settings->user : url->user, *password = settings->password ? settings->password : url->password;
    if (password && !user && settings->protocol == 0)
        return err_set(err, "--password needs --user with --protocol 3.1.1");
    if ((user && strlen(user) > 65535) || (password && strlen(password) > 65535) || (settings->client_id && strlen(settings->client_id) > 65535))
        return err_set(err, "--user, --password and --client-id have at most 65535 bytes");
    if (settings->client_id && !*settings->client_id)
        return err_set(err, "--client-id is empty");
    return 0;
}

static int mqtt_check(const source_setup_t *setup, err_t *err) {
    const mqtt_settings_t *settings = setup->settings;
    server_url_t url = {0};
    if (read_url(&url, setup, err))
        return -1;
    int result = *url.path ? mqtt_check_filter(url.path, err) : 0;
    for (size_t i = 0; i < settings->topics.count && !result; i++)
        result = mqtt_check_filter(settings->topics.items[i], err);
    for (size_t i = 0; i < settings->presence.count && !result; i++)
        result = presence_check(settings->presence.items[i], err);
    if (!result && !*url.path && !settings->topics.count)
        result = err_set(err, "which topic? mqtt://host/topic/# or --topic FILTER; # is all topics");
    if (!result && settings->retry_max < settings->retry_min)
        result = err_set(err, "--retry-max is below --retry-min");
    if (!result)
        result = check_login(settings, &url, err) || check_fields(settings, err) ? -1 : 0;
    server_url_fini(&url);
    return result;
}

/* 22 letters and digits: what every server must take. */
static char *new_client(void) {
    uint64_t number = 0;
    if (getentropy(&number, sizeof number))
        number = (uint64_t) clock_now();
    return mem_format("ingest%016llx", (unsigned long long) number);
}

static void add_filter(mqtt_source_t *self, const char *filter) {
    if (source_trial(self->setup.host) && strncmp(filter, "$share/", 7) == 0) /* others are to get their share all the same */
        filter = strchr(filter + 7, '/') + 1;
    for (size_t i = 0; i < self->filter_count; i++)
        if (strcmp(self->filters[i], filter) == 0)
            return;
    if (*filter)
        self->filters[self->filter_count++] = filter;
}

static void choose_filters(mqtt_source_t *self) {
    const mqtt_settings_t *settings = self->settings;
    size_t presence = source_has_devices(self->setup.host) ? settings->presence.count : 0;
    self->filters = mem_zero((settings->topics.count + presence + 1) * sizeof *self->filters);
    self->presence_filters = mem_zero((presence + 1) * sizeof *self->presence_filters);
    add_filter(self, self->url.path);
    for (size_t i = 0; i < settings->topics.count; i++)
        add_filter(self, settings->topics.items[i]);
    self->data_filters = self->filter_count;
    for (size_t i = 0; i < presence; i++)
        add_filter(self, self->presence_filters[i] = presence_filter(settings->presence.items[i]));
}

static void make_session(mqtt_source_t *self) {
    const mqtt_settings_t *settings = self->settings;
    bool lasting = !source_trial(self->setup.host) && (settings->client_id || source_keeps_position(self->setup.host));
    int64_t keepalive = (settings->keepalive + NS_PER_S - 1) / NS_PER_S;
    mqtt_setup_t setup = {
        .loop = self->setup.loop,
        .peer = {self->url.host, self->url.port, self->url.tls, settings->tls_ca, settings->tls_cert, settings->tls_key, settings->connect_timeout},
        .retry_min = settings->retry_min,
        .retry_max = settings->retry_max,
        .connect = {
            .version = settings->protocol ? MQTT_5_0 : MQTT_3_1_1,
            .client = self->client,
            .user = settings->user ? settings->user : self->url.user,
            .password = settings->password ? settings->password : self->url.password,
            .clean = !lasting,
            .keepalive = (uint16_t) keepalive,
            .expiry = lasting ? (uint32_t) (settings->session_expiry / NS_PER_S) : 0,
        },
        .filters = self->filters,
        .filter_count = self->filter_count,
        .kept_from = self->data_filters,
        .qos = (unsigned) settings->qos,
        .retained = settings->retained,
        .message = on_message,
        .unusable = on_unusable,
        .moved = on_moved,
        .up = on_up,
        .down = on_down,
        .forgotten = on_forgotten,
        .argument = self,
    };
    self->mqtt = mqtt_new(&setup);
}

static int mqtt_open(source_t **source, const source_setup_t *setup, err_t *err) {
    const mqtt_settings_t *settings = setup->settings;
    server_url_t url = {0};
    payload_t payload;
    if (read_url(&url, setup, err))
        return -1;
    if (payload_init(&payload, setup, err)) {
        server_url_fini(&url);
        return -1;
    }
    mqtt_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    self->settings = settings;
    self->url = url;
    self->payload = payload;
    self->place = server_url_place(url.tls ? "mqtts" : "mqtt", url.host, url.port);
    self->client = settings->client_id && !source_trial(setup->host) ? mem_text(settings->client_id) : new_client();
    choose_filters(self);
    make_session(self);
    *source = &self->source;
    return 0;
}

/* The host's name. */
static const char *mqtt_stream(const source_setup_t *setup, buf_t *space) {
    server_url_t url = {0};
    err_t err;
    bool good = read_url(&url, setup, &err) == 0;
    buf_put_text(space, good && !strchr(url.host, ':') ? url.host : "mqtt");
    server_url_fini(&url);
    return buf_text(space);
}

static int mqtt_holds(const source_setup_t *setup, text_t name, text_t value) {
    return text_is(name, "tls") ? is_tls(setup) : -1;
}

const source_driver_t source_mqtt = {
    .name = "mqtt",
    .schemes = {"mqtt", "mqtts"},
    .types = {{"mqtt"}, {"mqtts"}},
    .usage = "mqtt://HOST/TOPIC, mqtts://...",
    .help = "messages of an MQTT server; payloads of JSON, or as --format says",
    .options = options,
    .settings_size = sizeof(mqtt_settings_t),
    .query = true,
    .formats = "json",
    .holds = mqtt_holds,
    .stream = mqtt_stream,
    .check = mqtt_check,
    .open = mqtt_open,
};
