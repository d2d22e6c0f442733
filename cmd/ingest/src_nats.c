/* Source "nats:", "nats+tls:": messages of a NATS server, from a stream of JetStream or as they are published. Here is what becomes of a message, and the
 * position; the connection is in nats_reader.c and nats_session.c, the stream's consumer in nats_stream.c. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "nats_fields.h"
#include "nats_seen.h"
#include "nats_settings.h"
#include "payload.h"

#define MESSAGES_PER_ROUND 4096
#define PARTIAL_MAX 16

/* A message of which some records were handed over, and which the server will give again. */
typedef struct partial {
    uint64_t sequence, records;
} partial_t;

typedef struct nats_source {
    source_t source;
    source_setup_t setup;
    const nats_settings_t *settings;
    server_url_t url;
    char *place;                   /* "nats://host:port" */
    char *consumer;
    char **servers;
    size_t server_count;
    const char **subjects;
    size_t subject_count;
    nats_reader_t *reader;
    payload_t payload;
    bool jetstream, restored;
    bool waiting;                  /* for our consumer's name to be durable, before the server hears it */

    /* the message under way */
    natsMsg *message;              /* or NULL */
    uint64_t ordinal;
    nats_meta_t meta;
    uint64_t joined;               /* it and all before it, up to this one, are dealt with afterwards */
    buf_t name, subject;
    tag_t tag;

    /* the position */
    uint64_t step;                 /* ordinal of the last message taken, over all runs */
    uint64_t tail;                 /* the greatest sequence number taken */
    seen_t seen;
    int64_t created;               /* of the stream */
    partial_t partial[PARTIAL_MAX];
    size_t partial_count;

    /* what the consumer gives next */
    bool alone;                    /* to us only */
    bool begun;                    /* a session, whose messages these are */
    bool astray;                   /* something is missing: the session is being ended */
    uint64_t expected;             /* consumer's sequence number */
    uint64_t newest;               /* the last message that it gave for the first time, when that is known */
    bool newest_known, floor_wanted;
} nats_source_t;

static void name_message(nats_source_t *self) {
    buf_clear(&self->name);
    text_put_visible(&self->name, text_of(natsMsg_GetSubject(self->message)), 200);
    if (self->jetstream)
        buf_format(&self->name, " %llu", (unsigned long long) self->meta.sequence);
}

/* Messages. */

static uint64_t take_partial(nats_source_t *self, uint64_t sequence) {
    for (size_t i = 0; i < self->partial_count; i++) {
        if (self->partial[i].sequence == sequence) {
            uint64_t records = self->partial[i].records;
            self->partial[i] = self->partial[--self->partial_count];
            return records;
        }
    }
    return 0;
}

static void put_partial(nats_source_t *self, uint64_t sequence, uint64_t records) {
    if (!records)
        return;
    if (self->partial_count == PARTIAL_MAX) {
        memmove(self->partial, self->partial + 1, sizeof self->partial - sizeof *self->partial);
        self->partial_count--;
    }
    self->partial[self->partial_count++] = (partial_t){sequence, records};
}

static void let_go(nats_source_t *self) {
    natsMsg_Destroy(self->message);
    self->message = NULL;
}

static void taken(nats_source_t *self) {
    self->step = self->ordinal;
    if (self->jetstream) {
        seen_add(&self->seen, self->joined, self->meta.sequence);
        if (self->meta.sequence > self->tail)
            self->tail = self->meta.sequence;
        source_moved(self->setup.host);
    }
    let_go(self);
    source_healthy(self->setup.host);
}

/* Where the message stands among those that the consumer gives. False: one before it is missing. What the consumer gives for the first time comes in the
 * stream's order, so that between two such messages in a row there is none for us. */
static bool find_place(nats_source_t *self) {
    const nats_meta_t *meta = &self->meta;
    bool next = meta->consumer_sequence == self->expected;
    if (self->alone && !next)
        return false;
    if (!next)
        self->newest_known = false;
    self->joined = meta->sequence;
    if (meta->delivered == 1) {
        if (self->newest_known && self->newest < meta->sequence)
            self->joined = self->newest + 1;
        self->newest = meta->sequence;
        self->newest_known = true;
    }
    self->expected = meta->consumer_sequence + 1;
    return true;
}

/* False: the message is none for us. */
static bool begin_message(nats_source_t *self) {
    if (self->jetstream) {
        if (self->astray || !nats_meta_read(&self->meta, natsMsg_GetReply(self->message))) {
            let_go(self);
            return false;
        }
        if (!find_place(self)) {
            self->astray = true;
            nats_reader_lose(self->reader, "a message was lost on the way");
            let_go(self);
            return false;
        }
        if (seen_has(&self->seen, self->meta.sequence)) {
            taken(self);
            return false;
        }
    }
    uint64_t skip = self->jetstream ? take_partial(self, self->meta.sequence) : 0;
    text_t text = text_make(natsMsg_GetData(self->message), (size_t) natsMsg_GetDataLength(self->message));
    name_message(self);
    nats_fields_make(&self->tag, self->settings, self->message, self->meta.sequence, &self->subject);
    if (self->jetstream && self->settings->message_time)
        source_time(self->setup.host, self->meta.time);
    payload_begin(&self->payload, text, &self->tag, buf_text(&self->name), skip);
    return true;
}

/* Where messages are missing in between, it helps to know which the server will not give any more. */
static void look_for_gaps(nats_source_t *self) {
    bool wanted = self->seen.count > 0;
    if (wanted != self->floor_wanted)
        nats_reader_want_floor(self->reader, wanted);
    self->floor_wanted = wanted;
}

static void take(void *argument) {
    nats_source_t *self = argument;
    uint64_t before = self->step;
    size_t count = 0;
    for (; count < MESSAGES_PER_ROUND && (self->begun || !self->jetstream) && source_room(self->setup.host); count++) {
        if (!self->message) {
            self->message = nats_reader_next(self->reader, &self->ordinal);
            if (!self->message)
                break;
            if (!begin_message(self))
                continue;
        }
        if (!payload_go_on(&self->payload))
            break;
        taken(self);
    }
    if (self->jetstream && self->step != before && !source_keeps_position(self->setup.host))
        nats_reader_durable(self->reader, self->step, self->seen.floor);
    look_for_gaps(self);
    if (count == MESSAGES_PER_ROUND)
        loop_defer(self->setup.loop, take, self);
}

/* The reader. */

static void on_up(void *argument, const nats_stream_t *stream) {
    nats_source_t *self = argument;
    self->astray = false;
    self->begun = true;
    if (self->jetstream) {
        if (*stream->note.text)
            log_warning("%s", stream->note.text);
        if (stream->moved) {
            seen_reset(&self->seen, stream->floor);
            self->tail = stream->floor;
            self->partial_count = 0;
        }
        seen_raise(&self->seen, stream->floor);
        self->created = stream->created;
        self->alone = stream->alone;
        self->expected = stream->consumer_delivered + 1;
        self->newest = stream->delivered;
        self->newest_known = true;
        look_for_gaps(self);
        source_moved(self->setup.host);
    }
    source_healthy(self->setup.host);
}

static void go(nats_source_t *self) {
    nats_reader_go(self->reader, (nats_place_t){.ordinal = self->step, .floor = self->seen.floor, .tail = self->tail, .created = self->created});
}

/* What was begun comes again, when it is one of a stream. */
static void on_down(void *argument, const char *reason) {
    nats_source_t *self = argument;
    if (self->message && self->jetstream) {
        put_partial(self, self->meta.sequence, payload_records(&self->payload));
        payload_end(&self->payload);
        let_go(self);
    }
    self->begun = false;
    source_unhealthy(self->setup.host, "%s: %s; trying again", self->place, reason);
    go(self);
}

static void on_dropped(void *argument, uint64_t messages) {
    nats_source_t *self = argument;
    static log_limit_t limit;
    source_dropped(self->setup.host, messages);
    if (log_limited(&limit))
        log_warning("messages come faster than they can be passed on: what there is no room for is dropped and counted; a stream (--jetstream) would keep it");
}

static void on_floor(void *argument, uint64_t sequence) {
    nats_source_t *self = argument;
    seen_raise(&self->seen, sequence);
    source_moved(self->setup.host);
    look_for_gaps(self);
}

/* The source. */

/* A new consumer is known to the server only when its name is safe here: otherwise it could be left behind there. */
static int nats_source_start(source_t *source, err_t *err) {
    nats_source_t *self = (nats_source_t *) source;
    if (nats_reader_start(self->reader, err))
        return -1;
    self->waiting = self->jetstream && source_keeps_position(self->setup.host) && !self->restored;
    if (self->waiting)
        source_moved(self->setup.host);
    else
        go(self);
    return 0;
}

static void nats_source_pause(source_t *source) {
    nats_reader_hold(((nats_source_t *) source)->reader, true);
}

static void nats_source_resume(source_t *source) {
    nats_source_t *self = (nats_source_t *) source;
    nats_reader_hold(self->reader, false);
    loop_defer(self->setup.loop, take, self);
}

static void put_number(buf_t *out, const char *name, uint64_t number) {
    pack_text(out, name);
    pack_uint(out, number);
}

static void nats_source_position(const source_t *source, buf_t *out) {
    const nats_source_t *self = (const nats_source_t *) source;
    uint64_t records = self->message ? payload_records(&self->payload) : 0;
    pack_map(out, 9);
    pack_text(out, "stream");
    pack_text(out, self->settings->stream);
    pack_text(out, "consumer");
    pack_text(out, self->consumer);
    pack_text(out, "own");
    pack_bool(out, !self->settings->consumer);
    put_number(out, "created", (uint64_t) self->created);
    put_number(out, "step", self->step);
    put_number(out, "tail", self->tail);
    put_number(out, "floor", self->seen.floor);
    pack_text(out, "above");
    seen_pack_runs(&self->seen, out);
    pack_text(out, "partial");
    pack_array(out, (uint32_t) (2 * self->partial_count + (records ? 2 : 0)));
    for (size_t i = 0; i < self->partial_count; i++) {
        pack_uint(out, self->partial[i].sequence);
        pack_uint(out, self->partial[i].records);
    }
    if (records) {
        pack_uint(out, self->meta.sequence);
        pack_uint(out, records);
    }
}

static bool stored_text(const uint8_t *position, size_t size, const char *name, text_t *text) {
    value_t value;
    if (!pack_map_get(position, size, text_of(name), &value) || value.type != VALUE_STRING)
        return false;
    *text = text_make(value.text, value.size);
    return true;
}

static bool stored_number(const uint8_t *position, size_t size, const char *name, uint64_t *number) {
    value_t value;
    if (!pack_map_get(position, size, text_of(name), &value) || value.type != VALUE_INT || value.integer < 0)
        return false;
    *number = value.unsigned_integer;
    return true;
}

static bool restore_partial(nats_source_t *self, value_t value) {
    pack_cursor_t cursor = pack_cursor(value.packed, value.size);
    uint32_t count;
    if (value.type != VALUE_ARRAY || !pack_read_array(&cursor, &count) || count % 2)
        return false;
    self->partial_count = 0;
    for (uint32_t i = 0; i < count / 2; i++) {
        partial_t partial;
        if (!pack_read_uint(&cursor, &partial.sequence) || !pack_read_uint(&cursor, &partial.records))
            return false;
        put_partial(self, partial.sequence, partial.records);
    }
    return true;
}

static int nats_source_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    nats_source_t *self = (nats_source_t *) source;
    const nats_settings_t *settings = self->settings;
    text_t stream, consumer;
    value_t own, above, partial;
    uint64_t created, floor;
    if (!stored_text(position, size, "stream", &stream) || !stored_text(position, size, "consumer", &consumer) || !consumer.size || consumer.size > 1000 ||
        !pack_map_get(position, size, text_of("own"), &own) || own.type != VALUE_BOOL || !stored_number(position, size, "created", &created) ||
        !stored_number(position, size, "step", &self->step) || !stored_number(position, size, "tail", &self->tail) ||
        !stored_number(position, size, "floor", &floor) || !pack_map_get(position, size, text_of("above"), &above) || above.type != VALUE_BINARY ||
        !pack_map_get(position, size, text_of("partial"), &partial) || !restore_partial(self, partial))
        return err_set(err, "the stored position is none of a stream of NATS");
    if (!text_is(stream, settings->stream))
        return err_set(err, "it was made for the stream %.*s", (int) (stream.size < 200 ? stream.size : 200), stream.data);
    if (own.boolean != !settings->consumer || (!own.boolean && !text_is(consumer, settings->consumer)))
        return err_set(err, "it was made %s--consumer%s%.*s", own.boolean ? "without " : "with ", own.boolean ? "" : " ", own.boolean ? 0 : (int) consumer.size,
                       consumer.data);
    size_t room = strlen(self->consumer);
    if (consumer.size != room)
        return err_set(err, "the stored position has another kind of consumer's name");
    memcpy(self->consumer, consumer.data, room); /* in place: the reader has it already */
    self->created = (int64_t) created;
    self->restored = true;
    return seen_restore(&self->seen, floor, text_make(above.text, above.size), err);
}

static void nats_source_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    nats_source_t *self = (nats_source_t *) source;
    uint64_t step, floor;
    if (stored_number(position, size, "step", &step) && stored_number(position, size, "floor", &floor))
        nats_reader_durable(self->reader, step, floor);
    if (self->waiting) {
        self->waiting = false;
        go(self);
    }
}

static void nats_source_free(source_t *source) {
    nats_source_t *self = (nats_source_t *) source;
    loop_undefer(self->setup.loop, take, self);
    if (!nats_reader_free(self->reader)) /* it goes on to use what is ours */
        return;
    if (self->message)
        let_go(self);
    payload_fini(&self->payload);
    seen_fini(&self->seen);
    buf_fini(&self->name);
    buf_fini(&self->subject);
    buf_fini(&self->tag.pairs);
    server_url_fini(&self->url);
    for (size_t i = 0; i < self->server_count; i++)
        mem_free(self->servers[i]);
    mem_free(self->servers);
    mem_free(self->subjects);
    mem_free(self->consumer);
    mem_free(self->place);
    mem_free(self);
}

static const source_class_t stream_class = {
    .start = nats_source_start,
    .pause = nats_source_pause,
    .resume = nats_source_resume,
    .position = nats_source_position,
    .restore = nats_source_restore,
    .acknowledge = nats_source_acknowledge,
    .free = nats_source_free,
};

static const source_class_t plain_class = {
    .start = nats_source_start,
    .pause = nats_source_pause,
    .resume = nats_source_resume,
    .free = nats_source_free,
};

static char *new_consumer(void) {
    uint64_t number = 0;
    if (getentropy(&number, sizeof number))
        number = (uint64_t) clock_now();
    return mem_format("ingest-%016llx", (unsigned long long) number);
}

static void list_servers(nats_source_t *self) {
    const option_list_t *more = &self->settings->servers;
    const char *scheme = self->url.tls ? "tls" : "nats";
    self->servers = mem_zero((more->count + 1) * sizeof *self->servers);
    self->servers[self->server_count++] = server_url_place(scheme, self->url.host, self->url.port);
    for (size_t i = 0; i < more->count; i++)
        self->servers[self->server_count++] = mem_format("%s://%s", scheme, more->items[i]);
}

/* A user without a password is a token, as clients of NATS have it. */
static void set_login(nats_reader_setup_t *setup, const nats_settings_t *settings, const server_url_t *url) {
    bool user = settings->user || url->user;
    setup->user = settings->user ? settings->user : url->user;
    setup->password = settings->password ? settings->password : url->password;
    setup->token = settings->token;
    setup->nkey = settings->nkey;
    setup->creds = settings->creds;
    if (user && !setup->password) {
        setup->token = setup->user;
        setup->user = NULL;
    }
}

static void make_reader(nats_source_t *self) {
    const nats_settings_t *settings = self->settings;
    bool trial = source_trial(self->setup.host), own = trial || !settings->consumer;
    nats_reader_setup_t setup = {
        .loop = self->setup.loop,
        .servers = (const char *const *) self->servers,
        .server_count = self->server_count,
        .tls = self->url.tls,
        .tls_ca = settings->tls_ca,
        .tls_cert = settings->tls_cert,
        .tls_key = settings->tls_key,
        .name = "ingest",
        .timeout = settings->connect_timeout,
        .keepalive = settings->keepalive,
        .retry_min = settings->retry_min,
        .retry_max = settings->retry_max,
        .subjects = self->subjects,
        .subject_count = self->subject_count,
        .queue = trial ? NULL : settings->queue,
        .stream = {
            .stream = settings->stream,
            .domain = settings->domain,
            .consumer = self->consumer,
            .own = own,
            .passing = own && (trial || !source_keeps_position(self->setup.host)),
            .trial = trial,
            .subject = self->subject_count ? self->subjects[0] : NULL,
            .ack_wait = settings->ack_wait,
            .unacknowledged = settings->unacknowledged,
        },
        .ready = take,
        .up = on_up,
        .down = on_down,
        .dropped = on_dropped,
        .floor = on_floor,
        .argument = self,
    };
    nats_start_read(&setup.stream, settings->start);
    set_login(&setup, settings, &self->url);
    self->reader = nats_reader_new(&setup);
}

static int nats_source_open(source_t **source, const source_setup_t *setup, err_t *err) {
    const nats_settings_t *settings = setup->settings;
    server_url_t url = {0};
    payload_t payload;
    if (nats_url_read(&url, setup, err))
        return -1;
    if (payload_init(&payload, setup, err)) {
        server_url_fini(&url);
        return -1;
    }
    nats_source_t *self = mem_zero(sizeof *self);
    self->jetstream = settings->stream;
    self->source.class = self->jetstream ? &stream_class : &plain_class;
    self->setup = *setup;
    self->settings = settings;
    self->url = url;
    self->payload = payload;
    self->place = server_url_place(url.tls ? "nats+tls" : "nats", url.host, url.port);
    self->consumer = settings->consumer && !source_trial(setup->host) ? mem_text(settings->consumer) : new_consumer();
    self->subjects = nats_subjects(settings, &self->url, &self->subject_count);
    list_servers(self);
    make_reader(self);
    *source = &self->source;
    return 0;
}

/* The stream's name, or the host's. */
static const char *nats_stream_name(const source_setup_t *setup, buf_t *space) {
    const nats_settings_t *settings = setup->settings;
    server_url_t url = {0};
    err_t err;
    bool good = nats_url_read(&url, setup, &err) == 0;
    if (settings->stream)
        buf_put_text(space, settings->stream);
    else
        buf_put_text(space, good && !strchr(url.host, ':') ? url.host : "nats");
    server_url_fini(&url);
    return buf_text(space);
}

static int nats_holds(const source_setup_t *setup, text_t name, text_t value) {
    return text_is(name, "tls") ? strncasecmp(setup->url, "nats:", 5) != 0 : -1;
}

const source_driver_t source_nats = {
    .name = "nats",
    .schemes = {"nats", "nats+tls", "tls"},
    .types = {{"nats"}, {"jetstream"}},
    .usage = "nats://HOST/SUBJECT, nats+tls://...",
    .help = "messages of a NATS server, from a stream of JetStream or as they are published",
    .options = nats_options,
    .settings_size = sizeof(nats_settings_t),
    .query = true,
    .formats = "json",
    .holds = nats_holds,
    .stream = nats_stream_name,
    .check = nats_settings_check,
    .open = nats_source_open,
};
