/* From one page of an answer to the next. What leads there is kept as text, so that it can be stored and gone on from. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "http_source.h"

/* One parameter "; name=value" of a link; false at the end. Quotes are taken off. */
static bool next_parameter(text_t *rest, text_t *name, text_t *value) {
    const char *at = rest->data, *end = at + rest->size;
    while (at < end && (*at == ';' || *at == ' ' || *at == '\t'))
        at++;
    if (at == end || *at == ',')
        return false;
    const char *start = at;
    while (at < end && *at != '=' && *at != ';' && *at != ',')
        at++;
    *name = text_trim(text_make(start, (size_t) (at - start)));
    *value = (text_t){0};
    if (at < end && *at == '=') {
        start = ++at;
        bool quoted = at < end && *at == '"';
        if (quoted) {
            start = ++at;
            while (at < end && *at != '"')
                at++;
            *value = text_make(start, (size_t) (at - start));
            if (at < end)
                at++;
        } else {
            while (at < end && *at != ';' && *at != ',')
                at++;
            *value = text_trim(text_make(start, (size_t) (at - start)));
        }
    }
    *rest = text_make(at, (size_t) (end - at));
    return true;
}

/* Whether a word is among those of a list with blanks between. */
static bool has_word(text_t list, const char *word) {
    text_t part;
    while (text_split(&list, ' ', &part)) {
        if (part.size == strlen(word) && strncasecmp(part.data, word, part.size) == 0)
            return true;
    }
    return false;
}

text_t http_link_next(text_t header) {
    while (header.size) {
        const char *open = memchr(header.data, '<', header.size);
        const char *close = open ? memchr(open, '>', header.size - (size_t) (open - header.data)) : NULL;
        if (!close)
            break;
        text_t url = text_make(open + 1, (size_t) (close - open - 1)), name, value;
        header = text_make(close + 1, header.size - (size_t) (close + 1 - header.data));
        bool next = false;
        while (next_parameter(&header, &name, &value))
            next |= name.size == 3 && strncasecmp(name.data, "rel", 3) == 0 && has_word(value, "next");
        if (next)
            return text_trim(url);
    }
    return (text_t){0};
}

/* The link to the next page, resolved; NULL when there is none. */
static int read_link(const http_settings_t *settings, const char *url, const http_response_t *response, http_found_t *found, err_t *err) {
    text_t link = settings->next ? text_of(found->next) : http_link_next(http_header(response, "link"));
    char *given = link.size ? mem_text_n(link.data, link.size) : NULL, *next = NULL;
    mem_free(found->next);
    found->next = NULL;
    if (!given)
        return 0;
    next = http_resolve(response->url, given);
    mem_free(given);
    if (next && strlen(next) <= HTTP_PLACE_MAX && http_same_origin(url, next)) {
        found->next = next;
        return 0;
    }
    err_set(err, !next ? "the link to the next page is no URL" : http_same_origin(url, next) ? "the link to the next page is longer than %d bytes"
                 : "the link to the next page leads to another host, and is not followed", HTTP_PLACE_MAX);
    mem_free(next);
    return -1;
}

int http_page_read(const http_settings_t *settings, const char *url, const http_place_t *place, const http_response_t *response, http_found_t *found,
                   err_t *err) {
    if (settings->paging == PAGING_LINK && read_link(settings, url, response, found, err))
        return -1;
    if (found->next && place->page && strcmp(found->next, place->page) == 0) {
        if (found->records)
            return err_set(err, "the server names the page itself as the one that comes next");
        mem_free(found->next);
        found->next = NULL;
    }
    return 0;
}

bool http_page_turn(const http_settings_t *settings, http_place_t *place, const http_found_t *found) {
    char *page = NULL;
    if (settings->paging == PAGING_LINK || settings->paging == PAGING_CURSOR) {
        page = mem_text(found->next);
    } else if (settings->paging && found->records && (!settings->page_size || found->records >= (uint64_t) settings->page_size)) {
        bool numbers = settings->paging == PAGING_PAGE;
        long long number = place->page ? atoll(place->page) : numbers ? settings->page_first : 0;
        page = mem_format("%lld", number + (numbers ? 1 : (long long) found->records));
    }
    mem_free(place->page);
    place->page = page;
    return page;
}

void http_place_fini(http_place_t *place) {
    mem_free(place->page);
    mem_free(place->cursor);
    mem_free(place->greatest);
    *place = (http_place_t){0};
}
