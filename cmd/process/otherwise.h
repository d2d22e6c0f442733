#ifndef PROCESS_OTHERWISE_H
#define PROCESS_OTHERWISE_H

#include "op.h"

/* What becomes of the rows that an operator sorts out: "else pass", "else drop", "else dead", "else tag NAME" or "else STREAM", the same for all of them. */
typedef enum otherwise_kind { OTHERWISE_PASS, OTHERWISE_DROP, OTHERWISE_DEAD, OTHERWISE_TAG, OTHERWISE_STREAM } otherwise_kind_t;

typedef struct otherwise {
    otherwise_kind_t kind;
    bool given;               /* the program says so */
    unsigned stream;
    text_t tag;
    plan_t *plan;             /* how such a row is written */
} otherwise_t;

#define OTHERWISE(kind) (1u << OTHERWISE_##kind)

/* What it is unless the program says something else. The scope must be that of the operator's input. */
void otherwise_init(otherwise_t *otherwise, program_t *program, const parser_t *parser, otherwise_kind_t kind);
/* Reads the part, which is there when the next word is else; `allowed` are bits. -1 after reporting. */
int otherwise_parse(otherwise_t *otherwise, program_t *program, parser_t *parser, unsigned allowed);
/* The name of a stream, and its number. -1 after reporting. */
int parse_side_stream(program_t *program, parser_t *parser, unsigned *stream);

/* The row ends here, unless it is passed on or tagged, which is the operator's to do: then false, and nothing was done. */
bool otherwise_ends(const otherwise_t *otherwise, program_t *program, const row_t *row, const char *place, const char *reason);

#endif
