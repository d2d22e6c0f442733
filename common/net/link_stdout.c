/* The sender behind "-": frames as text, or as msgpack, on standard output. Frames wait in a queue and are encoded only as the
 * reader keeps up, so that memory stays bounded and a drop policy can still choose. Nothing here blocks the loop, except a
 * disk. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "net/link_engine.h"
#include "net/link_feed.h"
#include "net/link_queue.h"

#define WRITE_AHEAD (128 * 1024)          /* encoded and not yet written: no more is encoded above this */
#define TEXT_WINDOW (1024 * 1024)
#define PIPE_SIZE (256 * 1024)

/* How to write without blocking, by what standard output is. */
typedef enum out_kind { OUT_NONBLOCK, OUT_SOCKET, OUT_DIRECT, OUT_SMALL } out_kind_t;

typedef struct stdout_link {
    link_sender_t base;
    int fd;                               /* 1, or our own description of the same pipe or terminal */
    out_kind_t kind;
    loop_watch_t *watch;                  /* NULL: a file, always ready */
    encoder_t *encoder;                   /* NULL: frames as msgpack */
    link_queue_t queue;
    link_feed_t feed;                     /* with a spool: from its oldest frame on; goes into the queue as there is room */
    uint64_t window;
    bool full, failed, waiting;           /* waiting: EPOLLOUT is awaited */
    buf_t out;
    size_t written;                       /* of out */
    uint64_t encoded_ticket, durable, sequence;
    bool ending;                          /* what is queued is the last */
} stdout_link_t;

static void pump(void *argument);

static void stdout_fail(stdout_link_t *link, bool left, const char *reason) {
    const link_sender_setup_t *setup = &link->base.setup;
    if (link->failed)
        return;
    link->failed = true;
    loop_remove(link->watch);
    link->watch = NULL;
    if (left && setup->left)
        setup->left(setup->argument, reason);
    else if (setup->failed)
        setup->failed(setup->argument, reason);
}

/* ---- encoding ---- */

static void encode_packed(stdout_link_t *link, const frame_t *frame) {
    buf_t *out = &link->out;
    uint64_t sequence = ++link->sequence;
    frame_number_t number = {.origin = link->base.setup.origin ? link->base.setup.origin : "-", .epoch = link->base.setup.epoch,
                             .sequence = sequence, .lowest = sequence};
    pack_array(out, 3);
    pack_text(out, frame->topic);
    frame_put_header(out, frame, &number);
    pack_binary(out, frame->body, frame->body_size);
}

static void encode(stdout_link_t *link, const frame_t *frame) {
    if (!link->encoder) {
        encode_packed(link, frame);
        return;
    }
    const char *name = link->base.setup.name;
    bool other = name && strcmp(name, frame->topic) != 0;
    uint32_t bad = link->encoder->class->frame(link->encoder, frame, other ? frame->topic : NULL, &link->out);
    static log_limit_t limit;
    if (bad && log_limited(&limit))
        log_warning("%s: %u events of stream %s are malformed and were not written", link->base.endpoint, bad, frame->topic);
}

static void encode_next(stdout_link_t *link) {
    link_entry_t *entry = link_queue_at(&link->queue, 0);
    encode(link, entry->frame);
    link->encoded_ticket = entry->ticket;
    link->base.stats.frames++;
    link->base.stats.events += entry->frame->events;
    link->base.stats.bytes += entry->frame->body_size;
    link_queue_pop(&link->queue);
}

/* ---- writing ---- */

/* 1: all that was encoded is written; 0: it would block; -1: it failed. */
static int write_out(stdout_link_t *link) {
    while (link->written < link->out.size) {
        const uint8_t *at = link->out.data + link->written;
        size_t size = link->out.size - link->written;
        ssize_t n;
        if (link->kind == OUT_SOCKET)
            n = send(link->fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        else if (link->kind == OUT_SMALL)     /* a ready pipe takes this much whole */
            n = write(link->fd, at, size > 4096 ? 4096 : size);
        else
            n = write(link->fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0) {
            err_t err;
            bool left = errno == EPIPE || errno == ECONNRESET;
            if (left)
                err_set(&err, "standard output was closed");
            else
                err_errno(&err, "write to standard output");
            stdout_fail(link, left, err.text);
            return -1;
        }
        link->written += (size_t) n;
        if (link->kind == OUT_SMALL)
            break;
    }
    if (link->written < link->out.size)
        return 0;
    buf_clear(&link->out);
    link->written = 0;
    return 1;
}

static void update_stats(stdout_link_t *link) {
    link->base.stats.outstanding_frames = link->queue.count;
    link->base.stats.outstanding_bytes = link->queue.bytes + (link->out.size - link->written);
}

static void wait_writable(stdout_link_t *link, bool waiting) {
    if (link->waiting == waiting || !link->watch)
        return;
    link->waiting = waiting;
    loop_fd_events(link->watch, waiting ? EPOLLOUT : 0);
}

static void announce(stdout_link_t *link) {
    if (link->full && (link->feed.spool ? !link_feed_behind(&link->feed, true) : link->queue.bytes <= link->window / 2)) {
        link->full = false;
        if (link->base.setup.room)
            link->base.setup.room(link->base.setup.argument);
    }
}

static void refill(stdout_link_t *link) {
    frame_t *frame;
    uint64_t number;
    bool direct;
    while (link->feed.spool && link->queue.bytes < link->window &&
           link_feed_take(&link->feed, true, &frame, &number, &direct) == LINK_FEED_FRAME) {
        link_queue_push(&link->queue, frame, number);
        frame_unref(frame);
    }
}

static uint64_t written_ticket(const stdout_link_t *link) {
    if (link->feed.spool)
        return link->encoded_ticket > link->durable ? link->encoded_ticket : link->durable;
    return link->queue.count ? link->encoded_ticket : link->base.ticket;      /* dropped ones included */
}

/* Encodes and writes as much as goes without blocking, a bounded amount per round for files. */
static void pump(void *argument) {
    stdout_link_t *link = argument;
    if (link->failed)
        return;
    int clear;
    size_t budget = 16 * WRITE_AHEAD;
    refill(link);
    do {
        while (link->queue.count && link->out.size < WRITE_AHEAD)
            encode_next(link);
        budget -= link->out.size < budget ? link->out.size : budget;
        clear = write_out(link);
        refill(link);
    } while (clear == 1 && link->queue.count && budget);
    update_stats(link);
    if (clear < 0)
        return;
    wait_writable(link, clear == 0);
    if (clear == 1 && link->queue.count)
        loop_defer(link->base.loop, pump, link);
    uint64_t durable = written_ticket(link);
    if (clear == 1 && link->durable != durable) {
        link->durable = durable;
        if (link->base.setup.durable)
            link->base.setup.durable(link->base.setup.argument);
    }
    announce(link);
    if (link->ending && clear == 1 && !link->queue.count)
        link_sender_finished(&link->base);
}

static void on_writable(void *argument, uint32_t events) {
    pump(argument);
}

/* ---- the sender ---- */

static bool stdout_room(const link_sender_t *sender) {
    return !((const stdout_link_t *) sender)->full;
}

static void drop(stdout_link_t *link, uint32_t events) {
    link->base.stats.dropped_frames++;
    link->base.stats.dropped_events += events;
    if (link->base.setup.dropped)
        link->base.setup.dropped(link->base.setup.argument, events, "the reader of standard output is too slow");
}

static void stdout_send(link_sender_t *sender, frame_t *frame, uint64_t ticket) {
    stdout_link_t *link = (stdout_link_t *) sender;
    if (link->failed)
        return;
    if (link->full && sender->setup.full == LINK_DROP_NEWEST) {
        drop(link, frame->events);
        return;
    }
    while (link->full && sender->setup.full == LINK_DROP_OLDEST && link->queue.bytes >= link->window) {
        uint32_t events = link_queue_at(&link->queue, 0)->frame->events;
        link_queue_pop(&link->queue);
        drop(link, events);
    }
    link_queue_push(&link->queue, frame, ticket);
    link->full = link->full || link->queue.bytes >= link->window;
    update_stats(link);
    if (!link->waiting)
        loop_defer(sender->loop, pump, link);   /* one write for all frames of a round */
}

static void stdout_written(link_sender_t *sender, frame_t *frame, uint64_t number) {
    stdout_link_t *link = (stdout_link_t *) sender;
    if (link->failed)
        return;
    link_feed_written(&link->feed, frame, number);
    refill(link);
    link->full = link_feed_behind(&link->feed, link->full);
    update_stats(link);
    if (!link->waiting)
        loop_defer(sender->loop, pump, link);
}

static uint64_t stdout_durable(const link_sender_t *sender) {
    return ((const stdout_link_t *) sender)->durable;
}

/* Text ends with the file; frames as msgpack carry the end mark. */
static void stdout_finish(link_sender_t *sender, frame_t *end, uint64_t ticket) {
    stdout_link_t *link = (stdout_link_t *) sender;
    if (!link->encoder && end)
        link_queue_push(&link->queue, end, ticket);
    link->ending = true;
    if (!link->waiting)
        loop_defer(sender->loop, pump, link);
}

static void stdout_free(link_sender_t *sender) {
    stdout_link_t *link = (stdout_link_t *) sender;
    loop_undefer(sender->loop, pump, link);
    loop_remove(link->watch);
    if (link->fd != STDOUT_FILENO)
        close(link->fd);
    encoder_free(link->encoder);
    link_queue_fini(&link->queue);
    link_feed_fini(&link->feed);
    buf_fini(&link->out);
    link_sender_fini(sender);
    mem_free(link);
}

static const link_sender_class_t stdout_class = {
    .room = stdout_room, .send = stdout_send, .durable = stdout_durable, .finish = stdout_finish, .free = stdout_free, .written = stdout_written,
};

/* A pipe's or terminal's O_NONBLOCK belongs to the description that other processes share, so we make our own. */
static int open_descriptor(stdout_link_t *link, err_t *err) {
    struct stat status;
    link->fd = STDOUT_FILENO;
    link->kind = OUT_DIRECT;
    if (fstat(STDOUT_FILENO, &status) != 0)
        return err_errno(err, "standard output");
    if (S_ISSOCK(status.st_mode))
        link->kind = OUT_SOCKET;
    else if (S_ISFIFO(status.st_mode) || isatty(STDOUT_FILENO)) {
        int own = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        link->kind = own >= 0 ? OUT_NONBLOCK : OUT_SMALL;
        if (own >= 0)
            link->fd = own;
        if (S_ISFIFO(status.st_mode))
            (void) fcntl(link->fd, F_SETPIPE_SZ, PIPE_SIZE);   /* fewer turns; no harm when refused */
    }
    link->watch = loop_fd(link->base.loop, link->fd, 0, on_writable, link);
    return 0;
}

int link_stdout_open(link_sender_t **sender, loop_t *loop, const link_endpoint_t *endpoint, const link_sender_setup_t *setup, err_t *err) {
    encoder_t *encoder = NULL;
    static const format_settings_t plain = {.record_limit = 1024 * 1024};
    if (endpoint->format == LINK_TEXT_NDJSON &&
        format_find("ndjson")->encoder_open(&encoder, setup->format ? setup->format : &plain, err) != 0)
        return -1;
    signal(SIGPIPE, SIG_IGN);
    stdout_link_t *link = mem_zero(sizeof *link);
    link_sender_init(&link->base, &stdout_class, loop, endpoint, setup);
    link->encoder = encoder;
    if (setup->spool) {
        link_feed_init(&link->feed, setup->spool, spool_lowest(setup->spool), link->window);
        link->durable = link->feed.next - 1;
        loop_defer(loop, pump, link);     /* what an earlier run has left */
    }
    link->window = setup->window < TEXT_WINDOW ? setup->window : TEXT_WINDOW;
    link->base.stats.window = link->window;
    link->base.stats.peers = 1;
    if (open_descriptor(link, err) != 0) {
        stdout_free(&link->base);
        return -1;
    }
    *sender = &link->base;
    return 0;
}
