/* The receiver behind sub+ endpoints: frames as they come, with a count of those that were missed. */
#include <string.h>
#include <zmq.h>

#include "base/map.h"
#include "base/memory.h"
#include "net/link_presence.h"

#define HIGH_WATER 200
#define FRAMES_PER_TURN 32
#define TOPICS_MAX 4096                   /* different (origin, topic) whose numbers are watched */

typedef struct seen {
    uint64_t epoch, sequence;
    bool ended;
} seen_t;

typedef struct subscribe_link {
    link_receiver_t base;
    zlink_lock_t lock;
    void *socket;
    loop_watch_t *watch;
    zlink_monitor_t monitor;
    link_presence_t presence;
    map_t *seen;                          /* "ORIGIN\nTOPIC" → seen_t */
} subscribe_link_t;

static void forget(subscribe_link_t *subscribe) {
    size_t position = 0;
    text_t key;
    void *seen;
    while (map_next(subscribe->seen, &position, &key, &seen))
        mem_free(seen);
    map_free(subscribe->seen);
    subscribe->seen = NULL;
}

static seen_t *seen_of(subscribe_link_t *subscribe, const frame_t *frame) {
    char key[FRAME_ORIGIN_MAX + 1 + FRAME_TOPIC_MAX + 1];
    strcpy(key, frame->origin);
    strcat(key, "\n");
    strcat(key, frame->topic);
    seen_t *seen = map_get(subscribe->seen, text_of(key));
    if (seen)
        return seen;
    if (map_count(subscribe->seen) == TOPICS_MAX) {
        forget(subscribe);
        subscribe->seen = map_new();
    }
    seen = mem_zero(sizeof *seen);
    map_put(subscribe->seen, text_of(key), seen);
    return seen;
}

static void take(subscribe_link_t *subscribe, frame_t *frame) {
    seen_t *seen = seen_of(subscribe, frame);
    if (seen->epoch == frame->epoch && seen->sequence && frame->sequence > seen->sequence + 1)
        subscribe->base.stats.gaps += frame->sequence - seen->sequence - 1;
    seen->epoch = frame->epoch;
    seen->sequence = frame->sequence;
    seen->ended = frame->end;
    subscribe->base.stats.frames++;
    subscribe->base.stats.events += frame->events;
    subscribe->base.stats.bytes += frame->body_size;
    subscribe->base.setup.frame(subscribe->base.setup.argument, &subscribe->base, frame);
}

static void on_data(void *argument) {
    subscribe_link_t *subscribe = argument;
    for (int i = 0; i < FRAMES_PER_TURN && !subscribe->base.paused; i++) {
        frame_t *frame;
        err_t err;
        zlink_result_t result = zlink_receive(subscribe->socket, subscribe->base.setup.frame_max, &frame, &err);
        if (result == ZLINK_NONE)
            return;
        if (result == ZLINK_FRAME)
            take(subscribe, frame);
        else if (result == ZLINK_BAD)
            link_receiver_malformed(&subscribe->base, err.text);
        frame_unref(frame);
    }
}

/* While paused the socket fills to its mark, then the publisher drops for us: the gaps are counted afterwards. */
static void subscribe_pause(link_receiver_t *receiver, bool paused) {
    loop_socket_events(((subscribe_link_t *) receiver)->watch, paused ? 0 : ZMQ_POLLIN);
}

static bool subscribe_ended(const link_receiver_t *receiver) {
    const subscribe_link_t *subscribe = (const subscribe_link_t *) receiver;
    size_t position = 0;
    text_t key;
    void *seen;
    while (map_next(subscribe->seen, &position, &key, &seen))
        if (!((seen_t *) seen)->ended)
            return false;
    return map_count(subscribe->seen) > 0;
}

static void subscribe_free(link_receiver_t *receiver) {
    subscribe_link_t *subscribe = (subscribe_link_t *) receiver;
    zlink_monitor_fini(&subscribe->monitor);
    link_presence_fini(&subscribe->presence);
    loop_remove(subscribe->watch);
    zlink_close(subscribe->socket, 0);
    zlink_unlock(&subscribe->lock);
    forget(subscribe);
    link_receiver_fini(receiver);
    mem_free(subscribe);
}

static const link_receiver_class_t subscribe_class = {NULL, subscribe_pause, subscribe_ended, NULL, subscribe_free};

static void connections_changed(void *argument, bool came) {
    subscribe_link_t *subscribe = argument;
    subscribe->base.stats.peers = subscribe->monitor.connections;
    link_presence_set(&subscribe->presence, subscribe->monitor.connections > 0);
}

static void set_topics(subscribe_link_t *subscribe, const option_list_t *topics) {
    for (size_t i = 0; i < topics->count; i++)
        ASSERT(zmq_setsockopt(subscribe->socket, ZMQ_SUBSCRIBE, topics->items[i], strlen(topics->items[i])) == 0);
    if (!topics->count)
        ASSERT(zmq_setsockopt(subscribe->socket, ZMQ_SUBSCRIBE, "", 0) == 0);
}

static bool still_wanted(const void *argument) {
    return !subscribe_ended(argument);
}

static int subscribe_open(link_receiver_t **receiver, loop_t *loop, const link_endpoint_t *endpoint, const link_receiver_setup_t *setup,
                          err_t *err) {
    zlink_address_t address;
    if (zlink_address(&address, endpoint, -1, false, err) != 0)
        return -1;
    subscribe_link_t *subscribe = mem_zero(sizeof *subscribe);
    link_receiver_init(&subscribe->base, &subscribe_class, loop, endpoint, setup);
    subscribe->seen = map_new();
    int result = 0;
    if (address.bind && address.path)
        result = zlink_lock(&subscribe->lock, address.path, ZLINK_BIND_LOCK, false, "ipc://%s is in use by process %d; stop it or choose another path", err);
    if (result == 0) {
        size_t limit = setup->frame_max + setup->frame_max / 64 + 64 * 1024;
        subscribe->socket = zlink_socket(ZMQ_SUB, limit, HIGH_WATER);
        set_topics(subscribe, &endpoint->topics);
        subscribe->watch = loop_socket(loop, subscribe->socket, ZMQ_POLLIN, on_data, subscribe);
        zlink_monitor_init(&subscribe->monitor, loop, subscribe->socket, connections_changed, subscribe);
        zlink_monitor_understood(&subscribe->monitor);
        result = zlink_attach(subscribe->socket, address.data, address.bind, endpoint->text, err);
        if (!address.bind)
            zlink_monitor_keep(&subscribe->monitor, address.data, subscribe->base.endpoint);
    }
    if (result == 0)
        link_presence_init(&subscribe->presence, loop, endpoint->text, "publisher", &address, false, still_wanted, subscribe);
    zlink_address_fini(&address);
    if (result != 0)
        subscribe_free(&subscribe->base);
    else
        *receiver = &subscribe->base;
    return result;
}

static const option_t subscribe_options[] = {
    {.name = "topic", .type = OPTION_LIST, .offset = offsetof(link_endpoint_t, topics), .value = "PREFIX",
     .help = "only streams whose name begins so; may be given several times; without: all"},
    {NULL},
};

const link_engine_t link_sub_ipc_engine = {.prefix = "sub+ipc://", .receiver_options = subscribe_options, .check = zlink_check,
                                           .receiver_open = subscribe_open};
const link_engine_t link_sub_tcp_engine = {.prefix = "sub+tcp://", .receiver_options = subscribe_options, .check = zlink_check,
                                           .receiver_open = subscribe_open};
