/* File descriptors and timers of ours in libwebsockets' service loop, as plain callbacks: the rest of the façade need not know
 * how the library adopts them. */
#include "facade_app.h"

#include <unistd.h>

#include "base/memory.h"

struct fd_watch {
    struct lws *wsi;
    const fd_handler_t *handler;         /* NULL: ended */
    void *argument;
};

fd_watch_t *fd_watch_new(facade_t *facade, int fd, const fd_handler_t *handler, void *argument) {
    fd_watch_t *watch = mem_zero(sizeof *watch);
    watch->handler = handler;
    watch->argument = argument;
    lws_adopt_desc_t adopt = {
        .vh = facade->vhost,
        .type = LWS_ADOPT_RAW_FILE_DESC,
        .fd = {.filefd = fd},
        .vh_prot_name = "fd",
        .opaque = watch,
    };
    watch->wsi = lws_adopt_descriptor_vhost_via_info(&adopt);
    if (!watch->wsi) {                   /* the library has closed the descriptor */
        mem_free(watch);
        return NULL;
    }
    return watch;
}

void fd_watch_writable(fd_watch_t *watch) {
    lws_callback_on_writable(watch->wsi);
}

void fd_watch_end(fd_watch_t *watch) {
    if (!watch)
        return;
    watch->handler = NULL;
    lws_set_timeout(watch->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

int facade_fd_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    fd_watch_t *watch = wsi ? lws_get_opaque_user_data(wsi) : NULL;
    if (!watch)
        return 0;
    const fd_handler_t *handler = watch->handler;
    switch (reason) {
    case LWS_CALLBACK_RAW_RX_FILE:
        if (!handler)
            return -1;
        handler->readable(watch->argument);
        return watch->handler ? 0 : -1;
    case LWS_CALLBACK_RAW_WRITEABLE_FILE:
        if (!handler)
            return -1;
        if (handler->writable)
            handler->writable(watch->argument);
        return watch->handler ? 0 : -1;
    case LWS_CALLBACK_RAW_CLOSE_FILE:
        lws_set_opaque_user_data(wsi, NULL);
        if (handler && handler->closed)
            handler->closed(watch->argument);
        mem_free(watch);
        return 0;
    default:
        return 0;
    }
}

static void timer_fired(lws_sorted_usec_list_t *entry) {
    facade_timer_t *timer = lws_container_of(entry, facade_timer_t, entry);
    timer->pending = false;
    timer->callback(timer->argument);
}

void facade_timer_set(facade_t *facade, facade_timer_t *timer, int64_t delay_ns, void (*callback)(void *argument), void *argument) {
    timer->callback = callback;
    timer->argument = argument;
    timer->pending = true;
    int64_t us = delay_ns / 1000;
    lws_sul_schedule(facade->context, 0, &timer->entry, timer_fired, us > 0 ? us : 1);
}

void facade_timer_cancel(facade_timer_t *timer) {
    if (timer->pending)
        lws_sul_cancel(&timer->entry);
    timer->pending = false;
}
