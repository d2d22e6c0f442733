/* Access logs of web servers, in the formats "common" and "combined" of Apache and nginx. A line that is none costs only itself. */
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/format_record.h"
#include "data/pack.h"

#define TIME_SIZE 26                   /* 10/Oct/2000:13:55:36 -0700 */

typedef struct access_log {
    decoder_t decoder;
    line_state_t lines;
    bool combined;
    buf_t plain;                       /* a quoted text without its escapes */
} access_log_t;

/* The parts of a line; {NULL, 0} is what stands there as "-", or not at all. */
typedef struct access_line {
    text_t server, host, identity, user, method, path, protocol, request, referrer, agent, more;
    int64_t time;
    int status;                        /* -1: none */
    int64_t size;                      /* -1: none */
} access_line_t;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* All of the text is this number; -1: it is none. */
static int64_t number_of(text_t text) {
    int64_t number = 0;
    if (!text.size || text.size > 18)
        return -1;
    for (size_t i = 0; i < text.size; i++) {
        if (!is_digit(text.data[i]))
            return -1;
        number = 10 * number + (text.data[i] - '0');
    }
    return number;
}

static text_t part(text_t text, size_t from, size_t size) {
    return text_make(text.data + from, size);
}

/* day/Mon/year:hour:minute:second zone */
static bool read_clf_time(text_t text, int64_t *ns) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec", shape[] = "dd/aaa/dddd:dd:dd:dd sdddd";
    if (text.size != TIME_SIZE)
        return false;
    for (size_t i = 0; i < TIME_SIZE; i++) {
        char c = text.data[i];
        bool fits = shape[i] == 'd' ? is_digit(c) : shape[i] == 's' ? c == '+' || c == '-' : shape[i] == 'a' || c == shape[i];
        if (!fits)
            return false;
    }
    struct tm moment = {.tm_mon = -1};
    for (int i = 0; i < 12; i++)
        if (memcmp(text.data + 3, months + 3 * i, 3) == 0)
            moment.tm_mon = i;
    moment.tm_mday = (int) number_of(part(text, 0, 2));
    moment.tm_year = (int) number_of(part(text, 7, 4)) - 1900;
    moment.tm_hour = (int) number_of(part(text, 12, 2));
    moment.tm_min = (int) number_of(part(text, 15, 2));
    int second = (int) number_of(part(text, 18, 2)), leap = second == 60;
    int64_t zone = number_of(part(text, 22, 2)) * 3600 + number_of(part(text, 24, 2)) * 60;
    moment.tm_sec = second - leap;
    struct tm checked = moment;
    int64_t seconds = timegm(&checked) + leap;
    if (moment.tm_year < 69 || moment.tm_year > 300 || moment.tm_mon < 0 || moment.tm_hour > 23 || moment.tm_min > 59 || second > 60 || checked.tm_mday != moment.tm_mday) /* as 31 of June */
        return false;
    *ns = (seconds - (text.data[21] == '-' ? -zone : zone)) * NS_PER_S;
    return true;
}

static bool read_time(text_t text, int64_t *ns) {
    bool iso = text.size >= 19 && text.data[4] == '-' && value_to_time(value_text(text.data, text.size), ns);
    return (iso || read_clf_time(text, ns)) && *ns >= 0 && *ns <= EVENT_TIME_MAX;
}

/* "-" stands for nothing. */
static text_t or_null(text_t text) {
    return text_is(text, "-") ? text_make(NULL, 0) : text;
}

static text_t word(text_t *rest) {
    const char *blank = rest->size ? memchr(rest->data, ' ', rest->size) : NULL;
    text_t found = text_make(rest->data, blank ? (size_t) (blank - rest->data) : rest->size);
    size_t used = found.size + (blank != NULL);
    *rest = text_make(rest->data + used, rest->size - used);
    return found;
}

/* "..." and the blank behind it, if any; escapes stay as they are. */
static bool quoted(text_t *rest, text_t *out) {
    const char *p = rest->data, *end = rest->data + rest->size;
    if (p == end || *p++ != '"')
        return false;
    const char *begin = p;
    while (p < end && *p != '"')
        p += 1 + (*p == '\\');
    if (p >= end)
        return false;
    *out = or_null(text_make(begin, (size_t) (p - begin)));
    p++;
    if (p < end && *p != ' ')
        return false;
    p += p < end;
    *rest = text_make(p, (size_t) (end - p));
    return true;
}

/* host identity user, or server:port before them. A user's name may have blanks in it. */
static bool read_who(text_t who, access_line_t *line) {
    text_t rest = who, first = word(&rest), copy = rest;
    const char *colon = first.size ? memchr(first.data, ':', first.size) : NULL;
    bool port = colon && number_of(text_make(colon + 1, (size_t) (first.data + first.size - colon - 1))) >= 0;
    word(&copy);
    word(&copy);
    if (port && copy.size) {
        line->server = first;
        first = word(&rest);
    }
    line->host = or_null(first);
    line->identity = or_null(word(&rest));
    line->user = or_null(rest);
    return first.size && rest.size;
}

/* Finds the time in its brackets; what stands before says who asked. */
static bool read_head(text_t *rest, access_line_t *line) {
    const char *end = rest->data + rest->size;
    for (const char *p = rest->data; (p = memchr(p, '[', (size_t) (end - p))); p++) {
        const char *close = memchr(p, ']', (size_t) (end - p));
        if (!close)
            return false;
        if (p - rest->data < 2 || p[-1] != ' ' || end - close < 2 || close[1] != ' ' || !read_time(text_make(p + 1, (size_t) (close - p - 1)), &line->time))
            continue;
        if (!read_who(text_make(rest->data, (size_t) (p - 1 - rest->data)), line))
            return false;
        *rest = text_make(close + 2, (size_t) (end - close - 2));
        return true;
    }
    return false;
}

/* METHOD path PROTOCOL, or METHOD path; what is neither stays whole. */
static void split_request(access_line_t *line) {
    if (!line->request.data)
        return;
    text_t rest = line->request, method = word(&rest);
    size_t letters = 0, last = rest.size;
    while (letters < method.size && ((method.data[letters] >= 'A' && method.data[letters] <= 'Z') || method.data[letters] == '_' || method.data[letters] == '-'))
        letters++;
    if (!method.size || letters < method.size || !rest.size)
        return;
    while (last && rest.data[last - 1] != ' ')
        last--;
    line->method = method;
    line->path = rest;
    line->request = (text_t){0};
    if (last && rest.size - last > 5 && memcmp(rest.data + last, "HTTP/", 5) == 0) {
        line->path = text_make(rest.data, last - 1);
        line->protocol = text_make(rest.data + last, rest.size - last);
    }
}

static int read_parts(const access_log_t *self, text_t rest, access_line_t *line, err_t *err) {
    if (!read_head(&rest, line))
        return err_set(err, "expected HOST IDENTITY USER [TIME] and more");
    if (!quoted(&rest, &line->request))
        return err_set(err, "expected the request in quotes behind the time");
    text_t status = word(&rest), size = word(&rest);
    line->status = (int) (status.size == 3 ? number_of(status) : -1);
    line->size = number_of(size);
    if (line->status < 0 && !text_is(status, "-"))
        return err_set(err, "expected a status of three digits, or -, behind the request");
    if (line->size < 0 && !text_is(size, "-"))
        return err_set(err, "expected a number of bytes, or -, behind the status");
    if (self->combined && (!quoted(&rest, &line->referrer) || !quoted(&rest, &line->agent)))
        return err_set(err, "expected referrer and user agent in quotes at the end; --format common has none");
    line->more = rest;
    split_request(line);
    return 0;
}

static int hex(char c) {
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Without escapes: \" \\ \n \r \t \b \f \v and \xHH; but when that gives no valid text it stays as it is. */
static text_t unescape(access_log_t *self, text_t text) {
    static const char letters[] = "\"\\nrtbfv", meant[] = "\"\\\n\r\t\b\f\v";
    if (!text.size || !memchr(text.data, '\\', text.size))
        return text;
    buf_clear(&self->plain);
    for (size_t i = 0; i < text.size; i++) {
        size_t left = text.size - i;
        const char *letter = text.data[i] == '\\' && left > 1 ? strchr(letters, text.data[i + 1]) : NULL;
        if (letter && *letter) {
            buf_put_byte(&self->plain, (uint8_t) meant[letter - letters]);
            i++;
        } else if (text.data[i] == '\\' && left > 3 && text.data[i + 1] == 'x' && hex(text.data[i + 2]) >= 0 && hex(text.data[i + 3]) >= 0) {
            buf_put_byte(&self->plain, (uint8_t) (hex(text.data[i + 2]) << 4 | hex(text.data[i + 3])));
            i += 3;
        } else {
            buf_put_byte(&self->plain, (uint8_t) text.data[i]);
        }
    }
    text_t plain = text_make((const char *) self->plain.data, self->plain.size);
    return text_utf8_valid(plain.data, plain.size) < plain.size || memchr(plain.data, 0, plain.size) ? text : plain;
}

static void put(access_log_t *self, const char *name, text_t text, buf_t *out) {
    pack_text(out, name);
    if (!text.data) {
        pack_nil(out);
        return;
    }
    text = unescape(self, text);
    pack_string(out, text.data, text.size);
}

static void put_number(const char *name, int64_t number, buf_t *out) {
    pack_text(out, name);
    if (number < 0)
        pack_nil(out);
    else
        pack_int(out, number);
}

static void put_line(access_log_t *self, const access_line_t *line, buf_t *out) {
    bool whole = line->request.data, more = line->more.size;
    pack_map(out, 9u + (line->server.data != NULL) + whole + more + (self->combined ? 2 : 0));
    if (line->server.data)
        put(self, "server", line->server, out);
    put(self, "host", line->host, out);
    put(self, "identity", line->identity, out);
    put(self, "user", line->user, out);
    pack_text(out, "timestamp");
    pack_time(out, line->time);
    if (whole)
        put(self, "request", line->request, out);
    put(self, "method", line->method, out);
    put(self, "path", line->path, out);
    put(self, "protocol", line->protocol, out);
    put_number("status", line->status, out);
    put_number("size", line->size, out);
    if (self->combined) {
        put(self, "referrer", line->referrer, out);
        put(self, "agent", line->agent, out);
    }
    if (more)
        put(self, "more", line->more, out);
}

static bool read_line(decoder_t *decoder, text_t text, const char *readable, decode_target_t *target) {
    access_log_t *self = (access_log_t *) decoder;
    access_line_t line = {.status = -1, .size = -1};
    err_t err;
    if (text.size && text.data[text.size - 1] == '\r')
        text.size--;
    if (text.size == 0)
        return false;
    if (text_utf8_valid(text.data, text.size) < text.size || memchr(text.data, 0, text.size)) {
        format_bad(decoder, target, text, "invalid UTF-8 or a NUL byte");
        return false;
    }
    if (read_parts(self, text, &line, &err)) {
        format_bad(decoder, target, text, err.text);
        return false;
    }
    builder_begin(target->builder);
    put_line(self, &line, &target->builder->body);
    target->topic = NULL;
    return format_commit(target, true, line.time);
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    return format_feed_lines(&((access_log_t *) decoder)->lines, decoder, data, size, at_end, target, read_line);
}

static void reset(decoder_t *decoder) {
    ((access_log_t *) decoder)->lines.skipping = false;
}

static uint64_t state(const decoder_t *decoder) {
    return ((const access_log_t *) decoder)->lines.skipping;
}

static void restore(decoder_t *decoder, uint64_t state) {
    ((access_log_t *) decoder)->lines.skipping = state & 1;
}

static void free_decoder(decoder_t *decoder) {
    buf_fini(&((access_log_t *) decoder)->plain);
    mem_free(decoder);
}

static int open_decoder(decoder_t **decoder, const format_settings_t *settings, bool combined, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    if (settings->time_field && strcmp(settings->time_field, "timestamp") != 0)
        return err_set(err, "--time %s: a line of the format \"%s\" has its time in the field timestamp", settings->time_field, combined ? "combined" : "common");
    access_log_t *self = mem_zero(sizeof *self);
    self->decoder.class = &class;
    self->lines.limit = format_record_limit(settings);
    self->combined = combined;
    *decoder = &self->decoder;
    return 0;
}

int format_common_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    return open_decoder(decoder, settings, false, err);
}

int format_combined_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    return open_decoder(decoder, settings, true, err);
}
