/* A connection to a WebSocket server, made again whenever it is lost. The bytes are wire.h's; here is what the protocol wants in time. */
#include "websocket.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "feed.h"
#include "net/backoff.h"
#include "websocket_handshake.h"
#include "wire.h"

#define READS_PER_ROUND 8
#define BRIEF (10 * NS_PER_S)          /* a connection that was of use lives longer */

struct websocket {
    websocket_setup_t setup;
    ws_place_t moved;                  /* where redirects have led, in this attempt; url NULL: nowhere */
    bool foreign;                      /* and that is another server */
    unsigned redirects;                /* in this attempt */
    wire_t *wire;
    loop_watch_t *timer;               /* the next attempt, or the server's answer is late */
    loop_watch_t *tick;                /* pings */
    backoff_t backoff;
    feed_t feed;
    buf_t out;
    ws_request_t request;
    ws_reader_t reader;
    ws_event_t held;                   /* a message that there was no room for; WS_NONE: none */
    size_t held_used;
    bool paused, open;
    int64_t heard, pinged;             /* monotonic ns; pinged 0: no answer is due */
    int64_t open_since;
};

static void connect_now(void *argument);
static void on_ready(void *argument);

static void send_out(websocket_t *self) {
    if (self->out.size && self->wire)
        wire_write(self->wire, self->out.data, self->out.size);
    buf_clear(&self->out);
}

static void disconnect(websocket_t *self) {
    loop_remove(self->timer);
    loop_remove(self->tick);
    self->timer = self->tick = NULL;
    wire_free(self->wire);
    self->wire = NULL;
    self->open = false;
    self->pinged = 0;
    self->held.type = WS_NONE;
    feed_clear(&self->feed);
    buf_clear(&self->out);
}

static void lost_for(websocket_t *self, int64_t least, const char *reason) {
    if (self->open && clock_monotonic() - self->open_since >= BRIEF)
        backoff_reset(&self->backoff);
    int64_t wait = backoff_next(&self->backoff);
    char *words = mem_text(reason);
    disconnect(self);
    ws_place_fini(&self->moved);
    self->foreign = false;
    self->redirects = 0;
    self->timer = loop_timer(self->setup.loop, wait > least ? wait : least, 0, connect_now, self);
    self->setup.down(self->setup.argument, words);
    mem_free(words);
}

static void lost(websocket_t *self, const char *reason) {
    lost_for(self, 0, reason);
}

static void on_late(void *argument) {
    websocket_t *self = argument;
    self->timer = NULL;
    lost(self, "the server does not answer in the time that --connect-timeout allows");
}

/* ---- the handshake ---- */

static const ws_place_t *place_of(const websocket_t *self) {
    return self->moved.url ? &self->moved : self->setup.place;
}

static void on_wire_up(void *argument) {
    websocket_t *self = argument;
    const websocket_setup_t *setup = &self->setup;
    self->request = (ws_request_t){
        .authority = place_of(self)->authority,
        .target = place_of(self)->target,
        .protocols = setup->protocols,
        .deflate = setup->compression,
    };
    if (!self->foreign) {
        self->request.headers = setup->headers;
        self->request.user = setup->user;
        self->request.password = setup->password;
        self->request.bearer = setup->bearer;
        self->request.api_key = setup->api_key;
        self->request.api_key_name = setup->api_key_name;
    }
    ws_make_key(self->request.key);
    ws_put_request(&self->out, &self->request);
    send_out(self);
    loop_remove(self->timer);
    self->timer = loop_timer(setup->loop, setup->peer.timeout, 0, on_late, self);
}

static void follow(websocket_t *self, text_t location) {
    ws_place_t place;
    bool same;
    err_t err;
    char *text = mem_text_n(location.data, location.size);
    if (self->redirects++ == self->setup.redirects) {
        lost(self, "the server redirects more often than --redirects allows");
    } else if (ws_place_move(&place, place_of(self), text, &same, &err)) {
        lost(self, err.text);
    } else {
        self->foreign |= !same;
        disconnect(self);
        ws_place_fini(&self->moved);
        self->moved = place;
        self->timer = loop_timer(self->setup.loop, 0, 0, connect_now, self);
    }
    mem_free(text);
}

static void refused(websocket_t *self, const ws_answer_t *answer) {
    char reason[160];
    int status = answer->status;
    if (status == 401 || status == 403)
        snprintf(reason, sizeof reason, "HTTP status %d: the server wants other credentials (--token, --user, --api-key, --header)", status);
    else if (status == 407)
        snprintf(reason, sizeof reason, "HTTP status 407: the proxy wants other credentials (--proxy)");
    else if (status >= 200 && status < 300)
        snprintf(reason, sizeof reason, "HTTP status %d: the server answers as to a web browser; is there a WebSocket at this path?", status);
    else if (status == 404)
        snprintf(reason, sizeof reason, "HTTP status 404: the server has nothing at this path");
    else
        snprintf(reason, sizeof reason, "HTTP status %d instead of a WebSocket", status);
    lost_for(self, answer->retry_after * NS_PER_S, reason);
}

static void on_tick(void *argument) {
    websocket_t *self = argument;
    int64_t now = clock_monotonic();
    if (self->paused) { /* a server that is not read cannot answer */
        self->heard = now;
        self->pinged = 0;
    } else if (self->pinged && now - self->pinged >= self->setup.ping_timeout) {
        lost(self, "the server has not answered a ping for the time of --ping-timeout");
    } else if (!self->pinged && now - self->heard >= self->setup.ping_interval) {
        ws_put_frame(&self->out, WS_OP_PING, (text_t){0});
        self->pinged = now;
        send_out(self);
    }
}

static void opened(websocket_t *self, const ws_answer_t *answer) {
    const websocket_setup_t *setup = &self->setup;
    loop_remove(self->timer);
    self->timer = NULL;
    self->open = true;
    self->open_since = self->heard = clock_monotonic();
    ws_reader_begin(&self->reader, answer->deflate, answer->reset);
    int64_t shortest = setup->ping_interval < setup->ping_timeout ? setup->ping_interval : setup->ping_timeout;
    if (setup->ping_interval)
        self->tick = loop_timer(setup->loop, shortest / 4 + 1, shortest / 4 + 1, on_tick, self);
    for (size_t i = 0; i < setup->greetings->count; i++)
        ws_put_frame(&self->out, WS_OP_TEXT, text_of(setup->greetings->items[i]));
    send_out(self);
    setup->up(setup->argument);
}

/* False: the connection is gone, or not all of the answer is here. */
static bool take_answer(websocket_t *self) {
    ws_answer_t answer;
    err_t err;
    int result;
    while ((result = ws_read_answer(&answer, &self->request, text_make(feed_data(&self->feed), feed_size(&self->feed)), &err)) > 0 &&
           answer.status >= 100 && answer.status < 200 && answer.status != 101)
        feed_used(&self->feed, answer.size); /* news on the way, and the answer is to follow */
    if (result == 0)
        return false;
    if (result < 0) {
        lost(self, err.text);
        return false;
    }
    bool moves = answer.status > 300 && answer.status < 309 && answer.status != 304 && answer.location.size;
    if (answer.status == 101) {
        feed_used(&self->feed, answer.size);
        opened(self, &answer);
        return self->open;
    }
    if (moves)
        follow(self, answer.location);
    else
        refused(self, &answer);
    return false;
}

/* ---- frames ---- */

static const char *code_name(unsigned code) {
    static const struct { unsigned code; const char *name; } names[] = {
        {1000, "done"}, {1001, "going away"}, {1002, "protocol error"}, {1003, "unsupported data"}, {1007, "invalid data"}, {1008, "against its policy"},
        {1009, "message too large"}, {1011, "internal error"}, {1012, "restarting"}, {1013, "try again later"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].code == code)
            return names[i].name;
    }
    return NULL;
}

static void closed(websocket_t *self, const ws_event_t *event) {
    buf_t words = {0}, why = {0};
    buf_put_text(&words, "the server has closed the connection");
    if (event->code != 1005)
        buf_format(&words, ", code %u", event->code);
    if (code_name(event->code))
        buf_format(&words, " (%s)", code_name(event->code));
    if (event->data.size) {
        secrets_put_masked(self->setup.secrets, &why, event->data, WS_CONTROL_MAX);
        buf_put_text(&words, ": ");
        text_put_visible(&words, text_make((const char *) why.data, why.size), WS_CONTROL_MAX);
    }
    ws_put_close(&self->out, event->code);
    send_out(self);
    if (self->setup.closed(self->setup.argument, event->code))
        disconnect(self);
    else
        lost(self, buf_text(&words));
    buf_fini(&words);
    buf_fini(&why);
}

static void broken(websocket_t *self, const ws_event_t *event) {
    if (event->spoilt)
        self->setup.unusable(self->setup.argument, event->data, event->reason);
    char *words = mem_format("the server does not keep to the protocol: %s", event->reason);
    ws_put_close(&self->out, event->code);
    send_out(self);
    lost(self, words);
    mem_free(words);
}

/* True: go on with the next one. */
static bool take_event(websocket_t *self, const ws_event_t *event, size_t used) {
    const websocket_setup_t *setup = &self->setup;
    char reason[96];
    switch (event->type) {
    case WS_NONE:
        feed_used(&self->feed, used);
        return false;
    case WS_MESSAGE:
        if (!setup->message(setup->argument, event->data, event->binary)) {
            self->held = *event;
            self->held_used = used;
            return false;
        }
        break;
    case WS_TOO_LARGE:
        snprintf(reason, sizeof reason, "the message is larger than %llu bytes (--message-limit)", (unsigned long long) setup->limit);
        setup->unusable(setup->argument, event->data, reason);
        break;
    case WS_PING:
        ws_put_frame(&self->out, WS_OP_PONG, event->data);
        send_out(self);
        break;
    case WS_PONG:
        break;
    case WS_CLOSE:
        closed(self, event);
        return false;
    case WS_BROKEN:
        broken(self, event);
        return false;
    }
    feed_used(&self->feed, used);
    return true;
}

/* Deals with what is here. False: the connection is gone. */
static bool take_all(websocket_t *self) {
    if (!self->open && !take_answer(self))
        return self->wire;
    if (self->held.type && self->paused)
        return true;
    if (self->held.type) {
        ws_event_t event = self->held;
        self->held.type = WS_NONE;
        if (!take_event(self, &event, self->held_used))
            return self->wire;
    }
    bool more = true;
    while (more && !self->paused && self->wire) {
        ws_event_t event;
        size_t used = ws_read(&self->reader, feed_data(&self->feed), feed_size(&self->feed), &event);
        more = take_event(self, &event, used);
    }
    return self->wire;
}

static void on_ready(void *argument) {
    websocket_t *self = argument;
    for (int i = 0; self->wire && i < READS_PER_ROUND; i++) {
        if (!take_all(self) || self->paused || self->held.type)
            return;
        ssize_t got = wire_read(self->wire, feed_space(&self->feed), FEED_CHUNK);
        if (got <= 0)
            return;
        feed_added(&self->feed, (size_t) got);
        self->heard = clock_monotonic();
        self->pinged = 0;
        if (i == READS_PER_ROUND - 1 && take_all(self) && !self->paused)
            loop_defer(self->setup.loop, on_ready, self);
    }
}

/* ---- connecting ---- */

static void on_wire_down(void *argument, const char *reason) {
    websocket_t *self = argument;
    bool silent = !self->open && strstr(reason, "closed the connection");
    char *words = mem_format("%s%s", silent ? "the server has closed the connection without an answer" : reason, wire_hint(self->wire));
    lost(self, words);
    mem_free(words);
}

static void connect_now(void *argument) {
    websocket_t *self = argument;
    const websocket_setup_t *setup = &self->setup;
    const ws_place_t *place = place_of(self);
    wire_setup_t wire = {
        .loop = setup->loop,
        .peer = setup->peer,
        .plain = "ws://",
        .secure = "wss://",
        .proxied = true,
        .proxy = setup->proxy,
        .last_bytes = true,
        .up = on_wire_up,
        .ready = on_ready,
        .down = on_wire_down,
        .argument = self,
    };
    wire.peer.host = place->host;
    wire.peer.port = place->port;
    wire.peer.tls = place->tls;
    self->wire = wire_new(&wire);
    if (self->paused)
        wire_pause(self->wire);
    self->timer = loop_timer(setup->loop, setup->peer.timeout + NS_PER_S, 0, on_late, self);
}

websocket_t *websocket_new(const websocket_setup_t *setup) {
    websocket_t *self = mem_zero(sizeof *self);
    self->setup = *setup;
    self->reader.limit = setup->limit;
    self->backoff = (backoff_t){.minimum = setup->retry_min, .maximum = setup->retry_max, .state = (uint64_t) clock_now()};
    return self;
}

void websocket_start(websocket_t *self) {
    self->timer = loop_timer(self->setup.loop, 0, 0, connect_now, self);
}

void websocket_free(websocket_t *self) {
    if (!self)
        return;
    if (self->open) {
        ws_put_close(&self->out, 1000);
        send_out(self);
    }
    disconnect(self);
    loop_undefer(self->setup.loop, on_ready, self);
    ws_place_fini(&self->moved);
    ws_reader_fini(&self->reader);
    feed_fini(&self->feed);
    buf_fini(&self->out);
    mem_free(self);
}

void websocket_pause(websocket_t *self) {
    self->paused = true;
    wire_pause(self->wire);
}

void websocket_resume(websocket_t *self) {
    self->paused = false;
    self->heard = clock_monotonic();
    self->pinged = 0;
    wire_resume(self->wire);
}
