/* What tcp: and unix: have in common: text of any format over connections. */
#include "text_server.h"

#include "base/memory.h"

struct text_server {
    source_setup_t setup;
    listener_t *listener;
};

typedef struct text_peer {
    text_server_t *server;
    connection_t *connection;
    decoder_t *decoder;
} text_peer_t;

int text_server_decoder(decoder_t **decoder, const source_setup_t *setup, err_t *err) {
    const format_t *format = setup->format ? setup->format : format_find("ndjson");
    return format->decoder_open(decoder, setup->format_settings, err);
}

static void *on_opened(void *argument, connection_t *connection) {
    text_server_t *server = argument;
    text_peer_t *peer = mem_zero(sizeof *peer);
    peer->server = server;
    peer->connection = connection;
    ASSERT(text_server_decoder(&peer->decoder, &server->setup, NULL) == 0); /* it was tried before there was a server */
    return peer;
}

static size_t on_data(void *own, const char *data, size_t size, bool at_end) {
    text_peer_t *peer = own;
    if (size)
        source_healthy(peer->server->setup.host);
    return source_decode(peer->server->setup.host, peer->decoder, data, size, at_end, connection_place(peer->connection));
}

static void on_closed(void *own) {
    text_peer_t *peer = own;
    decoder_free(peer->decoder);
    mem_free(peer);
}

static listener_setup_t listener_of(text_server_t *server, const text_server_settings_t *settings, const char *scheme) {
    return (listener_setup_t){
        .loop = server->setup.loop,
        .scheme = scheme,
        .connections = (unsigned) settings->connections,
        .idle = settings->idle,
        .memory = source_memory(server->setup.host) / 4,
        .opened = on_opened,
        .data = on_data,
        .closed = on_closed,
        .argument = server,
    };
}

text_server_t *text_server_new(const source_setup_t *setup, const text_server_settings_t *settings, const char *scheme, int fd) {
    text_server_t *server = mem_zero(sizeof *server);
    server->setup = *setup;
    listener_setup_t listener = listener_of(server, settings, scheme);
    listener.fd = fd;
    server->listener = listener_new(&listener);
    return server;
}

text_server_t *text_server_at(const source_setup_t *setup, const text_server_settings_t *settings, err_t *err) {
    text_server_t *server = mem_zero(sizeof *server);
    server->setup = *setup;
    listener_setup_t listener = listener_of(server, settings, "tcp");
    listener.tls_option = strncasecmp(setup->url, "tcp:", 4) == 0 ? "--tls-cert and --tls-key" : NULL;
    server->listener = listener_at(&listener, setup->rest, 0, &settings->tls, err);
    if (server->listener)
        return server;
    mem_free(server);
    return NULL;
}

void text_server_pause(text_server_t *server) {
    listener_pause(server->listener);
}

void text_server_resume(text_server_t *server) {
    listener_resume(server->listener);
}

void text_server_free(text_server_t *server) {
    if (!server)
        return;
    listener_free(server->listener);
    mem_free(server);
}
