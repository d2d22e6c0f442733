/* Functions that test and convert types. */
#include <math.h>

#include "data/json.h"
#include "data/lang/function_make.h"

FUNCTION(fn_type) {
    const char *name = value_type_names[arguments[0].type];
    return value_text(name, strlen(name));
}

FUNCTION(fn_is_type) {
    unsigned type = arguments[0].type == VALUE_UINT ? VALUE_INT : arguments[0].type;
    return value_bool(strcmp(node->function->name + 3, value_type_names[type]) == 0); /* behind "is_" */
}

FUNCTION(fn_is_number) {
    return value_bool(value_is_number(arguments[0]));
}

FUNCTION(fn_is_numeric) {
    value_t number;
    return value_bool(value_is_number(arguments[0]) || (arguments[0].type == VALUE_STRING && number_of_text(arguments[0], &number)));
}

FUNCTION(fn_is_empty) {
    value_t x = arguments[0];
    switch (x.type) {
    case VALUE_NULL: return value_bool(true);
    case VALUE_STRING:
    case VALUE_BINARY: return value_bool(!x.size);
    case VALUE_ARRAY:
    case VALUE_MAP: return value_bool(!items_of(x).count);
    default: return value_bool(false);
    }
}

FUNCTION(fn_is_json) {
    if (arguments[0].type != VALUE_STRING)
        return value_bool(false);
    text_t text = text_trim(text_make(arguments[0].text, arguments[0].size));
    ssize_t used = json_read_value(text, function_buffer(row), NULL);
    return value_bool(used >= 0 && !text_trim(text_make(text.data + used, text.size - (size_t) used)).size);
}

static value_t no_number(const node_t *node, const row_t *row, value_t text) {
    return evaluation_failed(node, row, "%s: the text \"%.*s\" is no number", node->function->name, SHOWN(text));
}

/* A text as number: an integer where it is one, else a double. */
bool number_of_text(value_t value, value_t *number) {
    text_t text = text_trim(text_make(value.text, value.size));
    int64_t integer;
    double real;
    if (text_to_int(text, &integer, NULL) == 0) {
        *number = value_int(integer);
        return true;
    }
    uint64_t large;
    if (text_to_uint(text, &large, NULL) == 0) {
        *number = value_uint(large);
        return true;
    }
    if (text.size > 1 && text.data[0] == '+') {
        text.data++;
        text.size--;
    }
    if (!json_parse_double(text.data, text.size, &real) || !isfinite(real))
        return false;
    *number = value_double(real);
    return true;
}

FUNCTION(fn_int) {
    value_t x = arguments[0];
    if (x.type == VALUE_STRING && !number_of_text(arguments[0], &x))
        return no_number(node, row, arguments[0]);
    if (x.type == VALUE_BOOL)
        return value_int(x.boolean);
    if (x.type != VALUE_DOUBLE)
        return x;
    if (x.number >= -9223372036854775808.0 && x.number < 9223372036854775808.0)
        return value_int((int64_t) x.number);
    if (x.number >= 0 && x.number < 18446744073709551616.0)
        return value_uint((uint64_t) x.number);
    return evaluation_failed(node, row, "int: %g is beyond 64 bits", x.number);
}

FUNCTION(fn_double) {
    value_t x = arguments[0];
    if (x.type == VALUE_BOOL)
        return value_double(x.boolean);
    if (x.type == VALUE_STRING && !number_of_text(arguments[0], &x))
        return no_number(node, row, arguments[0]);
    return value_double(value_to_double(x));
}

FUNCTION(fn_number) {
    value_t x = arguments[0];
    if (x.type == VALUE_BOOL)
        return value_int(x.boolean);
    return x.type == VALUE_STRING && !number_of_text(arguments[0], &x) ? no_number(node, row, arguments[0]) : x;
}

FUNCTION(fn_parse_int) {
    int64_t base = arguments[1].integer;
    if (base < 2 || base > 36)
        return evaluation_failed(node, row, "parse_int: a base of 2 to 36, not %lld", (long long) base);
    text_t text = text_trim(text_make(arguments[0].text, arguments[0].size));
    bool minus = text.size && text.data[0] == '-';
    size_t at = text.size && (minus || text.data[0] == '+');
    unsigned __int128 sum = 0;
    if (at == text.size)
        return no_number(node, row, arguments[0]);
    for (; at < text.size; at++) {
        char c = text.data[at], small = (char) (c | 0x20);
        int digit = c >= '0' && c <= '9' ? c - '0' : small >= 'a' && small <= 'z' ? small - 'a' + 10 : 36;
        if (digit >= base)
            return no_number(node, row, arguments[0]);
        sum = sum * (unsigned) base + (unsigned) digit;
        if (sum > (minus ? (uint64_t) 1 << 63 : UINT64_MAX))
            return evaluation_failed(node, row, "parse_int: the number is beyond 64 bits");
    }
    return minus ? value_int((int64_t) -(uint64_t) sum) : value_uint((uint64_t) sum);
}

FUNCTION(fn_bool) {
    value_t x = arguments[0];
    if (x.type == VALUE_BOOL)
        return x;
    if (x.type != VALUE_STRING)
        return value_bool(value_to_double(x) != 0);
    bool value;
    if (text_to_bool(text_trim(text_make(x.text, x.size)), &value, NULL) < 0)
        return evaluation_failed(node, row, "bool: the text \"%.*s\" is neither true nor false", SHOWN(x));
    return value_bool(value);
}

FUNCTION(fn_string) {
    if (arguments[0].type == VALUE_STRING)
        return arguments[0];
    buf_t *text = function_buffer(row);
    function_put_text(text, arguments[0]);
    return function_made_text(node, row, text);
}

const function_t functions_types[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure */
    {"bool", "Types", "bool(x)", "True and false from texts (true, yes, on, 1, false, no, off, 0) and numbers (0 is false); an error otherwise.", "bool(\"yes\") = true", 1, 1, ALL(BOOL | TEXT | NUMBER), BOOL, false, fn_bool},
    {"double", "Types", "double(x)", "A double from a number, text or boolean; an error when the text is no number.", "double(\"1.5\") = 1.5", 1, 1, ALL(NUMBER | TEXT | BOOL), DOUBLE, false, fn_double},
    {"int", "Types", "int(x)", "An integer: numbers lose their fraction, texts are read (an error when they are no number), true is 1.", "int(\"42\") = 42", 1, 1, ALL(NUMBER | TEXT | BOOL), INTEGER, false, fn_int},
    {"is_array", "Types", "is_array(x)", "Whether x is an array.", "is_array([1]) = true", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"is_binary", "Types", "is_binary(x)", "Whether x is a binary.", "is_binary(unhex(\"ff\")) = true", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"is_bool", "Types", "is_bool(x)", "Whether x is true or false.", "is_bool(1) = false", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"is_double", "Types", "is_double(x)", "Whether x is a double.", "is_double(1.0) = true", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"is_empty", "Types", "is_empty(x)", "Whether x is null or absent, or a text, array or map with nothing in it.", "is_empty(\"\") = true", 1, 1, ALL(ANY), BOOL, true, fn_is_empty},
    {"is_int", "Types", "is_int(x)", "Whether x is an integer.", "is_int(1) = true", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"is_json", "Types", "is_json(x)", "Whether x is a text that parse_json can read.", "is_json(\"{}\") = true", 1, 1, ALL(ANY), BOOL, true, fn_is_json},
    {"is_map", "Types", "is_map(x)", "Whether x is a map.", "is_map({a: 1}) = true", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"is_null", "Types", "is_null(x)", "Whether x is null or absent, as x is null.", "is_null(1) = false", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"is_number", "Types", "is_number(x)", "Whether x is an integer or a double.", "is_number(\"1\") = false", 1, 1, ALL(ANY), BOOL, true, fn_is_number},
    {"is_numeric", "Types", "is_numeric(x)", "Whether x is a number, or a text that number can read.", "is_numeric(\"1e3\") = true", 1, 1, ALL(ANY), BOOL, true, fn_is_numeric},
    {"is_string", "Types", "is_string(x)", "Whether x is a text.", "is_string(\"1\") = true", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"is_time", "Types", "is_time(x)", "Whether x is a time (texts that look like one are texts).", "is_time(time(0)) = true", 1, 1, ALL(ANY), BOOL, true, fn_is_type},
    {"number", "Types", "number(x)", "A number from a text: an integer where it is one that 64 bits hold, else a double; an error when it is none. True is 1.", "number(\"42\") = 42", 1, 1, ALL(NUMBER | TEXT | BOOL), NUMBER, false, fn_number},
    {"parse_int", "Types", "parse_int(text, base)", "The integer that the text writes in a base from 2 to 36.", "parse_int(\"ff\", 16) = 255", 2, 2, {TEXT, INT, ANY}, INTEGER, false, fn_parse_int},
    {"string", "Types", "string(x)", "The value as a text: texts as they are, all else as JSON writes it.", "string(1.5) = \"1.5\"", 1, 1, ALL(ANY), TEXT, false, fn_string},
    {"type", "Types", "type(x)", "The name of the type: null bool int uint double string binary array map time.", "type(1.5) = \"double\"", 1, 1, ALL(ANY), TEXT, true, fn_type},
    {NULL},
};
