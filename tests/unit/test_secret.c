/* Which names and values are secrets, and texts without them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/secret.h"

static secrets_t secrets;

static int clear(void **state) {
    secrets_fini(&secrets);
    return 0;
}

static void masked(const char *text, const char *expected) {
    buf_t out = {0};
    secrets_put_masked(&secrets, &out, text_of(text), SIZE_MAX);
    assert_string_equal(buf_text(&out), expected);
    buf_fini(&out);
}

static void names_of_secrets_are_known(void **state) {
    static const char *const secret[] = {"password", "PWD", "api_key", "Ocp-Apim-Subscription-Key", "x-auth", "sig", "X-Amz-Signature", "code", "jwt",
                                         "sas", "sessionId", "access.token", "Set-Cookie", "client_secret", "key"};
    static const char *const plain[] = {"", "city", "limit", "token_file", "api-key-name", "user", "url", "---"};
    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++)
        assert_true(secret_name(text_of(secret[i])));
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        assert_false(secret_name(text_of(plain[i])));
    assert_true(secret_header_shown(text_of("content-type")));
    assert_true(secret_header_shown(text_of(" Accept ")));
    assert_false(secret_header_shown(text_of("Authorization")));
    assert_false(secret_header_shown(text_of("X-Accept")));
    assert_false(secret_header_shown((text_t){0}));
}

static void values_of_headers_are_masked_whole_and_in_part(void **state) {
    secrets_add_header(&secrets, "Authorization: Bearer abcd/efgh");
    secrets_add_header(&secrets, "Cookie: sid=s3cret; b=1234");
    secrets_add_header(&secrets, "Content-Type: application/json");
    masked("no Bearer abcd/efgh here", "no *** here");
    masked("{\"got\":\"abcd\\/efgh\"}", "{\"got\":\"***\"}");
    masked("token abcd/efgh.", "token ***.");
    masked("s3cret,1234", "***,***");
    masked("application/json: Bearer", "application/json: Bearer");
}

static void logins_are_masked_as_they_are_and_as_they_are_sent(void **state) {
    secrets_add_login(&secrets, text_of("me"), text_of("pa\"ss"));
    masked("Basic bWU6cGEic3M=; me:pa\"ss; pa\"ss; pa\\\"ss; me", "Basic ***; ***; ***; ***; me");
}

static void what_a_url_holds_is_masked(void **state) {
    secrets_add_url(&secrets, text_of("https://joe:p%40ss@h/path/long?sig=a%2Fbc&code=x12&q=Oslo&&flag#token=frag"));
    masked("p%40ss p@ss joe:p@ss am9lOnBAc3M= a%2Fbc a/bc Oslo x12 path long flag frag", "*** *** *** *** *** *** *** x12 path long flag frag");
    clear(NULL);
    secrets_add_url(&secrets, text_of("https://t0ken@h/a@bcd"));
    masked("t0ken bcd", "*** bcd");
    clear(NULL);
    secrets_add_url(&secrets, (text_t){0});
    secrets_add_url(&secrets, text_of("http://h"));
    assert_int_equal(secrets.count, 0);
}

static void overlapping_values_are_masked_together(void **state) {
    secrets_add(&secrets, text_of("abcd"));
    secrets_add(&secrets, text_of("cdefgh"));
    secrets_add(&secrets, text_of("abc"));
    masked("xabcdefghy abc abcdabcd", "x***y abc ******");
    masked("", "");
}

static void a_long_text_is_cut_behind_its_masks(void **state) {
    buf_t out = {0};
    secrets_add(&secrets, text_of("secret"));
    secrets_put_masked(&secrets, &out, text_of("xsecretyz"), 2);
    assert_string_equal(buf_text(&out), "x***");
    buf_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_secrets_are_known),
        cmocka_unit_test_teardown(values_of_headers_are_masked_whole_and_in_part, clear),
        cmocka_unit_test_teardown(logins_are_masked_as_they_are_and_as_they_are_sent, clear),
        cmocka_unit_test_teardown(what_a_url_holds_is_masked, clear),
        cmocka_unit_test_teardown(overlapping_values_are_masked_together, clear),
        cmocka_unit_test_teardown(a_long_text_is_cut_behind_its_masks, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
