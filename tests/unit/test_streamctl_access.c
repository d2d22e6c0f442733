/* Who may ask the façade for what: Host, Origin, token. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../cmd/streamctl/facade_access.h"

static char *allowed[] = {"https://ops.example.org", "http://10.0.0.7:3000"};
static const option_list_t origins = {allowed, 2};
static const option_list_t no_origins = {NULL, 0};

static access_t on_loopback(const option_list_t *list) {
    return (access_t){.listen = "127.0.0.1", .loopback = true, .origins = list};
}

static bool is_loopback(const char *text) {
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return access_is_loopback((struct sockaddr *) &in);
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return access_is_loopback((struct sockaddr *) &in6);
}

static void loopback_addresses_are_known(void **state) {
    static const char *const yes[] = {"127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"};
    static const char *const no[] = {"0.0.0.0", "::", "128.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(is_loopback(yes[i]));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(is_loopback(no[i]));
}

static void on_loopback_only_loopback_names_are_answered(void **state) {
    access_t access = on_loopback(&no_origins);
    static const char *const yes[] = {"localhost", "localhost:5000", "LOCALHOST:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000",
                                      "app.localhost:5000"};
    static const char *const no[] = {"", ":5000", "evil.example", "evil.example:5000", "localhost.evil.example", "127.0.0.1.evil.example",
                                     "127.evil", "[::1", "[::1]x", "[::2]", "notlocalhost", "10.0.0.1:5000"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(access_host_allowed(&access, text_of(yes[i])));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(access_host_allowed(&access, text_of(no[i])));
}

static void hosts_of_allowed_origins_are_answered_too(void **state) {
    access_t access = on_loopback(&origins);
    assert_true(access_host_allowed(&access, text_of("ops.example.org")));
    assert_true(access_host_allowed(&access, text_of("10.0.0.7:5000")));
    assert_false(access_host_allowed(&access, text_of("example.org")));
}

static void beyond_loopback_any_name_may_be_ours(void **state) {
    access_t access = {.listen = "0.0.0.0", .loopback = false, .token = "x", .origins = &no_origins};
    assert_true(access_host_allowed(&access, text_of("stream.example:5000")));
    assert_false(access_host_allowed(&access, text_of("")));
}

static bool origin_allowed(const char *origin, const char *host) {
    access_t access = on_loopback(&origins);
    return access_origin_allowed(&access, text_of(origin), text_of(host));
}

static void only_our_own_and_configured_origins_change_anything(void **state) {
    assert_true(origin_allowed("", "localhost:5000"));
    assert_true(origin_allowed("http://localhost:5000", "localhost:5000"));
    assert_true(origin_allowed("HTTP://LocalHost:5000", "localhost:5000"));
    assert_true(origin_allowed("http://localhost", "localhost:80"));
    assert_true(origin_allowed("https://ops.example.org", "localhost:5000"));
    assert_true(origin_allowed("http://10.0.0.7:3000", "localhost:5000"));
    assert_false(origin_allowed("http://localhost:5001", "localhost:5000"));
    assert_false(origin_allowed("http://evil.example", "localhost:5000"));
    assert_false(origin_allowed("http://ops.example.org", "localhost:5000"));
    assert_false(origin_allowed("https://ops.example.org.evil.example", "localhost:5000"));
    assert_false(origin_allowed("null", "localhost:5000"));
    assert_false(origin_allowed("file://", "localhost:5000"));
    assert_false(origin_allowed("http://", ""));
}

static bool authorized(const char *token, const char *header) {
    access_t access = on_loopback(&no_origins);
    access.token = token;
    return access_authorized(&access, text_of(header));
}

static void the_token_is_compared_whole(void **state) {
    assert_true(authorized(NULL, ""));
    assert_true(authorized("secret", "Bearer secret"));
    assert_true(authorized("secret", "bearer  secret "));
    assert_false(authorized("secret", ""));
    assert_false(authorized("secret", "Bearer "));
    assert_false(authorized("secret", "Bearer secre"));
    assert_false(authorized("secret", "Bearer secrets"));
    assert_false(authorized("secret", "Bearer Secret"));
    assert_false(authorized("secret", "Basic secret"));
    assert_false(authorized("secret", "secret"));
    assert_false(authorized("a", "Bearer aa"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loopback_addresses_are_known),
        cmocka_unit_test(on_loopback_only_loopback_names_are_answered),
        cmocka_unit_test(hosts_of_allowed_origins_are_answered_too),
        cmocka_unit_test(beyond_loopback_any_name_may_be_ours),
        cmocka_unit_test(only_our_own_and_configured_origins_change_anything),
        cmocka_unit_test(the_token_is_compared_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
