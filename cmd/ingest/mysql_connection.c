/* MySQL and MariaDB: the address, the connection, and what values in text form become. */
#include <ctype.h>
#include <errmsg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"
#include "mysql_source.h"

#define EXACT_DIGITS 15

void mysql_address_fini(mysql_address_t *address) {
    mem_free(address->user);
    mem_free(address->password);
    mem_free(address->host);
    mem_free(address->database);
    *address = (mysql_address_t){0};
}

/* %41 is A. */
static char *decode(text_t text) {
    buf_t out = {0};
    for (size_t i = 0; i < text.size; i++) {
        char digits[3] = {0};
        if (text.data[i] == '%' && i + 2 < text.size && isxdigit((unsigned char) text.data[i + 1]) && isxdigit((unsigned char) text.data[i + 2])) {
            memcpy(digits, text.data + i + 1, 2);
            buf_put_byte(&out, (uint8_t) strtoul(digits, NULL, 16));
            i += 2;
        } else {
            buf_put_byte(&out, (uint8_t) text.data[i]);
        }
    }
    buf_put_byte(&out, 0);
    return (char *) buf_take(&out);
}

int mysql_address_read(mysql_address_t *address, const char *rest, err_t *err) {
    int64_t port = 3306;
    if (strncmp(rest, "//", 2) != 0)
        return err_set(err, "an address of MySQL looks like mysql://user@host:3306/database");
    const char *host = rest + 2, *end = host + strcspn(host, "/"), *at = memrchr(host, '@', (size_t) (end - host));
    if (at) {
        const char *colon = memchr(host, ':', (size_t) (at - host));
        address->user = decode(text_make(host, (size_t) ((colon ? colon : at) - host)));
        if (colon)
            address->password = decode(text_make(colon + 1, (size_t) (at - colon - 1)));
        host = at + 1;
    }
    const char *close = *host == '[' ? memchr(host, ']', (size_t) (end - host)) : NULL, *from = close ? close : host;
    const char *colon = memchr(from, ':', (size_t) (end - from));
    if (colon && (text_to_int(text_make(colon + 1, (size_t) (end - colon - 1)), &port, NULL) || port < 1 || port > 65535))
        return err_set(err, "an address of MySQL looks like mysql://user@host:3306/database: the port is none");
    address->host = close ? mem_text_n(host + 1, (size_t) (close - host - 1)) : decode(text_make(host, (size_t) ((colon ? colon : end) - host)));
    address->port = (unsigned) port;
    address->database = decode(text_of(*end ? end + 1 : ""));
    return 0;
}

void mysql_link_init(mysql_link_t *link, const source_setup_t *setup) {
    *link = (mysql_link_t){.settings = setup->settings};
    mysql_library_init(0, NULL, NULL); /* before there are threads */
    pthread_mutex_init(&link->lock, NULL);
    mysql_address_read(&link->address, setup->rest, NULL);
}

void mysql_link_fini(mysql_link_t *link) {
    mysql_address_fini(&link->address);
    pthread_mutex_destroy(&link->lock);
}

int mysql_link_fail(const mysql_link_t *link, err_t *err) {
    char words[400];
    snprintf(words, sizeof words, "%s", mysql_error(link->connection));
    text_make_valid(words);
    bool no_tls = mysql_errno(link->connection) == CR_SSL_CONNECTION_ERROR && strstr(words, "support");
    return err_set(err, "%s%s", *words ? words : "the connection was lost", no_tls ? ": leave --tls and its files out, or give the server a certificate" : "");
}

void mysql_link_close(mysql_link_t *link) {
    pthread_mutex_lock(&link->lock);
    MYSQL *connection = link->connection;
    link->connection = NULL;
    pthread_mutex_unlock(&link->lock);
    if (connection)
        mysql_close(connection);
}

void mysql_link_interrupt(mysql_link_t *link) {
    pthread_mutex_lock(&link->lock);
    if (link->connection && mysql_get_socket(link->connection) != (my_socket) -1)
        shutdown(mysql_get_socket(link->connection), SHUT_RDWR);
    pthread_mutex_unlock(&link->lock);
}

static void set_options(const mysql_link_t *link, MYSQL *connection) {
    const mysql_settings_t *settings = link->settings;
    unsigned timeout = (unsigned) (settings->timeout / NS_PER_S);
    my_bool yes = 1;
    mysql_options(connection, MYSQL_OPT_CONNECT_TIMEOUT, &timeout);
    if (link->silence)
        mysql_options(connection, MYSQL_OPT_READ_TIMEOUT, &link->silence);
    mysql_options(connection, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options(connection, MYSQL_INIT_COMMAND, "SET time_zone = '+00:00'");
    if (settings->tls || settings->tls_ca) {
        mysql_ssl_set(connection, settings->tls_key, settings->tls_cert, settings->tls_ca, NULL, NULL);
        mysql_options(connection, MYSQL_OPT_SSL_ENFORCE, &yes);
        mysql_options(connection, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
    }
}

int mysql_link_open(mysql_link_t *link, err_t *err) {
    const mysql_address_t *address = &link->address;
    MYSQL *connection = mysql_init(NULL);
    ASSERT(connection);
    set_options(link, connection);
    pthread_mutex_lock(&link->lock);
    link->connection = connection;
    pthread_mutex_unlock(&link->lock);
    bool local = link->settings->socket || !*address->host;
    if (!mysql_real_connect(connection, local ? NULL : address->host, address->user, link->settings->password ? link->settings->password : address->password,
                            *address->database ? address->database : NULL, address->port, link->settings->socket, 0))
        return mysql_link_fail(link, err);
    return 0;
}

/* Digits from the first that is not 0. */
static unsigned digits_of(text_t text) {
    unsigned digits = 0;
    for (size_t i = 0; i < text.size; i++)
        digits += isdigit((unsigned char) text.data[i]) && (digits || text.data[i] != '0');
    return digits;
}

bool mysql_put_number(buf_t *out, text_t text) {
    int64_t integer;
    uint64_t big;
    double number;
    if (text_to_int(text, &integer, NULL) == 0)
        pack_int(out, integer);
    else if (text_to_uint(text, &big, NULL) == 0)
        pack_uint(out, big);
    else if (digits_of(text) <= EXACT_DIGITS && json_parse_double(text.data, text.size, &number))
        pack_double(out, number);
    else
        return false;
    return true;
}

void mysql_put_bits(buf_t *out, text_t bytes) {
    uint64_t bits = 0;
    for (size_t i = 0; i < bytes.size && i < 8; i++)
        bits = bits << 8 | (uint8_t) bytes.data[i];
    pack_uint(out, bits);
}

bool mysql_put_time(buf_t *out, text_t text) {
    int64_t ns;
    bool good = clock_parse(text, &ns);
    if (good)
        pack_time(out, ns);
    return good;
}

bool mysql_put_json(buf_t *out, text_t text) {
    size_t before = out->size;
    bool good = json_read_value(text, out, NULL) == (ssize_t) text.size;
    if (!good)
        out->size = before;
    return good;
}

void mysql_put_text(buf_t *out, text_t text) {
    if (text_utf8_valid(text.data, text.size) == text.size)
        pack_string(out, text.data, text.size);
    else
        pack_binary(out, text.data, text.size);
}
