/* Source "redis:", "rediss:": streams of a Redis server, alone or as a consumer of a group, and its channels. Here are the options, the connections and the
 * position; reading is in redis_stream.c, what becomes of an entry in redis_entry.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "redis_source.h"

#define STREAMS_MAX 1000
#define SETTLE (2 * NS_PER_S)
#define LIKE "an address of Redis looks like redis://host:6379/stream or redis://host:6379/DATABASE/stream"

#define AT(field) offsetof(redis_settings_t, field)
static const option_t options[] = {
    {"key", OPTION_LIST, AT(keys), NULL, "NAME", "a stream besides the URL's"},
    {"group", OPTION_TEXT, AT(group), NULL, "NAME", "read as a consumer of this group, which is made when there is none; default: alone, every entry", .needs = "!channel, !channel-pattern"},
    {"consumer", OPTION_TEXT, AT(consumer), NULL, "NAME", "our name in the group; default: the host's, with --state made up and kept", .needs = "group"},
    {"begin", OPTION_TEXT, AT(begin), "first", "first|new|ID", "where a stream, or a new group, begins the first time: behind an entry's identifier", .needs = "!channel, !channel-pattern"},
    {"claim", OPTION_DURATION, AT(claim), "0", "DURATION", "take over what other consumers have left unacknowledged for so long; 0: never", 0, 86400 * 365 * NS_PER_S, .needs = "group"},
    {"field", OPTION_TEXT, AT(field), NULL, "NAME", "the entry's field that holds the payload, of JSON or --format; default: an entry is an event of its fields", .needs = "!channel, !channel-pattern"},
    {"id-field", OPTION_TEXT, AT(id_field), NULL, "NAME", "the field that gets the entry's identifier", .needs = "!channel, !channel-pattern"},
    {"key-field", OPTION_TEXT, AT(key_field), NULL, "NAME", "the field that gets the stream's name", .needs = "!channel, !channel-pattern"},
    {"id-time", OPTION_BOOL, AT(id_time), "yes", NULL, "the identifier gives the event time, if it is one", .needs = "!channel, !channel-pattern"},
    {"strings", OPTION_BOOL, AT(strings), NULL, NULL, "all fields stay text; default: numbers, true and false are recognised", .needs = "!channel, !channel-pattern"},
    {"channel", OPTION_LIST, AT(channels), NULL, "NAME", "receive a channel's messages (SUBSCRIBE) instead of streams"},
    {"channel-pattern", OPTION_LIST, AT(patterns), NULL, "PATTERN", "the same for all channels of such names (PSUBSCRIBE)"},
    {"channel-field", OPTION_TEXT, AT(channel_field), NULL, "NAME", "the field that gets the channel's name", .needs = "channel or channel-pattern"},
    {"database", OPTION_INT, AT(database), "0", "N", "number of the database, unless the URL has one", 0, INT32_MAX},
    {"user", OPTION_TEXT, AT(user), NULL, "NAME", "user name, instead of the URL's"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line"},
    {"connect-timeout", OPTION_DURATION, AT(connect_timeout), "10s", "DURATION", "for name look-up, connection and TLS, and for answers", NS_PER_MS,
     3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts", NS_PER_MS, 86400 * NS_PER_S},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's", .needs = "@tls:rediss://", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one", .needs = "@tls:rediss://", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "@tls:rediss://, tls-cert", .readable = true},
    {0},
};

static void connect_now(void *argument);

/* Connections: both, or none. */

static void disconnect(redis_source_t *self) {
    loop_remove(self->timer);
    self->timer = NULL;
    redis_free(self->reader);
    redis_free(self->clerk);
    self->reader = self->clerk = NULL;
    redis_acks_unsent(&self->acks);
    redis_entry_leave(self);
}

static void on_down(void *argument, const char *reason) {
    redis_source_t *self = argument;
    char *words = mem_text(reason); /* it is the connection's */
    disconnect(self);
    self->timer = loop_timer(self->setup.loop, backoff_next(&self->backoff), 0, connect_now, self);
    source_unhealthy(self->setup.host, "%s: %s; trying again", self->place, words);
    mem_free(words);
}

static void on_too_large(void *argument, unsigned depth, text_t beginning) {
    redis_source_t *self = argument;
    if (self->settings->channels.count + self->settings->patterns.count)
        source_bad(self->setup.host, beginning, self->place, "the message is larger than 16 MiB");
    else if (self->phase == REDIS_CLAIMING)
        redis_entry_too_large(self, &self->streams[self->claim.stream], beginning);
    else if (depth == 3 && self->current)
        redis_entry_too_large(self, self->current, beginning);
    else
        self->look.value_next = false; /* a stream's first or last entry, in XINFO */
}

static redis_t *connect_one(redis_source_t *self, void (*up)(void *argument)) {
    const redis_settings_t *settings = self->settings;
    redis_setup_t setup = {
        .loop = self->setup.loop,
        .peer = {self->url.host, self->url.port, self->url.tls, settings->tls_ca, settings->tls_cert, settings->tls_key, settings->connect_timeout},
        .user = settings->user ? settings->user : self->url.user,
        .password = settings->password ? settings->password : self->url.password,
        .database = self->database,
        .up = up,
        .down = on_down,
        .too_large = on_too_large,
        .argument = self,
    };
    return redis_new(&setup);
}

static bool on_message(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_source_t *self = argument;
    int result = redis_message_take(self, raw);
    if (result < 0)
        redis_stream_lose(self, item);
    else
        backoff_reset(&self->backoff);
    source_healthy(self->setup.host);
    return result != 0;
}

static void put_names(buf_t *out, const char *command, const option_list_t *names) {
    if (!names->count)
        return;
    redis_put_command(out, 1 + names->count);
    redis_put_word(out, text_of(command));
    for (size_t i = 0; i < names->count; i++)
        redis_put_word(out, text_of(names->items[i]));
}

static void subscribe(redis_source_t *self) {
    redis_request_t request = {.piece = on_message, .argument = self, .lasting = true};
    buf_clear(&self->command);
    put_names(&self->command, "SUBSCRIBE", &self->settings->channels);
    put_names(&self->command, "PSUBSCRIBE", &self->settings->patterns);
    redis_send(self->reader, &self->command, &request);
}

static void on_clerk_up(void *argument) {
    redis_acks_tell(argument);
}

static void on_reader_up(void *argument) {
    redis_source_t *self = argument;
    if (!self->stream_count) {
        subscribe(self);
        return;
    }
    if (self->grouped)
        self->clerk = connect_one(self, on_clerk_up);
    redis_stream_start(self);
}

static void connect_now(void *argument) {
    redis_source_t *self = argument;
    self->timer = NULL;
    self->reader = connect_one(self, on_reader_up);
    if (!source_room(self->setup.host))
        redis_pause(self->reader);
}

/* Acknowledgements. */

static bool on_acknowledged(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_source_t *self = argument;
    if (item->type != REDIS_ERROR) {
        redis_acks_confirmed(&self->acks);
        return true;
    }
    char *words = mem_text_n(item->text.data, item->text.size);
    redis_lose(self->clerk, words);
    mem_free(words);
    return true;
}

void redis_acks_tell(redis_source_t *self) {
    redis_request_t request = {.piece = on_acknowledged, .argument = self};
    size_t from, count;
    if (!redis_is_up(self->clerk) || self->phase == REDIS_OWN || self->phase == REDIS_OWN_CLAIMED)
        return;
    while (redis_acks_batch(&self->acks, &from, &count)) {
        buf_t command = {0};
        char id[REDIS_ID_TEXT];
        redis_put_command(&command, 3 + count);
        redis_put_word(&command, text_of("XACK"));
        redis_put_word(&command, text_of(self->streams[redis_acks_at(&self->acks, from)->stream].key));
        redis_put_word(&command, text_of(self->settings->group));
        for (size_t i = 0; i < count; i++) {
            size_t size = redis_id_print(id, redis_acks_at(&self->acks, from + i)->id);
            redis_put_word(&command, text_make(id, size));
        }
        redis_send(self->clerk, &command, &request);
        buf_fini(&command);
    }
}

/* The source. */

/* A name that was made up is known to the server only when it is safe here: what it is given is pending under that name. */
static int redis_source_start(source_t *source, err_t *err) {
    redis_source_t *self = (redis_source_t *) source;
    bool keeps = source_keeps_position(self->setup.host);
    if (!keeps)
        self->acks.durable = UINT64_MAX;
    source_moved(self->setup.host);
    self->waiting = keeps && !self->restored && self->grouped;
    if (!self->waiting)
        self->timer = loop_timer(self->setup.loop, 0, 0, connect_now, self);
    return 0;
}

static void redis_source_pause(source_t *source) {
    redis_pause(((redis_source_t *) source)->reader);
}

static void redis_source_resume(source_t *source) {
    redis_resume(((redis_source_t *) source)->reader);
}

static void pack_id(buf_t *out, redis_id_t id) {
    pack_uint(out, id.ms);
    pack_uint(out, id.number);
}

/* Each begun stream: [key, ms, number, entries added or nil]. */
static void pack_streams(const redis_source_t *self, buf_t *out) {
    uint32_t begun = 0;
    for (size_t i = 0; i < self->stream_count; i++)
        begun += self->streams[i].begun;
    pack_array(out, begun);
    for (size_t i = 0; i < self->stream_count; i++) {
        const redis_stream_t *stream = &self->streams[i];
        if (!stream->begun)
            continue;
        pack_array(out, 4);
        pack_text(out, stream->key);
        pack_id(out, stream->last);
        if (stream->counting)
            pack_uint(out, stream->added);
        else
            pack_nil(out);
    }
}

/* Each claimed entry that was taken and may not be acknowledged: [key, ms, number]. */
static void pack_claimed(const redis_source_t *self, buf_t *out) {
    pack_array(out, (uint32_t) self->acks.claimed);
    for (size_t i = 0; self->acks.claimed && i < self->acks.count; i++) {
        const redis_ack_t *ack = redis_acks_at(&self->acks, i);
        if (!ack->claimed)
            continue;
        pack_array(out, 3);
        pack_text(out, self->streams[ack->stream].key);
        pack_id(out, ack->id);
    }
}

static void redis_source_position(const source_t *source, buf_t *out) {
    const redis_source_t *self = (const redis_source_t *) source;
    redis_partial_t partial = self->partial;
    if (self->delivering && self->entry.stream) {
        partial = self->entry;
        partial.records = payload_records(&self->payload);
    }
    pack_map(out, 7);
    pack_text(out, "server");
    pack_text(out, self->place);
    pack_text(out, "group");
    pack_text(out, self->grouped ? self->settings->group : "");
    pack_text(out, "consumer");
    pack_text(out, self->grouped ? self->consumer : "");
    pack_text(out, "step");
    pack_uint(out, self->acks.step);
    pack_text(out, "streams");
    pack_streams(self, out);
    pack_text(out, "claimed");
    pack_claimed(self, out);
    pack_text(out, "partial");
    pack_array(out, partial.stream ? 4 : 0);
    if (partial.stream) {
        pack_text(out, partial.stream->key);
        pack_id(out, partial.id);
        pack_uint(out, partial.records);
    }
}

static redis_stream_t *find_stream(redis_source_t *self, text_t key) {
    for (size_t i = 0; i < self->stream_count; i++) {
        if (text_is(key, self->streams[i].key))
            return &self->streams[i];
    }
    return NULL;
}

/* *stream NULL: it is no more among those that we read. */
static bool read_entry(redis_source_t *self, pack_cursor_t *cursor, uint32_t size, redis_stream_t **stream, redis_id_t *id) {
    uint32_t count;
    text_t key;
    if (!pack_read_array(cursor, &count) || count != size || !pack_read_string(cursor, &key) || !pack_read_uint(cursor, &id->ms) ||
        !pack_read_uint(cursor, &id->number))
        return false;
    *stream = find_stream(self, key);
    return true;
}

static bool restore_streams(redis_source_t *self, pack_cursor_t cursor) {
    uint32_t count;
    if (!pack_read_array(&cursor, &count))
        return false;
    while (count--) {
        redis_stream_t *stream;
        redis_id_t id;
        value_t added;
        if (!read_entry(self, &cursor, 4, &stream, &id) || !pack_read_value(&cursor, &added))
            return false;
        if (!stream)
            continue;
        *stream = (redis_stream_t){.key = stream->key, .begun = true, .last = id, .counting = added.type == VALUE_INT, .added = added.unsigned_integer};
    }
    return true;
}

static bool restore_claimed(redis_source_t *self, pack_cursor_t cursor) {
    uint32_t count;
    if (!pack_read_array(&cursor, &count) || count > REDIS_CLAIM_MAX)
        return false;
    while (count--) {
        redis_stream_t *stream;
        redis_id_t id;
        if (!read_entry(self, &cursor, 3, &stream, &id))
            return false;
        if (stream)
            redis_acks_add(&self->acks, (uint32_t) (stream - self->streams), id, true, 0);
    }
    return true;
}

static bool restore_partial(redis_source_t *self, pack_cursor_t cursor) {
    pack_cursor_t whole = cursor;
    uint32_t count;
    if (!pack_read_array(&cursor, &count))
        return false;
    return !count || (read_entry(self, &whole, 4, &self->partial.stream, &self->partial.id) && pack_read_uint(&whole, &self->partial.records));
}

static bool get(const uint8_t *position, size_t size, const char *name, value_type_t type, value_t *value) {
    return pack_map_get(position, size, text_of(name), value) && value->type == type;
}

static int redis_source_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    redis_source_t *self = (redis_source_t *) source;
    value_t server, group, consumer, step, streams, claimed, partial;
    if (!get(position, size, "server", VALUE_STRING, &server) || !get(position, size, "group", VALUE_STRING, &group) ||
        !get(position, size, "consumer", VALUE_STRING, &consumer) || !get(position, size, "step", VALUE_INT, &step) || step.integer < 0 ||
        !get(position, size, "streams", VALUE_ARRAY, &streams) || !get(position, size, "claimed", VALUE_ARRAY, &claimed) ||
        !get(position, size, "partial", VALUE_ARRAY, &partial) || consumer.size > 1000)
        return err_set(err, "the stored position is none of a Redis server");
    text_t place = text_make(server.text, server.size), name = text_make(consumer.text, consumer.size);
    if (!text_is(place, self->place))
        return err_set(err, "it was made for %.*s", (int) (place.size < 200 ? place.size : 200), place.data);
    if (!text_is(text_make(group.text, group.size), self->grouped ? self->settings->group : ""))
        return err_set(err, "it was made %s%.*s", group.size ? "for the group " : "without a group", (int) (group.size < 200 ? group.size : 200), group.text);
    if (self->grouped && self->settings->consumer && !text_is(name, self->settings->consumer))
        return err_set(err, "it was made for the consumer %.*s", (int) (name.size < 200 ? name.size : 200), name.data);
    if (!restore_streams(self, pack_cursor(streams.packed, streams.size)) || !restore_claimed(self, pack_cursor(claimed.packed, claimed.size)) ||
        !restore_partial(self, pack_cursor(partial.packed, partial.size)))
        return err_set(err, "the stored position is damaged");
    self->acks.step = self->acks.durable = step.unsigned_integer;
    mem_free(self->consumer);
    mem_free(self->claimant);
    self->consumer = mem_text_n(name.data, name.size);
    self->claimant = mem_format("%s:claimed", self->consumer);
    self->restored = true;
    return 0;
}

static void redis_source_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    redis_source_t *self = (redis_source_t *) source;
    value_t step;
    if (get(position, size, "step", VALUE_INT, &step) && step.unsigned_integer > self->acks.durable)
        self->acks.durable = step.unsigned_integer;
    redis_acks_tell(self);
    if (self->waiting) {
        self->waiting = false;
        self->timer = loop_timer(self->setup.loop, 0, 0, connect_now, self);
    }
}

static void redis_source_free(source_t *source) {
    redis_source_t *self = (redis_source_t *) source;
    redis_acks_tell(self);
    redis_settle(self->clerk, SETTLE);
    disconnect(self);
    redis_acks_fini(&self->acks);
    payload_fini(&self->payload);
    fields_fini(&self->fields);
    buf_fini(&self->packed);
    buf_fini(&self->where);
    buf_fini(&self->command);
    buf_fini(&self->tag.pairs);
    server_url_fini(&self->url);
    mem_free(self->claim.ids);
    mem_free(self->streams);
    mem_free(self->consumer);
    mem_free(self->claimant);
    mem_free(self->place);
    mem_free(self);
}

static const source_class_t class = {
    .start = redis_source_start,
    .pause = redis_source_pause,
    .resume = redis_source_resume,
    .position = redis_source_position,
    .restore = redis_source_restore,
    .acknowledge = redis_source_acknowledge,
    .free = redis_source_free,
};

/* "orders", "2/orders", "2": the database, and what follows. */
static const char *split_path(const char *path, int64_t *database) {
    size_t digits = strspn(path, "0123456789");
    if (!digits || digits > 9 || (path[digits] && path[digits] != '/'))
        return path;
    *database = 0;
    for (size_t i = 0; i < digits; i++)
        *database = *database * 10 + path[i] - '0';
    return path[digits] ? path + digits + 1 : "";
}

static int read_url(server_url_t *url, const source_setup_t *setup, err_t *err) {
    url->tls = strncasecmp(setup->url, "rediss:", 7) == 0;
    return server_url_read(url, setup->rest, 6379, LIKE, err);
}

static int check_streams(const redis_settings_t *settings, const char *stream, err_t *err) {
    size_t channels = settings->channels.count + settings->patterns.count, streams = settings->keys.count + (*stream != 0);
    redis_id_t id;
    if (!channels && !streams)
        return err_set(err, "which stream? redis://host/stream or --key NAME; for channels there is --channel NAME");
    if (channels && streams)
        return err_set(err, "streams or channels: both need a source each");
    if (streams > STREAMS_MAX)
        return err_set(err, "at most %d streams", STREAMS_MAX);
    if (strcmp(settings->begin, "first") != 0 && strcmp(settings->begin, "new") != 0 && !redis_id_read(&id, text_of(settings->begin)))
        return err_set(err, "--begin takes first, new, or an entry's identifier such as 1526919030474-0");
    if ((settings->group && !*settings->group) || (settings->consumer && !*settings->consumer))
        return err_set(err, "--%s is empty", settings->group && !*settings->group ? "group" : "consumer");
    return 0;
}

static int redis_check(const source_setup_t *setup, err_t *err) {
    const redis_settings_t *settings = setup->settings;
    server_url_t url = {0};
    int64_t database;
    if (read_url(&url, setup, err))
        return -1;
    bool channels = settings->channels.count + settings->patterns.count;
    int result = check_streams(settings, split_path(url.path, &database), err);
    if (!result && setup->format && !settings->field && !channels)
        result = err_set(err, "--format is for payloads: --field NAME says which field of the entry holds it");
    if (!result && settings->retry_max < settings->retry_min)
        result = err_set(err, "--retry-max is below --retry-min");
    if (!result && settings->user && !settings->password && !url.password)
        result = err_set(err, "--user needs --password");
    server_url_fini(&url);
    return result;
}

static void choose_streams(redis_source_t *self) {
    const option_list_t *keys = &self->settings->keys;
    const char *first = split_path(self->url.path, &self->database);
    self->streams = mem_zero((keys->count + 1) * sizeof *self->streams);
    for (size_t i = 0; i < keys->count + 1; i++) {
        const char *key = i ? keys->items[i - 1] : first;
        if (*key && !find_stream(self, text_of(key)))
            self->streams[self->stream_count++].key = key;
    }
}

static void choose_names(redis_source_t *self) {
    char host[256] = "";
    uint64_t number = 0;
    gethostname(host, sizeof host - 1);
    if (self->settings->consumer)
        self->consumer = mem_text(self->settings->consumer);
    else if (!source_keeps_position(self->setup.host))
        self->consumer = mem_format("%s", *host ? host : "ingest");
    else if (getentropy(&number, sizeof number) == 0)
        self->consumer = mem_format("%s-%016llx", *host ? host : "ingest", (unsigned long long) number);
    else
        self->consumer = mem_format("%s-%016llx", *host ? host : "ingest", (unsigned long long) clock_now());
    self->claimant = mem_format("%s:claimed", self->consumer);
}

static int redis_open(source_t **source, const source_setup_t *setup, err_t *err) {
    const redis_settings_t *settings = setup->settings;
    server_url_t url = {0};
    payload_t payload;
    if (read_url(&url, setup, err))
        return -1;
    if (payload_init(&payload, setup, err)) {
        server_url_fini(&url);
        return -1;
    }
    redis_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    self->settings = settings;
    self->url = url;
    self->payload = payload;
    self->database = settings->database;
    choose_streams(self);
    choose_names(self);
    char *server = server_url_place(url.tls ? "rediss" : "redis", url.host, url.port);
    self->place = mem_format("%s/%lld", server, (long long) self->database);
    mem_free(server);
    self->grouped = settings->group && !source_trial(setup->host); /* a trial takes nothing away from others */
    self->claim.on = self->grouped && settings->claim;
    self->batch = 100;
    self->backoff = (backoff_t){.minimum = settings->retry_min, .maximum = settings->retry_max, .state = (uint64_t) clock_now()};
    *source = &self->source;
    return 0;
}

/* The stream's name, if it can be one of ours; else the host's. */
static const char *redis_stream_name(const source_setup_t *setup, buf_t *space) {
    const redis_settings_t *settings = setup->settings;
    server_url_t url = {0};
    int64_t database;
    err_t err;
    if (read_url(&url, setup, &err))
        return "redis";
    const char *key = split_path(url.path, &database);
    if (!*key && settings->keys.count)
        key = settings->keys.items[0];
    bool good = frame_topic_valid(key, strlen(key));
    buf_put_text(space, good ? key : "redis");
    server_url_fini(&url);
    return buf_text(space);
}

static int redis_holds(const source_setup_t *setup, text_t name, text_t value) {
    const redis_settings_t *settings = setup->settings;
    if (text_is(name, "tls"))
        return strncasecmp(setup->url, "rediss:", 7) == 0;
    if (text_is(name, "format"))
        return (settings->field || settings->channels.count || settings->patterns.count) && text_is(value, "json");
    return -1;
}

const source_driver_t source_redis = {
    .name = "redis",
    .schemes = {"redis", "rediss"},
    .types = {{"redis"}, {"rediss"}},
    .usage = "redis://HOST/STREAM, rediss://...",
    .help = "streams of a Redis server, alone or in a consumer group; or its channels",
    .options = options,
    .settings_size = sizeof(redis_settings_t),
    .query = true,
    .formats = "json",
    .holds = redis_holds,
    .stream = redis_stream_name,
    .check = redis_check,
    .open = redis_open,
};
