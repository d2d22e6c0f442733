/* What all sinks share: the bounded queue of frames that wait for an answer, giving them to the driver, trying again with
 * growing pauses, dead letters, metrics. */
#include "sink.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "progress.h"

#define RETRY_FIRST (100 * NS_PER_MS)
#define RETRY_LONGEST (30 * NS_PER_S)

typedef struct entry {
    delivery_t *delivery;
    uint32_t dead;             /* events that the driver has refused */
    bool answered;             /* out of turn */
} entry_t;

/* A ring, oldest first: the first `given` of its `count` entries are with the driver, or answered. */
struct sink_queue {
    deliveries_t *deliveries;
    void (*changed)(stage_t *stage);
    entry_t *ring;
    size_t room, first, count, given;
    uint64_t bytes;
    loop_watch_t *retry;       /* not NULL: pausing before the next try */
    int64_t pause;             /* ns; 0: all is well */
    char trouble[240];         /* why it fails at present; "": it does not */
    bool pumping, unflushed, over;
    uint64_t delivered, dropped, refused, retries;
    metric_t *m_delivered, *m_dropped, *m_refused, *m_retries, *m_bytes, *m_latency;
};

static void pump(sink_t *sink);

static size_t frame_cost(const frame_t *frame) {
    return frame->body_size + 4 * (size_t) frame->events + sizeof *frame;
}

static metric_t *metric(const sink_t *sink, metric_type_t type, const char *name, const char *help) {
    buf_t label = {0}, quoted = {0};
    text_put_json(&quoted, text_of(sink->name));
    buf_format(&label, "sink=%.*s", (int) quoted.size, buf_text(&quoted));
    metric_t *made = metrics_add(type, name, buf_text(&label), help);
    buf_fini(&quoted);
    buf_fini(&label);
    return made;
}

int sink_open(sink_t *sink, stage_t *stage, deliveries_t *deliveries, uint64_t share, void (*changed)(stage_t *stage), err_t *err) {
    sink->stage = stage;
    sink->queue_limit = sink->settings->queue ? sink->settings->queue : share;
    struct sink_queue *queue = sink->queue = mem_zero(sizeof *queue);
    queue->deliveries = deliveries;
    queue->changed = changed;
    queue->m_delivered = metric(sink, METRIC_COUNTER, "stream_sink_events_total", "Events that the sink has taken");
    queue->m_dropped = metric(sink, METRIC_COUNTER, "stream_sink_dropped_total", "Events dropped because the sink's queue was full");
    queue->m_refused = metric(sink, METRIC_COUNTER, "stream_sink_refused_total", "Events that the sink refused for good");
    queue->m_retries = metric(sink, METRIC_COUNTER, "stream_sink_retries_total", "Times that the sink could not take what it was given");
    queue->m_bytes = metric(sink, METRIC_GAUGE, "stream_sink_queue_bytes", "Bytes of frames that wait for the sink");
    queue->m_latency = metric(sink, METRIC_HISTOGRAM, "stream_sink_latency_seconds", "Time from an event's ingestion to the sink's answer");
    if (sink->class->open && sink->class->open(sink, err))
        return err_wrap(err, "sink %s", sink->name);
    return 0;
}

bool sink_wants(const sink_t *sink, const char *topic) {
    const option_list_t *from = &sink->settings->from;
    for (size_t i = 0; i < from->count; i++)
        if (fnmatch(from->items[i], topic, 0) == 0)
            return true;
    return from->count == 0;
}

const char *sink_tag(const sink_t *sink, const frame_t *frame) {
    const option_list_t *from = &sink->settings->from;
    switch ((sink_tag_t) sink->settings->tag) {
        case SINK_TAG_YES: return frame->topic;
        case SINK_TAG_NO: return NULL;
        case SINK_TAG_AUTO: break;
    }
    bool one_stream = from->count == 1 && !strpbrk(from->items[0], "*?[");
    return one_stream || sink->stage->settings.from.count <= 1 ? NULL : frame->topic;
}

int sink_format(sink_t *sink, const char *name, const char *path, const format_t **format, err_t *err) {
    encoder_t *encoder;
    const format_t *found = name ? format_find(name) : path ? format_for_path(path) : NULL;
    if (name && !found)
        return format_unknown(name, err);
    if (!found || (!name && !found->encoder_open))
        found = format_find("ndjson");
    if (!found->encoder_open)
        return err_set(err, "format %s can be read only, not written", name);
    if (found->encoder_open(&encoder, &sink->stage->settings.format, err)) /* so that what is wrong with its options is said before the start */
        return -1;
    encoder_free(encoder);
    *format = sink->format = found;
    return 0;
}

static entry_t *slot(struct sink_queue *queue, size_t index) {
    return &queue->ring[(queue->first + index) % queue->room];
}

static void push(struct sink_queue *queue, delivery_t *delivery) {
    if (queue->count == queue->room) {
        size_t room = queue->room ? 2 * queue->room : 64;
        entry_t *ring = mem_alloc(room * sizeof *ring);
        for (size_t i = 0; i < queue->count; i++)
            ring[i] = *slot(queue, i);
        mem_free(queue->ring);
        queue->ring = ring;
        queue->room = room;
        queue->first = 0;
    }
    *slot(queue, queue->count++) = (entry_t){.delivery = delivery};
    queue->bytes += frame_cost(delivery->frame);
}

/* Takes out those at the front that are answered. */
static void shift_answered(struct sink_queue *queue) {
    while (queue->count && slot(queue, 0)->answered) {
        queue->first = (queue->first + 1) % queue->room;
        queue->count--;
        queue->given -= queue->given > 0;
    }
}

static void count_dropped(sink_t *sink, uint32_t events) {
    static log_limit_t limit;
    sink->queue->dropped += events;
    if (log_limited(&limit))
        log_error("sink %s: dropped %u events: its queue is full (on_full, queue); the sink is too slow or away", sink->name, events);
}

static bool has_no_room(const sink_t *sink, uint64_t cost) {
    const struct sink_queue *queue = sink->queue;
    return queue->bytes + cost > sink->queue_limit && queue->count;
}

static const char *input_of(const sink_t *sink, const delivery_t *delivery) {
    return stage_input_key(sink->stage, delivery->origin->input);
}

static sink_begun_t begun(sink_t *sink, const delivery_t *delivery) {
    return sink->class->begun ? sink->class->begun(sink, delivery->frame, input_of(sink, delivery)) : SINK_NEW;
}

/* Returns whether more has to go with it. */
static bool drop(sink_t *sink, delivery_t *delivery) {
    bool more = sink->class->dropped && sink->class->dropped(sink, delivery->frame, input_of(sink, delivery));
    count_dropped(sink, delivery->frame->events);
    delivery_done(sink->queue->deliveries, delivery, OUTCOME_DROPPED);
    return more;
}

/* Makes room by dropping the oldest that the driver does not have. What it has begun goes whole. */
static void drop_oldest(sink_t *sink, uint64_t room) {
    struct sink_queue *queue = sink->queue;
    bool more = false;
    while ((more || has_no_room(sink, room)) && queue->count > queue->given) {
        entry_t entry = *slot(queue, queue->given);
        for (size_t i = queue->given; i > 0; i--)
            *slot(queue, i) = *slot(queue, i - 1);
        queue->first = (queue->first + 1) % queue->room;
        queue->count--;
        if (entry.answered)
            continue;
        queue->bytes -= frame_cost(entry.delivery->frame);
        more = drop(sink, entry.delivery);
    }
}

/* For a frame that has just come. */
static bool dropped_at_once(sink_t *sink, delivery_t *delivery) {
    uint64_t cost = frame_cost(delivery->frame);
    if (sink->settings->on_full == SINK_BLOCK)
        return false;
    sink_begun_t how = begun(sink, delivery);
    if (how == SINK_NEW && sink->settings->on_full == SINK_DROP_OLDEST) {
        drop_oldest(sink, cost);
        return false; /* also where the driver has so much that there is no room: it is the newest */
    }
    if (how == SINK_BEGUN || (how == SINK_NEW && !has_no_room(sink, cost)))
        return false;
    drop(sink, delivery);
    return true;
}

void sink_offer(sink_t *sink, delivery_t *delivery) {
    struct sink_queue *queue = sink->queue;
    delivery_hold(delivery);
    if (delivery_had(delivery, sink->index)) {
        delivery_done(queue->deliveries, delivery, OUTCOME_OUT);
        return;
    }
    if (dropped_at_once(sink, delivery))
        return;
    push(queue, delivery);
    pump(sink);
}

/* Gives the driver what it can take. It may answer at once, from within write. */
static void pump(sink_t *sink) {
    struct sink_queue *queue = sink->queue;
    if (queue->pumping)
        return;
    queue->pumping = true;
    while (!sink->full && !queue->retry && queue->given < queue->count) {
        const entry_t *next = slot(queue, queue->given++);
        if (next->answered)
            continue;
        queue->unflushed = true;
        sink->class->write(sink, next->delivery->frame);
    }
    queue->pumping = false;
}

void sink_more(sink_t *sink) {
    sink->full = false;
    pump(sink);
    sink->queue->changed(sink->stage);
}

void sink_flush(sink_t *sink) {
    struct sink_queue *queue = sink->queue;
    if ((!queue->unflushed && !sink->stage->finishing) || queue->retry)
        return;
    queue->unflushed = false;
    if (sink->class->flush)
        sink->class->flush(sink);
}

static void again(void *argument) {
    sink_t *sink = argument;
    sink->queue->retry = NULL;
    sink->full = false;
    pump(sink);
    sink_flush(sink);
}

void sink_retry(sink_t *sink, const char *reason, int64_t wait) {
    struct sink_queue *queue = sink->queue;
    queue->given = 0;
    for (size_t i = 0; i < queue->count; i++)
        slot(queue, i)->dead = 0;
    queue->retries++;
    sink->stage->errors++;
    if (queue->retry)
        return;
    if (!queue->pause)
        log_error("sink %s: %s; trying again until it works", sink->name, reason);
    queue->pause = queue->pause ? queue->pause * 2 : RETRY_FIRST;
    if (queue->pause > RETRY_LONGEST)
        queue->pause = RETRY_LONGEST;
    snprintf(queue->trouble, sizeof queue->trouble, "sink %s: %s", sink->name, reason);
    queue->retry = loop_timer(sink->stage->loop, wait > queue->pause ? wait : queue->pause, 0, again, sink);
    queue->changed(sink->stage);
}

const char *sink_trouble(const sink_t *sink) {
    return sink->queue->trouble[0] ? sink->queue->trouble : NULL;
}

/* The ledger takes what is dead in when the frame is done, each event once whatever several sinks say. */
static void bury_event(sink_t *sink, const event_t *event, const char *reason) {
    stage_dead_event(sink->stage, event, sink->name, reason);
    sink->stage->ledger.dead--;
    sink->queue->refused++;
}

static void bury(sink_t *sink, entry_t *entry, const char *reason) {
    const frame_t *frame = entry->delivery->frame;
    frame_walk_t walk = {0};
    event_t event;
    uint32_t events = 0;
    while (events < frame->events && frame_next(frame, &walk, &event) == 1) {
        bury_event(sink, &event, reason);
        events++;
    }
    sink->queue->refused += frame->events - events;
    entry->dead = frame->events;
}

static void recovered(sink_t *sink) {
    log_info("sink %s: works again", sink->name);
    sink->queue->pause = 0;
    sink->queue->trouble[0] = 0;
}

void sink_works(sink_t *sink) {
    if (sink->queue->pause)
        recovered(sink);
}

static void answer(sink_t *sink, entry_t *entry, sink_result_t result, const char *reason, int64_t now) {
    struct sink_queue *queue = sink->queue;
    delivery_t *delivery = entry->delivery;
    const frame_t *frame = delivery->frame;
    if (result == SINK_ERROR)
        bury(sink, entry, reason);
    queue->delivered += frame->events - entry->dead;
    queue->bytes -= frame_cost(frame);
    if (frame->ingest_time > 0)
        metric_observe(queue->m_latency, now - frame->ingest_time, frame->events);
    entry->answered = true;
    delivery_answered(queue->deliveries, delivery, sink->index, entry->dead);
    delivery_done(queue->deliveries, delivery, OUTCOME_OUT);
}

void sink_answer(sink_t *sink, sink_result_t result, uint32_t count, const char *reason) {
    struct sink_queue *queue = sink->queue;
    if (result == SINK_RETRY) {
        sink_retry(sink, reason, 0);
        return;
    }
    ASSERT(count <= queue->given);
    if (queue->pause && count)
        recovered(sink);
    int64_t now = clock_now();
    while (count--) {
        answer(sink, slot(queue, 0), result, reason, now);
        shift_answered(queue);
    }
    queue->changed(sink->stage);
}

static entry_t *entry_of(struct sink_queue *queue, const frame_t *frame) {
    for (size_t i = 0; i < queue->given; i++) {
        entry_t *entry = slot(queue, i);
        if (!entry->answered && entry->delivery->frame == frame)
            return entry;
    }
    ASSERT(!"a frame that the sink does not have");
    return NULL;
}

void sink_answer_one(sink_t *sink, const frame_t *frame, sink_result_t result, const char *reason) {
    struct sink_queue *queue = sink->queue;
    if (queue->pause)
        recovered(sink);
    answer(sink, entry_of(queue, frame), result, reason, clock_now());
    shift_answered(queue);
    queue->changed(sink->stage);
}

void sink_refuse(sink_t *sink, const frame_t *frame, const event_t *event, const char *reason) {
    bury_event(sink, event, reason);
    entry_of(sink->queue, frame)->dead++;
}

int sink_commit(sink_t *sink, bool durable, err_t *err) {
    return sink->progress ? progress_commit(sink->progress, durable, err) : 0;
}

void sink_hurry(sink_t *sink) {
    if (sink->progress)
        progress_hurry(sink->progress);
}

/* What a sink has kept may have been changed by others: a name that no sender can have is nobody's. */
static origin_t *origin_by_key(sink_t *sink, const char *key, const char *name) {
    const stage_settings_t *settings = &sink->stage->settings;
    if (strlen(name) > FRAME_ORIGIN_MAX)
        return NULL;
    size_t inputs = (settings->from.count ? settings->from.count : 1) + settings->side.count;
    for (unsigned i = 0; i < inputs; i++)
        if (strcmp(stage_input_key(sink->stage, i), key) == 0)
            return deliveries_origin(sink->queue->deliveries, i, key, name);
    return NULL;
}

void sink_reached(sink_t *sink, const char *key, const char *origin, uint64_t epoch, uint64_t number) {
    origin_t *found = origin_by_key(sink, key, origin);
    if (found)
        found->sinks[sink->index] = (reached_t){epoch, number};
}

void sink_recall_refused(sink_t *sink, const char *key, const char *origin, uint64_t epoch, uint64_t number, const event_t *event, const char *reason) {
    origin_t *found = origin_by_key(sink, key, origin);
    if (!found || (found->sinks[sink->index].epoch == epoch && number <= found->sinks[sink->index].number))
        return;
    bury_event(sink, event, reason);
    origin_recall_dead(found, number);
}

const char *sink_frame_key(sink_t *sink, const frame_t *frame) {
    struct sink_queue *queue = sink->queue;
    size_t at = queue->given; /* it is asked for when a frame is given, so that it is the last one */
    while (at && slot(queue, at - 1)->delivery->frame != frame)
        at--;
    ASSERT(at);
    return stage_input_key(sink->stage, slot(queue, at - 1)->delivery->origin->input);
}

void sink_malformed(sink_t *sink, uint32_t events) {
    static log_limit_t limit;
    if (!events)
        return;
    sink->stage->errors += events;
    if (log_limited(&limit))
        log_warning("sink %s: %u malformed events left out", sink->name, events);
}

void sink_reopen(sink_t *sink) {
    if (sink->class->reopen)
        sink->class->reopen(sink);
}

bool sink_idle(const sink_t *sink) {
    return sink->queue->count == 0;
}

bool sink_over(sink_t *sink) {
    struct sink_queue *queue = sink->queue;
    uint64_t limit = queue->over ? sink->queue_limit / 2 : sink->queue_limit;
    queue->over = sink->settings->on_full == SINK_BLOCK && queue->bytes >= limit && !sink->hungry;
    return queue->over;
}

void sink_publish(sink_t *sink) {
    const struct sink_queue *queue = sink->queue;
    metric_set_counter(queue->m_delivered, queue->delivered);
    metric_set_counter(queue->m_dropped, queue->dropped);
    metric_set_counter(queue->m_refused, queue->refused);
    metric_set_counter(queue->m_retries, queue->retries);
    metric_set(queue->m_bytes, (double) queue->bytes);
}

void sink_close(sink_t *sink) {
    if (!sink->queue)
        return;
    if (sink->class->close)
        sink->class->close(sink);
    loop_remove(sink->queue->retry);
    mem_free(sink->queue->ring);
    mem_free(sink->queue);
    sink->queue = NULL;
}
