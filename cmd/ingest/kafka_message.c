/* Events of Kafka's messages. */
#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"
#include "kafka.h"

static bool is_text(text_t text) {
    return text_utf8_valid(text.data, text.size) == text.size;
}

static void put_bytes(buf_t *out, const void *bytes, size_t size) {
    if (!bytes)
        pack_nil(out);
    else if (is_text(text_make(bytes, size)))
        pack_string(out, bytes, size);
    else
        pack_binary(out, bytes, size);
}

static void put_name(tag_t *tag, const char *name) {
    pack_text(&tag->pairs, name);
    tag->count++;
}

/* A map; of headers with the same name the last counts. */
static void put_headers(buf_t *out, const rd_kafka_message_t *message) {
    rd_kafka_headers_t *headers = NULL;
    const char *name, *other;
    const void *bytes;
    size_t size, count = 0;
    buf_t pairs = {0};
    if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &bytes, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
            bool again = !is_text(text_of(name));
            for (size_t k = i + 1; !again && k < rd_kafka_header_cnt(headers); k++) {
                const void *other_bytes;
                size_t other_size;
                again = rd_kafka_header_get_all(headers, k, &other, &other_bytes, &other_size) == RD_KAFKA_RESP_ERR_NO_ERROR && strcmp(name, other) == 0;
            }
            if (again)
                continue;
            pack_text(&pairs, name);
            put_bytes(&pairs, bytes, size);
            count++;
        }
    }
    pack_map(out, (uint32_t) count);
    buf_put(out, pairs.data, pairs.size);
    buf_fini(&pairs);
}

static void make_tag(kafka_source_t *self, const rd_kafka_message_t *message) {
    const kafka_settings_t *settings = self->settings;
    tag_t *tag = &self->tag;
    tag_clear(tag);
    if (settings->key_field) {
        put_name(tag, settings->key_field);
        put_bytes(&tag->pairs, message->key, message->key_len);
    }
    if (settings->topic_field)
        tag_put_text(tag, text_of(settings->topic_field), text_of(self->held_part->topic));
    if (settings->partition_field) {
        put_name(tag, settings->partition_field);
        pack_int(&tag->pairs, message->partition);
    }
    if (settings->offset_field) {
        put_name(tag, settings->offset_field);
        pack_int(&tag->pairs, message->offset);
    }
    if (settings->headers_field) {
        put_name(tag, settings->headers_field);
        put_headers(&tag->pairs, message);
    }
}

static int64_t time_of(const kafka_source_t *self, const rd_kafka_message_t *message) {
    rd_kafka_timestamp_type_t type;
    int64_t ms = rd_kafka_message_timestamp(message, &type);
    bool good = self->settings->message_time && type != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && ms >= 0 && ms <= EVENT_TIME_MAX / NS_PER_MS;
    return good ? ms * NS_PER_MS : SOURCE_NO_TIME;
}

static bool is_partial(const kafka_source_t *self, const rd_kafka_message_t *message) {
    return self->partial_topic && strcmp(self->partial_topic, self->held_part->topic) == 0 && self->partial_number == message->partition &&
           self->partial_offset == message->offset;
}

static void forget_partial(kafka_source_t *self) {
    mem_free(self->partial_topic);
    self->partial_topic = NULL;
}

static void begin(kafka_source_t *self, const rd_kafka_message_t *message) {
    bool again = is_partial(self, message);
    buf_clear(&self->where);
    buf_format(&self->where, "%s/%d/%lld", self->held_part->topic, (int) message->partition, (long long) message->offset);
    make_tag(self, message);
    self->delivering = true;
    source_time(self->setup.host, time_of(self, message));
    payload_begin(&self->payload, text_make(message->payload ? message->payload : "", message->len), &self->tag, buf_text(&self->where),
                  again ? self->partial_records : 0);
    if (again)
        forget_partial(self);
}

bool kafka_message_take(kafka_source_t *self) {
    const rd_kafka_message_t *message = self->held;
    if (!self->delivering)
        begin(self, message);
    if (!payload_go_on(&self->payload))
        return false;
    self->delivering = false;
    source_time(self->setup.host, SOURCE_NO_TIME);
    self->held_part->next = message->offset + 1;
    self->held_part->begun = true;
    self->step++;
    source_moved(self->setup.host);
    return true;
}

/* Its rest comes when its partition comes back. */
void kafka_message_leave(kafka_source_t *self) {
    if (self->delivering) {
        forget_partial(self);
        self->partial_topic = mem_text(self->held_part->topic);
        self->partial_number = self->held->partition;
        self->partial_offset = self->held->offset;
        self->partial_records = payload_records(&self->payload);
        payload_end(&self->payload);
        source_time(self->setup.host, SOURCE_NO_TIME);
        self->delivering = false;
    }
    if (self->held)
        rd_kafka_message_destroy(self->held);
    self->held = NULL;
}
