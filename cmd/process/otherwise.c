/* "else ...": what becomes of what an operator sorts out. */
#include "otherwise.h"

int parse_side_stream(program_t *program, parser_t *parser, unsigned *stream) {
    const token_t *token = parser_token(parser);
    text_t name;
    if (parse_word_raw(parser, "the name of a stream", &name) < 0)
        return -1;
    if (!frame_topic_valid(name.data, name.size))
        return parser_error(parser, token, "letters, digits, _ . and -, at most 128 of them", "this can't be the name of a stream");
    char *text = mem_text_n(name.data, name.size);
    *stream = program_stream(program, text);
    mem_free(text);
    return 0;
}

void otherwise_init(otherwise_t *otherwise, program_t *program, const parser_t *parser, otherwise_kind_t kind) {
    *otherwise = (otherwise_t){.kind = kind, .plan = plan_new(program, parser->scope)};
    if (kind == OTHERWISE_DEAD)
        program_has_side(program);
}

static int refuse(parser_t *parser, unsigned allowed) {
    char hint[120];
    snprintf(hint, sizeof hint, "here it is%s%s%s%s or a stream's name", allowed & OTHERWISE(PASS) ? " pass," : "", allowed & OTHERWISE(DROP) ? " drop," : "",
             allowed & OTHERWISE(DEAD) ? " dead," : "", allowed & OTHERWISE(TAG) ? " tag NAME," : "");
    return parser_expected(parser, "what becomes of such events", hint);
}

int otherwise_parse(otherwise_t *otherwise, program_t *program, parser_t *parser, unsigned allowed) {
    static const char *const words[] = {"pass", "drop", "dead", "tag"};
    if (!parser_accept_word(parser, "else"))
        return 0;
    if (otherwise->given)
        return parser_error(parser, parser_token(parser) - 1, NULL, "else stands twice");
    otherwise->given = true;
    for (unsigned kind = 0; kind < OTHERWISE_STREAM; kind++) {
        if (!parser_is_word(parser, words[kind]))
            continue;
        if (!(allowed & 1u << kind))
            return refuse(parser, allowed);
        parser_take(parser);
        otherwise->kind = (otherwise_kind_t) kind;
        if (kind == OTHERWISE_DEAD)
            program_has_side(program);
        return kind == OTHERWISE_TAG ? parse_name(parser, "a name after tag", &otherwise->tag) : 0;
    }
    if (parser_token(parser)->type != TOKEN_NAME && parser_token(parser)->type != TOKEN_STRING)
        return refuse(parser, allowed);
    otherwise->kind = OTHERWISE_STREAM;
    program_has_side(program);
    return parse_side_stream(program, parser, &otherwise->stream);
}

bool otherwise_ends(const otherwise_t *otherwise, program_t *program, const row_t *row, const char *place, const char *reason) {
    switch (otherwise->kind) {
    case OTHERWISE_DROP:
        program_ledger(program)->filtered++;
        return true;
    case OTHERWISE_DEAD:
        program_dead(program, row, otherwise->plan, place, reason);
        return true;
    case OTHERWISE_STREAM:
        plan_emit(otherwise->plan, program, otherwise->stream, row);
        return true;
    default:
        return false;
    }
}
