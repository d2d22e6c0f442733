/* Changing a part of a value: set a.b[0] = x and unset a.b, as a new packed value; and words as names. */
#include "op.h"

typedef struct editing {
    const step_t *steps;
    const value_t *value;     /* NULL: take out */
    buf_t out;
    const char *wrong;        /* why it can't be done */
} editing_t;

static bool put_edit(editing_t *editing, value_t base, unsigned step, unsigned left);

static bool step_map(editing_t *editing, value_t base, unsigned step, unsigned left) {
    text_t name = editing->steps[step].name;
    bool take_out = left == 1 && !editing->value;
    pack_cursor_t cursor = pack_cursor(base.packed, base.size);
    uint32_t entries = 0, found = 0;
    text_t key;
    if (base.type == VALUE_MAP) {
        pack_cursor_t scan = cursor;
        if (!pack_read_map(&scan, &entries))
            return false;
        for (uint32_t i = 0; i < entries; i++) {
            bool text = pack_read_string(&scan, &key);
            if ((!text && !pack_skip(&scan)) || !pack_skip(&scan))
                return false;
            found += text && text_equal(key, name);
        }
        pack_read_map(&cursor, &entries);
    }
    pack_map(&editing->out, take_out ? entries - found : found ? entries : entries + (editing->value != NULL));
    for (uint32_t i = 0; i < entries; i++) {
        const uint8_t *start = cursor.at;
        bool text = pack_read_string(&cursor, &key);
        if (!text)
            pack_skip(&cursor);
        const uint8_t *value = cursor.at;
        pack_skip(&cursor);
        if (!text || !text_equal(key, name)) {
            buf_put(&editing->out, start, (size_t) (cursor.at - start));
        } else if (!take_out) {
            buf_put(&editing->out, start, (size_t) (value - start));
            if (!put_edit(editing, record_value(value, cursor.at), step + 1, left - 1))
                return false;
        }
    }
    if (!found && editing->value) {
        pack_string(&editing->out, name.data, name.size);
        return put_edit(editing, value_null(), step + 1, left - 1);
    }
    return true;
}

static bool step_array(editing_t *editing, value_t base, unsigned step, unsigned left) {
    int64_t index = editing->steps[step].index;
    bool take_out = left == 1 && !editing->value;
    pack_cursor_t cursor = pack_cursor(base.packed, base.size);
    uint32_t items;
    if (!pack_read_array(&cursor, &items))
        return false;
    if (index < 0)
        index += items;
    bool inside = index >= 0 && index < items, append = index == items && editing->value;
    if (!inside && !append) {
        editing->wrong = "an index beyond the array";
        return false;
    }
    pack_array(&editing->out, items - (take_out && inside) + append);
    for (uint32_t i = 0; i < items; i++) {
        const uint8_t *start = cursor.at;
        if (!pack_skip(&cursor))
            return false;
        if (i != index)
            buf_put(&editing->out, start, (size_t) (cursor.at - start));
        else if (!take_out && !put_edit(editing, record_value(start, cursor.at), step + 1, left - 1))
            return false;
    }
    return !append || put_edit(editing, value_null(), step + 1, left - 1);
}

static bool put_edit(editing_t *editing, value_t base, unsigned step, unsigned left) {
    if (left == 0) {
        pack_value(&editing->out, *editing->value);
        return true;
    }
    bool map = editing->steps[step].name.data != NULL;
    if (map && (base.type == VALUE_MAP || (base.type == VALUE_NULL && editing->value)))
        return step_map(editing, base, step, left);
    if (!map && base.type == VALUE_ARRAY)
        return step_array(editing, base, step, left);
    if (!editing->value) { /* nothing there to take out */
        pack_value(&editing->out, base);
        return true;
    }
    editing->wrong = map ? "a name in what is no map" : "an index in what is no array";
    return false;
}

value_t value_edit(const node_t *node, const row_t *row, value_t base, const step_t *steps, unsigned count, const value_t *value) {
    if (!value && base.type == VALUE_NULL)
        return base;
    editing_t editing = {.steps = steps, .value = value};
    if (!put_edit(&editing, base, 0, count)) {
        buf_fini(&editing.out);
        evaluation_failed(node, row, "%s", editing.wrong ? editing.wrong : "a malformed value");
        return base;
    }
    if (!pack_within(pack_cursor(editing.out.data, editing.out.size), PACK_DEPTH - 1)) {
        buf_fini(&editing.out);
        evaluation_failed(node, row, "a value nested more than %d deep", PACK_DEPTH - 1);
        return base;
    }
    const uint8_t *bytes = arena_copy(&row->context->arena, editing.out.data, editing.out.size);
    value_t result = record_value(bytes, bytes + editing.out.size);
    buf_fini(&editing.out);
    return result;
}

int parse_word_raw(parser_t *parser, const char *what, text_t *word) {
    const token_t *first = parser_token(parser), *last = first;
    if (first->type == TOKEN_STRING)
        return parse_string(parser, what, word);
    if (first->type != TOKEN_NAME && first->type != TOKEN_NUMBER)
        return parser_expected(parser, what, NULL);
    parser_take(parser);
    for (const token_t *next = parser_token(parser); next->at == last->at + last->size; next = parser_token(parser)) {
        if (next->type != TOKEN_NAME && next->type != TOKEN_NUMBER && next->type != TOKEN_DOT && next->type != TOKEN_MINUS && next->type != TOKEN_DURATION)
            break;
        last = parser_take(parser);
    }
    *word = text_make(parser->diagnostics->source.data + first->at, last->at + last->size - first->at);
    word->data = arena_copy(&parser->unit->arena, word->data, word->size);
    return 0;
}
