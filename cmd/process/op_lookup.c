/* lookup: fields of a table's row, found by a key. The table is in memory whole; its file is looked at once a second, and what is read anew is input
 * like events are, so that a replay sees each event meet the table that it met. */
#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "data/csv.h"
#include "group.h"
#include "op.h"
#include "table.h"

#define LOOK (NS_PER_S)
#define KEYS_MAX 16

typedef struct lookup {
    op_t op;
    char *source;
    table_shape_t shape;
    node_t *keys[KEYS_MAX];   /* over the event */
    unsigned index;           /* of the first value; one for each kept column, or for the map */
    bool infers, drop;

    /* state */
    table_t *table;
    uint64_t number, hash;    /* of its image: under which it is kept, and what tells it from another */
    bool has_hash;

    /* outside */
    table_version_t read, seen;           /* that was read last, well or not; that was seen at the last look */
    bool missing;             /* said */
    bool again;               /* what was read could not be recorded */

    buf_t key[BATCH];
    uint64_t hashes[BATCH];
} lookup_t;

extern const op_class_t op_lookup;

/* Reading the program. */

static void add_text(text_t **list, unsigned count, text_t text) {
    *list = mem_resize(*list, (count + 1) * sizeof **list);
    (*list)[count] = text;
}

static int parse_keys(lookup_t *lookup, parser_t *parser) {
    do {
        const token_t *token = parser_token(parser);
        text_t name;
        if (parse_name(parser, "a column of the table", &name) < 0)
            return -1;
        if (lookup->shape.key_count == KEYS_MAX)
            return parser_error(parser, token, NULL, "more than %d keys", KEYS_MAX);
        if (parser_token(parser)->type == TOKEN_EQ)
            return parser_error(parser, parser_token(parser), "on COLUMN = EXPRESSION", "== compares; here = says what the column is to be");
        node_t *key = parser_accept(parser, TOKEN_ASSIGN) ? parse_expression(parser) : node_name(parser, name, token->at, token->size);
        if (!key)
            return -1;
        lookup->keys[lookup->shape.key_count] = key;
        add_text(&lookup->shape.keys, lookup->shape.key_count++, name);
    } while (parser_accept(parser, TOKEN_COMMA));
    return 0;
}

static int parse_columns(lookup_t *lookup, parser_t *parser) {
    table_shape_t *shape = &lookup->shape;
    do {
        const token_t *token = parser_token(parser);
        text_t column, name;
        if (parse_name(parser, "a column of the table", &column) < 0)
            return -1;
        name = column;
        if (parser_accept_word(parser, "as") && parse_name(parser, "a name after as", &name) < 0)
            return -1;
        for (unsigned i = 0; i < shape->column_count; i++)
            if (text_equal(shape->names[i], name))
                return parser_error(parser, token, "give one of them another name: as NAME", "the field %.*s is kept twice", (int) name.size, name.data);
        add_text(&shape->columns, shape->column_count, column);
        add_text(&shape->names, shape->column_count++, name);
    } while (parser_accept(parser, TOKEN_COMMA));
    return 0;
}

static int parse_else(lookup_t *lookup, parser_t *parser) {
    if (parser_accept_word(parser, "drop"))
        lookup->drop = true;
    else if (!parser_accept_word(parser, "null"))
        return parser_expected(parser, "drop or null after else", NULL);
    return 0;
}

/* The parts behind the table's name, each once, in any order behind `on`. */
static int parse_parts(lookup_t *lookup, parser_t *parser, text_t *as) {
    if (!parser_accept_word(parser, "on"))
        return parser_expected(parser, "on and the table's key", "lookup \"FILE\" on COLUMN, or on COLUMN = EXPRESSION");
    if (parse_keys(lookup, parser) < 0)
        return -1;
    bool keep = false, named = false, otherwise = false;
    for (;;) {
        if (!keep && parser_accept_word(parser, "keep")) {
            keep = true;
            if (parse_columns(lookup, parser) < 0)
                return -1;
        } else if (!named && parser_accept_word(parser, "as")) {
            named = true;
            if (parse_name(parser, "a name after as", as) < 0)
                return -1;
        } else if (!otherwise && parser_accept_word(parser, "else")) {
            otherwise = true;
            if (parse_else(lookup, parser) < 0)
                return -1;
        } else {
            break;
        }
    }
    lookup->shape.flat = keep && !named;
    return 0;
}

static void bind(lookup_t *lookup, parser_t *parser, text_t as) {
    scope_t *scope = parser->scope;
    if (lookup->shape.flat) {
        for (unsigned i = 0; i < lookup->shape.column_count; i++) {
            unsigned index = scope_new_value(scope);
            lookup->index = i ? lookup->index : index;
            scope_bind(scope, lookup->shape.names[i], SOURCE_VALUE, index, TYPES_ANY);
        }
    } else {
        lookup->index = scope_new_value(scope);
        scope_bind(scope, as, SOURCE_VALUE, lookup->index, (types_t) (TYPE(VALUE_MAP) | TYPE(VALUE_NULL)));
    }
}

static int parse_lookup(lookup_t *lookup, parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t source, as;
    err_t err;
    if (token->type != TOKEN_STRING)
        return parser_expected(parser, "the table's file, in quotes", "lookup \"devices.csv\" on device");
    if (parse_string(parser, "the table's file", &source) < 0)
        return -1;
    lookup->source = mem_text_n(source.data, source.size);
    if (table_check(lookup->source, &as, &err) < 0)
        return parser_error(parser, token, NULL, "%s", err.text);
    as.data = as.size ? arena_copy(&parser->unit->arena, as.data, as.size) : NULL;
    lookup->infers = table_infers(lookup->source);
    if (parse_parts(lookup, parser, &as) < 0)
        return -1;
    if (!lookup->shape.flat && !as.size)
        return parser_error(parser, token, "add as NAME, or keep and the columns", "what is the field to be called that the row goes into?");
    bind(lookup, parser, as);
    return 0;
}

static void lookup_free(op_t *op) {
    lookup_t *lookup = (lookup_t *) op;
    table_free(lookup->table);
    for (unsigned i = 0; i < BATCH; i++)
        buf_fini(&lookup->key[i]);
    mem_free(lookup->shape.keys);
    mem_free(lookup->shape.columns);
    mem_free(lookup->shape.names);
    mem_free(lookup->source);
}

static op_t *lookup_parse(program_t *program, parser_t *parser) {
    lookup_t *lookup = op_new(program, &op_lookup, sizeof *lookup);
    if (parse_lookup(lookup, parser) < 0) {
        lookup_free(&lookup->op);
        mem_free(lookup);
        return NULL;
    }
    return &lookup->op;
}

/* Running. */

/* False: a key is null, and nothing is to be found. */
static bool put_key(const lookup_t *lookup, const row_t *row, buf_t *key) {
    buf_clear(key);
    for (unsigned i = 0; i < lookup->shape.key_count; i++) {
        value_t value = evaluate(lookup->keys[i], row);
        if (lookup->infers && value.type == VALUE_STRING)
            csv_infer(text_make(value.text, value.size), &value);
        if (value.type == VALUE_NULL)
            return false;
        key_put(key, value);
    }
    return true;
}

static void take_row(const lookup_t *lookup, row_t *row, const uint8_t *found, const uint8_t *end) {
    pack_cursor_t cursor = {found, end};
    value_t *values = row->values + lookup->index;
    uint32_t count;
    if (!lookup->shape.flat) {
        pack_read_value(&cursor, values);
        return;
    }
    if (!pack_read_array(&cursor, &count) || count != lookup->shape.column_count)
        count = 0; /* can't be: images are made by table_read, for this program */
    for (uint32_t i = 0; i < count; i++)
        if (!pack_read_value(&cursor, &values[i]))
            return;
}

static void lookup_event(op_t *op, row_t **rows, unsigned count) {
    lookup_t *lookup = (lookup_t *) op;
    unsigned values = lookup->shape.flat ? lookup->shape.column_count : 1, kept = 0;
    const table_t *table = lookup->table;
    bool known[BATCH];
    for (unsigned i = 0; i < count; i++) {
        known[i] = put_key(lookup, rows[i], &lookup->key[i]) && table;
        if (!known[i])
            continue;
        lookup->hashes[i] = table_hash(lookup->key[i].data, lookup->key[i].size);
        table_prefetch_slot(table, lookup->hashes[i]);
    }
    for (unsigned i = 0; i < count; i++)
        if (known[i])
            table_prefetch_row(table, lookup->hashes[i]);
    for (unsigned i = 0; i < count; i++) {
        row_t *row = rows[i];
        const uint8_t *end, *found = known[i] ? table_find(table, lookup->key[i].data, lookup->key[i].size, lookup->hashes[i], &end) : NULL;
        if (!found && lookup->drop) {
            program_ledger(op->program)->filtered++;
            continue;
        }
        for (unsigned j = 0; j < values; j++)
            row->values[lookup->index + j] = value_null();
        if (found)
            take_row(lookup, row, found, end);
        rows[kept++] = row;
    }
    op_pass(op, rows, kept);
}

/* The table, as it came from outside. */

static int take_image(lookup_t *lookup, text_t image, err_t *err) {
    table_t *table = table_new(image, err);
    if (!table)
        return -1;
    table_free(lookup->table);
    lookup->table = table;
    lookup->hash = table_hash(image.data, image.size);
    lookup->has_hash = true;
    return 0;
}

static bool lookup_outside(op_t *op, uint64_t number, text_t bytes) {
    lookup_t *lookup = (lookup_t *) op;
    err_t err;
    if (!bytes.data)
        return false;
    if (take_image(lookup, bytes, &err) < 0) {
        op_trouble(op, "lookup \"%s\": %s", lookup->source, err.text);
        return false;
    }
    lookup->number = number;
    log_info("lookup \"%s\": %" PRIu64 " keys, %zu KiB", lookup->source, table_rows(lookup->table), table_memory(lookup->table) >> 10);
    return false;
}

/* Reads the file, and gives it on when it is another one. */
static int read_file(lookup_t *lookup, err_t *err) {
    buf_t image = {0};
    table_counts_t counts = {0};
    int result = table_read(lookup->source, &lookup->shape, &image, &counts, err);
    if (result == 0 && counts.without_key)
        log_info("lookup \"%s\": %" PRIu64 " of %" PRIu64 " rows have no key and are left out", lookup->source, counts.without_key, counts.rows);
    bool news = result == 0 && !(lookup->table && lookup->has_hash && lookup->hash == table_hash(image.data, image.size));
    if (news)
        result = op_tell(&lookup->op, text_make((const char *) image.data, image.size), true, err);
    lookup->again = news && result;
    buf_fini(&image);
    return result;
}

static bool same(const table_version_t *a, const table_version_t *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* A file that was moved here is whole. One that is written in place is read when it has not changed for a second. */
static void on_look(void *argument) {
    lookup_t *lookup = argument;
    table_version_t version, before = lookup->seen;
    err_t err;
    if (table_look(lookup->source, &version, &err)) {
        if (!lookup->missing)
            op_trouble(&lookup->op, "lookup \"%s\": %s; the table stays as it was", lookup->source, err.text);
        lookup->missing = true;
        return;
    }
    lookup->missing = false;
    lookup->seen = version;
    bool again = lookup->again;
    if (!again && (same(&version, &lookup->read) || (version.inode == lookup->read.inode && !same(&version, &before))))
        return;
    lookup->read = version;
    if (read_file(lookup, &err) && !(again && lookup->again))
        op_trouble(&lookup->op, "lookup \"%s\": %s; the table stays as it was", lookup->source, err.text);
}

static int lookup_look(const op_t *op, err_t *err) {
    const lookup_t *lookup = (const lookup_t *) op;
    table_version_t version;
    return table_look(lookup->source, &version, err) ? err_wrap(err, "lookup \"%s\" cannot start without its table", lookup->source) : 0;
}

static int lookup_live(op_t *op, loop_t *loop, err_t *err) {
    lookup_t *lookup = (lookup_t *) op;
    if (loop)
        loop_timer(loop, LOOK, LOOK, on_look, lookup);
    if (table_look(lookup->source, &lookup->read, err) || read_file(lookup, err)) {
        if (!lookup->table)
            return err_wrap(err, "lookup \"%s\" cannot start without its table", lookup->source);
        op_trouble(op, "lookup \"%s\": %s; the table stays as it was", lookup->source, err->text);
    }
    lookup->seen = lookup->read;
    return 0;
}

/* Snapshots: [number of the image, its hash]. */

static void lookup_save(const op_t *op, buf_t *out) {
    const lookup_t *lookup = (const lookup_t *) op;
    pack_array(out, 2);
    pack_uint(out, lookup->number);
    if (lookup->has_hash)
        pack_uint(out, lookup->hash);
    else
        pack_nil(out);
}

static int lookup_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    lookup_t *lookup = (lookup_t *) op;
    uint32_t two;
    value_t hash;
    if (!pack_read_array(cursor, &two) || two != 2 || !pack_read_uint(cursor, &lookup->number) || !pack_read_value(cursor, &hash) ||
        (hash.type != VALUE_NULL && hash.type != VALUE_INT && hash.type != VALUE_UINT))
        return err_set(err, "the lookup's state is damaged");
    lookup->has_hash = hash.type != VALUE_NULL;
    lookup->hash = hash.unsigned_integer;
    if (!lookup->number)
        return 0;
    buf_t image = {0};
    uint64_t expected = lookup->hash;
    int result = program_recall(op, lookup->number, &image, err);
    if (result == 0)
        result = take_image(lookup, text_make((const char *) image.data, image.size), err);
    if (result == 0 && lookup->hash != expected)
        result = err_set(err, "the stored table is another one");
    buf_fini(&image);
    return result ? err_wrap(err, "lookup \"%s\"", lookup->source) : 0;
}

static size_t lookup_memory(const op_t *op) {
    return table_memory(((const lookup_t *) op)->table);
}

const op_class_t op_lookup = {
    .name = "lookup",
    .syntax = "lookup \"FILE\" on COLUMN [= EXPRESSION], ... [keep COLUMN [as NAME], ...] [as NAME] [else null|drop]",
    .help = "Adds what a table says about the event: the row whose COLUMN equals the event's field of that name, or the EXPRESSION. FILE is CSV, TSV, NDJSON, JSON, "
            "or sqlite:FILE?table=NAME. The row goes into the field NAME as a map, by default called as the file is; with keep the columns become fields. "
            "Events without a row get null, or are left out with else drop. The file is read again when it changes.",
    .keeps = "the table",
    .parse = lookup_parse,
    .event = lookup_event,
    .live = lookup_live,
    .look = lookup_look,
    .outside = lookup_outside,
    .save = lookup_save,
    .load = lookup_load,
    .memory = lookup_memory,
    .free = lookup_free,
};
