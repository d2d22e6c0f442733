#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* TLS for sockets that listen (OpenSSL), non-blocking: TLS 1.2 and later, no renegotiation, and no resumption either, so that each connection's
 * certificate is checked anew. The client side of TLS is libcurl's and the database libraries'. */

/* Files in PEM. As options of a driver: TLS_FILES_OPTIONS (settings type, member). */
typedef struct tls_files {
    char *certificate;             /* with the chain that leads to the authority; NULL: no TLS */
    char *key;
    char *client_ca;               /* who signs the certificates that clients must show; NULL: they need none */
} tls_files_t;

#define TLS_FILES_OPTIONS(type, member) \
    {"tls-cert", OPTION_TEXT, offsetof(type, member.certificate), NULL, "FILE", "our certificate, with its chain", .readable = true}, \
    {"tls-key", OPTION_TEXT, offsetof(type, member.key), NULL, "FILE", "its private key", .needs = "tls-cert", .readable = true}, \
    {"tls-client-ca", OPTION_TEXT, offsetof(type, member.client_ca), NULL, "FILE", "take only clients with a certificate that one of these has signed", .needs = "tls-cert", .readable = true}

/* What can be told wrong about them without opening a file. */
int tls_files_check(const tls_files_t *files, err_t *err);

/* What connections show and check. The files are read again when they have changed, for connections that begin after that; while the new ones are no
 * good, what was read before goes on and a warning says why. */
typedef struct tls_server tls_server_t;
tls_server_t *tls_server_new(const tls_files_t *files, err_t *err);   /* files: borrowed for its life. NULL: they cannot be used */
void tls_server_free(tls_server_t *server);           /* NULL is legal; its connections may live on */

/* One connection over a connected, non-blocking socket, which stays the caller's. */
typedef struct tls tls_t;
tls_t *tls_accept(tls_server_t *server, int fd);
void tls_free(tls_t *tls);                            /* NULL is legal */

/* 1: it stands; 0: the socket has to be waited for; -1: there will be none, and an empty error says that the peer has just gone. */
int tls_handshake(tls_t *tls, err_t *err);
/* As recv and send: a count, 0 at the peer's end, or -1 with errno (EAGAIN: the socket has to be waited for). A read takes as many whole records
 * as there are and fit, so that none waits where no descriptor tells of it; TLS_READ_MIN bytes of space at least. */
#define TLS_READ_MIN (16u * 1024)
ssize_t tls_read(tls_t *tls, void *space, size_t size);
ssize_t tls_write(tls_t *tls, const void *bytes, size_t size);
/* What the last call that has to wait waits for, if it is to write: then for writing, and otherwise for reading. */
bool tls_wants_write(const tls_t *tls);
void tls_end(tls_t *tls);                             /* says that no more will come, as far as the socket takes it now */

#endif
