/* A connection by libcurl that is then ours (CURLOPT_CONNECT_ONLY): it brings look-up, connecting and TLS without blocking, we bring the bytes. */
#include "wire.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/http.h"
#include "net/tls_words.h"
#include "server_url.h"

#define UNSENT_MAX (1u << 20)      /* bytes; a server that takes no more than that of ours is not read either */

struct wire {
    wire_setup_t setup;
    CURLM *multi;
    CURL *easy;
    loop_watch_t *timer;
    loop_watch_t *watch;           /* once it is up */
    buf_t out;
    bool is_up, paused, lost;
    bool held_up;                  /* wire_read has said that there is nothing, because of what is unsent */
    bool hung_up;                  /* seen while paused: not watched until resumed */
    bool mute;                     /* the server takes nothing any more */
    bool known;                    /* something has come: the server speaks as we do */
    char hint[64];
    char error[2 * CURL_ERROR_SIZE];         /* libcurl writes into the first half */
};

typedef struct wire_socket {
    wire_t *wire;
    curl_socket_t fd;
    loop_watch_t *watch;
} wire_socket_t;

static void on_fd(void *argument, uint32_t events);
static void read_on(void *argument);

static void tell_lost(void *argument) {
    wire_t *wire = argument;
    wire->setup.down(wire->setup.argument, *wire->error ? wire->error : "the server has closed the connection");
}

/* Told later, so that it never happens inside a call of ours. */
static void lose(wire_t *wire, const char *reason) {
    if (wire->lost)
        return;
    wire->lost = true;
    if (wire->is_up && !wire->known && !wire->setup.peer.tls)
        snprintf(wire->hint, sizeof wire->hint, "; if it speaks TLS there, take %s", wire->setup.secure);
    if (reason && reason != wire->error)
        snprintf(wire->error, sizeof wire->error, "%s", reason);
    loop_remove(wire->watch);
    wire->watch = NULL;
    loop_defer(wire->setup.loop, tell_lost, wire);
}

static bool is_full(const wire_t *wire) {
    return wire->out.size >= UNSENT_MAX;
}

static void watch_events(wire_t *wire) {
    if (wire->watch)
        loop_fd_events(wire->watch, (wire->paused || is_full(wire) ? 0 : EPOLLIN) | (wire->out.size ? EPOLLOUT : 0));
}

static void finish_connecting(wire_t *wire, CURLcode result) {
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (result != CURLE_OK && wire->setup.peer.tls && *wire->error) {
        buf_t reason = {0};
        char plain[32];
        snprintf(plain, sizeof plain, "take %s", wire->setup.plain);
        tls_put_failure(&reason, http_failure_words(result, wire->error), plain);
        lose(wire, buf_text(&reason));
        buf_fini(&reason);
        return;
    }
    if (result != CURLE_OK) {
        lose(wire, http_failure_words(result, wire->error));
        return;
    }
    curl_easy_getinfo(wire->easy, CURLINFO_ACTIVESOCKET, &fd);
    wire->watch = fd == CURL_SOCKET_BAD ? NULL : loop_fd(wire->setup.loop, fd, 0, on_fd, wire);
    if (!wire->watch) {
        lose(wire, "the connection cannot be watched");
        return;
    }
    *wire->error = 0;
    wire->is_up = true;
    watch_events(wire);
    wire->setup.up(wire->setup.argument);
}

static void look_for_end(wire_t *wire) {
    int left;
    CURLMsg *message = curl_multi_info_read(wire->multi, &left);
    if (message && message->msg == CURLMSG_DONE && !wire->is_up)
        finish_connecting(wire, message->data.result);
}

static void on_socket(void *argument, uint32_t events) {
    wire_socket_t *socket = argument;
    wire_t *wire = socket->wire;
    int running, action = (events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0);
    if (events & (EPOLLERR | EPOLLHUP))
        action |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
    curl_multi_socket_action(wire->multi, socket->fd, action, &running);
    look_for_end(wire);
}

static void on_timer(void *argument) {
    wire_t *wire = argument;
    int running;
    wire->timer = NULL;
    curl_multi_socket_action(wire->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    look_for_end(wire);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *argument, void *known) {
    wire_t *wire = argument;
    wire_socket_t *socket = known;
    if (what == CURL_POLL_REMOVE) {
        if (socket)
            loop_remove(socket->watch);
        mem_free(socket);
        curl_multi_assign(wire->multi, fd, NULL);
        return 0;
    }
    uint32_t events = (what != CURL_POLL_OUT ? EPOLLIN : 0) | (what != CURL_POLL_IN ? EPOLLOUT : 0);
    if (socket) {
        loop_fd_events(socket->watch, events);
        return 0;
    }
    socket = mem_zero(sizeof *socket);
    *socket = (wire_socket_t){.wire = wire, .fd = fd, .watch = loop_fd(wire->setup.loop, fd, events, on_socket, socket)};
    curl_multi_assign(wire->multi, fd, socket);
    return 0;
}

static int want_timer(CURLM *multi, long ms, void *argument) {
    wire_t *wire = argument;
    loop_remove(wire->timer);
    wire->timer = ms < 0 ? NULL : loop_timer(wire->setup.loop, ms * NS_PER_MS, 0, on_timer, wire);
    return 0;
}

wire_t *wire_new(const wire_setup_t *setup) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    wire_t *wire = mem_zero(sizeof *wire);
    wire->setup = *setup;
    wire->multi = curl_multi_init();
    wire->easy = curl_easy_init();
    ASSERT(wire->multi && wire->easy);
    char *url = server_url_place(setup->peer.tls ? "https" : "http", setup->peer.host, setup->peer.port);
    curl_multi_setopt(wire->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(wire->multi, CURLMOPT_SOCKETDATA, wire);
    curl_multi_setopt(wire->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    curl_multi_setopt(wire->multi, CURLMOPT_TIMERDATA, wire);
    curl_easy_setopt(wire->easy, CURLOPT_URL, url);
    curl_easy_setopt(wire->easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(wire->easy, CURLOPT_SSL_ENABLE_ALPN, 0L);
    if (!setup->proxied || setup->proxy)
        curl_easy_setopt(wire->easy, CURLOPT_PROXY, setup->proxied ? setup->proxy : "");
    curl_easy_setopt(wire->easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
    curl_easy_setopt(wire->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(wire->easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(wire->easy, CURLOPT_ERRORBUFFER, wire->error);
    curl_easy_setopt(wire->easy, CURLOPT_CONNECTTIMEOUT_MS, (long) (setup->peer.timeout / NS_PER_MS));
    if (setup->peer.tls_ca) {
        curl_easy_setopt(wire->easy, CURLOPT_CAINFO, setup->peer.tls_ca);
        curl_easy_setopt(wire->easy, CURLOPT_CAPATH, NULL);
    }
    if (setup->peer.tls_cert)
        curl_easy_setopt(wire->easy, CURLOPT_SSLCERT, setup->peer.tls_cert);
    if (setup->peer.tls_key)
        curl_easy_setopt(wire->easy, CURLOPT_SSLKEY, setup->peer.tls_key);
    wire->setup.peer.host = wire->setup.proxy = wire->setup.peer.tls_ca = wire->setup.peer.tls_cert = wire->setup.peer.tls_key = NULL;
    mem_free(url);
    curl_multi_add_handle(wire->multi, wire->easy);
    return wire;
}

void wire_free(wire_t *wire) {
    if (!wire)
        return;
    loop_remove(wire->watch);
    loop_undefer(wire->setup.loop, tell_lost, wire);
    loop_undefer(wire->setup.loop, read_on, wire);
    curl_multi_remove_handle(wire->multi, wire->easy);
    curl_easy_cleanup(wire->easy);
    curl_multi_cleanup(wire->multi);
    loop_remove(wire->timer);
    buf_fini(&wire->out);
    mem_free(wire);
}

static void flush(wire_t *wire) {
    size_t sent = 0, at = 0;
    while (at < wire->out.size) {
        CURLcode result = curl_easy_send(wire->easy, wire->out.data + at, wire->out.size - at, &sent);
        if (result == CURLE_AGAIN)
            break;
        if (result != CURLE_OK && wire->setup.last_bytes) {
            wire->mute = true; /* reading will tell */
            at = wire->out.size;
            break;
        }
        if (result != CURLE_OK) {
            lose(wire, *wire->error ? NULL : curl_easy_strerror(result));
            return;
        }
        at += sent;
    }
    buf_consume(&wire->out, at);
    watch_events(wire);
    if (wire->held_up && !is_full(wire)) {
        wire->held_up = false;
        loop_defer(wire->setup.loop, read_on, wire);
    }
}

/* A hang-up is told again and again, and cannot be left out. */
static void unwatch(wire_t *wire) {
    loop_remove(wire->watch);
    wire->watch = NULL;
    wire->hung_up = true;
}

static void on_fd(void *argument, uint32_t events) {
    wire_t *wire = argument;
    if (wire->out.size)
        flush(wire);
    if (!wire->lost && !wire->paused && (events & ~(uint32_t) EPOLLOUT))
        wire->setup.ready(wire->setup.argument);
    else if (!wire->lost && wire->paused && wire->setup.last_bytes && (events & (EPOLLERR | EPOLLHUP)))
        unwatch(wire);
    else if (!wire->lost && wire->paused && (events & (EPOLLERR | EPOLLHUP)))
        lose(wire, NULL); /* what has come and was not read, the server will send again */
}

ssize_t wire_read(wire_t *wire, void *space, size_t size) {
    size_t got = 0;
    if (wire->lost)
        return -1;
    if (is_full(wire)) { /* what it sends would be answered without end */
        wire->held_up = true;
        return 0;
    }
    CURLcode result = curl_easy_recv(wire->easy, space, size, &got);
    if (result == CURLE_AGAIN)
        return 0;
    if (result == CURLE_OK && got && !wire->known && !wire->setup.peer.tls && tls_begins(space, got)) {
        wire->known = true;
        snprintf(wire->error, sizeof wire->error, "the server speaks TLS there: take %s", wire->setup.secure);
        lose(wire, NULL);
        return -1;
    }
    if (result == CURLE_OK && got) {
        wire->known = true;
        return (ssize_t) got;
    }
    lose(wire, result == CURLE_OK || *wire->error ? NULL : curl_easy_strerror(result));
    return -1;
}

void wire_write(wire_t *wire, const void *bytes, size_t size) {
    if (wire->lost || wire->mute)
        return;
    bool waits = wire->out.size > 0;
    buf_put(&wire->out, bytes, size);
    if (!waits)
        flush(wire);
}

const char *wire_hint(const wire_t *wire) {
    return wire->hint;
}

int wire_fd(const wire_t *wire) {
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (wire->is_up && !wire->lost)
        curl_easy_getinfo(wire->easy, CURLINFO_ACTIVESOCKET, &fd);
    return fd == CURL_SOCKET_BAD ? -1 : fd;
}

void wire_pause(wire_t *wire) {
    if (wire) {
        wire->paused = true;
        watch_events(wire);
    }
}

/* TLS may hold bytes that no descriptor will announce. */
static void read_on(void *argument) {
    wire_t *wire = argument;
    if (wire->is_up && !wire->lost && !wire->paused)
        wire->setup.ready(wire->setup.argument);
}

void wire_resume(wire_t *wire) {
    if (!wire || !wire->paused)
        return;
    wire->paused = false;
    if (wire->hung_up && !wire->lost)
        wire->watch = loop_fd(wire->setup.loop, wire_fd(wire), 0, on_fd, wire);
    wire->hung_up = false;
    watch_events(wire);
    loop_defer(wire->setup.loop, read_on, wire);
}
