/* The format "syslog": files such as /var/log/syslog, a message a line; syslog.c knows their forms. A line that is none costs only itself. */
#include <string.h>

#include "base/memory.h"
#include "data/format_record.h"
#include "data/pack.h"
#include "data/syslog.h"

#define TIME_NAME "timestamp"          /* the field of syslog.c */

typedef struct syslog_lines {
    decoder_t decoder;
    line_state_t lines;
    syslog_t message;
} syslog_lines_t;

/* A message of RFC 5424 may be without. */
static bool time_of(const fields_t *fields, int64_t *time) {
    for (uint32_t i = 0; i < fields->count; i++) {
        pack_cursor_t cursor = pack_cursor(fields->items[i].value, fields->items[i].size);
        value_t value;
        if (text_is(fields->items[i].name, TIME_NAME))
            return pack_read_value(&cursor, &value) && value_to_time(value, time) && *time >= 0 && *time <= EVENT_TIME_MAX;
    }
    return false;
}

static bool refuse(decoder_t *decoder, decode_target_t *target, text_t line, const char *reason) {
    format_bad(decoder, target, line, reason);
    return false;
}

static bool read_line(decoder_t *decoder, text_t line, const char *readable, decode_target_t *target) {
    syslog_lines_t *self = (syslog_lines_t *) decoder;
    int64_t time = 0;
    err_t err;
    if (text_trim(line).size == 0)
        return false;
    if (text_utf8_valid(line.data, line.size) < line.size || memchr(line.data, 0, line.size))
        return refuse(decoder, target, line, "invalid UTF-8 or a NUL byte");
    if (syslog_read(&self->message, line, target->ingest_time, &err))
        return refuse(decoder, target, line, err.text);
    builder_begin(target->builder);
    fields_pack(&self->message.fields, &target->builder->body);
    if (!format_fits(target)) {
        builder_abort(target->builder);
        return refuse(decoder, target, line, FORMAT_TOO_LARGE);
    }
    bool timed = time_of(&self->message.fields, &time);
    target->topic = NULL;
    return format_commit(target, timed, time);
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    return format_feed_lines(&((syslog_lines_t *) decoder)->lines, decoder, data, size, at_end, target, read_line);
}

static void reset(decoder_t *decoder) {
    ((syslog_lines_t *) decoder)->lines.skipping = false;
}

static uint64_t state(const decoder_t *decoder) {
    return ((const syslog_lines_t *) decoder)->lines.skipping;
}

static void restore(decoder_t *decoder, uint64_t state) {
    ((syslog_lines_t *) decoder)->lines.skipping = state & 1;
}

static void free_decoder(decoder_t *decoder) {
    syslog_fini(&((syslog_lines_t *) decoder)->message);
    mem_free(decoder);
}

int format_syslog_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    if (settings->time_field && strcmp(settings->time_field, TIME_NAME) != 0)
        return err_set(err, "--time %s: a line of the format \"syslog\" has its time in the field " TIME_NAME, settings->time_field);
    syslog_lines_t *self = mem_zero(sizeof *self);
    self->decoder.class = &class;
    self->lines.limit = format_record_limit(settings);
    *decoder = &self->decoder;
    return 0;
}
