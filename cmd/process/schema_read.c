/* Reading a JSON Schema. */
#include <jansson.h>

#include "data/json.h"
#include "schema_private.h"

const char *const schema_counts[6] = {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"};

typedef struct reader {
    arena_t *arena;
    char path[256];           /* where we are, as a JSON pointer */
    unsigned depth;
    err_t *err;
} reader_t;

static schema_t *read_schema(reader_t *reader, const json_t *json);

static int refuse(const reader_t *reader, const char *keyword, const char *what) {
    return err_set(reader->err, "%s: %s%s%s", reader->path[0] ? reader->path : "/", keyword ? keyword : "", keyword ? " " : "", what);
}

static text_t copy_text(const reader_t *reader, const char *text) {
    return text_make(arena_copy(reader->arena, text, strlen(text) + 1), strlen(text));
}

/* The schema at a place below this one: under the keyword, and there under a name unless that is NULL. */
static schema_t *read_inner(reader_t *reader, const char *keyword, const char *name, const json_t *json) {
    size_t size = strlen(reader->path);
    snprintf(reader->path + size, sizeof reader->path - size, "/%s%s%s", keyword, name ? "/" : "", name ? name : "");
    text_make_valid(reader->path);
    schema_t *schema = read_schema(reader, json);
    if (schema)
        reader->path[size] = 0;
    return schema;
}

static int read_type(reader_t *reader, schema_t *schema, const json_t *json) {
    static const struct {
        const char *name;
        types_t types;
    } known[] = {{"null", TYPE(VALUE_NULL)}, {"boolean", TYPE(VALUE_BOOL)}, {"integer", TYPE_WHOLE}, {"number", TYPES_NUMBER},
                 {"string", (types_t) (TYPE(VALUE_STRING) | TYPE(VALUE_BINARY) | TYPE(VALUE_TIME))}, {"array", TYPE(VALUE_ARRAY)}, {"object", TYPE(VALUE_MAP)}};
    size_t count = json_is_array(json) ? json_array_size(json) : 1;
    buf_t text = {0};
    buf_put_text(&text, "type");
    int rc = count ? 0 : refuse(reader, "type", "names none");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *name = json_string_value(json_is_array(json) ? json_array_get(json, i) : json);
        types_t types = 0;
        for (size_t j = 0; name && j < sizeof known / sizeof *known; j++)
            types |= strcmp(name, known[j].name) == 0 ? known[j].types : 0;
        if (!types)
            rc = refuse(reader, "type", "is one of null, boolean, integer, number, string, array, object, or several of them");
        schema->types |= types;
        buf_format(&text, "%s %s", i ? " or" : "", name ? name : "");
    }
    schema->types_text = copy_text(reader, buf_text(&text));
    buf_fini(&text);
    return rc;
}

/* A constant of any type, packed in the arena. */
static int read_value(reader_t *reader, const json_t *json, value_t *value) {
    char *text = json_dumps(json, JSON_ENCODE_ANY);
    buf_t packed = {0};
    int rc = text && json_read_value(text_of(text), &packed, NULL) > 0 ? 0 : refuse(reader, NULL, "a value that is too deep or too large");
    if (rc == 0) {
        const uint8_t *copy = arena_copy(reader->arena, packed.data, packed.size);
        *value = record_value(copy, copy + packed.size);
    }
    buf_fini(&packed);
    free(text);
    return rc;
}

static int read_enum(reader_t *reader, schema_t *schema, const json_t *json, bool constant) {
    if (!constant && !json_is_array(json))
        return refuse(reader, "enum", "is an array");
    if (schema->values)
        return refuse(reader, NULL, "enum and const together");
    schema->constant = constant;
    schema->value_count = constant ? 1 : (unsigned) json_array_size(json);
    schema->values = arena_alloc(reader->arena, (schema->value_count + 1) * sizeof *schema->values);
    for (unsigned i = 0; i < schema->value_count; i++)
        if (read_value(reader, constant ? json : json_array_get(json, i), &schema->values[i]))
            return -1;
    return 0;
}

static property_t *property_of(reader_t *reader, schema_t *schema, const char *name, size_t most) {
    for (unsigned i = 0; i < schema->property_count; i++)
        if (text_is(schema->properties[i].name, name))
            return &schema->properties[i];
    if (!schema->properties)
        schema->properties = arena_alloc(reader->arena, most * sizeof *schema->properties);
    property_t *property = &schema->properties[schema->property_count++];
    *property = (property_t){.name = copy_text(reader, name)};
    return property;
}

static int read_properties(reader_t *reader, schema_t *schema, const json_t *json) {
    json_t *properties = json_object_get(json, "properties"), *required = json_object_get(json, "required");
    if (properties && !json_is_object(properties))
        return refuse(reader, "properties", "is an object");
    if (required && !json_is_array(required))
        return refuse(reader, "required", "is an array of names");
    size_t most = json_object_size(properties) + json_array_size(required) + 1, i;
    const char *name;
    json_t *item;
    json_object_foreach(properties, name, item) {
        schema_t *inner = read_inner(reader, "properties", name, item);
        if (!inner)
            return -1;
        property_of(reader, schema, name, most)->schema = inner;
    }
    json_array_foreach(required, i, item) {
        if (!json_is_string(item))
            return refuse(reader, "required", "is an array of names");
        property_of(reader, schema, json_string_value(item), most)->required = true;
    }
    return 0;
}

static int read_bound(reader_t *reader, schema_t *schema, const char *keyword, const json_t *json) {
    if (!json_is_number(json))
        return refuse(reader, keyword, json_is_boolean(json) ? "is a number (true and false are those of draft 4)" : "is a number");
    bool exclusive = strncmp(keyword, "exclusive", 9) == 0, low = strcmp(keyword + (exclusive ? 9 : 0), exclusive ? "Minimum" : "minimum") == 0;
    value_t *bound = low ? &schema->minimum : &schema->maximum, value;
    if (bound->type != VALUE_NULL)
        return refuse(reader, keyword, "beside the other bound on this side");
    if (read_value(reader, json, &value))
        return -1;
    *bound = value;
    *(low ? &schema->above : &schema->below) = exclusive;
    return 0;
}

static int read_count(reader_t *reader, schema_t *schema, unsigned which, const json_t *json) {
    if (!json_is_integer(json) || json_integer_value(json) < 0)
        return refuse(reader, schema_counts[which], "is a whole number from 0 on");
    schema->counts[which] = json_integer_value(json);
    return 0;
}

static int read_pattern(reader_t *reader, schema_t *schema, const json_t *json) {
    if (!json_is_string(json))
        return refuse(reader, "pattern", "is a text");
    size_t at;
    err_t err;
    buf_t rule = {0};
    buf_format(&rule, "pattern %s", json_string_value(json));
    schema->pattern_text = copy_text(reader, buf_text(&rule));
    buf_fini(&rule);
    schema->pattern = pattern_new(text_make(json_string_value(json), json_string_length(json)), &at, &err);
    return schema->pattern ? 0 : refuse(reader, "pattern", err.text);
}

static int read_format(reader_t *reader, schema_t *schema, const json_t *json) {
    const char *name = json_string_value(json);
    char text[200];
    schema->format = name ? schema_format(text_of(name)) : NULL;
    snprintf(text, sizeof text, "%s%sis not known; known are %s", name ? name : "", name ? " " : "", schema_formats);
    if (!schema->format)
        return refuse(reader, "format", text);
    snprintf(text, sizeof text, "format %s", name);
    schema->format_name = copy_text(reader, text);
    return 0;
}

static int read_combined(reader_t *reader, schema_t *schema, const char *keyword, combination_t kind, const json_t *json) {
    size_t count = kind == NOT ? 1 : json_array_size(json);
    if (kind != NOT && (!json_is_array(json) || !count))
        return refuse(reader, keyword, "is an array of schemas");
    combined_t *combined = &schema->combined[schema->combined_count++];
    *combined = (combined_t){.kind = kind, .schemas = arena_alloc(reader->arena, count * sizeof *combined->schemas)};
    for (size_t i = 0; i < count; i++) {
        schema_t *inner = read_inner(reader, keyword, NULL, kind == NOT ? json : json_array_get(json, i));
        if (!inner)
            return -1;
        combined->schemas[combined->count++] = inner;
    }
    return 0;
}

static int read_keyword(reader_t *reader, schema_t *schema, const char *keyword, const json_t *json) {
    static const char *const passed_over[] = {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
                                              "readOnly", "writeOnly", "properties", "required"};
    static const char *const combinations[] = {"allOf", "anyOf", "oneOf", "not"};
    for (size_t i = 0; i < sizeof passed_over / sizeof *passed_over; i++)
        if (strcmp(keyword, passed_over[i]) == 0)
            return 0;
    for (unsigned i = 0; i < 6; i++)
        if (strcmp(keyword, schema_counts[i]) == 0)
            return read_count(reader, schema, i, json);
    for (unsigned i = 0; i < 4; i++)
        if (strcmp(keyword, combinations[i]) == 0)
            return read_combined(reader, schema, keyword, (combination_t) i, json);
    if (strcmp(keyword, "type") == 0)
        return read_type(reader, schema, json);
    if (strcmp(keyword, "enum") == 0 || strcmp(keyword, "const") == 0)
        return read_enum(reader, schema, json, keyword[0] == 'c');
    if (strcmp(keyword, "additionalProperties") == 0 && json_is_false(json))
        return schema->closed = true, 0;
    if (strcmp(keyword, "additionalProperties") == 0)
        return (schema->additional = read_inner(reader, keyword, NULL, json)) ? 0 : -1;
    if (strcmp(keyword, "items") == 0 && json_is_array(json))
        return refuse(reader, "items", "is one schema, for all items");
    if (strcmp(keyword, "items") == 0)
        return (schema->items = read_inner(reader, keyword, NULL, json)) ? 0 : -1;
    if (strcmp(keyword, "minimum") == 0 || strcmp(keyword, "maximum") == 0 || strcmp(keyword, "exclusiveMinimum") == 0 || strcmp(keyword, "exclusiveMaximum") == 0)
        return read_bound(reader, schema, keyword, json);
    if (strcmp(keyword, "pattern") == 0)
        return read_pattern(reader, schema, json);
    if (strcmp(keyword, "format") == 0)
        return read_format(reader, schema, json);
    char quoted[80];
    snprintf(quoted, sizeof quoted, "the keyword %.60s", keyword);
    text_make_valid(quoted);
    return refuse(reader, quoted, "is not supported");
}

static void release(void *pattern) {
    pattern_free(pattern);
}

/* Patterns are not in the arena. */
static void free_patterns(schema_t *schema) {
    if (!schema)
        return;
    release(schema->pattern);
    for (unsigned i = 0; i < schema->property_count; i++)
        free_patterns(schema->properties[i].schema);
    free_patterns(schema->additional);
    free_patterns(schema->items);
    for (unsigned i = 0; i < schema->combined_count; i++)
        for (unsigned j = 0; j < schema->combined[i].count; j++)
            free_patterns(schema->combined[i].schemas[j]);
}

static schema_t *read_schema(reader_t *reader, const json_t *json) {
    schema_t *schema = arena_alloc(reader->arena, sizeof *schema);
    *schema = (schema_t){.arena = reader->arena, .counts = {-1, -1, -1, -1, -1, -1}, .never = json_is_false(json)};
    if (json_is_boolean(json))
        return schema;
    int rc = json_is_object(json) ? 0 : refuse(reader, NULL, "a schema is an object, true or false");
    if (rc == 0 && ++reader->depth > SCHEMA_DEPTH)
        rc = refuse(reader, NULL, "nested too deep");
    schema->combined = arena_alloc(reader->arena, 4 * sizeof *schema->combined);
    const char *keyword;
    json_t *value;
    if (rc == 0)
        rc = read_properties(reader, schema, json);
    json_object_foreach((json_t *) json, keyword, value)
        if (rc == 0)
            rc = read_keyword(reader, schema, keyword, value);
    reader->depth--;
    if (rc == 0)
        return schema;
    free_patterns(schema);
    return NULL;
}

schema_t *schema_new(text_t json, err_t *err) {
    json_error_t error;
    json_t *root = json_loadb(json.data ? json.data : "", json.size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!root) { /* the text itself is not shown: it may be no schema at all */
        err_set(err, "no JSON, from line %d, column %d on", error.line, error.column);
        return NULL;
    }
    arena_t *arena = mem_zero(sizeof *arena);
    reader_t reader = {.arena = arena, .err = err};
    schema_t *schema = read_schema(&reader, root);
    json_decref(root);
    if (!schema) {
        arena_fini(arena);
        mem_free(arena);
        return NULL;
    }
    schema->outermost = true;
    return schema;
}

void schema_free(void *memory) {
    schema_t *schema = memory;
    if (!schema)
        return;
    arena_t *arena = schema->arena;
    free_patterns(schema);
    arena_fini(arena);
    mem_free(arena);
}
