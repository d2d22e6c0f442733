#ifndef DATA_LANG_FUNCTION_H
#define DATA_LANG_FUNCTION_H

#include "data/lang/expression.h"
#include "data/lang/parser.h"

/* Functions of the language: a group's functions and their table, one line each, stand in function_GROUP.c; function_table.c lists the groups.
 * From the tables come the check of calls and --functions; a test holds stream-language(7) to that. */
#define FUNCTION_ARGUMENTS 32   /* at most */

typedef value_t function_fn(const node_t *node, const row_t *row, const value_t *arguments, unsigned count);

typedef struct function {
    const char *name;
    const char *group;          /* heading in listings */
    const char *signature;      /* "substring(text, start, length?)" */
    const char *help;           /* one sentence or two, ends with a full stop */
    const char *example;        /* "upper(\"ab\") = \"AB\"", checked by a test; NULL: none possible without an event */
    uint8_t least, most;        /* how many arguments */
    types_t takes[3];           /* of each argument; the last one also of all that follow */
    types_t gives;              /* null always is possible too */
    bool takes_null;            /* called with null arguments too; otherwise null in gives null out */
    function_fn *call;
    /* At check time, once arguments are known: compiles constants into node->data. -1 after reporting. May be NULL. */
    int (*prepare)(parser_t *parser, node_t *node);
    bool impure;                /* looks at the event: never folded */
    bool pattern;               /* the second argument is a regular expression: backslashes in it are not escapes */
} function_t;

extern const function_t *const function_tables[];     /* by group, each ends with a NULL name and is sorted by name; NULL last */
const function_t *function_find(text_t name);
/* The nearest name, or what the function is called here that SQL, jq, VRL, Bloblang or Miller users write so. */
const char *function_suggest(text_t name, char *buffer, size_t size);
/* The listing of process --functions. */
void function_list(FILE *out);

extern const function_t functions_choice[], functions_numbers[], functions_texts[], functions_patterns[], functions_encodings[],
    functions_hashes[], functions_parsing[], functions_network[], functions_types[], functions_times[], functions_calendar[], functions_arrays[], functions_maps[],
    functions_places[];

#endif
