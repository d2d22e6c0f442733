/* How far streams and groups are: where a stream is begun, and whether entries were trimmed or deleted before we saw them. Redis counts the entries ever
 * added (since 7.0): behind the entry taken last there must be as many as are there now, or some are gone. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "redis_source.h"

enum { FIELD_NONE, FIELD_LAST, FIELD_ADDED, FIELD_LENGTH, FIELD_FIRST };

void redis_gap(redis_source_t *self, const redis_stream_t *stream, uint64_t entries) {
    log_warning("%s: %llu entr%s trimmed or deleted before we saw %s", stream->key, (unsigned long long) entries, entries == 1 ? "y was" : "ies were",
                entries == 1 ? "it" : "them");
    source_dropped(self->setup.host, entries);
    source_moved(self->setup.host);
}

/* A group's counts are ours only when we are its one consumer. */
static bool can_count(const redis_source_t *self) {
    return self->look.told && (!self->grouped || self->look.alone);
}

static void begin_at(redis_source_t *self, redis_stream_t *stream) {
    const redis_look_t *look = &self->look;
    const char *begin = self->settings->begin;
    if (strcmp(begin, "first") == 0)
        stream->last = (redis_id_t){0};
    else if (strcmp(begin, "new") == 0)
        stream->last = look->last;
    else
        redis_id_read(&stream->last, text_of(begin));
    stream->begun = true;
    source_moved(self->setup.host);
}

/* How many were added up to the entry taken last, if that can be told: all, or those that are gone. */
static bool added_before(const redis_look_t *look, const redis_stream_t *stream, uint64_t *added) {
    bool at_end = redis_id_compare(stream->last, look->last) >= 0;
    bool at_front = look->length && redis_id_compare(look->first, stream->last) > 0;
    if (!at_end && !at_front && look->length)
        return false;
    *added = at_end ? look->added : look->added - look->length;
    return true;
}

static void compare(redis_source_t *self, redis_stream_t *stream) {
    redis_look_t *look = &self->look;
    uint64_t added = 0;
    if (!self->grouped && !stream->begun)
        begin_at(self, stream);
    if (!look->missing && stream->begun && redis_id_compare(look->last, stream->last) < 0 && !look->told_back) {
        log_warning("%s has gone back behind what was taken: what it is given up to there is passed over (--reset would take it again)", stream->key);
        look->told_back = true;
    }
    if (!can_count(self) || !stream->begun || (stream->counting && look->added < stream->added)) {
        stream->counting = false; /* it is another one by the same name, or there are other readers */
        return;
    }
    if (!added_before(look, stream, &added))
        return;
    if (stream->counting && added > stream->added)
        redis_gap(self, stream, added - stream->added);
    stream->added = added;
    stream->counting = true;
}

static void next_stream(void *argument);

/* The names of the group's consumers. */
static bool on_consumer(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_source_t *self = argument;
    redis_cursor_t cursor = {raw.data, raw.data + raw.size};
    redis_item_t head;
    text_t name;
    if (item->type == REDIS_ERROR && !redis_is_error(item, "NOGROUP") && !redis_is_error(item, "ERR no such key"))
        self->look.alone = false;
    if (depth == 1 && (!redis_next(&cursor, &head) || !redis_skip(&cursor) || !redis_next_text(&cursor, &name) ||
                       (!text_is(name, self->consumer) && !text_is(name, self->claimant))))
        self->look.alone = false;
    return true;
}

static unsigned field_of(text_t name) {
    return text_is(name, "last-generated-id")         ? FIELD_LAST
           : text_is(name, "entries-added")           ? FIELD_ADDED
           : text_is(name, "length")                  ? FIELD_LENGTH
           : text_is(name, "recorded-first-entry-id") ? FIELD_FIRST
                                                      : FIELD_NONE;
}

static void take_field(redis_look_t *look, const redis_item_t *item) {
    switch (look->field) {
    case FIELD_LAST:
        redis_id_read(&look->last, item->text);
        break;
    case FIELD_FIRST:
        redis_id_read(&look->first, item->text);
        break;
    case FIELD_ADDED:
        look->added = (uint64_t) item->number;
        look->told = true;
        break;
    case FIELD_LENGTH:
        look->length = (uint64_t) item->number;
        break;
    default:
        break;
    }
}

/* [name, value, ...]; of a stream that is not there an error. */
static bool on_info(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_source_t *self = argument;
    redis_look_t *look = &self->look;
    if (depth == 0 && item->type == REDIS_ERROR) {
        look->missing = redis_is_error(item, "ERR no such key");
        look->told = look->missing;
        if (!look->missing && !(redis_is_error(item, "NOPERM") && (self->grouped || strcmp(self->settings->begin, "new") != 0)))
            redis_stream_lose(self, item);
    } else if (depth == 0 && item->type != REDIS_ARRAY) {
        redis_stream_lose(self, item);
    } else if (depth == 1 && look->field == FIELD_NONE && item->type == REDIS_STRING && !look->value_next) {
        look->field = field_of(item->text);
        look->value_next = true;
    } else if (depth == 1) {
        take_field(look, item);
        look->field = FIELD_NONE;
        look->value_next = false;
    }
    return true;
}

static void on_looked(void *argument) {
    redis_source_t *self = argument;
    if (!redis_is_up(self->reader))
        return;
    compare(self, &self->streams[self->look.stream]);
    self->look.stream++;
    next_stream(self);
}

static void next_stream(void *argument) {
    redis_source_t *self = argument;
    redis_look_t *look = &self->look;
    if (look->stream == self->stream_count) {
        redis_stream_next(self);
        return;
    }
    const char *key = self->streams[look->stream].key;
    look->told = look->missing = look->value_next = false;
    look->field = FIELD_NONE;
    look->last = look->first = (redis_id_t){0};
    look->added = look->length = 0;
    if (self->grouped) {
        look->alone = true;
        redis_say(self, 4, "XINFO");
        redis_word(self, "CONSUMERS");
        redis_word(self, key);
        redis_word(self, self->settings->group);
        redis_ask(self, 1, on_consumer, NULL, 0);
    }
    redis_say(self, 3, "XINFO");
    redis_word(self, "STREAM");
    redis_word(self, key);
    redis_ask(self, 1, on_info, on_looked, 0);
}

void redis_look(redis_source_t *self) {
    self->look.stream = 0;
    next_stream(self);
}
