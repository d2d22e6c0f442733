/* The opening handshake of WebSocket, both halves. */
#include "websocket_handshake.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"    /* RFC 6455, 1.3 */

void ws_make_key(char key[WS_KEY_SIZE + 1]) {
    uint64_t bytes[2] = {0};
    buf_t text = {0};
    if (getentropy(bytes, sizeof bytes)) /* it proves that the server knows the protocol, and nothing else */
        bytes[0] = (uint64_t) clock_now();
    text_put_base64(&text, text_make((const char *) bytes, sizeof bytes));
    memcpy(key, buf_text(&text), WS_KEY_SIZE + 1);
    buf_fini(&text);
}

static bool is_named(text_t line, const char *name) {
    size_t size = strlen(name);
    return line.size > size && line.data[size] == ':' && strncasecmp(line.data, name, size) == 0;
}

bool ws_own_header(const char *header) {
    static const char *const names[] = {"Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (is_named(text_of(header), names[i]))
            return true;
    }
    return false;
}

static bool has_header(const option_list_t *headers, const char *name) {
    for (size_t i = 0; headers && i < headers->count; i++) {
        if (is_named(text_of(headers->items[i]), name))
            return true;
    }
    return false;
}

static void put_login(buf_t *out, const ws_request_t *request) {
    buf_t login = {0};
    buf_format(&login, "%s:%s", request->user, request->password ? request->password : "");
    buf_put_text(out, "Authorization: Basic ");
    text_put_base64(out, text_make((const char *) login.data, login.size));
    buf_put_text(out, "\r\n");
    buf_fini(&login);
}

void ws_put_request(buf_t *out, const ws_request_t *request) {
    const option_list_t *headers = request->headers, *protocols = request->protocols;
    buf_format(out, "GET %s HTTP/1.1\r\n", request->target);
    if (!has_header(headers, "Host"))
        buf_format(out, "Host: %s\r\n", request->authority);
    if (!has_header(headers, "User-Agent"))
        buf_put_text(out, "User-Agent: real-time-data-streaming/" VERSION "\r\n");
    buf_format(out, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", request->key);
    for (size_t i = 0; protocols && i < protocols->count; i++)
        buf_format(out, "%s%s", i ? ", " : "Sec-WebSocket-Protocol: ", protocols->items[i]);
    if (protocols && protocols->count)
        buf_put_text(out, "\r\n");
    if (request->deflate)
        buf_put_text(out, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    if (request->bearer)
        buf_format(out, "Authorization: Bearer %s\r\n", request->bearer);
    else if (request->user)
        put_login(out, request);
    if (request->api_key)
        buf_format(out, "%s: %s\r\n", request->api_key_name, request->api_key);
    for (size_t i = 0; headers && i < headers->count; i++)
        buf_format(out, "%s\r\n", headers->items[i]);
    buf_put_text(out, "\r\n");
}

/* The head's lines, without the first one. Several headers of a name are one, with commas between. */
static text_t header(text_t lines, const char *name, buf_t *space) {
    text_t line;
    buf_clear(space);
    while (text_split(&lines, '\n', &line)) {
        if (!is_named(line, name))
            continue;
        text_t value = text_trim(text_make(line.data + strlen(name) + 1, line.size - strlen(name) - 1));
        if (space->size)
            buf_put_text(space, ", ");
        buf_put(space, value.data, value.size);
    }
    return text_make((const char *) space->data, space->size);
}

static bool is_word(text_t text, const char *word) {
    return text.size == strlen(word) && strncasecmp(text.data, word, text.size) == 0;
}

static bool has_word(text_t list, const char *word) {
    text_t item;
    while (text_split(&list, ',', &item)) {
        if (is_word(text_trim(item), word))
            return true;
    }
    return false;
}

static bool accepts(text_t value, const char *key) {
    digest_t digest;
    uint8_t hash[DIGEST_MAX];
    buf_t expected = {0};
    digest_begin(&digest, DIGEST_SHA1);
    digest_put(&digest, key, strlen(key));
    digest_put(&digest, GUID, strlen(GUID));
    size_t size = digest_end(&digest, hash);
    text_put_base64(&expected, text_make((const char *) hash, size));
    bool same = text_is(value, buf_text(&expected));
    buf_fini(&expected);
    return same;
}

/* permessage-deflate as it may be answered to an offer without parameters. */
static int read_extensions(ws_answer_t *answer, const ws_request_t *request, text_t value, err_t *err) {
    text_t word;
    if (!value.size)
        return 0;
    text_split(&value, ';', &word);
    bool good = request->deflate && is_word(text_trim(word), "permessage-deflate");
    while (good && text_split(&value, ';', &word)) {
        text_t name, rest = text_trim(word);
        text_split(&rest, '=', &name);
        answer->reset |= is_word(text_trim(name), "server_no_context_takeover");
        good = is_word(text_trim(name), "server_no_context_takeover") || is_word(text_trim(name), "client_no_context_takeover") ||
               is_word(text_trim(name), "server_max_window_bits");
    }
    answer->deflate = good;
    return good ? 0 : err_set(err, "the server answers with an extension that was not asked for");
}

static int read_agreement(ws_answer_t *answer, const ws_request_t *request, text_t lines, buf_t *space, err_t *err) {
    if (!has_word(header(lines, "Upgrade", space), "websocket") || !has_word(header(lines, "Connection", space), "upgrade"))
        return err_set(err, "the server answers 101, but not to become a WebSocket");
    if (!accepts(header(lines, "Sec-WebSocket-Accept", space), request->key))
        return err_set(err, "the server's answer is to another request: something in between keeps answers");
    text_t protocol = header(lines, "Sec-WebSocket-Protocol", space);
    bool known = !protocol.size;
    for (size_t i = 0; request->protocols && i < request->protocols->count; i++)
        known |= text_is(protocol, request->protocols->items[i]);
    if (!known)
        return err_set(err, "the server answers with a sub-protocol that was not asked for");
    return read_extensions(answer, request, header(lines, "Sec-WebSocket-Extensions", space), err);
}

int ws_read_answer(ws_answer_t *answer, const ws_request_t *request, text_t data, err_t *err) {
    *answer = (ws_answer_t){0};
    size_t shown = data.size < 9 ? data.size : 9;
    if (memcmp(data.data ? data.data : "", "HTTP/1.1 ", shown) != 0 && memcmp(data.data, "HTTP/1.0 ", shown) != 0)
        return err_set(err, "the server does not speak HTTP");
    const char *end = data.size ? memmem(data.data, data.size, "\r\n\r\n", 4) : NULL;
    if (!end || (size_t) (end - data.data) > WS_HEAD_MAX)
        return data.size > WS_HEAD_MAX ? err_set(err, "the head of the server's answer has no end") : 0;
    text_t lines = text_make(data.data, (size_t) (end - data.data)), first, rest;
    text_split(&lines, '\n', &first);
    rest = text_make(first.data + 9, first.size > 9 ? first.size - 9 : 0);
    for (size_t i = 0; i < 3; i++) {
        if (i >= rest.size || rest.data[i] < '0' || rest.data[i] > '9')
            return err_set(err, "the server does not speak HTTP");
        answer->status = answer->status * 10 + (rest.data[i] - '0');
    }
    answer->size = (size_t) (end + 4 - data.data);
    buf_t space = {0};
    int result = answer->status == 101 ? read_agreement(answer, request, lines, &space, err) : 0;
    text_t after = header(lines, "Retry-After", &space);
    err_t unused;
    if (text_to_int(after, &answer->retry_after, &unused) || answer->retry_after < 0)
        answer->retry_after = 0;
    if (answer->retry_after > 86400)
        answer->retry_after = 86400;
    text_t line;
    while (text_split(&lines, '\n', &line)) {
        if (is_named(line, "Location"))
            answer->location = text_trim(text_make(line.data + 9, line.size - 9));
    }
    buf_fini(&space);
    return result ? -1 : 1;
}
