/* The formats of web servers' access logs: what the servers write, and what anybody can make them write. */
#include "format_harness.h"

#define WHEN "[10/Oct/2000:13:55:36 -0700]"
#define AT "\"@timestamp\":\"2000-10-10T20:55:36Z\","
#define TIME "\"timestamp\":\"2000-10-10T20:55:36Z\","

static void test_common(void **state) {
    harness_check("common", NULL, "127.0.0.1 - frank " WHEN " \"GET /apache_pb.gif HTTP/1.0\" 200 2326\n\n::1 id - " WHEN " \"HEAD / HTTP/1.1\" 304 -\r\n",
                  "{" AT "\"host\":\"127.0.0.1\",\"identity\":null,\"user\":\"frank\"," TIME
                  "\"method\":\"GET\",\"path\":\"/apache_pb.gif\",\"protocol\":\"HTTP/1.0\",\"status\":200,\"size\":2326}\n"
                  "{" AT "\"host\":\"::1\",\"identity\":\"id\",\"user\":null," TIME
                  "\"method\":\"HEAD\",\"path\":\"/\",\"protocol\":\"HTTP/1.1\",\"status\":304,\"size\":null}\n");
}

static void test_combined(void **state) {
    harness_check("combined", "time=timestamp", "h - - " WHEN " \"POST /a b?x=1 HTTP/2.0\" 201 0 \"https://e.org/\" \"Mozilla/5.0 (X11)\"",
                  "{" AT "\"host\":\"h\",\"identity\":null,\"user\":null," TIME
                  "\"method\":\"POST\",\"path\":\"/a b?x=1\",\"protocol\":\"HTTP/2.0\",\"status\":201,\"size\":0,\"referrer\":\"https://e.org/\",\"agent\":\"Mozilla/5.0 (X11)\"}\n");
    harness_check("combined", NULL, "h - - " WHEN " \"GET /\" 200 5 \"-\" \"\" \"10.0.0.1\" 0.003\n",
                  "{" AT "\"host\":\"h\",\"identity\":null,\"user\":null," TIME
                  "\"method\":\"GET\",\"path\":\"/\",\"protocol\":null,\"status\":200,\"size\":5,\"referrer\":null,\"agent\":\"\",\"more\":\"\\\"10.0.0.1\\\" 0.003\"}\n");
}

static void test_escapes(void **state) {
    harness_check("combined", NULL, "h - - " WHEN " \"GET /\\\"q\\\"\\\\ HTTP/1.1\" 200 5 \"\\x22\\xc3\\xA4\\t\" \"\\xff\\\"\"\n",
                  "{" AT "\"host\":\"h\",\"identity\":null,\"user\":null," TIME "\"method\":\"GET\",\"path\":\"/\\\"q\\\"\\\\\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"size\":5,"
                  "\"referrer\":\"\\\"\xc3\xa4\\t\",\"agent\":\"\\\\xff\\\\\\\"\"}\n");
}

/* Port scanners, TLS spoken to a plain port, connections closed before a request. */
static void test_no_requests(void **state) {
    harness_check("common", NULL, "h - - " WHEN " \"\\x16\\x03\\x01\" 400 150\nh - - " WHEN " \"-\" 408 -\nh - - " WHEN " \"\" 400 0\nh - - " WHEN " \"GET\" - 0\n",
                  "{" AT "\"host\":\"h\",\"identity\":null,\"user\":null," TIME
                  "\"request\":\"\\u0016\\u0003\\u0001\",\"method\":null,\"path\":null,\"protocol\":null,\"status\":400,\"size\":150}\n"
                  "{" AT "\"host\":\"h\",\"identity\":null,\"user\":null," TIME "\"method\":null,\"path\":null,\"protocol\":null,\"status\":408,\"size\":null}\n"
                  "{" AT "\"host\":\"h\",\"identity\":null,\"user\":null," TIME "\"request\":\"\",\"method\":null,\"path\":null,\"protocol\":null,\"status\":400,\"size\":0}\n"
                  "{" AT "\"host\":\"h\",\"identity\":null,\"user\":null," TIME "\"request\":\"GET\",\"method\":null,\"path\":null,\"protocol\":null,\"status\":null,\"size\":0}\n");
}

static void test_who(void **state) {
    harness_check("common", NULL, "www.e.org:443 h - - " WHEN " \"GET / HTTP/1.1\" 200 1\nh - a [b] c " WHEN " \"GET / HTTP/1.1\" 200 1\n2001:db8::1 - x y " WHEN " \"GET /\" 200 1\n",
                  "{" AT "\"server\":\"www.e.org:443\",\"host\":\"h\",\"identity\":null,\"user\":null," TIME
                  "\"method\":\"GET\",\"path\":\"/\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"size\":1}\n"
                  "{" AT "\"host\":\"h\",\"identity\":null,\"user\":\"a [b] c\"," TIME "\"method\":\"GET\",\"path\":\"/\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"size\":1}\n"
                  "{" AT "\"host\":\"2001:db8::1\",\"identity\":null,\"user\":\"x y\"," TIME "\"method\":\"GET\",\"path\":\"/\",\"protocol\":null,\"status\":200,\"size\":1}\n");
}

static void test_times(void **state) {
    harness_check("common", NULL,
                  "h - - [29/Feb/2024:23:59:60 +0530] \"-\" 200 1\nh - - [2024-02-29T12:00:00+01:00] \"-\" 200 1\nh - - [31/Jun/2024:00:00:00 +0000] \"-\" 200 1\n"
                  "h - - [01/jun/2024:00:00:00 +0000] \"-\" 200 1\nh - - [01/Jun/2024:24:00:00 +0000] \"-\" 200 1\nh - - [01/Jun/1969:00:00:00 +0000] \"-\" 200 1\n",
                  "{\"@timestamp\":\"2024-02-29T18:30:00Z\",\"host\":\"h\",\"identity\":null,\"user\":null,\"timestamp\":\"2024-02-29T18:30:00Z\","
                  "\"method\":null,\"path\":null,\"protocol\":null,\"status\":200,\"size\":1}\n"
                  "{\"@timestamp\":\"2024-02-29T11:00:00Z\",\"host\":\"h\",\"identity\":null,\"user\":null,\"timestamp\":\"2024-02-29T11:00:00Z\","
                  "\"method\":null,\"path\":null,\"protocol\":null,\"status\":200,\"size\":1}\n"
                  "bad 3: expected HOST IDENTITY USER [TIME] and more\nbad 4: expected HOST IDENTITY USER [TIME] and more\n"
                  "bad 5: expected HOST IDENTITY USER [TIME] and more\nbad 6: expected HOST IDENTITY USER [TIME] and more\n");
}

static void test_bad_lines_cost_only_themselves(void **state) {
    static const struct { const char *line, *reason; } bad[] = {
        {"nothing", "expected HOST IDENTITY USER [TIME] and more"},
        {"h - - [", "expected HOST IDENTITY USER [TIME] and more"},
        {WHEN " \"-\" 200 1", "expected HOST IDENTITY USER [TIME] and more"},
        {"h - " WHEN " \"-\" 200 1", "expected HOST IDENTITY USER [TIME] and more"},
        {"h - - " WHEN " ", "expected the request in quotes behind the time"},
        {"h - - " WHEN " GET / 200 1", "expected the request in quotes behind the time"},
        {"h - - " WHEN " \"GET /\\\" 200 1", "expected the request in quotes behind the time"},
        {"h - - " WHEN " \"GET /\"x 200 1", "expected the request in quotes behind the time"},
        {"h - - " WHEN " \"GET /\" 20 1", "expected a status of three digits, or -, behind the request"},
        {"h - - " WHEN " \"GET /\"", "expected a status of three digits, or -, behind the request"},
        {"h - - " WHEN " \"GET /\" 200", "expected a number of bytes, or -, behind the status"},
        {"h - - " WHEN " \"GET /\" 200 9999999999999999999", "expected a number of bytes, or -, behind the status"},
        {"h - - " WHEN " \"GET /\" 200 1", "expected referrer and user agent in quotes at the end; --format common has none"},
        {"h - - " WHEN " \"GET /\" 200 1 \"\\\" \"", "expected referrer and user agent in quotes at the end; --format common has none"},
        {"h - - " WHEN " \"GET /\xff\" 200 1 \"-\" \"-\"", "invalid UTF-8 or a NUL byte"},
    };
    buf_t text = {0}, expected = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_format(&text, "%s\n", bad[i].line);
        buf_format(&expected, "bad %zu: %s\n", i + 1, bad[i].reason);
    }
    harness_check("combined", NULL, buf_text(&text), buf_text(&expected));
    harness_check("combined", "max-record=16", "a line that is too long\nshort\n", "bad 1: longer than 16 bytes (--max-record)\nbad 2: expected HOST IDENTITY USER [TIME] and more\n");
    buf_fini(&text);
    buf_fini(&expected);
}

static void test_another_time_is_refused(void **state) {
    format_settings_t settings;
    decoder_t *decoder;
    err_t err;
    harness_defaults(&settings);
    harness_set(&settings, "time", "ts");
    assert_int_equal(format_find("combined")->decoder_open(&decoder, &settings, &err), -1);
    assert_string_equal(err.text, "--time ts: a line of the format \"combined\" has its time in the field timestamp");
    option_fini(format_options, &settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_common), cmocka_unit_test(test_combined), cmocka_unit_test(test_escapes), cmocka_unit_test(test_no_requests), cmocka_unit_test(test_who),
        cmocka_unit_test(test_times), cmocka_unit_test(test_bad_lines_cost_only_themselves), cmocka_unit_test(test_another_time_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
