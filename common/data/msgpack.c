/* Concatenated msgpack: maps, and entries [time, map] as Fluentd's Forward protocol has them. Links carry frames instead ("-?format=msgpack"): those
 * know their stream and can be verified. */
#include "base/err.h"
#include "data/format_record.h"
#include "data/pack.h"

typedef struct msgpack {
    decoder_t decoder;
    uint64_t limit;
    pack_pass_t pass;         /* what is still to come of an element that is too long */
    pack_pass_t cut;          /* what is still to come of the element that the data begins with, and */
    size_t seen;              /* how much of it was looked at for that: it is not read again until it is whole */
    bool lost;                /* after something malformed nobody knows where the next value begins */
    char *time_field;
} msgpack_t;

/* Reads one element as an event. Returns NULL, or why it is none. */
static const char *read_event(const msgpack_t *msgpack, pack_cursor_t *cursor, bool *has_time, int64_t *time, text_t *record) {
    pack_cursor_t walk = *cursor;
    uint32_t count;
    value_t value;
    *has_time = false;
    if (pack_read_array(&walk, &count)) {
        if (count != 2 || !pack_read_value(&walk, &value))
            return "expected a map, or an array [time, map]";
        *has_time = value_to_time(value, time);
        if (!*has_time)
            return "the first element of an entry holds no time";
    }
    const uint8_t *start = walk.at;
    if (!pack_read_map(&walk, &count))
        return "expected a map, or an array [time, map]";
    for (; count; count--) {
        if (!pack_read_value(&walk, &value))
            return "malformed msgpack";
        if (value.type != VALUE_STRING)
            return "a key of the map is no string";
        if (!pack_skip_plain(&walk)) /* it is whole and not too deep: that was seen before */
            return "a key of a map in it is an array or a map";
    }
    *record = text_make((const char *) start, (size_t) (walk.at - start));
    if (msgpack->time_field) {
        *has_time = pack_map_get(start, record->size, text_of(msgpack->time_field), &value) && value.type != VALUE_NULL;
        if (!*has_time)
            return "the field of --time is missing";
        if (!value_to_time(value, time))
            return "the field of --time holds no time";
    }
    if (*has_time && (*time < 0 || *time > EVENT_TIME_MAX))
        return "the time is not between 1970 and 2106";
    *cursor = walk;
    return NULL;
}

/* What cannot be an event, at the cursor: too long, too deep, malformed or cut short. False: more of it must be here before that is known. No more than the
 * limit and a byte is looked at, so that what is told does not depend on how the bytes came in. */
static bool refuse(msgpack_t *msgpack, pack_cursor_t *cursor, bool at_end, decode_target_t *target) {
    const uint8_t *start = cursor->at;
    size_t left = (size_t) (cursor->end - start);
    bool long_one = left > msgpack->limit;
    pack_cursor_t look = pack_cursor(start, long_one ? (size_t) msgpack->limit + 1 : left);
    pack_pass_t pass = {1, 0};
    int passed = pack_pass(&pass, &look);
    if (passed == 0 && !long_one && !at_end) {
        msgpack->cut = pass;
        msgpack->seen = (size_t) (look.at - start);
        return false;
    }
    size_t size = (size_t) (passed == 0 ? look.end - start : look.at - start) + (passed < 0);
    const char *reason = passed < 0 ? "malformed msgpack: what follows cannot be read"
                         : size > msgpack->limit ? "longer than --max-record" : passed ? "nested too deep" : "cut short";
    msgpack->decoder.records++;
    format_bad(&msgpack->decoder, target, text_make((const char *) start, format_shown(size, msgpack->limit)), reason);
    msgpack->lost = passed < 0;
    msgpack->pass = pass;
    cursor->at = look.at;
    return true;
}

/* Goes on with what is too long. False: it is not over. */
static bool go_on_passing(msgpack_t *msgpack, pack_cursor_t *cursor, decode_target_t *target) {
    int passed = pack_pass(&msgpack->pass, cursor);
    msgpack->lost = passed < 0;
    if (passed < 0)
        format_bad(&msgpack->decoder, target, text_make((const char *) cursor->at, 1), "malformed msgpack: what follows cannot be read");
    return passed == 1;
}

/* The element that the data begins with, which was not all there, may be by now. */
static bool may_read(msgpack_t *msgpack, const char *data, size_t size, bool at_end) {
    if (!msgpack->seen || at_end || size > msgpack->limit || size < msgpack->seen)
        return true;
    pack_cursor_t cursor = pack_cursor(data + msgpack->seen, size - msgpack->seen);
    int passed = pack_pass(&msgpack->cut, &cursor);
    msgpack->seen = size - (size_t) (cursor.end - cursor.at);
    return passed != 0;
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    msgpack_t *msgpack = (msgpack_t *) decoder;
    pack_cursor_t cursor = pack_cursor(data, size);
    if (!may_read(msgpack, data, size, at_end))
        return 0;
    msgpack->seen = 0;
    while (cursor.at < cursor.end && !msgpack->lost) {
        const uint8_t *start = cursor.at;
        pack_cursor_t whole = cursor;
        if (msgpack->pass.elements || msgpack->pass.bytes) {
            if (!go_on_passing(msgpack, &cursor, target))
                break;
            continue;
        }
        if (!pack_skip(&whole) || (uint64_t) (whole.at - start) > msgpack->limit) {
            if (!refuse(msgpack, &cursor, at_end, target))
                break;
            continue;
        }
        decoder->records++;
        bool has_time;
        int64_t time;
        text_t record;
        pack_cursor_t element = {cursor.at, whole.at};
        const char *reason = read_event(msgpack, &element, &has_time, &time, &record);
        cursor = whole;
        if (reason) {
            format_bad(decoder, target, text_make((const char *) start, (size_t) (whole.at - start)), reason);
            continue;
        }
        frame_builder_t *builder = target->builder;
        builder_begin(builder);
        buf_put(&builder->body, record.data, record.size);
        target->topic = NULL;
        if (format_commit(target, has_time, time))
            break;
    }
    bool over = at_end && (msgpack->pass.elements || msgpack->pass.bytes); /* nothing more comes of it */
    return msgpack->lost || over ? size : (size_t) (cursor.at - (const uint8_t *) data);
}

static void reset(decoder_t *decoder) {
    msgpack_t *msgpack = (msgpack_t *) decoder;
    msgpack->lost = false;
    msgpack->pass = (pack_pass_t){0};
    msgpack->seen = 0;
}

static uint64_t state(const decoder_t *decoder) {
    const msgpack_t *msgpack = (const msgpack_t *) decoder;
    return (uint64_t) msgpack->lost | msgpack->pass.elements << 1 | msgpack->pass.bytes << 32;
}

static void restore(decoder_t *decoder, uint64_t state) {
    msgpack_t *msgpack = (msgpack_t *) decoder;
    msgpack->lost = state & 1;
    msgpack->seen = 0;
    msgpack->pass = (pack_pass_t){.elements = state >> 1 & INT32_MAX, .bytes = state >> 32};
}

static void free_decoder(decoder_t *decoder) {
    mem_free(((msgpack_t *) decoder)->time_field);
    mem_free(decoder);
}

int format_msgpack_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    msgpack_t *msgpack = mem_zero(sizeof *msgpack);
    msgpack->decoder.class = &class;
    msgpack->limit = format_record_limit(settings);
    msgpack->time_field = mem_text(settings->time_field);
    *decoder = &msgpack->decoder;
    return 0;
}

/* A frame's body is just that. */
static uint32_t put_frame(encoder_t *encoder, const frame_t *frame, const char *stream, buf_t *out) {
    frame_walk_t walk = {0};
    event_t event;
    uint32_t seen = 0;
    while (frame_next(frame, &walk, &event) > 0) {
        seen++;
        buf_put(out, event.bytes, event.size);
    }
    return frame->events - seen;
}

static void free_encoder(encoder_t *encoder) {
    mem_free(encoder);
}

int format_msgpack_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err) {
    static const encoder_class_t class = {NULL, put_frame, free_encoder};
    *encoder = mem_zero(sizeof **encoder);
    (*encoder)->class = &class;
    return 0;
}
