/* The lexer of the stream language: the whole source into one array of tokens. Words that are wrong here but right in SQL, C or jq
 * get a hint. */
#include "data/lang/lexer.h"

#include <stdlib.h>

#include "data/json.h"

typedef struct lexer {
    diagnostics_t *diagnostics;
    const char *text;
    uint32_t at, size;
    token_t *tokens;
    size_t count, capacity;
} lexer_t;

static bool letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char) c >= 0x80;
}

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

static char peek(const lexer_t *lexer, uint32_t ahead) {
    return lexer->at + ahead < lexer->size ? lexer->text[lexer->at + ahead] : 0;
}

static token_t *push(lexer_t *lexer, token_type_t type, uint32_t size) {
    if (lexer->count == lexer->capacity) {
        lexer->capacity = lexer->capacity ? 2 * lexer->capacity : 64;
        lexer->tokens = mem_resize(lexer->tokens, lexer->capacity * sizeof *lexer->tokens);
    }
    token_t *token = &lexer->tokens[lexer->count++];
    *token = (token_t){.type = type, .at = lexer->at, .size = size};
    lexer->at += size;
    return token;
}

static void bad(lexer_t *lexer, uint32_t size, const char *hint, const char *message) {
    diagnostics_add(lexer->diagnostics, lexer->at, size, hint, "%s", message);
    push(lexer, TOKEN_BAD, size);
}

static void read_word(lexer_t *lexer) {
    uint32_t size = 1;
    while (letter(peek(lexer, size)) || digit(peek(lexer, size)))
        size++;
    size_t valid = text_utf8_valid(lexer->text + lexer->at, size);
    if (valid < size) {
        bad(lexer, size, NULL, "the program is not valid UTF-8 here");
        return;
    }
    push(lexer, TOKEN_NAME, size);
}

/* Typographic quotes come from word processors and web pages. */
static bool curly_quote(const lexer_t *lexer) {
    return peek(lexer, 0) == '\xE2' && peek(lexer, 1) == '\x80' && peek(lexer, 2) >= '\x98' && peek(lexer, 2) <= '\x9F';
}

static void read_quoted(lexer_t *lexer, char quote) {
    uint32_t size = 1;
    for (;; size++) {
        char c = peek(lexer, size);
        if (lexer->at + size >= lexer->size) {
            bad(lexer, size, quote == '`' ? "end the name with `" : "end it with the quote that began it",
                quote == '`' ? "a quoted name that does not end" : "a text that does not end");
            return;
        }
        if (quote == '`' && c == '`' && peek(lexer, size + 1) == '`') {
            size++;
            continue;
        }
        if (c == quote)
            break;
        if (c == '\\' && quote != '`' && lexer->at + size + 1 < lexer->size)
            size++;
    }
    size++;
    if (text_utf8_valid(lexer->text + lexer->at, size) < size) {
        bad(lexer, size, NULL, "the program is not valid UTF-8 here");
        return;
    }
    if (quote == '`' && size == 2) {
        bad(lexer, size, NULL, "an empty name");
        return;
    }
    push(lexer, quote == '`' ? TOKEN_QUOTED : TOKEN_STRING, size);
}

/* Units of time stand in falling order, each once, and in small letters: M is no minute elsewhere. */
static bool units_fall(text_t text) {
    static const char *const units[] = {"d", "h", "m", "s", "ms", "us", "ns"};
    const size_t count = sizeof units / sizeof *units;
    for (size_t at = 0, next = 0; at < text.size; next++) {
        while (at < text.size && (digit(text.data[at]) || text.data[at] == '.'))
            at++;
        size_t start = at;
        while (at < text.size && !digit(text.data[at]))
            at++;
        while (next < count && !text_is(text_make(text.data + start, at - start), units[next]))
            next++;
        if (next == count)
            return false;
    }
    return true;
}

/* 12, 1.5, 1e3, 0x1F, or a duration: 250ms, 1h30m, 1.5s. */
static void read_number(lexer_t *lexer) {
    uint32_t size = 0;
    bool real = false;
    if (peek(lexer, 0) == '0' && (peek(lexer, 1) == 'x' || peek(lexer, 1) == 'X')) {
        uint64_t value = 0;
        for (size = 2; letter(peek(lexer, size)) || digit(peek(lexer, size)); size++) {
            char c = peek(lexer, size);
            unsigned nibble = digit(c) ? (unsigned) (c - '0') : (unsigned) ((c | 0x20) - 'a') + 10;
            if (nibble > 15 || value >> 60) {
                bad(lexer, size + 1, "0x is followed by up to 16 of 0-9 and a-f", "not a hexadecimal number");
                return;
            }
            value = value << 4 | nibble;
        }
        if (size == 2) {
            bad(lexer, size, "0x is followed by up to 16 of 0-9 and a-f", "not a hexadecimal number");
            return;
        }
        push(lexer, TOKEN_NUMBER, size)->value = value_uint(value);
        return;
    }
    while (digit(peek(lexer, size)))
        size++;
    if (peek(lexer, size) == '.' && digit(peek(lexer, size + 1))) {
        real = true;
        for (size++; digit(peek(lexer, size));)
            size++;
    }
    if ((peek(lexer, size) | 0x20) == 'e' &&
        (digit(peek(lexer, size + 1)) ||
         ((peek(lexer, size + 1) == '+' || peek(lexer, size + 1) == '-') && digit(peek(lexer, size + 2))))) {
        real = true;
        for (size += 2; digit(peek(lexer, size));)
            size++;
    }
    text_t text = text_make(lexer->text + lexer->at, size);
    if (letter(peek(lexer, size))) {
        while (letter(peek(lexer, size)) || digit(peek(lexer, size)) ||
               (peek(lexer, size) == '.' && digit(peek(lexer, size + 1))))
            size++;
        text = text_make(lexer->text + lexer->at, size);
        int64_t ns;
        if (text_to_duration(text, 0, &ns, NULL) < 0 && text_is_endless(text))
            bad(lexer, size, NULL, "a duration of more than 146 years");
        else if (text_to_duration(text, 0, &ns, NULL) < 0)
            bad(lexer, size, "durations are written 250ms 10s 5m 1h 1d; a field whose name begins with a digit goes into backticks: `1st`",
                "neither a number nor a duration");
        else if (!units_fall(text))
            bad(lexer, size, "units are d h m s ms us ns, as they stand here, from the greatest to the least and each once: 1h30m", "not a duration");
        else
            push(lexer, TOKEN_DURATION, size)->value = value_int(ns);
        return;
    }
    uint64_t integer;
    double number;
    if (!real && text_to_uint(text, &integer, NULL) == 0) {
        push(lexer, TOKEN_NUMBER, size)->value = value_uint(integer);
        return;
    }
    while (text.size > 1 && text.data[0] == '0' && digit(text.data[1])) { /* JSON numbers have no leading zeros */
        text.data++;
        text.size--;
    }
    if (json_parse_double(text.data, text.size, &number) && number - number == 0)
        push(lexer, TOKEN_NUMBER, size)->value = value_double(number);
    else
        bad(lexer, size, "the greatest double is about 1.8e308", "a number too large");
}

typedef struct mark {
    char text[3];
    token_type_t type;
    const char *hint; /* for what is no token of ours */
} mark_t;

static const mark_t marks[] = {
    {"==", TOKEN_EQ}, {"!=", TOKEN_NE}, {"<=", TOKEN_LE}, {">=", TOKEN_GE}, {"!~", TOKEN_NOT_MATCH}, {"??", TOKEN_COALESCE},
    {"=~", TOKEN_BAD, "a regular expression is matched with ~"},
    {"<>", TOKEN_BAD, "not equal is written !="},
    {"&&", TOKEN_BAD, "write and"},
    {"||", TOKEN_BAD, "write or; a single | joins operators; texts are joined with +"},
    {"//", TOKEN_BAD, "a default is written with ??, a comment begins with #"},
    {"/*", TOKEN_BAD, "a comment begins with # and ends with its line"},
    {"--", TOKEN_BAD, "a comment begins with #; a double minus needs parentheses"},
    {"**", TOKEN_BAD, "write pow(a, b)"},
    {"|", TOKEN_PIPE}, {":", TOKEN_COLON}, {",", TOKEN_COMMA}, {"(", TOKEN_OPEN}, {")", TOKEN_CLOSE}, {"[", TOKEN_BRACKET},
    {"]", TOKEN_BRACKET_END}, {"{", TOKEN_BRACE}, {"}", TOKEN_BRACE_END}, {".", TOKEN_DOT}, {"=", TOKEN_ASSIGN}, {"@", TOKEN_AT},
    {"<", TOKEN_LT}, {">", TOKEN_GT}, {"~", TOKEN_MATCH}, {"+", TOKEN_PLUS}, {"-", TOKEN_MINUS}, {"*", TOKEN_STAR},
    {"/", TOKEN_SLASH}, {"%", TOKEN_PERCENT},
    {"!", TOKEN_BAD, "write not"},
    {"&", TOKEN_BAD, "write and"},
    {"?", TOKEN_BAD, "write if(condition, a, b), or a ?? b for a default"},
    {";", TOKEN_BAD, "operators are joined with |"},
    {"$", TOKEN_BAD, "fields are written without $: where temperature > 30"},
    {"^", TOKEN_BAD, "write pow(a, b)"},
};

static void read_mark(lexer_t *lexer) {
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        uint32_t size = (uint32_t) strlen(marks[i].text);
        if (lexer->at + size > lexer->size || memcmp(lexer->text + lexer->at, marks[i].text, size) != 0)
            continue;
        if (marks[i].type != TOKEN_BAD) {
            push(lexer, marks[i].type, size);
        } else {
            char message[48];
            snprintf(message, sizeof message, "%s is not part of the language", marks[i].text);
            bad(lexer, size, marks[i].hint, message);
        }
        return;
    }
    char message[64];
    unsigned char c = (unsigned char) peek(lexer, 0);
    if (c > ' ' && c < 0x7F)
        snprintf(message, sizeof message, "the character %c has no meaning here", c);
    else
        snprintf(message, sizeof message, "the byte 0x%02x has no meaning here", c);
    bad(lexer, 1, NULL, message);
}

token_t *lexer_read(diagnostics_t *diagnostics, size_t *count) {
    return lexer_read_part(diagnostics, 0, (uint32_t) diagnostics->source.size, count);
}

token_t *lexer_read_part(diagnostics_t *diagnostics, uint32_t from, uint32_t to, size_t *count) {
    lexer_t lexer = {.diagnostics = diagnostics, .text = diagnostics->source.data, .at = from, .size = to};
    while (lexer.at < lexer.size) {
        char c = peek(&lexer, 0);
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            lexer.at++;
        } else if (c == '#') {
            while (lexer.at < lexer.size && peek(&lexer, 0) != '\n')
                lexer.at++;
        } else if (curly_quote(&lexer)) {
            bad(&lexer, 3, "write \" or '", "a typographic quote");
        } else if (letter(c)) {
            read_word(&lexer);
        } else if (digit(c)) {
            read_number(&lexer);
        } else if (c == '"' || c == '\'' || c == '`') {
            read_quoted(&lexer, c);
        } else {
            read_mark(&lexer);
        }
    }
    push(&lexer, TOKEN_END, 0);
    *count = lexer.count;
    return lexer.tokens;
}

static int hex4(const char *text, const char *end, uint32_t *code) {
    if (end - text < 4)
        return -1;
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char c = text[i], low = (char) (c | 0x20);
        if (!digit(c) && !(low >= 'a' && low <= 'f'))
            return -1;
        *code = *code << 4 | (uint32_t) (digit(c) ? c - '0' : low - 'a' + 10);
    }
    return 0;
}

static void put_utf8(buf_t *out, uint32_t code) {
    if (code < 0x80) {
        buf_put_byte(out, (uint8_t) code);
    } else if (code < 0x800) {
        buf_put_byte(out, (uint8_t) (0xC0 | code >> 6));
        buf_put_byte(out, (uint8_t) (0x80 | (code & 0x3F)));
    } else if (code < 0x10000) {
        buf_put_byte(out, (uint8_t) (0xE0 | code >> 12));
        buf_put_byte(out, (uint8_t) (0x80 | (code >> 6 & 0x3F)));
        buf_put_byte(out, (uint8_t) (0x80 | (code & 0x3F)));
    } else {
        buf_put_byte(out, (uint8_t) (0xF0 | code >> 18));
        buf_put_byte(out, (uint8_t) (0x80 | (code >> 12 & 0x3F)));
        buf_put_byte(out, (uint8_t) (0x80 | (code >> 6 & 0x3F)));
        buf_put_byte(out, (uint8_t) (0x80 | (code & 0x3F)));
    }
}

/* The escape at *at (behind the backslash) of a text; moves on. */
static int put_escape(const char **at, const char *end, buf_t *out) {
    static const char from[] = "\"'\\/bfnrt", to[] = "\"'\\/\b\f\n\r\t";
    char c = *(*at)++;
    const char *found = c ? strchr(from, c) : NULL;
    if (found) {
        buf_put_byte(out, (uint8_t) to[found - from]);
        return 0;
    }
    uint32_t code, low;
    if (c != 'u' || hex4(*at, end, &code) < 0)
        return -1;
    *at += 4;
    if (code >= 0xD800 && code < 0xDC00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u' && hex4(*at + 2, end, &low) == 0 &&
        low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        *at += 6;
    }
    if (code >= 0xD800 && code < 0xE000)
        return -1;
    put_utf8(out, code);
    return 0;
}

int lexer_string(diagnostics_t *diagnostics, const token_t *token, bool pattern, buf_t *out) {
    const char *start = diagnostics->source.data + token->at;
    const char *at = start + 1, *end = start + token->size - 1;
    char quote = *start;
    while (at < end) {
        char c = *at++;
        if (c != '\\') {
            buf_put_byte(out, (uint8_t) c);
        } else if (pattern) {
            if (*at != quote)
                buf_put_byte(out, '\\');
            buf_put_byte(out, (uint8_t) *at++);
        } else {
            const char *escape = at;
            if (put_escape(&at, end, out) < 0) {
                diagnostics_add(diagnostics, token->at + (uint32_t) (escape - 1 - start), 2,
                                "escapes are \\\" \\' \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX; a backslash itself is written \\\\",
                                "an unknown escape");
                return -1;
            }
        }
    }
    return 0;
}

void lexer_name(text_t source, const token_t *token, buf_t *out) {
    const char *text = source.data + token->at;
    if (token->type != TOKEN_QUOTED) {
        buf_put(out, text, token->size);
        return;
    }
    for (uint32_t i = 1; i + 1 < token->size; i++) {
        buf_put_byte(out, (uint8_t) text[i]);
        if (text[i] == '`')
            i++;
    }
}
