#ifndef DATA_LANG_PARSER_H
#define DATA_LANG_PARSER_H

#include "data/lang/expression.h"
#include "data/lang/lexer.h"

/* Reading expressions: tokens → nodes, resolved against the names that exist at this point of the program, checked and bound. */

/* What a compiled program owns: nodes and texts in the arena, and things with their own end (patterns). */
typedef struct unit {
    arena_t arena;
    struct unit_thing *things;
} unit_t;
void unit_own(unit_t *unit, void *thing, void (*end)(void *thing));
void unit_fini(unit_t *unit);

/* Where a name's value comes from. */
typedef enum source { SOURCE_FIELD, SOURCE_VALUE, SOURCE_ABSENT } source_t;

typedef struct binding {
    text_t name;              /* in the unit's arena */
    uint32_t hash;            /* of it: scope_hash */
    source_t source;
    unsigned index;           /* slot of the layout, or number of the value */
    types_t types;
} binding_t;

/* The names at a point of the chain, in the order in which they are written out. Any other name is a field of the record, unless closed. */
typedef struct scope {
    layout_t *layout;         /* of the record that rows carry; NULL: rows carry none */
    binding_t *bindings;      /* owned */
    size_t count;
    bool closed;              /* exactly the bindings exist */
    char closed_by[64];       /* "window in line 2" */
    bool lenient;             /* an operator before was faulty: unknown names are no news */
    unsigned values;          /* computed values of a row so far */
} scope_t;
binding_t *scope_find(scope_t *scope, text_t name);   /* NULL: not bound */
uint32_t scope_hash(text_t name);                     /* for whoever gives a binding another name */
/* Binds the name (replacing what it was, in its place). The name must live as long as the program. */
void scope_bind(scope_t *scope, text_t name, source_t source, unsigned index, types_t types);
unsigned scope_new_value(scope_t *scope);
/* The names as they are now, in a scope of its own: to be resolved against when others are bound meanwhile. */
scope_t scope_copy(const scope_t *scope);
void scope_fini(scope_t *scope);

typedef struct parser {
    diagnostics_t *diagnostics;
    const token_t *tokens;    /* TOKEN_END last */
    size_t at;
    unit_t *unit;
    scope_t *scope;
    const char *owner;        /* the operator's name, for reports at run time. Static */
    unsigned depth;
    /* Told of each expression that was read whole, and of each name that was looked up; NULL: nobody asks. */
    void (*noted)(void *argument, node_t *node, bool whole);
    void *noted_argument;
} parser_t;

/* Each returns NULL (or -1, false) after reporting. */
node_t *parse_expression(parser_t *parser);
node_t *parse_condition(parser_t *parser);            /* an expression that can be true */

const token_t *parser_token(const parser_t *parser);  /* the next */
const token_t *parser_take(parser_t *parser);
bool parser_accept(parser_t *parser, token_type_t type);
bool parser_is_word(const parser_t *parser, const char *word);    /* the next is this word */
bool parser_accept_word(parser_t *parser, const char *word);
/* "expected WHAT, found ..." at the next token. Returns -1. */
int parser_expected(parser_t *parser, const char *what, const char *hint);
int parser_expect(parser_t *parser, token_type_t type, const char *what);
int parser_error(parser_t *parser, const token_t *token, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int parser_error_at(parser_t *parser, const node_t *node, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

int parse_name(parser_t *parser, const char *what, text_t *name);         /* one word or `name`; in the unit's arena */
int parse_string(parser_t *parser, const char *what, text_t *text);
int parse_duration(parser_t *parser, const char *what, int64_t *ns);      /* above zero */
/* The name that a value gets when none is given: the last name of a path; false for anything else. */
bool parser_default_name(const node_t *node, text_t *name);
/* @timestamp and @stream stand for the event's time and stream wherever events are text: a field of such a name would be lost or taken for them.
 * 0 when a field may be given the name. */
int parser_check_name(parser_t *parser, const token_t *token, text_t name);
/* The same for all names in scope; token is the operator that bound them. Each is reported once. */
void parser_check_names(parser_t *parser, const token_t *token);
/* a.b[0] as name and steps, for assignment; not resolved. */
int parse_target(parser_t *parser, text_t *name, step_t **steps, unsigned *count);

node_t *node_new(parser_t *parser, node_kind_t kind, uint32_t at);        /* ends at the last token taken */
node_t *node_constant(parser_t *parser, value_t value, uint32_t at);
/* The node that reads `name` from the scope. */
node_t *node_name(parser_t *parser, text_t name, uint32_t at, uint32_t size);
/* A compiled regular expression, owned by the unit; NULL after reporting. */
text_t parser_text(const parser_t *parser, const token_t *token);         /* as it is written */
struct pattern *parser_pattern(parser_t *parser, const token_t *token);
/* Checks what is known of a call, folds constants. */
node_t *parse_call(parser_t *parser, const token_t *name);

/* "a, b or c" of the types. */
void types_put(buf_t *out, types_t types);

#endif
