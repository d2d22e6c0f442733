/* keep: exactly these fields, in this order; and rename. */
#include "op.h"

typedef struct kept {
    node_t *value;
    unsigned index;
} kept_t;

typedef struct keep {
    op_t op;
    kept_t *kept;             /* those that are computed */
    unsigned count;
} keep_t;

extern const op_class_t op_keep, op_rename;

static void keep_free(op_t *op) {
    mem_free(((keep_t *) op)->kept);
}

static void keep_discard(keep_t *keep, scope_t *names) {
    scope_fini(names);
    keep_free(&keep->op);
    mem_free(keep);
}

static op_t *keep_parse(program_t *program, parser_t *parser) {
    keep_t *keep = op_new(program, &op_keep, sizeof *keep);
    scope_t *scope = parser->scope, names = {0};
    unsigned line = 0;
    do {
        const token_t *token = parser_token(parser);
        text_t name;
        if (token->type == TOKEN_STAR)
            parser_expected(parser, "a field", "without keep all fields stay, with those that set adds; unset A, B takes some out");
        node_t *node = token->type == TOKEN_STAR ? NULL : parse_named(parser, "a field", &name);
        if (!node) {
            keep_discard(keep, &names);
            return NULL;
        }
        line = line ? line : node->line;
        if (scope_find(&names, name) && !text_is(name, "?"))
            parser_error(parser, token, "give one of them another name: as NAME", "the field %.*s is kept twice", (int) name.size, name.data);
        if (node->kind == NODE_FIELD || node->kind == NODE_VALUE) {
            scope_bind(&names, name, node->kind == NODE_FIELD ? SOURCE_FIELD : SOURCE_VALUE, node->index, node->types);
            continue;
        }
        unsigned index = scope_new_value(scope);
        keep->kept = mem_resize(keep->kept, (keep->count + 1) * sizeof *keep->kept);
        keep->kept[keep->count++] = (kept_t){node, index};
        scope_bind(&names, name, SOURCE_VALUE, index, node->types);
    } while (parser_accept(parser, TOKEN_COMMA));
    mem_free(scope->bindings);
    scope->bindings = names.bindings;
    scope->count = names.count;
    scope->closed = true;
    snprintf(scope->closed_by, sizeof scope->closed_by, "keep in line %u", line);
    return &keep->op;
}

static void keep_event(op_t *op, row_t **rows, unsigned count) {
    const keep_t *keep = (const keep_t *) op;
    for (unsigned i = 0; i < count; i++)
        for (unsigned j = 0; j < keep->count; j++)
            rows[i]->values[keep->kept[j].index] = evaluate(keep->kept[j].value, rows[i]);
    op_pass(op, rows, count);
}

#define RENAMED_MAX 256

typedef struct renamed {
    text_t from, to;
    const node_t *node;
} renamed_t;

static bool is_renamed(const renamed_t *list, unsigned count, text_t name) {
    for (unsigned i = 0; i < count; i++)
        if (text_equal(list[i].from, name))
            return true;
    return false;
}

/* All old names go, then all new ones come: so names can be swapped. */
static void bind_open(scope_t *scope, const renamed_t *list, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        scope_bind(scope, list[i].from, SOURCE_ABSENT, 0, TYPE(VALUE_NULL));
    for (unsigned i = 0; i < count; i++) {
        const node_t *node = list[i].node;
        if (node->kind == NODE_FIELD || node->kind == NODE_VALUE)
            scope_bind(scope, list[i].to, node->kind == NODE_FIELD ? SOURCE_FIELD : SOURCE_VALUE, node->index, node->types);
        else
            scope_bind(scope, list[i].to, SOURCE_ABSENT, 0, TYPE(VALUE_NULL));
    }
}

/* Names keep their place in the order. What was called so and is not renamed itself gives way; its place goes with it. */
static void bind_closed(scope_t *scope, const renamed_t *list, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        binding_t *target = scope_find(scope, list[i].to);
        if (!target || is_renamed(list, count, list[i].to) || !scope_find(scope, list[i].from))
            continue;
        size_t at = (size_t) (target - scope->bindings);
        memmove(target, target + 1, (scope->count - at - 1) * sizeof *target);
        scope->count--;
    }
    for (size_t i = 0; i < scope->count; i++) {
        binding_t *binding = &scope->bindings[i];
        for (unsigned j = 0; j < count; j++) {
            if (text_equal(binding->name, list[j].from)) {
                binding->name = list[j].to;
                binding->hash = scope_hash(binding->name);
                break;
            }
        }
    }
}

static int parse_renamed(parser_t *parser, renamed_t *list, unsigned count) {
    const token_t *token = parser_token(parser);
    renamed_t *renamed = &list[count];
    if (count == RENAMED_MAX)
        return parser_error(parser, token, "write a second rename behind this one", "more than %d fields", RENAMED_MAX);
    if (parse_name(parser, "a field's name", &renamed->from) < 0)
        return -1;
    renamed->node = node_name(parser, renamed->from, token->at, token->size);
    if (parser_token(parser)->type == TOKEN_ASSIGN || parser_token(parser)->type == TOKEN_COMMA)
        return parser_expected(parser, "as and the new name", "rename OLD as NEW, ...");
    if (!parser_accept_word(parser, "as"))
        return parser_expected(parser, "as and the new name", "rename OLD as NEW; parts of a map: set a.new = a.old | unset a.old");
    const token_t *named = parser_token(parser);
    if (parse_name(parser, "the new name", &renamed->to) < 0)
        return -1;
    if (is_renamed(list, count, renamed->from))
        return parser_error(parser, token, "a copy: set NEW = OLD", "%.*s is renamed twice", (int) renamed->from.size, renamed->from.data);
    for (unsigned i = 0; i < count; i++)
        if (text_equal(list[i].to, renamed->to))
            return parser_error(parser, named, NULL, "two fields are named %.*s", (int) renamed->to.size, renamed->to.data);
    return 0;
}

static op_t *rename_parse(program_t *program, parser_t *parser) {
    renamed_t list[RENAMED_MAX];
    unsigned count = 0;
    do {
        if (parse_renamed(parser, list, count) < 0)
            return NULL;
        count++;
    } while (parser_accept(parser, TOKEN_COMMA));
    if (parser->scope->closed)
        bind_closed(parser->scope, list, count);
    else
        bind_open(parser->scope, list, count);
    return op_new(program, &op_rename, sizeof(op_t));
}

/* Names are all resolved before the program runs. */
static void rename_event(op_t *op, row_t **rows, unsigned count) {
    op_pass(op, rows, count);
}

const op_class_t op_keep = {
    .name = "keep",
    .syntax = "keep NAME, EXPRESSION as NAME, ...",
    .help = "Leaves exactly these fields, in this order. A path is named by its last part unless as says otherwise: keep device, site.name as site, "
            "temperature * 9 / 5 + 32 as fahrenheit. Fields that an event lacks stay absent.",
    .parse = keep_parse,
    .event = keep_event,
    .free = keep_free,
};

const op_class_t op_rename = {
    .name = "rename",
    .syntax = "rename OLD as NEW, ...",
    .help = "Gives fields other names; they keep their place. A field that had the new name before is gone. All old names are those before the operator, so names "
            "can be swapped: rename a as b, b as a.",
    .parse = rename_parse,
    .event = rename_event,
};
