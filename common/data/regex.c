/* Lines that a regular expression takes apart: its named groups are the fields. A line that does not match costs only itself. */
#include "base/memory.h"
#include "data/csv.h"
#include "data/fields.h"
#include "data/lang/pattern.h"
#include "data/multiline.h"
#include "data/pack.h"

typedef struct regex {
    decoder_t decoder;
    line_state_t lines;
    pattern_t *pattern;
    fields_t fields;
    buf_t values;
    bool strings;
    char *time_field;         /* NULL: @timestamp cannot be a group's name, so there is none */
} regex_t;

static bool refuse(decoder_t *decoder, decode_target_t *target, text_t line, const char *reason) {
    builder_abort(target->builder);
    format_bad(decoder, target, line, reason);
    return false;
}

/* As CSV's unquoted fields are read. */
static void put_value(regex_t *self, text_t name, text_t text) {
    size_t start = self->values.size;
    value_t value;
    if (!text.data)
        pack_nil(&self->values);
    else if (self->strings || !csv_infer(text, &value))
        pack_string(&self->values, text.data, text.size);
    else
        pack_value(&self->values, value);
    fields_put(&self->fields, name, self->values.data + start, (uint32_t) (self->values.size - start));
}

/* False: there is none that could be read. */
static bool time_of(const regex_t *self, int64_t *time) {
    for (uint32_t i = 0; i < self->fields.count; i++) {
        const field_t *field = &self->fields.items[i];
        pack_cursor_t cursor = pack_cursor(field->value, field->size);
        value_t value;
        if (text_is(field->name, self->time_field))
            return pack_read_value(&cursor, &value) && value_to_time(value, time) && *time >= 0 && *time <= EVENT_TIME_MAX;
    }
    return false;
}

static bool read_line(decoder_t *decoder, text_t line, const char *readable, decode_target_t *target) {
    regex_t *self = (regex_t *) decoder;
    if (line.size && line.data[line.size - 1] == '\r')
        line.size--;
    if (line.size == 0)
        return false;
    builder_begin(target->builder);
    if (text_utf8_valid(line.data, line.size) < line.size || memchr(line.data, 0, line.size))
        return refuse(decoder, target, line, "invalid UTF-8 or a NUL byte");
    pattern_search_t search = {.text = line};
    int found = pattern_find(self->pattern, &search, 0);
    if (found <= 0)
        return refuse(decoder, target, line, found ? "--pattern takes too many steps for this line" : "--pattern does not match");
    fields_clear(&self->fields);
    buf_clear(&self->values);
    unsigned names = pattern_names(self->pattern);
    size_t room = 64;
    for (unsigned i = 0, group; i < names; i++) {
        pattern_name(self->pattern, i, &group);
        room += pattern_found(self->pattern, &search, group).size + 16;
    }
    buf_reserve(&self->values, room); /* values do not move */
    for (unsigned i = 0, group; i < names; i++) {
        text_t name = pattern_name(self->pattern, i, &group);
        put_value(self, name, pattern_found(self->pattern, &search, group));
    }
    int64_t time = 0;
    if (self->time_field && !time_of(self, &time)) {
        err_t err;
        err_set(&err, FORMAT_BAD_TIME, self->time_field);
        return refuse(decoder, target, line, err.text);
    }
    fields_pack(&self->fields, &target->builder->body);
    if (!format_fits(target))
        return refuse(decoder, target, line, FORMAT_TOO_LARGE);
    target->topic = NULL;
    return format_commit(target, self->time_field != NULL, time);
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    return format_feed_lines(&((regex_t *) decoder)->lines, decoder, data, size, at_end, target, read_line);
}

static void reset(decoder_t *decoder) {
    line_state_reset(&((regex_t *) decoder)->lines);
}

static uint64_t state(const decoder_t *decoder) {
    return line_state_save(&((const regex_t *) decoder)->lines);
}

static void restore(decoder_t *decoder, uint64_t state) {
    line_state_restore(&((regex_t *) decoder)->lines, state);
}

static bool waits(const decoder_t *decoder) {
    return ((const regex_t *) decoder)->lines.lines > 0;
}

static void cut(decoder_t *decoder) {
    line_state_t *lines = &((regex_t *) decoder)->lines;
    lines->forced = lines->lines;
}

static void free_decoder(decoder_t *decoder) {
    regex_t *self = (regex_t *) decoder;
    pattern_free(self->pattern);
    multiline_free(self->lines.join);
    fields_fini(&self->fields);
    buf_fini(&self->values);
    mem_free(self->time_field);
    mem_free(self);
}

int format_regex_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore, waits, cut};
    size_t at = 0;
    err_t why;
    if (!settings->pattern)
        return err_set(err, "--format regex needs --pattern, as in '^(?<level>\\w+) (?<message>.*)'");
    pattern_t *pattern = pattern_new(text_of(settings->pattern), &at, &why);
    if (!pattern)
        return err_set(err, "--pattern, byte %zu: %s", at + 1, why.text);
    multiline_t *join = NULL;
    if (pattern_names(pattern) && multiline_new(&join, settings, err)) {
        pattern_free(pattern);
        return -1;
    }
    if (!pattern_names(pattern)) {
        pattern_free(pattern);
        return err_set(err, "--pattern has no named group: a field is what (?<name>...) takes");
    }
    regex_t *self = mem_zero(sizeof *self);
    self->decoder.class = &class;
    self->lines.limit = format_record_limit(settings);
    self->lines.join = join;
    self->pattern = pattern;
    self->strings = settings->no_inference;
    self->time_field = mem_text(settings->time_field);
    *decoder = &self->decoder;
    return 0;
}
