#ifndef PROCESS_SERIES_H
#define PROCESS_SERIES_H

#include "keyed.h"
#include "op.h"

/* What the operators on series (moving, delta, rate, trend) share: they add values to each event. */

/* "over 1m" or "over 20", behind the word: *span in ns, or else 0 and *most. 0, or -1 after reporting. */
int parse_over(parser_t *parser, int64_t *span, uint32_t *most, uint32_t limit);

/* "PREFIX_field" as text in the unit's arena. */
text_t joined_name(parser_t *parser, text_t first, text_t second);

/* The names that an operator gives: each once. */
typedef struct names {
    text_t names[64];
    unsigned count;
    const char *hint;         /* where two are the same; NULL: as NAME */
} names_t;
int names_add(names_t *names, parser_t *parser, const token_t *place, text_t name);

/* Behind the operator `name` stands for a new computed value; its number is returned. */
unsigned bind_value(parser_t *parser, text_t name, types_t types);

/* A finite number, or null after counting what it is instead ("avg of string"). */
value_t finite_number(const node_t *node, const row_t *row, const char *what, bool times);

/* Keys and expire, "over" excepted: reads what operators have behind their fields. Sets *more when something was read. */
typedef struct series_options {
    keyed_t *keyed;
    bool expires;             /* the program said how long */
} series_options_t;
int parse_series_option(series_options_t *options, parser_t *parser, bool *more);

#endif
