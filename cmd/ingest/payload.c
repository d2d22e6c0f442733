/* What becomes of a message's payload: the decoder's records, or those of a JSON value of any layout. */
#include "payload.h"

#include <string.h>

#include "base/memory.h"
#include "base/unicode.h"
#include "data/json.h"
#include "data/pack.h"

int payload_init(payload_t *payload, const source_setup_t *setup, err_t *err) {
    bool json = !setup->format || strcmp(setup->format->name, "json") == 0;
    const format_t *format = json ? format_find("ndjson") : setup->format;
    decoder_t *decoder;
    if (format->decoder_open(&decoder, setup->format_settings, err))
        return -1;
    *payload = (payload_t){.host = setup->host, .decoder = decoder, .json = json};
    return 0;
}

void payload_fini(payload_t *payload) {
    decoder_free(payload->decoder);
    buf_fini(&payload->lines);
    buf_fini(&payload->packed);
}

static void put_line(buf_t *out, value_t value) {
    if (value.type != VALUE_MAP)
        buf_put_text(out, "{\"value\":");
    json_put_value(out, value);
    buf_put_text(out, value.type != VALUE_MAP ? "}\n" : "\n");
}

/* What of one value is records: the elements of an array, else the value; of null where --records leads there is none. */
static int put_records(payload_t *self, const uint8_t *packed, size_t size, err_t *err) {
    pack_cursor_t cursor = pack_cursor(packed, size);
    value_t value, item;
    uint32_t count;
    ASSERT(pack_read_value(&cursor, &value));
    if (self->records && !pack_follow(text_of(self->records), &value))
        return err_set(err, "the message has no %s (--records)", self->records);
    if (value.type == VALUE_NULL && self->records)
        return 0;
    if (value.type != VALUE_ARRAY) {
        put_line(&self->lines, value);
        return 0;
    }
    cursor = pack_cursor(value.packed, value.size);
    ASSERT(pack_read_array(&cursor, &count));
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(pack_read_value(&cursor, &item));
        put_line(&self->lines, item);
    }
    return 0;
}

/* One value, or one on each line. */
static int json_to_lines(payload_t *self, text_t text, err_t *err) {
    buf_clear(&self->packed);
    buf_clear(&self->lines);
    ssize_t used = json_read_value(text, &self->packed, err);
    if (used < 0)
        return -1;
    text_t rest = text_trim(text_make(text.data + used, text.size - (size_t) used)), line;
    if (!rest.size)
        return put_records(self, self->packed.data, self->packed.size, err);
    for (rest = text; text_split(&rest, '\n', &line);) {
        line = text_trim(line);
        buf_clear(&self->packed);
        used = line.size ? json_read_value(line, &self->packed, err) : 0;
        if (used < 0 || (size_t) used < line.size)
            return err_set(err, "more text after the JSON value, in the line that begins at byte %td; for other payloads there is --format",
                           line.data - text.data + 1);
        if (line.size && put_records(self, self->packed.data, self->packed.size, err))
            return -1;
    }
    return 0;
}

/* An object on each line: then a bad line costs only itself. */
static bool is_lines(text_t text) {
    if (text.data[0] != '{')
        return false;
    for (const char *end = text.data + text.size, *at = text.data; (at = memchr(at, '\n', (size_t) (end - at))) != NULL; at++) {
        const char *before = at > text.data && at[-1] == '\r' ? at - 2 : at - 1;
        if (before < text.data || *before != '}' || (at + 1 < end && at[1] != '{'))
            return false;
    }
    return true;
}

static text_t lines_of(const payload_t *self) {
    return text_make((const char *) self->lines.data, self->lines.size);
}

/* False: the payload cannot be used. */
static bool choose_text(payload_t *self, text_t text, const tag_t *tag) {
    err_t err;
    self->text = text;
    if (!self->json)
        return true;
    size_t mark = unicode_mark(text.data, text.size);
    self->text = text = text_make(text.data + mark, text.size - mark);
    if (!text.size) {
        buf_clear(&self->lines);
        if (tag && tag->count)
            buf_put_text(&self->lines, "{}\n");
        self->text = lines_of(self);
        return true;
    }
    if (!self->records && is_lines(text))
        return true;
    if (json_to_lines(self, text, &err)) {
        source_bad(self->host, text, self->place, err.text);
        return false;
    }
    self->text = lines_of(self);
    return true;
}

void payload_begin(payload_t *self, text_t text, const tag_t *tag, const char *place, uint64_t skip) {
    self->place = place;
    self->at = 0;
    self->first = source_records(self->host);
    if (!choose_text(self, text, tag) || !self->text.size)
        return;
    self->under_way = true;
    decoder_reset(self->decoder);
    self->decoder->records = 0;
    source_skip(self->host, skip);
    source_tag(self->host, tag);
}

bool payload_go_on(payload_t *self) {
    while (self->under_way && self->at < self->text.size && source_room(self->host)) {
        size_t used = source_decode(self->host, self->decoder, self->text.data + self->at, self->text.size - self->at, true, self->place);
        self->at += used;
        if (!used && source_room(self->host))
            break;
    }
    if (self->under_way && !source_room(self->host) && self->at < self->text.size)
        return false;
    payload_end(self);
    return true;
}

void payload_end(payload_t *self) {
    self->under_way = false;
    source_skip(self->host, 0);
    source_tag(self->host, NULL);
}

uint64_t payload_records(const payload_t *self) {
    return self->under_way ? source_records(self->host) - self->first : 0;
}
