/* The Forward protocol: messages in a row, and handshakes. What is read lies within the bytes, entries are sound events, and nothing is taken for
 * whole that is not. */
#include "../../cmd/ingest/forward.h"
#include "base/memory.h"
#include "data/frame.h"
#include "data/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT (256 * 1024)

static void take_entries(const buf_t *entries) {
    uint8_t *exact = mem_copy(entries->data, entries->size);
    text_t text = text_make((const char *) exact, entries->size);
    size_t at = 0;
    while (at < text.size) {
        forward_entry_t entry;
        const char *reason = NULL;
        size_t before = at;
        int found = forward_next(text, &at, &entry, &reason);
        if (found < 0)
            break;
        ASSERT(at > before && at <= text.size && (found || (reason && *reason)));
        if (!found)
            continue;
        pack_cursor_t cursor = pack_cursor(entry.record.data, entry.record.size);
        uint32_t count;
        ASSERT(entry.time >= 0 && entry.time <= EVENT_TIME_MAX);
        ASSERT(pack_skip(&cursor) && cursor.at == cursor.end);
        cursor = pack_cursor(entry.record.data, entry.record.size);
        ASSERT(pack_read_map(&cursor, &count));
    }
    mem_free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t nonce[FORWARD_NONCE] = "0123456789abcde";
    while (size) {
        int64_t whole = forward_size((const char *) data, size);
        if (whole <= 0)
            break;
        ASSERT((size_t) whole <= size && forward_size((const char *) data, (size_t) whole - 1) <= 0);
        char *exact = mem_copy(data, (size_t) whole);
        forward_message_t message;
        buf_t entries = {0}, pong = {0};
        err_t err;
        if (forward_read(&message, exact, (size_t) whole, LIMIT, &entries, &err) == 0) {
            ASSERT(message.tag.data >= exact && message.tag.data + message.tag.size <= exact + whole && message.chunk.size <= 256);
            ASSERT(entries.size <= LIMIT + 64 * 1024 + (size_t) whole);
            take_entries(&entries);
        }
        ASSERT(forward_read_ping(exact, (size_t) whole, nonce, "key", "host", &pong, &err) == -1); /* nobody finds SHA-512's proof by chance */
        mem_free(exact);
        buf_fini(&entries);
        buf_fini(&pong);
        data += whole;
        size -= (size_t) whole;
    }
    return 0;
}
