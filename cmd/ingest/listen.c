/* Listening sockets of all protocols: accepts, ends what is idle or too slow, pauses and goes on. Their connections are in listen_connection.c. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "listen_private.h"

#define ACCEPTS 64                     /* at once, then others get their turn */
#define SHORT_OF_FILES (1 * NS_PER_S)
#define STALLED (10 * NS_PER_S)        /* one that others wait for brings READ_BYTES in that */
#define HANDSHAKES 64u                 /* under way at once */
#define HANDSHAKE (10 * NS_PER_S)      /* for one */
#define HANDSHAKE_FAIR (1 * NS_PER_S)  /* one that takes longer gives way to a new connection */
#define SPARE_FAIR (1 * NS_PER_S)      /* and so does who has nothing to say for longer */

/* ---- room for connections ---- */

/* The handshake that gives way to a new connection, if there has to be one and is. */
static connection_t *laggard(const listener_t *listener) {
    connection_t *oldest = NULL;
    for (connection_t *connection = listener->first; connection && listener->shaking; connection = connection->next)
        if (connection->shaking && !connection->gone)
            oldest = connection; /* new ones are put in front */
    bool late = oldest && loop_now(listener->setup.loop) - oldest->heard >= HANDSHAKE_FAIR;
    return late ? oldest : NULL;
}

/* Nothing is under way on it, neither here nor with its protocol. */
static bool is_spare(const connection_t *connection) {
    bool quiet = !connection->in.size && !connection->out.size && !connection->held && !connection->crowded && !connection->ending;
    return quiet && !connection->gone && connection->own && connection->listener->setup.spare(connection->own);
}

/* The connection that gives way to a new one: a handshake, or the one that has been quiet for longest. What waits to be read is not seen while paused. */
static connection_t *yielding(const listener_t *listener) {
    connection_t *oldest = laggard(listener);
    if (oldest || listener->shaking >= HANDSHAKES || !listener->setup.spare || listener->paused)
        return oldest;
    for (connection_t *connection = listener->first; connection; connection = connection->next)
        if (is_spare(connection) && (!oldest || connection->heard < oldest->heard))
            oldest = connection;
    bool late = oldest && loop_now(listener->setup.loop) - oldest->heard >= SPARE_FAIR;
    return late ? oldest : NULL;
}

static bool is_full(const listener_t *listener) {
    return listener->count >= listener->setup.connections || listener->shaking >= HANDSHAKES;
}

static void make_room(listener_t *listener) {
    connection_t *connection = is_full(listener) ? yielding(listener) : NULL;
    if (!connection)
        return;
    if (!connection->shaking)
        log_debug("%s: closed between two requests, as others wait", connection->place);
    else if (log_limited(&listener->limit))
        log_warning("%s: the TLS handshake takes too long: ended, as others wait", connection->place);
    connection_drop(connection);
}

void listener_accept_more(listener_t *listener) {
    bool full = is_full(listener) && !yielding(listener);
    if (full && !listener->full && log_limited(&listener->limit))
        log_warning("%s: %u connections are open, %u of them in TLS's handshake, which is as many as is allowed (--connections): others wait",
                    listener->setup.scheme, listener->count, listener->shaking);
    listener->full = full;
    loop_fd_events(listener->watch, full || listener->pause_accept ? 0 : EPOLLIN);
}

/* ---- time ---- */

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

/* It has waited for room for long enough. */
static void give_up(connection_t *connection) {
    listener_t *listener = connection->listener;
    if (log_limited(&listener->limit))
        log_warning("%s: unfinished requests of others take all the room that there is for them (--memory): refused", connection->place);
    if (listener->setup.crowded)
        listener->setup.crowded(connection->own);
    connection_end(connection);
}

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
                connection_drop(connection);
            }
            continue;
        }
        if (connection->gone || (!connection->ending && (listener->paused || connection->held || connection->crowded_since))) {
            if (connection->crowded && !connection->gone && listener->setup.patience && now - connection->crowded_since >= listener->setup.patience)
                give_up(connection);
            continue; /* it is we who let it wait */
        }
        bool slow = stalls(connection, now);
        if (slow && log_limited(&listener->limit))
            log_warning("%s: less than 64 KiB have come in 10 s of an unfinished record of %zu bytes so far, for which others wait, as there is no room "
                        "for all (--memory): closed",
                        connection->place, connection->counted);
        if (connection->lingering && late) {
            connection_drop(connection);
        } else if (late || slow || (listener->setup.idle && now - connection->heard >= listener->setup.idle)) {
            log_debug("%s: nothing has come for too long: closed", connection->place);
            if (connection->ending) {
                connection_drop(connection); /* it does not take what it asked for */
                continue;
            }
            if (listener->setup.expired)
                listener->setup.expired(connection->own);
            connection->heard = now;
            connection_end(connection);
        }
    }
    listener_accept_more(listener);
}

/* ---- new ones ---- */

static void on_more_files(void *argument) {
    listener_t *listener = argument;
    listener->pause_accept = NULL;
    listener_accept_more(listener);
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
    connection->watch = loop_fd(listener->setup.loop, fd, EPOLLIN, connection_ready, connection);
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
    connection_watch(connection);
}

static void on_accept(void *argument, uint32_t events) {
    listener_t *listener = argument;
    for (int i = 0; i < ACCEPTS && (!is_full(listener) || yielding(listener)); i++) {
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
    listener_accept_more(listener);
}

/* ---- the listener ---- */

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
        connection_watch(connection);
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
        connection_turn(connection);
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
        connection_drop(connection);
    loop_undefer(listener->setup.loop, connections_reap, listener);
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
