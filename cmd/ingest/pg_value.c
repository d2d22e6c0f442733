/* Values of PostgreSQL in text form become ours. Nothing is lost: what has no exact counterpart stays text. */
#include "pg_value.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"

#define DOMAIN_DEPTH 16
#define ARRAY_DEPTH 6                  /* PostgreSQL's own limit */
#define EXACT_DIGITS 15                /* any decimal number of so many digits goes through a double unharmed */

const char pg_types_query[] =
    "SELECT oid, typbasetype, CASE WHEN typlen = -1 THEN typelem ELSE 0 END FROM pg_catalog.pg_type WHERE typtype = 'd' OR "
    "(oid >= 16384 AND typcategory = 'A' AND typdelim = ',' AND typelem NOT IN (SELECT reltype FROM pg_catalog.pg_class)) ORDER BY oid LIMIT 100000";

typedef enum kind { KIND_TEXT, KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_NUMERIC, KIND_BYTES, KIND_JSON, KIND_TIME, KIND_ARRAY } kind_t;

/* pg_type.dat of PostgreSQL: the numbers of its own types never change. */
static kind_t kind_of(Oid type, Oid *element) {
    *element = 0;
    switch (type) {
    case 16: return KIND_BOOL;
    case 20: case 21: case 23: case 26: case 28: case 29: case 5069: return KIND_INT; /* int8 int2 int4 oid xid cid xid8 */
    case 700: case 701: return KIND_FLOAT;
    case 1700: return KIND_NUMERIC;
    case 17: return KIND_BYTES;
    case 114: case 3802: return KIND_JSON;
    case 1114: case 1184: return KIND_TIME; /* timestamp, timestamptz */
    case 1000: *element = 16; break;
    case 1016: *element = 20; break;
    case 1005: *element = 21; break;
    case 1007: *element = 23; break;
    case 1028: *element = 26; break;
    case 271: *element = 5069; break;
    case 1021: *element = 700; break;
    case 1022: *element = 701; break;
    case 1231: *element = 1700; break;
    case 1001: *element = 17; break;
    case 199: *element = 114; break;
    case 3807: *element = 3802; break;
    case 1115: *element = 1114; break;
    case 1185: *element = 1184; break;
    /* name text bpchar varchar date time timetz interval uuid inet cidr macaddr bit varbit money xml "char" macaddr8 */
    case 1003: case 1009: case 1014: case 1015: case 1182: case 1183: case 1270: case 1187: case 2951: case 1041: case 651: case 1040: case 1561:
    case 1563: case 791: case 143: case 1002: case 775:
        *element = 25;
        break;
    default: return KIND_TEXT;
    }
    return KIND_ARRAY;
}

static const pg_type_t *find(const pg_types_t *types, Oid oid) {
    size_t low = 0, high = types->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (types->types[middle].oid < oid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < types->count && types->types[low].oid == oid ? &types->types[low] : NULL;
}

static kind_t resolve(const pg_types_t *types, Oid type, Oid *element) {
    for (int depth = 0; depth < DOMAIN_DEPTH; depth++) {
        const pg_type_t *own = find(types, type);
        if (!own)
            break;
        if (!own->base) {
            *element = own->element;
            return own->element ? KIND_ARRAY : KIND_TEXT;
        }
        type = own->base;
    }
    return kind_of(type, element);
}

static Oid oid_at(const PGresult *rows, int row, int column) {
    return (Oid) strtoul(PQgetvalue(rows, row, column), NULL, 10);
}

void pg_types_load(pg_types_t *types, const PGresult *rows) {
    int count = PQntuples(rows);
    mem_free(types->types);
    types->types = mem_alloc((size_t) count * sizeof *types->types + 1);
    types->count = (size_t) count;
    for (int i = 0; i < count; i++)
        types->types[i] = (pg_type_t){oid_at(rows, i, 0), oid_at(rows, i, 1), oid_at(rows, i, 2)};
}

void pg_types_fini(pg_types_t *types) {
    mem_free(types->types);
    types->types = NULL;
    types->count = 0;
}

void pg_put_text(buf_t *out, text_t text) {
    if (text_utf8_valid(text.data, text.size) == text.size)
        pack_string(out, text.data, text.size);
    else
        pack_binary(out, text.data, text.size);
}

static bool put_integer(buf_t *out, text_t text) {
    int64_t number;
    uint64_t big;
    if (text_to_int(text, &number, NULL) == 0)
        pack_int(out, number);
    else if (text_to_uint(text, &big, NULL) == 0)
        pack_uint(out, big);
    else
        return false;
    return true;
}

/* Digits from the first that is not 0 to the last that is not 0; -1: this is no plain decimal number. */
static int significant(text_t text) {
    int digits = 0, zeros = 0;
    size_t i = text.size && text.data[0] == '-';
    if (i == text.size)
        return -1;
    for (; i < text.size; i++) {
        char c = text.data[i];
        if (c == '.')
            continue;
        if (c < '0' || c > '9')
            return -1;
        if (c == '0') {
            zeros += digits > 0;
        } else {
            digits += zeros + 1;
            zeros = 0;
        }
    }
    return digits;
}

void pg_put_numeric(buf_t *out, text_t text, numeric_form_t form) {
    double number;
    int digits = form == NUMERIC_TEXT ? -1 : significant(text);
    if (digits < 0)
        pg_put_text(out, text);
    else if (!memchr(text.data, '.', text.size) && put_integer(out, text))
        return;
    else if ((form == NUMERIC_NUMBER || digits <= EXACT_DIGITS) && json_parse_double(text.data, text.size, &number) && (number != 0 || !digits))
        pack_double(out, number);
    else
        pg_put_text(out, text);
}

static bool put_float(buf_t *out, text_t text) {
    double number;
    if (text_is(text, "NaN"))
        number = NAN;
    else if (text_is(text, "Infinity"))
        number = INFINITY;
    else if (text_is(text, "-Infinity"))
        number = -INFINITY;
    else if (!json_parse_double(text.data, text.size, &number))
        return false;
    pack_double(out, number);
    return true;
}

static int nibble(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool put_bytes(buf_t *out, text_t text) {
    if (text.size < 2 || text.size % 2 || text.data[0] != '\\' || text.data[1] != 'x')
        return false;
    size_t before = out->size, size = text.size / 2 - 1;
    pack_binary(out, text.data, size); /* room and header; then the bytes themselves */
    uint8_t *to = out->data + out->size - size;
    for (size_t i = 0; i < size; i++) {
        int high = nibble(text.data[2 * i + 2]), low = nibble(text.data[2 * i + 3]);
        if (high < 0 || low < 0) {
            out->size = before;
            return false;
        }
        to[i] = (uint8_t) (high << 4 | low);
    }
    return true;
}

static bool put_json(buf_t *out, text_t text) {
    size_t before = out->size;
    ssize_t used = json_read_value(text, out, NULL);
    if (used >= 0 && text_trim(text_make(text.data + used, text.size - (size_t) used)).size == 0)
        return true;
    out->size = before;
    return false;
}

/* "2026-01-02 03:04:05.25", with "+00" behind it where the type has a zone. Infinity, years BC and beyond what ns can tell stay text. */
static bool put_time(buf_t *out, text_t text) {
    int64_t ns;
    if (text.size > 3 && memcmp(text.data + text.size - 3, "+00", 3) == 0)
        text.size -= 3;
    if (!clock_parse(text, &ns))
        return false;
    pack_time(out, ns);
    return true;
}

/* An array's text: {1,2}, {{a,"b c"},{NULL,d}}. What is behind the element that begins at `at`, or SIZE_MAX. */
static size_t item_end(text_t text, size_t at) {
    unsigned depth = 0;
    bool quoted = false;
    for (; at < text.size; at++) {
        char c = text.data[at];
        if (c == '\\')
            at++;
        else if (c == '"')
            quoted = !quoted;
        else if (quoted)
            continue;
        else if (c == '{')
            depth++;
        else if (c == '}' && depth-- == 0)
            return at;
        else if (c == ',' && depth == 0)
            return at;
    }
    return SIZE_MAX;
}

/* The elements between the braces that `text` begins and ends with; SIZE_MAX: malformed. */
static size_t count_items(text_t text) {
    if (text.size < 2 || text.data[0] != '{' || text.data[text.size - 1] != '}')
        return SIZE_MAX;
    if (text.size == 2)
        return 0;
    size_t count = 0;
    for (size_t at = 1;; at++) {
        at = item_end(text, at);
        if (at == SIZE_MAX)
            return SIZE_MAX;
        count++;
        if (at == text.size - 1)
            return count;
        if (text.data[at] == '}')
            return SIZE_MAX;
    }
}

static void put_quoted(const pg_types_t *types, buf_t *out, Oid element, text_t item) {
    buf_t plain = {0};
    for (size_t i = 1; i + 1 < item.size; i++) {
        if (item.data[i] == '\\' && i + 2 < item.size)
            i++;
        buf_put_byte(&plain, (uint8_t) item.data[i]);
    }
    pg_put_value(types, out, element, text_make((const char *) plain.data, plain.size));
    buf_fini(&plain);
}

static bool put_array(const pg_types_t *types, buf_t *out, Oid element, text_t text, int depth) {
    size_t count = count_items(text);
    if (count == SIZE_MAX || count > UINT32_MAX || depth > ARRAY_DEPTH)
        return false;
    pack_array(out, (uint32_t) count);
    for (size_t i = 0, at = 1; i < count; i++) {
        size_t end = item_end(text, at);
        text_t item = text_make(text.data + at, end - at);
        at = end + 1;
        if (item.size && item.data[0] == '{') {
            if (!put_array(types, out, element, item, depth + 1))
                return false;
        } else if (item.size > 1 && item.data[0] == '"') {
            put_quoted(types, out, element, item);
        } else if (item.size == 4 && strncasecmp(item.data, "NULL", 4) == 0) {
            pack_nil(out);
        } else {
            pg_put_value(types, out, element, item);
        }
    }
    return true;
}

static bool put_whole_array(const pg_types_t *types, buf_t *out, Oid element, text_t text) {
    size_t before = out->size;
    const char *equals = text.size && text.data[0] == '[' ? memchr(text.data, '=', text.size) : NULL; /* "[0:2]={...}" */
    if (equals)
        text = text_make(equals + 1, text.size - (size_t) (equals + 1 - text.data));
    if (put_array(types, out, element, text, 1))
        return true;
    out->size = before;
    return false;
}

void pg_put_value(const pg_types_t *types, buf_t *out, Oid type, text_t text) {
    Oid element;
    bool done = false;
    switch (resolve(types, type, &element)) {
    case KIND_BOOL:
        pack_bool(out, text.size && text.data[0] == 't');
        return;
    case KIND_NUMERIC:
        pg_put_numeric(out, text, types->numeric);
        return;
    case KIND_INT: done = put_integer(out, text); break;
    case KIND_FLOAT: done = put_float(out, text); break;
    case KIND_BYTES: done = put_bytes(out, text); break;
    case KIND_JSON: done = put_json(out, text); break;
    case KIND_TIME: done = put_time(out, text); break;
    case KIND_ARRAY: done = put_whole_array(types, out, element, text); break;
    case KIND_TEXT: break;
    }
    if (!done)
        pg_put_text(out, text);
}
