/* Reading streams, alone or as a consumer of a group: which command comes next, and what its answer means. There is one command on its way at a time:
 * first what we were given before and have not acknowledged, then what is new. */
#include "redis_source.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#define BLOCK_MS 5000                  /* how long the server waits for more before it says that there is nothing */
#define BATCH_BYTES (1024 * 1024)      /* that an answer should have, more or less */
#define BATCH_MAX 1000
#define LOOK_EVERY (5 * NS_PER_S)

/* Commands. */

void redis_say(redis_source_t *self, size_t words, const char *word) {
    buf_clear(&self->command);
    redis_put_command(&self->command, words);
    redis_word(self, word);
}

void redis_word(redis_source_t *self, const char *word) {
    redis_put_word(&self->command, text_of(word));
}

void redis_word_id(redis_source_t *self, redis_id_t id) {
    char text[REDIS_ID_TEXT];
    redis_id_print(text, id);
    redis_word(self, text);
}

void redis_ask(redis_source_t *self, unsigned whole, redis_piece_fn *piece, void (*done)(void *argument), int64_t patience) {
    redis_request_t request = {.whole = whole, .piece = piece, .done = done, .argument = self, .patience = patience};
    redis_send(self->reader, &self->command, &request);
}

void redis_stream_lose(redis_source_t *self, const redis_item_t *item) {
    char *words = item->type == REDIS_ERROR ? mem_text_n(item->text.data, item->text.size) : mem_text("the server's answer does not belong to the question");
    redis_lose(self->reader, words);
    mem_free(words);
}

bool redis_is_error(const redis_item_t *item, const char *code) {
    return item->type == REDIS_ERROR && item->text.size >= strlen(code) && memcmp(item->text.data, code, strlen(code)) == 0;
}

/* The group. */

/* The streams' answers come in order. A group that we have made begins where we have said; one that was there before may be anywhere. */
static bool on_created(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_source_t *self = argument;
    redis_stream_t *stream = &self->streams[self->created++];
    const char *begin = self->settings->begin;
    if (item->type == REDIS_ERROR && !redis_is_error(item, "BUSYGROUP"))
        redis_stream_lose(self, item);
    if (item->type == REDIS_ERROR || stream->begun || strcmp(begin, "new") == 0)
        return true;
    redis_id_read(&stream->last, text_of(begin)); /* "first" is none, and stays 0-0 */
    stream->begun = true;
    source_moved(self->setup.host);
    return true;
}

static void on_all_created(void *argument) {
    redis_stream_next(argument);
}

/* After a group was lost it begins anew behind what we have taken. */
static void create_groups(redis_source_t *self) {
    const redis_settings_t *settings = self->settings;
    self->missing = false;
    self->created = 0;
    for (size_t i = 0; i < self->stream_count; i++) {
        const redis_stream_t *stream = &self->streams[i];
        redis_say(self, 6, "XGROUP");
        redis_word(self, "CREATE");
        redis_word(self, stream->key);
        redis_word(self, settings->group);
        if (stream->begun)
            redis_word_id(self, stream->last);
        else
            redis_word(self, strcmp(settings->begin, "first") == 0 ? "0" : strcmp(settings->begin, "new") == 0 ? "$" : settings->begin);
        redis_word(self, "MKSTREAM");
        redis_ask(self, 0, on_created, i + 1 == self->stream_count ? on_all_created : NULL, 0);
    }
}

/* Entries. */

static redis_stream_t *find_stream(redis_source_t *self, text_t key) {
    for (size_t i = 0; i < self->stream_count; i++) {
        if (text_is(key, self->streams[i].key))
            return &self->streams[i];
    }
    return NULL;
}

/* What is in the log already, though the server does not know it. */
static bool is_known(redis_source_t *self, redis_stream_t *stream, redis_id_t id) {
    uint32_t number = (uint32_t) (stream - self->streams);
    if (self->phase == REDIS_OWN_CLAIMED || self->phase == REDIS_CLAIMING)
        return redis_acks_has_claimed(&self->acks, number, id);
    if (!self->grouped || !stream->begun || redis_id_compare(id, stream->last) > 0)
        return false;
    if (self->phase == REDIS_LIVE && !self->look.alone)
        return false;
    if (self->phase == REDIS_LIVE && !self->look.told_back)
        log_warning("the group %s of %s has gone back behind what was taken: that is passed over (--reset would take it again)",
                    self->settings->group, stream->key);
    self->look.told_back |= self->phase == REDIS_LIVE;
    redis_acks_add(&self->acks, number, id, false, 0);
    return true;
}

static bool id_of(text_t raw, redis_id_t *id) {
    redis_cursor_t cursor = {raw.data, raw.data + raw.size};
    redis_item_t head;
    text_t name;
    return redis_next(&cursor, &head) && redis_next_text(&cursor, &name) && redis_id_read(id, name);
}

bool redis_stream_take(redis_source_t *self, redis_stream_t *stream, const redis_item_t *item, text_t raw) {
    redis_id_t id;
    if (!stream || item->type != REDIS_ARRAY || !id_of(raw, &id)) {
        redis_stream_lose(self, item);
        return true;
    }
    if (self->delivering || !is_known(self, stream, id)) {
        int result = redis_entry_take(self, stream, raw);
        if (result == 0)
            return false;
        if (result < 0)
            redis_stream_lose(self, item);
    }
    stream->cursor = id;
    self->came++;
    self->bytes += raw.size;
    return true;
}

/* [[key, [entry, ...]], ...] or nothing. */
static bool on_read(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_source_t *self = argument;
    if (depth == 3)
        return redis_stream_take(self, self->current, item, raw);
    if (depth == 2 && item->type == REDIS_STRING)
        self->current = find_stream(self, item->text);
    else if (redis_is_error(item, "NOGROUP") || redis_is_error(item, "UNBLOCKED"))
        self->missing = true;
    else if (item->type != REDIS_ARRAY && item->type != REDIS_NULL)
        redis_stream_lose(self, item);
    return true;
}

/* An answer of so many entries has about so many bytes. */
static void choose_batch(redis_source_t *self) {
    size_t each = self->bytes / self->came + 1, batch = BATCH_BYTES / each;
    self->batch = batch < 1 ? 1 : batch > BATCH_MAX ? BATCH_MAX : batch;
}

static void next_phase(redis_source_t *self) {
    if (self->phase == REDIS_OWN && (self->claim.on || self->acks.claimed)) {
        self->phase = REDIS_OWN_CLAIMED;
        for (size_t i = 0; i < self->stream_count; i++)
            self->streams[i].cursor = (redis_id_t){0};
    } else {
        self->phase = REDIS_LIVE;
    }
}

static void on_answer(void *argument) {
    redis_source_t *self = argument;
    redis_acks_tell(self);
    if (self->missing && self->grouped) {
        create_groups(self);
        return;
    }
    if (self->came)
        choose_batch(self);
    if (self->phase == REDIS_LIVE)
        backoff_reset(&self->backoff);
    else if (!self->came)
        next_phase(self);
    redis_stream_next(self);
}

static int64_t block_ms(const redis_source_t *self) {
    int64_t half = self->settings->claim / 2 / NS_PER_MS;
    return self->claim.on && half < BLOCK_MS ? half + 1 : BLOCK_MS;
}

static void read_entries(redis_source_t *self) {
    bool live = self->phase == REDIS_LIVE;
    int64_t block = block_ms(self);
    self->came = self->bytes = 0;
    self->current = NULL;
    redis_say(self, 2 * self->stream_count + (self->grouped ? 7 : 4) + (live ? 2 : 0), self->grouped ? "XREADGROUP" : "XREAD");
    if (self->grouped) {
        redis_word(self, "GROUP");
        redis_word(self, self->settings->group);
        redis_word(self, self->phase == REDIS_OWN_CLAIMED ? self->claimant : self->consumer);
    }
    redis_word(self, "COUNT");
    redis_put_number(&self->command, (int64_t) self->batch);
    if (live) {
        redis_word(self, "BLOCK");
        redis_put_number(&self->command, block);
    }
    redis_word(self, "STREAMS");
    for (size_t i = 0; i < self->stream_count; i++)
        redis_word(self, self->streams[i].key);
    for (size_t i = 0; i < self->stream_count; i++) {
        if (live && self->grouped)
            redis_word(self, ">");
        else
            redis_word_id(self, live ? self->streams[i].last : self->streams[i].cursor);
    }
    redis_ask(self, 3, on_read, on_answer, live ? block * NS_PER_MS : 0);
}

/* Now and then, and when entries could be counted from now on: all that there are have been seen. */
static bool wants_look(const redis_source_t *self, int64_t now) {
    if (!self->look.at || now - self->look.at >= LOOK_EVERY)
        return true;
    if (!self->look.told || (self->grouped && !self->look.alone) || self->came >= self->batch || !self->came)
        return false;
    for (size_t i = 0; i < self->stream_count; i++) {
        if (self->streams[i].begun && !self->streams[i].counting)
            return true;
    }
    return false;
}

void redis_stream_next(redis_source_t *self) {
    int64_t now = clock_monotonic();
    bool live = self->phase == REDIS_LIVE;
    if (!redis_is_up(self->reader))
        return;
    if (live && wants_look(self, now)) {
        self->came = 0;
        self->look.at = now;
        redis_look(self);
        return;
    }
    if (live && self->claim.on && now - self->claim.at >= self->settings->claim / 2 && !self->acks.claimed) {
        self->claim.at = now;
        redis_claim(self);
        return;
    }
    if (live)
        source_healthy(self->setup.host);
    read_entries(self);
}

void redis_stream_start(redis_source_t *self) {
    self->phase = self->grouped ? REDIS_OWN : REDIS_LIVE;
    self->look.at = 0;
    self->missing = false;
    for (size_t i = 0; i < self->stream_count; i++)
        self->streams[i].cursor = self->connected_before ? self->streams[i].last : (redis_id_t){0};
    self->connected_before = true;
    redis_stream_next(self);
}
