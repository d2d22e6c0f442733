/* split: events go to streams by conditions. */
#include "otherwise.h"

typedef struct branch {
    const node_t *condition;
    unsigned stream;
    bool taken;               /* by the event at hand */
} branch_t;

typedef struct split {
    op_t op;
    branch_t *branches;
    unsigned count;
    bool all;                 /* to every stream whose condition holds, not to the first one only */
    otherwise_t otherwise;
} split_t;

extern const op_class_t op_split;

static void split_free(op_t *op) {
    mem_free(((split_t *) op)->branches);
}

static int parse_branches(split_t *split, program_t *program, parser_t *parser) {
    const token_t *next = parser_token(parser) + (parser_token(parser)->type != TOKEN_END);
    bool named = next->type == TOKEN_NAME && text_is(text_make(parser->diagnostics->source.data + next->at, next->size), "when");
    split->all = !named && parser_accept_word(parser, "all");
    do {
        if (split->count && parser_is_word(parser, "else"))
            break;
        branch_t branch = {0};
        if (parse_side_stream(program, parser, &branch.stream) < 0)
            return -1;
        if (!parser_accept_word(parser, "when"))
            return parser_expected(parser, "when and a condition", "split STREAM when CONDITION, STREAM when CONDITION, else STREAM");
        if (!(branch.condition = parse_condition(parser)))
            return -1;
        split->branches = mem_resize(split->branches, (split->count + 1) * sizeof *split->branches);
        split->branches[split->count++] = branch;
    } while (parser_accept(parser, TOKEN_COMMA));
    return otherwise_parse(&split->otherwise, program, parser, OTHERWISE(PASS) | OTHERWISE(DROP) | OTHERWISE(DEAD));
}

static op_t *split_parse(program_t *program, parser_t *parser) {
    split_t *split = op_new(program, &op_split, sizeof *split);
    otherwise_init(&split->otherwise, program, parser, OTHERWISE_PASS);
    if (parse_branches(split, program, parser) < 0) {
        split_free(&split->op);
        mem_free(split);
        return NULL;
    }
    program_has_side(program);
    return &split->op;
}

/* True: the row is to be passed on. */
static bool split_row(const split_t *split, const row_t *row) {
    program_t *program = split->op.program;
    unsigned matches = 0;
    for (unsigned i = 0; i < split->count && (split->all || !matches); i++) {
        bool before = false; /* to the same stream */
        for (unsigned j = 0; split->all && j < i; j++)
            before |= split->branches[j].taken && split->branches[j].stream == split->branches[i].stream;
        split->branches[i].taken = !before && evaluate_test(split->branches[i].condition, row);
        if (!split->branches[i].taken)
            continue;
        plan_emit(split->otherwise.plan, program, split->branches[i].stream, row);
        matches++;
    }
    if (!matches)
        return !otherwise_ends(&split->otherwise, program, row, "split", "no condition of split holds");
    program_ledger(program)->created += matches - 1;
    return false;
}

static void split_event(op_t *op, row_t **rows, unsigned count) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        rows[kept] = rows[i];
        kept += split_row((split_t *) op, rows[i]);
    }
    op_pass(op, rows, kept);
}

const op_class_t op_split = {
    .name = "split",
    .syntax = "split [all] STREAM when CONDITION, ... [else STREAM|pass|drop|dead]",
    .help = "Writes each event to the stream of the first condition that holds; with all, to each stream whose condition holds, a copy each. Such events end here. else: what becomes "
            "of the others; they go to a stream, are passed on to the next operator (pass, the default), left out (drop) or made dead letters (dead).",
    .parse = split_parse,
    .event = split_event,
    .free = split_free,
};
