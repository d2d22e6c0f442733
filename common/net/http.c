/* The HTTP client: libcurl's multi-socket interface driven by our loop, so that a transfer costs no thread and no polling.
 * Redirects are followed here rather than by libcurl, which would take the caller's headers (an API key, say) along to
 * another host. */
#include "net/http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/tls_words.h"

#define CONNECT_TIMEOUT_DEFAULT (10 * NS_PER_S)
#define HEADERS_LIMIT (64 * 1024)
#define CONNECTIONS_KEPT 8L

struct http {
    loop_t *loop;
    CURLM *multi;
    loop_watch_t *timer;
    http_transfer_t *transfers;
};

typedef struct http_socket {
    http_t *http;
    curl_socket_t fd;
    loop_watch_t *watch;
} http_socket_t;

struct http_transfer {
    http_t *http;
    http_transfer_t *next, *previous;
    CURL *easy;
    struct curl_slist *headers;
    char *url;                /* being asked */
    unsigned redirects;       /* left */
    size_t body_limit;
    const char *limit_option;
    buf_t body, header_text;
    bool too_large;
    char error[CURL_ERROR_SIZE];
    void (*done)(void *argument, const http_response_t *response);
    http_chunk_t (*chunk)(void *argument, const http_response_t *head, text_t data);
    void *argument;
};

static void finish_completed(http_t *http);

static long milliseconds(int64_t ns) {
    int64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms > 1000000000 ? 1000000000L : (long) ms;
}

/* The loop tells libcurl. */

static void on_socket(void *argument, uint32_t events) {
    http_socket_t *socket = argument;
    http_t *http = socket->http;
    int action = 0, running = 0;
    if (events & EPOLLIN)
        action |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        action |= CURL_CSELECT_OUT;
    if (events & (EPOLLERR | EPOLLHUP))
        action |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
    curl_multi_socket_action(http->multi, socket->fd, action, &running);
    finish_completed(http);
}

static void on_timer(void *argument) {
    http_t *http = argument;
    http->timer = NULL; /* one-shot */
    int running = 0;
    curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    finish_completed(http);
}

/* libcurl tells the loop. */

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *argument, void *socket_argument) {
    http_t *http = argument;
    http_socket_t *socket = socket_argument;
    if (what == CURL_POLL_REMOVE) {
        if (socket) {
            loop_remove(socket->watch);
            mem_free(socket);
            curl_multi_assign(http->multi, fd, NULL);
        }
        return 0;
    }
    uint32_t events = 0;
    if (what != CURL_POLL_OUT)
        events |= EPOLLIN;
    if (what != CURL_POLL_IN)
        events |= EPOLLOUT;
    if (socket) {
        loop_fd_events(socket->watch, events);
        return 0;
    }
    socket = mem_zero(sizeof *socket);
    socket->http = http;
    socket->fd = fd;
    socket->watch = loop_fd(http->loop, fd, events, on_socket, socket);
    if (!socket->watch) {
        mem_free(socket);
        return -1;
    }
    curl_multi_assign(http->multi, fd, socket);
    return 0;
}

static int want_timer(CURLM *multi, long ms, void *argument) {
    http_t *http = argument;
    loop_remove(http->timer);
    http->timer = ms < 0 ? NULL : loop_timer(http->loop, ms * NS_PER_MS, 0, on_timer, http);
    return 0;
}

static size_t take_chunk(http_transfer_t *transfer, long status, text_t data) {
    http_response_t head = {.status = (int) status, .url = transfer->url, .headers = &transfer->header_text};
    switch (transfer->chunk(transfer->argument, &head, data)) {
    case HTTP_CHUNK_TAKEN:
        return data.size;
    case HTTP_CHUNK_HOLD:
        return CURL_WRITEFUNC_PAUSE;
    case HTTP_CHUNK_STOP:
        break;
    }
    return CURL_WRITEFUNC_ERROR;
}

static size_t take_body(char *data, size_t size, size_t count, void *argument) {
    http_transfer_t *transfer = argument;
    size *= count;
    long status = 0;
    if (transfer->chunk && curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK && status >= 200 && status < 300)
        return take_chunk(transfer, status, text_make(data, size));
    if (size > transfer->body_limit - transfer->body.size) {
        transfer->too_large = true;
        return 0; /* ends the transfer */
    }
    buf_put(&transfer->body, data, size);
    return size;
}

static size_t take_header(char *data, size_t size, size_t count, void *argument) {
    http_transfer_t *transfer = argument;
    size *= count;
    if (size > 5 && memcmp(data, "HTTP/", 5) == 0) /* the answer begins anew, e.g. after 100 Continue */
        buf_clear(&transfer->header_text);
    if (size <= HEADERS_LIMIT - transfer->header_text.size)
        buf_put(&transfer->header_text, data, size);
    return size;
}

http_t *http_new(loop_t *loop) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    http_t *http = mem_zero(sizeof *http);
    http->loop = loop;
    http->multi = curl_multi_init();
    ASSERT(http->multi);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
    return http;
}

void http_free(http_t *http) {
    if (!http)
        return;
    while (http->transfers)
        http_cancel(http->transfers);
    curl_multi_cleanup(http->multi);
    loop_remove(http->timer);
    mem_free(http);
    curl_global_cleanup();
}

static void transfer_unlink(http_transfer_t *transfer) {
    curl_multi_remove_handle(transfer->http->multi, transfer->easy);
    if (transfer->previous)
        transfer->previous->next = transfer->next;
    else
        transfer->http->transfers = transfer->next;
    if (transfer->next)
        transfer->next->previous = transfer->previous;
}

static void transfer_free(http_transfer_t *transfer) {
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    mem_free(transfer->url);
    buf_fini(&transfer->body);
    buf_fini(&transfer->header_text);
    mem_free(transfer);
}

static bool is_http(const char *url) {
    return strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0;
}

static void set_up(http_transfer_t *transfer, const http_request_t *request) {
    CURL *easy = transfer->easy;
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "real-time-data-streaming/" VERSION);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    if (request->chunk)
        curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    else
        curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) transfer->body_limit);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     milliseconds(request->connect_timeout ? request->connect_timeout : CONNECT_TIMEOUT_DEFAULT));
    if (request->timeout)
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, milliseconds(request->timeout));
    if (request->stall_timeout) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, milliseconds(request->stall_timeout) / 1000 + 1);
    }
    for (size_t i = 0; i < request->header_count; i++)
        transfer->headers = curl_slist_append(transfer->headers, request->headers[i]);
    if (transfer->headers)
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    if (request->user)
        curl_easy_setopt(easy, CURLOPT_USERNAME, request->user);
    if (request->password)
        curl_easy_setopt(easy, CURLOPT_PASSWORD, request->password);
    if (request->bearer) {
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, request->bearer);
    }
    if (request->body) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_size);
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body);
    }
    if (request->method)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    if (request->proxy)
        curl_easy_setopt(easy, CURLOPT_PROXY, request->proxy);
    if (request->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file);
    if (request->certificate)
        curl_easy_setopt(easy, CURLOPT_SSLCERT, request->certificate);
    if (request->key)
        curl_easy_setopt(easy, CURLOPT_SSLKEY, request->key);
}

http_transfer_t *http_start(http_t *http, const http_request_t *request, err_t *err) {
    if (!is_http(request->url)) {
        err_set(err, "the URL begins with neither http:// nor https://");
        return NULL;
    }
    http_transfer_t *transfer = mem_zero(sizeof *transfer);
    transfer->http = http;
    transfer->url = mem_text(request->url);
    transfer->redirects = request->redirects;
    transfer->body_limit = request->body_limit ? request->body_limit : HTTP_BODY_LIMIT;
    transfer->limit_option = request->limit_option;
    transfer->done = request->done;
    transfer->chunk = request->chunk;
    transfer->argument = request->argument;
    transfer->easy = curl_easy_init();
    ASSERT(transfer->easy);
    set_up(transfer, request);
    transfer->next = http->transfers;
    if (transfer->next)
        transfer->next->previous = transfer;
    http->transfers = transfer;
    curl_multi_add_handle(http->multi, transfer->easy); /* starts by the timer, so done never runs from here */
    return transfer;
}

void http_cancel(http_transfer_t *transfer) {
    if (transfer) {
        transfer_unlink(transfer);
        transfer_free(transfer);
    }
}

void http_resume(http_transfer_t *transfer) {
    curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
}

/* What stands behind the host may be a template still. */
int http_url_check(const char *url, err_t *err) {
    const char *host = strstr(url, "://");
    size_t length = host ? (size_t) (host - url) + 3 + strcspn(host + 3, "/?#") : strlen(url);
    char *front = mem_text_n(url, length);
    CURLU *parts = curl_url();
    CURLUcode code = parts ? curl_url_set(parts, CURLUPART_URL, front, 0) : CURLUE_OUT_OF_MEMORY;
    curl_url_cleanup(parts);
    mem_free(front);
    return code == CURLUE_OK ? 0 : err_set(err, "not a web address, which looks like http://host:port/path: %s", curl_url_strerror(code));
}

/* Scheme, host and port of a URL; NULL when it cannot be read. */
static char *origin_of(const char *url) {
    CURLU *parts = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL, *origin = NULL;
    if (parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
        origin = mem_format("%s://%s:%s", scheme, host, port);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return origin;
}

bool http_same_origin(const char *a, const char *b) {
    char *first = origin_of(a), *second = origin_of(b);
    bool same = first && second && strcasecmp(first, second) == 0;
    mem_free(first);
    mem_free(second);
    return same;
}

char *http_resolve(const char *base, const char *reference) {
    CURLU *parts = curl_url();
    char *url = NULL, *copy = NULL;
    if (parts && curl_url_set(parts, CURLUPART_URL, base, 0) == CURLUE_OK && curl_url_set(parts, CURLUPART_URL, reference, 0) == CURLUE_OK &&
        curl_url_set(parts, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK && curl_url_get(parts, CURLUPART_URL, &url, 0) == CURLUE_OK && is_http(url))
        copy = mem_text(url);
    curl_free(url);
    curl_url_cleanup(parts);
    return copy;
}

/* Goes on at the place the answer points to. False: it is to be delivered as it is, or refused (transfer->error says why). */
static bool follow_redirect(http_transfer_t *transfer, long status) {
    if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308)
        return false;
    char *target = NULL;
    curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &target);
    if (!target)
        return false;
    if (transfer->redirects == 0) {
        snprintf(transfer->error, sizeof transfer->error, "too many redirects");
        return false;
    }
    char *url = mem_text(target);
    bool same = http_same_origin(transfer->url, url);
    bool refused = !is_http(url) || (strncasecmp(transfer->url, "https:", 6) == 0 && strncasecmp(url, "https:", 6) != 0);
    if (refused) {
        snprintf(transfer->error, sizeof transfer->error, "a redirect away from https, or to something else than http, is not followed");
        mem_free(url);
        return false;
    }
    CURL *easy = transfer->easy;
    curl_multi_remove_handle(transfer->http->multi, easy);
    mem_free(transfer->url);
    transfer->url = url;
    transfer->redirects--;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    if (!same) {
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(easy, CURLOPT_USERNAME, NULL);
        curl_easy_setopt(easy, CURLOPT_PASSWORD, NULL);
        curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, NULL);
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    }
    if (status < 307) { /* a POST becomes a GET, as browsers do */
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    buf_clear(&transfer->body);
    buf_clear(&transfer->header_text);
    transfer->error[0] = 0;
    curl_multi_add_handle(transfer->http->multi, easy);
    return true;
}

const char *http_failure_words(int code, const char *error) {
    if (strncmp(error, "Unsupported proxy", 17) == 0)
        return "the proxy's address cannot be used; it is written as http://HOST:PORT (--proxy, or http_proxy and the like in the environment)";
    return *error ? error : curl_easy_strerror((CURLcode) code);
}

/* Why there was no answer; what looks like TLS on one side alone is said. */
static void put_failure(const http_transfer_t *transfer, CURLcode code, char *text, size_t size) {
    const char *said = http_failure_words(code, transfer->error);
    bool tls = strncasecmp(transfer->url, "https:", 6) == 0;
    curl_off_t shaken = 0; /* when the handshake was done */
    buf_t reason = {0};
    curl_easy_getinfo(transfer->easy, CURLINFO_APPCONNECT_TIME_T, &shaken);
    if (tls && !shaken)
        tls_put_failure(&reason, said, "take http://");
    else if (!tls && (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY))
        buf_format(&reason, "the server answers with something else than HTTP: if it speaks TLS there, take https:// (%s)", said);
    else if (!tls && (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR))
        buf_format(&reason, "%s; if the server speaks TLS there, take https://", said);
    else
        buf_put_text(&reason, said);
    snprintf(text, size, "%s", buf_text(&reason));
    buf_fini(&reason);
}

/* As nginx, Apache and Go's servers answer. */
bool http_wants_tls(const http_response_t *response) {
    static const char *const words[] = {"HTTPS port", "HTTPS server", "SSL-enabled server", NULL};
    size_t size = response->body.size < 4096 ? response->body.size : 4096;
    if (response->status != 400 || strncasecmp(response->url, "http:", 5) != 0)
        return false;
    for (size_t i = 0; words[i]; i++)
        if (memmem(response->body.data, size, words[i], strlen(words[i])))
            return true;
    return false;
}

static void complete(http_transfer_t *transfer, CURLcode code) {
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK) {
        transfer->error[0] = 0;
        if (follow_redirect(transfer, status))
            return;
        if (transfer->error[0])
            code = CURLE_TOO_MANY_REDIRECTS;
    }
    char text[2 * CURL_ERROR_SIZE];
    if (transfer->too_large || code == CURLE_FILESIZE_EXCEEDED)
        snprintf(text, sizeof text, "the body is larger than the limit of %zu bytes%s%s%s", transfer->body_limit, transfer->limit_option ? " (" : "",
                 transfer->limit_option ? transfer->limit_option : "", transfer->limit_option ? ")" : "");
    else
        put_failure(transfer, code, text, sizeof text);
    curl_off_t seconds = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &seconds);
    if (seconds < 0)
        seconds = 0;
    http_response_t response = {
        .status = code == CURLE_OK ? (int) status : 0,
        .error = code == CURLE_OK ? NULL : text,
        .retry_after = seconds > 86400 ? 86400 * NS_PER_S : seconds * NS_PER_S,
        .url = transfer->url,
        .headers = &transfer->header_text,
    };
    if (code == CURLE_OK)
        response.body = text_make((const char *) transfer->body.data, transfer->body.size);
    transfer_unlink(transfer);
    transfer->done(transfer->argument, &response);
    transfer_free(transfer);
}

static void finish_completed(http_t *http) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(http->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        char *transfer = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        complete((http_transfer_t *) (void *) transfer, code);
    }
}

text_t http_header(const http_response_t *response, const char *name) {
    text_t rest = text_make((const char *) response->headers->data, response->headers->size), line, found = {0};
    size_t size = strlen(name);
    while (text_split(&rest, '\n', &line)) {
        if (line.size > size && line.data[size] == ':' && strncasecmp(line.data, name, size) == 0)
            found = text_trim(text_make(line.data + size + 1, line.size - size - 1));
    }
    return found;
}
