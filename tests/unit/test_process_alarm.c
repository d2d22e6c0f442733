/* Alarms by key: what is due comes out in the order of times, whatever was set, moved and forgotten in between; state survives saving. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cmd/process/alarm.h"

#define KEYS 3000
#define ROUNDS 60000

static void set_key(buf_t *key, int64_t number) {
    char name[64];
    buf_clear(key);
    snprintf(name, sizeof name, number % 3 ? "%lld" : "a key that does not fit into its group %lld", (long long) number);
    key_put(key, value_text(name, strlen(name)));
    key_end(key);
}

/* The model: an array that is searched. */
typedef struct model {
    bool alive;
    int64_t due, heard;
    unsigned born;
} model_t;

static int first_of(const model_t *model) {
    int first = -1;
    for (int i = 0; i < KEYS; i++) {
        if (!model[i].alive || model[i].due == INT64_MAX)
            continue;
        bool sooner = first < 0 || model[i].due < model[first].due || (model[i].due == model[first].due && model[i].born < model[first].born);
        first = sooner ? i : first;
    }
    return first;
}

static void not_saved(void *argument, buf_t *out) {
}

static void loaded(void *argument, alarm_t *alarm) {
    alarms_set_due(argument, alarm, alarm->noticed); /* where these tests keep it */
}

static alarms_t *again(alarms_t *alarms) {
    buf_t bytes = {0};
    err_t err;
    alarms_save(alarms, &bytes, not_saved, NULL);
    alarms_free(alarms);
    alarms_t *fresh = alarms_new();
    pack_cursor_t cursor = pack_cursor(bytes.data, bytes.size);
    if (alarms_load(fresh, &cursor, loaded, fresh, &err) < 0)
        fail_msg("%s", err.text);
    assert_ptr_equal(cursor.at, cursor.end);
    buf_fini(&bytes);
    return fresh;
}

static void set_due(alarms_t *alarms, alarm_t *alarm, model_t *model, int64_t due) {
    alarms_set_due(alarms, alarm, due);
    alarm->noticed = model->due = due;
}

static void they_come_in_order(void **state) {
    srandom(7);
    model_t *model = mem_zero(KEYS * sizeof *model);
    alarms_t *alarms = alarms_new();
    buf_t key = {0};
    unsigned born = 0, alive = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned number = (unsigned) random() % KEYS;
        set_key(&key, number);
        alarm_t *alarm = alarms_find(alarms, &key);
        assert_int_equal(alarm != NULL, model[number].alive);
        if (!alarm) {
            alarm = alarms_get(alarms, &key);
            assert_int_equal(alarm->heard, 0);
            assert_int_equal(alarm->phase, ALARM_QUIET);
            model[number] = (model_t){true, INT64_MAX, number + 1, ++born};
            alarm->heard = number + 1;
            set_due(alarms, alarm, &model[number], random() % 1000);
            alive++;
        } else if (random() % 3 == 0) {
            alarms_forget(alarms, alarm);
            model[number].alive = false;
            alive--;
        } else {
            set_due(alarms, alarm, &model[number], random() % 20 ? random() % 1000 : INT64_MAX);
        }
        assert_int_equal(alarms_count(alarms), alive);
        if (round % 64)
            continue;
        if (round % 1024 == 0)
            alarms = again(alarms);
        int first = first_of(model);
        alarm = alarms_first(alarms);
        assert_int_equal(alarm != NULL, first >= 0);
        if (alarm)
            assert_int_equal(alarm->heard, first + 1);
    }
    buf_fini(&key);
    alarms_free(alarms);
    mem_free(model);
}

static void memory_of_forgotten_keys_comes_back(void **state) {
    alarms_t *alarms = alarms_new();
    buf_t key = {0};
    size_t most = 0;
    for (int64_t i = 0; i < 200000; i++) {
        set_key(&key, i);
        alarm_t *alarm = alarms_get(alarms, &key);
        alarms_set_due(alarms, alarm, i);
        if (i >= 100)
            alarms_forget(alarms, alarms_first(alarms));
        most = alarms_memory(alarms) > most ? alarms_memory(alarms) : most;
    }
    assert_int_equal(alarms_count(alarms), 100);
    assert_true(most < 1 << 20);
    buf_fini(&key);
    alarms_free(alarms);
}

static void damaged_state_is_refused(void **state) {
    alarms_t *alarms = alarms_new();
    buf_t key = {0}, bytes = {0};
    err_t err;
    for (int64_t i = 0; i < 5; i++) {
        set_key(&key, i);
        alarms_get(alarms, &key)->phase = ALARM_FIRING;
    }
    alarms_save(alarms, &bytes, not_saved, NULL);
    for (size_t i = 0; i < bytes.size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes.data[i] ^= (uint8_t) (1u << bit);
            alarms_t *fresh = alarms_new();
            pack_cursor_t cursor = pack_cursor(bytes.data, bytes.size);
            alarms_load(fresh, &cursor, loaded, fresh, &err); /* must not crash; some bits only make another key or time */
            alarms_free(fresh);
            bytes.data[i] ^= (uint8_t) (1u << bit);
        }
        alarms_t *fresh = alarms_new();
        pack_cursor_t cursor = pack_cursor(bytes.data, i);
        assert_int_equal(alarms_load(fresh, &cursor, loaded, fresh, &err), -1);
        alarms_free(fresh);
    }
    buf_fini(&key);
    buf_fini(&bytes);
    alarms_free(alarms);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_come_in_order),
        cmocka_unit_test(memory_of_forgotten_keys_comes_back),
        cmocka_unit_test(damaged_state_is_refused),
    };
    return cmocka_run_group_tests_name("process_alarm", tests, NULL, NULL);
}
