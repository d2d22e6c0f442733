/* Functions of texts. Positions and lengths count characters (code points). */
#include <math.h>

#include "base/unicode.h"
#include "data/lang/function_make.h"

#define DISTANCE_MAX 1000         /* characters of the texts that levenshtein compares */

static bool white(uint32_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

FUNCTION(fn_length) {
    value_t x = arguments[0];
    switch (x.type) {
    case VALUE_STRING: return value_int(text_characters(x.text, x.size));
    case VALUE_BINARY: return value_int(x.size);
    default: return value_int(items_of(x).count);
    }
}

FUNCTION(fn_byte_length) {
    return value_int(arguments[0].size);
}

/* Copies one character at `from` of the text to *out in another case, and moves on. */
static uint32_t recase(value_t text, uint32_t from, char **out, uint32_t (*map)(uint32_t code)) {
    unsigned taken;
    uint32_t code = unicode_get(text.text + from, text.size - from, &taken);
    if (taken == 1 && code >= 0x80) /* no UTF-8 */
        *(*out)++ = text.text[from];
    else
        *out += unicode_put(*out, map(code));
    return from + taken;
}

static value_t recased(const row_t *row, value_t text, uint32_t (*map)(uint32_t code)) {
    char *start = arena_alloc(&row->context->arena, text.size + 4), *out = start;
    for (uint32_t at = 0; at < text.size;)
        at = recase(text, at, &out, map);
    return value_text(start, (size_t) (out - start));
}

FUNCTION(fn_lower) {
    return recased(row, arguments[0], unicode_lower);
}

FUNCTION(fn_upper) {
    return recased(row, arguments[0], unicode_upper);
}

FUNCTION(fn_capitalize) {
    value_t text = arguments[0];
    if (!text.size)
        return text;
    char *start = arena_alloc(&row->context->arena, text.size + 4), *out = start;
    uint32_t rest = recase(text, 0, &out, unicode_upper);
    memcpy(out, text.text + rest, text.size - rest);
    return value_text(start, (size_t) (out - start) + text.size - rest);
}

static bool in_word(unsigned char c) {
    return c >= 0x80 || c == '\'' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

FUNCTION(fn_title) {
    value_t text = arguments[0];
    char *start = arena_alloc(&row->context->arena, text.size + 4), *out = start;
    bool inside = false;
    for (uint32_t at = 0; at < text.size;) {
        bool word = in_word((unsigned char) text.text[at]);
        at = recase(text, at, &out, inside ? unicode_lower : unicode_upper);
        inside = word;
    }
    return value_text(start, (size_t) (out - start));
}

/* Whether the character is one of the set; of white space without a set. */
static bool strippable(uint32_t code, const value_t *set) {
    if (!set)
        return white(code);
    unsigned taken;
    for (uint32_t at = 0; at < set->size; at += taken)
        if (unicode_get(set->text + at, set->size - at, &taken) == code)
            return true;
    return false;
}

static value_t trimmed(const value_t *arguments, unsigned count, bool start, bool end) {
    value_t text = arguments[0];
    const value_t *set = count > 1 ? &arguments[1] : NULL;
    unsigned taken;
    while (start && text.size && strippable(unicode_get(text.text, text.size, &taken), set)) {
        text.text += taken;
        text.size -= taken;
    }
    while (end && text.size) {
        uint32_t last = text.size - 1;
        while (last && text.size - last < 4 && utf8_inner(text.text[last]))
            last--;
        uint32_t code = unicode_get(text.text + last, text.size - last, &taken);
        if (last + taken != text.size || !strippable(code, set))
            break;
        text.size = last;
    }
    return text;
}

FUNCTION(fn_trim) {
    return trimmed(arguments, count, true, true);
}

FUNCTION(fn_trim_start) {
    return trimmed(arguments, count, true, false);
}

FUNCTION(fn_trim_end) {
    return trimmed(arguments, count, false, true);
}

static bool starts(value_t text, value_t start) {
    return text.size >= start.size && memcmp(text.text, start.text, start.size) == 0;
}

static bool ends(value_t text, value_t end) {
    return text.size >= end.size && memcmp(text.text + text.size - end.size, end.text, end.size) == 0;
}

FUNCTION(fn_starts_with) {
    return value_bool(starts(arguments[0], arguments[1]));
}

FUNCTION(fn_ends_with) {
    return value_bool(ends(arguments[0], arguments[1]));
}

FUNCTION(fn_trim_prefix) {
    value_t text = arguments[0], prefix = arguments[1];
    return starts(text, prefix) ? value_text(text.text + prefix.size, text.size - prefix.size) : text;
}

FUNCTION(fn_trim_suffix) {
    value_t text = arguments[0], suffix = arguments[1];
    return ends(text, suffix) ? value_text(text.text, text.size - suffix.size) : text;
}

/* Where the part stands in the text from `from` on, or NULL. */
static const char *find(value_t text, const char *from, value_t part) {
    return memmem(from, text.size - (size_t) (from - text.text), part.text, part.size);
}

static bool of_text(const node_t *node, const row_t *row, const value_t *arguments) {
    if (arguments[1].type == VALUE_STRING)
        return true;
    evaluation_failed(node, row, "%s: a text contains texts, not %s", node->function->name, value_type_names[arguments[1].type]);
    return false;
}

FUNCTION(fn_contains) {
    value_t x = arguments[0];
    if (x.type != VALUE_STRING)
        return value_bool(array_index(x, arguments[1]) >= 0);
    return of_text(node, row, arguments) ? value_bool(find(x, x.text, arguments[1]) != NULL) : value_null();
}

FUNCTION(fn_index_of) {
    value_t x = arguments[0];
    if (x.type != VALUE_STRING)
        return value_int(array_index(x, arguments[1]));
    if (!of_text(node, row, arguments))
        return value_null();
    const char *found = find(x, x.text, arguments[1]);
    return value_int(found ? (int64_t) text_characters(x.text, (size_t) (found - x.text)) : -1);
}

FUNCTION(fn_replace) {
    value_t text = arguments[0], from = arguments[1], to = arguments[2];
    const char *at = text.text, *end = text.text + text.size, *found = from.size ? find(text, at, from) : NULL;
    if (!found)
        return text;
    buf_t *out = function_buffer(row);
    while (found && out->size <= RESULT_MAX) {
        buf_put(out, at, (size_t) (found - at));
        buf_put(out, to.text, to.size);
        at = found + from.size;
        found = find(text, at, from);
    }
    buf_put(out, at, (size_t) (end - at));
    return function_made_text(node, row, out);
}

FUNCTION(fn_substring) {
    value_t text = arguments[0];
    uint32_t start, end;
    function_bounds(arguments, count, text_characters(text.text, text.size), &start, &end);
    uint32_t first = text_place(text, start), last = text_place(text, end);
    return value_text(text.text + first, last - first);
}

FUNCTION(fn_truncate) {
    value_t text = arguments[0], end = count > 2 ? arguments[2] : value_text("", 0);
    int64_t most = arguments[1].integer < 0 ? 0 : arguments[1].integer;
    if (text_characters(text.text, text.size) <= most)
        return text;
    int64_t kept = most - text_characters(end.text, end.size);
    if (kept < 0) /* no room for all of the end */
        return value_text(end.text, text_place(end, (uint64_t) most));
    buf_t *out = function_buffer(row);
    buf_put(out, text.text, text_place(text, (uint64_t) kept));
    buf_put(out, end.text, end.size);
    return function_made_text(node, row, out);
}

/* The end of the character at `at`. */
static const char *after(const char *at, const char *end) {
    at++;
    while (at < end && utf8_inner(*at))
        at++;
    return at;
}

FUNCTION(fn_split) {
    value_t text = arguments[0], separator = arguments[1];
    int64_t most = count > 2 ? arguments[2].integer : UINT32_MAX;
    if (most < 1)
        return evaluation_failed(node, row, "split: at least one part, not %lld", (long long) most);
    buf_t *items = function_buffer(row);
    uint32_t parts = 0;
    const char *at = text.text, *end = text.text + text.size, *found;
    if (!separator.size) { /* every character by itself */
        for (; at < end && parts + 1 < most && items->size <= RESULT_MAX; parts++) {
            const char *next = after(at, end);
            pack_string(items, at, (size_t) (next - at));
            at = next;
        }
        if (at == end)
            return function_made_array(node, row, items, parts);
    } else {
        for (; parts + 1 < most && items->size <= RESULT_MAX && (found = find(text, at, separator)); at = found + separator.size, parts++)
            pack_string(items, at, (size_t) (found - at));
    }
    pack_string(items, at, (size_t) (end - at));
    return function_made_array(node, row, items, parts + 1);
}

FUNCTION(fn_repeat) {
    value_t text = arguments[0];
    int64_t times = arguments[1].integer < 0 ? 0 : arguments[1].integer;
    if (text.size && times > RESULT_MAX / text.size)
        return function_too_long(node, row);
    size_t size = text.size * (size_t) times;
    if (!text.size)
        return text;
    char *out = arena_alloc(&row->context->arena, size);
    for (int64_t i = 0; i < times; i++)
        memcpy(out + (size_t) i * text.size, text.text, text.size);
    return value_text(out, size);
}

FUNCTION(fn_reverse) {
    value_t text = arguments[0];
    if (text.type == VALUE_ARRAY)
        return array_reversed(node, row, text);
    char *out = arena_alloc(&row->context->arena, text.size);
    const char *end = text.text + text.size;
    uint32_t left = text.size;
    for (const char *at = text.text, *next; at < end; at = next) {
        next = after(at, end);
        left -= (uint32_t) (next - at);
        memcpy(out + left, at, (size_t) (next - at));
    }
    return value_text(out, text.size);
}

static value_t padded(const node_t *node, const row_t *row, const value_t *arguments, unsigned count, bool at_start) {
    value_t text = arguments[0], fill = count > 2 ? arguments[2] : value_text(" ", 1);
    int64_t missing = arguments[1].integer > RESULT_MAX ? RESULT_MAX + 1 : arguments[1].integer - text_characters(text.text, text.size);
    if (missing <= 0 || !fill.size)
        return text;
    buf_t *out = function_buffer(row);
    if (!at_start)
        buf_put(out, text.text, text.size);
    const char *at = fill.text, *end = fill.text + fill.size;
    for (int64_t i = 0; i < missing && out->size <= RESULT_MAX; i++) {
        const char *next = after(at, end);
        buf_put(out, at, (size_t) (next - at));
        at = next < end ? next : fill.text;
    }
    if (at_start)
        buf_put(out, text.text, text.size);
    return missing > RESULT_MAX ? function_too_long(node, row) : function_made_text(node, row, out);
}

FUNCTION(fn_pad_start) {
    return padded(node, row, arguments, count, true);
}

FUNCTION(fn_pad_end) {
    return padded(node, row, arguments, count, false);
}

FUNCTION(fn_concat) {
    buf_t *text = function_buffer(row);
    for (unsigned i = 0; i < count && text->size <= RESULT_MAX; i++)
        function_put_text(text, arguments[i]);
    return function_made_text(node, row, text);
}

FUNCTION(fn_join) {
    items_t items = items_of(arguments[0]);
    value_t item;
    buf_t *text = function_buffer(row);
    for (uint32_t i = 0; i < items.count && text->size <= RESULT_MAX && pack_read_value(&items.cursor, &item); i++) {
        if (i)
            buf_put(text, arguments[1].text, arguments[1].size);
        function_put_text(text, item);
    }
    return function_made_text(node, row, text);
}

static uint32_t read_codes(value_t text, uint32_t *codes) {
    uint32_t count = 0;
    unsigned taken;
    for (uint32_t at = 0; at < text.size; at += taken)
        codes[count++] = unicode_get(text.text + at, text.size - at, &taken);
    return count;
}

/* One row of the table of distances after another. */
FUNCTION(fn_levenshtein) {
    value_t a = arguments[0], b = arguments[1];
    if (text_characters(a.text, a.size) > DISTANCE_MAX || text_characters(b.text, b.size) > DISTANCE_MAX || a.size > 4 * DISTANCE_MAX ||
        b.size > 4 * DISTANCE_MAX)
        return evaluation_failed(node, row, "levenshtein: a text of more than %d characters", DISTANCE_MAX);
    uint32_t *left = arena_alloc(&row->context->arena, (a.size + 1) * sizeof *left);
    uint32_t *right = arena_alloc(&row->context->arena, (b.size + 1) * sizeof *right);
    uint32_t *distance = arena_alloc(&row->context->arena, (b.size + 1) * sizeof *distance);
    uint32_t rows = read_codes(a, left), columns = read_codes(b, right);
    for (uint32_t j = 0; j <= columns; j++)
        distance[j] = j;
    for (uint32_t i = 1; i <= rows; i++) {
        uint32_t diagonal = distance[0];
        distance[0] = i;
        for (uint32_t j = 1; j <= columns; j++) {
            uint32_t above = distance[j], best = above < distance[j - 1] ? above + 1 : distance[j - 1] + 1;
            uint32_t replaced = diagonal + (left[i - 1] != right[j - 1]);
            distance[j] = best < replaced ? best : replaced;
            diagonal = above;
        }
    }
    return value_int(distance[columns]);
}

/* |x| times 10^decimals where that is exactly between two whole numbers: then printf rounds to the even one. */
static bool halfway(double x, int decimals, double *scaled) {
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    if (decimals > 15)
        return false;
    *scaled = fabs(x) * powers[decimals];
    return *scaled < 4503599627370496.0 && fma(fabs(x), powers[decimals], -*scaled) == 0 && *scaled - floor(*scaled) == 0.5;
}

/* The digits of |x| with so many decimals behind `point` of them. */
static size_t print_fixed(char *out, size_t size, value_t x, int decimals, size_t *point) {
    static const char zeros[] = "00000000000000000000";
    double scaled, number = value_to_double(x);
    int length;
    if (x.type == VALUE_DOUBLE && halfway(number, decimals, &scaled)) {
        length = snprintf(out, size, "%0*llu", decimals + 1, (unsigned long long) scaled + 1);
    } else if (x.type == VALUE_DOUBLE) {
        length = snprintf(out, size, "%.*f", decimals, fabs(number));
        if (decimals) /* out with the point, whatever it is */
            memmove(out + length - decimals - 1, out + length - decimals, (size_t) decimals + 1);
        length -= decimals > 0;
    } else {
        uint64_t whole = x.type == VALUE_INT && x.integer < 0 ? -(uint64_t) x.integer : x.unsigned_integer;
        length = snprintf(out, size, "%llu%.*s", (unsigned long long) whole, decimals, zeros);
    }
    *point = (size_t) (length - decimals);
    return (size_t) length;
}

FUNCTION(fn_format_number) {
    value_t x = arguments[0], separator = count > 2 ? arguments[2] : value_text("", 0);
    int64_t decimals = arguments[1].integer;
    if (decimals < 0 || decimals > 20)
        return evaluation_failed(node, row, "format_number: 0 to 20 decimals, not %lld", (long long) decimals);
    if (x.type == VALUE_DOUBLE && x.number - x.number != 0)
        return function_number(node, row, x.number);
    char digits[400];
    size_t point, size = print_fixed(digits, sizeof digits, x, (int) decimals, &point);
    buf_t *out = function_buffer(row);
    bool negative = x.type == VALUE_DOUBLE ? x.number < 0 : x.type == VALUE_INT && x.integer < 0;
    if (negative && strspn(digits, "0") < size)
        buf_put_byte(out, '-');
    for (size_t i = 0; i < point; i++) {
        if (i && (point - i) % 3 == 0)
            buf_put(out, separator.text, separator.size);
        buf_put_byte(out, (uint8_t) digits[i]);
    }
    if (decimals) {
        buf_put_byte(out, '.');
        buf_put(out, digits + point, size - point);
    }
    return function_made_text(node, row, out);
}

const function_t functions_texts[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure */
    {"byte_length", "Texts", "byte_length(text)", "Bytes of a text in UTF-8, or of a binary.", "byte_length(\"é\") = 2", 1, 1, ALL(BYTES), INT, false, fn_byte_length},
    {"capitalize", "Texts", "capitalize(text)", "The first letter in upper case.", "capitalize(\"ab\") = \"Ab\"", 1, 1, ALL(TEXT), TEXT, false, fn_capitalize},
    {"concat", "Texts", "concat(a, b, ...)", "All arguments as one text: numbers, times and booleans as JSON writes them, nulls left out. For arrays: array_concat.", "concat(\"a\", 1, true) = \"a1true\"", 1, MANY, ALL(ANY), TEXT, true, fn_concat},
    {"contains", "Texts", "contains(text, part)", "Whether the text contains the part. For arrays: contains(array, value).", "contains(\"abcd\", \"bc\") = true", 2, 2, {TEXT | ARRAY, ANY, ANY}, BOOL, false, fn_contains},
    {"ends_with", "Texts", "ends_with(text, end)", "Whether the text ends so.", "ends_with(\"a.csv\", \".csv\") = true", 2, 2, ALL(TEXT), BOOL, false, fn_ends_with},
    {"format_number", "Texts", "format_number(x, decimals, separator?)", "The number with exactly so many decimals (0 to 20), halves away from zero, and the separator between thousands.", "format_number(1234567.125, 2, \",\") = \"1,234,567.13\"", 2, 3, {NUMBER, INT, TEXT}, TEXT, false, fn_format_number},
    {"index_of", "Texts", "index_of(text, part)", "Where the part first stands in the text, counting characters from 0; -1 when nowhere. For arrays: index_of(array, value).", "index_of(\"abc\", \"c\") = 2", 2, 2, {TEXT | ARRAY, ANY, ANY}, INT, false, fn_index_of},
    {"join", "Texts", "join(array, separator)", "The array's values as one text.", "join([1, 2], \"-\") = \"1-2\"", 2, 2, {ARRAY, TEXT, ANY}, TEXT, false, fn_join},
    {"length", "Texts", "length(x)", "Characters of a text, bytes of a binary, items of an array, entries of a map.", "length(\"abc\") = 3", 1, 1, ALL(BYTES | ARRAY | MAP), INT, false, fn_length},
    {"levenshtein", "Texts", "levenshtein(a, b)", "How many characters must be put in, taken out or replaced to make a text of the other; of at most 1000 characters each.", "levenshtein(\"kitten\", \"sitting\") = 3", 2, 2, ALL(TEXT), INT, false, fn_levenshtein},
    {"lower", "Texts", "lower(text)", "Letters in lower case: Latin, Greek, Cyrillic and Armenian ones; other characters stay.", "lower(\"ÄbC\") = \"äbc\"", 1, 1, ALL(TEXT), TEXT, false, fn_lower},
    {"pad_end", "Texts", "pad_end(text, length, fill?)", "The text, filled up at its end to so many characters (with blanks).", "pad_end(\"7\", 3, \"0\") = \"700\"", 2, 3, {TEXT, INT, TEXT}, TEXT, false, fn_pad_end},
    {"pad_start", "Texts", "pad_start(text, length, fill?)", "The text, filled up at its start to so many characters (with blanks).", "pad_start(\"7\", 3, \"0\") = \"007\"", 2, 3, {TEXT, INT, TEXT}, TEXT, false, fn_pad_start},
    {"repeat", "Texts", "repeat(text, times)", "The text so many times; at most 1 MiB.", "repeat(\"ab\", 2) = \"abab\"", 2, 2, {TEXT, INT, ANY}, TEXT, false, fn_repeat},
    {"replace", "Texts", "replace(text, from, to)", "Every occurrence replaced.", "replace(\"a-b-c\", \"-\", \".\") = \"a.b.c\"", 3, 3, ALL(TEXT), TEXT, false, fn_replace},
    {"reverse", "Texts", "reverse(x)", "The characters of a text, or the items of an array, in reverse order.", "reverse(\"abc\") = \"cba\"", 1, 1, ALL(TEXT | ARRAY), TEXT | ARRAY, false, fn_reverse},
    {"split", "Texts", "split(text, separator, parts?)", "An array of what stands between the separators; in at most so many parts, of which the last has the rest.", "split(\"a,b,c\", \",\", 2) = [\"a\", \"b,c\"]", 2, 3, {TEXT, TEXT, INT}, ARRAY, false, fn_split},
    {"starts_with", "Texts", "starts_with(text, start)", "Whether the text starts so.", "starts_with(\"abc\", \"ab\") = true", 2, 2, ALL(TEXT), BOOL, false, fn_starts_with},
    {"substring", "Texts", "substring(text, start, length?)", "Characters from start (0 is the first, -1 the last) on, at most length of them.", "substring(\"abcdef\", 1, 3) = \"bcd\"", 2, 3, {TEXT, INT, INT}, TEXT, false, fn_substring},
    {"title", "Texts", "title(text)", "The first letter of each word in upper case, the others in lower case.", "title(\"hELLO wide-open world\") = \"Hello Wide-Open World\"", 1, 1, ALL(TEXT), TEXT, false, fn_title},
    {"trim", "Texts", "trim(text, characters?)", "Without white space, or any of the characters, at both ends.", "trim(\"  a \") = \"a\"", 1, 2, ALL(TEXT), TEXT, false, fn_trim},
    {"trim_end", "Texts", "trim_end(text, characters?)", "Without white space, or any of the characters, at the end.", "trim_end(\"a/b//\", \"/\") = \"a/b\"", 1, 2, ALL(TEXT), TEXT, false, fn_trim_end},
    {"trim_prefix", "Texts", "trim_prefix(text, start)", "Without the start, if the text begins so.", "trim_prefix(\"v1.2\", \"v\") = \"1.2\"", 2, 2, ALL(TEXT), TEXT, false, fn_trim_prefix},
    {"trim_start", "Texts", "trim_start(text, characters?)", "Without white space, or any of the characters, at the start.", "trim_start(\"007\", \"0\") = \"7\"", 1, 2, ALL(TEXT), TEXT, false, fn_trim_start},
    {"trim_suffix", "Texts", "trim_suffix(text, end)", "Without the end, if the text ends so.", "trim_suffix(\"a.csv\", \".csv\") = \"a\"", 2, 2, ALL(TEXT), TEXT, false, fn_trim_suffix},
    {"truncate", "Texts", "truncate(text, length, end?)", "At most so many characters; of a text that is longer the last ones are the end.", "truncate(\"abcdef\", 4, \"..\") = \"ab..\"", 2, 3, {TEXT, INT, TEXT}, TEXT, false, fn_truncate},
    {"upper", "Texts", "upper(text)", "Letters in upper case, as lower does it.", "upper(\"äbC\") = \"ÄBC\"", 1, 1, ALL(TEXT), TEXT, false, fn_upper},
    {NULL},
};
