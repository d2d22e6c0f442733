/* HTTP: one request from headers to answer. Who may ask is settled before anything is done; bodies, headers and time are
 * bounded. */
#include "rest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#include "facade_app.h"
#include "facade_control.h"
#include "ws.h"

#define BODY_LIMIT (64u * 1024)
#define BODY_SECONDS 10                  /* a whole request body must be here by then */
#define ANSWER_SECONDS 90                /* and its answer be out */

static const struct {
    int method;
    enum lws_token_indexes token;
    const char *name;
} methods[] = {
    {LWSHUMETH_GET, WSI_TOKEN_GET_URI, "GET"},       {LWSHUMETH_POST, WSI_TOKEN_POST_URI, "POST"},
    {LWSHUMETH_HEAD, WSI_TOKEN_HEAD_URI, "HEAD"},    {LWSHUMETH_OPTIONS, WSI_TOKEN_OPTIONS_URI, "OPTIONS"},
    {LWSHUMETH_PUT, WSI_TOKEN_PUT_URI, "PUT"},       {LWSHUMETH_PATCH, WSI_TOKEN_PATCH_URI, "PATCH"},
    {LWSHUMETH_DELETE, WSI_TOKEN_DELETE_URI, "DELETE"}, {LWSHUMETH_CONNECT, WSI_TOKEN_CONNECT, "CONNECT"},
};

const char *rest_method_name(int method) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].method == method)
            return methods[i].name;
    return "?";
}

/* A header that does not fit counts as absent or, where that matters, as present and wrong. */
static void copy_header(struct lws *wsi, enum lws_token_indexes token, char *out, size_t size) {
    int length = lws_hdr_total_length(wsi, token);
    *out = 0;
    if (length > 0 && ((size_t) length >= size || lws_hdr_copy(wsi, out, (int) size, token) < 0))
        snprintf(out, size, "(too long)");
}

static void read_headers(rest_request_t *request) {
    struct lws *wsi = request->wsi;
    char length[24];
    copy_header(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, length, sizeof length);
    request->bad_length = *length && text_to_uint(text_of(length), &request->length, NULL) != 0;
    request->chunked = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0;
    copy_header(wsi, WSI_TOKEN_HOST, request->host, sizeof request->host);
    copy_header(wsi, WSI_TOKEN_ORIGIN, request->origin, sizeof request->origin);
    copy_header(wsi, WSI_TOKEN_HTTP_ACCEPT_ENCODING, request->encoding, sizeof request->encoding);
    copy_header(wsi, WSI_TOKEN_HTTP_IF_NONE_MATCH, request->known, sizeof request->known);
}

/* Probes of HTTP/1.0 name no host. A browser always does, so that no page of another site asks like this. */
static bool is_probe(const rest_request_t *request) {
    return request->facade->access.loopback && !*request->host && request->route && request->route->probe;
}

/* 0: go on; else an error has been answered. */
static int check_access(rest_request_t *request, bool changes) {
    const access_t *access = &request->facade->access;
    text_t host = text_of(request->host), origin = text_of(request->origin);
    if (!host.size && !is_probe(request)) {
        rest_reply_error(request, 403, "host_not_allowed", NULL, "the request names no host: send the header \"Host: localhost\"");
        return -1;
    }
    if (host.size && !access_host_allowed(access, host)) {
        rest_reply_error(request, 403, "host_not_allowed", json_string(request->host),
                         "this server does not answer by that name; use localhost, or name the page's origin in server.origins");
        return -1;
    }
    if (changes && !access_origin_allowed(access, origin, host)) {
        rest_reply_error(request, 403, "origin_not_allowed", json_string(request->origin),
                         "pages of other origins may not change anything; server.origins in the configuration lists those that may");
        return -1;
    }
    if (changes) {
        char authorization[600];
        copy_header(request->wsi, WSI_TOKEN_HTTP_AUTHORIZATION, authorization, sizeof authorization);
        if (!access_authorized(access, text_of(authorization))) {
            rest_reply_error(request, 401, "token_needed", NULL, "%s: send the header \"Authorization: Bearer TOKEN\"",
                             *authorization ? "the token is wrong" : "this needs the token");
            return -1;
        }
    }
    return 0;
}

static void answer_preflight(rest_request_t *request, const char *allow) {
    bool known = access_origin_configured(&request->facade->access, text_of(request->origin));
    const char *const headers[] = {"allow:", allow, known ? "access-control-allow-methods:" : NULL, allow,
                                   "access-control-allow-headers:", "Authorization, Content-Type", "access-control-max-age:", "600", NULL};
    if (rest_start(request, 204, NULL, headers))
        lws_set_timeout(request->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

static void no_route(rest_request_t *request, const char *allow) {
    if (*allow) {
        rest_reply_error(request, 405, "method_not_allowed", json_string(allow), "%s is not possible here; possible: %s",
                         rest_method_name(request->method), allow);
        return;
    }
    rest_reply_error(request, 404, "not_found", json_string(request->path), "there is nothing here; GET /api lists what there is");
}

/* A media type ends at its parameters, or at white space before them. */
static bool is_json(const char *type) {
    return strcspn(type, "; \t") == strlen("application/json") && strncasecmp(type, "application/json", strlen("application/json")) == 0;
}

/* Body rules that the headers alone settle. 0: go on. */
static int check_body(rest_request_t *request) {
    char type[128];
    if (request->chunked) {
        rest_reply_error(request, 411, "length_required", NULL, "a body needs a Content-Length; chunked bodies are not taken");
        return -1;
    }
    if (request->bad_length) {
        rest_reply_error(request, 400, "bad_length", NULL, "the Content-Length is not one number");
        return -1;
    }
    if (request->length > BODY_LIMIT) {
        rest_reply_error(request, 413, "body_too_large",
                         json_pack("{sIsI}", "limit", (json_int_t) BODY_LIMIT, "size", (json_int_t) request->length),
                         "a body may have at most 64 KiB");
        return -1;
    }
    copy_header(request->wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, type, sizeof type);
    if (request->length && !is_json(type)) {
        rest_reply_error(request, 415, "not_json", json_string(type), "a body must have Content-Type: application/json");
        return -1;
    }
    request->has_body = request->length > 0;
    return 0;
}

static void dispatch(rest_request_t *request) {
    char allow[64];
    const char *method = rest_method_name(request->method);
    if (request->method == LWSHUMETH_HEAD)
        method = "GET";
    const asset_t *asset = strcmp(method, "GET") == 0 ? asset_find(request->path) : NULL;
    request->route = asset ? NULL : rest_find(method, request->path, request->parameter, allow, sizeof allow);
    if (!request->route && asset_find(request->path))
        snprintf(allow, sizeof allow, "GET, HEAD");
    if (check_access(request, request->route && request->route->changes))
        return;
    if (asset) {
        rest_reply_asset(request, asset);
        return;
    }
    if (!request->route && request->method == LWSHUMETH_OPTIONS && *allow) {
        answer_preflight(request, allow);
        return;
    }
    if (!request->route && strcmp(method, "GET") == 0 && strcmp(request->path, "/ws") == 0) {
        rest_reply_error(request, 426, "upgrade_required", NULL, "this is the WebSocket: ask for it with Upgrade: websocket");
        return;
    }
    if (!request->route) {
        no_route(request, allow);
        return;
    }
    if (check_body(request))
        return;
    if (request->has_body)
        lws_set_timer_usecs(request->wsi, BODY_SECONDS * LWS_USEC_PER_SEC);
    else
        request->route->handler(request);
}

static void request_free(connection_t *connection) {
    rest_request_t *request = connection->request;
    if (!request)
        return;
    connection->request = NULL;
    control_forget(request->facade->control, request->ticket);
    buf_fini(&request->body);
    buf_fini(&request->answer);
    mem_free(request);
}

/* The library ends a path at an encoded carriage return and passes over what follows, so that the version is missing. Of encoded NUL bytes
 * at its end it tells nothing either: they stand behind the path all the same, where else its end and that of a query stand alone. */
static bool path_is_text(struct lws *wsi, const char *path, size_t length) {
    size_t ends = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_URI_ARGS) > 0 ? 2 : 1;
    return lws_hdr_total_length(wsi, WSI_TOKEN_HTTP) > 0 && path[length + ends] && !memchr(path, 0, length) &&
           text_utf8_valid(path, length) == length;
}

static int request_begin(connection_t *connection, struct lws *wsi) {
    facade_t *facade = facade_of(wsi);
    char *uri;
    int length, method = lws_http_get_uri_and_method(wsi, &uri, &length);
    request_free(connection);
    rest_request_t *request = mem_zero(sizeof *request);
    connection->request = request;
    request->facade = facade;
    request->wsi = wsi;
    request->method = method;
    metric_add(facade->metrics.requests, 1);
    read_headers(request);
    next_body(wsi, request->length);
    lws_set_timer_usecs(wsi, ANSWER_SECONDS * LWS_USEC_PER_SEC);
    if (method < 0 || length <= 0)
        return -1;
    if ((size_t) length >= sizeof request->path) {
        rest_reply_error(request, 414, "path_too_long", NULL, "a path may have at most %zu bytes", sizeof request->path - 1);
        return 0;
    }
    if (!path_is_text(wsi, uri, (size_t) length)) {
        rest_reply_error(request, 400, "bad_path", NULL, "a path is UTF-8 text without NUL bytes and line ends");
        return 0;
    }
    memcpy(request->path, uri, (size_t) length);
    dispatch(request);
    return 0;
}

static int request_body(rest_request_t *request, const void *bytes, size_t size) {
    if (request->answered)
        return 0;                        /* refused already: what still comes is read and thrown away */
    if (request->body.size + size > request->length)
        return -1;
    buf_put(&request->body, bytes, size);
    return 0;
}

static void request_body_end(rest_request_t *request) {
    if (request->answered || !request->has_body)
        return;
    lws_set_timer_usecs(request->wsi, ANSWER_SECONDS * LWS_USEC_PER_SEC);
    request->route->handler(request);
}

/* The library tells of a body's end again when it has read more than that, and then never comes to writing the answer: nobody should send anything behind
 * a POST that is not answered. */
static int more_behind_body(rest_request_t *request) {
    if (request->started && !request->sent)
        rest_write(request);
    return -1;
}

json_t *rest_body(rest_request_t *request) {
    json_error_t where;
    if (!request->body.size)
        return json_object();
    json_t *body = json_loadb((const char *) request->body.data, request->body.size, JSON_REJECT_DUPLICATES, &where);
    if (!body) {
        rest_reply_error(request, 400, "bad_json",
                         json_pack("{sisisi}", "line", where.line, "column", where.column, "position", where.position),
                         "the body is not JSON: line %d, column %d: %s", where.line, where.column, where.text);
        return NULL;
    }
    if (!json_is_object(body)) {
        json_decref(body);
        rest_reply_error(request, 400, "bad_request", NULL, "the body must be a JSON object");
        return NULL;
    }
    return body;
}

bool rest_query_int(rest_request_t *request, const char *name, int64_t least, int64_t most, int64_t *value) {
    char argument[64], buffer[64];
    snprintf(argument, sizeof argument, "%s=", name);
    const char *text = lws_get_urlarg_by_name(request->wsi, argument, buffer, sizeof buffer);
    int64_t number;
    if (!text)
        return true;
    if (text_to_int(text_of(text), &number, NULL) || number < least || number > most) {
        rest_reply_error(request, 400, "bad_query", json_string(name), "%s must be a whole number from %lld to %lld", name,
                         (long long) least, (long long) most);
        return false;
    }
    *value = number;
    return true;
}

/* The library breaks a connection off that asks for sub-protocols and for none of its own, which has the name that it gives the connection. */
static bool asks_for_others(struct lws *wsi) {
    char names[256];
    copy_header(wsi, WSI_TOKEN_PROTOCOL, names, sizeof names);
    text_t rest = text_of(names), name;
    while (text_split(&rest, ',', &name)) {
        if (text_is(text_trim(name), FACADE_PROTOCOL))
            return false;
    }
    return *names;
}

/* Why this upgrade is refused, or NULL. */
static const char *refuse_upgrade(const rest_request_t *request, const char *protocol, const char *uri, int length, int *status) {
    facade_t *facade = request->facade;
    text_t host = text_of(request->host), origin = text_of(request->origin);
    *status = 403;
    if (!access_host_allowed(&facade->access, host))
        return "host_not_allowed";
    if (!access_origin_allowed(&facade->access, origin, host))
        return "origin_not_allowed";     /* another site's page must not read along */
    *status = 404;
    if (request->method != LWSHUMETH_GET || length != 3 || memcmp(uri, "/ws", 3) != 0)
        return "not_found";
    *status = 400;
    if (strcmp(protocol, "websocket") != 0)
        return "unknown_upgrade";
    if (asks_for_others(request->wsi))
        return "no_subprotocol";
    *status = 503;
    if (hub_clients(facade->hub) >= (unsigned) facade->settings.max_connections)
        return "too_many_connections";
    return NULL;
}

int rest_confirm_upgrade(struct lws *wsi, char *protocol) {
    if (strcasecmp(protocol, "h2c") == 0) {
        *protocol = '-';                 /* an offer that may be left alone: the library goes on with what it does not find by its name */
        return 0;
    }
    rest_request_t request = {.facade = facade_of(wsi), .wsi = wsi};
    char *uri;
    int length, status;
    request.method = lws_http_get_uri_and_method(wsi, &uri, &length);
    read_headers(&request);
    const char *code = refuse_upgrade(&request, protocol, uri, length, &status);
    if (!code)
        return 0;
    /* The library ends this connection's turn by itself: the answer goes out right here. */
    rest_reply_error(&request, status, code, NULL, "no WebSocket for this: GET /ws from this server's own pages or an allowed origin%s",
                     strcmp(code, "no_subprotocol") == 0 ? ", without Sec-WebSocket-Protocol" : "");
    int result = rest_write_now(&request);
    buf_fini(&request.answer);
    return result;
}

int rest_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    connection_t *connection = user;
    switch (reason) {
    case LWS_CALLBACK_HTTP:
        return request_begin(connection, wsi);
    case LWS_CALLBACK_HTTP_BODY:
        return connection->request ? request_body(connection->request, in, size) : -1;
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        if (!connection->request)
            return 0;
        if (connection->request->body_ended)
            return more_behind_body(connection->request);
        connection->request->body_ended = true;
        request_body_end(connection->request);
        return 0;
    case LWS_CALLBACK_HTTP_WRITEABLE:
        if (!connection->request || !connection->request->started)
            return 0;
        return rest_write(connection->request);
    case LWS_CALLBACK_TIMER:
        return connection->request ? -1 : 0;     /* too slow */
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
    case LWS_CALLBACK_CLOSED_HTTP:
        if (connection)
            request_free(connection);
        return 0;
    default:
        return 0;
    }
}
