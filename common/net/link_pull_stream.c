/* The streams of a receiver: who sends, in which epoch, and up to which number we have it. A sender with a durable log says which epochs its
 * present one continues: what we have of those stays ours, unless it is more than the sender still knows of. */
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "net/link_pull.h"

#define ORIGINS_MAX 4096
#define HURRY_NS INT64_C(50000000)        /* the owner is not told more often */

/* ---- beginning and end ---- */

static int past_of(const pull_stream_t *stream, uint64_t epoch) {
    for (int i = 0; i < PULL_PAST_EPOCHS; i++)
        if (stream->past[i].epoch == epoch)
            return i;
    return -1;
}

static void put_position(pull_stream_t *stream, uint64_t number) {
    stream->received = stream->delivered = stream->durable = number;
}

/* Begins with the oldest frame that the sender still has. */
static void begin(pull_stream_t *stream, const frame_t *frame) {
    stream->epoch = frame->epoch;
    put_position(stream, frame->lowest ? frame->lowest - 1 : 0);
    stream->stable = 0;
    stream->attempt = 0;
    stream->again_for = 0;
    stream->ended = stream->left = stream->again = stream->refused = stream->spilled = stream->gone = false;
    stream->reports = 0;
}

static void remember_epoch(pull_stream_t *stream, bool same) {
    memmove(stream->past + 1, stream->past, (PULL_PAST_EPOCHS - 1) * sizeof *stream->past);
    stream->past[0].epoch = stream->epoch;
    stream->past[0].same = true;
    for (int i = 0; i < PULL_PAST_EPOCHS && !same; i++)
        stream->past[i].same = false;
}

bool pull_stream_counts(const pull_stream_t *stream, uint64_t epoch) {
    int past = past_of(stream, epoch);
    return stream->epoch == epoch || (past >= 0 && stream->past[past].same);
}

static pull_stream_t *add(pull_link_t *pull, const char *origin) {
    pull_stream_t *stream = mem_zero(sizeof *stream);
    ASSERT(strlen(origin) < sizeof stream->origin);
    strcpy(stream->origin, origin);
    for (int i = 0; i < PULL_PAST_EPOCHS; i++)
        stream->past[i].epoch = UINT64_MAX;
    map_put(pull->streams, text_of(stream->origin), stream);
    return stream;
}

void pull_stream_restore(pull_link_t *pull, const char *origin, uint64_t epoch, uint64_t sequence, bool ended) {
    pull_stream_t *stream = map_get(pull->streams, text_of(origin));
    if (!stream)
        stream = add(pull, origin);
    pull_hold_forget(pull, stream);
    begin(stream, &(frame_t){.epoch = epoch});
    put_position(stream, sequence);
    stream->ended = ended;
    stream->replaced = stream->taken_back = false;
    stream->silent = true;
}

void pull_streams_free(pull_link_t *pull) {
    size_t position = 0;
    text_t key;
    void *stream;
    while (map_next(pull->streams, &position, &key, &stream))
        mem_free(stream);
    map_free(pull->streams);
}

/* ---- several senders ---- */

/* What it sent can't be taken back any more. */
static void settle(pull_link_t *pull, pull_stream_t *stream) {
    const link_receiver_setup_t *setup = &pull->base.setup;
    if (stream->stable >= stream->received)
        return;
    stream->stable = stream->received;
    if (setup->stable)
        setup->stable(setup->argument, &pull->base, stream->origin, stream->epoch, stream->stable);
}

/* An address is bound by one sender at a time: where we connect, those before the one that has just come are gone, with what was not on their
 * disks yet, and an end that they did not send will never come. (One that speaks again was not gone: a forwarder stands between us.) `one`: it; NULL: it
 * is not known yet. */
static void replace_others(pull_link_t *pull, const pull_stream_t *one) {
    size_t position = 0;
    text_t key;
    void *value;
    while (pull->connects && !pull->plain && map_next(pull->streams, &position, &key, &value)) {
        pull_stream_t *stream = value;
        if (stream == one)
            continue;
        stream->replaced = !stream->ended;
        settle(pull, stream);
    }
}

void pull_stream_gone(pull_link_t *pull, pull_stream_t *stream) {
    stream->gone = true;
    stream->replaced = !stream->ended;
    stream->left = stream->ended;
    settle(pull, stream);
}

/* Where many senders connect, each says itself whose place it has taken. */
static void replace_named(pull_link_t *pull, const frame_t *frame) {
    text_t rest = frame->replaces, origin;
    while (frame_replaces(&rest, &origin)) {
        pull_stream_t *stream = map_get(pull->streams, origin);
        if (!stream || stream->gone || text_is(origin, frame->origin))
            continue;
        log_info("%s: %s was begun anew as %s: what it had sent is final", pull->base.endpoint, stream->origin, frame->origin);
        pull_stream_gone(pull, stream);
    }
}

void pull_stream_heard(pull_link_t *pull, pull_stream_t *stream) {
    if (stream->silent)
        replace_others(pull, stream);
    stream->silent = false;
    stream->replaced = stream->gone && !stream->ended;
}

/* Makes room for another stream: the longest unused of those that have ended. */
static bool forget_one(pull_link_t *pull) {
    pull_stream_t *oldest = NULL;
    size_t position = 0;
    text_t key;
    void *value;
    while (map_next(pull->streams, &position, &key, &value)) {
        pull_stream_t *stream = value;
        bool done = stream->replaced || (stream->ended && stream->durable >= stream->received);
        if (done && !stream->held && (!oldest || stream->used < oldest->used))
            oldest = stream;
    }
    if (!oldest)
        return false;
    map_remove(pull->streams, text_of(oldest->origin));
    mem_free(oldest);
    return true;
}

/* ---- epochs ---- */

/* The sender knows less of its past than we have. False: the owner goes back, and nothing more is taken until then. Where what is durable
 * here is gone there, going back would not help. */
static bool take_back(pull_link_t *pull, pull_stream_t *stream, uint64_t number) {
    const link_receiver_setup_t *setup = &pull->base.setup;
    unsigned long long lost = stream->received - number, last = number;
    if (!setup->taken_back || stream->durable > number) {
        log_error("%s: %s was started anew and has lost its last %llu frames, which had come here; it goes on behind frame %llu, and what it "
                  "sends now may be there twice. Its stage syncs too seldom for its --sync, or not at all", pull->base.endpoint,
                  stream->origin, lost, last);
        return true;
    }
    log_warning("%s: %s was started anew and has lost its last %llu frames, which had come here; this stage goes back to frame %llu, or before",
                pull->base.endpoint, stream->origin, lost, last);
    stream->taken_back = true;
    setup->taken_back(setup->argument, &pull->base, stream->origin);
    return false;
}

/* The sender was started anew. */
static bool next_epoch(pull_link_t *pull, pull_stream_t *stream, const frame_t *frame) {
    if (past_of(stream, frame->epoch) >= 0) {
        pull->base.stats.repeats++;       /* a straggler from before */
        return false;
    }
    pull_hold_forget(pull, stream);
    if (!frame->past_count) {
        remember_epoch(stream, false);
        begin(stream, frame);
        return true;
    }
    bool known, named = false;
    uint64_t number = frame_common(frame->past, frame->past_count, stream->epoch, &known);
    for (unsigned i = 0; i < frame->past_count; i++)
        named |= frame->past[i].epoch == stream->epoch;
    /* One that is not named is taken for older: what it had lost by the next one may be gone from the list. What is stable is there for certain. */
    uint64_t certain = stream->stable > stream->durable ? stream->stable : stream->durable;
    if (!named && number > certain)
        number = certain;
    bool ended = stream->ended, same = stream->received <= number;
    if (!same && !take_back(pull, stream, number))
        return false;
    uint64_t received = same ? stream->received : number, durable = stream->durable;
    remember_epoch(stream, same);
    begin(stream, frame);
    put_position(stream, received);
    stream->ended = ended && same;
    if (durable < received)
        stream->durable = durable;
    return true;
}

pull_stream_t *pull_stream_of(pull_link_t *pull, const frame_t *frame) {
    pull_stream_t *stream = map_get(pull->streams, text_of(frame->origin));
    if (!stream) {
        if (map_count(pull->streams) >= ORIGINS_MAX && !forget_one(pull)) {
            link_receiver_malformed(&pull->base, "too many senders on one link");
            return NULL;
        }
        replace_others(pull, NULL);
        stream = add(pull, frame->origin);
        begin(stream, frame);
    } else if (stream->taken_back || (stream->epoch != frame->epoch && !next_epoch(pull, stream, frame)))
        return NULL;
    pull_stream_heard(pull, stream);
    stream->used = ++pull->serial;
    return stream;
}

void pull_stream_news(pull_link_t *pull, pull_stream_t *stream, const frame_t *frame) {
    const link_receiver_setup_t *setup = &pull->base.setup;
    if (frame->hurry && setup->hurry && loop_now(pull->base.loop) - pull->hurried >= HURRY_NS) {
        pull->hurried = loop_now(pull->base.loop);
        setup->hurry(setup->argument, &pull->base);
    }
    replace_named(pull, frame);
    if (!frame->has_stable || frame->stable <= stream->stable)
        return;
    stream->stable = frame->stable;
    if (setup->stable)
        setup->stable(setup->argument, &pull->base, stream->origin, stream->epoch, stream->stable);
}
