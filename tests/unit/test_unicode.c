/* Case of characters beyond ASCII, compared with the C library's. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <wctype.h>

#include <cmocka.h>

#include "base/unicode.h"

/* Whole blocks in which nothing may be missing; outside of them what is mapped must be right. */
static bool complete(uint32_t code) {
    return (code >= 0x80 && code < 0x180) || (code >= 0x386 && code < 0x3CF) || (code >= 0x400 && code < 0x530) || (code >= 0x531 && code < 0x557) ||
           (code >= 0x1E00 && code < 0x1E96) || (code >= 0x1EA0 && code < 0x1F00);
}

static void case_is_that_of_the_c_library(void **state) {
    locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    assert_non_null(locale);
    unsigned mapped = 0;
    for (uint32_t code = 0; code < 0x11000; code++) {
        uint32_t lower = unicode_lower(code), upper = unicode_upper(code);
        if (lower != code || complete(code) || code < 0x80)
            assert_int_equal(lower, towlower_l((wint_t) code, locale));
        if (upper != code || complete(code) || code < 0x80)
            assert_int_equal(upper, towupper_l((wint_t) code, locale));
        mapped += lower != code;
    }
    assert_true(mapped > 500);
    freelocale(locale);
}

static void a_mapped_character_takes_no_more_bytes(void **state) {
    for (uint32_t code = 0; code < 0x110000; code++) {
        char text[4], other[4];
        unsigned size = unicode_put(text, code), taken;
        assert_true(unicode_put(other, unicode_lower(code)) <= size);
        assert_true(unicode_put(other, unicode_upper(code)) <= size);
        assert_int_equal(unicode_get(text, size, &taken), code);
        assert_int_equal(taken, size);
    }
}

static void bytes_that_are_no_utf8_stand_for_themselves(void **state) {
    static const char *const bad[] = {"\x80", "\xC0\x80", "\xC3", "\xE2\x82", "\xE2" "AB", "\xF5\x80\x80\x80", "\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        unsigned taken;
        assert_int_equal(unicode_get(bad[i], strlen(bad[i]), &taken), (unsigned char) bad[i][0]);
        assert_int_equal(taken, 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_is_that_of_the_c_library),
        cmocka_unit_test(a_mapped_character_takes_no_more_bytes),
        cmocka_unit_test(bytes_that_are_no_utf8_stand_for_themselves),
    };
    return cmocka_run_group_tests_name("unicode", tests, NULL, NULL);
}
