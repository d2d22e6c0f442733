/* Functions of times: as texts, as numbers, and durations. */
#include <math.h>

#include "base/clock.h"
#include "data/lang/calendar.h"
#include "data/lang/function_make.h"

FUNCTION(fn_event_time) {
    return value_time(row->event.time);
}

/* A text without a zone is of the zone. */
static value_t time_of_text(const node_t *node, const row_t *row, const value_t *arguments, unsigned count) {
    value_t x = arguments[0];
    const zone_t *zone = function_zone(node, row, arguments, count);
    int64_t time, moved;
    bool zoned;
    if (!zone)
        return value_null();
    if (!clock_parse_zoned(text_trim(text_make(x.text, x.size)), &time, &zoned))
        return evaluation_failed(node, row, "time: the text \"%.*s\" is no time", SHOWN(x));
    if (zoned || zone == zone_utc())
        return value_time(time);
    int64_t seconds = time / NS_PER_S - (time % NS_PER_S < 0);
    if (__builtin_sub_overflow(time, (seconds - zone_moment(zone, seconds, ZONE_NO_OFFSET)) * NS_PER_S, &moved))
        return evaluation_failed(node, row, "time: a time out of range");
    return value_time(moved);
}

FUNCTION(fn_time) {
    value_t x = arguments[0];
    int64_t time;
    switch (x.type) {
    case VALUE_TIME: return x;
    case VALUE_INT: time = clock_from_integer(x.integer); break;
    case VALUE_DOUBLE: time = clock_from_double(x.number, &time) ? time : INT64_MAX; break;
    case VALUE_STRING: return time_of_text(node, row, arguments, count);
    default: time = INT64_MAX;
    }
    bool bound = time == INT64_MAX || time == INT64_MIN; /* the number is beyond it, or is it */
    if (bound && !(x.type == VALUE_INT && x.integer == time))
        return evaluation_failed(node, row, "time: a time out of range");
    return value_time(time);
}

FUNCTION(fn_epoch) {
    return ns_to_seconds(arguments[0].time);
}

FUNCTION(fn_epoch_ms) {
    int64_t time = arguments[0].time;
    return value_int(time / NS_PER_MS - (time % NS_PER_MS < 0));
}

FUNCTION(fn_epoch_ns) {
    return value_int(arguments[0].time);
}

FUNCTION(fn_time_floor) {
    int64_t ns, floor, time = arguments[0].time;
    if (!seconds_to_ns(arguments[1], &ns) || ns <= 0)
        return evaluation_failed(node, row, "time_floor: the duration must be above zero");
    if (__builtin_mul_overflow(time / ns - (time % ns < 0), ns, &floor))
        return evaluation_failed(node, row, "time_floor: a time out of range");
    return value_time(floor);
}

FUNCTION(fn_duration_text) {
    int64_t ns;
    if (!seconds_to_ns(arguments[0], &ns) || ns == INT64_MIN)
        return evaluation_failed(node, row, "duration_text: a duration out of range");
    buf_t *text = function_buffer(row);
    if (ns < 0)
        buf_put_byte(text, '-');
    text_put_duration(text, ns < 0 ? -ns : ns);
    return function_made_text(node, row, text);
}

FUNCTION(fn_parse_duration) {
    value_t x = arguments[0];
    text_t text = text_trim(text_make(x.text, x.size));
    bool minus = text.size > 1 && text.data[0] == '-';
    int64_t ns;
    if (text_to_duration(text_make(text.data + minus, text.size - minus), NS_PER_S, &ns, NULL) < 0)
        return evaluation_failed(node, row, "parse_duration: the text \"%.*s\" is no duration", SHOWN(x));
    return ns_to_seconds(minus ? -ns : ns);
}

/* A constant format is checked at once. */
static int prepare_format(parser_t *parser, node_t *node, bool reading) {
    const node_t *format = node->arguments[1];
    if (format->kind == NODE_CONSTANT && format->constant.type == VALUE_STRING) {
        text_t text = text_make(format->constant.text, format->constant.size);
        if (!memchr(text.data, '%', text.size))
            return parser_error_at(parser, format, "2026-01-02 03:04:05 is %Y-%m-%d %H:%M:%S or %F %T; stream-language(7) lists the letters",
                                   "%s has a format without any part of a time", node->function->name);
        int place = calendar_format_fault(text, reading);
        if (place >= 0)
            return parser_error_at(parser, format, "a % sign itself is written %%; stream-language(7) lists the letters", "%s has no %.*s",
                                   node->function->name, (int) (text.size - (size_t) place < 2 ? 1 : 2), text.data + place);
    }
    return prepare_zone(parser, node);
}

static int prepare_printing(parser_t *parser, node_t *node) {
    return prepare_format(parser, node, false);
}

static int prepare_reading(parser_t *parser, node_t *node) {
    return prepare_format(parser, node, true);
}

static value_t bad_format(const node_t *node, const row_t *row, text_t format, int place) {
    return evaluation_failed(node, row, "%s: there is no %.*s", node->function->name, format.size - (size_t) place < 2 ? 1 : 2, format.data + place);
}

FUNCTION(fn_format_time) {
    text_t format = text_make(arguments[1].text, arguments[1].size);
    const zone_t *zone = function_zone(node, row, arguments, count);
    if (!zone)
        return value_null();
    moment_t moment = moment_of(arguments[0].time, zone);
    buf_t *out = function_buffer(row);
    if (format.size > RESULT_MAX)
        return function_too_long(node, row);
    if (!calendar_print(out, &moment, format))
        return bad_format(node, row, format, calendar_format_fault(format, false));
    return function_made_text(node, row, out);
}

FUNCTION(fn_parse_time) {
    value_t text = arguments[0];
    text_t format = text_make(arguments[1].text, arguments[1].size);
    const zone_t *zone = function_zone(node, row, arguments, count);
    if (!zone)
        return value_null();
    int place = node->arguments[1]->kind == NODE_CONSTANT ? -1 : calendar_format_fault(format, true);
    if (place >= 0)
        return bad_format(node, row, format, place);
    int64_t time;
    const char *wrong = calendar_parse(text_make(text.text, text.size), format, zone, &time);
    if (wrong)
        return evaluation_failed(node, row, "parse_time: %s: \"%.*s\"", wrong, SHOWN(text));
    return value_time(time);
}

/* Of the types that the table cannot tell: numbers, and a zone at the end. */
static int prepare_make(parser_t *parser, node_t *node) {
    for (unsigned i = 2; i < node->count; i++) {
        types_t wanted = i < 6 ? NUMBER : TEXT;
        if (!(node->arguments[i]->types & (wanted | TYPE(VALUE_NULL))))
            return parser_error_at(parser, node->arguments[i], node->function->signature, "%s stands here",
                                   i < 6 ? "a number" : "the name of a zone");
    }
    return prepare_zone(parser, node);
}

FUNCTION(fn_make_time) {
    int64_t numbers[5] = {0};
    for (unsigned i = 0; i < count && i < 6; i++) {
        if (!value_is_number(arguments[i]) || (i < 5 && arguments[i].type != VALUE_INT))
            return evaluation_failed(node, row, "make_time: argument %u is %s", i + 1, value_type_names[arguments[i].type]);
        if (i < 5)
            numbers[i] = arguments[i].integer < 0 || arguments[i].integer > 9999 ? 9999 : arguments[i].integer;
    }
    if (count > 6 && arguments[6].type != VALUE_STRING)
        return evaluation_failed(node, row, "make_time: argument 7 is %s", value_type_names[arguments[6].type]);
    const zone_t *zone = function_zone(node, row, arguments, count);
    double second = count > 5 ? value_to_double(arguments[5]) : 0;
    if (!zone)
        return value_null();
    int64_t time = 0;
    double whole = floor(second), fraction = round((second - whole) * 1e9);
    calendar_parts_t parts = {.year = numbers[0], .month = (unsigned) numbers[1], .day = (unsigned) numbers[2], .hour = (unsigned) numbers[3],
                              .minute = (unsigned) numbers[4], .second = whole >= 0 && whole <= 60 ? (unsigned) whole : 61, .fraction = (int64_t) fraction};
    return calendar_time(&parts, zone, &time) ? value_time(time) : evaluation_failed(node, row, "make_time: there is no such time, or it is out of range");
}

const function_t functions_times[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"duration_text", "Times", "duration_text(seconds)", "Seconds as a duration is written.", "duration_text(5400) = \"1h30m\"", 1, 1, ALL(NUMBER), TEXT, false, fn_duration_text},
    {"epoch", "Times", "epoch(time)", "Seconds since 1970-01-01 UTC: an integer when whole, else a double.", "epoch(time(\"1970-01-02\")) = 86400", 1, 1, ALL(TIME), NUMBER, false, fn_epoch},
    {"epoch_ms", "Times", "epoch_ms(time)", "Milliseconds since 1970-01-01 UTC, rounded down.", "epoch_ms(time(1.5)) = 1500", 1, 1, ALL(TIME), INT, false, fn_epoch_ms},
    {"epoch_ns", "Times", "epoch_ns(time)", "Nanoseconds since 1970-01-01 UTC.", "epoch_ns(time(1)) = 1000000000", 1, 1, ALL(TIME), INT, false, fn_epoch_ns},
    {"event_time", "Times", "event_time()", "The event's time, as @timestamp.", NULL, 0, 0, ALL(ANY), TIME, true, fn_event_time, NULL, true},
    {"format_time", "Times", "format_time(time, format, zone?)", "The time as a text; see \"Formats of times\".", "format_time(time(\"2026-07-02\"), \"%d.%m.%Y %H:%M %Z\", \"Europe/Berlin\") = \"02.07.2026 02:00 CEST\"", 2, 3, {TIME, TEXT, TEXT}, TEXT, false, fn_format_time, prepare_printing},
    {"make_time", "Times", "make_time(year, month, day, hour?, minute?, second?, zone?)", "The time that these numbers tell; seconds may have a fraction. An error when there is no such time.", "make_time(2026, 1, 2, 3, 4, 5.5) = \"2026-01-02T03:04:05.5Z\"", 3, 7, {INT, INT, NUMBER | TEXT}, TIME, false, fn_make_time, prepare_make},
    {"parse_duration", "Times", "parse_duration(text)", "The seconds of a duration as the language writes it, with a minus sign too; a number alone is seconds. An error when it is none.", "parse_duration(\"1m30.5s\") = 90.5", 1, 1, ALL(TEXT), NUMBER, false, fn_parse_duration},
    {"parse_time", "Times", "parse_time(text, format, zone?)", "The time that the whole text tells; see \"Formats of times\". An error when it does not follow the format, or there is no such time.", "parse_time(\"02/Jul/2026:03:04:05 +0200\", \"%d/%b/%Y:%T %z\") = \"2026-07-02T01:04:05Z\"", 2, 3, ALL(TEXT), TIME, false, fn_parse_time, prepare_reading},
    {"time", "Times", "time(x, zone?)", "A time from a text (RFC 3339, or a date with or without a time of day, of the zone when the text does not say) or from a number of s, ms, us or ns since 1970, told by its size (below 1e11 s, 1e14 ms, 1e17 us).", "time(\"2026-01-02 03:04\", \"Asia/Tokyo\") = \"2026-01-01T18:04:00Z\"", 1, 2, {TEXT | NUMBER | TIME, TEXT, ANY}, TIME, false, fn_time, prepare_zone},
    {"time_floor", "Times", "time_floor(time, duration)", "The time rounded down to a multiple of the duration since 1970-01-01 UTC. By the calendar: time_trunc.", "time_floor(time(95), 1m) = \"1970-01-01T00:01:00Z\"", 2, 2, {TIME, NUMBER, ANY}, TIME, false, fn_time_floor},
    {NULL},
};
