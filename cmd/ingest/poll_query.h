#ifndef INGEST_POLL_QUERY_H
#define INGEST_POLL_QUERY_H

#include <stddef.h>

#include "base/err.h"
#include "data/option.h"

/* As options of a driver with --mode poll: its settings have query, cursor and initial. */
#define POLL_QUERY_OPTIONS(type) \
    {"query", OPTION_TEXT, offsetof(type, query), NULL, "SQL", "poll: what to ask; $1 in it is the cursor's last value", .needs = "mode=poll"}, \
    {"cursor", OPTION_TEXT, offsetof(type, cursor), NULL, "COLUMN", "poll: the column of the answer that grows from row to row", .needs = "mode=poll"}, \
    {"initial", OPTION_TEXT, offsetof(type, initial), NULL, "VALUE", "poll: the cursor's value before the first row", .needs = "mode=poll, cursor"}

/* The query of a database that is polled, as it is given: with --cursor it has $1, the last value of that column, whose first value is --initial. */
int poll_query_check(const char *query, const char *cursor, const char *initial, err_t *err);
/* What is asked: the query; or within another that puts its rows in the order of the column, so that it need not be ordered itself. column: quoted
 * as the database wants it, or NULL. mem_free. */
char *poll_query_statement(const char *query, const char *column);

#endif
