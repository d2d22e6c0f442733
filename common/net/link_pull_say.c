/* What a receiver says to its senders: what it has, what is missing, that it is idle; and how it leaves. */
#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "net/link_pull.h"

/* Acknowledgements are so far apart, unless so much has come: the window depends on them. A stage in the middle acknowledges what its
 * output is durable for, so the pauses of all links behind add up: at 5 ms a window of 2 MiB held three stages to 300 MB/s. */
#define ACK_NS (1 * NS_PER_MS)
#define ACK_BYTES (256 * 1024)
#define TICK_MIN (100 * NS_PER_MS)        /* between two reports while nothing arrives: doubled up to the greatest */
#define TICK_MAX (2 * NS_PER_S)
#define TICK_HELLO (500 * NS_PER_MS)      /* while no sender has taken us */
#define AGAIN_NS (250 * NS_PER_MS)        /* the same complaint is not made more often, unless about another attempt */
#define TICK_PARTING (250 * NS_PER_MS)    /* the greatest while senders are waited for that are leaving */
/* Without any connection for so long nobody is left to tell. Over tcp it may take a handshake's limit and several attempts to come back; a sender
 * with a durable log that was killed will be started again, and asks for an end of which it does not know that it was taken. */
#define ALONE_IPC_NS (2 * NS_PER_S)
#define ALONE_TCP_NS (10 * NS_PER_S)
#define ALONE_LOG_NS (30 * NS_PER_S)
#define ENDED_REPORTS 5                   /* for a stream that has ended and is durable */

/* ---- acknowledgements ---- */

static void say(pull_link_t *pull, const link_ack_t *ack) {
    static buf_t topic, payload;          /* the loop is single-threaded */
    buf_clear(&topic);
    buf_clear(&payload);
    buf_put(&topic, ack->origin.data, ack->origin.size);
    buf_put_byte(&topic, '\n');
    link_ack_put(&payload, ack);
    if (zmq_send(pull->acks, topic.data, topic.size, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        zmq_send(pull->acks, payload.data, payload.size, ZMQ_DONTWAIT);
    loop_socket_touch(pull->ack_watch);
}

static void say_hello(pull_link_t *pull, bool idle) {
    say(pull, &(link_ack_t){.receiver = pull->id, .paused = pull->base.paused, .idle = idle});
}

static void say_stream(pull_link_t *pull, pull_stream_t *stream, bool idle) {
    say(pull, &(link_ack_t){.receiver = pull->id, .origin = text_of(stream->origin), .epoch = stream->epoch, .received = stream->received,
                            .durable = stream->durable, .attempt = stream->attempt, .again = stream->again,
                            .paused = pull->base.paused || stream->refused, .idle = idle});
    stream->due = stream->again = false;
}

/* One acknowledgement for all that was taken since the last. */
static void say_due(void *argument) {
    pull_link_t *pull = argument;
    loop_remove(pull->say_timer);
    pull->say_timer = NULL;
    pull->said_time = loop_now(pull->base.loop);
    pull->said_bytes = pull->base.stats.bytes;
    size_t position = 0;
    text_t key;
    void *stream;
    while (pull->any_due && map_next(pull->streams, &position, &key, &stream))
        if (((pull_stream_t *) stream)->due)
            say_stream(pull, stream, false);
    if (pull->hello_due)                  /* last, so that a sender knows what we have before it begins */
        say_hello(pull, false);
    pull->any_due = pull->hello_due = false;
}

/* At the end of this round, or a little later when the last time is only just past. */
void pull_due(pull_link_t *pull, pull_stream_t *stream) {
    int64_t wait = pull->said_time + ACK_NS - loop_now(pull->base.loop);
    if (stream) {
        stream->due = true;
        pull->any_due = true;
    } else
        pull->hello_due = true;
    if (wait <= 0 || !stream || stream->again || stream->ended || pull->base.stats.bytes - pull->said_bytes >= ACK_BYTES)
        loop_defer(pull->base.loop, say_due, pull);
    else if (!pull->say_timer)
        pull->say_timer = loop_timer(pull->base.loop, wait, 0, say_due, pull);
}

static bool has_input(pull_link_t *pull) {
    int events = 0;
    size_t size = sizeof events;
    loop_socket_touch(pull->data_watch);
    return zmq_getsockopt(pull->data, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
}

static bool waits_for_a_log(const pull_link_t *pull) {
    size_t position = 0;
    text_t key;
    void *value;
    while (map_next(pull->streams, &position, &key, &value)) {
        const pull_stream_t *stream = value;
        if (stream->ended && !stream->left && !stream->silent && stream->stable)
            return true;
    }
    return false;
}

static int64_t alone_limit(const pull_link_t *pull) {
    return waits_for_a_log(pull) && !pull->base.part_soon ? ALONE_LOG_NS : pull->local ? ALONE_IPC_NS : ALONE_TCP_NS;
}

/* Every sender whose end is durable has said goodbye, or cannot any more: one that ended in an earlier life of ours may be gone for long. */
static bool all_left(const pull_link_t *pull) {
    bool patient = loop_now(pull->base.loop) - pull->parting_since < alone_limit(pull);
    size_t position = 0;
    text_t key;
    void *value;
    while (map_next(pull->streams, &position, &key, &value)) {
        const pull_stream_t *stream = value;
        if (stream->ended && !stream->left && stream->durable >= stream->received && (patient || !stream->silent))
            return false;
    }
    return true;
}

bool pull_nobody_waits(const pull_link_t *pull) {
    size_t position = 0;
    text_t key;
    void *value;
    while (map_next(pull->streams, &position, &key, &value)) {
        const pull_stream_t *stream = value;
        if (!stream->left && !stream->replaced)
            return false;
    }
    return true;
}

void pull_check_parted(pull_link_t *pull) {
    if (!pull->parting || !pull->base.parted)
        return;
    int64_t now = loop_now(pull->base.loop);
    if (pull->base.stats.peers)
        pull->alone_since = 0;
    else if (!pull->alone_since)
        pull->alone_since = now;
    if (all_left(pull) || (pull->alone_since && now - pull->alone_since >= alone_limit(pull)))
        link_receiver_parted(&pull->base);
}

/* Says it all again while nothing arrives, so that a lost acknowledgement or a lost last frame does no lasting harm. */
static void on_tick(void *argument) {
    pull_link_t *pull = argument;
    bool idle = pull->parting || (!pull->active && !pull->base.paused && !has_input(pull));
    if (idle) {
        size_t position = 0;
        text_t key;
        void *value;
        while (map_next(pull->streams, &position, &key, &value)) {
            pull_stream_t *stream = value;
            if (stream->replaced)
                continue;
            if (!stream->ended || stream->durable < stream->received || (pull->parting && !stream->left) || stream->reports++ < ENDED_REPORTS)
                say_stream(pull, stream, true);
        }
    }
    if (!pull->adopted || pull->base.paused)
        say_hello(pull, idle);
    int64_t most = pull->parting ? TICK_PARTING : pull->adopted ? TICK_MAX : TICK_HELLO;
    pull->tick_time = pull->active ? TICK_MIN : pull->tick_time * 2 < most ? pull->tick_time * 2 : most;
    pull->active = false;
    pull->tick = loop_timer(pull->base.loop, pull->tick_time, 0, on_tick, pull);
    pull_check_parted(pull);
}

/* A sender that has just come (or come back) is told at once what it needs to go on. */
void pull_say_subscriptions(void *argument) {
    pull_link_t *pull = argument;
    char message[ZLINK_CONTROL_MAX];
    for (int i = 0; i < PULL_FRAMES_PER_TURN; i++) {
        int size = zmq_recv(pull->acks, message, sizeof message, ZMQ_DONTWAIT);
        if (size < 0)
            return;
        if (size < 2 || size > (int) sizeof message)
            continue;
        text_t topic = text_make(message + 1, (size_t) size - 1);
        bool hello = text_is(topic, ZLINK_HELLO);
        if (hello && message[0] == 1) {
            pull->base.stats.peers++;
            pull_due(pull, NULL);
        } else if (hello && pull->base.stats.peers)
            pull->base.stats.peers--;
        link_presence_set(&pull->presence, pull->base.stats.peers > 0);
        topic.size--;                     /* the separator */
        pull_stream_t *stream = hello ? NULL : map_get(pull->streams, topic);
        if (stream && message[0] == 1) {
            pull_stream_heard(pull, stream);
            pull_due(pull, stream);
        }
    }
}

void pull_complain(pull_link_t *pull, pull_stream_t *stream, uint64_t attempt) {
    int64_t now = loop_now(pull->base.loop);
    if (stream->again_for == stream->received + 1 && stream->again_attempt == attempt && now - stream->again_time < AGAIN_NS)
        return;
    stream->again_for = stream->received + 1;
    stream->again_attempt = attempt;
    stream->again_time = now;
    stream->again = true;
    pull->base.stats.gaps++;
    pull_due(pull, stream);
}

/* ---- beginning and end ---- */

void pull_say_start(pull_link_t *pull) {
    pull->tick_time = TICK_MIN;
    pull->tick = loop_timer(pull->base.loop, pull->tick_time, 0, on_tick, pull);
}

void pull_say_part(pull_link_t *pull) {
    pull->parting = true;
    pull->parting_since = loop_now(pull->base.loop);
    loop_remove(pull->tick);              /* at once: nothing more that is worth waiting for comes before */
    pull->tick_time = TICK_MIN;
    pull->tick = loop_timer(pull->base.loop, 0, 0, on_tick, pull);
}

void pull_say_stop(pull_link_t *pull) {
    loop_undefer(pull->base.loop, say_due, pull);
    if (pull->any_due && pull->acks)
        say_due(pull);
    loop_remove(pull->say_timer);
    loop_remove(pull->tick);
}
