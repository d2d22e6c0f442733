/* Answers: status line, security headers, body in pieces as the connection takes them. */
#include "rest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

#include "facade_app.h"

#define HEADER_SPACE 3072
#define PIECE (32u * 1024)

/* The page loads nothing from elsewhere, runs no inline script, and stands in no frame. */
static const char *const security_headers[] = {
    "content-security-policy:", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
                                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options:", "nosniff",
    "x-frame-options:", "DENY",
    "referrer-policy:", "no-referrer",
    "cross-origin-opener-policy:", "same-origin",
    "cross-origin-resource-policy:", "same-origin",
    "permissions-policy:", "camera=(), geolocation=(), microphone=()",
    NULL};

static int put_header(struct lws *wsi, const char *name, const char *value, uint8_t **at, uint8_t *end) {
    return lws_add_http_header_by_name(wsi, (const uint8_t *) name, (const uint8_t *) value, (int) strlen(value), at, end);
}

static int put_headers(struct lws *wsi, const char *const *pairs, uint8_t **at, uint8_t *end) {
    for (; pairs && *pairs; pairs += 2)
        if (put_header(wsi, pairs[0], pairs[1], at, end))
            return -1;
    return 0;
}

/* A page of an allowed origin may read the answer. */
static int put_cors(const rest_request_t *request, uint8_t **at, uint8_t *end) {
    if (!access_origin_configured(&request->facade->access, text_of(request->origin)))
        return 0;
    const char *const headers[] = {"access-control-allow-origin:", request->origin, "vary:", "Origin", NULL};
    return put_headers(request->wsi, headers, at, end);
}

int rest_start(rest_request_t *request, int status, const char *type, const char *const *headers) {
    uint8_t buffer[LWS_PRE + HEADER_SPACE], *start = buffer + LWS_PRE, *at = start, *end = buffer + sizeof buffer - 1;
    struct lws *wsi = request->wsi;
    char length[32];
    snprintf(length, sizeof length, "%zu", request->size);
    request->answered = request->started = true;
    bool has_length = status != 304 && status != 204;
    if (lws_add_http_header_status(wsi, (unsigned) status | LWSAHH_FLAG_NO_SERVER_NAME, &at, end) ||
        (type && put_header(wsi, "content-type:", type, &at, end)) ||
        (has_length && put_header(wsi, "content-length:", length, &at, end)) || put_headers(wsi, security_headers, &at, end) || put_headers(wsi, headers, &at, end) || put_cors(request, &at, end) ||
        lws_finalize_write_http_header(wsi, start, &at, end))
        return -1;
    if (request->method == LWSHUMETH_HEAD || !request->size)
        request->size = request->sent = 0;
    lws_callback_on_writable(wsi);
    return 0;
}

static void reply(rest_request_t *request, int status, const char *type, const char *const *headers) {
    /* A connection that cannot take its headers is closed by the library's time-out; nothing is left to tell it. */
    if (rest_start(request, status, type, headers))
        lws_set_timeout(request->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

static void prepare(rest_request_t *request) {
    buf_clear(&request->answer);
    buf_reserve(&request->answer, LWS_PRE + 256);
    request->answer.size = LWS_PRE;
}

static const char *const fresh[] = {"cache-control:", "no-store", NULL};

void rest_reply_json(rest_request_t *request, int status, json_t *body) {
    char *text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(12));
    json_decref(body);
    prepare(request);
    buf_put_text(&request->answer, text ? text : "{}");
    buf_put_byte(&request->answer, '\n');
    free(text);
    request->size = request->answer.size - LWS_PRE;
    reply(request, status, "application/json", fresh);
}

void rest_reply_text(rest_request_t *request, int status, const char *type, buf_t *text) {
    prepare(request);
    buf_put(&request->answer, text->data, text->size);
    buf_fini(text);
    request->size = request->answer.size - LWS_PRE;
    reply(request, status, type, fresh);
}

void rest_reply_error(rest_request_t *request, int status, const char *code, json_t *detail, const char *format, ...) {
    char message[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    json_t *error = json_pack("{s{sssoso}}", "error", "code", code, "message", json_string(message), "detail",
                              detail ? detail : json_null());
    if (!error)                          /* the message holds bytes that are no UTF-8 */
        error = json_pack("{s{sssssn}}", "error", "code", code, "message", "the request is not understood", "detail");
    const char *allow = status == 405 ? json_string_value(detail) : NULL;
    const char *const with_allow[] = {"cache-control:", "no-store", "allow:", allow ? allow : "", NULL};
    const char *const with_realm[] = {"cache-control:", "no-store", "www-authenticate:", "Bearer realm=\"streamctl\"", NULL};
    const char *const with_upgrade[] = {"cache-control:", "no-store", "upgrade:", "websocket", NULL};
    metric_add(request->facade->metrics.refused, 1);
    char *text = json_dumps(error, JSON_COMPACT);
    prepare(request);
    buf_put_text(&request->answer, text);
    buf_put_byte(&request->answer, '\n');
    free(text);
    request->size = request->answer.size - LWS_PRE;
    reply(request, status, "application/json", allow ? with_allow : status == 401 ? with_realm : status == 426 ? with_upgrade : fresh);
    json_decref(error);
}

void rest_reply_asset(rest_request_t *request, const asset_t *asset) {
    const char *const headers[] = {"cache-control:", "no-cache", "etag:", asset->tag, "vary:", "Accept-Encoding", NULL, NULL, NULL};
    const char *packed_headers[] = {"cache-control:", "no-cache", "etag:", asset->tag, "vary:", "Accept-Encoding",
                                    "content-encoding:", "gzip", NULL};
    bool packed = strstr(request->encoding, "gzip") != NULL && asset->packed_size < asset->size;
    if (*request->known && strstr(request->known, asset->tag)) {
        reply(request, 304, NULL, headers);
        return;
    }
    request->constant = packed ? asset->packed : asset->bytes;
    request->size = packed ? asset->packed_size : asset->size;
    reply(request, 200, asset->type, packed ? packed_headers : headers);
}

int rest_write(rest_request_t *request) {
    struct lws *wsi = request->wsi;
    size_t left = request->size - request->sent, size = left < PIECE ? left : PIECE;
    if (request->size) {
        uint8_t piece[LWS_PRE + PIECE];
        const uint8_t *from = request->constant ? request->constant : request->answer.data + LWS_PRE;
        memcpy(piece + LWS_PRE, from + request->sent, size);
        request->sent += size;
        bool last = request->sent == request->size;
        if (lws_write(wsi, piece + LWS_PRE, size, last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) != (int) size)
            return -1;
        if (!last) {
            lws_callback_on_writable(wsi);
            return 0;
        }
    }
    /* What follows could be a body taken for a request, past all checks of who asks. */
    if (request->chunked || request->bad_length || !next_possible(wsi))
        return -1;
    if (lws_http_transaction_completed(wsi))
        return -1;
    next_wait(wsi);
    return 0;
}

int rest_write_now(rest_request_t *request) {
    size_t size = request->size;
    return lws_write(request->wsi, request->answer.data + LWS_PRE, size, LWS_WRITE_HTTP_FINAL) == (int) size ? 1 : -1;
}
