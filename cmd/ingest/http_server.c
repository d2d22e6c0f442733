/* HTTP/1.1 over the listener's connections: collects a request, hands it over, sends the answer, and goes on with the next. */
#include "http_server.h"

#include <stdio.h>
#include <time.h>

#include "base/memory.h"
#include "http_head.h"

#define HEAD_MAX (16u * 1024)
#define CHUNK_LINE_MAX 256
#define ROOM_KEPT (8u * 1024)          /* for the next request: there may be many connections */
#define TRAILER_MAX (4u * 1024)

enum { PHASE_HEAD, PHASE_BODY, PHASE_CHUNK_SIZE, PHASE_CHUNK, PHASE_CHUNK_END, PHASE_TRAILER, PHASE_ANSWER, PHASE_OVER };

struct http_server {
    http_server_setup_t setup;
    listener_t *listener;
};

/* ---- answers ---- */

static const char *reason_of(int status) {
    static const struct { int status; const char *reason; } reasons[] = {
        {200, "OK"}, {202, "Accepted"}, {204, "No Content"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"},
        {405, "Method Not Allowed"}, {408, "Request Timeout"}, {411, "Length Required"}, {413, "Content Too Large"}, {415, "Unsupported Media Type"},
        {417, "Expectation Failed"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"}, {501, "Not Implemented"},
        {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Error";
}

static void put_date(buf_t *out) {
    char text[64];
    time_t now = time(NULL);
    struct tm moment;
    gmtime_r(&now, &moment);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &moment);
    buf_format(out, "Date: %s\r\n", text);
}

static void clear(buf_t *buf) {
    buf_clear(buf);
    if (buf->capacity > ROOM_KEPT)
        buf_fini(buf);
}

static void count(http_exchange_t *exchange) {
    connection_keeps(exchange->connection, exchange->head.size + exchange->body.size);
}

void http_body_done(http_exchange_t *exchange) {
    clear(&exchange->body);
    count(exchange);
}

static void begin(http_exchange_t *exchange) {
    exchange->phase = PHASE_HEAD;
    exchange->remaining = 0;
    exchange->trailer = 0;
    exchange->chunked = false;
    exchange->method = exchange->path = exchange->query = (text_t){0};
    exchange->authorization = exchange->content_type = exchange->content_encoding = (text_t){0};
    clear(&exchange->head);
    http_body_done(exchange);
    connection_limit(exchange->connection, 0);
}

void http_answer(http_exchange_t *exchange, int status, const char *headers, text_t body) {
    buf_t out = {0};
    buf_format(&out, "HTTP/1.1 %d %s\r\n", status, reason_of(status));
    put_date(&out);
    buf_format(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.size);
    if (!exchange->keep)
        buf_put_text(&out, "Connection: close\r\n");
    else if (exchange->old)
        buf_put_text(&out, "Connection: keep-alive\r\n");
    if (headers)
        buf_put_text(&out, headers);
    buf_put_text(&out, "\r\n");
    if (!text_is(exchange->method, "HEAD"))
        buf_put(&out, body.data, body.size);
    connection_put(exchange->connection, out.data, out.size);
    buf_fini(&out);
    bool keep = exchange->keep;
    begin(exchange);
    if (!keep) {
        exchange->phase = PHASE_OVER;
        connection_end(exchange->connection);
    } else if (exchange->waits) {
        connection_resume(exchange->connection);
    }
    exchange->waits = false;
}

void http_answer_error(http_exchange_t *exchange, int status, const char *headers, const char *text) {
    buf_t body = {0};
    buf_put_text(&body, "{\"error\":");
    text_put_json(&body, text_of(text));
    buf_put_text(&body, "}\n");
    http_answer(exchange, status, headers, text_make((const char *) body.data, body.size));
    buf_fini(&body);
}

/* What is behind it cannot be told apart any more. */
static void refuse(http_exchange_t *exchange, int status, const char *text) {
    exchange->keep = false;
    http_answer_error(exchange, status, status == 405 ? "Allow: POST\r\n" : status == 401 ? "WWW-Authenticate: Bearer\r\n" : NULL, text);
}

/* ---- requests ---- */

static void complete(http_exchange_t *exchange) {
    http_server_t *server = exchange->server;
    connection_limit(exchange->connection, 0);
    exchange->phase = PHASE_ANSWER;
    server->setup.request(server->setup.argument, exchange);
    if (exchange->phase == PHASE_ANSWER) {
        exchange->waits = true;
        connection_pause(exchange->connection);
    }
}

static void too_large(http_exchange_t *exchange) {
    char text[96];
    snprintf(text, sizeof text, "the body has more than %llu bytes (--body-limit)", (unsigned long long) exchange->server->setup.body_limit);
    refuse(exchange, 413, text);
}

static void take_head(http_exchange_t *exchange, const char *data, size_t size) {
    http_server_t *server = exchange->server;
    http_head_t head;
    const char *text;
    buf_put(&exchange->head, data, size);
    int status = http_head_read(&head, text_make((const char *) exchange->head.data, size), &text);
    exchange->keep = false;
    if (status) {
        refuse(exchange, status, text);
        return;
    }
    exchange->old = head.old;
    exchange->method = head.method;
    exchange->path = head.path;
    exchange->query = head.query;
    exchange->authorization = head.authorization;
    exchange->content_type = head.content_type;
    exchange->content_encoding = head.content_encoding;
    bool has_body = head.chunked || head.length;
    status = server->setup.refuse(server->setup.argument, exchange, &text);
    if (status) {
        exchange->keep = head.keep && !has_body;
        if (exchange->keep)
            http_answer_error(exchange, status, status == 405 ? "Allow: POST\r\n" : status == 401 ? "WWW-Authenticate: Bearer\r\n" : NULL, text);
        else
            refuse(exchange, status, text);
        return;
    }
    if (head.length > server->setup.body_limit) {
        too_large(exchange);
        return;
    }
    exchange->keep = head.keep;
    if (head.expects && has_body && !head.old)
        connection_put(exchange->connection, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    exchange->remaining = head.length;
    exchange->phase = head.chunked ? PHASE_CHUNK_SIZE : PHASE_BODY;
    if (!has_body)
        complete(exchange);
}

static size_t read_head(http_exchange_t *exchange, const char *data, size_t size) {
    size_t skip = 0;
    while (size - skip >= 2 && memcmp(data + skip, "\r\n", 2) == 0) /* some send one too many behind a body */
        skip += 2;
    data += skip;
    size -= skip;
    if (!size || (size == 1 && *data == '\r'))
        return skip;
    const char *end = memmem(data, size < HEAD_MAX ? size : HEAD_MAX, "\r\n\r\n", 4);
    if (!end) {
        if (size >= HEAD_MAX) {
            exchange->keep = false;
            refuse(exchange, 431, "the head of the request is larger than 16 KiB");
            return skip + size;
        }
        return skip;
    }
    take_head(exchange, data, (size_t) (end - data));
    return skip + (size_t) (end - data) + 4;
}

static size_t read_body(http_exchange_t *exchange, const char *data, size_t size) {
    size_t used = exchange->remaining < size ? (size_t) exchange->remaining : size;
    buf_put(&exchange->body, data, used);
    exchange->remaining -= used;
    if (!exchange->remaining) {
        if (exchange->phase == PHASE_CHUNK)
            exchange->phase = PHASE_CHUNK_END;
        else
            complete(exchange);
    }
    return used;
}

/* The lines between chunks, and those behind the last. */
static size_t read_line(http_exchange_t *exchange, const char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n", 2);
    size_t length = end ? (size_t) (end - data) : size - (size && data[size - 1] == '\r');
    uint64_t chunk;
    if (length > CHUNK_LINE_MAX && exchange->phase != PHASE_TRAILER) {
        refuse(exchange, 400, "a chunk is malformed");
        return size;
    }
    if (exchange->trailer + length > TRAILER_MAX) {
        refuse(exchange, 431, "the trailer is larger than 4 KiB");
        return size;
    }
    if (!end)
        return 0;
    if (exchange->phase == PHASE_CHUNK_END) {
        if (length)
            refuse(exchange, 400, "a chunk is longer than its size");
        else
            exchange->phase = PHASE_CHUNK_SIZE;
    } else if (exchange->phase == PHASE_TRAILER) {
        exchange->trailer += length + 2;
        if (!length)
            complete(exchange);
    } else if (!http_chunk_size(text_make(data, length), &chunk)) {
        refuse(exchange, 400, "the size of a chunk is malformed");
    } else if (chunk > exchange->server->setup.body_limit - exchange->body.size) {
        too_large(exchange);
    } else {
        exchange->remaining = chunk;
        exchange->phase = chunk ? PHASE_CHUNK : PHASE_TRAILER;
    }
    return length + 2;
}

static size_t step(http_exchange_t *exchange, const char *data, size_t size) {
    switch (exchange->phase) {
    case PHASE_HEAD:
        return read_head(exchange, data, size);
    case PHASE_BODY:
    case PHASE_CHUNK:
        return read_body(exchange, data, size);
    case PHASE_ANSWER:
    case PHASE_OVER:
        return 0;
    default:
        return read_line(exchange, data, size);
    }
}

static size_t on_data(void *own, const char *data, size_t size, bool at_end) {
    http_exchange_t *exchange = own;
    size_t used = 0;
    while (used < size) {
        if (exchange->phase == PHASE_HEAD && !exchange->remaining) {
            exchange->remaining = 1; /* a request has begun: its time runs */
            connection_limit(exchange->connection, exchange->server->setup.timeout);
        }
        int phase = exchange->phase;
        size_t taken = step(exchange, data + used, size - used);
        used += taken;
        if (!taken && exchange->phase == phase)
            break;
    }
    if (used == size && exchange->phase == PHASE_HEAD && exchange->remaining == 1) { /* blank lines only */
        exchange->remaining = 0;
        connection_limit(exchange->connection, 0);
    }
    count(exchange);
    return used;
}

static bool is_between_requests(void *own) {
    const http_exchange_t *exchange = own;
    return exchange->phase == PHASE_HEAD && !exchange->remaining;
}

static void on_expired(void *own) {
    http_exchange_t *exchange = own;
    if (!is_between_requests(exchange))
        refuse(exchange, 408, "the request took too long");
}

static void on_crowded(void *own) {
    http_exchange_t *exchange = own;
    exchange->keep = false;
    http_answer_error(exchange, 503, "Retry-After: 1\r\n", "others' requests take all the room that there is for unfinished ones (--memory): try again");
}

static void *on_opened(void *argument, connection_t *connection) {
    http_exchange_t *exchange = mem_zero(sizeof *exchange);
    exchange->server = argument;
    exchange->connection = connection;
    begin(exchange);
    return exchange;
}

static void on_closed(void *own) {
    http_exchange_t *exchange = own;
    exchange->server->setup.closed(exchange->server->setup.argument, exchange);
    buf_fini(&exchange->head);
    buf_fini(&exchange->body);
    mem_free(exchange);
}

http_server_t *http_server_new(const http_server_setup_t *setup, err_t *err) {
    http_server_t *server = mem_zero(sizeof *server);
    const listener_setup_t listener = {
        .loop = setup->loop,
        .scheme = setup->tls->certificate ? "https" : "http",
        .connections = setup->connections,
        .idle = setup->idle,
        .memory = setup->memory,
        .patience = setup->patience ? setup->patience : 1,
        .tls_option = "--tls-cert and --tls-key",
        .answers = true,
        .opened = on_opened,
        .data = on_data,
        .expired = on_expired,
        .crowded = on_crowded,
        .spare = is_between_requests,
        .closed = on_closed,
        .argument = server,
    };
    server->setup = *setup;
    server->setup.rest = NULL;
    server->listener = listener_at(&listener, setup->rest, 0, setup->tls, err);
    if (server->listener)
        return server;
    mem_free(server);
    return NULL;
}

void http_server_free(http_server_t *server) {
    if (!server)
        return;
    listener_free(server->listener);
    mem_free(server);
}
