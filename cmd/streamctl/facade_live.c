/* Live events: from broadcast's PUB into a ring for each stream, and from there to the WebSocket clients.
 *
 * An event is forwarded at once when the last forwarding is a millisecond ago; under load the events of the time between are
 * put into one message per stream, and the time grows with what was sent, so that a flood costs a bounded amount of text. Events
 * are turned into JSON only here, only when somebody has subscribed, once for all clients.
 *
 * Each broadcast that comes up is asked, by one more subscription, to tell when ours are in force (stream-link(7)): nobody is told
 * that the pipeline is ready, or what he is subscribed to, while its first events would still be lost on the way here. */
#include "facade_live.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/memory.h"
#include "data/frame.h"
#include "data/json.h"
#include "data/pack.h"
#include "net/link.h"

#include "facade_alerts.h"
#include "facade_app.h"
#include "ws.h"

#define RING_EVENTS 500u
#define RING_BYTES (128u * 1024)
#define BATCH_EVENTS RING_EVENTS
#define BATCH_BYTES (64u * 1024)
#define PAUSE_LEAST NS_PER_MS
#define PAUSE_MOST (50 * NS_PER_MS)
#define BYTES_PER_SECOND 4000000         /* of new text: 1.5 KB a millisecond are forwarded without a longer pause */
#define FRAMES_PER_ROUND 64
#define RECEIVE_MARK 256                 /* frames that may wait in the socket */
#define RETRY_LEAST_MS 20
#define RETRY_MOST_MS 200
#define ANSWER_LIMIT (10 * NS_PER_S)
#define QUESTION "?"                     /* how a subscription begins that is one */

struct live {
    facade_t *facade;
    void *socket;
    fd_watch_t *watch;
    facade_timer_t more, forward;
    map_t *by_name;
    live_stream_t **streams;
    unsigned count;
    bool overfull;                       /* LIVE_STREAMS_MAX was met, and said so */
    int64_t forward_at;                  /* monotonic: not before */
    char question[40];                   /* the last, a subscription that broadcast answers */
    unsigned questions;
    json_int_t asked;                    /* the broadcast that it was put to, by its pid */
    bool again;                          /* it will be asked once more */
    bool waiting;                        /* for the answer, or for broadcast to come up */
    facade_timer_t patience;
};

unsigned live_count(const live_t *live) {
    return live->count;
}

live_stream_t *live_at(const live_t *live, unsigned index) {
    return live->streams[index];
}

live_stream_t *live_find(const live_t *live, const char *name) {
    return map_get(live->by_name, text_of(name));
}

static live_stream_t *stream_of(live_t *live, const char *topic) {
    live_stream_t *stream = live_find(live, topic);
    if (stream)
        return stream;
    if (live->count == LIVE_STREAMS_MAX) {
        if (!live->overfull)
            log_warning("more than %d streams: live data of \"%s\" and of later ones is not shown", LIVE_STREAMS_MAX, topic);
        live->overfull = true;
        return NULL;
    }
    stream = mem_zero(sizeof *stream);
    memcpy(stream->name, topic, strlen(topic) + 1);
    stream->index = live->count;
    stream->ring = ring_new(RING_EVENTS, RING_BYTES);
    live->streams = mem_resize(live->streams, (live->count + 1) * sizeof *live->streams);
    live->streams[live->count++] = stream;
    map_put(live->by_name, text_of(topic), stream);
    hub_stream_added(live->facade->hub, stream);
    return stream;
}

void live_put_event(buf_t *out, const ring_event_t *event) {
    buf_put_text(out, "{\"ts\":\"");
    out->size += clock_print((char *) buf_reserve(out, CLOCK_TEXT_MAX), event->time);
    buf_put_text(out, "\",\"data\":");
    if (!json_put_packed(out, event->record, event->size))
        buf_put_text(out, "null");
    buf_put_byte(out, '}');
}

/* One message with the stream's newest events since the last one: stream 'data' is the newest, 'events' all of them when there are
 * several, 'missed' counts those that did not fit. */
static size_t forward_stream(live_t *live, live_stream_t *stream) {
    uint64_t newest = ring_serial(stream->ring), first = newest + 1, serial;
    uint32_t at = ring_count(stream->ring), bytes = 0;
    while (at > 0 && newest - first + 1 < BATCH_EVENTS) {
        ring_event_t event = ring_at(stream->ring, at - 1, &serial);
        if (serial <= stream->sent || (bytes && bytes + event.size > BATCH_BYTES))
            break;
        bytes += event.size;
        first = serial;
        at--;
    }
    uint64_t before = stream->sent;
    stream->sent = newest;
    uint32_t count = ring_count(stream->ring) - at;
    if (!count)
        return 0;                        /* all too large to keep: counted with the next message */
    ring_event_t last = ring_at(stream->ring, ring_count(stream->ring) - 1, NULL);
    ws_message_t *message = ws_message_new(WS_DATA);
    message->stream = (int) stream->index;
    message->before = before;
    message->first = first;
    message->last = newest;
    message->held = count;
    buf_t *out = &message->text;
    buf_format(out, "{\"event\":\"data_update\",\"stream\":\"%s\",\"ts\":\"", stream->name);
    out->size += clock_print((char *) buf_reserve(out, CLOCK_TEXT_MAX), last.time);
    buf_put_text(out, "\",\"data\":");
    if (!json_put_packed(out, last.record, last.size))
        buf_put_text(out, "null");
    if (count > 1) {
        buf_put_text(out, ",\"events\":[");
        for (uint32_t i = 0; i < count; i++) {
            ring_event_t event = ring_at(stream->ring, at + i, NULL);
            if (i)
                buf_put_byte(out, ',');
            live_put_event(out, &event);
        }
        buf_put_byte(out, ']');
    }
    ws_message_finish(message, newest - before - count);
    size_t size = message->text.size;
    hub_send(live->facade->hub, message);
    return size;
}

static void forward_all(void *argument) {
    live_t *live = argument;
    size_t size = 0;
    for (unsigned i = 0; i < live->count; i++) {
        live_stream_t *stream = live->streams[i];
        if (stream->sent == ring_serial(stream->ring))
            continue;
        if (stream->subscribers)
            size += forward_stream(live, stream);
        else
            stream->sent = ring_serial(stream->ring);
    }
    int64_t pause = (int64_t) size * NS_PER_S / BYTES_PER_SECOND;
    pause = pause < PAUSE_LEAST ? PAUSE_LEAST : pause > PAUSE_MOST ? PAUSE_MOST : pause;
    live->forward_at = clock_monotonic() + pause;
}

static void forward_soon(live_t *live) {
    if (live->forward.pending)
        return;
    int64_t wait = live->forward_at - clock_monotonic();
    if (wait <= 0)
        forward_all(live);
    else
        facade_timer_set(live->facade, &live->forward, wait, forward_all, live);
}

/* PUB numbers what it sends, each stream by itself: a jump means that frames were lost on the way here. */
static void count_gap(const live_t *live, live_stream_t *stream, const frame_t *frame) {
    if (frame->epoch == stream->epoch && frame->sequence > stream->sequence + 1)
        metric_add(live->facade->metrics.gaps, frame->sequence - stream->sequence - 1);
    stream->epoch = frame->epoch;
    stream->sequence = frame->sequence;
}

static void take_frame(live_t *live, const frame_t *frame) {
    metric_add(live->facade->metrics.frames, 1);
    live_stream_t *stream = stream_of(live, frame->topic);
    if (!stream)
        return;
    count_gap(live, stream, frame);
    stream->ended = frame->end;
    stream->arrived = clock_now();
    bool alerts = strcmp(frame->topic, "alerts") == 0;
    /* Of a large frame only the end can stay in the ring: what comes before is counted by its number. */
    uint32_t skip = frame->events > RING_EVENTS && !alerts ? frame->events - RING_EVENTS : 0;
    ring_skip(stream->ring, skip);
    frame_walk_t walk = {0};
    event_t event;
    int status;
    while ((status = frame_next(frame, &walk, &event)) > 0) {
        if (skip) {
            skip--;
            continue;
        }
        ring_add(stream->ring, event.time, event.record, event.record_size);
        if (alerts)
            alerts_event(live->facade->alerts, event.time, event.record, event.record_size);
    }
    if (status < 0)
        metric_add(live->facade->metrics.malformed, 1);
}

static void stands(void *argument) {
    live_t *live = argument;
    if (!live->waiting)
        return;
    live->waiting = false;
    facade_timer_cancel(&live->patience);
    hub_live_stands(live->facade->hub);
}

static void no_answer(void *argument) {
    live_t *live = argument;
    log_warning("broadcast has not confirmed the subscription to live data within %d s; going on without", (int) (ANSWER_LIMIT / NS_PER_S));
    stands(live);
}

static void wait_for_it(live_t *live) {
    live->waiting = true;
    facade_timer_set(live->facade, &live->patience, ANSWER_LIMIT, no_answer, live);
}

/* A new question to whoever publishes there now or next. */
static void ask(live_t *live) {
    if (*live->question)
        zmq_setsockopt(live->socket, ZMQ_UNSUBSCRIBE, live->question, strlen(live->question));
    snprintf(live->question, sizeof live->question, QUESTION "%d.%u", (int) getpid(), ++live->questions);
    zmq_setsockopt(live->socket, ZMQ_SUBSCRIBE, live->question, strlen(live->question));
}

/* Whether the message was an answer: ours, or that to another subscriber. */
static bool take_answer(live_t *live, text_t topic) {
    if (!topic.size || topic.data[0] != *QUESTION)
        return false;
    if (!text_is(topic, live->question))
        return true;
    if (live->again)
        ask(live);
    else
        stands(live);
    live->again = false;
    return true;
}

/* One message of three parts. False when none is waiting. */
static bool receive_frame(live_t *live) {
    zmq_msg_t parts[3];
    int count = 0, more = 1;
    size_t more_size = sizeof more;
    while (more) {
        zmq_msg_t spare, *part = count < 3 ? &parts[count] : &spare;
        zmq_msg_init(part);
        if (zmq_msg_recv(part, live->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(part);
            for (int i = 0; i < count && i < 3; i++)
                zmq_msg_close(&parts[i]);
            return false;
        }
        zmq_getsockopt(live->socket, ZMQ_RCVMORE, &more, &more_size);
        if (count >= 3)
            zmq_msg_close(&spare);
        count++;
    }
    frame_t frame = {0};
    err_t err = {"not three parts"};
    if (count == 3 && take_answer(live, text_make(zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0])))) {
        ;
    } else if (count == 3 && frame_decode(&frame, zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]), zmq_msg_data(&parts[1]),
                                   zmq_msg_size(&parts[1]), zmq_msg_data(&parts[2]), zmq_msg_size(&parts[2]),
                                   FRAME_MAX_DEFAULT, &err) == 0) {
        take_frame(live, &frame);
    } else {
        static log_limit_t limit;
        metric_add(live->facade->metrics.malformed, 1);
        if (log_limited(&limit))
            log_warning("a malformed frame from %s was dropped: %s", live->facade->settings.pub, err.text);
    }
    for (int i = 0; i < count && i < 3; i++)
        zmq_msg_close(&parts[i]);
    return true;
}

/* ZMQ_FD tells of changes only: go on until ZMQ_EVENTS clears, but let others have their turn in between. */
static void receive_some(void *argument) {
    live_t *live = argument;
    int events = 0, taken = 0;
    size_t size = sizeof events;
    while (zmq_getsockopt(live->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN)) {
        if (taken++ == FRAMES_PER_ROUND) {
            facade_timer_set(live->facade, &live->more, 0, receive_some, live);
            break;
        }
        if (!receive_frame(live))
            continue;
    }
    if (taken)
        forward_soon(live);
}

static int subscribe(live_t *live, err_t *err) {
    const char *endpoint = live->facade->settings.pub;
    if (text_starts(endpoint, "pub+") || text_starts(endpoint, "sub+"))
        endpoint += 4;
    if (*endpoint == '@' || *endpoint == '>')
        endpoint++;
    live->socket = zmq_socket(link_context(), ZMQ_SUB);
    if (!live->socket)
        return err_set(err, "SUB socket: %s", zmq_strerror(errno));
    int mark = RECEIVE_MARK, linger = 0, retry = RETRY_LEAST_MS, retry_most = RETRY_MOST_MS;
    int64_t limit = FRAME_MAX_DEFAULT + 65536;
    zmq_setsockopt(live->socket, ZMQ_RCVHWM, &mark, sizeof mark);
    zmq_setsockopt(live->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(live->socket, ZMQ_MAXMSGSIZE, &limit, sizeof limit);
    zmq_setsockopt(live->socket, ZMQ_RECONNECT_IVL, &retry, sizeof retry);
    zmq_setsockopt(live->socket, ZMQ_RECONNECT_IVL_MAX, &retry_most, sizeof retry_most);
    zmq_setsockopt(live->socket, ZMQ_SUBSCRIBE, "", 0);
    if (zmq_connect(live->socket, endpoint))
        return err_set(err, "subscribing at %s: %s", endpoint, zmq_strerror(errno));
    int fd;
    size_t size = sizeof fd;
    zmq_getsockopt(live->socket, ZMQ_FD, &fd, &size);
    fd = dup(fd);                        /* the watch closes its own */
    if (fd < 0)
        return err_errno(err, "watching the SUB socket");
    static const fd_handler_t handler = {.readable = receive_some};
    live->watch = fd_watch_new(live->facade, fd, &handler, live);
    if (!live->watch)
        return err_set(err, "the SUB socket cannot be watched");
    facade_timer_set(live->facade, &live->more, 0, receive_some, live);
    return 0;
}

/* Twice: a question may go out on the new connection before ZeroMQ repeats the other subscriptions there; the first answer shows that
 * it has. */
static void ask_broadcast(live_t *live) {
    live->again = true;
    ask(live);
    wait_for_it(live);
    facade_timer_set(live->facade, &live->more, 0, receive_some, live);      /* what the calls may have taken in unnoticed */
}

static const json_t *find_broadcast(const json_t *status) {
    const json_t *stage;
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, stage) {
        const char *role = json_string_value(json_object_get(stage, "role"));
        if (role && strcmp(role, "broadcast") == 0)
            return stage;
    }
    return NULL;
}

void live_follow(live_t *live, const json_t *status) {
    if (!live)
        return;
    const json_t *broadcast = find_broadcast(status);
    const char *state = json_string_value(json_object_get(broadcast, "state"));
    json_int_t pid = json_integer_value(json_object_get(broadcast, "pid"));
    if (state && strcmp(state, "starting") == 0) {
        if (!live->waiting)
            wait_for_it(live);
    } else if (!state || strcmp(state, "running") != 0) {
        stands(live);
    } else if (pid != live->asked) {
        live->asked = pid;
        ask_broadcast(live);
    }
}

bool live_stands(const live_t *live) {
    return !live || !live->waiting;
}

live_t *live_new(facade_t *facade, err_t *err) {
    live_t *live = mem_zero(sizeof *live);
    live->facade = facade;
    live->by_name = map_new();
    if (subscribe(live, err)) {
        live_free(live);
        return NULL;
    }
    wait_for_it(live);
    return live;
}

void live_measure(live_t *live, double seconds) {
    for (unsigned i = 0; i < live->count; i++) {
        live_stream_t *stream = live->streams[i];
        uint64_t now = ring_serial(stream->ring);
        stream->rate = (double) (now - stream->measured) / seconds;
        stream->measured = now;
    }
}

void live_free(live_t *live) {
    if (!live)
        return;
    fd_watch_end(live->watch);
    facade_timer_cancel(&live->more);
    facade_timer_cancel(&live->forward);
    facade_timer_cancel(&live->patience);
    if (live->socket)
        zmq_close(live->socket);
    for (unsigned i = 0; i < live->count; i++) {
        ring_free(live->streams[i]->ring);
        mem_free(live->streams[i]);
    }
    mem_free(live->streams);
    map_free(live->by_name);
    mem_free(live);
}
