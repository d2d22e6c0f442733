/* What a request to a web address says: its URL with parameters, its body, its headers; the words in braces are filled in. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "http_source.h"

typedef enum encoding { ENCODE_URL, ENCODE_JSON, ENCODE_FORM } encoding_t;

static const char *const words[] = {"{cursor}", "{page}", "{offset}", "{limit}", "{now}", "{since}"};

bool http_request_mentions(const http_settings_t *settings, const char *url, const char *word) {
    bool found = strstr(url, word) || (settings->body && strstr(settings->body, word));
    for (size_t i = 0; i < settings->params.count; i++)
        found |= strstr(settings->params.items[i], word) != NULL;
    return found;
}

bool http_request_has_dates(const http_settings_t *settings, const char *url) {
    return http_request_mentions(settings, url, "{now}") || http_request_mentions(settings, url, "{since}");
}

void http_put_encoded(buf_t *out, text_t text) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char) text.data[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._~", c))) {
            buf_put_byte(out, c);
        } else {
            buf_put_byte(out, '%');
            buf_put_byte(out, digits[c >> 4]);
            buf_put_byte(out, digits[c & 15]);
        }
    }
}

/* Inside of a JSON string: without the quotes. */
static void put_json(buf_t *out, text_t text) {
    size_t start = out->size;
    text_put_json(out, text);
    memmove(out->data + start, out->data + start + 1, out->size - start - 2);
    out->size -= 2;
}

static void put_date(const http_settings_t *settings, int64_t ns, buf_t *out) {
    char text[CLOCK_TEXT_MAX];
    size_t size = clock_print(text, ns);
    if (settings->dates == DATES_UNIX)
        buf_format(out, "%lld", (long long) (ns / NS_PER_S));
    else if (settings->dates == DATES_UNIX_MS)
        buf_format(out, "%lld", (long long) (ns / NS_PER_MS));
    else
        buf_put(out, text, settings->dates == DATES_DATE ? 10 : size);
}

/* The value of a word at this place; false when there is none yet. */
static bool word_value(const http_settings_t *settings, const http_place_t *place, size_t word, buf_t *value) {
    switch (word) {
    case 0:
        if (!place->cursor)
            return false;
        buf_put_text(value, place->cursor);
        break;
    case 1:
        if (place->page && settings->paging != PAGING_LINK)
            buf_put_text(value, place->page);
        else if (settings->paging == PAGING_PAGE)
            buf_format(value, "%lld", (long long) settings->page_first);
        else
            return false;
        break;
    case 2:
        buf_put_text(value, place->page && settings->paging == PAGING_OFFSET ? place->page : "0");
        break;
    case 3:
        buf_format(value, "%lld", (long long) settings->page_size);
        break;
    case 4:
        put_date(settings, place->now, value);
        break;
    default:
        if (!place->since)
            return false;
        put_date(settings, place->since > settings->overlap ? place->since - settings->overlap : 0, value);
    }
    return true;
}

/* Only the words that we know are filled in: other braces are the text's own. False: one of them has no value yet; it is left out. */
static bool put_filled(buf_t *out, const http_settings_t *settings, const http_place_t *place, const char *template, encoding_t encoding) {
    bool complete = true;
    buf_t value = {0};
    while (*template) {
        size_t plain = strcspn(template, "{"), word = 0;
        buf_put(out, template, plain);
        template += plain;
        if (!*template)
            break;
        while (word < sizeof words / sizeof *words && !text_starts(template, words[word]))
            word++;
        if (word == sizeof words / sizeof *words) {
            buf_put_byte(out, (uint8_t) *template++);
            continue;
        }
        template += strlen(words[word]);
        buf_clear(&value);
        complete &= word_value(settings, place, word, &value);
        text_t text = text_make((const char *) value.data, value.size);
        if (encoding == ENCODE_JSON)
            put_json(out, text);
        else if (encoding == ENCODE_FORM)
            http_put_encoded(out, text);
        else
            buf_put(out, text.data, text.size);
    }
    buf_fini(&value);
    return complete;
}

static void put_parameter(buf_t *out, text_t name, text_t value) {
    bool query = out->size && memchr(out->data, '?', out->size);
    if (!query)
        buf_put_byte(out, '?');
    else if (out->data[out->size - 1] != '?' && out->data[out->size - 1] != '&')
        buf_put_byte(out, '&');
    http_put_encoded(out, name);
    buf_put_byte(out, '=');
    http_put_encoded(out, value);
}

static void put_parameters(buf_t *out, const http_settings_t *settings, const char *url, const http_place_t *place) {
    buf_t value = {0};
    for (size_t i = 0; i < settings->params.count; i++) {
        const char *parameter = settings->params.items[i], *equals = strchr(parameter, '=');
        buf_clear(&value);
        if (put_filled(&value, settings, place, equals + 1, ENCODE_URL))
            put_parameter(out, text_make(parameter, (size_t) (equals - parameter)), text_make((const char *) value.data, value.size));
    }
    if (settings->cursor_param && place->cursor)
        put_parameter(out, text_of(settings->cursor_param), text_of(place->cursor));
    static const char *const names[] = {"", "", "cursor", "offset", "page"};
    size_t word = settings->paging == PAGING_OFFSET ? 2 : 1;
    buf_clear(&value);
    if (settings->paging > PAGING_LINK && !http_request_mentions(settings, url, words[word]) && word_value(settings, place, word, &value))
        put_parameter(out, text_of(settings->page_param ? settings->page_param : names[settings->paging]),
                      text_make((const char *) value.data, value.size));
    buf_clear(&value);
    if (settings->page_size && !http_request_mentions(settings, url, "{limit}") && word_value(settings, place, 3, &value))
        put_parameter(out, text_of(settings->size_param), text_make((const char *) value.data, value.size));
    buf_fini(&value);
}

void http_request_url(const http_settings_t *settings, const char *url, const http_place_t *place, buf_t *out) {
    char *bare = mem_text_n(url, strcspn(url, "#"));
    if (settings->paging == PAGING_LINK && place->page) /* it says all; but keys are not the server's to repeat */
        buf_put_text(out, place->page);
    else {
        put_filled(out, settings, place, bare, ENCODE_FORM);
        put_parameters(out, settings, url, place);
    }
    mem_free(bare);
    if (settings->api_key && settings->api_key_in == 1) {
        const char *name = settings->api_key_name ? settings->api_key_name : "api_key";
        char *given = mem_format("%s=", name);
        const char *found = settings->paging == PAGING_LINK && place->page ? strstr(buf_text(out), given) : NULL;
        if (!found || (found[-1] != '?' && found[-1] != '&'))
            put_parameter(out, text_of(name), text_of(settings->api_key));
        mem_free(given);
    }
    buf_text(out);
}

static bool is_json(const char *body) {
    body += strspn(body, " \t\r\n");
    return *body == '{' || *body == '[';
}

void http_request_body(const http_settings_t *settings, const http_place_t *place, buf_t *out) {
    if (settings->body)
        put_filled(out, settings, place, settings->body, is_json(settings->body) ? ENCODE_JSON : ENCODE_FORM);
    buf_text(out);
}

size_t http_request_headers(const http_settings_t *settings, const char **headers, buf_t *space) {
    size_t count = 0;
    bool type = false;
    for (size_t i = 0; i < settings->headers.count; i++) {
        headers[count++] = settings->headers.items[i];
        type |= strncasecmp(settings->headers.items[i], "content-type:", 13) == 0;
    }
    if (settings->body && !type && is_json(settings->body))
        headers[count++] = "Content-Type: application/json";
    if (settings->api_key && settings->api_key_in == 0) {
        buf_format(space, "%s: %s", settings->api_key_name ? settings->api_key_name : "X-API-Key", settings->api_key);
        headers[count++] = buf_text(space);
    }
    return count;
}
