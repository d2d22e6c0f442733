/* Queries of databases that are polled: what all of them ask of --query and --cursor. */
#include "poll_query.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"

int poll_query_check(const char *query, const char *cursor, const char *initial, err_t *err) {
    if (cursor && !strstr(query, "$1"))
        return err_set(err, "--cursor %s: the query has no $1, the cursor's last value: WHERE %s > $1", cursor, cursor);
    if (cursor && !initial)
        return err_set(err, "--cursor %s needs --initial, the value of $1 before the first row, such as 0", cursor);
    if (!cursor && (initial || strstr(query, "$1")))
        return err_set(err, "--cursor is missing: the column whose last value $1 is");
    return 0;
}

char *poll_query_statement(const char *query, const char *column) {
    text_t text = text_trim(text_of(query));
    if (text.size && text.data[text.size - 1] == ';')
        text = text_trim(text_make(text.data, text.size - 1));
    if (!column)
        return mem_text_n(text.data, text.size);
    return mem_format("SELECT * FROM (%.*s\n) AS polled WHERE polled.%s IS NOT NULL ORDER BY polled.%s", (int) text.size, text.data, column, column);
}
