/* The protocol of WebSocket: frames, however they are cut and compressed; the handshake (with the examples of RFC 6455 and RFC 7692); and addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../cmd/ingest/websocket_frame.h"
#include "../../cmd/ingest/websocket_handshake.h"
#include "../../cmd/ingest/websocket_url.h"
#include "base/memory.h"

typedef struct input {
    const char *bytes;
    size_t size;
} input_t;

#define INPUT(literal) ((input_t){literal, sizeof literal - 1})

static const char *const type_names[] = {"", "message", "too large", "ping", "pong", "close", "broken"};

static char *read_all(input_t input, size_t piece, uint64_t limit, bool deflate, bool reset) {
    ws_reader_t reader = {.limit = limit};
    buf_t out = {0};
    ws_event_t event = {0};
    size_t start = 0, end = 0;
    ws_reader_begin(&reader, deflate, reset);
    while (event.type != WS_BROKEN && end < input.size) {
        end = input.size - end < piece ? input.size : end + piece;
        char *exact = mem_copy(input.bytes + start, end - start);
        size_t used = 0;
        do {
            used += ws_read(&reader, exact + used, end - start - used, &event);
            assert_true(used <= end - start);
            if (!event.type)
                break;
            buf_format(&out, "%s", type_names[event.type]);
            if (event.code)
                buf_format(&out, " %u", event.code);
            buf_format(&out, "%s %.*s\n", event.binary ? " binary" : "", (int) event.data.size, event.data.size ? event.data.data : "");
        } while (event.type != WS_BROKEN);
        start += used;
        mem_free(exact);
    }
    ws_reader_fini(&reader);
    buf_text(&out);
    return (char *) buf_take(&out);
}

static void check(input_t input, uint64_t limit, bool deflate, bool reset, const char *expected) {
    for (size_t piece = 1; piece <= input.size; piece++) {
        char *found = read_all(input, piece, limit, deflate, reset);
        if (strcmp(found, expected) != 0)
            fail_msg("in pieces of %zu:\n%sinstead of\n%s", piece, found, expected);
        mem_free(found);
    }
}

static void messages_come_whole(void **state) {
    check(INPUT("\x81\x05Hello\x01\x03Hel\x80\x02lo\x82\x01x\x81\x00"), 1000, false, false, "message Hello\nmessage Hello\nmessage binary x\nmessage \n");
    check(INPUT("\x01\x03Hel\x89\x02hi\x00\x00\x8a\x00\x80\x02lo"), 1000, false, false, "ping hi\npong \nmessage Hello\n");
    check(INPUT("\x81\x7e\x00\x03" "abc\x81\x7f\0\0\0\0\0\0\0\x02" "de"), 1000, false, false, "message abc\nmessage de\n");
}

static void closing_tells_code_and_reason(void **state) {
    check(INPUT("\x88\x00"), 1000, false, false, "close 1005 \n");
    check(INPUT("\x88\x05\x03\xe9" "bye"), 1000, false, false, "close 1001 bye\n");
}

static void what_is_too_large_is_passed_over(void **state) {
    check(INPUT("\x81\x05Hello\x81\x02ok"), 4, false, false, "too large Hell\nmessage ok\n");
    check(INPUT("\x01\x03Hel\x00\x03lo \x80\x02xy\x81\x04okay"), 4, false, false, "too large Hell\nmessage okay\n");
}

static void compressed_messages_are_inflated(void **state) {
    /* RFC 7692, 7.2.3.1 to 7.2.3.4: one block; the window of the message before; without compression; a last block */
    check(INPUT("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00"), 1000, true, false, "message Hello\nmessage Hello\n");
    check(INPUT("\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00"), 1000, true, true, "message Hello\n");
    check(INPUT("\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00\x81\x01x"), 1000, true, false, "message Hello\nmessage x\n");
    check(INPUT("\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"), 1000, true, true, "message Hello\nmessage Hello\n");
    check(INPUT("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00\x81\x02ok"), 4, true, false, "too large Hell\ntoo large Hell\nmessage ok\n");
    check(INPUT("\xc1\x04\xff\xff\xff\xff"), 1000, true, false, "broken 1007 \n");
}

static void what_is_not_allowed_is_broken(void **state) {
    static const input_t inputs[] = {
        {"\x81\x80" "abcd", 6}, {"\xc1\x01x", 3}, {"\x91\x01x", 3}, {"\x83\x01x", 3}, {"\x8b\x00", 2}, {"\x80\x01x", 3}, {"\x01\x01x\x81\x01y", 6},
        {"\x09\x01x", 3}, {"\x88\x7e\x00\x80", 4}, {"\x81\x7f\x80\0\0\0\0\0\0\0", 10},
    };
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        char *found = read_all(inputs[i], 100, 1000, false, false);
        if (strncmp(found, "broken 100", 10) != 0)
            fail_msg("%zu: %s", i, found);
        mem_free(found);
    }
}

static void our_frames_are_masked(void **state) {
    static const size_t sizes[] = {0, 5, 125, 126, 65535, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *payload = mem_zero(sizes[i] + 1);
        memset(payload, 'x', sizes[i]);
        buf_t out = {0};
        ws_put_frame(&out, WS_OP_TEXT, text_make(payload, sizes[i]));
        size_t extra = sizes[i] > 65535 ? 8 : sizes[i] > 125 ? 2 : 0, head = 2 + extra, length = 0;
        assert_int_equal(out.data[0], 0x81);
        assert_true(out.data[1] & 0x80);
        for (size_t j = 0; j < extra; j++)
            length = length << 8 | out.data[2 + j];
        assert_int_equal(extra ? length : out.data[1] & 127, sizes[i]);
        assert_int_equal(out.size, head + 4 + sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(out.data[head + 4 + j] ^ out.data[head + j % 4], 'x');
        buf_fini(&out);
        mem_free(payload);
    }
}

#define AGREED "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

static int answered(const char *text, ws_answer_t *answer) {
    char *name = (char[]){"chat"};
    option_list_t protocols = {&name, 1};
    ws_request_t request = {.key = "dGhlIHNhbXBsZSBub25jZQ==", .protocols = &protocols, .deflate = true};
    err_t err;
    return ws_read_answer(answer, &request, text_of(text), &err);
}

static void answers_agree_or_are_refused(void **state) {
    ws_answer_t answer;
    assert_int_equal(answered(AGREED "\r\nrest", &answer), 1);
    assert_true(answer.status == 101 && answer.size == strlen(AGREED) + 2 && !answer.deflate);
    assert_int_equal(answered(AGREED "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n", &answer), 1);
    assert_true(answer.deflate && answer.reset);
    assert_int_equal(answered(AGREED "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n\r\n", &answer), 1);
    assert_true(answer.deflate && !answer.reset);
    assert_int_equal(answered("HTTP/1.1 503 No\r\nRetry-After: 7\r\n\r\n", &answer), 1);
    assert_true(answer.status == 503 && answer.retry_after == 7);
    assert_int_equal(answered("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", &answer), 1);
    assert_true(text_is(answer.location, "/x"));
    static const char *const partial[] = {"", "HTT", "HTTP/1.1 101", AGREED, AGREED "\r"};
    for (size_t i = 0; i < sizeof partial / sizeof *partial; i++)
        assert_int_equal(answered(partial[i], &answer), 0);
    static const char *const bad[] = {"SSH-2.0", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 101 X\r\n\r\n", AGREED "Sec-WebSocket-Protocol: other\r\n\r\n",
                                      AGREED "Sec-WebSocket-Extensions: x\r\n\r\n", AGREED "Sec-WebSocket-Extensions: permessage-deflate; x=1\r\n\r\n",
                                      "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(answered(bad[i], &answer), -1);
}

static void requests_say_what_they_must(void **state) {
    char *items[] = {(char[]){"X-A: b"}, (char[]){"user-agent: me"}}, *names[] = {(char[]){"p"}, (char[]){"q"}};
    option_list_t headers = {items, 2}, protocols = {names, 2};
    ws_request_t request = {.authority = "h:1", .target = "/t?q", .key = "KEY", .headers = &headers, .protocols = &protocols, .user = "a", .password = "b",
                            .api_key = "k", .api_key_name = "X-K", .deflate = true};
    buf_t out = {0};
    ws_put_request(&out, &request);
    assert_string_equal(buf_text(&out), "GET /t?q HTTP/1.1\r\nHost: h:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: KEY\r\n"
                                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: p, q\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
                                        "Authorization: Basic YTpi\r\nX-K: k\r\nX-A: b\r\nuser-agent: me\r\n\r\n");
    buf_fini(&out);
    char key[WS_KEY_SIZE + 1], other[WS_KEY_SIZE + 1];
    ws_make_key(key);
    ws_make_key(other);
    assert_int_equal(strlen(key), WS_KEY_SIZE);
    assert_string_not_equal(key, other);
}

static void addresses_are_taken_apart(void **state) {
    ws_place_t place, moved;
    err_t err;
    bool same;
    assert_int_equal(ws_place_read(&place, "wss://us%40er:p%3Aw@[::1]:9000/a/b?c=d#e", &err), 0);
    assert_true(place.tls && place.port == 9000);
    assert_string_equal(place.host, "::1");
    assert_string_equal(place.authority, "[::1]:9000");
    assert_string_equal(place.target, "/a/b?c=d");
    assert_string_equal(place.user, "us@er");
    assert_string_equal(place.password, "p:w");
    assert_int_equal(ws_place_move(&moved, &place, "../x", &same, &err), 0);
    assert_true(same);
    assert_string_equal(moved.target, "/x");
    ws_place_fini(&moved);
    assert_int_equal(ws_place_move(&moved, &place, "wss://other/", &same, &err), 0);
    assert_true(!same && moved.port == 443 && strcmp(moved.authority, "other") == 0);
    ws_place_fini(&moved);
    assert_int_equal(ws_place_move(&moved, &place, "ws://other/", &same, &err), -1);
    assert_int_equal(ws_place_move(&moved, &place, "ftp://other/", &same, &err), -1);
    ws_place_fini(&place);
    static const char *const bad[] = {"ws:", "ws://", "ws:host", "ws://h:0x/", "ws://h:99999/", "ws://a b/", "file:///x", "ws://h/\r\nX: y"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ws_place_read(&place, bad[i], &err), -1);
    assert_int_equal(ws_place_read(&place, "WS://h", &err), 0);
    assert_true(!place.tls && place.port == 80 && strcmp(place.target, "/") == 0);
    ws_place_fini(&place);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_whole),
        cmocka_unit_test(closing_tells_code_and_reason),
        cmocka_unit_test(what_is_too_large_is_passed_over),
        cmocka_unit_test(compressed_messages_are_inflated),
        cmocka_unit_test(what_is_not_allowed_is_broken),
        cmocka_unit_test(our_frames_are_masked),
        cmocka_unit_test(answers_agree_or_are_refused),
        cmocka_unit_test(requests_say_what_they_must),
        cmocka_unit_test(addresses_are_taken_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
