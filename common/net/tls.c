/* TLS of listening sockets. One context per state of the files: connections hold the one they began with. */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#define LOOK_EVERY (1 * NS_PER_S)      /* for files that have changed */
#define FRESH (2 * NS_PER_S)           /* a file written so short ago may change again without a new time */
#define FILES 3

/* What tells one state of a file from another. */
typedef struct file_state {
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
} file_state_t;

struct tls_server {
    const tls_files_t *files;
    SSL_CTX *context;
    file_state_t states[FILES];
    int64_t looked;                /* monotonic ns */
    bool again;                    /* what was read may be neither old nor new: read again */
    char *trouble;                 /* said of the present files already */
};

struct tls {
    SSL *ssl;
    bool wants_write;
};

int tls_files_check(const tls_files_t *files, err_t *err) {
    if (!files->certificate && (files->key || files->client_ca))
        return err_set(err, "--%s needs --tls-cert", files->key ? "tls-key" : "tls-client-ca");
    if (files->certificate && !files->key)
        return err_set(err, "--tls-cert needs --tls-key, the certificate's private key");
    return 0;
}

/* ---- files ---- */

/* OpenSSL's first word on what went wrong, which is the cause. */
static int fail(err_t *err, const char *option, const char *path, const char *what) {
    unsigned long code = ERR_peek_error();
    const char *reason = !code ? NULL : ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    err_set(err, "--%s %s: %s%s%s", option, path, what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
    return -1;
}

/* A key that needs a password cannot be used: nobody is there to be asked. */
static int no_password(char *space, int size, int for_writing, void *argument) {
    return -1;
}

static void warn_of_dates(SSL_CTX *context, const char *path) {
    const X509 *certificate = SSL_CTX_get0_certificate(context);
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
        log_warning("--tls-cert %s: the certificate has expired: clients will refuse it", path);
    else if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
        log_warning("--tls-cert %s: the certificate is not valid yet: clients will refuse it", path);
}

static int load(SSL_CTX *context, const tls_files_t *files, err_t *err) {
    ERR_clear_error();
    SSL_CTX_set_default_passwd_cb(context, no_password);
    if (SSL_CTX_use_certificate_chain_file(context, files->certificate) != 1)
        return fail(err, "tls-cert", files->certificate, "cannot be used");
    if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1)
        return fail(err, "tls-key", files->key, "cannot be used, with this certificate and without a password");
    if (files->client_ca) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(files->client_ca);
        if (!names || SSL_CTX_load_verify_locations(context, files->client_ca, NULL) != 1) {
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            return fail(err, "tls-client-ca", files->client_ca, "cannot be used");
        }
        SSL_CTX_set_client_CA_list(context, names);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    warn_of_dates(context, files->certificate);
    return 0;
}

static SSL_CTX *context_new(const tls_files_t *files, err_t *err) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    ASSERT(context);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if (load(context, files, err) == 0)
        return context;
    SSL_CTX_free(context);
    return NULL;
}

static void look(const tls_files_t *files, file_state_t states[FILES], bool *fresh) {
    const char *const paths[FILES] = {files->certificate, files->key, files->client_ca};
    int64_t now = clock_now();
    memset(states, 0, FILES * sizeof *states);
    *fresh = false;
    for (size_t i = 0; i < FILES; i++) {
        struct stat status;
        if (!paths[i] || stat(paths[i], &status))
            continue;
        states[i].inode = status.st_ino;
        states[i].size = status.st_size;
        states[i].modified = status.st_mtim;
        states[i].changed = status.st_ctim;
        int64_t age = now - (status.st_ctim.tv_sec * NS_PER_S + status.st_ctim.tv_nsec);
        *fresh |= age < FRESH;
    }
}

tls_server_t *tls_server_new(const tls_files_t *files, err_t *err) {
    tls_server_t *server = mem_zero(sizeof *server);
    server->files = files;
    look(files, server->states, &server->again);
    server->looked = clock_monotonic();
    server->context = context_new(files, err);
    if (server->context)
        return server;
    mem_free(server);
    return NULL;
}

void tls_server_free(tls_server_t *server) {
    if (!server)
        return;
    SSL_CTX_free(server->context);
    mem_free(server->trouble);
    mem_free(server);
}

/* A certificate and its key are two files: between the changes of the two there is a while in which they do not go together. */
static void read_again(tls_server_t *server) {
    file_state_t states[FILES];
    bool fresh;
    int64_t now = clock_monotonic();
    if (now - server->looked < LOOK_EVERY)
        return;
    server->looked = now;
    look(server->files, states, &fresh);
    bool changed = memcmp(states, server->states, sizeof states) != 0;
    if (!changed && !server->again)
        return;
    memcpy(server->states, states, sizeof states);
    server->again = fresh;
    err_t err;
    SSL_CTX *context = context_new(server->files, &err);
    if (context) {
        SSL_CTX_free(server->context);
        server->context = context;
        if (changed || server->trouble)
            log_info("--tls-cert %s: the files have changed and were read again", server->files->certificate);
        mem_free(server->trouble);
        server->trouble = NULL;
        return;
    }
    if (!server->trouble || strcmp(server->trouble, err.text) != 0)
        log_warning("%s; what was read before is used on", err.text);
    mem_free(server->trouble);
    server->trouble = mem_text(err.text);
}

/* ---- connections ---- */

tls_t *tls_accept(tls_server_t *server, int fd) {
    tls_t *tls = mem_zero(sizeof *tls);
    read_again(server);
    tls->ssl = SSL_new(server->context);
    ASSERT(tls->ssl && SSL_set_fd(tls->ssl, fd) == 1);
    SSL_set_accept_state(tls->ssl);
    return tls;
}

void tls_free(tls_t *tls) {
    if (!tls)
        return;
    SSL_free(tls->ssl);
    mem_free(tls);
}

bool tls_wants_write(const tls_t *tls) {
    return tls->wants_write;
}

/* After a call that did not succeed: whether the socket is to be waited for. */
static bool must_wait(tls_t *tls, int result, int *error) {
    *error = SSL_get_error(tls->ssl, result);
    tls->wants_write = *error == SSL_ERROR_WANT_WRITE;
    return *error == SSL_ERROR_WANT_READ || *error == SSL_ERROR_WANT_WRITE;
}

/* What comes is no record of TLS at all. */
static bool speaks_other(int reason) {
    return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST || reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_PACKET_LENGTH_TOO_LONG;
}

int tls_handshake(tls_t *tls, err_t *err) {
    int error;
    ERR_clear_error();
    errno = 0;
    int result = SSL_accept(tls->ssl);
    tls->wants_write = false;
    if (result == 1)
        return 1;
    int system = errno;
    if (must_wait(tls, result, &error))
        return 0;
    long verified = SSL_get_verify_result(tls->ssl);
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (verified != X509_V_OK)
        err_set(err, "the client's certificate is refused: %s", X509_verify_cert_error_string(verified));
    else if (code && ERR_GET_REASON(code) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
        err_set(err, "%s%s", speaks_other(ERR_GET_REASON(code)) ? "the client speaks no TLS: " : "", reason ? reason : "an error without a name");
    else
        err_set(err, "%s", !code && system && system != ECONNRESET && system != EPIPE ? strerror(system) : "");
    ERR_clear_error();
    return -1;
}

ssize_t tls_read(tls_t *tls, void *space, size_t size) {
    size_t total = 0;
    tls->wants_write = false;
    do {
        size_t got = 0;
        int error;
        ERR_clear_error();
        errno = 0;
        int result = SSL_read_ex(tls->ssl, (char *) space + total, size - total, &got);
        if (result == 1) {
            total += got;
            continue;
        }
        int system = errno;
        bool waits = must_wait(tls, result, &error);
        ERR_clear_error();
        if (total)
            return (ssize_t) total; /* what was found now will be found again */
        errno = waits ? EAGAIN : system ? system : EPROTO;
        return waits ? -1 : error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
    } while (size - total >= TLS_READ_MIN);
    return (ssize_t) total;
}

ssize_t tls_write(tls_t *tls, const void *bytes, size_t size) {
    size_t sent = 0;
    int error;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(tls->ssl, bytes, size, &sent);
    tls->wants_write = false;
    if (result == 1)
        return (ssize_t) sent;
    int system = errno;
    bool waits = must_wait(tls, result, &error);
    ERR_clear_error();
    errno = waits ? EAGAIN : system ? system : EPIPE;
    return -1;
}

void tls_end(tls_t *tls) {
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}
