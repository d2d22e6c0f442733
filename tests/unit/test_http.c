/* What the HTTP client shows of URLs, waiting times between attempts, and requests that cannot work. The client at work
 * against real servers is a matter of tests/scenario/test_ingest_http.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/clock.h"
#include "net/backoff.h"
#include "net/http.h"

static void waiting_doubles_up_to_the_maximum_and_varies(void **state) {
    backoff_t backoff = {.minimum = 1000, .maximum = 60000};
    int64_t whole = 1000;
    bool varies = false;
    for (int i = 0; i < 100; i++) {
        int64_t wait = backoff_next(&backoff);
        assert_true(wait >= whole / 2 && wait <= whole);
        varies |= wait != whole;
        whole = whole * 2 > 60000 ? 60000 : whole * 2;
    }
    assert_true(varies);
    backoff_reset(&backoff);
    assert_true(backoff_next(&backoff) <= 1000);
}

static void never_called(void *argument, const http_response_t *response) {
    fail_msg("done was called");
}

static void other_schemes_are_refused(void **state) {
    loop_t *loop = loop_new();
    http_t *http = http_new(loop);
    const char *urls[] = {"file:///etc/passwd", "ftp://example.com/", "httpx://a/", "", "//a/b"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        err_t err = {{0}};
        http_request_t request = {.url = urls[i], .done = never_called};
        assert_null(http_start(http, &request, &err));
        assert_non_null(strstr(err.text, "http"));
    }
    http_free(http);
    loop_free(loop);
}

static void cancelled_transfer_never_reports(void **state) {
    loop_t *loop = loop_new();
    http_t *http = http_new(loop);
    http_request_t request = {.url = "http://127.0.0.1:1/", .done = never_called};
    http_transfer_t *transfer = http_start(http, &request, NULL);
    assert_non_null(transfer);
    http_cancel(transfer);
    assert_non_null(http_start(http, &request, NULL)); /* left for http_free */
    http_free(http);
    loop_free(loop);
}

typedef struct answer {
    loop_t *loop;
    int status;
    char error[256];
} answer_t;

static void on_answer(void *argument, const http_response_t *response) {
    answer_t *answer = argument;
    answer->status = response->status;
    snprintf(answer->error, sizeof answer->error, "%s", response->error ? response->error : "");
    assert_int_equal(response->body.size, 0);
    assert_int_equal(http_header(response, "ETag").size, 0);
    loop_stop(answer->loop);
}

static void unreachable_server_is_an_error_in_words(void **state) {
    answer_t answer = {.loop = loop_new(), .status = -1};
    http_t *http = http_new(answer.loop);
    http_request_t request = {.url = "http://127.0.0.1:1/", .timeout = 20 * NS_PER_S, .done = on_answer, .argument = &answer};
    assert_non_null(http_start(http, &request, NULL));
    loop_run(answer.loop);
    assert_int_equal(answer.status, 0);
    assert_non_null(strstr(answer.error, "127.0.0.1"));
    http_free(http);
    loop_free(answer.loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_doubles_up_to_the_maximum_and_varies),
        cmocka_unit_test(other_schemes_are_refused),
        cmocka_unit_test(cancelled_transfer_never_reports),
        cmocka_unit_test(unreachable_server_is_an_error_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
