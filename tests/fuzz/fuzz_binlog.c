/* MariaDB: events of the binary log, one after the other as [type][size, two bytes][body], tables and their rows among them; and places in it. What
 * is made of a row is whole, and a place that was read is written as it is read again. */
#include <stdint.h>
#include <string.h>

#include "../../cmd/ingest/binlog_place.h"
#include "base/memory.h"
#include "data/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_packed(const buf_t *packed) {
    pack_cursor_t cursor = pack_cursor(packed->data, packed->size);
    ASSERT(!packed->size || (pack_skip(&cursor) && cursor.at == cursor.end));
}

static void check_rows(const binlog_event_t *event, const binlog_table_t *table) {
    binlog_rows_t rows;
    buf_t old = {0}, new = {0}, space = {0};
    if (binlog_rows_begin(&rows, event, table, &space, NULL) == 0) {
        while (binlog_rows_next(&rows, &old, &new, NULL) == 1) {
            check_packed(&old);
            check_packed(&new);
            buf_clear(&old);
            buf_clear(&new);
        }
    }
    buf_fini(&old);
    buf_fini(&new);
    buf_fini(&space);
}

static void check_query(const binlog_event_t *event) {
    binlog_query_t query;
    buf_t space = {0}, database = {0}, table = {0};
    if (binlog_query_read(&query, event, &space, NULL) == 0) {
        if (binlog_truncates(query.statement, &database, &table))
            ASSERT(table.size > 1 && !table.data[table.size - 1] && !database.data[database.size - 1]);
        binlog_begins(query.statement, "ROLLBACK TO");
    }
    buf_fini(&space);
    buf_fini(&database);
    buf_fini(&table);
}

static void check_event(const binlog_event_t *event, binlog_table_t **table) {
    binlog_gtid_t gtid;
    bool single;
    if (binlog_is_rows(event->type) && *table)
        check_rows(event, *table);
    else if (event->type == BINLOG_GTID)
        binlog_gtid_read(&gtid, &single, event, NULL);
    else if (event->type == BINLOG_QUERY || event->type == BINLOG_QUERY_COMPRESSED)
        check_query(event);
    binlog_table_t *described = event->type == BINLOG_TABLE ? binlog_table_read(event, NULL) : NULL;
    if (described) {
        binlog_table_free(*table);
        *table = described;
    }
}

static void check_place(text_t text) {
    binlog_place_t place = {0}, again = {0};
    buf_t put = {0};
    if (binlog_place_read(&place, text, NULL) == 0) {
        binlog_place_put(&place, &put);
        ASSERT(binlog_place_read(&again, text_make((const char *) put.data, put.size), NULL) == 0 && again.count == place.count);
    }
    buf_fini(&put);
    binlog_place_fini(&place);
    binlog_place_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    binlog_table_t *table = NULL;
    binlog_event_t event;
    bool checksums = false;
    check_place(text_make((const char *) data, size));
    binlog_event_read(&event, data, size, &checksums, NULL);
    for (size_t at = 0; at + 3 <= size;) {
        size_t length = (size_t) data[at + 1] << 8 | data[at + 2];
        length = length < size - at - 3 ? length : size - at - 3;
        uint8_t *body = length ? mem_copy(data + at + 3, length) : mem_zero(1);
        event = (binlog_event_t){.type = data[at], .body = body, .size = length};
        check_event(&event, &table);
        mem_free(body);
        at += 3 + length;
    }
    binlog_table_free(table);
    return 0;
}
