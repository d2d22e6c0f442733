/* Time zones: transitions from a TZif file, and the rule at its end for the years after them. */
#include "base/zone.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/zone_rule.h"

#define FILE_MAX (1024 * 1024)
#define HEADER 44
#define DAY 86400

typedef struct kind {
    int32_t offset;           /* seconds east of UTC */
    uint8_t name;             /* where the abbreviation begins in names */
} kind_t;

struct zone {
    int64_t *moments;         /* when clocks changed, ascending */
    uint8_t *kinds_at;        /* and to what */
    uint32_t count;
    kind_t *kinds;
    uint32_t kind_count;
    char *names;              /* NUL behind each, and at the end */
    bool has_rule;            /* for what is behind the last moment */
    zone_rule_t rule;
};

typedef struct counts {
    uint32_t moments, kinds, names, leaps, standards, universals;
} counts_t;

static uint32_t read32(const uint8_t *at) {
    return (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 | (uint32_t) at[2] << 8 | at[3];
}

static int64_t read64(const uint8_t *at) {
    return (int64_t) ((uint64_t) read32(at) << 32 | read32(at + 4));
}

/* A header at `at`; false when it is none or its block, with times of so many bytes, does not fit. */
static bool read_counts(const uint8_t *at, const uint8_t *end, unsigned width, counts_t *counts, size_t *block) {
    if (end - at < HEADER || memcmp(at, "TZif", 4) != 0)
        return false;
    *counts = (counts_t){.universals = read32(at + 20), .standards = read32(at + 24), .leaps = read32(at + 28), .moments = read32(at + 32),
                         .kinds = read32(at + 36), .names = read32(at + 40)};
    uint64_t size = (uint64_t) counts->moments * (width + 1) + (uint64_t) counts->kinds * 6 + counts->names + (uint64_t) counts->leaps * (width + 4) +
                    counts->standards + counts->universals;
    if (size > (uint64_t) (end - at - HEADER))
        return false;
    *block = (size_t) size;
    return true;
}

static bool read_block(zone_t *zone, const uint8_t *at, const counts_t *counts) {
    if (!counts->kinds || counts->kinds > 256 || !counts->names || counts->names > 256)
        return false;
    zone->count = counts->moments;
    zone->moments = mem_alloc(counts->moments * sizeof *zone->moments);
    for (uint32_t i = 0; i < counts->moments; i++, at += 8) {
        zone->moments[i] = read64(at);
        if (i && zone->moments[i] <= zone->moments[i - 1])
            return false;
    }
    zone->kinds_at = mem_copy(at, counts->moments);
    for (uint32_t i = 0; i < counts->moments; i++)
        if (zone->kinds_at[i] >= counts->kinds)
            return false;
    at += counts->moments;
    zone->kind_count = counts->kinds;
    zone->kinds = mem_alloc(counts->kinds * sizeof *zone->kinds);
    for (uint32_t i = 0; i < counts->kinds; i++, at += 6) {
        zone->kinds[i] = (kind_t){(int32_t) read32(at), at[5]};
        if (zone->kinds[i].offset < -ZONE_OFFSET_MAX || zone->kinds[i].offset > ZONE_OFFSET_MAX || at[5] >= counts->names)
            return false;
    }
    zone->names = mem_text_n((const char *) at, counts->names);
    return true;
}

/* Version 1 has times of 32 bits only; all files since 2006 have a second part with 64 bits, and a rule between two line ends. */
static bool read_file(zone_t *zone, const uint8_t *bytes, size_t size) {
    const uint8_t *end = bytes + size;
    counts_t counts;
    size_t block;
    if (!read_counts(bytes, end, 4, &counts, &block) || bytes[4] < '2')
        return false;
    const uint8_t *at = bytes + HEADER + block;
    if (!read_counts(at, end, 8, &counts, &block) || !read_block(zone, at + HEADER, &counts))
        return false;
    at += HEADER + block;
    const uint8_t *last = at < end && *at == '\n' ? memchr(at + 1, '\n', (size_t) (end - at - 1)) : NULL;
    if (!last)
        return false;
    zone->has_rule = last > at + 1;
    return !zone->has_rule || zone_rule_read(text_make((const char *) at + 1, (size_t) (last - at - 1)), &zone->rule);
}

zone_t *zone_read(const uint8_t *bytes, size_t size, err_t *err) {
    zone_t *zone = mem_zero(sizeof *zone);
    if (read_file(zone, bytes, size))
        return zone;
    err_set(err, "no time zone data (TZif, version 2 or later)");
    zone_free(zone);
    return NULL;
}

void zone_free(void *memory) {
    zone_t *zone = memory;
    if (!zone)
        return;
    mem_free(zone->moments);
    mem_free(zone->kinds_at);
    mem_free(zone->kinds);
    mem_free(zone->names);
    mem_free(zone);
}

const zone_t *zone_utc(void) {
    static const zone_t utc = {.has_rule = true, .rule = {.standard = {.name = "UTC"}}};
    return &utc;
}

/* Z, or +hh, +hhmm, +hh:mm. */
static bool read_fixed(text_t name, int32_t *offset) {
    if (text_is(name, "Z") || text_is(name, "UTC")) {
        *offset = 0;
        return true;
    }
    if (name.size < 3 || name.size > 6 || (name.data[0] != '+' && name.data[0] != '-'))
        return false;
    int32_t digits = 0;
    unsigned count = 0;
    for (size_t i = 1; i < name.size; i++) {
        if (name.data[i] == ':' && i == 3 && name.size == 6)
            continue;
        if (name.data[i] < '0' || name.data[i] > '9')
            return false;
        digits = 10 * digits + name.data[i] - '0';
        count++;
    }
    int32_t hours = count == 4 ? digits / 100 : digits, minutes = count == 4 ? digits % 100 : 0;
    if ((count != 2 && count != 4) || hours > 23 || minutes > 59)
        return false;
    *offset = (name.data[0] == '-' ? -1 : 1) * (3600 * hours + 60 * minutes);
    return true;
}

static zone_t *fixed(int32_t offset) {
    zone_t *zone = mem_zero(sizeof *zone);
    zone->has_rule = true;
    zone->rule.standard.offset = offset;
    int32_t minutes = (offset < 0 ? -offset : offset) / 60;
    if (offset == 0)
        snprintf(zone->rule.standard.name, sizeof zone->rule.standard.name, "UTC");
    else
        snprintf(zone->rule.standard.name, sizeof zone->rule.standard.name, "%c%02d:%02d", offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
    return zone;
}

/* A path below the directory, and none of the files there that mean "the zone of this machine". */
static bool plausible(text_t name) {
    if (!name.size || name.size > 64 || text_is(name, "localtime") || text_is(name, "posixrules"))
        return false;
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (i == 0 ? !letter : !letter && !(c >= '0' && c <= '9') && c != '_' && c != '-' && c != '+' && c != '/')
            return false;
    }
    return true;
}

zone_t *zone_new(text_t name, err_t *err) {
    int32_t offset;
    if (read_fixed(name, &offset))
        return fixed(offset);
    int shown = name.size > 64 ? 64 : (int) name.size;
    if (!plausible(name)) {
        err_set(err, "there is no time zone \"%.*s\"", shown, name.data);
        return NULL;
    }
    char path[sizeof ZONE_DIRECTORY + 72];
    snprintf(path, sizeof path, ZONE_DIRECTORY "/%.*s", shown, name.data);
    buf_t bytes = {0};
    zone_t *zone = NULL;
    if (file_read(path, FILE_MAX, &bytes, NULL) == 0)
        zone = zone_read(bytes.data, bytes.size, NULL);
    buf_fini(&bytes);
    if (!zone)
        err_set(err, "there is no time zone \"%.*s\" in " ZONE_DIRECTORY, shown, name.data);
    return zone;
}

int32_t zone_offset(const zone_t *zone, int64_t seconds, const char **abbreviation) {
    const kind_t *kind;
    if (!zone->count || seconds >= zone->moments[zone->count - 1]) {
        if (zone->has_rule) {
            const zone_side_t *side = zone_rule_at(&zone->rule, seconds);
            if (abbreviation)
                *abbreviation = side->name;
            return side->offset;
        }
        kind = &zone->kinds[zone->count ? zone->kinds_at[zone->count - 1] : 0];
    } else if (seconds < zone->moments[0]) {
        kind = &zone->kinds[0];
    } else {
        uint32_t low = 0, high = zone->count - 1; /* moments[low] <= seconds < moments[high] */
        while (high - low > 1) {
            uint32_t middle = low + (high - low) / 2;
            if (zone->moments[middle] <= seconds)
                low = middle;
            else
                high = middle;
        }
        kind = &zone->kinds[zone->kinds_at[low]];
    }
    if (abbreviation)
        *abbreviation = zone->names + kind->name;
    return kind->offset;
}

/* Offsets are below a day and a few hours, and changes are days apart: those in force a day before and a day after are all that can matter. */
int64_t zone_moment(const zone_t *zone, int64_t local, int32_t prefer) {
    int32_t before = zone_offset(zone, local - DAY, NULL), after = zone_offset(zone, local + DAY, NULL);
    if (before == after)
        return local - before;
    bool early = zone_offset(zone, local - before, NULL) == before, late = zone_offset(zone, local - after, NULL) == after;
    if (late && (!early || after == prefer))
        return local - after;
    return local - before; /* also in a gap: so much behind it */
}

#define SLOTS 2048            /* a power of 2; more than three times the zones that there are */

typedef struct entry {
    char *name;
    zone_t *zone;
} entry_t;

struct zone_cache {
    entry_t entries[SLOTS];
    unsigned count;
};

zone_cache_t *zone_cache_new(void) {
    return mem_zero(sizeof(zone_cache_t));
}

static void forget(zone_cache_t *cache) {
    for (unsigned i = 0; i < SLOTS; i++) {
        mem_free(cache->entries[i].name);
        zone_free(cache->entries[i].zone);
        cache->entries[i] = (entry_t){0};
    }
    cache->count = 0;
}

void zone_cache_free(void *memory) {
    zone_cache_t *cache = memory;
    if (!cache)
        return;
    forget(cache);
    mem_free(cache);
}

const zone_t *zone_cache_get(zone_cache_t *cache, text_t name, err_t *err) {
    uint32_t slot = 2166136261u;
    for (size_t i = 0; i < name.size && i < 64; i++)
        slot = (slot ^ (unsigned char) name.data[i]) * 16777619u;
    for (slot %= SLOTS; cache->entries[slot].name; slot = (slot + 1) % SLOTS)
        if (text_is(name, cache->entries[slot].name))
            return cache->entries[slot].zone;
    zone_t *zone = zone_new(name, err);
    if (!zone)
        return NULL;
    if (cache->count == SLOTS / 2) { /* someone invents offsets */
        forget(cache);
        zone_free(zone);
        return zone_cache_get(cache, name, err);
    }
    cache->entries[slot] = (entry_t){mem_text_n(name.data, name.size), zone};
    cache->count++;
    return zone;
}
