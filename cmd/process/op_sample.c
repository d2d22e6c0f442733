/* sample: a share of the events, or all events of a share of the keys. Nothing is left to chance: without keys it counts, with keys their hash decides. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <math.h>

#include "group.h"
#include "op.h"

#define PARTS 10000000        /* a percent has so many parts: 7 decimals */

typedef struct sample {
    op_t op;
    uint64_t part, whole;     /* the share is part / whole */
    uint64_t due;             /* when it reaches `whole`, an event passes */
    node_t **keys;
    unsigned count;
    buf_t key;
} sample_t;

extern const op_class_t op_sample;

static int parse_share(sample_t *sample, parser_t *parser) {
    static const char hint[] = "sample 10%, sample 1 in 100, sample 5% by user";
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_NUMBER)
        return parser_expected(parser, "a share", hint);
    parser_take(parser);
    if (parser_accept(parser, TOKEN_PERCENT)) {
        double percent = value_to_double(token->value);
        if (!(percent > 0 && percent <= 100))
            return parser_error(parser, token, hint, "the share is above 0%% and at most 100%%");
        sample->part = (uint64_t) llround(percent * PARTS);
        sample->whole = UINT64_C(100) * PARTS;
        return sample->part ? 0 : parser_error(parser, token, hint, "a share of less than 0.0000001%%");
    }
    if (!parser_accept_word(parser, "in"))
        return parser_expected(parser, "% or in", hint);
    const token_t *whole = parser_token(parser);
    if (whole->type != TOKEN_NUMBER)
        return parser_expected(parser, "a number after in", hint);
    parser_take(parser);
    if (token->value.type != VALUE_INT || whole->value.type != VALUE_INT || token->value.integer < 1 || whole->value.integer < token->value.integer ||
        whole->value.integer > INT64_MAX / 2)
        return parser_error(parser, token, hint, "the share is of whole numbers, the first not above the second");
    sample->part = (uint64_t) token->value.integer;
    sample->whole = (uint64_t) whole->value.integer;
    return 0;
}

static int parse_keys(sample_t *sample, parser_t *parser) {
    do {
        text_t name;
        node_t *node = parse_named(parser, "a key", &name);
        if (!node)
            return -1;
        sample->keys = mem_resize(sample->keys, (sample->count + 1) * sizeof *sample->keys);
        sample->keys[sample->count++] = node;
    } while (parser_accept(parser, TOKEN_COMMA));
    return 0;
}

static void sample_free(op_t *op) {
    sample_t *sample = (sample_t *) op;
    mem_free(sample->keys);
    buf_fini(&sample->key);
}

static op_t *sample_parse(program_t *program, parser_t *parser) {
    sample_t *sample = op_new(program, &op_sample, sizeof *sample);
    if (parse_share(sample, parser) < 0 || (parser_accept_word(parser, "by") && parse_keys(sample, parser) < 0)) {
        sample_free(&sample->op);
        mem_free(sample);
        return NULL;
    }
    sample->due = sample->whole - sample->part; /* the first one passes */
    return &sample->op;
}

/* The hash of the key in 0 .. 2^64 is below the share. */
static bool chosen(sample_t *sample, const row_t *row) {
    buf_clear(&sample->key);
    for (unsigned i = 0; i < sample->count; i++)
        key_put(&sample->key, evaluate(sample->keys[i], row));
    __extension__ typedef unsigned __int128 wide_t;
    return (wide_t) XXH3_64bits(sample->key.data, sample->key.size) * sample->whole < (wide_t) sample->part << 64;
}

static bool is_due(sample_t *sample) {
    sample->due += sample->part;
    if (sample->due < sample->whole)
        return false;
    sample->due -= sample->whole;
    return true;
}

static void sample_event(op_t *op, row_t **rows, unsigned count) {
    sample_t *sample = (sample_t *) op;
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        rows[kept] = rows[i];
        kept += sample->count ? chosen(sample, rows[i]) : is_due(sample);
    }
    program_ledger(op->program)->filtered += count - kept;
    op_pass(op, rows, kept);
}

static void sample_save(const op_t *op, buf_t *out) {
    pack_uint(out, ((const sample_t *) op)->due);
}

static int sample_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    sample_t *sample = (sample_t *) op;
    uint64_t due;
    if (!pack_read_uint(cursor, &due) || due >= sample->whole)
        return err_set(err, "the state of sample is damaged");
    sample->due = due;
    return 0;
}

const op_class_t op_sample = {
    .name = "sample",
    .syntax = "sample N%|N in M [by KEY, ...]",
    .help = "Passes on a share of the events. Without by it counts: of each 10 events sample 10% passes the first on. With by it is all events of a share of the keys, "
            "by a hash of the key: the same keys everywhere and always, and those of a smaller share are among those of a larger one.",
    .parse = sample_parse,
    .event = sample_event,
    .save = sample_save,
    .load = sample_load,
    .free = sample_free,
};
