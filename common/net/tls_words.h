#ifndef NET_TLS_WORDS_H
#define NET_TLS_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

/* Words for users whose peer speaks TLS where they did not ask for it, or does not where they did. */

/* Why a handshake of ours failed, `library` being OpenSSL's words for it: what it means when the server speaks no TLS there, or may not, and the words
 * themselves. plain: how to connect without TLS, "take http://". Other failures (a certificate) are the library's words alone. */
void tls_put_failure(buf_t *out, const char *library, const char *plain);

/* Whether bytes that a peer sends begin a TLS record of a handshake or an alert: no text, and no packet of the protocols that are read here. */
bool tls_begins(const void *bytes, size_t size);

#endif
