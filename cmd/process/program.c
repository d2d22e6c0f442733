/* Reading a program: text → tokens → the chain of operators. One pass finds every error: after a fault reading goes on behind the next | . */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <strings.h>

#include "aggregate.h"
#include "chain.h"

#define NAMES_MAX 10000     /* fields that a program may name */
#define OPERATORS_MAX 1000  /* each passes its events on by a call */

void *op_new(program_t *program, const op_class_t *class, size_t size) {
    op_t *op = mem_zero(size);
    op->class = class;
    op->program = program;
    return op;
}

unit_t *program_unit(program_t *program) {
    return &program->unit;
}

context_t *program_context(program_t *program) {
    return &program->context;
}

program_counts_t *program_ledger(program_t *program) {
    return &program->ledger;
}

static unsigned add_stream(program_t *program, const char *name) {
    for (unsigned i = 1; i < program->stream_count; i++)
        if (strcmp(program->streams[i].name, name) == 0)
            return i;
    program->streams = mem_resize(program->streams, (program->stream_count + 1) * sizeof *program->streams);
    program->streams[program->stream_count] = (stream_t){0};
    snprintf(program->streams[program->stream_count].name, FRAME_TOPIC_MAX + 1, "%s", name);
    return program->stream_count++;
}

unsigned program_stream(program_t *program, const char *name) {
    unsigned stream = add_stream(program, name);
    outline_stream(program, stream);
    return stream;
}

const char *program_stream_name(const program_t *program) {
    return program->stream;
}

bool program_set_stream(program_t *program, const char *name) {
    bool used = program->named_at != program->stream_count + 1;
    program->named_at = program->stream_count + 1;
    snprintf(program->stream, sizeof program->stream, "%s", name);
    return used;
}

const op_t *program_first(const program_t *program) {
    return program->first;
}

const char *program_output_name(const program_t *program) {
    return program->streams[0].name;
}

void program_set_keys(program_t *program, const text_t *names, unsigned count) {
    program->keys = arena_copy(&program->unit.arena, names, count * sizeof *names);
    program->key_count = count;
    program_has_keys(program, names, count);
}

void program_has_keys(program_t *program, const text_t *names, unsigned count) {
    outline_keys(program, names, count);
}

const text_t *program_keys(const program_t *program, unsigned *count) {
    *count = program->key_count;
    return program->keys;
}

void program_has_side(program_t *program) {
    program->sides++;
}

void program_wants_ticks(program_t *program, int64_t interval) {
    if (!program->tick_interval || interval < program->tick_interval)
        program->tick_interval = interval;
}

node_t *parse_named(parser_t *parser, const char *what, text_t *name) {
    node_t *node = parse_expression(parser);
    if (!node)
        return NULL;
    if (parser_accept_word(parser, "as"))
        return parse_name(parser, "a name after as", name) < 0 ? NULL : node;
    if (!parser_default_name(node, name)) {
        parser_error_at(parser, node, "write EXPRESSION as NAME", "%s that is computed needs a name", what);
        *name = text_of("?");
    }
    return node;
}

/* Operators as they are called elsewhere. */
static const char *foreign_operator(text_t name) {
    static const char *const words[][2] = {
        {"filter", "where CONDITION"}, {"select", "where CONDITION keeps events, keep A, B keeps fields"}, {"map", "set NAME = VALUE"},
        {"mutate", "set NAME = VALUE"}, {"put", "set NAME = VALUE"}, {"let", "set NAME = VALUE"}, {"extend", "set NAME = VALUE"},
        {"eval", "set NAME = VALUE"}, {"assign", "set NAME = VALUE"}, {"add", "set NAME = VALUE"}, {"del", "unset NAME"}, {"drop", "unset NAME, or where not CONDITION"},
        {"remove", "unset NAME"}, {"delete", "unset NAME"}, {"reject", "where not CONDITION"}, {"exclude", "unset NAME, or where not CONDITION"}, {"project", "keep A, B"}, {"cut", "keep A, B"},
        {"fields", "keep A, B"}, {"group", "window tumbling 10s by KEY: count()"}, {"stats", "window tumbling 10s by KEY: avg(x)"},
        {"aggregate", "window tumbling 10s by KEY: avg(x)"}, {"resample", "window tumbling 10s by KEY: avg(x)"},
        {"groupby", "window tumbling 10s by KEY: avg(x)"}, {"tumbling", "window tumbling 10s by KEY: avg(x)"}, {"hopping", "window hopping 1m every 10s by KEY: avg(x)"},
        {"TUMBLE", "window tumbling 10s by KEY: avg(x)"}, {"HOP", "window hopping 1m every 10s by KEY: avg(x)"},
        {"rolling", "window sliding 1m by KEY: avg(x)"}, {"sliding", "window sliding 1m by KEY: avg(x)"}, {"session", "window session 30m by KEY: count()"}, {"summarize", "window tumbling 10s by KEY: avg(x)"}, {"from", "where CONDITION; the inputs are given with --from"},
        {"into", "to STREAM"}, {"topk", "window tumbling 1m by KEY: top(x, 3)"}, {"topn", "window tumbling 1m by KEY: top(x, 3)"}, {"rename_fields", "rename A as B"}, {"if", "where CONDITION, or set x = if(condition, a, b)"},
        {"route", "split STREAM when CONDITION, ..."}, {"switch", "split STREAM when CONDITION, ..."}, {"case", "split STREAM when CONDITION, ..."},
        {"branch", "split STREAM when CONDITION, ..."}, {"explode", "unnest FIELD"}, {"expand", "unnest FIELD"}, {"nest", "unnest FIELD, or flatten"},
        {"unwind", "unnest FIELD"}, {"distinct", "dedupe by KEY within 1h"}, {"unique", "dedupe by KEY within 1h"}, {"uniq", "dedupe by KEY within 1h"},
        {"throttle", "limit 100 per 1s by KEY"}, {"rate_limit", "limit 100 per 1s by KEY"}, {"head", "limit N"}, {"take", "limit N"}, {"top", "limit N"},
        {"assert", "validate FIELD RULE, or validate check CONDITION"}, {"schema", "validate schema \"FILE\""}, {"coalesce", "fill FIELD = VALUE"},
        {"fill_down", "fill FIELD = previous by KEY"}, {"fill_empty", "fill FIELD = VALUE"}, {"ffill", "fill FIELD = previous by KEY"},
        {"grok", "parse FIELD as regex \"(?<name>...)\""}, {"dissect", "parse FIELD as regex \"(?<name>...)\""}, {"kv", "parse FIELD as logfmt"},
        {"parse_json", "parse FIELD as json, or set x = parse_json(FIELD)"}, {"json", "parse FIELD as json"}, {"regex", "parse FIELD as regex \"(?<name>...)\""}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i][0]) == name.size && strncasecmp(name.data, words[i][0], name.size) == 0)
            return words[i][1];
    return NULL;
}

/* What is done elsewhere, and by no operator here. */
static const char *no_operator(text_t name) {
    static const char *const words[][2] = {{"sort", "sort"}, {"order", "sort"}, {"orderby", "sort"}, {"order_by", "sort"}, {"arrange", "sort"},
                                           {"union", "union"}, {"unionall", "union"}, {"union_all", "union"}, {"concat", "union"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i][0]) == name.size && strncasecmp(name.data, words[i][0], name.size) == 0)
            return words[i][1][0] == 's' ? "a stream has no end, so there is no sorting it: the greatest values of a window are window tumbling 1m: collect(x, 1000) as all | set most = slice(sort(all, \"desc\"), 0, 10); a whole file is sorted behind the tools"
                                         : "a program has all inputs that are given by --from, or from of the configuration: name both there; meta.stream tells their events apart";
    return NULL;
}

static const op_class_t *find_operator(parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t name = text_make(parser->diagnostics->source.data + token->at, token->size);
    const char *names[64];
    size_t count = 0;
    for (const op_class_t *const *class = op_table; *class; class++) {
        if (token->type == TOKEN_NAME && text_is(name, (*class)->name))
            return *class;
        names[count++] = (*class)->name;
    }
    if (token->type != TOKEN_NAME) {
        parser_expected(parser, "an operator", token->type == TOKEN_DOT ? "values are assigned by set NAME = VALUE, and fields are written without a leading dot" : "a program is OPERATOR ... | OPERATOR ...: process --operators lists them");
        return NULL;
    }
    char hint[240], *wanted = mem_text_n(name.data, name.size);
    double parameter;
    const char *foreign = foreign_operator(name), *none = no_operator(name), *near = text_nearest(wanted, names, count);
    if (none)
        snprintf(hint, sizeof hint, "%s", none);
    else if (token[1].type == TOKEN_ASSIGN)
        snprintf(hint, sizeof hint, "write set %s = VALUE", wanted);
    else if (token[1].type == TOKEN_OPEN && aggregate_find(name, &parameter))
        snprintf(hint, sizeof hint, "it is an aggregate of window: window tumbling 10s by KEY: %s(...)", wanted);
    else if (foreign)
        snprintf(hint, sizeof hint, "here it is %s", foreign);
    else if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    else if (parser->tokens[parser->at + 1].type != TOKEN_PIPE && parser->tokens[parser->at + 1].type != TOKEN_END)
        snprintf(hint, sizeof hint, "a condition stands behind where, an assignment behind set; process --operators lists all");
    else
        snprintf(hint, sizeof hint, "process --operators lists all");
    parser_error(parser, token, hint, "there is no operator %s", wanted);
    mem_free(wanted);
    return NULL;
}

static void skip_operator(parser_t *parser) {
    while (parser_token(parser)->type != TOKEN_PIPE && parser_token(parser)->type != TOKEN_END)
        parser_take(parser);
    parser->scope->lenient = true; /* what the operator would have named is unknown */
}

/* Behind an operator that was read: what was most likely forgotten. */
static const char *forgotten(parser_t *parser, const char *operator) {
    const token_t *token = parser_token(parser);
    text_t word = text_make(parser->diagnostics->source.data + token->at, token->size);
    for (const op_class_t *const *class = op_table; *class && token->type == TOKEN_NAME; class++)
        if (text_is(word, (*class)->name))
            return "operators are joined with |";
    bool names = strcmp(operator, "keep") == 0 || strcmp(operator, "unset") == 0;
    return names && (token->type == TOKEN_NAME || token->type == TOKEN_QUOTED) ? "fields are separated by commas" : NULL;
}

static void parse_chain(program_t *program, parser_t *parser) {
    op_t **link = &program->first;
    unsigned count = 0;
    if (parser_token(parser)->type != TOKEN_END) {
        parser_accept(parser, TOKEN_PIPE);
        do {
            if (++count > OPERATORS_MAX) {
                parser_error(parser, parser_token(parser), NULL, "more than %d operators", OPERATORS_MAX);
                break;
            }
            const op_class_t *class = find_operator(parser);
            op_t *op = NULL;
            const token_t *start = parser_token(parser);
            if (class) {
                outline_begin(program, parser, parser_token(parser));
                parser_take(parser);
                parser->owner = class->name;
                op = class->parse(program, parser);
                parser_check_names(parser, start);
                outline_end(program, parser, op);
            }
            if (op) {
                op->number = count - 1;
                *link = op;
                link = &op->next;
                token_type_t type = parser_token(parser)->type;
                if (type != TOKEN_PIPE && type != TOKEN_END)
                    parser_expected(parser, "| or the end of the program", forgotten(parser, class->name));
            }
            if (!op || (parser_token(parser)->type != TOKEN_PIPE && parser_token(parser)->type != TOKEN_END))
                skip_operator(parser);
            if (program->scope.values > program->values)
                program->values = program->scope.values;
            if ((program->scope.layout && layout_count(program->scope.layout) > NAMES_MAX) || program->scope.count > NAMES_MAX || program->values > NAMES_MAX) {
                parser_error(parser, parser_token(parser), NULL, "more than %d fields are named up to here", NAMES_MAX);
                break;
            }
        } while (parser_accept(parser, TOKEN_PIPE));
    }
    program->verbatim = !program->first;
    output_t *end = op_new(program, &output_class, sizeof *end);
    end->plan = plan_new(program, &program->scope);
    *link = &end->op;
}

/* Programs with the same tokens mean the same. */
static void identify(program_t *program, const char *source, const token_t *token) {
    XXH3_state_t hash;
    XXH3_64bits_reset(&hash);
    size_t size = 0;
    for (token += token->type == TOKEN_PIPE; token->type != TOKEN_END; token++) {
        uint32_t head[2] = {token->type, token->size};
        XXH3_64bits_update(&hash, head, sizeof head);
        XXH3_64bits_update(&hash, source + token->at, token->size);
        if (size < EXCERPT_MAX) {
            bool apart = token[1].at > token->at + token->size;
            int put = snprintf(program->excerpt + size, EXCERPT_MAX + 1 - size, "%.*s%s", (int) token->size, source + token->at, apart ? " " : "");
            size = size + (size_t) put < EXCERPT_MAX ? size + (size_t) put : EXCERPT_MAX;
        }
    }
    while (size == EXCERPT_MAX && (program->excerpt[size - 1] & 0x80)) /* no half character */
        program->excerpt[--size] = 0;
    program->identity ^= XXH3_64bits_digest(&hash);
}

void program_identify(program_t *program, const void *bytes, size_t size) {
    program->identity = XXH3_64bits_withSeed(bytes, size, program->identity + 1);
}

program_t *program_new(const program_setup_t *setup, diagnostics_t *diagnostics) {
    program_t *program = mem_zero(sizeof *program);
    program->setup = *setup;
    if (!program->setup.inputs)
        program->setup.inputs = 1;
    program->layout = layout_new();
    program->scope.layout = program->layout;
    program->streams = mem_zero(sizeof *program->streams);
    program->stream_count = 1;
    snprintf(program->stream, sizeof program->stream, "%s", setup->stream);
    size_t count;
    token_t *tokens = NULL;
    if (diagnostics->source.size > PROGRAM_MAX) {
        diagnostics_add(diagnostics, 0, 1, NULL, "a program of more than %u bytes", PROGRAM_MAX);
    } else {
        tokens = lexer_read(diagnostics, &count);
        parser_t parser = {.diagnostics = diagnostics, .tokens = tokens, .unit = &program->unit, .scope = &program->scope, .owner = "program"};
        if (setup->outline)
            program->outline = outline_new(program, diagnostics->source);
        parse_chain(program, &parser);
        identify(program, diagnostics->source.data, tokens);
        mem_free(tokens);
    }
    diagnostics_sort(diagnostics);
    if (diagnostics->count) {
        program_free(program);
        return NULL;
    }
    snprintf(program->streams[0].name, sizeof program->streams[0].name, "%s", program->stream);
    program_prepare(program);
    return program;
}

void program_free(program_t *program) {
    if (!program)
        return;
    for (op_t *op = program->first; op;) {
        op_t *next = op->next;
        if (op->class->free)
            op->class->free(op);
        mem_free(op);
        op = next;
    }
    for (unsigned i = 0; i < program->stream_count; i++)
        builder_fini(&program->streams[i].builder);
    outline_free(program->outline);
    mem_free(program->streams);
    mem_free(program->origins);
    mem_free(program->inputs);
    mem_free(program->places);
    frame_unref(program->work.frame);
    rows_free(program->rows);
    scope_fini(&program->scope);
    layout_free(program->layout);
    context_fini(&program->context);
    unit_fini(&program->unit);
    mem_free(program);
}

program_counts_t program_counts(const program_t *program) {
    return program->ledger;
}

bool program_goes_by_time(const program_t *program) {
    for (const op_t *op = program->first; op; op = op->next)
        if (strcmp(op->class->name, "window") == 0 || strcmp(op->class->name, "join") == 0)
            return true;
    return false;
}

uint64_t program_errors(const program_t *program) {
    return program->context.errors;
}

int64_t program_watermark(const program_t *program) {
    return program->watermark;
}

size_t program_memory(const program_t *program) {
    size_t size = 0;
    for (const op_t *op = program->first; op; op = op->next)
        size += op->class->memory ? op->class->memory(op) : 0;
    return size;
}

bool program_verbatim(const program_t *program) {
    return program->verbatim;
}

void operator_list(FILE *out) {
    for (const op_class_t *const *class = op_table; *class; class++)
        fprintf(out, "%s%s\n    %s\n", class == op_table ? "" : "\n", (*class)->syntax, (*class)->help);
}
