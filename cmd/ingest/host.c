/* What ingest does for its sources: decoding, batching, backpressure, the ledger's counts, health. The source's pause
 * and resume are called from here and nowhere else. */
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "ingest.h"

#define BAD_UNSTORED 1000              /* dead letters that a restart may have to write again */

int64_t host_clock(source_host_t *host) {
    int64_t round = loop_now(host->stage->loop);
    if (host->round != round || !host->now) {
        host->round = round;
        host->now = clock_now();
    }
    return host->now;
}

static void pause_source(source_host_t *host) {
    if (!host->paused) {
        host->paused = true;
        if (host->started)
            host->source->class->pause(host->source);
        host_devices_listen(host);
    }
}

static void resume_source(stage_t *stage) {
    source_host_t *host = &((ingest_t *) stage->own)->host;
    if (!host->paused || host->ended || host->enough || stage->finishing)
        return;
    host->paused = false;
    host->source->class->resume(host->source);
    host_devices_listen(host);
}

void source_patient(source_host_t *host) {
    stage_patient(host->stage);
}

uint64_t source_memory(const source_host_t *host) {
    return host->stage->settings.memory;
}

bool source_room(const source_host_t *host) {
    return !host->paused;
}

static void sample_complete(void *argument) {
    source_host_t *host = argument;
    if (host->stage->finishing)
        return;
    host->ended = true;
    stage_flush(host->stage);
    stage_finished(host->stage);
}

/* So many events have been committed to this builder since the last call. */
static void count_events(source_host_t *host, const char *topic, frame_builder_t *builder, uint64_t events) {
    stage_t *stage = host->stage;
    if (!events)
        return;
    stage->ledger.in += events;
    stage->ledger.out += events - 1; /* stage_emitted counts one, and cuts the frame when it is full */
    stage_emitted(stage, topic);
    if (host->wanted && (host->wanted -= (int64_t) events) == 0) {
        host->enough = true;
        pause_source(host);
        loop_defer(stage->loop, sample_complete, host);
    } else if (builder->events == 0 && !stage_room(stage)) { /* a frame was just cut */
        pause_source(host);
    }
}

/* The position is worth a record of its own now. */
static void store_position(source_host_t *host) {
    stage_flush(host->stage);
    if (host->moved && stage_stateful(host->stage)) {
        stage_note(host->stage);
        host->moved = false;
    }
}

static void count_pending(source_host_t *host) {
    uint64_t events = host->pending;
    host->pending = 0;
    count_events(host, host->stage->name, host->target.builder, events);
}

static bool is_full(const source_host_t *host, const frame_builder_t *builder) {
    const stage_settings_t *settings = &host->stage->settings;
    return builder->events >= settings->batch_size || builder->body.size >= settings->batch_bytes || host->wanted;
}

/* Takes the last event out of the builder. */
static void take_back(source_host_t *host, frame_builder_t *builder) {
    builder->body.size = builder->start;
    builder->lengths.size -= 4;
    builder->events--;
    builder->greatest = host->greatest;
    builder->data_time = host->data_time;
}

/* The last event's text named another stream: it goes there. A frame may be cut at any step, so it is in one builder at a time and
 * counts as dealt with only when it is in the right one. */
static void divert(source_host_t *host, frame_builder_t *builder) {
    char topic[FRAME_TOPIC_MAX + 1];
    bool data_time = builder->data_time;
    snprintf(topic, sizeof topic, "%s", host->target.topic);
    buf_clear(&host->other);
    buf_put(&host->other, builder->body.data + builder->start, builder->body.size - builder->start);
    take_back(host, builder);
    count_pending(host);
    const uint8_t *bytes = host->other.data;
    uint64_t seconds = 0, ns = 0;
    for (int i = 0; i < 4; i++) {
        seconds = seconds << 8 | bytes[EVENT_HEAD - 8 + i];
        ns = ns << 8 | bytes[EVENT_HEAD - 4 + i];
    }
    event_t event = {.time = (int64_t) (seconds * NS_PER_S + ns), .bytes = bytes, .size = (uint32_t) host->other.size};
    frame_builder_t *destination = stage_builder(host->stage, topic);
    builder_add(destination, &event, host->target.ingest_time);
    destination->data_time |= data_time;
    host->decoded++;
    count_events(host, topic, destination, 1);
    host->target.builder = stage_builder(host->stage, host->stage->name);
}

/* The message's time for the last event, which has that of its ingestion. */
static void give_time(const source_host_t *host, frame_builder_t *builder) {
    uint8_t *bytes = builder->body.data + builder->start + EVENT_HEAD - 8;
    uint32_t seconds = (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 | (uint32_t) bytes[2] << 8 | bytes[3];
    uint32_t ns = (uint32_t) bytes[4] << 24 | (uint32_t) bytes[5] << 16 | (uint32_t) bytes[6] << 8 | bytes[7];
    if (seconds * NS_PER_S + ns != host->target.ingest_time)
        return;
    seconds = (uint32_t) (host->time / NS_PER_S);
    ns = (uint32_t) (host->time % NS_PER_S);
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t) (seconds >> 8 * (3 - i));
        bytes[4 + i] = (uint8_t) (ns >> 8 * (3 - i));
    }
    builder->greatest = builder->events == 1 || host->time > host->greatest ? host->time : host->greatest;
    builder->data_time = true;
}

static bool on_committed(void *argument) {
    source_host_t *host = argument;
    frame_builder_t *builder = host->target.builder;
    if (__builtin_expect(host->skip > 0, 0)) {
        host->skip--;
        host->decoded++;
        take_back(host, builder);
        return host->paused;
    }
    if (host->enough) {
        take_back(host, builder);
        return true;
    }
    if (host->timed)
        give_time(host, builder);
    if (host->wanted_record && !host->wanted_record(host->wanted_argument, builder->body.data + builder->start + EVENT_HEAD,
                                                    builder->body.size - builder->start - EVENT_HEAD)) {
        take_back(host, builder);
        host->decoded++;
        host->stage->ledger.in++;
        host->stage->ledger.filtered++;
        return host->paused;
    }
    if (host->tag)
        tag_last(builder, host->tag, &host->other);
    if (__builtin_expect(host->target.topic != NULL, 0) && strcmp(host->target.topic, host->stage->name) != 0 &&
        frame_topic_valid(host->target.topic, strlen(host->target.topic)) && !host_devices_own(host, host->target.topic)) {
        divert(host, builder);
        builder = host->target.builder;
    } else {
        host->decoded++;
        host->pending++;
        if (is_full(host, builder))
            count_pending(host);
    }
    host->greatest = builder->greatest;
    host->data_time = builder->data_time;
    return host->paused;
}

static void on_bad(void *argument, text_t record, uint64_t number, const char *reason) {
    source_host_t *host = argument;
    if (host->skip) {
        host->skip--;
        host->decoded++;
        return;
    }
    char place[512];
    snprintf(place, sizeof place, "%s:%llu", host->place, (unsigned long long) number);
    source_bad(host, record, place, reason);
    host->decoded++;
    if (host->bad - host->bad_stored >= BAD_UNSTORED && stage_stateful(host->stage)) {
        count_pending(host);
        store_position(host);
    }
}

/* Once in a run: other files, or the next answer, are most likely no better. */
static void on_remark(void *argument, uint64_t number, const char *text) {
    source_host_t *host = argument;
    if (!host->remarked)
        log_warning("%s:%llu: %s", host->place, (unsigned long long) number, text);
    host->remarked = true;
}

size_t source_decode(source_host_t *host, decoder_t *decoder, const char *data, size_t size, bool at_end, const char *place) {
    host->place = place;
    host->decoded = 0;
    host->target.builder = stage_builder(host->stage, host->stage->name);
    host->target.topic = NULL;
    host->target.ingest_time = host_clock(host);
    host->target.committed = on_committed;
    host->target.bad = on_bad;
    host->target.remark = on_remark;
    host->target.argument = host;
    host->greatest = host->target.builder->greatest;
    host->data_time = host->target.builder->data_time;
    size_t used = decoder_feed(decoder, data, size, at_end, &host->target);
    count_pending(host);
    host->earlier += host->decoded;
    host->decoded = 0;
    return used;
}

static bool primed(void *argument) {
    source_host_t *host = argument;
    host->primed = true;
    return true;
}

static void bad_before(void *argument, text_t record, uint64_t number, const char *reason) {
}

bool source_prime(source_host_t *host, decoder_t *decoder, const char *data, size_t size) {
    frame_builder_t nowhere = {0};
    decode_target_t target = {.builder = &nowhere, .ingest_time = host_clock(host), .committed = primed, .bad = bad_before, .argument = host};
    host->primed = false;
    decoder_feed(decoder, data, size, false, &target);
    builder_fini(&nowhere);
    return host->primed;
}

void source_tag(source_host_t *host, const tag_t *tag) {
    host->tag = tag && tag->count ? tag : NULL;
}

void source_time(source_host_t *host, int64_t time) {
    host->timed = time != SOURCE_NO_TIME;
    host->time = time < 0 ? 0 : time > EVENT_TIME_MAX ? EVENT_TIME_MAX : time;
}

void source_filter(source_host_t *host, source_filter_fn *wanted, void *argument) {
    host->wanted_record = wanted;
    host->wanted_argument = argument;
}

uint64_t source_decoded(const source_host_t *host) {
    return host->decoded + host->skip;
}

void source_moved(source_host_t *host) {
    host->moved = true;
}

bool source_keeps_position(const source_host_t *host) {
    return stage_stateful(host->stage);
}

bool source_trial(const source_host_t *host) {
    return host->trial;
}

void host_stored(source_host_t *host) {
    host->moved = false;
    host->bad_stored = host->bad;
}

uint64_t source_records(const source_host_t *host) {
    return host->earlier + host->decoded + host->skip;
}

void source_skip(source_host_t *host, uint64_t records) {
    host->skip = records;
}

frame_builder_t *source_begin(source_host_t *host) {
    frame_builder_t *builder = stage_builder(host->stage, host->stage->name);
    builder_begin(builder);
    host->target.builder = builder;
    return builder;
}

void source_commit(source_host_t *host) {
    frame_builder_t *builder = host->target.builder;
    int64_t now = host_clock(host);
    builder_commit(builder, now, now);
    count_events(host, host->stage->name, builder, 1);
}

void source_commit_at(source_host_t *host, int64_t event_time) {
    frame_builder_t *builder = host->target.builder;
    builder->data_time = true;
    builder_commit(builder, event_time, host_clock(host));
    count_events(host, host->stage->name, builder, 1);
}

void source_abort(source_host_t *host) {
    builder_abort(host->target.builder);
}

void source_bad(source_host_t *host, text_t record, const char *place, const char *reason) {
    host->stage->ledger.in++;
    host->bad++;
    host->moved = true;
    stage_dead_text(host->stage, record, place, reason);
}

void source_dropped(source_host_t *host, uint64_t events) {
    host->stage->ledger.in += events;
    host->stage->ledger.dropped += events;
}

/* Health: what the source says, and with --expect whether anything has come lately. */

static void publish_health(source_host_t *host) {
    const char *reason = host->quiet ? "no event has arrived for the time that --expect allows" : "";
    if (!host->healthy)
        reason = host->reason;
    metrics_health(host->healthy && !host->quiet, reason);
    host_devices_listen(host);
}

void source_healthy(source_host_t *host) {
    if (host->healthy && host->told)
        return;
    if (host->told)
        log_info("data arrives again");
    host->healthy = host->told = true;
    host->reason[0] = 0;
    publish_health(host);
}

void source_unhealthy(source_host_t *host, const char *format, ...) {
    char reason[sizeof host->reason];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (host->told && !host->healthy && strcmp(reason, host->reason) == 0)
        return;
    host->healthy = false;
    host->told = true;
    memcpy(host->reason, reason, sizeof reason);
    log_warning("%s", reason);
    publish_health(host);
}

static void on_expect(void *argument) {
    source_host_t *host = argument;
    bool quiet = host->stage->ledger.in == host->counted;
    host->counted = host->stage->ledger.in;
    if (quiet == host->quiet)
        return;
    host->quiet = quiet;
    if (quiet)
        log_warning("no event has arrived for the time that --expect allows");
    publish_health(host);
}

void host_watch(source_host_t *host, int64_t expect) {
    if (expect)
        loop_timer(host->stage->loop, expect, expect, on_expect, host);
}

void source_ended(source_host_t *host) {
    if (host->ended)
        return;
    host->ended = true;
    if (host->stage->finishing)
        return;
    stage_flush(host->stage);
    stage_finished(host->stage);
}

void source_failed(source_host_t *host, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    stage_fail(host->stage, "%s", text);
}

void source_ended_badly(source_host_t *host, const char *reason) {
    if (stage_stateful(host->stage)) { /* what has come is in the log, and the next run is to try again */
        stage_fail(host->stage, "%s", reason);
        return;
    }
    stage_blame(host->stage, reason);
    source_ended(host);
}

/* About to sleep: no more input is at hand, so what has come leaves now. */
static void on_idle(void *argument) {
    store_position(argument);
}

void host_begin(source_host_t *host) {
    host->healthy = true;
    host->paused = !stage_room(host->stage);
    stage_batch(host->stage);
    stage_on_room(host->stage, resume_source);
    loop_idle(host->stage->loop, on_idle, host);
}

void host_finish(source_host_t *host) {
    pause_source(host);
    store_position(host);
}

void host_fini(source_host_t *host) {
    host_devices_free(host);
    buf_fini(&host->other);
}
