/* What the operators on series share. See series.h. */
#include "series.h"

#include <math.h>

int parse_over(parser_t *parser, int64_t *span, uint32_t *most, uint32_t limit) {
    const token_t *token = parser_token(parser);
    if (*span || *most)
        return parser_error(parser, token, NULL, "over stands twice");
    if (token->type != TOKEN_NUMBER) {
        if (token->type != TOKEN_DURATION)
            return parser_expected(parser, "a duration or a number of events after over", "over 1m, or over 20");
        return parse_duration(parser, "a duration", span);
    }
    if (token->value.type != VALUE_INT || token->value.integer < 1 || token->value.integer > limit)
        return parser_error(parser, token, "for a time it needs a unit, as in over 1m", "a number of events is 1 to %u", limit);
    *most = (uint32_t) parser_take(parser)->value.integer;
    return 0;
}

text_t joined_name(parser_t *parser, text_t first, text_t second) {
    char *joined = mem_format("%.*s_%.*s", (int) first.size, first.data, (int) second.size, second.data);
    size_t size = strlen(joined);
    text_t name = text_make(arena_copy(&parser->unit->arena, joined, size), size);
    mem_free(joined);
    return name;
}

int names_add(names_t *names, parser_t *parser, const token_t *place, text_t name) {
    for (unsigned i = 0; i < names->count; i++)
        if (text_equal(names->names[i], name))
            return parser_error(parser, place, names->hint ? names->hint : "give one of them another name: as NAME", "two results are named %.*s", (int) name.size, name.data);
    if (names->count == sizeof names->names / sizeof *names->names)
        return parser_error(parser, place, "write a second operator behind this one", "more than %u results", names->count);
    names->names[names->count++] = name;
    return 0;
}

unsigned bind_value(parser_t *parser, text_t name, types_t types) {
    unsigned index = scope_new_value(parser->scope);
    scope_bind(parser->scope, name, SOURCE_VALUE, index, (types_t) (types | TYPE(VALUE_NULL)));
    return index;
}

value_t finite_number(const node_t *node, const row_t *row, const char *what, bool times) {
    value_t value = evaluate(node, row);
    if (value.type == VALUE_DOUBLE && !isfinite(value.number))
        return evaluation_failed(node, row, "%s of what is no finite number", what);
    if (value.type == VALUE_NULL || value_is_number(value) || (times && value.type == VALUE_TIME))
        return value;
    return evaluation_failed(node, row, "%s of %s", what, value_type_names[value.type]);
}

int parse_series_option(series_options_t *options, parser_t *parser, bool *more) {
    int status = 0;
    options->expires |= parser_is_word(parser, "expire");
    *more = keyed_parse(options->keyed, parser, &status);
    return status;
}
