/* Devices: cadence, states and news, in made-up time; the table over a restart; what streamctl sees; presence topics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "../../cmd/ingest/devices.h"
#include "../../cmd/ingest/mqtt_presence.h"
#include "base/clock.h"
#include "base/memory.h"

#define START (INT64_C(1767225600) * NS_PER_S)
#define AT(seconds) (START + (int64_t) ((seconds) * 1e9))

static devices_t *table(uint32_t limit) {
    devices_setup_t setup = {.limit = limit, .floor = 10 * NS_PER_S, .patience = 86400 * NS_PER_S, .late = 3, .offline = 10};
    devices_t *devices;
    err_t err;
    assert_int_equal(devices_new(&devices, &setup, &err), 0);
    devices_listen(devices, true, START - 1);
    return devices;
}

/* "a online, b late": takes what is to be told. */
static void expect_news(devices_t *devices, const char *expected) {
    buf_t text = {0};
    device_event_t event;
    while (devices_next(devices, &event))
        buf_format(&text, "%s%s %s", text.size ? ", " : "", event.name, device_change_names[event.change]);
    assert_string_equal(buf_text(&text), expected);
    buf_fini(&text);
}

/* The clock from one second to another, looking once a second. */
static void pass(devices_t *devices, double from, double to) {
    for (double second = from; second <= to; second++)
        devices_look(devices, AT(second));
}

/* A message every `gap` seconds with looks in between; the time of the last one. */
static double beat(devices_t *devices, const char *name, double from, double gap, int count) {
    for (int i = 0; i < count; i++) {
        devices_seen(devices, text_of(name), AT(from));
        if (i < count - 1)
            pass(devices, from, from + gap - 1);
        from += gap;
    }
    return from - gap;
}

static void silence_is_measured_against_the_interval(void **state) {
    devices_t *devices = table(10);
    double last = beat(devices, "a", 0, 60, 10);
    expect_news(devices, "a online");
    pass(devices, last, last + 179);
    expect_news(devices, "");
    pass(devices, last + 180, last + 200);
    expect_news(devices, "a late");
    pass(devices, last + 201, last + 599);
    expect_news(devices, "");
    pass(devices, last + 600, last + 5000);
    expect_news(devices, "a offline");
    devices_seen(devices, text_of("a"), AT(last + 5001));
    expect_news(devices, "a back");
    assert_int_equal(devices_count(devices, DEVICE_ONLINE), 1);
    devices_free(devices);
}

static void nobody_is_late_whose_interval_is_not_known(void **state) {
    devices_t *devices = table(10);
    double last = beat(devices, "a", 0, 60, 3);
    pass(devices, last, last + 5000);
    expect_news(devices, "a online");
    devices_look(devices, AT(last + 86401));
    expect_news(devices, "a offline");
    devices_free(devices);
}

static void bursts_do_not_flap(void **state) {
    static const struct { int burst; double within, between; } rhythms[] = {{20, 0.01, 60}, {50, 0.5, 300}, {5, 2, 60}, {3, 20, 120}, {40, 1, 3600}};
    for (size_t i = 0; i < sizeof rhythms / sizeof *rhythms; i++) {
        devices_t *devices = table(10);
        double now = 0;
        for (int round = 0; round < 60; round++) {
            for (int b = 0; b < rhythms[i].burst; b++, now += rhythms[i].within)
                devices_seen(devices, text_of("a"), AT(now));
            pass(devices, now, now + rhythms[i].between - 1);
            now += rhythms[i].between;
            if (round == 5) { /* by then it is known */
                device_event_t event;
                while (devices_next(devices, &event))
                    ;
            }
        }
        expect_news(devices, "");
        devices_free(devices);
    }
}

static void a_new_rhythm_is_learned(void **state) {
    devices_t *devices = table(10);
    double last = beat(devices, "a", 0, 60, 10);
    last = beat(devices, "a", last + 15, 15, 100);          /* quicker: known within some eight of the old intervals */
    expect_news(devices, "a online");
    pass(devices, last, last + 60);
    expect_news(devices, "a late");
    last = beat(devices, "a", last + 60, 2000, 12);         /* and far slower: some alarms at first, then none */
    device_event_t event;
    int count = 0;
    while (devices_next(devices, &event))
        count++;
    assert_in_range(count, 1, 7);
    beat(devices, "a", last + 2000, 2000, 50);
    expect_news(devices, "");
    devices_free(devices);
}

static void irregular_messages_do_not_flap(void **state) {
    devices_t *devices = table(10);
    uint64_t random = 7;
    double now = 0;
    int count = 0;
    for (int i = 0; i < 3000; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        double gap = 20 + (double) (random >> 40) / (1 << 24) * 80;      /* 20 to 100 seconds */
        devices_seen(devices, text_of("a"), AT(now));
        pass(devices, now, now + gap);
        now += gap;
    }
    device_event_t event;
    while (devices_next(devices, &event))
        count++;
    assert_int_equal(count, 1);
    devices_free(devices);
}

static void who_cannot_listen_blames_nobody(void **state) {
    devices_t *devices = table(10);
    double last = beat(devices, "a", 0, 60, 10);
    expect_news(devices, "a online");
    devices_listen(devices, false, AT(last + 1));
    pass(devices, last, last + 10000);
    devices_listen(devices, true, AT(last + 10000));
    pass(devices, last + 10000, last + 10179);
    expect_news(devices, "");
    pass(devices, last + 10180, last + 10190);
    expect_news(devices, "a late");
    devices_seen(devices, text_of("a"), AT(last + 10191));
    pass(devices, last + 10191, last + 10400);              /* nothing was learned from the long gap */
    expect_news(devices, "a back, a late");
    devices_free(devices);
}

static void presence_says_more_than_silence(void **state) {
    devices_t *devices = table(10);
    text_t a = text_of("a"), b = text_of("b");
    devices_told(devices, a, true, true, AT(0));
    devices_told(devices, b, false, true, AT(0));
    expect_news(devices, "a online, b offline");
    double last = beat(devices, "a", 1, 60, 10);
    pass(devices, last, last + 100000);
    expect_news(devices, "a late");                         /* never offline: its gateway says that it is there */
    devices_told(devices, a, true, true, AT(last + 100001));
    expect_news(devices, "");                               /* an old word that is known */
    devices_told(devices, a, false, false, AT(last + 100002));
    devices_told(devices, a, false, false, AT(last + 100003));
    expect_news(devices, "a offline");
    devices_seen(devices, a, AT(last + 100004));
    expect_news(devices, "a back");
    devices_told(devices, a, false, true, AT(last + 100005));   /* the same old word once more */
    expect_news(devices, "");
    devices_told(devices, a, false, false, AT(last + 100006));
    devices_told(devices, a, true, false, AT(last + 100007));
    expect_news(devices, "a offline, a back");
    assert_int_equal(devices_count(devices, DEVICE_OFFLINE), 1);
    devices_free(devices);
}

static void the_longest_silent_makes_room(void **state) {
    devices_t *devices = table(3);
    for (int i = 0; i < 3; i++)
        devices_seen(devices, text_make("abc" + i, 1), AT(i));
    devices_seen(devices, text_of("a"), AT(4));
    devices_seen(devices, text_of("d"), AT(5));
    expect_news(devices, "a online, b online, c online, d online");
    assert_int_equal(devices_forgotten(devices), 1);
    devices_seen(devices, text_of("a"), AT(6));
    devices_seen(devices, text_of("b"), AT(7));
    expect_news(devices, "b online");
    assert_int_equal(devices_count(devices, DEVICE_ONLINE), 3);
    devices_free(devices);
}

static void a_restart_goes_on_where_it_was(void **state) {
    devices_t *devices = table(10), *next = table(10);
    buf_t packed = {0};
    err_t err;
    double last = beat(devices, "a", 0, 60, 10);
    devices_told(devices, text_of("b"), false, false, AT(1));
    devices_seen(devices, text_of("c"), AT(2));
    expect_news(devices, "a online, b offline, c online");
    devices_pack(devices, &packed);
    assert_int_equal(devices_unpack(next, text_make((char *) packed.data, packed.size), &err), 0);
    devices_replay(next, true);                              /* what followed: a message of d, and news */
    devices_seen(next, text_of("d"), AT(last));
    device_event_t events[] = {{.name = "d", .change = CHANGE_ONLINE, .since = AT(last), .last = AT(last)},
                               {.name = "c", .change = CHANGE_OFFLINE, .reason = DEVICE_PRESENCE, .since = AT(last)}};
    for (int i = 0; i < 2; i++)
        devices_apply(next, &events[i]);
    devices_replay(next, false);
    expect_news(next, "");
    assert_int_equal(devices_count(next, DEVICE_ONLINE), 2);
    assert_int_equal(devices_count(next, DEVICE_OFFLINE), 2);
    devices_told(next, text_of("c"), false, true, AT(last + 1));
    devices_seen(next, text_of("b"), AT(last + 1));
    pass(next, last, last + 181);
    expect_news(next, "b back, a late");
    for (size_t cut = 0; cut < packed.size; cut++)
        assert_int_equal(devices_unpack(next, text_make((char *) packed.data, cut), &err), -1);
    buf_fini(&packed);
    devices_free(devices);
    devices_free(next);
}

static void streamctl_sees_the_table(void **state) {
    char path[] = "/tmp/devicesXXXXXX";
    devices_setup_t setup = {.limit = 2, .floor = NS_PER_S, .patience = NS_PER_S, .late = 3, .offline = 10, .path = path};
    devices_t *devices;
    device_view_t *views;
    uint32_t count;
    uint64_t forgotten;
    err_t err;
    close(mkstemp(path));
    assert_int_equal(devices_new(&devices, &setup, &err), 0);
    assert_int_equal(device_file_read(path, &views, &count, &forgotten, &err), 0);
    assert_int_equal(count, 0);
    mem_free(views);
    for (int i = 0; i < 600; i++)
        devices_seen(devices, text_of("a"), AT(i));
    devices_seen(devices, text_of("b"), AT(600));
    devices_seen(devices, text_of("c"), AT(601));
    devices_free(devices);
    assert_int_equal(device_file_read(path, &views, &count, &forgotten, &err), 0);
    assert_int_equal(count, 2);
    assert_int_equal(forgotten, 1);
    const device_view_t *c = &views[strcmp(views[0].name, "c") == 0 ? 0 : 1];
    assert_true(strcmp(c->name, "c") == 0 && c->first == AT(601) && c->last == AT(601) && c->messages == 1 && c->state == DEVICE_ONLINE);
    mem_free(views);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(device_file_read(path, &views, &count, &forgotten, &err), -1);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(device_file_read(path, &views, &count, &forgotten, &err), -1);
    unlink(path);
    assert_int_equal(device_file_read(path, &views, &count, &forgotten, &err), -1);
}

static void the_rate_is_that_of_the_last_minute(void **state) {
    char path[] = "/tmp/devicesXXXXXX";
    devices_setup_t setup = {.limit = 2, .floor = NS_PER_S, .patience = NS_PER_S, .late = 3, .offline = 10, .path = path};
    devices_t *devices;
    device_view_t *views;
    uint32_t count;
    uint64_t forgotten;
    err_t err;
    close(mkstemp(path));
    assert_int_equal(devices_new(&devices, &setup, &err), 0);
    for (int i = 0; i < 200; i++)
        devices_seen(devices, text_of("a"), AT(i / 10.0));    /* 20 seconds, ten a second */
    assert_int_equal(device_file_read(path, &views, &count, &forgotten, &err), 0);
    assert_true(device_rate(views, AT(20)) > 9 && device_rate(views, AT(20)) < 11);
    assert_true(device_rate(views, AT(400)) < 0.1);
    mem_free(views);
    devices_free(devices);
    unlink(path);
}

static void presence_topics_are_recognised(void **state) {
    static const struct { const char *pattern, *topic, *name; } cases[] = {
        {"tele/{device}/LWT", "tele/plug/LWT", "plug"}, {"tele/{device}/LWT", "tele/plug/STATE", NULL}, {"tele/{device}/LWT", "tele/plug/LWT/x", NULL},
        {"tele/{device}/LWT", "tele/plug", NULL}, {"tele/{device}/LWT", "tele//LWT", NULL}, {"{device}", "x", "x"},
        {"a/{device}/+/{device}", "a/b/c/d", "b/d"}, {"$share/g/t/{device}", "t/x", "x"}, {"t/{device}/", "t/x/", "x"},
    };
    buf_t name = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool found = presence_match(cases[i].pattern, text_of(cases[i].topic), &name);
        assert_int_equal(found, cases[i].name != NULL);
        if (found)
            assert_string_equal(buf_text(&name), cases[i].name);
    }
    buf_fini(&name);
    char *filter = presence_filter("a/{device}/+/{device}");
    assert_string_equal(filter, "a/+/+/+");
    mem_free(filter);
    err_t err;
    assert_int_equal(presence_check("tele/{device}/LWT", &err), 0);
    static const char *const bad[] = {"tele/LWT", "a/{device}/#", "a{device}/b", "", "a+/{device}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(presence_check(bad[i], &err), -1);
}

static void payloads_say_yes_or_no(void **state) {
    static const char *const yes[] = {"online", "Online", " ONLINE\n", "1", "{\"state\":\"online\"}"};
    static const char *const no[] = {"", "onlin", "online,1", "offline", "{\"state\":\"offline\"}", "{\"state\":1}", "{}", "{", "{\"a\":\"online\"}", ","};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(presence_says(text_of(yes[i]), "online,1"));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(presence_says(text_of(no[i]), "online,1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_measured_against_the_interval),
        cmocka_unit_test(nobody_is_late_whose_interval_is_not_known),
        cmocka_unit_test(bursts_do_not_flap),
        cmocka_unit_test(a_new_rhythm_is_learned),
        cmocka_unit_test(irregular_messages_do_not_flap),
        cmocka_unit_test(who_cannot_listen_blames_nobody),
        cmocka_unit_test(presence_says_more_than_silence),
        cmocka_unit_test(the_longest_silent_makes_room),
        cmocka_unit_test(a_restart_goes_on_where_it_was),
        cmocka_unit_test(streamctl_sees_the_table),
        cmocka_unit_test(the_rate_is_that_of_the_last_minute),
        cmocka_unit_test(presence_topics_are_recognised),
        cmocka_unit_test(payloads_say_yes_or_no),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
