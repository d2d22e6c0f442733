#ifndef STREAMCTL_FACADE_APP_H
#define STREAMCTL_FACADE_APP_H

#include <jansson.h>
#include <libwebsockets.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "data/option.h"
#include "run/metrics.h"

#include "facade_access.h"

#define FACADE_PROTOCOL "stream"         /* libwebsockets' name for what its connections speak */

/* What the façade's parts share. Everything runs on one thread, in libwebsockets' service loop. */
typedef struct facade_settings {
    char *name, *run_dir, *control, *pub, *metrics;
    char *listen, *token;
    int64_t port, max_connections, ready_fd;
    int64_t interval;                /* ns between two metrics_update events while somebody listens */
    option_list_t origins;
    int log_level;
    json_t *config;                  /* redacted; owned */
} facade_settings_t;

int facade_settings_read(facade_settings_t *settings, const char *source, err_t *err);
void facade_settings_fini(facade_settings_t *settings);

typedef struct facade {
    facade_settings_t settings;
    access_t access;
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct listener *listener;
    struct control *control;         /* the supervisor */
    struct live *live;               /* events, from broadcast's PUB */
    struct stages *stages;           /* the stages' numbers */
    struct alerts *alerts;
    struct hub *hub;                 /* WebSocket clients */
    struct next *next;               /* connections between two requests */
    int64_t started;                 /* monotonic ns */
    unsigned connections;            /* HTTP and WebSocket */
    bool stopping;
    struct facade_metrics {
        metric_t *requests, *refused, *clients, *messages, *missed, *frames, *gaps, *malformed;
    } metrics;
} facade_t;

static inline facade_t *facade_of(struct lws *wsi) {
    return lws_context_user(lws_get_context(wsi));
}

/* A file descriptor in the service loop. The descriptor is taken: it is closed with the watch. */
typedef struct fd_watch fd_watch_t;
typedef struct fd_handler {
    void (*readable)(void *argument);
    void (*writable)(void *argument);    /* once per fd_watch_writable; may be NULL */
    void (*closed)(void *argument);      /* the peer closed it: the watch is gone; may be NULL */
} fd_handler_t;
fd_watch_t *fd_watch_new(facade_t *facade, int fd, const fd_handler_t *handler, void *argument);
void fd_watch_writable(fd_watch_t *watch);
void fd_watch_end(fd_watch_t *watch);    /* no call comes after this one; NULL is legal */
int facade_fd_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size);

/* A one-shot timer in the service loop; the caller's storage. Setting it again moves it. */
typedef struct facade_timer {
    lws_sorted_usec_list_t entry;        /* first */
    void (*callback)(void *argument);
    void *argument;
    bool pending;
} facade_timer_t;
void facade_timer_set(facade_t *facade, facade_timer_t *timer, int64_t delay_ns, void (*callback)(void *argument), void *argument);
void facade_timer_cancel(facade_timer_t *timer);

/* Listening sockets of our own, so that the address in an error is exact and the number of connections is bounded before any is
 * served. */
struct listener *listener_open(facade_t *facade, err_t *err);
void listener_url(const struct listener *listener, char *out, size_t size);
void listener_free(struct listener *listener);

/* Requests that libwebsockets would answer by a page of its own get our answer, on all connections; facade_head.h says which. */
struct next *next_new(facade_t *facade);               /* NULL: those that are not a connection's first are not looked at */
void next_free(struct next *next);
/* What has come by now. True: it was refused, and the connection is to be closed. *head: the size of the request's head, 0: it is not whole. */
bool next_refused(facade_t *facade, int fd, size_t *head);
void next_answer(int fd, const void *answer, size_t size);            /* and nothing more */
void next_adopted(struct lws *wsi, size_t head);       /* libwebsockets has the connection now */
void next_body(struct lws *wsi, uint64_t size);        /* of the present request */
bool next_possible(struct lws *wsi);                   /* it is answered, and nothing behind it has been read */
void next_wait(struct lws *wsi);                       /* until the next one comes */
void next_gone(struct lws *wsi);

/* The protocol's callbacks, by what the connection is. */
typedef struct connection {
    struct rest_request *request;
    struct ws_client *client;
} connection_t;

#endif
