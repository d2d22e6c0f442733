/* NATS: which messages were taken, what a message says of its place in a stream, and keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../cmd/ingest/nats_key.h"
#include "../../cmd/ingest/nats_seen.h"
#include "data/pack.h"

#define NUMBERS 200

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static void check_shape(const seen_t *seen) {
    uint64_t before = seen->floor;
    for (size_t i = 0; i < seen->count; i++) {
        assert_true(seen->runs[i].first > before + 1 && seen->runs[i].last >= seen->runs[i].first);
        before = seen->runs[i].last;
    }
}

static text_t packed_runs(const seen_t *seen, buf_t *out) {
    value_t value;
    buf_clear(out);
    seen_pack_runs(seen, out);
    pack_cursor_t cursor = pack_cursor(out->data, out->size);
    assert_true(pack_read_value(&cursor, &value));
    return text_make(value.text, value.size);
}

static void what_was_taken_is_known_in_whatever_order_it_came(void **state) {
    uint64_t random = 1;
    buf_t packed = {0};
    for (int turn = 0; turn < 300; turn++) {
        bool known[NUMBERS + 1] = {true};
        seen_t seen = {0}, again = {0};
        for (int i = 0; i < 100; i++) {
            uint64_t first = 1 + next_random(&random) % NUMBERS, last = first + next_random(&random) % 4;
            last = last > NUMBERS ? NUMBERS : last;
            bool floor = next_random(&random) % 40 == 0;
            if (floor)
                seen_raise(&seen, last / 4);
            else
                seen_add(&seen, first, last);
            for (uint64_t n = floor ? 0 : first; n <= (floor ? last / 4 : last); n++)
                known[n] = true;
            check_shape(&seen);
        }
        for (uint64_t n = 0; n <= NUMBERS; n++)
            assert_int_equal(seen_has(&seen, n), known[n]);
        assert_int_equal(seen_restore(&again, seen.floor, packed_runs(&seen, &packed), NULL), 0);
        assert_int_equal(again.count, seen.count);
        assert_memory_equal(again.runs, seen.runs, seen.count * sizeof *seen.runs);
        seen_reset(&again, 7);
        assert_true(seen_has(&again, 7) && !seen_has(&again, 8));
        seen_fini(&again);
        seen_fini(&seen);
    }
    buf_fini(&packed);
}

static void damaged_runs_are_refused_or_in_order(void **state) {
    uint64_t random = 2;
    err_t err;
    for (int turn = 0; turn < 20000; turn++) {
        char bytes[24];
        size_t size = next_random(&random) % sizeof bytes;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (char) (next_random(&random) % 3 ? next_random(&random) % 5 : next_random(&random));
        seen_t seen = {0};
        if (seen_restore(&seen, next_random(&random) % 1000, text_make(bytes, size), &err) == 0)
            check_shape(&seen);
        seen_fini(&seen);
    }
    seen_t seen = {0};
    static const char *const bad[] = {"\x01\x01", "\x02", "\x82", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x01"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(seen_restore(&seen, 0, text_of(bad[i]), &err), -1);
}

static void a_message_says_where_it_stands(void **state) {
    nats_meta_t meta;
    assert_true(nats_meta_read(&meta, "$JS.ACK.ORDERS.mine.2.1017.93.1793000000123456789.5"));
    assert_int_equal(meta.delivered, 2);
    assert_int_equal(meta.sequence, 1017);
    assert_int_equal(meta.consumer_sequence, 93);
    assert_int_equal(meta.time, INT64_C(1793000000123456789));
    assert_int_equal(meta.pending, 5);
    assert_true(nats_meta_read(&meta, "$JS.ACK.hub.Xy7.ORDERS.mine.1.3.4.5.6.random") && meta.sequence == 3 && meta.pending == 6);
    assert_true(nats_meta_read(&meta, "$JS.ACK._.Xy7.ORDERS.mine.1.3.4.5.6") && meta.consumer_sequence == 4);
    static const char *const bad[] = {
        "", "$JS.ACK", "$JS.ACK.S.C.1.2.3.4", "$JS.ACK.S.C.1.2.3.4.5.6", "$JS.ACK.S.C.1.x.3.4.5", "$JS.ACK.S.C.1.0.3.4.5", "$JS.ACK.S.C.1.2..4.5",
        "$JS.ACK.S.C.1.-2.3.4.5", "$JS.ACK.S.C.1.99999999999999999999.3.4.5", "$JS.ACK.S.C.1.18446744073709551615.3.4.5", "_INBOX.a.b.c.1.2.3.4.5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(nats_meta_read(&meta, bad[i]));
    assert_false(nats_meta_read(&meta, NULL));
}

/* The pair that NATS's documentation shows for NKeys. */
static void a_seed_gives_its_public_key(void **state) {
    char seed[] = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", key[NATS_PUBLIC_KEY_SIZE + 1];
    err_t err;
    assert_int_equal(nats_key_of_seed(seed, key, &err), 0);
    assert_string_equal(key, "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4");
    for (size_t i = 0; seed[i]; i++) { /* the checksum finds every wrong letter */
        char right = seed[i];
        seed[i] = right == 'A' ? 'B' : 'A';
        assert_int_equal(nats_key_of_seed(seed, key, &err), -1);
        seed[i] = right;
    }
    static const char *const bad[] = {"", "SU", "suacssl3uahudxkfsnvuzrf5uhpmwz6bfdtj7m6usdxiednppqyyycu3vy",
                                      "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(nats_key_of_seed(bad[i], key, &err), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_taken_is_known_in_whatever_order_it_came),
        cmocka_unit_test(damaged_runs_are_refused_or_in_order),
        cmocka_unit_test(a_message_says_where_it_stands),
        cmocka_unit_test(a_seed_gives_its_public_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
