/* Source "kafka:": topics of a Kafka cluster, all of their partitions, or those that a consumer group gives us. Here are the options and the position; the
 * consumer is in kafka_client.c, what becomes of a message in kafka_message.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "kafka.h"

#define PARTS_MAX 100000
#define LIKE "an address of Kafka looks like kafka://host:9092/topic or kafka://host1:9092,host2:9092/topic"

#define AT(field) offsetof(kafka_settings_t, field)
static const option_t options[] = {
    {"topic", OPTION_LIST, AT(topics), NULL, "NAME", "a topic besides the URL's; in a group ^PATTERN is all topics of such names"},
    {"group", OPTION_TEXT, AT(group), NULL, "NAME", "share the topics with others of this consumer group; default: alone, all partitions"},
    {"consumer", OPTION_TEXT, AT(consumer), NULL, "NAME", "our lasting name in the group (group.instance.id); default: with --state made up and kept", .needs = "group"},
    {"begin", OPTION_CHOICE, AT(begin), "first", "first|new", "where a partition begins of which nothing is known"},
    {"key-field", OPTION_TEXT, AT(key_field), NULL, "NAME", "the field that gets the message's key"},
    {"topic-field", OPTION_TEXT, AT(topic_field), NULL, "NAME", "the field that gets the topic"},
    {"partition-field", OPTION_TEXT, AT(partition_field), NULL, "NAME", "the field that gets the partition's number"},
    {"offset-field", OPTION_TEXT, AT(offset_field), NULL, "NAME", "the field that gets the message's offset"},
    {"headers-field", OPTION_TEXT, AT(headers_field), NULL, "NAME", "the field that gets the message's headers, as a map"},
    {"message-time", OPTION_BOOL, AT(message_time), "yes", NULL, "the message's time stamp gives the event time"},
    {"user", OPTION_TEXT, AT(user), NULL, "NAME", "user name (SASL), instead of the URL's"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line", .needs = "user or @login:a user in the URL"},
    {"set", OPTION_LIST, AT(set), NULL, "NAME=VALUE", "a setting of librdkafka, such as sasl.mechanism=SCRAM-SHA-512"},
    {"connect-timeout", OPTION_DURATION, AT(connect_timeout), "10s", "DURATION", "for connections, and for answers about offsets", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait before a broker is tried again; doubled with each failure", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts", NS_PER_MS, 3600 * NS_PER_S},
    {"tls", OPTION_BOOL, AT(tls), NULL, NULL, "encrypt, and verify the brokers' certificates"},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's; implies --tls", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for brokers that want one", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "tls-cert", .readable = true},
    {0},
};

kafka_part_t *kafka_part(kafka_source_t *self, const char *topic, int32_t number) {
    for (size_t i = 0; i < self->part_count; i++) {
        size_t at = (self->part_last + i) % self->part_count; /* messages come in runs of one partition */
        if (self->parts[at].number == number && strcmp(self->parts[at].topic, topic) == 0) {
            self->part_last = at;
            return &self->parts[at];
        }
    }
    self->parts = mem_resize(self->parts, (self->part_count + 1) * sizeof *self->parts);
    self->parts[self->part_count] = (kafka_part_t){.topic = mem_text(topic), .number = number, .durable = -1, .committed = -1};
    return &self->parts[self->part_count++];
}

/* The source. */

static int kafka_source_start(source_t *source, err_t *err) {
    kafka_source_t *self = (kafka_source_t *) source;
    if (kafka_client_open(self, err))
        return -1;
    source_moved(self->setup.host);
    self->waiting = source_keeps_position(self->setup.host) && !self->restored && self->grouped; /* for our name to be safe */
    if (!self->waiting)
        kafka_client_start(self);
    return 0;
}

static void kafka_source_pause(source_t *source) {
    ((kafka_source_t *) source)->paused_at = clock_monotonic();
}

static void kafka_source_resume(source_t *source) {
    kafka_client_wake((kafka_source_t *) source);
}

/* Each begun partition: [topic, number, next offset]. */
static void pack_parts(const kafka_source_t *self, buf_t *out) {
    uint32_t begun = 0;
    for (size_t i = 0; i < self->part_count; i++)
        begun += self->parts[i].begun;
    pack_array(out, begun);
    for (size_t i = 0; i < self->part_count; i++) {
        const kafka_part_t *part = &self->parts[i];
        if (!part->begun)
            continue;
        pack_array(out, 3);
        pack_text(out, part->topic);
        pack_int(out, part->number);
        pack_int(out, part->next);
    }
}

static void kafka_source_position(const source_t *source, buf_t *out) {
    const kafka_source_t *self = (const kafka_source_t *) source;
    bool partial = self->delivering || self->partial_topic;
    pack_map(out, 6);
    pack_text(out, "cluster");
    pack_text(out, self->cluster ? self->cluster : "");
    pack_text(out, "group");
    pack_text(out, self->grouped ? self->settings->group : "");
    pack_text(out, "consumer");
    pack_text(out, self->grouped && self->consumer ? self->consumer : "");
    pack_text(out, "step");
    pack_uint(out, self->step);
    pack_text(out, "parts");
    pack_parts(self, out);
    pack_text(out, "partial");
    pack_array(out, partial ? 4 : 0);
    if (partial) {
        pack_text(out, self->delivering ? self->held_part->topic : self->partial_topic);
        pack_int(out, self->delivering ? self->held->partition : self->partial_number);
        pack_int(out, self->delivering ? self->held->offset : self->partial_offset);
        pack_uint(out, self->delivering ? payload_records(&self->payload) : self->partial_records);
    }
}

static bool read_part(pack_cursor_t *cursor, uint32_t size, char **topic, int32_t *number, int64_t *offset) {
    uint32_t count;
    text_t name;
    int64_t wide;
    if (!pack_read_array(cursor, &count) || count != size || !pack_read_string(cursor, &name) || !pack_read_int(cursor, &wide) || wide < 0 || wide > INT32_MAX ||
        !pack_read_int(cursor, offset) || *offset < 0)
        return false;
    *topic = mem_text_n(name.data, name.size);
    *number = (int32_t) wide;
    return true;
}

/* durable: what is told is safe; else it is where to go on. */
static bool read_parts(kafka_source_t *self, value_t parts, bool durable) {
    pack_cursor_t cursor = pack_cursor(parts.packed, parts.size);
    uint32_t count;
    if (!pack_read_array(&cursor, &count) || count > PARTS_MAX)
        return false;
    while (count--) {
        char *topic;
        int32_t number;
        int64_t offset;
        if (!read_part(&cursor, 3, &topic, &number, &offset))
            return false;
        kafka_part_t *part = kafka_part(self, topic, number);
        if (durable && part->ours)
            part->durable = offset;
        if (!durable) {
            part->begun = true;
            part->next = offset;
        }
        mem_free(topic);
    }
    return true;
}

static bool get(const uint8_t *position, size_t size, const char *name, value_type_t type, value_t *value) {
    return pack_map_get(position, size, text_of(name), value) && value->type == type;
}

static int kafka_source_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    kafka_source_t *self = (kafka_source_t *) source;
    value_t cluster, group, consumer, step, parts, partial;
    uint32_t count;
    if (!get(position, size, "cluster", VALUE_STRING, &cluster) || !get(position, size, "group", VALUE_STRING, &group) ||
        !get(position, size, "consumer", VALUE_STRING, &consumer) || !get(position, size, "step", VALUE_INT, &step) || step.integer < 0 ||
        !get(position, size, "parts", VALUE_ARRAY, &parts) || !get(position, size, "partial", VALUE_ARRAY, &partial))
        return err_set(err, "the stored position is none of a Kafka cluster");
    if (!text_is(text_make(group.text, group.size), self->grouped ? self->settings->group : ""))
        return err_set(err, "it was made %s%.*s", group.size ? "for the group " : "without a group", (int) (group.size < 200 ? group.size : 200), group.text);
    pack_cursor_t cursor = pack_cursor(partial.packed, partial.size), whole = cursor;
    if (!read_parts(self, parts, false) || !pack_read_array(&cursor, &count) ||
        (count && (!read_part(&whole, 4, &self->partial_topic, &self->partial_number, &self->partial_offset) || !pack_read_uint(&whole, &self->partial_records))))
        return err_set(err, "the stored position is damaged");
    if (self->grouped && !self->settings->consumer && consumer.size) {
        mem_free(self->consumer);
        self->consumer = mem_text_n(consumer.text, consumer.size);
    }
    if (cluster.size)
        self->cluster = mem_text_n(cluster.text, cluster.size);
    self->step = self->durable = step.unsigned_integer;
    self->restored = true;
    return 0;
}

static void kafka_source_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    kafka_source_t *self = (kafka_source_t *) source;
    value_t step, parts;
    if (get(position, size, "step", VALUE_INT, &step) && get(position, size, "parts", VALUE_ARRAY, &parts) && read_parts(self, parts, true)) {
        self->durable = step.unsigned_integer > self->durable ? step.unsigned_integer : self->durable;
        kafka_client_durable(self);
    }
    if (self->waiting) {
        self->waiting = false;
        kafka_client_start(self);
    }
}

static void kafka_source_free(source_t *source) {
    kafka_source_t *self = (kafka_source_t *) source;
    kafka_client_close(self);
    payload_fini(&self->payload);
    secrets_fini(&self->secrets);
    server_url_fini(&self->url);
    buf_fini(&self->where);
    buf_fini(&self->tag.pairs);
    for (size_t i = 0; i < self->part_count; i++)
        mem_free(self->parts[i].topic);
    mem_free(self->parts);
    for (size_t i = 0; i < self->topics.count; i++)
        mem_free(self->topics.items[i]);
    mem_free(self->topics.items);
    mem_free(self->partial_topic);
    mem_free(self->consumer);
    mem_free(self->cluster);
    mem_free(self->servers);
    mem_free(self->place);
    mem_free(self);
}

static const source_class_t class = {
    .start = kafka_source_start,
    .pause = kafka_source_pause,
    .resume = kafka_source_resume,
    .position = kafka_source_position,
    .restore = kafka_source_restore,
    .acknowledge = kafka_source_acknowledge,
    .free = kafka_source_free,
};

static void add_topic(kafka_source_t *self, const char *topic) {
    for (size_t i = 0; i < self->topics.count; i++) {
        if (strcmp(self->topics.items[i], topic) == 0)
            return;
    }
    if (*topic)
        self->topics.items[self->topics.count++] = mem_text(topic);
}

static void collect_secrets(kafka_source_t *self) {
    const kafka_settings_t *settings = self->settings;
    secrets_add(&self->secrets, text_of(settings->password));
    secrets_add(&self->secrets, text_of(self->url.password));
    for (size_t i = 0; i < settings->set.count; i++) {
        text_t value = text_of(settings->set.items[i]), name;
        if (text_split(&value, '=', &name) && value.data && secret_name(name))
            secrets_add(&self->secrets, value);
    }
}

static void choose_consumer(kafka_source_t *self) {
    char host[128] = "";
    uint64_t number = 0;
    if (self->settings->consumer) {
        self->consumer = mem_text(self->settings->consumer);
    } else if (source_keeps_position(self->setup.host)) {
        gethostname(host, sizeof host - 1);
        if (getentropy(&number, sizeof number))
            number = (uint64_t) clock_now();
        self->consumer = mem_format("%s-%016llx", *host ? host : "ingest", (unsigned long long) number);
    }
}

static kafka_source_t *new_source(const source_setup_t *setup, err_t *err) {
    const kafka_settings_t *settings = setup->settings;
    server_url_t url = {0};
    if (server_url_read(&url, setup->rest, 9092, LIKE, err))
        return NULL;
    kafka_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    self->settings = settings;
    self->url = url;
    self->fd = -1;
    self->servers = server_url_place(NULL, url.host, url.port);
    self->place = mem_format("kafka://%s", self->servers);
    self->topics.items = mem_zero((settings->topics.count + 1) * sizeof *self->topics.items);
    add_topic(self, url.path);
    for (size_t i = 0; i < settings->topics.count; i++)
        add_topic(self, settings->topics.items[i]);
    collect_secrets(self);
    return self;
}

static int check(kafka_source_t *self, err_t *err) {
    const kafka_settings_t *settings = self->settings;
    rd_kafka_conf_t *conf;
    if (!self->topics.count)
        return err_set(err, "which topic? kafka://host/topic or --topic NAME");
    for (size_t i = 0; i < self->topics.count && !settings->group; i++) {
        if (*self->topics.items[i] == '^')
            return err_set(err, "--topic %s: patterns need --group", self->topics.items[i]);
    }
    if ((settings->group && !*settings->group) || (settings->consumer && !*settings->consumer))
        return err_set(err, "--%s is empty", settings->group && !*settings->group ? "group" : "consumer");
    if (settings->user && !settings->password && !self->url.password)
        return err_set(err, "--user needs --password");
    if (settings->retry_max < settings->retry_min)
        return err_set(err, "--retry-max is below --retry-min");
    if (kafka_configure(self, &conf, err))
        return -1;
    rd_kafka_conf_destroy(conf);
    return 0;
}

static int kafka_check(const source_setup_t *setup, err_t *err) {
    kafka_source_t *self = new_source(setup, err);
    if (!self)
        return -1;
    int result = check(self, err);
    kafka_source_free(&self->source);
    return result;
}

static int kafka_open(source_t **source, const source_setup_t *setup, err_t *err) {
    kafka_source_t *self = new_source(setup, err);
    if (!self)
        return -1;
    if (payload_init(&self->payload, setup, err)) {
        kafka_source_free(&self->source);
        return -1;
    }
    self->grouped = self->settings->group && !source_trial(setup->host); /* a trial takes nothing away from others */
    choose_consumer(self);
    *source = &self->source;
    return 0;
}

/* The topic's name. */
static const char *kafka_stream_name(const source_setup_t *setup, buf_t *space) {
    const kafka_settings_t *settings = setup->settings;
    server_url_t url = {0};
    err_t err;
    if (server_url_read(&url, setup->rest, 9092, LIKE, &err))
        return "kafka";
    const char *topic = !*url.path && settings->topics.count ? settings->topics.items[0] : url.path;
    buf_put_text(space, frame_topic_valid(topic, strlen(topic)) ? topic : "kafka");
    server_url_fini(&url);
    return buf_text(space);
}

const source_driver_t source_kafka = {
    .name = "kafka",
    .schemes = {"kafka"},
    .types = {{"kafka"}},
    .usage = "kafka://HOST:PORT,.../TOPIC",
    .help = "topics of a Kafka cluster, alone or in a consumer group",
    .options = options,
    .settings_size = sizeof(kafka_settings_t),
    .query = true,
    .formats = "json",
    .stream = kafka_stream_name,
    .check = kafka_check,
    .open = kafka_open,
};
