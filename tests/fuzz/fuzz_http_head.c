/* Heads of HTTP requests: what is read lies within the head, what is taken can be read in one way only, and the sizes of chunks do not overflow. */
#include <strings.h>

#include "../../cmd/ingest/http_head.h"
#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_bare(text_t text) {
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] == '\r' || text.data[i] == '\n' || !text.data[i])
            return true;
    return false;
}

/* How many headers of the head have this name, by another way of looking. */
static int count_of(const char *head, size_t size, const char *name) {
    int count = 0;
    for (size_t i = 0; i + strlen(name) < size; i++)
        count += (i >= 2 && head[i - 2] == '\r' && head[i - 1] == '\n') && strncasecmp(head + i, name, strlen(name)) == 0 && head[i + strlen(name)] == ':';
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *exact = mem_copy(data, size);
    http_head_t head;
    const char *why = NULL;
    uint64_t chunk;
    int status = http_head_read(&head, text_make(exact, size), &why);
    ASSERT(status == 0 || (status >= 400 && status <= 505 && why && *why));
    if (!status) {
        const text_t texts[] = {head.method, head.path, head.query, head.authorization, head.content_type, head.content_encoding};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            bool elsewhere = texts[i].size <= 1; /* "/" for a bare http://host */
            ASSERT(elsewhere || (texts[i].data >= exact && texts[i].data + texts[i].size <= exact + size));
            ASSERT(!is_bare(texts[i]));
        }
        ASSERT(head.method.size && head.path.size && (*head.path.data == '/' || *head.path.data == '*'));
        ASSERT(!head.chunked || !head.has_length);
        ASSERT(count_of(exact, size, "content-length") == head.has_length && count_of(exact, size, "transfer-encoding") == head.chunked);
        ASSERT(count_of(exact, size, "host") <= 1 && (head.old || count_of(exact, size, "host") == 1));
    }
    if (http_chunk_size(text_make(exact, size), &chunk))
        ASSERT(size && strchr("0123456789abcdefABCDEF", *exact));
    mem_free(exact);
    return 0;
}
