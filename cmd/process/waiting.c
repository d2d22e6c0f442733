/* Events that wait until those before them have come: a heap by time. See waiting.h. */
#include "waiting.h"

struct waiting {
    held_t **heap;
    uint32_t count, made, capacity;       /* those from count to made are free, with their memory */
    uint64_t number;
    size_t bytes;
};

waiting_t *waiting_new(void) {
    return mem_zero(sizeof(waiting_t));
}

void waiting_free(waiting_t *waiting) {
    if (!waiting)
        return;
    for (uint32_t i = 0; i < waiting->made; i++) {
        buf_fini(&waiting->heap[i]->bytes);
        mem_free(waiting->heap[i]);
    }
    mem_free(waiting->heap);
    mem_free(waiting);
}

static bool is_before(const held_t *a, const held_t *b) {
    return a->time != b->time ? a->time < b->time : a->number < b->number;
}

static void move_up(waiting_t *waiting, uint32_t at) {
    held_t *held = waiting->heap[at];
    for (; at && is_before(held, waiting->heap[(at - 1) / 2]); at = (at - 1) / 2)
        waiting->heap[at] = waiting->heap[(at - 1) / 2];
    waiting->heap[at] = held;
}

static void move_down(waiting_t *waiting) {
    held_t *held = waiting->heap[0];
    uint64_t at = 0;
    for (uint64_t child; (child = 2 * at + 1) < waiting->count; at = child) {
        if (child + 1 < waiting->count && is_before(waiting->heap[child + 1], waiting->heap[child]))
            child++;
        if (!is_before(waiting->heap[child], held))
            break;
        waiting->heap[at] = waiting->heap[child];
    }
    waiting->heap[at] = held;
}

static held_t *add(waiting_t *waiting, int64_t time, uint64_t number) {
    ASSERT(waiting->count < UINT32_MAX / 2);
    if (waiting->count == waiting->made) {
        if (waiting->made == waiting->capacity) {
            waiting->capacity = waiting->capacity ? 2 * waiting->capacity : 64;
            waiting->heap = mem_resize(waiting->heap, waiting->capacity * sizeof(held_t *));
        }
        waiting->heap[waiting->made++] = mem_zero(sizeof(held_t));
    }
    held_t *held = waiting->heap[waiting->count];
    buf_clear(&held->bytes);
    held->time = time;
    held->number = number;
    move_up(waiting, waiting->count++);
    return held;
}

held_t *waiting_add(waiting_t *waiting, int64_t time) {
    return add(waiting, time, ++waiting->number);
}

const held_t *waiting_first(const waiting_t *waiting) {
    return waiting->count ? waiting->heap[0] : NULL;
}

void waiting_take(waiting_t *waiting) {
    held_t *held = waiting->heap[0];
    waiting->heap[0] = waiting->heap[--waiting->count];
    waiting->heap[waiting->count] = held;
    if (waiting->count)
        move_down(waiting);
    if (waiting->made > 64 && waiting->made / 4 > waiting->count) { /* a crowd is over: most of its memory goes */
        held = waiting->heap[--waiting->made];
        buf_fini(&held->bytes);
        mem_free(held);
    }
}

size_t waiting_memory(const waiting_t *waiting) {
    size_t each = waiting->count ? waiting->heap[0]->bytes.capacity : 0; /* as one for all */
    return waiting->made * (sizeof(held_t) + each) + waiting->capacity * sizeof(held_t *);
}

/* [number, [[time, number, ingest time, key, values], ...]] */
void waiting_save(const waiting_t *waiting, buf_t *out, void (*saved)(void *argument, buf_t *out), void *argument) {
    pack_array(out, 2);
    pack_uint(out, waiting->number);
    pack_array(out, waiting->count);
    for (uint32_t i = 0; i < waiting->count; i++) {
        const held_t *held = waiting->heap[i];
        pack_array(out, 5);
        pack_int(out, held->time);
        pack_uint(out, held->number);
        pack_int(out, held->ingest_time);
        pack_binary(out, held->bytes.data, held->key_size);
        pack_binary(out, held->bytes.data + held->values, held->bytes.size - held->values);
        saved(argument, out);
    }
}

static bool right_values(text_t packed, unsigned values) {
    pack_cursor_t cursor = pack_cursor(packed.data, packed.size);
    value_t value;
    while (values-- > 0)
        if (!pack_read_value(&cursor, &value))
            return false;
    return cursor.at == cursor.end;
}

bool waiting_load(waiting_t *waiting, unsigned values, pack_cursor_t *cursor) {
    uint32_t two, count, five;
    int64_t time, ingest_time;
    uint64_t number;
    text_t key, packed;
    if (!pack_read_array(cursor, &two) || two != 2 || !pack_read_uint(cursor, &waiting->number) || !pack_read_array(cursor, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!pack_read_array(cursor, &five) || five != 5 || !pack_read_int(cursor, &time) || !pack_read_uint(cursor, &number) ||
            !pack_read_int(cursor, &ingest_time) || !pack_read_binary(cursor, &key) || !pack_read_binary(cursor, &packed) ||
            number > waiting->number || !right_values(packed, values))
            return false;
        held_t *held = add(waiting, time, number);
        held->ingest_time = ingest_time;
        buf_put(&held->bytes, key.data, key.size);
        key_end(&held->bytes);
        held->key_size = (uint32_t) key.size;
        held->hash = groups_hash(held->bytes.data, key.size);
        held->bytes.size += GROUP_KEY_INLINE;
        held->values = held->bytes.size;
        buf_put(&held->bytes, packed.data, packed.size);
    }
    return true;
}
