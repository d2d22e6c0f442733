/* The clocks, and times as text: ISO 8601 in, RFC 3339 out. Always UTC, never the C library's time zones or locale. */
#include "base/clock.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define SECONDS_PER_DAY 86400

static int64_t read_clock(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t) now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_now(void) {
    return read_clock(CLOCK_REALTIME);
}

int64_t clock_monotonic(void) {
    return read_clock(CLOCK_MONOTONIC);
}

/* Both count years from March, so that the leap day is a year's last, in eras of 400 years (146097 days). */
int64_t clock_days(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (int64_t) (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

void clock_date(int64_t days, int64_t *year, unsigned *month, unsigned *day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    uint32_t day_of_era = (uint32_t) (days - era * 146097);
    uint32_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t shifted = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = (int64_t) year_of_era + era * 400 + (*month <= 2);
}

/* Exactly `count` digits at *at. */
static bool read_digits(const char **at, const char *end, unsigned count, unsigned *value) {
    if ((size_t) (end - *at) < count)
        return false;
    unsigned sum = 0;
    for (; count; count--, ++*at) {
        unsigned digit = (unsigned) (unsigned char) **at - '0';
        if (digit > 9)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

static bool read_character(const char **at, const char *end, char wanted) {
    if (*at == end || **at != wanted)
        return false;
    ++*at;
    return true;
}

static bool read_date(const char **at, const char *end, int64_t *days) {
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year, month, day;
    if (!read_digits(at, end, 4, &year) || !read_character(at, end, '-') || !read_digits(at, end, 2, &month) ||
        !read_character(at, end, '-') || !read_digits(at, end, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1)
        return false;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > lengths[month - 1] + (month == 2 && leap ? 1u : 0u))
        return false;
    *days = clock_days(year, month, day);
    return true;
}

/* hh:mm[:ss[.fraction]]; digits beyond nanoseconds are dropped. Second 60, a leap second, counts as the next one. */
static bool read_time(const char **at, const char *end, int64_t *seconds, int64_t *fraction) {
    unsigned hour, minute, second = 0;
    if (!read_digits(at, end, 2, &hour) || !read_character(at, end, ':') || !read_digits(at, end, 2, &minute))
        return false;
    if (read_character(at, end, ':')) {
        if (!read_digits(at, end, 2, &second))
            return false;
        if (read_character(at, end, '.') || read_character(at, end, ',')) {
            int64_t unit = NS_PER_S;
            const char *first = *at;
            for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
                unit /= 10;
                *fraction += (**at - '0') * unit;
            }
            if (*at == first)
                return false;
        }
    }
    if (hour > 23 || minute > 59 || second > 60)
        return false;
    *seconds = hour * 3600 + minute * 60 + second;
    return true;
}

/* zoned: whether there is a zone at all. */
static bool read_zone(const char **at, const char *end, int64_t *offset, bool *zoned) {
    *offset = 0;
    *zoned = true;
    if (read_character(at, end, 'Z') || read_character(at, end, 'z'))
        return true;
    bool minus = *at < end && **at == '-';
    if (!minus && (*at == end || **at != '+')) {
        *zoned = false;
        return true;
    }
    ++*at;
    unsigned hours, minutes = 0;
    if (!read_digits(at, end, 2, &hours))
        return false;
    if (*at < end) {
        read_character(at, end, ':');
        if (!read_digits(at, end, 2, &minutes))
            return false;
    }
    if (hours > 23 || minutes > 59)
        return false;
    *offset = (int64_t) (hours * 3600 + minutes * 60);
    if (minus)
        *offset = -*offset;
    return true;
}

bool clock_parse(text_t text, int64_t *ns) {
    bool zoned;
    return clock_parse_zoned(text, ns, &zoned);
}

bool clock_parse_zoned(text_t text, int64_t *ns, bool *zoned) {
    const char *at = text.data, *end = text.data + text.size;
    int64_t days, seconds = 0, fraction = 0, offset = 0;
    bool has_zone = false;
    if (!read_date(&at, end, &days))
        return false;
    if (at < end) {
        if (*at != 'T' && *at != 't' && *at != ' ')
            return false;
        at++;
        if (!read_time(&at, end, &seconds, &fraction))
            return false;
        if (end - at > 1 && *at == ' ') /* "2026-01-02 03:04:05 +0100", as date and git print it */
            at++;
        if (!read_zone(&at, end, &offset, &has_zone) || at != end)
            return false;
    }
    __int128 total = (__int128) (days * SECONDS_PER_DAY + seconds - offset) * NS_PER_S + fraction;
    if (total < INT64_MIN || total > INT64_MAX)
        return false;
    *ns = (int64_t) total;
    *zoned = has_zone;
    return true;
}

int64_t clock_from_integer(int64_t number) {
    uint64_t size = number < 0 ? -(uint64_t) number : (uint64_t) number;
    int64_t unit = size < UINT64_C(100000000000)         ? NS_PER_S
                   : size < UINT64_C(100000000000000)    ? NS_PER_MS
                   : size < UINT64_C(100000000000000000) ? NS_PER_US
                                                         : 1;
    int64_t ns;
    if (__builtin_mul_overflow(number, unit, &ns))
        return number < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

bool clock_from_double(double number, int64_t *ns) {
    double size = fabs(number);
    if (!(size <= 1.7e308))
        return false;
    double us = size < 1e11 ? number * 1e6 : size < 1e14 ? number * 1e3 : size < 1e17 ? number : number / 1e3;
    if (fabs(us) >= 9.2e15)
        *ns = number < 0 ? INT64_MIN : INT64_MAX;
    else
        *ns = (int64_t) llrint(us) * NS_PER_US;
    return true;
}

/* Two digits. */
static inline void put_pair(char *out, uint32_t value) {
    uint32_t tens = value * 103 >> 10; /* value / 10, below 100 */
    out[0] = (char) ('0' + tens);
    out[1] = (char) ('0' + value - 10 * tens);
}

size_t clock_print_fraction(char *out, uint32_t fraction) {
    if (!fraction)
        return 0;
    out[0] = '.';
    put_pair(out + 1, fraction / 10000000);
    put_pair(out + 3, fraction / 100000 % 100);
    put_pair(out + 5, fraction / 1000 % 100);
    put_pair(out + 7, fraction / 10 % 100);
    out[9] = (char) ('0' + fraction % 10);
    size_t size = 10;
    while (out[size - 1] == '0')
        size--;
    return size;
}

size_t clock_print(char *out, int64_t ns) {
    int64_t seconds = ns / NS_PER_S, fraction = ns % NS_PER_S;
    if (fraction < 0) {
        fraction += NS_PER_S;
        seconds--;
    }
    int64_t days = seconds / SECONDS_PER_DAY;
    int32_t rest = (int32_t) (seconds % SECONDS_PER_DAY);
    if (rest < 0) {
        rest += SECONDS_PER_DAY;
        days--;
    }
    uint32_t second = (uint32_t) rest;
    int64_t year;
    unsigned month, day;
    clock_date(days, &year, &month, &day);
    memcpy(out, "0000-00-00T00:00:00Z", 20);
    put_pair(out, (uint32_t) year / 100);
    put_pair(out + 2, (uint32_t) year % 100);
    put_pair(out + 5, month);
    put_pair(out + 8, day);
    put_pair(out + 11, second / 3600);
    put_pair(out + 14, second / 60 % 60);
    put_pair(out + 17, second % 60);
    size_t size = 19 + clock_print_fraction(out + 19, (uint32_t) fraction);
    out[size] = 'Z';
    return size + 1;
}
