/* where: passes on the events for which a condition holds. */
#include "op.h"

typedef struct where {
    op_t op;
    const node_t *condition;
} where_t;

static op_t *where_parse(program_t *program, parser_t *parser) {
    node_t *condition = parse_condition(parser);
    if (!condition)
        return NULL;
    if (parser_token(parser)->type == TOKEN_COMMA) {
        parser_expected(parser, "| or the end of the program", "conditions are joined with and");
        return NULL;
    }
    extern const op_class_t op_where;
    where_t *where = op_new(program, &op_where, sizeof *where);
    where->condition = condition;
    return &where->op;
}

static void where_event(op_t *op, row_t **rows, unsigned count) {
    const node_t *condition = ((where_t *) op)->condition;
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        rows[kept] = rows[i];
        kept += evaluate_test(condition, rows[i]);
    }
    program_ledger(op->program)->filtered += count - kept;
    op_pass(op, rows, kept);
}

const op_class_t op_where = {
    .name = "where",
    .syntax = "where CONDITION",
    .help = "Passes on the events for which the condition is true. Null counts as false, so events without the field are left out.",
    .parse = where_parse,
    .event = where_event,
};
