/* A parser's way through the tokens, and what it says where they are not what is expected: with hints for those who write as in SQL, C or jq. */
#include "data/lang/parser.h"

#include <stdarg.h>
#include <strings.h>

const token_t *parser_token(const parser_t *parser) {
    return &parser->tokens[parser->at];
}

const token_t *parser_take(parser_t *parser) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_END)
        parser->at++;
    return token;
}

bool parser_accept(parser_t *parser, token_type_t type) {
    if (parser_token(parser)->type != type)
        return false;
    parser_take(parser);
    return true;
}

text_t parser_text(const parser_t *parser, const token_t *token) {
    return text_make(parser->diagnostics->source.data + token->at, token->size);
}

bool parser_is_word(const parser_t *parser, const char *word) {
    const token_t *token = parser_token(parser);
    return token->type == TOKEN_NAME && text_is(parser_text(parser, token), word);
}

bool parser_accept_word(parser_t *parser, const char *word) {
    if (!parser_is_word(parser, word))
        return false;
    parser_take(parser);
    return true;
}

int parser_error(parser_t *parser, const token_t *token, const char *hint, const char *format, ...) {
    char message[480];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    diagnostics_add(parser->diagnostics, token->at, token->size ? token->size : 1, hint, "%s", message);
    return -1;
}

int parser_error_at(parser_t *parser, const node_t *node, const char *hint, const char *format, ...) {
    char message[480];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    diagnostics_add(parser->diagnostics, node->at, node->size, hint, "%s", message);
    return -1;
}

/* The word, in whatever case if ours is in small letters. */
static bool is_word_of_sql(text_t word, const char *ours) {
    return text_is(word, ours) || (ours[0] >= 'a' && strlen(ours) == word.size && strncasecmp(word.data, ours, word.size) == 0);
}

/* Words and marks that people bring along from elsewhere, when they stand where an expression should end. */
static const char *foreign_hint(const parser_t *parser, const token_t *token) {
    static const char *const words[][2] = {
        {"like", "use ~ with a regular expression, or starts_with(), ends_with(), contains()"},
        {"between", "write x >= a and x <= b"},
        {"AND", "keywords are written in small letters: and"},
        {"OR", "keywords are written in small letters: or"},
        {"NOT", "keywords are written in small letters: not"},
        {"IN", "keywords are written in small letters: in"},
        {"IS", "keywords are written in small letters: is"},
        {"AS", "keywords are written in small letters: as"},
        {"BY", "keywords are written in small letters: by"},
        {"mod", "the remainder is written a % b"},
        {"div", "write div(a, b)"},
        {"ilike", "use ~ with a regular expression that begins with (?i)"},
        {"rlike", "use ~ with a regular expression"},
        {"contains", "write contains(text, part)"},
        {"matches", "use ~ with a regular expression"},
        {"isnull", "write is null"},
        {"notnull", "write is not null"},
        {"xor", "write a != b, or bit_xor(a, b) for integers"},
        {"when", "write if(condition, a, b); for several, if(c1, a, if(c2, b, c))"},
        {"gt", "write >"},
        {"lt", "write <"},
        {"ne", "write !="},
        {"eq", "write =="},
        {"having", "a condition on results stands behind the window: | where count > 10"},
    };
    text_t before = parser->at ? parser_text(parser, token - 1) : (text_t){0};
    if (text_is(before, "case") || text_is(before, "CASE"))
        return "write if(condition, a, b); for several, if(c1, a, if(c2, b, c))";
    if (text_is(before, "if") && token->type != TOKEN_OPEN)
        return "write if(condition, a, b)";
    if (token->type == TOKEN_ASSIGN)
        return "== compares; set NAME = VALUE assigns";
    if (token->type == TOKEN_STRING && parser->at && token[-1].type == TOKEN_STRING && token[-1].at + token[-1].size == token->at)
        return "a quote within a text stands behind a backslash, or the text between quotes of the other kind";
    if (token->type == TOKEN_OPEN && parser->at > 1 && token[-1].type == TOKEN_NAME && token[-2].type == TOKEN_DOT)
        return "values have no methods: write f(x), not x.f()";
    if (token->type == TOKEN_COLON && token[1].type == TOKEN_COLON)
        return "types are changed by int(x), double(x), string(x), bool(x) or time(x)";
    text_t word = parser_text(parser, token);
    if (is_word_of_sql(word, "not") && token[1].type == TOKEN_NAME) {
        text_t next = parser_text(parser, token + 1);
        if (is_word_of_sql(next, "like"))
            return "write !~ with a regular expression, or not starts_with(), not ends_with(), not contains()";
        if (is_word_of_sql(next, "ilike"))
            return "write !~ with a regular expression that begins with (?i)";
        if (is_word_of_sql(next, "between"))
            return "write x < a or x > b";
    }
    if (token->type == TOKEN_NAME)
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (is_word_of_sql(word, words[i][0]))
                return words[i][1];
    return NULL;
}

int parser_expected(parser_t *parser, const char *what, const char *hint) {
    const token_t *token = parser_token(parser);
    const char *foreign = foreign_hint(parser, token);
    if (token->type == TOKEN_BAD)
        return -1; /* reported by the lexer */
    if (token->type == TOKEN_END)
        return parser_error(parser, token, hint, "expected %s, but the program ends here", what);
    char found[40];
    snprintf(found, sizeof found, "%.*s", token->size > 30 ? 30 : (int) token->size, parser_text(parser, token).data);
    return parser_error(parser, token, hint ? hint : foreign, "expected %s, found %s", what, found);
}

int parser_expect(parser_t *parser, token_type_t type, const char *what) {
    return parser_accept(parser, type) ? 0 : parser_expected(parser, what, NULL);
}
