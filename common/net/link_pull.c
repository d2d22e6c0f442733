/* The receiver behind ipc:// and tcp://: applies each stream's frames in order, once. A frame that is out of order is dropped and asked for
 * again; the sender keeps it. */
#include "net/link_pull.h"

#include <zmq.h>

#include "base/memory.h"

#define ACK_LINGER_MS 1000                /* for the last acknowledgements */
#define HIGH_WATER 8                      /* messages; each can be large, and the sender keeps what we have not taken */

/* ---- frames ---- */

/* True when the frame is the next one of its stream. Behind frames that are held the next is asked for when these are delivered. */
static bool in_order(pull_link_t *pull, pull_stream_t *stream, const frame_t *frame) {
    bool waiting = stream->held || stream->refused;
    uint64_t last = stream->held ? stream->held_last : stream->received;
    if (frame->attempt > stream->attempt)
        stream->attempt = frame->attempt;
    if (frame->lowest > last + 1 && !waiting) {   /* the sender has given up what is before */
        pull->base.stats.gaps++;
        stream->received = stream->delivered = last = frame->lowest - 1;
        if (stream->durable < stream->received)
            stream->durable = stream->received;
    }
    if (frame->sequence == last + 1)
        return true;
    if (frame->sequence <= last) {
        pull->base.stats.repeats++;
        pull_due(pull, stream);
    } else if (waiting)
        stream->spilled = pull->hold.spilled = true;
    else
        pull_complain(pull, stream, frame->attempt);
    return false;
}

static void deliver(pull_link_t *pull, frame_t *frame) {
    pull->base.stats.frames++;
    pull->base.stats.events += frame->events;
    pull->base.stats.bytes += frame->body_size;
    pull->base.setup.frame(pull->base.setup.argument, &pull->base, frame);
}

static void settle(pull_stream_t *stream) {
    if (stream->durable >= stream->delivered)
        stream->durable = stream->received;
}

bool pull_deliver(pull_link_t *pull, pull_stream_t *stream, frame_t *frame, bool good) {
    const link_receiver_setup_t *setup = &pull->base.setup;
    if (good && setup->take && !setup->take(setup->argument, &pull->base, frame)) {
        stream->refused = pull->hold.refused = true;
        return false;
    }
    stream->received = frame->sequence;
    if (good) {
        stream->delivered = frame->sequence;
        stream->ended = frame->end;
        deliver(pull, frame);
    }
    settle(stream);
    if (stream->gone)
        pull_stream_gone(pull, stream);
    pull_due(pull, stream);
    return true;
}

static void take_frame(pull_link_t *pull, frame_t *frame, bool good) {
    if (frame->receiver && frame->receiver != pull->id)
        return;                           /* for another, or for the one that was here before us */
    if ((!frame->sequence && !frame->has_stable) || !*frame->origin) {
        link_receiver_malformed(&pull->base, "it has no number (q) or no origin (o); senders without acknowledgements need ?ack=none");
        return;
    }
    pull_stream_t *stream = pull_stream_of(pull, frame);
    pull->active = pull->active || frame->sequence;
    if (!stream)
        return;
    pull->adopted = true;
    pull_stream_news(pull, stream, frame);
    if (!frame->sequence || !in_order(pull, stream, frame))
        return;
    if (stream->held || stream->refused || pull->base.paused || !pull_deliver(pull, stream, frame, good))
        pull_hold(pull, stream, frame, good);
}

/* Without acknowledgements nothing is checked; who has ended is remembered all the same. */
static void take_plain(pull_link_t *pull, frame_t *frame) {
    pull_stream_t *stream = pull_stream_of(pull, frame);
    if (stream)
        stream->ended = frame->end;
    deliver(pull, frame);
}

/* The sender has left; its stream may have been forgotten meanwhile. */
static void take_bye(pull_link_t *pull, const frame_t *frame) {
    pull_stream_t *stream = map_get(pull->streams, text_of(frame->origin));
    if (!stream || !stream->ended || frame->epoch < stream->epoch) /* a later epoch continues this one: it is the same log */
        return;
    pull_stream_heard(pull, stream);
    stream->left = true;
    if (pull->base.setup.over)
        pull->base.setup.over(pull->base.setup.argument, &pull->base);
}

/* From the loop, not from within on_data: the receiver may be gone afterwards. */
static void report_refusal(void *argument) {
    pull_link_t *pull = argument;
    link_receiver_fail(&pull->base, "%s: refused, because another receiver is connected to it; one link has one receiver. Use "
                       "partitions=N at the sender and partition=K here to split it among several", pull->base.endpoint);
}

/* False: nothing more to take. */
static bool take_one(pull_link_t *pull) {
    frame_t *frame;
    err_t err;
    zlink_result_t result = zlink_receive(pull->data, pull->base.setup.frame_max, &frame, &err);
    if (result == ZLINK_NONE)
        return false;
    if (result != ZLINK_FRAME)
        link_receiver_malformed(&pull->base, err.text);
    if (frame && frame->refused == pull->id) {
        frame_unref(frame);
        loop_socket_events(pull->data_watch, 0);
        loop_defer(pull->base.loop, report_refusal, pull);
        return false;
    }
    if (frame && frame->bye) {
        take_bye(pull, frame);
        frame_unref(frame);
        return true;
    }
    if (frame && !frame->refused && !pull->parting) {
        if (!pull->plain)
            take_frame(pull, frame, result == ZLINK_FRAME);
        else if (result == ZLINK_FRAME)
            take_plain(pull, frame);
    }
    frame_unref(frame);
    return true;
}

/* While paused what comes is held, so that news from the sender's log gets through; without acknowledgements there is none. When no more
 * can be held, others may still be waited for behind a stream that was refused. */
static bool may_read(const pull_link_t *pull) {
    bool paused = pull->base.paused;
    if (pull->base.failed || pull->parting)
        return pull->parting;
    return pull_hold_full(pull) ? !paused && pull->hold.refused : !paused || !pull->plain;
}

void pull_read_on(pull_link_t *pull) {
    bool reading = may_read(pull);
    if (reading == pull->reading)
        return;
    pull->reading = reading;
    loop_socket_events(pull->data_watch, reading ? ZMQ_POLLIN : 0);
}

static void on_data(void *argument) {
    pull_link_t *pull = argument;
    for (int i = 0; i < PULL_FRAMES_PER_TURN; i++)
        if (!may_read(pull) || !take_one(pull))
            break;
    pull_read_on(pull);
    pull_check_parted(pull);
}

/* ---- the receiver ---- */

static void pull_durable(link_receiver_t *receiver, const frame_t *frame) {
    pull_link_t *pull = (pull_link_t *) receiver;
    pull_stream_t *stream = map_get(pull->streams, text_of(frame->origin));
    if (!stream || stream->taken_back || !pull_stream_counts(stream, frame->epoch) || frame->sequence <= stream->durable ||
        frame->sequence > stream->received)
        return;
    stream->durable = frame->sequence;
    settle(stream);
    pull_due(pull, stream);
}

static void pull_pause(link_receiver_t *receiver, bool paused) {
    pull_link_t *pull = (pull_link_t *) receiver;
    pull->active = true;
    if (!paused)
        pull_hold_release(pull);
    pull_read_on(pull);
}

static bool pull_ended(const link_receiver_t *receiver) {
    const pull_link_t *pull = (const pull_link_t *) receiver;
    size_t position = 0;
    text_t key;
    void *value;
    while (map_next(pull->streams, &position, &key, &value)) {
        const pull_stream_t *stream = value;
        if (!stream->ended && !stream->replaced)
            return false;
    }
    return map_count(pull->streams) > 0;
}

/* Where we connect there is one sender at a time: once one was heard, those before it are not heard of again. */
static bool pull_over(const link_receiver_t *receiver) {
    const pull_link_t *pull = (const pull_link_t *) receiver;
    size_t position = 0, silent = 0;
    text_t key;
    void *value;
    while (map_next(pull->streams, &position, &key, &value))
        silent += ((const pull_stream_t *) value)->silent && !((const pull_stream_t *) value)->gone;
    return silent <= (pull->connects ? map_count(pull->streams) - 1 : 0) && pull_ended(receiver);
}

static bool pull_replaced(const link_receiver_t *receiver, const char *origin) {
    const pull_stream_t *stream = map_get(((const pull_link_t *) receiver)->streams, text_of(origin));
    return stream && stream->replaced;
}

static void pull_restore(link_receiver_t *receiver, const char *origin, uint64_t epoch, uint64_t sequence, bool ended) {
    pull_stream_restore((pull_link_t *) receiver, origin, epoch, sequence, ended);
}

static void pull_want(link_receiver_t *receiver) {
    pull_hold_want((pull_link_t *) receiver);
}

static void pull_part(link_receiver_t *receiver) {
    pull_link_t *pull = (pull_link_t *) receiver;
    if (pull->plain) {
        link_receiver_parted(receiver);
        return;
    }
    pull_say_part(pull);
    pull_read_on(pull);
}

static void pull_free(link_receiver_t *receiver) {
    pull_link_t *pull = (pull_link_t *) receiver;
    loop_undefer(receiver->loop, report_refusal, pull);
    pull_say_stop(pull);
    link_presence_fini(&pull->presence);
    pull_hold_free(pull);
    zlink_monitor_fini(&pull->data_monitor);
    zlink_monitor_fini(&pull->ack_monitor);
    loop_remove(pull->data_watch);
    loop_remove(pull->ack_watch);
    zlink_close(pull->data, 0);
    zlink_close(pull->acks, pull_nobody_waits(pull) ? 0 : ACK_LINGER_MS);
    zlink_unlock(&pull->receiver_lock);
    zlink_unlock(&pull->bind_lock);
    pull_streams_free(pull);
    link_receiver_fini(receiver);
    mem_free(pull);
}

static const link_receiver_class_t pull_class = {
    .durable = pull_durable, .pause = pull_pause, .ended = pull_ended, .part = pull_part, .free = pull_free, .restore = pull_restore,
    .want = pull_want, .over = pull_over, .replaced = pull_replaced,
};

static int take_locks(pull_link_t *pull, const zlink_address_t *address, err_t *err) {
    if (!address->path)
        return 0;
    if (address->bind)
        return zlink_lock(&pull->bind_lock, address->path, ZLINK_BIND_LOCK, false,
                          "ipc://%s is in use by process %d; stop it or choose another path", err);
    if (pull->plain)
        return 0;
    return zlink_lock(&pull->receiver_lock, address->path, ZLINK_RECEIVER_LOCK, true,
                      "ipc://%s has a receiver already, process %d, and one link has one receiver. Use partitions=N at the sender and "
                      "partition=K here to split it among several", err);
}

static void keep_connected(pull_link_t *pull, zlink_monitor_t *monitor, void *socket, const char *where) {
    zlink_monitor_init(monitor, pull->base.loop, socket, NULL, NULL);
    zlink_monitor_keep(monitor, where, pull->base.endpoint);
}

static int open_sockets(pull_link_t *pull, const zlink_address_t *address, const link_endpoint_t *endpoint, err_t *err) {
    loop_t *loop = pull->base.loop;
    size_t limit = pull->base.setup.frame_max + pull->base.setup.frame_max / 64 + 64 * 1024;
    pull->data = zlink_socket(ZMQ_PULL, limit, HIGH_WATER);
    pull->data_watch = loop_socket(loop, pull->data, ZMQ_POLLIN, on_data, pull);
    if (!address->bind)
        keep_connected(pull, &pull->data_monitor, pull->data, address->data);
    if (!pull->plain) {                   /* first, so that a hello can follow the first connection at once */
        int verbose = 1;
        pull->acks = zlink_socket(ZMQ_XPUB, ZLINK_CONTROL_MAX, 1000);
        ASSERT(zmq_setsockopt(pull->acks, ZMQ_XPUB_VERBOSER, &verbose, sizeof verbose) == 0);
        pull->ack_watch = loop_socket(loop, pull->acks, ZMQ_POLLIN, pull_say_subscriptions, pull);
        if (!address->bind)
            keep_connected(pull, &pull->ack_monitor, pull->acks, address->ack);
        if (zlink_attach(pull->acks, address->ack, address->bind, endpoint->text, err) != 0)
            return -1;
        pull_say_start(pull);
    }
    return zlink_attach(pull->data, address->data, address->bind, endpoint->text, err);
}

static bool still_wanted(const void *argument) {
    const pull_link_t *pull = argument;
    return !pull->parting && !pull->base.failed && !pull_ended(&pull->base);
}

int link_pull_open(link_receiver_t **receiver, loop_t *loop, const link_endpoint_t *endpoint, const link_receiver_setup_t *setup, err_t *err) {
    zlink_address_t address;
    if (zlink_address(&address, endpoint, endpoint->partition, false, err) != 0)
        return -1;
    pull_link_t *pull = mem_zero(sizeof *pull);
    link_receiver_init(&pull->base, &pull_class, loop, endpoint, setup);
    pull->plain = endpoint->ack == LINK_ACK_NONE;
    pull->local = address.path != NULL;
    pull->connects = !address.bind;
    pull->id = zlink_random_id();
    pull->streams = map_new();
    pull->reading = true;
    int result = take_locks(pull, &address, err);
    if (result == 0)
        result = open_sockets(pull, &address, endpoint, err);
    if (result == 0 && !pull->plain && !setup->rare) /* without acknowledgements senders are not known */
        link_presence_init(&pull->presence, loop, endpoint->text, "sender", &address, true, still_wanted, pull);
    zlink_address_fini(&address);
    if (result != 0)
        pull_free(&pull->base);
    else
        *receiver = &pull->base;
    return result;
}
