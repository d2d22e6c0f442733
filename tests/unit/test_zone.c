/* Time zones: offsets compared with the C library's for many zones and times, local times with a search by brute force, damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/zone.h"
#include "base/zone_rule.h"

static const char *const names[] = {
    "Europe/Berlin",     "Europe/London",     "Europe/Dublin",        "Europe/Moscow",     "America/New_York",    "America/Sao_Paulo",
    "America/St_Johns",  "America/Nuuk",      "America/Santiago",     "America/Havana",    "America/Anchorage",   "Asia/Tokyo",
    "Asia/Kathmandu",    "Asia/Tehran",       "Asia/Gaza",            "Asia/Kolkata",      "Atlantic/Azores",     "Australia/Lord_Howe",
    "Australia/Sydney",  "Pacific/Apia",      "Pacific/Kiritimati",   "Pacific/Chatham",   "Pacific/Auckland",    "Africa/Casablanca",
    "Africa/Cairo",      "Africa/Monrovia",   "Antarctica/Troll",     "America/Caracas",   "Etc/GMT+5",           "America/Argentina/Buenos_Aires",
};
#define NAMES (sizeof names / sizeof *names)

static uint64_t random_state = 88172645463325252u;

static uint64_t random_number(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static zone_t *zone_of(const char *name) {
    err_t err;
    zone_t *zone = zone_new(text_of(name), &err);
    if (!zone)
        fail_msg("%s: %s", name, err.text);
    return zone;
}

static void offsets_are_those_of_the_c_library(void **state) {
    for (size_t i = 0; i < NAMES; i++) {
        zone_t *zone = zone_of(names[i]);
        setenv("TZ", names[i], 1);
        tzset();
        for (unsigned k = 0; k < 5000; k++) {
            /* 1900 to 2250, and every second one near now */
            time_t seconds = k % 2 ? (time_t) (random_number() % 11045000000u) - 2208988800 : (time_t) (1500000000 + random_number() % 600000000);
            struct tm tm;
            const char *name;
            assert_non_null(localtime_r(&seconds, &tm));
            if (zone_offset(zone, seconds, &name) != tm.tm_gmtoff || strcmp(name, tm.tm_zone) != 0)
                fail_msg("%s at %lld: %d %s, not %ld %s", names[i], (long long) seconds, zone_offset(zone, seconds, NULL), name, tm.tm_gmtoff, tm.tm_zone);
        }
        zone_free(zone);
    }
    unsetenv("TZ");
}

/* The first moment at which clocks show it, by trying all offsets that are in force within two days; INT64_MIN: none. */
static int64_t first_moment(const zone_t *zone, int64_t local) {
    int64_t first = INT64_MIN;
    for (int64_t at = local - 2 * 86400; at <= local + 2 * 86400; at += 900) {
        int64_t moment = local - zone_offset(zone, at, NULL);
        if (moment + zone_offset(zone, moment, NULL) == local && (first == INT64_MIN || moment < first))
            first = moment;
    }
    return first;
}

static void a_local_time_is_the_first_moment_that_shows_it(void **state) {
    unsigned gaps = 0, twice = 0;
    for (size_t i = 0; i < NAMES; i++) {
        zone_t *zone = zone_of(names[i]);
        for (int64_t at = 1000000000; at < 2200000000; at += 1800) { /* looks for changes, then around them */
            if (zone_offset(zone, at, NULL) == zone_offset(zone, at + 1800, NULL))
                continue;
            for (int64_t local = at - 30 * 3600; local < at + 30 * 3600; local += 1700) {
                int64_t moment = zone_moment(zone, local, ZONE_NO_OFFSET), first = first_moment(zone, local);
                int64_t shown = moment + zone_offset(zone, moment, NULL);
                if (first == INT64_MIN) {
                    assert_true(shown > local && shown <= local + 86400);
                    gaps++;
                } else {
                    assert_int_equal(moment, first);
                    assert_int_equal(zone_moment(zone, local, zone_offset(zone, first, NULL)), first);
                }
                /* The other one of two, when it is asked for. */
                int64_t other = first == INT64_MIN ? 0 : local - zone_offset(zone, first + 7200, NULL);
                if (first != INT64_MIN && other != first && other + zone_offset(zone, other, NULL) == local) {
                    assert_int_equal(zone_moment(zone, local, (int32_t) (local - other)), other);
                    twice++;
                }
            }
        }
        zone_free(zone);
    }
    assert_true(gaps > 100 && twice > 100);
}

static void fixed_offsets(void **state) {
    static const struct {
        const char *name, *shown;
        int32_t offset;
    } zones[] = {{"Z", "UTC", 0}, {"UTC", "UTC", 0}, {"+02:00", "+02:00", 7200}, {"-0330", "-03:30", -12600}, {"+05", "+05:00", 18000}, {"-00:00", "UTC", 0}};
    for (size_t i = 0; i < sizeof zones / sizeof *zones; i++) {
        zone_t *zone = zone_of(zones[i].name);
        const char *name;
        assert_int_equal(zone_offset(zone, 1700000000, &name), zones[i].offset);
        assert_string_equal(name, zones[i].shown);
        assert_int_equal(zone_moment(zone, 1700000000, ZONE_NO_OFFSET), 1700000000 - zones[i].offset);
        zone_free(zone);
    }
    assert_int_equal(zone_offset(zone_utc(), -5, NULL), 0);
}

static void what_is_no_zone_is_refused(void **state) {
    static const char *const bad[] = {"", "Nowhere/At_All", "../../../etc/passwd", "/etc/localtime", "localtime", "Europe", "europe/berlin", "Europe/Berlin/",
                                      "zone.tab", "tzdata.zi", "+24:00", "+1", "+12:60", "+123", "+1:234", "Europe/../Europe/Berlin", "Europe/Berlin\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err_t err;
        if (zone_new(text_of(bad[i]), &err))
            fail_msg("%s is a zone", bad[i]);
        assert_non_null(strstr(err.text, "time zone"));
    }
}

static void damaged_files_are_refused_or_harmless(void **state) {
    buf_t bytes = {0};
    assert_int_equal(file_read(ZONE_DIRECTORY "/Europe/Berlin", 1 << 20, &bytes, NULL), 0);
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *cut = mem_copy(bytes.data, size);
        assert_null(zone_read(cut, size, NULL));
        mem_free(cut);
    }
    for (unsigned k = 0; k < 5000; k++) {
        uint8_t *copy = mem_copy(bytes.data, bytes.size);
        for (unsigned i = 0; i < 3; i++)
            copy[random_number() % bytes.size] = (uint8_t) random_number();
        zone_t *zone = zone_read(copy, bytes.size, NULL);
        if (zone) {
            const char *name;
            for (int64_t at = -3000000000; at < 9000000000; at += 123456789) {
                int32_t offset = zone_offset(zone, at, &name);
                assert_true(offset >= -ZONE_OFFSET_MAX && offset <= ZONE_OFFSET_MAX && strlen(name) < 256);
                zone_moment(zone, at, 0);
            }
        }
        zone_free(zone);
        mem_free(copy);
    }
    buf_fini(&bytes);
}

static void rules(void **state) {
    static const struct {
        const char *text;
        int64_t seconds;
        int32_t offset;
    } rules_of[] = {
        {"UTC0", 0, 0},
        {"<+0330>-3:30", 0, 12600},
        {"CET-1CEST,M3.5.0,M10.5.0/3", 1774746000 - 1, 3600},      /* 2026-03-29T01:00:00Z */
        {"CET-1CEST,M3.5.0,M10.5.0/3", 1774746000, 7200},
        {"CET-1CEST,M3.5.0,M10.5.0/3", 1792890000 - 1, 7200},      /* 2026-10-25T01:00:00Z */
        {"CET-1CEST,M3.5.0,M10.5.0/3", 1792890000, 3600},
        {"AEST-10AEDT,M10.1.0,M4.1.0/3", 1767225600, 39600},       /* 2026-01-01, summer over the year's end */
        {"AEST-10AEDT,M10.1.0,M4.1.0/3", 1782864000, 36000},       /* 2026-07-01 */
        {"X3Y,J60,J300", 1709251200 + 5 * 3600 - 1, -10800},       /* 2024-03-01T05:00:00Z: day 60 is March 1 in leap years too */
        {"X3Y,J60,J300", 1709251200 + 5 * 3600, -7200},
        {"X3Y,59,300", 1709164800 + 5 * 3600, -7200},              /* 2024-02-29 is day 59 */
        {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1774742400 + 3600 - 1, -7200},
    };
    for (size_t i = 0; i < sizeof rules_of / sizeof *rules_of; i++) {
        zone_rule_t rule;
        assert_true(zone_rule_read(text_of(rules_of[i].text), &rule));
        assert_int_equal(zone_rule_at(&rule, rules_of[i].seconds)->offset, rules_of[i].offset);
    }
    static const char *const bad[] = {"", "CET", "-1", "CET-1CEST", "CET-1CEST,M3.5.0", "CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0",
                                      "CET-1CEST,M3.5.7,M10.5.0", "CET-1CEST,J0,J1", "CET-1CEST,366,1", "CET-1CEST,M3.5.0,M10.5.0x", "<+03-3",
                                      "CET-1CEST,M3.5.0/200,M10.5.0", "ABCDEFGHIJKLM-1", "CET-99"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        zone_rule_t rule;
        if (zone_rule_read(text_of(bad[i]), &rule))
            fail_msg("%s is a rule", bad[i]);
    }
}

static void a_cache_gives_the_same_zone_and_forgets_inventions(void **state) {
    zone_cache_t *cache = zone_cache_new();
    err_t err;
    const zone_t *berlin = zone_cache_get(cache, text_of("Europe/Berlin"), &err);
    assert_non_null(berlin);
    assert_ptr_equal(zone_cache_get(cache, text_of("Europe/Berlin"), &err), berlin);
    assert_null(zone_cache_get(cache, text_of("Europe/Nowhere"), &err));
    for (unsigned minutes = 0; minutes < 1440; minutes++) {
        char name[16];
        snprintf(name, sizeof name, "+%02u:%02u", minutes / 60, minutes % 60);
        const zone_t *zone = zone_cache_get(cache, text_of(name), &err);
        assert_non_null(zone);
        assert_int_equal(zone_offset(zone, 0, NULL), minutes * 60);
    }
    zone_cache_free(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_are_those_of_the_c_library),
        cmocka_unit_test(a_local_time_is_the_first_moment_that_shows_it),
        cmocka_unit_test(fixed_offsets),
        cmocka_unit_test(what_is_no_zone_is_refused),
        cmocka_unit_test(damaged_files_are_refused_or_harmless),
        cmocka_unit_test(rules),
        cmocka_unit_test(a_cache_gives_the_same_zone_and_forgets_inventions),
    };
    return cmocka_run_group_tests_name("zone", tests, NULL, NULL);
}
