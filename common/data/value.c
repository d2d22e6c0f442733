/* What all values share: the names of their types, and what counts as a time. */
#include "data/value.h"

#include "base/clock.h"
#include "data/json.h"

const char *const value_type_names[10] = {
    "null", "bool", "int", "uint", "double", "string", "binary", "array", "map", "time",
};

bool value_to_time(value_t value, int64_t *ns) {
    switch (value.type) {
    case VALUE_TIME:
        *ns = value.time;
        return true;
    case VALUE_INT:
        *ns = clock_from_integer(value.integer);
        return true;
    case VALUE_DOUBLE:
        return clock_from_double(value.number, ns);
    case VALUE_STRING: {
        text_t text = {value.text, value.size};
        if (clock_parse(text, ns))
            return true;
        double number;
        int64_t integer;
        if (text_to_int(text, &integer, NULL) == 0) {
            *ns = clock_from_integer(integer);
            return true;
        }
        return json_parse_double(text.data, text.size, &number) && clock_from_double(number, ns);
    }
    default:
        return false;
    }
}
