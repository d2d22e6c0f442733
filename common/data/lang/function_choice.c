/* Functions that choose between values. */
#include "data/lang/function_make.h"

FUNCTION(fn_null_if) {
    return value_equal(arguments[0], arguments[1]) ? value_null() : arguments[0];
}

FUNCTION(fn_coalesce) {
    for (unsigned i = 0; i < count; i++)
        if (arguments[i].type != VALUE_NULL)
            return arguments[i];
    return value_null();
}

const function_t functions_choice[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure */
    {"coalesce", "Choice", "coalesce(a, b, ...)", "The first argument that is not null.", "coalesce(null, 2, 3) = 2", 1, MANY, ALL(ANY), ANY, true, fn_coalesce},
    {"if", "Choice", "if(condition, a, b?)", "a when the condition is true, else b (null when not given). Only the chosen one is computed.", "if(2 > 1, \"yes\", \"no\") = \"yes\"", 2, 3, ALL(ANY), ANY, true, NULL},
    {"null_if", "Choice", "null_if(a, b)", "Null when a equals b, else a.", "null_if(\"-\", \"-\") = null", 2, 2, ALL(ANY), ANY, true, fn_null_if},
    {NULL},
};
