/* Addresses of servers, as brokers have them. */
#include "server_url.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent-decoded; NULL when that gives a NUL. */
static char *decode(text_t text) {
    char *out = mem_zero(text.size + 1), *to = out;
    for (size_t i = 0; i < text.size; i++) {
        int value = (unsigned char) text.data[i];
        if (value == '%' && i + 2 < text.size && hex(text.data[i + 1]) >= 0 && hex(text.data[i + 2]) >= 0) {
            value = hex(text.data[i + 1]) * 16 + hex(text.data[i + 2]);
            i += 2;
        }
        if (!value) {
            mem_free(out);
            return NULL;
        }
        *to++ = (char) value;
    }
    return out;
}

static int read_host(server_url_t *url, text_t text, unsigned fallback, const char *like, err_t *err) {
    text_t host = text, port = {0}, last = text;
    int64_t number = fallback;
    const char *end = text.data + text.size, *comma = text.size ? memrchr(text.data, ',', text.size) : NULL;
    if (comma) /* of several */
        last = text_make(comma + 1, (size_t) (end - comma - 1));
    const char *bracket = last.size && *last.data == '[' ? memchr(last.data, ']', last.size) : NULL;
    const char *colon = bracket ? (bracket + 1 < end && bracket[1] == ':' ? bracket + 1 : NULL) : last.size ? memrchr(last.data, ':', last.size) : NULL;
    if (colon) {
        host = text_make(text.data, (size_t) (colon - text.data));
        port = text_make(colon + 1, (size_t) (end - colon - 1));
    }
    if (!bracket && colon && memchr(last.data, ':', (size_t) (colon - last.data)))
        return err_set(err, "%s, and an IPv6 address stands in brackets", like);
    if (bracket && !comma)
        host = text_make(text.data + 1, (size_t) (bracket - text.data - 1));
    err_t unused;
    if (!host.size || (colon && (text_to_int(port, &number, &unused) || number < 1 || number > 65535)))
        return err_set(err, "%s, its port is from 1 to 65535", like);
    for (size_t i = 0; i < host.size; i++) {
        if ((unsigned char) host.data[i] <= ' ' || strchr("/@\\\"<>^`{|}%", host.data[i]))
            return err_set(err, "%s: the host's name has a character that none has", like);
    }
    url->host = mem_text_n(host.data, host.size);
    url->port = (unsigned) number;
    return 0;
}

int server_url_read(server_url_t *url, const char *rest, unsigned port, const char *like, err_t *err) {
    if (strncmp(rest, "//", 2) != 0)
        return err_set(err, "%s", like);
    rest += 2;
    size_t size = strcspn(rest, "/#");
    const char *at = memrchr(rest, '@', size), *host = at ? at + 1 : rest;
    server_url_t made = {.tls = url->tls};
    if (at) {
        text_t both = text_make(rest, (size_t) (at - rest)), user;
        text_split(&both, ':', &user);
        made.user = decode(user);
        made.password = both.data ? decode(both) : NULL;
        if (!made.user || (both.data && !made.password)) {
            server_url_fini(&made);
            return err_set(err, "the user or password in the address has a NUL");
        }
    }
    made.path = decode(text_of(rest[size] == '/' ? rest + size + 1 : rest + size));
    if (!made.path || read_host(&made, text_make(host, (size_t) (rest + size - host)), port, like, err)) {
        if (!made.path)
            err_set(err, "what stands behind the host in the address has a NUL");
        server_url_fini(&made);
        return -1;
    }
    *url = made;
    return 0;
}

void server_url_fini(server_url_t *url) {
    mem_free(url->user);
    mem_free(url->password);
    mem_free(url->host);
    mem_free(url->path);
    *url = (server_url_t){0};
}

char *server_url_place(const char *scheme, const char *host, unsigned port) {
    bool brackets = strchr(host, ':') && !strchr(host, ',');
    return mem_format("%s%s%s%s%s:%u", scheme ? scheme : "", scheme ? "://" : "", brackets ? "[" : "", host, brackets ? "]" : "", port);
}
