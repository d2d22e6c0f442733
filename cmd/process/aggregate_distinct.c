/* The number of different values. Up to EXACT of them are kept as 64-bit hashes, which is exact for all that matters; more are estimated by
 * HyperLogLog (Flajolet, Fusy, Gandouet, Meunier, 2007) with 2^13 registers, whose standard error is 1.04 / sqrt(2^13) = 1.15 %. The estimator
 * is Ertl's, which needs no table of corrections ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm 6). */
#include "aggregate.h"

#include <math.h>

#define BITS 13
#define REGISTERS (1u << BITS)
#define RANKS (64 - BITS + 1)             /* 1 to this */
#define FIRST_SLOTS 8
#define LAST_SLOTS 1024                   /* hashes take as many bytes as registers then */
#define EXACT (LAST_SLOTS / 4 * 3)

typedef struct distinct {
    uint64_t *hashes;         /* open addressing, 0: free; at most 3/4 full */
    uint8_t *registers;       /* instead, when there are more than EXACT */
    uint32_t count, slots;
} distinct_t;

static void put_register(distinct_t *state, uint64_t hash) {
    uint64_t rest = hash << BITS | (UINT64_C(1) << (BITS - 1)); /* its end */
    uint8_t rank = (uint8_t) (__builtin_clzll(rest) + 1);
    uint8_t *found = &state->registers[hash >> (64 - BITS)];
    if (rank > *found)
        *found = rank;
}

/* True when it is new. */
static bool put_hash(distinct_t *state, uint64_t hash) {
    uint32_t mask = state->slots - 1, i = (uint32_t) hash & mask;
    while (state->hashes[i] && state->hashes[i] != hash)
        i = (i + 1) & mask;
    if (state->hashes[i])
        return false;
    state->hashes[i] = hash;
    state->count++;
    return true;
}

static void to_registers(accumulator_t *self, distinct_t *state) {
    uint64_t *hashes = state->hashes;
    state->registers = mem_zero(REGISTERS);
    for (uint32_t i = 0; i < state->slots; i++)
        if (hashes[i])
            put_register(state, hashes[i]);
    self->owned += REGISTERS;
    self->owned -= state->slots * sizeof *hashes;
    mem_free(hashes);
    state->hashes = NULL;
    state->slots = state->count = 0;
}

static void grow(accumulator_t *self, distinct_t *state) {
    uint64_t *before = state->hashes;
    uint32_t slots = state->slots;
    state->slots = slots ? 2 * slots : FIRST_SLOTS;
    state->hashes = mem_zero(state->slots * sizeof *before);
    state->count = 0;
    for (uint32_t i = 0; i < slots; i++)
        if (before[i])
            put_hash(state, before[i]);
    self->owned += (state->slots - slots) * sizeof *before;
    mem_free(before);
}

static void put(accumulator_t *self, distinct_t *state, uint64_t hash) {
    if (!state->registers && !state->slots)
        grow(self, state);
    if (state->registers) {
        put_register(state, hash);
    } else if (put_hash(state, hash) && state->count > state->slots / 4 * 3) {
        if (state->slots < LAST_SLOTS)
            grow(self, state);
        else
            to_registers(self, state);
    }
}

static void distinct_add(accumulator_t *self, void *state, value_t value, int64_t time) {
    put(self, state, aggregate_hash(self, value));
}

static void distinct_merge(accumulator_t *self, void *memory, const void *more) {
    distinct_t *into = memory;
    const distinct_t *from = more;
    for (uint32_t i = 0; i < from->slots; i++)
        if (from->hashes[i])
            put(self, into, from->hashes[i]);
    if (!from->registers)
        return;
    if (!into->registers)
        to_registers(self, into);
    for (uint32_t i = 0; i < REGISTERS; i++)
        if (from->registers[i] > into->registers[i])
            into->registers[i] = from->registers[i];
}

static double sigma(double x) {
    if (x == 1)
        return INFINITY;
    double power = 1, sum = x, before;
    do {
        x *= x;
        before = sum;
        sum += x * power;
        power += power;
    } while (sum != before);
    return sum;
}

static double tau(double x) {
    if (x == 0 || x == 1)
        return 0;
    double power = 1, sum = 1 - x, before;
    do {
        x = sqrt(x);
        before = sum;
        power /= 2;
        sum -= (1 - x) * (1 - x) * power;
    } while (sum != before);
    return sum / 3;
}

value_t distinct_result(const aggregate_t *self, const void *memory, const finish_t *finish) {
    const distinct_t *state = memory;
    if (!state->registers)
        return value_uint(state->count);
    uint32_t counts[RANKS + 1] = {0};
    for (uint32_t i = 0; i < REGISTERS; i++)
        counts[state->registers[i]]++;
    double sum = REGISTERS * tau(1 - (double) counts[RANKS] / REGISTERS);
    for (unsigned rank = RANKS - 1; rank > 0; rank--)
        sum = (sum + counts[rank]) / 2;
    sum += REGISTERS * sigma((double) counts[0] / REGISTERS);
    double estimate = (double) REGISTERS * REGISTERS / (2 * M_LN2) / sum;
    return value_uint(estimate < 1.8e19 ? (uint64_t) (estimate + 0.5) : UINT64_MAX);
}

/* The table as it stands, or the registers. */
static void distinct_save(const void *memory, buf_t *out) {
    const distinct_t *state = memory;
    pack_bool(out, state->registers != NULL);
    if (state->registers)
        pack_binary(out, state->registers, REGISTERS);
    else
        pack_binary(out, state->hashes, state->slots * sizeof *state->hashes);
}

static bool load_hashes(accumulator_t *self, distinct_t *state, text_t bytes) {
    uint32_t slots = (uint32_t) (bytes.size / sizeof *state->hashes);
    if (!bytes.size)
        return true;
    if (bytes.size % sizeof *state->hashes || slots < FIRST_SLOTS || slots > LAST_SLOTS || slots & (slots - 1))
        return false;
    state->hashes = mem_copy(bytes.data, bytes.size);
    state->slots = slots;
    self->owned += bytes.size;
    for (uint32_t i = 0; i < slots; i++)
        state->count += state->hashes[i] != 0;
    return state->count <= slots / 4 * 3;
}

static bool distinct_load(accumulator_t *self, void *memory, pack_cursor_t *cursor) {
    distinct_t *state = memory;
    bool registers;
    text_t bytes;
    if (!read_bool(cursor, &registers) || !pack_read_binary(cursor, &bytes))
        return false;
    if (!registers)
        return load_hashes(self, state, bytes);
    if (bytes.size != REGISTERS)
        return false;
    state->registers = mem_copy(bytes.data, bytes.size);
    self->owned += REGISTERS;
    for (uint32_t i = 0; i < REGISTERS; i++)
        if (state->registers[i] > RANKS)
            return false;
    return true;
}

static void distinct_drop(accumulator_t *self, void *memory) {
    distinct_t *state = memory;
    self->owned -= state->slots * sizeof *state->hashes + (state->registers ? REGISTERS : 0);
    mem_free(state->hashes);
    mem_free(state->registers);
}

const state_class_t distinct_state = {sizeof(distinct_t), 2, distinct_add, distinct_merge, NULL, distinct_save, distinct_load, distinct_drop};
