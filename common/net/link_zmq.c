/* Shared by the ZeroMQ engines: addresses, sockets, locks beside ipc paths, and the count of connections. */
#include "net/link_zmq.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#define IPC_PATH_MAX (sizeof ((struct sockaddr_un *) 0)->sun_path - 1)

/* ---- addresses ---- */

static const char *skip_pattern(const char *address) {
    return text_starts(address, "pub+") || text_starts(address, "sub+") ? address + 4 : address;
}

static int ipc_address(zlink_address_t *address, const char *path, const link_endpoint_t *endpoint, int64_t partition, err_t *err) {
    char *data = partition < 0 ? mem_text(path) : mem_format("%s.%lld", path, (long long) partition);
    if (!*path || strlen(data) + strlen(".ack") > IPC_PATH_MAX) {
        mem_free(data);
        return *path ? err_set(err, "%s: the path is too long: with what is appended to it, a socket's path holds %zu bytes", endpoint->text,
                               IPC_PATH_MAX)
                     : err_set(err, "%s: a path is missing after ipc://", endpoint->text);
    }
    address->path = data;
    address->data = mem_format("ipc://%s", data);
    address->ack = mem_format("ipc://%s.ack", data);
    return 0;
}

static int tcp_address(zlink_address_t *address, const char *rest, const link_endpoint_t *endpoint, int64_t partition, err_t *err) {
    const char *colon = strrchr(rest, ':');
    uint64_t port;
    if (!colon || colon == rest || text_to_uint(text_of(colon + 1), &port, NULL) != 0 || port == 0)
        return err_set(err, "%s: tcp:// takes HOST:PORT, for example tcp://127.0.0.1:5555 or @tcp://*:5555", endpoint->text);
    port += partition < 0 ? 0 : 2 * (uint64_t) partition;
    if (port + 1 > ZLINK_PORT_MAX)
        return err_set(err, "%s: port %llu is needed; the acknowledgements take the port above the data's, and each partition two, so choose "
                            "a smaller one", endpoint->text, (unsigned long long) port + 1);
    int host = (int) (colon - rest);
    address->data = mem_format("tcp://%.*s:%llu", host, rest, (unsigned long long) port);
    address->ack = mem_format("tcp://%.*s:%llu", host, rest, (unsigned long long) port + 1);
    return 0;
}

int zlink_address(zlink_address_t *address, const link_endpoint_t *endpoint, int64_t partition, bool bind, err_t *err) {
    *address = (zlink_address_t){.bind = endpoint->side ? endpoint->side == '@' : bind};
    const char *plain = skip_pattern(endpoint->address);
    return text_starts(plain, "ipc://") ? ipc_address(address, plain + strlen("ipc://"), endpoint, partition, err)
                                        : tcp_address(address, plain + strlen("tcp://"), endpoint, partition, err);
}

void zlink_address_fini(zlink_address_t *address) {
    mem_free(address->data);
    mem_free(address->ack);
    mem_free(address->path);
    *address = (zlink_address_t){0};
}

int zlink_check(const link_endpoint_t *endpoint, bool sender, err_t *err) {
    zlink_address_t address;
    int64_t highest = sender && endpoint->partitions > 1 ? endpoint->partitions - 1 : endpoint->partition;
    if (sender && endpoint->key && endpoint->partitions < 2)
        return err_set(err, "%s: key=%s splits a link into partitions: say how many with partitions=N", endpoint->text, endpoint->key);
    if (zlink_address(&address, endpoint, highest, sender, err) != 0)
        return -1;
    zlink_address_fini(&address);
    return 0;
}

/* ---- sockets ---- */

static void set(void *socket, int option, int value) {
    ASSERT(zmq_setsockopt(socket, option, &value, sizeof value) == 0);
}

void *zlink_socket(int type, size_t limit, int high_water) {
    void *socket = zmq_socket(link_context(), type);
    ASSERT(socket);
    int64_t bytes = (int64_t) limit;
    ASSERT(zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &bytes, sizeof bytes) == 0);
    set(socket, ZMQ_SNDHWM, high_water);
    set(socket, ZMQ_RCVHWM, high_water);
    set(socket, ZMQ_LINGER, 0);
    /* Peers come and go: quick at first, then once a second. */
    set(socket, ZMQ_RECONNECT_IVL, 20);
    set(socket, ZMQ_RECONNECT_IVL_MAX, 1000);
    set(socket, ZMQ_HANDSHAKE_IVL, 4000);  /* a connection cut while it was being made is tried again */
    /* Nothing is put into a connection that does not stand, and one that ended takes its subscriptions with it: else a socket that has
     * connected keeps those of a peer that is gone. */
    if (type == ZMQ_PUSH || type == ZMQ_XPUB)
        set(socket, ZMQ_IMMEDIATE, 1);
    return socket;
}

/* ZeroMQ resolves names only when it connects. */
static char *resolve(const char *where) {
    const char *host = where + strlen("tcp://"), *colon = strrchr(host, ':');
    if (!text_starts(where, "tcp://") || *host == '*' || *host == '[')
        return mem_text(where);
    char *name = mem_text_n(host, (size_t) (colon - host)), *resolved = NULL, numeric[NI_MAXHOST];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *found;
    if (getaddrinfo(name, NULL, &hints, &found) == 0) {
        if (getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof numeric, NULL, 0, NI_NUMERICHOST) == 0)
            resolved = mem_format("tcp://%s%s", numeric, colon);
        freeaddrinfo(found);
    }
    mem_free(name);
    return resolved ? resolved : mem_text(where);
}

int zlink_attach(void *socket, const char *where, bool bind, const char *endpoint, err_t *err) {
    if (text_starts(where, "tcp://")) {
        set(socket, ZMQ_IPV6, where[strlen("tcp://")] == '[');
        /* A peer that vanished without a word (power, cable) is noticed, and its connection given up. */
        set(socket, ZMQ_HEARTBEAT_IVL, 2000);
        set(socket, ZMQ_HEARTBEAT_TIMEOUT, 6000);
    }
    if (!bind) {
        if (zmq_connect(socket, where) == 0)
            return 0;
        return err_set(err, "%s: connect to %s: %s", endpoint, where, zmq_strerror(zmq_errno()));
    }
    char *resolved = resolve(where);
    int result = 0;
    if (zmq_bind(socket, resolved) != 0) {
        const char *remedy = zmq_errno() == EADDRINUSE ? ": another program listens there; stop it (ss -ltnp shows it) or choose another port" : "";
        result = err_set(err, "%s: bind %s: %s%s", endpoint, where, zmq_strerror(zmq_errno()), remedy);
    }
    mem_free(resolved);
    return result;
}

void zlink_close(void *socket, int linger_ms) {
    if (!socket)
        return;
    set(socket, ZMQ_LINGER, linger_ms);
    zmq_close(socket);
}

/* ---- locks ---- */

int zlink_lock(zlink_lock_t *lock, const char *path, const char *suffix, bool optional, const char *message, err_t *err) {
    err_t why;
    pid_t holder = 0;
    char *file = mem_format("%s%s", path, suffix);
    int fd = file_lock(file, &holder, &why);
    if (fd >= 0) {
        *lock = (zlink_lock_t){fd, file, strcmp(suffix, ZLINK_BIND_LOCK) == 0 ? mem_text(path) : NULL};
        return 0;
    }
    mem_free(file);
    *lock = (zlink_lock_t){0};
    if (holder)
        return err_set(err, message, path, (int) holder);
    return optional ? 0 : err_set(err, "%s", why.text);
}

void zlink_unlock(zlink_lock_t *lock) {
    if (!lock->path)
        return;
    if (lock->sockets) {
        char *acks = mem_format("%s.ack", lock->sockets);
        unlink(lock->sockets);
        unlink(acks);
        mem_free(acks);
        mem_free(lock->sockets);
    }
    unlink(lock->path);                   /* while it is held: file_lock sees that and makes a new one */
    close(lock->fd);
    mem_free(lock->path);
    *lock = (zlink_lock_t){0};
}

/* ---- connections ---- */

#define REVIVAL NS_PER_S

static void revive(void *argument) {
    zlink_monitor_t *monitor = argument;
    monitor->revival = NULL;
    zlink_monitor_drain(monitor);         /* the news may be here already */
    if (!monitor->given_up || monitor->revival)
        return;
    monitor->given_up = false;
    if (!monitor->told)
        log_warning("%s: what answers there is no other end of such a link (another kind of ZeroMQ socket?); trying again", monitor->endpoint);
    monitor->told = true;
    zmq_disconnect(monitor->socket, monitor->where);
    if (zmq_connect(monitor->socket, monitor->where))
        log_warning("%s: connect to %s: %s", monitor->endpoint, monitor->where, zmq_strerror(zmq_errno()));
}

/* After a connection has ended libzmq says at once that it tries again, or it does not. */
static void notice(zlink_monitor_t *monitor, uint16_t event) {
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
        monitor->told = false;
    monitor->given_up = event == ZMQ_EVENT_DISCONNECTED;
    if (!monitor->given_up)
        return;
    loop_remove(monitor->revival);        /* of an earlier connection: this one has its own second */
    monitor->revival = loop_timer(monitor->loop, REVIVAL, 0, revive, monitor);
}

/* One event; false when there is none. came: 1 a connection, -1 its end, 0 neither. */
static bool monitor_next(zlink_monitor_t *monitor, int *came) {
    uint8_t event[6];
    if (zmq_recv(monitor->events, event, sizeof event, ZMQ_DONTWAIT) < 0)
        return false;
    zmq_recv(monitor->events, NULL, 0, ZMQ_DONTWAIT);     /* the endpoint */
    uint16_t number;
    memcpy(&number, event, sizeof number);
    bool begun = monitor->understood ? number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED : number == ZMQ_EVENT_ACCEPTED || number == ZMQ_EVENT_CONNECTED;
    if (monitor->where)
        notice(monitor, number);
    *came = begun ? 1 : number == ZMQ_EVENT_DISCONNECTED ? -1 : 0;
    return true;
}

void zlink_monitor_drain(zlink_monitor_t *monitor) {
    int came;
    while (monitor_next(monitor, &came)) {
        if (came > 0)
            monitor->connections++;
        else if (came < 0 && monitor->connections)
            monitor->connections--;
        if (came && monitor->changed)
            monitor->changed(monitor->argument, came > 0);
    }
    loop_socket_touch(monitor->watch);
}

static void on_event(void *argument) {
    zlink_monitor_drain(argument);
}

void zlink_monitor_init(zlink_monitor_t *monitor, loop_t *loop, void *socket, void (*changed)(void *argument, bool came), void *argument) {
    *monitor = (zlink_monitor_t){.loop = loop, .socket = socket, .changed = changed, .argument = argument};
    char *name = mem_format("inproc://monitor-%p", socket);
    ASSERT(zmq_socket_monitor(socket, name, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
                                            ZMQ_EVENT_CONNECT_DELAYED | ZMQ_EVENT_CONNECT_RETRIED) == 0);
    monitor->events = zmq_socket(link_context(), ZMQ_PAIR);
    ASSERT(monitor->events && zmq_connect(monitor->events, name) == 0);
    mem_free(name);
    monitor->watch = loop_socket(loop, monitor->events, ZMQ_POLLIN, on_event, monitor);
}

void zlink_monitor_understood(zlink_monitor_t *monitor) {
    monitor->understood = true;
}

void zlink_monitor_keep(zlink_monitor_t *monitor, const char *where, const char *endpoint) {
    monitor->where = mem_text(where);
    monitor->endpoint = endpoint;
}

void zlink_monitor_fini(zlink_monitor_t *monitor) {
    if (!monitor->events)
        return;
    loop_remove(monitor->watch);
    loop_remove(monitor->revival);
    mem_free(monitor->where);
    zmq_socket_monitor(monitor->socket, NULL, 0);
    zmq_close(monitor->events);
    monitor->events = NULL;
}

uint64_t zlink_random_id(void) {
    uint64_t id = 0;
    while (id == 0)
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            id = 0;
    return id;
}
