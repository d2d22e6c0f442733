#ifndef INGEST_MYSQL_SOURCE_H
#define INGEST_MYSQL_SOURCE_H

#include <mysql.h>
#include <pthread.h>

#include "rows.h"

/* What the ways to read a MySQL or MariaDB database share. Each is a driver of rows.h behind the same URL and options. */
typedef enum mysql_mode { MYSQL_MODE_POLL, MYSQL_MODE_CDC } mysql_mode_t;

typedef struct mysql_settings {
    int mode;                          /* mysql_mode_t */
    /* poll */
    char *query, *cursor, *initial;
    int64_t interval;
    bool once;
    /* cdc */
    option_list_t tables;
    char *gtid;
    int64_t server_id;
    bool commit_time;
    /* all */
    char *password, *socket, *tls_ca, *tls_cert, *tls_key;
    bool tls;
    int64_t timeout, retry_min, retry_max;
} mysql_settings_t;

typedef struct mysql_address {
    char *user, *password, *host, *database;
    unsigned port;
} mysql_address_t;

/* //USER:PASSWORD@HOST:PORT/DATABASE. Fini in any case. */
int mysql_address_read(mysql_address_t *address, const char *rest, err_t *err);
void mysql_address_fini(mysql_address_t *address);

/* A connection: opened, used and closed by the thread of rows.h, interrupted by the loop. */
typedef struct mysql_link {
    const mysql_settings_t *settings;
    mysql_address_t address;
    unsigned silence;                  /* s without a word of the server before the connection counts as lost; 0: however long it takes */
    MYSQL *connection;
    pthread_mutex_t lock;              /* of `connection`, for interrupt */
} mysql_link_t;

void mysql_link_init(mysql_link_t *link, const source_setup_t *setup);
void mysql_link_fini(mysql_link_t *link);
int mysql_link_open(mysql_link_t *link, err_t *err);
void mysql_link_close(mysql_link_t *link);            /* legal after a failed open, and twice */
void mysql_link_interrupt(mysql_link_t *link);        /* from another thread: a read that waits for the server ends */
int mysql_link_fail(const mysql_link_t *link, err_t *err);            /* the error is what the library says; -1 */

/* Values in text form become ours. False, and nothing is appended: the text is none of the kind. */
bool mysql_put_number(buf_t *out, text_t text);       /* an integer of 64 bits, or a double where that is exact */
bool mysql_put_time(buf_t *out, text_t text);         /* "0000-00-00" and the like are none */
bool mysql_put_json(buf_t *out, text_t text);
void mysql_put_bits(buf_t *out, text_t bytes);
void mysql_put_text(buf_t *out, text_t text);         /* binary when it is no UTF-8 */

/* The drivers: rows->driver and rows->self, and how the cursor is called and begins. */
void mysql_poll_new(rows_setup_t *rows, const source_setup_t *setup);
void mysql_capture_new(rows_setup_t *rows, const source_setup_t *setup);
int mysql_capture_check(const mysql_settings_t *settings, err_t *err);

#endif
