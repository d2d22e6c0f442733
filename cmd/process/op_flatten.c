/* flatten: maps within the event become fields of their own, named by the way to them. */
#include "remake.h"

#define SEPARATOR_MAX 16

typedef struct flatten {
    op_t op;
    node_t *node;             /* for reports */
    text_t *names;            /* only these; none: all */
    unsigned count;
    text_t separator;
    int64_t depth;            /* levels that are taken apart */
    bool arrays;
    remake_t *remake;
    fields_t fields;
    buf_t out;
    /* of the event at hand */
    const row_t *row;
    size_t left;              /* bytes that the record may still grow by */
    const char *wrong;
} flatten_t;

extern const op_class_t op_flatten;

static void flatten_free(op_t *op) {
    flatten_t *flatten = (flatten_t *) op;
    remake_free(flatten->remake);
    fields_fini(&flatten->fields);
    buf_fini(&flatten->out);
    mem_free(flatten->names);
}

static bool is_option(const parser_t *parser) {
    return parser_is_word(parser, "separator") || parser_is_word(parser, "depth") || parser_is_word(parser, "arrays");
}

static int parse_names(flatten_t *flatten, parser_t *parser) {
    do {
        const token_t *token = parser_token(parser);
        text_t name;
        if (parse_name(parser, "a field's name, separator, depth or arrays", &name) < 0)
            return -1;
        if (parser_token(parser)->type == TOKEN_DOT || parser_token(parser)->type == TOKEN_BRACKET)
            return parser_error(parser, parser_token(parser), "flatten takes whole fields: first set name = a.b | unset a.b",
                                "expected , or |, found a path");
        node_name(parser, name, token->at, token->size); /* in a closed scope it must exist */
        flatten->names = mem_resize(flatten->names, (flatten->count + 1) * sizeof *flatten->names);
        flatten->names[flatten->count++] = name;
    } while (parser_accept(parser, TOKEN_COMMA));
    return 0;
}

static int parse_option(flatten_t *flatten, parser_t *parser) {
    if (parser_accept_word(parser, "arrays")) {
        flatten->arrays = true;
    } else if (parser_accept_word(parser, "separator")) {
        const token_t *token = parser_token(parser);
        if (parse_string(parser, "the separator in quotes", &flatten->separator) < 0)
            return -1;
        if (flatten->separator.size > SEPARATOR_MAX)
            return parser_error(parser, token, NULL, "a separator of more than %d bytes", SEPARATOR_MAX);
    } else {
        parser_take(parser); /* depth */
        const token_t *token = parser_token(parser);
        if (token->type != TOKEN_NUMBER)
            return parser_expected(parser, "a number of levels", "depth 1 takes apart the fields themselves, not what is inside them");
        if (token->value.type != VALUE_INT || token->value.integer < 1 || token->value.integer > PACK_DEPTH)
            return parser_error(parser, token, NULL, "the depth is 1 to %d", PACK_DEPTH);
        flatten->depth = parser_take(parser)->value.integer;
    }
    return 0;
}

static op_t *flatten_parse(program_t *program, parser_t *parser) {
    flatten_t *flatten = op_new(program, &op_flatten, sizeof *flatten);
    flatten->separator = text_of(".");
    flatten->depth = PACK_DEPTH;
    flatten->node = node_constant(parser, value_null(), parser->tokens[parser->at - 1].at);
    token_type_t type = parser_token(parser)->type;
    int rc = 0;
    if (type != TOKEN_PIPE && type != TOKEN_END && !is_option(parser))
        rc = parse_names(flatten, parser);
    while (rc == 0 && is_option(parser))
        rc = parse_option(flatten, parser);
    if (rc < 0) {
        flatten_free(&flatten->op);
        mem_free(flatten);
        return NULL;
    }
    flatten->remake = remake_new(program, parser->scope);
    return &flatten->op;
}

/* Whether what stands at the cursor is to be taken apart; then *count says how many parts it has. An empty one stays. */
static bool opens(const flatten_t *flatten, pack_cursor_t cursor, uint32_t *count, bool *map) {
    *map = pack_read_map(&cursor, count);
    return (*map || (flatten->arrays && pack_read_array(&cursor, count))) && *count;
}

/* What the field is called that stands behind `prefix` under `key`. */
static text_t joined(flatten_t *flatten, text_t prefix, text_t key) {
    text_t separator = flatten->separator;
    size_t size = prefix.size + separator.size + key.size;
    if (size > flatten->left) {
        flatten->wrong = "the flat event would be too large";
        return (text_t){0};
    }
    flatten->left -= size;
    char *name = arena_alloc(&flatten->row->context->arena, size);
    memcpy(name, prefix.data, prefix.size);
    memcpy(name + prefix.size, separator.data, separator.size);
    if (key.size)
        memcpy(name + prefix.size + separator.size, key.data, key.size);
    return text_make(name, size);
}

/* Puts what stands at the cursor, under the name or in parts. Moves behind it; the bytes are known to be sound. */
static bool put_part(flatten_t *flatten, pack_cursor_t *cursor, text_t name, int64_t depth) {
    uint32_t count;
    bool map;
    const uint8_t *start = cursor->at;
    if (depth == 0 || !opens(flatten, *cursor, &count, &map)) {
        if (!pack_skip(cursor))
            return false;
        fields_put(&flatten->fields, name, start, (uint32_t) (cursor->at - start));
        return true;
    }
    if (map)
        pack_read_map(cursor, &count);
    else
        pack_read_array(cursor, &count);
    for (uint32_t i = 0; i < count; i++) {
        char number[16];
        text_t key = text_make(number, map ? 0 : (size_t) snprintf(number, sizeof number, "%u", i));
        if (map && !pack_read_string(cursor, &key)) {
            flatten->wrong = "a map with a key that is no text";
            return false;
        }
        text_t inner = joined(flatten, name, key);
        if (!inner.data || !put_part(flatten, cursor, inner, depth - 1))
            return false;
    }
    return true;
}

static bool is_chosen(const flatten_t *flatten, text_t name) {
    for (unsigned i = 0; i < flatten->count; i++)
        if (text_equal(flatten->names[i], name))
            return true;
    return flatten->count == 0;
}

/* Whether there is anything to be taken apart. A malformed record has something, which is found out then. */
static bool is_flat(const flatten_t *flatten, value_t record) {
    pack_cursor_t cursor = pack_cursor(record.packed, record.size);
    uint32_t entries, count;
    if (record.type != VALUE_MAP || !pack_read_map(&cursor, &entries))
        return false;
    for (uint32_t i = 0; i < entries; i++) {
        text_t name;
        bool map;
        if (!pack_read_string(&cursor, &name) || (opens(flatten, cursor, &count, &map) && is_chosen(flatten, name)) || !pack_skip(&cursor))
            return false;
    }
    return true;
}

static bool flatten_record(flatten_t *flatten, value_t record) {
    pack_cursor_t cursor = pack_cursor(record.packed, record.size);
    uint32_t entries;
    if (record.type != VALUE_MAP || !pack_read_map(&cursor, &entries))
        return false;
    fields_clear(&flatten->fields);
    flatten->left = RECORD_MAX > record.size ? RECORD_MAX - record.size : 0;
    for (uint32_t i = 0; i < entries; i++) {
        text_t name;
        if (!pack_read_string(&cursor, &name) || !put_part(flatten, &cursor, name, is_chosen(flatten, name) ? flatten->depth : 0))
            return false;
    }
    return true;
}

static bool flatten_row(flatten_t *flatten, row_t *row, unsigned index) {
    value_t record = remake_record(flatten->remake, row);
    flatten->row = row;
    flatten->wrong = NULL;
    if (is_flat(flatten, record)) {
        ; /* it stays as it is */
    } else if (flatten_record(flatten, record)) {
        buf_clear(&flatten->out);
        fields_pack(&flatten->fields, &flatten->out);
        record = record_value(flatten->out.data, flatten->out.data + flatten->out.size);
    } else if (flatten->wrong) {
        evaluation_failed(flatten->node, row, "%s", flatten->wrong);
    } else {
        return remake_failed(flatten->remake, row);
    }
    return remake_row(flatten->remake, row, index, record);
}

static void flatten_event(op_t *op, row_t **rows, unsigned count) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        rows[kept] = rows[i];
        kept += flatten_row((flatten_t *) op, rows[i], kept);
    }
    op_pass(op, rows, kept);
}

const op_class_t op_flatten = {
    .name = "flatten",
    .syntax = "flatten [FIELD, ...] [separator \"S\"] [depth N] [arrays]",
    .help = "Maps inside the event become fields of their own: {\"a\":{\"b\":1}} becomes {\"a.b\":1}, read as `a.b`. All of them, or those of the fields named. "
            "separator: what joins the names, . by default. depth: so many levels at most. arrays: these too, by index from 0. Empty maps stay. Where two have "
            "the same name, the later one counts, at the place of the first.",
    .parse = flatten_parse,
    .event = flatten_event,
    .free = flatten_free,
};
