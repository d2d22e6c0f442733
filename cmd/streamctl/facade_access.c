/* The access rules of REST and WebSocket, without any I/O: Host, Origin, token. */
#include "facade_access.h"

#include <netinet/in.h>
#include <strings.h>

bool access_is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *) address;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) address;
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
            return in6->sin6_addr.s6_addr[12] == 127;
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    }
    return false;
}

static bool same_host(text_t a, text_t b) {
    return a.size == b.size && strncasecmp(a.data, b.data, a.size) == 0;
}

/* "name:port", "[v6]:port" or "name" → the name, brackets kept off. An empty text when it is none of these. */
static text_t host_name(text_t host) {
    if (host.size && host.data[0] == '[') {
        const char *end = memchr(host.data, ']', host.size);
        if (!end)
            return text_make("", 0);
        size_t after = (size_t) (end - host.data) + 1;
        if (after < host.size && host.data[after] != ':')
            return text_make("", 0);
        return text_make(host.data + 1, after - 2);
    }
    const char *colon = memchr(host.data, ':', host.size);
    return text_make(host.data, colon ? (size_t) (colon - host.data) : host.size);
}

/* "http://host:port" → "host:port", or an empty text. */
static text_t origin_host(text_t origin) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        size_t size = strlen(schemes[i]);
        if (origin.size > size && strncasecmp(origin.data, schemes[i], size) == 0)
            return text_make(origin.data + size, origin.size - size);
    }
    return text_make("", 0);
}

/* Without the port that its scheme means anyway, so that "https://a" and "a:443" are the same place. */
static text_t strip_port(text_t host, const char *port) {
    size_t size = strlen(port);
    if (host.size > size && memcmp(host.data + host.size - size, port, size) == 0)
        return text_make(host.data, host.size - size);
    return host;
}

static bool loopback_name(text_t name) {
    static const char suffix[] = ".localhost";
    size_t size = sizeof suffix - 1;
    if (same_host(name, text_of("localhost")) || text_is(name, "::1"))
        return true;
    if (name.size > size && strncasecmp(name.data + name.size - size, suffix, size) == 0)
        return true;
    if (name.size < 7 || name.size > 15 || memcmp(name.data, "127.", 4) != 0)
        return false;
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] != '.' && (name.data[i] < '0' || name.data[i] > '9'))
            return false;
    return true;
}

bool access_host_allowed(const access_t *access, text_t host) {
    text_t name = host_name(host);
    if (!name.size)
        return false;
    if (!access->loopback || loopback_name(name) || same_host(name, text_of(access->listen)))
        return true;
    for (size_t i = 0; i < access->origins->count; i++)
        if (same_host(name, host_name(origin_host(text_of(access->origins->items[i])))))
            return true;
    return false;
}

bool access_origin_configured(const access_t *access, text_t origin) {
    for (size_t i = 0; origin.size && i < access->origins->count; i++)
        if (same_host(origin, text_of(access->origins->items[i])))
            return true;
    return false;
}

bool access_origin_allowed(const access_t *access, text_t origin, text_t host) {
    if (!origin.size || access_origin_configured(access, origin))
        return true;
    text_t ours = origin_host(origin);
    if (!ours.size)
        return false;                /* "null", or another scheme */
    const char *port = strncasecmp(origin.data, "https:", 6) == 0 ? ":443" : ":80";
    return same_host(strip_port(ours, port), strip_port(host, port));
}

bool access_authorized(const access_t *access, text_t authorization) {
    static const char scheme[] = "Bearer ";
    size_t skip = sizeof scheme - 1;
    if (!access->token)
        return true;
    if (authorization.size < skip || strncasecmp(authorization.data, scheme, skip) != 0)
        return false;
    text_t given = text_trim(text_make(authorization.data + skip, authorization.size - skip));
    size_t size = strlen(access->token);
    unsigned char difference = given.size != size;
    for (size_t i = 0; i < given.size; i++)
        difference |= (unsigned char) (given.data[i] ^ access->token[i < size ? i : 0]);
    return difference == 0;
}
