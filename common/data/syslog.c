/* syslog messages: the two forms that are in use, told apart by the version behind the priority. */
#include "data/syslog.h"

#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"

#define PRIORITY_MAX 191

static const char *const severities[] = {"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"};
static const char *const facilities[] = {"kern",   "user",   "mail",   "daemon", "auth",   "syslog", "lpr",    "news",   "uucp",   "cron",   "authpriv", "ftp",
                                         "ntp",    "audit",  "alert",  "clock",  "local0", "local1", "local2", "local3", "local4", "local5", "local6",   "local7"};

/* Packs the value that put writes, and notes it. Values do not move: there is room for them from the start. */
static void put_text(syslog_t *syslog, const char *name, text_t text) {
    size_t start = syslog->values.size;
    pack_string(&syslog->values, text.data, text.size);
    fields_put(&syslog->fields, text_of(name), syslog->values.data + start, (uint32_t) (syslog->values.size - start));
}

static void put_time(syslog_t *syslog, int64_t ns) {
    size_t start = syslog->values.size;
    pack_time(&syslog->values, ns);
    fields_put(&syslog->fields, text_of("timestamp"), syslog->values.data + start, (uint32_t) (syslog->values.size - start));
}

/* "<34>"; 0 when there is none, else its size; -1: it is none. */
static int read_priority(text_t line, unsigned *priority) {
    if (!line.size || line.data[0] != '<')
        return 0;
    *priority = 0;
    size_t at = 1;
    for (; at < line.size && at < 4 && line.data[at] >= '0' && line.data[at] <= '9'; at++)
        *priority = 10 * *priority + (unsigned) (line.data[at] - '0');
    return at > 1 && at < line.size && line.data[at] == '>' && *priority <= PRIORITY_MAX ? (int) at + 1 : -1;
}

/* What stands before the next blank. */
static text_t word(text_t *rest) {
    const char *blank = rest->size ? memchr(rest->data, ' ', rest->size) : NULL;
    text_t found = text_make(rest->data, blank ? (size_t) (blank - rest->data) : rest->size);
    size_t used = found.size + (blank != NULL);
    *rest = text_make(rest->data + used, rest->size - used);
    return found;
}

static bool is_number(text_t text, int *number, int least, int most) {
    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || i > 3)
            return false;
        *number = 10 * *number + (text.data[i] - '0');
    }
    return text.size && *number >= least && *number <= most;
}

/* Jan  2 03:04:05, in the year that brings it nearest to `about`. Returns its size, or 0. */
static size_t read_bsd_time(text_t text, int64_t about, int64_t *ns) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    if (text.size < 15)
        return 0;
    struct tm moment = {.tm_mon = -1};
    for (int i = 0; i < 12; i++)
        if (memcmp(text.data, months + 3 * i, 3) == 0)
            moment.tm_mon = i;
    bool padded = text.data[4] == ' ';
    if (moment.tm_mon < 0 || text.data[3] != ' ' || !is_number(text_make(text.data + 4 + padded, 2 - padded), &moment.tm_mday, 1, 31) || text.data[6] != ' ' ||
        !is_number(text_make(text.data + 7, 2), &moment.tm_hour, 0, 23) || text.data[9] != ':' || !is_number(text_make(text.data + 10, 2), &moment.tm_min, 0, 59) ||
        text.data[12] != ':' || !is_number(text_make(text.data + 13, 2), &moment.tm_sec, 0, 60) || (text.size > 15 && text.data[15] != ' '))
        return 0;
    struct tm around;
    time_t seconds = (time_t) (about / NS_PER_S);
    gmtime_r(&seconds, &around);
    int64_t best = INT64_MAX;
    for (int year = around.tm_year - 1; year <= around.tm_year + 1; year++) {
        struct tm tried = moment;
        tried.tm_year = year;
        int64_t time = (int64_t) timegm(&tried) - seconds, distance = time < 0 ? -time : time;
        if (tried.tm_mon == moment.tm_mon && distance < best) { /* not so for February 29 in other years */
            best = distance;
            *ns = (seconds + time) * NS_PER_S;
        }
    }
    return best == INT64_MAX ? 0 : 15;
}

static bool read_iso_time(text_t text, int64_t *ns) {
    return text.size >= 10 && text.data[0] >= '0' && text.data[0] <= '9' && memchr(text.data, '-', text.size) && value_to_time(value_text(text.data, text.size), ns);
}

/* [id name="value" ...]..., or -. Its map is packed to the values. */
static int read_data(syslog_t *syslog, text_t *rest, err_t *err) {
    if (rest->size && rest->data[0] == '-') {
        word(rest);
        return 0;
    }
    const char *p = rest->data, *end = rest->data + rest->size;
    if (p == end || *p != '[')
        return err_set(err, "expected structured data, or -");
    fields_t elements = {0}, pairs = {0};
    buf_t packed = {0}, text = {0}, map = {0};
    buf_reserve(&packed, 16 * rest->size + 64);
    buf_reserve(&text, 16 * rest->size + 64);
    int rc = 0;
    while (rc == 0 && p < end && *p == '[') {
        const char *id = ++p;
        while (p < end && *p != ' ' && *p != ']' && *p != '=' && *p != '"')
            p++;
        text_t name = text_make(id, (size_t) (p - id));
        fields_clear(&pairs);
        while (p < end && *p == ' ') {
            const char *key = ++p;
            while (p < end && *p != '=' && *p != ' ' && *p != ']' && *p != '"')
                p++;
            text_t field = text_make(key, (size_t) (p - key));
            if (end - p < 2 || p[0] != '=' || p[1] != '"') {
                p = end;
                break;
            }
            size_t start = text.size, value = packed.size;
            for (p += 2; p < end && *p != '"'; p++) {
                p += *p == '\\' && end - p > 1 && strchr("\"\\]", p[1]) != NULL;
                buf_put_byte(&text, (uint8_t) *p);
            }
            p += p < end;
            pack_string(&packed, (const char *) text.data + start, text.size - start);
            fields_put(&pairs, field, packed.data + value, (uint32_t) (packed.size - value));
        }
        if (p >= end || *p != ']' || !name.size) {
            rc = err_set(err, "structured data that is malformed");
            break;
        }
        p++;
        buf_clear(&map);
        fields_pack(&pairs, &map);
        size_t start = packed.size;
        buf_put(&packed, map.data, map.size);
        fields_put(&elements, name, packed.data + start, (uint32_t) (packed.size - start));
    }
    if (rc == 0) {
        size_t start = syslog->values.size;
        fields_pack(&elements, &syslog->values);
        fields_put(&syslog->fields, text_of("data"), syslog->values.data + start, (uint32_t) (syslog->values.size - start));
        *rest = text_make(p, (size_t) (end - p));
        if (rest->size && rest->data[0] == ' ')
            word(rest);
        else if (rest->size)
            rc = err_set(err, "structured data that is malformed");
    }
    fields_fini(&elements);
    fields_fini(&pairs);
    buf_fini(&packed);
    buf_fini(&text);
    buf_fini(&map);
    return rc;
}

/* Behind "<PRI>1 ". */
static int read_new(syslog_t *syslog, text_t rest, err_t *err) {
    static const char *const names[] = {"hostname", "appname", "procid", "msgid"};
    text_t time = word(&rest);
    int64_t ns;
    if (read_iso_time(time, &ns))
        put_time(syslog, ns);
    else if (!text_is(time, "-"))
        return err_set(err, "a timestamp that cannot be read");
    for (unsigned i = 0; i < 4; i++) {
        text_t found = word(&rest);
        if (!found.size)
            return err_set(err, "no %s", names[i]);
        if (!text_is(found, "-"))
            put_text(syslog, names[i], found);
    }
    if (read_data(syslog, &rest, err))
        return -1;
    if (rest.size >= 3 && memcmp(rest.data, "\xef\xbb\xbf", 3) == 0)
        rest = text_make(rest.data + 3, rest.size - 3);
    put_text(syslog, "message", rest);
    return 0;
}

/* "app[123]: message", "app: message" or a message alone. */
static void read_tag(syslog_t *syslog, text_t rest) {
    size_t at = 0;
    while (at < rest.size && rest.data[at] != ':' && rest.data[at] != '[' && rest.data[at] != ' ')
        at++;
    text_t app = text_make(rest.data, at), pid = {0};
    if (at < rest.size && rest.data[at] == '[') {
        const char *close = memchr(rest.data + at, ']', rest.size - at);
        if (close) {
            pid = text_make(rest.data + at + 1, (size_t) (close - rest.data) - at - 1);
            at = (size_t) (close - rest.data) + 1;
        }
    }
    if (app.size && at < rest.size && rest.data[at] == ':') {
        put_text(syslog, "appname", app);
        if (pid.size)
            put_text(syslog, "procid", pid);
        at += 1 + (at + 1 < rest.size && rest.data[at + 1] == ' ');
        rest = text_make(rest.data + at, rest.size - at);
    }
    put_text(syslog, "message", rest);
}

/* Behind "<PRI>", which a log file lacks. */
static int read_old(syslog_t *syslog, text_t rest, int64_t about, err_t *err) {
    text_t after = rest, first = word(&after);
    int64_t ns;
    size_t size = read_bsd_time(rest, about, &ns);
    if (size)
        after = text_make(rest.data + size, rest.size - size);
    else if (!read_iso_time(first, &ns))
        return err_set(err, "a timestamp that cannot be read");
    if (size && after.size)
        word(&after); /* the blank */
    put_time(syslog, ns);
    text_t host = word(&after);
    if (!host.size)
        return err_set(err, "no hostname");
    put_text(syslog, "hostname", host);
    read_tag(syslog, after);
    return 0;
}

int syslog_read(syslog_t *syslog, text_t line, int64_t about, err_t *err) {
    while (line.size && (line.data[line.size - 1] == '\n' || line.data[line.size - 1] == '\r' || line.data[line.size - 1] == 0))
        line.size--;
    fields_clear(&syslog->fields);
    buf_clear(&syslog->values);
    buf_reserve(&syslog->values, 32 * line.size + 1024);
    unsigned priority = 0;
    int size = read_priority(line, &priority);
    if (size < 0)
        return err_set(err, "a priority that cannot be read");
    line = text_make(line.data + size, line.size - (size_t) size);
    if (size) {
        put_text(syslog, "facility", text_of(facilities[priority / 8]));
        put_text(syslog, "severity", text_of(severities[priority % 8]));
    }
    if (size && line.size > 1 && line.data[0] == '1' && line.data[1] == ' ')
        return read_new(syslog, text_make(line.data + 2, line.size - 2), err);
    return read_old(syslog, line, about, err);
}

void syslog_fini(syslog_t *syslog) {
    fields_fini(&syslog->fields);
    buf_fini(&syslog->values);
}
