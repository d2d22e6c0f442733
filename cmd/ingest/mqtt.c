/* The session with an MQTT server. */
#include "mqtt.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "feed.h"
#include "wire.h"

#define PACKET_MAX (16u * 1024 * 1024)
#define READS_PER_ROUND 8
#define BRIEF (10 * NS_PER_S)          /* a connection that was of use lives longer */

struct mqtt {
    mqtt_setup_t setup;
    mqtt_acks_t acks;
    wire_t *wire;
    loop_watch_t *timer;           /* the next attempt, or the server's answer is late */
    loop_watch_t *tick;            /* keep-alive */
    backoff_t backoff;
    feed_t feed;
    uint64_t skip;                 /* bytes of a packet too large, still to come */
    buf_t out;
    bool paused, connected, up;
    bool had_session;              /* the server should know us */
    uint16_t subscribing;          /* packet identifier of the SUBSCRIBE under way */
    int64_t keepalive;             /* ns, 0: none */
    int64_t sent, heard, pinged;   /* monotonic ns; pinged 0: no answer is due */
    int64_t up_since;              /* monotonic ns */
    unsigned brief;                /* connections in a row that were lost soon after they were up */
    char **subscribed;             /* "QOS FILTER" that the server has confirmed */
    size_t subscribed_count;
};

static void connect_now(void *argument);

static void send_out(mqtt_t *self) {
    if (self->out.size && self->wire) {
        wire_write(self->wire, self->out.data, self->out.size);
        self->sent = clock_monotonic();
    }
    buf_clear(&self->out);
}

static void send_acks(mqtt_t *self) {
    if (self->connected)
        acks_put(&self->acks, &self->out);
    send_out(self);
}

static void disconnect(mqtt_t *self) {
    loop_remove(self->timer);
    loop_remove(self->tick);
    self->timer = self->tick = NULL;
    wire_free(self->wire);
    self->wire = NULL;
    self->connected = self->up = false;
    self->pinged = 0;
    self->skip = 0;
    feed_clear(&self->feed);
    buf_clear(&self->out);
}

/* Two clients of one name throw each other out, and many servers do not say why: so this may be the reason when it happens again and again. */
static void lost(mqtt_t *self, const char *reason) {
    bool brief = self->up && clock_monotonic() - self->up_since < BRIEF;
    if (self->up && !brief)
        backoff_reset(&self->backoff);
    if (self->up)
        self->brief = brief ? self->brief + 1 : 0;
    char *words = self->up && self->brief > 2 ? mem_format("%s, again and again: has another client the client id %s (--client-id)?", reason,
                                                           self->setup.connect.client) : mem_text(reason);
    disconnect(self);
    self->timer = loop_timer(self->setup.loop, backoff_next(&self->backoff), 0, connect_now, self);
    self->setup.down(self->setup.argument, words);
    mem_free(words);
}

static void refused(mqtt_t *self, const mqtt_packet_t *packet, unsigned reason) {
    buf_t words = {0};
    buf_put_text(&words, mqtt_reason(self->setup.connect.version, packet->type, reason));
    buf_format(&words, " (code %u", reason);
    if (packet->why.size) {
        buf_put_text(&words, ": ");
        text_put_visible(&words, packet->why, 200);
    }
    buf_put_byte(&words, ')');
    lost(self, buf_text(&words));
    buf_fini(&words);
}

static void on_late(void *argument) {
    mqtt_t *self = argument;
    self->timer = NULL;
    lost(self, "the server does not answer in the time that --connect-timeout allows");
}

/* Subscriptions. */

static char *subscription(const mqtt_t *self, size_t i) {
    return mem_format("%u %s", self->setup.qos, self->setup.filters[i]);
}

static void forget_subscriptions(mqtt_t *self) {
    for (size_t i = 0; i < self->subscribed_count; i++)
        mem_free(self->subscribed[i]);
    mem_free(self->subscribed);
    self->subscribed = NULL;
    self->subscribed_count = 0;
}

static bool is_subscribed(const mqtt_t *self, const char *text) {
    for (size_t i = 0; i < self->subscribed_count; i++) {
        if (strcmp(self->subscribed[i], text) == 0)
            return true;
    }
    return false;
}

static bool is_wanted(const mqtt_t *self, const char *filter) {
    for (size_t i = 0; i < self->setup.filter_count; i++) {
        if (strcmp(self->setup.filters[i], filter) == 0)
            return true;
    }
    return false;
}

static void is_up(mqtt_t *self) {
    loop_remove(self->timer);
    self->timer = NULL;
    self->up = true;
    self->subscribing = 0;
    self->up_since = clock_monotonic();
    forget_subscriptions(self);
    self->subscribed = mem_zero(self->setup.filter_count * sizeof *self->subscribed);
    for (size_t i = 0; i < self->setup.filter_count; i++)
        self->subscribed[self->subscribed_count++] = subscription(self, i);
    self->had_session = !self->setup.connect.clean;
    self->setup.moved(self->setup.argument);
    self->setup.up(self->setup.argument);
}

/* Only what the server does not know yet: subscribing again would bring the retained messages again. */
static void subscribe(mqtt_t *self) {
    size_t count = 0, gone = 0, n = self->setup.filter_count;
    const char **filters = mem_zero(n * sizeof *filters), **old = mem_zero((self->subscribed_count + 1) * sizeof *old);
    uint8_t *options = mem_zero(n);
    for (size_t i = 0; i < self->subscribed_count; i++) {
        const char *filter = strchr(self->subscribed[i], ' ') + 1;
        if (!is_wanted(self, filter))
            old[gone++] = filter;
    }
    for (size_t i = 0; i < n; i++) {
        char *text = subscription(self, i);
        if (!is_subscribed(self, text)) {
            bool keep_out = !self->setup.retained && i < self->setup.kept_from && self->setup.connect.version == MQTT_5_0;
            options[count] = (uint8_t) (self->setup.qos | (keep_out ? 2 << 4 : 0));
            filters[count++] = self->setup.filters[i];
        }
        mem_free(text);
    }
    self->subscribing = count ? 1 : 0;
    if (gone)
        mqtt_put_unsubscribe(&self->out, self->setup.connect.version, 2, old, gone);
    if (count)
        mqtt_put_subscribe(&self->out, self->setup.connect.version, 1, filters, options, count);
    mem_free(filters);
    mem_free(old);
    mem_free(options);
    send_out(self);
    if (!count)
        is_up(self);
}

/* Packets. False: the connection is gone. */

static void on_tick(void *argument);

static bool take_connack(mqtt_t *self, const mqtt_packet_t *packet) {
    if (packet->reason) {
        refused(self, packet, packet->reason);
        return false;
    }
    if (!packet->session && self->had_session) {
        log_warning("the server has no session for client id %s any more: messages published since the last connection are not there",
                    self->setup.connect.client);
        self->had_session = false;
    }
    if (!packet->session) {
        forget_subscriptions(self);
        self->setup.forgotten(self->setup.argument);
    }
    acks_begin(&self->acks, packet->session);
    self->connected = true;
    self->keepalive = (packet->keepalive ? packet->keepalive : self->setup.connect.keepalive) * NS_PER_S;
    if (self->keepalive)
        self->tick = loop_timer(self->setup.loop, self->keepalive / 4, self->keepalive / 4, on_tick, self);
    subscribe(self);
    return true;
}

static bool take_suback(mqtt_t *self, const mqtt_packet_t *packet) {
    if (packet->id != self->subscribing || !self->subscribing)
        return true;
    for (size_t i = 0; i < packet->codes.size; i++) {
        unsigned code = (uint8_t) packet->codes.data[i];
        if (code >= 0x80) {
            refused(self, packet, code);
            return false;
        }
        if (code < self->setup.qos)
            log_warning("the server grants QoS %u only, instead of %u", code, self->setup.qos);
    }
    is_up(self);
    return true;
}

/* 1: dealt with, 0: there is no room, -1: the connection is gone. */
static int take_publish(mqtt_t *self, const mqtt_packet_t *packet) {
    if (acks_known(&self->acks, packet))
        return 1;
    if (!self->setup.message(self->setup.argument, packet))
        return 0;
    acks_taken(&self->acks, packet);
    self->setup.moved(self->setup.argument);
    return 1;
}

static int take_packet(mqtt_t *self, const uint8_t *data, size_t size) {
    mqtt_packet_t packet;
    err_t err;
    if (mqtt_packet_read(&packet, self->setup.connect.version, data, size, &err)) {
        lost(self, err.text);
        return -1;
    }
    if (self->connected == (packet.type == MQTT_CONNACK)) {
        lost(self, "the server does not keep to the protocol");
        return -1;
    }
    switch (packet.type) {
    case MQTT_CONNACK:
        return take_connack(self, &packet) ? 1 : -1;
    case MQTT_PUBLISH:
        return take_publish(self, &packet);
    case MQTT_PUBREL:
        acks_released(&self->acks, packet.id);
        self->setup.moved(self->setup.argument);
        return 1;
    case MQTT_SUBACK:
        return take_suback(self, &packet) ? 1 : -1;
    case MQTT_DISCONNECT:
        refused(self, &packet, packet.reason);
        return -1;
    case MQTT_PINGRESP:
        self->pinged = 0;
        return 1;
    default:
        return 1;
    }
}

/* A message that is too large: its head is read, the rest passed over. As take_packet. */
static int take_head(mqtt_t *self, size_t size) {
    mqtt_packet_t packet;
    err_t err;
    if (!self->connected || mqtt_publish_head(&packet, self->setup.connect.version, (const uint8_t *) feed_data(&self->feed), feed_size(&self->feed), &err)) {
        lost(self, self->connected ? err.text : "the server does not speak MQTT");
        return -1;
    }
    self->skip = size;
    if (acks_known(&self->acks, &packet))
        return 1;
    self->setup.unusable(self->setup.argument, &packet, "the message is larger than 16 MiB");
    acks_taken(&self->acks, &packet);
    return 1;
}

static void drop_skipped(mqtt_t *self) {
    size_t size = feed_size(&self->feed) < self->skip ? feed_size(&self->feed) : (size_t) self->skip;
    feed_used(&self->feed, size);
    self->skip -= size;
}

/* Deals with the whole packets that are there. False: the connection is gone. */
static bool take_packets(mqtt_t *self) {
    while (!self->paused) {
        if (self->skip)
            drop_skipped(self);
        const uint8_t *data = (const uint8_t *) feed_data(&self->feed);
        ssize_t size = mqtt_packet_size(data, feed_size(&self->feed));
        if (size < 0 || (!self->connected && size > 65536)) {
            lost(self, "the server does not speak MQTT");
            return false;
        }
        if (size > PACKET_MAX && feed_size(&self->feed) >= MQTT_HEAD_MAX) {
            if (take_head(self, (size_t) size) < 0)
                return false;
            continue;
        }
        if (size == 0 || (size_t) size > feed_size(&self->feed))
            return true;
        int result = take_packet(self, data, (size_t) size);
        if (result < 0)
            return false;
        if (result == 0)
            return true;
        feed_used(&self->feed, (size_t) size);
    }
    return true;
}

static void on_ready(void *argument) {
    mqtt_t *self = argument;
    if (!self->wire)
        return;
    for (int i = 0; i < READS_PER_ROUND; i++) {
        if (!take_packets(self))
            return;
        if (self->paused)
            break;
        ssize_t got = wire_read(self->wire, feed_space(&self->feed), FEED_CHUNK);
        if (got <= 0)
            break;
        feed_added(&self->feed, (size_t) got);
        self->heard = clock_monotonic();
        if (i == READS_PER_ROUND - 1) {
            if (!take_packets(self))
                return;
            loop_defer(self->setup.loop, on_ready, self);
        }
    }
    send_acks(self);
}

/* Connecting. */

static void on_wire_up(void *argument) {
    mqtt_t *self = argument;
    mqtt_put_connect(&self->out, &self->setup.connect);
    send_out(self);
}

static void on_wire_down(void *argument, const char *reason) {
    mqtt_t *self = argument;
    bool silent = !self->connected && strstr(reason, "closed the connection"); /* as some servers say no */
    char *words = mem_format("%s%s%s", reason, silent ? " before it said who it is" : "", wire_hint(self->wire));
    lost(self, words);
    mem_free(words);
}

/* A server that is not read cannot answer a ping. */
static void on_tick(void *argument) {
    mqtt_t *self = argument;
    int64_t now = clock_monotonic();
    if (self->paused || self->heard > self->pinged)
        self->pinged = 0;
    if (self->pinged && now - self->pinged >= self->keepalive) {
        lost(self, "the server has not answered for the time of --keepalive");
        return;
    }
    if (now - self->sent >= self->keepalive / 2) {
        mqtt_put_empty(&self->out, MQTT_PINGREQ);
        send_out(self);
        if (!self->pinged)
            self->pinged = now;
    }
}

static void connect_now(void *argument) {
    mqtt_t *self = argument;
    const mqtt_setup_t *setup = &self->setup;
    wire_setup_t wire = {
        .loop = setup->loop,
        .peer = setup->peer,
        .plain = "mqtt://",
        .secure = "mqtts://",
        .up = on_wire_up,
        .ready = on_ready,
        .down = on_wire_down,
        .argument = self,
    };
    self->wire = wire_new(&wire);
    if (self->paused)
        wire_pause(self->wire);
    self->timer = loop_timer(setup->loop, 2 * setup->peer.timeout, 0, on_late, self);
}

mqtt_t *mqtt_new(const mqtt_setup_t *setup) {
    mqtt_t *self = mem_zero(sizeof *self);
    self->setup = *setup;
    self->setup.connect.receive_max = 4096;
    self->setup.connect.packet_max = PACKET_MAX;
    self->backoff = (backoff_t){.minimum = setup->retry_min, .maximum = setup->retry_max, .state = (uint64_t) clock_now()};
    return self;
}

void mqtt_start(mqtt_t *self) {
    self->timer = loop_timer(self->setup.loop, 0, 0, connect_now, self);
}

/* A connection that is closed with something unread is reset, and then the server may not read what it was told last. */
static void discard(mqtt_t *self) {
    for (int i = 0; i < READS_PER_ROUND; i++) {
        feed_clear(&self->feed);
        if (wire_read(self->wire, feed_space(&self->feed), FEED_CHUNK) <= 0)
            return;
    }
}

void mqtt_free(mqtt_t *self) {
    if (!self)
        return;
    if (self->connected) {
        send_acks(self);
        mqtt_put_empty(&self->out, MQTT_DISCONNECT);
        send_out(self);
        discard(self);
    }
    disconnect(self);
    loop_undefer(self->setup.loop, on_ready, self);
    forget_subscriptions(self);
    acks_fini(&self->acks);
    feed_fini(&self->feed);
    buf_fini(&self->out);
    mem_free(self);
}

void mqtt_pause(mqtt_t *self) {
    self->paused = true;
    wire_pause(self->wire);
}

void mqtt_resume(mqtt_t *self) {
    self->paused = false;
    self->pinged = 0;
    wire_resume(self->wire);
}

void mqtt_pack_state(const mqtt_t *self, buf_t *out) {
    pack_text(out, "step");
    pack_uint(out, self->acks.step);
    pack_text(out, "held");
    acks_pack_held(&self->acks, out);
    pack_text(out, "subscribed");
    pack_array(out, (uint32_t) self->subscribed_count);
    for (size_t i = 0; i < self->subscribed_count; i++)
        pack_text(out, self->subscribed[i]);
}

int mqtt_restore(mqtt_t *self, const uint8_t *position, size_t size, err_t *err) {
    value_t step, held, subscribed;
    uint32_t count;
    text_t text;
    if (!pack_map_get(position, size, text_of("step"), &step) || !pack_map_get(position, size, text_of("held"), &held) ||
        !pack_map_get(position, size, text_of("subscribed"), &subscribed) || step.type != VALUE_INT || step.integer < 0 ||
        held.type != VALUE_BINARY || subscribed.type != VALUE_ARRAY)
        return err_set(err, "the stored position is none of an MQTT server");
    if (acks_restore(&self->acks, step.unsigned_integer, text_make(held.text, held.size), err))
        return -1;
    pack_cursor_t cursor = pack_cursor(subscribed.packed, subscribed.size);
    ASSERT(pack_read_array(&cursor, &count));
    self->subscribed = mem_zero((count + 1) * sizeof *self->subscribed);
    while (count-- && pack_read_string(&cursor, &text)) {
        if (text.size > 2 && text.data[1] == ' ')
            self->subscribed[self->subscribed_count++] = mem_text_n(text.data, text.size);
    }
    self->had_session = self->subscribed_count > 0;
    return 0;
}

void mqtt_durable(mqtt_t *self, uint64_t step) {
    if (step > self->acks.durable)
        self->acks.durable = step;
    send_acks(self);
}
