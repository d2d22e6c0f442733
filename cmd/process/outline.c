/* Noting what a program consists of while it is read. See outline.h. */
#include "outline.h"

#include "chain.h"

static outline_scope_t copy_scope(program_t *program) {
    const scope_t *scope = &program->scope;
    outline_scope_t copy = {.count = scope->count, .layout = scope->layout, .closed = scope->closed || !scope->layout};
    if (scope->count)
        copy.bindings = arena_copy(&program->unit.arena, scope->bindings, scope->count * sizeof *scope->bindings);
    return copy;
}

outline_t *outline_new(program_t *program, text_t source) {
    outline_t *outline = mem_zero(sizeof *outline);
    outline->source = text_make(arena_copy(&program->unit.arena, source.data, source.size), source.size);
    return outline;
}

void outline_free(outline_t *outline) {
    if (!outline)
        return;
    for (unsigned i = 0; i < outline->count; i++) {
        mem_free(outline->steps[i].expressions);
        mem_free(outline->steps[i].names);
        mem_free(outline->steps[i].streams);
    }
    mem_free(outline->steps);
    mem_free(outline);
}

static outline_step_t *present(program_t *program) {
    outline_t *outline = program->outline;
    return outline && outline->count ? &outline->steps[outline->count - 1] : NULL;
}

static void add_node(node_t ***nodes, unsigned *count, node_t *node) {
    for (unsigned i = 0; i < *count; i++)
        if ((*nodes)[i]->at == node->at && (*nodes)[i]->size == node->size && (*nodes)[i]->kind == node->kind)
            return; /* read a second time */
    *nodes = mem_resize(*nodes, (*count + 1) * sizeof **nodes);
    (*nodes)[(*count)++] = node;
}

static void note(void *argument, node_t *node, bool whole) {
    outline_step_t *step = present(argument);
    if (whole)
        add_node(&step->expressions, &step->expression_count, node);
    else if (node->kind != NODE_CONSTANT)
        add_node(&step->names, &step->name_count, node);
}

void outline_begin(program_t *program, parser_t *parser, const token_t *token) {
    outline_t *outline = program->outline;
    if (!outline)
        return;
    outline->steps = mem_resize(outline->steps, (outline->count + 1) * sizeof *outline->steps);
    outline_step_t *step = &outline->steps[outline->count++];
    *step = (outline_step_t){.at = token->at, .before = copy_scope(program)};
    diagnostics_place(outline->source, token->at, &step->line, &step->column);
    snprintf(step->stream, sizeof step->stream, "%s", program->stream);
    parser->noted = note;
    parser->noted_argument = program;
}

void outline_end(program_t *program, parser_t *parser, op_t *op) {
    outline_step_t *step = present(program);
    if (!step)
        return;
    const token_t *last = parser->at ? parser_token(parser) - 1 : parser_token(parser);
    step->op = op;
    step->size = last->at + last->size > step->at ? last->at + last->size - step->at : 0;
    step->behind = copy_scope(program);
    step->renames = strcmp(step->stream, program->stream) != 0;
    snprintf(step->stream, sizeof step->stream, "%s", program->stream);
}

void outline_stream(program_t *program, unsigned stream) {
    outline_step_t *step = present(program);
    if (!step)
        return;
    step->streams = mem_resize(step->streams, (step->stream_count + 1) * sizeof *step->streams);
    step->streams[step->stream_count++] = stream;
}

void outline_keys(program_t *program, const text_t *names, unsigned count) {
    outline_step_t *step = present(program);
    if (!step)
        return;
    step->keys = arena_copy(&program->unit.arena, names, count * sizeof *names);
    step->key_count = count;
}

/* Asking. */

static const binding_t *find(const outline_scope_t *scope, text_t name) {
    for (size_t i = 0; i < scope->count; i++)
        if (text_equal(scope->bindings[i].name, name))
            return &scope->bindings[i];
    return NULL;
}

/* The numbers of values begin anew with the record: they tell nothing beyond. */
bool outline_changed(const outline_step_t *step, const binding_t *binding) {
    const binding_t *old = find(&step->before, binding->name);
    if (step->before.layout != step->behind.layout)
        return binding->source != SOURCE_ABSENT;
    return !old || old->source != binding->source || old->index != binding->index;
}

int outline_record(const outline_t *outline, unsigned step) {
    while (step-- > 0)
        if (outline->steps[step].before.layout != outline->steps[step].behind.layout)
            return (int) step;
    return -1;
}

int outline_maker(const outline_t *outline, unsigned step, const node_t *node) {
    text_t name = text_make(node->constant.text, node->constant.size);
    const binding_t *wanted = find(&outline->steps[step].before, name);
    if (!outline_ready(&outline->steps[step], node))
        return (int) step; /* an earlier assignment of its own */
    while (wanted && step-- > 0) {
        const outline_step_t *maker = &outline->steps[step];
        const binding_t *made = find(&maker->behind, name);
        if (made && outline_changed(maker, made))
            return (int) step;
    }
    return -1;
}

bool outline_ready(const outline_step_t *step, const node_t *node) {
    if (node->kind == NODE_VALUE) {
        const binding_t *binding = find(&step->before, text_make(node->constant.text, node->constant.size));
        return binding && binding->source == SOURCE_VALUE && binding->index == node->index;
    }
    for (unsigned i = 0; i < node->count; i++)
        if (!outline_ready(step, node->arguments[i]))
            return false;
    return true;
}

void outline_put_step(const outline_t *outline, unsigned step, buf_t *out) {
    buf_format(out, "%u. %s", step + 1, outline->steps[step].op->class->name);
}
