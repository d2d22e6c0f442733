/* Times as texts by a format like strftime's: writing and reading. */
#include <strings.h>

#include "base/clock.h"
#include "data/lang/calendar.h"

static const char *const days[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};
static const char *const months[] = {"January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
                                     "November", "December"};
static const char writable[] = "YymdeHIpMSLfNsjuwaAbBhFTRDzZVG%nt";
static const char readable[] = "YymdeHIpMSLfNsjaAbBhFTRDzZ%nt";

/* The letter of the % at *at, which moves to it; 0: there is none. The colon of %:z is passed over, and told. */
static char letter_at(text_t format, size_t *at, bool *colon) {
    ++*at;
    *colon = *at + 1 < format.size && format.data[*at] == ':' && format.data[*at + 1] == 'z';
    *at += *colon;
    return *at < format.size ? format.data[*at] : 0;
}

int calendar_format_fault(text_t format, bool reading) {
    for (size_t i = 0; i < format.size; i++) {
        if (format.data[i] != '%')
            continue;
        size_t place = i;
        bool colon;
        char letter = letter_at(format, &i, &colon);
        if (!letter || !strchr(reading ? readable : writable, letter))
            return (int) place;
    }
    return -1;
}

static void put_offset(buf_t *out, int32_t offset, bool colon) {
    int32_t minutes = (offset < 0 ? -offset : offset) / 60;
    buf_format(out, "%c%02d%s%02d", offset < 0 ? '-' : '+', minutes / 60, colon ? ":" : "", minutes % 60);
}

static bool put_part(buf_t *out, const moment_t *moment, char letter, bool colon) {
    unsigned weekday = moment_weekday(moment), twelve = moment->hour % 12 ? moment->hour % 12 : 12;
    int64_t year;
    switch (letter) {
    case 'Y': buf_format(out, "%04lld", (long long) moment->year); break;
    case 'y': buf_format(out, "%02lld", (long long) (moment->year % 100 + 100) % 100); break;
    case 'm': buf_format(out, "%02u", moment->month); break;
    case 'd': buf_format(out, "%02u", moment->day); break;
    case 'e': buf_format(out, "%2u", moment->day); break;
    case 'H': buf_format(out, "%02u", moment->hour); break;
    case 'I': buf_format(out, "%02u", twelve); break;
    case 'p': buf_put_text(out, moment->hour < 12 ? "AM" : "PM"); break;
    case 'M': buf_format(out, "%02u", moment->minute); break;
    case 'S': buf_format(out, "%02u", moment->second); break;
    case 'L': buf_format(out, "%03lld", (long long) (moment->fraction / NS_PER_MS)); break;
    case 'f': buf_format(out, "%06lld", (long long) (moment->fraction / NS_PER_US)); break;
    case 'N': buf_format(out, "%09lld", (long long) moment->fraction); break;
    case 's': buf_format(out, "%lld", (long long) moment->seconds); break;
    case 'j': buf_format(out, "%03u", moment_day_of_year(moment)); break;
    case 'u': buf_format(out, "%u", weekday); break;
    case 'w': buf_format(out, "%u", weekday % 7); break;
    case 'a': buf_format(out, "%.3s", days[weekday - 1]); break;
    case 'A': buf_put_text(out, days[weekday - 1]); break;
    case 'b':
    case 'h': buf_format(out, "%.3s", months[moment->month - 1]); break;
    case 'B': buf_put_text(out, months[moment->month - 1]); break;
    case 'F': buf_format(out, "%04lld-%02u-%02u", (long long) moment->year, moment->month, moment->day); break;
    case 'T': buf_format(out, "%02u:%02u:%02u", moment->hour, moment->minute, moment->second); break;
    case 'R': buf_format(out, "%02u:%02u", moment->hour, moment->minute); break;
    case 'D': buf_format(out, "%02u/%02u/%02lld", moment->month, moment->day, (long long) (moment->year % 100 + 100) % 100); break;
    case 'z': put_offset(out, moment->offset, colon); break;
    case 'Z': buf_put_text(out, moment->zone_name); break;
    case 'V': buf_format(out, "%02u", moment_week(moment, &year)); break;
    case 'G':
        moment_week(moment, &year);
        buf_format(out, "%04lld", (long long) year);
        break;
    case '%': buf_put_byte(out, '%'); break;
    case 'n': buf_put_byte(out, '\n'); break;
    case 't': buf_put_byte(out, '\t'); break;
    default: return false;
    }
    return true;
}

bool calendar_print(buf_t *out, const moment_t *moment, text_t format) {
    for (size_t i = 0; i < format.size; i++) {
        if (format.data[i] != '%') {
            buf_put_byte(out, (uint8_t) format.data[i]);
            continue;
        }
        bool colon;
        char letter = letter_at(format, &i, &colon);
        if (!put_part(out, moment, letter, colon))
            return false;
    }
    return true;
}

/* What was read so far. */
typedef struct reading {
    const char *at, *end;
    calendar_parts_t parts;
    unsigned twelve, day_of_year;     /* 0: not given */
    bool afternoon, has_epoch, has_offset;
    int64_t epoch;
    int32_t offset;
} reading_t;

static bool white(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_white(reading_t *reading) {
    while (reading->at < reading->end && white(*reading->at))
        reading->at++;
}

/* One to `most` digits, with a value in the range. */
static bool read_number(reading_t *reading, unsigned most, unsigned low, unsigned high, unsigned *value) {
    unsigned sum = 0, count = 0;
    for (; count < most && reading->at < reading->end && *reading->at >= '0' && *reading->at <= '9'; count++)
        sum = 10 * sum + (unsigned) (*reading->at++ - '0');
    *value = sum;
    return count && sum >= low && sum <= high;
}

static bool read_fraction(reading_t *reading, unsigned most) {
    int64_t unit = NS_PER_S;
    unsigned count = 0;
    for (reading->parts.fraction = 0; count < most && reading->at < reading->end && *reading->at >= '0' && *reading->at <= '9'; count++) {
        unit /= 10;
        reading->parts.fraction += (*reading->at++ - '0') * unit;
    }
    return count > 0;
}

static bool read_epoch(reading_t *reading) {
    bool minus = reading->at < reading->end && *reading->at == '-';
    reading->at += minus;
    unsigned count = 0;
    for (reading->epoch = 0; count < 12 && reading->at < reading->end && *reading->at >= '0' && *reading->at <= '9'; count++)
        reading->epoch = 10 * reading->epoch + (*reading->at++ - '0');
    if (minus)
        reading->epoch = -reading->epoch;
    reading->has_epoch = true;
    return count > 0;
}

/* A name, whole or its first three letters, in any case. */
static bool read_name(reading_t *reading, const char *const *names, unsigned count, unsigned *number) {
    size_t left = (size_t) (reading->end - reading->at);
    for (unsigned i = 0; i < count; i++) {
        size_t whole = strlen(names[i]);
        size_t size = left >= whole && strncasecmp(reading->at, names[i], whole) == 0 ? whole : 3;
        if (left >= size && strncasecmp(reading->at, names[i], size) == 0) {
            reading->at += size;
            *number = i + 1;
            return true;
        }
    }
    return false;
}

/* Z, +hh, +hhmm or +hh:mm. */
static bool read_offset(reading_t *reading) {
    reading->has_offset = true;
    reading->offset = 0;
    if (reading->at < reading->end && (*reading->at | 0x20) == 'z') {
        reading->at++;
        return true;
    }
    unsigned hours, minutes = 0;
    if (reading->at == reading->end || (*reading->at != '+' && *reading->at != '-'))
        return false;
    bool minus = *reading->at++ == '-';
    if (!read_number(reading, 2, 0, 23, &hours))
        return false;
    bool colon = reading->end - reading->at > 1 && *reading->at == ':';
    reading->at += colon;
    bool digit = reading->at < reading->end && *reading->at >= '0' && *reading->at <= '9';
    if ((colon || digit) && !read_number(reading, 2, 0, 59, &minutes))
        return false;
    reading->offset = (minus ? -1 : 1) * (int32_t) (hours * 3600 + minutes * 60);
    return true;
}

static bool read_literal(reading_t *reading, const char *word) {
    size_t size = strlen(word);
    if ((size_t) (reading->end - reading->at) < size || strncasecmp(reading->at, word, size) != 0)
        return false;
    reading->at += size;
    return true;
}

static bool read_parts(reading_t *reading, const char *format);

static bool read_part(reading_t *reading, char letter) {
    calendar_parts_t *parts = &reading->parts;
    unsigned number;
    switch (letter) {
    case 'Y':
        if (!read_number(reading, 4, 0, 9999, &number))
            return false;
        parts->year = number;
        return true;
    case 'y': /* as POSIX has it: 69 to 99 are of the last century */
        if (!read_number(reading, 2, 0, 99, &number))
            return false;
        parts->year = number < 69 ? 2000 + number : 1900 + number;
        return true;
    case 'm': return read_number(reading, 2, 1, 12, &parts->month);
    case 'e': skip_white(reading); return read_number(reading, 2, 1, 31, &parts->day);
    case 'd': return read_number(reading, 2, 1, 31, &parts->day);
    case 'H': return read_number(reading, 2, 0, 23, &parts->hour);
    case 'I': return read_number(reading, 2, 1, 12, &reading->twelve);
    case 'p':
        reading->afternoon = read_literal(reading, "PM");
        return reading->afternoon || read_literal(reading, "AM");
    case 'M': return read_number(reading, 2, 0, 59, &parts->minute);
    case 'S': return read_number(reading, 2, 0, 60, &parts->second);
    case 'L': return read_fraction(reading, 3);
    case 'f':
    case 'N': return read_fraction(reading, 9);
    case 's': return read_epoch(reading);
    case 'j': return read_number(reading, 3, 1, 366, &reading->day_of_year);
    case 'a':
    case 'A': return read_name(reading, days, 7, &number);
    case 'b':
    case 'h':
    case 'B': return read_name(reading, months, 12, &parts->month);
    case 'F': return read_parts(reading, "Y-m-d");
    case 'T': return read_parts(reading, "H:M:S");
    case 'R': return read_parts(reading, "H:M");
    case 'D': return read_parts(reading, "m/d/y");
    case 'z': return read_offset(reading);
    case 'Z':
        reading->has_offset = true;
        reading->offset = 0;
        return read_literal(reading, "UTC") || read_literal(reading, "GMT") || read_literal(reading, "Z");
    case '%': return read_literal(reading, "%");
    default: skip_white(reading); return true; /* n, t */
    }
}

/* Letters without their % and what stands between them. */
static bool read_parts(reading_t *reading, const char *format) {
    for (; *format; format++) {
        char separator[2] = {*format};
        bool letter = (*format | 0x20) >= 'a' && (*format | 0x20) <= 'z';
        if (letter ? !read_part(reading, *format) : !read_literal(reading, separator))
            return false;
    }
    return true;
}

static bool read_all(reading_t *reading, text_t format) {
    for (size_t i = 0; i < format.size; i++) {
        char c = format.data[i];
        bool colon;
        if (c == '%') {
            if (!read_part(reading, letter_at(format, &i, &colon)))
                return false;
        } else if (white(c)) {
            skip_white(reading);
        } else if (reading->at == reading->end || *reading->at++ != c) {
            return false;
        }
    }
    return reading->at == reading->end;
}

const char *calendar_parse(text_t text, text_t format, const zone_t *zone, int64_t *ns) {
    reading_t reading = {.at = text.data, .end = text.data + text.size, .parts = {.year = 1970, .month = 1, .day = 1}};
    calendar_parts_t *parts = &reading.parts;
    if (!read_all(&reading, format))
        return "the text does not follow the format";
    if (reading.has_epoch) {
        if (__builtin_mul_overflow(reading.epoch, NS_PER_S, ns) || __builtin_add_overflow(*ns, parts->fraction, ns))
            return "a time out of range";
        return NULL;
    }
    if (reading.twelve)
        parts->hour = reading.twelve % 12 + (reading.afternoon ? 12 : 0);
    if (reading.day_of_year) {
        unsigned month, day;
        int64_t year;
        clock_date(clock_days(parts->year, 1, 1) + reading.day_of_year - 1, &year, &month, &day);
        if (year != parts->year)
            return "there is no such day";
        parts->month = month;
        parts->day = day;
    }
    if (!calendar_time(parts, reading.has_offset ? zone_utc() : zone, ns))
        return "there is no such day, or it is out of range";
    if (reading.has_offset && __builtin_sub_overflow(*ns, reading.offset * NS_PER_S, ns))
        return "a time out of range";
    return NULL;
}
