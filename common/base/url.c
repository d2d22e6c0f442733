/* URLs in messages: without what must not be shown. */
#include "base/url.h"

#include "base/secret.h"

/* The query's pairs, with *** for the values of those that look secret. */
void url_put_query_redacted(buf_t *out, text_t query) {
    text_t pair;
    for (bool first = true; text_split(&query, '&', &pair); first = false) {
        if (!first)
            buf_put_byte(out, '&');
        const char *equals = pair.size ? memchr(pair.data, '=', pair.size) : NULL;
        size_t key = equals ? (size_t) (equals - pair.data) : 0;
        bool secret = equals && secret_name(text_make(pair.data, key));
        text_put_visible(out, secret ? text_make(pair.data, key + 1) : pair, SIZE_MAX);
        if (secret)
            buf_put_text(out, SECRET_MASK);
    }
}

/* How many bytes stand in front of the first of `marks`, or all. */
static size_t span(text_t text, const char *marks) {
    size_t size = 0;
    while (size < text.size && (!text.data[size] || !strchr(marks, text.data[size])))
        size++;
    return size;
}

static text_t after(text_t text, size_t size) {
    return text_make(text.data + size, text.size - size);
}

static void put_redacted(buf_t *out, text_t url) {
    const char *mark = url.size ? memmem(url.data, url.size, "://", 3) : NULL;
    bool bare = url.size >= 2 && memcmp(url.data, "//", 2) == 0; /* its scheme was taken off */
    if (mark || bare) {
        size_t scheme = bare ? 2 : (size_t) (mark - url.data) + 3;
        text_put_visible(out, text_make(url.data, scheme), SIZE_MAX);
        url = after(url, scheme);
        const char *at = memrchr(url.data, '@', span(url, "/?"));
        if (at) {
            buf_put_text(out, SECRET_MASK);
            url = after(url, (size_t) (at - url.data));
        }
    }
    size_t path = span(url, "?");
    text_put_visible(out, text_make(url.data, path), SIZE_MAX);
    if (path == url.size)
        return;
    buf_put_byte(out, '?');
    url_put_query_redacted(out, after(url, path + 1));
}

void url_put_redacted(buf_t *out, text_t url) {
    url.size = span(url, "#");
    put_redacted(out, url);
}

void url_put_redacted_whole(buf_t *out, text_t url) {
    size_t size = span(url, "#");
    put_redacted(out, text_make(url.data, size));
    if (size == url.size)
        return;
    buf_put_byte(out, '#');
    url_put_query_redacted(out, after(url, size + 1));
}

bool url_has_login(const char *url) {
    const char *host = strstr(url, "//");
    return host && memchr(host + 2, '@', strcspn(host + 2, "/?#"));
}
