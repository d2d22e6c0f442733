/* limit: so many events at most, of each stretch of event time or at all, by key. */
#include "keyed.h"
#include "otherwise.h"

typedef struct taken {
    int64_t start;            /* of the stretch */
    uint64_t count;
} taken_t;

typedef struct limit {
    op_t op;
    keyed_t *keyed;
    uint64_t most;
    int64_t per;              /* 0: no stretches */
    bool expire;              /* the program says so */
    otherwise_t otherwise;
} limit_t;

extern const op_class_t op_limit;

static void save_taken(const void *state, buf_t *out) {
    const taken_t *taken = state;
    pack_int(out, taken->start);
    pack_uint(out, taken->count);
}

static bool load_taken(void *context, void *state, pack_cursor_t *cursor) {
    taken_t *taken = state;
    return pack_read_int(cursor, &taken->start) && pack_read_uint(cursor, &taken->count);
}

static const keyed_class_t taken_class = {.size = sizeof(taken_t), .elements = 2, .save = save_taken, .load = load_taken};

static int parse_limit(limit_t *limit, program_t *program, parser_t *parser) {
    const token_t *number = parser_token(parser), *expire = NULL;
    if (number->type != TOKEN_NUMBER)
        return parser_expected(parser, "how many events", "limit 100 per 1s by KEY");
    if (number->value.type != VALUE_INT || number->value.integer < 0)
        return parser_error(parser, number, NULL, "how many events: a whole number");
    if (number->value.integer == 0)
        return parser_error(parser, number, "limit N passes on N events; where false drops all", "a limit of no events at all");
    parser_take(parser);
    limit->most = (uint64_t) number->value.integer;
    for (;;) {
        const token_t *token = parser_token(parser);
        int status = 0;
        if (parser_accept_word(parser, "per")) {
            if (limit->per)
                return parser_error(parser, token, NULL, "per stands twice");
            status = parse_duration(parser, "a duration after per", &limit->per);
        } else if (parser_is_word(parser, "else")) {
            status = otherwise_parse(&limit->otherwise, program, parser, OTHERWISE(DROP) | OTHERWISE(DEAD));
        } else {
            if (parser_is_word(parser, "expire"))
                expire = token;
            if (!keyed_parse(limit->keyed, parser, &status))
                break;
        }
        if (status < 0)
            return -1;
    }
    if (limit->per && expire)
        return parser_error(parser, expire, "keys are forgotten when their D is over", "with per there is no expire");
    if (limit->per)
        keyed_set_expire(limit->keyed, limit->per);
    else if (!keyed_count(limit->keyed) && expire)
        return parser_error(parser, expire, "limit 100 by KEY expire 1h", "there are no keys to be forgotten");
    else if (!keyed_count(limit->keyed))
        keyed_set_expire(limit->keyed, INT64_MAX);
    return 0;
}

static void limit_free(op_t *op) {
    keyed_free(((limit_t *) op)->keyed);
}

static op_t *limit_parse(program_t *program, parser_t *parser) {
    limit_t *limit = op_new(program, &op_limit, sizeof *limit);
    limit->keyed = keyed_new(program, &taken_class, NULL);
    otherwise_init(&limit->otherwise, program, parser, OTHERWISE_DROP);
    if (parse_limit(limit, program, parser) < 0) {
        limit_free(&limit->op);
        mem_free(limit);
        return NULL;
    }
    return &limit->op;
}

/* The stretch that the time is in, as windows are cut. */
static int64_t stretch(const limit_t *limit, int64_t time) {
    if (!limit->per)
        return 0;
    int64_t over = time % limit->per;
    return time - (over < 0 ? over + limit->per : over);
}

static void limit_event(op_t *op, row_t **rows, unsigned count) {
    limit_t *limit = (limit_t *) op;
    unsigned kept = 0;
    keyed_prepare(limit->keyed, rows, count);
    for (unsigned i = 0; i < count; i++) {
        row_t *row = rows[i];
        taken_t *taken = keyed_get(limit->keyed, i, row);
        int64_t start = stretch(limit, row->event.time);
        if (keyed_is_new(limit->keyed) || start > taken->start)
            *taken = (taken_t){.start = start};
        if (taken->count < limit->most) {
            taken->count++;
            rows[kept++] = row;
        } else {
            otherwise_ends(&limit->otherwise, op->program, row, "limit", "beyond the limit");
        }
    }
    op_pass(op, rows, kept);
}

static void limit_save(const op_t *op, buf_t *out) {
    keyed_save(((const limit_t *) op)->keyed, out);
}

static int limit_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    return keyed_load(((limit_t *) op)->keyed, cursor, err);
}

static size_t limit_memory(const op_t *op) {
    return keyed_memory(((const limit_t *) op)->keyed);
}

const op_class_t op_limit = {
    .name = "limit",
    .syntax = "limit N [per D] [by KEY, ...] [expire D] [else drop|dead|STREAM]",
    .help = "Passes on N events at most of each D of event time, of each combination of the keys; without per the first N at all. The stretches of time are those of "
            "tumbling windows; an event that comes when a later stretch has begun counts in that one. Without per a key is forgotten after silence of expire (24h).",
    .parse = limit_parse,
    .event = limit_event,
    .save = limit_save,
    .load = limit_load,
    .memory = limit_memory,
    .free = limit_free,
};
