/* The façade's listening sockets. They are bound here rather than by libwebsockets, so that an error names the address and its
 * remedy, and so that connections beyond the bound are turned away before any memory is spent on them. */
#include "facade_app.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#include "rundir.h"

#define ADDRESSES_MAX 4
#define URL_MAX 4096
#define HTTP_EXTRA 64                    /* connections beside max_connections: REST, pages, scrapes */
#define ACCEPT_ROUND 64
#define SEND_BUFFER (64 * 1024)
#define UNSENT_MOST (32 * 1024)

struct listener {
    facade_t *facade;
    int fds[ADDRESSES_MAX];
    fd_watch_t *watches[ADDRESSES_MAX];
    struct listener_socket {
        struct listener *listener;
        int fd;
    } sockets[ADDRESSES_MAX];
    unsigned count;
    int spare;                           /* given up for a moment to turn a connection away when descriptors run out */
    char url[300];
};

static const char refusal[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
                              "Connection: close\r\nContent-Length: 91\r\n\r\n"
                              "{\"error\":{\"code\":\"too_many_connections\",\"message\":\"max_connections reached\",\"detail\":null}}\n";

static void turn_away(int fd) {
    next_answer(fd, refusal, sizeof refusal - 1);
    close(fd);
}

static void accept_some(void *argument) {
    struct listener_socket *socket = argument;
    struct listener *listener = socket->listener;
    facade_t *facade = listener->facade;
    for (int i = 0; i < ACCEPT_ROUND; i++) {
        int fd = accept4(socket->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE) && listener->spare >= 0) {
            close(listener->spare);
            fd = accept4(socket->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0)
                turn_away(fd);
            listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
            return;
        }
        if (fd < 0)
            return;
        if (facade->connections >= (unsigned) facade->settings.max_connections + HTTP_EXTRA) {
            static log_limit_t limit;
            if (log_limited(&limit))
                log_warning("connection refused: %u are open already; \"max_connections\" in the configuration sets the bound",
                            facade->connections);
            metric_add(facade->metrics.refused, 1);
            turn_away(fd);
            continue;
        }
        size_t head;
        if (next_refused(facade, fd, &head)) {
            close(fd);
            continue;
        }
        /* What a slow client has not read waits in our queue, where it is conflated, not in the kernel. */
        int yes = 1, buffer = SEND_BUFFER, unsent = UNSENT_MOST;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
        struct lws *wsi = lws_adopt_socket_vhost(facade->vhost, fd);
        if (wsi)
            next_adopted(wsi, head);
        else
            log_debug("a connection could not be adopted");
    }
}

static void put_address(char *out, size_t size, const struct sockaddr *address, socklen_t length) {
    char host[64], port[16];
    if (getnameinfo(address, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV))
        snprintf(out, size, "an unknown address");
    else
        snprintf(out, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

/* The configuration of our own that has the port of this address, or NULL. The caller frees. */
static char *own_holder(const char *address) {
    option_list_t running = {0};
    char *holder = NULL, *port = mem_format("%s/", strrchr(address, ':'));
    rundir_running(&running);
    for (size_t i = 0; i < running.count && !holder; i++) {
        buf_t url = {0};
        char *path = mem_format("%s/url", running.items[i]);
        if (file_read(path, URL_MAX, &url, NULL) == 0 && strstr(buf_text(&url), port))
            holder = rundir_config(running.items[i]);
        mem_free(path);
        buf_fini(&url);
    }
    rundir_list_fini(&running);
    mem_free(port);
    return holder;
}

static int address_in_use(const char *address, err_t *err) {
    char *holder = own_holder(address);
    if (holder)
        err_set(err, "cannot listen on %s: %s runs there; choose another port with \"server\": {\"port\": N} in the configuration, 0 being any that is free, "
                "or 'streamctl stop %s'", address, holder, holder);
    else
        err_set(err, "cannot listen on %s: another program has this port; choose another one with \"server\": "
                "{\"port\": N} in the configuration, or stop that program (ss -ltnp shows it)", address);
    mem_free(holder);
    return -1;
}

static int listen_on(struct listener *listener, const struct addrinfo *at, err_t *err) {
    char text[96];
    put_address(text, sizeof text, at->ai_addr, at->ai_addrlen);
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1, seconds = 1;
    if (fd < 0)
        return err_errno(err, "listening on %s", text);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds); /* with their first bytes: answer_here looks at them */
    if (at->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, 512)) {
        int why = errno;
        close(fd);
        errno = why;
        if (why == EADDRINUSE)
            return address_in_use(text, err);
        if (why == EACCES)
            return err_set(err, "cannot listen on %s: not permitted; choose a port above 1023 with \"server\": {\"port\": N} in "
                           "the configuration", text);
        if (why == EADDRNOTAVAIL)
            return err_set(err, "cannot listen on %s: this machine has no such address; correct \"server\": {\"listen\": "
                           "ADDRESS} in the configuration", text);
        return err_errno(err, "cannot listen on %s", text);
    }
    listener->fds[listener->count++] = fd;
    if (listener->url[0] == 0) {
        struct sockaddr_storage bound;
        socklen_t length = sizeof bound;
        getsockname(fd, (struct sockaddr *) &bound, &length);
        put_address(text, sizeof text, (struct sockaddr *) &bound, length);
        bool any = text_starts(text, "0.0.0.0:") || text_starts(text, "[::]:");
        snprintf(listener->url, sizeof listener->url, "http://%s%s/", any ? "localhost" : "", any ? strrchr(text, ':') : text);
    }
    return 0;
}

struct listener *listener_open(facade_t *facade, err_t *err) {
    const facade_settings_t *settings = &facade->settings;
    char port[16];
    snprintf(port, sizeof port, "%d", (int) settings->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    int status = getaddrinfo(settings->listen, port, &hints, &found);
    if (status) {
        err_set(err, "cannot listen on \"%s\": %s; correct \"server\": {\"listen\": ADDRESS} in the configuration",
                settings->listen, gai_strerror(status));
        return NULL;
    }
    struct listener *listener = mem_zero(sizeof *listener);
    listener->facade = facade;
    listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    facade->access.loopback = true;
    for (struct addrinfo *at = found; at; at = at->ai_next)
        facade->access.loopback &= access_is_loopback(at->ai_addr);
    status = 0;
    if (!facade->access.loopback && !settings->token)
        status = err_set(err, "refusing to listen on %s without a token: anyone who reaches that address could start and stop the "
                         "pipeline; set \"server\": {\"token_file\": PATH}, or listen on 127.0.0.1", settings->listen);
    for (struct addrinfo *at = found; at && !status && listener->count < ADDRESSES_MAX; at = at->ai_next)
        status = listen_on(listener, at, err);
    freeaddrinfo(found);
    for (unsigned i = 0; i < listener->count && !status; i++) {
        listener->sockets[i] = (struct listener_socket){listener, listener->fds[i]};
        static const fd_handler_t handler = {.readable = accept_some};
        listener->watches[i] = fd_watch_new(facade, listener->fds[i], &handler, &listener->sockets[i]);
        if (!listener->watches[i])
            status = err_set(err, "cannot watch the listening socket");
        listener->fds[i] = -1;
    }
    if (status) {
        listener_free(listener);
        return NULL;
    }
    return listener;
}

void listener_url(const struct listener *listener, char *out, size_t size) {
    snprintf(out, size, "%s", listener->url);
}

void listener_free(struct listener *listener) {
    if (!listener)
        return;
    for (unsigned i = 0; i < listener->count; i++) {
        fd_watch_end(listener->watches[i]);
        if (listener->fds[i] >= 0)
            close(listener->fds[i]);
    }
    if (listener->spare >= 0)
        close(listener->spare);
    mem_free(listener);
}
