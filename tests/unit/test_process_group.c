/* Keyed state: every key is found again while the table grows, order is that of insertion, and keys come back as the values that they were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../cmd/process/group.h"

static void set_key(buf_t *key, value_t value) {
    buf_clear(key);
    key_put(key, value);
    key_end(key);
}

static group_t *get(groups_t *groups, const buf_t *key) {
    return groups_get(groups, key->data, key->size, groups_hash(key->data, key->size));
}

static group_t *find(groups_t *groups, const buf_t *key) {
    return groups_find(groups, key->data, key->size, groups_hash(key->data, key->size));
}

static void grows_without_losing_anything(void **state) {
    groups_t *groups = groups_new(sizeof(uint64_t));
    buf_t key = {0};
    char name[64];
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 100000; i++) {
            snprintf(name, sizeof name, i % 7 ? "key %u" : "a key that does not fit into its group %u", i);
            set_key(&key, value_text(name, strlen(name)));
            assert_null(i % 100 ? NULL : find(groups, &key));
            group_t *group = get(groups, &key);
            uint64_t zero;
            memcpy(&zero, group->state, sizeof zero);
            assert_int_equal(zero, 0);
            memcpy(group->state, &(uint64_t){i + 1}, sizeof zero);
            if (i % 977 == 0) { /* one from before, in the middle of growing */
                uint32_t old = i / 2;
                snprintf(name, sizeof name, old % 7 ? "key %u" : "a key that does not fit into its group %u", old);
                set_key(&key, value_text(name, strlen(name)));
                memcpy(&zero, find(groups, &key)->state, sizeof zero);
                assert_int_equal(zero, old + 1);
            }
        }
        assert_int_equal(groups_count(groups), 100000);
        for (uint32_t i = 0; i < 100000; i++) {
            uint64_t number;
            memcpy(&number, groups_at(groups, i)->state, sizeof number);
            assert_int_equal(number, i + 1);
        }
        groups_clear(groups);
        assert_int_equal(groups_count(groups), 0);
    }
    buf_fini(&key);
    groups_free(groups);
}

static void equal_values_are_one_key(void **state) {
    groups_t *groups = groups_new(8);
    buf_t key = {0};
    set_key(&key, value_int(1));
    group_t *one = get(groups, &key);
    set_key(&key, value_double(1.0));
    assert_ptr_equal(get(groups, &key), one);
    set_key(&key, value_text("1", 1));
    assert_ptr_not_equal(get(groups, &key), one);
    set_key(&key, value_double(0.0));
    group_t *zero = get(groups, &key);
    set_key(&key, value_double(-0.0));
    assert_ptr_equal(get(groups, &key), zero);
    set_key(&key, value_double(18446744073709551616.0));
    get(groups, &key);
    set_key(&key, value_uint(UINT64_MAX));
    get(groups, &key);
    buf_clear(&key);
    key_end(&key);
    get(groups, &key); /* no keys at all */
    assert_int_equal(groups_count(groups), 6);
    buf_fini(&key);
    groups_free(groups);
}

static void keys_are_read_back(void **state) {
    buf_t key = {0};
    char longer[1000];
    memset(longer, 'x', sizeof longer);
    const value_t values[] = {value_null(), value_bool(true), value_int(-5), value_uint(UINT64_MAX), value_double(2.5), value_text("abc", 3),
                              value_text(longer, 254), value_text(longer, 255), value_text(longer, 1000), value_time(-1), value_text("", 0)};
    size_t count = sizeof values / sizeof *values;
    for (size_t i = 0; i < count; i++)
        key_put(&key, values[i]);
    const uint8_t *at = key.data, *end = key.data + key.size;
    for (size_t i = 0; i < count; i++) {
        value_t value = key_read(&at, end);
        assert_int_equal(value.type, values[i].type);
        if (value.type == VALUE_STRING) {
            assert_int_equal(value.size, values[i].size);
            assert_memory_equal(value.text, values[i].text, value.size);
        } else if (value.type == VALUE_BOOL) {
            assert_true(value.boolean);
        } else if (value.type != VALUE_NULL) {
            assert_int_equal(value.integer, values[i].integer);
        }
    }
    assert_ptr_equal(at, end);
    assert_int_equal(key_read(&at, end).type, VALUE_NULL);
    buf_fini(&key);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_without_losing_anything),
        cmocka_unit_test(equal_values_are_one_key),
        cmocka_unit_test(keys_are_read_back),
    };
    return cmocka_run_group_tests_name("process_group", tests, NULL, NULL);
}
