/* http: events POSTed in batches to a web address. What the server does not confirm is sent again, and bears the same Idempotency-Key then: a
 * batch is some frames of one sender, and with --state which frames is on the disk before it leaves, so that it is cut the same way after a
 * restart of the machine, too. Frames that are longer than a batch go in parts, one after the other. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/secret.h"
#include "data/json.h"
#include "data/pack.h"
#include "http_cut.h"
#include "net/http.h"
#include "sink.h"

#define HEADERS_MAX 64
#define ANSWER_LIMIT (4u * 1024 * 1024)
#define ANSWER_SHOWN 200

typedef enum body_form { BODY_ARRAY, BODY_NDJSON } body_form_t;

/* A frame that is in no batch yet. */
typedef struct waiting {
    frame_t *frame;
    const char *input;                 /* the key of its input; borrowed */
} waiting_t;

typedef struct batch batch_t;
struct batch {
    sink_t *sink;
    batch_t *next;                     /* in the order of making */
    http_cut_t cut;
    frame_t **frames;                  /* borrowed; the sink's queue holds them */
    uint32_t count, events;
    uint32_t size;                     /* of the part that is under way */
    http_transfer_t *transfer;
    bool begun, done;                  /* it has left; it is confirmed or refused */
};

typedef struct http_sink {
    int64_t batch, in_flight, timeout, connect_timeout;
    uint64_t batch_bytes;
    int form;
    char *method, *user, *password, *token;
    option_list_t headers;
    char *tls_ca, *tls_cert, *tls_key;

    char *url;
    secrets_t secrets;                 /* of ours, which an answer may quote */
    http_t *http;
    waiting_t *waiting;
    uint32_t waiting_count, waiting_room;
    uint64_t waiting_events, waiting_bytes;
    batch_t *batches;
    uint32_t batch_count;
    http_cuts_t cuts;
} http_sink_t;

static void go_on(sink_t *sink, bool all);

static int http_check(sink_t *sink, err_t *err) {
    const http_sink_t *self = sink->own;
    const char *target = sink->target;
    if (!sink->scheme || (strcasecmp(sink->scheme, "http") != 0 && strcasecmp(sink->scheme, "https") != 0) || strncmp(target, "//", 2) != 0 ||
        strcspn(target + 2, "/?#") == 0)
        return err_set(err, "a web address looks like https://host:port/path");
    char *url = mem_format("%s:%s", sink->scheme, target);
    int unreadable = http_url_check(url, err);
    mem_free(url);
    if (unreadable)
        return -1;
    if (self->headers.count > HEADERS_MAX)
        return err_set(err, "--header: at most %d", HEADERS_MAX);
    for (size_t i = 0; i < self->headers.count; i++) {
        const char *header = self->headers.items[i];
        if (!strchr(header, ':') || *header == ':' || strpbrk(header, "\r\n"))
            return err_set(err, "--header: takes \"Name: value\" on one line");
    }
    if (self->token && strpbrk(self->token, "\r\n"))
        return err_set(err, "--token: takes one line; is there a line end at the end of its file?");
    for (const char *c = self->method; *c; c++)
        if (*c < 'A' || *c > 'Z')
            return err_set(err, "--method %s: a method is a word like POST or PUT", self->method);
    return 0;
}

/* ---- which frames go together ---- */

/* Numbers of a durable log are never given out twice, since frames wait until they are stable: but without --state nobody waits. */
static bool any_epoch(const sink_t *sink, const frame_t *frame) {
    return sink->progress && frame->has_stable;
}

static bool same_sender(const waiting_t *a, const waiting_t *b) {
    return strcmp(a->frame->origin, b->frame->origin) == 0 && strcmp(a->input, b->input) == 0;
}

static bool is_filled(const http_sink_t *self) {
    return self->waiting_events >= (uint64_t) self->batch || self->waiting_bytes >= self->batch_bytes;
}

static http_cut_t new_cut(const sink_t *sink, const waiting_t *first) {
    const http_sink_t *self = sink->own;
    const frame_t *frame = first->frame;
    return (http_cut_t){.input = mem_text(first->input), .origin = mem_text(frame->origin), .epoch = frame->epoch, .first = frame->sequence,
                        .last = frame->sequence, .any_epoch = any_epoch(sink, frame), .part = (uint32_t) self->batch};
}

/* Takes frames of the first one's sender out of those that wait, in order: of its cut, which is taken, or as many as fit in a batch. */
static batch_t *make_batch(sink_t *sink, uint32_t start, const http_cut_t *cut) {
    http_sink_t *self = sink->own;
    batch_t *batch = mem_zero(sizeof *batch);
    const waiting_t first = self->waiting[start];
    uint64_t bytes = 0;
    uint32_t kept = start;
    bool over = false;
    batch->sink = sink;
    batch->frames = mem_alloc((self->waiting_count - start) * sizeof *batch->frames);
    for (uint32_t i = start; i < self->waiting_count; i++) {
        const waiting_t *waiting = &self->waiting[i];
        frame_t *frame = waiting->frame;
        bool same = same_sender(waiting, &first);
        if (same && !over && batch->count) {
            bool fits = batch->events + frame->events <= (uint64_t) self->batch && bytes + frame->body_size <= self->batch_bytes &&
                        (frame->epoch == first.frame->epoch || any_epoch(sink, frame));
            over = cut ? !http_cut_has(cut, waiting->input, frame) : !fits || http_cuts_find(&self->cuts, waiting->input, frame) != NULL;
        }
        if (!same || over) {
            self->waiting[kept++] = *waiting;
            continue;
        }
        batch->frames[batch->count++] = frame;
        batch->events += frame->events;
        bytes += frame->body_size;
    }
    self->waiting_count = kept;
    self->waiting_events -= batch->events;
    self->waiting_bytes -= bytes;
    batch->cut = cut ? http_cuts_remove(&self->cuts, cut) : new_cut(sink, &first);
    if (!cut)
        batch->cut.last = batch->frames[batch->count - 1]->sequence;
    return batch;
}

/* A batch that was begun before: all its frames have to be there again. A frame behind it shows that no more will come. */
static bool cut_is_whole(const http_sink_t *self, const http_cut_t *cut) {
    for (uint32_t i = 0; i < self->waiting_count; i++) {
        const waiting_t *waiting = &self->waiting[i];
        if (strcmp(waiting->frame->origin, cut->origin) == 0 && strcmp(waiting->input, cut->input) == 0 && waiting->frame->sequence >= cut->last)
            return true;
    }
    return false;
}

/* The next batch, or NULL when there is none to be made now. */
static batch_t *next_batch(sink_t *sink, bool all) {
    http_sink_t *self = sink->own;
    for (uint32_t i = 0; i < self->waiting_count; i++) {
        const waiting_t *waiting = &self->waiting[i];
        const http_cut_t *cut = http_cuts_find(&self->cuts, waiting->input, waiting->frame);
        bool earlier = false;          /* of the same sender: it comes first */
        for (uint32_t k = 0; k < i && !earlier; k++)
            earlier = same_sender(&self->waiting[k], waiting);
        if (earlier)
            continue;
        if (cut ? cut_is_whole(self, cut) : all || is_filled(self))
            return make_batch(sink, i, cut);
    }
    return NULL;
}

static void free_batch(batch_t *batch) {
    mem_free(batch->frames);
    http_cut_fini(&batch->cut);
    mem_free(batch);
}

/* ---- sending ---- */

/* The events from `from` on, at most `size` of them. */
static void put_body(const batch_t *batch, buf_t *out) {
    const http_sink_t *self = batch->sink->own;
    uint32_t number = 0, malformed = 0;
    bool first = true;
    if (self->form == BODY_ARRAY)
        buf_put_byte(out, '[');
    for (uint32_t f = 0; f < batch->count; f++) {
        const frame_t *frame = batch->frames[f];
        frame_walk_t walk = {0};
        event_t event;
        for (uint32_t n = 0; n < frame->events; n++, number++) {
            bool sound = frame_next(frame, &walk, &event) == 1;
            if (number < batch->cut.from || number >= batch->cut.from + batch->size)
                continue;
            size_t before = out->size;
            if (!first && self->form == BODY_ARRAY)
                buf_put_byte(out, ',');
            if (sound && json_put_event(out, &event, frame->data_time, sink_tag(batch->sink, frame))) {
                if (self->form == BODY_NDJSON)
                    buf_put_byte(out, '\n');
                first = false;
            } else {
                out->size = before;
                malformed++;
            }
        }
    }
    if (self->form == BODY_ARRAY)
        buf_put_byte(out, ']');
    sink_malformed(batch->sink, malformed);
}

static void put_key(const batch_t *batch, buf_t *out) {
    buf_put_text(out, "Idempotency-Key: ");
    http_cut_put_key(&batch->cut, batch->sink->name, out);
    if (batch->size < batch->events)
        buf_format(out, "-%u+%u", batch->cut.from, batch->size);
}

/* For people: without our secrets, which servers like to quote. */
static void put_said(const http_sink_t *self, buf_t *out, text_t said, size_t limit) {
    buf_t masked = {0};
    secrets_put_masked(&self->secrets, &masked, said, limit + 1); /* one more tells that it is cut */
    text_put_visible(out, text_make((const char *) masked.data, masked.size), limit);
    buf_fini(&masked);
}

static void on_done(void *argument, const http_response_t *response);

static void send_part(batch_t *batch) {
    sink_t *sink = batch->sink;
    http_sink_t *self = sink->own;
    const char *headers[HEADERS_MAX + 3];
    size_t count = 0;
    buf_t body = {0}, key = {0};
    err_t err;
    uint32_t left = batch->events - batch->cut.from;
    /* Frames that go together go whole; one that is longer than a batch goes in parts. */
    batch->size = batch->count == 1 && left > batch->cut.part ? batch->cut.part : left;
    put_body(batch, &body);
    put_key(batch, &key);
    bool typed = false;
    for (size_t i = 0; i < self->headers.count; i++) {
        headers[count++] = self->headers.items[i];
        typed |= strncasecmp(self->headers.items[i], "content-type:", 13) == 0;
    }
    if (!typed)
        headers[count++] = self->form == BODY_ARRAY ? "Content-Type: application/json" : "Content-Type: application/x-ndjson";
    if (batch->cut.origin[0]) /* text has no numbers */
        headers[count++] = buf_text(&key);
    headers[count++] = "Expect:";
    http_request_t request = {
        .url = self->url,
        .method = self->method,
        .headers = headers,
        .header_count = count,
        .user = self->user,
        .password = self->password,
        .bearer = self->token,
        .body = buf_text(&body),
        .body_size = body.size,
        .connect_timeout = self->connect_timeout,
        .timeout = self->timeout,
        .body_limit = ANSWER_LIMIT,
        .ca_file = self->tls_ca,
        .certificate = self->tls_cert,
        .key = self->tls_key,
        .done = on_done,
        .argument = batch,
    };
    batch->begun = true;
    batch->transfer = http_start(self->http, &request, &err);
    buf_fini(&body);
    buf_fini(&key);
    if (!batch->transfer)
        stage_fail(sink->stage, "sink %s: %s", sink->name, err.text);
}

/* Every unanswered frame will be given again. What was under way is cut the same way then. */
static void retry(sink_t *sink, const char *reason, int64_t wait) {
    http_sink_t *self = sink->own;
    while (self->batches) {
        batch_t *batch = self->batches;
        self->batches = batch->next;
        http_cancel(batch->transfer);
        if (batch->cut.origin[0]) {
            http_cuts_take(&self->cuts, batch->cut);
            batch->cut = (http_cut_t){0};
        }
        free_batch(batch);
    }
    self->batch_count = self->waiting_count = 0;
    self->waiting_events = self->waiting_bytes = 0;
    sink->hungry = false;
    sink_retry(sink, reason, wait);
}

/* Dead letters are written together with the answer: so the progress knows of both or of neither. */
static void answer(batch_t *batch) {
    sink_t *sink = batch->sink;
    uint32_t number = 0;
    for (uint32_t f = 0; f < batch->count; f++) {
        frame_t *frame = batch->frames[f];
        frame_walk_t walk = {0};
        event_t event;
        for (uint32_t n = 0; batch->cut.refused_count && n < frame->events; n++, number++) {
            if (frame_next(frame, &walk, &event) != 1)
                continue;
            for (uint32_t i = 0; i < batch->cut.refused_count; i++) {
                const http_refused_t *refused = &batch->cut.refused[i];
                if (number >= refused->first && number < refused->first + refused->count)
                    sink_refuse(sink, frame, &event, refused->reason);
            }
        }
        sink_answer_one(sink, frame, SINK_OK, NULL);
    }
}

/* In the order of making, as far as each sender's come one after the other. */
static void answer_done(sink_t *sink) {
    http_sink_t *self = sink->own;
    for (batch_t **at = &self->batches; *at;) {
        batch_t *batch = *at;
        bool earlier = false;
        for (const batch_t *other = self->batches; other != batch && !earlier; other = other->next)
            earlier = strcmp(other->cut.origin, batch->cut.origin) == 0 && strcmp(other->cut.input, batch->cut.input) == 0;
        if (!batch->done || earlier) {
            at = &batch->next;
            continue;
        }
        *at = batch->next;
        self->batch_count--;
        answer(batch);
        free_batch(batch);
    }
}

static void refuse(batch_t *batch, const http_response_t *response) {
    buf_t reason = {0};
    buf_format(&reason, "HTTP status %d", response->status);
    text_t said = text_trim(response->body);
    if (said.size) {
        buf_put_text(&reason, ": ");
        put_said(batch->sink->own, &reason, said, ANSWER_SHOWN);
    }
    batch->cut.refused = mem_resize(batch->cut.refused, (batch->cut.refused_count + 1) * sizeof *batch->cut.refused);
    batch->cut.refused[batch->cut.refused_count++] = (http_refused_t){batch->cut.from, batch->size, mem_text(buf_text(&reason))};
    buf_fini(&reason);
}

/* The data's fault, and not that of the moment or of our credentials? */
static bool is_refusal(int status) {
    return status >= 400 && status < 500 && status != 401 && status != 403 && status != 407 && status != 408 && status != 425 && status != 429;
}

static void on_done(void *argument, const http_response_t *response) {
    batch_t *batch = argument;
    sink_t *sink = batch->sink;
    int status = response->status;
    batch->transfer = NULL;
    if (is_refusal(status) && !http_wants_tls(response)) {
        refuse(batch, response);
    } else if (status < 200 || status >= 300) {
        buf_t reason = {0};
        if (status)
            buf_format(&reason, "HTTP status %d%s", status,
                     status == 401 || status == 403 || status == 407 ? ": the server wants other credentials (user, token, header)"
                     : status == 400 ? ": the server speaks TLS there: take https://"
                     : status < 400 ? ": the address has moved, and events are not sent elsewhere" : "");
        else
            put_said(sink->own, &reason, text_of(response->error), ANSWER_SHOWN);
        retry(sink, buf_text(&reason), response->retry_after);
        buf_fini(&reason);
        return;
    }
    batch->cut.from += batch->size;
    if (batch->cut.from < batch->events) {
        sink_works(sink);              /* the part is done with, whatever becomes of the next one */
        send_part(batch);
        return;
    }
    batch->done = true;
    answer_done(sink);
    go_on(sink, true);
}

static void add_batch(sink_t *sink, batch_t *batch) {
    http_sink_t *self = sink->own;
    batch_t **end = &self->batches;
    while (*end)
        end = &(*end)->next;
    *end = batch;
    self->batch_count++;
    if (batch->cut.from >= batch->events) { /* confirmed before another one failed */
        batch->done = true;
        answer_done(sink);
    } else if (sink->progress && batch->cut.origin[0] && !batch->cut.safe)
        sink_hurry(sink);              /* it leaves when it is stored */
    else
        send_part(batch);
}

/* Sends what can be sent. With one batch more at hand it takes no further frames: they wait where they can still be dropped. Where nothing can be
 * sent, since of a batch that was begun not all has come again, it needs more, whatever the queue's limit is now. */
static void go_on(sink_t *sink, bool all) {
    http_sink_t *self = sink->own;
    while (self->batch_count < self->in_flight) {
        batch_t *batch = next_batch(sink, all);
        if (!batch)
            break;
        sink->hungry = false;
        add_batch(sink, batch);
    }
    bool full = self->batch_count >= self->in_flight && is_filled(self), was_full = sink->full, was_hungry = sink->hungry;
    sink->hungry |= all && !self->batch_count && self->waiting_count;
    sink->full = full;
    if ((was_full && !full) || (sink->hungry && !was_hungry))
        sink_more(sink);
}

/* A key never stands for a part of what it has stood for: a batch is dropped whole. */
static sink_begun_t http_begun(sink_t *sink, const frame_t *frame, const char *input) {
    const http_sink_t *self = sink->own;
    const http_cut_t *cut = http_cuts_find(&self->cuts, input, frame);
    return !cut ? SINK_NEW : cut->dropped ? SINK_GIVEN_UP : SINK_BEGUN;
}

static bool http_dropped(sink_t *sink, const frame_t *frame, const char *input) {
    http_sink_t *self = sink->own;
    http_cut_t *cut = http_cuts_find(&self->cuts, input, frame);
    if (cut && frame->sequence >= cut->last) {
        http_cut_t gone = http_cuts_remove(&self->cuts, cut);
        http_cut_fini(&gone);
    } else if (cut) {
        cut->dropped = true;
    }
    for (uint32_t i = 0; i < self->cuts.count; i++)
        if (self->cuts.items[i].dropped)
            return true;
    return false;
}

static void http_noted(sink_t *sink) {
    const http_sink_t *self = sink->own;
    for (batch_t *batch = self->batches; batch; batch = batch->next)
        batch->cut.noted = true;
    for (uint32_t i = 0; i < self->cuts.count; i++)
        self->cuts.items[i].noted = true;
}

static void http_safe(sink_t *sink) {
    const http_sink_t *self = sink->own;
    for (uint32_t i = 0; i < self->cuts.count; i++)
        self->cuts.items[i].safe |= self->cuts.items[i].noted;
    for (batch_t *batch = self->batches; batch; batch = batch->next) {
        batch->cut.safe |= batch->cut.noted;
        if (batch->cut.safe && !batch->begun)
            send_part(batch);
    }
}

static void http_write(sink_t *sink, frame_t *frame) {
    http_sink_t *self = sink->own;
    if (self->waiting_count == self->waiting_room) {
        self->waiting_room = self->waiting_room ? 2 * self->waiting_room : 64;
        self->waiting = mem_resize(self->waiting, self->waiting_room * sizeof *self->waiting);
    }
    self->waiting[self->waiting_count++] = (waiting_t){frame, sink_frame_key(sink, frame)};
    self->waiting_events += frame->events;
    self->waiting_bytes += frame->body_size;
    if (is_filled(self))
        go_on(sink, false);
}

static void http_flush(sink_t *sink) {
    go_on(sink, true);
}

/* ---- what is remembered ---- */

static void http_position(sink_t *sink, buf_t *out) {
    const http_sink_t *self = sink->own;
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->cuts.count; i++)
        count += !self->cuts.items[i].dropped;
    for (const batch_t *batch = self->batches; batch; batch = batch->next)
        count += batch->cut.origin[0] != 0;
    pack_array(out, count);
    for (uint32_t i = 0; i < self->cuts.count; i++)
        if (!self->cuts.items[i].dropped)
            http_cut_put(&self->cuts.items[i], out);
    for (const batch_t *batch = self->batches; batch; batch = batch->next)
        if (batch->cut.origin[0])
            http_cut_put(&batch->cut, out);
}

static void collect_secrets(http_sink_t *self) {
    secrets_add_url(&self->secrets, text_of(self->url));
    secrets_add(&self->secrets, text_of(self->token));
    secrets_add_login(&self->secrets, text_of(self->user), text_of(self->password));
    for (size_t i = 0; i < self->headers.count; i++)
        secrets_add_header(&self->secrets, self->headers.items[i]);
}

static int http_open(sink_t *sink, err_t *err) {
    http_sink_t *self = sink->own;
    self->url = mem_format("%s:%s", sink->scheme, sink->target);
    collect_secrets(self);
    self->http = http_new(sink->stage->loop);
    return http_cuts_read(&self->cuts, &sink->restored, err);
}

static void http_close(sink_t *sink) {
    http_sink_t *self = sink->own;
    http_free(self->http); /* what is under way is cancelled */
    while (self->batches) {
        batch_t *batch = self->batches;
        self->batches = batch->next;
        free_batch(batch);
    }
    http_cuts_fini(&self->cuts);
    mem_free(self->waiting);
    mem_free(self->url);
    secrets_fini(&self->secrets);
}

#define AT(field) offsetof(http_sink_t, field)
static const option_t options[] = {
    {"batch", OPTION_INT, AT(batch), "1000", "N", "events in a request at most", 1, 1000000},
    {"batch-bytes", OPTION_SIZE, AT(batch_bytes), "1MiB", "SIZE", "frames are put together up to this size", 1024, 64 << 20},
    {"body", OPTION_CHOICE, AT(form), "json", "json|ndjson", "a JSON array, or a line per event"},
    {"in-flight", OPTION_INT, AT(in_flight), "1", "N", "requests under way at most; with more than one the server may see them in another order", 1, 64},
    {"method", OPTION_TEXT, AT(method), "POST", "WORD", "how to ask: POST or PUT"},
    {"header", OPTION_LIST, AT(headers), NULL, "TEXT", "a request header, \"Name: value\""},
    {"user", OPTION_TEXT, AT(user), NULL, "NAME", "user name (Basic authentication)"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line", .needs = "user or @login:a user in the URL"},
    {"token", OPTION_SECRET, AT(token), NULL, "SECRET", "bearer token; better in --settings than on the command line"},
    {"timeout", OPTION_DURATION, AT(timeout), "30s", "DURATION", "for a whole answer", NS_PER_MS, 3600 * NS_PER_S},
    {"connect-timeout", OPTION_DURATION, AT(connect_timeout), "10s", "DURATION", "for name look-up, connection and TLS", NS_PER_MS, 3600 * NS_PER_S},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "tls-cert", .readable = true},
    {0},
};

static const char *const schemes[] = {"http", "https", NULL};
static const char *const types[] = {"http", "webhook", NULL};

const sink_class_t sink_http = {
    .name = "http",
    .schemes = schemes,
    .types = types,
    .help = "events POSTed to a web address, in batches; repeated until they are taken",
    .options = options,
    .size = sizeof(http_sink_t),
    .check = http_check,
    .open = http_open,
    .write = http_write,
    .flush = http_flush,
    .close = http_close,
    .whole_url = true,
    .exact = true,
    .position = http_position,
    .begun = http_begun,
    .dropped = http_dropped,
    .noted = http_noted,
    .safe = http_safe,
};
