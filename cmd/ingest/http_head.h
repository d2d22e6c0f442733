#ifndef INGEST_HTTP_HEAD_H
#define INGEST_HTTP_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

/* The head of a request, without the empty line behind it: RFC 9112, sections 2 to 6. Texts are borrowed from it. */
typedef struct http_head {
    text_t method, path, query;
    text_t authorization, content_type, content_encoding;
    bool old;                      /* HTTP/1.0 */
    bool keep;                     /* the connection may bring more requests */
    bool chunked, has_length, expects;
    uint64_t length;
} http_head_t;

/* 0, or the status that the request is refused with, and *text why. */
int http_head_read(http_head_t *head, text_t bytes, const char **text);

/* "1a;extension" : the size of a chunk; false: it is none. */
bool http_chunk_size(text_t line, uint64_t *size);

#endif
