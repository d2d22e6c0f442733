/* Which messages of a stream were taken, and what a message says of its place there. */
#include "nats_seen.h"

#include <limits.h>

#include "base/memory.h"
#include "data/pack.h"

#define RUNS_MAX (1u << 20)
#define NUMBER_MAX ((uint64_t) INT64_MAX)
#define TOKENS_MAX 16

void seen_fini(seen_t *seen) {
    mem_free(seen->runs);
    *seen = (seen_t){0};
}

/* The first run that ends at or behind the sequence. */
static size_t find(const seen_t *seen, uint64_t sequence) {
    size_t low = 0, high = seen->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (seen->runs[middle].last < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool seen_has(const seen_t *seen, uint64_t sequence) {
    if (sequence <= seen->floor)
        return true;
    size_t at = find(seen, sequence);
    return at < seen->count && seen->runs[at].first <= sequence;
}

static void drop_front(seen_t *seen, size_t count) {
    memmove(seen->runs, seen->runs + count, (seen->count - count) * sizeof *seen->runs);
    seen->count -= count;
}

void seen_raise(seen_t *seen, uint64_t floor) {
    if (floor < seen->floor)
        floor = seen->floor;
    size_t used = 0;
    for (; used < seen->count && seen->runs[used].first <= floor + 1; used++) {
        if (seen->runs[used].last > floor)
            floor = seen->runs[used].last;
    }
    if (used)
        drop_front(seen, used);
    seen->floor = floor;
}

static void insert(seen_t *seen, size_t at, seen_run_t run) {
    if (seen->count == seen->capacity) {
        seen->capacity = seen->capacity ? seen->capacity * 2 : 16;
        seen->runs = mem_resize(seen->runs, seen->capacity * sizeof *seen->runs);
    }
    memmove(seen->runs + at + 1, seen->runs + at, (seen->count - at) * sizeof *seen->runs);
    seen->runs[at] = run;
    seen->count++;
}

void seen_add(seen_t *seen, uint64_t first, uint64_t last) {
    if (first <= seen->floor + 1) {
        if (last > seen->floor)
            seen_raise(seen, last);
        return;
    }
    size_t at = find(seen, first - 1), end = at;
    seen_run_t run = {first, last};
    for (; end < seen->count && seen->runs[end].first <= last + 1; end++) {
        if (seen->runs[end].first < run.first)
            run.first = seen->runs[end].first;
        if (seen->runs[end].last > run.last)
            run.last = seen->runs[end].last;
    }
    if (end == at) {
        insert(seen, at, run);
        return;
    }
    seen->runs[at] = run;
    memmove(seen->runs + at + 1, seen->runs + end, (seen->count - end) * sizeof *seen->runs);
    seen->count -= end - at - 1;
}

void seen_reset(seen_t *seen, uint64_t floor) {
    seen->count = 0;
    seen->floor = floor;
}

static void put_number(buf_t *out, uint64_t number) {
    do {
        buf_put_byte(out, (uint8_t) ((number & 127) | (number > 127 ? 128 : 0)));
        number >>= 7;
    } while (number);
}

static bool take_number(text_t *from, uint64_t *number) {
    *number = 0;
    for (unsigned shift = 0; from->size && shift < 63; shift += 7) {
        uint8_t byte = (uint8_t) *from->data++;
        from->size--;
        *number |= (uint64_t) (byte & 127) << shift;
        if (!(byte & 128))
            return true;
    }
    return false;
}

void seen_pack_runs(const seen_t *seen, buf_t *out) {
    buf_t bytes = {0};
    uint64_t before = seen->floor;
    for (size_t i = 0; i < seen->count; i++) {
        put_number(&bytes, seen->runs[i].first - before);
        put_number(&bytes, seen->runs[i].last - seen->runs[i].first);
        before = seen->runs[i].last;
    }
    pack_binary(out, bytes.data, bytes.size);
    buf_fini(&bytes);
}

int seen_restore(seen_t *seen, uint64_t floor, text_t runs, err_t *err) {
    seen_t made = {.floor = floor};
    uint64_t before = floor, gap, length;
    while (runs.size) {
        if (!take_number(&runs, &gap) || !take_number(&runs, &length) || gap < 2 || gap > NUMBER_MAX - before || length > NUMBER_MAX - before - gap ||
            made.count == RUNS_MAX) {
            seen_fini(&made);
            return err_set(err, "the stored position is damaged: its runs of sequence numbers");
        }
        insert(&made, made.count, (seen_run_t){before + gap, before + gap + length});
        before += gap + length;
    }
    seen_fini(seen);
    *seen = made;
    return 0;
}

static bool number_of(text_t text, uint64_t *number) {
    if (!text.size || text.size > 20)
        return false;
    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = (unsigned char) text.data[i] - '0';
        if (digit > 9 || *number > (UINT64_MAX - digit) / 10)
            return false;
        *number = *number * 10 + digit;
    }
    return true;
}

bool nats_meta_read(nats_meta_t *meta, const char *reply) {
    text_t tokens[TOKENS_MAX], rest = text_of(reply);
    size_t count = 0;
    uint64_t numbers[5];
    if (!reply || strncmp(reply, "$JS.ACK.", 8) != 0)
        return false;
    while (count < TOKENS_MAX && text_split(&rest, '.', &tokens[count]))
        count++;
    if (count != 9 && count < 11)
        return false;
    for (size_t i = 0; i < 5; i++) {
        if (!number_of(tokens[(count == 9 ? 4 : 6) + i], &numbers[i]))
            return false;
    }
    if (!numbers[1] || numbers[1] > (uint64_t) INT64_MAX || !numbers[2] || numbers[3] > (uint64_t) INT64_MAX)
        return false;
    *meta = (nats_meta_t){.delivered = numbers[0], .sequence = numbers[1], .consumer_sequence = numbers[2], .time = (int64_t) numbers[3], .pending = numbers[4]};
    return true;
}
