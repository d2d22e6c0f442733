/* The rule of a time zone for coming years. */
#include "base/zone_rule.h"

#include <string.h>

#include "base/clock.h"

#define DAY 86400

static bool accept(text_t *text, char c) {
    if (!text->size || text->data[0] != c)
        return false;
    text->data++;
    text->size--;
    return true;
}

static bool read_number(text_t *text, unsigned most, unsigned *value) {
    unsigned sum = 0, digits = 0;
    for (; text->size && text->data[0] >= '0' && text->data[0] <= '9' && digits < 4; digits++) {
        sum = 10 * sum + (unsigned) (text->data[0] - '0');
        text->data++;
        text->size--;
    }
    *value = sum;
    return digits && sum <= most;
}

/* [+-]hh[:mm[:ss]] */
static bool read_time(text_t *text, unsigned most_hours, int32_t *seconds) {
    unsigned hours, minutes = 0, rest = 0;
    bool minus = accept(text, '-');
    if (!minus)
        accept(text, '+');
    if (!read_number(text, most_hours, &hours))
        return false;
    if (accept(text, ':') && (!read_number(text, 59, &minutes) || (accept(text, ':') && !read_number(text, 59, &rest))))
        return false;
    *seconds = (minus ? -1 : 1) * (int32_t) (3600 * hours + 60 * minutes + rest);
    return true;
}

/* CET, or <+03>. */
static bool read_side_name(text_t *text, zone_side_t *side) {
    bool quoted = accept(text, '<');
    size_t size = 0;
    while (size < text->size && (quoted ? text->data[size] != '>'
                                        : (text->data[size] | 0x20) >= 'a' && (text->data[size] | 0x20) <= 'z'))
        size++;
    if (!size || size >= sizeof side->name)
        return false;
    memcpy(side->name, text->data, size);
    side->name[size] = 0;
    text->data += size;
    text->size -= size;
    return !quoted || accept(text, '>');
}

static bool read_day(text_t *text, zone_day_t *day) {
    unsigned month, week, weekday, number;
    *day = (zone_day_t){.time = 2 * 3600};
    if (accept(text, 'M')) {
        if (!read_number(text, 12, &month) || !accept(text, '.') || !read_number(text, 5, &week) || !accept(text, '.') ||
            !read_number(text, 6, &weekday) || !month || !week)
            return false;
        day->form = 'M';
        day->month = (uint8_t) month;
        day->week = (uint8_t) week;
        day->weekday = (uint8_t) weekday;
    } else {
        day->form = accept(text, 'J') ? 'J' : 0;
        if (!read_number(text, 365, &number) || (day->form && !number))
            return false;
        day->day = (uint16_t) number;
    }
    return !accept(text, '/') || read_time(text, 167, &day->time);
}

bool zone_rule_read(text_t text, zone_rule_t *rule) {
    *rule = (zone_rule_t){0};
    if (!read_side_name(&text, &rule->standard) || !read_time(&text, 24, &rule->standard.offset))
        return false;
    rule->standard.offset = -rule->standard.offset; /* POSIX counts to the west */
    if (!text.size)
        return true;
    rule->has_summer = true;
    if (!read_side_name(&text, &rule->summer))
        return false;
    rule->summer.offset = rule->standard.offset + 3600;
    if (text.size && text.data[0] != ',') {
        if (!read_time(&text, 24, &rule->summer.offset))
            return false;
        rule->summer.offset = -rule->summer.offset;
    }
    return accept(&text, ',') && read_day(&text, &rule->starts) && accept(&text, ',') && read_day(&text, &rule->ends) && !text.size;
}

static bool leap(int64_t year) {
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* The moment in a year, by the clocks in force until then. */
static int64_t moment_in(int64_t year, const zone_day_t *day, int32_t offset) {
    int64_t days = clock_days(year, 1, 1);
    if (day->form == 'M') {
        int64_t first = clock_days(year, day->month, 1), next = day->month == 12 ? clock_days(year + 1, 1, 1) : clock_days(year, day->month + 1u, 1);
        int64_t weekday = ((first + 4) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
        days = first + (day->weekday - weekday + 7) % 7 + 7 * (day->week - 1);
        while (days >= next)
            days -= 7;
    } else {
        days += day->form == 'J' ? day->day - 1 + (leap(year) && day->day >= 60) : day->day;
    }
    return days * DAY + day->time - offset;
}

const zone_side_t *zone_rule_at(const zone_rule_t *rule, int64_t seconds) {
    if (!rule->has_summer)
        return &rule->standard;
    int64_t local = seconds + rule->standard.offset, year;
    unsigned month, day;
    clock_date(local / DAY - (local % DAY < 0), &year, &month, &day);
    int64_t starts = moment_in(year, &rule->starts, rule->standard.offset), ends = moment_in(year, &rule->ends, rule->summer.offset);
    bool summer = starts < ends ? seconds >= starts && seconds < ends : seconds >= starts || seconds < ends;
    return summer ? &rule->summer : &rule->standard;
}
