#ifndef BASE_ZONE_RULE_H
#define BASE_ZONE_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

/* Internal to zones: the rule for coming years, as POSIX writes it in TZ: "CET-1CEST,M3.5.0,M10.5.0/3", with the extensions of RFC 9636. */
#define ZONE_OFFSET_MAX 93599     /* seconds; 25:59:59 */

typedef struct zone_side {        /* standard time, or summer time */
    int32_t offset;               /* seconds east of UTC */
    char name[12];
} zone_side_t;

typedef struct zone_day {         /* when it begins, each year */
    char form;                    /* 'M': month, week (5: the last), weekday (0: Sunday); 'J': day 1 to 365 without leap days; 0: day 0 to 365 */
    uint16_t day;
    uint8_t month, week, weekday;
    int32_t time;                 /* seconds behind midnight by the clocks until then; may be negative, and beyond a day */
} zone_day_t;

typedef struct zone_rule {
    zone_side_t standard, summer;
    bool has_summer;
    zone_day_t starts, ends;      /* of summer time */
} zone_rule_t;

bool zone_rule_read(text_t text, zone_rule_t *rule);
const zone_side_t *zone_rule_at(const zone_rule_t *rule, int64_t seconds);    /* since 1970 UTC */

#endif
