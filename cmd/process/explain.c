/* process --explain: what a program does, operator by operator, as it was understood. */
#include "chain.h"
#include "data/lang/print.h"

#define INDENT "     "

static void put_types(buf_t *out, types_t types) {
    buf_t text = {0};
    types_put(&text, types);
    if (!text.size)
        buf_put_text(out, "null");
    else
        buf_format(out, "%s%s", buf_text(&text), (types & TYPE(VALUE_NULL)) && types != TYPES_ANY ? " or null" : "");
    buf_fini(&text);
}

static void put_names(buf_t *out, const text_t *names, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        buf_put_text(out, i ? ", " : "");
        name_put(out, names[i]);
    }
}

/* The operator's text in one line, comments left out. */
static void put_text(const outline_t *outline, const outline_step_t *step, buf_t *out) {
    char quote = 0;
    bool blank = false;
    for (uint32_t i = step->at; i < step->at + step->size; i++) {
        char c = outline->source.data[i];
        if (!quote && c == '#')
            while (i + 1 < step->at + step->size && outline->source.data[i + 1] != '\n')
                i++;
        else if (!quote && (c == ' ' || c == '\n' || c == '\t' || c == '\r'))
            blank = true;
        else {
            if (blank)
                buf_put_byte(out, ' ');
            blank = false;
            buf_put_byte(out, (uint8_t) c);
            if (quote && c == '\\' && quote != '`' && i + 1 < step->at + step->size)
                buf_put_byte(out, (uint8_t) outline->source.data[++i]);
            else if (quote)
                quote = c == quote ? 0 : quote;
            else if (c == '"' || c == '\'' || c == '`')
                quote = c;
        }
    }
}

/* "field of the event", "made by 2. set at 1:30" */
static void put_origin(const outline_t *outline, unsigned number, const node_t *name, buf_t *out) {
    int maker = outline_maker(outline, number, name), record = outline_record(outline, number);
    if (maker >= 0) {
        const outline_step_t *step = &outline->steps[maker];
        bool here = maker == (int) number, kept = name->kind == NODE_FIELD && maker > record;
        buf_put_text(out, here ? "made by this operator, before" : kept ? "a field, named by " : "made by ");
        if (here)
            return;
        outline_put_step(outline, (unsigned) maker, out);
        buf_format(out, " (line %u, column %u)", step->line, step->column);
    } else if (record >= 0) {
        buf_put_text(out, "field of the record that ");
        outline_put_step(outline, (unsigned) record, out);
        buf_put_text(out, " makes");
    } else {
        buf_put_text(out, "field of the event");
    }
}

static bool same_name(const node_t *a, const node_t *b) {
    return a->kind == b->kind && a->index == b->index && text_equal(text_make(a->constant.text, a->constant.size), text_make(b->constant.text, b->constant.size));
}

static void put_reads(const outline_t *outline, unsigned number, buf_t *out) {
    const outline_step_t *step = &outline->steps[number];
    for (unsigned i = 0; i < step->name_count; i++) {
        bool again = false;
        for (unsigned j = 0; j < i && !again; j++)
            again = same_name(step->names[i], step->names[j]);
        if (again)
            continue;
        buf_put_text(out, INDENT "reads   ");
        node_put(out, step->names[i]);
        buf_put_text(out, ": ");
        put_origin(outline, number, step->names[i], out);
        buf_put_byte(out, '\n');
    }
}

/* A name stands among those that are read, and a constant that was written so tells nothing. */
static bool is_told(const outline_t *outline, const node_t *node) {
    buf_t text = {0};
    if (node->kind == NODE_CONSTANT)
        node_put(&text, node);
    bool same = text.size == node->size && memcmp(text.data, outline->source.data + node->at, text.size) == 0;
    buf_fini(&text);
    return node->kind != NODE_FIELD && node->kind != NODE_VALUE && !same;
}

static void put_expressions(const outline_t *outline, const outline_step_t *step, buf_t *out) {
    for (unsigned i = 0; i < step->expression_count; i++) {
        const node_t *node = step->expressions[i];
        if (!is_told(outline, node))
            continue;
        buf_put_text(out, INDENT "compute ");
        node_put(out, node);
        buf_put_text(out, ": ");
        put_types(out, node->types);
        buf_put_byte(out, '\n');
    }
}

static const binding_t *find(const outline_scope_t *scope, text_t name) {
    for (size_t i = 0; i < scope->count; i++)
        if (text_equal(scope->bindings[i].name, name))
            return &scope->bindings[i];
    return NULL;
}

static void put_binding(const binding_t *binding, buf_t *out) {
    name_put(out, binding->name);
    buf_put_text(out, ": ");
    put_types(out, binding->types);
}

/* What the binding was called before the operator, where it has only another name; no data: it is something else. */
static text_t former_name(const outline_step_t *step, const binding_t *binding) {
    bool same_record = step->before.layout == step->behind.layout;
    for (size_t i = 0; same_record && i < step->before.count; i++) {
        const binding_t *old = &step->before.bindings[i];
        if (old->source == binding->source && old->index == binding->index && !text_equal(old->name, binding->name))
            return old->name;
    }
    text_t own = {0};
    if (same_record && binding->source == SOURCE_FIELD)
        own = layout_name(step->behind.layout, binding->index);
    return own.data && !text_equal(own, binding->name) ? own : (text_t){0};
}

/* Whether the name is gone because what it was has another one now. */
static bool is_renamed(const outline_step_t *step, text_t name) {
    for (size_t i = 0; i < step->behind.count; i++) {
        const binding_t *binding = &step->behind.bindings[i];
        if (binding->source != SOURCE_ABSENT && outline_changed(step, binding) && text_equal(former_name(step, binding), name))
            return true;
    }
    return false;
}

static void put_names_given(const outline_step_t *step, buf_t *out) {
    unsigned count = 0;
    for (size_t i = 0; i < step->behind.count; i++) {
        const binding_t *binding = &step->behind.bindings[i];
        text_t former = binding->source != SOURCE_ABSENT && outline_changed(step, binding) ? former_name(step, binding) : (text_t){0};
        if (!former.data)
            continue;
        buf_put_text(out, count++ ? ", " : INDENT "renames ");
        name_put(out, former);
        buf_put_text(out, " as ");
        name_put(out, binding->name);
    }
    buf_put_text(out, count ? "\n" : "");
}

static void put_makes(const outline_step_t *step, buf_t *out) {
    unsigned count = 0;
    for (size_t i = 0; i < step->behind.count; i++) {
        const binding_t *binding = &step->behind.bindings[i];
        if (binding->source != SOURCE_VALUE || !outline_changed(step, binding) || former_name(step, binding).data)
            continue;
        buf_put_text(out, count++ ? "\n" INDENT "        " : INDENT "makes   ");
        put_binding(binding, out);
    }
    buf_put_text(out, count ? "\n" : "");
    put_names_given(step, out);
    count = 0;
    for (size_t i = 0; i < step->behind.count; i++) {
        const binding_t *binding = &step->behind.bindings[i], *old = find(&step->before, binding->name);
        if (binding->source != SOURCE_ABSENT || (old && old->source == SOURCE_ABSENT) || is_renamed(step, binding->name))
            continue;
        buf_put_text(out, count++ ? ", " : INDENT "removes ");
        name_put(out, binding->name);
    }
    buf_put_text(out, count ? "\n" : "");
}

/* Exactly the fields that are there behind the operator, where it decides that. */
static void put_leaves(const outline_step_t *step, buf_t *out) {
    bool anew = step->behind.layout != step->before.layout;
    if (anew && step->behind.layout && !step->behind.closed) {
        buf_put_text(out, INDENT "leaves  a new record: which fields it has only the data tells\n");
        return;
    }
    if (!step->behind.closed || (step->before.closed && !anew))
        return;
    buf_put_text(out, INDENT "leaves  only ");
    for (size_t i = 0, count = 0; i < step->behind.count; i++) {
        if (step->behind.bindings[i].source == SOURCE_ABSENT)
            continue;
        buf_put_text(out, count++ ? ", " : "");
        name_put(out, step->behind.bindings[i].name);
    }
    buf_put_byte(out, '\n');
}

static void put_streams(const program_t *program, const outline_step_t *step, buf_t *out) {
    if (step->renames)
        buf_format(out, INDENT "names   the stream %s from here on\n", step->stream);
    for (unsigned i = 0; i < step->stream_count; i++)
        buf_format(out, "%s%s", i ? ", " : INDENT "writes  to the stream ", program->streams[step->streams[i]].name);
    buf_put_text(out, step->stream_count ? "\n" : "");
}

static void put_state(const outline_step_t *step, buf_t *out) {
    if (!step->op->class->save)
        return;
    buf_put_text(out, INDENT "keeps   ");
    if (step->op->class->keeps) {
        buf_put_text(out, step->op->class->keeps);
    } else if (step->key_count) {
        buf_put_text(out, "state for each ");
        put_names(out, step->keys, step->key_count);
    } else {
        buf_put_text(out, "one state");
    }
    buf_put_byte(out, '\n');
}

/* Whether what the program is split by can be looked for among the keys: what an earlier operator made may come from it. */
static bool made_before(const outline_t *outline, unsigned number, text_t key) {
    for (unsigned i = 0; i < number; i++) {
        const binding_t *binding = find(&outline->steps[i].behind, key);
        if (binding && outline_changed(&outline->steps[i], binding))
            return true;
    }
    return false;
}

static bool splits(const op_class_t *class) {
    static const char *const harmless[] = {"sample", "fill"};     /* at worst another share; by constants alone, as a rule */
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (strcmp(class->name, harmless[i]) == 0)
            return false;
    return class->save && (!class->keeps || strcmp(class->name, "join") == 0);
}

void explain_state(const program_t *program, buf_t *out) {
    const outline_t *outline = program->outline;
    for (unsigned i = 0, count = 0; i < outline->count; i++) {
        const outline_step_t *step = &outline->steps[i];
        if (!splits(step->op->class))
            continue;
        bool made = step->op->class->keeps != NULL;
        buf_format(out, "%s{\"operator\":\"%s\",\"line\":%u,\"column\":%u,\"keys\":[", count++ ? "," : "", step->op->class->name, step->line, step->column);
        for (unsigned k = 0; k < step->key_count; k++) {
            buf_put_text(out, k ? "," : "");
            text_put_json(out, step->keys[k]);
            made |= made_before(outline, i, step->keys[k]);
        }
        buf_format(out, "],\"made\":%s}", made ? "true" : "false");
    }
}

static void put_step(const program_t *program, unsigned number, buf_t *out) {
    const outline_t *outline = program->outline;
    const outline_step_t *step = &outline->steps[number];
    buf_format(out, "%3u. ", number + 1);
    put_text(outline, step, out);
    buf_format(out, "    (line %u, column %u)\n", step->line, step->column);
    put_reads(outline, number, out);
    put_expressions(outline, step, out);
    put_makes(step, out);
    put_leaves(step, out);
    put_streams(program, step, out);
    put_state(step, out);
}

/* The fields of the events that come in, each once. */
static void put_fields(const outline_t *outline, buf_t *out) {
    const node_t *shown[256];
    unsigned count = 0;
    buf_put_text(out, "in:  ");
    for (unsigned i = 0; i < outline->count; i++) {
        for (unsigned j = 0; j < outline->steps[i].name_count; j++) {
            const node_t *node = outline->steps[i].names[j];
            bool again = node->kind != NODE_FIELD || outline_record(outline, i) >= 0 || count == 256;
            for (unsigned k = 0; k < count && !again; k++)
                again = shown[k]->index == node->index;
            if (again)
                continue;
            buf_put_text(out, count ? ", " : "reads ");
            shown[count++] = node;
            name_put(out, text_make(node->constant.text, node->constant.size));
        }
    }
    buf_put_text(out, count ? " of each event\n" : "reads no field by its name\n");
}

static void put_output(const program_t *program, buf_t *out) {
    const outline_t *outline = program->outline;
    const outline_scope_t none = {0}, *scope = outline->count ? &outline->steps[outline->count - 1].behind : &none;
    buf_format(out, "out: the stream %s: ", program->streams[0].name);
    unsigned made = 0, removed = 0;
    if (!scope->closed)
        buf_put_text(out, outline_record(outline, outline->count) >= 0 ? "the record's fields" : "the event's fields");
    for (size_t i = 0; i < scope->count; i++) {
        const binding_t *binding = &scope->bindings[i];
        if (binding->source == SOURCE_ABSENT && !scope->closed) {
            buf_put_text(out, removed++ ? ", " : " without ");
            name_put(out, binding->name);
        }
    }
    for (size_t i = 0; i < scope->count; i++) {
        const binding_t *binding = &scope->bindings[i];
        if (binding->source == SOURCE_ABSENT)
            continue;
        buf_put_text(out, made++ ? ", " : scope->closed ? "" : " and ");
        name_put(out, binding->name);
    }
    buf_put_byte(out, '\n');
    for (unsigned i = 1; i < program->stream_count; i++)
        buf_format(out, "     the stream %s\n", program->streams[i].name);
}

void explain(program_t *program, buf_t *out) {
    put_fields(program->outline, out);
    for (unsigned i = 0; i < program->outline->count; i++)
        put_step(program, i, out);
    put_output(program, out);
}
