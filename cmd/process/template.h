#ifndef PROCESS_TEMPLATE_H
#define PROCESS_TEMPLATE_H

#include "op.h"

/* Texts with {EXPRESSION} in them; {{ and }} stand for the braces themselves. */
typedef struct template template_t;                   /* in the unit's arena */
template_t *template_parse(parser_t *parser, const char *what);           /* a text in quotes; NULL after reporting */
void template_put(const template_t *template, const row_t *row, buf_t *out);      /* null is written as null */

#endif
