/* CRC-32C: the published values, and the processor's instruction against the tables at every length and alignment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/crc32c.h"

/* RFC 3720, appendix B.4. */
static void gives_the_published_values(void **state) {
    uint8_t bytes[32];
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t) i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
    assert_int_equal(crc32c_plain(0, bytes, 32), 0x46dd794e);
    assert_int_equal(crc32c(7, NULL, 0), 7);
}

static void is_the_same_by_tables_at_every_length(void **state) {
    static uint8_t bytes[10000];
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t) ((random = random * 1664525 + 1013904223) >> 24);
    for (size_t size = 0; size + 8 < sizeof bytes; size += size < 300 ? 1 : 61)
        for (size_t start = 0; start < 8; start++) {
            uint32_t crc = crc32c_plain(random, bytes + start, size);
            assert_int_equal(crc32c(random, bytes + start, size), crc);
            assert_int_equal(crc32c_narrow(random, bytes + start, size), crc);
        }
}

static void goes_on_where_it_stopped(void **state) {
    static uint8_t bytes[9000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t) (i * 31 + i / 256);
    uint32_t whole = crc32c(5, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut += 97)
        assert_int_equal(crc32c(crc32c(5, bytes, cut), bytes + cut, sizeof bytes - cut), whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_published_values),
        cmocka_unit_test(is_the_same_by_tables_at_every_length),
        cmocka_unit_test(goes_on_where_it_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
