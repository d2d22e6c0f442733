/* null: takes every frame and forgets it; for measuring what stands before it, and for stages that are run for their side effects. */
#include "base/memory.h"
#include "net/link_engine.h"

static bool null_room(const link_sender_t *sender) {
    return true;
}

static void null_durable_later(void *argument) {
    link_sender_t *sender = argument;
    if (sender->setup.durable)
        sender->setup.durable(sender->setup.argument);
}

static void null_send(link_sender_t *sender, frame_t *frame, uint64_t ticket) {
    sender->stats.frames++;
    sender->stats.events += frame->events;
    sender->stats.bytes += frame->body_size;
    loop_defer(sender->loop, null_durable_later, sender);
}

/* In a spool of which others are sent, nothing is read for us. */
static void null_written(link_sender_t *sender, frame_t *frame, uint64_t number) {
    if (frame)
        null_send(sender, frame, number);
    loop_defer(sender->loop, null_durable_later, sender);
}

static uint64_t null_durable(const link_sender_t *sender) {
    return sender->ticket;
}

static void null_done_later(void *argument) {
    link_sender_finished(argument);
}

static void null_finish(link_sender_t *sender, frame_t *end, uint64_t ticket) {
    loop_defer(sender->loop, null_done_later, sender);
}

static void null_free(link_sender_t *sender) {
    loop_undefer(sender->loop, null_durable_later, sender);
    loop_undefer(sender->loop, null_done_later, sender);
    link_sender_fini(sender);
    mem_free(sender);
}

static const link_sender_class_t null_class = {
    .room = null_room, .send = null_send, .durable = null_durable, .finish = null_finish, .free = null_free, .written = null_written,
};

static int null_open(link_sender_t **sender, loop_t *loop, const link_endpoint_t *endpoint, const link_sender_setup_t *setup, err_t *err) {
    link_sender_t *made = mem_zero(sizeof *made);
    link_sender_init(made, &null_class, loop, endpoint, setup);
    *sender = made;
    return 0;
}

const link_engine_t link_null_engine = {.prefix = "null:", .whole = true, .sender_open = null_open};
