/* Answers without an end: Server-Sent Events, or text whose records are passed on as they arrive. When the connection is lost, another one is
 * made, with the id of the last event that was passed on whole. An event is what a body is otherwise: the place is the id before it, and how many
 * of its records have been passed on. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "http_source.h"

static void on_stall(void *argument) {
    http_source_t *self = argument;
    int64_t left = self->paused ? self->settings->stall : self->heard + self->settings->stall - clock_monotonic();
    self->stall_timer = NULL;
    if (left > 0) {
        self->stall_timer = loop_timer(self->setup.loop, left, 0, on_stall, self);
        return;
    }
    http_cancel(self->transfer);
    self->transfer = NULL;
    http_source_retry(self, 0, "nothing has come for the time that --stall allows");
}

void http_stream_begin(http_source_t *self) {
    self->heard = clock_monotonic();
    self->streaming = self->stream_over = false;
    buf_clear(&self->raw);
    self->raw_at = 0;
    sse_begin(&self->sse);
    buf_clear(&self->sse.id);
    if (self->place_at.page)
        buf_put_text(&self->sse.id, self->place_at.page);
    loop_remove(self->stall_timer);
    self->stall_timer = self->settings->stall ? loop_timer(self->setup.loop, self->settings->stall, 0, on_stall, self) : NULL;
}

bool http_is_events(const http_response_t *response) {
    text_t type = http_header(response, "content-type");
    return type.size >= 17 && strncasecmp(type.data, "text/event-stream", 17) == 0;
}

/* The first bytes of an answer: what it is. */
static bool begin_answer(http_source_t *self, const http_response_t *head) {
    err_t err;
    self->is_sse = http_is_events(head);
    const format_t *format = self->is_sse ? format_find("ndjson") : http_source_format(self, head);
    if (!self->setup.format && strcmp(format->name, "json") == 0)
        format = format_find("ndjson");
    if (http_source_prepare(self, format, &err)) {
        source_failed(self->setup.host, "%s: %s", self->place, err.text);
        return false;
    }
    self->sse.limit = self->settings->body_limit;
    self->streaming = true;
    return true;
}

/* The event's data as lines: JSON as it is, with the event's name if that is wanted; any other text as a field. */
static int put_event(http_source_t *self, err_t *err) {
    const http_settings_t *settings = self->settings;
    text_t data = text_trim(text_make((const char *) self->sse.data.data, self->sse.data.size));
    text_t name = text_make((const char *) self->sse.name.data, self->sse.name.size);
    buf_t *out = &self->body;
    if (self->sse.too_large)
        return err_set(err, "the event is larger than the limit of %llu bytes (--body-limit)", (unsigned long long) settings->body_limit);
    bool map = data.size && *data.data == '{' && !settings->records, more = true;
    if (!map && data.size && (*data.data == '[' || settings->records))
        return http_body_to_lines(settings, NULL, data, out, &self->found, err);
    if (map && !settings->event_field) {
        buf_put(out, data.data, data.size);
    } else {
        buf_put_byte(out, '{');
        if (settings->event_field) {
            text_put_json(out, text_of(settings->event_field));
            buf_put_byte(out, ':');
            text_put_json(out, name.size ? name : text_of("message"));
            more = !map || !text_is(text_trim(text_make(data.data + 1, data.size - 1)), "}");
            if (more)
                buf_put_byte(out, ',');
        }
        if (map) {
            buf_put(out, data.data + 1, data.size - 1);
        } else {
            text_put_json(out, text_of(self->setup.format_settings->line_field));
            buf_put_byte(out, ':');
            text_put_json(out, data);
            buf_put_byte(out, '}');
        }
    }
    for (size_t i = 0; i < out->size; i++) { /* a line end inside of JSON is white space */
        if (out->data[i] == '\n' || out->data[i] == '\r')
            out->data[i] = ' ';
    }
    buf_put_byte(out, '\n');
    return 0;
}

static void begin_event(http_source_t *self) {
    err_t err;
    buf_clear(&self->body);
    http_found_fini(&self->found);
    self->at = 0;
    self->lines = true;
    if ((self->sse.data.size || self->sse.too_large) && put_event(self, &err)) {
        source_bad(self->setup.host, text_make((const char *) self->sse.data.data, self->sse.data.size), self->place, err.text);
        buf_clear(&self->body);
    }
    self->first_record = source_records(self->setup.host);
    self->delivering = true;
    if (source_keeps_position(self->setup.host) && self->body.size)
        http_source_find_again(self);
}

/* Passes on the event under way; false when there is no room for all of it. */
static bool deliver_event(http_source_t *self) {
    while (self->at < self->body.size) {
        if (self->paused)
            return false;
        size_t used = source_decode(self->setup.host, self->decoder, (const char *) self->body.data + self->at, self->body.size - self->at, true,
                                    self->place);
        self->at += used;
        if (!used)
            break;
    }
    self->delivering = false;
    source_skip(self->setup.host, 0);
    mem_free(self->place_at.page);
    self->place_at.page = self->sse.id.size ? mem_text_n((const char *) self->sse.id.data, self->sse.id.size) : NULL;
    source_moved(self->setup.host);
    return true;
}

static void run_text(http_source_t *self, bool at_end) {
    while (self->raw_at < self->raw.size && !self->paused) {
        size_t used = source_decode(self->setup.host, self->decoder, (const char *) self->raw.data + self->raw_at, self->raw.size - self->raw_at, at_end,
                                    self->place);
        self->raw_at += used;
        if (!used)
            break;
    }
}

static void run_events(http_source_t *self) {
    while (!self->delivering || deliver_event(self)) {
        bool event = false;
        if (self->paused || self->raw_at == self->raw.size)
            return;
        self->raw_at += sse_feed(&self->sse, (const char *) self->raw.data + self->raw_at, self->raw.size - self->raw_at, &event);
        if (event)
            begin_event(self);
    }
}

void http_stream_run(http_source_t *self) {
    if (!self->streaming)
        return;
    bool complete = self->stream_over && self->stream_clean;
    if (self->is_sse)
        run_events(self);
    else
        run_text(self, complete);
    buf_consume(&self->raw, self->raw_at);
    self->raw_at = 0;
    if (self->paused || !self->stream_over)
        return;
    self->streaming = false;
    if (complete && self->settings->once) {
        source_ended(self->setup.host);
        return;
    }
    int64_t retry = self->sse.retry < 0 ? 0 : self->sse.retry * NS_PER_MS;
    backoff_reset(&self->backoff);
    if (complete)
        http_source_again(self, retry);
    else
        http_source_retry(self, retry, self->stream_error);
}

http_chunk_t http_stream_chunk(void *argument, const http_response_t *head, text_t data) {
    http_source_t *self = argument;
    if (self->paused)
        return HTTP_CHUNK_HOLD;
    self->heard = clock_monotonic();
    if (!self->streaming && !begin_answer(self, head))
        return HTTP_CHUNK_STOP;
    source_healthy(self->setup.host);
    buf_put(&self->raw, data.data, data.size);
    http_stream_run(self);
    return HTTP_CHUNK_TAKEN;
}

/* The answer is over; what has come of it may still have to wait. False: there was none. */
bool http_stream_done(http_source_t *self, const http_response_t *response) {
    loop_remove(self->stall_timer);
    self->stall_timer = NULL;
    if (!self->streaming)
        return false;
    self->stream_over = true;
    self->stream_clean = response->status != 0;
    snprintf(self->stream_error, sizeof self->stream_error, "%s", response->error ? response->error : "");
    http_stream_run(self);
    return true;
}

void http_stream_resume(http_source_t *self) {
    self->heard = clock_monotonic();
    http_stream_run(self);
    if (self->transfer && !self->paused)
        http_resume(self->transfer);
}

void http_stream_fini(http_source_t *self) {
    loop_remove(self->stall_timer);
    buf_fini(&self->raw);
    sse_fini(&self->sse);
}
