/* Functions with regular expressions. */
#include "data/lang/function_make.h"
#include "data/lang/pattern.h"

static int prepare_pattern(parser_t *parser, node_t *node) {
    const node_t *source = node->arguments[1];
    if (source->kind != NODE_CONSTANT || source->constant.type != VALUE_STRING)
        return parser_error_at(parser, source, "a pattern is compiled once, before the program runs", "the pattern must be a constant text");
    size_t place = 0;
    err_t err;
    pattern_t *pattern = pattern_new(text_make(source->constant.text, source->constant.size), &place, &err);
    if (!pattern)
        return parser_error_at(parser, source, "patterns are written as in Perl (pcre2)", "bad pattern: %s (character %zu)", err.text, place + 1);
    unit_own(parser->unit, pattern, pattern_free);
    node->data = pattern;
    return 0;
}

static int prepare_named(parser_t *parser, node_t *node) {
    if (prepare_pattern(parser, node) < 0)
        return -1;
    if (!pattern_names(node->data))
        return parser_error_at(parser, node->arguments[1], "(?<name>...) names a group; extract gives one by its number",
                               "the pattern names no groups");
    return 0;
}

static value_t gave_up(const node_t *node, const row_t *row, value_t text) {
    return evaluation_failed(node, row, "%s: the pattern gave up on a text of %u bytes", node->function->name, text.size);
}

/* The third argument, or 1 where the pattern has groups, else 0. False: there is no such group. */
static bool group_of(const node_t *node, const row_t *row, const value_t *arguments, unsigned count, unsigned *group) {
    unsigned groups = pattern_groups(node->data);
    int64_t number = count > 2 ? arguments[2].integer : groups > 0;
    if (number < 0 || number > groups) {
        evaluation_failed(node, row, "%s: the pattern has %u groups, no group %lld", node->function->name, groups, (long long) number);
        return false;
    }
    *group = (unsigned) number;
    return true;
}

static int prepare_group(parser_t *parser, node_t *node) {
    if (prepare_pattern(parser, node) < 0)
        return -1;
    const node_t *number = node->count > 2 ? node->arguments[2] : NULL;
    if (number && number->kind == NODE_CONSTANT && number->constant.type == VALUE_INT &&
        (number->constant.integer < 0 || number->constant.integer > pattern_groups(node->data)))
        return parser_error_at(parser, number, "group 0 is the whole match", "the pattern has no group %lld", (long long) number->constant.integer);
    return 0;
}

static pattern_search_t search_of(value_t text) {
    return (pattern_search_t){.text = text_make(text.text, text.size)};
}

FUNCTION(fn_extract) {
    unsigned group;
    if (!group_of(node, row, arguments, count, &group))
        return value_null();
    pattern_search_t search = search_of(arguments[0]);
    int found = pattern_find(node->data, &search, 0);
    if (found < 0)
        return gave_up(node, row, arguments[0]);
    text_t part = found ? pattern_found(node->data, &search, group) : (text_t){0};
    return part.data ? value_text(part.data, part.size) : value_null();
}

/* Where the search goes on behind a match: an empty one must not be found for ever. */
static size_t behind(text_t text, text_t match) {
    size_t at = (size_t) (match.data - text.data) + match.size;
    if (match.size)
        return at;
    at++;
    while (at < text.size && utf8_inner(text.data[at]))
        at++;
    return at;
}

FUNCTION(fn_extract_all) {
    unsigned group;
    if (!group_of(node, row, arguments, count, &group))
        return value_null();
    pattern_search_t search = search_of(arguments[0]);
    buf_t *items = function_buffer(row);
    uint32_t found = 0;
    int more = 0;
    for (size_t at = 0; at <= search.text.size && items->size <= RESULT_MAX && (more = pattern_find(node->data, &search, at)) > 0;
         at = behind(search.text, pattern_found(node->data, &search, 0))) {
        text_t part = pattern_found(node->data, &search, group);
        if (!part.data)
            continue;
        pack_string(items, part.data, part.size);
        found++;
    }
    return more < 0 ? gave_up(node, row, arguments[0]) : function_made_array(node, row, items, found);
}

FUNCTION(fn_parse_regex) {
    pattern_search_t search = search_of(arguments[0]);
    int found = pattern_find(node->data, &search, 0);
    if (found <= 0)
        return found < 0 ? gave_up(node, row, arguments[0]) : value_null();
    buf_t *entries = function_buffer(row);
    unsigned names = pattern_names(node->data), groups = pattern_groups(node->data), group;
    for (unsigned number = 1; number <= groups; number++) { /* in the order of the pattern */
        for (unsigned i = 0; i < names; i++) {
            text_t name = pattern_name(node->data, i, &group);
            if (group != number)
                continue;
            text_t part = pattern_found(node->data, &search, number);
            pack_string(entries, name.data, name.size);
            pack_value(entries, part.data ? value_text(part.data, part.size) : value_null());
        }
    }
    return function_made_map(node, row, entries, names);
}

FUNCTION(fn_replace_regex) {
    pattern_search_t search = search_of(arguments[0]);
    text_t text = search.text;
    buf_t *out = function_buffer(row);
    size_t at = 0; /* what is behind it is still to be copied */
    int found = 0;
    for (size_t from = 0; from <= text.size && out->size <= RESULT_MAX && (found = pattern_find(node->data, &search, from)) > 0;) {
        text_t match = pattern_found(node->data, &search, 0);
        buf_put(out, text.data + at, (size_t) (match.data - text.data) - at);
        buf_put(out, arguments[2].text, arguments[2].size);
        at = (size_t) (match.data - text.data) + match.size;
        from = behind(text, match);
    }
    if (at < text.size)
        buf_put(out, text.data + at, text.size - at);
    return found < 0 ? gave_up(node, row, arguments[0]) : function_made_text(node, row, out);
}

const function_t functions_patterns[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"extract", "Patterns", "extract(text, \"pattern\", group?)", "What the pattern's group (default 1, or the whole match when it has none) matched; null without a match. A group is given by its number, 0 is the whole match.", "extract(\"id=42\", \"id=(\\d+)\") = \"42\"", 2, 3, {TEXT, TEXT, INT}, TEXT, false, fn_extract, prepare_group, false, true},
    {"extract_all", "Patterns", "extract_all(text, \"pattern\", group?)", "An array of what the group matched, as extract gives it, in all places from left to right.", "extract_all(\"a=1 b=22\", \"\\d+\") = [\"1\", \"22\"]", 2, 3, {TEXT, TEXT, INT}, ARRAY, false, fn_extract_all, prepare_group, false, true},
    {"parse_regex", "Patterns", "parse_regex(text, \"pattern\")", "A map of what the pattern's named groups matched; null without a match, and for a group that took no part.", "parse_regex(\"GET /a\", \"(?<method>\\w+) (?<path>\\S+)\") = {method: \"GET\", path: \"/a\"}", 2, 2, ALL(TEXT), MAP, false, fn_parse_regex, prepare_named, false, true},
    {"replace_regex", "Patterns", "replace_regex(text, \"pattern\", to)", "Every match of the pattern replaced by the text to, which is taken as it is.", "replace_regex(\"a1b22\", \"[0-9]+\", \"#\") = \"a#b#\"", 3, 3, ALL(TEXT), TEXT, false, fn_replace_regex, prepare_pattern, false, true},
    {NULL},
};
