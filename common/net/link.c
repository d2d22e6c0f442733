/* Links' front: takes endpoints apart, picks the engine by one table, and passes calls on. Also the process's ZeroMQ context. */
#include "net/link.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/link_engine.h"

static const link_engine_t *const engines[] = {
    &link_text_engine, &link_null_engine, &link_ipc_engine, &link_tcp_engine,
    &link_pub_ipc_engine, &link_pub_tcp_engine, &link_sub_ipc_engine, &link_sub_tcp_engine,
};
#define ENGINES (sizeof engines / sizeof *engines)

/* ---- endpoints ---- */

static const option_t no_options[] = {{NULL}};

static const link_engine_t *engine_find(const char *address) {
    size_t size = strcspn(address, "?");
    for (size_t i = 0; i < ENGINES; i++) {
        const link_engine_t *engine = engines[i];
        if (engine->whole ? size == strlen(engine->prefix) && text_starts(address, engine->prefix) : text_starts(address, engine->prefix))
            return engine;
    }
    return NULL;
}

static int unknown_engine(const char *text, err_t *err) {
    char known[256] = "";
    for (size_t i = 0; i < ENGINES; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", engines[i]->prefix);
    }
    return err_set(err, "%s: not a link; a link is one of %s, with @ before it to bind and > to connect", text, known);
}

static const option_t *engine_options(const link_engine_t *engine, bool sender) {
    const option_t *options = sender ? engine->sender_options : engine->receiver_options;
    return options ? options : no_options;
}

static void endpoint_fini(const link_engine_t *engine, link_endpoint_t *endpoint, bool sender) {
    option_fini(engine_options(engine, sender), endpoint);
    mem_free(endpoint->address);
}

/* Returns the engine with *endpoint filled in, or NULL. */
static const link_engine_t *endpoint_parse(link_endpoint_t *endpoint, const char *text, bool sender, err_t *err) {
    *endpoint = (link_endpoint_t){.text = text, .partition = -1, .partitions = 1};
    const char *rest = text;
    if (*rest == '@' || *rest == '>')
        endpoint->side = *rest++;
    const link_engine_t *engine = engine_find(rest);
    if (!engine) {
        unknown_engine(text, err);
        return NULL;
    }
    if (sender ? !engine->sender_open : !engine->receiver_open) {
        err_set(err, "%s: %s only %s", text, engine->prefix, sender ? "receives; it belongs after --from" : "sends; it belongs after --to");
        return NULL;
    }
    if (engine->whole && endpoint->side) {
        err_set(err, "%s: %s is not a ZeroMQ endpoint, so there is nothing to %s; leave the %c out", text, engine->prefix,
                endpoint->side == '@' ? "bind" : "connect", endpoint->side);
        return NULL;
    }
    option_defaults(engine_options(engine, sender), endpoint);
    if (option_from_query(engine_options(engine, sender), endpoint, rest, &endpoint->address, NULL, err) != 0 ||
        (engine->check && engine->check(endpoint, sender, err) != 0)) {
        endpoint_fini(engine, endpoint, sender);
        return NULL;
    }
    return engine;
}

int link_check(const char *text, bool sender, err_t *err) {
    link_endpoint_t endpoint;
    const link_engine_t *engine = endpoint_parse(&endpoint, text, sender, err);
    if (!engine)
        return -1;
    endpoint_fini(engine, &endpoint, sender);
    return 0;
}

/* ---- senders ---- */

/* Sockets, their monitors and first connections of each partition, and what the library needs for itself. */
static int have_room(const link_endpoint_t *endpoint, err_t *err) {
    unsigned lanes = endpoint->partitions > 1 ? (unsigned) endpoint->partitions : 1;
    return descriptors_room(16 + 8 * lanes, err) ? err_wrap(err, "%s", endpoint->text) : 0;
}

int link_sender_open(link_sender_t **sender, loop_t *loop, const char *text, const link_sender_setup_t *setup, err_t *err) {
    link_endpoint_t endpoint;
    const link_engine_t *engine = endpoint_parse(&endpoint, text, true, err);
    if (!engine)
        return -1;
    link_sender_setup_t full = *setup;
    if (!full.window)
        full.window = LINK_WINDOW_DEFAULT;
    if (!full.frame_max)
        full.frame_max = FRAME_MAX_DEFAULT;
    int result = have_room(&endpoint, err) ? -1 : engine->sender_open(sender, loop, &endpoint, &full, err);
    endpoint_fini(engine, &endpoint, true);
    return result;
}

void link_sender_init(link_sender_t *sender, const link_sender_class_t *class, loop_t *loop, const link_endpoint_t *endpoint,
                      const link_sender_setup_t *setup) {
    sender->class = class;
    sender->loop = loop;
    sender->endpoint = mem_text(endpoint->text);
    sender->setup = *setup;
    sender->setup.name = mem_text(setup->name);
    sender->setup.origin = mem_text(setup->spool ? spool_identity(setup->spool)->origin : setup->origin);
    sender->stats.window = setup->window;
    if (setup->spool) {
        sender->setup.epoch = spool_identity(setup->spool)->epoch;
        sender->ticket = spool_written(setup->spool);
    }
}

void link_sender_fini(link_sender_t *sender) {
    mem_free(sender->endpoint);
    mem_free((char *) sender->setup.name);
    mem_free((char *) sender->setup.origin);
}

bool link_sender_room(const link_sender_t *sender) {
    return sender->class->room(sender);
}

uint64_t link_sender_send(link_sender_t *sender, frame_t *frame) {
    ASSERT(!sender->done && !sender->setup.spool);
    sender->ticket++;
    if (frame->body_size <= sender->setup.frame_max)
        sender->class->send(sender, frame, sender->ticket);
    else {
        sender->stats.dropped_frames++;
        sender->stats.dropped_events += frame->events;
        if (sender->setup.dropped)
            sender->setup.dropped(sender->setup.argument, frame->events, "the frame is larger than a link takes");
    }
    return sender->ticket;
}

void link_sender_written(link_sender_t *sender, frame_t *frame, uint64_t number) {
    uint64_t written = spool_written(sender->setup.spool);
    if (frame && number > written)
        frame = NULL;
    sender->ticket = frame && number > sender->ticket ? number : frame ? sender->ticket : written;
    sender->class->written(sender, frame, number);
}

void link_sender_stable(link_sender_t *sender, uint64_t number) {
    if (number <= sender->stable)
        return;
    sender->stable = number;
    if (sender->class->news)
        sender->class->news(sender);
}

bool link_sender_quiet(const link_sender_t *sender) {
    return sender->class->quiet ? sender->class->quiet(sender) : sender->class->durable(sender) >= sender->ticket;
}

uint64_t link_sender_sent(const link_sender_t *sender) {
    return sender->ticket;
}

uint64_t link_sender_durable(const link_sender_t *sender) {
    return sender->class->durable(sender);
}

void link_sender_finish(link_sender_t *sender, const char *topic, void (*done)(void *argument), void *argument) {
    ASSERT(!sender->done);
    sender->done = done;
    sender->done_argument = argument;
    frame_t *end = sender->setup.spool ? NULL : frame_new_end(topic);
    sender->ticket += end != NULL;
    sender->class->finish(sender, end, sender->ticket);
    frame_unref(end);
}

void link_sender_finished(link_sender_t *sender) {
    void (*done)(void *argument) = sender->done;
    sender->done = NULL;
    if (done)
        done(sender->done_argument);
}

void link_sender_part(link_sender_t *sender) {
    if (sender->class->part)
        sender->class->part(sender);
}

bool link_sender_taken(link_sender_t *sender, uint64_t epoch, uint64_t number) {
    const spool_t *spool = sender->setup.spool;
    if (number != spool_number(spool) || spool_common(spool, epoch) < number)
        return false;
    if (sender->class->taken)
        sender->class->taken(sender);
    return true;
}

const link_stats_t *link_sender_stats(const link_sender_t *sender) {
    return &sender->stats;
}

const char *link_sender_endpoint(const link_sender_t *sender) {
    return sender->endpoint;
}

void link_sender_free(link_sender_t *sender) {
    if (sender)
        sender->class->free(sender);
}

/* ---- receivers ---- */

int link_receiver_open(link_receiver_t **receiver, loop_t *loop, const char *text, const link_receiver_setup_t *setup, err_t *err) {
    link_endpoint_t endpoint;
    const link_engine_t *engine = endpoint_parse(&endpoint, text, false, err);
    if (!engine)
        return -1;
    link_receiver_setup_t full = *setup;
    if (!full.batch_events)
        full.batch_events = 1000;
    if (!full.frame_max)
        full.frame_max = FRAME_MAX_DEFAULT;
    int result = have_room(&endpoint, err) ? -1 : engine->receiver_open(receiver, loop, &endpoint, &full, err);
    endpoint_fini(engine, &endpoint, false);
    return result;
}

void link_receiver_init(link_receiver_t *receiver, const link_receiver_class_t *class, loop_t *loop, const link_endpoint_t *endpoint,
                        const link_receiver_setup_t *setup) {
    receiver->class = class;
    receiver->loop = loop;
    receiver->endpoint = mem_text(endpoint->text);
    receiver->setup = *setup;
    receiver->setup.name = mem_text(setup->name);
}

void link_receiver_fini(link_receiver_t *receiver) {
    mem_free(receiver->endpoint);
    mem_free((char *) receiver->setup.name);
}

void link_receiver_fail(link_receiver_t *receiver, const char *format, ...) {
    if (receiver->failed)
        return;
    receiver->failed = true;
    err_t err;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(err.text, sizeof err.text, format, arguments);
    va_end(arguments);
    if (receiver->setup.failed)
        receiver->setup.failed(receiver->setup.argument, err.text);
}

void link_receiver_malformed(link_receiver_t *receiver, const char *reason) {
    static log_limit_t limit;
    receiver->stats.malformed++;
    if (log_limited(&limit))
        log_warning("%s: a frame is malformed and dropped: %s (%llu such so far)", receiver->endpoint, reason,
                    (unsigned long long) receiver->stats.malformed);
}

void link_receiver_durable(link_receiver_t *receiver, const frame_t *frame) {
    if (receiver->class->durable)
        receiver->class->durable(receiver, frame);
}

void link_receiver_restore(link_receiver_t *receiver, const char *origin, uint64_t epoch, uint64_t sequence, bool ended) {
    if (receiver->class->restore)
        receiver->class->restore(receiver, origin, epoch, sequence, ended);
}

void link_receiver_want(link_receiver_t *receiver) {
    if (receiver->class->want)
        receiver->class->want(receiver);
}

void link_receiver_pause(link_receiver_t *receiver) {
    if (receiver->paused)
        return;
    receiver->paused = true;
    receiver->class->pause(receiver, true);
}

void link_receiver_resume(link_receiver_t *receiver) {
    if (!receiver->paused)
        return;
    receiver->paused = false;
    receiver->class->pause(receiver, false);
}

void link_receiver_part(link_receiver_t *receiver, void (*parted)(void *argument), void *argument) {
    receiver->parted = parted;
    receiver->parted_argument = argument;
    if (receiver->class->part)
        receiver->class->part(receiver);
    else
        link_receiver_parted(receiver);
}

void link_receiver_part_soon(link_receiver_t *receiver) {
    receiver->part_soon = true;
}

void link_receiver_parted(link_receiver_t *receiver) {
    void (*parted)(void *argument) = receiver->parted;
    receiver->parted = NULL;
    if (parted)
        parted(receiver->parted_argument);
}

bool link_receiver_ended(const link_receiver_t *receiver) {
    return receiver->class->ended(receiver);
}

bool link_receiver_replaced(const link_receiver_t *receiver, const char *origin) {
    return receiver->class->replaced && receiver->class->replaced(receiver, origin);
}

bool link_receiver_over(const link_receiver_t *receiver) {
    return receiver->class->over ? receiver->class->over(receiver) : receiver->class->ended(receiver);
}

const link_stats_t *link_receiver_stats(const link_receiver_t *receiver) {
    return &receiver->stats;
}

const char *link_receiver_endpoint(const link_receiver_t *receiver) {
    return receiver->endpoint;
}

void link_receiver_free(link_receiver_t *receiver) {
    if (receiver)
        receiver->class->free(receiver);
}

/* ---- the context ---- */

#define SHUTDOWN_SECONDS 5

static void *context;

void *link_context(void) {
    if (!context) {
        context = zmq_ctx_new();
        ASSERT(context && zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 4096) == 0);
    }
    return context;
}

static void *end_context(void *ended) {
    while (zmq_ctx_term(ended) != 0 && zmq_errno() == EINTR)
        ;
    return NULL;
}

/* ZeroMQ waits for sockets that linger, each at most the time it was given; now and then it fails to notice the end of one whose
 * peer keeps breaking the connection. A process that is about to exit does not wait for that. */
void link_shutdown(void) {
    pthread_t thread;
    struct timespec limit;
    if (!context)
        return;
    ASSERT(pthread_create(&thread, NULL, end_context, context) == 0);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += SHUTDOWN_SECONDS;
    if (pthread_timedjoin_np(thread, NULL, &limit) != 0) {
        log_debug("ZeroMQ's context did not end within %d s and is left behind", SHUTDOWN_SECONDS);
        pthread_detach(thread);
    }
    context = NULL;
}
