#ifndef PROCESS_VIOLATION_H
#define PROCESS_VIOLATION_H

#include "op.h"

/* What is wrong with an event: the fields, the rules they break, and what they hold. Texts are borrowed. */
#define VIOLATIONS_MAX 32

typedef struct violation {
    text_t field;             /* data NULL: it is about the whole event */
    text_t rule;
    value_t value;            /* absent (value_absent): nothing is shown */
} violation_t;

typedef struct violations {
    violation_t items[VIOLATIONS_MAX];
    unsigned count;
    unsigned more;            /* that found no room */
} violations_t;

void violations_add(violations_t *violations, text_t field, text_t rule, value_t value);
/* "temperature: between -50 and 150, found 400; site: required" */
void violations_put(const violations_t *violations, buf_t *out);
/* [{"field", "rule", "value"}, ...], packed in the row's arena; fields that are not there are left out. */
value_t violations_value(const violations_t *violations, const row_t *row);

#endif
