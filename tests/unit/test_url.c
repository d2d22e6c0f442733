/* URLs in messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/url.h"

static void shown(const char *url, const char *expected) {
    buf_t out = {0};
    url_put_redacted(&out, text_of(url));
    assert_string_equal(buf_text(&out), expected);
    buf_fini(&out);
}

static void user_and_password_are_not_shown(void **state) {
    shown("https://me:secret@example.com/a?b=1", "https://***@example.com/a?b=1");
    shown("https://me@example.com", "https://***@example.com");
    shown("http://a:p@ss@example.com/x@y", "http://***@example.com/x@y");
    shown("mqtt://:secret@host/x", "mqtt://***@host/x");
    shown("//me:secret@host/x", "//***@host/x");
    shown("//me:secret@host/x?to=a://b@c", "//***@host/x?to=a://b@c");
    shown("postgres://me:secret@host:5432/db?a=b:c@d", "postgres://***@host:5432/db?a=b:c@d");
}

static void query_parameters_that_look_secret_are_not_shown(void **state) {
    shown("http://h/p?city=Oslo&api_key=abc&limit=5", "http://h/p?city=Oslo&api_key=***&limit=5");
    shown("http://h/p?Access-Token=abc", "http://h/p?Access-Token=***");
    shown("http://h/p?sig=a%20b&flag", "http://h/p?sig=***&flag");
    shown("http://h/p?a=1#token=abc", "http://h/p?a=1");
    shown("http://h/p#token=abc", "http://h/p");
}

static void a_fragment_is_shown_only_with_the_whole(void **state) {
    buf_t out = {0};
    shown("http://h/p?sas=abc#token=abc&from=a", "http://h/p?sas=***");
    url_put_redacted_whole(&out, text_of("http://h/p?sas=abc#token=abc&from=a"));
    assert_string_equal(buf_text(&out), "http://h/p?sas=***#token=***&from=a");
    buf_fini(&out);
}

static void plain_addresses_stay_as_they_are(void **state) {
    shown("http://example.com:8080/a/b?x=1&y=2", "http://example.com:8080/a/b?x=1&y=2");
    shown("http://[::1]:80/", "http://[::1]:80/");
    shown("not a url", "not a url");
    shown("http://h/?", "http://h/?");
    shown("http://host/a:b@c", "http://host/a:b@c");
    shown("http://h/?&a&&b=", "http://h/?&a&&b=");
    shown("data.csv", "data.csv");
    shown("://", "://");
    shown("", "");
    buf_t out = {0};
    url_put_redacted(&out, (text_t){0});
    assert_int_equal(out.size, 0);
    buf_fini(&out);
}

static void what_cannot_be_shown_is_escaped(void **state) {
    shown("x://a:b\n@h\n/\x1b[2J?k\xFF=\n", "x://***@h\\n/\\x1b[2J?k\\xff=\\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_and_password_are_not_shown),
        cmocka_unit_test(query_parameters_that_look_secret_are_not_shown),
        cmocka_unit_test(a_fragment_is_shown_only_with_the_whole),
        cmocka_unit_test(plain_addresses_stay_as_they_are),
        cmocka_unit_test(what_cannot_be_shown_is_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
