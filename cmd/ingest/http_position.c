/* What is kept of a web address over a restart: validators, the page or event under way and how far that is, the cursor. */
#include <string.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "http_source.h"

void http_replace(char **text, text_t value) {
    mem_free(*text);
    *text = value.size ? mem_text_n(value.data, value.size) : NULL;
}

/* Takes the lines up to the given one into the hash, which so tells whether another body begins with the same records. */
static void hash_lines(http_source_t *self, uint64_t count) {
    while (self->hashed < count && self->hashed_to < self->body.size) {
        const uint8_t *line = self->body.data + self->hashed_to;
        size_t size = (size_t) ((const uint8_t *) memchr(line, '\n', self->body.size - self->hashed_to) + 1 - line);
        self->body_hash = XXH3_64bits_withSeed(line, size, self->body_hash);
        self->hashed_to += size;
        self->hashed++;
    }
}

/* The first body after a restart may be the one that was cut off, or one that begins with what has been passed on of that. */
void http_source_find_again(http_source_t *self) {
    self->hashed = self->hashed_to = 0;
    self->body_hash = self->lines ? 0 : XXH3_64bits(self->body.data, self->body.size);
    if (!self->stored_records)
        return;
    if (self->lines)
        hash_lines(self, self->stored_records);
    if (self->body_hash == self->stored_hash && (!self->lines || self->hashed == self->stored_records)) {
        source_skip(self->setup.host, self->stored_records);
    } else {
        log_warning("%s: the answer that was being passed on is not given again: this one is taken whole", self->place);
        self->hashed = self->hashed_to = self->lines ? 0 : self->hashed_to;
        self->body_hash = self->lines ? 0 : self->body_hash;
    }
    self->stored_records = 0;
}

#define POSITION_PARTS 9
static const char *const position_parts[POSITION_PARTS] = {"url", "etag", "modified", "page", "cursor", "greatest", "body", "records", "paging"};

static uint64_t way_of_paging(const http_settings_t *settings) {
    return settings->stream ? 100 : (uint64_t) settings->paging;
}

static void put_text_or_nil(buf_t *out, const char *text) {
    if (text)
        pack_text(out, text);
    else
        pack_nil(out);
}

/* The validators are those of the last body that was passed on whole; of the one under way it is told which page that is and how far it is. */
void http_source_position(const source_t *source, buf_t *out) {
    http_source_t *self = (http_source_t *) source; /* the hash goes along with what has been passed on */
    uint64_t records = self->delivering ? source_records(self->setup.host) - self->first_record : self->stored_records;
    if (self->delivering && self->lines)
        hash_lines(self, records);
    pack_map(out, POSITION_PARTS + 2 + (self->unique != NULL));
    const char *const texts[] = {self->place, self->etag, self->modified, self->place_at.page, self->place_at.cursor, self->place_at.greatest};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        pack_text(out, position_parts[i]);
        put_text_or_nil(out, texts[i]);
    }
    pack_text(out, "body");
    pack_uint(out, self->delivering ? self->body_hash : self->stored_hash);
    pack_text(out, "records");
    pack_uint(out, records);
    pack_text(out, "paging");
    pack_uint(out, way_of_paging(self->settings));
    pack_text(out, "now");
    pack_int(out, self->place_at.now);
    pack_text(out, "since");
    pack_int(out, self->place_at.since);
    if (self->unique) {
        pack_text(out, "unique");
        unique_put(self->unique, out);
    }
}

/* What was not in the positions of earlier versions, or is in some only. */
static void restore_more(http_source_t *self, const uint8_t *position, size_t size) {
    value_t now, since, unique;
    if (pack_map_get(position, size, text_of("now"), &now) && now.type == VALUE_INT && pack_map_get(position, size, text_of("since"), &since) &&
        since.type == VALUE_INT) {
        self->place_at.now = now.integer;
        self->place_at.since = since.integer;
    }
    if (self->unique && pack_map_get(position, size, text_of("unique"), &unique) && unique.type == VALUE_BINARY)
        unique_load(self->unique, unique.text, unique.size);
}

int http_source_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    http_source_t *self = (http_source_t *) source;
    char **const texts[] = {NULL, &self->etag, &self->modified, &self->place_at.page, &self->place_at.cursor, &self->place_at.greatest};
    value_t values[POSITION_PARTS];
    for (int i = 0; i < POSITION_PARTS; i++) {
        if (!pack_map_get(position, size, text_of(position_parts[i]), &values[i]))
            return err_set(err, "the stored position is none of a web address");
    }
    if (values[0].type != VALUE_STRING || (values[6].type != VALUE_INT && values[6].type != VALUE_UINT) || values[7].type != VALUE_INT ||
        values[8].type != VALUE_INT)
        return err_set(err, "the stored position is none of a web address");
    if (!text_is(text_make(values[0].text, values[0].size), self->place))
        return err_set(err, "it was made for %.*s", (int) (values[0].size < 200 ? values[0].size : 200), values[0].text);
    if (values[8].unsigned_integer != way_of_paging(self->settings))
        return err_set(err, "it was made with another --paging or --stream");
    for (int i = 1; i < 6; i++) {
        if (values[i].type == VALUE_STRING)
            http_replace(texts[i], text_make(values[i].text, values[i].size));
    }
    self->stored_hash = values[6].unsigned_integer;
    self->stored_records = values[7].unsigned_integer;
    restore_more(self, position, size);
    return 0;
}

static bool same_text(value_t value, const char *text) {
    return text ? value.type == VALUE_STRING && text_is(text_make(value.text, value.size), text) : value.type == VALUE_NULL;
}

void http_source_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    http_source_t *self = (http_source_t *) source;
    value_t etag, modified;
    if (!self->unsafe || !pack_map_get(position, size, text_of("etag"), &etag) || !pack_map_get(position, size, text_of("modified"), &modified) ||
        !same_text(etag, self->etag) || !same_text(modified, self->modified))
        return;
    self->unsafe = false;
    if (self->waiting) {
        self->waiting = false;
        http_source_ask(self);
    }
}
