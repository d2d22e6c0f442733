/* The names that exist at a point of a program, and what a compiled program owns. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "data/lang/parser.h"

typedef struct unit_thing {
    struct unit_thing *next;
    void *thing;
    void (*end)(void *thing);
} unit_thing_t;

void unit_own(unit_t *unit, void *thing, void (*end)(void *thing)) {
    unit_thing_t *entry = arena_alloc(&unit->arena, sizeof *entry);
    *entry = (unit_thing_t){unit->things, thing, end};
    unit->things = entry;
}

void unit_fini(unit_t *unit) {
    for (unit_thing_t *entry = unit->things; entry; entry = entry->next)
        entry->end(entry->thing);
    unit->things = NULL;
    arena_fini(&unit->arena);
}

uint32_t scope_hash(text_t name) {
    return (uint32_t) XXH3_64bits(name.data, name.size);
}

/* There may be 10,000 of them: numbers are compared before texts are. */
binding_t *scope_find(scope_t *scope, text_t name) {
    uint32_t hash = scope_hash(name);
    for (size_t i = 0; i < scope->count; i++)
        if (scope->bindings[i].hash == hash && text_equal(scope->bindings[i].name, name))
            return &scope->bindings[i];
    return NULL;
}

void scope_bind(scope_t *scope, text_t name, source_t source, unsigned index, types_t types) {
    binding_t *binding = scope_find(scope, name);
    if (!binding) {
        scope->bindings = mem_resize(scope->bindings, (scope->count + 1) * sizeof *scope->bindings);
        binding = &scope->bindings[scope->count++];
    }
    *binding = (binding_t){name, scope_hash(name), source, index, types};
}

static const char *reserved_hint(text_t name) {
    if (text_is(name, "@timestamp"))
        return "the event's time is read as @timestamp and cannot be set: choose another name; where the data comes in, ingest --time FIELD says which field is the time";
    if (text_is(name, "@stream"))
        return "the stream is read as meta.stream: choose another name, or send events to a stream with to STREAM or split";
    return NULL;
}

int parser_check_name(parser_t *parser, const token_t *token, text_t name) {
    const char *hint = reserved_hint(name);
    return hint ? parser_error(parser, token, hint, "no field can be named %.*s", (int) name.size, name.data) : 0;
}

void parser_check_names(parser_t *parser, const token_t *token) {
    scope_t *scope = parser->scope;
    for (size_t i = 0; i < scope->count; i++) {
        binding_t *binding = &scope->bindings[i];
        if (binding->source == SOURCE_ABSENT || !reserved_hint(binding->name))
            continue;
        const token_t *place = token; /* where it is written, if it is */
        for (const token_t *at = token; at < parser_token(parser); at++)
            if (at->type == TOKEN_QUOTED && text_equal(text_make(parser->diagnostics->source.data + at->at + 1, at->size - 2), binding->name))
                place = at;
        parser_check_name(parser, place, binding->name);
        binding->source = SOURCE_ABSENT;
        scope->lenient = true;
    }
}

unsigned scope_new_value(scope_t *scope) {
    return scope->values++;
}

scope_t scope_copy(const scope_t *scope) {
    scope_t copy = *scope;
    copy.bindings = mem_alloc((scope->count + 1) * sizeof *copy.bindings);
    if (scope->count)
        memcpy(copy.bindings, scope->bindings, scope->count * sizeof *copy.bindings);
    return copy;
}

void scope_fini(scope_t *scope) {
    mem_free(scope->bindings);
    *scope = (scope_t){0};
}

/* In a closed scope an unknown name can only be a mistake. */
static void unknown_name(parser_t *parser, text_t name, uint32_t at, uint32_t size) {
    scope_t *scope = parser->scope;
    const char **names = mem_alloc((scope->count + 1) * sizeof *names);
    size_t count = 0;
    for (size_t i = 0; i < scope->count; i++)
        if (scope->bindings[i].source != SOURCE_ABSENT)
            names[count++] = mem_text_n(scope->bindings[i].name.data, scope->bindings[i].name.size);
    char *wanted = mem_text_n(name.data, name.size);
    const char *near = text_nearest(wanted, names, count);
    buf_t hint = {0};
    if (near)
        buf_format(&hint, "did you mean %s? ", near);
    buf_put_text(&hint, "the fields here are");
    for (size_t i = 0; i < count && hint.size < 400; i++)
        buf_format(&hint, "%s %s", i ? "," : "", names[i]);
    diagnostics_add(parser->diagnostics, at, size, buf_text(&hint), "no field %s after the %s", wanted, scope->closed_by);
    buf_fini(&hint);
    mem_free(wanted);
    for (size_t i = 0; i < count; i++)
        mem_free((char *) names[i]);
    mem_free(names);
}

node_t *node_name(parser_t *parser, text_t name, uint32_t at, uint32_t size) {
    scope_t *scope = parser->scope;
    binding_t *binding = scope_find(scope, name);
    source_t source = binding ? binding->source : scope->layout && !scope->closed ? SOURCE_FIELD : SOURCE_ABSENT;
    if (!binding && (scope->closed || !scope->layout) && !scope->lenient)
        unknown_name(parser, name, at, size);
    node_t *node = node_new(parser, source == SOURCE_FIELD ? NODE_FIELD : source == SOURCE_VALUE ? NODE_VALUE : NODE_CONSTANT, at);
    node->size = size;
    if (source == SOURCE_FIELD)
        node->index = binding ? binding->index : layout_slot(scope->layout, name);
    else if (source == SOURCE_VALUE)
        node->index = binding->index;
    if (source != SOURCE_ABSENT) {
        node->types = binding ? binding->types : TYPES_ANY;
        node->constant = value_text(arena_copy(&parser->unit->arena, name.data, name.size), name.size);
    }
    node_bind(node);
    if (parser->noted)
        parser->noted(parser->noted_argument, node, false);
    return node;
}
