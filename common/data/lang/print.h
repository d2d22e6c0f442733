#ifndef DATA_LANG_PRINT_H
#define DATA_LANG_PRINT_H

#include "data/lang/expression.h"

/* A checked expression as text again, for people: constants computed, and in parentheses whatever stands inside something else. */
void node_put(buf_t *out, const node_t *node);
void name_put(buf_t *out, text_t name);               /* in backticks when it is no word */
/* A value as a program would have it: a string in quotes, a time as RFC 3339; cut at about `limit` bytes. */
void value_put(buf_t *out, value_t value, size_t limit);

#endif
