/* Listening sockets of all protocols: accepts, shakes hands, reads, sends, and ends what is idle. One buffer is read into for all connections; a connection
 * keeps only what its protocol has left over. */
#include "listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#define READ_BYTES (64u * 1024)
#define SLACK 64                       /* decoders may look so far past the end */
#define LITTLE (4u * 1024)             /* left over: not worth a big buffer, nor that others wait for it */
#define OUT_MAX (64u * 1024)           /* unsent: then no more is read */
#define ACCEPTS 64                     /* at once, then others get their turn */
#define LINGER (2 * NS_PER_S)          /* for the peer to leave after the last answer */
#define FAREWELL (30 * NS_PER_S)       /* for it to take that */
#define SHORT_OF_FILES (1 * NS_PER_S)
#define STALLED (10 * NS_PER_S)        /* one that others wait for brings READ_BYTES in that */
#define HANDSHAKES 64u                 /* under way at once */
#define HANDSHAKE (10 * NS_PER_S)      /* for one */
#define HANDSHAKE_FAIR (1 * NS_PER_S)  /* one that takes longer gives way to a new connection */

struct connection {
    listener_t *listener;
    connection_t *next, **link;
    int fd;
    loop_watch_t *watch;
    tls_t *tls;                    /* NULL: plain */
    void *own;                     /* NULL: not opened yet */
    buf_t in, out;                 /* left over; unsent */
    size_t counted;                /* of in, in the listener's sum */
    char place[ADDRESS_TEXT + 8];
    int64_t heard;                 /* monotonic ns of the last byte */
    int64_t deadline;              /* 0: none */
    bool shaking;                  /* TLS's handshake is not done */
    bool held;                     /* connection_pause */
    bool crowded;                  /* waits until there is room for what it would leave over */
    bool at_end;                   /* the peer has said all */
    bool unseen;                   /* data was not offered all there is, or only while paused */
    bool ending;                   /* connection_end */
    bool lingering;                /* all is said: what still comes is thrown away until the peer leaves */
    bool gone;                     /* to be freed */
};

struct listener {
    listener_setup_t setup;
    loop_watch_t *watch, *sweep, *pause_accept;
    connection_t *first;
    uint64_t kept;                 /* bytes left over, of all */
    connection_t *favoured;        /* goes on though they are too many */
    int64_t favoured_since;        /* others have waited for it, or it has brought READ_BYTES */
    size_t favoured_bytes;         /* that it has brought since then */
    unsigned count, shaking;       /* connections; those whose handshake is not done */
    int64_t paused_at;
    bool paused, reap, full;
    log_limit_t limit;
    uint8_t *space;
};

static void on_turn(void *argument);
static void drop(connection_t *connection);
static void on_connection(void *argument, uint32_t events);

/* ---- what is waited for ---- */

static void watch_events(connection_t *connection) {
    const listener_t *listener = connection->listener;
    if (connection->gone)
        return;
    uint32_t events = 0;
    if (connection->shaking) {
        loop_fd_events(connection->watch, tls_wants_write(connection->tls) ? EPOLLOUT : EPOLLIN);
        return;
    }
    bool reads = !connection->at_end && !connection->ending && !connection->held && !connection->crowded && !listener->paused && connection->out.size < OUT_MAX;
    if (reads || connection->lingering)
        events |= EPOLLIN;
    if (connection->out.size || (reads && connection->tls && tls_wants_write(connection->tls)))
        events |= EPOLLOUT;
    loop_fd_events(connection->watch, events);
}

/* The handshake that gives way to a new connection, if there has to be one and is. */
static connection_t *laggard(const listener_t *listener) {
    connection_t *oldest = NULL;
    for (connection_t *connection = listener->first; connection && listener->shaking; connection = connection->next)
        if (connection->shaking && !connection->gone)
            oldest = connection; /* new ones are put in front */
    bool late = oldest && loop_now(listener->setup.loop) - oldest->heard >= HANDSHAKE_FAIR;
    return late ? oldest : NULL;
}

static bool is_full(const listener_t *listener) {
    return listener->count >= listener->setup.connections || listener->shaking >= HANDSHAKES;
}

static void make_room(listener_t *listener) {
    connection_t *connection = is_full(listener) ? laggard(listener) : NULL;
    if (!connection)
        return;
    if (log_limited(&listener->limit))
        log_warning("%s: the TLS handshake takes too long: ended, as others wait", connection->place);
    drop(connection);
}

static void accept_more(listener_t *listener) {
    bool full = is_full(listener) && !laggard(listener);
    if (full && !listener->full && log_limited(&listener->limit))
        log_warning("%s: %u connections are open, %u of them in TLS's handshake, which is as many as is allowed (--connections): others wait",
                    listener->setup.scheme, listener->count, listener->shaking);
    listener->full = full;
    loop_fd_events(listener->watch, full || listener->pause_accept ? 0 : EPOLLIN);
}

/* ---- what is left over, of all ---- */

static bool has_room(const listener_t *listener) {
    return !listener->setup.memory || listener->kept + READ_BYTES <= listener->setup.memory;
}

/* False: others go first. */
static bool may_read(connection_t *connection) {
    listener_t *listener = connection->listener;
    if (has_room(listener) || listener->favoured == connection)
        return true;
    if (!listener->favoured) {
        listener->favoured = connection;
        return true;
    }
    connection->crowded = true;
    return false;
}

static bool is_crowded(const listener_t *listener) {
    const connection_t *connection = listener->first;
    while (connection && !connection->crowded)
        connection = connection->next;
    return connection;
}

/* True: others wait for it, and it brings too little for them to. */
static bool stalls(const connection_t *connection, int64_t now) {
    const listener_t *listener = connection->listener;
    return connection == listener->favoured && now - listener->favoured_since >= STALLED && listener->favoured_bytes < READ_BYTES;
}

/* The time for what it has to bring begins anew when it has brought it, and does not run while nobody waits. */
static void watch_favoured(listener_t *listener, int64_t now) {
    if (!listener->favoured || (listener->favoured_bytes < READ_BYTES && is_crowded(listener)))
        return;
    listener->favoured_since = now;
    listener->favoured_bytes = 0;
}

/* What it has left over is another number of bytes now. The one that goes on gives way when what is left is little: a next record has hardly begun. */
static void count_kept(connection_t *connection) {
    listener_t *listener = connection->listener;
    size_t now = connection->gone ? 0 : connection->in.size;
    listener->kept += now;
    listener->kept -= connection->counted;
    connection->counted = now;
    if (!listener->favoured || (listener->favoured == connection ? now > LITTLE && !has_room(listener) : !has_room(listener)))
        return;
    listener->favoured = NULL;
    listener->favoured_bytes = 0;
    listener->favoured_since = loop_now(listener->setup.loop);
    for (connection_t *other = listener->first; other; other = other->next) {
        if (!other->crowded)
            continue;
        other->crowded = false;
        other->heard = listener->favoured_since; /* it is we who let it wait */
        watch_events(other);
    }
}

static void connection_free(connection_t *connection) {
    if (connection->own)
        connection->listener->setup.closed(connection->own);
    tls_free(connection->tls);
    buf_fini(&connection->in);
    buf_fini(&connection->out);
    mem_free(connection);
}

static void reap(void *argument) {
    listener_t *listener = argument;
    listener->reap = false;
    for (connection_t *connection = listener->first, *next; connection; connection = next) {
        next = connection->next;
        if (!connection->gone)
            continue;
        *connection->link = next;
        if (next)
            next->link = connection->link;
        connection_free(connection);
    }
    if (!listener->count) {
        loop_remove(listener->sweep);
        listener->sweep = NULL;
    }
    accept_more(listener);
}

/* Freed later: callers are still at work with it. */
static void drop(connection_t *connection) {
    if (connection->gone)
        return;
    connection->gone = true;
    count_kept(connection);
    connection->listener->count--;
    connection->listener->shaking -= connection->shaking;
    loop_undefer(connection->listener->setup.loop, on_turn, connection);
    loop_remove(connection->watch);
    close(connection->fd);
    if (!connection->listener->reap)
        loop_defer(connection->listener->setup.loop, reap, connection->listener);
    connection->listener->reap = true;
}

/* ---- sending ---- */

static void linger(connection_t *connection) {
    if (connection->tls)
        tls_end(connection->tls);
    shutdown(connection->fd, SHUT_WR);
    connection->lingering = true;
    connection->deadline = clock_monotonic() + LINGER;
    if (connection->at_end)
        drop(connection);
}

static void send_out(connection_t *connection) {
    size_t done = 0;
    while (done < connection->out.size) {
        const uint8_t *bytes = connection->out.data + done;
        size_t size = connection->out.size - done;
        ssize_t sent = connection->tls ? tls_write(connection->tls, bytes, size) : send(connection->fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN) {
            drop(connection);
            return;
        }
        if (sent < 0)
            break;
        done += (size_t) sent;
    }
    buf_consume(&connection->out, done);
    if (connection->ending && !connection->lingering && !connection->out.size)
        linger(connection);
}

void connection_put(connection_t *connection, const void *bytes, size_t size) {
    if (connection->gone || connection->ending)
        return;
    buf_put(&connection->out, bytes, size);
    send_out(connection);
    watch_events(connection);
}

void connection_end(connection_t *connection) {
    if (connection->gone || connection->ending)
        return;
    connection->ending = true;
    connection->deadline = clock_monotonic() + FAREWELL;
    buf_clear(&connection->in);
    count_kept(connection);
    send_out(connection);
    watch_events(connection);
}

/* ---- reading ---- */

static bool may_offer(const connection_t *connection) {
    return !connection->listener->paused && !connection->held && !connection->ending && !connection->gone;
}

/* A connection keeps no more than it needs, as there may be many. */
static void shrink(buf_t *buf) {
    buf_t small = {0};
    buf_put(&small, buf->data, buf->size);
    buf_fini(buf);
    *buf = small;
}

/* Offers bytes; what is not used of them is in `in` afterwards. */
static void offer(connection_t *connection, const char *data, size_t size) {
    listener_t *listener = connection->listener;
    bool own = data == (const char *) connection->in.data;
    size_t used = 0;
    connection->unseen = false;
    while (may_offer(connection) && (used < size || connection->at_end)) {
        size_t taken = listener->setup.data(connection->own, data + used, size - used, connection->at_end);
        used += taken;
        if (!connection->at_end || !taken)
            break;
    }
    if (connection->ending || connection->gone)
        return;
    if (own) {
        buf_consume(&connection->in, used);
    } else if (used < size) {
        buf_reserve(&connection->in, size - used + SLACK);
        buf_put(&connection->in, data + used, size - used);
    }
    count_kept(connection);
    if (!may_offer(connection))
        connection->unseen = connection->in.size > 0 || connection->at_end;
    else if (connection->at_end)
        connection_end(connection);
    if (connection->in.size <= LITTLE && connection->in.capacity > 2 * LITTLE)
        shrink(&connection->in);
}

static void offer_kept(connection_t *connection) {
    buf_reserve(&connection->in, SLACK);
    offer(connection, (const char *) connection->in.data, connection->in.size);
}

static void on_turn(void *argument) {
    connection_t *connection = argument;
    if (may_offer(connection) && connection->unseen)
        offer_kept(connection);
    watch_events(connection);
}

static void read_some(connection_t *connection) {
    listener_t *listener = connection->listener;
    bool tls = connection->tls && !connection->lingering;
    size_t before = connection->in.size <= LITTLE ? connection->in.size : 0; /* goes in front of what comes */
    uint8_t *space = listener->space + before;
    ssize_t size = tls ? tls_read(connection->tls, space, READ_BYTES) : recv(connection->fd, space, READ_BYTES, 0);
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) {
        count_kept(connection);
        return;
    }
    if (connection->lingering) {
        if (size <= 0)
            drop(connection);
        return;
    }
    if (size < 0) {
        log_debug("%s: %s", connection->place, strerror(errno));
        size = 0;
    }
    connection->heard = loop_now(listener->setup.loop);
    connection->at_end = size == 0;
    if (connection == listener->favoured)
        listener->favoured_bytes += (size_t) size;
    if (connection->in.size > LITTLE) {
        buf_reserve(&connection->in, (size_t) size + SLACK);
        buf_put(&connection->in, space, (size_t) size);
        offer_kept(connection);
        return;
    }
    if (before)
        memcpy(listener->space, connection->in.data, before);
    buf_clear(&connection->in);
    offer(connection, (const char *) listener->space, before + (size_t) size);
}

static void shake_hands(connection_t *connection) {
    listener_t *listener = connection->listener;
    err_t err;
    int done = tls_handshake(connection->tls, &err);
    if (done < 0) {
        if (*err.text && log_limited(&listener->limit))
            log_warning("%s: no TLS connection: %s", connection->place, err.text);
        drop(connection);
        return;
    }
    if (!done)
        return;
    connection->shaking = false;
    connection->deadline = 0;
    connection->heard = loop_now(listener->setup.loop);
    listener->shaking--;
    connection->own = listener->setup.opened(listener->setup.argument, connection);
    accept_more(listener);
}

static void on_connection(void *argument, uint32_t events) {
    connection_t *connection = argument;
    if (connection->shaking) {
        shake_hands(connection);
        watch_events(connection);
        return;
    }
    bool read_waits = connection->tls && tls_wants_write(connection->tls) && !connection->out.size;
    if (events & EPOLLOUT)
        send_out(connection);
    if (read_waits)
        events |= EPOLLIN;
    bool wanted = connection->lingering || (may_offer(connection) && !connection->at_end);
    if (!connection->gone && wanted && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        if (connection->lingering || may_read(connection))
            read_some(connection);
    } else if (!connection->gone && (events & EPOLLERR)) {
        drop(connection); /* nobody is there to send to */
    }
    watch_events(connection);
}

void connection_pause(connection_t *connection) {
    connection->held = true;
    connection->unseen |= connection->in.size > 0;
    watch_events(connection);
}

static void turn(connection_t *connection) {
    listener_t *listener = connection->listener;
    connection->heard = loop_now(listener->setup.loop);
    if (connection == listener->favoured)
        listener->favoured_since = connection->heard;
    if (!connection->gone)
        loop_defer(listener->setup.loop, on_turn, connection);
}

void connection_resume(connection_t *connection) {
    if (!connection->held)
        return;
    connection->held = false;
    connection->unseen |= connection->in.size > 0 || connection->at_end;
    turn(connection);
}

void connection_limit(connection_t *connection, int64_t ns) {
    if (!connection->ending)
        connection->deadline = ns ? loop_now(connection->listener->setup.loop) + ns : 0;
}

const char *connection_place(const connection_t *connection) {
    return connection->place;
}

/* ---- time ---- */

static void sweep(void *argument) {
    listener_t *listener = argument;
    int64_t now = loop_now(listener->setup.loop);
    watch_favoured(listener, now);
    for (connection_t *connection = listener->first, *next; connection; connection = next) {
        next = connection->next;
        bool late = connection->deadline && now >= connection->deadline;
        if (connection->shaking && !connection->gone) {
            if (late) {
                log_debug("%s: the TLS handshake takes too long: closed", connection->place);
                drop(connection);
            }
            continue;
        }
        if (connection->gone || (!connection->ending && (listener->paused || connection->held || connection->crowded)))
            continue; /* it is we who let it wait */
        bool slow = stalls(connection, now);
        if (slow && log_limited(&listener->limit))
            log_warning("%s: less than 64 KiB have come in 10 s of an unfinished record of %zu bytes so far, for which others wait, as there is no room "
                        "for all (--memory): closed",
                        connection->place, connection->in.size);
        if (connection->lingering && late) {
            drop(connection);
        } else if (late || slow || (listener->setup.idle && now - connection->heard >= listener->setup.idle)) {
            log_debug("%s: nothing has come for too long: closed", connection->place);
            if (connection->ending) {
                drop(connection); /* it does not take what it asked for */
                continue;
            }
            if (listener->setup.expired)
                listener->setup.expired(connection->own);
            connection->heard = now;
            connection_end(connection);
        }
    }
    accept_more(listener);
}

/* ---- new ones ---- */

static void on_more_files(void *argument) {
    listener_t *listener = argument;
    listener->pause_accept = NULL;
    accept_more(listener);
}

static void add(listener_t *listener, int fd, const struct sockaddr_storage *peer) {
    connection_t *connection = mem_zero(sizeof *connection);
    char text[ADDRESS_TEXT];
    int on = 1;
    address_put(peer, text);
    snprintf(connection->place, sizeof connection->place, "%s%s%s", listener->setup.scheme, *text ? " " : "", text);
    connection->listener = listener;
    connection->fd = fd;
    connection->heard = loop_now(listener->setup.loop);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on); /* a peer whose machine is gone is noticed some time */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->watch = loop_fd(listener->setup.loop, fd, EPOLLIN, on_connection, connection);
    connection->shaking = listener->setup.tls != NULL;
    if (connection->shaking) {
        connection->tls = tls_accept(listener->setup.tls, fd);
        connection->deadline = connection->heard + HANDSHAKE;
        listener->shaking++;
    }
    connection->next = listener->first;
    connection->link = &listener->first;
    if (listener->first)
        listener->first->link = &connection->next;
    listener->first = connection;
    listener->count++;
    if (!listener->sweep) {
        int64_t idle = listener->setup.idle, often = idle && idle < 4 * NS_PER_S ? idle / 4 + 1 : NS_PER_S;
        listener->sweep = loop_timer(listener->setup.loop, often, often, sweep, listener);
    }
    if (!connection->shaking)
        connection->own = listener->setup.opened(listener->setup.argument, connection);
    watch_events(connection);
}

static void on_accept(void *argument, uint32_t events) {
    listener_t *listener = argument;
    for (int i = 0; i < ACCEPTS && (!is_full(listener) || laggard(listener)); i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int fd = accept4(listener->setup.fd, (struct sockaddr *) &peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            if (log_limited(&listener->limit))
                log_warning("%s: cannot take a connection: %s", listener->setup.scheme, strerror(errno));
            listener->pause_accept = loop_timer(listener->setup.loop, SHORT_OF_FILES, 0, on_more_files, listener);
        }
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (fd < 0)
            break;
        make_room(listener);
        add(listener, fd, &peer);
    }
    accept_more(listener);
}

listener_t *listener_new(const listener_setup_t *setup) {
    listener_t *listener = mem_zero(sizeof *listener);
    listener->setup = *setup;
    listener->paused = true;
    listener->paused_at = loop_now(setup->loop);
    listener->space = mem_alloc(LITTLE + READ_BYTES + SLACK);
    listener->watch = loop_fd(setup->loop, setup->fd, EPOLLIN, on_accept, listener);
    return listener;
}

listener_t *listener_at(const listener_setup_t *setup, const char *rest, uint16_t port, const tls_files_t *files, err_t *err) {
    listener_setup_t complete = *setup;
    address_t address;
    char text[ADDRESS_TEXT];
    if (files->certificate && !(complete.tls = tls_server_new(files, err)))
        return NULL;
    complete.fd = address_read(&address, rest, port, err) ? -1 : address_listen(&address, SOCK_STREAM, err);
    if (complete.fd < 0) {
        tls_server_free(complete.tls);
        return NULL;
    }
    address_of(complete.fd, text);
    log_info("listening on %s://%s%s%s", setup->scheme, text, address.path, complete.tls ? " (TLS)" : "");
    listener_t *listener = listener_new(&complete);
    listener_resume(listener);
    return listener;
}

void listener_pause(listener_t *listener) {
    if (listener->paused)
        return;
    listener->paused = true;
    listener->paused_at = loop_now(listener->setup.loop);
    for (connection_t *connection = listener->first; connection; connection = connection->next) {
        connection->unseen |= connection->in.size > 0;
        watch_events(connection);
    }
}

void listener_resume(listener_t *listener) {
    if (!listener->paused)
        return;
    listener->paused = false;
    int64_t waited = loop_now(listener->setup.loop) - listener->paused_at;
    for (connection_t *connection = listener->first; connection; connection = connection->next) {
        if (connection->shaking)
            continue;
        if (connection->deadline)
            connection->deadline += waited;
        turn(connection);
    }
}

unsigned listener_connections(const listener_t *listener) {
    return listener->count;
}

void listener_free(listener_t *listener) {
    if (!listener)
        return;
    loop_remove(listener->watch);
    loop_remove(listener->sweep);
    loop_remove(listener->pause_accept);
    for (connection_t *connection = listener->first; connection; connection = connection->next)
        drop(connection);
    loop_undefer(listener->setup.loop, reap, listener);
    while (listener->first) {
        connection_t *connection = listener->first;
        listener->first = connection->next;
        connection_free(connection);
    }
    close(listener->setup.fd);
    tls_server_free(listener->setup.tls);
    mem_free(listener->space);
    mem_free(listener);
}
