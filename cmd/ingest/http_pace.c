/* When the next request may go out: what --rate-limit allows, and what the server says of its own limits (RateLimit headers of the IETF's draft in its
 * older and newer forms, X-RateLimit, Retry-After). */
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "http_source.h"

#define LIMIT_MAX 10000
#define WAIT_MAX (86400 * NS_PER_S)
#define EPOCH_FROM 1000000000      /* seconds: what is larger is a moment and no span */
#define EPOCH_MS_FROM 100000000000 /* and from here on it is told in milliseconds */

int http_pace_read(const char *text, unsigned *limit, int64_t *period, err_t *err) {
    text_t rest = text_of(text), number;
    int64_t count = 0, span = 0;
    err_t why;
    bool two = text_split(&rest, '/', &number) && rest.data;
    if (!two || text_to_int(number, &count, &why) || text_to_duration(rest, NS_PER_S, &span, &why) || count < 1 || count > LIMIT_MAX || span < NS_PER_MS ||
        span > WAIT_MAX)
        return err_set(err, "--rate-limit %s: takes N/DURATION, such as 100/1m: 1 to 10000 requests, 1ms to 24h", text);
    *limit = (unsigned) count;
    *period = span;
    return 0;
}

void http_pace_init(http_pace_t *pace, const char *text) {
    *pace = (http_pace_t){.not_before = INT64_MIN};
    if (text && http_pace_read(text, &pace->limit, &pace->period, NULL) == 0)
        pace->sent = mem_zero(pace->limit * sizeof *pace->sent);
}

void http_pace_fini(http_pace_t *pace) {
    mem_free(pace->sent);
}

int64_t http_pace_wait(const http_pace_t *pace, int64_t now) {
    int64_t from = pace->not_before;
    if (pace->count == pace->limit && pace->limit && pace->sent[pace->next] + pace->period > from)
        from = pace->sent[pace->next] + pace->period; /* the oldest of the last `limit` */
    return from > now ? from - now : 0;
}

void http_pace_sent(http_pace_t *pace, int64_t now) {
    if (!pace->limit)
        return;
    pace->sent[pace->next] = now;
    pace->next = (pace->next + 1) % pace->limit;
    pace->count += pace->count < pace->limit;
}

/* A whole number of seconds at the front; -1: there is none. */
static int64_t seconds_of(text_t text) {
    size_t digits = 0;
    int64_t seconds = -1;
    err_t err;
    text = text_trim(text);
    while (digits < text.size && text.data[digits] >= '0' && text.data[digits] <= '9')
        digits++;
    if (!digits || text_to_int(text_make(text.data, digits), &seconds, &err))
        return -1;
    return seconds;
}

static int64_t header_seconds(const http_response_t *response, const char *const *names) {
    int64_t seconds = -1;
    for (; *names && seconds < 0; names++)
        seconds = seconds_of(http_header(response, *names));
    return seconds;
}

/* "default";r=0;t=30, or limit=100, remaining=0, reset=30 */
static void read_combined(text_t header, int64_t *remaining, int64_t *reset) {
    while (header.size) {
        size_t size = 0;
        while (size < header.size && !strchr(";,", header.data[size]))
            size++;
        text_t value = text_make(header.data, size), name;
        header = size < header.size ? text_make(header.data + size + 1, header.size - size - 1) : (text_t){0};
        if (!text_split(&value, '=', &name) || !value.data)
            continue;
        name = text_trim(name);
        if (text_is(name, "r") || text_is(name, "remaining"))
            *remaining = seconds_of(value);
        else if (text_is(name, "t") || text_is(name, "reset"))
            *reset = seconds_of(value);
    }
}

void http_pace_heed(http_pace_t *pace, const http_response_t *response, int64_t now, const char *place) {
    static const char *const remaining_names[] = {"ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining", NULL};
    static const char *const reset_names[] = {"ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset", NULL};
    if (!response->status)
        return;
    int64_t remaining = header_seconds(response, remaining_names), reset = header_seconds(response, reset_names), wait = response->retry_after;
    read_combined(http_header(response, "ratelimit"), &remaining, &reset);
    if (reset >= EPOCH_MS_FROM)
        reset = (reset + 999) / 1000;
    if (reset >= EPOCH_FROM)
        reset -= clock_now() / NS_PER_S;
    if (remaining == 0 && reset > 0) {
        int64_t asked = reset < WAIT_MAX / NS_PER_S ? reset * NS_PER_S : WAIT_MAX;
        wait = asked > wait ? asked : wait;
    }
    if (wait <= 0)
        return;
    pace->not_before = now + wait;
    log_info("%s: the server wants no more requests for %lld s", place, (long long) ((wait + NS_PER_S - 1) / NS_PER_S));
}
