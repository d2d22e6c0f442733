/* Frames: made by a builder, numbered and packed by a sender, decoded in place by a receiver. All that comes from outside is
 * checked here against the bytes that are really there, before it is used: nothing is allocated by a peer's word. */
#include "data/frame.h"

#include <string.h>

#include "base/memory.h"
#include "data/pack.h"

#define EVENT_MIN (EVENT_HEAD + 1)       /* an entry with an empty map */
#define BODY_SPARE 4096                  /* a body may hold this much unused memory, besides a quarter of its size */

static const uint8_t event_head[3] = {0x92, 0xd7, 0x00};

frame_t *frame_ref(frame_t *frame) {
    atomic_fetch_add_explicit(&frame->references, 1, memory_order_relaxed);
    return frame;
}

void frame_unref(frame_t *frame) {
    if (!frame)
        return;
    unsigned before = atomic_fetch_sub_explicit(&frame->references, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1)
        return;
    for (int i = 0; i < 2; i++)
        if (frame->release[i])
            frame->release[i](frame->memory[i]);
    mem_free(frame);
}

static frame_t *frame_new(const char *topic) {
    size_t size = strlen(topic);
    ASSERT(frame_topic_valid(topic, size));
    frame_t *frame = mem_zero(sizeof *frame);
    atomic_init(&frame->references, 1);
    memcpy(frame->topic, topic, size + 1);
    frame->watermark = FRAME_NO_WATERMARK;
    return frame;
}

frame_t *frame_new_end(const char *topic) {
    frame_t *frame = frame_new(topic);
    frame->end = true;
    return frame;
}

uint64_t frame_common(const frame_past_t *past, unsigned count, uint64_t epoch, bool *known) {
    uint64_t number = UINT64_MAX;
    *known = false;
    for (unsigned i = 0; i < count && !*known; i++) {
        if (past[i].number < number)
            number = past[i].number;
        *known = past[i].epoch == epoch;
    }
    *known |= count == FRAME_PAST_MAX && epoch < past[count - 1].epoch;
    return number;
}

bool frame_topic_valid(const char *topic, size_t size) {
    if (size == 0 || size > FRAME_TOPIC_MAX)
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = topic[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-'))
            return false;
    }
    return true;
}

/* ---- header ---- */

static void put_optional(buf_t *out, const char *key, uint64_t number) {
    if (number) {
        pack_text(out, key);
        pack_uint(out, number);
    }
}

static void put_past(buf_t *out, const frame_past_t *past, unsigned count) {
    ASSERT(count <= FRAME_PAST_MAX);
    pack_text(out, "c");
    pack_array(out, 2 * count);
    for (unsigned i = 0; i < count; i++) {
        pack_uint(out, past[i].epoch);
        pack_uint(out, past[i].number);
    }
}

static void put_durable_log(buf_t *out, const frame_number_t *number) {
    if (number->has_stable) {
        pack_text(out, "s");
        pack_uint(out, number->stable);
    }
    if (number->hurry) {
        pack_text(out, "h");
        pack_bool(out, true);
    }
    if (number->past_count)
        put_past(out, number->past, number->past_count);
    if (number->replaces.size) {
        pack_text(out, "replaces");
        buf_put(out, number->replaces.data, number->replaces.size);
    }
}

void frame_put_header(buf_t *out, const frame_t *frame, const frame_number_t *number) {
    bool watermark = frame->watermark != FRAME_NO_WATERMARK;
    pack_map(out, 7 + watermark + frame->data_time + frame->end + (frame->lengths != NULL) + (number->receiver != 0) +
                      (number->attempt != 0) + (number->refused != 0) + (number->bye != 0) + number->has_stable + number->hurry +
                      (number->past_count != 0) + (number->replaces.size != 0));
    pack_text(out, "v");
    pack_uint(out, 1);
    pack_text(out, "o");
    pack_text(out, number->origin);
    pack_text(out, "e");
    pack_uint(out, number->epoch);
    pack_text(out, "q");
    pack_uint(out, number->sequence);
    pack_text(out, "l");
    pack_uint(out, number->lowest);
    pack_text(out, "n");
    pack_uint(out, frame->events);
    pack_text(out, "t");
    pack_int(out, frame->ingest_time);
    put_optional(out, "r", number->receiver);
    put_optional(out, "g", number->attempt);
    put_optional(out, "refused", number->refused);
    put_optional(out, "bye", number->bye);
    put_durable_log(out, number);
    if (watermark) {
        pack_text(out, "w");
        pack_int(out, frame->watermark);
    }
    if (frame->data_time) {
        pack_text(out, "d");
        pack_bool(out, true);
    }
    if (frame->end) {
        pack_text(out, "end");
        pack_bool(out, true);
    }
    if (frame->lengths) {
        pack_text(out, "x");
        pack_binary(out, frame->lengths, 4 * (size_t) frame->events);
    }
}

static bool read_flag(pack_cursor_t *cursor, bool *flag) {
    value_t value;
    if (!pack_read_value(cursor, &value) || value.type != VALUE_BOOL)
        return false;
    *flag = value.boolean;
    return true;
}

/* An origin names a peer in logs and acknowledgement topics: text without control characters. */
static bool read_name(pack_cursor_t *cursor, text_t *origin) {
    if (!pack_read_string(cursor, origin) || origin->size > FRAME_ORIGIN_MAX)
        return false;
    for (size_t i = 0; i < origin->size; i++)
        if ((unsigned char) origin->data[i] < 0x20 || origin->data[i] == 0x7f)
            return false;
    return true;
}

static bool read_origin(pack_cursor_t *cursor, frame_t *frame) {
    text_t origin;
    if (!read_name(cursor, &origin))
        return false;
    if (origin.size)
        memcpy(frame->origin, origin.data, origin.size);
    frame->origin[origin.size] = 0;
    return true;
}

static bool read_replaces(pack_cursor_t *cursor, frame_t *frame) {
    uint32_t count;
    text_t origin;
    if (!pack_read_array(cursor, &count) || count > FRAME_REPLACES_MAX)
        return false;
    const uint8_t *first = cursor->at;
    for (uint32_t i = 0; i < count; i++)
        if (!read_name(cursor, &origin))
            return false;
    frame->replaces = text_make((const char *) first, (size_t) (cursor->at - first));
    return true;
}

bool frame_replaces(text_t *rest, text_t *origin) {
    pack_cursor_t cursor = pack_cursor(rest->data, rest->size);
    if (!rest->size || !pack_read_string(&cursor, origin))
        return false;
    *rest = text_make((const char *) cursor.at, (size_t) (cursor.end - cursor.at));
    return true;
}

static bool read_stable(pack_cursor_t *cursor, frame_t *frame) {
    frame->has_stable = true;
    return pack_read_uint(cursor, &frame->stable);
}

/* Pairs of epoch and number. */
static bool read_past(pack_cursor_t *cursor, frame_t *frame) {
    uint32_t count;
    if (!pack_read_array(cursor, &count) || count % 2 != 0 || count / 2 > FRAME_PAST_MAX)
        return false;
    frame->past_count = (uint8_t) (count / 2);
    for (unsigned i = 0; i < frame->past_count; i++)
        if (!pack_read_uint(cursor, &frame->past[i].epoch) || !pack_read_uint(cursor, &frame->past[i].number))
            return false;
    return true;
}

typedef struct header {
    uint64_t version, events;
    text_t lengths;
} header_t;

static bool read_field(text_t key, pack_cursor_t *cursor, frame_t *frame, header_t *header) {
    if (key.size == 1)
        switch (key.data[0]) {
        case 'v': return pack_read_uint(cursor, &header->version);
        case 'o': return read_origin(cursor, frame);
        case 'e': return pack_read_uint(cursor, &frame->epoch);
        case 'q': return pack_read_uint(cursor, &frame->sequence);
        case 'l': return pack_read_uint(cursor, &frame->lowest);
        case 'r': return pack_read_uint(cursor, &frame->receiver);
        case 'g': return pack_read_uint(cursor, &frame->attempt);
        case 'n': return pack_read_uint(cursor, &header->events);
        case 't': return pack_read_int(cursor, &frame->ingest_time);
        case 'w': return pack_read_int(cursor, &frame->watermark);
        case 'd': return read_flag(cursor, &frame->data_time);
        case 's': return read_stable(cursor, frame);
        case 'h': return read_flag(cursor, &frame->hurry);
        case 'c': return read_past(cursor, frame);
        case 'x': return pack_read_binary(cursor, &header->lengths);
        default: break;
        }
    else if (text_is(key, "end"))
        return read_flag(cursor, &frame->end);
    else if (text_is(key, "refused"))
        return pack_read_uint(cursor, &frame->refused);
    else if (text_is(key, "bye"))
        return pack_read_uint(cursor, &frame->bye);
    else if (text_is(key, "replaces"))
        return read_replaces(cursor, frame);
    return pack_skip(cursor);
}

static int read_header(frame_t *frame, header_t *header, const void *bytes, size_t size, err_t *err) {
    pack_cursor_t cursor = pack_cursor(bytes, size);
    uint32_t fields;
    if (!pack_read_map(&cursor, &fields))
        return err_set(err, "the header is not a msgpack map");
    for (uint32_t i = 0; i < fields; i++) {
        text_t key;
        if (!pack_read_string(&cursor, &key))
            return err_set(err, "the header is cut short or has a key that is not a string (field %u of %u)", i + 1, fields);
        if (!read_field(key, &cursor, frame, header))
            return err_set(err, "the header's field \"%.*s\" is malformed", key.size > 16 ? 16 : (int) key.size, key.data);
    }
    if (cursor.at != cursor.end)
        return err_set(err, "%zu bytes follow the header", (size_t) (cursor.end - cursor.at));
    return 0;
}

/* The lengths must add up to the body exactly, so that no walk can leave it. */
static int check_lengths(const frame_t *frame, err_t *err) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < frame->events; i++) {
        uint32_t length = frame_length(frame, i);
        if (length < EVENT_MIN)
            return err_set(err, "event %u of %u has the impossible length %u", i + 1, frame->events, length);
        total += length;
    }
    if (total != frame->body_size)
        return err_set(err, "the events' lengths add up to %llu, the body has %zu bytes", (unsigned long long) total, frame->body_size);
    return 0;
}

static int check_header(frame_t *frame, const header_t *header, err_t *err) {
    if (header->version != 1)
        return err_set(err, "the header's version is %llu, 1 is known", (unsigned long long) header->version);
    if (frame->lowest > frame->sequence)
        return err_set(err, "the lowest unacknowledged number %llu is above the frame's own, %llu",
                       (unsigned long long) frame->lowest, (unsigned long long) frame->sequence);
    return 0;
}

static int set_body(frame_t *frame, const header_t *header, const void *body, size_t size, size_t max, err_t *err) {
    if (size > max)
        return err_set(err, "the body has %zu bytes, above the limit of %zu", size, max);
    if (header->events > size / EVENT_MIN)
        return err_set(err, "%llu events cannot be in %zu bytes", (unsigned long long) header->events, size);
    if (header->events == 0 && size > 0)
        return err_set(err, "a frame without events has a body of %zu bytes", size);
    frame->events = (uint32_t) header->events;
    frame->body = body;
    frame->body_size = size;
    if (!header->lengths.data || !frame->events)
        return 0;
    if (header->lengths.size != 4 * (size_t) frame->events)
        return err_set(err, "%zu bytes of lengths for %u events", header->lengths.size, frame->events);
    frame->lengths = (const uint8_t *) header->lengths.data;
    return check_lengths(frame, err);
}

int frame_decode(frame_t *frame, const void *topic, size_t topic_size, const void *header_bytes, size_t header_size,
                 const void *body, size_t body_size, size_t max, err_t *err) {
    header_t header = {0};
    frame->watermark = FRAME_NO_WATERMARK;
    if (!frame_topic_valid(topic, topic_size))
        return err_set(err, "the topic is not a stream's name ([A-Za-z0-9_.-], at most %d characters)", FRAME_TOPIC_MAX);
    memcpy(frame->topic, topic, topic_size);
    frame->topic[topic_size] = 0;
    if (read_header(frame, &header, header_bytes, header_size, err) != 0 || check_header(frame, &header, err) != 0) {
        frame->sequence = 0;
        return -1;
    }
    return set_body(frame, &header, body, body_size, max, err);
}

/* ---- walking ---- */

static uint32_t get_u32_be(const uint8_t *p) {
    return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static bool is_map(uint8_t byte) {
    return (byte & 0xf0) == 0x80 || byte == 0xde || byte == 0xdf;
}

int frame_next(const frame_t *frame, frame_walk_t *walk, event_t *event) {
    size_t left = frame->body_size - walk->at;
    if (walk->index == frame->events)
        return left ? -1 : 0;
    if (left < EVENT_MIN)
        return -1;
    const uint8_t *bytes = frame->body + walk->at;
    uint32_t seconds = get_u32_be(bytes + 3), nanoseconds = get_u32_be(bytes + 7);
    if (memcmp(bytes, event_head, sizeof event_head) != 0 || nanoseconds >= 1000000000 || !is_map(bytes[EVENT_HEAD]))
        return -1;
    size_t size;
    if (frame->lengths)
        size = frame_length(frame, walk->index);
    else {
        pack_cursor_t cursor = pack_cursor(bytes + EVENT_HEAD, left - EVENT_HEAD);
        if (!pack_skip(&cursor))
            return -1;
        size = (size_t) (cursor.at - bytes);
    }
    if (size < EVENT_MIN || size > left || size > UINT32_MAX)
        return -1;
    event->time = (int64_t) seconds * 1000000000 + nanoseconds;
    event->bytes = bytes;
    event->size = (uint32_t) size;
    event->record = bytes + EVENT_HEAD;
    event->record_size = (uint32_t) size - EVENT_HEAD;
    walk->index++;
    walk->at += size;
    return 1;
}

static bool record_valid(const event_t *event) {
    pack_cursor_t cursor = pack_cursor(event->record, event->record_size);
    uint32_t fields;
    if (!pack_read_map(&cursor, &fields))
        return false;
    for (uint32_t i = 0; i < fields; i++) {
        text_t key;
        if (!pack_read_string(&cursor, &key) || !pack_skip_plain(&cursor))
            return false;
    }
    return cursor.at == cursor.end;
}

int frame_verify(const frame_t *frame, err_t *err) {
    frame_walk_t walk = {0};
    event_t event;
    int more;
    while ((more = frame_next(frame, &walk, &event)) == 1)
        if (!record_valid(&event))
            return err_set(err, "event %u of %u has a malformed record", walk.index, frame->events);
    if (more < 0 && walk.index == frame->events)
        return err_set(err, "%zu bytes follow the last event", frame->body_size - walk.at);
    if (more < 0)
        return err_set(err, "event %u of %u is malformed", walk.index + 1, frame->events);
    return 0;
}

/* ---- builder ---- */

void builder_begin(frame_builder_t *builder) {
    if (!builder->body.data)
        buf_grow(&builder->body, builder->expected + EVENT_HEAD);
    builder->start = builder->body.size;
    uint8_t *head = buf_reserve(&builder->body, EVENT_HEAD);
    memcpy(head, event_head, sizeof event_head);
    builder->body.size += EVENT_HEAD;
}

static void put_u32_be(uint8_t *out, uint32_t number) {
    out[0] = (uint8_t) (number >> 24);
    out[1] = (uint8_t) (number >> 16);
    out[2] = (uint8_t) (number >> 8);
    out[3] = (uint8_t) number;
}

static void put_length(frame_builder_t *builder, size_t size) {
    ASSERT(size >= EVENT_MIN && size <= UINT32_MAX);
    uint8_t *out = buf_reserve(&builder->lengths, 4);
    out[0] = (uint8_t) size;
    out[1] = (uint8_t) (size >> 8);
    out[2] = (uint8_t) (size >> 16);
    out[3] = (uint8_t) (size >> 24);
    builder->lengths.size += 4;
}

/* One more event, of this time and so many bytes, is complete. */
static void count_event(frame_builder_t *builder, size_t size, int64_t event_time, int64_t ingest_time) {
    put_length(builder, size);
    if (builder->events == 0 || ingest_time < builder->ingest_time)
        builder->ingest_time = ingest_time;
    if (builder->events == 0 || event_time > builder->greatest)
        builder->greatest = event_time;
    builder->events++;
}

void builder_commit(frame_builder_t *builder, int64_t event_time, int64_t ingest_time) {
    if (event_time < 0)
        event_time = 0;
    if (event_time > EVENT_TIME_MAX)
        event_time = EVENT_TIME_MAX;
    uint8_t *time = builder->body.data + builder->start + sizeof event_head;
    put_u32_be(time, (uint32_t) (event_time / 1000000000));
    put_u32_be(time + 4, (uint32_t) (event_time % 1000000000));
    count_event(builder, builder->body.size - builder->start, event_time, ingest_time);
}

void builder_abort(frame_builder_t *builder) {
    builder->body.size = builder->start;
}

void builder_add(frame_builder_t *builder, const event_t *event, int64_t ingest_time) {
    if (!builder->body.data)
        buf_grow(&builder->body, builder->expected + event->size);
    builder->start = builder->body.size;
    buf_put(&builder->body, event->bytes, event->size);
    count_event(builder, event->size, event->time, ingest_time);
}

/* Hands a buffer's memory to the frame. Doubling may have left it half empty, and a frame can wait long in a link. */
static void give_memory(frame_t *frame, int slot, buf_t *buf) {
    if (buf->capacity - buf->size > BODY_SPARE + buf->size / 4)
        buf->data = mem_resize(buf->data, buf->size);
    frame->memory[slot] = buf_take(buf);
    frame->release[slot] = mem_free;
}

frame_t *builder_take(frame_builder_t *builder, const char *topic) {
    frame_t *frame = frame_new(topic);
    frame->events = builder->events;
    frame->data_time = builder->data_time;
    if (builder->events) {
        frame->ingest_time = builder->ingest_time;
        frame->watermark = builder->greatest;
        frame->body_size = builder->body.size;
        builder->expected = builder->body.size + builder->body.size / 16;   /* the next frame is likely of that size */
        give_memory(frame, 0, &builder->body);
        give_memory(frame, 1, &builder->lengths);
        frame->body = frame->memory[0];
        frame->lengths = frame->memory[1];
    }
    builder->events = 0;
    builder->start = 0;
    builder->data_time = false;
    return frame;
}

void builder_fini(frame_builder_t *builder) {
    buf_fini(&builder->body);
    buf_fini(&builder->lengths);
    *builder = (frame_builder_t){0};
}
