/* Finding fields in place: against a plain walk, over records of few and of many shapes, cut off anywhere, and with texts that look like keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/lang/record.h"

static uint64_t random_state = 7;

static uint32_t below(uint32_t limit) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t) ((random_state >> 33) % limit);
}

static const char *const names[] = {"a", "b", "device", "temperature", "x", "a name that is longer than others are", "ab", ""};
#define NAMES 8

static void put_random(buf_t *out, unsigned depth) {
    switch (below(depth ? 9 : 7)) {
    case 0: pack_nil(out); break;
    case 1: pack_int(out, (int64_t) below(300) - 150); break;
    case 2: pack_uint(out, UINT64_MAX - below(5)); break;
    case 3: pack_double(out, below(1000) / 8.0); break;
    case 4: pack_string(out, "\xA1" "a\x01\xA1" "x\x02 temperature", below(18)); break;
    case 5: pack_bool(out, below(2)); break;
    case 6: pack_time(out, (int64_t) below(1000000) * 1000000007); break;
    case 7: {
        uint32_t items = below(4);
        pack_array(out, items);
        while (items--)
            put_random(out, depth - 1);
        break;
    }
    default:
        pack_map(out, 1);
        pack_text(out, names[below(NAMES)]);
        put_random(out, depth - 1);
    }
}

/* How freely keys and values vary. */
static void put_record(buf_t *out, unsigned kind) {
    buf_t entries = {0};
    uint32_t count = 0;
    for (unsigned i = 0; i < NAMES; i++) {
        unsigned name = kind == 3 ? below(NAMES) : i;
        if (kind >= 2 && below(3) == 0)
            continue;
        pack_text(&entries, names[name]);
        if (kind == 0)
            pack_double(&entries, below(1000) / 8.0);
        else
            put_random(&entries, kind == 1 ? 0 : 2);
        count++;
    }
    pack_map(out, count);
    buf_put(out, entries.data, entries.size);
    buf_fini(&entries);
}

/* The plain way: the first entry of that name. */
static uint32_t value_offset(const uint8_t *record, size_t size, const char *name) {
    pack_cursor_t cursor = pack_cursor(record, size);
    uint32_t entries;
    text_t key;
    assert_true(pack_read_map(&cursor, &entries));
    for (uint32_t i = 0; i < entries; i++) {
        assert_true(pack_read_string(&cursor, &key));
        if (text_is(key, name))
            return (uint32_t) (cursor.at - record);
        assert_true(pack_skip(&cursor));
    }
    return 0;
}

static void finds_what_a_walk_finds(void **state) {
    for (unsigned kind = 0; kind < 4; kind++) {
        layout_t *layout = layout_new();
        static const char *const asked[] = {"temperature", "a", "absent", "", "x", "a name that is longer than others are"};
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(layout_slot(layout, text_of(asked[i])), i);
        assert_int_equal(layout_slot(layout, text_of("a")), 1);
        for (unsigned round = 0; round < 20000; round++) {
            buf_t record = {0};
            put_record(&record, kind);
            uint8_t *exact = mem_copy(record.data, record.size); /* so that a sanitizer sees a read behind it */
            place_t own[6];
            size_t spare = below(2) ? 0 : 64;
            if (spare)
                exact = mem_resize(exact, record.size + spare);
            const place_t *places = layout_locate(layout, exact, (uint32_t) record.size, exact + record.size + spare, own);
            assert_non_null(places);
            for (unsigned i = 0; i < 6; i++)
                assert_int_equal(places[i].value, value_offset(exact, record.size, asked[i]));
            if (below(8) == 0)
                layout_settle(layout);
            mem_free(exact);
            buf_fini(&record);
        }
        layout_free(layout);
    }
}

static void cut_records_give_no_value_behind_their_end(void **state) {
    layout_t *layout = layout_new();
    unsigned slot = layout_slot(layout, text_of("x")), other = layout_slot(layout, text_of("temperature"));
    for (unsigned round = 0; round < 3000; round++) {
        buf_t record = {0};
        put_record(&record, round % 4);
        size_t size = below((uint32_t) record.size) + 1;
        uint8_t *cut = mem_copy(record.data, size);
        place_t own[2];
        const place_t *places = layout_locate(layout, cut, (uint32_t) size, cut + size, own);
        if (places) {
            assert_true(places[slot].value < size && places[other].value < size);
            if (places[slot].value) {
                value_t value = record_value(cut + places[slot].value, cut + size);
                if (value.type >= VALUE_STRING && value.type <= VALUE_MAP)
                    assert_true(value.packed + value.size <= cut + size);
            }
        }
        layout_settle(layout);
        mem_free(cut);
        buf_fini(&record);
    }
    layout_free(layout);
}

static void members_and_items(void **state) {
    buf_t packed = {0};
    pack_map(&packed, 3);
    pack_int(&packed, 5); /* a key that is no text */
    pack_int(&packed, 6);
    pack_text(&packed, "a");
    pack_array(&packed, 3);
    for (int i = 1; i <= 3; i++)
        pack_int(&packed, i);
    pack_text(&packed, "a");
    pack_int(&packed, 9);
    value_t map = record_value(packed.data, packed.data + packed.size);
    assert_int_equal(map.type, VALUE_MAP);
    value_t array = record_member(map, text_of("a"));
    assert_int_equal(array.type, VALUE_ARRAY); /* the first of two */
    assert_int_equal(record_item(array, 0).integer, 1);
    assert_int_equal(record_item(array, -1).integer, 3);
    assert_int_equal(record_item(array, 3).type, VALUE_NULL);
    assert_int_equal(record_item(array, -4).type, VALUE_NULL);
    assert_int_equal(record_item(map, 0).type, VALUE_NULL);
    assert_int_equal(record_member(array, text_of("a")).type, VALUE_NULL);
    assert_int_equal(record_member(map, text_of("b")).type, VALUE_NULL);
    buf_fini(&packed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_a_walk_finds),
        cmocka_unit_test(cut_records_give_no_value_behind_their_end),
        cmocka_unit_test(members_and_items),
    };
    return cmocka_run_group_tests_name("lang_record", tests, NULL, NULL);
}
