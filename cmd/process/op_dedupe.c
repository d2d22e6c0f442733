/* dedupe: the first event of a key passes, and those like it for some time after are left out. */
#include "keyed.h"
#include "otherwise.h"

typedef struct seen {
    int64_t passed;           /* event time of the one that passed last */
} seen_t;

typedef struct dedupe {
    op_t op;
    keyed_t *keyed;
    int64_t within;
    otherwise_t otherwise;
} dedupe_t;

extern const op_class_t op_dedupe;

static void save_seen(const void *state, buf_t *out) {
    pack_int(out, ((const seen_t *) state)->passed);
}

static bool load_seen(void *context, void *state, pack_cursor_t *cursor) {
    return pack_read_int(cursor, &((seen_t *) state)->passed);
}

static const keyed_class_t seen_class = {.size = sizeof(seen_t), .elements = 1, .save = save_seen, .load = load_seen};

/* The whole record as a key. */
static value_t eval_record(const node_t *node, const row_t *row) {
    return plan_record(node->data, row);
}

static int parse_dedupe(dedupe_t *dedupe, program_t *program, parser_t *parser) {
    const unsigned allowed = OTHERWISE(DROP) | OTHERWISE(DEAD);
    for (;;) {
        const token_t *token = parser_token(parser);
        int status = 0;
        if (parser_accept_word(parser, "within")) {
            if (dedupe->within)
                return parser_error(parser, token, NULL, "within stands twice");
            status = parse_duration(parser, "a duration after within", &dedupe->within);
        } else if (parser_is_word(parser, "expire")) {
            return parser_error(parser, token, "within says how long events are remembered", "dedupe has no expire");
        } else if (parser_is_word(parser, "else")) {
            status = otherwise_parse(&dedupe->otherwise, program, parser, allowed);
        } else if (!keyed_parse(dedupe->keyed, parser, &status)) {
            break;
        }
        if (status < 0)
            return -1;
    }
    if (!dedupe->within)
        return parser_expected(parser, "within and a duration", "dedupe by KEY within 1h: how long events are remembered");
    return 0;
}

static void dedupe_free(op_t *op) {
    keyed_free(((dedupe_t *) op)->keyed);
}

static op_t *dedupe_parse(program_t *program, parser_t *parser) {
    dedupe_t *dedupe = op_new(program, &op_dedupe, sizeof *dedupe);
    dedupe->keyed = keyed_new(program, &seen_class, NULL);
    otherwise_init(&dedupe->otherwise, program, parser, OTHERWISE_DROP);
    if (parse_dedupe(dedupe, program, parser) < 0) {
        dedupe_free(&dedupe->op);
        mem_free(dedupe);
        return NULL;
    }
    if (!keyed_count(dedupe->keyed)) {
        node_t *node = node_constant(parser, value_null(), parser_token(parser)->at);
        node->eval = eval_record;
        node->data = dedupe->otherwise.plan;
        keyed_add(dedupe->keyed, node, text_of("record"));
    }
    keyed_set_expire(dedupe->keyed, dedupe->within);
    return &dedupe->op;
}

/* Whether the times are at most `within` apart. */
static bool near(const dedupe_t *dedupe, int64_t a, int64_t b) {
    return (a > b ? (uint64_t) a - (uint64_t) b : (uint64_t) b - (uint64_t) a) <= (uint64_t) dedupe->within;
}

static void dedupe_event(op_t *op, row_t **rows, unsigned count) {
    dedupe_t *dedupe = (dedupe_t *) op;
    unsigned kept = 0;
    keyed_prepare(dedupe->keyed, rows, count);
    for (unsigned i = 0; i < count; i++) {
        row_t *row = rows[i];
        seen_t *seen = keyed_get(dedupe->keyed, i, row);
        bool fresh = keyed_is_new(dedupe->keyed);
        if (!fresh && near(dedupe, row->event.time, seen->passed)) {
            otherwise_ends(&dedupe->otherwise, op->program, row, "dedupe", "such an event has passed before");
            continue;
        }
        if (fresh || row->event.time > seen->passed)
            seen->passed = row->event.time;
        rows[kept++] = row;
    }
    op_pass(op, rows, kept);
}

static void dedupe_save(const op_t *op, buf_t *out) {
    keyed_save(((const dedupe_t *) op)->keyed, out);
}

static int dedupe_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    return keyed_load(((dedupe_t *) op)->keyed, cursor, err);
}

static size_t dedupe_memory(const op_t *op) {
    return keyed_memory(((const dedupe_t *) op)->keyed);
}

const op_class_t op_dedupe = {
    .name = "dedupe",
    .syntax = "dedupe [by KEY, ...] within D [else drop|dead|STREAM]",
    .help = "Leaves out events whose key has passed before, at most D of event time away. Without by the whole event is the key: the same fields in the same order. "
            "Counted from the event that passed: one that comes back all the time passes once in each D.",
    .parse = dedupe_parse,
    .event = dedupe_event,
    .save = dedupe_save,
    .load = dedupe_load,
    .memory = dedupe_memory,
    .free = dedupe_free,
};
