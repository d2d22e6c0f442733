/* Checking values against a JSON Schema. */
#include "schema.h"

#include <stdarg.h>

#include "data/json.h"
#include "schema_private.h"

typedef struct check {
    const row_t *row;
    violations_t *violations;
    bool wrong;               /* something was found */
    bool quiet;               /* it is only asked whether */
} check_t;

static void check_value(check_t *check, const schema_t *schema, value_t value, text_t name);

/* A rule is broken. */
static void found(check_t *check, text_t name, text_t rule, value_t value) {
    check->wrong = true;
    if (!check->quiet)
        violations_add(check->violations, name, rule, value);
}

static text_t made(const check_t *check, const char *format, ...) __attribute__((format(printf, 2, 3)));
static text_t made(const check_t *check, const char *format, ...) {
    char text[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    text_make_valid(text);
    return text_make(arena_copy(&check->row->context->arena, text, strlen(text)), strlen(text));
}

/* What an entry is called: a.b, or an item: a[3]. Not made when nobody will read it. */
static text_t below(const check_t *check, text_t name, text_t key, uint32_t index) {
    if (check->quiet || check->violations->count == VIOLATIONS_MAX)
        return name;
    buf_t text = {0};
    buf_put(&text, name.data, name.size);
    if (!key.data) {
        buf_format(&text, "[%u]", index);
    } else {
        if (name.size)
            buf_put_byte(&text, '.');
        buf_put(&text, key.data, key.size);
    }
    text_t copy = text_make(arena_copy(&check->row->context->arena, text.data, text.size), text.size);
    buf_fini(&text);
    return copy;
}

static bool has_type(const schema_t *schema, value_t value) {
    if (schema->types & TYPE(value.type))
        return true;
    if (!(schema->types & TYPE_WHOLE))
        return false;
    return (TYPES_INTEGER & TYPE(value.type)) || (value.type == VALUE_DOUBLE && value.number - value.number == 0 && __builtin_trunc(value.number) == value.number);
}

static void check_count(check_t *check, const schema_t *schema, unsigned least, int64_t count, value_t value, text_t name) {
    for (unsigned which = least; which < least + 2; which++) {
        int64_t bound = schema->counts[which];
        if (bound >= 0 && (which == least ? count < bound : count > bound))
            found(check, name, made(check, "%s %lld", schema_counts[which], (long long) bound), value);
    }
}

static void check_text(check_t *check, const schema_t *schema, value_t value, text_t name) {
    text_t text = text_make(value.text, value.size);
    int64_t count = 0;
    for (uint32_t i = 0; i < value.size; i++)
        count += ((unsigned char) value.text[i] & 0xC0) != 0x80;
    check_count(check, schema, MIN_LENGTH, count, value, name);
    if (schema->pattern && pattern_match(schema->pattern, text) != 1)
        found(check, name, schema->pattern_text, value);
    if (schema->format && !schema->format(text))
        found(check, name, schema->format_name, value);
}

static text_t bound_text(check_t *check, const char *keyword, value_t bound) {
    buf_t number = {0};
    json_put_value(&number, bound);
    text_t text = made(check, "%s %s", keyword, buf_text(&number));
    buf_fini(&number);
    return text;
}

static void check_number(check_t *check, const schema_t *schema, value_t value, text_t name) {
    if (schema->minimum.type != VALUE_NULL) {
        int order = value_order(value, schema->minimum);
        if (order != 1 && (order != 0 || schema->above))
            found(check, name, bound_text(check, schema->above ? "exclusiveMinimum" : "minimum", schema->minimum), value);
    }
    if (schema->maximum.type != VALUE_NULL) {
        int order = value_order(value, schema->maximum);
        if (order != -1 && (order != 0 || schema->below))
            found(check, name, bound_text(check, schema->below ? "exclusiveMaximum" : "maximum", schema->maximum), value);
    }
}

static void check_array(check_t *check, const schema_t *schema, value_t value, text_t name) {
    pack_cursor_t cursor = pack_cursor(value.packed, value.size);
    uint32_t count;
    value_t item;
    if (!pack_read_array(&cursor, &count))
        return;
    check_count(check, schema, MIN_ITEMS, count, value, name);
    for (uint32_t i = 0; schema->items && i < count && pack_read_value(&cursor, &item); i++)
        check_value(check, schema->items, item, below(check, name, (text_t){0}, i));
}

static const property_t *property_of(const schema_t *schema, text_t key) {
    for (unsigned i = 0; i < schema->property_count; i++)
        if (text_equal(schema->properties[i].name, key))
            return &schema->properties[i];
    return NULL;
}

static bool has_key(value_t map, text_t name) {
    value_t value;
    return pack_map_get(map.packed, map.size, name, &value);
}

static void check_map(check_t *check, const schema_t *schema, value_t value, text_t name) {
    pack_cursor_t cursor = pack_cursor(value.packed, value.size);
    uint32_t count;
    if (!pack_read_map(&cursor, &count))
        return;
    check_count(check, schema, MIN_PROPERTIES, count, value, name);
    for (unsigned i = 0; i < schema->property_count; i++) {
        const property_t *property = &schema->properties[i];
        if (property->required && !has_key(value, property->name))
            found(check, below(check, name, property->name, 0), text_of("required"), value_absent());
    }
    bool each = schema->property_count || schema->closed || schema->additional;
    for (uint32_t i = 0; each && i < count; i++) {
        text_t key;
        value_t entry;
        if (!pack_read_string(&cursor, &key) || !pack_read_value(&cursor, &entry))
            return;
        const property_t *property = property_of(schema, key);
        if (property && property->schema)
            check_value(check, property->schema, entry, below(check, name, property->name, 0));
        else if (!property && schema->closed)
            found(check, below(check, name, key, 0), text_of("additionalProperties false"), entry);
        else if (!property && schema->additional)
            check_value(check, schema->additional, entry, below(check, name, key, 0));
    }
}

static void check_combined(check_t *check, const combined_t *combined, value_t value, text_t name) {
    static const char *const rules[] = {"allOf", "anyOf", "oneOf", "not"};
    unsigned good = 0;
    for (unsigned i = 0; i < combined->count; i++) {
        if (combined->kind == ALL_OF) {
            check_value(check, combined->schemas[i], value, name);
            continue;
        }
        check_t inner = {.row = check->row, .violations = check->violations, .quiet = true};
        check_value(&inner, combined->schemas[i], value, name);
        good += !inner.wrong;
    }
    bool wrong = combined->kind == ANY_OF ? good == 0 : combined->kind == ONE_OF ? good != 1 : combined->kind == NOT && good;
    if (wrong)
        found(check, name, text_of(rules[combined->kind]), value);
}

/* JSON Schema says that null is a value: an entry that is null is there. */
static bool is_one_of(const schema_t *schema, value_t value) {
    for (unsigned i = 0; i < schema->value_count; i++)
        if (value_equal(value, schema->values[i]) || (value.type == VALUE_NULL && schema->values[i].type == VALUE_NULL))
            return true;
    return false;
}

static void check_value(check_t *check, const schema_t *schema, value_t value, text_t name) {
    if (check->quiet && check->wrong)
        return;
    if (schema->never)
        found(check, name, text_of("false"), value);
    if (schema->types && !has_type(schema, value)) {
        found(check, name, schema->types_text, value);
        return; /* what else is wrong follows from that */
    }
    if (schema->values && !is_one_of(schema, value))
        found(check, name, schema->constant ? text_of("const") : text_of("enum"), value);
    switch (value.type) {
    case VALUE_STRING: check_text(check, schema, value, name); break;
    case VALUE_INT:
    case VALUE_UINT:
    case VALUE_DOUBLE: check_number(check, schema, value, name); break;
    case VALUE_ARRAY: check_array(check, schema, value, name); break;
    case VALUE_MAP: check_map(check, schema, value, name); break;
    default: break;
    }
    for (unsigned i = 0; i < schema->combined_count; i++)
        check_combined(check, &schema->combined[i], value, name);
}

void schema_check(const schema_t *schema, value_t value, text_t name, const row_t *row, violations_t *violations) {
    check_t check = {.row = row, .violations = violations};
    check_value(&check, schema, value, name);
}
