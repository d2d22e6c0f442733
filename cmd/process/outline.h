#ifndef PROCESS_OUTLINE_H
#define PROCESS_OUTLINE_H

#include "op.h"

/* What --explain and --trace know of a program beside what runs: where each operator stands in the text, the expressions that it read, the names
 * before and behind it, the streams that it writes, the keys of its state. Noted while the program is read, and only when the setup asks for it; operators
 * know nothing of it. */
typedef struct outline_scope {
    binding_t *bindings;      /* in the unit's arena, like the names */
    size_t count;
    const layout_t *layout;   /* of the record; NULL: there is none */
    bool closed;
} outline_scope_t;

typedef struct outline_step {
    op_t *op;
    uint32_t at, size;        /* in the text */
    unsigned line, column;
    outline_scope_t before, behind;
    node_t **expressions;     /* read whole, in the order of the text */
    unsigned expression_count;
    node_t **names;           /* looked up, within expressions and by themselves */
    unsigned name_count;
    unsigned *streams;        /* that it may write to */
    unsigned stream_count;
    bool renames;             /* the main stream is called `stream` from here on */
    char stream[FRAME_TOPIC_MAX + 1];
    const text_t *keys;       /* of its state */
    unsigned key_count;
} outline_step_t;

typedef struct outline {
    text_t source;            /* a copy */
    outline_step_t *steps;
    unsigned count;
    char dead[512];           /* why the last dead letter is one; "": there was none */
} outline_t;

outline_t *outline_new(program_t *program, text_t source);                /* in the unit's arena but for the arrays that grow */
void outline_free(outline_t *outline);                /* NULL is legal */
void outline_begin(program_t *program, parser_t *parser, const token_t *token);      /* an operator's text begins */
void outline_end(program_t *program, parser_t *parser, op_t *op);         /* NULL: it was faulty */
void outline_stream(program_t *program, unsigned stream);
void outline_keys(program_t *program, const text_t *names, unsigned count);

/* The number of the step that made what a name stands for before step `step`, or -1: the event that came in, or the record that step
 * outline_record made. */
int outline_maker(const outline_t *outline, unsigned step, const node_t *name);
int outline_record(const outline_t *outline, unsigned step);
/* Whether the binding is new or another one behind the step. */
bool outline_changed(const outline_step_t *step, const binding_t *binding);
/* Whether all that the expression reads is there before the step, so that it can be computed then. */
bool outline_ready(const outline_step_t *step, const node_t *node);

/* Steps as people count them, from 1: "2. set". */
void outline_put_step(const outline_t *outline, unsigned step, buf_t *out);

/* process --explain. */
void explain(program_t *program, buf_t *out);
/* What process --check=json says of the operators that remember something of other events: JSON objects with commas between. made: not all of their
 * keys are fields of the events that come in, or it is not known which are. */
void explain_state(const program_t *program, buf_t *out);

/* process --trace: from now on one event in `every` of those that come in, and of those that operators make, is followed through the program; lines
 * go to `put`. After program_new with the setup's outline, before any event. */
void trace_install(program_t *program, uint64_t every, void (*put)(text_t lines));

#endif
