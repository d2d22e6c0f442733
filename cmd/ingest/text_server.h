#ifndef INGEST_TEXT_SERVER_H
#define INGEST_TEXT_SERVER_H

#include "listen.h"
#include "source.h"

/* Connections that each bring text of a format (tcp, unix): a decoder for each, so that a CSV connection has its own header row and a partial line
 * waits for its rest. What is behind the last line end counts as a line when the peer closes. */
typedef struct text_server text_server_t;

typedef struct text_server_settings {
    int64_t connections;
    int64_t idle;
    tls_files_t tls;               /* of connections by TCP */
} text_server_settings_t;

#define TEXT_SERVER_CONNECTIONS "how many connections may be open; more wait until one is closed", 1, 100000
#define TEXT_SERVER_IDLE "end a connection on which nothing comes for so long; 0: never", 0, 30 * 86400 * NS_PER_S

/* scheme: static. fd: the server's from now on. Begins paused. */
text_server_t *text_server_new(const source_setup_t *setup, const text_server_settings_t *settings, const char *scheme, int fd);
/* At the address in setup's URL, by TCP. Begins at once; NULL: it cannot be listened on. */
text_server_t *text_server_at(const source_setup_t *setup, const text_server_settings_t *settings, err_t *err);
void text_server_pause(text_server_t *server);
void text_server_resume(text_server_t *server);
void text_server_free(text_server_t *server);         /* NULL is legal */

/* The decoder of setup's format, NDJSON when it names none. */
int text_server_decoder(decoder_t **decoder, const source_setup_t *setup, err_t *err);

#endif
