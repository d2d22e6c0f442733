/* logfmt: key=value pairs, a line each. A bad line costs only itself. */
#include "data/logfmt.h"

#include "base/clock.h"
#include "base/memory.h"
#include "data/csv.h"
#include "data/format_record.h"
#include "data/json.h"
#include "data/pack.h"

#define TIME_FIELD "@timestamp"
#define STREAM_FIELD "@stream"

/* Reading a line. */

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The value behind an opening quote at *at, in its packed form. */
static int read_quoted(logfmt_t *logfmt, const char **at, const char *end, err_t *err) {
    const char *start = *at + 1, *p = start;
    bool escaped = false;
    for (; p < end && *p != '"'; p++) {
        if (*p == '\\') {
            escaped = true;
            p++;
        }
    }
    if (p >= end)
        return err_set(err, "a quote that is never closed");
    *at = p + 1;
    if (*at < end && !is_space(**at))
        return err_set(err, "text behind a closing quote");
    if (!escaped) {
        pack_string(&logfmt->values, start, (size_t) (p - start));
        return 0;
    }
    buf_clear(&logfmt->scratch);
    if (json_read_value(text_make(start - 1, (size_t) (p + 2 - start)), &logfmt->scratch, err) < 0)
        return err_wrap(err, "a text in quotes");
    buf_put(&logfmt->values, logfmt->scratch.data, logfmt->scratch.size);
    return 0;
}

static void pack_plain(buf_t *out, text_t text, bool strings) {
    value_t value;
    if ((strings && text.size) || !csv_infer(text, &value))
        value = value_text(text.data, text.size);
    pack_value(out, value);
}

int logfmt_read(logfmt_t *logfmt, text_t line, bool strings, err_t *err) {
    const char *p = line.data, *end = line.data + line.size;
    bool pair = false;
    fields_clear(&logfmt->fields);
    buf_clear(&logfmt->values);
    buf_reserve(&logfmt->values, 4 * line.size + 64); /* more than values can take: they do not move */
    for (;;) {
        while (p < end && is_space(*p))
            p++;
        if (p == end)
            break;
        const char *key = p;
        while (p < end && *p != '=' && *p != '"' && !is_space(*p))
            p++;
        text_t name = text_make(key, (size_t) (p - key));
        if (!name.size || (p < end && *p == '"'))
            return err_set(err, "byte %zu: expected a key", (size_t) (p - line.data) + 1);
        size_t start = logfmt->values.size;
        if (p == end || *p != '=') {
            pack_bool(&logfmt->values, true);
        } else {
            pair = true;
            p++;
            if (p < end && *p == '"') {
                if (read_quoted(logfmt, &p, end, err))
                    return err_wrap(err, "%.*s", name.size > 60 ? 60 : (int) name.size, name.data);
            } else {
                const char *value = p;
                while (p < end && !is_space(*p))
                    p++;
                pack_plain(&logfmt->values, text_make(value, (size_t) (p - value)), strings);
            }
        }
        fields_put(&logfmt->fields, name, logfmt->values.data + start, (uint32_t) (logfmt->values.size - start));
    }
    return pair ? 0 : err_set(err, "no key=value in it");
}

void logfmt_fini(logfmt_t *logfmt) {
    fields_fini(&logfmt->fields);
    buf_fini(&logfmt->values);
    buf_fini(&logfmt->scratch);
}

/* The decoder. */

typedef struct logfmt_decoder {
    decoder_t decoder;
    line_state_t lines;
    logfmt_t logfmt;
    bool strings;
    char *time_field;         /* NULL: @timestamp, which may be missing and leaves the record */
    char stream[FRAME_TOPIC_MAX + 1];
} logfmt_decoder_t;

/* True: the field does not go into the record. -1: its time cannot be read. */
static int note_field(logfmt_decoder_t *self, const field_t *field, bool *has_time, int64_t *time, bool *has_stream) {
    bool stream = text_is(field->name, STREAM_FIELD);
    if (!stream && !text_is(field->name, self->time_field ? self->time_field : TIME_FIELD))
        return 0;
    pack_cursor_t cursor = pack_cursor(field->value, field->size);
    value_t value;
    pack_read_value(&cursor, &value);
    if (stream) {
        *has_stream = value.type == VALUE_STRING && frame_topic_valid(value.text, value.size);
        if (*has_stream)
            snprintf(self->stream, sizeof self->stream, "%.*s", (int) value.size, value.text);
        return *has_stream;
    }
    if (value.type == VALUE_NULL)
        return !self->time_field;
    *has_time = value_to_time(value, time) && *time >= 0 && *time <= EVENT_TIME_MAX;
    return !*has_time ? -1 : !self->time_field;
}

static bool refuse(decoder_t *decoder, decode_target_t *target, text_t line, const char *reason) {
    builder_abort(target->builder);
    format_bad(decoder, target, line, reason);
    return false;
}

static bool read_line(decoder_t *decoder, text_t line, const char *readable, decode_target_t *target) {
    logfmt_decoder_t *self = (logfmt_decoder_t *) decoder;
    const char *time_name = self->time_field ? self->time_field : TIME_FIELD;
    bool has_time = false, has_stream = false;
    int64_t time = 0;
    err_t err;
    if (decoder->records == 1 && line.size >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0) /* a byte order mark */
        line = text_make(line.data + 3, line.size - 3);
    if (text_trim(line).size == 0)
        return false;
    frame_builder_t *builder = target->builder;
    builder_begin(builder);
    if (text_utf8_valid(line.data, line.size) < line.size || memchr(line.data, 0, line.size))
        return refuse(decoder, target, line, "invalid UTF-8 or a NUL byte");
    if (logfmt_read(&self->logfmt, line, self->strings, &err))
        return refuse(decoder, target, line, err.text);
    fields_t *fields = &self->logfmt.fields;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < fields->count; i++) {
        int taken = note_field(self, &fields->items[i], &has_time, &time, &has_stream);
        if (taken < 0) {
            err_set(&err, FORMAT_BAD_TIME, time_name);
            return refuse(decoder, target, line, err.text);
        }
        if (!taken)
            fields->items[kept++] = fields->items[i];
    }
    fields->count = kept;
    if (self->time_field && !has_time) {
        err_set(&err, FORMAT_NO_TIME, time_name);
        return refuse(decoder, target, line, err.text);
    }
    fields_pack(fields, &builder->body);
    if (!format_fits(target))
        return refuse(decoder, target, line, FORMAT_TOO_LARGE);
    target->topic = has_stream ? self->stream : NULL;
    return format_commit(target, has_time, time);
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    return format_feed_lines(&((logfmt_decoder_t *) decoder)->lines, decoder, data, size, at_end, target, read_line);
}

static void reset(decoder_t *decoder) {
    ((logfmt_decoder_t *) decoder)->lines.skipping = false;
}

static uint64_t state(const decoder_t *decoder) {
    return ((const logfmt_decoder_t *) decoder)->lines.skipping;
}

static void restore(decoder_t *decoder, uint64_t state) {
    ((logfmt_decoder_t *) decoder)->lines.skipping = state & 1;
}

static void free_decoder(decoder_t *decoder) {
    logfmt_decoder_t *self = (logfmt_decoder_t *) decoder;
    logfmt_fini(&self->logfmt);
    mem_free(self->time_field);
    mem_free(self);
}

int format_logfmt_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    logfmt_decoder_t *self = mem_zero(sizeof *self);
    self->decoder.class = &class;
    self->lines.limit = format_record_limit(settings);
    self->strings = settings->no_inference;
    self->time_field = mem_text(settings->time_field);
    *decoder = &self->decoder;
    return 0;
}

/* The encoder. */

typedef struct logfmt_encoder {
    encoder_t encoder;
    buf_t text;
} logfmt_encoder_t;

/* What no key can hold becomes an underscore. */
static void put_key(buf_t *out, text_t key) {
    for (size_t i = 0; i < key.size; i++) {
        unsigned char c = (unsigned char) key.data[i];
        buf_put_byte(out, c <= ' ' || c == '=' || c == '"' || c == 0x7F ? '_' : c);
    }
    if (!key.size)
        buf_put_byte(out, '_');
    buf_put_byte(out, '=');
}

/* A text needs quotes when it is empty, or would be cut short or taken for something else without them. */
static bool needs_quotes(text_t text) {
    value_t value;
    if (csv_infer(text, &value))
        return true;
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char) text.data[i] <= ' ' || text.data[i] == '"' || text.data[i] == '=' || text.data[i] == '\\' || text.data[i] == 0x7F)
            return true;
    return false;
}

static void put_text(buf_t *out, text_t text) {
    if (needs_quotes(text))
        text_put_json(out, text);
    else
        buf_put(out, text.data, text.size);
}

static void put_value(logfmt_encoder_t *self, value_t value, buf_t *out) {
    buf_clear(&self->text);
    switch (value.type) {
    case VALUE_NULL:
        break;
    case VALUE_STRING:
        put_text(out, text_make(value.text, value.size));
        break;
    case VALUE_ARRAY:
    case VALUE_MAP:
        json_put_value(&self->text, value);
        put_text(out, text_make((const char *) self->text.data, self->text.size));
        break;
    case VALUE_TIME:
    case VALUE_BINARY: /* JSON's text without its quotes */
        json_put_value(&self->text, value);
        put_text(out, text_make((const char *) self->text.data + 1, self->text.size - 2));
        break;
    default:
        if (value.type != VALUE_DOUBLE || value.number - value.number == 0)
            json_put_value(out, value); /* NaN and infinities: no value */
    }
}

static bool put_event(logfmt_encoder_t *self, const event_t *event, bool data_time, const char *stream, buf_t *out) {
    size_t start = out->size;
    pack_cursor_t cursor = pack_cursor(event->record, event->record_size);
    uint32_t count = 0;
    bool good = pack_read_map(&cursor, &count);
    if (data_time) {
        char time[CLOCK_TEXT_MAX];
        buf_put_text(out, TIME_FIELD "=");
        buf_put(out, time, clock_print(time, event->time));
    }
    if (stream)
        buf_format(out, "%s" STREAM_FIELD "=%s", out->size > start ? " " : "", stream);
    for (uint32_t i = 0; good && i < count; i++) {
        text_t key;
        value_t value;
        good = pack_read_string(&cursor, &key) && pack_read_value(&cursor, &value);
        if (!good)
            break;
        if (out->size > start)
            buf_put_byte(out, ' ');
        put_key(out, key);
        put_value(self, value, out);
    }
    if (!good) {
        out->size = start;
        return false;
    }
    buf_put_byte(out, '\n');
    return true;
}

static uint32_t put_frame(encoder_t *encoder, const frame_t *frame, const char *stream, buf_t *out) {
    frame_walk_t walk = {0};
    event_t event;
    uint32_t failed = 0, seen = 0;
    while (frame->events && frame_next(frame, &walk, &event) > 0) {
        seen++;
        failed += !put_event((logfmt_encoder_t *) encoder, &event, frame->data_time, stream, out);
    }
    return failed + (frame->events - seen);
}

static void free_encoder(encoder_t *encoder) {
    buf_fini(&((logfmt_encoder_t *) encoder)->text);
    mem_free(encoder);
}

int format_logfmt_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err) {
    static const encoder_class_t class = {NULL, put_frame, free_encoder};
    *encoder = mem_zero(sizeof(logfmt_encoder_t));
    (*encoder)->class = &class;
    return 0;
}
