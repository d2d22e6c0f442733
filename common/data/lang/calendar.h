#ifndef DATA_LANG_CALENDAR_H
#define DATA_LANG_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"
#include "base/zone.h"

/* Times as calendars and clocks of a zone show them: their parts, units of a calendar, and texts by a format. Times are ns since 1970 UTC. */
typedef struct moment {
    int64_t seconds;          /* since 1970 UTC */
    int64_t days, year;       /* local; days since 1970-01-01 */
    unsigned month, day, hour, minute, second;        /* local */
    int64_t fraction;         /* ns */
    int32_t offset;           /* of the zone, then */
    const char *zone_name;    /* borrowed from the zone */
} moment_t;

moment_t moment_of(int64_t ns, const zone_t *zone);
unsigned moment_weekday(const moment_t *moment);      /* 1 (Monday) to 7 */
unsigned moment_day_of_year(const moment_t *moment);  /* from 1 */
/* The week's number by ISO 8601, 1 to 53, and the year that it belongs to. */
unsigned moment_week(const moment_t *moment, int64_t *year);

typedef enum calendar_unit { UNIT_YEAR, UNIT_QUARTER, UNIT_MONTH, UNIT_WEEK, UNIT_DAY, UNIT_HOUR, UNIT_MINUTE, UNIT_SECOND } calendar_unit_t;
#define CALENDAR_UNITS "year, quarter, month, week, day, hour, minute or second"
bool calendar_unit(text_t name, calendar_unit_t *unit);       /* month, or months */

/* Each gives false when the result is out of range. */
/* Where the unit that the time is in began. Weeks begin on Monday. */
bool calendar_floor(int64_t ns, calendar_unit_t unit, const zone_t *zone, int64_t *result);
/* So many units later. Those from a day on keep the time of day, and those from a month on the day of the month, or take the month's last. */
bool calendar_add(int64_t ns, int64_t count, calendar_unit_t unit, const zone_t *zone, int64_t *result);
/* The greatest count, in size, for which calendar_add does not go beyond `to`. */
int64_t calendar_between(int64_t from, int64_t to, calendar_unit_t unit, const zone_t *zone);

/* A local date and time of day, with out-of-range parts refused; second 60 is the next second 0. */
typedef struct calendar_parts {
    int64_t year;
    unsigned month, day, hour, minute, second;
    int64_t fraction;
} calendar_parts_t;
bool calendar_time(const calendar_parts_t *parts, const zone_t *zone, int64_t *ns);

/* Writing and reading by a format like strftime's; stream-language(7) lists the letters. The first byte in the format that is no such letter, or -1. */
int calendar_format_fault(text_t format, bool reading);
bool calendar_print(buf_t *out, const moment_t *moment, text_t format);       /* false: a fault in the format */
/* NULL, or what is wrong. */
const char *calendar_parse(text_t text, text_t format, const zone_t *zone, int64_t *ns);

#endif
