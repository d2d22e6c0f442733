/* Message templates: read once into texts and expressions. */
#include "template.h"

#include "base/clock.h"
#include "data/json.h"

typedef struct part {
    text_t text;
    node_t *node;             /* NULL: the text */
} part_t;

struct template {
    part_t *parts;
    unsigned count;
};

static void add_part(parser_t *parser, template_t *template, text_t text, node_t *node) {
    part_t *parts = arena_alloc(&parser->unit->arena, (template->count + 1) * sizeof *parts);
    if (template->count)
        memcpy(parts, template->parts, template->count * sizeof *parts);
    parts[template->count++] = (part_t){text, node};
    template->parts = parts;
}

/* What stands between braces, source bytes from..to. */
static int add_expression(parser_t *parser, template_t *template, uint32_t from, uint32_t to) {
    size_t count;
    token_t *tokens = lexer_read_part(parser->diagnostics, from, to, &count);
    parser_t inner = *parser;
    inner.tokens = tokens;
    inner.at = 0;
    node_t *node = parse_expression(&inner);
    int rc = -1;
    if (node && parser_token(&inner)->type != TOKEN_END)
        parser_expected(&inner, "} behind the expression", "a brace itself is written {{");
    else if (node)
        rc = 0;
    mem_free(tokens);
    if (rc == 0)
        add_part(parser, template, (text_t){0}, node);
    return rc;
}

/* The text so far, escapes resolved. */
static int add_text(parser_t *parser, template_t *template, uint32_t from, uint32_t to) {
    if (from == to)
        return 0;
    token_t quoted = {.type = TOKEN_STRING, .at = from - 1, .size = to - from + 2};
    buf_t text = {0};
    int rc = lexer_string(parser->diagnostics, &quoted, false, &text);
    if (rc == 0)
        add_part(parser, template, text_make(arena_copy(&parser->unit->arena, text.data, text.size), text.size), NULL);
    buf_fini(&text);
    return rc;
}

template_t *template_parse(parser_t *parser, const char *what) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_STRING) {
        parser_expected(parser, what, "it stands in quotes, with {fields} in braces");
        return NULL;
    }
    parser_take(parser);
    template_t *template = arena_alloc(&parser->unit->arena, sizeof *template);
    *template = (template_t){0};
    const char *source = parser->diagnostics->source.data;
    uint32_t start = token->at + 1, end = token->at + token->size - 1;
    for (uint32_t at = start; at < end;) {
        char c = source[at];
        if (c == '\\') {
            at += 2;
        } else if ((c == '{' || c == '}') && at + 1 < end && source[at + 1] == c) {
            if (add_text(parser, template, start, at + 1) < 0)
                return NULL;
            start = at += 2;
        } else if (c == '{') {
            uint32_t close = at + 1;
            while (close < end && source[close] != '}')
                close++;
            token_t place = {.at = at, .size = 1};
            if (close == end) {
                parser_error(parser, &place, "a brace itself is written {{", "a { without its }");
                return NULL;
            }
            if (add_text(parser, template, start, at) < 0 || add_expression(parser, template, at + 1, close) < 0)
                return NULL;
            start = at = close + 1;
        } else {
            at++;
        }
    }
    return add_text(parser, template, start, end) < 0 ? NULL : template;
}

void template_put(const template_t *template, const row_t *row, buf_t *out) {
    for (unsigned i = 0; i < template->count; i++) {
        const part_t *part = &template->parts[i];
        value_t value = part->node ? evaluate(part->node, row) : value_text(part->text.data, part->text.size);
        char time[CLOCK_TEXT_MAX];
        if (value.type == VALUE_STRING)
            buf_put(out, value.text, value.size);
        else if (value.type == VALUE_TIME)
            buf_put(out, time, clock_print(time, value.time));
        else
            json_put_value(out, value);
    }
}
