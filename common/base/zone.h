#ifndef BASE_ZONE_H
#define BASE_ZONE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"

/* Time zones of the IANA database, read from the system's files (TZif, RFC 9636) once; never the C library's zone, which is the process's.
 * A zone does not change and may be used by several threads. */
typedef struct zone zone_t;

#define ZONE_DIRECTORY "/usr/share/zoneinfo"

/* "Europe/Berlin", "UTC", or a fixed offset: "Z", "+02:00", "-0330", "+01". NULL on failure: no such zone, a damaged file. */
zone_t *zone_new(text_t name, err_t *err);
/* From the bytes of a TZif file. */
zone_t *zone_read(const uint8_t *bytes, size_t size, err_t *err);
void zone_free(void *zone);                           /* NULL is legal */
const zone_t *zone_utc(void);

/* Seconds east of UTC at a moment (seconds since 1970 UTC). abbreviation ("CET"; may be NULL) is borrowed from the zone. */
int32_t zone_offset(const zone_t *zone, int64_t seconds, const char **abbreviation);

/* The moment at which clocks show a local time (seconds since 1970 as if it were UTC). Where they show it twice, because they were set
 * back, it is the first time; `prefer`, an offset, decides where it is one of the two. Where they never show it, because they were put forward, it is
 * as much later as they were put forward. */
#define ZONE_NO_OFFSET INT32_MIN
int64_t zone_moment(const zone_t *zone, int64_t local, int32_t prefer);

/* Zones by name, read when they are first asked for. */
typedef struct zone_cache zone_cache_t;
zone_cache_t *zone_cache_new(void);
void zone_cache_free(void *cache);
const zone_t *zone_cache_get(zone_cache_t *cache, text_t name, err_t *err);   /* borrowed until the next get */

#endif
