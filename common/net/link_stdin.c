/* The receiver behind "-": text, or frames as msgpack, from standard input. One frame is cut per chunk that was read (no more input
 * is at hand then), when it is full, or when the next event is another stream's: so events keep their order. Pipes are read as they become ready; a regular file a chunk per round of the loop. While
 * paused nothing is read, so at most one chunk waits here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "net/link_engine.h"
#include "net/link_stream.h"

#define CHUNK (256 * 1024)
#define BODY_FULL (192 * 1024)            /* a frame is cut at this size too */
#define READ_SPARE 64                     /* decoders may look this far beyond the text */

typedef struct stdin_link {
    link_receiver_t base;
    loop_watch_t *watch;                  /* NULL: a regular file, read by deferred calls */
    bool ended, input_ended;
    buf_t in;
    size_t taken;                         /* bytes of `in` that are done with */
    decoder_t *decoder;                   /* NULL: frames as msgpack */
    decode_target_t target;
    bool remarked;                        /* on what the text is */
    frame_builder_t builder;              /* the open frame */
    char topic[FRAME_TOPIC_MAX + 1];      /* and its stream */
    bool mixed;                           /* this chunk has had several streams */
    struct {
        int64_t greatest, ingest_time;    /* of the builder before the present event, which may turn out to be another stream's */
        bool data_time;
    } before;
    buf_t moved;
    int64_t greatest, complete;           /* event time of all frames; of the chunks that are done with */
    uint64_t sequence;
    frame_t *last;                        /* an end that came as a frame: held back, as it may be the end of all */
    bool stopped;                         /* paused or failed inside a callback: leave */
} stdin_link_t;

static void work(void *argument);

static void schedule(stdin_link_t *link) {
    loop_defer(link->base.loop, work, link);
}

/* ---- text ---- */

static void deliver(stdin_link_t *link, frame_t *frame) {
    link->base.stats.frames++;
    link->base.stats.events += frame->events;
    link->base.stats.bytes += frame->body_size;
    link->base.setup.frame(link->base.setup.argument, &link->base, frame);
    frame_unref(frame);
}

/* Streams that were read together may be apart in time, as files that stand one behind the other: event time moves with the last frame of them. */
static void cut(stdin_link_t *link, bool last) {
    frame_builder_t *builder = &link->builder;
    if (!builder->events)
        return;
    if (builder->greatest > link->greatest)
        link->greatest = builder->greatest;
    if (last)
        link->complete = link->greatest;
    frame_t *frame = builder_take(builder, link->topic);
    if (!last)
        frame->watermark = link->complete;
    frame->epoch = 1;
    frame->sequence = frame->lowest = ++link->sequence;
    deliver(link, frame);
}

static void note_before(stdin_link_t *link) {
    link->before.greatest = link->builder.greatest;
    link->before.ingest_time = link->builder.ingest_time;
    link->before.data_time = link->builder.data_time;
}

static uint32_t big_endian(const uint8_t *at) {
    return (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 | (uint32_t) at[2] << 8 | at[3];
}

static int64_t event_time(const uint8_t *entry) {
    return (int64_t) big_endian(entry + 3) * NS_PER_S + big_endian(entry + 7);
}

/* Takes the event that was just committed out of the open frame. */
static void take_back(stdin_link_t *link) {
    frame_builder_t *builder = &link->builder;
    builder->body.size = builder->start;
    builder->lengths.size -= 4;
    builder->events--;
    builder->greatest = link->before.greatest;
    builder->ingest_time = link->before.ingest_time;
    builder->data_time = link->before.data_time;
}

/* The event that was just committed is of another stream than those before it: they leave first. */
static void change_stream(stdin_link_t *link, const char *topic) {
    frame_builder_t *builder = &link->builder;
    if (builder->events > 1) {
        bool data_time = builder->data_time;
        buf_clear(&link->moved);
        buf_put(&link->moved, builder->body.data + builder->start, builder->body.size - builder->start);
        take_back(link);
        cut(link, false);
        event_t event = {.time = event_time(link->moved.data), .bytes = link->moved.data, .size = (uint32_t) link->moved.size};
        builder_add(builder, &event, link->target.ingest_time);
        builder->data_time = builder->data_time || data_time;
        link->mixed = true;
    }
    snprintf(link->topic, sizeof link->topic, "%s", topic);
}

static bool full(const stdin_link_t *link) {
    return link->builder.events >= link->base.setup.batch_events || link->builder.body.size >= BODY_FULL;
}

static bool committed(void *argument) {
    stdin_link_t *link = argument;
    const char *topic = link->target.topic ? link->target.topic : link->base.setup.name;
    if (strcmp(topic, link->topic) != 0) {
        if (link->target.topic && !frame_topic_valid(topic, strlen(topic))) {
            take_back(link);
            if (link->base.setup.bad)
                link->base.setup.bad(link->base.setup.argument, text_of(topic), link->decoder->records, "@stream is not a stream's name");
            return link->base.paused;
        }
        change_stream(link, topic);
    }
    if (full(link) && !link->base.paused)
        cut(link, !link->mixed);
    note_before(link);
    return link->base.paused;
}

static void bad(void *argument, text_t record, uint64_t number, const char *reason) {
    stdin_link_t *link = argument;
    if (link->base.setup.bad)
        link->base.setup.bad(link->base.setup.argument, record, number, reason);
}

static void on_remark(void *argument, uint64_t number, const char *text) {
    stdin_link_t *link = argument;
    if (!link->remarked)
        log_warning("standard input:%llu: %s", (unsigned long long) number, text);
    link->remarked = true;
}

static void decode_text(stdin_link_t *link) {
    link->target.ingest_time = clock_now();
    size_t size = link->in.size - link->taken;
    link->taken += decoder_feed(link->decoder, (const char *) link->in.data + link->taken, size, link->input_ended, &link->target);
    if (link->base.paused)
        return;
    cut(link, true);
    link->mixed = false;
    note_before(link);
}

/* ---- frames ---- */

static void deliver_last(stdin_link_t *link) {
    frame_t *last = link->last;
    link->last = NULL;
    if (last)
        deliver(link, last);
}

/* Takes whole frames off the input. A byte stream that is malformed cannot be picked up again. */
static void decode_frames(stdin_link_t *link) {
    size_t max = link->base.setup.frame_max;
    while (!link->base.paused && link->taken < link->in.size) {
        err_t err;
        frame_t *frame = NULL;
        ssize_t size = link_stream_read(link->in.data + link->taken, link->in.size - link->taken, max, &frame, &err);
        if (size == 0)
            return;
        if (size < 0) {
            link_receiver_fail(&link->base, "standard input, frame %llu: %s. A malformed stream of frames cannot be picked up again",
                               (unsigned long long) link->sequence + 1, err.text);
            return;
        }
        link->sequence++;
        link->taken += (size_t) size;
        if (!frame) {
            link_receiver_malformed(&link->base, err.text);
            continue;
        }
        deliver_last(link);
        if (frame->end)
            link->last = frame;
        else
            deliver(link, frame);
    }
}

/* ---- reading ---- */

static void finish(stdin_link_t *link) {
    if (!link->decoder && link->taken < link->in.size) {
        link_receiver_fail(&link->base, "standard input ends in the middle of frame %llu", (unsigned long long) link->sequence + 1);
        return;
    }
    link->ended = true;
    loop_remove(link->watch);
    link->watch = NULL;
    if (link->last) {
        deliver_last(link);
        return;
    }
    frame_t *end = frame_new_end(link->base.setup.name);
    end->epoch = 1;
    end->sequence = end->lowest = ++link->sequence;
    deliver(link, end);
}

static bool unfinished(const stdin_link_t *link) {
    return link->taken < link->in.size;
}

/* Decodes what is at hand; at the end of input goes on to the end frame. */
static void decode(stdin_link_t *link) {
    if (link->decoder)
        decode_text(link);
    else
        decode_frames(link);
    if (link->base.failed)
        return;
    buf_consume(&link->in, link->taken);
    link->taken = 0;
    if (link->input_ended && !link->base.paused && (!link->decoder || !unfinished(link)))
        finish(link);
    else if (link->input_ended && !link->base.paused)
        schedule(link);
}

static void read_input(stdin_link_t *link) {
    uint8_t *to = buf_reserve(&link->in, CHUNK + READ_SPARE);
    ssize_t n = read(STDIN_FILENO, to, CHUNK);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        if (!link->watch)
            schedule(link);
        return;
    }
    if (n < 0) {
        err_t err;
        err_errno(&err, "read standard input");
        link_receiver_fail(&link->base, "%s", err.text);
        return;
    }
    link->in.size += (size_t) n;
    link->input_ended = n == 0;
    decode(link);
}

/* One turn: what was left over from a pause first, then (a regular file) the next chunk. */
static void work(void *argument) {
    stdin_link_t *link = argument;
    if (link->base.paused || link->base.failed || link->ended)
        return;
    if (link->input_ended) {
        decode(link);
        return;
    }
    if (link->stopped) {
        link->stopped = false;
        decode(link);
        if (link->base.paused || link->base.failed)
            return;
        if (link->watch) {
            loop_fd_events(link->watch, EPOLLIN);
            return;
        }
    }
    if (!link->watch) {
        read_input(link);
        schedule(link);
    }
}

static void on_readable(void *argument, uint32_t events) {
    stdin_link_t *link = argument;
    if (link->base.failed)
        loop_fd_events(link->watch, 0);
    else if (!link->base.paused)
        read_input(link);
}

/* ---- the receiver ---- */

static void stdin_pause(link_receiver_t *receiver, bool paused) {
    stdin_link_t *link = (stdin_link_t *) receiver;
    link->stopped = true;
    if (link->ended || receiver->failed)
        return;
    if (paused && link->watch)
        loop_fd_events(link->watch, 0);
    if (!paused)
        schedule(link);
}

static bool stdin_ended(const link_receiver_t *receiver) {
    return ((const stdin_link_t *) receiver)->ended;
}

static void stdin_free(link_receiver_t *receiver) {
    stdin_link_t *link = (stdin_link_t *) receiver;
    loop_undefer(receiver->loop, work, link);
    loop_remove(link->watch);
    decoder_free(link->decoder);
    builder_fini(&link->builder);
    frame_unref(link->last);
    buf_fini(&link->moved);
    buf_fini(&link->in);
    link_receiver_fini(receiver);
    mem_free(link);
}

static const link_receiver_class_t stdin_class = {NULL, stdin_pause, stdin_ended, NULL, stdin_free};

int link_stdin_open(link_receiver_t **receiver, loop_t *loop, const link_endpoint_t *endpoint, const link_receiver_setup_t *setup, err_t *err) {
    static const format_settings_t plain = {.record_limit = 1024 * 1024};
    decoder_t *decoder = NULL;
    if (endpoint->format == LINK_TEXT_NDJSON &&
        format_find("ndjson")->decoder_open(&decoder, setup->format ? setup->format : &plain, err) != 0)
        return -1;
    stdin_link_t *link = mem_zero(sizeof *link);
    link_receiver_init(&link->base, &stdin_class, loop, endpoint, setup);
    link->decoder = decoder;
    snprintf(link->topic, sizeof link->topic, "%s", link->base.setup.name);
    link->target = (decode_target_t){.builder = &link->builder, .committed = committed, .bad = bad, .remark = on_remark, .argument = link};
    link->base.stats.peers = 1;
    link->watch = loop_fd(loop, STDIN_FILENO, EPOLLIN, on_readable, link);
    if (!link->watch && errno != EPERM) {
        err_errno(err, "watch standard input");
        stdin_free(&link->base);
        return -1;
    }
    if (!link->watch)
        schedule(link);
    *receiver = &link->base;
    return 0;
}
