/* The protocol of Redis, read bit by bit, and which entries are acknowledged when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../cmd/ingest/redis_acks.h"
#include "../../cmd/ingest/redis_reply.h"

static void elements_are_read(void **state) {
    static const struct {
        const char *data;
        redis_type_t type;
        const char *text;
        int64_t number;
    } good[] = {{"+OK\r\n", REDIS_STATUS, "OK", 0},         {"-ERR no\r\n", REDIS_ERROR, "ERR no", 0}, {":-7\r\n", REDIS_INTEGER, "", -7},
                {"$3\r\na\r\n\r\n", REDIS_STRING, "a\r\n", 0}, {"$0\r\n\r\n", REDIS_STRING, "", 0},        {"$-1\r\n", REDIS_NULL, "", 0},
                {"*-1\r\n", REDIS_NULL, "", 0},             {"*2\r\n", REDIS_ARRAY, "", 2},             {"+\r\n", REDIS_STATUS, "", 0}};
    static const char *const bad[] = {"x", "*-2\r\n", "$9999999999\r\n", ":x\r\n", "$1\r\nabc", "+OK\rx", "*99999999999999999999\r\n"};
    redis_item_t item;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        size_t size = strlen(good[i].data);
        for (size_t n = 0; n < size; n++)
            assert_int_equal(redis_read(&item, good[i].data, n), 0);
        assert_int_equal(redis_read(&item, good[i].data, size), size);
        assert_int_equal(item.type, good[i].type);
        assert_int_equal(item.number, good[i].number);
        assert_true(text_is(item.text, good[i].text));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(redis_read(&item, bad[i], strlen(bad[i])), -1);
}

#define NESTED "*3\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n*-1\r\n"

static void whole_elements_are_found_however_they_come(void **state) {
    static const char data[] = NESTED "+next\r\n";
    size_t size = sizeof NESTED - 1;
    for (size_t step = 1; step < 12; step++) {
        redis_scan_t scan = {.left = 1};
        int end = 0;
        size_t have = 0;
        while (!end) {
            have = have + step < sizeof data - 1 ? have + step : sizeof data - 1;
            end = redis_scan(&scan, data, have);
        }
        assert_int_equal(end, 1);
        assert_int_equal(scan.at, size);
    }
    redis_scan_t scan = {.left = 1};
    const char *from = data; /* passed over in pieces: what was looked at is dropped */
    for (size_t n = 1; !redis_scan(&scan, from, n); n++) {
        from += scan.at;
        n -= scan.at;
        scan.at = 0;
    }
    assert_ptr_equal(from + scan.at, data + size);
    redis_cursor_t cursor = {data, data + size};
    assert_true(redis_skip(&cursor));
    assert_ptr_equal(cursor.at, data + size);
    scan = (redis_scan_t){.left = 1};
    assert_int_equal(redis_scan(&scan, "*1\r\n?", 5), -1);
}

static void identifiers_are_read_and_compared(void **state) {
    redis_id_t id, other;
    char text[REDIS_ID_TEXT];
    assert_true(redis_id_read(&id, text_of("1526919030474-55")));
    assert_int_equal(redis_id_print(text, id), 16);
    assert_string_equal(text, "1526919030474-55");
    assert_true(redis_id_read(&other, text_of("1526919030474")));
    assert_true(redis_id_compare(other, id) < 0 && redis_id_compare(id, other) > 0 && redis_id_compare(id, id) == 0);
    assert_true(redis_id_read(&id, text_of("18446744073709551615-18446744073709551615")));
    assert_int_equal(redis_id_print(text, id), 41);
    static const char *const bad[] = {"", "-", "1-", "-1", "x-1", "1-x", "1-2-3", "18446744073709551616-0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(redis_id_read(&id, text_of(bad[i])));
}

static void expect_batch(redis_acks_t *acks, size_t from, size_t count) {
    size_t found_from = 0, found = 0;
    bool some = redis_acks_batch(acks, &found_from, &found);
    assert_int_equal(some, count > 0);
    assert_int_equal(found, count);
    if (count)
        assert_int_equal(found_from, from);
}

static void entries_are_acknowledged_when_they_are_durable(void **state) {
    redis_acks_t acks = {0};
    for (uint64_t i = 1; i <= 5; i++)
        redis_acks_add(&acks, i < 4 ? 0 : 1, (redis_id_t){i, 0}, i == 2, i);
    expect_batch(&acks, 0, 0);
    acks.durable = 4;
    expect_batch(&acks, 0, 3);
    expect_batch(&acks, 3, 1);
    expect_batch(&acks, 0, 0);
    assert_true(redis_acks_has_claimed(&acks, 0, (redis_id_t){2, 0}));
    assert_false(redis_acks_has_claimed(&acks, 0, (redis_id_t){1, 0}));
    redis_acks_confirmed(&acks);
    assert_int_equal(acks.count, 2);
    assert_int_equal(acks.claimed, 0);
    redis_acks_unsent(&acks); /* the connection is lost before the second was confirmed */
    acks.durable = 5;
    expect_batch(&acks, 0, 2);
    redis_acks_confirmed(&acks);
    assert_int_equal(acks.count, 0);
    redis_acks_confirmed(&acks);
    redis_acks_fini(&acks);
}

static void many_entries_wait(void **state) {
    redis_acks_t acks = {.durable = UINT64_MAX};
    size_t from, count, all = 0;
    for (uint64_t i = 0; i < 3000; i++) {
        redis_acks_add(&acks, 0, (redis_id_t){i, i}, false, i);
        if (i % 700 == 699) {
            assert_true(redis_acks_batch(&acks, &from, &count));
            all += count;
            redis_acks_confirmed(&acks);
        }
    }
    while (redis_acks_batch(&acks, &from, &count)) {
        assert_int_equal(redis_acks_at(&acks, from)->id.ms, all);
        all += count;
    }
    assert_int_equal(all, 3000);
    redis_acks_fini(&acks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_read),
        cmocka_unit_test(whole_elements_are_found_however_they_come),
        cmocka_unit_test(identifiers_are_read_and_compared),
        cmocka_unit_test(entries_are_acknowledged_when_they_are_durable),
        cmocka_unit_test(many_entries_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
