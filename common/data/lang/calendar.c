/* Parts of times and units of calendars, by a zone. */
#include "data/lang/calendar.h"

#include "base/clock.h"

#define DAY INT64_C(86400)
#define COUNT_MAX INT64_C(10000000)   /* days, weeks, months, ... that are added; more is out of range anyway */

static int64_t floor_divide(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

static bool to_ns(int64_t seconds, int64_t fraction, int64_t *ns) {
    return !__builtin_mul_overflow(seconds, NS_PER_S, ns) && !__builtin_add_overflow(*ns, fraction, ns);
}

/* Days and the time of day on them, local. */
static bool local_to_ns(const zone_t *zone, int64_t days, int64_t second, int64_t fraction, int32_t prefer, int64_t *ns) {
    return days > -COUNT_MAX && days < COUNT_MAX && to_ns(zone_moment(zone, days * DAY + second, prefer), fraction, ns);
}

moment_t moment_of(int64_t ns, const zone_t *zone) {
    moment_t moment = {.seconds = floor_divide(ns, NS_PER_S), .fraction = ns % NS_PER_S + (ns % NS_PER_S < 0 ? NS_PER_S : 0)};
    moment.offset = zone_offset(zone, moment.seconds, &moment.zone_name);
    int64_t local = moment.seconds + moment.offset;
    moment.days = floor_divide(local, DAY);
    unsigned rest = (unsigned) (local - moment.days * DAY);
    clock_date(moment.days, &moment.year, &moment.month, &moment.day);
    moment.hour = rest / 3600;
    moment.minute = rest / 60 % 60;
    moment.second = rest % 60;
    return moment;
}

unsigned moment_weekday(const moment_t *moment) { /* 1970-01-01 was a Thursday */
    return (unsigned) (((moment->days + 3) % 7 + 7) % 7) + 1;
}

unsigned moment_day_of_year(const moment_t *moment) {
    return (unsigned) (moment->days - clock_days(moment->year, 1, 1)) + 1;
}

/* A week belongs to the year that its Thursday is in. */
unsigned moment_week(const moment_t *moment, int64_t *year) {
    int64_t thursday = moment->days + 4 - moment_weekday(moment);
    unsigned month, day;
    clock_date(thursday, year, &month, &day);
    return (unsigned) (thursday - clock_days(*year, 1, 1)) / 7 + 1;
}

bool calendar_unit(text_t name, calendar_unit_t *unit) {
    static const char *const names[] = {"year", "quarter", "month", "week", "day", "hour", "minute", "second"};
    if (name.size && name.data[name.size - 1] == 's')
        name.size--;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (text_is(name, names[i])) {
            *unit = (calendar_unit_t) i;
            return true;
        }
    }
    return false;
}

static const int64_t unit_seconds[] = {[UNIT_HOUR] = 3600, [UNIT_MINUTE] = 60, [UNIT_SECOND] = 1};

bool calendar_floor(int64_t ns, calendar_unit_t unit, const zone_t *zone, int64_t *result) {
    moment_t moment = moment_of(ns, zone);
    int64_t days = moment.days;
    switch (unit) {
    case UNIT_YEAR: days = clock_days(moment.year, 1, 1); break;
    case UNIT_QUARTER: days = clock_days(moment.year, (moment.month - 1) / 3 * 3 + 1, 1); break;
    case UNIT_MONTH: days = clock_days(moment.year, moment.month, 1); break;
    case UNIT_WEEK: days -= moment_weekday(&moment) - 1; break;
    case UNIT_DAY: break;
    default: /* by the offset in force, so that an hour that clocks show twice is two hours */
        return to_ns(moment.seconds - (moment.minute * 60 + moment.second) % unit_seconds[unit], 0, result);
    }
    return local_to_ns(zone, days, 0, 0, ZONE_NO_OFFSET, result);
}

static unsigned month_length(int64_t year, unsigned month) {
    return (unsigned) (clock_days(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1, 1) - clock_days(year, month, 1));
}

bool calendar_add(int64_t ns, int64_t count, calendar_unit_t unit, const zone_t *zone, int64_t *result) {
    if (unit >= UNIT_HOUR) {
        int64_t shift;
        return !__builtin_mul_overflow(count, unit_seconds[unit] * NS_PER_S, &shift) && !__builtin_add_overflow(ns, shift, result);
    }
    if (count < -COUNT_MAX || count > COUNT_MAX)
        return false;
    moment_t moment = moment_of(ns, zone);
    int64_t days = moment.days + (unit == UNIT_WEEK ? 7 * count : count);
    if (unit <= UNIT_MONTH) {
        int64_t months = moment.year * 12 + moment.month - 1 + count * (unit == UNIT_YEAR ? 12 : unit == UNIT_QUARTER ? 3 : 1);
        int64_t year = floor_divide(months, 12);
        unsigned month = (unsigned) (months - year * 12) + 1, length = month_length(year, month);
        days = clock_days(year, month, moment.day < length ? moment.day : length);
    }
    return local_to_ns(zone, days, moment.hour * 3600 + moment.minute * 60 + moment.second, moment.fraction, moment.offset, result);
}

/* Whether so many units from `from` on lead no further than `to`, in the direction of `sign`. */
static bool within(int64_t from, int64_t to, int64_t count, int sign, calendar_unit_t unit, const zone_t *zone) {
    int64_t reached;
    return calendar_add(from, sign * count, unit, zone, &reached) && (sign > 0 ? reached <= to : reached >= to);
}

int64_t calendar_between(int64_t from, int64_t to, calendar_unit_t unit, const zone_t *zone) {
    int sign = to < from ? -1 : 1;
    if (unit >= UNIT_HOUR)
        return (int64_t) (((__int128) to - from) / (unit_seconds[unit] * NS_PER_S));
    moment_t a = moment_of(from, zone), b = moment_of(to, zone);
    int64_t days = b.days - a.days, months = (b.year - a.year) * 12 + (int64_t) b.month - (int64_t) a.month;
    int64_t size = sign * (unit == UNIT_DAY ? days : unit == UNIT_WEEK ? days / 7 : unit == UNIT_MONTH ? months : months / (unit == UNIT_YEAR ? 12 : 3));
    size = size < 0 ? 0 : size + 1; /* at most one too many, and one for the way to a shorter month */
    while (size > 0 && !within(from, to, size, sign, unit, zone))
        size--;
    return sign * size;
}

bool calendar_time(const calendar_parts_t *parts, const zone_t *zone, int64_t *ns) {
    if (parts->month < 1 || parts->month > 12 || parts->day < 1 || parts->hour > 23 || parts->minute > 59 || parts->second > 60 ||
        parts->year < 1600 || parts->year > 2400 || parts->day > month_length(parts->year, parts->month))
        return false;
    return local_to_ns(zone, clock_days(parts->year, parts->month, parts->day), parts->hour * 3600 + parts->minute * 60 + parts->second,
                       parts->fraction, ZONE_NO_OFFSET, ns);
}
