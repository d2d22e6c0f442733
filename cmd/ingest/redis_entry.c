/* Events of stream entries, and of the messages of channels. An entry is one event of its fields, or as many as its payload has. */
#include "base/clock.h"
#include "base/memory.h"
#include "data/csv.h"
#include "data/json.h"
#include "data/pack.h"
#include "redis_source.h"

#define FIELDS_MAX 65536
#define EARLIEST_MS UINT64_C(100000000000)   /* identifiers below (until March 1973) are numbers that somebody has counted */

/* The entry's identifier as a time. */
static int64_t time_of(const redis_source_t *self, redis_id_t id) {
    bool is_time = self->settings->id_time && id.ms >= EARLIEST_MS && id.ms <= EVENT_TIME_MAX / NS_PER_MS;
    return is_time ? (int64_t) id.ms * NS_PER_MS : SOURCE_NO_TIME;
}

/* It counts as taken: whatever happens next, it will not be taken again. */
static void taken(redis_source_t *self, redis_stream_t *stream, redis_id_t id) {
    if (!self->is_claimed) {
        stream->last = id;
        stream->begun = true;
        stream->added++;
    }
    self->acks.step++;
    if (self->grouped)
        redis_acks_add(&self->acks, (uint32_t) (stream - self->streams), id, self->is_claimed, self->acks.step);
    source_moved(self->setup.host);
}

static void name_place(redis_source_t *self, const redis_stream_t *stream, redis_id_t id) {
    char text[REDIS_ID_TEXT];
    redis_id_print(text, id);
    buf_clear(&self->where);
    text_put_visible(&self->where, text_of(stream->key), 200);
    buf_format(&self->where, " %s", text);
}

/* What the entry's place in the server gives, as fields. */
static void make_tag(redis_source_t *self, const redis_stream_t *stream, redis_id_t id) {
    char text[REDIS_ID_TEXT];
    size_t size = redis_id_print(text, id);
    tag_clear(&self->tag);
    if (self->settings->id_field)
        tag_put_text(&self->tag, text_of(self->settings->id_field), text_make(text, size));
    if (self->settings->key_field)
        tag_put_text(&self->tag, text_of(self->settings->key_field), text_of(stream->key));
}

static bool is_text(text_t text) {
    return text_utf8_valid(text.data, text.size) == text.size;
}

static void put_value(const redis_source_t *self, buf_t *out, text_t text) {
    value_t value;
    if (!self->settings->strings && text.size && csv_infer(text, &value))
        pack_value(out, value);
    else if (is_text(text))
        pack_string(out, text.data, text.size);
    else
        pack_binary(out, text.data, text.size);
}

/* The entry's fields, without the payload's when there is one; that is found in *payload. */
static int read_fields(redis_source_t *self, text_t raw, text_t *payload, err_t *err) {
    redis_cursor_t cursor = {raw.data, raw.data + raw.size};
    redis_item_t head;
    text_t name, text;
    ASSERT(redis_next(&cursor, &head));
    fields_clear(&self->fields);
    buf_clear(&self->packed);
    if (head.number > 2 * FIELDS_MAX)
        return err_set(err, "more than %d fields", FIELDS_MAX);
    buf_reserve(&self->packed, raw.size + 9 * (size_t) head.number); /* so that what was packed stays where it is */
    for (int64_t i = 0; i < head.number / 2; i++) {
        if (!redis_next_text(&cursor, &name) || !redis_next_text(&cursor, &text))
            return err_set(err, "its fields are no texts");
        if (!is_text(name))
            return err_set(err, "the name of its field %lld is not UTF-8", (long long) i + 1);
        if (self->settings->field && text_is(name, self->settings->field)) {
            *payload = text;
            continue;
        }
        const uint8_t *value = self->packed.data + self->packed.size;
        put_value(self, &self->packed, text);
        fields_put(&self->fields, name, value, (uint32_t) (self->packed.data + self->packed.size - value));
    }
    return 0;
}

/* The fields of the entry's place replace those of the same name. */
static void add_tag(redis_source_t *self) {
    pack_cursor_t cursor = pack_cursor(self->tag.pairs.data, self->tag.pairs.size);
    text_t name;
    for (uint32_t i = 0; i < self->tag.count; i++) {
        ASSERT(pack_read_string(&cursor, &name));
        const uint8_t *value = cursor.at;
        ASSERT(pack_skip(&cursor));
        fields_put(&self->fields, name, value, (uint32_t) (cursor.at - value));
    }
}

static int find_time(const redis_source_t *self, int64_t *time, err_t *err) {
    const char *name = self->setup.format_settings->time_field;
    if (!name)
        return 0;
    for (uint32_t i = 0; i < self->fields.count; i++) {
        const field_t *field = &self->fields.items[i];
        pack_cursor_t cursor = pack_cursor(field->value, field->size);
        value_t value;
        if (text_is(field->name, name) && pack_read_value(&cursor, &value) && value.type != VALUE_NULL)
            return value_to_time(value, time) && *time >= 0 && *time <= EVENT_TIME_MAX ? 0 : err_set(err, FORMAT_BAD_TIME, name);
    }
    return err_set(err, FORMAT_NO_TIME, name);
}

/* A dead letter holds the entry as JSON. */
static void tell_bad(redis_source_t *self, const char *reason) {
    buf_t record = {0}, text = {0};
    fields_pack(&self->fields, &record);
    json_put_packed(&text, record.data, record.size);
    source_bad(self->setup.host, text_make((const char *) text.data, text.size), buf_text(&self->where), reason);
    buf_fini(&record);
    buf_fini(&text);
}

/* Position and event go into the log together, so the position moves first. */
static void take_record(redis_source_t *self, redis_stream_t *stream, redis_id_t id) {
    source_host_t *host = self->setup.host;
    int64_t time = time_of(self, id);
    err_t err;
    if (find_time(self, &time, &err)) {
        taken(self, stream, id);
        tell_bad(self, err.text);
        return;
    }
    add_tag(self);
    frame_builder_t *builder = source_begin(host);
    fields_pack(&self->fields, &builder->body);
    taken(self, stream, id);
    if (time == SOURCE_NO_TIME)
        source_commit(host);
    else
        source_commit_at(host, time);
}

static void begin_payload(redis_source_t *self, const redis_stream_t *stream, redis_id_t id, text_t payload) {
    for (uint32_t i = 0; i < self->fields.count; i++) {
        const field_t *field = &self->fields.items[i];
        pack_string(&self->tag.pairs, field->name.data, field->name.size);
        buf_put(&self->tag.pairs, field->value, field->size);
        self->tag.count++;
    }
    const redis_partial_t *partial = &self->partial;
    bool again = partial->stream == stream && redis_id_compare(partial->id, id) == 0;
    self->delivering = true;
    source_time(self->setup.host, time_of(self, id));
    payload_begin(&self->payload, payload, &self->tag, buf_text(&self->where), again ? partial->records : 0);
    if (again)
        self->partial.stream = NULL;
}

/* The whole entry, or the beginning of its payload. */
static void begin(redis_source_t *self, redis_stream_t *stream, redis_id_t id, text_t raw) {
    text_t payload = {0};
    err_t err;
    const char *field = self->settings->field;
    make_tag(self, stream, id);
    int result = read_fields(self, raw, &payload, &err);
    if (!result && !field && raw.size > self->setup.format_settings->record_limit)
        result = err_set(&err, "the entry is longer than --max-record allows");
    if (result) {
        taken(self, stream, id);
        source_bad(self->setup.host, text_make(raw.data, raw.size < 1024 ? raw.size : 1024), buf_text(&self->where), err.text);
    } else if (!field) {
        take_record(self, stream, id);
    } else if (payload.data) {
        begin_payload(self, stream, id, payload);
    } else {
        char *reason = mem_format("the entry has no field %s (--field)", field);
        taken(self, stream, id);
        tell_bad(self, reason);
        mem_free(reason);
    }
}

/* True: the payload is done with. */
static bool go_on(redis_source_t *self) {
    if (!payload_go_on(&self->payload))
        return false;
    self->delivering = false;
    source_time(self->setup.host, SOURCE_NO_TIME);
    return true;
}

int redis_entry_take(redis_source_t *self, redis_stream_t *stream, text_t raw) {
    redis_cursor_t cursor = {raw.data, raw.data + raw.size}, inside;
    redis_item_t head, fields;
    text_t name;
    redis_id_t id;
    if (!redis_next(&cursor, &head) || head.type != REDIS_ARRAY || head.number != 2 || !redis_next_text(&cursor, &name) || !redis_id_read(&id, name))
        return -1;
    inside = cursor;
    if (!redis_next(&inside, &fields) || (fields.type != REDIS_ARRAY && fields.type != REDIS_NULL))
        return -1;
    if (!self->delivering) {
        if (!source_room(self->setup.host))
            return 0;
        self->is_claimed = self->phase == REDIS_CLAIMING || self->phase == REDIS_OWN_CLAIMED;
        self->entry = (redis_partial_t){.stream = stream, .id = id};
        name_place(self, stream, id);
        if (fields.type == REDIS_NULL) {
            taken(self, stream, id);
            redis_gap(self, stream, 1);
        } else {
            begin(self, stream, id, text_make(cursor.at, (size_t) (cursor.end - cursor.at)));
        }
    }
    if (self->delivering) {
        if (!go_on(self))
            return 0;
        taken(self, stream, id);
    }
    return 1;
}

void redis_entry_too_large(redis_source_t *self, redis_stream_t *stream, text_t beginning) {
    redis_cursor_t cursor = {beginning.data, beginning.data + beginning.size};
    redis_item_t head;
    text_t name;
    redis_id_t id;
    if (!redis_next(&cursor, &head) || !redis_next_text(&cursor, &name) || !redis_id_read(&id, name))
        return;
    self->is_claimed = self->phase == REDIS_CLAIMING || self->phase == REDIS_OWN_CLAIMED;
    name_place(self, stream, id);
    taken(self, stream, id);
    source_bad(self->setup.host, beginning, buf_text(&self->where), "the entry is larger than 16 MiB");
}

/* What was begun will come again. */
void redis_entry_leave(redis_source_t *self) {
    if (!self->delivering)
        return;
    self->delivering = false;
    self->partial = self->entry;
    self->partial.records = payload_records(&self->payload);
    payload_end(&self->payload);
    source_time(self->setup.host, SOURCE_NO_TIME);
}

/* ["message", channel, payload], ["pmessage", pattern, channel, payload]; all else confirms subscriptions. */
int redis_message_take(redis_source_t *self, text_t raw) {
    redis_cursor_t cursor = {raw.data, raw.data + raw.size};
    redis_item_t head;
    text_t kind, channel, payload;
    if (!redis_next(&cursor, &head) || head.type != REDIS_ARRAY || !redis_next_text(&cursor, &kind))
        return -1;
    bool pattern = text_is(kind, "pmessage");
    if (!pattern && !text_is(kind, "message"))
        return 1;
    if (!self->delivering) {
        if ((pattern && !redis_next_text(&cursor, &channel)) || !redis_next_text(&cursor, &channel) || !redis_next_text(&cursor, &payload))
            return -1;
        buf_clear(&self->where);
        text_put_visible(&self->where, channel, 200);
        tag_clear(&self->tag);
        if (self->settings->channel_field)
            tag_put_text(&self->tag, text_of(self->settings->channel_field), is_text(channel) ? channel : text_of(buf_text(&self->where)));
        self->delivering = true;
        payload_begin(&self->payload, payload, &self->tag, buf_text(&self->where), 0);
    }
    return go_on(self);
}
