/* Server-Sent Events: however the bytes are cut, the same events, and never more of one than the limit. */
#include <stdio.h>
#include <stdlib.h>

#include "../../cmd/ingest/http_sse.h"
#include "base/err.h"
#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *run(const uint8_t *data, size_t size, size_t piece, size_t limit) {
    sse_t sse = {.limit = limit};
    buf_t out = {0};
    sse_begin(&sse);
    for (size_t at = 0; at < size;) {
        size_t now = size - at < piece ? size - at : piece, used = 0;
        uint8_t *exact = mem_copy(data + at, now);
        while (used < now) {
            bool event;
            size_t taken = sse_feed(&sse, (const char *) exact + used, now - used, &event);
            ASSERT(taken <= now - used && (taken || event));
            used += taken;
            ASSERT(sse.data.size <= limit + 1 && sse.line.size <= limit && sse.id.size <= 1024 && sse.name.size <= 1024);
            if (event)
                buf_format(&out, "%d %lld %.*s|%.*s|%.*s\n", sse.too_large, (long long) sse.retry, (int) sse.id.size, (const char *) sse.id.data,
                           (int) sse.name.size, (const char *) sse.name.data, (int) sse.data.size, (const char *) sse.data.data);
        }
        mem_free(exact);
        at += now;
    }
    sse_fini(&sse);
    buf_text(&out);
    return (char *) buf_take(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 8192)
        return 0;
    size_t limit = 8 + data[0] * 4u;
    char *whole = run(data + 2, size - 2, size, limit), *pieces = run(data + 2, size - 2, 1 + data[1], limit);
    if (strcmp(whole, pieces) != 0) {
        fprintf(stderr, "whole:\n%s\nin pieces:\n%s\n", whole, pieces);
        abort();
    }
    mem_free(whole);
    mem_free(pieces);
    return 0;
}
