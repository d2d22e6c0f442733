/* The bounded queue of one WebSocket client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../cmd/streamctl/rest.h"
#include "../../cmd/streamctl/ws_queue.h"

static ws_message_t *message(ws_kind_t kind, int stream, uint64_t serial, size_t size) {
    ws_message_t *made = ws_message_new(kind);
    made->stream = stream;
    made->last = serial;
    buf_put_text(&made->text, "{\"a\":\"");
    for (size_t i = 0; i < size; i++)
        buf_put_byte(&made->text, 'x');
    buf_put_text(&made->text, "\"");
    ws_message_finish(made, 0);
    return made;
}

static bool put(ws_queue_t *queue, ws_message_t *made) {
    bool taken = ws_queue_put(queue, made);
    ws_message_unref(made);
    return taken;
}

static void in_order_while_there_is_room(void **state) {
    ws_queue_t queue = {0};
    for (unsigned i = 0; i < WS_QUEUE_MESSAGES; i++)
        assert_true(put(&queue, message(WS_DATA, 1, i, 10)));
    for (unsigned i = 0; i < WS_QUEUE_MESSAGES; i++) {
        ws_message_t *taken = ws_queue_take(&queue);
        assert_int_equal(taken->last, i);
        ws_message_unref(taken);
    }
    assert_null(ws_queue_take(&queue));
    assert_int_equal(queue.bytes, 0);
    assert_int_equal(queue.lost, 0);
    ws_queue_fini(&queue);
}

static void a_slow_client_keeps_the_newest_of_each_stream(void **state) {
    ws_queue_t queue = {0};
    uint64_t last[2] = {0};
    for (unsigned i = 1; i <= 5000; i++)
        assert_true(put(&queue, message(WS_DATA, (int) (i % 2), i, 1000)));
    assert_true(queue.count <= WS_QUEUE_MESSAGES);
    assert_true(queue.bytes <= WS_QUEUE_BYTES);
    assert_true(queue.lost >= 5000 - WS_QUEUE_MESSAGES);
    ws_message_t *taken;
    while ((taken = ws_queue_take(&queue))) {
        assert_true(taken->last > last[taken->stream]);
        last[taken->stream] = taken->last;
        ws_message_unref(taken);
    }
    assert_int_equal(last[0], 5000);
    assert_int_equal(last[1], 4999);
    ws_queue_fini(&queue);
}

static void large_messages_count_by_their_bytes(void **state) {
    ws_queue_t queue = {0};
    for (unsigned i = 1; i <= 200; i++)
        assert_true(put(&queue, message(WS_DATA, (int) i, i, 60000)));
    assert_true(queue.bytes <= WS_QUEUE_BYTES);
    assert_true(queue.count >= 1);
    ws_queue_fini(&queue);
}

static void of_status_and_metrics_only_the_newest_waits(void **state) {
    ws_queue_t queue = {0};
    for (unsigned i = 1; i <= 10; i++) {
        put(&queue, message(WS_STATUS, -1, i, 10));
        put(&queue, message(WS_METRICS, -1, i, 10));
    }
    assert_int_equal(queue.count, 2);
    ws_message_t *taken = ws_queue_take(&queue);
    assert_int_equal(taken->kind, WS_STATUS);
    assert_int_equal(taken->last, 10);
    ws_message_unref(taken);
    assert_int_equal(queue.lost, 0);
    ws_queue_fini(&queue);
}

static void lost_alerts_are_counted(void **state) {
    ws_queue_t queue = {0};
    for (unsigned i = 0; i < WS_QUEUE_MESSAGES + 7; i++)
        assert_true(put(&queue, message(WS_ALERT, -1, i, 10)));
    assert_int_equal(queue.count, WS_QUEUE_MESSAGES);
    assert_int_equal(queue.alerts_lost, 7);
    ws_queue_fini(&queue);
}

static void a_client_that_reads_no_answers_is_given_up(void **state) {
    ws_queue_t queue = {0};
    for (unsigned i = 0; i < WS_QUEUE_MESSAGES; i++)
        assert_true(put(&queue, message(WS_REPLY, -1, i, 10)));
    assert_false(put(&queue, message(WS_REPLY, -1, 99, 10)));
    ws_queue_fini(&queue);
}

static void what_was_missed_stands_at_the_end(void **state) {
    ws_message_t *made = message(WS_DATA, 0, 1, 2);
    buf_t text = {0};
    assert_string_equal(buf_text(&made->text) + LWS_PRE, "{\"a\":\"xx\"}");
    ws_message_with_missed(made, 12, &text);
    assert_string_equal(buf_text(&text) + LWS_PRE, "{\"a\":\"xx\",\"missed\":12}");
    ws_message_with_missed(made, 0, &text);
    assert_string_equal(buf_text(&text) + LWS_PRE, "{\"a\":\"xx\"}");
    buf_fini(&text);
    ws_message_unref(made);
}

static void routes_are_found_by_method_and_path(void **state) {
    char parameter[129], allow[64];
    assert_non_null(rest_find("POST", "/api/stream/start", parameter, allow, sizeof allow));
    const rest_route_t *events = rest_find("GET", "/api/streams/a.b-c_1/events", parameter, allow, sizeof allow);
    assert_non_null(events);
    assert_string_equal(parameter, "a.b-c_1");
    assert_null(rest_find("GET", "/api/stream/start", parameter, allow, sizeof allow));
    assert_string_equal(allow, "POST");
    assert_null(rest_find("DELETE", "/api/streams/x/events", parameter, allow, sizeof allow));
    assert_string_equal(allow, "GET, HEAD");
    static const char *const none[] = {"/", "/api/", "/api/streams//events", "/api/streams/a/b/events", "/api/streams/a/event",
                                       "/api/stream/start/", "/API/streams"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_null(rest_find("GET", none[i], parameter, allow, sizeof allow));
        assert_string_equal(allow, "");
    }
    char longest[400] = "/api/streams/";
    memset(longest + 13, 'a', 129);
    strcpy(longest + 13 + 129, "/events");
    assert_null(rest_find("GET", longest, parameter, allow, sizeof allow));
}

static void every_changing_route_is_marked(void **state) {
    for (const rest_route_t *route = rest_routes; route->method; route++)
        assert_int_equal(route->changes, strcmp(route->method, "GET") != 0);
}

static void the_page_is_embedded_whole(void **state) {
    const asset_t *page = asset_find("/");
    assert_non_null(page);
    assert_non_null(memmem(page->bytes, page->size, "</html>", 7));
    assert_non_null(asset_find("/uplot.js"));
    assert_null(asset_find("/index.htm"));
    assert_int_equal(page->packed[0], 0x1f);
    assert_int_equal(page->packed[1], 0x8b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_while_there_is_room),
        cmocka_unit_test(a_slow_client_keeps_the_newest_of_each_stream),
        cmocka_unit_test(large_messages_count_by_their_bytes),
        cmocka_unit_test(of_status_and_metrics_only_the_newest_waits),
        cmocka_unit_test(lost_alerts_are_counted),
        cmocka_unit_test(a_client_that_reads_no_answers_is_given_up),
        cmocka_unit_test(what_was_missed_stands_at_the_end),
        cmocka_unit_test(routes_are_found_by_method_and_path),
        cmocka_unit_test(every_changing_route_is_marked),
        cmocka_unit_test(the_page_is_embedded_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
