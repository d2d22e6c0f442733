#ifndef INGEST_NATS_SETTINGS_H
#define INGEST_NATS_SETTINGS_H

#include "nats_reader.h"
#include "server_url.h"
#include "source.h"

/* Options of the source "nats", and what they and the address come to. */
typedef struct nats_settings {
    option_list_t subjects, servers;
    char *stream, *domain, *consumer, *start, *queue;
    int64_t ack_wait, unacknowledged;
    char *subject_field, *subject_fields, *header_field, *sequence_field;
    bool message_time;
    char *user, *password, *token, *nkey, *creds;
    int64_t keepalive, connect_timeout, retry_min, retry_max;
    char *tls_ca, *tls_cert, *tls_key;
} nats_settings_t;

extern const option_t nats_options[];

int nats_url_read(server_url_t *url, const source_setup_t *setup, err_t *err);
int nats_settings_check(const source_setup_t *setup, err_t *err);

/* Subjects without repetitions, the URL's first: an array for mem_free; its strings are borrowed. */
const char **nats_subjects(const nats_settings_t *settings, const server_url_t *url, size_t *count);
/* Fills what a checked --start says. */
void nats_start_read(nats_stream_setup_t *stream, const char *text);

#endif
