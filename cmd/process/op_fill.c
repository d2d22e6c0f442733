/* fill: gives values to fields that have none: computed ones, or what the key had last. */
#include "keyed.h"

#define REMEMBERED_MAX 1024   /* bytes of a value that is remembered */

typedef struct filled {
    node_t *field;
    node_t *value;            /* NULL: the previous one */
    unsigned index;           /* of the computed value */
    unsigned number;          /* of the previous value among those of the key */
} filled_t;

typedef struct remembered {   /* packed; size 0: none */
    uint8_t *data;
    uint32_t size, room;
} remembered_t;

typedef struct memory {       /* of a key */
    remembered_t *values;
    uint64_t count;
} memory_t;

typedef struct fill {
    op_t op;
    filled_t *filled;
    unsigned count;
    unsigned previous;        /* fields that are filled with what was there before */
    keyed_t *keyed;
    buf_t packed;
} fill_t;

extern const op_class_t op_fill;

/* What is remembered by key. */

static void save_memory(const void *state, buf_t *out) {
    const memory_t *memory = state;
    pack_array(out, (uint32_t) memory->count);
    for (uint64_t i = 0; i < memory->count; i++)
        pack_binary(out, memory->values[i].data, memory->values[i].size);
}

static void set_count(memory_t *memory, uint64_t count) {
    memory->values = mem_resize(memory->values, count * sizeof *memory->values);
    memset(memory->values + memory->count, 0, (count - memory->count) * sizeof *memory->values);
    memory->count = count;
}

static void remember(remembered_t *remembered, const void *data, size_t size) {
    if (size > remembered->room) {
        remembered->room = (uint32_t) (size < 16 ? 16 : size);
        remembered->data = mem_resize(remembered->data, remembered->room);
    }
    if (size)
        memcpy(remembered->data, data, size);
    remembered->size = (uint32_t) size;
}

static bool load_memory(void *context, void *state, pack_cursor_t *cursor) {
    memory_t *memory = state;
    uint32_t count;
    text_t bytes;
    if (!pack_read_array(cursor, &count))
        return false;
    set_count(memory, count);
    for (uint32_t i = 0; i < count; i++) {
        value_t value;
        if (!pack_read_binary(cursor, &bytes) || bytes.size > REMEMBERED_MAX)
            return false;
        pack_cursor_t inside = pack_cursor(bytes.data, bytes.size);
        if (bytes.size && (!pack_read_value(&inside, &value) || inside.at != inside.end))
            return false;
        remember(&memory->values[i], bytes.data, bytes.size);
    }
    return true;
}

static void drop_memory(void *state) {
    memory_t *memory = state;
    for (uint64_t i = 0; i < memory->count; i++)
        mem_free(memory->values[i].data);
    mem_free(memory->values);
}

static size_t memory_of(const void *state) {
    const memory_t *memory = state;
    size_t size = memory->count * sizeof *memory->values;
    for (uint64_t i = 0; i < memory->count; i++)
        size += memory->values[i].room;
    return size;
}

static const keyed_class_t memory_class = {
    .size = sizeof(memory_t), .elements = 1, .save = save_memory, .load = load_memory, .drop = drop_memory, .memory = memory_of};

/* Reading. */

/* Whether a lone word is next that nobody knows, and that looks like previous. */
static bool misspelt(parser_t *parser) {
    static const char *const names[] = {"previous"};
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_NAME || parser_is_word(parser, "previous") || (token[1].type != TOKEN_END && token[1].type != TOKEN_COMMA &&
                                                                            token[1].type != TOKEN_PIPE && token[1].type != TOKEN_NAME))
        return false;
    text_t word = text_make(parser->diagnostics->source.data + token->at, token->size);
    if (scope_find(parser->scope, word))
        return false;
    char *name = mem_text_n(word.data, word.size);
    bool near = text_is(word, "prev") || text_nearest(name, names, 1);
    mem_free(name);
    return near;
}

static int parse_filled(fill_t *fill, parser_t *parser) {
    const token_t *token = parser_token(parser);
    filled_t filled = {0};
    text_t name;
    if (parse_name(parser, "a field's name", &name) < 0)
        return -1;
    if (parser_token(parser)->type == TOKEN_DOT || parser_token(parser)->type == TOKEN_BRACKET)
        return parser_error(parser, parser_token(parser), "fill takes whole fields; parts of a map: set a.b = a.b ?? 0", "expected =, found a path");
    bool lenient = parser->scope->lenient; /* a name that is new here is fine */
    parser->scope->lenient = true;
    filled.field = node_name(parser, name, token->at, token->size);
    parser->scope->lenient = lenient;
    if (!parser_accept(parser, TOKEN_ASSIGN) && !parser_accept_word(parser, "with"))
        return parser_expected(parser, "= and a value, or = previous", "fill temperature = previous, status = \"unknown\" by device");
    types_t types = filled.field->types;
    if (parser_is_word(parser, "linear") || parser_is_word(parser, "interpolate"))
        return parser_error(parser, parser_token(parser), "previous takes the last value; a field of this name is written in backticks",
                            "a stream cannot be interpolated: the next value is not known yet");
    if (misspelt(parser))
        return parser_error(parser, parser_token(parser), "did you mean previous? A field of this name is written in backticks", "%.*s is no value to fill with",
                            (int) parser_token(parser)->size, parser->diagnostics->source.data + parser_token(parser)->at);
    if (parser_accept_word(parser, "previous")) {
        filled.number = fill->previous++;
    } else {
        filled.value = parse_expression(parser);
        if (!filled.value)
            return -1;
        types |= filled.value->types;
    }
    filled.index = scope_new_value(parser->scope);
    scope_bind(parser->scope, name, SOURCE_VALUE, filled.index, types);
    fill->filled = mem_resize(fill->filled, (fill->count + 1) * sizeof *fill->filled);
    fill->filled[fill->count++] = filled;
    return 0;
}

/* Keys are what the fields were before they were filled, as the state is found before they are: `before` has their names. */
static int parse_keys(fill_t *fill, parser_t *parser, scope_t *before) {
    scope_t *scope = parser->scope;
    int status = 0;
    parser->scope = before;
    while (status == 0 && keyed_parse(fill->keyed, parser, &status))
        continue;
    parser->scope = scope;
    return status;
}

static int parse_fill(fill_t *fill, parser_t *parser) {
    scope_t before = scope_copy(parser->scope);
    int status = 0;
    do {
        status = parse_filled(fill, parser);
    } while (status == 0 && parser_accept(parser, TOKEN_COMMA));
    const token_t *token = parser_token(parser);
    if (status == 0)
        status = parse_keys(fill, parser, &before);
    scope_fini(&before);
    if (status < 0)
        return -1;
    if (parser_token(parser) != token && !fill->previous)
        return parser_error(parser, token, "fill temperature = previous by device", "nothing is filled with what was there before");
    return 0;
}

static void fill_free(op_t *op) {
    fill_t *fill = (fill_t *) op;
    keyed_free(fill->keyed);
    mem_free(fill->filled);
    buf_fini(&fill->packed);
}

static op_t *fill_parse(program_t *program, parser_t *parser) {
    fill_t *fill = op_new(program, &op_fill, sizeof *fill);
    fill->keyed = keyed_new(program, &memory_class, NULL);
    if (parse_fill(fill, parser) < 0) {
        fill_free(&fill->op);
        mem_free(fill);
        return NULL;
    }
    return &fill->op;
}

/* Running. */

static value_t previous(fill_t *fill, const filled_t *filled, value_t value, memory_t *memory, const row_t *row) {
    if (memory->count < fill->previous)
        set_count(memory, fill->previous);
    remembered_t *remembered = &memory->values[filled->number];
    if (value.type != VALUE_NULL) {
        buf_clear(&fill->packed);
        pack_value(&fill->packed, value);
        bool large = fill->packed.size > REMEMBERED_MAX || !pack_within(pack_cursor(fill->packed.data, fill->packed.size), PACK_DEPTH);
        if (large)
            evaluation_failed(filled->field, row, "a value of more than %d bytes is not remembered", REMEMBERED_MAX);
        remember(remembered, fill->packed.data, large ? 0 : fill->packed.size);
        return value;
    }
    if (!remembered->size)
        return value;
    const uint8_t *copy = arena_copy(&row->context->arena, remembered->data, remembered->size);
    return record_value(copy, copy + remembered->size);
}

/* What is null or absent stays so where there is nothing to fill it with. */
static value_t kept(const filled_t *filled, value_t value, const row_t *row) {
    bool there = filled->field->kind == NODE_FIELD ? row->places[filled->field->index].value != 0
                                                    : filled->field->kind == NODE_VALUE && !value_is_absent(row->values[filled->field->index]);
    return there ? value : value_absent();
}

static void fill_event(op_t *op, row_t **rows, unsigned count) {
    fill_t *fill = (fill_t *) op;
    if (fill->previous)
        keyed_prepare(fill->keyed, rows, count);
    for (unsigned i = 0; i < count; i++) {
        row_t *row = rows[i];
        memory_t *memory = fill->previous ? keyed_get(fill->keyed, i, row) : NULL;
        for (unsigned j = 0; j < fill->count; j++) {
            const filled_t *filled = &fill->filled[j];
            value_t value = evaluate(filled->field, row), found = value;
            if (!filled->value)
                found = previous(fill, filled, value, memory, row);
            else if (value.type == VALUE_NULL)
                found = evaluate(filled->value, row);
            row->values[filled->index] = found.type == VALUE_NULL ? kept(filled, value, row) : found;
        }
    }
    op_pass(op, rows, count);
}

static void fill_save(const op_t *op, buf_t *out) {
    keyed_save(((const fill_t *) op)->keyed, out);
}

static int fill_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    return keyed_load(((fill_t *) op)->keyed, cursor, err);
}

static size_t fill_memory(const op_t *op) {
    return keyed_memory(((const fill_t *) op)->keyed);
}

const op_class_t op_fill = {
    .name = "fill",
    .syntax = "fill FIELD = EXPRESSION|previous, ... [by KEY, ...] [expire D]",
    .help = "Gives a value to fields that are absent or null: a computed one, or previous, the last one that the field had in this stream, for this combination of the "
            "keys. Later fields see earlier ones; a key is what it was before. A key is forgotten after silence of expire (24h). Values of more than 1 KiB are not remembered.",
    .parse = fill_parse,
    .event = fill_event,
    .save = fill_save,
    .load = fill_load,
    .memory = fill_memory,
    .free = fill_free,
};
