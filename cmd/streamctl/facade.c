/* The façade: REST, WebSocket and the dashboard over the running pipeline. It reads the stages' metrics files, subscribes to
 * broadcast's PUB, and asks the supervisor over its control socket; nothing waits for it, and it can die and come back alone. */
#include "facade.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/link.h"

#include "facade_alerts.h"
#include "facade_app.h"
#include "facade_control.h"
#include "facade_head.h"
#include "facade_live.h"
#include "facade_stages.h"
#include "rest.h"
#include "ws.h"

#define STATUS_USAGE 64
#define DESCRIPTORS_EXTRA 256            /* files, sockets and connections beside max_connections */

/* Every connection begins as HTTP and may become a WebSocket; the library binds it to this one protocol either way. */
static int connection_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    connection_t *connection = user;
    facade_t *facade;
    switch (reason) {
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        facade_of(wsi)->connections++;
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        next_gone(wsi);
        facade = facade_of(wsi);
        if (facade->connections)
            facade->connections--;
        return 0;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return rest_confirm_upgrade(wsi, in);
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_CLOSED:
        return ws_callback(wsi, reason, user, in, size);
    case LWS_CALLBACK_RAW_ADOPT:         /* what CONNECT makes of a connection, which would stay for ever */
        return -1;
    case LWS_CALLBACK_TIMER:
        return connection && connection->client ? 0 : rest_callback(wsi, reason, user, in, size);
    default:
        return connection ? rest_callback(wsi, reason, user, in, size) : 0;
    }
}

static void library_log(int level, const char *line) {
    size_t size = strlen(line);
    while (size && line[size - 1] == '\n')
        size--;
    log_debug("libwebsockets: %.*s", (int) size, line);
}

static int context_open(facade_t *facade, err_t *err) {
    static const struct lws_protocols protocols[] = {
        {FACADE_PROTOCOL, connection_callback, sizeof(connection_t), 4096, 0, NULL, 65536},
        {"fd", facade_fd_callback, 0, 0, 0, NULL, 0},
        {0},
    };
    static const lws_retry_bo_t idle = {.secs_since_valid_ping = 30, .secs_since_valid_hangup = 45};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .user = facade,
        .vhost_name = "streamctl",
        .timeout_secs = 10,
        .timeout_secs_ah_idle = 10,
        .keepalive_timeout = 30,
        .max_http_header_data2 = 2 * HEAD_LIMIT,
        .pt_serv_buf_size = 8192,
        .retry_and_idle_policy = &idle,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DISABLE_IPV6,
    };
    lws_set_log_level(LLL_ERR | LLL_WARN, library_log);
    facade->context = lws_create_context(&info);
    if (!facade->context)
        return err_set(err, "libwebsockets could not be started");
    facade->vhost = lws_create_vhost(facade->context, &info);
    return facade->vhost ? 0 : err_set(err, "libwebsockets' host could not be made");
}

/* The library sizes its tables by this limit: as much as is needed, and no more. */
static void limit_descriptors(const facade_settings_t *settings) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t) settings->max_connections + DESCRIPTORS_EXTRA;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    if (limit.rlim_max != RLIM_INFINITY && wanted > limit.rlim_max) {
        log_warning("max_connections %lld needs %llu descriptors, the limit is %llu: later ones are refused",
                    (long long) settings->max_connections, (unsigned long long) wanted, (unsigned long long) limit.rlim_max);
        wanted = limit.rlim_max;
    }
    limit.rlim_cur = wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void declare_metrics(facade_t *facade) {
    facade->metrics = (struct facade_metrics){
        .requests = metrics_add(METRIC_COUNTER, "stream_http_requests_total", "", "HTTP requests"),
        .refused = metrics_add(METRIC_COUNTER, "stream_http_refused_total", "", "Requests and connections that were refused"),
        .clients = metrics_add(METRIC_GAUGE, "stream_websocket_clients", "", "WebSocket clients connected now"),
        .messages = metrics_add(METRIC_COUNTER, "stream_websocket_messages_total", "", "Messages sent to WebSocket clients"),
        .missed = metrics_add(METRIC_COUNTER, "stream_websocket_missed_total", "", "Events and alerts that a slow client, or one "
                                                                                   "message, had no room for"),
        .frames = metrics_add(METRIC_COUNTER, "stream_live_frames_total", "", "Frames received from broadcast"),
        .gaps = metrics_add(METRIC_COUNTER, "stream_live_gaps_total", "", "Frames missed between broadcast and here"),
        .malformed = metrics_add(METRIC_COUNTER, "stream_live_malformed_total", "", "Malformed frames dropped"),
    };
}

typedef struct signals {
    facade_t *facade;
    int fd;
} signals_t;

static void signal_came(void *argument) {
    signals_t *signals = argument;
    struct signalfd_siginfo info;
    while (read(signals->fd, &info, sizeof info) == sizeof info)
        signals->facade->stopping = true;
}

static int signals_open(signals_t *signals, err_t *err) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signals->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    static const fd_handler_t handler = {.readable = signal_came};
    if (signals->fd < 0 || !fd_watch_new(signals->facade, signals->fd, &handler, signals))
        return err_errno(err, "signals");
    return 0;
}

/* Before any thread: ZeroMQ's inherit the mask, so that the signals reach the loop. */
static void signals_block(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Our address, for who started us: the port may have been ours to choose. */
static void write_address(const facade_t *facade) {
    char url[300], path[4096];
    err_t err;
    listener_url(facade->listener, url, sizeof url);
    snprintf(path, sizeof path, "%s/url", facade->settings.run_dir);
    if (file_write_atomic(path, url, strlen(url), 0600, &err))
        log_warning("%s", err.text);
    log_info("dashboard and API at %s", url);
}

static void tell_ready(const facade_t *facade) {
    int fd = (int) facade->settings.ready_fd;
    metrics_state(STAGE_READY, "");
    if (fd < 0)
        return;
    if (write(fd, "\n", 1) != 1)
        log_debug("nobody waits for readiness");
    close(fd);
}

static void facade_close(facade_t *facade) {
    /* Timers and descriptors go before the context, clients with it: their last calls find the parts gone. */
    listener_free(facade->listener);
    next_free(facade->next);
    facade->next = NULL;
    stages_free(facade->stages);
    facade->stages = NULL;
    live_free(facade->live);
    facade->live = NULL;
    control_free(facade->control);
    facade->control = NULL;
    if (facade->context)
        lws_context_destroy(facade->context);
    hub_free(facade->hub);
    alerts_free(facade->alerts);
    link_shutdown();
}

/* Returns the exit status. */
static int serve(facade_t *facade) {
    err_t err;
    signals_t signals = {facade, -1};
    if (context_open(facade, &err) || signals_open(&signals, &err)) {
        log_error("%s", err.text);
        return 1;
    }
    facade->access = (access_t){
        .listen = facade->settings.listen, .token = facade->settings.token, .origins = &facade->settings.origins};
    facade->listener = listener_open(facade, &err);
    if (!facade->listener) {
        log_error("%s", err.text);
        metrics_state(STAGE_FAILED, err.text);
        return STATUS_USAGE;
    }
    facade->next = next_new(facade);
    facade->hub = hub_new(facade);
    facade->alerts = alerts_new(facade);
    facade->control = control_new(facade);
    facade->stages = stages_new(facade);
    facade->live = live_new(facade, &err);
    if (!facade->live) {
        log_error("%s", err.text);
        return 1;
    }
    write_address(facade);
    tell_ready(facade);
    while (!facade->stopping && lws_service(facade->context, 0) >= 0)
        ;
    metrics_state(STAGE_FINISHED, "");
    return 0;
}

int facade_main(int argc, char **argv) {
    err_t err;
    facade_t facade = {0};
    mem_tune();
    log_open("streamctl", "facade", LOG_INFO);
    if (argc != 3 || strcmp(argv[1], "--settings") != 0) {
        log_error("usage: streamctl facade --settings fd:N|FILE (the supervisor starts this)");
        return STATUS_USAGE;
    }
    signals_block();
    if (facade_settings_read(&facade.settings, argv[2], &err)) {
        log_error("%s", err.text);
        return STATUS_USAGE;
    }
    log_set_level((log_level_t) facade.settings.log_level);
    limit_descriptors(&facade.settings);
    int status = 1;
    if (metrics_open(facade.settings.metrics, "facade", "facade", &err)) {
        log_error("%s", err.text);
    } else {
        facade.started = clock_monotonic();
        declare_metrics(&facade);
        status = serve(&facade);
    }
    facade_close(&facade);
    metrics_close();
    facade_settings_fini(&facade.settings);
    return status;
}
