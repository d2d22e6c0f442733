/* Raw lines: each line that is not empty is an event with one string field. */
#include "base/err.h"
#include "data/json_write.h"
#include "data/multiline.h"
#include "data/pack.h"

typedef struct lines {
    decoder_t decoder;
    line_state_t lines;
    buf_t key;                /* packed */
} lines_t;

typedef struct lines_writer {
    encoder_t encoder;
    text_t field;
    char *name;
} lines_writer_t;

static const char *field_name(const format_settings_t *settings) {
    return settings->line_field ? settings->line_field : "message";
}

static bool read_line(decoder_t *decoder, text_t line, const char *readable, decode_target_t *target) {
    lines_t *lines = (lines_t *) decoder;
    if (line.size && line.data[line.size - 1] == '\r')
        line.size--;
    if (line.size == 0)
        return false;
    size_t valid = text_utf8_valid(line.data, line.size);
    const char *nul = memchr(line.data, 0, line.size);
    if (valid < line.size || nul) {
        err_t err;
        size_t at = nul && (size_t) (nul - line.data) < valid ? (size_t) (nul - line.data) : valid;
        err_set(&err, "byte %zu: %s", at + 1, at < valid ? "a NUL byte" : "invalid UTF-8");
        format_bad(decoder, target, line, err.text);
        return false;
    }
    frame_builder_t *builder = target->builder;
    builder_begin(builder);
    pack_map(&builder->body, 1);
    buf_put(&builder->body, lines->key.data, lines->key.size);
    pack_string(&builder->body, line.data, line.size);
    target->topic = NULL;
    return format_commit(target, false, 0);
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    return format_feed_lines(&((lines_t *) decoder)->lines, decoder, data, size, at_end, target, read_line);
}

static void reset(decoder_t *decoder) {
    line_state_reset(&((lines_t *) decoder)->lines);
}

static uint64_t state(const decoder_t *decoder) {
    return line_state_save(&((const lines_t *) decoder)->lines);
}

static void restore(decoder_t *decoder, uint64_t state) {
    line_state_restore(&((lines_t *) decoder)->lines, state);
}

static bool waits(const decoder_t *decoder) {
    return ((const lines_t *) decoder)->lines.lines > 0;
}

static void cut(decoder_t *decoder) {
    line_state_t *lines = &((lines_t *) decoder)->lines;
    lines->forced = lines->lines;
}

static void free_decoder(decoder_t *decoder) {
    buf_fini(&((lines_t *) decoder)->key);
    multiline_free(((lines_t *) decoder)->lines.join);
    mem_free(decoder);
}

int format_lines_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore, waits, cut};
    if (settings->time_field)
        return err_set(err, "--time %s: the format \"lines\" has no fields to take a time from; parse the lines first", settings->time_field);
    multiline_t *join;
    if (multiline_new(&join, settings, err))
        return -1;
    lines_t *lines = mem_zero(sizeof *lines);
    lines->decoder.class = &class;
    lines->lines.join = join;
    lines->lines.limit = format_record_limit(settings);
    pack_text(&lines->key, field_name(settings));
    *decoder = &lines->decoder;
    return 0;
}

/* The field's text; an event that has none is written whole, as JSON. */
static bool put_event(const lines_writer_t *lines, const event_t *event, const uint8_t *readable, const frame_t *frame, const char *stream, buf_t *out) {
    value_t value;
    if (pack_map_get(event->record, event->record_size, lines->field, &value)) {
        if (value.type == VALUE_STRING)
            buf_put(out, value.text, value.size);
        else
            json_put_value(out, value);
    } else if (!json_put_event_in(out, event, readable, NULL, frame->data_time, stream)) {
        return false;
    }
    buf_put_byte(out, '\n');
    return true;
}

static uint32_t put_frame(encoder_t *encoder, const frame_t *frame, const char *stream, buf_t *out) {
    if (!frame->events)
        return 0;
    const uint8_t *readable = frame->body + frame->body_size;
    frame_walk_t walk = {0};
    event_t event;
    uint32_t failed = 0, seen = 0;
    while (frame_next(frame, &walk, &event) > 0) {
        seen++;
        failed += !put_event((lines_writer_t *) encoder, &event, readable, frame, stream, out);
    }
    return failed + (frame->events - seen);
}

static void free_encoder(encoder_t *encoder) {
    mem_free(((lines_writer_t *) encoder)->name);
    mem_free(encoder);
}

int format_lines_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err) {
    static const encoder_class_t class = {NULL, put_frame, free_encoder};
    lines_writer_t *lines = mem_zero(sizeof *lines);
    lines->encoder.class = &class;
    lines->name = mem_text(field_name(settings));
    lines->field = text_of(lines->name);
    *encoder = &lines->encoder;
    return 0;
}
