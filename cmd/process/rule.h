#ifndef PROCESS_RULE_H
#define PROCESS_RULE_H

#include "data/lang/pattern.h"
#include "schema.h"

/* The rules of validate for one field: is number, between 0 and 100, ~ "pattern", ... */
typedef enum rule_kind { RULE_REQUIRED, RULE_TYPE, RULE_COMPARE, RULE_BETWEEN, RULE_IN, RULE_MATCH, RULE_LENGTH, RULE_SCHEMA } rule_kind_t;

typedef struct rule {
    rule_kind_t kind;
    uint8_t comparison;       /* comparison_t */
    bool negated;             /* not in, !~ */
    bool integer;             /* of types: a double without a fraction will do */
    bool time;                /* of types: a text that reads as a time will do */
    types_t types;
    node_t **nodes;           /* COMPARE: one; BETWEEN: two; IN: all. In the unit's arena */
    unsigned count;
    int64_t least, most;      /* LENGTH */
    struct pattern *pattern;
    const schema_t *schema;
    text_t text;              /* as it stands in the program */
} rule_t;

/* Reads the rule at the next token; 1 when there is one, 0 when there is none, -1 after reporting. */
int rule_parse(program_t *program, parser_t *parser, rule_t *rule);
/* A JSON Schema's file, named by the string at the next token: owned by the program, whose identity it changes. NULL after reporting. */
const schema_t *rule_schema(program_t *program, parser_t *parser);

/* Whether the value, which is not null, is as it should be. Not for RULE_REQUIRED and RULE_SCHEMA. */
bool rule_holds(const rule_t *rule, value_t value, const row_t *row);

#endif
