/* What failed handshakes mean, beside what OpenSSL says of them. */
#include "net/tls_words.h"

#include <stdint.h>
#include <string.h>

#include "base/text.h"

#define RECORD_ALERT 0x15
#define RECORD_HANDSHAKE 0x16

static bool says_one_of(const char *text, const char *const *words) {
    for (; *words; words++)
        if (strstr(text, *words))
            return true;
    return false;
}

void tls_put_failure(buf_t *out, const char *library, const char *plain) {
    static const char *const other[] = {"wrong version number", "packet length too long", "unknown protocol", "record layer failure", NULL};
    size_t before = out->size;
    static const char *const ended[] = {"unexpected eof", "SSL_ERROR_SYSCALL", "Recv failure", NULL};
    static const char *const silent[] = {"SSL connection timeout", NULL};
    text_t words = text_trim(text_of(library));
    if (says_one_of(library, other))
        buf_format(out, "the server speaks no TLS there: %s, or give the port where it does (", plain);
    else if (says_one_of(library, ended))
        buf_format(out, "the server ended the connection in the TLS handshake: if it speaks no TLS there, %s (", plain);
    else if (says_one_of(library, silent))
        buf_format(out, "the server does not answer the TLS handshake: if it speaks no TLS there, %s (", plain);
    bool put = out->size > before;
    buf_put(out, words.data, words.size);
    buf_put_text(out, put ? ")" : "");
}

bool tls_begins(const void *bytes, size_t size) {
    const uint8_t *record = bytes;
    return size >= 3 && (record[0] == RECORD_ALERT || record[0] == RECORD_HANDSHAKE) && record[1] == 3 && record[2] <= 4;
}
