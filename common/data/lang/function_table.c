/* The groups of functions, finding one by its name, and the listing of all. */
#include "data/lang/function.h"

#include <stdio.h>

const function_t *const function_tables[] = {
    functions_choice, functions_numbers, functions_texts, functions_patterns, functions_encodings,
    functions_hashes, functions_parsing, functions_network, functions_types, functions_times, functions_calendar, functions_arrays, functions_maps, functions_places, NULL,
};

const function_t *function_find(text_t name) {
    for (const function_t *const *table = function_tables; *table; table++)
        for (const function_t *function = *table; function->name; function++)
            if (text_is(name, function->name))
                return function;
    return NULL;
}

static void list_group(FILE *out, const function_t *function) {
    fprintf(out, "%s\n", function->group);
    for (; function->name; function++) {
        fprintf(out, "  %s\n      %s\n", function->signature, function->help);
        if (function->example)
            fprintf(out, "      %s\n", function->example);
    }
}

void function_list(FILE *out) {
    for (const function_t *const *table = function_tables; *table; table++) {
        if (table != function_tables)
            fprintf(out, "\n");
        list_group(out, *table);
    }
}
