/* unnest: one event for each item of an array. */
#include "remake.h"

#define LARGE (64 * 1024)     /* bytes that the events made of one are let come together */

typedef struct unnest {
    op_t op;
    node_t *array;            /* the field or path */
    node_t *base;             /* the field that it begins with */
    text_t field;
    const step_t *steps;
    unsigned steps_count;
    text_t name;              /* of the item in the event; data NULL: it takes the array's place */
    text_t index;             /* of the item's number; data NULL: not wanted */
    bool merge, outer;
    remake_t *remake;
    rows_t *made;
    fields_t fields;
    buf_t out, scratch;
    /* the batch at hand, and how far it has come */
    row_t **rows;
    unsigned count, done;
    unsigned pending;         /* rows made and not passed on */
    bool open;                /* rows[done] is being taken apart: */
    value_t record, rest;     /* itself; its field without the array, or with null in its place */
    field_t *entries;         /* of the record, found once: the array is not walked again for each item */
    uint32_t entry_count, entry_room;
    pack_cursor_t items;
    uint32_t left, taken;
    bool missing;             /* there is no array to put items in the place of */
    bool large;
    arena_mark_t mark;        /* large: what comes after is taken back with each group of rows */
} unnest_t;

extern const op_class_t op_unnest;

/* Reading. */

static void unnest_free(op_t *op) {
    unnest_t *unnest = (unnest_t *) op;
    remake_free(unnest->remake);
    rows_free(unnest->made);
    fields_fini(&unnest->fields);
    mem_free(unnest->entries);
    buf_fini(&unnest->out);
    buf_fini(&unnest->scratch);
}

static int parse_new_name(parser_t *parser, const char *what, text_t *name) {
    const token_t *token = parser_token(parser);
    return parse_name(parser, what, name) < 0 ? -1 : parser_check_name(parser, token, *name);
}

static int parse_option(unnest_t *unnest, parser_t *parser, bool *more) {
    const token_t *token = parser_token(parser);
    *more = true;
    if (parser_accept_word(parser, "as"))
        return parse_new_name(parser, "a name after as", &unnest->name);
    if (parser_accept_word(parser, "index"))
        return parse_new_name(parser, "a name after index", &unnest->index);
    if (parser_accept_word(parser, "merge"))
        unnest->merge = true;
    else if (parser_accept_word(parser, "outer"))
        unnest->outer = true;
    else if (token->type == TOKEN_COMMA)
        return parser_error(parser, token, "unnest a | unnest b gives each with each", "one array at a time");
    else
        *more = false;
    return 0;
}

static int parse_unnest(unnest_t *unnest, parser_t *parser) {
    size_t start = parser->at;
    const token_t *token = parser_token(parser);
    step_t *steps;
    if (parse_target(parser, &unnest->field, &steps, &unnest->steps_count) < 0)
        return -1;
    unnest->steps = steps;
    parser->at = start;
    unnest->array = parse_expression(parser); /* the same once more, to be read */
    if (!unnest->array)
        return -1;
    if (unnest->array->kind == NODE_CONSTANT && !parser->scope->lenient)
        return parser_error_at(parser, unnest->array, NULL, "this field was taken out before");
    if (unnest->array->kind != NODE_PATH && unnest->array->kind != NODE_FIELD && unnest->array->kind != NODE_VALUE)
        return parser_error_at(parser, unnest->array, "first set NAME = EXPRESSION | unnest NAME", "unnest takes a field");
    unnest->base = node_name(parser, unnest->field, token->at, token->size);
    for (bool more = true; more;)
        if (parse_option(unnest, parser, &more) < 0)
            return -1;
    return 0;
}

static op_t *unnest_parse(program_t *program, parser_t *parser) {
    unnest_t *unnest = op_new(program, &op_unnest, sizeof *unnest);
    if (parse_unnest(unnest, parser) < 0) {
        unnest_free(&unnest->op);
        mem_free(unnest);
        return NULL;
    }
    unnest->remake = remake_new(program, parser->scope);
    return &unnest->op;
}

/* Running. */

static bool find_entries(unnest_t *unnest) {
    pack_cursor_t cursor = pack_cursor(unnest->record.packed, unnest->record.size);
    uint32_t count = 0;
    if (unnest->record.type != VALUE_MAP || !pack_read_map(&cursor, &count))
        return false;
    if (count > unnest->entry_room)
        unnest->entries = mem_resize(unnest->entries, (unnest->entry_room = count) * sizeof *unnest->entries);
    for (unnest->entry_count = 0; unnest->entry_count < count; unnest->entry_count++) {
        field_t *entry = &unnest->entries[unnest->entry_count];
        if (!pack_read_string(&cursor, &entry->name))
            return false;
        entry->value = cursor.at;
        if (!pack_skip(&cursor))
            return false;
        entry->size = (uint32_t) (cursor.at - entry->value);
    }
    return true;
}

/* Takes up the next row. False: nothing comes of it. */
static bool open_row(unnest_t *unnest) {
    row_t *row = unnest->rows[unnest->done];
    program_counts_t *ledger = program_ledger(unnest->op.program);
    unnest->record = remake_record(unnest->remake, row);
    if (!find_entries(unnest))
        return remake_failed(unnest->remake, row);
    value_t array = evaluate(unnest->array, row);
    unnest->left = 1;
    unnest->items = pack_cursor(NULL, 0); /* a null */
    unnest->missing = array.type == VALUE_NULL;
    if (array.type == VALUE_ARRAY) {
        unnest->items = pack_cursor(array.packed, array.size);
        if (!pack_read_array(&unnest->items, &unnest->left))
            return remake_failed(unnest->remake, row);
    } else if (array.type != VALUE_NULL) { /* one item */
        buf_clear(&unnest->out);
        pack_value(&unnest->out, array);
        unnest->items = pack_cursor(arena_copy(&row->context->arena, unnest->out.data, unnest->out.size), unnest->out.size);
    }
    if (unnest->left == 0 || !unnest->items.at) {
        if (!unnest->outer) {
            ledger->filtered++;
            return false;
        }
        unnest->left = 1;
        unnest->items = pack_cursor(NULL, 0);
    }
    ledger->created += unnest->left - 1;
    unnest->taken = 0;
    if (unnest->steps_count && !unnest->missing) {
        value_t nothing = value_null();
        bool apart = unnest->name.data || unnest->merge;
        unnest->rest = value_edit(unnest->base, row, evaluate(unnest->base, row), unnest->steps, unnest->steps_count, apart ? NULL : &nothing);
    }
    unnest->large = (uint64_t) unnest->left * unnest->record.size > LARGE;
    return true;
}

static const uint8_t nil = 0xC0;

static void put_value(unnest_t *unnest, text_t name, value_t value, const row_t *row) {
    size_t start = unnest->scratch.size;
    pack_value(&unnest->scratch, value);
    size_t size = unnest->scratch.size - start;
    fields_put(&unnest->fields, name, arena_copy(&row->context->arena, unnest->scratch.data + start, size), (uint32_t) size);
    unnest->scratch.size = start;
}

static void merge_item(fields_t *fields, value_t item) {
    pack_cursor_t cursor = pack_cursor(item.packed, item.size);
    uint32_t entries = 0;
    text_t name;
    for (bool whole = item.type == VALUE_MAP && pack_read_map(&cursor, &entries); whole && entries--;) {
        whole = pack_read_string(&cursor, &name);
        const uint8_t *value = cursor.at;
        whole = whole && pack_skip(&cursor);
        if (whole && !name_is_beside(name))
            fields_put(fields, name, value, (uint32_t) (cursor.at - value));
    }
}

/* The record with one item; at NULL: with none. */
static void put_item(unnest_t *unnest, const row_t *row, const uint8_t *at, uint32_t size) {
    fields_t *fields = &unnest->fields;
    value_t item = at ? record_value(at, at + size) : value_null();
    bool merge = unnest->merge && (item.type == VALUE_MAP || !at), apart = unnest->name.data || unnest->merge;
    text_t name = unnest->name.data || unnest->steps_count == 0 ? unnest->name : unnest->steps[unnest->steps_count - 1].name;
    if (!name.data)
        name = unnest->field;
    const uint8_t *bytes = at ? at : &nil;
    fields_clear(fields);
    for (uint32_t i = 0; i < unnest->entry_count; i++) {
        const field_t *entry = &unnest->entries[i];
        bool target = text_equal(entry->name, unnest->field);
        if (!target || (unnest->steps_count && unnest->missing))
            fields_put(fields, entry->name, entry->value, entry->size);
        else if (!unnest->steps_count && !merge)
            fields_put(fields, name, bytes, size);
        else if (unnest->steps_count && apart)
            put_value(unnest, entry->name, unnest->rest, row);
        else if (unnest->steps_count)
            put_value(unnest, entry->name, value_edit(unnest->base, row, unnest->rest, unnest->steps, unnest->steps_count, &item), row);
    }
    if (merge)
        merge_item(fields, item);
    else if (apart)
        fields_put(fields, name, bytes, size);
    if (unnest->index.data)
        put_value(unnest, unnest->index, at ? value_int(unnest->taken) : value_null(), row);
}

/* The next item as a row of its own. False: it is malformed. */
static bool make_row(unnest_t *unnest) {
    const row_t *source = unnest->rows[unnest->done];
    const uint8_t *at = unnest->items.at;
    uint32_t size = 1;
    if (at) {
        if (!pack_skip(&unnest->items))
            return false;
        size = (uint32_t) (unnest->items.at - at);
    }
    row_t *row = &unnest->made->row[unnest->pending];
    value_t *values = row->values;
    *row = *source;
    row->values = values;
    row->original = NULL;
    row->event = (event_t){.time = source->event.time};
    put_item(unnest, source, at, size);
    buf_clear(&unnest->out);
    fields_pack(&unnest->fields, &unnest->out);
    unnest->taken++;
    unnest->left--;
    return remake_row(unnest->remake, row, unnest->pending, record_value(unnest->out.data, unnest->out.data + unnest->out.size));
}

/* False: an operator behind has stopped. */
static bool pass(unnest_t *unnest) {
    unsigned count = unnest->pending;
    unnest->pending = 0;
    for (unsigned i = 0; i < count; i++)
        unnest->made->pointers[i] = &unnest->made->row[i];
    op_pass(&unnest->op, unnest->made->pointers, count);
    if (program_must_stop(unnest->op.program, &unnest->op))
        return false;
    if (unnest->open && unnest->large)
        arena_release(&unnest->rows[unnest->done]->context->arena, unnest->mark);
    return true;
}

/* The items of the open row. False: stopped. */
static bool take_items(unnest_t *unnest) {
    size_t size = 0;
    while (unnest->left) {
        if (unnest->large && !unnest->pending) {
            size = 0;
            if (program_must_wait(unnest->op.program, &unnest->op))
                return false;
        }
        unnest->pending += make_row(unnest);
        size += unnest->out.size;
        if ((unnest->pending == program_batch(unnest->op.program) || (unnest->large && size > LARGE)) && !pass(unnest))
            return false;
    }
    return true;
}

static void unnest_resume(op_t *op) {
    unnest_t *unnest = (unnest_t *) op;
    while (unnest->done < unnest->count) {
        if (!unnest->open) {
            if (!open_row(unnest)) {
                unnest->done++;
                continue;
            }
            unnest->open = true;
            unnest->mark = arena_mark(&unnest->rows[unnest->done]->context->arena);
            if (unnest->large && unnest->pending && !pass(unnest))
                return;
        }
        if (!take_items(unnest))
            return;
        if (unnest->large && unnest->pending && !pass(unnest))
            return;
        unnest->open = false;
        unnest->done++;
    }
    if (unnest->pending)
        pass(unnest);
}

static void unnest_event(op_t *op, row_t **rows, unsigned count) {
    unnest_t *unnest = (unnest_t *) op;
    if (!unnest->made)
        unnest->made = rows_new(op->program);
    unnest->rows = rows;
    unnest->count = count;
    unnest->done = 0;
    unnest_resume(op);
}

const op_class_t op_unnest = {
    .name = "unnest",
    .syntax = "unnest FIELD [as NAME] [index NAME] [merge] [outer]",
    .help = "One event for each item of the array; the item takes the array's place. as: it goes by this name. index: its number, from 0, goes by that name. merge: "
            "the entries of an item that is a map become fields of the event. What is no array counts as one item. An event whose FIELD is absent, null or "
            "empty is left out; with outer it is passed on once.",
    .parse = unnest_parse,
    .event = unnest_event,
    .resume = unnest_resume,
    .free = unnest_free,
};
