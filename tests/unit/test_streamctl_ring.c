/* The newest events of a stream: bounded, in order, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cmd/streamctl/facade_ring.h"

/* An event's bytes tell its serial, so that a mix-up shows. */
static uint32_t fill(uint8_t *bytes, uint64_t serial, uint32_t size) {
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = (uint8_t) (serial * 31 + i);
    return size;
}

static void check(const event_ring_t *ring) {
    uint8_t wanted[4096];
    uint64_t before = 0, serial = 0;
    for (uint32_t i = 0; i < ring_count(ring); i++) {
        ring_event_t event = ring_at(ring, i, &serial);
        assert_true(serial > before);
        assert_int_equal(event.time, (int64_t) serial * 10);
        fill(wanted, serial, event.size);
        assert_memory_equal(event.record, wanted, event.size);
        before = serial;
    }
    if (ring_count(ring))
        assert_true(before <= ring_serial(ring));
}

static void add(event_ring_t *ring, uint32_t size) {
    uint8_t bytes[4096];
    uint64_t serial = ring_serial(ring) + 1;
    ring_add(ring, (int64_t) serial * 10, bytes, fill(bytes, serial, size));
}

static void a_new_ring_is_empty(void **state) {
    event_ring_t *ring = ring_new(10, 1000);
    assert_int_equal(ring_count(ring), 0);
    assert_int_equal(ring_serial(ring), 0);
    assert_int_equal(ring_from(ring, 1), 0);
    ring_free(ring);
    ring_free(NULL);
}

static void the_oldest_gives_way_by_count(void **state) {
    event_ring_t *ring = ring_new(10, 100000);
    for (int i = 0; i < 25; i++)
        add(ring, 20);
    uint64_t serial;
    assert_int_equal(ring_count(ring), 10);
    ring_at(ring, 0, &serial);
    assert_int_equal(serial, 16);
    check(ring);
    ring_free(ring);
}

static void the_oldest_gives_way_by_bytes(void **state) {
    event_ring_t *ring = ring_new(1000, 1000);
    for (int i = 0; i < 100; i++)
        add(ring, 90);
    uint64_t serial;
    assert_int_equal(ring_count(ring), 11);
    ring_at(ring, ring_count(ring) - 1, &serial);
    assert_int_equal(serial, 100);
    check(ring);
    ring_free(ring);
}

static void one_too_large_is_counted_and_not_kept(void **state) {
    event_ring_t *ring = ring_new(10, 1000);
    add(ring, 100);
    add(ring, 251);
    add(ring, 250);
    assert_int_equal(ring_serial(ring), 3);
    assert_int_equal(ring_count(ring), 2);
    check(ring);
    ring_free(ring);
}

static void skipped_events_leave_a_hole_in_the_numbers(void **state) {
    event_ring_t *ring = ring_new(10, 1000);
    add(ring, 5);
    ring_skip(ring, 100);
    add(ring, 5);
    assert_int_equal(ring_serial(ring), 102);
    assert_int_equal(ring_from(ring, 1), 0);
    assert_int_equal(ring_from(ring, 2), 1);
    assert_int_equal(ring_from(ring, 102), 1);
    assert_int_equal(ring_from(ring, 103), 2);
    check(ring);
    ring_free(ring);
}

static void any_mix_of_sizes_stays_whole(void **state) {
    srandom(7);
    for (int round = 0; round < 20; round++) {
        event_ring_t *ring = ring_new(1 + (uint32_t) random() % 60, 400 + (uint32_t) random() % 8000);
        for (int i = 0; i < 2000; i++) {
            add(ring, 1 + (uint32_t) random() % (random() % 4 ? 60 : 1500));
            if (i % 37 == 0)
                check(ring);
        }
        check(ring);
        ring_free(ring);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_ring_is_empty),
        cmocka_unit_test(the_oldest_gives_way_by_count),
        cmocka_unit_test(the_oldest_gives_way_by_bytes),
        cmocka_unit_test(one_too_large_is_counted_and_not_kept),
        cmocka_unit_test(skipped_events_leave_a_hole_in_the_numbers),
        cmocka_unit_test(any_mix_of_sizes_stays_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
