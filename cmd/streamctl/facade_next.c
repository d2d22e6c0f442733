/* What a connection sends is looked at before libwebsockets reads it, which is given one whole head at a time and nothing behind it as far as can be told:
 * some sequences of requests that come at once make the library go round for ever, or end the process. For that the bytes of all requests are counted, and
 * compared with those that the library has read when it has answered: where it has read more, the connection ends with that answer, as clients that send
 * ahead have to expect (RFC 9112, 9.3.2). Between two requests, and before a head is whole, the library does not read; we wait, and its time-outs hold. */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

#include "facade_app.h"
#include "facade_head.h"

struct peer {
    struct lws *wsi;
    uint64_t requests;                   /* bytes of those so far */
};

struct next {
    facade_t *facade;
    int epoll;                           /* of those that we wait for; the watch's */
    fd_watch_t *watch;
};

void next_answer(int fd, const void *answer, size_t size) {
    char request[4096];
    /* Read what came, or the close would be a reset that discards the answer. */
    while (recv(fd, request, sizeof request, MSG_DONTWAIT) > 0)
        ;
    if (send(fd, answer, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("a refused connection left before its answer");
    shutdown(fd, SHUT_WR);
}

bool next_refused(facade_t *facade, int fd, size_t *head) {
    char bytes[HEAD_LIMIT + 1];
    ssize_t size = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    buf_t answer = {0};
    bool refused = size > 0 && head_refused(text_make(bytes, (size_t) size), &answer);
    const char *end = size > 0 ? memmem(bytes, (size_t) size, "\r\n\r\n", 4) : NULL;
    *head = end ? (size_t) (end + 4 - bytes) : 0;
    if (refused) {
        metric_add(facade->metrics.requests, 1);
        metric_add(facade->metrics.refused, 1);
        next_answer(fd, answer.data, answer.size);
    }
    buf_fini(&answer);
    return refused;
}

static struct peer *peer_of(struct lws *wsi) {
    const struct lws_protocols *protocol = lws_get_protocol(wsi);
    return protocol && strcmp(protocol->name, FACADE_PROTOCOL) == 0 ? lws_get_opaque_user_data(wsi) : NULL;
}

/* Until a whole head is there. */
static bool wait_for_head(struct peer *peer) {
    struct next *next = facade_of(peer->wsi)->next;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = peer};
    return next && epoll_ctl(next->epoll, EPOLL_CTL_ADD, (int) lws_get_socket_fd(peer->wsi), &event) == 0 && lws_rx_flow_control(peer->wsi, 0) >= 0;
}

static void end(struct lws *wsi) {
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

void next_adopted(struct lws *wsi, size_t head) {
    struct peer *peer = mem_zero(sizeof *peer);
    peer->wsi = wsi;
    peer->requests = head;
    lws_set_opaque_user_data(wsi, peer);
    if (!head && !wait_for_head(peer))
        end(wsi);
}

void next_gone(struct lws *wsi) {
    struct peer *peer = peer_of(wsi);
    if (!peer)
        return;
    lws_set_opaque_user_data(wsi, NULL);
    mem_free(peer);
}

void next_body(struct lws *wsi, uint64_t size) {
    struct peer *peer = peer_of(wsi);
    if (peer)
        peer->requests += size;
}

/* Nothing but whole requests, which have been answered, has been read. */
static bool all_answered(const struct peer *peer, int fd) {
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    int unread = 0;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && ioctl(fd, SIOCINQ, &unread) == 0 &&
           info.tcpi_bytes_received - (uint64_t) unread == peer->requests;
}

bool next_possible(struct lws *wsi) {
    struct peer *peer = peer_of(wsi);
    return peer && all_answered(peer, (int) lws_get_socket_fd(wsi));
}

void next_wait(struct lws *wsi) {
    struct peer *peer = peer_of(wsi);
    if (peer && !wait_for_head(peer))
        end(wsi);
}

static void begin(struct next *next, struct peer *peer, bool gone) {
    int fd = (int) lws_get_socket_fd(peer->wsi);
    size_t head;
    bool refused = next_refused(next->facade, fd, &head);
    if (!refused && !head && !gone)
        return;                          /* more of it will come, or the library's time-out */
    epoll_ctl(next->epoll, EPOLL_CTL_DEL, fd, NULL);
    if (refused || !head) {
        end(peer->wsi);
        return;
    }
    peer->requests += head;
    lws_rx_flow_control(peer->wsi, 1);
}

/* One at a time, as others may go meanwhile. */
static void some_began(void *argument) {
    struct next *next = argument;
    struct epoll_event event;
    while (epoll_wait(next->epoll, &event, 1, 0) == 1)
        begin(next, event.data.ptr, event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

struct next *next_new(facade_t *facade) {
    static const fd_handler_t handler = {.readable = some_began};
    struct next *next = mem_zero(sizeof *next);
    next->facade = facade;
    next->epoll = epoll_create1(EPOLL_CLOEXEC);
    next->watch = next->epoll < 0 ? NULL : fd_watch_new(facade, next->epoll, &handler, next);
    if (next->watch)
        return next;
    log_warning("later requests of a connection cannot be looked at: %s", strerror(errno));
    mem_free(next);
    return NULL;
}

void next_free(struct next *next) {
    if (next)
        fd_watch_end(next->watch);
    mem_free(next);
}
