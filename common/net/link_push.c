/* The sender behind ipc:// and tcp://: one lane, or several that share the events by key or by load. */
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"
#include "net/link_lane.h"

typedef struct push_link {
    link_sender_t base;
    link_lane_t *lanes;
    size_t count, next;                   /* next: where the search for the least loaded begins */
    char *key;
    frame_builder_t *builders;            /* one per lane when there is a key */
    bool full, finishing;
    loop_watch_t *greet_timer;            /* see greeted() */
    unsigned greet_tries;
    loop_watch_t *news_timer;             /* with a spool: what is stable is told when no frame has carried it until then */
    uint64_t durable;
} push_link_t;

/* ---- window ---- */

#define NEWS_NS (2 * NS_PER_MS)

static spool_t *spool_of(const push_link_t *push) {
    return push->base.setup.spool;
}

static uint64_t outstanding(const push_link_t *push) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < push->count; i++)
        bytes += push->lanes[i].queue.bytes;
    return bytes;
}

/* All tickets before the oldest one that still waits somewhere. */
static uint64_t durable_ticket(const push_link_t *push) {
    uint64_t ticket = push->base.ticket;
    for (size_t i = 0; spool_of(push) && i < push->count; i++) {
        uint64_t gone = spool_lowest(spool_of(push)) - 1, durable = push->lanes[i].durable;
        if (durable < gone)
            durable = gone;               /* given up, or durable in an earlier life of ours */
        if (durable < ticket)
            ticket = durable;
    }
    if (spool_of(push))
        return ticket;
    for (size_t i = 0; i < push->count; i++) {
        const link_queue_t *queue = &push->lanes[i].queue;
        if (queue->count && link_queue_at(queue, 0)->ticket <= ticket)
            ticket = link_queue_at(queue, 0)->ticket - 1;
    }
    return ticket;
}

/* With a spool: a receiver takes less than is written. */
static bool behind(const push_link_t *push) {
    for (size_t i = 0; i < push->count; i++)
        if (link_lane_behind(&push->lanes[i], push->full))
            return true;
    return false;
}

static void update(push_link_t *push) {
    link_stats_t *stats = &push->base.stats;
    stats->outstanding_bytes = outstanding(push);
    stats->outstanding_frames = 0;
    stats->peers = 0;
    uint64_t durable = spool_of(push) ? durable_ticket(push) : 0;
    for (size_t i = 0; i < push->count; i++) {
        stats->outstanding_frames += push->lanes[i].queue.count;
        stats->peers += push->lanes[i].monitor.connections;
    }
    if (spool_of(push))
        stats->outstanding_frames = push->base.ticket - durable;
}

/* All was durable before this run began: the receivers have not heard of it in theirs, and may wait for just that. A receiver that is there answers
 * at once; none is waited for. */
#define GREET_NS (20 * NS_PER_MS)
#define GREET_TRIES 50

static bool greeted(push_link_t *push) {
    bool all = true;
    for (size_t i = 0; spool_of(push) && i < push->count; i++)
        all = all && (push->lanes[i].plain || push->lanes[i].receiver);
    return all || push->greet_tries >= GREET_TRIES;
}

static void push_part(link_sender_t *sender) {
    push_link_t *push = (push_link_t *) sender;
    for (size_t i = 0; i < push->count; i++)
        link_lane_part(&push->lanes[i]);
}

static void announce(void *argument);

static void greet_again(void *argument) {
    push_link_t *push = argument;
    push->greet_timer = NULL;
    push->greet_tries++;
    announce(push);
}

/* Tells the sender's owner what has changed; from the loop, never from within a call of his. */
static void announce(void *argument) {
    push_link_t *push = argument;
    const link_sender_setup_t *setup = &push->base.setup;
    update(push);
    uint64_t durable = durable_ticket(push);
    if (durable != push->durable) {
        push->durable = durable;
        if (setup->durable)
            setup->durable(setup->argument);
    }
    if (push->full && (spool_of(push) ? !behind(push) : outstanding(push) <= setup->window / 4 * 3)) {
        push->full = false;
        if (setup->room)
            setup->room(setup->argument);
    }
    bool all = spool_of(push) ? durable >= spool_number(spool_of(push)) : outstanding(push) == 0;
    if (push->finishing && all && !greeted(push)) {
        if (!push->greet_timer)
            push->greet_timer = loop_timer(push->base.loop, GREET_NS, 0, greet_again, push);
    } else if (push->finishing && all) {
        if (!spool_of(push))
            push_part(&push->base);
        link_sender_finished(&push->base);
    }
}

static void progress(void *argument) {
    push_link_t *push = argument;
    loop_defer(push->base.loop, announce, push);
}

/* ---- choosing a lane ---- */

static link_lane_t *least_loaded(push_link_t *push) {
    link_lane_t *best = NULL;
    for (size_t i = 0; i < push->count; i++) {
        link_lane_t *lane = &push->lanes[(push->next + i) % push->count];
        if (!best || lane->queue.bytes < best->queue.bytes)
            best = lane;
    }
    push->next = (size_t) (best - push->lanes) + 1;
    return best;
}

/* Equal values give equal hashes wherever they are computed: XXH3-64 of a string's bytes, or of a number's eight bytes. */
static uint64_t key_hash(const push_link_t *push, const event_t *event) {
    value_t value;
    if (!pack_map_get(event->record, event->record_size, text_of(push->key), &value))
        return 0;
    switch (value.type) {
    case VALUE_NULL: return 0;
    case VALUE_BOOL: return XXH3_64bits(&value.boolean, 1);
    case VALUE_INT:
    case VALUE_UINT:
    case VALUE_DOUBLE:
    case VALUE_TIME: return XXH3_64bits(&value.integer, 8);
    default: return XXH3_64bits(value.text, value.size);
    }
}

/* ---- sending ---- */

static void dropped(push_link_t *push, int64_t events) {
    link_sender_t *sender = &push->base;
    sender->stats.dropped_frames++;
    sender->stats.dropped_events += (uint64_t) events;
    if (sender->setup.dropped)
        sender->setup.dropped(sender->setup.argument, (uint64_t) events, "the link is full");
}

/* With drop_oldest what has been sent cannot be taken back: when all has been, the new frame is the oldest. */
static void send_to(push_link_t *push, link_lane_t *lane, frame_t *frame, uint64_t ticket) {
    const link_sender_setup_t *setup = &push->base.setup;
    if (setup->full != LINK_BLOCK)
        while (outstanding(push) >= setup->window) {
            int64_t events = setup->full == LINK_DROP_OLDEST ? link_lane_drop_oldest(lane) : -1;
            dropped(push, events >= 0 ? events : frame->events);
            progress(push);
            if (events < 0)
                return;
        }
    link_lane_send(lane, frame, ticket);
}

static void split(push_link_t *push, const frame_t *frame) {
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1)
        builder_add(&push->builders[key_hash(push, &event) % push->count], &event, frame->ingest_time);
}

/* Takes a lane's share of the frame, which may be nothing. */
static frame_t *builder_part(frame_builder_t *builder, const frame_t *frame) {
    frame_t *part = builder_take(builder, frame->topic);
    part->watermark = frame->watermark;   /* of the whole stream, so that all partitions' windows advance alike */
    part->data_time = frame->data_time;
    part->ingest_time = frame->ingest_time;
    part->end = frame->end;
    return part;
}

static void send_by_key(push_link_t *push, frame_t *frame, uint64_t ticket) {
    split(push, frame);
    for (size_t i = 0; i < push->count; i++) {
        if (!push->builders[i].events)
            continue;
        frame_t *part = builder_part(&push->builders[i], frame);
        send_to(push, &push->lanes[i], part, ticket);
        frame_unref(part);
    }
}

static void push_send(link_sender_t *sender, frame_t *frame, uint64_t ticket) {
    push_link_t *push = (push_link_t *) sender;
    if (push->count == 1)
        send_to(push, push->lanes, frame, ticket);
    else if (frame->events == 0 || frame->end)   /* a watermark concerns every partition */
        for (size_t i = 0; i < push->count; i++)
            send_to(push, &push->lanes[i], frame, ticket);
    else if (push->key)
        send_by_key(push, frame, ticket);
    else
        send_to(push, least_loaded(push), frame, ticket);
    update(push);
    push->full = push->full || sender->stats.outstanding_bytes >= sender->setup.window;
}

/* ---- with a spool ---- */

/* Every lane has a frame for every number, so that numbers mean the same everywhere: what belongs to others is left out of it, watermark and
 * end stay. By key, or else by turns. */
static frame_t *part_of(void *argument, size_t index, frame_t *frame, uint64_t number) {
    push_link_t *push = argument;
    if (!frame->events || (!push->key && (number - 1) % push->count == index))
        return frame_ref(frame);
    frame_builder_t *builder = &push->builders[index];
    frame_walk_t walk = {0};
    event_t event;
    while (push->key && frame_next(frame, &walk, &event) == 1)
        if (key_hash(push, &event) % push->count == index)
            builder_add(builder, &event, frame->ingest_time);
    return builder_part(builder, frame);
}

static void push_written(link_sender_t *sender, frame_t *frame, uint64_t number) {
    push_link_t *push = (push_link_t *) sender;
    if (push->count > 1 && push->key && frame && frame->events) {
        split(push, frame);
        for (size_t i = 0; i < push->count; i++) {
            frame_t *part = builder_part(&push->builders[i], frame);
            link_lane_written(&push->lanes[i], part, number);
            frame_unref(part);
        }
    } else
        for (size_t i = 0; i < push->count; i++) {
            frame_t *part = push->count > 1 && frame ? part_of(push, i, frame, number) : frame ? frame_ref(frame) : NULL;
            link_lane_written(&push->lanes[i], part, number);
            frame_unref(part);
        }
    push->full = behind(push);
    update(push);
}

static void tell_news(void *argument) {
    push_link_t *push = argument;
    push->news_timer = NULL;
    for (size_t i = 0; i < push->count; i++)
        link_lane_news(&push->lanes[i]);
}

static void push_news(link_sender_t *sender) {
    push_link_t *push = (push_link_t *) sender;
    if (!push->news_timer)
        push->news_timer = loop_timer(sender->loop, NEWS_NS, 0, tell_news, push);
}

static bool push_quiet(const link_sender_t *sender) {
    const push_link_t *push = (const push_link_t *) sender;
    for (size_t i = 0; i < push->count; i++)
        if (!link_lane_quiet(&push->lanes[i]))
            return false;
    return true;
}

/* ---- the sender ---- */

static bool push_room(const link_sender_t *sender) {
    return !((const push_link_t *) sender)->full;
}

static uint64_t push_durable(const link_sender_t *sender) {
    return durable_ticket((const push_link_t *) sender);
}

static void push_taken(link_sender_t *sender) {
    push_link_t *push = (push_link_t *) sender;
    for (size_t i = 0; i < push->count; i++)
        link_lane_taken(&push->lanes[i]);
}

/* The end goes to every partition, whatever the policy. */
static void push_finish(link_sender_t *sender, frame_t *end, uint64_t ticket) {
    push_link_t *push = (push_link_t *) sender;
    push->finishing = true;
    for (size_t i = 0; end && i < push->count; i++)
        link_lane_send(&push->lanes[i], end, ticket);
    progress(push);
}

/* ---- opening and closing ---- */

static void push_free(link_sender_t *sender) {
    push_link_t *push = (push_link_t *) sender;
    loop_undefer(sender->loop, announce, push);
    loop_remove(push->news_timer);
    loop_remove(push->greet_timer);
    for (size_t i = 0; i < push->count; i++) {
        link_lane_close(&push->lanes[i]);
        if (push->builders)
            builder_fini(&push->builders[i]);
    }
    loop_undefer(sender->loop, announce, push);
    mem_free(push->lanes);
    mem_free(push->builders);
    mem_free(push->key);
    link_sender_fini(sender);
    mem_free(push);
}

static const link_sender_class_t push_class = {
    .room = push_room, .send = push_send, .durable = push_durable, .finish = push_finish, .free = push_free,
    .written = push_written, .news = push_news, .quiet = push_quiet, .part = push_part, .taken = push_taken,
};

int link_push_open(link_sender_t **sender, loop_t *loop, const link_endpoint_t *endpoint, const link_sender_setup_t *setup, err_t *err) {
    size_t count = (size_t) endpoint->partitions;
    push_link_t *push = mem_zero(sizeof *push);
    link_sender_init(&push->base, &push_class, loop, endpoint, setup);
    push->lanes = mem_zero(count * sizeof *push->lanes);
    push->key = mem_text(endpoint->key);
    if (push->key || (setup->spool && count > 1))
        push->builders = mem_zero(count * sizeof *push->builders);
    for (; push->count < count; push->count++) {
        if (link_lane_open(&push->lanes[push->count], &push->base, endpoint, push->count, setup->spool && count > 1 ? part_of : NULL, progress,
                           push, err) != 0) {
            push_free(&push->base);
            return -1;
        }
    }
    *sender = &push->base;
    return 0;
}

static const option_t push_options[] = {
    {.name = "partitions", .type = OPTION_INT, .offset = offsetof(link_endpoint_t, partitions), .fallback = "1", .value = "N",
     .help = "splits the link: N receivers, each with partition=K", .minimum = 1, .maximum = 64},
    {.name = "key", .type = OPTION_TEXT, .offset = offsetof(link_endpoint_t, key), .value = "FIELD",
     .help = "events with the same value go to the same partition; without: to the one with the least outstanding"},
    {.name = "ack", .type = OPTION_CHOICE, .offset = offsetof(link_endpoint_t, ack), .fallback = "durable", .value = "durable|none",
     .help = "none: plain PUSH for foreign programs, nothing is repeated"},
    {NULL},
};

static const option_t pull_options[] = {
    {.name = "partition", .type = OPTION_INT, .offset = offsetof(link_endpoint_t, partition), .fallback = "-1", .value = "K",
     .help = "receives partition K, from 0, of a link that was split", .minimum = -1, .maximum = 63},
    {.name = "ack", .type = OPTION_CHOICE, .offset = offsetof(link_endpoint_t, ack), .fallback = "durable", .value = "durable|none",
     .help = "none: plain PULL from foreign programs"},
    {NULL},
};

const link_engine_t link_ipc_engine = {.prefix = "ipc://", .sender_options = push_options, .receiver_options = pull_options,
                                       .check = zlink_check, .sender_open = link_push_open, .receiver_open = link_pull_open};
const link_engine_t link_tcp_engine = {.prefix = "tcp://", .sender_options = push_options, .receiver_options = pull_options,
                                       .check = zlink_check, .sender_open = link_push_open, .receiver_open = link_pull_open};
