#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

int64_t clock_now(void);              /* wall clock, ns since 1970 UTC: event times only */
int64_t clock_monotonic(void);        /* ns: every timer and duration */

/* Days since 1970-01-01 of a proleptic Gregorian date, and back (H. Hinnant, "chrono-compatible
 * low-level date algorithms"). month and day count from 1. */
int64_t clock_days(int64_t year, unsigned month, unsigned day);
void clock_date(int64_t days, int64_t *year, unsigned *month, unsigned *day);

/* ISO 8601 / RFC 3339: date, 'T' or blank, time with optional seconds and fraction, then Z, +hh:mm,
 * +hhmm or nothing (UTC). A date alone is its midnight. Any more text is a failure. ns since 1970 UTC. */
bool clock_parse(text_t text, int64_t *ns);
/* As clock_parse, and whether the text says its zone. */
bool clock_parse_zoned(text_t text, int64_t *ns, bool *zoned);

/* A number as epoch time: its size tells seconds, ms, us or ns (below 1e11, 1e14, 1e17). What is beyond int64 ns
 * gives the nearest end. A double has no more than microseconds to tell: rounded to them. False for NaN and infinities. */
int64_t clock_from_integer(int64_t number);
bool clock_from_double(double number, int64_t *ns);

/* RFC 3339 UTC with as many decimals as needed ("2026-01-02T03:04:05.25Z"). At most CLOCK_TEXT_MAX bytes, no NUL. */
#define CLOCK_TEXT_MAX 40
size_t clock_print(char *out, int64_t ns);
/* The decimals alone, for a time whose seconds are printed already: ".25", or nothing for 0. fraction is below 10^9; 10 bytes may be touched. */
size_t clock_print_fraction(char *out, uint32_t fraction);

#endif
