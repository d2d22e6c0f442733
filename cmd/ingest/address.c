/* Addresses that sources listen on, and the sockets there. */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "base/url.h"

#define BACKLOG 512

/* A host without its brackets. */
static int read_host(address_t *address, text_t host, uint16_t port, err_t *err) {
    struct sockaddr_in *four = (struct sockaddr_in *) &address->socket;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *) &address->socket;
    char text[INET6_ADDRSTRLEN];
    memset(&address->socket, 0, sizeof address->socket);
    if (host.size >= sizeof text)
        return err_set(err, "the host is none: give an IP address, localhost, or * for all addresses of this machine");
    memcpy(text, host.data, host.size);
    text[host.size] = 0;
    if (!*text || strcmp(text, "*") == 0) {
        address->socket.ss_family = AF_UNSPEC;
        six->sin6_port = htons(port);
        return 0;
    }
    if (inet_pton(AF_INET, strcasecmp(text, "localhost") == 0 ? "127.0.0.1" : text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        address->size = sizeof *four;
    } else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        address->size = sizeof *six;
    } else {
        return err_set(err, "%s is no address to listen on: give an IP address, localhost, or * for all addresses of this machine", text);
    }
    return 0;
}

int address_read(address_t *address, const char *rest, uint16_t port, err_t *err) {
    if (strncmp(rest, "//", 2) != 0)
        return err_set(err, "an address to listen on looks like //127.0.0.1:5140");
    const char *host = rest + 2, *end = host + strcspn(host, "/?#"), *host_end, *colon;
    if (memchr(host, '@', (size_t) (end - host)))
        return err_set(err, "an address to listen on has no user and password");
    address->path = end;
    if (*host == '[') {
        host_end = memchr(host, ']', (size_t) (end - host));
        if (!host_end)
            return err_set(err, "the address has [ without ]");
        host++;
        colon = host_end + 1;
        if (colon != end && *colon != ':')
            return err_set(err, "behind ] comes :PORT");
    } else {
        colon = memchr(host, ':', (size_t) (end - host));
        host_end = colon = colon ? colon : end;
    }
    if (colon != end) {
        uint64_t number;
        err_t why;
        text_t digits = text_make(colon + 1, (size_t) (end - colon) - 1);
        if (text_to_uint(digits, &number, &why) || number > UINT16_MAX)
            return err_set(err, "\"%.*s\" is no port: 0 to 65535 is", (int) (digits.size < 20 ? digits.size : 20), digits.data);
        port = (uint16_t) number;
    } else if (!port) {
        return err_set(err, "the address names no port: //HOST:PORT");
    }
    return read_host(address, text_make(host, (size_t) (host_end - host)), port, err);
}

int address_check(address_t *address, const char *url, const char *rest, uint16_t port, bool path, err_t *err) {
    buf_t shown = {0};
    int rc = address_read(address, rest, port, err);
    url_put_redacted(&shown, text_of(url));
    if (rc)
        err_wrap(err, "%s", buf_text(&shown));
    else if (strpbrk(address->path, "?#") || (!path && *address->path))
        rc = err_set(err, "%s: has something behind %s that does not belong there", buf_text(&shown), path ? "the path" : "the port");
    buf_fini(&shown);
    return rc;
}

void address_put(const struct sockaddr_storage *socket, char text[ADDRESS_TEXT]) {
    const struct sockaddr_in *four = (const struct sockaddr_in *) socket;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *) socket;
    char host[INET6_ADDRSTRLEN];
    *text = 0;
    if (socket->ss_family == AF_INET) {
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT, "%s:%u", host, ntohs(four->sin_port));
    } else if (socket->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
        inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, host, sizeof host);
        snprintf(text, ADDRESS_TEXT, "%s:%u", host, ntohs(six->sin6_port));
    } else if (socket->ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT, "[%s]:%u", host, ntohs(six->sin6_port));
    }
}

void address_of(int fd, char text[ADDRESS_TEXT]) {
    struct sockaddr_storage socket = {0};
    socklen_t size = sizeof socket;
    *text = 0;
    if (getsockname(fd, (struct sockaddr *) &socket, &size) == 0)
        address_put(&socket, text);
}

/* -1 and errno. */
static int open_at(const struct sockaddr_storage *at, socklen_t size, int type) {
    int on = 1, off = 0;
    int fd = socket(at->ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* connections of an earlier run do not keep us out */
    if (at->ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (const struct sockaddr *) at, size) == 0 && (type != SOCK_STREAM || listen(fd, BACKLOG) == 0))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int address_listen(const address_t *address, int type, err_t *err) {
    char text[ADDRESS_TEXT];
    struct sockaddr_storage at = address->socket;
    int fd;
    if (at.ss_family != AF_UNSPEC) {
        fd = open_at(&at, address->size, type);
        address_put(&at, text);
    } else {
        in_port_t port = ((const struct sockaddr_in6 *) &at)->sin6_port;
        at.ss_family = AF_INET6; /* all zeros: every address, IPv4 too */
        fd = open_at(&at, sizeof(struct sockaddr_in6), type);
        if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) { /* a machine without IPv6 */
            struct sockaddr_in *four = (struct sockaddr_in *) &at;
            memset(&at, 0, sizeof at);
            four->sin_family = AF_INET;
            four->sin_port = port;
            fd = open_at(&at, sizeof *four, type);
        }
        snprintf(text, sizeof text, "*:%u", ntohs(port));
    }
    if (fd < 0)
        err_errno(err, "cannot listen on %s", text);
    return fd;
}

/* ---- in the file system ---- */

static int make_way(const char *path, const struct sockaddr_un *at, err_t *err) {
    struct stat status;
    if (lstat(path, &status)) {
        if (errno == ENOENT)
            return 0;
        return err_errno(err, "cannot listen on %s", path);
    }
    if (!S_ISSOCK(status.st_mode))
        return err_set(err, "%s is there already, and is no socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && (connect(fd, (const struct sockaddr *) at, sizeof *at) == 0 || errno == EAGAIN || errno == EPROTOTYPE);
    if (fd >= 0)
        close(fd);
    if (alive)
        return err_set(err, "another program listens on %s", path);
    if (unlink(path) && errno != ENOENT)
        return err_errno(err, "cannot remove %s, which a dead process left behind", path);
    return 0;
}

static int take_lock(const char *path, err_t *err) {
    char *name = mem_format("%s.lock", path);
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0) {
        err_errno(err, "cannot open %s", name);
    } else if (flock(lock, LOCK_EX | LOCK_NB)) {
        if (errno == EWOULDBLOCK)
            err_set(err, "another ingest listens on %s", path);
        else
            err_errno(err, "cannot lock %s", name);
        close(lock);
        lock = -1;
    }
    mem_free(name);
    return lock;
}

int unix_listen(unix_place_t *place, const char *path, unsigned mode, err_t *err) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof at.sun_path)
        return err_set(err, "%s: the path of a socket has at most %zu bytes", path, sizeof at.sun_path - 1);
    memcpy(at.sun_path, path, strlen(path) + 1);
    int lock = take_lock(path, err), fd = -1;
    if (lock < 0)
        return -1;
    if (make_way(path, &at, err))
        goto fail;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* fchmod: the file never lets in more than it shall; chmod: nor less, whatever the umask. */
    if (fd < 0 || fchmod(fd, mode) || bind(fd, (const struct sockaddr *) &at, sizeof at) || chmod(path, mode) || listen(fd, BACKLOG)) {
        err_errno(err, "cannot listen on %s", path);
        goto fail;
    }
    place->path = mem_text(path);
    place->lock = lock;
    return fd;
fail:
    if (fd >= 0)
        close(fd);
    close(lock);
    return -1;
}

void unix_leave(unix_place_t *place) {
    if (!place->path)
        return;
    unlink(place->path);
    close(place->lock);
    mem_free(place->path);
    *place = (unix_place_t){0};
}
