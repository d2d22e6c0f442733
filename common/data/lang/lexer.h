#ifndef DATA_LANG_LEXER_H
#define DATA_LANG_LEXER_H

#include "data/lang/diagnostic.h"
#include "data/value.h"

/* Tokens of the stream language; stream-language(7) describes it. White space, newlines and # comments separate. */
typedef enum token_type {
    TOKEN_END,
    TOKEN_NAME,       /* a word: field, function, keyword (keywords are known by where they stand) */
    TOKEN_QUOTED,     /* `odd name`: always a field */
    TOKEN_STRING,     /* "..." or '...': at and size include the quotes */
    TOKEN_NUMBER,     /* value: int, uint or double */
    TOKEN_DURATION,   /* value.integer: ns */
    TOKEN_PIPE, TOKEN_COLON, TOKEN_COMMA, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_BRACKET, TOKEN_BRACKET_END,
    TOKEN_BRACE, TOKEN_BRACE_END, TOKEN_DOT, TOKEN_ASSIGN, TOKEN_AT,
    TOKEN_EQ, TOKEN_NE, TOKEN_LT, TOKEN_LE, TOKEN_GT, TOKEN_GE, TOKEN_MATCH, TOKEN_NOT_MATCH,
    TOKEN_PLUS, TOKEN_MINUS, TOKEN_STAR, TOKEN_SLASH, TOKEN_PERCENT, TOKEN_COALESCE,
    TOKEN_BAD,        /* reported already */
} token_type_t;

typedef struct token {
    token_type_t type;
    uint32_t at, size;        /* bytes in the source */
    value_t value;            /* NUMBER, DURATION */
} token_t;

/* All tokens of the source, TOKEN_END last. What is no token is reported and stands as TOKEN_BAD. The array is the caller's (mem_free). */
token_t *lexer_read(diagnostics_t *diagnostics, size_t *count);
token_t *lexer_read_part(diagnostics_t *diagnostics, uint32_t from, uint32_t to, size_t *count);   /* of the source's bytes from..to */

/* The text of a STRING token without quotes, escapes resolved as in JSON (and \'), appended to *out. With `pattern`, escapes other than
 * those of the quotes stay as they are, for the regular expression engine. Bad escapes are reported; then -1. */
int lexer_string(diagnostics_t *diagnostics, const token_t *token, bool pattern, buf_t *out);
/* The name of a NAME or QUOTED token: without backticks, `` `` `` inside standing for one. Appended to *out. */
void lexer_name(text_t source, const token_t *token, buf_t *out);

#endif
