/* OAuth 2.0 (RFC 6749) for the web address source: a token by client credentials (4.4) or by a refresh token (6), before the first request and
 * again before it expires. Tokens are kept in memory alone. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"
#include "http_source.h"

#define TOKEN_MAX 16384
#define ANSWER_MAX 65536
#define LIFE_MAX (365 * 86400)

static void put_pair(buf_t *out, const char *name, const char *value) {
    if (out->size)
        buf_put_byte(out, '&');
    http_put_encoded(out, text_of(name));
    buf_put_byte(out, '=');
    http_put_encoded(out, text_of(value));
}

/* What goes into a header must not end it. */
static char *token_of(const buf_t *packed, const char *name) {
    value_t value;
    if (!pack_map_get(packed->data, packed->size, text_of(name), &value) || value.type != VALUE_STRING || !value.size || value.size > TOKEN_MAX)
        return NULL;
    for (uint32_t i = 0; i < value.size; i++) {
        if (value.text[i] <= ' ' || value.text[i] > '~')
            return NULL;
    }
    return mem_text_n(value.text, value.size);
}

/* Seconds, which some servers give as text; 0: not said. */
static int64_t life_of(const buf_t *packed) {
    value_t value;
    int64_t seconds = 0;
    err_t err;
    if (!pack_map_get(packed->data, packed->size, text_of("expires_in"), &value))
        return 0;
    if (value.type == VALUE_STRING)
        text_to_int(text_make(value.text, value.size), &seconds, &err);
    else if (value.type == VALUE_INT)
        seconds = value.integer;
    else if (value.type == VALUE_DOUBLE && value.number > 0 && value.number < LIFE_MAX)
        seconds = (int64_t) value.number;
    return seconds < 0 ? 0 : seconds > LIFE_MAX ? LIFE_MAX : seconds;
}

/* An answer that is a JSON object, packed. */
static bool read_answer(const http_response_t *response, buf_t *packed) {
    err_t err;
    value_t value;
    if (json_read_value(response->body, packed, &err) < 0)
        return false;
    pack_cursor_t cursor = pack_cursor(packed->data, packed->size);
    return pack_read_value(&cursor, &value) && value.type == VALUE_MAP;
}

static bool take_token(http_auth_t *auth, const buf_t *packed) {
    char *access = token_of(packed, "access_token"), *refresh = token_of(packed, "refresh_token");
    if (!access) {
        mem_free(refresh);
        return false;
    }
    mem_free(auth->access);
    auth->access = access;
    if (refresh) { /* the one that counts from now on */
        mem_free(auth->refresh);
        auth->refresh = refresh;
    }
    int64_t life = life_of(packed) * NS_PER_S, margin = life / 5 < 30 * NS_PER_S ? life / 5 : 30 * NS_PER_S;
    auth->renew_at = life ? clock_monotonic() + life - margin : INT64_MAX;
    return true;
}

static void on_token(void *argument, const http_response_t *response) {
    http_source_t *self = argument;
    buf_t packed = {0};
    char reason[512];
    self->transfer = NULL;
    bool map = response->status && read_answer(response, &packed);
    if (response->status == 200 && map && take_token(&self->auth, &packed)) {
        buf_fini(&packed);
        http_source_ask(self);
        return;
    }
    value_t error;
    if (!response->status) {
        snprintf(reason, sizeof reason, "no token: %s", response->error);
    } else if (response->status == 200) {
        snprintf(reason, sizeof reason, "no token: the answer of --oauth-url holds none that could be used");
    } else if (map && pack_map_get(packed.data, packed.size, text_of("error"), &error) && error.type == VALUE_STRING) {
        buf_t word = {0};
        text_put_visible(&word, text_make(error.text, error.size), 60);
        snprintf(reason, sizeof reason, "no token: the server of --oauth-url answers %d, %s", response->status, buf_text(&word));
        buf_fini(&word);
    } else {
        snprintf(reason, sizeof reason, "no token: the server of --oauth-url answers %d", response->status);
    }
    buf_fini(&packed);
    http_source_retry(self, response->retry_after, reason);
}

bool http_auth_needed(const http_source_t *self) {
    return self->settings->oauth_url && (!self->auth.access || clock_monotonic() >= self->auth.renew_at);
}

void http_auth_fetch(http_source_t *self) {
    const http_settings_t *settings = self->settings;
    const char *refresh = self->auth.refresh ? self->auth.refresh : settings->oauth_refresh;
    bool in_body = settings->oauth_client == 1;
    static const char *const headers[] = {"Accept: application/json"};
    buf_t body = {0}, user = {0}, password = {0};
    put_pair(&body, "grant_type", refresh ? "refresh_token" : "client_credentials");
    if (refresh)
        put_pair(&body, "refresh_token", refresh);
    if (settings->oauth_scope)
        put_pair(&body, "scope", settings->oauth_scope);
    for (size_t i = 0; i < settings->oauth_params.count; i++) {
        char *name = mem_text(settings->oauth_params.items[i]), *equals = strchr(name, '=');
        *equals = 0;
        put_pair(&body, name, equals + 1);
        mem_free(name);
    }
    bool basic = !in_body && settings->oauth_secret;
    if (!basic)
        put_pair(&body, "client_id", settings->oauth_id);
    if (in_body && settings->oauth_secret)
        put_pair(&body, "client_secret", settings->oauth_secret);
    http_put_encoded(&user, text_of(settings->oauth_id)); /* RFC 6749, 2.3.1 */
    http_put_encoded(&password, text_of(settings->oauth_secret));
    http_request_t request = {
        .url = settings->oauth_url,
        .headers = headers,
        .header_count = 1,
        .user = basic ? buf_text(&user) : NULL,
        .password = basic ? buf_text(&password) : NULL,
        .body = buf_text(&body),
        .body_size = body.size,
        .connect_timeout = settings->connect_timeout,
        .timeout = settings->timeout,
        .body_limit = ANSWER_MAX,
        .proxy = settings->proxy,
        .ca_file = settings->tls_ca,
        .certificate = settings->tls_cert,
        .key = settings->tls_key,
        .done = on_token,
        .argument = self,
    };
    err_t err;
    self->transfer = http_start(self->http, &request, &err);
    if (!self->transfer)
        source_failed(self->setup.host, "--oauth-url: %s", err.text);
    buf_fini(&body);
    buf_fini(&user);
    buf_fini(&password);
}

bool http_auth_refused(http_source_t *self) {
    http_auth_t *auth = &self->auth;
    if (!self->settings->oauth_url)
        return false;
    bool first = !auth->refused;
    auth->refused = true;
    mem_free(auth->access);
    auth->access = NULL;
    return first;
}

void http_auth_fini(http_auth_t *auth) {
    mem_free(auth->access);
    mem_free(auth->refresh);
}
