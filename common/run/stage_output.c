/* Output: events are collected by topic into frames, and frames go to every --to link. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "run/stage_state.h"

#define TOPICS_MAX 1024

/* A frame that only moves the watermark goes out when it has moved by this much. */
#define WATERMARK_STEP (100 * NS_PER_MS)

static stage_topic_t *topic_find(stage_t *stage, const char *name) {
    stage_private_t *private = stage->private;
    for (unsigned i = 0; i < private->topic_count; i++) {
        if (strcmp(private->topics[i]->name, name) != 0)
            continue;
        stage_topic_t *found = private->topics[i];
        if (i) { /* the busy ones come to the front */
            private->topics[i] = private->topics[i - 1];
            private->topics[i - 1] = found;
        }
        return found;
    }
    return NULL;
}

static stage_topic_t *topic_get(stage_t *stage, const char *name) {
    stage_private_t *private = stage->private;
    stage_topic_t *topic = topic_find(stage, name);
    if (topic)
        return topic;
    if (private->topic_count == TOPICS_MAX) { /* names that come with the data are bounded: the least busy one makes room */
        stage_topic_t *last = private->topics[private->topic_count - 1];
        if (last->builder.events)
            stage_flush(stage);
        builder_fini(&last->builder);
        mem_free(last);
        private->topic_count--;
    }
    topic = mem_zero(sizeof *topic);
    snprintf(topic->name, sizeof topic->name, "%s", name);
    topic->watermark = FRAME_NO_WATERMARK;
    private->topics = mem_resize(private->topics, (private->topic_count + 1) * sizeof *private->topics);
    private->topics[private->topic_count++] = topic;
    return topic;
}

static void send_frame(stage_t *stage, frame_t *frame) {
    stage_private_t *private = stage->private;
    if (private->state && private->state->spool) {
        state_add(stage, frame);
        return;
    }
    for (unsigned i = 0; i < private->output_count; i++)
        link_sender_send(private->outputs[i].link, frame);
}

/* With a spool all that is open leaves together, so that a source's position covers just what was written. */
static bool leaves_together(const stage_t *stage) {
    return stage->private->state && stage->private->state->spool && !stage->tool->save;
}

/* Events of other topics that are still open may be older than the watermark to come: it goes out with the last of them. */
static void cut(stage_t *stage, stage_topic_t *topic, bool others_open) {
    stage_private_t *private = stage->private;
    private->data_time |= topic->builder.data_time;
    bool clock = stage->follows && !topic->builder.data_time && private->data_time; /* another clock than the data's */
    if (!private->watermark_given && !clock && topic->builder.events && topic->builder.greatest > private->greatest)
        private->greatest = topic->builder.greatest;
    if (!others_open)
        private->watermark = private->greatest;
    frame_t *frame = builder_take(&topic->builder, topic->name);
    frame->watermark = private->watermark;
    topic->watermark = private->watermark;
    if (stage->follows)
        stage->tool->emitted(stage, frame, false);
    send_frame(stage, frame);
    frame_unref(frame);
    stage_publish_sometimes(stage); /* a source at full speed is never idle */
}

static bool others_open(const stage_private_t *private, const stage_topic_t *topic) {
    for (unsigned i = 0; i < private->topic_count; i++)
        if (private->topics[i] != topic && private->topics[i]->builder.events)
            return true;
    return false;
}

frame_builder_t *stage_builder(stage_t *stage, const char *topic) {
    return &topic_get(stage, topic)->builder;
}

static void flush_due(void *argument) {
    stage_t *stage = argument;
    stage->private->flush_timer = NULL;
    stage_flush(stage);
}

/* What the tool makes of the frames that were cut leaves right behind them. */
static bool follow(stage_t *stage) {
    const char *name = NULL, *next;
    while (stage->follows && (next = stage->tool->follow(stage))) {
        stage_topic_t *topic = topic_get(stage, name = next);
        if (topic->builder.events >= stage->settings.batch_size || topic->builder.body.size >= stage->settings.batch_bytes)
            cut(stage, topic, others_open(stage->private, topic));
    }
    stage_topic_t *topic = name ? topic_get(stage, name) : NULL;
    if (topic && topic->builder.events)
        cut(stage, topic, others_open(stage->private, topic));
    return name != NULL;
}

void stage_emitted(stage_t *stage, const char *name) {
    stage_private_t *private = stage->private;
    stage_topic_t *topic = topic_get(stage, name);
    stage->ledger.out++;
    if (topic->builder.events >= stage->settings.batch_size || topic->builder.body.size >= stage->settings.batch_bytes) {
        if (leaves_together(stage)) {
            stage_flush(stage);
        } else {
            cut(stage, topic, others_open(private, topic));
            follow(stage);
        }
    }
    else if (private->batching && !private->flush_timer)
        private->flush_timer = loop_timer(stage->loop, stage->settings.flush, 0, flush_due, stage);
}

void stage_flush(stage_t *stage) {
    stage_private_t *private = stage->private;
    if (private->flush_timer) {
        loop_remove(private->flush_timer);
        private->flush_timer = NULL;
    }
    stage_topic_t *open = NULL;
    for (unsigned i = 0; i < private->topic_count; i++) {
        if (!private->topics[i]->builder.events)
            continue;
        if (open)
            cut(stage, open, true);
        open = private->topics[i];
    }
    if (open)
        cut(stage, open, false);
    bool more = follow(stage);
    if ((open || more) && leaves_together(stage))
        state_commit(stage);
}

void stage_flush_watermark(stage_t *stage, const char *name, int64_t watermark) {
    stage_private_t *private = stage->private;
    private->watermark_given = true;
    if (watermark > private->greatest)
        private->greatest = watermark;
    stage_flush(stage);
    if (private->greatest == FRAME_NO_WATERMARK)
        return;
    stage_topic_t *topic = topic_get(stage, name);
    bool moved = (uint64_t) private->greatest - (uint64_t) topic->watermark >= WATERMARK_STEP; /* a peer's may be any */
    if (topic->watermark == FRAME_NO_WATERMARK || moved)
        cut(stage, topic, false);
}

void stage_send(stage_t *stage, frame_t *frame) {
    stage_flush(stage);
    stage->ledger.out += frame->events;
    send_frame(stage, frame);
}

void stage_batch(stage_t *stage) {
    stage->private->batching = true;
}

bool stage_room(const stage_t *stage) {
    const stage_private_t *private = stage->private;
    bool spool = private->state && private->state->spool;
    if (spool && (!private->patient || !spool_room(private->state->spool)))
        return spool_room(private->state->spool);
    if (stage->settings.on_full != LINK_BLOCK)
        return true;
    for (unsigned i = 0; i < private->output_count; i++)
        if (!link_sender_room(private->outputs[i].link))
            return false;
    return true;
}

void stage_patient(stage_t *stage) {
    stage->private->patient = true;
}

void stage_on_room(stage_t *stage, void (*resume)(stage_t *stage)) {
    stage->private->resume = resume;
}

static void on_output(void *argument) {
    if (((stage_t *) argument)->private->state)
        state_settle(argument);
    stage_output_changed(argument);
}

void stage_dropped(void *argument, uint64_t events, const char *reason) {
    stage_t *stage = argument;
    static log_limit_t limit;
    stage->ledger.dropped += events;
    stage->ledger.out -= events < stage->ledger.out ? events : stage->ledger.out;
    if (log_limited(&limit))
        log_error("dropped %llu events: %s (--on-full); what takes them is too slow or away", (unsigned long long) events, reason);
}

static void on_failed(void *argument, const char *reason) {
    stage_fail(argument, "%s", reason);
}

static void on_left(void *argument, const char *reason) {
    stage_leave_off(argument, reason);
}

/* The links' windows together take a quarter of the stage's memory at most. */
static uint64_t window_of(const stage_t *stage, size_t links) {
    uint64_t most = stage->settings.memory / 4 / (links ? links : 1);
    return stage->settings.window < most ? stage->settings.window : most;
}

int stage_outputs_open(stage_t *stage, err_t *err) {
    stage_private_t *private = stage->private;
    private->watermark = private->greatest = FRAME_NO_WATERMARK;
    if (!stage->tool->has_outputs)
        return 0;
    option_list_t *to = &stage->settings.to;
    char *fallback = (char *) stage->tool->default_output;
    option_list_t one = {&fallback, fallback ? 1 : 0};
    if (!to->count)
        to = &one;
    link_sender_setup_t setup = {
        .name = stage->name,
        .origin = stage->origin,
        .epoch = stage->epoch,
        .window = window_of(stage, to->count),
        .spool = private->state ? private->state->spool : NULL,
        .replaces = private->state ? text_make((const char *) private->state->replaces.data, private->state->replaces.size) : (text_t){0},
        .full = (link_full_t) stage->settings.on_full,
        .format = &stage->settings.format,
        .room = on_output,
        .durable = on_output,
        .dropped = stage_dropped,
        .failed = on_failed,
        .left = on_left,
        .argument = stage,
    };
    private->outputs = mem_zero(to->count * sizeof *private->outputs);
    for (size_t i = 0; i < to->count; i++) {
        if (link_sender_open(&private->outputs[i].link, stage->loop, to->items[i], &setup, err))
            return err_wrap(err, "--to %s", to->items[i]);
        private->outputs[private->output_count++].stage = stage;
        if (setup.spool)
            link_sender_stable(private->outputs[i].link, private->state->stable);
    }
    taken_read(stage);
    return 0;
}

/* The receiver may go when we know for good that it can. */
static void on_end(void *argument) {
    static log_limit_t limit;
    stage_output_t *output = argument;
    stage_t *stage = output->stage;
    err_t err;
    output->ended = true;
    if (taken_write(stage, &err)) {
        if (log_limited(&limit))
            log_error("%s; it is tried again until it works", err.text);
        loop_timer(stage->loop, NS_PER_S, 0, on_end, output);
        return;
    }
    link_sender_part(output->link);
    if (++stage->private->outputs_ended == stage->private->output_count)
        stage_all_ended(stage);
}

void stage_outputs_end(stage_t *stage) {
    stage_private_t *private = stage->private;
    stage_flush(stage);
    if (private->state && private->state->spool)
        state_end(stage);
    if (!private->output_count) {
        stage_all_ended(stage);
        return;
    }
    for (unsigned i = 0; i < private->output_count; i++)
        link_sender_finish(private->outputs[i].link, stage->name, on_end, &private->outputs[i]);
    taken_watch(stage);
}

void stage_outputs_free(stage_t *stage) {
    stage_private_t *private = stage->private;
    for (unsigned i = 0; i < private->output_count; i++)
        link_sender_free(private->outputs[i].link);
    mem_free(private->outputs);
    for (unsigned i = 0; i < private->topic_count; i++) {
        builder_fini(&private->topics[i]->builder);
        mem_free(private->topics[i]);
    }
    mem_free(private->topics);
}
