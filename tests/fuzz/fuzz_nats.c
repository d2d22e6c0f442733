/* NATS: what a server says in the subject that acknowledges a message, which runs of sequence numbers a stored position has, and seeds of keys. What
 * was read is within its limits, and runs stay in order whatever is added to them. */
#include <stdint.h>

#include "../../cmd/ingest/nats_key.h"
#include "../../cmd/ingest/nats_seen.h"
#include "base/memory.h"
#include "data/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_runs(const seen_t *seen) {
    uint64_t before = seen->floor;
    for (size_t i = 0; i < seen->count; i++) {
        ASSERT(seen->runs[i].first > before + 1 && seen->runs[i].last >= seen->runs[i].first);
        before = seen->runs[i].last;
    }
}

static void check_message(const char *text) {
    nats_meta_t meta;
    if (nats_meta_read(&meta, text))
        ASSERT(meta.sequence && meta.sequence <= (uint64_t) INT64_MAX && meta.consumer_sequence && meta.time >= 0);
}

/* Runs from anywhere, then numbers of three bytes each: what was added is there, and what is stored comes back. */
static void check_seen(const uint8_t *data, size_t size) {
    seen_t seen = {0}, again = {0};
    buf_t packed = {0};
    value_t value;
    size_t half = size / 2;
    if (seen_restore(&seen, size, text_make((const char *) data, half), NULL))
        seen_reset(&seen, size);
    check_runs(&seen);
    for (size_t at = half; at + 3 <= size; at += 3) {
        uint64_t first = (uint64_t) data[at] << 4 | data[at + 1] >> 4, last = first + (data[at + 1] & 15);
        if (data[at + 2] & 1)
            seen_raise(&seen, last);
        else if (first)
            seen_add(&seen, first, last);
        check_runs(&seen);
        ASSERT(seen_has(&seen, last) || !first);
    }
    seen_pack_runs(&seen, &packed);
    pack_cursor_t cursor = pack_cursor(packed.data, packed.size);
    ASSERT(pack_read_value(&cursor, &value) && value.type == VALUE_BINARY);
    ASSERT(seen_restore(&again, seen.floor, text_make(value.text, value.size), NULL) == 0 && again.count == seen.count);
    seen_fini(&seen);
    seen_fini(&again);
    buf_fini(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char key[NATS_PUBLIC_KEY_SIZE + 1];
    char *text = mem_text_n((const char *) data, size);
    check_message(text);
    nats_key_of_seed(text, key, NULL);
    check_seen(data, size);
    mem_free(text);
    return 0;
}
