/* Heads of HTTP requests: good ones, and all that leaves room for two readings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../cmd/ingest/http_head.h"

static http_head_t head;
static const char *why;

static int status_of(const char *text) {
    return http_head_read(&head, text_of(text), &why);
}

static void what_a_head_says(void **state) {
    assert_int_equal(status_of("POST /hook/x?a=b&c HTTP/1.1\r\nHost: x\r\nAuthorization:  Bearer s \r\ncontent-TYPE: text/plain; a=b\r\n"
                               "Content-Length: 12\r\nExpect: 100-Continue\r\nContent-Encoding: gzip\r\nX-Other: \t"), 0);
    assert_true(text_is(head.method, "POST") && text_is(head.path, "/hook/x") && text_is(head.query, "a=b&c"));
    assert_true(text_is(head.authorization, "Bearer s") && text_is(head.content_type, "text/plain; a=b") && text_is(head.content_encoding, "gzip"));
    assert_true(head.has_length && head.length == 12 && !head.chunked && head.expects && head.keep && !head.old);
    assert_int_equal(status_of("GET http://host:80 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nConnection: Foo, close"), 0);
    assert_true(text_is(head.path, "/") && head.chunked && !head.keep && !head.query.size);
    assert_int_equal(status_of("GET http://host/a?b HTTP/1.0\r\nConnection: Keep-Alive"), 0);
    assert_true(text_is(head.path, "/a") && text_is(head.query, "b") && head.old && head.keep);
    assert_int_equal(status_of("OPTIONS * HTTP/1.0"), 0);
    assert_false(head.keep);
}

static void what_is_refused(void **state) {
    static const struct { const char *text; int status; } bad[] = {
        {"", 400}, {"GET", 400}, {"GET /", 400}, {"GET / HTTP/1.1", 400}, {"GET  / HTTP/1.1\r\nHost: x", 400}, {"GET / HTTP/1.1 \r\nHost: x", 400},
        {"GET / HTTP/2.0\r\nHost: x", 505}, {"GET / http/1.1\r\nHost: x", 400}, {"G\x01T / HTTP/1.1\r\nHost: x", 400}, {"GET a HTTP/1.1\r\nHost: x", 400},
        {"GET /\n HTTP/1.1\r\nHost: x", 400}, {"GET / HTTP/1.1\r\nHost: x\r\nHost: y", 400}, {"GET / HTTP/1.1\r\nHost: x\r\n folded", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA : b", 400}, {"GET / HTTP/1.1\r\nHost: x\r\nnothing", 400}, {"GET / HTTP/1.1\r\nHost: x\r\n: b", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d", 400}, {"GET / HTTP/1.1\r\nHost: x\r\nA: b\rC: d", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1", 400}, {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1", 400}, {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length:", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999", 400}, {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked", 501}, {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", 400}, {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nExpect: more", 417}, {"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b", 400},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (status_of(bad[i].text) != bad[i].status)
            fail_msg("%d instead of %d for: %s", status_of(bad[i].text), bad[i].status, bad[i].text);
        assert_non_null(why);
    }
    buf_t many = {0};
    buf_put_text(&many, "GET / HTTP/1.1\r\nHost: x");
    for (int i = 0; i < 100; i++)
        buf_put_text(&many, "\r\nA: b");
    assert_int_equal(status_of(buf_text(&many)), 431);
    buf_fini(&many);
}

static void every_cut_is_read_within_bounds(void **state) {
    static const char text[] = "POST /h?q HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close, x\r\nContent-Type: a";
    for (size_t size = 0; size < sizeof text; size++) {
        char *exact = mem_copy(text, size);
        http_head_read(&head, text_make(exact, size), &why);
        mem_free(exact);
    }
}

static void sizes_of_chunks(void **state) {
    uint64_t size;
    assert_true(http_chunk_size(text_of("1aF"), &size) && size == 0x1af);
    assert_true(http_chunk_size(text_of("0"), &size) && size == 0);
    assert_true(http_chunk_size(text_of("5 ;x=y"), &size) && size == 5);
    assert_true(http_chunk_size(text_of("000000000000000a"), &size) && size == 10);
    static const char *const bad[] = {"", " 5", "x", "-1", "0x5", "5 5", "00000000000000005", "fffffffffffffff0", "5\t,"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (http_chunk_size(text_of(bad[i]), &size))
            fail_msg("%s was taken", bad[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_head_says),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(every_cut_is_read_within_bounds),
        cmocka_unit_test(sizes_of_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
