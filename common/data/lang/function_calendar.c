/* Functions of calendars: the parts of times, and units that are not always equally long. */
#include "data/lang/calendar.h"
#include "data/lang/function_make.h"

/* PART(name, what it gives of `moment`) */
#define PART(name, expression) \
    FUNCTION(name) { \
        const zone_t *zone = function_zone(node, row, arguments, count); \
        if (!zone) \
            return value_null(); \
        moment_t moment = moment_of(arguments[0].time, zone); \
        return value_int((int64_t) (expression)); \
    }

static int64_t week_year(const moment_t *moment) {
    int64_t year;
    moment_week(moment, &year);
    return year;
}

static unsigned week(const moment_t *moment) {
    int64_t year;
    return moment_week(moment, &year);
}

PART(fn_year, moment.year)
PART(fn_quarter, (moment.month + 2) / 3)
PART(fn_month, moment.month)
PART(fn_week, week(&moment))
PART(fn_week_year, week_year(&moment))
PART(fn_day, moment.day)
PART(fn_day_of_year, moment_day_of_year(&moment))
PART(fn_weekday, moment_weekday(&moment))
PART(fn_hour, moment.hour)
PART(fn_minute, moment.minute)
PART(fn_second, moment.second)
PART(fn_utc_offset, moment.offset)

/* The argument before the zone names a unit. */
static unsigned unit_place(const node_t *node) {
    return node->function->most - 2u;
}

static int prepare_unit(parser_t *parser, node_t *node) {
    const node_t *name = node->arguments[unit_place(node)];
    calendar_unit_t unit;
    if (name->kind == NODE_CONSTANT && name->constant.type == VALUE_STRING &&
        !calendar_unit(text_make(name->constant.text, name->constant.size), &unit))
        return parser_error_at(parser, name, "a unit is \"year\", \"quarter\", \"month\", \"week\", \"day\", \"hour\", \"minute\" or \"second\"",
                               "there is no unit \"%.*s\"", SHOWN(name->constant));
    return prepare_zone(parser, node);
}

/* The unit and the zone; false after an error. */
static bool read_unit(const node_t *node, const row_t *row, const value_t *arguments, unsigned count, calendar_unit_t *unit, const zone_t **zone) {
    value_t name = arguments[unit_place(node)];
    if (!calendar_unit(text_make(name.text, name.size), unit)) {
        evaluation_failed(node, row, "%s: there is no unit \"%.*s\"", node->function->name, SHOWN(name));
        return false;
    }
    *zone = function_zone(node, row, arguments, count);
    return *zone;
}

static value_t out_of_range(const node_t *node, const row_t *row) {
    return evaluation_failed(node, row, "%s: a time out of range", node->function->name);
}

FUNCTION(fn_time_trunc) {
    calendar_unit_t unit;
    const zone_t *zone;
    int64_t time;
    if (!read_unit(node, row, arguments, count, &unit, &zone))
        return value_null();
    return calendar_floor(arguments[0].time, unit, zone, &time) ? value_time(time) : out_of_range(node, row);
}

FUNCTION(fn_time_add) {
    calendar_unit_t unit;
    const zone_t *zone;
    int64_t time;
    if (!read_unit(node, row, arguments, count, &unit, &zone))
        return value_null();
    return calendar_add(arguments[0].time, arguments[1].integer, unit, zone, &time) ? value_time(time) : out_of_range(node, row);
}

FUNCTION(fn_time_diff) {
    calendar_unit_t unit;
    const zone_t *zone;
    if (!read_unit(node, row, arguments, count, &unit, &zone))
        return value_null();
    return value_int(calendar_between(arguments[0].time, arguments[1].time, unit, zone));
}

const function_t functions_calendar[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"day", "Calendar", "day(time, zone?)", "The day of the month, 1 to 31.", "day(time(\"2026-01-02\")) = 2", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_day, prepare_zone},
    {"day_of_year", "Calendar", "day_of_year(time, zone?)", "1 to 366.", "day_of_year(time(\"2026-02-01\")) = 32", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_day_of_year, prepare_zone},
    {"hour", "Calendar", "hour(time, zone?)", "0 to 23.", "hour(time(\"2026-07-02T03:04:05Z\"), \"Europe/Berlin\") = 5", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_hour, prepare_zone},
    {"minute", "Calendar", "minute(time, zone?)", "0 to 59.", "minute(time(\"2026-01-02T03:04:05Z\")) = 4", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_minute, prepare_zone},
    {"month", "Calendar", "month(time, zone?)", "1 to 12.", "month(time(\"2026-01-02\")) = 1", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_month, prepare_zone},
    {"quarter", "Calendar", "quarter(time, zone?)", "1 to 4.", "quarter(time(\"2026-05-02\")) = 2", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_quarter, prepare_zone},
    {"second", "Calendar", "second(time, zone?)", "0 to 59, without its fraction.", "second(time(\"2026-01-02T03:04:05Z\")) = 5", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_second, prepare_zone},
    {"time_add", "Calendar", "time_add(time, n, unit, zone?)", "n units later, or earlier when n is negative. From days on the clock shows the same time of day; a day that the month does not have becomes its last.", "time_add(time(\"2026-01-31\"), 1, \"month\") = \"2026-02-28T00:00:00Z\"", 3, 4, {TIME, INT, TEXT}, TIME, false, fn_time_add, prepare_unit},
    {"time_diff", "Calendar", "time_diff(from, to, unit, zone?)", "How many whole units, as time_add counts them, lie between the times; negative when to is before from.", "time_diff(time(\"2026-01-31\"), time(\"2026-03-30\"), \"month\") = 1", 3, 4, {TIME, TIME, TEXT}, INT, false, fn_time_diff, prepare_unit},
    {"time_trunc", "Calendar", "time_trunc(time, unit, zone?)", "Where the year, quarter, month, week (from Monday), day, hour, minute or second began that the time is in.", "time_trunc(time(\"2026-07-02T12:00:00Z\"), \"month\", \"Europe/Berlin\") = \"2026-06-30T22:00:00Z\"", 2, 3, {TIME, TEXT, TEXT}, TIME, false, fn_time_trunc, prepare_unit},
    {"utc_offset", "Calendar", "utc_offset(time, zone)", "The seconds by which clocks of the zone are ahead of UTC at that time.", "utc_offset(time(\"2026-07-02\"), \"America/New_York\") = -14400", 2, 2, {TIME, TEXT, ANY}, INT, false, fn_utc_offset, prepare_zone},
    {"week", "Calendar", "week(time, zone?)", "The week's number by ISO 8601, 1 to 53; week 1 has the year's first Thursday.", "week(time(\"2026-01-02\")) = 1", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_week, prepare_zone},
    {"week_year", "Calendar", "week_year(time, zone?)", "The year that the week belongs to.", "week_year(time(\"2027-01-02\")) = 2026", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_week_year, prepare_zone},
    {"weekday", "Calendar", "weekday(time, zone?)", "1 (Monday) to 7 (Sunday).", "weekday(time(\"2026-01-02\")) = 5", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_weekday, prepare_zone},
    {"year", "Calendar", "year(time, zone?)", "The year.", "year(time(\"2026-01-02\")) = 2026", 1, 2, {TIME, TEXT, ANY}, INT, false, fn_year, prepare_zone},
    {NULL},
};
