/* to: names the stream that the events go to. Resolved before the program runs. */
#include "op.h"

extern const op_class_t op_to;

static op_t *to_parse(program_t *program, parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t name;
    if (parse_word_raw(parser, "the name of a stream", &name) < 0)
        return NULL;
    if (!frame_topic_valid(name.data, name.size)) {
        parser_error(parser, token, "letters, digits, _ . and -, at most 128 of them", "this can't be the name of a stream");
        return NULL;
    }
    char *text = mem_text_n(name.data, name.size);
    bool used = program_set_stream(program, text);
    mem_free(text);
    if (!used) {
        parser_error(parser, token, "events go to one stream; split sends some of them to others", "to stands twice, and nothing goes to the first stream");
        return NULL;
    }
    return op_new(program, &op_to, sizeof(op_t));
}

static void to_event(op_t *op, row_t **rows, unsigned count) {
    op_pass(op, rows, count);
}

const op_class_t op_to = {
    .name = "to",
    .syntax = "to STREAM",
    .help = "Names the stream that the events go to; without it, it is the stage's own name (--name).",
    .parse = to_parse,
    .event = to_event,
};
