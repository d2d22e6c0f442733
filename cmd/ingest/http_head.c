/* The head of an HTTP request. Strict: whoever stands between the client and us may read lenient things in another way. */
#include "http_head.h"

#include <strings.h>

#define HEADERS_MAX 100

static bool is_token(text_t text) {
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (!c || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return text.size > 0;
}

static bool same(text_t text, const char *word) {
    return text.size == strlen(word) && strncasecmp(text.data, word, text.size) == 0;
}

static text_t trim(text_t text) {
    while (text.size && (*text.data == ' ' || *text.data == '\t'))
        text = text_make(text.data + 1, text.size - 1);
    while (text.size && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* The next line, without its CR LF. False: none is left. */
static bool next_line(text_t *rest, text_t *line) {
    if (!rest->size)
        return false;
    const char *end = memmem(rest->data, rest->size, "\r\n", 2);
    *line = text_make(rest->data, end ? (size_t) (end - rest->data) : rest->size);
    size_t used = line->size + (end ? 2 : 0);
    *rest = text_make(rest->data + used, rest->size - used);
    return true;
}

static int read_request_line(http_head_t *head, text_t line, const char **text) {
    text_t rest = line, target, version = {0};
    *text = "the request line is malformed";
    for (size_t i = 0; i < line.size; i++)
        if ((unsigned char) line.data[i] < 0x20 || line.data[i] == 0x7f)
            return 400;
    if (!text_split(&rest, ' ', &head->method) || !text_split(&rest, ' ', &target) || !text_split(&rest, ' ', &version) || rest.data ||
        !is_token(head->method) || !target.size)
        return 400;
    head->old = text_is(version, "HTTP/1.0");
    if (!head->old && !text_is(version, "HTTP/1.1")) {
        *text = "only HTTP/1.1 and HTTP/1.0 are spoken here";
        return version.size == 8 && memcmp(version.data, "HTTP/", 5) == 0 ? 505 : 400;
    }
    if (target.size > 7 && strncasecmp(target.data, "http://", 7) == 0) { /* as proxies are asked */
        const char *slash = memchr(target.data + 7, '/', target.size - 7);
        target = slash ? text_make(slash, target.size - (size_t) (slash - target.data)) : text_of("/");
    }
    if (*target.data != '/' && !text_is(target, "*"))
        return 400;
    head->query = target;
    text_split(&head->query, '?', &head->path);
    head->keep = !head->old;
    return 0;
}

static int read_length(http_head_t *head, text_t value, const char **text) {
    *text = "the Content-Length is malformed";
    if (head->has_length || !value.size || value.size > 18)
        return 400;
    head->has_length = true;
    head->length = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return 400;
        head->length = head->length * 10 + (uint64_t) (value.data[i] - '0');
    }
    return 0;
}

static void read_connection(http_head_t *head, text_t value) {
    text_t word;
    while (text_split(&value, ',', &word)) {
        word = trim(word);
        if (same(word, "close"))
            head->keep = false;
        else if (same(word, "keep-alive") && head->old)
            head->keep = true;
    }
}

static int read_header(http_head_t *head, text_t line, bool *host, const char **text) {
    text_t value = line, name;
    *text = "a header is malformed";
    if (!memchr(line.data, ':', line.size))
        return 400;
    text_split(&value, ':', &name);
    value = trim(value);
    if (!is_token(name)) /* a folded header's second line, too */
        return 400;
    for (size_t i = 0; i < value.size; i++)
        if (((unsigned char) value.data[i] < 0x20 && value.data[i] != '\t') || value.data[i] == 0x7f)
            return 400;
    if (same(name, "content-length"))
        return read_length(head, value, text);
    if (same(name, "transfer-encoding")) {
        *text = "the only Transfer-Encoding that is understood is chunked";
        if (head->chunked || !same(value, "chunked"))
            return 501;
        head->chunked = true;
    } else if (same(name, "host")) {
        *text = "there are two Host headers";
        if (*host)
            return 400;
        *host = true;
    } else if (same(name, "connection")) {
        read_connection(head, value);
    } else if (same(name, "expect")) {
        *text = "the only Expect that is understood is 100-continue";
        if (!same(value, "100-continue"))
            return 417;
        head->expects = true;
    } else if (same(name, "authorization")) {
        *text = "there are two Authorization headers";
        if (head->authorization.size)
            return 400;
        head->authorization = value;
    } else if (same(name, "content-type")) {
        head->content_type = value;
    } else if (same(name, "content-encoding")) {
        head->content_encoding = value;
    }
    return 0;
}

int http_head_read(http_head_t *head, text_t bytes, const char **text) {
    text_t line;
    bool host = false;
    int status, headers = 0;
    *head = (http_head_t){0};
    *text = "the request line is malformed";
    if (!next_line(&bytes, &line))
        return 400;
    status = read_request_line(head, line, text);
    while (!status && next_line(&bytes, &line)) {
        *text = "there are too many headers";
        status = ++headers > HEADERS_MAX ? 431 : read_header(head, line, &host, text);
    }
    if (status)
        return status;
    if (!host && !head->old) {
        *text = "there is no Host header";
        return 400;
    }
    if (head->chunked && (head->has_length || head->old)) {
        *text = "a chunked body has no Content-Length, and is of HTTP/1.1";
        return 400;
    }
    return 0;
}

bool http_chunk_size(text_t line, uint64_t *size) {
    size_t i = 0;
    *size = 0;
    for (; i < line.size && i < 16; i++) {
        char c = line.data[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            break;
        if (*size >> 58)
            return false;
        *size = *size << 4 | (uint64_t) digit;
    }
    if (!i)
        return false;
    while (i < line.size && (line.data[i] == ' ' || line.data[i] == '\t'))
        i++;
    return i == line.size || line.data[i] == ';';
}
