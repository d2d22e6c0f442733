/* A listener's connections: handshakes, reading, what is left over, sending, and their end. One buffer is read into for all of them; a connection
 * keeps only what its protocol has left over. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "listen_private.h"
#include "net/tls_words.h"

#define OUT_MAX (64u * 1024)           /* unsent: then no more is read */
#define LINGER (2 * NS_PER_S)          /* for the peer to leave after the last answer */
#define FAREWELL (30 * NS_PER_S)       /* for it to take that */

static void on_turn(void *argument);

/* ---- what is waited for ---- */

void connection_watch(connection_t *connection) {
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

/* ---- what is left over, of all ---- */

static bool has_room(const listener_t *listener) {
    return !listener->setup.memory || listener->kept + READ_BYTES <= listener->setup.memory;
}

/* False: others go first. */
static bool may_read(connection_t *connection) {
    listener_t *listener = connection->listener;
    int64_t now = loop_now(listener->setup.loop);
    if (!has_room(listener) && listener->favoured && listener->favoured != connection) {
        connection->crowded = true;
        if (!connection->crowded_since)
            connection->crowded_since = now;
        return false;
    }
    if (!has_room(listener) && !listener->favoured) {
        listener->favoured = connection;
        listener->favoured_since = now;
        listener->favoured_bytes = 0;
    }
    if (connection->crowded_since && connection->deadline)
        connection->deadline += now - connection->crowded_since;
    connection->crowded_since = 0;
    return true;
}

/* What it has left over is another number of bytes now. The one that goes on gives way when what is left is little: a next record has hardly begun. */
static void count_kept(connection_t *connection) {
    listener_t *listener = connection->listener;
    size_t now = connection->gone ? 0 : connection->in.size + connection->keeps;
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
        connection_watch(other);
    }
}

void connection_keeps(connection_t *connection, size_t bytes) {
    connection->keeps = bytes;
    count_kept(connection);
}

/* ---- the end ---- */

void connection_free(connection_t *connection) {
    if (connection->own)
        connection->listener->setup.closed(connection->own);
    tls_free(connection->tls);
    buf_fini(&connection->in);
    buf_fini(&connection->out);
    mem_free(connection);
}

void connections_reap(void *argument) {
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
    listener_accept_more(listener);
}

void connection_drop(connection_t *connection) {
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
        loop_defer(connection->listener->setup.loop, connections_reap, connection->listener);
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
        connection_drop(connection);
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
            connection_drop(connection);
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
    connection_watch(connection);
}

void connection_end(connection_t *connection) {
    if (connection->gone || connection->ending)
        return;
    connection->ending = true;
    connection->deadline = clock_monotonic() + FAREWELL;
    buf_clear(&connection->in);
    count_kept(connection);
    send_out(connection);
    connection_watch(connection);
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
    connection_watch(connection);
}

/* A handshake is no data: a client speaks TLS where we do not. */
static void tell_tls(connection_t *connection) {
    const listener_t *listener = connection->listener;
    if (log_limited(&connection->listener->limit))
        log_warning("%s: the client speaks TLS, which is not spoken here%s%s", connection->place, listener->setup.tls_option ? ": see " : "",
                    listener->setup.tls_option ? listener->setup.tls_option : "");
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
            connection_drop(connection);
        return;
    }
    if (size < 0) {
        log_debug("%s: %s", connection->place, strerror(errno));
        size = 0;
    }
    if (!connection->tls && !connection->heard_text && tls_begins(space, (size_t) size)) {
        tell_tls(connection);
        if (!listener->setup.answers) {
            connection_drop(connection);
            return;
        }
    }
    connection->heard_text |= size > 0;
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
        connection_drop(connection);
        return;
    }
    if (!done)
        return;
    connection->shaking = false;
    connection->deadline = 0;
    connection->heard = loop_now(listener->setup.loop);
    listener->shaking--;
    connection->own = listener->setup.opened(listener->setup.argument, connection);
    listener_accept_more(listener);
}

void connection_ready(void *argument, uint32_t events) {
    connection_t *connection = argument;
    if (connection->shaking) {
        shake_hands(connection);
        connection_watch(connection);
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
        connection_drop(connection); /* nobody is there to send to */
    }
    connection_watch(connection);
}

void connection_pause(connection_t *connection) {
    connection->held = true;
    connection->unseen |= connection->in.size > 0;
    connection_watch(connection);
}

void connection_turn(connection_t *connection) {
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
    connection_turn(connection);
}

void connection_limit(connection_t *connection, int64_t ns) {
    if (!connection->ending)
        connection->deadline = ns ? loop_now(connection->listener->setup.loop) + ns : 0;
}

const char *connection_place(const connection_t *connection) {
    return connection->place;
}
