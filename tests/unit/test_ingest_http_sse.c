/* Server-Sent Events, in pieces of every size: fields, line ends of three kinds, what is too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../cmd/ingest/http_sse.h"

static char *run(const char *text, size_t size, size_t piece) {
    sse_t sse = {.limit = 40};
    buf_t out = {0};
    sse_begin(&sse);
    for (size_t at = 0; at < size; at += piece) {
        size_t end = size - at < piece ? size : at + piece;
        for (size_t from = at; from < end;) {
            bool event;
            from += sse_feed(&sse, text + from, end - from, &event);
            if (event)
                buf_format(&out, "%s%.*s|%.*s|%.*s %lld\n", sse.too_large ? "! " : "", (int) sse.id.size, (const char *) sse.id.data, (int) sse.name.size,
                           (const char *) sse.name.data, (int) sse.data.size, (const char *) sse.data.data, (long long) sse.retry);
        }
    }
    sse_fini(&sse);
    buf_text(&out);
    return (char *) buf_take(&out);
}

static void expect(const char *text, size_t size, const char *expected) {
    for (size_t piece = 1; piece <= size; piece++) {
        char *found = run(text, size, piece);
        if (strcmp(found, expected) != 0)
            fail_msg("in pieces of %zu:\n%s\ninstead of\n%s", piece, found, expected);
        mem_free(found);
    }
}
#define EXPECT(text, expected) expect(text, sizeof text - 1, expected)

static void fields(void **state) {
    EXPECT("data: a\ndata:b\ndata\n\n", "||a\nb\n -1\n");
    EXPECT("id: 1\nevent: x\ndata:  two\n\ndata: b\n\n", "1|x| two -1\n1||b -1\n");
    EXPECT("id: 1\n\nid\ndata: a\n\n", "1|| -1\n||a -1\n");
    EXPECT(": comment\nretry: 250\nother: x\ndata: a: b\n\n", "||a: b 250\n");
    EXPECT("retry: 2x\nretry: -1\nretry: 99999999999999999999\ndata: a\n\n", "||a -1\n");
    EXPECT("retry: 7200000\ndata: a\n\n", "||a 3600000\n");
    EXPECT("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", "1||a -1\n1||b -1\n");
    EXPECT("data: not complete\n", "");
}

static void line_ends(void **state) {
    EXPECT("\xef\xbb\xbf" "data: a\r\ndata: b\r\n\r\n", "||a\nb -1\n");
    EXPECT("data: a\rdata: b\r\r", "||a\nb -1\n");
    EXPECT("data: a\r\n\ndata: b\n\r", "||a -1\n||b -1\n");
}

static void what_is_too_long(void **state) {
    EXPECT("data: 0123456789012345678901234567890123456789\n\ndata: a\n\n", "! || -1\n||a -1\n");
    EXPECT("data: 01234567890123456789\ndata: 01234567890123456789\n\ndata: a\n\n", "! ||01234567890123456789 -1\n||a -1\n");
    EXPECT(": 0123456789012345678901234567890123456789012345\ndata: a\n\n", "! ||a -1\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fields), cmocka_unit_test(line_ends), cmocka_unit_test(what_is_too_long)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
