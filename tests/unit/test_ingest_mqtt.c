/* MQTT: packets as the standard has them and as they should never be, and what is acknowledged when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../cmd/ingest/mqtt_acks.h"
#include "../../cmd/ingest/server_url.h"

static void a_connect_packet_is_what_the_standard_shows(void **state) {
    buf_t out = {0};
    mqtt_connect_t connect = {.version = MQTT_3_1_1, .client = "c", .user = "u", .password = "p", .clean = true, .keepalive = 10};
    mqtt_put_connect(&out, &connect);
    static const uint8_t three[] = {0x10, 19, 0, 4, 'M', 'Q', 'T', 'T', 4, 0xC2, 0, 10, 0, 1, 'c', 0, 1, 'u', 0, 1, 'p'};
    assert_int_equal(out.size, sizeof three);
    assert_memory_equal(out.data, three, sizeof three);
    buf_clear(&out);
    connect = (mqtt_connect_t){.version = MQTT_5_0, .client = "c", .expiry = 0x01020304, .receive_max = 0x0506, .packet_max = 0x0708090A};
    mqtt_put_connect(&out, &connect);
    static const uint8_t five[] = {0x10, 27, 0, 4, 'M', 'Q', 'T', 'T', 5, 0, 0, 0, 13, 0x11, 1, 2, 3, 4, 0x21, 5, 6, 0x27, 7, 8, 9, 10, 0, 1, 'c'};
    assert_int_equal(out.size, sizeof five);
    assert_memory_equal(out.data, five, sizeof five);
    buf_fini(&out);
}

static void every_cut_and_every_changed_byte_is_read_within_bounds(void **state) {
    static const uint8_t packets[][32] = {
        {0x3D, 17, 0, 3, 'a', '/', 'b', 0, 7, 5, 0x1F, 0, 2, 'n', 'o', '{', '}', 'x', 'y'}, {0x20, 8, 1, 0, 5, 0x13, 0, 9, 0x25, 1},
        {0x90, 5, 0, 1, 0, 1, 2}, {0x62, 2, 0, 9}, {0xE0, 7, 0x8E, 5, 0x1F, 0, 2, 'n', 'o'},
    };
    for (size_t p = 0; p < sizeof packets / sizeof *packets; p++) {
        size_t size = packets[p][1] + 2u;
        for (size_t cut = 2; cut <= size; cut++) {
            for (unsigned change = 0; change < 256 * cut; change++) {
                uint8_t *copy = mem_zero(cut); /* of its exact size, for the sanitizers */
                mqtt_packet_t packet;
                err_t err;
                memcpy(copy, packets[p], cut);
                copy[change / 256] = (uint8_t) change;
                for (int version = MQTT_3_1_1; version <= MQTT_5_0; version++) {
                    if (mqtt_packet_read(&packet, (mqtt_version_t) version, copy, cut, &err) == 0 && packet.type == MQTT_PUBLISH)
                        assert_true(packet.payload.data + packet.payload.size <= (char *) copy + cut);
                }
                mem_free(copy);
            }
        }
    }
}

static mqtt_packet_t read_packet(mqtt_version_t version, const char *bytes, size_t size) {
    mqtt_packet_t packet;
    err_t err;
    assert_int_equal(mqtt_packet_read(&packet, version, (const uint8_t *) bytes, size, &err), 0);
    return packet;
}
#define READ(version, bytes) read_packet(version, bytes, sizeof bytes - 1)

static void packets_mean_what_the_standard_says(void **state) {
    mqtt_packet_t publish = READ(MQTT_5_0, "\x3D\x11\0\3a/b\0\x07\5\x1F\0\2no{}xy");
    assert_true(publish.type == MQTT_PUBLISH && publish.qos == 2 && publish.again && publish.retained && publish.id == 7);
    assert_true(text_is(publish.topic, "a/b") && text_is(publish.payload, "{}xy") && text_is(publish.why, "no"));
    publish = READ(MQTT_3_1_1, "\x30\x04\0\1t7");
    assert_true(publish.qos == 0 && !publish.again && !publish.retained && publish.id == 0);
    assert_true(text_is(publish.topic, "t") && text_is(publish.payload, "7"));
    assert_int_equal(READ(MQTT_3_1_1, "\x30\x03\0\1t").payload.size, 0);
    mqtt_packet_t welcome = READ(MQTT_5_0, "\x20\x08\1\0\5\x13\0\x09\x25\1");
    assert_true(welcome.type == MQTT_CONNACK && welcome.session && !welcome.reason && welcome.keepalive == 9);
    assert_int_equal(READ(MQTT_5_0, "\x20\x02\0\1").reason, 1);             /* by a server that does not know 5.0 */
    mqtt_packet_t subscribed = READ(MQTT_3_1_1, "\x90\x04\1\2\1\x80");
    assert_true(subscribed.type == MQTT_SUBACK && subscribed.id == 0x0102 && subscribed.codes.size == 2 && (uint8_t) subscribed.codes.data[1] == 0x80);
    assert_int_equal(READ(MQTT_3_1_1, "\x62\x02\0\x09").id, 9);
    mqtt_packet_t farewell = READ(MQTT_5_0, "\xE0\x07\x8E\5\x1F\0\2no");
    assert_true(farewell.type == MQTT_DISCONNECT && farewell.reason == 0x8E && text_is(farewell.why, "no"));
    assert_int_equal(READ(MQTT_5_0, "\xE0\0").reason, 0);
}

static void malformed_packets_are_refused(void **state) {
    static const struct { mqtt_version_t version; const char *bytes; size_t size; } bad[] = {
#define BAD(version, bytes) {version, bytes, sizeof bytes - 1}
        BAD(MQTT_3_1_1, "\x30\x02\0\0"), BAD(MQTT_3_1_1, "\x30\x04\0\2#x"), BAD(MQTT_3_1_1, "\x30\x03\0\1+"), BAD(MQTT_3_1_1, "\x30\x03\0\1\0"),
        BAD(MQTT_3_1_1, "\x30\x03\0\1\xFF"), BAD(MQTT_3_1_1, "\x36\x05\0\1t\0\1"), BAD(MQTT_3_1_1, "\x32\x05\0\1t\0\0"),
        BAD(MQTT_3_1_1, "\x30\x03\0\2t"), BAD(MQTT_3_1_1, "\x62\x02\0\0"), BAD(MQTT_3_1_1, "\x62\x01\1"), BAD(MQTT_3_1_1, "\x10\x00"),
        BAD(MQTT_3_1_1, "\x00\x00"), BAD(MQTT_3_1_1, "\xF0\x00"), BAD(MQTT_5_0, "\x30\x05\0\1t\1\x7F"), BAD(MQTT_5_0, "\x30\x05\0\1t\x80\x80"),
        BAD(MQTT_5_0, "\x30\x06\0\1t\2\x13\0"), BAD(MQTT_5_0, "\xE0\x03\0\5\x1F"), BAD(MQTT_3_1_1, "\x20\x01\0"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mqtt_packet_t packet;
        err_t err;
        if (mqtt_packet_read(&packet, bad[i].version, (const uint8_t *) bad[i].bytes, bad[i].size, &err) != -1)
            fail_msg("number %zu was taken", i);
    }
}

static void the_head_of_a_message_too_large_tells_which_it_is(void **state) {
    buf_t bytes = {0};
    mqtt_packet_t packet;
    err_t err;
    buf_put(&bytes, "\x32\xFF\xFF\xFF\x7F\0\3a/b\0\x09", 12);
    for (int i = 0; i < MQTT_HEAD_MAX; i++)
        buf_put_byte(&bytes, 'x');
    for (int version = MQTT_3_1_1; version <= MQTT_5_0; version++) {
        assert_int_equal(mqtt_publish_head(&packet, (mqtt_version_t) version, bytes.data, bytes.size, &err), 0);
        assert_true(packet.id == 9 && packet.qos == 1 && text_is(packet.topic, "a/b"));
    }
    bytes.data[0] = 0x90;
    assert_int_equal(mqtt_publish_head(&packet, MQTT_3_1_1, bytes.data, bytes.size, &err), -1);
    buf_fini(&bytes);
}

static void subscriptions_are_what_the_standard_shows(void **state) {
    static const char *const filters[] = {"a", "b/#"};
    static const uint8_t options_of[] = {1, 2};
    static const uint8_t three[] = {0x82, 12, 0, 5, 0, 1, 'a', 1, 0, 3, 'b', '/', '#', 2}, five[] = {0xA2, 11, 0, 6, 0, 0, 1, 'a', 0, 3, 'b', '/', '#'};
    buf_t out = {0};
    mqtt_put_subscribe(&out, MQTT_3_1_1, 5, filters, options_of, 2);
    assert_int_equal(out.size, sizeof three);
    assert_memory_equal(out.data, three, sizeof three);
    buf_clear(&out);
    mqtt_put_unsubscribe(&out, MQTT_5_0, 6, filters, 2);
    assert_int_equal(out.size, sizeof five);
    assert_memory_equal(out.data, five, sizeof five);
    buf_clear(&out);
    mqtt_put_ack(&out, MQTT_PUBREC, 0x0203);
    mqtt_put_empty(&out, MQTT_DISCONNECT);
    assert_memory_equal(out.data, "\x50\x02\x02\x03\xE0\x00", 6);
    buf_fini(&out);
}

static void sizes_are_known_as_soon_as_they_can_be(void **state) {
    assert_int_equal(mqtt_packet_size((const uint8_t *) "\x30", 1), 0);
    assert_int_equal(mqtt_packet_size((const uint8_t *) "\x30\x00", 2), 2);
    assert_int_equal(mqtt_packet_size((const uint8_t *) "\x30\x80", 2), 0);
    assert_int_equal(mqtt_packet_size((const uint8_t *) "\x30\x80\x01", 3), 131);
    assert_int_equal(mqtt_packet_size((const uint8_t *) "\x30\xff\xff\xff\x7f", 5), 268435455 + 5);
    assert_int_equal(mqtt_packet_size((const uint8_t *) "\x30\xff\xff\xff\xff\x01", 6), -1);
}

static void filters_are_checked(void **state) {
    static const char *const good[] = {"a", "/", "#", "+", "a/#", "+/+/#", "/a", "a/", "$share/g/a/#", "$SYS/#", "a//b"};
    static const char *const bad[] = {"", "a#", "#/a", "a/#/b", "a+", "a/+b", "$share/g", "$share//a", "$share/g/", "$share/+/a", "\xff"};
    err_t err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(mqtt_check_filter(good[i], &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(mqtt_check_filter(bad[i], &err), -1);
}

static void expect_place(const char *scheme, const server_url_t *url, const char *expected) {
    char *place = server_url_place(scheme, url->host, url->port);
    assert_string_equal(place, expected);
    mem_free(place);
}

static void addresses_are_taken_apart(void **state) {
    server_url_t url = {0};
    err_t err;
    assert_int_equal(server_url_read(&url, "//us%40er:p%3Aw@[::1]:99/a/%23", 8883, "x", &err), 0);
    assert_string_equal(url.user, "us@er");
    assert_string_equal(url.password, "p:w");
    assert_string_equal(url.host, "::1");
    assert_int_equal(url.port, 99);
    assert_string_equal(url.path, "a/#");
    server_url_fini(&url);
    assert_int_equal(server_url_read(&url, "//[::1]:9092,h:1,[::2]:9093/t", 8883, "x", &err), 0);
    assert_string_equal(url.host, "[::1]:9092,h:1,[::2]");
    assert_int_equal(url.port, 9093);
    expect_place("kafka", &url, "kafka://[::1]:9092,h:1,[::2]:9093");
    server_url_fini(&url);
    assert_int_equal(server_url_read(&url, "//[::1]:9092,h/t", 8883, "x", &err), 0);
    expect_place(NULL, &url, "[::1]:9092,h:8883");
    server_url_fini(&url);
    assert_int_equal(server_url_read(&url, "//[::1]", 8883, "x", &err), 0);
    expect_place("mqtt", &url, "mqtt://[::1]:8883");
    server_url_fini(&url);
    assert_int_equal(server_url_read(&url, "//h", 8883, "x", &err), 0);
    assert_int_equal(url.port, 8883);
    assert_string_equal(url.path, "");
    server_url_fini(&url);
    static const char *const bad[] = {"h/t", "//", "//:1/t", "//h:/t", "//h:70000/t", "//u%00@h/t", "//h/%00", "//h h/t", "//::1/t"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(server_url_read(&url, bad[i], 1883, "x", &err), -1);
}

static mqtt_packet_t message(unsigned qos, uint16_t id, bool again) {
    return (mqtt_packet_t){.type = MQTT_PUBLISH, .qos = qos, .id = id, .again = again};
}

/* Takes what may be sent: "40 1" is PUBACK of 1. */
static void expect_sent(mqtt_acks_t *acks, const char *expected) {
    buf_t out = {0}, text = {0};
    acks_put(acks, &out);
    for (size_t i = 0; i < out.size; i += 4)
        buf_format(&text, "%s%x %d", i ? "," : "", out.data[i], out.data[i + 2] << 8 | out.data[i + 3]);
    assert_string_equal(buf_text(&text), expected);
    buf_fini(&out);
    buf_fini(&text);
}

static void nothing_is_acknowledged_before_it_is_durable(void **state) {
    mqtt_acks_t acks = {0};
    mqtt_packet_t one = message(1, 1, false), two = message(2, 2, false), again = message(2, 2, true);
    acks_taken(&acks, &one);
    acks_taken(&acks, &two);
    expect_sent(&acks, "");
    acks.durable = 1;
    expect_sent(&acks, "40 1");
    acks.durable = 2;
    expect_sent(&acks, "50 2");
    assert_true(acks_known(&acks, &again));
    expect_sent(&acks, "50 2");
    acks_released(&acks, 2);
    expect_sent(&acks, "");
    assert_true(acks_known(&acks, &again));   /* the end is not told yet, so it is the same message */
    acks.durable = 3;
    expect_sent(&acks, "70 2,50 2");
    assert_false(acks_known(&acks, &two));
    acks_fini(&acks);
}

static void what_was_not_acknowledged_is_known_on_the_next_connection(void **state) {
    mqtt_acks_t acks = {0};
    mqtt_packet_t one = message(1, 1, false), one_again = message(1, 1, true), two = message(2, 2, false);
    acks_taken(&acks, &one);
    acks_taken(&acks, &two);
    acks_begin(&acks, true);
    acks.durable = 2;
    expect_sent(&acks, "");                   /* the server will send them again first */
    assert_true(acks_known(&acks, &one_again));
    assert_true(acks_known(&acks, &two));
    expect_sent(&acks, "40 1,50 2");
    assert_false(acks_known(&acks, &one_again));   /* whether that has arrived, nobody knows */
    acks_begin(&acks, false);
    assert_false(acks_known(&acks, &two));
    acks_released(&acks, 77);                 /* never heard of */
    expect_sent(&acks, "70 77");
    acks_fini(&acks);
}

static void held_messages_outlive_a_restart(void **state) {
    mqtt_acks_t acks = {0}, next = {0};
    buf_t packed = {0};
    err_t err;
    for (uint16_t id = 1; id <= 500; id++) {
        mqtt_packet_t packet = message(2, id, false);
        acks_taken(&acks, &packet);
        if (id % 5)
            acks_released(&acks, id);
    }
    acks_pack_held(&acks, &packed);
    assert_int_equal(acks_restore(&next, acks.step, text_make((char *) packed.data + 2, packed.size - 2), &err), 0);
    for (uint16_t id = 1; id <= 500; id++) {
        mqtt_packet_t packet = message(2, id, true);
        assert_int_equal(acks_known(&next, &packet), id % 5 == 0);
    }
    mqtt_acks_t damaged = {0};
    assert_int_equal(acks_restore(&damaged, 1, text_make("abc", 3), &err), -1);
    assert_int_equal(acks_restore(&damaged, UINT64_MAX, text_make("", 0), &err), -1);
    acks_fini(&damaged);
    acks_fini(&next);
    acks_fini(&acks);
    buf_fini(&packed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connect_packet_is_what_the_standard_shows),
        cmocka_unit_test(every_cut_and_every_changed_byte_is_read_within_bounds),
        cmocka_unit_test(packets_mean_what_the_standard_says),
        cmocka_unit_test(malformed_packets_are_refused),
        cmocka_unit_test(the_head_of_a_message_too_large_tells_which_it_is),
        cmocka_unit_test(subscriptions_are_what_the_standard_shows),
        cmocka_unit_test(sizes_are_known_as_soon_as_they_can_be),
        cmocka_unit_test(filters_are_checked),
        cmocka_unit_test(addresses_are_taken_apart),
        cmocka_unit_test(nothing_is_acknowledged_before_it_is_durable),
        cmocka_unit_test(what_was_not_acknowledged_is_known_on_the_next_connection),
        cmocka_unit_test(held_messages_outlive_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
