/* Source "http:", "https:": a web address asked again and again. Its body is JSON or XML (one event, or several, possibly deeper inside) or
 * any of the text formats; it may come in pages. An unchanged answer (304) costs next to nothing; failures are tried again, slower and slower.
 * A round is one answer with all its pages. The next one begins after the interval, with the greatest value of --cursor that has come. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/value.h"
#include "base/url.h"
#include "http_source.h"

static void ask(void *argument);

static void ask_in(http_source_t *self, int64_t delay) {
    loop_remove(self->timer);
    self->timer = loop_timer(self->setup.loop, delay, 0, ask, self);
}

static void ask_on_schedule(http_source_t *self) {
    http_place_t *place = &self->place_at;
    backoff_reset(&self->backoff);
    place->pages = 0;
    place->since = place->now ? place->now : place->since;
    place->now = 0;
    if (self->settings->once)
        source_ended(self->setup.host);
    else
        ask_in(self, self->asked + self->settings->interval - clock_monotonic());
}

/* On to the next page; a server that never ends does not keep us from waiting now and then. */
static void ask_for_page(http_source_t *self) {
    backoff_reset(&self->backoff);
    int64_t wait = self->settings->page_pause;
    if (self->place_at.pages >= self->settings->page_limit) {
        self->place_at.pages = 0;
        wait = self->settings->interval;
        log_info("%s: %lld pages in a row; the next ones follow after the interval", self->place, (long long) self->settings->page_limit);
    }
    ask_in(self, self->asked + wait - clock_monotonic());
}

void http_source_retry(http_source_t *self, int64_t retry_after, const char *reason) {
    int64_t wait = backoff_next(&self->backoff);
    if (!self->settings->once && !self->settings->stream && wait < self->settings->interval && self->backoff.failures > 1)
        wait = self->settings->interval;
    if (wait < retry_after)
        wait = retry_after;
    source_unhealthy(self->setup.host, "%s: %s; trying again", self->place, reason);
    ask_in(self, wait);
}

void http_source_again(http_source_t *self, int64_t wait) {
    int64_t own = backoff_next(&self->backoff);
    backoff_reset(&self->backoff);
    log_info("%s: the server has ended the stream; connecting again", self->place);
    ask_in(self, own > wait ? own : wait);
}

/* The page is used up. In a round of one page its validators count from now on; they would say nothing of the others. */
static void delivered(http_source_t *self) {
    const http_settings_t *settings = self->settings;
    http_place_t *place = &self->place_at;
    self->delivering = false;
    source_skip(self->setup.host, 0);
    source_moved(self->setup.host);
    buf_fini(&self->body); /* it may have been big; the next one is far away */
    self->at = 0;
    self->found.records = source_records(self->setup.host) - self->first_record;
    if (self->found.greatest)
        http_keep_greatest(&place->greatest, text_of(self->found.greatest));
    bool more = http_page_turn(settings, place, &self->found);
    bool cursor_moved = !more && place->greatest && (!place->cursor || strcmp(place->cursor, place->greatest) != 0);
    if (cursor_moved)
        http_keep_greatest(&place->cursor, text_of(place->greatest));
    mem_free(self->etag);
    mem_free(self->modified);
    bool same = !settings->paging && !cursor_moved && !place->now; /* the next request is the same as this one */
    self->etag = same ? self->next_etag : NULL;
    self->modified = same ? self->next_modified : NULL;
    if (!same) {
        mem_free(self->next_etag);
        mem_free(self->next_modified);
    }
    self->next_etag = self->next_modified = NULL;
    http_found_fini(&self->found);
    self->unsafe = source_keeps_position(self->setup.host) && (self->etag || self->modified);
    if (more)
        ask_for_page(self);
    else
        ask_on_schedule(self);
}

static void deliver(http_source_t *self) {
    while (self->at < self->body.size && !self->paused) {
        size_t used = source_decode(self->setup.host, self->decoder, (const char *) self->body.data + self->at,
                                    self->body.size - self->at, true, self->place);
        self->at += used;
        if (!used)
            break;
    }
    if (!self->paused)
        delivered(self);
}

const format_t *http_source_format(const http_source_t *self, const http_response_t *response) {
    static const struct { const char *type, *format; } types[] = {
        {"application/x-ndjson", "ndjson"}, {"application/ndjson", "ndjson"}, {"application/jsonl", "ndjson"},
        {"text/csv", "csv"}, {"text/tab-separated-values", "tsv"}, {"application/xml", "xml"}, {"text/xml", "xml"},
    };
    if (self->setup.format)
        return self->setup.format;
    text_t type = http_header(response, "content-type"), word = {0};
    text_split(&type, ';', &word);
    word = text_trim(word);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (word.size == strlen(types[i].type) && strncasecmp(word.data, types[i].type, word.size) == 0)
            return format_find(types[i].format);
    }
    return format_find(word.size > 4 && strncasecmp(word.data + word.size - 4, "+xml", 4) == 0 ? "xml" : "json");
}

/* The decoder is kept while the format stays the same. */
int http_source_prepare(http_source_t *self, const format_t *format, err_t *err) {
    if (self->decoder_format == format) {
        decoder_reset(self->decoder);
        self->decoder->records = 0;
        return 0;
    }
    decoder_t *decoder;
    if (format->decoder_open(&decoder, self->setup.format_settings, err))
        return -1;
    decoder_free(self->decoder);
    self->decoder = decoder;
    self->decoder_format = format;
    return 0;
}

/* Makes self->body ready to be decoded. A body that cannot be used is gone when the next request will be another's; where it is a part of
 * what is to come (a page, or all since a cursor), it is asked for again. */
static int read_body(http_source_t *self, const http_response_t *response, const format_t *format, err_t *err) {
    text_t text = text_trim(response->body);
    bool is_xml = strcmp(format->name, "xml") == 0;
    if (!text.size)
        return 0; /* no events, and no error */
    if (is_xml && !self->xml)
        self->xml = xml_new(self->setup.format_settings->no_inference);
    if (self->lines)
        return http_body_to_lines(self->settings, is_xml ? self->xml : NULL, response->body, &self->body, &self->found, err);
    buf_put(&self->body, response->body.data, response->body.size);
    return 0;
}

static void take_body(http_source_t *self, const http_response_t *response) {
    const http_settings_t *settings = self->settings;
    err_t err = {{0}};
    const format_t *format = http_source_format(self, response);
    self->lines = strcmp(format->name, "json") == 0 || strcmp(format->name, "xml") == 0;
    buf_clear(&self->body);
    http_found_fini(&self->found);
    self->at = 0;
    if (http_source_prepare(self, self->lines ? format_find("ndjson") : format, &err)) {
        source_failed(self->setup.host, "%s: %s", self->place, err.text);
        return;
    }
    if ((settings->cursor || settings->next) && !self->lines && text_trim(response->body).size) {
        http_source_retry(self, 0, "the body is neither JSON nor XML, where --cursor and --next look");
        return;
    }
    if (read_body(self, response, format, &err) || http_page_read(settings, self->setup.url, &self->place_at, response, &self->found, &err)) {
        char reason[sizeof err.text + 64];
        snprintf(reason, sizeof reason, "the body cannot be used: %s", err.text);
        buf_clear(&self->body);
        if (settings->paging || settings->cursor) {
            http_source_retry(self, 0, reason);
            return;
        }
        source_bad(self->setup.host, response->body, self->place, err.text);
        source_unhealthy(self->setup.host, "%s: %s", self->place, reason);
    } else {
        source_healthy(self->setup.host);
    }
    http_replace(&self->next_etag, http_header(response, "etag"));
    http_replace(&self->next_modified, http_header(response, "last-modified"));
    self->first_record = source_records(self->setup.host);
    self->delivering = true;
    if (source_keeps_position(self->setup.host))
        http_source_find_again(self);
    deliver(self);
}

/* No content, or unchanged: that ends a round as well. */
static void take_nothing(http_source_t *self) {
    source_healthy(self->setup.host);
    if (self->settings->paging) {
        buf_clear(&self->body);
        http_found_fini(&self->found);
        self->first_record = source_records(self->setup.host);
        delivered(self);
    } else {
        ask_on_schedule(self);
    }
}

/* Whether it was complete or not: mostly it has no end. */
static bool is_endless(const http_source_t *self, const http_response_t *response) {
    return !self->settings->stream && !self->setup.format && (!response->status || response->status == 200) && http_is_events(response);
}

/* Some servers answer a page that is not there with an error. It could be a failure as well, so that must have been said. */
static bool may_be_behind(const http_source_t *self, int status) {
    bool counts = self->settings->paging == PAGING_OFFSET || self->settings->paging == PAGING_PAGE;
    return counts && self->place_at.page && status >= 400 && status < 500 && status != 429;
}

static bool is_behind_the_last_page(const http_source_t *self, int status) {
    return status == self->settings->page_end && may_be_behind(self, status);
}

static void on_done(void *argument, const http_response_t *response) {
    http_source_t *self = argument;
    char reason[512];
    self->transfer = NULL;
    http_pace_heed(&self->pace, response, clock_monotonic(), self->place);
    if (response->status == 401 && http_auth_refused(self)) {
        http_source_ask(self);
        return;
    }
    if (response->status && response->status != 401)
        self->auth.refused = false;
    if (self->settings->stream && http_stream_done(self, response))
        return;
    if (is_endless(self, response)) {
        http_source_retry(self, 0, "the answer is Server-Sent Events, which --stream takes as they come");
        return;
    }
    if (is_behind_the_last_page(self, response->status)) {
        take_nothing(self);
        return;
    }
    switch (response->status) {
    case 200 ... 203:
    case 206 ... 299: /* some APIs give their pages as 206 */
        if (self->settings->stream) /* not a byte */
            take_nothing(self);
        else
            take_body(self, response);
        return;
    case 204:
    case 205:
    case 304:
        take_nothing(self);
        return;
    case 0:
        snprintf(reason, sizeof reason, "%s", response->error);
        break;
    case 401:
    case 403:
        snprintf(reason, sizeof reason, "HTTP status %d: the server wants other credentials (--user, --token, --oauth-url, --api-key, --header)", response->status);
        break;
    case 407:
        snprintf(reason, sizeof reason, "HTTP status 407: the proxy wants other credentials (--proxy)");
        break;
    default:
        snprintf(reason, sizeof reason, "HTTP status %d%s", response->status, http_wants_tls(response) ? ": the server speaks TLS there: take https://" : "");
        if (may_be_behind(self, response->status))
            snprintf(reason, sizeof reason, "HTTP status %d for a page behind the first: where that means that there are no more, say --page-end %d",
                     response->status, response->status);
    }
    http_source_retry(self, response->retry_after, reason);
}

/* {now} is the same for all of a round's requests, also for those after a restart: so they bring the same. Milliseconds. */
static void begin_round(http_source_t *self) {
    http_place_t *place = &self->place_at;
    if (place->now || !http_request_has_dates(self->settings, self->setup.url))
        return;
    place->now = clock_now() / NS_PER_MS * NS_PER_MS;
    if (place->now < place->since)
        place->now = place->since; /* the clock was set back */
}

static bool is_new(void *argument, const uint8_t *record, size_t size) {
    return unique_take(argument, record, size);
}

/* Asking with a body's validators tells the server that we have it: it may go on and never give it again. So with --state that waits until
 * the body is safe even from loss of power. */
static void ask(void *argument) {
    http_source_t *self = argument;
    const http_settings_t *settings = self->settings;
    if (self->unsafe) {
        self->timer = NULL;
        self->waiting = true;
        return;
    }
    if (http_auth_needed(self)) {
        self->timer = NULL;
        http_auth_fetch(self);
        return;
    }
    int64_t wait = http_pace_wait(&self->pace, clock_monotonic());
    if (wait) {
        self->timer = NULL;
        ask_in(self, wait);
        return;
    }
    begin_round(self);
    const char *headers[HTTP_HEADERS_MAX + 6];
    buf_t url = {0}, body = {0}, space = {0};
    http_request_url(settings, self->setup.url, &self->place_at, &url);
    http_request_body(settings, &self->place_at, &body);
    size_t count = http_request_headers(settings, headers, &space);
    char *match = self->etag ? mem_format("If-None-Match: %s", self->etag) : NULL;
    char *since = self->modified ? mem_format("If-Modified-Since: %s", self->modified) : NULL;
    self->timer = NULL;
    if (match)
        headers[count++] = match;
    if (since)
        headers[count++] = since;
    char *last_id = settings->stream && self->place_at.page ? mem_format("Last-Event-ID: %s", self->place_at.page) : NULL;
    if (settings->stream) {
        headers[count++] = "Accept: text/event-stream, application/x-ndjson, */*;q=0.5";
        http_stream_begin(self);
    }
    if (last_id)
        headers[count++] = last_id;
    http_request_t request = {
        .url = buf_text(&url),
        .method = settings->method,
        .body = settings->body ? body.data : NULL,
        .body_size = body.size,
        .headers = headers,
        .header_count = count,
        .user = settings->user,
        .password = settings->password,
        .bearer = self->auth.access ? self->auth.access : settings->token,
        .connect_timeout = settings->connect_timeout,
        .timeout = settings->stream ? 0 : settings->timeout,
        .body_limit = settings->body_limit,
        .limit_option = "--body-limit",
        .redirects = (unsigned) settings->redirects,
        .proxy = settings->proxy,
        .ca_file = settings->tls_ca,
        .certificate = settings->tls_cert,
        .key = settings->tls_key,
        .done = on_done,
        .chunk = settings->stream ? http_stream_chunk : NULL,
        .argument = self,
    };
    self->asked = clock_monotonic();
    http_pace_sent(&self->pace, self->asked);
    self->place_at.pages++;
    err_t err;
    self->transfer = http_start(self->http, &request, &err);
    if (!self->transfer)
        source_failed(self->setup.host, "%s: %s", self->place, err.text);
    mem_free(match);
    mem_free(since);
    mem_free(last_id);
    buf_fini(&url);
    buf_fini(&body);
    buf_fini(&space);
}

void http_source_ask(http_source_t *self) {
    ask_in(self, 0);
}

static int http_source_start(source_t *source, err_t *err) {
    ask_in((http_source_t *) source, 0);
    return 0;
}

/* A request under way is let finish; its body waits. */
static void http_source_pause(source_t *source) {
    http_source_t *self = (http_source_t *) source;
    self->paused = true;
}

static void on_resumed(void *argument) {
    http_source_t *self = argument;
    if (self->paused)
        return;
    if (self->settings->stream)
        http_stream_resume(self);
    else if (self->delivering)
        deliver(self);
}

static void http_source_resume(source_t *source) {
    http_source_t *self = (http_source_t *) source;
    self->paused = false;
    self->heard = clock_monotonic();
    loop_defer(self->setup.loop, on_resumed, self);
}

static void http_source_free(source_t *source) {
    http_source_t *self = (http_source_t *) source;
    loop_remove(self->timer);
    loop_undefer(self->setup.loop, on_resumed, self);
    http_free(self->http);
    http_stream_fini(self);
    http_auth_fini(&self->auth);
    decoder_free(self->decoder);
    xml_free(self->xml);
    unique_free(self->unique);
    http_pace_fini(&self->pace);
    buf_fini(&self->body);
    http_place_fini(&self->place_at);
    http_found_fini(&self->found);
    mem_free(self->etag);
    mem_free(self->modified);
    mem_free(self->next_etag);
    mem_free(self->next_modified);
    mem_free(self->place);
    mem_free(self);
}

static const source_class_t class = {
    .start = http_source_start,
    .pause = http_source_pause,
    .resume = http_source_resume,
    .position = http_source_position,
    .restore = http_source_restore,
    .acknowledge = http_source_acknowledge,
    .free = http_source_free,
};

static int http_open(source_t **source, const source_setup_t *setup, err_t *err) {
    http_source_t *self = mem_zero(sizeof *self);
    const http_settings_t *settings = setup->settings;
    buf_t place = {0};
    self->source.class = &class;
    self->setup = *setup;
    self->settings = settings;
    url_put_redacted(&place, text_of(setup->url));
    self->place = mem_text(buf_text(&place));
    buf_fini(&place);
    self->backoff = (backoff_t){.minimum = settings->retry_min, .maximum = settings->retry_max, .state = (uint64_t) clock_now()};
    self->place_at.cursor = mem_text(settings->cursor_start);
    if (settings->since)
        value_to_time(value_text(settings->since, strlen(settings->since)), &self->place_at.since);
    http_pace_init(&self->pace, settings->rate_limit);
    if (settings->unique.count) {
        self->unique = unique_new(&settings->unique, (uint32_t) settings->unique_limit);
        source_filter(setup->host, is_new, self->unique);
    }
    self->http = http_new(setup->loop);
    *source = &self->source;
    return 0;
}

/* The host's name; dots are fine in a stream's name. */
static const char *http_stream(const source_setup_t *setup, buf_t *space) {
    const char *host = setup->rest + strspn(setup->rest, "/");
    size_t size = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', size);
    if (at) {
        size -= (size_t) (at + 1 - host);
        host = at + 1;
    }
    const char *colon = memchr(host, ':', size);
    buf_put(space, host, colon ? (size_t) (colon - host) : size);
    return buf_text(space);
}

static int http_holds(const source_setup_t *setup, text_t name, text_t value) {
    const http_settings_t *settings = setup->settings;
    if (text_is(name, "dates"))
        return http_request_has_dates(settings, setup->url);
    if (text_is(name, "rounds"))
        return !settings->stream && (!settings->once || settings->paging); /* of pages, too, some are waited for */
    return text_is(name, "bounded") ? !settings->stream || settings->oauth_url : -1; /* tokens are asked for with --timeout, too */
}

const source_driver_t source_http = {
    .name = "http",
    .schemes = {"http", "https"},
    .types = {{"api"}, {"rest"}, {"http"}, {"https"}},
    .usage = "http://..., https://...",
    .help = "a web address asked at an interval: JSON, XML, NDJSON or CSV",
    .options = http_options,
    .settings_size = sizeof(http_settings_t),
    .formats = "json|ndjson|csv|tsv|xml",
    .holds = http_holds,
    .stream = http_stream,
    .check = http_settings_check,
    .open = http_open,
};
