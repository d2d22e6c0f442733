/* The Forward protocol: messages in a row, and handshakes. What is read lies within the bytes, entries are sound events, and nothing is taken for
 * whole that is not. */
#include "../../cmd/ingest/forward.h"
#include "../../cmd/ingest/forward_chunk.h"
#include "base/memory.h"
#include "data/frame.h"
#include "data/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT (256 * 1024)

static void take_entries(text_t text, bool bare) {
    size_t at = 0;
    while (at < text.size) {
        forward_entry_t entry;
        const char *reason = NULL;
        size_t before = at;
        int found = forward_next(text, bare, &at, &entry, &reason);
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
}

static void take_compressed(text_t packed) {
    forward_chunk_t *chunk = forward_chunk_new(LIMIT, LIMIT / 4);
    forward_found_t found = FORWARD_MORE;
    size_t given = 0;
    err_t err = {0};
    forward_chunk_begin(chunk);
    while (found != FORWARD_END && found != FORWARD_REFUSED) {
        text_t entry;
        found = forward_chunk_next(chunk, packed, &entry, &err);
        ASSERT(found != FORWARD_REFUSED || (!given && *err.text));
        if (found != FORWARD_ENTRY)
            continue;
        char *exact = mem_copy(entry.data, entry.size);
        take_entries(text_make(exact, entry.size), false);
        mem_free(exact);
        ASSERT((given += entry.size) <= LIMIT);
    }
    forward_chunk_free(chunk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t nonce[FORWARD_NONCE] = "0123456789abcde";
    while (size) {
        forward_pass_t pass = {0}, part = {0};
        if (forward_pass(&pass, (const char *) data, size) <= 0)
            break;
        size_t whole = pass.size;
        ASSERT(whole <= size && forward_pass(&part, (const char *) data, whole - 1) <= 0);
        ASSERT(forward_pass(&part, (const char *) data, whole) == 1 && part.size == whole);
        char *exact = mem_copy(data, whole);
        forward_message_t message;
        buf_t pong = {0};
        err_t err;
        if (forward_read(&message, exact, whole, &err) == 0) {
            ASSERT(message.tag.at + message.tag.size <= whole && message.chunk.at + message.chunk.size <= whole && message.chunk.size <= 256);
            ASSERT(message.entries.at + message.entries.size <= whole);
            char *entries = mem_copy(exact + message.entries.at, message.entries.size);
            if (message.compressed)
                take_compressed(text_make(entries, message.entries.size));
            else
                take_entries(text_make(entries, message.entries.size), message.bare);
            mem_free(entries);
        }
        ASSERT(forward_read_ping(exact, whole, nonce, "key", "host", &pong, &err) == -1); /* nobody finds SHA-512's proof by chance */
        mem_free(exact);
        buf_fini(&pong);
        data += whole;
        size -= whole;
    }
    return 0;
}
