/* The sending end of one acknowledged path: go-back-N over PUSH, acknowledgements by SUB. Frames are numbered as they are first sent and
 * stay in the queue until they are durable; those of a spool come with their numbers, and stay until they are received. A rewind moves the cursor back; its number (the attempt) goes with each frame and comes back in the
 * receiver's complaints, so that a complaint about what was sent before the last rewind is known for old. */
#include "net/link_lane.h"

#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#define BYE_LINGER_MS 200                 /* for the farewell; all else is acknowledged or given up */
#define HIGH_WATER 32                     /* messages in the socket at most; what waits longer waits in the queue */
#define ACKS_PER_TURN 64
#define BROKEN_WARN 5                     /* connections broken by the same frame */
#define IDLE_REPORTS 2
#define IDLE_REPORTS_MAX 64
#define SUSPECT_NS (300 * NS_PER_MS)      /* so long may a connection's end be noticed after the next one's beginning */
#define SILENT_NS (20 * NS_PER_S)         /* a receiver silent for so long gives way to another that asks; */
#define QUIET_NS (5 * NS_PER_S)           /* for so long, when there is one connection only */

static void look_who_is_there(link_lane_t *lane) {
    lane->sender->stats.peers = lane->monitor.connections;
    link_presence_set(&lane->presence, lane->monitor.connections && (lane->plain || lane->receiver));
}

/* ---- sending ---- */

static void wait_room(link_lane_t *lane, bool blocked) {
    if (!blocked && !lane->blocked)
        return;
    lane->blocked = blocked;
    loop_socket_events(lane->data_watch, blocked ? ZMQ_POLLOUT : 0);
}

static spool_t *spool_of(const link_lane_t *lane) {
    return lane->sender->setup.spool;
}

/* With a spool: the oldest frame that the receiver may need. */
static uint64_t lowest(const link_lane_t *lane) {
    uint64_t number = spool_lowest(spool_of(lane));
    return lane->durable + 1 > number ? lane->durable + 1 : number;
}

/* What the receiver is told of the log. Called only where a message is about to be sent. */
static void put_log(const link_lane_t *lane, frame_number_t *number) {
    const spool_identity_t *identity = spool_identity(spool_of(lane));
    uint64_t floor = lowest(lane);
    if (floor < lane->feed.floor)
        floor = lane->feed.floor;
    number->lowest = floor < number->sequence ? floor : number->sequence;
    number->has_stable = true;
    number->stable = lane->sender->stable;
    number->hurry = spool_bytes(spool_of(lane)) > spool_limit(spool_of(lane)) / 2;
    number->past = identity->past;
    number->past_count = identity->past_count;
}

/* To a receiver that takes over, or comes back: which epochs this one continues, and, before all else, whom it replaces. */
static void tell_anew(link_lane_t *lane) {
    lane->news = spool_of(lane) != NULL;
    lane->introduce = lane->news && lane->sender->setup.replaces.size;
}

static void told(link_lane_t *lane, const frame_number_t *number) {
    lane->told = number->stable;
    lane->told_hurry = number->hurry;
    lane->news = false;
}

static int send_entry(link_lane_t *lane, link_entry_t *entry, buf_t *scratch) {
    const link_entry_t *front = link_queue_at(&lane->queue, 0);
    uint64_t sequence = entry->sequence ? entry->sequence : lane->sent + 1;
    frame_number_t number = {.origin = lane->sender->setup.origin, .epoch = lane->sender->setup.epoch, .sequence = sequence,
                             .lowest = front->sequence ? front->sequence : sequence, .receiver = lane->receiver, .attempt = lane->attempt};
    if (spool_of(lane))
        put_log(lane, &number);
    if (zlink_send(lane->data, entry->frame, &number, scratch) != 0)
        return -1;
    link_stats_t *stats = &lane->sender->stats;
    if (sequence <= lane->sent)
        stats->resent++;
    else {
        entry->sequence = lane->sent = sequence;
        stats->frames++;
        stats->events += entry->frame->events;
        stats->bytes += entry->frame->body_size;
    }
    if (number.has_stable)
        told(lane, &number);
    return 0;
}

static void forget_front(link_lane_t *lane) {
    link_queue_pop(&lane->queue);
    if (lane->cursor)
        lane->cursor--;
}

/* A frame of the spool goes under way. Behind a damaged one the next goes when all before it has arrived: it lifts the lowest number. */
static bool fetch(link_lane_t *lane) {
    frame_t *frame;
    uint64_t number;
    bool direct, empty = lane->queue.count == 0;
    if ((!empty && lane->queue.bytes >= lane->window) ||
        link_feed_take(&lane->feed, empty, &frame, &number, &direct) != LINK_FEED_FRAME)
        return false;
    if (lane->part && !direct) {
        frame_t *part = lane->part(lane->argument, lane->index, frame, number);
        frame_unref(frame);
        frame = part;
    }
    link_queue_push(&lane->queue, frame, number);
    link_queue_at(&lane->queue, lane->queue.count - 1)->sequence = number;
    frame_unref(frame);
    return true;
}

static bool more(link_lane_t *lane) {
    return lane->cursor < lane->queue.count || (spool_of(lane) && fetch(lane));
}

/* News of the log in a frame of their own: without number, and not acknowledged. False: ZeroMQ takes no more. */
static bool send_news(link_lane_t *lane, buf_t *scratch) {
    frame_t *notice = frame_new_end("stable");
    notice->end = false;
    frame_number_t number = {.origin = lane->sender->setup.origin, .epoch = lane->sender->setup.epoch, .receiver = lane->receiver,
                             .replaces = lane->sender->setup.replaces};
    put_log(lane, &number);
    bool sent = zlink_send(lane->data, notice, &number, scratch) == 0;
    if (sent) {
        told(lane, &number);
        lane->introduce = false;
    } else
        wait_room(lane, true);
    frame_unref(notice);
    return sent;
}

/* Sends what there is to send, until ZeroMQ takes no more. */
static void flush(link_lane_t *lane) {
    static buf_t scratch;                 /* the header under construction; the loop is single-threaded */
    bool popped = false;
    if (!lane->plain && !lane->receiver)
        return;
    if (lane->introduce && !lane->plain && !send_news(lane, &scratch))
        return;
    while (more(lane)) {
        link_entry_t *entry = link_queue_at(&lane->queue, lane->cursor);
        if (send_entry(lane, entry, &scratch) != 0) {
            wait_room(lane, true);
            break;
        }
        lane->cursor++;
        if (lane->plain) {
            lane->durable = entry->sequence;
            forget_front(lane);
            popped = true;
        }
    }
    if (lane->cursor == lane->queue.count) {
        wait_room(lane, false);
        if (lane->news && !lane->plain)
            send_news(lane, &scratch);
    }
    if (popped)
        lane->progress(lane->argument);
}

static void on_room(void *argument) {
    flush(argument);
}

void link_lane_send(link_lane_t *lane, frame_t *frame, uint64_t ticket) {
    link_queue_push(&lane->queue, frame, ticket);
    if (!lane->blocked)
        flush(lane);
}

void link_lane_written(link_lane_t *lane, frame_t *frame, uint64_t number) {
    link_feed_written(&lane->feed, frame, number);
    if (!lane->blocked)
        flush(lane);
}

void link_lane_news(link_lane_t *lane) {
    if (lane->told >= lane->sender->stable)
        return;
    lane->news = true;
    if (!lane->blocked)
        flush(lane);
}

bool link_lane_behind(const link_lane_t *lane, bool behind) {
    return link_feed_behind(&lane->feed, behind) && lane->monitor.connections > 0 && (lane->plain || lane->receiver);
}

bool link_lane_quiet(const link_lane_t *lane) {
    return lane->durable >= spool_written(spool_of(lane)) || lane->monitor.connections == 0 || (!lane->plain && !lane->receiver);
}

int64_t link_lane_drop_oldest(link_lane_t *lane) {
    size_t index = lane->cursor;
    while (index < lane->queue.count && link_queue_at(&lane->queue, index)->sequence)
        index++;                          /* after a rewind these go out again */
    if (index == lane->queue.count || link_queue_at(&lane->queue, index)->frame->end)
        return -1;
    int64_t events = link_queue_at(&lane->queue, index)->frame->events;
    link_queue_remove(&lane->queue, index);
    return events;
}

/* ---- going back ---- */

static void went_back(link_lane_t *lane) {
    lane->attempt++;
    lane->idle_reports = 0;
}

static void empty_queue(link_lane_t *lane) {
    while (lane->queue.count)
        link_queue_pop(&lane->queue);
    lane->cursor = 0;
}

/* As below; what is not in the queue is read again. */
static void rewind_log(link_lane_t *lane, uint64_t sequence) {
    if (sequence < lowest(lane))
        sequence = lowest(lane);
    size_t index = 0;
    while (index < lane->queue.count && link_queue_at(&lane->queue, index)->sequence < sequence)
        index++;
    bool held = lane->queue.count && link_queue_at(&lane->queue, 0)->sequence <= sequence;
    if (held && index >= lane->cursor)
        return;
    if (!held && sequence >= lane->feed.next)
        return;
    if (held)
        lane->cursor = index;
    else {
        empty_queue(lane);
        link_feed_seek(&lane->feed, sequence);
    }
    went_back(lane);
}

/* Sends again from frame `sequence` on, as far as that is behind the cursor. */
static void rewind_to(link_lane_t *lane, uint64_t sequence) {
    if (spool_of(lane)) {
        rewind_log(lane, sequence);
        return;
    }
    if (!lane->queue.count || !lane->cursor)
        return;
    uint64_t front = link_queue_at(&lane->queue, 0)->sequence;
    size_t index = sequence > front ? (size_t) (sequence - front) : 0;
    if (index >= lane->cursor)
        return;
    lane->cursor = index;
    went_back(lane);
}

static void adopt(link_lane_t *lane, uint64_t receiver) {
    if (lane->receiver)
        log_info("%s: a new receiver takes over; what is not durable goes to it", lane->sender->endpoint);
    lane->receiver = receiver;
    lane->suspect = 0;
    lane->received = 0;
    lane->idle_received = 0;
    lane->idle_needed = IDLE_REPORTS;
    lane->heard = clock_monotonic();
    if (lane->cursor || spool_of(lane))
        rewind_to(lane, 0);
    tell_anew(lane);
    look_who_is_there(lane);
}

/* A frame that the receiver does not take whatever happens ends the connection each time. */
static void count_broken(link_lane_t *lane) {
    if (!lane->cursor || lane->cursor > lane->queue.count || lane->received + 1 != lane->broken_at)
        lane->broken = 0;
    lane->broken_at = lane->received + 1;
    if (++lane->broken % BROKEN_WARN == 0 && lane->queue.count)
        log_warning("%s: the connection has broken %u times with frame %llu (%zu bytes) on its way; does the receiver have a lower limit for "
                    "frames?", lane->sender->endpoint, lane->broken, (unsigned long long) lane->broken_at,
                    link_queue_at(&lane->queue, 0)->frame->body_size);
}

static void connection_changed(void *argument, bool came) {
    link_lane_t *lane = argument;
    look_who_is_there(lane);
    if (!came)
        lane->lost = clock_monotonic();
    /* What was on its way is lost with the connection. */
    if (!came && lane->monitor.connections == 0 && !lane->plain) {
        count_broken(lane);
        rewind_to(lane, lane->received + 1);
        tell_anew(lane);
    }
    if (came)
        flush(lane);
    else
        lane->progress(lane->argument);   /* nobody is waited for any more */
}

/* Tells a second receiver so. PUSH deals messages out in turn, so one for each connection reaches it. */
static void refuse(link_lane_t *lane, uint64_t receiver) {
    static log_limit_t limit;
    if (log_limited(&limit))
        log_warning("%s: a second receiver asked for this link and was refused; partitions=N splits it for several", lane->sender->endpoint);
    frame_t *notice = frame_new_end("refused");
    frame_number_t number = {.origin = lane->sender->setup.origin, .epoch = lane->sender->setup.epoch, .refused = receiver};
    buf_t scratch = {0};
    for (uint32_t i = 0; i < lane->monitor.connections; i++)
        zlink_send(lane->data, notice, &number, &scratch);
    loop_socket_touch(lane->data_watch);
    buf_fini(&scratch);
    frame_unref(notice);
}

/* The present receiver's connection seems to have ended: one did after it last spoke, and no second one stands. Counting connections
 * alone would not do: a newcomer may speak before its data connection is made. */
static bool present_gone(const link_lane_t *lane, int64_t now) {
    if (lane->monitor.connections > 1)
        return now - lane->heard > SILENT_NS;
    return lane->lost > lane->heard || now - lane->heard > QUIET_NS;
}

/* A receiver that is not the present one speaks. It is taken, unless the present one is still there. Who binds is alone. */
static void other_receiver(link_lane_t *lane, uint64_t receiver) {
    zlink_monitor_drain(&lane->monitor);
    int64_t now = clock_monotonic();
    if (!lane->receiver || !lane->bind || present_gone(lane, now)) {
        adopt(lane, receiver);
        return;
    }
    if (lane->suspect != receiver) {
        lane->suspect = receiver;
        lane->suspect_since = now;
        return;
    }
    if (now - lane->suspect_since > SUSPECT_NS && lane->heard > lane->suspect_since)
        refuse(lane, receiver);
}

/* ---- acknowledgements ---- */

static void take_durable(link_lane_t *lane, uint64_t durable) {
    bool changed = durable > lane->durable;
    if (changed)
        lane->durable = durable;
    while (lane->queue.count) {
        uint64_t sequence = link_queue_at(&lane->queue, 0)->sequence;
        if (!sequence || sequence > durable)
            break;
        forget_front(lane);
        changed = true;
    }
    if (changed)
        lane->progress(lane->argument);
}

void link_lane_taken(link_lane_t *lane) {
    uint64_t number = spool_number(spool_of(lane));
    lane->durable = lane->sent = number;
    link_feed_seek(&lane->feed, number + 1);
}

/* The spool has it: what has arrived need not be kept here. It may be more than this process has ever sent. */
static void received_log(link_lane_t *lane, uint64_t received) {
    while (lane->queue.count && link_queue_at(&lane->queue, 0)->sequence <= received)
        forget_front(lane);
    if (lane->feed.next <= received)
        link_feed_seek(&lane->feed, received + 1);
    if (lane->sent < received)
        lane->sent = received;
    lane->progress(lane->argument);
}

static void take_received(link_lane_t *lane, uint64_t received) {
    if (received <= lane->received)
        return;
    lane->received = received;
    lane->idle_reports = 0;
    lane->idle_needed = IDLE_REPORTS;
    if (spool_of(lane)) {
        received_log(lane, received);
        return;
    }
    uint64_t front = lane->queue.count ? link_queue_at(&lane->queue, 0)->sequence : 0;
    if (front && received >= front && received - front + 1 > lane->cursor)
        lane->cursor = (size_t) (received - front + 1);      /* no need to send that again */
}

/* The receiver has had nothing to take for a while, yet we sent more than it has: the tail was lost on the way. Said often
 * enough, it is sent again; ever less often when that does not help. */
static void take_idle(link_lane_t *lane, const link_ack_t *ack) {
    uint64_t sent = spool_of(lane) ? lane->feed.next - 1 : lane->sent;
    if (ack->paused || lane->blocked || lane->cursor < lane->queue.count || ack->received >= sent)
        return;
    if (lane->idle_received != ack->received) {
        lane->idle_received = ack->received;
        lane->idle_reports = 0;
    }
    if (++lane->idle_reports < lane->idle_needed)
        return;
    lane->idle_needed = lane->idle_needed < IDLE_REPORTS_MAX ? 2 * lane->idle_needed : IDLE_REPORTS_MAX;
    rewind_to(lane, ack->received + 1);
}

/* With a spool an acknowledgement may speak of frames that an earlier process has sent, and in its epoch. What is beyond those that we
 * have is for the receiver to find out. */
static bool acceptable(link_lane_t *lane, const link_ack_t *ack) {
    if (ack->origin.size == 0 || !text_is(ack->origin, lane->sender->setup.origin))
        return false;
    bool present = ack->epoch == lane->sender->setup.epoch;
    if (!spool_of(lane))
        return present && ack->received <= lane->sent;
    if (ack->received <= spool_common(spool_of(lane), ack->epoch))
        return true;
    if (present && !lane->warned) {
        lane->warned = true;
        log_error("%s: the receiver acknowledges frame %llu, but the durable log ends with %llu; ignored. Was --state copied back from elsewhere? "
                  "Then start this stage with --reset", lane->sender->endpoint, (unsigned long long) ack->received,
                  (unsigned long long) spool_number(spool_of(lane)));
    }
    return false;
}

static bool wants_news(const link_lane_t *lane, const link_ack_t *ack) {
    uint64_t stable = lane->sender->stable;
    if (!lane->told_hurry && spool_bytes(spool_of(lane)) > spool_limit(spool_of(lane)) / 2)
        return true;
    return ack->idle && ack->durable < ack->received && ack->durable < stable;
}

static void take_ack(link_lane_t *lane, const link_ack_t *ack) {
    if (ack->receiver != lane->receiver)
        other_receiver(lane, ack->receiver);
    if (ack->receiver != lane->receiver)
        return;
    if (lane->monitor.connections)        /* else these are its last words, still on their way when its connection ended */
        lane->heard = clock_monotonic();
    if (spool_of(lane) && wants_news(lane, ack))
        lane->news = true;
    if (!acceptable(lane, ack))
        return;
    take_received(lane, ack->received);
    take_durable(lane, ack->durable);
    if (ack->epoch != lane->sender->setup.epoch)
        return;
    if (ack->again && ack->attempt == lane->attempt)
        rewind_to(lane, ack->received + 1);
    if (ack->idle)
        take_idle(lane, ack);
}

static void on_ack(void *argument) {
    link_lane_t *lane = argument;
    char memory[2 * ZLINK_CONTROL_MAX];
    for (int i = 0; i < ACKS_PER_TURN; i++) {
        text_t topic, payload;
        int got = zlink_receive_pair(lane->acks, &topic, &payload, memory);
        if (got == 0)
            break;
        link_ack_t ack;
        err_t err = {"an acknowledgement has not two parts"};
        if (got < 0 || link_ack_read(&ack, payload, &err) != 0) {
            static log_limit_t limit;
            if (log_limited(&limit))
                log_warning("%s: %s; ignored", lane->sender->endpoint, err.text);
            continue;
        }
        take_ack(lane, &ack);
    }
    if (!lane->blocked)
        flush(lane);
}

/* ---- opening and closing ---- */

static int open_acks(link_lane_t *lane, const zlink_address_t *address, const link_endpoint_t *endpoint, err_t *err) {
    lane->acks = zlink_socket(ZMQ_SUB, ZLINK_CONTROL_MAX, 1000);
    char *topic = mem_format("%s\n", lane->sender->setup.origin);
    ASSERT(zmq_setsockopt(lane->acks, ZMQ_SUBSCRIBE, topic, strlen(topic)) == 0);
    ASSERT(zmq_setsockopt(lane->acks, ZMQ_SUBSCRIBE, ZLINK_HELLO, strlen(ZLINK_HELLO)) == 0);
    mem_free(topic);
    lane->ack_watch = loop_socket(lane->sender->loop, lane->acks, ZMQ_POLLIN, on_ack, lane);
    if (!address->bind) {
        zlink_monitor_init(&lane->ack_monitor, lane->sender->loop, lane->acks, NULL, NULL);
        zlink_monitor_keep(&lane->ack_monitor, address->ack, lane->sender->endpoint);
    }
    return zlink_attach(lane->acks, address->ack, address->bind, endpoint->text, err);
}

static bool still_wanted(const void *argument) {
    return !((const link_lane_t *) argument)->parted;
}

static void watch_presence(link_lane_t *lane, const zlink_address_t *address, const link_endpoint_t *endpoint) {
    char *place = endpoint->partitions > 1 ? mem_format("%s, partition %zu", endpoint->text, lane->index) : mem_text(endpoint->text);
    link_presence_init(&lane->presence, lane->sender->loop, place, "receiver", address, !lane->plain, still_wanted, lane);
    mem_free(place);
}

int link_lane_open(link_lane_t *lane, link_sender_t *sender, const link_endpoint_t *endpoint, size_t index, link_part_fn *part,
                   void (*progress)(void *argument), void *argument, err_t *err) {
    zlink_address_t address;
    if (zlink_address(&address, endpoint, endpoint->partitions > 1 ? (int64_t) index : -1, true, err) != 0)
        return -1;
    *lane = (link_lane_t){.sender = sender, .plain = endpoint->ack == LINK_ACK_NONE, .bind = address.bind, .idle_needed = IDLE_REPORTS,
                          .progress = progress, .argument = argument, .index = index, .part = part,
                          .window = sender->setup.window / (uint64_t) endpoint->partitions};
    if (sender->setup.spool) {
        uint64_t first = spool_lowest(sender->setup.spool);
        link_feed_init(&lane->feed, sender->setup.spool, first, lane->window);
        lane->durable = lane->sent = first - 1;
    }
    int result = -1;
    if (address.bind && address.path &&
        zlink_lock(&lane->lock, address.path, ZLINK_BIND_LOCK, false, "ipc://%s is in use by process %d; stop it or choose another path", err) != 0)
        goto out;
    lane->data = zlink_socket(ZMQ_PUSH, ZLINK_CONTROL_MAX, HIGH_WATER);
    zlink_monitor_init(&lane->monitor, sender->loop, lane->data, connection_changed, lane);
    if (!address.bind)
        zlink_monitor_keep(&lane->monitor, address.data, sender->endpoint);
    lane->data_watch = loop_socket(sender->loop, lane->data, 0, on_room, lane);
    if (zlink_attach(lane->data, address.data, address.bind, endpoint->text, err) != 0)
        goto out;
    result = lane->plain ? 0 : open_acks(lane, &address, endpoint, err);
    if (result == 0)
        watch_presence(lane, &address, endpoint);
out:
    zlink_address_fini(&address);
    if (result != 0)
        link_lane_close(lane);
    return result;
}

static void say_bye(link_lane_t *lane) {
    if (!lane->parted || !lane->data || lane->plain || !lane->sent || lane->queue.count || (spool_of(lane) && lane->durable < spool_number(spool_of(lane))))
        return;
    frame_t *notice = frame_new_end("bye");
    frame_number_t number = {.origin = lane->sender->setup.origin, .epoch = lane->sender->setup.epoch, .receiver = lane->receiver, .bye = 1};
    buf_t scratch = {0};
    zlink_send(lane->data, notice, &number, &scratch);
    loop_socket_touch(lane->data_watch);
    buf_fini(&scratch);
    frame_unref(notice);
}

void link_lane_part(link_lane_t *lane) {
    lane->parted = true;
    say_bye(lane);
}

void link_lane_close(link_lane_t *lane) {
    say_bye(lane);                        /* once more: the first one is lost when the connection was */
    zlink_monitor_fini(&lane->monitor);
    zlink_monitor_fini(&lane->ack_monitor);
    link_presence_fini(&lane->presence);
    loop_remove(lane->data_watch);
    loop_remove(lane->ack_watch);
    zlink_close(lane->acks, 0);
    zlink_close(lane->data, lane->plain ? 2000 : BYE_LINGER_MS);
    zlink_unlock(&lane->lock);
    link_queue_fini(&lane->queue);
    link_feed_fini(&lane->feed);
    *lane = (link_lane_t){0};
}
