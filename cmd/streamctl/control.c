/* The control socket: requests in, replies out, one JSON object per line. A watcher that does not read gets the newest status when it
 * reads again, and no queue of old ones. */
#include "control.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/memory.h"

#define CLIENTS_MAX 64
#define LINE_MAX_BYTES (1024u * 1024)

typedef struct client {
    control_server_t *server;
    int fd;
    loop_watch_t *watch;
    buf_t in, out;
    bool watching, stale;             /* stale: a newer status than the one under way is owed */
    bool trying;                      /* a source's trial is under way */
    bool leaving;                     /* close when all is written */
} client_t;

struct control_server {
    control_setup_t setup;
    char *path;
    int fd;
    loop_watch_t *watch;
    client_t *clients[CLIENTS_MAX];
    size_t count;
};

static void client_close(client_t *client) {
    control_server_t *server = client->server;
    if (client->trying)
        supervisor_try_forget(server->setup.supervisor, client);
    for (size_t i = 0; i < server->count; i++) {
        if (server->clients[i] == client) {
            server->clients[i] = server->clients[--server->count];
            break;
        }
    }
    loop_remove(client->watch);
    close(client->fd);
    buf_fini(&client->in);
    buf_fini(&client->out);
    mem_free(client);
}

static void put_line(client_t *client, json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT);
    buf_put_text(&client->out, text);
    buf_put_byte(&client->out, '\n');
    free(text);
    json_decref(object);
}

static void put_status(client_t *client) {
    put_line(client, supervisor_status(client->server->setup.supervisor));
}

/* Writes what it can; false when the client is gone. */
static bool client_write(client_t *client) {
    for (;;) {
        while (client->out.size) {
            ssize_t n = send(client->fd, client->out.data, client->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0 && errno != EAGAIN)
                return false;
            if (n < 0) {
                loop_fd_events(client->watch, (client->leaving ? 0 : EPOLLIN) | EPOLLOUT);
                return true;
            }
            buf_consume(&client->out, (size_t) n);
        }
        if (!client->stale)
            break;
        client->stale = false;
        put_status(client);
    }
    loop_fd_events(client->watch, client->leaving ? 0 : EPOLLIN);
    return !client->leaving;
}

static void put_failure(client_t *client, const char *code, const char *message) {
    json_t *text = json_string(message);
    put_line(client, json_pack("{s:b, s:s, s:o}", "ok", 0, "code", code, "message", text ? text : json_string(code)));
}

static int interval_of(const json_t *request, double *interval, err_t *err) {
    const json_t *value = json_object_get(request, "interval");
    *interval = 0;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_number(value) || !(json_number_value(value) > 0))
        return err_set(err, "interval is a number of seconds above 0");
    *interval = json_number_value(value);
    return 0;
}

static void handle_order(client_t *client, supervisor_order_t order, const json_t *request) {
    const json_t *source = json_object_get(request, "source");
    const char *code = "bad_interval";
    double interval;
    err_t err = {{0}};
    if (source && !json_is_string(source) && !json_is_null(source)) {
        put_failure(client, "bad_request", "source is a name, as text");
    } else if (interval_of(request, &interval, &err) ||
               supervisor_order(client->server->setup.supervisor, order, json_string_value(source), interval, &code, &err)) {
        put_failure(client, code, err.text);
    } else {
        put_line(client, json_pack("{s:b, s:o}", "ok", 1, "sources", supervisor_sources(client->server->setup.supervisor)));
    }
}

static void handle_letters(client_t *client, int (*order)(supervisor_t *, const char *, const char **, err_t *), const json_t *request) {
    const char *stage = json_string_value(json_object_get(request, "source")), *code = "bad_request";
    err_t err = {{0}};
    if (!stage)
        put_failure(client, code, "source is a stage's name, as text");
    else if (order(client->server->setup.supervisor, stage, &code, &err))
        put_failure(client, code, err.text);
    else
        put_line(client, json_pack("{s:b}", "ok", 1));
}

static void tried(void *argument, json_t *reply) {
    client_t *client = argument;
    client->trying = false;
    put_line(client, reply);
    if (!client_write(client))
        client_close(client);
}

static void handle_test(client_t *client, const json_t *request) {
    const char *source = json_string_value(json_object_get(request, "source")), *code = "bad_request";
    const json_t *events = json_object_get(request, "events");
    err_t err = {{0}};
    if (!source)
        put_failure(client, code, "source is a source's name, as text");
    else if (!json_is_integer(events) || json_integer_value(events) < 1 || json_integer_value(events) > SUPERVISOR_TRIAL_EVENTS)
        put_failure(client, code, "events is a number from 1 to 100");
    else if (client->trying)
        put_failure(client, "busy", "a test is under way on this connection");
    else if (supervisor_try(client->server->setup.supervisor, source, json_integer_value(events), tried, client, &code, &err))
        put_failure(client, code, err.text);
    else
        client->trying = true;
}

static void handle(client_t *client, const char *line, size_t size) {
    json_error_t error;
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
    const char *command = json_string_value(json_object_get(request, "command"));
    if (!request)
        put_failure(client, "bad_request", error.text);
    else if (!command)
        put_failure(client, "bad_request", "a request is an object with \"command\"");
    else if (strcmp(command, "status") == 0)
        put_status(client);
    else if (strcmp(command, "watch") == 0) {
        client->watching = true;
        put_status(client);
    } else if (strcmp(command, "start") == 0)
        handle_order(client, ORDER_START, request);
    else if (strcmp(command, "stop") == 0)
        handle_order(client, ORDER_STOP, request);
    else if (strcmp(command, "restart") == 0)
        handle_order(client, ORDER_RESTART, request);
    else if (strcmp(command, "hand-over") == 0)
        handle_letters(client, supervisor_hand_over, request);
    else if (strcmp(command, "replay") == 0)
        handle_letters(client, supervisor_replay, request);
    else if (strcmp(command, "test") == 0)
        handle_test(client, request);
    else if (strcmp(command, "shutdown") == 0) {
        put_line(client, json_pack("{s:b}", "ok", 1));
        client->server->setup.shutdown(client->server->setup.argument);
    } else
        put_failure(client, "unknown_command", "the commands are status, watch, start, stop, restart, hand-over, replay, test, shutdown");
    json_decref(request);
}

static void handle_lines(client_t *client) {
    for (;;) {
        char *start = (char *) client->in.data;
        char *end = client->in.size ? memchr(start, '\n', client->in.size) : NULL;
        if (!end)
            break;
        size_t size = (size_t) (end - start);
        if (size > LINE_MAX_BYTES)
            break;
        if (size > 0)
            handle(client, start, size);
        buf_consume(&client->in, size + 1);
        if (client->out.size > 4 * LINE_MAX_BYTES) { /* it asks without reading: what is asked is dropped */
            client->leaving = true;
            return;
        }
    }
    if (client->in.size > LINE_MAX_BYTES) {
        put_failure(client, "bad_request", "a request has at most 1 MiB");
        client->leaving = true;
    }
}

static void on_client(void *argument, uint32_t events) {
    client_t *client = argument;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !client->leaving) {
        ssize_t n = recv(client->fd, buf_reserve(&client->in, 16384), 16384, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            client_close(client);
            return;
        }
        if (n > 0) {
            client->in.size += (size_t) n;
            handle_lines(client);
        }
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        client_close(client);
        return;
    }
    if (!client_write(client))
        client_close(client);
}

static bool ours(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static void on_connection(void *argument, uint32_t events) {
    control_server_t *server = argument;
    int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (!ours(fd) || server->count == CLIENTS_MAX) {
        static log_limit_t limit;
        if (log_limited(&limit))
            log_warning("control socket: a client was turned away: %s", ours(fd) ? "too many connections" : "not our user");
        close(fd);
        return;
    }
    client_t *client = mem_zero(sizeof *client);
    client->server = server;
    client->fd = fd;
    client->watch = loop_fd(server->setup.loop, fd, EPOLLIN, on_client, client);
    server->clients[server->count++] = client;
}

static void on_change(void *argument) {
    control_server_t *server = argument;
    for (size_t i = server->count; i-- > 0;) {
        client_t *client = server->clients[i];
        if (!client->watching || client->leaving)
            continue;
        client->stale = true;
        if (client->out.size == 0 && !client_write(client))
            client_close(client);
    }
}

int control_server_new(control_server_t **server, const control_setup_t *setup, err_t *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(setup->path) >= sizeof address.sun_path)
        return err_set(err, "%s is too long for a socket: set XDG_RUNTIME_DIR to a shorter path", setup->path);
    strcpy(address.sun_path, setup->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(setup->path); /* we hold the lock: whoever left it is gone */
    mode_t mask = umask(0177);
    int bound = fd < 0 ? -1 : bind(fd, (struct sockaddr *) &address, sizeof address);
    umask(mask);
    if (bound || listen(fd, 16)) {
        err_errno(err, "listen on %s", setup->path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    control_server_t *new = mem_zero(sizeof *new);
    new->setup = *setup;
    new->path = mem_text(setup->path);
    new->fd = fd;
    new->watch = loop_fd(setup->loop, fd, EPOLLIN, on_connection, new);
    supervisor_listen(setup->supervisor, on_change, new);
    *server = new;
    return 0;
}

void control_server_free(control_server_t *server) {
    if (!server)
        return;
    supervisor_listen(server->setup.supervisor, NULL, NULL);
    for (size_t i = 0; i < server->count; i++) /* a last word, as far as it goes */
        client_write(server->clients[i]);
    while (server->count)
        client_close(server->clients[0]);
    loop_remove(server->watch);
    close(server->fd);
    unlink(server->path);
    mem_free(server->path);
    mem_free(server);
}
