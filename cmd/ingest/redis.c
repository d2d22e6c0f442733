/* The connection to a Redis server: commands in flight, and replies taken apart as they come. */
#include "redis.h"

#include <poll.h>

#include "base/clock.h"
#include "base/memory.h"
#include "feed.h"
#include "wire.h"

#define READS_PER_ROUND 8

typedef struct flight {
    redis_request_t request;
    int64_t sent;
} flight_t;

struct redis {
    redis_setup_t setup;
    wire_t *wire;
    loop_watch_t *timer;           /* an answer is late */
    feed_t feed;
    bool up, paused, dead;
    buf_t reason;                  /* of its end */
    int64_t heard;
    flight_t *flights;             /* a ring */
    size_t first, count, capacity;
    /* the reply under way */
    bool open, passing;            /* passing: over a piece that is too large */
    unsigned depth;
    uint64_t left[REDIS_DEPTH];
    redis_scan_t scan;
};

bool redis_is_up(const redis_t *self) {
    return self && self->up && !self->dead;
}

static void tell_down(void *argument) {
    redis_t *self = argument;
    self->setup.down(self->setup.argument, buf_text(&self->reason));
}

/* Told later, so that it never happens inside a call of ours. */
static void lose(redis_t *self, text_t reason) {
    if (self->dead)
        return;
    self->dead = true;
    text_put_visible(&self->reason, reason, 400);
    loop_remove(self->timer);
    self->timer = NULL;
    loop_defer(self->setup.loop, tell_down, self);
}

void redis_lose(redis_t *self, const char *reason) {
    lose(self, text_of(reason));
}

/* Answers that are late. */

static int64_t deadline(const redis_t *self) {
    const flight_t *flight = &self->flights[self->first];
    int64_t from = flight->sent > self->heard ? flight->sent : self->heard;
    return from + self->setup.peer.timeout + flight->request.patience;
}

static void on_timer(void *argument) {
    redis_t *self = argument;
    self->timer = NULL;
    if (!self->count || self->flights[self->first].request.lasting)
        return;
    int64_t left = self->paused ? self->setup.peer.timeout : deadline(self) - clock_monotonic();
    if (left <= 0)
        redis_lose(self, "the server does not answer in the time that --connect-timeout allows");
    else
        self->timer = loop_timer(self->setup.loop, left, 0, on_timer, self);
}

static void watch_answers(redis_t *self) {
    if (!self->timer && self->count && !self->flights[self->first].request.lasting)
        self->timer = loop_timer(self->setup.loop, deadline(self) - clock_monotonic(), 0, on_timer, self);
}

/* Commands. */

void redis_send(redis_t *self, const buf_t *command, const redis_request_t *request) {
    if (self->dead)
        return;
    if (self->count == self->capacity) {
        size_t capacity = self->capacity ? 2 * self->capacity : 16;
        flight_t *flights = mem_alloc(capacity * sizeof *flights);
        for (size_t i = 0; i < self->count; i++)
            flights[i] = self->flights[(self->first + i) % self->capacity];
        mem_free(self->flights);
        self->flights = flights;
        self->capacity = capacity;
        self->first = 0;
    }
    self->flights[(self->first + self->count++) % self->capacity] = (flight_t){*request, clock_monotonic()};
    wire_write(self->wire, command->data, command->size);
    watch_answers(self);
}

/* Replies. 1: a piece was taken, 0: more must come or there is no room, -1: the connection is gone. */

static int protocol_error(redis_t *self) {
    redis_lose(self, "the server does not speak the protocol of Redis");
    return -1;
}

static void close_reply(redis_t *self) {
    redis_request_t request = self->flights[self->first].request;
    self->open = false;
    if (!request.lasting) {
        self->first = (self->first + 1) % self->capacity;
        self->count--;
    }
    if (request.done)
        request.done(request.argument);
}

/* A piece is taken: arrays that are now at their end are closed. */
static int close_piece(redis_t *self) {
    if (self->depth)
        self->left[self->depth - 1]--;
    while (self->depth && !self->left[self->depth - 1]) {
        self->depth--;
        if (self->depth)
            self->left[self->depth - 1]--;
    }
    if (!self->depth)
        close_reply(self);
    return self->dead ? -1 : 1;
}

static int pass_over(redis_t *self) {
    int end = redis_scan(&self->scan, feed_data(&self->feed), feed_size(&self->feed));
    if (end < 0)
        return protocol_error(self);
    feed_used(&self->feed, self->scan.at);
    self->scan.at = 0;
    if (!end)
        return 0;
    self->passing = false;
    self->scan = (redis_scan_t){.left = 1};
    return close_piece(self);
}

static int take_head(redis_t *self, const redis_request_t *request, const redis_item_t *item, size_t size) {
    if (!request->piece(request->argument, self->depth, item, text_make(feed_data(&self->feed), size)))
        return 0;
    if (self->dead)
        return -1;
    feed_used(&self->feed, size);
    if (!item->number)
        return close_piece(self);
    self->left[self->depth++] = (uint64_t) item->number;
    return 1;
}

static int take_whole(redis_t *self, const redis_request_t *request) {
    const char *data = feed_data(&self->feed);
    redis_item_t item;
    int end = redis_scan(&self->scan, data, feed_size(&self->feed));
    if (end < 0)
        return protocol_error(self);
    bool is_large = (end ? self->scan.at : feed_size(&self->feed)) > REDIS_PIECE_MAX;
    if (!end && !is_large)
        return 0;
    if (is_large) {
        self->setup.too_large(self->setup.argument, self->depth, text_make(data, 1024));
        self->passing = true;
        return self->dead ? -1 : 1;
    }
    if (redis_read(&item, data, self->scan.at) <= 0)
        return protocol_error(self);
    if (!request->piece(request->argument, self->depth, &item, text_make(data, self->scan.at)))
        return 0;
    if (self->dead)
        return -1;
    feed_used(&self->feed, self->scan.at);
    self->scan = (redis_scan_t){.left = 1};
    return close_piece(self);
}

static int take_piece(redis_t *self) {
    if (self->passing)
        return pass_over(self);
    if (!feed_size(&self->feed))
        return 0;
    if (!self->count)
        return protocol_error(self);
    redis_request_t request = self->flights[self->first].request;
    if (!self->open) {
        self->open = true;
        self->scan = (redis_scan_t){.left = 1};
    }
    if (self->depth < request.whole && *feed_data(&self->feed) == '*') {
        redis_item_t item;
        ssize_t size = redis_read(&item, feed_data(&self->feed), feed_size(&self->feed));
        if (size < 0)
            return protocol_error(self);
        return size ? take_head(self, &request, &item, (size_t) size) : 0;
    }
    return take_whole(self, &request);
}

/* False: the connection is gone. */
static bool take_pieces(redis_t *self) {
    int result = 1;
    while (result > 0 && !self->paused)
        result = take_piece(self);
    return result >= 0;
}

static void on_ready(void *argument) {
    redis_t *self = argument;
    if (self->dead)
        return;
    for (int i = 0; i < READS_PER_ROUND; i++) {
        if (!take_pieces(self) || self->paused)
            return;
        ssize_t got = wire_read(self->wire, feed_space(&self->feed), FEED_CHUNK);
        if (got <= 0)
            return;
        feed_added(&self->feed, (size_t) got);
        self->heard = clock_monotonic();
    }
    if (take_pieces(self))
        loop_defer(self->setup.loop, on_ready, self);
}

/* Connecting. */

static bool on_log_in(void *argument, unsigned depth, const redis_item_t *item, text_t raw) {
    redis_t *self = argument;
    if (item->type == REDIS_ERROR)
        lose(self, item->text);
    return true;
}

static void on_logged_in(void *argument) {
    redis_t *self = argument;
    if (self->dead)
        return;
    self->up = true;
    self->setup.up(self->setup.argument);
}

/* PING, when there is nothing to say before: a server that wants a password says so. */
static void on_wire_up(void *argument) {
    redis_t *self = argument;
    const redis_setup_t *setup = &self->setup;
    redis_request_t request = {.piece = on_log_in, .argument = self};
    buf_t out = {0};
    if (setup->password) {
        bool user = setup->user && *setup->user;
        redis_put_command(&out, user ? 3 : 2);
        redis_put_word(&out, text_of("AUTH"));
        if (user)
            redis_put_word(&out, text_of(setup->user));
        redis_put_word(&out, text_of(setup->password));
        redis_send(self, &out, &request);
        buf_clear(&out);
    }
    if (setup->database) {
        redis_put_command(&out, 2);
        redis_put_word(&out, text_of("SELECT"));
        redis_put_number(&out, setup->database);
        redis_send(self, &out, &request);
        buf_clear(&out);
    }
    redis_put_command(&out, 1);
    redis_put_word(&out, text_of("PING"));
    request.done = on_logged_in;
    redis_send(self, &out, &request);
    buf_fini(&out);
}

static void on_wire_down(void *argument, const char *reason) {
    redis_t *self = argument;
    char *words = mem_format("%s%s", reason, wire_hint(self->wire));
    redis_lose(self, words);
    mem_free(words);
}

redis_t *redis_new(const redis_setup_t *setup) {
    redis_t *self = mem_zero(sizeof *self);
    self->setup = *setup;
    wire_setup_t wire = {
        .loop = setup->loop,
        .peer = setup->peer,
        .plain = "redis://",
        .secure = "rediss://",
        .up = on_wire_up,
        .ready = on_ready,
        .down = on_wire_down,
        .argument = self,
    };
    self->wire = wire_new(&wire);
    return self;
}

void redis_free(redis_t *self) {
    if (!self)
        return;
    loop_remove(self->timer);
    loop_undefer(self->setup.loop, tell_down, self);
    loop_undefer(self->setup.loop, on_ready, self);
    wire_free(self->wire);
    feed_fini(&self->feed);
    buf_fini(&self->reason);
    mem_free(self->flights);
    mem_free(self);
}

void redis_pause(redis_t *self) {
    if (self) {
        self->paused = true;
        wire_pause(self->wire);
    }
}

/* What was read before the pause comes first. */
void redis_resume(redis_t *self) {
    if (!self || !self->paused)
        return;
    self->paused = false;
    self->heard = clock_monotonic();
    wire_resume(self->wire);
    loop_defer(self->setup.loop, on_ready, self);
}

void redis_settle(redis_t *self, int64_t limit) {
    int64_t end = clock_monotonic() + limit;
    while (redis_is_up(self) && self->count) {
        int64_t left = end - clock_monotonic();
        struct pollfd fd = {.fd = wire_fd(self->wire), .events = POLLIN};
        if (left <= 0 || fd.fd < 0 || poll(&fd, 1, (int) (left / NS_PER_MS) + 1) <= 0)
            return;
        on_ready(self);
    }
}
