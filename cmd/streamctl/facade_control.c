/* The supervisor's control socket, as its client. */
#include "facade_control.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#include "facade_alerts.h"
#include "facade_app.h"
#include "facade_live.h"
#include "ws.h"

#define LINE_MAX_BYTES (1024u * 1024)
#define REQUESTS_MAX 16
#define RETRY_LEAST (50 * NS_PER_MS)
#define RETRY_MOST (2 * NS_PER_S)

typedef struct control_call {
    struct control_call *next;
    control_t *control;
    uint64_t ticket;                     /* 0: the watching one */
    int fd;                              /* the watch's */
    fd_watch_t *watch;
    buf_t in, out;
    control_reply_fn *replied;
    void *argument;
    facade_timer_t timer;
} control_call_t;

struct control {
    facade_t *facade;
    control_call_t *calls;               /* requests under way */
    control_call_t *watching;
    facade_timer_t retry;
    int64_t delay;
    json_t *status;
    int64_t status_time;                 /* monotonic ns */
    uint64_t tickets;
    unsigned under_way;
};

static void watch_open(void *argument);

static void call_free(control_call_t *call) {
    fd_watch_end(call->watch);
    facade_timer_cancel(&call->timer);
    buf_fini(&call->in);
    buf_fini(&call->out);
    mem_free(call);
}

static void watch_lost(control_t *control, const char *why) {
    if (control->watching)
        call_free(control->watching);
    control->watching = NULL;
    if (control->status) {
        log_warning("the supervisor cannot be reached (%s); trying again", why);
        json_decref(control->status);
        control->status = NULL;
        hub_status_changed(control->facade->hub);
    }
    facade_timer_set(control->facade, &control->retry, control->delay, watch_open, control);
    control->delay = control->delay * 2 < RETRY_MOST ? control->delay * 2 : RETRY_MOST;
}

/* Ends a call: the asker hears once, either way. */
static void call_end(control_call_t *call, const json_t *reply, const char *failure) {
    control_t *control = call->control;
    if (call == control->watching) {
        watch_lost(control, failure);
        return;
    }
    for (control_call_t **link = &control->calls; *link; link = &(*link)->next)
        if (*link == call) {
            *link = call->next;
            break;
        }
    control->under_way--;
    control_reply_fn *replied = call->replied;
    void *user = call->argument;
    call_free(call);
    replied(user, reply, failure);
}

static void status_arrived(control_t *control, json_t *status) {
    if (!json_is_array(json_object_get(status, "stages"))) {
        json_decref(status);
        return;
    }
    alerts_compare_status(control->facade->alerts, control->status, status);
    json_decref(control->status);
    control->status = status;
    control->status_time = clock_monotonic();
    control->delay = RETRY_LEAST;
    live_follow(control->facade->live, status);
    hub_status_changed(control->facade->hub);
}

/* Takes whole lines off the front. True when the call has ended. */
static bool call_lines(control_call_t *call) {
    control_t *control = call->control;
    uint8_t *end;
    while (call->in.size && (end = memchr(call->in.data, '\n', call->in.size))) {
        size_t size = (size_t) (end - call->in.data);
        json_error_t where;
        json_t *line = json_loadb((const char *) call->in.data, size, 0, &where);
        buf_consume(&call->in, size + 1);
        if (!json_is_object(line)) {
            json_decref(line);
            call_end(call, NULL, "the supervisor's answer is no JSON object");
            return true;
        }
        if (call == control->watching) {
            status_arrived(control, line);
            continue;
        }
        call_end(call, line, NULL);
        json_decref(line);
        return true;
    }
    if (call->in.size > LINE_MAX_BYTES) {
        call_end(call, NULL, "the supervisor's answer is longer than 1 MiB");
        return true;
    }
    return false;
}

static int call_fd(control_t *control, err_t *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = control->facade->settings.control;
    if (strlen(path) >= sizeof address.sun_path)
        return err_set(err, "the control socket's path %s is too long", path);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, "control socket");
    if (connect(fd, (struct sockaddr *) &address, sizeof address)) {
        err_errno(err, "connecting to %s", path);
        close(fd);
        return -1;
    }
    return fd;
}

static void call_closed(void *argument) {
    control_call_t *call = argument;
    call->watch = NULL;
    call_end(call, NULL, "it closed the connection");
}

static void call_readable(void *argument) {
    control_call_t *call = argument;
    ssize_t n = read(call->fd, buf_reserve(&call->in, 65536), 65536);
    if (n > 0) {
        call->in.size += (size_t) n;
        call_lines(call);
    } else if (n == 0) {
        call_end(call, NULL, "it closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
        call_end(call, NULL, strerror(errno));
    }
}

static void call_writable(void *argument) {
    control_call_t *call = argument;
    ssize_t n = send(call->fd, call->out.data, call->out.size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        call_end(call, NULL, strerror(errno));
        return;
    }
    if (n > 0)
        buf_consume(&call->out, (size_t) n);
    if (call->out.size)
        fd_watch_writable(call->watch);
}

static void call_late(void *argument) {
    call_end(argument, NULL, "it does not answer; a stopped one goes on after kill -CONT");
}

/* Connects and sends the request, which is taken. NULL with the reason when there is no one to ask. */
static control_call_t *call_new(control_t *control, json_t *request, err_t *err) {
    static const fd_handler_t handler = {call_readable, call_writable, call_closed};
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    int fd = call_fd(control, err);
    control_call_t *call = NULL;
    if (fd >= 0) {
        call = mem_zero(sizeof *call);
        call->control = control;
        call->fd = fd;
        buf_put_text(&call->out, text);
        buf_put_byte(&call->out, '\n');
        call->watch = fd_watch_new(control->facade, fd, &handler, call);
        if (call->watch) {
            fd_watch_writable(call->watch);
        } else {
            err_set(err, "the control socket cannot be watched");
            call_free(call);
            call = NULL;
        }
    }
    free(text);
    return call;
}

static void watch_open(void *argument) {
    control_t *control = argument;
    err_t err;
    control->watching = call_new(control, json_pack("{ss}", "command", "watch"), &err);
    if (!control->watching)
        watch_lost(control, err.text);
}

control_t *control_new(facade_t *facade) {
    control_t *control = mem_zero(sizeof *control);
    control->facade = facade;
    control->delay = RETRY_LEAST;
    facade_timer_set(facade, &control->retry, 0, watch_open, control);
    return control;
}

uint64_t control_request(control_t *control, json_t *request, unsigned seconds, control_reply_fn *replied, void *argument, err_t *err) {
    if (control->under_way >= REQUESTS_MAX) {
        json_decref(request);
        err_set(err, "%d requests to the supervisor are under way already", REQUESTS_MAX);
        return 0;
    }
    control_call_t *call = call_new(control, request, err);
    if (!call)
        return 0;
    call->ticket = ++control->tickets;
    call->replied = replied;
    call->argument = argument;
    call->next = control->calls;
    control->calls = call;
    control->under_way++;
    facade_timer_set(control->facade, &call->timer, seconds * NS_PER_S, call_late, call);
    return call->ticket;
}

void control_forget(control_t *control, uint64_t ticket) {
    if (!control)
        return;
    for (control_call_t **link = &control->calls; ticket && *link; link = &(*link)->next)
        if ((*link)->ticket == ticket) {
            control_call_t *call = *link;
            *link = call->next;
            control->under_way--;
            call_free(call);
            return;
        }
}

const json_t *control_status(const control_t *control) {
    return control->status;
}

double control_status_age(const control_t *control) {
    return (double) (clock_monotonic() - control->status_time) / NS_PER_S;
}

void control_free(control_t *control) {
    if (!control)
        return;
    while (control->calls)
        control_forget(control, control->calls->ticket);
    if (control->watching)
        call_free(control->watching);
    facade_timer_cancel(&control->retry);
    json_decref(control->status);
    mem_free(control);
}
