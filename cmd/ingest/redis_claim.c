/* Entries that other consumers of the group were given and have not acknowledged for a long time: they are claimed under a name of their own, so that
 * what we were given in order can be told by its identifiers alone. */
#include "base/clock.h"
#include "base/memory.h"
#include "redis_source.h"

static void next_page(redis_source_t *self);

static void finish(redis_source_t *self) {
    self->phase = REDIS_LIVE;
    redis_stream_next(self);
}

static void next_stream(redis_source_t *self) {
    self->claim.stream++;
    self->claim.after = (redis_id_t){0};
    next_page(self);
}

/* [entry, ...]: those that were still there, and still idle. */
static bool on_claimed(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_source_t *self = argument;
    if (depth == 1)
        return item->type == REDIS_NULL || redis_stream_take(self, &self->streams[self->claim.stream], item, raw);
    if (item->type != REDIS_ARRAY)
        redis_stream_lose(self, item);
    return true;
}

/* One portion at a time: more when this one is acknowledged. */
static void on_all_claimed(void *argument) {
    redis_source_t *self = argument;
    if (self->claim.seen == REDIS_CLAIM_MAX)
        self->claim.at = 0;
    if (redis_is_up(self->reader))
        finish(self);
}

/* [[id, consumer, idle, deliveries], ...] */
static bool on_pending(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_source_t *self = argument;
    redis_claim_t *claim = &self->claim;
    redis_cursor_t cursor = {raw.data, raw.data + raw.size};
    redis_item_t head;
    text_t id, consumer;
    if (depth == 0 && item->type != REDIS_ARRAY && !redis_is_error(item, "NOGROUP"))
        redis_stream_lose(self, item);
    if (depth == 0)
        return true;
    if (!redis_next(&cursor, &head) || !redis_next_text(&cursor, &id) || !redis_next_text(&cursor, &consumer) || !redis_id_read(&claim->after, id)) {
        redis_stream_lose(self, item);
        return true;
    }
    claim->seen++;
    if (!text_is(consumer, self->consumer) && !text_is(consumer, self->claimant) && claim->count < REDIS_CLAIM_MAX)
        claim->ids[claim->count++] = claim->after;
    return true;
}

static void on_all_pending(void *argument) {
    redis_source_t *self = argument;
    redis_claim_t *claim = &self->claim;
    if (!redis_is_up(self->reader))
        return;
    if (!claim->count) {
        if (claim->seen < REDIS_CLAIM_MAX)
            next_stream(self);
        else
            next_page(self);
        return;
    }
    redis_say(self, 5 + claim->count, "XCLAIM");
    redis_word(self, self->streams[claim->stream].key);
    redis_word(self, self->settings->group);
    redis_word(self, self->claimant);
    redis_put_number(&self->command, self->settings->claim / NS_PER_MS);
    for (size_t i = 0; i < claim->count; i++)
        redis_word_id(self, claim->ids[i]);
    redis_ask(self, 1, on_claimed, on_all_claimed, 0);
}

static void next_page(redis_source_t *self) {
    redis_claim_t *claim = &self->claim;
    if (claim->stream == self->stream_count) {
        finish(self);
        return;
    }
    char from[REDIS_ID_TEXT + 1] = "-";
    if (claim->after.ms || claim->after.number) {
        from[0] = '(';
        redis_id_print(from + 1, claim->after);
    }
    claim->seen = claim->count = 0;
    redis_say(self, 8, "XPENDING");
    redis_word(self, self->streams[claim->stream].key);
    redis_word(self, self->settings->group);
    redis_word(self, "IDLE");
    redis_put_number(&self->command, self->settings->claim / NS_PER_MS);
    redis_word(self, from);
    redis_word(self, "+");
    redis_put_number(&self->command, REDIS_CLAIM_MAX);
    redis_ask(self, 1, on_pending, on_all_pending, 0);
}

void redis_claim(redis_source_t *self) {
    redis_claim_t *claim = &self->claim;
    if (!claim->ids)
        claim->ids = mem_alloc(REDIS_CLAIM_MAX * sizeof *claim->ids);
    self->phase = REDIS_CLAIMING;
    claim->stream = 0;
    claim->after = (redis_id_t){0};
    next_page(self);
}
