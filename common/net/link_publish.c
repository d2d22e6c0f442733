/* The sender behind pub+ endpoints: every frame to whoever subscribed to its topic, best effort. XPUB tells what is subscribed, so that
 * a topic without listeners costs nothing. Frames are numbered per topic, which is how subscribers see what they missed. */
#include <string.h>
#include <zmq.h>

#include "base/map.h"
#include "base/memory.h"
#include "net/link_feed.h"
#include "net/link_zmq.h"

#define HIGH_WATER 200                    /* messages that wait for one slow subscriber; more are lost for it */
#define TOPIC_LIMIT 1024                  /* bytes of a subscription */
#define SUBSCRIPTIONS_MAX 10000           /* different ones that are remembered */
#define LINGER_MS 2000
#define TURN 64

/* What the numbers of a topic, and the subscribers to a prefix, are counted in. */
typedef struct counter {
    uint64_t count;
} counter_t;

typedef struct publish_link {
    link_sender_t base;
    zlink_lock_t lock;
    void *socket;
    loop_watch_t *watch;
    zlink_monitor_t monitor;
    map_t *sequences;                     /* topic → counter_t */
    map_t *prefixes;                      /* subscribed prefix → counter_t */
    bool overflow;                        /* too many different prefixes: everything is taken for subscribed */
    buf_t scratch;
    link_feed_t feed;                     /* with a spool: what is written from now on */
} publish_link_t;

static counter_t *counter_of(map_t *map, text_t key) {
    counter_t *counter = map_get(map, key);
    if (!counter) {
        counter = mem_zero(sizeof *counter);
        map_put(map, key, counter);
    }
    return counter;
}

static void counters_free(map_t *map) {
    size_t position = 0;
    text_t key;
    void *counter;
    while (map_next(map, &position, &key, &counter))
        mem_free(counter);
    map_free(map);
}

static void subscription(publish_link_t *publish, text_t prefix, bool on) {
    counter_t *counter = map_get(publish->prefixes, prefix);
    if (!on) {
        if (counter && --counter->count == 0) {
            map_remove(publish->prefixes, prefix);
            mem_free(counter);
        }
        return;
    }
    if (!counter && map_count(publish->prefixes) == SUBSCRIPTIONS_MAX)
        publish->overflow = true;
    else
        counter_of(publish->prefixes, prefix)->count++;
}

/* XPUB has taken all that this subscriber had sent before: it may know. The answer is an empty frame, because it also goes to those who
 * have subscribed to everything. */
static void answer(publish_link_t *publish, text_t question) {
    frame_t frame = {.watermark = FRAME_NO_WATERMARK};
    if (question.size > FRAME_TOPIC_MAX)
        return;
    memcpy(frame.topic, question.data, question.size);
    frame_number_t number = {.origin = publish->base.setup.origin, .epoch = publish->base.setup.epoch};
    zlink_send(publish->socket, &frame, &number, &publish->scratch);
    loop_socket_touch(publish->watch);
}

static void on_subscription(void *argument) {
    publish_link_t *publish = argument;
    char message[TOPIC_LIMIT + 1];
    for (int i = 0; i < TURN; i++) {
        int size = zmq_recv(publish->socket, message, sizeof message, ZMQ_DONTWAIT);
        if (size < 0)
            return;
        if (size < 1 || size > (int) sizeof message || (message[0] != 0 && message[0] != 1))
            continue;
        text_t prefix = text_make(message + 1, (size_t) size - 1);
        subscription(publish, prefix, message[0] == 1);
        if (message[0] == 1 && prefix.size && prefix.data[0] == ZLINK_ASK)
            answer(publish, prefix);
    }
}

static bool subscribed(const publish_link_t *publish, const char *topic) {
    if (publish->overflow)
        return true;
    size_t position = 0;
    text_t prefix;
    void *counter;
    while (map_next(publish->prefixes, &position, &prefix, &counter))
        if (strncmp(topic, prefix.data, prefix.size) == 0)
            return true;
    return false;
}

static void put(publish_link_t *publish, frame_t *frame) {
    uint64_t sequence = ++counter_of(publish->sequences, text_of(frame->topic))->count;
    publish->base.stats.frames++;
    publish->base.stats.events += frame->events;
    publish->base.stats.bytes += frame->body_size;
    if (!subscribed(publish, frame->topic))
        return;
    frame_number_t number = {.origin = publish->base.setup.origin, .epoch = publish->base.setup.epoch, .sequence = sequence, .lowest = sequence};
    zlink_send(publish->socket, frame, &number, &publish->scratch);
    loop_socket_touch(publish->watch);
}

static bool publish_room(const link_sender_t *sender) {
    return true;
}

static void durable_later(void *argument) {
    link_sender_t *sender = argument;
    if (sender->setup.durable)
        sender->setup.durable(sender->setup.argument);
}

static void publish_send(link_sender_t *sender, frame_t *frame, uint64_t ticket) {
    put((publish_link_t *) sender, frame);
    loop_defer(sender->loop, durable_later, sender);
}

static void publish_written(link_sender_t *sender, frame_t *frame, uint64_t number) {
    publish_link_t *publish = (publish_link_t *) sender;
    frame_t *next;
    bool direct;
    link_feed_written(&publish->feed, frame, number);
    while (link_feed_take(&publish->feed, true, &next, &number, &direct) == LINK_FEED_FRAME) {
        put(publish, next);
        frame_unref(next);
    }
    loop_defer(sender->loop, durable_later, sender);
}

static uint64_t publish_durable(const link_sender_t *sender) {
    return sender->ticket;
}

static void done_later(void *argument) {
    link_sender_finished(argument);
}

static void publish_finish(link_sender_t *sender, frame_t *end, uint64_t ticket) {
    if (end)
        put((publish_link_t *) sender, end);
    loop_defer(sender->loop, done_later, sender);
}

static void publish_free(link_sender_t *sender) {
    publish_link_t *publish = (publish_link_t *) sender;
    loop_undefer(sender->loop, durable_later, sender);
    loop_undefer(sender->loop, done_later, sender);
    zlink_monitor_fini(&publish->monitor);
    loop_remove(publish->watch);
    zlink_close(publish->socket, LINGER_MS);
    zlink_unlock(&publish->lock);
    counters_free(publish->sequences);
    counters_free(publish->prefixes);
    buf_fini(&publish->scratch);
    link_feed_fini(&publish->feed);
    link_sender_fini(sender);
    mem_free(publish);
}

static const link_sender_class_t publish_class = {
    .room = publish_room, .send = publish_send, .durable = publish_durable, .finish = publish_finish, .free = publish_free,
    .written = publish_written,
};

static void connections_changed(void *argument, bool came) {
    publish_link_t *publish = argument;
    publish->base.stats.peers = publish->monitor.connections;
}

static int publish_open(link_sender_t **sender, loop_t *loop, const link_endpoint_t *endpoint, const link_sender_setup_t *setup, err_t *err) {
    zlink_address_t address;
    if (zlink_address(&address, endpoint, -1, true, err) != 0)
        return -1;
    publish_link_t *publish = mem_zero(sizeof *publish);
    link_sender_init(&publish->base, &publish_class, loop, endpoint, setup);
    publish->sequences = map_new();
    publish->prefixes = map_new();
    if (setup->spool)
        link_feed_init(&publish->feed, setup->spool, spool_number(setup->spool) + 1, 0);
    int result = 0;
    if (address.bind && address.path)
        result = zlink_lock(&publish->lock, address.path, ZLINK_BIND_LOCK, false, "ipc://%s is in use by process %d; stop it or choose another path", err);
    if (result == 0) {
        int verbose = 1;
        publish->socket = zlink_socket(ZMQ_XPUB, TOPIC_LIMIT + 1, HIGH_WATER);
        ASSERT(zmq_setsockopt(publish->socket, ZMQ_XPUB_VERBOSER, &verbose, sizeof verbose) == 0);
        publish->watch = loop_socket(loop, publish->socket, ZMQ_POLLIN, on_subscription, publish);
        zlink_monitor_init(&publish->monitor, loop, publish->socket, connections_changed, publish);
        result = zlink_attach(publish->socket, address.data, address.bind, endpoint->text, err);
        if (!address.bind)
            zlink_monitor_keep(&publish->monitor, address.data, publish->base.endpoint);
    }
    zlink_address_fini(&address);
    if (result != 0)
        publish_free(&publish->base);
    else
        *sender = &publish->base;
    return result;
}

const link_engine_t link_pub_ipc_engine = {.prefix = "pub+ipc://", .check = zlink_check, .sender_open = publish_open};
const link_engine_t link_pub_tcp_engine = {.prefix = "pub+tcp://", .check = zlink_check, .sender_open = publish_open};
