/* Which rows at the cursor have been passed on: for sources that poll tables, where many rows may have the same value. */
#include "poll_seen.h"

#include <string.h>

#include "data/pack.h"

void poll_seen_clear(poll_seen_t *seen) {
    seen->passed_count = seen->known_count = 0;
}

void poll_seen_begin_again(poll_seen_t *seen) {
    for (size_t i = 0; i < seen->passed_count && seen->known_count < POLL_SEEN_MAX; i++)
        seen->known[seen->known_count++] = seen->passed[i];
    seen->passed_count = 0;
}

bool poll_seen_add(poll_seen_t *seen, uint64_t hash) {
    if (seen->passed_count < POLL_SEEN_MAX)
        seen->passed[seen->passed_count++] = hash;
    for (size_t i = 0; i < seen->known_count; i++) {
        if (seen->known[i] == hash) {
            seen->known[i] = seen->known[--seen->known_count];
            return false;
        }
    }
    return true;
}

void poll_seen_put(const poll_seen_t *seen, buf_t *out) {
    poll_seen_t all = *seen;
    poll_seen_begin_again(&all);
    pack_binary(out, all.known, all.known_count * sizeof *all.known);
}

bool poll_seen_read(poll_seen_t *seen, const value_t *value) {
    if (value->type != VALUE_BINARY || value->size > sizeof seen->known || value->size % sizeof *seen->known)
        return false;
    poll_seen_clear(seen);
    seen->known_count = value->size / sizeof *seen->known;
    memcpy(seen->known, value->packed, value->size);
    return true;
}
