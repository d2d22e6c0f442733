/* NDJSON: one JSON object a line. A bad line costs only itself. */
#include "base/err.h"
#include "data/format_record.h"
#include "data/json_event.h"
#include "data/json_write.h"

#define TIME_FIELD "@timestamp"

#define LAST_KEPT (64u * 1024)

typedef struct ndjson {
    decoder_t decoder;
    line_state_t lines;
    json_reader_t *reader;
    char *time_field;         /* NULL: @timestamp, which may be missing and leaves the record */
    buf_t last;               /* a line near the end of the data, with slack */
} ndjson_t;

typedef struct ndjson_writer {
    encoder_t encoder;
    json_keys_t keys;
} ndjson_writer_t;

static bool is_blank(text_t line) {
    for (size_t i = 0; i < line.size; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r')
            return false;
    return true;
}

/* A first line that is no object: most likely nobody has said what the input is. */
static void remark_on_format(const decoder_t *decoder, text_t line, const decode_target_t *target) {
    const char *array = "this is a JSON array, as it seems: ingest --format json reads it";
    const char *other = "lines of JSON objects are expected here; other formats are read by ingest --format csv, json, lines, logfmt, ...";
    if (decoder->records == 1 && target->remark && line.size && line.data[0] != '{')
        target->remark(target->argument, 1, line.data[0] == '[' ? array : other);
}

static bool read_line(decoder_t *decoder, text_t line, const char *readable, decode_target_t *target) {
    ndjson_t *ndjson = (ndjson_t *) decoder;
    if (decoder->records == 1 && line.size >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0) /* a byte order mark */
        line = text_make(line.data + 3, line.size - 3);
    if (__builtin_expect((size_t) (readable - line.data) < line.size + JSON_SLACK, 0)) {
        char *copy = (char *) (ndjson->last.size = 0, buf_reserve(&ndjson->last, line.size + JSON_SLACK));
        memcpy(copy, line.data, line.size);
        memset(copy + line.size, 0, JSON_SLACK);
        line.data = copy;
    }
    if (__builtin_expect(line.size == 0 || line.data[0] != '{', 0) && is_blank(line))
        return false;
    frame_builder_t *builder = target->builder;
    builder_begin(builder);
    json_found_t found;
    err_t err;
    const char *end;
    int result = json_read_event_at(ndjson->reader, line, true, &end, &builder->body, &found, &err);
    if (__builtin_expect(result == 0 && !found.has_time && (ndjson->time_field || found.bad_time), 0))
        result = err_set(&err, found.bad_time ? FORMAT_BAD_TIME : FORMAT_NO_TIME, ndjson->time_field ? ndjson->time_field : TIME_FIELD);
    if (__builtin_expect(result == 0 && !format_fits(target), 0))
        result = err_set(&err, FORMAT_TOO_LARGE);
    if (__builtin_expect(result != 0, 0)) {
        builder_abort(builder);
        format_bad(decoder, target, line, err.text);
        remark_on_format(decoder, line, target);
        return false;
    }
    target->topic = found.stream.size ? found.stream.data : NULL;
    return format_commit(target, found.has_time, found.time);
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    ndjson_t *ndjson = (ndjson_t *) decoder;
    size_t used = format_feed_lines(&ndjson->lines, decoder, data, size, at_end, target, read_line);
    if (ndjson->last.capacity > LAST_KEPT)
        buf_fini(&ndjson->last);   /* each connection has a decoder */
    return used;
}

static void reset(decoder_t *decoder) {
    ((ndjson_t *) decoder)->lines.skipping = false;
}

static uint64_t state(const decoder_t *decoder) {
    return ((const ndjson_t *) decoder)->lines.skipping;
}

static void restore(decoder_t *decoder, uint64_t state) {
    ((ndjson_t *) decoder)->lines.skipping = state & 1;
}

static void free_decoder(decoder_t *decoder) {
    ndjson_t *ndjson = (ndjson_t *) decoder;
    json_reader_free(ndjson->reader);
    buf_fini(&ndjson->last);
    mem_free(ndjson->time_field);
    mem_free(ndjson);
}

int format_ndjson_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    ndjson_t *ndjson = mem_zero(sizeof *ndjson);
    ndjson->decoder.class = &class;
    ndjson->lines.limit = format_record_limit(settings);
    ndjson->time_field = mem_text(settings->time_field);
    ndjson->reader = json_reader_new(ndjson->time_field ? ndjson->time_field : TIME_FIELD, !ndjson->time_field, true);
    *decoder = &ndjson->decoder;
    return 0;
}

static uint32_t put_frame(encoder_t *encoder, const frame_t *frame, const char *stream, buf_t *out) {
    if (!frame->events)
        return 0;
    json_keys_t *keys = &((ndjson_writer_t *) encoder)->keys;
    const uint8_t *readable = frame->body + frame->body_size;
    frame_walk_t walk = {0};
    event_t event;
    uint32_t failed = 0, seen = 0;
    while (frame_next(frame, &walk, &event) > 0) {
        seen++;
        if (json_put_event_in(out, &event, readable, keys, frame->data_time, stream))
            buf_put_byte(out, '\n');
        else
            failed++;
    }
    return failed + (frame->events - seen);
}

static void free_encoder(encoder_t *encoder) {
    mem_free(encoder);
}

int format_ndjson_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err) {
    static const encoder_class_t class = {NULL, put_frame, free_encoder};
    *encoder = mem_zero(sizeof(ndjson_writer_t));
    (*encoder)->class = &class;
    return 0;
}
