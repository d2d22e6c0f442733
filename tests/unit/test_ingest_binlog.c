/* What a replica of MariaDB gets: events as a server of 10.11 sends them, whole, cut short and damaged; statements; places in the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../cmd/ingest/binlog_place.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"

typedef struct sample {
    const char *bytes;
    size_t size;
} sample_t;
#define SAMPLE(text) {text, sizeof(text) - 1}

/* CREATE TABLE d.t (id int unsigned PRIMARY KEY, v varchar(20), e enum('a','b')), then a row that comes, changes and goes, and a TRUNCATE. */
static const sample_t samples[] = {
    SAMPLE("\x00\xb0\x34\x57\x69\xa2\x07\x00\x00\x00\x2a\x00\x00\x00\xba\x02\x00\x00\x08\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0c\x00\x00\x00\x00"
           "\x00\x00\x27\x59\x2f\xa3"),
    SAMPLE("\x00\xb0\x34\x57\x69\x13\x07\x00\x00\x00\x4b\x00\x00\x00\x48\x03\x00\x00\x00\x00\x12\x00\x00\x00\x00\x00\x01\x00\x01\x64\x00\x01\x74\x00\x03\x03\x0f"
           "\xfe\x04\x50\x00\xf7\x01\x06\x01\x01\x80\x02\x01\x2d\x04\x07\x02\x69\x64\x01\x76\x01\x65\x0a\x01\x2d\x06\x05\x02\x01\x61\x01\x62\x08\x01\x00\x56\xae"
           "\xb9\x36"),
    SAMPLE("\x00\xb0\x34\x57\x69\x17\x07\x00\x00\x00\x2b\x00\x00\x00\x73\x03\x00\x00\x00\x00\x12\x00\x00\x00\x00\x00\x01\x00\x03\x07\xf8\x00\x28\x6b\xee\x03\x61"
           "\x62\x63\x02\x60\x7c\x87\x44"),
    SAMPLE("\x00\xb0\x34\x57\x69\x18\x07\x00\x00\x00\x32\x00\x00\x00\x65\x04\x00\x00\x00\x00\x12\x00\x00\x00\x00\x00\x01\x00\x03\x07\x07\xf8\x00\x28\x6b\xee\x03"
           "\x61\x62\x63\x02\xfa\x00\x28\x6b\xee\x02\xee\x9a\x49\x71"),
    SAMPLE("\x00\xb0\x34\x57\x69\x19\x07\x00\x00\x00\x27\x00\x00\x00\x46\x05\x00\x00\x00\x00\x12\x00\x00\x00\x00\x00\x01\x00\x03\x07\xfa\x00\x28\x6b\xee\x02\xee"
           "\xa9\x38\xdc"),
    SAMPLE("\x00\xb0\x34\x57\x69\x02\x07\x00\x00\x00\x51\x00\x00\x00\xe0\x05\x00\x00\x00\x00\x05\x00\x00\x00\x85\x7c\xb2\x01\x00\x00\x00\x1a\x00\x00\x00\x00\x00"
           "\x01\x01\x00\x00\x20\x54\x00\x00\x00\x00\x06\x03\x73\x74\x64\x04\x21\x00\x21\x00\x08\x00\x00\x74\x72\x75\x6e\x63\x61\x74\x65\x20\x74\x61\x62\x6c\x65"
           "\x20\x64\x2e\x74\x24\x83\x7b\x80"),
};
enum { GTID, TABLE, INSERT, UPDATE, DELETE, TRUNCATE, SAMPLES };

/* Without the byte before the event that says that it is one. */
static int read_sample(binlog_event_t *event, unsigned i, err_t *err) {
    bool checksums = true;
    return binlog_event_read(event, (const uint8_t *) samples[i].bytes + 1, samples[i].size - 1, &checksums, err);
}

static binlog_table_t *the_table(void) {
    binlog_event_t event;
    err_t err;
    assert_int_equal(read_sample(&event, TABLE, &err), 0);
    binlog_table_t *table = binlog_table_read(&event, &err);
    assert_non_null(table);
    return table;
}

static void assert_json(buf_t *packed, const char *expected) {
    buf_t text = {0};
    value_t value;
    pack_cursor_t cursor = pack_cursor(packed->data, packed->size);
    assert_true(pack_read_value(&cursor, &value) && cursor.at == cursor.end);
    json_put_value(&text, value);
    assert_string_equal(buf_text(&text), expected);
    buf_fini(&text);
    buf_clear(packed);
}

static void events_of_a_transaction_are_read(void **state) {
    binlog_event_t event;
    binlog_gtid_t gtid;
    bool single = true;
    err_t err;
    assert_int_equal(read_sample(&event, GTID, &err), 0);
    assert_int_equal(event.type, BINLOG_GTID);
    assert_int_equal(binlog_gtid_read(&gtid, &single, &event, &err), 0);
    assert_int_equal(gtid.domain, 0);
    assert_int_equal(gtid.server, 7);
    assert_int_equal(gtid.sequence, 3);
    assert_false(single);
    binlog_table_t *table = the_table();
    assert_string_equal(table->schema, "d");
    assert_string_equal(table->name, "t");
    assert_int_equal(table->count, 3);
    binlog_table_free(table);
}

static void rows_are_read(void **state) {
    static const char *const expected[][2] = {{NULL, "{\"id\":4000000000,\"v\":\"abc\",\"e\":\"b\"}"},
                                              {"{\"id\":4000000000,\"v\":\"abc\",\"e\":\"b\"}", "{\"id\":4000000000,\"v\":null,\"e\":\"b\"}"},
                                              {"{\"id\":4000000000,\"v\":null,\"e\":\"b\"}", NULL}};
    binlog_table_t *table = the_table();
    buf_t old = {0}, new = {0}, space = {0};
    for (unsigned i = 0; i < 3; i++) {
        binlog_event_t event;
        binlog_rows_t rows;
        err_t err;
        assert_int_equal(read_sample(&event, INSERT + i, &err), 0);
        assert_true(binlog_is_rows(event.type));
        assert_int_equal(binlog_rows_begin(&rows, &event, table, &space, &err), 0);
        assert_int_equal(rows.kind, "IUD"[i]);
        assert_int_equal(binlog_rows_next(&rows, &old, &new, &err), 1);
        assert_int_equal(old.size > 0, expected[i][0] != NULL);
        assert_int_equal(new.size > 0, expected[i][1] != NULL);
        if (expected[i][0])
            assert_json(&old, expected[i][0]);
        if (expected[i][1])
            assert_json(&new, expected[i][1]);
        assert_int_equal(binlog_rows_next(&rows, &old, &new, &err), 0);
    }
    buf_fini(&old);
    buf_fini(&new);
    buf_fini(&space);
    binlog_table_free(table);
}

/* Every kind of event with a body that is not what it was: reading may fail with a reason, and goes nowhere beyond. */
static bool use_body(const binlog_table_t *known, uint8_t type, const uint8_t *bytes, size_t size) {
    uint8_t *body = size ? mem_copy(bytes, size) : mem_zero(1); /* its own memory, so that reading beyond it shows */
    binlog_event_t event = {.type = type, .body = body, .size = size};
    binlog_rows_t rows;
    binlog_query_t query;
    binlog_gtid_t gtid;
    bool single, good = false;
    err_t err = {{0}};
    buf_t old = {0}, new = {0}, space = {0};
    if (type == BINLOG_TABLE) {
        binlog_table_t *table = binlog_table_read(&event, &err);
        good = table;
        binlog_table_free(table);
    } else if (type == BINLOG_GTID) {
        good = binlog_gtid_read(&gtid, &single, &event, &err) == 0;
    } else if (type == BINLOG_QUERY) {
        good = binlog_query_read(&query, &event, &space, &err) == 0;
    } else if (binlog_rows_begin(&rows, &event, known, &space, &err) == 0) {
        int result;
        while ((result = binlog_rows_next(&rows, &old, &new, &err)) == 1)
            ;
        good = result == 0;
    }
    assert_true(good || *err.text);
    buf_fini(&old);
    buf_fini(&new);
    buf_fini(&space);
    mem_free(body);
    return good;
}

static void events_cut_short_are_refused(void **state) {
    binlog_table_t *table = the_table();
    for (unsigned i = 0; i < SAMPLES; i++) {
        binlog_event_t event;
        err_t err;
        assert_int_equal(read_sample(&event, i, &err), 0);
        for (size_t size = 0; size < event.size; size++) {
            bool checksums = false;
            assert_int_equal(binlog_event_read(&event, (const uint8_t *) samples[i].bytes + 1, size, &checksums, &err), -1);
        }
        assert_int_equal(read_sample(&event, i, &err), 0);
        size_t least = i == GTID ? 13 : i == TRUNCATE ? 40 : i == TABLE ? 24 : event.size; /* what is behind that may be missing */
        for (size_t size = 0; size < least; size++) {
            bool no_rows = i >= INSERT && i <= DELETE && size == (i == UPDATE ? 11u : 10u); /* that is legal */
            assert_int_equal(use_body(table, event.type, event.body, size), no_rows);
        }
        assert_true(use_body(table, event.type, event.body, event.size));
    }
    binlog_table_free(table);
}

static void damaged_events_do_no_harm(void **state) {
    binlog_table_t *table = the_table();
    for (unsigned i = 0; i < SAMPLES; i++) {
        binlog_event_t event;
        err_t err;
        for (size_t at = 0; at + 1 < samples[i].size; at++) {
            uint8_t *damaged = mem_copy(samples[i].bytes + 1, samples[i].size - 1);
            bool checksums = true;
            damaged[at] ^= 0xff;
            assert_int_equal(binlog_event_read(&event, damaged, samples[i].size - 1, &checksums, &err), -1);
            mem_free(damaged);
        }
        assert_int_equal(read_sample(&event, i, &err), 0);
        uint8_t *body = mem_copy(event.body, event.size);
        for (size_t at = 0; at < event.size; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                body[at] = (uint8_t) byte;
                use_body(table, event.type, body, event.size);
            }
            body[at] = event.body[at];
        }
        mem_free(body);
    }
    binlog_table_free(table);
}

static void what_claims_to_be_much_larger_is_refused(void **state) {
    static const uint8_t bomb[] = {0x84, 0x3f, 0xff, 0xff, 0xff, 0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01};
    buf_t out = {0};
    assert_false(binlog_inflate(&out, bomb, sizeof bomb, UINT32_MAX));
    assert_int_equal(out.capacity, 0);
    buf_fini(&out);
}

static void rows_without_names_are_refused(void **state) {
    binlog_table_t *table = the_table();
    binlog_event_t event;
    binlog_rows_t rows;
    buf_t space = {0};
    err_t err;
    assert_int_equal(read_sample(&event, INSERT, &err), 0);
    table->named = false;
    assert_int_equal(binlog_rows_begin(&rows, &event, table, &space, &err), -1);
    assert_non_null(strstr(err.text, "without the names of its columns"));
    buf_fini(&space);
    binlog_table_free(table);
}

static void statements_are_told_apart(void **state) {
    static const char *const truncations[][3] = {
        {"TRUNCATE t", "", "t"}, {"/* x */ truncate\ttable `a``b`", "", "a`b"}, {"-- x\nTruncate Table d.t;", "d", "t"}, {"# y\nTRUNCATE `d d` . `t.t` WAIT 5", "d d", "t.t"},
        {"TRUNCATE tables", "", "tables"}, {"TRUNCATE TABLE table_", "", "table_"}};
    for (size_t i = 0; i < sizeof truncations / sizeof *truncations; i++) {
        buf_t database = {0}, table = {0};
        assert_true(binlog_truncates(text_of(truncations[i][0]), &database, &table));
        assert_string_equal((const char *) database.data, truncations[i][1]);
        assert_string_equal((const char *) table.data, truncations[i][2]);
        buf_fini(&database);
        buf_fini(&table);
    }
    static const char *const others[] = {"", "TRUNCATE", "TRUNCATE TABLE", "TRUNCATED t", "SELECT 'TRUNCATE t'", "/* TRUNCATE t", "TRUNCATE ``"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        buf_t database = {0}, table = {0};
        assert_false(binlog_truncates(text_of(others[i]), &database, &table));
        buf_fini(&database);
        buf_fini(&table);
    }
    assert_true(binlog_begins(text_of(" rollback /* x */ to a"), "ROLLBACK TO"));
    assert_false(binlog_begins(text_of("ROLLBACK"), "ROLLBACK TO"));
    assert_false(binlog_begins(text_of("INSERTED"), "INSERT"));
}

static void places_come_back(void **state) {
    binlog_place_t place = {0};
    buf_t put = {0};
    err_t err;
    assert_int_equal(binlog_place_read(&place, text_of("0-1-99,4294967295-2-18446744073709551615 0-1-100+17"), &err), 0);
    assert_int_equal(place.count, 2);
    assert_int_equal(place.changes, 17);
    assert_int_equal(place.under_way.sequence, 100);
    assert_int_equal(binlog_place_done(&place, &place.under_way, &err), 0);
    binlog_place_put(&place, &put);
    assert_string_equal(buf_text(&put), "0-1-100,4294967295-2-18446744073709551615");
    static const char *const wrong[] = {"0-1", "0-1-2-3", "a-b-c", "0-1-2 ", "0-1-2 0-1-3", "0-1-2 0-1-3+0", "0-1-2 0-1-3+x", "-1-1-1", "4294967296-1-1", "0-1-2,,0-1-3",
                                        "0-1-18446744073709551616"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(binlog_place_read(&place, text_of(wrong[i]), &err), -1);
    assert_int_equal(place.count, 2);
    assert_int_equal(binlog_place_read(&place, text_of(""), &err), 0);
    assert_int_equal(place.count, 0);
    buf_fini(&put);
    binlog_place_fini(&place);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_of_a_transaction_are_read),
        cmocka_unit_test(rows_are_read),
        cmocka_unit_test(events_cut_short_are_refused),
        cmocka_unit_test(damaged_events_do_no_harm),
        cmocka_unit_test(what_claims_to_be_much_larger_is_refused),
        cmocka_unit_test(rows_without_names_are_refused),
        cmocka_unit_test(statements_are_told_apart),
        cmocka_unit_test(places_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
