#ifndef INGEST_POLL_QUERY_H
#define INGEST_POLL_QUERY_H

#include "base/err.h"

/* The query of a database that is polled, as it is given: with --cursor it has $1, the last value of that column, whose first value is --initial. */
int poll_query_check(const char *query, const char *cursor, const char *initial, err_t *err);
/* What is asked: the query; or within another that puts its rows in the order of the column, so that it need not be ordered itself. column: quoted
 * as the database wants it, or NULL. mem_free. */
char *poll_query_statement(const char *query, const char *column);

#endif
