/* The formats of JSON Schema that are known. */
#include <arpa/inet.h>

#include "base/clock.h"
#include "schema_private.h"

const char schema_formats[] = "date-time, date, email, ipv4, ipv6, uri, uuid";

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
static bool is_hex(char c) { return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f'); }

static bool is_date(text_t text) {
    int64_t ns;
    return text.size == 10 && is_digit(text.data[0]) && text.data[4] == '-' && text.data[7] == '-' && clock_parse(text, &ns);
}

/* RFC 3339: with a time of day and a zone. */
static bool is_date_time(text_t text) {
    int64_t ns;
    if (text.size < 20 || (text.data[10] | 32) != 't' || !is_date(text_make(text.data, 10)) || !clock_parse(text, &ns))
        return false;
    text_t zone = text_make(text.data + 19, text.size - 19);
    return (zone.data[zone.size - 1] | 32) == 'z' || memchr(zone.data, '+', zone.size) || memchr(zone.data, '-', zone.size);
}

/* Something before the last @ and a name of a host behind it; no blanks. */
static bool is_email(text_t text) {
    const char *at = text.size ? memrchr(text.data, '@', text.size) : NULL;
    if (!at || at == text.data || at + 1 == text.data + text.size || memchr(text.data, ' ', text.size))
        return false;
    char before = '.';
    for (const char *p = at + 1; p < text.data + text.size; p++) {
        if (!is_letter(*p) && !is_digit(*p) && *p != '-' && *p != '.' && (unsigned char) *p < 0x80)
            return false;
        if (*p == '.' && before == '.')
            return false;
        before = *p;
    }
    return before != '.';
}

static bool is_address(text_t text, int family) {
    char copy[64];
    unsigned char bytes[16];
    if (text.size >= sizeof copy || memchr(text.data ? text.data : "", 0, text.size))
        return false;
    snprintf(copy, sizeof copy, "%.*s", (int) text.size, text.data ? text.data : "");
    return inet_pton(family, copy, bytes) == 1;
}

static bool is_ipv4(text_t text) { return is_address(text, AF_INET); }
static bool is_ipv6(text_t text) { return is_address(text, AF_INET6); }

/* A scheme, a colon and something behind it; no blanks or control characters. */
static bool is_uri(text_t text) {
    size_t at = 0;
    while (at < text.size && (is_letter(text.data[at]) || (at && (is_digit(text.data[at]) || strchr("+-.", text.data[at])))))
        at++;
    if (at == 0 || at + 1 >= text.size || text.data[at] != ':')
        return false;
    for (; at < text.size; at++)
        if ((unsigned char) text.data[at] <= ' ' || strchr("<>\"{}|\\^`", text.data[at]))
            return false;
    return true;
}

static bool is_uuid(text_t text) {
    if (text.size != 36)
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? text.data[i] != '-' : !is_hex(text.data[i]))
            return false;
    return true;
}

format_fn *schema_format(text_t name) {
    static const struct {
        const char *name;
        format_fn *format;
    } formats[] = {{"date-time", is_date_time}, {"date", is_date}, {"email", is_email}, {"ipv4", is_ipv4}, {"ipv6", is_ipv6}, {"uri", is_uri}, {"uuid", is_uuid}};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (text_is(name, formats[i].name))
            return formats[i].format;
    return NULL;
}
