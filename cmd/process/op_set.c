/* set: gives fields new values, from left to right; and unset: takes fields out. */
#include "op.h"

typedef struct assignment {
    node_t *value;            /* NULL: unset of a part */
    node_t *base;             /* what the target's name was before; for targets with steps */
    const step_t *steps;
    unsigned count;
    unsigned index;           /* of the computed value */
} assignment_t;

typedef struct set {
    op_t op;
    assignment_t *assignments;
    unsigned count;
} set_t;

extern const op_class_t op_set, op_unset;

static void set_free(op_t *op) {
    mem_free(((set_t *) op)->assignments);
}

static assignment_t *next_assignment(set_t *set) {
    set->assignments = mem_resize(set->assignments, (set->count + 1) * sizeof *set->assignments);
    set->assignments[set->count] = (assignment_t){0};
    return &set->assignments[set->count++];
}

/* NAME[.steps] = EXPRESSION */
static int parse_assignment(set_t *set, parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t name;
    step_t *steps;
    unsigned steps_count;
    if (parse_target(parser, &name, &steps, &steps_count) < 0)
        return -1;
    if (steps_count && token->type == TOKEN_NAME && text_is(name, "meta"))
        return parser_error(parser, token, "a field of this name is written in backticks: `meta`.x", "what meta tells of an event cannot be set");
    const token_t *sign = parser_token(parser);
    if (sign->type == TOKEN_EQ)
        return parser_error(parser, sign, "set NAME = VALUE", "== compares, = assigns");
    if (sign->type == TOKEN_COLON)
        return parser_error(parser, sign, "set NAME = VALUE", "expected = and a value, found :");
    if (sign->type >= TOKEN_PLUS && sign->type <= TOKEN_PERCENT && sign[1].type == TOKEN_ASSIGN)
        return parser_error(parser, sign, "set NAME = NAME + VALUE", "= stands alone");
    if (parser_expect(parser, TOKEN_ASSIGN, "= and a value") < 0)
        return -1;
    node_t *value = parse_expression(parser);
    if (!value)
        return -1;
    assignment_t *assignment = next_assignment(set);
    assignment->value = value;
    assignment->steps = steps;
    assignment->count = steps_count;
    if (steps_count) {
        bool lenient = parser->scope->lenient; /* a name that is new here is fine */
        parser->scope->lenient = true;
        assignment->base = node_name(parser, name, token->at, token->size);
        parser->scope->lenient = lenient;
    }
    assignment->index = scope_new_value(parser->scope);
    scope_bind(parser->scope, name, SOURCE_VALUE, assignment->index, steps_count ? TYPES_ANY : value->types);
    return 0;
}

static op_t *set_parse(program_t *program, parser_t *parser) {
    set_t *set = op_new(program, &op_set, sizeof *set);
    do {
        if (parse_assignment(set, parser) < 0) {
            set_free(&set->op);
            mem_free(set);
            return NULL;
        }
    } while (parser_accept(parser, TOKEN_COMMA));
    return &set->op;
}

static void set_row(const set_t *set, row_t *row) {
    for (unsigned i = 0; i < set->count; i++) {
        const assignment_t *assignment = &set->assignments[i];
        value_t value = assignment->value ? evaluate(assignment->value, row) : value_null();
        if (assignment->count) {
            value_t base = evaluate(assignment->base, row);
            value = value_edit(assignment->base, row, base, assignment->steps, assignment->count, assignment->value ? &value : NULL);
            if (!assignment->value && value.type == VALUE_NULL)
                value = value_absent();
        } else if (value.type == VALUE_NULL) {
            value = value_null(); /* assigned, so it is there */
        }
        row->values[assignment->index] = value;
    }
}

static void set_event(op_t *op, row_t **rows, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        set_row((set_t *) op, rows[i]);
    op_pass(op, rows, count);
}

static op_t *unset_parse(program_t *program, parser_t *parser) {
    set_t *set = op_new(program, &op_unset, sizeof *set);
    do {
        const token_t *token = parser_token(parser);
        text_t name;
        step_t *steps;
        unsigned steps_count;
        if (parse_target(parser, &name, &steps, &steps_count) < 0) {
            set_free(&set->op);
            mem_free(set);
            return NULL;
        }
        node_t *base = node_name(parser, name, token->at, token->size); /* in a closed scope it must exist */
        if (!steps_count) {
            scope_bind(parser->scope, name, SOURCE_ABSENT, 0, TYPE(VALUE_NULL));
            continue;
        }
        assignment_t *assignment = next_assignment(set);
        assignment->base = base;
        assignment->steps = steps;
        assignment->count = steps_count;
        assignment->index = scope_new_value(parser->scope);
        scope_bind(parser->scope, name, SOURCE_VALUE, assignment->index, TYPES_ANY);
    } while (parser_accept(parser, TOKEN_COMMA));
    return &set->op;
}

const op_class_t op_set = {
    .name = "set",
    .syntax = "set NAME = EXPRESSION, ...",
    .help = "Gives fields values, from left to right: later ones see earlier ones. A field that exists keeps its place, a new one is added at the end. "
            "NAME may be a path, as in set position.x = 1, tags[0] = \"a\"; maps that are missing on the way are made.",
    .parse = set_parse,
    .event = set_event,
    .free = set_free,
};

const op_class_t op_unset = {
    .name = "unset",
    .syntax = "unset NAME, ...",
    .help = "Takes fields out of the event. NAME may be a path, as in unset user.password.",
    .parse = unset_parse,
    .event = set_event,
    .free = set_free,
};
