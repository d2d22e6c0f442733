/* Source "http-listen:": a small web server to which others POST their events. A request is taken whole or not at all: its body is read once to find
 * whether it is good, and once more for its events, a piece a turn. With --state the answer waits until the log has them. */
#include <stdio.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "http_server.h"
#include "source.h"

typedef struct webhook_settings {
    char *token;
    int64_t connections, idle, timeout, patience;
    uint64_t body_limit;
    tls_files_t tls;
} webhook_settings_t;

#define AT(field) offsetof(webhook_settings_t, field)
static const option_t options[] = {
    {"token", OPTION_SECRET, AT(token), NULL, "SECRET", "what requests must bring as \"Authorization: Bearer SECRET\""},
    {"body-limit", OPTION_SIZE, AT(body_limit), "1MiB", "SIZE", "largest body accepted", 64, 64 << 20},
    {"connections", OPTION_INT, AT(connections), "256", "N", "how many connections may be open; more wait until one is closed", 1, 100000},
    {"idle", OPTION_DURATION, AT(idle), "1m", "DURATION", "close a connection that brings no further request for so long; 0: never", 0, 86400 * NS_PER_S},
    {"timeout", OPTION_DURATION, AT(timeout), "30s", "DURATION", "for a request, from its first byte to its last", NS_PER_MS, 3600 * NS_PER_S},
    {"patience", OPTION_DURATION, AT(patience), "2s", "DURATION", "how long a request waits while the outputs or --memory are full before it is refused", 0,
     3600 * NS_PER_S},
    TLS_FILES_OPTIONS(webhook_settings_t, tls),
    {0},
};

#define PIECE (1024u * 1024)            /* of a body, gone through in one turn */

/* A first reading. */
typedef struct trial {
    frame_builder_t builder;
    uint64_t events;
    bool bad;
    char text[600];
} trial_t;

/* A request between its last byte and its answer: first it is tried, then it waits for room, then for the disk. */
typedef struct waiting {
    struct waiting *next, **link;
    http_exchange_t *exchange;     /* NULL: the client has gone */
    decoder_t *decoder;            /* NULL: its turn has not come, or is over */
    buf_t gone;                    /* its body, then */
    trial_t *trial;                /* NULL: it is over, and all was right */
    size_t at, window;             /* gone through; how much is looked at next, as a record may be longer than a piece */
    uint64_t events, number;       /* in it; of the last of them */
    int64_t until;                 /* monotonic ns: for room */
    char place[ADDRESS_TEXT + 8];
} waiting_t;

typedef struct queue {
    waiting_t *first, **last;
} queue_t;

typedef struct webhook_source {
    source_t source;
    source_setup_t setup;
    const webhook_settings_t *settings;
    address_t address;
    http_server_t *server;
    decoder_t *spare;
    queue_t trial, room, disk;
    loop_watch_t *timer;           /* of the first one's patience */
    uint64_t run;                  /* tells our positions from those of earlier runs */
    log_limit_t limit;
} webhook_source_t;

static void serve(webhook_source_t *self);
static void try_on(webhook_source_t *self);
static void on_serve(void *argument);

/* ---- queues ---- */

static void queue_add(queue_t *queue, waiting_t *waiting) {
    waiting->next = NULL;
    waiting->link = queue->last;
    *queue->last = waiting;
    queue->last = &waiting->next;
}

static void queue_remove(queue_t *queue, waiting_t *waiting) {
    *waiting->link = waiting->next;
    if (waiting->next)
        waiting->next->link = waiting->link;
    else
        queue->last = waiting->link;
}

/* ---- what is wrong with it ---- */

/* Neither the time it takes nor what it does tell how much of it was right. */
static bool same_secret(text_t given, const char *secret) {
    size_t size = strlen(secret);
    unsigned difference = given.size != size;
    for (size_t i = 0; i < given.size; i++)
        difference |= (unsigned char) given.data[i] ^ (unsigned char) secret[size ? i % size : 0];
    return !difference;
}

static bool has_token(const webhook_source_t *self, const http_exchange_t *exchange) {
    text_t value = exchange->authorization, scheme;
    if (!self->settings->token)
        return true;
    if (!text_split(&value, ' ', &scheme) || scheme.size != 6 || strncasecmp(scheme.data, "bearer", 6) != 0)
        return false;
    return same_secret(text_trim(value), self->settings->token);
}

static bool is_type(text_t type, const char *word) {
    return type.size == strlen(word) && strncasecmp(type.data, word, type.size) == 0;
}

static bool is_json(text_t type) {
    text_t word = {0};
    text_split(&type, ';', &word);
    word = text_trim(word);
    return !word.size || is_type(word, "application/json") || is_type(word, "application/x-ndjson") || is_type(word, "application/ndjson") ||
           is_type(word, "application/jsonl") || (word.size > 5 && is_type(text_make(word.data + word.size - 5, 5), "+json"));
}

static int on_refuse(void *argument, http_exchange_t *exchange, const char **text) {
    webhook_source_t *self = argument;
    const char *path = *self->address.path ? self->address.path : "/";
    if (!text_is(exchange->path, path)) {
        *text = "nothing is taken at this path";
        return 404;
    }
    if (!has_token(self, exchange)) {
        if (log_limited(&self->limit))
            log_warning("%s: refused a request without the right token", connection_place(exchange->connection));
        *text = "the token is missing or wrong: Authorization: Bearer SECRET";
        return 401;
    }
    if (!text_is(exchange->method, "POST")) {
        *text = "events come by POST";
        return 405;
    }
    if (exchange->content_encoding.size && !is_type(exchange->content_encoding, "identity")) {
        *text = "the body must not be compressed (Content-Encoding)";
        return 415;
    }
    if (!self->setup.format && !is_json(exchange->content_type)) {
        *text = "the Content-Type is neither application/json nor application/x-ndjson";
        return 415;
    }
    return 0;
}

static bool trial_committed(void *argument) {
    trial_t *trial = argument;
    trial->events++;
    trial->builder.events = 0;
    buf_clear(&trial->builder.body);
    buf_clear(&trial->builder.lengths);
    return false;
}

static void trial_bad(void *argument, text_t record, uint64_t number, const char *reason) {
    trial_t *trial = argument;
    if (!trial->bad)
        snprintf(trial->text, sizeof trial->text, "record %llu: %s", (unsigned long long) number, reason);
    trial->bad = true;
}

/* ---- from the last byte to the answer ---- */

static decoder_t *take_decoder(webhook_source_t *self) {
    decoder_t *decoder = self->spare;
    self->spare = NULL;
    const format_t *format = self->setup.format ? self->setup.format : format_find("json");
    if (!decoder)
        ASSERT(format->decoder_open(&decoder, self->setup.format_settings, NULL) == 0); /* it was tried in check */
    return decoder;
}

static void give_decoder(webhook_source_t *self, decoder_t *decoder) {
    if (!decoder)
        return;
    if (self->spare) {
        decoder_free(decoder);
        return;
    }
    decoder_reset(decoder);
    decoder->records = 0;
    self->spare = decoder;
}

static void dismiss(webhook_source_t *self, waiting_t *waiting) {
    give_decoder(self, waiting->decoder);
    if (waiting->trial)
        builder_fini(&waiting->trial->builder);
    mem_free(waiting->trial);
    buf_fini(&waiting->gone);
    if (waiting->exchange)
        waiting->exchange->own = NULL;
    mem_free(waiting);
}

static void answer(webhook_source_t *self, waiting_t *waiting) {
    char text[64];
    http_exchange_t *exchange = waiting->exchange;
    snprintf(text, sizeof text, "{\"accepted\":%llu}\n", (unsigned long long) waiting->events);
    dismiss(self, waiting);
    if (exchange)
        http_answer(exchange, 202, NULL, text_of(text));
}

static void on_patience(void *argument) {
    webhook_source_t *self = argument;
    self->timer = NULL;
    serve(self);
}

/* Those that have waited for too long, of which nothing has been taken. */
static void refuse_late(webhook_source_t *self) {
    int64_t now = loop_now(self->setup.loop);
    loop_remove(self->timer);
    self->timer = NULL;
    for (waiting_t *waiting = self->room.first, *next; waiting; waiting = next) {
        next = waiting->next;
        if (waiting->at)
            continue;
        if (waiting->until > now) {
            self->timer = loop_timer(self->setup.loop, waiting->until - now, 0, on_patience, self);
            return;
        }
        http_exchange_t *exchange = waiting->exchange;
        queue_remove(&self->room, waiting);
        dismiss(self, waiting);
        if (exchange)
            http_answer_error(exchange, 429, "Retry-After: 1\r\n", "what takes the events is too slow at present: try again");
    }
}

/* What of the body is looked at next. */
static text_t next_piece(const waiting_t *waiting, const buf_t *body, bool *last) {
    size_t left = body->size - waiting->at;
    *last = left <= waiting->window;
    return text_make((const char *) body->data + waiting->at, *last ? left : waiting->window);
}

/* So much of it was used. */
static void piece_used(waiting_t *waiting, size_t used, bool last) {
    waiting->at += used;
    waiting->window = used || last ? PIECE : 2 * waiting->window;
}

/* Takes events of the first request while there is room. True: all. */
static bool take(webhook_source_t *self, waiting_t *waiting) {
    const buf_t *body = waiting->exchange ? &waiting->exchange->body : &waiting->gone;
    size_t worked = 0;
    if (!waiting->decoder)
        waiting->decoder = take_decoder(self);
    while (source_room(self->setup.host) && worked < PIECE) {
        bool last;
        text_t piece = next_piece(waiting, body, &last);
        size_t used = source_decode(self->setup.host, waiting->decoder, piece.data, piece.size, last, waiting->place);
        worked += used;
        piece_used(waiting, used, last);
        if (last && (!used || waiting->at == body->size))
            return true;
    }
    if (worked >= PIECE)
        loop_defer(self->setup.loop, on_serve, self);
    return false;
}

static void serve(webhook_source_t *self) {
    while (self->room.first && source_room(self->setup.host)) {
        waiting_t *waiting = self->room.first;
        if (!take(self, waiting))
            break;
        queue_remove(&self->room, waiting);
        give_decoder(self, waiting->decoder);
        waiting->decoder = NULL;
        buf_fini(&waiting->gone);
        if (waiting->exchange)
            http_body_done(waiting->exchange);
        waiting->number = source_records(self->setup.host);
        source_healthy(self->setup.host);
        if (source_keeps_position(self->setup.host) && waiting->events)
            queue_add(&self->disk, waiting);
        else
            answer(self, waiting);
    }
    refuse_late(self);
}

static void on_serve(void *argument) {
    webhook_source_t *self = argument;
    try_on(self);
    serve(self);
}

/* It is as it should be, or not. */
static void tried(webhook_source_t *self, waiting_t *waiting) {
    http_exchange_t *exchange = waiting->exchange;
    trial_t *trial = waiting->trial;
    give_decoder(self, waiting->decoder);
    waiting->decoder = NULL;
    if (trial->bad) {
        if (log_limited(&self->limit))
            log_warning("%s: refused a request: %s", waiting->place, trial->text);
        char *text = mem_text(trial->text);
        dismiss(self, waiting);
        http_answer_error(exchange, 400, NULL, text);
        mem_free(text);
        return;
    }
    waiting->events = trial->events;
    builder_fini(&trial->builder);
    mem_free(trial);
    waiting->trial = NULL;
    waiting->at = 0;
    waiting->window = PIECE;
    waiting->until = loop_now(self->setup.loop) + self->settings->patience;
    queue_add(&self->room, waiting);
    loop_defer(self->setup.loop, on_serve, self);
}

/* Goes on with the trial, a piece. True: it is over. */
static bool try_piece(waiting_t *waiting) {
    trial_t *trial = waiting->trial;
    const buf_t *body = &waiting->exchange->body;
    decode_target_t target = {.builder = &trial->builder, .ingest_time = clock_now(), .committed = trial_committed, .bad = trial_bad, .argument = trial};
    for (size_t worked = 0; worked < PIECE && !trial->bad;) {
        bool last;
        text_t piece = next_piece(waiting, body, &last);
        size_t used = decoder_feed(waiting->decoder, piece.data, piece.size, last, &target);
        worked += used;
        piece_used(waiting, used, last);
        if (last && (!used || waiting->at == body->size)) {
            text_t all = text_make((const char *) body->data, body->size);
            if (!trial->bad && !trial->events && !text_trim(all).size)
                trial_bad(trial, all, 1, "the body is empty");
            return true;
        }
    }
    return trial->bad;
}

static void try_on(webhook_source_t *self) {
    waiting_t *waiting = self->trial.first;
    if (!waiting)
        return;
    queue_remove(&self->trial, waiting);
    if (try_piece(waiting))
        tried(self, waiting);
    else
        queue_add(&self->trial, waiting); /* others get their turn */
    if (self->trial.first)
        loop_defer(self->setup.loop, on_serve, self);
}

static void on_request(void *argument, http_exchange_t *exchange) {
    webhook_source_t *self = argument;
    waiting_t *waiting = mem_zero(sizeof *waiting);
    buf_reserve(&exchange->body, 64); /* decoders may look so far past the end */
    waiting->exchange = exchange;
    waiting->decoder = take_decoder(self);
    waiting->trial = mem_zero(sizeof *waiting->trial);
    waiting->window = PIECE;
    snprintf(waiting->place, sizeof waiting->place, "%s", connection_place(exchange->connection));
    exchange->own = waiting;
    if (try_piece(waiting)) {
        tried(self, waiting);
        return;
    }
    queue_add(&self->trial, waiting);
    loop_defer(self->setup.loop, on_serve, self);
}

/* Gone before its answer: it will come again, unless some of it is taken already; then all of it is. */
static void on_gone(void *argument, http_exchange_t *exchange) {
    webhook_source_t *self = argument;
    waiting_t *waiting = exchange->own;
    if (!waiting)
        return;
    if (waiting->trial || (!waiting->at && !waiting->number)) {
        queue_remove(waiting->trial ? &self->trial : &self->room, waiting);
        dismiss(self, waiting);
        return;
    }
    waiting->exchange = NULL;
    waiting->gone = exchange->body;
    exchange->body = (buf_t){0};
}

/* ---- the source ---- */

static int webhook_start(source_t *source, err_t *err) {
    webhook_source_t *self = (webhook_source_t *) source;
    const webhook_settings_t *settings = self->settings;
    const http_server_setup_t setup = {
        .loop = self->setup.loop,
        .rest = self->setup.rest,
        .tls = &settings->tls,
        .connections = (unsigned) settings->connections,
        .idle = settings->idle,
        .timeout = settings->timeout,
        .body_limit = settings->body_limit,
        .memory = source_memory(self->setup.host) / 4,
        .patience = settings->patience,
        .refuse = on_refuse,
        .request = on_request,
        .closed = on_gone,
        .argument = self,
    };
    self->server = http_server_new(&setup, err);
    return self->server ? 0 : -1;
}

/* Requests are read all the same: they are told. */
static void webhook_pause(source_t *source) {
}

static void webhook_resume(source_t *source) {
    webhook_source_t *self = (webhook_source_t *) source;
    loop_defer(self->setup.loop, on_serve, self);
}

static void webhook_position(const source_t *source, buf_t *out) {
    const webhook_source_t *self = (const webhook_source_t *) source;
    pack_map(out, 2);
    pack_text(out, "run");
    pack_uint(out, self->run);
    pack_text(out, "records");
    pack_uint(out, source_records(self->setup.host));
}

static void webhook_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    webhook_source_t *self = (webhook_source_t *) source;
    value_t run, records;
    if (!pack_map_get(position, size, text_of("run"), &run) || run.unsigned_integer != self->run ||
        !pack_map_get(position, size, text_of("records"), &records))
        return;
    while (self->disk.first && self->disk.first->number <= records.unsigned_integer) {
        waiting_t *waiting = self->disk.first;
        queue_remove(&self->disk, waiting);
        answer(self, waiting);
    }
}

static void free_queue(webhook_source_t *self, queue_t *queue) {
    while (queue->first) {
        waiting_t *waiting = queue->first;
        queue_remove(queue, waiting);
        dismiss(self, waiting);
    }
}

static void webhook_free(source_t *source) {
    webhook_source_t *self = (webhook_source_t *) source;
    http_server_free(self->server);
    free_queue(self, &self->trial);
    free_queue(self, &self->room);
    free_queue(self, &self->disk);
    loop_remove(self->timer);
    loop_undefer(self->setup.loop, on_serve, self);
    decoder_free(self->spare);
    mem_free(self);
}

static const source_class_t class = {
    .start = webhook_start,
    .pause = webhook_pause,
    .resume = webhook_resume,
    .position = webhook_position,
    .acknowledge = webhook_acknowledge,
    .free = webhook_free,
};

static int webhook_check(const source_setup_t *setup, err_t *err) {
    const webhook_settings_t *settings = setup->settings;
    address_t address;
    decoder_t *decoder;
    if (address_check(&address, setup->url, setup->rest, 0, true, err) || tls_files_check(&settings->tls, err))
        return -1;
    if (settings->token && !*settings->token)
        return err_set(err, "--token is empty");
    if (settings->token && strpbrk(settings->token, "\r\n"))
        return err_set(err, "--token: takes one line; is there a line end at the end of its file?");
    for (const char *c = address.path; *c; c++) {
        if (*c <= ' ' || *c > '~')
            return err_set(err, "the path %s: it stands here as in a request, a blank is %%20 and what is not ASCII %%C3%%BC and the like", address.path);
    }
    const format_t *format = setup->format ? setup->format : format_find("json");
    if (format->decoder_open(&decoder, setup->format_settings, err))
        return -1;
    decoder_free(decoder);
    return 0;
}

static int webhook_open(source_t **source, const source_setup_t *setup, err_t *err) {
    webhook_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    self->settings = setup->settings;
    self->run = (uint64_t) clock_now();
    self->trial.last = &self->trial.first;
    self->room.last = &self->room.first;
    self->disk.last = &self->disk.first;
    if (address_read(&self->address, setup->rest, 0, err)) {
        mem_free(self);
        return -1;
    }
    *source = &self->source;
    return 0;
}

/* The path's last part. */
static const char *webhook_stream(const source_setup_t *setup, buf_t *space) {
    const char *slash = strrchr(setup->rest, '/');
    if (!slash || !slash[1] || slash - setup->rest < 2)
        return "webhook";
    buf_put_text(space, slash + 1);
    return buf_text(space);
}

const source_driver_t source_webhook = {
    .name = "webhook",
    .schemes = {"http-listen"},
    .types = {{"webhook"}, {"http-listen"}},
    .usage = "http-listen://HOST:PORT/path",
    .help = "listens for web requests (webhooks) that POST events as JSON or NDJSON",
    .options = options,
    .settings_size = sizeof(webhook_settings_t),
    .query = true,
    .formats = "json",
    .stream = webhook_stream,
    .check = webhook_check,
    .open = webhook_open,
};
